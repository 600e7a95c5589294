"""What a monitor bears: hours of a plant, hundreds of devices, a flood of packets.

    python -m eval.research.endurance quiet|many|flood [--devices N] [--hours H] [--minutes M] [--packets N]
                                      [--seed S] [--most-minutes M] [--out FILE]

`quiet` replays hours of a simulated plant in which nothing happens, as fast as it goes: what memory it
takes in each hour, and what is raised; after `--most-minutes` it ends, and says how far it came. `many`
watches a plant of hundreds of devices slot by slot: how long after a window's end its verdict is there.
`flood` lets packets of one pair of devices arrive within ten seconds amid a recorded plant, thinned out
as an interface does it.

Seconds are of this machine's clock and of CPU: where others use the machine, the first say little and
the second are no less than what the work takes on a free one.
"""

import math
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import takewhile
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import typer

from assistant.cli.vain_work import keep_what_is_loaded, spare_vain_work
from assistant.detection.incidents import Incident
from assistant.history import History
from assistant.monitor.alarm_list import Alarm
from assistant.monitor.flood import thin_out
from assistant.monitor.interface import MOST_PKTS_PER_S
from assistant.monitor.records import make_head, pack_records
from assistant.monitor.replay import LogReplay, open_replay
from assistant.monitor.source import Batch, Part, Source, Trouble
from assistant.monitor.watch import Monitor
from assistant.monitor.watched import Bounds, SlotReport, Watched
from assistant.session import Models, load_models
from assistant.settings import Settings
from eval.report.tables import ReportTable, render_table
from eval.research.command import SAMPLE, Out, publish, start
from traffic.capture import SAMPLE_S
from traffic.pcap.records import Records, read_records
from traffic.plant import load_plant
from traffic.simulation.simulate import simulate
from traffic.zeek.conn import write_conn_log

_COMMAND = "python -m eval.research.endurance"
HOUR_S, FLOOD_S = 3600.0, 10.0
AIM_VERDICT_S = 1.0
_BEGUN_S, _AFTER_S = 90.0, 60.0  # of the recording before and after the flood
_MOST_DEVICES, _START_S = 200, 1_700_000_000.0
_WARM_SLOTS = 6  # of which the first windows are made


@dataclass(frozen=True)
class Step:
    """One closing of slots.

    Attributes:
        report: what it gave.
        incidents: that stood then.
        cpu_s, memory_mb: what it took, and what the process holds after it.
    """

    report: SlotReport
    incidents: tuple[Incident, ...]
    cpu_s: float
    memory_mb: float


def watch_steps(
    source: Source,
    models: Models,
    home: Path,
    bounds: Bounds,
    plant: Path | None = None,
    name: str = "endurance",
) -> Iterator[Step]:
    """Watch a source to its end, step by step.

    Args:
        source: of traffic.
        models: that judge.
        home: folder of the state.
        bounds: of what is looked back at.
        plant: its plant.yaml.
        name: of the run.
    """
    with closing(History(home / "history.sqlite")) as history:
        inventory = load_plant(plant) if plant else None
        watched = Watched(source, models.llm, models.card, history, home / "monitor", name,
                          inventory, bounds=bounds)  # fmt: skip
        with closing(Monitor(watched)) as monitor:
            ended = False
            while not ended:
                begun_s = time.process_time()
                report, ended = monitor.step()
                work_s = time.process_time() - begun_s
                known = monitor.analysis.incidents if monitor.analysis else ()
                if report is not None:
                    yield Step(report, known, work_s, _memory_mb())


def _memory_mb() -> float:
    """What this process holds, proc(5)."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


# ---- Hours of a quiet plant ----


class Hours:
    """Logs of an hour each, one after the other: a day that is held in memory would hide what the
    monitor holds."""

    lateness_s, back_s, live = LogReplay.lateness_s, LogReplay.back_s, LogReplay.live

    def __init__(self, paths: Sequence[Path]) -> None:
        """Open the first of at least one."""
        self._paths = list(paths)
        self._open = open_replay(self._paths.pop(0), 0.0)

    def read(self, wait_s: float) -> Batch:
        """What the hour has, and then the next one."""
        batch = self._open.read(wait_s)
        if batch.ended and self._paths:
            self._open = open_replay(self._paths.pop(0), 0.0)
            batch = self._open.read(wait_s)
        return replace(batch, more=batch.more or bool(self._paths))

    def close(self) -> None:
        """Let go of the hour that is open."""
        self._open.close()


@dataclass
class WatchedHour:
    """What an hour took and raised: the steps of a day, kept, would count as what the monitor holds."""

    slots: int = 0
    memory_mb: float = 0.0
    cpu_s: float = 0.0
    raised: list[tuple[str, str, str]] = field(default_factory=list)  # tier, label, device


def make_hours(steps: Iterable[Step]) -> list[WatchedHour]:
    """Add steps up by the hour since the first of them."""
    hours: list[WatchedHour] = []
    begun_s = math.nan
    for step in steps:
        if not step.report.slots:
            continue
        begun_s = step.report.end_s if math.isnan(begun_s) else begun_s
        while len(hours) <= (step.report.end_s - begun_s) // HOUR_S:
            hours.append(WatchedHour())
        hour = hours[-1]
        hour.slots += step.report.slots
        hour.memory_mb = max(hour.memory_mb, step.memory_mb)
        hour.cpu_s += step.cpu_s
        hour.raised += [(one.tier, one.label, one.device) for one in _raised(step)]
    return hours


def render_quiet(hours: Sequence[WatchedHour], command: str, devices: int, minutes: float) -> str:
    """Markdown: a row an hour, with the most memory of it and what was raised."""
    rows = []
    for number, one in enumerate(hours, 1):
        tiers = Counter(tier for tier, _, _ in one.raised)
        rows.append(
            (f"{number}", f"{one.slots}", f"{one.memory_mb:.0f}",
             f"{100 * (one.memory_mb / hours[0].memory_mb - 1):+.0f} %", str(tiers["alarm"]),
             str(tiers["notification"]), f"{one.cpu_s:.0f}")
        )  # fmt: skip
    heads = (
        "hour",
        "slots",
        "most memory, MB",
        "against the first",
        "alarms",
        "notifications",
        "CPU, s",
    )
    note = (
        f"Made by `{command}`: {devices} simulated devices to which nothing happens, {minutes:.0f} minutes "
        "looked back at, replayed as fast as it goes; the aim is memory within 10 % after the first hour, "
        "and at most 6 alarms an hour for one operator. Hours of a simulated plant end with its recording: "
        f"the last may be short. {sum(one.slots for one in hours) * SAMPLE_S / HOUR_S:.1f} hours were "
        "replayed."
    )
    alarms = [
        (label, device) for one in hours for tier, label, device in one.raised if tier == "alarm"
    ]
    told = ", ".join(
        f"{label} {count} (of {len({device for other, device in alarms if other == label})})"
        for label, count in Counter(label for label, _ in alarms).most_common()
    )
    notes = (note, f"Alarms by label, and of how many devices: {told or 'none'}.")
    return render_table(ReportTable("Hours of a quiet plant", heads, tuple(rows), notes=notes))


def _raised(step: Step) -> list[Alarm]:
    return [change.alarm for change in step.report.changes if change.act == "raise"]


# ---- Hundreds of devices ----


def render_many(steps: Sequence[Step], command: str, devices: int, minutes: float) -> str:
    """Markdown: seconds from a slot's end to its verdicts and its alarms."""
    slots = [one for one in steps if one.report.slots][_WARM_SLOTS:]
    windows = [int(one.report.judged.fresh.sum()) for one in slots]
    values = {
        "until the verdicts": [one.report.verdict_s for one in slots],
        "until the alarms": [one.report.alarm_s for one in slots],
        "CPU of all of it": [one.cpu_s for one in slots],
    }
    rows = [
        (name, *(f"{np.percentile(seconds, share):.2f}" for share in (50, 95, 100)))
        for name, seconds in values.items()
    ]
    note = (
        f"Made by `{command}`: {devices} simulated devices, {minutes:.0f} minutes looked back at, "
        f"{len(slots)} slots one by one, {np.median(windows):.0f} windows judged in half of them or more; on "
        f"{os.cpu_count()} cores with a load of {os.getloadavg()[0]:.1f}, this included; the aim for the "
        f"verdicts is {AIM_VERDICT_S:.0f} s at p95."
    )
    heads = ("seconds", "median", "p95", "most")
    return render_table(ReportTable("Hundreds of devices", heads, tuple(rows), notes=(note,)))


# ---- A flood ----


class Flooded:
    """A recording second by second, with a flood in it, thinned out as an interface does it."""

    lateness_s, back_s, live = 0.25, 30.0, False

    def __init__(self, records: Records, flood: Records) -> None:
        """Begin with the first packet of ``records``; ``flood`` lies in their time."""
        self._parts = (records, flood)
        start_s, end_s = float(records.ts.min()), float(records.ts.max())
        self._seconds = iter(np.arange(np.floor(start_s), end_s + 1.0))
        self._given = 0
        self.thinned_s = 0.0  # of CPU
        self.left_out = 0

    def read(self, wait_s: float) -> Batch:  # noqa: ARG002 (the source is never waited for)
        """The packets of the next second."""
        second = next(self._seconds, None)
        if second is None:
            return Batch(position={"packets": self._given}, ended=True)
        begun_s = time.process_time()
        some = [
            one.take(slice(*np.searchsorted(one.ts, (second, second + 1.0)))) for one in self._parts
        ]
        kept, left_out = thin_out([one for one in some if len(one.ts)], MOST_PKTS_PER_S)
        self.thinned_s += time.process_time() - begun_s
        self.left_out += left_out
        troubles = (Trouble("flood", "the interface", left_out),) if left_out else ()
        self._given += sum(len(one.ts) for one in kept)
        position = {"packets": self._given}
        if not kept:
            return Batch(position=position, troubles=troubles)
        data = b"".join(pack_records(one) for one in kept)
        ts = np.concatenate([one.ts for one in kept])
        part = Part("packets", make_head(int(kept[0].link[0])), data)
        return Batch((part,), ts, position, troubles=troubles)

    def close(self) -> None:
        """Nothing is open."""


def make_flood(packets: int, start_s: float, source: str, target: str) -> Records:
    """SYNs of one address to a port of another, from ever new ports, evenly within ten seconds."""
    frames = np.zeros((packets, 54), np.uint8)
    frames[:, 12:16] = 8, 0, 0x45, 0
    frames[:, 17], frames[:, 22:24] = 40, (64, 6)
    frames[:, 26:30] = [int(part) for part in source.split(".")]
    frames[:, 30:34] = [int(part) for part in target.split(".")]
    ports = 1024 + np.arange(packets) % 60_000
    frames[:, 34], frames[:, 35] = ports >> 8, ports & 255
    frames[:, 36:38], frames[:, 46:48] = (1, 246), (0x50, 2)  # to port 502, a SYN
    size = np.full(packets, 54, np.int32)
    ts = start_s + np.arange(packets) * (FLOOD_S / packets)
    number = np.arange(1, packets + 1, dtype=np.int32)
    return Records(frames.ravel(), ts, np.arange(packets) * 54, size, size,
                   np.ones(packets, np.int32), number)  # fmt: skip


def render_flood(steps: Sequence[Step], source: Flooded, packets: int, command: str) -> str:
    """Markdown: what was left out, said and raised, and what it took."""
    raised = [f"{alarm.tier}: {alarm.content.text}" for one in steps for alarm in _raised(one)]
    work = [one.cpu_s for one in steps if one.report.slots]
    rows = (
        ("packets within ten seconds", f"{packets:,}"),
        ("left out of them", f"{source.left_out:,}"),
        ("CPU to thin out, s", f"{source.thinned_s:.1f}"),
        ("CPU of a slot, median and most, s", f"{np.median(work):.1f}, {max(work):.1f}"),
        ("memory before and at most, MB",
         f"{steps[0].memory_mb:.0f}, {max(one.memory_mb for one in steps):.0f}"),
        *((f"raised, {number}", text) for number, text in enumerate(raised, 1)),
    )  # fmt: skip
    note = (
        f"Made by `{command}` amid `{SAMPLE.name}`; at most {MOST_PKTS_PER_S:,} packets a second are "
        "kept, the busiest pair is thinned out first. The kernel's ring is not part of it."
    )
    return render_table(ReportTable("A flood", ("what", "how much"), rows, notes=(note,)))


def write_plants(devices: int, hours: float, seed: int, folder: Path) -> list[Path]:
    """Write conn.logs of quiet simulated plants that begin at one time, as many as the devices need:
    one has a network of 254 addresses. A log holds the connections that end within one hour."""
    flows = []
    for number, first in enumerate(range(0, devices, _MOST_DEVICES)):
        n = min(_MOST_DEVICES, devices - first)
        table = simulate(seed + number, n, hours, quiet=True, view="logs").capture.flows
        flows.append(table.assign(ts=table["ts"] - table["ts"].min() + _START_S))
    whole = pd.concat(flows).sort_values("ts", ignore_index=True)
    paths = []
    ends_s = whole["ts"] + whole["duration"].fillna(0.0) - _START_S
    for hour, mine in whole.groupby(ends_s // HOUR_S):
        paths.append(folder / f"conn.{hour:03.0f}.log")
        with paths[-1].open("w", encoding="utf-8") as stream:
            write_conn_log(mine, stream)
    return paths


def measure_hours(
    kind: Literal["quiet", "many"],
    devices: int,
    hours: float,
    seed: int,
    minutes: float,
    models: Models,
    home: Path,
    most_minutes: float = math.inf,
) -> str:
    """Watch a simulated plant in which nothing happens; the table of its kind.

    Args:
        kind: as fast as it goes, or slot by slot.
        devices, hours, seed: of the plant.
        minutes: how far is looked back.
        models: that judge.
        home: folder of the state.
        most_minutes: then it ends.
    """
    # By a process of its own: what a simulation took would count as the monitor's.
    with ProcessPoolExecutor(1, get_context("forkserver")) as other:
        paths = other.submit(write_plants, devices, hours, seed, home).result()
    source = Hours(paths)
    many = kind == "many"
    bounds = Bounds(minutes * 60, most_slots=1) if many else Bounds(minutes * 60)
    until_s = time.monotonic() + 60 * most_minutes
    found = watch_steps(source, models, home, bounds)
    steps = takewhile(lambda _: time.monotonic() < until_s, found)
    words = f"--devices {devices} --hours {hours} --seed {seed} --minutes {minutes}"
    command = f"{_COMMAND} {kind} {words}"
    if many:
        return render_many(list(steps), command, devices, minutes)
    return render_quiet(make_hours(steps), command, devices, minutes)


def measure_flood(packets: int, minutes: float, models: Models, home: Path) -> str:
    """Watch the sample amid a flood of so many packets; the table."""
    records = read_records(SAMPLE / "capture.pcap")
    records = records.take(np.argsort(records.ts, kind="stable"))
    end_s = float(records.ts[0]) + _BEGUN_S + FLOOD_S + _AFTER_S
    records = records.take(slice(0, int(np.searchsorted(records.ts, end_s))))
    devices = [one.address for one in load_plant(SAMPLE / "plant.yaml").devices]
    start_s = float(records.ts[0]) + _BEGUN_S
    source = Flooded(records, make_flood(packets, start_s, devices[-1], devices[0]))
    bounds = Bounds(minutes * 60)
    steps = list(watch_steps(source, models, home, bounds, SAMPLE / "plant.yaml"))
    command = f"{_COMMAND} flood --packets {packets} --minutes {minutes}"
    return render_flood(steps, source, packets, command)


def main(
    kind: Literal["quiet", "many", "flood"],
    devices: int = 50,
    hours: float = 24.0,
    minutes: Annotated[float, typer.Option(help="How far is looked back.")] = 15.0,
    packets: int = 1_000_000,
    seed: int = 14,
    most_minutes: Annotated[float, typer.Option(help="Then it ends.")] = math.inf,
    out: Out = None,
) -> None:
    """Measure and print or write the table."""
    spare_vain_work()  # as the command does
    models = load_models(Settings())
    keep_what_is_loaded()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        if kind == "flood":
            text = measure_flood(packets, minutes, models, home)
        else:
            text = measure_hours(kind, devices, hours, seed, minutes, models, home, most_minutes)
    publish(text + "\n", out)


if __name__ == "__main__":
    start(main)
