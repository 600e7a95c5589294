"""The numbers of a window, the same for every model of a comparison: six samples and their past.

No address, name or port number is among them, and nothing read from a file's name: a model can
learn what a device does, never which device it is.
"""

import numpy as np

from traffic.errors import UserError
from traffic.samples import CLASSES, COLUMNS
from traffic.window_facts import lay_out
from traffic.windows import Windows

# As they stand in a sample, unscaled: the texts of a language model are rendered from them too.
FEATURES: tuple[str, ...] = COLUMNS
# The only ones that a port number decides, and by its service class alone.
PORT_FEATURES: tuple[str, ...] = tuple(f"pkts_{name}" for name in CLASSES)


def make_features(windows: Windows) -> np.ndarray:
    """The features of every window, as `traffic.window_facts.lay_out` makes them.

    Returns:
        Shape (n_windows, 9, len(FEATURES)), float32: six samples, zeros where there is none, then
        three rows of the device's past, which only models of texts read.

    Raises:
        UserError: a feature is not a finite number.
    """
    features = lay_out(windows, FEATURES)
    check_finite(features)
    return features


def check_finite(features: np.ndarray) -> None:
    """Refuse features that are no numbers, by the name of their column.

    Args:
        features: shape (n_windows, 6 or 9, len(FEATURES)).

    Raises:
        UserError: one is NaN or infinite, or their number is another.
    """
    if features.ndim != 3 or features.shape[2] != len(FEATURES):
        raise UserError(
            f"features have the shape {features.shape}; expected (windows, samples, "
            f"{len(FEATURES)}); make them by eval.models.features.make_features"
        )
    odd = ~np.isfinite(features)
    if odd.any():
        window, sample, column = (int(places[0]) for places in np.nonzero(odd))
        raise UserError(
            f"feature {FEATURES[column]} is {features[window, sample, column]} in window {window}, "
            f"sample {sample} ({int(odd.any(axis=(1, 2)).sum())} of {len(features)} windows hold "
            "such a value); expected finite numbers; correct what makes the column"
        )


# ---- Forms that models read ----


def scale_counts(features: np.ndarray) -> np.ndarray:
    """Counts on a log scale, ``sign(x) * log(1 + |x|)``, float32."""
    return np.asarray(np.sign(features) * np.log1p(np.abs(features)), np.float32)


def summarise(features: np.ndarray) -> np.ndarray:
    """Mean, highest and deviation of each feature over the six samples.

    Returns:
        Shape (n_windows, 3 * n_features), float32.
    """
    # Where in a window something happened says little: XGBoost on 6,000 windows of simulated
    # plants reached macro-F1 0.46 on other plants from these and 0.39 from the samples in a row,
    # in half the time (one run; the choice rests on it).
    parts = [features.mean(axis=1), features.max(axis=1), features.std(axis=1)]
    return np.concatenate(parts, axis=1)
