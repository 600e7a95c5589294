"""Where simulated devices write what they did: flow rows, and evidence that no flow carries.

Beside Zeek's columns a row carries what its packets would have said, from which the evidence is drawn once every fault
has had its way with the flows.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from traffic.capture import COUNTS, FLOW_COLUMNS
from traffic.labels import NORMAL

__all__ = ["HIDDEN", "Ledger"]

HIDDEN = ["app", "code", "asks", "tells", "distinct", "named", "tries", "steady", "exchanges", "alive_s"]


_BLANK: dict[str, Any] = {
    "service": "",
    "missed_bytes": 0.0,
    "label": NORMAL,
    "app": "",
    "code": -1,
    "asks": 0.0,
    "tells": 0.0,
    "distinct": 0,
    "named": False,
    "tries": "linux",
    "steady": True,
    "exchanges": 0.0,
    "alive_s": 0.0,
}


_COLUMNS = [*[name for name in FLOW_COLUMNS if name != "uid"], "label", *HIDDEN]


@dataclass
class Ledger:
    """Flow rows and loose evidence, collected while devices act.

    Attributes:
        rng: the one source of chance of a simulation.
        flows: one dict of equally long arrays per call of a maker.
        evidence: one dict of equally long arrays per call of ``note``.
    """

    rng: np.random.Generator
    flows: list[dict[str, np.ndarray]] = field(default_factory=list)
    evidence: list[dict[str, np.ndarray]] = field(default_factory=list)

    def add(self, ts: np.ndarray, **columns: Any) -> None:
        """Append rows; a scalar column holds for all of them."""
        ts = np.atleast_1d(np.asarray(ts, float))
        if not len(ts):
            return
        row = {**_BLANK, **columns, "ts": ts}
        self.flows.append({name: _filled(row[name], len(ts)) for name in _COLUMNS})

    def note(self, ts: np.ndarray, src: Any, dst: Any, kind: str, code: Any = -1, count: Any = 1, distinct: Any = 0):
        """Append evidence that no flow carries, one event group per time."""
        ts = np.atleast_1d(np.asarray(ts, float))
        row = {"ts": ts, "src": src, "dst": dst, "kind": kind, "code": code, "count": count, "distinct": distinct}
        if len(ts):
            self.evidence.append({name: _filled(value, len(ts)) for name, value in row.items()})

    def ports(self, n: int) -> np.ndarray:
        """n source ports as operating systems choose them: counted upwards or drawn."""
        first = int(self.rng.choice([1024, 32768, 49152]))
        width = 28000 if first == 32768 else 65535 - first
        if self.rng.random() < 0.5:
            return first + (int(self.rng.integers(width)) + np.arange(n) * int(self.rng.integers(1, 3))) % width
        return first + self.rng.integers(width, size=n)

    def flow_table(self) -> pd.DataFrame:
        """All rows so far, unsorted; packets and bytes are whole."""
        parts = self.flows or [{name: np.empty(0, object) for name in _COLUMNS}]
        table = pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in _COLUMNS})
        return table.assign(**{name: np.rint(table[name].to_numpy(float)) for name in COUNTS if name != "duration"})

    def evidence_table(self) -> pd.DataFrame:
        """All loose evidence so far, with times, unsorted."""
        names = ["ts", "src", "dst", "kind", "code", "count", "distinct"]
        parts = self.evidence or [{name: np.empty(0, object) for name in names}]
        return pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in names})


def _filled(value: Any, n: int) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind in "US":
        array = array.astype(object)
    return array if array.shape == (n,) else np.broadcast_to(array, (n,)).copy()
