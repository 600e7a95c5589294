"""Where each record of a pcap starts. Every record's length says where the next one is: the file is one long chain.

To follow it link by link is a loop over packets. So many places where a record seems to start are followed together,
one step of all of them at a time; then the chain is followed from the first record and jumps over every stretch whose
start it meets. A guess that is wrong is never met: it costs time and changes nothing.

    guesses      24 ......... g1 ......... g2 ......... g3 ...
    stretches    [24, g1)     [g1, g2)     [g2, g3)     followed together
"""

import mmap
import struct

import numpy as np

__all__ = ["find_records"]

_FIRST, _HEADER = 24, 16  # bytes of the file's header, and of a record's: seconds, fraction, captured, wire
_SHORTEST, _MOST = 1 << 14, 1 << 10  # bytes of a stretch, and how many stretches
_SEARCHED = 2048  # bytes of a stretch in which a record is looked for: a frame and a little more
_FEW = 24  # stretches; fewer are followed faster one by one
_LONGEST, _NEAR_S = 262_144, 1 << 24  # a likely header: at most libpcap's MAXIMUM_SNAPLEN, half a year from the first


def find_records(data: mmap.mmap, order: str) -> np.ndarray:
    """Offsets of all record headers from byte 24 on, shape (n,), int64; garbage too, where a length lies.

    Args:
        data: a pcap.
        order: its byte order, ``<`` or ``>``.
    """
    unpack = struct.Struct(order + "I").unpack_from
    stretches = _follow(data, order, _guess(data, order))
    found: list[np.ndarray] = []
    single: list[int] = []
    at, last = _FIRST, len(data) - _HEADER
    while at <= last:
        stretch = stretches.get(at)
        if stretch is None:
            single.append(at)
        else:
            found += [np.array(single, np.int64), stretch]
            single, at = [], int(stretch[-1])
        at += _HEADER + unpack(data, at + 8)[0]
    return np.concatenate([*found, np.array(single, np.int64)])


def _numbers(data: mmap.mmap, order: str) -> np.ndarray:
    """The 32-bit number that starts at every byte: a view, nothing is copied."""
    return np.ndarray((max(len(data) - 3, 0),), order + "u4", data, strides=(1,))


def _guess(data: mmap.mmap, order: str) -> np.ndarray:
    """The first record, and in every stretch the first place that looks like one and leads to another."""
    length = max(_SHORTEST, len(data) // _MOST)
    number = _numbers(data, order)
    searched = number[_FIRST + length : len(number) - _HEADER]
    if len(searched) < _SEARCHED:
        return np.array([_FIRST])
    since = np.uint32((int(number[_FIRST]) - _NEAR_S) & 0xFFFFFFFF)
    windows = np.lib.stride_tricks.sliding_window_view(searched, _SEARCHED)[::length]
    row, place = np.nonzero(windows - since < 2 * _NEAR_S)
    at = _FIRST + length + row * length + place
    for _ in range(2):
        captured = number[at + 8]
        likely = (captured <= _LONGEST) & (captured <= number[at + 12])
        following = np.minimum(at + _HEADER + captured, len(number) - _HEADER)
        likely &= number[following] - since < 2 * _NEAR_S
        row, at = row[likely], at[likely]
    return np.append(_FIRST, at[np.diff(row, prepend=-1) > 0])


def _follow(data: mmap.mmap, order: str, guesses: np.ndarray) -> dict[int, np.ndarray]:
    """The records from each guess to the next, or the first of them, by the guess."""
    if len(guesses) < _FEW:
        return {}
    number = _numbers(data, order)
    stop = np.append(guesses[1:], len(data) - _HEADER + 1)
    at, until = guesses, stop
    steps: list[np.ndarray] = []
    while len(at) >= _FEW:
        steps.append(at)
        at = at + _HEADER + number[at + 8]
        inside = at < until
        if not inside.all():
            at, until = at[inside], until[inside]
    found = np.sort(np.concatenate(steps))  # stretches do not overlap
    return dict(zip(guesses.tolist(), np.split(found, np.searchsorted(found, guesses[1:])), strict=True))
