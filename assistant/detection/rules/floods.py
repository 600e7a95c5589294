"""Floods: packets to which nothing comes back, pings by the hundred, messages far beyond what their
sender sent before, and connections that are held open for nothing, so that none is left for others."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from assistant.detection.rules.conversation import describe_ends, prove
from assistant.detection.rules.rule import RuleHit, beside, slots_at, slots_of
from assistant.facts.fact import Fact, Proof, Value, kind_of, listed, make_fact
from assistant.facts.proofs import between, from_to, pick_frames
from assistant.facts.traffic_view import FLOOD_PART, FLOOD_PKTS, FLOOD_TRIES, TrafficView
from traffic.capture import SAMPLE_S
from traffic.pcap.protocols import spoken_name
from traffic.plant import GROUP_MAC, is_group

# Messages of one sender in a second, for so many seconds, against what it sent before. A sensor
# that sends fast from first to last is none; neither is a short burst of what it had kept.
_MESSAGES_PER_S, _TIMES_USUAL = 40.0, 10.0
_MIN_FLOOD_S, _MIN_BEFORE_S = 4, 30.0
# Pings in a sample, and samples: who watches whether a machine is there asks a few times a second.
_PINGS, _PING_SLOTS = 300, 2
_ECHO = (8, 128)  # RFC 792, RFC 4443
_GAP_S = 10.0  # a pause that long ends a flood
# Connections open at one time that carry next to nothing for that long: a pool of a program is
# smaller, and works.
_MOSTLY_UNUSED = 0.5
_SEVERAL, _MOST_NAMED = 2, 6  # senders that are told together, and how many by name
_MANY_HELD, _HELD_S, _HARDLY_BYTES = 20, 15.0, 100

_SENTENCES = {
    "one_way": "{source} sent {target} at least {pkts:packet} in {n:connection} between {first_time_s} and "
    "{last_time_s}, up to {peak_pkts} in {sample_s}, and nothing came back.",
    "one_way, refused": "{source} sent {target} at least {pkts:packet} in {n:connection} between {first_time_s} and "
    "{last_time_s}, up to {peak_pkts} in {sample_s}; {refused_share} of its connections were refused, and none was "
    "accepted.",
    "one_way, unused": "{source} opened {n:connection} to {target} between {first_time_s} and {last_time_s}, up to "
    "{peak_pkts:packet} in {sample_s}, and used none of them: each was accepted, and nothing came after that.",
    "one_way, several, unused": "{sources:machine} together opened {n:connection} to {target} between {first_time_s} "
    "and {last_time_s}, and used none of them: {names}.",
    "one_way, several": "{sources:machine} together sent {target} at least {pkts:packet} in {n:connection} between "
    "{first_time_s} and {last_time_s}, and nothing came back: {names}.",
    "one_way, several, refused": "{sources:machine} together sent {target} at least {pkts:packet} in {n:connection} "
    "between {first_time_s} and {last_time_s}; {refused_share} of these connections were refused: {names}.",
    "pings": "{source} floods {target} with pings: {pkts:packet} between {first_time_s} and {last_time_s}, up to "
    "{peak_pkts} in {sample_s}.",
    "pings, several": "{sources:machine} together flood {target} with pings: {pkts:packet} between {first_time_s} and "
    "{last_time_s}: {names}.",
    "messages": "{client} floods {server} with {protocol} messages: {messages:message} from {start_time_s} to "
    "{end_time_s}, up to {peak:message} in one second; before that {usual_per_s} a second.",
    "hoarded": "{client} holds {held:connection} to {server} open at one time, from {start_time_s} to {end_time_s}, "
    "and says hardly anything in them: {said_bytes} in all, both ways.",
}


def find_one_way_floods(view: TrafficView) -> list[RuleHit]:
    """Floods of one port by one address, to which nothing came back, or only refusals; or of connections
    that were accepted and never used."""
    ends = ["src", "dst", "port", "proto"]
    rows = view.flow_slots
    vain = ~rows["answered"] | _is_unused(rows)
    rows = rows[vain & rows["proto"].isin(list(FLOOD_PKTS))]
    busy = rows["src_pkts"].clip(lower=1).groupby(rows["slot"]).sum()
    rows = rows[rows["slot"].isin(busy.index[busy >= min(FLOOD_PKTS.values())])]
    by_end = [rows[name] for name in (*ends, "slot")]
    each = rows.assign(src_pkts=rows["src_pkts"].clip(lower=1)).groupby(by_end)
    pkts = each.agg({"src_pkts": "sum", "flow": "nunique"}).reset_index()
    many = pkts["src_pkts"] >= pkts["proto"].map(FLOOD_PKTS).astype(float)
    # Of several who flood together each may open less than one alone would.
    part = pkts["flow"].where(pkts["flow"] >= FLOOD_PART, 0)
    together = part.groupby([pkts[name] for name in (*ends[1:], "slot")]).transform("sum")
    peaks = pkts[many | (pkts["flow"] >= FLOOD_TRIES) | ((part > 0) & (together >= FLOOD_TRIES))]
    found = []
    for (src, dst, port, _), peak in peaks.groupby(ends):
        source, target = str(src), str(dst)
        if is_group(target):
            continue
        flows = view.flow_slots
        same = flows[(flows["src"] == source) & (flows["dst"] == target) & (flows["port"] == port)]
        same = beside(same, peak)
        unused_share = float(_is_unused(same).mean())
        values: dict[str, Value] = {
            "source": view.name_of(source),
            "target": view.port_at(target, int(port)),
            "pkts": int(same["src_pkts"].clip(lower=1).sum()),
            "n": same["flow"].nunique(),
            "peak_pkts": int(peak["src_pkts"].max()),
            "sample_s": SAMPLE_S,
            "refused_share": float(same.groupby("attempt")["refused"].any().mean()),
            "first_time_s": float(same["since_s"].min()),
            "last_time_s": float(same["until_s"].max()),
        }
        if unused := unused_share >= _MOSTLY_UNUSED:
            values["unused_share"] = unused_share
        how = ", unused" if unused else ", refused" if values["refused_share"] else ""
        fact = make_fact("one_way", _SENTENCES[f"one_way{how}"], values)
        slots = slots_of(same)
        # A plant's device that floods somebody outside takes part in what others do too.
        label = "dos" if target in view.local else "ddos"
        if source in view.local:
            found.append(RuleHit(source, label, "source", (fact,), (target,), slots))
        else:
            found.append(RuleHit(target, label, "target", (fact,), (source,), slots))
    return found


def _is_unused(rows: pd.DataFrame) -> pd.Series:
    """Which TCP connections were accepted and ended, or left, by the client with not a word more."""
    history = rows["history"].astype("str")
    opened = history.str.startswith("Sh") & (rows["proto"] == "tcp")
    return opened & ~history.str.contains("[AaDdFf]")


def find_ping_floods(view: TrafficView) -> list[RuleHit]:
    """Floods of pings, answered or not: each side of them is as many packets."""
    rows = view.flow_slots
    rows = rows[rows["proto"].isin(["icmp", "icmp6"]) & rows["sport"].isin(_ECHO)]
    each = rows.groupby(["src", "dst", "slot"])["src_pkts"].sum()
    peaks = each[each >= _PINGS].reset_index()
    found = []
    for (src, dst), peak in peaks.groupby(["src", "dst"]):
        source, target = str(src), str(dst)
        if len(peak) < _PING_SLOTS or is_group(target):
            continue
        same = beside(rows[(rows["src"] == source) & (rows["dst"] == target)], peak)
        values: dict[str, Value] = {
            "source": view.name_of(source),
            "target": view.name_of(target),
            "pkts": int(same["src_pkts"].sum()),
            "peak_pkts": int(peak["src_pkts"].max()),
            "sample_s": SAMPLE_S,
            "first_time_s": float(same["since_s"].min()),
            "last_time_s": float(same["until_s"].max()),
        }
        proof = Proof(f"{from_to(source, target)} && {'icmpv6' if ':' in source else 'icmp'}")
        fact = make_fact("pings", _SENTENCES["pings"], values, proof=proof)
        ours = source in view.local
        ends = (source, target) if ours else (target, source)
        role = "source" if ours else "target"
        found.append(RuleHit(ends[0], "dos", role, (fact,), (ends[1],), slots_of(same)))
    return found


def join_floods(facts: Sequence[Fact]) -> list[Fact]:
    """Facts of which those that say the same of several senders to one target are one, in the place
    of the first."""
    alike = Counter(_aim(fact) for fact in facts)
    joined: dict[str, Fact] = {}
    for fact in facts:
        aim = _aim(fact)
        if not aim or alike[aim] < _SEVERAL:
            joined[fact.id] = fact
        elif aim not in joined:
            same = [one for one in facts if _aim(one) == aim]
            joined[aim] = _join(same) if kind_of(fact) == "one_way" else _join_pings(same)
    return list(joined.values())


def _aim(fact: Fact) -> str:
    """What a fact of a flood says, and of which target; "" where it is of none."""
    kind = kind_of(fact)
    return f"{kind} {fact.values['target']}" if kind in ("one_way", "pings") else ""


def _join_pings(facts: Sequence[Fact]) -> Fact:
    values: dict[str, Value] = {
        "sources": len(facts),
        "names": listed([str(fact.values["source"]) for fact in facts], _MOST_NAMED),
        "target": str(facts[0].values["target"]),
        "pkts": sum(int(fact.values["pkts"]) for fact in facts),
        "first_time_s": min(float(fact.values["first_time_s"]) for fact in facts),
        "last_time_s": max(float(fact.values["last_time_s"]) for fact in facts),
    }
    return make_fact("pings", _SENTENCES["pings, several"], values)


def _join(facts: Sequence[Fact]) -> Fact:
    n = sum(int(fact.values["n"]) for fact in facts)
    refused = sum(float(fact.values["refused_share"]) * int(fact.values["n"]) for fact in facts)
    values: dict[str, Value] = {
        "sources": len(facts),
        "names": listed([str(fact.values["source"]) for fact in facts], _MOST_NAMED),
        "target": str(facts[0].values["target"]),
        "pkts": sum(int(fact.values["pkts"]) for fact in facts),
        "n": n,
        "refused_share": refused / max(n, 1),
        "first_time_s": min(float(fact.values["first_time_s"]) for fact in facts),
        "last_time_s": max(float(fact.values["last_time_s"]) for fact in facts),
    }
    unused = all("unused_share" in fact.values for fact in facts)
    how = ", unused" if unused else ", refused" if refused else ""
    return make_fact("one_way", _SENTENCES[f"one_way, several{how}"], values)


def find_message_floods(view: TrafficView) -> list[RuleHit]:
    """Senders that publish far more than they did before, for some seconds or longer."""
    asked = view.exchanges
    told = asked[(asked["kind"] == "publish") & asked["outcome"].isin(["told", "answered"])]
    told = told[~told["server"].astype("str").str.match(GROUP_MAC)]
    hits = []
    for (client, server, name), rows in told.groupby(
        ["client", "server", "protocol"], observed=True
    ):
        span = _find_flood(rows["ts"].to_numpy(), view.start_s)
        if span is None:
            continue
        part = rows.iloc[span]
        ts = part["ts"]
        before_s = float(ts.min()) - view.start_s
        values = describe_ends(view, str(client), str(server), part) | {
            "protocol": spoken_name(str(name)),
            "messages": len(part),
            "start_time_s": float(ts.min()),
            "end_time_s": float(ts.max()),
            "peak": int(np.unique(np.floor(ts), return_counts=True)[1].max()),
            "usual_per_s": span.start / before_s,
        }
        fact = make_fact("messages", _SENTENCES["messages"], values, proof=prove(part))
        label = "mqtt_abuse" if name == "mqtt" else "dos"
        slots = slots_at(ts)
        hits.append(RuleHit(str(client), label, "source", (fact,), (str(server),), slots))
    return hits


def find_held_sessions(view: TrafficView) -> list[RuleHit]:
    """Clients that hold many connections to one server open and leave them idle."""
    rows = view.sessions
    rows = rows.assign(bytes=rows["data_bytes"] + rows["server_bytes"])
    lasts = rows["end_s"] - rows["start_s"] >= _HELD_S
    idle = rows[rows["opened"] & lasts & (rows["bytes"] <= _HARDLY_BYTES)]
    hits = []
    for (client, server, port), held in idle.groupby(["client", "server", "port"], observed=True):
        if len(held) < _MANY_HELD:
            continue
        moments = pd.concat(
            [pd.Series(1, index=held["start_s"]), pd.Series(-1, index=held["end_s"])]
        )
        most = int(moments.sort_index(kind="stable").cumsum().max())
        if most < _MANY_HELD:
            continue
        values: dict[str, Value] = {
            "client": view.name_of(str(client)),
            "server": view.port_at(str(server), int(port)),
            "held": most,
            "start_time_s": float(held["start_s"].min()),
            "end_time_s": float(held["end_s"].max()),
            "said_bytes": int(held["bytes"].sum()),
        }
        ends = f"{between(str(client), str(server))} && tcp.port == {port}"
        proof = Proof(ends, pick_frames(held["first_frame"]))
        fact = make_fact("hoarded", _SENTENCES["hoarded"], values, proof=proof)
        first_s, last_s = held["start_s"].min(), held["end_s"].max()
        slots = np.arange(int(first_s // SAMPLE_S), int(last_s // SAMPLE_S) + 1)
        hits.append(RuleHit(str(client), "dos", "source", (fact,), (str(server),), slots))
    return hits


def _find_flood(ts: np.ndarray, start_s: float) -> slice | None:
    """The messages of the first flood among those of one sender, by time; None where there is none.

    Args:
        ts: shape (n,), seconds, sorted.
        start_s: of the capture: what the sender sent before is counted from there.
    """
    seconds, first, counts = np.unique(np.floor(ts), return_index=True, return_counts=True)
    busy = counts >= _MESSAGES_PER_S
    if busy.sum() < _MIN_FLOOD_S:
        return None
    begin = int(np.argmax(busy))
    before_s = float(seconds[begin]) - start_s
    usual = first[begin] / before_s if before_s > 0 else np.inf
    rate = float(np.median(counts[busy]))
    if before_s < _MIN_BEFORE_S or rate < _TIMES_USUAL * usual:
        return None
    places = np.flatnonzero(busy)
    breaks = np.flatnonzero(np.diff(seconds[places]) > _GAP_S)
    last = int(places[breaks[0]] if len(breaks) else places[-1])
    if busy[begin : last + 1].sum() < _MIN_FLOOD_S:
        return None
    return slice(int(first[begin]), int(first[last] + counts[last]))
