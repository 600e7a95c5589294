"""A site's labelled captures as texts: read once, told apart by what they are for.

Splits go by capture only, since windows of one capture overlap and share devices. A capture is
``iiot`` where anything in it speaks a control protocol, else ``general``; a run may learn from the
ones first and from the others then (A10).
"""

import math
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from finetune.dataset import (
    balance_texts,
    is_simulated,
    load_capture,
    make_texts,
    name_captures,
    write_texts,
)
from finetune.recipe import Recipe
from finetune.stages import Progress, claim_folder
from traffic.datasets import Labelled
from traffic.errors import UserError
from traffic.labels import NORMAL

KINDS = ("general", "iiot")
_PROCESSES = 2
_FIRST_SEED = 20_000  # of simulated plants; those of the pocket model's recipe lie below
_DRAWS = 200
_REAL_SHARE = 0.5  # of what is learned, where simulated plants stand beside
_REPEATS = 4  # times a rare text may stand in an epoch; above, it is learned by heart
_NORMAL_SHARE = 8  # normal texts for one of each other label: fewer, and alarms come too readily


@dataclass(frozen=True)
class Split:
    """Names of captures by what they are for; no capture is for two things.

    Attributes:
        train: learned from.
        held_out: say when to stop, and give temperature and threshold.
        test: only measured; none where there are too few captures.
    """

    train: tuple[str, ...]
    held_out: tuple[str, ...]
    test: tuple[str, ...]


def find_captures(
    folders: Sequence[Path], exclude: Sequence[str] = (), least: int = 2
) -> dict[str, Path]:
    """The labelled captures of some folders, by name.

    Raises:
        UserError: a folder holds none, two have one name, there are too few to be split, or
            ``exclude`` names none of them.
    """
    found = name_captures(folders, exclude)
    if len(found) - len(set(exclude)) < least:
        raise UserError(
            f"{', '.join(map(str, folders))} holds {len(found) - len(set(exclude))} labelled capture to learn from; "
            "expected at least two, since whole captures are held out to calibrate on; record another"
        )
    return found


def stamp_files(captures: dict[str, Path]) -> list[tuple[str, str, int, int]]:
    """Name, file, size and time of each capture's files and of what lies beside them, as its truth
    does: a run whose stages were made of others begins anew."""
    return [
        (name, file.name, file.stat().st_size, file.stat().st_mtime_ns)
        for name, path in sorted(captures.items())
        for file in sorted(path.parent.iterdir())
        if file.is_file()
    ]


def make_site_texts(
    captures: dict[str, Path],
    plants: int,
    recipe: Recipe,
    folder: Path,
    progress: Callable[[int, int], None] | None,
    first_seed: int = _FIRST_SEED,
) -> pd.DataFrame:
    """Render captures and simulated plants, each once: what lies in ``folder`` is not made again.

    Args:
        captures: from `find_captures`.
        plants: how many simulated plants stand beside them.
        recipe: gives the plants' sizes.
        folder: keeps a parquet file for each.
        progress: called with the numbers of captures that are finished and that there are.
        first_seed: of the plants; by default such as no recipe names.

    Returns:
        A row a window: ``text label direction capture device start_s kind``.

    Raises:
        UserError: a capture or its truth cannot be read, or the truth does not fit it.
    """
    seeds = range(first_seed, first_seed + plants)
    names = [*captures, *(f"simulated-{seed}" for seed in seeds)]
    return render_captures(names, captures, recipe, folder, progress)


def claim_texts(
    captures: dict[str, Path],
    plants: int,
    recipe: Recipe,
    work: Path,
    marks: Sequence[str],
    progress: Progress,
) -> pd.DataFrame:
    """The texts of `make_site_texts`, kept in a folder that belongs to one order alone.

    Args:
        captures, plants, recipe: see there.
        work: of the run; one that was killed goes on in it.
        marks: what the order is; another one in that folder is refused.
        progress: called with what is being done, how much of it is done, and of how much.

    Raises:
        UserError: the folder belongs to another order; or see there.
    """
    claim_folder(work, marks)
    reading = partial(progress, "reading captures")
    return make_site_texts(captures, plants, recipe, work / "texts", reading)


def render_captures(
    names: Sequence[str],
    paths: dict[str, Path],
    recipe: Recipe,
    folder: Path,
    progress: Callable[[int, int], None] | None,
) -> pd.DataFrame:
    """The texts of captures and simulated plants by name, as `make_site_texts` has them; those
    without a path are simulated by the seed in their name."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        partial(_write, name, paths.get(name), recipe, folder / f"{name}.parquet") for name in names
    ]
    missing = [
        job
        for name, job in zip(names, jobs, strict=True)
        if not (folder / f"{name}.parquet").is_file()
    ]
    if len(missing) <= _PROCESSES:
        for done, job in enumerate(missing, start=1):
            job()
            if progress is not None:
                progress(done, len(missing))
    else:
        with ProcessPoolExecutor(_PROCESSES) as pool:
            for done, future in enumerate([pool.submit(job) for job in missing], start=1):
                future.result()
                if progress is not None:
                    progress(done, len(missing))
    return pd.concat(
        [pd.read_parquet(folder / f"{name}.parquet") for name in names], ignore_index=True
    )


def split_captures(
    texts: pd.DataFrame, exclude: Sequence[str] = (), seed: int = 0, learned: Collection[str] = ()
) -> Split:
    """Hold a fifth of the captures out, and from five on another fifth to test on.

    Of many draws the one is taken whose held-out and test captures show most labels that training
    shows too: a label that is nowhere held out cannot be calibrated.

    Args:
        texts: from `make_site_texts`; simulated plants are always for training.
        exclude: captures for testing, instead of drawn ones.
        seed: of the draws.
        learned: captures that the model has read before; they are for training too, whatever else
            is drawn.

    Raises:
        UserError: no capture shows an anomaly that could be learned, or none is left to calibrate
            on, or one to exclude was learned from.
    """
    if wrong := sorted(set(exclude) & set(learned)):
        raise UserError(
            f"{wrong[0]} is to be excluded and was learned from before; expected a capture that the "
            "adapter to begin with never read; exclude another"
        )
    labels = texts.groupby("capture")["label"].agg(set).to_dict()
    simulated = tuple(sorted(name for name in labels if is_simulated(name)))
    names = sorted(set(labels) - set(exclude) - set(simulated))
    if not set().union(*(labels[name] for name in names)) - {NORMAL}:
        raise UserError(
            f"no window of {', '.join(names)} is labelled as an anomaly; "
            "expected some to learn; give captures that show them"
        )
    free = [name for name in names if name not in learned]
    if not free:
        raise UserError(
            f"all of {', '.join(names)} were learned from before; expected one that was not, to "
            "calibrate on; give another capture"
        )
    held = min(max(1, round(len(names) / 5)), len(free))
    test = 0 if exclude or len(names) < 5 else min(held, len(free) - held)
    again = [name for name in names if name in learned]
    rng = np.random.default_rng(seed)
    best, most = None, -math.inf
    for _ in range(_DRAWS):
        order = [*(free[i] for i in rng.permutation(len(free))), *again]
        read = set().union(*(labels[name] for name in (*order[held + test :], *simulated)))
        parts = (order[:held], order[held : held + test])
        shown = [set().union(*(labels[name] for name in part)) for part in parts]
        # What training does not show costs more than what is not held out.
        points = sum(len(part & read) - 2 * len(part - read) for part in shown)
        if points > most:
            best, most = order, points
    assert best is not None
    return Split(
        train=(*sorted(best[held + test :]), *simulated),
        held_out=tuple(sorted(best[:held])),
        test=(*sorted(exclude), *sorted(best[held : held + test])),
    )


def choose_phases(texts: pd.DataFrame, names: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The texts of each phase, in order; all in one where no phases are named.

    Raises:
        UserError: a phase is unknown, or no capture is of its kind.
    """
    if not names:
        return {"all": texts}
    if unknown := [name for name in names if name not in KINDS]:
        raise UserError(
            f"no phase {unknown[0]}; expected some of {', '.join(KINDS)}; as --phases general,iiot"
        )
    phases = {name: texts[texts["kind"] == name] for name in names}
    for name, rows in phases.items():
        if rows.empty:
            there = ", ".join(sorted(set(texts["capture"])))
            raise UserError(
                f"no capture to learn from is {name} (all of {there} are the other kind); "
                f"expected one; leave the phase {name} out"
            )
    return phases


def draw_examples(texts: pd.DataFrame, per_label: int, seed: int) -> pd.DataFrame:
    """A balanced draw to learn from; simulated plants get at most half of it where a site has
    captures of its own."""
    counted = texts.groupby(["text", "label", "direction", "capture", "kind"], sort=False)
    texts = counted.size().rename("weight").reset_index()
    simulated = texts["capture"].map(is_simulated).to_numpy(bool)
    alone = simulated.all() or not simulated.any()
    parts = []
    for which, share in ((simulated, 1 - _REAL_SHARE), (~simulated, _REAL_SHARE)):
        normal = (texts["label"] == NORMAL).to_numpy()
        count = max(1, round(per_label * (1.0 if alone else share)))
        parts += [
            balance_texts(texts[which & normal], _NORMAL_SHARE * count, _REPEATS, seed),
            balance_texts(texts[which & ~normal], count, _REPEATS, seed),
        ]
    drawn = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return drawn.sample(frac=1, random_state=seed, ignore_index=True)


def _write(name: str, path: Path | None, recipe: Recipe, file: Path) -> None:
    write_texts(_render(load_capture(name, path, recipe)), file)


def _render(labelled: Labelled) -> pd.DataFrame:
    control = bool((labelled.windows.samples["pkts_control"] > 0).any())
    direction = labelled.windows.table["direction"].to_numpy()
    return make_texts([labelled]).assign(
        direction=pd.Series(direction, dtype="str"), kind=KINDS[control]
    )
