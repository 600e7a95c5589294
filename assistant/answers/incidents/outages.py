"""Whom an outage hit: every client of the server that failed, and none of another incident's."""

import re

import pandas as pd

from assistant.answers.asked import Answer, Asked, find_incidents, say
from assistant.answers.attacks.raids import WHO
from assistant.answers.plant.parties import Parties, name_parties, part_machines
from assistant.answers.topics import DNS
from assistant.detection.incidents import Incident
from assistant.diagnosis.spans import find_end, find_start
from assistant.facts.fact import Value, kind_of
from assistant.facts.requests import is_refused
from assistant.questions.plurals import read_plural

_COUNTS = re.compile(
    r"\b(?:how many|wie ?viele|cuant[oa]s) (?:\w+ ){0,2}?(?:clients?|devices?|machines?|hosts?|sensors?|plcs?|cameras?"
    r"|boxes|stations?|geraete|maschinen|clientes|equipos|dispositivos)\b"
)
# What happens to a client of a server, and to a device whose way is cut.
_REFUSED = re.compile(
    r"\b(?:refus\w*|reject\w*|turn\w* away|turned down|den(?:y|ied)|kick\w*|thrown? out|locked out|kept out|let in"
    r"|get in(?:to)?|not (?:log|get) in|abgewiesen|abgelehnt|rechaz\w*)\b"
)
_LOST = re.compile(
    r"\b(?:los[et]\w*|cut off|w[e]nt (?:down|dark|offline|silent|quiet)|dropped|drop|fell|vanish\w*|disappear\w*"
    r"|t[ao]\w+ (?:\w+ )?down|behind|failure|outage|gone|offline|down|dead|silent|unreachable|ausfall\w*|ausgefallen"
    r"|weg|cay\w*|caid\w*|se fue\w*)\b"
)
_HIT = re.compile(
    r"\b(?:notic\w*|hit|suffer\w*|affect\w*|felt|feel\w*|impact\w*|complain\w*|(?:could|can|did) ?n[o']?t|unable"
    r"|without|fail\w*|victims?|miss\w*|betroffen\w*|merk\w*|gelitten|afect\w*|sin)\b"
)
_RESOLVE = re.compile(r"\b(?:resolv\w*|look\w* up|names?|namen|nombres)\b")
_OTHERS = re.compile(
    r"\b(?:attack\w*|flood\w*|scann?\w*|infect\w*|packets?|syns?|responsible|contact|caus\w+)\b"
)
_SERVERS = ("name_resolution", "service_down")
_TOGETHER, _CLOCKS = "silent_together", "time_server"
_OF_OTHERS = frozenset(
    ("checks", "manual", "code", "feedback", "help", "packets", "logins", "since")
)
_NO_SUCH_NAME = 3


def answer_whom_it_hit(asked: Asked) -> Answer | None:
    """Whom an outage hit, all of them and how many; None where that is not asked, or no outage is meant."""
    plain, query = asked.query.plain, asked.query
    asks = bool(WHO.match(plain) or _COUNTS.search(plain)) and not _OTHERS.search(plain)
    if not asks or query.kind in _OF_OTHERS or (query.active and asked.device):
        return None
    found = _find_outages(asked)
    told = tell_whom(asked, *found) if found else None
    # What is known of one client alone says more than that it is one.
    alone = told is not None and told.line.values["all"] == 1 and not _COUNTS.search(plain)
    return None if alone else told


def _find_outages(asked: Asked) -> list[Incident]:
    """The outage that the words of a question mean, at the server that it names; with those who fell silent
    all who came back at the same moment."""
    plain, focus = asked.query.plain, asked.focus
    hit, lost, refused = (bool(one.search(plain)) for one in (_HIT, _LOST, _REFUSED))
    of_kind = asked.device in read_plural(asked.question, asked.analysis)
    outages = find_incidents(asked, (*_SERVERS, "device_silent"))
    if asked.query.names_device and not of_kind and asked.device:
        outages = [one for one in outages if one.device == asked.device]
        found = outages if hit or lost or refused else []
    elif focus is not None and not asked.query.names_device and hit:
        found = [one for one in outages if one.id == focus.id]
    elif (DNS.search(plain) and (hit or lost or refused)) or (_RESOLVE.search(plain) and hit):
        found = [one for one in outages if one.label == "name_resolution"]
    elif asked.query.protocol == "ntp" and (hit or lost):
        found = [one for one in outages if kind_of(one.facts[0]) == _CLOCKS]
    elif refused:
        found = [one for one in outages if one.label == "service_down"]
        found = [one for one in found if kind_of(one.facts[0]) != _CLOCKS]
    elif lost:
        found = [one for one in outages if one.label == "device_silent"]
        found.sort(key=lambda one: kind_of(one.facts[0]) != _TOGETHER)
    else:
        found = []
    together = [one for one in found[1:] if _end_together(one, found[0])]
    return [*found[:1], *together]


_ALIKE_S = 5.0


def _end_together(one: Incident, other: Incident) -> bool:
    """Whether two silences end at the same moment, as those behind one switch do."""
    silent = {one.label, other.label} == {"device_silent"}
    return silent and abs(find_end(one) - find_end(other)) < _ALIKE_S


def tell_whom(asked: Asked, incident: Incident, *others: Incident) -> Answer | None:
    """Whom an outage hit, with how often each was; None where nobody is known to be.

    Args:
        asked: the question.
        incident: the outage.
        others: silences that belong to it.
    """
    view = asked.view
    values: dict[str, Value] = {"server": view.name_of(incident.device)}
    times: dict[str, int] = {}
    if incident.label == "device_silent":
        hit, said = [end for one in (incident, *others) for end in _list_members(one)], "hit_silent"
    else:
        times, said = _count_failures(asked, incident)
        hit = list(times) or [one for one in incident.peers if one in view.local]
        said = said if times else "hit_peers"
    kinds = read_plural(asked.question, asked.analysis)
    hit = [one for one in hit if one in kinds] if kinds and set(kinds) & set(hit) else hit
    if not hit:
        return None
    parties = part_machines(asked, hit)
    told = name_parties(asked, Parties(tuple(hit), ()) if not parties.strangers else parties, times)
    values |= told.values | {"all": len(hit), "parties": told.text}
    facts = (*incident.facts[:1], *(one.facts[0] for one in others), *incident.facts[1:])
    return Answer(say(said, asked.reply(True), **values), facts)


def _list_members(incident: Incident) -> list[str]:
    """Who fell silent together."""
    members = int(float(incident.facts[0].values.get("members", 1)))
    return [incident.device, *incident.peers][:members]


def _count_failures(asked: Asked, incident: Incident) -> tuple[dict[str, int], str]:
    """How often each client of the server failed while it lasted, and which sentence tells so."""
    start_s, end_s = find_start(incident)[0] - 1.0, find_end(incident) + 1.0
    rows = asked.view.exchanges
    rows = rows[(rows["server"] == incident.device) & rows["ts"].between(start_s, end_s)]
    dns = kind_of(incident.facts[0]) != _CLOCKS and incident.label == "name_resolution"
    rows = rows[rows["protocol"] == "dns"] if dns else rows
    if kind_of(incident.facts[0]) == _CLOCKS:
        rows = rows[rows["protocol"] == "ntp"]
    refused = rows[is_refused(rows) & ~(dns & (rows["code"] == _NO_SUCH_NAME))]
    vain = rows[rows["outcome"] == "unanswered"]
    if len(refused) or len(vain):
        most = refused if len(refused) > len(vain) else vain
        said = "hit_refused" if most is refused else "hit_unanswered"
        times = _by_client(most)
        if incident.peers[:1] and incident.peers[0] in times:
            return times, said
    sessions = asked.view.sessions
    sessions = sessions[
        (sessions["server"] == incident.device) & sessions["start_s"].between(start_s, end_s)
    ]
    refused = sessions[sessions["ended"] == "refused"]
    vain = sessions[sessions["ended"] == "unanswered"]
    most = refused if len(refused) > len(vain) else vain
    times = _by_client(most)
    if (
        not times or incident.peers[0] not in times
    ):  # who is let in and closed at once shows in no such row
        return {}, "hit_peers"
    return times, "hit_refused" if most is refused else "hit_unanswered"


def _by_client(rows: pd.DataFrame) -> dict[str, int]:
    return {str(one): int(n) for one, n in rows["client"].astype("str").value_counts().items()}
