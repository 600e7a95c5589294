"""Questions about several devices at once: a whole role, the zones, who answers slowest, who speaks in
clear."""

import re
from collections import Counter

from assistant.answers.asked import LATELY_S, Answer, Asked, begin, say
from assistant.answers.incidents.condition import describe_incident
from assistant.answers.plant.descriptions import describe_delay
from assistant.detection.incidents import Incident, worst_first
from assistant.facts.devices import name_service
from assistant.facts.fact import Fact, Value, listed
from assistant.questions.entities import list_machines
from traffic.pcap.protocols import spoken_name

_MOST = 8
_MIN_ANSWERS = 5  # of which a median says something
# Services whose content is encrypted; of others a port tells nothing.
_ENCRYPTED = frozenset((22, 443, 636, 853, 989, 990, 8883))  # SSH and what runs over TLS
_ASKS_CLEAR = re.compile(r"unencrypt|clear|plain|unverschl|klartext|sin cifrar|plano")
_IN_CLEAR = {21: "FTP", 23: "Telnet", 80: "HTTP", 8080: "HTTP", 161: "SNMP"}


def answer_role(asked: Asked) -> Answer | None:
    """Whether all devices of a role, or all there are, sent something up to the end; None where one
    is meant, or none is known of what is named."""
    mention = asked.found.mention
    devices = mention.devices or (() if mention.kind else tuple(list_machines(asked.analysis)))
    if len(devices) < 2 or mention.peers:
        return None
    end_s = asked.analysis.capture.end_s
    silent, facts = list[str](), list[Fact]()
    for one in devices:
        rows = asked.view.sent_by(one)
        last_s = float(rows["until_s"].max()) if len(rows) else float("nan")
        if end_s - last_s <= LATELY_S:
            continue
        silent.append(one)
        name = asked.view.name_of(one)
        facts.append(
            say("role_silent", name=name, last_time_s=last_s) if len(rows) else say("role_unheard", name=name)
        )  # fmt: skip
    gaps = [
        fact
        for one in worst_first(list(asked.analysis.incidents))
        if one.label == "device_silent" and any(map(one.touches, devices))
        for fact in one.facts[:1]
    ]
    values: dict[str, Value] = {
        "n": len(devices), "sending": len(devices) - len(silent), "within_s": LATELY_S,
        "names": listed(map(asked.view.name_of, silent or devices), _MOST),
    }  # fmt: skip
    kind = "role_some" if silent else "role_all"
    reply = asked.is_well(not silent) if silent or not gaps else ""
    if silent and asked.blind:
        reply = "unclear"  # what a sensor did not see may be there
    return Answer(
        say(kind, reply, **values), (*facts, *gaps, *asked.sensor), standing="inconclusive"
    )


def answer_zones(asked: Asked) -> Answer:
    """Which zones of plant.yaml have incidents, the most first."""
    plant = asked.analysis.plant
    zones = {one.address: one.zone for one in plant.devices if one.zone} if plant else {}
    if not zones:
        return Answer(say("zones_unknown"), asked.found.facts)
    found = worst_first([one for one in asked.analysis.incidents if one.facts])
    counts = Counter(zone for one in found for zone in _zones_of(one, zones))
    if not counts:
        return Answer(say("zones_none", n=len(set(zones.values()))), asked.found.facts)
    order = counts.most_common()
    names = listed(f"{zone} ({n})" for zone, n in order)
    values: dict[str, Value] = {f"c{place}": n for place, (_, n) in enumerate(order)}
    worst = order[0][0]
    mine = [one for one in found if worst in _zones_of(one, zones)]
    facts = tuple(describe_incident(one, asked) for one in mine[:_MOST])
    return Answer(say("zones", names=names, **values), facts, listing=True)


def _zones_of(incident: Incident, zones: dict[str, str]) -> list[str]:
    """The zones of its device and peers, each once."""
    ends = (incident.device, *incident.peers)
    return list(dict.fromkeys(zones[end] for end in ends if end in zones))


def answer_slowest(asked: Asked) -> Answer:
    """Which servers take longest to answer, by the median."""
    rows = asked.requests
    rows = rows[rows["delay_s"] >= 0]
    each = rows.groupby("server", observed=True)["delay_s"].agg(["median", "size"])
    each = each[each["size"] >= _MIN_ANSWERS].sort_values("median", ascending=False)
    if each.empty:
        return Answer(say("delay_unknown", name=asked.name), asked.found.facts)
    facts = [
        fact
        for server in each.index[:_MOST]
        if (fact := describe_delay(rows[rows["server"] == server], asked.view.name_of(str(server))))
    ]
    names = asked.view.names_of(map(str, each.index[:1]))
    line = say("slowest", names=names, median_s=float(each["median"].iloc[0]), n=len(each))
    return Answer(line, tuple(facts))


_LISTENS = re.compile(
    r"\b(?:reads?|reading|listen\w*|eavesdrop\w*|intercept\w*|sees?|spy\w*|third party|mitles\w*|abhoer\w*|lee\w*"
    r"|escuch\w*)\b"
)


def answer_encryption(asked: Asked) -> Answer:
    """What was readable, and so is not encrypted, and what runs over encrypted services."""
    incident = asked.incident
    if incident and incident.label == "spoofing" and _LISTENS.search(asked.query.plain):
        # Who stands between two sees all that they say, unless it is encrypted.
        return Answer(begin(incident.facts[0], asked.reply(True)), incident.facts[1:], whole=True)
    rows, sessions = asked.requests, asked.sessions
    # A session is opened in clear for what is encrypted then.
    rows = rows[rows["kind"] != "session"]
    read = rows["protocol"].astype("str").value_counts()
    clear = dict.fromkeys(spoken_name(name) for name, n in read.items() if n)
    spoken = sessions[sessions["server_bytes"] > 0]  # a scanner that knocks says nothing
    clear |= dict.fromkeys(
        word for port, word in _IN_CLEAR.items() if (spoken["port"] == port).any()
    )
    hidden = spoken[spoken["port"].isin(_ENCRYPTED)]
    pairs = hidden.groupby(["client", "server", "port"], observed=True).size()
    facts = tuple(
        say(
            "encrypted_one", source=asked.view.name_of(str(client)), target=asked.view.name_of(str(server)),
            service=name_service("tcp", int(port)), n=int(n),
        )
        for (client, server, port), n in pairs.nlargest(_MOST).items()
    )  # fmt: skip
    if not clear:
        kind = "encrypted_only" if len(hidden) else "encryption_unknown"
        return Answer(say(kind, "unclear" if asked.polar else "", name=asked.name), facts)
    asks_clear = bool(_ASKS_CLEAR.search(asked.query.plain))
    reply = asked.reply(asks_clear) if asks_clear or hidden.empty else ""  # some of it is
    return Answer(say("in_clear", reply, name=asked.name, names=listed(clear, 12)), facts)
