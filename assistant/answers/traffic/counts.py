"""How many, how much, how often, how fast: the number that was asked for, first."""

import re
from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from assistant.answers.asked import Answer, Asked, find_incidents, say, say_recorded, tell_incident
from assistant.answers.attacks.intrusion import answer_hostile
from assistant.answers.incidents.since import answer_since
from assistant.answers.plant.descriptions import (
    SHORTEST_S,
    describe_delay,
    describe_requests,
    name_times,
)
from assistant.answers.plant.inventory import answer_devices, propose_devices
from assistant.answers.plant.past import answer_interval
from assistant.answers.requests.streams import RATE
from assistant.answers.requests.units import count_units
from assistant.answers.topics import COUNTED, CULPRIT, DNS, tell_measured
from assistant.answers.traffic.partners import FLOODS, KINDS_OF, answer_talk
from assistant.answers.traffic.sessions import (
    LASTS,
    PATIENCE,
    answer_close,
    answer_lasting,
    answer_patience,
    count_attempts,
    count_connects,
    count_sessions,
)
from assistant.answers.traffic.volumes import (
    PEAK,
    answer_left,
    answer_talkers,
    answer_volume,
    rank_requests,
)
from assistant.detection.rules.conversation import word_code
from assistant.facts.fact import Fact, Value, listed
from assistant.facts.requests import OUTCOMES, is_refused
from assistant.questions.entities import list_machines
from traffic.pcap.protocols import spoken_name

TIMES = re.compile(
    r"how (often|many times)|regular\w*|periodic\w*|intermittent\w*|sporadic\w*|constant\w*|repeatedly|randomly"
    r"|wie oft|cuantas veces"
)
_MOST = 8
_REQUESTS = (*OUTCOMES, "unseen", "told")


def asks_for_number(asked: Asked) -> bool:
    """Whether what asks for a time is answered by a number: "when is it busiest?"."""
    return bool(_GAPS.search(asked.query.plain) or PEAK.search(asked.query.plain))


def answer_count(asked: Asked, headline: Fact) -> Answer:
    """The number that was asked for, of the device or of all."""
    if not asked.query.protocol and DNS.search(asked.query.plain):
        asked = replace(asked, query=replace(asked.query, protocol="dns"))
    return _count_by_words(asked, headline) or _count_by_measure(asked)


def _count_by_words(asked: Asked, headline: Fact) -> Answer | None:
    """What more words than the measure ask for: how many attackers, how long, how fast a scan; None
    where the measure says it."""
    measure, plain, incident = asked.query.measure, asked.query.plain, asked.incident
    if asked.polar and asked.query.relation == "outside":
        return answer_talk(asked)  # "was there traffic to the internet?"
    hit = asked.device and measure == "packets" and _HITS.search(plain)
    if hit and (floods := find_incidents(asked, FLOODS)):
        return tell_incident(floods[0])
    for words, answer in (
        (LASTS, answer_lasting), (PATIENCE, answer_patience), (_GAPS, answer_interval),
    ):  # fmt: skip
        if words.search(plain) and (told := answer(asked)):
            return told
    if not asked.query.names_device and (told := _count_in_focus(asked)):
        return told
    scans = find_incidents(asked, ("recon",)) if asked.query.relation == "scan" else []
    if scans and measure == "":  # "how fast was the scan?"
        return tell_incident(scans[0])
    if asked.query.relation == "close" and _WAITS.search(plain):
        return answer_close(asked)
    if _SPAN.search(plain) and not asked.device:
        return Answer(say_recorded(asked), asked.sensor)
    if "how long" in plain and measure != "delay":
        return answer_since(asked, headline)
    if measure in ("", "requests") and (told := _count_code(asked)):
        return told
    if measure == "left" and asked.query.relation == "outside" and TIMES.search(plain):
        return answer_talk(asked)  # who calls outside, and how often
    if asked.query.state and measure in ("", "devices") and not asked.device:
        return answer_devices(asked)  # "how many are ok?"
    if TIMES.search(plain) and not measure and incident and incident.facts:
        return tell_incident(incident)  # "how often?": its own fact carries the number
    return None


_OF_REQUESTS = ("failed", "refused", "unanswered", "writes", "requests", "delay", "attempts")


_HOLDS = re.compile(r"\b(?:hold\w*|held|keep\w*|kept|block\w*|occup\w*|open|haelt|belegt|ocupa)\b")
_CONNECTIONS = re.compile(r"\b(?:connect\w*|verbind\w*|conexion\w*|syns?)\b")


def _count_by_measure(asked: Asked) -> Answer:
    measure, incident = asked.query.measure, asked.incident
    guessed = find_incidents(asked, ("brute_force",)) if measure == "attempts" else []
    if guessed and asked.device and not _CONNECTIONS.search(asked.query.plain):
        return tell_incident(guessed[0])  # tries to get in, not connections
    if measure == "attempts" and (told := count_attempts(asked)):
        if not told.line.values["n"] and incident and incident.facts:
            return replace(tell_incident(incident), facts=(*incident.facts[1:], told.line))
        return told
    if measure in _OF_REQUESTS:
        return _requests(asked, "failed" if measure == "attempts" else measure)
    if measure == "connects" and asked.second:
        return count_connects(asked)
    held = (
        find_incidents(asked, FLOODS)
        if measure == "sessions" and _HOLDS.search(asked.query.plain)
        else []
    )
    if held and "held" in held[0].facts[0].values:
        return tell_incident(held[0])
    if measure in ("sessions", "resets", "connects"):
        return count_sessions(asked, measure)
    return _BY_MEASURE.get(measure, answer_volume)(asked)


def _count_incidents(asked: Asked) -> Answer:
    found = asked.analysis.incidents
    line = say("count_incidents", n=len(found))
    return Answer(line, tuple(one.facts[0] for one in found if one.facts))


def _count_ports(asked: Asked) -> Answer:
    ports = asked.talks[asked.talks["proto"].isin(["tcp", "udp"])]["port"].nunique()
    return Answer(say("count_ports", name=asked.name, n=int(ports)), asked.found.facts)


# "packets per second against plc-1?" counts what floods it.
_HITS = re.compile(r"\b(?:against|hit(?:s|ting)?|at|gegen|contra) dev\b")
_GAPS = re.compile(
    r"\b(?:how (?:long|much time)|pause|interval|gap)\b.*\bbetween\b"
    r".*\b(?:attempts?|tries|failures?|requests?|times|calls?)"
    r"|^(?:and )?(?:what|which) (?:\w+ ){0,2}(?:interval|period|rhythm|cycle)\b"
    r"|\b(?:pattern|rhythm|regularity|intervals|period|cycle)\b"
    r"|\b(?:time-?out|interval|gap|pause)s? (?:\w+ )?(?:always|constant|fixed|the same|regular)\b"
)
_WAITS = re.compile(r"\b(after how|how (long|many (seconds|minutes))|wie (lange|viele sekunden))\b")


_HOW_MUCH = re.compile(
    r"(?:and )?(?:by )?(?:how (?:much|many|bad(?:ly)?|strong(?:ly)?|slow|fast|often|many times)"
    r"|wie (?:viel|stark|oft)|cuanto|cuantas veces)\W*$"
)


def _count_in_focus(asked: Asked) -> Answer | None:
    """The number of what a talk is about: "how many packets?", "by how much?"; None where its facts hold
    none of that measure."""
    incident = asked.incident
    if not asked.device or incident is None or not incident.facts:
        return None
    if _HOW_MUCH.match(asked.query.plain):
        return tell_incident(incident)
    names = COUNTED.get(asked.query.measure, ())
    if not any(name in one.values for one in incident.facts for name in names):
        return None
    return tell_measured(incident, asked.query.measure)


_ATTACKERS = re.compile(rf"\b(?:{CULPRIT})s?\b")


def _machines(asked: Asked) -> Answer:
    """How many machines: that attack, that call outside, that are asked, or that there are."""
    if _ATTACKERS.search(asked.query.plain):
        return answer_hostile(asked)
    if asked.query.relation == "outside":
        return answer_talk(asked)
    if "unit" in asked.query.plain and (units := count_units(asked)):
        return units
    if asked.query.relation in ("read", "ask", "write") and (told := _count_asked(asked)):
        return told
    return _devices(asked)


def _count_asked(asked: Asked) -> Answer | None:
    """How many servers are asked, or written to; None where no request of the kind was read."""
    rows = asked.requests
    if kinds := KINDS_OF.get(asked.query.relation):
        rows = rows[rows["kind"].isin(kinds)]
    if asked.query.active and asked.device:
        rows = rows[rows["client"] == asked.device]
    if rows.empty:
        return None
    servers = rows["server"].astype("str").value_counts()
    names = listed(map(asked.view.name_of, servers.index), _MOST)
    line = say(f"count_{asked.query.relation}_from", n=len(servers), names=names, times=len(rows))
    return Answer(line, tuple(describe_requests(rows, asked.view)))


_SPAN = re.compile(r"\b(capture|recording|trace|pcap|aufzeichnung|mitschnitt|captura)\b")


def _count_code(asked: Asked) -> Answer | None:
    """How many answers carried the code that the question names in words: "busy", "illegal"."""
    rows = asked.requests
    rows = rows[is_refused(rows) & (rows["code"] > 0)]
    spoken = set(re.findall(r"[a-z]{4,}", asked.query.plain))
    codes = {(str(p), int(c)) for p, c in zip(rows["protocol"], rows["code"], strict=True)}
    meant = {
        (protocol, code): said
        for protocol, code in sorted(codes)
        if spoken
        & (set(re.findall(r"[a-z]{4,}", (said := word_code(protocol, code)).lower())) - _CODE_WORDS)
    }
    if not meant:
        return None
    keys = pd.MultiIndex.from_arrays([rows["protocol"].astype("str"), rows["code"]])
    mine = rows[keys.isin(list(meant))]
    line = say("count_code", n=len(mine), name=asked.name, codes=listed(meant.values()))
    return Answer(line, tuple(describe_requests(mine, asked.view, refused=True)))


_CODE_WORDS = frozenset(
    (
        "exception", "code", "error", "status", "device", "request", "requests", "server", "answer",
        "failed", "failure", "respond", "function", "address", "data", "value", "connection",
    )
)  # fmt: skip


def _pick(asked: Asked) -> pd.DataFrame:
    """Requests between the devices that are named; of one, those that it makes where it is who
    acts."""
    rows = asked.requests
    rows = rows[rows["outcome"].isin(_REQUESTS) | is_refused(rows)]
    if asked.device and not asked.second and len(rows):
        made = rows[rows["client"] == asked.device]
        served = rows[rows["server"] == asked.device]
        gives = "answer" in asked.query.plain or _GIVES.search(asked.query.plain)
        if asked.query.active and len(made) and not (gives and len(served)):
            return made
        if len(served) and (not asked.query.active or _GIVES.search(asked.query.plain)):
            return served
    return rows


# Exceptions and errors are what a server gives.
_GIVES = re.compile(
    r"\b(?:exceptions?|errors?|fehler\w*|excepciones|errores)\b.*\b(?:send|sent|give|gave|return\w*|throw|threw|report\w*"
    r"|raise\w*|produce\w*|had|have|show\w*|geschickt|gesendet|geliefert|mando|envio|dio)\b"
    r"|\b(?:names?|questions?|lookups?|queries)\b.*\bdev (?:\w+ )?(?:fail|refus|reject|den|answer|leav|drop)\w*"
)


_NO_NAME = 3  # NXDOMAIN, RFC 1035


def _requests(asked: Asked, measure: str) -> Answer:
    rows = _pick(asked)
    if rows.empty:
        return Answer(say("count_unread", "unclear", name=asked.name), asked.found.facts)
    if measure == "delay":
        return _delay(asked, rows)
    if measure in ("failed", "refused", "unanswered"):  # of those whose outcome was seen
        rows = rows[rows["outcome"].isin(OUTCOMES) | is_refused(rows)]
        if rows.empty:
            return Answer(say("count_unseen", "unclear", name=asked.name), asked.sensor)
    refused = is_refused(rows)
    if (
        measure == "refused"
        and asked.query.protocol == "dns"
        and (refused & (rows["code"] != _NO_NAME)).any()
    ):
        refused &= rows["code"] != _NO_NAME  # that there is no such name is an answer
    unanswered = rows["outcome"] == "unanswered"
    if measure == "failed" and not (refused | unanswered).any():
        tried = count_attempts(asked)  # what is refused at the door never becomes a request
        if tried is not None and tried.line.values["n"]:
            return tried
    part = {
        "failed": rows[refused | unanswered],
        "refused": rows[refused],
        "unanswered": rows[unanswered],
        "writes": rows[rows["kind"].isin(["write", "control"])],
        "requests": rows,
    }[measure]
    values: dict[str, Value] = {
        "name": _name_asked(asked),
        "n": len(part),
        "asked": len(rows),
        "part_share": len(part) / len(rows),
        "refused": int(refused.sum()),
        "unanswered": int(unanswered.sum()),
    }
    if ranked := rank_requests(asked, part, measure):
        return ranked
    facts = tuple(describe_requests(part if len(part) else rows, asked.view, refused=True))
    if measure in ("failed", "unanswered") and asked.incident is not None:
        facts += asked.incident.facts[:1]  # attempts that never became a request
    plain = asked.query.plain
    if measure == "refused" and len(part):
        told = _word_codes(part)
        line = say("count_refused_by" if told["codes"] else "count_refused", **values, **told)
        return Answer(_add_clients(asked, line, part) if _BY_WHOM.search(plain) else line, facts)
    if measure in ("failed", "refused", "unanswered") and len(part) and _BY_WHOM.search(plain):
        return Answer(_add_clients(asked, say(f"count_{measure}", **values), part), facts)
    if measure in ("requests", "writes") and len(part):
        return Answer(_say_pace(asked, part, measure, values), facts)
    return Answer(say(f"count_{measure}", **values), facts)


def _say_pace(asked: Asked, rows: pd.DataFrame, measure: str, values: dict[str, Value]) -> Fact:
    """How many requests there were, and how many a second or how far apart, where that tells."""
    if RATE.search(asked.query.plain) and len(rows) > 1:
        per_s = rows.groupby(rows["ts"].floordiv(1)).size()
        rate: dict[str, Value] = {
            "mean_per_s": len(rows) / max(float(rows["ts"].max() - rows["ts"].min()), 1.0),
            "peak": int(per_s.max()),
            "at_time_s": float(per_s.idxmax()),
        }
        return say(f"count_{measure}_rate", **values, **rate)
    pairs = rows.sort_values("ts").groupby(["client", "server", "protocol"], observed=True)
    step = pairs["ts"].diff().median()
    if pd.notna(step) and step >= SHORTEST_S and len(rows) > 2:
        return say(f"count_{measure}_every", **values, every_s=float(step))
    return say(f"count_{measure}", **values)


_BY_WHOM = re.compile(
    r"\b(?:who|whose|whom|which (?:\w+ )?(?:devices?|machines?|clients?)|wer|wem|wen|wessen|quien\w*)\b"
)


def _add_clients(asked: Asked, line: Fact, part: pd.DataFrame) -> Fact:
    """The same with whose requests they were, the most first."""
    order = part["client"].astype("str").value_counts()
    names = [f"{asked.view.name_of(str(one))} ({name_times(int(n))})" for one, n in order.items()]
    counts: dict[str, Value] = {f"b{place}": int(n) for place, n in enumerate(order)}
    return say("with_clients", what=line.text, names=listed(names, _MOST), **line.values, **counts)


def _name_asked(asked: Asked) -> str:
    """Whose requests are counted: "10.20.0.64 for unit 2"."""
    protocol = asked.query.protocol
    if asked.query.unit is None and protocol:
        return f"{asked.name} {say('over_protocol', protocol=spoken_name(protocol)).text}"
    if asked.query.unit is None:
        return asked.name
    unit = say("of_unit", unit=asked.query.unit).text
    return f"{asked.name} {unit}" if asked.device else f"the plant {unit}"


def _malformed(asked: Asked) -> Answer:
    """How many messages were none of their protocol, and whose."""
    rows = asked.view.exchanges
    rows = rows[rows["outcome"] == "malformed"]
    if asked.device:
        rows = rows[(rows["client"] == asked.device) | (rows["server"] == asked.device)]
    if rows.empty:
        return Answer(say("count_malformed_none", name=asked.name), asked.sensor)
    order = rows["client"].astype("str").value_counts()
    names = listed(
        f"{asked.view.name_of(str(one))} ({name_times(int(n))})" for one, n in order.items()
    )
    values: dict[str, Value] = {f"c{place}": int(n) for place, n in enumerate(order)}
    line = say("count_malformed", name=asked.name, n=len(rows), names=names, **values)
    return Answer(line, asked.known)


def _word_codes(refused: pd.DataFrame) -> dict[str, Value]:
    """The codes of refusals in words, the most frequent first, and how often each came."""
    counts = refused.groupby(["protocol", "code"], observed=True).size()
    counts = counts.sort_values(ascending=False)
    codes = listed(
        f"{name_times(n)} {word_code(str(p), int(c))}" for (p, c), n in counts.items() if c > 0
    )
    return {"codes": codes} | {f"c{i}": int(n) for i, n in enumerate(counts)}


def count_codes(asked: Asked) -> Answer:
    """The codes with which a device refuses, or those of the plant."""
    rows = _pick(asked)
    rows = rows[is_refused(rows) & (rows["code"] > 0)]
    if rows.empty:
        return Answer(say("count_no_code", name=asked.name), asked.found.facts)
    facts = tuple(describe_requests(rows, asked.view, refused=True))
    return Answer(say("count_codes", name=asked.name, **_word_codes(rows)), facts)


def _delay(asked: Asked, rows: pd.DataFrame) -> Answer:
    line = describe_delay(rows, asked.name)
    if line is None:
        return Answer(say("delay_unknown", name=asked.name), asked.found.facts)
    return Answer(line, tuple(describe_requests(rows, asked.view, refused=True)))


def _resent(asked: Asked) -> Answer:
    pkts, again = asked.view.count_resent(asked.device)
    line = say("count_resent", name=asked.name, n=again, pkts=pkts, part_share=again / max(pkts, 1))
    return Answer(line, asked.sensor)


def _devices(asked: Asked) -> Answer:
    if asked.device:
        ends = pd.concat([asked.talks["src"], asked.talks["dst"]])
        others = [one for one in dict.fromkeys(ends) if one != asked.device]
        names = listed(map(asked.view.name_of, others), 8)
        return Answer(
            say(
                "count_partners" if others else "nobody_talk",
                name=asked.name,
                n=len(others),
                names=names,
                seen_s=asked.view.span_s,
                read=len(asked.requests),
            )
        )
    known = list(asked.alike) or list_machines(asked.analysis)
    if proposed := propose_devices(asked, known):
        return proposed
    names = listed(map(asked.view.name_of, known), 12)
    return Answer(say("count_devices", n=len(known), names=names))


_BY_MEASURE: dict[str, Callable[[Asked], Answer]] = {
    "codes": count_codes,
    "talkers": answer_talkers,
    "left": answer_left,
    "malformed": _malformed,
    "retransmitted": _resent,
    "devices": _machines,
    "incidents": _count_incidents,
    "ports": _count_ports,
}
