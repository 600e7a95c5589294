"""Logins in clear text: what was tried, and whether it was accepted."""

import base64

import pandas as pd
import pytest
from frames import read, talk

from traffic.pcap.protocols import BY_NAME

OPTIONS = b"\xff\xfd\x01\xff\xfd\x1f\xff\xfb\x01\xff\xfb\x03"
NO = ("<", b"\r\nLogin incorrect\r\n")


def _logins(path, port: int, *turns: tuple[str, bytes]) -> pd.DataFrame:
    exchanges = read(path, talk(port, *turns)).exchanges
    assert set(exchanges["kind"]) <= {"session"}
    return exchanges


def _outcomes(path, port: int, *turns: tuple[str, bytes]) -> list[tuple[str, str, int]]:
    rows = _logins(path, port, *turns)
    return list(zip(rows["protocol"], rows["outcome"], rows["code"], strict=True))


def _types(name: bytes, password: bytes) -> list[tuple[str, bytes]]:
    return [
        ("<", b"login: "),
        (">", name + b"\r\n"),
        ("<", b"Password: "),
        (">", password + b"\r\n"),
    ]


def test_a_telnet_server_refuses_twice_and_then_lets_in(tmp_path):
    rows = _logins(
        tmp_path, 23, ("<", OPTIONS),
        *_types(b"root", b"1111"), NO, *_types(b"root", b"admin"), NO, *_types(b"root", b"1111"),
        ("<", b"\r\n\x1b[1mWelcome\x1b[0m\r\n~ # "), (">", b"id\r\n"), ("<", b"uid=0\r\n# "),
    )  # fmt: skip
    assert rows["outcome"].tolist() == ["refused", "refused", "answered"]
    assert rows["code"].tolist() == [1, 1, 0]
    assert rows["function"].tolist() == [1, 1, 1]
    first, second, third = rows["login"]
    assert first == third != second  # the same secret has the same number
    assert min(first, second) >= 0
    assert rows["name"].isna().all()  # nothing of what was typed is kept
    assert rows["delay_s"].round(3).tolist() == [0.1, 0.1, 0.1]


PASSWORD = [("<", OPTIONS), *_types(b"a", b"b")]


@pytest.mark.parametrize(
    ("turns", "outcomes"),
    [
        # Typed character by character, the name echoed, at any port.
        (
            [("<", OPTIONS + b"box login: "), *((">", bytes([c])) for c in b"root\r"),
             ("<", b"\r\nPassword: "), *((">", bytes([c])) for c in b"x1\r"), NO],
            ["refused"],
        ),
        # Asked anew without a word is refused too.
        ([*PASSWORD, ("<", b"\r\n"), ("<", b"login: ")], ["refused"]),
        # A greeting that speaks of failed logins is not a refusal where a shell follows.
        ([*PASSWORD, ("<", b"\r\n2 failed login attempts\r\n"), ("<", b"plc> ")], ["answered"]),
        # A menu: who goes on and is answered is in.
        ([*PASSWORD, ("<", b"Main menu\r\n1) Network\r\n"), (">", b"1\r\n"), ("<", b"IP\r\n")],
         ["answered"]),
        # The server says nothing that tells.
        ([*PASSWORD, ("<", b"\r\nplease wait\r\n")], ["unseen"]),
        # A password that a program within asks for is none of the device's logins.
        ([*PASSWORD, ("<", b"$ "), (">", b"su\r\n"), ("<", b"Password: "), (">", b"x\r\n"),
          ("<", b"su: incorrect password\r\n$ ")], ["answered"]),
        ([("<", OPTIONS), ("<", b"temperature: "), (">", b"20\r\n"), ("<", b"ok\r\n# ")], []),
    ],
)  # fmt: skip
@pytest.mark.parametrize("port", [23, 2323])
def test_what_a_telnet_server_says_tells_the_outcome(tmp_path, port, turns, outcomes):
    assert [one[1] for one in _outcomes(tmp_path, port, *turns)] == outcomes


@pytest.mark.parametrize("port", [21, 2121, 50021])
def test_ftp_answers_logins_with_codes(tmp_path, port):
    turns = [
        ("<", b"220 ready\r\n"), (">", b"USER a\r\n"), ("<", b"331 Password?\r\n"),
        (">", b"PASS b\r\n"), ("<", b"530 Login incorrect.\r\n"),
        (">", b"user anonymous\r\n"), ("<", b"530 anonymous only\r\n"),
        (">", b"USER a\r\n"), ("<", b"331 Password?\r\n"), (">", b"PASS c\r\n"),
        ("<", b"230-Hello\r\n230 Logged in\r\n"), (">", b"RETR x\r\n"), ("<", b"550 no\r\n"),
    ]  # fmt: skip
    rows = _logins(tmp_path, port, *turns)
    assert rows["code"].tolist() == [530, 530, 0]
    assert rows["outcome"].tolist() == ["refused", "refused", "answered"]
    assert rows["login"].nunique() == 3
    assert BY_NAME["ftp"].say_code(530, "not logged in") == "530 (not logged in)"


@pytest.mark.parametrize(
    ("port", "begins", "service"),
    [
        (21, b"QUIT\r\n", "ftp"),  # its own port is enough of a hint
        (2121, b"FEAT\r\n", "ftp"),
        (2525, b"EHLO me\r\n", "smtp"),
        (2121, b"hello\r\n", None),
    ],
)
def test_who_greets_like_ftp_is_told_by_what_its_client_begins_with(
    tmp_path, port, begins, service
):
    frames = talk(port, ("<", b"220 ready\r\n"), (">", begins))
    flows = read(tmp_path, frames).flows
    named = flows.loc[flows["id.resp_p"] == port, "service"]
    assert [None if pd.isna(one) else one for one in named] == [service]


def _get(authorization: bytes = b"") -> tuple[str, bytes]:
    line = b"Authorization: " + authorization + b"\r\n" if authorization else b""
    return ">", b"GET / HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n"


def _basic(text: bytes) -> tuple[str, bytes]:
    return _get(b"Basic " + base64.b64encode(text))


def _status(code: int, more: bytes = b"") -> tuple[str, bytes]:
    return "<", b"HTTP/1.1 %d word\r\n%bContent-Length: 0\r\n\r\n" % (code, more)


def test_http_refuses_and_accepts_authorizations(tmp_path):
    rows = _logins(
        tmp_path, 8080,
        _get(), _status(401), _basic(b"a:b"), _status(401), _basic(b"a:c"), _status(200),
        _basic(b"a:c"), _status(304), _basic(b"a:c"), _status(404), _get(), _status(403),
        _basic(b"a:c"), _status(403),
    )  # fmt: skip
    # A challenge is no refusal, and what goes on with the same secret is no new login.
    assert rows["code"].tolist() == [401, 0, 403]
    assert rows["outcome"].tolist() == ["refused", "answered", "refused"]
    assert rows["login"].tolist()[1] == rows["login"].tolist()[2] != rows["login"].tolist()[0]


def test_a_digest_tells_no_two_passwords_apart_and_may_be_stale(tmp_path):
    digest = b'Digest username="a", nonce="%b", response="1"'
    stale = b"WWW-Authenticate: Digest realm=x, stale=true\r\n"
    rows = _logins(
        tmp_path, 80,
        _get(digest % b"1"), _status(401, stale), _get(digest % b"2"), _status(200),
        _get(b"NTLM TlRM"), _status(401), _get(b"NTLM TlRN"), _status(200),
    )  # fmt: skip
    assert rows[["outcome", "login"]].values.tolist() == [["answered", -1]]


# ---- Forms with a password ----


def _form(body: bytes, way: bytes = b"POST", apart: bool = False) -> list[tuple[str, bytes]]:
    head = b"%b /session HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (way, len(body))
    return [(">", head), (">", body)] if apart else [(">", head + body)]


def _page(code: int, body: bytes = b"", more: bytes = b"") -> tuple[str, bytes]:
    size = b"Content-Length: %d\r\n\r\n" % len(body)
    return "<", b"HTTP/1.1 %d word\r\n%b%b%b" % (code, more, size, body)


ASKS = b"<form><input name=u><input type='password' name=p></form>"


@pytest.mark.parametrize(
    ("turns", "outcomes"),
    [
        ([*_form(b"user=a&password=b"), _page(200, ASKS)], [("refused", 200)]),
        ([*_form(b"user=a&password=b", apart=True), _page(200, ASKS)], [("refused", 200)]),
        ([*_form(b'{"user": "a", "pwd": "b"}'), _page(200, b'{"e":"invalid password"}')],
         [("refused", 200)]),
        ([*_form(b"j_password=b"), _page(302, more=b"Location: /login?error\r\n")], [("refused", 302)]),
        ([*_form(b"login=a&passwd=b", b"PUT"), _page(401)], [("refused", 401)]),
        ([*_form(b"user=a&password=b"), _page(429)], [("refused", 429)]),
        ([*_form(b"user=a&password=b"), _page(302, more=b"Location: /line\r\n")], [("answered", 0)]),
        ([*_form(b"user=a&password=b"), _page(200, b"<p>Line 3 runs</p>")], [("answered", 0)]),
        # A value that is set, and a page that merely asks for a login.
        ([*_form(b"setpoint=400&unit=bar"), _page(400)], []),
        ([_get(), _page(200, ASKS)], []),
    ],
)  # fmt: skip
def test_forms_with_a_password_are_logins(tmp_path, turns, outcomes):
    assert [one[1:] for one in _outcomes(tmp_path, 8123, *turns)] == outcomes


def test_a_token_against_forgery_makes_no_other_login(tmp_path):
    turns = [
        turn
        for body in (
            b"csrf=11&user=a&password=b",
            b"csrf=22&user=a&password=b",
            b"user=a&password=c",
        )
        for turn in (*_form(body), _page(403))
    ]
    first, second, third = _logins(tmp_path, 8123, *turns)["login"]
    assert first == second != third
