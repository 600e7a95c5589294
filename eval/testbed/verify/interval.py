"""One interval of a run's truth in the packets: counts in it, and in the device's baseline.

    device's intervals        ====A====          ==B==
    baseline             -----         ----------     -----       what is usual for this device

Nothing here knows a classifier. Evidence beyond flows is kept by slots of 10 s, so its times are a
slot wide.
"""

import ipaddress
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import pandas as pd

from traffic.capture import SAMPLE_S, Capture
from traffic.datasets.truth import Interval, Truth
from traffic.pcap.flows import cut_flows
from traffic.pcap.packets import Packets
from traffic.plant import is_local

# What is done at once shows within seconds: programs wait for answers, and what was under way comes
# to its end.
REACTION_S = 5.0
_FAILED = ("S0", "REJ", "RSTOS0", "SH")

Hosts = Collection[str] | None  # addresses; None is anybody
Times: TypeAlias = pd.Series | np.ndarray  # seconds since the epoch


@dataclass(frozen=True)
class Recording:
    """A recorded run: its packets, what they become, and its truth."""

    packets: Packets
    capture: Capture
    truth: Truth

    @cached_property
    def _codes(self) -> dict[str, int]:
        return {str(address): code for code, address in enumerate(self.packets.addresses)}

    def code(self, address: str) -> int:
        """The number of an address in ``packets``; -1 where it never shows."""
        return self._codes.get(address, -1)

    @cached_property
    def outside(self) -> list[str]:
        """Addresses beyond the plant; groups and broadcasts are nobody's."""
        names = pd.Series(self.packets.addresses, dtype="str")
        beyond = [name for name in names[~is_local(names)] if not name.endswith(".255")]
        return [name for name in beyond if not ipaddress.ip_address(name).is_multicast]

    @cached_property
    def delays(self) -> pd.DataFrame:
        """Times until a message was answered or acknowledged: ``ts asker answerer delay_s``."""
        work = cut_flows(self.packets.table)
        flow, side, ts = (work[name].to_numpy() for name in ("flow", "is_orig", "ts"))
        turns = (flow[1:] == flow[:-1]) & (side[1:] != side[:-1])
        turn = np.flatnonzero(turns & (work["payload"].to_numpy()[:-1] > 0))
        ends = {"asker": work["src"].to_numpy()[turn], "answerer": work["dst"].to_numpy()[turn]}
        return pd.DataFrame({"ts": ts[turn], **ends, "delay_s": ts[turn + 1] - ts[turn]})


@dataclass(frozen=True)
class Tally:
    """How much of something there was.

    Attributes:
        inside: in the interval, which lasts ``inside_s``.
        baseline: in the device's baseline, ``baseline_s`` in all.
    """

    inside: float
    inside_s: float
    baseline: float
    baseline_s: float

    @property
    def expected(self) -> float:
        """What the interval would hold if it were as the baseline is."""
        return self.baseline * self.inside_s / self.baseline_s if self.baseline_s else 0.0

    def is_more(self, least: float, factor: float = 2.0) -> bool:
        """Whether there was at least so much, and so many times what was to be expected."""
        return self.inside >= least and self.inside > factor * self.expected

    def __add__(self, other: "Tally") -> "Tally":
        baseline = self.baseline + other.baseline
        return Tally(self.inside + other.inside, self.inside_s, baseline, self.baseline_s)

    def __str__(self) -> str:
        return f"{self.inside:g} (usual in that time: {self.expected:.3g})"


@dataclass(frozen=True)
class IntervalView:
    """One interval of a run, with what the packets hold of it.

    Attributes:
        run: the run.
        interval: what is said to be true.
        others: the other intervals of the same event.
    """

    run: Recording
    interval: Interval
    others: tuple[Interval, ...] = ()

    @property
    def device(self) -> str:
        return self.interval.device

    @property
    def is_source(self) -> bool:
        return self.interval.direction == "source"

    @property
    def peers(self) -> list[str]:
        """The other side of the event: targets of a source; sources and root of a target."""
        wanted = "target" if self.is_source else "source"
        named = [other.device for other in self.others if other.direction == wanted]
        root = [] if self.is_source else [self.interval.root]
        return [address for address in dict.fromkeys([*named, *root]) if address != self.device]

    @property
    def source_and_target(self) -> tuple[list[str], list[str]]:
        """Addresses of both sides, as far as this interval tells."""
        return ([self.device], self.peers) if self.is_source else (self.peers, [self.device])

    # ---- Times ----

    def inside(self, ts: Times) -> np.ndarray:
        """Which times lie in the interval, or shortly after it: what began in it may show then."""
        ts = np.asarray(ts)
        return (ts >= self.interval.start_s) & (ts < self.interval.end_s + REACTION_S)

    def in_effect(self, ts: Times) -> np.ndarray:
        """Which times lie in the interval once it has taken effect: at the latest at its middle."""
        ts, length_s = np.asarray(ts), self.interval.end_s - self.interval.start_s
        first_s = self.interval.start_s + min(REACTION_S, length_s / 2)
        return (ts >= first_s) & (ts < self.interval.end_s)

    def baseline(self, ts: Times) -> np.ndarray:
        """Which times lie well away from every interval of the device."""
        ts = np.asarray(ts)
        baseline = np.ones(len(ts), bool)
        for one in self.run.truth.intervals:
            if one.device == self.device:
                baseline &= (ts < one.start_s - REACTION_S) | (ts >= one.end_s + 2 * SAMPLE_S)
        return baseline

    @cached_property
    def _baseline_s(self) -> float:
        seconds = np.arange(self.run.packets.start_s, self.run.packets.end_s)
        return float(self.baseline(seconds).sum())

    def tally(self, ts: Times, weight: Times | None = None) -> Tally:
        """Count events by their times, or add up their weights."""
        weight = np.ones(len(ts)) if weight is None else np.asarray(weight, float)
        inside, baseline = weight[self.inside(ts)].sum(), weight[self.baseline(ts)].sum()
        inside_s = self.interval.end_s + REACTION_S - self.interval.start_s
        return Tally(float(inside), inside_s, float(baseline), self._baseline_s)

    # ---- Packets, flows and evidence by their two ends ----

    @cached_property
    def _table(self) -> pd.DataFrame:
        table, code = self.run.packets.table, self.run.code(self.device)
        return table[((table["src"] == code) | (table["dst"] == code)).to_numpy()]

    def packets(self, src: Hosts = None, dst: Hosts = None) -> pd.DataFrame:
        """The device's packets from some addresses and to some."""
        ends = [None if hosts is None else [*map(self.run.code, hosts)] for hosts in (src, dst)]
        return _between(self._table, ("src", "dst"), ends)

    def packets_with(self, peers: Hosts) -> pd.DataFrame:
        """Packets that the device and its peers sent each other."""
        return pd.concat([self.packets([self.device], peers), self.packets(peers, [self.device])])

    def flows(self, orig: Hosts = None, resp: Hosts = None) -> pd.DataFrame:
        """Flows by who opened them and to whom."""
        return _between(self.run.capture.flows, ("id.orig_h", "id.resp_h"), (orig, resp))

    def failed(self, orig: Hosts = None, resp: Hosts = None) -> Tally:
        """Attempts that were refused or not answered, whatever the transport."""
        flows = self.flows(orig, resp)
        return self.tally(flows.loc[flows["conn_state"].isin(_FAILED), "ts"])

    def failed_with(self, peers: Hosts) -> Tally:
        """Such attempts of the device at its peers, and of those at the device."""
        return self.failed([self.device], peers) + self.failed(peers, [self.device])

    def evidence(self, *kinds: str, src: Hosts = None, dst: Hosts = None) -> pd.DataFrame:
        """Evidence of some kinds by its two ends, with ``ts`` in the middle of its slot."""
        table = self.run.capture.evidence
        table = _between(table[table["kind"].isin(kinds)], ("src", "dst"), (src, dst))
        return table.assign(ts=(table["slot"] + 0.5) * SAMPLE_S)

    def count(self, *kinds: str, src: Hosts = None, dst: Hosts = None) -> Tally:
        """How much evidence there is of some kinds; a slot counts if the interval touches it."""
        table = self.evidence(*kinds, src=src, dst=dst)
        first_s, last_s = self.interval.start_s, self.interval.end_s + REACTION_S
        half_s = SAMPLE_S / 2
        touched = (table["ts"] + half_s > first_s) & (table["ts"] - half_s < last_s)
        inside = table.loc[touched, "count"].sum()
        baseline = table.loc[self.baseline(table["ts"]), "count"].sum()
        inside_s = last_s - first_s + SAMPLE_S  # slots begin before the interval and end after it
        return Tally(float(inside), inside_s, float(baseline), self._baseline_s)

    def count_with(self, peers: Hosts, *kinds: str) -> Tally:
        """Evidence that the device and its peers gave each other."""
        mine = [self.device]
        return self.count(*kinds, src=mine, dst=peers) + self.count(*kinds, src=peers, dst=mine)

    def sent_times(self, address: str) -> np.ndarray:
        """When an address sends: its IP packets, and ARP in its name."""
        code, table, arp = self.run.code(address), self.run.packets.table, self.run.packets.arp
        sent = table.loc[(table["src"] == code).to_numpy(), "ts"]
        return np.concatenate([sent, arp.loc[(arp["sender"] == code).to_numpy(), "ts"]])

    def macs(self, address: str, when: Callable[[np.ndarray], np.ndarray]) -> list[int]:
        """The MACs that use an address in some time: of its IP packets, and of ARP in its name."""
        code, table, arp = self.run.code(address), self.run.packets.table, self.run.packets.arp
        claims = arp[(arp["sender"] == code).to_numpy() & when(arp["ts"].to_numpy())]
        sent = table[(table["src"] == code).to_numpy() & when(table["ts"].to_numpy())]
        return [int(mac) for mac in sorted({*claims["mac"], *sent["src_mac"]}) if mac >= 0]


def _between(
    table: pd.DataFrame, columns: tuple[str, str], ends: Sequence[Collection | None]
) -> pd.DataFrame:
    """The rows whose two ends are among some values; None is any."""
    for column, values in zip(columns, ends, strict=True):
        if values is not None:
            table = table[table[column].isin(list(values))]
    return table
