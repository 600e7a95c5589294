"""S7comm, Siemens' S7-300 and 400 dialect over TPKT and COTP: reads and writes by address, refusals
by code, stops, starts, downloads, and what a device says it is.

Siemens publishes no specification; the layout is that of Wireshark's and ICSNPP's dissectors, TPKT
is RFC 1006, COTP is ISO 8073 class 0:

    TPKT 4 | COTP DT 3 | 0x32 type reference lengths 10 | error 2, in answers | parameters | data
"""

import re

import numpy as np
import pandas as pd

from traffic.pcap.headers import TCP
from traffic.pcap.messages import Messages
from traffic.pcap.protocols.cotp import (
    CONNECT,
    COTP_CODE,
    COTP_FUNCTIONS,
    COTP_REFUSALS,
    CR,
    DISCONNECT,
    DT,
    HEAD_BYTES,
    add_connections,
    continues,
    fits,
    message_bytes,
    read_selector,
)
from traffic.pcap.protocols.protocol import (
    ANSWER,
    ASK,
    CONTROL,
    IDENTIFY,
    READ,
    SESSION,
    SKIP,
    TELL,
    WRITE,
    Identity,
    Protocol,
    first_alike,
    make_rows,
    read_text,
    select_distinct,
    select_kinds,
    share_flow,
)
from traffic.pcap.protocols.written import read_s7comm

# Jobs by their function, and userdata as 0x1000 + group * 256 + function.
_READ_VAR, _WRITE_VAR, _DOWNLOAD, _START_UPLOAD, _PI, _STOP = 0x04, 0x05, 0x1A, 0x1D, 0x28, 0x29
_RESET, _READ_SZL = 0x110C, 0x1401
# Program invocations by what they invoke.
_START, _COPY, _COMPRESS, _ACTIVATE, _DELETE = range(0x2801, 0x2806)
_INVOKED = {
    b"P_PROGRAM": _START, b"_MODU": _COPY, b"_GARB": _COMPRESS, b"_INSE": _ACTIVATE, b"_INS2": _ACTIVATE,
    b"_DELE": _DELETE,
}  # fmt: skip
FUNCTIONS = {
    0x00: "CPU services",
    _READ_VAR: "read variables",
    _WRITE_VAR: "write variables",
    _DOWNLOAD: "request download",
    0x1B: "download block",
    0x1C: "download ended",
    _START_UPLOAD: "start upload",
    0x1E: "upload",
    0x1F: "end upload",
    _PI: "program invocation",
    _START: "start program",
    _COPY: "copy RAM to ROM",
    _COMPRESS: "compress memory",
    _ACTIVATE: "activate blocks",
    _DELETE: "delete blocks",
    _STOP: "stop PLC",
    **COTP_FUNCTIONS,
    0xF0: "set up communication",
    0x1101: "block status",
    0x1102: "variable status",
    0x1108: "modify variable",
    0x1109: "force",
    0x110A: "breakpoint",
    _RESET: "memory reset",
    0x1201: "cyclic transfer",
    0x1204: "unsubscribe",
    0x1301: "list blocks",
    0x1302: "list blocks of a type",
    0x1303: "get block info",
    _READ_SZL: "read SZL (system status list)",
    0x1402: "message service",
    0x1501: "PLC password",
    0x1701: "read clock",
    0x1702: "set clock",
    0x1703: "read clock",
    0x1704: "set clock",
    0x1F01: "request download (NC)",
    0x1F06: "start upload (NC)",
}
# Return codes of items and data (one byte), error class and code of headers and userdata (two).
REFUSALS = {
    **COTP_REFUSALS,
    0x01: "hardware error",
    0x03: "access to the object not allowed",
    0x05: "invalid address",
    0x06: "data type not supported",
    0x07: "data type inconsistent",
    0x0A: "object does not exist",
    0x0110: "invalid block number",
    0x0111: "invalid request length",
    0x0112: "invalid parameter",
    0x0113: "invalid block type",
    0x0114: "block not found",
    0x0115: "block already exists",
    0x0116: "block is write-protected",
    0x0119: "incorrect password",
    0x011B: "PLC resource error",
    0x0140: "insufficient memory",
    0x0141: "lack of resources",
    0x8001: "not possible while the block is in its present status",
    0x8100: "service unknown to the module",
    0x8104: "service not implemented on the module, or a frame error",
    0x8204: "type of the object is inconsistent",
    0x8301: "insufficient memory",
    0x8302: "too few resources",
    0x8304: "no further parallel upload possible",
    0x8305: "function not available",
    0x8401: "invalid sequence of services",
    0x8402: "not possible owing to the status of the object",
    0x8404: "function cannot be performed",
    0x8500: "wrong frame",
    0x8503: "service cancelled prematurely",
    0x8701: "address outside the object",
    0x8702: "service not supported by the module",
    0x8703: "access to the object refused",
    0x8704: "object damaged",
    0xD001: "illegal job number",
    0xD041: "illegal status list",
    0xD042: "illegal variable address",
    0xD061: "no memory for the job",
    0xD081: "not permitted in the present mode",
    0xD0A1: "not permitted at the present protection level",
    0xD0A2: "not possible now: a function that changes memory is running",
    0xD201: "syntax error in a block name",
    0xD209: "block not found on the module",
    0xD20C: "block cannot be copied: its priority class does not exist",
    0xD20E: "no block available",
    0xD210: "invalid block number",
    0xD240: "coordination rules violated",
    0xD241: "not permitted at the present protection level",
    0xD242: "protection violation while processing fail-safe blocks",
    0xD2A4: "block is being processed by another function",
    0xD401: "information function unavailable",
    0xD402: "information function unavailable",
    0xD403: "service already logged on or off",
    0xD404: "too many nodes logged on for diagnostics",
    0xD405: "service not supported, or syntax error in its parameters",
    0xD406: "information not available now",
    0xD601: "syntax error in a parameter",
    0xD602: "incorrect password",
    0xD605: "no password exists",
    0xD801: "invalid variable address",
    0xD802: "job does not exist",
    0xD805: "no further cyclic read jobs possible",
    0xDC01: "date or time invalid",
}
_KINDS = {
    READ: (_READ_VAR, _START_UPLOAD, 0x1E, 0x1F, 0x1101, 0x1102, 0x1201, 0x1301, 0x1302, 0x1303,
           _READ_SZL, 0x1701, 0x1703),
    WRITE: (_WRITE_VAR, 0x1108, 0x1109, 0x1702, 0x1704),
    # Blocks of a download are fetched by the PLC itself (0x1B, 0x1C): that is nobody's command.
    CONTROL: (_DOWNLOAD, _PI, *range(_START, _DELETE + 1), _STOP, _RESET, 0x1F01),
    SESSION: (CONNECT, DISCONNECT, 0xF0, 0x1501),
}  # fmt: skip
_FILES = (_DOWNLOAD, 0x1B, 0x1C, _START_UPLOAD)
_JOB, _ACK, _ACK_DATA, _USERDATA = 1, 2, 3, 7  # what Siemens calls ROSCTR
_OK = 0xFF
_MOST_ITEMS = 20  # of a read or write, by the longest message that PLCs agree to
_NAME_BYTES = 32
_BLOCKS = {
    b"08": "OB", b"0A": "DB", b"0B": "SDB", b"0C": "FC", b"0D": "SFC", b"0E": "FB", b"0F": "SFB",
}  # fmt: skip
_FILE_NAME = re.compile(rb"[_$](0[8A-F])(\d{5})[ABP]")
_AREA, _SZL = 40, 1 << 32  # places in ``target``
_OTHERS = ("s7comm-plus", "mms", "cotp")
_SHOWN = {0x81: "I", 0x82: "Q", 0x83: "M", 0x80: "P", 0x86: "L", 0x87: "V"}


def _name_target(target: int) -> str:
    """As engineers write it.

    >>> _name_target(0x84 << 40 | 5 << 24 | 8 * 12 + 3), _name_target(0x83 << 40 | 8 * 7)
    ('DB5.DBX12.3', 'MB7')
    >>> _name_target(1 << 32 | 0x001C0000), _name_target(0x0102)
    ('SZL 0x001C index 0x0000', 'TSAP 0x0102')
    """
    area, block, address = target >> _AREA, target >> 24 & 0xFFFF, target & 0xFFFFFF
    if not area:
        szl = f"SZL 0x{target >> 16 & 0xFFFF:04X} index 0x{target & 0xFFFF:04X}"
        return szl if target & _SZL else f"TSAP 0x{target:04X}"
    byte, bit = divmod(address, 8)
    if area in (0x84, 0x85):
        return f"DB{block}.DBX{byte}.{bit}" if bit else f"DB{block}.DBB{byte}"
    if area in (0x1C, 0x1D):
        return f"{'C' if area == 0x1C else 'T'}{address}"
    if area in _SHOWN:
        return f"{_SHOWN[area]}{byte}.{bit}" if bit else f"{_SHOWN[area]}B{byte}"
    return f"area 0x{area:02X} byte {byte}.{bit}"


def _read(messages: Messages) -> pd.DataFrame:
    """A row per message; the key is the reference that an answer repeats."""
    kind = messages.u8(5) >> 4
    data = (kind == DT) & (messages.u8(4) == 2) & ~continues(messages, kind)
    first, rosctr = messages.u8(7), messages.u8(8)
    s7 = data & (first == 0x32) & np.isin(rosctr, (_JOB, _ACK, _ACK_DATA, _USERDATA))
    s7 &= messages.held >= 17
    other = _find_others(messages, kind, data, first, s7)
    columns = _read_s7(messages, s7, rosctr)
    columns["role"] = np.where(s7, columns["role"], SKIP)
    add_connections(messages, kind, columns)
    # What is neither S7comm nor S7comm-plus is no exchange of S7comm's.
    columns["role"][np.isin(other, (1, 2))] = SKIP
    return make_rows(messages, other=other, **columns)


def _find_others(
    messages: Messages, kind: np.ndarray, data: np.ndarray, first: np.ndarray, s7: np.ndarray
) -> np.ndarray:
    """What else flows turn out to speak, a place in ``_OTHERS``; -1 for S7comm."""
    plus = share_flow(messages, data & (first == 0x72))
    session = np.isin(first, (0x0D, 0x0E)) | (messages.u16(7) == 0x0100)
    mms = share_flow(messages, data & session)
    # A selector of S7comm names a kind of connection, then rack and slot.
    foreign = share_flow(messages, (kind == CR) & (read_selector(messages) < 0x100))
    return np.select([share_flow(messages, s7), plus, mms, foreign], [-1, 0, 1, 2], -1)


def _read_s7(messages: Messages, s7: np.ndarray, rosctr: np.ndarray) -> dict[str, np.ndarray]:
    answers, userdata = np.isin(rosctr, (_ACK, _ACK_DATA)), rosctr == _USERDATA
    at = np.where(answers, 19, 17)
    data_at = at + np.maximum(messages.u16(13), 0)
    group, way = messages.u8(22) & 15, messages.u8(22) >> 4
    function = np.where(answers, messages.u8(19), messages.u8(17))
    function = np.where(rosctr == _ACK, -1, function)
    function = np.where(userdata, 0x1000 | group << 8 | messages.u8(23), function)
    role = np.select([answers, ~userdata, way == 4, way == 8], [ANSWER, ASK, ASK, ANSWER], TELL)
    szl = np.where(
        s7 & (function == _READ_SZL) & (messages.u16(15) >= 8), messages.u32(data_at + 4), -1
    )
    identify = np.isin(szl >> 16 & 0xFF, (0x11, 0x1C)) & (szl >= 0)
    target, value = _read_items(messages, s7 & (rosctr == _JOB), function)
    name_at, name_bytes = _find_name(messages, s7 & (rosctr == _JOB), function)
    function = _read_invoked(messages, function, name_at, name_bytes)
    return {
        "role": role,
        "key": messages.u16(11),
        "kind": np.where(identify, IDENTIFY, select_kinds(function, _KINDS)),
        "function": function,
        "target": np.where(szl >= 0, szl | _SZL, target),
        "value": value,
        "code": _read_code(messages, s7 & (role == ANSWER), function, data_at),
        "name_at": name_at,
        "name_bytes": name_bytes,
        "data_at": np.where(s7 & (rosctr == _JOB) & (function == _WRITE_VAR), 17, -1),
    }


def _read_items(
    messages: Messages, jobs: np.ndarray, function: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where the first item of a read or write lies, and how many elements it has; -1 for none."""
    plain = jobs & np.isin(function, (_READ_VAR, _WRITE_VAR))
    plain &= (messages.u8(18) >= 1) & (messages.u8(19) == 0x12) & (messages.u8(21) == 0x10)
    block, area, address = messages.u16(25), messages.u8(27), messages.number(28, 3)
    whole = plain & (address >= 0)
    target = np.where(whole, area << _AREA | block << 24 | address, -1)
    return target, np.where(whole, messages.u16(23), -1)


def _find_name(
    messages: Messages, jobs: np.ndarray, function: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where the name of a block (``_0A00001P``) or of what is invoked (``P_PROGRAM``) stands; a stop
    names the program alone."""
    at, size = np.full(len(messages), -1), np.zeros(len(messages), np.int64)
    files = jobs & np.isin(function, _FILES)
    invokes = np.flatnonzero(jobs & (function == _PI))
    at[files], size[files] = 26, messages.u8(25)[files]
    if len(invokes):
        some = messages.take(invokes)
        place = 27 + np.maximum(some.u16(25), 0)
        at[invokes], size[invokes] = place + 1, some.u8(place)
    return at, np.clip(size, 0, _NAME_BYTES)


def _read_invoked(
    messages: Messages, function: np.ndarray, name_at: np.ndarray, name_bytes: np.ndarray
) -> np.ndarray:
    """The functions, those of invocations by what they invoke."""
    rows = np.flatnonzero((function == _PI) & (name_at >= 0))
    if not len(rows):
        return function
    names = messages.take(rows).bytes(name_at[rows], _NAME_BYTES)
    names *= np.arange(_NAME_BYTES) < name_bytes[rows, None]
    texts = (one.tobytes().rstrip(b"\0") for one in names)
    function = function.copy()
    function[rows] = [_INVOKED.get(text, _PI) for text in texts]
    return function


def _read_name(name: bytes) -> str:
    """A block as engineers write it, where a file of the CPU is named.

    >>> _read_name(b"_0A00001P"), _read_name(b"$0B00000A"), _read_name(b"P_PROGRAM")
    ('DB1', 'SDB0', 'P_PROGRAM')
    """
    block = _FILE_NAME.fullmatch(name)
    return f"{_BLOCKS[block[1]]}{int(block[2])}" if block else read_text(name)


def _read_code(
    messages: Messages, answers: np.ndarray, function: np.ndarray, data_at: np.ndarray
) -> np.ndarray:
    """The error of the header, or that of the first item that is not good; 0 for none."""
    userdata = messages.u8(8) == _USERDATA
    error = np.where(userdata & (messages.u16(13) >= 12), messages.u16(27), 0)
    error = np.where(~userdata, messages.u16(17), error)
    code = np.where(answers, error, -1)
    items = [(_READ_VAR, _read_result), (_WRITE_VAR, _write_result), (_READ_SZL, _szl_result)]
    for name, read_result in items:
        rows = np.flatnonzero(answers & (code == 0) & (function == name))
        if len(rows):
            code[rows] = read_result(messages.take(rows), data_at[rows])
    return code


def _szl_result(messages: Messages, at: np.ndarray) -> np.ndarray:
    result = messages.u8(at)
    return np.where(result == _OK, 0, np.maximum(result, 0))


def _write_result(messages: Messages, at: np.ndarray) -> np.ndarray:
    """One byte an item."""
    results = messages.bytes(at, _MOST_ITEMS)
    there = np.minimum(messages.u8(20), messages.held - at)
    bad = (results != _OK) & (np.arange(_MOST_ITEMS) < there[:, None])
    first = bad.argmax(axis=1)
    return np.where(bad.any(axis=1), results[np.arange(len(results)), first], 0).astype(np.int64)


def _read_result(messages: Messages, at: np.ndarray) -> np.ndarray:
    """Result, kind and length of each item, its data filled up to an even length."""
    code, count = np.zeros(len(messages), np.int64), messages.u8(20)
    rows, at = np.arange(len(messages)), at.copy()
    for item in range(_MOST_ITEMS):
        rows = rows[(code[rows] == 0) & (item < count[rows])]
        if not len(rows):
            break
        some, here = messages.take(rows), at[rows]
        head = some.number(here, 4)
        result, size = head >> 24, head & 0xFFFF
        code[rows] = np.where((head >= 0) & (result != _OK), result, 0)
        in_bits = np.isin(head >> 16 & 0xFF, (3, 4, 5))
        size = np.where(in_bits, (size + 7) // 8, size)
        at[rows] = here + 4 + size + size % 2
        rows = rows[head >= 0]
    return code


# ---- Identity: status lists 0x0011 (modules) and 0x001C (components) ----

_COMPONENTS = {1: "name", 5: "serial", 7: "model"}


def _identify(messages: Messages) -> list[Identity]:
    """Order number, firmware, name, model and serial number, from answers to a read status list."""
    answers = (
        (messages.u8(8) == _USERDATA) & (messages.u16(22) == 0x8401) & (messages.u8(29) == _OK)
    )
    lists = answers & (messages.u8(7) == 0x32) & np.isin(messages.u16(33) & 0xFF, (0x11, 0x1C))
    found = []
    for message, body in select_distinct(
        messages, first_alike(messages, lists, messages.u16(33)), 33, 1024
    ):
        size, read_entry = int.from_bytes(body[4:6]), _ENTRIES[body[1]]
        entries = [body[at : at + size] for at in range(8, len(body), size or 1)] if size else []
        for entry in entries[: int.from_bytes(body[6:8])]:
            if len(entry) >= 28:
                found += [Identity(message, *pair, "S7 SZL") for pair in read_entry(entry)]
    return found


def _read_module(entry: bytes) -> list[tuple[str, str | bytes]]:
    index, version = int.from_bytes(entry[:2]), entry[24:28]
    if index == 1:
        return [("order number", entry[2:22])]
    if index == 7 and version[0] == ord("V"):
        return [("firmware", f"{version[1]}.{version[2]}.{version[3]}")]
    return []


def _read_component(entry: bytes) -> list[tuple[str, str | bytes]]:
    field = _COMPONENTS.get(int.from_bytes(entry[:2]) & 0xFF)
    return [(field, entry[2:34])] if field else []


_ENTRIES = {0x11: _read_module, 0x1C: _read_component}


S7COMM = Protocol(
    name="s7comm",
    title="S7",
    transports=(TCP,),
    ports=(102,),
    fits=fits,
    anywhere=True,
    message_bytes=message_bytes,
    head_bytes=HEAD_BYTES,
    read=_read,
    functions=FUNCTIONS,
    kinds=_KINDS,
    refusals=REFUSALS,
    failed=frozenset({0x01, 0x011B, 0x0140, 0x0141, 0x8301, 0x8302}),
    interrupts=frozenset({_STOP, _RESET}),
    halts=frozenset({_STOP}),
    resumes=frozenset({_START}),
    busy=frozenset({0x0141, 0x8302, 0x8304, 0xD0A2, 0xD2A4, 0xD406, COTP_CODE + 129}),
    denied=frozenset({0x03, 0x0119, 0x8703, 0xD0A1, 0xD241, 0xD242, 0xD602, 0xD605}),
    read_name=_read_name,
    name_target=_name_target,
    function_field="s7comm.param.func",
    read_points=lambda data: read_s7comm(data, _name_target),
    others=_OTHERS,
    wait_s=3.0,
    identify=_identify,
)
