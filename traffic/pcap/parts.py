"""Captures larger than memory: packets are cut by their pair of addresses into parts on disk.

    records ─▶ some at a time, each packet    000.rows 000.bytes    each part read like a capture,
               to the part of its pair     ─▶ 001.rows 001.bytes …  then put together as one

All that two addresses say to each other lies in one part, so connections, retransmissions, copies
and fragments are found there as in the whole. What belongs to no pair lies in a part of its own:
ARP, frames without IP, and requests that go to all, as DHCP's do. A part holds about 400,000
packets; two addresses with more between them are still one part.
"""

import mmap
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa

from traffic.arrays import starts_run
from traffic.capture import Capture
from traffic.conversations import empty_exchanges, empty_sessions
from traffic.errors import UserError
from traffic.pcap.asks import find_asks
from traffic.pcap.clock import find_clock_steps, mend_clock
from traffic.pcap.copies import ENOUGH_NUMBERS, is_poor
from traffic.pcap.flows import make_piece
from traffic.pcap.headers import UDP
from traffic.pcap.packets import (
    DECODED,
    Decoded,
    Packets,
    decode,
    leave_out_copies,
    name_envelopes,
    render_addresses,
    say_decoded,
    say_disorder,
    share_addresses,
)
from traffic.pcap.pieces import Piece, join_pieces
from traffic.pcap.protocols import PROTOCOLS
from traffic.pcap.records import Records, read_pieces
from traffic.pcap.sensor import Pause, find_pauses, make_holes, weigh_pause
from traffic.transfers import empty_transfers

PART_PACKETS = 400_000
_MOST_PARTS = 128  # two files of each are open at once
_TO_ALL = [p for one in PROTOCOLS if one.broadcasts and UDP in one.transports for p in one.ports]
_MARGIN = 16  # bytes after a frame's, which a header that is cut is read with


def read_large(
    paths: Sequence[Path],
    scratch: Path | None = None,
    whole: bool = True,
    part_packets: int = PART_PACKETS,
) -> Capture:
    """Read captures as one, a part of their packets at a time.

    Args:
        paths: as ``traffic.pcap.packets.read_packets`` has them.
        scratch: a folder with room for as many bytes as the captures and 120 for each packet; by
            default the system's for temporary files.
        whole: whether to keep sessions and exchanges too, which no sample needs.
        part_packets: packets of a part, about.

    Raises:
        UserError: as ``read_packets`` does; or there is no room.
    """
    with tempfile.TemporaryDirectory(prefix="faultwise-", dir=scratch) as name:
        try:
            parts = _cut(paths, Path(name), part_packets)
        except OSError as error:
            raise UserError(
                f"{paths[0]} cannot be cut into parts ({error.strerror or error}); expected room for it in "
                f"{name}; set TMPDIR to a folder with more"
            ) from error
        pieces, times = list[Piece](), list[list[np.ndarray]]()
        for number in parts.numbers:
            packets = parts.read(number)
            tables = (packets.table, packets.arp, packets.others)
            times.append([table["ts"].to_numpy().copy() for table in tables])
            arp = packets.arp  # all of it lies in the last part
            piece = make_piece(packets)
            if not whole:
                piece = replace(
                    piece,
                    sessions=empty_sessions(),
                    exchanges=empty_exchanges(),
                    transfers=empty_transfers(),
                )
            pieces.append(piece)
            del packets, piece, tables
        holes = make_holes(parts.clock_steps, _find_pauses(parts, times))
        del times
        # Whether an asker had sent something just before, only all parts together tell.
        rows = (parts.read_table(number, "rows") for number in parts.numbers)
        asks = find_asks(arp, rows, parts.addresses, parts.end_s)
        return join_pieces(pieces, asks, parts.addresses, parts.envelopes, holes, parts.notes)


@dataclass(frozen=True)
class _Parts:
    """A capture in parts.

    Attributes:
        folder: holds the files of each part.
        numbers: of the parts; the last is of what belongs to no pair.
        types: of the columns of packets, ARP packets and other frames.
        clock_steps, envelopes, addresses, start_s, end_s, notes: as ``Packets`` has them.
        poor: whether each address knows few IP identifications.
    """

    folder: Path
    numbers: tuple[int, ...]
    types: dict[str, np.dtype]
    clock_steps: pd.DataFrame
    envelopes: pd.DataFrame
    addresses: np.ndarray
    start_s: float
    end_s: float
    notes: tuple[str, ...]
    poor: np.ndarray

    def read(self, number: int) -> Packets:
        """The packets of a part, with the addresses of all parts."""
        table, arp, others = (self.read_table(number, name) for name in ("rows", "arp", "others"))
        packets = Packets(
            table,
            arp,
            others,
            table.iloc[:0],
            self.envelopes,
            self.clock_steps,
            self.addresses,
            (_map(self.folder / f"{number:03}.bytes"),),
            self.start_s,
            self.end_s,
        )
        return leave_out_copies(packets, self.poor)

    def read_table(self, number: int, name: str) -> pd.DataFrame:
        """One of the tables of a part, sorted by time."""
        path = self.folder / f"{number:03}.{name}"
        rows = np.fromfile(path, self.types[name]) if path.exists() else None
        if rows is None:
            rows = np.zeros(0, self.types[name])
        ts = rows["ts"]
        if not (ts[1:] >= ts[:-1]).all():
            rows = rows[np.argsort(ts, kind="stable")]
        columns = {name: np.ascontiguousarray(rows[name]) for name in self.types[name].names or ()}
        return pd.DataFrame(columns, copy=False)


def _map(path: Path) -> np.ndarray:
    if not path.exists() or not path.stat().st_size:
        return np.zeros(1, np.uint8)
    return np.memmap(path, np.uint8, mode="r")


def _find_pauses(parts: _Parts, times: list[list[np.ndarray]]) -> list[Pause]:
    """The pauses of a capture; what its connections tell of each is read from the parts again."""
    kinds = [np.sort(np.concatenate(one), kind="stable") for one in zip(*times, strict=True)]
    main = max(range(len(kinds)), key=lambda kind: len(kinds[kind]))
    ts = kinds.pop(main)
    places = find_pauses(ts, kinds)
    if not places:
        return []
    ends = [(float(ts[place]), float(ts[place + 1])) for place in places]
    told = np.zeros(len(ends), int)
    after = [(np.iinfo(np.int64).max, 0)] * len(ends)
    for number in parts.numbers:
        table = parts.read_table(number, "rows")
        found = parts.read_table(number, ("rows", "arp", "others")[main])
        for i, (start_s, end_s) in enumerate(ends):
            told[i] = max(told[i], weigh_pause(table, start_s, end_s))
            first = np.searchsorted(found["ts"].to_numpy(), end_s)
            if first < len(found) and found["ts"].iloc[first] == end_s:
                row = found[["file", "frame"]].iloc[first]
                after[i] = min(after[i], (int(row["file"]), int(row["frame"])))
    return [
        Pause(*end, int(one), *frame) for end, one, frame in zip(ends, told, after, strict=True)
    ]


# ---- Cutting ----


@dataclass
class _Senders:
    """How many packets each address sent, and with how many IP identifications."""

    sent: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    settled: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    _seen: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def see(self, src: np.ndarray, ident: np.ndarray, n: int) -> None:
        """Look at some packets of ``n`` addresses."""
        self.sent = np.bincount(src, minlength=n) + np.pad(self.sent, (0, n - len(self.sent)))
        self.settled = np.pad(self.settled, (0, n - len(self.settled)))
        open_ = ~self.settled[src]
        keys = src[open_].astype(np.int64) << 16 | ident[open_].astype(np.int64)
        self._seen = pd.unique(np.concatenate([self._seen, keys]))
        self.settled |= np.bincount(self._seen >> 16, minlength=n) >= ENOUGH_NUMBERS
        self._seen = self._seen[~self.settled[self._seen >> 16]]

    def find_poor(self) -> np.ndarray:
        """Which know few, shape (n,), bool."""
        numbers = np.bincount(self._seen >> 16, minlength=len(self.sent))
        return is_poor(self.sent, numbers) & ~self.settled


@dataclass
class _Writer:
    """Appends rows and bytes to the files of parts."""

    folder: Path
    types: dict[str, np.dtype] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)
    _files: dict[str, BinaryIO] = field(default_factory=dict)

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def write(
        self, name: str, columns: dict[str, np.ndarray], part: np.ndarray, buffer: np.ndarray | None
    ) -> None:
        """Write packets to their parts.

        Args:
            name: of the table.
            columns: shape (n,) each.
            part: shape (n,), the part of each.
            buffer: where their bytes lie; None where nobody reads them again.
        """
        kind = self.types.setdefault(
            name, np.dtype([(column, values.dtype) for column, values in columns.items()])
        )
        if not len(part):
            return
        order = np.argsort(part.astype(np.int16), kind="stable")
        rows, part = np.empty(len(order), kind), part[order]
        for column, values in columns.items():
            rows[column] = values[order]
        heads = np.flatnonzero(starts_run(part))
        ends = np.append(heads[1:], len(part))
        at = "payload_at" if name == "rows" else "at"
        if buffer is not None:
            head = rows["head"].astype(np.int64) if name == "rows" else np.int64(0)
            start = rows[at] - head
            size = np.minimum(head + rows["held"] + _MARGIN, len(buffer) - start)
            text, place = _gather(buffer, start, np.maximum(size, 0))
            rows[at] = place[:-1] + head
        for first, last in zip(heads, ends, strict=True):
            number = int(part[first])
            mine = rows[first:last]
            if buffer is not None:
                file = self._file(f"{number:03}.bytes")
                mine[at] += file.tell() - place[first]
                file.write(text[place[first] : place[last]])
            mine.tofile(self._file(f"{number:03}.{name}"))

    def _file(self, name: str) -> BinaryIO:
        if name not in self._files:
            self._files[name] = self._stack.enter_context((self.folder / name).open("wb"))
        return self._files[name]


def _gather(
    buffer: np.ndarray, start: np.ndarray, size: np.ndarray
) -> tuple[memoryview, np.ndarray]:
    """Bytes of a buffer one after the other, and where each begins, with the end of the last."""
    # Arrow copies texts of any length; every second one is what lies between.
    bounds = np.append(np.stack([start, start + size], axis=1).ravel(), len(buffer))
    buffers = [None, pa.py_buffer(bounds), pa.py_buffer(buffer)]
    texts = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(bounds) - 1, buffers)
    taken = texts.take(pa.array(np.arange(len(start)) * 2))
    place = np.frombuffer(taken.buffers()[1], np.int64)[: len(start) + 1]
    return memoryview(taken.buffers()[2]), place


def _cut(paths: Sequence[Path], folder: Path, part_packets: int) -> _Parts:
    """Cut captures into parts; arguments as ``read_large`` has them, an empty ``folder``."""
    scans = [_scan(path) for path in paths]
    packets = sum(len(scan.ts) for scan in scans)
    of = int(np.clip(-(-packets // part_packets), 1, _MOST_PARTS))
    low = high = np.zeros(0, np.int64)
    senders, notes, steps = _Senders(), list[str](), list[pd.DataFrame]()
    envelopes: np.ndarray | int = 0
    start_s, end_s, file = np.inf, -np.inf, 0
    with _Writer(folder) as writer:
        for path, scan in zip(paths, scans, strict=True):
            steps.append(find_clock_steps(scan.ts, scan.frame, scan.near, file))
            ts = mend_clock(scan.ts, steps[-1])
            notes += [*scan.notes, *say_disorder(path, ts)]
            if not len(ts):
                notes.append(f"{path.name}: holds no packets")
                continue
            start_s, end_s = min(start_s, float(ts.min())), max(end_s, float(ts.max()))
            counted, done = list[Decoded](), 0
            for records in read_pieces(path, 8 * DECODED):
                n = len(records.ts)
                records = replace(records, ts=ts[done : done + n])
                decoded, done = decode(records, file), done + n
                low, high = share_addresses(decoded, low, high) if decoded else (low, high)
                for part in decoded:
                    senders.see(part.packets["src"], part.packets["ident"], len(low))
                    _write(writer, part, records.buffer, of)
                    envelopes = envelopes + part.envelopes
                counted += [replace(part, packets={}, arp={}, others={}) for part in decoded]
                _let_go(records.buffer)
            notes += say_decoded(path, counted)
            file += 1
    if not file:
        raise UserError(
            f"{paths[0]} holds no packets ({'; '.join(notes)}); expected at least one; "
            "check the capture's filter"
        )
    there = [n for n in range(of) if (folder / f"{n:03}.rows").exists()]
    return _Parts(
        folder,
        (*there, of),
        writer.types,
        pd.concat(steps, ignore_index=True),
        name_envelopes(np.asarray(envelopes)),
        render_addresses(low, high),
        start_s,
        end_s,
        tuple(notes),
        senders.find_poor(),
    )


def _write(writer: _Writer, decoded: Decoded, buffer: np.ndarray, of: int) -> None:
    """Write packets to the part of their pair of addresses, and what belongs to none to the last."""
    packets = decoded.packets
    ends = [packets[name].astype(np.uint64) for name in ("src", "dst")]
    pair = np.minimum(*ends) << np.uint64(32) | np.maximum(*ends)
    part = (pair * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(33)) % np.uint64(of)
    ports = np.isin(packets["sport"], _TO_ALL) | np.isin(packets["dport"], _TO_ALL)
    part = np.where(ports & (packets["proto"] == UDP), of, part.astype(np.int64))
    writer.write("rows", packets, part, buffer)
    for name, columns in (("arp", decoded.arp), ("others", decoded.others)):
        rest = np.full(len(columns["ts"]), of)
        writer.write(name, columns, rest, buffer if name == "others" else None)


@dataclass(frozen=True)
class _Scan:
    """Times and numbers of a file's records, and what was damaged."""

    path: Path
    ts: np.ndarray
    frame: np.ndarray
    notes: tuple[str, ...]

    def near(self, first: int, last: int) -> Records:
        """The records from one row to before another."""
        above, found = 0, []
        for records in read_pieces(self.path, 8 * DECODED):
            low, high = max(first - above, 0), max(last - above, 0)
            found.append(records.take(slice(low, high)))
            above += len(records.ts)
            if above >= last:
                break

        def join(name: str) -> np.ndarray:
            return np.concatenate([getattr(one, name) for one in found])

        return Records(
            found[0].buffer,
            join("ts"),
            join("at"),
            join("captured"),
            join("wire"),
            join("link"),
            join("frame"),
        )


def _scan(path: Path) -> _Scan:
    ts, frame, notes = [], [], list[str]()
    for records in read_pieces(path, 8 * DECODED):
        ts.append(records.ts)
        frame.append(records.frame)
        notes += records.notes
        _let_go(records.buffer)
    return _Scan(path, np.concatenate(ts), np.concatenate(frame), tuple(notes))


def _let_go(buffer: np.ndarray) -> None:
    """Give the pages of a mapped file back that were read; they are read again where asked for."""
    base = buffer.base
    mapped = base.obj if isinstance(base, memoryview) else base
    if isinstance(mapped, mmap.mmap):
        mapped.madvise(mmap.MADV_DONTNEED)
