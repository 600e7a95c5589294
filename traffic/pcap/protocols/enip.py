"""EtherNet/IP: sessions, and the CIP requests and responses that it carries.

Volume 2 of the CIP Networks Library (ODVA), chapter 2. All numbers have their low byte first:

    command 2 | length 2 | session 4 | status 4 | context of the sender 8 | options 4 | data

Data that is exchanged without being asked for (implicit I/O, UDP port 2222) is recognised as
``cip``, and not read.
"""

import numpy as np
import pandas as pd

from traffic.pcap.headers import TCP, UDP
from traffic.pcap.messages import Messages
from traffic.pcap.protocols import cip
from traffic.pcap.protocols.protocol import (
    ANSWER,
    ASK,
    IDENTIFY,
    OTHER,
    SESSION,
    SKIP,
    TELL,
    Heads,
    Identity,
    Protocol,
    first_alike,
    make_rows,
    select_distinct,
)
from traffic.pcap.protocols.written import read_tag

_HEAD = 24
_NOP, _LIST_TARGETS, _LIST_SERVICES, _LIST_IDENTITY, _LIST_INTERFACES = 0x00, 0x01, 0x04, 0x63, 0x64
_REGISTER, _UNREGISTER, _SEND, _SEND_CONNECTED = 0x65, 0x66, 0x6F, 0x70
_COMMANDS = (_NOP, _LIST_TARGETS, _LIST_SERVICES, _LIST_IDENTITY, _LIST_INTERFACES, _REGISTER,
             _UNREGISTER, _SEND, _SEND_CONNECTED)  # fmt: skip
_COMMAND = 0x1000000  # added to a command, apart from services of CIP
_FUNCTIONS = {
    _LIST_TARGETS: "list targets",
    _LIST_SERVICES: "list services",
    _LIST_IDENTITY: "list identity",
    _LIST_INTERFACES: "list interfaces",
    _REGISTER: "register session",
    _UNREGISTER: "unregister session",
    _SEND: "send",
    _SEND_CONNECTED: "send on a connection",
}
# Table 2-3.3; in ``code`` apart from statuses of CIP.
_STATUS = {
    0x01: "invalid command",
    0x02: "no memory",
    0x03: "incorrect data",
    0x64: "invalid session handle",
    0x65: "invalid length",
    0x69: "protocol revision not supported",
    0x6A: "CIP service not allowed on this port",
}
_STATUS_CODE = 0x2000000
_CONNECTED, _UNCONNECTED, _SEQUENCED, _IDENTITY_ITEM = 0xB1, 0xB2, 0x8002, 0x0C
# ODVA's vendor numbers of makers that are met most; others are told by their number.
_VENDORS = {
    1: "Rockwell Automation/Allen-Bradley", 5: "Rockwell Automation/Reliance", 26: "Festo",
    40: "WAGO", 42: "Pyromation", 44: "Hitachi", 47: "OMRON", 48: "Turck", 49: "Danfoss",
    50: "HMS Networks", 58: "ProSoft Technology", 67: "ABB Robotics", 90: "HMS Industrial Networks",
    108: "Beckhoff", 161: "Mitsubishi Electric", 243: "Schneider Electric", 252: "Keyence",
    283: "Hilscher", 345: "Balluff", 356: "Fanuc Robotics America", 678: "Cognex",
    808: "SICK", 1251: "Siemens", 1105: "Bosch Rexroth",
}  # fmt: skip


def _message_bytes(head: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A known command, a plausible status, no options (2-3.2)."""
    command, length = head[:, 0] | head[:, 1] << 8, head[:, 2] | head[:, 3] << 8
    status = head[:, 8] | head[:, 9] << 8 | head[:, 10] << 16 | head[:, 11] << 24
    good = np.isin(command, _COMMANDS) | (known < 2)
    good &= (known < 12) | (status == 0) | np.isin(status, list(_STATUS))
    good &= (known < _HEAD) | (head[:, 20:24] == 0).all(axis=1)
    return np.where(good, np.where(known < 4, np.maximum(known, 1), _HEAD + length), 0)


def _fits(heads: Heads) -> np.ndarray:
    """A header on each side that spoke; nothing but zeros is no message."""
    good = heads.payload >= _HEAD
    for head, payload in ((heads.orig, heads.orig_payload), (heads.resp, heads.resp_payload)):
        length = _message_bytes(head.astype(np.int64), np.minimum(payload, head.shape[1]))
        fits = (
            (length >= _HEAD)
            & (head[:, :2].any(axis=1))
            & ((heads.transport == TCP) | (length == payload))
        )
        good &= fits | (payload == 0)
    return good


def _fits_io(heads: Heads) -> np.ndarray:
    """Two items: a sequenced address, and connected data of just the length that is left."""
    first = heads.first.astype(np.int64)
    words = first[:, 0::2] | first[:, 1::2] << 8
    good = (words[:, 0] == 2) & (words[:, 1] == _SEQUENCED) & (words[:, 2] == 8)
    good &= (words[:, 7] == _CONNECTED) & (heads.payload == 18 + words[:, 8])
    return good


def _read(messages: Messages) -> pd.DataFrame:
    """A row per message; the key is the context of its sender, on a connection the sequence count.

    ``value`` of a forward open is how often data is to come, in microseconds.
    """
    command, status = messages.u16(0, "<"), messages.u32(8, "<")
    sends = np.isin(command, (_SEND, _SEND_CONNECTED)) & (status == 0)
    at, sequence = _find_cip(messages, sends)
    carries = np.flatnonzero(at >= 0)
    server = _is_from_server(messages, command, at)
    role = np.where(server, ANSWER, ASK)
    role = np.where(command == _UNREGISTER, TELL, role)
    role = np.where(_to_all(messages, command), TELL, role)
    valid = np.isin(command, _COMMANDS) & (messages.held >= _HEAD) & (command != _NOP)
    context = messages.bytes(12, 8).view(np.int64).ravel()
    columns = {
        "key": command << 48 | np.where(sequence >= 0, sequence, pd.factorize(context)[0]),
        "kind": np.where(np.isin(command, (_REGISTER, _UNREGISTER)), SESSION, OTHER),
        "function": command + _COMMAND,
        "code": np.where(status > 0, _STATUS_CODE | status, 0),
    }
    columns["kind"][command == _LIST_IDENTITY] = IDENTIFY
    for name in ("unit", "target", "value", "name_at", "data_at"):
        columns[name] = np.full(len(messages), -1)
    columns["name_bytes"] = np.zeros(len(messages), np.int64)
    asks, answers = carries[~server[carries]], carries[server[carries]]
    for name, column in _read_asked(messages.take(asks), at[asks]).items():
        columns[name][asks] = column
    columns["code"][answers] = _read_answered(messages.take(answers), at[answers])
    return make_rows(messages, np.where(valid, role, SKIP), **columns)


def _find_cip(messages: Messages, sends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the CIP message begins in each, and its sequence count; -1 for none.

    An address item comes first, then the data item (2-6).
    """
    data_at = 36 + np.maximum(messages.u16(34, "<"), 0)
    item = messages.u32(data_at, "<")
    kind, size = np.where(item >= 0, item & 0xFFFF, -1), item >> 16
    connected = sends & (kind == _CONNECTED) & (size > 2)
    plain = sends & (kind == _UNCONNECTED) & (size >= 2)
    at = np.select([connected, plain], [data_at + 6, data_at + 4], -1)
    sequence = np.where(connected, messages.u16(data_at + 4, "<"), -1)
    return np.where(messages.u8(np.maximum(at, 0)) >= 0, at, -1), sequence


def _is_from_server(messages: Messages, command: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Whether the flow's responder sent it, or where that was guessed wrongly, its originator.

    Responses have the high bit of their service set; a session is asked for by the number 0.
    """
    service = np.where(at >= 0, messages.u8(np.maximum(at, 0)), -1)
    session = np.where(command == _REGISTER, messages.u32(4, "<"), -1)
    answers, asks = (
        (service >= 128) | (session > 0),
        ((service >= 0) & (service < 128)) | (session == 0),
    )
    vote = np.where(messages.is_orig, 1, -1) * (answers.astype(int) - asks)
    if not len(vote):
        return messages.is_orig
    return messages.is_orig == (np.bincount(messages.flow, vote) > 0)[messages.flow]


def _to_all(messages: Messages, command: np.ndarray) -> np.ndarray:
    """Who lists identities of a whole network by UDP waits for nobody's answer."""
    listing = np.isin(command, (_LIST_IDENTITY, _LIST_SERVICES, _LIST_INTERFACES))
    return listing & (messages.of_packet("proto") == UDP)


def _read_asked(messages: Messages, at: np.ndarray) -> dict[str, np.ndarray]:
    asked = cip.unwrap(messages, cip.read_requests(messages, at))
    kind, target, function = asked.kind, asked.target, asked.function
    name_at, name_bytes = asked.name_at, asked.name_bytes
    several = np.flatnonzero(function == cip.MULTIPLE)
    if len(several):
        # Of services sent together the gravest says what they are for, the first whom they are for.
        some = messages.take(several)
        place, start = cip.find_inner(some, asked.data_at[several])
        inner = cip.read_requests(some.take(place), start)
        gravity = np.full(len(several), OTHER)
        np.maximum.at(
            gravity, place, np.where(np.isin(inner.kind, (IDENTIFY, SESSION)), OTHER, inner.kind)
        )
        kind[several] = gravity
        first = np.unique(place, return_index=True)[1]
        target[several[place[first]]] = inner.target[first]
        name_at[several[place[first]]] = inner.name_at[first]
        name_bytes[several[place[first]]] = inner.name_bytes[first]
    tags = (function == cip.WRITE_TAG) & (name_at >= 0)
    opens = np.isin(function, (cip.FORWARD_OPEN, cip.LARGE_FORWARD_OPEN))
    value = np.where(opens, messages.u32(asked.data_at + 22, "<"), -1)
    return {
        "kind": kind,
        "function": function,
        "unit": asked.link,
        "target": target,
        "value": value,
        "name_at": name_at,
        "name_bytes": name_bytes,
        "data_at": np.where(tags, name_at, -1),
    }


def _read_answered(messages: Messages, at: np.ndarray) -> np.ndarray:
    """Refusals; of services sent together the first one's that was refused."""
    code = cip.read_status(messages, at)
    service = messages.u8(at) & 0x7F
    several = np.flatnonzero((service == cip.MULTIPLE) & np.isin(code, (0, cip.EMBEDDED)))
    if len(several):
        some = messages.take(several)
        place, start = cip.find_inner(
            some, at[several] + 4 + 2 * np.maximum(some.u8(at[several] + 3), 0)
        )
        inner = cip.read_status(some.take(place), start)
        refused = np.flatnonzero(inner > 0)
        which, first = np.unique(place[refused], return_index=True)
        code[several[which]] = inner[refused[first]]
    return code


def _identify(messages: Messages) -> list[Identity]:
    """The identity object, as listed (2-4.2) or read whole through the chassis."""
    command = messages.u16(0, "<")
    found = []
    listed = (command == _LIST_IDENTITY) & (messages.u16(26, "<") == _IDENTITY_ITEM)
    for message, body in select_distinct(messages, listed, 48, 96):
        found += _read_identity(message, body)
    at, _ = _find_cip(messages, command == _SEND)
    whole = (at == 40) & (messages.u8(40) == 0x81) & (messages.u16(42) == 0)
    for message, body in select_distinct(messages, first_alike(messages, whole, command), 44, 96):
        found += _read_identity(message, body)
    return found


def _read_identity(message: int, body: bytes) -> list[Identity]:
    """Vendor, device type, product code, revision, status, serial number, name (volume 1, 5-2)."""
    if len(body) < 15 or not body[14] or len(body) < 15 + body[14]:
        return []
    vendor = int.from_bytes(body[:2], "little")
    name = body[15 : 15 + body[14]]
    if not 1 <= body[6] < 128 or not vendor or not name.isascii():
        return []
    serial = int.from_bytes(body[10:14], "little")
    values: dict[str, str | bytes] = {
        "make": _VENDORS.get(vendor, f"ODVA vendor {vendor}"),
        "model": name,
        "firmware": f"{body[6]}.{body[7]:03d}",
        "serial": f"{serial:08X}",
    }
    return [Identity(message, key, value, "CIP identity") for key, value in values.items()]


ENIP = Protocol(
    name="enip",
    title="EtherNet/IP",
    transports=(TCP, UDP),
    ports=(44818,),
    fits=_fits,
    anywhere=True,
    message_bytes=_message_bytes,
    head_bytes=_HEAD,
    read=_read,
    functions=cip.FUNCTIONS | {_COMMAND | number: words for number, words in _FUNCTIONS.items()},
    refusals=cip.REFUSALS | {_STATUS_CODE | number: words for number, words in _STATUS.items()},
    interrupts=cip.INTERRUPTS,
    halts=cip.HALTS,
    resumes=cip.RESUMES,
    busy=cip.BUSY,
    denied=cip.DENIED,
    gone=cip.GONE,
    read_name=cip.read_name,
    name_target=cip.name_target,
    read_points=lambda data: read_tag(data, cip.read_name),
    wait_s=5.0,
    identify=_identify,
)
CIP_IO = Protocol(name="cip", transports=(UDP,), ports=(2222,), fits=_fits_io, anywhere=True)
