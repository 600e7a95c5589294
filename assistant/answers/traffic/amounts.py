"""The number that was asked for, of the thing that was asked for: SYNs, packets a second, registers, open ports."""

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from assistant.answers.asked import Answer, Asked, find_incidents, say
from assistant.answers.attacks.raids import STRANGERS, list_raiders
from assistant.answers.plant.descriptions import describe_endings, describe_requests
from assistant.answers.plant.parties import name_parties, part_machines
from assistant.answers.requests.streams import FROM, RATE
from assistant.answers.topics import CULPRIT
from assistant.answers.traffic.partners import FLOODS, KINDS_OF
from assistant.detection.incidents import Incident
from assistant.diagnosis.choosing import find_targets
from assistant.diagnosis.spans import find_end, find_start
from assistant.facts.devices import name_service
from assistant.facts.fact import Fact, Value, kind_of, listed
from assistant.questions.forms import compile_terms
from assistant.questions.plain import MAX_CHARS
from traffic.capture import SAMPLE_S
from traffic.pcap.protocols import BY_NAME

_MOST = 12
_NUMBER = re.compile(
    r"\b(?:how (?:many|much|often|fast|strong|big)|number of|count|wie ?viele?|wie (?:oft|schnell|stark)|cuant[oa]s?"
    r"|que tan)\b"
)


def answer_amount(asked: Asked) -> Answer | None:
    """The number of the thing that the words of a question name; None where they name none of these."""
    plain = asked.query.plain
    if not _NUMBER.search(plain):
        return _list_registers(asked) if _WHICH_REGISTERS.search(plain) else None
    return (
        (_count_syns(asked) if _SYNS.search(plain) and not RATE.search(plain) else None)
        or (_say_rate(asked) if RATE.search(plain) or _HOW_FAST.search(plain) else None)
        or (_list_registers(asked) if _REGISTERS.search(plain) else None)
        or (_count_open(asked) if _OPEN_PORTS.search(plain) else None)
        or (_count_calls(asked) if _HOW_OFTEN.search(plain) and _CALLS.search(plain) else None)
    )


_SYNS = re.compile(r"\bsyns?\b")


def _count_syns(asked: Asked) -> Answer | None:
    """How many SYNs came to a device, or went out from it, and most of them from whom."""
    rows = asked.view.flow_slots
    rows = rows[rows["proto"] == "tcp"]
    end, other = ("src", "dst") if asked.query.active else ("dst", "src")
    if asked.device:
        rows = rows[rows[end] == asked.device]
    if asked.second:
        rows = rows[rows[other] == asked.second]
    if asked.span is not None:
        rows = rows[(rows["since_s"] <= asked.span.end_s) & (rows["until_s"] >= asked.span.start_s)]
    if rows.empty:
        return None
    each = rows.groupby([other, "port"])["syns"].sum().sort_values(ascending=False)
    first, port = each.index[0]
    mine = rows[(rows[other] == first) & (rows["port"] == port) & (rows["syns"] > 0)]
    values: dict[str, Value] = {
        "n": int(rows["syns"].sum()), "name": asked.name, "most": int(each.iloc[0]),
        "first": asked.view.name_of(str(first)), "service": name_service("tcp", int(port)),
        "since_time_s": float(mine["since_s"].min()), "until_time_s": float(mine["until_s"].max()),
    }  # fmt: skip
    kind = f"syns_{'from' if asked.query.active else 'to'}"
    found = find_incidents(asked, FLOODS)
    return Answer(say(kind, **values), found[0].facts if found else ())


_HOW_FAST = re.compile(r"\bhow (?:fast|strong|intense)\b|\bwie (?:schnell|stark)\b")
# Of the facts that count what happened: what they count, and how long it went on.
_COUNTED = {
    "pings": "pkts", "one_way": "pkts", "flood": "pkts", "messages": "messages", "malformed": "malformed",
    "login_refused": "asked", "modbus": "requests",
}  # fmt: skip
_BURSTS = (*FLOODS, "brute_force", "unauthorized_command", "recon")


def _say_rate(asked: Asked) -> Answer | None:
    """How many a second while it went on, on average and at most; not over the whole capture."""
    found = [one for one in find_incidents(asked, _BURSTS) if _is_meant(asked, one)]
    if asked.focus is not None and not asked.query.names_device:
        found = [one for one in found if one.id == asked.focus.id] or found
    for incident in found:
        for fact in incident.facts:
            name = _COUNTED.get(kind_of(fact))
            span_s = _lasting_s(fact)
            if name is None or not span_s or name not in fact.values:
                continue
            noun = (
                "connections"
                if kind_of(fact) == "flood" and _SYNS.search(asked.query.plain)
                else name
            )
            n = float(fact.values[noun])
            flood = incident.label in ("dos", "ddos")
            measured = _measure_flood(asked, incident, noun) if flood else None
            if measured is not None and measured.span_s < _PAUSED * span_s:
                n, span_s = measured.n, measured.span_s
            kind = "rate_pings" if kind_of(fact) == "pings" else f"rate_{noun}"
            line = say(kind, mean_per_s=n / span_s, n=n, span_s=span_s)
            peaks = tuple(one for one in incident.facts if kind_of(one) == "rate")
            rest = tuple(one for one in incident.facts if one not in peaks)
            return Answer(line, (*peaks, *rest))
    return _say_traffic(asked) if RATE.search(asked.query.plain) else None


_PINGS = re.compile(r"\b(?:pings?|icmp|echo)\b")
_PKTS = re.compile(r"\b(?:packets?|pkts?|frames?|pakete?n?|paquetes|tramas|syns?|pings?|icmp)\b")


def _say_traffic(asked: Asked) -> Answer | None:
    """How many packets a second came to a device, or went out from it, at most and on average, where no
    incident tells; None where no packets were asked for."""
    plain = asked.query.plain
    if not _PKTS.search(plain) or not asked.device or asked.second:
        return None
    rows, syns = asked.view.flow_slots, bool(_SYNS.search(plain))
    if _PINGS.search(plain):
        rows = rows[rows["proto"] == "icmp"]
    by_device, to_device = rows["src"] == asked.device, rows["dst"] == asked.device
    sends = asked.query.active or bool(FROM.search(plain))
    ways = (by_device, to_device) if sends else (to_device, by_device)
    count = "syns" if syns else "src_pkts"
    pkts = (
        rows.loc[ways[0], count]
        if syns
        else pd.concat([rows.loc[ways[0], "src_pkts"], rows.loc[ways[1], "dst_pkts"]])
    )
    end = "from" if sends else "to"
    if not pkts.sum() > 0:
        kind = "traffic_no_pings" if _PINGS.search(plain) else "traffic_no_pkts"
        return Answer(say(f"{kind}_{end}", name=asked.name), asked.sensor)
    per_slot = pkts.groupby(rows.loc[pkts.index, "slot"]).sum()
    # A capture begins and ends within ten seconds: what it holds of them counts.
    start_s = np.maximum(per_slot.index.to_numpy(float) * SAMPLE_S, asked.view.start_s)
    end_s = np.minimum((per_slot.index.to_numpy(float) + 1) * SAMPLE_S, asked.view.last_s)
    held_s = np.clip(end_s - start_s, 1.0, SAMPLE_S)
    peak = int(np.argmax(per_slot.to_numpy() / held_s))
    mean_per_s = float(pkts.sum()) / max(asked.view.span_s, 1.0)
    line = say(
        f"traffic_rate_{end}", name=asked.name, mean_per_s=mean_per_s,
        peak_per_s=max(float(per_slot.iloc[peak] / held_s[peak]), mean_per_s),
        sample_s=float(held_s[peak]), n=int(pkts.sum()), at_time_s=float(start_s[peak]),
    )  # fmt: skip
    return Answer(line, asked.known)


@dataclass(frozen=True)
class _Flow:
    """What came in the seconds in which it came."""

    n: float
    span_s: float


_PAUSED = 0.8  # of the time from first to last; where it went on for less, it paused
_BUSY_SHARE = 0.1  # of the busiest ten seconds; less is a pause, or what was there before


def _measure_flood(asked: Asked, incident: Incident, noun: str) -> _Flow | None:
    """What a flood sent while it went on: pauses between its parts count for nothing."""
    rows = asked.view.flow_slots
    rows = rows[
        rows["src"].isin(list_raiders(incident, asked.view))
        & rows["dst"].isin(find_targets(incident))
    ]
    rows = rows[
        rows["until_s"].ge(find_start(incident)[0]) & rows["since_s"].le(find_end(incident))
    ]
    count = "syns" if noun == "connections" and rows["syns"].any() else "src_pkts"
    each = rows.groupby("slot").agg(
        n=(count, "sum"), first_s=("src_first_s", "min"), last_s=("src_last_s", "max")
    )
    each = each[each["n"] >= _BUSY_SHARE * each["n"].max()]
    span_s = float((each["last_s"] - each["first_s"]).sum())
    return _Flow(float(each["n"].sum()), span_s) if span_s >= 1.0 else None


def _is_meant(asked: Asked, incident: Incident) -> bool:
    """Whether a device that is named has it done to it, or does it."""
    device = asked.device
    return not device or device in (incident.device, *find_targets(incident), *incident.peers[:1])


_ENDS = (
    ("start_time_s", "end_time_s"),
    ("first_time_s", "last_time_s"),
    ("since_time_s", "until_time_s"),
)


def _lasting_s(fact: Fact) -> float:
    """How long it went on, 0 where a fact does not tell."""
    values = fact.values
    if "span_s" in values:
        return float(values["span_s"])
    for first, last in _ENDS:
        if first in values and last in values:
            return max(float(values[last]) - float(values[first]), 1.0)
    return 0.0


_REGISTERS = re.compile(r"\b(?:registers?|coils?|registros?|set ?points?|sollwerte?|consignas?)\b")
_WHICH_REGISTERS = re.compile(
    rf"\b(?:which|what|welche\w*|que|cuales)\b.{{0,12}}{_REGISTERS.pattern}.*"
    r"\b(?:writ\w*|wrote|chang\w*|set|overwr\w*|touch\w*|alter\w*|geschrieben|geaendert|cambi\w*|escrib\w*)\b"
)
_BY_STRANGER = re.compile(rf"\b(?:{STRANGERS}|{CULPRIT})\b")
_SEVERAL = (15, 16)  # Modbus functions that write on from the address that they name


def _list_registers(asked: Asked) -> Answer | None:
    """How many different registers were written, and which; by strangers alone, where one is meant."""
    # "who wrote to it, and how many registers?": the act may stand in the other half.
    writes = compile_terms()["relation"]["write"]
    if not writes.search(asked.query.plain) and not writes.search(
        asked.question[:MAX_CHARS].lower()
    ):
        return None
    rows = asked.requests
    rows = rows[rows["kind"].isin(KINDS_OF["write"]) & (rows["target"] >= 0)]
    if asked.device:
        own = rows[rows["client"] == asked.device]
        rows = own if asked.query.active and len(own) else rows[rows["server"] == asked.device]
        rows = own if rows.empty else rows
    parties = part_machines(asked, rows["client"].astype("str"))
    if _BY_STRANGER.search(asked.query.plain) and parties.strangers:
        rows = rows[rows["client"].isin(parties.strangers)]
        parties = part_machines(asked, parties.strangers)
    if rows.empty:
        return None
    points = rows[["server", "protocol", "unit", "target"]].drop_duplicates()
    points = points.sort_values(["server", "unit", "target"])
    names = [
        BY_NAME[str(protocol)].name_target(int(target))
        for protocol, target in zip(points["protocol"], points["target"], strict=True)
    ]
    told = name_parties(asked, parties)
    values = told.values | {
        f"t{place}": int(one) for place, one in enumerate(points["target"][:_MOST])
    }
    values |= {
        "all": len(points), "points": listed(names, _MOST), "parties": told.text, "times": len(rows),
        "servers": listed(map(asked.view.name_of, dict.fromkeys(points["server"].astype("str"))), _MOST),
    }  # fmt: skip
    more = (say("registers_more"),) if rows["function"].isin(_SEVERAL).any() else ()
    return Answer(
        say("registers", **values), (*more, *describe_requests(rows, asked.view, refused=True))
    )


_OPEN_PORTS = re.compile(
    r"\bopen (?:\w+ )?ports?\b|\bports? (?:\w+ ){0,4}open\b|\boffene\w* ports?\b|\bpuertos? (?:\w+ )?abiertos?\b"
)


def _count_open(asked: Asked) -> Answer | None:
    """How many TCP ports of a device accepted a connection, of anybody or of the one that looked for them."""
    rows = asked.view.sessions
    device = asked.second or asked.device
    rows = rows[rows["server"] == device]
    rows = rows[rows["client"] == asked.device] if asked.second else rows
    if not device or rows.empty:
        return None
    tried, rows = rows["port"].nunique(), rows[rows["opened"]]
    name = asked.view.name_of(device)
    ports = sorted({int(one) for one in rows["port"]})
    scans = find_incidents(asked, ("recon",))
    values: dict[str, Value] = {f"p{place}": port for place, port in enumerate(ports)}
    names = listed((name_service("tcp", one) for one in ports), _MOST)
    kind = "ports_open" if ports else "ports_open_none"
    line = say(kind, n=len(ports), name=name, names=names, tried=tried, **values)
    return Answer(
        line, (*(scans[0].facts if scans else ()), *describe_endings(rows, asked.view, most=3))
    )


_HOW_OFTEN = re.compile(
    r"\b(?:how often|how many (?:times|calls|contacts)|wie oft|cuantas veces)\b"
)
_CALLS = re.compile(
    r"\b(?:call\w*|phon\w*|dial\w*|contact\w*|r[ai]ng|ruf\w*|geruf\w*|angeruf\w*|llam\w*|contact\w*)\b"
)


def _count_calls(asked: Asked) -> Answer | None:
    """How often one device called another that is named, and how often in vain."""
    rows = asked.view.sessions
    ends = (asked.device, asked.second)
    rows = rows[rows["client"].isin(ends) & rows["server"].isin(ends)]
    if not asked.second or rows.empty:
        return None
    client = str(rows["client"].astype("str").value_counts().index[0])
    rows = rows[rows["client"] == client]
    vain = rows["ended"].isin(["refused", "unanswered"])
    values: dict[str, Value] = {
        "name": asked.view.name_of(client), "n": len(rows), "failed": int(vain.sum()),
        "peer": asked.view.name_of(ends[1] if client == ends[0] else ends[0]),
        "since_time_s": float(rows["start_s"].min()), "until_time_s": float(rows["start_s"].max()),
    }  # fmt: skip
    found = [
        one for one in find_incidents(asked, ("c2", "exfiltration")) if one.touches(asked.second)
    ]
    facts = (*(found[0].facts if found else ()), *describe_endings(rows, asked.view))
    return Answer(say("calls_counted", **values), facts)
