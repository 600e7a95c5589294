"""Events and their tallies: the form that every kind of evidence takes on its way into a Capture."""

import numpy as np
import pandas as pd

from traffic.capture import SAMPLE_S

__all__ = ["make_events", "number_names", "tally_events"]

_KEYS = ["slot", "src", "dst", "code"]


def make_events(rows: pd.DataFrame) -> pd.DataFrame:
    """Events as ``ts src dst code target``; ``code`` and ``target`` (what was asked for) are -1 where there is none."""
    none = pd.Series(-1, index=rows.index)
    extra = {name: rows.get(name, none) for name in ("code", "target")}
    return rows[["ts", "src", "dst"]].assign(**extra)


def tally_events(events: pd.DataFrame, kind: str) -> pd.DataFrame:
    """One row per ``slot src dst code``: how many events (``count``), how many different targets (``distinct``).

    A column ``distinct`` in ``events`` says the latter outright.
    """
    events = events.assign(slot=np.floor(events["ts"] / SAMPLE_S).astype(np.int64))
    groups = events.groupby(_KEYS)
    tally = groups.size().rename("count").reset_index()
    if "distinct" in events:
        distinct = groups["distinct"].max().to_numpy()
    else:
        targets = events.loc[events["target"] >= 0, [*_KEYS, "target"]].drop_duplicates().groupby(_KEYS).size()
        distinct = targets.reindex(pd.MultiIndex.from_frame(tally[_KEYS]), fill_value=0).to_numpy()
    return tally.astype("int64").assign(distinct=distinct.astype(np.int64), kind=kind)


def number_names(texts: np.ndarray) -> np.ndarray:
    """Equal numbers for equal names.

    Args:
        texts: shape (n, width), uint8; a name ends at its first 0, and capitals equal small letters.

    Returns:
        Shape (n,), int64.

    >>> number_names(np.frombuffer(b"Ab\0xab\0y", np.uint8).reshape(2, 4))
    array([0, 0])
    """
    ended = np.cumsum(texts == 0, axis=1) > 0
    capital = (texts >= ord("A")) & (texts <= ord("Z"))
    texts = np.where(ended, 0, texts + 32 * capital.astype(np.uint8)).astype(np.uint8)
    names = np.ascontiguousarray(texts).view(f"S{texts.shape[1]}").ravel()
    return np.unique(names, return_inverse=True)[1].astype(np.int64)
