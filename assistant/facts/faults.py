"""Facts about devices and services that fail: what, how often, for whom, since when, and what still
works."""

from collections.abc import Sequence

import pandas as pd

from assistant.facts.attacks import refusal_facts
from assistant.facts.attribution import Trace
from assistant.facts.fact import Fact, Value, by_count, listed, make_fact
from assistant.facts.traffic_view import Scene, endpoint, quiet_spell
from traffic.capture import SAMPLE_S
from traffic.pcap.protocols.dns import RESPONSE_CODES

# Facts about links: packets sent again, bandwidth filled, connections that do not hold.

_LINK_WORDS = {
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
}


def loss_facts(trace: Trace, scene: Scene, windows: Sequence[float]) -> list[Fact]:
    """Segments sent again out of the packets of the connections concerned."""
    values = when(trace, scene)
    resent = int(trace.evidence.loc[trace.evidence["kind"] == "retransmission", "count"].sum())
    pkts = int((trace.flows["src_pkts"] + trace.flows["dst_pkts"]).sum())
    values |= {"resent": resent, "pkts": pkts, "resent_share": resent / max(pkts, 1)}
    facts = []
    if resent:
        kind = "loss" if pkts >= resent else "resent"
        facts.append(make_fact(kind, _LINK_WORDS[kind], values, windows))
    if missed := float(trace.flows.drop_duplicates("flow")["missed_bytes"].sum()):
        facts.append(make_fact("missed", _LINK_WORDS["missed"], {"missed_bytes": missed}, windows))
    return facts


def congestion_facts(trace: Trace, scene: Scene, windows: Sequence[float]) -> list[Fact]:
    """Peak against the device's own median, the peer that fills the link, full buffers."""
    whole = scene.flows_of(trace.device)
    mbit = (whole["sent_bytes"] + whole["got_bytes"]).groupby(whole["slot"]).sum() * 8e-6 / SAMPLE_S
    first, last = trace.start_s // SAMPLE_S, trace.end_s // SAMPLE_S
    here = mbit[(mbit.index >= first) & (mbit.index <= last)]
    if here.empty:
        return []
    inside = whole[whole["slot"].between(first, last)]
    by_peer = (
        (inside["sent_bytes"] + inside["got_bytes"])
        .groupby(inside["other"])
        .sum()
        .sort_values(ascending=False)
    )
    values = when(trace, scene)
    values |= {
        "peak_mbit_per_s": float(here.max()),
        "peak_time_s": float(here.index[int(here.argmax())]) * SAMPLE_S,
        "median_mbit_per_s": float(mbit.median()),
        "sample_s": SAMPLE_S,
        "peer": scene.name(str(by_peer.index[0])),
        "peer_share": float(by_peer.iloc[0] / max(by_peer.sum(), 1)),
        "zero_windows": int(
            trace.evidence.loc[trace.evidence["kind"] == "zero_window", "count"].sum()
        ),
    }
    kinds = ["peak", "share", *(["windowless"] if values["zero_windows"] else [])]
    return [make_fact(kind, _LINK_WORDS[kind], values, windows) for kind in kinds] + loss_facts(
        trace, scene, windows
    )


def flapping_facts(trace: Trace, scene: Scene, windows: Sequence[float]) -> list[Fact]:
    """How often a client reconnected, how short the connections were, how many were reset."""
    flows = trace.flows[trace.flows["proto"] == "tcp"]
    if flows.empty:
        return []
    pair = flows[flows["dst"] == by_count(flows["dst"])[0]]
    pair = pair[pair["src"] == by_count(pair["src"])[0]]
    each = pair.groupby("attempt").agg(
        first=("since_s", "min"), last=("until_s", "max"), state=("state", "last")
    )
    values = when(trace, scene) | {
        "client": scene.name(str(pair["src"].iloc[0])),
        "server": endpoint(scene, pair),
        "attempts": len(each),
        "length_s": float((each["last"] - each["first"]).median()),
        "resets": int(each["state"].isin(["RSTO", "RSTR", "RSTOS0", "RSTRH", "REJ"]).sum()),
    }
    kinds = ["reconnects", *(["resets"] if values["resets"] else [])]
    return [make_fact(kind, _LINK_WORDS[kind], values, windows) for kind in kinds]


def when(trace: Trace, scene: Scene) -> dict[str, Value]:
    """Whom a trace is about and when, as most sentences say it."""
    return {
        "device": scene.name(trace.device),
        "peers": listed(scene.name(peer) for peer in trace.peers) or "its peers",
        "start_time_s": trace.start_s,
        "end_time_s": trace.end_s,
    }


_FAULT_WORDS = {
    "heard": "{silent} was last heard at {heard_time_s} and sent nothing for {quiet_s}, to the end of the capture.",
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


def silence_facts(trace: Trace, scene: Scene, windows: Sequence[float]) -> list[Fact]:
    """When the silent device was last heard, its rhythm before, and who has asked for it in vain
    since."""
    silent = silent_side(trace)
    quiet = quiet_spell(scene, silent, trace.start_s, trace.end_s)
    return [
        *last_heard(scene, silent, quiet, windows),
        *asked_in_vain(trace, scene, silent, windows),
    ]


def silent_side(trace: Trace) -> str:
    """Whom the unanswered requests were for: the device itself, or the peer it asked."""
    asked = pd.concat([trace.evidence["dst"], trace.flows["dst"]])
    return str(by_count(asked)[0]) if len(asked) else trace.device


def last_heard(
    scene: Scene, device: str, quiet: tuple[float, float] | None, windows: Sequence[float] = ()
) -> list[Fact]:
    """Since when a device is quiet and how regular it was before, or that it never sent
    anything."""
    values: dict[str, Value] = {"silent": scene.name(device), "sample_s": SAMPLE_S}
    if quiet is None:
        if (scene.flows_of(device)["sent_pkts"] > 0).any():
            return []
        own = scene.evidence[
            (scene.evidence["src"] == device) & (scene.evidence["kind"] == "arp_request")
        ]
        values["asked"] = int(own["count"].sum())
        kind = "asking" if values["asked"] else "unheard"
        return [make_fact(kind, _FAULT_WORDS[kind], values, windows)]
    heard_s, back_s = quiet
    values |= {"heard_time_s": heard_s, "back_time_s": back_s, "quiet_s": back_s - heard_s}
    kind = "back" if back_s < scene.end_s else "heard"
    facts = [make_fact(kind, _FAULT_WORDS[kind], values, windows)]
    before = scene.samples[
        (scene.samples["device"] == device) & (scene.samples["start_s"] <= heard_s)
    ]
    if len(before) > 1 and before["active_share"].iloc[-1] > 0:
        values["active_share"] = float(before["active_share"].iloc[-1])
        facts.append(make_fact("rhythm", _FAULT_WORDS["rhythm"], values, windows))
    return facts


def asked_in_vain(trace: Trace, scene: Scene, silent: str, windows: Sequence[float]) -> list[Fact]:
    """Who asked for a device by ARP or TCP and got nothing, the most patient first, at most
    four."""
    arp = trace.evidence[
        (trace.evidence["kind"] == "arp_unanswered") & (trace.evidence["dst"] == silent)
    ]
    facts = []
    for asker in by_count(arp["src"].repeat(arp["count"].tolist()))[:4]:
        rows = arp[arp["src"] == asker]
        values: dict[str, Value] = {
            "asker": scene.name(str(asker)),
            "silent": scene.name(silent),
            "asked": int(rows["count"].sum()),
            "start_time_s": rows["slot"].min() * SAMPLE_S,
            "end_time_s": (rows["slot"].max() + 1) * SAMPLE_S,
        }
        facts.append(make_fact("arp", _FAULT_WORDS["arp"], values, windows))
    tried = trace.flows[(trace.flows["dst"] == silent) & (trace.flows["proto"] == "tcp")]
    for asker in by_count(tried["src"])[: 4 - len(facts)]:
        facts.append(_attempt_fact("syn", scene, tried[tried["src"] == asker], windows))
    return facts


def service_facts(trace: Trace, scene: Scene, windows: Sequence[float]) -> list[Fact]:
    """The port that fails, for whom, whether its host lives, and when it last worked."""
    if trace.flows.empty:
        return unreachable_facts(trace, scene, windows)
    server = str(by_count(trace.flows["dst"])[0])
    failing = trace.flows[trace.flows["dst"] == server]
    port = int(by_count(failing["port"])[0])
    failing = failing[failing["port"] == port]
    facts = [
        _attempt_fact("failed", scene, failing[failing["src"] == client], windows)
        for client in by_count(failing["src"])[:4]
    ]
    whole = scene.flows_of(server)
    served = whole[(whole["dst"] == server) & (whole["port"] == port)]
    worked = served.loc[served["answered"], ["since_s", "until_s"]]
    before, after = (
        worked[worked["until_s"] <= trace.start_s],
        worked[worked["since_s"] >= trace.end_s],
    )
    slots = (trace.start_s // SAMPLE_S, trace.end_s // SAMPLE_S)
    rest = whole[
        whole["slot"].between(*slots) & ~((whole["dst"] == server) & (whole["port"] == port))
    ]
    values: dict[str, Value] = {
        "service": endpoint(scene, failing),
        "server": scene.name(server),
        "other_pkts": int(rest["sent_pkts"].sum()),
        "worked_time_s": float(before["until_s"].max()) if len(before) else 0.0,
        "again_time_s": float(after["since_s"].min()) if len(after) else 0.0,
    }
    kinds = ["worked"] if len(before) else []
    kinds += ["again"] if len(after) else []
    kinds += ["never"] if worked.empty else []
    kinds += ["alive" if values["other_pkts"] else "dead"]
    facts += [make_fact(kind, _FAULT_WORDS[kind], values, windows) for kind in kinds]
    return facts + unreachable_facts(trace, scene, windows)


def _attempt_fact(kind: str, scene: Scene, flows: pd.DataFrame, windows: Sequence[float]) -> Fact:
    attempts = flows.groupby("attempt").agg(
        answered=("answered", "any"), refused=("refused", "any")
    )
    client = scene.name(str(flows["src"].iloc[0]))
    values: dict[str, Value] = {
        "asker": client,
        "client": client,
        "target": endpoint(scene, flows),
        "service": endpoint(scene, flows),
        "attempts": len(attempts),
        "failed": int((~attempts["answered"]).sum()),
        "refused": int(attempts["refused"].sum()),
        "unanswered": int((~attempts["answered"] & ~attempts["refused"]).sum()),
        "start_time_s": float(flows["since_s"].min()),
        "end_time_s": float(flows["until_s"].max()),
    }
    return make_fact(kind, _FAULT_WORDS[kind], values, windows)


def misconfiguration_facts(trace: Trace, scene: Scene, windows: Sequence[float]) -> list[Fact]:
    """Refusals by code, services that never answered, addresses that nobody has."""
    facts = refusal_facts(trace.evidence, scene, windows)
    for target in by_count(trace.evidence.loc[trace.evidence["kind"] == "arp_unanswered", "dst"])[
        :2
    ]:
        facts += asked_in_vain(trace, scene, str(target), windows)
    if len(trace.flows) and len(facts) < 4:
        facts += service_facts(trace, scene, windows)
    return facts or unreachable_facts(trace, scene, windows)


def resolution_facts(trace: Trace, scene: Scene, windows: Sequence[float]) -> list[Fact]:
    """How many questions failed, at which resolver, and how."""
    failures = trace.evidence[trace.evidence["kind"] == "dns_failed"]
    asked = scene.evidence[scene.evidence["kind"] == "dns_query"]
    asked = asked[asked["slot"].between(trace.start_s // SAMPLE_S, trace.end_s // SAMPLE_S)]
    facts = []
    for client, resolver in (
        failures.groupby(["src", "dst"])["count"].sum().sort_values(ascending=False).index[:3]
    ):
        rows = failures[(failures["src"] == client) & (failures["dst"] == resolver)]
        all_of_them = asked[(asked["src"] == client) & (asked["dst"] == resolver)]["count"].sum()
        values = when(trace, scene) | {
            "client": scene.name(client),
            "resolver": scene.name(resolver),
            "failed": int(rows["count"].sum()),
            "asked": int(max(all_of_them, rows["count"].sum())),
            "codes": listed(
                f"{n:,} {RESPONSE_CODES.get(code, f'code {code}')}"
                for code, n in _by_code(rows).items()
            ),
        }
        facts += [
            make_fact(kind, _FAULT_WORDS[kind], values, windows)
            for kind in ("asked_names", "rcodes")
        ]
    return facts


def unreachable_facts(trace: Trace, scene: Scene, windows: Sequence[float]) -> list[Fact]:
    """Reports by ICMP that a peer cannot be reached, at most two pairs."""
    said = trace.evidence[trace.evidence["kind"] == "unreachable"]
    facts = []
    for src, dst in (
        said.groupby(["src", "dst"])["count"].sum().sort_values(ascending=False).index[:2]
    ):
        n = int(said.loc[(said["src"] == src) & (said["dst"] == dst), "count"].sum())
        values: dict[str, Value] = {"reporter": scene.name(src), "target": scene.name(dst), "n": n}
        facts.append(make_fact("unreachable", _FAULT_WORDS["unreachable"], values, windows))
    return facts


def _by_code(rows: pd.DataFrame) -> dict[int, int]:
    counts = rows.groupby("code")["count"].sum().sort_values(ascending=False)
    return dict(zip(counts.index.astype(int).tolist(), counts.astype(int).tolist(), strict=True))
