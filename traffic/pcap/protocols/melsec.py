"""Mitsubishi's controllers: SLMP (MC protocol, 3E and 4E frames in binary), and MELSOFT, which the
maker's engineering tools speak.

SLMP: SH-080956 and SH-080008 (end codes: 11). MELSOFT has no published description: what is read of
it is what traces of iQ-F and Q agree on. Its commands are those of SLMP, high byte first.
"""

import re
from collections.abc import Callable

import numpy as np
import pandas as pd

from traffic.pcap.headers import TCP, UDP
from traffic.pcap.messages import Messages
from traffic.pcap.protocols.protocol import (
    ANSWER,
    ASK,
    CONTROL,
    IDENTIFY,
    READ,
    SESSION,
    SKIP,
    WRITE,
    Heads,
    Identity,
    Protocol,
    make_rows,
    number_ends,
    read_text,
    select_distinct,
    select_kinds,
    share_flow,
)

_RUN, _STOP, _PAUSE, _LATCH_CLEAR, _RESET = 0x1001, 0x1002, 0x1003, 0x1005, 0x1006
_MODEL, _MODEL_OF_TOOL = 0x0101, 0x0121
_UNLOCK = 0x1630
_BATCH_READ, _BATCH_WRITE = 0x0401, 0x1401
COMMANDS = {
    _MODEL: "read CPU model", _BATCH_READ: "read devices", 0x0403: "read random devices", 0x0406: "read blocks",
    0x041A: "read labels", 0x041C: "read random labels", 0x0601: "read module buffer", 0x0613: "read memory",
    0x0619: "loopback test", 0x0801: "register monitored devices", 0x0802: "read monitored devices",
    0x0E30: "search nodes", 0x0E31: "set IP address", _RUN: "remote run", _STOP: "remote stop", _PAUSE: "remote pause",
    _LATCH_CLEAR: "clear latched devices", _RESET: "remote reset", _BATCH_WRITE: "write devices",
    0x1402: "write random devices", 0x1406: "write blocks", 0x141A: "write labels", 0x141B: "write random labels",
    0x1601: "write module buffer", 0x1613: "write memory", 0x1617: "clear error", _UNLOCK: "unlock by password",
    0x1631: "lock by password", 0x1810: "read directory", 0x1811: "search directory", 0x1820: "create file",
    0x1822: "delete file", 0x1824: "copy file", 0x1825: "set attributes of file", 0x1826: "set date of file",
    0x1827: "open file", 0x1828: "read file", 0x1829: "write file", 0x182A: "close file",
}  # fmt: skip
_KINDS = {
    IDENTIFY: (_MODEL, 0x0E30),
    READ: (_BATCH_READ, 0x0403, 0x0406, 0x041A, 0x041C, 0x0601, 0x0613, 0x0802, 0x1810, 0x1811, 0x1828),
    WRITE: (0x0E31, _BATCH_WRITE, 0x1402, 0x1406, 0x141A, 0x141B, 0x1601, 0x1613, 0x1617, 0x1820, 0x1822, 0x1824,
            0x1825, 0x1826, 0x1829),
    CONTROL: (_RUN, _STOP, _PAUSE, _LATCH_CLEAR, _RESET),
    SESSION: (_UNLOCK, 0x1631),
}  # fmt: skip
END_CODES = {
    0x4000: "checksum wrong", 0x4001: "request not supported", 0x4002: "request not supported in this state",
    0x4003: "command for all stations cannot be executed", 0x4004: "other requests are being processed",
    0x4005: "too much data", 0x4006: "communication was not initialised", 0x4008: "busy",
    0x4010: "cannot be executed while the CPU runs", 0x4013: "cannot be executed in the present state",
    0x4021: "drive does not exist", 0x4022: "file does not exist", 0x4023: "file name and number differ",
    0x4024: "file is in use by another", 0x4025: "file is in use by another", 0x4027: "range of file exceeded",
    0x4029: "no free capacity", 0x4030: "device does not exist", 0x4031: "device out of range",
    0x4034: "file is protected", 0x4040: "module does not support it", 0x4041: "module buffer out of range",
    0x4042: "module cannot be reached", 0x4043: "no module there", 0xC035: "no answer of the partner",
    0xC050: "ASCII cannot be converted", 0xC051: "too many bit devices", 0xC052: "too many word devices",
    0xC053: "too many random bit devices", 0xC054: "too many random word devices", 0xC056: "address out of range",
    0xC057: "length of the request wrong", 0xC058: "length of the request wrong", 0xC059: "command not supported",
    0xC05A: "CPU cannot read or write that device", 0xC05B: "CPU cannot read or write that device",
    0xC05C: "request wrong", 0xC05D: "no devices registered for monitoring", 0xC05E: "CPU did not answer in time",
    0xC05F: "cannot be executed on that CPU", 0xC060: "request wrong", 0xC061: "length of the request wrong",
    0xC06F: "request in the wrong code (ASCII or binary)", 0xC070: "device memory cannot be extended",
    0xC071: "too many devices", 0xC072: "device type wrong for the command", 0xC0B5: "data not handled by the module",
    0xC200: "remote password wrong", 0xC201: "locked by a remote password", 0xC202: "no password at that station",
    0xC203: "remote password wrong", 0xC204: "unlocked by another device", 0xC810: "remote password wrong",
    0xCEE0: "other requests are being processed", 0xCEE1: "request too large", 0xCEE2: "answer too large",
    0xCF70: "network error", 0xCF71: "time of the request is over",
}  # fmt: skip
# Device codes (SH-080956, 5.2): names, and those whose numbers are hexadecimal.
_DEVICES = {
    0x9C: "X", 0x9D: "Y", 0x90: "M", 0x92: "L", 0x93: "F", 0x94: "V", 0xA0: "B", 0xA8: "D", 0xB4: "W", 0xC1: "TS",
    0xC0: "TC", 0xC2: "TN", 0xC4: "CS", 0xC3: "CC", 0xC5: "CN", 0xA1: "SB", 0xB5: "SW", 0x98: "S", 0xA2: "DX",
    0xA3: "DY", 0xCC: "Z", 0xAF: "R", 0xB0: "ZR", 0x91: "SM", 0xA9: "SD",
}  # fmt: skip
_HEX_DEVICES = ("X", "Y", "B", "W", "SB", "SW", "DX", "DY")
_OWN_NETWORK, _OWN_STATION = 0, 0xFF
_ROUTE_BYTES = 5  # network, station, module's I/O number, station behind it
_NAME = re.compile(rb"[A-Z][A-Z0-9]+[A-Z0-9/+-]* *")
_NAME_BYTES = 16


def _say_code(code: int, word: str) -> str:
    """An end code as it stands in the manuals.

    >>> _say_code(0xC059, "command not supported")
    'end code 0xC059 (command not supported)'
    """
    return f"end code 0x{code:04X} ({word})"


# ---- SLMP ----


def _slmp_bytes(head: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A subheader, a route whose module has a number below 0x0400, and the length of what follows
    (SH-080956, 4); 4E has a serial number and two zero bytes before the route."""
    start, four = head[:, 0], (head[:, 0] & 4) > 0
    at = np.where(four, 6, 2)
    rows = np.arange(len(head))
    good = np.isin(start, (0x50, 0x54, 0xD0, 0xD4)) & (head[:, 1] == 0) & (known >= at + 7)
    good &= ~four | ((head[:, 4] == 0) & (head[:, 5] == 0))
    good &= head[rows, at + 3] <= 3
    size = head[rows, at + 6] << 8 | head[rows, at + 5]
    good &= size >= np.where(start < 0x80, 6, 2)
    return np.where(good, at + 7 + size, 0)


def _fits_slmp(heads: Heads) -> np.ndarray:
    """The first payload of each side that spoke is one frame, a request and its answer of one
    form."""
    return (heads.payload > 0) & _is_answered_alike(heads, _slmp_bytes)


def _is_answered_alike(
    heads: Heads, size_of: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Whether the first payload of each side that spoke is one message, and an answer begins as what it answers
    with its highest bit set.

    Args:
        heads: what both sides sent first.
        size_of: the length of a message by its first bytes and how many are known, shape (n,); 0 for none.
    """
    good = np.ones(len(heads.payload), bool)
    for head, payload in ((heads.orig, heads.orig_payload), (heads.resp, heads.resp_payload)):
        size = size_of(head.astype(np.int64), np.minimum(payload, head.shape[1]))
        good &= (size == payload) | (payload == 0)
    both = (heads.orig_payload > 0) & (heads.resp_payload > 0)
    return good & (~both | (heads.orig[:, 0] ^ heads.resp[:, 0] == 0x80))


def _read_slmp(messages: Messages) -> pd.DataFrame:
    """A row per frame; the key is the serial number of a 4E frame, and nothing but the order of 3E.
    ``unit`` is the station behind the address, ``target`` code and number of the first device,
    ``value`` how many are read."""
    start = messages.u8(0)
    four, answers = start & 4 > 0, start >= 0x80
    good = np.isin(start, (0x50, 0x54, 0xD0, 0xD4)) & (messages.u8(1) == 0)
    route = np.where(four, 6, 2)
    body = route + _ROUTE_BYTES + 2
    command, form = messages.number(body + 2, 2, "<"), messages.number(body + 4, 2, "<")
    code = messages.number(body, 2, "<")
    network, station = messages.u8(route), messages.u8(route + 1)
    own = (network == _OWN_NETWORK) & (station == _OWN_STATION)
    batch = ~answers & np.isin(command, (_BATCH_READ, _BATCH_WRITE))
    wide = form & 2 > 0  # a number of four bytes and a code of two
    at = body + 6
    number = np.where(wide, messages.number(at, 4, "<"), messages.number(at, 3, "<"))
    device = np.where(wide, messages.number(at + 4, 2, "<"), messages.u8(at + 3))
    count = np.where(wide, messages.number(at + 6, 2, "<"), messages.number(at + 4, 2, "<"))
    whole = batch & (count >= 0)
    whole_frame = messages.held >= body + np.where(answers, 2, 6)
    return make_rows(
        messages,
        np.select([~good | ~whole_frame, answers], [SKIP, ANSWER], ASK),
        key=np.where(four, messages.number(2, 2, "<"), -1),
        kind=select_kinds(command, _KINDS),
        function=np.where(answers, -1, command),
        unit=np.where(own, -1, station),
        target=np.where(whole, device << 32 | number, -1),
        code=np.where(answers, code, -1),
        value=np.where(whole & (command == _BATCH_READ), count, -1),
    )


def _name_device(target: int) -> str:
    """A device as it stands in a program.

    >>> _name_device(0xA8 << 32 | 100), _name_device(0x9C << 32 | 0x1F)
    ('D100', 'X1F')
    """
    code, number = target >> 32, target & 0xFFFFFFFF
    name = _DEVICES.get(code, f"device 0x{code:02X} ")
    return f"{name}{number:X}" if name in _HEX_DEVICES else f"{name}{number}"


def _identify_slmp(messages: Messages) -> list[Identity]:
    """The model that a CPU answers with: its name, filled up with blanks, and a code of two
    bytes."""
    start = messages.u8(0)
    body = np.where(start & 4 > 0, 13, 9)
    asks = np.isin(start, (0x50, 0x54)) & (messages.number(body + 2, 2, "<") == _MODEL)
    named = np.isin(start, (0xD0, 0xD4)) & share_flow(messages, asks)
    named &= (messages.number(body, 2, "<") == 0) & (messages.length == body + 4 + _NAME_BYTES)
    found = []
    for message, said in select_distinct(messages, named, 0, 13 + 2 + _NAME_BYTES):
        at = int(body[message]) + 2
        found += _name_model(message, said[at : at + _NAME_BYTES])
    return found


def _name_model(message: int, name: bytes) -> list[Identity]:
    if not _NAME.fullmatch(name.rstrip(b"\0")):
        return []
    said = {"make": b"Mitsubishi Electric", "model": name.rstrip(b"\0")}
    return [Identity(message, field, value, "MELSEC CPU model") for field, value in said.items()]


SLMP = Protocol(
    name="slmp",
    transports=(TCP, UDP),
    ports=(5006, 5007, 5008),
    fits=_fits_slmp,
    anywhere=True,
    message_bytes=_slmp_bytes,
    head_bytes=13,
    read=_read_slmp,
    functions=COMMANDS,
    kinds=_KINDS,
    refusals=END_CODES,
    interrupts=frozenset({_STOP, _PAUSE, _RESET}),
    busy=frozenset({0x4004, 0x4008, 0xCEE0}),
    denied=frozenset({0x4034, 0xC200, 0xC201, 0xC202, 0xC203, 0xC204, 0xC810}),
    gone=frozenset({0x4042, 0xC035, 0xC05E, 0xCF70, 0xCF71}),
    say_code=_say_code,
    name_target=_name_device,
    wait_s=5.0,
    identify=_identify_slmp,
)


# ---- MELSOFT ----

_GREETS, _GREETED, _COMMANDS, _ANSWERED = 0x5A, 0xDA, 0x57, 0xD7
_GREETING = 1 << 16  # what is added to the last byte of a greeting
_GREETED_BYTES = {0x01: 14, 0xFF: 28}  # of what answers it, by that byte
_MARK_AT, _LENGTH_AT, _BODY_AT = 5, 19, 21
# Behind each length a header with its own; a command, its number, and its data.
_FILES = 0x40  # what iQ-F and iQ-R add to a command with files
_OPEN, _SEARCH = 0x1867, 0x185F
_TOOL_COMMANDS = {
    **COMMANDS, _MODEL_OF_TOOL: "read CPU model", 0x01A0: "log in", 0x0410: "read memory",
    0x0B20: "search nodes", _SEARCH: "search file",
    **{code + _FILES: COMMANDS[code] for code in (0x1820, 0x1822, 0x1827, 0x1828, 0x1829, 0x182A)},
    **{_GREETING + code: f"greeting 0x{code:02X}" for code in (0x01, 0x11, 0x22, 0xFF)},
}  # fmt: skip
_TOOL_KINDS = {
    IDENTIFY: (*_KINDS[IDENTIFY], _MODEL_OF_TOOL, 0x0B20),
    READ: (*_KINDS[READ], 0x0410, _SEARCH, 0x1828 + _FILES),
    WRITE: (*_KINDS[WRITE], *(code + _FILES for code in (0x1820, 0x1822, 0x1829))),
    CONTROL: _KINDS[CONTROL],
    SESSION: (*_KINDS[SESSION], 0x01A0, *(_GREETING + code for code in (0x01, 0x11, 0x22, 0xFF))),
}
# Where the length of a path and the path (UTF-16) stand in what opens or looks for a file.
_PATH_AT = {_OPEN: 16, _SEARCH: 10}
_LONGEST_PATH = 160


def _melsoft_bytes(head: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A greeting, or a command with its mark and its length (by traces)."""
    start = head[:, 0]
    marked = (head[:, _MARK_AT] == 0x11) & (head[:, _MARK_AT + 1] == 0x11) & (known >= _BODY_AT)
    marked &= np.isin(start, (_COMMANDS, _ANSWERED))
    size = _BODY_AT + (head[:, _LENGTH_AT + 1] << 8 | head[:, _LENGTH_AT])
    greets = (head[:, 1] == 0) & (head[:, 2] == 0) & (known >= 4)
    answer = np.zeros(len(head), np.int64)
    for code, length in _GREETED_BYTES.items():
        answer[head[:, 3] == code] = length
    return np.select(
        [marked, greets & (start == _GREETS), greets & (start == _GREETED)], [size, 4, answer], 0
    )


def _fits_melsoft(heads: Heads) -> np.ndarray:
    """The first payload of each side that spoke is one message; a greeting is answered by its like,
    as a command is."""
    return (heads.payload >= 4) & _is_answered_alike(heads, _melsoft_bytes)


def _find_commands(messages: Messages) -> np.ndarray:
    """Where the command stands in each message, behind a header that tells its own length; -1 where
    there is none, shape (n,)."""
    header = messages.u8(_BODY_AT + 2)
    there = np.isin(messages.u8(0), (_COMMANDS, _ANSWERED)) & (messages.u16(_MARK_AT) == 0x1111)
    at = _BODY_AT + 2 + np.maximum(header, 0)
    return np.where(there & (header > 0) & (messages.held >= at + 4), at, -1)


def _read_melsoft(messages: Messages) -> pd.DataFrame:
    """A row per message; the key is the command with its number and both ends, the name a file's."""
    start, at = messages.u8(0), _find_commands(messages)
    greets = np.isin(start, (_GREETS, _GREETED)) & (messages.u16(1) == 0)
    answers = start >= 0x80
    function = np.where(greets, _GREETING + messages.u8(3), messages.number(at, 2))
    number = np.where(greets, 0, messages.number(np.where(at < 0, -1, at + 2), 2, "<"))
    good = greets | (at >= 0)
    path_at, path_bytes = np.full(len(messages), -1), np.zeros(len(messages), np.int64)
    for opens, place in _PATH_AT.items():
        mine = good & ~answers & (function == opens)
        path_at = np.where(mine, at + 2 + place + 2, path_at)
        path_bytes = np.where(mine, messages.number(at + 2 + place, 2, "<"), path_bytes)
    result = messages.number(np.where(at < 2, -1, at - 2), 2, "<")
    return make_rows(
        messages,
        np.select([~good, answers], [SKIP, ANSWER], ASK),
        key=number_ends(messages, answers, np.maximum(function, 0) << 16 | np.maximum(number, 0)),
        kind=select_kinds(function, _TOOL_KINDS),
        function=function,
        code=np.select([~answers, greets], [-1, 0], np.maximum(result, 0)),
        name_at=path_at,
        name_bytes=np.clip(path_bytes - 2, 0, _LONGEST_PATH),
    )


def _read_path(path: bytes) -> str:
    """A path in UTF-16, of which zeros at its end were lost.

    >>> _read_path(b"C\\0P\\0U")
    'CPU'
    """
    return read_text((path + bytes(len(path) & 1)).decode("utf-16-le", "replace").encode())


def _identify_melsoft(messages: Messages) -> list[Identity]:
    """The model that a CPU answers with."""
    at = _find_commands(messages)
    command = messages.number(at, 2)
    named = (messages.u8(0) == _ANSWERED) & np.isin(command, (_MODEL, _MODEL_OF_TOOL))
    found = []
    for message, body in select_distinct(messages, named, _BODY_AT, 64):
        name = body[int(at[message]) - _BODY_AT + 6 :][:_NAME_BYTES]
        found += _name_model(message, name)
    return found


MELSOFT = Protocol(
    name="melsoft",
    transports=(TCP, UDP),
    ports=(5560, 5561, 5562),
    fits=_fits_melsoft,
    anywhere=True,
    message_bytes=_melsoft_bytes,
    head_bytes=_BODY_AT,
    read=_read_melsoft,
    functions=_TOOL_COMMANDS,
    kinds=_TOOL_KINDS,
    refusals=END_CODES,
    interrupts=SLMP.interrupts,
    busy=SLMP.busy,
    denied=SLMP.denied,
    gone=SLMP.gone,
    say_code=_say_code,
    read_name=_read_path,
    wait_s=5.0,
    broadcasts=True,
    identify=_identify_melsoft,
)
