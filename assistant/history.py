"""The history: conversations, answers, the states of incidents, feedback.

One SQLite file, which several processes and threads may use at once. States and feedback are only
ever added, never changed; each change is told of in the audit log (``assistant.audit``).
"""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assistant.audit import MIGRATION, append_audit, append_state_audit, write_head
from assistant.sqlite_file import SqliteFile
from traffic.errors import UserError

# ISA-18.2; suppression by design is the plant's business.
STATES = ("active", "acknowledged", "returned", "shelved")
JUDGEMENTS = ("false_alarm", "confirm", "wrong")  # acts that say what an incident was

# The n-th entry brings a file from version n-1 to n. Entries are history: never edited, only
# followed by another.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE conversations (id INTEGER PRIMARY KEY, who TEXT NOT NULL, capture TEXT NOT NULL,"
        " started_s REAL NOT NULL)",
        "CREATE TABLE messages (id INTEGER PRIMARY KEY, conversation INTEGER NOT NULL REFERENCES conversations(id)"
        " ON DELETE CASCADE, role TEXT NOT NULL CHECK (role IN ('operator', 'assistant')), text TEXT NOT NULL,"
        " at_s REAL NOT NULL)",
        "CREATE TABLE incidents (id TEXT PRIMARY KEY, device TEXT NOT NULL, label TEXT NOT NULL, start_s REAL NOT NULL,"
        " end_s REAL NOT NULL, summary TEXT NOT NULL)",
        "CREATE TABLE incident_states (id INTEGER PRIMARY KEY, incident TEXT NOT NULL REFERENCES incidents(id),"
        " state TEXT NOT NULL CHECK (state IN ('active', 'acknowledged', 'returned', 'shelved')), who TEXT NOT NULL,"
        " why TEXT NOT NULL, until_s REAL, at_s REAL NOT NULL)",
        "CREATE TABLE feedback (id INTEGER PRIMARY KEY, device TEXT NOT NULL, start_s REAL NOT NULL, end_s REAL"
        " NOT NULL, incident TEXT, verdict TEXT NOT NULL, label TEXT NOT NULL, who TEXT NOT NULL, why TEXT NOT NULL,"
        " at_s REAL NOT NULL)",
    ),
    (
        "CREATE TABLE answers (id INTEGER PRIMARY KEY, conversation INTEGER REFERENCES conversations(id)"
        " ON DELETE SET NULL, question TEXT NOT NULL, diagnosis TEXT NOT NULL, at_s REAL NOT NULL)",
        "CREATE INDEX messages_of_conversation ON messages (conversation, id)",
        "CREATE INDEX states_of_incident ON incident_states (incident, id)",
        "CREATE INDEX incidents_by_device ON incidents (device, label, start_s)",
    ),
    (
        # Which remark declared a state, and which earlier one it takes back.
        "ALTER TABLE incident_states ADD COLUMN act TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE incident_states ADD COLUMN feedback INTEGER REFERENCES feedback(id)",
        "ALTER TABLE incident_states ADD COLUMN undoes INTEGER REFERENCES incident_states(id)",
        "UPDATE incident_states SET feedback = (SELECT max(id) FROM feedback WHERE"
        " feedback.incident = incident_states.incident AND feedback.at_s = incident_states.at_s)",
        "UPDATE incident_states SET act = coalesce((SELECT CASE WHEN label = 'normal' THEN 'false_alarm'"
        " WHEN label = verdict THEN 'confirm' ELSE 'wrong' END FROM feedback"
        " WHERE feedback.id = incident_states.feedback),"
        " CASE state WHEN 'shelved' THEN 'shelve' WHEN 'acknowledged' THEN 'acknowledge' ELSE '' END)",
    ),
    (
        # What `faultwise monitor` raises; what people do with it are states of the incident.
        *MIGRATION,
        "CREATE TABLE alarms (incident TEXT PRIMARY KEY REFERENCES incidents(id), label TEXT NOT NULL,"
        " device TEXT NOT NULL, tier TEXT NOT NULL, priority TEXT NOT NULL, raised_s REAL NOT NULL,"
        " returned_s REAL, at_s REAL NOT NULL, times INTEGER NOT NULL, incident_end_s REAL NOT NULL,"
        " content TEXT NOT NULL)",
        "CREATE INDEX alarms_by_time ON alarms (raised_s)",
        "CREATE TABLE raisings (id INTEGER PRIMARY KEY, incident TEXT NOT NULL REFERENCES alarms(incident),"
        " tier TEXT NOT NULL, device TEXT NOT NULL, raised_s REAL NOT NULL, suppressed TEXT NOT NULL)",
        "CREATE INDEX raisings_by_time ON raisings (raised_s)",
        "CREATE TABLE maintenance (id INTEGER PRIMARY KEY, device TEXT NOT NULL, start_s REAL NOT NULL,"
        " end_s REAL NOT NULL, who TEXT NOT NULL, why TEXT NOT NULL, at_s REAL NOT NULL)",
    ),
    # A replay beside the live plant must not take back its alarms.
    ("ALTER TABLE alarms ADD COLUMN source TEXT NOT NULL DEFAULT ''",),
    # Nor may a recording that is replayed anew be taken for what was raised the last time.
    ("ALTER TABLE alarms ADD COLUMN run TEXT NOT NULL DEFAULT ''",),
    # What was measured of an incident that somebody judged: an outcome is found again by it.
    (
        "CREATE TABLE measured (incident TEXT PRIMARY KEY REFERENCES incidents(id), content TEXT NOT NULL)",
    ),
)

# The rows of incident_states that nobody took back.
_STANDING = (
    "undoes IS NULL AND id NOT IN (SELECT undoes FROM incident_states WHERE undoes IS NOT NULL)"
)


@dataclass(frozen=True)
class Message:
    """One line of a conversation; ``role`` is ``operator`` or ``assistant``."""

    role: str
    text: str
    at_s: float


@dataclass(frozen=True)
class Talk:
    """A conversation as it is kept: its number, whose it is, and about what."""

    id: int
    who: str
    capture: str


@dataclass(frozen=True)
class State:
    """What an incident was declared to be.

    Attributes:
        state: one of ``STATES``.
        who, why: the person and the reason, in their words; ``why`` may be "".
        until_s: when shelving ends, seconds since the epoch; None for other states.
        at_s: when it was declared; nan where nobody ever did.
        act: the remark that declared it, as ``assistant.chat.feedback`` names it; "" where none
            did.
        label: what the person says it was; "" where nothing was said of it.
    """

    state: str
    who: str
    why: str
    until_s: float | None
    at_s: float
    act: str = ""
    label: str = ""


@dataclass(frozen=True)
class IncidentRecord:
    """An incident as it was kept when it was first seen; ``end_s`` and ``summary`` follow its
    growth."""

    id: str
    device: str
    label: str
    start_s: float
    end_s: float
    summary: str


@dataclass(frozen=True)
class Feedback:
    """What a person said of a verdict: ``verdict`` is what was shown, ``label`` what the person
    says it was."""

    device: str
    start_s: float
    end_s: float
    incident: str | None
    verdict: str
    label: str
    who: str
    why: str
    at_s: float


@dataclass(frozen=True)
class Judged:
    """An incident with the newest judgement of it that stands.

    Attributes:
        incident: as it was kept.
        remark: the judgement: ``confirm``, ``wrong`` or ``false_alarm``.
        measured: what ``History.keep_measured`` was given.
    """

    incident: IncidentRecord
    remark: State
    measured: str


_ADD_FEEDBACK = (
    "INSERT INTO feedback (device, start_s, end_s, incident, verdict, label, who, why, at_s) VALUES"
    " (:device, :start_s, :end_s, :incident, :verdict, :label, :who, :why, :at_s)"
)


class History:
    """The file of what was said and done. Methods may be called from any thread."""

    def __init__(self, path: Path | str) -> None:
        """Open or make the file, and bring its schema up to date.

        Raises:
            UserError: the path is no file of ours, is damaged, cannot be written, or comes from a
                newer version.
        """
        self.file = SqliteFile(Path(path), MIGRATIONS)

    def close(self) -> None:
        """Close the file; the object cannot be used after."""
        self.file.close()

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """One transaction that adds to the audit log, and to the note of its newest row after."""
        with self.file.change() as connection:
            yield connection
        # The change is kept; a note that is behind is no damage.
        with suppress(UserError), self.file.change() as connection:
            write_head(connection, self.file.path)

    def start_conversation(self, who: str, capture: str = "", now_s: float | None = None) -> int:
        """Begin a thread of messages; returns its number."""
        return self.file.insert("conversations", who=who, capture=capture, started_s=_now(now_s))

    def add_message(
        self, conversation: int, role: str, text: str, now_s: float | None = None
    ) -> int:
        """Keep one message; ``role`` is ``operator`` or ``assistant``."""
        return self.file.insert(
            "messages", conversation=conversation, role=role, text=text, at_s=_now(now_s)
        )

    def messages(self, conversation: int) -> list[Message]:
        """All messages of a conversation, oldest first."""
        sql = "SELECT role, text, at_s FROM messages WHERE conversation = ? ORDER BY id"
        return [Message(**row) for row in self.file.rows(sql, conversation)]

    def talks(self, who: str, number: int | None = None) -> list[Talk]:
        """The conversations of a person, or the one of a number where it is that person's, newest
        first."""
        sql = (
            "SELECT id, who, capture FROM conversations WHERE who = ?1"
            " AND (?2 IS NULL OR id = ?2) ORDER BY id DESC"
        )
        return [Talk(**row) for row in self.file.rows(sql, who, number)]

    def add_incident(self, record: IncidentRecord) -> None:
        """Keep an incident, or follow the growth of one that is already kept (its end and
        summary)."""
        with self.change() as connection:
            self.put_incident(connection, record)

    @staticmethod
    def put_incident(connection: sqlite3.Connection, record: IncidentRecord) -> None:
        """The same within a transaction of ``change``."""
        sql = "SELECT 1 FROM incidents WHERE id = ?"
        if connection.execute(sql, (record.id,)).fetchone() is None:
            append_audit(
                connection, "faultwise", "keep", record.id, _now(None), label=record.label,
                device=record.device, start_s=record.start_s,
            )  # fmt: skip
        connection.execute(
            "INSERT INTO incidents (id, device, label, start_s, end_s, summary) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET end_s = max(end_s, excluded.end_s), summary = excluded.summary",
            tuple(vars(record).values()),
        )

    def incidents(
        self, device: str | None = None, label: str | None = None, before_s: float | None = None
    ) -> list[IncidentRecord]:
        """Kept incidents, newest first, of one device, of one label, that started before a time."""
        sql = (
            "SELECT id, device, label, start_s, end_s, summary FROM incidents"
            " WHERE (?1 IS NULL OR device = ?1) AND (?2 IS NULL OR label = ?2)"
            " AND (?3 IS NULL OR start_s < ?3) ORDER BY start_s DESC, id"
        )
        return [IncidentRecord(**row) for row in self.file.rows(sql, device, label, before_s)]

    def set_state(
        self,
        incident: str,
        state: str,
        who: str,
        why: str = "",
        until_s: float | None = None,
        now_s: float | None = None,
        act: str = "",
        said: Feedback | None = None,
    ) -> None:
        """Declare the state of a kept incident.

        Args:
            incident: id of an incident that was kept by ``add_incident``.
            state: one of ``STATES``; ``shelved`` needs a reason and a time it ends.
            who, why: the person and the reason, in their words.
            until_s: seconds since the epoch at which shelving ends.
            now_s: when it is declared; by default now.
            act: the remark that declares it.
            said: what the remark says of the verdict; kept with the state, or not at all.

        Raises:
            UserError: an unknown state or incident; shelved without a reason or an end in the
                future.
        """
        at_s = _now(now_s)
        if state not in STATES:
            raise UserError(
                f"no state {state!r} for incident {incident}; expected one of: {', '.join(STATES)}"
            )
        if state == "shelved" and (not why.strip() or until_s is None or until_s <= at_s):
            raise UserError(
                f"cannot shelve {incident} without a reason and an end in the future; expected both; "
                "give a reason and a later end"
            )
        self.check_incident(incident)
        with self.change() as connection:
            number = None
            if said is not None:
                number = connection.execute(_ADD_FEEDBACK, vars(said)).lastrowid
            added = connection.execute(
                "INSERT INTO incident_states (incident, state, who, why, until_s, at_s, act, feedback)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (incident, state, who, why, until_s, at_s, act, number),
            )
            append_state_audit(connection, int(added.lastrowid or 0))

    def check_incident(self, incident: str) -> None:
        """Refuse an incident that the file does not hold.

        Raises:
            UserError: it is not known.
        """
        if not self.file.rows("SELECT 1 AS found FROM incidents WHERE id = ?", incident):
            raise UserError(
                f"no incident {incident!r} in {self.file.path}; expected the id of one that was kept before"
            )

    def undo(
        self, incident: str, who: str, act: str = "", now_s: float | None = None
    ) -> State | None:
        """Take back the newest remark on an incident that still stands, or the newest of one act.

        Nothing is erased: a further row says what was taken back, by whom and when.

        Returns:
            What was taken back; None where nothing stands.
        """
        with self.change() as connection:
            found = connection.execute(
                f"SELECT id, act FROM incident_states WHERE incident = ?1 AND {_STANDING}"  # noqa: S608
                " AND (?2 = '' OR act = ?2) ORDER BY id DESC LIMIT 1",
                (incident, act),
            ).fetchone()
            if found is None:
                return None
            undone = self._states("id = ?", found["id"])[0]
            added = connection.execute(
                "INSERT INTO incident_states (incident, state, who, why, at_s, act, undoes)"
                " VALUES (?, 'active', ?, '', ?, 'undo', ?)",
                (incident, who, _now(now_s), found["id"]),
            )
            append_state_audit(connection, int(added.lastrowid or 0))
        return undone

    def state(self, incident: str, now_s: float | None = None) -> State:
        """The present state; one never declared is active, and so is one whose shelving has run
        out or whose remarks were all taken back."""
        standing = self.standing(incident)
        if not standing:
            return State("active", "", "", None, float("nan"))
        last = standing[-1]
        if last.until_s is not None and last.until_s <= _now(now_s):
            return State("active", last.who, f"shelving ended: {last.why}", None, last.until_s)
        return last

    def states(self, incident: str) -> list[State]:
        """Every state an incident was declared to be in, what was taken back and the taking back
        (act ``undo``) among them, oldest first."""
        return self._states("incident = ?", incident)

    def standing(self, incident: str) -> list[State]:
        """The declared states of an incident that nobody took back, oldest first."""
        return self._states(f"incident = ? AND {_STANDING}", incident)

    def _states(self, where: str, value: object) -> list[State]:
        sql = (
            "SELECT state, who, why, until_s, at_s, act, coalesce((SELECT label FROM feedback"  # noqa: S608
            " WHERE feedback.id = incident_states.feedback), '') AS label"
            f" FROM incident_states WHERE {where} ORDER BY id"
        )
        return [State(**row) for row in self.file.rows(sql, value)]

    def keep_measured(self, incident: str, content: str) -> None:
        """Keep what was measured of a kept incident, as its newest account."""
        with self.file.change() as connection:
            connection.execute("INSERT OR REPLACE INTO measured VALUES (?, ?)", (incident, content))

    def judged(self) -> list[Judged]:
        """The incidents whose measures are kept and of which somebody said what they were, oldest
        first; what was taken back counts no more."""
        sql = (
            "SELECT i.*, m.content FROM measured AS m JOIN incidents AS i ON i.id = m.incident"
            " ORDER BY i.start_s, i.id"
        )
        found = []
        for row in self.file.rows(sql):
            content, record = row.pop("content"), IncidentRecord(**row)
            said = [one for one in self.standing(record.id) if one.act in JUDGEMENTS]
            found += [Judged(record, one, content) for one in said[-1:]]
        return found

    def feedback(self, device: str | None = None) -> list[Feedback]:
        """All feedback that nobody took back, or that of one device, oldest first."""
        sql = (
            "SELECT device, start_s, end_s, incident, verdict, label, who, why, at_s FROM feedback"
            " WHERE (?1 IS NULL OR device = ?1) AND id NOT IN (SELECT old.feedback"
            " FROM incident_states AS old JOIN incident_states AS new ON new.undoes = old.id"
            " WHERE old.feedback IS NOT NULL) ORDER BY id"
        )
        return [Feedback(**row) for row in self.file.rows(sql, device)]

    def add_answer(
        self,
        question: str,
        diagnosis: dict[str, Any],
        conversation: int | None = None,
        now_s: float | None = None,
    ) -> int:
        """Keep a question and the whole diagnosis it got; returns its number."""
        row = {"conversation": conversation, "question": question, "at_s": _now(now_s)}
        text = json.dumps(diagnosis, ensure_ascii=False)
        return self.file.insert("answers", diagnosis=text, **row)

    def answers(
        self, question: str | None = None, conversation: int | None = None
    ) -> list[dict[str, Any]]:
        """Kept diagnoses, newest first; those of one question, or of one conversation, where it is
        given."""
        sql = (
            "SELECT diagnosis FROM answers WHERE (?1 IS NULL OR question = ?1)"
            " AND (?2 IS NULL OR conversation = ?2) ORDER BY id DESC"
        )
        return [json.loads(row["diagnosis"]) for row in self.file.rows(sql, question, conversation)]

    def version(self) -> int:
        """A number that grows with every change of an alarm or a state."""
        return int(self.file.rows("SELECT coalesce(max(n), 0) AS n FROM audit")[0]["n"])


def _now(now_s: float | None) -> float:
    return time.time() if now_s is None else now_s
