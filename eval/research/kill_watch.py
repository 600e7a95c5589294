"""Kill a running monitor at random moments, again and again, while an operator works: what is lost?

    python -m eval.research.kill_watch [RUN] [--kills 20] [--seed 0] [--serve] [--out FILE]

`faultwise monitor --replay RUN`, or `serve` with its page, runs in a process of its own and is killed
(SIGKILL) after a random time; another one goes on, until it was killed as often as asked; the last may
finish. Meanwhile an
operator acknowledges and takes back. In the end the verdicts and alarms must be those of a monitor
that nobody killed, every act must be there once, and the audit log be whole after each kill.
"""

import multiprocessing
import os
import signal
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from assistant.audit import check_audit
from assistant.cli.main import main as run_command
from assistant.history import History, IncidentRecord
from assistant.monitor.state import MonitorState
from eval.research.command import SAMPLE, Out, Recording, publish, start
from eval.research.served import find_port
from traffic.errors import UserError

_INCIDENT = "service_down-shift"  # what the operator works on: no monitor touches it
_LONGEST_S = 3.0  # a process lives after it began to keep something
# Processes of a server that computes nothing itself: a copy of this one would wait for its threads.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["assistant.cli.main", "assistant.session", "torch"])


@dataclass
class Tally:
    """What was found.

    Attributes:
        kills: how often a monitor was killed.
        working: how many of these while it had begun to keep what it read.
        acts: of the operator, that came back as kept.
        wrong: a line a finding.
    """

    kills: int = 0
    working: int = 0
    acts: int = 0
    wrong: list[str] = field(default_factory=list)


def kill_monitors(
    run: Path, kills: int, seed: int, folder: Path, speed: float = 20.0, serve: bool = False
) -> Tally:
    """Kill so often, and compare with a monitor that nobody killed.

    Args:
        run: the recording, with its plant.yaml.
        kills: how often.
        seed: of the moments.
        folder: for the state of both.
        speed: of the replay.
        serve: whether the page is served beside each monitor that is killed.
    """
    rng, tally = np.random.default_rng(seed), Tally()
    whole, broken = folder / "whole", folder / "broken"
    _watch(run, whole, speed, None)
    over, acts = _context.Event(), _context.Value("i", 0)
    broken.mkdir(parents=True)
    operator = _context.Process(target=_work, args=(broken, over, acts))
    operator.start()
    try:
        for number in range(kills):
            before = _progress(broken)
            _watch(run, broken, speed, float(rng.uniform(0.0, _LONGEST_S)), serve)
            tally.kills += 1
            tally.working += _progress(broken) != before
            outcome = check_audit(broken / "history.sqlite").outcome
            if outcome not in ("whole", "not there"):
                tally.wrong.append(f"after kill {number + 1} the audit log is {outcome}")
        _watch(run, broken, speed, None, serve)
    finally:
        over.set()
        operator.join()
    tally.acts = acts.value
    _compare(_kept(broken), _kept(whole), tally)
    if (outcome := check_audit(broken / "history.sqlite").outcome) != "whole":
        tally.wrong.append(f"in the end the audit log is {outcome}")
    return tally


def _watch(
    run: Path, home: Path, speed: float, killed_s: float | None, serve: bool = False
) -> None:
    """Watch in a process of its own, to the end or until it is killed; a server is killed at the end."""
    words = ["monitor", "--home", str(home), "--replay", str(run), "--speed", str(speed),
             "--plant", str(run / "plant.yaml")]  # fmt: skip
    if serve:
        words = ["serve", *words[1:], "--port", str(find_port())]
    process = _context.Process(target=_run_quietly, args=(words,))
    before = _progress(home)
    process.start()
    if killed_s is not None:
        until_s = time.monotonic() + 60.0
        while process.is_alive() and _progress(home) == before and time.monotonic() < until_s:
            time.sleep(0.02)
        process.join(killed_s)
        if process.is_alive():
            os.kill(process.pid or 0, signal.SIGKILL)
    elif serve:
        while process.is_alive() and not _has_ended(home):
            time.sleep(0.2)
        os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    if process.exitcode not in (0, -signal.SIGKILL):
        raise UserError(f"the monitor ended with {process.exitcode}; expected 0; see what it said")


def _has_ended(home: Path) -> bool:
    """Whether the recording was given to its end."""
    with closing(MonitorState(home / "monitor")) as state:
        return bool(state.progress().get("ended"))


def _run_quietly(words: list[str]) -> None:
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        sys.exit(run_command(words))


def _work(home: Path, over: Any, acts: Any) -> None:
    """Acknowledge and take back, as often as there is time."""
    with closing(History(home / "history.sqlite")) as history:
        history.add_incident(IncidentRecord(_INCIDENT, "10.0.0.1", "service_down", 0.0, 1.0, ""))
        while not over.wait(0.1):
            history.set_state(_INCIDENT, "acknowledged", "anna", f"act {acts.value}", None)
            acts.value += 1


def _progress(home: Path) -> float:
    """When the state was written last."""
    paths = [home / "monitor" / name for name in ("monitor.sqlite", "monitor.sqlite-wal")]
    return max((path.stat().st_mtime_ns for path in paths if path.exists()), default=0)


def _rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def _kept(home: Path) -> dict[str, list[tuple[Any, ...]]]:
    """What a monitor kept, without the times of this machine."""
    history = home / "history.sqlite"
    return {
        "verdicts": _rows(
            home / "monitor" / "monitor.sqlite",
            "SELECT device, slot, mark, label FROM verdicts ORDER BY device, slot",
        ),
        "alarms": _rows(
            history, "SELECT label, device, incident_end_s FROM alarms WHERE returned_s IS NULL"
            " ORDER BY label, device",
        ),
        "raisings": _rows(history, "SELECT incident, raised_s FROM raisings ORDER BY 1, 2"),
        # A notification that becomes an alarm is raised once more, and its trouble came once.
        "lifted": _rows(
            history, "SELECT one.incident, one.raised_s FROM raisings AS one JOIN raisings AS before"
            " ON before.id = (SELECT MAX(id) FROM raisings WHERE incident = one.incident AND id < one.id)"
            " WHERE one.tier = 'alarm' AND before.tier = 'notification'",
        ),
        "times": _rows(history, "SELECT incident, times FROM alarms ORDER BY 1"),
        "acts": _rows(
            history, f"SELECT why FROM incident_states WHERE incident = '{_INCIDENT}'"  # noqa: S608
        ),
    }  # fmt: skip


def _compare(broken: dict[str, Any], whole: dict[str, Any], tally: Tally) -> None:
    """Say what differs between a monitor that was killed and one that was not."""
    for name in ("verdicts", "alarms"):
        if broken[name] != whole[name]:
            lost = len(set(whole[name]) - set(broken[name]))
            more = len(set(broken[name]) - set(whole[name]))
            tally.wrong.append(f"{name}: {lost} lost, {more} that nobody else has")
    if len(set(broken["raisings"])) != len(broken["raisings"]):
        tally.wrong.append("an alarm was raised twice in one slot")
    counted = sum(times for _, times in broken["times"]) + len(broken["lifted"])
    if counted != len(broken["raisings"]):
        tally.wrong.append("raisings are not as many as the alarms count")
    if sorted(broken["acts"]) != sorted((f"act {number}",) for number in range(tally.acts)):
        tally.wrong.append(f"{tally.acts} acts of the operator, {len(broken['acts'])} kept")


def render_tally(tally: Tally, run: str, serve: bool) -> str:
    """Markdown."""
    what = "server, its page and its monitor," if serve else "monitor"
    lines = "".join(f"- {one}\n" for one in tally.wrong) or "- nothing was lost or doubled\n"
    return (
        f"`python -m eval.research.kill_watch{' --serve' * serve}` over `{run}`: {tally.kills} kills, "
        f"{tally.working} of them of a {what} that had kept something since its start; {tally.acts} acts of an "
        f"operator meanwhile. Findings:\n\n{lines}"
    )


def main(
    run: Recording = SAMPLE,
    kills: int = 20,
    seed: int = 0,
    serve: Annotated[bool, typer.Option("--serve", help="With the page.")] = False,
    out: Out = None,
) -> None:
    """Kill as often as asked and say what was found; exit 1 where something was lost or doubled."""
    with tempfile.TemporaryDirectory() as folder:
        tally = kill_monitors(run, kills, seed, Path(folder), serve=serve)
    publish(render_tally(tally, run.name, serve), out)
    sys.exit(1 if tally.wrong else 0)


if __name__ == "__main__":
    start(main)
