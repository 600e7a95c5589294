"""The interface of all models of a comparison: scikit-learn's, over windows and our labels.

`eval.models.registry` says what callers may rely on.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GroupShuffleSplit

from eval.models.features import check_finite
from eval.results import INVALID
from traffic.errors import UserError
from traffic.labels import LABELS, NORMAL
from traffic.windows import WINDOW_SAMPLES

ANOMALOUS = "anomalous"
_HELD_OUT_SHARE = 0.25


@dataclass(frozen=True)
class TrainingInput:
    """Windows to learn from, each attribute with a row per window.

    Attributes:
        features: shape (n_windows, 6, n_features), float32; 9 rows where the model reads the past.
        codes: places of the labels in ``classes_``, shape (n_windows,), int64.
        devices: one number per device, shape (n_windows,).
        groups: one per capture, shape (n_windows,); None where captures are not told apart.
    """

    features: np.ndarray
    codes: np.ndarray
    devices: np.ndarray
    groups: np.ndarray | None = None

    def take(self, which: np.ndarray) -> "TrainingInput":
        """Some of the windows, by a mask or places."""
        groups = None if self.groups is None else self.groups[which]
        return TrainingInput(self.features[which], self.codes[which], self.devices[which], groups)


class WindowClassifier(ClassifierMixin, BaseEstimator, ABC):
    """A classifier of windows; a subclass adds ``_fit`` and ``_predict_proba``.

    Attributes:
        binary: it tells normal from anomalous and no more.
        reads_past: it reads all rows of its features; others are given the six samples alone.
        learns: `fit` changes its predictions; a model that does not learn knows every label.
        trained_on: captures it had seen before `fit`.
        invalid: how many rows of the last `predict_proba` could not be read.
        classes_: after `fit`, the labels of the columns of `predict_proba`, shape (n_classes,).
    """

    binary: ClassVar[bool] = False
    learns: bool = True
    reads_past: bool = False
    trained_on: tuple[str, ...] = ()
    invalid: int = 0
    classes_: np.ndarray

    def __init__(self, seed: int = 0, quick: bool = False) -> None:
        self.seed = seed
        self.quick = quick

    def fit(
        self,
        x: np.ndarray,
        y: np.ndarray,
        devices: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> Self:
        """Learn from windows.

        Args:
            x: features, shape (n_windows, 6 or 9, n_features), a device's windows in order of time.
            y: shape (n_windows,), our labels.
            devices: shape (n_windows,), tells devices apart; all are one where left out.
            groups: shape (n_windows,), tells captures apart; what a model holds out of its
                training is then whole captures.

        Raises:
            UserError: there are no windows, a feature is not finite, a label is not ours or
                missing, or the model learns from normal windows and there are none.
        """
        features, labels = self.rows(x), np.asarray(y, dtype=object)
        _check(features, labels)
        self.classes_ = self._choose_classes(labels)
        targets = np.where(labels == NORMAL, NORMAL, ANOMALOUS) if self.binary else labels
        code = {name: place for place, name in enumerate(self.classes_)}
        codes = pd.Series(targets).map(code).to_numpy(np.int64, copy=True)
        if len(self.classes_) > 1:
            apart = None if groups is None else np.asarray(groups)
            self._fit(TrainingInput(features, codes, _devices(devices, len(features)), apart))
        return self

    def predict_proba(self, x: np.ndarray, devices: np.ndarray | None = None) -> np.ndarray:
        """Probabilities of ``classes_``, shape (n_windows, n_classes), float32.

        A row is NaN where the model's answer cannot be read.

        Raises:
            UserError: a feature is not finite.
        """
        features = self.rows(x)
        check_finite(features)
        if not len(features) or len(self.classes_) == 1:
            return np.ones((len(features), len(self.classes_)), np.float32)
        probabilities = self._predict_proba(features, _devices(devices, len(features)))
        self.invalid = int(np.isnan(probabilities).any(axis=1).sum())
        return probabilities.astype(np.float32)

    def predict(self, x: np.ndarray, devices: np.ndarray | None = None) -> np.ndarray:
        """Labels, shape (n_windows,), objects."""
        return self.decide(self.predict_proba(x, devices))

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """The label of each row of probabilities, shape (n_windows,); ``[invalid]`` for NaN."""
        likeliest = self.classes_.astype(object)[probabilities.argmax(axis=1)]
        return np.where(np.isnan(probabilities).any(axis=1), INVALID, likeliest).astype(object)

    def abstains(self, probabilities: np.ndarray) -> np.ndarray:
        """Rows for which serving would give no verdict, shape (n_windows,), bool."""
        return np.zeros(len(probabilities), bool)

    @property
    @abstractmethod
    def size_bytes(self) -> int:
        """Bytes to store for using the fitted model."""

    @abstractmethod
    def _fit(self, training: TrainingInput) -> None:
        """Learn from windows of at least two classes."""

    @abstractmethod
    def _predict_proba(self, x: np.ndarray, devices: np.ndarray) -> np.ndarray:
        """Probabilities of at least one window, (n_windows, 6 or 9, F) -> (n_windows, n_classes)."""

    def rows(self, x: np.ndarray) -> np.ndarray:
        """The rows of features that the model reads, (n, 6 or 9, F), float32."""
        features = np.asarray(x, np.float32)
        return features if self.reads_past else features[:, :WINDOW_SAMPLES]

    def _choose_classes(self, labels: np.ndarray) -> np.ndarray:
        if self.binary:
            return np.array([NORMAL, ANOMALOUS], dtype=object)
        present = {*labels} if self.learns else {*LABELS}
        return np.array([label for label in LABELS if label in present], dtype=object)


def split_inner(training: TrainingInput, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Hold out about a quarter of the training windows, to choose settings and to stop early.

    Windows overlap, so whole captures are held out, or whole devices where there is one capture.
    Only where there is one device too, windows are drawn one by one.

    Args:
        training: at least 2 windows.
        seed: of the draw.

    Returns:
        Places to learn from and places held out, neither empty.
    """
    n = len(training.features)
    choices = (training.groups, training.devices, np.arange(n))
    groups = next(one for one in choices if one is not None and len(np.unique(one)) > 1)
    split = GroupShuffleSplit(1, test_size=_HELD_OUT_SHARE, random_state=seed)
    learned, held = next(split.split(np.zeros(n), groups=groups))
    return learned, held


def _devices(devices: np.ndarray | None, n: int) -> np.ndarray:
    return np.zeros(n, np.int64) if devices is None else np.asarray(devices)


def _check(features: np.ndarray, labels: np.ndarray) -> None:
    check_finite(features)
    if not len(features) or len(labels) != len(features):
        raise UserError(
            f"{len(features)} windows and {len(labels)} labels to learn from; expected as many "
            "labels as windows, and some; give other captures"
        )
    if unknown := sorted({str(label) for label in labels} - set(LABELS)):
        raise UserError(
            f"no label is called {', '.join(unknown)}; expected {', '.join(LABELS)}; "
            "correct the labels"
        )
