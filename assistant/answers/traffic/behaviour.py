"""What a device does: whom it asks, what it serves, its ports, topics, registers."""

import re

import pandas as pd

from assistant.answers.asked import Answer, Asked, say
from assistant.answers.attacks.denials import deny
from assistant.answers.plant.descriptions import (
    describe_endings,
    describe_requests,
    describe_talk,
    name_function,
)
from assistant.answers.plant.inventory import answer_devices
from assistant.answers.traffic.partners import KINDS_OF, answer_talk, answer_who
from assistant.detection.incidents import worst_first
from assistant.diagnosis.choosing import find_culprits
from assistant.facts.devices import name_service
from assistant.facts.fact import Fact, kind_of, listed
from assistant.questions.plain import MAX_CHARS
from traffic.pcap.protocols import BY_NAME

_MOST = 8
_FIELDS = {
    "topics": "name", "names": "name", "units": "unit", "registers": "target", "clientids": "name",
    "functions": "function",
}  # fmt: skip
_ACCEPTED = re.compile(
    r"\b(?:accept\w*|allowed|succe\w+|work\w*|supported|answered|went through)\b"
)


def answer_aspect(asked: Asked) -> Answer | None:
    """Topics that are published, registers that are read or written; None where neither is asked."""
    aspect, relation = asked.query.aspect, asked.query.relation
    does = aspect == "clientids" or (
        aspect != "functions" and relation in ("publish", "read", "write")
    )
    return (
        _aspect(asked, _FIELDS[asked.query.aspect])
        if does and asked.query.aspect in _FIELDS
        else None
    )


def answer_does(asked: Asked) -> Answer:
    """What a device does: whom it asks for what, what it serves, or one aspect of it."""
    if asked.query.state == "unknown":  # by a stranger; which strange addresses there are
        if not asked.device:
            return answer_devices(asked)
        if asked.query.relation in KINDS_OF:
            return answer_who(asked)
    scanned = not asked.device and any(one.label == "recon" for one in asked.analysis.incidents)
    opens = scanned and bool(_OPEN.search(asked.query.plain))
    facts = asked.incident.facts if asked.incident else ()
    ports = not (facts and kind_of(facts[0]) == "probe")  # who tries registers out finds no ports
    if opens or asked.query.relation == "scan" or (ports and FINDS.search(asked.query.plain)):
        return _scanned(asked)
    if asked.query.aspect in _FIELDS and not asked.requests.empty:
        return _aspect(asked, _FIELDS[asked.query.aspect])
    if asked.query.aspect == "protocols" and len(asked.talks):
        return _protocols(asked)
    if not asked.device:
        return answer_talk(asked)
    rows = asked.requests[asked.requests["kind"].isin(KINDS_OF.get(asked.query.relation, ()))]
    if len(rows):  # "what does it write?"
        first, *rest = describe_requests(rows, asked.view, refused=True)
        return Answer(first, tuple(rest))
    return _ports(asked) if asked.query.aspect == "ports" else _summary(asked)


_PROCESS = re.compile(
    r"\b(?:valves?|pumps?|motors?|tanks?|doors?|heaters?|conveyors?|belts?|ventile?|pumpen?|valvulas?|bombas?"
    r"|breakers?)"
    r" (?:is |are |was |really |still |now |ist |esta )?(?:open|opened|closed?|shut|on|off|running|full|empty"
    r"|offen|zu|abierta|cerrada)\b"
    r"|\b(?:pressure|temperature|level|speed|voltage|druck|temperatur|fuellstand|presion|temperatura|nivel)\b.*"
    r"\b(?:above|below|over|under|exceed\w*|high|low|hot|cold|bar|degrees|ueber|unter)\b"
    r"|\b(?:what|which) (?:was |is |were )?(?:the )?(?:\w+ )?(?:value|content|reading)s? (?:of|in"
    r"|at) (?:the )?(?:register|coil|tag|point|topic|dev)\b"
)


_WHO_ACTS = re.compile(
    r"\b(?:who|whom|how (?:often|many)|(?:was|were|did|has) .*\b(?:somebody|someone|anybody|anyone)|wer|wie oft"
    r"|quien)\b"
)


def answer_process(asked: Asked) -> Answer | None:
    """That what a value means in the process is not read; None where that is not asked."""
    words = asked.question[:MAX_CHARS].lower()
    if not _PROCESS.search(words) or _WHO_ACTS.search(words):
        return None
    if not asked.view.records.sensors.empty:
        return None
    return Answer(say("process_unread", "unclear"), asked.known, standing="inconclusive")


FINDS = re.compile(
    r"\b(find|found|see|saw|get|got|learn\w*|reach\w*)\b.*\b(open|anything|something)\b"
    r"|\bwhat .*\b(find|found|see|seen|learn\w*|discover\w*)\b(?: out)?(?: (?:about|on|at|of) \w+)?\W*$"
)
_OPEN = re.compile(r"\bopen\W*$")


def _scanned(asked: Asked) -> Answer:
    """Which ports a scan tried, and what it found open."""
    view = asked.view
    rows = view.sessions
    scans = [one for one in worst_first(list(asked.analysis.incidents)) if one.label == "recon"]
    scans = [one for one in scans if not asked.device or one.touches(asked.device)] or scans
    sources = dict.fromkeys(end for one in scans for end in find_culprits(one))
    targets = {peer for one in scans for peer in (one.device, *one.peers)}
    rows = rows[rows["client"].isin(list(sources)) & rows["server"].isin(targets)]
    if asked.device and (rows["server"] == asked.device).any():
        rows = rows[rows["server"] == asked.device]
    if rows.empty and scans:  # over UDP, ICMP or ARP, which open no session
        facts = [fact for one in scans for fact in one.facts]
        return Answer(facts[0], tuple(facts[1:]))
    if rows.empty and asked.second and (called := _name_called(asked)):
        return called
    if rows.empty:
        return Answer(say("scanned_none", asked.reply(False)), asked.sensor)
    tried = rows.assign(open=~rows["ended"].isin(_VAIN), closed=rows["ended"] == "refused")
    ports = tried.groupby(["client", "server", "port"], observed=True)[["open", "closed"]].any()
    ports["closed"] &= ~ports["open"]
    pairs = ports.groupby(level=[0, 1], observed=True).agg(
        n=("open", "size"), open=("open", "sum"), closed=("closed", "sum")
    )
    facts, lines = list[Fact](), list[Fact]()
    for (source, target), row in pairs.nlargest(_MOST, "n").iterrows():
        n, found, closed = int(row["n"]), int(row["open"]), int(row["closed"])
        ends = {"source": view.name_of(str(source)), "target": view.name_of(str(target))}
        reply = "" if lines else asked.reply(found > 0)
        lines.append(
            say("scanned", reply, **ends, n=n, open=found, closed=closed, vain=n - found - closed)
        )
        if found:
            mine = ports.loc[(source, target)]
            services = [name_service("tcp", int(port)) for port in mine.index[mine["open"]]]
            facts.append(say("scanned_open", target=ends["target"], services=listed(services, 12)))
    first, *others = lines
    told = (fact for one in scans for fact in one.facts[:1])
    return Answer(first, (*facts, *others, *told))


_VAIN = ("refused", "unanswered")


def _name_called(asked: Asked) -> Answer | None:
    """Which TCP ports of another a device called, and which in vain; None where it called none."""
    rows = asked.view.sessions
    rows = rows[(rows["client"] == asked.device) & (rows["server"] == asked.second)]
    if rows.empty:
        return None
    vain = rows["ended"].isin(_VAIN).groupby(rows["port"]).all()
    names = [
        say(
            "port_vain" if vain[port] else "port_called", service=name_service("tcp", int(port))
        ).text
        for port in vain.sort_values(ascending=False).index
    ]
    line = say("ports_called", name=asked.name, peer=asked.view.name_of(asked.second), n=len(names),
               names=listed(names, _MOST))  # fmt: skip
    return Answer(line, tuple(describe_endings(rows, asked.view)))


def _summary(asked: Asked) -> Answer:
    """What it mostly does; where it is the source of an incident, that first."""
    view, device = asked.view, asked.device
    talks = asked.talks
    if talks.empty and asked.requests.empty and asked.incident is None:
        return deny(asked, "nobody_talk")
    rows = asked.requests
    facts = describe_requests(rows, view)[:5] if len(rows) else []
    facts += [describe_talk(row, view) for row in talks.head(3).itertuples()]
    incident = asked.incident
    if incident is not None and incident.device == device and incident.role != "target":
        return Answer(
            incident.facts[0] if incident.facts else say("nothing_known", name=asked.name),
            (*incident.facts[1:], *facts),
            whole=True,
        )
    sent, uses = view.flows_of(device), name_uses(asked)
    if not uses and incident is not None and incident.facts:
        return Answer(incident.facts[0], (*incident.facts[1:], *facts))
    line = say(
        "does" if uses else "does_nothing",
        name=asked.name,
        parts=uses,
        pkts=int(sent["sent_pkts"].sum()) if len(sent) else 0,
    )
    return Answer(line, tuple(facts))


_KNOCK_PKTS = 4


def name_uses(asked: Asked) -> str:
    """What a device serves to whom and calls of whom, as a sentence goes on; "" for nothing."""
    talks, device, view = asked.talks, asked.device, asked.view
    # A port that was found open, or shut, and left alone is none that is used.
    used = talks[~talks["refused"].astype(bool) & (talks["pkts"] > _KNOCK_PKTS)]
    parts = (
        ("serves", "src", used[(used["dst"] == device) & (used["dst_pkts"] > 0)]),
        ("calls", "dst", used[used["src"] == device]),
    )
    return " and ".join(
        say(
            kind,
            services=listed(
                dict.fromkeys(
                    name_service(row.proto, int(row.port)) for row in part.head(4).itertuples()
                )
            ),
            names=view.names_of(dict.fromkeys(part[other])),
        ).text
        for kind, other, part in parts
        if len(part)
    )


def _ports(asked: Asked) -> Answer:
    talks, device = asked.talks, asked.device
    ported = talks[talks["proto"].isin(["tcp", "udp"])]
    served = ported[(ported["dst"] == device) & (ported["dst_pkts"] > 0) & ~ported["refused"]]
    called = ported[ported["src"] == device]
    if served.empty and called.empty:
        return deny(asked, "nobody_talk")

    def name_ports(part: pd.DataFrame) -> str:
        ports = dict.fromkeys(name_service(row.proto, int(row.port)) for row in part.itertuples())
        return listed(ports, _MOST) or "none"

    line = say("ports", name=asked.name, served=name_ports(served), called=name_ports(called))
    return Answer(
        line, tuple(describe_talk(row, asked.view) for row in ported.head(5).itertuples())
    )


def _name_point(column: str, protocol: str, value: str | int) -> str:
    """A topic, unit, function or register, as its protocol's people call it."""
    if column == "name":
        return f"“{value}”"
    if column == "target":
        return BY_NAME[protocol].name_target(int(value))
    return name_function(protocol, int(value)) if column == "function" else str(value)


def _protocols(asked: Asked) -> Answer:
    """What is spoken, by service, the busiest first."""
    talks = asked.talks
    # A port that was knocked at in vain is no service.
    spoken = (talks["dst_pkts"] > 0) & ~talks["refused"].astype(bool)
    talks = talks[spoken] if spoken.any() else talks
    services = [
        name_service(str(proto), int(port))
        for proto, port in zip(talks["proto"], talks["port"], strict=True)
    ]
    each = talks.groupby(pd.Series(services, index=talks.index)).agg(
        pkts=("pkts", "sum"), both_bytes=("both_bytes", "sum"), pairs=("src", "size")
    )
    each = each.sort_values("pkts", ascending=False, kind="stable")
    facts = tuple(
        say("protocol_one", service=str(service), pairs=int(row["pairs"]), pkts=int(row["pkts"]),
            both_bytes=int(row["both_bytes"]))
        for service, row in each.head(_MOST).iterrows()
    )  # fmt: skip
    line = say("protocols", name=asked.name, n=len(each), names=listed(map(str, each.index), _MOST))
    return Answer(line, facts)


def _aspect(asked: Asked, column: str) -> Answer:
    """Topics, names, units, functions or registers of a device's requests."""
    rows = asked.requests
    if asked.query.aspect == "clientids":
        rows = rows[(rows["kind"] == "session") & (rows["protocol"] == "mqtt")]
    if asked.query.aspect == "functions" and asked.device and asked.query.active:
        rows = rows[rows["client"] == asked.device]
    if asked.query.aspect == "functions" and _ACCEPTED.search(asked.query.plain) and len(rows):
        good = rows[rows["outcome"] == "answered"]
        if good.empty:
            line = say("aspect_none_accepted", name=asked.name, n=len(rows))
            return Answer(line, tuple(describe_requests(rows, asked.view, refused=True, most=5)))
        rows = good
    rows = (
        rows[rows[column].notna() & (rows[column] != "")]
        if column == "name"
        else rows[rows[column] >= 0]
    )
    if asked.query.aspect == "topics":
        rows = rows[rows["protocol"] == "mqtt"]
    of_kind = rows["kind"].isin(KINDS_OF.get(asked.query.relation, ()))
    rows = rows[of_kind] if of_kind.any() else rows
    if rows.empty:
        return deny(asked, "nobody_aspect")
    # A number is a register of one protocol and a tag of another.
    keys = [
        rows["protocol"].astype("str"),
        rows[column].astype("str" if column == "name" else "int64"),
    ]
    counts = rows.groupby(keys).size().sort_values(ascending=False, kind="stable")
    shown = dict.fromkeys(_name_point(column, str(protocol), one) for protocol, one in counts.index)
    line = say(
        f"aspect_{asked.query.aspect}", name=asked.name, n=len(shown), names=listed(shown, _MOST)
    )
    return Answer(line, tuple(describe_requests(rows, asked.view, most=5)))
