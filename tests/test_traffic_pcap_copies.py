"""Copies of a mirror port go, whatever else comes twice stays."""

import struct
from pathlib import Path

import pytest
from frames import (
    CLIENT,
    CLIENT_MAC,
    SERVER,
    _sized,
    arp_packet,
    ethernet,
    ip,
    tcp_packet,
    udp_packet,
    write_pcap,
)  # fmt: skip
from hypothesis import given, settings
from hypothesis import strategies as st

from traffic.pcap.flows import make_flows
from traffic.pcap.packets import Packets, read_packets

ROUTER = b"\x02\0\0\0\0\x01"
DATA, MORE = tcp_packet("PA", 100, b"x" * 40), tcp_packet("PA", 140, b"y" * 40)
BARE = tcp_packet("A", 100)
V6 = ip(DATA[20:], 6, "fe80::1", "fe80::2")


def _with(packet: bytes, ident: int, ttl: int = 64, fragment: int = 0) -> bytes:
    return packet[:4] + struct.pack(">HHB", ident, fragment, ttl) + packet[9:]


def _read(path: Path, *frames: tuple[float, bytes]) -> Packets:
    return read_packets([write_pcap(path / "a.pcap", list(frames), nano=True)])


def _kept(path: Path, *frames: tuple[float, bytes]) -> list[int]:
    packets = _read(path, *frames)
    gone = packets.copies["frame"].tolist()
    kept = packets.table["frame"].tolist()
    assert sorted(kept + gone) == list(range(1, len(frames) + 1))
    return kept


def _twice(first: bytes, second: bytes, after_s: float, **macs: bytes) -> tuple:
    return (1.0, ethernet(first)), (1.0 + after_s, ethernet(second, **macs))


@pytest.mark.parametrize(
    ("frames", "kept"),
    [
        (_twice(_with(DATA, 7), _with(DATA, 7), 900e-6), 1),
        (_twice(_with(DATA, 7), _with(DATA, 7), 1100e-6), 2),
        # A retransmission has an identification of its own.
        (_twice(_with(DATA, 7), _with(DATA, 8), 10e-6), 2),
        # The same packet on its way through a router, whichever side was mirrored first.
        (_twice(_with(DATA, 7), _with(DATA, 7, 63), 200e-6, src=ROUTER), 1),
        (_twice(_with(DATA, 7, 63), _with(DATA, 7), 200e-6, src=ROUTER), 1),
        (_twice(_with(DATA, 0), _with(DATA, 0, 63), 200e-6, src=ROUTER), 1),
        (_twice(_with(DATA, 7), _with(DATA, 7, 63), 200e-6), 2),
        (_twice(_with(DATA, 7), _with(DATA, 7, 60), 200e-6, src=ROUTER), 2),
        # The identification says nothing: the same MAC, at once, and data.
        (_twice(_with(DATA, 0), _with(DATA, 0), 40e-6), 1),
        (_twice(_with(DATA, 0), _with(DATA, 0), 60e-6), 2),
        (_twice(_with(DATA, 0), _with(DATA, 0), 40e-6, src=ROUTER), 2),
        (_twice(_with(DATA, 7), _with(MORE, 7), 1e-6), 2),
        # Two fragments of one packet differ by their place alone.
        (_twice(_with(DATA, 7, 64, 0x2000), _with(DATA, 7, 64, 0x2005), 1e-6), 2),
        # The last byte alone differs, beyond what is compared, and with it the checksum.
        (_twice(_with(tcp_packet("A", 1, bytes(200)), 7),
                _with(tcp_packet("A", 1, bytes(199) + b"\1")[:-202] + b"\1\1"
                      + tcp_packet("A", 1, bytes(199) + b"\1")[-200:], 7), 1e-6), 2),
    ],
)  # fmt: skip
def test_a_copy_is_told_from_a_packet_that_was_sent_again(tmp_path, frames, kept):
    assert len(_kept(tmp_path, *frames)) == kept


def test_ipv6_has_no_identification(tmp_path):
    near = [(1.0, ethernet(V6, 0x86DD)), (1.00002, ethernet(V6, 0x86DD))]
    assert _kept(tmp_path, *near) == [1]
    assert _kept(tmp_path, near[0], (1.0002, near[1][1])) == [1, 2]


def test_acknowledgements_are_copies_only_where_most_comes_twice(tmp_path):
    """Three equal ACKs in a burst ask for a lost segment (RFC 5681)."""
    other = [(0.1 * i, ethernet(_with(tcp_packet("A", 100 + i), 0))) for i in range(20)]
    burst = [(5.0 + i * 1e-5, ethernet(_with(BARE, 0))) for i in range(3)]
    assert len(_kept(tmp_path, *other, *burst)) == 23
    doubled = [(ts + part, frame) for ts, frame in other for part in (0.0, 1e-5)]
    assert len(_kept(tmp_path, *doubled)) == 20


def test_a_device_that_writes_one_number_into_all_packets_is_blind(tmp_path):
    frames = [(0.1 * i, ethernet(_with(tcp_packet("A", i), 1))) for i in range(30)]
    burst = [(5.0 + i * 1e-4, ethernet(_with(DATA, 1))) for i in range(2)]
    assert len(_kept(tmp_path, *frames, *burst)) == 32


@pytest.mark.parametrize(("times", "kept"), [(2, 1), (4, 1), (5, 5), (300, 300)])
def test_a_flood_of_one_packet_is_no_mirror(tmp_path, times, kept):
    flood = [(1.0 + i * 2e-4, ethernet(_with(udp_packet(b"flood"), 7))) for i in range(times)]
    assert len(_kept(tmp_path, *flood)) == kept


def test_arp_copies_go_and_a_second_request_stays(tmp_path):
    asks = arp_packet(1, CLIENT_MAC, CLIENT, SERVER)
    times = (1.0, 1.00001, 2.0, 2.00001, 3.0)
    assert _read(tmp_path, *((ts, asks) for ts in times)).arp["frame"].tolist() == [1, 3, 5]


_FRAME = st.tuples(
    st.integers(0, 3),
    st.integers(1, 60_000),
    st.sampled_from([b"", b"a", b"b" * 90]),
    st.booleans(),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(_FRAME, min_size=1, max_size=40))
def test_a_mirror_that_doubles_everything_changes_nothing(tmp_path_factory, drawn):
    frames = []
    for i, (step, ident, data, is_tcp) in enumerate(drawn):
        packet = tcp_packet("PA", step, data) if is_tcp else udp_packet(data)
        frames.append((1.0 + i * 0.01, ethernet(_sized(_with(packet, ident)))))
    doubled = [(ts + part, frame) for ts, frame in frames for part in (0.0, 1e-6)]
    path = tmp_path_factory.mktemp("copies")
    once, twice = make_flows(_read(path, *frames)), make_flows(_read(path, *doubled))
    assert once.flows.equals(twice.flows)
    assert once.activity.equals(twice.activity)
    assert once.evidence.equals(twice.evidence)


@pytest.mark.parametrize(
    ("name", "copies"), [("healthy-mirror-duplicates", 1952), ("mirror-copies-real", 926)]
)
def test_mirrors_in_the_field_show_no_retransmission(shared, name, copies):
    packets = read_packets([shared / "data" / "field" / f"{name}.pcap"])
    assert len(packets.copies) == copies
    assert "retransmission" not in set(make_flows(packets).evidence["kind"])
