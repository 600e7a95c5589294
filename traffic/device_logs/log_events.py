"""What stands out in logs: lines of a kind that was never there before, and far more of one than usual.

Only counts speak here. Whether lines tell of a failure is a flag, from their severity or, where they tell
none, from words such as "refused".
"""

import numpy as np
import pandas as pd

from traffic.arrays import starts_run
from traffic.device_logs.syslog import UNKNOWN

WARNING = 4  # a severity of RFC 5424
LEARN_S = (60.0, 600.0)  # a log is learned for a third of its length, within these bounds
_MINUTE_S = 60.0
_FEWEST = 10  # lines a minute of one kind that can be a burst
_TIMES = 5.0  # more than the usual minute
_HABIT = 2.0  # times the fullest minute before


def find_unusual(
    lines: pd.DataFrame, failing: set[int], start_s: float, end_s: float
) -> pd.DataFrame:
    """Find what stands out in logs during a capture; what came before is what it is measured by.

    Args:
        lines: ``ts device log template severity count line number``.
        failing: templates whose words tell of a failure.
        start_s: start of the capture.
        end_s: end of it.

    Returns:
        ``log_findings`` of ``DeviceRecords``, those that tell of failures first, then by count.
    """
    if lines.empty:
        return pd.DataFrame()
    groups = lines.groupby(["log", "template"])
    told = lines["severity"].where(lines["severity"] != UNKNOWN)
    kinds = pd.DataFrame(
        {
            "device": groups["device"].first(),
            "severity": told.groupby([lines["log"], lines["template"]]).min().fillna(UNKNOWN),
        }
    ).reset_index()
    kinds["severity"] = kinds["severity"].astype("int64")
    log = lines.groupby("log")["ts"].agg(["min", "max"])
    new = _find_new(lines, log, start_s, end_s)
    bursts = _find_bursts(lines, log, start_s, end_s)
    # A kind that is new has no past to burst from.
    pair = ["log", "template"]
    known = bursts.merge(new[pair], on=pair, how="left", indicator=True)["_merge"] == "left_only"
    found = pd.concat([new, bursts[known.to_numpy()]], ignore_index=True)
    found = found.merge(kinds, on=["log", "template"], how="left")
    worded = found["template"].isin(failing)
    told = found["severity"] != UNKNOWN
    found["complains"] = np.where(told, found["severity"] <= WARNING, worded).astype(bool)
    order = ["complains", "count", "start_s"]
    return found.sort_values(order, ascending=[False, False, True], ignore_index=True)


def _find_new(lines: pd.DataFrame, log: pd.DataFrame, start_s: float, end_s: float) -> pd.DataFrame:
    """Templates whose first line comes in the capture's time and after the log was learned."""
    first = lines.groupby(["log", "template"])["ts"].transform("min")
    begun = lines["log"].map(log["min"])
    length = lines["log"].map(log["max"]) - begun
    known = (length / 3).clip(*LEARN_S)
    new = lines[(first >= begun + known) & (first <= end_s) & (first >= start_s)]
    found = _summarise(new, ["log", "template"])
    begun_s = found["log"].map(log["min"])
    return found.assign(
        kind="new", before=0, before_s=found["start_s"] - begun_s, usual_per_min=0.0
    )


def _find_bursts(
    lines: pd.DataFrame, log: pd.DataFrame, start_s: float, end_s: float
) -> pd.DataFrame:
    """Spells of minutes with far more lines of a template than its usual minute, and than any
    minute before: what comes every hour is a habit."""
    keys = ["log", "template"]
    minute = np.floor(lines["ts"] / _MINUTE_S).astype("int64")
    lines = lines.assign(minute=minute)
    table = lines.groupby([*keys, "minute"], as_index=False)["count"].sum()
    first = np.floor(log["min"] / _MINUTE_S)
    length = (np.floor(log["max"] / _MINUTE_S) - first + 1).astype("int64")
    table["usual"] = _usual(table, table["log"].map(length))
    bound = np.maximum(_FEWEST, _TIMES * table["usual"])
    near = (table["minute"] * _MINUTE_S < end_s) & ((table["minute"] + 1) * _MINUTE_S > start_s)
    near &= table["minute"] >= table["log"].map(first) + LEARN_S[0] / _MINUTE_S
    high = table[(table["count"] > bound) & near]
    steps = high["minute"].to_numpy() - np.arange(len(high))
    high = high.assign(spell=np.cumsum(starts_run(*(high[key].to_numpy() for key in keys), steps)))
    found = _summarise(lines.merge(high[[*keys, "minute", "spell"]]), [*keys, "spell"])
    of = high.groupby("spell").agg(
        begin=("minute", "min"), peak=("count", "max"), usual_per_min=("usual", "first")
    )
    found = found.join(of, on="spell")
    past = table.merge(found[[*keys, "spell", "begin"]])
    past = past[past["minute"] < past["begin"]].groupby("spell")["count"].agg(["max", "sum"])
    past = past.reindex(found["spell"], fill_value=0)
    found["before"] = past["sum"].to_numpy()
    found["before_s"] = found["start_s"] - found["log"].map(log["min"])
    found = found[found["peak"] > _HABIT * past["max"].to_numpy()]
    return found.assign(kind="burst").drop(columns=["spell", "begin", "peak"])


def _usual(table: pd.DataFrame, minutes: pd.Series) -> np.ndarray:
    """The median count of each row's template over all minutes of its log, those without a line
    being 0."""
    keys = ["log", "template"]
    ordered = table.assign(minutes=minutes).sort_values([*keys, "count"])
    groups = ordered.groupby(keys)["count"]
    absent = ordered["minutes"] - groups.transform("size")
    middle = ordered[groups.cumcount() == (ordered["minutes"] - 1) // 2 - absent]
    usual = middle.set_index(keys)["count"]
    return usual.reindex(pd.MultiIndex.from_frame(table[keys])).fillna(0).to_numpy(float)


def _summarise(lines: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    groups = lines.groupby(keys)
    return groups.agg(
        start_s=("ts", "min"),
        end_s=("ts", "max"),
        count=("count", "sum"),
        first_line=("line", "min"),
        last_line=("line", "max"),
        low=("number", "min"),
        typical=("number", "median"),
        high=("number", "max"),
    ).reset_index()
