"""The operators' page in a real browser: what is shown and done, and that nothing leaves this
machine."""

import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio
import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from served import serve_page
from starlette.testclient import TestClient
from tiny_models import make_card

from assistant.api.app import Doors
from assistant.api.users import Users
from assistant.app.live import Live
from assistant.app.page import build_page, mount_options
from assistant.app.subject import Subject
from assistant.audit import check_audit
from assistant.history import History
from assistant.monitor.replay import PacketReplay
from assistant.monitor.source import Batch
from assistant.monitor.watch import Monitor
from assistant.monitor.watched import Watched
from assistant.session import Models, Session, load_models
from assistant.settings import Settings
from knowledge_base.index import open_index
from traffic.files import write_text
from traffic.plant import dump_plant, load_plant
from traffic.reader import find_pcaps

CHROMIUM = shutil.which("chromium")
SAMPLES = Path(__file__).parents[1] / "assistant" / "samples"
CALM, LIVE = SAMPLES / "bottling-line", SAMPLES / "filling-line"
LIVE_S = 1_795_268_160.0  # the first slot of the filling line; its fault comes 290 s later
IMAGE, LINK = "<img src=x>", "[x](http://y)"
PLC, HMI, SERVER = (f"192.168.14.{n}" for n in (207, 47, 178))
PATIENCE_MS = 90_000  # with a machine that does much else


class CalmLLM:
    """A model to which every window is normal: what the page shows then comes from hard evidence
    alone."""

    chat_capable = False

    def score(self, prompts: list[str], choices: list[str], progress: object = None) -> np.ndarray:
        others = len(choices) - 1
        return np.log(np.tile([0.99, *[0.01 / others] * others], (len(prompts), 1)))


class Gated(PacketReplay):
    """A recording as fast as it can be given, up to a moment; the rest when the gate is open."""

    def __init__(self, path: Path, until_s: float) -> None:
        super().__init__(find_pcaps(path), 0)
        self.gate, self._until_s = threading.Event(), until_s

    def read(self, wait_s: float) -> Batch:
        waits = self._next is not None and self._next.ts[0] >= self._until_s
        if waits and not self.gate.is_set():
            time.sleep(wait_s)
            return Batch(position={"packets": self._given})
        return super().read(wait_s)


@dataclass(frozen=True)
class Served:
    """A running page and where it is."""

    url: str
    session: Session


@pytest.fixture(scope="module")
def session(_stock: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """What all pages of this file share: a real knowledge base and history."""
    home = shutil.copytree(_stock, tmp_path_factory.mktemp("served"), dirs_exist_ok=True)
    plant = load_plant(CALM / "plant.yaml")
    # Names that are markup: whoever writes the inventory's source decides them.
    names = {HMI: IMAGE, SERVER: LINK}
    devices = tuple(replace(one, name=names.get(one.address, one.name)) for one in plant.devices)
    write_text(home / "plant.yaml", dump_plant(replace(plant, devices=devices)))
    card = make_card(name="calm", temperature=1.0, threshold=0.5)
    with open_index(home) as index, closing(History(home / "history.sqlite")) as history:
        settings = Settings(home=home, plant=home / "plant.yaml")
        yield Session(settings, Models(CalmLLM(), card, None), index, history)  # type: ignore[arg-type]


def serve(session: Session, subject: Subject) -> Iterator[Served]:
    with (
        closing(Users(session.settings.home, session.history)) as users,
        serve_page(session, subject, users, Doors()) as url,
    ):
        yield Served(url, session)


@pytest.fixture(scope="module")
def served(session: Session) -> Iterator[Served]:
    yield from serve(session, Subject(CALM.name, session.analyse(CALM)))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no chromium: the page cannot be read as an operator reads it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        window = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield window
        window.close()


def open_page(browser: Any, url: str, width: int = 1366, height: int = 768) -> Any:
    """A tab with the page; ``asked`` of it are the hosts that it asked."""
    page = browser.new_page()
    page.set_viewport_size({"width": width, "height": height})
    page.set_default_timeout(PATIENCE_MS)
    page.asked = set()
    hosts = re.compile(r"(?:https?|wss?)://([^/:]+)")
    page.on("request", lambda one: page.asked.update(hosts.findall(one.url)))
    page.goto(url)
    page.wait_for_selector("#alarms .panel")
    return page


def ask(page: Any, question: str) -> str:
    """Ask in the chat; the whole conversation after the answer."""
    before = page.locator("#thread .bot:not(.waiting)").count()
    page.fill("#question textarea", question)
    page.keyboard.press("Enter")
    page.wait_for_function(
        "n => document.querySelectorAll('#thread .bot:not(.waiting)').length > n", arg=before
    )
    return page.inner_text("#thread")


# ---- How it is served ----


def test_only_this_machine_and_only_by_its_own_name(served):
    assert served.url.startswith("http://127.0.0.1:")
    assert httpx.get(served.url, headers={"Host": "plant.example"}).status_code == 421


def test_the_page_names_nothing_to_load_from_elsewhere(served):
    answer = httpx.get(served.url)
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    elsewhere = r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(?:https?:)?//(?!127\.)[^"]*"'
    assert re.findall(elsewhere, answer.text) == []
    assert "googleapis" not in answer.text


def test_it_can_be_mounted_on_another_app(session):
    app = FastAPI()
    page = build_page(session, Subject())
    gradio.mount_gradio_app(app, page, "/page", **mount_options())
    with TestClient(app) as client:
        assert "faultwise" in client.get("/page/").text


# ---- A plant live, from the alarm to the reload ----


@pytest.fixture(scope="module")
def live(session: Session) -> Iterator[tuple[Served, Gated]]:
    source = Gated(LIVE, LIVE_S + 200.0)
    plant, models = load_plant(LIVE / "plant.yaml"), load_models(Settings())
    folder = session.settings.home / "monitor"
    watched = Watched(source, models.llm, models.card, session.history, folder, "filling", plant)
    with closing(Live(lambda: Monitor(watched), "filling", source.live)) as watching:
        for served in serve(session, Subject("filling", live=watching, plant=plant)):
            yield served, source


def test_an_alarm_is_seen_asked_about_acknowledged_confirmed_and_found_again(live, browser):
    served, source = live
    page = open_page(browser, served.url)
    page.wait_for_selector("#bar >> text=a recording as if it were live")
    page.wait_for_selector("#alarms >> text=judged")
    assert page.locator("#alarms button.alarm").count() == 0
    assert "plc-4" in ask(page, "is plc-4 ok?")

    source.gate.set()
    page.wait_for_selector("#alarms button.alarm >> text=plc-4")
    row = page.inner_text("#alarms button.alarm >> nth=0")
    assert "◆" in row
    assert "medium" in row
    page.wait_for_selector("#bar >> text=The recording is over")  # no calm plant
    page.click("#alarms button.alarm >> nth=0")
    page.wait_for_selector("#alarm >> text=Consequence")
    page.click("#ask-why")
    page.wait_for_selector("#thread details.evidence >> nth=1")
    assert "port 502" in page.inner_text("#thread")
    page.click("#acknowledge")
    page.wait_for_selector("#said >> text=Acknowledged by operator")
    page.click("#thread .verdict >> nth=-1 >> text=Right")
    page.wait_for_selector("#alarms >> text=confirmed")
    (said,) = served.session.history.feedback()
    assert (said.label, said.who) == ("service_down", "operator")
    assert "plc-4" in ask(page, "what is wrong?").split("what is wrong?")[-1]
    assert "it happened here before: 1 record" in ask(page, "has plc-4 failed before?")

    page.reload()
    page.wait_for_selector("#thread details.evidence >> nth=1")
    page.wait_for_selector("#alarms >> text=confirmed")
    assert "13:4" in ask(page, "since when?").split("since when?")[1]
    assert page.asked == {"127.0.0.1"}
    assert check_audit(served.session.history.file.path).outcome == "whole"
    page.close()


# ---- A capture ----


def test_plant_device_report_and_citation_open_by_a_click(served, browser):
    page = open_page(browser, served.url)
    page.keyboard.press("Alt+2")
    page.click(f"#plant button[data-device='{PLC}']")
    page.wait_for_selector("#device-head >> text=plc-01")
    page.wait_for_selector("#views [role=graphics-document]")
    page.click("#device-head >> text=ask why")
    page.wait_for_selector("#thread details.evidence")
    page.click("#thread [data-act=interval] >> nth=0")
    page.wait_for_selector("text=Show all of the time")
    page.click("#thread details.evidence > summary")
    page.click("#thread [data-act=cite] >> nth=0")
    page.wait_for_selector("#passage mark")
    page.click("#views [role=tab] >> text=Report")
    page.click("#report")
    page.wait_for_selector("#report-text h3 >> text=Going on")
    assert page.asked == {"127.0.0.1"}
    page.close()


def test_shelving_asks_for_a_reason_and_a_filter_hides(served, browser):
    page = open_page(browser, served.url)
    page.click("#alarms button.alarm >> nth=0")
    page.wait_for_selector("#alarm .one")
    page.click("#shelve")
    page.wait_for_selector("#said >> text=Say why")
    page.fill("#why textarea, #why input", "<b>fitter</b> at work")
    page.click("#shelve")
    page.wait_for_selector("#alarm >> text=<b>fitter</b> at work")
    page.click("#undo")
    page.wait_for_selector("#alarms .active")
    page.fill("#filter-words textarea, #filter-words input", "nothing is called so")
    page.wait_for_selector("#alarms >> text=No alarm fits this filter")
    assert page.locator("#alarms button.alarm").count() == 0
    page.close()


def test_several_ask_at_once_and_each_gets_his_own(served, browser):
    names = {"drive-01": "drive-01", "broker-01": "broker-01", "sensor-01": "sensor-01"}
    contexts = [browser.new_context() for _ in names]  # three browsers, as it were
    pages = [open_page(one, served.url) for one in contexts]
    for page, name in zip(pages, names, strict=True):
        page.fill("#question textarea", f"is {name} ok?")
        page.keyboard.press("Enter")
    for page, name in zip(pages, names, strict=True):
        page.wait_for_selector("#thread .bot:not(.waiting)")
        # An answer may name others as partners: it is whose question it answers that counts.
        assert name in page.inner_text("#thread .bot").strip().splitlines()[0]
        said = page.inner_text("#thread")
        assert not any(f"is {other} ok?" in said for other in names if other != name)
    for one in contexts:
        one.close()


def test_names_like_markup_are_text_and_a_phone_shows_alarms_first(served, browser):
    page = open_page(browser, served.url, 390, 844)
    assert page.locator("#alarms").bounding_box()["y"] < page.locator("#thread").bounding_box()["y"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for name in (IMAGE, LINK):
        assert name in ask(page, f"is {name} ok?")
    page.click("#views [role=tab] >> text=Plant")
    page.wait_for_selector(f"#plant >> text={LINK}")
    assert page.query_selector_all("#desk img[src='x'], #thread a, #plant a, #alarms a") == []
    assert page.asked == {"127.0.0.1"}
    page.close()


def test_what_is_no_capture_is_refused_and_another_can_be_opened(served, browser, shared, tmp_path):
    words = tmp_path / "words.pcap"
    words.write_text("these are only words\n")
    page = open_page(browser, served.url)
    page.keyboard.press("Alt+5")
    page.set_input_files("#setup-capture input[type=file] >> nth=0", words)
    page.wait_for_selector("#setup-said >> text=words.pcap")
    page.wait_for_selector("#setup-said >> text=That did not work")
    assert "/" not in page.inner_text("#setup-said").split("words.pcap")[0]  # nor where it lay
    log = shared / "data" / "iot23" / "44-1" / "conn.log.labeled"
    page.set_input_files("#setup-capture input[type=file] >> nth=0", log)
    page.wait_for_selector("#bar >> text=conn.log.labeled")
    page.click("text=Back to what was watched")
    page.wait_for_selector(f"#bar >> text={CALM.name}")
    page.close()
