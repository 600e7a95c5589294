"""Which incident a question means: one score for all that its words say of each.

What a cause is called, its kind of trouble, what people complain of who see it, the devices that are named
and their part in it, whether it is aimed at them, what the talk is about, how severe it is.
"""

import re
from collections.abc import Callable, Sequence

from assistant.detection.incidents import Incident, worst_first
from assistant.detection.pipeline import Analysis
from assistant.diagnosis.playbook import find_asked, find_cause
from assistant.diagnosis.resemblance import LEAD, measure_resemblance
from assistant.diagnosis.spans import find_end, find_start
from assistant.diagnosis.symptoms import measure_symptoms
from assistant.facts.fact import find_whole, kind_of
from assistant.facts.traffic_view import TrafficView
from assistant.questions.entities import Mention, list_names
from assistant.questions.plain import is_name_alone, make_plain
from assistant.questions.queries import Query
from assistant.questions.times import Span, read_span
from traffic.labels import ATTACKS

# What the words of a question say, the plainer the more; together they outweigh whose it is.
_CAUSE, _LABEL, _SYMPTOM, _AIMED = 12.0, 6.0, 10.0, 2.0
_AT_THAT_TIME, _SPOKEN = 3.0, 2.0
# What is spoken, where a question names it: the facts of what is meant name it too.
_SERVICES = re.compile(
    r"\b(?:telnet|ssh|ftp|rdp|vnc|snmp|https?|modbus|mqtt|dns|ntp|bacnet|dnp3|s7|opc ?ua|profinet|icmp|pings?|udp"
    r"|arp)\b"
)
# Part that a named device has in it. Who is one of many says little: a scan, a dead clock.
OWN, END, LISTED, ONE_OF_MANY = 3.0, 2.0, 1.0, 0.5
_SEVERE = {"high": 1.5, "medium": 0.75}
# What is done, as terms.yaml calls it, and the trouble that it is where somebody must not.
OF_ACTS = {"write": "unauthorized_command", "scan": "recon", "login": "brute_force"}
_FOCUS = 2.4  # less than a plain complaint, more than how severe another is
_MANY_PEERS, _FEW_PEERS = 10, 2
_NEAR = 1.5  # of the best score, within which the meaning of the words decides
_LEAD_OF_FOCUS = 4 * LEAD  # "who notices it?" means what is talked about, whatever it resembles
# Devices that take part beside the one it is named by, as its like and not as its victims.
_OF_MANY = frozenset(("ddos", "device_silent"))

# "what hit plc-1?", "is it being attacked?" mean what is done to it.
AIMED_AT = re.compile(
    r"\b(?:who|what|whom|wer|was|quien|que)(?: \w+)? (?:has |have |is |was |are |were )?"
    r"(?:hits?|hit|hitting|attack\w*|scann?\w*|flood\w*|hammer\w*|target\w*|prob(?:es|ed|ing)|spoof\w*|knock\w*"
    r"|mess(?:es|ed|ing) with|greift|angegriffen|ataca\w*)\b"
    r"|\b(?:being|got|gets|get|been|was|were|is|are) (?:[\w-]+ )?(?:hit|attacked|scanned|flooded|hammered|targeted"
    r"|probed|swept)\b(?! (?:by|from) dev\b)|\bunder attack\b|\b(?:done|happened) to (?:dev|it|him|[a-z]+-?\d+)\b"
)


def find_culprits(incident: Incident) -> list[str]:
    """Who does it: of a flood from many all who take part; who is suffered from where it is known."""
    if incident.role == "target":
        if incident.facts and kind_of(incident.facts[0]) == "duplicate":
            return [incident.device]  # the second machine has no address of its own
        most = len(incident.peers) if incident.label == "ddos" else 1
        return list(incident.peers[:most]) or [incident.device]
    others = [one for one in incident.related if one not in incident.peers]
    return [incident.device, *(others if incident.label == "ddos" else ())]


def find_targets(incident: Incident) -> list[str]:
    """Whom it is done to: of false addresses those whose address is claimed, not all who talk with them."""
    if incident.role == "target":
        return [incident.device]
    if incident.label != "spoofing" or not incident.facts:
        return list(incident.peers)
    claimed = [one for one in incident.peers if find_whole(one, incident.facts[0].text)]
    return claimed or list(incident.peers)


def find_run(incident: Incident | None, query: Query) -> str:
    """Whom a question asks of whether it runs, where the talk is about who commanded or flooded it; else ""."""
    if incident is None or query.names_device:
        return ""
    plain = query.plain
    asks = (incident.label == "unauthorized_command" and _RUNS.search(plain)) or (
        incident.label in _FLOODS and _HOLDS.search(plain)
    )
    return next(iter(find_targets(incident)), "") if asks else ""


_FLOODS = frozenset(("dos", "ddos", "mqtt_abuse"))
_HOLDS = re.compile(
    r"\b(?:still (?:work\w*|up|there|answer\w*)|ke(?:ep|pt) (?:on )?\w+ing|h[eo]ld up|surviv\w*|cop(?:e|ed)"
    r"|go down|went down|ueberleb\w*|aguant\w*)\b"
)
_RUNS = re.compile(
    r"\b(?:running|runs|started|stopped|alive|up again|back (?:up|on|in run)|laeuft|funciona|corre|marcha)\b"
)


def measure_part(incident: Incident, device: str, view: TrafficView) -> float:
    """How much a device has to do with an incident: 3 whose it is, 2 at its other end, 1 or less where it
    is listed among others, 0 where it has nothing to do with it."""
    if not incident.touches(device):
        return 0.0
    first = incident.facts[0] if incident.facts else None
    named = first is not None and find_whole(view.name_of(device), first.text) is not None
    many = incident.label == "ddos" or (first is not None and kind_of(first) == "silent_together")
    if device == incident.device or (many and named):
        return OWN  # of one that is silent alone, who is named asks for it in vain
    few = len(incident.peers) <= _MANY_PEERS
    if few and (named or device in incident.peers[:_FEW_PEERS]):
        return END
    return LISTED if few or named else ONE_OF_MANY


def is_bystander(incident: Incident, device: str, view: TrafficView) -> bool:
    """Whether nothing but its traffic of the same time links a device to an incident: it is no end of it,
    and no sentence of it names the device."""
    lies = (
        incident.label == "spoofing"
    )  # who talks with those whose address is claimed has no part in it
    ends = find_targets(incident) if lies else incident.peers
    if device in (incident.device, *ends) or incident.label in _OF_MANY:
        return False
    own = (fact for fact in incident.facts if kind_of(fact) != "related")
    touched = (*incident.related, *incident.peers) if lies else incident.related
    return device in touched and not any(
        find_whole(view.name_of(device), fact.text) for fact in own
    )


def attacks(incident: Incident, device: str) -> bool:
    """Whether an incident is an attack that is done to a device."""
    done_to = device in find_targets(incident) and device not in find_culprits(incident)
    return incident.label in ATTACKS and done_to


def choose_incidents(
    question: str, mention: Mention, analysis: Analysis, focus: Incident | None = None
) -> list[Incident]:
    """Incidents that a question means, the likeliest first.

    Those that touch one of the devices which it names; all, where it names none. The best score is first; among
    those near to it, with the same words to their names, the one that means most the same.
    """
    words = question.lower()
    spoken, plain = find_asked(words), make_plain(question, list_names(analysis))
    named = (*mention.devices, *mention.peers)
    targets = mention.devices[:1] or mention.peers
    if mention.alike:  # of several of one kind the first is meant
        named = targets
    services = {found.rstrip("s") for found in _SERVICES.findall(words)}
    aimed = bool(targets and AIMED_AT.search(words))

    def score_words(one: Incident) -> float:
        cause = find_cause(one.facts)
        called = cause.asked if cause else ""
        by_cause = bool(called and re.search(rf"\b(?:{called})\b", words))
        score = _CAUSE * by_cause + _LABEL * (one.label in spoken)
        score += _SYMPTOM * measure_symptoms(plain, one) + _SPOKEN * any(
            map(_speaks(one), services)
        )
        return score + _AIMED * any(aimed and attacks(one, target) for target in targets)

    view, plant = analysis.view, analysis.plant
    span = read_span(question, view.start_s, view.end_s, plant.time_zone if plant else "")

    def score(one: Incident) -> float:
        part = sum(measure_part(one, device, analysis.view) for device in named)
        if mention.alike:  # of several that are named by their kind one is meant
            part = max(
                (measure_part(one, device, analysis.view) for device in targets), default=0.0
            )
        of_focus = _FOCUS * (focus is not None and one.id == focus.id)
        at_time = _AT_THAT_TIME * (span is not None and _lasts_at(one, span))
        # Of one that is named, how severe it is for others tells nothing.
        severe = _SEVERE.get(one.severity, 0.0) if part >= END or not targets else 0.0
        return score_words(one) + part + of_focus + at_time + severe

    found = worst_first(list(analysis.incidents))
    if targets:
        meant = {focus.id} if focus is not None else set[str]()
        found = [
            one
            for one in found
            if one.id in meant or any(has_part(one, end, view) for end in named)
        ]
    found.sort(key=score, reverse=True)
    if not found:
        return []
    most, by_words = score(found[0]), score_words(found[0])
    tied = [one for one in found if score(one) >= most - _NEAR and score_words(one) >= by_words]
    lead = LEAD if focus is None else _LEAD_OF_FOCUS
    # "and sensor-2?" says nothing that could mean one more than another.
    alone = is_name_alone(plain)
    first = found[0] if alone else _find_meant(question, tied, analysis, lead)
    return [first, *(one for one in found if one is not first)]


def has_part(incident: Incident, device: str, view: TrafficView) -> bool:
    """Whether an incident touches a device; who talks with those whose address is claimed has no part in it."""
    lied_to = incident.label == "spoofing" and is_bystander(incident, device, view)
    return incident.touches(device) and not lied_to


def _speaks(incident: Incident) -> Callable[[str], bool]:
    text = " ".join(fact.text for fact in incident.facts).lower()
    return lambda service: service in text


def _lasts_at(incident: Incident, span: Span) -> bool:
    """Whether it went on at the minute that was named, and not only near to it."""
    if span.at_s is None:
        return False
    return find_start(incident)[0] < span.at_s + _MINUTE_S and find_end(incident) >= span.at_s


_MINUTE_S = 60.0


def _find_meant(
    question: str, found: Sequence[Incident], analysis: Analysis, lead: float
) -> Incident:
    """The incident that a question means, where its words tell; else the first."""
    if len(found) < 2:
        return found[0]
    near = measure_resemblance(question, found, analysis)
    meant = int(near.argmax())
    return found[0] if near[meant] < near[0] + lead else found[meant]
