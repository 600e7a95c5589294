"""Scores of one or several fits: numbers, their intervals over devices, confusion and curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.detection.alarms import AlarmCounts
from eval.detection.bootstrap import draw_weights, find_interval, resample_median
from eval.detection.corpus import Corpus
from eval.detection.metrics import (
    ALL_PREDICTED,
    binary_scores,
    calibration_error,
    count_confusion,
    count_levels,
    count_reliability,
    encode,
    find_alarms,
    label_scores,
    pr_curve,
    precision_area,
    risk_curve,
    risk_scores,
    share_at_recall,
)
from eval.results import (
    INVALID,
    MEASURES,
    Confusion,
    Curve,
    Curves,
    Estimate,
    Labelling,
    LabelScores,
    Reliability,
)
from traffic.capture import SAMPLE_S
from traffic.labels import ATTACKS, LABELS, NORMAL

_DAY_S = 86400.0
_CURVE_POINTS = 101
_LEVELS = 2000  # thresholds of the resamples; the number itself is exact
_OVER_LABELS = ("accuracy", "precision", "recall", "f1", "weighted_f1")


@dataclass(frozen=True)
class Predictions:
    """The predictions of one fit on one fold; the first six of shape (n,), a row per window.

    Attributes:
        rows: places in the corpus of the windows that are scored.
        code: predicted labels, places in ``eval.detection.metrics.ALL_PREDICTED``.
        confidence: probability of the predicted label; 0 where the answer could not be read.
        alarm: probability that the window deserves an alarm; likewise.
        abstained: serving would give no verdict.
        named: as ``code``, the likeliest anomaly, whether the window is called normal or not.
        incidents: by capture's hash, so that no name decides an order; empty where none were made.
        delays: by capture's hash, seconds to the detection of each true interval, NaN where it was
            missed; empty where the fold holds no whole captures.
    """

    rows: np.ndarray
    code: np.ndarray
    confidence: np.ndarray
    alarm: np.ndarray
    abstained: np.ndarray
    named: np.ndarray
    incidents: Mapping[str, AlarmCounts]
    delays: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class TestedWindows:
    """Predictions of one fit or of several beside the truth, a row per window, shape (n,) each.

    Attributes:
        truth: places in LABELS.
        code, confidence, alarm, abstained: as in `Predictions`.
        unit: number of the device, 0 to ``units`` - 1, the same for all seeds.
        units: how many devices.
        alarms: the labels that deserve an alarm.
        binary: the model tells no labels apart.
    """

    truth: np.ndarray
    code: np.ndarray
    confidence: np.ndarray
    alarm: np.ndarray
    abstained: np.ndarray
    unit: np.ndarray
    units: int
    alarms: tuple[str, ...]
    binary: bool

    @property
    def due(self) -> np.ndarray:
        """Windows that deserve an alarm."""
        return np.isin(LABELS, self.alarms)[self.truth]

    @property
    def right(self) -> np.ndarray:
        """Windows with a right answer; of a binary model, as far as it goes."""
        if not self.binary:
            return self.code == self.truth
        called = self.code != LABELS.index(NORMAL)
        return (called == self.due) & (self.code != ALL_PREDICTED.index(INVALID))


@dataclass(frozen=True)
class Scores:
    """What a row of results holds on the quality of predictions."""

    scores: Mapping[str, Estimate]
    per_label: Mapping[str, LabelScores]
    confusion: Confusion
    curves: Curves


def alarm_labels(alarm: str) -> tuple[str, ...]:
    """The labels that deserve an alarm under a protocol."""
    return ATTACKS if alarm == "attack" else LABELS[1:]


def gather(
    corpus: Corpus,
    labelling: Labelling,
    predictions: Sequence[Predictions],
    alarms: tuple[str, ...],
    binary: bool,
) -> TestedWindows:
    """Put the predictions of fits together with the truth."""
    names = ("rows", "code", "confidence", "alarm", "abstained")
    rows, code, confidence, alarm, abstained = (
        np.concatenate([getattr(one, name) for one in predictions]) for name in names
    )
    units, unit = np.unique(corpus.device[rows], return_inverse=True)
    truth = encode(corpus.labels[labelling][rows])
    answers = (code, confidence, alarm, abstained)
    return TestedWindows(truth, *answers, unit, len(units), alarms, binary)


def score(
    tested: TestedWindows, predictions: Sequence[Predictions], resamples: int, whole: bool
) -> Scores:
    """All measures of some fits.

    Args:
        tested: what `gather` made of ``predictions``.
        predictions: of the fits; each true interval and each capture is one unit, whatever seeds
            predicted it.
        resamples: of the bootstrap.
        whole: scores of each label and curves too, as pooled rows have them.
    """
    rng = np.random.default_rng(0)
    weights = draw_weights(tested.units, resamples, rng)
    counts = count_confusion(tested.truth, tested.code, tested.unit, tested.units)
    estimates = {name: Estimate(value=None) for name in MEASURES}
    point = _measure(tested, counts, np.ones((1, tested.units)), None)
    drawn = _measure(tested, counts, weights, _LEVELS)
    for name, values in point.items():
        estimates[name] = _estimate(float(values[0]), drawn[name] if tested.units > 1 else None)
    estimates |= _score_incidents(predictions, resamples, rng)
    estimates |= _score_delays(predictions, resamples, rng)
    total = counts.sum(axis=0)
    none = Curves(pr=None, reliability=None, risk_coverage=None)
    return Scores(
        estimates,
        tabulate_labels(total) if whole and not tested.binary else {},
        tabulate_confusion(total),
        _curves(tested) if whole else none,
    )


def score_constant(tested: TestedWindows) -> dict[str, float]:
    """The level of chance: the best macro-F1 of one answer to every window, which is normal or the
    commonest label."""
    true = np.bincount(tested.truth, minlength=len(LABELS))
    best = {"f1": 0.0, "binary_macro_f1": 0.0}
    for place in {LABELS.index(NORMAL), int(true.argmax())}:
        counts = np.zeros((len(LABELS), len(ALL_PREDICTED)))
        counts[:, place] = true
        scores = label_scores(counts) | binary_scores(counts, tested.alarms)
        best = {name: max(value, float(scores[name])) for name, value in best.items()}
    return best


# ---- Numbers and their intervals ----


def _measure(
    tested: TestedWindows, counts: np.ndarray, weights: np.ndarray, most: int | None
) -> dict[str, np.ndarray]:
    """Every measure over windows for each weighting of the devices, each shape (len(weights),)."""
    unit, units = tested.unit, tested.units
    drawn = np.tensordot(weights, counts, axes=1)  # (k, true, predicted)
    scores = {} if tested.binary else label_scores(drawn)
    measured = {name: scores[name] for name in _OVER_LABELS if name in scores}
    measured |= binary_scores(drawn, tested.alarms)
    alarm = count_levels(tested.alarm, tested.due, unit, units, most).drawn(weights)
    measured["pr_auc"] = precision_area(alarm)
    measured["false_share_at_recall_75"] = share_at_recall(alarm)
    sure = count_levels(tested.confidence, tested.right, unit, units, most).drawn(weights)
    measured |= risk_scores(sure)
    reliability = count_reliability(tested.confidence, tested.right, unit, units)
    measured["calibration_error"] = calibration_error(np.tensordot(weights, reliability, axes=1))
    # A device that is seen all day has a window every ten seconds.
    false = find_alarms(ALL_PREDICTED, tested.alarms)[tested.code] & ~tested.abstained & ~tested.due
    days = np.bincount(unit, minlength=units) * SAMPLE_S / _DAY_S
    false_alarms = weights @ np.bincount(unit, false, units)
    measured["false_per_device_day"] = np.asarray(false_alarms / (weights @ days))
    return measured


def _score_incidents(
    predictions: Sequence[Predictions], resamples: int, rng: np.random.Generator
) -> dict[str, Estimate]:
    """Incidents of each capture, the mean over its fits, in proportion to its minutes."""
    names = sorted({name for one in predictions for name in one.incidents})
    if not names:
        return {}
    each = [[one.incidents[name] for one in predictions if name in one.incidents] for name in names]
    minutes, incidents, false = (
        np.array([np.mean([getattr(one, what) for one in counts]) for counts in each])
        for what in ("minutes", "incidents", "false")
    )
    weights = draw_weights(len(names), resamples, rng)
    estimates = {}
    for measure, counts in (
        ("incidents_per_10_min", incidents),
        ("false_incidents_per_10_min", false),
    ):
        drawn = 10 * (weights @ counts) / (weights @ minutes) if len(names) > 1 else None
        estimates[measure] = _estimate(10 * counts.sum() / minutes.sum(), drawn)
    return estimates


def _score_delays(
    predictions: Sequence[Predictions], resamples: int, rng: np.random.Generator
) -> dict[str, Estimate]:
    """The share of the true intervals that was found, and the median delay; a mean over fits each."""
    names = sorted({name for one in predictions for name in one.delays})
    found, delay = [np.empty(0)], [np.empty(0)]
    for name in names:
        # (fits, intervals)
        each = np.array([one.delays[name] for one in predictions if name in one.delays])
        hits = np.isfinite(each).sum(axis=0)
        found.append(hits / len(each))
        delay.append(np.where(hits > 0, np.nansum(each, axis=0) / np.maximum(hits, 1), np.nan))
    share, seconds = np.concatenate(found), np.concatenate(delay)
    if not len(share):
        return {}
    drawn = share[rng.integers(0, len(share), (resamples, len(share)))].mean(axis=1)
    some = seconds[np.isfinite(seconds)]
    estimates = {"found_share": _estimate(float(share.mean()), drawn if len(share) > 1 else None)}
    if len(some):
        medians = resample_median(some, resamples, rng) if len(some) > 1 else None
        estimates["time_to_detection_s"] = _estimate(float(np.median(some)), medians)
    return estimates


def _estimate(value: float, drawn: np.ndarray | None) -> Estimate:
    if not np.isfinite(value):
        return Estimate(value=None)
    if drawn is None or not np.isfinite(drawn).any():
        return Estimate(value=shorten(value))
    low, high = find_interval(drawn)
    return Estimate(value=shorten(value), low=shorten(low), high=shorten(high))


def shorten(value: float) -> float:
    """Six digits: more would be noise, and files of results are read by people."""
    return float(f"{value:.6g}")


# ---- Tables and curves ----


def tabulate_labels(total: np.ndarray) -> dict[str, LabelScores]:
    """Scores of every label that is true or was predicted.

    Args:
        total: counts, shape (len(LABELS), len(ALL_PREDICTED)).
    """
    scores, true, predicted = label_scores(total), total.sum(axis=1), total.sum(axis=0)
    return {
        label: LabelScores(
            precision=shorten(float(scores["label_precision"][i])) if predicted[i] else None,
            recall=shorten(float(scores["label_recall"][i])) if true[i] else None,
            f1=shorten(float(scores["label_f1"][i])),
            windows=int(true[i]),
        )
        for i, label in enumerate(LABELS)
        if true[i] or predicted[i]
    }


def tabulate_confusion(total: np.ndarray) -> Confusion:
    """The counts of what is true or was predicted."""
    square = np.zeros((len(ALL_PREDICTED), len(ALL_PREDICTED)))
    square[: len(LABELS)] = total
    used = np.flatnonzero(square.any(axis=0) | square.any(axis=1))
    counts = square[np.ix_(used, used)].astype(int)
    return Confusion(
        labels=tuple(ALL_PREDICTED[i] for i in used),
        counts=tuple(tuple(map(int, row)) for row in counts),
    )


def _curves(tested: TestedWindows) -> Curves:
    one = np.zeros(len(tested.truth), np.int64)
    due, right = tested.due, tested.right
    bins = count_reliability(tested.confidence, right, one, 1)[0]
    bins = bins[bins[:, 0] > 0]
    return Curves(
        pr=_curve(pr_curve(count_levels(tested.alarm, due, one, 1))) if due.any() else None,
        reliability=Reliability(
            confidence=tuple(shorten(x) for x in bins[:, 1] / bins[:, 0]),
            right=tuple(shorten(x) for x in bins[:, 2] / bins[:, 0]),
            windows=tuple(int(x) for x in bins[:, 0]),
        ),
        risk_coverage=_curve(risk_curve(count_levels(tested.confidence, right, one, 1))),
    )


def _curve(points: np.ndarray) -> Curve:
    """At most 101 of the points (2, n), evenly along x, the first and the last among them."""
    x, y = points
    wanted = np.searchsorted(x, np.linspace(x[0], x[-1], _CURVE_POINTS))
    chosen = np.unique(np.minimum(wanted, len(x) - 1))
    return Curve(x=tuple(map(shorten, x[chosen])), y=tuple(map(shorten, y[chosen])))
