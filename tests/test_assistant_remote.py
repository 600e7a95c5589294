"""Who opened sessions of SSH, Telnet and RDP, and what their length and size suggest of the login."""

import json

import pytest

from assistant.answers.answer import answer
from assistant.session import open_session
from assistant.settings import Settings

START = 1_700_000_000.0
ADMIN, TARGET, OTHER = "10.5.0.9", "10.5.0.20", "10.5.0.30"


def _conn(at_s, orig, resp, port, length_s, sent, got, sport=40001, history="ShADadFf", state="SF"):
    return {
        "ts": START + at_s, "uid": f"C{at_s}{sport}", "id.orig_h": orig, "id.orig_p": sport, "id.resp_h": resp,
        "id.resp_p": port, "proto": "tcp", "duration": length_s, "orig_bytes": sent, "resp_bytes": got,
        "conn_state": state, "history": history, "orig_pkts": 20, "orig_ip_bytes": sent + 800,
        "resp_pkts": 20 if got else 0, "resp_ip_bytes": got + 800 if got else 0, "missed_bytes": 0,
    }  # fmt: skip


def _ask(tmp_path, question, *rows):
    poll = [_conn(10 * n, OTHER, TARGET, 502, 1.0, 100, 200, 50000 + n) for n in range(60)]
    (tmp_path / "conn.log").write_text("".join(json.dumps(one) + "\n" for one in (*poll, *rows)))
    with open_session(Settings(home=tmp_path / "home")) as session:
        said = answer(question, session.analyse(tmp_path))
    assert said.removed == 0, said.text
    return said


@pytest.mark.parametrize(
    ("length_s", "got", "begins"),
    [
        (
            360.0,
            30_000,
            f"{ADMIN}, very likely: 1 session over SSH",
        ),  # longer than any server waits
        (150.0, 6_000, f"{ADMIN}, very likely: "),  # longer than OpenSSH waits, and much sent
        (20.0, 6_000, f"Cannot tell: {ADMIN} opened 1 session"),  # much in a short time
        (3.0, 2_500, f"{ADMIN} opened 1 session over SSH"),  # a handshake and a refusal
    ],
)
def test_length_and_size_say_how_likely_a_login_is(tmp_path, length_s, got, begins):
    row = _conn(30, ADMIN, TARGET, 22, length_s, 3000, got)
    said = _ask(tmp_path, f"did somebody log in on {TARGET} by ssh?", row)
    assert said.cause.startswith(begins)
    assert "whether the login succeeded is encrypted" in said.cause
    assert said.standing == "inconclusive"
    assert ("does not look like it" in said.cause) == (got == 2_500)


def test_parts_of_one_session_are_one_and_two_are_two(tmp_path):
    """The later part has no SYN: a sensor forgot the session in between, the ports are the same."""
    first = _conn(0, ADMIN, TARGET, 22, 60.0, 200, 20_000, history="DdA", state="OTH")
    later = _conn(500, ADMIN, TARGET, 22, 5.0, 900, 1_600, history="DdAaFf")
    said = _ask(tmp_path, "who opened ssh sessions?", first, later)
    # 0 s to 505 s: 505 s, 21.6 kB
    assert "1 session over SSH" in said.cause
    assert "for 8.4 minutes (21.6 kB sent by the server)" in said.cause
    assert "open before the capture began" in said.text
    assert "in 2 parts" in said.text
    again = _conn(500, ADMIN, TARGET, 22, 5.0, 900, 1_600)  # with a SYN
    assert "2 sessions over SSH" in _ask(tmp_path, "who opened ssh sessions?", first, again).cause


def test_who_was_not_let_to_the_port_has_no_session(tmp_path):
    row = _conn(30, ADMIN, TARGET, 22, 0.1, 0, 0, history="Sr", state="REJ")
    said = _ask(tmp_path, f"did anybody log in on {TARGET} by ssh?", row)
    assert said.cause.startswith("No: nobody got a session over SSH")
    assert ADMIN in said.cause


@pytest.mark.parametrize(
    "question", ["did anyone telnet into {}?", "who opened rdp sessions at {}?"]
)
def test_where_nobody_tried_that_is_said(tmp_path, question):
    row = _conn(30, TARGET, ADMIN, 23, 400.0, 3000, 9_000)  # the other way round
    said = _ask(tmp_path, question.format(TARGET), row)
    assert "obody was seen to open a session over" in said.cause
    out = _ask(tmp_path, f"did {TARGET} use telnet?", row)
    assert out.cause.startswith(f"{TARGET}, very likely: 1 session over Telnet with {ADMIN}")
    assert "was not read" in out.cause  # it is not encrypted


def test_the_session_of_a_shared_log_is_told_as_one(shared):
    with open_session(Settings()) as session:
        analysis = session.analyse(shared / "data" / "iot23" / "44-1" / "conn.log.labeled")
        said = answer("somebody logged in there by ssh? who", analysis)
    # conn.log: 192.168.1.1:38408 to port 22, at 20:06:28.86 for 180.3 s and at 20:19:41.96 for 5.7 s, the
    # first without its beginning: 798.8 s, 29,096 + 1,616 bytes
    assert said.cause.startswith("192.168.1.1, very likely: 1 session over SSH with 192.168.1.199")
    assert "for 13.3 minutes (30.7 kB sent by the server)" in said.cause
    assert "46.101" not in said.text
    assert said.removed == 0
