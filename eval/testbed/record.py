"""Record an emulated plant: every frame on its switch, what its machines log, and the truth.

    seed ─▶ site, events ─▶ lab ─▶ capture.pcap, logs/, sensors.csv, plant.yaml
                              └──▶ truth.json, incomplete until the run has ended as planned

Run by `faultwise testbed record`; the part inside the lab is ``python -m eval.testbed``.
"""

import argparse
import contextlib
import heapq
import logging
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from eval.testbed.events.catalogue import KINDS, check_kinds, draw_events
from eval.testbed.events.event import Event
from eval.testbed.generator import draw_site
from eval.testbed.host import check_host, enter
from eval.testbed.lab import Lab, open_lab
from eval.testbed.sensor import check_degradations, degrade
from eval.testbed.truth import ExecutedEvent, make_truth
from traffic.datasets.truth import read_truth, write_truth
from traffic.errors import UserError
from traffic.files import write_text
from traffic.plant import dump_plant

log = logging.getLogger(__name__)

_SETTLE_S = 12.0  # programs start and find each other before the capture does
_POLL_S = 0.5
_STAGGER_S = 0.1
# Two dozen programs that start at once keep a small machine busy; two plants of them would be late
# for their events.
_APART_S = 25.0


# ---- A set of runs, several side by side ----


@dataclass(frozen=True)
class RecordedRun:
    """One recorded run of a set.

    Attributes:
        folder: where it lies.
        complete: it ended as planned; one that did not is made again by the next series.
        remade: it was recorded now, not before.
    """

    folder: Path
    complete: bool
    remade: bool


def record_series(
    seeds: Sequence[int],
    minutes: float,
    out: Path,
    at_once: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> list[RecordedRun]:
    """Record ``out/run-<seed>`` for every seed; a run that is complete is not made again.

    Args:
        seeds: a site and its events each.
        minutes: length of every run.
        out: made where it is missing.
        at_once: runs side by side; a site of 25 machines wants a quarter of a core.
        progress: called with how many runs are done, of how many.
    """
    out.mkdir(parents=True, exist_ok=True)
    runs: list[RecordedRun] = []
    starting = threading.Lock()
    with ThreadPoolExecutor(at_once) as pool:
        for run in pool.map(partial(_record_of_set, minutes, out, starting), seeds):
            runs.append(run)
            if progress is not None:
                progress(len(runs), len(seeds))
    return runs


def _record_of_set(minutes: float, out: Path, starting: threading.Lock, seed: int) -> RecordedRun:
    folder = out / f"run-{seed}"
    with contextlib.suppress(UserError):
        if read_truth(folder / "truth.json").complete:
            return RecordedRun(folder, complete=True, remade=False)
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "assistant.cli", "testbed", "record"]
    command += ["--seed", str(seed), "--minutes", str(minutes), "--out", str(folder)]
    with (out / f"run-{seed}.log").open("wb") as file:
        with starting:
            run = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
            time.sleep(_APART_S)
        return RecordedRun(folder, complete=run.wait() == 0, remade=True)


# ---- One run ----


def record(
    seed: int, minutes: float, out: Path, kinds: Sequence[str] = (), sensors: Sequence[str] = ()
) -> int:
    """Record one run in a lab of its own.

    Args:
        seed: of the site and of what happens in it.
        minutes: length of the capture.
        out: a folder that does not exist yet.
        kinds: the events that shall happen, once each; by default they are drawn.
        sensors: what the sensor does to the capture, keys of ``eval.testbed.sensor.DEGRADATIONS``;
            the truth names them, and the capture as it was on the switch is kept beside it.

    Returns:
        The exit status of the run: 0, or 1 where it ended early and its truth says that it is
        incomplete.

    Raises:
        UserError: this machine cannot run a lab, ``out`` exists, a kind or a sensor is unknown,
            or a program's library is missing.
    """
    check_kinds(kinds)
    check_degradations(sensors)
    if out.exists():
        raise UserError(f"{out} exists already; expected a new folder; name another with --out")
    check_host()
    _check_programs(draw_events(draw_site(seed), seed, minutes, kinds))
    out.mkdir(parents=True)
    arguments = ["--seed", str(seed), "--minutes", str(minutes), "--out", str(out.resolve())]
    arguments += [*(f"--kind={kind}" for kind in kinds), *(f"--sensor={one}" for one in sensors)]
    return enter("eval.testbed", arguments)


def _check_programs(events: Sequence[Event]) -> None:
    """Refuse events that need a program whose library is an extra of its own.

    What is drawn does not depend on what is installed, so that a seed is one run everywhere.
    """
    added = (machine.program for event in events for machine in event.added)
    if any(program.startswith("enip") for program in added) and find_spec("cpppo") is None:
        raise UserError(
            "this run has a drive that speaks EtherNet/IP, and cpppo, which serves it, is missing; expected it "
            "installed; pip install 'faultwise[testbed-gpl]', or take another seed"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """The run inside its namespaces, as `record` starts it."""
    parser = argparse.ArgumentParser(prog="python -m eval.testbed")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kind", action="append", default=[])
    parser.add_argument("--sensor", action="append", default=[])
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        whole = _record_inside(given.seed, given.minutes, given.out, given.kind)
        if given.sensor:
            see_through_sensor(given.out, given.sensor, given.seed)
        return 0 if whole else 1
    except KeyboardInterrupt:
        log.error("the run is incomplete: it was interrupted before the capture began")
        return 1


def _record_inside(seed: int, minutes: float, out: Path, kinds: Sequence[str]) -> bool:
    """Record in the lab's namespaces; returns whether the run ended as planned."""
    site = draw_site(seed)
    events = draw_events(site, seed, minutes, kinds)
    write_text(out / "plant.yaml", dump_plant(site.plant()))
    now_s = time.time()
    # Written before anything happens, so that a run that is killed leaves a truth that says so.
    unfinished = make_truth(seed, [], site, now_s, now_s + 60 * minutes, complete=False)
    write_truth(unfinished, out / "truth.json")
    executed: list[ExecutedEvent] = []
    with open_lab(site, out) as lab:
        _start_all(lab)
        with _capturing(out) as capture:
            start_s = time.time()
            trouble = _execute(lab, capture, events, start_s, 60 * minutes, executed)
            end_s = time.time()
    if trouble:
        log.error("the run is incomplete: %s", trouble)
    truth = make_truth(seed, executed, site, start_s, end_s, complete=not trouble)
    write_truth(truth, out / "truth.json")
    return not trouble


def see_through_sensor(out: Path, sensors: Sequence[str], seed: int) -> None:
    """Put what a sensor delivers in the place of the capture, which stays as ``switch.pcap``."""
    switch = (out / "capture.pcap").rename(out / "switch.pcap")
    degrade(switch, out / "capture.pcap", sensors, seed)
    truth = read_truth(out / "truth.json", allow_incomplete=True)
    seen = f"{truth.made_by}, seen through {', '.join(sensors)}"
    write_truth(truth.model_copy(update={"made_by": seen}), out / "truth.json")


def _start_all(lab: Lab) -> None:
    """Start machines one after the other, as after a power cut, and let them settle."""
    for machine in lab.site.machines:
        lab.start(machine.name)
        time.sleep(_STAGGER_S)
    time.sleep(_SETTLE_S)


@contextlib.contextmanager
def _capturing(out: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = ["tcpdump", "--interface=plant", "--buffer-size=16384", "--packet-buffered"]
    command += ["-w", str(out / "capture.pcap"), "--relinquish-privileges=root"]
    with (out / "tcpdump.log").open("wb") as file:
        capture = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        time.sleep(1.0)
        yield capture
    finally:
        capture.send_signal(signal.SIGTERM)
        capture.wait()


def _execute(
    lab: Lab,
    capture: subprocess.Popen[bytes],
    events: Sequence[Event],
    start_s: float,
    length_s: float,
    executed: list[ExecutedEvent],
) -> str:
    """Begin and undo every event at its time; returns what ended the run early, if anything did."""
    # (when, 0 to undo before 1 to begin, which event)
    agenda = [(event.start_s, 1, number) for number, event in enumerate(events)]
    heapq.heapify(agenda)
    active: dict[int, _ActiveEvent] = {}
    try:
        while (now := time.time() - start_s) < length_s:
            while agenda and agenda[0][0] <= now:
                _, begin, number = heapq.heappop(agenda)
                event = events[number]
                if begin:
                    active[number] = _begin(lab, event)
                    heapq.heappush(agenda, (event.start_s + event.length_s, 0, number))
                else:
                    executed.append(_undo(active.pop(number)))
            if capture.poll() is not None:
                status = capture.returncode
                return f"tcpdump ended by itself with status {status} (tcpdump.log says why)"
            if died := lab.died():
                return f"the program of {', '.join(died)} ended by itself (its log says why)"
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # once is enough; what follows must be written
        return "it was interrupted"
    finally:
        executed += [_undo(one) for one in active.values()]
    return ""


@dataclass(frozen=True)
class _ActiveEvent:
    """An event that goes on: since when, what undoes it, what it will have measured by then."""

    event: Event
    start_s: float
    undo: contextlib.ExitStack
    measured: dict[str, Any]


def _begin(lab: Lab, event: Event) -> _ActiveEvent:
    undo, kind = contextlib.ExitStack(), KINDS[event.kind]
    log.info("begins: %s", kind.render_cause(event))
    start_s = time.time()
    measured = undo.enter_context(kind.execute(lab, event))
    return _ActiveEvent(event, start_s, undo, {} if measured is None else measured)


def _undo(active: _ActiveEvent) -> ExecutedEvent:
    event, end_s = active.event, time.time()
    active.undo.close()
    log.info("undone: %s after %.0f s", event.kind, end_s - active.start_s)
    measured = {**event.settings, **active.measured}
    return ExecutedEvent(replace(event, settings=measured), active.start_s, end_s)
