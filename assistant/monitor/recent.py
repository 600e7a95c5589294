"""The recent past as a capture on disk, bounded: what the monitor reads again at every slot.

    recent/packets.000017.pcap      recent/conn.000017.log  recent/dns.000017.log
           packets.000018.pcap             conn.000018.log         dns.000018.log

A piece holds two minutes of input as it came. The folder is a capture like any other: `faultwise ask
--capture` reads it too. Pieces are only added to and thrown away whole, oldest first; after a crash
each is cut to the length that was noted with the source's position, so that nothing is there twice.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from assistant.monitor.source import Batch
from traffic.capture import FLOW_COLUMNS, SAMPLE_S, Capture
from traffic.errors import UserError
from traffic.reader import read_capture
from traffic.zeek.conn import KeptLogs, write_conn_log

PIECE_S = 120.0


@dataclass
class _Piece:
    """Files of one stretch of input: their lengths in bytes, rows, first and newest time."""

    number: int
    start_s: float
    newest_s: float
    rows: int
    lengths: dict[str, int]


class Recent:
    """The pieces of one folder."""

    def __init__(self, folder: Path, horizon_s: float, most_rows: int) -> None:
        """Open an empty folder, or one that ``restore`` brings to what was noted.

        Args:
            folder: made where it is missing.
            horizon_s: pieces whose newest input is older than this are thrown away.
            most_rows: likewise the oldest, where there are more packets or rows than this.
        """
        self.folder, self.horizon_s, self.most_rows = folder, horizon_s, most_rows
        self._pieces: list[_Piece] = []
        self._heads: dict[str, bytes] = {}
        self._last_heads: dict[str, bytes] = {}
        self._touched: set[str] = set()
        self._next = 0
        self._kept = KeptLogs()
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def rows(self) -> int:
        """Packets, or rows of logs, that are kept."""
        return sum(piece.rows for piece in self._pieces)

    @property
    def start_s(self) -> float:
        """When the oldest piece that is kept began; NaN without any."""
        return self._pieces[0].start_s if self._pieces else float("nan")

    def append(self, batch: Batch, newest_s: float) -> None:
        """Keep the input of a batch.

        Args:
            batch: of one source.
            newest_s: the newest time that was seen so far.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        if not batch.parts:
            return
        changed = any(self._heads.get(part.name, part.head) != part.head for part in batch.parts)
        last = self._pieces[-1] if self._pieces else None
        if last is None or changed or newest_s - last.start_s >= PIECE_S:
            last = _Piece(self._next, newest_s, newest_s, 0, {})
            self._pieces.append(last)
            self._next += 1
            self._heads = {}
        for part in batch.parts:
            self._heads[part.name] = self._last_heads[part.name] = part.head
            name = _file_name(part.name, last.number)
            self._write(last, name, part.data if name in last.lengths else part.head + part.data)
        last.rows += len(batch.ts)
        last.newest_s = max(last.newest_s, newest_s)
        self._complete(last)

    def _write(self, piece: _Piece, name: str, data: bytes) -> None:
        """Add to a file; what a full disk left of it is taken away again."""
        before = piece.lengths.get(name, 0)
        path = self.folder / name
        try:
            with path.open("ab") as file:
                file.write(data)
        except OSError:
            if path.exists():
                os.truncate(path, before)
            raise
        piece.lengths[name] = before + len(data)
        self._touched.add(name)

    def _complete(self, piece: _Piece) -> None:
        """Give other logs of Zeek a conn.log beside them: without one they are not looked for."""
        name = _file_name("conn", piece.number)
        if "packets" in self._heads or name in piece.lengths:
            return
        head = self._last_heads.get("conn") or _empty_conn_log()
        self._heads["conn"] = head
        self._write(piece, name, head)

    def drop_old(self, newest_s: float) -> None:
        """Throw away the oldest pieces, as far as the bounds ask for it; the last one stays."""
        while len(self._pieces) > 1 and (
            self._pieces[0].newest_s < newest_s - self.horizon_s or self.rows > self.most_rows
        ):
            self._drop(self._pieces.pop(0))

    def clear(self) -> None:
        """Throw everything away."""
        for piece in self._pieces:
            self._drop(piece)
        self._pieces, self._heads = [], {}

    def _drop(self, piece: _Piece) -> None:
        for name in piece.lengths:
            (self.folder / name).unlink(missing_ok=True)
            self._touched.discard(name)

    def sync(self) -> dict[str, Any]:
        """Bring to disk what was added; returns what ``restore`` needs."""
        for name in self._touched:
            descriptor = os.open(self.folder / name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        self._touched.clear()
        return {"next": self._next, "pieces": [asdict(piece) for piece in self._pieces]}

    def restore(self, noted: Mapping[str, Any]) -> None:
        """Bring the folder to what ``sync`` noted: later input is cut off, since the source gives
        it again."""
        self._next = int(noted.get("next", 0))
        self._pieces = [_Piece(**piece) for piece in noted.get("pieces", [])]
        # What is older than the bounds may have been thrown away after it was noted.
        there = {path.name for path in self.folder.iterdir()}
        self._pieces = [piece for piece in self._pieces if set(piece.lengths) <= there]
        lengths = {name: size for piece in self._pieces for name, size in piece.lengths.items()}
        for path in self.folder.iterdir():
            if path.name not in lengths:
                path.unlink()
            elif path.stat().st_size > lengths[path.name]:
                os.truncate(path, lengths[path.name])

    def read(self) -> Capture | None:
        """The recent past as a capture; None where nothing was kept.

        Of a connection that lasted for longer, which a log tells when it ends, only what lies in that past
        is kept: where fifty devices' connections of a day ended, all their samples of a day were made anew.

        Raises:
            UserError: it cannot be read.
        """
        if not self.rows:
            return None
        try:
            capture = read_capture(self.folder, kept=self._kept)
            newest_s = max(piece.newest_s for piece in self._pieces)
            first_slot = int((newest_s - self.horizon_s - PIECE_S) // SAMPLE_S)
            return replace(
                capture,
                activity=_drop_before(capture.activity, first_slot),
                evidence=_drop_before(capture.evidence, first_slot),
            )
        except UserError:
            # Rows of other logs before the first connection has ended are no capture yet.
            conn = [_file_name("conn", piece.number) for piece in self._pieces]
            if any("packets" in name for piece in self._pieces for name in piece.lengths):
                raise
            if any(_has_rows(self.folder / name) for name in conn):
                raise
            return None


def _drop_before(table: pd.DataFrame, slot: int) -> pd.DataFrame:
    late = table["slot"].to_numpy() >= slot
    return table if late.all() else table[late].reset_index(drop=True)


def _file_name(name: str, number: int) -> str:
    return f"{name}.{number:06d}.{'pcap' if name == 'packets' else 'log'}"


def _empty_conn_log() -> bytes:
    text = StringIO()
    write_conn_log(pd.DataFrame(columns=FLOW_COLUMNS), text)
    return text.getvalue().encode()


def _has_rows(path: Path) -> bool:
    with path.open("rb") as file:
        return any(line.strip() and not line.startswith(b"#") for line in file)
