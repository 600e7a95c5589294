"""Events and their tallies: the form that every kind of evidence takes on its way into a
Capture."""

import numpy as np
import pandas as pd

from traffic.arrays import number_groups
from traffic.capture import SAMPLE_S

_KEYS = ["slot", "src", "dst", "kind", "code"]


def make_events(rows: pd.DataFrame) -> pd.DataFrame:
    """Events as ``ts src dst code target distinct``.

    ``code`` and ``target`` (what was asked for) are -1 where there is none, ``distinct`` where it
    is to be counted.
    """
    events = {name: rows[name].to_numpy() for name in ("ts", "src", "dst")}
    for name in ("code", "target", "distinct"):
        events[name] = rows[name].to_numpy() if name in rows else np.full(len(rows), -1)
    return pd.DataFrame(events)


def tally_events(events: list[tuple[str, pd.DataFrame]]) -> pd.DataFrame:
    """One row per ``slot src dst kind code``: how many events (``count``), how many different
    targets (``distinct``).

    Args:
        events: each kind with its events; sides are numbers of addresses.
    """
    kinds = sorted({kind for kind, _ in events})
    rows = pd.concat(
        [table.assign(kind=kinds.index(kind)) for kind, table in events if len(table)],
        ignore_index=True,
    )
    rows["slot"] = np.floor(rows["ts"] / SAMPLE_S).astype(np.int64)
    group, first = number_groups(*(rows[name].to_numpy() for name in _KEYS))
    tally = rows[_KEYS].iloc[first].astype("int64").reset_index(drop=True)
    tally["count"] = np.bincount(group)
    asked = np.flatnonzero(rows["target"] >= 0)
    once = asked[number_groups(group[asked], rows["target"].to_numpy()[asked])[1]]
    told = np.full(len(first), -1)
    np.maximum.at(told, group, rows["distinct"].to_numpy())
    tally["distinct"] = np.where(told >= 0, told, np.bincount(group[once], minlength=len(first)))
    tally["kind"] = pd.Series(kinds, dtype="str").take(tally["kind"].to_numpy()).to_numpy()
    return tally.astype({"kind": "str"})


def number_names(texts: np.ndarray) -> np.ndarray:
    """Equal numbers for equal names.

    Args:
        texts: shape (n, width), uint8; a name ends at its first 0, and capitals equal small
            letters.

    Returns:
        Shape (n,), int64.
    """
    ended = np.cumsum(texts == 0, axis=1) > 0
    capital = (texts >= ord("A")) & (texts <= ord("Z"))
    texts = np.where(ended, 0, texts + 32 * capital.astype(np.uint8)).astype(np.uint8)
    names = np.ascontiguousarray(texts).view(f"S{texts.shape[1]}").ravel()
    return np.unique(names, return_inverse=True)[1].astype(np.int64)
