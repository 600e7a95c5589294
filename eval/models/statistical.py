"""Anomaly detection by statistics, which needs no label but "normal" (A12): EWMA, isolation forest.

A score becomes a probability by where normal windows' scores lie: 0.5 at the score that one
normal window in a hundred exceeds, and close to 0 at their median.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.ensemble import IsolationForest

from eval.models.classifier import TrainingInput, WindowClassifier, split_inner
from eval.models.features import FEATURES, scale_counts, summarise
from traffic.errors import UserError
from traffic.samples import TROUBLE
from traffic.windows import WINDOW_SAMPLES

_FALSE_SHARE = 0.01
_STEEPNESS = 3.0  # at the median of normal windows 1 / (1 + e^3) = 0.05
_NOISE = 0.1  # on the log scale, a tenth of a count where there is none
_MOST_STEPS = 50.0  # beyond that, one score is as odd as another
# What a device's load and trouble are made of; histories (HISTORY) compare with the past already.
_LOAD = ("out_pkts", "in_pkts", "out_bytes", "in_bytes", "peers")
_ATTEMPTS = ("tcp_out", "tcp_in", "udp_out", "udp_in")
_WATCHED = tuple(dict.fromkeys([*_LOAD, *_ATTEMPTS, *TROUBLE]))


@dataclass(frozen=True)
class Threshold:
    """The score with probability 0.5, and its distance from the median of normal scores, above 0."""

    value: float
    scale: float

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Of normal and anomalous, shape (n, 2): ``1 / (1 + exp(-3 (score - value) / scale))``."""
        steps = np.clip(_STEEPNESS * (scores - self.value) / self.scale, -_MOST_STEPS, _MOST_STEPS)
        anomalous = 1 / (1 + np.exp(-steps))
        return np.stack([1 - anomalous, anomalous], axis=1)


def set_threshold(scores: np.ndarray) -> Threshold:
    """The threshold that one in a hundred of these scores of normal windows exceeds."""
    median, value = np.quantile(scores, [0.5, 1 - _FALSE_SHARE])
    # Where all are alike, what differs at all is odd.
    return Threshold(float(value + 1e-6), float(max(value - median, 1e-6)))


def need_normal(training: TrainingInput) -> TrainingInput:
    """The normal windows of a binary model's training.

    Raises:
        UserError: there are fewer than two.
    """
    normal = training.codes == 0
    if normal.sum() < 2:
        raise UserError(
            f"{int(normal.sum())} of {len(normal)} windows to learn from are normal; expected at "
            "least 2, because this model learns what is usual; give captures with ordinary traffic"
        )
    return training.take(normal)


class Ewma(WindowClassifier):
    """Each device against its own exponentially weighted mean and deviation (Roberts 1959, doi
    10.1080/00401706.1959.10489860).

    A device is compared with itself alone, so an attack that lasts becomes usual, and one that was
    there from the beginning is never seen. Normal windows give the deviation below which nothing
    is odd, and the threshold.

    Attributes:
        alpha: weight of the newest sample; 0.02 looks back over about eight minutes.
    """

    binary: ClassVar[bool] = True

    def __init__(self, alpha: float = 0.02, seed: int = 0, quick: bool = False) -> None:
        super().__init__(seed, quick)
        self.alpha = alpha

    @property
    def size_bytes(self) -> int:
        """The floors and the threshold."""
        return int(8 * (len(self.floor_) + 2))

    def _fit(self, training: TrainingInput) -> None:
        normal = need_normal(training)
        watched = _watched(normal.features)
        # Within windows, or devices that differ from each other would count as ones that vary.
        self.floor_ = np.maximum(watched.std(axis=1).mean(axis=0), 0.1)
        scores = score_ewma(watched, normal.devices, self.alpha, self.floor_)
        self.threshold_ = set_threshold(scores)

    def _predict_proba(self, x: np.ndarray, devices: np.ndarray) -> np.ndarray:
        scores = score_ewma(_watched(x), devices, self.alpha, self.floor_)
        return self.threshold_.probabilities(scores)


def _watched(features: np.ndarray) -> np.ndarray:
    return scale_counts(features[:, :, [FEATURES.index(name) for name in _WATCHED]])


def score_ewma(
    watched: np.ndarray, devices: np.ndarray, alpha: float, floor: np.ndarray
) -> np.ndarray:
    """z-scores of windows, each against what its device did before.

        z_t     = |x_t - mean_{t-1}| / sqrt(variance_{t-1} + floor^2)
        mean_t  = (1 - alpha) mean_{t-1} + alpha x_t
        variance_t likewise, of (x_t - mean_t)^2

    A device's first window has nothing before it: the mean starts as that window's, and it scores
    0. A window's score is the mean over features of z, or that of one of the five windows before it
    where that is higher.

    Args:
        watched: shape (n_windows, 6, n_features); the newest sample of a window is its last.
        devices: shape (n_windows,); a device's windows are in order of time.
        alpha: weight of the newest sample, above 0, below 1.
        floor: shape (n_features,), deviation below which nothing is odd, above 0.

    Returns:
        Shape (n_windows,), float64.
    """
    newest = watched[:, -1].astype(np.float64)
    later = pd.Series(devices).duplicated().to_numpy()
    series = pd.DataFrame(np.where(later[:, None], newest, watched.mean(axis=1, dtype=np.float64)))
    mean = _smooth(series, devices, alpha)
    variance = _smooth((series - mean) ** 2, devices, alpha)
    before, varied = (table.groupby(devices, sort=False).shift(1) for table in (mean, variance))
    z = ((series - before).abs() / np.sqrt(varied + floor**2)).fillna(0.0).mean(axis=1)
    highest = z.groupby(devices, sort=False).rolling(WINDOW_SAMPLES, min_periods=1).max()
    return np.asarray(highest.droplevel(0).sort_index(), np.float64)


def _smooth(series: pd.DataFrame, devices: np.ndarray, alpha: float) -> pd.DataFrame:
    smooth = series.groupby(devices, sort=False).ewm(alpha=alpha, adjust=False).mean()
    return smooth.droplevel(0).sort_index()


class Isolation(WindowClassifier):
    """Isolation forest (Liu, Ting, Zhou 2008, doi 10.1109/ICDM.2008.17) on normal windows, any
    device alike.

    A forest cannot split by what never varied in training, so a scan would be invisible where
    ordinary windows hold no refused connection at all: a little noise lets it.
    """

    binary: ClassVar[bool] = True

    @property
    def size_bytes(self) -> int:
        """The trees' nodes."""
        trees = [tree.tree_.__getstate__() for tree in self.forest_.estimators_]
        return sum(int(tree["nodes"].nbytes) for tree in trees)

    def _fit(self, training: TrainingInput) -> None:
        normal = need_normal(training)
        learned, held = split_inner(normal, self.seed)
        table = summarise(scale_counts(normal.features))
        noise = np.random.default_rng(self.seed).normal(0.0, _NOISE, (len(learned), table.shape[1]))
        trees, most = 30 if self.quick else 200, min(1024, len(learned))
        forest = IsolationForest(n_estimators=trees, max_samples=most, random_state=self.seed)
        self.forest_: Any = forest.fit(table[learned] + noise)
        self.threshold_ = set_threshold(-self.forest_.score_samples(table[held]))

    def _predict_proba(self, x: np.ndarray, _: np.ndarray) -> np.ndarray:
        table = summarise(scale_counts(x))
        return self.threshold_.probabilities(-self.forest_.score_samples(table))
