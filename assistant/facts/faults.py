"""Facts that faults leave: about links, silent devices, services, settings and names."""

from collections.abc import Sequence

import pandas as pd

from assistant.facts.attacks import refusal_facts
from assistant.facts.attribution import Attribution
from assistant.facts.fact import Fact, Value, by_count, listed, make_fact, make_facts
from assistant.facts.spells import first_and_last, quiet_spell
from assistant.facts.traffic_view import TrafficView, busiest_pairs
from traffic.capture import SAMPLE_S
from traffic.pcap.protocols.dns import RESPONSE_CODES

_MOST_ASKERS = 4

_SENTENCES = {
    "loss": "Between {device} and {peers}, {resent:segment} of {pkts:packet} were sent again ({resent_share}) between "
    "{start_time_s} and {end_time_s}.",
    "resent": "{resent:segment} between {device} and {peers} went out again between {start_time_s} and {end_time_s}.",
    "missed": "The log misses {missed_bytes} of content that packets should have carried.",
    "peak": "Traffic of {device} peaked at {peak_mbit_per_s} Mbit/s in the {sample_s} from {peak_time_s}; its median "
    "is {median_mbit_per_s} Mbit/s.",
    "share": "{peer} carried {peer_share} of the traffic of {device} between {start_time_s} and {end_time_s}.",
    "windowless": "Receivers reported a full buffer {zero_windows:time}.",
    "reconnects": "{client} opened {attempts:connection} to {server} between {start_time_s} and {end_time_s}; half of "
    "them lasted no longer than {length_s}.",
    "resets": "{resets:connection} ended with a reset.",
    "heard": "{silent} was last heard at {heard_time_s} and sent nothing for {quiet_s}, to the end of the capture.",
    "heard_live": "{silent} was last heard at {heard_time_s} and sent nothing for {quiet_s} after that.",
    "back": "{silent} was last heard at {heard_time_s} and then sent nothing for {quiet_s}, until {back_time_s}.",
    "unheard": "{silent} has sent nothing in this capture.",
    "asking": "{silent} sent {asked:ARP request} for other addresses and nothing else.",
    "rhythm": "Before that it sent something in {active_share} of the samples of {sample_s}.",
    "arp": "{asker} asked for the hardware address of {silent} {asked:time} between {start_time_s} and {end_time_s} "
    "and never got a reply.",
    "syn": "{asker} tried to reach {target} {attempts:time} between {start_time_s} and {end_time_s}; {failed} of these "
    "got no answer.",
    "alive": "{server} itself is alive: it sent {other_pkts:packet} to others or from other ports in the same time.",
    "dead": "Nothing else was heard from {server} in the same time.",
    "failed": "{client} tried {service} {attempts:time} between {start_time_s} and {end_time_s}: {refused} refused, "
    "{unanswered} without an answer.",
    "worked": "Before that, {service} last answered at {worked_time_s}.",
    "again": "It answers again since {again_time_s}.",
    "never": "{service} has not answered anybody in this capture.",
    "asked_names": "{client} asked the resolver {resolver} {asked:question} between {start_time_s} and {end_time_s}; "
    "{failed} of them failed.",
    "rcodes": "The failures were: {codes}.",
    "unreachable": "{reporter} reported {n:time} that {target} cannot be reached.",
}


def _span(found: Attribution, view: TrafficView) -> dict[str, Value]:
    """Whom it is about and when, as most sentences say it."""
    return {
        "device": view.name_of(found.device),
        "peers": view.names_of(found.peers) or "its peers",
        "start_time_s": found.start_s,
        "end_time_s": found.end_s,
    }


# ---- Links: packets sent again, bandwidth filled, connections that do not hold ----


def loss_facts(found: Attribution, view: TrafficView, windows: Sequence[float]) -> list[Fact]:
    """Segments sent again out of the packets of the connections concerned."""
    values = _span(found, view)
    resent = int(found.evidence.loc[found.evidence["kind"] == "retransmission", "count"].sum())
    pkts = int((found.flows["src_pkts"] + found.flows["dst_pkts"]).sum())
    values |= {"resent": resent, "pkts": pkts, "resent_share": resent / max(pkts, 1)}
    facts = []
    if resent:
        kind = "loss" if pkts >= resent else "resent"
        facts.append(make_fact(kind, _SENTENCES[kind], values, windows))
    if missed := float(found.flows.drop_duplicates("flow")["missed_bytes"].sum()):
        facts.append(make_fact("missed", _SENTENCES["missed"], {"missed_bytes": missed}, windows))
    return facts


def congestion_facts(found: Attribution, view: TrafficView, windows: Sequence[float]) -> list[Fact]:
    """Peak against the device's own median, the peer that fills the link, full buffers."""
    whole = view.flows_of(found.device)
    mbit = (whole["sent_bytes"] + whole["got_bytes"]).groupby(whole["slot"]).sum() * 8e-6 / SAMPLE_S
    first, last = found.start_s // SAMPLE_S, found.end_s // SAMPLE_S
    here = mbit[(mbit.index >= first) & (mbit.index <= last)]
    if here.empty:
        return []
    inside = whole[whole["slot"].between(first, last)]
    by_peer = (inside["sent_bytes"] + inside["got_bytes"]).groupby(inside["other"]).sum()
    by_peer = by_peer.sort_values(ascending=False)
    windowless = found.evidence[found.evidence["kind"] == "zero_window"]
    values = _span(found, view) | {
        "peak_mbit_per_s": float(here.max()),
        "peak_time_s": float(here.index[int(here.argmax())]) * SAMPLE_S,
        "median_mbit_per_s": float(mbit.median()),
        "sample_s": SAMPLE_S,
        "peer": view.name_of(str(by_peer.index[0])),
        "peer_share": float(by_peer.iloc[0] / max(by_peer.sum(), 1)),
        "zero_windows": int(windowless["count"].sum()),
    }
    kinds = ["peak", "share", *(["windowless"] if values["zero_windows"] else [])]
    return make_facts(_SENTENCES, kinds, values, windows) + loss_facts(found, view, windows)


def flapping_facts(found: Attribution, view: TrafficView, windows: Sequence[float]) -> list[Fact]:
    """How often a client reconnected, how short the connections were, how many were reset."""
    flows = found.flows[found.flows["proto"] == "tcp"]
    if flows.empty:
        return []
    pair = flows[flows["dst"] == by_count(flows["dst"])[0]]
    pair = pair[pair["src"] == by_count(pair["src"])[0]]
    each = pair.groupby("attempt").agg(
        first=("since_s", "min"), last=("until_s", "max"), state=("state", "last")
    )
    values = _span(found, view) | {
        "client": view.name_of(str(pair["src"].iloc[0])),
        "server": view.endpoint(pair),
        "attempts": len(each),
        "length_s": float((each["last"] - each["first"]).median()),
        "resets": int(each["state"].isin(["RSTO", "RSTR", "RSTOS0", "RSTRH", "REJ"]).sum()),
    }
    kinds = ["reconnects", *(["resets"] if values["resets"] else [])]
    return make_facts(_SENTENCES, kinds, values, windows)


# ---- Devices and services that do not answer ----


def silence_facts(found: Attribution, view: TrafficView, windows: Sequence[float]) -> list[Fact]:
    """When the silent device was last heard, its rhythm before, and who has asked for it since
    without an answer."""
    # The device itself, or the peer that it asked.
    asked = pd.concat([found.evidence["dst"], found.flows["dst"]])
    silent = str(by_count(asked)[0]) if len(asked) else found.device
    quiet = quiet_spell(view, silent, found.start_s, found.end_s)
    heard = last_heard(view, silent, quiet, windows)
    return heard + _unanswered_facts(found, view, silent, windows)


def last_heard(
    view: TrafficView, device: str, quiet: tuple[float, float] | None, windows: Sequence[float] = ()
) -> list[Fact]:
    """Since when a device is quiet and how regular it was before, or that it never sent
    anything."""
    values: dict[str, Value] = {"silent": view.name_of(device), "sample_s": SAMPLE_S}
    if quiet is None:
        if (view.flows_of(device)["sent_pkts"] > 0).any():
            return []
        asked = view.evidence_of_kind("arp_request")
        values["asked"] = int(asked.loc[asked["src"] == device, "count"].sum())
        kind = "asking" if values["asked"] else "unheard"
        return [make_fact(kind, _SENTENCES[kind], values, windows)]
    heard_s, back_s = quiet
    values |= {"heard_time_s": heard_s, "back_time_s": back_s, "quiet_s": back_s - heard_s}
    kind = "back" if back_s < view.end_s else "heard"
    said = "heard_live" if kind == "heard" and view.live else kind
    facts = [make_fact(kind, _SENTENCES[said], values, windows)]
    before = view.samples[(view.samples["device"] == device) & (view.samples["start_s"] <= heard_s)]
    if len(before) > 1 and before["active_share"].iloc[-1] > 0:
        values["active_share"] = float(before["active_share"].iloc[-1])
        facts.append(make_fact("rhythm", _SENTENCES["rhythm"], values, windows))
    return facts


def _unanswered_facts(
    found: Attribution, view: TrafficView, silent: str, windows: Sequence[float]
) -> list[Fact]:
    """Who asked for a device by ARP or TCP and got nothing, the most patient first."""
    arp = found.evidence
    arp = arp[(arp["kind"] == "arp_unanswered") & (arp["dst"] == silent)]
    facts = []
    for asker in by_count(arp["src"].repeat(arp["count"].tolist()))[:_MOST_ASKERS]:
        rows = arp[arp["src"] == asker]
        first_s, last_s = first_and_last(rows)
        values: dict[str, Value] = {
            "asker": view.name_of(str(asker)),
            "silent": view.name_of(silent),
            "asked": int(rows["count"].sum()),
            "start_time_s": first_s,
            "end_time_s": last_s,
        }
        facts.append(make_fact("arp", _SENTENCES["arp"], values, windows))
    tried = found.flows[(found.flows["dst"] == silent) & (found.flows["proto"] == "tcp")]
    for asker in by_count(tried["src"])[: _MOST_ASKERS - len(facts)]:
        facts.append(_attempt_fact("syn", view, tried[tried["src"] == asker], windows))
    return facts


def service_facts(found: Attribution, view: TrafficView, windows: Sequence[float]) -> list[Fact]:
    """The port that fails, for whom, whether its host lives, and when it last worked."""
    if found.flows.empty:
        return _unreachable_facts(found, view, windows)
    server = str(by_count(found.flows["dst"])[0])
    failing = found.flows[found.flows["dst"] == server]
    port = int(by_count(failing["port"])[0])
    failing = failing[failing["port"] == port]
    facts = [
        _attempt_fact("failed", view, failing[failing["src"] == client], windows)
        for client in by_count(failing["src"])[:_MOST_ASKERS]
    ]
    whole = view.flows_of(server)
    served = whole[(whole["dst"] == server) & (whole["port"] == port)]
    worked = served.loc[served["answered"], ["since_s", "until_s"]]
    before = worked[worked["until_s"] <= found.start_s]
    after = worked[worked["since_s"] >= found.end_s]
    meanwhile = whole["slot"].between(found.start_s // SAMPLE_S, found.end_s // SAMPLE_S)
    rest = whole[meanwhile & ~((whole["dst"] == server) & (whole["port"] == port))]
    values: dict[str, Value] = {
        "service": view.endpoint(failing),
        "server": view.name_of(server),
        "other_pkts": int(rest["sent_pkts"].sum()),
        "worked_time_s": float(before["until_s"].max()) if len(before) else 0.0,
        "again_time_s": float(after["since_s"].min()) if len(after) else 0.0,
    }
    kinds = ["worked"] if len(before) else []
    kinds += ["again"] if len(after) else []
    kinds += ["never"] if worked.empty else []
    kinds += ["alive" if values["other_pkts"] else "dead"]
    facts += make_facts(_SENTENCES, kinds, values, windows)
    return facts + _unreachable_facts(found, view, windows)


def _attempt_fact(
    kind: str, view: TrafficView, flows: pd.DataFrame, windows: Sequence[float]
) -> Fact:
    attempts = flows.groupby("attempt").agg(
        answered=("answered", "any"), refused=("refused", "any")
    )
    client = view.name_of(str(flows["src"].iloc[0]))
    values: dict[str, Value] = {
        "asker": client,
        "client": client,
        "target": view.endpoint(flows),
        "service": view.endpoint(flows),
        "attempts": len(attempts),
        "failed": int((~attempts["answered"]).sum()),
        "refused": int(attempts["refused"].sum()),
        "unanswered": int((~attempts["answered"] & ~attempts["refused"]).sum()),
        "start_time_s": float(flows["since_s"].min()),
        "end_time_s": float(flows["until_s"].max()),
    }
    return make_fact(kind, _SENTENCES[kind], values, windows)


# ---- Settings and names ----


def misconfiguration_facts(
    found: Attribution, view: TrafficView, windows: Sequence[float]
) -> list[Fact]:
    """Refusals by code, services that never answered, addresses that nobody has."""
    facts = refusal_facts(found.evidence, view, windows)
    absent = found.evidence.loc[found.evidence["kind"] == "arp_unanswered", "dst"]
    for target in by_count(absent)[:2]:
        facts += _unanswered_facts(found, view, str(target), windows)
    if len(found.flows) and len(facts) < 4:
        facts += service_facts(found, view, windows)
    return facts or _unreachable_facts(found, view, windows)


def resolution_facts(found: Attribution, view: TrafficView, windows: Sequence[float]) -> list[Fact]:
    """How many questions failed, at which resolver, and how."""
    failures = found.evidence[found.evidence["kind"] == "dns_failed"]
    asked = view.evidence_of_kind("dns_query")
    asked = asked[asked["slot"].between(found.start_s // SAMPLE_S, found.end_s // SAMPLE_S)]
    facts = []
    for client, resolver, rows in busiest_pairs(failures, 3):
        questions = asked[(asked["src"] == client) & (asked["dst"] == resolver)]["count"].sum()
        codes = rows.groupby("code")["count"].sum().sort_values(ascending=False)
        words = (f"{n:,} {RESPONSE_CODES.get(code, f'code {code}')}" for code, n in codes.items())
        values = _span(found, view) | {
            "client": view.name_of(client),
            "resolver": view.name_of(resolver),
            "failed": int(rows["count"].sum()),
            "asked": int(max(questions, rows["count"].sum())),
            "codes": listed(words),
        }
        facts += make_facts(_SENTENCES, ("asked_names", "rcodes"), values, windows)
    return facts


def _unreachable_facts(
    found: Attribution, view: TrafficView, windows: Sequence[float]
) -> list[Fact]:
    """Reports by ICMP that a peer cannot be reached, at most two pairs."""
    reports = found.evidence[found.evidence["kind"] == "unreachable"]
    facts = []
    for reporter, target, rows in busiest_pairs(reports, 2):
        values: dict[str, Value] = {
            "reporter": view.name_of(reporter),
            "target": view.name_of(target),
            "n": int(rows["count"].sum()),
        }
        facts.append(make_fact("unreachable", _SENTENCES["unreachable"], values, windows))
    return facts
