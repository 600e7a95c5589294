"""The operators' page: devices, chat and evidence side by side, on 127.0.0.1 only.

    browser ── question ──▶ Conversation (one per tab) ──▶ answer, evidence
                capture ──▶ Analysis, then a new Conversation

Nothing is fetched from elsewhere: system fonts, no analytics, and a content policy that makes the
browser refuse.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from assistant.answers.condition import judge_all
from assistant.answers.states import short_state
from assistant.app.panels import render_bar, render_evidence, render_message, render_plant
from assistant.chat import Conversation
from assistant.detection.pipeline import Analysis
from assistant.diagnosis.compose import clock_of
from assistant.diagnosis.health import DeviceState, list_devices
from assistant.offline import go_offline
from assistant.questions.entities import worst_first
from assistant.session import Session
from traffic.errors import UserError

# ---- How the page is served: to this machine, with nothing from elsewhere ----

ADDRESS = "127.0.0.1"
UPLOAD = "200mb"
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "worker-src 'self' blob:; frame-ancestors 'none'"
)
_HEADERS = {
    b"content-security-policy": _POLICY.encode(),
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
}


def serve(session: Session, capture: Path | None, port: int) -> gr.Blocks:
    """Start serving the page and return it; ``block_thread`` waits until it is interrupted.

    Raises:
        UserError: the capture cannot be read, or the port is taken.
    """
    analysis = session.analyse(capture) if capture else None
    page = build_page(session, analysis, capture.name if capture else "")
    # The sentence model loads now, so that the first operator does not wait for it.
    session.index.read_question("is anything wrong?")
    try:
        page.launch(server_port=port, prevent_thread_lock=True, quiet=True, **launch_options())
    except OSError as mistake:
        raise UserError(
            f"port {port} on {ADDRESS} cannot be used: {mistake}; choose another with --port"
        ) from mistake
    return page


def launch_options() -> dict[str, Any]:
    """How the page is served: to this machine, without share links, API pages or anything fetched
    from outside."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Liberation Sans", "sans-serif"]
    mono = ["ui-monospace", "Liberation Mono", "monospace"]
    # A page on another site could reach this one by a name that resolves to loopback: only our own
    # names are served.
    guards = [
        Middleware(TrustedHostMiddleware, allowed_hosts=[ADDRESS, "localhost"]),
        Middleware(_Sealed),
    ]
    return {
        "server_name": ADDRESS,
        "share": False,
        "ssr_mode": False,
        "pwa": False,
        "enable_monitoring": False,
        "footer_links": [],
        "max_file_size": UPLOAD,
        "app_kwargs": {"middleware": guards},
        "theme": gr.themes.Base(
            primary_hue="slate", neutral_hue="slate", font=fonts, font_mono=mono
        ),
        "css_paths": Path(__file__).with_name("app.css"),
    }


class _Sealed:
    """Tell the browser on every answer that nothing but this page may be loaded (CSP level 3,
    W3C)."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sealed(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS.items()]
            await send(message)

        await self._app(scope, receive, sealed)


# ---- The page and what happens on it ----

QUESTION_CHARS = 500
REFRESH_S = 20.0  # a shelved incident comes back without a question
SUGGESTIONS = ("What is wrong?", "More", "Since when?", "What to check first?", "Seen before?")
# An answer is longer than the panel: show where it starts, under its question.
_TO_QUESTION = """() => {
  const asked = document.querySelectorAll('#chat .user');
  if (asked.length) asked[asked.length - 1].scrollIntoView({ block: 'start' });
}"""
# A row of the plant panel was chosen: its device is all that the page says of it.
_CHOOSE = """element.addEventListener('click', (event) => {
  const row = event.target.closest('button[data-device]');
  if (row) trigger('click', { device: row.dataset.device });
});"""


@dataclass
class Thread:
    """What one browser tab is talking about.

    Attributes:
        name: of the capture, as the page calls it.
        analysis: the capture; None where none is open.
        conversation: about it.
        devices: of the capture, the worst first.
        judged: what was judged beside the incidents.
        plant: the plant panel as the page shows it.
    """

    name: str
    analysis: Analysis | None
    conversation: Conversation
    devices: Sequence[DeviceState] = ()
    judged: str = ""
    plant: str = ""


def build_page(session: Session, analysis: Analysis | None, name: str) -> gr.Blocks:
    """Lay the page out and connect it.

    Args:
        session: models, knowledge base and history, shared by all tabs.
        analysis: the capture that a new tab starts with, if any.
        name: what the page calls that capture.
    """
    go_offline()

    def begin() -> tuple[Thread, str, str]:
        return _show(_start(session, analysis, name))

    def open_capture(upload: str, messages: list[Any]) -> tuple[Any, ...]:
        path = Path(upload)
        try:
            thread = _start(session, session.analyse(path), path.name)
        except UserError as mistake:
            why = str(mistake).replace(str(path), path.name)
            answer, kept = _message(f"That capture was not opened: {why}"), gr.skip()
            return kept, kept, kept, [*messages, answer], kept
        finally:
            path.unlink(missing_ok=True)  # traffic stays on the machine no longer than it is needed
        return *_show(thread), [], render_evidence(None)

    def choose(thread: Thread, messages: list[Any], event: gr.EventData) -> Iterator[Any]:
        yield from _answer(f"What is wrong with {event.device}?", thread, messages)

    with gr.Blocks(
        title="faultwise", analytics_enabled=False, fill_width=True, delete_cache=(600, 3600)
    ) as page:
        state = gr.State(None)
        parts = _lay_out(render_bar(analysis, name), _welcome(analysis))
        # One question at a time: the models and the knowledge base are shared by all tabs.
        once = {"concurrency_id": "desk", "concurrency_limit": 1, "api_visibility": "private"}
        answered = [parts.box, parts.chat, parts.evidence, parts.plant]
        answer = {"outputs": answered, "show_progress": "hidden", **once}
        sent, typed = [parts.box.submit, parts.send.click], [parts.box, state, parts.chat]
        questions = [
            gr.on(sent, _answer, typed, **answer),
            *(hint.click(_answer, [hint, state, parts.chat], **answer) for hint in parts.hints),
            parts.plant.click(choose, [state, parts.chat], **answer),
        ]
        for one in questions:
            one.then(None, js=_TO_QUESTION)
        tick = {"show_progress": "hidden", "api_visibility": "private"}
        gr.Timer(REFRESH_S).tick(_refresh, state, parts.plant, **tick)  # type: ignore[arg-type]
        panels = [state, parts.bar, parts.plant]
        page.load(begin, outputs=panels, show_progress="hidden", api_visibility="private")
        opened = [*panels, parts.chat, parts.evidence]
        parts.upload.upload(open_capture, [parts.upload, parts.chat], opened, **once)
    return page


@dataclass(frozen=True)
class Parts:
    """The components of the page that events read or change."""

    bar: Any
    plant: Any
    upload: Any
    chat: Any
    box: Any
    send: Any
    hints: list[Any]
    evidence: Any


def _lay_out(bar: str, welcome: str) -> Parts:
    """Incidents and devices, conversation, evidence: three columns, one under the other on a narrow
    screen."""
    top = gr.HTML(bar)
    with gr.Row(elem_id="desk", equal_height=False):
        with gr.Column(scale=3, min_width=270, elem_id="plant"):
            plant = gr.HTML(js_on_load=_CHOOSE)
            upload = gr.UploadButton("Open a capture", size="sm", variant="secondary")
        with gr.Column(scale=5, min_width=320, elem_id="talk"):
            chat = gr.Chatbot(
                elem_id="chat", show_label=False, buttons=[], autoscroll=False,
                placeholder=welcome, render_markdown=False, latex_delimiters=[],
            )  # fmt: skip
            with gr.Row():
                box = gr.Textbox(
                    placeholder="Ask why a device behaves as it does", show_label=False,
                    container=False, scale=8, max_length=QUESTION_CHARS, autofocus=True,
                    elem_id="question",
                )  # fmt: skip
                send = gr.Button("Ask", variant="primary", scale=1, min_width=72)
            with gr.Row(elem_id="suggestions"):
                hints = [
                    gr.Button(text, size="sm", variant="secondary", min_width=90)
                    for text in SUGGESTIONS
                ]
        with gr.Column(scale=4, min_width=300, elem_id="evidence"):
            evidence = gr.HTML(render_evidence(None))
    return Parts(top, plant, upload, chat, box, send, hints, evidence)


def _start(session: Session, analysis: Analysis | None, name: str) -> Thread:
    writer = session.models.writer
    talk = Conversation(analysis, session.index, session.history, writer)
    if analysis is None:
        return Thread(name, None, talk)
    return Thread(name, analysis, talk, list_devices(analysis), judge_all(analysis).line.text)


def _show(thread: Thread) -> tuple[Thread, str, str]:
    thread.plant = _plant(thread)
    return thread, render_bar(thread.analysis, thread.name), thread.plant


def _plant(thread: Thread) -> str:
    found, history = thread.analysis, thread.conversation.history
    if found is None:
        return render_plant([], [], ())
    ids = [one.id for one in found.incidents] if history else []
    states = {one: short_state(one, history) for one in ids} if history else {}
    incidents = worst_first(list(found.incidents))
    shown = clock_of(found)
    return render_plant(
        thread.devices, incidents, found.capture.notes, thread.judged, states, shown
    )


def _refresh(thread: Thread | None) -> Any:
    """The plant panel where it changed: a remark was kept, a shelved incident came back."""
    if thread is None or (plant := _plant(thread)) == thread.plant:
        return gr.skip()
    thread.plant = plant
    return plant


def _welcome(analysis: Analysis | None) -> str:
    if analysis is None:
        return "Open a capture, then ask why a device behaves as it does."
    return "Ask why a device behaves as it does, or choose one from the list."


def _answer(
    question: str, thread: Thread, messages: list[dict[str, Any]]
) -> Iterator[tuple[str, list[Any], Any, Any]]:
    """Show the question at once, then the answer with what it rests on; text appears only after it
    was checked."""
    kept = gr.skip()
    if not question.strip():
        yield "", messages, kept, kept
        return
    messages = [*messages, _message(question.strip(), "user")]
    yield "", [*messages, _message("Looking at the capture…")], kept, kept
    try:
        reply = thread.conversation.reply(question.strip()[:QUESTION_CHARS])
    except UserError as mistake:
        answer = _message(f"That did not work: {mistake}")
        yield question, [*messages, answer], kept, kept
        return
    shown = render_evidence(reply.diagnosis) if reply.diagnosis else kept
    yield "", [*messages, _message(reply.text)], shown, _refresh(thread)


def _message(text: str, role: str = "assistant") -> dict[str, str]:
    return {"role": role, "content": render_message(text)}
