"""What operators may do on the page: a real server, asked over HTTP as a browser asks it and past it."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import serve_page
from tiny_models import make_card

from assistant.api.app import Doors
from assistant.api.users import Users
from assistant.app.roles import ROWS
from assistant.app.subject import Subject
from assistant.audit import check_audit
from assistant.history import History
from assistant.session import Models, Session
from assistant.settings import Settings
from knowledge_base.index import open_index

PASSWORD = "correct horse battery"
# All that a tab's set-up view offers to operators: they look documents up.
READS = {("Search", "click"), ("Search the documents", "submit"), ("found", "click"),
         ("documents", "click")}  # fmt: skip


class Tab:
    """A tab of somebody who logged in, without a browser."""

    def __init__(self, url: str, role: str) -> None:
        self.http = httpx.Client(base_url=url, headers={"origin": url}, timeout=120.0)
        logged = self.http.post("/api/v1/login", json={"name": f"{role}-1", "password": PASSWORD})
        assert logged.status_code == 200
        self.config = self.http.get("/config").json()
        self.hash = f"{role}-{time.time_ns()}"
        begun = next(one for one in self.config["dependencies"] if one["targets"][0][1] == "load")
        assert self.send(begun)["success"]

    def names(self) -> dict[int, str]:
        """What each component is called: its words, or its id in the page."""
        return {
            one["id"]: str(
                one["props"].get("placeholder")
                or one["props"].get("label")
                or (one["type"] != "html" and one["props"].get("value"))
                or one["props"].get("elem_id")
            )
            for one in self.config["components"]
        }

    def below(self, wanted: set[int]) -> set[int]:
        """The components that lie in others."""

        def walk(node: dict[str, Any], inside: bool) -> Iterator[int]:
            inside = inside or node["id"] in wanted
            if inside:
                yield node["id"]
            for child in node.get("children") or ():
                yield from walk(child, inside)

        return set(walk(self.config["layout"], False))

    def rows(self) -> set[int]:
        """The rows of engineers."""
        listed = (
            (one["id"], one["props"].get("elem_classes")) for one in self.config["components"]
        )
        return {number for number, classes in listed if ROWS in (classes or ())}

    def setup(self) -> set[int]:
        """The view of engineers, where operators look documents up."""
        return {
            one["id"] for one in self.config["components"]
            if one["type"] == "tabitem" and one["props"].get("id") == "setup"
        }  # fmt: skip

    def events(self, within: set[int]) -> list[dict[str, Any]]:
        """The events with a function on the server that components begin."""
        return [
            one
            for one in self.config["dependencies"]
            if one["backend_fn"] and any(number in within for number, _ in one["targets"])
        ]

    def nothing(self, event: dict[str, Any]) -> list[Any]:
        """What an event sends where nobody chose anything."""
        kinds = {one["id"]: one["type"] for one in self.config["components"]}
        return [[] if kinds[one] == "checkboxgroup" else None for one in event["inputs"]]

    def send(self, event: dict[str, Any], data: list[Any] | None = None) -> dict[str, Any]:
        """Send an event as a browser does; how it ended."""
        given = self.nothing(event) if data is None else data
        joined = self.http.post(
            "/gradio_api/queue/join",
            json={"data": given, "fn_index": event["id"], "session_hash": self.hash},
        )
        return self.wait("/gradio_api/queue/data", joined.json()["event_id"])

    def wait(self, path: str, event_id: str) -> dict[str, Any]:
        """How a queued event ended."""
        with self.http.stream("GET", path, params={"session_hash": self.hash}) as told:
            for row in told.iter_lines():
                message = json.loads(row[5:]) if row.startswith("data:") else {}
                if message.get("msg") == "process_completed" and message["event_id"] == event_id:
                    return message
        raise AssertionError(f"the server said nothing of {event_id}")


@pytest.fixture(scope="module")
def served(_stock: Path, line: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    home = shutil.copytree(_stock, tmp_path_factory.mktemp("roles"), dirs_exist_ok=True)
    with (
        open_index(home) as index,
        closing(History(home / "history.sqlite")) as history,
        closing(Users(home, history)) as users,
    ):
        for role in ("operator", "engineer"):
            users.add(f"{role}-1", PASSWORD, role, "test")
        session = Session(Settings(home=home), Models(None, make_card(), None), index, history)  # type: ignore[arg-type]
        with serve_page(session, Subject("line", line), users, Doors(login=True)) as url:
            yield url, session


def upload(tab: Tab, name: str, words: bytes) -> dict[str, Any]:
    sent = tab.http.post("/gradio_api/upload", files={"files": (name, words)}).json()
    return {"path": sent[0], "orig_name": name, "meta": {"_type": "gradio.FileData"}}


def refusals(history: History) -> list[tuple[str, str]]:
    rows = history.file.rows("SELECT who, subject FROM audit WHERE act = 'refused' ORDER BY n")
    return [(row["who"], row["subject"]) for row in rows]


def test_each_event_of_engineers_refuses_an_operator_and_is_noted(served):
    url, session = served
    tab = Tab(url, "operator")
    before = [one.id for one in session.index.list()]
    events = tab.events(tab.below(tab.rows()))
    assert len(events) >= 10
    for event in events:
        noted = refusals(session.history)
        ended = tab.send(event)
        assert not ended["success"]
        said = ended["output"]["error"]
        assert said.startswith("Only engineers can ")
        assert said.endswith("; ask one of them, or log in as one.")
        doing = said.removeprefix("Only engineers can ").split(";")[0]
        assert refusals(session.history) == [*noted, ("operator-1", doing)]
        # The other ways to a function that Gradio has.
        for way in ("run", "api", "call"):
            body = {"data": tab.nothing(event), "fn_index": event["id"]}
            answer = tab.http.post(f"/gradio_api/{way}/{event['api_name']}", json=body)
            if answer.status_code == 200:
                (number,) = answer.json().values()
                got = tab.http.get(f"/gradio_api/{way}/{event['api_name']}/{number}")
                assert "event: error" in got.text, (way, event["api_name"], got.text)
    assert {who for who, _ in refusals(session.history)} == {"operator-1"}
    assert [one.id for one in session.index.list()] == before
    assert check_audit(session.history.file.path).outcome == "whole"


def test_a_new_event_is_either_for_engineers_or_known_to_read(served):
    tab = Tab(served[0], "operator")
    names, rows = tab.names(), tab.below(tab.rows())
    kinds = {one["id"]: one["type"] for one in tab.config["components"]}
    setup = tab.setup()
    free = tab.below(setup) - rows - setup
    found = {
        (names[number], how)
        for event in tab.events(free)
        for number, how in event["targets"]
        if number in free
    }
    assert found == READS
    assert {number for number, kind in kinds.items() if kind in ("uploadbutton", "file")} <= rows


def test_operators_see_no_rows_of_engineers_and_upload_nothing(served):
    url, session = served
    for role, hidden in (("operator", True), ("engineer", False)):
        tab = Tab(url, role)
        begun = next(one for one in tab.config["dependencies"] if one["targets"][0][1] == "load")
        made = dict(zip(begun["outputs"], tab.send(begun)["output"]["data"], strict=True))
        for row in tab.rows():
            assert (made[row].get("visible") is False) is hidden
        sent = tab.http.post("/gradio_api/upload", files={"files": ("a.md", b"# A\n")})
        assert sent.status_code == (403 if hidden else 200)
        opened = tab.http.post("/api/v1/captures", content=b"PK")
        assert opened.status_code == (403 if hidden else 415)
    assert {("operator-1", "upload a file"), ("operator-1", "POST /api/v1/captures")} <= set(
        refusals(session.history)
    )


def test_an_engineer_adds_and_removes_a_document_and_no_event_refuses_him(served):
    url, session = served
    tab = Tab(url, "engineer")
    names = tab.names()
    events = {names[one["targets"][0][0]]: one for one in tab.events(tab.below(tab.rows()))}
    words = b"# Pump P-77\n\nError E-12 means that the inlet valve is closed.\n"
    pump, plant = (upload(tab, name, words) for name in ("pump.md", "words.yaml"))
    assert tab.send(events["Add or replace"], [[pump], "general"])["success"]
    (added,) = [one for one in session.index.list() if "P-77" in one.title]
    eve = Tab(url, "operator")
    for tried, left in ((eve, True), (tab, False)):
        for opening in tried.events(tried.setup()):
            assert tried.send(opening)["success"]
        assert tried.send(events["Remove"], [added.id])["success"] is not left
        assert (added.id in [one.id for one in session.index.list()]) is left
    noted = refusals(session.history)
    for name, event in events.items():
        files = {"Add or replace": [[pump], "general"]}.get(name, [None, plant])
        uploads = event["targets"][0][1] == "upload"
        assert tab.send(event, files if uploads else None)["success"], name
    assert refusals(session.history) == noted
