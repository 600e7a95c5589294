"""Packet records of any source written as one form of pcap: little-endian, nanoseconds."""

import struct

import numpy as np

from traffic.arrays import count_up
from traffic.pcap.records import Records

_MAGIC, _SNAPLEN = 0xA1B23C4D, 262_144
_HEADER = 16


def make_head(link: int) -> bytes:
    """The header of a pcap file of a link type (24 bytes)."""
    return struct.pack("<IHHiIII", _MAGIC, 2, 4, 0, 0, _SNAPLEN, link)


def pack_records(records: Records) -> bytes:
    """Packet records one after the other, as a pcap file has them behind its header.

    Args:
        records: n of them, of one link type; as few thousand at once as memory should hold eightfold.
    """
    captured = records.captured.astype(np.int64)
    n, size = len(captured), captured + _HEADER
    start = np.cumsum(size) - size
    out = np.zeros(int(size.sum()), np.uint8)
    # In whole nanoseconds: the sum of seconds and a fraction would round them differently.
    whole = np.floor(records.ts)
    nanos = np.minimum(np.rint((records.ts - whole) * 1e9), 999_999_999)
    header = np.column_stack([whole, nanos, captured, records.wire]).astype("<u4")
    out[start[:, None] + np.arange(_HEADER)] = header.view(np.uint8).reshape(n, _HEADER)
    within = count_up(captured)
    out[np.repeat(start + _HEADER, captured) + within] = records.buffer[
        np.repeat(records.at, captured) + within
    ]
    return out.tobytes()
