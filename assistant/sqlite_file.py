"""A SQLite file for several people at once, whose schema grows by numbered steps.

WAL mode lets readers go on while one writes. Each thread has its own connection; each change is one
short transaction, so that a power cut leaves all of it or nothing.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from traffic.errors import UserError

BUSY_MS = 10_000


class SqliteFile:
    """One file, its connections, and the version of its schema (``PRAGMA user_version``)."""

    def __init__(self, path: Path, migrations: tuple[tuple[str, ...], ...]) -> None:
        """Open or make the file, and bring its schema up to date.

        Args:
            path: the file; its folder is made where it is missing.
            migrations: the n-th entry holds the statements that bring a file from version n-1 to n.

        Raises:
            UserError: the path is no such file, is damaged, cannot be written, or comes from a
                newer version.
        """
        self.path = path
        self.migrations = migrations
        self._own = threading.local()
        self._open: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        with self._user_errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._check()
            self._migrate()

    def close(self) -> None:
        """Close the connections of all threads; the object cannot be used after."""
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()
        self._own = threading.local()

    def insert(self, table: str, **values: Any) -> int:
        """Add one row (the names are the code's own, the values anybody's) and return its
        number."""
        columns, marks = ", ".join(values), ", ".join("?" * len(values))
        with self.change() as connection:
            sql = f"INSERT INTO {table} ({columns}) VALUES ({marks})"  # noqa: S608
            return int(connection.execute(sql, tuple(values.values())).lastrowid or 0)

    def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """What a SELECT finds, one dict a row, by column name."""
        with self._user_errors():
            return [dict(row) for row in self._connection().execute(sql, values)]

    def _connection(self) -> sqlite3.Connection:
        if not hasattr(self._own, "connection"):
            connection = sqlite3.connect(
                self.path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False
            )
            connection.row_factory = sqlite3.Row
            connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA journal_mode = WAL")
            # What was said to be kept is kept, also when power fails.
            connection.execute("PRAGMA synchronous = FULL")
            with self._lock:
                self._open.append(connection)
            self._own.connection = connection
        return self._own.connection

    @contextmanager
    def _user_errors(self) -> Iterator[None]:
        """Turn what SQLite and the disk say into one line for the user."""
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.OperationalError as error:
            raise UserError(
                f"cannot use the file {self.path}: {error}; expected a file that this user may write; "
                "check the folder, its rights and who else has it open"
            ) from error
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"the file {self.path} is damaged or no database: {error}; expected faultwise's SQLite "
                "file; move it away to start a new one, or restore a copy"
            ) from error
        except OSError as error:
            raise UserError(
                f"cannot make the folder of {self.path}: {error}; give one that can be written"
            ) from error

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of its statements, or none."""
        with self._user_errors():
            connection = self._connection()
            # IMMEDIATE takes the write lock at once: a reader that turned writer midway would fail
            # instead of waiting.
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def _check(self) -> None:
        found = self._connection().execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(found)

    def _migrate(self) -> None:
        if self._version() == len(self.migrations):
            return
        with self.change() as connection:
            version = self._version()  # read again: another process may have been faster
            if version > len(self.migrations):
                raise UserError(
                    f"the file {self.path} has version {version}; expected at most {len(self.migrations)}; "
                    "it was written by a newer faultwise: update this one"
                )
            for number in range(version, len(self.migrations)):
                for statement in self.migrations[number]:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(self.migrations)}")

    def _version(self) -> int:
        return int(self._connection().execute("PRAGMA user_version").fetchone()[0])
