"""Facts that flows carry: floods, controllers of malware, scans, logins, volumes sent out."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from assistant.facts.attribution import FEW_ENDPOINTS, Trace
from assistant.facts.fact import Fact, Value, by_count, listed, make_fact, plural
from assistant.facts.traffic_view import Scene, endpoint
from traffic.capture import SAMPLE_S
from traffic.pcap.protocols.modbus import EXCEPTIONS as MODBUS_EXCEPTIONS
from traffic.pcap.protocols.modbus import FUNCTIONS as MODBUS_FUNCTIONS
from traffic.pcap.protocols.mqtt import RETURN_CODES as MQTT_RETURN_CODES

# Facts that protocols carry beyond flows: Modbus requests and writers, MQTT messages, claims of one
# address.

_MQTT_WORDS = {
    "mqtt_publish": "message",
    "mqtt_connect": "connection request",
    "mqtt_malformed": "malformed packet",
}
MODBUS_KINDS = ("modbus_read", "modbus_write", "modbus_other", "modbus_exception")

_MOST_PAIRS = 3

_PROTOCOL_WORDS = {
    "modbus": "{client} sent {server} {requests:Modbus request} between {first_time_s} and {last_time_s}, at most "
    "{peak_per_s} per second: {functions}.",
    "registers": "Within {sample_s} it named at most {registers:different register address}.",
    "exceptions": "{server} answered {client} {n:time} with a Modbus exception: {codes}.",
    "refusals": "{server} refused the MQTT connection of {client} {n:time}: {codes}.",
    "writers": "In this capture {names} wrote to {server} over Modbus.",
    "conflict": "{address} was claimed by {machines:different machine} {claims:time} between {first_time_s} and "
    "{last_time_s}.",
    "machines": "Traffic of {address} carried the hardware addresses {macs}.",
}


def modbus_facts(evidence: pd.DataFrame, scene: Scene, windows: Sequence[float]) -> list[Fact]:
    """Who asked whom with which functions, how often and how widely, the most frequent first; and
    what was refused."""
    asked = evidence[evidence["kind"].isin(["modbus_read", "modbus_write", "modbus_other"])]
    totals = (
        asked.groupby(["src", "dst"])["count"].sum().sort_values(ascending=False, kind="stable")
    )
    facts = []
    for src, dst in totals.index[:_MOST_PAIRS]:
        rows = asked[(asked["src"] == src) & (asked["dst"] == dst)]
        by_code = rows.groupby("code")["count"].sum().sort_values(ascending=False, kind="stable")
        values: dict[str, Value] = {
            "client": scene.name(src),
            "server": scene.name(dst),
            "requests": int(rows["count"].sum()),
            "functions": listed(
                f"{n:,} with function {_worded(code, MODBUS_FUNCTIONS)}"
                for code, n in by_code.items()
            ),
            "first_time_s": rows["slot"].min() * SAMPLE_S,
            "last_time_s": (rows["slot"].max() + 1) * SAMPLE_S,
            "peak_per_s": rows.groupby("slot")["count"].sum().max() / SAMPLE_S,
            "registers": int(rows["distinct"].max()),
            "sample_s": SAMPLE_S,
        }
        sentence = (
            f"{_PROTOCOL_WORDS['modbus']} {_PROTOCOL_WORDS['registers']}"
            if values["registers"]
            else _PROTOCOL_WORDS["modbus"]
        )
        facts.append(make_fact("modbus", sentence, values, windows))
    return facts + refusal_facts(evidence[evidence["kind"] == "modbus_exception"], scene, windows)


def refusal_facts(evidence: pd.DataFrame, scene: Scene, windows: Sequence[float]) -> list[Fact]:
    """Modbus exceptions and refused MQTT connections by client and server, at most two pairs
    each."""
    facts = []
    for kind, name, words in (
        ("modbus_exception", "exceptions", MODBUS_EXCEPTIONS),
        ("mqtt_refused", "refusals", MQTT_RETURN_CODES),
    ):
        said = evidence[evidence["kind"] == kind]
        totals = (
            said.groupby(["src", "dst"])["count"].sum().sort_values(ascending=False, kind="stable")
        )
        for src, dst in totals.index[:2]:
            rows = said[(said["src"] == src) & (said["dst"] == dst)]
            values: dict[str, Value] = {
                "client": scene.name(src),
                "server": scene.name(dst),
                "n": int(rows["count"].sum()),
                "codes": worded_codes(sorted(rows["code"].unique()), words),
            }
            facts.append(make_fact(name, _PROTOCOL_WORDS[name], values, windows))
    return facts


def command_facts(trace: Trace, scene: Scene, windows: Sequence[float]) -> list[Fact]:
    """Who wrote what, how often, and who else writes to the same controller."""
    facts = modbus_facts(trace.evidence, scene, windows)
    writes = scene.evidence[scene.evidence["kind"] == "modbus_write"]
    server = str(trace.evidence["dst"].iloc[0]) if len(trace.evidence) else trace.device
    writers = (
        writes[writes["dst"] == server].groupby("src")["count"].sum().sort_values(ascending=False)
    )
    if len(writers):
        names = listed(
            f"{scene.name(str(name))} ({n:,} {plural(n, 'request')})" for name, n in writers.items()
        )
        values: dict[str, Value] = {
            "server": scene.name(server),
            "names": names,
            "writers": len(writers),
        }
        facts.append(make_fact("writers", _PROTOCOL_WORDS["writers"], values, windows))
    return facts


def mqtt_facts(trace: Trace, scene: Scene, windows: Sequence[float]) -> list[Fact]:
    """Counts of what each MQTT client sent, by kind, at most three pairs of client and broker."""
    facts = []
    sent = trace.evidence[trace.evidence["kind"].isin(_MQTT_WORDS)]
    totals = sent.groupby(["src", "dst"])["count"].sum().sort_values(ascending=False, kind="stable")
    for src, dst in totals.index[:3]:
        rows = sent[(sent["src"] == src) & (sent["dst"] == dst)]
        counts = rows.groupby("kind")["count"].sum()
        values: dict[str, Value] = {str(kind): int(n) for kind, n in counts.items()}
        values |= {
            "client": scene.name(src),
            "broker": scene.name(dst),
            "peak_per_s": rows["count"].max() / SAMPLE_S,
            "topics": int(rows["distinct"].max()),
            "sample_s": SAMPLE_S,
        }
        parts = listed(f"{{{kind}:{_MQTT_WORDS[str(kind)]}}}" for kind in counts.index)
        topics = ", to up to {topics:topic} in {sample_s}" if values["topics"] else ""
        sentence = f"{{client}} sent {{broker}} {parts}, at most {{peak_per_s}} per second{topics}."
        facts.append(make_fact("mqtt", sentence, values, windows))
    return facts + refusal_facts(trace.evidence, scene, windows)


def spoofing_facts(trace: Trace, scene: Scene, windows: Sequence[float]) -> list[Fact]:
    """Which address is claimed by several machines, how often, and by which where the capture has
    it."""
    facts = []
    claims = trace.evidence[trace.evidence["kind"] == "arp_conflict"]
    for address, rows in claims.groupby("dst"):
        values: dict[str, Value] = {
            "address": scene.name(str(address)),
            "machines": int(rows["distinct"].max()),
            "claims": int(rows["count"].sum()),
            "first_time_s": rows["slot"].min() * SAMPLE_S,
            "last_time_s": (rows["slot"].max() + 1) * SAMPLE_S,
        }
        facts.append(make_fact("conflict", _PROTOCOL_WORDS["conflict"], values, windows))
        macs = scene.macs_of(str(address))
        if len(macs) > 1:
            values["macs"] = listed(macs)
            facts.append(make_fact("machines", _PROTOCOL_WORDS["machines"], values, windows))
    return facts


def worded_codes(codes: Sequence[int], words: dict[int, str]) -> str:
    """Codes with their meaning: "2 (illegal data address) and 99".

    >>> worded_codes([2, 99], MODBUS_EXCEPTIONS)
    '2 (illegal data address) and 99'
    """
    return listed((_worded(code, words) for code in codes), 5)


def _worded(code: int, words: dict[int, str]) -> str:
    return f"{code} ({words[code]})" if code in words else str(code)


_DNS_BEFORE_S = 30.0

_FLOW_WORDS = {
    "flood": "{source} sent {pkts:packet} ({sent_bytes}) in {connections:connection} to {target} within {span_s}, "
    "starting at {start_time_s}.",
    "unsized": "{source} opened {connections:connection} to {target} within {span_s}, starting at {start_time_s}.",
    "rate": "At its peak, in the {sample_s} from {peak_time_s}, that was {peak_pkts_per_s} packets per second.",
    "least": "At its peak, in the {sample_s} from {peak_time_s}, at least {peak_pkts_per_s} packets passed per second.",
    "answers": "{unanswered_share} of these connections were never answered.",
    "served": "{answered_share} of these connections got an answer.",
    "size": "The size is not known: the log says {logged_pkts:packet} for {connections:connection} "
    "(bad checksums, history C). Nothing came back: the traffic went one way.",
    "contact": "{device} contacted {controller} {attempts:time} between {first_time_s} and {last_time_s}; ",
    "rhythm": "The median spacing between the attempts is {spacing_s}, and half of them keep to it within {jitter_s}.",
    "volume": "In these contacts it sent {sent_bytes} to {controller} and received {got_bytes}.",
    "first": "The first contact with {peer} was at {first_time_s}, {since_start_s} after the capture begins.",
    "asked": "A DNS question was seen in the {before_s} before the first contact with {peer}.",
    "unasked": "No DNS question was seen in the {before_s} before the first contact with {peer}.",
    "also": "{device} also contacted {other} {attempts:time} and exchanged {both_bytes} with it; ",
    "unanswered": "{unanswered} of these stayed without an answer.",
    "all_answered": "none stayed without an answer.",
    "scan": "{source} tried {hosts:host} and {ports:port} in {attempts:attempt} within {span_s}, starting at "
    "{start_time_s}; that is {attempts_per_s} per second.",
    "outcome": "{unanswered_share} of the attempts were never answered and {refused_share} were refused.",
    "touched": "The hosts tried were {some_hosts}; the ports were {some_ports}.",
    "logins": "{source} connected to {target} {attempts:time} within {span_s}, starting at {start_time_s}; "
    "half of the connections lasted no longer than {length_s}.",
    "sent": "{device} sent {sent_bytes} to {peer} within {span_s}, starting at {start_time_s}, and received "
    "{got_bytes}.",
    "usual": "To its other peers together it usually sends {usual_bytes} in {sample_s}; to this one it sent up to "
    "{peak_bytes}.",
}


def flood_facts(trace: Trace, scene: Scene, windows: Sequence[float]) -> list[Fact]:
    """Size, rate, start and answers of a flood; says so where the log does not know the size."""
    flows = trace.flows
    if flows.empty:
        return []
    once = flows.drop_duplicates("flow")
    per_slot = flows["src_pkts"].clip(lower=1).groupby(flows["slot"]).sum()
    values: dict[str, Value] = {
        "source": listed(scene.name(name) for name in by_count(flows["src"])),
        "target": endpoint(scene, flows),
        "connections": len(once),
        "pkts": int(flows["src_pkts"].sum()),
        "sent_bytes": int(flows["src_bytes"].sum()),
        "start_time_s": trace.start_s,
        "span_s": max(trace.end_s - trace.start_s, 1.0),
        "sample_s": SAMPLE_S,
        "peak_pkts_per_s": float(per_slot.max()) / SAMPLE_S,
        "peak_time_s": float(per_slot.index[int(per_slot.argmax())]) * SAMPLE_S,
        "unanswered_share": float((~once["answered"]).mean()),
        "answered_share": float(once["answered"].mean()),
        "logged_pkts": 0,
    }
    kinds = ("flood", "rate", "answers" if once["answered"].mean() < 0.5 else "served")
    kinds = kinds if once["sized"].mean() > 0.5 else ("unsized", "least", "size")
    return [make_fact(kind, _FLOW_WORDS[kind], values, windows) for kind in kinds]


def c2_facts(trace: Trace, scene: Scene, windows: Sequence[float]) -> list[Fact]:
    """The controller, its rhythm, its answers, how the first contact came about; then what else was
    tried there."""
    whole = scene.flows_of(trace.device)
    facts: list[Fact] = []
    for peer in trace.peers[:3]:
        contact = whole[whole["other"] == peer]
        ports = by_count(contact.drop_duplicates("attempt")["port"])
        if not facts:
            facts += _contact_facts(scene, trace.device, contact, ports[0], windows)
            contact = contact[contact["port"] != ports[0]]
        if len(contact):
            facts.append(_also(scene, trace.device, contact, windows))
    return facts


def _contact_facts(
    scene: Scene, device: str, contact: pd.DataFrame, port: int, windows: Sequence[float]
) -> list[Fact]:
    main = contact[contact["port"] == port]
    attempts = (
        main.groupby("attempt")
        .agg(begun=("since_s", "min"), answered=("answered", "any"))
        .sort_values("begun")
    )
    spacing = np.diff(attempts["begun"].to_numpy())
    first_s = float(contact["since_s"].min())
    values: dict[str, Value] = {
        "device": scene.name(device),
        "controller": endpoint(scene, main),
        "peer": scene.name(str(contact["other"].iloc[0])),
        "attempts": len(attempts),
        "sessions": int(attempts["answered"].sum()),
        "unanswered": int((~attempts["answered"]).sum()),
        "first_time_s": first_s,
        "last_time_s": float(attempts["begun"].iloc[-1]),
        "sent_bytes": int(main["sent_bytes"].sum()),
        "got_bytes": int(main["got_bytes"].sum()),
        "since_start_s": max(first_s - scene.start_s, 0.0),
        "before_s": _DNS_BEFORE_S,
        "spacing_s": float(np.median(spacing)) if len(spacing) else 0.0,
        "jitter_s": float(np.median(np.abs(spacing - np.median(spacing)))) if len(spacing) else 0.0,
    }
    contacted = values | {"first_time_s": float(attempts["begun"].iloc[0])}
    kinds = ["first", "asked" if _asked_before(scene, device, first_s) else "unasked", "volume"]
    kinds += ["rhythm"] if len(spacing) >= 3 else []
    facts = [make_fact(kind, _FLOW_WORDS[kind], values, windows) for kind in kinds]
    return [
        make_fact("contact", _FLOW_WORDS["contact"] + _answers(contacted), contacted, windows),
        *facts,
    ]


def _also(scene: Scene, device: str, contact: pd.DataFrame, windows: Sequence[float]) -> Fact:
    answered = contact.groupby("attempt")["answered"].any()
    values: dict[str, Value] = {
        "device": scene.name(device),
        "other": endpoint(scene, contact),
        "attempts": len(answered),
        "unanswered": int((~answered).sum()),
        "both_bytes": int((contact["sent_bytes"] + contact["got_bytes"]).sum()),
    }
    return make_fact("also", _FLOW_WORDS["also"] + _answers(values), values, windows)


def _answers(values: dict[str, Value]) -> str:
    return _FLOW_WORDS["unanswered" if values["unanswered"] else "all_answered"]


def _asked_before(scene: Scene, device: str, first_s: float) -> bool:
    moves = scene.moves
    asked = moves[(moves["src"] == device) & (moves["port"] == 53)]["since_s"]
    return bool(((asked >= first_s - _DNS_BEFORE_S) & (asked <= first_s)).any())


def recon_facts(trace: Trace, scene: Scene, windows: Sequence[float]) -> list[Fact]:
    """Hosts, ports and registers that were tried, how fast, and how few answered."""
    facts = modbus_facts(trace.evidence, scene, windows)
    opened = trace.flows["syns"] > 0
    tried = trace.flows[opened] if opened.any() else trace.flows
    if tried.empty or (facts and len(tried.drop_duplicates(["dst", "port"])) < FEW_ENDPOINTS):
        return facts
    attempts = tried.groupby("attempt").agg(
        answered=("answered", "any"), refused=("refused", "any")
    )
    span_s = max(trace.end_s - trace.start_s, 1.0)
    values: dict[str, Value] = {
        "source": listed(scene.name(name) for name in by_count(tried["src"])),
        "hosts": tried["dst"].nunique(),
        "ports": tried["port"].nunique(),
        "attempts": len(attempts),
        "span_s": span_s,
        "start_time_s": trace.start_s,
        "attempts_per_s": len(attempts) / span_s,
        "unanswered_share": float((~attempts["answered"] & ~attempts["refused"]).mean()),
        "refused_share": float(attempts["refused"].mean()),
        "some_hosts": listed((scene.name(name) for name in by_count(tried["dst"])), 4),
        "some_ports": listed((str(port) for port in by_count(tried["port"])), 6),
    }
    return [
        *facts,
        *(
            make_fact(kind, _FLOW_WORDS[kind], values, windows)
            for kind in ("scan", "outcome", "touched")
        ),
    ]


def login_facts(trace: Trace, scene: Scene, windows: Sequence[float]) -> list[Fact]:
    """How many times somebody knocked at a login port, how fast, and how short the sessions
    were."""
    if trace.flows.empty:
        return []
    attempts = trace.flows.groupby("attempt").agg(first=("since_s", "min"), last=("until_s", "max"))
    values: dict[str, Value] = {
        "source": listed(scene.name(name) for name in by_count(trace.flows["src"])),
        "target": endpoint(scene, trace.flows),
        "attempts": len(attempts),
        "span_s": max(trace.end_s - trace.start_s, 1.0),
        "start_time_s": trace.start_s,
        "length_s": float((attempts["last"] - attempts["first"]).median()),
    }
    return [make_fact("logins", _FLOW_WORDS["logins"], values, windows)]


def exfiltration_facts(trace: Trace, scene: Scene, windows: Sequence[float]) -> list[Fact]:
    """Bytes sent to the new peer against what the device usually sends in a sample."""
    if trace.flows.empty:
        return []
    whole = scene.flows_of(trace.device)
    usual = whole[~whole["other"].isin(trace.peers)].groupby("slot")["sent_bytes"].sum()
    first_s = float(whole.loc[whole["other"] == trace.peers[0], "since_s"].min())
    values: dict[str, Value] = {
        "device": scene.name(trace.device),
        "peer": endpoint(scene, trace.flows),
        "sent_bytes": int(trace.flows["sent_bytes"].sum()),
        "got_bytes": int(trace.flows["got_bytes"].sum()),
        "peak_bytes": int(trace.flows.groupby("slot")["sent_bytes"].sum().max()),
        "usual_bytes": float(usual.median()) if len(usual) else 0.0,
        "sample_s": SAMPLE_S,
        "span_s": max(trace.end_s - trace.start_s, 1.0),
        "start_time_s": trace.start_s,
        "first_time_s": first_s,
        "since_start_s": max(first_s - scene.start_s, 0.0),
    }
    return [
        make_fact(kind, _FLOW_WORDS[kind], values, windows) for kind in ("sent", "usual", "first")
    ]
