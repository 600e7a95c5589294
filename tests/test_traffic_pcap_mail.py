"""Logins of mail in clear text, at ports that are none of theirs."""

import base64

import pandas as pd
import pytest
from frames import read, talk

C, S = ">", "<"
SMTP = [(S, b"220 mx.line ESMTP\r\n"), (C, b"ehlo box\r\n"), (S, b"250-mx\r\n250 AUTH PLAIN\r\n")]
POP3 = [(S, b"+OK ready <1.2@mx>\r\n"), (C, b"CAPA\r\n"), (S, b"+OK\r\nUSER\r\n.\r\n")]
IMAP = [
    (S, b"* OK IMAP4rev1 ready\r\n"),
    (C, b"a1 CAPABILITY\r\n"),
    (S, b"* CAPABILITY\r\na1 OK\r\n"),
]


def _read(path, *turns: tuple[str, bytes]) -> pd.DataFrame:
    return read(path, talk(4711, *turns)).exchanges


def _outcomes(rows: pd.DataFrame) -> list[tuple[str, int]]:
    return list(zip(rows["outcome"], rows["code"], strict=True))


def _pass(word: bytes, says: bytes) -> list[tuple[str, bytes]]:
    return [(C, b"PASS " + word + b"\r\n"), (S, says)]


def _b64(text: bytes) -> bytes:
    return base64.b64encode(text) + b"\r\n"


def test_smtp_refuses_two_logins_and_accepts_the_third(tmp_path):
    rows = _read(
        tmp_path, *SMTP,
        (C, b"AUTH PLAIN " + _b64(b"\0me\0one")), (S, b"535 5.7.8 refused\r\n"),
        (C, b"AUTH LOGIN\r\n"), (S, b"334 VXNlcm5hbWU6\r\n"), (C, _b64(b"me")),
        (S, b"334 UGFzc3dvcmQ6\r\n"), (C, _b64(b"two")), (S, b"535 5.7.8 refused\r\n"),
        (C, b"AUTH PLAIN " + _b64(b"\0me\0one")), (S, b"235 2.7.0 welcome\r\n"),
        (C, b"MAIL FROM:<auth@plain>\r\n"), (S, b"530 no\r\n"),
    )  # fmt: skip
    assert set(rows["protocol"]) == {"smtp"}
    assert _outcomes(rows) == [("refused", 535), ("refused", 535), ("answered", 0)]
    first, second, third = rows["login"]
    assert first == third != second
    assert min(first, second) >= 0
    assert rows["kind"].tolist() == ["session"] * 3


def test_pop3_keeps_the_name_for_each_password(tmp_path):
    rows = _read(
        tmp_path, *POP3,
        (C, b"USER me\r\n"), (S, b"+OK\r\n"), *_pass(b"one", b"-ERR no\r\n"),
        *_pass(b"two", b"-ERR no\r\n"), (C, b"user you\r\n"), (S, b"+OK\r\n"),
        *_pass(b"one", b"-ERR no\r\n"), *_pass(b"three", b"+OK 2 messages\r\n"),
        (C, b"RETR 9\r\n"), (S, b"-ERR no such message\r\n"),
    )  # fmt: skip
    assert set(rows["protocol"]) == {"pop3"}
    assert _outcomes(rows) == [("refused", 1)] * 3 + [("answered", 0)]
    assert rows["login"].nunique() == 4


def test_pop3_digests_cannot_be_told_apart(tmp_path):
    rows = _read(tmp_path, *POP3, (C, b"APOP me c4c9334bac560ecc\r\n"), (S, b"-ERR no\r\n"))
    assert (_outcomes(rows), rows["login"].tolist()) == ([("refused", 1)], [-1])


def test_imap_answers_by_tag(tmp_path):
    rows = _read(
        tmp_path, *IMAP,
        (C, b"a2 LOGIN me one\r\n"), (S, b"* BAD hint\r\na2 NO [AUTHENTICATIONFAILED] no\r\n"),
        (C, b"a3 authenticate PLAIN\r\n"), (S, b"+ \r\n"), (C, _b64(b"\0me\0two")),
        (S, b"a3 NO no\r\n"), (C, b"a4 LOGIN me one\r\n"), (S, b"a4 OK in\r\n"),
        (C, b"a5 SELECT x\r\n"), (S, b"a5 NO no such mailbox\r\n"),
    )  # fmt: skip
    assert set(rows["protocol"]) == {"imap"}
    assert _outcomes(rows) == [("refused", 1), ("refused", 1), ("answered", 0)]
    # Another tag, the same login.
    first, second, third = rows["login"]
    assert first == third != second


@pytest.mark.parametrize(
    "turns",
    [
        [*SMTP, (C, b"STARTTLS\r\n"), (S, b"220 go\r\n"), (C, b"\x16\3\1\0\2AUTH")],
        [*SMTP, (C, b"MAIL FROM:<a@b>\r\n"), (S, b"535 no\r\n")],
        [*IMAP, (C, b"a2 NOOP\r\n"), (S, b"a2 NO no\r\n")],
        [(S, b"220 files\r\n"), (C, b"FEAT\r\n"), (S, b"535 no\r\n")],  # no mail at all
    ],
)
def test_what_is_no_login_is_none(tmp_path, turns):
    assert _read(tmp_path, *turns).empty
