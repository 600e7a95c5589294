"""What the link layer says of each packet: Ethernet with VLAN tags, Linux cooked, raw IP, loopback; and ARP.

IEEE 802.1Q; RFC 826; LINKTYPE_LINUX_SLL and _SLL2 at tcpdump.org/linktypes.html.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from traffic.headers import header_type, interleave, read_headers
from traffic.pcap.records import ETHERNET, SLL, SLL2, Records

__all__ = ["ARP", "IP4", "IP6", "MAPPED", "Arps", "Links", "read_arp", "read_links"]

IP4, ARP, IP6 = 0x0800, 0x0806, 0x86DD
_TAGS = (0x8100, 0x88A8, 0x9100)
# An IPv4 address is kept as the IPv6 address ::ffff:a.b.c.d, so that both kinds share two 64-bit columns.
MAPPED = 0xFFFF << 32

_LINK_HEADERS = {
    ETHERNET: header_type(14, dst=(0, ">u2"), dst_low=(2, ">u4"), src=(6, ">u2"), src_low=(8, ">u4"), type=(12, ">u2")),
    SLL: header_type(16, src=(6, ">u2"), src_low=(8, ">u4"), type=(14, ">u2")),
    SLL2: header_type(20, type=(0, ">u2"), src=(12, ">u2"), src_low=(14, ">u4")),
}
_TAG_HEADER = header_type(4, type=(2, ">u2"))
_ANY_IP_HEADER = header_type(1, version=(0, "u1"))
_ARP_HEADER = header_type(
    28, type=(2, ">u2"), sizes=(4, ">u2"), op=(6, ">u2"), src=(8, ">u2"), src_low=(10, ">u4"), sender=(14, ">u4"),
    target=(24, ">u4"),
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


@dataclass(frozen=True)
class Arps:
    """ARP packets, shape (n,) each, int64; addresses as the low half of ``::ffff:a.b.c.d``."""

    row: np.ndarray
    op: np.ndarray
    mac: np.ndarray
    sender: np.ndarray
    target: np.ndarray


def read_links(records: Records) -> Links:
    """Step over Ethernet with VLAN tags, Linux cooked v1 and v2, raw IP, and loopback headers."""
    kinds = [int(kind) for kind in pd.unique(records.link)] or [ETHERNET]
    if len(kinds) == 1:
        links = _read_link(records, kinds[0])
    else:
        rows = [np.flatnonzero(records.link == kind) for kind in kinds]
        links = interleave(rows, [_read_link(records.take(row), kind) for row, kind in zip(rows, kinds, strict=True)])
    links.ethertype[links.network > records.at + records.captured] = 0
    return links


def _read_link(records: Records, link: int) -> Links:
    buffer, at, none = records.buffer, records.at, np.full(len(records.at), -1)
    if link not in _LINK_HEADERS:
        # Loopback's family number differs between systems; the version in the IP header does not.
        network = at + (4 if link in (0, 108) else 0)
        version = read_headers(buffer, network, _ANY_IP_HEADER)["version"] >> 4
        return Links(np.select([version == 4, version == 6], [IP4, IP6], 0).astype(np.uint16), network, none, none)
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


def read_arp(records: Records, links: Links) -> Arps:
    """ARP packets of IPv4 over Ethernet."""
    row = np.flatnonzero(links.ethertype == ARP)
    row = row[(records.at + records.captured)[row] - links.network[row] >= 28]
    header = read_headers(records.buffer, links.network[row], _ARP_HEADER)
    ethernet_ip4 = (header["type"] == IP4) & (header["sizes"] == 0x0604)
    row, header = row[ethernet_ip4], header[ethernet_ip4]
    op, sender, target = (header[name].astype(np.int64) for name in ("op", "sender", "target"))
    return Arps(row, op, _mac(header, "src"), sender | MAPPED, target | MAPPED)
