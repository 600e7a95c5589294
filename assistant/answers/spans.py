"""When an incident began, when it ended, and whether it is over."""

from assistant.detection.incidents import Incident
from assistant.detection.pipeline import Analysis

_STILL_S = 60.0  # an incident that ends this near to the capture's end goes on
_EDGE_S = 10.0  # what the model alone found begins at the edge of a sample, not at a moment
_SINCE = ("since_time_s", "start_time_s", "first_time_s")
_UNTIL = ("until_time_s", "again_time_s", "end_time_s")
_OVER = {"until_time_s", "again_time_s"}


def find_start(incident: Incident) -> tuple[float, bool]:
    """When an incident began, and whether that is a moment that was seen, not a sample's edge."""
    for fact in incident.facts[:2]:
        for name in _SINCE:
            if name in fact.values:
                return float(fact.values[name]), True
    return incident.start_s, incident.start_s % _EDGE_S != 0


def find_end(incident: Incident) -> float:
    """When an incident ended, by its facts where they say so."""
    ends = (fact.values[one] for fact in incident.facts[:2] for one in _UNTIL if one in fact.values)
    return float(next(ends, incident.end_s))


def is_over(incident: Incident, analysis: Analysis) -> bool:
    """Whether it was over before the capture ended."""
    ended = any(_OVER & fact.values.keys() for fact in incident.facts)
    return ended or incident.end_s < analysis.capture.end_s - _STILL_S
