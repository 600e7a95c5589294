"""Whom an incident concerns: every client of a server that failed, who suffers too, whether it is one alone."""

import re
from collections.abc import Sequence

import pandas as pd

from assistant.answers.asked import Answer, Asked, find_incidents, say
from assistant.answers.attacks.raids import WHO
from assistant.answers.incidents.condition import describe_incident
from assistant.answers.plant.descriptions import describe_fares
from assistant.answers.plant.lookups import answer_dns
from assistant.answers.plant.parties import Parties, name_parties, part_machines
from assistant.answers.requests.units import answer_units
from assistant.answers.topics import DNS, find_topic
from assistant.detection.incidents import Incident, worst_first
from assistant.diagnosis.choosing import has_part, is_bystander
from assistant.diagnosis.health import judge_health, name_health
from assistant.diagnosis.spans import find_end, find_start
from assistant.facts.fact import Fact, Value, kind_of, listed
from assistant.facts.requests import is_refused
from assistant.questions.plain import is_name_alone
from assistant.questions.plurals import read_plural
from traffic.capture import SAMPLE_S
from traffic.labels import ATTACKS

_MOST, _SHORT = 8, 4  # names; words of "recorder too?"
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
    r"\bg[eo]t (?:\w+ )?(?:wrong|false|bad|no) (?:answers?|names?|address\w*|repl\w+)\b|\b(?:notic\w*|hit"
    r"|suffer\w*|affect\w*|felt|feel\w*|impact\w*|complain\w*|(?:could|can|did) ?n[o']?t|unable"
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
    outages = find_incidents(asked, (*_SERVERS, "device_silent", "packet_loss"))
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
    elif incident.label == "packet_loss":
        times, said = _count_resent(asked, incident), "hit_lost"
        hit = list(times)
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


def _count_resent(asked: Asked, incident: Incident) -> dict[str, int]:
    """How many packets had to be sent again with each partner of a device while its loss lasted."""
    first, last = (at // SAMPLE_S for at in (incident.start_s, incident.end_s))
    rows = asked.view.evidence_of(incident.device, ("retransmission",))
    rows = rows[rows["slot"].between(first, last)]
    counts = rows.groupby(rows["other"].astype("str"))["count"].sum().sort_values(ascending=False)
    return {str(one): int(n) for one, n in counts.items() if n > 0}


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


def answer_affected(asked: Asked, headline: Fact) -> Answer:
    """Whether another device is affected too, or which ones are."""
    of_units = "answer" in asked.query.plain or asked.query.unit is not None
    if of_units and (told := answer_units(asked)):
        return told
    if _THE_OTHERS.match(asked.query.plain) and asked.meant_by_list:
        rest = [
            one for one in asked.meant_by_list if asked.focus is None or one.id != asked.focus.id
        ]
        line = say("other_incidents", n=len(rest))
        return Answer(line, tuple(describe_incident(one, asked) for one in rest), listing=True)
    incident = find_topic(asked, alike=False) or asked.incident
    named_wrong = incident is not None and incident.label == "name_resolution"
    if named_wrong and asked.query.aspect == "names":
        return answer_dns(asked, headline)  # "only one name or all of them?"
    if incident is not None and incident.facts and _ONLY.search(asked.query.plain):
        return _tell_scope(asked, incident)
    everything = worst_first(list(asked.analysis.incidents))
    mention = asked.found.mention
    if len(mention.devices) > 1 and not asked.query.names_device:
        return _affected_of(asked, mention.devices, everything)
    # "is anybody else affected?" is asked of the others, whatever device the talk is about.
    others = not asked.query.names_device and bool(_ELSE.search(asked.query.plain))
    named = () if others else (*mention.devices, *mention.peers)[:1]
    if asked.second and _SAME.search(asked.query.plain):
        return _share(asked, everything)
    too = _TOO.search(asked.query.plain) and len(asked.query.plain.split()) <= _SHORT
    if named and (asked.polar or too or is_name_alone(asked.query.plain)):  # "and plc-2?"
        return _is_affected(asked, named[0], everything)
    if incident is None:
        line = say("affected_nothing", asked.reply(False), name=asked.name)
        return Answer(line, (headline, *asked.found.facts))
    return _tell_others(asked, incident, headline, others=others)


def _tell_others(asked: Asked, incident: Incident, headline: Fact, *, others: bool) -> Answer:
    """Who has to do with an incident beside the device that it lies at, and who has one of its own.

    Args:
        asked: the question.
        incident: what it is about.
        headline: the diagnosis in a line.
        others: whether others than the device of the talk were asked for.
    """
    view, everything = asked.view, worst_first(list(asked.analysis.incidents))
    main = incident.device
    with_it = _find_with_it(incident, everything)
    ends = (end for one in with_it for end in (one.device, *one.peers, *one.related))
    # Who turns a client away does not suffer with it.
    served = incident.facts[0].values.get("server") if incident.facts else None
    shared = [
        one for one in dict.fromkeys((*incident.related, *ends))
        if one != main and view.name_of(one) != served
    ]  # fmt: skip
    peers = [one for one in incident.peers if one not in shared]
    apart = () if asked.focus else everything  # of a talk, what goes on elsewhere is no answer
    own = dict.fromkeys(one.device for one in apart if one.device not in (main, *shared))
    facts = [
        say(kind, "", None, n=len(names), names=listed(map(view.name_of, names), _MOST))
        for kind, names in (("affected_peers", peers), ("affected_own", list(own)))
        if names
    ]
    same = [one for one in everything if one.label == incident.label and one.device != main]
    if not shared and same and others:
        names = listed(dict.fromkeys(view.name_of(one.device) for one in same), _MOST)
        line = say("affected_same_kind", asked.reply(True), names=names, n=len(same))
        return Answer(line, (*(one.facts[0] for one in same if one.facts), *facts))
    if not shared:
        with_whom = listed(map(view.name_of, peers), _MOST)
        kind = "affected_with" if peers else "affected_alone"
        line = say(kind, asked.reply(False), name=view.name_of(main), names=with_whom)
        return Answer(line, (*facts, headline))
    names = listed(map(view.name_of, shared), _MOST)
    line = say("affected_shared", asked.reply(True), n=len(shared), names=names)
    return Answer(line, (*facts, headline))


def _find_with_it(incident: Incident, known: Sequence[Incident]) -> list[Incident]:
    """Faults at an end of an attack in its time: who suffers by those suffers with it."""
    if incident.label not in ATTACKS:
        return []
    ends = (incident.device, *incident.peers[:2])
    return [
        one for one in known
        if one.label not in ATTACKS and one.facts and one.device in ends
        and find_start(one)[0] <= find_end(incident) and find_end(one) >= find_start(incident)[0]
    ]  # fmt: skip


_THE_OTHERS = re.compile(
    r"^(?:and |so |what about |und |y )*(?:the |die |l[oa]s )?(?:others?|other ones|rest|anderen|demas|otr[oa]s)\W*$"
)
_ONLY = re.compile(
    r"\b(?:only|just|alone|isolated|single|one (?:device|machine|box|of them)|nur|einzeln\w*|allein\w*|solo|unic[oa]"
    r"|aislad[oa])\b"
)
# Labels of a server or a link that several suffer from.
_SHARED = frozenset(("service_down", "name_resolution", "device_silent", "congestion", "ddos"))


def _tell_scope(asked: Asked, incident: Incident) -> Answer:
    """Whether one device alone has it: "only that one?"."""
    view, main = asked.view, incident.device
    known = worst_first([one for one in asked.analysis.incidents if one.facts])
    same = [one for one in known if one.label == incident.label and one.device != main]
    others = [one for one in dict.fromkeys((*incident.related, *incident.peers)) if one != main]
    if same:
        names = listed(dict.fromkeys(view.name_of(one.device) for one in same), _MOST)
        line = say("affected_same_kind", "no", names=names, n=len(same))
        return Answer(line, (*(one.facts[0] for one in same), *incident.facts))
    if incident.label in _SHARED and len(others) > 1:
        names = listed(map(view.name_of, others), _MOST)
        line = say("affected_shared", "no", n=len(others), names=names)
        return Answer(line, incident.facts)
    with_whom = listed(map(view.name_of, others), _MOST)
    kind = "affected_with" if others else "affected_alone"
    return Answer(say(kind, "yes", name=view.name_of(main), names=with_whom), incident.facts)


def _affected_of(asked: Asked, devices: tuple[str, ...], incidents: list[Incident]) -> Answer:
    """Which devices of a kind have to do with an incident: "which plcs are affected?"."""
    hit = [one for one in devices if any(each.touches(one) for each in incidents)]
    names = listed(map(asked.view.name_of, hit), _MOST) or "none"
    mine = [one for one in incidents if any(map(one.touches, hit))]
    facts = tuple(describe_incident(one, asked) for one in mine[:_MOST])
    line = say("affected_of", asked.reply(bool(hit)), n=len(hit), all=len(devices), names=names)
    return Answer(line, facts, listing=True)


_ELSE = re.compile(r"\b(?:else|others?|noch jemand|sonst|mas)\b")
_SAME = re.compile(
    r"\b(same|share\w*|common|related|connected|linked|gleiche\w*|selbe\w*|dasselbe|gemeinsam|mismo|misma|comun)\b"
)


def _share(asked: Asked, incidents: list[Incident]) -> Answer:
    """Whether devices have to do with one incident, or each with its own."""
    devices = (*asked.found.mention.devices, *asked.found.mention.peers)
    names = asked.view.names_of(devices)
    shared = [one for one in incidents if all(one.touches(device) for device in devices)]
    if shared:
        cause = asked.view.name_of(shared[0].device)
        return Answer(say("same_yes", asked.reply(True), names=names, cause=cause), shared[0].facts)
    each = [one for one in incidents if any(map(one.touches, devices))]
    facts = tuple(describe_incident(one, asked) for one in each[:_MOST])
    line = say("same_no", asked.reply(False), names=names)
    return Answer(line, facts or asked.found.facts)


_TOO = re.compile(r"\b(?:too|also|as well|auch|tambien)\b")
_BY_IT = re.compile(r"\b(?:it|this|that|too|also|as well|auch|davon|tambien)\b")


def _is_affected(asked: Asked, device: str, incidents: list[Incident]) -> Answer:
    name = asked.view.name_of(device)
    focus = asked.focus
    by_it = _BY_IT.search(asked.query.plain) or is_name_alone(asked.query.plain)
    if focus is not None and by_it and not focus.touches(device):
        others = [one for one in incidents if one.touches(device)]
        if others:
            line = say("affected_other", "no", name=name, what=others[0].facts[0].text)
            return Answer(line, (*others[0].facts, *focus.facts[:1]))
    own = [one for one in incidents if one.device == device]
    touched = [one for one in incidents if one not in own and has_part(one, device, asked.view)]
    touched.sort(key=lambda one: is_bystander(one, device, asked.view))
    if not own and touched and is_bystander(touched[0], device, asked.view):
        cause = asked.view.name_of(touched[0].device)
        return Answer(say("affected_beside", "unclear", name=name, cause=cause), touched[0].facts)
    if own or touched:
        first = (own or touched)[0]
        kind = "affected_own_one" if own and first.role != "target" else "affected_yes"
        kind = kind if own else "affected_touched"
        what = first.facts[0].text if first.facts else ""
        hit = first.label in ATTACKS and (first.role == "target" or device != first.device)
        fares = describe_fares(asked.view, device, first) if hit else None
        line = say(kind, "yes", name=name, cause=asked.view.name_of(first.device), what=what)
        return Answer(line, ((fares,) if fares else ()) + first.facts)
    health = judge_health(device, asked.analysis.verdicts, asked.view)
    if health.standing == "normal":
        return Answer(say("affected_no", "no", name=name), asked.found.facts)
    blind = asked.blind or health.reason in _BLIND
    line = say(
        "affected_unclear" if blind else "affected_no_other", "unclear" if blind else "no", name=name,
        state=name_health(health),
    )  # fmt: skip
    return Answer(line, asked.found.facts, standing="inconclusive")


_BLIND = frozenset(("one_way", "cut", "drops", "holes", "unseen", "unread"))
