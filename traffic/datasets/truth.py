"""What is true of a capture: truth.json of a recorded run, and the CSV of intervals of a user.

truth.json is one object; all times are seconds since the epoch, unknown keys are refused:

    version     1
    seed
    start_s, end_s  of the run
    complete    false if the run broke off
    made_by     the command
    intervals   one for each device that something happened to, and for as long as it happened:
        device      IP address: who shows it
        direction   "source" it comes from the device, "target" the device suffers it, "" neither
        label       one of traffic.labels.LABELS; normal marks a routine that only looks like
                    trouble, unknown a time of which nobody can tell whether the device showed it:
                    left out of training and scoring
        kind        what was done, as packet_loss or nmap_syn
        cause       one sentence
        parameters  what it was done with: plain JSON values
        root        IP address of the machine at the bottom of it
        start_s, end_s

A user's CSV has the columns device, start_s, end_s and label, and may have direction and cause; its
times are seconds or ISO 8601, UTC unless they name a zone.

One device has one truth at a time: two of its intervals overlap only where one is normal, or where
both tell the same (label, direction, kind and root). Intervals lie within the run, and within the
capture up to a sample's width.
"""

import csv
import ipaddress
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field, JsonValue, ValidationError, field_validator

from traffic.capture import SAMPLE_S
from traffic.errors import UserError
from traffic.files import Strict, read_text, write_text
from traffic.labels import LABELS, NORMAL, UNKNOWN

INTERVAL_COLUMNS = ["device", "start_s", "end_s", "label", "direction", "cause"]
_NEEDED = INTERVAL_COLUMNS[:4]
_SHOWN_CHARS = 60  # of a wrong value, in a message


class Span(Strict):
    """What happened to one device, and when: a row of a user's CSV."""

    device: str
    start_s: float
    end_s: float
    label: str
    direction: Literal["source", "target", ""] = ""
    cause: str = ""

    @field_validator("device", "root", check_fields=False)
    @classmethod
    def _is_address(cls, text: str) -> str:
        try:
            return str(ipaddress.ip_address(text.strip()))
        except ValueError:
            raise ValueError("expected an IP address") from None

    @field_validator("label")
    @classmethod
    def _is_label(cls, text: str) -> str:
        if text not in (*LABELS, UNKNOWN):
            raise ValueError(
                f"expected one of {', '.join(LABELS)}, or {UNKNOWN} where nobody can tell"
            )
        return text


class Interval(Span):
    """An entry of truth.json."""

    direction: Literal["source", "target", ""]
    kind: str = Field(min_length=1)
    cause: str = Field(min_length=1)
    parameters: dict[str, JsonValue]
    root: str


class Truth(Strict):
    """A whole truth.json."""

    version: Literal[1] = 1
    seed: int
    start_s: float
    end_s: float
    complete: bool
    made_by: str
    intervals: tuple[Interval, ...]


def write_truth(truth: Truth, path: Path) -> None:
    """Write truth.json, whole or not at all: a run that is cut meanwhile keeps what was there.

    Raises:
        UserError: it cannot be written.
    """
    write_text(path, truth.model_dump_json(indent=1) + "\n")


def read_truth(
    path: Path | str,
    capture_start_s: float | None = None,
    capture_end_s: float | None = None,
    allow_incomplete: bool = False,
) -> Truth:
    """Read and check truth.json.

    Args:
        path: the file.
        capture_start_s: when the capture begins; without it only the run's own times bound the
            intervals.
        capture_end_s: when it ends.
        allow_incomplete: take a run that broke off, whose capture may end early.

    Raises:
        UserError: it is missing, no JSON, of another form, contradicts itself or the capture, or is
            incomplete.
    """
    path = Path(path)
    try:
        truth = Truth.model_validate_json(_read(path, "a run's truth.json"), strict=True)
    except ValidationError as error:
        _refuse(path, [_say_mistake(problem) for problem in error.errors()])
        raise
    if not truth.complete and not allow_incomplete:
        raise UserError(
            f"{path}: complete is false, the run broke off; expected a whole run; record it again or leave it out"
        )
    run = _Extent("the run", truth.start_s, truth.end_s)
    if run.end_s <= run.start_s:
        mistake = (
            f"end_s is {run.end_s} and start_s is {run.start_s}; expected an end after the start"
        )
        _refuse(path, [mistake])
    extents = [run, _capture_extent(capture_start_s, capture_end_s)]
    _check_spans(path, truth.intervals, lambda i: f"intervals[{i}]", extents)
    return truth


def read_intervals(
    path: Path | str, capture_start_s: float | None = None, capture_end_s: float | None = None
) -> pd.DataFrame:
    """Read and check a user's CSV of intervals; a file with a header alone says that nothing
    happened.

    Returns:
        Shape (n, 6), ``INTERVAL_COLUMNS``, in the order of the file.

    Raises:
        UserError: it is missing, a column or a value is wrong, or it contradicts itself or the
            capture, with the line.
    """
    path = Path(path)
    reader = csv.reader(_read(path, "a CSV of intervals").splitlines())
    header = [name.strip() for name in next(reader, [])]
    _check_header(path, header)
    spans: dict[int, Span] = {}
    mistakes: list[str] = []
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        line = reader.line_num
        if len(row) != len(header):
            mistakes.append(f"line {line} has {len(row)} fields; expected {len(header)}")
            continue
        values: dict[str, Any] = dict(zip(header, map(str.strip, row), strict=True))
        values |= {name: _seconds(values[name]) for name in ("start_s", "end_s")}
        try:
            spans[line] = Span.model_validate(values)
        except ValidationError as error:
            mistakes += [f"line {line}: {_say_mistake(problem)}" for problem in error.errors()]
    _refuse(path, mistakes)
    lines, found = list(spans), list(spans.values())
    extents = [_capture_extent(capture_start_s, capture_end_s)]
    _check_spans(path, found, lambda i: f"line {lines[i]}", extents)
    return make_intervals(found)


def make_intervals(spans: Sequence[Span]) -> pd.DataFrame:
    """Spans as a table, shape (n, 6), ``INTERVAL_COLUMNS``, as ``label_windows`` takes it."""
    rows = [[getattr(span, name) for name in INTERVAL_COLUMNS] for span in spans]
    types = {name: float if name.endswith("_s") else "str" for name in INTERVAL_COLUMNS}
    return pd.DataFrame(rows, columns=INTERVAL_COLUMNS).astype(types)


def _read(path: Path, expected: str) -> str:
    return read_text(path, expected).removeprefix("\ufeff")  # as spreadsheets write it


def _check_header(path: Path, header: list[str]) -> None:
    missing = [name for name in _NEEDED if name not in header]
    unknown = [name for name in header if name not in INTERVAL_COLUMNS]
    if missing or unknown or len(set(header)) < len(header):
        raise UserError(
            f"{path}: line 1 names {', '.join(header) or 'no column'}; "
            f"expected {', '.join(_NEEDED)} and perhaps direction, cause, each once; correct the header"
        )


def _seconds(text: str) -> float | str:
    """Seconds since the epoch; the text itself where it is no time, for pydantic to refuse."""
    for read in (float, datetime.fromisoformat):
        try:
            time = read(text)
        except ValueError:
            continue
        if isinstance(time, float):
            return time
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    return text


# ---- Mistakes of a file, each with its place ----


@dataclass(frozen=True)
class _Extent:
    """A time that intervals have to lie in: ``what`` lasts from ``start_s`` to ``end_s``."""

    what: str
    start_s: float
    end_s: float


def _capture_extent(start_s: float | None, end_s: float | None) -> _Extent:
    """The capture's time, a sample wider: a run's first and last packets need not touch its
    ends."""
    first_s = -math.inf if start_s is None else start_s - SAMPLE_S
    last_s = math.inf if end_s is None else end_s + SAMPLE_S
    return _Extent("the capture", first_s, last_s)


def _check_spans(
    path: Path, spans: Sequence[Span], place: Callable[[int], str], extents: Sequence[_Extent]
) -> None:
    """Refuse spans that end before they start, contradict each other, or lie outside an extent.

    ``place`` says where the i-th stands in the file.
    """
    reversed_ = [
        f"{place(i)} ends at {span.end_s} and starts at {span.start_s}; expected an end after the start"
        for i, span in enumerate(spans)
        if span.end_s <= span.start_s
    ]
    _refuse(path, reversed_)
    _refuse(path, _contradictions(spans, place))
    for extent in extents:
        outside = [
            f"{place(i)} lasts from {span.start_s} to {span.end_s}; "
            f"expected within {extent.what}, {extent.start_s} to {extent.end_s}"
            for i, span in enumerate(spans)
            if span.start_s < extent.start_s or span.end_s > extent.end_s
        ]
        _refuse(path, outside, "take the truth of this capture, in its clock and zone")


def _contradictions(spans: Sequence[Span], place: Callable[[int], str]) -> list[str]:
    def story(span: Span) -> list[str]:
        return [getattr(span, name, "") for name in ("label", "direction", "kind", "root")]

    mistakes: list[str] = []
    running: dict[str, list[int]] = {}
    events = [i for i, span in enumerate(spans) if span.label != NORMAL]
    for i in sorted(events, key=lambda i: spans[i].start_s):
        mine, device = spans[i], spans[i].device
        others = [k for k in running.get(device, []) if spans[k].end_s > mine.start_s]
        mistakes += [
            f"{place(k)} ({spans[k].label}) and {place(i)} ({mine.label}) of {device} overlap from "
            f"{mine.start_s} to {min(spans[k].end_s, mine.end_s)}; expected one truth of a device at a time"
            for k in others
            if story(spans[k]) != story(mine)
        ]
        running[device] = [*others, i]
    return mistakes


def _refuse(path: Path, mistakes: Sequence[str], remedy: str = "correct the file") -> None:
    """Raise the first of the mistakes, if there are any, as a UserError that counts the others."""
    if mistakes:
        rest = len(mistakes) - 1
        more = f" (and {rest} more {'mistake' if rest == 1 else 'mistakes'})" if rest else ""
        raise UserError(f"{path}: {mistakes[0]}{more}; {remedy}")


def _say_mistake(problem: Any) -> str:
    """A mistake that pydantic found, as its JSON path, its value, and what was expected."""
    steps = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in problem["loc"]]
    place, kind = "".join(steps).lstrip("."), problem["type"]
    if kind == "json_invalid":
        return f"it is not JSON ({problem['ctx']['error']}); expected an object as `faultwise testbed record` writes it"
    if kind == "missing":
        return f"{place} is missing; expected it"
    if kind == "extra_forbidden":
        return f"{place} is no known key; expected only those of its form"
    if kind == "float_parsing":
        return f"{place} is {problem['input']!r}; expected seconds since the epoch or an ISO time"
    wanted = str(problem["msg"])
    for words in ("Value error, ", "Input should be ", "expected "):
        wanted = wanted.removeprefix(words)
    value = repr(problem["input"])
    shown = value if len(value) <= _SHOWN_CHARS else f"{value[:_SHOWN_CHARS]}…"
    return f"{place or 'it'} is {shown}; expected {wanted}"
