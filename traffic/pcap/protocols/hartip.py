"""HART-IP: commands to field devices and what they answer, also through a gateway, and the status
that devices give with every answer.

HCF_SPEC-085 (network layer), -127 (universal commands), -151 (common practice), -307 (response
codes).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from traffic.arrays import number_groups
from traffic.pcap.headers import TCP, UDP
from traffic.pcap.messages import Messages
from traffic.pcap.protocols.protocol import (
    ANSWER,
    ASK,
    CONTROL,
    IDENTIFY,
    PUBLISH,
    READ,
    SESSION,
    SKIP,
    TELL,
    WRITE,
    Heads,
    Identity,
    Protocol,
    make_rows,
    number_ends,
    select_distinct,
    select_kinds,
)

_HEADER = 8
_REQUEST, _RESPONSE, _PUBLISH, _ERROR, _NAK = 0, 1, 2, 3, 15  # types of message
_INITIATE, _CLOSE, _KEEP_ALIVE, _PASS_THROUGH, _DIRECT, _LOG = range(6)  # its identifiers
_LONGEST = 4096  # a log that is read; a command has 255 bytes of data at most

SESSIONS = 1 << 16  # what is added to an identifier of a message
FUNCTIONS = {
    0: "read unique identifier", 1: "read primary variable", 2: "read loop current and percent of range",
    3: "read dynamic variables and loop current", 6: "write polling address", 7: "read loop configuration",
    8: "read dynamic variable classifications", 9: "read device variables with status",
    11: "read unique identifier by tag", 12: "read message", 13: "read tag, descriptor and date",
    14: "read transducer information", 15: "read device information", 16: "read final assembly number",
    17: "write message", 18: "write tag, descriptor and date", 19: "write final assembly number", 20: "read long tag",
    21: "read unique identifier by long tag", 22: "write long tag", 33: "read device variables", 34: "write damping",
    35: "write range values", 36: "set upper range value", 37: "set lower range value",
    38: "reset configuration changed flag", 39: "EEPROM control", 40: "enter or leave fixed current mode",
    41: "self test", 42: "device reset", 43: "set primary variable zero", 44: "write units",
    45: "trim loop current zero", 46: "trim loop current gain", 47: "write transfer function",
    48: "read additional device status", 49: "write transducer serial number", 50: "read dynamic variable assignments",
    51: "write dynamic variable assignments", 52: "set device variable zero", 53: "write device variable units",
    54: "read device variable information", 55: "write device variable damping",
    56: "write device variable transducer serial number", 59: "write number of preambles",
    60: "read analog channel", 62: "read analog channels", 63: "read analog channel information",
    64: "write analog channel damping", 65: "write analog channel range", 66: "enter or leave fixed analog mode",
    67: "trim analog channel zero", 68: "trim analog channel gain", 69: "write analog channel transfer function",
    70: "read analog channel end points", 71: "lock device", 72: "squawk", 73: "find device",
    74: "read I/O system capabilities", 75: "poll sub-device", 76: "read lock state",
    77: "send command to sub-device", 78: "read aggregated commands", 79: "write device variable",
    80: "read device variable trim points", 81: "read device variable trim guidelines",
    82: "write device variable trim point", 83: "reset device variable trim", 84: "read sub-device identity summary",
    85: "read I/O channel statistics", 86: "read sub-device statistics", 87: "write I/O system master mode",
    88: "write I/O system retry count", 89: "set real-time clock", 90: "read real-time clock",
    101: "read sub-device to burst map", 102: "map sub-device to burst message", 103: "write burst period",
    104: "write burst trigger", 105: "read burst mode configuration", 106: "flush delayed responses",
    107: "write burst device variables", 108: "write burst mode command", 109: "burst mode control",
    SESSIONS + _INITIATE: "open session", SESSIONS + _CLOSE: "close session", SESSIONS + _KEEP_ALIVE: "keep alive",
    SESSIONS + _PASS_THROUGH: "pass a command through", SESSIONS + _DIRECT: "direct command",
    SESSIONS + _LOG: "read audit log",
}  # fmt: skip
_RESET = 42
_EXTENDED = 31  # the command's number is in the data then
_IDENTIFIES, _TAG, _LONG_TAGS = (0, 11, 21), 13, (20, 22)
_KINDS = {
    IDENTIFY: (*_IDENTIFIES, 73, 74, 75, 84),
    READ: (1, 2, 3, 7, 8, 9, 12, _TAG, 14, 15, 16, 20, 33, 48, 50, 54, 60, 62, 63, 70, 76, 78, 80, 81, 85, 86, 90,
           101, 105, SESSIONS + _LOG),
    WRITE: (6, 17, 18, 19, 22, 34, 35, 36, 37, 38, 40, 43, 44, 45, 46, 47, 49, 51, 52, 53, 55, 56, 59,
            *range(64, 70), 79, 82, 83, 87, 88, 89, 102, 103, 104, 107, 108, 109),
    CONTROL: (39, 41, _RESET, 71),
    SESSION: (SESSIONS + _INITIATE, SESSIONS + _CLOSE, SESSIONS + _KEEP_ALIVE),
}  # fmt: skip

COMMUNICATION, STATUS, DEVICE = 128, 256, 512  # added to an error of the line, of HART-IP, a status
_RESPONSES = {
    1: "unspecified error", 2: "invalid selection", 3: "parameter too large", 4: "parameter too small",
    5: "too few data bytes", 6: "device-specific command error", 7: "in write protect mode",
    8: "warning: update failed or in progress", 9: "range value or mode wrong",
    10: "lower range value too low or wrong", 11: "upper range value too high or wrong",
    12: "upper range value too low", 13: "both range values out of limits", 14: "warning: span too small",
    15: "invalid analog channel or units", 16: "access restricted", 17: "invalid device variable", 18: "invalid units",
    19: "device variable not allowed", 20: "invalid extended command", 21: "invalid I/O card", 22: "invalid channel",
    23: "sub-device response too long", 28: "invalid range units", 29: "no such entry",
    30: "warning: truncated response", 31: "warning: changed while it was read",
    32: "busy", 33: "delayed response begun", 34: "delayed response running",
    35: "delayed response given up", 36: "delayed response conflict", 60: "payload too long",
    61: "no buffers available", 62: "no alarm buffers available", 63: "priority too low", 64: "command not implemented",
}  # fmt: skip
# Codes that come with what was asked for (-307: warnings).
_WARNINGS = (8, 14, 24, 25, 26, 27, 30, 31, *range(96, 128))
_STATUSES = {
    1: "unspecified error", 2: "invalid selection", 5: "too few data bytes", 6: "device-specific error",
    8: "set to nearest possible value", 14: "version not supported", 15: "all sessions in use",
    16: "session already open",
}  # fmt: skip
_NEAREST = 8
_NOT_ACCEPTED = 255  # of a message that is not accepted and gives no status
_MALFUNCTION = 0x80
_MORE = 0x10  # says nothing by itself
_DEVICE_BITS = {
    _MALFUNCTION: "malfunction", 0x40: "configuration changed", 0x20: "cold start",
    _MORE: "more status available", 0x08: "loop current fixed",
    0x04: "loop current saturated", 0x02: "another variable out of limits", 0x01: "primary variable out of limits",
}  # fmt: skip
REFUSALS = {
    **_RESPONSES,
    COMMUNICATION: "the device received the command with errors",
    **{STATUS + code: words for code, words in _STATUSES.items()},
    STATUS + _NOT_ACCEPTED: "message not accepted",
    **{
        DEVICE + bits: ", ".join(words for bit, words in _DEVICE_BITS.items() if bits & bit)
        for bits in range(1, 256)
        if bits != _MORE
    },
}
_DEVICE_CODES = frozenset(code for code in REFUSALS if code > DEVICE)
# Makers by the HART communication foundation's number, the usual ones.
_MAKERS = {
    17: "Endress+Hauser", 19: "Fisher Controls", 22: "Foxboro", 23: "Honeywell", 26: "ABB", 31: "Micro Motion",
    38: "Rosemount", 42: "Siemens", 55: "Yokogawa", 62: "Smar", 66: "Samson", 69: "Krohne", 98: "VEGA",
}  # fmt: skip
_EXPANDED = 254  # how the answer to command 0 begins
_REV_7_BYTES = 22  # of an answer that has the maker's number of two bytes
_TAG_BYTES, _LONG_TAG_BYTES = 6, 32
_MOST_BYTES = 300


def _message_bytes(head: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Version 1 or 2, a type and an identifier, and the message's length, header and all."""
    size = head[:, 6] << 8 | head[:, 7]
    good = np.isin(head[:, 0], (1, 2)) & (head[:, 2] <= _LOG)
    good &= np.isin(head[:, 1], (_REQUEST, _RESPONSE, _PUBLISH, _ERROR, _NAK))
    good &= (head[:, 1] != _REQUEST) | (head[:, 3] == 0)  # only answers have a status
    good &= (size >= _HEADER) & (size <= _LONGEST) & (known >= _HEADER)
    return np.where(good, size, 0)


def _fits(heads: Heads) -> np.ndarray:
    """The first payload of each side that spoke is such a message, or begins with one in a
    stream."""
    good = heads.payload >= _HEADER
    for head, payload in ((heads.orig, heads.orig_payload), (heads.resp, heads.resp_payload)):
        size = _message_bytes(head.astype(np.int64), np.minimum(payload, head.shape[1]))
        whole = np.where(heads.transport == TCP, size <= payload, size == payload)
        good &= ((size > 0) & whole) | (payload == 0)
    return good


@dataclass(frozen=True)
class _Commands:
    """The HART commands that messages carry, shape (n,) each.

    Attributes:
        there: whether there is one.
        number: which.
        device: the last three bytes of its device's long address, -1 for none.
        has_status: whether a device answers: with two bytes of status, ``response`` and ``state``.
        data: where its data begin, behind these.
    """

    there: np.ndarray
    number: np.ndarray
    device: np.ndarray
    has_status: np.ndarray
    response: np.ndarray
    state: np.ndarray
    data: np.ndarray


def _find_commands(messages: Messages) -> _Commands:
    """What is passed through: a frame of HART without preamble (HCF_SPEC-81, 5.2)."""
    delimiter = messages.u8(_HEADER)
    long = delimiter & 0x80 > 0
    at = _HEADER + 1 + np.where(long, 5, 1) + (delimiter >> 5 & 3)
    command, count = messages.u8(at), messages.u8(at + 1)
    there = (messages.u8(2) == _PASS_THROUGH) & (command >= 0) & (count >= 0)
    answers = np.isin(delimiter & 7, (1, 6))  # a burst, a device to a master
    has_status = there & answers & (count >= 2)
    data = at + 2 + 2 * answers
    extended = there & (command == _EXTENDED) & (messages.u16(data) >= 0)
    return _Commands(
        there,
        np.where(extended, messages.u16(data), command),
        np.where(there & long, messages.number(_HEADER + 3, 3), -1),
        has_status,
        np.where(has_status, np.maximum(messages.u8(at + 2), 0), 0),
        np.where(has_status, np.maximum(messages.u8(at + 3), 0), 0),
        data,
    )


def _read(messages: Messages) -> pd.DataFrame:
    """A row per message; the key is the sequence number with both ends. ``unit`` is the number of a
    device where several are behind an address; ``function`` a HART command, or what is done with
    the session."""
    version, kind, identifier = (messages.u8(i) for i in range(3))
    good = np.isin(version, (1, 2)) & (messages.held >= _HEADER) & (identifier <= _LOG)
    commands = _find_commands(messages)
    function = np.where(commands.there, commands.number, SESSIONS + identifier)
    answers = np.isin(kind, (_RESPONSE, _ERROR, _NAK))
    role = np.select(
        [~good, kind == _REQUEST, answers, kind == _PUBLISH], [SKIP, ASK, ANSWER, TELL], SKIP
    )
    return make_rows(
        messages,
        role,
        key=number_ends(messages, answers, messages.u16(4) << 8 | np.maximum(identifier, 0)),
        kind=np.where(role == TELL, PUBLISH, select_kinds(function, _KINDS)),
        function=function,
        unit=_number_units(messages, commands.device, answers | (role == TELL)),
        code=np.where(role == ASK, -1, _find_codes(messages, commands, kind)),
    )


def _find_codes(messages: Messages, commands: _Commands, kind: np.ndarray) -> np.ndarray:
    """What refuses first: HART-IP, the line to the device, the device; else a warning, or what the
    device says of itself; 0 for nothing."""
    status, response = np.maximum(messages.u8(3), 0), commands.response
    bits = np.where(commands.state == _MORE, 0, commands.state)
    not_accepted = np.isin(kind, (_ERROR, _NAK))
    return np.select(
        [status > 0, not_accepted, response >= COMMUNICATION, response > 0, bits > 0],
        [STATUS + status, STATUS + _NOT_ACCEPTED, COMMUNICATION, response, DEVICE + bits],
        0,
    )


def _number_units(messages: Messages, device: np.ndarray, by_server: np.ndarray) -> np.ndarray:
    """The device behind an address where there are several, -1 where it is the address itself."""
    server = np.where(by_server, messages.of_packet("src"), messages.of_packet("dst"))
    named = np.flatnonzero(device >= 0)
    first = named[number_groups(server[named], device[named])[1]]
    servers, counts = np.unique(server[first], return_counts=True)
    return np.where(np.isin(server, servers[counts > 1]), device, -1)


def _identify(messages: Messages) -> list[Identity]:
    """Maker, type, revision and number (command 0), and tags (13 and 20) of field devices."""
    commands = _find_commands(messages)
    served = commands.has_status & (commands.response == 0) & (messages.u8(1) == _RESPONSE)
    units = _number_units(messages, commands.device, np.isin(messages.u8(1), (_RESPONSE, _PUBLISH)))
    tells = served & np.isin(commands.number, (*_IDENTIFIES, _TAG, *_LONG_TAGS))
    found = []
    for message, body in select_distinct(messages, tells, _HEADER, _MOST_BYTES):
        data, number = body[int(commands.data[message]) - _HEADER :], int(commands.number[message])
        unit = int(units[message])
        tag = {"name": _read_tag(data, number == _TAG)}
        said = _read_identity(data) if number in _IDENTIFIES else tag
        found += [
            Identity(message, field, value, "HART identity", unit=unit)
            for field, value in said.items()
            if value
        ]
    return found


def _read_identity(data: bytes) -> dict[str, str]:
    """Maker, device type, software revision and device number (-127, 6.1)."""
    if len(data) < 12 or data[0] != _EXPANDED:
        return {}
    wide = len(data) >= _REV_7_BYTES - 1 and data[4] >= 7
    maker = int.from_bytes(data[17:19]) if wide else data[1]
    kind = f"0x{data[1]:02X}{data[2]:02X}" if wide else f"0x{data[2]:02X}"
    return {
        "make": _MAKERS.get(maker, f"HART manufacturer {maker}"),
        "model": f"HART device type {kind}",
        "firmware": f"software revision {data[6]}",
        "serial": f"HART device {int.from_bytes(data[9:12])}",
    }


def _read_tag(data: bytes, packed: bool) -> str:
    """A tag of 8 characters in 6 bits each (-127, 5.1.1), or one of 32.

    >>> _read_tag(bytes.fromhex("414b71c31060"), True)
    'PT-101A'
    """
    if not packed:
        return data[:_LONG_TAG_BYTES].split(b"\0")[0].decode("latin-1").strip()
    if len(data) < _TAG_BYTES or not any(data[:_TAG_BYTES]):
        return ""
    bits = int.from_bytes(data[:_TAG_BYTES])
    codes = (bits >> 6 * place & 63 for place in range(7, -1, -1))
    return "".join(chr(code if code >= 32 else code + 64) for code in codes).strip()


def _say_code(code: int, word: str) -> str:
    """A code as it stands in the standard.

    >>> _say_code(7, "in write protect mode"), _say_code(DEVICE + 0xC0, "malfunction")
    ('response code 7 (in write protect mode)', 'device status 0xC0 (malfunction)')
    """
    if code > DEVICE:
        return f"device status 0x{code - DEVICE:02X} ({word})"
    if code > STATUS:
        return f"HART-IP status {code - STATUS} ({word})"
    return word if code == COMMUNICATION else f"response code {code} ({word})"


HARTIP = Protocol(
    name="hart_ip",
    title="HART-IP",
    transports=(TCP, UDP),
    ports=(5094, 5095),
    fits=_fits,
    anywhere=True,
    message_bytes=_message_bytes,
    head_bytes=_HEADER,
    read=_read,
    functions=FUNCTIONS,
    kinds=_KINDS,
    refusals=REFUSALS,
    remarks=frozenset(_WARNINGS) | _DEVICE_CODES | {STATUS + _NEAREST},
    # That its configuration was changed a device says until its master takes note.
    troubles=frozenset(code for code in _DEVICE_CODES if code & _MALFUNCTION),
    interrupts=frozenset({_RESET}),
    busy=frozenset({32, 33, 34, 36, 61, 62}),
    denied=frozenset({7, 16}),
    gone=frozenset({COMMUNICATION, 35}),
    say_code=_say_code,
    wait_s=5.0,
    broadcasts=True,
    identify=_identify,
)
