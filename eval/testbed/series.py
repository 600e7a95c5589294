"""A recorded set: runs of many seeds, several side by side; a run that is complete is not made again."""

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from traffic.datasets.truth import read_truth
from traffic.errors import UserError

__all__ = ["Run", "record_series"]

# Two dozen programs that start at once keep a small machine busy; two plants of them would be late for their events.
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
            run = subprocess.Popen([*command, *given], stdin=subprocess.DEVNULL, stdout=said, stderr=said)
            time.sleep(_APART_S)
        return Run(folder, complete=run.wait() == 0, remade=True)


def _is_complete(folder: Path) -> bool:
    try:
        return read_truth(folder / "truth.json").complete
    except UserError:
        return False
