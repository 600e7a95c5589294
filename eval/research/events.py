"""What an operator gets of recorded plants: windows alarmed, and events found, in time, by name.

    python -m eval.research.events RUN... [--adapter FOLDER] [--out FILE]

Runs are those of `faultwise testbed run`; one that the adapter learned from or was calibrated on is
refused. An event counts where its label is true of at least one window: what no window shows nobody
can find. It is found by an incident of its time that names one of those concerned.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from assistant.detection.pipeline import Analysis, analyse_capture
from assistant.llm.adapters import POCKET, AdapterCard, load_adapter
from assistant.llm.local import LocalLLM
from eval.detection.alarms import is_accounted
from eval.report.tables import ReportTable, render_table
from eval.research.command import Out, publish, start
from traffic.datasets import load_marked, name_capture
from traffic.datasets.labelling import label_windows
from traffic.datasets.truth import Truth, make_intervals, read_truth
from traffic.errors import UserError
from traffic.labels import LABELS, NORMAL, UNKNOWN

log = logging.getLogger(__name__)

_IN_TIME_S = 120.0
_SLACK_S = 60.0  # a window's length, before and after
_SHARES = ("alarmed", "named", "right_name")


@dataclass(frozen=True)
class Judged:
    """One run.

    Attributes:
        windows: of known truth: ``label alarmed named right_name``.
        events: ``label kind found in_time device named``, one row each.
        incidents: how many there are, and ``false``, how many that no event accounts for.
        device_hours: of the plant's devices.
    """

    windows: pd.DataFrame
    events: pd.DataFrame
    incidents: int
    false: int
    device_hours: float


def judge_run(folder: Path, llm: LocalLLM, card: AdapterCard) -> Judged:
    """Analyse a recorded run as serving does, and hold it against its truth.

    Args:
        folder: with capture.pcap, truth.json and plant.yaml.
        llm: the model with the card's adapter.
        card: what it was trained on.

    Raises:
        UserError: it is no complete run, or the adapter knows it.
    """
    path = folder / "capture.pcap"
    if name_capture(path) in (*card.data, *card.split.get("calibrate", ())):
        raise UserError(
            f"{folder} was learned from or calibrated on by {card.name}; expected a run that it "
            "never saw; leave it out"
        )
    marked = load_marked(path)
    truth = read_truth(folder / "truth.json")
    intervals = make_intervals(truth.intervals)
    analysis = analyse_capture(marked.capture, llm, card, marked.plant)
    flows = pd.Series(NORMAL, index=marked.capture.flows.index)  # a run's truth is of devices
    true = label_windows(analysis.windows, marked.capture, flows, intervals).table
    events = [_find_event(one, analysis, true) for one in _group_events(truth)]
    shown = [event for event in events if event]
    odd = intervals[intervals["label"] != NORMAL]
    false = sum(not is_accounted(one, odd) for one in analysis.incidents)
    devices = len(marked.plant.devices) if marked.plant else 0
    hours = devices * (truth.end_s - truth.start_s) / 3600
    windows = _compare_windows(true["label"], analysis.verdicts)
    columns = ["label", "kind", "found", "in_time", "device", "named"]
    table = pd.DataFrame(shown, columns=columns)
    return Judged(windows, table, len(analysis.incidents), false, hours)


def _compare_windows(true: pd.Series, verdicts: pd.DataFrame) -> pd.DataFrame:
    label, said = true.to_numpy(object), verdicts["label"].to_numpy(object)
    alarmed = said != NORMAL
    named = alarmed & ~verdicts["abstained"].to_numpy(bool)
    table = pd.DataFrame({"label": label, "alarmed": alarmed, "named": named})
    return table.assign(right_name=named & (said == label))[label != UNKNOWN]


@dataclass(frozen=True)
class _Event:
    label: str
    kind: str
    causes: frozenset[str]  # the root, and who does the same: each sender of a flood from many
    devices: frozenset[str]
    start_s: float
    end_s: float


def _group_events(truth: Truth) -> list[_Event]:
    """Intervals of one kind and cause are one event, whoever takes part."""
    groups: dict[tuple[str, str, str], list] = {}
    for one in truth.intervals:
        if one.label not in (NORMAL, UNKNOWN):
            groups.setdefault((one.label, one.kind, one.cause), []).append(one)
    return [
        _Event(
            label=label,
            kind=kind,
            causes=frozenset(
                {group[0].root, *(one.device for one in group if one.direction == "source")}
            ),
            devices=frozenset({group[0].root, *(one.device for one in group)}),
            start_s=min(one.start_s for one in group),
            end_s=max(one.end_s for one in group),
        )
        for (label, kind, _), group in groups.items()
    ]


def _find_event(event: _Event, analysis: Analysis, true: pd.DataFrame) -> tuple | None:
    """Whether it was found and how well; None where no window shows it."""
    windows = true[(true["start_s"] < event.end_s) & (true["end_s"] > event.start_s)]
    shown = (windows["label"] == event.label) & windows["device"].isin(event.devices)
    if not shown.any():
        return None
    hits = [
        one
        for one in analysis.incidents
        if one.start_s < event.end_s + _SLACK_S / 2
        and one.end_s > event.start_s - _SLACK_S / 2
        and not event.devices.isdisjoint({one.device, *one.related, *one.peers})
    ]
    soon = [one for one in hits if one.start_s <= event.start_s + _IN_TIME_S]
    # A victim's incident names who does it first among its peers.
    aimed = any(not event.causes.isdisjoint({one.device, *one.peers[:1]}) for one in hits)
    named = any(one.label == event.label for one in hits)
    return event.label, event.kind, bool(hits), bool(soon), aimed, named


# ---- The report ----


def render_found(runs: Sequence[Judged], command: str) -> str:
    """Markdown about runs that were judged.

    Args:
        runs: at least one.
        command: by which it was made.
    """
    windows = pd.concat([one.windows for one in runs], ignore_index=True)
    events = pd.concat([one.events for one in runs], ignore_index=True)
    rows = [
        _row(label, windows[windows["label"] == label], events[events["label"] == label])
        for label in LABELS[1:]
        if (windows["label"] == label).any()
    ]
    odd = windows["label"] != NORMAL
    rows.append(_row("all", windows[odd], events))
    calm = windows[~odd]
    heads = (
        *("label", "windows", "alarmed", "of these named", "of these rightly", "events", "found"),
        *("within two minutes", "at the right device", "rightly named"),
    )
    incidents, false = sum(one.incidents for one in runs), sum(one.false for one in runs)
    hours = sum(one.device_hours for one in runs)
    notes = (
        f"Of {len(calm):,} normal windows {calm['alarmed'].mean():.2%} were alarmed.",
        f"{incidents} incidents in {hours:.0f} device-hours; {false} that no event accounts for.",
        f"Made by `{command}` from {len(runs)} recorded runs that the adapter never saw.",
    )
    return render_table(ReportTable("What is found", heads, tuple(rows), notes=notes)) + "\n"


def _row(label: str, windows: pd.DataFrame, events: pd.DataFrame) -> tuple[str, ...]:
    alarmed, named, right = (int(windows[name].sum()) for name in _SHARES)
    shares = [_percent(alarmed, len(windows)), _percent(named, alarmed), _percent(right, named)]
    found = [_percent(int(events[name].sum()), len(events)) for name in events.columns[2:]]
    return (label, f"{len(windows):,}", *shares, str(len(events)), *found)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "–"


def main(runs: list[Path], adapter: Path = POCKET, out: Out = None) -> None:
    """Judge runs and print or write the report."""
    llm, card = load_adapter(adapter)
    judged = []
    for folder in runs:
        judged.append(judge_run(folder, llm, card))
        log.info("%s is judged", folder)
    report = render_found(judged, "python -m eval.research.events RUN...")
    publish(report, out)


if __name__ == "__main__":
    start(main)
