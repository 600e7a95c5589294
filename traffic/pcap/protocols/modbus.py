"""Modbus/TCP: requests by unit, function and address, and exceptions by code.

Modbus Application Protocol 1.1b3 and Messaging on TCP/IP 1.0b (modbus.org).
"""

import re

import numpy as np
import pandas as pd

from traffic.arrays import count_up, number_groups
from traffic.pcap.headers import TCP
from traffic.pcap.messages import Messages
from traffic.pcap.protocols.protocol import (
    ANSWER,
    ASK,
    CONTROL,
    IDENTIFY,
    READ,
    SKIP,
    WRITE,
    Events,
    Heads,
    Identity,
    Protocol,
    make_events,
    make_rows,
    select_asked,
    select_distinct,
    select_kinds,
)
from traffic.pcap.protocols.readback import Places, find_next_reads, pack_reads
from traffic.pcap.protocols.written import (
    COIL,
    COILS,
    MASK,
    MODBUS_VALUED,
    READ_COILS,
    READ_REGISTERS,
    READ_WRITE,
    REGISTER,
    REGISTERS,
    read_modbus,
)

# Application Protocol, sections 6 and 7.
FUNCTIONS = {
    1: "read coils",
    2: "read discrete inputs",
    3: "read holding registers",
    4: "read input registers",
    5: "write single coil",
    6: "write single register",
    7: "read exception status",
    8: "diagnostics",
    11: "get event counter",
    12: "get event log",
    15: "write multiple coils",
    16: "write multiple registers",
    17: "report server id",
    20: "read file record",
    21: "write file record",
    22: "mask write register",
    23: "read and write registers",
    24: "read FIFO queue",
    43: "read device identification",
    90: "program (vendor's own)",
}
EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "server device failure",
    5: "acknowledge",
    6: "server device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target device failed to respond",
}
# Objects of a device identification (6.21).
_OBJECTS = {
    0: "make", 1: "order number", 2: "firmware", 4: "model", 5: "model", 6: "name",
}  # fmt: skip
READS = (1, 2, 3, 4, 7, 11, 12, 17, 20, 24)
WRITES = (5, 6, 15, 16, 21, 22, 23)
_KINDS = {READ: READS, WRITE: WRITES, IDENTIFY: (43,), CONTROL: (90,)}
ADDRESSED = (1, 2, 3, 4, 5, 6, 15, 16, 22, 23, 24)  # requests that name a start address
_LONGEST = 254  # unit, function and data (MBAP header, Messaging on TCP/IP 1.0b, 3.1.3)
_PLAIN_READS = (1, 2, 3, 4)  # 5 bytes ask; what answers begins with how many bytes follow


def _message_bytes(head: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Protocol 0; at least unit and function, at most 254 bytes; a function."""
    protocol, length = head[:, 2] << 8 | head[:, 3], head[:, 4] << 8 | head[:, 5]
    good = ((protocol == 0) | (known < 4)) & ((head[:, 7] > 0) | (known < 8))
    good &= ((length >= 2) & (length <= _LONGEST)) | (known < 6)
    # What a capture's end cuts may well have been a message.
    return np.where(good, np.where(known < 6, np.maximum(known, 1), 6 + length), 0)


def _fits(heads: Heads) -> np.ndarray:
    """The first payload is one message to its last byte, and so is what answers it."""
    good = np.ones(len(heads.orig), bool)
    for head, payload in ((heads.orig, heads.orig_payload), (heads.resp, heads.resp_payload)):
        length = _message_bytes(head.astype(np.int64), np.minimum(payload, head.shape[1]))
        good &= ((length == payload) & (payload >= 8)) | (payload == 0)
    both = (heads.orig_payload > 0) & (heads.resp_payload > 0)
    # The unit and the function come back, and nearly always the transaction's number.
    same = (heads.orig[:, 6] == heads.resp[:, 6]) & (
        (heads.orig[:, 7] ^ heads.resp[:, 7]) & 127 == 0
    )
    return good & (~both | same) & (heads.payload > 0)


def _is_from_server(messages: Messages) -> np.ndarray:
    """Whether the flow's responder sent it, or where that was guessed wrongly, its originator.

    A stream on an unusual port whose beginning is missing does not say who opened it. Exceptions
    and the length of plain reads do.
    """
    function, size = messages.u8(7), messages.length - 8
    plain, counted = np.isin(function, _PLAIN_READS), messages.u8(8)
    answers = (function >= 128) | (plain & (size == counted + 1) & (size != 4))
    asks = plain & (size == 4) & (counted + 1 != size)
    vote = np.where(messages.is_orig, 1, -1) * (answers.astype(int) - asks)
    flow, side = messages.flow, messages.is_orig
    return side == (np.bincount(flow, vote) > 0)[flow] if len(flow) else side


def _read(messages: Messages) -> pd.DataFrame:
    """A row per message; the key is the transaction's number."""
    function, server = messages.u8(7), _is_from_server(messages)
    asked = function & 127
    refused = server & (function >= 128)
    # To where and how many is known, of what is written as much as was captured.
    valued = ~server & np.isin(function, MODBUS_VALUED)
    valued &= messages.held >= np.where(function == READ_WRITE, 16, 12)
    return make_rows(
        messages,
        np.where(messages.held < 8, SKIP, np.where(server, ANSWER, ASK)),
        key=messages.u16(0),
        kind=select_kinds(asked, _KINDS),
        function=np.where(refused, asked, function),
        unit=messages.u8(6),
        target=np.where(np.isin(function, ADDRESSED) & ~server, messages.u16(8), -1),
        code=np.where(refused, messages.u8(8), 0),
        value=np.where(np.isin(function, _PLAIN_READS) & ~server, messages.u16(10), -1),
        data_at=np.where(valued, 7, -1),
    )


def _read_back(messages: Messages, found: pd.DataFrame) -> dict[int, bytes]:
    """What reads found at places that are written: of each place and command the last read before
    it and the first one after it, and the last of all."""
    column = {
        name: found[name].to_numpy() for name in ("function", "target", "value", "ts", "answer_ts")
    }
    function, target = column["function"], column["target"]
    writes = np.flatnonzero(
        (target >= 0) & np.isin(function, (COIL, REGISTER, COILS, REGISTERS, MASK))
    )
    answered = (found["outcome"] == "answered").to_numpy()
    reads = np.flatnonzero(
        answered & np.isin(function, (READ_COILS, READ_REGISTERS)) & (target >= 0)
    )
    if not len(writes) or not len(reads):
        return {}
    coils = np.isin(function, (COIL, COILS, READ_COILS))
    ends = (found[name].to_numpy(np.int64) for name in ("dst", "port", "unit"))
    space = number_groups(*ends, coils)[0].astype(np.int64) << 16
    size = messages.take(found["message"].to_numpy()[writes]).u16(10)
    size = np.where(np.isin(function[writes], (COILS, REGISTERS)), np.clip(size, 1, 1968), 1)
    event = np.repeat(writes, size)
    place = (space + target)[event] + count_up(size)
    order = np.argsort(place, kind="stable")
    places = Places(place[order], column["ts"][event][order])
    start = (space + target)[reads]
    pick = find_next_reads(
        places, start, column["value"][reads], column["ts"][reads], column["answer_ts"][reads]
    )
    row = reads[pick.read]
    some, offset = (
        messages.take(found["answer_message"].to_numpy()[row]),
        pick.place - start[pick.read],
    )
    words, bits = some.u16(9 + 2 * offset), some.u8(9 + offset // 8)
    value = np.where(coils[row], np.where(bits < 0, -1, bits >> (offset & 7) & 1), words)
    return pack_reads(row, function[row], pick.place & 0xFFFF, value)


def _identify(messages: Messages) -> list[Identity]:
    """Objects of a device identification (6.21), and text in a server id (6.13); unit 0 and 255 are
    the device at the address itself."""
    function, mei = messages.u8(7), messages.u8(8)
    found = []
    for message, body in select_distinct(messages, (function == 43) & (mei == 14), 6, 254):
        unit = -1 if body[0] in (0, 255) else body[0]
        at, count = 8, body[7] if len(body) > 8 else 0
        for _ in range(count):
            if at + 2 > len(body) or at + 2 + body[at + 1] > len(body):
                break
            named = _OBJECTS.get(body[at])
            text = body[at + 2 : at + 2 + body[at + 1]]
            if named:
                found.append(Identity(message, named, text, "Modbus 43/14", unit=unit))
            at += 2 + body[at + 1]
    served = (function == 17) & (messages.length == 9 + np.maximum(mei, 0)) & (mei > 0)
    for message, body in select_distinct(messages, served, 6, 254):
        unit = -1 if body[0] in (0, 255) else body[0]
        texts = re.findall(rb"[ -~]{4,}", body[3:])
        found += [Identity(message, "model", text, "Modbus 17", unit=unit) for text in texts[:1]]
    return found


def _make_events(exchanges: pd.DataFrame) -> Events:
    """Requests by function code with the start addresses they name, exceptions by their code."""
    asked = select_asked(exchanges)
    asked = asked.assign(code=asked["function"])
    reads, writes = (asked["function"].isin(codes) for codes in (READS, WRITES))
    refused = exchanges[exchanges["code"] > 0]
    return {
        "modbus_read": make_events(asked[reads]),
        "modbus_write": make_events(asked[writes]),
        "modbus_other": make_events(asked[~reads & ~writes]),
        "modbus_exception": make_events(
            refused.assign(ts=refused["answer_ts"].fillna(refused["ts"]), target=-1)
        ),
    }


MODBUS = Protocol(
    name="modbus",
    title="Modbus",
    transports=(TCP,),
    ports=(502,),
    fits=_fits,
    anywhere=True,
    message_bytes=_message_bytes,
    head_bytes=8,
    read=_read,
    functions=FUNCTIONS,
    kinds=_KINDS,
    refusals=EXCEPTIONS,
    busy=frozenset({5, 6}),
    say_code=lambda code, word: f"exception {code} (0x{code:02X}, {word})",
    decoder="mbtcp",
    function_field="modbus.func_code",
    code_field="modbus.exception_code",
    name_target=lambda target: f"address {target}",
    read_points=read_modbus,
    read_back=_read_back,
    identify=_identify,
    gone=frozenset({10, 11}),
    failed=frozenset({4, 8}),
    make_events=_make_events,
    evidence={
        **dict.fromkeys(("modbus_read", "modbus_write", "modbus_other"), FUNCTIONS),
        "modbus_exception": EXCEPTIONS,
    },
)
