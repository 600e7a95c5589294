"""Answer a question: read what it asks for, find what is known, say it short, with its evidence.

question ─▶ read_query ─▶ investigate ─▶ a short answer from the tables ─▶ check ─▶ Diagnosis
            what is asked   whose device,   one function a kind               numbers,
            for             how it is doing                                   citations
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from assistant.answers.absences import answer_no_traffic, doubt_absence
from assistant.answers.asked import Answer, Asked, say, tell_incident
from assistant.answers.attacks.attack import answer_side_of_attack
from assistant.answers.attacks.raids import answer_misdeeds, answer_raiders
from assistant.answers.attacks.transfers import answer_transfer
from assistant.answers.by_kind import BY_CONTENT, BY_KIND, OF_ONE
from assistant.answers.incidents.actions import answer_action
from assistant.answers.incidents.affected import answer_whom_it_hit
from assistant.answers.incidents.aftermath import answer_outcome, answer_through
from assistant.answers.incidents.causes import answer_cause
from assistant.answers.incidents.condition import answer_why
from assistant.answers.incidents.course import answer_all_back, answer_harm, answer_running
from assistant.answers.incidents.earlier import answer_earlier
from assistant.answers.incidents.events import (
    answer_back,
    answer_fares,
    answer_one_event,
    answer_order,
    answer_still,
)
from assistant.answers.incidents.reasons import answer_checks
from assistant.answers.incidents.sides import answer_blame, answer_sides
from assistant.answers.incidents.since import answer_presence
from assistant.answers.incidents.worries import answer_worry
from assistant.answers.joined import join_answers, split_joined
from assistant.answers.meant import choose_devices
from assistant.answers.plant.documents import answer_of_model
from assistant.answers.plant.inventory import answer_who_is, holds_code
from assistant.answers.plant.lookups import answer_failing_names, answer_leases, answer_where
from assistant.answers.plant.publishers import answer_publishers
from assistant.answers.plant.states import describe_state
from assistant.answers.requests.commands import answer_commands, answer_resumed
from assistant.answers.requests.deeds import IS_IT, answer_deeds
from assistant.answers.requests.halts import answer_halt
from assistant.answers.requests.named import answer_accounts, answer_files, answer_named
from assistant.answers.requests.streams import answer_stream
from assistant.answers.requests.written import answer_written
from assistant.answers.several import answer_all_of, answer_several
from assistant.answers.times import answer_time, find_span, narrow
from assistant.answers.topics import answer_topic
from assistant.answers.traffic.amounts import answer_amount
from assistant.answers.traffic.behaviour import answer_process
from assistant.answers.traffic.beyond import answer_partner, answer_way_out
from assistant.answers.traffic.gaps import answer_gap
from assistant.answers.troubles import answer_trouble
from assistant.detection.incidents import Incident
from assistant.detection.pipeline import Analysis
from assistant.diagnosis.compose import MOST_SHOWN, put_sensor_early
from assistant.diagnosis.diagnose import Diagnosis, check_answer, count_rest, explain
from assistant.diagnosis.investigate import SEVERAL, Investigation, investigate
from assistant.facts.fact import Fact, kind_of, listed
from assistant.facts.written import WRITTEN
from assistant.history import History
from assistant.outcomes import keep_outcomes
from assistant.questions.entities import Mention, list_names, read_devices
from assistant.questions.forms import read_forms
from assistant.questions.plain import make_plain
from assistant.questions.queries import Query, is_order, read_query
from knowledge_base.index import Index
from traffic.labels import NORMAL

_WHO_IS = re.compile(
    r"\b(?:who|what|wer|was|quien|que)\b.{0,20}\b(?:is|ist|es) (?:that |this )?dev\W*$"
)
_OF_TWO = frozenset(("who", "writers", "answers", "affected", "does"))
_USUALLY_ASKED, _MOST_OFFERED = ("wrong", "who"), 2


def answer(
    question: str,
    analysis: Analysis,
    index: Index | None = None,
    device: str | None = None,
    history: History | None = None,
    query: Query | None = None,
    focus: Incident | None = None,
    listed: tuple[str, ...] = (),
) -> Diagnosis:
    """Answer a question about a capture.

    Args:
        question: the operator's words.
        analysis: the capture with its verdicts and incidents.
        index: the knowledge base; without one nothing is cited.
        device: address or name that it is about, where that is known already.
        history: states and remarks, where any are kept.
        query: what is asked for, where more than the words says so.
        focus: the incident that a talk is about.
        listed: ids of the incidents that a talk listed last.

    Returns:
        A diagnosis whose first line answers the question.
    """
    keep_outcomes(history, index)  # another process may have taken one back
    names = list_names(analysis)
    parts = split_joined(question)
    if len(parts) > 1 and IS_IT.search(make_plain(parts[-1], names)):
        parts = (question,)  # "who writes to it, and is it ours?" is said in one
    if len(parts) > 1 and (query is None or query == read_query(question, names)):
        asked = [read_query(one, names) for one in parts]
        if _is_plain(asked[0]) and all(_is_plain(one) or _names_act(one) for one in asked[1:]):
            return _answer_each(question, parts, asked, analysis, index, device, history, focus)
    query = query or read_query(question, names)
    return _answer_one(
        question, query, analysis, index, device, history, focus=focus, listed=listed
    )


def _answer_each(
    question: str,
    parts: Sequence[str],
    asked: Sequence[Query],
    analysis: Analysis,
    index: Index | None,
    device: str | None,
    history: History | None,
    focus: Incident | None,
) -> Diagnosis:
    """Several things that were asked at once; what names no device is asked of what the whole names."""
    answers: list[Diagnosis] = []
    for part, query in zip(parts, asked, strict=True):
        whole = read_devices(part, analysis) != Mention()
        short = query.kind == "count" and not whole and len(part.split()) <= _MOST_OFBY_KIND
        listed_before = bool(answers) and answers[0].kind in _LISTS
        said_too = short and not query.aspect  # "how many registers?" is not
        if listed_before and not whole and (said_too or _SAID_WITH_IT.match(query.plain)):
            continue  # who asks is said with how often, and from when to when
        of_found = listed_before and not whole and bool(_OF_ONE.search(query.plain))
        about = answers[0].device if of_found else device  # "who floods us, and may I block it?"
        of_count = bool(answers) and answers[-1].kind == "count"
        goes_on = _FROM_WHOM.match(query.plain) or (query.aspect and query.relation == "talk")
        if of_count and goes_on:  # "and from whom?", "and into which registers?"
            query = replace(query, relation=_MADE_BY.get(asked[0].measure, "ask"))
        said = part if whole or of_found else question
        answers.append(
            _answer_one(said, query, analysis, index, about, history, short=short, focus=focus)
        )
    return join_answers(question, answers[0], [one for one in answers[1:] if not one.refused])


_FROM_WHOM = re.compile(r"^(?:and )?(?:from|by|of) whom\b|^(?:und )?von wem\b|^(?:y )?de quien\b")
_MADE_BY = {"writes": "write", "refused": "refuse", "requests": "ask"}
_OF_ONE = re.compile(r"\b(?:it|he|she|him|er|sie|ihn)\b")
_INVENTORIES = frozenset(("who", "does", "devices", "reporting"))
_LISTS = frozenset(("who", "writers", "does", "logins", "hostile"))
_SAID_WITH_IT = re.compile(
    r"^(?:and )?(?:whom?(?:,? (?:and )?(?:whom|when))*|(?:by|from|to) whom|when|(?:at|from) what time"
    r"|(?:since|until) when|how often|von wem|wann|seit wann|wie oft|por quien|cuando|desde cuando|cuantas veces)\W*$"
)
_MOST_OFBY_KIND = 4  # words; "how often" names no trouble, whatever stands before it
_OF_TROUBLE = frozenset(("wrong", "why", "health"))
_TROUBLE = re.compile(
    r"\b(?:why|wrong|problems?|matter|causes?|reasons?|ok|okay|fine|well|healthy|warum|wieso|por que|mal)\b"
)
_SURE = re.compile(r"\b(?:sure|certain|know|trust|believe|prov\w+|sicher|segur\w*)\b")


def _is_plain(query: Query) -> bool:
    """Whether a part of a question is understood by itself."""
    named = query.kind not in _OF_TROUBLE or bool(_TROUBLE.search(query.plain))
    named = named and (query.kind != "certainty" or bool(_SURE.search(query.plain)))
    # "was that allowed?" of a scan asks nothing of writers.
    of_writes = query.kind != "writers" or query.relation == "write"
    return query.kind not in ("", "numbers") and not query.guessed and named and of_writes


def _names_act(query: Query) -> bool:
    """Whether a further part says what it asks for, though its kind is a guess: "were any refused?"."""
    return query.guessed and bool(query.kind) and (query.relation != "talk" or query.measure != "")


def _answer_one(
    question: str,
    query: Query,
    analysis: Analysis,
    index: Index | None,
    device: str | None,
    history: History | None,
    *,
    short: bool = False,
    focus: Incident | None = None,
    listed: tuple[str, ...] = (),
) -> Diagnosis:
    span, everything = find_span(question, query.kind, analysis), analysis
    if span is not None:
        analysis = narrow(analysis, span)
    found = investigate(question, analysis, device, focus)
    alike = found.mention.devices if found.mention.alike else ()
    found = _add_remark(choose_devices(found, query, analysis), history)
    # The device that a talk is about does not make sense of what was not understood.
    named = query.names_device or (
        device is None
        and bool(found.mention.devices or found.mention.peers or found.mention.missing)
    )
    asked = Asked(
        question,
        query,
        found,
        analysis,
        index,
        history,
        span,
        alike=alike,
        focus=focus,
        listed=listed,
    )
    of_model = None if is_order(query) else answer_of_model(asked)
    if found.mention.missing and not found.device and of_model is None:
        return explain(question, found, analysis, index)
    trouble = of_model or _answer_by_words(asked, everything, short=short)
    if trouble is None and query.guessed:  # what its own words name is no guess
        asked = replace(asked, found=_add_reading(found, query), guessed=True)
    whole = explain(question, asked.found, analysis, index)
    if not query.kind and not named and trouble is None:
        return _offer(whole, query)
    headline = Fact("headline", whole.cause, {})
    of_values = trouble is not None and kind_of(trouble.line).startswith(WRITTEN)
    if query.kind in OF_ONE and not query.guessed and not of_values:
        trouble = OF_ONE[query.kind](asked, headline) or trouble
    said = trouble or _answer_by_kind(asked, headline, whole.checks)
    if said is None:  # why, what is wrong: the diagnosis itself answers
        return replace(whole, kind=query.kind or "why")
    return _shorten(whole, doubt_absence(said, asked), query, everything)


def _answer_by_words(asked: Asked, everything: Analysis, *, short: bool) -> Answer | None:
    """What the words of a question ask for, whatever its kind was taken for; None where that decides."""
    return (
        _answer_missing(asked)
        or _refuse_order(asked)
        or answer_publishers(asked)
        or answer_no_traffic(asked)
        or next((said for one in _BY_WORDS if (said := one(asked))), None)
        or answer_time(asked, everything)
        or (None if short or _asks_code(asked) else answer_trouble(asked) or answer_topic(asked))
    )


_BY_WORDS: tuple[Callable[[Asked], Answer | None], ...] = (
    *BY_CONTENT,
    answer_where, answer_who_is, answer_files, answer_accounts, answer_resumed, answer_commands, answer_written,
    answer_leases, answer_named, answer_misdeeds, answer_raiders, answer_halt, answer_stream,
    answer_amount, answer_deeds, answer_whom_it_hit, answer_way_out, answer_harm, answer_all_back,
    answer_one_event, answer_order,
    answer_side_of_attack, answer_action, answer_fares, answer_cause, answer_worry, answer_blame, answer_through,
    answer_outcome, answer_several, answer_sides, answer_presence, answer_running, answer_still, answer_back,
    answer_gap, answer_process, answer_earlier, answer_transfer, answer_failing_names, answer_partner,
)  # fmt: skip


def _asks_code(asked: Asked) -> bool:
    return asked.query.kind in ("code", "meaning") and holds_code(asked)


def _answer_by_kind(asked: Asked, headline: Fact, checks: tuple[str, ...]) -> Answer | None:
    """What the kind of a query asks for; None where the diagnosis itself answers."""
    query = asked.query
    if every := answer_all_of(asked, headline):
        return every
    if query.kind == "checks":
        return answer_checks(asked, headline, checks)
    if query.kind in OF_ONE:
        return OF_ONE[query.kind](asked, headline) or answer_why(asked, headline)
    listed_by_guess = query.guessed and query.kind in _INVENTORIES and not query.aspect
    listed_by_guess = listed_by_guess and not _WHO_IS.search(query.plain)
    if listed_by_guess and asked.device and asked.incident and asked.incident.facts:
        return tell_incident(asked.incident)  # what ails it answers more than a list
    unnamed = query.guessed and query.kind == "code" and not holds_code(asked)
    if query.kind in BY_KIND and not unnamed:
        return BY_KIND[query.kind](asked, headline)
    return answer_why(asked, headline)


def _add_remark(found: Investigation, history: History | None) -> Investigation:
    """What people said of the incident stands beside what was measured."""
    remark = describe_state(found.incident, history) if found.incident and history else None
    if remark is None:
        return found
    notes = (f"{remark.text}.", *found.notes)
    return replace(found, notes=notes, context=(*found.context, remark))


def _add_reading(found: Investigation, query: Query) -> Investigation:
    """What a question was taken for, where that was only guessed, is said first."""
    offer = read_forms()[query.kind].offer
    other = next((one for one in query.nearest if one != query.kind), "")
    reading = say("guessed", offer=offer)
    if other:
        reading = say("guessed_two", offer=offer, other=read_forms()[other].offer)
    return replace(found, notes=(reading.text, *found.notes))


def _answer_missing(asked: Asked) -> Answer | None:
    """A question about two of which one is not here: what the other does elsewhere answers nothing."""
    missing = asked.found.mention.missing
    if not missing or not asked.polar or asked.query.kind not in _OF_TWO:
        return None
    return Answer(say("missing", "unclear", names=listed(missing)), standing="inconclusive")


def _refuse_order(asked: Asked) -> Answer | None:
    """What is done where the plant is to be acted on: nothing."""
    if not is_order(asked.query):
        return None
    return Answer(say("order_refused"), standing="inconclusive", refused=True)


def _offer(whole: Diagnosis, query: Query) -> Diagnosis:
    """What could have been meant, where a question was not understood."""
    forms = read_forms()
    kinds = [kind for kind in query.nearest if kind in forms]
    offers = [forms[kind].offer for kind in dict.fromkeys([*kinds, *_USUALLY_ASKED])][
        :_MOST_OFFERED
    ]
    line = say("not_understood")
    text = "\n".join([f"**{line.text}**", *(f"- {one}" for one in offers)])
    return replace(
        whole, text=text, cause=line.text, facts=(), checks=(), citations=(), similar=(), ruled_out=(),
        standing="inconclusive", device="", label="", incidents=(), kind="", refused=True,
    )  # fmt: skip


def _shorten(whole: Diagnosis, said: Answer, query: Query, analysis: Analysis) -> Diagnosis:
    """The diagnosis with the short answer in front; what that leaves out is kept for who asks on."""
    facts = _say_once(said)
    citations = said.citations if said.quotes and said.citations else whole.citations
    citations = tuple(replace(one, number=n) for n, one in enumerate(citations, start=1))
    similar = tuple(
        replace(one, number=n) for n, one in enumerate(whole.similar, start=len(citations) + 1)
    )
    sections = replace(
        whole.sections,
        headline=said.line.text,
        notes=tuple(note for note in whole.notes if note != SEVERAL or query.kind == "health"),
        seen=tuple(fact.text for fact in facts),
        checks=said.checks or whole.checks,
        manuals=citations,
        similar=similar,
        whole=said.whole,
        steps=said.steps,
        most=len(facts) if said.listing else MOST_SHOWN,
        quotes=said.quotes and bool(said.citations),
    )
    spoken = said.incident or _find_spoken(said, analysis, whole.incidents[:1])
    # A list words facts of incidents again, so those are known too.
    known = (said.line, *whole.known, *(fact for one in analysis.incidents for fact in one.facts))
    known = (*known, count_rest(sections))
    checked = check_answer(sections, (*facts, *known), (*citations, *similar))
    if spoken is not None and spoken.id not in whole.incidents[:1] and not said.listing:
        # What is talked about from then on is what was answered.
        others = tuple(one for one in whole.incidents if one != spoken.id)
        whole = replace(whole, incidents=(spoken.id, *others), label=spoken.label)
    return replace(
        whole,
        text=checked.text.strip(),
        cause=said.line.text,
        facts=facts,
        context=known,
        citations=citations,
        similar=similar,
        sections=sections,
        removed=len(checked.removed),
        standing=said.standing or whole.standing,
        label=NORMAL if said.standing == "normal" else whole.label,
        kind=query.kind,
        refused=said.refused,
        device=said.about or whole.device,
    )


def _find_spoken(said: Answer, analysis: Analysis, meant: tuple[str, ...]) -> Incident | None:
    """The incident whose fact answers, the one that was meant where several have it; None where the
    answer is of none."""
    said_first = [one.id for one in (said.line, *said.facts[:1])]
    ordered = sorted(analysis.incidents, key=lambda one: one.id not in meant)
    return next(
        (
            one
            for fact in said_first
            for one in ordered
            if fact in {known.id for known in one.facts}
        ),
        None,
    )


def _say_once(said: Answer) -> tuple[Fact, ...]:
    """Its facts without those that the line, or a fact before them, says already."""
    known, facts = said.line.text.casefold(), list[Fact]()
    for fact in put_sensor_early(said.facts):
        if fact.text.casefold() not in known:
            facts.append(fact)
            known += f"\n{fact.text.casefold()}"
    return tuple(facts)
