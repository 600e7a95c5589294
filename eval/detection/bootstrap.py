"""Intervals by drawing devices or incidents again, with replacement; never windows, which overlap by five sixths.

Efron, Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 13 (percentile intervals) and 16 (tests).
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["Spread", "draw_weights", "find_interval", "find_p_value", "resample_median"]

_LOW, _HIGH = 2.5, 97.5


@dataclass(frozen=True)
class Spread:
    """A 95 % interval; NaN where there is nothing to draw from."""

    low: float
    high: float


def draw_weights(units: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each unit stands in each resample, shape (resamples, units); rows sum to ``units``."""
    if units == 0:
        return np.zeros((resamples, 0))
    return rng.multinomial(units, np.full(units, 1 / units), size=resamples).astype(float)


def find_interval(values: np.ndarray) -> Spread:
    """The middle 95 % of a number's resamples, shape (resamples,); those that cannot be measured (NaN) are left out."""
    known = values[np.isfinite(values)]
    if not len(known):
        return Spread(float("nan"), float("nan"))
    low, high = np.percentile(known, [_LOW, _HIGH])
    return Spread(float(low), float(high))


def find_p_value(differences: np.ndarray) -> float:
    """Two-sided p-value of "no difference" from resampled differences; never 0, as there are only so many of them."""
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
