"""All layers of many packets: link, network, transport, and again what is inside a tunnel."""

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np

from traffic.pcap.headers import Arps, Headers, Transports, read_arp, read_ip, read_transport
from traffic.pcap.links import BRIDGED, ENVELOPES, MOST_ROUNDS, Links, read_links
from traffic.pcap.records import Records, interleave
from traffic.pcap.tunnels import Tunnels, open_tunnels


@dataclass(frozen=True)
class Unread:
    """Frames, or what came in a tunnel, above whose link nothing here reads, shape (n,) each.

    Attributes:
        row: which record; int64.
        ethertype: as in ``Links``, that of IP or ARP where their header is damaged or cut; int32.
        link: the link type; int32.
        at, held: offset of what is above the link header, and how much of it was captured; int64.
        src_mac, dst_mac: 48 bits, -1 = none; int64.
    """

    row: np.ndarray
    ethertype: np.ndarray
    link: np.ndarray
    at: np.ndarray
    held: np.ndarray
    src_mac: np.ndarray
    dst_mac: np.ndarray


@dataclass(frozen=True)
class Ends:
    """What the frame says of each IP packet, shape (n,).

    Attributes:
        src_mac, dst_mac: 48 bits, -1 = none; int64.
        cut: whether it was not captured whole.
    """

    src_mac: np.ndarray
    dst_mac: np.ndarray
    cut: np.ndarray


@dataclass(frozen=True)
class Layers:
    """What records hold.

    Attributes:
        arp: ARP packets.
        ip, transport, ends: IP packets, those in tunnels too; ``row`` is the record.
        unread: the rest.
        envelopes: how many packets came in each of ``ENVELOPES``; shape (n_envelopes,), int64.
        too_deep: packets in more than ``MOST_ROUNDS`` envelopes, of which the last is read.
    """

    arp: Arps
    ip: Headers
    transport: Transports
    ends: Ends
    unread: Unread
    envelopes: np.ndarray
    too_deep: int


@dataclass(frozen=True)
class _Round:
    arp: Arps
    ip: Headers
    transport: Transports
    ends: Ends
    unread: Unread
    envelopes: np.ndarray
    tunnels: Tunnels | None


def read_layers(records: Records) -> Layers:
    """Read the packets of some records, and of all that is in their tunnels, in the order of the
    records; what a record's tunnel holds follows it."""
    envelopes = np.zeros(len(records.at), np.uint32)
    rounds = [_read_round(records, envelopes)]
    row = None
    while (tunnels := rounds[-1].tunnels) is not None and len(rounds) <= MOST_ROUNDS:
        row = tunnels.row if row is None else row[tunnels.row]
        rounds.append(_of_records(_read_round(tunnels.records, tunnels.envelopes), row))
    too_deep = 0 if tunnels is None else len(tunnels.row)
    if tunnels is not None:
        rounds[-1] = replace(rounds[-1], tunnels=None)
    whole = [_without_envelopes(one) for one in rounds]
    counts = np.sum([one.envelopes for one in whole], axis=0)
    if len(whole) == 1:
        one = whole[0]
        return Layers(one.arp, one.ip, one.transport, one.ends, one.unread, counts, too_deep)
    rows = [one.ip.row for one in whole]
    return Layers(
        interleave([one.arp.row for one in whole], [one.arp for one in whole]),
        interleave(rows, [one.ip for one in whole]),
        interleave(rows, [one.transport for one in whole]),
        interleave(rows, [one.ends for one in whole]),
        interleave([one.unread.row for one in whole], [one.unread for one in whole]),
        counts,
        too_deep,
    )


def _read_round(records: Records, envelopes: np.ndarray) -> _Round:
    links = read_links(records)
    if envelopes.any():
        links = replace(links, envelopes=links.envelopes | envelopes)
    arp, ip = read_arp(records, links), read_ip(records, links)
    transport = read_transport(records, ip)
    cut = (records.captured < records.wire)[ip.row]
    ends = Ends(links.src_mac[ip.row], links.dst_mac[ip.row], cut)
    unread = _find_unread(records, links, arp, ip)
    tunnels = open_tunnels(records, links, ip, transport)
    return _Round(arp, ip, transport, ends, unread, links.envelopes, tunnels)


def _find_unread(records: Records, links: Links, arp: Arps, ip: Headers) -> Unread:
    row = np.zeros(0, np.int64)
    if len(arp.row) + len(ip.row) < len(records.at):
        known = links.ethertype == BRIDGED
        known[arp.row], known[ip.row] = True, True
        row = np.flatnonzero(~known)
    at, end = links.network[row], (records.at + records.captured)[row]
    return Unread(
        row=row,
        ethertype=links.ethertype[row].astype(np.int32),
        link=records.link[row],
        at=at,
        held=np.maximum(end - at, 0),
        src_mac=links.src_mac[row],
        dst_mac=links.dst_mac[row],
    )


def _of_records(one: _Round, row: np.ndarray) -> _Round:
    """A round inside tunnels, with the rows of the records that the tunnels came in."""
    return replace(
        one,
        arp=replace(one.arp, row=row[one.arp.row]),
        ip=replace(one.ip, row=row[one.ip.row]),
        unread=replace(one.unread, row=row[one.unread.row]),
    )


def _without_envelopes(one: _Round) -> _Round:
    """Without the packets that are nothing but an envelope; ``envelopes`` become counts."""
    bits = one.envelopes
    counts = np.zeros(len(ENVELOPES), np.int64)
    if bits.any():
        counts = np.array([np.count_nonzero(bits >> place & 1) for place in range(len(ENVELOPES))])
    one = replace(one, envelopes=counts)
    if one.tunnels is None or not len(one.tunnels.replaced):
        return one
    keep = np.ones(len(one.ip.row), bool)
    keep[one.tunnels.replaced] = False
    return replace(
        one,
        ip=_take(one.ip, keep),
        transport=_take(one.transport, keep),
        ends=_take(one.ends, keep),
    )


_Columns = TypeVar("_Columns")


def _take(columns: _Columns, which: np.ndarray) -> _Columns:
    kind: Any = type(columns)
    return kind(*(getattr(columns, column.name)[which] for column in fields(kind)))
