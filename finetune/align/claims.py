"""What operators said of incidents, as claims that can be checked and learned from.

    history, exported files ─▶ rows ─▶ the last word on each incident ─▶ claims

A claim says what a device showed from when to when: the label that was shown (confirmed), another
one, none that is named ("" ), or normal (a false alarm). What was taken back is none, nor are
acknowledging, shelving and notes.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from assistant.chat.exported import EXPORTED, export_feedback
from assistant.facts.fact import plural
from assistant.facts.moments import UTC_CLOCK
from assistant.history import History
from traffic.errors import UserError
from traffic.labels import LABELS, NORMAL

ACTS = ("confirm", "wrong", "false_alarm")
COLUMNS = ("device", "start_s", "end_s", "incident", "shown", "said", "who", "at_s")
_NEEDED = ("device", "start_s", "end_s", "incident", "label_shown", "label_said", "act", "at_s")
_FORM = "the form of `faultwise feedback export`"


@dataclass(frozen=True)
class Claims:
    """What was said, each incident once.

    Attributes:
        table: shape (n, 8), ``COLUMNS``, by the time at which it was said; ``shown`` is the label
            of the verdict, ``said`` what the person says it was, "" where that is open.
        notes: what was left out or decided on the way, a sentence each.
    """

    table: pd.DataFrame
    notes: tuple[str, ...]


def read_claims(home: Path, files: Sequence[Path] = ()) -> Claims:
    """Read a home's own feedback and exported files of it.

    Args:
        home: the folder of state; it needs no history where files are given.
        files: CSV or JSON lines as `faultwise feedback export` writes them.

    Raises:
        UserError: a file is no such export, holds a label that is unknown, or nothing was said; or
            two remarks of one moment contradict each other.
    """
    history = home / "history.sqlite"
    tables = [_read_history(history)] if history.is_file() else []
    tables += [_read_file(path) for path in files]
    where = ", ".join(map(str, [*([history] if history.is_file() else []), *files])) or str(home)
    remarks = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=EXPORTED)
    return choose_claims(remarks, where)


def choose_claims(remarks: pd.DataFrame, where: str) -> Claims:
    """The last word on each incident among remarks.

    Args:
        remarks: as `assistant.chat.exported.export_feedback` returns them.
        where: they come from, for messages.

    Raises:
        UserError: nothing was said, or two remarks of one moment contradict each other.
    """
    said = remarks["act"].isin(ACTS)
    undone = said & remarks["undone"].astype(bool)
    kept = remarks[said & ~undone].rename(columns={"label_shown": "shown", "label_said": "said"})
    kept = kept[list(COLUMNS)].fillna({"said": "", "incident": ""})
    # What has no incident is told apart by its place.
    place = [f"{row.device} {row.start_s:.0f}" for row in kept.itertuples()]
    kept["incident"] = np.where(kept["incident"] == "", place, kept["incident"])
    kept = kept.drop_duplicates(
        ["incident", "said", "at_s"]
    )  # in the history, and exported from it
    if kept.empty:
        raise UserError(
            f"{where} holds no feedback ({len(remarks)} remarks, {int(undone.sum())} taken back); "
            "expected incidents that were confirmed, corrected or called false alarms; "
            "say so in the chat, or give --feedback FILE"
        )
    kept = kept.sort_values("at_s", kind="stable")
    _refuse_undecided(kept)
    last = kept.drop_duplicates("incident", keep="last")
    notes = []
    if count := int(undone.sum()):
        notes.append(f"{count} {plural(count, 'remark')} left out that {_be(count)} taken back")
    both = kept.groupby("incident")["said"].nunique()
    for key in both.index[both > 1]:
        one = last[last["incident"] == key].iloc[0]
        notes.append(
            f"{key} was called {_name_all(kept[kept['incident'] == key]['said'])}; the last word counts: "
            f"{_name(one['said'])}, {one['who']}, {UTC_CLOCK.show(one['at_s'])}"
        )
    return Claims(last.reset_index(drop=True), tuple(notes))


def _refuse_undecided(kept: pd.DataFrame) -> None:
    """Two last words of one moment: nobody can tell which counts."""
    newest = kept[kept["at_s"] == kept.groupby("incident")["at_s"].transform("max")]
    words = newest.groupby("incident")["said"].nunique()
    for key in words.index[words > 1]:
        said = _name_all(newest[newest["incident"] == key]["said"])
        raise UserError(
            f"{key} was called {said} at the same time; expected one last word; "
            "say again what it was, or correct the file"
        )


def _read_history(path: Path) -> pd.DataFrame:
    with closing(History(path)) as history:
        return export_feedback(history)


def _read_file(path: Path) -> pd.DataFrame:
    try:
        read = pd.read_json if path.suffix in (".jsonl", ".json") else pd.read_csv
        options = {"lines": True} if read is pd.read_json else {"keep_default_na": True}
        table = read(path, **options)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read as feedback ({str(error).splitlines()[0][:200]}); expected {_FORM}"
        ) from error
    if missing := [name for name in _NEEDED if name not in table]:
        raise UserError(
            f"{path} has no column {missing[0]}; expected {_FORM}; export it as csv or jsonl again"
        )
    table = table.reindex(columns=list(EXPORTED))
    for name in ("device", "incident", "label_shown", "label_said", "act", "who", "why"):
        table[name] = table[name].fillna("").astype(str)
    table["undone"] = table["undone"].astype("boolean").fillna(False).astype(bool)
    for name in ("start_s", "end_s", "at_s"):
        table[name] = pd.to_numeric(table[name], errors="coerce").astype(float)
    _check_rows(table, path)
    return table


def _check_rows(table: pd.DataFrame, path: Path) -> None:
    """All mistakes of claims at once, with their rows."""
    claims = table[table["act"].isin(ACTS)]
    mistakes = []
    for row in claims.itertuples():
        line = f"row {int(row.Index) + 1}"
        if row.label_shown not in LABELS[1:]:
            mistakes.append(f"{line}: label_shown {row.label_shown!r} is no anomaly that is known")
        if row.label_said and row.label_said not in LABELS:
            mistakes.append(f"{line}: label_said {row.label_said!r} is unknown")
        if row.act == "false_alarm" and row.label_said != NORMAL:
            mistakes.append(f"{line}: a false alarm with label_said {row.label_said!r}")
        if not row.end_s >= row.start_s or not np.isfinite(row.at_s):
            mistakes.append(f"{line}: its times are no times ({row.start_s} to {row.end_s})")
    if mistakes:
        more = f" and {len(mistakes) - 5} more" if len(mistakes) > 5 else ""
        raise UserError(
            f"{path}: {'; '.join(mistakes[:5])}{more}; expected labels of {', '.join(LABELS)}; "
            "correct the file, or export it again"
        )


def _name(said: str) -> str:
    return said or "something else"


def _name_all(said: pd.Series) -> str:
    return " and ".join(_name(one) for one in dict.fromkeys(said))


def _be(count: int) -> str:
    return "was" if count == 1 else "were"
