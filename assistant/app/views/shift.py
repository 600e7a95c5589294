"""The shift report: what stood in the last hours, who did what, and what was not seen."""

import time
from dataclasses import dataclass
from pathlib import Path

from assistant.app.subject import ShownAlarm, Subject
from assistant.app.views.alarms import is_fading, name_cause
from assistant.app.views.bar import find_troubles, name_subject
from assistant.app.views.markup import render_plain
from assistant.app.views.report_pdf import render_pdf
from assistant.facts.moments import Clock
from assistant.history import History

HOURS = {"8 hours, a shift": 8.0, "12 hours": 12.0, "24 hours": 24.0, "all that is kept": 1e6}


def make_report(subject: Subject, history: History, hours: float, who: str) -> str:
    """The report of the last hours as Markdown.

    Args:
        subject: the plant or capture.
        history: alarms, states and remarks.
        hours: how far is looked back, by the traffic's clock.
        who: who asks for it.
    """
    now_s = subject.now_s(history)
    since_s = now_s - hours * 3600.0
    clock = Clock(subject.plant.time_zone or "UTC")  # with the date: it is read on another day
    found = [one for one in subject.alarms(history) if (one.alarm.returned_s or now_s) >= since_s]
    names = {one.alarm.incident: _line(subject.plant.name_of(one.alarm.device)) for one in found}
    said = [
        (names[one.alarm.incident], state)
        for one in found
        for state in history.states(one.alarm.incident)
        if state.at_s >= time.time() - hours * 3600.0
    ]
    return render_plain(
        "shift_report.md.jinja",
        what=_line(name_subject(subject, clock)),
        who=_line(who),
        start=clock.show(max(since_s, _first_s(subject, found, since_s))),
        end=clock.show(now_s),
        open=[one for one in found if one.alarm.returned_s is None],
        over=[one for one in found if one.alarm.returned_s is not None],
        names=names,
        said=sorted(said, key=lambda one: one[1].at_s),
        troubles=find_troubles(subject, clock),
        judged=subject.picture().judged,
        clock=clock,
        cause=name_cause,
        fading=lambda alarm: is_fading(alarm, now_s),
        line=_line,
    )


@dataclass(frozen=True)
class ReportFiles:
    """A report for download."""

    markdown: Path
    pdf: Path


def write_report(text: str, folder: Path) -> ReportFiles:
    """Write a report to files of its own, in a folder that nobody else's report is in."""
    place = folder / f"report-{time.time_ns()}"
    place.mkdir(parents=True)
    files = [place / f"shift-{time.strftime('%Y-%m-%d-%H%M')}.{end}" for end in ("md", "pdf")]
    files[0].write_text(text, encoding="utf-8")
    files[1].write_bytes(render_pdf(text))
    return ReportFiles(*files)


def _first_s(subject: Subject, found: list[ShownAlarm], since_s: float) -> float:
    """When what is told of begins, at the earliest."""
    analysis = subject.analysis
    starts = [one.alarm.content.start_s for one in found]
    return min([*starts, *([analysis.capture.start_s] if analysis else [])], default=since_s)


def _line(text: str) -> str:
    """One line of Markdown in which no mark of a name counts: names are written by whoever made the
    traffic."""
    marks = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]<>#|!"})
    return " ".join(text.split()).translate(marks)
