"""How long after a fault's first packets its alarm is raised, kind by kind, and where the seconds go.

    python -m eval.research.alarm_delay RUN... [--minutes 15] [--out FILE]

RUN is a folder of the testbed: its packets, its inventory, its truth; or a capture of a plant to which
nothing happens: then all that is raised is false. A monitor reads it as it reads
a plant, one slot of ten seconds after the other, with nothing but the packets of the slots so far.
The recording's clock tells when an alarm is raised; the CPU that it takes is measured on this machine,
whatever else runs there. The page shows what is raised at its next look, a second later at the most.
"""

import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from assistant.app.page import REFRESH_S
from assistant.monitor.alarm_list import Alarm
from assistant.monitor.replay import Clock, PacketReplay
from assistant.monitor.sensor import SENSOR
from assistant.monitor.watched import Bounds
from assistant.session import Models, load_models
from assistant.settings import Settings
from eval.report.tables import ReportTable, render_table
from eval.research.command import Out, publish, start
from eval.research.endurance import Step, watch_steps
from traffic.datasets.truth import Interval, read_truth
from traffic.labels import NORMAL, UNKNOWN
from traffic.reader import find_pcaps

AIM_S = 12.0
_LATEST_S = 120.0  # after an event's end: what is raised then is of something else


@dataclass(frozen=True)
class Event:
    """What happened once: one cause, its devices, its time."""

    label: str
    kind: str
    cause: str
    devices: frozenset[str]
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Stage:
    """When an event was told for the first time, as a notification or as an alarm.

    Attributes:
        how: ``rule`` where packets alone bear it, ``model`` where windows of its label do (a rule
            may too).
        label: what it was called.
        slots_s: from the event's first moment to that in which its traffic was looked at.
        work_s: of CPU until it was kept, on this machine: no less than it takes where nothing else runs.
    """

    how: str
    label: str
    slots_s: float
    work_s: float

    @property
    def total_s(self) -> float:
        """Until the page shows it, at the latest."""
        return self.slots_s + self.work_s + REFRESH_S


@dataclass(frozen=True)
class Raised:
    """What was told of an event first: of any tier above the log, and as an alarm."""

    event: Event
    sign: Stage | None = None
    alarm: Stage | None = None


@dataclass(frozen=True)
class Watch:
    """What watching one recording gave.

    Attributes:
        raised: one for each event.
        false: tier of each raising of a device to which nothing happened, with what it was called.
        length_s: of the recording.
    """

    raised: list[Raised]
    false: list[tuple[str, str]]
    length_s: float


class Recorded(Clock):
    """Time that passes only while the monitor has nothing to do: packets come to it as they did,
    and never a later one before its slot is closed."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def now_s(self) -> float:
        """Seconds of the recording."""
        return self._now_s

    def sleep(self, seconds: float) -> None:
        """Pass at once."""
        self._now_s += seconds


def read_events(path: Path) -> list[Event]:
    """The faults and attacks of a recorded run in the order of their starts.

    Raises:
        UserError: the file is no truth of the testbed.
    """
    found: dict[tuple[str, str], list[Interval]] = {}
    for one in read_truth(path).intervals:
        if one.label not in (NORMAL, UNKNOWN):
            found.setdefault((one.cause, one.kind), []).append(one)
    events = [
        Event(
            rows[0].label, rows[0].kind, rows[0].cause, frozenset(row.device for row in rows),
            min(row.start_s for row in rows), max(row.end_s for row in rows),
        )
        for rows in found.values()
    ]  # fmt: skip
    return sorted(events, key=lambda one: one.start_s)


def watch_run(run: Path, models: Models, minutes: float, home: Path) -> Watch:
    """Watch a run slot by slot; for each of its events what names it first.

    Args:
        run: folder with packets, plant.yaml and truth.json; or a capture of a plant to which nothing
            happens.
        models: that the monitor judges with.
        minutes: how far it looks back.
        home: folder for its state.
    """
    truth, inventory = run / "truth.json", run / "plant.yaml"
    told = {one: Raised(one) for one in (read_events(truth) if truth.is_file() else [])}
    troubles = _read_troubles(truth) if truth.is_file() else []
    source, false = PacketReplay(find_pcaps(run), 1.0, clock=Recorded()), list[tuple[str, str]]()
    first_s, last_s = np.inf, -np.inf
    bounds = Bounds(horizon_s=minutes * 60, most_slots=1)
    plant = inventory if inventory.is_file() else None
    for step in watch_steps(source, models, home, bounds, plant, run.name):
        end_s = step.report.end_s
        first_s, last_s = min(first_s, end_s), end_s
        for change in step.report.changes:
            alarm = change.alarm
            if change.act not in ("raise", "change") or alarm.tier == "log":
                continue
            if _is_false(alarm, end_s, troubles):
                false.append((alarm.tier, alarm.label))
            stage = Stage(_how(step, alarm), alarm.label, 0.0, step.cpu_s)
            _tell(told, alarm, stage, end_s, source.lateness_s)
    return Watch(list(told.values()), false, last_s - first_s)


def _tell(
    told: dict[Event, Raised], alarm: Alarm, stage: Stage, now_s: float, lateness_s: float
) -> None:
    """Note what names an event first, and what does so first as an alarm."""
    event = _find_event(alarm, now_s, [event for event, one in told.items() if one.sign is None])
    if event is not None:
        told[event] = replace(told[event], sign=_after(stage, now_s + lateness_s - event.start_s))
    if alarm.tier == "alarm":
        rest = [event for event, one in told.items() if one.alarm is None]
        if (event := _find_event(alarm, now_s, rest)) is not None:
            at = _after(stage, now_s + lateness_s - event.start_s)
            told[event] = replace(told[event], alarm=at)


def _after(stage: Stage, slots_s: float) -> Stage:
    return replace(stage, slots_s=slots_s)


def _read_troubles(path: Path) -> list[Interval]:
    return [one for one in read_truth(path).intervals if one.label != NORMAL]


def _is_false(alarm: Alarm, now_s: float, troubles: Sequence[Interval]) -> bool:
    """Whether nothing happened to the device, nor to those whom it names."""
    about = {alarm.device, *alarm.content.related, *alarm.content.peers}
    return alarm.label != SENSOR and not any(
        one.device in about and one.start_s <= now_s <= one.end_s + _LATEST_S for one in troubles
    )


def _how(step: Step, alarm: Alarm) -> str:
    windows = [one.windows for one in step.incidents if one.id == alarm.incident]
    return "model" if any(windows) else "rule"


def _find_event(alarm: Alarm, now_s: float, events: Iterable[Event]) -> Event | None:
    """The event that an alarm names: same label before others, then the newest."""
    fit = [
        one
        for one in events
        if one.start_s <= now_s <= one.end_s + _LATEST_S
        and alarm.incident_end_s >= one.start_s
        and alarm.device in one.devices
    ]
    return max(fit, key=lambda one: (one.label == alarm.label, one.start_s), default=None)


def render_delays(watches: Sequence[Watch], command: str) -> str:
    """Markdown: a row a kind with its first sign and its alarm, then what of it is whose."""
    rows = [one for watch in watches for one in watch.raised]
    kinds = sorted({(one.event.label, one.event.kind) for one in rows})
    lines = [
        _cells(kind, [one for one in rows if (one.event.label, one.event.kind) == kind])
        for kind in kinds
    ]
    for how in ("rule", "model"):
        mine = [one for one in rows if one.alarm and one.alarm.how == how]
        if mine:
            lines.append(_cells((f"alarms by {how}", "–"), mine))
    if rows:
        lines.append(_cells(("all", "–"), rows))
    heads = (
        "label", "kind", "events", "told", "median", "worst", f"within {AIM_S:.0f} s", "alarms",
        "median", "worst", f"within {AIM_S:.0f} s", "slots", "work",
    )  # fmt: skip
    false = [tier for watch in watches for tier, _ in watch.false]
    hours = sum(watch.length_s for watch in watches) / 3600.0
    notes = (
        f"Made by `{command}`; seconds from the first packet of an event until the page shows it: "
        "first as anything above the log (`told`), then as an alarm. `slots`: of an alarm, until its "
        "traffic was looked at; `work`: of CPU until it was kept; medians.",
        f"Raised of devices to which nothing happened, in {hours:.1f} hours: "
        f"{false.count('alarm')} alarms and {false.count('notification')} notifications.",
    )
    return render_table(ReportTable("Seconds until the alarm", heads, tuple(lines), notes=notes))


def _cells(name: tuple[str, str], rows: Sequence[Raised]) -> tuple[str, ...]:
    alarms = [one.alarm for one in rows if one.alarm]
    work = [f"{np.median([getattr(one, of) for one in alarms]):.1f}" if alarms else "–"
            for of in ("slots_s", "work_s")]  # fmt: skip
    stages = [[one.sign for one in rows if one.sign], alarms]
    return (
        *name,
        str(len(rows)),
        *(cell for one in stages for cell in _count(one, len(rows))),
        *work,
    )


def _count(stages: Sequence[Stage], events: int) -> tuple[str, str, str, str]:
    total = [one.total_s for one in stages]
    within = f"{sum(one <= AIM_S for one in total)} of {events}"
    if not total:
        return "0", "–", "–", within
    return str(len(total)), f"{np.median(total):.1f}", f"{max(total):.1f}", within


def _word(one: Stage | None) -> str:
    return f"{one.total_s:.1f} s {one.label} {one.how}" if one else "nothing"


def main(
    runs: list[Path],
    minutes: Annotated[float, typer.Option(help="How far is looked back.")] = 15.0,
    out: Out = None,
) -> None:
    """Watch each run and print or write the table."""
    models, watches = load_models(Settings()), list[Watch]()
    for run in runs:
        with tempfile.TemporaryDirectory() as home:
            watches.append(watch_run(run, models, minutes, Path(home)))
        for one in watches[-1].raised:
            sys.stderr.write(
                f"{run.name}: {one.event.kind}: {_word(one.sign)}; {_word(one.alarm)}\n"
            )
        sys.stderr.write(f"{run.name}: false: {watches[-1].false}\n")
    command = f"python -m eval.research.alarm_delay {' '.join(one.name for one in runs)}"
    publish(render_delays(watches, command) + "\n", out)


if __name__ == "__main__":
    start(main)
