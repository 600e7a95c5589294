"""MQTT: connects with client id and keep-alive, refusals by reason code, pings, publishes, and
malformed messages.

MQTT 3.1.1 and 5.0 (OASIS).
"""

import numpy as np
import pandas as pd

from traffic.pcap.headers import TCP
from traffic.pcap.messages import Messages
from traffic.pcap.protocols.protocol import (
    ANSWER,
    ASK,
    OTHER,
    PUBLISH,
    READ,
    SESSION,
    SKIP,
    TELL,
    Events,
    Protocol,
    make_events,
    make_rows,
    number_secrets,
    select_asked,
    share_flow,
    starts_with,
)

# CONNACK and DISCONNECT: MQTT 3.1.1, table 3.1, and MQTT 5.0, table 2.6.
REASONS = {
    1: "unacceptable protocol version",
    2: "identifier rejected",
    3: "server unavailable",
    4: "bad user name or password",
    5: "not authorised",
    128: "unspecified error",
    129: "malformed packet",
    130: "protocol error",
    131: "implementation-specific error",
    132: "unsupported protocol version",
    133: "client identifier not valid",
    134: "bad user name or password",
    135: "not authorised",
    136: "server unavailable",
    137: "server busy",
    138: "banned",
    139: "server shutting down",
    140: "bad authentication method",
    141: "keep alive timeout",
    142: "session taken over",
    143: "topic filter invalid",
    144: "topic name invalid",
    145: "packet identifier in use",
    146: "packet identifier not found",
    147: "receive maximum exceeded",
    148: "topic alias invalid",
    149: "packet too large",
    150: "message rate too high",
    151: "quota exceeded",
    152: "administrative action",
    153: "payload format invalid",
    154: "retain not supported",
    155: "QoS not supported",
    156: "use another server",
    157: "server moved",
    158: "shared subscriptions not supported",
    159: "connection rate exceeded",
    160: "maximum connect time",
    161: "subscription identifiers not supported",
    162: "wildcard subscriptions not supported",
}
TYPES = {
    1: "connect",
    3: "publish",
    8: "subscribe",
    10: "unsubscribe",
    12: "ping",
    14: "disconnect",
}  # fmt: skip
CONNECT, PUBLISHED, PING, DISCONNECT = 1, 3, 12, 14
USER_NAME = 0x80  # flag of a CONNECT, which stands in ``target``
_CONNACK, _PUBACK, _PUBREC, _SUBSCRIBE, _SUBACK, _UNSUBSCRIBE, _UNSUBACK = 2, 4, 5, 8, 9, 10, 11
_PINGRESP = 13
_ASKED_BY = {_CONNACK: CONNECT, _PUBACK: PUBLISHED, _PUBREC: PUBLISHED, _SUBACK: _SUBSCRIBE,
             _UNSUBACK: _UNSUBSCRIBE, _PINGRESP: PING}  # fmt: skip
# The low four bits of a fixed header: any for PUBLISH, 2 for PUBREL, SUBSCRIBE and UNSUBSCRIBE, 0
# else (MQTT 2.1.3); type 0 is none.
_FLAGS = np.array([-1, 0, 0, -1, 0, 0, 2, 0, 2, 0, 2, 0, 0, 0, 0, 0])
_WILL = 4
_NAME_BYTES, _LOGIN_BYTES = 64, 128
_MOST_FILTERS = 32  # of one subscription whose results are read
_HEAD = 16


def _message_bytes(head: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fixed header and remaining length; 0 for what no MQTT stack would send."""
    kind, flags = head[:, 0] >> 4, head[:, 0] & 15
    # Which bytes of the length say that another one follows.
    more = np.cumprod(head[:, 1:5] >= 128, axis=1)
    size = 1 + np.minimum(more.sum(axis=1), 3)
    digits = np.where(np.arange(4) < size[:, None], head[:, 1:5] & 127, 0)
    length = digits @ (128 ** np.arange(4))
    body = 1 + size
    first, second = (np.take_along_axis(head, body[:, None] + i, axis=1)[:, 0] for i in (0, 1))
    name_bytes = first << 8 | second
    protocol = np.take_along_axis(head, body[:, None] + np.arange(2, 6), axis=1)
    named = (protocol == np.frombuffer(b"MQTT", np.uint8)).all(axis=1)
    named |= (protocol == np.frombuffer(b"MQIs", np.uint8)).all(axis=1)
    wrong = [
        more.all(axis=1) & (known >= 5),
        (_FLAGS[kind] != flags) & (kind != PUBLISHED),
        (kind == CONNECT) & ((length < 10) | (~named & (known >= body + 6))),
        (kind == _CONNACK) & (length < 2),
        (kind == PUBLISHED)
        & ((flags & 6 == 6) | ((name_bytes + 2 > length) & (known >= body + 2))),
        np.isin(kind, (PING, _PINGRESP)) & (length > 0),
    ]
    # A header that is cut in the middle tells no length: at least that much is one message.
    length = np.where(known >= body, body + length, np.maximum(known, 1))
    return np.where(np.logical_or.reduce(wrong), 0, length)


def _read(messages: Messages) -> pd.DataFrame:
    """A row per message; the key is the packet identifier. For a connect ``target`` is its flags,
    ``value`` its keep-alive in seconds, the name its client id; for a publish the name is the
    topic, for a subscribe its first filter."""
    first = messages.u8(0)
    kind, qos = first >> 4, first >> 1 & 3
    sizes = messages.bytes(1, 4) >= 128
    body = 2 + np.minimum(np.cumprod(sizes, axis=1).sum(axis=1), 3)
    asked = kind.copy()
    for answer, ask in _ASKED_BY.items():
        asked[kind == answer] = ask
    answers = np.isin(kind, list(_ASKED_BY))
    published, connects = kind == PUBLISHED, kind == CONNECT
    asks = np.isin(kind, (CONNECT, _SUBSCRIBE, _UNSUBSCRIBE, PING)) | (published & (qos > 0))
    tells = (published & (qos == 0)) | (kind == DISCONNECT)
    role = np.select([answers, asks, tells], [ANSWER, ASK, TELL], SKIP)

    text = messages.u16(body)
    ident = text.copy()
    rows = np.flatnonzero(published & (qos > 0))
    ident[rows] = messages.take(rows).u16(body[rows] + 2 + np.maximum(text[rows], 0))
    numbered = np.isin(asked, (_SUBSCRIBE, _UNSUBSCRIBE, PUBLISHED))
    columns = {
        "key": asked << 16 | np.where(numbered, np.maximum(ident, 0), 0),
        "code": np.where(role == ASK, -1, 0),
        "name_at": np.where(published, body + 2, -1),
        "name_bytes": np.where(published, text, 0),
        "target": np.full(len(messages), -1),
        "value": np.full(len(messages), -1),
        "login": np.full(len(messages), -1),
    }
    _read_connects(messages, np.flatnonzero(connects), body, columns)
    # What follows a packet identifier depends on the version that the client connected with.
    level = np.where(connects, columns.pop("level"), -1)
    fifth = share_flow(messages, level == 5)
    rest = np.flatnonzero(np.isin(kind, (_SUBSCRIBE, _SUBACK, _UNSUBACK)))
    after = body[rest] + 2
    after += np.where(fifth[rest], _property_bytes(messages.take(rest), after), 0)
    subscribes = np.flatnonzero(kind[rest] == _SUBSCRIBE)
    columns["name_at"][rest[subscribes]] = after[subscribes] + 2
    some = messages.take(rest[subscribes])
    columns["name_bytes"][rest[subscribes]] = some.u16(after[subscribes])
    _read_codes(messages, kind, body, columns["code"])
    lists = np.flatnonzero(kind[rest] != _SUBSCRIBE)
    columns["code"][rest[lists]] = _read_list(messages.take(rest[lists]), after[lists])
    columns["name_bytes"] = np.clip(columns["name_bytes"], 0, _NAME_BYTES)
    return make_rows(
        messages,
        role,
        kind=np.select(
            [published, np.isin(asked, (CONNECT, PING, DISCONNECT)), asked == _SUBSCRIBE],
            [PUBLISH, SESSION, READ],
            OTHER,
        ),
        function=asked,
        **columns,
    )


def _read_connects(
    messages: Messages, rows: np.ndarray, body: np.ndarray, columns: dict[str, np.ndarray]
) -> None:
    """Enter the version, flags, keep-alive, client id and login of connects, in place.

    Protocol name, level, flags, keep-alive; MQTT 5 puts properties before the client id.
    """
    some, at = messages.take(rows), body[rows]
    level_at = at + 2 + np.maximum(some.u16(at), 0)
    level = some.u8(level_at)
    id_at = level_at + 4
    id_at += np.where(level == 5, _property_bytes(some, id_at), 0)
    columns["level"] = np.full(len(messages), -1)
    flags = some.u8(level_at + 1)
    after_id = id_at + 2 + np.maximum(some.u16(id_at), 0)
    entries = {
        "level": level,
        "login": _number_logins(some, flags, level, after_id),
        "target": flags,
        "value": some.u16(level_at + 2),
        "name_at": id_at + 2,
        "name_bytes": some.u16(id_at),
    }
    for name, column in entries.items():
        columns[name][rows] = column


def _number_logins(
    some: Messages, flags: np.ndarray, level: np.ndarray, at: np.ndarray
) -> np.ndarray:
    """A number for user name and password, which end a connect after its will's properties, topic
    and message; -1 where it has no user name."""
    will = flags & _WILL > 0
    at = at + np.where(will & (level == 5), _property_bytes(some, at), 0)
    for _ in ("topic", "message"):
        at = at + np.where(will, 2 + np.maximum(some.u16(at), 0), 0)
    number = number_secrets(some.bytes(at, _LOGIN_BYTES), np.maximum(some.length - at, 0))
    return np.where((flags & USER_NAME > 0) & (some.length > at), number, -1)


def _property_bytes(messages: Messages, at: np.ndarray) -> np.ndarray:
    """The length of properties together with what says it (MQTT 5.0, 2.2.2)."""
    digits = messages.bytes(at, 4).astype(np.int64)
    size = 1 + np.minimum(np.cumprod(digits >= 128, axis=1).sum(axis=1), 3)
    digits = np.where(np.arange(4) < size[:, None], digits & 127, 0)
    return size + digits @ (128 ** np.arange(4))


def _read_codes(messages: Messages, kind: np.ndarray, body: np.ndarray, code: np.ndarray) -> None:
    """Enter reasons, in place: of a CONNACK any but 0, else 128 and above, which are failures."""
    # Where a reason stands, and from which on it is one.
    places = ((_CONNACK, 1, 1), (DISCONNECT, 0, 128), (_PUBACK, 2, 128), (_PUBREC, 2, 128))
    for number, place, least in places:
        rows = np.flatnonzero(kind == number)
        reason = messages.take(rows).u8(body[rows] + place)
        code[rows] = np.where(reason >= least, reason, 0)


def _read_list(messages: Messages, at: np.ndarray) -> np.ndarray:
    """The first refusal of a SUBACK or UNSUBACK, a byte for each filter; 0 for none."""
    reasons = messages.bytes(at, _MOST_FILTERS)
    bad = reasons >= 128  # past the message's end there are zeros
    first = reasons[np.arange(len(reasons)), bad.argmax(axis=1)] if len(reasons) else at
    return np.where(bad.any(axis=1), first, 0).astype(np.int64)


def _make_events(exchanges: pd.DataFrame) -> Events:
    """Connects, refusals by reason code, publishes with their topics, and messages that no MQTT
    stack would send."""
    asked = select_asked(exchanges)
    connects = asked[asked["function"] == CONNECT]
    publishes = asked[asked["function"] == PUBLISHED]
    refused = exchanges[(exchanges["function"] == CONNECT) & (exchanges["code"] > 0)]
    return {
        "mqtt_connect": make_events(connects.assign(target=-1, code=-1)),
        "mqtt_refused": make_events(
            refused.assign(ts=refused["answer_ts"].fillna(refused["ts"]), target=-1)
        ),
        "mqtt_publish": make_events(publishes.assign(target=publishes["name"], code=-1)),
        "mqtt_malformed": make_events(
            exchanges[exchanges["outcome"] == "malformed"].assign(target=-1, code=-1)
        ),
    }


MQTT = Protocol(
    name="mqtt",
    transports=(TCP,),
    ports=(1883,),
    fits=starts_with(b"\0\4MQTT", b"\0\6MQIsdp", at=2),
    anywhere=True,
    message_bytes=_message_bytes,
    head_bytes=_HEAD,
    resyncs=False,
    read=_read,
    functions=TYPES,
    logins=frozenset({CONNECT}),
    refusals=REASONS,
    busy=frozenset({3, 136, 137}),
    code_field="mqtt.conack.val",
    failed=frozenset({131, 139}),
    denied=frozenset({2, 4, 5, 133, 134, 135, 138, 140}),
    wait_s=5.0,
    make_events=_make_events,
    evidence={
        "mqtt_connect": {},
        "mqtt_refused": REASONS,
        "mqtt_publish": {},
        "mqtt_malformed": {},
    },
)
