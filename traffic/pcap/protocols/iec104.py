"""IEC 60870-5-104: commands and interrogations with what confirms or refuses them, data that is
told, and the session of a station.

IEC 60870-5-104, 5 (APCI), and -101, 7.2 (ASDU).
"""

import numpy as np
import pandas as pd

from traffic.pcap.headers import TCP
from traffic.pcap.messages import Messages
from traffic.pcap.protocols.protocol import (
    ANSWER,
    ASK,
    CONTROL,
    OTHER,
    PUBLISH,
    READ,
    SESSION,
    SKIP,
    TELL,
    WRITE,
    Heads,
    Protocol,
    make_rows,
)
from traffic.pcap.protocols.written import IEC104_VALUED, read_iec104

UNNUMBERED = 256  # what is added to the control byte of a U frame
_STARTS, _STOPS, _TESTS = 0x07, 0x13, 0x43  # and what confirms each
_CONFIRMS = {0x0B: _STARTS, 0x23: _STOPS, 0x83: _TESTS}
FUNCTIONS = {
    1: "single point", 3: "double point", 5: "step position", 7: "bit string", 9: "normalized value",
    11: "scaled value", 13: "float value", 15: "counter", 30: "single point with time", 31: "double point with time",
    32: "step position with time", 33: "bit string with time", 34: "normalized value with time",
    35: "scaled value with time", 36: "float value with time", 37: "counter with time", 38: "protection event",
    45: "single command", 46: "double command", 47: "step command", 48: "set normalized value",
    49: "set scaled value", 50: "set float value", 51: "set bit string", 58: "single command with time",
    59: "double command with time", 60: "step command with time", 61: "set normalized value with time",
    62: "set scaled value with time", 63: "set float value with time", 64: "set bit string with time",
    70: "end of initialization", 100: "interrogation", 101: "counter interrogation", 102: "read",
    103: "clock synchronization", 105: "reset process", 107: "test", 110: "set normalized parameter",
    111: "set scaled parameter", 112: "set float parameter", 113: "activate parameter", 120: "file ready",
    121: "section ready", 122: "call file", 123: "last section", 124: "acknowledge file", 125: "segment",
    126: "directory",
    UNNUMBERED + _STARTS: "start data transfer", UNNUMBERED + _STOPS: "stop data transfer",
    UNNUMBERED + _TESTS: "test frame",
}  # fmt: skip
NEGATIVE = 1
REFUSALS = {
    NEGATIVE: "negative confirmation", 44: "unknown type", 45: "unknown cause", 46: "unknown station (common address)",
    47: "unknown object (information object address)",
}  # fmt: skip
_RESET, _READ, _INITIALIZED = 105, 102, 70
_READS = (100, 101, _READ)
_WRITES = (*range(45, 52), *range(58, 65), 103, *range(110, 114))
_KNOWN = (*range(1, 22), *range(30, 42), *range(45, 52), *range(58, 65), 70, *range(100, 108), *range(110, 114),
          *range(120, 128))  # fmt: skip
# Causes of transmission (-101, 7.2.3).
_REQUEST, _ACT, _ACT_CON, _DEACT, _DEACT_CON, _TERM = 5, 6, 7, 8, 9, 10
# Where in an ASDU the byte with the bit "select" stands.
_SELECTS = {**dict.fromkeys((45, 46, 47, 58, 59, 60), 15), **dict.fromkeys((48, 49, 61, 62), 17),
            **dict.fromkeys((50, 63), 19)}  # fmt: skip


def _message_bytes(head: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Start byte, a length, and control bytes of an I, S or U frame; an ASDU of a known type."""
    size, control = head[:, 1], head[:, 2]
    rest = head[:, 3] | head[:, 4] | head[:, 5]
    bare = size == 4
    unnumbered = bare & (rest == 0) & np.isin(control, (*_CONFIRMS, *_CONFIRMS.values()))
    supervisory = bare & (control == 1) & (head[:, 3] == 0) & (head[:, 4] & 1 == 0)
    numbered = (size >= 10) & (size <= 253) & (control & 1 == 0) & (head[:, 4] & 1 == 0)
    numbered &= (np.isin(head[:, 6], _KNOWN) & (head[:, 8] & 63 > 0)) | (known < 9)
    good = (head[:, 0] == 0x68) & (unnumbered | supervisory | numbered) & (known >= 6)
    return np.where(good, 2 + size, 0)


def _fits(heads: Heads) -> np.ndarray:
    """The first payload of each side that spoke begins with such a message."""
    good = heads.payload >= 6
    for head, payload in ((heads.orig, heads.orig_payload), (heads.resp, heads.resp_payload)):
        length = _message_bytes(head.astype(np.int64), np.minimum(payload, head.shape[1]))
        good &= (length > 0) | (payload == 0)
    return good


def _read(messages: Messages) -> pd.DataFrame:
    """A row per ASDU and U frame; ``unit`` is the station's common address, ``target`` the first
    object's address, ``value`` 1 where a command selects before it executes."""
    control = messages.u8(2)
    numbered, unnumbered = control & 1 == 0, control & 3 == 3
    kind, cause = messages.u8(6), messages.u8(8)
    negative, cause = cause & 0x40 > 0, cause & 63
    station, target = messages.u16(10, "<"), messages.number(12, 3, "<")
    command = numbered & (kind >= 45) & (kind != _INITIALIZED) & (kind < 120)
    wrong = np.isin(cause, (44, 45, 46, 47))
    asks = command & np.isin(cause, (_ACT, _DEACT)) | (
        numbered & (kind == _READ) & (cause == _REQUEST)
    )
    answers = command & (np.isin(cause, (_ACT_CON, _DEACT_CON)) | wrong)
    data = numbered & ~command
    read = data & (kind < 45) & (cause == _REQUEST)  # what was read has the type of its data
    confirms = unnumbered & np.isin(control, list(_CONFIRMS))
    asked = control.copy()
    for answer, ask in _CONFIRMS.items():
        asked[control == answer] = ask
    role = np.select(
        [asks, answers | read, data, confirms, unnumbered], [ASK, ANSWER, TELL, ANSWER, ASK], SKIP
    )
    function = np.where(unnumbered, UNNUMBERED + asked, kind)
    select = np.full(len(messages), -1)
    for number, at in _SELECTS.items():
        select = np.where(command & (kind == number), messages.u8(at) >> 7, select)
    ends = np.maximum(station, 0) << 24 | np.maximum(target, 0)
    return make_rows(
        messages,
        role,
        key=np.where(unnumbered, function << 48, np.where(read, _READ, kind) << 48 | ends),
        kind=np.select(
            [unnumbered | (kind == _INITIALIZED), kind == _RESET, np.isin(kind, _WRITES),
             np.isin(kind, _READS), data & (kind < 45)],
            [SESSION, CONTROL, WRITE, READ, PUBLISH],
            OTHER,
        ),
        function=function,
        unit=np.where(numbered, station, -1),
        target=np.where(numbered, target, -1),
        code=np.select([role == ASK, wrong & answers, negative & answers], [-1, cause, NEGATIVE], 0),
        value=select,
        data_at=np.where(asks & np.isin(kind, list(IEC104_VALUED)) & (messages.held >= 15), 6, -1),
    )  # fmt: skip


IEC104 = Protocol(
    name="iec104",
    title="IEC 104",
    layer="iec60870_104",
    transports=(TCP,),
    ports=(2404,),
    fits=_fits,
    anywhere=True,
    message_bytes=_message_bytes,
    head_bytes=9,
    read=_read,
    functions=FUNCTIONS,
    refusals=REFUSALS,
    function_field="iec60870_asdu.typeid",
    read_points=read_iec104,
    interrupts=frozenset({_RESET}),
    starts=frozenset({UNNUMBERED + _STARTS}),
    stops=frozenset({UNNUMBERED + _STOPS}),
    wait_s=15.0,  # t1 (-104, 9.6)
)
