"""What every model of a comparison is given: the numbers of a window's six samples, the same for all.

No address, name or port number is among them, and nothing read from a file's name: a model can learn what a device
does, never which device it is.
"""

import numpy as np

from traffic.errors import UserError
from traffic.samples import CLASSES, COLUMNS
from traffic.windows import Windows

__all__ = ["FEATURES", "PORT_FEATURES", "check_finite", "make_features"]

# As they stand in a sample, unscaled: the texts of a language model are rendered from the same numbers.
FEATURES: tuple[str, ...] = COLUMNS
# The only ones that a port number decides, and by its service class alone.
PORT_FEATURES: tuple[str, ...] = tuple(f"pkts_{name}" for name in CLASSES)


def make_features(windows: Windows) -> np.ndarray:
    """The features of every window, shape (n_windows, 6, len(FEATURES)), float32; zeros where there is no sample.

    Raises:
        UserError: a feature is not a finite number.
    """
    features = windows.values(list(FEATURES))  # (windows, 6, features)
    check_finite(features)
    return features


def check_finite(features: np.ndarray) -> None:
    """Refuse features that are no numbers, by the name of their column.

    Args:
        features: shape (n_windows, 6, len(FEATURES)).

    Raises:
        UserError: one is NaN or infinite, or their number is another.
    """
    if features.ndim != 3 or features.shape[2] != len(FEATURES):
        raise UserError(
            f"features have the shape {features.shape}; expected (windows, samples, {len(FEATURES)}); "
            "make them by eval.models.features.make_features"
        )
    odd = ~np.isfinite(features)
    if odd.any():
        window, sample, column = (int(places[0]) for places in np.nonzero(odd))
        raise UserError(
            f"feature {FEATURES[column]} is {features[window, sample, column]} in window {window}, sample {sample} "
            f"({int(odd.any(axis=(1, 2)).sum())} of {len(features)} windows hold such a value); "
            "expected finite numbers; correct what makes the column"
        )
