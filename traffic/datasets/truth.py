"""Intervals of truth: what happened to one device and when, and whether a list of them contradicts itself.

One device has one truth at a time: two of its intervals overlap only where one is normal, or where both tell the same
(label, direction, kind and root).
"""

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, field_validator

from traffic.errors import UserError
from traffic.labels import LABELS, NORMAL, UNKNOWN

__all__ = ["INTERVAL_COLUMNS", "Extent", "Span", "check_spans", "make_table", "refuse", "say_mistake"]

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
            raise ValueError(f"expected one of {', '.join(LABELS)}, or {UNKNOWN} where nobody can tell")
        return text


@dataclass(frozen=True)
class Extent:
    """A time that intervals have to lie in: ``what`` lasts from ``start_s`` to ``end_s``."""

    what: str
    start_s: float
    end_s: float


def make_table(spans: Sequence[Span]) -> pd.DataFrame:
    """Spans as a table, shape (n, 6), ``INTERVAL_COLUMNS``: what ``traffic.truth.label_windows`` takes."""
    rows = [[getattr(span, name) for name in INTERVAL_COLUMNS] for span in spans]
    words = {name: "str" for name in INTERVAL_COLUMNS if not name.endswith("_s")}
    return pd.DataFrame(rows, columns=INTERVAL_COLUMNS).astype({"start_s": float, "end_s": float} | words)


def check_spans(path: Path, spans: Sequence[Span], place: Callable[[int], str], extents: Sequence[Extent]) -> None:
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
        refuse(path, _outside(spans, place, extent), "take the truth of this capture, in its clock and zone")


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
    said = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Input should be ").removeprefix("expected ")
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
        mistakes += [_overlap(spans, k, i, place) for k in mine if _story(spans[k]) != _story(spans[i])]
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
