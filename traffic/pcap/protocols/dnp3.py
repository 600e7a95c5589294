"""DNP3: requests by function and object, commands, refusals by internal indications and by the
status of commands (IEEE 1815)."""

import numpy as np
import pandas as pd

from traffic.pcap.headers import TCP, UDP
from traffic.pcap.messages import Messages
from traffic.pcap.protocols.protocol import (
    ANSWER,
    ASK,
    CONTROL,
    PUBLISH,
    READ,
    SESSION,
    SKIP,
    TELL,
    WRITE,
    Heads,
    Protocol,
    make_rows,
    select_kinds,
)
from traffic.pcap.protocols.written import DNP3_VALUED, read_dnp3

LINK = 256  # what is added to a function of the link layer
FUNCTIONS = {
    1: "read", 2: "write", 3: "select", 4: "operate", 5: "direct operate", 6: "direct operate without answer",
    7: "freeze", 8: "freeze without answer", 9: "freeze and clear", 10: "freeze and clear without answer",
    11: "freeze at a time", 12: "freeze at a time without answer", 13: "cold restart", 14: "warm restart",
    15: "initialize data", 16: "initialize application", 17: "start application", 18: "stop application",
    19: "save configuration", 20: "enable unsolicited", 21: "disable unsolicited", 22: "assign class",
    23: "measure delay", 24: "record time", 25: "open file", 26: "close file", 27: "delete file",
    28: "file information",
    29: "authenticate file", 30: "abort file", 31: "activate configuration", 32: "authentication request",
    33: "authentication error", 129: "answer", 130: "unsolicited", 131: "authentication answer",
    LINK: "reset link", LINK + 2: "test link", LINK + 9: "ask for link status",
}  # fmt: skip
_CONFIRM, _RESPONSE, _UNSOLICITED, _AUTHENTICATION = 0, 129, 130, 131
# Commands to points; restarts, programs started and stopped, configurations and files.
_KINDS = {READ: (1,), WRITE: (2, 3, 4, 5, 6), CONTROL: (13, 14, 15, 16, 17, 18, 19, 27, 31)}
_UNANSWERED = (6, 8, 10, 12)
# Internal indications (4.2.2.3.3 IIN), those that refuse first; the bit of IIN1 << 8 | IIN2.
_INDICATIONS = (
    (1, 0x0001, "function not supported"), (2, 0x0002, "object unknown"), (3, 0x0004, "parameter error"),
    (5, 0x0010, "already executing"), (6, 0x0020, "configuration corrupt"), (7, 0x4000, "device trouble"),
    (4, 0x0008, "event buffer overflow"), (8, 0x8000, "device restarted"),
)  # fmt: skip
_REMARKS = (4, 6, 7, 8)
_STATUS, _NACK = 100, 200  # what is added to a command's status, and to an answer of the link
REFUSALS = {
    **{code: words for code, _, words in _INDICATIONS},
    **{
        _STATUS + status: f"command: {words}"
        for status, words in {
            1: "timeout after select", 2: "not selected", 3: "format error", 4: "not supported", 5: "already active",
            6: "hardware error", 7: "local control only", 8: "too many objects", 9: "not authorized",
            10: "inhibited by automation", 11: "processing limited", 12: "out of range", 13: "downstream local",
            14: "already complete", 15: "blocked", 16: "cancelled", 17: "blocked by another master",
            18: "downstream fails", 126: "reserved", 127: "undefined",
        }.items()
    },
    _NACK + 1: "link: not accepted", _NACK + 14: "link: not functioning", _NACK + 15: "link: not supported",
}  # fmt: skip
_BINARY, _ANALOG = 12, 41  # groups of commands
_ANALOG_BYTES = {1: 4, 2: 2, 3: 4, 4: 8}
_NO_INDEX = 0xFFFF
_HEADER = 10


def _make_table() -> np.ndarray:
    value = np.arange(256)
    for _ in range(8):
        value = np.where(value & 1, value >> 1 ^ 0xA6BC, value >> 1)
    return value


_CRC = _make_table()


def _fits_header(head: np.ndarray) -> np.ndarray:
    """Start bytes, a length, and the checksum of the first eight bytes (9.2.4)."""
    head = head.astype(np.int64)
    crc = np.zeros(len(head), np.int64)
    for i in range(8):
        crc = _CRC[(crc ^ head[:, i]) & 0xFF] ^ crc >> 8
    good = (head[:, 0] == 0x05) & (head[:, 1] == 0x64) & (head[:, 2] >= 5)
    return good & (crc ^ 0xFFFF == head[:, 9] << 8 | head[:, 8])


def _message_bytes(head: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Header, and the user's data in blocks of 16 bytes with a checksum each (9.2.2)."""
    user = head[:, 2] - 5
    return np.where(_fits_header(head) & (known >= _HEADER), _HEADER + user + 2 * -(-user // 16), 0)


def _fits(heads: Heads) -> np.ndarray:
    return _fits_header(heads.first) & (heads.payload >= _HEADER)


def _user(byte: np.ndarray | int) -> np.ndarray | int:
    """Where a byte of the user's data is, past the checksums between blocks."""
    return _HEADER + byte + 2 * (byte // 16)


def _read(messages: Messages) -> pd.DataFrame:
    """A row per first fragment, and per question of the link layer; ``unit`` is the outstation,
    ``target`` group, variation and index of the first object."""
    good = _fits_header(messages.bytes(0, _HEADER)) & (messages.held >= _HEADER)
    link, bare = messages.u8(3), messages.u8(2) == 5
    to, by = messages.u16(4, "<"), messages.u16(6, "<")
    transport, control, function = (messages.u8(_user(i)) for i in range(3))
    starts = ~bare & (transport & 0x40 > 0) & (control & 0x80 > 0)
    response = starts & np.isin(function, (_RESPONSE, _AUTHENTICATION))
    unsolicited = starts & (function == _UNSOLICITED)
    request = starts & ~response & ~unsolicited & (function != _CONFIRM)
    primary, of_link = link & 0x40 > 0, link & 15
    link_asks = bare & primary & np.isin(of_link, (0, 2, 9))
    link_answers = bare & ~primary
    tells = unsolicited | (request & np.isin(function, _UNANSWERED))
    role = np.select(
        [~good, tells, request | link_asks, response | link_answers],
        [SKIP, TELL, ASK, ANSWER],
        SKIP,
    )
    answers = response | link_answers
    master = np.where(answers | unsolicited, to, by)
    outstation = np.where(answers | unsolicited, by, to)
    kind = np.select([bare, unsolicited], [SESSION, PUBLISH], select_kinds(function, _KINDS))
    code = np.select(
        [response, link_answers], [_find_refusals(messages), _find_link_refusals(of_link)], 0
    )
    return make_rows(
        messages,
        role,
        key=(np.where(bare, 16, control & 15) << 32) | outstation << 16 | master,
        kind=kind,
        function=np.where(bare, LINK + of_link, function),
        unit=outstation,
        target=np.where(request, _find_targets(messages), -1),
        code=np.where(role == ASK, -1, code),
        data_at=np.where(request & np.isin(function, DNP3_VALUED), _HEADER, -1),
    )


def _find_targets(messages: Messages) -> np.ndarray:
    """Group, variation and index of the first object of a request, -1 for none."""
    group, variation, qualifier = (messages.u8(_user(i)) for i in (3, 4, 5))
    # Qualifiers: counts with an index before each object, or a range (4.2.2.7).
    at = np.select([qualifier == 0x17, qualifier == 0x28], [7, 8], 6)
    one = np.isin(qualifier, (0x17, 0x00))
    low, high = messages.u8(_user(at)), messages.u8(_user(at + 1))
    index = np.select([one, np.isin(qualifier, (0x28, 0x01))], [low, high << 8 | low], _NO_INDEX)
    index = np.where(index < 0, _NO_INDEX, index)
    return np.where((group >= 0) & (variation >= 0), group << 24 | variation << 16 | index, -1)


def _find_refusals(messages: Messages) -> np.ndarray:
    """The first indication that refuses, the status of the first command, or what else is
    indicated; 0 for none."""
    indications = messages.u8(_user(3)) << 8 | np.maximum(messages.u8(_user(4)), 0)
    indications = np.maximum(indications, 0)
    group, variation, qualifier = (messages.u8(_user(i)) for i in (5, 6, 7))
    data = np.select([qualifier == 0x17, qualifier == 0x28], [10, 12], -1)
    size = np.select(
        [(group == _BINARY) & (variation == 1)]
        + [(group == _ANALOG) & (variation == number) for number in _ANALOG_BYTES],
        [10, *_ANALOG_BYTES.values()],
        -1,
    )
    there = (data > 0) & (size > 0)
    status = np.where(there, messages.u8(_user(np.where(there, data + size, 0))) & 127, 0)
    conditions = [indications & bit > 0 for code, bit, _ in _INDICATIONS if code not in _REMARKS]
    codes = [code for code, _, _ in _INDICATIONS if code not in _REMARKS]
    remarks = [indications & bit > 0 for code, bit, _ in _INDICATIONS if code in _REMARKS]
    remark_codes = [code for code, _, _ in _INDICATIONS if code in _REMARKS]
    return np.select(
        [*conditions, status > 0, *remarks], [*codes, _STATUS + status, *remark_codes], 0
    )


def _find_link_refusals(function: np.ndarray) -> np.ndarray:
    return np.where(np.isin(function, (1, 14, 15)), _NACK + function, 0)


def _name_target(target: int) -> str:
    """An object as group, variation and index.

    >>> _name_target(12 << 24 | 1 << 16 | 8), _name_target(60 << 24 | 2 << 16 | 0xFFFF)
    ('object 12.1 index 8', 'object 60.2')
    """
    name = f"object {target >> 24}.{target >> 16 & 0xFF}"
    return name if target & 0xFFFF == _NO_INDEX else f"{name} index {target & 0xFFFF}"


DNP3 = Protocol(
    name="dnp3",
    transports=(TCP, UDP),
    ports=(20000,),
    fits=_fits,
    anywhere=True,
    message_bytes=_message_bytes,
    head_bytes=_HEADER,
    read=_read,
    functions=FUNCTIONS,
    kinds=_KINDS,
    refusals=REFUSALS,
    failed=frozenset({_STATUS + 6, _NACK + 14}),
    remarks=frozenset(_REMARKS),
    # That it was started anew a device says until its master takes note, some masters never do.
    troubles=frozenset({4, 6, 7}),
    interrupts=frozenset({13, 14, 18}),
    halts=frozenset({18}),
    resumes=frozenset({17}),
    starts=frozenset({20}),
    stops=frozenset({21}),
    busy=frozenset({5}),
    name_target=_name_target,
    function_field="dnp3.al.func",
    read_points=read_dnp3,
    wait_s=5.0,
)
