"""Packets in packets: what a tunnel carries is read as if it had been captured by itself.

    | Ethernet | IP | GRE, ERSPAN | Ethernet | IP | TCP | ...
                                  | a record of its own, with its own link type

As Zeek has it, a packet in another IP packet takes the other's place, and a tunnel over UDP is a
flow too, with the flows inside it beside it. RFC 2003, 2473, 4213 (IP in IP, 6in4), 2784, 2890, 2637
(GRE, PPTP), 3378 (EtherIP), 7348 (VXLAN), 8926 (Geneve), 4380 (Teredo), draft-foschiano-erspan;
3GPP TS 29.281 (GTP-U).
"""

from dataclasses import dataclass, replace

import numpy as np

from traffic.pcap.headers import UDP, Headers, Transports
from traffic.pcap.links import (
    AFTER_ETHERTYPE,
    BRIDGED,
    FAMILIAR,
    IP4,
    IP6,
    MPLS,
    PPP,
    Links,
    envelope,
    ip_ethertype,
)
from traffic.pcap.records import ETHERNET, WIFI, Records, header_type, read_headers

_IP4_IN_IP, _IP6_IN_IP, _GRE, _IPIP, _ETHER_IP, _MPLS_IN_IP = 4, 41, 47, 94, 97, 137
_IN_IP = np.zeros(256, bool)
_IN_IP[[_IP4_IN_IP, _IP6_IN_IP, _GRE, _IPIP, _ETHER_IP, _MPLS_IN_IP]] = True
_VXLAN, _FLANNEL, _GENEVE, _TEREDO, _GTP = 4789, 8472, 6081, 3544, 2152
_UDP_PORTS = np.zeros(1 << 16, bool)
_UDP_PORTS[[_VXLAN, _FLANNEL, _GENEVE, _TEREDO, _GTP]] = True


@dataclass(frozen=True)
class Tunnels:
    """What lies in some packets, shape (n,) each but for ``replaced``.

    Attributes:
        row: the record that each came in; int64.
        records: what came in it.
        envelopes: bits of ``ENVELOPES``; uint32.
        replaced: positions among the IP headers whose packet is nothing but an envelope; int64.
    """

    row: np.ndarray
    records: Records
    envelopes: np.ndarray
    replaced: np.ndarray


@dataclass(frozen=True)
class _Found:
    """Frames found behind IP headers: positions among these, where each frame starts, its link
    type, and the bit of what it came in."""

    of: np.ndarray
    at: np.ndarray
    link: np.ndarray
    bit: np.ndarray


def open_tunnels(
    records: Records, links: Links, ip: Headers, transport: Transports
) -> Tunnels | None:
    """What lies in packets that are envelopes, None where there are none.

    Its length is what the packet around it claims, as far as that was captured: a length inside
    that is longer lies (``Headers.lying``).
    """
    bridged = np.flatnonzero(links.ethertype == BRIDGED)
    in_ip = np.flatnonzero(_IN_IP[ip.proto] & ~ip.later)
    in_udp = np.flatnonzero((ip.proto == UDP) & _UDP_PORTS[transport.dport] & ~ip.later)
    if not (len(bridged) or len(in_ip) or len(in_udp)):
        return None
    end = records.at + records.captured
    ends = ip.transport + ip.rest  # on the wire
    held = np.minimum(ends, end[ip.row])
    found = [
        *_open_ip(records.buffer, ip, in_ip, held),
        *_open_udp(records.buffer, transport, in_udp, held),
    ]
    of, at, link, bit = (
        np.concatenate([getattr(part, name) for part in found]).astype(np.int64)
        for name in ("of", "at", "link", "bit")
    )
    whole = at < held[of]
    of, at, link, bit = of[whole], at[whole], link[whole], bit[whole]
    row = np.concatenate([bridged, ip.row[of]])
    start = np.concatenate([links.network[bridged], at])
    stop = np.concatenate([end[bridged], held[of]])
    wire_end = np.concatenate([(records.at + records.wire)[bridged], ends[of]])
    link = np.concatenate([np.full(len(bridged), ETHERNET), link]).astype(np.int32)
    bit = np.concatenate([np.zeros(len(bridged)), bit]).astype(np.uint32)
    order = np.argsort(row, kind="stable")
    row, start, stop, wire_end = row[order], start[order], stop[order], wire_end[order]
    inner = replace(
        records.take(row),
        at=start,
        captured=np.maximum(stop - start, 0).astype(np.int32),
        wire=np.maximum(wire_end - start, 0).astype(np.int32),
        link=link[order],
    )
    replaced = of[ip.proto[of] != UDP]
    return Tunnels(row, inner, bit[order], replaced)


def _after(ethertype: np.ndarray | int) -> np.ndarray:
    return np.asarray(ethertype, np.int64) + AFTER_ETHERTYPE


def _found(of: np.ndarray, at: np.ndarray, link: np.ndarray | int, name: str) -> _Found:
    return _Found(of, at, np.broadcast_to(link, of.shape), np.full(len(of), envelope(name)))


# ---- In IP ----

_ETHER_IP_HEADER = header_type(2, version=(0, "u1"))


def _open_ip(buffer: np.ndarray, ip: Headers, of: np.ndarray, held: np.ndarray) -> list[_Found]:
    proto, at = ip.proto[of], ip.transport[of]
    version = ip_ethertype(buffer, at).astype(np.int64)
    expected = np.select([proto == _IP4_IN_IP, proto == _IP6_IN_IP], [IP4, IP6], version)
    plain = np.isin(proto, (_IP4_IN_IP, _IP6_IN_IP, _IPIP)) & (version > 0) & (version == expected)
    plain &= held[of] - at >= np.where(version == IP4, 20, 40)
    bridge = (proto == _ETHER_IP) & (
        read_headers(buffer, at, _ETHER_IP_HEADER)["version"] >> 4 == 3
    )
    labels = proto == _MPLS_IN_IP
    gre = np.flatnonzero((proto == _GRE) & (held[of] - at >= 4))
    return [
        _found(of[plain], at[plain], _after(version[plain]), "IP in IP"),
        _found(of[bridge], at[bridge] + 2, ETHERNET, "EtherIP"),
        _found(of[labels], at[labels], int(_after(MPLS)), "MPLS"),
        *_open_gre(buffer, of[gre], at[gre]),
    ]


_GRE_HEADER = header_type(4, flags=(0, ">u2"), type=(2, ">u2"))
_CHECKSUM, _ROUTING, _KEY, _SEQUENCE, _ACKNOWLEDGED = 0x8000, 0x4000, 0x2000, 0x1000, 0x0080
_ERSPAN, _ERSPAN_3, _ARUBA = 0x88BE, 0x22EB, 0x9000
_ERSPAN_3_HEADER = header_type(12, flags=(10, ">u2"))
_FRAME_TYPE = header_type(14, type=(12, ">u2"))
_CARRIED = (IP4, IP6, MPLS, 0x8848, BRIDGED)


def _open_gre(buffer: np.ndarray, of: np.ndarray, at: np.ndarray) -> list[_Found]:
    header = read_headers(buffer, at, _GRE_HEADER)
    flags, kind = header["flags"].astype(np.int64), header["type"].astype(np.int64)
    size = np.full(len(of), 4)
    for bit in (_CHECKSUM, _KEY, _SEQUENCE, _ACKNOWLEDGED):
        size += 4 * (flags & bit > 0)
    # Source routes (RFC 1701) are not followed.
    version, at = np.where(flags & _ROUTING, -1, flags & 7), at + size
    simple = (version == 0) & np.isin(kind, _CARRIED)
    link = np.where(kind == BRIDGED, ETHERNET, _after(kind))
    calls = (version == 1) & (kind == PPP)
    mirrored = (version == 0) & (kind == _ERSPAN)
    third = (version == 0) & (kind == _ERSPAN_3)
    skip = np.where((flags & _SEQUENCE > 0) & _is_erspan_2(buffer, at), 8, 0)
    last = read_headers(buffer, at, _ERSPAN_3_HEADER)["flags"]
    skip = np.where(third, 12 + 8 * (last & 1), skip)
    third &= last >> 11 & 0x1F == 0  # an Ethernet frame, not a bare IP packet
    spans = mirrored | third
    # Access points of Aruba send what they hear under ethertypes of their own (0x8200, 0x8210, ...).
    radio = (version == 0) & (((kind & 0xFE0F) == 0x8200) | (kind == _ARUBA))
    return [
        _found(of[simple], at[simple], link[simple], "GRE"),
        _found(of[calls], at[calls], int(_after(PPP)), "GRE"),
        _found(of[spans], (at + skip)[spans], ETHERNET, "ERSPAN"),
        _found(of[radio], at[radio], WIFI, "GRE"),
    ]


def _is_erspan_2(buffer: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Whether a header of version 1 comes before the frame. The first type has none; some switches
    number its packets nevertheless, and a MAC address may start with a 1 too."""
    types = [read_headers(buffer, at + skip, _FRAME_TYPE)["type"] for skip in (0, 8)]
    first, second = (FAMILIAR[kind] for kind in types)
    return (read_headers(buffer, at, _ETHER_IP_HEADER)["version"] >> 4 == 1) & (second | ~first)


# ---- In UDP: a port is a hint, the header has to look like one ----

_TUNNEL_HEADER = header_type(
    8, flags=(0, "u1"), second=(1, "u1"), type=(2, ">u2"), low=(2, "u1"), number=(0, ">u4"), last=(7, "u1"),
)  # fmt: skip


def _open_udp(
    buffer: np.ndarray, transport: Transports, of: np.ndarray, held: np.ndarray
) -> list[_Found]:
    at, port = transport.payload_at[of], transport.dport[of]
    room = held[of] - at
    header = read_headers(buffer, at, _TUNNEL_HEADER)
    flags, second, last = header["flags"], header["second"], header["last"]
    # The VNI is there; of the rest only the bits of a group policy may be set.
    vxlan = np.isin(port, (_VXLAN, _FLANNEL)) & (flags & 0x77 == 0) & (flags & 0x08 > 0)
    vxlan &= (last == 0) & (second & 0xB7 == 0) & ((flags & 0x80 > 0) | (header["type"] == 0))
    vxlan &= room >= 8 + 14
    options = (flags & 0x3F).astype(np.int64) * 4
    geneve = (port == _GENEVE) & (flags >> 6 == 0) & (second & 0x3F == 0) & (last == 0)
    geneve &= np.isin(header["type"], _CARRIED) & (room >= 8 + options + 14)
    kind = header["type"].astype(np.int64)
    link = np.where(kind == BRIDGED, ETHERNET, _after(kind))
    found = [
        _found(of[vxlan], at[vxlan] + 8, ETHERNET, "VXLAN"),
        _found(of[geneve], (at + 8 + options)[geneve], link[geneve], "Geneve"),
    ]
    if np.isin(port, (_TEREDO, _GTP)).any():
        found += [
            _open_teredo(buffer, of, at, held, port == _TEREDO),
            _open_gtp(buffer, of, at, held, port == _GTP),
        ]
    return found


def _open_teredo(
    buffer: np.ndarray, of: np.ndarray, at: np.ndarray, held: np.ndarray, which: np.ndarray
) -> _Found:
    """IPv6, behind the indications of authentication (0001) and origin (0000) where there are any."""
    of, at = of[which], at[which]
    header = read_headers(buffer, at, _TUNNEL_HEADER)
    sizes = header["low"].astype(np.int64) + (header["number"] & 0xFF)
    at = at + np.where(header["number"] >> 16 == 1, 13 + sizes, 0)
    at += 8 * (read_headers(buffer, at, _TUNNEL_HEADER)["number"] >> 16 == 0)
    good = (ip_ethertype(buffer, at) == IP6) & (held[of] - at >= 40)
    return _found(of[good], at[good], int(_after(IP6)), "Teredo")


def _open_gtp(
    buffer: np.ndarray, of: np.ndarray, at: np.ndarray, held: np.ndarray, which: np.ndarray
) -> _Found:
    """IP in a G-PDU (message 255) of version 1, behind up to four extension headers."""
    of, at = of[which], at[which]
    header = read_headers(buffer, at, _TUNNEL_HEADER)
    flags = header["flags"]
    good = (flags >> 4 == 3) & (header["second"] == 255)
    good &= header["type"] + 8 <= held[of] - at
    more, at = good & (flags & 4 > 0), at + np.where(flags & 7, 12, 8)
    for _ in range(4):
        if not more.any():
            break
        follows = read_headers(buffer, at - 1, _TUNNEL_HEADER)["flags"] > 0
        units = read_headers(buffer, at, _TUNNEL_HEADER)["flags"].astype(np.int64)
        more &= follows & (units > 0)
        at = at + np.where(more, 4 * units, 0)
    version = ip_ethertype(buffer, at)
    good &= (version > 0) & (held[of] - at >= 20)
    return _found(of[good], at[good], _after(version[good].astype(np.int64)), "GTP")
