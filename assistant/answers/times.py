"""What fell into the time that a question names: "what happened between 14:05 and 14:10?"."""

import re
from collections.abc import Iterable
from dataclasses import replace

from assistant.answers.asked import Answer, Asked, say, tell_incident
from assistant.answers.incidents.condition import describe_incident
from assistant.answers.plant.descriptions import describe_requests
from assistant.detection.incidents import Incident, worst_first
from assistant.detection.pipeline import Analysis
from assistant.diagnosis.compose import clock_of
from assistant.diagnosis.spans import find_end, find_start
from assistant.facts.requests import is_refused
from assistant.facts.spells import quiet_spell
from assistant.questions.queries import Query
from assistant.questions.times import Span, read_span
from traffic.capture import SAMPLE_S

_MOST = 8
# Of the samples a device that speaks all the time is heard in; for how long it then is not for nothing.
_TALKATIVE, _LONG_S = 0.85, 12.0
# Asked of these, the time says which incidents are meant.
_OF_INCIDENTS = frozenset(
    (
        "",
        "wrong",
        "why",
        "incidents",
        "health",
        "attack",
        "security",
        "affected",
        "reporting",
        "since",
    )
)
_LISTED = frozenset(("", "wrong", "why", "incidents", "reporting", "since"))
# A clock time in these is none of the capture's.
_TIMELESS = frozenset(("code", "manual", "before", "help", "feedback"))
_WHEN = re.compile(
    r"\b(?:since|when|beg[au]n|begins?|start\w*|how long|until|till|seit|wann|bis|begann|desde|cuando|empez\w*|hasta)\b"
)
_IT = re.compile(r"\b(?:it|he|she|him|her|them|that|this|er|sie|ihm|ihr)\b")
_WENT_ON = re.compile(
    r"\b(?:what|was|que)\b.*\b(?:going on|went on|happen\w*|passier\w*|los|paso)\b"
)


def find_span(question: str, kind: str, analysis: Analysis) -> Span | None:
    """The time that a question of a kind asks about; None for the whole capture."""
    clock = clock_of(analysis)
    if kind in _TIMELESS:
        return None
    span = read_span(question, clock.start_s, clock.end_s, clock.zone)
    # "it began at 14:05?" asks for another time than "what went on at 14:05?".
    others = kind == "since" and bool(_WHEN.search(question.lower()))
    return None if others else span


def is_of_a_time(query: Query, analysis: Analysis) -> bool:
    """Whether it is asked what went on in the plant at a time, whatever a talk is about."""
    asks = _WENT_ON.search(query.plain) and not _IT.search(query.plain)
    return bool(asks) and find_span(query.plain, query.kind, analysis) is not None


def narrow(analysis: Analysis, span: Span) -> Analysis:
    """The analysis with those incidents only that fall into a time."""
    return replace(analysis, incidents=tuple(_within(analysis.incidents, span)))


def _within(incidents: Iterable[Incident], span: Span) -> list[Incident]:
    return [
        one
        for one in incidents
        if span.overlaps(min(one.start_s, find_start(one)[0]), max(one.end_s, find_end(one)))
    ]


def answer_time(asked: Asked, analysis: Analysis) -> Answer | None:
    """What is known of the time itself; None where the query answers for that time.

    Args:
        asked: of the incidents in that time alone.
        analysis: with all incidents.
    """
    span, view = asked.span, asked.view
    if span is None:
        return None
    ends = {
        "start_time_s": max(span.start_s, view.start_s),
        "end_time_s": min(span.end_s, view.end_s),
    }
    if not span.overlaps(view.start_s, view.end_s):
        ends = {"start_time_s": view.start_s, "end_time_s": view.end_s}
        line = say("time_outside", "unclear", **ends)
        return Answer(line, standing="inconclusive", refused=True)
    at_moment = asked.query.guessed and span.at_s is not None and bool(asked.device)
    if asked.query.kind not in _OF_INCIDENTS and not at_moment:
        return None
    device = asked.device
    known = [one for one in analysis.incidents if not device or one.touches(device)]
    inside = sorted(_within(known, span), key=lambda one: find_start(one)[0])
    if device and not inside and (silent := _tell_silence(asked, span)) is not None:
        return silent
    if device and not inside and (failed := _tell_failures(asked)) is not None:
        return failed
    if known and not inside:
        nearest = sorted(known, key=lambda one: _distance_s(one, span))[:_MOST]
        line = say("time_nothing", name=asked.name, n=len(known), **ends)
        facts = tuple(describe_incident(one, asked) for one in nearest)
        return Answer(line, facts, standing="inconclusive", listing=True)
    if device and inside and (asked.query.kind == "reporting" or at_moment):
        worst = worst_first(inside)[0]
        return tell_incident(worst) if worst.facts else None
    if device or not inside or asked.query.kind not in _LISTED:
        return None
    facts = tuple(describe_incident(one, asked) for one in inside[:_MOST])
    line = say("time_some", n=len(inside), outside=len(known) - len(inside), **ends)
    return Answer(line, facts, listing=True)


def _tell_silence(asked: Asked, span: Span) -> Answer | None:
    """That a device which speaks all the time sent nothing then, though no incident tells of it."""
    view, device = asked.view, asked.device
    heard = view.sent_by(device)["slot"].nunique() if device in view.local else 0
    spell = quiet_spell(view, device, span.start_s, span.end_s, SAMPLE_S) if heard else None
    if (
        spell is None
        or heard < _TALKATIVE * view.seen_s / SAMPLE_S
        or spell[1] - spell[0] < _LONG_S
    ):
        return None
    line = say(
        "time_silent",
        name=asked.name,
        quiet_s=spell[1] - spell[0],
        start_time_s=spell[0],
        end_time_s=spell[1],
    )
    return Answer(line, standing="inconclusive")


_MOST_WELL, _FEWEST = 0.95, 3


def _tell_failures(asked: Asked) -> Answer | None:
    """Requests of a device, or to it, that failed in the time that is asked about, though no incident tells."""
    rows = asked.requests
    failed = rows[(rows["outcome"] == "unanswered") | is_refused(rows)]
    if len(failed) < _FEWEST or len(failed) < (1 - _MOST_WELL) * len(rows):
        return None
    first, *rest = describe_requests(failed, asked.view, refused=True)
    return Answer(first, tuple(rest), standing="inconclusive")


def _distance_s(incident: Incident, span: Span) -> float:
    return max(find_start(incident)[0] - span.end_s, span.start_s - find_end(incident), 0.0)
