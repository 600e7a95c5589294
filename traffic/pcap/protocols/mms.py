"""MMS as IEC 61850 speaks it over TPKT and COTP: reads, writes and commands by name, what refuses
them, reports, files, associations, and what a device says it is.

ISO 9506-2 (MMS), IEC 61850-8-1 (how commands and reports are mapped on it), ISO 8327 (session):

    COTP DT 7 | session 01 00 01 00 | presentation 61 { 30 { 02 context, a0 { a PDU of MMS } } }
    PDU       a0 { 02 invoke id, service }   a1 its answer   a2 { 80 invoke id, a2 error }   a3 report

An object is named by its domain, and in it by logical node, functional constraint and path:
``IED1LD0/CSWI1$CO$Pos$Oper`` is the command to a switch.
"""

import re

import numpy as np
import pandas as pd

from traffic.arrays import starts_run
from traffic.pcap.headers import TCP
from traffic.pcap.messages import Messages
from traffic.pcap.protocols.ber import read_length, read_numbers
from traffic.pcap.protocols.cotp import (
    COTP_CODE,
    COTP_FUNCTIONS,
    DT,
    HEAD_BYTES,
    add_connections,
    continues,
    message_bytes,
)
from traffic.pcap.protocols.mms_words import (
    ACCESS,
    ADDED,
    ASSOCIATION,
    CAUSES,
    REFUSALS,
    REJECT,
    SERVICE,
)
from traffic.pcap.protocols.protocol import (
    ANSWER,
    ASK,
    CONTROL,
    IDENTIFY,
    OTHER,
    PUBLISH,
    READ,
    SESSION,
    SKIP,
    TELL,
    WRITE,
    Heads,
    Identity,
    Protocol,
    first_alike,
    make_rows,
    read_text,
    select_distinct,
    select_kinds,
    share_flow,
)

_IDENTIFY, _READ, _WRITE = 2, 4, 5
# What is no service of its own: PDUs, and what IEC 61850 makes of reads and writes.
INITIATE, CONCLUDE, ABORT, REPORT = 0x100, 0x101, 0x102, 0x103
OPERATE, SELECT_VALUE, CANCEL, SELECT, SET_REPORT = 0x200, 0x201, 0x202, 0x203, 0x204
_FAILED = 0x300  # added to the cause that a device adds to a command's failure
FUNCTIONS = {
    0: "status", 1: "get name list", _IDENTIFY: "identify", 3: "rename", _READ: "read", _WRITE: "write",
    6: "get variable attributes", 7: "define variable", 10: "delete variable", 11: "define data set",
    12: "get data set attributes", 13: "delete data set", 14: "define type", 15: "get type attributes",
    16: "delete type", 19: "take control", 20: "relinquish control", 26: "begin download", 27: "download segment",
    28: "end download", 29: "begin upload", 30: "upload segment", 31: "end upload", 32: "request domain download",
    33: "request domain upload", 34: "load domain", 35: "store domain", 36: "delete domain",
    37: "get domain attributes", 38: "create program invocation", 39: "delete program invocation",
    40: "start program", 41: "stop program", 42: "resume program", 43: "reset program", 44: "kill program",
    45: "get program attributes", 46: "obtain file", 65: "read journal", 66: "write journal",
    67: "initialize journal", 68: "journal status", 69: "create journal", 70: "delete journal",
    71: "get capability list", 72: "open file", 73: "read file", 74: "close file", 75: "rename file",
    76: "delete file", 77: "file directory",
    INITIATE: "initiate (associate)", CONCLUDE: "conclude", ABORT: "abort", REPORT: "report",
    OPERATE: "operate", SELECT_VALUE: "select with value", CANCEL: "cancel", SELECT: "select",
    SET_REPORT: "set up a report", **{_FAILED + n: f"command failed ({word})" for n, word in CAUSES.items()},
    **COTP_FUNCTIONS,
}  # fmt: skip
_KINDS = {
    READ: (0, 1, _READ, 6, 12, 15, 29, 30, 31, 37, 45, 65, 68, 71, 72, 73, 74, 77),
    WRITE: (_WRITE, 3, 7, 10, 14, 16, 46, 66, 67, 69, 70, 75, 76, OPERATE, SELECT_VALUE, CANCEL, SELECT),
    CONTROL: (26, 27, 28, 34, 35, 36, 38, 39, 40, 41, 42, 43, 44),
    IDENTIFY: (_IDENTIFY,),
    SESSION: (INITIATE, CONCLUDE, ABORT),
    PUBLISH: (REPORT,),
}  # fmt: skip
_NAME_BYTES = 136  # of a domain and what is named in it (IEC 61850-8-1: 64 each, and their headers)
_DEEPEST = 14  # fields until a name
_MOST_ITEMS = 24  # of which a refused one is looked for
_ASSOCIATES, _ACCEPTS, _REFUSES, _ABORTS = 0x0D, 0x0E, 0x0C, 0x19  # of the session
_KEY = 1 << 40  # of what has no invoke id
_TAIL_BYTES = 48  # of a name, that tell what it is for
_COMMANDS = {b"Oper": OPERATE, b"SBOw": SELECT_VALUE, b"Cancel": CANCEL}
_REPORT_BLOCK = re.compile(rb"\$(?:RP|BR|LG|GO)\$")
_NAMES = (0x19, 0x1A, 0x80, 0x81, 0x82, 0x8A)  # tags under which a name may stand
_REPORT_NAME = np.frombuffer(b"\x80\3RPT", np.uint8)
_LAST_ERROR = np.frombuffer(b"\x80\x0dLastApplError", np.uint8)
# ACSE's result, and the diagnostic of who was asked (ISO 8650-1).
_RESULT = re.compile(rb"\xa2\x03\x02\x01(.)\xa3\x05[\xa1\xa2]\x03\x02\x01(.)", re.DOTALL)


def _fits(heads: Heads) -> np.ndarray:
    """Nothing: flows begin with COTP as those of S7comm do, whose reader finds the ISO session."""
    return np.zeros(len(heads.orig), bool)


def _read(messages: Messages) -> pd.DataFrame:
    """A row per PDU and per step of an association; the key is the invoke id, the name what is read,
    written, commanded or reported first."""
    kind = messages.u8(5) >> 4
    data = (kind == DT) & (messages.u8(4) == 2) & ~continues(messages, kind)
    columns = _read_pdus(messages, data & (messages.u32(7) == 0x01000100))
    _add_associations(messages, data, columns)
    add_connections(messages, kind, columns)
    columns["target"][:] = -1  # a selector says nothing to anybody
    return make_rows(messages, **columns)


def _find_pdu(messages: Messages) -> np.ndarray:
    """Where the PDU begins: behind the list of presentation data and its context."""
    _, at = read_length(messages, np.full(len(messages), 12))
    _, at = read_length(messages, at + 1)
    size, at = read_length(messages, at + 1)
    _, at = read_length(messages, at + size + 1)
    return at


def _read_pdus(messages: Messages, data: np.ndarray) -> dict[str, np.ndarray]:
    n = len(messages)
    at = _find_pdu(messages)
    tag = np.where(data & (messages.u8(11) == 0x61), messages.u8(at), -1)
    _, body = read_length(messages, at + 1)
    size, number_at = read_length(messages, body + 1)
    numbered = np.isin(messages.u8(body), (0x02, 0x80)) & np.isin(tag, (0xA0, 0xA1, 0xA2, 0xA4))
    invoke = np.where(numbered, read_numbers(messages, number_at, size), -1)
    inner = np.where(numbered, number_at + size, body)
    first = messages.u8(inner)
    long = first & 0x1F == 0x1F
    service = np.where(long, messages.u8(inner + 1), first & 0x1F)
    _, inside = read_length(messages, inner + np.where(long, 2, 1))
    confirmed = np.isin(tag, (0xA0, 0xA1)) & (invoke >= 0)
    concludes = np.isin(tag, (0x8B, 0x8C, 0xAD))
    reports = tag == 0xA3
    asks, wrong = (confirmed & (tag == 0xA0)) | (tag == 0x8B), np.isin(tag, (0xA2, 0xA4))
    named = (confirmed & asks) | reports
    name_at, name_bytes = _find_name(messages, named, inner, inside)
    function = np.select([concludes, reports, confirmed & asks], [CONCLUDE, REPORT, service], -1)
    function = _read_commands(messages, function, name_at + name_bytes)
    cause = _find_failures(messages, reports, name_at)
    function = np.where(cause >= 0, _FAILED + cause, function)
    name_at, name_bytes = _find_reported(messages, reports, cause, name_at, name_bytes)
    answers = (confirmed & ~asks) | (wrong & (invoke >= 0)) | np.isin(tag, (0x8C, 0xAD))
    code = np.where(answers, 0, -1)
    results = answers & (tag == 0xA1) & np.isin(service, (_READ, _WRITE))
    code[results] = _read_results(
        messages.take(np.flatnonzero(results)), inner[results], service[results]
    )
    before = np.append(-1, np.where(cause[:-1] >= 0, ADDED + cause[:-1], -1))[:n]
    before = np.where(starts_run(messages.flow, messages.is_orig), -1, before)
    code = np.where((code > 0) & (service == _WRITE) & (before >= 0), before, code)
    code = np.where(answers & wrong, _read_error(messages, tag, inner), code)
    return {
        "role": np.select([asks, answers, reports], [ASK, ANSWER, TELL], SKIP),
        "key": np.where(concludes, _KEY + 1, invoke),
        "kind": np.where(function >= _FAILED, OTHER, select_kinds(function, _KINDS)),
        "function": function,
        "target": np.full(n, -1),
        "code": code,
        "name_at": name_at,
        "name_bytes": name_bytes,
    }


def _find_name(
    messages: Messages, named: np.ndarray, at: np.ndarray, inside: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where the first name in a service stands, header and all, and its bytes; that of an object in a
    domain is two names. Fields are walked in the order in which they stand, whatever holds them."""
    name_at, name_bytes = np.full(len(messages), -1), np.zeros(len(messages), np.int64)
    rows = np.flatnonzero(named)
    # The header of a service may itself be a name's: that of a file to be deleted is none.
    at = np.where(messages.u8(at) & 0x20 > 0, inside, at)[rows]
    for _ in range(_DEEPEST):
        if not len(rows):
            break
        some = messages.take(rows)
        tag = some.u8(at)
        size, body = read_length(some, at + 1)
        text = np.isin(tag, _NAMES) & (size > 0) & (some.u8(body) >= ord("$"))
        found = rows[text]
        name_at[found], end = at[text], (body + size)[text]
        pair = (tag[text] == 0x1A) & (messages.take(found).u8(end) == 0x1A)
        more, second = read_length(messages.take(found), end + 1)
        name_bytes[found] = np.where(pair, second + more, end) - at[text]
        goes_on = ~text & (tag >= 0)
        at = np.where(tag & 0x20 > 0, body, body + size)[goes_on]
        rows = rows[goes_on]
    return name_at, np.minimum(name_bytes, _NAME_BYTES)


def _read_commands(messages: Messages, function: np.ndarray, end: np.ndarray) -> np.ndarray:
    """What IEC 61850 means by reads and writes, by the ends of their names (8-1, 17 and 20)."""
    rows = np.flatnonzero(np.isin(function, (_READ, _WRITE)) & (end > 0))
    if not len(rows):
        return function
    tails = messages.take(rows).bytes(end[rows] - _TAIL_BYTES, _TAIL_BYTES)
    codes, texts = pd.factorize(tails.view(f"S{_TAIL_BYTES}").ravel().astype(object))
    writes = np.array([_mean_by_write(text) for text in texts])[codes]
    selects = np.array([b"$CO$" in text and text.endswith(b"$SBO") for text in texts])[codes]
    reads = np.where(selects, SELECT, _READ)
    function = function.copy()
    function[rows] = np.where(function[rows] == _WRITE, writes, reads)
    return function


def _mean_by_write(name: bytes) -> int:
    if b"$CO$" in name:
        return _COMMANDS.get(name.rsplit(b"$", 1)[-1], _WRITE)
    return SET_REPORT if _REPORT_BLOCK.search(name) else _WRITE


def _find_failures(messages: Messages, reports: np.ndarray, name_at: np.ndarray) -> np.ndarray:
    """The cause that a device adds to the failure of a command, which ends the report of it; -1 for
    any other message (8-1, 20.8)."""
    cause = np.full(len(messages), -1)
    rows = np.flatnonzero(reports & (name_at >= 0))
    some = messages.take(rows)
    mine = (some.bytes(name_at[rows], len(_LAST_ERROR)) == _LAST_ERROR).all(axis=1)
    mine &= some.u16(some.length - 3) == 0x8501
    added = some.u8(some.length - 1)
    cause[rows[mine]] = np.where(np.isin(added, list(CAUSES)), added, 0)[mine]
    return cause


def _find_reported(
    messages: Messages,
    reports: np.ndarray,
    cause: np.ndarray,
    name_at: np.ndarray,
    name_bytes: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The names of reports, and of the objects of failed commands: the first that these hold."""
    rows = np.flatnonzero(reports & (name_at >= 0))
    some = messages.take(rows)
    report = (some.bytes(name_at[rows], len(_REPORT_NAME)) == _REPORT_NAME).all(axis=1)
    mine = report | (cause[rows] >= 0)
    rows, some = rows[mine], some.take(np.flatnonzero(mine))
    _, at = read_length(some, name_at[rows] + name_bytes[rows] + 1)  # of the list of results
    inside = read_length(some, at + 1)[1]
    at = np.where(some.u8(at) == 0xA2, inside, at)
    size, body = read_length(some, at + 1)
    there = (some.u8(at) == 0x8A) & (size > 0)
    name_at[rows[there]] = at[there]
    name_bytes[rows[there]] = np.minimum((body + size - at)[there], _NAME_BYTES)
    return name_at, name_bytes


def _read_results(messages: Messages, at: np.ndarray, service: np.ndarray) -> np.ndarray:
    """The first error among the results of reads and writes; 0 for none."""
    code = np.zeros(len(messages), np.int64)
    size, at = read_length(messages, at + 1)
    end = at + size
    listed = service == _READ  # behind what was asked for, where it is repeated
    repeats = listed & (messages.u8(at) == 0xA0)
    skipped, body = read_length(messages, at + 1)
    at = np.where(repeats, body + skipped, at)
    at = np.where(listed, read_length(messages, at + 1)[1], at)
    rows = np.arange(len(messages))
    for _ in range(_MOST_ITEMS):
        some, here = messages.take(rows), at[rows]
        size, body = read_length(some, here + 1)
        code[rows] = np.where(some.u8(here) == 0x80, ACCESS + some.u8(body), code[rows])
        at[rows] = body + size
        rows = rows[(code[rows] == 0) & (at[rows] < end[rows]) & (some.u8(here) >= 0)]
        if not len(rows):
            break
    return code


def _read_error(messages: Messages, tag: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The code of an error, by class and number, or of a reject."""
    rejects = tag == 0xA4
    modified = ~rejects & (messages.u8(at) == 0x81)  # which modifier it is about comes first
    at = np.where(modified, at + 3, at)
    _, kind_at = read_length(messages, at + 1)
    _, number_at = read_length(messages, kind_at + 1)
    number = (
        SERVICE | (messages.u8(number_at) & 0x1F) << 8 | np.maximum(messages.u8(number_at + 2), 0)
    )
    return np.where(rejects, REJECT + np.maximum(messages.u8(at + 2), 0), number)


def _add_associations(messages: Messages, data: np.ndarray, columns: dict[str, np.ndarray]) -> None:
    """Fill in the rows of what opens, accepts, refuses and aborts associations."""
    kind = np.where(data, messages.u8(7), -1)
    asks, accepts = kind == _ASSOCIATES, kind == _ACCEPTS
    refuses, aborts = kind == _REFUSES, kind == _ABORTS
    early = aborts & ~share_flow(messages, accepts)
    mine = asks | accepts | refuses | aborts
    columns["role"] = np.select(
        [asks, accepts | refuses | early, aborts], [ASK, ANSWER, TELL], columns["role"]
    )
    columns["key"][mine] = _KEY
    columns["kind"][mine] = SESSION
    columns["function"][mine] = np.where(aborts, ABORT, INITIATE)[mine]
    columns["code"][mine] = np.select([refuses | early, accepts], [ASSOCIATION, 0], -1)[mine]
    some = np.flatnonzero(accepts)
    for row, text in zip(some, messages.take(some).bytes(0, 256), strict=True):
        found = _RESULT.search(text.tobytes())
        if found and found[1] != b"\0":
            columns["code"][row] = ASSOCIATION + found[2][0]


def _read_name(name: bytes) -> str:
    """A name as IEC 61850 writes it: the domain, then what is named in it.

    >>> _read_name(b"\\x1a\\4LD0A\\x1a\\7LLN0$BR")
    'LD0A/LLN0$BR'
    """
    parts = []
    while len(name) > 2 and name[0] in _NAMES:
        at = 2 if name[1] < 0x80 else 2 + (name[1] & 0x7F)
        size = name[1] if name[1] < 0x80 else int.from_bytes(name[2:at])
        parts.append(read_text(name[at : at + size]))
        name = name[at + size :]
    return "/".join(parts)


def _say_code(code: int, word: str) -> str:
    """An error as MMS names it; its numbers stand in no manual.

    >>> _say_code(0x10A, "object does not exist"), _say_code(0x2001, "rejected: unrecognized service")
    ('access error 10 (object does not exist)', 'rejected: unrecognized service')
    """
    return f"access error {code - ACCESS} ({word})" if code < SERVICE else word


_FIELDS = {0x80: "make", 0x81: "model", 0x82: "firmware"}


def _identify(messages: Messages) -> list[Identity]:
    """Vendor, model and revision, from answers to identify (ISO 9506-2, 10.4)."""
    at = _find_pdu(messages)
    _, body = read_length(messages, at + 1)
    size, at_number = read_length(messages, body + 1)
    inner = at_number + size
    tells = (messages.u32(7) == 0x01000100) & (messages.u8(at) == 0xA1)
    tells &= (messages.u8(body) == 0x02) & (messages.u8(inner) == 0xA0 + _IDENTIFY)
    found = list[Identity]()
    tells = first_alike(messages, tells, np.zeros(len(messages), np.int64))
    for message, text in select_distinct(messages, tells, 0, 512):
        text = text[int(inner[message]) :]
        text = text[2 if text[1] < 0x80 else 2 + (text[1] & 0x7F) :]
        while len(text) > 2 and text[0] in _FIELDS:
            value = text[2 : 2 + text[1]].strip()
            found += [Identity(message, _FIELDS[text[0]], value, "MMS identify")] if value else []
            text = text[2 + text[1] :]
    return found


MMS = Protocol(
    name="mms",
    decoder="tpkt",
    transports=(TCP,),
    ports=(),  # what is not understood at port 102 is counted by the reader of S7comm
    fits=_fits,
    message_bytes=message_bytes,
    head_bytes=HEAD_BYTES,
    read=_read,
    functions=FUNCTIONS,
    kinds=_KINDS,
    refusals=REFUSALS,
    interrupts=frozenset({41, 43, 44}),
    halts=frozenset({41, 44}),
    resumes=frozenset({40, 42}),
    busy=frozenset({ACCESS + 2, ADDED + 12, SERVICE | 0xB02, REJECT + 6, COTP_CODE + 129}),
    denied=frozenset(
        {
            ACCESS + 3,
            SERVICE | 0x703,
            SERVICE | 0xB06,
            ADDED + 20,
            *(ASSOCIATION + n for n in (11, 12, 13, 14)),
        }
    ),
    failed=frozenset({ACCESS + 1, SERVICE | 2}),
    say_code=_say_code,
    read_name=_read_name,
    wait_s=5.0,
    identify=_identify,
)
