"""How much a window's text can tell: XGBoost on exactly the quantised numbers that the text holds.

Whatever a language model misses below this ceiling is training; what the ceiling misses is the text's fault.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from eval.metrics import Scores, evaluate_labels
from prompts.window_text import text_columns
from traffic.datasets import Labelled, find_labelled, load_labelled, simulate_labelled
from traffic.labels import LABELS, NORMAL

__all__ = ["evaluate_ceiling", "evaluate_text", "thin"]

TRAIN_SEEDS, TEST_SEEDS = 1000, 3000  # as in finetune/recipes/pocket.yaml: plants tested on are never trained on


def evaluate_text(plants: int, tested: int, data: Path | None, rounds: int = 60, seed: int = 0) -> dict[str, Scores]:
    """Measure the text on simulated plants never seen, and on each real capture left out in turn.

    Args:
        plants: simulated plants to learn from.
        tested: simulated plants to score, together one row named ``simulated``.
        data: a folder of labelled captures (IoT-23's form); each is scored by a model that saw all others.
        rounds: boosting rounds.
        seed: of the sampling.

    Returns:
        Scores by capture.

    Raises:
        UserError: ``data`` holds no labelled capture.
    """
    rng = np.random.default_rng(seed)

    def plant(number: int) -> Labelled:
        return thin(simulate_labelled(number, int(rng.integers(3, 15)), 0.5), 80, 200, seed)

    train = [plant(TRAIN_SEEDS + i) for i in range(plants)]
    real = [load_labelled(path) for path in find_labelled(data)] if data is not None else []
    unseen = [plant(TEST_SEEDS + i) for i in range(tested)]
    scores = {"simulated": evaluate_ceiling([*train, *(thin(one, 1500, 3000, seed) for one in real)], unseen, rounds)}
    for left in real:
        others = [thin(one, 1500, 3000, seed) for one in real if one is not left]
        scores[left.name] = evaluate_ceiling([*train, *others], [left], rounds, seed)
    return scores


def evaluate_ceiling(train: Sequence[Labelled], test: Sequence[Labelled], rounds: int = 60, seed: int = 0) -> Scores:
    """Train XGBoost on the text's columns of some captures and score it on others.

    Args:
        train: captures to learn from; rare labels weigh more, as in the second paper's baseline.
        test: captures it has never seen.
        rounds: boosting rounds.
        seed: of the trees.
    """
    from sklearn.utils.class_weight import compute_sample_weight
    from xgboost import XGBClassifier

    truth = pd.concat([one.windows.table["label"] for one in train], ignore_index=True)
    present = [label for label in LABELS if (truth == label).any()]
    codes = truth.map({label: code for code, label in enumerate(present)}).to_numpy(int)
    # The square root: full balancing raises alarms on everything that is a little unusual.
    weights = np.sqrt(compute_sample_weight("balanced", codes))
    model = XGBClassifier(
        n_estimators=rounds,
        max_depth=6,
        learning_rate=0.25,
        subsample=0.7,
        colsample_bytree=0.3,
        max_bin=64,
        random_state=seed,
    )
    model.fit(_columns(train), codes, sample_weight=weights)
    said = np.array(present, dtype=object)[model.predict(_columns(test))]
    return evaluate_labels(np.concatenate([one.windows.table["label"] for one in test]), said)


def thin(labelled: Labelled, per_label: int, per_normal: int, seed: int = 0) -> Labelled:
    """At most so many windows of each label, drawn evenly: they overlap by five sixths, so little is lost."""
    rng = np.random.default_rng(seed)
    chosen = [
        rng.permutation(rows)[: per_normal if label == NORMAL else per_label]
        for label, rows in labelled.windows.table.groupby("label").indices.items()
    ]
    return replace(labelled, windows=labelled.windows.take(np.sort(np.concatenate([np.empty(0, int), *chosen]))))


def _columns(captures: Sequence[Labelled]) -> np.ndarray:
    return np.concatenate([text_columns(one.windows).to_numpy() for one in captures])
