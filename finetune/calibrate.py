"""Choose what goes onto a card: temperature, shift and threshold, from captures never trained on.

Held-out plants are troubled on purpose; in service anomalies are rare, so normal gains.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

from assistant.detection.classify import choose, decide, make_probabilities, make_prompts
from assistant.llm.calibration import (
    calibration_error,
    find_prior_shift,
    fit_temperature,
    negative_log_likelihood,
)
from assistant.llm.local import LocalLLM
from prompts.messages import ANSWERS
from traffic.errors import UserError
from traffic.labels import LABELS, NORMAL

THRESHOLDS = np.round(np.arange(0.30, 0.991, 0.01), 2)


@dataclass(frozen=True)
class Calibration:
    """What goes onto the card.

    Attributes:
        temperature: above 1 where the model was too sure.
        prior_shift: nats that normal gains over every anomaly.
        threshold: verdicts with a smaller probability abstain.
        wrong_share: of the held-out windows, those with a wrong anomalous verdict that does not
            abstain.
        abstained_share: of the held-out windows, those whose verdict abstains.
        nll: negative log-likelihood of the truth, nats a window, at that temperature.
        calibration_error: mean distance between a verdict's probability and how often such verdicts
            are right.
    """

    temperature: float
    prior_shift: float
    threshold: float
    wrong_share: float
    abstained_share: float
    nll: float
    calibration_error: float


def calibrate(
    scores: np.ndarray,
    truth: np.ndarray,
    weights: np.ndarray,
    normal: int = 0,
    max_wrong: float = 0.001,
    anomalous_share: float | None = None,
) -> Calibration:
    """Find temperature, shift and threshold on held-out windows.

    Args:
        scores: shape (n, n_labels), log-probabilities.
        truth: shape (n,), the column of the true label.
        weights: shape (n,), windows that each row stands for.
        normal: the column of the normal label.
        max_wrong: the share of windows that may get a wrong anomalous verdict: the smallest
            threshold that keeps to it is chosen, or the largest of all where none does.
        anomalous_share: of windows in service; by default as many as are held out.

    Raises:
        UserError: there are no held-out windows.
    """
    if not len(scores):
        raise UserError(
            "no held-out windows to calibrate on; expected some; hold captures out of training"
        )

    odds = weights / weights.sum()
    temperature = fit_temperature(scores, truth, odds)
    calibrated = make_probabilities(scores, temperature)
    error = calibration_error(calibrated.max(axis=1), calibrated.argmax(axis=1) == truth, odds)
    shift = find_prior_shift(float(odds[truth != normal].sum()), anomalous_share)
    verdict, top = choose(make_probabilities(scores, temperature, shift, normal), normal)
    wrong = (verdict != truth) & (verdict != normal)
    shares = np.array([odds[wrong & (top >= threshold)].sum() for threshold in THRESHOLDS])
    chosen = (
        int(np.argmax(shares <= max_wrong)) if (shares <= max_wrong).any() else len(THRESHOLDS) - 1
    )
    return Calibration(
        temperature=temperature,
        prior_shift=shift,
        threshold=float(THRESHOLDS[chosen]),
        wrong_share=float(shares[chosen]),
        abstained_share=float(odds[(verdict != normal) & (top < THRESHOLDS[chosen])].sum()),
        nll=negative_log_likelihood(scores, truth, odds, temperature),
        calibration_error=error,
    )


# ---- Verdicts on texts that were not trained on, scored as serving scores them ----


def draw_texts(table: pd.DataFrame, per_capture: int, seed: int) -> pd.DataFrame:
    """At most ``per_capture`` texts of each capture, at random, each with the weight it had."""
    return (
        table.sample(frac=1, random_state=seed)
        .groupby("capture", sort=True)
        .head(per_capture)
        .reset_index(drop=True)
    )


def score_texts(table: pd.DataFrame, llm: LocalLLM) -> np.ndarray:
    """Log-probabilities of every label, shape (n_texts, len(LABELS))."""
    return llm.score(
        make_prompts(table["text"].tolist(), llm), [ANSWERS[label] for label in LABELS]
    )


def measure_texts(
    table: pd.DataFrame, scores: np.ndarray, calibration: Calibration
) -> dict[str, float]:
    """Measures of the verdicts on a table of texts, each text counted as often as it occurred.

    Returns:
        ``windows``; ``macro_f1`` over the labels that are true or said anywhere; ``false_share``,
        of the normal windows those with an anomalous verdict that does not abstain, and ``recall``,
        of the anomalous windows those with any such verdict (each only where there are such
        windows); ``abstained_share``.
    """
    verdicts = decide(
        scores, calibration.temperature, calibration.threshold, calibration.prior_shift
    )
    truth, said = table["label"].to_numpy(object), verdicts["label"].to_numpy(object)
    weight = table["weight"].to_numpy(float)
    alarmed = (said != NORMAL) & ~verdicts["abstained"].to_numpy()
    measures = {
        "windows": float(weight.sum()),
        "macro_f1": float(
            f1_score(truth, said, average="macro", sample_weight=weight, zero_division=0.0)
        ),
        "abstained_share": float(np.average(verdicts["abstained"], weights=weight)),
    }
    for name, which in (("false_share", truth == NORMAL), ("recall", truth != NORMAL)):
        if which.any():
            measures[name] = float(np.average(alarmed[which], weights=weight[which]))
    return {name: round(value, 4) for name, value in measures.items()}
