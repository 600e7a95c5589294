"""The operators' page, read by a real browser: what is shown, and that nothing leaves this
machine."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from tiny_models import make_card

from assistant.app.page import build_page, launch_options
from assistant.app.panels import render_bar, render_evidence, render_message, render_plant
from assistant.diagnosis.health import list_devices
from assistant.facts.fact import Fact
from traffic.conversations import empty_exchanges
from traffic.device_records import DeviceRecords
from traffic.quality import Quality

CHROMIUM = shutil.which("chromium")
SAMPLE = Path(__file__).parents[1] / "assistant" / "samples" / "bottling-line"
HOSTILE = "<img src=http://192.0.2.1/x onerror=alert(1)>${alert(1)}{{alert}}"
IMAGE, LINK = "<img src=x>", "[x](http://y)"
# Devices that say nothing of themselves, asked nothing, and were seen whole.
SILENT = SimpleNamespace(
    records=DeviceRecords(), quality=Quality(), exchanges=empty_exchanges(), seen_s=70.0,
    local=frozenset(), speakers=frozenset(("10.0.0.5", "10.0.0.6", "10.0.0.7", HOSTILE)),
    flows_of=lambda device: pd.DataFrame({"other": [], "answered": pd.Series(dtype=bool)}),
)  # fmt: skip


class CalmLLM:
    """A model to which every window is normal: what the page shows then comes from hard evidence
    alone."""

    chat_capable = False

    def score(self, prompts: list[str], choices: list[str], progress: object = None) -> np.ndarray:
        others = len(choices) - 1
        return np.log(np.tile([0.99, *[0.01 / others] * others], (len(prompts), 1)))


def incident(**other: Any) -> SimpleNamespace:
    known = {"id": "c2-1", "device": "10.0.0.5", "label": "c2", "severity": "high"}
    return SimpleNamespace(**known | {"start_s": 60.0, "end_s": 180.0} | other)


class TestDevices:
    """The list at the left."""

    def analysis(self, *incidents: SimpleNamespace) -> SimpleNamespace:
        columns = ("device", "start_s", "abstained")
        rows = [("10.0.0.5", 0.0, False), ("10.0.0.5", 10.0, False), ("10.0.0.6", 0.0, False)]
        rows += [("10.0.0.6", 10.0, True), ("10.0.0.6", 20.0, True)]
        rows += [("10.0.0.7", start_s, False) for start_s in (0.0, 10.0, 20.0)]
        verdicts = pd.DataFrame(rows, columns=columns).assign(label="normal")
        verdicts["end_s"] = verdicts["start_s"] + 60.0
        known = SimpleNamespace(address="10.0.0.7", name="plc-1", role="plc")
        plant = SimpleNamespace(devices=(known,))
        return SimpleNamespace(verdicts=verdicts, plant=plant, incidents=incidents, view=SILENT)

    def test_the_worst_comes_first_and_names_come_from_the_inventory(self):
        worst = (incident(severity="medium"), incident(device="10.0.0.7"))
        found = list_devices(self.analysis(*worst))  # type: ignore[arg-type]
        assert [(one.name, one.state) for one in found] == [
            ("plc-1", "high"), ("10.0.0.5", "medium"), ("10.0.0.6", "unsure"),
        ]  # fmt: skip
        assert found[2].words == "undecided up to the end"

    def test_a_device_takes_the_state_of_its_worst_incident(self):
        worse = incident(severity="high", label="dos")
        for order in ([incident(severity="low"), worse], [worse, incident(severity="low")]):
            found = list_devices(self.analysis(*order))  # type: ignore[arg-type]
            state = next(one for one in found if one.address == "10.0.0.5")
            assert (state.state, state.words) == ("high", "a flood from one source")

    def test_a_state_is_a_shape_and_a_word_too(self):
        found = list_devices(self.analysis(incident()))  # type: ignore[arg-type]
        page = render_plant(found, [incident()], ())  # type: ignore[list-item]
        state = r'<span class="state">(.)</span>.*?<span class="state">(\w+)</span>'
        seen = re.findall(state, page)
        assert seen == [("▲", "high"), ("▲", "high"), ("◇", "unclear"), ("○", "normal")]

    @pytest.mark.parametrize(
        ("state", "shown"),
        [
            ("active", '<span class="under">10.0.0.5'),
            ("acknowledged", "✓ acknowledged · 10.0.0.5"),
            ("false alarm", "× false alarm · 10.0.0.5"),
            ("shelved until 18:00", "‖ shelved until 18:00 · 10.0.0.5"),
            ("another cause: packet loss", "≠ another cause: packet loss · 10.0.0.5"),
        ],
    )
    def test_what_was_declared_is_a_shape_and_a_word(self, state, shown):
        found = list_devices(self.analysis(incident()))  # type: ignore[arg-type]
        assert shown in render_plant(found, [incident()], (), "", {"c2-1": state})  # type: ignore[list-item]

    def test_only_what_was_judged_is_called_well(self):
        found = list_devices(self.analysis())  # type: ignore[arg-type]
        page = render_plant(found, [], (), "1 device judged normal, 1 undecided.")
        assert "1 device judged normal, 1 undecided." in page
        assert "None" not in page


class TestHostileText:
    """Names, notes and documents may be written by an attacker: none becomes markup, template or
    script."""

    def diagnosis(self) -> SimpleNamespace:
        cited = SimpleNamespace(number=1, place=HOSTILE, excerpt=HOSTILE)
        texts = dict.fromkeys(("checks", "ruled_out", "notes"), (HOSTILE,))
        fact = Fact("x-1", HOSTILE, {})
        return SimpleNamespace(
            kind="why", refused=False, standing="likely", facts=(fact,), citations=(cited,),
            similar=(cited,), **texts,
        )  # fmt: skip

    def test_is_shown_as_text(self):
        window = {"device": HOSTILE, "start_s": 0.0, "end_s": 60.0, "label": "normal"}
        verdicts = pd.DataFrame([window | {"abstained": False}])
        known = SimpleNamespace(address=HOSTILE, name=HOSTILE, role=HOSTILE)
        analysis = SimpleNamespace(
            verdicts=verdicts, view=SILENT, plant=SimpleNamespace(devices=(known,)), incidents=()
        )
        states = list_devices(analysis)  # type: ignore[arg-type]
        plant = render_plant(
            states, [incident(device=HOSTILE)], [HOSTILE], HOSTILE, {"c2-1": HOSTILE}
        )  # type: ignore[list-item]
        whole = plant + render_evidence(self.diagnosis())  # type: ignore[arg-type]
        assert whole.count("&lt;img") >= 11
        assert not re.search(r"<img|[{}$`]", whole)

    def test_a_file_name_too(self):
        capture = SimpleNamespace(start_s=0.0, end_s=10.0)
        assert "<img" not in render_bar(
            SimpleNamespace(capture=capture, windows=[], plant=None), HOSTILE
        )  # type: ignore[arg-type]

    def test_an_answer_has_headlines_and_lists_but_nothing_that_a_name_made(self):
        text = f"**{HOSTILE} is [x](http://y).**\n\n- ![a](http://z) *b* `c`\n- two\n2. three\n# four\n> five"
        page = render_message(text)
        assert re.findall(r"<(\w+)", page) == [
            "p", "strong", "ul", "li", "li", "ol", "li", "p", "blockquote", "p",
        ]  # fmt: skip
        for shown in ("[x](http://y)", "![a](http://z) *b*", "# four", '<ol start="2"><li>three'):
            assert shown in page
        assert not re.search(r"[{}$`]", page)

    def test_an_answer_that_is_none_shows_no_evidence(self):
        refused = SimpleNamespace(refused=True)
        assert render_evidence(refused) == render_evidence(None)  # type: ignore[arg-type]

    def test_a_count_is_not_called_sure_or_normal(self):
        counted = self.diagnosis()
        counted.kind = "count"
        assert "How sure" not in render_evidence(counted)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Served:
    """A running page and where it is."""

    url: str
    session: Any


@pytest.fixture(scope="module")
def served(_stock: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    from assistant.detection.pipeline import analyse
    from assistant.history import History
    from knowledge_base.index import open_index
    from traffic.plant import load_plant

    plant = load_plant(SAMPLE / "plant.yaml")
    # Names that are markup: whoever writes the inventory's source decides them.
    names = {"192.168.14.47": IMAGE, "192.168.14.178": LINK}
    devices = tuple(replace(one, name=names.get(one.address, one.name)) for one in plant.devices)
    plant = replace(plant, devices=devices)
    card = make_card(name="calm", temperature=1.0, threshold=0.5)
    home = shutil.copytree(_stock, tmp_path_factory.mktemp("served"), dirs_exist_ok=True)
    with open_index(home) as index:
        session = SimpleNamespace(
            models=SimpleNamespace(writer=None),
            index=index,
            history=History(home / "history.sqlite"),
            analyse=lambda path: analyse(path, CalmLLM(), card, plant),  # type: ignore[arg-type]
        )
        page = build_page(session, session.analyse(SAMPLE), SAMPLE.name)  # type: ignore[arg-type]
        _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options())
        yield Served(url, session)
        page.close()
        session.history.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no chromium: the page cannot be read as an operator reads it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        window = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield window
        window.close()


class TestServed:
    def test_only_this_machine_and_only_by_its_own_name(self, served):
        assert served.url.startswith("http://127.0.0.1:")
        assert httpx.get(served.url, headers={"Host": "plant.example"}).status_code == 400

    def test_the_page_names_nothing_to_load_from_elsewhere(self, served):
        answer = httpx.get(served.url)
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        elsewhere = r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(?:https?:)?//(?!127\.)[^"]*"'
        assert re.findall(elsewhere, answer.text) == []
        assert "googleapis" not in answer.text


class TestInABrowser:
    def test_a_question_gets_device_cause_and_citation_and_nothing_is_asked_elsewhere(
        self, served, browser
    ):
        asked: list[str] = []
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.on("request", lambda request: asked.append(request.url))
        page.goto(served.url)
        page.wait_for_selector("#plant button[data-device='192.168.14.207']")
        assert "■ plc-01 low" in " ".join(page.inner_text("#plant").split())

        page.fill("#question textarea", "why does plc-01 not answer?")
        page.keyboard.press("Enter")
        page.wait_for_selector("#evidence summary", timeout=60_000)
        said = "document.querySelector('#chat').innerText.includes"
        page.wait_for_function(f"{said}('192.168.14.207')")
        evidence = page.inner_text("#evidence")
        assert "port 44818 has answered nobody" in evidence
        assert "[1]" in evidence
        assert "How sure" in evidence

        page.fill("#question textarea", "since when?")
        page.keyboard.press("Enter")
        asked_twice = "document.querySelectorAll('#chat .user').length === 2"
        page.wait_for_function(asked_twice, timeout=60_000)
        page.wait_for_function(f"{said}('11:32:')", timeout=60_000)
        hosts = {re.match(r"\w+://([^/:]+)|data:|blob:", url).group(1) for url in asked}  # type: ignore[union-attr]
        assert hosts <= {"127.0.0.1", None}

    def test_a_remark_shows_in_the_list_and_names_stay_text(self, served, browser):
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(served.url)
        page.click("#plant button[data-device='192.168.14.207']")
        page.wait_for_selector("#evidence .sure", timeout=60_000)
        hostile = "<img src=x> [x](http://y) ![x](http://y/z.png) **b**"
        page.fill("#question textarea", f"false alarm because of {hostile}")
        page.keyboard.press("Enter")
        page.wait_for_selector("#plant >> text=× false alarm", timeout=60_000)
        chat = page.inner_text("#chat")
        assert chat.count(hostile) == 2
        assert page.query_selector_all("#chat a, #chat .message img") == []
        page.fill("#question textarea", "undo")
        page.keyboard.press("Enter")
        page.wait_for_selector("#plant >> text=× false alarm", state="detached", timeout=60_000)
        page.fill("#question textarea", "more")
        page.keyboard.press("Enter")
        page.wait_for_function("document.querySelectorAll('#chat li').length > 5", timeout=60_000)

    def test_devices_named_like_markup_are_shown_as_text(self, served, browser):
        asked: list[str] = []
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.on("request", lambda request: asked.append(request.url))
        page.goto(served.url)
        for address, name in (("192.168.14.47", IMAGE), ("192.168.14.178", LINK)):
            row = f"#plant button[data-device='{address}']"
            page.wait_for_selector(row)
            assert name in page.inner_text(row)
            page.click(row)
            last = "[...document.querySelectorAll('#chat .bot')].pop()"
            shown = f"name => {last}?.innerText.includes(name)"
            page.wait_for_function(shown, arg=name, timeout=60_000)
        assert page.query_selector_all("#desk img[src='x'], #chat a, #evidence a, #plant a") == []
        assert [url for url in asked if url.endswith("/x") or "//y" in url] == []

    def test_a_device_can_be_chosen_on_a_narrow_screen(self, served, browser):
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.goto(served.url)
        page.click("#plant button[data-device='192.168.14.47']")
        page.wait_for_selector("#evidence .sure", timeout=60_000)
        assert "192.168.14.47" in page.inner_text("#chat")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390

    def test_a_file_that_is_no_capture_is_refused_and_the_page_goes_on(
        self, served, browser, tmp_path
    ):
        words = tmp_path / "words.pcap"
        words.write_text("these are only words\n")
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(served.url)
        page.wait_for_selector("#plant button[data-device]")
        page.set_input_files("#plant input[type=file]", words)
        page.wait_for_selector("#chat >> text=words.pcap", timeout=60_000)
        # Nor where the upload lay.
        assert "/" not in page.inner_text("#chat").split("words.pcap")[0]
        assert page.is_visible("#plant button[data-device='192.168.14.207']")

    def test_another_capture_can_be_opened(self, served, browser, shared):
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(served.url)
        page.wait_for_selector("#plant button[data-device='192.168.14.207']")
        log = shared / "data" / "iot23" / "44-1" / "conn.log.labeled"
        page.set_input_files("#plant input[type=file]", log)
        page.wait_for_selector("#plant button[data-device='192.168.1.199']", timeout=60_000)
        assert "conn.log.labeled" in page.inner_text(".bar")
