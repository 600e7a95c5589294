"""How long after a fault's first packets its alarm is raised, kind by kind, and where the seconds go.

    python -m eval.research.alarm_delay RUN... [--minutes 15] [--out FILE]

RUN is a folder of the testbed: its packets, its inventory, its truth. A monitor reads it as it reads
a plant, one slot of ten seconds after the other, with nothing but the packets of the slots so far.
The recording's clock tells in which slot an alarm is raised; how long that slot's work takes is
measured on this machine. The page shows what is raised at its next look, a second later at the most.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from assistant.app.page import REFRESH_S
from assistant.history import History
from assistant.monitor.alarm_list import Alarm
from assistant.monitor.replay import Clock, PacketReplay
from assistant.monitor.watch import Bounds, Monitor, Watched
from assistant.offline import go_offline
from assistant.session import Models, load_models
from assistant.settings import Settings
from eval.report.tables import ReportTable, render_table
from eval.research.command import publish
from traffic.datasets.truth import Interval, read_truth
from traffic.labels import NORMAL, UNKNOWN
from traffic.plant import load_plant
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
class Raised:
    """The first alarm that names an event.

    Attributes:
        event: what happened.
        how: ``rule`` where packets alone bear it, ``model`` where windows of its label do (a rule
            may too), "" where nothing was raised.
        label: what it was called.
        slots_s: from the event's first moment to that in which its slot could be closed.
        work_s: until the alarm was kept, on this machine.
    """

    event: Event
    how: str
    label: str
    slots_s: float
    work_s: float

    @property
    def total_s(self) -> float:
        """Until the page shows it, at the latest."""
        return self.slots_s + self.work_s + REFRESH_S


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


def watch_run(run: Path, models: Models, minutes: float, home: Path) -> list[Raised]:
    """Watch a run slot by slot; for each of its events the first alarm that names it.

    Args:
        run: folder with packets, plant.yaml and truth.json.
        models: that the monitor judges with.
        minutes: how far it looks back.
        home: folder for its state.
    """
    events = read_events(run / "truth.json")
    first: dict[Event, Raised] = {}
    source = PacketReplay(find_pcaps(run), 1.0, clock=Recorded())
    with closing(History(home / "history.sqlite")) as history:
        bounds = Bounds(horizon_s=minutes * 60, most_slots=1)
        watched = Watched(source, models.llm, models.card, history, home / "monitor", run.name,
                          load_plant(run / "plant.yaml"), bounds=bounds)  # fmt: skip
        with closing(Monitor(watched)) as monitor:
            ended = False
            while not ended:
                report, ended = monitor.step()
                if report is None:
                    continue
                for change in report.changes:
                    event = _find_event(change.alarm, report.end_s, events, first)
                    if event is None or change.act not in ("raise", "change"):
                        continue
                    closable_s = report.end_s + source.lateness_s
                    first[event] = Raised(event, _how(monitor, change.alarm), change.alarm.label,
                                          closable_s - event.start_s, report.alarm_s)  # fmt: skip
    nothing = float("nan")
    return [first.get(one) or Raised(one, "", "", nothing, nothing) for one in events]


def _how(monitor: Monitor, alarm: Alarm) -> str:
    incidents = monitor.analysis.incidents if monitor.analysis else ()
    windows = [one.windows for one in incidents if one.id == alarm.incident]
    return "model" if any(windows) else "rule"


def _find_event(
    alarm: Alarm, now_s: float, events: Iterable[Event], told: dict[Event, Raised]
) -> Event | None:
    """The event that an alarm is the first to name: same label before others, then the newest."""
    if alarm.tier == "log":
        return None
    fit = [
        one
        for one in events
        if one not in told
        and one.start_s <= now_s <= one.end_s + _LATEST_S
        and alarm.incident_end_s >= one.start_s
        and alarm.device in one.devices
    ]
    return max(fit, key=lambda one: (one.label == alarm.label, one.start_s), default=None)


def render_delays(rows: Sequence[Raised], command: str) -> str:
    """Markdown: a row a kind, with its median and its worst, and what of it is whose."""
    table = pd.DataFrame(
        [
            {"label": one.event.label, "kind": one.event.kind, "how": one.how, "slots": one.slots_s,
             "work": one.work_s, "total": one.total_s}
            for one in rows
        ]
    )  # fmt: skip
    lines = [_cells(name, part) for name, part in table.groupby(["label", "kind"], sort=True)]
    for how in ("rule", "model"):
        part = table[table["how"] == how]
        if len(part):
            lines.append(_cells((f"all by {how}", "–"), part))
    lines.append(_cells(("all", "–"), table))
    heads = (
        "label", "kind", "events", "raised", "by", "slots", "work", "on the page, median", "worst",
        f"within {AIM_S:.0f} s",
    )  # fmt: skip
    note = (
        f"Made by `{command}`; seconds from the first packet of an event. `slots`: until its slot was "
        "over; `work`: until the alarm was kept; medians of those raised."
    )
    return render_table(ReportTable("Seconds until the alarm", heads, tuple(lines), notes=(note,)))


def _cells(name: tuple[str, str], part: pd.DataFrame) -> tuple[str, ...]:
    raised = part[part["how"] != ""]
    hows = sorted(set(raised["how"]))
    within = int((raised["total"] <= AIM_S).sum())
    if raised.empty:
        return (*name, str(len(part)), "0", *["–"] * 5, f"0 of {len(part)}")
    return (
        *name, str(len(part)), str(len(raised)), ", ".join(hows),
        *(f"{raised[column].median():.1f}" for column in ("slots", "work", "total")),
        f"{raised['total'].max():.1f}", f"{within} of {len(part)}",
    )  # fmt: skip


def main() -> None:
    """Watch each run and print or write the table."""
    go_offline()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--minutes", type=float, default=15.0, help="how far is looked back")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    models, rows = load_models(Settings()), list[Raised]()
    told = 0
    for run in asked.runs:
        with tempfile.TemporaryDirectory() as home:
            rows += watch_run(run, models, asked.minutes, Path(home))
        for one in rows[told:]:
            sys.stderr.write(
                f"{run.name}: {one.event.kind}: {one.total_s:.1f} s {one.label} {one.how}\n"
            )
        told = len(rows)
    command = f"python -m eval.research.alarm_delay {' '.join(one.name for one in asked.runs)}"
    text = render_delays(rows, command)
    publish(text + "\n", asked.out)


if __name__ == "__main__":
    main()
