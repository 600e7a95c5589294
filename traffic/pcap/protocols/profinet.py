"""PROFINET over Ethernet: DCP, which finds and names stations, and their alarms; cyclic data is not
read.

IEC 61158-6-10: 4.3 (DCP), 4.7 (RTA).
"""

import ipaddress
from collections.abc import Iterator

import numpy as np
import pandas as pd

from traffic.pcap.messages import Messages
from traffic.pcap.protocols.protocol import (
    ANSWER,
    ASK,
    CONTROL,
    ETHERNET,
    IDENTIFY,
    OTHER,
    READ,
    SKIP,
    TELL,
    WRITE,
    Heads,
    Identity,
    Protocol,
    make_rows,
    select_distinct,
)

_HELLO, _GET_SET, _ASKED, _FOUND = 0xFEFC, 0xFEFD, 0xFEFE, 0xFEFF
_ALARM_HIGH, _ALARM_LOW = 0xFC01, 0xFE01
GET, SET, FIND, HELLO = 3, 4, 5, 6
ALARM = 256  # what is added to an alarm's type
_ALARMS = {
    1: "diagnosis", 2: "process", 3: "pull", 4: "plug", 5: "status", 6: "update", 7: "redundancy",
    8: "controlled by supervisor", 9: "released", 10: "wrong submodule plugged", 11: "return of submodule",
    12: "diagnosis disappears", 14: "port data change", 15: "sync data change", 31: "pull module",
}  # fmt: skip
FUNCTIONS = {
    GET: "get", SET: "set", FIND: "identify", HELLO: "hello",
    ALARM: "alarm", **{ALARM + kind: f"alarm: {words}" for kind, words in _ALARMS.items()},
}  # fmt: skip
NOT_SUPPORTED = 255
RTA_ERROR = 256  # what an alarm's partner answers when it gives up
REFUSALS = {
    1: "option not supported", 2: "suboption not supported or no data", 3: "suboption not set", 4: "resource error",
    5: "not possible for local reasons", 6: "not possible while in operation",
    NOT_SUPPORTED: "service not supported", RTA_ERROR: "connection given up",
}  # fmt: skip
_BLOCKS = 12  # where the blocks begin
_MOST_BLOCKS = 4  # of a set, that are asked for an error
_IP, _DEVICE, _CONTROL = 1, 2, 5
_VENDOR, _STATION, _IDS = 1, 2, 3  # suboptions of a device
_SIGNAL, _RESPONSE, _FACTORY_RESET, _RESET = 3, 4, 5, 6  # suboptions of control
_DATA, _NACK, _ERR = 1, 2, 4  # PDU types of alarms
_LONGEST = 512
_NAME_BYTES = 64
_SELDOM_S = 20.0  # controllers look for a missing station every few seconds
# Makers by PNO's number (profibus.com, vendor ids), the usual ones.
_VENDORS = {
    0x002A: "Siemens", 0x00B0: "Phoenix Contact", 0x011D: "WAGO", 0x0120: "Beckhoff", 0x011E: "Hilscher",
}  # fmt: skip


def _fits(heads: Heads) -> np.ndarray:
    """Frame identifiers that the standard gives a meaning (4.2.1.1)."""
    head = heads.first.astype(np.int64)
    number = head[:, 0] << 8 | head[:, 1]
    acyclic = np.isin(number, (_HELLO, _GET_SET, _ASKED, _FOUND, _ALARM_HIGH, _ALARM_LOW))
    cyclic = (number >= 0x0100) & (number < 0xFC00)
    return acyclic | cyclic | (number >= 0xFF00) | (number == 0x0020) | (number == 0x0080)


def _read(messages: Messages) -> pd.DataFrame:
    """A row per message of DCP, and per alarm; the key is the transaction. ``target`` is option and
    suboption of the first block, for an alarm the slot; ``value`` is 1 for an alarm of high
    priority."""
    number = messages.u16(0)
    dcp, alarm = (number >= _HELLO) & (number <= _FOUND), np.isin(number, (_ALARM_HIGH, _ALARM_LOW))
    service, answers = messages.u8(2), dcp & (messages.u8(3) != 0)
    option, suboption, size = (
        messages.u8(_BLOCKS),
        messages.u8(_BLOCKS + 1),
        messages.u16(_BLOCKS + 2),
    )
    blocks = dcp & (messages.u16(10) > 0)
    station = blocks & (option == _DEVICE) & (suboption == _STATION)
    # What a set writes comes after a qualifier, what answers after an information, of two bytes.
    before = np.where((service == FIND) & ~answers, 0, 2)
    # Who looks for one station waits for it; who looks for all takes what comes.
    looks = dcp & (service == FIND)
    asks = dcp & ~answers & (np.isin(service, (GET, SET)) | (looks & station))
    tells = dcp & ((service == HELLO) | (looks & ~answers & ~station))
    kind = messages.u8(6) & 15
    data = alarm & (kind == _DATA)
    resets = blocks & (option == _CONTROL) & np.isin(suboption, (_FACTORY_RESET, _RESET))
    unsupported = answers & (messages.u8(3) == 5)
    refused = alarm & np.isin(kind, (_NACK, _ERR))
    role = np.select([asks, answers, tells | data | refused], [ASK, ANSWER, TELL], SKIP)
    return make_rows(
        messages,
        role,
        key=messages.u32(4) << 8 | np.maximum(service, 0),
        kind=np.select(
            [alarm, resets, service == SET, service == GET], [OTHER, CONTROL, WRITE, READ], IDENTIFY
        ),
        function=np.where(alarm, ALARM + np.where(data, messages.u16(20), 0), service),
        target=np.select([alarm, blocks], [messages.u16(26), option << 8 | suboption], -1),
        code=np.select(
            [asks, unsupported, answers & (service == SET), refused],
            [-1, NOT_SUPPORTED, _find_errors(messages), RTA_ERROR],
            0,
        ),
        value=np.where(alarm, number == _ALARM_HIGH, -1),
        patient=asks & looks & _checks_itself(messages, asks & looks, ~asks & looks, size),
        name_at=np.where(station, _BLOCKS + 4 + before, -1),
        name_bytes=np.clip(size - before, 0, 240),
    )


def _checks_itself(
    messages: Messages, asks: np.ndarray, answers: np.ndarray, size: np.ndarray
) -> np.ndarray:
    """Whether a station that asks for a name seems to ask for its own, which nobody may answer: it
    asks for one name alone, seldom, and nobody has it, shape (n,)."""
    texts = messages.bytes(_BLOCKS + 4, _NAME_BYTES)
    texts *= np.arange(_NAME_BYTES) < size[:, None]
    name = pd.factorize(texts.view(f"S{_NAME_BYTES}").ravel().astype(object))[0]
    rows = pd.DataFrame(
        {"src": messages.of_packet("src"), "name": name, "ts": messages.of_packet("ts")}
    )[asks]
    by_station = rows.groupby("src")
    seldom = by_station["ts"].transform(np.ptp) >= _SELDOM_S * (
        by_station["ts"].transform("size") - 1
    )
    alone = by_station["name"].transform("nunique") == 1
    answered = set(messages.u32(4)[answers].tolist())
    unknown = ~np.isin(messages.u32(4)[asks], list(answered))
    out = np.zeros(len(messages), bool)
    out[asks] = (seldom & alone).to_numpy() & unknown
    return out


def _find_errors(messages: Messages) -> np.ndarray:
    """The first error among the blocks with which a set is answered, 0 for none."""
    error, at = np.zeros(len(messages), np.int64), np.full(len(messages), _BLOCKS)
    end = _BLOCKS + messages.u16(10)
    for _ in range(_MOST_BLOCKS):
        there = at + 7 <= end
        answers = there & (messages.u8(at) == _CONTROL) & (messages.u8(at + 1) == _RESPONSE)
        error = np.where(answers & (error == 0), np.maximum(messages.u8(at + 6), 0), error)
        size = np.maximum(messages.u16(at + 2), 0)
        at = at + 4 + size + (size & 1)
    return error


def _identify(messages: Messages) -> list[Identity]:
    """Type and name of stations that answer or say hello."""
    number, service = messages.u16(0), messages.u8(2)
    dcp = (number >= _HELLO) & (number <= _FOUND) & np.isin(service, (GET, FIND, HELLO))
    speaks = dcp & ((messages.u8(3) == 1) | (service == HELLO))
    found = []
    for message, body in select_distinct(messages, speaks, 10, _LONGEST):
        said: list[tuple[str, bytes | str]] = []
        address = ""
        for option, suboption, value in _walk(body):
            if option == _IP and suboption == 2 and len(value) >= 4 and any(value[:4]):
                address = str(ipaddress.ip_address(value[:4]))
            elif option == _DEVICE and suboption == _VENDOR:
                said.append(("model", value))
            elif option == _DEVICE and suboption == _STATION:
                said.append(("name", value))
            elif option == _DEVICE and suboption == _IDS and len(value) == 4:
                said.append(("make", _VENDORS.get(int.from_bytes(value[:2]), "")))
        found += [Identity(message, field, value, "PROFINET DCP", address) for field, value in said]
    return found


def _walk(body: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Option, suboption and content of each block, after the length of all."""
    at, end = 2, min(2 + int.from_bytes(body[:2]), len(body))
    while at + 4 <= end:
        size = int.from_bytes(body[at + 2 : at + 4])
        yield body[at], body[at + 1], body[at + 6 : min(at + 4 + size, end)]
        at += 4 + size + (size & 1)


PROFINET = Protocol(
    name="profinet",
    title="PROFINET",
    layer="pn_dcp",
    transports=(ETHERNET,),
    ports=(0x8892,),
    fits=_fits,
    read=_read,
    functions=FUNCTIONS,
    refusals=REFUSALS,
    interrupts=frozenset({SET}),
    broadcasts=True,
    identify=_identify,
)
