"""What a labelling of windows is worth, beside what is true.

Scores are computed from counts by device, so that the same functions give a number and all of its resamples:

    counts   (..., true label, said label)    ->    scores   (...)

The last two things that can be said are ``anomalous``, of models that tell no labels apart, and ``[invalid]``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from traffic.labels import LABELS

__all__ = [
    *["ALL_SAID", "ANOMALOUS", "Scores", "binary_scores", "calibration_error", "count_confusion", "count_reliability"],
    *["encode", "evaluate_labels", "label_scores", "pr_curve", "precision_area", "risk_scores", "share_at_recall"],
]

ANOMALOUS = "anomalous"
INVALID = "[invalid]"
ALL_SAID: tuple[str, ...] = (*LABELS, ANOMALOUS, INVALID)
BINS = 15


@dataclass(frozen=True)
class Scores:
    """Measures of one labelling; shares lie in [0, 1], NaN where nothing can be measured.

    Attributes:
        windows: how many were scored.
        macro_f1: mean F1 over the labels that are true somewhere or were said somewhere.
        binary_f1: macro F1 of normal against anomalous.
        false_share: of the windows that are normal, those called anomalous.
        recall: of the windows that are anomalous, those called anomalous (whatever the label).
    """

    windows: int
    macro_f1: float
    binary_f1: float
    false_share: float
    recall: float

    def to_dict(self) -> dict[str, float]:
        """The measures by name, rounded to four places."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def evaluate_labels(truth: np.ndarray, said: np.ndarray) -> Scores:
    """Compare labels, window by window.

    Args:
        truth: shape (n_windows,), our labels.
        said: shape (n_windows,), our labels.
    """
    counts = count_confusion(encode(truth), encode(said), np.zeros(len(truth), int), 1)[0]
    several, two = label_scores(counts), binary_scores(counts, LABELS[1:])
    return Scores(
        windows=len(truth),
        macro_f1=float(several["f1"]),
        binary_f1=float(two["binary_macro_f1"]),
        false_share=float(two["false_share"]),
        recall=float(two["binary_recall"]),
    )


def encode(labels: Sequence[str] | np.ndarray) -> np.ndarray:
    """Places in ``ALL_SAID``, shape (n,), int64; -1 for anything else."""
    code = {label: place for place, label in enumerate(ALL_SAID)}
    return np.array([code.get(label, -1) for label in labels], np.int64)


def count_confusion(truth: np.ndarray, said: np.ndarray, unit: np.ndarray, units: int) -> np.ndarray:
    """Windows by unit (as device), true and said label: shape (units, len(LABELS), len(ALL_SAID)), float64.

    Args:
        truth: shape (n,), places in LABELS.
        said: shape (n,), places in ALL_SAID.
        unit: shape (n,), 0 to ``units`` - 1.
        units: how many there are.
    """
    key = (unit * len(LABELS) + truth) * len(ALL_SAID) + said
    counts = np.bincount(key, minlength=units * len(LABELS) * len(ALL_SAID)).astype(float)
    return counts.reshape(units, len(LABELS), len(ALL_SAID))


def label_scores(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Measures over labels, each shape (...), and ``per_label`` precision, recall and F1, each (..., len(LABELS)).

    A mean is over the labels that are true or said somewhere; as in scikit-learn with ``zero_division=0``, except that
    an invalid answer is wrong and no label of its own.

    Args:
        counts: shape (..., len(LABELS), len(ALL_SAID)).
    """
    known = counts[..., : len(LABELS)]
    right = np.diagonal(known, axis1=-2, axis2=-1)  # (..., labels)
    true, said, n = counts.sum(axis=-1), known.sum(axis=-2), counts.sum(axis=(-2, -1))
    precision, recall = _share(right, said, 0.0), _share(right, true, 0.0)
    f1 = _share(2 * right, true + said, 0.0)
    present = ((true > 0) | (said > 0)).sum(axis=-1)
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
        counts: shape (..., len(LABELS), len(ALL_SAID)).
        alarms: the labels to be found; ``anomalous`` is an alarm too.
    """
    true = np.isin(LABELS, alarms)
    alarm, calm = np.isin(ALL_SAID, (*alarms, ANOMALOUS)), np.isin(ALL_SAID, [x for x in LABELS if x not in alarms])

    def total(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return np.asarray(counts[..., rows, :][..., columns].sum(axis=(-2, -1)))

    found, missed = total(true, alarm), total(true, calm)
    false, left = total(~true, alarm), total(~true, calm)
    bad, good = counts[..., true, :].sum(axis=(-2, -1)), counts[..., ~true, :].sum(axis=(-2, -1))
    f1, calm_f1 = _share(2 * found, bad + found + false, 0.0), _share(2 * left, good + left + missed, 0.0)
    # A mean over what is true or said, as over labels.
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


def count_reliability(confidence: np.ndarray, right: np.ndarray, unit: np.ndarray, units: int) -> np.ndarray:
    """Per unit and bin of confidence: windows, sum of confidence, windows that are right; shape (units, BINS, 3)."""
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    key, size = unit * BINS + place, units * BINS
    parts = [np.bincount(key, weight, size) for weight in (np.ones(len(key)), confidence, right.astype(float))]
    return np.stack(parts, axis=-1).reshape(units, BINS, 3)


def calibration_error(reliability: np.ndarray) -> np.ndarray:
    """Expected calibration error of counts of shape (..., BINS, 3): shape (...) (Guo et al. 2017, equation 3)."""
    gap = np.abs(reliability[..., 1] - reliability[..., 2]).sum(axis=-1)
    return _share(gap, reliability[..., 0].sum(axis=-1))


def precision_area(truth: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision, as scikit-learn's, for several weightings of the windows.

    Args:
        truth: shape (n,), bool.
        score: shape (n,), higher where an alarm is likelier.
        weights: shape (k, n).

    Returns:
        Shape (k,); NaN where nothing is true.
    """
    found, called = _sums_above(score, (weights * truth, weights))
    precision = _share(found, called, 0.0)
    gained = np.diff(found, axis=1, prepend=0.0)
    return _share((precision * gained).sum(axis=1), found[:, -1] if found.shape[1] else np.zeros(len(weights)))


def pr_curve(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision at every threshold, from the highest on."""
    found, called = (one[0] for one in _sums_above(score, (truth[None] * 1.0, np.ones((1, len(truth))))))
    return _share(found, np.full(len(found), truth.sum()), 0.0), _share(found, called, 0.0)


def share_at_recall(truth: np.ndarray, score: np.ndarray, weights: np.ndarray, recall: float = 0.75) -> np.ndarray:
    """Share of the windows that are no alarm above the highest threshold that finds ``recall`` of those that are, (k,)."""
    found, called = _sums_above(score, (weights * truth, weights))
    if not found.shape[1]:
        return np.full(len(weights), np.nan)
    enough = found >= recall * found[:, -1:] - 1e-9
    place = enough.argmax(axis=1)
    false = np.take_along_axis(called - found, place[:, None], axis=1)[:, 0]
    return np.where(found[:, -1] > 0, _share(false, called[:, -1] - found[:, -1]), np.nan)


def risk_scores(right: np.ndarray, confidence: np.ndarray, weights: np.ndarray) -> Mapping[str, np.ndarray]:
    """What abstaining below a confidence buys (Geifman, El-Yaniv 2017), for several weightings, each (k,).

    Args:
        right: shape (n,), bool.
        confidence: shape (n,).
        weights: shape (k, n).

    Returns:
        ``risk_area``, the mean over windows of the share of wrong answers among those at least as sure, and
        ``coverage_at_5_percent``, the largest share of windows, the surest, of which at most 5 % are wrong.
    """
    wrong, answered = _sums_above(confidence, (weights * ~right, weights))
    n = answered[:, -1] if answered.shape[1] else np.zeros(len(weights))
    risk = _share(wrong, answered, 0.0)
    area = (risk * np.diff(answered, axis=1, prepend=0.0)).sum(axis=1)
    covered = np.where(risk <= 0.05, answered, 0.0).max(axis=1, initial=0.0)
    return {"risk_area": _share(area, n), "coverage_at_5_percent": _share(covered, n)}


def _sums_above(score: np.ndarray, values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Running sums of each (k, n) from the highest score down, one column per different score: equal ones are one."""
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.append(score[order][1:] != score[order][:-1], True)) if len(order) else order
    return [np.cumsum(value[:, order], axis=1)[:, ends] for value in values]
