"""Which side a trouble lies at, where a question names sides: "the cable or the program?", "is it the client?"."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from assistant.answers.asked import Answer, Asked, Reply, say
from assistant.detection.incidents import Incident
from assistant.diagnosis.choosing import find_culprits
from assistant.diagnosis.playbook import CausePlaybook, Playbook, find_place, find_remedy
from assistant.diagnosis.symptoms import find_symptoms
from assistant.facts.fact import kind_of
from assistant.questions.entities import list_names, read_devices
from assistant.questions.plain import MAX_CHARS, hide_names
from traffic.capture import SAMPLE_S
from traffic.files import Strict, read_yaml
from traffic.labels import ATTACKS


class Side(Strict):
    """Where a trouble may lie: how questions and answers name it."""

    asked: str
    said: str


@cache
def read_sides() -> dict[str, Side]:
    """Sides by name."""
    return read_yaml(Path(__file__).with_name("sides.yaml"), dict[str, Side], "a side a name")


_OR = re.compile(r",? (?:or|oder|o) (?:is|was|are|were|did|does|just|only|rather|simply)? ?|, ")
# The part of a question that offers a choice, without what it tells before.
_CLAUSE = re.compile(
    r"[;?!]|[.:](?= |$)| [-–] |, (?=(?:is|are|was|were|does|did|do|has|have|could|can|ist|sind|war|es|o es|esta)\b)"
)
# Whether somebody means harm is another question.
HARM = re.compile(
    r"\b(?:attack\w*|hack\w*|malware|virus|hostile|malicious|intru\w+|sabotag\w*|deliberate\w*|on purpose|infect\w*"
    r"|(?:g[eo]t|gets|getting|break|broke|came|come) (?:in|into|inside)"
    r"|compromis\w*|angriff\w*|ataque\w*|planned|maintenance|engineers?|tests?)\b"
)
# What asks for a list, a number or a document offers no sides by its "or".
_OF_OTHERS = frozenset(
    (
        "who", "count", "does", "devices", "before", "code", "manual", "packets", "numbers", "logins",
        "writers", "bearer", "slowest", "reporting", "zones", "since", "help", "affected",
    )
)  # fmt: skip
_OF_BLAME = frozenset(("place", "why", "wrong", "responsible", "checks"))
_BLAMES = re.compile(r"\b(?:blame|fault|problem|culprit|broken|wrong|guilty|schuld\w*|culpa\w*)\b")
_NO_CHOICE = re.compile(
    r"^(?:(?:and|so|but) )?(?:how (?:many|much|often|long|fast)|when|list|show|wie (?:viele|oft|lange)"
    r"|who (?!sets?\b|has to|must|should|is (?:to blame|at fault|wrong|right|the problem)))\b"
)


def find_sides(words: str) -> tuple[str, ...]:
    """The sides that some words name.

    >>> find_sides("a loose plug"), find_sides("wrong password at the client")
    (('network',), ('settings', 'client'))
    """
    return tuple(
        name for name, side in read_sides().items() if re.search(rf"\b(?:{side.asked})\b", words)
    )


def answer_sides(asked: Asked) -> Answer | None:
    """Which of the sides or devices that a question offers it is; None where it offers none, or nothing
    that was found tells."""
    incident, words = asked.incident, asked.question[:MAX_CHARS].lower()
    if incident is None or not incident.facts or asked.found.standing == "inconclusive":
        return None
    two = incident.label == "packet_loss" and len(incident.peers) == 1
    if two and _WHOSE.search(asked.query.plain) and (told := _choose_end(asked, incident)):
        return told
    asks_else = asked.query.kind in _OF_OTHERS and not asked.query.guessed
    if not asked.either or asks_else or HARM.search(words) or _NO_CHOICE.search(words):
        return None
    clause = next((one for one in reversed(_CLAUSE.split(words)) if _OR.search(one)), words)
    options = [_read_option(one, asked) for one in _OR.split(clause)[:_MOST_OPTIONS]]
    options = [one for one in options if one.sides or one.device]
    if len(options) < 2:
        return None
    if told := _choose_link(asked, incident, options):
        return told
    spoken = find_symptoms(asked.query.plain)
    if asked.device and spoken and incident.label not in spoken and incident.label in ATTACKS:
        line = say("no_such_trouble", "unclear", name=asked.name, what=incident.facts[0].text)
        return Answer(line, incident.facts[1:], standing="inconclusive")
    if all(one.device and not one.sides for one in options):
        if asked.query.kind not in _OF_BLAME and not _BLAMES.search(words):
            return None  # "does plc-1 or plc-2 answer?"
        return _choose_device(asked, incident, [one.device for one in options])
    return _choose_side(asked, incident, options)


_LINKS = frozenset(("shared_link", "slow_together"))  # facts that point to the link of one


def _choose_link(asked: Asked, incident: Incident, options: "list[_Option]") -> Answer | None:
    """That it is the link of the one device at which several lose packets, where a question offers that device
    and others: "is it the sensors or the broker?"."""
    of_it = [one for one in options if one.device == incident.device]
    others = [one for one in options if one.device and one not in of_it]
    if not (of_it and others and _LINKS & {kind_of(one) for one in incident.facts}):
        return None
    facts = sorted(incident.facts, key=lambda one: kind_of(one) not in _LINKS)
    line = say("side_link", name=asked.view.name_of(incident.device))
    return Answer(line, tuple(facts), whole=True)


@dataclass(frozen=True)
class _Option:
    """What a question offers: sides that it names, or a device."""

    sides: tuple[str, ...]
    device: str

    def among(self, names: Iterable[str]) -> bool:
        return bool({*(self.sides or _OF_DEVICE)} & {*names})


def _read_option(words: str, asked: Asked) -> _Option:
    mention = read_devices(words, asked.analysis)
    sides = find_sides(hide_names(words, list_names(asked.analysis)))
    if not sides and _TELLS.search(words):  # "plc-1 was gone, crashed or unplugged?"
        return _Option((), "")
    return _Option(sides, next(iter((*mention.devices, *mention.peers)), ""))


def _choose_side(asked: Asked, incident: Incident, options: list[_Option]) -> Answer | None:
    known = _find_remedy(incident)
    at = [one for one in options if one.among(known.lies)]
    chosen = at or [one for one in options if one.among(known.maybe)]
    others = [one for one in options if one not in chosen]
    told = all(one.among((*known.maybe, *known.excludes)) for one in others)
    if chosen and others and told:
        names = {"side": _name(asked, chosen, (*known.lies, *known.maybe))}
        names["others"] = _name(asked, others, (*known.excludes, *known.maybe))
        return _tell(asked, incident, "side_rather" if at else "side_likelier", **names)
    if len(chosen) == len(options):
        return _tell(asked, incident, "side_open")
    return _tell(asked, incident, "side_neither") if told and not chosen else None


def _choose_device(asked: Asked, incident: Incident, offered: list[str]) -> Answer | None:
    """Which of several devices it lies at: "is it plc-1 or hmi-1?"."""
    at = find_end_of(asked, incident)
    if at in offered and len(offered) > 1:
        others = [one for one in offered if one != at]
        names = {"side": asked.view.name_of(at), "others": asked.view.names_of(others)}
        open_end = set(_find_remedy(incident).maybe) & {"client", "server"}
        return _tell(asked, incident, "side_likelier" if open_end else "side_rather", **names)
    others = [one for one in offered if one != incident.device]
    alone = len(others) == len(offered) - 1 and incident.label != "ddos"
    on_way = set(_find_remedy(incident).lies) & {"network", "load", "shared"}
    if not alone or incident.role != "source" or on_way:
        return None
    names = {"side": asked.view.name_of(incident.device), "others": asked.view.names_of(others)}
    open_ends = set(_find_remedy(incident).maybe) & {"client", "server"}
    return _tell(asked, incident, "side_likelier" if open_ends else "side_rather", **names)


def find_end_of(asked: Asked, incident: Incident) -> str:
    """The device at the end that what was found lies at, client or server; "" where it may be both."""
    lies, values = set(_find_remedy(incident).lies), incident.facts[0].values
    ends = [end for end in ("client", "server") if end in lies]
    named = values.get(ends[0]) if len(ends) == 1 else None
    touched = (incident.device, *incident.peers, *incident.related)
    return next((one for one in touched if asked.view.name_of(one) == named), "")


_WHOSE = re.compile(
    r"\b(?:whose|which|what|wessen|welche\w*|de quien|que|cual) (?:\w+ )?(?:ends?|sides?|cables?|plugs?|ports?|links?"
    r"|wires?|kabel|seite|ende|lado|cable)\b"
)
_FEW_PKTS, _LOST_SHARE = 50, 0.01


def _choose_end(asked: Asked, incident: Incident) -> Answer | None:
    """At whose end packets of two are lost: that of the one which loses some with others too, or of the
    one whose partner loses none with others; None where neither is so."""
    one, other = incident.device, incident.peers[0]
    pkts = {end: _count_with_others(asked, incident, end, {one, other}) for end in (one, other)}
    for here, there in ((one, other), (other, one)):
        sent, again = pkts[there]
        mine, mine_again = pkts[here]
        if sent < _FEW_PKTS or again >= _LOST_SHARE * sent:
            continue
        if mine >= _FEW_PKTS and mine_again < _LOST_SHARE * mine:
            return None  # neither loses any with others
        kind = (
            "ends_one" if mine_again >= _LOST_SHARE * max(mine, 1) and mine_again else "ends_clear"
        )
        names = {"name": asked.view.name_of(here), "other": asked.view.name_of(there)}
        line = say(
            kind, **names, pkts=sent, own_share=mine_again / max(mine, 1), other_share=again / sent
        )
        return Answer(line, incident.facts, whole=True)
    return None


def _count_with_others(
    asked: Asked, incident: Incident, end: str, pair: set[str]
) -> tuple[int, int]:
    """Packets that one exchanged with others while it went on, and how many were sent again."""
    first, last = (at // SAMPLE_S for at in (incident.start_s, incident.end_s))
    rows = asked.view.flows_of(end)
    rows = rows[
        ~rows["other"].isin(pair) & rows["slot"].between(first, last) & rows["proto"].eq("tcp")
    ]
    again = asked.view.evidence_of(end, ("retransmission",))
    again = again[~again["other"].isin(pair) & again["slot"].between(first, last)]
    return int((rows["src_pkts"] + rows["dst_pkts"]).sum()), int(again["count"].sum())


def reply_by_side(asked: Asked, incident: Incident) -> Reply:
    """How an answer begins where it was asked whether a trouble lies at a side: "is it the cable?"."""
    sides = set(find_sides(hide_names(asked.question, list_names(asked.analysis))))
    if not asked.polar or not sides or not incident.facts:
        return ""
    known = _find_remedy(incident)
    if sides & set(known.lies):
        return "yes"
    if sides <= set(known.excludes):
        return "no"
    return "unclear" if sides & set(known.maybe) else ""


_MOST_OPTIONS = 5
_TELLS = re.compile(
    r"^(?!is\b|are\b|was\b|were\b).*\b(?:is|are|was|were|has|had|went|goes|does|did|keeps?|stopped)\b"
)
_OF_DEVICE = ("machine", "program")  # what a device is, beside the way to it


def _find_remedy(incident: Incident) -> Playbook | CausePlaybook:
    return find_remedy(incident.label, incident.facts)


def _name(asked: Asked, options: list[_Option], by: tuple[str, ...]) -> str:
    """How an answer calls some options, each once, by the side that decides."""
    names = [
        next((read_sides()[side].said for side in by if side in one.sides), "")
        or asked.view.name_of(one.device)
        for one in options
    ]
    return " or ".join(dict.fromkeys(names))


def _tell(asked: Asked, incident: Incident, kind: str, **names: str) -> Answer:
    place = find_place(incident.label, incident.facts)
    reply: Reply = "unclear" if kind == "side_open" else ""
    line = say(kind, reply, place=place, names=asked.name_ends(incident), **names)
    return Answer(line, incident.facts, whole=True)


_BLAME = re.compile(
    r"\b(?:to blame|blame for|guilty|at fault|schuld|culpa|culpable|whose fault|whose doing)\b"
)
_WHO = re.compile(r"\b(?:who|whose|wer|quien|which|what|welche\w*|cual)\b")


def answer_blame(asked: Asked) -> Answer | None:
    """Whose fault it is: who attacks, else where it lies; None where that is not asked."""
    plain, incident = asked.query.plain, asked.incident
    if incident is None or not incident.facts or asked.either:
        return None
    if not (_BLAME.search(plain) and _WHO.search(plain)):
        return None
    culprits = find_culprits(incident)
    if incident.label in ATTACKS:
        line = say("blame_attack_of", names=asked.view.names_of(culprits))
        return Answer(line, incident.facts, about=culprits[0])
    place = find_place(incident.label, incident.facts)
    at = find_end_of(asked, incident)
    names = asked.view.name_of(at) if at else asked.name_ends(incident)
    return Answer(say("blame_fault" if at else "place", place=place, names=names), incident.facts)
