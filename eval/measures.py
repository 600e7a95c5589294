"""What the numbers of a table of results mean, in the order in which a table shows them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["MEASURES", "Measure"]


@dataclass(frozen=True)
class Measure:
    """What a number means.

    Attributes:
        meaning: one sentence, for a table's head or foot.
        better: which way is good.
        unit: "" for shares and scores in [0, 1].
    """

    meaning: str
    better: Literal["higher", "lower"]
    unit: str = ""


# The names of `eval.results.Row.scores` and `Pooled.scores`. Anomalous is whatever the protocol calls an alarm.
MEASURES: Mapping[str, Measure] = {
    "accuracy": Measure(meaning="windows with the right label", better="higher"),
    "precision": Measure(meaning="precision, mean over labels", better="higher"),
    "recall": Measure(meaning="recall, mean over labels", better="higher"),
    "f1": Measure(meaning="F1, mean over labels true or said", better="higher"),
    "weighted_f1": Measure(meaning="F1, mean over labels weighted by their windows", better="higher"),
    "binary_accuracy": Measure(meaning="windows rightly normal or anomalous", better="higher"),
    "binary_precision": Measure(meaning="of the windows called anomalous, those that are", better="higher"),
    "binary_recall": Measure(meaning="of the anomalous windows, those called so", better="higher"),
    "binary_f1": Measure(meaning="F1 of anomalous", better="higher"),
    "binary_macro_f1": Measure(meaning="mean F1 of normal and anomalous", better="higher"),
    "pr_auc": Measure(meaning="average precision of 1 - P(normal) for anomalous", better="higher"),
    "false_share": Measure(meaning="of the normal windows, those called anomalous", better="lower"),
    "false_share_at_recall_75": Measure(
        meaning="false_share at the threshold at which 75 % of the anomalous windows are found", better="lower"
    ),
    "false_per_device_day": Measure(
        meaning="false alarms (abstentions are none) per device and day that it was seen",
        better="lower",
        unit="windows",
    ),
    "incidents_per_10_min": Measure(
        meaning="incidents raised per operator (one a capture) and 10 minutes", better="lower", unit="incidents"
    ),
    "false_incidents_per_10_min": Measure(
        meaning="of these, such as no true interval accounts for", better="lower", unit="incidents"
    ),
    "found_share": Measure(meaning="of the true intervals, those with an alarm", better="higher"),
    "time_to_detection_s": Measure(
        meaning="from a true interval's start to the end of its first window with an alarm, median of those found",
        better="lower",
        unit="s",
    ),
    "calibration_error": Measure(meaning="expected calibration error of the label's probability", better="lower"),
    "risk_area": Measure(meaning="mean share of wrong answers over all coverages", better="lower"),
    "coverage_at_5_percent": Measure(meaning="most windows answered with at most 5 % wrong", better="higher"),
}
