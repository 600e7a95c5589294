"""Logins of mail in clear text, over SMTP, POP3 and IMAP: whether they were accepted or refused.

    C: AUTH LOGIN                S: 334 VXNlcm5hbWU6        the server asks for more
    C: bWU=                      S: 334 UGFzc3dvcmQ6
    C: c2VjcmV0                  S: 535 5.7.8 refused       one login, and its code

RFC 4954 (SMTP), RFC 1939 and 5034 (POP3), RFC 9051 (IMAP). After STARTTLS nothing is read.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from traffic.pcap.messages import Messages
from traffic.pcap.protocols.logins import (
    Talk,
    Try,
    fits_dialogue,
    login_protocol,
    read_talks,
    reads_logins,
    say_status,
    say_words,
)
from traffic.pcap.protocols.protocol import Heads, starts_with

SMTP_REFUSALS = {
    432: "password transition needed",
    454: "temporary authentication failure",
    500: "authentication exchange too long",
    530: "authentication required",
    534: "authentication mechanism too weak",
    535: "authentication credentials invalid",
    538: "encryption required for this mechanism",
}
MAIL_REFUSALS = {1: "login refused"}  # POP3 and IMAP say no, and why in words alone

_TEXT = 512  # bytes of a message that are looked at; longer ones are mail
_ANEW = (b"CRAM-MD5", b"DIGEST-MD5", b"NTLM", b"GSSAPI", b"SCRAM", b"APOP")  # made anew each time


@dataclass(frozen=True)
class _Dialect:
    """How a protocol's logins look.

    Attributes:
        begins: what a client begins one with; group ``tag`` where answers repeat it, ``how`` for by what
            the secret is sent.
        verdict: what ends it, with ``%s`` for the tag; ``no`` is its refusal.
        name: of a line that tells only the name that goes with the next.
        coded: whether a refusal has a code.
    """

    begins: re.Pattern[bytes]
    verdict: bytes
    name: bytes = b"\0"
    coded: bool = False


_SMTP = _Dialect(
    re.compile(rb"AUTH +(?P<how>[A-Z0-9-]+)", re.IGNORECASE),
    rb"(?:^|\n)(?:235|(?P<no>432|454|5\d\d))[ -]",
    coded=True,
)
_POP3 = _Dialect(
    re.compile(rb"(?:AUTH +)?(?P<how>PASS|APOP|PLAIN|LOGIN|CRAM-MD5|SCRAM-\S+)\b", re.IGNORECASE),
    rb"^(?:\+OK|(?P<no>-ERR))",
    name=b"USER ",
)
_IMAP = _Dialect(
    re.compile(
        rb"(?P<tag>[!-)+-z|}~]{1,32}) +(?:LOGIN|AUTHENTICATE +(?P<how>[A-Z0-9-]+))\b", re.IGNORECASE
    ),
    rb"(?:^|\n)%s (?:OK|(?P<no>NO|BAD))\b",
)


def _finds(dialect: _Dialect) -> Callable[[Messages], Iterator[Try]]:
    """How the logins of a protocol are found."""

    def find(messages: Messages) -> Iterator[Try]:
        for talk in read_talks(messages, messages.length <= _TEXT, _TEXT):
            yield from _follow(talk, dialect)

    return find


def _follow(talk: Talk, dialect: _Dialect) -> Iterator[Try]:
    """The logins of one connection, until one is accepted: what follows is mail."""
    name, secret, verdict, ask, hidden = b"", b"", b"", -1, False
    for line in talk:
        if line.is_orig:
            text = line.text.strip()
            begun = dialect.begins.match(line.text)
            if text[: len(dialect.name)].upper() == dialect.name:
                name = text
            elif ask >= 0:
                secret += b"\n" + text
            elif begun:
                parts = begun.groupdict()
                tag = parts.get("tag") or b""
                hidden = (parts["how"] or b"").upper().startswith(_ANEW)
                ask, secret = line.place, name + b"\n" + text[len(tag) :]
                verdict = dialect.verdict.replace(b"%s", re.escape(tag))
            continue
        said = re.search(verdict, line.text, re.IGNORECASE) if ask >= 0 else None
        if said is None:
            continue
        no = said["no"]
        code = 0 if not no else int(no) if dialect.coded else 1
        if not code or code in (SMTP_REFUSALS if dialect.coded else MAIL_REFUSALS):
            yield Try(ask, line.place, code, b"" if hidden else secret)
        if not code:
            return
        ask = -1


def _fits_imap(heads: Heads) -> np.ndarray:
    return starts_with(b"* OK", b"* PREAUTH", b"* BYE", side="resp")(heads)


SMTP = login_protocol(
    SMTP_REFUSALS,
    name="smtp",
    ports=(25, 465, 587),
    fits=fits_dialogue(b"220", b"EHLO", b"HELO"),
    anywhere=True,
    read=reads_logins(_finds(_SMTP)),
    say_code=say_status,
)
POP3 = login_protocol(
    MAIL_REFUSALS,
    name="pop3",
    ports=(110, 995),
    fits=fits_dialogue(b"+OK", b"USER", b"APOP", b"AUTH", b"CAPA", b"STLS", b"QUIT"),
    anywhere=True,
    read=reads_logins(_finds(_POP3)),
    say_code=say_words,
    layer="pop",
)
IMAP = login_protocol(
    MAIL_REFUSALS,
    name="imap",
    ports=(143, 993),
    fits=_fits_imap,
    anywhere=True,
    read=reads_logins(_finds(_IMAP)),
    say_code=say_words,
)
