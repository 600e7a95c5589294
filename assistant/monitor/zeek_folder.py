"""Zeek's logs followed while they grow: through rotation, `current/`, packed archives, stops.

    logs/current/conn.log            grows; followed by its open file, which outlives a renaming
    logs/2026-11-27/conn.12:00:00-13:00:00.log.gz     where a stop missed a rotation: read from where it was

A log is known by its mark, a hash of its header (which says when it was opened), or of its first row
in JSON: so a file that was renamed, packed, or is there again on another disk is known again.
"""

import gzip
import hashlib
import io
import os
import re
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from assistant.monitor.replay import written_s
from assistant.monitor.source import Batch, Part, Trouble
from traffic.errors import UserError

_GROWING = re.compile(r"([a-z][a-z0-9_]*)\.log|(eve|alerts)\.json")  # these of Suricata and Slips
_ROTATED = re.compile(r"([a-z][a-z0-9_]*)[.-].+\.log(\.gz)?|([a-z][a-z0-9_]*)\.log\.gz")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_PIECE = 1 << 20
_LOOK_S = 5.0  # between searches for rotated files
_MOST_DONE = 2000


@dataclass
class _Log:
    """A log that is read: where, how far, and whether more may come."""

    name: str
    path: Path
    file: IO[bytes]
    mark: str
    head: bytes
    offset: int
    growing: bool


class ZeekFolder:
    """A folder of Zeek's logs as a source."""

    lateness_s, back_s, live = 10.0, 600.0, True

    def __init__(self, folder: Path, position: dict[str, Any] | None = None) -> None:
        """Begin with what the growing logs hold, or go on where ``position`` says.

        Raises:
            UserError: the folder does not exist at the first start.
        """
        if not folder.is_dir() and not position:
            raise UserError(
                f"{folder} is no folder; expected the one that Zeek writes its logs to; check the path"
            )
        self._folder = folder
        self._known: dict[str, tuple[str, int]] = {
            name: (mark, int(offset))
            for name, (mark, offset) in (position or {}).get("logs", {}).items()
        }
        self._done: dict[str, None] = dict.fromkeys((position or {}).get("done", []))
        self._logs: dict[str, list[_Log]] = {}
        self._looked_s = -_LOOK_S
        self._seen: dict[Path, tuple[int, int, int]] = {}
        if not position:
            # Archives of the past are history, not what happens now.
            marks = (_read_mark(path)[0] for path in self._rotated())
            self._done |= dict.fromkeys(mark for mark in marks if mark)

    # ---- Finding logs ----

    def _current(self) -> Path:
        inside = self._folder / "current"
        return inside if inside.is_dir() else self._folder

    def _rotated(self) -> list[Path]:
        """Rotated logs of the folder, of `current/` and of the two newest days, oldest first."""
        folders = [self._folder, self._current()]
        days = sorted(path for path in self._folder.iterdir() if _DAY.fullmatch(path.name))
        found = {
            path
            for folder in dict.fromkeys([*folders, *days[-2:]])
            for path in folder.iterdir()
            if _ROTATED.fullmatch(path.name) and path.is_file()
        }
        return sorted(found, key=lambda path: (path.stat().st_mtime, path.name))

    def _look(self) -> None:
        """Open logs that are new: those that grow, and rotated ones that were not read to their
        end."""
        current = self._current()
        for path in sorted(current.iterdir()):
            named = _GROWING.fullmatch(path.name)
            if named and path.is_file():
                self._follow(named[1] or named[2], path)
        if time.monotonic() - self._looked_s < _LOOK_S:
            return
        self._looked_s = time.monotonic()
        for path in self._rotated():
            there = path.stat()
            seen = (there.st_ino, there.st_size, there.st_mtime_ns)
            if self._seen.get(path) != seen:  # an archive is unpacked once to see whether it is new
                self._seen[path] = seen
                self._catch_up(path)

    def _follow(self, name: str, path: Path) -> None:
        logs = self._logs.setdefault(name, [])
        grown = [log for log in logs if log.growing]
        if grown:
            there, held = path.stat(), os.fstat(grown[-1].file.fileno())
            if (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino):
                if there.st_size < grown[-1].offset:  # written anew in its place
                    logs.remove(grown[-1])
                    grown[-1].file.close()
                return
            grown[-1].growing = False  # it was renamed: its end is read from the open file
        mark, head = _read_mark(path)
        if not mark or mark in self._done:
            return
        before, offset = self._known.get(name, ("", 0))
        self._open(name, path, mark, head, offset if mark == before else len(head), True)

    def _catch_up(self, path: Path) -> None:
        named = _ROTATED.fullmatch(path.name)
        mark, head = _read_mark(path)
        held = {log.mark for logs in self._logs.values() for log in logs}
        if not named or not mark or mark in self._done or mark in held:
            return
        name = named[1] or named[3]
        before, offset = self._known.get(name, ("", 0))
        self._open(name, path, mark, head, offset if mark == before else len(head), False)

    def _open(
        self, name: str, path: Path, mark: str, head: bytes, offset: int, growing: bool
    ) -> None:
        file = _open_file(path)
        file.seek(offset)
        log = _Log(name, path, file, mark, head, offset, growing)
        # Rotated ones first: they are older.
        logs = self._logs.setdefault(name, [])
        logs.insert(len(logs) if growing else sum(not one.growing for one in logs), log)

    # ---- Reading ----

    def read(self, wait_s: float) -> Batch:
        """The whole lines that were added."""
        parts, times, more = [], [], False
        troubles: list[Trouble] = []
        try:
            self._look()
        except OSError:
            self._let_go()
            time.sleep(wait_s)
            gone = Trouble("folder_gone", str(self._folder))
            return Batch(position=self._position(), troubles=(gone,))
        for logs in self._logs.values():
            for log in list(logs):
                data = self._read_lines(log, troubles)
                if data:
                    part, ts = _make_part(log, data)
                    parts.append(part)
                    times.append(ts)
                    more |= len(data) >= _PIECE // 2
                    break  # the next of this name begins where this one ended
                if log.growing:
                    break
                log.file.close()
                logs.remove(log)
                self._done[log.mark] = None
        if not parts:
            time.sleep(wait_s)
        while len(self._done) > _MOST_DONE:
            self._done.pop(next(iter(self._done)))
        ts = np.concatenate(times) if times else np.zeros(0)
        return Batch(tuple(parts), ts, self._position(), more, troubles=tuple(troubles))

    def _read_lines(self, log: _Log, troubles: list[Trouble]) -> bytes:
        """Whole lines from where the log was read to; at the end of a rotated one the rest too."""
        try:
            log.file.seek(log.offset)
            data = log.file.read(_PIECE)
        except (OSError, EOFError, zlib.error):
            troubles.append(Trouble("folder_gone", str(log.path)))
            data = b""
        whole = data.rfind(b"\n") + 1
        if not whole and data and not log.growing:
            log.offset += len(data)
            return data + b"\n"
        log.offset += whole
        self._known[log.name] = (log.mark, log.offset)
        return data[:whole]

    def _let_go(self) -> None:
        for log in self._each():
            log.file.close()
        self._logs, self._seen = {}, {}

    def _each(self) -> Iterator[_Log]:
        for logs in self._logs.values():
            yield from logs

    def _position(self) -> dict[str, Any]:
        return {
            "logs": {name: list(at) for name, at in self._known.items()},
            "done": list(self._done),
        }

    def close(self) -> None:
        """Close the files."""
        self._let_go()


def _make_part(log: _Log, data: bytes) -> tuple[Part, np.ndarray]:
    lines = [one for one in data.splitlines(keepends=True) if one.strip() and one[:1] != b"#"]
    ts = written_s(log.head.splitlines(keepends=True), lines, log.name)
    if ts is None:
        return Part(log.name, log.head, b"".join(lines)), np.zeros(0)
    known = pd.Series(ts).dropna().to_numpy()
    return Part(log.name, log.head, b"".join(lines)), known


def _open_file(path: Path) -> IO[bytes]:
    if path.name.endswith(".gz"):
        return gzip.open(path)  # type: ignore[return-value]
    return path.open("rb")


def _read_mark(path: Path) -> tuple[str, bytes]:
    """What a log is known by, and its header; nothing where neither is whole yet."""
    try:
        with _open_file(path) as file:
            start = file.read(1 << 16)
    except (OSError, EOFError, zlib.error):
        return "", b""
    head: list[bytes] = []
    rows = io.BytesIO(start)
    for line in rows:
        if not line.endswith(b"\n"):
            return "", b""
        if not line.startswith(b"#"):
            first = line if not head else b""
            return hashlib.sha256(b"".join(head) + first).hexdigest()[:16], b"".join(head)
        if line.startswith(b"#close"):
            break
        head.append(line)
    whole = any(line.startswith(b"#types") for line in head)
    return (hashlib.sha256(b"".join(head)).hexdigest()[:16], b"".join(head)) if whole else ("", b"")
