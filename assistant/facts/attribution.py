"""Attribution: the flows and evidence rows that carry a label at a device, the peers they point at,
and when they begin.

A run of windows says "c2, from here to there" with edges of a minute. The attribution inside it
says with whom, and from which second on:

    windows   |------------|
                 |------------|
    flows          x   x  x                 start_s is the first x, end_s the last
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from assistant.facts.spells import first_and_last, quiet_spell
from assistant.facts.traffic_view import FEW_ENDPOINTS, TrafficView, count_by_peer
from traffic.capture import SAMPLE_S
from traffic.plant import is_group
from traffic.samples import SERVICES

# FTP asks for a password too, though a sample counts its packets as those of files.
LOGIN_PORTS = (21, *SERVICES["login"])
_INFRASTRUCTURE = (53, 67, 68, 123, 137, 138, 546, 547, 1900, 3702, 5353, 5355)
_INFRASTRUCTURE_WEIGHT = 0.02
_LOCAL_C2 = 0.1  # a controller inside the plant is possible, a server of the plant is likelier
# Of packets sent again or met by a full buffer; below it a profile's exclusion denies packet loss.
_MUCH_BYTES = 1e6  # that left the plant
_TROUBLED_SHARE = 0.01
_FEW_CONNECTIONS = 20.0
_PAUSE_SLOTS = 6  # a window's length without what carries a label ends it
_ONSET_S = 30.0  # a recording often begins within what is going on


@dataclass(frozen=True)
class Attribution:
    """What carries a label at one device.

    Attributes:
        device: its address.
        label: one of ``LABELS``.
        flows: rows of ``TrafficView.flows_of`` with ``peers`` in the slots of the label.
        evidence: the evidence rows likewise.
        peers: addresses, the most involved first; empty where nothing points at anyone.
        start_s: first moment of the evidence, seconds since the epoch.
        end_s: last moment.
    """

    device: str
    label: str
    flows: pd.DataFrame
    evidence: pd.DataFrame
    peers: tuple[str, ...]
    start_s: float
    end_s: float

    @property
    def calls(self) -> int:
        """Connection attempts and counted evidence together."""
        return self.flows["attempt"].nunique() + int(self.evidence["count"].sum())


# ---- Which flows can carry a label: mask, shape (n_flows,) ----


def carries_any(flows: pd.DataFrame) -> np.ndarray:
    """Every flow."""
    return np.ones(len(flows), bool)


def carries_failed(flows: pd.DataFrame) -> np.ndarray:
    """Flows that were refused or never answered."""
    return (~flows["answered"] | flows["refused"]).to_numpy()


def carries_answered(flows: pd.DataFrame) -> np.ndarray:
    """Flows that were answered."""
    return flows["answered"].to_numpy(bool)


def carries_dns(flows: pd.DataFrame) -> np.ndarray:
    """Flows to port 53."""
    return (flows["port"] == 53).to_numpy()


def carries_login(flows: pd.DataFrame) -> np.ndarray:
    """Flows to login ports; where there is none, every flow."""
    login = flows["port"].isin(LOGIN_PORTS).to_numpy()
    return login if login.any() else carries_any(flows)


# ---- How strongly each peer carries a label: one weight for each ``other`` ----

Weigh = Callable[[pd.DataFrame, TrafficView, str], pd.Series]


def weigh_attempts(flows: pd.DataFrame, *_: object) -> pd.Series:
    """Connection attempts with each peer."""
    return flows.drop_duplicates("attempt").groupby("other").size().astype(float)


def weigh_nothing(*_: object) -> pd.Series:
    """No flow names a peer; only evidence does."""
    return pd.Series(dtype=float)


def weigh_sent(flows: pd.DataFrame, view: TrafficView, *_: object) -> pd.Series:
    """Bytes that the device sent to each peer; where much left the plant, those outside alone: a
    camera's recorder gets more of it than anybody who robs it."""
    sent = flows.groupby("other")["sent_bytes"].sum().astype(float)
    outside = sent[~sent.index.isin(list(view.local))]
    return outside if outside.sum() >= _MUCH_BYTES else sent


def weigh_volume(flows: pd.DataFrame, *_: object) -> pd.Series:
    """Bytes exchanged with each peer."""
    return (flows["src_bytes"] + flows["dst_bytes"]).groupby(flows["other"]).sum().astype(float)


def weigh_endpoints(flows: pd.DataFrame, *_: object) -> pd.Series:
    """Ports tried at each peer; where that is nowhere many, attempts, all together one port. Time
    servers and resolvers are no targets."""
    plain = flows["port"].isin(_INFRASTRUCTURE)
    tried = flows if plain.all() else flows[~plain]
    ports = tried.drop_duplicates(["other", "port"]).groupby("other").size()
    if len(ports) + ports.max() < FEW_ENDPOINTS:
        attempts = weigh_attempts(tried)
        return attempts / max(attempts.sum(), 1.0)
    return ports.astype(float)


def weigh_excess(flows: pd.DataFrame, view: TrafficView, device: str) -> pd.Series:
    """Packets or connections beyond what the same peer has outside these slots, the larger share of
    the two."""
    here, slots = count_by_peer(flows), flows["slot"].nunique()
    whole = view.flows_of(device)
    scale = slots / max(whole["slot"].nunique() - slots, 1)
    rest = (view.peers_of(device).reindex(here.index) - here).clip(lower=0.0) * scale
    more = (here - rest).clip(lower=0.0)[["pkts", "connections"]]
    # A handful of connections is no share of a flood: one may last all day, as a camera's stream.
    least = pd.Series({"pkts": 1.0, "connections": _FEW_CONNECTIONS})
    weight = (more / np.maximum(more.sum(), least)).max(axis=1)
    # Who goes on with a session that was there before, at its usual rate, has no part in it.
    lasting = flows["flow"].isin(whole.loc[~whole["slot"].isin(flows["slot"]), "flow"])
    begun = lasting.groupby(flows["other"]).all().reindex(here.index)
    beyond = weight.where(~begun | (more["pkts"] > rest["pkts"]), 0.0)
    return beyond if beyond.any() else weight


def weigh_presence(flows: pd.DataFrame, view: TrafficView, device: str) -> pd.Series:
    """Peers that are there when the label is, and not when it is not; time servers, resolvers and
    devices of the plant count little."""
    here = count_by_peer(flows)["slots"]
    plain = flows["port"].isin(_INFRASTRUCTURE).groupby(flows["other"]).mean()
    kind = np.where(plain.reindex(here.index) > 0.5, _INFRASTRUCTURE_WEIGHT, 1.0)
    found = here**2 / view.peers_of(device)["slots"].reindex(here.index) * kind
    return found.where(~found.index.isin(view.local), _LOCAL_C2 * found)


# ---- The same by evidence ----


def count_evidence(evidence: pd.DataFrame, *_: object) -> pd.Series:
    """How often each peer shows it."""
    return evidence.groupby("other")["count"].sum().astype(float)


def count_excess(evidence: pd.DataFrame, view: TrafficView, device: str) -> pd.Series:
    """How often each peer shows it beyond its own rate at other times: who writes a set point all day
    is not who writes now for the first time."""
    here = count_evidence(evidence)
    if evidence.empty:
        return here
    whole = view.evidence_of(device, tuple(evidence["kind"].unique()))
    slots = evidence["slot"].unique()
    elsewhere = whole[~whole["slot"].isin(slots)]
    known = max(round(view.span_s / SAMPLE_S) - len(slots), 1)
    usual = elsewhere.groupby("other")["count"].sum() * (len(slots) / known)
    beyond = here.sub(usual.reindex(here.index).fillna(0.0)).clip(lower=0.0)
    return beyond if beyond.max() > _BEYOND * here.max() else here


_BEYOND = 0.1  # of what was counted; less is the usual


def count_different(evidence: pd.DataFrame, view: TrafficView, device: str) -> pd.Series:
    """How many different things are asked between the device and each peer, beyond those that are
    asked at other times too: who looks around asks for many, a poller for the same few."""
    vain = evidence[evidence["kind"] == "arp_unanswered"]
    addresses = vain.groupby("other")["dst"].nunique().astype(float)
    return _count_requests(evidence, view, device).add(addresses, fill_value=0.0)


def _count_requests(evidence: pd.DataFrame, view: TrafficView, device: str) -> pd.Series:
    """The same of requests, by function, unit and address; by register where only logs tell."""
    slots = evidence["slot"].unique()
    asked = view.exchanges
    asked = asked[(asked["client"] == device) | (asked["server"] == device)]
    if len(asked):
        client, server = asked["client"].astype("str"), asked["server"].astype("str")
        other = server.where(client == device, client)
        here = np.isin(np.floor(asked["ts"] / SAMPLE_S), slots)
        what = [other.rename("other"), asked["protocol"], asked["function"], asked["unit"]]
        each = pd.Series(here, asked.index).groupby([*what, asked["target"]], observed=True).all()
        return each[each].groupby(level="other").size().astype(float)
    rows = view.evidence_of(device, evidence["kind"].unique())
    most = rows["distinct"].groupby(rows["other"]).max()
    usual = rows[~rows["slot"].isin(slots)].groupby("other")["distinct"].max()
    return (most - usual.reindex(most.index, fill_value=0)).clip(lower=0).astype(float)


# ---- Whether what was found is enough for a label, whatever a model says ----


def supports_scan(found: Attribution) -> bool:
    """A scan touches many hosts, ports or registers, or is refused many."""
    touched = len(found.flows[["dst", "port"]].drop_duplicates())
    asked = found.evidence
    refused = asked.loc[asked["kind"] == "modbus_exception", "count"].sum()
    # A poll asks for the same few in every sample: they are no more in all of them together.
    most = max(touched, asked["dst"].nunique(), asked["distinct"].max() if len(asked) else 0)
    return max(most, int(refused)) >= FEW_ENDPOINTS


def supports_attempts(least: int) -> Callable[[Attribution], bool]:
    """At least so many TCP connections. A reset ends a refused call as well, and what was never up
    cannot flap, so resets do not count."""

    def supports(found: Attribution) -> bool:
        flows, counted = found.flows, found.evidence
        attempts = flows.loc[flows["proto"] == "tcp", "attempt"].nunique()
        return attempts + int(counted.loc[counted["kind"] != "reset", "count"].sum()) >= least

    return supports


def supports_repeated(found: Attribution) -> bool:
    """At least two calls: one request that nobody answers is an accident."""
    return found.calls >= 2


def supports_absence(found: Attribution) -> bool:
    """Two calls or none: a device with a rhythm is missed though nobody calls it."""
    return found.calls != 1


def supports_evidence(found: Attribution) -> bool:
    """Evidence beyond flows, or content that the log misses."""
    return len(found.evidence) > 0 or float(found.flows["missed_bytes"].sum()) > 0


def supports_claims(found: Attribution) -> bool:
    """That somebody claims an address shows in ARP or nowhere."""
    return len(found.evidence) > 0


_FEW_RESENT, _MANY_RESENT, _MUCH_RESENT = 5, 10, 0.02
_MOMENT_S = 1.0


def supports_loss(found: Attribution) -> bool:
    """Two or three segments that went out again are an ordinary minute of a radio; so are seven among
    a thousand, not seven among a hundred. What is sent again in one moment is a hiccup, no lossy line."""
    missed = float(found.flows["missed_bytes"].sum()) > 0
    pkts = float((found.flows["src_pkts"] + found.flows["dst_pkts"]).sum())
    resent = float(found.evidence["count"].sum())
    much = resent >= _MANY_RESENT or resent >= _MUCH_RESENT * pkts
    lasts = len(found.evidence) > 0 and float(np.ptp(first_and_last(found.evidence))) >= _MOMENT_S
    return missed or (resent >= _FEW_RESENT and much and lasts)


# ---- The same with no verdict to lean on: what an undecided stretch must show ----


def shows_flood(found: Attribution) -> bool:
    """A transfer that is answered over a handful of connections is no flood."""
    answered = bool(found.flows["answered"].all())
    return not answered or found.flows["attempt"].nunique() >= FEW_ENDPOINTS


def shows_upload(found: Attribution) -> bool:
    """What was mostly received was not carried off."""
    return float(found.flows["sent_bytes"].sum()) > float(found.flows["got_bytes"].sum())


def shows_contacts(found: Attribution) -> bool:
    """Fewer than three contacts are no beacon."""
    return found.flows["attempt"].nunique() >= 3


def shows_trouble(found: Attribution) -> bool:
    """A link is full or lossy when packets suffer from it, not when much gets through."""
    pkts = float((found.flows["src_pkts"] + found.flows["dst_pkts"]).sum())
    missed = float(found.flows["missed_bytes"].sum()) > 0
    return missed or float(found.evidence["count"].sum()) >= _TROUBLED_SHARE * max(pkts, 1.0)


def shows_failures(found: Attribution) -> bool:
    """One failed call is enough."""
    return len(found.flows) + len(found.evidence) > 0


# ---- Attribution ----


@dataclass(frozen=True, kw_only=True)
class AttributionRule:
    """Where a label shows in the tables.

    Attributes:
        label: one of ``LABELS``.
        evidence: kinds of ``Capture.evidence`` that carry it.
        opened_by: who opens the flows that carry it, the label's source or its target.
        carries: which flows of a device can carry it.
        weigh: how strongly each peer carries it, from such flows.
        weigh_evidence: likewise from evidence.
        peer_share: peers with less than this share of the strongest one's weight are not named.
        source_peer_share: the same at its source, where that differs. A bot has one controller and
            one victim at a time, while everyone who calls a dead server suffers from it.
        spans_silence: at its source it lasts as long as the device is quiet.
        lasts: how far it reaches beyond the windows that were alarmed: as far as failures follow
            each other, or as far as something new does, which began within the recording.
    """

    label: str
    evidence: tuple[str, ...] = ()
    opened_by: Literal["source", "target", "either"] = "source"
    carries: Callable[[pd.DataFrame], np.ndarray] = carries_any
    weigh: Weigh = weigh_attempts
    weigh_evidence: Weigh = count_evidence
    peer_share: float = 0.2
    source_peer_share: float | None = None
    spans_silence: bool = False
    lasts: Literal["", "failures", "news"] = ""


def attribute(
    view: TrafficView, device: str, rule: AttributionRule, role: str, slots: np.ndarray
) -> Attribution:
    """Find what carries a label at a device.

    Args:
        view: the capture.
        device: address.
        rule: the label's profile.
        role: of the device: ``source``, ``target`` or ``both``.
        slots: the slots that the label's windows cover, int64, at least one.

    Returns:
        The attribution; without flows and evidence its times are those of ``slots``.
    """
    flows, evidence = _carriers(view, device, rule, role, slots)
    single = flows[~flows["other"].isin(list(filter(is_group, flows["other"].unique())))]
    weight = rule.weigh(single[rule.carries(single)], view, device)
    weight = weight.add(rule.weigh_evidence(evidence, view, device), fill_value=0.0)
    weight = weight[weight > 0].drop(device, errors="ignore")
    weight = weight.sort_values(ascending=False, kind="stable")
    share = rule.peer_share
    if role == "source" and rule.source_peer_share is not None:
        share = rule.source_peer_share
    least = share * weight.max() if len(weight) else 0.0
    peers = tuple(map(str, weight.index[weight >= least]))
    if rule.lasts:
        slots = _follow(view, device, rule, role, peers, slots)
        flows, evidence = _carriers(view, device, rule, role, slots)
    flows = flows[flows["other"].isin(peers)]
    flows = flows[rule.carries(flows)]
    evidence = evidence[evidence["other"].isin((*peers, device))]
    asked = view.requests_of(evidence) if rule.lasts == "news" else evidence[:0]
    if len(asked):  # its session may have begun before, and ended after it
        start_s, end_s = float(asked["ts"].min()), float(asked["ts"].max())
    elif len(flows):
        start_s, end_s = float(flows["since_s"].min()), float(flows["until_s"].max())
    else:
        edges = float(slots.min()) * SAMPLE_S, float(slots.max() + 1) * SAMPLE_S
        start_s, end_s = first_and_last(evidence) if len(evidence) else edges
    if rule.spans_silence and role == "source":
        start_s, end_s = quiet_spell(view, device, start_s, end_s) or (start_s, end_s)
    return Attribution(device, rule.label, flows, evidence, peers, start_s, end_s)


def _carriers(
    view: TrafficView, device: str, rule: AttributionRule, role: str, slots: np.ndarray
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Flows and evidence of a device in some slots, as the rule asks."""
    whole = view.flows_of(device)
    first, last = np.searchsorted(whole["slot"], [slots.min(), slots.max() + 1])
    near = whole.iloc[first:last]
    flows = _opened(near[np.isin(near["slot"], slots)], rule, role)
    evidence = view.evidence_of(device, rule.evidence)
    return flows, evidence[evidence["slot"].isin(slots)]


def _follow(
    view: TrafficView,
    device: str,
    rule: AttributionRule,
    role: str,
    peers: tuple[str, ...],
    slots: np.ndarray,
) -> np.ndarray:
    """Some slots, and those before and after them in which a device and its peers go on with what
    carries a label. What is done from the start of the recording on is no news."""
    evidence = view.evidence_of(device, rule.evidence)
    found = [slots, evidence.loc[evidence["other"].isin(peers), "slot"].to_numpy(np.int64)]
    if rule.lasts == "failures" and rule.carries is carries_failed:
        flows = view.flows_of(device)
        flows = _opened(flows[flows["other"].isin(peers)], rule, role)
        found.append(flows.loc[rule.carries(flows), "slot"].to_numpy(np.int64))
    every = np.unique(np.concatenate(found))
    runs = np.split(every, np.flatnonzero(np.diff(every) > _PAUSE_SLOTS) + 1)
    runs = [run for run in runs if np.isin(run, slots).any()]
    if rule.lasts == "news" and runs[0][0] * SAMPLE_S - view.start_s < _ONSET_S:
        return slots
    return np.concatenate(runs)


def _opened(flows: pd.DataFrame, rule: AttributionRule, role: str) -> pd.DataFrame:
    """Flows that the device opened or received, as the rule asks; the others where there is
    none."""
    if rule.opened_by == "either" or role == "both":
        return flows
    chosen = flows[flows["out"] == (role == rule.opened_by)]
    return chosen if len(chosen) else flows
