"""Score texts of captures that were not trained on, as serving would, and measure the verdicts."""

import numpy as np
import pandas as pd

from assistant.detection.classify import decide, make_prompts
from assistant.llm.local import LocalLLM
from finetune.calibrate import Calibration
from prompts.messages import ANSWERS
from traffic.labels import LABELS, NORMAL

__all__ = ["draw_texts", "measure_texts", "score_texts"]


def draw_texts(table: pd.DataFrame, per_capture: int, seed: int) -> pd.DataFrame:
    """At most ``per_capture`` texts of each capture, at random, each with the weight it had."""
    return (
        table.sample(frac=1, random_state=seed).groupby("capture", sort=True).head(per_capture).reset_index(drop=True)
    )


def score_texts(table: pd.DataFrame, llm: LocalLLM) -> np.ndarray:
    """Log-probabilities of every label, shape (n_texts, len(LABELS))."""
    return llm.score(make_prompts(table["text"].tolist(), llm), [ANSWERS[label] for label in LABELS])


def measure_texts(table: pd.DataFrame, scores: np.ndarray, calibration: Calibration) -> dict[str, float]:
    """Measures of the verdicts on a table of texts, each text counted as often as it occurred.

    Returns:
        ``windows``; ``macro_f1`` over the labels that are true or said anywhere; ``false_share``, of the normal windows
        those with an anomalous verdict that does not abstain, and ``recall``, of the anomalous windows those with any
        such verdict (each only where there are such windows); ``abstained_share``.
    """
    from sklearn.metrics import f1_score

    verdicts = decide(scores, calibration.temperature, calibration.threshold, calibration.prior_shift)
    truth, said = table["label"].to_numpy(object), verdicts["label"].to_numpy(object)
    weight = table["weight"].to_numpy(float)
    alarmed = (said != NORMAL) & ~verdicts["abstained"].to_numpy()
    measures = {
        "windows": float(weight.sum()),
        "macro_f1": float(f1_score(truth, said, average="macro", sample_weight=weight, zero_division=0.0)),
        "abstained_share": float(np.average(verdicts["abstained"], weights=weight)),
    }
    for name, which in (("false_share", truth == NORMAL), ("recall", truth != NORMAL)):
        if which.any():
            measures[name] = float(np.average(alarmed[which], weights=weight[which]))
    return {name: round(value, 4) for name, value in measures.items()}
