"""When an incident began, when it ended, and whether it is over."""

from assistant.detection.incidents import Incident
from assistant.detection.pipeline import Analysis
from assistant.facts.fact import Fact, kind_of
from assistant.facts.spells import BEGINS, ENDS

_STILL_S = 60.0  # an incident that ends this near to the capture's end goes on
_EDGE_S = 10.0  # what the model alone found begins at the edge of a sample, not at a moment
_OVER = {"over_time_s", "again_time_s", "back_time_s"}  # it was seen to work afterwards
_FLOODS, _COUNTED = ("dos", "ddos", "mqtt_abuse"), ("pkts", "connections", "messages")
_DENSE_PER_S, _PAUSED_S = 10.0, 2.0
_GAPS = 2.0  # so many of its own pauses without it end what comes again and again


def find_start(incident: Incident) -> tuple[float, bool]:
    """When an incident began, and whether that is a moment that was seen, not a sample's edge."""
    for fact in _own_facts(incident):
        for name in BEGINS:
            if name in fact.values:
                return float(fact.values[name]), True
    return incident.start_s, incident.start_s % _EDGE_S != 0


def _own_facts(incident: Incident) -> list[Fact]:
    """The first two facts; the second only where it does not begin before the incident, as what is
    told of another device that suffers from it may."""
    first_s = incident.start_s - _EDGE_S
    return [
        fact
        for place, fact in enumerate(incident.facts[:2])
        if not place
        or all(float(fact.values[one]) >= first_s for one in BEGINS if one in fact.values)
    ]


def find_end(incident: Incident) -> float:
    """When an incident ended, by its facts where they say so."""
    facts = _own_facts(incident)
    ends = (float(fact.values.get(one, 0.0)) for fact in facts for one in (*ENDS, "again_time_s"))
    return next((one for one in ends if one), incident.end_s)


def is_over(incident: Incident, analysis: Analysis) -> bool:
    """Whether it was over before the capture ended: seen to work again, or not seen any more for a
    minute and for longer than its own pauses; a flood, which has none, for two seconds."""
    if incident.facts and kind_of(incident.facts[0]) == "interrupt":
        return True  # a command is a moment; what it did may last
    # A fact that has no such moment to tell carries 0, or the end of the capture.
    moments = (float(fact.values.get(one, 0)) for fact in incident.facts for one in _OVER)
    if any(0 < at_s < analysis.view.end_s for at_s in moments):
        return True
    if _is_dense(incident):
        return find_end(incident) < analysis.view.last_s - _PAUSED_S
    pause_s = max(
        (_pause_s(fact.values) for fact in incident.facts[:2] if "times" in fact.values),
        default=0.0,
    )
    end_s = max(find_end(incident), incident.end_s)
    return end_s < analysis.capture.end_s - max(_STILL_S, _GAPS * pause_s)


def _is_dense(incident: Incident) -> bool:
    """Whether what its first fact counts came so fast, between moments, that a pause is an end."""
    values = incident.facts[0].values if incident.facts else {}
    moment = find_end(incident) % _EDGE_S != 0
    span_s = max(find_end(incident) - find_start(incident)[0], 1.0)
    counted = max(float(values.get(name, 0.0)) for name in _COUNTED)
    return moment and incident.label in _FLOODS and counted >= _DENSE_PER_S * span_s


def _pause_s(values: dict) -> float:
    """Between two of what a fact counted."""
    start, end = (float(values.get(name, 0.0)) for name in ("since_time_s", "until_time_s"))
    return (end - start) / max(float(values["times"]) - 1, 1.0) if end > start else 0.0
