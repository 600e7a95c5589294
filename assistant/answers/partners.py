"""Who talks to whom, asks, reads, writes, scans, refuses; and what a device does."""

import re
from collections.abc import Iterable
from dataclasses import replace

import pandas as pd

from assistant.answers.asked import Answer, Asked, Reply, begin, say
from assistant.answers.descriptions import (
    describe_endings,
    describe_requests,
    describe_talk,
    describe_talks,
    name_times,
)
from assistant.detection.incidents import Incident
from assistant.diagnosis.playbook import find_asked
from assistant.facts.devices import name_service, writer_facts
from assistant.facts.fact import Fact, Value, listed
from assistant.questions.entities import worst_first
from traffic.labels import ATTACKS
from traffic.pcap.protocols import BY_NAME
from traffic.plant import is_group

_MOST = 8
_IDLE_S = 1.0  # of silence before the end
KINDS_OF = {
    "read": ("read",),
    "write": ("write", "control"),
    "publish": ("publish",),
    "login": ("session",),
}
_BLAMED = {"scan": ("recon",), "attack": ATTACKS}
_SHOWN_BY_FLOWS = ("nobody_talk", "nobody_outside", "nobody_scan", "nobody_attack")
_FIELDS = {"topics": "name", "names": "name", "units": "unit", "registers": "target"}


def answer_who(asked: Asked) -> Answer:
    """Who does to the device what was asked for, or to whom the device does it."""
    relation = asked.query.relation
    if relation in ("publish", "read", "write") and asked.query.aspect in _FIELDS:
        return _aspect(asked, _FIELDS[asked.query.aspect])
    if relation in _BLAMED:
        return _blame(asked, _BLAMED[relation])
    if relation == "close":
        return _close(asked)
    if relation == "talk" and asked.device and asked.talks.empty and (told := _ask_by_arp(asked)):
        return told
    if relation in ("talk", "send", "outside"):
        return _talk(asked)
    if relation == "write" and asked.view.exchanges.empty and not asked.view.writes.empty:
        return _count_writes(asked)
    said = _ask(asked)
    if asked.view.exchanges.empty:  # who talks says neither who asks nor who writes
        return replace(said, facts=(*said.facts, *_talk(asked).facts))
    return said


def _blame(asked: Asked, labels: Iterable[str]) -> Answer:
    """Who is known to scan or attack, from incidents."""
    # "who floods us?" is asked of floods alone.
    labels = find_asked(asked.query.plain) or labels
    incidents = [one for one in worst_first(list(asked.analysis.incidents)) if one.label in labels]
    if asked.device:
        incidents = [
            one for one in incidents if asked.device in (one.device, *one.peers, *one.related)
        ]
    if asked.query.relation == "attack" and not incidents and asked.incident is not None:
        # "who is behind this?" is asked of faults too.
        incidents = [asked.incident]
    kind = asked.query.relation
    if not incidents:
        return _nobody(asked, f"nobody_{kind}")
    culprits, facts = list[str](), list[Fact]()
    if _SUFFERS.search(asked.query.plain):
        targets = [end for one in incidents for end in _targets(one)]
        names = listed(dict.fromkeys(map(asked.view.name_of, targets)), _MOST)
        told = tuple(fact for one in incidents for fact in one.facts[:2])
        return Answer(say(f"suffer_{kind}", names=names), told)
    for one in incidents:
        culprits += find_culprits(one)
        facts += one.facts[:2]
    if asked.query.active and culprits[0] == asked.device and facts:
        return Answer(begin(facts[0], asked.reply(True)), tuple(facts[1:]))
    names = listed(dict.fromkeys(map(asked.view.name_of, culprits)), _MOST)
    line = say(f"blame_{kind}", asked.reply(True), names=names)
    return Answer(line, tuple(facts))


# "who was scanned?" asks for who suffered it.
_SUFFERS = re.compile(
    r"^(?:and )?(?:who|whom|what|which \w+) (?:is|was|were|are|gets?|got|has been|have been) (?!(?!being)\w+ing\b)"
)


def find_culprits(incident: Incident) -> list[str]:
    """Who does it: of a flood from many all who take part."""
    if incident.role == "target":
        return list(incident.peers[:1]) or [incident.device]
    others = [one for one in incident.related if one not in incident.peers]
    return [incident.device, *(others if incident.label == "ddos" else ())]


def _targets(incident: Incident) -> list[str]:
    return [incident.device] if incident.role == "target" else list(incident.peers)


def _close(asked: Asked) -> Answer:
    """Who ends connections, and how."""
    if asked.sessions.empty:
        return Answer(say("count_no_sessions", name=asked.name), asked.found.facts)
    facts = describe_endings(asked.sessions, asked.view)
    ended = asked.sessions[asked.sessions["ended_by"] != ""]
    if ended.empty:
        return Answer(say("close_nobody", asked.reply(False), n=len(asked.sessions)), tuple(facts))
    client = ended["ended_by"] == "client"
    closers = ended["client"].astype("str").where(client, ended["server"].astype("str"))
    counts = closers.value_counts()
    names = listed(
        [f"{asked.view.name_of(one)} ({name_times(n)})" for one, n in counts.items()], _MOST
    )
    values: dict[str, Value] = {f"c{place}": int(n) for place, n in enumerate(counts)}
    idle_s = float(ended["idle_s"].median())
    kind = "close_idle" if idle_s > _IDLE_S else "close"
    line = say(kind, asked.reply(True), names=names, n=len(ended), idle_s=idle_s, **values)
    return Answer(line, (*facts, *(asked.incident.facts if asked.incident else ())))


def _nobody(asked: Asked, kind: str) -> Answer:
    """Nobody was seen to do it: said with how long and how much was looked at; not that nobody did
    where the sensor was blind, or no content was read that would show it."""
    if not asked.view.seen_s > 0:  # NaN: no slot has traffic
        return Answer(say("nobody_no_ip", asked.reply(False)), asked.found.facts)
    unread = asked.requests.empty and kind not in _SHOWN_BY_FLOWS
    reply: Reply = "unclear" if asked.blind or unread else asked.reply(False)
    read, seen_s = len(asked.requests), asked.view.span_s
    return Answer(say(kind, reply, name=asked.name, seen_s=seen_s, read=read), asked.sensor)


def _talk(asked: Asked) -> Answer:
    talks = asked.talks
    # Where no address is known as the plant's own, nothing is known to be outside.
    inside = asked.view.local
    outside = asked.query.relation == "outside" and bool(inside)
    if outside:
        out = ~talks["dst"].isin(inside) | ~talks["src"].isin(inside)
        talks = talks[out & ~talks["dst"].map(is_group)]
    elif asked.query.active and asked.device and not asked.second:
        own = talks[talks["src"] == asked.device]
        talks = own if len(own) else talks
    if talks.empty:
        return _nobody(asked, "nobody_outside" if outside else "nobody_talk")
    facts = describe_talks(talks, asked.view)
    if asked.query.port is not None and not asked.device:
        names = listed((f"{asked.view.name_of(row.src)} to {asked.view.name_of(row.dst)}"
                        for row in talks.head(_MOST).itertuples()), 4)  # fmt: skip
        service = name_service(str(talks["proto"].iloc[0]), asked.query.port)
        line = say("talk_port", asked.reply(True), service=service, names=names)
        return Answer(line, tuple(facts))
    if not asked.device:
        ends = dict.fromkeys([*talks["src"], *talks["dst"]])
        line = say(
            "talk_all",
            asked.reply(True),
            pairs=len(talks[["src", "dst"]].drop_duplicates()),
            ends=len(ends),
        )
        return Answer(line, tuple(facts))
    others = talks["dst"].where(talks["src"] == asked.device, talks["src"])
    names = listed([asked.view.name_of(one) for one in dict.fromkeys(others)], _MOST)
    values: dict[str, Value] = {"name": asked.name, "names": names, "n": others.nunique()}
    return Answer(say("talk", asked.reply(True), **values), tuple(facts))


def _ask(asked: Asked) -> Answer:
    """Who asks, from requests and answers."""
    relation, rows = asked.query.relation, asked.requests
    actor, other = ("server", "client") if relation == "refuse" else ("client", "server")
    if relation == "refuse":
        rows = rows[(rows["outcome"] == "refused") | (rows["code"] > 0)]
    elif relation in KINDS_OF:
        rows = rows[rows["kind"].isin(KINDS_OF[relation])]
    if asked.device:
        rows = rows[rows[actor if asked.query.active else other] == asked.device]
    if rows.empty and relation in ("ask", "talk") and asked.device and (told := _ask_by_arp(asked)):
        return told
    if rows.empty:
        return _nobody(
            asked, f"nobody_{relation}_active" if asked.query.active else f"nobody_{relation}"
        )
    shown = other if asked.query.active else actor
    order = rows[shown].astype("str").value_counts()
    names = listed(
        [f"{asked.view.name_of(one)} ({name_times(n)})" for one, n in order.items()], _MOST
    )
    facts = describe_requests(rows, asked.view, refused=relation == "refuse")
    form = "active" if asked.query.active else "passive"
    kind = f"{relation}_{form}" if asked.device else f"{relation}_all"
    line = say(kind, asked.reply(True), name=asked.name, names=names, n=len(order), times=len(rows))
    return Answer(line, tuple(facts))


def _ask_by_arp(asked: Asked) -> Answer | None:
    """Who asked for the hardware address of a device, where nobody asked it anything else."""
    end = "src" if asked.query.active else "dst"
    rows = asked.view.evidence_of(asked.device, ("arp_request",))
    vain = asked.view.evidence_of(asked.device, ("arp_unanswered",))
    rows, vain = rows[rows[end] == asked.device], vain[vain[end] == asked.device]
    if rows.empty:
        return None
    counts = rows.groupby("other")["count"].sum().sort_values(ascending=False)
    failed = vain.groupby("other")["count"].sum()
    names = listed(
        [f"{asked.view.name_of(one)} ({name_times(int(n))})" for one, n in counts.items()], _MOST
    )
    values: dict[str, Value] = {f"c{place}": int(n) for place, n in enumerate(counts)}
    line = say(f"arp_{'active' if asked.query.active else 'passive'}", asked.reply(True), name=asked.name,
               names=names, n=int(counts.sum()), failed=int(failed.sum()), **values)  # fmt: skip
    return Answer(line, asked.found.facts)


def _count_writes(asked: Asked) -> Answer:
    """Who writes, where a log counts the commands and does not hold them."""
    rows = asked.view.writes
    shown = "server" if asked.query.active else "client"
    if asked.device:
        rows = rows[rows["client" if asked.query.active else "server"] == asked.device]
    if rows.empty:
        return _nobody(asked, "nobody_write_active" if asked.query.active else "nobody_write")
    names = listed(map(asked.view.name_of, dict.fromkeys(rows[shown])), _MOST)
    form = ("active" if asked.query.active else "passive") if asked.device else "all"
    values: dict[str, Value] = {"n": rows[shown].nunique(), "times": int(rows["count"].sum())}
    line = say(f"write_{form}", asked.reply(True), name=asked.name, names=names, **values)
    return Answer(line, tuple(writer_facts(asked.view, asked.device)))


def answer_does(asked: Asked) -> Answer:
    """What a device does: whom it asks for what, what it serves, or one aspect of it."""
    if asked.query.aspect in _FIELDS and not asked.requests.empty:
        return _aspect(asked, _FIELDS[asked.query.aspect])
    if not asked.device:
        return _talk(asked)
    return _ports(asked) if asked.query.aspect == "ports" else _summary(asked)


def _summary(asked: Asked) -> Answer:
    """What it mostly does; where it is the source of an incident, that first."""
    view, device = asked.view, asked.device
    talks = asked.talks
    if talks.empty and asked.requests.empty:
        return _nobody(asked, "nobody_talk")
    rows = asked.requests
    facts = describe_requests(rows, view)[:5] if len(rows) else []
    facts += [describe_talk(row, view) for row in talks.head(3).itertuples()]
    opened, served = (
        talks[talks["src"] == device],
        talks[(talks["dst"] == device) & (talks["dst_pkts"] > 0)],
    )
    parts = []
    for kind, part in (("serves", served), ("calls", opened)):
        if len(part):
            other = "src" if kind == "serves" else "dst"
            services = dict.fromkeys(
                name_service(row.proto, int(row.port)) for row in part.head(4).itertuples()
            )
            parts.append(
                say(
                    kind, services=listed(services), names=view.names_of(dict.fromkeys(part[other]))
                ).text
            )
    incident = asked.incident
    if incident is not None and incident.device == device and incident.role != "target":
        return Answer(
            incident.facts[0] if incident.facts else say("nothing_known", name=asked.name),
            (*incident.facts[1:], *facts),
            whole=True,
        )
    sent = view.flows_of(device)
    line = say(
        "does",
        name=asked.name,
        parts=" and ".join(parts),
        pkts=int(sent["sent_pkts"].sum()) if len(sent) else 0,
    )
    return Answer(line, tuple(facts))


def _ports(asked: Asked) -> Answer:
    talks, device = asked.talks, asked.device
    ported = talks[talks["proto"].isin(["tcp", "udp"])]
    served = ported[(ported["dst"] == device) & (ported["dst_pkts"] > 0)]
    called = ported[ported["src"] == device]
    if served.empty and called.empty:
        return _nobody(asked, "nobody_talk")

    def name_ports(part: pd.DataFrame) -> str:
        ports = dict.fromkeys(name_service(row.proto, int(row.port)) for row in part.itertuples())
        return listed(ports, _MOST) or "none"

    line = say("ports", name=asked.name, served=name_ports(served), called=name_ports(called))
    return Answer(
        line, tuple(describe_talk(row, asked.view) for row in ported.head(5).itertuples())
    )


def _aspect(asked: Asked, column: str) -> Answer:
    """Topics, names, units or registers of a device's requests."""
    rows = asked.requests
    rows = (
        rows[rows[column].notna() & (rows[column] != "")]
        if column == "name"
        else rows[rows[column] >= 0]
    )
    if asked.query.aspect == "topics":
        rows = rows[rows["protocol"] == "mqtt"]
    if asked.query.relation in KINDS_OF:
        rows = rows[rows["kind"].isin(KINDS_OF[asked.query.relation])]
    if rows.empty:
        return _nobody(asked, "nobody_aspect")
    protocol = str(rows["protocol"].value_counts().index[0])
    word = BY_NAME[protocol].name_target if column == "target" else str
    counts = rows[column].value_counts()
    shown = [f"“{one}”" if column == "name" else word(int(one)) for one in counts.index]
    line = say(
        f"aspect_{asked.query.aspect}", name=asked.name, n=len(counts), names=listed(shown, _MOST)
    )
    return Answer(line, tuple(describe_requests(rows, asked.view, most=5)))


def answer_writers(asked: Asked, headline: Fact) -> Answer:
    """Who writes to the device, and whether anything says that it should not."""
    rows = asked.requests
    writes = rows[rows["kind"].isin(KINDS_OF["write"])]
    if asked.device:
        own = writes[writes["server"] == asked.device]
        writes = (
            own
            if len(own) or asked.found.mention.devices
            else writes[writes["client"] == asked.device]
        )
    incident = asked.incident
    if incident is not None and incident.label == "unauthorized_command" and incident.facts:
        seen = describe_requests(writes, asked.view) if len(writes) else []
        return Answer(begin(headline, asked.reply(True)), (*incident.facts, *seen), whole=True)
    counted = asked.view.writes  # a log may count commands and not hold them
    if asked.device:
        counted = counted[counted["server"] == asked.device]
    if writes.empty and not counted.empty:
        names = asked.view.names_of(dict.fromkeys(counted["client"]))
        after_s = float(counted["since_s"].min()) - asked.view.start_s
        line = say("writers_unjudged", "unclear", name=asked.name, names=names, after_s=after_s)
        return Answer(line, tuple(writer_facts(asked.view, asked.device)))
    if writes.empty:
        return _nobody(asked, "nobody_write")
    facts = tuple(describe_requests(writes, asked.view, refused=True))
    names = listed(
        [asked.view.name_of(one) for one in dict.fromkeys(writes["client"].astype("str"))], _MOST
    )
    allowed = asked.view.allowed_writers
    servers = dict.fromkeys(writes["server"].astype("str"))
    if all(server in allowed for server in servers):
        return Answer(
            say("writers_allowed", "no" if asked.polar else "", name=asked.name, names=names), facts
        )
    first_s = float(writes["ts"].min()) - asked.view.start_s
    kind = "writers_from_start" if first_s < 60 else "writers_unjudged"
    return Answer(
        say(kind, "unclear" if asked.polar else "", name=asked.name, names=names, after_s=first_s),
        facts,
    )
