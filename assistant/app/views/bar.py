"""The line above every view: what is watched, and what of it is not seen.

A dead mirror port, a monitor that stopped and a recording that is over must not look like a calm
plant, whichever view is open.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from assistant.app.live import Live
from assistant.app.subject import Subject
from assistant.app.views.markup import render
from assistant.facts.fact import Value, make_fact
from assistant.facts.moments import Clock
from assistant.facts.sensor import sensor_facts
from assistant.history import History
from traffic.files import Strict, read_yaml


class _Words(Strict):
    text: str = ""
    head: str = ""
    response: str = ""
    priority: str = ""


@cache
def _read_words() -> dict[str, _Words]:
    path = Path(__file__).with_name("words.yaml")
    return read_yaml(path, dict[str, _Words], "what the page says")


@dataclass(frozen=True)
class Trouble:
    """Why not all of the plant is seen, or judged: a headline, a sentence, what to do about it."""

    head: str
    text: str
    response: str
    priority: str


def find_troubles(subject: Subject, clock: Clock) -> list[Trouble]:
    """Whatever keeps the plant from being seen, the gravest first."""
    live = subject.live
    if live is not None:
        return list(_of_monitor(live, clock))
    analysis = subject.analysis
    if analysis is None:
        return []
    facts = sensor_facts(analysis.view.quality)
    return [_say("blind", clock.tell(one.text)) for one in facts]


def _of_monitor(live: Live, clock: Clock) -> Iterator[Trouble]:
    if live.problem:
        yield _say("stopped", reason=live.problem.rstrip("."))
    elif live.silent_s:
        yield _say("silent", span_s=live.silent_s)
    for one in live.conditions:
        words = one.words
        yield Trouble(words.cause, clock.tell(one.text), words.response, words.priority)
    if live.ended:
        yield _say("ended", end=clock.show(live.now_s))
    elif live.analysis is None and not live.problem:
        yield _say("learning")


def _say(kind: str, text: str = "", **values: Value) -> Trouble:
    words = _read_words()[kind]
    text = text or make_fact(kind, words.text, values).text
    return Trouble(words.head, text, words.response, words.priority)


def render_bar(subject: Subject, history: History, who: str) -> str:
    """What is watched, who looks at it, and what is not seen."""
    clock = subject.clock(history)
    return render(
        "bar.html.jinja",
        what=name_subject(subject, clock),
        troubles=find_troubles(subject, clock),
        who=who,
    )


def name_subject(subject: Subject, clock: Clock) -> str:
    """What is shown, in one line."""
    live, analysis = subject.live, subject.analysis
    values: dict[str, Value] = {"name": subject.name}
    if live is not None and live.end_s is not None:
        kind = "watching" if live.clock_is_now else "replaying"
        values["end"] = clock.show(live.end_s)
    elif live is not None:
        kind = "beginning"
    elif analysis is not None:
        kind, capture = "recorded", analysis.capture
        values |= {"start": clock.show(capture.start_s), "end": clock.show(capture.end_s)}
        values["windows"] = float(len(analysis.windows))
    else:
        kind = "nothing_open"
    return make_fact(kind, _read_words()[kind].text, values).text
