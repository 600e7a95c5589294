"""Since when, until when, how long, whether it is over, and when something was last seen."""

import re

from assistant.answers.asked import (
    LATELY_S,
    Answer,
    Asked,
    say,
    say_recorded,
    say_span,
    tell_incident,
)
from assistant.answers.incidents.condition import ENDED, GOING, OF_ALL, list_ended
from assistant.answers.plant.descriptions import describe_requests, describe_talks
from assistant.answers.plant.past import answer_worked
from assistant.answers.requests.replies import still_talks
from assistant.answers.topics import find_topic
from assistant.answers.traffic.partners import KINDS_OF
from assistant.answers.traffic.sessions import LASTS, answer_lasting
from assistant.detection.incidents import Incident, worst_first
from assistant.diagnosis.spans import find_end, find_start, is_over
from assistant.facts.fact import Fact, Value
from traffic.labels import ATTACKS

_ENDS = re.compile(
    r"\b(?:over|finished|done|fixed|stop(?:ped)?|(?<!the )end(?:ed)?|recover(?:ed)?"
    r"|c[ao]me back|return(?:ed)?"
    r"|vorbei|termino|acabo|back(?= now| yet| already| up| online|\W*$)"
    r"|(?:attack|flood|storm|problem|fault|trouble|it|that) (?:\w+ )?gone"
    r"|(?:fast|quick|back|there|up|online|alive|working) again)\b"
)


_HOW_OFTEN = re.compile(r"\bhow (?:often|many times)\b|\bwie oft\b|\bcuantas veces\b")


def answer_since(asked: Asked, headline: Fact) -> Answer:
    """When it began, how long it lasted, whether it goes on."""
    told = (
        None if asked.device else _tell_all(asked, worst_first(list(asked.analysis.incidents)))
    ) or _tell_otherwise(asked)
    if told is not None:
        return told
    incident = _choose_incident(asked)
    if incident is not None and incident.facts and _HOW_OFTEN.search(asked.query.plain):
        return tell_incident(incident)  # its own fact carries the number
    if incident is None:
        line = say("since_nothing", name=asked.name, seen_s=asked.view.span_s)
        return Answer(line, (headline, *asked.found.facts))
    over = is_over(incident, asked.analysis)
    if asked.polar and _FROM_START.search(asked.query.plain):
        early = find_start(incident)[0] - asked.view.start_s < _AT_ONCE_S
        line = say_span(asked, incident, asked.reply(early))
        return Answer(line, (*incident.facts, say_recorded(asked)))
    # "somebody in between? since when?" is not answered by "no: it is over".
    ends = _asks_for_the_end(asked)
    tells = ends or asked.still or any(one.search(asked.query.plain) for one in (GOING, ENDED))
    reply = asked.reply(over == ends) if tells else ""
    return Answer(say_span(asked, incident, reply), incident.facts)


def _tell_all(asked: Asked, incidents: list[Incident]) -> Answer | None:
    """What is open or over, each one's time, the longest; None where one incident is asked about."""
    plain = asked.query.plain
    if not incidents:
        return None
    if OF_ALL.match(plain):
        for words in (GOING, ENDED):
            if words.search(plain):
                return list_ended(asked, incidents, over=words is ENDED)
    if _EACH.search(plain):
        each = [say_span(asked, one, "") for one in sorted(incidents, key=find_start)]
        return Answer(say("count_incidents", n=len(incidents)), tuple(each), listing=True)
    if longest := _LONGEST.search(plain):
        shortest, attacks = longest[1] == "shortest", "attack" in plain
        found = _find_longest(incidents, shortest=shortest, attacks=attacks)
        return Answer(say_span(asked, found, ""), found.facts)
    return None


def _tell_otherwise(asked: Asked) -> Answer | None:
    """Times that are none of an incident: of the recording, of connections, of a device's last
    packet; None where none of these is asked for."""
    plain = asked.query.plain
    if _RECORDED.search(plain):
        return Answer(say_recorded(asked), asked.sensor)
    if asked.device and STILL_THERE.search(plain) and (told := _say_last(asked)):
        return told
    if told := still_talks(asked):
        return told
    if LASTS.search(plain) and (told := answer_lasting(asked)):
        return told
    if _WORKED_LAST.search(plain) and (told := answer_worked(asked)):
        return told
    if asked.device and _LAST.search(plain) and (told := _say_last(asked)):
        return told
    incident = find_topic(asked) or asked.incident
    back = asked.device and asked.polar and bool(_BACK.search(plain))
    if back and incident is not None and (told := _is_back(asked, incident)):
        return told
    elsewhere = incident is not None and asked.second not in (
        "", incident.device, *incident.peers, *incident.related,
    )  # fmt: skip
    does = asked.query.relation not in ("talk", "ask", "attack", "scan", "refuse", "outside")
    apart = asked.device and (incident is None or elsewhere) and (does or asked.second)
    return _since_traffic(asked) if apart else None


def _choose_incident(asked: Asked) -> Incident | None:
    """The incident whose time is asked for: that of the words, the first, or one that goes on."""
    incident = find_topic(asked) or asked.incident
    if not asked.device and _FIRST.search(asked.query.plain) and asked.analysis.incidents:
        incident = _find_first(asked)
    named = find_topic(asked, alike=False) is not None
    if (
        not asked.found.mention.devices
        and not named
        and asked.polar
        and not _asks_for_the_end(asked)
    ):
        # "is it still going on?" of no device is asked of all.
        every = worst_first(list(asked.analysis.incidents))
        incident = next((one for one in every if not is_over(one, asked.analysis)), incident)
    return incident


_RECORDED = re.compile(
    r"\bhow long (?:did|do|have|has|was) (?:you|we|it|this) (?:\w+ )?"
    r"(?:record|listen|watch|look|observ|captur|measur)\w*"
)
_LONGEST = re.compile(r"\b(longest|shortest)\b")


def _find_longest(incidents: list[Incident], *, shortest: bool, attacks: bool) -> Incident:
    """The one that lasted longest, or shortest: of faults, unless attacks are asked for or all there
    is."""
    chosen = [one for one in incidents if (one.label in ATTACKS) == attacks] or incidents
    by_span = sorted(chosen, key=lambda one: find_end(one) - find_start(one)[0])
    return by_span[0 if shortest else -1]


_EACH = re.compile(r"\b(?:each|every|all of them|jede\w*|cada)\b")
_WORKED_LAST = re.compile(
    r"\blast (?:good|successful|valid|correct|proper|real) (?:answer|reply|response|value|read\w*|request)"
    r"|\blast .*\bwork\w*|\bwork\w* .*\blast\b|zuletzt (?:funktioniert|ging)"
)
_LAST = re.compile(
    r"\blast (time )?(seen|heard?|active|alive|online|sign|packet|message|contact|word)"
    r"|zuletzt (gesehen|gehoert|aktiv|online)|letzte[sn]? (paket|lebenszeichen|nachricht)"
    r"|(visto|activo) por ultima vez|ultim[oa] (paquete|mensaje|senal)"
)


def answer_presence(asked: Asked) -> Answer | None:
    """Whether a device is still heard: "is it still connected?"; None where that is not asked."""
    asks = asked.device and asked.polar and _CONNECTED.search(asked.query.plain)
    return _say_last(asked) if asks else None


_CONNECTED = re.compile(
    r"\bstill (?:connected|online|plugged in|on(?: the)?(?: \w+)? network)\W*$|\bnoch (?:verbunden|am netz)\b"
    r"|\bsigue conectad\w\b"
)


def _say_last(asked: Asked) -> Answer | None:
    """When a device sent its last packet; None where it sent none."""
    sent = asked.view.sent_by(asked.device)
    if sent.empty:
        return None
    last_s = float(sent["until_s"].max())
    end_s = asked.view.last_s
    asks = STILL_THERE.search(asked.query.plain) or _CONNECTED.search(asked.query.plain)
    reply = asked.reply(end_s - last_s <= LATELY_S) if asks else ""
    values: dict[str, Value] = {"last_time_s": last_s, "before_s": max(end_s - last_s, 0.0)}
    line = say("last_seen", reply, name=asked.name, **values)
    return Answer(line, asked.known)


STILL_THERE = re.compile(
    r"\bstill (?:there|here|around|present|connected|on(?: the)?(?: \w+)? network|in (?:there|here|the \w+)"
    r"|sending|talking)\b"
    r"|\bnoch (?:da|hier|am netz)\b|\bsigue (?:ahi|aqui|conectad\w)\b"
)
_AWAY = ("device_silent", "flapping")
_BACK = re.compile(r"\b(?:back|again|return\w*|recover\w*|wieder|zurueck|de vuelta)\b")
_AFTER_S = 1.0  # the last packet before a silence is none after it


def _is_back(asked: Asked, incident: Incident) -> Answer | None:
    """Whether a device that was away sends again; None where it was not away, or sent nothing since."""
    sent = asked.view.sent_by(asked.device)
    last_s = float(sent["until_s"].max()) if len(sent) else 0.0
    if incident.label not in _AWAY or last_s <= find_start(incident)[0] + _AFTER_S:
        return None
    lately = asked.view.last_s - last_s <= LATELY_S
    kind = "back_sends" if lately else "back_sent"
    line = say(kind, asked.is_well(lately), name=asked.name, last_time_s=last_s)
    return Answer(line, incident.facts)


_FIRST = re.compile(r"\b(first|zuerst|erste[rns]?|primer[oa]?)\b")


def _find_first(asked: Asked) -> Incident:
    """The incident that began first; of attacks, where those are asked for."""
    incidents = asked.analysis.incidents
    attacks = [one for one in incidents if one.label in ATTACKS]
    named = re.search(r"\b(attack\w*|angriff\w*|ataque\w*)\b", asked.query.plain)
    return min(attacks if named and attacks else incidents, key=lambda one: find_start(one)[0])


_FROM_START = re.compile(
    r"\b(?:from|since|at) (?:the )?(?:very )?(?:beginning|start|first|outset)\b"
)
_AT_ONCE_S = 15.0

_EARLY_S = 60.0  # what was before the capture is not known


def _since_traffic(asked: Asked) -> Answer | None:
    """From when to when a device did what is asked about, where no incident is about that."""
    kinds = KINDS_OF.get(asked.query.relation)
    rows = asked.requests
    if kinds and len(rows := rows[rows["kind"].isin(kinds)]):
        facts = tuple(describe_requests(rows, asked.view))
        first_s, last_s = float(rows["ts"].min()), float(rows["ts"].max())
        early = first_s - asked.view.start_s < _EARLY_S
        line = say(
            "since_does_early" if early else "since_does", name=asked.name, start_time_s=first_s,
            end_time_s=last_s, n=len(rows),
        )  # fmt: skip
        return Answer(line, facts)
    talks = asked.talks
    if talks.empty:
        return None
    facts = tuple(describe_talks(talks, asked.view))
    flows = asked.view.flow_slots
    ends = {asked.device, asked.second}
    mine = flows[flows["src"].isin(ends) & flows["dst"].isin(ends)] if asked.second else None
    if mine is None or mine.empty:
        return Answer(facts[0], facts[1:])
    each = mine.groupby("flow").agg(since_s=("since_s", "min"), until_s=("until_s", "max"))
    each["span_s"] = each["until_s"] - each["since_s"]
    longest = each.loc[each["span_s"].idxmax()]
    line = say(
        "since_talk", source=asked.view.name_of(asked.device), target=asked.view.name_of(asked.second),
        n=len(each), span_s=float(longest["span_s"]), start_time_s=float(each["since_s"].min()),
        end_time_s=float(each["until_s"].max()), longest_time_s=float(longest["since_s"]),
    )  # fmt: skip
    return Answer(line, facts)


def _asks_for_the_end(asked: Asked) -> bool:
    return bool(_ENDS.search(asked.query.plain))
