"""The captures that a run learns from and is judged by, and their texts: simulated plants, and labelled captures."""

import logging
import math
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from finetune.dataset import make_texts, read_texts, write_texts
from finetune.recipe import Recipe
from traffic.datasets.labelled import find_labelled, load_labelled, name_capture, simulate_labelled
from traffic.errors import UserError

__all__ = ["Captures", "choose_captures", "is_simulated", "make_capture_texts"]

log = logging.getLogger(__name__)

PROCESSES = 2
_SIMULATED = "simulated-"


@dataclass(frozen=True)
class Captures:
    """Names of captures by what they are for; no capture is for two things.

    Attributes:
        trained: learned from.
        calibrate: temperature and threshold.
        test: the numbers on the card.
        paths: where those that are not simulated lie.
    """

    trained: tuple[str, ...]
    calibrate: tuple[str, ...]
    test: tuple[str, ...]
    paths: dict[str, Path]

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.trained, *self.calibrate, *self.test)


def is_simulated(name: str) -> bool:
    """Whether a capture is a simulated plant; its name then ends with the plant's seed."""
    return name.startswith(_SIMULATED)


def choose_captures(recipe: Recipe, data: Sequence[Path] = (), exclude: Sequence[str] = ()) -> Captures:
    """A recipe's simulated plants, and all labelled captures of some folders.

    Args:
        recipe: names the plants.
        data: folders, searched for captures.
        exclude: captures of these that are for testing instead of training.

    Raises:
        UserError: a folder holds no labelled capture, two captures have one name, or ``exclude`` names none of them.
    """
    paths: dict[str, Path] = {}
    for path in (found for folder in data for found in find_labelled(folder)):
        name = name_capture(path)
        if name in paths:
            raise UserError(f"{paths[name]} and {path} are both called {name}; expected one name each; rename a folder")
        paths[name] = path
    if missing := sorted(set(exclude) - set(paths)):
        raise UserError(
            f"no capture {missing[0]} to exclude; expected some of {', '.join(sorted(paths)) or 'none'}; correct it"
        )
    return Captures(
        trained=(*_plants(recipe.train_seeds), *sorted(set(paths) - set(exclude))),
        calibrate=_plants(recipe.calibrate_seeds),
        test=(*_plants(recipe.test_seeds), *sorted(exclude)),
        paths=paths,
    )


def _plants(seeds: tuple[int, int]) -> tuple[str, ...]:
    return tuple(f"{_SIMULATED}{seed}" for seed in range(*seeds))


def make_capture_texts(folder: Path, captures: Captures, recipe: Recipe) -> None:
    """Write the texts of every capture to ``folder/NAME.parquet``, unless they are there."""
    with ProcessPoolExecutor(PROCESSES) as pool:
        jobs = [pool.submit(_make_texts, name, folder, captures.paths.get(name), recipe) for name in captures.all]
        for name, job in zip(captures.all, jobs, strict=True):
            log.info("%s: %d texts", name, job.result())


def _make_texts(name: str, folder: Path, path: Path | None, recipe: Recipe) -> int:
    file = folder / f"{name}.parquet"
    if not file.is_file():
        seed = int(name.removeprefix(_SIMULATED)) if path is None else 0
        low, high = (math.log(bound) for bound in recipe.devices)
        devices = round(math.exp(random.Random(seed).uniform(low, high)))  # noqa: S311
        labelled = load_labelled(path) if path is not None else simulate_labelled(seed, devices, recipe.hours)
        write_texts(make_texts([labelled]), file)
    return len(read_texts(file))
