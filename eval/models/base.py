"""What all models of a comparison share: scikit-learn's interface over windows, labels in and
probabilities out.

`eval.models.registry` says what callers may rely on.
"""

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupShuffleSplit

from eval.models.features import check_finite
from eval.results import INVALID
from traffic.errors import UserError
from traffic.labels import LABELS, NORMAL

ANOMALOUS = "anomalous"
_INNER_SHARE = 0.25


@dataclass(frozen=True)
class Given:
    """Windows as a model is given them.

    Attributes:
        features: shape (n_windows, 6, n_features), float32.
        devices: shape (n_windows,), one number per device.
        groups: shape (n_windows,), what tells captures apart; None outside of `fit`.
    """

    features: np.ndarray
    devices: np.ndarray
    groups: np.ndarray | None = None


class WindowClassifier(ABC):
    """A classifier of windows; a model adds how it learns and how it judges.

    It has what scikit-learn's own estimators have, `clone` included, without their base class: that
    takes a second to import.

    Attributes:
        binary: it tells normal from anomalous and no more.
        learns: `fit` changes what it says; a model that does not knows every label.
        trained_on: captures it had seen before `fit`.
        invalid: how many answers of the last `predict_proba` that could not be read.
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

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002 - scikit-learn's signature
        """What the model was made with, by name."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> Self:
        """Change what the model was made with.

        Raises:
            UserError: it takes no such parameter.
        """
        if unknown := sorted(set(params) - set(self.get_params())):
            raise UserError(
                f"{type(self).__name__} has no {', '.join(unknown)}; expected {', '.join(self.get_params())}; "
                "correct the name"
            )
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def fit(
        self,
        x: np.ndarray,
        y: np.ndarray,
        devices: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> Self:
        """Learn from windows.

        Args:
            x: features, shape (n_windows, 6, n_features), a device's windows in order of time.
            y: shape (n_windows,), our labels.
            devices: shape (n_windows,), tells devices apart; all are one where left out.
            groups: shape (n_windows,), tells captures apart; what is held out inside is then whole
                captures.

        Raises:
            UserError: there are no windows, a feature is not finite, a label is not ours or
                missing, or the model learns from normal windows and there are none.
        """
        features, labels = np.asarray(x, np.float32), np.asarray(y, dtype=object)
        _check(features, labels)
        self.classes_ = self._settle_classes(labels)
        targets = np.where(labels == NORMAL, NORMAL, ANOMALOUS) if self.binary else labels
        codes = (
            pd.Series(targets)
            .map({name: code for code, name in enumerate(self.classes_)})
            .to_numpy(np.int64, copy=True)
        )
        if len(self.classes_) > 1:
            self._learn(Given(features, _devices(devices, len(features)), groups), codes)
        return self

    def predict_proba(self, x: np.ndarray, devices: np.ndarray | None = None) -> np.ndarray:
        """Probabilities of ``classes_``, shape (n_windows, n_classes), float32; rows of NaN where
        unreadable.

        Raises:
            UserError: a feature is not finite.
        """
        features = np.asarray(x, np.float32)
        check_finite(features)
        if not len(features) or len(self.classes_) == 1:
            return np.ones((len(features), len(self.classes_)), np.float32)
        probabilities = self._judge(Given(features, _devices(devices, len(features)))).astype(
            np.float32
        )
        self.invalid = int(np.isnan(probabilities).any(axis=1).sum())
        return probabilities

    def predict(self, x: np.ndarray, devices: np.ndarray | None = None) -> np.ndarray:
        """Labels, shape (n_windows,), objects."""
        return self.decide(self.predict_proba(x, devices))

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """The label that each row of probabilities stands for, shape (n_windows,), objects;
        ``[invalid]`` for NaN."""
        said = self.classes_.astype(object)[probabilities.argmax(axis=1)]
        return np.where(np.isnan(probabilities).any(axis=1), INVALID, said).astype(object)

    def abstains(self, probabilities: np.ndarray) -> np.ndarray:
        """Which rows serving would answer with silence, shape (n_windows,), bool."""
        return np.zeros(len(probabilities), bool)

    @property
    @abstractmethod
    def size_bytes(self) -> int:
        """What would have to be stored to use the fitted model, bytes."""

    @abstractmethod
    def _learn(self, given: Given, codes: np.ndarray) -> None:
        """Learn from at least two classes; ``codes`` are places in ``classes_``, shape
        (n_windows,)."""

    @abstractmethod
    def _judge(self, given: Given) -> np.ndarray:
        """Probabilities of at least one window, shape (n_windows, n_classes)."""

    def _settle_classes(self, labels: np.ndarray) -> np.ndarray:
        if self.binary:
            return np.array([NORMAL, ANOMALOUS], dtype=object)
        present = {*labels} if self.learns else {*LABELS}
        return np.array([label for label in LABELS if label in present], dtype=object)


def split_inner(given: Given, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Part training windows from such as are held out of them, to choose settings and to stop in
    time.

    Windows overlap, so whole captures are held out, or whole devices where there is one capture.
    Only where there is one device too, the windows are drawn one by one.

    Args:
        given: at least 2 windows.
        seed: of the drawing.

    Returns:
        Places to learn from and places held out, about a quarter, neither empty.
    """
    n = len(given.features)
    apart = (given.groups, given.devices)
    groups = next(
        (one for one in apart if one is not None and len(np.unique(one)) > 1), np.arange(n)
    )
    split = GroupShuffleSplit(1, test_size=_INNER_SHARE, random_state=seed)
    learned, held = next(split.split(np.zeros(n), groups=groups))
    return learned, held


def _devices(devices: np.ndarray | None, n: int) -> np.ndarray:
    return np.zeros(n, np.int64) if devices is None else np.asarray(devices)


def _check(features: np.ndarray, labels: np.ndarray) -> None:
    check_finite(features)
    if not len(features) or len(labels) != len(features):
        raise UserError(
            f"{len(features)} windows and {len(labels)} labels to learn from; expected as many labels as windows, and "
            "some; give other captures"
        )
    if unknown := sorted({str(label) for label in labels} - set(LABELS)):
        raise UserError(
            f"no label is called {', '.join(unknown)}; expected {', '.join(LABELS)}; correct the labels"
        )
