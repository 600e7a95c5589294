"""What is true of a recorded run: truth.json, and the CSV of intervals that a user writes beside a capture.

truth.json is one object; all times are seconds since the epoch, unknown keys are refused:

    version 1 · seed · start_s, end_s of the run · complete: false if the run broke off · made_by: the command
    intervals: a list, one entry for each device that something happened to, and for as long as it happened
        device      IP address: who shows it
        direction   "source" it comes from the device, "target" the device suffers it, "" neither
        label       one of traffic.labels.LABELS; normal marks a routine that only looks like trouble, and unknown a
                    time of which nobody can tell whether the device showed it: left out of training and scoring
        kind        what was done, as packet_loss or nmap_syn
        cause       one sentence
        parameters  what it was done with: plain JSON values
        root        IP address of the machine at the bottom of it
        start_s, end_s

A user's CSV has the columns device, start_s, end_s and label, and may have direction and cause; its times are seconds
or ISO 8601, UTC unless they name a zone.

One device has one truth at a time: two of its intervals overlap only where one is normal, or where both tell the same
(label, direction, kind and root). Intervals lie within the run, and within the capture up to a sample's width.
"""

import contextlib
import csv
import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from traffic.capture import SAMPLE_S
from traffic.datasets.truth import INTERVAL_COLUMNS, Extent, Span, check_spans, make_table, refuse, say_mistake
from traffic.errors import UserError

__all__ = ["Interval", "Truth", "make_intervals", "read_intervals", "read_truth", "write_truth"]

_NEEDED = INTERVAL_COLUMNS[:4]


class Interval(Span):
    """An entry of truth.json."""

    direction: Literal["source", "target", ""]
    kind: str = Field(min_length=1)
    cause: str = Field(min_length=1)
    parameters: dict[str, JsonValue]
    root: str


class Truth(BaseModel):
    """A whole truth.json."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    version: Literal[1] = 1
    seed: int
    start_s: float
    end_s: float
    complete: bool
    made_by: str
    intervals: tuple[Interval, ...]


def write_truth(truth: Truth, path: Path) -> None:
    """Write truth.json, whole or not at all: a run that is cut meanwhile keeps what was there before.

    Raises:
        UserError: it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8") as stream:
            stream.write(truth.model_dump_json(indent=1) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise UserError(
            f"{path} cannot be written ({error.strerror}); expected a folder with room; free some and record again"
        ) from error


def read_truth(
    path: Path | str,
    capture_start_s: float | None = None,
    capture_end_s: float | None = None,
    allow_incomplete: bool = False,
) -> Truth:
    """Read and check truth.json.

    Args:
        path: the file.
        capture_start_s: when the capture begins; without it only the run's own times bound the intervals.
        capture_end_s: when it ends.
        allow_incomplete: take a run that broke off, whose capture may end early.

    Raises:
        UserError: it is missing, no JSON, of another form, contradicts itself or the capture, or is incomplete.
    """
    path = Path(path)
    try:
        truth = Truth.model_validate_json(_read_text(path, "a run's truth.json"), strict=True)
    except ValidationError as error:
        refuse(path, [say_mistake(problem) for problem in error.errors()])
        raise
    if not truth.complete and not allow_incomplete:
        raise UserError(
            f"{path}: complete is false, the run broke off; expected a whole run; record it again or leave it out"
        )
    if truth.end_s <= truth.start_s:
        refuse(path, [f"end_s is {truth.end_s} and start_s is {truth.start_s}; expected an end after the start"])
    extents = [Extent("the run", truth.start_s, truth.end_s), *_extents(capture_start_s, capture_end_s)]
    check_spans(path, truth.intervals, lambda i: f"intervals[{i}]", extents)
    return truth


def make_intervals(truth: Truth) -> pd.DataFrame:
    """The intervals as a table, shape (n, 6), ``INTERVAL_COLUMNS``: what ``traffic.truth.label_windows`` takes."""
    return make_table(truth.intervals)


def read_intervals(
    path: Path | str, capture_start_s: float | None = None, capture_end_s: float | None = None
) -> pd.DataFrame:
    """Read and check a user's CSV of intervals; a file with a header alone says that nothing happened.

    Returns:
        Shape (n, 6), ``INTERVAL_COLUMNS``, in the order of the file.

    Raises:
        UserError: it is missing, a column or a value is wrong, or it contradicts itself or the capture, with the line.
    """
    path = Path(path)
    reader = csv.reader(_read_text(path, "a CSV of intervals").splitlines())
    header = [name.strip() for name in next(reader, [])]
    _check_header(path, header)
    spans: dict[int, Span] = {}
    mistakes: list[str] = []
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            mistakes.append(f"line {reader.line_num} has {len(row)} fields; expected {len(header)}")
            continue
        try:
            spans[reader.line_num] = _read_span(dict(zip(header, map(str.strip, row), strict=True)))
        except ValidationError as error:
            mistakes += [f"line {reader.line_num}: {say_mistake(problem)}" for problem in error.errors()]
    refuse(path, mistakes)
    lines = list(spans)
    check_spans(path, list(spans.values()), lambda i: f"line {lines[i]}", _extents(capture_start_s, capture_end_s))
    return make_table(list(spans.values()))


def _extents(capture_start_s: float | None, capture_end_s: float | None) -> list[Extent]:
    """The capture's time, a sample wider: a run's first and last packets need not touch its ends."""
    if capture_start_s is None and capture_end_s is None:
        return []
    start_s = -math.inf if capture_start_s is None else capture_start_s - SAMPLE_S
    end_s = math.inf if capture_end_s is None else capture_end_s + SAMPLE_S
    return [Extent("the capture", start_s, end_s)]


def _read_text(path: Path, wanted: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UserError(f"{path} cannot be read ({why}); expected {wanted}; check the path") from None


def _check_header(path: Path, header: list[str]) -> None:
    missing = [name for name in _NEEDED if name not in header]
    unknown = [name for name in header if name not in INTERVAL_COLUMNS]
    if missing or unknown or len(set(header)) < len(header):
        raise UserError(
            f"{path}: line 1 names {', '.join(header) or 'no column'}; "
            f"expected {', '.join(_NEEDED)} and perhaps direction, cause, each once; correct the header"
        )


def _read_span(row: dict[str, str]) -> Span:
    times = {name: _seconds(row[name]) for name in ("start_s", "end_s")}
    return Span.model_validate({**row, **times})


def _seconds(text: str) -> Any:
    """Seconds since the epoch; the text itself where it is no time, for pydantic to refuse."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return text
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
