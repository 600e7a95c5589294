"""What an operator would have got from a model's verdicts: incidents, and how soon what happened
was found."""

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
class Raised:
    """Incidents of one capture: all, those that nothing true accounts for, and over how many
    minutes."""

    incidents: int
    false: int
    minutes: float


def make_verdicts(
    capture: LabelledCapture,
    classes: np.ndarray,
    probabilities: np.ndarray,
    said: np.ndarray,
    abstained: np.ndarray,
) -> pd.DataFrame:
    """Verdicts in the form that `assistant.detection.classify` gives them, from any model that
    tells labels apart.

    Args:
        capture: all of its windows were judged.
        classes: the model's labels, shape (n_classes,).
        probabilities: shape (n_windows, n_classes).
        said: shape (n_windows,); an answer that could not be read counts as normal with a silent
            operator.
        abstained: shape (n_windows,), bool.
    """
    unread = said == INVALID
    label = np.where(unread, NORMAL, said).astype(object)
    verdicts = capture.windows.table[["device", "start_s", "end_s"]].reset_index(drop=True)
    verdicts = verdicts.assign(direction=choose_directions(capture.windows, label), label=label)
    columns = {name: np.zeros(len(label), np.float32) for name in LABELS}
    for place, name in enumerate(classes):
        columns[name] = np.nan_to_num(probabilities[:, place], nan=0.0).astype(np.float32)
    table = pd.DataFrame({f"p_{name}": values for name, values in columns.items()})
    code = pd.Series(label).map({name: place for place, name in enumerate(LABELS)}).to_numpy(int)
    verdicts["probability"] = table.to_numpy()[np.arange(len(label)), code]
    verdicts["abstained"] = abstained | unread
    return pd.concat([verdicts, table], axis=1)


def count_incidents(
    capture: LabelledCapture,
    incidents: Sequence[Incident],
    intervals: pd.DataFrame,
    devices: Collection[str],
) -> Raised:
    """Hold incidents against what truly happened.

    Args:
        capture: what they are about.
        incidents: of any model.
        intervals: ``device label start_s end_s``, what truly happened.
        devices: incidents of other devices are not counted.
    """
    mine = [one for one in incidents if one.device in devices]
    false = sum(not _accounted(one, intervals) for one in mine)
    start_s = capture.windows.table["start_s"]
    return Raised(
        len(mine), false, float(start_s.max() - start_s.min()) / 60 + 1 if len(start_s) else 0.0
    )


def _accounted(incident: Incident, intervals: pd.DataFrame) -> bool:
    about = intervals["device"].isin([incident.device, *incident.related, *incident.peers])
    during = (intervals["start_s"] < incident.end_s + _SLACK_S) & (
        intervals["end_s"] > incident.start_s - _SLACK_S
    )
    return bool((about & during).any())


def true_intervals(
    capture: LabelledCapture, labelling: Labelling, labels: Collection[str]
) -> pd.DataFrame:
    """What truly happened under one labelling, of some labels, in the order of its start."""
    told = capture.intervals
    chosen = told[(told["labelling"] == labelling) & told["label"].isin(labels)]
    return chosen.sort_values(["start_s", "device", "label"], kind="stable").reset_index(drop=True)


def find_delays(
    capture: LabelledCapture, intervals: pd.DataFrame, alarmed: np.ndarray
) -> np.ndarray:
    """Seconds from each interval's start to the end of its first window with an alarm, shape
    (n_intervals,).

    NaN where no window that overlaps the interval has one.

    Args:
        capture: all of its windows were judged.
        intervals: as `true_intervals` gives them.
        alarmed: shape (n_windows,), bool.
    """
    table = capture.windows.table
    start_s, end_s = table["start_s"].to_numpy(float), table["end_s"].to_numpy(float)
    device = table["device"].to_numpy(object)
    delays = np.full(len(intervals), np.nan)
    for place, one in enumerate(intervals.itertuples(index=False)):
        ends = end_s[
            alarmed & (device == one.device) & (end_s > one.start_s) & (start_s < one.end_s)
        ]
        if len(ends):
            delays[place] = ends.min() - one.start_s
    return delays
