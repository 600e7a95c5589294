"""Packet records of a pcap or pcapng file: where each frame lies, when it passed, how long it was.

Formats: draft-gharris-opsawg-pcap and draft-tuexen-opsawg-pcapng (datatracker.ietf.org).
"""

import mmap
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from traffic.capture import LATEST_S
from traffic.errors import UserError
from traffic.pcap.unpack import map_file, refuse_pointer

# www.tcpdump.org/linktypes.html
ETHERNET, SLL, SLL2, CISCO_HDLC, DSA, EDSA = 1, 113, 276, 104, 284, 285
NULL = (0, 108)
RAW = (12, 14, 101, 228, 229)
PPPOE_LINK = 51
PPP_LINKS = (9, 50, 166, 204, PPPOE_LINK)
PPP_WITH_DIRECTION = (166, 204)
WIFI, PRISM, RADIOTAP, AVS, PPI = 105, 119, 127, 163, 192
NETANALYZER = {240: 4, 241: 12}  # with the bytes before the Ethernet frame
LINK_NAMES = {
    6: "token ring", 10: "FDDI", 187: "Bluetooth", 189: "USB", 190: "CAN", 195: "802.15.4", 201: "Bluetooth",
    220: "USB", 227: "CAN", 230: "802.15.4", 239: "NFLOG", 249: "USB", 252: "exported PDUs", 253: "netlink",
}  # fmt: skip
LINKS = (
    ETHERNET, SLL, SLL2, CISCO_HDLC, DSA, EDSA, *NULL, *RAW, *PPP_LINKS, WIFI, PRISM, RADIOTAP, AVS, PPI,
    *NETANALYZER,
)  # fmt: skip

_PCAP = {
    b"\xd4\xc3\xb2\xa1": ("<", 1_000_000),
    b"\xa1\xb2\xc3\xd4": (">", 1_000_000),
    b"\x4d\x3c\xb2\xa1": ("<", 1_000_000_000),
    b"\xa1\xb2\x3c\x4d": (">", 1_000_000_000),
}
_RECORD = {
    order: np.dtype([(name, order + "u4") for name in ("s", "fraction", "captured", "wire")])
    for order in "<>"
}
_PCAPNG = b"\x0a\x0d\x0d\x0a"
_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET = 0x0A0D0D0A, 1, 2, 3, 6
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
        frame: shape (n,), int32: number of the record in its file, from 1, as Wireshark counts.
        notes: what was damaged, one sentence each.
    """

    buffer: np.ndarray
    ts: np.ndarray
    at: np.ndarray
    captured: np.ndarray
    wire: np.ndarray
    link: np.ndarray
    frame: np.ndarray
    notes: tuple[str, ...] = ()

    def take(self, which: slice | np.ndarray) -> "Records":
        """Some of the records; ``buffer`` and ``notes`` stay."""
        names = ("ts", "at", "captured", "wire", "link", "frame")
        return replace(self, **{name: getattr(self, name)[which] for name in names})


def is_capture(head: bytes) -> bool:
    """Whether a file that starts with ``head`` (4 bytes or more) is a pcap or pcapng.

    >>> is_capture(b"#separator"), is_capture(b"\\xd4\\xc3\\xb2\\xa1")
    (False, True)
    """
    return head[:4] in _PCAP or head[:4] == _PCAPNG


def read_records(path: Path) -> Records:
    """Find the packet records of a pcap (micro- or nanoseconds, either byte order) or pcapng file,
    packed by gzip or not.

    A damaged file is read up to the damage; ``notes`` say where that is and how much was skipped. A
    header alone gives no records.

    Raises:
        UserError: missing, empty, not a capture, a Git LFS pointer to one, or only link types that
            are not read.
    """
    return next(read_pieces(path, 1 << 62))


def read_pieces(path: Path, most: int) -> Iterator[Records]:
    """The records of a file as ``read_records`` finds them, about ``most`` at once; its notes come
    with the last of them.

    Raises:
        UserError: as ``read_records`` does.
    """
    if not path.is_file():
        raise UserError(
            f"{path} does not exist or is no file; expected a pcap or pcapng capture; check the path"
        )
    if path.stat().st_size == 0:
        raise UserError(
            f"{path} is empty (0 bytes); expected a pcap or pcapng capture; record it again"
        )
    refuse_pointer(path)
    unpacked = map_file(path)
    data = unpacked.data
    magic = data[:4]
    if not is_capture(magic):
        raise UserError(
            f"{path} is not a packet capture (it starts with {data[:8]!r}); expected pcap or pcapng; "
            "export the packets in one of these formats"
        )
    read = _read_pcapng if magic == _PCAPNG else _read_pcap
    links: set[int] = set()
    before, notes = None, list(unpacked.notes)
    for piece in read(path, data, most):
        links |= set(np.unique(piece.link).tolist())
        notes += piece.notes
        if before is not None:
            yield before
        before = replace(piece, notes=())
    if links:
        _refuse_unknown_links(path, links)
    assert before is not None
    yield replace(before, notes=tuple(notes))


def _refuse_unknown_links(path: Path, found: set[int]) -> None:
    """Raise where no record is of a link type that is read; a few among others are ``Unread``."""
    if found & set(LINKS):
        return
    unnamed = "see tcpdump.org/linktypes.html"
    links = sorted(found)
    names = ", ".join(f"{link} ({LINK_NAMES.get(link, unnamed)})" for link in links)
    raise UserError(
        f"{path} has link type {names}; expected Ethernet, Wi-Fi, PPP, Linux cooked, raw IP or loopback; "
        "capture on an interface of such a type"
    )


# ---- pcap: one header, then records one after the other ----


def _read_pcap(path: Path, data: mmap.mmap, most: int) -> Iterator[Records]:
    order, per_s = _PCAP[data[:4]]
    size = len(data)
    if size < 24:
        note = f"{path.name}: the file header is cut after {size} of 24 bytes"
        yield _no_records(data, (note,))
        return
    snaplen, network = struct.unpack_from(order + "II", data, 16)
    limit = max(snaplen, _LONGEST) if snaplen < 1 << 28 else _LONGEST
    buffer = np.frombuffer(data, np.uint8)
    end, before, more = 24, 0, True
    while more:
        at = _find_records(data, order, end, most)
        header = read_headers(buffer, at, _RECORD[order])
        captured = header["captured"]
        # After a lying length the chain leads through garbage; a fraction of a second above one
        # second shows it.
        is_wrong = (header["fraction"] >= per_s) | (captured > limit) | (at + 16 + captured > size)
        wrong = np.flatnonzero(is_wrong)
        good = int(wrong[0]) if len(wrong) else len(at)
        end = int(at[good - 1] + 16 + captured[good - 1]) if good else end
        more = good == most
        notes = () if more or end == size else (_damage(path, before + good, end, size),)
        header, at = header[:good], at[:good] + 16
        ts = header["fraction"] / per_s
        ts += header["s"]
        captured = header["captured"].astype(np.int32)
        wire = np.maximum(np.minimum(header["wire"], _MOST_WIRE).astype(np.int32), captured)
        link = np.full(good, network & 0x0FFFFFFF, np.int32)
        frame = np.arange(before + 1, before + good + 1, dtype=np.int32)
        before += good
        yield Records(buffer, ts, at, captured, wire, link, frame, notes)


def _find_records(data: mmap.mmap, order: str, at: int, most: int) -> np.ndarray:
    """Offsets of the record headers from the first one on, shape (n,), int64; garbage too, where a
    length lies."""
    # The one loop over packets of this package. A million take 0.16 s of the 1.3 s of CPU from
    # packets to samples. Following many guessed starts at a time by columns took 0.06 s and 80
    # lines; against nfstream's CPU it is 4.5 times less without them and 4.8 times with.
    length_at = struct.Struct(order + "I").unpack_from
    last, found = len(data) - 16, array("q")
    for _ in range(most):
        if at > last:
            break
        length = length_at(data, at + 8)[0]
        # Zeros without end are a file that was never filled, or that means harm: no packets.
        if not length and not any(data[at : at + 16]):
            break
        found.append(at)
        at += 16 + length
    return np.frombuffer(found, np.int64)


def _damage(path: Path, good: int, end: int, size: int) -> str:
    return (
        f"{path.name}: damaged or cut after packet {good} (byte {end}); "
        f"the last {size - end} of {size} bytes were skipped"
    )


def _no_records(data: mmap.mmap, notes: tuple[str, ...]) -> Records:
    none = np.zeros(0, np.int64)
    numbers = (none,) * 5
    return Records(np.frombuffer(data, np.uint8), none.astype(float), *numbers, notes=notes)


# ---- pcapng: blocks of several kinds, each with its length ----


@dataclass(frozen=True)
class _Interface:
    link: int
    per_s: int = 1_000_000
    offset_s: int = 0


def _read_pcapng(path: Path, data: mmap.mmap, most: int) -> Iterator[Records]:
    rows: list[tuple[int, ...]] = []
    interfaces: list[_Interface] = []
    at, size, first, found, lost, untimely, order = 0, len(data), 0, 0, 0, 0, "<"
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
                found += 1
                rows.append((*row, found + lost))
                if len(rows) > most:  # the last one's time may be asked for by the next
                    records = _make_records(data, rows[:-1], interfaces)
                    untimely += most - len(records.ts)
                    rows = rows[-1:]
                    yield records
        at += length
    records = _make_records(data, rows, interfaces)
    untimely += len(rows) - len(records.ts)
    notes: tuple[str, ...] = () if at == size else (_damage(path, found, at, size),)
    if lost + untimely:
        notes += (
            f"{path.name}: {lost + untimely} packet blocks with lengths, times or interfaces that cannot be "
            "were skipped",
        )
    yield replace(records, notes=notes)


def _make_records(
    data: mmap.mmap, rows: list[tuple[int, ...]], interfaces: list[_Interface]
) -> Records:
    """Records of packet blocks, each as (interface, ticks, offset, captured, wire, frame), without
    those of times that cannot be."""
    owner, ticks, start, captured, wire, frame = np.array(rows, np.int64).reshape(-1, 6).T
    clocks = np.array([[i.link, i.per_s, i.offset_s] for i in interfaces], np.int64).reshape(-1, 3)
    link, per_s, offset = clocks[owner].T
    ts = ticks // per_s + (ticks % per_s) / per_s + offset
    timely = (ts >= 0) & (ts < LATEST_S)
    if not timely.any():
        return _no_records(data, ())
    wire = np.minimum(np.maximum(wire, captured), _MOST_WIRE)
    ts, start = ts[timely], start[timely]
    captured, wire, link, frame = (
        column[timely].astype(np.int32) for column in (captured, wire, link, frame)
    )
    return Records(np.frombuffer(data, np.uint8), ts, start, captured, wire, link, frame)


def _interface(data: mmap.mmap, at: int, length: int, order: str) -> _Interface:
    """An interface block: link type and, among the options, unit (9) and offset (14) of its
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
    """A packet block as (interface, ticks, offset, captured, wire); None where lengths cannot be."""
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
    if captured > length - 32 or ticks >= 1 << 63:
        return None
    return first + owner, ticks, at + 28, captured, wire


# ---- Headers of many packets at once, as structured arrays ----

_Columns = TypeVar("_Columns")


def header_type(size: int, **named: tuple[int, str]) -> np.dtype:
    """A header of ``size`` bytes, with the offset and the type of its fields."""
    at, kinds = zip(*named.values(), strict=True)
    return np.dtype(
        {"names": list(named), "formats": list(kinds), "offsets": list(at), "itemsize": size}
    )


def read_headers(buffer: np.ndarray, at: np.ndarray, kind: np.dtype) -> np.ndarray:
    """The header at each offset, shape (n,); what lies past the buffer's end reads as 0."""
    size = kind.itemsize
    if len(buffer) < 2 * size:
        buffer = np.append(buffer, np.zeros(2 * size, np.uint8))
    last = len(buffer) - size
    # A view with stride 1 holds the header that starts at every byte, and copies nothing.
    found = np.ndarray((last + 1,), f"V{size}", buffer, strides=(1,))[np.minimum(at, last)]
    cut = np.flatnonzero(at > last)
    if len(cut):
        end = np.append(buffer[last:], np.zeros(size, np.uint8))
        tail = np.ndarray((size + 1,), f"V{size}", end, strides=(1,))
        found[cut] = tail[np.minimum(at[cut] - last, size)]
    return found.view(kind)


def interleave(rows: list[np.ndarray], parts: list[_Columns]) -> _Columns:
    """Parts of some packets as one, in the order of their ``rows``; a part is a dataclass of
    columns."""
    order = np.argsort(np.concatenate(rows), kind="stable")
    kind: Any = type(parts[0])
    names = [column.name for column in fields(kind)]
    return kind(*(np.concatenate([getattr(part, n) for part in parts])[order] for n in names))
