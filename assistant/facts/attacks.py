"""Facts that attacks leave: floods, contacts with a controller, scans, logins, volumes sent out, and
what Modbus, MQTT and ARP carry beyond flows."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from assistant.facts.attribution import FEW_ENDPOINTS, Attribution
from assistant.facts.fact import Fact, Proof, Value, by_count, listed, make_fact, make_facts, plural
from assistant.facts.proofs import from_to, pick_frames
from assistant.facts.spells import first_and_last
from assistant.facts.traffic_view import TrafficView, busiest_pairs
from traffic.capture import SAMPLE_S
from traffic.pcap.protocols.modbus import EXCEPTIONS as MODBUS_EXCEPTIONS
from traffic.pcap.protocols.modbus import FUNCTIONS as MODBUS_FUNCTIONS
from traffic.pcap.protocols.modbus import MODBUS
from traffic.pcap.protocols.mqtt import REASONS as MQTT_REASONS

MODBUS_REQUESTS = ("modbus_read", "modbus_write", "modbus_other")
_MQTT_WORDS = {
    "mqtt_publish": "message",
    "mqtt_connect": "connection request",
    "mqtt_malformed": "malformed packet",
}
_MOST_PAIRS = 3  # of client and server
_MOST_REFUSED_PAIRS = 2
_DNS_BEFORE_S = 30.0
_CLOCK_S = 1e-6  # a filter's text rounds

_SENTENCES = {
    "flood": "{source} sent {pkts:packet} ({sent_bytes}) in {connections:connection} to {target} within {span_s}, "
    "starting at {start_time_s}.",
    "unsized": "{source} opened {connections:connection} to {target} within {span_s}, starting at {start_time_s}.",
    "rate": "At its peak, in the {sample_s} from {peak_time_s}, that was {peak_pkts_per_s} packets per second.",
    "least": "At its peak, in the {sample_s} from {peak_time_s}, at least {peak_pkts_per_s} packets passed per second.",
    "answers": "{unanswered_share} of these connections were never answered.",
    "rejected": "{refused_share} of these connections were refused, and {answered_share} were accepted.",
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
    "refused": "{refused} of these met a refusal, and {vain} no answer.",
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


# ---- Floods, controllers of malware, scans, logins, uploads: what flows carry ----


def flood_facts(found: Attribution, view: TrafficView, windows: Sequence[float]) -> list[Fact]:
    """Size, rate, start and answers of a flood; says so where the log does not know the size."""
    flows = found.flows
    if flows.empty:
        return []
    once = flows.drop_duplicates("flow")
    per_slot = flows["src_pkts"].clip(lower=1).groupby(flows["slot"]).sum()
    values: dict[str, Value] = {
        "source": view.names_of(by_count(flows["src"])),
        "target": view.endpoint(flows),
        "connections": len(once),
        "pkts": int(flows["src_pkts"].sum()),
        "sent_bytes": int(flows["src_bytes"].sum()),
        "start_time_s": found.start_s,
        "span_s": max(found.end_s - found.start_s, 1.0),
        "sample_s": SAMPLE_S,
        "peak_pkts_per_s": float(per_slot.max()) / SAMPLE_S,
        "peak_time_s": float(per_slot.index[int(per_slot.argmax())]) * SAMPLE_S,
        "unanswered_share": float((~once["answered"]).mean()),
        "answered_share": float(once["answered"].mean()),
        "refused_share": float(once["refused"].mean()),
        "logged_pkts": 0,
    }
    outcome = "answers" if once["answered"].mean() < 0.5 else "served"
    kinds = ("flood", "rate", "rejected" if once["refused"].mean() >= 0.5 else outcome)
    kinds = kinds if once["sized"].mean() > 0.5 else ("unsized", "least", "size")
    return make_facts(_SENTENCES, kinds, values, windows)


def c2_facts(found: Attribution, view: TrafficView, windows: Sequence[float]) -> list[Fact]:
    """The controller, its rhythm, its answers, how the first contact came about; then what else was
    tried there."""
    whole = view.flows_of(found.device)
    facts: list[Fact] = []
    for peer in found.peers[:3]:
        contact = whole[whole["other"] == peer]
        ports = by_count(contact.drop_duplicates("attempt")["port"])
        if not facts:
            facts += _contact_facts(view, found.device, contact, ports[0], windows)
            contact = contact[contact["port"] != ports[0]]
        if len(contact):
            facts.append(_also(view, found.device, contact, windows))
    return facts


def _contact_facts(
    view: TrafficView, device: str, contact: pd.DataFrame, port: int, windows: Sequence[float]
) -> list[Fact]:
    main = contact[contact["port"] == port]
    attempts = main.groupby("attempt").agg(
        begun=("since_s", "min"), answered=("answered", "any"), refused=("refused", "any")
    )
    attempts = attempts.sort_values("begun")
    spacing = np.diff(attempts["begun"].to_numpy())
    first_s = float(contact["since_s"].min())
    values: dict[str, Value] = {
        "device": view.name_of(device),
        "controller": view.endpoint(main),
        "peer": view.name_of(str(contact["other"].iloc[0])),
        "attempts": len(attempts),
        "sessions": int(attempts["answered"].sum()),
        **_count_vain(attempts),
        "first_time_s": first_s,
        "last_time_s": float(attempts["begun"].iloc[-1]),
        "sent_bytes": int(main["sent_bytes"].sum()),
        "got_bytes": int(main["got_bytes"].sum()),
        "since_start_s": max(first_s - view.start_s, 0.0),
        "before_s": _DNS_BEFORE_S,
        "spacing_s": float(np.median(spacing)) if len(spacing) else 0.0,
        "jitter_s": float(np.median(np.abs(spacing - np.median(spacing)))) if len(spacing) else 0.0,
    }
    contacted = values | {"first_time_s": float(attempts["begun"].iloc[0])}
    kinds = ["first", "asked" if _asked_before(view, device, first_s) else "unasked", "volume"]
    kinds += ["rhythm"] if len(spacing) >= 3 else []
    contact_fact = make_fact(
        "contact", _SENTENCES["contact"] + _answers(contacted), contacted, windows
    )
    return [contact_fact, *make_facts(_SENTENCES, kinds, values, windows)]


def _also(view: TrafficView, device: str, contact: pd.DataFrame, windows: Sequence[float]) -> Fact:
    attempts = contact.groupby("attempt")[["answered", "refused"]].any()
    values: dict[str, Value] = {
        "device": view.name_of(device),
        "other": view.endpoint(contact),
        "attempts": len(attempts),
        **_count_vain(attempts),
        "both_bytes": int((contact["sent_bytes"] + contact["got_bytes"]).sum()),
    }
    return make_fact("also", _SENTENCES["also"] + _answers(values), values, windows)


def _count_vain(attempts: pd.DataFrame) -> dict[str, Value]:
    """How many attempts came to nothing, and of these how many were refused: a machine is there then."""
    unanswered = ~attempts["answered"].astype(bool)
    refused = int((unanswered & attempts["refused"].astype(bool)).sum())
    n = int(unanswered.sum())
    return {"unanswered": n, "refused": refused, "vain": n - refused}


def _answers(values: dict[str, Value]) -> str:
    kind = "refused" if values["refused"] else "unanswered"
    return _SENTENCES[kind if values["unanswered"] else "all_answered"]


def _asked_before(view: TrafficView, device: str, first_s: float) -> bool:
    rows = view.flow_slots
    asked = rows[(rows["src"] == device) & (rows["port"] == 53)]["since_s"]
    return bool(((asked >= first_s - _DNS_BEFORE_S) & (asked <= first_s)).any())


def recon_facts(found: Attribution, view: TrafficView, windows: Sequence[float]) -> list[Fact]:
    """Hosts, ports and registers that were tried, how fast, and how few answered."""
    facts = modbus_facts(found.evidence, view, windows)
    opened = found.flows["syns"] > 0
    tried = found.flows[opened] if opened.any() else found.flows
    if tried.empty or (facts and len(tried.drop_duplicates(["dst", "port"])) < FEW_ENDPOINTS):
        return facts
    attempts = tried.groupby("attempt").agg(
        answered=("answered", "any"), refused=("refused", "any")
    )
    span_s = max(found.end_s - found.start_s, 1.0)
    values: dict[str, Value] = {
        "source": view.names_of(by_count(tried["src"])),
        "hosts": tried["dst"].nunique(),
        "ports": tried["port"].nunique(),
        "attempts": len(attempts),
        "span_s": span_s,
        "start_time_s": found.start_s,
        "attempts_per_s": len(attempts) / span_s,
        "unanswered_share": float((~attempts["answered"] & ~attempts["refused"]).mean()),
        "refused_share": float(attempts["refused"].mean()),
        "some_hosts": view.names_of(by_count(tried["dst"])),
        "some_ports": listed((str(port) for port in by_count(tried["port"])), 6),
    }
    return facts + make_facts(_SENTENCES, ("scan", "outcome", "touched"), values, windows)


def login_facts(found: Attribution, view: TrafficView, windows: Sequence[float]) -> list[Fact]:
    """How many times somebody knocked at a login port, how fast, and how short the sessions
    were."""
    if found.flows.empty:
        return []
    attempts = found.flows.groupby("attempt").agg(first=("since_s", "min"), last=("until_s", "max"))
    values: dict[str, Value] = {
        "source": view.names_of(by_count(found.flows["src"])),
        "target": view.endpoint(found.flows),
        "attempts": len(attempts),
        "span_s": max(found.end_s - found.start_s, 1.0),
        "start_time_s": found.start_s,
        "length_s": float((attempts["last"] - attempts["first"]).median()),
    }
    return [make_fact("logins", _SENTENCES["logins"], values, windows)]


def exfiltration_facts(
    found: Attribution, view: TrafficView, windows: Sequence[float]
) -> list[Fact]:
    """Bytes sent to the new peer against what the device usually sends in a sample."""
    if found.flows.empty:
        return []
    whole = view.flows_of(found.device)
    usual = whole[~whole["other"].isin(found.peers)].groupby("slot")["sent_bytes"].sum()
    first_s = float(whole.loc[whole["other"] == found.peers[0], "since_s"].min())
    opened = found.flows[found.flows["out"]]  # else the peer fetched it
    values: dict[str, Value] = {
        "device": view.name_of(found.device),
        "peer": view.endpoint(opened) if len(opened) else view.names_of(found.peers),
        "sent_bytes": int(found.flows["sent_bytes"].sum()),
        "got_bytes": int(found.flows["got_bytes"].sum()),
        "peak_bytes": int(found.flows.groupby("slot")["sent_bytes"].sum().max()),
        "usual_bytes": float(usual.median()) if len(usual) else 0.0,
        "sample_s": SAMPLE_S,
        "span_s": max(found.end_s - found.start_s, 1.0),
        "start_time_s": found.start_s,
        "first_time_s": first_s,
        "since_start_s": max(first_s - view.start_s, 0.0),
    }
    return make_facts(_SENTENCES, ("sent", "usual", "first"), values, windows)


# ---- Modbus and MQTT: requests, refusals, writers ----


def modbus_facts(evidence: pd.DataFrame, view: TrafficView, windows: Sequence[float]) -> list[Fact]:
    """Who asked whom with which functions, how often and how widely, the most frequent first; and
    what was refused."""
    facts = []
    requests = evidence[evidence["kind"].isin(MODBUS_REQUESTS)]
    for client, server, rows in busiest_pairs(requests, _MOST_PAIRS):
        by_code = rows.groupby("code")["count"].sum().sort_values(ascending=False, kind="stable")
        named = ((n, _worded(code, MODBUS_FUNCTIONS)) for code, n in by_code.items())
        values: dict[str, Value] = {
            "client": view.name_of(client),
            "server": view.name_of(server),
            "requests": int(rows["count"].sum()),
            "functions": listed(f"{n:,} with function {name}" for n, name in named),
            **_first_and_last(view, rows),
            "peak_per_s": rows.groupby("slot")["count"].sum().max() / SAMPLE_S,
            "registers": int(rows["distinct"].max()),
            "sample_s": SAMPLE_S,
        }
        sentence = _SENTENCES["modbus"]
        sentence += f" {_SENTENCES['registers']}" if values["registers"] else ""
        facts.append(make_fact("modbus", sentence, values, windows, _prove_requests(view, rows)))
    return facts + refusal_facts(evidence[evidence["kind"] == "modbus_exception"], view, windows)


def _first_and_last(view: TrafficView, rows: pd.DataFrame) -> dict[str, Value]:
    """When the first and the last of some requests came; the edges of their samples where only logs
    tell."""
    asked = view.requests_of(rows)["ts"]
    first_s, last_s = first_and_last(rows)
    if len(asked):
        first_s, last_s = float(asked.min()), float(asked.max())
    return {"first_time_s": first_s, "last_time_s": last_s}


def _prove_requests(view: TrafficView, rows: pd.DataFrame) -> Proof | None:
    """Where Modbus requests of a client to a server are in the packets; None where only logs
    tell."""
    asked = view.requests_of(rows)
    if asked.empty:
        return None
    frames, codes = asked["frame"], sorted(int(code) for code in rows["code"].unique())
    ends = from_to(str(rows["src"].iloc[0]), str(rows["dst"].iloc[0]))
    first_s, last_s = float(asked["ts"].min()), float(asked["ts"].max())
    condition = (
        f"{ends} && modbus.func_code in {{{', '.join(map(str, codes))}}} && "
        f"frame.time_epoch >= {first_s - _CLOCK_S:.6f} && frame.time_epoch <= {last_s + _CLOCK_S:.6f}"
    )
    ports = sorted(int(port) for port in asked["port"].unique() if port not in MODBUS.ports)
    decode_as = f"tcp.port=={ports[0]},{MODBUS.decoder}" if ports else ""
    known = frames[frames > 0]
    count = int(known.nunique()) if len(known) == len(frames) else None
    return Proof(condition, pick_frames(known.sort_values()), count, decode_as)


def refusal_facts(
    evidence: pd.DataFrame, view: TrafficView, windows: Sequence[float]
) -> list[Fact]:
    """Modbus exceptions and refused MQTT connections by client and server, at most two pairs
    each."""
    facts = []
    for kind, name, words in (
        ("modbus_exception", "exceptions", MODBUS_EXCEPTIONS),
        ("mqtt_refused", "refusals", MQTT_REASONS),
    ):
        refused = evidence[evidence["kind"] == kind]
        for client, server, rows in busiest_pairs(refused, _MOST_REFUSED_PAIRS):
            codes = sorted(rows["code"].unique())
            values: dict[str, Value] = {
                "client": view.name_of(client),
                "server": view.name_of(server),
                "n": int(rows["count"].sum()),
                "codes": listed((_worded(code, words) for code in codes), 5),
            }
            facts.append(make_fact(name, _SENTENCES[name], values, windows))
    return facts


def command_facts(found: Attribution, view: TrafficView, windows: Sequence[float]) -> list[Fact]:
    """Who wrote what, how often, and who else writes to the same controller."""
    facts = modbus_facts(found.evidence, view, windows)
    server = str(found.evidence["dst"].iloc[0]) if len(found.evidence) else found.device
    writes = view.evidence_of_kind("modbus_write")
    writes = writes[writes["dst"] == server]
    writers = writes.groupby("src")["count"].sum().sort_values(ascending=False)
    if writers.empty:
        return facts
    names = (f"{view.name_of(str(w))} ({n:,} {plural(n, 'request')})" for w, n in writers.items())
    values: dict[str, Value] = {
        "server": view.name_of(server),
        "names": listed(names),
        "writers": len(writers),
    }
    return [*facts, make_fact("writers", _SENTENCES["writers"], values, windows)]


def mqtt_facts(found: Attribution, view: TrafficView, windows: Sequence[float]) -> list[Fact]:
    """Counts of what each MQTT client sent, by kind, at most three pairs of client and broker."""
    facts = []
    sent = found.evidence[found.evidence["kind"].isin(_MQTT_WORDS)]
    for client, broker, rows in busiest_pairs(sent, _MOST_PAIRS):
        counts = rows.groupby("kind")["count"].sum()
        values: dict[str, Value] = {str(kind): int(n) for kind, n in counts.items()}
        values |= {
            "client": view.name_of(client),
            "broker": view.name_of(broker),
            "peak_per_s": rows["count"].max() / SAMPLE_S,
            "topics": int(rows["distinct"].max()),
            "sample_s": SAMPLE_S,
        }
        parts = listed(f"{{{kind}:{_MQTT_WORDS[str(kind)]}}}" for kind in counts.index)
        topics = ", to up to {topics:topic} in {sample_s}" if values["topics"] else ""
        sentence = f"{{client}} sent {{broker}} {parts}, at most {{peak_per_s}} per second{topics}."
        facts.append(make_fact("mqtt", sentence, values, windows))
    return facts + refusal_facts(found.evidence, view, windows)


# ---- ARP: an address that several machines claim ----


def spoofing_facts(found: Attribution, view: TrafficView, windows: Sequence[float]) -> list[Fact]:
    """Which address is claimed by several machines, how often, and by which where the capture has
    it."""
    facts = []
    claims = found.evidence[found.evidence["kind"] == "arp_conflict"]
    for address, rows in claims.groupby("dst"):
        first_s, last_s = first_and_last(rows)
        values: dict[str, Value] = {
            "address": view.name_of(str(address)),
            "machines": int(rows["distinct"].max()),
            "claims": int(rows["count"].sum()),
            "first_time_s": first_s,
            "last_time_s": last_s,
        }
        facts.append(make_fact("conflict", _SENTENCES["conflict"], values, windows))
        macs = view.macs_of(str(address))
        if len(macs) > 1:
            values["macs"] = listed(macs)
            facts.append(make_fact("machines", _SENTENCES["machines"], values, windows))
    return facts


def _worded(code: int, words: dict[int, str]) -> str:
    """A code with its meaning: "2 (illegal data address)"."""
    return f"{code} ({words[code]})" if code in words else str(code)
