"""Intervals of truth: what happened to one device and when, and whether a list of them contradicts
itself.

One device has one truth at a time: two of its intervals overlap only where one is normal, or where
both tell the same (label, direction, kind and root).
"""

import contextlib
import csv
import ipaddress
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator

from traffic.capture import SAMPLE_S, Capture
from traffic.errors import UserError
from traffic.labels import FAULTS, LABELS, NORMAL, UNKNOWN
from traffic.samples import COUNTED, TROUBLE
from traffic.windows import Windows

INTERVAL_COLUMNS = ["device", "start_s", "end_s", "label", "direction", "cause"]


class Span(BaseModel):
    """What happened to one device, and when; what a user's CSV tells."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

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


@dataclass(frozen=True)
class Extent:
    """A time that intervals have to lie in: ``what`` lasts from ``start_s`` to ``end_s``."""

    what: str
    start_s: float
    end_s: float


def make_table(spans: Sequence[Span]) -> pd.DataFrame:
    """Spans as a table, shape (n, 6), ``INTERVAL_COLUMNS``: what
    ``traffic.datasets.truth.label_windows`` takes."""
    rows = [[getattr(span, name) for name in INTERVAL_COLUMNS] for span in spans]
    words = {name: "str" for name in INTERVAL_COLUMNS if not name.endswith("_s")}
    return pd.DataFrame(rows, columns=INTERVAL_COLUMNS).astype(
        {"start_s": float, "end_s": float} | words
    )


def check_spans(
    path: Path, spans: Sequence[Span], place: Callable[[int], str], extents: Sequence[Extent]
) -> None:
    """Refuse spans that end before they start, contradict each other, or lie outside a time.

    Args:
        path: the file they come from, for messages.
        spans: all of it.
        place: where the i-th stands in the file.
        extents: the times that all have to lie in.

    Raises:
        UserError: with the first mistake and the number of the others.
    """
    refuse(path, _reversed(spans, place))
    refuse(path, _contradictions(spans, place))
    for extent in extents:
        refuse(
            path,
            _outside(spans, place, extent),
            "take the truth of this capture, in its clock and zone",
        )


def refuse(path: Path, mistakes: Sequence[str], remedy: str = "correct the file") -> None:
    """Raise the first of the mistakes, if there are any, as a UserError that counts the others."""
    if mistakes:
        rest = len(mistakes) - 1
        more = f" (and {rest} more {'mistake' if rest == 1 else 'mistakes'})" if rest else ""
        raise UserError(f"{path}: {mistakes[0]}{more}; {remedy}")


def say_mistake(problem: Any) -> str:
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
    said = (
        str(problem["msg"])
        .removeprefix("Value error, ")
        .removeprefix("Input should be ")
        .removeprefix("expected ")
    )
    return f"{place or 'it'} is {_shortened(problem['input'])}; expected {said}"


def _shortened(value: Any, most: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}…"


def _reversed(spans: Sequence[Span], place: Callable[[int], str]) -> list[str]:
    return [
        f"{place(i)} ends at {span.end_s} and starts at {span.start_s}; expected an end after the start"
        for i, span in enumerate(spans)
        if span.end_s <= span.start_s
    ]


def _contradictions(spans: Sequence[Span], place: Callable[[int], str]) -> list[str]:
    mistakes: list[str] = []
    running: dict[str, list[int]] = {}
    told = [i for i, span in enumerate(spans) if span.label != NORMAL]
    for i in sorted(told, key=lambda i: spans[i].start_s):
        mine = [k for k in running.get(spans[i].device, []) if spans[k].end_s > spans[i].start_s]
        mistakes += [
            _overlap(spans, k, i, place) for k in mine if _story(spans[k]) != _story(spans[i])
        ]
        running[spans[i].device] = [*mine, i]
    return mistakes


def _overlap(spans: Sequence[Span], first: int, second: int, place: Callable[[int], str]) -> str:
    one, other = spans[first], spans[second]
    return (
        f"{place(first)} ({one.label}) and {place(second)} ({other.label}) of {one.device} overlap "
        f"from {other.start_s} to {min(one.end_s, other.end_s)}; expected one truth of a device at a time"
    )


def _story(span: Span) -> list[str]:
    return [getattr(span, name, "") for name in ("label", "direction", "kind", "root")]


def _outside(spans: Sequence[Span], place: Callable[[int], str], extent: Extent) -> list[str]:
    return [
        f"{place(i)} lasts from {span.start_s} to {span.end_s}; "
        f"expected within {extent.what}, {extent.start_s} to {extent.end_s}"
        for i, span in enumerate(spans)
        if span.start_s < extent.start_s or span.end_s > extent.end_s
    ]


# What is true of a recorded run: truth.json, and the CSV of intervals that a user writes beside a
# capture.
#
# truth.json is one object; all times are seconds since the epoch, unknown keys are refused:
#
# version 1 · seed · start_s, end_s of the run · complete: false if the run broke off · made_by: the
# command intervals: a list, one entry for each device that something happened to, and for as long
# as it happened
# device      IP address: who shows it
# direction   "source" it comes from the device, "target" the device suffers it, "" neither
# label       one of traffic.labels.LABELS; normal marks a routine that only looks like trouble, and
# unknown a time of which nobody can tell whether the device showed it: left out of training and
# scoring
# kind        what was done, as packet_loss or nmap_syn
# cause       one sentence
# parameters  what it was done with: plain JSON values
# root        IP address of the machine at the bottom of it
# start_s, end_s
#
# A user's CSV has the columns device, start_s, end_s and label, and may have direction and cause;
# its times are seconds or ISO 8601, UTC unless they name a zone.
#
# One device has one truth at a time: two of its intervals overlap only where one is normal, or
# where both tell the same (label, direction, kind and root). Intervals lie within the run, and
# within the capture up to a sample's width.

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
    """Write truth.json, whole or not at all: a run that is cut meanwhile keeps what was there
    before.

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
        truth = Truth.model_validate_json(_read_text(path, "a run's truth.json"), strict=True)
    except ValidationError as error:
        refuse(path, [say_mistake(problem) for problem in error.errors()])
        raise
    if not truth.complete and not allow_incomplete:
        raise UserError(
            f"{path}: complete is false, the run broke off; expected a whole run; record it again or leave it out"
        )
    if truth.end_s <= truth.start_s:
        refuse(
            path,
            [
                f"end_s is {truth.end_s} and start_s is {truth.start_s}; expected an end after the start"
            ],
        )
    extents = [
        Extent("the run", truth.start_s, truth.end_s),
        *_extents(capture_start_s, capture_end_s),
    ]
    check_spans(path, truth.intervals, lambda i: f"intervals[{i}]", extents)
    return truth


def make_intervals(truth: Truth) -> pd.DataFrame:
    """The intervals as a table, shape (n, 6), ``INTERVAL_COLUMNS``: what
    ``traffic.datasets.truth.label_windows`` takes."""
    return make_table(truth.intervals)


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
            mistakes += [
                f"line {reader.line_num}: {say_mistake(problem)}" for problem in error.errors()
            ]
    refuse(path, mistakes)
    lines = list(spans)
    check_spans(
        path,
        list(spans.values()),
        lambda i: f"line {lines[i]}",
        _extents(capture_start_s, capture_end_s),
    )
    return make_table(list(spans.values()))


def _extents(capture_start_s: float | None, capture_end_s: float | None) -> list[Extent]:
    """The capture's time, a sample wider: a run's first and last packets need not touch its
    ends."""
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
        raise UserError(
            f"{path} cannot be read ({why}); expected {wanted}; check the path"
        ) from None


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


# Join what is known to be true to windows: labels of flows, and intervals in which a device was at
# fault.
#
# A flow's label counts only where the flow was active. From a log that is known at its start and
# end; between them only if its packets are so many that every slot likely has one. The rest is
# `unknown`: left out of training and scoring.

# Poisson: at three packets a slot, 95 % of slots hold one.
LIKELY_PKTS = 3.0
_CODES = {name: code for code, name in enumerate((*LABELS, UNKNOWN))}
_DIRECTIONS = np.array(["", "source", "target"], dtype=object)
# Like a fault, a man in the middle opens no flow of its own: what tells it is the trouble that it
# makes.
_TOLD_BY_TROUBLE = (*FAULTS, "spoofing")


def label_samples(
    samples: pd.DataFrame,
    capture: Capture,
    flow_labels: pd.Series,
    intervals: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The label and direction of every sample.

    Args:
        samples: ``device``, ``start_s``, ...
        capture: the flows and the slots in which they were active.
        flow_labels: our label (or ``unknown``) of every flow, shape (n_flows,).
        intervals: ``device start_s end_s label direction``; a sample is covered if half of it is. A
            fault or spoofing counts where the device shows a trace of trouble, any other attack
            where it shows anything at all; the other samples covered are ``unknown``: there is
            nothing to tell by. Normal intervals change nothing.

    Returns:
        Shape (n_samples, 2): ``label``, ``direction``. A flow's label goes before an interval's,
        and among flows that of the most packets counts.
    """
    slot = np.rint(samples["start_s"].to_numpy() / SAMPLE_S).astype(np.int64)
    keys = pd.MultiIndex.from_arrays([samples["device"], slot])
    truth = pd.DataFrame({"label": NORMAL, "direction": ""}, index=keys, dtype=object)
    for known in (_from_intervals(samples, slot, intervals), _from_flows(capture, flow_labels)):
        rows = known.index.get_indexer(keys)
        truth.loc[rows >= 0] = known.to_numpy()[rows[rows >= 0]]
    return truth.reset_index(drop=True)


def label_windows(
    windows: Windows,
    capture: Capture,
    flow_labels: pd.Series,
    intervals: pd.DataFrame | None = None,
) -> Windows:
    """Add ``label`` and ``direction`` to a table of windows: the label other than normal that
    covers most samples.

    A window without such a label is ``unknown`` if one of its samples is, else ``normal``.
    """
    truth = label_samples(windows.samples, capture, flow_labels, intervals)
    codes = np.append(truth["label"].map(_CODES).to_numpy(np.int64), _CODES[NORMAL])[
        windows.rows
    ]  # (windows, 6)
    ways = np.append(
        truth["direction"].map({"": 0, "source": 1, "target": 2}).to_numpy(np.int64), 0
    )[windows.rows]
    counts = np.zeros((len(windows), len(_CODES)), np.int8)
    for place in range(codes.shape[1]):
        counts[np.arange(len(windows)), codes[:, place]] += 1
    unknown = counts[:, _CODES[UNKNOWN]] > 0
    counts[:, [_CODES[NORMAL], _CODES[UNKNOWN]]] = 0
    code = np.where(
        counts.any(axis=1),
        counts.argmax(axis=1),
        np.where(unknown, _CODES[UNKNOWN], _CODES[NORMAL]),
    )
    mine = codes == code[:, None]
    source, target = ((mine & (ways == way)).sum(axis=1) for way in (1, 2))
    direction = np.where(counts.any(axis=1), np.where(source >= target, 1, 2), 0)
    label = np.array([*LABELS, UNKNOWN], dtype=object)[code]
    return replace(
        windows, table=windows.table.assign(label=label, direction=_DIRECTIONS[direction])
    )


def _from_intervals(
    samples: pd.DataFrame, slot: np.ndarray, intervals: pd.DataFrame | None
) -> pd.DataFrame:
    """Samples at least half of which an interval covers; the later of two intervals counts."""
    middle, troubled = (slot + 0.5) * SAMPLE_S, _troubled(samples)
    active = (samples[list(COUNTED)] > 0).any(axis=1).to_numpy()
    parts = [pd.DataFrame({"device": [], "slot": [], "label": [], "direction": []}, dtype=object)]
    told = intervals[intervals["label"] != NORMAL] if intervals is not None else pd.DataFrame()
    for row in told.itertuples(index=False):
        shown = troubled if row.label in _TOLD_BY_TROUBLE else active
        inside = (
            (samples["device"] == row.device).to_numpy()
            & (middle >= row.start_s)
            & (middle < row.end_s)
        )
        label = np.where(shown[inside], row.label, UNKNOWN)
        direction = np.where(shown[inside], row.direction, "")
        parts.append(
            pd.DataFrame(
                {"slot": slot[inside], "device": row.device, "label": label, "direction": direction}
            )
        )
    known = pd.concat(parts).drop_duplicates(["device", "slot"], keep="last")
    return known.set_index(["device", "slot"])[["label", "direction"]]


def _troubled(samples: pd.DataFrame) -> np.ndarray:
    """Whether a sample shows anything a fault could be told by, shape (n_samples,): failures,
    silence, a peak."""
    quiet = (samples["quiet_slots"] > 0) & (samples["active_share"] >= 0.5)
    peak = samples["bytes_ratio"] >= 2
    return ((samples[list(TROUBLE)] > 0).any(axis=1) | quiet | peak).to_numpy()


def _from_flows(capture: Capture, flow_labels: pd.Series) -> pd.DataFrame:
    """Per device and slot, the label of its marked flows' most packets; source for who opened
    them."""
    flows = capture.flows
    marked = np.flatnonzero((flow_labels != NORMAL).to_numpy())
    active = _active(flows, capture.activity, marked)
    active["label"] = np.where(active["sure"], flow_labels.to_numpy()[active["flow"]], UNKNOWN)
    active["rank"] = np.where(active["label"] == UNKNOWN, -1, active["pkts"])
    ends = [
        active.assign(device=flows[column].to_numpy()[active["flow"]], direction=direction)
        for column, direction in (("id.orig_h", "source"), ("id.resp_h", "target"))
    ]
    cells = (
        pd.concat(ends)
        .groupby(["device", "slot", "label", "direction"], sort=False)["rank"]
        .sum()
        .reset_index()
    )
    cells = cells.sort_values("rank", kind="stable").drop_duplicates(
        ["device", "slot"], keep="last"
    )
    cells.loc[cells["label"] == UNKNOWN, "direction"] = ""
    return cells.set_index(["device", "slot"])[["label", "direction"]]


def _active(flows: pd.DataFrame, activity: pd.DataFrame, marked: np.ndarray) -> pd.DataFrame:
    """Every slot in a marked flow's span: ``flow slot pkts sure``."""
    ts = flows["ts"].to_numpy()[marked]
    duration = np.nan_to_num(flows["duration"].to_numpy(float)[marked], nan=0.0)
    first, last = (
        np.floor(ts / SAMPLE_S).astype(np.int64),
        np.floor((ts + duration) / SAMPLE_S).astype(np.int64),
    )
    span = last - first + 1
    place = np.arange(span.sum()) - np.repeat(np.cumsum(span) - span, span)
    spans = pd.DataFrame({"flow": np.repeat(marked, span), "slot": np.repeat(first, span) + place})
    pkts = activity.assign(pkts=activity["orig_pkts"] + activity["resp_pkts"]).set_index(
        ["flow", "slot"]
    )["pkts"]
    spans = spans.join(pkts, on=["flow", "slot"])
    edge = (place == 0) | (place == np.repeat(span - 1, span))
    total = spans.groupby("flow", sort=False)["pkts"].transform("sum")
    rate = total / np.repeat(span, span)
    spans["sure"] = edge | (spans["pkts"].notna() & (rate >= LIKELY_PKTS))
    spans["pkts"] = spans["pkts"].fillna(0) + 1
    return spans
