"""The training set of a fold: the same windows for every model, so that none has more data."""

from dataclasses import dataclass

import numpy as np

from eval.detection.corpus import Corpus
from eval.detection.splits import Fold, Protocol
from eval.models.features import FEATURES, PORT_FEATURES
from eval.results import Labelling
from traffic.labels import LABELS, NORMAL
from traffic.windows import WINDOW_SAMPLES

_PORTS = [FEATURES.index(name) for name in PORT_FEATURES]

_LEAST_LABELLED = WINDOW_SAMPLES


@dataclass(frozen=True)
class TrainingSet:
    """Rows of the corpus, ascending, shots repeated, and the label taught for each, shape (n,)."""

    rows: np.ndarray
    labels: np.ndarray


def draw_training_set(
    corpus: Corpus, fold: Fold, protocol: Protocol, labelling: Labelling, seed: int
) -> TrainingSet:
    """Draw what every model learns from on a fold.

    Args:
        corpus: all windows.
        fold: says from which rows.
        protocol: the budgets.
        labelling: whose labels.
        seed: of the draw, of wrong labels and of shuffling.
    """
    rng = np.random.default_rng([seed, 1])
    labels = corpus.labels[labelling]
    rows = draw_rows(
        corpus.capture, labels, fold.train, protocol.normal_windows, protocol.label_windows, rng
    )
    if fold.shots is not None and not fold.method:
        shots = _repeat_shots(corpus, fold, protocol, labels, len(rows), rng)
        rows = np.sort(np.concatenate([rows, shots]))
    taught = labels[rows].copy()
    if fold.noise:
        taught = _mislabel(taught, corpus.device[rows], fold.noise, rng)
    if protocol.shuffled:
        taught = rng.permutation(taught)
    return TrainingSet(rows, taught)


@dataclass(frozen=True)
class SiteSet:
    """What is known of a new network: windows that were labelled, and rows of the corpus whose
    labels nobody knows."""

    share: TrainingSet
    unlabelled: np.ndarray


def draw_site_set(
    corpus: Corpus, fold: Fold, protocol: Protocol, labelling: Labelling, seed: int
) -> SiteSet:
    """Draw what a model is moved by: a share of each label's windows, six at least where there are
    so many, and at most as many windows without labels as it learned from.

    Args:
        corpus: all windows.
        fold: one with a method.
        protocol: the share and the budgets.
        labelling: whose labels.
        seed: of the draw.
    """
    rng = np.random.default_rng([seed, 2])
    labels = corpus.labels[labelling]
    pool = fold.shots if fold.shots is not None else np.empty(0, np.int64)
    drawn = [np.empty(0, np.int64)]
    for label in LABELS:
        mine = pool[labels[pool] == label]
        of = len(mine) + int((labels[fold.test] == label).sum())
        wanted = max(_LEAST_LABELLED, round(protocol.share * of))
        drawn.append(draw_rows(corpus.capture, labels, mine, wanted, wanted, rng))
    rows = np.sort(np.concatenate(drawn))
    most = min(len(pool), protocol.normal_windows + len(LABELS[1:]) * protocol.label_windows)
    unlabelled = np.sort(rng.choice(pool, most, replace=False))
    return SiteSet(TrainingSet(rows, labels[rows]), unlabelled)


def read_features(corpus: Corpus, rows: np.ndarray, zeroed: bool) -> np.ndarray:
    """A copy of some windows' features, shape (n, 9, n_features); ``zeroed`` hides the service
    classes."""
    features = corpus.features[rows]
    if zeroed:
        features[:, :, _PORTS] = 0
    return features


def draw_rows(
    capture: np.ndarray,
    labels: np.ndarray,
    rows: np.ndarray,
    normal: int,
    other: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw at most so many windows of each label, evenly from its captures.

    A capture gives a label its even share at most; what a small one cannot give, the larger ones
    may.

    Args:
        capture: shape (n,), the capture of every window of the corpus.
        labels: shape (n,).
        rows: places to draw from.
        normal: most windows that are normal.
        other: most windows of any other label.
        rng: draws.

    Returns:
        Places, ascending.
    """
    drawn = [np.empty(0, np.int64)]
    for label in LABELS:
        mine = rows[labels[rows] == label]
        groups = sorted((mine[capture[mine] == one] for one in np.unique(capture[mine])), key=len)
        room = normal if label == NORMAL else other
        for place, group in enumerate(groups):
            share = min(len(group), room // (len(groups) - place))
            drawn.append(rng.choice(group, share, replace=False))
            room -= share
    return np.sort(np.concatenate(drawn))


def _repeat_shots(
    corpus: Corpus,
    fold: Fold,
    protocol: Protocol,
    labels: np.ndarray,
    n: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Shots, repeated towards their share of a training set that holds ``n`` others."""
    shots = fold.shots if fold.shots is not None else np.empty(0, np.int64)
    if fold.n_shots is not None:
        shots = shots[np.isin(labels[shots], LABELS)]
        each = -(-fold.n_shots // max(len(set(labels[shots])), 1))  # evenly over the site's labels
        drawn = rng.permutation(draw_rows(corpus.capture, labels, shots, each, each, rng))
        drawn = drawn[: fold.n_shots]
        rest = np.setdiff1d(shots, drawn)
        shots = np.concatenate([drawn, rng.permutation(rest)[: fold.n_shots - len(drawn)]])
    if not len(shots):
        return shots
    wanted = n * protocol.shot_share / (1 - protocol.shot_share)
    return np.repeat(shots, int(np.clip(round(wanted / len(shots)), 1, protocol.most_repeats)))


def _mislabel(
    labels: np.ndarray, device: np.ndarray, share: float, rng: np.random.Generator
) -> np.ndarray:
    """Give stretches another label until ``share`` of the windows have one; a stretch is a device's
    windows of one label in a row."""
    begins = np.append(True, (labels[1:] != labels[:-1]) | (device[1:] != device[:-1]))
    stretch = np.cumsum(begins) - 1
    order = rng.permutation(stretch[-1] + 1)
    # The longest stretches are cut: one of them could be more than the share alone.
    size = np.bincount(stretch)
    wrong, most = np.zeros(len(labels), bool), round(share * len(labels))
    for one in order:
        room = min(max(0, most - int(wrong.sum())), max(1, int(np.ceil(share * size.max()))))
        wrong[np.flatnonzero(stretch == one)[:room]] = True
    present = np.array([label for label in LABELS if (labels == label).any()], dtype=object)
    code = np.searchsorted(present[np.argsort(present)], labels)
    code = np.argsort(present)[code]
    step = rng.integers(1, max(len(present), 2), stretch[-1] + 1)[stretch]
    changed: np.ndarray = np.where(wrong, present[(code + step) % len(present)], labels)
    return changed
