"""Facts from what devices say of themselves: kinds of log lines, clocks, sensor readings.

A log's words may be an attacker's. So a fact says how many lines of which kind and when, and never what they
say; ``quote_lines`` shows the words apart, quoted, cut short and without markup, to be read by people only.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from assistant.facts.fact import Fact, Value, make_fact
from assistant.facts.spells import quiet_spell
from assistant.facts.traffic_view import TrafficView
from traffic.device_logs.templates import VARIES

BACKGROUND = frozenset({"log", "log-clock"})  # kinds of facts that say no more than what was read
MOST_QUOTED = 3
WRONG_CLOCK = "log-clock-off"
_MOST_CHARS = 120
_NAME_CHARS = 40
_NEAR_S = 60.0  # of an incident
_FLOOD = (
    10  # lines of a new failure that speak against a healthy device; of a critical one it takes one
)
_CRITICAL = 2
_STILL_S = 60.0  # as long must a reading be frozen or absent to speak against it
_AGREES_S = 2.0
_MOST_MISSING = 0.01
_SEVERITIES = (
    "emergency", "alert", "critical", "error", "warning", "notice", "information", "debug",
)  # fmt: skip

_LINES = {
    "new": "The log of {name} holds {count:line} of one kind {when}, none in the {before_s} before it; {how} "
    "({source}, {place}).",
    "burst": "The log of {name} holds {count:line} of one kind {when}, as a rule {usual} a minute; {how} ({source}, "
    "{place}).",
}
_NUMBERS = " The first number in them runs from {low} to {high}, typically {typical}."
_CLOCKS = {
    "ahead": "The clock of the log of {name} is {apart_s} ahead of the capture's: {matched} of {checked:line} that "
    "can be compared with traffic then lie beside it; that is taken off these times.",
    "behind": "The clock of the log of {name} is {apart_s} behind the capture's: {matched} of {checked:line} that "
    "can be compared with traffic then lie beside it; that is added to these times.",
    "agrees": "The clock of the log of {name} agrees with the capture's: {matched} of {checked:line} that can "
    "be compared with traffic lie within {near_s} of it.",
    "unchecked": "The clock of the log of {name} could not be checked: too few of its lines name traffic.",
}
_LOG = "The log of {name} holds {lines:line} from {first_time_s} to {last_time_s} ({source})."
_READINGS = {
    "frozen": "{sensor} has not changed from {start_time_s} to {end_time_s} ({span_s}): {count:reading} of {value} "
    "in a row, where {usual} is usual{silent}.",
    "gap": "{sensor} gave no reading from {start_time_s} to {end_time_s} ({span_s}), where one comes every "
    "{period_s}{silent}.",
    "jump": "{sensor} jumped by {value} at {end_time_s}, where steps are {usual} at most as a rule{silent}.",
    "outlier": "{sensor} read {value} from {start_time_s} on ({count:reading}), beyond {usual}, its usual bound"
    "{silent}.",
}
_SILENT = ", while its device sent nothing from {quiet_time_s} to {again_time_s}"
_MISSING = "Of {readings:reading} of {sensor}, {missing} are no number."
_STANDS_STILL = {"frozen": "did not change", "gap": "gave no reading"}


def record_facts(
    view: TrafficView, device: str, start_s: float = -np.inf, end_s: float = np.inf
) -> list[Fact]:
    """What a device's own log and readings say, the strongest first; empty where it has none.

    A clock that is off comes before all, since times rest on it; how far a log goes and how its
    clock was checked comes last (``BACKGROUND``).

    Args:
        view: the capture.
        device: address.
        start_s: start of the time asked about: what lies in it comes first.
        end_s: end of it.
    """
    if not len(view.records.logs) and not len(view.records.sensors):
        return []
    logs, readings = _log_findings(view, device), _sensor_findings(view, device)
    near = [
        (table["start_s"] < end_s + _NEAR_S) & (table["end_s"] > start_s - _NEAR_S)
        for table in (logs, readings)
    ]
    facts = []
    for inside in (True, False):
        lines = [_line_fact(view, row) for row in logs[near[0] == inside].itertuples()]
        # One line first, then readings: a log has many words for one trouble.
        still = [_reading_fact(view, row) for row in readings[near[1] == inside].itertuples()]
        facts += [*lines[:1], *still, *lines[1:]]
    facts += _missing_facts(view, device)
    clocks = _clock_facts(view, device)
    wrong = [fact for fact in clocks if fact.id.startswith(WRONG_CLOCK)]
    return [*wrong, *facts, *(fact for fact in clocks if fact not in wrong)]


def quote_lines(view: TrafficView, device: str, facts: list[Fact]) -> list[Fact]:
    """The words of the kinds of lines that some facts count, as quotations.

    Args:
        view: the capture.
        device: address.
        facts: of ``record_facts``.
    """
    shown = {fact.id for fact in facts}
    quotes: list[Fact] = []
    for row in _log_findings(view, device).itertuples():
        if _line_fact(view, row).id not in shown or len(quotes) == MOST_QUOTED:
            continue
        known = view.records.templates
        words = known.loc[known["template"] == row.template, "words"]
        values: dict[str, Value] = {
            "name": view.name_of(device),
            "count": int(row.count),
            "words": quotable(str(words.iloc[0]) if len(words) else ""),
        }
        sentence = "{name}, {count:line}: \u201c{words}\u201d"
        quotes.append(make_fact("log-words", sentence, values))
    return quotes


def quotable(words: str, most: int = _MOST_CHARS) -> str:
    """Words of a template on one line, without markup or quotation marks, at most so many
    characters; an ellipsis stands for what varies.

    >>> quotable("poll of plc-<*> failed: **urgent** [1] \\u201cdo this\\u201d")
    "poll of plc-\\u2026 failed: urgent 1 'do this'"
    """
    plain = words.replace(VARIES, "\u2026")
    plain = re.sub('["\u201c\u201d\u201e\u201f\u00ab\u00bb]', "'", plain)
    plain = re.sub(r"https?://", "", plain)
    plain = re.sub(r"(\S{16})\S{16,}", "\\1\u2026", plain)  # keys and hashes
    # Printable text only: no controls, no bidirectional marks, no private use, no markup.
    plain = "".join(letter if letter.isprintable() else " " for letter in plain)
    plain = " ".join(re.sub(r"-{3,}|[*_`#|<>\[\]{}\\]", " ", plain).split())
    return plain if len(plain) <= most else plain[: most - 1].rstrip() + "\u2026"


@dataclass(frozen=True)
class Complaint:
    """Why a device is not called healthy though its traffic looks so.

    Attributes:
        kind: ``log``, ``reading``, ``calls`` or ``vain``.
        values: what a sentence about it needs: ``count`` and ``start_time_s`` of the lines;
            ``sensor``, ``what``, ``span_s`` and ``start_time_s`` of the reading; ``target`` and
            ``spacing_s`` of the calls; ``target``, ``calls`` and times of those in vain.
    """

    kind: str
    values: dict[str, Value]


def find_complaint(view: TrafficView, device: str) -> Complaint | None:
    """What a device's own records say against its being healthy: many lines of a new failure, or a
    reading that stands still; None where they say nothing."""
    logs = _log_findings(view, device)
    critical = (logs["severity"] >= 0) & (logs["severity"] <= _CRITICAL)
    loud = logs[logs["complains"] & ((logs["count"] >= _FLOOD) | critical)]
    if len(loud):
        count, start_s = int(loud["count"].sum()), float(loud["start_s"].min())
        return Complaint("log", {"count": count, "start_time_s": start_s})
    readings = _sensor_findings(view, device)
    still = readings[readings["kind"].isin(list(_STANDS_STILL)) & (readings["span_s"] >= _STILL_S)]
    if still.empty:
        return None
    longest = still.loc[still["span_s"].idxmax()]
    values: dict[str, Value] = {
        "sensor": _name(longest["sensor"]),
        "what": _STANDS_STILL[longest["kind"]],
        "span_s": float(longest["span_s"]),
        "start_time_s": float(longest["start_s"]),
    }
    return Complaint("reading", values)


def _log_findings(view: TrafficView, device: str) -> pd.DataFrame:
    found = view.records.log_findings
    return found[found["device"] == device]


def _sensor_findings(view: TrafficView, device: str) -> pd.DataFrame:
    """One row per sensor and kind, the longest; frozen and absent readings first."""
    found = view.records.sensor_findings
    mine = found[found["device"] == device]
    mine = mine.assign(span_s=mine["end_s"] - mine["start_s"])
    mine = mine.sort_values(["span_s", "count"], ascending=False, kind="stable")
    mine = mine.drop_duplicates(["sensor", "kind"])
    order = mine["kind"].map({kind: n for n, kind in enumerate(_READINGS)})
    return mine.assign(order=order).sort_values("order", kind="stable")


def _line_fact(view: TrafficView, row: Any) -> Fact:
    once = row.start_s == row.end_s or row.count == 1
    lines = row.first_line == row.last_line
    told = row.severity >= 0
    failure = "its words are of a failure" if row.complains else "it tells no severity"
    values: dict[str, Value] = {
        "name": view.name_of(row.device),
        "count": int(row.count),
        "when": "",
        "start_time_s": row.start_s,
        "end_time_s": row.end_s,
        "before_s": row.before_s,
        "usual": row.usual_per_min,
        "how": f"its severity is {_SEVERITIES[row.severity]}" if told else failure,
        "source": _source_of(view, row.log),
        "place": "",
        "first_line": int(row.first_line),
        "last_line": int(row.last_line),
    }
    sentence = _LINES[row.kind]
    when = "at {start_time_s}" if once else "between {start_time_s} and {end_time_s}"
    place = "line {first_line}" if lines else "lines {first_line} to {last_line}"
    sentence = sentence.replace("{when}", when).replace("{place}", place)
    if row.count > 1 and row.low < row.high:
        values |= {"low": row.low, "typical": row.typical, "high": row.high}
        sentence += _NUMBERS
    used = {name: value for name, value in values.items() if value != ""}
    return make_fact(f"log-{row.kind}", sentence, used)


def _reading_fact(view: TrafficView, row: Any) -> Fact:
    values: dict[str, Value] = {
        "sensor": _name(row.sensor),
        "start_time_s": row.start_s,
        "end_time_s": row.end_s,
        "span_s": row.end_s - row.start_s,
        "count": int(row.count),
        "usual": row.usual,
        "period_s": row.usual,
    }
    if np.isfinite(row.value):
        values["value"] = row.value
    quiet = quiet_spell(view, row.device, row.start_s, row.end_s) if row.device else None
    if quiet:
        values |= {"quiet_time_s": quiet[0], "again_time_s": quiet[1]}
    sentence = _READINGS[row.kind].replace("{silent}", _SILENT if quiet else "")
    return make_fact(f"reading-{row.kind}", sentence, values)


def _missing_facts(view: TrafficView, device: str) -> list[Fact]:
    sensors = view.records.sensors
    mine = sensors[sensors["device"] == device]
    holes = mine[mine["missing"] > _MOST_MISSING * mine["readings"]]
    return [
        make_fact(
            "reading-missing",
            _MISSING,
            {"sensor": _name(row.sensor), "readings": row.readings, "missing": row.missing},
        )
        for row in holes.itertuples()
    ]


def _clock_facts(view: TrafficView, device: str) -> list[Fact]:
    """How far a log goes and how its clock runs."""
    logs = view.records.logs
    facts = []
    for row in logs[logs["device"] == device].itertuples():
        values: dict[str, Value] = {
            "name": view.name_of(device),
            "source": _name(row.source),
            "lines": row.lines,
            "first_time_s": row.start_s,
            "last_time_s": row.end_s,
            "matched": row.matched,
            "checked": row.checked,
            "near_s": _AGREES_S,
        }
        kind = "unchecked"
        if np.isfinite(row.offset_s):
            values["apart_s"] = abs(row.offset_s)
            signs = {0.0: "agrees", 1.0: "ahead", -1.0: "behind"}
            kind = signs[float(np.sign(row.offset_s))]
        off = kind in ("ahead", "behind")
        facts.append(make_fact("log", _LOG, values))
        facts.append(make_fact(WRONG_CLOCK if off else "log-clock", _CLOCKS[kind], values))
    return facts


def _source_of(view: TrafficView, log: int) -> str:
    logs = view.records.logs
    return _name(str(logs.loc[logs["log"] == log, "source"].iloc[0]))


def _name(text: str) -> str:
    return quotable(text, _NAME_CHARS)
