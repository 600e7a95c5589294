"""CIP, what EtherNet/IP carries: services of objects, the paths that name them, refusals by status.

The CIP Networks Library, volume 1 (ODVA): a message router request is a service, a path and data;
its response repeats the service with its high bit set and gives a status:

    request    service 1 | words of the path 1 | path | data
    response   service 1 | 0 | status 1 | words of more status 1 | more status | data

Tags and PCCC are Rockwell's ("Logix 5000 Controllers Data Access", 1756-PM020).
"""

from dataclasses import dataclass, replace

import numpy as np

from traffic.arrays import count_up
from traffic.pcap.messages import Messages
from traffic.pcap.protocols.protocol import (
    CONTROL,
    IDENTIFY,
    READ,
    SESSION,
    WRITE,
    read_text,
    select_kinds,
)

IDENTITY, ROUTER, MANAGER, FILE, PCCC, SYMBOL, FIRMWARE = 0x01, 0x02, 0x06, 0x37, 0x67, 0x6B, 0xA1
MULTIPLE = 0x0A
# From here on a service means what its object's class makes of it: function = class * 256 + service.
_OWN = 0x4B
FORWARD_CLOSE, UNCONNECTED_SEND, FORWARD_OPEN, LARGE_FORWARD_OPEN = 0x64E, 0x652, 0x654, 0x65B
EXECUTE_PCCC, WRITE_TAG = PCCC << 8 | 0x4B, SYMBOL << 8 | 0x4D
FUNCTIONS = {
    0x01: "get all attributes",
    0x02: "set all attributes",
    0x03: "get attribute list",
    0x04: "set attribute list",
    0x05: "reset",
    0x06: "start",
    0x07: "stop",
    0x08: "create",
    0x09: "delete",
    MULTIPLE: "multiple services",
    0x0D: "apply attributes",
    0x0E: "get attribute",
    0x10: "set attribute",
    0x11: "find next instance",
    0x15: "restore",
    0x16: "save",
    0x17: "no operation",
    0x18: "get member",
    0x19: "set member",
    FORWARD_CLOSE: "forward close (end a connection)",
    UNCONNECTED_SEND: "unconnected send",
    FORWARD_OPEN: "forward open (make a connection)",
    LARGE_FORWARD_OPEN: "large forward open (make a connection)",
    FILE << 8 | 0x4B: "initiate upload of a file",
    FILE << 8 | 0x4C: "initiate download of a file",
    FILE << 8 | 0x4F: "upload a part of a file",
    FILE << 8 | 0x50: "download a part of a file",
    FILE << 8 | 0x51: "clear a file",
    EXECUTE_PCCC: "execute PCCC",
    PCCC << 16 | 0x0F00: "PCCC word range write",
    PCCC << 16 | 0x0F01: "PCCC word range read",
    PCCC << 16 | 0x0F3A: "PCCC set CPU mode",
    PCCC << 16 | 0x0F67: "PCCC typed write",
    PCCC << 16 | 0x0F68: "PCCC typed read",
    PCCC << 16 | 0x0F80: "PCCC change CPU mode",
    PCCC << 16 | 0x0FA1: "PCCC read",
    PCCC << 16 | 0x0FA2: "PCCC read",
    PCCC << 16 | 0x0FA9: "PCCC write",
    PCCC << 16 | 0x0FAA: "PCCC write",
    PCCC << 16 | 0x0FAB: "PCCC masked write",
    SYMBOL << 8 | 0x4C: "read tag",
    WRITE_TAG: "write tag",
    SYMBOL << 8 | 0x4E: "read, modify and write tag",
    SYMBOL << 8 | 0x52: "read tag in parts",
    SYMBOL << 8 | 0x53: "write tag in parts",
    SYMBOL << 8 | 0x55: "list tags",
    FIRMWARE << 8 | 0x4B: "begin a firmware update",
    FIRMWARE << 8 | 0x4D: "transfer firmware",
}
# Creating and deleting these is a download; other objects are made for the asking alone.
_MAKES, _PROJECT = (0x08, 0x09), (0x68, SYMBOL, 0x6C)
_KINDS = {
    READ: (0x01, 0x03, 0x0E, 0x11, 0x18, SYMBOL << 8 | 0x4C, SYMBOL << 8 | 0x52, SYMBOL << 8 | 0x55,
           FILE << 8 | 0x4B, FILE << 8 | 0x4F),
    WRITE: (0x02, 0x04, 0x10, 0x19, WRITE_TAG, SYMBOL << 8 | 0x4E, SYMBOL << 8 | 0x53),
    CONTROL: (0x05, 0x06, 0x07, 0x15, 0x16, FILE << 8 | 0x4C, FILE << 8 | 0x50, FILE << 8 | 0x51,
              FIRMWARE << 8 | 0x4B, FIRMWARE << 8 | 0x4D),
    SESSION: (FORWARD_CLOSE, FORWARD_OPEN, LARGE_FORWARD_OPEN),
}  # fmt: skip
# Reset, stop; the CPU's mode, of MicroLogix and of SLC.
INTERRUPTS = frozenset({0x05, 0x07, PCCC << 16 | 0x0F3A, PCCC << 16 | 0x0F80})
HALTS, RESUMES = frozenset({0x07}), frozenset({0x06})
# PCCC functions of command 0x0F, the one that PLC-5, SLC and MicroLogix are asked with (Allen-
# Bradley 1770-6.5.16).
_PCCC_WRITES = (0x00, 0x02, 0x03, 0x18, 0x26, 0x67, 0x79, 0xA9, 0xAA, 0xAB, 0xAF)
_PCCC_CONTROLS = (0x05, 0x07, 0x0A, 0x3A, 0x50, 0x52, 0x57, 0x80)

# Volume 1, appendix B: general status.
_PARTIAL = 0x06  # more is to come: no refusal
EMBEDDED = 0x1E
_STATUS = {
    0x01: "connection failure",
    0x02: "resource unavailable",
    0x03: "invalid parameter value",
    0x04: "path segment error",
    0x05: "path destination unknown",
    0x07: "connection lost",
    0x08: "service not supported",
    0x09: "invalid attribute value",
    0x0A: "attribute list error",
    0x0B: "already in the requested mode",
    0x0C: "object state conflict",
    0x0D: "object already exists",
    0x0E: "attribute not settable",
    0x0F: "privilege violation",
    0x10: "device state conflict",
    0x11: "reply too large",
    0x12: "fragmentation of a primitive value",
    0x13: "not enough data",
    0x14: "attribute not supported",
    0x15: "too much data",
    0x16: "object does not exist",
    0x17: "fragments out of sequence",
    0x18: "no stored attribute data",
    0x19: "store operation failed",
    0x1A: "routing failed: request too large",
    0x1B: "routing failed: response too large",
    0x1C: "attribute missing in the list",
    0x1D: "invalid attribute value list",
    EMBEDDED: "error of an embedded service",
    0x1F: "error of the vendor's own",
    0x20: "invalid parameter",
    0x21: "write-once value already written",
    0x22: "invalid reply received",
    0x23: "buffer overflow",
    0x24: "invalid message format",
    0x25: "key failure in the path",
    0x26: "path size invalid",
    0x27: "unexpected attribute in the list",
    0x28: "invalid member",
    0x29: "member not settable",
    0x2A: "general failure of a group 2 server",
    0x2C: "attribute not gettable",
    0xFF: "general error",
}
# Volume 1, 3-5.5: why a connection failed; with Rockwell's for tags (status 0xFF).
_MORE = {
    (0x01, 0x0100): "connection in use or opened twice",
    (0x01, 0x0103): "transport class or trigger not supported",
    (0x01, 0x0106): "another owner holds the connection",
    (0x01, 0x0107): "connection not found",
    (0x01, 0x0108): "invalid connection parameter",
    (0x01, 0x0109): "invalid connection size",
    (0x01, 0x0110): "target not configured",
    (0x01, 0x0111): "packet interval not supported",
    (0x01, 0x0113): "out of connections",
    (0x01, 0x0114): "vendor or product code does not match",
    (0x01, 0x0115): "device type does not match",
    (0x01, 0x0116): "revision does not match",
    (0x01, 0x0117): "invalid produced or consumed path",
    (0x01, 0x0118): "invalid configuration path",
    (0x01, 0x0119): "no connection to listen to is open",
    (0x01, 0x011A): "target object is out of connections",
    (0x01, 0x0203): "connection timed out",
    (0x01, 0x0204): "unconnected request timed out",
    (0x01, 0x0205): "parameter error in an unconnected request",
    (0x01, 0x0206): "message too large",
    (0x01, 0x0301): "no buffer memory",
    (0x01, 0x0302): "no network bandwidth",
    (0x01, 0x0311): "port not available",
    (0x01, 0x0312): "link address not valid",
    (0x01, 0x0315): "invalid segment in the connection path",
    (0x01, 0x0318): "link address is its own",
    (0x01, 0x0800): "link behind it is offline",
    (0xFF, 0x2104): "offset is beyond the end of the tag",
    (0xFF, 0x2105): "elements are beyond the end of the tag",
    (0xFF, 0x2107): "type does not match that of the tag",
}
# 1770-6.5.16: the high half says what a remote node, the low half what a local one found.
_PCCC_STATUS = {
    0x10: "illegal command or format",
    0x20: "host has a problem",
    0x30: "remote host is missing",
    0x40: "hardware fault of the host",
    0x50: "addressing problem or memory protected",
    0x60: "function not allowed",
    0x70: "processor is in program mode",
    0x80: "communication zone problem",
    0x90: "remote node cannot buffer",
    0xB0: "remote node has a problem with a download",
    0xF0: "error told by the extended status",
}
_PCCC_CODE = 0x1000000  # added to a status of PCCC
REFUSALS = (
    _STATUS
    | {more << 8 | status: f"{_STATUS[status]}: {why}" for (status, more), why in _MORE.items()}
    | {_PCCC_CODE | code: f"PCCC: {words}" for code, words in _PCCC_STATUS.items()}
)
BUSY = frozenset({0x02, _PCCC_CODE | 0x90})
DENIED = frozenset({0x0F, _PCCC_CODE | 0x60})
# A station behind it, or the way there.
GONE = frozenset(more << 8 | 0x01 for more in (0x0203, 0x0204, 0x0312, 0x0800)) | {
    _PCCC_CODE | 0x30
}
_CLASSES = {
    IDENTITY: "Identity",
    ROUTER: "Message Router",
    0x04: "Assembly",
    MANAGER: "Connection Manager",
    FILE: "File",
    PCCC: "PCCC",
    SYMBOL: "Symbol",
    0x68: "Program",
    0x6C: "Template",
    0x8B: "Wall Clock",
    FIRMWARE: "Nonvolatile Storage",
    0xF4: "Port",
    0xF5: "TCP/IP Interface",
    0xF6: "Ethernet Link",
}
_MOST_SEGMENTS = 12
_MOST_INNER = 64  # services of one multiple service packet that are read
_NAME_BYTES = 80


@dataclass(frozen=True)
class Request:
    """What requests ask of which object, shape (n,) each; -1 for none.

    Attributes:
        function: the service, with the class that gives it its meaning.
        class_, instance, attribute: which object, and what of it.
        link: the last station that the path passes, a slot of a chassis.
        name_at, name_bytes: the tag's name in the message, as a path has it.
        data_at: where its data begins.
    """

    function: np.ndarray
    class_: np.ndarray
    instance: np.ndarray
    attribute: np.ndarray
    link: np.ndarray
    name_at: np.ndarray
    name_bytes: np.ndarray
    data_at: np.ndarray

    @property
    def kind(self) -> np.ndarray:
        """Of KINDS."""
        kind = find_kinds(self.function, self.class_, self.attribute)
        return np.where(self.function >> 16 == PCCC, _kind_pccc(self.function), kind)

    @property
    def target(self) -> np.ndarray:
        """Class, instance and attribute as one number."""
        numbers = (self.class_, self.instance, self.attribute)
        class_, instance, attribute = (np.maximum(number, 0) for number in numbers)
        target = class_ << 40 | (instance & 0xFFFFFF) << 16 | attribute & 0xFFFF
        return np.where(self.class_ >= 0, target, -1)


def name_service(service: np.ndarray, class_: np.ndarray) -> np.ndarray:
    """A service with its object's class where that gives it its meaning, shape (n,)."""
    return np.where((service >= _OWN) & (class_ >= 0), class_ << 8, 0) | service


def find_kinds(function: np.ndarray, class_: np.ndarray, attribute: np.ndarray) -> np.ndarray:
    """What services are for, of KINDS, shape (n,)."""
    whole = (function == 0x01) | ((function == 0x0E) & (attribute < 8))
    makes = np.isin(function, _MAKES) & np.isin(class_, _PROJECT)
    identifies = (class_ == IDENTITY) & whole
    return np.select([identifies, makes], [IDENTIFY, CONTROL], select_kinds(function, _KINDS))


def _kind_pccc(function: np.ndarray) -> np.ndarray:
    command, what = function >> 8 & 0xFF, function & 0xFF
    if_f = [np.isin(what, _PCCC_WRITES), np.isin(what, _PCCC_CONTROLS)]
    kind = np.select(if_f, [WRITE, CONTROL], READ)
    return np.where(command == 0x0F, kind, np.where(np.isin(command, (0x00, 0x08)), WRITE, READ))


def name_target(target: int) -> str:
    """As engineers write it.

    >>> name_target(1 << 40 | 1 << 16 | 7), name_target(0x2FF << 40 | 2 << 16)
    ('Identity 1 attribute 7', 'class 0x2FF instance 2')
    """
    class_, instance, attribute = target >> 40, target >> 16 & 0xFFFFFF, target & 0xFFFF
    named = _CLASSES.get(class_)
    text = f"{named} {instance}" if named else f"class 0x{class_:02X} instance {instance}"
    return f"{text} attribute {attribute}" if attribute else text


def read_name(path: bytes) -> str:
    """A tag's name from its symbols and members.

    >>> read_name(b"\\x91\\x05Motor\\0\\x28\\x03\\x91\\x05Speed\\0")
    'Motor[3].Speed'
    """
    name = ""
    while len(path) >= 2:
        if path[0] == 0x91:
            name += ("." if name else "") + read_text(path[2 : 2 + path[1]])
            path = path[2 + path[1] + path[1] % 2 :]
            continue
        size = {0x28: 2, 0x29: 4, 0x2A: 6}.get(path[0])
        if not size:
            break
        number = path[1:2] if size == 2 else path[2:size]
        name += f"[{int.from_bytes(number, 'little')}]"
        path = path[size:]
    return name


def read_requests(messages: Messages, at: np.ndarray) -> Request:
    """Read the service and path of requests that begin at byte ``at`` of messages."""
    service, words = messages.u8(at), np.maximum(messages.u8(at + 1), 0)
    path = read_path(messages, at + 2, words)
    own = np.isin(path.class_, (MANAGER, FILE, PCCC, SYMBOL, FIRMWARE)) | (path.name_at >= 0)
    class_ = np.where(path.name_at >= 0, SYMBOL, path.class_)
    function = name_service(service, np.where(own, class_, -1))
    return replace(path, function=np.where(service < 0, -1, function))


def read_path(messages: Messages, at: np.ndarray, words: np.ndarray) -> Request:
    """Follow paths of ``words`` words from byte ``at`` on (volume 1, appendix C)."""
    n, end = len(messages), at + 2 * words
    found = {
        name: np.full(n, -1)
        for name in ("class_", "instance", "attribute", "point", "link", "name_at")
    }
    rows, here = np.arange(n), at
    for _ in range(_MOST_SEGMENTS):
        left = here < end[rows]
        rows, here = rows[left], here[left]
        if not len(rows):
            break
        head = messages.take(rows).bytes(here, 6).astype(np.int64)
        size = _read_segment(head, rows, here, found)
        going = size > 0
        rows, here = rows[going], (here + size)[going]
    names = found.pop("name_at")
    found["instance"] = np.where(found["instance"] < 0, found["point"], found["instance"])
    del found["point"]
    found["class_"] = np.where((found["class_"] < 0) & (names >= 0), SYMBOL, found["class_"])
    size = np.where(names >= 0, np.clip(end - names, 0, _NAME_BYTES), 0)
    none = np.full(n, -1)
    return Request(function=none, name_at=names, name_bytes=size, data_at=end, **found)


def _read_segment(
    head: np.ndarray, rows: np.ndarray, here: np.ndarray, found: dict[str, np.ndarray]
) -> np.ndarray:
    """Enter what one segment of each path says; its bytes, 0 where it cannot be read."""
    kind, form = head[:, 0] >> 5, head[:, 0] & 3
    logical = head[:, 0] >> 2 & 7
    value = np.select(
        [form == 0, form == 1, form == 2],
        [head[:, 1], head[:, 2:4] @ [1, 1 << 8], head[:, 2:] @ [1, 1 << 8, 1 << 16, 1 << 24]],
        -1,
    )
    is_logical = (kind == 1) & (form < 3)
    for name, number in (("class_", 0), ("instance", 1), ("attribute", 4), ("point", 3)):
        here_is = is_logical & (logical == number)
        found[name][rows[here_is]] = value[here_is]
    plain_port = (kind == 0) & (head[:, 0] & 0x1F < 0x0F)
    found["link"][rows[plain_port]] = head[:, 1][plain_port]
    symbol = head[:, 0] == 0x91
    first = symbol & (found["name_at"][rows] < 0)
    found["name_at"][rows[first]] = here[first]
    long_port = (kind == 0) & ~plain_port & (head[:, 0] & 0x0F < 0x0F)
    return np.select(
        [
            is_logical & (logical == 5),
            is_logical,
            plain_port,
            long_port | symbol,
            kind == 2,
            head[:, 0] == 0x80,
        ],
        [
            np.where(head[:, 0] == 0x34, 10, 2),
            2 + 2 * form,
            2,
            2 + head[:, 1] + head[:, 1] % 2,
            np.where(head[:, 0] & 0x10 > 0, 2 + 2 * head[:, 1], 2),
            2 + 2 * head[:, 1],
        ],
        0,
    )


def unwrap(messages: Messages, asked: Request) -> Request:
    """What requests come to in the end: an unconnected send asks what it carries, at the station
    that its route names; a forward open asks for what its path leads to; PCCC has functions of its
    own."""
    out = {name: column.copy() for name, column in vars(asked).items()}
    sends = np.flatnonzero(asked.function == UNCONNECTED_SEND)
    if len(sends):
        some, at = messages.take(sends), asked.data_at[sends]
        size = np.maximum(some.u16(at + 2, "<"), 0)
        inner = read_requests(some, at + 4)
        route = at + 4 + size + size % 2
        link = read_path(some, route + 2, np.maximum(some.u8(route), 0)).link
        for name, column in vars(replace(inner, link=link)).items():
            out[name][sends] = column
    opens = np.flatnonzero(np.isin(asked.function, (FORWARD_OPEN, LARGE_FORWARD_OPEN)))
    if len(opens):
        some = messages.take(opens)
        at = asked.data_at[opens] + np.where(asked.function[opens] == FORWARD_OPEN, 35, 39)
        path = read_path(some, at + 1, np.maximum(some.u8(at), 0))
        for name in ("class_", "instance", "link"):
            out[name][opens] = getattr(path, name)
    executes = np.flatnonzero(out["function"] == EXECUTE_PCCC)
    if len(executes):
        some, at = messages.take(executes), out["data_at"][executes]
        command_at = at + np.maximum(some.u8(at), 0)  # after who asks
        command, what = (np.maximum(some.u8(command_at + place), 0) for place in (0, 4))
        out["function"][executes] = PCCC << 16 | command << 8 | what
    return Request(**out)


def find_inner(messages: Messages, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The services in multiple service packets: the message of each, and where it begins.

    Args:
        messages: shape (n,).
        at: where the number of services stands in each.
    """
    count = np.clip(messages.u16(at, "<"), 0, _MOST_INNER)
    message = np.repeat(np.arange(len(messages)), count)
    offset = messages.take(message).u16(at[message] + 2 + 2 * count_up(count), "<")
    there = offset >= 0
    return message[there], (at[message] + offset)[there]


def read_status(messages: Messages, at: np.ndarray) -> np.ndarray:
    """The refusal in responses that begin at byte ``at`` of messages; 0 for none, -1 where the
    capture cuts it off."""
    service, status, more = messages.u8(at), messages.u8(at + 2), messages.u8(at + 3)
    extended = np.where((more > 0) & np.isin(status, (0x01, 0xFF)), messages.u16(at + 4, "<"), 0)
    code = np.where(status == _PARTIAL, 0, status)
    code = np.where(code > 0, np.maximum(extended, 0) << 8 | code, code)
    at = at + 4 + 2 * np.maximum(more, 0)
    pccc = np.flatnonzero((status == 0) & (service == EXECUTE_PCCC & 0xFF | 0x80))
    if len(pccc):
        some, at = messages.take(pccc), at[pccc]
        command_at = at + np.maximum(some.u8(at), 0)
        wrong = (
            (some.u8(at) == 7) & (some.u8(command_at) & 0x40 > 0) & (some.u8(command_at + 1) > 0)
        )
        code[pccc] = np.where(wrong, _PCCC_CODE | some.u8(command_at + 1) & 0xF0, 0)
    return code
