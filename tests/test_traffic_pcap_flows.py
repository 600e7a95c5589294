import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from frames import (
    BITS,
    CLIENT,
    SERVER,
    Frame,
    client,
    ethernet,
    icmp_packet,
    ip,
    read,
    server,
    tcp_packet,
    udp_packet,
    write_pcap,
)  # fmt: skip
from hypothesis import given, settings
from hypothesis import strategies as st

from traffic.capture import ACTIVITY_COUNTS, ACTIVITY_TIMES, Capture, spread
from traffic.pcap.flows import make_flows
from traffic.pcap.packets import read_packets
from traffic.samples import make_samples
from traffic.zeek import read_zeek

HELLO = b"GET / HTTP/1.1\r\n"
OPEN = [("o", "S", 100), ("r", "SA", 500), ("o", "A", 101)]
ASK = [*OPEN, ("o", "PA", 101, HELLO), ("r", "A", 501), ("r", "PA", 501, b"page"), ("o", "A", 117)]


def _talk(script: list[tuple], start: float = 1000.0, step: float = 0.01) -> list[Frame]:
    frames = []
    for i, (side, flags, seq, *data) in enumerate(script):
        frames.append((client if side == "o" else server)(start + i * step, flags, seq, *data))
    return frames


@pytest.mark.parametrize(
    ("script", "state", "history"),
    [
        ([("o", "S", 100)], "S0", "S"),
        ([("o", "S", 100), ("r", "A", 9)], "S0", "Sa"),
        ([("o", "S", 100), ("r", "RA", 0)], "REJ", "Sr"),
        (OPEN, "S1", "ShA"),
        ([*ASK, ("o", "FA", 117), ("r", "FA", 505), ("o", "A", 118)], "SF", "ShADadFf"),
        ([*OPEN, ("o", "FA", 101)], "S2", "ShAF"),
        ([*OPEN, ("r", "FA", 501)], "S3", "ShAf"),
        ([*ASK, ("o", "RA", 117)], "RSTO", "ShADadR"),
        ([*ASK, ("r", "RA", 505)], "RSTR", "ShADadr"),
        ([("o", "S", 100), ("r", "SA", 500), ("o", "R", 101)], "RSTO", "ShR"),
        ([("o", "S", 100), ("o", "R", 101)], "RSTOS0", "SR"),
        ([("o", "S", 100), ("o", "FA", 101)], "SH", "SF"),
        ([("r", "SA", 500), ("r", "FA", 501)], "SHR", "^hf"),
        ([("r", "SA", 500), ("r", "RA", 501)], "RSTRH", "^hr"),
        ([("r", "SA", 500)], "OTH", "^h"),
        ([("r", "A", 501), ("o", "A", 117)], "OTH", "^aA"),
        ([*ASK, ("o", "FA", 117), ("r", "FA", 505), ("r", "RA", 506)], "SF", "ShADadFfr"),
        ([*ASK, ("o", "FA", 117), ("o", "RA", 118), ("r", "FA", 505)], "SF", "ShADadFRf"),
        ([*ASK, ("r", "FA", 505), ("r", "RA", 506)], "RSTR", "ShADadfr"),
        ([*ASK, ("r", "FA", 505, b"more")], "S3", "ShADadf"),
        ([("o", "SF", 100)], "SH", "Q"),
    ],
)
def test_state_and_history_are_what_zeek_writes(tmp_path, script, state, history):
    flows = read(tmp_path, _talk(script)).flows
    assert len(flows) == 1
    assert flows.loc[0, ["conn_state", "history", "id.orig_h"]].tolist() == [state, history, CLIENT]


@pytest.mark.parametrize(
    ("sport", "dport", "flags", "flipped"),
    [
        (80, 40000, "SA", True),
        (5020, 40000, "SA", True),  # neither is a server's port: the lower one answers
        (40000, 80, "SA", False),  # a scan that begins with the answer
        (80, 443, "SA", False),
        (80, 443, "A", True),
        (443, 80, "A", False),
        (5020, 40000, "A", False),
        (40000, 80, "R", False),
        (80, 40000, "S", False),
    ],
)
def test_who_began_is_told_by_ports_where_no_syn_was_seen(tmp_path, sport, dport, flags, flipped):
    packet = tcp_packet(flags, 5, sport=sport, dport=dport)
    row = read(tmp_path, [(1.0, ethernet(packet))]).flows.iloc[0]
    expected = [SERVER, dport, CLIENT] if flipped else [CLIENT, sport, SERVER]
    assert row[["id.orig_h", "id.orig_p", "id.resp_h"]].tolist() == expected
    assert row["history"].startswith("^") == flipped


def test_a_scan_that_begins_with_the_answer_is_refused_and_no_attempt(tmp_path):
    asked = (1.0, ethernet(tcp_packet("SA", 5, sport=40000, dport=80)))
    flows = read(tmp_path, [asked, server(1.1, "R", 1)]).flows
    assert flows[["conn_state", "history"]].values.tolist() == [["REJ", "Hr"]]
    assert read(tmp_path, [asked]).flows["conn_state"].tolist() == ["OTH"]


def test_counts_of_a_whole_connection(tmp_path):
    script = [*ASK, ("o", "FA", 117), ("r", "FA", 505), ("o", "A", 118)]
    row = read(tmp_path, _talk(script)).flows.iloc[0]
    assert row["service"] == "http"
    assert row[["orig_pkts", "resp_pkts"]].tolist() == [6, 4]
    assert row[["orig_ip_bytes", "resp_ip_bytes"]].tolist() == [6 * 40 + 16, 4 * 40 + 4]
    assert row[["orig_bytes", "resp_bytes", "missed_bytes"]].tolist() == [16, 4, 0]
    # The last ACK comes after both sides closed: it counts as a packet, not as time.
    assert row["duration"] == pytest.approx(0.08)
    macs = ["02:00:00:00:00:0a", "02:00:00:00:00:14"]
    assert row[["orig_l2_addr", "resp_l2_addr"]].tolist() == macs


def test_bytes_are_counted_once_and_holes_are_missed(tmp_path):
    sent = [(101, b"12345"), (101, b"12345"), (116, b"678")]
    script = [*OPEN, *(("o", "PA", *one) for one in sent)]
    row = read(tmp_path, _talk(script)).flows.iloc[0]
    # 101 to 119 is 18 bytes of stream; 13 were carried, 5 of them twice, so at least 5 never were.
    assert row[["orig_bytes", "missed_bytes", "history"]].tolist() == [18, 5, "ShADT"]


def test_sequence_numbers_may_wrap(tmp_path):
    top = 2**32 - 3
    script = [("o", "S", top - 1), ("r", "SA", 500)]
    script += [("o", "PA", top, b"123456"), ("o", "PA", 3, b"789")]
    row = read(tmp_path, _talk(script)).flows.iloc[0]
    assert row[["orig_bytes", "missed_bytes", "history"]].tolist() == [9, 0, "ShD"]


def test_retries_of_a_syn_are_attempts_of_five_seconds(tmp_path):
    capture = read(tmp_path, [client(1000.0 + t, "S", 100) for t in (0, 1, 3, 7, 15)])
    assert capture.flows["conn_state"].tolist() == ["S0"] * 3
    assert capture.flows["orig_pkts"].tolist() == [3, 1, 1]
    assert capture.activity[["slot", "orig_syns"]].values.tolist() == [[100, 3], [100, 1], [101, 1]]


def test_an_answer_after_the_attempt_ended_is_a_flow_of_its_own(tmp_path):
    flows = read(tmp_path, [client(1000.0, "S", 100), server(1005.5, "SA", 500)]).flows
    assert flows["conn_state"].tolist() == ["S0", "OTH"]
    assert flows["id.orig_h"].tolist() == [CLIENT, CLIENT]


@pytest.mark.parametrize(
    ("second", "flows"),
    [
        (client(1001.0, "S", 100), 1),  # the same SYN again
        (client(1001.0, "S", 777), 2),  # another connection on the same ports
    ],
)
def test_a_syn_with_another_number_begins_a_connection(tmp_path, second, flows):
    assert len(read(tmp_path, [client(1000.0, "S", 100), second]).flows) == flows


@pytest.mark.parametrize(("wait", "n_flows"), [(4.9, 1), (5.1, 2)])
@pytest.mark.parametrize("end", [[("o", "FA", 117), ("r", "FA", 505)], [("r", "RA", 505)]])
def test_a_closed_connection_is_forgotten_after_five_seconds(tmp_path, end, wait, n_flows):
    frames = _talk([*ASK, *end])
    late = client(frames[-1][0] + wait, "A", 118)
    assert len(read(tmp_path, [*frames, late]).flows) == n_flows


def test_a_syn_after_the_close_begins_a_connection_at_once(tmp_path):
    refused = [("o", "S", 100), ("r", "RA", 0)]
    frames = [*_talk(refused), *_talk(refused, 1000.5)]
    assert read(tmp_path, frames).flows["conn_state"].tolist() == ["REJ", "REJ"]


@pytest.mark.parametrize(
    ("packet", "gap", "n_flows"),
    [
        (udp_packet(b"x"), 59.9, 1),
        (udp_packet(b"x"), 60.1, 2),
        (udp_packet(b"x", dport=53), 10.1, 2),
        (icmp_packet(8), 59.9, 1),
        (icmp_packet(8), 60.1, 2),
        (tcp_packet("A", 5), 299.0, 1),
        (tcp_packet("A", 5), 301.0, 2),
        (tcp_packet("A", dport=22), 3599.0, 1),
        (tcp_packet("A", dport=22), 3600.0, 2),
        (ip(bytes(8), 47, CLIENT, SERVER), 60.1, 2),
    ],
)
def test_silence_ends_a_flow(tmp_path, packet, gap, n_flows):
    frames = [(1000.0, ethernet(packet)), (1000.0 + gap, ethernet(packet))]
    assert len(read(tmp_path, frames).flows) == n_flows


def test_udp_and_other_protocols(tmp_path):
    back = {"src": SERVER, "dst": CLIENT}
    frames = [
        (1.0, ethernet(udp_packet(b"ask", sport=1000))),
        (1.1, ethernet(udp_packet(b"reply", sport=9999, dport=1000, **back))),
        (2.0, ethernet(udp_packet(b"alone", sport=1001))),
        (3.0, ethernet(udp_packet(b"\x24" + bytes(47), sport=123, dport=1002, **back))),
        (4.0, ethernet(icmp_packet(8, data=b"ping"))),
        (4.1, ethernet(icmp_packet(0, data=b"ping", **back))),
        (5.0, ethernet(icmp_packet(3, 1, **back))),
        (6.0, ethernet(icmp_packet(3, 1))),
        (7.0, ethernet(icmp_packet(135, src="fe80::1", dst="fe80::2"), 0x86DD)),
        (8.0, ethernet(ip(bytes(8), 2, CLIENT, "224.0.0.22"))),
    ]
    flows = read(tmp_path, frames).flows
    columns = ["id.orig_h", "id.orig_p", "id.resp_p", "proto", "conn_state", "history"]
    columns += ["orig_pkts", "resp_pkts"]
    assert flows[columns].fillna("-").values.tolist() == [
        [CLIENT, 1000, 9999, "udp", "SF", "Dd", 1, 1],
        [CLIENT, 1001, 9999, "udp", "S0", "D", 1, 0],
        [CLIENT, 1002, 123, "udp", "SHR", "^d", 0, 1],
        [CLIENT, 8, 0, "icmp", "OTH", "-", 1, 1],
        [SERVER, 3, 1, "icmp", "OTH", "-", 1, 0],
        [CLIENT, 3, 1, "icmp", "OTH", "-", 1, 0],
        ["fe80::1", 135, 136, "icmp", "OTH", "-", 1, 0],
        [CLIENT, 0, 0, "unknown_transport", "OTH", "-", 1, 0],
    ]
    assert flows["service"].fillna("-").tolist() == ["-", "-", "ntp", "-", "-", "-", "-", "-"]
    assert np.isnan(flows.loc[1, "duration"])
    assert flows.loc[3, ["orig_bytes", "resp_bytes"]].tolist() == [4, 4]


@pytest.mark.parametrize(
    ("port", "ask", "reply", "service"),
    [
        (80, b"POST /x HTTP/1.1", b"", "http"),
        (4433, b"\x16\x03\x01\x00\x05\x01", b"", "ssl"),
        (2222, b"", b"SSH-2.0-dropbear", "ssh"),
        (502, b"\x00\x01\x00\x00\x00\x06\x01\x03\x00\x00\x00\x01", b"", "modbus"),
        (502, b"GET / HTTP/1.0\r\n", b"", "http"),
        (1883, b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c", b"", "mqtt"),
        (502, b"rubbish that is no modbus", b"", "-"),
        (80, b"\x00\x01\x02\x03", b"", "-"),
    ],
)
def test_a_service_is_named_by_its_first_bytes(tmp_path, port, ask, reply, service):
    frames = [client(1.0, "S", 100, dport=port), server(1.1, "SA", 500, port=port)]
    frames += [client(1.2, "PA", 101, ask, dport=port)] if ask else []
    frames += [server(1.3, "PA", 501, reply, port=port)] if reply else []
    assert read(tmp_path, frames).flows["service"].fillna("-").tolist() == [service]


def test_activity_places_each_packet_in_its_half_open_slot(tmp_path):
    frames = [client(999.99, "S", 100), server(1000.0, "SA", 500)]
    frames += [client(1009.999, "A", 101), client(1010.0, "A", 101)]
    activity = read(tmp_path, frames).activity
    assert activity[["flow", "slot", *ACTIVITY_COUNTS]].values.tolist() == [
        [0, 99, 1, 0, 40, 0, 1],
        [0, 100, 1, 1, 40, 40, 0],
        [0, 101, 1, 0, 40, 0, 0],
    ]
    assert activity[ACTIVITY_TIMES].fillna(0).values.tolist() == [
        [999.99, 999.99, 0, 0],
        [1009.999, 1009.999, 1000.0, 1000.0],
        [1010.0, 1010.0, 0, 0],
    ]


def test_a_capture_without_ethernet_has_no_machine_addresses(tmp_path):
    flows = read(tmp_path, [(1.0, tcp_packet("S"))], link=101).flows
    assert "orig_l2_addr" not in flows


def _segment(flags: str, seq: int, size: int, forward: bool, port: int) -> bytes:
    ends = (CLIENT, SERVER, port, 80) if forward else (SERVER, CLIENT, 80, port)
    return tcp_packet(flags, seq, bytes(size), *ends)


_SEGMENTS = st.builds(
    _segment,
    st.lists(st.sampled_from(list(BITS)), unique=True).map("".join),
    st.sampled_from([0, 1, 100, 101, 2**31, 2**32 - 1]),
    st.integers(0, 3),
    st.booleans(),
    st.sampled_from([40000, 40001]),
)
_OTHERS = [udp_packet(b"x"), udp_packet(dport=53), icmp_packet(8), icmp_packet(3)]
_PACKETS = _SEGMENTS | st.sampled_from([*_OTHERS, ip(bytes(4), 2, CLIENT, SERVER)])
_STEPS = st.tuples(st.sampled_from([0.0, 0.5, 4.0, 6.0, 70.0, 400.0]), _PACKETS)
_FRAMES = st.lists(_STEPS, min_size=2, max_size=40)


def _at(steps: list[tuple[float, bytes]]) -> list[Frame]:
    times = 1000.0 + np.cumsum([step for step, _ in steps])
    # Each has its own identification, as no mirror's copy has.
    packets = [p[:4] + (i + 1).to_bytes(2, "big") + p[6:] for i, (_, p) in enumerate(steps)]
    return [(float(ts), ethernet(p)) for ts, p in zip(times, packets, strict=True)]


@settings(max_examples=30, deadline=None)
@given(_FRAMES)
def test_law_every_packet_is_in_one_flow_and_one_slot(steps):
    with tempfile.TemporaryDirectory() as folder:
        frames = _at(steps)
        capture = read(Path(folder), frames)
    activity, flows = capture.activity, capture.flows
    assert activity[["orig_pkts", "resp_pkts"]].sum().sum() == len(frames)
    assert not activity.duplicated(["flow", "slot"]).any()
    slots = pd.Series(np.floor([ts / 10 for ts, _ in frames]).astype(int)).value_counts()
    both = activity["orig_pkts"] + activity["resp_pkts"]
    pkts = both.groupby(activity["slot"]).sum()
    assert pkts.to_dict() == slots.to_dict()
    per_flow = activity.groupby("flow")[["orig_pkts", "resp_pkts"]].sum()
    assert (per_flow.to_numpy() == flows[["orig_pkts", "resp_pkts"]].to_numpy()).all()
    assert flows["ts"].is_monotonic_increasing
    assert flows["uid"].is_unique
    assert (flows[["orig_bytes", "resp_bytes", "missed_bytes"]].fillna(0) >= 0).all(axis=None)


@settings(max_examples=20, deadline=None)
@given(_FRAMES, st.data())
def test_law_a_capture_cut_in_two_files_is_the_same_capture(steps, data):
    frames = _at(steps)
    cut = data.draw(st.integers(1, len(frames) - 1))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = read(folder, frames)
        halves = {"1.pcap": frames[:cut], "2.pcap": frames[cut:]}
        parts = [write_pcap(folder / name, half) for name, half in halves.items()]
        joined = make_flows(read_packets(parts))
    for table in ("flows", "activity", "evidence"):
        pd.testing.assert_frame_equal(getattr(whole, table), getattr(joined, table))


@pytest.fixture(scope="module")
def both(shared: Path) -> tuple[Capture, Capture]:
    """The packets and the Zeek log of one and the same capture."""
    folder = shared / "data/iot23/honeypot-4-1"
    packets = read_packets(sorted(folder.glob("*.pcap")))
    return make_flows(packets), read_zeek(folder / "conn.log.labeled")


def test_flows_of_a_real_capture_are_those_of_zeek(both):
    ours, theirs = (capture.flows.assign(ts=capture.flows["ts"].round(5)) for capture in both)
    keys = ["ts", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto"]
    joined = ours.merge(theirs, on=keys, suffixes=("", "_zeek"))
    assert len(ours) == len(theirs) == len(joined) == 452
    assert (joined["conn_state"] == joined["conn_state_zeek"]).all()
    for column in ("orig_bytes", "resp_bytes", "duration"):
        pair = joined[column], joined[f"{column}_zeek"]
        assert np.allclose(*pair, atol=1e-5, equal_nan=True), column
    # Zeek dropped packets with bad checksums from 7 flows; we count them.
    checked = ~joined["history_zeek"].str.contains("C", case=False)
    assert checked.sum() == 445
    for column in ("orig_pkts", "resp_pkts", "orig_ip_bytes", "resp_ip_bytes", "missed_bytes"):
        same = (joined[column] - joined[f"{column}_zeek"]).abs() <= 1
        assert same[checked].all(), column
    assert (joined["history"] == joined["history_zeek"])[checked].mean() > 0.995


def test_packets_and_log_give_the_same_samples(both):
    """Where both hold the same knowledge: the packets of each flow, placed evenly, as a log has to
    place them."""
    packets, log = both
    evenly = Capture(packets.flows, spread(packets.flows))
    ours, theirs = make_samples(evenly), make_samples(log)
    joined = ours.merge(theirs, on=["device", "start_s"], how="outer", suffixes=("", "_log"))
    joined = joined.fillna(0)
    names = ["out_pkts", "in_pkts", "peers", "unanswered_out", "unanswered_in"]
    same = np.logical_and.reduce([joined[name] == joined[f"{name}_log"] for name in names])
    assert len(joined) > 7000
    assert same.mean() >= 0.97
