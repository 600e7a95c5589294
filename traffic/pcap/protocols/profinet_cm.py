"""PROFINET's context manager: connections of controllers to IO devices, records, what refuses them, and
modules that are not as the controller expects.

IEC 61158-6-10, 5.2, over DCE/RPC 1.1 without connection (C706, 12.5). An answer comes from another
port than the one that was asked, so that activity and sequence alone pair it:

    RPC 80: version 4, type, flags, order of bytes at 4, object 8, activity 40, sequence 64, operation 68
    request    arguments 20 | blocks          answer    status 4, arguments 16 | blocks: type 2, length 2, ...

A controller writes records whenever it connects; that is no command of anybody, so it counts as no write.
"""

import numpy as np
import pandas as pd

from traffic.pcap.headers import UDP
from traffic.pcap.messages import Messages
from traffic.pcap.protocols.protocol import (
    ANSWER,
    ASK,
    OTHER,
    READ,
    SESSION,
    SKIP,
    Protocol,
    make_rows,
    select_kinds,
    starts_with,
)

# The object of PROFINET's context manager (4.10.3), in either order of bytes.
_OBJECT = (b"\xde\xa0\0\0\x6c\x97\x11\xd1", b"\0\0\xa0\xde\x97\x6c\xd1\x11")
_REQUEST, _RESPONSE, _FAULT, _REJECT = 0, 2, 3, 6
CONNECT, RELEASE, READS, WRITES, CONTROLS, READ_IMPLICIT = range(6)
FUNCTIONS = {
    CONNECT: "connect", RELEASE: "release", READS: "read record", WRITES: "write record", CONTROLS: "control",
    READ_IMPLICIT: "read record without a connection",
}  # fmt: skip
_KINDS = {READ: (READS, READ_IMPLICIT), SESSION: (CONNECT, RELEASE, CONTROLS), OTHER: (WRITES,)}
# Added to ErrorCode1 of a connection, whose numbers are those of blocks; of a fault of RPC itself.
_OF_CONNECTION, _OF_RPC = 0x100, 0x200
# Differences of modules, the gravest first; remarks, as the connection is made all the same.
WRONG, MISSING, FAULT, SUBSTITUTE, DEMANDED, REQUIRED = range(0x301, 0x307)
DIFFERENCES = {
    WRONG: "wrong module", MISSING: "module missing", FAULT: "module reports a fault",
    SUBSTITUTE: "another module in its place",
       DEMANDED: "maintenance demanded", REQUIRED: "maintenance required",
}  # fmt: skip
REFUSALS = {
    0xA0: "read error", 0xA1: "write error", 0xA2: "module failure", 0xA7: "busy", 0xA8: "version conflict",
    0xA9: "feature not supported", 0xB0: "invalid index", 0xB1: "wrong length", 0xB2: "invalid slot or subslot",
    0xB3: "type conflict", 0xB4: "invalid area", 0xB5: "state conflict", 0xB6: "access denied", 0xB7: "invalid range",
    0xB8: "invalid parameter", 0xB9: "invalid type", 0xC0: "constraint on reading", 0xC1: "constraint on writing",
    0xC2: "resource busy", 0xC3: "resource unavailable",
    _OF_CONNECTION + 1: "connection refused: relation", _OF_CONNECTION + 2: "connection refused: cyclic data",
    _OF_CONNECTION + 3: "connection refused: expected modules", _OF_CONNECTION + 4: "connection refused: alarms",
    _OF_CONNECTION + 20: "control refused", _OF_CONNECTION + 22: "control refused",
    _OF_CONNECTION + 40: "release refused",
    _OF_CONNECTION + 60: "alarm error", _OF_CONNECTION + 61: "connection refused: device (full, or in another state)",
    _OF_CONNECTION + 63: "connection refused: no further relation possible",
    _OF_RPC: "refused by RPC", **DIFFERENCES,
}  # fmt: skip
_RECORD_ERROR = 0x80  # ErrorDecode of records
_BLOCKS = 100
_LONGEST = 1400
_DIFF = 0x8104
_MOST_TOLD = 240  # bytes of a block of differences that are kept as its name


def _numbers(messages: Messages, at: int, width: int, little: np.ndarray) -> np.ndarray:
    small, large = (messages.number(at, width, order) for order in "<>")
    return np.where(little, small, large)


def _read(messages: Messages) -> pd.DataFrame:
    """A row per request; the name is what differs from the modules that are expected, ``code`` the gravest
    of it."""
    little = messages.u8(4) >> 4 == 1
    kind, operation = messages.u8(1), _numbers(messages, 68, 2, little)
    whole = (messages.held >= 84) & (_numbers(messages, 76, 2, little) == 0)
    asks, answers = kind == _REQUEST, np.isin(kind, (_RESPONSE, _FAULT, _REJECT))
    status = _numbers(messages, 80, 4, little)
    # Either side writes the first numbers of an activity in its own order of bytes.
    activity = (_numbers(messages, 40, 4, little) << 8 ^ messages.number(49, 7)) & (1 << 40) - 1
    sequence = _numbers(messages, 64, 4, little) & 0xFFFF
    decode, first = status >> 16 & 0xFF, status >> 8 & 0xFF
    error = np.where(decode == _RECORD_ERROR, first, _OF_CONNECTION + first)
    code = np.select([kind != _RESPONSE, status != 0], [_OF_RPC, error], 0)
    name_at, name_bytes = np.full(len(messages), -1), np.zeros(len(messages), np.int64)
    tells = whole & np.isin(operation, (CONNECT, CONTROLS)) & (asks | (answers & (code == 0)))
    rows = np.flatnonzero(tells)
    for row, text in zip(rows, _texts(messages.take(rows)), strict=True):
        at = _find_differences(text)
        differences = read_differences(text[at:]) if at >= 0 else []
        if differences:
            name_at[row], name_bytes[row] = _BLOCKS + at, min(len(text) - at, _MOST_TOLD)
            code[row] = min(one for _, _, one in differences)
    return make_rows(
        messages,
        np.select([whole & asks, whole & answers], [ASK, ANSWER], SKIP),
        key=activity << 16 | sequence,
        kind=select_kinds(operation, _KINDS),
        function=operation,
        code=np.where(asks, -1, code),
        name_at=name_at,
        name_bytes=name_bytes,
    )


def _texts(messages: Messages) -> list[bytes]:
    texts = messages.bytes(_BLOCKS, _LONGEST)
    size = np.clip(messages.held - _BLOCKS, 0, _LONGEST)
    return [text[:n].tobytes() for text, n in zip(texts, size, strict=True)]


def _find_differences(blocks: bytes) -> int:
    """Where the block of differences begins; -1 for none."""
    at = 0
    while at + 4 <= len(blocks):
        if int.from_bytes(blocks[at : at + 2]) == _DIFF:
            return at
        at += 4 + int.from_bytes(blocks[at + 2 : at + 4])
    return -1


def read_differences(block: bytes) -> list[tuple[int, int, int]]:
    """Slot, subslot (-1 for the module itself) and what is the matter, of a ModuleDiffBlock (5.2.37).

    >>> read_differences(bytes.fromhex("8104002e0100000100000000000100010000000100020001000100000001 8040"))
    [(1, 1, 771)]
    """
    found, at = list[tuple[int, int, int]](), 8

    def number(width: int) -> int:
        nonlocal at
        at += width
        return int.from_bytes(block[at - width : at]) if at <= len(block) else 0

    for _ in range(int.from_bytes(block[6:8])):
        number(4)
        for _ in range(number(2)):
            slot, _, state, submodules = number(2), number(4), number(2), number(2)
            whole = at <= len(block)
            if whole and state in _STATES:
                found.append((slot, -1, _STATES[state]))
            for _ in range(submodules):
                subslot, _, details = number(2), number(4), number(2)
                if at > len(block):
                    return found
                found += [(slot, subslot, one) for one in _read_state(details)]
            if not whole:
                return found
    return found


_STATES = {0: MISSING, 1: WRONG, 3: SUBSTITUTE}
_IDENTS = {1: SUBSTITUTE, 2: WRONG, 3: MISSING}


def _read_state(details: int) -> list[int]:
    """What a submodule's state tells (5.2.37.4)."""
    if not details & 0x8000:
        return [_STATES[details]] if details in _STATES else []
    bits = ((0x40, FAULT), (0x20, DEMANDED), (0x10, REQUIRED))
    ident = details >> 11 & 15
    return [
        *([_IDENTS[ident]] if ident in _IDENTS else []),
        *(one for bit, one in bits if details & bit),
    ]


def _read_name(block: bytes) -> str:
    """What differs, slot by slot, the gravest first.

    >>> _read_name(bytes.fromhex("8104002e0100000100000000000100010000000100020001000100000001 8040"))
    'slot 1, subslot 1: module reports a fault'
    """
    block = block.ljust(_MOST_TOLD, b"\0")
    size = 4 + int.from_bytes(block[2:4])
    told = sorted(read_differences(block[:size]), key=lambda one: one[2])
    places = (
        (f"slot {slot}" + (f", subslot {subslot}" if subslot >= 0 else ""), DIFFERENCES[one])
        for slot, subslot, one in told
    )
    return "; ".join(f"{place}: {words}" for place, words in places)


PROFINET_CM = Protocol(
    name="profinet_cm",
    title="PROFINET",
    layer="pn_io",
    transports=(UDP,),
    ports=(34964,),
    fits=starts_with(*_OBJECT, at=8),
    anywhere=True,
    read=_read,
    functions=FUNCTIONS,
    kinds=_KINDS,
    refusals=REFUSALS,
    remarks=frozenset(DIFFERENCES),
    troubles=frozenset(DIFFERENCES),
    busy=frozenset({0xA7, 0xC2}),
    denied=frozenset({0xB6}),
    failed=frozenset({0xA2}),
    read_name=_read_name,
    wait_s=5.0,
    repeats=True,
    elsewhere=True,
)
