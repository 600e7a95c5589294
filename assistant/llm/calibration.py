"""Probabilities that hold: fit a temperature, shift for what is rarer in service, measure the error.

Temperature scaling (Guo et al. 2017, arXiv 1706.04599): one number T divides every log-probability,

    p(label) = exp(score(label) / T) / sum over labels

which leaves the ranking alone and is found by minimising the negative log-likelihood of held-out
truth.
"""

import math

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.stats import beta

from traffic.windows import WINDOW_SAMPLES

_SURE = 0.9


LOWEST, HIGHEST = 0.1, 20.0  # temperatures; outside of them the scores say nothing


def fit_temperature(scores: np.ndarray, truth: np.ndarray) -> float:
    """The temperature that makes the truth likeliest, between ``LOWEST`` and ``HIGHEST``.

    Args:
        scores: shape (n, n_labels), log-probabilities; rows of NaN are left out.
        truth: shape (n,), the true label's column.
    """
    readable = np.isfinite(scores).all(axis=1)
    scores, truth = scores[readable], truth[readable]
    found = minimize_scalar(
        lambda log_t: negative_log_likelihood(scores, truth, float(np.exp(log_t))),
        bounds=(np.log(LOWEST), np.log(HIGHEST)),
        method="bounded",
    )
    return float(np.exp(found.x))


def negative_log_likelihood(scores: np.ndarray, truth: np.ndarray, temperature: float) -> float:
    """Of the truth, nats a window: shapes as `fit_temperature` takes them."""
    scaled = scores / temperature
    surprise = np.logaddexp.reduce(scaled, axis=1) - scaled[np.arange(len(scaled)), truth]
    return float(surprise.mean())


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


def calibration_error(top: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: the distance between probability and hit rate, over equal bins of
    probability (Guo et al. 2017, equation 3).

    >>> round(calibration_error(np.array([0.9, 0.9]), np.array([True, False])), 3)
    0.4
    """
    place = np.minimum((top * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(place, top - right)).sum() / len(top))


def fit_role_bounds(
    odd: np.ndarray, roles: np.ndarray, usual: float, false_share: float
) -> dict[str, float]:
    """The bound of each role, and under "" that of all windows together: split conformal prediction
    by groups (Vovk et al. 2005, ch. 4; Angelopoulos and Bates 2021, arXiv 2107.07511).

        bound = the k-th smallest P(anomalous) of n quiet windows,  k = ceil((n + 1) (1 - share))

    A bound is raised only where the usual one is shown to alarm more than the share: raised for a
    window or two, it would cost anomalies and save nothing.

    Args:
        odd: P(anomalous) of quiet windows, shape (n,).
        roles: of their devices, shape (n,), str.
        usual: the card's own bound, the least.
        false_share: of quiet windows, those that may be alarmed, above 0.

    Returns:
        By role; a role with fewer windows than ``1 / false_share`` has none of its own.

    >>> fit_role_bounds(np.linspace(0.0, 0.99, 100), np.full(100, "camera"), 0.5, 0.1)
    {'camera': 0.9, '': 0.9}
    """
    least = math.ceil(1 / false_share) - 1
    groups = {role: odd[roles == role] for role in np.unique(roles) if role} | {"": odd}
    bounds = {}
    for role, values in groups.items():
        place = math.ceil((len(values) + 1) * (1 - false_share)) - 1
        if len(values) >= least and place < len(values):
            # From the bound on a window is alarmed: those that equal it must not be.
            fitted = float(np.nextafter(np.sort(values)[place], 2.0))
            bounds[role] = max(usual, fitted) if _exceeds(values >= usual, false_share) else usual
    return {str(role): round(bound, 4) for role, bound in bounds.items()}


def _exceeds(alarmed: np.ndarray, share: float) -> bool:
    """Whether more than a share is alarmed beyond doubt (Clopper and Pearson 1934, one-sided)."""
    count, total = alarmed.sum() / WINDOW_SAMPLES, len(alarmed) / WINDOW_SAMPLES  # windows overlap
    return bool(count > 0 and beta.ppf(1 - _SURE, count, total - count + 1) > share)
