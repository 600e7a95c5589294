"""Who may come in: users with roles, sessions of browsers, tokens of programs, in one SQLite file.

    password ─▶ scrypt (RFC 7914) ─▶ users          a session's or token's text is shown once and kept
    token    ─▶ SHA-256           ─▶ tokens         as its hash: who reads the file gets nobody's

Nobody has a default password. Where no user exists yet, a code that is printed once makes the first
one, an admin. Every change, every login, every failure and whatever a role does not allow is a row of
the audit log.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from assistant.audit import append_audit
from assistant.history import History
from assistant.sqlite_file import SqliteFile
from traffic.errors import UserError

Role = Literal["operator", "engineer", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)

_MIGRATIONS = (
    (
        "CREATE TABLE users (name TEXT PRIMARY KEY, role TEXT NOT NULL, salt BLOB NOT NULL, hash BLOB NOT NULL,"
        " failures INTEGER NOT NULL DEFAULT 0, locked_s REAL NOT NULL DEFAULT 0, made_s REAL NOT NULL)",
        "CREATE TABLE tokens (hash TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, role TEXT NOT NULL,"
        " expires_s REAL NOT NULL, made_s REAL NOT NULL)",
        "CREATE TABLE sessions (hash TEXT PRIMARY KEY, user TEXT NOT NULL REFERENCES users(name)"
        " ON DELETE CASCADE, begun_s REAL NOT NULL, seen_s REAL NOT NULL)",
        "CREATE TABLE setup (hash TEXT PRIMARY KEY, expires_s REAL NOT NULL)",
    ),
)  # fmt: skip
_SCRYPT = {"n": 2**15, "r": 8, "p": 3, "maxmem": 2**26, "dklen": 32}  # OWASP's, 32 MB
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
LEAST_CHARS, MOST_CHARS = 12, 256
MOST_FAILURES, LOCKED_S = 5, 900.0
IDLE_S, SESSION_S = 1800.0, 12 * 3600.0
SETUP_S = 3600.0
_DAY_S = 86_400.0
MOST_DAYS = 366


@dataclass(frozen=True)
class Person:
    """Who asks: a user or a program with a token; ``login``: whether he had to show it."""

    name: str
    role: Role
    login: bool = True

    def may(self, role: Role) -> bool:
        """Whether he has a role, or one above it."""
        return ROLES.index(self.role) >= ROLES.index(role)


class Users:
    """The users of one home. Methods may be called from any thread."""

    def __init__(self, home: Path, history: History) -> None:
        """Open or make the file.

        Args:
            home: the folder for state.
            history: holds the audit log.
        """
        self.file = SqliteFile(home / "users.sqlite", _MIGRATIONS)
        self.file.path.chmod(0o600)
        self._history = history
        # Who is unknown costs as long as who is known: an answer's time tells no names.
        self._nobody = secrets.token_bytes(16)

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    @property
    def none(self) -> bool:
        """Whether there is no user yet."""
        return not self.file.rows("SELECT 1 FROM users LIMIT 1")

    # ---- Users ----

    def list(self) -> list[dict[str, Any]]:
        """Every user: ``name role locked_s``; and every token: ``name role expires_s``."""
        users = self.file.rows("SELECT name, role, locked_s FROM users ORDER BY name")
        tokens = self.file.rows("SELECT name, role, expires_s FROM tokens ORDER BY name")
        return [{"kind": "user"} | one for one in users] + [
            {"kind": "token"} | one for one in tokens
        ]

    def add(self, name: str, password: str, role: str, by: str) -> None:
        """Add a user.

        Raises:
            UserError: a name, role or password that is none, or a user who is there already.
        """
        _check_name(name)
        _check_role(role)
        _check_password(name, password)
        salt = secrets.token_bytes(16)
        values = (name, role, salt, _hash_password(password, salt), time.time())
        with self.file.change() as connection:
            if connection.execute("SELECT 1 FROM users WHERE name = ?", (name,)).fetchone():
                raise UserError(f"user {name} exists; expected a new name; remove him first")
            connection.execute(
                "INSERT INTO users (name, role, salt, hash, made_s) VALUES (?, ?, ?, ?, ?)", values
            )
        self._tell(by, "user_add", name, role=role)

    def remove(self, name: str, by: str) -> None:
        """Remove a user with his sessions, or a token.

        Raises:
            UserError: there is neither, or he is the last admin.
        """
        with self.file.change() as connection:
            row = connection.execute("SELECT role FROM users WHERE name = ?", (name,)).fetchone()
            if row is not None:
                admins = "SELECT count(*) FROM users WHERE role = 'admin'"
                others = "SELECT count(*) FROM users WHERE name <> ?"
                last = row["role"] == "admin" and connection.execute(admins).fetchone()[0] == 1
                if last and connection.execute(others, (name,)).fetchone()[0]:
                    raise UserError(f"{name} is the last admin; expected another; add one first")
                connection.execute("DELETE FROM users WHERE name = ?", (name,))
            elif not connection.execute("DELETE FROM tokens WHERE name = ?", (name,)).rowcount:
                raise UserError(
                    f"there is no user and no token {name}; `faultwise users list` shows them"
                )
        self._tell(by, "user_remove" if row is not None else "token_remove", name)

    # ---- Passwords and sessions ----

    def log_in(self, name: str, password: str, now_s: float | None = None) -> str:
        """Begin a session; returns its text, which the browser keeps as a cookie.

        Raises:
            UserError: no such user or another password, which read the same; or he is locked.
        """
        now_s = time.time() if now_s is None else now_s
        found = self.file.rows("SELECT * FROM users WHERE name = ?", name[:64])
        row: dict[str, Any] = (
            found[0] if found else {"salt": self._nobody, "hash": b"", "locked_s": 0.0}
        )
        good = hmac.compare_digest(_hash_password(password[:MOST_CHARS], row["salt"]), row["hash"])
        if row["locked_s"] > now_s:
            self._tell(_shown(name), "login_locked", _shown(name), now_s)
            minutes = (row["locked_s"] - now_s) / 60
            raise UserError(
                f"{_shown(name)} is locked after {MOST_FAILURES} failures; try again in {minutes:.0f} min"
            )
        if not good:
            self._count_failure(name, bool(found), now_s)
            raise UserError("that user and password do not fit; expected both as they were given")
        text = secrets.token_urlsafe(32)
        with self.file.change() as connection:
            connection.execute(
                "UPDATE users SET failures = 0, locked_s = 0 WHERE name = ?", (name,)
            )
            connection.execute("DELETE FROM sessions WHERE begun_s < ?", (now_s - SESSION_S,))
            connection.execute(
                "INSERT INTO sessions VALUES (?, ?, ?, ?)", (_hash_text(text), name, now_s, now_s)
            )
        self._tell(name, "login", name, now_s)
        return text

    def _count_failure(self, name: str, known: bool, now_s: float) -> None:
        locked = False
        if known:
            with self.file.change() as connection:
                sql = "UPDATE users SET failures = failures + 1 WHERE name = ? RETURNING failures"
                locked = connection.execute(sql, (name,)).fetchone()[0] >= MOST_FAILURES
                if locked:
                    sql = "UPDATE users SET failures = 0, locked_s = ? WHERE name = ?"
                    connection.execute(sql, (now_s + LOCKED_S, name))
        self._tell(_shown(name), "lockout" if locked else "login_failed", _shown(name), now_s)

    def find_session(self, text: str, now_s: float | None = None) -> Person | None:
        """Whose session it is; None where it is nobody's, too old or was idle for too long."""
        now_s = time.time() if now_s is None else now_s
        mark = _hash_text(text)
        rows = self.file.rows(
            "SELECT u.name, u.role, s.seen_s FROM sessions AS s JOIN users AS u ON u.name = s.user"
            " WHERE s.hash = ? AND s.begun_s > ? AND s.seen_s > ?",
            mark, now_s - SESSION_S, now_s - IDLE_S,
        )  # fmt: skip
        if not rows:
            return None
        if now_s - rows[0]["seen_s"] > 60:  # a row a minute, not one a click
            with self.file.change() as connection:
                connection.execute("UPDATE sessions SET seen_s = ? WHERE hash = ?", (now_s, mark))
        return Person(rows[0]["name"], rows[0]["role"])

    def log_out(self, text: str) -> None:
        """End a session."""
        person = self.find_session(text)
        with self.file.change() as connection:
            connection.execute("DELETE FROM sessions WHERE hash = ?", (_hash_text(text),))
        if person is not None:
            self._tell(person.name, "logout", person.name)

    # ---- Tokens ----

    def add_token(self, name: str, role: str, days: float, by: str) -> str:
        """Make a token for a program; its text is returned once.

        Raises:
            UserError: a name that is taken or none, an unknown role, or days out of range.
        """
        _check_name(name)
        _check_role(role)
        if not 0 < days <= MOST_DAYS:
            raise UserError(f"a token for {days:g} days; expected 1 to {MOST_DAYS}; give --days")
        text, now_s = f"fw_{secrets.token_urlsafe(32)}", time.time()
        with self.file.change() as connection:
            if connection.execute("SELECT 1 FROM tokens WHERE name = ?", (name,)).fetchone():
                raise UserError(f"token {name} exists; expected a new name; remove it first")
            row = (_hash_text(text), name, role, now_s + days * _DAY_S, now_s)
            connection.execute("INSERT INTO tokens VALUES (?, ?, ?, ?, ?)", row)
        self._tell(by, "token_add", name, role=role, days=days)
        return text

    def find_token(self, text: str) -> Person:
        """Whose token it is.

        Raises:
            UserError: nobody's, or one that has expired.
        """
        sql = "SELECT name, role, expires_s FROM tokens WHERE hash = ?"
        rows = self.file.rows(sql, _hash_text(text))
        if not rows:
            raise UserError("that token is not known here; `faultwise users token NAME` makes one")
        if rows[0]["expires_s"] <= time.time():
            raise UserError(
                f"token {rows[0]['name']} has expired; `faultwise users token` makes a new one"
            )
        return Person(rows[0]["name"], rows[0]["role"])

    # ---- The first user ----

    def begin_setup(self) -> str:
        """A code by which the first user is made, good for an hour; any earlier one is void."""
        code = "-".join(secrets.token_hex(2) for _ in range(4))
        with self.file.change() as connection:
            connection.execute("DELETE FROM setup")
            row = (_hash_text(code), time.time() + SETUP_S)
            connection.execute("INSERT INTO setup VALUES (?, ?)", row)
        return code

    def set_up(self, code: str, name: str, password: str) -> None:
        """Make the first user, an admin; the code is good for one.

        Raises:
            UserError: there is a user already, the code is another or old, or as ``add`` has it.
        """
        if not self.none:
            raise UserError("there are users already; an admin adds others with `faultwise users`")
        known = self.file.rows(
            "SELECT expires_s FROM setup WHERE hash = ?", _hash_text(code.strip())
        )
        if not known or known[0]["expires_s"] <= time.time():
            self._tell("nobody", "setup_failed", _shown(name))
            raise UserError(
                "that set-up code is not the one that was printed, or is older than an hour; start the server anew"
            )
        self.add(name, password, "admin", "set-up code")
        with self.file.change() as connection:
            connection.execute("DELETE FROM setup")

    def note_refusal(self, person: Person, doing: str, needed: Role) -> None:
        """Note what a person may not do, and tried."""
        note_refusal(self._history, person, doing, needed)

    def _tell(
        self, who: str, act: str, subject: str, now_s: float | None = None, **content: Any
    ) -> None:
        with self._history.change() as connection:
            append_audit(connection, who, act, subject, now_s or time.time(), **content)


def note_refusal(history: History, person: Person | None, doing: str, needed: Role) -> None:
    """Note in the audit log what somebody may not do, and tried.

    Args:
        history: holds the audit log.
        person: who; None where nobody found out.
        doing: what, in a few words.
        needed: the role that may.
    """
    who, role = (person.name, person.role) if person else ("nobody", "")
    with history.change() as connection:
        append_audit(connection, who, "refused", doing[:120], time.time(), role=role, needs=needed)


@contextmanager
def open_users(home: Path) -> Iterator[Users]:
    """The users of a home, with the audit log that tells of changes."""
    with (
        closing(History(home / "history.sqlite")) as history,
        closing(Users(home, history)) as users,
    ):
        yield users


def _hash_password(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode("utf-8", "replace"), salt=salt, **_SCRYPT)  # type: ignore[arg-type]


def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _shown(name: str) -> str:
    """A name as somebody typed it, fit for the audit log."""
    return name if _NAME.fullmatch(name) else "an impossible name"


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{name[:40]!r} is no name; expected up to 32 letters, digits, dots, dashes; choose another"
        )


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise UserError(f"{role!r} is no role; expected one of: {', '.join(ROLES)}")


def _check_password(name: str, password: str) -> None:
    if not LEAST_CHARS <= len(password) <= MOST_CHARS or name.lower() in password.lower():
        raise UserError(
            f"that password cannot be used; expected {LEAST_CHARS} to {MOST_CHARS} characters, without the name; "
            "choose another"
        )
