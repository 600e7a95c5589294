"""Window facts: one number for each thing that can be said of a window, of its past and its habit.

    four minutes before            window
    |. . . . . . . . . . . . . .|a b . d e f|
     before, before_max           mean, max, spread        over, under: against the device's own past

What a device does in a minute says little without what it did before: a hundred retries are an
outage to one and every day to another. Everything here looks back only.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from traffic.capture import SAMPLE_S
from traffic.samples import COLUMNS
from traffic.windows import WINDOW_SAMPLES, Windows

BEFORE_SLOTS = 24  # four minutes
LEAST_PAST = 6  # samples of a device from which on it has a habit
# Six samples, then mean and highest of the slots before, and the mean of all of the past.
ROWS = WINDOW_SAMPLES + 3
STATISTICS = ("mean", "max", "spread", "before", "before_max", "over", "under")
# Each is said of every column of a sample, as "unanswered_out.max".
CANDIDATES = tuple(f"{column}.{statistic}" for statistic in STATISTICS for column in COLUMNS)

_AT_ONCE = 20_000  # windows laid out together: 50 MB of all columns
_DECIMALS = 4  # sums of float64 leave crumbs: what is equal is no excess


def make_window_facts(windows: Windows, names: Sequence[str] = CANDIDATES) -> np.ndarray:
    """The facts of every window.

    Args:
        windows: n of them, of samples sorted by device and start.
        names: which facts, some of ``CANDIDATES``.

    Returns:
        Shape (n, len(names)), float32. ``mean``, ``max`` and ``spread`` (standard deviation) are of
        the six samples, a missing one zeros; ``before`` and ``before_max`` are mean and highest of
        ``sign(x) * log(1 + |x|)`` over the 24 slots before; ``over`` and ``under`` how far the
        window's mean of that lies above or below the mean of all of the device's samples before, 0
        where these are fewer than six.
    """
    said = [tuple(name.rsplit(".", 1)) for name in names]
    columns = [name for name in COLUMNS if name in {column for column, _ in said}]
    # Five tables as large as the samples: only of the few columns that need it.
    highest = [column for column, statistic in said if statistic == "before_max"]
    made = _lay_out_parts(windows, columns, highest)
    parts = [summarise_rows(rows, columns, names) for rows in made]
    return np.concatenate(parts) if parts else np.zeros((0, len(names)), np.float32)


def lay_out(windows: Windows, columns: Sequence[str] = COLUMNS) -> np.ndarray:
    """Windows with their past as arrays, from which facts can be made without the samples.

    Returns:
        Shape (n, 9, len(columns)), float32: six samples as counted, then on a log scale mean and
        highest of the slots before, and the mean of all of the device's samples before, which is
        the window's own where these are fewer than six.
    """
    return np.concatenate(
        [np.zeros((0, ROWS, len(columns)), np.float32), *_lay_out_parts(windows, columns, columns)]
    )


def summarise_rows(rows: np.ndarray, columns: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """The facts of windows that `lay_out` made, shape (n, len(names)), float32.

    Args:
        rows: shape (n, 9, len(columns)).
        columns: their names.
        names: facts of these columns.
    """
    six, (before, before_max, past) = (
        rows[:, :WINDOW_SAMPLES],
        rows[:, WINDOW_SAMPLES:].swapaxes(0, 1),
    )
    excess = np.round(_scale(six).mean(axis=1) - past, _DECIMALS)
    made = {
        "mean": six.mean(axis=1),
        "max": six.max(axis=1),
        "spread": six.std(axis=1),
        "before": before,
        "before_max": before_max,
        "over": np.maximum(excess, 0),
        "under": np.maximum(-excess, 0),
    }
    place = {column: number for number, column in enumerate(columns)}
    facts = np.empty((len(rows), len(names)), np.float32)
    for number, name in enumerate(names):
        column, statistic = name.rsplit(".", 1)
        facts[:, number] = made[statistic][:, place[column]]
    return facts


def _lay_out_parts(
    windows: Windows, columns: Sequence[str], highest: Sequence[str]
) -> Iterator[np.ndarray]:
    """Twenty thousand windows at a time; the highest before is 0 but of some columns."""
    samples, table = windows.samples, windows.table
    codes, names = samples["device"].factorize()
    slot = np.rint(samples["start_s"].to_numpy() / SAMPLE_S).astype(np.int64)
    base = slot.min(initial=0) - BEFORE_SLOTS - 1
    width = slot.max(initial=0) - base + 2
    key = codes.astype(np.int64) * width + slot - base  # sorted, as the samples are
    device = names.get_indexer(table["device"]) * width
    begin = np.rint(table["start_s"].to_numpy() / SAMPLE_S).astype(np.int64) - base
    # Of each window: the first sample at or after its start, in the slots before, of the device.
    start = np.searchsorted(key, device + begin)
    early = np.searchsorted(key, device + np.maximum(begin - BEFORE_SLOTS, 0))
    first = np.searchsorted(key, device)
    raw = samples[list(columns)].to_numpy(np.float32)
    scaled = _scale(raw)
    total = np.zeros((len(raw) + 1, len(columns)))
    np.cumsum(scaled, axis=0, dtype=np.float64, out=total[1:])
    tall = [columns.index(column) for column in highest]
    reach = _Highest(scaled[:, tall])
    padded = np.vstack([raw, np.zeros((1, len(columns)), np.float32)])
    for at in range(0, len(windows), _AT_ONCE):
        part = slice(at, at + _AT_ONCE)
        rows = np.empty((len(start[part]), ROWS, len(columns)), np.float32)
        six = rows[:, :WINDOW_SAMPLES] = padded[windows.rows[part]]
        now, known = total[start[part]], (start - first)[part, None]
        before = (now - total[early[part]]) / BEFORE_SLOTS
        past = (now - total[first[part]]) / np.maximum(known, 1)
        rows[:, WINDOW_SAMPLES] = np.round(before, _DECIMALS)
        rows[:, WINDOW_SAMPLES + 1] = 0
        rows[:, WINDOW_SAMPLES + 1, tall] = reach.between(early[part], start[part])
        rows[:, WINDOW_SAMPLES + 2] = np.where(known >= LEAST_PAST, past, _scale(six).mean(axis=1))
        yield rows


def _scale(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.sign(values) * np.log1p(np.abs(values)), np.float32)


class _Highest:
    """The highest of up to 24 rows of a table anywhere, after doubling once (a sparse table)."""

    def __init__(self, values: np.ndarray) -> None:
        self._reach = [values]  # reach[k][i] is the highest of values[i : i + 2**k]
        for power in range(BEFORE_SLOTS.bit_length() - 1):
            last = self._reach[-1]
            self._reach.append(np.maximum(last[: -(2**power)], last[2**power :]))

    def between(self, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """The highest of ``values[first:last]`` by column, zeros where there is no row."""
        found = np.zeros((len(first), self._reach[0].shape[1]), np.float32)
        count = last - first
        for power, reach in enumerate(self._reach):
            which = np.flatnonzero((count >= 2**power) & (count < 2 ** (power + 1)))
            found[which] = np.maximum(reach[first[which]], reach[last[which] - 2**power])
        return found
