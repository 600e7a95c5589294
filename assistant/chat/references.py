"""Which incident of a talk words mean: the next, the one before, the other one, the flood that was told of."""

import re
from collections.abc import Collection, Sequence

from assistant.detection.incidents import Incident, worst_first
from assistant.detection.pipeline import Analysis
from assistant.diagnosis.choosing import (
    END,
    OF_ACTS,
    OWN,
    attacks,
    find_culprits,
    find_targets,
    measure_part,
)
from assistant.diagnosis.playbook import find_asked, find_cause, read_playbook
from assistant.diagnosis.resemblance import measure_resemblance
from assistant.diagnosis.spans import find_start
from assistant.questions.queries import Query
from traffic.labels import ATTACKS

_SO = r"(?:(?:and|so|but|ok|okay|well|then|und|y|pero),? )*"
_HAPPENED = (
    r"(?:(?:what|was|que) (?:(?:else )?(?:happened|came|comes|was (?:it|there|wrong)|was|went on|war|kam|passierte|paso"
    r"|hubo|vino)) )?(?:(?:there|here|with (?:it|him|her|dev)|at (?:it|dev)|to (?:it|dev)|dort|da|alli) )?"
)
_IT = r"(?: (?:that|this|it|then|all that|de eso|de esto))?(?: (?:there|with it|to it|dort|alli))?"
_AFTER = re.compile(
    rf"^{_SO}{_HAPPENED}(?:after|next|afterwards?|then|danach|nachher|despues|luego){_IT}\W*$"
)
_BEFORE = re.compile(
    rf"^{_SO}{_HAPPENED}(?:the (?:thing|one|problem|trouble|incident) )?(?:before|earlier|davor|vorher|antes){_IT}\W*$"
)
_BARE = re.compile(rf"^{_SO}(?:after|afterwards?|then|danach|nachher|despues|luego){_IT}\W*$")
_FIRST = re.compile(
    rf"^{_SO}(?:what (?:did|has) (?:it|he|she|they) (?:do|done) first|what (?:happened|came|was) (?:there )?first"
    r"|was (?:hat (?:er|sie|es) zuerst gemacht|war zuerst)|que (?:hizo|paso) primero)\W*$"
)
_EARLIER_ONE = re.compile(
    rf"^{_SO}(?:what about )?(?:the|that|der|die|das|el|la) \w+ (?:(?:thing|one) )?(?:before|earlier|davor"
    r"|vorher|antes|de antes)"
    r"(?: (?:that|this|it))?\W*$"
)
_GUY_AT = re.compile(
    r"\b(?:the|that|der|die|das|el|la) (?:guy|attacker|intruder|stranger|one|machine|angreifer|fremde|atacante|intruso)"
    r"(?: that (?:is|was))? (?:at|on|in|inside|with|of|bei|auf|an|en|de"
    r"|(?:who|that|which) \w+(?: (?:to|on|at|in|with))?) dev(?:\W*$|, (?P<rest>.+))"
)
_DID_NEXT = re.compile(
    rf"^{_SO}(?:what )?(?:else )?(?:did|has) (?:it|he|she|they) (?:do|done) (?:next|(?:after|afterwards?){_IT})\W*$"
    rf"|^{_SO}(?:was|que) (?:hat (?:er|sie|es) danach gemacht|hizo (?:despues|luego){_IT})\W*$"
)
_OTHER = re.compile(
    r"\b(?:the|das|der|die|den|el|la) (?:other|second|another|andere[nrs]?|zweite[nrs]?|otr[oa]s?)"
    r" (?P<what>one|two|problem|incident|attack(?:er)?|trouble|thing|fault|alarm|intruder|guy|stranger|vorfall|stoerung"
    r"|angriff|angreifer|fremde|problema|incidente|atacante|intruso|ataque)\b(?P<more>.*)$"
)
_ALONE = re.compile(
    rf"^{_SO}(?:what about |what is (?:with )?|was ist mit |what was |who (?:is|was) |que hay de |y )?(?:and )?$"
)
_WHOM = re.compile(r"attacker|intruder|guy|stranger|angreifer|fremde|atacante|intruso")
_NEAR, _OF_TERM = 0.35, 0.3
_COMMON = frozenset(
    ("the", "and", "one", "that", "with", "who", "was", "del", "los", "las", "der", "die", "das", "mit", "from")
)  # fmt: skip
# "the cable thing, how often?", "the one with the many connections, who was it?"
_THING = re.compile(
    r"\b(?:the|that|das|die|el|la|lo) (?P<words>[\w-]+ )(?:thing|stuff|business|story|matter|sache|ding|cosa|asunto)\b"
    r"|\b(?:the|that) (?:one|guy|thing|machine) (?:with|that|who|which) (?P<more>[^,?]{4,60}?)"
    r"(?:,|\?|$| (?:who|what|when|is|was|did|does) )"
)
# "the scan": what somebody did, and not who does it.
_THE_ACT = re.compile(
    r"\b(?:the|that|this|der|die|das|el|la) (?:scan\w*|sweep\w*|writes?|writing|guess\w*|logins?|escaneo)\b"
)
# "is there a flood?", "any scans?" are asked of the plant, and "which came first" of two.
_OF_ALL = re.compile(
    r"\b(?:there|any|anything|some|everywhere|plant|gibt|hay|each|every|all|list|or|first|before|after|other|another"
    r"|others|else|same|because|due|caus\w+|reason|fault|blame|vor|nach|antes|despues|jemand|algun\w*)\b"
    r"|\b(?:is|was|were|did|does|war|ist) (?:that|this|it|they|das|es) (?:\w+ )?(?:the|an?|from|part|der|die|das) "
)


def find_moved(
    plain: str,
    now: Incident,
    about: str,
    others: Sequence[Incident],
    query: Query,
    analysis: Analysis,
) -> Incident | None:
    """The incident that words mean by its place beside the one of the talk: "and before that?", "what did it do
    after that?", "the other attacker"; None where they mean none, or there is none."""
    if _DID_NEXT.match(plain):
        doers = set(find_culprits(now)) if now.label in ATTACKS else {about}
        theirs = [one for one in others if doers & set(find_culprits(one))]
        return _nearest(now, theirs, after=True)
    here = [one for one in others if _is_of(one, about, analysis)]
    hit = [
        one for one in others if any(_is_of(one, end, analysis) for end in find_targets(now)[:2])
    ]
    if _FIRST.match(plain):
        acts = [one for one in (now, *here) if about in find_culprits(one) and one.label in ATTACKS]
        return min(acts or [now, *here], key=lambda one: find_start(one)[0])
    if _AFTER.match(plain):
        later = _nearest(now, here, after=True) or _nearest(now, hit, after=True)
        return later or (None if _BARE.match(plain) else _nearest(now, others, after=True))
    if _BEFORE.match(plain):
        return _nearest(now, here, after=False) or _nearest(now, hit, after=False)
    if _EARLIER_ONE.match(plain) and (labelled := find_labelled(query, others)):
        return _nearest(now, labelled, after=False) or labelled[0]
    found = _OTHER.search(plain)
    if found is None:
        return None
    if not found["more"].strip(" ?.!,") and _ALONE.match(plain[: found.start()]):
        if _WHOM.search(found["what"]):
            here = [one for one in here or others if _is_anothers(one, now)]
        return next(iter(worst_first(here or list(others))), None)
    described = find_labelled(query, others)
    if _WHOM.search(found["what"]):
        described = [one for one in described or others if _is_anothers(one, now)]
    if not described and not found["more"].strip(" ?.!,"):
        return None
    meant = _find_nearest(
        found["more"] or plain, described or others, analysis, sure=bool(described)
    )
    if meant is None and found["more"].startswith(","):  # "the other thing, since when?"
        return next(iter(worst_first(here or list(others))), None)
    return meant


def _find_nearest(
    words: str, incidents: Sequence[Incident], analysis: Analysis, *, sure: bool
) -> Incident | None:
    """The incident that some words describe best, by meaning and by the terms of its trouble; None where none is
    near and it is not sure that one is meant."""
    if not incidents:
        return None
    spoken = set(re.findall(r"[^\W_]{3,}", words)) - _COMMON
    scores = measure_resemblance(words, incidents, analysis).copy()
    for at, one in enumerate(incidents):
        known = read_playbook(one.label)
        terms = re.findall(r"\w+", f"{known.short} {known.terms}".lower())
        scores[at] += _OF_TERM * len(spoken & set(terms))
    best = int(scores.argmax())
    return incidents[best] if sure or scores[best] >= _NEAR else None


def find_attack_on(
    plain: str, device: str, now: Incident | None, analysis: Analysis
) -> Incident | None:
    """The attack that is meant by whom it hits: "and the guy at plc-4?"; None where words mean none."""
    if not _GUY_AT.search(plain):
        return None
    found = [
        one for one in worst_first(list(analysis.incidents)) if one.facts and attacks(one, device)
    ]
    return next((one for one in found if now is None or one.id != now.id), next(iter(found), None))


def read_rest(plain: str) -> str:
    """What is asked of whom words mean by whom they hit: of "the one at plc-5, is he still there?" the end."""
    found = _GUY_AT.search(plain)
    return (found["rest"] or "") if found else ""


def goes_on_bare(plain: str) -> bool:
    """Whether words ask what came then, and name nothing: "und danach?"."""
    return bool(_BARE.match(plain))


def _is_of(one: Incident, device: str, analysis: Analysis) -> bool:
    """Whether an incident is a device's own, or an attack at whose other end it is."""
    part = measure_part(one, device, analysis.view)
    return part >= OWN or (part >= END and one.label in ATTACKS)


def _is_anothers(one: Incident, now: Incident) -> bool:
    return one.label in ATTACKS and not set(find_culprits(one)) & set(find_culprits(now))


def _nearest(now: Incident, found: Sequence[Incident], *, after: bool) -> Incident | None:
    """The one that began next after, or last before, the one of the talk."""
    begin_s = find_start(now)[0]
    if after:
        later = [one for one in found if find_start(one)[0] >= begin_s]
        return min(later, key=lambda one: find_start(one)[0], default=None)
    earlier = [one for one in found if find_start(one)[0] < begin_s]
    return max(earlier, key=lambda one: find_start(one)[0], default=None)


def find_labelled(query: Query, incidents: Sequence[Incident]) -> list[Incident]:
    """Incidents of the trouble, the cause or the act that words name, the worst first."""
    labels = {*find_asked(query.plain), OF_ACTS.get(query.relation, "")}
    named = []
    for one in worst_first([one for one in incidents if one.facts]):
        cause = find_cause(one.facts)
        called = bool(cause and cause.asked and re.search(rf"\b(?:{cause.asked})\b", query.plain))
        if called or one.label in labels:
            named.append(one)
    return named


def find_spoken(
    query: Query, now: Incident | None, about: str, told: Collection[str], analysis: Analysis
) -> Incident | None:
    """The incident that a kind of trouble means within a talk, "the flood, who was it?": the one of the talk,
    else one of the device that it is about, else one that was listed; None where the talk has none."""
    if _OF_ALL.search(query.plain):
        return None
    if thing := _THING.search(query.plain):
        words = thing["words"] or thing["more"]
        known = [one for one in worst_first(list(analysis.incidents)) if one.facts]
        here = [one for one in known if about and measure_part(one, about, analysis.view) >= END]
        return _find_nearest(words, here, analysis, sure=False) or _find_nearest(
            words, known, analysis, sure=False
        )
    if not find_asked(query.plain) and not _THE_ACT.search(query.plain):
        return None
    named = find_labelled(query, analysis.incidents)
    if now is not None and now.id in {one.id for one in named}:
        return now
    here = [one for one in named if about and measure_part(one, about, analysis.view) >= END]
    return next(iter(here or [one for one in named if one.id in told]), None)


_OTHER_SUBJECT = re.compile(
    r"(?i)^(?:ok|okay|so|and|now|well|und|y|,|\s)*(?:an)?(?:other|different|new|next|andere|otra)"
    r" (?:thing|question|topic|matter|subject|frage|sache|cosa|pregunta)\b[\s:,.-]*(?=\S)"
)


def leave_subject(question: str) -> str:
    """A question without the words that say that it is about something else than the talk so far.

    >>> leave_subject("ok other thing: does dns work?"), leave_subject("and the other one?")
    ('does dns work?', 'and the other one?')
    """
    return _OTHER_SUBJECT.sub("", question)
