"""Windows drawn so that it is known what can be learned from them: three labels, each with a mark
of its own."""

from dataclasses import dataclass

import numpy as np

from eval.models.features import FEATURES
from traffic.labels import NORMAL

# label -> what occurs in a sample, and how often; nothing else tells the labels apart.
MARKS = {
    "recon": {"ports_out": 40.0, "hosts_out": 20.0, "unanswered_out": 30.0, "refused_out": 10.0,
              "new_peers": 20.0},
    "dos": {"in_pkts": 30_000.0, "in_bytes": 1_800_000.0, "tcp_in": 5000.0, "unanswered_in": 4000.0,
            "hosts_in": 3.0},
}  # fmt: skip
USUAL = {
    "out_pkts": 20.0, "in_pkts": 20.0, "out_bytes": 2000.0, "in_bytes": 2000.0, "peers": 2.0,
    "tcp_out": 2.0,
}  # fmt: skip


@dataclass(frozen=True)
class ToLearn:
    """Features (n, 9, n_features), labels, devices and captures of n windows, six devices in three
    captures."""

    x: np.ndarray
    y: np.ndarray
    devices: np.ndarray
    groups: np.ndarray

    def take(self, which: np.ndarray) -> "ToLearn":
        """Some of the windows."""
        return ToLearn(self.x[which], self.y[which], self.devices[which], self.groups[which])


def apart(seed: int, n: int = 600, marked: bool = True) -> ToLearn:
    """A device is normal, then scanning, then normal, then flooded; half of the windows are normal.

    Without marks, no window says what its label is; only its place in time does.
    """
    rng = np.random.default_rng(seed)
    devices = np.repeat(np.arange(6), n // 6)
    place = np.tile(np.arange(n // 6) / (n // 6), 6)
    y = np.select(
        [(place >= 0.4) & (place < 0.65), place >= 0.75], ["recon", "dos"], NORMAL
    ).astype(object)
    x = np.zeros((len(devices), 6, len(FEATURES)), np.float32)
    for name, mean in USUAL.items():
        x[:, :, FEATURES.index(name)] = rng.poisson(mean, x.shape[:2])
    for label, marks in MARKS.items() if marked else ():
        for name, mean in marks.items():
            x[y == label, :, FEATURES.index(name)] += rng.poisson(mean, ((y == label).sum(), 6))
    # Of a past like the present: four minutes before and the device's own mean tell nothing.
    now = np.log1p(x).mean(axis=1, keepdims=True)
    return ToLearn(np.concatenate([x, now, now, now], axis=1), y, devices, devices // 2)
