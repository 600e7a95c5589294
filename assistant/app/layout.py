"""The components of the page, and where they stand: views at the left, the chat at the right; on a
phone one under the other, alarms first."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from assistant.app.clicks import ON_CLICK
from assistant.app.roles import ROWS
from assistant.app.thread import QUESTION_CHARS
from assistant.app.views.alarms import FILTERS, SHELVING_S
from assistant.app.views.shift import HOURS

SUGGESTIONS = ("What is wrong?", "More", "Since when?", "What to check first?", "Seen before?")
VIEWS = {"alarms": "Alarms", "plant": "Plant", "device": "Device", "report": "Report", "setup": "Set up"}  # fmt: skip


@dataclass(frozen=True)
class AlarmParts:
    """The list, the chosen alarm, and what is done with it; ``said`` tells what came of it."""

    states: Any
    words: Any
    rows: Any
    one: Any
    ask: Any
    acknowledge: Any
    device: Any
    undo: Any
    why: Any
    span: Any
    shelve: Any
    said: Any


@dataclass(frozen=True)
class DeviceParts:
    """Who it is, its curves, with whom it talks; ``whole`` shows all of the time again."""

    picker: Any
    head: Any
    whole: Any
    rates: Any
    delays: Any
    troubles: Any
    foot: Any


@dataclass(frozen=True)
class ReportParts:
    """The shift report."""

    hours: Any
    make: Any
    download: Any
    pdf: Any
    text: Any


@dataclass(frozen=True)
class ChatParts:
    """The conversation, and where a question is written."""

    lines: Any
    box: Any
    send: Any
    hints: list[Any]
    new: Any


@dataclass(frozen=True)
class SetupParts:
    """Captures and plant.yaml, documents, adapters; ``for_engineers`` are the rows that only they
    see: operators look documents up."""

    capture: Any
    plant_file: Any
    back: Any
    cancel: Any
    said: Any
    passage: Any
    question: Any
    find: Any
    found: Any
    listed: Any
    about: Any
    add: Any
    document: Any
    remove: Any
    check: Any
    draft: Any
    discover: Any
    drafted: Any
    adapters: Any
    site: Any
    use: Any
    written: Any
    writers: Any
    allow: Any
    for_engineers: list[Any]


@dataclass(frozen=True)
class Parts:
    """All that events read or change."""

    bar: Any
    tabs: Any
    views: dict[str, Any]
    alarms: AlarmParts
    plant: Any
    device: DeviceParts
    report: ReportParts
    setup: SetupParts
    chat: ChatParts


def lay_out() -> Parts:
    """Make the components."""
    bar = gr.HTML(elem_id="bar")
    views: dict[str, Any] = {}
    with gr.Row(elem_id="desk", equal_height=False):
        with gr.Column(scale=7, min_width=320, elem_id="left"):  # noqa: SIM117 - as it nests
            with gr.Tabs(selected="alarms", elem_id="views") as tabs:
                with gr.Tab(VIEWS["alarms"], id="alarms") as views["alarms"]:
                    alarms = _lay_out_alarms()
                with gr.Tab(VIEWS["plant"], id="plant") as views["plant"]:
                    plant = gr.HTML(js_on_load=ON_CLICK, elem_id="plant")
                with gr.Tab(VIEWS["device"], id="device") as views["device"]:
                    device = _lay_out_device()
                with gr.Tab(VIEWS["report"], id="report") as views["report"]:
                    report = _lay_out_report()
                with gr.Tab(VIEWS["setup"], id="setup") as views["setup"]:
                    setup = _lay_out_setup()
        with gr.Column(scale=5, min_width=320, elem_id="talk"):
            chat = _lay_out_chat()
    return Parts(bar, tabs, views, alarms, plant, device, report, setup, chat)


def _lay_out_alarms() -> AlarmParts:
    with gr.Row(elem_classes="tools"):
        states = gr.Dropdown(
            list(FILTERS), value="All", show_label=False, container=False, min_width=120, scale=1,
            elem_id="filter",
        )  # fmt: skip
        words = gr.Textbox(
            placeholder="Device, cause, state…", show_label=False, container=False, scale=3,
            max_length=80, elem_id="filter-words",
        )  # fmt: skip
    with gr.Row(elem_id="alarm-view", equal_height=False):
        with gr.Column(min_width=300):
            rows = gr.HTML(js_on_load=ON_CLICK, elem_id="alarms")
        with gr.Column(min_width=300, elem_id="chosen"):
            with gr.Row(elem_classes="tools"):
                ask = gr.Button("Ask why", variant="primary", min_width=80, elem_id="ask-why")
                acknowledge = gr.Button("Acknowledge", min_width=80, elem_id="acknowledge")
                device = gr.Button("Open device", min_width=80)
                undo = gr.Button("Undo", min_width=60, elem_id="undo")
            one = gr.HTML(js_on_load=ON_CLICK, elem_id="alarm")
            with gr.Row(elem_classes="tools"):
                why = gr.Textbox(
                    placeholder="Why?", show_label=False, container=False, max_lines=1,
                    max_length=300, scale=3, min_width=105, elem_id="why",
                )  # fmt: skip
                span = gr.Dropdown(
                    list(SHELVING_S), value="8 hours", show_label=False, container=False,
                    scale=3, min_width=135,
                )  # fmt: skip
                shelve = gr.Button("Shelve", scale=1, min_width=70, elem_id="shelve")
            said = gr.HTML(elem_id="said")
    return AlarmParts(
        states, words, rows, one, ask, acknowledge, device, undo, why, span, shelve, said
    )


def _lay_out_device() -> DeviceParts:
    picker = gr.Dropdown([], show_label=False, container=False, elem_id="picker", filterable=True)
    head = gr.HTML(js_on_load=ON_CLICK, elem_id="device-head")
    whole = gr.Button("Show all of the time", size="sm", visible=False)
    x_y: dict[str, Any] = {
        "x": "time",
        "y": "value",
        "color": "kind",
        "height": 190,
        "color_title": " ",
        "x_title": " ",
        "x_axis_format": "%H:%M",
        "buttons": [],
        "elem_classes": "plot",
    }
    colours = {"sent": "#3f7d97", "received": "#8a959c"}
    rates = gr.LinePlot(title="Kilobytes in ten seconds", y_title="kB", color_map=colours, **x_y)
    delays = gr.LinePlot(title="Milliseconds until an answer", y_title="ms", **x_y)
    troubles = gr.LinePlot(title="What failed in ten seconds", y_title="attempts", **x_y)
    foot = gr.HTML(js_on_load=ON_CLICK, elem_id="device-foot")
    return DeviceParts(picker, head, whole, rates, delays, troubles, foot)


def _lay_out_report() -> ReportParts:
    with gr.Row(elem_classes="tools"):
        hours = gr.Dropdown(
            list(HOURS), value=next(iter(HOURS)), show_label=False, container=False, min_width=180
        )
        make = gr.Button(
            "Make the shift report", variant="primary", min_width=140, elem_id="report"
        )
        download = gr.DownloadButton("Markdown", visible=False, size="md", min_width=90)
        pdf = gr.DownloadButton("PDF", visible=False, size="md", min_width=70, elem_id="pdf")
    text = gr.HTML(elem_id="report-text")
    return ReportParts(hours, make, download, pdf, text)


def _lay_out_setup() -> SetupParts:
    said = gr.HTML(elem_id="setup-said")
    with gr.Row(elem_classes=["tools", ROWS], elem_id="setup-capture") as opening:
        capture = gr.UploadButton("Open a capture", min_width=120)
        plant_file = gr.UploadButton(
            "Use a plant.yaml", file_types=[".yaml", ".yml"], min_width=120
        )
        back = gr.Button("Back to what was watched", min_width=120, visible=False)
        cancel = gr.Button("Cancel", variant="stop", min_width=80, visible=False, elem_id="cancel")
    passage = gr.HTML(elem_id="passage")
    with gr.Accordion("Documents", open=False):
        with gr.Row(elem_classes="tools"):
            question = gr.Textbox(
                placeholder="Search the documents", show_label=False, container=False, scale=4,
                max_length=300, elem_id="search",
            )  # fmt: skip
            find = gr.Button("Search", min_width=70, scale=1)
        found = gr.HTML(js_on_load=ON_CLICK, elem_id="found")
        listed = gr.HTML(js_on_load=ON_CLICK, elem_id="documents")
        with gr.Row(elem_classes=["tools", ROWS]) as adding:
            about = gr.Textbox(
                placeholder="Make and model that they are about, or 'general'", show_label=False,
                container=False, scale=3, max_length=120,
            )  # fmt: skip
            add = gr.UploadButton(
                "Add or replace", file_count="multiple", min_width=110, elem_id="add"
            )
        with gr.Row(elem_classes=["tools", ROWS]) as removing:
            document = gr.Dropdown([], label="Document to remove", scale=3)
            remove = gr.Button("Remove", min_width=80)
            check = gr.Button("Check all", min_width=80)
    with gr.Accordion("Names and roles of devices", open=False, elem_classes=ROWS) as naming:
        discover = gr.Button("Propose a plant.yaml from this traffic", size="sm")
        drafted = gr.Code(language="yaml", show_label=False, max_lines=24, visible=False)
        draft = gr.DownloadButton("Download the proposal", size="sm", visible=False)
    with gr.Accordion("Who may write to whom", open=False, elem_classes=ROWS) as writing:
        written = gr.HTML(elem_id="written")
        writers = gr.CheckboxGroup([], show_label=False, container=False, elem_id="writers")
        allow = gr.Button("Allow these writers", size="sm")
    with gr.Accordion("Models of sites", open=False, elem_classes=ROWS) as choosing:
        adapters = gr.HTML(elem_id="adapters")
        with gr.Row(elem_classes="tools"):
            site = gr.Dropdown([], label="Model to use", scale=3)
            use = gr.Button("Use this one", min_width=90)
    return SetupParts(
        capture, plant_file, back, cancel, said, passage, question, find, found, listed, about, add,
        document, remove, check, draft, discover, drafted, adapters, site, use,
        written, writers, allow, [opening, adding, removing, naming, writing, choosing],
    )  # fmt: skip


def _lay_out_chat() -> ChatParts:
    with gr.Row(elem_classes="tools", elem_id="talk-head"):
        gr.HTML('<h2 class="head">Ask</h2>')
        dark = gr.Button("Light or dark", size="sm", min_width=90, scale=0, elem_id="dark")
        new = gr.Button("New conversation", size="sm", min_width=120, scale=0, elem_id="new")
    del dark  # the browser's own script listens to it
    lines = gr.HTML(js_on_load=ON_CLICK, elem_id="thread")
    with gr.Row(elem_id="asking"):
        box = gr.Textbox(
            placeholder="Ask about a device", show_label=False, container=False, max_lines=4,
            scale=8, max_length=QUESTION_CHARS, elem_id="question",
        )  # fmt: skip
        send = gr.Button("Ask", variant="primary", scale=1, min_width=72, elem_id="send")
    with gr.Row(elem_id="suggestions"):
        hints = [gr.Button(text, size="sm", min_width=90) for text in SUGGESTIONS]
    return ChatParts(lines, box, send, hints, new)
