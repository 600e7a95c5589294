"""Bootstrap intervals over devices or incidents, never over windows: they overlap by five sixths.

Efron, Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 13 (percentile intervals) and
16 (tests).
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.stats import t

from eval.results import MEASURES, Comparison, Estimate, Labelling

State = Literal["holds", "fails", "open"]

# ---- Resamples ----


def draw_weights(units: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each unit is in each resample, shape (resamples, units), rows sum to ``units``."""
    if units == 0:
        return np.zeros((resamples, 0))
    return rng.multinomial(units, np.full(units, 1 / units), size=resamples).astype(float)


def find_interval(values: np.ndarray) -> tuple[float, float]:
    """The ends of the middle 95 % of a number's resamples, shape (resamples,), without those that
    are NaN; NaN where all are."""
    known = values[np.isfinite(values)]
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (np.nan, np.nan)
    return float(low), float(high)


def find_p_value(differences: np.ndarray) -> float:
    """Two-sided p-value of "no difference" from resampled differences; never 0."""
    known = differences[np.isfinite(differences)]
    if not len(known):
        return float("nan")
    side = min((known <= 0).sum(), (known >= 0).sum())
    return float(min(1.0, 2 * (side + 1) / (len(known) + 1)))


def resample_median(values: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Medians of resamples, shape (resamples,); NaN where there are no values."""
    if not len(values):
        return np.full(resamples, np.nan)
    return np.asarray(np.median(rng.choice(values, (resamples, len(values))), axis=1))


def resample_mean(values: Sequence[float]) -> Estimate:
    """The mean with its 95 % interval over questions or cases; none for fewer than two."""
    if len(values) < 2:
        return Estimate(value=float(values[0]) if values else None)
    drawn = np.asarray(values, dtype=float)
    rng = np.random.default_rng(0)
    means = drawn[rng.integers(0, len(drawn), (2000, len(drawn)))].mean(axis=1)
    low, high = find_interval(means)
    return Estimate(value=float(drawn.mean()), low=low, high=high)


# ---- Bounds and differences of numbers with intervals ----


def decide_bound(
    estimate: Estimate, at_least: float | None = None, at_most: float | None = None
) -> State:
    """Whether a number keeps a bound: open where the bound lies in its interval, or without one.

    Args:
        estimate: the number.
        at_least: the bound, or
        at_most: the bound; one of the two.

    >>> decide_bound(Estimate(value=0.9, low=0.85, high=0.95), 0.8)
    'holds'
    """
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "open"
    low, high = estimate.low, estimate.high
    if at_least is not None:
        return "holds" if low >= at_least else "fails" if high < at_least else "open"
    most = float("inf") if at_most is None else at_most
    return "holds" if high <= most else "fails" if low > most else "open"


def is_better(difference: Estimate, margin: float = 0.0) -> State:
    """Whether a difference, above 0 is better, surely exceeds a margin; it fails where it surely
    does not.

    >>> is_better(Estimate(value=0.0, low=0.0, high=0.0))
    'fails'
    """
    if difference.low is None or difference.high is None:
        return "open"
    return "holds" if difference.low > margin else "fails" if difference.high <= margin else "open"


def paired_difference(
    comparisons: Sequence[Comparison], place: tuple[str, Labelling, str], model: str, other: str
) -> Estimate | None:
    """``model`` minus ``other`` as a run tested it in pairs, in either order; None where it did
    not.

    Args:
        comparisons: the run's.
        place: setting, labelling and measure.
        model: the first.
        other: the second.
    """
    for one in comparisons:
        here = (one.setting, one.labelling, one.measure) == place
        if here and {one.model, one.other} == {model, other}:
            difference = Estimate(value=one.difference, low=one.low, high=one.high)
            return difference if one.model == model else turned(difference)
    return None


def turned(one: Estimate) -> Estimate:
    """The same difference seen from the other side."""
    ends = (one.value, one.high, one.low)
    value, low, high = (None if end is None else 0.0 - end for end in ends)
    return Estimate(value=value, low=low, high=high)


def orient(measure: str, difference: Estimate) -> Estimate:
    """A difference of a measure such that above 0 is better."""
    return difference if MEASURES[measure].better == "higher" else turned(difference)


def between(before: Estimate, after: Estimate) -> Estimate:
    """After minus before of unpaired numbers: from end to end, wider than any paired interval."""
    if before.value is None or after.value is None:
        return Estimate(value=None)
    value = after.value - before.value
    if before.low is None or before.high is None or after.low is None or after.high is None:
        return Estimate(value=value)
    return Estimate(value=value, low=after.low - before.high, high=after.high - before.low)


def mean_difference(differences: np.ndarray) -> Estimate:
    """The mean of paired differences, shape (n,), with Student's 95 % interval; none from fewer
    than two.

    >>> mean_difference(np.array([0.25, 0.25])).low
    0.25
    """
    n, mean = len(differences), float(np.mean(differences))
    if n < 2:
        return Estimate(value=mean)
    half = float(t.ppf(0.975, n - 1) * np.std(differences, ddof=1) / np.sqrt(n))
    return Estimate(value=mean, low=mean - half, high=mean + half)
