"""What the sensor could not see is counted by device and said; what it saw is not blamed."""

import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from frames import (
    CLIENT,
    SERVER,
    Frame,
    client,
    ethernet,
    read,
    server,
    tcp_packet,
    udp_packet,
    write_pcap,
)  # fmt: skip
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.facts.sensor import sensor_facts
from traffic.quality import COUNTS, Quality, assess_flows, with_share
from traffic.reader import read_capture


def _client(ts: float, flags: str, seq: int, ack: int, data: bytes = b"") -> Frame:
    return ts, ethernet(_acking(tcp_packet(flags, seq, data), ack))


def _server(ts: float, flags: str, seq: int, ack: int, data: bytes = b"") -> Frame:
    return ts, ethernet(_acking(tcp_packet(flags, seq, data, SERVER, CLIENT, 80, 40000), ack))


def _acking(packet: bytes, ack: int) -> bytes:
    return packet[:28] + struct.pack(">I", ack) + packet[32:]


def _upload(sizes: list[int], start_s: float = 1.0) -> list[Frame]:
    """A handshake and as many segments, each acknowledged at once."""
    frames = [
        _client(start_s, "S", 99, 0),
        _server(start_s + 0.001, "SA", 499, 100),
        _client(start_s + 0.002, "A", 100, 500),
    ]
    seq = 100
    for i, size in enumerate(sizes):
        at = start_s + 0.01 * (i + 1)
        frames.append(_client(at, "PA", seq, 500, bytes(size)))
        seq += size
        frames.append(_server(at + 0.001, "A", 500, seq))
    return frames


def _quality(path: Path, frames: list[Frame]) -> Quality:
    return read(path, frames).quality


def test_a_capture_that_shows_all_has_nothing_to_say(tmp_path):
    capture = read(tmp_path, _upload([10, 20, 30]))
    assert capture.notes == ()
    whole = capture.quality.whole
    assert (whole["frames"], whole["two_way"], whole["one_way_share"]) == (9, 1, 0.0)
    assert capture.quality.of(CLIENT)["frames"] == 9
    assert capture.quality.of("192.0.2.77").fillna(-1).tolist() == [0.0] * 8 + [-1.0]


@pytest.mark.parametrize(("side", "other"), [(0, SERVER), (1, CLIENT)])
def test_one_direction_of_a_conversation_is_no_dead_peer(tmp_path, side, other):
    port = 36 if side else 34
    frames = [f for f in _upload([10] * 4) if f[1][port - 2 * side :][:2] == b"\x9c\x40"]
    capture = read(tmp_path, frames)
    assert capture.quality.of(other)["one_way_share"] == 1.0
    assert "only one direction of 1 of 1 TCP conversations was captured" in capture.notes[0]


def test_attempts_refusals_and_stray_ends_could_not_show_two_ways(tmp_path):
    def to(port: int, ts: float, flags: str) -> Frame:
        return ts, ethernet(tcp_packet(flags, sport=port))

    frames = [to(41000 + i, 1.0 + i, "S") for i in range(20)]
    frames += [to(42000, 30.0 + i, "FA") for i in range(2)] + [to(43000, 40.0, "R")]
    quality = _quality(tmp_path, frames)
    assert (quality.whole["one_way"], quality.whole["two_way"]) == (0, 0)
    assert quality.notes == ()


def test_datagrams_without_a_byte_of_content_are_blind(tmp_path):
    out = bytearray(write_pcap(tmp_path / "a.pcap", []).read_bytes())
    for ts, keep in ((1, 200), (2, 54), (3, 40)):  # 42 bytes are headers
        frame = ethernet(udp_packet(bytes(60)))
        out += struct.pack("<IIII", ts, 0, min(keep, len(frame)), len(frame)) + frame[:keep]
    (tmp_path / "a.pcap").write_bytes(out)
    whole = read_capture(tmp_path / "a.pcap").quality.whole
    assert whole[["frames", "cut_frames", "blind_frames"]].tolist() == [3, 2, 1]


def test_frames_that_are_cut_are_told_from_those_without_flags(tmp_path):
    out = bytearray(write_pcap(tmp_path / "a.pcap", []).read_bytes())
    for ts, keep in ((1, 200), (2, 60), (3, 40)):
        frame = ethernet(tcp_packet("PA", data=bytes(146)))
        out += struct.pack("<IIII", ts, 0, min(keep, len(frame)), len(frame)) + frame[:keep]
    (tmp_path / "a.pcap").write_bytes(out)
    capture = read_capture(tmp_path / "a.pcap")
    counts = capture.quality.whole[["frames", "cut_frames", "blind_frames"]].tolist()
    assert counts == [3, 2, 1]
    assert capture.quality.of(SERVER)["blind_frames"] == 1
    assert "1 frames are cut by the snap length before their TCP flags" in capture.notes[0]


def test_what_nothing_reads_is_named(tmp_path):
    stp = ethernet(b"\x42\x42\x03" + bytes(35), 38)
    cdp = ethernet(b"\xaa\xaa\x03\x00\x00\x0c\x20\x00" + bytes(30), 38)
    kinds = [0x88B8, 0x88B8, 0x8892, 0x88A4, 0x88BA, 0x8809, 0x88E3, 0x88FB, 0x1234]
    frames = [(1.0 + i, ethernet(bytes(46), kind)) for i, kind in enumerate(kinds)]
    capture = read(tmp_path, [*frames, (20.0, stp), (21.0, cdp), *_upload([5], 30.0)])
    assert dict(capture.quality.unread.itertuples(index=False, name=None)) == {
        "GOOSE": 2, "PROFINET": 1, "EtherCAT": 1, "Sampled Values": 1, "MRP": 1,
        "LACP or another slow protocol": 1, "PRP or HSR supervision": 1, "ethertype 0x1234": 1, "STP": 1,
        "CDP": 1,
    }  # fmt: skip
    assert "11 of 16 frames are of kinds that nothing here reads (2 GOOSE, " in capture.notes[0]


def test_acknowledged_data_that_was_never_seen_was_dropped_by_the_sensor(tmp_path):
    frames = _upload([10, 20, 30, 40])
    quality = _quality(tmp_path, frames[:5] + frames[6:])
    assert quality.drops[["src", "dst", "bytes"]].to_numpy().tolist() == [[CLIENT, SERVER, 20]]
    # The capture's seventh frame is the acknowledgement of what is missing, its eighth goes on.
    assert quality.drops["frame"].tolist() == [7]
    assert quality.of(CLIENT)["dropped_bytes"] == quality.of(SERVER)["dropped_bytes"] == 20
    assert "20 bytes in 1 gap were acknowledged" in quality.notes[0]


@pytest.mark.parametrize(
    "frames",
    [
        # A gap that nobody acknowledges is a loss on the way; the peer still asks for it.
        [*_upload([10])[:5], _client(1.1, "PA", 130, 500, bytes(5)), _server(1.2, "A", 500, 110)],
        # It came late, in two pieces.
        [*_upload([10])[:5], _client(1.1, "PA", 130, 500, bytes(5)),
         _client(1.11, "PA", 120, 500, bytes(10)), _client(1.12, "PA", 110, 500, bytes(10)),
         _server(1.2, "A", 500, 135)],
        # A keep-alive, and a FIN that was not seen but acknowledged.
        [*_upload([10]), _client(40.0, "A", 109, 500), _server(40.1, "A", 500, 110),
         _server(41.0, "A", 500, 111)],
        # A number that nobody can have reached.
        [*_upload([10]), _server(2.0, "A", 500, 0xF0000000)],
    ],
)  # fmt: skip
def test_a_loss_on_the_way_and_a_late_segment_are_no_drops(tmp_path, frames):
    assert _quality(tmp_path, frames).drops.empty


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(2, 1400), min_size=1, max_size=12),
    data=st.data(),
    start=st.sampled_from([0, 2**32 - 3000]),
)
def test_drops_are_exactly_the_data_that_is_missing(tmp_path_factory, sizes, data, start):
    gone = data.draw(st.sets(st.integers(0, len(sizes) - 1), max_size=len(sizes)))
    seq, frames = (
        start,
        [_client(1.0, "S", (start - 1) % 2**32, 0), _server(1.001, "SA", 499, start)],
    )
    for i, size in enumerate(sizes):
        if i not in gone:
            frames.append(_client(2.0 + i, "PA", seq, 500, bytes(size)))
        seq = (seq + size) % 2**32
        frames.append(_server(2.1 + i, "A", 500, seq))
    drops = _quality(tmp_path_factory.mktemp("drops"), frames).drops
    assert drops["bytes"].sum() == sum(sizes[i] for i in gone)
    runs = sum(i - 1 not in gone for i in gone)
    assert len(drops) == runs


def _polls(times: list[float], step: int = 12) -> list[Frame]:
    """A request and an answer of 12 bytes at each time, on one connection."""
    frames = [client(times[0] - 0.3, "S", 99), server(times[0] - 0.2, "SA", 499)]
    for i, ts in enumerate(times):
        frames.append(_client(ts, "PA", 100 + step * i, 500 + 12 * i, bytes(12)))
        frames.append(_server(ts + 0.01, "PA", 500 + 12 * i, 112 + step * i, bytes(12)))
    return frames


STEADY = [10.0 + i for i in range(120)]
JUMPED = STEADY + [ts + 3600 for ts in STEADY]


def test_a_clock_that_jumps_forward_loses_no_byte(tmp_path):
    quality = _quality(tmp_path, _polls(JUMPED))
    (hole,) = quality.holes.itertuples(index=False)
    assert (hole.kind, hole.frame) == ("clock forward", 2 + 2 * 120 + 1)
    assert (hole.start_s, hole.end_s) == (129.01, 3610.0)
    assert "no frame for 3480.99 s" in quality.notes[0]


def test_connections_that_went_on_meanwhile_were_not_captured(tmp_path):
    frames = _polls(STEADY)
    later = [
        _client(ts + 3600, "PA", 90_000 + 12 * i, 500, bytes(12)) for i, ts in enumerate(STEADY)
    ]
    assert _quality(tmp_path, frames + later).holes["kind"].tolist() == ["not captured"]


def test_a_pause_without_connections_is_silence_and_a_sparse_capture_has_none(tmp_path):
    def datagrams(times: list[float]) -> list[Frame]:
        return [(ts, ethernet(udp_packet(b"x"))) for ts in times]

    assert _quality(tmp_path, datagrams(JUMPED)).holes["kind"].tolist() == ["silence"]
    sparse = np.cumsum(np.random.default_rng(1).exponential(40, 200)).tolist()
    assert _quality(tmp_path, datagrams(sparse)).holes.empty
    bursts = [10 + i / 100 for i in range(50)] + [2000 + i / 100 for i in range(50)]
    assert _quality(tmp_path, datagrams(bursts)).holes.empty


def test_a_clock_that_is_set_back_sends_nothing_again(tmp_path):
    frames = [(1000 + ts, frame) for ts, frame in _polls(STEADY)]
    back = [(ts - 50 if i > 100 else ts, frame) for i, (ts, frame) in enumerate(frames)]
    plain, capture = read(tmp_path, frames), read(tmp_path, back)
    (hole,) = capture.quality.holes.itertuples(index=False)
    assert (hole.kind, hole.frame) == ("clock back", 102)
    assert "set back by 49.99 s" in capture.notes[0]
    assert capture.evidence["kind"].tolist() == plain.evidence["kind"].tolist()
    outcome = ["conn_state", "history", "orig_bytes", "resp_bytes", "missed_bytes"]
    assert capture.flows[outcome].equals(plain.flows[outcome])
    assert capture.flows.loc[0, "duration"] == pytest.approx(plain.flows.loc[0, "duration"], abs=2)


def test_a_clock_is_not_mended_to_before_the_epoch(tmp_path):
    frames = _polls(STEADY)
    back = [(ts - 50 if i > 100 else ts, frame) for i, (ts, frame) in enumerate(frames)]
    capture = read(tmp_path, back)
    assert capture.flows["ts"].min() == pytest.approx(9.01)  # of frame 102, at 59.01 before
    assert "99 packets were out of order" in capture.notes[0]


def test_files_that_were_joined_in_the_wrong_order_are_sorted(tmp_path):
    frames = _polls(STEADY)
    joined = read(tmp_path, frames[100:] + frames[:100])
    assert joined.quality.holes["kind"].tolist() == ["clock back"]
    plain = read(tmp_path, frames)
    pd.testing.assert_frame_equal(joined.flows, plain.flows)


def test_flows_of_a_log_tell_gaps_and_single_directions():
    columns = [
        "id.orig_h",
        "id.resp_h",
        "proto",
        "history",
        "orig_pkts",
        "resp_pkts",
        "missed_bytes",
    ]
    rows = [
        ("a", "b", "tcp", "ShADadfF", 5, 5, 0),
        ("a", "c", "tcp", "ShADad", 5, 5, 700),
        ("a", "d", "tcp", "ADF", 9, 0, 0),
        ("e", "d", "tcp", "^hd", 0, 9, 0),
        ("a", "f", "tcp", "S", 3, 0, 0),
        ("a", "g", "udp", "D", 9, 0, 0),
        ("a", "h", "tcp", None, np.nan, np.nan, np.nan),
    ]
    quality = assess_flows(pd.DataFrame(rows, columns=columns))
    assert quality.whole[["two_way", "one_way", "gaps", "dropped_bytes"]].tolist() == [2, 2, 1, 700]
    assert quality.of("d")["one_way_share"] == 1.0
    assert quality.of("c")["dropped_bytes"] == 700
    assert quality.of("f")["one_way"] == 0
    assert set(quality.devices.index) == {"a", "b", "c", "d", "e"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("healthy", ""),
        ("healthy-tcp-keepalive", ""),
        ("healthy-one-direction-only", "only one direction of 8 of 8 TCP conversations"),
        ("goose-only", ""),  # its frames are read, though none of them is IP
        ("snaplen-40", "3,943 frames are cut by the snap length before their TCP flags"),
        ("healthy-mirror-duplicates", "1,952 of 5,479 frames are copies of others"),
    ],
)
def test_cases_of_the_field_are_seen(shared, name, said):
    notes = read_capture(shared / "data" / "field" / f"{name}.pcap").notes
    assert any(said in note for note in notes) if said else notes == ()


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ({"copies": 999}, False),  # they were left out: what is counted is right without them
        ({"copies": 1_001}, True),
        ({"cut_frames": 9}, False),
        ({"cut_frames": 9, "blind_frames": 9}, True),  # nothing there can be judged
        ({"gaps": 9, "dropped_bytes": 900}, False),
        ({"gaps": 11, "dropped_bytes": 900}, True),
        ({"one_way": 9, "two_way": 1}, True),
    ],
)
def test_too_little_to_change_a_judgement_is_said_only_of_the_sensor(counts, told):
    """Of 20,000 frames; a judgement changes from a gap in 200 of them on, and a tenth of that is ten.
    Copies that were left out change none; a twentieth of them is much."""
    columns = {name: [counts.get(name, 0)] for name in COUNTS} | {"frames": [20_000]}
    whole = with_share(pd.DataFrame(columns)).iloc[0].astype(float)
    quality = Quality(whole=whole)
    assert len(quality.notes) == len(sensor_facts(quality)) == 1
    assert len(sensor_facts(quality, slight=False)) == told
