"""OPC UA over TCP (binary): services, what they ask for, refusals by status code, secure channels.

OPC 10000-6, chapters 5 and 7. Numbers have their low byte first:

    hello, acknowledge, error     type 3 | F | size 4 | ...
    a message in its channel      type 3 | F, C or A | size 4 | channel 4 | token 4 | sequence 4 | request 4 | ...

A channel with a security policy is encrypted from the sequence on: nothing of it can be paired. Its
flow is named ``opcua-encrypted``; what opens, closes and fails it is read.
"""

import re

import numpy as np
import pandas as pd

from traffic.arrays import starts_run
from traffic.pcap.headers import TCP
from traffic.pcap.messages import Messages
from traffic.pcap.protocols.opcua_results import (
    FAULT,
    node_bytes,
    read_certificate,
    read_identities,
    read_results,
)
from traffic.pcap.protocols.protocol import (
    ANSWER,
    ASK,
    CONTROL,
    IDENTIFY,
    OTHER,
    READ,
    SESSION,
    SKIP,
    TELL,
    WRITE,
    Heads,
    Identity,
    Protocol,
    make_rows,
    read_text,
    select_distinct,
)

# Numbers of the binary encodings of requests (OPC 10000-6, annex A); a response is 3 above.
HELLO, ERROR, OPEN, CLOSE = 1, 2, 446, 452
_SERVER_CALLS = 3  # a server that asks a client to connect
FIND, ENDPOINTS, CREATE, ACTIVATE, BROWSE, READS, WRITES, CALL, MONITOR, PUBLISH = (
    422, 428, 461, 467, 527, 631, 673, 712, 751, 826,
)  # fmt: skip
FUNCTIONS = {
    HELLO: "hello",
    ERROR: "error",
    _SERVER_CALLS: "reverse hello",
    FIND: "find servers",
    ENDPOINTS: "get endpoints",
    437: "register server",
    OPEN: "open secure channel",
    CLOSE: "close secure channel",
    CREATE: "create session",
    ACTIVATE: "activate session",
    473: "close session",
    479: "cancel",
    488: "add nodes",
    494: "add references",
    500: "delete nodes",
    506: "delete references",
    BROWSE: "browse",
    533: "browse next",
    557: "translate browse paths",
    560: "register nodes",
    566: "unregister nodes",
    615: "query first",
    621: "query next",
    READS: "read",
    664: "read history",
    WRITES: "write",
    700: "update history",
    CALL: "call a method",
    MONITOR: "create monitored items",
    763: "modify monitored items",
    769: "set monitoring mode",
    775: "set triggering",
    781: "delete monitored items",
    787: "create subscription",
    793: "modify subscription",
    799: "set publishing mode",
    PUBLISH: "publish",
    832: "republish",
    841: "transfer subscriptions",
    847: "delete subscriptions",
    12208: "find servers on the network",
    12211: "register server",
}
_ANSWERED_BY = {12208: 12209, 12211: 12212}
_KINDS = {
    READ: (BROWSE, 533, 557, 615, 621, READS, 664, MONITOR, PUBLISH, 832),
    WRITE: (488, 494, 500, 506, WRITES, 700),
    SESSION: (HELLO, ERROR, _SERVER_CALLS, OPEN, CLOSE, CREATE, ACTIVATE, 473),
    IDENTIFY: (FIND, ENDPOINTS, 12208),
}
# Bad status codes without their lower half (OPC 10000-6, annex A.2), by the names that engineers
# know.
_BAD = {
    0x8001: "UnexpectedError", 0x8002: "InternalError", 0x8003: "OutOfMemory", 0x8004: "ResourceUnavailable",
    0x8005: "CommunicationError", 0x8006: "EncodingError", 0x8007: "DecodingError", 0x8008: "EncodingLimitsExceeded",
    0x8009: "UnknownResponse", 0x800A: "Timeout", 0x800B: "ServiceUnsupported", 0x800C: "Shutdown",
    0x800D: "ServerNotConnected", 0x800E: "ServerHalted", 0x800F: "NothingToDo", 0x8010: "TooManyOperations",
    0x8011: "DataTypeIdUnknown", 0x8012: "CertificateInvalid", 0x8013: "SecurityChecksFailed",
    0x8014: "CertificateTimeInvalid", 0x8015: "CertificateIssuerTimeInvalid", 0x8016: "CertificateHostNameInvalid",
    0x8017: "CertificateUriInvalid", 0x8018: "CertificateUseNotAllowed", 0x801A: "CertificateUntrusted",
    0x801B: "CertificateRevocationUnknown", 0x801D: "CertificateRevoked", 0x801F: "UserAccessDenied",
    0x8020: "IdentityTokenInvalid", 0x8021: "IdentityTokenRejected", 0x8022: "SecureChannelIdInvalid",
    0x8023: "InvalidTimestamp", 0x8024: "NonceInvalid", 0x8025: "SessionIdInvalid", 0x8026: "SessionClosed",
    0x8027: "SessionNotActivated", 0x8028: "SubscriptionIdInvalid", 0x802A: "RequestHeaderInvalid",
    0x802B: "TimestampsToReturnInvalid", 0x802C: "RequestCancelledByClient", 0x8031: "NoCommunication",
    0x8032: "WaitingForInitialData", 0x8033: "NodeIdInvalid", 0x8034: "NodeIdUnknown", 0x8035: "AttributeIdInvalid",
    0x8036: "IndexRangeInvalid", 0x8037: "IndexRangeNoData", 0x803A: "NotReadable", 0x803B: "NotWritable",
    0x803C: "OutOfRange", 0x803D: "NotSupported", 0x803E: "NotFound", 0x803F: "ObjectDeleted", 0x8040: "NotImplemented",
    0x8041: "MonitoringModeInvalid", 0x8042: "MonitoredItemIdInvalid", 0x8045: "FilterNotAllowed",
    0x8054: "SecurityModeRejected", 0x8055: "SecurityPolicyRejected", 0x8056: "TooManySessions",
    0x8057: "UserSignatureInvalid", 0x8058: "ApplicationSignatureInvalid", 0x8059: "NoValidCertificates",
    0x805B: "ParentNodeIdInvalid", 0x805E: "NodeIdExists", 0x805F: "NodeClassInvalid",
    0x8066: "DuplicateReferenceNotAllowed", 0x806D: "TooManyMatches", 0x8073: "WriteNotSupported",
    0x8074: "TypeMismatch", 0x8075: "MethodInvalid", 0x8076: "ArgumentsMissing", 0x8077: "TooManySubscriptions",
    0x8078: "TooManyPublishRequests", 0x8079: "NoSubscription", 0x807A: "SequenceNumberUnknown",
    0x807B: "MessageNotAvailable", 0x807D: "TcpServerTooBusy", 0x807E: "TcpMessageTypeInvalid",
    0x807F: "TcpSecureChannelUnknown", 0x8080: "TcpMessageTooLarge", 0x8081: "TcpNotEnoughResources",
    0x8082: "TcpInternalError", 0x8083: "TcpEndpointUrlInvalid", 0x8084: "RequestInterrupted", 0x8085: "RequestTimeout",
    0x8086: "SecureChannelClosed", 0x8087: "SecureChannelTokenUnknown", 0x8088: "SequenceNumberInvalid",
    0x8089: "ConfigurationError", 0x808A: "NotConnected", 0x808B: "DeviceFailure", 0x808C: "SensorFailure",
    0x808D: "OutOfService", 0x808E: "DeadbandFilterInvalid", 0x809B: "NoData", 0x80A0: "NoEntryExists",
    0x80AB: "InvalidArgument", 0x80AC: "ConnectionRejected", 0x80AD: "Disconnect", 0x80AE: "ConnectionClosed",
    0x80AF: "InvalidState", 0x80B0: "EndOfStream", 0x80B8: "RequestTooLarge", 0x80B9: "ResponseTooLarge",
    0x80BD: "InvalidTimestampArgument", 0x80BE: "ProtocolVersionUnsupported", 0x80C6: "IdentityChangeNotSupported",
    0x80DB: "TooManyMonitoredItems", 0x80E6: "SecurityModeInsufficient", 0x810D: "CertificateChainIncomplete",
    0x810E: "LicenseExpired",
}  # fmt: skip
REFUSALS = {
    code << 16: f"Bad{name} ({re.sub('(?<=.)(?=[A-Z])', ' ', name).lower()})"
    for code, name in _BAD.items()
}
_BUSY = (0x8004, 0x8010, 0x807D, 0x8081)
_DENIED = (0x8013, 0x801A, 0x801D, 0x801F, 0x8020, 0x8021, 0x8054, 0x8055, 0x8057, 0x80E6)
_FAILED = (0x8002, 0x8003, 0x800C, 0x800E, 0x8082, 0x808C, 0x808D)
_GONE = (0x800D, 0x8031, 0x808A, 0x808B)
_HEL, _ACK, _ERR, _RHE, _OPN, _CLO, _MSG = (
    int.from_bytes(name, "big") for name in (b"HEL", b"ACK", b"ERR", b"RHE", b"OPN", b"CLO", b"MSG")
)
_SECURE = (_OPN, _CLO, _MSG)
_MOST_BYTES = 1 << 26  # of a chunk; stacks agree to far less
_HEAD_BYTES = 8
_HELLO_KEY, _OPEN_KEY = 1 << 40, 2 << 40
_POLICY_NONE = np.frombuffer(b"#None", np.uint8)
_NAME_BYTES = 80
_OTHERS = ("opcua-encrypted",)


def _message_bytes(head: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Type, kind of chunk and size."""
    kind, chunk = head[:, 0] << 16 | head[:, 1] << 8 | head[:, 2], head[:, 3]
    size = head[:, 4] | head[:, 5] << 8 | head[:, 6] << 16 | head[:, 7] << 24
    single = np.isin(kind, (_HEL, _ACK, _ERR, _RHE, _OPN, _CLO)) & (chunk == ord("F"))
    good = single | ((kind == _MSG) & np.isin(chunk, (ord("F"), ord("C"), ord("A"))))
    good = np.where(known < 4, np.isin(head[:, 0], list(b"HAERHOCM")), good)
    good &= (known < 8) | ((size >= _HEAD_BYTES) & (size <= _MOST_BYTES))
    return np.where(good, np.where(known < 8, np.maximum(known, 1), size), 0)


def _fits(heads: Heads) -> np.ndarray:
    good = heads.payload >= _HEAD_BYTES
    for head, payload in ((heads.orig, heads.orig_payload), (heads.resp, heads.resp_payload)):
        length = _message_bytes(head.astype(np.int64), np.minimum(payload, head.shape[1]))
        good &= (length >= _HEAD_BYTES) | (payload == 0)
    return good


def _read(messages: Messages) -> pd.DataFrame:
    """A row per message, its first chunk; the key is the request's number. ``value`` is how many
    items a request has, the name its first node or its endpoint."""
    kind, chunk = messages.number(0, 3), messages.u8(3)
    later = _continues(messages, kind, chunk)
    body = _find_bodies(messages, kind)
    number = np.where(later, -1, _read_type(messages, body))
    function, answers = _find_service(number)
    plain = function >= 0
    hidden = np.isin(kind, _SECURE) & ~plain & ~later
    aborted = (kind == _MSG) & (chunk == ord("A"))
    role = np.select(
        [
            (kind == _HEL) | ((kind == _OPN) & np.where(plain, ~answers, messages.is_orig)),
            (kind == _ACK) | (kind == _ERR) | (kind == _OPN) | aborted,
            np.isin(kind, (_CLO, _RHE)),
            plain & answers,
            plain,
        ],
        [ASK, ANSWER, TELL, ANSWER, ASK],
        SKIP,
    )
    function = np.select(
        [np.isin(kind, (_HEL, _ACK)), kind == _ERR, kind == _RHE, kind == _OPN, kind == _CLO],
        [HELLO, ERROR, _SERVER_CALLS, OPEN, CLOSE],
        function,
    )
    request = np.where(kind == _MSG, messages.u32(20, "<"), -1)
    key = np.select([np.isin(kind, (_HEL, _ACK)), kind == _OPN], [_HELLO_KEY, _OPEN_KEY], request)
    name_at, name_bytes, value, command = _read_asked(messages, kind, body, function, role)
    kinds = np.select(
        [command, *(np.isin(function, codes) for codes in _KINDS.values())],
        [CONTROL, *_KINDS],
        OTHER,
    )
    code = np.where((kind == _ACK) | (hidden & (kind == _OPN)), 0, -1)
    failed = (kind == _ERR) | aborted
    code = np.where(failed, messages.u32(np.where(kind == _ERR, 8, 24), "<"), code)
    rows = np.flatnonzero(plain & answers)
    code[rows] = read_results(messages.take(rows), body[rows], number[rows])
    key = np.where(kind == _ERR, _last_asked(messages, role, key), key)
    # What is encrypted is told by what opens and closes it alone; its numbers are none.
    sealed = _is_sealed(messages, hidden & (kind == _MSG), plain & (kind == _MSG))
    role = np.where(messages.held < _HEAD_BYTES, SKIP, role)
    return make_rows(
        messages,
        role,
        key=key,
        kind=kinds,
        function=function,
        code=np.where(code >= 1 << 31, code & 0xFFFF0000, np.minimum(code, 0)),
        value=value,
        name_at=name_at,
        name_bytes=name_bytes,
        patient=(function == PUBLISH).astype(int),
        other=np.where(sealed, 0, -1),
    )


def _continues(messages: Messages, kind: np.ndarray, chunk: np.ndarray) -> np.ndarray:
    """Whether a chunk goes on with the message of the chunk before it in its stream."""
    open_ = (kind == _MSG) & (chunk == ord("C"))
    before = np.append(False, open_[:-1])[: len(open_)]
    return before & ~starts_run(messages.flow, messages.is_orig) & (chunk != ord("A"))


def _find_bodies(messages: Messages, kind: np.ndarray) -> np.ndarray:
    """Where what a secure channel carries begins; -1 for none.

    To open one, the policy, a certificate and a thumbprint stand before the sequence (6.7.2).
    """
    at = np.where(np.isin(kind, (_MSG, _CLO)), 24, -1)
    opens = np.flatnonzero(kind == _OPN)
    if len(opens):
        some, here = messages.take(opens), np.full(len(opens), 12)
        size = _text_bytes(some, here)
        policy = some.bytes(here + np.maximum(size - 1, 0), 5)
        for _ in range(3):
            here = here + 4 + np.maximum(_text_bytes(some, here), 0)
        is_none = (policy == _POLICY_NONE).all(axis=1) & (size >= 5)
        at[opens] = np.where(is_none | (size <= 0), here + 8, -1)
    return at


def _text_bytes(messages: Messages, at: np.ndarray) -> np.ndarray:
    """The length of a text or of bytes; -1 for none, and where it leads out of the message."""
    size = messages.u32(at, "<")
    return np.where(size > messages.length, -1, size)


def _read_type(messages: Messages, body: np.ndarray) -> np.ndarray:
    """The number of what a body holds, in OPC UA's own namespace; -1 for none."""
    number = np.full(len(messages), -1)
    rows = np.flatnonzero(body >= 0)
    head = messages.take(rows).number(body[rows], 4)
    small = (head >> 24 == 1) & (head >> 16 & 0xFF == 0)
    number[rows] = np.where(small, (head & 0xFF) << 8 | head >> 8 & 0xFF, -1)
    return number


def _find_service(number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The request that a body is, or answers, by its number, and whether it answers."""
    table = np.full(1 << 16, -1)
    asks = np.array([code for code in FUNCTIONS if code >= FIND])
    table[[_ANSWERED_BY.get(code, code + 3) for code in asks]] = asks
    table[FAULT] = 0
    answered = table[np.maximum(number, 0)]
    answers = (answered >= 0) & (number > 0)
    asked = np.isin(number, asks)
    return np.select([asked, answers], [number, answered], -1), answers


def _last_asked(messages: Messages, role: np.ndarray, key: np.ndarray) -> np.ndarray:
    """The key of the last request in the flow before each message, that of its hello if none."""
    order = np.lexsort((messages.row, messages.flow))
    flow, asks = messages.flow[order], role[order] == ASK
    place = np.maximum.accumulate(np.where(asks, np.arange(len(order)), -1))
    there = (place >= 0) & (flow[place] == flow)
    last = np.empty(len(order), np.int64)
    last[order] = np.where(there, key[order][place], _HELLO_KEY)
    return last


def _is_sealed(messages: Messages, hidden: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """Whether more of a flow's messages cannot be read than can."""
    if not len(messages):
        return hidden
    return (np.bincount(messages.flow, hidden.astype(float) - plain) > 0)[messages.flow]


# ---- What requests ask for ----

# What stands between the header of a request and the number of its items.
_BEFORE_ITEMS = {READS: 12, WRITES: 0, CALL: 0, MONITOR: 8, 560: 0, 664: -1}


def _after_header(messages: Messages, body: np.ndarray) -> np.ndarray:
    """Where what a request asks for begins: after its token, time, number, texts and hints."""
    at = body + 4
    at = at + node_bytes(messages, at) + 16
    at = at + 4 + np.maximum(_text_bytes(messages, at), 0) + 4
    return np.where(messages.number(at, 3) == 0, at + 3, -1)  # nothing is added to the header


def _read_asked(
    messages: Messages, kind: np.ndarray, body: np.ndarray, function: np.ndarray, role: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where the name of what is asked for stands and how long it is, how many items there are, and
    whether it is a method of the application's own."""
    n = len(messages)
    name_at, name_bytes, value = np.full(n, -1), np.zeros(n, np.int64), np.full(n, -1)
    command = np.zeros(n, bool)
    hellos = np.flatnonzero(kind == _HEL)
    name_at[hellos] = 32
    name_bytes[hellos] = _text_bytes(messages.take(hellos), np.full(len(hellos), 28))
    named = np.isin(function, (*_BEFORE_ITEMS, BROWSE, FIND, ENDPOINTS))
    rows = np.flatnonzero((role == ASK) & named & (body >= 0))
    if len(rows):
        some, asked = messages.take(rows), function[rows]
        at = _after_header(some, body[rows])
        urls = np.isin(asked, (FIND, ENDPOINTS)) & (at >= 0)
        before = np.select(
            [asked == code for code in _BEFORE_ITEMS], list(_BEFORE_ITEMS.values()), 0
        )
        browses = np.flatnonzero(asked == BROWSE)
        if len(browses):
            before[browses] = node_bytes(some.take(browses), at[browses]) + 16
        items = (at >= 0) & ~urls & (before >= 0)
        count_at = np.where(items, at + before, 0)
        node_at = count_at + 4
        value[rows] = np.where(items, _text_bytes(some, count_at), -1)
        calls = asked == CALL
        if calls.any():
            # The object comes first, then the method, which says what is to happen.
            node_at = np.where(calls, node_at + node_bytes(some, node_at), node_at)
            space = np.where(
                some.u8(node_at) == 1, some.u8(node_at + 1), some.u16(node_at + 1, "<")
            )
            command[rows] = calls & items & (some.u8(node_at) > 0) & (space > 0)
        name_at[rows] = np.select([urls, items], [at + 4, node_at], -1)
        name_bytes[rows] = np.where(
            urls, _text_bytes(some, np.maximum(at, 0)), node_bytes(some, node_at)
        )
    return name_at, np.clip(name_bytes, 0, _NAME_BYTES), value, command


def _read_name(name: bytes) -> str:
    """A node as engineers write it, or an address.

    >>> _read_name(b"\\x01\\2\\x39\\x30"), _read_name(b"\\3\\2\\0\\5\\0\\0\\0Pump1")
    ('ns=2;i=12345', 'ns=2;s=Pump1')
    >>> _read_name(b"\\0\\x54"), _read_name(b"opc.tcp://plc:4840")
    ('i=84', 'opc.tcp://plc:4840')
    >>> _read_name(b""), _read_name(b"\1")
    ('i=0', 'i=0')
    """
    form = name[0] & 0x3F if name else 0
    if form > 5:
        return read_text(name)
    name = name.ljust(7, b"\0")  # zeros at its end are not kept
    if form == 0:
        return f"i={name[1]}"
    space = name[1] if form == 1 else int.from_bytes(name[1:3], "little")
    prefix = f"ns={space};" if space else ""
    if form in (1, 2):
        return f"{prefix}i={int.from_bytes(name[2 if form == 1 else 3 :], 'little')}"
    if form == 3:
        return f"{prefix}s={read_text(name[7:])}"
    return f"{prefix}{'g' if form == 4 else 'b'}={name[3 if form == 4 else 7 :].hex()}"


def _identify(messages: Messages) -> list[Identity]:
    """What servers describe, and the certificates by which either side opens an encrypted channel."""
    kind = messages.number(0, 3)
    number = _read_type(messages, np.where(kind == _MSG, 24, -1))
    found = read_identities(messages, 24, number)
    for message, text in select_distinct(messages, kind == _OPN, 12, 4096):
        policy = int.from_bytes(text[:4], "little", signed=True)
        at = 4 + max(policy, 0)
        size = int.from_bytes(text[at : at + 4], "little", signed=True)
        if size > 0:
            found += read_certificate(message, text[at + 4 : at + 4 + size])
    return found


OPCUA = Protocol(
    name="opcua",
    title="OPC UA",
    transports=(TCP,),
    ports=(4840,),
    fits=_fits,
    anywhere=True,
    message_bytes=_message_bytes,
    head_bytes=_HEAD_BYTES,
    read=_read,
    functions=FUNCTIONS,
    logins=frozenset({ACTIVATE}),
    refusals=REFUSALS,
    busy=frozenset(code << 16 for code in _BUSY),
    denied=frozenset(code << 16 for code in _DENIED),
    gone=frozenset(code << 16 for code in _GONE),
    failed=frozenset(code << 16 for code in _FAILED),
    read_name=_read_name,
    others=_OTHERS,
    wait_s=5.0,
    identify=_identify,
)
