"""Record an emulated plant: every frame on its switch, what its machines said, and what truly happened to them.

    seed ─▶ site, events ─▶ lab ─▶ capture.pcap, logs/, sensors.csv, plant.yaml
                              └──▶ truth.json, incomplete until the run has ended as planned

Run by `faultwise testbed record`; the part inside the lab is ``python -m eval.testbed``.
"""

import argparse
import contextlib
import heapq
import logging
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eval.testbed.events.catalogue import KINDS, Event, draw_events
from eval.testbed.generator import draw_site
from eval.testbed.host import check_host, enter
from eval.testbed.lab import Lab, open_lab
from eval.testbed.truth import Happened, make_truth
from traffic.datasets.truth import write_truth
from traffic.errors import UserError
from traffic.plant import dump_plant

__all__ = ["record"]

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
        The exit status of the run: 0, or 1 where it ended early and its truth says that it is incomplete.

    Raises:
        UserError: this machine cannot run a lab, ``out`` exists, or a kind is unknown.
    """
    if unknown := sorted(set(kinds) - set(KINDS)):
        raise UserError(f"no event is called {unknown[0]}; expected some of {', '.join(KINDS)}; correct --kind")
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
    write_truth(make_truth(seed, [], site, time.time(), time.time() + 60 * minutes, complete=False), out / "truth.json")
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
def _captured(out: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [
        "tcpdump",
        "--interface=plant",
        "--buffer-size=16384",
        "--packet-buffered",
        "-w",
        str(out / "capture.pcap"),
    ]
    with (out / "tcpdump.log").open("wb") as said:
        capture = subprocess.Popen([*command, "--relinquish-privileges=root"], stdout=said, stderr=said)
    try:
        time.sleep(1.0)
        yield capture
    finally:
        capture.send_signal(signal.SIGTERM)
        capture.wait()


def _live(
    lab: Lab,
    capture: "subprocess.Popen[bytes]",
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
    return Happened(replace(event, settings={**event.settings, **begun.measured}), begun.start_s, end_s)


def main(arguments: Sequence[str] | None = None) -> int:
    """The run inside its namespaces, as `record` starts it."""
    parser = argparse.ArgumentParser(prog="python -m eval.testbed", description=__doc__.splitlines()[0])
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
