"""Rows with equal keys, as one number for each group of them."""

import numpy as np
import pandas as pd

_MOST = 1 << 62  # what a 64-bit number holds


def number_groups(*keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the groups of rows in which all keys are equal, in the order in which they appear.

    Args:
        keys: integers, shape (n,) each.

    Returns:
        The group of each row, shape (n,), and the first row of each group, shape (n_groups,), both
        int64.

    >>> number_groups(np.array([7, 7, 2]), np.array([0, 0, 0]))[0]
    array([0, 0, 1])
    """
    number, width = np.zeros(len(keys[0]), np.int64), 1
    for key in keys:
        low = int(key.min(initial=0))
        wide = int(key.max(initial=0)) - low + 1
        if width * wide >= _MOST:
            number, distinct = pd.factorize(number)
            width = len(distinct)
        number, width = number * wide + (key - low), width * wide
    group, distinct = pd.factorize(number)
    first = np.empty(len(distinct), np.int64)
    first[group[::-1]] = np.arange(len(group))[::-1]  # of equal places the last assignment stays
    return group, first


def best_rows(group: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The row of the highest value of each group that has rows, the last one of equals, in the
    order of the groups."""
    order = np.lexsort((value, group))
    ordered = group[order]
    return order[np.append(ordered[1:] != ordered[:-1], True)[: len(order)]]
