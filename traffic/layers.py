"""Link, network and transport headers of many packets at once: each layer's headers are one structured array.

    at           network            transport        payload      end (captured)
    | Ethernet, |  IPv4 or IPv6,   |  TCP, UDP,     |           |  ... not captured
    | VLAN tags |  its extensions  |  ICMP          |           |

RFC 791, 8200, 9293, 768, 792, 826; IEEE 802.1Q; LINKTYPE_LINUX_SLL and _SLL2 at tcpdump.org/linktypes.html.
"""

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from traffic.records import ETHERNET, SLL, SLL2, Records, read_headers

__all__ = ["ICMP", "ICMP6", "TCP", "UDP", "Links", "read_arp", "read_ip", "read_links", "read_transport"]

ICMP, TCP, UDP, ICMP6, SCTP = 1, 6, 17, 58, 132
_IP4, _ARP, _IP6 = 0x0800, 0x0806, 0x86DD
_TAGS = (0x8100, 0x88A8, 0x9100)
_FRAGMENT, _AUTHENTICATION = 44, 51
_EXTENSIONS = (0, 43, _FRAGMENT, _AUTHENTICATION, 60, 135, 139, 140)
_MOST_EXTENSIONS = 8
# An IPv4 address is kept as the IPv6 address ::ffff:a.b.c.d, so that both kinds share two 64-bit columns.
_MAPPED = 0xFFFF << 32


def _header(size: int, **named: tuple[int, str]) -> np.dtype:
    """A header of ``size`` bytes, with the offset and the type of its fields."""
    at, kinds = zip(*named.values(), strict=True)
    return np.dtype({"names": list(named), "formats": list(kinds), "offsets": list(at), "itemsize": size})


_LINK_HEADERS = {
    ETHERNET: _header(14, dst=(0, ">u2"), dst_low=(2, ">u4"), src=(6, ">u2"), src_low=(8, ">u4"), type=(12, ">u2")),
    SLL: _header(16, src=(6, ">u2"), src_low=(8, ">u4"), type=(14, ">u2")),
    SLL2: _header(20, type=(0, ">u2"), src=(12, ">u2"), src_low=(14, ">u4")),
}
_TAG_HEADER = _header(4, type=(2, ">u2"))
_ARP_HEADER = _header(
    28, type=(2, ">u2"), sizes=(4, ">u2"), op=(6, ">u2"), src=(8, ">u2"), src_low=(10, ">u4"), sender=(14, ">u4"),
    target=(24, ">u4"),
)  # fmt: skip
_IP4_HEADER = _header(
    20, version=(0, "u1"), total=(2, ">u2"), ident=(4, ">u2"), fragment=(6, ">u2"), proto=(9, "u1"), src=(12, ">u4"),
    dst=(16, ">u4"),
)  # fmt: skip
_IP6_HEADER = _header(
    40, version=(0, "u1"), payload=(4, ">u2"), next=(6, "u1"), src_high=(8, ">i8"), src_low=(16, ">i8"),
    dst_high=(24, ">i8"), dst_low=(32, ">i8"),
)  # fmt: skip
_EXTENSION_HEADER = _header(8, next=(0, "u1"), units=(1, "u1"), offset=(2, ">u2"), ident=(4, ">u4"))
_TRANSPORT_HEADER = _header(
    16, sport=(0, ">u2"), dport=(2, ">u2"), type=(0, "u1"), code=(1, "u1"), seq=(4, ">u4"), offset=(12, "u1"),
    flags=(13, "u1"), window=(14, ">u2"),
)  # fmt: skip


@dataclass(frozen=True)
class Links:
    """What the link layer says of each packet, shape (n,) each.

    Attributes:
        ethertype: the protocol above, 0 where it is none we know; uint16.
        network: offset of the network header in the buffer; int64.
        src_mac, dst_mac: 48 bits, -1 where the link has none; int64.
    """

    ethertype: np.ndarray
    network: np.ndarray
    src_mac: np.ndarray
    dst_mac: np.ndarray


def read_links(records: Records) -> Links:
    """Step over Ethernet with VLAN tags, Linux cooked v1 and v2, raw IP, and loopback headers."""
    kinds = pd.unique(records.link)
    if len(kinds) == 1:
        links = _read_link(records, int(kinds[0]))
    else:
        n = len(records.at)
        links = Links(np.zeros(n, np.uint16), *(np.zeros(n, np.int64) for _ in range(3)))
        for link in kinds:
            which = np.flatnonzero(records.link == link)
            part = _read_link(records.take(which), int(link))
            for field in fields(Links):
                getattr(links, field.name)[which] = getattr(part, field.name)
    links.ethertype[links.network > records.at + records.captured] = 0
    return links


def _read_link(records: Records, link: int) -> Links:
    buffer, at, none = records.buffer, records.at, np.full(len(records.at), -1)
    if link not in _LINK_HEADERS:
        # Loopback's family number differs between systems; the version in the IP header does not.
        network = at + (4 if link in (0, 108) else 0)
        version = read_headers(buffer, network, _IP4_HEADER)["version"] >> 4
        return Links(np.select([version == 4, version == 6], [_IP4, _IP6], 0).astype(np.uint16), network, none, none)
    header = read_headers(buffer, at, _LINK_HEADERS[link])
    ethertype, network = header["type"].astype(np.uint16), at + header.itemsize
    for _ in range(3):  # QinQ has two tags; more than three is no network we know
        tagged = np.flatnonzero(np.isin(ethertype, _TAGS))
        if not len(tagged):
            break
        ethertype[tagged] = read_headers(buffer, network[tagged], _TAG_HEADER)["type"]
        network[tagged] += 4
    return Links(ethertype, network, _mac(header, "src"), _mac(header, "dst") if link == ETHERNET else none)


def _mac(header: np.ndarray, side: str) -> np.ndarray:
    return header[side].astype(np.int64) << 32 | header[f"{side}_low"]


def read_arp(records: Records, links: Links) -> pd.DataFrame:
    """ARP packets: ``row op mac sender target`` (addresses as the low half of ``::ffff:a.b.c.d``)."""
    row = np.flatnonzero(links.ethertype == _ARP)
    row = row[(records.at + records.captured)[row] - links.network[row] >= 28]
    header = read_headers(records.buffer, links.network[row], _ARP_HEADER)
    ethernet_ip4 = (header["type"] == _IP4) & (header["sizes"] == 0x0604)
    row, header = row[ethernet_ip4], header[ethernet_ip4]
    return pd.DataFrame(
        {
            "row": row,
            "op": header["op"].astype(np.int64),
            "mac": _mac(header, "src"),
            "sender": header["sender"].astype(np.int64) | _MAPPED,
            "target": header["target"].astype(np.int64) | _MAPPED,
        }
    )


def read_ip(records: Records, links: Links) -> pd.DataFrame:
    """IP headers: ``row src_high src_low dst_high dst_low proto transport ip_bytes rest ident later first lying``.

    ``rest`` is the IP packet's length from ``transport`` on. A length field of 0 (offload to the network card) or one
    that the frame on the wire cannot hold is replaced by what the wire held; the latter are marked ``lying``.
    ``later`` marks fragments without a transport header, ``first`` those that begin a fragmented packet.
    """
    # Most captures hold one kind only, and an empty table costs as much as a full one.
    kinds = ((_IP4, _read_ip4), (_IP6, _read_ip6))
    tables = [read(records, links) for ethertype, read in kinds if (links.ethertype == ethertype).any()]
    if not tables:
        return _read_ip4(records, links)
    if len(tables) == 1:
        return tables[0]
    return pd.concat(tables, ignore_index=True).sort_values("row", kind="stable", ignore_index=True)


def _read_ip4(records: Records, links: Links) -> pd.DataFrame:
    room = records.at + records.captured - links.network
    row = np.flatnonzero((links.ethertype == _IP4) & (room >= 20))
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
    return pd.DataFrame(
        {
            "row": row,
            "src_high": zero,
            "src_low": header["src"].astype(np.int64) | _MAPPED,
            "dst_high": zero,
            "dst_low": header["dst"].astype(np.int64) | _MAPPED,
            "proto": header["proto"].copy(),
            "transport": at + size,
            "ip_bytes": length,
            "rest": np.maximum(length - size, 0),
            "ident": header["ident"].astype(np.uint32),
            "later": fragment & 0x1FFF > 0,
            "first": fragment & 0x3FFF == 0x2000,
            "lying": lying,
        },
        copy=False,
    )


def _read_ip6(records: Records, links: Links) -> pd.DataFrame:
    end = records.at + records.captured
    row = np.flatnonzero((links.ethertype == _IP6) & (end - links.network >= 40))
    header = read_headers(records.buffer, links.network[row], _IP6_HEADER)
    good = header["version"] >> 4 == 6
    row, header = row[good], header[good]
    at, payload = links.network[row], header["payload"].astype(np.int32)
    room = (records.wire[row] - (at - records.at[row])).astype(np.int32)
    lying = payload + 40 > room
    length = np.where(lying | (payload == 0), room, payload + 40)
    extensions = _skip_extensions(records.buffer, at, end[row], header["next"].copy())
    addresses = {name: header[name].astype(np.int64) for name in ("src_high", "src_low", "dst_high", "dst_low")}
    return pd.DataFrame(
        {
            "row": row,
            **addresses,
            "ip_bytes": length,
            "rest": np.maximum(length - (extensions["transport"].to_numpy() - at), 0).astype(np.int32),
            "lying": lying,
        }
    ).join(extensions)


def _skip_extensions(buffer: np.ndarray, at: np.ndarray, end: np.ndarray, proto: np.ndarray) -> pd.DataFrame:
    cursor, n = at + 40, len(at)
    ident, offset, more = np.zeros(n, np.uint32), np.zeros(n, np.uint16), np.zeros(n, bool)
    for _ in range(_MOST_EXTENSIONS):
        which = np.flatnonzero(np.isin(proto, _EXTENSIONS) & (cursor + 8 <= end) & (offset == 0))
        if not len(which):
            break
        header, kind = read_headers(buffer, cursor[which], _EXTENSION_HEADER), proto[which]
        fragment, units = kind == _FRAGMENT, header["units"].astype(np.int64)
        cut = which[fragment]
        offset[cut], more[cut] = header["offset"][fragment] >> 3, header["offset"][fragment] & 1 > 0
        ident[cut] = header["ident"][fragment]
        cursor[which] += np.select([fragment, kind == _AUTHENTICATION], [8, (units + 2) * 4], (units + 1) * 8)
        proto[which] = header["next"]
    return pd.DataFrame(
        {"proto": proto, "transport": cursor, "ident": ident, "later": offset > 0, "first": more & (offset == 0)}
    )


def read_transport(records: Records, ip: pd.DataFrame) -> pd.DataFrame:
    """Transport headers, one row per row of ``ip``: ``sport dport flags seq window has_tcp payload payload_at held``.

    Ports are ICMP's type and code where the packet is one, 0 where there are none. ``flags`` are TCP's, 0 elsewhere;
    ``payload`` is its length by the IP header, ``held`` how much of it was captured.
    """
    row = ip["row"].to_numpy()
    at, rest, proto = (ip[name].to_numpy() for name in ("transport", "rest", "proto"))
    room, whole = (records.at[row] + records.captured[row] - at).astype(np.int32), ~ip["later"].to_numpy()
    header = read_headers(records.buffer, at, _TRANSPORT_HEADER)
    is_tcp, is_icmp = whole & (proto == TCP), whole & ((proto == ICMP) | (proto == ICMP6))
    has_udp = whole & (proto == UDP)
    has_tcp = is_tcp & (room >= 16)
    ported = (is_tcp | has_udp | (whole & (proto == SCTP))) & (room >= 4)
    typed = is_icmp & (room >= 2)
    size = np.where(has_tcp, np.maximum((header["offset"] >> 4) * np.uint8(4), 20), is_tcp * np.uint8(20))
    size += (has_udp | is_icmp) * np.uint8(8)
    payload = np.maximum(rest - size, 0)
    return pd.DataFrame(
        {
            "sport": np.where(typed, header["type"], header["sport"] * ported),
            "dport": np.where(typed, header["code"], header["dport"] * ported),
            "flags": header["flags"] * has_tcp,
            "seq": header["seq"] * has_tcp,
            "window": header["window"] * has_tcp,
            "has_tcp": has_tcp,
            "payload": payload,
            "payload_at": at + size,
            "held": np.clip(room - size, 0, payload),
        },
        copy=False,
    )
