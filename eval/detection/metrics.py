"""Measures of predicted labels against true ones.

Scores are computed from counts by device, so that the same functions give a number and all of its
resamples (scikit-learn's take one table of windows at a time; the tests hold ours to theirs):

    counts   (..., true label, predicted label)    ->    scores   (...)

Beside our labels a model may predict ``anomalous``, where it tells no labels apart, and
``[invalid]``, where its answer could not be read.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.models.classifier import ANOMALOUS
from eval.results import INVALID
from traffic.labels import LABELS

ALL_PREDICTED: tuple[str, ...] = (*LABELS, ANOMALOUS, INVALID)
BINS = 15


def encode(labels: Sequence[str] | np.ndarray) -> np.ndarray:
    """Places in ``ALL_PREDICTED``, shape (n,), int64; -1 for anything else."""
    code = {label: place for place, label in enumerate(ALL_PREDICTED)}
    return np.array([code.get(label, -1) for label in labels], np.int64)


def find_alarms(labels: Sequence[str] | np.ndarray, alarms: Sequence[str]) -> np.ndarray:
    """Predicted labels that raise an alarm, ``anomalous`` among them: shape (n,), bool."""
    return np.isin(labels, (*alarms, ANOMALOUS))


def count_confusion(
    truth: np.ndarray, predicted: np.ndarray, unit: np.ndarray, units: int
) -> np.ndarray:
    """Windows by unit (as device), true and predicted label.

    Args:
        truth: shape (n,), places in LABELS.
        predicted: shape (n,), places in ALL_PREDICTED.
        unit: shape (n,), 0 to ``units`` - 1.
        units: how many there are.

    Returns:
        Shape (units, len(LABELS), len(ALL_PREDICTED)), float64.
    """
    shape = (units, len(LABELS), len(ALL_PREDICTED))
    key = np.ravel_multi_index((unit, truth, predicted), shape)
    return np.bincount(key, minlength=int(np.prod(shape))).astype(float).reshape(shape)


def label_scores(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Measures over labels, each shape (...), and ``label_…`` of each label, each shape (...,
    len(LABELS)).

    A mean is over the labels that are true or predicted somewhere; as in scikit-learn with
    ``zero_division=0``, except that an invalid answer is wrong and no label of its own.

    Args:
        counts: shape (..., len(LABELS), len(ALL_PREDICTED)).
    """
    known = counts[..., : len(LABELS)]
    right = np.diagonal(known, axis1=-2, axis2=-1)  # (..., labels)
    true, predicted, n = counts.sum(axis=-1), known.sum(axis=-2), counts.sum(axis=(-2, -1))
    precision, recall = _share(right, predicted, 0.0), _share(right, true, 0.0)
    f1 = _share(2 * right, true + predicted, 0.0)
    present = ((true > 0) | (predicted > 0)).sum(axis=-1)
    return {
        "accuracy": _share(right.sum(axis=-1), n),
        "precision": _share(precision.sum(axis=-1), present),
        "recall": _share(recall.sum(axis=-1), present),
        "f1": _share(f1.sum(axis=-1), present),
        "weighted_f1": _share((f1 * true).sum(axis=-1), n),
        "label_precision": precision,
        "label_recall": recall,
        "label_f1": f1,
    }


def binary_scores(counts: np.ndarray, alarms: Sequence[str]) -> dict[str, np.ndarray]:
    """Measures of alarm against no alarm, each shape (...).

    Args:
        counts: shape (..., len(LABELS), len(ALL_PREDICTED)).
        alarms: the labels to be found; ``anomalous`` is an alarm too.
    """
    true, alarm = np.isin(LABELS, alarms), find_alarms(ALL_PREDICTED, alarms)
    calm = np.isin(ALL_PREDICTED, [label for label in LABELS if label not in alarms])

    def total(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return np.asarray(counts[..., rows, :][..., columns].sum(axis=(-2, -1)))

    found, missed = total(true, alarm), total(true, calm)
    false, left = total(~true, alarm), total(~true, calm)
    bad, good = counts[..., true, :].sum(axis=(-2, -1)), counts[..., ~true, :].sum(axis=(-2, -1))
    f1 = _share(2 * found, bad + found + false, 0.0)
    calm_f1 = _share(2 * left, good + left + missed, 0.0)
    # A mean over what is true or predicted, as over labels.
    two = ((bad + found + false) > 0).astype(float) + ((good + left + missed) > 0)
    return {
        "binary_accuracy": _share(found + left, bad + good),
        "binary_precision": np.where(bad > 0, _share(found, found + false, 0.0), np.nan),
        "binary_recall": _share(found, bad),
        "binary_f1": np.where(bad > 0, f1, np.nan),
        "binary_macro_f1": _share(f1 + calm_f1, two),
        "false_share": _share(false, good),
    }


def _share(part: np.ndarray, whole: np.ndarray, none: float = np.nan) -> np.ndarray:
    whole = np.asarray(whole, float)
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), none)


def count_reliability(
    confidence: np.ndarray, right: np.ndarray, unit: np.ndarray, units: int
) -> np.ndarray:
    """Windows, sum of confidence and right windows of each unit and bin of confidence.

    Returns:
        Shape (units, BINS, 3).
    """
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    key, size = unit * BINS + place, units * BINS
    weights = (np.ones(len(key)), confidence, right.astype(float))
    parts = [np.bincount(key, weight, size) for weight in weights]
    return np.stack(parts, axis=-1).reshape(units, BINS, 3)


def calibration_error(reliability: np.ndarray) -> np.ndarray:
    """Expected calibration error (Guo et al. 2017, equation 3): (..., BINS, 3) -> (...)."""
    gap = np.abs(reliability[..., 1] - reliability[..., 2]).sum(axis=-1)
    return _share(gap, reliability[..., 0].sum(axis=-1))


@dataclass(frozen=True)
class Levels:
    """Windows by unit and threshold, the highest score first; equal scores share a threshold.

    Attributes:
        yes: those for which the question is true, shape (..., n_thresholds).
        all: all of them, the same shape.
    """

    yes: np.ndarray
    all: np.ndarray

    def drawn(self, weights: np.ndarray) -> "Levels":
        """The same for resamples of the units, by weights of shape (k, units)."""
        return Levels(weights @ self.yes, weights @ self.all)


def count_levels(
    score: np.ndarray, yes: np.ndarray, unit: np.ndarray, units: int, most: int | None = None
) -> Levels:
    """Count windows by unit and threshold.

    Args:
        score: shape (n,).
        yes: shape (n,), bool.
        unit: shape (n,), 0 to ``units`` - 1.
        units: how many there are.
        most: thresholds at most; neighbouring ones are joined, each of about as many windows.
    """
    different, place = np.unique(-score, return_inverse=True)
    n = len(different)
    if most is not None and n > most:
        share = np.cumsum(np.bincount(place, minlength=n)) / len(score)
        joined = np.minimum((share * most).astype(np.int64), most - 1)
        place, n = np.unique(joined, return_inverse=True)[1][place], len(np.unique(joined))
    key, size = unit * n + place, units * n
    due, every = (
        np.bincount(key, weight, size).reshape(units, n)
        for weight in (yes.astype(float), np.ones(len(key)))
    )
    return Levels(due, every)


def precision_area(levels: Levels) -> np.ndarray:
    """Average precision as scikit-learn's, shape (...); ``yes`` is an alarm that is due.

    NaN where none is.
    """
    found, called = levels.yes.cumsum(axis=-1), levels.all.cumsum(axis=-1)
    return _share((_share(found, called, 0.0) * levels.yes).sum(axis=-1), levels.yes.sum(axis=-1))


def share_at_recall(levels: Levels) -> np.ndarray:
    """Share of false alarms at the highest threshold that finds 75 % of the due ones, (...)."""
    found, called = levels.yes.cumsum(axis=-1), levels.all.cumsum(axis=-1)
    due = levels.yes.sum(axis=-1)
    if not found.shape[-1]:
        return np.full(due.shape, np.nan)
    place = (found >= 0.75 * due[..., None] - 1e-9).argmax(axis=-1)
    false = np.take_along_axis(called - found, place[..., None], axis=-1)[..., 0]
    return np.where(due > 0, _share(false, levels.all.sum(axis=-1) - due), np.nan)


def risk_scores(levels: Levels) -> dict[str, np.ndarray]:
    """Risk and coverage of abstaining below a confidence (Geifman, El-Yaniv 2017).

    ``yes`` is a right answer.

    Returns:
        Each of shape (...): ``risk_area``, the mean over windows of the share of wrong answers
        among those at least as sure; ``coverage_at_5_percent``, the largest share of windows, the
        surest, of which at most 5 % are wrong.
    """
    answered = levels.all.cumsum(axis=-1)
    risk, n = _share(answered - levels.yes.cumsum(axis=-1), answered, 0.0), levels.all.sum(axis=-1)
    covered = np.where(risk <= 0.05 + 1e-12, answered, 0.0).max(axis=-1, initial=0.0)
    return {
        "risk_area": _share((risk * levels.all).sum(axis=-1), n),
        "coverage_at_5_percent": _share(covered, n),
    }


def pr_curve(levels: Levels) -> np.ndarray:
    """Recall and precision at every threshold, from the highest on: shape (2, n_thresholds)."""
    found, called = levels.yes.sum(axis=0).cumsum(), levels.all.sum(axis=0).cumsum()
    due = np.full(len(found), levels.yes.sum())
    return np.stack([_share(found, due, 0.0), _share(found, called, 0.0)])


def risk_curve(levels: Levels) -> np.ndarray:
    """Coverage and share of wrong answers at every confidence, surest first: (2, n_thresholds)."""
    right, answered = levels.yes.sum(axis=0).cumsum(), levels.all.sum(axis=0).cumsum()
    every = np.full(len(right), levels.all.sum())
    return np.stack([_share(answered, every, 0.0), _share(answered - right, answered)])
