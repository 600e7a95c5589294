"""Record an emulated plant: every frame on its switch, what its machines said, and what truly
happened to them.

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
from pathlib import Path
from typing import Any

from eval.testbed.events.catalogue import KINDS, draw_events
from eval.testbed.events.event import Event
from eval.testbed.generator import draw_site
from eval.testbed.host import check_host, enter
from eval.testbed.lab import Lab, open_lab
from eval.testbed.truth import Happened, make_truth
from traffic.datasets.truth import read_truth, write_truth
from traffic.errors import UserError
from traffic.plant import dump_plant

# A recorded set: runs of many seeds, several side by side; a run that is complete is not made
# again.

# Two dozen programs that start at once keep a small machine busy; two plants of them would be late
# for their events.
_APART_S = 25.0


@dataclass(frozen=True)
class Run:
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
) -> list[Run]:
    """Record ``out/run-<seed>`` for every seed.

    Args:
        seeds: a site and its events each.
        minutes: length of every run.
        out: made where it is missing.
        at_once: runs side by side; a site of 25 machines wants a quarter of a core.
        progress: told how many runs are done, of how many.
    """
    out.mkdir(parents=True, exist_ok=True)
    runs: list[Run] = []
    door = threading.Lock()
    with ThreadPoolExecutor(at_once) as pool:
        for run in pool.map(partial(_record, minutes, out, door), seeds):
            runs.append(run)
            if progress is not None:
                progress(len(runs), len(seeds))
    return runs


def _record(minutes: float, out: Path, door: threading.Lock, seed: int) -> Run:
    folder = out / f"run-{seed}"
    if _is_complete(folder):
        return Run(folder, complete=True, remade=False)
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "assistant.cli", "testbed", "record"]
    given = ["--seed", str(seed), "--minutes", str(minutes), "--out", str(folder)]
    with (out / f"run-{seed}.log").open("wb") as said:
        with door:
            run = subprocess.Popen(
                [*command, *given], stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )
            time.sleep(_APART_S)
        return Run(folder, complete=run.wait() == 0, remade=True)


def _is_complete(folder: Path) -> bool:
    try:
        return read_truth(folder / "truth.json").complete
    except UserError:
        return False


log = logging.getLogger(__name__)

_SETTLE_S = 12.0  # programs start and find each other before the capture does
_LOOK_S = 0.5
_STAGGER_S = 0.1


def record(seed: int, minutes: float, out: Path, kinds: Sequence[str] = ()) -> int:
    """Record one run in a lab of its own.

    Args:
        seed: of the site and of what happens in it.
        minutes: length of the capture.
        out: a folder that does not exist yet.
        kinds: the events that shall happen, once each; by default they are drawn.

    Returns:
        The exit status of the run: 0, or 1 where it ended early and its truth says that it is
            incomplete.

    Raises:
        UserError: this machine cannot run a lab, ``out`` exists, or a kind is unknown.
    """
    if unknown := sorted(set(kinds) - set(KINDS)):
        raise UserError(
            f"no event is called {unknown[0]}; expected some of {', '.join(KINDS)}; correct --kind"
        )
    if out.exists():
        raise UserError(f"{out} exists already; expected a new folder; name another with --out")
    check_host()
    out.mkdir(parents=True)
    arguments = ["--seed", str(seed), "--minutes", str(minutes), "--out", str(out.resolve())]
    return enter("eval.testbed", [*arguments, *(f"--kind={kind}" for kind in kinds)])


def _record_inside(seed: int, minutes: float, out: Path, kinds: Sequence[str]) -> bool:
    """The run itself, in the lab's namespaces; says whether it ended as planned."""
    site = draw_site(seed)
    events = draw_events(site, seed, minutes, kinds)
    (out / "plant.yaml").write_text(dump_plant(site.plant()), encoding="utf-8")
    write_truth(
        make_truth(seed, [], site, time.time(), time.time() + 60 * minutes, complete=False),
        out / "truth.json",
    )
    happened: list[Happened] = []
    with open_lab(site, out) as lab:
        _start_all(lab)
        with _captured(out) as capture:
            start_s = time.time()
            trouble = _live(lab, capture, events, start_s, 60 * minutes, happened)
            end_s = time.time()
    if trouble:
        log.error("the run is incomplete: %s", trouble)
    truth = make_truth(seed, happened, site, start_s, end_s, complete=not trouble)
    write_truth(truth, out / "truth.json")
    return not trouble


def _start_all(lab: Lab) -> None:
    """Start machines one after the other, as after a power cut, and let them settle."""
    for machine in lab.site.machines:
        if not machine.joins_s:
            lab.start(machine.name)
            time.sleep(_STAGGER_S)
    time.sleep(_SETTLE_S)


@contextlib.contextmanager
def _captured(out: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [
        "tcpdump",
        "--interface=plant",
        "--buffer-size=16384",
        "--packet-buffered",
        "-w",
        str(out / "capture.pcap"),
    ]
    with (out / "tcpdump.log").open("wb") as said:
        capture = subprocess.Popen(
            [*command, "--relinquish-privileges=root"], stdout=said, stderr=said
        )
    try:
        time.sleep(1.0)
        yield capture
    finally:
        capture.send_signal(signal.SIGTERM)
        capture.wait()


def _live(
    lab: Lab,
    capture: subprocess.Popen[bytes],
    events: Sequence[Event],
    start_s: float,
    length_s: float,
    happened: list[Happened],
) -> str:
    """Begin and undo every event at its time; returns what ended the run early, if anything did."""
    # (when, 0 to undo before 1 to begin, which event)
    agenda = [(event.start_s, 1, number) for number, event in enumerate(events)]
    joins = [(machine.joins_s, machine.name) for machine in lab.site.machines if machine.joins_s]
    heapq.heapify(agenda)
    open_now: dict[int, _Begun] = {}
    try:
        while (now := time.time() - start_s) < length_s:
            for joins_s, name in [join for join in joins if join[0] <= now]:
                joins.remove((joins_s, name))
                lab.start(name)
            while agenda and agenda[0][0] <= now:
                _, begin, number = heapq.heappop(agenda)
                event = events[number]
                if begin:
                    open_now[number] = _begin(lab, event)
                    heapq.heappush(agenda, (event.start_s + event.length_s, 0, number))
                else:
                    happened.append(_undo(event, open_now.pop(number)))
            if capture.poll() is not None:
                return f"tcpdump ended by itself with status {capture.returncode} (tcpdump.log says why)"
            if died := lab.died():
                return f"the program of {', '.join(died)} ended by itself (its log says why)"
            time.sleep(_LOOK_S)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # once is enough; what follows must be written
        return "it was interrupted"
    finally:
        happened += [_undo(events[number], begun) for number, begun in open_now.items()]
    return ""


@dataclass(frozen=True)
class _Begun:
    """An event that goes on: what undoes it, since when, and what it will have measured by then."""

    stack: contextlib.ExitStack
    start_s: float
    measured: dict[str, Any]


def _begin(lab: Lab, event: Event) -> _Begun:
    stack = contextlib.ExitStack()
    log.info("begins: %s", KINDS[event.kind].tell(event))
    start_s = time.time()
    measured = stack.enter_context(KINDS[event.kind].act(lab, event))
    return _Begun(stack, start_s, {} if measured is None else measured)


def _undo(event: Event, begun: _Begun) -> Happened:
    end_s = time.time()
    begun.stack.close()
    log.info("undone: %s after %.0f s", event.kind, end_s - begun.start_s)
    return Happened(
        replace(event, settings={**event.settings, **begun.measured}), begun.start_s, end_s
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The run inside its namespaces, as `record` starts it."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.testbed", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kind", action="append", default=[])
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        return 0 if _record_inside(given.seed, given.minutes, given.out, given.kind) else 1
    except KeyboardInterrupt:
        log.error("the run is incomplete: it was interrupted before the capture began")
        return 1
