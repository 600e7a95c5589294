"""Link, network and transport headers of all packets at once: each field is one column read by fancy indexing.

    at           network            transport        payload      end (captured)
    | Ethernet, |  IPv4 or IPv6,   |  TCP, UDP,     |           |  ... not captured
    | VLAN tags |  its extensions  |  ICMP          |           |

RFC 791, 8200, 9293, 768, 792, 826; IEEE 802.1Q; LINKTYPE_LINUX_SLL and _SLL2 at tcpdump.org/linktypes.html.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from traffic.records import ETHERNET, SLL, SLL2, Records, read_numbers

__all__ = ["ICMP", "ICMP6", "TCP", "UDP", "Links", "read_arp", "read_ip", "read_links", "read_transport"]

ICMP, TCP, UDP, ICMP6, SCTP = 1, 6, 17, 58, 132
_IP4, _ARP, _IP6 = 0x0800, 0x0806, 0x86DD
_TAGS = (0x8100, 0x88A8, 0x9100)
_FRAGMENT, _AUTHENTICATION = 44, 51
_EXTENSIONS = (0, 43, _FRAGMENT, _AUTHENTICATION, 60, 135, 139, 140)
_MOST_EXTENSIONS = 8
# An IPv4 address is kept as the IPv6 address ::ffff:a.b.c.d, so that both kinds share two 64-bit columns.
_MAPPED = 0xFFFF << 32


@dataclass(frozen=True)
class Links:
    """What the link layer says of each packet, shape (n,) each, int64.

    Attributes:
        ethertype: the protocol above, 0 where it is none we know.
        network: offset of the network header in the buffer.
        src_mac, dst_mac: 48 bits, -1 where the link has none.
    """

    ethertype: np.ndarray
    network: np.ndarray
    src_mac: np.ndarray
    dst_mac: np.ndarray


def read_links(records: Records) -> Links:
    """Step over Ethernet with VLAN tags, Linux cooked v1 and v2, raw IP, and loopback headers."""
    n = len(records.at)
    links = Links(np.zeros(n, np.int64), records.at.copy(), np.full(n, -1), np.full(n, -1))
    for link in np.unique(records.link):
        which = np.flatnonzero(records.link == link)
        _read_link(records.buffer, records.at[which], int(link), which, links)
    links.ethertype[links.network > records.at + records.captured] = 0
    return links


def _read_link(buffer: np.ndarray, at: np.ndarray, link: int, which: np.ndarray, out: Links) -> None:
    if link in (ETHERNET, SLL, SLL2):
        kind, mac, start = {ETHERNET: (12, 6, 14), SLL: (14, 6, 16), SLL2: (0, 12, 20)}[link]
        ethertype, network = read_numbers(buffer, at + kind, ">u2"), at + start
        out.src_mac[which] = _read_mac(buffer, at + mac)
        if link == ETHERNET:
            out.dst_mac[which] = _read_mac(buffer, at)
        for _ in range(3):  # QinQ has two tags; more than three is no network we know
            tagged = np.isin(ethertype, _TAGS)
            if not tagged.any():
                break
            network = network + 4 * tagged
            ethertype = np.where(tagged, read_numbers(buffer, network - 2, ">u2"), ethertype)
    else:
        # Loopback's family number differs between systems; the version in the IP header does not.
        network = at + (4 if link in (0, 108) else 0)
        version = read_numbers(buffer, network, "u1") >> 4
        ethertype = np.select([version == 4, version == 6], [_IP4, _IP6], 0)
    out.ethertype[which], out.network[which] = ethertype, network


def _read_mac(buffer: np.ndarray, at: np.ndarray) -> np.ndarray:
    return read_numbers(buffer, at, ">u2") << 32 | read_numbers(buffer, at + 2, ">u4")


def read_arp(records: Records, links: Links) -> pd.DataFrame:
    """ARP packets: ``row op mac sender target`` (addresses as the low half of ``::ffff:a.b.c.d``)."""
    end = records.at + records.captured
    row = np.flatnonzero((links.ethertype == _ARP) & (end - links.network >= 28))
    at = links.network[row]
    kinds = read_numbers(records.buffer, at, ">u4"), read_numbers(records.buffer, at + 4, ">u2")
    ethernet_ip4 = (kinds[0] & 0xFFFF == _IP4) & (kinds[1] == 0x0604)
    row, at = row[ethernet_ip4], at[ethernet_ip4]
    return pd.DataFrame(
        {
            "row": row,
            "op": read_numbers(records.buffer, at + 6, ">u2"),
            "mac": _read_mac(records.buffer, at + 8),
            "sender": read_numbers(records.buffer, at + 14, ">u4") | _MAPPED,
            "target": read_numbers(records.buffer, at + 24, ">u4") | _MAPPED,
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
    buffer, end = records.buffer, records.at + records.captured
    row = np.flatnonzero((links.ethertype == _IP4) & (end - links.network >= 20))
    first = read_numbers(buffer, links.network[row], "u1")
    good = (first >> 4 == 4) & (first & 15 >= 5)
    row, header = row[good], (first[good] & 15) * 4
    at = links.network[row]
    total = read_numbers(buffer, at + 2, ">u2")
    room = records.wire[row] - (at - records.at[row])
    lying = (total > room) | ((total < header) & (total > 0))
    length = np.where(lying | (total == 0), room, total)
    fragment = read_numbers(buffer, at + 6, ">u2")
    zero = np.zeros(len(row), np.int64)
    return pd.DataFrame(
        {
            "row": row,
            "src_high": zero,
            "src_low": read_numbers(buffer, at + 12, ">u4") | _MAPPED,
            "dst_high": zero,
            "dst_low": read_numbers(buffer, at + 16, ">u4") | _MAPPED,
            "proto": read_numbers(buffer, at + 9, "u1"),
            "transport": at + header,
            "ip_bytes": length,
            "rest": np.maximum(length - header, 0),
            "ident": read_numbers(buffer, at + 4, ">u2"),
            "later": fragment & 0x1FFF > 0,
            "first": fragment & 0x3FFF == 0x2000,
            "lying": lying,
        },
        copy=False,
    )


def _read_ip6(records: Records, links: Links) -> pd.DataFrame:
    buffer, end = records.buffer, records.at + records.captured
    row = np.flatnonzero((links.ethertype == _IP6) & (end - links.network >= 40))
    row = row[read_numbers(buffer, links.network[row], "u1") >> 4 == 6]
    at = links.network[row]
    payload = read_numbers(buffer, at + 4, ">u2")
    room = records.wire[row] - (at - records.at[row])
    lying = payload + 40 > room
    length = np.where(lying | (payload == 0), room, payload + 40)
    extensions = _skip_extensions(buffer, at, end[row], read_numbers(buffer, at + 6, "u1"))
    addresses = {
        f"{side}_{half}": read_numbers(buffer, at + skip, ">u8")
        for side, half, skip in (("src", "high", 8), ("src", "low", 16), ("dst", "high", 24), ("dst", "low", 32))
    }
    return pd.DataFrame(
        {
            "row": row,
            **addresses,
            "ip_bytes": length,
            "rest": np.maximum(length - (extensions["transport"].to_numpy() - at), 0),
            "lying": lying,
        }
    ).join(extensions)


def _skip_extensions(buffer: np.ndarray, at: np.ndarray, end: np.ndarray, proto: np.ndarray) -> pd.DataFrame:
    cursor, n = at + 40, len(at)
    ident, offset, more = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, bool)
    for _ in range(_MOST_EXTENSIONS):
        is_extension = np.isin(proto, _EXTENSIONS) & (cursor + 8 <= end) & (offset == 0)
        if not is_extension.any():
            break
        fragment = is_extension & (proto == _FRAGMENT)
        word = read_numbers(buffer, cursor + 2, ">u2")
        offset, more = np.where(fragment, word >> 3, offset), np.where(fragment, word & 1 > 0, more)
        ident = np.where(fragment, read_numbers(buffer, cursor + 4, ">u4"), ident)
        units = read_numbers(buffer, cursor + 1, "u1")
        size = np.select([fragment, proto == _AUTHENTICATION], [8, (units + 2) * 4], (units + 1) * 8)
        proto = np.where(is_extension, read_numbers(buffer, cursor, "u1"), proto)
        cursor = np.where(is_extension, cursor + size, cursor)
    return pd.DataFrame(
        {"proto": proto, "transport": cursor, "ident": ident, "later": offset > 0, "first": more & (offset == 0)}
    )


def read_transport(records: Records, ip: pd.DataFrame) -> pd.DataFrame:
    """Transport headers, one row per row of ``ip``: ``sport dport flags seq window has_tcp payload payload_at held``.

    Ports are ICMP's type and code where the packet is one, 0 where there are none. ``flags`` are TCP's, 0 elsewhere;
    ``payload`` is its length by the IP header, ``held`` how much of it was captured.
    """
    buffer, end = records.buffer, (records.at + records.captured)[ip["row"].to_numpy()]
    at, rest, proto = (ip[name].to_numpy() for name in ("transport", "rest", "proto"))
    whole, room = ~ip["later"].to_numpy(), end - at
    n = len(at)
    sport, dport, flags, seq, window, header = (np.zeros(n, np.int64) for _ in range(6))

    ported = np.flatnonzero(whole & ((proto == TCP) | (proto == UDP) | (proto == SCTP)) & (room >= 4))
    sport[ported] = read_numbers(buffer, at[ported], ">u2")
    dport[ported] = read_numbers(buffer, at[ported] + 2, ">u2")
    icmp = np.flatnonzero(whole & ((proto == ICMP) | (proto == ICMP6)) & (room >= 2))
    sport[icmp], dport[icmp] = read_numbers(buffer, at[icmp], "u1"), read_numbers(buffer, at[icmp] + 1, "u1")
    tcp = np.flatnonzero(whole & (proto == TCP) & (room >= 16))
    seq[tcp] = read_numbers(buffer, at[tcp] + 4, ">u4")
    flags[tcp] = read_numbers(buffer, at[tcp] + 13, "u1")
    window[tcp] = read_numbers(buffer, at[tcp] + 14, ">u2")

    header[whole & np.isin(proto, (UDP, ICMP, ICMP6))] = 8
    header[whole & (proto == TCP)] = 20
    header[tcp] = np.maximum((read_numbers(buffer, at[tcp] + 12, "u1") >> 4) * 4, 20)
    payload = np.maximum(rest - header, 0)
    has_tcp = np.zeros(n, bool)
    has_tcp[tcp] = True
    return pd.DataFrame(
        {
            "sport": sport,
            "dport": dport,
            "flags": flags.astype(np.uint8),
            "seq": seq,
            "window": window,
            "has_tcp": has_tcp,
            "payload": payload,
            "payload_at": at + header,
            "held": np.clip(end - at - header, 0, payload),
        },
        copy=False,
    )
