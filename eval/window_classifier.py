"""What all models of a comparison share: scikit-learn's interface over windows, labels in and probabilities out.

`eval.models` says what callers may rely on.
"""

from abc import abstractmethod
from typing import ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin

from eval.features import check_finite
from eval.results import INVALID
from traffic.errors import UserError
from traffic.labels import LABELS, NORMAL

__all__ = ["ANOMALOUS", "WindowClassifier", "scale_counts", "split_inner"]

ANOMALOUS = "anomalous"
_INNER_SHARE = 0.25


class WindowClassifier(ClassifierMixin, BaseEstimator):
    """A classifier of windows; a model adds how it learns and how it judges.

    Attributes:
        binary: it tells normal from anomalous and no more.
        learns: `fit` changes what it says.
        trained_on: captures it had seen before `fit`.
        invalid: answers of the last `predict_proba` that could not be read.
        classes_: after `fit`, the labels of the columns of `predict_proba`, shape (n_classes,).
    """

    binary: ClassVar[bool] = False
    learns: ClassVar[bool] = True
    trained_on: tuple[str, ...] = ()
    invalid: int = 0
    classes_: np.ndarray

    def __init__(self, seed: int = 0, quick: bool = False) -> None:
        self.seed = seed
        self.quick = quick

    def fit(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        devices: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> Self:
        """Learn from windows.

        Args:
            features: shape (n_windows, 6, n_features), a device's windows in order of time.
            labels: shape (n_windows,), ours.
            devices: shape (n_windows,), tells devices apart; all are one where left out.
            groups: shape (n_windows,), tells captures apart; what is held out inside is then whole captures.

        Raises:
            UserError: there are no windows, a feature is not finite, a label is not ours or missing, or the model
                learns from normal windows and there are none.
        """
        features, labels = np.asarray(features, np.float32), np.asarray(labels, dtype=object)
        _check(features, labels)
        self.classes_ = self._known(labels)
        targets = np.where(labels == NORMAL, NORMAL, ANOMALOUS) if self.binary else labels
        codes = pd.Series(targets).map({name: code for code, name in enumerate(self.classes_)}).to_numpy(int)
        if len(self.classes_) > 1:
            self._learn(features, codes, devices, groups)
        return self

    def predict_proba(self, features: np.ndarray, devices: np.ndarray | None = None) -> np.ndarray:
        """Probabilities of ``classes_``, shape (n_windows, n_classes), float32; rows sum to 1, or to 0 where invalid.

        Raises:
            UserError: a feature is not finite.
        """
        features = np.asarray(features, np.float32)
        check_finite(features)
        if not len(features) or len(self.classes_) == 1:
            return np.ones((len(features), len(self.classes_)), np.float32)
        probabilities = self._judge(features, devices).astype(np.float32)
        self.invalid = int((probabilities.sum(axis=1) == 0).sum())
        return probabilities

    def predict(self, features: np.ndarray, devices: np.ndarray | None = None) -> np.ndarray:
        """Labels, shape (n_windows,), objects."""
        return self.decide(self.predict_proba(features, devices))

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """The label that each row of probabilities stands for, shape (n_windows,), objects; ``[invalid]`` for zeros."""
        said = self.classes_.astype(object)[probabilities.argmax(axis=1)]
        return np.where(probabilities.sum(axis=1) == 0, INVALID, said).astype(object)

    def abstains(self, probabilities: np.ndarray) -> np.ndarray:
        """Which rows serving would answer with silence, shape (n_windows,), bool."""
        return np.zeros(len(probabilities), bool)

    @abstractmethod
    def size_bytes(self) -> int:
        """What would have to be stored to use the fitted model, bytes."""

    @abstractmethod
    def _learn(
        self, features: np.ndarray, codes: np.ndarray, devices: np.ndarray | None, groups: np.ndarray | None
    ) -> None:
        """Learn from at least two classes; ``codes`` are places in ``classes_``."""

    @abstractmethod
    def _judge(self, features: np.ndarray, devices: np.ndarray | None) -> np.ndarray:
        """Probabilities of at least one window, shape (n_windows, n_classes)."""

    def _known(self, labels: np.ndarray) -> np.ndarray:
        if self.binary:
            return np.array([NORMAL, ANOMALOUS], dtype=object)
        present = set(labels)
        return np.array([label for label in LABELS if label in present], dtype=object)


def scale_counts(features: np.ndarray) -> np.ndarray:
    """Counts on a log scale, ``sign(x) * log(1 + |x|)``, so that one flood does not hide all else; float32."""
    scaled: np.ndarray = np.sign(features) * np.log1p(np.abs(features))
    return scaled.astype(np.float32)


def split_inner(n: int, apart: list[np.ndarray | None], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Part training windows from such as are held out of them, to choose settings and to stop in time.

    Args:
        n: how many windows there are, at least 2.
        apart: shape (n,) each; the first that tells at least two groups apart is split by its groups, because windows
            overlap. Where none does, the windows are drawn one by one.
        seed: of the drawing.

    Returns:
        Places to learn from and places held out, about a quarter, neither empty.
    """
    from sklearn.model_selection import GroupShuffleSplit

    groups = next((one for one in apart if one is not None and len(np.unique(one)) > 1), np.arange(n))
    split = GroupShuffleSplit(1, test_size=_INNER_SHARE, random_state=seed)
    learned, held = next(split.split(np.zeros(n), groups=groups))
    return learned, held


def _check(features: np.ndarray, labels: np.ndarray) -> None:
    check_finite(features)
    if not len(features) or len(labels) != len(features):
        raise UserError(
            f"{len(features)} windows and {len(labels)} labels to learn from; expected as many labels as windows, and "
            "some; give other captures"
        )
    if unknown := sorted({str(label) for label in labels} - set(LABELS)):
        raise UserError(f"no label is called {', '.join(unknown)}; expected {', '.join(LABELS)}; correct the labels")
