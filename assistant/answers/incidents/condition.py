"""Is it ok, what is wrong, which incidents there are: how a device or the plant is doing."""

import re
from dataclasses import dataclass

from assistant.answers.asked import Answer, Asked, Reply, begin, say, say_span
from assistant.answers.plant.descriptions import (
    describe_delay,
    describe_endings,
    describe_fares,
    describe_requests,
)
from assistant.answers.plant.states import short_state
from assistant.answers.requests.replies import answer_answers, answer_loss
from assistant.answers.traffic.sessions import answer_close
from assistant.detection.incidents import Incident, worst_first
from assistant.detection.pipeline import Analysis
from assistant.diagnosis.choosing import OWN, attacks, find_culprits, find_targets, measure_part
from assistant.diagnosis.health import Health, judge_health, name_health
from assistant.diagnosis.playbook import find_remedy, read_playbook
from assistant.diagnosis.spans import find_end, find_start, is_over
from assistant.facts.fact import Fact, Value, kind_of, listed
from assistant.facts.requests import OUTCOMES, is_refused
from assistant.questions.entities import list_machines
from traffic.labels import ATTACKS

_MOST, _MOST_BY_TIME = 8, 20
_NOW = re.compile(r"\b(now|again|meanwhile|jetzt|wieder|inzwischen|ahora|ya)\b")


def answer_health(asked: Asked, headline: Fact) -> Answer:
    """Whether a device, or all of them, is well; an all-clear is the diagnosis's alone to give."""
    found = asked.found
    asks_now = bool(_NOW.search(asked.query.plain)) and not asked.query.negative
    if found.incident is not None and asks_now and is_over(found.incident, asked.analysis):
        # That it is over does not make it well: neither yes nor no.
        return _tell_past(asked, found.incident, headline)
    if was := _tell_was(asked):
        return was
    if found.incident is not None and asked.device and _is_long_past(asked, found.incident):
        return _tell_past(asked, found.incident, headline)
    if found.incident is not None and asked.still and not asked.query.positive:
        over = is_over(found.incident, asked.analysis)
        line = say_span(asked, found.incident, "no" if over else "yes")
        return Answer(line, (headline, *found.facts))
    if unharmed := _tell_unharmed(asked):
        return unharmed
    if found.incident is not None:
        reply: Reply = "unclear" if found.standing == "inconclusive" else asked.all_is(False)
        elsewhere = asked.query.negative and asked.device not in ("", found.incident.device)
        if found.mention.kind or elsewhere:
            # "is the cable broken?": no traffic says; "is the plc broken?": its client is.
            reply = ""
        if _suffers(asked, found.incident):
            cause = asked.view.name_of(found.incident.device)
            headline = say("affected_yes", "", None, name=asked.name, cause=cause)
        return Answer(begin(headline, reply), found.facts, whole=True)
    unclear = found.standing != "normal"
    facts = found.facts
    if not asked.device and not unclear:
        facts = (say("judged_count", well=judge_all(asked.analysis).well), *asked.sensor)
    return Answer(begin(headline, "unclear" if unclear else asked.all_is(True)), facts, whole=True)


def _tell_past(asked: Asked, incident: Incident, headline: Fact) -> Answer:
    """What was found, and that it is over: "is it ok now?"."""
    end_s = find_end(incident)
    values: dict[str, Value] = {
        "end_time_s": end_s,
        "before_s": max(asked.view.last_s - end_s, 0.0),
    }
    what = incident.facts[0].text if incident.facts else headline.text
    facts = (say_span(asked, incident, ""), *incident.facts[1:], *asked.sensor)
    return Answer(say("health_past", "", None, what=what, **values), facts)


def _tell_was(asked: Asked) -> Answer | None:
    """That a device which only another's trouble touched is heard, and that this is over; None where it is more
    than that."""
    incident, device = asked.incident, asked.device
    if incident is None or not incident.facts or not device or asked.blind:
        return None
    known = [one for one in asked.analysis.incidents if one.facts and one.touches(device)]
    lightly = all(measure_part(one, device, asked.view) < OWN for one in known)
    over = all(is_over(one, asked.analysis) for one in known)
    if not (lightly and over) or any(one.label in ATTACKS for one in known):
        return None
    sent = asked.view.sent_by(device)
    if sent.empty:
        return None
    line = say(
        "health_was", "", None, name=asked.name, what=incident.facts[0].text,
        last_time_s=float(sent["until_s"].max()), end_time_s=max(map(find_end, known)),
    )  # fmt: skip
    return Answer(line, incident.facts[1:])


def _is_long_past(asked: Asked, incident: Incident) -> bool:
    """Whether a fault has been over for an hour and for much longer than it lasted: two minutes of last week do
    not make a device one that is not well."""
    since_s, lasted_s = (
        asked.view.last_s - find_end(incident), find_end(incident) - find_start(incident)[0],
    )  # fmt: skip
    over = incident.label not in ATTACKS and is_over(incident, asked.analysis)
    return over and since_s >= max(_LONG_S, _MUCH_LONGER * lasted_s)


_LONG_S, _MUCH_LONGER = 3600.0, 10.0


def _suffers(asked: Asked, incident: Incident) -> bool:
    """Whether a device is a client of the server that an incident lies at."""
    client = incident.facts[0].values.get("client") if incident.facts else ""
    return (
        incident.label not in ATTACKS and asked.device != incident.device and client == asked.name
    )


# What is tried at a device and does it no harm as long as it answers the others.
_HARMLESS = frozenset(("recon", "brute_force", "mqtt_abuse", "dos", "ddos"))


def _tell_unharmed(asked: Asked) -> Answer | None:
    """Of who is only at the other end of an incident that nothing of its own was found: who is scanned and
    answers all the same, a server that refuses a wrong password; None where it is harmed, or not known."""
    incident, device = asked.incident, asked.device
    if incident is None or not incident.facts or not device or asked.blind:
        return None
    known = [
        one for one in asked.analysis.incidents if one.id != incident.id and one.touches(device)
    ]
    if device in find_culprits(incident) or any(not attacks(one, device) for one in known):
        return None
    values: dict[str, Value] = {"name": asked.name, "what": incident.facts[0].text}
    if attacks(incident, device) and incident.label in _HARMLESS:
        fares = describe_fares(asked.view, device, incident) or _count_served(asked, device)
        if fares is None or kind_of(fares) not in ("fares_well", "served_all"):
            return None
        return Answer(say("health_hit", "", None, **values), (fares, *incident.facts[1:]))
    lies = set(find_remedy(incident.label, incident.facts).lies)
    serves = incident.facts[0].values.get("server") == asked.name
    if (
        not serves
        or incident.label in ATTACKS
        or not lies
        or lies & {"server", "program", "machine"}
    ):
        return None
    cause = asked.view.name_of(incident.device)
    line = say("broken_other_end", "", None, cause=cause, **values)
    return Answer(line, incident.facts[1:])


_FEWEST = 10


def _count_served(asked: Asked, device: str) -> Fact | None:
    """That a device answered all requests of the whole recording; None where it did not, or served hardly any."""
    rows = asked.view.exchanges
    rows = rows[(rows["server"] == device) & rows["outcome"].isin(OUTCOMES)]
    if len(rows) < _FEWEST or not (rows["outcome"] == "answered").all():
        return None
    return say("served_all", "", None, name=asked.view.name_of(device), n=len(rows))


def answer_why(asked: Asked, headline: Fact) -> Answer | None:
    """A device that is asked about and is well: what was measured of its answers and losses; None
    where the diagnosis itself answers."""
    if not asked.device and asked.query.protocol == "ntp":  # "why do the clocks drift?"
        return answer_answers(asked, headline)
    if asked.query.relation == "close" and asked.incident is None and len(asked.sessions):
        return answer_close(asked)  # "why do its sessions end?"
    # "why does ws-1 lose its session with plc-3?": an incident that has nothing to do with one of both
    # does not explain it.
    apart = asked.incident is None or (
        bool(asked.second) and not all(map(asked.incident.touches, (asked.device, asked.second)))
    )
    if apart and (failed := _explain_failures(asked)):
        return failed
    if apart and asked.incident is not None and len(asked.sessions):
        ends = asked.view.names_of((asked.device, asked.second))
        mine = asked.incident.device in (asked.device, asked.second) and asked.incident.facts
        line = (
            say("nothing_between_but", names=ends, what=asked.incident.facts[0].text)
            if mine
            else say("nothing_between", names=ends)
        )
        facts = (*describe_endings(asked.sessions, asked.view), headline)
        return Answer(line, facts, standing="inconclusive")
    if asked.found.standing != "normal" or not asked.found.mention.devices or asked.incident:
        return None
    counted = answer_answers(asked, headline)
    lost = answer_loss(asked, headline).line
    rest = tuple(fact for fact in asked.found.facts if fact not in counted.facts)
    line = say("nothing_explains", name=asked.name)
    delay = describe_delay(asked.requests, asked.name)
    slow = (delay,) if delay else ()
    return Answer(line, (counted.line, *slow, lost, *counted.facts, *rest), whole=True)


def _explain_failures(asked: Asked) -> Answer | None:
    """Where no incident explains it: what failed between the devices that are named, at the port
    that is named; None where nothing did."""
    if not (asked.second or asked.query.port) and asked.query.relation != "refuse":
        return None
    rows = asked.requests
    failed = rows[(rows["outcome"] == "unanswered") | is_refused(rows)]
    facts = tuple(describe_requests(failed, asked.view, refused=True)) if len(failed) else ()
    facts = (*facts, *describe_endings(asked.sessions, asked.view, _VAIN))
    if not facts:
        return None
    rest = (*facts[1:], *asked.found.facts)
    return Answer(facts[0], rest, whole=True, standing="inconclusive")


_VAIN = ("refused", "unanswered")


_BY_TIME = re.compile(
    r"\b(?:by|in) (?:the )?(?:time|date|sequence|order of (?:time|events|appearance))"
    r"|\b(?:order|sequence|course|history) of (?:time|events|the night|the shift)"
    r"|\bin (?:what|which) order (?:did|have|has|were|things)|\bone after (?:the other|another)"
    r"|\bin order(?: please| pls)?\W*$|nach (?:der )?zeit|por (?:hora|fecha)|time ?line|chronolog\w*|reihenfolge"
    r"|orden cronologico"
)


_LATEST = re.compile(
    r"\b(?:last|latest|newest|most recent(?:ly)?|zuletzt|letzte[rsn]?|ultim[oa])\b"
    r"(?! (?:night|hour|\d|week|minutes?|shift|month|day|few))"
)
_LEAST = re.compile(r"\b(?:ignor\w*|unimportant|harmless|skip\w*|least|can wait|minor)\b")


def answer_incidents(asked: Asked) -> Answer:
    """Every incident, the worst or the earliest first, then what was judged and what could not be."""
    incidents = worst_first(list(asked.analysis.incidents))
    worst = incidents[0] if incidents else None
    if asked.meant_by_list:
        incidents = worst_first(asked.meant_by_list)
        worst = incidents[0]
    elif asked.device:
        own = [one for one in incidents if one.touches(asked.device)]
        incidents, worst = own, own[0] if own else None
    ended = bool(ENDED.search(asked.query.plain))
    if incidents and (ended or asked.still):
        return list_ended(asked, incidents, over=ended)
    by_time = bool(_BY_TIME.search(asked.query.plain))
    if by_time:
        incidents = sorted(incidents, key=lambda one: find_start(one)[0])
    if incidents and _LATEST.search(asked.query.plain):
        incidents = sorted(incidents, key=find_start, reverse=True)
        latest = tuple(describe_incident(one, asked) for one in incidents[:_MOST])
        return Answer(say_span(asked, incidents[0], ""), latest, listing=True)
    least = bool(_LEAST.search(asked.query.plain))
    if least:
        incidents = incidents[::-1]
    judged = judge_all(asked.analysis)
    if worst is None and asked.device and asked.analysis.incidents:
        return Answer(
            say("incidents_none_at", name=asked.name), (*asked.found.facts, *asked.sensor)
        )
    if worst is None:
        return Answer(judged.line, asked.sensor)
    most = _MOST_BY_TIME if by_time else _MOST
    facts = [describe_incident(one, asked) for one in incidents[:most]]
    kind = "incidents_by_time" if by_time else "incidents_least" if least else "incidents"
    line = say(
        kind, n=len(incidents), what=name_incident(worst, asked),
        start_time_s=find_start(incidents[0])[0],
    )  # fmt: skip
    if len(incidents) > most:
        facts.append(say("incidents_more", n=len(incidents) - most))
    return Answer(line, (*facts, judged.line), listing=True)


_ACTIVE = "active"  # nobody has said anything of it
# "what is still open?", "is anything still active?"; "is it still going on?" asks of one.
OF_ALL = re.compile(
    r"^(?:(?:and|so) )?(?:(?:is|are|was|were|has|have|ist|sind|hay|esta) )?(?:there )?"
    r"(?:what|which|anything|something|everything|all|any|etwas|alles|was|welche\w*|algo|que|cuales)\b"
    r"(?! (?:time|hour|day|moment|minute|point)\b)"
)
ENDED = re.compile(
    r"\b(over|finished|ended|done|past|solved|resolved|cleared|recovered|gone|vorbei|beendet|erledigt"
    r"|terminad[oa]s?|resuelt[oa]s?)\b"
)
GOING = re.compile(
    r"\b(still|open|ongoing|(?<!what is )(?<!what was )(?<!whats )going on|active|running|unresolved|unsolved"
    r"|pending|persist\w*|right now"
    r"|noch|offene?|abiert[oa]s?|activ[oa]s?|sigue\w*)\b"
)


def list_ended(asked: Asked, incidents: list[Incident], *, over: bool) -> Answer:
    """Which incidents are over, or which went on up to the end of the recording."""
    chosen = [one for one in incidents if is_over(one, asked.analysis) == over]
    rest = [one for one in incidents if one not in chosen]
    values: dict[str, Value] = {
        "n": len(chosen),
        "all": len(incidents),
        "end_time_s": max(map(find_end, chosen)) if over and chosen else asked.view.last_s,
        "what": name_incident((chosen or rest)[0], asked),
    }
    word = "over" if over else "open"
    line = say(
        f"incidents_{word}" if chosen else f"incidents_none_{word}",
        asked.reply(bool(chosen)),
        **values,
    )
    facts = [describe_incident(one, asked) for one in (chosen or rest)[:_MOST]]
    return Answer(line, tuple(facts), listing=True)


def name_incident(incident: Incident, asked: Asked) -> str:
    """What an incident is and whose, in some words: "flood of plc-1 by sensor-5 and 4 more"."""
    what = read_playbook("dos" if incident.label == "ddos" else incident.label).short
    if incident.label not in ATTACKS:
        return say("fault_at", what=what, name=asked.name_ends(incident)).text
    by = find_culprits(incident)
    on = [one for one in find_targets(incident) if one not in by and incident.label != "c2"]
    kind = (
        "attack_by_to"
        if incident.label == "exfiltration"
        else "attack_by_on"
        if on
        else "attack_by"
    )
    names, targets = (asked.view.names_of(some, _FEW) for some in (by, on))
    return say(kind, what=what, names=names, on=targets).text


_FEW = 3


def describe_incident(incident: Incident, asked: Asked) -> Fact:
    """One incident in a list: how severe, what, since when, its state and id."""
    state = short_state(incident.id, asked.history) if asked.history else _ACTIVE
    if state == _ACTIVE and is_over(incident, asked.analysis):
        state = "over"
    start_s, _ = find_start(incident)
    return say(
        "incident_one",
        severity=incident.severity,
        what=incident.facts[0].text if incident.facts else asked.view.name_of(incident.device),
        start_time_s=start_s,
        state=state,
        id=incident.id,
    )


@dataclass(frozen=True)
class Judged:
    """What was judged beside the incidents: one sentence, the health of each device without one,
    and how many have to do with one."""

    line: Fact
    devices: tuple[Health, ...]
    blamed: int

    @property
    def well(self) -> int:
        """How many were judged normal."""
        return sum(one.standing == "normal" for one in self.devices)


def find_blamed(analysis: Analysis) -> set[str]:
    """Addresses that have to do with an incident."""
    incidents = analysis.incidents
    return {end for one in incidents for end in (one.device, *one.peers, *one.related)}


def judge_all(analysis: Analysis) -> Judged:
    """What was judged: who is well, who is undecided and why; the one all-clear of lists."""
    blamed = find_blamed(analysis)
    addresses = list_machines(analysis)
    rest = [one for one in addresses if one not in blamed]
    known = [judge_health(one, analysis.verdicts, analysis.view) for one in rest]
    well = [one for one in known if one.standing == "normal"]
    unclear: dict[str, list[str]] = {}
    for one in known:
        if one.standing != "normal":
            unclear.setdefault(name_health(one), []).append(analysis.view.name_of(one.device))
    reasons = listed((f"{listed(names, _MOST)} ({why})" for why, names in unclear.items()), _MOST)
    counts = {"well": len(well), "unclear": len(known) - len(well)}
    if not known:
        kind = "judged_rest_none" if blamed else "judged_nothing"
    elif unclear:
        kind = "judged_some" if well else "judged_none"
    else:
        kind = "judged_rest_well" if blamed else "judged_all_well"
    line = say(kind, "", None, **counts, names=reasons)
    return Judged(line, tuple(known), len(addresses) - len(known))
