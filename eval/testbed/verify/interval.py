"""What one interval of a run's truth is judged by: counts of packets, flows and evidence, in it and
in calm time.

    device's intervals        ====A====          ==B==
    calm (the rest)      -----         ----------     -----       what is usual for this device

Nothing here knows a classifier. Evidence beyond flows is kept by slots of 10 s, so its times are a
slot wide.
"""

import ipaddress
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

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


@dataclass(frozen=True)
class Finding:
    """Whether what is said to be true shows, and the number by which it does or does not."""

    agrees: bool
    measured: str


@dataclass(frozen=True)
class Run:
    """A recorded run: its packets, what they become, and its truth."""

    packets: Packets
    capture: Capture
    truth: Truth

    @cached_property
    def codes(self) -> dict[str, int]:
        """Numbers of addresses, as ``packets`` has them."""
        return {str(address): code for code, address in enumerate(self.packets.addresses)}

    @cached_property
    def outside(self) -> list[str]:
        """Addresses beyond the plant; groups and broadcasts are nobody's."""
        names = pd.Series(self.packets.addresses, dtype="str")
        return [
            name
            for name in names[~is_local(names)]
            if not ipaddress.ip_address(name).is_multicast and not name.endswith(".255")
        ]

    @cached_property
    def delays(self) -> pd.DataFrame:
        """How long it took until a message was answered, or at least acknowledged: ``ts asker
        answerer delay_s``."""
        work = cut_flows(self.packets.table)
        flow, side, ts = (work[name].to_numpy() for name in ("flow", "is_orig", "ts"))
        turn = np.flatnonzero(
            (flow[1:] == flow[:-1])
            & (side[1:] != side[:-1])
            & (work["payload"].to_numpy()[:-1] > 0)
        )
        ends = {"asker": work["src"].to_numpy()[turn], "answerer": work["dst"].to_numpy()[turn]}
        return pd.DataFrame({"ts": ts[turn], **ends, "delay_s": ts[turn + 1] - ts[turn]})


@dataclass(frozen=True)
class Tally:
    """How much of something there was.

    Attributes:
        inside: in the interval, which lasts ``inside_s``.
        calm: in the device's calm time, ``calm_s`` in all.
    """

    inside: float
    inside_s: float
    calm: float
    calm_s: float

    @property
    def expected(self) -> float:
        """What the interval would hold if it were calm."""
        return self.calm * self.inside_s / self.calm_s if self.calm_s else 0.0

    def is_more(self, least: float, factor: float = 2.0) -> bool:
        """Whether there was at least so much, and so many times what was to be expected."""
        return self.inside >= least and self.inside > factor * self.expected

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.inside + other.inside, self.inside_s, self.calm + other.calm, self.calm_s)

    def __str__(self) -> str:
        return f"{self.inside:g} (usual in that time: {self.expected:.3g})"


@dataclass(frozen=True)
class Look:
    """One interval of a run.

    Attributes:
        run: the run.
        interval: what is said to be true.
        others: the other intervals of the same event.
    """

    run: Run
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
        """The other side of the event: whom a source hits, from whom a target suffers; at least the
        root."""
        wanted = "target" if self.is_source else "source"
        named = [other.device for other in self.others if other.direction == wanted]
        root = [] if self.is_source else [self.interval.root]
        return [address for address in dict.fromkeys([*named, *root]) if address != self.device]

    @cached_property
    def table(self) -> pd.DataFrame:
        """The packets from or to the device."""
        table, code = self.run.packets.table, self.run.codes.get(self.device, -1)
        return table[((table["src"] == code) | (table["dst"] == code)).to_numpy()]

    def inside(self, ts: pd.Series | np.ndarray) -> np.ndarray:
        """Which times lie in the interval, or shortly after it: what began in it may show then."""
        ts = np.asarray(ts)
        return (ts >= self.interval.start_s) & (ts < self.interval.end_s + REACTION_S)

    def settled(self, ts: pd.Series | np.ndarray) -> np.ndarray:
        """Which times lie in the interval once it has taken effect; all of a very short one's
        second half."""
        ts, length_s = np.asarray(ts), self.interval.end_s - self.interval.start_s
        return (ts >= self.interval.start_s + min(REACTION_S, length_s / 2)) & (
            ts < self.interval.end_s
        )

    def calm(self, ts: pd.Series | np.ndarray) -> np.ndarray:
        """Which times lie well away from every interval of the device."""
        ts = np.asarray(ts)
        calm = np.ones(len(ts), bool)
        for start_s, end_s in self._busy:
            calm &= (ts < start_s) | (ts >= end_s)
        return calm

    @cached_property
    def _busy(self) -> list[tuple[float, float]]:
        mine = [other for other in self.run.truth.intervals if other.device == self.device]
        return [(one.start_s - REACTION_S, one.end_s + 2 * SAMPLE_S) for one in mine]

    @cached_property
    def _calm_s(self) -> float:
        seconds = np.arange(self.run.packets.start_s, self.run.packets.end_s)
        return float(self.calm(seconds).sum())

    @property
    def _inside_s(self) -> float:
        return self.interval.end_s + REACTION_S - self.interval.start_s

    def tally(
        self, ts: pd.Series | np.ndarray, weight: pd.Series | np.ndarray | None = None
    ) -> Tally:
        """Count events by their times, or add up their weights."""
        weight = np.ones(len(ts)) if weight is None else np.asarray(weight, float)
        inside, calm = weight[self.inside(ts)].sum(), weight[self.calm(ts)].sum()
        return Tally(float(inside), self._inside_s, float(calm), self._calm_s)

    def packets(
        self, src: Collection[str] | None = None, dst: Collection[str] | None = None
    ) -> pd.DataFrame:
        """The device's packets from some addresses and to some."""
        table = self.table
        for column, addresses in (("src", src), ("dst", dst)):
            if addresses is not None:
                table = table[
                    table[column].isin([self.run.codes.get(address, -1) for address in addresses])
                ]
        return table

    def evidence(
        self,
        kinds: Sequence[str],
        src: Collection[str] | None = None,
        dst: Collection[str] | None = None,
    ) -> pd.DataFrame:
        """Evidence of some kinds, by who asked or sent and who was asked, with ``ts`` in the middle
        of its slot."""
        table = self.run.capture.evidence
        table = table[table["kind"].isin(kinds)]
        for column, addresses in (("src", src), ("dst", dst)):
            if addresses is not None:
                table = table[table[column].isin(addresses)]
        return table.assign(ts=(table["slot"] + 0.5) * SAMPLE_S)

    def told(self, kinds: Sequence[str], **ends: Collection[str] | None) -> Tally:
        """How often evidence says something; a slot counts if the interval touches it."""
        table = self.evidence(kinds, **ends)
        touched = (table["ts"] + SAMPLE_S / 2 > self.interval.start_s) & (
            table["ts"] - SAMPLE_S / 2 < self.interval.end_s + REACTION_S
        )
        inside_s = self._inside_s + SAMPLE_S  # slots begin before the interval and end after it
        inside, calm = (
            table.loc[touched, "count"].sum(),
            table.loc[self.calm(table["ts"]), "count"].sum(),
        )
        return Tally(float(inside), inside_s, float(calm), self._calm_s)

    def between(self, kinds: Sequence[str]) -> Tally:
        """Evidence that the device and its peers gave each other; for a source without peers, that
        of anybody."""
        peers = self.peers or None
        return self.told(kinds, src=[self.device], dst=peers) + self.told(
            kinds, src=peers, dst=[self.device]
        )

    def flows(
        self, orig: Collection[str] | None = None, resp: Collection[str] | None = None
    ) -> pd.DataFrame:
        """Flows by who opened them and to whom."""
        flows = self.run.capture.flows
        for column, addresses in (("id.orig_h", orig), ("id.resp_h", resp)):
            if addresses is not None:
                flows = flows[flows[column].isin(addresses)]
        return flows

    def failed(
        self, orig: Collection[str] | None = None, resp: Collection[str] | None = None
    ) -> Tally:
        """Attempts that were refused or not answered, whatever the transport."""
        flows = self.flows(orig, resp)
        return self.tally(flows.loc[flows["conn_state"].isin(_FAILED), "ts"])

    def macs(self, address: str, when: Callable[[np.ndarray], np.ndarray]) -> list[int]:
        """The MACs that use an address in some time: senders of its IP packets, and those of ARP in
        its name."""
        code, table, arp = (
            self.run.codes.get(address, -1),
            self.run.packets.table,
            self.run.packets.arp,
        )
        claims = arp[(arp["sender"] == code).to_numpy() & when(arp["ts"].to_numpy())]
        sent = table[(table["src"] == code).to_numpy() & when(table["ts"].to_numpy())]
        return [int(mac) for mac in sorted({*claims["mac"], *sent["src_mac"]}) if mac >= 0]
