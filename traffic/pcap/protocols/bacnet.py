"""BACnet/IP: requests by service and object, errors, rejections and aborts by reason, and what
devices say of themselves.

ANSI/ASHRAE 135: clause 20 (APDU), 6 (network layer), annex J (BACnet/IP).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from traffic.pcap.headers import UDP
from traffic.pcap.messages import Messages
from traffic.pcap.protocols.protocol import (
    ANSWER,
    ASK,
    CONTROL,
    IDENTIFY,
    PUBLISH,
    READ,
    SKIP,
    TELL,
    WRITE,
    Heads,
    Identity,
    Protocol,
    make_rows,
    select_distinct,
    select_kinds,
)
from traffic.pcap.protocols.written import read_bacnet

UNCONFIRMED = 256  # what is added to the service of a request that nobody confirms
SERVICES = {
    0: "acknowledge alarm", 1: "confirmed COV notification", 2: "confirmed event notification",
    3: "get alarm summary", 4: "get enrollment summary", 5: "subscribe COV", 6: "read file", 7: "write file",
    8: "add list element", 9: "remove list element", 10: "create object", 11: "delete object",
    12: "read property", 14: "read property multiple", 15: "write property", 16: "write property multiple",
    17: "device communication control", 18: "confirmed private transfer", 19: "confirmed text message",
    20: "reinitialize device", 26: "read range", 27: "life safety operation", 28: "subscribe COV property",
    29: "get event information", 256: "I-Am", 257: "I-Have", 258: "COV notification", 259: "event notification",
    260: "private transfer", 261: "text message", 262: "time synchronization", 263: "Who-Has", 264: "Who-Is",
    265: "UTC time synchronization", 266: "write group",
}  # fmt: skip
_KINDS = {
    READ: (3, 4, 5, 6, 12, 13, 14, 26, 28, 29),
    WRITE: (7, 8, 9, 10, 11, 15, 16, 262, 265, 266),
    CONTROL: (17, 20, 27),
    PUBLISH: (1, 2, 258, 259),
    IDENTIFY: (256, 257, 263, 264),
}
_READ_PROPERTY, _READ_MULTIPLE, _WRITE_PROPERTY, _I_AM = 12, 14, 15, 256

# Error, Reject and Abort number their reasons each by itself: these are added.
ERROR, REJECT, ABORT = 1000, 2000, 3000
_ERRORS = {
    0: "other", 2: "configuration in progress", 3: "device busy", 5: "file access denied", 9: "invalid data type",
    16: "missing required parameter", 18: "no space for object", 20: "no space to write property",
    25: "operational problem", 26: "password failure", 27: "read access denied", 29: "service request denied",
    30: "timeout", 31: "unknown object", 32: "unknown property", 36: "unsupported object type",
    37: "value out of range", 40: "write access denied", 42: "invalid array index", 43: "COV subscription failed",
    45: "optional functionality not supported", 47: "datatype not supported", 50: "property is no array",
    70: "unknown device", 71: "unknown route", 72: "value not initialized", 80: "parameter out of range",
    82: "busy", 83: "communication disabled", 85: "access denied", 110: "not router to that network",
    111: "router busy",
}  # fmt: skip
_REJECTS = {
    0: "other", 1: "buffer overflow", 2: "inconsistent parameters", 3: "invalid parameter data type",
    4: "invalid tag", 5: "missing required parameter", 6: "parameter out of range", 7: "too many arguments",
    8: "undefined enumeration", 9: "unrecognized service",
}  # fmt: skip
_ABORTS = {
    0: "other", 1: "buffer overflow", 2: "invalid message in this state", 3: "preempted by a task of higher priority",
    4: "segmentation not supported", 5: "security error", 6: "insufficient security", 7: "window size out of range",
    8: "application exceeded reply time", 9: "out of resources", 10: "timeout of a transaction", 11: "message too long",
}  # fmt: skip
REFUSALS = {
    base + code: f"{kind}: {words}"
    for base, kind, table in (
        (ERROR, "error", _ERRORS),
        (REJECT, "rejected", _REJECTS),
        (ABORT, "aborted", _ABORTS),
    )
    for code, words in table.items()
}
_OBJECTS = {
    0: "analog-input", 1: "analog-output", 2: "analog-value", 3: "binary-input", 4: "binary-output", 5: "binary-value",
    6: "calendar", 8: "device", 10: "file", 12: "loop", 13: "multi-state-input", 14: "multi-state-output",
    15: "notification-class", 16: "program", 17: "schedule", 19: "multi-state-value", 20: "trend-log",
}  # fmt: skip
_DEVICE = 8
_PROPERTIES = {
    121: "make", 70: "model", 44: "firmware", 12: "software", 77: "name", 372: "serial",
}  # fmt: skip
# Makers by ASHRAE's number (bacnet.org/assigned-vendor-ids), the usual ones.
_VENDORS = {
    2: "Trane", 3: "Daikin Applied", 5: "Johnson Controls", 6: "ABB", 7: "Siemens", 8: "Delta Controls", 9: "Siemens",
    10: "Schneider Electric", 14: "Cimetrics", 15: "Cornell University", 16: "Carrier", 17: "Honeywell",
    18: "Alerton / Honeywell", 19: "TAC", 22: "Siemens", 23: "York", 24: "Automated Logic", 26: "Phoenix Controls",
    28: "KMC Controls", 35: "Reliable Controls", 36: "Tridium", 39: "Kieback & Peter", 53: "Daikin", 73: "ABB",
    80: "Sauter", 82: "Mitsubishi Electric", 85: "Yamatake", 89: "Saia-Burgess Controls", 90: "Hitachi", 91: "Trend",
    98: "Toshiba", 99: "Mitsubishi Electric", 105: "Priva", 113: "Vertiv", 123: "Scada Engine", 127: "ABB",
    140: "Viconics", 141: "Yaskawa", 142: "DEOS", 160: "Rockwell Automation", 171: "ABB Cylon", 176: "Lutron",
    178: "LOYTEC", 190: "Danfoss Drives", 191: "Eaton", 222: "WAGO", 226: "Phoenix Contact", 227: "Grundfos",
    233: "Red Lion", 245: "Contemporary Controls", 251: "WILO", 264: "Regin", 284: "BELIMO", 313: "Siemens",
    332: "Distech Controls", 335: "Schneider Electric", 364: "Distech Controls", 389: "Chipkin", 415: "Beckhoff",
    423: "BELIMO", 432: "LG Electronics", 434: "Mitsubishi Electric", 502: "EasyIO", 1096: "Moxa",
    1210: "Bosch Rexroth",
}  # fmt: skip

_BVLC, _FORWARDED = 0x81, 4
# What carries a network message (J.2): forwarded, distributed, unicast, broadcast.
_CARRIERS = (_FORWARDED, 9, 10, 11)
_CONFIRMED, _UNCONFIRMED, _SIMPLE, _COMPLEX, _SEGMENT, _ERROR, _REJECT, _ABORT = range(8)
_LONGEST = 1500


def _fits(heads: Heads) -> np.ndarray:
    """The link layer's type, function and length (J.2), and version 1 of the network layer."""
    head = heads.first.astype(np.int64)
    carries = np.isin(head[:, 1], _CARRIERS)
    version = np.where(head[:, 1] == _FORWARDED, head[:, 10], head[:, 4])
    size = head[:, 2] << 8 | head[:, 3]
    good = (head[:, 0] == _BVLC) & (head[:, 1] <= 11) & (size == heads.payload)
    return good & (~carries | (version == 1))


@dataclass(frozen=True)
class _Apdus:
    """Where the application's part of each message is, and its ends beyond the network, shape (n,)
    each.

    Attributes:
        carries: whether there is one.
        at: its first byte.
        to, by: network and last byte of the address that it goes to and comes from; 0 for this
            network.
    """

    carries: np.ndarray
    at: np.ndarray
    to: np.ndarray
    by: np.ndarray


def _find_apdus(messages: Messages) -> _Apdus:
    function = messages.u8(1)
    npdu = np.where(function == _FORWARDED, 10, 4)
    control = messages.u8(npdu + 1)
    carries = np.isin(function, _CARRIERS) & (messages.u8(npdu) == 1) & (control >= 0)
    at = npdu + 2
    ends = []
    for bit in (0x20, 0x08):  # 6.2.2: destination, then source; each network, length, address
        there = carries & (control & bit > 0)
        size = np.where(there, np.maximum(messages.u8(at + 2), 0), 0)
        last = np.where(size > 0, messages.u8(at + 2 + size), 0)
        ends.append(np.where(there, messages.u16(at) << 8 | np.maximum(last, 0), 0))
        at = np.where(there, at + 3 + size, at)
    at = at + (carries & (control & 0x20 > 0))  # the hop count
    carries &= (control & 0x80 == 0) & (messages.held > at)
    return _Apdus(carries, at, *ends)


def _read(messages: Messages) -> pd.DataFrame:
    """A row per message; the key is the invoke id with the ends beyond routers. ``unit`` is the last
    byte of the address of a device behind a router, ``target`` the first object that a request
    names, ``value`` its property."""
    apdus = _find_apdus(messages)
    at, kind = apdus.at, np.where(apdus.carries, messages.u8(apdus.at) >> 4, -1)
    flags = messages.u8(at)
    asks, tells = kind == _CONFIRMED, kind == _UNCONFIRMED
    answers = np.isin(kind, (_SIMPLE, _COMPLEX, _ERROR, _REJECT, _ABORT))
    segmented = np.isin(kind, (_CONFIRMED, _COMPLEX)) & (flags & 8 > 0)
    invoke = messages.u8(np.where(asks, at + 2, at + 1))
    # Later segments belong to the first one.
    first = ~segmented | (messages.u8(np.where(asks, at + 3, at + 2)) == 0)
    service_at = np.select([asks, tells], [at + 3, at + 1], at + 2) + 2 * segmented
    service = np.where(np.isin(kind, (_REJECT, _ABORT)), -1, messages.u8(service_at))
    function = np.where(tells & (service >= 0), service + UNCONFIRMED, service)
    body = service_at + 1
    # 0x0C: an object in the first context tag; 0x91: an enumerated number, class before code.
    named = asks & (messages.u8(body) == 0x0C)
    listed = named & (messages.u8(body + 5) == 0x1E)  # property references in a list
    tag = messages.u8(body + 5 + listed)
    wide = (tag == 0x1A) | (tag == 0x0A)
    numbered = named & (np.isin(tag, (0x19, 0x09)) | wide)
    number_at = body + 6 + listed
    number = np.where(wide, messages.u16(number_at), messages.u8(number_at))
    after = body + np.where(messages.u8(body) == 0x0E, 1, 0)  # some services wrap their error
    error = np.where(
        messages.u8(after + 2) == 0x92, messages.u16(after + 3), messages.u8(after + 3)
    )
    code = np.select(
        [kind == _ERROR, kind == _REJECT, kind == _ABORT],
        [ERROR + np.maximum(error, 0), REJECT + messages.u8(at + 2), ABORT + messages.u8(at + 2)],
        0,
    )
    role = np.select([asks, answers, tells], [ASK, ANSWER, TELL], SKIP)
    client, server = np.where(answers, apdus.to, apdus.by), np.where(answers, apdus.by, apdus.to)
    return make_rows(
        messages,
        np.where(first, role, SKIP),
        key=np.maximum(invoke, 0) << 48 | client << 24 | server,
        kind=select_kinds(function, _KINDS),
        function=function,
        unit=np.where(server > 0, server & 0xFF, -1),
        target=np.where(named, messages.u32(body + 1), -1),
        code=np.where(asks, -1, code),
        value=np.where(numbered, number, -1),
        data_at=np.where(named & ~segmented & (function == _WRITE_PROPERTY), body, -1),
    )


def _name_target(target: int) -> str:
    """An object as type and instance (20.2.14).

    >>> _name_target(8 << 22 | 721)
    'device 721'
    """
    kind = target >> 22
    return f"{_OBJECTS.get(kind, f'object type {kind}')} {target & 0x3FFFFF}"


def _identify(messages: Messages) -> list[Identity]:
    """The maker in an I-Am, and what was read of device objects."""
    apdus = _find_apdus(messages)
    kind = np.where(apdus.carries, messages.u8(apdus.at) >> 4, -1)
    second, third = messages.u8(apdus.at + 1), messages.u8(apdus.at + 2)
    announces = (kind == _UNCONFIRMED) & (second == _I_AM - UNCONFIRMED)
    reads = (kind == _COMPLEX) & np.isin(third, (_READ_PROPERTY, _READ_MULTIPLE))
    forwarded, origin = messages.u8(1) == _FORWARDED, messages.bytes(4, 4)
    found = []
    for which, source in ((announces, "BACnet I-Am"), (reads, "BACnet device object")):
        for message, body in select_distinct(messages, which, 4, _LONGEST):
            device = ".".join(map(str, origin[message])) if forwarded[message] else ""
            unit = int(apdus.by[message]) & 0xFF if apdus.by[message] else -1
            apdu = body[int(apdus.at[message]) - 4 :]
            said = _read_i_am(apdu[2:]) if source == "BACnet I-Am" else _read_object(apdu[3:])
            found += [
                Identity(message, field, value, source, device, unit) for field, value in said
            ]
    return found


def _read_i_am(body: bytes) -> Iterator[tuple[str, str]]:
    """Object, longest message, segmentation, vendor (16.10)."""
    values = [value for number, is_context, value in _walk(body) if not is_context and number]
    if len(values) >= 4:
        vendor = int.from_bytes(values[3])
        yield "make", _VENDORS.get(vendor, f"BACnet vendor {vendor}")


def _read_object(body: bytes) -> Iterator[tuple[str, bytes]]:
    """Texts among the properties of a device object, of ReadProperty and of ReadPropertyMultiple."""
    device, field = False, None
    for number, is_context, value in _walk(body):
        if is_context and number == 0 and len(value) == 4:
            device = int.from_bytes(value) >> 22 == _DEVICE
        elif is_context and number in (1, 2):
            field = _PROPERTIES.get(int.from_bytes(value))
        elif not is_context and number == 7 and value[:1] == b"\0" and device and field:
            yield field, value[1:]


def _walk(body: bytes) -> Iterator[tuple[int, bool, bytes]]:
    """Number, context or application, and content of each tag (20.2.1); what opens and closes is
    left out."""
    at = 0
    while at < len(body):
        number, is_context, size = body[at] >> 4, bool(body[at] & 8), body[at] & 7
        at += 1
        if is_context and size in (6, 7):
            continue
        if size == 5:
            if at >= len(body):
                return
            size, at = body[at], at + 1
            if size == 254:
                size, at = int.from_bytes(body[at : at + 2]), at + 2
        if number == 1 and not is_context:  # a boolean is its own length
            size = 0
        if at + size > len(body):
            return
        yield number, is_context, body[at : at + size]
        at += size


BACNET = Protocol(
    name="bacnet",
    title="BACnet",
    layer="bacapp",
    transports=(UDP,),
    ports=(47808,),
    fits=_fits,
    anywhere=True,
    read=_read,
    functions=SERVICES,
    kinds=_KINDS,
    refusals=REFUSALS,
    interrupts=frozenset({17, 20}),
    busy=frozenset({ERROR + 2, ERROR + 3, ERROR + 82, ERROR + 111, ABORT + 9}),
    name_target=_name_target,
    read_points=lambda data: read_bacnet(data, _name_target, _walk),
    wait_s=10.0,  # APDU_Timeout is 6 s by default, 3 tries (12.11.28)
    identify=_identify,
)
