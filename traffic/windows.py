"""Group samples into windows: six consecutive samples of one device, the classifier's input.

samples    a b . d e f g      (. a slot in which nothing was seen)
windows    [a b . d e f]
             [b . d e f g]    each starts one sample later; a missing sample counts as zeros
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

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
    names, codes = _devices(samples)
    slot = np.rint(samples["start_s"].to_numpy() / SAMPLE_S).astype(np.int64)
    first, last = _ends(codes, slot, len(names))
    starts, device = _starts(codes, slot, first, last, length)

    base = slot.min(initial=0) - length
    width = slot.max(initial=0) - base + length + 1
    key = codes.astype(np.int64) * width + slot - base  # sorted, as the samples are
    wanted = (
        device[:, None] * width + (starts[:, None] + np.arange(length)) - base
    )  # (windows, length)
    place = np.minimum(np.searchsorted(key, wanted), len(key) - 1) if len(key) else wanted
    rows = np.where(key[place] == wanted, place, -1) if len(key) else wanted

    active = np.append((samples[list(COUNTED)].to_numpy() > 0).any(axis=1), False)
    quiet = np.append((samples["quiet_slots"] > 0) & (samples["active_share"] >= 0.5), False)
    keep = (active[rows].sum(axis=1) >= min_active) | quiet[rows].any(axis=1)
    rows, starts, device = rows[keep], starts[keep], device[keep]
    table = pd.DataFrame(
        {
            "device": names[device],
            "start_s": starts * SAMPLE_S,
            "end_s": (starts + length) * SAMPLE_S,
        }
    ).astype({"device": "str"})
    return Windows(samples, table, rows)


def _devices(samples: pd.DataFrame) -> tuple[pd.Index, np.ndarray]:
    codes, names = pd.factorize(samples["device"])
    return pd.Index(names), codes


def _ends(codes: np.ndarray, slot: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    first, last = np.full(n, np.iinfo(np.int64).max), np.full(n, np.iinfo(np.int64).min)
    np.minimum.at(first, codes, slot)
    np.maximum.at(last, codes, slot)
    return first, last


def _starts(
    codes: np.ndarray, slot: np.ndarray, first: np.ndarray, last: np.ndarray, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Every start from which a window holds at least one sample, as (slots, device codes)."""
    span = 1 << 40
    candidates = (
        codes.astype(np.int64)[:, None] * span + slot[:, None] - np.arange(length)
    ).ravel()
    candidates = np.unique(candidates)
    device = (candidates + (1 << 20)) // span if len(candidates) else candidates
    start = candidates - device * span
    inside = (start >= first[device]) & (
        (start + length - 1 <= last[device]) | (start == first[device])
    )
    return start[inside], device[inside]
