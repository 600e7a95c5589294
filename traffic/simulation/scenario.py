"""The normal traffic while faults change it, and the truth of what happened to whom."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from traffic.capture import SAMPLE_S
from traffic.simulation.flows import Ledger
from traffic.simulation.plant import Stage


@dataclass(frozen=True)
class Lossy:
    """A stretch in which a device loses packets, and what that is.

    Attributes:
        device: its address; ``start_s`` and ``end_s`` bound the stretch.
        loss_share: share of packets lost; ``full_share`` of packets that say their sender's buffer
            is full.
        label: the fault; ``direction`` and ``cause`` as in the truth.
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
class Scene:
    """The normal traffic while faults change it.

    Attributes:
        stage: time, plant and chance.
        flows: rows of the ledger's form, unsorted.
        notes: loose evidence with times.
        packets: whether the capture sees packets, so that ARP and lost segments show.
        truth: rows of ``device start_s end_s label direction cause``.
        losses: stretches in which devices lose packets.
    """

    stage: Stage
    flows: pd.DataFrame
    notes: pd.DataFrame
    packets: bool
    truth: list[tuple] = field(default_factory=list)
    losses: list[Lossy] = field(default_factory=list)

    def involving(self, address: str) -> np.ndarray:
        """Which flows a device takes part in."""
        return (self.flows["id.orig_h"] == address).to_numpy() | (
            self.flows["id.resp_h"] == address
        ).to_numpy()

    def note(self, ts: np.ndarray, src: Any, dst: Any, kind: str, **more: Any) -> None:
        """Add loose evidence, as ``Ledger.note`` does."""
        ledger = Ledger(self.stage.rng)
        ledger.note(ts, src, dst, kind, **more)
        if len(ts):
            self.notes = pd.concat([self.notes, ledger.evidence_table()], ignore_index=True)

    def tell(
        self, device: str, start_s: float, end_s: float, label: str, direction: str, cause: str
    ) -> None:
        """Add one interval of truth, within the capture."""
        start_s, end_s = max(start_s, self.stage.start_s), min(end_s, self.stage.end_s)
        if end_s > start_s:
            self.truth.append((device, start_s, end_s, label, direction, cause))

    def tell_touched(
        self,
        devices: pd.Series,
        ts: pd.Series,
        label: str,
        direction: str,
        cause: str,
        least: int = 1,
        join_s: float = 45.0,
    ) -> None:
        """Add the stretches in which each device felt something, from the times at which it did.

        Gaps up to ``join_s`` are bridged: who waits for minutes until it tries again is not well
            meanwhile.
        """
        touched = pd.DataFrame({"device": devices.to_numpy(), "ts": ts.to_numpy(float)})
        for device, group in touched.groupby("device", sort=True):
            for start_s, end_s in merged(group["ts"].to_numpy(), join_s, least):
                self.tell(str(device), start_s, end_s, label, direction, cause)


def merged(ts: np.ndarray, join_s: float = 45.0, least: int = 1) -> list[tuple[float, float]]:
    """Stretches of whole slots that hold the given times; gaps up to ``join_s`` are bridged, short
    stretches left out.

    >>> merged(np.array([3.0, 12.0, 200.0]))
    [(0.0, 20.0), (200.0, 210.0)]
    """
    slots = np.unique(np.floor(np.asarray(ts, float) / SAMPLE_S))
    if not len(slots):
        return []
    breaks = np.flatnonzero(np.diff(slots) * SAMPLE_S > join_s) + 1
    groups = np.split(slots, breaks)
    return [
        (float(g[0] * SAMPLE_S), float((g[-1] + 1) * SAMPLE_S)) for g in groups if len(g) >= least
    ]


def settled(truth: list[tuple]) -> list[tuple]:
    """The same truth without overlaps: where two things happen to one device, what comes from it
    goes before."""
    by_device: dict[str, list[tuple]] = {}
    for row in sorted(truth, key=lambda row: row[4] != "source"):
        free = [(row[1], row[2])]
        known = by_device.setdefault(row[0], [])
        for _, start_s, end_s, *_ in known:
            cut = [((a, min(b, start_s)), (max(a, end_s), b)) for a, b in free]
            free = [piece for pieces in cut for piece in pieces if piece[1] > piece[0]]
        known += [(row[0], a, b, *row[3:]) for a, b in free]
    return [row for rows in by_device.values() for row in rows]


# Which flows, and which device of the plant, something befalls.


def busiest(
    scene: Scene, mask: np.ndarray, column: str, start_s: float, end_s: float, *roles: str
) -> str | None:
    """A device of the plant that often stands in ``column`` of the marked flows in this time; busy
    ones first."""
    known = {d.address for d in scene.stage.plant.devices if not roles or d.role in roles}
    flows = scene.flows
    now = (
        mask
        & (flows["ts"] < end_s).to_numpy()
        & ((flows["ts"] + flows["duration"].fillna(0)) > start_s).to_numpy()
    )
    weight = np.minimum(flows.loc[now, "duration"].fillna(0), end_s - start_s) / 20 + 1
    counts = weight.groupby(flows.loc[now, column]).sum()
    counts = counts[
        [
            address
            for address in counts.index
            if address in known and address not in taken(scene, start_s, end_s)
        ]
    ]
    counts = counts[counts > (end_s - start_s) / 60].sort_values(ascending=False)
    return (
        str(scene.stage.rng.choice(counts.index.to_numpy(object)[: max(len(counts) // 2, 3)]))
        if len(counts)
        else None
    )


def taken(scene: Scene, start_s: float, end_s: float) -> set[str]:
    return {row[0] for row in scene.truth if row[1] < end_s and row[2] > start_s}


def speaking(scene: Scene, name: str) -> np.ndarray:
    return (scene.flows["proto"] == name).to_numpy()


def coming_from(scene: Scene, address: str) -> np.ndarray:
    return (scene.flows["id.orig_h"] == address).to_numpy()


def going_to(scene: Scene, address: str) -> np.ndarray:
    return (scene.flows["id.resp_h"] == address).to_numpy()


def inside(scene: Scene, column: str) -> np.ndarray:
    return scene.flows[column].str.startswith(scene.stage.network).to_numpy(bool)
