"""Probabilities that hold: fit a temperature, shift for what is rarer in service, measure the error.

Temperature scaling (Guo et al. 2017, arXiv 1706.04599): one number T divides every log-probability,

    p(label) = exp(score(label) / T) / sum over labels

which leaves the ranking alone and is found by minimising the negative log-likelihood of held-out
truth.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar


@dataclass(frozen=True)
class Bounds:
    """What a card says of how scores become verdicts.

    Attributes:
        temperature: above 1 where the model was too sure.
        prior_shift: nats that normal gains over every anomaly, since anomalies are rare in service.
        alarm: a window is anomalous from this P(anomalous) on.
        name: its label is named from this share of P(anomalous) on.
        episode: the shift is dropped from this mean P(anomalous) of a device's last minutes on.
    """

    temperature: float = 1.0
    prior_shift: float = 0.0
    alarm: float = 0.5
    name: float = 0.0
    episode: float = 1.0


LOWEST, HIGHEST = 0.1, 20.0  # temperatures; outside of them the scores say nothing


def fit_temperature(
    scores: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """The temperature that makes the truth likeliest, between ``LOWEST`` and ``HIGHEST``.

    Args:
        scores: shape (n, n_labels), log-probabilities; rows of NaN are left out.
        truth: shape (n,), the true label's column.
        weights: shape (n,), windows that each row stands for; 1 each where None.
    """
    readable = np.isfinite(scores).all(axis=1)
    weights = np.ones(len(scores)) if weights is None else weights
    scores, truth, weights = scores[readable], truth[readable], weights[readable]
    found = minimize_scalar(
        lambda log_t: negative_log_likelihood(scores, truth, weights, float(np.exp(log_t))),
        bounds=(np.log(LOWEST), np.log(HIGHEST)),
        method="bounded",
    )
    return float(np.exp(found.x))


def negative_log_likelihood(
    scores: np.ndarray, truth: np.ndarray, weights: np.ndarray, temperature: float
) -> float:
    """Of the truth, nats a window: shapes as `fit_temperature` takes them."""
    scaled = scores / temperature
    surprise = np.logaddexp.reduce(scaled, axis=1) - scaled[np.arange(len(scaled)), truth]
    return float(np.average(surprise, weights=weights))


def find_prior_shift(held_out_share: float, share: float | None) -> float:
    """Nats that normal gains over every anomaly where anomalies are rarer than in what was held out.

    By Bayes' rule (Saerens, Latinne, Decaestecker, Neural Computation 14, 2002):

        log((1 - share) / (1 - held_out_share)) - log(share / held_out_share)

    Args:
        held_out_share: of held-out windows that are anomalous.
        share: the same in service; None for as many as are held out.
    """
    if share is None or not 0 < held_out_share < 1:
        return 0.0
    return float(np.log((1 - share) / (1 - held_out_share)) - np.log(share / held_out_share))


def calibration_error(
    top: np.ndarray, right: np.ndarray, weights: np.ndarray, bins: int = 10
) -> float:
    """Expected calibration error: the distance between probability and hit rate, over equal bins of
    probability (Guo et al. 2017, equation 3).

    >>> round(calibration_error(np.array([0.9, 0.9]), np.array([True, False]), np.ones(2)), 3)
    0.4
    """
    place = np.minimum((top * bins).astype(int), bins - 1)
    gaps = np.bincount(place, weights * (top - right), bins)
    return float(np.abs(gaps).sum() / weights.sum())
