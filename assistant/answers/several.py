"""A device with several incidents: all that it did and suffered, an attack and a fault, who hit it and whom else.

Where a question fits several, none of them is left out in silence: each is a line, the worst first.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from assistant.answers.asked import Answer, Asked, Reply, begin, find_incidents, say, tell_incident
from assistant.answers.attacks.denials import find_contrary
from assistant.answers.incidents.condition import describe_incident, judge_all
from assistant.answers.incidents.sides import HARM
from assistant.answers.plant.descriptions import describe_requests, name_times
from assistant.answers.traffic.partners import UNDER_CONTROL
from assistant.detection.incidents import Incident, worst_first
from assistant.diagnosis.choosing import (
    AIMED_AT,
    END,
    OWN,
    attacks,
    find_culprits,
    find_targets,
    measure_part,
)
from assistant.diagnosis.playbook import find_asked, find_cause, read_playbook
from assistant.diagnosis.spans import find_end, find_start, is_over
from assistant.diagnosis.symptoms import find_symptoms
from assistant.facts.fact import Fact, Value, listed
from assistant.facts.requests import is_refused
from assistant.questions.queries import specific_words
from traffic.labels import ATTACKS

_MOST, _MOST_OF_PLANT = 8, 12


def list_of_device(
    asked: Asked, device: str, least: float = END, *, faults: float = OWN
) -> list[Incident]:
    """Incidents that are a device's own, the worst first; then attacks at whose other end it is, and faults
    in which it has so much part."""
    found = [one for one in worst_first(list(asked.analysis.incidents)) if one.facts]
    part = {one.id: measure_part(one, device, asked.view) for one in found}
    mine = [
        one for one in found
        if part[one.id] >= least and (part[one.id] >= faults or one.label in ATTACKS)
    ]  # fmt: skip
    return sorted(mine, key=lambda one: part[one.id] < OWN)


def answer_several(asked: Asked) -> Answer | None:
    """All incidents that a question about one device means; None where it means one, or something else."""
    return (
        _answer_both_kinds(asked)
        or _answer_ours(asked)
        or _answer_outages(asked)
        or _answer_identity(asked)
        or _answer_does_too(asked)
        or _answer_whom_else(asked)
        or _answer_who_else_failed(asked)
        or _answer_else(asked)
        or _answer_suffered(asked)
        or (tell_all(asked, asked.device, END) if _ALL.search(asked.query.plain) else None)
    )


# "what is it up to?", "what did it do all?", "what is all wrong with it?"
_ALL = re.compile(
    r"\b(?:up to|done wrong|do(?:ne)? all|all (?:\w+ )?(?:do(?:ne)?|did)|(?:what|was) (?:has |have |did |hat )?"
    r"(?:all|alles)\b|everything (?:\w+ )?(?:it|he|she|dev) (?:\w+ )?d(?:id|one|oes)|todo lo que (?:hizo|hace))\b"
    r"|^(?:and |so )?what (?:is|are|was|were|has|have) (?:dev|it|he|she|you) (?:\w+ )?(?:doing|done)\b"
    r"|^(?:and |so )?what (?:did|has) (?:dev|it|he|she) (?:do|done)\W*$|^dev,? what (?:are you|is it|did it)\b"
    r"|\b(?:done|happened) to (?:dev|it|him|her)\b|\ball in all\b"
)


def tell_all(asked: Asked, device: str, least: float = OWN) -> Answer | None:
    """All that is known of a device that has several incidents; None where it has one or none."""
    if not device or len(list_of_device(asked, device, least)) < 2:
        return None
    return _tell(asked, "all_of_device", list_of_device(asked, device), device)


def _tell(
    asked: Asked, kind: str, incidents: Sequence[Incident], device: str, reply: Reply = ""
) -> Answer:
    line = say(
        kind,
        reply,
        name=asked.view.name_of(device),
        n=len(incidents),
        **_name_each(asked, incidents, device),
    )
    facts = tuple(describe_incident(one, asked) for one in incidents[:_MOST])
    return Answer(line, facts, listing=True, about=device)


def _name_each(asked: Asked, incidents: Sequence[Incident], device: str = "") -> dict[str, Value]:
    """What each is, and since when, as a sentence lists them; of attacks on a device also by whom."""
    parts = list[Fact]()
    for one in incidents[:_MOST]:
        values: dict[str, Value] = {
            "what": read_playbook(one.label).short, "start_time_s": find_start(one)[0],
        }  # fmt: skip
        by = asked.view.names_of(find_culprits(one)) if device and attacks(one, device) else ""
        parts.append(say("kind_since_by" if by else "kind_since", **values, by=by))
    moments: dict[str, Value] = {
        f"k{at}_time_s": part.values["start_time_s"] for at, part in enumerate(parts)
    }
    return moments | {"kinds": listed((part.text for part in parts), _MOST)}


_OF_TROUBLE = frozenset(("health", "wrong", "why"))


def answer_all_of(asked: Asked, headline: Fact) -> Answer | None:
    """All incidents of the device that is named, or of the plant, where nothing says which is meant: "is edge-1
    ok?", "what is wrong?"; None where words mean one, or there are no two."""
    plain, found = asked.query.plain, asked.found
    if asked.query.kind not in _OF_TROUBLE or asked.span or asked.second or found.mention.alike:
        return None
    if (
        find_asked(plain)
        or find_symptoms(plain)
        or set(specific_words(asked.question)) & _terms(asked)
    ):
        return None
    if asked.device and not asked.query.names_device:
        return None  # of what the talk is about
    if asked.device:
        reply = asked.all_is(False) if asked.query.kind == "health" else ""
        mine = list_of_device(asked, asked.device)
        return _tell(asked, "all_of_device", mine, asked.device, reply) if len(mine) > 1 else None
    known = worst_first([one for one in asked.analysis.incidents if one.facts])
    if len(known) < 2 or asked.focus is not None or found.mention.kind:
        return None
    first = found.incident if found.incident in known else known[0]
    reply = asked.all_is(False) if asked.query.kind == "health" else ""
    told = headline.text if first is found.incident else first.facts[0].text
    line = say("all_of_plant", reply, n=len(known), what=f"{told[0].lower()}{told[1:]}")
    shown = [first, *(one for one in known if one is not first)][:_MOST_OF_PLANT]
    facts = [describe_incident(one, asked) for one in shown]
    if len(known) > len(shown):
        facts.append(say("incidents_more", n=len(known) - len(shown)))
    facts.append(judge_all(asked.analysis).line)
    return Answer(line, tuple(facts), listing=True, about=first.device)


def _terms(asked: Asked) -> set[str]:
    """Words that tell one incident from another: those of its facts."""
    texts = " ".join(one.facts[0].text for one in asked.analysis.incidents if one.facts)
    return set(re.findall(r"[^\W\d_]{4,}", texts.lower()))


_OR = re.compile(r"\b(?:or|oder|o)\b")
_OTHERS = re.compile(r"\b(?:before|after|during|vor|nach|antes|despues)\b")


def _answer_both_kinds(asked: Asked) -> Answer | None:
    """Whether it is an attack, a fault or both, where a question offers both."""
    plain = asked.query.plain
    options = _OR.split(plain)
    harmful = [bool(HARM.search(one)) for one in options]
    device = asked.device or (asked.incident.device if asked.incident else "")
    if not asked.either or len(set(harmful)) < 2 or not device or _OTHERS.search(plain):
        return None
    mine = list_of_device(asked, device)
    if asked.second:  # "plc-3 drops the historian, fault or attack?"
        mine = [one for one in mine if one.touches(asked.second)]
    hostile = [
        one for one in mine if attacks(one, device)
        or (one.label in ATTACKS and device in find_culprits(one))
    ]  # fmt: skip
    faults = [
        one for one in mine
        if one.label not in ATTACKS and measure_part(one, device, asked.view) >= OWN
    ]  # fmt: skip
    if not hostile or not faults:
        one = (hostile or faults)[:1]
        if not one or asked.query.kind in ("attack", "security"):
            return None
        kind = "is_attack" if hostile else "is_fault"
        return Answer(say(kind, what=one[0].facts[0].text), one[0].facts[1:], whole=True)
    spoken = find_symptoms(plain)
    means_fault = faults[0].label in spoken and hostile[0].label not in spoken
    line = say(
        "both_fault_first" if means_fault else "both_kinds", name=asked.view.name_of(device),
        attack=hostile[0].facts[0].text, fault=faults[0].facts[0].text,
    )  # fmt: skip
    shown = (*hostile[1:], *faults[1:])
    facts = (*(describe_incident(one, asked) for one in shown), *hostile[0].facts[1:3])
    return Answer(line, facts)


_OURS = re.compile(r"\b(?:ours|one of us|unsere\w*|nuestr[oa]s?)\W*$")


def _answer_ours(asked: Asked) -> Answer | None:
    """Whether the attack that is meant comes from a device of the plant: "a scan at 9:05, ours?"."""
    incident, plant = asked.incident, asked.analysis.plant
    meant = incident is not None and incident.label in ATTACKS and not asked.device
    if incident is None or plant is None or not meant or not _OURS.search(asked.query.plain):
        return None
    culprits, known = find_culprits(incident), {one.address for one in plant.devices}
    kind = "ours" if set(culprits) <= known else "ours_not"
    line = say(kind, names=asked.view.names_of(culprits))
    return Answer(line, incident.facts, about=culprits[0])


_HOW_OFTEN = re.compile(
    r"\b(?:once|twice|how often|how many times|more than one time|several times|einmal|zweimal|wie oft|una vez"
    r"|dos veces)\b"
)
_OFF = re.compile(
    r"\b(?:off|dead|down|gone|silent|away|out|unreachable|fail\w*|drop\w*|los[et]\w*|links?|cables?|disconnect\w*"
    r"|weg|aus|tot|kabel|verbindung|caid[oa]|cay\w*|enlace|cable)\b"
)
_FAILS = frozenset(("device_silent", "service_down", "flapping"))


def _answer_outages(asked: Asked) -> Answer | None:
    """When a device failed, where it did so more than once: "plc-2 dead twice?"."""
    counts = bool(_HOW_OFTEN.search(asked.query.plain) and _OFF.search(asked.query.plain))
    asks = counts or asked.query.kind == "answers"
    if not asks or not asked.device or asked.second or asked.span:
        return None
    failed = [one for one in list_of_device(asked, asked.device, OWN) if one.label in _FAILS]
    if len(failed) < (1 if counts else 2):
        return None
    if len(failed) == 1 and failed[0].label == "flapping":  # its own fact says how often
        return tell_incident(failed[0])
    failed.sort(key=lambda one: find_start(one)[0])
    parts = [
        say("kind_span", what=read_playbook(one.label).short, start_time_s=find_start(one)[0],
            end_time_s=find_end(one))
        for one in failed
    ]  # fmt: skip
    over = all(is_over(one, asked.analysis) for one in failed)
    moments = {f"{name}{at}_time_s": part.values[f"{name}_time_s"]
               for at, part in enumerate(parts) for name in ("start", "end")}  # fmt: skip
    kinds = listed((part.text for part in parts), _MOST)
    line = say(
        "outages_over" if over and not counts else "outages", "" if counts else asked.is_well(over),
        name=asked.name, n=len(failed), kinds=kinds, **moments,
    )  # fmt: skip
    return Answer(line, tuple(one.facts[0] for one in failed))


_IDENTITY = re.compile(
    r"^(?:and |so |but )*(?:is|was|were) (?:that|this|it|they|these)(?: also| really| not| just| only| then| maybe)*"
    r" (?:the|an?|because of|due to|from|caused by|part of) "
)


def _answer_identity(asked: Asked) -> Answer | None:
    """Whether what the talk is about is trouble of another kind: "was that the flood?"."""
    focus, plain = asked.focus, asked.query.plain
    labels = find_asked(plain) if focus and _IDENTITY.match(plain) else ()
    if focus and _IDENTITY.match(plain) and asked.query.relation == "scan":
        labels = ("recon",)
    cause = find_cause(focus.facts) if focus else None
    same = cause and cause.asked and re.search(rf"\b(?:{cause.asked})\b", plain)
    if focus is None or not focus.facts or not labels or focus.label in labels or same:
        return None
    ends = (focus.device, *focus.peers[:1], *filter(None, (asked.device,)))
    others = [
        one
        for one in find_incidents(asked.about("", asked.span), labels)
        if any(map(one.touches, ends))
    ]
    values: dict[str, Value] = {
        "fault": read_playbook(focus.label).short, "name": asked.view.name_of(focus.device),
        "start_time_s": find_start(focus)[0], "other": read_playbook(labels[0]).short,
    }  # fmt: skip
    if not others:
        return Answer(say("identity_none", "unclear", **values), focus.facts)
    other = others[0]
    start_s, end_s = find_start(other)[0], find_end(other)
    apart = end_s < find_start(focus)[0] or start_s > find_end(focus)
    values |= {
        "other": read_playbook(other.label).short,
        "other_time_s": start_s,
        "until_time_s": end_s,
    }
    line = (
        say("identity_apart", "no", **values)
        if apart
        else say("identity_meanwhile", "unclear", **values)
    )
    return Answer(line, (*focus.facts[:1], *other.facts))


_HE = re.compile(r"^(?:and |so |but )*(?:does|did|is|was|has) (?:it|he|she|that one)\b")


def _answer_does_too(asked: Asked) -> Answer | None:
    """That another did what is asked of who attacks in the talk: "does it also stand between A and B?"."""
    focus, incident = asked.focus, asked.incident
    if focus is None or incident is None or not asked.query.names_device or not asked.polar:
        return None
    hostile = {focus.label, incident.label} <= set(ATTACKS) and bool(incident.facts)
    if not hostile or focus.id == incident.id or not _HE.match(asked.query.plain):
        return None
    culprits, named = (
        find_culprits(incident),
        (*asked.found.mention.devices, *asked.found.mention.peers),
    )
    others = set(culprits).isdisjoint((*find_culprits(focus), *named))
    if not others or not any(one in find_targets(incident) for one in named):
        return None
    line = say(
        "does_not_but", "no", names=asked.view.names_of(culprits), what=incident.facts[0].text
    )
    return Answer(line, incident.facts[1:], about=culprits[0])


_WHOM_ELSE = re.compile(
    r"\b(?:who|whom|which \w+|anyone|anybody|someone|any other \w+|wen|quien) (?:else|others?|sonst|mas)\b"
    r"|\b(?:another|other) (?:victims?|targets?|plcs?|devices?|machines?|hosts?|controllers?)\b"
    r"|\b(?:elsewhere|anywhere else|somewhere else|to others|woanders|en otr[oa]s? (?:sitio|lado|equipo)s?)\b"
)
_ACTS = re.compile(
    r"\b(?:hits?|attack\w*|scann?\w*|flood\w*|hammer\w*|target\w*|prob(?:e|es|ed|ing)|spoof\w*|mess\w*|harm\w*"
    r"|do(?:es)? (?:it|that|this) to|did (?:it|he|she|they|dev)"
    r"|(?:go(?:es)?|went) (?:for|after)|(?:ha[ds]|have) a go|victims?|targets?|bother\w*)\b"
)
_BY_THEM = re.compile(r"\b(?:dev|it|he|she|they|them|him)\b")


def _answer_whom_else(asked: Asked) -> Answer | None:
    """Whom else those attack who attack here: "who else did it hit?"; None where nobody is known to."""
    plain = asked.query.plain
    if not (_WHOM_ELSE.search(plain) and _ACTS.search(plain)) or _BY_ELSE.search(plain):
        return None
    found = [one for one in worst_first(list(asked.analysis.incidents)) if one.facts]
    hostile = [one for one in found if one.label in ATTACKS and one.label not in UNDER_CONTROL]
    does = [one for one in hostile if asked.device in find_culprits(one)]
    first = does[0] if does else asked.focus
    if first is None or first.label not in ATTACKS:
        return None
    sources = [asked.device] if does else find_culprits(first)
    known = {asked.device, *(() if asked.query.names_device else find_targets(first))}
    acts = [one for one in hostile if set(sources) & set(find_culprits(one))]
    hit = dict.fromkeys(end for one in acts for end in find_targets(one) if end not in known)
    names = asked.view.names_of(sources)
    if not hit:
        line = say("whom_else_none", asked.reply(False), names=names)
        return Answer(line, tuple(one.facts[0] for one in acts))
    line = say("whom_else", asked.reply(True), names=names, others=asked.view.names_of(hit, _MOST))
    told = [one for one in acts if set(find_targets(one)) & set(hit)]
    return Answer(line, tuple(describe_incident(one, asked) for one in told), listing=True)


_FAILED = re.compile(
    r"\b(?:could|can|did) (?:not|no longer) (?:log|connect|get|come|reach)\b"
    r"|\b(?:turned away|refused|rejected|locked out|denied|not let in|kept out)\b"
)


def _answer_who_else_failed(asked: Asked) -> Answer | None:
    """Who else was refused by a server, or got no answer: "who else could not log in at the broker?"."""
    plain, focus = asked.query.plain, asked.focus
    if (
        focus is None
        or not asked.device
        or not (_WHOM_ELSE.search(plain) and _FAILED.search(plain))
    ):
        return None
    rows = asked.requests
    rows = rows[rows["server"] == asked.device]
    rows = rows[is_refused(rows) | (rows["outcome"] == "unanswered")]
    rows = rows[~rows["client"].isin([focus.device, *focus.peers])]
    if rows.empty:
        return None
    order = rows["client"].astype("str").value_counts()
    names = [f"{asked.view.name_of(str(one))} ({name_times(int(n))})" for one, n in order.items()]
    counts: dict[str, Value] = {f"c{place}": int(n) for place, n in enumerate(order)}
    line = say(
        "failed_too", asked.reply(True), name=asked.name, n=len(order), names=listed(names, _MOST),
        **counts,
    )  # fmt: skip
    doors = (one.facts[0] for one in find_contrary(asked, "nobody_refuse"))  # at which none asks
    return Answer(line, (*doors, *describe_requests(rows, asked.view, refused=True)))


# "who else attacked dev?" asks for others who do it.
_BY_ELSE = re.compile(
    r"\b(?:else|others?) (?:is |was |were |are |has |have )?(?:being )?"
    r"(?!(?:is|was|are|were|did|does|do|has|have)\b)\w+ (?:dev|it|him)\b"
)
_ELSE = re.compile(
    r"^(?:and )?(?:is there |was there |did (?:it|he|dev) (?:do )?|does (?:it|dev) (?:do )?|has (?:it|dev) (?:done )?)?"
    r"(?:anything|something|what|was|etwas|algo) (?:else|more|noch|mas)\b(?!.*\b(?:plant|network|check|know|other)\b)"
)


def _answer_else(asked: Asked) -> Answer | None:
    """What else is known of the device that is talked about: "anything else with it?"."""
    incident, device = asked.incident, asked.device
    if incident is None or not device or not _ELSE.match(asked.query.plain):
        return None
    touching = list_of_device(asked, device, faults=END)
    others = [one for one in touching if one.id != incident.id]
    reply = asked.reply(bool(others))
    if not others:
        line = say("else_none", asked.reply(False), name=asked.name)
        return Answer(line, incident.facts[:1])
    if len(others) == 1:
        first = others[0]
        return replace(tell_incident(first), line=begin(first.facts[0], reply))
    return _tell(asked, "all_of_device", others, device, reply)


_BY_ANY = re.compile(r"\bby (?:any|some)(?:one|body|thing)\b")
_TIMES_HIT = re.compile(r"\b(?:hit|attacked|flooded|scanned) (?:once|twice|several times|again)\b")
_WHAT = re.compile(
    r"^(?:and |so |but )*(?:what|who|whom|was|wer|que|quien)\b|\b(?:what|who)\b.{0,30}$"
)


def _answer_suffered(asked: Asked) -> Answer | None:
    """What was done to a device, and by whom: "what hit hmi-1?"; None where no attack on it is known."""
    plain, device = asked.query.plain, asked.device
    asks = any(one.search(plain) for one in (_WHAT, _TIMES_HIT, _BY_ANY))
    active = asked.query.active and not _BY_ANY.search(plain)
    if not (device and AIMED_AT.search(plain) and asks) or active:
        return None
    hits = [one for one in list_of_device(asked, device) if attacks(one, device)]
    spoken = find_asked(plain)
    hits = [one for one in hits if one.label in spoken] or hits
    if not hits:
        return None
    if len(hits) > 1:
        names = asked.view.names_of(
            dict.fromkeys(end for one in hits for end in find_culprits(one)), _MOST
        )
        line = say(
            "suffers_several",
            asked.reply(True),
            name=asked.name,
            n=len(hits),
            names=names,
            **_name_each(asked, hits),
        )
        facts = tuple(describe_incident(one, asked) for one in hits[:_MOST])
        return Answer(line, facts, listing=True, about=device)
    line = begin(hits[0].facts[0], asked.reply(True))
    return replace(tell_incident(hits[0]), line=line, about=device)
