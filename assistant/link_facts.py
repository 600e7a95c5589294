"""Facts about links: packets sent again, bandwidth filled, connections that do not hold."""

from collections.abc import Sequence

from assistant.facts.attribution import Trace
from assistant.facts.fact import Fact, Value, by_count, listed, make_fact
from assistant.facts.traffic_view import Scene, endpoint
from traffic.capture import SAMPLE_S

__all__ = ["congestion_facts", "flapping_facts", "loss_facts", "when"]

_SAYS = {
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
        facts.append(make_fact(kind, _SAYS[kind], values, windows))
    if missed := float(trace.flows.drop_duplicates("flow")["missed_bytes"].sum()):
        facts.append(make_fact("missed", _SAYS["missed"], {"missed_bytes": missed}, windows))
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
    by_peer = (inside["sent_bytes"] + inside["got_bytes"]).groupby(inside["other"]).sum().sort_values(ascending=False)
    values = when(trace, scene)
    values |= {
        "peak_mbit_per_s": float(here.max()),
        "peak_time_s": float(here.index[int(here.argmax())]) * SAMPLE_S,
        "median_mbit_per_s": float(mbit.median()),
        "sample_s": SAMPLE_S,
        "peer": scene.name(str(by_peer.index[0])),
        "peer_share": float(by_peer.iloc[0] / max(by_peer.sum(), 1)),
        "zero_windows": int(trace.evidence.loc[trace.evidence["kind"] == "zero_window", "count"].sum()),
    }
    kinds = ["peak", "share", *(["windowless"] if values["zero_windows"] else [])]
    return [make_fact(kind, _SAYS[kind], values, windows) for kind in kinds] + loss_facts(trace, scene, windows)


def flapping_facts(trace: Trace, scene: Scene, windows: Sequence[float]) -> list[Fact]:
    """How often a client reconnected, how short the connections were, how many were reset."""
    flows = trace.flows[trace.flows["proto"] == "tcp"]
    if flows.empty:
        return []
    pair = flows[flows["dst"] == by_count(flows["dst"])[0]]
    pair = pair[pair["src"] == by_count(pair["src"])[0]]
    each = pair.groupby("attempt").agg(first=("since_s", "min"), last=("until_s", "max"), state=("state", "last"))
    values = when(trace, scene) | {
        "client": scene.name(str(pair["src"].iloc[0])),
        "server": endpoint(scene, pair),
        "attempts": len(each),
        "length_s": float((each["last"] - each["first"]).median()),
        "resets": int(each["state"].isin(["RSTO", "RSTR", "RSTOS0", "RSTRH", "REJ"]).sum()),
    }
    kinds = ["reconnects", *(["resets"] if values["resets"] else [])]
    return [make_fact(kind, _SAYS[kind], values, windows) for kind in kinds]


def when(trace: Trace, scene: Scene) -> dict[str, Value]:
    """Whom a trace is about and when, as most sentences say it."""
    return {
        "device": scene.name(trace.device),
        "peers": listed(scene.name(peer) for peer in trace.peers) or "its peers",
        "start_time_s": trace.start_s,
        "end_time_s": trace.end_s,
    }
