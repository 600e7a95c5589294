"""Render windows as short texts: one word for each fact and its level, what is zero not said.

    known_min.mean=9 out_pkts.max=4 unanswered_out.max=7 unanswered_out.over=11 streak.before=3 ...

A word names a column of samples, what is said of it (`traffic.window_facts`: mean, max and spread
over the minute, mean and highest of the four minutes before, how far over or under the device's own
past) and one of twelve levels, the quantiles of that fact among windows in which it is not zero.
Steady traffic gives equal text. No addresses, names or ports: a text says what a device does, never
who it is.

window_facts.csv holds the facts and their levels; `finetune.pocket.choose_facts` made it.
"""

import hashlib
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from traffic.window_facts import CANDIDATES, make_window_facts, summarise_rows
from traffic.windows import Windows

LEVELS = 12
QUIET = "quiet"

_FILE = Path(__file__).parent / "window_facts.csv"


@cache
def fact_names() -> tuple[str, ...]:
    """The facts that a text may say, in the order in which it says them."""
    return tuple(_table().index)


@cache
def vocabulary() -> tuple[str, ...]:
    """Every word of a window's text."""
    words = [f"{name}={level}" for name in fact_names() for level in range(1, LEVELS + 1)]
    return (QUIET, *words)


def fingerprint() -> str:
    """A hash of everything that shapes a text; a model is good only for the texts it was trained
    on."""
    shape = f"{QUIET} {LEVELS} {' '.join(CANDIDATES)}\n"
    return hashlib.sha256(shape.encode() + _FILE.read_bytes()).hexdigest()[:16]


def make_levels(windows: Windows) -> np.ndarray:
    """The level of every fact, 0 where it is zero and not said.

    Returns:
        Shape (n_windows, len(fact_names())), int8, 0 to 12.
    """
    return quantise(make_window_facts(windows, fact_names()))


def quantise(facts: np.ndarray) -> np.ndarray:
    """Levels of facts: (n, len(fact_names())) numbers -> the same shape, int8.

    >>> quantise(np.zeros((1, len(fact_names())))).any()
    np.False_
    """
    levels = np.empty(facts.shape, np.int8)
    for place, edges in enumerate(_edges()):
        levels[:, place] = np.searchsorted(edges, facts[:, place], side="right") + 1
    levels[facts == 0] = 0
    return levels


def text_columns(rows: np.ndarray, columns: tuple[str, ...]) -> pd.DataFrame:
    """Exactly the numbers that the texts of laid-out windows hold, for classical models.

    Args:
        rows: shape (n, 9, len(columns)), as `traffic.window_facts.lay_out` makes it.
        columns: their names.

    Returns:
        Shape (n, len(fact_names())), int8.
    """
    facts = summarise_rows(rows, columns, fact_names())
    return pd.DataFrame(quantise(facts), columns=list(fact_names()))


def render_windows(windows: Windows) -> list[str]:
    """The text of every window."""
    return render_levels(make_levels(windows))


def render_levels(levels: np.ndarray) -> list[str]:
    """The text of every row of levels, shape (n, len(fact_names())); equal rows are written once."""
    packed = np.ascontiguousarray(levels, np.int8).view(f"V{levels.shape[1]}").ravel()
    _, first, place = np.unique(packed, return_index=True, return_inverse=True)
    different = levels[first]
    row, fact = np.nonzero(different)
    words = np.array(vocabulary()[1:], dtype=object)[
        fact * LEVELS + different[row, fact].astype(np.int64) - 1
    ]
    bounds = np.searchsorted(row, np.arange(len(different) + 1))
    texts = [" ".join(words[begin:end]) or QUIET for begin, end in pairwise(bounds)]
    return np.array(texts, dtype=object)[place].tolist()


@cache
def _table() -> pd.DataFrame:
    """Facts and the upper edges of their levels but the last, NaN where levels fall together."""
    return pd.read_csv(_FILE, index_col="fact")


@cache
def _edges() -> tuple[np.ndarray, ...]:
    # As precise as the facts are: a number that lies on an edge must reach it.
    return tuple(row[~np.isnan(row)] for row in _table().to_numpy(np.float32))
