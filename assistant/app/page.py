"""The operators' page: views of the plant at the left, the chat beside them.

browser ── click, question, tick ──▶ Thread (one per tab) ──▶ paint: the parts that changed
monitor (a thread of this process) ──▶ Subject (shared) ──▶─┘
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from assistant.app.clicks import act_on_alarm, open_device, read_click, take_click
from assistant.app.engineering import wire_setup
from assistant.app.layout import Parts, lay_out
from assistant.app.paint import Painter, Updates
from assistant.app.roles import for_engineers, is_engineer
from assistant.app.subject import Subject
from assistant.app.thread import Thread, answer_question, begin_thread, put_question
from assistant.app.views.alarms import SHELVING_S
from assistant.app.views.markup import safe
from assistant.app.views.report_lines import render_report
from assistant.app.views.shift import HOURS, make_report, write_report
from assistant.offline import go_offline
from assistant.session import Session

REFRESH_S = 1.0
# An answer is longer than the panel: show where it starts, under its question.
_TO_QUESTION = """() => {
  const asked = document.querySelectorAll('#thread .user');
  const waiting = document.querySelector('#thread .waiting');
  if (asked.length && (waiting || window.faultwiseAsked)) {
    document.querySelector('#thread').scrollTop = asked[asked.length - 1].offsetTop - 8;
    if (window.innerWidth <= 900) document.querySelector('#talk').scrollIntoView();
  }
  window.faultwiseAsked = !!waiting;
}"""
# A conversation that goes on after a reload goes on where it was left.
_TO_NEWEST = """() => setTimeout(() => {
  const asked = document.querySelectorAll('#thread .user');
  if (asked.length)
    document.querySelector('#thread').scrollTop = asked[asked.length - 1].offsetTop - 8;
}, 300)"""
_TO_ALARM = """() => {
  if (window.innerWidth <= 900 && document.querySelector('#alarm .one'))
    document.querySelector('#chosen').scrollIntoView({ block: 'start' });
}"""
# Its view is opened at the same time.
_TO_MARK = """() => {
  const mark = () => document.querySelector('#cited')?.scrollIntoView({ block: 'center' });
  setTimeout(mark, 300);
}"""
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
# One question at a time: the models and the knowledge base are shared by all tabs.
_ONE_BY_ONE: dict[str, Any] = {**_QUIET, "concurrency_id": "desk", "concurrency_limit": 1}
_SIDE_BY_SIDE: dict[str, Any] = {**_QUIET, "concurrency_id": "look", "concurrency_limit": 4}


def build_page(session: Session, subject: Subject, operators: int = 1) -> gr.Blocks:
    """Lay the page out and connect it; it can be launched, or mounted on a FastAPI app.

    Args:
        session: models, knowledge base and history, shared by all tabs.
        subject: what a new tab shows: a live plant, a capture, or neither.
        operators: how many share the alarms.
    """
    go_offline()
    with gr.Blocks(
        title="faultwise", analytics_enabled=False, fill_width=True, delete_cache=(600, 3600)
    ) as page:
        state = gr.State(None)
        number = gr.BrowserState(None, storage_key="faultwise-conversation", secret="faultwise")  # noqa: S106 - it keeps nothing secret
        parts = lay_out()
        painter = Painter(parts, session, operators)
        wiring = Wiring(state, number, parts, painter, session, subject)
        shown = [state, *wiring.painted, *parts.setup.for_engineers]
        page.load(wiring.begin, number, shown, **_QUIET).then(None, js=_TO_NEWEST)
        wiring.connect()
        wire_setup(wiring)
    return page


class Wiring:
    """Connects components with what happens to the tab's thread."""

    def __init__(
        self,
        state: Any,
        number: Any,
        parts: Parts,
        painter: Painter,
        session: Session,
        subject: Subject,
    ) -> None:
        """Begin; ``painted`` are the components that a paint may change."""
        self.state, self.number, self.parts = state, number, parts
        self.painter, self.session, self.subject = painter, session, subject
        device = parts.device
        self.painted = [
            parts.bar, parts.tabs, parts.alarms.rows, parts.alarms.one, parts.plant, parts.chat.lines,
            parts.setup.passage, device.picker, device.head, device.whole, device.rates, device.delays,
            device.troubles, device.foot,
        ]  # fmt: skip

    def changing(self, change: Callable[..., Updates | None]) -> Callable[..., Updates]:
        """An event's function: the change is made to the thread, then the tab is painted.

        Args:
            change: gets the thread and the event's further inputs; may give further updates.
        """

        def run(thread: Thread | None, *inputs: Any) -> Updates:
            if thread is None:  # a tick before the page is loaded
                return self.painter.nothing()
            with thread.lock:
                more = change(thread, *inputs) or {}
                return self.painter.paint(thread) | more

        return run

    def for_engineers(self, doing: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """An event's function that refuses operators; ``doing`` says what it does."""
        return for_engineers(self.session.history, doing, work)

    def connect(self) -> None:
        """Connect everything but what engineers set up."""
        gr.Timer(REFRESH_S).tick(
            self.changing(lambda _: None), self.state, self.painted, **_SIDE_BY_SIDE
        )
        for name, tab in self.parts.views.items():
            tab.select(self.changing(_opener(name)), self.state, self.painted, **_SIDE_BY_SIDE)
        self._connect_chat()
        self._connect_alarms()
        self._connect_device()
        self._connect_report()

    def begin(self, number: object, request: gr.Request) -> Updates:
        """A tab was opened: its thread, with the conversation that goes on, and all of its parts."""
        named = bool(request.username)
        kept = number if isinstance(number, int) else None
        who = request.username or "operator"
        thread = begin_thread(self.session, self.subject, who, named, kept)
        hidden = [] if is_engineer(request) else self.parts.setup.for_engineers
        less = {row: gr.update(visible=False) for row in hidden}
        return {self.state: thread} | self.painter.paint(thread) | less

    # ---- The chat ----

    def _connect_chat(self) -> None:
        chat = self.parts.chat

        def put(thread: Thread, question: str) -> Updates:
            put_question(thread, question)
            return {chat.box: ""}

        outputs = [*self.painted, chat.box]
        self.answered(
            gr.on(
                [chat.box.submit, chat.send.click], self.changing(put), [self.state, chat.box],
                outputs, queue=False, **_QUIET,
            )
        )  # fmt: skip
        for hint in chat.hints:
            self.answered(
                hint.click(self.changing(put), [self.state, hint], outputs, queue=False, **_QUIET)
            )
        for part in (chat.lines, self.parts.plant, self.parts.device.head, self.parts.device.foot,
                     self.parts.alarms.rows, self.parts.setup.found, self.parts.setup.listed):  # fmt: skip
            clicked = part.click(
                self._click, self.state, self.painted, trigger_mode="multiple", **_SIDE_BY_SIDE
            )
            self.answered(clicked)
            if part is self.parts.alarms.rows:
                clicked.then(None, js=_TO_ALARM)
            else:
                clicked.then(None, js=_TO_MARK)
        chat.new.click(
            self.changing(self._begin_anew), self.state, [*self.painted, self.number], **_QUIET
        )

    def answered(self, event: Any) -> None:
        """Let a question that an event put be answered when its turn comes."""

        def answer(thread: Thread | None) -> Updates:
            if thread is None or not thread.asked:
                return self.painter.nothing()
            answer_question(thread)
            with thread.lock:
                return self.painter.paint(thread) | {
                    self.number: thread.conversation.number or None
                }

        event.then(None, js=_TO_QUESTION).then(
            answer, self.state, [*self.painted, self.number], **_ONE_BY_ONE
        ).then(None, js=_TO_QUESTION)

    def _begin_anew(self, thread: Thread) -> Updates:
        fresh = begin_thread(self.session, thread.subject, thread.who, named=False)
        thread.conversation, thread.lines, thread.asked = fresh.conversation, [], ""
        return {self.number: None}

    def _click(self, thread: Thread | None, event: gr.EventData) -> Updates:
        if thread is None:
            return self.painter.nothing()
        with thread.lock:
            take_click(thread, read_click(event._data))
            return self.painter.paint(thread)

    # ---- Alarms, devices, the report ----

    def _connect_alarms(self) -> None:
        alarms, history = self.parts.alarms, self.session.history

        def select(thread: Thread, states: str, words: str) -> None:
            thread.wanted = replace(thread.wanted, states=states, words=words or "")

        gr.on(
            [alarms.states.input, alarms.words.change], self.changing(select),
            [self.state, alarms.states, alarms.words], self.painted, trigger_mode="always_last",
            **_SIDE_BY_SIDE,
        )  # fmt: skip
        told = [*self.painted, alarms.said]
        for act in ("ask", "acknowledge", "device", "undo"):

            def press(thread: Thread, act: str = act) -> Updates:
                said = act_on_alarm(thread, act, history)
                return {alarms.said: f'<p class="said">{safe(said)}</p>' if said else ""}

            pressed = getattr(alarms, act).click(
                self.changing(press), self.state, told, **_SIDE_BY_SIDE
            )
            if act == "ask":
                self.answered(pressed)

        def shelve(thread: Thread, why: str, span: str) -> Updates:
            said = act_on_alarm(thread, "shelve", history, why, SHELVING_S[span])
            return {alarms.said: f'<p class="said">{safe(said)}</p>'}

        inputs = [self.state, alarms.why, alarms.span]
        gr.on(
            [alarms.shelve.click, alarms.why.submit],
            self.changing(shelve),
            inputs,
            told,
            **_SIDE_BY_SIDE,
        )

    def _connect_device(self) -> None:
        device = self.parts.device

        def pick(thread: Thread, address: str | None) -> None:
            if address:
                open_device(thread, address)

        def widen(thread: Thread) -> None:
            thread.span = None

        picked = [self.state, device.picker]
        device.picker.input(self.changing(pick), picked, self.painted, **_SIDE_BY_SIDE)
        device.whole.click(self.changing(widen), self.state, self.painted, **_SIDE_BY_SIDE)

    def _connect_report(self) -> None:
        report, history = self.parts.report, self.session.history

        def make(thread: Thread | None, hours: str) -> Updates:
            if thread is None:
                return {report.text: gr.skip()}
            text = make_report(thread.subject, history, HOURS[hours], thread.who)
            files = write_report(text, Path(report.download.GRADIO_CACHE))
            return {
                report.text: render_report(text),
                report.download: gr.DownloadButton(value=files.markdown, visible=True),
                report.pdf: gr.DownloadButton(value=files.pdf, visible=True),
            }

        report.make.click(
            make,
            [self.state, report.hours],
            [report.text, report.download, report.pdf],
            **_SIDE_BY_SIDE,
        )


def _opener(view: str) -> Callable[[Thread], None]:
    def show(thread: Thread) -> None:
        thread.view = thread.shown["view"] = view

    return show


def mount_options() -> dict[str, Any]:
    """What ``gradio.mount_gradio_app`` needs: looks, keys, bounds, and nothing from outside."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Liberation Sans", "sans-serif"]
    mono = ["ui-monospace", "Liberation Mono", "monospace"]
    beside = Path(__file__).parent
    return {
        "ssr_mode": False,
        "pwa": False,
        "enable_monitoring": False,
        "footer_links": [],
        "max_file_size": "200mb",
        "theme": gr.themes.Base(
            primary_hue="slate", neutral_hue="slate", font=fonts, font_mono=mono
        ),
        "css_paths": beside / "app.css",
        "js": (beside / "app.js").read_text(encoding="utf-8"),
    }
