"""Scores of one or several fits: numbers, their intervals over devices, confusion and curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.detection.bootstrap import draw_weights, find_interval, resample_median
from eval.detection.corpus import Corpus
from eval.detection.metrics import (
    ALL_SAID,
    binary_scores,
    calibration_error,
    count_confusion,
    count_levels,
    count_reliability,
    encode,
    label_scores,
    pr_curve,
    precision_area,
    risk_curve,
    risk_scores,
    share_at_recall,
)
from eval.detection.predictions import Judged, Said
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

# Tables and curves of a row of results: by label, confusion, precision and recall, reliability,
# risk and coverage.

_CURVE_POINTS = 101


def shorten(value: float) -> float:
    """Six digits: more would be noise, and files of results are read by people."""
    return float(f"{value:.6g}")


def tabulate_labels(total: np.ndarray) -> dict[str, LabelScores]:
    """Scores of every label that is true or was said, from counts of shape (len(LABELS),
    len(ALL_SAID))."""
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
    return Confusion(
        labels=tuple(ALL_SAID[i] for i in used),
        counts=tuple(tuple(map(int, row)) for row in counts),
    )


def draw_curves(said: Said, due: np.ndarray, right: np.ndarray) -> Curves:
    """All curves of some answers; ``due`` and ``right`` of shape (n,): an alarm was due, the answer
    is right."""
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
    return Curve(
        x=tuple(shorten(v) for v in x[chosen]), y=tuple(shorten(v) for v in points[1][chosen])
    )


_DAY_S = 86400.0
_LEVELS = 2000  # thresholds of the resamples; the number itself is exact
_SEVERAL = ("accuracy", "precision", "recall", "f1", "weighted_f1")


@dataclass(frozen=True)
class Scorable:
    """Windows that were scored, of one fit or of several, each shape (n,): truth, what was said,
    and the device.

    Attributes:
        truth: places in LABELS.
        said: of the model.
        unit: number of the device, 0 to ``units`` - 1; a device is one unit whatever seeds judged
            it.
        units: how many devices.
        alarms: the labels that deserve an alarm.
        binary: the model tells no labels apart.
    """

    truth: np.ndarray
    said: Said
    unit: np.ndarray
    units: int
    alarms: tuple[str, ...]
    binary: bool

    @property
    def due(self) -> np.ndarray:
        """Which windows deserve an alarm."""
        return np.isin(LABELS, self.alarms)[self.truth]

    @property
    def right(self) -> np.ndarray:
        """Which answers are right; of a model that tells no labels apart, as far as it goes."""
        if not self.binary:
            return self.said.code == self.truth
        called = self.said.code != LABELS.index(NORMAL)
        return (called == self.due) & (self.said.code != ALL_SAID.index(INVALID))


@dataclass(frozen=True)
class Scored:
    """What a row of results says about the quality of verdicts."""

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
    judged: Sequence[Judged],
    alarms: tuple[str, ...],
    binary: bool,
) -> Scorable:
    """Put what fits said together with what is true."""
    rows = np.concatenate([one.rows for one in judged])
    saids = [one.said for one in judged]
    said = Said(
        *(
            np.concatenate([getattr(one, name) for one in saids])
            for name in Said.__dataclass_fields__
        )
    )
    units, unit = np.unique(corpus.device[rows], return_inverse=True)
    return Scorable(encode(corpus.labels[labelling][rows]), said, unit, len(units), alarms, binary)


def count_tested(tested: Scorable) -> np.ndarray:
    """Windows by device, true and said label, shape (units, len(LABELS), len(ALL_SAID))."""
    return count_confusion(tested.truth, tested.said.code, tested.unit, tested.units)


def score(tested: Scorable, judged: Sequence[Judged], resamples: int, whole: bool) -> Scored:
    """All measures of some fits.

    Args:
        tested: what `gather` made of ``judged``.
        judged: the fits; each thing that happened and each capture is one unit, whatever seeds
            judged it.
        resamples: of the bootstrap.
        whole: scores of each label and curves too, as pooled rows have them.
    """
    rng = np.random.default_rng(0)
    weights = draw_weights(tested.units, resamples, rng)
    every = np.ones((1, tested.units))
    counts = count_tested(tested)
    estimates = {name: Estimate(value=None) for name in MEASURES}
    point, drawn = _measure(tested, counts, every, None), _measure(tested, counts, weights, _LEVELS)
    for name, values in point.items():
        estimates[name] = _estimate(float(values[0]), drawn[name] if tested.units > 1 else None)
    estimates |= _score_incidents(judged, resamples, rng) | _score_delays(judged, resamples, rng)
    total = counts.sum(axis=0)
    curves = (
        draw_curves(tested.said, tested.due, tested.right)
        if whole
        else Curves(pr=None, reliability=None, risk_coverage=None)
    )
    per_label = tabulate_labels(total) if whole and not tested.binary else {}
    return Scored(estimates, per_label, tabulate_confusion(total), curves)


def score_constant(tested: Scorable) -> dict[str, float]:
    """The level of chance: macro-F1 of one answer to every window, the better of normal and the
    commonest label."""
    true = np.bincount(tested.truth, minlength=len(LABELS))
    best = {"f1": 0.0, "binary_macro_f1": 0.0}
    for place in {LABELS.index(NORMAL), int(true.argmax())}:
        counts = np.zeros((len(LABELS), len(ALL_SAID)))
        counts[:, place] = true
        scores = label_scores(counts) | binary_scores(counts, tested.alarms)
        best = {name: max(value, float(scores[name])) for name, value in best.items()}
    return best


def _measure(
    tested: Scorable, counts: np.ndarray, weights: np.ndarray, most: int | None
) -> dict[str, np.ndarray]:
    """Every measure over windows for each weighting of the devices, each shape (len(weights),)."""
    units, drawn = tested.units, np.tensordot(weights, counts, axes=1)  # (k, true, said)
    measured = (
        {}
        if tested.binary
        else {name: value for name, value in label_scores(drawn).items() if name in _SEVERAL}
    )
    measured |= binary_scores(drawn, tested.alarms)
    alarm = count_levels(tested.said.alarm, tested.due, tested.unit, units, most).drawn(weights)
    measured["pr_auc"], measured["false_share_at_recall_75"] = (
        precision_area(alarm),
        share_at_recall(alarm),
    )
    measured |= risk_scores(
        count_levels(tested.said.confidence, tested.right, tested.unit, units, most).drawn(weights)
    )
    reliability = count_reliability(tested.said.confidence, tested.right, tested.unit, units)
    measured["calibration_error"] = calibration_error(np.tensordot(weights, reliability, axes=1))
    measured["false_per_device_day"] = _false_per_day(tested, weights)
    return measured


def _false_per_day(tested: Scorable, weights: np.ndarray) -> np.ndarray:
    """False alarms a day: a device that is seen all day has a window every ten seconds."""
    called = (
        np.isin(ALL_SAID, (*tested.alarms, "anomalous"))[tested.said.code] & ~tested.said.abstained
    )
    false = np.bincount(tested.unit, called & ~tested.due, tested.units)
    days = np.bincount(tested.unit, minlength=tested.units) * SAMPLE_S / _DAY_S
    return np.asarray((weights @ false) / (weights @ days))


def _score_incidents(
    judged: Sequence[Judged], resamples: int, rng: np.random.Generator
) -> dict[str, Estimate]:
    """Incidents of each capture, the mean over its fits, in proportion to its minutes."""
    names = sorted({name for one in judged for name in one.raised})
    if not names:
        return {}
    raised = [[one.raised[name] for one in judged if name in one.raised] for name in names]
    minutes = np.array([np.mean([one.minutes for one in each]) for each in raised])
    weights = draw_weights(len(names), resamples, rng)
    estimates = {}
    for measure, count in (
        ("incidents_per_10_min", "incidents"),
        ("false_incidents_per_10_min", "false"),
    ):
        counts = np.array([np.mean([getattr(one, count) for one in each]) for each in raised])
        drawn = 10 * (weights @ counts) / (weights @ minutes) if len(names) > 1 else None
        estimates[measure] = _estimate(10 * counts.sum() / minutes.sum(), drawn)
    return estimates


def _score_delays(
    judged: Sequence[Judged], resamples: int, rng: np.random.Generator
) -> dict[str, Estimate]:
    """What truly happened is the unit: the share of the fits that found it, and their mean
    delay."""
    names = sorted({name for one in judged for name in one.delays})
    found, delay = [np.empty(0)], [np.empty(0)]
    for name in names:
        each = np.array(
            [one.delays[name] for one in judged if name in one.delays]
        )  # (fits, intervals)
        hits = np.isfinite(each).sum(axis=0)
        found.append(hits / len(each))
        delay.append(np.where(hits > 0, np.nansum(each, axis=0) / np.maximum(hits, 1), np.nan))
    share, seconds = np.concatenate(found), np.concatenate(delay)
    if not len(share):
        return {}
    drawn = rng.integers(0, len(share), (resamples, len(share)))
    several = len(share) > 1
    estimates = {
        "found_share": _estimate(
            float(share.mean()), share[drawn].mean(axis=1) if several else None
        )
    }
    if np.isfinite(seconds).any():
        some = seconds[np.isfinite(seconds)]
        medians = resample_median(some, resamples, rng) if len(some) > 1 else None
        estimates["time_to_detection_s"] = _estimate(float(np.median(some)), medians)
    return estimates


def _estimate(value: float, drawn: np.ndarray | None) -> Estimate:
    if not np.isfinite(value):
        return Estimate(value=None)
    if drawn is None:
        return Estimate(value=shorten(value))
    spread = find_interval(drawn)
    if not np.isfinite(spread.low):
        return Estimate(value=shorten(value))
    return Estimate(value=shorten(value), low=shorten(spread.low), high=shorten(spread.high))
