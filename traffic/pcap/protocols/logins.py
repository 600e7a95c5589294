"""Logins in clear text over Telnet, FTP and HTTP, forms too: whether they were accepted or refused.

A login is a request of the kind ``session``, and what the server says to it is its answer. User
names and passwords are hashed where they are read, and kept nowhere.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from traffic.pcap.headers import TCP
from traffic.pcap.messages import Messages
from traffic.pcap.protocols.protocol import (
    ANSWER,
    ASK,
    SESSION,
    SKIP,
    Fits,
    Heads,
    Protocol,
    make_rows,
    number_secrets,
    share_flow,
    starts_with,
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
_REFUSED_BY_CODE = {401: "unauthorized", 403: "forbidden", 407: "proxy authentication required"}
HTTP_REFUSALS = {
    200: "the page says no, or asks for the password anew",
    302: "sent back to the login",
    303: "sent back to the login",
    400: "bad request",
    422: "not accepted",
    429: "too many requests",
    **_REFUSED_BY_CODE,
}

_SECRET_BYTES = 128  # of a user name and a password that are told apart
_TEXT = 512  # bytes of a message of Telnet or FTP that are looked at
_HEADER = 2048  # of a request of HTTP
_AT_ONCE = 8192  # messages whose texts are in memory together


@dataclass(frozen=True)
class Try:
    """One login: where it was sent, where it was answered (-1 for nowhere), the code of its refusal
    (0 for none) and what it tried (empty where that cannot be told)."""

    ask: int
    answer: int
    code: int
    secret: bytes


@dataclass(frozen=True)
class Line:
    """A message: its place, who sent it, and its text."""

    place: int
    is_orig: bool
    text: bytes


Talk = list[Line]


def login_protocol(refusals: dict[int, str], **more: Any) -> Protocol:
    """A protocol over TCP that is read for its logins; ``more`` as ``Protocol`` has it."""
    return Protocol(
        transports=(TCP,), functions=FUNCTIONS, logins=frozenset(FUNCTIONS), refusals=refusals,
        denied=frozenset(refusals), **more,
    )  # fmt: skip


def reads_logins(find: Callable[[Messages], Iterator[Try]]) -> Callable[[Messages], pd.DataFrame]:
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


def fits_dialogue(server: bytes, *client: bytes) -> Fits:
    """What a server greets with, and with what a client begins, in letters of either case."""
    greets, begins = starts_with(server, side="resp"), starts_with(*client)

    def fits(heads: Heads) -> np.ndarray:
        small = (heads.orig >= ord("a")) & (heads.orig <= ord("z"))
        return greets(heads) & begins(replace(heads, orig=heads.orig & np.where(small, 0xDF, 0xFF)))

    return fits


def read_talks(messages: Messages, chosen: np.ndarray, width: int) -> Iterator[Talk]:
    """The chosen messages of each flow by time, with the first ``width`` bytes of their text.

    Args:
        messages: shape (n,).
        chosen: shape (n,), bool.
        width: bytes.
    """
    place = np.flatnonzero(chosen)
    place = place[np.lexsort((messages.row[place], messages.flow[place]))]
    flow, is_orig = messages.flow[place], messages.is_orig[place]
    talk: Talk = []
    for start in range(0, len(place), _AT_ONCE):
        here = place[start : start + _AT_ONCE]
        texts = messages.take(here).bytes(0, width)
        size = np.minimum(messages.held[here], width)
        for i, one in enumerate(here):
            at = start + i
            if talk and flow[at] != flow[at - 1]:
                yield talk
                talk = []
            talk.append(Line(int(one), bool(is_orig[at]), texts[i, : size[i]].tobytes()))
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


def _find_telnet(messages: Messages) -> Iterator[Try]:
    """Logins of flows in which a server asks for a password."""
    size = np.minimum(messages.held, _TEXT)
    tail = messages.bytes(np.maximum(size - _PROMPT_BYTES, 0), _PROMPT_BYTES)
    asks = (tail == ord(":")).any(axis=1) & ~messages.is_orig
    for talk in read_talks(messages, share_flow(messages, asks), _TEXT):
        yield from _follow_telnet(talk)


def _follow_telnet(talk: Talk) -> Iterator[Try]:
    """The logins of one connection, until one is accepted: what is typed after it is a shell's."""
    asked_for, name, secret = "", b"", b""
    tried: Try | None = None
    refused = went_on = False
    for line in talk:
        text = _PAINT.sub(b"", _OPTION.sub(b"", line.text))
        if line.is_orig:
            if asked_for == "name":
                name += text
            elif asked_for == "password":
                secret += text
                if b"\r" in text or b"\n" in text:
                    tried = Try(line.place, -1, 0, name.strip() + b"\n" + secret.strip())
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
                tried = Try(tried.ask, line.place, 1, tried.secret)
            refused = True
        elif tried and (_SHELL.search(text) or _GREETS.search(text) or (went_on and not refused)):
            yield Try(tried.ask, line.place, 0, tried.secret)
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


def _find_ftp(messages: Messages) -> Iterator[Try]:
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
    for talk in read_talks(messages, chosen, _TEXT):
        yield from _follow_ftp(talk)


def _follow_ftp(talk: Talk) -> Iterator[Try]:
    name, tried = b"", None
    for line in talk:
        if line.is_orig:
            words = line.text.strip()
            name = words[4:].strip() if words[:4].upper() == b"USER" else name
            tried = Try(line.place, -1, 0, name + b"\n" + words[:4] + words[4:].strip())
            continue
        code = int(line.text[:3])
        if tried and (code in _FTP_IN or code in FTP_REFUSALS):
            refused = code if code in FTP_REFUSALS else 0
            yield Try(tried.ask, line.place, refused, tried.secret)
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


# A form, as browsers and programs send it: a field for the password, and what is said to it.
_PASSWORD = rb"(?:pass(?:word|wd|phrase|code)?|pwd|passwort|kennwort|psw)"
_USER = rb"(?:user(?:[_-]?name|[_-]?id)?|login|e?mail|account|benutzer(?:name)?)"
_FIELD = rb"(?:^|[&\n{,])[ ]*[\"']?(?:\w{0,24}[_.-])?%s[\"']?[ ]*[=:][ ]*[\"']?([^&\"'\r\n]*)"
_HAS_PASSWORD = re.compile(_FIELD % _PASSWORD, re.IGNORECASE)
_HAS_USER = re.compile(_FIELD % _USER, re.IGNORECASE)
_ASKS_AGAIN = re.compile(rb"type=[\"']?password", re.IGNORECASE)
_BACK = re.compile(
    rb"\r?\nlocation:[^\r\n]*(?:log-?in|sign-?in|log-?on|err|fail|denied)", re.IGNORECASE
)


def _find_http(messages: Messages) -> Iterator[Try]:
    """Requests with an Authorization, those of one connection with the same one as one login; and forms
    with a password."""
    head = messages.bytes(0, 8)
    asks, posts = np.zeros(len(messages), bool), np.zeros(len(messages), bool)
    for method in METHODS:
        width = min(len(method), 8)
        mine = (head[:, :width] == np.frombuffer(method[:8], np.uint8)).all(axis=1)
        asks |= mine
        posts |= mine & (method in (b"POST ", b"PUT "))
    asks, posts = asks & messages.is_orig, posts & messages.is_orig
    says = (head[:, :7] == np.frombuffer(b"HTTP/1.", np.uint8)).all(axis=1) & ~messages.is_orig
    # What is sent, and what is said to it, may follow its header in a packet of its own.
    rest = share_flow(messages, posts) & (messages.length <= _HEADER)
    for talk in read_talks(messages, asks | says | rest, _HEADER):
        yield from _follow_http(_join_bodies(talk))


def _join_bodies(talk: Talk) -> Talk:
    """A connection with each header and what follows it in packets of its own as one line."""
    joined: Talk = []
    for line in talk:
        begins = line.text.startswith((b"HTTP/1.", *METHODS))
        if begins or not joined or joined[-1].is_orig != line.is_orig:
            joined.append(line)
        else:
            joined[-1] = replace(joined[-1], text=(joined[-1].text + line.text)[: 2 * _HEADER])
    return joined


def _follow_http(talk: Talk) -> Iterator[Try]:
    let_in: set[bytes] = set()
    tried: Try | None = None
    by_form = False
    for line in talk:
        header, _, body = line.text.partition(b"\r\n\r\n")
        if line.is_orig:
            tried = None  # one before it that has no answer yet is not told apart from this one
            found = _AUTHORIZATION.search(header)
            by_form = not found and header.startswith((b"POST ", b"PUT "))
            if by_form and (secret := _read_form(body)):
                tried = Try(line.place, -1, 0, secret)
            elif found and found[1].lower() in _READ_SCHEMES:
                secret = found[2].strip() if found[1].lower() in _BEARS_SECRET else b""
                tried = Try(line.place, -1, 0, secret)
            continue
        status = header[9:12]
        code = int(status) if status.isdigit() else 0
        if tried is None or code < 200:
            continue
        stale = code in (401, 407) and _STALE.search(header)
        refused = code in _REFUSED_BY_CODE or (by_form and _refuses_form(code, header, body))
        if refused and not stale:
            let_in.discard(tried.secret)
            yield Try(tried.ask, line.place, code, tried.secret)
        elif code < 400 and tried.secret not in let_in:
            let_in.add(tried.secret)
            yield Try(tried.ask, line.place, 0, tried.secret)
        tried = None


def _read_form(body: bytes) -> bytes:
    """The user's name and the password of a form; a token against forgery differs each time and tells
    nothing. Empty where it has no password."""
    password, user = _HAS_PASSWORD.search(body), _HAS_USER.search(body)
    return (user[1] if user else b"") + b"\n" + password[1] if password else b""


def _refuses_form(code: int, header: bytes, body: bytes) -> bool:
    """Whether an answer to a form with a password says no: by its code, by asking anew, by words, or by
    sending back to where it was asked."""
    if code == 200:
        return bool(_ASKS_AGAIN.search(body) or _SAYS_NO.search(body))
    return code in (400, 422, 429) or (code in (302, 303) and bool(_BACK.search(header)))


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
