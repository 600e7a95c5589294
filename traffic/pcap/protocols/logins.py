"""Logins in clear text over Telnet, FTP and HTTP: whether they were accepted or refused.

A login is a request of the kind ``session``, and what the server says to it is its answer. User
names and passwords are hashed where they are read, and kept nowhere.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from traffic.pcap.messages import Messages
from traffic.pcap.protocols.protocol import (
    ANSWER,
    ASK,
    SESSION,
    SKIP,
    make_rows,
    number_secrets,
    share_flow,
)

LOGIN = 1  # the one function that is read
FUNCTIONS = {LOGIN: "login"}
# Telnet has no codes: whoever types a name and a password is told in words, or asked anew.
TELNET_REFUSALS = {1: "login incorrect"}
FTP_REFUSALS = {  # RFC 959, RFC 2228
    430: "invalid user name or password",
    530: "not logged in",
    532: "need account for storing files",
    534: "request denied for policy reasons",
}
HTTP_REFUSALS = {401: "unauthorized", 403: "forbidden", 407: "proxy authentication required"}

_SECRET_BYTES = 128  # of a user name and a password that are told apart
_TEXT = 512  # bytes of a message of Telnet or FTP that are looked at
_HEADER = 2048  # of a request of HTTP
_AT_ONCE = 8192  # messages whose texts are in memory together


@dataclass(frozen=True)
class _Try:
    """One login: where it was sent, where it was answered (-1 for nowhere), the code of its refusal
    (0 for none) and what it tried (empty where that cannot be told)."""

    ask: int
    answer: int
    code: int
    secret: bytes


@dataclass(frozen=True)
class _Line:
    """A message: its place, who sent it, and its text."""

    place: int
    is_orig: bool
    text: bytes


_Talk = list[_Line]


def reads_logins(find: Callable[[Messages], Iterator[_Try]]) -> Callable[[Messages], pd.DataFrame]:
    """How a protocol whose logins ``find`` finds reads its messages."""

    def read(messages: Messages) -> pd.DataFrame:
        tries = list(find(messages))
        role = np.full(len(messages), SKIP)
        columns = {name: np.full(len(messages), -1) for name in ("code", "key", "login")}
        ask, answer, code = (
            np.array([getattr(one, name) for one in tries], np.int64)
            for name in ("ask", "answer", "code")
        )
        there = answer >= 0
        role[ask], role[answer[there]] = ASK, ANSWER
        columns["key"][ask] = np.arange(len(tries))
        columns["key"][answer[there]] = np.flatnonzero(there)
        columns["code"][answer[there]] = code[there]
        columns["login"][ask] = _number_logins([one.secret for one in tries])
        # What is said to a login that no word here recognises is no silence.
        return make_rows(messages, role, kind=SESSION, function=LOGIN, patient=1, **columns)

    return read


def _number_logins(secrets: list[bytes]) -> np.ndarray:
    """A number for each login, -1 where it cannot be told apart from others."""
    cut = [one[:_SECRET_BYTES].ljust(_SECRET_BYTES, b"\0") for one in secrets]
    texts = np.frombuffer(b"".join(cut), np.uint8).reshape(-1, _SECRET_BYTES)
    size = np.array([len(one) for one in secrets], np.int64)
    return np.where(size > 0, number_secrets(texts, size), -1)


def _read_talks(messages: Messages, chosen: np.ndarray, width: int) -> Iterator[_Talk]:
    """The chosen messages of each flow by time, with the first ``width`` bytes of their text.

    Args:
        messages: shape (n,).
        chosen: shape (n,), bool.
        width: bytes.
    """
    place = np.flatnonzero(chosen)
    place = place[np.lexsort((messages.row[place], messages.flow[place]))]
    flow, is_orig = messages.flow[place], messages.is_orig[place]
    talk: _Talk = []
    for start in range(0, len(place), _AT_ONCE):
        here = place[start : start + _AT_ONCE]
        texts = messages.take(here).bytes(0, width)
        size = np.minimum(messages.held[here], width)
        for i, one in enumerate(here):
            at = start + i
            if talk and flow[at] != flow[at - 1]:
                yield talk
                talk = []
            talk.append(_Line(int(one), bool(is_orig[at]), texts[i, : size[i]].tobytes()))
    if talk:
        yield talk


# ---- Telnet: prompts and what follows them (RFC 854; login(1)) ----

_OPTION = re.compile(rb"\xff(?:[\xfb-\xfe].|\xfa.*?\xff\xf0|[^\xff])", re.DOTALL)
_PAINT = re.compile(rb"\x1b(?:\[[0-9;?]*[A-Za-z]|[()].|[=>78])|\0")
_ASKS_NAME = re.compile(
    rb"(?:login|log ?on|user(?: ?name)?|account|benutzer(?:name)?|usuario|utilisateur)"
    rb"[^\r\n:]{0,24}:[ \t]*$",
    re.IGNORECASE,
)
_ASKS_PASSWORD = re.compile(
    rb"(?:pass ?word|passwort|kennwort|passcode|contrase\S{1,3}a|mot de passe)[^\r\n:]{0,40}:[ \t]*$",
    re.IGNORECASE,
)
_SAYS_NO = re.compile(
    rb"(?:login|log ?on|password|passwort|anmeldung|authenticat\w+|access|credentials?|user ?name|user)"
    rb"[^\r\n]{0,24}\b(?:incorrect|invalid|fail\w*|denied|wrong|bad|reject\w*|refused|falsch|fehlgeschlagen)"
    rb"|\b(?:incorrect|invalid|wrong|bad|unknown) (?:login|password|passwd|user\w*|credentials?|authent\w*)"
    rb"|too many (?:tries|attempts|login\w*|fail\w*)",
    re.IGNORECASE,
)
_SHELL = re.compile(rb"(?:^|[\r\n])[^\r\n]{0,80}[#$%>][ \t]?$")
_GREETS = re.compile(rb"(?:^|[\r\n])last (?:successful )?login\b", re.IGNORECASE)
_PROMPT_BYTES = 16  # a prompt ends with a colon among its last bytes


def _find_telnet(messages: Messages) -> Iterator[_Try]:
    """Logins of flows in which a server asks for a password."""
    size = np.minimum(messages.held, _TEXT)
    tail = messages.bytes(np.maximum(size - _PROMPT_BYTES, 0), _PROMPT_BYTES)
    asks = (tail == ord(":")).any(axis=1) & ~messages.is_orig
    for talk in _read_talks(messages, share_flow(messages, asks), _TEXT):
        yield from _follow_telnet(talk)


def _follow_telnet(talk: _Talk) -> Iterator[_Try]:
    """The logins of one connection, until one is accepted: what is typed after it is a shell's."""
    asked_for, name, secret = "", b"", b""
    tried: _Try | None = None
    refused = went_on = False
    for line in talk:
        text = _PAINT.sub(b"", _OPTION.sub(b"", line.text))
        if line.is_orig:
            if asked_for == "name":
                name += text
            elif asked_for == "password":
                secret += text
                if b"\r" in text or b"\n" in text:
                    tried = _Try(line.place, -1, 0, name.strip() + b"\n" + secret.strip())
                    asked_for, refused, went_on = "", False, False
            elif tried and text.strip():
                went_on = True
            continue
        if not text.strip():
            continue
        prompt = "password" if _ASKS_PASSWORD.search(text) else ""
        prompt = prompt or ("name" if _ASKS_NAME.search(text) else "")
        if tried and (prompt or _SAYS_NO.search(text)):
            if not refused:
                tried = _Try(tried.ask, line.place, 1, tried.secret)
            refused = True
        elif tried and (_SHELL.search(text) or _GREETS.search(text) or (went_on and not refused)):
            yield _Try(tried.ask, line.place, 0, tried.secret)
            return
        if prompt:
            if tried:
                yield tried
            tried = None
            # Who gives a password alone keeps the name that he gave before.
            asked_for, secret = prompt, b""
            name = b"" if prompt == "name" else name
    if tried:
        yield tried


# ---- FTP: USER and PASS, and the codes that answer them (RFC 959) ----

_FTP_IN, _FTP_GO_ON = (230, 232), (331, 332)


def _find_ftp(messages: Messages) -> Iterator[_Try]:
    """Logins of control connections."""
    head = messages.bytes(0, 4)
    word = head & 0xDF  # upper case
    tells = [
        (word == np.frombuffer(name, np.uint8)).all(axis=1) & messages.is_orig
        for name in (b"USER", b"PASS")
    ]
    code = ((head[:, :3] >= ord("0")) & (head[:, :3] <= ord("9"))).all(axis=1) & ~messages.is_orig
    asks = tells[0] | tells[1]
    chosen = (asks | code) & share_flow(messages, asks)
    for talk in _read_talks(messages, chosen, _TEXT):
        yield from _follow_ftp(talk)


def _follow_ftp(talk: _Talk) -> Iterator[_Try]:
    name, tried = b"", None
    for line in talk:
        if line.is_orig:
            words = line.text.strip()
            name = words[4:].strip() if words[:4].upper() == b"USER" else name
            tried = _Try(line.place, -1, 0, name + b"\n" + words[:4] + words[4:].strip())
            continue
        code = int(line.text[:3])
        if tried and (code in _FTP_IN or code in FTP_REFUSALS):
            refused = code if code in FTP_REFUSALS else 0
            yield _Try(tried.ask, line.place, refused, tried.secret)
        if code >= 200:  # below it the server is still at work
            tried = None


# ---- HTTP: what bears an Authorization (RFC 9110, 11; RFC 7617) ----

METHODS = (
    b"GET ", b"POST ", b"PUT ", b"HEAD ", b"OPTIONS ", b"DELETE ", b"CONNECT ", b"PATCH ",
)  # fmt: skip
_AUTHORIZATION = re.compile(
    rb"\r?\n(?:proxy-)?authorization:[ \t]*(\w+)[ \t]+([^\r\n]+)", re.IGNORECASE
)
_STALE = re.compile(rb"\bstale=\"?true", re.IGNORECASE)
# One secret that each request bears; those of others (digest, NTLM) are made anew for each.
_BEARS_SECRET = (b"basic", b"bearer")
_READ_SCHEMES = (*_BEARS_SECRET, b"digest")  # of others the first refusal belongs to the login


def _find_http(messages: Messages) -> Iterator[_Try]:
    """Requests with an Authorization; those of one connection with the same one are one login."""
    head = messages.bytes(0, 8)
    asks = np.zeros(len(messages), bool)
    for method in METHODS:
        width = min(len(method), 8)
        asks |= (head[:, :width] == np.frombuffer(method[:8], np.uint8)).all(axis=1)
    asks &= messages.is_orig
    says = (head[:, :7] == np.frombuffer(b"HTTP/1.", np.uint8)).all(axis=1) & ~messages.is_orig
    for talk in _read_talks(messages, asks | says, _HEADER):
        yield from _follow_http(talk)


def _follow_http(talk: _Talk) -> Iterator[_Try]:
    let_in: set[bytes] = set()
    tried: _Try | None = None
    for line in talk:
        header = line.text.split(b"\r\n\r\n")[0]
        if line.is_orig:
            tried = None  # one before it that has no answer yet is not told apart from this one
            found = _AUTHORIZATION.search(header)
            if found and found[1].lower() in _READ_SCHEMES:
                secret = found[2].strip() if found[1].lower() in _BEARS_SECRET else b""
                tried = _Try(line.place, -1, 0, secret)
            continue
        status = header[9:12]
        code = int(status) if status.isdigit() else 0
        if tried is None or code < 200:
            continue
        stale = code in (401, 407) and _STALE.search(header)
        if code in HTTP_REFUSALS and not stale:
            let_in.discard(tried.secret)
            yield _Try(tried.ask, line.place, code, tried.secret)
        elif code < 400 and tried.secret not in let_in:
            let_in.add(tried.secret)
            yield _Try(tried.ask, line.place, 0, tried.secret)
        tried = None


read_telnet = reads_logins(_find_telnet)
read_ftp = reads_logins(_find_ftp)
read_http = reads_logins(_find_http)


def say_status(code: int, word: str) -> str:
    """A code as HTTP and FTP have it.

    >>> say_status(401, "unauthorized")
    '401 (unauthorized)'
    """
    return f"{code} ({word})"


def say_words(code: int, word: str) -> str:  # noqa: ARG001
    """What a server says that has no codes.

    >>> say_words(1, "login incorrect")
    '"login incorrect"'
    """
    return f'"{word}"'
