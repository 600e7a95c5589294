"""What operators said of incidents, as tables that others read: all of it, or what training may use."""

from dataclasses import dataclass

import pandas as pd

from assistant.facts.fact import plural
from assistant.facts.moments import UTC_CLOCK
from traffic.labels import LABELS, NORMAL

HEADS = ("when", "incident", "shown", "remark", "said", "who", "why")
_VERDICTS = ("confirm", "wrong")


@dataclass(frozen=True)
class Truth:
    """Intervals in the form of a user's truth (``traffic.datasets.truth``), and what is not in it."""

    intervals: pd.DataFrame
    notes: tuple[str, ...]


def make_truth(remarks: pd.DataFrame) -> Truth:
    """Which device showed what, from when to when, as people confirmed or corrected it.

    The last word on an incident counts, and nothing that was taken back. A false alarm makes no
    interval: ten wrong ones would teach a detector to overlook a live intruder, so that they are
    counted and left to whoever checks them.

    Args:
        remarks: as ``assistant.history.export_feedback`` returns them, oldest first.

    Returns:
        Intervals, shape (n, 5): ``device start_s end_s label cause``, by start.
    """
    standing = remarks[~remarks["undone"] & remarks["act"].isin([*_VERDICTS, "false_alarm"])]
    last = standing.drop_duplicates("incident", keep="last")
    alarms = int((last["label_said"] == NORMAL).sum())
    known = last["label_said"].isin([one for one in LABELS if one != NORMAL])
    kept = last[known].sort_values(["start_s", "device"])
    notes = []
    if alarms:
        notes.append(
            f"{alarms} false {plural(alarms, 'alarm')} left out: check them against what is known "
            "before anything learns from them"
        )
    if open_ := len(last) - alarms - int(known.sum()):
        notes.append(f"{open_} {plural(open_, 'remark')} left out that name no label")
    columns = ["device", "start_s", "end_s", "label_said", "why"]
    intervals = kept[columns].set_axis(["device", "start_s", "end_s", "label", "cause"], axis=1)
    return Truth(intervals.reset_index(drop=True), tuple(notes))


def list_remarks(remarks: pd.DataFrame) -> list[list[str]]:
    """Cells of one line a remark, the oldest first, under ``HEADS``."""
    return [
        [
            UTC_CLOCK.show(one.at_s), one.incident, one.label_shown,
            f"{one.act}{' (taken back)' if one.undone else ''}", one.label_said, one.who,
            " ".join(str(one.why).split())[:80],
        ]
        for one in remarks.itertuples()
    ]  # fmt: skip
