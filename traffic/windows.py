"""Group samples into windows: six consecutive samples of one device, the classifier's input.

samples    a b . d e f g      (. a slot in which nothing was seen)
windows    [a b . d e f]
             [b . d e f g]    each starts one sample later; a missing sample counts as zeros
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from traffic.arrays import count_up
from traffic.capture import SAMPLE_S
from traffic.samples import COUNTED

WINDOW_SAMPLES = 6


@dataclass(frozen=True)
class Windows:
    """Windows as places in a table of samples, so that a sample shared by six windows is kept once.

    Attributes:
        samples: shape (n_samples, ...), as ``traffic.samples.make_samples`` returns it.
        table: one row per window: ``device``, ``start_s``, ``end_s``, and ``label``, ``direction``
            where known.
        rows: shape (n_windows, 6), int64, rows of ``samples``; -1 where the device has no sample.
    """

    samples: pd.DataFrame
    table: pd.DataFrame
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.table)

    def values(self, columns: list[str]) -> np.ndarray:
        """Features of every window, shape (n_windows, 6, n_columns), float32; zeros where there is
        no sample."""
        padded = np.vstack(
            [self.samples[columns].to_numpy(np.float32), np.zeros((1, len(columns)), np.float32)]
        )
        return padded[self.rows]

    def take(self, which: np.ndarray) -> "Windows":
        """The windows a mask or an index chooses, over the same samples."""
        rows = self.rows[which]
        table = self.table[which] if np.asarray(which).dtype == bool else self.table.iloc[which]
        return replace(self, table=table.reset_index(drop=True), rows=rows)


def make_windows(
    samples: pd.DataFrame, length: int = WINDOW_SAMPLES, min_active: int = 2
) -> Windows:
    """Slide a window of ``length`` slots over each device's samples, one slot at a time (B3 of the
    second paper).

    Args:
        samples: shape (n_samples, ...), ``device`` and ``start_s`` first.
        length: slots in a window.
        min_active: windows with fewer samples in which something was seen are dropped, unless the
            device had a rhythm before it went quiet: then silence is the evidence.

    Returns:
        Windows sorted by device and start; only such as lie within the device's first and last
        sample, or begin with its first sample where it was seen for less than a window.
    """
    codes, names = pd.factorize(samples["device"])
    slot = np.rint(samples["start_s"].to_numpy() / SAMPLE_S).astype(np.int64)
    starts, device = _starts(codes, slot, len(names), length)

    base = slot.min(initial=0) - length
    width = slot.max(initial=0) - base + length + 1
    key = codes.astype(np.int64) * width + slot - base  # sorted, as the samples are
    # (windows, length)
    wanted = device[:, None] * width + (starts[:, None] + np.arange(length)) - base
    place = np.minimum(np.searchsorted(key, wanted), len(key) - 1) if len(key) else wanted
    rows = np.where(key[place] == wanted, place, -1) if len(key) else wanted

    active = np.zeros(len(samples) + 1, bool)
    for name in COUNTED:
        active[:-1] |= samples[name].to_numpy() > 0
    quiet = np.append((samples["quiet_slots"] > 0) & (samples["active_share"] >= 0.5), False)
    keep = (active[rows].sum(axis=1) >= min_active) | quiet[rows].any(axis=1)
    rows, starts, device = rows[keep], starts[keep], device[keep]
    ends = {"start_s": starts * SAMPLE_S, "end_s": (starts + length) * SAMPLE_S}
    table = pd.DataFrame({"device": pd.Index(names)[device], **ends}).astype({"device": "str"})
    return Windows(samples, table, rows)


def _starts(
    codes: np.ndarray, slot: np.ndarray, n: int, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Every start from which a window of n devices holds a sample, as (slots, device codes)."""
    first, last = np.full(n, np.iinfo(np.int64).max), np.full(n, np.iinfo(np.int64).min)
    np.minimum.at(first, codes, slot)
    np.maximum.at(last, codes, slot)
    # Of the starts slot - length + 1 to slot, those that the sample before does not give already.
    behind = np.diff(slot, prepend=0)
    new = np.where(np.diff(codes, prepend=-1) == 0, np.minimum(behind, length), length)
    device = np.repeat(codes, new).astype(np.int64)
    start = np.repeat(slot - new + 1, new) + count_up(new)
    ends_inside = start + length - 1 <= last[device]
    inside = (start >= first[device]) & (ends_inside | (start == first[device]))
    return start[inside], device[inside]
