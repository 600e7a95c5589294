"""What the monitor needs to go on after a stop: where its source is, what it keeps, its verdicts,
first contacts.

One SQLite file; each slot's state is one transaction, so that a process that is killed goes on from
the slot before, and gives nothing twice.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from assistant.facts.contacts import Contact, End
from assistant.sqlite_file import SqliteFile
from traffic.labels import LABELS

_MIGRATIONS = (
    (
        "CREATE TABLE progress (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
        "CREATE TABLE verdicts (device TEXT NOT NULL, slot INTEGER NOT NULL, mark INTEGER NOT NULL,"
        " label TEXT NOT NULL, direction TEXT NOT NULL, probability REAL NOT NULL, abstained INTEGER NOT NULL,"
        " probabilities BLOB NOT NULL, PRIMARY KEY (device, slot)) WITHOUT ROWID",
        "CREATE INDEX verdicts_by_slot ON verdicts (slot)",
    ),
    (
        "CREATE TABLE contacts (device TEXT NOT NULL, target TEXT NOT NULL, port INTEGER NOT NULL,"
        " first_s REAL NOT NULL, known_s REAL NOT NULL, named INTEGER NOT NULL, named_just INTEGER NOT NULL,"
        " PRIMARY KEY (device, target, port)) WITHOUT ROWID",
    ),
)
_PLACE = ["device", "slot", "mark"]
_SAID = ["label", "direction", "probability", "abstained"]
CHANCES = [f"p_{label}" for label in LABELS]
VERDICT_COLUMNS = [*_PLACE, *_SAID, *CHANCES]


class MonitorState:
    """The state file of one monitor."""

    def __init__(self, folder: Path) -> None:
        """Open or make ``monitor.sqlite`` in a folder.

        Raises:
            UserError: it is no such file, is damaged, or cannot be written.
        """
        self._file = SqliteFile(folder / "monitor.sqlite", _MIGRATIONS)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def progress(self) -> dict[str, Any]:
        """What ``save`` kept last; empty at the first start."""
        rows = self._file.rows("SELECT value FROM progress WHERE name = 'last'")
        return json.loads(rows[0]["value"]) if rows else {}

    def verdicts(self) -> pd.DataFrame:
        """The kept verdicts, ``VERDICT_COLUMNS``, sorted by device and slot."""
        rows = self._file.rows("SELECT * FROM verdicts ORDER BY device, slot")
        chances = np.array([np.frombuffer(row["probabilities"], "<f4") for row in rows])
        if chances.shape[-1:] != (len(LABELS),):
            rows, chances = [], np.zeros((0, len(LABELS)), np.float32)  # of other labels, or none
        table = pd.DataFrame(rows, columns=[*_PLACE, *_SAID])
        table = table.astype({"device": "str", "slot": "int64", "mark": "int64", "label": "object",
                              "direction": "object", "probability": "float32", "abstained": "bool"})  # fmt: skip
        return pd.concat([table, pd.DataFrame(chances, columns=CHANCES)], axis=1)

    def contacts(self) -> dict[End, Contact]:
        """The kept first contacts, the oldest first."""
        rows = self._file.rows("SELECT * FROM contacts ORDER BY first_s")
        return {
            (row["device"], row["target"], row["port"]): Contact(
                row["first_s"], row["known_s"], bool(row["named"]), bool(row["named_just"])
            )
            for row in rows
        }

    def save(
        self,
        progress: dict[str, Any],
        verdicts: pd.DataFrame,
        first_slot: int,
        contacts: Mapping[End, Contact] | None = None,
        gone: Iterable[End] = (),
    ) -> None:
        """Keep all of it, or nothing.

        Args:
            progress: as ``progress`` gives it back.
            verdicts: new ones, ``VERDICT_COLUMNS``; they replace those of the same windows.
            first_slot: verdicts of earlier windows are let go.
            contacts: first contacts that are new, or known better.
            gone: those that are let go.

        Raises:
            UserError: the disk is full, or the file cannot be written.
        """
        chances = verdicts[CHANCES].to_numpy("<f4")
        kept = verdicts[[*_PLACE, *_SAID]].astype({"abstained": int, "probability": float})
        rows = [
            (*row, chance.tobytes())
            for row, chance in zip(kept.itertuples(index=False, name=None), chances, strict=True)
        ]
        with self._file.change() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows
            )
            connection.execute("DELETE FROM verdicts WHERE slot < ?", (first_slot,))
            connection.executemany(
                "DELETE FROM contacts WHERE device = ? AND target = ? AND port = ?", gone
            )
            connection.executemany(
                "INSERT OR REPLACE INTO contacts VALUES (?, ?, ?, ?, ?, ?, ?)",
                ((*end, *astuple(one)) for end, one in (contacts or {}).items()),
            )
            connection.execute(
                "INSERT OR REPLACE INTO progress VALUES ('last', ?)", (json.dumps(progress),)
            )
