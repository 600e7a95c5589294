"""What the harness asks of every model that it compares: scikit-learn's three names, and two that are optional."""

from typing import Protocol

import numpy as np

__all__ = ["Classifier", "seen_before", "size_bytes"]


class Classifier(Protocol):
    """A model of windows.

    Attributes:
        classes_: our labels, in the order of the columns of ``predict_proba``; set by ``fit``.
    """

    classes_: np.ndarray

    def fit(self, x: np.ndarray, y: np.ndarray, devices: np.ndarray | None = None) -> "Classifier":
        """Learn.

        Args:
            x: shape (n, 6, len(FEATURES)), float32; a device's windows stand together, in the order of time.
            y: shape (n,), our labels.
            devices: shape (n,), an opaque number for each device of each capture; for models that learn what is usual
                for a device. Numbers of fitting and scoring have nothing in common.
        """

    def predict_proba(self, x: np.ndarray, devices: np.ndarray | None = None) -> np.ndarray:
        """Probabilities, shape (n, len(classes_)); a row of NaN where the model's answer could not be read."""


def seen_before(model: object) -> tuple[str, ...]:
    """Names of captures that a model was made with before ``fit``: its attribute ``trained_on``, as a card says it."""
    return tuple(getattr(model, "trained_on", ()))


def size_bytes(model: object) -> int | None:
    """What storing the fitted model would take: its attribute ``size_bytes``, as a number; None where it has none."""
    size = getattr(model, "size_bytes", None)
    return int(size) if isinstance(size, (int, np.integer)) else None
