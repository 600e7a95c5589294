"""What operators said of incidents, as tables that others read: all of it, or what training may use."""

from dataclasses import dataclass

import pandas as pd

from assistant.facts.fact import plural
from assistant.facts.moments import UTC_CLOCK
from assistant.history import History
from traffic.labels import LABELS, NORMAL

HEADS = ("when", "incident", "shown", "remark", "said", "who", "why")
EXPORTED = (
    "device", "start_s", "end_s", "incident", "label_shown", "label_said", "act", "who", "why", "at_s",
    "until_s", "undone",
)  # fmt: skip


def export_feedback(history: History) -> pd.DataFrame:
    """Everything that was said of incidents, for training and for an incident history.

    Args:
        history: the open history.

    Returns:
        Shape (n_remarks, 12), oldest first, with the columns ``EXPORTED``. ``label_shown`` is the
        verdict, ``label_said`` what the person says it was, "" where that is open; ``until_s`` is
        nan but for shelving; ``undone`` marks what was taken back later, which nothing should
        learn from. The taking back itself is a row of act ``undo``.
    """
    sql = (
        "SELECT i.device, coalesce(f.start_s, i.start_s) AS start_s, coalesce(f.end_s, i.end_s) AS end_s,"
        " s.incident, coalesce(f.verdict, i.label) AS label_shown, coalesce(f.label, '') AS label_said,"
        " s.act, s.who, s.why, s.at_s, s.until_s,"
        " s.id IN (SELECT undoes FROM incident_states WHERE undoes IS NOT NULL) AS undone"
        " FROM incident_states AS s JOIN incidents AS i ON i.id = s.incident"
        " LEFT JOIN feedback AS f ON f.id = s.feedback"
        " UNION ALL SELECT device, start_s, end_s, incident, verdict, label,"
        " CASE WHEN label = 'normal' THEN 'false_alarm' WHEN label = verdict THEN 'confirm' ELSE 'wrong' END,"
        " who, why, at_s, NULL, 0 FROM feedback WHERE id NOT IN (SELECT feedback FROM incident_states"
        " WHERE feedback IS NOT NULL) ORDER BY at_s"
    )
    table = pd.DataFrame(history.file.rows(sql), columns=list(EXPORTED))
    return table.astype({"until_s": float, "undone": bool})


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
        remarks: as ``export_feedback`` returns them, oldest first.

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
