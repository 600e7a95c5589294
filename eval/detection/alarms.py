"""Incidents and detection delays that an operator would have got from a model's predictions."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from assistant.detection.classify import choose_directions
from assistant.detection.incidents import Incident
from eval.detection.corpus import LabelledCapture
from eval.results import INVALID, Labelling
from traffic.labels import LABELS, NORMAL

# An incident may begin and end a window before and after what it is about.
_SLACK_S = 60.0


@dataclass(frozen=True)
class AlarmCounts:
    """Incidents of one capture: all, the false ones, and over how many minutes."""

    incidents: int
    false: int
    minutes: float


def make_verdicts(
    capture: LabelledCapture,
    classes: np.ndarray,
    probabilities: np.ndarray,
    labels: np.ndarray,
    abstained: np.ndarray,
) -> pd.DataFrame:
    """Verdicts as `assistant.detection.classify` gives them, from any model that tells labels apart.

    Args:
        capture: all of its windows were predicted.
        classes: the model's labels, shape (n_classes,).
        probabilities: shape (n_windows, n_classes).
        labels: shape (n_windows,); an answer that could not be read counts as normal and abstained.
        abstained: shape (n_windows,), bool.
    """
    invalid = labels == INVALID
    label = np.where(invalid, NORMAL, labels).astype(object)
    verdicts = capture.windows.table[["device", "start_s", "end_s"]].reset_index(drop=True)
    verdicts = verdicts.assign(direction=choose_directions(capture.windows, label), label=label)
    table = np.zeros((len(label), len(LABELS)), np.float32)
    table[:, [LABELS.index(name) for name in classes]] = np.nan_to_num(probabilities, nan=0.0)
    verdicts["probability"] = table[np.arange(len(label)), [LABELS.index(one) for one in label]]
    verdicts["abstained"] = abstained | invalid
    columns = pd.DataFrame(table, columns=[f"p_{name}" for name in LABELS])
    return pd.concat([verdicts, columns], axis=1)


def count_incidents(
    capture: LabelledCapture,
    incidents: Sequence[Incident],
    intervals: pd.DataFrame,
    devices: Collection[str],
) -> AlarmCounts:
    """Count incidents, and those that no true interval accounts for.

    Args:
        capture: what they are about.
        incidents: of any model.
        intervals: ``device label start_s end_s``, what truly happened.
        devices: incidents of other devices are not counted.
    """
    mine = [one for one in incidents if one.device in devices]
    false = sum(not is_accounted(one, intervals) for one in mine)
    start_s = capture.windows.table["start_s"].to_numpy(float)
    minutes = float(np.ptp(start_s)) / 60 + 1 if len(start_s) else 0.0
    return AlarmCounts(len(mine), false, minutes)


def is_accounted(incident: Incident, intervals: pd.DataFrame) -> bool:
    """Whether an interval of its time (``device start_s end_s``) is of one whom an incident names."""
    about = intervals["device"].isin([incident.device, *incident.related, *incident.peers])
    before = intervals["end_s"] <= incident.start_s - _SLACK_S
    after = intervals["start_s"] >= incident.end_s + _SLACK_S
    return bool((about & ~before & ~after).any())


def true_intervals(
    capture: LabelledCapture, labelling: Labelling, labels: Collection[str]
) -> pd.DataFrame:
    """The true intervals of some labels under one labelling, in the order of their start."""
    every = capture.intervals
    chosen = every[(every["labelling"] == labelling) & every["label"].isin(labels)]
    return chosen.sort_values(["start_s", "device", "label"], kind="stable").reset_index(drop=True)


def find_delays(
    capture: LabelledCapture, intervals: pd.DataFrame, alarmed: np.ndarray
) -> np.ndarray:
    """Seconds from each interval's start to the end of its first window with an alarm.

    Args:
        capture: all of its windows were predicted.
        intervals: as `true_intervals` gives them.
        alarmed: shape (n_windows,), bool.

    Returns:
        Shape (n_intervals,); NaN where no window that overlaps the interval has an alarm.
    """
    table = capture.windows.table
    start_s, end_s = table["start_s"].to_numpy(float), table["end_s"].to_numpy(float)
    device = table["device"].to_numpy(object)
    delays = np.full(len(intervals), np.nan)
    for place, one in enumerate(intervals.itertuples(index=False)):
        overlaps = (device == one.device) & (end_s > one.start_s) & (start_s < one.end_s)
        ends = end_s[alarmed & overlaps]
        if len(ends):
            delays[place] = ends.min() - one.start_s
    return delays
