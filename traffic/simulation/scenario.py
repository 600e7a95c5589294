"""The normal traffic while faults change it, and the truth of what happened to whom.

What an outage does to a session and to those that come after it:

    before    |==================session==================|
    outage            |xxxxxxxxxxxxxxxxxxx|
    after     |=======|  S0    S0      S0   |=============|
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from traffic.capture import SAMPLE_S
from traffic.simulation.distributions import backoff
from traffic.simulation.flows import FlowLog, Texts, attempt, refuse
from traffic.simulation.plant import SimulatedPlant

TRUTH_COLUMNS = ["device", "start_s", "end_s", "label", "direction", "cause"]
LONG_S = 60.0  # a session this long is opened again after an outage; a shorter one is only missed
_COUNTS = ["orig_bytes", "resp_bytes", "orig_pkts", "resp_pkts", "orig_ip_bytes", "resp_ip_bytes"]


@dataclass(frozen=True)
class LossInterval:
    """An interval in which a device loses packets, and the truth that goes with it.

    Attributes:
        device: its address.
        start_s: first second.
        end_s: its end.
        loss_share: share of packets lost.
        full_share: share of packets that say their sender's buffer is full.
        label: the fault.
        direction: ``source`` or ``target``.
        cause: one sentence.
    """

    device: str
    start_s: float
    end_s: float
    loss_share: float
    full_share: float
    label: str
    direction: str
    cause: str


@dataclass
class Scenario:
    """The normal traffic while faults change it.

    Attributes:
        sim: time, plant and chance.
        flows: rows as ``FlowLog.flow_table`` gives them, unsorted.
        evidence: loose evidence with times.
        packets: whether the capture sees packets, so that ARP and lost segments show.
        truth: rows of ``TRUTH_COLUMNS``.
        losses: intervals in which devices lose packets.
    """

    sim: SimulatedPlant
    flows: pd.DataFrame
    evidence: pd.DataFrame
    packets: bool
    truth: list[tuple] = field(default_factory=list)
    losses: list[LossInterval] = field(default_factory=list)

    @property
    def rng(self) -> np.random.Generator:
        return self.sim.rng

    # Which flows, as masks of shape (n_flows,).

    def everything(self) -> np.ndarray:
        return np.ones(len(self.flows), bool)

    def sent_by(self, address: str) -> np.ndarray:
        return (self.flows["id.orig_h"] == address).to_numpy()

    def sent_to(self, address: str) -> np.ndarray:
        return (self.flows["id.resp_h"] == address).to_numpy()

    def involving(self, address: str) -> np.ndarray:
        return self.sent_by(address) | self.sent_to(address)

    def of_proto(self, proto: str) -> np.ndarray:
        return (self.flows["proto"] == proto).to_numpy()

    def in_plant(self, column: str) -> np.ndarray:
        """Where the address in ``column`` is one of the plant's network."""
        return self.flows[column].str.startswith(self.sim.network).to_numpy(bool)

    def draw_busy(self, mask: np.ndarray, column: str, start_s: float, end_s: float) -> str | None:
        """Draw one of the devices that stand in ``column`` of the marked flows most, in this time;
        None where no device without a fault or attack of its own is busy enough to show one."""
        flows = self.flows
        stop = flows["ts"] + flows["duration"].fillna(0)
        now = mask & (flows["ts"] < end_s).to_numpy() & (stop > start_s).to_numpy()
        weight = np.minimum(flows.loc[now, "duration"].fillna(0), end_s - start_s) / 20 + 1
        counts = weight.groupby(flows.loc[now, column]).sum()
        free = {d.address for d in self.sim.plant.devices} - self.affected(start_s, end_s)
        counts = counts[[address for address in counts.index if address in free]]
        counts = counts[counts > (end_s - start_s) / 60].sort_values(ascending=False)
        if not len(counts):
            return None
        busy = counts.index.to_numpy(object)[: max(len(counts) // 2, 3)]
        return str(self.rng.choice(busy))

    def affected(self, start_s: float, end_s: float) -> set[str]:
        """The devices of which something is true already in this time."""
        return {row[0] for row in self.truth if row[1] < end_s and row[2] > start_s}

    def add_flows(self, log: FlowLog) -> None:
        self.flows = pd.concat([self.flows, log.flow_table()], ignore_index=True)

    def note(self, ts: np.ndarray, src: Texts, dst: Texts, kind: str, **more: Any) -> None:
        """Add loose evidence, as ``FlowLog.note`` does."""
        log = FlowLog(self.rng)
        log.note(ts, src, dst, kind, **more)
        if len(ts):
            self.evidence = pd.concat([self.evidence, log.evidence_table()], ignore_index=True)

    def note_unanswered_arp(
        self, ts: np.ndarray, src: Texts, dst: Texts, count: int | np.ndarray
    ) -> None:
        for kind in ("arp_request", "arp_unanswered"):
            self.note(ts, src, dst, kind, count=count)

    def add_truth(
        self, device: str, start_s: float, end_s: float, label: str, direction: str, cause: str
    ) -> None:
        """Add one interval of truth, as much of it as lies within the capture."""
        start_s, end_s = max(start_s, self.sim.start_s), min(end_s, self.sim.end_s)
        if end_s > start_s:
            self.truth.append((device, start_s, end_s, label, direction, cause))

    def add_truth_at(
        self,
        devices: pd.Series,
        ts: pd.Series,
        label: str,
        direction: str,
        cause: str,
        least: int = 1,
        join_s: float = 45.0,
    ) -> None:
        """Add the intervals in which each device showed something, from the times at which it did.

        Gaps up to ``join_s`` are bridged: a client that waits for minutes before it tries again is
        not well meanwhile.
        """
        shown = pd.DataFrame({"device": devices.to_numpy(), "ts": ts.to_numpy(float)})
        for device, group in shown.groupby("device", sort=True):
            for start_s, end_s in merge_times(group["ts"].to_numpy(), join_s, least):
                self.add_truth(str(device), start_s, end_s, label, direction, cause)


# ---- intervals of truth ----


def merge_times(ts: np.ndarray, join_s: float = 45.0, least: int = 1) -> list[tuple[float, float]]:
    """Merge times into intervals of whole slots; gaps up to ``join_s`` are bridged, intervals with
    fewer than ``least`` slots left out.

    >>> merge_times(np.array([3.0, 12.0, 200.0]))
    [(0.0, 20.0), (200.0, 210.0)]
    """
    slots = np.unique(np.floor(np.asarray(ts, float) / SAMPLE_S))
    if not len(slots):
        return []
    groups = np.split(slots, np.flatnonzero(np.diff(slots) * SAMPLE_S > join_s) + 1)
    ends = [(float(group[0] * SAMPLE_S), float((group[-1] + 1) * SAMPLE_S)) for group in groups]
    return [span for span, group in zip(ends, groups, strict=True) if len(group) >= least]


def without_overlaps(truth: list[tuple]) -> list[tuple]:
    """The same truth without overlaps: where two things happen to one device, what comes from it
    goes before what it suffers."""
    by_device: dict[str, list[tuple]] = {}
    for row in sorted(truth, key=lambda row: row[4] != "source"):
        free = [(row[1], row[2])]
        known = by_device.setdefault(row[0], [])
        for _, start_s, end_s, *_ in known:
            cut = [((a, min(b, start_s)), (max(a, end_s), b)) for a, b in free]
            free = [piece for pieces in cut for piece in pieces if piece[1] > piece[0]]
        known += [(row[0], a, b, *row[3:]) for a, b in free]
    return [row for rows in by_device.values() for row in rows]


# ---- outages: sessions end early, clients try again, long sessions come back ----


def interrupt(
    scenario: Scenario,
    hit: np.ndarray,
    start_s: float,
    end_s: float,
    how: str,
    port: int | None = None,
) -> pd.DataFrame:
    """Take the marked flows away from an interval, and let their clients try again.

    Args:
        scenario: its flows and evidence are replaced.
        hit: shape (n_flows,), which flows the outage concerns.
        start_s: first second of the outage.
        end_s: its end.
        how: ``gone`` (nobody tries), ``silent`` (SYNs unanswered), ``absent`` (not even ARP is
            answered), ``refused`` (reset).
        port: the port that the attempts go to, if not that of the flows.

    Returns:
        The failed attempts: ``ts src dst``, one row each.
    """
    flows, rng = scenario.flows, scenario.rng
    ts = flows["ts"].to_numpy(float)
    duration = flows["duration"].fillna(0).to_numpy(float)
    over = hit & (ts < end_s) & (ts + duration >= start_s)
    rows, began, until = flows[over], ts[over], (ts + duration)[over]
    cut, lasting = began < start_s, (until > end_s) & (duration[over] > LONG_S)
    parts = [flows[~over]]
    if cut.any():
        parts.append(_broken(_share_of(rows[cut], began[cut], np.full(cut.sum(), start_s)), how))
    if lasting.any():
        again = end_s + rng.uniform(0.3, min(40, 2 + end_s - start_s), int(lasting.sum()))
        later = again < until[lasting]
        tail = _share_of(rows[lasting][later], again[later], until[lasting][later])
        parts.append(tail.assign(**{"id.orig_p": rng.integers(32768, 60999, len(tail))}))
    scenario.evidence = _without_pairs(scenario.evidence, rows, start_s, end_s)
    attempts = FlowLog(rng)
    failed = pd.DataFrame({"ts": [], "src": [], "dst": []})
    if how != "gone":
        failed = _retry(scenario, attempts, rows, start_s, end_s, how, port)
    parts.append(attempts.flow_table())
    scenario.flows = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return failed


def _share_of(rows: pd.DataFrame, start_s: np.ndarray, end_s: np.ndarray) -> pd.DataFrame:
    """The share of each flow that passes between two times: counts in proportion, at least one
    packet a side."""
    duration = rows["duration"].fillna(0).to_numpy(float)
    share = np.clip((end_s - start_s) / np.maximum(duration, 1e-6), 0, 1)
    part = {column: np.ceil(rows[column].to_numpy(float) * share) for column in _COUNTS}
    for side in ("orig", "resp"):  # a packet is no shorter than its header
        part[f"{side}_ip_bytes"] = np.maximum(part[f"{side}_ip_bytes"], 28.0 * part[f"{side}_pkts"])
    lone = part["orig_pkts"] + part["resp_pkts"] <= 1
    part["duration"] = np.maximum(end_s - start_s, 1e-3)
    for column in ("duration", "orig_bytes", "resp_bytes"):
        part[column] = np.where(lone, np.nan, part[column])  # as Zeek logs a single packet
    return rows.assign(ts=start_s, exchanges=rows["exchanges"].to_numpy(float) * share, **part)


def _with_state(rows: pd.DataFrame, state: str, history: str) -> pd.DataFrame:
    """Another state and history for the TCP sessions whose opening was seen."""
    opened = (rows["proto"] == "tcp").to_numpy() & rows["history"].str.startswith("Sh").to_numpy(
        bool
    )
    return rows.assign(
        conn_state=np.where(opened, state, rows["conn_state"]),
        history=np.where(opened, history, rows["history"]),
    )


def _broken(rows: pd.DataFrame, how: str) -> pd.DataFrame:
    """Sessions that an outage ended: reset by a live host, or left open with retransmissions."""
    return _with_state(rows, *(("RSTR", "ShADadr") if how == "refused" else ("S1", "ShADadT")))


def _without_pairs(
    evidence: pd.DataFrame, rows: pd.DataFrame, start_s: float, end_s: float
) -> pd.DataFrame:
    """The evidence without that of the same client and server during the outage."""
    pairs = set(zip(rows["id.orig_h"], rows["id.resp_h"], strict=True))
    drop = ((evidence["ts"] >= start_s) & (evidence["ts"] < end_s)).to_numpy(bool, copy=True)
    within = evidence[drop]
    concerned = [pair in pairs for pair in zip(within["src"], within["dst"], strict=True)]
    drop[drop] = concerned
    return evidence[~drop] if any(concerned) else evidence


def _retry(
    scenario: Scenario,
    attempts: FlowLog,
    rows: pd.DataFrame,
    start_s: float,
    end_s: float,
    how: str,
    port: int | None,
) -> pd.DataFrame:
    """Attempts of the clients during the outage: at each missed start, or by a policy of retries
    for a session that was cut. Returns ``ts src dst``."""
    rng = scenario.rng
    ts, duration = rows["ts"].to_numpy(float), rows["duration"].fillna(0).to_numpy(float)
    short = (ts >= start_s) & (duration <= LONG_S)
    index, times = [np.flatnonzero(short)], [ts[short]]
    for i in np.flatnonzero(~short & (rows["proto"] == "tcp").to_numpy()):
        first, last = max(ts[i], start_s) + rng.uniform(0.5, 20), min(ts[i] + duration[i], end_s)
        times.append(backoff(rng, first, last))
        index.append(np.full(len(times[-1]), i))
    retries = rows.iloc[np.concatenate(index)].assign(ts=np.concatenate(times))
    retries = retries[retries["id.orig_h"] != retries["id.resp_h"]]
    seen = np.ones(len(retries), bool)
    if how == "absent":
        seen = _note_arp(scenario, retries, start_s)
    tcp = (retries["proto"] == "tcp").to_numpy()
    syns = retries[seen & tcp]
    names = ("ts", "id.orig_h", "id.resp_h", "id.resp_p")
    at, orig, resp, resp_p = (syns[name].to_numpy() for name in names)
    to = resp_p if port is None else port
    if how == "refused":
        refuse(attempts, at, orig, resp, to)
    else:
        attempt(attempts, at, orig, resp, to, tries=syns["tries"].to_numpy())
    others = retries[seen & ~tcp]
    others = without_answers(others[others["orig_pkts"].to_numpy(float) > 0])
    if len(others):
        attempts.flows.append({name: others[name].to_numpy() for name in others.columns})
    return pd.DataFrame(
        {"ts": retries["ts"], "src": retries["id.orig_h"], "dst": retries["id.resp_h"]}
    )


def _note_arp(scenario: Scenario, retries: pd.DataFrame, start_s: float) -> np.ndarray:
    """Note the ARP requests of clients that have forgotten the address. Returns which attempts are
    still seen: mostly only those before."""
    rng = scenario.rng
    forgotten = retries["ts"].to_numpy(float) > start_s + rng.uniform(3, 60)
    names = ("ts", "id.orig_h", "id.resp_h")
    at, orig, resp = (retries.loc[forgotten, name].to_numpy() for name in names)
    log = FlowLog(rng)
    for kind in ("arp_request", "arp_unanswered"):
        log.note(at, orig, resp, kind, count=rng.integers(1, 4, len(at)))
    parts = [scenario.evidence, log.evidence_table()]
    scenario.evidence = pd.concat(parts, ignore_index=True)
    return ~forgotten if rng.random() < 0.8 else np.ones(len(retries), bool)


def without_answers(rows: pd.DataFrame) -> pd.DataFrame:
    """Datagrams and pings as Zeek logs them when no answer comes."""
    several = rows["orig_pkts"].to_numpy(float) > 1
    udp = (rows["proto"] == "udp").to_numpy()
    return rows.assign(
        resp_pkts=0.0,
        resp_ip_bytes=0.0,
        duration=np.where(several, rows["duration"], np.nan),
        orig_bytes=np.where(several, rows["orig_bytes"], np.nan),
        resp_bytes=np.where(several, 0.0, np.nan),
        conn_state=np.where(udp, "S0", rows["conn_state"]),
        history=np.where(udp, "D", rows["history"]),
    )


# ---- the edges of the capture ----


def clip(flows: pd.DataFrame, start_s: float, end_s: float) -> pd.DataFrame:
    """What a capture of [start, end) sees: sessions lose the part, and the SYN, from before it."""
    ts = flows["ts"].to_numpy(float)
    end = ts + flows["duration"].fillna(0).to_numpy(float)
    early, late = (ts < start_s) & (end > start_s), (ts >= start_s) & (ts < end_s) & (end >= end_s)
    inside = (ts >= start_s) & (end < end_s)
    last = np.full(len(flows), end_s - 1e-3)
    until = np.minimum(end, last)[early]
    head = _share_of(flows[early], np.full(early.sum(), start_s + 1e-3), until)
    # Spread over five seconds: sessions under way do not all show at the first instant.
    head["ts"] = head["ts"] + np.arange(len(head)) % 997 * 1e-2 % 5
    head["duration"] = np.maximum(until - head["ts"], 1e-3)
    head = _with_state(head, "OTH", "DdAa")
    tail = _with_state(_share_of(flows[late], ts[late], last[late]), "S1", "ShADad")
    clipped = pd.concat([flows[inside], head, tail], ignore_index=True)
    return clipped.sort_values("ts", kind="stable", ignore_index=True)
