"""A recording given as if it were live: for demonstrations, training of shifts, tests.

Packets come in the order of the file, rows of Zeek's logs in the order in which Zeek would have
written them: a connection's when it ended.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from assistant.monitor.records import make_head, pack_records
from assistant.monitor.source import Batch, Part
from traffic.errors import UserError
from traffic.pcap.records import Records, read_pieces
from traffic.reader import find_pcaps
from traffic.zeek.alerts import ALERT_LOGS, find_time
from traffic.zeek.conn import find_conn_logs
from traffic.zeek.logs import LogReader

_MOST_PACKETS, _MOST_ROWS = 8_192, 20_000
_PIECE_S = 10.0  # no more than a slot at once


class Clock:
    """This machine's; a measure that only counts recorded time brings one of its own."""

    def now_s(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)


class _Pace:
    """Lets recorded time pass at a speed; 0 is as fast as possible."""

    def __init__(self, speed: float, clock: "Clock | None" = None) -> None:
        self._speed, self._clock = speed, clock or Clock()
        self._begun: tuple[float, float] | None = None

    def wait_s(self, ts: float) -> float:
        """How long it is until a recorded moment comes."""
        if not self._speed:
            return 0.0
        if self._begun is None:
            self._begun = (self._clock.now_s(), ts)
        wall_s, first_s = self._begun
        return wall_s + (ts - first_s) / self._speed - self._clock.now_s()

    def come_s(self, ts: float) -> float:
        """The recorded moment that has come, where ``ts`` is the next: infinite without a speed."""
        wait_s = self.wait_s(ts)
        return ts - wait_s * self._speed if self._speed else np.inf

    def sleep(self, seconds: float) -> None:
        """Let so much of the clock's time pass."""
        self._clock.sleep(seconds)


class PacketReplay:
    """Pcaps, one after the other, as a source."""

    lateness_s, back_s, live = 0.25, 30.0, False

    def __init__(
        self,
        paths: list[Path],
        speed: float,
        position: dict[str, Any] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Begin, or go on behind the packets that ``position`` says were given."""
        self._pace = _Pace(speed, clock)
        self._paths = paths
        self._skip = int((position or {}).get("packets", 0))
        self._given = self._skip
        self._pieces = self._read()
        self._next: Records | None = next(self._pieces, None)

    def _read(self) -> Iterator[Records]:
        """Records of one link type that lie within a slot's time."""
        skip = self._skip
        for path in self._paths:
            for records in read_pieces(path, _MOST_PACKETS):
                n = len(records.ts)
                if skip >= n:
                    skip -= n
                    continue
                rest = records.take(slice(skip, n))
                skip = 0
                slot = np.floor(np.maximum.accumulate(rest.ts) / _PIECE_S)
                cuts = np.flatnonzero((np.diff(slot) != 0) | (np.diff(rest.link) != 0)) + 1
                ends = [0, *cuts.tolist(), len(rest.ts)]
                for start, end in pairwise(ends):
                    yield rest.take(slice(start, end))

    def read(self, wait_s: float) -> Batch:
        """What is due."""
        if self._next is None:
            return Batch(position={"packets": self._given}, ended=True)
        records = self._next
        wait = self._pace.wait_s(float(records.ts[0]))
        if wait > 0:
            self._pace.sleep(min(wait, wait_s))
            if self._pace.wait_s(float(records.ts[0])) > 0:
                return Batch(position={"packets": self._given})
        # The clock is read once: one that is read again meanwhile finds nothing late any more.
        late = np.flatnonzero(records.ts > self._pace.come_s(float(records.ts[0])))
        if len(late):
            first = max(1, int(late[0]))
            self._next = records.take(slice(first, None))
            records = records.take(slice(0, first))
        else:
            self._next = next(self._pieces, None)
        self._given += len(records.ts)
        part = Part("packets", make_head(int(records.link[0])), pack_records(records))
        more = self._next is not None and self._pace.wait_s(float(self._next.ts[0])) <= 0
        return Batch((part,), records.ts, {"packets": self._given}, more)

    def close(self) -> None:
        """Nothing is open."""


# ---- Zeek's logs ----


@dataclass(frozen=True)
class _Rows:
    """The rows of one log: name, header, lines, and when each would have been written."""

    name: str
    head: bytes
    lines: list[bytes]
    ts: np.ndarray


class LogReplay:
    """A folder of Zeek's logs as a source."""

    lateness_s, back_s, live = 10.0, 600.0, False

    def __init__(self, path: Path, speed: float, position: dict[str, Any] | None = None) -> None:
        """Read the logs, and begin, or go on behind the rows that ``position`` says were given.

        Raises:
            UserError: there is no conn.log that can be read.
        """
        self._pace = _Pace(speed)
        paths = find_conn_logs(path) if path.is_dir() else [path]
        beside = sorted(path.glob("*.log")) if path.is_dir() else []
        beside += [one for name in ALERT_LOGS if (one := path / f"{name}.json").is_file()]
        read = [read_rows(one) for one in dict.fromkeys([*paths, *beside])]
        self._logs = [rows for rows in read if rows is not None]
        if not any(rows.name == "conn" for rows in self._logs):
            raise UserError(
                f"{path} holds no conn.log; expected Zeek's logs or pcaps; pass the folder that was recorded"
            )
        log = np.repeat(np.arange(len(self._logs)), [len(rows.ts) for rows in self._logs])
        place = np.concatenate([np.arange(len(rows.ts)) for rows in self._logs])
        ts = np.concatenate([rows.ts for rows in self._logs])
        order = np.argsort(ts, kind="stable")
        self._log, self._place, self._ts = log[order], place[order], ts[order]
        self._given = int((position or {}).get("rows", 0))

    def read(self, wait_s: float) -> Batch:
        """What is due."""
        start, n = self._given, len(self._ts)
        if start >= n:
            return Batch(position={"rows": start}, ended=True)
        wait = self._pace.wait_s(float(self._ts[start]))
        if wait > 0:
            time.sleep(min(wait, wait_s))
            return Batch(position={"rows": start})
        slot_end_s = (np.floor(self._ts[start] / _PIECE_S) + 1) * _PIECE_S
        end = int(np.searchsorted(self._ts, slot_end_s, side="left"))
        end = max(start + 1, min(end, start + _MOST_ROWS))
        while end > start + 1 and self._pace.wait_s(float(self._ts[end - 1])) > 0:
            end = start + max(1, (end - start) // 2)
        rows = slice(start, end)
        parts = []
        for number in np.unique(self._log[rows]).tolist():
            log = self._logs[number]
            mine = self._place[rows][self._log[rows] == number]
            data = b"".join(log.lines[place] for place in mine.tolist())
            parts.append(Part(log.name, log.head, data))
        self._given = end
        more = end < n and self._pace.wait_s(float(self._ts[end])) <= 0
        return Batch(tuple(parts), self._ts[rows], {"rows": end}, more)

    def close(self) -> None:
        """Nothing is open."""


def read_rows(path: Path) -> _Rows | None:
    """The lines of a log with the time at which each was written; None where it has no such form.

    Raises:
        UserError: it cannot be read.
    """
    reader = LogReader(path, {}, (), path.name)
    text = b"".join(reader.read_lines())
    lines = text.splitlines(keepends=True)
    head = [line for line in lines if line.startswith(b"#") and not line.startswith(b"#close")]
    rows = [line if line.endswith(b"\n") else line + b"\n" for line in lines if line[:1] != b"#"]
    rows = [line for line in rows if line.strip()]
    name = path.name.split(".")[0]
    found = written_s(head, rows, name)
    if found is None or np.isnan(found).all():
        return None
    # A malformed row is given with the one before it: whoever reads it says that it is malformed.
    return _Rows(name, b"".join(head), rows, pd.Series(found).ffill().bfill().to_numpy())


def written_s(head: list[bytes], rows: list[bytes], name: str) -> np.ndarray | None:
    """When Zeek wrote each row, shape (n,): its time, and a connection's length after it; NaN where
    it cannot be read; None where the log has no times."""
    fields = next((line for line in head if line.startswith(b"#fields")), b"")
    if not fields:
        return np.array([_object_s(line, name == "conn") for line in rows], float)
    columns = fields.rstrip(b"\n").split(b"\t")[1:]
    if b"ts" not in columns:
        return None
    at = columns.index(b"ts")
    lasts = columns.index(b"duration") if name == "conn" and b"duration" in columns else None
    need = max(at, lasts or 0)
    times = np.full(len(rows), np.nan)
    for number, line in enumerate(rows):
        cells = line.split(b"\t", need + 1)
        if len(cells) > need:
            times[number] = _number(cells[at]) + (_number(cells[lasts], 0.0) if lasts else 0.0)
    return times


def _object_s(line: bytes, lasts: bool) -> float:
    try:
        entry = json.loads(line)
        if "ts" not in entry:
            return find_time(entry)
        return float(entry["ts"]) + (float(entry.get("duration") or 0.0) if lasts else 0.0)
    except (ValueError, TypeError, KeyError, RecursionError):
        return float("nan")


def _number(cell: bytes, unknown: float = float("nan")) -> float:
    try:
        return float(cell)
    except ValueError:
        return unknown


def open_replay(
    path: Path, speed: float, position: dict[str, Any] | None = None
) -> PacketReplay | LogReplay:
    """A recording as a source.

    Args:
        path: a pcap, a conn.log or a folder of either.
        speed: how many times faster than it happened; 0 for as fast as possible.
        position: of a batch, to go on behind it.

    Raises:
        UserError: there is nothing that can be read.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; expected a recording; check the path")
    pcaps = find_pcaps(path)
    return PacketReplay(pcaps, speed, position) if pcaps else LogReplay(path, speed, position)
