"""How an incident went: when it was worst, whether what fails tries again, how who is hit fares, how it ended;
the same in short for somebody else, and what it means in plain words."""

import re
from dataclasses import dataclass
from typing import cast

import pandas as pd

from assistant.answers.asked import Answer, Asked, Reply, begin, say, say_span, tell_incident
from assistant.answers.incidents.condition import answer_incidents
from assistant.answers.incidents.earlier import tell_earlier
from assistant.answers.plant.descriptions import describe_fares
from assistant.answers.plant.inventory import answer_code, holds_code
from assistant.answers.plant.past import answer_worked, find_failures
from assistant.answers.topics import find_labelled
from assistant.answers.traffic.volumes import answer_volume
from assistant.detection.incidents import Incident
from assistant.diagnosis.choosing import attacks, find_culprits, find_targets
from assistant.diagnosis.compose import find_checks
from assistant.diagnosis.playbook import find_asked, find_cause, read_playbook
from assistant.diagnosis.spans import find_end, find_start, is_over
from assistant.facts.fact import Fact, Value, kind_of
from assistant.facts.requests import OUTCOMES, is_refused
from traffic.capture import SAMPLE_S
from traffic.labels import ATTACKS

_PEAKS = frozenset(("rate", "least", "peak"))
_VAIN = ("refused", "unanswered")
_FEWEST = 5  # requests that tell how somebody fares
_LEARNS_S = 60.0  # of recording before an incident show what was before
_FEW_PEERS = 2
_GIVES_UP_S, _GIVES_UP_TIMES = 5.0, 3.0  # of silence after the last try, and of the usual gap


# ---- When it was worst ----


def answer_peak(asked: Asked) -> Answer | None:
    """When what is meant was worst; of a device without an incident when it moved most."""
    incident = asked.incident
    if incident is None or not incident.facts:
        return answer_volume(asked)
    named = [
        one for one in find_labelled(asked) if any(kind_of(each) in _PEAKS for each in one.facts)
    ]
    incident = incident if incident in named or not named else named[0]
    facts = incident.facts
    told = next((one for one in facts if kind_of(one) in _PEAKS), None) or _count(asked, incident)
    if told is None:
        return tell_incident(incident)
    return Answer(told, tuple(one for one in facts if one is not told))


def _count(asked: Asked, incident: Incident) -> Fact | None:
    """The ten seconds in which most failed, or was sent again."""
    failed = find_failures(asked, incident)
    if failed.empty:
        return None
    counts = failed.groupby(failed // SAMPLE_S).size()
    kind = "peak_lost" if incident.label == "packet_loss" else "peak_failed"
    return say(
        kind, name=asked.view.name_of(incident.device), peak_time_s=float(counts.idxmax()) * SAMPLE_S,
        n=int(counts.max()), all=int(counts.sum()), width_s=float(SAMPLE_S),
    )  # fmt: skip


# ---- Whether it tries again ----

_STOPS = re.compile(
    r"\b(?:g[ia]ve[ns]?(?: it)? up|giving up|stop\w*|quit\w*|towel|resign\w*|aufgegeben|aufgehoert|gibt \w* ?auf"
    r"|rind\w+|dejo|deja|paro)\b"
)
_OTHER_SERVER = re.compile(
    r"\b(?:switch\w*|fall(?:s|en)? ?back|fell back|fail(?:s|ed)? ?over|other|another|second|backup|alternat\w+"
    r"|redundan\w+|elsewhere|ander\w+|ausweich\w*|zweite\w*|otr[oa])\b"
)


@dataclass(frozen=True)
class _Tries:
    """What a client tried at a server while that failed: the moments in vain, and when it worked
    again; None where it did not."""

    client: str
    server: str
    times: pd.Series
    again_s: float | None


def answer_retries(asked: Asked) -> Answer | None:
    """Whether who fails tries again, how often and until when; None where no tries were seen."""
    incident = asked.incident
    if incident is None or not incident.facts:
        return None
    stops = bool(_STOPS.search(asked.query.plain))
    if incident.label in ATTACKS:
        if not stops and not asked.still:
            return tell_incident(incident)
        over = is_over(incident, asked.analysis)
        return Answer(say_span(asked, incident, asked.reply(over == stops)), incident.facts)
    tries = _find_tries(asked, incident)
    if tries is None:
        return None
    view, times = asked.view, tries.times
    last_s, gap_s = float(times.max()), float(times.diff().median()) if len(times) > 1 else 0.0
    waited_s = view.last_s - last_s
    values: dict[str, Value] = {
        "client": view.name_of(tries.client), "server": view.name_of(tries.server), "n": len(times),
        "first_time_s": float(times.min()), "last_time_s": last_s, "every_s": gap_s, "waited_s": waited_s,
        "again_time_s": tries.again_s or 0.0,
    }  # fmt: skip
    gave_up = tries.again_s is None and waited_s > max(_GIVES_UP_S, _GIVES_UP_TIMES * gap_s)
    kind = "retries_again" if tries.again_s is not None else "retries_still"
    kind = "retries_once" if len(times) < 2 else "retries_stopped" if gave_up else kind
    reply: Reply = asked.reply(gave_up if stops else len(times) > 1)
    facts = incident.facts
    if _OTHER_SERVER.search(asked.query.plain):
        reply = ""
        facts = (_tell_elsewhere(asked, tries), *facts)
        return Answer(begin(facts[0], reply), (say(kind, **values), *incident.facts))
    return Answer(say(kind, reply, **values), facts)


def _find_tries(asked: Asked, incident: Incident) -> _Tries | None:
    """The client of the incident that tried most, or that is asked about: its connections in vain, else
    its requests."""
    start_s, end_s = find_start(incident)[0] - 1.0, find_end(incident) + 1.0
    ends = {incident.device, *incident.peers}
    sessions = asked.view.sessions
    sessions = sessions[sessions["begun"]].rename(columns={"start_s": "ts"})
    requests = asked.view.exchanges
    requests = requests.assign(vain=(requests["outcome"] == "unanswered") | is_refused(requests))
    for rows in (sessions.assign(vain=sessions["ended"].isin(_VAIN)), requests):
        rows = rows[rows["client"].isin(ends) & rows["server"].isin(ends) & (rows["ts"] >= start_s)]
        failed = rows[rows["vain"] & (rows["ts"] <= end_s)]
        mine = failed[failed["client"] == asked.device]
        failed = mine if len(mine) else failed
        if failed.empty:
            continue
        pairs = failed.groupby(["client", "server"], observed=True).size()
        client, server = (str(one) for one in pairs.idxmax())
        failed = failed[(failed["client"] == client) & (failed["server"] == server)]
        good = rows[(rows["client"] == client) & (rows["server"] == server) & ~rows["vain"]]
        later = good.loc[good["ts"] > failed["ts"].max(), "ts"]
        times = failed["ts"].sort_values()
        return _Tries(client, server, times, float(later.min()) if len(later) else None)
    return None


def _tell_elsewhere(asked: Asked, tries: _Tries) -> Fact:
    """Whom else the client began to ask for the same service once it was in vain."""
    view, first_s = asked.view, float(tries.times.min())
    rows = view.sessions
    ports = set(
        rows.loc[(rows["client"] == tries.client) & (rows["server"] == tries.server), "port"]
    )
    mine = rows[(rows["client"] == tries.client) & rows["port"].isin(ports)]
    others = mine[(mine["server"] != tries.server) & (mine["start_s"] >= first_s)]
    values: dict[str, Value] = {
        "client": view.name_of(tries.client), "server": view.name_of(tries.server),
    }  # fmt: skip
    if others.empty:
        return say("elsewhere_none", **values)
    names = view.names_of(others["server"].astype("str").unique())
    return say("elsewhere", **values, names=names, at_time_s=float(others["start_s"].min()))


# ---- How who is hit fares, and what was before ----

_HURTS = re.compile(
    r"\b(?:suffer\w*|hurt\w*|harm\w*|impair\w*|disturb\w*|notic\w*|affect\w*|fail\w*|lost|lose|miss\w*|slow\w*"
    r"|leid\w*|gelitten|litt\w*|gestoert|gemerkt|sufr\w*|afect\w*|not(?:o|aron))\b"
)


def answer_faring(asked: Asked) -> Answer | None:
    """How many requests of others who is hit answered meanwhile; None where nothing is known to hit it."""
    incident = asked.incident
    if incident is None or not incident.facts:
        return None
    if _OTHERS.search(asked.query.plain) and (rest := _tell_rest(asked, incident)):
        return rest
    attack, named = incident.label in ATTACKS, asked.device
    target = next(iter(find_targets(incident)), "") if attack else incident.device
    doer = attack and named in find_culprits(incident)
    device = named if named and not doer else target
    fares = describe_fares(asked.view, device, incident)
    if fares is None:
        line = say(
            "fares_unread", "unclear" if asked.polar else "", name=asked.view.name_of(device)
        )
        return Answer(line, incident.facts, standing="inconclusive")
    well = kind_of(fares) == "fares_well"
    hurts = bool(_HURTS.search(asked.query.plain))
    return Answer(begin(fares, asked.reply(well != hurts)), incident.facts)


_KNOCKS = re.compile(
    r"^(?:and |so |but )*(?:did|does|has|have|was|could|can) (?:it|he|she|they|that|this|that one) (?:\w+ )?(?:knock\w*"
    r"|tak\w+|took|bring|brought|shut|kill\w*|crash\w*|stop\w*|break|broke\w*|hurt\w*|harm\w*|damage\w*|disturb\w*|block\w*"
    r"|slow\w*) (?:down |out |off |up )?(?:dev|it|him|her|them|anything|anyone|anybody)\b"
)


_CUT_OFF = re.compile(
    r"\b(?:los[et]\w*|losing|drop\w*|cut(?: off)?|miss\w*|verlor\w*|perd\w+) (?:\w+ ){0,3}(?:con+ections?"
    r"|sessions?|links?|contact|verbindung\w*|conexion\w*)\b"
)


def answer_harm(asked: Asked) -> Answer | None:
    """Whether an attack of the talk kept its target from answering others: "did it knock the plc out?", "did any
    lose its connection by it?"; None where neither is asked."""
    focus, plain, names = asked.focus, asked.query.plain, asked.query.names_device
    asks = _KNOCKS.match(plain) or (asked.polar and not names and _CUT_OFF.search(plain))
    if focus is None or focus.label not in ATTACKS or not asks:
        return None
    named = [one for one in asked.found.mention.devices if attacks(focus, one)]
    target = next(iter(named), next(iter(find_targets(focus)), ""))
    fares = describe_fares(asked.view, target, focus)
    if fares is None or (names and not named):
        return None
    return Answer(begin(fares, "no" if kind_of(fares) == "fares_well" else "yes"), focus.facts)


_OTHERS = re.compile(
    r"\b(?:others?|rest|else|everybody|everyone|plant|line|production|process|neighbou?rs?|remaining|anderen?|uebrigen?"
    r"|anlage|linie|produktion|demas|otr[oa]s|planta|linea|produccion)\b"
)


def _tell_rest(asked: Asked, incident: Incident) -> Answer | None:
    """How many requests that no end of an incident has to do with were answered in its time; None where
    hardly any was read."""
    ends, rows = (incident.device, *incident.peers, *incident.related), asked.view.exchanges
    mine = rows["client"].isin(ends) | rows["server"].isin(ends)
    rows = rows[~mine & rows["outcome"].isin(OUTCOMES)]
    rows = rows[rows["ts"].between(find_start(incident)[0], find_end(incident))]
    good = int((rows["outcome"] == "answered").sum())
    if len(rows) < _FEWEST:
        return None
    hurts = bool(_HURTS.search(asked.query.plain))
    reply = asked.reply((good == len(rows)) != hurts)
    line = say("rest_well" if good == len(rows) else "rest", reply, n=good, asked=len(rows))
    return Answer(line, incident.facts)


_RUNS = re.compile(
    r"\b(?:plant|line|production|process|factory|anlage|linie|produktion|planta|linea|produccion)\b.*"
    r"\b(?:runs?|running|works?|working|producing|going|laeuft|funciona|marcha)\b"
)
_LATELY_S = 60.0


def answer_running(asked: Asked) -> Answer | None:
    """How many requests in the plant were answered lately: "does the plant still run?"; None where that is not
    asked, or nothing was read."""
    if not asked.polar or asked.query.names_device or not _RUNS.search(asked.query.plain):
        return None
    if _WE.search(asked.query.plain):  # "can we keep the line running?"
        return None
    rows = asked.view.exchanges
    rows = rows[rows["outcome"].isin(OUTCOMES) & (rows["ts"] >= asked.view.last_s - _LATELY_S)]
    if len(rows) < _FEWEST:
        return None
    good = int((rows["outcome"] == "answered").sum())
    line = say("runs", "unclear", n=good, asked=len(rows), width_s=_LATELY_S)
    return Answer(line, asked.known, standing="inconclusive")


_WE = re.compile(r"\b(?:we|i|wir|ich|podemos|puedo|safe|may|can|should)\b")
_ALL_BACK = re.compile(
    r"\b(?:they|all|all of them|everyone|everybody|those|sie|alle|todos) .*\b(?:back|again|recover\w*|reconnect\w*"
    r"|wieder|zurueck"
    r"|volvieron|recuper\w*)\b"
)


def answer_all_back(asked: Asked) -> Answer | None:
    """Whether all clients of the server that failed in the talk were answered again; None where that is not
    asked, or there are no such clients."""
    focus = asked.focus
    asks = asked.polar and not asked.query.names_device and _ALL_BACK.search(asked.query.plain)
    if focus is None or not asks or focus.label in ATTACKS or not is_over(focus, asked.analysis):
        return None
    view, start_s = asked.view, find_start(focus)[0]
    rows = view.exchanges
    rows = rows[(rows["server"] == focus.device) & (rows["ts"] >= start_s - 1.0)]
    good = rows[(rows["outcome"] == "answered")].groupby(rows["client"].astype("str"))["ts"].max()
    bad = rows[(rows["outcome"] == "unanswered") | is_refused(rows)]
    hit = bad.groupby(bad["client"].astype("str"))["ts"].max()
    if len(hit) < _SEVERAL:
        return None
    back = good.reindex(hit.index) > hit
    name = view.name_of(focus.device)
    if not back.all():
        names = view.names_of(hit.index[~back])
        line = say("some_back", "no", n=int(back.sum()), all=len(hit), name=name, names=names)
        return Answer(line, focus.facts)
    answered = rows[rows["outcome"] == "answered"]
    answered = answered.assign(client=answered["client"].astype("str"))
    later = answered[answered["ts"] > answered["client"].map(hit)]
    first_good = later.groupby("client")["ts"].min()
    line = say(
        "all_back", "yes", n=len(hit), name=name, last=view.name_of(str(first_good.idxmax())),
        last_time_s=float(first_good.max()),
    )  # fmt: skip
    return Answer(line, focus.facts)


_SEVERAL = 2


_FORETOLD = re.compile(
    r"\b(?:signs?|warn\w*|hints?|announce\w*|led|lead|leading|coming|foresee\w*|predict\w*|symptoms?|precursors?"
    r"|vorzeichen|anzeichen|angekuendigt|senal\w*|aviso\w*)\b"
)
_ALWAYS = re.compile(
    r"\b(?:always|all along|ever|from the (?:start|beginning|outset)|since the (?:start|beginning)|already|immer|schon"
    r"|von anfang an|siempre|ya|desde el principio)\b"
)


def answer_before_it(asked: Asked) -> Answer | None:
    """What was before an incident began: whether it worked, and what an attacker did until then."""
    incident = asked.incident
    if incident is None or not incident.facts:
        return None
    if _FORETOLD.search(asked.query.plain):
        return _tell_signs(asked, incident)
    if incident.label in ATTACKS and asked.device not in find_targets(incident):
        return tell_earlier(asked)
    worked = answer_worked(asked)
    if worked is None or not (asked.polar and _ALWAYS.search(asked.query.plain)):
        return worked
    told = kind_of(worked.line)
    reply: Reply = "no" if told in ("worked_requests", "worked_connections") else "unclear"
    start_s = find_start(incident)[0]
    line = say(told, reply, **worked.line.values | {"start_time_s": start_s})
    return Answer(line, worked.facts)


def _tell_signs(asked: Asked, incident: Incident) -> Answer:
    """What else was found at the ends of an incident before it began."""
    start_s, ends = find_start(incident)[0], (incident.device, *incident.peers[:_FEW_PEERS])
    known = [one for one in asked.analysis.incidents if one.facts and one.id != incident.id]
    early = [one for one in known if find_start(one)[0] < start_s and any(map(one.touches, ends))]
    early.sort(key=lambda one: -find_start(one)[0])
    if early:
        line = say("signs", "", None, what=early[0].facts[0].text)
        return Answer(line, (*(one.facts[0] for one in early[1:]), *incident.facts))
    before_s = start_s - asked.view.start_s
    short = before_s < _LEARNS_S or asked.blind
    kind, reply = ("signs_unknown", "unclear") if short else ("signs_none", "no")
    names = asked.view.names_of(ends)
    line = say(kind, cast(Reply, reply) if asked.polar else "", names=names, before_s=before_s)
    return Answer(line, incident.facts)


# ---- How it ended ----

_BY_ITSELF = re.compile(
    r"\b(?:itself|alone|own|somebody|someone|anybody|anyone|fix\w*|repair\w*|mend\w*|restart\w*|touch\w*|sort(?:ed)?"
    r"|von (?:selbst|allein\w*)|jemand|repariert|sol[oa]|alguien|arregl\w*)\b"
)


def answer_ended(asked: Asked) -> Answer | None:
    """How what is meant ended; what ended it, no traffic tells."""
    incident = asked.incident
    if incident is None or not incident.facts:
        return None
    if not is_over(incident, asked.analysis):
        return Answer(say_span(asked, incident, asked.reply(False)), incident.facts)
    view, end_s = asked.view, find_end(incident)
    attack = incident.label in ATTACKS
    values: dict[str, Value] = {
        "name": view.name_of(incident.device), "end_time_s": end_s, "before_s": max(view.last_s - end_s, 0.0),
        "names": view.names_of(find_culprits(incident)),
    }  # fmt: skip
    by_itself = asked.polar and bool(_BY_ITSELF.search(asked.query.plain))
    line = say("ended_attack" if attack else "ended", "unclear" if by_itself else "", **values)
    return Answer(line, (say_span(asked, incident, ""), *incident.facts))


# ---- In short, and in plain words ----


def answer_summary(asked: Asked, headline: Fact) -> Answer | None:
    """What happened, until when, what comes of it and the first step; of all incidents where none is
    meant; None where there is none."""
    incident = asked.incident
    if asked.focus is None and not asked.device and len(asked.analysis.incidents) > 1:
        return answer_incidents(asked)
    if incident is None or not incident.facts:
        return None
    return _sum_up(asked, incident, headline)


def _sum_up(asked: Asked, incident: Incident, headline: Fact) -> Answer:
    end_s, start_s = find_end(incident), find_start(incident)[0]
    over = is_over(incident, asked.analysis)
    step = next(iter(find_checks(incident)), "")
    values: dict[str, Value] = {
        "what": incident.facts[0].text, "severity": incident.severity, "step": step,
        "text": read_playbook(incident.label).consequence, "end_time_s": end_s, "span_s": end_s - start_s,
    }  # fmt: skip
    line = say("summary_over" if over else "summary_still", "", **values)
    return Answer(line, (headline, *incident.facts[1:]))


def answer_meaning(asked: Asked) -> Answer | None:
    """What a kind of trouble that is named means, else what is talked about; None where neither is known."""
    if holds_code(asked):
        return answer_code(asked)
    if asked.polar or asked.query.exists:  # "any beacons?" asks whether there are some
        return None
    incident = asked.incident
    named = find_asked(asked.query.plain)
    here = find_labelled(asked)
    if named and (incident is None or incident.label not in named):
        book = read_playbook(here[0].label if here else named[0])
        facts = here[0].facts if here else ()
        return Answer(say("meaning", "", what=book.short, text=book.gloss), facts)
    if incident is None or not incident.facts:
        return None
    book, cause = read_playbook(incident.label), find_cause(incident.facts)
    text = cause.meaning if cause else book.gloss
    line = say("meaning", "", what=book.short, text=text)
    return Answer(
        line, (*incident.facts[:1], say("as_it_is", text=book.consequence), *incident.facts[1:])
    )
