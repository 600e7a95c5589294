"""Runs: windows of one device and label, enough of them in a row to be believed (k of n).

normal .   anomalous x   cause unclear ?                 k=3 of n=5, off=6

. x . . x . . . .          never three of five: no run
. x x . ? x . . . . . . .  raised at the third x; the sixth normal one in a row ends it
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from assistant.facts.profiles import PROFILES
from traffic.capture import SAMPLE_S
from traffic.labels import LABELS, NORMAL
from traffic.windows import Windows

_GAP_SLOTS = 60  # ten minutes without a window end a run: what came before is another story
_SURE = 0.99
_UNCLEAR = 12  # times as many windows of unclear cause as of one label
_LARGE_PKTS = 1000.0  # in a window; six windows share each sample, so one such window is no accident of an edge
_BOTH = 0.3  # of the probability mass on the weaker direction


@dataclass(frozen=True)
class VerdictRun:
    """Windows of one device and label.

    Attributes:
        device: address.
        label: one of ``LABELS`` but normal.
        role: ``source``, ``target`` or ``both``.
        rows: positions in the verdict table, sorted.
    """

    device: str
    label: str
    role: str
    rows: np.ndarray


def find_runs(
    verdicts: pd.DataFrame, windows: Windows, k: int = 3, n: int = 5, off: int = 6
) -> list[VerdictRun]:
    """Find runs of each device and label, and of mixed labels where only together they are enough.

    Args:
        verdicts: one row per window in the order of ``windows``, sorted by device and start.
        windows: for the size of a flood.
        k: anomalous windows of the last ``n`` decided ones that raise.
        n: see ``k``.
        off: windows in a row, normal or of another label, that end a run; those of unclear cause
            neither raise nor end one of a label, and raise one of their own only in great number.

    Returns:
        Runs, label by label; a mixed one carries the label with most probability over its windows.
    """
    decided = ~verdicts["abstained"].to_numpy(bool)
    label = verdicts["label"].to_numpy()
    odd = decided & (label != NORMAL)
    runs = []
    for name in LABELS[1:]:
        hit = odd & (label == name)
        if hit.any():
            at_once = np.zeros(len(hit), bool)
            if PROFILES[name].flood:
                at_once = _is_large_flood(verdicts, windows, hit)
            raised = _raised(verdicts, hit, decided & ~hit, at_once, k, n, off)
            runs += [_make_run(verdicts, name, rows) for rows in raised]
    taken = np.zeros(len(verdicts), bool)
    for run in runs:
        taken[run.rows] = True
    # Odd windows without a name say less each, so there must be minutes of them: a healthy camera on
    # a poor radio has some every day.
    unclear = label != NORMAL
    never = np.zeros(len(odd), bool)
    mixed = _raised(verdicts, odd, decided & ~odd, never, k, n, off)
    mixed += _raised(verdicts, unclear, ~unclear, never, _UNCLEAR * k, _UNCLEAR * n, off)
    for rows in mixed:
        if not taken[rows].any():
            runs.append(_make_run(verdicts, _heaviest(verdicts, rows), rows))
            taken[rows] = True
    return runs


def _raised(
    verdicts: pd.DataFrame,
    hit: np.ndarray,
    calm: np.ndarray,
    at_once: np.ndarray,
    k: int,
    n: int,
    off: int,
) -> list[np.ndarray]:
    """Rows of each run of hits that was raised: k of n with hysteresis, all devices at once."""
    if not hit.any():
        return []
    device = verdicts["device"].factorize()[0]
    slot = np.rint(verdicts["start_s"].to_numpy() / SAMPLE_S).astype(np.int64)
    apart = np.ones(len(hit), bool)
    apart[1:] = (device[1:] != device[:-1]) | (np.diff(slot) > _GAP_SLOTS)
    stretch = np.cumsum(apart)
    rank = np.cumsum(hit | calm)  # the place of a row among the decided ones

    rows = np.flatnonzero(hit)
    ended = (np.diff(rank[rows]) - 1 >= off) | (np.diff(stretch[rows]) > 0)
    run = np.concatenate([[0], np.cumsum(ended)])
    raised = at_once[rows]
    if len(rows) >= k:
        dense = (rank[rows[k - 1 :]] - rank[rows[: len(rows) - k + 1]] < n) & (
            run[k - 1 :] == run[: len(run) - k + 1]
        )
        raised[k - 1 :] |= dense
    pieces = np.split(rows, np.flatnonzero(ended) + 1)
    return [
        piece for piece, one in zip(pieces, np.unique(run), strict=True) if raised[run == one].any()
    ]


def _is_large_flood(verdicts: pd.DataFrame, windows: Windows, hit: np.ndarray) -> np.ndarray:
    sure = np.flatnonzero(hit & (verdicts["probability"].to_numpy() >= _SURE))
    pkts = windows.take(sure).values(["out_pkts", "in_pkts"]).sum(axis=(1, 2))
    large = np.zeros(len(hit), bool)
    large[sure[pkts >= _LARGE_PKTS]] = True
    return large


def _make_run(verdicts: pd.DataFrame, label: str, rows: np.ndarray) -> VerdictRun:
    part = verdicts.iloc[rows]
    mass = part["probability"].groupby(part["direction"]).sum()
    source, target = float(mass.get("source", 0.0)), float(mass.get("target", 0.0))
    role = "source" if source >= target else "target"
    if min(source, target) >= _BOTH * (source + target) > 0:
        role = "both"
    return VerdictRun(str(part["device"].iloc[0]), label, role, rows)


def _heaviest(verdicts: pd.DataFrame, rows: np.ndarray) -> str:
    mass = verdicts.iloc[rows][[f"p_{name}" for name in LABELS[1:]]].sum()
    return str(mass.idxmax()).removeprefix("p_")
