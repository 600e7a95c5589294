import struct
from pathlib import Path

import pandas as pd
import pytest
from frames import (
    CLIENT,
    SERVER,
    SERVER_MAC,
    Frame,
    arp_packet,
    client,
    ethernet,
    icmp_packet,
    read,
    server,
    tcp_packet,
    udp_packet,
)  # fmt: skip

from traffic.conversations import empty_exchanges
from traffic.pcap.flows import make_flows
from traffic.pcap.packets import read_packets
from traffic.pcap.parts import read_large
from traffic.pcap.protocols import PROTOCOLS
from traffic.samples import EVIDENCE_COUNTS

GATEWAY, GHOST = "192.168.1.1", "192.168.1.99"
MAC_A, MAC_B = b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02"
# So that nothing waits for its answer when the capture ends.
LATER: Frame = (1900.0, ethernet(tcp_packet("A")))


def _rows(tmp_path: Path, frames: list[Frame], prefix: str) -> list[list[object]]:
    evidence = read(tmp_path, frames).evidence
    mine = evidence[evidence["kind"].str.startswith(prefix)]
    return mine[["slot", "src", "dst", "kind", "code", "count", "distinct"]].values.tolist()


def test_arp_requests_without_a_reply_within_a_second(tmp_path):
    frames = [
        (1000.0, arp_packet(1, MAC_A, CLIENT, GATEWAY)),
        (1000.9, arp_packet(2, MAC_B, GATEWAY, CLIENT)),
        (1001.0, arp_packet(1, MAC_A, CLIENT, GHOST)),
        (1002.0, arp_packet(1, MAC_A, CLIENT, GHOST)),
        (1003.5, arp_packet(2, MAC_B, GHOST, CLIENT)),
        (1004.0, arp_packet(1, MAC_A, CLIENT, CLIENT)),
        (1005.0, arp_packet(1, MAC_A, "0.0.0.0", GHOST)),
        (1006.0, arp_packet(1, MAC_A, CLIENT, GHOST)),
        (1006.5, arp_packet(2, MAC_B, GATEWAY, CLIENT)),
    ]
    assert _rows(tmp_path, frames, "arp") == [
        [100, "0.0.0.0", GHOST, "arp_request", -1, 1, 0],
        [100, CLIENT, GATEWAY, "arp_request", -1, 1, 0],
        [100, CLIENT, GHOST, "arp_request", -1, 3, 0],
        # The request at 1006 s is not judged: the capture ends before its second is over.
        [100, CLIENT, GHOST, "arp_unanswered", -1, 2, 0],
    ]


def test_who_asks_all_after_a_silence(tmp_path):
    """Neither who has sent a packet within two seconds, nor who asked for the same within six, nor who
    gets no reply."""
    words = {1000.0: CLIENT, 1020.0: CLIENT, 1021.5: CLIENT, 1023.5: GATEWAY}
    frames = [(ts, ethernet(udp_packet(b"x", src=src))) for ts, src in words.items()]
    for ts, target in [(1005, GATEWAY), (1009, GATEWAY), (1016, GATEWAY), (1022, GATEWAY),
                       (1028.1, GATEWAY), (1029, GHOST)]:  # fmt: skip
        frames.append((float(ts), arp_packet(1, MAC_A, CLIENT, target)))
        if target != GHOST:
            frames.append((ts + 0.1, arp_packet(2, MAC_B, target, CLIENT)))
    frames.append((1040.0, ethernet(udp_packet(b"x", src=GATEWAY))))
    rows = _rows(tmp_path, sorted(frames), "asked_anew")
    # At 1005, 1016 and 1028.1 s.
    wanted = [(100, 1), (101, 1), (102, 1)]
    assert rows == [[slot, CLIENT, GATEWAY, "asked_anew", -1, n, 0] for slot, n in wanted]
    parts = read_large([tmp_path / "capture.pcap"], tmp_path, part_packets=1).evidence
    parts = parts[parts["kind"] == "asked_anew"]
    assert (
        parts[["slot", "src", "dst", "kind", "code", "count", "distinct"]].values.tolist() == rows
    )


def test_an_address_claimed_by_two_machines(tmp_path):
    frames = [
        (1000.0, arp_packet(2, MAC_A, GATEWAY, CLIENT)),
        (1001.0, arp_packet(2, MAC_A, GATEWAY, CLIENT)),
        (1012.0, arp_packet(2, MAC_B, GATEWAY, CLIENT)),
        (1013.0, arp_packet(1, MAC_B, GATEWAY, GATEWAY)),
        (1021.0, arp_packet(1, MAC_A, GATEWAY, CLIENT)),
        (1500.0, arp_packet(1, MAC_A, GATEWAY, CLIENT)),
        (1501.0, arp_packet(1, MAC_A, "0.0.0.0", GHOST)),
        (1502.0, arp_packet(1, MAC_B, "0.0.0.0", GHOST)),
    ]
    assert _rows(tmp_path, frames, "arp_conflict") == [
        [101, GATEWAY, GATEWAY, "arp_conflict", -1, 2, 2],
        [102, GATEWAY, GATEWAY, "arp_conflict", -1, 1, 2],
    ]


def test_who_had_an_address_first_is_contested_no_longer_once_the_other_is_silent(tmp_path):
    frames = [(1000.0, arp_packet(2, MAC_A, GATEWAY, CLIENT))]
    frames += [(1010.0 + i, arp_packet(2, MAC_B, GATEWAY, CLIENT)) for i in range(5)]
    frames += [(1020.0, arp_packet(1, MAC_A, GATEWAY, CLIENT))]
    frames += [(1050.0 + 10 * i, arp_packet(1, MAC_A, GATEWAY, CLIENT)) for i in range(20)]
    assert _rows(tmp_path, frames, "arp_conflict") == [
        [101, GATEWAY, GATEWAY, "arp_conflict", -1, 5, 2],
        [102, GATEWAY, GATEWAY, "arp_conflict", -1, 1, 2],
    ]


def test_who_claims_an_address_beside_its_own_is_told_by_its_own(tmp_path):
    frames = [
        (1000.0, arp_packet(1, MAC_A, CLIENT, SERVER)),
        (1001.0, arp_packet(2, MAC_B, GATEWAY, CLIENT)),
        (1002.0, arp_packet(2, MAC_A, GATEWAY, SERVER)),
        (1003.0, arp_packet(2, MAC_B, GATEWAY, CLIENT)),
        (1004.0, arp_packet(2, MAC_A, GATEWAY, SERVER)),
    ]
    assert _rows(tmp_path, frames, "arp_conflict") == [
        [100, GATEWAY, GATEWAY, "arp_conflict", -1, 1, 2],
        [100, CLIENT, GATEWAY, "arp_conflict", -1, 2, 2],
    ]


def test_retransmissions_are_neither_keep_alives_nor_retried_syns(tmp_path):
    frames = [
        client(1000.0, "S", 100), client(1001.0, "S", 100), server(1001.1, "SA", 500),
        client(1001.2, "PA", 101, b"12345"), client(1001.5, "PA", 101, b"12345"),
        client(1002.5, "PA", 101, b"12345"), server(1002.6, "A", 501),
        client(1012.0, "A", 105, b"\0"), client(1012.5, "A", 105), server(1013.0, "FA", 501),
        server(1013.5, "FA", 501),
    ]  # fmt: skip
    assert _rows(tmp_path, frames, "retransmission") == [
        [100, CLIENT, SERVER, "retransmission", -1, 2, 0],
        [101, SERVER, CLIENT, "retransmission", -1, 1, 0],
    ]


@pytest.mark.parametrize(("delay_s", "count"), [(0.001, 0), (0.2, 1)])
def test_a_segment_overtaken_on_the_way_was_not_sent_again(tmp_path, delay_s, count):
    frames = [client(1000.0, "PA", 100, b"aa"), client(1000.1, "PA", 104, b"cc")]
    frames.append(client(1000.1 + delay_s, "PA", 102, b"bb"))
    assert len(_rows(tmp_path, frames, "retransmission")) == count


def test_resets_zero_windows_and_unreachable(tmp_path):
    frames = [
        client(1000.0, "S", 100), server(1000.1, "SA", 500), server(1000.2, "A", 501, window=0),
        server(1000.3, "A", 501, window=0), client(1000.4, "FA", 101),
        server(1000.5, "A", 501, window=0), server(1000.6, "RA", 501, window=0),
        (1001.0, ethernet(icmp_packet(3, 13, src=GATEWAY, dst=CLIENT))),
        (1002.0, ethernet(icmp_packet(1, 4, src="fe80::1", dst="fe80::2"), 0x86DD)),
        (1003.0, ethernet(icmp_packet(8, 0))),
    ]  # fmt: skip
    evidence = read(tmp_path, frames).evidence
    assert evidence[["src", "dst", "kind", "code", "count"]].values.tolist() == [
        [GATEWAY, CLIENT, "unreachable", 13, 1],
        [SERVER, CLIENT, "reset", -1, 1],
        [SERVER, CLIENT, "zero_window", -1, 2],
        ["fe80::1", "fe80::2", "unreachable", 4, 1],
    ]


def _dns(ident: int, name: bytes, rcode: int | None = None) -> bytes:
    flags = 0x0100 if rcode is None else 0x8180 | rcode
    head = struct.pack(">HHHHHH", ident, flags, 1, 0, 0, 0)
    return head + bytes([len(name)]) + name + b"\0\0\1\0\1"


def test_dns_failures_by_code_and_by_silence(tmp_path):
    def ask(ts: float, ident: int, name: bytes, port: int = 5000) -> Frame:
        return ts, ethernet(udp_packet(_dns(ident, name), CLIENT, GATEWAY, port, 53))

    def answer(ts: float, ident: int, name: bytes, rcode: int, port: int = 5000) -> Frame:
        return ts, ethernet(udp_packet(_dns(ident, name, rcode), GATEWAY, CLIENT, 53, port))

    frames = [
        ask(1000.0, 1, b"cloud"), answer(1000.1, 1, b"cloud", 0),
        ask(1001.0, 2, b"CLOUD"), answer(1006.5, 2, b"CLOUD", 0),
        ask(1002.0, 3, b"gone"), answer(1002.1, 3, b"gone", 3),
        ask(1003.0, 4, b"gone", 5001), answer(1003.1, 4, b"gone", 0, 5002),
        LATER,
    ]  # fmt: skip
    assert _rows(tmp_path, frames, "dns") == [
        [100, CLIENT, GATEWAY, "dns_failed", -1, 2, 2],
        [100, CLIENT, GATEWAY, "dns_failed", 3, 1, 1],
        [100, CLIENT, GATEWAY, "dns_query", -1, 4, 2],
    ]


def test_dns_over_tcp_follows_its_length(tmp_path):
    query, reply = _dns(7, b"name"), _dns(7, b"name", 2)
    frames = [
        client(1000.0, "PA", 1, struct.pack(">H", len(query)) + query, dport=53),
        server(1000.1, "PA", 1, struct.pack(">H", len(reply)) + reply, port=53),
        LATER,
    ]
    assert _rows(tmp_path, frames, "dns") == [
        [100, CLIENT, SERVER, "dns_failed", 2, 1, 1],
        [100, CLIENT, SERVER, "dns_query", -1, 1, 1],
    ]


def _adu(code: int, body: bytes) -> bytes:
    return struct.pack(">HHHBB", 9, 0, 2 + len(body), 1, code) + body


def test_modbus_requests_by_code_with_their_addresses(tmp_path):
    read3 = [_adu(3, struct.pack(">HH", address, 1)) for address in (10, 11, 10)]
    frames = [
        client(1000.0, "PA", 1, read3[0] + read3[1], dport=502),
        client(1000.1, "PA", 25, read3[2], dport=502),
        client(1000.2, "PA", 25, read3[2], dport=502),
        server(1000.3, "PA", 1, _adu(3, b"\x02\x00\x07"), port=502),
        server(1000.4, "PA", 12, _adu(0x83, b"\x02"), port=502),
        client(1000.5, "PA", 37, _adu(16, struct.pack(">HHBH", 40, 1, 2, 5)), dport=502),
        client(1000.6, "PA", 52, _adu(43, b"\x0e\x01\x00"), dport=502),
        client(1000.7, "PA", 63, b"\x00\x01\x00\x63\x00\x06\x01\x03\x00\x00\x00\x01", dport=502),
    ]
    assert _rows(tmp_path, frames, "modbus") == [
        [100, CLIENT, SERVER, "modbus_exception", 2, 1, 0],
        [100, CLIENT, SERVER, "modbus_other", 43, 1, 0],
        [100, CLIENT, SERVER, "modbus_read", 3, 3, 2],
        [100, CLIENT, SERVER, "modbus_write", 16, 1, 1],
    ]


CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"


def _publish(topic: bytes, payload: bytes) -> bytes:
    body = struct.pack(">H", len(topic)) + topic + payload
    size = bytes([len(body)]) if len(body) < 128 else bytes([len(body) & 127 | 128, len(body) >> 7])
    return b"\x30" + size + body


def _mqtt(messages: list[bytes], start: int = 1) -> list[Frame]:
    frames, seq = [client(999.0, "S", start - 1, dport=1883)], start
    for i, message in enumerate(messages):
        frames.append(client(1000.0 + i / 10, "PA", seq, message, dport=1883))
        seq += len(message)
    return frames


def test_mqtt_connects_refusals_and_publishes(tmp_path):
    both = _publish(b"a/b", b"1") + _publish(b"a/c", b"2")
    frames = [
        *_mqtt([CONNECT, both, _publish(b"a/b", b"3"), b"\xc0\x00"]),
        server(1001.0, "PA", 1, b"\x20\x02\x00\x05", port=1883),
        server(1001.1, "PA", 5, b"\x20\x02\x00\x00", port=1883),
        server(1001.2, "PA", 9, b"\x20\x03\x00\x87\x00", port=1883),
        server(1001.3, "PA", 14, _publish(b"a/b", b"4"), port=1883),
    ]
    assert _rows(tmp_path, frames, "mqtt") == [
        [100, CLIENT, SERVER, "mqtt_connect", -1, 1, 0],
        [100, CLIENT, SERVER, "mqtt_publish", -1, 3, 2],
        [100, CLIENT, SERVER, "mqtt_refused", 5, 1, 0],
        [100, CLIENT, SERVER, "mqtt_refused", 0x87, 1, 0],
        [100, SERVER, CLIENT, "mqtt_publish", -1, 1, 1],
    ]


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (b"\x00\x02ab", "mqtt_malformed"),  # type 0 is reserved
        (b"\x36\x06\x00\x01ax!!", "mqtt_malformed"),  # QoS 3
        (b"\x80\x05\x00\x01\x00\x00\x00", "mqtt_malformed"),  # SUBSCRIBE without its flag
        (b"\x30\xff\xff\xff\xff\x01", "mqtt_malformed"),  # a length of five bytes
        (b"\x30\x05\x00\x20abc", "mqtt_malformed"),  # a topic longer than its message
        (b"\x10\x0c\x00\x04HTTP\x04\x02\x00\x3c\x00\x00", "mqtt_malformed"),
        (CONNECT, "mqtt_connect"),
        (b"\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x00", "mqtt_connect"),
    ],
)
def test_mqtt_messages_no_stack_would_send(tmp_path, message, kind):
    assert [row[3] for row in _rows(tmp_path, _mqtt([message]), "mqtt")] == [kind]


def test_a_message_over_several_segments_is_one(tmp_path):
    whole = _publish(b"camera/picture", bytes(300)) + _publish(b"camera/state", b"ok")
    frames = _mqtt([CONNECT, whole[:100], whole[100:200], whole[200:]])
    assert [row[3:] for row in _rows(tmp_path, frames, "mqtt")] == [
        ["mqtt_connect", -1, 1, 0],
        ["mqtt_publish", -1, 2, 2],
    ]


def test_after_a_lost_segment_nothing_is_called_malformed(tmp_path):
    whole = _publish(b"camera/picture", bytes(300))
    frames = _mqtt([whole[:100], whole[100:200], whole[200:], _publish(b"x", b"y")])
    del frames[2]
    assert [row[3:] for row in _rows(tmp_path, frames, "mqtt")] == [["mqtt_publish", -1, 2, 2]]


def test_what_nobody_sent_is_no_evidence(tmp_path):
    evidence = read(tmp_path, [(1.0, ethernet(udp_packet(b"x"), src=SERVER_MAC))]).evidence
    assert evidence.empty
    assert evidence.dtypes.astype(str).to_dict() == {
        "slot": "int64", "src": "str", "dst": "str", "kind": "str", "code": "int64", "count": "int64",
        "distinct": "int64", "first_s": "float64", "last_s": "float64",
    }  # fmt: skip


def _totals(path: Path) -> pd.DataFrame:
    evidence = make_flows(read_packets([path])).evidence
    return evidence.groupby(["kind", "src", "dst", "code"])[["count", "distinct"]].sum()


def test_the_dead_plc_answers_no_arp(shared):
    totals = _totals(shared / "data/quickdraw/CL5000EIP-Software-Download-Failure.pcap")
    assert totals.loc[("arp_unanswered", "192.168.10.1", "192.168.10.120", -1), "count"] == 45
    assert totals.loc["arp_unanswered"]["count"].sum() == 48  # and 3 of the workstation .105


def test_the_sweep_of_a_controller_stands_out(shared):
    totals = _totals(shared / "data/modbus/characterization_modbus_6RTU_with_operate.pcap")
    sweep = totals.loc[("modbus_read", "192.168.1.101", "192.168.1.104")]
    # tshark -Y 'mbtcp && tcp.dstport==502' -T fields -e ip.src -e ip.dst -e modbus.func_code counts
    # the same.
    assert sweep["count"].to_dict() == {1: 6, 2: 10, 3: 14, 4: 3315}
    polls = totals.loc[("modbus_read", "192.168.1.100")]
    assert polls["count"].max() == 34
    assert set(polls.index.get_level_values("code")) == {1, 2, 3}
    assert totals.loc[("modbus_exception", "192.168.1.101", "192.168.1.104", 2), "count"] == 3329
    assert "192.168.1.100" not in totals.loc["modbus_exception"].index.get_level_values("src")


def test_counts_of_a_real_capture_are_those_of_tshark(shared):
    totals = _totals(next((shared / "data/iot23/honeypot-4-1").glob("*.pcap")))["count"]
    # tshark -Y 'dns.flags.response==0', 'arp.opcode==1', 'tcp.flags.reset==1'.
    wanted = {"dns_query": 191, "arp_request": 2374, "reset": 1}
    assert totals.groupby("kind").sum()[list(wanted)].to_dict() == wanted


def test_every_protocol_tells_all_its_kinds_and_each_is_counted():
    none = empty_exchanges().assign(src=[], dst=[], answer_ts=[])
    for protocol in PROTOCOLS:
        assert protocol.make_events(none).keys() == protocol.evidence.keys()
        assert protocol.evidence.keys() <= EVIDENCE_COUNTS.keys()
