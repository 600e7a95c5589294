"""What a labelling of windows is worth, beside what is true."""

from dataclasses import asdict, dataclass

import numpy as np

from traffic.labels import NORMAL

__all__ = ["Scores", "evaluate_labels"]


@dataclass(frozen=True)
class Scores:
    """Measures of one labelling; shares lie in [0, 1], NaN where nothing can be measured.

    Attributes:
        windows: how many were scored.
        macro_f1: mean F1 over the labels that are true somewhere or were said somewhere.
        binary_f1: macro F1 of normal against anomalous.
        false_share: of the windows that are normal, those called anomalous.
        recall: of the windows that are anomalous, those called anomalous (whatever the label).
    """

    windows: int
    macro_f1: float
    binary_f1: float
    false_share: float
    recall: float

    def to_dict(self) -> dict[str, float]:
        """The measures by name, rounded to four places."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def evaluate_labels(truth: np.ndarray, said: np.ndarray) -> Scores:
    """Compare labels, window by window.

    Args:
        truth: shape (n_windows,), our labels.
        said: shape (n_windows,), our labels.
    """
    from sklearn.metrics import f1_score

    truth, said = np.asarray(truth, dtype=object), np.asarray(said, dtype=object)
    anomalous, called = truth != NORMAL, said != NORMAL
    return Scores(
        windows=len(truth),
        macro_f1=float(f1_score(truth, said, average="macro", zero_division=0.0)) if len(truth) else float("nan"),
        binary_f1=float(f1_score(anomalous, called, average="macro", zero_division=0.0))
        if len(truth)
        else float("nan"),
        false_share=float(called[~anomalous].mean()) if (~anomalous).any() else float("nan"),
        recall=float(called[anomalous].mean()) if anomalous.any() else float("nan"),
    )
