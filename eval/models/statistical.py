"""Statistics: how far a device is from what is usual, without any label but "normal" (A12).

A score becomes a probability by where ordinary windows' scores lie: 0.5 at the score that one
ordinary window in a hundred exceeds, and close to 0 at their median.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.ensemble import IsolationForest

from eval.models.base import Given, WindowClassifier, split_inner
from eval.models.features import FEATURES, scale_counts, summarise
from traffic.errors import UserError
from traffic.samples import TROUBLE
from traffic.windows import WINDOW_SAMPLES

_FALSE_SHARE = 0.01
_STEEPNESS = 3.0  # at the median of ordinary windows 1 / (1 + e^3) = 0.05
_NOISE = 0.1  # on the log scale, a tenth of a count where there is none
_MOST_STEPS = 50.0  # beyond that, one score is as odd as another


@dataclass(frozen=True)
class Threshold:
    """Where a score stops being ordinary.

    Attributes:
        value: the score with probability 0.5.
        scale: its distance from the median of ordinary scores, above 0.
    """

    value: float
    scale: float

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Of normal and of anomalous, shape (n, 2): ``1 / (1 + exp(-3 (score - value) / scale))``
        is anomalous."""
        steps = np.clip(_STEEPNESS * (scores - self.value) / self.scale, -_MOST_STEPS, _MOST_STEPS)
        anomalous = 1 / (1 + np.exp(-steps))
        return np.stack([1 - anomalous, anomalous], axis=1)


def set_threshold(scores: np.ndarray) -> Threshold:
    """The threshold that one in a hundred of these scores of ordinary windows exceeds."""
    median, value = np.quantile(scores, [0.5, 1 - _FALSE_SHARE])
    # Where all are alike, what differs at all is odd.
    return Threshold(float(value + 1e-6), float(max(value - median, 1e-6)))


def need_normal(given: Given, codes: np.ndarray) -> Given:
    """The normal windows of a binary model's training.

    Raises:
        UserError: there are fewer than two.
    """
    which = codes == 0
    if which.sum() < 2:
        raise UserError(
            f"{int(which.sum())} of {len(codes)} windows to learn from are normal; expected at least 2, because this "
            "model learns what is usual; give captures with ordinary traffic"
        )
    groups = None if given.groups is None else np.asarray(given.groups)[which]
    return Given(given.features[which], given.devices[which], groups)


# What a device's load and trouble are made of; histories (HISTORY) compare with the past already.
_WATCHED = tuple(
    dict.fromkeys(
        [
            "out_pkts",
            "in_pkts",
            "out_bytes",
            "in_bytes",
            "peers",
            "tcp_out",
            "tcp_in",
            "udp_out",
            "udp_in",
            *TROUBLE,
        ]
    )
)


class Ewma(WindowClassifier):
    """Each device against its own exponentially weighted mean and deviation (Roberts 1959, doi
    10.1080/00401706.1959.10489860).

    A device is compared with itself alone, so an attack that lasts becomes usual, and one that was
    there from the beginning is never seen. What deviations are small is learned from normal
    windows, as is the threshold.

    Attributes:
        alpha: weight of the newest sample; 0.02 looks back over about eight minutes.
    """

    binary: ClassVar[bool] = True

    def __init__(self, alpha: float = 0.02, seed: int = 0, quick: bool = False) -> None:
        super().__init__(seed, quick)
        self.alpha = alpha

    @property
    def size_bytes(self) -> int:
        """A floor for each watched feature, and the threshold."""
        return int(8 * (len(self.floor_) + 2))

    def _learn(self, given: Given, codes: np.ndarray) -> None:
        usual = need_normal(given, codes)
        watched = _watched(usual.features)
        # Within a window, so that devices that differ from each other do not count as ones that
        # vary.
        self.floor_ = np.maximum(watched.std(axis=1).mean(axis=0), 0.1)
        self.threshold_ = set_threshold(score_ewma(watched, usual.devices, self.alpha, self.floor_))

    def _judge(self, given: Given) -> np.ndarray:
        scores = score_ewma(_watched(given.features), given.devices, self.alpha, self.floor_)
        return self.threshold_.probabilities(scores)


def _watched(features: np.ndarray) -> np.ndarray:
    return scale_counts(features[:, :, [FEATURES.index(name) for name in _WATCHED]])


def score_ewma(
    watched: np.ndarray, devices: np.ndarray, alpha: float, floor: np.ndarray
) -> np.ndarray:
    """How odd a window's samples are, each against what its device did before, as z-scores.

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
        return sum(
            int(tree.tree_.__getstate__()["nodes"].nbytes) for tree in self.forest_.estimators_
        )

    def _learn(self, given: Given, codes: np.ndarray) -> None:
        usual = need_normal(given, codes)
        learned, held = split_inner(usual, self.seed)
        table = summarise(scale_counts(usual.features))
        noise = np.random.default_rng(self.seed).normal(0.0, _NOISE, (len(learned), table.shape[1]))
        forest = IsolationForest(
            n_estimators=30 if self.quick else 200,
            max_samples=min(1024, len(learned)),
            random_state=self.seed,
        )
        self.forest_: Any = forest.fit(table[learned] + noise)
        self.threshold_ = set_threshold(-self.forest_.score_samples(table[held]))

    def _judge(self, given: Given) -> np.ndarray:
        return self.threshold_.probabilities(
            -self.forest_.score_samples(summarise(scale_counts(given.features)))
        )
