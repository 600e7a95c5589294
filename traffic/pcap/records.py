"""Packet records of a pcap or pcapng file: where each frame lies, when it passed, how long it was.

Formats: https://www.ietf.org/archive/id/draft-gharris-opsawg-pcap-01.html and
    draft-tuexen-opsawg-pcapng.
"""

import mmap
import struct
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from traffic.errors import UserError

# Headers of many packets at once, as structured arrays: a header is read whole, its fields are
# columns of it.

_Columns = TypeVar("_Columns")


def header_type(size: int, **named: tuple[int, str]) -> np.dtype:
    """A header of ``size`` bytes, with the offset and the type of its fields."""
    at, kinds = zip(*named.values(), strict=True)
    return np.dtype(
        {"names": list(named), "formats": list(kinds), "offsets": list(at), "itemsize": size}
    )


def read_headers(buffer: np.ndarray, at: np.ndarray, kind: np.dtype) -> np.ndarray:
    """The header of a structured type at each offset, shape (n,); what lies past the buffer's end
    reads as 0."""
    size = kind.itemsize
    if len(buffer) < 2 * size:
        buffer = np.append(buffer, np.zeros(2 * size, np.uint8))
    last = len(buffer) - size
    # A view with stride 1 holds the header that starts at every byte, and copies nothing.
    found = np.ndarray((last + 1,), f"V{size}", buffer, strides=(1,))[np.minimum(at, last)]
    cut = np.flatnonzero(at > last)
    if len(cut):
        end = np.append(buffer[last:], np.zeros(size, np.uint8))
        found[cut] = np.ndarray((size + 1,), f"V{size}", end, strides=(1,))[
            np.minimum(at[cut] - last, size)
        ]
    return found.view(kind)


def interleave(rows: list[np.ndarray], parts: list[_Columns]) -> _Columns:
    """Parts of some packets as one, in the order of their ``rows``; a part is a dataclass of
    columns."""
    order = np.argsort(np.concatenate(rows), kind="stable")
    kind: Any = type(parts[0])
    return kind(
        *(
            np.concatenate([getattr(part, field.name) for part in parts])[order]
            for field in fields(kind)
        )
    )


# Where each record of a pcap starts. Every record's length says where the next one is: the file is
# one long chain.
#
# To follow it link by link is a loop over packets. So many places where a record seems to start are
# followed together, one step of all of them at a time; then the chain is followed from the first
# record and jumps over every stretch whose start it meets. A guess that is wrong is never met: it
# costs time and changes nothing.
#
# guesses      24 ......... g1 ......... g2 ......... g3 ...
# stretches    [24, g1)     [g1, g2)     [g2, g3)     followed together

_FIRST, _HEADER = (
    24,
    16,
)  # bytes of the file's header, and of a record's: seconds, fraction, captured, wire
_SHORTEST, _MOST = 1 << 14, 1 << 10  # bytes of a stretch, and how many stretches
_SEARCHED = 2048  # bytes of a stretch in which a record is looked for: a frame and a little more
_FEW = 24  # stretches; fewer are followed faster one by one
_LIKELY_LONGEST, _NEAR_S = (
    262_144,
    1 << 24,
)  # a likely header: at most libpcap's MAXIMUM_SNAPLEN, half a year from the first


def find_records(data: mmap.mmap, order: str) -> np.ndarray:
    """Offsets of all record headers from byte 24 on, shape (n,), int64; garbage too, where a length
    lies.

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
    """The first record, and in every stretch the first place that looks like one and leads to
    another."""
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
        likely = (captured <= _LIKELY_LONGEST) & (captured <= number[at + 12])
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
    return dict(
        zip(guesses.tolist(), np.split(found, np.searchsorted(found, guesses[1:])), strict=True)
    )


ETHERNET, SLL, SLL2 = 1, 113, 276
NULL = (0, 108)
RAW = (12, 14, 101, 228, 229)
LINKS = (ETHERNET, SLL, SLL2, *NULL, *RAW)

_PCAP = {
    b"\xd4\xc3\xb2\xa1": ("<", 1_000_000),
    b"\xa1\xb2\xc3\xd4": (">", 1_000_000),
    b"\x4d\x3c\xb2\xa1": ("<", 1_000_000_000),
    b"\xa1\xb2\x3c\x4d": (">", 1_000_000_000),
}
_PCAPNG = b"\x0a\x0d\x0d\x0a"
_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET = 0x0A0D0D0A, 1, 2, 3, 6
_LINK_NAMES = {
    105: "802.11",
    127: "802.11 with radiotap",
    9: "PPP",
    189: "USB",
    195: "802.15.4",
    201: "Bluetooth",
}
# libpcap's own upper bound of a record (MAXIMUM_SNAPLEN); a longer one is damage, not a packet.
_LONGEST = 262_144
_MOST_WIRE = 2**31 - 1  # a frame said to have been longer than this on the wire was not


@dataclass(frozen=True)
class Records:
    """The packet records of one file.

    Attributes:
        buffer: shape (file size,), uint8, the whole file, mapped.
        ts: shape (n,), float64, seconds since the epoch.
        at: shape (n,), int64: offset of the frame in ``buffer``.
        captured, wire: shape (n,), int32: bytes there, bytes on the wire.
        link: shape (n,), int32, link type of each record (https://www.tcpdump.org/linktypes.html).
        notes: what was damaged, one sentence each.
    """

    buffer: np.ndarray
    ts: np.ndarray
    at: np.ndarray
    captured: np.ndarray
    wire: np.ndarray
    link: np.ndarray
    notes: tuple[str, ...] = ()

    def take(self, which: slice | np.ndarray) -> "Records":
        """Some of the records; ``buffer`` and ``notes`` stay."""
        columns = {
            name: getattr(self, name)[which] for name in ("ts", "at", "captured", "wire", "link")
        }
        return replace(self, **columns)


def is_capture(head: bytes) -> bool:
    """Whether a file that starts with ``head`` (4 bytes or more) is a pcap or pcapng.

    >>> is_capture(b"#separator"), is_capture(b"\\xd4\\xc3\\xb2\\xa1")
    (False, True)
    """
    return head[:4] in _PCAP or head[:4] == _PCAPNG


def read_records(path: Path) -> Records:
    """Find the packet records of a pcap (micro- or nanoseconds, either byte order) or pcapng file.

    A damaged file is read up to the damage; ``notes`` say where that is and how much was skipped. A
    header alone gives no records.

    Raises:
        UserError: missing, empty, not a capture, or only link types that are not read.
    """
    if not path.is_file():
        raise UserError(
            f"{path} does not exist or is no file; expected a pcap or pcapng capture; check the path"
        )
    if path.stat().st_size == 0:
        raise UserError(
            f"{path} is empty (0 bytes); expected a pcap or pcapng capture; record it again"
        )
    with path.open("rb") as stream:
        data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    magic = data[:4]
    if not is_capture(magic):
        raise UserError(
            f"{path} is not a packet capture (it starts with {data[:8]!r}); expected pcap or pcapng; "
            "export the packets in one of these formats"
        )
    records = _read_pcapng(path, data) if magic == _PCAPNG else _read_pcap(path, data)
    return _keep_known_links(path, records) if len(records.ts) else records


def _read_pcap(path: Path, data: mmap.mmap) -> Records:
    order, per_s = _PCAP[data[:4]]
    size = len(data)
    if size < 24:
        return _no_records(data, (f"{path.name}: the file header is cut after {size} of 24 bytes",))
    snaplen, network = struct.unpack_from(order + "II", data, 16)
    limit = max(snaplen, _LONGEST) if snaplen < 1 << 28 else _LONGEST
    buffer = np.frombuffer(data, np.uint8)
    at = find_records(data, order)
    header = read_headers(
        buffer,
        at,
        np.dtype([(name, order + "u4") for name in ("s", "fraction", "captured", "wire")]),
    )
    captured = header["captured"]
    # After a lying length the chain leads through garbage; a fraction of a second above one second
    # shows it.
    wrong = np.flatnonzero(
        (header["fraction"] >= per_s) | (captured > limit) | (at + 16 + captured > size)
    )
    good = int(wrong[0]) if len(wrong) else len(at)
    end = int(at[good - 1] + 16 + captured[good - 1]) if good else 24
    notes = () if end == size else (_damage(path, good, end, size),)
    header, at = header[:good], at[:good] + 16
    ts = header["fraction"] / per_s
    ts += header["s"]
    captured = header["captured"].astype(np.int32)
    wire = np.maximum(np.minimum(header["wire"], _MOST_WIRE).astype(np.int32), captured)
    return Records(
        buffer, ts, at, captured, wire, np.full(good, network & 0x0FFFFFFF, np.int32), notes
    )


def _damage(path: Path, good: int, end: int, size: int) -> str:
    return (
        f"{path.name}: damaged or cut after packet {good} (byte {end}); "
        f"the last {size - end} of {size} bytes were skipped"
    )


def _no_records(data: mmap.mmap, notes: tuple[str, ...]) -> Records:
    none = np.zeros(0, np.int64)
    return Records(np.frombuffer(data, np.uint8), none.astype(float), none, none, none, none, notes)


@dataclass(frozen=True)
class _Interface:
    link: int
    per_s: int = 1_000_000
    offset_s: int = 0


def _read_pcapng(path: Path, data: mmap.mmap) -> Records:
    rows: list[tuple[int, ...]] = []
    interfaces: list[_Interface] = []
    at, size, first, lost, order = 0, len(data), 0, 0, "<"
    while at + 12 <= size:
        (kind,) = struct.unpack_from(order + "I", data, at)
        if kind == _SECTION:
            order = "<" if data[at + 8 : at + 12] == b"\x4d\x3c\x2b\x1a" else ">"
            first = len(interfaces)
        (length,) = struct.unpack_from(order + "I", data, at + 4)
        if length < 12 or length % 4 or at + length > size:
            break
        if kind == _INTERFACE and length >= 20:
            interfaces.append(_interface(data, at, length, order))
        elif kind in (_PACKET, _OLD_PACKET, _SIMPLE_PACKET):
            row = _packet(data, at, length, order, kind, first, rows)
            if row is None or row[0] >= len(interfaces):
                lost += 1
            else:
                rows.append(row)
        at += length
    notes: tuple[str, ...] = () if at == size else (_damage(path, len(rows), at, size),)
    if lost:
        notes += (
            f"{path.name}: {lost} packet blocks with lengths or interfaces that cannot be were skipped",
        )
    if not rows:
        return _no_records(data, notes)
    owner, ticks, start, captured, wire = np.array(rows, np.int64).T
    link, per_s, offset = np.array([[i.link, i.per_s, i.offset_s] for i in interfaces], np.int64)[
        owner
    ].T
    ts = ticks // per_s + (ticks % per_s) / per_s + offset
    wire = np.minimum(np.maximum(wire, captured), _MOST_WIRE)
    captured, wire, link = (column.astype(np.int32) for column in (captured, wire, link))
    return Records(np.frombuffer(data, np.uint8), ts, start, captured, wire, link, notes)


def _interface(data: mmap.mmap, at: int, length: int, order: str) -> _Interface:
    """An interface block: its link type and, among the options, the unit (9) and offset (14) of its
    clock."""
    (link,) = struct.unpack_from(order + "H", data, at + 8)
    per_s, offset_s = 1_000_000, 0
    option, last = at + 16, at + length - 4
    while option + 4 <= last:
        code, size = struct.unpack_from(order + "HH", data, option)
        if code == 0:
            break
        if code == 9 and size == 1:
            unit = data[option + 4]
            # Above 2**62 or 10**18 ticks a second no packet time fits 64 bits.
            per_s = 1 << min(unit & 0x7F, 62) if unit & 0x80 else 10 ** min(unit, 18)
        elif code == 14 and size == 8:
            (offset_s,) = struct.unpack_from(order + "q", data, option + 4)
        option += 4 + size + (-size) % 4
    return _Interface(link, per_s, offset_s)


def _packet(
    data: mmap.mmap,
    at: int,
    length: int,
    order: str,
    kind: int,
    first: int,
    rows: list[tuple[int, ...]],
) -> tuple[int, ...] | None:
    """One packet block as (interface, ticks, offset, captured, wire); None where its lengths cannot
    be."""
    if kind == _SIMPLE_PACKET:
        (wire,) = struct.unpack_from(order + "I", data, at + 8)
        # A simple packet block has no time: it takes that of the packet before it.
        return first, rows[-1][1] if rows else 0, at + 12, min(wire, length - 16), wire
    if length < 32:
        return None
    owner, high, low, captured, wire = struct.unpack_from(order + "5I", data, at + 8)
    if kind == _OLD_PACKET:
        (owner,) = struct.unpack_from(order + "H", data, at + 8)
    ticks = high << 32 | low
    return (
        (first + owner, ticks, at + 28, captured, wire)
        if captured <= length - 32 and ticks < 1 << 63
        else None
    )


def _keep_known_links(path: Path, records: Records) -> Records:
    known = np.isin(records.link, LINKS)
    if known.all():
        return records
    others = sorted({int(link) for link in records.link[~known]})
    names = ", ".join(
        f"{link} ({_LINK_NAMES.get(link, 'see tcpdump.org/linktypes.html')})" for link in others
    )
    if not known.any():
        raise UserError(
            f"{path} has link type {names}; expected Ethernet, Linux cooked, raw IP or loopback; "
            "capture on an interface of such a type"
        )
    note = f"{path.name}: {int((~known).sum())} packets of link type {names} were skipped"
    return replace(records.take(known), notes=(*records.notes, note))
