"""Reads next to write commands: what stood at a place before somebody wrote to it, and what stands
there after.

Of all that is read again and again only this is kept, so that it grows with the commands:

    read   read   WRITE   read   read   …   read
             ^              ^                 ^
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from traffic.arrays import starts_run


@dataclass(frozen=True)
class Places:
    """Places that commands write to, shape (n,), sorted by place.

    Attributes:
        place: a number for each place of each device.
        ts: of the command.
    """

    place: np.ndarray
    ts: np.ndarray


@dataclass(frozen=True)
class Picked:
    """Reads that tell what stood at a place, each once, sorted by read, shape (n,).

    Attributes:
        read: which of the reads.
        place: of it.
    """

    read: np.ndarray
    place: np.ndarray


def find_next_reads(
    written: Places, start: np.ndarray, size: np.ndarray, asked: np.ndarray, answered: np.ndarray
) -> Picked:
    """The last read before each command, the first one after it, and the last of all.

    Args:
        written: what is written when.
        start, size: shape (m,), the places that each read asks for, by number.
        asked, answered: shape (m,), when.
    """
    block, of_block = np.unique(np.stack([start, size]), axis=1, return_inverse=True)
    order = np.lexsort((answered, of_block.ravel()))
    ends = np.append(np.flatnonzero(starts_run(of_block.ravel()[order])), len(order))
    low = np.searchsorted(written.place, block[0])
    high = np.searchsorted(written.place, block.sum(axis=0))
    befores, afters, lasts = ([np.zeros((3, 0))] for _ in range(3))
    for which in np.flatnonzero(high > low):
        reads = order[ends[which] : ends[which + 1]]  # of one block, by time
        event = np.arange(low[which], high[which])
        before = np.searchsorted(answered[reads], written.ts[event], "right") - 1
        after = np.searchsorted(asked[reads], written.ts[event], "right")
        there = before >= 0
        befores.append(_rows(event[there], reads[before[there]], answered))
        there = after < len(reads)
        afters.append(_rows(event[there], reads[after[there]], -asked))
        lasts.append(_rows(written.place[event], np.repeat(reads[-1:], len(event)), answered))
    picked = [
        np.stack([written.place[event], read])
        for event, read in (_take_last(befores), _take_last(afters))
    ]
    place, read = np.unique(np.concatenate([*picked, np.stack(_take_last(lasts))], axis=1), axis=1)
    order = np.lexsort((place, read))
    return Picked(read[order], place[order])


def _rows(key: np.ndarray, read: np.ndarray, rank: np.ndarray) -> np.ndarray:
    return np.stack([key, read, rank[read]])


def _take_last(parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Of the reads of each key the one of the highest rank."""
    key, read, rank = np.concatenate(parts, axis=1)
    order = np.lexsort((-rank, key))
    first = order[starts_run(key[order])]
    return key[first].astype(np.int64), read[first].astype(np.int64)


def pack_reads(
    row: np.ndarray, function: np.ndarray, place: np.ndarray, value: np.ndarray
) -> dict[int, bytes]:
    """By row a function, and pairs of places and values of two bytes each.

    Args:
        row: shape (n,), sorted.
        function, place, value: shape (n,); a value below 0 was not captured.
    """
    held = np.flatnonzero(value >= 0)
    pairs = np.stack([place[held], value[held]], axis=1).astype(">u2").tobytes()
    ends = np.append(np.flatnonzero(starts_run(row[held])), len(held))
    return {
        int(row[held[low]]): bytes([function[held[low]]]) + pairs[4 * low : 4 * high]
        for low, high in pairwise(ends)
    }
