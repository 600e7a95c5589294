"""Verdicts of a recent past that is read again and again: each window is judged once, and again only
where later input changed what it holds."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from assistant.detection.classify import classify
from assistant.llm.adapters import AdapterCard
from assistant.llm.remembered import RememberedScores, Scorer
from assistant.monitor.state import CHANCES, VERDICT_COLUMNS
from traffic.capture import SAMPLE_S
from traffic.plant import Plant
from traffic.samples import COUNTED
from traffic.windows import WINDOW_SAMPLES, Windows

# Of 50 busy devices those of half an hour or more, some 7 MB at most: texts that come again come soon.
_MOST_REMEMBERED = 10_000
_SEED = 20_261_127


@dataclass(frozen=True)
class Judged:
    """Verdicts of all windows, and which of them are new.

    Attributes:
        verdicts: one row per window, as ``assistant.detection.classify.classify`` gives it.
        fresh: shape (n_windows,), bool: judged now.
        revised: how many of these had been judged before.
    """

    verdicts: pd.DataFrame
    fresh: np.ndarray
    revised: int


class Judge:
    """A model, and the verdicts that it gave."""

    def __init__(
        self, llm: Scorer, card: AdapterCard, kept: pd.DataFrame, plant: Plant | None = None
    ) -> None:
        """Go on with kept verdicts, ``VERDICT_COLUMNS``; ``plant`` tells the devices' roles."""
        self._card, self._kept, self._plant = card, kept, plant
        self._scorer = RememberedScores(llm, _MOST_REMEMBERED)

    def judge(self, windows: Windows, revised_since_s: float) -> Judged:
        """Judge the windows that are new, or that hold something else than before.

        Args:
            windows: of the recent past.
            revised_since_s: what ended earlier is not judged again: there the recent past has lost
                the beginning of what goes on, and knows less than it did.
        """
        marks = mark_windows(windows)
        slot = np.rint(windows.table["start_s"].to_numpy(float) / SAMPLE_S).astype(np.int64)
        place = pd.DataFrame({"device": windows.table["device"], "slot": slot, "mark": marks})
        before = place.merge(self._kept, how="left", on=["device", "slot"], suffixes=("", "_kept"))
        known = before["label"].notna().to_numpy()
        same = before["mark_kept"].to_numpy(float) == marks.astype(float)
        same |= known & (windows.table["end_s"].to_numpy(float) < revised_since_s)
        fresh = np.flatnonzero(~same)
        verdicts = before[["label", "direction", "probability", "abstained", *CHANCES]].copy()
        if len(fresh):
            said = classify(windows.take(fresh), self._scorer, self._card, plant=self._plant)
            if same.any():
                said = said[verdicts.columns].set_index(fresh)
                verdicts = pd.concat([verdicts[same], said]).sort_index()
            else:
                verdicts = said[verdicts.columns]
        verdicts = verdicts.astype({"abstained": bool, "probability": np.float32})
        table = pd.concat([place, verdicts], axis=1)[VERDICT_COLUMNS]
        self._kept = table
        where = windows.table[["device", "start_s", "end_s"]].reset_index(drop=True)
        order = ["direction", "label", "probability", "abstained", *CHANCES]
        return Judged(
            pd.concat([where, verdicts[order]], axis=1), ~same, int((known & ~same).sum())
        )

    def nothing(self) -> Judged:
        """No verdicts, where there is nothing to judge."""
        columns = ["device", "start_s", "end_s", "direction", "label", "probability", "abstained"]
        empty = pd.DataFrame(columns=[*columns, *CHANCES])
        return Judged(empty, np.zeros(0, bool), 0)

    def rows_of(self, which: np.ndarray) -> pd.DataFrame:
        """Some of the verdicts that were given last, ``VERDICT_COLUMNS``; none of ``nothing``."""
        return self._kept[which] if len(which) else self._kept.iloc[:0]

    def forget(self) -> None:
        """Begin anew."""
        self._kept = self._kept.iloc[:0]


def mark_windows(windows: Windows) -> np.ndarray:
    """A number that changes with what is counted in a window, shape (n_windows,), int64 below 2**53.

    What the past says (`traffic.device_history`) is left out: the recent past moves on, and a window
    that was judged with more of it behind is not judged again with less.
    """
    rng = np.random.default_rng(_SEED)
    weights = rng.integers(1, 1 << 63, len(COUNTED), np.uint64) | np.uint64(1)
    places = rng.integers(1, 1 << 63, WINDOW_SAMPLES, np.uint64) | np.uint64(1)
    counted = windows.samples[list(COUNTED)].to_numpy(np.float32)
    marks = (counted.view(np.uint32).astype(np.uint64) * weights).sum(axis=1, dtype=np.uint64)
    marks ^= marks >> np.uint64(31)
    padded = np.append(marks, np.uint64(0))
    total = (padded[windows.rows] * places).sum(axis=1, dtype=np.uint64)
    return (total >> np.uint64(11)).astype(np.int64)
