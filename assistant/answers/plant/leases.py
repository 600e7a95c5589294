"""Who gets an address by DHCP, who gives it, and who asks for one in vain."""

import re

from assistant.answers.asked import Answer, Asked, Reply, say, tell_incident
from assistant.answers.plant.descriptions import describe_requests
from assistant.detection.incidents import Incident
from assistant.facts.fact import kind_of
from assistant.facts.requests import OUTCOMES
from assistant.questions.entities import worst_first

_FAILS = frozenset(("no_lease", "no_leases", "lease_server"))
_LEASES = re.compile(
    r"\bdhcp\b|\bleases?\b|\b(?:no|without|any|get|gets|got|getting|obtain\w*|receiv\w*|keine|bekommt|ohne|sin|una)"
    r" (?:an? |no |any |its |keine |una )?(?:ip[- ]?)?(?:add?resse?s?|adresse|ip|direccion)\b"
)
_SERVER = re.compile(
    r"\bservers?\b|\bwho (?:gives|hands|assigns|offers)\b|\bworks?\b|\brunning\b|\bthere\b"
)


def answer_leases(asked: Asked) -> Answer | None:
    """Who asks for an address in vain, or whether anybody gives one; None where neither is asked."""
    if not _LEASES.search(asked.query.plain):
        return None
    failing = _find_failing(asked)
    if failing is not None and not _SERVER.search(asked.query.plain):
        return tell_incident(failing)
    if asked.query.protocol != "dhcp" and "dhcp" not in asked.query.plain:
        return None
    rows = asked.view.exchanges
    rows = rows[(rows["protocol"] == "dhcp") & rows["outcome"].isin((*OUTCOMES, "unasked"))]
    if rows.empty:
        return Answer(say("dhcp_unread", "unclear" if asked.polar else ""), asked.sensor)
    granted = rows[rows["outcome"].isin(("answered", "unasked")) & (rows["code"] <= 0)]
    facts = failing.facts if failing else tuple(describe_requests(rows, asked.view, refused=True))
    if granted.empty:
        reply: Reply = asked.reply(False) if failing or not asked.polar else "unclear"
        return Answer(say("dhcp_none", reply, n=len(rows)), facts, standing="inconclusive")
    names = asked.view.names_of(granted["server"].astype("str").unique())
    line = say(
        "dhcp_serves", asked.reply(failing is None), names=names, n=len(granted), all=len(rows)
    )
    return Answer(line, facts)


def _find_failing(asked: Asked) -> Incident | None:
    """The incident in which an address was asked for in vain, at the device that is named if any is."""
    found = (
        one
        for one in worst_first(list(asked.analysis.incidents))
        if one.facts and kind_of(one.facts[0]) in _FAILS
    )
    return next((one for one in found if not asked.device or one.touches(asked.device)), None)
