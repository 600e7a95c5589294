"""Whether names are resolved, clocks set and addresses given, and where a machine stands."""

import re
from dataclasses import replace

import pandas as pd

from assistant.answers.asked import Answer, Asked, Reply, begin, find_incidents, say, tell_incident
from assistant.answers.plant.descriptions import describe_delay, describe_requests, name_times
from assistant.detection.incidents import Incident, worst_first
from assistant.detection.rules.names import find_wrong_answers
from assistant.diagnosis.spans import find_end, find_start, is_over
from assistant.facts.fact import Fact, Value, kind_of, listed
from assistant.facts.logs_and_readings import WRONG_CLOCK, record_facts
from assistant.facts.requests import OUTCOMES, is_refused
from assistant.questions.entities import list_addresses

_MOST = 8
_DNS = 53
_FEW, _MUCH = 0.01, 0.2  # of questions without an answer, or of those for names that do not exist


def answer_dns(asked: Asked, headline: Fact) -> Answer:
    """Whether names are resolved: answers of the resolvers, failures, silence."""
    if asked.query.protocol == "ntp":  # "are dns and the clocks working?"
        names = answer_dns(replace(asked, query=replace(asked.query, protocol="")), headline)
        return replace(names, facts=(answer_clocks(asked).line, *names.facts))
    rows = asked.requests
    rows = rows[(rows["protocol"] == "dns") & rows["outcome"].isin(OUTCOMES)]
    known = find_incidents(asked, ("name_resolution",))  # the one that is meant, else the worst
    named = next((one for one in known if one is asked.incident), next(iter(known), None))
    if named is not None and named is not asked.incident:
        headline = named.facts[0]
    if rows.empty and named is not None:
        return Answer(begin(headline, asked.is_well(False)), asked.found.facts, whole=True)
    if rows.empty:
        return _count_dns_flows(asked)
    bad = (rows["outcome"] == "unanswered") | (is_refused(rows) & (rows["code"] != 3))
    if _WHICH.match(asked.query.plain) and not _SERVERS.search(asked.query.plain):
        return _name_clients(asked, rows, bad)
    facts = tuple(describe_requests(rows, asked.view, refused=True))
    if line := _tell_aspect(asked, rows, bad):
        return Answer(line, (*(named.facts if named else ()), *facts, *asked.sensor))
    if named is not None:
        return _tell_incident(asked, headline, named, rows[~bad], facts)
    share = float(bad.mean())
    kind = "dns_works" if share < _FEW else "dns_partly" if share < 0.5 else "dns_fails"
    if kind == "dns_works" and (odd := find_wrong_answers(asked.view, least_vain=1, least_given=1)):
        first = odd[0].facts  # too little for an incident, and no all-clear
        return Answer(
            begin(first[0], "unclear" if asked.polar else ""),
            (*first[1:], *facts),
            standing="inconclusive",
        )
    reply: Reply = asked.is_well(kind == "dns_works" and not (asked.query.negative and bad.any()))
    unknown = rows[rows["code"] == 3]
    values: dict[str, Value] = {"name": asked.name, "asked": len(rows), "unknown": len(unknown)}
    if kind == "dns_works" and len(unknown) >= _MUCH * len(rows):  # it answers that there is none
        names = unknown["name"].dropna().astype("str").value_counts().index
        spoken = listed((f"“{one}”" for one in names), 3)
        return Answer(say("dns_no_such_name", **values, names=spoken), facts)
    return Answer(say(kind, reply, **values, failed=int(bad.sum())), facts)


def answer_failing_names(asked: Asked) -> Answer | None:
    """Which names failed, where a resolver in trouble is meant, or whom it misled; None where neither is
    asked."""
    incident = asked.incident
    meant = incident is not None and incident.label == "name_resolution" and bool(incident.facts)
    if incident is None or not meant:
        return None
    asks_whom = _WHICH.match(asked.query.plain) or _WHOM.search(asked.query.plain)
    misled = kind_of(incident.facts[0]) in ("misled", "misleads")
    if misled and asks_whom:
        known = dict.fromkeys((*incident.peers, *incident.related))
        clients = [one for one in known if one in asked.view.local and one != incident.device]
        names = asked.view.names_of(clients, _MOST)
        line = say(
            "dns_misled", n=len(clients), names=names, name=asked.view.name_of(incident.device)
        )
        return Answer(line, incident.facts)
    if not _NAMES.search(asked.query.plain):
        return None
    if not misled:
        plant = asked.about(asked.device if asked.device != incident.device else "", asked.span)
        return answer_dns(plant, incident.facts[0])
    if (
        kind_of(incident.facts[0]) == "misleads"
    ):  # it says which names, and what they were answered with
        return Answer(incident.facts[0], incident.facts[1:])
    rows = asked.view.exchanges
    rows = rows[(rows["protocol"] == "dns") & (rows["server"] == incident.device)]
    rows = rows[rows["ts"].between(incident.start_s, incident.end_s)]
    ends = [*incident.peers, *incident.related]
    order = rows.loc[rows["client"].isin(ends), "name"].dropna().astype("str").value_counts()
    if order.empty:
        return None
    shown = [f"“{one}” ({name_times(int(n))})" for one, n in order.items()]
    counts: dict[str, Value] = {f"c{place}": int(n) for place, n in enumerate(order)}
    line = say(
        "dns_asked_then", "unclear", name=asked.view.name_of(incident.device),
        names=listed(shown, _MOST), **counts,
    )  # fmt: skip
    return Answer(line, incident.facts)


def _tell_aspect(asked: Asked, rows: pd.DataFrame, bad: pd.Series) -> Fact | None:
    """How fast it answers, who is asked, which names fail, that it lives; None where none of that is
    asked for."""
    if asked.query.measure == "delay":
        return describe_delay(rows, _name_servers(asked, rows))
    if _SERVERS.search(asked.query.plain):
        return say("dns_servers", names=_name_servers(asked, rows), asked=len(rows))
    failing = bad if bad.any() else rows["code"] == 3
    if failing.any() and (counted := _count_names(asked, rows, failing)):
        return counted
    # A resolver that answers with failures is not down.
    answered = rows["outcome"].isin(("answered", "refused"))
    if not (_LIVES.search(asked.query.plain) and answered.mean() >= 0.5 and bad.any()):
        return None
    return say(
        "dns_lives", asked.is_well(True), n=int(answered.sum()), asked=len(rows),
        failed=int(bad.sum()), names=_name_servers(asked, rows),
    )  # fmt: skip


def _tell_incident(
    asked: Asked, headline: Fact, named: Incident, good: pd.DataFrame, facts: tuple[Fact, ...]
) -> Answer:
    """What is known of the resolver in trouble, or that it resolves again."""
    told = (*named.facts[1:], *facts, *asked.sensor)
    good = good[(good["server"] == named.device) & (good["ts"] > find_end(named))]
    trouble = (
        asked.query.negative and not asked.still
    )  # "was there trouble?", not "is there still?"
    if good.empty or trouble or not is_over(named, asked.analysis):
        return Answer(begin(headline, asked.is_well(False)), told, whole=True)
    values: dict[str, Value] = {
        "start_time_s": find_start(named)[0], "end_time_s": find_end(named),
        "name": asked.view.name_of(named.device),
    }  # fmt: skip
    return Answer(say("dns_again", asked.is_well(True), **values), (*named.facts[:1], *told))


def _name_servers(asked: Asked, rows: pd.DataFrame) -> str:
    return asked.view.names_of(dict.fromkeys(rows["server"].astype("str")))


_SERVERS = re.compile(
    r"^(?:and )?(?:which|what|who|welche\w*|que|cual\w*) (?:\w+ ){0,2}(?:name ?servers?|dns(?: servers?)?"
    r"|resolvers?)\b"
    r"(?!.*\b(?:wrong|fail\w*|down|broken|matter|problem)\b)"
)
_NAMES = re.compile(
    r"\b(?:which|what|welche|cuales|(?:only |just )?one|all|how many|wie viele|cuantos) (?:\w+ )?"
    r"(?:names?|hosts?|hostnames?|domains?|namen|nombres)\b|\b(?:dev )?names? (?:also|too|as well)\b"
)
_SHARE = re.compile(r"\b(?:percent\w*|per cent|share|ratio|rate|prozent|anteil|porcentaje)\b")
_LIVES = re.compile(
    r"\banswers? (?:at all|anything)\b"
    r"|\b(?:down|dead|gone|off|offline|unreachable|silent|alive|up|online|reachable|running|there|tot|aus|caid[oa])\b"
)
_WHICH = re.compile(
    r"(?:and )?(?:who|wer|quien\w*|(?:which|what|welche\w*|que|cuales) (?:\w+ )?(?:devices?|machines?|clients?|hosts?"
    r"|plcs?|sensors?|cameras?|geraete?|equipos?|dispositivos?))\b"
)


_WHOM = re.compile(
    r"\b(?:whom|who (?:was|were|got|is|are) (?:misled|wrong\w*|lied)|wem|a quien\w*)\b"
)


def _count_names(asked: Asked, rows: pd.DataFrame, bad: pd.Series) -> Fact | None:
    """Which names failed, or which share of the questions; None where neither is asked for."""
    values: dict[str, Value] = {
        "n": int(bad.sum()), "asked": len(rows), "part_share": float(bad.mean()), "name": asked.name,
    }  # fmt: skip
    if _NAMES.search(asked.query.plain) and (names := rows.loc[bad, "name"].dropna()).size:
        listing = listed((f"“{one}”" for one in names.astype("str").value_counts().index), _MOST)
        return say("dns_names", names=listing, **values)
    return say("dns_share", **values) if _SHARE.search(asked.query.plain) else None


def _name_clients(asked: Asked, rows: pd.DataFrame, bad: pd.Series) -> Answer:
    """Whose names failed, the one with the most failures first."""
    each = bad.groupby(rows["client"].astype("str")).agg(["sum", "size"])
    each = each[each["sum"] > 0].sort_values("sum", ascending=False, kind="stable")
    if each.empty:
        return Answer(say("dns_clients_none", asked=len(rows)), asked.sensor)
    names = [
        f"{asked.view.name_of(str(one))} ({int(row['sum'])} of {int(row['size'])})"
        for one, row in each.iterrows()
    ]
    values: dict[str, Value] = {f"c{at}": int(n) for at, n in enumerate(each.to_numpy().ravel())}
    line = say("dns_clients", n=len(each), names=listed(names, _MOST), **values)
    return Answer(line, tuple(describe_requests(rows[bad], asked.view, refused=True)))


def _count_dns_flows(asked: Asked) -> Answer:
    """What a log without the content of answers says: which questions got none."""
    talks = asked.view.flow_slots
    talks = talks[talks["port"] == _DNS]
    for one in filter(None, (asked.device, asked.second)):
        talks = talks[(talks["src"] == one) | (talks["dst"] == one)]
    if talks.empty:
        return Answer(say("dns_unseen", "unclear", name=asked.name), ())
    each = talks.groupby("flow").agg(
        src=("src", "first"), dst=("dst", "first"), got=("dst_pkts", "sum")
    )
    vain = each["got"] == 0
    share = float(vain.mean())
    facts = [
        say("dns_flow", "", client=asked.view.name_of(src), server=asked.view.name_of(dst), n=len(mine),
            failed=int((mine["got"] == 0).sum()))
        for (src, dst), mine in each.groupby(["src", "dst"], sort=False)
    ]  # fmt: skip
    reply: Reply = "unclear" if share < _FEW else asked.is_well(False)
    line = say("dns_counted", reply, name=asked.name, failed=int(vain.sum()), n=len(each))
    return Answer(line, tuple(facts[:_MOST]))


_WHERE = re.compile(
    r"^(?:and |so |but |ok |wo |donde )*(?:where(?: exactly| physically)? (?:is|are|was) (?:it|he|she|they|that one"
    r"|that|dev|(?:that|this|the) (?:guy|machine|device|box|one|attacker|intruder|stranger|thing|laptop))"
    r"|where do (?:i|we) find (?:it|him|dev)|(?:wo )?(?:ist|steht|haengt) (?:er|sie|es|das|dev)"
    r"|(?:donde )?esta(?: dev| eso)?)"
    r"(?: located| physically| exactly| connected| plugged in| standing| now)?\W*$"
)


def answer_where(asked: Asked) -> Answer | None:
    """Where a machine stands, as far as plant.yaml or its hardware address tells; None where that is not
    asked."""
    device = asked.device or (asked.incident.device if asked.incident else "")
    if not device or not _WHERE.match(asked.query.plain):
        return None
    plant, name = asked.analysis.plant, asked.view.name_of(device)
    known = next((one for one in (plant.devices if plant else ()) if one.address == device), None)
    if known is not None and known.zone:
        return Answer(say("where_is", name=name, zone=known.zone), about=device)
    macs = asked.view.macs_of(device)
    if not macs or device not in asked.view.local:
        return Answer(say("where_unseen", "", None, name=name), about=device)
    return Answer(say("where_unknown", "", None, name=name, mac=macs[0]), about=device)


def answer_clocks(asked: Asked) -> Answer:
    """Whether devices get the time, and whose log shows a clock that is off."""
    view, rows = asked.view, asked.requests
    rows = rows[(rows["protocol"] == "ntp") & rows["outcome"].isin(OUTCOMES)]
    devices = [asked.device] if asked.device else list_addresses(asked.analysis)
    off = [
        fact for one in devices for fact in record_facts(view, one) if kind_of(fact) == WRONG_CLOCK
    ]
    if off:
        reply: Reply = (
            "no" if asked.polar and asked.query.positive else asked.reply(asked.query.negative)
        )
        return Answer(begin(off[0], reply), (*off[1:], *asked.sensor))
    if rows.empty:
        return Answer(say("clocks_none", "unclear"), asked.sensor)
    failed = rows["outcome"] != "answered"
    each = failed.groupby([rows["client"].astype("str"), rows["server"].astype("str")]).agg(
        ["sum", "size"]
    )
    worst = each[each["sum"] > 0].sort_values("sum", ascending=False, kind="stable")
    facts = tuple(
        say("clock_one", name=view.name_of(client), server=view.name_of(server), failed=int(row["sum"]),
            asked=int(row["size"]))
        for (client, server), row in worst.head(_MOST).iterrows()
    )  # fmt: skip
    if worst.empty:
        line = say("clocks_good", asked.is_well(True), asked=len(rows), n=rows["client"].nunique())
        return Answer(line, (*describe_requests(rows, view, most=3), *asked.sensor))
    names = listed(map(view.name_of, dict.fromkeys(client for client, _ in worst.index)), _MOST)
    line = say(
        "clocks_bad", asked.is_well(False), failed=int(failed.sum()), asked=len(rows), names=names
    )
    mute = [
        one.facts[0]
        for one in asked.analysis.incidents
        if one.facts and kind_of(one.facts[0]) == "time_server"
    ]
    return Answer(line, (*mute, *facts, *asked.sensor))


# ---- Addresses ----

_LEASES_FAIL = frozenset(("no_lease", "no_leases", "lease_server"))
_OF_LEASES = re.compile(
    r"\bdhcp\b|\bleases?\b|\b(?:no|without|any|get|gets|got|getting|obtain\w*|receiv\w*|keine|bekommt|ohne|sin|una)"
    r" (?:an? |no |any |its |keine |una )?(?:ip[- ]?)?(?:add?resse?s?|adresse|ip|direccion)\b"
)
_LEASE_SERVER = re.compile(
    r"\bservers?\b|\bwho (?:gives|hands|assigns|offers)\b|\bworks?\b|\brunning\b|\bthere\b"
)


def answer_leases(asked: Asked) -> Answer | None:
    """Who asks for an address in vain, or whether anybody gives one; None where neither is asked."""
    if not _OF_LEASES.search(asked.query.plain):
        return None
    failing = _find_failing_lease(asked)
    if failing is not None and not _LEASE_SERVER.search(asked.query.plain):
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


def _find_failing_lease(asked: Asked) -> Incident | None:
    """The incident in which an address was asked for in vain, at the device that is named if any is."""
    found = (
        one
        for one in worst_first(list(asked.analysis.incidents))
        if one.facts and kind_of(one.facts[0]) in _LEASES_FAIL
    )
    return next((one for one in found if not asked.device or one.touches(asked.device)), None)
