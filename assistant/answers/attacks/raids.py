"""Who attacks, floods or scans, how many they are, and which of them are the plant's own."""

import re

import pandas as pd

from assistant.answers.asked import Answer, Asked, Reply, begin, find_incidents, say
from assistant.answers.plant.parties import Parties, name_parties, part_machines
from assistant.answers.topics import CULPRIT, HOW_MANY, UNWANTED
from assistant.answers.traffic.partners import UNDER_CONTROL
from assistant.detection.incidents import Incident, worst_first
from assistant.diagnosis.choosing import attacks, find_culprits, find_targets
from assistant.diagnosis.playbook import find_asked
from assistant.diagnosis.spans import find_end, find_start
from assistant.facts.fact import Fact
from assistant.facts.traffic_view import TrafficView
from assistant.questions.plurals import read_plural
from traffic.labels import ATTACKS

# "are they ours?", "any of our own among them?"
OWN = (
    r"ours|(?:of|from) (?:ours?|us)|belong\w* to us|our own"
    r"|(?:they|those|these|it|that) our|own (?:devices?|machines?|boxes|stuff)"
    r"|internal\w*|(?:from )?inside|eigene?[nrs]?|von uns|unserer|unsere\W*$|l[ao]s nuestr[oa]s|nuestr[oa]s?\W*$"
    r"|propi[oa]s?"
)
STRANGERS = (
    r"strangers?|foreign\w*|unknown|outsiders?|outside(?:rs)?|external\w*|not ours|fremde?[nrsm]?|unbekannte?[nrs]?"
    r"|ajen[oa]s?|extran[oa]s?|desconocid[oa]s?|(?:not )?(?:in|on) (?:(?:the|our|my) (?:plan|list|map"
    r"|inventory)|plant.yaml)"
)
_OWN, _STRANGERS = re.compile(rf"\b(?:{OWN})\b"), re.compile(rf"\b(?:{STRANGERS})\b")
_OF_THINGS = (
    "ports?|registers?|units?|names?|topics?|functions?|codes?|errors?|address\\w*|time|kind|sort"
)
WHO = re.compile(
    r"^(?:(?:and|so|und|y|ok|please|list|name|show|tell me) )*(?:who|wer|quien\w*"
    rf"|(?:which|what|welche\w*|que|cual\w*) (?!(?:{_OF_THINGS})\b)\w+)\b"
)
_NUMBER = re.compile(r"\b(?:how many|wie ?viele|cuant[oa]s|number of)\b")
_OF_MACHINES = re.compile(
    rf"{_NUMBER.pattern} (?:\w+ ){{0,3}}?(?:attackers?|machines?|devices?|hosts?|boxes|sources|addresses|ips|people"
    r"|computers?|sensors?|cameras?|strangers?|intruders?|of (?:them|ours?|the|those|these)|are they"
    r"|were (?:they|involved|\w+ing)(?=\W*$)|took part|angreifer"
    r"|geraete|maschinen|rechner|fremde|equipos|maquinas|dispositivos|atacantes|son)\b"
)
_THEY = re.compile(
    r"\b(?:they|them|these|those|the (?:ones|attackers?|machines|sources)|sie|ellos)\b"
)
_DOES = ("attack", "scan")
_HITS = re.compile(r"\b(?:hits?|hitting|hammer\w*|target\w*|bombard\w*|pound\w*)\b")
_TAKEN = re.compile(
    r"\b(?:infect\w*|hacked|compromis\w*|hijack\w*|taken over|malware|bots?|verseucht|befallen"
    r"|infiziert\w*|gehackt|infectad[oa]s?|hackead[oa]s?)\b"
)
_TAKES_PART = re.compile(r"\b(?:tak\w+|took) part\b")
# What else is asked for beside who: how many packets, since when.
_OF_OTHERS = frozenset(("checks", "manual", "code", "feedback", "help", "packets", "since", "dns"))


def answer_raiders(asked: Asked) -> Answer | None:
    """Who attacks, floods or scans, the plant's own and strangers counted apart, where they are several or
    where whose they are was asked; None where that is not asked, or nobody is known to."""
    plain, query = asked.query.plain, asked.query
    whose = bool(_OWN.search(plain) or _STRANGERS.search(plain))
    kinds = read_plural(asked.question, asked.analysis) if not _TO_THEM.search(plain) else ()
    asks_who = bool(WHO.match(plain) or _OF_MACHINES.search(plain))
    asks_kind = asked.polar and bool(kinds)  # "were any of the sensors part of it?"
    if query.kind in _OF_OTHERS or query.active or not (asks_who or whose or asks_kind):
        return None
    raids = _find_raids(asked)
    if not raids:
        return None
    if _SUFFERED.search(plain) and not _aimed_at(asked):
        return _name_targets(asked, raids, kinds)
    doers = [
        end for one in raids for end in list_raiders(one, asked.view) if end != _aimed_at(asked)
    ]
    parties = part_machines(asked, doers)
    if not parties.everybody:
        return None
    most = _FACTS if len(raids) == 1 else 1
    facts = tuple(fact for one in raids for fact in one.facts[:most])
    if whose and asked.analysis.plant is not None:
        return Answer(_say_whose(asked, parties), facts, about=parties.everybody[0])
    if kinds:  # "which sensors flood plc-3?"
        among = Parties(tuple(one for one in parties.own if one in kinds), ())
        if among.own:
            told = name_parties(asked, among)
            values = told.values | {"all": len(parties.everybody), "parties": told.text}
            line = say("raiders_of_kind", asked.reply(True), **values)
            return Answer(line, (_say_all(asked, parties, raids), *facts), about=among.own[0])
    if asks_kind:
        told = name_parties(asked, parties)
        values = told.values | {"all": len(parties.everybody), "parties": told.text}
        return Answer(say("raiders_none_of_kind", "no", **values), facts)
    if len(parties.everybody) < 2 and not _OF_MACHINES.search(plain):
        return None  # what is known of one says who it is
    return Answer(_say_all(asked, parties, raids), facts, about=parties.everybody[0])


# "which plcs were flooded?"
_SUFFERED = re.compile(
    r"\b(?:was|were|is|are|got|gets?|been|being) (?:being )?(?:flooded|attacked|hit|scanned|hammered|targeted)\b"
    r"|\bwurden? .*(?:geflutet|angegriffen|gescannt)\b|\bfue(?:ron)? (?:atacad|inundad|escanead)\w*"
)


def _name_targets(asked: Asked, raids: list[Incident], kinds: tuple[str, ...]) -> Answer | None:
    """Which devices of a kind it was done to; None where none of that kind is known to be."""
    hit = dict.fromkeys(
        end for one in raids for end in find_targets(one) if not kinds or end in kinds
    )
    if not hit or not kinds:
        return None
    told = [one for one in raids if set(find_targets(one)) & set(hit)]
    names = asked.view.names_of(hit, len(hit))
    line = say("raided", asked.reply(True), n=len(hit), all=len(kinds), names=names)
    return Answer(line, tuple(one.facts[0] for one in told))


_ONE_OF_THEM = re.compile(
    rf"\b(?:one of|part of|among|an?|the) (?:the |those |these )?(?:{CULPRIT}|sources?|attack\w*|flood\w*)s?\b"
)


def answer_misdeeds(asked: Asked) -> Answer | None:
    """Whether a device attacks, or does what it should not: "is hmi-2 one of the attackers?"; None where
    that is not asked, or it is not known to."""
    plain, device = asked.query.plain, asked.device
    unwanted = asked.query.active and bool(UNWANTED.search(plain))
    if not (asked.polar and device and asked.query.names_device) or asked.second:
        return None
    if not (
        unwanted or (_ONE_OF_THEM.search(plain) and "victim" not in plain and not asked.either)
    ):
        return None
    does = [
        one for one in find_incidents(asked, ATTACKS) if device in list_raiders(one, asked.view)
    ]
    if not does:
        return None
    return Answer(
        begin(does[0].facts[0], "yes"), (*does[0].facts[1:3], *(one.facts[0] for one in does[1:]))
    )


_FACTS = 4
_TO_THEM = re.compile(
    r"\b(?:to|against|on|at|gegen|auf|contra|a) (?:the |our |die |unsere |l[ao]s )?\w+s\b"
)


def _aimed_at(asked: Asked) -> str:
    """Whom a question says it is done to; "" where it names a kind of devices, or none."""
    of_kind = asked.found.mention.alike and not asked.query.names_device
    return "" if of_kind else asked.device


_BAD = re.compile(
    r"\b(?:bad|evil|nasty|wrong|harmful|hostile|malicious|suspicious|boese\w*|schlimm\w*|mal[oa]?s?) (?:stuff"
    r"|things?|behaviou?r|sachen"
    r"|dinge|cosas)\b|\bmisbehav\w*|\bup to no good\b"
)


def _find_raids(asked: Asked) -> list[Incident]:
    """Incidents that the words of a question mean: what it calls them, whom they are aimed at; of a talk
    about them, the one that it is about."""
    plain, incidents = asked.query.plain, worst_first(list(asked.analysis.incidents))
    labels = {one for one in find_asked(plain) if one in ATTACKS}
    if not labels and _BAD.search(plain):
        labels = set(ATTACKS)
    if not labels and asked.query.relation in _DOES:
        labels = {"recon"} if asked.query.relation == "scan" else set(ATTACKS) - set(UNDER_CONTROL)
    if not labels and _HITS.search(plain) and asked.query.names_device:
        labels = set(ATTACKS) - set(UNDER_CONTROL)
    of_any = HOW_MANY.search(plain) or _TAKES_PART.search(plain)
    if _TAKEN.search(plain) or (not labels and of_any):
        labels = set(ATTACKS)
    if (
        not labels
        and (_THEY.search(plain) or _OF_MACHINES.search(plain))
        and asked.focus is not None
        and not asked.query.names_device
    ):
        labels, incidents = set(ATTACKS), [asked.focus]
    found = [one for one in incidents if one.label in labels and one.facts]
    if device := _aimed_at(asked):
        found = [one for one in found if attacks(one, device)]
    if targets := read_plural(asked.question, asked.analysis) if _TO_THEM.search(plain) else ():
        found = [one for one in found if set(targets) & set(find_targets(one))]
    return found


_LEAST_SHARE = 0.02  # of what the strongest of them sends
_BEFORE_S = 10.0


def list_raiders(incident: Incident, view: TrafficView) -> list[str]:
    """Who takes part in an attack; of a flood all who send its target the same, and did not before."""
    known, targets = find_culprits(incident), find_targets(incident)
    if incident.label not in ("dos", "ddos") or len(targets) != 1:
        return known
    start_s, end_s = find_start(incident)[0], find_end(incident)
    rows = view.flow_slots
    rows = rows[
        (rows["dst"] == targets[0]) & rows["since_s"].le(end_s) & rows["until_s"].ge(start_s)
    ]
    own = rows[rows["src"].isin(known)]
    if own.empty:
        return known
    ways = own.groupby(["proto", "port"])["src_pkts"].sum()
    ways = ways[ways >= _LEAST_SHARE * ways.max()]
    rows = rows[pd.MultiIndex.from_frame(rows[["proto", "port"]]).isin(ways.index)]
    rows = rows[~rows["flow"].isin(_begun_before(view, targets[0], start_s - _BEFORE_S))]
    pkts = rows.groupby("src")["src_pkts"].sum().sort_values(ascending=False)
    many = pkts.index[pkts >= _LEAST_SHARE * pkts.max()]
    return list(dict.fromkeys([*known, *map(str, many)]))


def _begun_before(view: TrafficView, target: str, at_s: float) -> pd.Series:
    """Flows to a target that were there before a moment."""
    rows = view.flow_slots
    return rows.loc[(rows["dst"] == target) & (rows["since_s"] < at_s), "flow"]


def _say_all(asked: Asked, parties: Parties, raids: list[Incident]) -> Fact:
    """All of them, and how many they are."""
    told = name_parties(asked, parties)
    values = told.values | {"all": len(parties.everybody), "parties": told.text}
    return say("raiders" if len(raids) == 1 else "raiders_of_all", asked.reply(True), **values)


def _say_whose(asked: Asked, parties: Parties) -> Fact:
    """Whose they are; "yes" and "no" where it is true of all."""
    own, strangers = parties.own, parties.strangers
    told = name_parties(asked, parties)
    values = told.values | {"all": len(parties.everybody)}
    plain = asked.query.plain
    for_own = bool(_OWN.search(plain))
    reply: Reply = ""
    if asked.polar and not (for_own and _STRANGERS.search(plain)) and not (own and strangers):
        reply = asked.reply(bool(own) == for_own)
    if own and strangers and asked.polar and _ANY.search(plain):
        reply = "yes"  # some of them are
    if own and strangers:
        counts = bool(_NUMBER.search(plain)) and not for_own
        return say("whose_some_strangers" if counts else "whose_some", reply, **values)
    one = len(parties.everybody) == 1
    kind = "whose_own" if own else "whose_strangers"
    return say(f"{kind}_one" if one else kind, reply, **values)


_ANY = re.compile(r"\b(?:any|some|one of|auch|dabei|among|algun\w*|irgend\w*)\b")
