"""The cause that a question speaks of in its own words: "which devices share a client id?".

What was measured of that cause says who, how often and how long; a count of something else does not.
"""

import re

from assistant.answers.asked import Answer, Asked, find_incidents, say_span, tell_incident
from assistant.answers.plant.past import MET
from assistant.answers.traffic.sessions import PATIENCE
from assistant.detection.incidents import Incident, worst_first
from assistant.diagnosis.playbook import find_asked, find_cause
from assistant.diagnosis.resemblance import measure_resemblance
from assistant.diagnosis.spans import is_over
from traffic.labels import ATTACKS
from traffic.pcap.protocols import spoken_name

# By kind of query: relations, or measures, with which a question says no more than its own words do.
_RELATIONS = {"who": ("talk", "ask", "close", "send", "read"), "does": ("talk", "ask", "read")}
_MEASURES = ("", "devices", "sessions", "requests", "packets", "bytes", "resets")
# Resemblance from which on it is the incident that is meant: less is needed where it is named whose,
# and least where there is one alone.
_NEAR, _NEAR_AT_DEVICE, _NEAR_ALONE = 0.5, 0.4, 0.3
_WITHOUT_MORE = ("", "usual", "feedback", "before", "answers")


_RUNS = re.compile(r"\b(?:running|re-?boot\w*|re-?start\w*|reset|stopp?ed|halted|shut down)\b")
# "how many messages did the intruder send?": what is known of what it did counts them.
CULPRIT = "attacker|intruder|hacker|scanner|culprit|offender|angreifer|taeter|atacante|intruso"
_CULPRIT = re.compile(
    rf"\b(?:{CULPRIT}|stranger|fremde[rn]?|unbekannte[rn]?|extran[oa]|desconocid[oa])s?\b"
)
HOW_MANY = re.compile(rf"\b(?:how many|wie viele|cuantos) (?:\w+ )?{_CULPRIT.pattern}")


# "do the others get in?" is not answered by who talks.
TALKS = re.compile(
    r"\b(?:talk|speak|spoke|communicat|exchang|connect|contact|send|sent|traffic|sprich|sprech|red|kommunizier"
    r"|habl|comunic)\w*"
)
UNWANTED = re.compile(
    r"\b(?:should ?n.?t|shou?d ?n.?t|should not|must not|may not|not (?:be )?(?:allowed|supposed|meant) to"
    r"|no business"
    r"|uninvited|unwanted)\b"
)


def answer_topic(asked: Asked) -> Answer | None:
    """What is known of the cause that the question's own words name; None where they name none that
    was found, or where the query says what is asked for."""
    query = asked.query
    loose = query.guessed or (
        query.relation in _RELATIONS[query.kind]
        if query.kind in _RELATIONS
        else query.measure in _MEASURES and not PATIENCE.search(query.plain)
        if query.kind == "count"
        else query.kind in _WITHOUT_MORE or (query.kind == "devices" and not query.state)
    )
    # "is plc-1 running?" of one that was told to stop: that it answers does not say that it runs.
    runs = bool(_RUNS.search(query.plain))
    if query.kind in ("answers", "devices") and asked.device and not (asked.alike or runs):
        return None
    if query.kind == "before" and asked.second and MET.search(query.plain):
        return None
    if UNWANTED.search(query.plain):
        return None
    two = asked.second and query.names_device
    if query.kind == "count" and _CULPRIT.search(query.plain):
        attacks = find_incidents(asked, ATTACKS)
        if attacks and not HOW_MANY.search(query.plain):
            meant = next((one for one in attacks if one is asked.incident), attacks[0])
            return tell_measured(meant, query.measure)
    # "who talks to plc-2?" asks for all who do, whatever it resembles.
    plainly = query.kind == "who" and query.names_device and not query.guessed
    plainly = plainly and bool(query.relation != "talk" or TALKS.search(query.plain))
    named = (
        query.names_device and not query.guessed
    )  # "what does it normally do?" asks for its habits
    alike = not (plainly or (query.kind == "usual" and named))
    incident = (
        (_find_alike(asked) if two and alike else find_topic(asked, alike=alike)) if loose else None
    )
    if incident is None:
        return None
    if asked.polar and asked.still and is_over(incident, asked.analysis):
        return Answer(say_span(asked, incident, "no"), incident.facts)
    counts = query.kind == "count"
    return tell_measured(incident, query.measure) if counts else tell_incident(incident)


# Values of facts that count what a question of that measure asks for.
COUNTED = {
    "packets": ("pkts", "packets"), "bytes": ("sent_bytes", "both_bytes"), "left": ("sent_bytes",),
    "requests": ("messages", "requests", "asked"), "sessions": ("held", "connections"),
}  # fmt: skip


def tell_measured(incident: Incident, measure: str) -> Answer:
    """What was measured of an incident, the fact first that holds the number which was asked for."""
    names = COUNTED.get(measure, ())
    holding = [one for one in incident.facts if any(name in one.values for name in names)]
    first = (holding or list(incident.facts))[0]
    return Answer(first, tuple(one for one in incident.facts if one is not first))


_OF_ONE = frozenset(("since", "affected", "why", "checks"))  # asked of one trouble
DNS = re.compile(
    r"\b(?:dns|resolvers?|name (?:resolution|servers?)|names? resol\w*|namens(?:aufloesung|abfrage|anfrage)\w*"
    r"|resolucion de nombres)\b"
)


def find_topic(asked: Asked, *, alike: bool = True) -> Incident | None:
    """The worst incident of a cause that the question names in words of that cause's own; else, where
    likeness is enough, the one whose meaning is near enough to them."""
    for one in worst_first(list(asked.analysis.incidents)):
        # "the master" names a kind of device, and not surely the one that is meant.
        named = asked.device if asked.query.names_device else ""
        if not one.facts or (named and not one.touches(named)):
            continue
        cause = find_cause(one.facts)
        if cause and cause.asked and re.search(rf"\b(?:{cause.asked})\b", asked.query.plain):
            return one
    of_label = find_labelled(asked) if asked.query.kind in _OF_ONE else []
    if len(of_label) == 1:  # "the problem with DNS"
        return of_label[0]
    return _find_alike(asked) if alike else None


def find_labelled(asked: Asked) -> list[Incident]:
    """Incidents of the kind of trouble that a question names; of its protocol, where one is named too."""
    dns = ("name_resolution",) if DNS.search(asked.query.plain) else ()
    labels = (*find_asked(asked.query.plain), *dns)
    found = find_incidents(asked, labels)
    return [one for one in found if _speaks(one, asked.query.protocol)] or found


def _speaks(incident: Incident, protocol: str) -> bool:
    return bool(protocol) and incident.facts[0].values.get("protocol") == spoken_name(protocol)


def _find_alike(asked: Asked) -> Incident | None:
    """The incident that a question which is no plain query resembles; None where none is near."""
    query = asked.query
    # "which ports were open?", "who cuts the connection?" ask for more than what is known of it.
    if (query.kind == "does" and query.aspect) or (
        query.kind == "who" and query.relation != "talk"
    ):
        return None
    named = {*asked.found.mention.devices, *asked.found.mention.peers}
    touching = [
        one
        for one in worst_first(list(asked.analysis.incidents))
        if one.facts and all(map(one.touches, named))
    ]
    near = measure_resemblance(asked.question, touching, asked.analysis)
    alone = len(near) == 1 and query.kind != "count"  # "how many units hang on it?"
    least = _NEAR_ALONE if alone else _NEAR_AT_DEVICE if named else _NEAR
    if not len(near) or near.max() < least:
        return None
    return touching[int(near.argmax())]
