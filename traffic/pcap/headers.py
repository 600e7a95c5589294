"""ARP, IP and transport headers of many packets at once.

    at           network            transport        payload      end (captured)
    | link       |  IPv4 or IPv6,   |  TCP, UDP,     |           |  ... not captured
    | headers    |  its extensions  |  ICMP          |           |

RFC 826, 791, 8200, 9293, 768, 792.
"""

from dataclasses import dataclass

import numpy as np

from traffic.pcap.links import ARP, IP4, IP6, Links, mac
from traffic.pcap.records import Records, header_type, interleave, read_headers

# An IPv4 address is kept as the IPv6 address ::ffff:a.b.c.d, so that both kinds share two 64-bit
# columns.
MAPPED = 0xFFFF << 32
_ALL_STATIONS = 0xFFFFFFFFFFFF

_ARP_HEADER = header_type(
    28, type=(2, ">u2"), sizes=(4, ">u2"), op=(6, ">u2"), src=(8, ">u2"), src_low=(10, ">u4"), sender=(14, ">u4"),
    target=(24, ">u4"),
)  # fmt: skip


@dataclass(frozen=True)
class Arps:
    """ARP packets, shape (n,) each, int64; addresses as the low half of ``::ffff:a.b.c.d``.
    ``to_all``, bool: the frame went to every station."""

    row: np.ndarray
    op: np.ndarray
    mac: np.ndarray
    sender: np.ndarray
    target: np.ndarray
    to_all: np.ndarray


def read_arp(records: Records, links: Links) -> Arps:
    """ARP packets of IPv4 over Ethernet."""
    row = np.flatnonzero(links.ethertype == ARP)
    row = row[(records.at + records.captured)[row] - links.network[row] >= 28]
    header = read_headers(records.buffer, links.network[row], _ARP_HEADER)
    ethernet_ip4 = (header["type"] == IP4) & (header["sizes"] == 0x0604)
    row, header = row[ethernet_ip4], header[ethernet_ip4]
    op, sender, target = (header[name].astype(np.int64) for name in ("op", "sender", "target"))
    to_all = links.dst_mac[row] == _ALL_STATIONS
    return Arps(row, op, mac(header, "src"), sender | MAPPED, target | MAPPED, to_all)


# ---- Network and transport headers ----

ICMP, TCP, UDP, ICMP6, SCTP = 1, 6, 17, 58, 132
_FRAGMENT, _AUTHENTICATION = 44, 51
_EXTENSIONS = (0, 43, _FRAGMENT, _AUTHENTICATION, 60, 135, 139, 140)
_MOST_EXTENSIONS = 8

_IP4_HEADER = header_type(
    20, version=(0, "u1"), total=(2, ">u2"), ident=(4, ">u2"), fragment=(6, ">u2"), ttl=(8, "u1"), proto=(9, "u1"),
    src=(12, ">u4"), dst=(16, ">u4"),
)  # fmt: skip
_IP6_HEADER = header_type(
    40, version=(0, "u1"), payload=(4, ">u2"), next=(6, "u1"), ttl=(7, "u1"), src_high=(8, ">i8"), src_low=(16, ">i8"),
    dst_high=(24, ">i8"), dst_low=(32, ">i8"),
)  # fmt: skip
_EXTENSION_HEADER = header_type(
    8, next=(0, "u1"), units=(1, "u1"), offset=(2, ">u2"), ident=(4, ">u4")
)
_TRANSPORT_HEADER = header_type(
    16, sport=(0, ">u2"), dport=(2, ">u2"), type=(0, "u1"), code=(1, "u1"), seq=(4, ">u4"), ack=(8, ">u4"),
    offset=(12, "u1"), flags=(13, "u1"), window=(14, ">u2"),
)  # fmt: skip


@dataclass(frozen=True)
class Headers:
    """IP headers, shape (n,) each.

    Attributes:
        row: which packet; int64.
        src_high, src_low, dst_high, dst_low: the halves of the addresses; int64.
        proto: IANA number, after IPv6's extensions; uint8.
        transport: offset of what is above; int64.
        ip_bytes, rest: the packet's length, and from ``transport`` on; int32. A length field of 0
            (offload to the network card) or one that the frame on the wire cannot hold is replaced
            by what the wire held.
        lying: whether the frame could not hold it.
        ident, ttl: identification, and time to live or hop limit; uint32, uint8.
        fragment: the word with the offset of a fragment; uint16.
        later, first: fragments without a transport header, and those that begin a fragmented
            packet.
    """

    row: np.ndarray
    src_high: np.ndarray
    src_low: np.ndarray
    dst_high: np.ndarray
    dst_low: np.ndarray
    proto: np.ndarray
    transport: np.ndarray
    ip_bytes: np.ndarray
    rest: np.ndarray
    lying: np.ndarray
    ident: np.ndarray
    ttl: np.ndarray
    fragment: np.ndarray
    later: np.ndarray
    first: np.ndarray


@dataclass(frozen=True)
class Transports:
    """Transport headers, one per IP header, shape (n,) each.

    Attributes:
        sport, dport: ICMP's type and code where the packet is one, 0 where there are none; uint16.
        flags, seq, ack, window: TCP's, 0 elsewhere; uint8, uint32, uint32, uint16.
        has_tcp: whether they were captured.
        payload, held: its length by the IP header, and how much of it was captured; int32.
        payload_at: its offset in the buffer; int64.
    """

    sport: np.ndarray
    dport: np.ndarray
    flags: np.ndarray
    seq: np.ndarray
    ack: np.ndarray
    window: np.ndarray
    has_tcp: np.ndarray
    payload: np.ndarray
    held: np.ndarray
    payload_at: np.ndarray


def read_ip(records: Records, links: Links) -> Headers:
    """IP headers, in the order of the packets."""
    # Most captures hold one kind only.
    kinds = ((IP4, _read_ip4), (IP6, _read_ip6))
    parts = [read(records, links) for kind, read in kinds if (links.ethertype == kind).any()]
    if not parts:
        return _read_ip4(records, links)
    return parts[0] if len(parts) == 1 else interleave([part.row for part in parts], parts)


def _read_ip4(records: Records, links: Links) -> Headers:
    room = records.at + records.captured - links.network
    row = np.flatnonzero((links.ethertype == IP4) & (room >= 20))
    header = read_headers(records.buffer, links.network[row], _IP4_HEADER)
    good = (header["version"] >> 4 == 4) & (header["version"] & 15 >= 5)
    if not good.all():
        row, header = row[good], header[good]
    size = (header["version"] & 15) * np.uint8(4)
    at, total = links.network[row], header["total"].astype(np.int32)
    room = (records.wire[row] - (at - records.at[row])).astype(np.int32)
    lying = (total > room) | ((total < size) & (total > 0))
    length = np.where(lying | (total == 0), room, total)
    fragment = header["fragment"].astype(np.uint16)
    zero = np.zeros(len(row), np.int64)
    return Headers(
        row=row,
        src_high=zero,
        src_low=header["src"].astype(np.int64) | MAPPED,
        dst_high=zero,
        dst_low=header["dst"].astype(np.int64) | MAPPED,
        proto=header["proto"].copy(),
        transport=at + size,
        ip_bytes=length,
        rest=np.maximum(length - size, 0),
        lying=lying,
        ident=header["ident"].astype(np.uint32),
        ttl=header["ttl"].copy(),
        fragment=fragment,
        later=fragment & 0x1FFF > 0,
        first=fragment & 0x3FFF == 0x2000,
    )


def _read_ip6(records: Records, links: Links) -> Headers:
    end = records.at + records.captured
    row = np.flatnonzero((links.ethertype == IP6) & (end - links.network >= 40))
    header = read_headers(records.buffer, links.network[row], _IP6_HEADER)
    good = header["version"] >> 4 == 6
    row, header = row[good], header[good]
    at, payload = links.network[row], header["payload"].astype(np.int32)
    room = (records.wire[row] - (at - records.at[row])).astype(np.int32)
    lying = payload + 40 > room
    length = np.where(lying | (payload == 0), room, payload + 40)
    halves = ("src_high", "src_low", "dst_high", "dst_low")
    addresses = {name: header[name].astype(np.int64) for name in halves}
    proto, transport = header["next"].copy(), at + 40
    fragment = _skip_extensions(records.buffer, end[row], proto, transport)
    return Headers(
        row=row,
        **addresses,
        proto=proto,
        transport=transport,
        ip_bytes=length,
        rest=np.maximum(length - (transport - at), 0).astype(np.int32),
        lying=lying,
        ident=fragment["ident"],
        ttl=header["ttl"].copy(),
        fragment=fragment["offset"],
        later=fragment["offset"] > 7,
        first=fragment["offset"] & 0xFFF9 == 1,
    )


def _skip_extensions(
    buffer: np.ndarray, end: np.ndarray, proto: np.ndarray, cursor: np.ndarray
) -> np.ndarray:
    """Move ``proto`` and ``cursor`` past all extensions, in place; the fragment headers, 0 for
    none."""
    fragments = np.zeros(len(proto), [("offset", np.uint16), ("ident", np.uint32)])
    for _ in range(_MOST_EXTENSIONS):
        more = np.isin(proto, _EXTENSIONS) & (cursor + 8 <= end) & (fragments["offset"] <= 7)
        which = np.flatnonzero(more)
        if not len(which):
            break
        header, kind = read_headers(buffer, cursor[which], _EXTENSION_HEADER), proto[which]
        is_fragment, units = kind == _FRAGMENT, header["units"].astype(np.int64)
        for name in ("offset", "ident"):
            fragments[name][which[is_fragment]] = header[name][is_fragment]
        size = np.where(kind == _AUTHENTICATION, (units + 2) * 4, (units + 1) * 8)
        cursor[which] += np.where(is_fragment, 8, size)
        proto[which] = header["next"]
    return fragments


def read_transport(records: Records, ip: Headers) -> Transports:
    """The transport header above each IP header."""
    at, whole = ip.transport, ~ip.later
    room = (records.at[ip.row] + records.captured[ip.row] - at).astype(np.int32)
    header = read_headers(records.buffer, at, _TRANSPORT_HEADER)
    is_tcp, is_udp = whole & (ip.proto == TCP), whole & (ip.proto == UDP)
    is_icmp = whole & ((ip.proto == ICMP) | (ip.proto == ICMP6))
    has_tcp = is_tcp & (room >= 16)
    ported = (is_tcp | is_udp | (whole & (ip.proto == SCTP))) & (room >= 4)
    typed = is_icmp & (room >= 2)
    tcp_size = np.maximum((header["offset"] >> 4) * np.uint8(4), 20)
    size = np.where(has_tcp, tcp_size, is_tcp * np.uint8(20))
    size += (is_udp | is_icmp) * np.uint8(8)
    payload = np.maximum(ip.rest - size, 0)
    return Transports(
        sport=np.where(typed, header["type"], header["sport"] * ported),
        dport=np.where(typed, header["code"], header["dport"] * ported),
        flags=header["flags"] * has_tcp,
        seq=header["seq"] * has_tcp,
        ack=header["ack"] * has_tcp,
        window=header["window"] * has_tcp,
        has_tcp=has_tcp,
        payload=payload,
        held=np.clip(room - size, 0, payload),
        payload_at=at + size,
    )
