"""One browser tab: whose it is, what it shows, and what was said in it.

page.load ──▶ Thread (a kept conversation goes on) ──▶ question ──▶ answer, shown and kept
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from assistant.app.subject import Subject
from assistant.app.views.alarms import Filter
from assistant.app.views.evidence import Evidence, make_evidence, read_evidence, render_answer
from assistant.app.views.markup import render, render_message
from assistant.chat import Conversation
from assistant.chat.feedback import Remark
from assistant.diagnosis.playbook import read_playbook
from assistant.facts.moments import Clock
from assistant.history import History
from assistant.monitor.alarm_list import Alarm, read_incident
from assistant.session import Session
from traffic.errors import UserError
from traffic.labels import LABELS, NORMAL

MOST_SHOWN = 60  # messages; older ones stay in the history
QUESTION_CHARS = 500
_LOOKING = "Looking at the plant…"


@dataclass(frozen=True)
class Line:
    """One message as it is shown: ``operator`` or ``assistant``, its text, what it rests on."""

    role: str
    text: str
    evidence: Evidence | None = None


@dataclass
class Thread:
    """What one tab shows.

    Attributes:
        who: the operator.
        subject: the plant or capture.
        conversation: about it.
        lines: of the conversation, the oldest first.
        asked: a question that waits for its answer, "" for none.
        view: the tab that is open.
        chosen: the incident whose alarm is looked at.
        device: the one that the device's page shows.
        span: the part of the time that is shown there, seconds since the epoch.
        cited: the chunk whose document is open, and the words of it that are marked.
        wanted: which alarms are listed.
        shown: what the page shows already, by the name of its part.
        work: what is read for it, None for nothing.
        lock: held while an event changes the tab and paints it.
    """

    who: str
    subject: Subject
    conversation: Conversation
    lines: list[Line] = field(default_factory=list)
    asked: str = ""
    view: str = "alarms"
    chosen: str = ""
    device: str = ""
    span: tuple[float, float] | None = None
    cited: tuple[str, str] = ("", "")
    wanted: Filter = field(default_factory=Filter)
    shown: dict[Any, object] = field(default_factory=dict)
    work: Any = None
    lock: threading.Lock = field(default_factory=threading.Lock)


def begin_thread(
    session: Session, subject: Subject, who: str, named: bool, number: int | None = None
) -> Thread:
    """Open a tab, with the conversation that was kept where there is one.

    Args:
        session: models, knowledge base and history.
        subject: what the tab shows.
        who: the operator.
        named: whether he logged in: then his newest conversation goes on wherever he sits.
        number: of the conversation that this browser had last; taken only where it is his.
    """
    talks = session.history.talks(who, number) if number or named else []
    kept = next((one.id for one in talks if one.capture == subject.name), None)
    talk = Conversation(
        subject.analysis, session.index, session.history, session.models.writer, who, kept, subject.name
    )  # fmt: skip
    return Thread(who, subject, talk, _read_lines(session.history, kept) if kept else [])


def _read_lines(history: History, number: int) -> list[Line]:
    """A kept conversation, each answer with what it rests on where that was kept."""
    kept = history.answers(conversation=number)[::-1]
    lines: list[Line] = []
    for message in history.messages(number):
        found = None
        if message.role == "assistant" and kept and kept[0]["text"] == message.text:
            found = read_evidence(kept.pop(0))
        lines.append(Line(message.role, message.text, found))
    return lines[-MOST_SHOWN:]


def put_question(thread: Thread, question: str) -> None:
    """Show a question at once; ``answer_question`` answers it when its turn comes."""
    question = question.strip()[:QUESTION_CHARS]
    if question and not thread.asked:
        thread.asked = question
        thread.lines.append(Line("operator", question))


def answer_question(thread: Thread) -> None:
    """Answer the question that waits, from the plant as it is now."""
    if not thread.asked:
        return
    talk = thread.conversation
    talk.analysis = thread.subject.analysis
    try:
        reply = talk.reply(thread.asked)
        line = Line("assistant", reply.text, _mark_alarm(make_evidence(reply.diagnosis), thread))
    except UserError as mistake:
        line = Line("assistant", f"That did not work: {mistake}")
    finally:
        thread.asked = ""
    thread.lines.append(line)


def take_remark(thread: Thread, act: str, incident: str, label: str) -> None:
    """Keep what is said of an answer by a button: ``confirm``, ``wrong`` or ``false_alarm``."""
    label = NORMAL if act == "false_alarm" else label if label in LABELS else ""
    talk = thread.conversation
    talk.analysis = thread.subject.analysis
    likely = next((one for one in _list_likely(thread) if one.incident == incident), None)
    try:
        text = talk.remark(
            incident, Remark(act, "", label, None), read_incident(likely) if likely else None
        )
    except UserError as mistake:
        text = f"That was not kept: {mistake}"
    thread.lines.append(Line("assistant", text))


def _mark_alarm(evidence: Evidence | None, thread: Thread) -> Evidence | None:
    """An answer about a device of which no incident is known takes remarks on its likely alarm."""
    if evidence is None or evidence.incident or not evidence.sure:
        return evidence
    going = (one for one in _list_likely(thread) if one.returned_s is None)
    about = (one.incident for one in going if one.device == evidence.device)
    return replace(evidence, incident=next(about, ""))


def _list_likely(thread: Thread) -> list[Alarm]:
    """Alarms that rest on a first sign alone: no incident bears them out, or none did."""
    history = thread.conversation.history
    shown = [one.alarm for one in thread.subject.alarms(history)] if history else []
    return [one for one in shown if one.content.sign and one.tier == "alarm"]


def render_thread(thread: Thread, history: History) -> str:
    """The conversation as HTML."""
    clock = thread.subject.clock(history)
    labels = {label: read_playbook(label).short for label in LABELS if label != NORMAL}
    shown = thread.lines[-MOST_SHOWN:]
    lines = [
        (one.role, _render_line(one, number, clock, labels)) for number, one in enumerate(shown)
    ]
    return render("thread.html.jinja", lines=lines, looking=_LOOKING if thread.asked else "")


def _render_line(line: Line, number: int, clock: Clock, labels: Mapping[str, str]) -> str:
    if line.role == "operator":
        return render_message(line.text)
    return render_answer(line.text, line.evidence, clock, labels, number)
