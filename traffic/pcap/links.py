"""Link headers of many packets at once, up to the network header or to a frame within the frame.

    Ethernet | VLAN, HSR, DSA tags | PPPoE | PPP | MPLS labels | IP, ARP, ...
    |------ stepped over, a kind of header a round ----------| ^ network, ethertype

IEEE 802.1Q, 802.2, 802.11; IEC 62439-3 (HSR, PRP); RFC 1661, 2516, 3032, 4448; radiotap.org; the
rest at www.tcpdump.org/linktypes.html.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from traffic.pcap.records import (
    AVS,
    CISCO_HDLC,
    DSA,
    EDSA,
    ETHERNET,
    NETANALYZER,
    NULL,
    PPI,
    PPP_LINKS,
    PPP_WITH_DIRECTION,
    PPPOE_LINK,
    PRISM,
    RADIOTAP,
    RAW,
    SLL,
    SLL2,
    WIFI,
    Records,
    header_type,
    interleave,
    read_headers,
)

IP4, ARP, IP6 = 0x0800, 0x0806, 0x86DD
BRIDGED = 0x6558  # an Ethernet frame follows (GRE's number for it)
MPLS, PPP, PPPOE, HSR, EDSA_TAG = 0x8847, 0x880B, 0x8864, 0x892F, 0xDADA
_MPLS_TOO = 0x8848
# A record whose link type is this and more starts right behind an ethertype, which is the rest.
AFTER_ETHERTYPE = 1 << 16
MOST_ROUNDS = 8

# Envelopes by the bit that says a packet came in one.
ENVELOPES = (
    "PPP", "PPPoE", "MPLS", "an HSR tag", "a PRP trailer", "a DSA tag", "802.11", "GRE", "ERSPAN",
    "VXLAN", "Geneve", "IP in IP", "a provider bridge (802.1ah)", "EtherIP", "Teredo", "GTP",
)  # fmt: skip


def envelope(name: str) -> np.uint32:
    """The bit of an envelope.

    >>> int(envelope("PPPoE"))
    2
    """
    return np.uint32(1 << ENVELOPES.index(name))


@dataclass(frozen=True)
class Links:
    """Link headers, shape (n,) each.

    Attributes:
        ethertype: the protocol above, 0 where the link tells none; uint16. Below 0x600 the frame
            is one of LLC (802.2) without an ethertype; ``PPP``, ``PPPOE`` and ``MPLS`` stand where
            what they hold is not read.
        network: offset of the network header in the buffer; int64.
        src_mac, dst_mac: 48 bits, -1 where the link has none; int64.
        envelopes: bits of ``ENVELOPES``; uint32.
    """

    ethertype: np.ndarray
    network: np.ndarray
    src_mac: np.ndarray
    dst_mac: np.ndarray
    envelopes: np.ndarray


_LINK_HEADERS = {
    ETHERNET: header_type(
        14, dst=(0, ">u2"), dst_low=(2, ">u4"), src=(6, ">u2"), src_low=(8, ">u4"), type=(12, ">u2")
    ),
    SLL: header_type(16, src=(6, ">u2"), src_low=(8, ">u4"), type=(14, ">u2")),
    SLL2: header_type(20, type=(0, ">u2"), src=(12, ">u2"), src_low=(14, ">u4")),
    EDSA: header_type(
        22, dst=(0, ">u2"), dst_low=(2, ">u4"), src=(6, ">u2"), src_low=(8, ">u4"), type=(20, ">u2")
    ),
    DSA: header_type(
        18, dst=(0, ">u2"), dst_low=(2, ">u4"), src=(6, ">u2"), src_low=(8, ">u4"), type=(16, ">u2")
    ),
    CISCO_HDLC: header_type(4, type=(2, ">u2")),
}
_FIELDS = {link: header.names or () for link, header in _LINK_HEADERS.items()}
_ANY_IP_HEADER = header_type(1, version=(0, "u1"))
_WORD = header_type(4, high=(0, ">u2"), low=(2, ">u2"), number=(0, ">u4"), first=(0, "u1"))


def read_links(records: Records) -> Links:
    """Step over the link headers of each record, and over what lies between them and the network
    header."""
    kinds = [int(kind) for kind in pd.unique(records.link)] or [ETHERNET]
    if len(kinds) == 1:
        links = _read_link(records, kinds[0])
    else:
        rows = [np.flatnonzero(records.link == kind) for kind in kinds]
        takes = zip(rows, kinds, strict=True)
        links = interleave(rows, [_read_link(records.take(row), kind) for row, kind in takes])
    end = records.at + records.captured
    _step(_Walk(records.buffer, end, links))
    links.ethertype[links.network > end] = 0
    return links


def _read_link(records: Records, link: int) -> Links:
    buffer, at, n = records.buffer, records.at, len(records.at)
    none, no_envelope = np.full(n, -1), np.zeros(n, np.uint32)
    if link >= AFTER_ETHERTYPE:
        ethertype = np.full(n, link - AFTER_ETHERTYPE, np.uint16)
        return Links(ethertype, at.copy(), none, none, no_envelope)
    if link in (*RAW, *NULL):
        # Loopback's family number differs between systems; the version in the IP header does not.
        network = at + (4 if link in NULL else 0)
        return Links(ip_ethertype(buffer, network), network, none, none, no_envelope)
    if link in PPP_LINKS:
        typed = np.full(n, PPPOE if link == PPPOE_LINK else PPP, np.uint16)
        return Links(typed, at + (link in PPP_WITH_DIRECTION), none, none, no_envelope)
    if link in (WIFI, RADIOTAP, PRISM, AVS, PPI):
        return _read_wifi(records, link)
    if link in NETANALYZER:
        # 4 bytes of its own, in the transparent form also a preamble of 8 (LINKTYPE_NETANALYZER).
        at, link = at + NETANALYZER[link], ETHERNET
    if link not in _LINK_HEADERS:
        return Links(np.zeros(n, np.uint16), at.copy(), none, none, no_envelope)
    header = read_headers(buffer, at, _LINK_HEADERS[link])
    ethertype, network = header["type"].astype(np.uint16), at + header.itemsize
    if link in (DSA, EDSA):
        no_envelope |= envelope("a DSA tag")
    if link == ETHERNET:
        _find_prp(records, ethertype, no_envelope)
    dst_mac = mac(header, "dst") if "dst" in _FIELDS[link] else none
    src_mac = mac(header, "src") if "src" in _FIELDS[link] else none
    return Links(ethertype, network, src_mac, dst_mac, no_envelope)


def mac(header: np.ndarray, side: str) -> np.ndarray:
    """The 48 bits of a MAC address, kept in two fields of a header; int64."""
    return header[side].astype(np.int64) << 32 | header[f"{side}_low"]


def ip_ethertype(buffer: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The ethertype of the IP header at each offset by its version, 0 for none; uint16."""
    version = read_headers(buffer, at, _ANY_IP_HEADER)["version"] >> 4
    return np.select([version == 4, version == 6], [IP4, IP6], 0).astype(np.uint16)


# ---- 802.11 ----

_RADIO_HEADER = header_type(8, length=(2, "<u2"), present=(4, "<u4"), length_be=(4, ">u4"))
_WIFI_HEADER = header_type(
    24, type=(0, "u1"), flags=(1, "u1"), a1=(4, ">u2"), a1_low=(6, ">u4"), a2=(10, ">u2"), a2_low=(12, ">u4"),
    a3=(16, ">u2"), a3_low=(18, ">u4"),
)  # fmt: skip
_PRISM_BYTES = 144


def _read_wifi(records: Records, link: int) -> Links:
    """Data frames of 802.11 that are not encrypted: LLC follows, or a frame of Ethernet's form in
    an aggregate (A-MSDU), of which the first is read. All others have ethertype 0."""
    buffer, at, n = records.buffer, records.at, len(records.at)
    radio = read_headers(buffer, at, _RADIO_HEADER)
    padded = np.zeros(n, bool)
    if link in (RADIOTAP, PPI):
        at = at + radio["length"]
    elif link == AVS:
        at = at + np.minimum(radio["length_be"], 1 << 20).astype(np.int64)
    elif link == PRISM:
        at = at + _PRISM_BYTES
    if link == RADIOTAP:
        padded = _is_padded(buffer, records.at, radio["present"])
    header = read_headers(buffer, at, _WIFI_HEADER)
    kind, flags = header["type"], header["flags"]
    from_ap, to_ap, encrypted = flags & 2 > 0, flags & 1 > 0, flags & 0x40 > 0
    quality = kind & 0x80 > 0
    size = 24 + 6 * (from_ap & to_ap) + 2 * quality
    aggregate = read_headers(buffer, at + size - 2, _ANY_IP_HEADER)["version"] & 0x80 > 0
    size += 4 * (quality & (flags & 0x80 > 0))
    size = np.where(padded, (size + 3) & ~3, size)
    if link == PPI:  # it may carry any link type
        encrypted |= radio["present"] != WIFI
    data = (kind & 0x0C == 0x08) & (kind & 0x40 == 0) & ~encrypted
    # 4 is an LLC header's place among the lengths below 0x600.
    ethertype = np.where(data, np.where(quality & aggregate, BRIDGED, 4), 0).astype(np.uint16)
    first, second, third = (mac(header, name) for name in ("a1", "a2", "a3"))
    dst_mac = np.where(to_ap, third, first)
    src_mac = np.where(from_ap & ~to_ap, third, second)
    network = np.where(data, at + size, at)  # what is not read keeps its whole header
    return Links(ethertype, network, src_mac, dst_mac, data * envelope("802.11"))


def _is_padded(buffer: np.ndarray, at: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Whether radiotap's flags say that the header was padded to 4 bytes."""
    words, more = np.ones(len(at), np.int64), present >> 31 > 0
    for _ in range(MOST_ROUNDS):
        if not more.any():
            break
        word = read_headers(buffer, at + 4 + 4 * words, header_type(4, present=(0, "<u4")))
        more, words = more & (word["present"] >> 31 > 0), words + more
    place = 4 + 4 * words
    place = np.where(present & 1 > 0, (place + 7 & ~7) + 8, place)
    flags = read_headers(buffer, at + place, _ANY_IP_HEADER)["version"]
    return (present & 2 > 0) & (flags & 0x20 > 0)


# ---- What lies between a link's header and the network's ----

# Tags of a fixed length whose last two bytes are the next ethertype.
_TAGS = {0x8100: 4, 0x88A8: 4, 0x9100: 4, HSR: 6, EDSA_TAG: 8, 0x8926: 6}
_SERVICE_TAG = 0x88E7  # 802.1ah: 4 bytes, then a frame
_SIZE_OF_TAG = np.zeros(1 << 16, np.int64)
_SIZE_OF_TAG[list(_TAGS)] = list(_TAGS.values())
_STEPPED = _SIZE_OF_TAG > 0
_STEPPED[[PPP, PPPOE, MPLS, _MPLS_TOO, _SERVICE_TAG]] = True
_STEPPED[1:0x600] = True
_READ = np.zeros(1 << 16, bool)
_READ[[IP4, IP6, ARP]] = True
FAMILIAR = _READ | (_SIZE_OF_TAG > 0)  # ethertypes by which a frame is told from other bytes
_LLC_HEADER = header_type(8, sap=(0, ">u2"), control=(2, "u1"), vendor=(2, ">u4"), type=(6, ">u2"))
_PPP_PROTOCOLS = {0x21: IP4, 0x57: IP6, 0x281: MPLS, 0x283: _MPLS_TOO}


@dataclass(frozen=True)
class _Walk:
    """Where the packets stand; steps change ``links`` in place."""

    buffer: np.ndarray
    end: np.ndarray
    links: Links

    def read(self, at: np.ndarray, kind: np.dtype) -> np.ndarray:
        return read_headers(self.buffer, at, kind)

    def goes_on(self, rows: np.ndarray) -> np.ndarray:
        return self.links.network[rows] <= self.end[rows]


def _step(walk: _Walk) -> None:
    """Step over tags, LLC, PPPoE, PPP and MPLS, in place, until all stand at what is read, at a
    frame in the frame, or at what nothing here knows."""
    rows = np.flatnonzero(_STEPPED[walk.links.ethertype])
    for _ in range(MOST_ROUNDS):
        if not len(rows):
            break
        kind = walk.links.ethertype[rows]
        for is_kind, step in _steps(kind):
            if is_kind.any():
                step(walk, rows[is_kind])
        rows = rows[walk.links.ethertype[rows] != kind]
        rows = rows[_STEPPED[walk.links.ethertype[rows]] & walk.goes_on(rows)]
    strange = np.flatnonzero(~(_READ[walk.links.ethertype] | (walk.links.ethertype == BRIDGED)))
    if len(strange):
        _find_dsa(walk, strange)


_Step = Callable[[_Walk, np.ndarray], None]


def _steps(kind: np.ndarray) -> list[tuple[np.ndarray, _Step]]:
    return [
        (_SIZE_OF_TAG[kind] > 0, _skip_tags),
        (kind < 0x600, _skip_llc),
        (kind == PPPOE, _skip_pppoe),
        (kind == PPP, _skip_ppp),
        ((kind == MPLS) | (kind == _MPLS_TOO), _skip_mpls),
        (kind == _SERVICE_TAG, _skip_service_tag),
    ]


def _skip_tags(walk: _Walk, rows: np.ndarray) -> None:
    # A tag may repeat itself (two VLANs): the same kind again is still a step.
    for _ in range(MOST_ROUNDS):
        kind = walk.links.ethertype[rows]
        size = _SIZE_OF_TAG[kind]
        for tag, name in ((HSR, "an HSR tag"), (EDSA_TAG, "a DSA tag")):
            walk.links.envelopes[rows[kind == tag]] |= envelope(name)
        walk.links.ethertype[rows] = walk.read(walk.links.network[rows] + size - 4, _WORD)["low"]
        walk.links.network[rows] += size
        rows = rows[(_SIZE_OF_TAG[walk.links.ethertype[rows]] > 0) & walk.goes_on(rows)]
        if not len(rows):
            return


def _skip_llc(walk: _Walk, rows: np.ndarray) -> None:
    """LLC with SNAP and an ethertype (RFC 1042); any other LLC stays as it is."""
    header = walk.read(walk.links.network[rows], _LLC_HEADER)
    # 03 and three bytes of vendor: 0, or Apple's bridge tunnel (802.1H).
    snap = (header["sap"] == 0xAAAA) & np.isin(header["vendor"], (0x03000000, 0x030000F8))
    snap &= header["type"] >= 0x600
    rows = rows[snap]
    walk.links.ethertype[rows] = header["type"][snap]
    walk.links.network[rows] += 8


def _skip_pppoe(walk: _Walk, rows: np.ndarray) -> None:
    # Version 1, type 1, code 0: a session's data.
    rows = rows[walk.read(walk.links.network[rows], _WORD)["high"] == 0x1100]
    walk.links.envelopes[rows] |= envelope("PPPoE")
    walk.links.ethertype[rows] = PPP
    walk.links.network[rows] += 6


def _skip_ppp(walk: _Walk, rows: np.ndarray) -> None:
    """Address and control where they are there, then a protocol of two bytes, or of one whose
    lowest bit is set."""
    at = walk.links.network[rows]
    at += 2 * (walk.read(at, _WORD)["high"] == 0xFF03)
    protocol = walk.read(at, _WORD)["high"]
    short = protocol & 0x100 > 0
    protocol = np.where(short, protocol >> 8, protocol)
    for number, ethertype in _PPP_PROTOCOLS.items():
        which = np.flatnonzero(protocol == number)
        walk.links.ethertype[rows[which]] = ethertype
        walk.links.network[rows[which]] = at[which] + 2 - short[which]
        bare = rows[which[walk.links.envelopes[rows[which]] & envelope("PPPoE") == 0]]
        walk.links.envelopes[bare] |= envelope("PPP")


def _skip_mpls(walk: _Walk, rows: np.ndarray) -> None:
    """The label stack; then IP by its version, or a frame with or without a control word (RFC
    4448), where its own ethertype is one that is read."""
    at, open_ = walk.links.network[rows], np.ones(len(rows), bool)
    for _ in range(2 * MOST_ROUNDS):
        last = walk.read(at, _WORD)["number"] & 0x100 > 0
        at += 4 * open_
        open_ &= ~last & (at <= walk.end[rows])
        if not open_.any():
            break
    inner = np.where(open_, 0, ip_ethertype(walk.buffer, at))
    for skip in (4, 0):
        ethertype = walk.read(at + skip + 10, _WORD)["low"]
        control = (walk.read(at, _ANY_IP_HEADER)["version"] >> 4 == 0) | (skip == 0)
        framed = (inner == 0) & ~open_ & control & FAMILIAR[ethertype]
        inner[framed] = BRIDGED
        at[framed] += skip
    known = inner > 0
    rows = rows[known]
    walk.links.ethertype[rows], walk.links.network[rows] = inner[known], at[known]
    walk.links.envelopes[rows] |= envelope("MPLS")


def _skip_service_tag(walk: _Walk, rows: np.ndarray) -> None:
    walk.links.ethertype[rows] = BRIDGED
    walk.links.network[rows] += 4
    walk.links.envelopes[rows] |= envelope("a provider bridge (802.1ah)")


def _find_dsa(walk: _Walk, rows: np.ndarray) -> None:
    """Frames of a switch chip that puts 4 bytes of its own before the ethertype, which nothing
    announces: they are told by the IPv4 header that follows and fills the frame."""
    at = walk.links.network[rows] - 2
    ethertype = walk.read(at + 2, _WORD)["low"]
    header = walk.read(at + 6, _WORD)
    spare = walk.end[rows] - at - 6 - header["low"]
    # A checksum of the frame may follow, and padding up to the shortest frame.
    fits = (spare >= 0) & ((spare <= 4) | (walk.end[rows] - at <= 52))
    tagged = (walk.links.src_mac[rows] >= 0) & (ethertype == IP4) & (header["first"] == 0x45) & fits
    rows = rows[tagged]
    walk.links.ethertype[rows] = IP4
    walk.links.network[rows] += 4
    walk.links.envelopes[rows] |= envelope("a DSA tag")


_PRP_TRAILER = 0x88FB


def _find_prp(records: Records, ethertype: np.ndarray, envelopes: np.ndarray) -> None:
    """Mark frames that end with PRP's trailer, where a node of PRP is heard (it supervises every
    two seconds). The trailer lies past the IP packet and changes nothing in it."""
    if not (ethertype == _PRP_TRAILER).any():
        return
    tail = read_headers(records.buffer, records.at + records.captured - 4, _WORD)["low"]
    whole = records.captured == records.wire
    envelopes[whole & (tail == _PRP_TRAILER)] |= envelope("a PRP trailer")
