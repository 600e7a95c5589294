"""Choose what windows' texts say: the facts that help most, and where their levels part.

    python -m finetune.pocket.choose_facts --data FOLDER      writes prompts/window_facts.csv

    plants, captures ─▶ all candidates of drawn windows ─▶ XGBoost's gain ─▶ facts ─▶ quantiles

A model is good only for the texts that it was trained on, so this is done once for an edition of
the shipped model, on its training captures alone.
"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from sklearn.utils.class_weight import compute_sample_weight
from xgboost import XGBClassifier

from finetune.dataset import Captures, choose_captures, is_simulated, load_capture
from finetune.recipe import POCKET, Recipe, read_recipe
from prompts.window_text import LEVELS
from traffic.files import write_text
from traffic.labels import LABELS, NORMAL
from traffic.window_facts import CANDIDATES, make_window_facts

# Every word costs time, so gain is weighed against how often a fact is said. XGBoost on unseen plants
# reached macro-F1 0.79 on all 511 candidates, 0.774 on the 192 with most gain (65 words a window),
# 0.773 on the 192 with most gain a word (35 words).
FACTS = 208
_LEAST_SHARE = 0.03
_PLANTS = 400
_PER_LABEL = 12  # windows of a simulated plant; three times as many are normal
_PER_LABEL_REAL = 300
_FILE = Path(__file__).parents[2] / "prompts" / "window_facts.csv"


def draw_candidates(name: str, captures: Captures, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """All candidate facts of some windows of each label: shapes (n, len(CANDIDATES)) and (n,)."""
    windows = load_capture(name, captures.paths.get(name), recipe).windows
    label = windows.table["label"]
    per_label = _PER_LABEL if is_simulated(name) else _PER_LABEL_REAL
    rng = np.random.default_rng(len(windows))
    drawn = [
        rng.permutation(np.flatnonzero(label == one))[: per_label * (3 if one == NORMAL else 1)]
        for one in LABELS
    ]
    rows = np.sort(np.concatenate(drawn))
    codes = label.map(LABELS.index).to_numpy(np.int64)[rows]
    return make_window_facts(windows.take(rows)), codes


def choose_facts(facts: np.ndarray, codes: np.ndarray, count: int, seed: int = 0) -> list[str]:
    """The candidates with most gain a word in telling the labels apart, in the candidates' order.

    Args:
        facts: shape (n, len(CANDIDATES)).
        codes: places in ``LABELS``, shape (n,).
        count: how many.
        seed: of the trees.
    """
    _, dense = np.unique(codes, return_inverse=True)
    trees = XGBClassifier(
        n_estimators=80, max_depth=6, learning_rate=0.2, subsample=0.7, colsample_bytree=0.3,
        max_bin=64, random_state=seed,
    )  # fmt: skip
    trees.fit(facts, dense, sample_weight=compute_sample_weight("balanced", dense) ** 0.5)
    gain = trees.get_booster().get_score(importance_type="total_gain")
    said = (facts != 0).mean(axis=0) + _LEAST_SHARE
    worth = {int(name[1:]): value / said[int(name[1:])] for name, value in gain.items()}
    best = sorted(worth, key=worth.__getitem__, reverse=True)[:count]
    return [CANDIDATES[one] for one in sorted(best)]


def find_edges(facts: np.ndarray) -> np.ndarray:
    """Where the twelve levels of each fact part: its quantiles where it is not zero.

    Args:
        facts: shape (n, n_facts).

    Returns:
        Shape (n_facts, 11), rising, NaN at the end where levels fall together.
    """
    edges = np.full((facts.shape[1], LEVELS - 1), np.nan)
    for place in range(facts.shape[1]):
        said = facts[facts[:, place] != 0, place]
        if len(said):
            found = np.quantile(said, np.linspace(0, 1, LEVELS + 1)[1:-1], method="lower")
            found = np.unique(_round_down(found))
            edges[place, : len(found)] = found
    return edges


def _round_down(values: np.ndarray) -> np.ndarray:
    """To three significant digits: an edge at a number that often occurs must lie below it, or the
    last bit of a float would decide the level."""
    size = 10.0 ** (np.floor(np.log10(np.abs(values))) - 2)
    return np.floor(values / size + 1e-6) * size


def render_facts(names: Sequence[str], edges: np.ndarray) -> str:
    """CSV: a fact a row, the edges to three significant digits."""
    columns = [f"edge_{place}" for place in range(1, LEVELS)]
    table = pd.DataFrame(edges, columns=columns, index=pd.Index(names, name="fact"))
    return table.to_csv(float_format="%.4g")


def main(
    data: list[Path] | None = None,
    exclude: list[str] | None = None,
    count: Annotated[int, typer.Option("--facts", help="How many are chosen.")] = FACTS,
) -> None:
    """Draw, choose and write."""
    recipe = read_recipe(POCKET)
    captures = choose_captures(recipe, data or (), exclude or ())
    plants = [name for name in captures.trained if is_simulated(name)][:_PLANTS]
    names = [*plants, *captures.paths.keys() - {*captures.test}]
    draw = partial(draw_candidates, captures=captures, recipe=recipe)
    with ProcessPoolExecutor(2) as pool:
        parts = list(pool.map(draw, names))
    facts, codes = (np.concatenate(part) for part in zip(*parts, strict=True))
    chosen = choose_facts(facts, codes, count, recipe.seed)
    edges = find_edges(facts[:, [CANDIDATES.index(name) for name in chosen]])
    write_text(_FILE, render_facts(chosen, edges))


if __name__ == "__main__":
    typer.run(main)
