"""Tables and curves of a row of results: by label, confusion, precision and recall, reliability, risk and coverage."""

import numpy as np

from eval.detection.metrics import ALL_SAID, count_levels, count_reliability, label_scores, pr_curve, risk_curve
from eval.detection.predictions import Said
from eval.results import Confusion, Curve, Curves, LabelScores, Reliability
from traffic.labels import LABELS

__all__ = ["draw_curves", "shorten", "tabulate_confusion", "tabulate_labels"]

_CURVE_POINTS = 101


def shorten(value: float) -> float:
    """Six digits: more would be noise, and files of results are read by people."""
    return float(f"{value:.6g}")


def tabulate_labels(total: np.ndarray) -> dict[str, LabelScores]:
    """Scores of every label that is true or was said, from counts of shape (len(LABELS), len(ALL_SAID))."""
    scores, windows = label_scores(total), total.sum(axis=1)
    said = total.sum(axis=0)
    return {
        label: LabelScores(
            precision=shorten(float(scores["label_precision"][place])) if said[place] else None,
            recall=shorten(float(scores["label_recall"][place])) if windows[place] else None,
            f1=shorten(float(scores["label_f1"][place])),
            windows=int(windows[place]),
        )
        for place, label in enumerate(LABELS)
        if windows[place] or said[place]
    }


def tabulate_confusion(total: np.ndarray) -> Confusion:
    """The counts of what is true or was said."""
    square = np.zeros((len(ALL_SAID), len(ALL_SAID)))
    square[: len(LABELS)] = total
    used = np.flatnonzero(square.any(axis=0) | square.any(axis=1))
    counts = square[np.ix_(used, used)].astype(int)
    return Confusion(labels=tuple(ALL_SAID[i] for i in used), counts=tuple(tuple(map(int, row)) for row in counts))


def draw_curves(said: Said, due: np.ndarray, right: np.ndarray) -> Curves:
    """All curves of some answers; ``due`` and ``right`` of shape (n,): an alarm was due, the answer is right."""
    one = np.zeros(len(due), np.int64)
    alarm = count_levels(said.alarm, due, one, 1)
    sure = count_levels(said.confidence, right, one, 1)
    bins = count_reliability(said.confidence, right, one, 1)[0]
    bins = bins[bins[:, 0] > 0]
    return Curves(
        pr=_curve(pr_curve(alarm)) if due.any() else None,
        reliability=Reliability(
            confidence=tuple(shorten(x) for x in bins[:, 1] / bins[:, 0]),
            right=tuple(shorten(x) for x in bins[:, 2] / bins[:, 0]),
            windows=tuple(int(x) for x in bins[:, 0]),
        ),
        risk_coverage=_curve(risk_curve(sure)),
    )


def _curve(points: np.ndarray) -> Curve:
    """At most 101 of the points (2, n), evenly along x, the first and the last among them."""
    x = points[0]
    wanted = np.searchsorted(x, np.linspace(x[0], x[-1], _CURVE_POINTS))
    chosen = np.unique(np.minimum(wanted, len(x) - 1))
    return Curve(x=tuple(shorten(v) for v in x[chosen]), y=tuple(shorten(v) for v in points[1][chosen]))
