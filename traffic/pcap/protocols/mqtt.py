"""MQTT: connects, refusals by reason code, publishes with their topics, and malformed messages.

MQTT 3.1.1 and 5.0 (OASIS).
"""

import numpy as np
import pandas as pd

from traffic.pcap.headers import TCP
from traffic.pcap.packets import Packets
from traffic.pcap.protocols.protocol import (
    Events,
    Protocol,
    make_events,
    number_names,
    payload_rows,
    starts_with,
)

# CONNACK: MQTT 3.1.1, table 3.1, and MQTT 5.0, table 3.1.
RETURN_CODES = {
    1: "unacceptable protocol version",
    2: "identifier rejected",
    3: "server unavailable",
    4: "bad user name or password",
    5: "not authorised",
    134: "bad user name or password",
    135: "not authorised",
    138: "banned",
}
_PORT = 1883
_CONNECT, _CONNACK, _PUBLISH, _PINGREQ, _PINGRESP = 1, 2, 3, 12, 13
# The low four bits of a fixed header: any for PUBLISH, 2 for PUBREL, SUBSCRIBE and UNSUBSCRIBE, 0
# else (MQTT 2.1.3).
_FLAGS = np.array([-1, 0, 0, -1, 0, 0, 2, 0, 2, 0, 2, 0, 0, 0, 0, 0])
_TOPIC_BYTES = 64
# A message over more segments than this is given up: the segments after it are not read.
_MOST_ROUNDS = 256


def find_events(packets: Packets, segments: pd.DataFrame) -> Events:
    """Connects, refusals by reason code, publishes with their topics, and messages that no MQTT
    stack would send."""
    rows = payload_rows(packets, segments, (_PORT,))
    messages = _read_messages(packets, rows, segments["stream"].to_numpy())
    good = messages[~messages["malformed"]]
    to_broker = good["dport"] == _PORT
    refused = good[~to_broker & (good["type"] == _CONNACK) & (good["reason"] > 0)]
    refused = refused.rename(columns={"src": "dst", "dst": "src", "reason": "code"})
    publishes = good[good["type"] == _PUBLISH]
    publishes = publishes.assign(target=_number_topics(packets, publishes))
    return {
        "mqtt_connect": make_events(good[to_broker & (good["type"] == _CONNECT)]),
        "mqtt_refused": make_events(refused),
        "mqtt_publish": make_events(publishes),
        "mqtt_malformed": make_events(messages[messages["malformed"]]),
    }


def _number_topics(packets: Packets, publishes: pd.DataFrame) -> np.ndarray:
    rows, at = publishes["row"].to_numpy(), publishes["topic_at"].to_numpy()
    texts = packets.read_payload(rows, _TOPIC_BYTES, at)
    texts[np.arange(_TOPIC_BYTES) >= publishes["topic_bytes"].to_numpy()[:, None]] = 0
    return number_names(texts)


def _read_messages(packets: Packets, rows: np.ndarray, stream: np.ndarray) -> pd.DataFrame:
    """Every message that begins in the segments ``rows``, with ``ts src dst dport``.

    A message may run into the segments after it, so where a segment's first message begins depends
    on the segments before: segments are read again until no beginning moves.
    """
    table = packets.table
    rows = rows[np.argsort(stream[rows], kind="stable")]
    follows = np.diff(stream[rows], prepend=-1) == 0
    payload, seq = table["payload"].to_numpy()[rows], table["seq"].to_numpy()[rows]
    lost = follows & (seq != _previous((seq + payload) & 0xFFFFFFFF))
    # After a lost segment nobody knows where a message begins: that segment is passed over.
    begin, over = np.where(lost, payload, 0), np.zeros(len(rows), np.int64)
    stale, found = np.arange(len(rows)), pd.DataFrame()
    for _ in range(_MOST_ROUNDS):
        read = _walk(packets, rows[stale], begin[stale])
        read["segment"] = stale[read["nth"].to_numpy()]
        kept = found[~found["segment"].isin(stale)] if len(found) else found
        found = pd.concat([kept, read], ignore_index=True)
        over[stale] = np.maximum(begin[stale] - payload[stale], 0)
        last = read.groupby("segment")["over"].last()
        over[last.index.to_numpy()] = last.to_numpy()
        moved = np.where(lost, payload, np.where(follows, _previous(over), 0))
        stale = np.flatnonzero(moved != begin)
        begin = moved
        if not len(stale):
            break
    found = found[~found["segment"].isin(stale)]
    ends = table[["ts", "src", "dst", "dport"]].iloc[found["row"].to_numpy()]
    return pd.concat([ends.reset_index(drop=True), found.reset_index(drop=True)], axis=1)


def _previous(values: np.ndarray) -> np.ndarray:
    """What the row before each holds, 0 for the first."""
    return np.append(values.dtype.type(0), values)[:-1]


def _walk(packets: Packets, rows: np.ndarray, at: np.ndarray) -> pd.DataFrame:
    """The messages of each segment from offset ``at`` on, with ``over``, bytes past the segment."""
    payload, held = (packets.table[name].to_numpy()[rows] for name in ("payload", "held"))
    nth, found = np.arange(len(rows)), []
    while True:
        left = held[nth] - at >= 2
        nth, at = nth[left], at[left]
        head = packets.read_payload(rows[nth], 16, at).astype(np.int64)
        message = _read_message(head, held[nth] - at)
        message[["end", "topic_at"]] = message[["end", "topic_at"]].add(at, axis=0)
        over = np.where(message["malformed"], 0, np.maximum(message["end"] - payload[nth], 0))
        found.append(message.assign(row=rows[nth], nth=nth, over=over))
        if not len(nth):
            return pd.concat(found, ignore_index=True)
        good = ~message["malformed"].to_numpy()
        nth, at = nth[good], message["end"].to_numpy()[good]


def _read_message(head: np.ndarray, held: np.ndarray) -> pd.DataFrame:
    """A fixed header and what follows it, from the first 16 bytes of each message; what the
    segment does not hold (``held`` bytes) is not taken for malformed."""
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
        more.all(axis=1) & (held >= 5),
        (_FLAGS[kind] != flags) & (kind != _PUBLISH),
        (kind == _CONNECT) & ((length < 10) | (~named & (held >= body + 6))),
        (kind == _CONNACK) & (length < 2),
        (kind == _PUBLISH) & ((flags & 6 == 6) | ((name_bytes + 2 > length) & (held >= body + 2))),
        np.isin(kind, (_PINGREQ, _PINGRESP)) & (length > 0),
    ]
    return pd.DataFrame(
        {
            "type": kind,
            "malformed": np.logical_or.reduce(wrong),
            "reason": np.where(held >= body + 2, second, -1),
            "end": body + length,
            "topic_at": body + 2,
            "topic_bytes": name_bytes,
        }
    )


MQTT = Protocol(
    name="mqtt",
    transports=(TCP,),
    ports=(_PORT,),
    fits=starts_with(b"\0\4MQTT", b"\0\6MQIsdp", at=2),
    codes={
        "mqtt_connect": {},
        "mqtt_refused": RETURN_CODES,
        "mqtt_publish": {},
        "mqtt_malformed": {},
    },
    find_events=find_events,
)
