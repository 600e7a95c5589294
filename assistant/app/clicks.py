"""What a click on a row, a button or a citation does to a tab."""

from dataclasses import dataclass
from typing import Any

from assistant.app.thread import Thread, put_question, take_remark
from assistant.app.views.alarms import declare, find_alarm, question_of
from assistant.history import History
from traffic.errors import UserError

# Sent by the browser for whatever carries ``data-act``, with what else the element carries.
ON_CLICK = """element.addEventListener('click', (event) => {
  const at = event.target.closest('[data-act]');
  if (at) trigger('click', { ...at.dataset });
});"""
_MARGIN_S = 60.0  # before and after an interval that a fact names


@dataclass(frozen=True)
class Click:
    """A click as the browser tells it; texts may be anything."""

    act: str
    id: str = ""
    device: str = ""
    label: str = ""
    chunk: str = ""
    excerpt: str = ""
    start: str = ""
    end: str = ""


def read_click(sent: Any) -> Click:
    """The click that an event carries; what is not known of it is left out."""
    known = sent if isinstance(sent, dict) else {}
    return Click(**{name: str(known.get(name) or "") for name in Click.__dataclass_fields__})


def take_click(thread: Thread, click: Click) -> None:
    """Change the tab as a click asks for."""
    if click.act == "choose":
        thread.chosen = "" if thread.chosen == click.id else click.id
    elif click.act == "device":
        open_device(thread, click.device)
    elif click.act == "interval":
        open_device(thread, click.device, _read_span(click))
    elif click.act == "ask":
        put_question(
            thread, f"What is wrong with {thread.subject.plant.short_name_of(click.device)}?"
        )
    elif click.act == "cite" and click.chunk:
        thread.cited, thread.view = (click.chunk, click.excerpt), "setup"
    elif click.act in ("confirm", "wrong", "false_alarm"):
        take_remark(thread, click.act, click.id, click.label)


def open_device(thread: Thread, device: str, span: tuple[float, float] | None = None) -> None:
    """Show the page of a device, of all the time or a part of it."""
    thread.device, thread.span, thread.view = device, span, "device"


def act_on_alarm(
    thread: Thread, act: str, history: History, why: str = "", span_s: float = 0.0
) -> str:
    """What a button below the chosen alarm does; returns what to say of it, "" for nothing."""
    found = find_alarm(thread.subject, history, thread.chosen)
    if found is None:
        return "Choose an alarm first."
    if act == "ask":
        put_question(thread, question_of(found.alarm, thread.subject.plant))
        return ""
    if act == "device":
        open_device(thread, found.alarm.device)
        return ""
    try:
        return declare(history, found.alarm, act, thread.who, why, span_s)
    except UserError as mistake:
        return str(mistake)


def _read_span(click: Click) -> tuple[float, float] | None:
    try:
        start_s, end_s = float(click.start), float(click.end)
    except ValueError:
        return None
    return start_s - _MARGIN_S, end_s + _MARGIN_S
