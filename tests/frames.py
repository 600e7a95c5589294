"""Packets written out by hand, and the capture files they lie in, for tests that know every
byte."""

import socket
import struct
from pathlib import Path

import dpkt
import pandas as pd

from traffic.capture import Capture
from traffic.pcap.flows import make_flows
from traffic.pcap.packets import read_packets
from traffic.pcap.protocols.protocol import Protocol

CLIENT, SERVER = "192.168.1.10", "192.168.1.20"
CLIENT_MAC, SERVER_MAC = b"\x02\x00\x00\x00\x00\x0a", b"\x02\x00\x00\x00\x00\x14"
BITS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16}
Frame = tuple[float, bytes]


def address(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def ethernet(
    payload: bytes, kind: int = 0x0800, src: bytes = CLIENT_MAC, dst: bytes = SERVER_MAC
) -> bytes:
    return dst + src + struct.pack(">H", kind) + payload


def ip(transport: bytes, proto: int, src: str, dst: str, **more: int) -> bytes:
    if ":" in src:
        header = struct.pack(">IHBB", 6 << 28, len(transport), proto, 64)
        return header + address(src) + address(dst) + transport
    return bytes(dpkt.ip.IP(src=address(src), dst=address(dst), p=proto, **more)) + transport


def _sized(packet: bytes) -> bytes:
    """IPv4's length field, which dpkt fills only for payloads that it made itself."""
    if packet[0] >> 4 == 4:
        return packet[:2] + struct.pack(">H", len(packet)) + packet[4:]
    return packet


def tcp_packet(
    flags: str, seq: int = 0, data: bytes = b"", src: str = CLIENT, dst: str = SERVER,
    sport: int = 40000, dport: int = 80, window: int = 1024, ack: int = 1,
) -> bytes:  # fmt: skip
    header = struct.pack(
        ">HHIIBBHHH", sport, dport, seq, ack, 5 << 4, sum(BITS[f] for f in flags), window, 0, 0
    )
    return _sized(ip(header + data, 6, src, dst))


def udp_packet(
    data: bytes = b"", src: str = CLIENT, dst: str = SERVER, sport: int = 40000, dport: int = 9999
) -> bytes:  # fmt: skip
    return _sized(ip(struct.pack(">HHHH", sport, dport, 8 + len(data), 0) + data, 17, src, dst))


def icmp_packet(
    kind: int, code: int = 0, data: bytes = b"", src: str = CLIENT, dst: str = SERVER
) -> bytes:
    body = struct.pack(">BBHI", kind, code, 0, 0) + data
    return _sized(ip(body, 58 if ":" in src else 1, src, dst))


def arp_packet(op: int, mac: bytes, sender: str, target: str) -> bytes:
    body = struct.pack(">HHBBH", 1, 0x0800, 6, 4, op) + mac + address(sender)
    body += bytes(6) + address(target)
    return ethernet(body, 0x0806, src=mac, dst=b"\xff" * 6)


def client(ts: float, flags: str, seq: int = 0, data: bytes = b"", **more: int) -> Frame:
    return ts, ethernet(tcp_packet(flags, seq, data, **more))


def server(
    ts: float, flags: str, seq: int = 0, data: bytes = b"", port: int = 80, window: int = 1024
) -> Frame:
    packet = tcp_packet(flags, seq, data, SERVER, CLIENT, port, 40000, window)
    return ts, ethernet(packet, src=SERVER_MAC, dst=CLIENT_MAC)


def write_pcap(
    path: Path, frames: list[Frame], link: int = 1, order: str = "<", nano: bool = False
) -> Path:
    """A pcap as tcpdump writes it."""
    per_s, magic = (10**9, 0xA1B23C4D) if nano else (10**6, 0xA1B2C3D4)
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262144, link)
    for ts, frame in frames:
        ticks = round(ts * per_s)
        numbers = ticks // per_s, ticks % per_s, len(frame), len(frame)
        out += struct.pack(order + "IIII", *numbers) + frame
    path.write_bytes(out)
    return path


def read(path: Path, frames: list[Frame], **more: object) -> Capture:
    """What the frames become once they have been written to and read from a pcap."""
    return make_flows(read_packets([write_pcap(path / "capture.pcap", frames, **more)]))


def talk(port: int, *turns: tuple[str, bytes], opened: bool = True) -> list[Frame]:
    """A TCP connection to ``port``: 0.1 s between payloads, ``>`` from the client, ``<`` from the
    server; a packet of a minute later, so that nothing still waits for its answer."""
    frames = [client(999.8, "S", 0, dport=port), server(999.9, "SA", 0, port=port)][: 2 * opened]
    place = {">": 1, "<": 1}
    for i, (side, data) in enumerate(turns):
        make = client if side == ">" else server
        where = {"dport": port} if side == ">" else {"port": port}
        frames.append(make(1000 + i / 10, "PA", place[side], data, **where))
        place[side] += len(data)
    return [*frames, (1000 + len(turns) / 10 + 60, ethernet(tcp_packet("A", sport=40001)))]


def told(exchanges: pd.DataFrame, protocol: Protocol) -> list[list[object]]:
    """Exchanges as rows of kind, function, target, name, outcome and code; "" for none."""
    words = [protocol.name_target(t) if t >= 0 else "" for t in exchanges["target"]]
    names = exchanges["name"].astype(object).where(exchanges["name"].notna(), "")
    shown = exchanges.assign(target=words, name=names)
    return shown[["kind", "function", "target", "name", "outcome", "code"]].values.tolist()


# ---- Messages ----


def _crc(data: bytes) -> bytes:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA6BC if crc & 1 else crc >> 1
    return struct.pack("<H", crc ^ 0xFFFF)


def dnp3_message(user: bytes, to: int, by: int, control: int = 0xC4) -> bytes:
    head = struct.pack("<BBBBHH", 5, 0x64, 5 + len(user), control, to, by)
    blocks = [user[i : i + 16] for i in range(0, len(user), 16)]
    return head + _crc(head) + b"".join(block + _crc(block) for block in blocks)


def dcp_message(number: int, service: int, kind: int, xid: int, blocks: bytes) -> bytes:
    return struct.pack(">HBBIHH", number, service, kind, xid, 0, len(blocks)) + blocks


def dcp_name(name: bytes, before: bytes = b"") -> bytes:
    data = before + name
    return struct.pack(">BBH", 2, 2, len(data)) + data + bytes(len(data) & 1)


def goose_message(
    state: int, repeat: int, name: bytes = b"IED1LD0/LLN0$GO$gcb1", lives_ms: int = 2000
) -> bytes:
    fields = b"".join(
        bytes([tag, len(value)]) + value
        for tag, value in (
            (0x80, name), (0x81, lives_ms.to_bytes(2)), (0x82, b"set"), (0x83, b"id"), (0x84, bytes(8)),
            (0x85, state.to_bytes(2)), (0x86, repeat.to_bytes(4)), (0x87, b"\0"), (0x88, b"\1"),
        )
    )  # fmt: skip
    return (
        struct.pack(">HHHH", 0x3001, 10 + len(fields), 0, 0)
        + b"\x61"
        + bytes([len(fields)])
        + fields
    )


def phasor_message(
    kind: int, at_s: float, body: bytes, station: int = 241, version: int = 1
) -> bytes:
    """A frame of a synchrophasor without its checksum, which nothing here reads; 10^6 ticks a second."""
    second, part = int(at_s), round(at_s % 1 * 1_000_000)
    head = struct.pack(">BBHHII", 0xAA, kind << 4 | version, 16 + len(body), station, second, part)
    return head + body + b"\0\0"


def phasor_configuration(rate: int, station: int = 241) -> bytes:
    """Configuration 2 of one unit with one phasor."""
    unit = b"Blue PMU".ljust(16) + struct.pack(">HHHHH", station, 6, 1, 0, 0)
    unit += b"V1".ljust(16) + bytes(4) + struct.pack(">HH", 1, 5)
    body = struct.pack(">IH", 1_000_000, 1) + unit + struct.pack(">h", rate)
    return phasor_message(3, 1000, body, station)


def phasor_data(at_s: float, status: int = 0, version: int = 1) -> bytes:
    body = struct.pack(">Hffff", status, 1, 2, 3, 4)
    return phasor_message(0, at_s, body, version=version)


def phasor_command(number: int) -> bytes:
    return phasor_message(4, 0, struct.pack(">H", number))


SLMP_ROUTE = b"\0\xff\xff\x03\0"


def slmp_request(
    command: int, data: bytes = b"", serial: int | None = None, form: int = 0
) -> bytes:
    """A frame of form 3E, or 4E where it has a serial number."""
    body = struct.pack("<HHH", 16, command, form) + data
    head = b"\x50\0" if serial is None else b"\x54\0" + struct.pack("<HH", serial, 0)
    return head + SLMP_ROUTE + struct.pack("<H", len(body)) + body


def slmp_answer(code: int = 0, data: bytes = b"", serial: int | None = None) -> bytes:
    body = struct.pack("<H", code) + data
    head = b"\xd0\0" if serial is None else b"\xd4\0" + struct.pack("<HH", serial, 0)
    return head + SLMP_ROUTE + struct.pack("<H", len(body)) + body


def mqtt_login(ts: float, src: str, code: int, *login: str, will: bool = False) -> list[Frame]:
    """A connection in which an MQTT client asks to be let in, by user name and password where these
    are given, and what the broker says."""
    sport = 30000 + int(10 * ts) % 30000
    texts = [src, *(("alive", "no") if will else ()), *login]
    flags = 2 | (4 if will else 0) | (0x80 if login else 0) | (0x40 if len(login) > 1 else 0)
    asks = b"\x00\x04MQTT\x04" + bytes([flags]) + b"\x00\x3c"
    asks += b"".join(struct.pack(">H", len(text)) + text.encode() for text in texts)
    asks, says = bytes([0x10, len(asks)]) + asks, bytes([0x20, 2, 0, code])
    there = {"src": src, "dst": SERVER, "sport": sport, "dport": 1883}
    back = {"src": SERVER, "dst": src, "sport": 1883, "dport": sport}
    packets = [
        tcp_packet("S", 0, **there),
        tcp_packet("SA", 0, **back),
        tcp_packet("PA", 1, asks, **there),
        tcp_packet("PA", 1, says, **back),
        tcp_packet("FA", 1 + len(asks), **there),
        tcp_packet("FA", 1 + len(says), **back),
    ]
    return [(ts + place / 100, ethernet(packet)) for place, packet in enumerate(packets)]
