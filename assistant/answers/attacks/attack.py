"""Attack or fault, how often something was attacked, and what of it no traffic tells."""

import re

from assistant.answers.asked import Answer, Asked, Reply, find_incidents, say, say_span
from assistant.answers.incidents.condition import describe_incident, judge_all
from assistant.detection.incidents import Incident, worst_first
from assistant.diagnosis.choosing import attacks, find_culprits
from assistant.diagnosis.playbook import find_asked, read_playbook
from assistant.diagnosis.spans import find_end, find_start, is_over
from assistant.diagnosis.standing import is_unanswered
from assistant.facts.fact import Fact
from traffic.labels import ATTACKS

_MOST = 8


def answer_attack(asked: Asked, headline: Fact) -> Answer:
    """Attack or fault, as far as traffic tells."""
    plain = asked.query.plain
    if asked.polar and (asked.ended or asked.still) and asked.incident is not None:
        chosen = _choose_last(asked) or _choose_attack(asked) or asked.incident
        over = is_over(chosen, asked.analysis)
        return Answer(say_span(asked, chosen, asked.reply(over == asked.ended)), chosen.facts)
    if not asked.device and asked.analysis.incidents and _EACH.search(plain):
        return _sort_by_kind(asked)
    if asked.incident is not None and _WHOSE.search(plain):
        line = say("whose_tool", "unclear", name=asked.view.name_of(asked.incident.device))
        return Answer(line, (headline, *asked.incident.facts[1:]), whole=True)
    if asked.incident is not None and _TIMES.search(plain):
        return _count_attacks(asked)
    incident = _choose_attack(asked)
    if incident is None and asked.found.standing == "normal":
        judged = judge_all(asked.analysis)
        if asked.device or judged.well == len(judged.devices):
            line = say("attack_none", asked.reply(False), name=asked.name, condition=headline.text)
            return Answer(line, asked.found.facts)
        reply: Reply = "unclear" if asked.polar else ""
        line = say("hostile_none", reply)
        return Answer(line, (judged.line, *asked.found.facts), standing="inconclusive")
    if incident is None:
        return Answer(headline, asked.found.facts, whole=True)
    does = incident.facts[0].text if incident.facts else ""
    kind = "attack" if incident.label in ATTACKS else "fault"
    rest = (*incident.facts[1:], *_doubtful(incident.label), *doubt_of(asked), *asked.sensor)
    itself = kind == "attack" and incident.role != "target" and incident.device == asked.device
    if itself and _SUFFERS.search(plain):  # "is it under attack?", of who attacks
        line = say("attacks_itself", asked.reply(False), name=asked.name, what=does)
        return Answer(line, rest, whole=True)
    # "did somebody delete a variable?" is not answered by "no": a fault.
    harm = asked.query.relation == "attack" or bool(_HARM.search(plain))
    reply = asked.reply(kind == "attack") if harm else ""
    if kind == "fault" and _TAKEN.search(plain):
        reply = "unclear"  # a fault beside it does not say that nobody got into the machine
    if _MEANT.search(plain) and asked.polar and kind == "attack":
        reply = "unclear"  # who means it, no traffic says
    if kind == "attack" and incident.label in LIKE_WORK and is_own_work(asked, incident):
        reply = "unclear"  # who maintains the plant scans and writes too
    # A victim of an attack is under attack; a source of one may be infected, or a tool of the plant.
    unanswered = is_unanswered(incident.label, incident.facts)
    unsure = asked.found.standing == "inconclusive"
    if unanswered and asked.found.standing != "confirmed":
        line = say("maybe_either", "unclear", what=does)
    else:
        reply = "" if unsure or asked.either else reply
        line = say(f"{'maybe' if unsure else 'is'}_{kind}", reply, what=does)
    return Answer(line, rest, whole=True)


_ATTACKER = re.compile(
    r"\b(?:attackers?|culprit|offender|aggressor|source|hurting|attacking|hitting|flooding|angreifer|taeter|atacante)\b"
)
_VICTIM = re.compile(
    r"\b(?:victims?|targets?|sufferer|hurt|hit|attacked|opfer|ziel|victima|objetivo)\b"
)


def answer_side_of_attack(asked: Asked) -> Answer | None:
    """Whether a device attacks or suffers it: "is it the attacker or the victim?"; None where that is
    not asked, or no attack touches it."""
    plain = asked.query.plain
    if not (asked.device and asked.either and _ATTACKER.search(plain) and _VICTIM.search(plain)):
        return None
    found = find_incidents(asked, ATTACKS)
    does = [one for one in found if asked.device in find_culprits(one)]
    if not found:
        return None
    hits = [one for one in found if attacks(one, asked.device)]
    first = (does or hits or found)[0]
    kind = "side_both" if does and hits else "side_attacks" if does else "side_suffers"
    other = hits[0].facts[0].text if hits else ""
    line = say(kind, name=asked.name, what=first.facts[0].text, other=other)
    others = tuple(one.facts[0] for one in found if one is not first)
    return Answer(line, (*first.facts[1:], *others), whole=True)


LIKE_WORK = ("recon", "unauthorized_command")
_WORKPLACE = re.compile(r"(?i)\b(?:engineer\w*|work ?station|maintenance|programming)\b")


def is_own_work(asked: Asked, incident: Incident) -> bool:
    """Whether plant.yaml says that the machine is one from which people work on devices."""
    culprit = find_culprits(incident)[0]
    named = (one for one in asked.view.plant.devices if one.address == culprit)
    return any(_WORKPLACE.search(one.role) for one in named)


_TAKEN = re.compile(
    r"\b(?:hack|infect|compromis|hijack|taken over|malware|virus|befallen|verseucht|uebernommen|gehackt|infiz"
    r"|comprometid|hackead)\w*"
)
_TIMES = re.compile(
    r"\b(?:once|twice|how (?:many times|often)|several times|again and again|wie oft|cuantas veces)\b"
)


def _count_attacks(asked: Asked) -> Answer:
    """How often something was attacked, each time with when and by whom."""
    found = find_incidents(asked, ATTACKS)
    found = [one for one in found if not asked.device or asked.device not in find_culprits(one)]
    found.sort(key=lambda one: find_start(one)[0])
    line = say("count_attacks", n=len(found), name=asked.name)
    facts = tuple(describe_incident(one, asked) for one in found[:_MOST])
    return Answer(line, facts or asked.found.facts, listing=True)


_THAT = re.compile(r"\b(?:that|this|it|das|es|eso|esto)\b")


def _choose_attack(asked: Asked) -> Incident | None:
    """The incident that tells whether it is an attack: the one in focus, unless it is a fault and an
    attack touches the device, or no device is meant; of a victim, one that is aimed at it."""
    spoken, now = asked.focus, asked.incident
    if now and asked.second and now.touches(asked.device) and now.touches(asked.second):
        return now  # what is between both
    of_it = asked.either or bool(_THAT.search(asked.query.plain))
    if of_it and not asked.query.names_device and spoken and now and spoken.id == now.id:
        return now  # "attack or fault?" is asked of what the talk is about
    ordered = worst_first(list(asked.analysis.incidents))
    if asked.device:
        ordered = [one for one in ordered if one.touches(asked.device)]
    attacks = [one for one in ordered if one.label in ATTACKS]
    # A fault before which a worse attack stands is meant by the question's own words.
    fault = asked.incident is not None and asked.incident.label not in ATTACKS
    if asked.device and fault and ordered and ordered[0] in attacks:
        return asked.incident
    aimed = [one for one in attacks if one.role == "target" or one.device != asked.device]
    if asked.device and aimed and _SUFFERS.search(asked.query.plain):
        return aimed[0]
    if asked.incident is not None and asked.incident.label in ATTACKS:
        return asked.incident
    return next(iter(attacks), asked.incident)


def _choose_last(asked: Asked) -> Incident | None:
    """Of attacks on a device that is named, the last to end, unless its kind is named too."""
    if not asked.query.names_device or not asked.device or find_asked(asked.query.plain):
        return None
    found = [one for one in find_incidents(asked, ATTACKS) if attacks(one, asked.device)]
    return max(found, key=find_end, default=None)


# A tool's name, or whose it is, stands in no packet.
_WHOSE = re.compile(
    r"\b(?:nmap|nessus|metasploit|masscan|shodan|openvas|zmap|hydra)\b"
    r"|\b(?:our|my|your|of us) (?:own )?(?:\w+ )?"
    r"(?:scanners?|scans?|tools?|inventory|tests?|pentest\w*|engineers?|maintenance|admins?|colleagues?|people"
    r"|staff|contractors?)\b"
)
_EACH = re.compile(
    r"\b(which|what|how many|separate|split|sort|welche\w*|cuales)\b.*\b(faults?|technical|failures?)\b"
)


_SUFFERS = re.compile(
    r"\bunder attack\b|\b(?:being|was|were|been|is|are) (?:attacked|targeted|flooded|hit)\b|\bvictims?\b|\btargets?\b"
)


_MEANT = re.compile(
    r"\b(?:deliberate|intent|purpose|planned|meant|absicht|mutwillig|a proposito)\w*"
)
_HARM = re.compile(
    r"\b(?:attack|hack|malware|virus|worm|trojan|ransom|compromis|infect|intru|breach|botnet|sabotag|malicious"
    r"|hostile"
    r"|hijack|cyber|spoof|impersonat|tamper|denial|d?dos|deliberate|intent|purpose|foul|evil|danger|threat|crimin"
    r"|angriff|angegriffen|greif|gehackt|schad|infiziert|kompromitt|absicht|mutwillig|ataque|atac|comprometid"
    r"|intrus)\w*"
)


def _sort_by_kind(asked: Asked) -> Answer:
    """All incidents, those whose traffic belongs to attacks before the technical faults."""
    found = [one for one in worst_first(list(asked.analysis.incidents)) if one.facts]
    attacks = [one for one in found if one.label in ATTACKS]
    faults = [one for one in found if one.label not in ATTACKS]
    line = say("sorted", attacks=len(attacks), faults=len(faults), all=len(found))
    facts = [
        say(kind, what=one.facts[0].text)
        for kind, some in (("sorted_attack", attacks), ("sorted_fault", faults))
        for one in some
    ]
    return Answer(line, (*facts, say("intent_unknown")), listing=True)


def _doubtful(label: str) -> tuple[Fact, ...]:
    return (say("intent_unknown"),) if label in ATTACKS else (say("fault_only_here"),)


def doubt_of(asked: Asked) -> tuple[Fact, ...]:
    """What cannot be told from traffic alone of the incident that is meant."""
    incident = asked.incident
    if incident is None:
        return ()
    doubt = read_playbook(incident.label).doubt
    return (
        (say("as_it_is", text=doubt),)
        if doubt and is_unanswered(incident.label, incident.facts)
        else ()
    )
