"""Delays of acknowledgements as counts by steps: small, exact to a tenth of a decade, and added up
whatever the capture was cut into.

    step        0        1   …      10       …      30       …      50
    delay       0.1 ms   0.126      1 ms            100 ms          10 s        ten steps a decade
"""

import numpy as np
import pandas as pd

from traffic.arrays import starts_run

_LEAST_S, _A_DECADE, _STEPS = 1e-4, 10, 63

# One row per slot of the acknowledgement, sender of the data, who acknowledged it, whether the data
# was a SYN, and step: ``count`` acknowledgements.
_TYPES = {
    "slot": "int64", "src": "category", "dst": "category", "handshake": "bool", "step": "int64",
    "count": "int64",
}  # fmt: skip
DELAY_COLUMNS = list(_TYPES)


def empty_delays() -> pd.DataFrame:
    """Delays of a capture that tells none, as a log of flows does not."""
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in _TYPES.items()})


def delay_step(delay_s: np.ndarray) -> np.ndarray:
    """The step of each delay, int64.

    >>> delay_step(np.array([0.0, 0.00105, 0.5]))
    array([ 0, 10, 36])
    """
    decades = np.log10(np.maximum(delay_s, _LEAST_S) / _LEAST_S)
    return np.minimum((decades * _A_DECADE).astype(np.int64), _STEPS)


def least_delay_s(step: int) -> float:
    """The shortest delay of a step.

    >>> round(least_delay_s(30), 6)
    0.1
    """
    return float(_LEAST_S * 10 ** (step / _A_DECADE))


def median_delays(group: np.ndarray, step: np.ndarray, count: np.ndarray) -> pd.Series:
    """The median delay of each group, in seconds: the middle of the step in which it lies.

    Args:
        group: shape (n,), any numbers.
        step, count: shape (n,), of the delays in each row.

    Returns:
        By group, sorted.

    >>> median_delays(np.array([7, 7, 4]), np.array([30, 10, 20]), np.array([5, 2, 1])).round(3)
    4    0.011
    7    0.112
    dtype: float64
    """
    order = np.lexsort((step, group))
    group, step, count = group[order], step[order], count[order]
    head = np.flatnonzero(starts_run(group))
    size = np.diff(head, append=len(group))
    until = np.cumsum(count)
    before = np.repeat((until - count)[head], size)
    total = np.repeat(np.add.reduceat(count, head) if len(head) else count, size)
    # The first row up to which half of the group lies.
    half = np.flatnonzero((until - before) * 2 >= total)
    half = half[starts_run(group[half])]
    middle_s = _LEAST_S * 10 ** ((step[half] + 0.5) / _A_DECADE)
    return pd.Series(middle_s, index=group[half])
