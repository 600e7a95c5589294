"""One packet in every envelope, each written out by hand from the standard that the reader names."""

import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from frames import (
    CLIENT,
    CLIENT_MAC,
    SERVER,
    SERVER_MAC,
    _sized,
    arp_packet,
    client,
    ethernet,
    ip,
    tcp_packet,
    udp_packet,
    write_pcap,
)  # fmt: skip

from traffic.pcap.packets import Packets, read_packets
from traffic.pcap.unread import name_unread

SYN = tcp_packet("S", seq=7, data=b"hello")
SYN6 = ip(SYN[20:], 6, "fe80::1", "fe80::2")
NEAR, FAR = "10.9.0.1", "10.9.0.2"
SNAP = b"\xaa\xaa\x03\0\0\0\x08\0"
LABEL, LAST_LABEL = struct.pack(">I", 100 << 12 | 64), struct.pack(">I", 200 << 12 | 0x100 | 64)
PPPOE = b"\x11\x00\x00\x07" + struct.pack(">H", 2 + len(SYN))


def _in_ip(proto: int, body: bytes, src: str = NEAR, dst: str = FAR) -> bytes:
    return ethernet(_sized(ip(body, proto, src, dst)), 0x86DD if ":" in src else 0x0800)


def _gre(kind: int, body: bytes, flags: int = 0, options: bytes = b"") -> bytes:
    return _in_ip(47, struct.pack(">HH", flags, kind) + options + body)


def _in_udp(port: int, body: bytes) -> bytes:
    return ethernet(udp_packet(body, NEAR, FAR, 33333, port))


def _wifi(flags: int, addresses: bytes, kind: int = 0x08, more: bytes = b"") -> bytes:
    return bytes([kind, flags]) + bytes(2) + addresses[:18] + bytes(2) + addresses[18:] + more


AP = b"\x02\0\0\0\0\xaa"
TO_AP, FROM_AP = AP + CLIENT_MAC + SERVER_MAC, SERVER_MAC + AP + CLIENT_MAC
RADIOTAP = struct.pack("<BBHI", 0, 0, 8, 0)
# TSFT and flags present, flags say: header padded to four bytes.
PADDED = struct.pack("<BBHIQB", 0, 0, 17, 3, 0, 0x20)
VXLAN, GENEVE = b"\x08\0\0\0\0\0\x2a\0", b"\x01\0\x65\x58\0\0\x2a\0" + bytes(4)
ERSPAN_3 = bytes(10) + b"\x00\x01"  # Ethernet, with a platform's 8 bytes behind it
ONCE = [
    ("PPPoE", 1, ethernet(PPPOE + b"\x00\x21" + SYN, 0x8864)),
    ("PPPoE", 1, ethernet(b"\x00\x05\x88\x64" + PPPOE + b"\x00\x21" + SYN, 0x8100)),
    ("PPPoE", 51, PPPOE + b"\x00\x21" + SYN),
    ("PPP", 9, b"\x00\x21" + SYN),
    ("PPP", 9, b"\xff\x03\x00\x21" + SYN),
    ("PPP", 50, b"\xff\x03\x21" + SYN),
    ("PPP", 204, b"\x01\xff\x03\x00\x21" + SYN),
    ("MPLS", 1, ethernet(LABEL + LAST_LABEL + SYN, 0x8847)),
    ("MPLS", 1, ethernet(LABEL + LAST_LABEL + bytes(4) + ethernet(SYN), 0x8847)),
    ("MPLS", 1, ethernet(LAST_LABEL + ethernet(SYN), 0x8847)),
    ("MPLS", 9, b"\x02\x81" + LAST_LABEL + SYN),
    ("an HSR tag", 1, ethernet(b"\x10\x34\x00\x07\x08\x00" + SYN, 0x892F)),
    ("a DSA tag", 1, ethernet(bytes(2) + b"\xc0\x01\x00\x00\x08\x00" + SYN, 0xDADA)),
    ("a DSA tag", 1, ethernet(b"\x00\x00\x08\x00" + SYN, 0xC001)),
    ("a DSA tag", 284, ethernet(b"\x00\x00\x08\x00" + SYN, 0xC001)),
    ("a DSA tag", 285, ethernet(bytes(2) + b"\xc0\x01\x00\x00\x08\x00" + SYN, 0xDADA)),
    ("a provider bridge (802.1ah)", 1, ethernet(bytes(4) + ethernet(SYN), 0x88E7)),
    ("802.11", 105, _wifi(1, TO_AP) + SNAP + SYN),
    ("802.11", 105, _wifi(2, FROM_AP) + SNAP + SYN),
    ("802.11", 127, RADIOTAP + _wifi(1, TO_AP) + SNAP + SYN),
    ("802.11", 127, RADIOTAP + _wifi(1, TO_AP, 0x88, bytes(2)) + SNAP + SYN),
    ("802.11", 127, RADIOTAP + _wifi(0x81, TO_AP, 0x88, bytes(6)) + SNAP + SYN),
    ("802.11", 127, PADDED + _wifi(1, TO_AP, 0x88, bytes(4)) + SNAP + SYN),
    ("802.11", 105, _wifi(3, AP * 2 + SERVER_MAC + CLIENT_MAC) + SNAP + SYN),
    ("802.11", 127, RADIOTAP + _wifi(1, TO_AP, 0x88, b"\x80\0") + SERVER_MAC + CLIENT_MAC
     + struct.pack(">H", 8 + len(SYN)) + SNAP + SYN),
    ("802.11", 192, struct.pack("<BBHI", 0, 0, 8, 105) + _wifi(1, TO_AP) + SNAP + SYN),
    ("802.11", 119, bytes(144) + _wifi(1, TO_AP) + SNAP + SYN),
    ("GRE", 1, _gre(0x0800, SYN)),
    ("GRE", 1, _gre(0x0800, SYN, 0xB000, bytes(12))),
    ("GRE", 1, _gre(0x6558, ethernet(SYN), 0x2000, bytes(4))),
    ("GRE", 1, _gre(0x8847, LAST_LABEL + SYN)),
    ("GRE", 1, _gre(0x880B, b"\xff\x03\x00\x21" + SYN, 0x3081, bytes(12))),
    ("GRE", 1, _gre(0x8210, _wifi(1, TO_AP) + SNAP + SYN)),
    ("ERSPAN", 1, _gre(0x88BE, ethernet(SYN))),
    ("ERSPAN", 1, _gre(0x88BE, b"\x10" + bytes(7) + ethernet(SYN), 0x1000, bytes(4))),
    ("ERSPAN", 1, _gre(0x88BE, ethernet(SYN), 0x1000, bytes(4))),  # numbered, yet of the first type
    ("ERSPAN", 1, _gre(0x88BE, ethernet(SYN, dst=b"\x10" + bytes(5)), 0x1000, bytes(4))),
    ("ERSPAN", 1, _gre(0x22EB, bytes(12) + ethernet(SYN), 0x1000, bytes(4))),
    ("ERSPAN", 1, _gre(0x22EB, ERSPAN_3 + bytes(8) + ethernet(SYN), 0x1000, bytes(4))),
    ("IP in IP", 1, _in_ip(4, SYN)),
    ("IP in IP", 1, _in_ip(4, SYN, "fe80::9", "fe80::8")),
    ("IP in IP", 1, _in_ip(94, SYN)),
    ("EtherIP", 1, _in_ip(97, b"\x30\0" + ethernet(SYN))),
    ("MPLS", 1, _in_ip(137, LAST_LABEL + SYN)),
]  # fmt: skip
BESIDE = [
    ("VXLAN", 4789, VXLAN + ethernet(SYN)),
    ("VXLAN", 8472, VXLAN + ethernet(SYN)),
    ("VXLAN", 4789, b"\x88\x40\0\x07\0\0\x2a\0" + ethernet(SYN)),
    ("Geneve", 6081, GENEVE + ethernet(SYN)),
    ("Geneve", 6081, b"\0\0\x08\0\0\0\x2a\0" + SYN),
    ("GTP", 2152, b"\x30\xff" + struct.pack(">H", len(SYN)) + bytes(4) + SYN),
    ("GTP", 2152, b"\x34\xff" + struct.pack(">H", 8 + len(SYN)) + bytes(4) + b"\0\0\0\x85"
     + b"\1\0\0\0" + SYN),
]  # fmt: skip


def _read(path: Path, frames: list[bytes], link: int = 1) -> Packets:
    stamped = [(1.0 + i, frame) for i, frame in enumerate(frames)]
    return read_packets([write_pcap(path / "a.pcap", stamped, link=link)])


def _rows(packets: Packets) -> list[tuple[object, ...]]:
    table = packets.table
    ends = [pd.Series(packets.addresses[table[side].to_numpy()]) for side in ("src", "dst")]
    names = ["proto", "sport", "dport", "ip_bytes", "flags", "seq", "payload", "held"]
    return list(zip(*ends, *(table[name] for name in names), strict=True))


INSIDE = (CLIENT, SERVER, 6, 40000, 80, 45, 2, 7, 5, 5)


def _opened(packets: Packets) -> dict[str, int]:
    return dict(packets.envelopes.itertuples(index=False, name=None))


@pytest.mark.parametrize(("name", "link", "frame"), ONCE)
def test_what_is_in_the_envelope_takes_its_place(tmp_path, name, link, frame):
    packets = _read(tmp_path, [frame, frame + bytes(3)], link)
    assert _rows(packets) == [INSIDE, INSIDE]
    assert packets.table["frame"].tolist() == [1, 2]
    assert _opened(packets)[name] == 2


@pytest.mark.parametrize(("name", "port", "body"), BESIDE)
def test_a_tunnel_over_udp_is_a_flow_beside_what_is_in_it(tmp_path, name, port, body):
    packets = _read(tmp_path, [_in_udp(port, body)])
    length = len(body)
    outer = (NEAR, FAR, 17, 33333, port, 28 + length, 0, 0, length, length)
    assert _rows(packets) == [outer, INSIDE]
    assert packets.table["frame"].tolist() == [1, 1]
    assert _opened(packets) == {name: 1}


@pytest.mark.parametrize(
    ("proto", "before"), [(41, b""), (47, b"\0\0\x86\xdd")]
)  # fmt: skip
def test_ipv6_is_read_inside_ipv4(tmp_path, proto, before):
    (row,) = _rows(_read(tmp_path, [_in_ip(proto, before + SYN6)]))
    assert row == ("fe80::1", "fe80::2", 6, 40000, 80, 65, 2, 7, 5, 5)


@pytest.mark.parametrize("before", [b"", b"\0\0" + bytes(6), b"\0\1\2\3" + bytes(14)])
def test_teredo_carries_ipv6_behind_its_indications(tmp_path, before):
    packets = _read(tmp_path, [_in_udp(3544, before + SYN6)])
    assert [row[0] for row in _rows(packets)] == [NEAR, "fe80::1"]


@pytest.mark.parametrize(
    ("link", "before"), [(240, bytes(4)), (241, bytes(4) + b"\x55" * 7 + b"\xd5")]
)
def test_netanalyzer_puts_bytes_of_its_own_before_the_frame(tmp_path, link, before):
    packets = _read(tmp_path, [before + ethernet(SYN) + bytes(4)], link)
    assert _rows(packets) == [INSIDE]
    assert packets.table[["src_mac", "dst_mac"]].to_numpy().tolist() == [
        [0x02000000000A, 0x020000000014]
    ]


@pytest.mark.parametrize(
    ("port", "body"),
    [
        (4789, b"hello, this is no VXLAN but a text as any"),
        (4789, b"\x08\x01\0\0\0\0\0\0" + ethernet(SYN)),
        (4789, b"\x08\0\0\0\0\0\0\x01" + ethernet(SYN)),
        (4789, VXLAN + b"short"),
        (6081, b"\xff" * 60),
        (6081, b"\0\0\x12\x34\0\0\0\0" + ethernet(SYN)),
        (6081, b"\x3f\0\x65\x58\0\0\0\0" + ethernet(SYN)),
        (3544, b"\0\1\xff\xff" + bytes(8)),
        (2152, b"\x32\x01" + bytes(40)),
        (9999, VXLAN + ethernet(SYN)),
    ],
)
def test_ordinary_udp_on_a_tunnels_port_stays_what_it_is(tmp_path, port, body):
    packets = _read(tmp_path, [_in_udp(port, body)])
    assert [row[4] for row in _rows(packets)] == [port]
    assert packets.envelopes.empty


@pytest.mark.parametrize(
    "frame",
    [
        _gre(0x0000, b""),  # a keep-alive of the tunnel itself
        _gre(0x0800, SYN, 0x4000),  # a source route
        _in_ip(4, SYN[:12]),
        _in_ip(41, SYN),  # says IPv6, holds IPv4
    ],
)
def test_an_envelope_that_cannot_be_opened_stays_a_packet(tmp_path, frame):
    (row,) = _rows(_read(tmp_path, [frame]))
    assert row[:2] == (NEAR, FAR)


def test_encrypted_and_other_frames_of_80211_are_counted_unread(tmp_path):
    frames = [
        _wifi(0x41, TO_AP) + bytes(8) + SYN,
        _wifi(0, TO_AP, 0x80) + bytes(40),
        _wifi(0, TO_AP, 0xD4),
        _wifi(1, TO_AP, 0x48),
    ]
    packets = _read(tmp_path, [*frames, _wifi(1, TO_AP) + SNAP + SYN], 105)
    assert _rows(packets) == [INSIDE]
    assert packets.others["frame"].tolist() == [1, 2, 3, 4]
    assert name_unread(packets.others, packets.buffers).tolist() == [
        "802.11 data (encrypted)", "802.11 management", "802.11 control", "802.11 without data",
    ]  # fmt: skip


def test_a_length_inside_that_lies_is_held_by_the_packet_around_it(tmp_path):
    lying = SYN[:2] + b"\x05\xdc" + SYN[4:]  # claims 1500 bytes
    # Four bytes of Ethernet's padding are none of the inner packet's.
    packets = _read(tmp_path, [_in_ip(4, lying) + bytes(4)])
    assert _rows(packets) == [INSIDE]
    assert any("1 IP packets claim a length" in note for note in packets.notes)


def test_arp_and_unknown_frames_inside_a_tunnel_are_found(tmp_path):
    asks = arp_packet(1, CLIENT_MAC, CLIENT, SERVER)
    goose = ethernet(b"\x03\xe8\x00\x10" + bytes(20), 0x88B8)
    packets = _read(tmp_path, [_gre(0x88BE, frame) for frame in (asks, goose, ethernet(SYN))])
    assert packets.arp["frame"].tolist() == [1]
    assert packets.others[["frame", "ethertype", "held"]].to_numpy().tolist() == [[2, 0x88B8, 24]]
    assert _rows(packets) == [INSIDE]
    at = int(packets.others["at"].iloc[0])
    assert packets.buffers[0][at : at + 4].tobytes() == b"\x03\xe8\x00\x10"


@pytest.mark.parametrize("depth", [1, 3, 8, 9, 12])
def test_eight_envelopes_are_opened_and_more_are_said(tmp_path, depth):
    packet = SYN
    for _ in range(depth):
        packet = _sized(ip(packet, 4, NEAR, FAR))
    packets = _read(tmp_path, [ethernet(packet)])
    (row,) = _rows(packets)
    assert row[:2] == ((CLIENT, SERVER) if depth <= 8 else (NEAR, FAR))
    assert any("1 packets lie in more than 8" in note for note in packets.notes) == (depth > 8)


def test_tags_without_end_are_counted(tmp_path):
    packets = _read(tmp_path, [ethernet(b"\0\5\x81\0" * 100 + SYN, 0x8100), ethernet(SYN)])
    assert _rows(packets) == [INSIDE]
    assert packets.others["frame"].tolist() == [1]


def test_prp_trailers_are_counted_where_prp_is_heard(tmp_path):
    trailer = b"\x00\x07\xa0\x39\x88\xfb"
    frames = [ethernet(SYN) + trailer, ethernet(bytes(46), 0x88FB)]
    packets = _read(tmp_path, frames)
    assert _rows(packets) == [INSIDE]
    assert _opened(packets) == {"a PRP trailer": 1}
    assert _opened(_read(tmp_path, frames[:1])) == {}


def test_the_order_of_frames_is_kept_between_tunnels_and_plain_packets(tmp_path):
    syns = [tcp_packet("S", seq) for seq in range(4)]
    frames = [ethernet(syns[0]), _in_udp(4789, VXLAN + ethernet(syns[1])), _in_ip(4, syns[2])]
    frames.append(ethernet(syns[3]))
    stamped = [(1.0, frame) for frame in frames]
    packets = read_packets([write_pcap(tmp_path / "a.pcap", stamped)])
    assert packets.table["frame"].tolist() == [1, 2, 2, 3, 4]
    assert packets.table["proto"].tolist() == [6, 17, 6, 6, 6]


def test_plain_packets_beside_other_link_types_are_read(tmp_path):
    one = client(1.0, "S", 7, b"hello")
    plain = _read(tmp_path, [one[1]])
    assert _rows(plain) == [INSIDE]
    assert plain.envelopes.empty
    assert plain.others.empty
    assert plain.others.columns.tolist() == [
        "ethertype", "link", "at", "held", "src_mac", "dst_mac", "ts", "file", "frame",
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_random_bytes_after_every_envelope_are_read_without_a_crash(tmp_path, seed):
    random = np.random.default_rng(seed)
    frames = [frame for _, link, frame in ONCE if link == 1]
    frames += [_in_udp(port, body) for _, port, body in BESIDE]
    broken = []
    for frame in frames * 8:
        data = bytearray(frame[: random.integers(10, len(frame) + 1)])
        for place in random.integers(12, len(data), 3) if len(data) > 12 else []:
            data[place] = random.integers(256)
        broken.append(bytes(data))
    packets = _read(tmp_path, broken)
    seen = set(packets.table["frame"]) | set(packets.arp["frame"]) | set(packets.others["frame"])
    assert seen == set(range(1, len(broken) + 1))
    assert (packets.table["held"] >= 0).all()
    assert (packets.table["ip_bytes"] >= 0).all()
