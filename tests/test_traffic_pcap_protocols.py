"""Laws of every protocol, and what Modbus and MQTT have beyond evidence."""

import struct
from collections import Counter

import pytest
import tshark
from frames import SERVER, ethernet, read, talk, told, udp_packet
from hypothesis import given, settings
from hypothesis import strategies as st

from traffic.conversations import OUTCOMES
from traffic.pcap.protocols import PROTOCOLS
from traffic.pcap.protocols.modbus import MODBUS
from traffic.pcap.protocols.mqtt import MQTT

# How a message of each begins, so that noise after it is read as one.
BEGINNINGS = {
    "dns": [b"\0\7\1\0\0\1\0\0\0\0\0\0\4name\0", b"\0\7\x81\x83\0\1\0\0\0\0\0\0"],
    "modbus": [b"\0\7\0\0\0\6\1\3\0\1\0\2", b"\0\7\0\0\0\x20\1\x2b\x0e\1\1\0\0\3\0\4"],
    "mqtt": [b"\x10\x20\0\4MQTT\5\xc6\0\x3c\xff", b"\x32\x10\0\4a/bc\0\1", b"\x90\x05\0\1\0"],
    "s7comm": [
        b"\3\0\0\x30\2\xf0\x80\x32\1\0\0\0\1\0\x0e\0\0\4\x14\x12\x0a\x10",
        b"\3\0\0\x30\2\xf0\x80\x32\3\0\0\0\1\0\2\0\x14\0\0\4\x14\xff\4",
        b"\3\0\0\x30\2\xf0\x80\x32\7\0\0\0\1\0\x0c\0\x40\0\1\x12\x08\x12\x84\1\1\0\0\0\0\xff\x09\0\x40\0\x11",
        b"\3\0\0\x16\x11\xe0\0\0\0\1\0\xc0",
    ],
    "enip": [
        b"\x6f\0\x40\0"
        + bytes(20)
        + bytes(6)
        + b"\2\0\0\0\0\0\xb2\0\x30\0\x0a\2\x20\2\x24\1\x7f\0",
        b"\x70\0\x40\0"
        + bytes(20)
        + bytes(6)
        + b"\2\0\xa1\0\4\0\1\2\3\4\xb1\0\x30\0\1\0\x8a\0\0\xff",
        b"\x63\0\x40\0" + bytes(20) + b"\1\0\x0c\0\x30\0",
    ],
    "opcua": [
        b"MSGF\x60\0\0\0" + bytes(16) + b"\1\0\x77\2\3\0\0",
        b"MSGC\x60\0\0\0"
        + bytes(16)
        + b"\1\0\x7a\2"
        + bytes(17)
        + b"\xff\xff\xff\xff\0\0\0\x09\0\0\0",
        b"OPNF\x60\0\0\0\1\0\0\0\xff\0\0\0",
        b"ERRF\x10\0\0\0",
    ],
}
READ_HERE = [protocol for protocol in PROTOCOLS if protocol.name in BEGINNINGS]


@settings(max_examples=120)
@given(data=st.data())
def test_whatever_is_sent_is_read_to_its_end(tmp_path_factory, data):
    protocol = data.draw(st.sampled_from(READ_HERE))
    payload = st.one_of(
        st.binary(min_size=1, max_size=70),
        st.builds(
            lambda start, noise, cut: (start + noise)[cut:],
            st.sampled_from(BEGINNINGS[protocol.name]),
            st.binary(max_size=70),
            st.sampled_from([0, 0, 0, 0, 1, 9]),
        ),
    )
    turns = data.draw(st.lists(st.tuples(st.sampled_from("><"), payload), min_size=1, max_size=6))
    port, opened = data.draw(st.sampled_from([protocol.ports[0], 30000])), data.draw(st.booleans())
    frames = talk(port, *turns, opened=opened)
    # Some frames are cut by the capture, some lost.
    cut = data.draw(st.integers(0, 130))
    frames = [(ts, frame[:cut] if cut > 60 else frame) for ts, frame in frames]
    frames += [
        (1000 + i / 10, ethernet(udp_packet(data_, dport=port)))
        for i, (_, data_) in enumerate(turns)
    ]
    lost = data.draw(st.integers(0, len(frames)))
    frames = sorted(frame for i, frame in enumerate(frames) if i != lost)
    found = read(tmp_path_factory.mktemp("n"), frames).exchanges
    assert set(found["outcome"]) <= set(OUTCOMES)
    assert not (found["delay_s"] < 0).any()
    assert ((found["answer_frame"] > 0) == found["outcome"].isin(["answered", "refused"])).all()
    assert found["frame"].between(1, len(frames)).all()


def test_every_protocol_words_what_it_counts_as_busy_or_denied():
    for protocol in PROTOCOLS:
        special = protocol.busy | protocol.denied | protocol.gone
        assert special <= protocol.refusals.keys(), protocol.name
        assert not protocol.busy & protocol.denied


# ---- MQTT 5 ----


def _mqtt(kind: int, body: bytes) -> bytes:
    return bytes([kind, len(body) & 127 | 128, len(body) >> 7]) + body


def _connect(ident: bytes, properties: bytes = b"\0", level: int = 5) -> bytes:
    properties = properties if level == 5 else b""
    return _mqtt(
        0x10,
        b"\0\4MQTT"
        + bytes([level, 0xC6])
        + b"\0\x3c"
        + properties
        + b"\0"
        + bytes([len(ident)])
        + ident,
    )


MANY = b"\x26\0\1k\0\xc8" + b"v" * 200  # a user property of more than 127 bytes
FILTERS = b"\0\1a\0\0\1b\0"


@pytest.mark.parametrize(
    ("turns", "wanted"),
    [
        ([(">", _connect(b"node-1", b"\xce\1" + MANY)), ("<", b"\x20\3\0\x86\0")],
         [["session", 1, "node-1", "refused", 0x86]]),
        ([(">", _connect(b"n", level=4)), ("<", b"\x20\2\0\0"), (">", b"\x82\x0a\0\1" + FILTERS),
          ("<", b"\x90\4\0\1\x80\1")],
         [["session", 1, "n", "answered", 0], ["read", 8, "a", "refused", 0x80]]),
        ([(">", _connect(b"n")), ("<", b"\x20\3\0\0\0"), (">", b"\x82\x0b\0\1\0" + FILTERS),
          ("<", b"\x90\5\0\1\0\x87\1")],
         [["session", 1, "n", "answered", 0], ["read", 8, "a", "refused", 0x87]]),
        ([(">", _connect(b"n")), ("<", b"\x20\3\0\0\0"), (">", b"\x32\6\0\1t\0\7\0"), ("<", b"\x40\4\0\7\x87\0")],
         [["session", 1, "n", "answered", 0], ["publish", 3, "t", "refused", 0x87]]),
        # The broker throws a client out; a client that leaves with its will meant to.
        ([(">", _connect(b"n")), ("<", b"\x20\3\0\0\0"), ("<", b"\xe0\2\x8e\0")],
         [["session", 1, "n", "answered", 0], ["session", 14, "", "told", 0x8E]]),
        ([(">", _connect(b"n")), ("<", b"\x20\3\0\0\0"), (">", b"\xe0\2\4\0")],
         [["session", 1, "n", "answered", 0], ["session", 14, "", "told", 0]]),
    ],
    ids=range(6),
)  # fmt: skip
def test_mqtt_5_is_read_behind_its_properties(tmp_path, turns, wanted):
    found = read(tmp_path, talk(1883, *turns)).exchanges
    shown = [[row[0], row[1], *row[3:]] for row in told(found.assign(target=-1), MQTT)]
    assert shown == wanted
    assert found["value"].tolist()[0] == 60
    if shown[-1][1] == 14 and shown[-1][-1]:
        assert found["client"].astype(str).tolist()[-1] == SERVER


# ---- A second opinion ----


@pytest.mark.parametrize(
    "capture",
    ["protocols/modbus/capture", "field/gateway-unit-gone-0x0b", "field/modbus-function-code-scan"],
)
def test_modbus_agrees_with_tshark(shared, capture):
    path = shared / "data" / f"{capture}.pcap"
    found = tshark.exchanges(path, "modbus")
    names = ("tcp.dstport", "modbus.func_code", "mbtcp.unit_id", "modbus.exception_code")
    asked, refused = Counter(), Counter()
    for port, functions, units, codes in tshark.fields(path, "mbtcp", *names):
        if port == "502":
            asked.update(zip(functions.split(","), units.split(","), strict=False))
        else:
            refused.update(int(code) for code in codes.split(",") if code)
    mine = found[~found["outcome"].isin(["unasked", "malformed"])]
    assert (
        Counter(zip(mine["function"].astype(str), mine["unit"].astype(str), strict=True)) == asked
    )
    assert Counter(found["code"][found["code"] > 0]) == refused


@pytest.mark.parametrize("capture", ["mqtt-one-client-id-twice", "mqtt-bad-password-on-1883"])
def test_mqtt_agrees_with_tshark(shared, capture):
    path = shared / "data/field" / f"{capture}.pcap"
    found = tshark.exchanges(path, "mqtt")
    names = ("mqtt.msgtype", "mqtt.clientid", "mqtt.topic", "mqtt.kalive", "mqtt.conack.val")
    seen = [Counter() for _ in names]
    for row in tshark.fields(path, "mqtt", *names):
        for counter, texts in zip(seen, row, strict=True):
            counter.update(text for text in texts.split(",") if text)
    kinds, clients, topics, keep_alives, codes = seen
    connects, publishes = (found[found["function"] == code] for code in (1, 3))
    assert Counter(found["function"].astype(str)) == {
        k: n for k, n in kinds.items() if int(k) in MQTT.functions
    }
    assert Counter(connects["name"]) == clients
    assert Counter(publishes["name"].dropna()) == topics
    assert Counter(connects["value"].astype(str)) == keep_alives
    assert (connects["code"] > 0).sum() == sum(n for code, n in codes.items() if int(code, 0))


def test_a_message_that_the_capture_ends_in_is_not_malformed(tmp_path):
    ask = struct.pack(">HHHBBHH", 7, 0, 6, 1, 3, 0, 2)
    for size in range(1, 12):
        found = read(tmp_path, talk(502, (">", ask + ask[:size]))).exchanges
        assert told(found, MODBUS)[0][1] == 3
        assert "malformed" not in set(found["outcome"])
