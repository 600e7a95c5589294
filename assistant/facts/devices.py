"""Facts about one device whatever its label: volumes, peers, services, rhythm, failures, health."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from assistant.facts.attacks import MODBUS_REQUESTS, modbus_facts
from assistant.facts.fact import Fact, Proof, Value, listed, make_fact, make_facts, plural
from assistant.facts.faults import last_heard
from assistant.facts.moves import move_facts
from assistant.facts.proofs import from_to
from assistant.facts.traffic_view import BASELINE_S, TrafficView
from traffic.capture import SAMPLE_S
from traffic.labels import NORMAL
from traffic.samples import SERVICES

_PORT_WORDS = {
    22: "SSH", 23: "Telnet", 53: "DNS", 67: "DHCP", 80: "HTTP", 102: "S7", 123: "NTP", 137: "NetBIOS", 138: "NetBIOS",
    139: "NetBIOS", 443: "HTTPS", 445: "SMB", 502: "Modbus", 546: "DHCPv6", 1883: "MQTT", 1900: "SSDP", 4840: "OPC UA",
    5353: "mDNS", 8883: "MQTT over TLS", 20000: "DNP3", 44818: "EtherNet/IP",
}  # fmt: skip

_MIN_CLOSED, _MOST_CLOSED = 3, 2  # sessions that a client ended; servers that are named
_MOST_WRITERS = 4
_MIN_WRITES, _ONSET, _SHORTEST_PAUSE_S = 10, 20.0, 3.0  # of who began to write
_IDLE_S = 1.0  # it did not end them because it was done
_SMALL_SHARE = 0.02  # of a device's packets: services below it are not named

_SENTENCES = {
    "traffic": "{device} sent {sent_pkts:packet} ({sent_bytes}) and received {got_pkts:packet} ({got_bytes}) between "
    "{first_time_s} and {last_time_s}.",
    "peers": "It exchanged traffic with {peers:other address}, most of it with {busiest}.",
    "services": "By packets, its traffic is {services}.",
    "rhythm": "It was active in {active:sample} of {sample_s}, which is {active_share} of the time between its first "
    "and last; a typical active one holds {typical_pkts:packet}.",
    "answered": "It made {attempts:TCP attempt}, none without an answer.",
    "outcome": "It made {attempts:TCP attempt}; {failed} of these got no answer or a refusal.",
    "asked": "{asker} asked for the hardware address of {device} {asked:time} and got {replies:reply}.",
    "odd": "Counted beside its flows: {counts}.",
    "writes": "{client} writes to {server}: {writes:write command} since {since_time_s}, {baseline_s} after the "
    "capture begins.",
    "new_unjudged": "{client} began to write to {server} {before_s} after the capture begins, at {since_time_s}: "
    "{writes:write command}, at most {longest_s} apart. Whether that is new or allowed is not judged: plant.yaml names "
    "no writers of that device, and less than {baseline_s} were seen before.",
    "closes": "{device} itself closed {closed} of its {sessions:session} with {server}.",
    "closes_idle": "{device} itself closed {closed} of its {sessions:session} with {server}, half of them after "
    "{idle_s} or more in which nothing was asked.",
    "talk": "{source} talks with {target}{service}: {pkts:packet}, {both_bytes}.",
    "health": "Of the windows of {device}, {normal} out of {windows} are normal ({normal_share}).",
    "unjudged": "{device} has no window that could be judged: it was active in too few samples.",
}
_ODD = {
    "retransmission": "repeated segment",
    "reset": "reset",
    "unreachable": "unreachable report",
    "zero_window": "full receive buffer",
    "dns_failed": "failed DNS question",
    "mqtt_refused": "refused MQTT connection",
    "arp_conflict": "ARP conflict",
}


def describe_device(view: TrafficView, device: str, windows: Sequence[float] = ()) -> list[Fact]:
    """Volumes, peers, services, rhythm and failures of a device; for one that only others speak of,
    what they asked.

    Args:
        view: the capture.
        device: address.
        windows: starts of the device's windows.
    """
    facts = move_facts(view, device)
    facts += _traffic_facts(view, device, windows) or last_heard(view, device, None, windows)
    facts += _asked_facts(view, device, windows)
    asked = view.evidence_of(device, (*MODBUS_REQUESTS, "modbus_exception"))
    facts += modbus_facts(asked, view, windows)
    odd = view.evidence_of(device, _ODD).groupby("kind")["count"].sum()
    if len(odd):
        values: dict[str, Value] = {str(kind): int(n) for kind, n in odd.items()}
        words = (f"{n:,} {plural(n, _ODD[str(kind)])}" for kind, n in odd.items())
        values["counts"] = listed(words, len(_ODD))
        facts.append(make_fact("odd", _SENTENCES["odd"], values, windows))
    return facts


def talk_facts(view: TrafficView, most: int = 5) -> list[Fact]:
    """Who talks to whom, the busiest pairs first; who opened it stands first."""
    rows = view.flow_slots.assign(
        pkts=view.flow_slots["src_pkts"] + view.flow_slots["dst_pkts"],
        both_bytes=view.flow_slots["src_bytes"] + view.flow_slots["dst_bytes"],
    )
    ends = ["src", "dst", "proto", "port"]
    totals = rows.groupby(ends)[["pkts", "both_bytes"]].sum()
    totals = totals.sort_values("pkts", ascending=False, kind="stable")
    facts = []
    for (src, dst, proto, port), row in totals.head(most).iterrows():
        values: dict[str, Value] = {
            "source": view.name_of(str(src)),
            "target": view.name_of(str(dst)),
            "service": f" over {name_service(proto, port)}",
            "pkts": int(row["pkts"]),
            "both_bytes": int(row["both_bytes"]),
        }
        facts.append(make_fact("talk", _SENTENCES["talk"], values))
    return facts


def writer_facts(view: TrafficView, device: str = "") -> list[Fact]:
    """Who sent a device write commands, and whom it sent any, the most first; of all without one."""
    rows = view.writes
    if device:
        rows = rows[(rows["client"] == device) | (rows["server"] == device)]
    ends = rows.groupby(["client", "server"], as_index=False)
    each = ends.agg(count=("count", "sum"), since_s=("since_s", "min"))
    facts = []
    for row in each.sort_values("count", ascending=False).head(_MOST_WRITERS).itertuples():
        values = _describe_writer(view, row) | {"baseline_s": float(row.since_s - view.start_s)}
        facts.append(make_fact("writes", _SENTENCES["writes"], values))
    return facts


def _describe_writer(view: TrafficView, row: Any) -> dict[str, Value]:
    """Who writes to whom, how often and since when; of a row of writers."""
    return {
        "client": view.name_of(str(row.client)),
        "server": view.name_of(str(row.server)),
        "writes": int(row.count),
        "since_time_s": float(row.since_s),
    }


def newcomer_facts(view: TrafficView, device: str = "") -> list[Fact]:
    """Writers to a device, or of it, that began within the first ten minutes of a capture, the most
    first; of all without one.

    That is too early to be judged by, but who wrote nothing for ``_ONSET`` times as long as it later
    pauses at most did not merely pause before.
    """
    rows = view.writes
    if device:
        rows = rows[(rows["client"] == device) | (rows["server"] == device)]
    before_s = rows["since_s"] - view.start_s
    began = before_s >= _ONSET * rows["longest_s"].clip(lower=_SHORTEST_PAUSE_S)
    early = before_s < BASELINE_S
    rows = rows[began & early & (rows["count"] >= _MIN_WRITES) & ~rows["control"]]
    rows = rows[~rows["server"].isin(list(view.allowed_writers))]
    facts = []
    for row in rows.sort_values("count", ascending=False).head(_MOST_WRITERS).itertuples():
        values = _describe_writer(view, row) | {
            "before_s": float(row.since_s - view.start_s),
            "longest_s": float(row.longest_s),
            "baseline_s": BASELINE_S,
        }
        proof = Proof(from_to(str(row.client), str(row.server)), row.frames)
        sentence = _SENTENCES["new_unjudged"]
        facts.append(make_fact("new_unjudged", sentence, values, proof=proof))
    return facts


def end_facts(view: TrafficView, device: str) -> list[Fact]:
    """Sessions that a device opened and ended itself again and again, by server, the most first."""
    mine = view.sessions
    mine = mine[(mine["client"] == device) & mine["opened"]]
    facts = []
    for server, rows in mine.groupby("server", observed=True):
        closed = rows[(rows["ended_by"] == "client") & (rows["ended"] == "fin")]
        if len(closed) < _MIN_CLOSED:
            continue
        idle_s = float(closed["idle_s"].median())
        values: dict[str, Value] = {
            "device": view.name_of(device),
            "server": view.name_of(str(server)),
            "closed": len(closed),
            "sessions": len(rows),
            "idle_s": idle_s,
        }
        kind = "closes_idle" if idle_s >= _IDLE_S else "closes"
        facts.append(make_fact(kind, _SENTENCES[kind], values))
    return sorted(facts, key=lambda fact: fact.values["closed"], reverse=True)[:_MOST_CLOSED]


def is_known_port(port: float) -> bool:
    """Whether a port says what runs over it.

    >>> is_known_port(502), is_known_port(4444)
    (True, False)
    """
    return port in _PORT_WORDS or any(port in ports for ports in SERVICES.values())


def name_service(proto: str, port: int) -> str:
    """A transport and port in words: "TCP port 502 (Modbus)"; the protocol alone without ports."""
    if proto not in ("tcp", "udp"):
        return proto.upper()
    words = _PORT_WORDS.get(port, "")
    return f"{proto.upper()} port {port}" + (f" ({words})" if words else "")


def health_fact(view: TrafficView, device: str, verdicts: pd.DataFrame) -> Fact:
    """How many of the device's windows the model takes for normal, of those it decided."""
    mine = verdicts[verdicts["device"] == device]
    normal = int(((mine["label"] == NORMAL) & ~mine["abstained"].astype(bool)).sum())
    values: dict[str, Value] = {
        "device": view.name_of(device),
        "normal": normal,
        "windows": len(mine),
        "normal_share": normal / max(len(mine), 1),
    }
    kind = "health" if len(mine) else "unjudged"
    return make_fact(kind, _SENTENCES[kind], values, mine["start_s"].tolist())


def _traffic_facts(view: TrafficView, device: str, windows: Sequence[float]) -> list[Fact]:
    flows = view.flows_of(device)
    if flows.empty:
        return []
    pkts = flows["src_pkts"] + flows["dst_pkts"]
    per_slot = pkts.groupby(flows["slot"]).sum()
    by_peer = pkts.groupby(flows["other"]).sum().sort_values(ascending=False, kind="stable")
    opened = flows[flows["out"] & (flows["proto"] == "tcp")].groupby("attempt")["answered"].any()
    values: dict[str, Value] = {
        "device": view.name_of(device),
        "sent_pkts": int(flows["sent_pkts"].sum()),
        "sent_bytes": int(flows["sent_bytes"].sum()),
        "got_pkts": int(pkts.sum() - flows["sent_pkts"].sum()),
        "got_bytes": int(flows["got_bytes"].sum()),
        "first_time_s": float(flows["since_s"].min()),
        "last_time_s": float(flows["until_s"].max()),
        "peers": len(by_peer),
        "busiest": view.names_of(by_peer.index[:3], 3),
        "services": _services(flows, pkts),
        "active": len(per_slot),
        "active_share": len(per_slot) / (per_slot.index.max() - per_slot.index.min() + 1),
        "sample_s": SAMPLE_S,
        "typical_pkts": float(per_slot.median()),
        "attempts": len(opened),
        "failed": int((~opened).sum()),
    }
    kinds = ["traffic", "peers", *(["services"] if values["services"] else []), "rhythm"]
    kinds += [] if opened.empty else ["answered" if opened.all() else "outcome"]
    return make_facts(_SENTENCES, kinds, values, windows)


def _services(flows: pd.DataFrame, pkts: pd.Series) -> str:
    known = flows["proto"].isin(["tcp", "udp"])
    by_port = pkts[known].groupby(flows["port"][known]).sum().sort_values(ascending=False)
    words = []
    for port, part in (by_port / max(pkts.sum(), 1)).items():
        name = f"{_PORT_WORDS[port]} (port {port})" if port in _PORT_WORDS else f"port {port}"
        words += [f"{100 * part:.0f} % {name}"] if part >= _SMALL_SHARE else []
    return listed(words)


def _asked_facts(view: TrafficView, device: str, windows: Sequence[float]) -> list[Fact]:
    """Requests for the device's hardware address, where some stayed unanswered; at most three
    askers."""
    arp = view.evidence[(view.evidence["dst"] == device) & (view.evidence["src"] != device)]
    asked = arp[arp["kind"] == "arp_request"].groupby("src")["count"].sum()
    unanswered = arp[arp["kind"] == "arp_unanswered"].groupby("src")["count"].sum()
    facts = []
    for asker, n in unanswered.sort_values(ascending=False).head(3).items():
        total = int(max(asked.get(asker, 0), n))
        values: dict[str, Value] = {
            "device": view.name_of(device),
            "asker": view.name_of(str(asker)),
            "asked": total,
            "replies": total - int(n),
        }
        facts.append(make_fact("asked", _SENTENCES["asked"], values, windows))
    return facts
