"""Which flows, and which device of the plant, something befalls."""

import numpy as np

from traffic.simulation.scenario import Scene

__all__ = ["busiest", "coming_from", "going_to", "inside", "speaking", "taken"]


def busiest(scene: Scene, mask: np.ndarray, column: str, start_s: float, end_s: float, *roles: str) -> str | None:
    """A device of the plant that often stands in ``column`` of the marked flows in this time; busy ones first."""
    known = {d.address for d in scene.stage.plant.devices if not roles or d.role in roles}
    flows = scene.flows
    now = mask & (flows["ts"] < end_s).to_numpy() & ((flows["ts"] + flows["duration"].fillna(0)) > start_s).to_numpy()
    weight = np.minimum(flows.loc[now, "duration"].fillna(0), end_s - start_s) / 20 + 1
    counts = weight.groupby(flows.loc[now, column]).sum()
    counts = counts[
        [address for address in counts.index if address in known and address not in taken(scene, start_s, end_s)]
    ]
    counts = counts[counts > (end_s - start_s) / 60].sort_values(ascending=False)
    return (
        str(scene.stage.rng.choice(counts.index.to_numpy(object)[: max(len(counts) // 2, 3)])) if len(counts) else None
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
