"""Bytes of TCP that their receiver acknowledged and the capture never saw: the sensor dropped them.

    sent       |---- seen ----|          |---- seen ----|
    gap                       |  missing |                 filled by a late segment: none
    peer                                       ack ^       beyond the gap: it arrived, so it was sent

A gap that nobody acknowledged is a loss in the network, which is no fault of the sensor.
"""

import numpy as np
import pandas as pd

from traffic.arrays import starts_run
from traffic.pcap.headers import TCP
from traffic.pcap.packets import Packets
from traffic.pcap.tcp import ACK, FIN, NEVER, RST, SYN, by_side, highest_before, unwrap

_WILDEST = 1 << 30  # a jump beyond this is no lost data but a number not to be trusted
# A SYN or FIN that was not seen takes a number and holds no byte; a keep-alive that comes first has
# the number before the stream's.
_NO_BYTE = 1
_STREAM = 1 << 42  # room for the numbers of one stream within a key


def find_drops(packets: Packets, work: pd.DataFrame, segments: pd.DataFrame) -> pd.DataFrame:
    """The gaps of acknowledged data.

    Args:
        packets: the packets of one capture.
        work: as ``traffic.pcap.flows.cut_flows`` returns it.
        segments: shape (n_packets, ...), rows as in ``work``: ``grown_bytes``.

    Returns:
        One row per gap, by time: ``ts src dst`` (rows of ``packets.addresses``; ``src`` sent it)
        ``bytes file frame`` (the frame after the gap; 0 where none came).
    """
    tcp = slice(int((work["proto"].to_numpy() == TCP).sum()))  # these come first
    usable = work["has_tcp"].to_numpy()[tcp] & (work["flags"].to_numpy()[tcp] & RST == 0)
    grown, payload = segments["grown_bytes"].to_numpy()[tcp], work["payload"].to_numpy()[tcp]
    flow = work["flow"].to_numpy()[tcp]
    gap = np.flatnonzero((grown > payload + _NO_BYTE) & usable)
    parts = [_find_tails(packets, work, grown, usable)]
    if len(gap):
        holed = np.zeros(int(flow[-1]) + 1, bool)
        holed[flow[gap]] = True
        parts.append(_find_gaps(packets, work.iloc[np.flatnonzero(usable & holed[flow])]))
    found = pd.concat(parts) if len(parts) > 1 else parts[0]
    return found.sort_values("ts", kind="stable", ignore_index=True)


def _find_gaps(packets: Packets, work: pd.DataFrame) -> pd.DataFrame:
    """Gaps within the streams of some flows."""
    stream = work["flow"].to_numpy() * np.int64(2) + work["is_orig"].to_numpy()
    rows = work.iloc[by_side(stream)]
    stream = rows["flow"].to_numpy() * np.int64(2) + rows["is_orig"].to_numpy()
    names = ("seq", "payload", "flags", "row")
    seq, payload, flags, row = (rows[name].to_numpy() for name in names)
    head = starts_run(stream)
    place = unwrap(seq, head)
    end = place + payload + (flags & FIN > 0) + (flags & SYN > 0)
    seen = highest_before(end, head)
    gap = np.flatnonzero(~head & (place > seen) & (place - seen < _WILDEST))
    start, stop = seen[gap], place[gap]
    left = (
        stop
        - start
        - _filled(stream, place, end, ~head & (payload > 0) & (place < seen), gap, seen)
    )
    acked = _highest_ack(packets, stream, seq, place, flags, row, head)
    gap, left = (part[(left > _NO_BYTE) & (acked[stream[gap]] >= stop)] for part in (gap, left))
    return _describe(packets, rows, gap, left, packets.table["frame"].to_numpy()[row[gap]])


def _filled(
    stream: np.ndarray,
    place: np.ndarray,
    end: np.ndarray,
    late: np.ndarray,
    gap: np.ndarray,
    seen: np.ndarray,
) -> np.ndarray:
    """How much of each gap came later."""
    heads = np.flatnonzero(starts_run(stream))
    base = np.repeat(place[heads], np.diff(heads, append=len(stream))) - _STREAM // 2
    number = np.repeat(np.arange(len(heads)), np.diff(heads, append=len(stream)))
    key = number * _STREAM + np.clip(seen - base, 0, _STREAM - 1)
    filled = np.zeros(len(gap))
    start, stop, late = seen[gap], place[gap], np.flatnonzero(late)
    if not len(gap) or not len(late):
        return filled.astype(np.int64)
    late_key = number[late] * _STREAM + np.clip(place[late] - base[late], 0, _STREAM - 1)
    before = np.searchsorted(key[gap], late_key, side="right") - 1
    for which in (before, before + 1):  # the gap in which it starts, and the next one
        there = (which >= 0) & (which < len(gap))
        which, row = which[there], late[there]
        same = stream[gap[which]] == stream[row]
        over = np.minimum(end[row], stop[which]) - np.maximum(place[row], start[which])
        filled += np.bincount(which, np.where(same, np.maximum(over, 0), 0), minlength=len(gap))
    return filled.astype(np.int64)


def _highest_ack(
    packets: Packets,
    stream: np.ndarray,
    seq: np.ndarray,
    place: np.ndarray,
    flags: np.ndarray,
    row: np.ndarray,
    head: np.ndarray,
) -> np.ndarray:
    """Up to where the other side acknowledged each stream, as a place in it; by stream, low where
    it never did."""
    highest = np.full(int(stream[-1] | 1) + 1, np.iinfo(np.int64).min)
    rows = np.flatnonzero(flags & ACK > 0)
    if not len(rows):
        return highest
    ack = packets.table["ack"].to_numpy()[row[rows]]
    first = starts_run(stream[rows])
    up = unwrap(ack, first)
    starts = np.flatnonzero(first)
    gained = np.maximum.reduceat(up, starts) - up[starts]
    mine = stream[rows[starts]] ^ 1
    begins = np.full(len(highest), -1)
    begins[stream[head]] = np.flatnonzero(head)
    origin = begins[mine]
    there = origin >= 0
    offset = (ack[starts] - seq[origin].astype(np.uint32)).astype(np.uint32).view(np.int32)
    highest[mine[there]] = (place[origin] + offset + gained)[there]
    return highest


def _find_tails(
    packets: Packets, work: pd.DataFrame, grown: np.ndarray, usable: np.ndarray
) -> pd.DataFrame:
    """Acknowledged data after the last segment of a stream that was seen."""
    names = ("flow", "is_orig", "flags", "seq", "payload", "row")
    flow, is_orig, flags, seq, payload, row = (
        work[name].to_numpy()[: len(usable)] for name in names
    )
    stream = flow * 2 + is_orig
    n = int(stream.max(initial=-1) | 1) + 1

    def last_where(mask: np.ndarray) -> np.ndarray:
        index, out = np.flatnonzero(mask), np.full(n, NEVER)
        out[stream[index]] = index  # of equal places the last assignment stays
        return out

    last, acks = last_where(usable), last_where(usable & (flags & ACK > 0))
    grew = last_where(usable & ((grown > 0) | (flags & (SYN | FIN) > 0)))
    end_row = np.where(grew < NEVER, grew, last)
    other = acks[np.arange(n) ^ 1]
    both = np.flatnonzero((end_row < NEVER) & (other < NEVER))
    at, ack_at = end_row[both], other[both]
    marks = (flags[at] & FIN > 0).astype(np.int64) + (flags[at] & SYN > 0)
    end = (seq[at].astype(np.int64) + payload[at] + marks).astype(np.uint32)
    ack = packets.table["ack"].to_numpy()[row[ack_at]]
    beyond = (ack - end).astype(np.uint32).view(np.int32)
    missing = np.flatnonzero((beyond > _NO_BYTE) & (beyond < _WILDEST))
    rows = work.iloc[at[missing]]
    none = np.arange(len(missing))
    return _describe(packets, rows, none, beyond[missing].astype(np.int64), np.zeros(len(missing)))


def _describe(
    packets: Packets, rows: pd.DataFrame, which: np.ndarray, size: np.ndarray, frame: np.ndarray
) -> pd.DataFrame:
    chosen = rows.iloc[which]
    return pd.DataFrame(
        {
            **{name: chosen[name].to_numpy() for name in ("ts", "src", "dst")},
            "bytes": size,
            "file": packets.table["file"].to_numpy()[chosen["row"].to_numpy()].astype(np.int64),
            "frame": np.asarray(frame).astype(np.int64),
        }
    )
