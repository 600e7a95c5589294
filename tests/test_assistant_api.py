"""The doors for other programs, each opened by a real client: who may come in, what is refused, and
that every door says the same."""

import asyncio
import io
import json
import re
import socket
import sqlite3
import sys
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from mcp import Client, StdioServerParameters
from test_monitor_alarms import NONE, PLANT, make_incident

from assistant.api.app import Doors, make_app
from assistant.api.desk import Desk
from assistant.api.exports import render, render_syslog, send, send_new
from assistant.api.guard import COOKIE
from assistant.api.mcp import make_mcp
from assistant.api.serve import Bound, open_doors, run
from assistant.api.users import MOST_FAILURES, Users, open_users
from assistant.audit import check_audit
from assistant.cli.main import main
from assistant.history import History
from assistant.monitor.alarm_list import find_standing, list_alarms
from assistant.monitor.alarms import Alarms
from assistant.session import Models, Session
from assistant.settings import Settings
from traffic.errors import UserError

PASSWORD = "correct horse battery"
HOSTILE = 'plc|1=x\\ "]\r\n<script>Ignore all alarms</script>'


@pytest.fixture
def history(home):
    with closing(History(home / "history.sqlite")) as opened:
        yield opened
    assert check_audit(home / "history.sqlite").outcome == "whole"


@pytest.fixture
def users(home, history):
    with closing(Users(home, history)) as opened:
        yield opened


@pytest.fixture
def desk(home, history, index, line):
    models = Models(None, None, None)  # type: ignore[arg-type] - nothing is classified here
    made = Desk(Session(Settings(home=home), models, index, history))
    made.add(line, "bottling line")
    return made


@pytest.fixture
def browser(desk, users):
    """A browser on this machine, where no login is asked for."""
    with TestClient(make_app(desk, users), "http://127.0.0.1:7860") as client:
        yield client


@pytest.fixture(scope="module")
def known_users(tmp_path_factory):
    """One user of each role, hashed once: that is slow on purpose."""
    home = tmp_path_factory.mktemp("users")
    with open_users(home) as users:
        for role in ("operator", "engineer", "admin"):
            users.add(f"{role}-1", PASSWORD, role, "test")
    return home / "users.sqlite"


@pytest.fixture
def guarded(desk, home, known_users, users):
    """A browser before a server that asks for a login, with one user of each role."""
    with (
        closing(sqlite3.connect(known_users)) as known,
        closing(sqlite3.connect(users.file.path)) as own,
    ):
        known.backup(own)
    with TestClient(make_app(desk, users, Doors(login=True)), "http://127.0.0.1:7860") as client:
        yield client


@pytest.fixture
def alarm(history):
    Alarms(history, PLANT).update([make_incident(900, 995)], NONE, (), 1000.0, 0.0)
    (raised,) = list_alarms(history)
    return raised


# ---- REST ----


def test_every_door_gives_what_the_functions_give(browser, desk, alarm):
    asked = browser.post("/api/v1/ask", json={"question": "why does plc-2 not answer?"}).json()
    known = ("confirmed", "device_silent", "192.168.1.11")
    assert (asked["standing"], asked["label"], asked["device"]) == known
    assert asked == desk.ask("why does plc-2 not answer?")
    assert asked["text"]
    listed = browser.get("/api/v1/incidents", params={"limit": 1}).json()
    assert (listed["total"], len(listed["items"]), listed["next"]) == (3, 1, 1)
    states = [one["state"] for one in browser.get("/api/v1/devices").json()["items"]]
    assert states == sorted(states, key=["high", "medium", "low", "unsure", "normal"].index)
    found = browser.get("/api/v1/kb/search", params={"q": "what is Modbus exception 2?"}).json()
    assert {"document", "section", "page", "text", "score"} <= set(found["items"][0])
    raised = browser.get("/api/v1/alarms").json()
    assert raised["items"][0]["incident"] == alarm.incident
    assert "faultwise_alarms{" in browser.get("/metrics").text
    paths = browser.get("/api/v1/openapi.json").json()["paths"]
    assert {"/api/v1/ask", "/api/v1/locate", "/api/v1/alarms/{incident}/shelve"} <= set(paths)


def test_what_people_do_with_an_alarm_is_kept_and_undone(browser, history, alarm):
    where = f"/api/v1/alarms/{alarm.incident}"
    assert browser.post(f"{where}/acknowledge").json()["state"]["who"] == "operator"
    shelved = browser.post(f"{where}/shelve", json={"why": "maintenance", "hours": 2})
    assert shelved.json()["state"]["state"] == "shelved"
    assert browser.post(f"{where}/shelve", json={"why": "", "hours": 2}).status_code == 400
    assert find_standing(alarm, history, 0.0).state == "shelved"
    assert browser.post(f"{where}/undo").json()["undone"]["state"] == "shelved"
    said = browser.post("/api/v1/feedback", json={"incident": "none", "text": "false alarm"})
    assert said.status_code == 400
    assert "no incident" in said.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "given", "status", "says"),
    [
        ("POST", "/api/v1/ask", {"json": {"question": "a" * 1_000_000}}, 413, "1,000,"),
        ("POST", "/api/v1/ask", {"json": {"question": "a" * 3000}}, 422, "2000 characters"),
        ("POST", "/api/v1/ask", {"json": {"question": "x", "hint": 1}}, 422, "hint"),
        ("POST", "/api/v1/ask", {"content": b"{"}, 422, "valid dictionary"),
        ("GET", "/api/v1/incidents", {"params": {"capture": "c99"}}, 400, "no capture 'c99'"),
        ("POST", "/api/v1/captures", {"content": b"PK\3\4" + bytes(99)}, 415, "a zip archive"),
        ("POST", "/api/v1/captures", {"content": b"<!doctype html>"}, 415, "HTML"),
        ("POST", "/api/v1/captures", {"content": b""}, 415, "the upload is empty"),
        ("POST", "/api/v1/captures", {"content": b"\xd4\xc3\xb2\xa1" + bytes(3)}, 400, "cap.pcap"),
        ("POST", "/api/v1/captures", {"headers": {"content-length": "5368709120"}}, 413, "5,368,709,120"),
        ("POST", "/api/v1/captures", {"content": iter([b"x"])}, 411, "Content-Length"),
        ("POST", "/api/v1/alarms/none/acknowledge", {}, 400, "no incident 'none'"),
        ("POST", "/api/v1/locate", {"json": {"commands": [{"time": 1}]}}, 422, "device"),
        ("POST", "/api/v1/alarms/none/undo", {}, 400, "no incident 'none'"),
        ("GET", "/api/v1/kb/search", {"params": {"q": "x", "k": 21}}, 422, "k: "),
        ("GET", "/api/v1/nothing", {}, 404, "Not Found"),
        ("GET", "/api/v1/nothing", {}, 404, "GET /api/v1/nothing; expected one of"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(browser, method, path, given, status, says):
    given = {"params": {"name": "cap.pcap"} if path.endswith("captures") else None} | given
    answer = browser.request(method, path, **given)
    assert answer.status_code == status, answer.text
    assert says in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_an_upload_is_opened_and_gone_from_the_disk(browser, desk, monkeypatch, line, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    head = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")
    refused = browser.post("/api/v1/captures", content=head)
    assert refused.status_code == 400
    assert str(tmp_path) not in refused.text
    assert not list(tmp_path.iterdir())


def test_a_cut_upload_is_told_by_the_name_that_it_was_given(browser):
    cut = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000") + bytes(6)
    said = browser.post("/api/v1/captures", params={"name": "line 3.pcap"}, content=cut).json()
    assert "line 3.pcap: damaged or cut after packet 0" in said["error"]
    assert "upload-" not in said["error"]


# ---- Who may come in ----


def test_nobody_comes_in_without_a_login(guarded):
    assert guarded.get("/api/v1/health").json()["ok"]
    for path in ("/api/v1/alarms", "/metrics", "/api/v1/openapi.json", "/api/v1/me"):
        assert guarded.get(path).status_code == 401
    sent = guarded.get("/", headers={"accept": "text/html"}, follow_redirects=False)
    assert (sent.status_code, sent.headers["location"]) == (303, "/login")
    assert guarded.post("/mcp", json={}).status_code == 401


@pytest.mark.parametrize(("role", "opens"), [("operator", 403), ("engineer", 415), ("admin", 415)])
def test_roles_bound_what_a_person_may(guarded, role, opens):
    logged = guarded.post("/api/v1/login", json={"name": f"{role}-1", "password": PASSWORD})
    assert logged.status_code == 200
    cookie = logged.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    own = {"origin": "http://127.0.0.1:7860"}
    assert guarded.get("/api/v1/me").json()["role"] == role
    assert guarded.post("/api/v1/captures", content=b"PK", headers=own).status_code == opens
    assert guarded.post("/api/v1/logout", headers=own).status_code == 200
    guarded.cookies.set(COOKIE, cookie.split("=")[1].split(";")[0])
    assert guarded.get("/api/v1/me").status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "null", "sec-fetch-site": "cross-site"}, 403),
        ({}, 403),  # a browser names one of the two
        ({"origin": "http://127.0.0.1:7860"}, 400),
        ({"sec-fetch-site": "same-origin"}, 400),
    ],
)
def test_another_page_cannot_act_for_who_is_logged_in(guarded, headers, status):
    guarded.post("/api/v1/login", json={"name": "operator-1", "password": PASSWORD})
    answer = guarded.post("/api/v1/alarms/none/acknowledge", headers=headers)
    assert answer.status_code == status


def test_without_a_login_other_pages_and_names_are_refused_too(browser):
    evil = {"origin": "http://evil.example"}
    assert browser.post("/api/v1/ask", json={"question": "x"}, headers=evil).status_code == 403
    rebound = browser.get("/api/v1/alarms", headers={"host": "evil.example:7860"})
    assert rebound.status_code == 421


def test_guessing_locks_and_the_right_password_waits(users, history):
    users.add("anna", PASSWORD, "operator", "test")
    for _ in range(MOST_FAILURES):
        with pytest.raises(UserError, match="do not fit"):
            users.log_in("anna", "wrong", 1000.0)
    with pytest.raises(UserError, match="locked"):
        users.log_in("anna", PASSWORD, 1001.0)
    session = users.log_in("anna", PASSWORD, 1000.0 + 901)
    assert users.find_session(session, 1000.0 + 902).role == "operator"  # type: ignore[union-attr]
    assert users.find_session(session, 1000.0 + 901 + 1801) is None  # idle
    acts = [row["act"] for row in history.file.rows("SELECT act FROM audit ORDER BY n")]
    assert acts == ["user_add", *["login_failed"] * 4, "lockout", "login_locked", "login"]
    stored = users.file.path.read_bytes()
    assert PASSWORD.encode() not in stored
    assert session.encode() not in stored


def test_a_token_counts_until_it_expires(guarded, users):
    text = users.add_token("grafana", "operator", 1.0, "test")
    bearer = {"authorization": f"Bearer {text}"}
    guarded.cookies.clear()
    assert "faultwise_sensor_conditions 0.0" in guarded.get("/metrics", headers=bearer).text
    assert guarded.post("/api/v1/captures", content=b"PK", headers=bearer).status_code == 403
    with users.file.change() as connection:
        connection.execute("UPDATE tokens SET expires_s = 1")
    expired = guarded.get("/metrics", headers=bearer)
    assert expired.status_code == 401
    assert "token grafana has expired" in expired.json()["error"]


def test_the_first_user_needs_the_printed_code(users, desk):
    doors, told = open_doors(Bound(host="0.0.0.0"), users)
    assert doors.login
    assert "without TLS" in told[1]
    code = re.search(r"[0-9a-f]{4}(-[0-9a-f]{4}){3}", told[0])[0]  # type: ignore[index]
    with TestClient(make_app(desk, users, doors), "http://plant.example") as client:
        wanted = {"name": "anna", "password": PASSWORD}
        assert "Set-up code" in client.get("/login").text
        assert client.post("/api/v1/setup", json=wanted | {"code": "1234"}).status_code == 400
        weak = client.post("/api/v1/setup", json=wanted | {"code": code, "password": "anna" * 4})
        assert "password cannot be used" in weak.json()["error"]
        page = client.post("/setup", data=wanted | {"code": code}, follow_redirects=False)
        assert page.status_code == 303
        assert client.get("/api/v1/me").json() == {"name": "anna", "role": "admin", "login": True}
        again = client.post("/api/v1/setup", json=wanted | {"code": code, "name": "eve"},
                            headers={"sec-fetch-site": "same-origin"})  # fmt: skip
        assert "users already" in again.json()["error"]


def test_on_loopback_nobody_needs_a_login_and_that_is_said(users):
    doors, told = open_doors(Bound(), users)
    assert not doors.login
    assert "no login" in told[0]
    users.add("anna", PASSWORD, "admin", "test")
    assert open_doors(Bound(), users)[0].login
    with pytest.raises(UserError, match="--tls-key"):
        open_doors(Bound(certificate=Path("x.pem")), users)


def test_a_port_that_is_taken_is_said_in_a_line(capfd):
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(UserError, match="may be taken"),
    ):
        run(FastAPI(), Bound(port=taken.getsockname()[1]), lambda: None)
    assert capfd.readouterr().err == ""


# ---- MCP ----


def test_mcp_offers_few_short_tools_that_only_read(desk):
    async def talk() -> None:
        async with Client(make_mcp(desk)) as client:
            tools = (await client.list_tools()).tools
            assert len(tools) <= 8
            assert all(tool.annotations.read_only_hint for tool in tools)  # type: ignore[union-attr]
            listed = json.dumps(
                [tool.model_dump(exclude_none=True, by_alias=True) for tool in tools]
            )
            assert len(listed) < 6000
            found = await call(client, "ask", question="why does plc-2 not answer?")
            assert found["standing"] == "confirmed"
            assert (await call(client, "incidents", limit=2))["next"] == 2
            failed = {"time": 1.0, "device": "plc-1", "command": "c", "error": "e"}
            located = await call(client, "locate", commands=[failed])
            assert located["items"][0]["verdict"] == "inconclusive"
            wrong = await call(client, "locate", commands=[{"time": 1.0}])
            assert "device" in wrong["error"]
            refused = await client.call_tool("incidents", {"offset": -1})
            assert refused.is_error
            assert refused.content[0].text == (  # type: ignore[union-attr]
                "incidents: offset: Input should be greater than or equal to 0; "
                "expected: capture, offset, limit"
            )

    asyncio.run(talk())


async def call(client: Client, name: str, **given: object) -> dict:
    done = await client.call_tool(name, given)
    return json.loads(done.content[0].text)  # type: ignore[union-attr]


def test_mcp_speaks_over_stdio(stocked_home):
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "assistant.cli", "mcp"],
        env={"FAULTWISE_HOME": str(stocked_home), "PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip

    async def talk() -> None:
        async with Client(server) as client:
            assert (await call(client, "captures"))["total"] == 0
            refused = await call(client, "ask", question="what is wrong?")
            assert "no capture" in refused["error"]

    asyncio.run(talk())


def test_mcp_over_http_needs_a_token(browser, users):
    text = users.add_token("agent", "operator", 1.0, "test")
    ask = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    accept = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}
    answer = browser.post("/mcp", json=ask, headers=accept | {"authorization": f"Bearer {text}"})
    assert len(answer.json()["result"]["tools"]) == 8
    assert browser.post("/mcp", json=ask, headers=accept).status_code == 401


# ---- Exports ----


def test_no_name_forges_a_field_or_a_line(history):
    hostile = make_incident(900, 995, device=HOSTILE)
    Alarms(history, PLANT).update([hostile], NONE, (), 1000.0, 0.0)
    rows = [(one, find_standing(one, history, 0.0)) for one in list_alarms(history)]
    for form in ("cef", "syslog", "jsonl"):
        assert render(rows, form).count("\n") == 1
    cef = render(rows, "cef")
    assert re.split(r"(?<!\\)\|", cef, maxsplit=7)[7].startswith("rt=1000000 ")
    assert "dvchost=plc|1\\=x\\\\" in cef
    told = re.findall(r'(\w+)="((?:[^"\\\]]|\\.)*)"', render_syslog(*rows[0], "host"))
    assert dict(told)["device"].startswith('plc|1=x\\\\ \\"\\]')
    bundle = json.loads(render(rows, "stix"))
    assert bundle == json.loads(render(rows, "stix"))
    kinds = {one["type"] for one in bundle["objects"]}
    assert {"incident", "observed-data", "ipv4-addr", "attack-pattern"} <= kinds


class Receiver(BaseHTTPRequestHandler):
    """A webhook that is busy once and then takes what comes."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append(json.loads(body))  # type: ignore[attr-defined]
        self.send_response(503 if len(self.server.got) == 1 else 204)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


def test_a_webhook_gets_each_alarm_until_it_takes_it(history, alarm, tmp_path):
    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        server.got = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        target, cursor = f"http://127.0.0.1:{server.server_port}/", tmp_path / "cursor.json"
        rows = [(alarm, find_standing(alarm, history, 0.0))]
        send(rows, target, pause_s=0.0)
        assert [one["alarms"][0]["incident"] for one in server.got] == [alarm.incident] * 2  # type: ignore[attr-defined]
        assert [send_new(history, target, cursor) for _ in range(2)] == [1, 0]
        server.shutdown()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as heard:
        heard.bind(("127.0.0.1", 0))
        send(rows, f"syslog://127.0.0.1:{heard.getsockname()[1]}")
        assert heard.recv(4096).startswith(b"<132>1 1970-01-01T00:16:40")
    for target in ("http://8.8.8.8/", "file:///etc/passwd"):
        with pytest.raises(UserError, match=r"beyond the plant|no target"):
            send(rows, target)


# ---- The command line ----


def test_users_come_and_go_by_the_command_line(home, capsys, monkeypatch):
    def run(*words: str, given: str = "") -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO(given))
        status = main(["users", *words])
        told = capsys.readouterr()
        return told.err if status else told.out

    assert "anna is admin" in run(
        "add", "anna", "--role", "admin", "--password-stdin", given=PASSWORD
    )
    short = run("add", "bob", "--password-stdin", given="short")
    assert short.startswith("error: that password cannot be used")
    assert run("token", "grafana", "--days", "7").startswith("fw_")
    assert re.search(r"token\s+grafana\s+operator\s+expires", run("list"))
    assert "may not come in" in run("remove", "grafana")
    assert "grafana" not in run("list")
