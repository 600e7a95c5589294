"""Stages of a long run: each is made once, and what a killed run has finished is not made again."""

import hashlib
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from traffic.errors import UserError

log = logging.getLogger(__name__)

# What is being done, how much of it is done, and of how much.
Progress = Callable[[str, int, int], None]


def silent(_doing: str, _done: int, _of: int) -> None:
    """Progress that nobody looks at."""


def digest_marks(marks: Sequence[str]) -> str:
    """Eight letters for all that a run depends on: who corrects an order after a killed run begins
    anew beside it."""
    return hashlib.sha256("\n".join(marks).encode()).hexdigest()[:8]


def remove_runs(folder: Path, name: str, keep: Path | None = None) -> None:
    """Delete the folders ``NAME-DIGEST``, which were of use only to runs that were killed."""
    for stale in folder.glob(f"{name}-????????"):
        if stale != keep:
            shutil.rmtree(stale)


def claim_folder(work: Path, marks: Sequence[str]) -> None:
    """Keep a folder for one run: stages made with other numbers, data or prompts must not be mixed
    into it.

    Args:
        work: made if it is not there.
        marks: all that the stages depend on.

    Raises:
        UserError: the folder holds stages of another run.
    """
    mine = "\n".join(marks)
    work.mkdir(parents=True, exist_ok=True)
    mark = work / "run.txt"
    if mark.is_file() and mark.read_text(encoding="utf-8") != mine:
        raise UserError(
            f"{work} holds stages of another run; expected this recipe, data and prompts; delete it or name another"
        )
    mark.write_text(mine, encoding="utf-8")


def make_once(path: Path, make: Callable[[Path], None]) -> None:
    """Run a stage unless its folder is there; the folder gets its name when the stage is
    complete."""
    if path.is_dir():
        log.info("%s is there", path)
        return
    log.info("making %s", path)
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.mkdir(exist_ok=True)
    make(unfinished)
    unfinished.rename(path)
