"""The operators' page: devices, chat and evidence side by side, on 127.0.0.1 only.

    browser ── question ──▶ Conversation (one per tab) ──▶ answer, evidence
                capture ──▶ Analysis, then a new Conversation

Nothing is fetched from elsewhere: system fonts, no analytics, and a content policy that makes the
browser refuse.
"""

import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from assistant.answers.condition import judge_all
from assistant.answers.states import short_state
from assistant.chat import Conversation
from assistant.detection.incidents import Incident
from assistant.detection.pipeline import Analysis
from assistant.diagnosis import Diagnosis
from assistant.diagnosis.grounding import Citation
from assistant.diagnosis.health import DeviceState, list_devices
from assistant.offline import go_offline
from assistant.questions.entities import worst_first
from assistant.report import clock
from assistant.session import Session
from traffic.errors import UserError
from traffic.labels import TAXONOMY

# ---- The pieces of the page as HTML ----
# Text from a capture, a document or a model is escaped here and nowhere else.

# A shape and a word for each state, so that a page without colour says the same.
_SHAPES = {"high": "▲", "medium": "◆", "low": "■", "normal": "○", "unsure": "◇"}
_WORDS = {state: state for state in _SHAPES} | {"unsure": "unclear"}
# What people declared of an incident, by the state's first word.
_MARKS = {"acknowledged": "✓", "confirmed": "✓", "false": "×", "shelved": "‖", "another": "≠"}
_STANDINGS = {
    "confirmed": "Confirmed: the thing itself was measured.",
    "likely": "Likely: the traffic looks so, but what would prove it is missing.",
    "inconclusive": "Inconclusive: the evidence does not settle the cause.",
    "normal": "Normal: what was judged was normal, and no failure was counted.",
}
# Kinds of questions whose answer is a judgement of the device.
_JUDGED = (
    "why", "wrong", "health", "since", "checks", "affected", "attack", "security", "certainty", "against",
)  # fmt: skip

# Gradio fills its components' templates with these characters; text from outside must not.
_TEMPLATE = str.maketrans({"{": "&#123;", "}": "&#125;", "$": "&#36;", "`": "&#96;"})


def safe(text: object) -> str:
    """Text as HTML shows it, whoever wrote it.

    >>> safe("<b>${x}</b>")
    '&lt;b&gt;&#36;&#123;x&#125;&lt;/b&gt;'
    """
    return html.escape(str(text)).translate(_TEMPLATE)


def render_bar(analysis: Analysis | None, name: str) -> str:
    """The line at the top: which capture, from when to when."""
    if analysis is None:
        what = "no capture is open"
    else:
        capture = analysis.capture
        span = f"{clock(capture.start_s)} to {clock(capture.end_s)} UTC"
        what = f"{safe(name)} · {span} · {len(analysis.windows):,} windows"
    return (
        f'<div class="bar"><h1>faultwise</h1><span class="what">{what}</span>'
        '<span class="here">on this machine only</span></div>'
    )


def render_plant(
    devices: Sequence[DeviceState],
    incidents: Sequence[Incident],
    notes: Sequence[str],
    judged: str = "",
    states: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Devices and incidents as rows that can be chosen.

    Args:
        devices: the worst first.
        incidents: the worst first.
        notes: what the reader of the capture noted.
        judged: what was judged beside the incidents, and what could not be; the one all-clear.
        states: of incidents by id, "shelved until 18:00"; one that is not in it is active.
    """
    if not devices:
        empty = '<p class="empty">Open a capture to see its devices.</p>'
        return f'<div class="panel"><h2>Devices</h2>{empty}</div>'
    found = ""
    if incidents:
        listed = "".join(_incident_row(one, states.get(one.id, "")) for one in incidents)
        found = f'<div class="rows">{listed}</div>'
    found += f'<p class="empty">{safe(judged)}</p>' if judged else ""
    rows = "".join(_device_row(one) for one in devices)
    below = f"<h2>About this capture</h2>{_listed('ul', notes)}" if notes else ""
    return (
        f'<div class="panel"><h2>Incidents</h2>{found}'
        f'<h2>Devices</h2><div class="rows">{rows}</div>{below}</div>'
    )


def _device_row(one: DeviceState) -> str:
    address = one.address if one.name != one.address else ""
    under = " · ".join(filter(None, [address, one.role, one.words]))
    return _row(one.state, one.address, one.name, under)


def _incident_row(one: Incident, state: str) -> str:
    under = f"{one.device} · {clock(one.start_s)[11:]} to {clock(one.end_s)[11:]} UTC"
    if state and state != "active":
        under = f"{_MARKS.get(state.split()[0], '•')} {state} · {under}"
    return _row(one.severity, one.device, TAXONOMY[one.label].meaning, under)


def _row(state: str, device: str, name: str, under: str) -> str:
    return (
        f'<button class="{safe(state)}" data-device="{safe(device)}">'
        f'<span class="state">{_SHAPES[state]}</span>'
        f'<span class="name">{safe(name)}</span><span class="state">{_WORDS[state]}</span>'
        f'<span class="under">{safe(under)}</span></button>'
    )


# What an answer's text is made of, line by line; everything in a line is text.
_LINE = re.compile(r"(?P<mark>[-*] |(?P<number>\d+)\. |> )?(?P<text>.*)")
_TAGS = {"- ": "ul", "* ": "ul", "> ": "blockquote"}


def render_message(text: str) -> str:
    """An answer as HTML: headlines, lists and quotations that the line's beginning marks, the rest
    as the text it is, so that no name becomes a link, a picture or emphasis.

    >>> render_message("**Yes.**\\n- [x](http://y)")
    '<p><strong>Yes.</strong></p><ul><li>[x](http://y)</li></ul>'
    """
    parts: list[str] = []
    lines = [one[0] for one in map(_LINE.match, text.splitlines()) if one and one[0].strip()]
    for tag, group in groupby(lines, key=_tag):
        found = [one for one in map(_LINE.match, group) if one]
        first = found[0]["number"]
        start = f' start="{first}"' if first else ""
        inner = "li" if tag in ("ul", "ol") else "p"
        items = "".join(f"<{inner}>{_strong(one['text'])}</{inner}>" for one in found)
        parts.append(items if tag == "p" else f"<{tag}{start}>{items}</{tag}>")
    return "".join(parts)


def _tag(line: str) -> str:
    found = _LINE.match(line)
    mark = (found["mark"] or "") if found else ""
    return _TAGS.get(mark, "ol" if mark else "p")


def _strong(text: str) -> str:
    """Text with its beginning strong where ``**`` marks that."""
    found = re.fullmatch(r"\*\*(.+?)\*\*(.*)", text)
    return f"<strong>{safe(found[1])}</strong>{safe(found[2])}" if found else safe(text)


def render_evidence(diagnosis: Diagnosis | None) -> str:
    """What the answer rests on, beside the answer."""
    if diagnosis is None or diagnosis.refused:
        return (
            '<div class="panel"><h2>Evidence</h2><p class="empty">What an answer rests on stands '
            "here: the facts that were measured, what to check, and the passages it cites."
            "</p></div>"
        )
    parts = [_section("Measured", "ul", [fact.text for fact in diagnosis.facts])]
    if diagnosis.kind in _JUDGED:  # how many packets there were is counted, not judged
        sure = safe(_STANDINGS[diagnosis.standing])
        parts = [
            f'<div class="sure"><b>How sure</b><span>{sure}</span></div>',
            *parts,
            _section("Check next", "ol", diagnosis.checks),
            _section("Ruled out", "ul", diagnosis.ruled_out),
        ]
    parts += [
        _cited("From the manuals", diagnosis.citations),
        _cited("Past incidents", diagnosis.similar),
        _section("Notes", "ul", diagnosis.notes),
    ]
    return f'<div class="panel"><h2>Evidence</h2>{"".join(parts)}</div>'


def _cited(title: str, citations: Sequence[Citation]) -> str:
    details = "".join(
        f"<details><summary>[{one.number}] {safe(one.place)}</summary>"
        f"<blockquote>{safe(one.excerpt)}</blockquote></details>"
        for one in citations
    )
    return f"<h2>{title}</h2>{details}" if details else ""


def _section(title: str, kind: str, items: Sequence[str]) -> str:
    return f"<h2>{title}</h2>{_listed(kind, items)}" if items else ""


def _listed(kind: str, items: Iterable[str]) -> str:
    return f"<{kind}>{''.join(f'<li>{safe(item)}</li>' for item in items)}</{kind}>"


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
    return render_plant(thread.devices, incidents, found.capture.notes, thread.judged, states)


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
