"""An audit log in a SQLite file: rows are only ever added, each with a hash over the one before it.

    row 1  sha256(""     + content)     row 2  sha256(hash 1 + content)     row 3 …

A row is written in the transaction of the change that it tells of, so that neither stands without
the other. What cannot be seen from the chain itself, that its end is missing, shows against the
newest row's number and hash in a file beside it.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from traffic.errors import UserError
from traffic.files import write_text

Outcome = Literal["whole", "altered", "cut", "not there"]

MIGRATION = (
    "CREATE TABLE audit (n INTEGER PRIMARY KEY AUTOINCREMENT, at_s REAL NOT NULL, who TEXT NOT NULL,"
    " act TEXT NOT NULL, subject TEXT NOT NULL, content TEXT NOT NULL, hash TEXT NOT NULL)",
    "CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit"
    " BEGIN SELECT raise(ABORT, 'the audit log is only added to'); END",
    "CREATE TRIGGER audit_is_not_erased BEFORE DELETE ON audit"
    " BEGIN SELECT raise(ABORT, 'the audit log is only added to'); END",
)
_STATE = (
    "SELECT id, incident, state, who, why, until_s, at_s, act, feedback, undoes FROM incident_states"
    " WHERE id = ?"
)
_ROWS = "SELECT n, at_s, who, act, subject, content, hash FROM audit ORDER BY n"


@dataclass(frozen=True)
class AuditCheck:
    """What became of an audit log.

    Attributes:
        outcome: ``whole``; ``altered`` (a row, or what it tells of, is not as it was written);
            ``cut`` (rows are missing); ``not there``.
        rows: how many rows there are.
        text: one sentence for a person.
    """

    outcome: Outcome
    rows: int
    text: str


def append_audit(
    connection: sqlite3.Connection, who: str, act: str, subject: str, now_s: float, **content: Any
) -> None:
    """Add a row within the caller's transaction.

    Args:
        connection: in a transaction that holds the write lock.
        who: a person's name, or ``faultwise``.
        act: what was done, one word.
        subject: to what: an incident's id, a device.
        now_s: when, seconds since the epoch.
        content: further values, as JSON has them.
    """
    last = connection.execute("SELECT hash FROM audit ORDER BY n DESC LIMIT 1").fetchone()
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    mark = _hash(last[0] if last else "", now_s, who, act, subject, text)
    connection.execute(
        "INSERT INTO audit (at_s, who, act, subject, content, hash) VALUES (?, ?, ?, ?, ?, ?)",
        (now_s, who, act, subject, text, mark),
    )


def append_state_audit(connection: sqlite3.Connection, number: int) -> None:
    """Add the row that tells of a new row of ``incident_states``, within its transaction."""
    row = connection.execute(_STATE, (number,)).fetchone()
    told = {name: row[name] for name in ("state", "why", "until_s", "undoes")}
    append_audit(
        connection,
        row["who"],
        row["act"] or row["state"],
        row["incident"],
        row["at_s"],
        table="incident_states",
        row=number,
        digest=_digest(row),
        **told,
    )


def _digest(row: sqlite3.Row) -> str:
    text = json.dumps(dict(row), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_head(connection: sqlite3.Connection, path: Path) -> None:
    """Put the newest row's number and hash beside the file, where a cut end shows."""
    last = connection.execute("SELECT n, hash FROM audit ORDER BY n DESC LIMIT 1").fetchone()
    if last is not None:
        write_text(head_path(path), json.dumps({"n": last[0], "hash": last[1]}) + "\n")


def head_path(path: Path) -> Path:
    """Where the newest row of the log in ``path`` is noted."""
    return path.with_name(path.name + ".head")


def _hash(before: str, at_s: float, who: str, act: str, subject: str, content: str) -> str:
    parts = json.dumps([before, repr(float(at_s)), who, act, subject, content], ensure_ascii=False)
    return hashlib.sha256(parts.encode()).hexdigest()


# ---- Checking ----


def check_audit(path: Path) -> AuditCheck:
    """Read the log without changing it, and say whether it is as it was written.

    Args:
        path: the SQLite file that holds it.
    """
    head = _read_head(path)
    if not path.is_file():
        return AuditCheck("not there", 0, f"{path} does not exist: there is no audit log.")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            # One snapshot: what others add meanwhile must not look like an end that is missing.
            connection.execute("BEGIN")
            return _check(connection, head, path)
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return AuditCheck("not there", 0, f"{path} holds no audit log.")
        raise UserError(
            f"{path} cannot be read ({error}); expected the history of this home; check its rights"
        ) from error
    except sqlite3.DatabaseError as error:
        return AuditCheck("altered", 0, f"{path} is damaged: {error}.")


def _check(connection: sqlite3.Connection, head: dict[str, Any], path: Path) -> AuditCheck:
    before, expected, rows = "", 1, 0
    marks: dict[int, str] = {}
    for row in connection.execute(_ROWS):
        if row["n"] != expected:
            text = f"Rows {expected} to {row['n'] - 1} of the audit log in {path} are missing."
            return AuditCheck("cut", rows, text)
        mark = _hash(before, *(row[k] for k in ("at_s", "who", "act", "subject", "content")))
        if mark != row["hash"]:
            text = f"Row {row['n']} of the audit log in {path} is not as it was written."
            return AuditCheck("altered", rows, text)
        if problem := _find_change(connection, row):
            return AuditCheck("altered", rows, f"{problem} (row {row['n']} of the audit log).")
        marks[row["n"]] = before = mark
        rows, expected = rows + 1, expected + 1
    used = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'audit'").fetchone()
    last = max(int(used[0]) if used else 0, int(head.get("n", 0)))
    if last > rows:
        text = f"Rows {rows + 1} to {last} of the audit log in {path} are missing at its end."
        return AuditCheck("cut", rows, text)
    if head and marks.get(int(head["n"])) != head["hash"]:
        text = f"The audit log in {path} is another than the one that {head_path(path).name} notes."
        return AuditCheck("altered", rows, text)
    if extra := list(_unaccounted(connection)):
        return AuditCheck("altered", rows, f"{extra[0]}, and the audit log does not tell of it.")
    return AuditCheck("whole", rows, f"The audit log is whole: {rows:,} rows.")


def _find_change(connection: sqlite3.Connection, row: sqlite3.Row) -> str:
    """What is wrong with the row of another table that an audit row tells of; "" for nothing."""
    content = json.loads(row["content"])
    if content.get("table") != "incident_states":
        return ""
    number = content["row"]
    found = connection.execute(_STATE, (number,)).fetchone()
    if found is None:
        return f"State {number} of incident {row['subject']} was erased"
    changed = _digest(found) != content["digest"]
    return f"State {number} of incident {row['subject']} was altered" if changed else ""


def _unaccounted(connection: sqlite3.Connection) -> Iterator[str]:
    """States that were put in by another hand; those older than the log are not its."""
    known = (
        "SELECT json_extract(content, '$.row') FROM audit WHERE content LIKE '%incident_states%'"
    )
    first = connection.execute("SELECT at_s FROM audit ORDER BY n LIMIT 1").fetchone()
    if first is None:
        return
    rows = connection.execute(
        f"SELECT id, incident FROM incident_states WHERE id NOT IN ({known}) AND id >"  # noqa: S608
        f" (SELECT coalesce(min(id), 0) FROM incident_states WHERE id IN ({known}))"
    )
    for row in rows:
        yield f"State {row['id']} of incident {row['incident']} was put in"


def _read_head(path: Path) -> dict[str, Any]:
    """What ``write_head`` noted; empty where nothing was, or where it was cut."""
    try:
        found = json.loads(head_path(path).read_text(encoding="utf-8"))
        return found if isinstance(found, dict) and {"n", "hash"} <= set(found) else {}
    except (OSError, ValueError):
        return {}
