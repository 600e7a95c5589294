"""Tables of labelled texts: what adapters are trained, calibrated and judged on.

Steady traffic gives equal text, so equal texts of one capture and label are kept once with their
count as weight: a table is a tenth of its windows. Splits go by capture only. Windows of one
capture overlap and share devices, and a model that has seen some of them has seen the rest.
"""

import logging
import math
import random
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from finetune.recipe import Recipe
from finetune.recorded import list_recorded, read_recorded
from prompts.window_text import LEVELS, QUIET, render_windows, vocabulary
from traffic.datasets import Labelled, find_labelled, load_labelled, name_capture, simulate_labelled
from traffic.errors import UserError
from traffic.labels import LABELS
from traffic.simulation.plant import WIRELESS

COLUMNS = ["text", "label", "capture", "device", "start_s"]
COUNTED = ["text", "label", "capture", "weight"]


def make_texts(labelled: Iterable[Labelled]) -> pd.DataFrame:
    """Render labelled captures.

    Returns:
        Shape (n_windows, 5): ``text``, ``label``, ``capture``, ``device`` (a number in its capture,
        for no address belongs into a model's data) and ``start_s``.
    """
    parts = [
        pd.DataFrame(
            {
                "text": pd.Series(render_windows(one.windows), dtype="str"),
                "label": one.windows.table["label"].astype("str"),
                "capture": one.name,
                "device": one.windows.table["device"].factorize()[0],
                "start_s": one.windows.table["start_s"].to_numpy(float),
            }
        )
        for one in labelled
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)


def count_texts(table: pd.DataFrame) -> pd.DataFrame:
    """Keep equal texts of one capture and label once, in order of first appearance.

    Returns:
        Shape (n_texts, 4): ``text``, ``label``, ``capture``, ``weight`` (windows with that text).
    """
    groups = table.groupby(COUNTED[:3], sort=False, as_index=False, observed=True)
    counted = groups.size().rename(columns={"size": "weight"})
    return counted.astype({"text": "str", "label": "str", "capture": "str", "weight": "int64"})


def balance_texts(
    table: pd.DataFrame, per_label: int, repeats: int = 4, seed: int = 0
) -> pd.DataFrame:
    """Draw up to ``per_label`` texts of each label, evenly from its captures.

    A capture gives a label at most its even share of the texts, so that one long flood does not
    stand for all; a label with too few texts repeats each up to ``repeats`` times. Texts seen in
    more windows are drawn before rarer ones with probability in proportion to the square root of
        their weight: steady traffic matters, and must not drown the rest.

    Args:
        table: as `count_texts` gives it.
        per_label: most rows of one label.
        repeats: how often a text may stand in the result.
        seed: of the draw.

    Returns:
        Rows of the table, shuffled; ``weight`` is 1 in each.
    """
    drawn = [
        _draw_label(rows, per_label, repeats, seed) for _, rows in table.groupby("label", sort=True)
    ]
    balanced = pd.concat(drawn) if drawn else table
    return balanced.sample(frac=1, random_state=seed).assign(weight=1).reset_index(drop=True)


def vary_texts(texts: Sequence[str], moved: float, left_out: float, seed: int) -> list[str]:
    """Texts of windows, each varied by chance (A8): a level one step off, a fact left out.

    Each word is a token of its own, so nothing tells a model that level 7 lies beside 8: it learns
    which words of its training plants go with which label by heart. A base that read plain texts for
    90 minutes had 0.15 nats a window on plants that it had read and 0.41 on others; five minutes more
    of texts varied anew at each reading made that 0.18 and 0.35.

    Args:
        texts: as `prompts.window_text` renders them.
        moved: of the facts, the share whose level is one lower or one higher; lowest and highest
            stay within the levels.
        left_out: of the facts, the share that is not said.
        seed: of the chance.

    Returns:
        As many texts, in the same order; one of which nothing is left is a quiet one.

    >>> vary_texts(["quiet"], 1, 1, 0)
    ['quiet']
    """
    words = vocabulary()  # quiet, then the levels of each fact
    number = {word: place for place, word in enumerate(words)}
    said = [text.split() for text in texts]
    lengths = [len(text) for text in said]
    ids = np.fromiter((number[word] for text in said for word in text), np.int64, sum(lengths))

    rng = np.random.default_rng(seed)
    level = (ids - 1) % LEVELS
    step = rng.choice([-1, 1], len(ids)) * (rng.random(len(ids)) < moved)
    is_fact = ids > 0
    varied = np.where(is_fact, ids - level + np.clip(level + step, 0, LEVELS - 1), ids)
    kept = ~is_fact | (rng.random(len(ids)) >= left_out)

    owner = np.repeat(np.arange(len(texts)), lengths)
    ends = np.cumsum(np.bincount(owner[kept], minlength=len(texts)))
    left = np.array(words, object)[varied[kept]]
    return [
        " ".join(left[start:end]) or QUIET for start, end in zip([0, *ends], ends, strict=False)
    ]


def write_texts(table: pd.DataFrame, path: Path) -> None:
    """Write a table of texts as parquet, whole or not at all."""
    new = path.with_suffix(".new")
    table.to_parquet(new, index=False)
    new.replace(path)


def read_texts(path: Path) -> pd.DataFrame:
    """Read what `write_texts` wrote.

    Raises:
        UserError: the file is missing, is no such table, or holds a label that this release does
            not know.
    """
    if not path.is_file():
        raise UserError(f"no table of texts {path}; expected a parquet file; make it first")
    try:
        table = pd.read_parquet(path, columns=COLUMNS)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{path} is no table of texts; expected the columns {', '.join(COLUMNS)}; make it again"
        ) from error
    unknown = sorted(set(table["label"]) - set(LABELS))
    if unknown:
        raise UserError(
            f"{path} holds the label {unknown[0]}; expected {', '.join(LABELS)}; make it again"
        )
    return table


def _draw_label(rows: pd.DataFrame, per_label: int, repeats: int, seed: int) -> pd.DataFrame:
    """Captures with few texts give all they may; what they leave of their share goes to the larger
    ones."""
    rng = np.random.default_rng(seed)
    room, drawn = per_label, []
    groups = sorted((group for _, group in rows.groupby("capture", sort=True)), key=len)
    for place, group in enumerate(groups):
        share = room // (len(groups) - place)
        whole, rest = divmod(min(share, repeats * len(group)), len(group))
        odds = group["weight"].to_numpy(float) ** 0.5
        drawn += [group] * whole + [
            group.iloc[rng.choice(len(group), rest, replace=False, p=odds / odds.sum())]
        ]
        room -= whole * len(group) + rest
    return pd.concat(drawn)


# The captures that a run learns from and is judged by, and their texts: simulated plants, and
# labelled captures.

log = logging.getLogger(__name__)

PROCESSES = 2
_SIMULATED = "simulated-"
_HOUSE = "house-"
_TABLE = ".parquet"


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

    def is_made(self, name: str) -> bool:
        """Whether a capture is the project's own: simulated, or of a table of recorded plants."""
        return name not in self.paths or self.paths[name].suffix == _TABLE


def is_simulated(name: str) -> bool:
    """Whether a capture is a simulated plant; its name then ends with the plant's seed."""
    return name.startswith(_SIMULATED)


def is_house(name: str) -> bool:
    """Whether a capture is a simulated house; its name then ends with its seed."""
    return name.startswith(_HOUSE)


def choose_captures(
    recipe: Recipe,
    data: Sequence[Path] = (),
    exclude: Sequence[str] = (),
    calibrate: Sequence[str] = (),
) -> Captures:
    """A recipe's simulated plants and houses, and all labelled captures of some folders and tables.

    Args:
        recipe: names plants and houses.
        data: folders, searched for captures, and tables of recorded windows.
        exclude: captures of these that are for testing instead of training.
        calibrate: captures of these that are for calibration, beside the recipe's plants.

    Raises:
        UserError: a folder holds no labelled capture, two captures have one name, or ``exclude`` or
            ``calibrate`` names none of them, or both name one.
    """
    paths = name_captures(data, {*exclude, *calibrate})
    if both := sorted(set(exclude) & set(calibrate)):
        raise UserError(
            f"{both[0]} is excluded and to calibrate on; expected one of the two; decide for one"
        )
    trained = sorted(set(paths) - {*exclude, *calibrate})
    houses = recipe.houses
    return Captures(
        trained=(
            *_name_seeds(_SIMULATED, recipe.train_seeds),
            *_name_seeds(_HOUSE, houses.train_seeds),
            *trained,
        ),
        calibrate=(*_name_seeds(_SIMULATED, recipe.calibrate_seeds), *sorted(calibrate)),
        test=(
            *_name_seeds(_SIMULATED, recipe.test_seeds),
            *_name_seeds(_HOUSE, houses.test_seeds),
            *sorted(exclude),
        ),
        paths=paths,
    )


def name_captures(data: Sequence[Path], needed: Collection[str] = ()) -> dict[str, Path]:
    """The captures of some folders and tables by name.

    Raises:
        UserError: a folder holds none, two have one name, or one that is needed is not there.
    """
    paths: dict[str, Path] = {}
    for name, path in (named for one in data for named in _name_all(one)):
        if name in paths:
            raise UserError(
                f"{paths[name]} and {path} are both called {name}; expected one name each; rename a folder"
            )
        paths[name] = path
    if missing := sorted(set(needed) - set(paths)):
        raise UserError(
            f"no capture {missing[0]} to exclude; expected some of {', '.join(sorted(paths)) or 'none'}; correct it"
        )
    return paths


def _name_all(data: Path) -> Iterator[tuple[str, Path]]:
    if data.suffix == _TABLE:
        yield from ((name, data) for name in list_recorded(data))
    else:
        yield from ((name_capture(path), path) for path in find_labelled(data))


def _name_seeds(kind: str, seeds: tuple[int, int]) -> Iterator[str]:
    return (f"{kind}{seed}" for seed in range(*seeds))


def make_capture_texts(folder: Path, captures: Captures, recipe: Recipe) -> None:
    """Write the texts of every capture to ``folder/NAME.parquet``, unless they are there."""
    with ProcessPoolExecutor(PROCESSES) as pool:
        jobs = [
            pool.submit(_make_texts, name, folder, captures.paths.get(name), recipe)
            for name in captures.all
        ]
        for name, job in zip(captures.all, jobs, strict=True):
            log.info("%s: %d texts", name, job.result())


def _make_texts(name: str, folder: Path, path: Path | None, recipe: Recipe) -> int:
    file = folder / f"{name}.parquet"
    if path is not None and path.suffix == _TABLE and not file.is_file():
        write_texts(read_recorded(path, name), file)
    elif not file.is_file():
        write_texts(make_texts([load_capture(name, path, recipe)]), file)
    return len(read_texts(file))


def load_capture(name: str, path: Path | None, recipe: Recipe) -> Labelled:
    """A labelled capture, or a simulated plant or house where ``path`` is None.

    Args:
        name: that of a plant or a house ends with its seed.
        path: of a labelled capture.
        recipe: says how large they are, evenly on a log scale, and how long they are watched.
    """
    if path is not None:
        return load_labelled(path)
    seed = int(name.rpartition("-")[2])
    size = recipe.houses if is_house(name) else recipe
    low, high = (math.log(bound) for bound in size.devices)
    devices = round(math.exp(random.Random(seed).uniform(low, high)))  # noqa: S311
    made = simulate_labelled(
        seed, devices, size.hours, flavour=WIRELESS if is_house(name) else None
    )
    return replace(made, name=name)
