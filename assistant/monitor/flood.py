"""A flood thinned out: packets of the busiest pairs are left out first, so that all others stay whole."""

from collections.abc import Sequence

import numpy as np

from traffic.arrays import count_up, number_groups
from traffic.pcap.records import Records, header_type, read_headers

# What says who talks to whom: addresses of IPv4 behind Ethernet, else both MACs.
_FRAME = header_type(
    34, macs_high=(0, "<u8"), macs_low=(8, "<u4"), kind=(12, ">u2"), pair=(26, "<u8")
)
_IPV4 = 0x0800


def thin_out(parts: Sequence[Records], most: int) -> tuple[list[Records], int]:
    """Keep at most about so many packets.

    Args:
        parts: packets in the order of their arrival.
        most: how many stay, at least 1.

    Returns:
        The parts with what stays, and how many packets were left out. Of each pair of addresses the
        first packets stay, as many of each as let all fit; where the pairs alone are too many, as
        from forged addresses, the first of all.
    """
    sizes = [len(part.ts) for part in parts]
    total = sum(sizes)
    if total <= most:
        return list(parts), 0
    keys = np.concatenate([_pairs(part) for part in parts])
    pair = number_groups(keys)[0]
    order = np.argsort(pair, kind="stable")
    counts = np.bincount(pair)
    place = np.empty(total, np.int64)
    place[order] = count_up(counts)
    low, high = 1, int(counts.max())
    while low < high:  # the most packets of each pair that let all fit
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high) if np.minimum(counts, middle).sum() <= most else (low, middle - 1)
        )
    keep = place < low
    keep &= np.cumsum(keep) <= most
    pieces = np.split(keep, np.cumsum(sizes)[:-1])
    kept = [part.take(np.flatnonzero(one)) for part, one in zip(parts, pieces, strict=True)]
    return [part for part in kept if len(part.ts)], total - int(keep.sum())


def _pairs(part: Records) -> np.ndarray:
    """A number for each packet's pair of addresses, of IPv4 either way, shape (n,), int64."""
    head = read_headers(part.buffer, part.at, _FRAME)
    ip = head["kind"] == _IPV4
    # The same number for both directions: the sum of both ends.
    ends = head["pair"]
    both = (ends & np.uint64(0xFFFFFFFF)) + (ends >> np.uint64(32))
    macs = head["macs_high"] ^ (head["macs_low"].astype(np.uint64) << np.uint64(17))
    return np.where(ip, both, macs >> np.uint64(2)).astype(np.int64)
