import struct
from pathlib import Path

import dpkt
import numpy as np
import pytest
from frames import (
    CLIENT,
    CLIENT_MAC,
    SERVER,
    address,
    arp_packet,
    client,
    ethernet,
    icmp_packet,
    ip,
    read,
    tcp_packet,
    udp_packet,
    write_pcap,
)  # fmt: skip

from traffic.errors import UserError
from traffic.pcap.packets import read_packets
from traffic.pcap.records import header_type, read_headers
from traffic.pcap.unread import name_unread

SYN = tcp_packet("S", seq=7, data=b"hello")


def _only(path: Path) -> dict[str, object]:
    packets = read_packets([path])
    assert len(packets.table) == 1
    row = packets.table.iloc[0].to_dict()
    return row | {side: packets.addresses[int(row[side])] for side in ("src", "dst")}


@pytest.mark.parametrize(
    ("link", "frame"),
    [
        (1, ethernet(SYN)),
        (1, ethernet(b"\x00\x05\x08\x00" + SYN, 0x8100)),
        (1, ethernet(b"\x00\x05\x81\x00\x00\x06\x08\x00" + SYN, 0x88A8)),
        (113, struct.pack(">HHH", 0, 1, 6) + bytes(8) + b"\x08\x00" + SYN),
        (276, b"\x08\x00" + bytes(18) + SYN),
        (101, SYN),
        (12, SYN),
        (228, SYN),
        (0, struct.pack("<I", 2) + SYN),
        (108, struct.pack(">I", 2) + SYN),
    ],
)
def test_every_link_type_leads_to_the_same_packet(tmp_path, link, frame):
    row = _only(write_pcap(tmp_path / "a.pcap", [(1000.25, frame)], link=link))
    expected = {
        "ts": 1000.25, "src": CLIENT, "dst": SERVER, "proto": 6, "sport": 40000, "dport": 80, "ip_bytes": 45,
        "flags": 2, "seq": 7, "window": 1024, "payload": 5, "held": 5,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize(("order", "nano"), [("<", False), (">", False), ("<", True), (">", True)])
def test_both_byte_orders_and_clocks_are_read(tmp_path, order, nano):
    path = write_pcap(
        tmp_path / "a.pcap", [(1600000000.125, ethernet(SYN))], order=order, nano=nano
    )
    assert _only(path)["ts"] == 1600000000.125


def test_pcapng_as_dpkt_writes_it_equals_the_pcap(tmp_path):
    frames = [client(1000.5, "S", 7), (1001.5, ethernet(udp_packet(b"x")))]
    with (tmp_path / "a.pcapng").open("wb") as stream:
        writer = dpkt.pcapng.Writer(stream)
        for ts, frame in frames:
            writer.writepkt(frame, ts)
    paths = (tmp_path / "a.pcapng", write_pcap(tmp_path / "a.pcap", frames))
    ng, plain = (read_packets([path]) for path in paths)
    columns = ["ts", "src", "dst", "proto", "sport", "dport", "ip_bytes", "flags", "payload"]
    assert ng.table[columns].equals(plain.table[columns])


def _block(kind: int, body: bytes, order: str) -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + size + body + size


def test_pcapng_interfaces_keep_their_own_link_type_clock_and_order(tmp_path):
    def packet(interface: int, ticks: int, frame: bytes, order: str) -> bytes:
        numbers = interface, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame)
        return _block(6, struct.pack(order + "5I", *numbers) + frame, order)

    out = b""
    for order in "<>":
        nanoseconds = struct.pack(order + "HHB3xHH", 9, 1, 9, 0, 0)
        out += _block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)
        out += _block(1, struct.pack(order + "HHI", 1, 0, 0), order)
        out += _block(1, struct.pack(order + "HHI", 101, 0, 0) + nanoseconds, order)
        syn = tcp_packet("S", seq=ord(order))
        out += packet(0, 5_000_000, ethernet(syn), order) + packet(1, 6_500_000_000, syn, order)
        out += packet(9, 0, syn, order)
    (tmp_path / "a.pcapng").write_bytes(out)
    packets = read_packets([tmp_path / "a.pcapng"])
    assert packets.table["ts"].tolist() == [5.0, 5.0, 6.5, 6.5]
    assert set(packets.table["dport"]) == {80}
    assert any("2 packet blocks" in note for note in packets.notes)


def test_ipv6_is_followed_through_its_extension_headers(tmp_path):
    inner = udp_packet(b"abc")[20:]
    options = bytes([60, 0]) + bytes(6) + bytes([17, 1]) + bytes(14) + inner
    frame = ethernet(ip(options, 0, "fe80::1", "ff02::fb"), 0x86DD)
    row = _only(write_pcap(tmp_path / "a.pcap", [(1.0, frame)]))
    expected = {
        "src": "fe80::1", "dst": "ff02::fb", "proto": 17, "sport": 40000, "dport": 9999, "payload": 3,
        "ip_bytes": 40 + 8 + 16 + 11,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize("version", [4, 6])
def test_later_fragments_take_the_ports_of_their_first(tmp_path, version):
    def fragment(ident: int, offset: int, more: bool, body: bytes) -> bytes:
        if version == 4:
            word = more << 13 | offset // 8
            head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), ident, word, 64, 17, 0)
            return ethernet(head + address(CLIENT) + address(SERVER) + body)
        head = struct.pack(">BBHI", 17, 0, offset | more, ident)
        return ethernet(ip(head + body, 44, "fe80::1", "fe80::2"), 0x86DD)

    start = struct.pack(">HHHH", 40000, 9999, 24, 0) + bytes(8)
    frames = [
        (1.0, fragment(5, 0, True, start)),
        (1.1, fragment(6, 16, False, bytes(4))),
        (1.2, fragment(5, 16, False, bytes(8))),
    ]
    table = read_packets([write_pcap(tmp_path / "a.pcap", frames)]).table
    assert table["dport"].tolist() == [9999, 0, 9999]
    assert table["payload"].tolist() == [8, 4, 8]


def test_a_length_field_that_lies_is_replaced_by_the_frame_and_counted(tmp_path):
    long, zero = bytearray(SYN), bytearray(SYN)
    long[2:4], zero[2:4] = b"\xff\xff", b"\x00\x00"
    frames = [(1.0, ethernet(bytes(long))), (2.0, ethernet(bytes(zero)))]
    packets = read_packets([write_pcap(tmp_path / "a.pcap", frames)])
    assert packets.table["ip_bytes"].tolist() == [45, 45]
    assert [note for note in packets.notes if "1 IP packets claim a length" in note]


def test_padding_is_no_payload_and_a_snap_length_hides_none(tmp_path):
    padded = ethernet(tcp_packet("A")) + bytes(6)
    frame = ethernet(tcp_packet("PA", data=bytes(100)))
    out = write_pcap(tmp_path / "a.pcap", [(1.0, padded)]).read_bytes()
    out += struct.pack("<IIII", 2, 0, 60, len(frame)) + frame[:60]
    (tmp_path / "a.pcap").write_bytes(out)
    table = read_packets([tmp_path / "a.pcap"]).table
    assert table["payload"].tolist() == [0, 100]
    assert table["held"].tolist() == [0, 6]
    assert table["ip_bytes"].tolist() == [40, 140]


def test_a_file_cut_in_a_packet_is_read_up_to_there(tmp_path):
    whole = write_pcap(tmp_path / "a.pcap", [client(1.0, "S"), client(2.0, "S", 1)]).read_bytes()
    (tmp_path / "cut.pcap").write_bytes(whole[:-10])
    packets = read_packets([tmp_path / "cut.pcap"])
    assert len(packets.table) == 1
    # The second record (16 + 54 bytes) lost its last 10.
    assert packets.notes == (
        "cut.pcap: damaged or cut after packet 1 (byte 94); the last 60 of 154 bytes were skipped",
    )


@pytest.mark.parametrize("length", [0xFFFFFFF0, 300_000, 70])
def test_a_record_length_that_lies_ends_the_reading_there(tmp_path, length):
    frames = [client(1.0 + i, "S", i) for i in range(40)]
    whole = bytearray(write_pcap(tmp_path / "a.pcap", frames).read_bytes())
    place = 24 + 70 * 2
    whole[place + 8 : place + 12] = struct.pack("<I", length)
    (tmp_path / "a.pcap").write_bytes(bytes(whole))
    packets = read_packets([tmp_path / "a.pcap"])
    assert packets.table["seq"].tolist()[:2] == [0, 1]
    assert len(packets.table) in (2, 3)
    assert "damaged or cut after packet" in packets.notes[0]


def test_a_clock_that_jumps_back_is_sorted_and_said(tmp_path):
    frames = [client(t, "A") for t in (10.0, 20.0, 5.0, 21.0)]
    packets = read_packets([write_pcap(tmp_path / "a.pcap", frames)])
    assert packets.table["ts"].tolist() == [5.0, 10.0, 20.0, 21.0]
    assert packets.notes == (
        "a.pcap: 1 packets were out of order (by up to 15 s) and sorted by time",
    )


def test_frames_that_are_no_ip_are_counted(tmp_path):
    frames = [client(1.0, "S"), (1.5, ethernet(bytes(40), 0x88CC)), (2.0, b"\x00" * 5)]
    packets = read_packets([write_pcap(tmp_path / "a.pcap", frames)])
    names = name_unread(packets.others, packets.buffers)
    assert names.tolist() == ["LLDP", "cut or without a protocol number"]


def test_a_packet_knows_its_frame_as_wireshark_counts(tmp_path):
    asks = arp_packet(1, CLIENT_MAC, CLIENT, SERVER)
    frames = [(9.0, ethernet(bytes(40), 0x88CC)), client(3.0, "S"), (2.0, asks), client(1.0, "S")]
    first = write_pcap(tmp_path / "a.pcap", frames)
    packets = read_packets([first, write_pcap(tmp_path / "b.pcap", [client(2.0, "S")])])
    assert packets.table[["file", "frame"]].to_numpy().tolist() == [[0, 4], [1, 1], [0, 2]]
    assert packets.arp[["file", "frame"]].to_numpy().tolist() == [[0, 3]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b"#separator \\x09\n#fields ts uid", "not a packet capture"),
        (struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1), "holds no packets"),
        (struct.pack("<IHH", 0xA1B2C3D4, 2, 4), "cut after 8 of 24 bytes"),
        (_block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1), "<"), "holds no packets"),
    ],
)
def test_what_is_no_capture_is_told_in_one_line(tmp_path, content, said):
    path = tmp_path / "bad.pcap"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        read_packets([path])
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_link_type_is_named(tmp_path):
    path = write_pcap(tmp_path / "radio.pcap", [(1.0, bytes(60))], link=195)
    with pytest.raises(UserError, match=r"link type 195 \(802\.15\.4\)"):
        read_packets([path])


def test_several_files_are_one_capture(tmp_path):
    late = write_pcap(tmp_path / "a.pcap", [client(30.0, "A", 3), client(40.0, "PA", 4, b"late")])
    early = write_pcap(tmp_path / "b.pcap", [client(10.0, "S", 1), client(35.0, "PA", 2, b"mid")])
    packets = read_packets([late, early])
    assert packets.table["seq"].tolist() == [1, 3, 2, 4]
    texts = packets.read_payload(np.array([2, 3]), 4)
    assert texts.tobytes() == b"mid\0late"


def test_a_file_without_packets_beside_others_is_said(tmp_path):
    full = write_pcap(tmp_path / "a.pcap", [client(1.0, "S", 1, b"data")])
    packets = read_packets([write_pcap(tmp_path / "b.pcap", []), full])
    assert packets.read_payload(np.array([0]), 4).tobytes() == b"data"
    assert packets.notes == ("b.pcap: holds no packets",)


def test_icmp_types_stand_where_ports_do(tmp_path):
    capture = read(tmp_path, [(1.0, ethernet(icmp_packet(8, data=bytes(56))))])
    assert capture.flows.loc[0, ["id.orig_p", "id.resp_p", "proto"]].tolist() == [8, 0, "icmp"]


def test_every_shared_capture_is_read(shared):
    """data/field is left out: some of its captures cannot be read on purpose (a pointer, an unknown
    link type)."""
    pcaps = sorted((shared / "data").rglob("*.pcap"))
    paths = [path for path in pcaps if path.parent.name != "field"]
    assert len(paths) >= 7
    for path in paths:
        packets = read_packets([path])
        assert len(packets.table) + len(packets.arp) > 0, path
        assert not any("damaged" in note for note in packets.notes), path


_HEADER = header_type(4, first=(0, "u1"), number=(2, ">u2"))


@pytest.mark.parametrize("length", [2, 7, 8, 20])
def test_what_lies_past_the_end_reads_as_zero(length):
    buffer = np.arange(1, length + 1, dtype=np.uint8)
    at = np.array([0, length - 3, length - 1, length, length + 100])
    at = at[at >= 0]
    padded = np.append(buffer, np.zeros(200, np.uint8)).astype(int)
    found = read_headers(buffer, at, _HEADER)
    assert found["first"].tolist() == [padded[i] for i in at]
    assert found["number"].tolist() == [padded[i + 2] << 8 | padded[i + 3] for i in at]
