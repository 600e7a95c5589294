"""What stands out in sensor readings, each sensor measured by its own past: frozen, gone, jumping, far off."""

import numpy as np
import pandas as pd

from traffic.arrays import starts_run

FEWEST = 60  # readings from which a sensor's values are known
FEWEST_TIMED = 8  # readings from which its rhythm is
_RUNS = 20  # changes of value without which a constant is no freeze
_FROZEN, _FROZEN_TIMES = 10, 3.0  # equal readings; times its usual longest run
_GAP_PERIODS, _GAP_SPREADS = 3.0, 20.0
_SPREADS, _JUMP_TIMES = 12.0, 3.0
_MAD = 1.4826
_HABIT, _HABIT_SHARE = 5, 0.02  # so many jumps or gaps are how a sensor is


def describe_sensors(readings: pd.DataFrame) -> pd.DataFrame:
    """Summarise each sensor.

    Args:
        readings: ``ts sensor value``, sorted by sensor and time.

    Returns:
        ``sensor readings missing start_s end_s period_s``, in the order of the sensors.
    """
    step_s = readings.groupby("sensor", observed=True)["ts"].diff()
    table = readings.assign(step_s=step_s, missing=readings["value"].isna())
    groups = table.groupby("sensor", observed=True)
    return groups.agg(
        readings=("ts", "size"),
        missing=("missing", "sum"),
        start_s=("ts", "min"),
        end_s=("ts", "max"),
        period_s=("step_s", "median"),
    ).reset_index()


def find_unusual_readings(readings: pd.DataFrame, start_s: float, end_s: float) -> pd.DataFrame:
    """Find what stands out while the capture ran; all readings are what it is measured by.

    Args:
        readings: ``ts sensor value``, sorted by sensor and time.
        start_s: start of the capture.
        end_s: end of it.

    Returns:
        ``sensor kind start_s end_s count value usual``, as ``DeviceRecords`` says, by time.
    """
    size = readings.groupby("sensor", observed=True)["ts"].transform("size").to_numpy()
    timed, known = (readings[size >= n].reset_index(drop=True) for n in (FEWEST_TIMED, FEWEST))
    found = [_find_gaps(timed, end_s)] if len(timed) else []
    if len(known):
        found += [_find_frozen(known), _find_jumps(known), _find_outliers(known)]
    if not found:
        return pd.DataFrame()
    table = pd.concat(found, ignore_index=True)
    near = (table["start_s"] <= end_s) & (table["end_s"] >= start_s)
    return table[near].sort_values(["start_s", "sensor"], kind="stable", ignore_index=True)


def _find_frozen(readings: pd.DataFrame) -> pd.DataFrame:
    """Runs of one value, three times as long as nearly all others of the sensor and more."""
    runs = _runs_of(readings, readings["value"].to_numpy())
    runs = runs[runs["value"].notna()]
    lengths = runs.groupby("sensor", observed=True)["count"]
    usual = lengths.transform(lambda values: values.quantile(0.95))
    before = lengths.cumcount()
    bound = np.maximum(_FROZEN, _FROZEN_TIMES * usual)
    frozen = runs.assign(usual=usual)[(runs["count"] > bound) & (before >= _RUNS)]
    return frozen.assign(kind="frozen")


def _find_gaps(readings: pd.DataFrame, end_s: float) -> pd.DataFrame:
    """Times between readings far above the usual, and the time after the last one while other
    sensors of the file went on."""
    last_s = min(end_s, float(readings["ts"].max()))
    groups = readings.groupby("sensor", observed=True)["ts"]
    ends = groups.max().rename("start_s").reset_index().assign(end_s=last_s)
    between = readings.assign(start_s=groups.shift(), end_s=readings["ts"])
    spans = pd.concat([between[["sensor", "start_s", "end_s"]].dropna(), ends])
    step_s = (spans["end_s"] - spans["start_s"]).to_numpy()
    step = groups.diff()
    usual = step.groupby(readings["sensor"], observed=True).median()
    apart = (step - readings["sensor"].map(usual).astype(float)).abs()
    spread = _MAD * apart.groupby(readings["sensor"], observed=True).median()
    period = spans["sensor"].map(usual).to_numpy(float)
    bound = period + _GAP_SPREADS * spans["sensor"].map(spread).to_numpy(float)
    spans = spans.assign(kind="gap", count=0, value=np.nan, usual=period)
    spans = spans[step_s > np.maximum(bound, _GAP_PERIODS * period)]
    # What comes again and again is how the sensor reports.
    size = spans["sensor"].map(groups.size()).to_numpy(float)
    many = spans.groupby("sensor", observed=True)["kind"].transform("size").to_numpy()
    return spans[many <= np.maximum(_HABIT, _HABIT_SHARE * size)]


def _find_jumps(readings: pd.DataFrame) -> pd.DataFrame:
    """Steps far beyond the sensor's others, by their median absolute deviation."""
    by = readings["sensor"]
    step = readings.groupby("sensor", observed=True)["value"].diff()
    middle = step.groupby(by, observed=True).transform("median")
    spread = _MAD * (step - middle).abs().groupby(by, observed=True).transform("median")
    size = step.abs()
    usual = size.groupby(by, observed=True).transform(lambda values: values.quantile(0.95))
    bound = np.maximum(_SPREADS * spread, _JUMP_TIMES * usual)
    high = (size > bound) & (bound > 0)
    few = high.groupby(by, observed=True).transform("sum") <= _HABIT
    at = np.flatnonzero((high & few).to_numpy())
    ts = readings["ts"].to_numpy()
    return pd.DataFrame(
        {
            "sensor": by.iloc[at].to_numpy(),
            "kind": "jump",
            "start_s": ts[at - 1],
            "end_s": ts[at],
            "count": 1,
            "value": step.to_numpy()[at],
            "usual": usual.to_numpy()[at],
        }
    )


def _find_outliers(readings: pd.DataFrame) -> pd.DataFrame:
    """Runs of values farther outside the range of 98 % of the sensor's than that range is wide."""
    groups = readings.groupby("sensor", observed=True)["value"]
    low = readings["sensor"].map(groups.quantile(0.01)).to_numpy(float)
    high = readings["sensor"].map(groups.quantile(0.99)).to_numpy(float)
    value = readings["value"].to_numpy()
    width = high - low
    side = np.where(value > high + width, 1, np.where(value < low - width, -1, 0))
    side[~(width > 0)] = 0
    far = np.where(side > 0, value - high, low - value)
    runs = _runs_of(readings.assign(far=far, bound=np.where(side > 0, high, low)), side)
    return runs[runs["mark"] != 0].assign(kind="outlier", usual=lambda table: table["bound"])


def _runs_of(readings: pd.DataFrame, mark: np.ndarray) -> pd.DataFrame:
    """Runs of readings of one sensor with equal marks: ``sensor start_s end_s count value mark``,
    the value being that of the farthest reading where the table tells how far each is."""
    code = readings["sensor"].cat.codes.to_numpy()
    run = np.cumsum(starts_run(code, mark)) - 1
    first = np.flatnonzero(starts_run(run))
    count = np.diff(first, append=len(run))
    shown = first
    if "far" in readings:
        order = np.lexsort((readings["far"].to_numpy(), run))
        shown = order[np.cumsum(count) - 1]
    table = readings.iloc[first][["sensor"]].reset_index(drop=True)
    ts = readings["ts"].to_numpy()
    table = table.assign(
        start_s=ts[first],
        end_s=ts[first + count - 1],
        count=count,
        value=readings["value"].to_numpy()[shown],
        mark=mark[first],
    )
    return table.assign(bound=readings["bound"].to_numpy()[first]) if "bound" in readings else table
