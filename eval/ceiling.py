"""How much a window's text can tell: XGBoost on exactly the quantised numbers that the text holds.

Whatever a language model misses below this ceiling is training; what the ceiling misses is the text's fault.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from eval.metrics import Scores, evaluate_labels
from prompts.window_text import text_columns
from traffic.datasets import Labelled
from traffic.labels import LABELS

__all__ = ["evaluate_ceiling"]


def evaluate_ceiling(
    train: Sequence[Labelled], test: Sequence[Labelled], seed: int = 0, rounds: int = 200
) -> dict[str, Scores]:
    """Train XGBoost on the text's columns of some captures and score it on others.

    Args:
        train: captures to learn from; rare labels weigh more, as in the second paper's baseline.
        test: captures it has never seen, each scored on its own.
        seed: of the sampling.
        rounds: boosting rounds.

    Returns:
        Scores by the test capture's name.
    """
    from sklearn.utils.class_weight import compute_sample_weight
    from xgboost import XGBClassifier

    columns = pd.concat([text_columns(one.windows) for one in train], ignore_index=True)
    truth = pd.concat([one.windows.table["label"] for one in train], ignore_index=True)
    present = [label for label in LABELS if (truth == label).any()]
    codes = truth.map({label: code for code, label in enumerate(present)}).to_numpy(int)
    weights = np.sqrt(compute_sample_weight("balanced", codes))
    model = XGBClassifier(
        n_estimators=rounds, max_depth=7, learning_rate=0.15, subsample=0.8, colsample_bytree=0.5, tree_method="hist",
        random_state=seed,
    )  # fmt: skip
    model.fit(columns.to_numpy(), codes, sample_weight=weights)
    names = np.array(present, dtype=object)
    return {
        one.name: evaluate_labels(
            one.windows.table["label"], names[model.predict(text_columns(one.windows).to_numpy())]
        )
        for one in test
    }
