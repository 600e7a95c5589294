"""Zeek logs larger than memory, cut into shares of their devices and read one share after the other.

    conn.log ─┐  piece by piece, each row     00/conn.parquet  00/dns.parquet …   read like any capture
    dns.log  ─┴▶ to the share of each end ─▶  01/conn.parquet  01/dns.parquet …

A device lies in one share, so shares are analysed one by one, in any order and on any machine. A share
holds about half a million flows; one device with more of them than that is still one share.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from traffic.capture import SAMPLE_S, Capture, join_evidence, last_slot
from traffic.device_view import Share, share_of
from traffic.errors import UserError
from traffic.plant import Plant, is_local
from traffic.samples import make_samples
from traffic.windows import Windows, make_windows
from traffic.zeek.beside import (
    Span,
    note_far,
    note_left_out,
    notice_evidence,
    read_beside,
    read_counted,
    read_notices,
    siblings,
)
from traffic.zeek.columns import Kind, arrow_type, numbers, to_frame
from traffic.zeek.conn import (
    CONN_KINDS,
    CONN_NEEDED,
    Clock,
    Repairs,
    drop_again,
    find_logs,
    is_valid_flow,
    make_capture,
    make_flows,
    note_missing,
)
from traffic.zeek.logs import LogReader, is_packed, read_log
from traffic.zeek.protocols import ENDS, LOGS

Result = TypeVar("Result")
_SHARE_ROWS = 500_000
_MOST_SHARES = 128  # files that are open at once
_ROW_BYTES = 100  # of a conn.log, about
_PACKED = 6  # times smaller, about
_BUFFERED_ROWS = 1_000_000


@dataclass(frozen=True)
class Shares:
    """A cut log.

    Attributes:
        folder: holds a folder for each share.
        numbers: of the shares that hold a device.
        of: into how many it was cut.
        end_slot: the last slot of the whole capture.
        rows: flows of the log.
        several: it came from several conn logs, which may hold a row twice.
        notices: evidence of Zeek's notices, of all shares.
        span: when its connections passed.
        notes: what was skipped or assumed, one sentence each.
    """

    folder: Path
    numbers: tuple[int, ...]
    of: int
    end_slot: int
    rows: int
    several: bool
    notices: pd.DataFrame
    span: Span
    notes: tuple[str, ...]

    def share(self, number: int) -> Share:
        """Which devices a share holds."""
        return Share(number, self.of, self.end_slot)


def estimate_rows(path: Path) -> int:
    """About how many flows the conn logs of a path hold, by their size."""
    rows = 0
    for log in find_logs(path):
        size = log.stat().st_size
        if log.suffix == ".parquet":
            rows += _count_parquet(log)
        else:
            rows += size * (_PACKED if is_packed(log) else 1) // _ROW_BYTES
    return rows


def _count_parquet(log: Path) -> int:
    try:
        return pq.read_metadata(log).num_rows
    except (pa.ArrowException, OSError):
        return 0  # reading it says what is wrong


def cut_log(
    path: Path,
    folder: Path,
    plant: Plant | None = None,
    local: Sequence[str] = (),
    share_rows: int = _SHARE_ROWS,
) -> Shares:
    """Cut a conn.log, or a folder of them, and the protocol logs beside it by device.

    Args:
        path: as ``traffic.zeek.read_zeek`` has it.
        folder: an empty one, for about as many bytes as a third of the logs.
        plant: its addresses are devices wherever they lie.
        local: further networks (CIDR) whose addresses are devices.
        share_rows: flows of a share, about.

    Raises:
        UserError: as ``read_zeek`` does; or no row has a device at either end.
    """
    logs = find_logs(path)
    of = int(np.clip(-(-estimate_rows(path) // share_rows), 2, _MOST_SHARES))
    cut = _Cut(folder, of, plant, tuple(local))
    clock, repairs, notes, rows = Clock(), Repairs(), list[str](), 0
    with cut.writing("conn", CONN_KINDS) as writer:
        columns: set[str] = set()
        for log in logs:
            reader = LogReader(log, CONN_KINDS, CONN_NEEDED, "conn.log", is_valid_flow)
            for piece in reader.read():
                rows += piece.num_rows
                clock.see(piece)
                writer.write(repairs.repair(piece))
            columns |= set(reader.columns)
            notes += reader.notes()
    if not rows:
        what = "no well-formed row" if notes else "a header and no rows"
        raise UserError(
            f"{path} has {what}; expected at least one connection; check that Zeek saw traffic"
        )
    notes += [*note_missing(columns), *clock.notes(), *repairs.notes()]
    span = Span(cut.start_s, (cut.end_slot + 1) * SAMPLE_S)
    for name, form in LOGS.items():
        if form.evidence and (found := siblings(logs, name)):
            notes += _cut_beside(cut, name, found, span)
    notices = read_notices(logs, notes)
    notes += [*note_far(notices, span), *read_counted(logs).notes]
    evidence = notice_evidence(notices, span)
    if len(evidence):
        cut.end_slot = max(cut.end_slot, int(evidence["slot"].max()))
    numbers = tuple(n for n in range(of) if (folder / f"{n:03}" / "conn.parquet").exists())
    return Shares(
        folder, numbers, of, cut.end_slot, rows, len(logs) > 1, evidence, span, tuple(notes)
    )


def _cut_beside(cut: "_Cut", name: str, logs: list[Path], span: Span) -> list[str]:
    """Cut the logs of a name; returns what was skipped."""
    notes = []
    form = LOGS[name]
    with cut.writing(name, form.kinds) as writer:
        for log in logs:
            reader = LogReader(log, form.kinds, form.needed, log.name)
            far = 0
            try:
                for piece in reader.read():
                    ts = numbers(piece["ts"])
                    near = span.is_near(ts)
                    far += int((~near & ~np.isnan(ts)).sum())
                    writer.write(piece.filter(pa.array(near)))
            except UserError as error:
                notes.append(f"{log.name} was left out: {error}")
                continue
            writer.empty = True
            notes += [*reader.notes(), *note_left_out(log.name, far)]
    return notes


def read_share(shares: Shares, number: int) -> Capture:
    """The flows and the evidence of a share's devices, and of nobody else's alone."""
    path = shares.folder / f"{number:03}" / "conn.parquet"
    rows = read_log(path, CONN_KINDS, CONN_NEEDED, "conn.log").table
    flows = make_flows(drop_again(rows) if shares.several else rows)
    capture = make_capture(flows, read_beside([path], shares.span))
    return replace(capture, evidence=join_evidence([capture.evidence, shares.notices]))


def share_windows(
    number: int, shares: Shares, plant: Plant | None = None, local: Sequence[str] = ()
) -> Windows:
    """The windows of a share's devices; arguments as ``cut_log`` has them."""
    samples = make_samples(read_share(shares, number), plant, local, shares.share(number))
    return make_windows(samples)


def map_shares(
    work: Callable[[int], Result], shares: Shares, client: Any = None
) -> Iterator[Result]:
    """What ``work`` makes of each share's number, in their order.

    Args:
        work: such as ``partial(share_windows, shares=shares)``.
        shares: of a log.
        client: a ``distributed.Client`` whose workers do it, all shares at once; they have to see
            the folder of the shares. Without one it is done here, a share at a time.
    """
    if client is None:
        yield from map(work, shares.numbers)
        return
    futures = client.map(work, shares.numbers)
    while futures:
        yield futures.pop(0).result()


@dataclass
class _Cut:
    """Where rows go while logs are cut; ``start_s`` is the first flow's, ``end_slot`` the last slot
    seen."""

    folder: Path
    of: int
    plant: Plant | None
    local: tuple[str, ...]
    end_slot: int = np.iinfo(np.int64).min
    start_s: float = np.inf

    def writing(self, name: str, kinds: Mapping[str, Kind]) -> "_Writer":
        """A writer of one log."""
        return _Writer(self, name, kinds)

    def shares_of(self, addresses: pa.ChunkedArray) -> np.ndarray:
        """The share of each address, -1 where it is no device."""
        parts = [np.zeros(0, np.int64)]
        for chunk in addresses.chunks:
            names = pd.Series(chunk.dictionary.to_pandas(), dtype="str")
            ours = is_local(names, self.plant, self.local).to_numpy(bool)
            share = np.where(ours, share_of(names, self.of), -1)
            code = chunk.indices.fill_null(len(names)).to_numpy()
            parts.append(np.append(share, -1)[code])
        return np.concatenate(parts)


@dataclass
class _Writer:
    """Writes each row to the shares of its ends, many rows at a time; with ``empty`` each share gets
    a file, rows or none."""

    cut: _Cut
    name: str
    kinds: Mapping[str, Kind]
    empty: bool = False
    _held: dict[int, list[pa.Table]] = field(default_factory=dict)
    _rows: int = 0
    _files: dict[int, pq.ParquetWriter] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *error: object) -> None:
        self._flush()
        if self.empty:
            for number in range(self.cut.of):
                self._file(number)
        self._stack.close()

    def write(self, piece: pa.Table) -> None:
        """Take the rows of a piece of the log."""
        one, other = (self.cut.shares_of(piece[column]) for column in ENDS)
        other = np.where(other == one, -1, other)
        rows = np.concatenate([np.flatnonzero(one >= 0), np.flatnonzero(other >= 0)])
        if not len(rows):
            return
        share = np.concatenate([one[one >= 0], other[other >= 0]])
        order = np.lexsort((rows, share))
        rows, share = rows[order], share[order]
        # Text as text: a slice of codes would carry all words of the piece to each share.
        taken = _plain(piece, self.kinds).take(pa.array(rows))
        self._see(piece.filter(pa.array((one >= 0) | (other >= 0))))
        bounds = np.searchsorted(share, np.arange(self.cut.of + 1))
        for number in np.unique(share):
            first, last = bounds[number], bounds[number + 1]
            self._held.setdefault(int(number), []).append(taken.slice(first, last - first))
        self._rows += len(rows)
        if self._rows >= _BUFFERED_ROWS:
            self._flush()

    def _see(self, piece: pa.Table) -> None:
        if self.name == "conn":
            columns = ["ts", "duration", "history", "orig_pkts", "resp_pkts"]
            there = [column for column in columns if column in piece.column_names]
            frame = to_frame(piece.select(there)).reindex(columns=columns)
            slot = last_slot(frame.astype({"history": "str"}))
            self.cut.start_s = min(self.cut.start_s, float(frame["ts"].min()))
        else:
            ts = to_frame(piece.select(["ts"]))["ts"].max()
            slot = int(np.floor(ts / SAMPLE_S)) if np.isfinite(ts) else self.cut.end_slot
        self.cut.end_slot = max(self.cut.end_slot, slot)

    def _flush(self) -> None:
        for number, tables in self._held.items():
            self._file(number).write_table(pa.concat_tables(tables))
        self._held, self._rows = {}, 0

    def _file(self, number: int) -> pq.ParquetWriter:
        if number not in self._files:
            path = self.cut.folder / f"{number:03}" / f"{self.name}.parquet"
            path.parent.mkdir(exist_ok=True)
            words = [column for column, kind in self.kinds.items() if kind in ("text", "flag")]
            writer = pq.ParquetWriter(path, _schema(self.kinds), use_dictionary=words)
            self._files[number] = self._stack.enter_context(writer)
        return self._files[number]


def _schema(kinds: Mapping[str, Kind]) -> pa.Schema:
    types = {column: arrow_type(kind) for column, kind in kinds.items()}
    plain = {c: pa.string() if pa.types.is_dictionary(t) else t for c, t in types.items()}
    return pa.schema(list(plain.items()))


def _plain(piece: pa.Table, kinds: Mapping[str, Kind]) -> pa.Table:
    """All columns of the kinds, text as text, null where the log lacks one."""
    schema = _schema(kinds)
    columns = [
        piece[name].cast(schema.field(name).type)
        if name in piece.column_names
        else pa.nulls(piece.num_rows, schema.field(name).type)
        for name in kinds
    ]
    return pa.table(columns, schema=schema)
