"""What each TCP segment adds to its direction of its connection, and which were sent again."""

import numpy as np
import pandas as pd

from traffic.pcap.tcp import ACK, FIN, RST, SYN, first_per_group, last_row

__all__ = ["read_segments"]

# A jump in sequence numbers beyond this is no lost data but a number we should not trust.
_WILDEST_JUMP = 1 << 30
_OVERTAKEN_S = 0.003  # Wireshark's bound between reordering and retransmission


def read_segments(packets: pd.DataFrame, stream: np.ndarray) -> pd.DataFrame:
    """What each TCP segment adds to its direction of its connection.

    Args:
        packets: shape (n, ...), ``ts flags seq payload window``, sorted by connection, then time; TCP only.
        stream: shape (n,), int64, connection * 2 + direction.

    Returns:
        Shape (n, 4): ``grown_bytes`` (how far the stream's end moved, gaps included, SYN and FIN not), ``again`` (it
        holds data and ends where the stream had already been: Zeek's ``T``), ``resent`` (likewise, without keep-alives
        and segments overtaken on the way, with repeated FINs and SYN-ACKs), ``zero_window`` (its sender takes no more
        data: Zeek's ``W``). RSTs add nothing: their numbers cannot be trusted.
    """
    n = len(packets)
    out = {"grown_bytes": np.zeros(n, np.int64), "again": np.zeros(n, bool), "resent": np.zeros(n, bool)}
    flags = packets["flags"].to_numpy()
    out["zero_window"] = _is_zero_window(flags, packets["window"].to_numpy(), stream)
    order = _by_side(stream)
    if (flags & RST).any():
        order = order[flags[order] & RST == 0]
    if not len(order):
        return pd.DataFrame(out)
    flags, payload = flags[order], packets["payload"].to_numpy()[order]
    stream = stream[order]
    head = np.append(True, stream[1:] != stream[:-1])
    place = _unwrap(packets["seq"].to_numpy()[order], head)
    marks = ((flags & FIN) + (flags >> 1 & 1)).astype(np.int32)  # SYN and FIN take a number each and hold no byte
    end = place + payload
    end += marks
    seen = _highest_before(end, head)
    grown = np.where(head, payload + marks, np.maximum(end - seen, 0))
    wild = ~head & (place - seen > _WILDEST_JUMP)
    out["grown_bytes"][order] = np.where(wild, payload, np.maximum(grown - marks * (grown > 0), 0))

    stale = np.flatnonzero(~head & (grown == 0) & ((payload > 0) | (marks > 0)))
    flags, payload, ts = flags[stale], payload[stale], packets["ts"].to_numpy()[order]
    out["again"][order[stale]] = payload > 0
    keep_alive = (payload <= 1) & (place[stale] == seen[stale] - 1) & (marks[stale] == 0)
    # One that comes right after a segment that left a hole was not sent again, it took another way.
    last = last_row(np.flatnonzero(head | (grown > 0)), stale)
    overtaken = ~head[last] & (place[last] > seen[last]) & (ts[stale] - ts[last] <= _OVERTAKEN_S)
    said = (payload > 0) | (flags & FIN > 0) | (flags & (SYN | ACK) == SYN | ACK)
    out["resent"][order[stale]] = said & ~keep_alive & ~overtaken
    return pd.DataFrame(out, copy=False)


def _by_side(stream: np.ndarray) -> np.ndarray:
    """The stable order of streams that are sorted but for their last bit: within each connection, side by side."""
    connection, side = stream >> 1, (stream & 1).astype(bool)
    head = np.flatnonzero(np.append(True, connection[1:] != connection[:-1])[: len(stream)]).astype(np.int32)
    size = np.diff(head, append=np.int32(len(stream)))
    index = np.arange(len(stream), dtype=np.int32)
    ones = np.cumsum(side, dtype=np.int32) - side  # packets of side 1 before each
    ones -= np.repeat(ones[head], size)
    zeros = np.add.reduceat(~side, head, dtype=np.int32) if len(head) else head
    order = np.empty(len(stream), np.int32)
    order[np.where(side, np.repeat(head + zeros, size) + ones, index - ones)] = index
    return order


def _is_zero_window(flags: np.ndarray, window: np.ndarray, stream: np.ndarray) -> np.ndarray:
    """A window of 0, unless the sender has reset or the other side has already said that it sends no more."""
    closed = np.flatnonzero(window == 0)
    here, n = stream[closed], int(stream.max(initial=0)) | 1
    peer_done = first_per_group(flags & FIN > 0, stream ^ 1, n + 1)[here] < closed
    reset = first_per_group(flags & RST > 0, stream, n + 1)[here] <= closed
    zero = np.zeros(len(flags), bool)
    zero[closed[~peer_done & ~reset]] = True
    return zero


def _unwrap(seq: np.ndarray, head: np.ndarray) -> np.ndarray:
    """32-bit sequence numbers as places in an endless stream; only differences within a stream mean anything."""
    seq = seq.astype(np.uint32)
    step = np.diff(seq, prepend=seq[:1]).view(np.int32)
    step[head] = 0
    return np.cumsum(step, dtype=np.int64)


def _highest_before(end: np.ndarray, head: np.ndarray) -> np.ndarray:
    """The highest ``end`` among the earlier segments of each stream (its own at a head)."""
    first = np.flatnonzero(head)
    # Each stream is lifted above the one before it, so that one running maximum serves all.
    lift = np.append(0, np.cumsum(np.maximum.reduceat(end, first)[:-1] - np.minimum.reduceat(end, first)[1:] + 1))
    lift = np.repeat(lift, np.diff(first, append=len(end)))
    highest = np.maximum.accumulate(end + lift)
    return np.where(head, end, np.append(end[:1], highest[:-1]) - lift)
