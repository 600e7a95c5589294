"""Packets that a mirror port delivered twice, found before anything is counted.

A switch that mirrors several ports or VLANs sees a packet at each of them. Its copies have the same
IP identification and bytes and come within a millisecond; behind a router the copy's TTL is one
lower and its MAC addresses are others.

A sender that repeats a packet gives it another identification (RFC 6864 asks for it wherever a
packet may be fragmented), so a retransmission stays. Where the identification says nothing (0 as
many stacks write it beside DF, IPv6, or a device that writes one number into all) a copy has to come
within 50 us from the same MAC address: no stack sends TCP data again that fast (RFC 6298 waits a
second, Linux 200 ms), but duplicate acknowledgements and datagrams may be meant, and these are
copies only where most of what the sender sends its peer comes twice. What comes more than four
times is a flood or a loop, not a mirror.
"""

import numpy as np
import pandas as pd

from traffic.arrays import number_groups
from traffic.pcap.headers import TCP
from traffic.pcap.records import read_headers
from traffic.pcap.tcp import FIN, RST, SYN

COPY_S, BLIND_COPY_S = 1e-3, 50e-6
_MOST_COPIES = 3
_DOUBLED = 0.4  # of a sender's packets to a peer; half of them where all come twice
_CLOCK_S = 5e-7  # what a time since the epoch loses as a 64-bit number
# The first few tell most packets apart; all are compared.
_HASHED = 4
_SAME = ("ident", "seq", "sport", "dst", "src", "dport", "proto", "flags", "ip_bytes", "fragment")
_ARP_SAME = ("op", "sender", "target", "mac")
_BYTES = 64  # of the transport header and what follows; the checksum there covers the rest


def find_copies(
    table: pd.DataFrame, buffers: tuple[np.ndarray, ...], poor: np.ndarray | None
) -> np.ndarray:
    """Which IP packets are copies of an earlier one.

    Args:
        table: shape (n, ...), sorted by time, ``Packets.table`` with ``ident ttl fragment head``
            (bytes of the transport header).
        buffers: the bytes of each file, or of the only one in which everything lies.
        poor: whether each address knows few identifications, where the packets are a part of a
            capture; None where these packets tell it.

    Returns:
        Shape (n,), bool.
    """
    columns = {name: table[name].to_numpy() for name in (*_SAME, "ts")}
    later, earlier = _pair(columns, _SAME, COPY_S)
    if not len(later):
        return np.zeros(len(table), bool)
    same = _bytes(table, buffers, later) == _bytes(table, buffers, earlier)
    later, earlier = later[same], earlier[same]
    ts, ttl = table["ts"].to_numpy(), table["ttl"].to_numpy().astype(np.int16)
    macs = [table[name].to_numpy() for name in ("src_mac", "dst_mac")]
    moved = np.logical_or.reduce([mac[later] != mac[earlier] for mac in macs])
    hop = np.abs(ttl[later] - ttl[earlier])
    unlinked = macs[0][later] < 0
    routed = (hop == 1) & (moved | unlinked)
    known = ~_is_blind(table, later, poor)
    soon = ts[later] - ts[earlier] <= BLIND_COPY_S + _CLOCK_S
    blind = ~known & (hop == 0) & ~moved & soon
    flags = table["flags"].to_numpy()[later]
    tells = (table["payload"].to_numpy()[later] > 0) | (flags & (SYN | FIN | RST) > 0)
    tells &= table["proto"].to_numpy()[later] == TCP
    way = [table[name].to_numpy() for name in ("src", "dst")]
    blind &= tells | _is_doubled(way, later, blind)
    sure = (known & (hop == 0)) | routed | blind
    return _without_floods(later[sure], earlier[sure], len(table))


def find_arp_copies(arp: pd.DataFrame) -> np.ndarray:
    """Which ARP packets are copies of an earlier one, by the rule for what has no identification.

    Args:
        arp: shape (n, ...), ``Packets.arp``.
    """
    columns = {name: arp[name].to_numpy() for name in (*_ARP_SAME, "ts")}
    later, earlier = _pair(columns, _ARP_SAME, BLIND_COPY_S)
    way = [columns["sender"], columns["target"]]
    sure = _is_doubled(way, later, np.ones(len(later), bool))
    return _without_floods(later[sure], earlier[sure], len(arp))


def _pair(
    columns: dict[str, np.ndarray], same: tuple[str, ...], within_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """Rows, and the last one before each that is equal in the columns ``same`` and not older."""
    hashed = np.zeros(len(columns["ts"]), np.uint32)
    for name in same[:_HASHED]:
        hashed = hashed * np.uint32(0x9E3779B1) ^ columns[name].astype(np.uint32)
    hashed *= np.uint32(0x85EBCA6B)
    short = (hashed >> np.uint32(16)).astype(np.uint16)
    order = np.argsort(short, kind="stable").astype(np.int32)
    ts = columns["ts"][order]
    earlier = np.full(len(order), -1, np.int32)
    # Packets of one hash lie between, but seldom within a millisecond.
    for step in (4, 3, 2, 1):
        place = np.flatnonzero(ts[step:] - ts[:-step] <= within_s + _CLOCK_S)
        place = place[(ts[step:] >= ts[:-step])[place]]
        late, early = order[place + step], order[place]
        for name in ("short", *same):
            column = short if name == "short" else columns[name]
            equal = column[late] == column[early]
            late, early = late[equal], early[equal]
        earlier[late] = early
    later = np.flatnonzero(earlier >= 0)
    return later, earlier[later].astype(np.int64)


def _bytes(table: pd.DataFrame, buffers: tuple[np.ndarray, ...], rows: np.ndarray) -> np.ndarray:
    """The first bytes of the transport header and payload of some packets, as far as captured."""
    columns = ("payload_at", "head", "held", "file")
    at, head, held, file = (table[name].to_numpy()[rows] for name in columns)
    there = np.minimum(head + held.astype(np.int64), _BYTES)
    out = np.zeros(len(rows), f"V{_BYTES}")
    for number, buffer in enumerate(buffers):
        which = np.flatnonzero((file == number) | (len(buffers) == 1))
        out[which] = read_headers(buffer, at[which] - head[which], out.dtype)
    found = out.view(np.uint8).reshape(len(rows), _BYTES)
    found *= np.arange(_BYTES) < there[:, None]
    return found.view(f"V{_BYTES}").ravel()


def _is_blind(table: pd.DataFrame, later: np.ndarray, poor: np.ndarray | None) -> np.ndarray:
    """Whether the identification of a packet says nothing: 0, or its sender knows few numbers."""
    src, ident = table["src"].to_numpy(), table["ident"].to_numpy()
    blind = ident[later] == 0
    if poor is not None:
        return blind | poor[src[later]]
    senders = np.unique(src[later[~blind]])
    if not len(senders):
        return blind
    place = np.full(int(src.max()) + 1, -1)
    place[senders] = np.arange(len(senders))
    rows = np.flatnonzero(place[src] >= 0)
    sent = np.bincount(place[src[rows]], minlength=len(senders))
    once = rows[number_groups(src[rows], ident[rows])[1]]
    numbers = np.bincount(place[src[once]], minlength=len(senders))
    blind[~blind] = is_poor(sent, numbers)[place[src[later[~blind]]]]
    return blind


ENOUGH_NUMBERS = 6554  # of 65,536: who knows as many is not poor, whatever it sends


def is_poor(sent: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Whether who sent so many packets with so many identifications knows but few of these."""
    return (sent >= 20) & (numbers < 0.1 * np.minimum(sent, 1 << 16))


def _is_doubled(way: list[np.ndarray], later: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Whether most of what passes on a row's way comes twice."""
    if not chosen.any():
        return np.zeros(len(later), bool)
    group, _ = number_groups(*way)
    copies = np.bincount(group[later[chosen]], minlength=int(group.max()) + 1)
    return (copies / np.bincount(group))[group[later]] >= _DOUBLED


def _without_floods(later: np.ndarray, earlier: np.ndarray, n: int) -> np.ndarray:
    """Mark copies, but none of those that follow each other in a long chain."""
    copies = np.zeros(n, bool)
    if not len(later):
        return copies
    root = np.arange(n)
    root[later] = earlier
    while True:  # each round halves what is left of the longest chain
        above = root[root]
        if (above == root).all():
            break
        root = above
    size = np.bincount(root, minlength=n)
    copies[later] = size[root[later]] <= 1 + _MOST_COPIES
    return copies
