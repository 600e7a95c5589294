"""What an adapter learned before, as texts: to be learned again beside new windows, and to measure
what was forgotten.

    kept        texts.parquet beside the adapter: the site's own captures, with what each was for
    recorded    finetune/recorded.parquet: the runs of it that the card names
    simulated   plants, drawn again from the seeds in the card and in the recipe

A text says levels of facts, no address, no name and no time of day; still it is the site's, and
stays with the adapter that learned it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from assistant.llm.adapters import AdapterCard
from finetune.dataset import is_simulated
from finetune.recipe import Recipe
from finetune.recorded import RECORDED, list_recorded, read_recorded
from finetune.sites.captures import KINDS, Split, render_captures
from traffic.errors import UserError

KEPT = "texts.parquet"
PARTS = ("train", "held_out", "test")
_COLUMNS = ["text", "label", "direction", "capture", "device", "start_s", "kind"]
_EMPTY = pd.DataFrame(columns=_COLUMNS)


@dataclass(frozen=True)
class Old:
    """Texts of before, with the columns of `finetune.sites.captures.make_site_texts`.

    Attributes:
        train: what the adapter learned, or plants like it.
        held_out: what its bounds are chosen on, beside new captures.
        test: what it never learned and no bound was chosen on; says what is forgotten.
    """

    train: pd.DataFrame
    held_out: pd.DataFrame
    test: pd.DataFrame


def write_kept(parts: dict[str, pd.DataFrame], folder: Path) -> None:
    """Keep a site's texts beside its adapter: those of simulated plants are drawn again instead.

    Args:
        parts: by ``PARTS``.
        folder: the adapter's draft.
    """
    own = [
        rows[~rows["capture"].map(is_simulated)].assign(part=part) for part, rows in parts.items()
    ]
    kept = pd.concat(own, ignore_index=True)[[*_COLUMNS, "part"]]
    kept.to_parquet(folder / KEPT, index=False, compression="zstd")


def split_kept(texts: pd.DataFrame, split: Split) -> dict[str, pd.DataFrame]:
    """The texts of each part of a split."""
    return {part: texts[texts["capture"].isin(getattr(split, part))] for part in PARTS}


def knows_directions(adapter: Path) -> bool:
    """Whether an adapter learned who did it to whom. The shipped one never read that; taught
    beside the labels, it starts at 40 nats a word and drowns them.

    Raises:
        UserError: the kept texts cannot be read.
    """
    return bool((_read_kept(adapter)["direction"] != "").any())


def gather_old(
    adapter: Path,
    card: AdapterCard,
    plants: int,
    recipe: Recipe,
    work: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Old:
    """Gather what an adapter learned before.

    Args:
        adapter: its folder; may hold kept texts.
        card: names the captures.
        plants: simulated plants of each part; every four in a row hold every label.
        recipe: says their sizes, and which seeds nobody learns from.
        work: keeps the plants' texts.
        progress: called with the numbers of plants that are finished and that there are.

    Raises:
        UserError: the kept texts cannot be read.
    """
    kept = _read_kept(adapter)
    learned = [int(name.rsplit("-", 1)[1]) for name in card.data if is_simulated(name)]
    seeds = {
        "train": learned or list(range(*recipe.train_seeds)),
        "held_out": list(range(*recipe.calibrate_seeds)),
        "test": list(range(*recipe.test_seeds)),
    }
    named = {part: [f"simulated-{seed}" for seed in some[:plants]] for part, some in seeds.items()}
    names = [name for some in named.values() for name in some]
    simulated = render_captures(names, {}, recipe, work, progress) if names else _EMPTY
    parts = {}
    for part, purpose in (("train", None), ("held_out", "calibrate"), ("test", "test")):
        runs = _read_runs(card.data if purpose is None else card.split.get(purpose, ()))
        tables = [
            kept[kept["part"] == part][_COLUMNS],
            simulated[simulated["capture"].isin(named[part])],
            runs,
        ]
        parts[part] = pd.concat([one for one in tables if len(one)] or [_EMPTY], ignore_index=True)
    return Old(**parts)


def _read_kept(adapter: Path) -> pd.DataFrame:
    file = adapter / KEPT
    if not file.is_file():
        return _EMPTY.assign(part="")
    try:
        return pd.read_parquet(file, columns=[*_COLUMNS, "part"])
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise UserError(
            f"{file} is no table of kept texts; expected the columns {', '.join(_COLUMNS)}, part; "
            "tune the adapter anew with `faultwise finetune sft`"
        ) from error


def _read_runs(names: Sequence[str]) -> pd.DataFrame:
    """Recorded runs of the shipped table among these captures."""
    there = sorted(set(names) & set(list_recorded(RECORDED)))
    tables = [read_recorded(RECORDED, name) for name in there]
    if not tables:
        return _EMPTY
    runs = pd.concat(tables, ignore_index=True)
    control = runs["text"].str.contains("pkts_control.", regex=False)
    plant = control.groupby(runs["capture"]).transform("any").to_numpy(bool)
    return runs.assign(direction="", kind=np.where(plant, KINDS[1], KINDS[0]))[_COLUMNS]
