"""What Modbus/TCP and MQTT messages ask for and refuse.

Messages are walked in rounds: each round reads the next message of every segment that has one left.
Modbus Application Protocol 1.1b3 and Messaging on TCP/IP 1.0b (modbus.org); MQTT 3.1.1 and 5.0
(OASIS).
"""

import numpy as np
import pandas as pd

from traffic.pcap.events import make_events, number_names
from traffic.pcap.packets import Packets
from traffic.pcap.records import header_type

_MODBUS_PORT, _MQTT_PORT = 502, 1883
_READS = (1, 2, 3, 4, 7, 11, 12, 17, 20, 24)
_WRITES = (5, 6, 15, 16, 21, 22, 23)
_ADDRESSED = (1, 2, 3, 4, 5, 6, 15, 16, 22, 23, 24)
_MODBUS = header_type(
    10,
    protocol=(2, ">u2"),
    length=(4, ">u2"),
    code=(7, "u1"),
    exception=(8, "u1"),
    target=(8, ">u2"),
)
_CONNECT, _CONNACK, _PUBLISH, _PINGREQ, _PINGRESP = 1, 2, 3, 12, 13
# The low four bits of a fixed header: any for PUBLISH, 2 for PUBREL, SUBSCRIBE and UNSUBSCRIBE, 0
# else (MQTT 2.1.3).
_FLAGS = np.array([-1, 0, 0, -1, 0, 0, 2, 0, 2, 0, 2, 0, 0, 0, 0, 0])
_TOPIC_BYTES = 64
# A message over more segments than this is given up: the segments after it are not read.
_MOST_ROUNDS = 256


def make_modbus(packets: Packets, segments: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Requests by function code, with the start addresses they name, and exceptions by exception
    code."""
    frames = _read_modbus(packets, _segments_of(packets, segments, _MODBUS_PORT))
    to_server = frames["dport"] == _MODBUS_PORT
    asked = frames[to_server & (frames["code"] < 128)]
    kind = np.select(
        [asked["code"].isin(_READS), asked["code"].isin(_WRITES)],
        ["modbus_read", "modbus_write"],
        "",
    )
    refused = frames[~to_server & (frames["code"] >= 128)].rename(
        columns={"src": "dst", "dst": "src"}
    )
    return [
        ("modbus_read", make_events(asked[kind == "modbus_read"])),
        ("modbus_write", make_events(asked[kind == "modbus_write"])),
        ("modbus_other", make_events(asked[kind == ""])),
        ("modbus_exception", make_events(refused.assign(code=refused["exception"]))),
    ]


def _segments_of(packets: Packets, segments: pd.DataFrame, port: int) -> np.ndarray:
    """Rows of TCP segments with payload to or from a port, each once."""
    table = packets.table
    here = (table["dport"].to_numpy() == port) | (table["sport"].to_numpy() == port)
    rows = np.flatnonzero(here & table["has_tcp"].to_numpy() & ~segments["resent"].to_numpy())
    return rows[table["payload"].to_numpy()[rows] > 0]


def _read_modbus(packets: Packets, rows: np.ndarray) -> pd.DataFrame:
    """Every message of the segments ``rows``: ``ts src dst dport code target exception``."""
    held = packets.table["held"].to_numpy()
    at, found = np.zeros(len(rows), np.int64), []
    while len(rows):
        head = packets.read_payload(rows, _MODBUS.itemsize, at).view(_MODBUS)[:, 0]
        length, code, left = (
            head["length"].astype(np.int32),
            head["code"].astype(np.int32),
            held[rows] - at,
        )
        # Protocol 0; at least unit and function, at most 254 bytes (MBAP header, Messaging on
        # TCP/IP 1.0b, 3.1.3).
        good = (head["protocol"] == 0) & (length >= 2) & (length <= 254) & (left >= 8) & (code > 0)
        addressed = np.isin(code, _ADDRESSED) & (length >= 4) & (left >= 10)
        target = np.where(addressed, head["target"], np.int32(-1))
        exception = head["exception"].astype(np.int32)
        found.append(
            pd.DataFrame({"row": rows, "code": code, "target": target, "exception": exception})[
                good
            ]
        )
        rows, at = rows[good], (at + 6 + length)[good]
        more = held[rows] - at >= 8
        rows, at = rows[more], at[more]
    none = pd.DataFrame(
        {name: pd.Series(dtype="int64") for name in ("row", "code", "target", "exception")}
    )
    frames = pd.concat([none, *found], ignore_index=True)
    where = (
        packets.table[["ts", "src", "dst", "dport"]]
        .iloc[frames["row"].to_numpy()]
        .reset_index(drop=True)
    )
    return pd.concat([where, frames], axis=1)


def make_mqtt(packets: Packets, segments: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Connects, refusals by reason code, publishes with their topics, and messages that no MQTT
    stack would send."""
    messages = _read_mqtt(
        packets, _segments_of(packets, segments, _MQTT_PORT), segments["stream"].to_numpy()
    )
    good = messages[~messages["malformed"]]
    to_broker = good["dport"] == _MQTT_PORT
    refused = good[~to_broker & (good["type"] == _CONNACK) & (good["reason"] > 0)]
    published = good[good["type"] == _PUBLISH]
    return [
        ("mqtt_connect", make_events(good[to_broker & (good["type"] == _CONNECT)])),
        (
            "mqtt_refused",
            make_events(
                refused.assign(code=refused["reason"], src=refused["dst"], dst=refused["src"])
            ),
        ),
        ("mqtt_publish", make_events(published.assign(target=_number_topics(packets, published)))),
        ("mqtt_malformed", make_events(messages[messages["malformed"]])),
    ]


def _number_topics(packets: Packets, published: pd.DataFrame) -> np.ndarray:
    texts = packets.read_payload(
        published["row"].to_numpy(), _TOPIC_BYTES, published["topic_at"].to_numpy()
    )
    texts[np.arange(_TOPIC_BYTES) >= published["topic_bytes"].to_numpy()[:, None]] = 0
    return number_names(texts)


def _read_mqtt(packets: Packets, rows: np.ndarray, stream: np.ndarray) -> pd.DataFrame:
    """Every message that begins in the segments ``rows``, with ``ts src dst dport``.

    A message may run into the segments after it, so where a segment's first message begins depends
    on the segments
    before: segments are read again until no beginning moves.
    """
    table = packets.table
    rows = rows[np.argsort(stream[rows], kind="stable")]
    follows = np.diff(stream[rows], prepend=-1) == 0
    payload = table["payload"].to_numpy()[rows]
    expected = (table["seq"].to_numpy()[rows] + payload) & 0xFFFFFFFF
    lost = follows & (
        table["seq"].to_numpy()[rows] != np.concatenate([[0], expected[:-1]])[: len(rows)]
    )
    begin, over = np.where(lost, payload, 0), np.zeros(len(rows), np.int64)
    stale, found = np.arange(len(rows)), pd.DataFrame()
    for _ in range(_MOST_ROUNDS):
        read = _walk_mqtt(packets, rows[stale], begin[stale])
        read["segment"] = stale[read["nth"].to_numpy()]
        kept = found[~found["segment"].isin(stale)] if len(found) else found
        found = pd.concat([kept, read], ignore_index=True)
        over[stale] = np.maximum(begin[stale] - payload[stale], 0)
        last = read.groupby("segment")["over"].last()
        over[last.index.to_numpy()] = last.to_numpy()
        moved = np.where(
            lost, payload, np.where(follows, np.concatenate([[0], over[:-1]])[: len(rows)], 0)
        )
        stale = np.flatnonzero(moved != begin)
        begin = moved
        if not len(stale):
            break
    found = found[~found["segment"].isin(stale)]
    where = (
        table[["ts", "src", "dst", "dport"]].iloc[found["row"].to_numpy()].reset_index(drop=True)
    )
    return pd.concat([where, found.reset_index(drop=True)], axis=1)


def _walk_mqtt(packets: Packets, rows: np.ndarray, at: np.ndarray) -> pd.DataFrame:
    """The messages of each segment from offset ``at`` on; ``over`` is how far the message runs past
    the segment."""
    payload, held = (packets.table[name].to_numpy()[rows] for name in ("payload", "held"))
    nth, found = np.arange(len(rows)), []
    while True:
        left = held[nth] - at >= 2
        nth, at = nth[left], at[left]
        message = _read_message(
            packets.read_payload(rows[nth], 16, at).astype(np.int64), held[nth] - at
        )
        message[["end", "topic_at"]] = message[["end", "topic_at"]].add(at, axis=0)
        over = np.where(message["malformed"], 0, np.maximum(message["end"] - payload[nth], 0))
        found.append(message.assign(row=rows[nth], nth=nth, over=over))
        if not len(nth):
            return pd.concat(found, ignore_index=True)
        good = ~message["malformed"].to_numpy()
        nth, at = nth[good], message["end"].to_numpy()[good]


def _read_message(head: np.ndarray, held: np.ndarray) -> pd.DataFrame:
    """A fixed header and what follows it, from the first 16 bytes of each message, ``held`` bytes
    of it in the segment.

    What the segment does not hold is not judged.
    """
    kind, flags = head[:, 0] >> 4, head[:, 0] & 15
    more = np.cumprod(
        head[:, 1:5] >= 128, axis=1
    )  # which bytes of the length say that another one follows
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
