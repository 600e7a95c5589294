"""A capture whose clock was set back while it ran: its frames are in the order in which they passed,
and their times are not.

    file order   10.0  11.0  12.0 | 3.0  4.0  5.0        the clock was set back by 9 s and more
    mended        1.0   2.0   3.0 | 3.0  4.0  5.0        what came before moves, since it was the wrong time

Sorted by time instead, connections would seem to send everything again.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from traffic.arrays import number_groups
from traffic.pcap.headers import TCP
from traffic.pcap.layers import read_layers
from traffic.pcap.records import Records
from traffic.pcap.tcp import FIN, RST, SYN

_STEP_S = 1.0  # no reordering on the way to the file is as long as this
_NEAR, _MOST_STEPS = 500, 20


def find_clock_steps(
    ts: np.ndarray, frame: np.ndarray, near: Callable[[int, int], Records], file: int
) -> pd.DataFrame:
    """The frames that are over a second older than the one before them: ``ts back_s file frame``,
    and whether the clock was ``set`` there: TCP goes on where it was, in the order of the file.

    Args:
        ts, frame: times and numbers of a file's records, shape (n,).
        near: gives the records from one row to before another.
        file: its number.
    """
    back_s = -np.diff(ts, prepend=ts[:1])
    rows = np.flatnonzero(back_s > _STEP_S)
    steps = pd.DataFrame({"ts": ts[rows], "back_s": back_s[rows], "row": rows})
    steps["file"], steps["frame"] = file, frame[rows].astype(np.int64)
    # Times that would lie before the epoch when they are moved were not the wrong ones.
    earliest_s = ts[: rows.max(initial=0)].min(initial=np.inf)
    plausible = len(rows) <= _MOST_STEPS and back_s[rows].sum() <= earliest_s
    steps["set"] = [plausible and _goes_on(near, int(row)) for row in rows]
    return steps.astype({"set": bool})


def mend_clock(ts: np.ndarray, steps: pd.DataFrame) -> np.ndarray:
    """Move what came before the clock was set, so that it ends right before what came after."""
    for row in steps["row"].to_numpy()[steps["set"].to_numpy()]:
        before = np.diff(ts[max(0, row - _NEAR) : row])
        usual_s = float(np.median(before[before >= 0])) if (before >= 0).any() else 0.0
        shift_s = min(ts[row - 1] - ts[row] + usual_s, ts[:row].min())
        ts = np.concatenate([ts[:row] - shift_s, ts[row:]])
    return ts


def _goes_on(near: Callable[[int, int], Records], row: int) -> bool:
    """Whether the connections around a frame go on there in the order of the file.

    Files that were joined in the wrong order have none that do; neither has a frame that came late.
    """
    first = max(0, row - _NEAR)
    part = near(first, row + _NEAR)
    if not (part.ts[row - first :] < part.ts[row - first - 1]).mean() > 0.5:
        return False  # a frame that came late, alone
    layers = read_layers(part)
    ip, transport = layers.ip, layers.transport
    tcp = np.flatnonzero((ip.proto == TCP) & transport.has_tcp)
    ends = [ip.src_high, ip.src_low, ip.dst_high, ip.dst_low, transport.sport, transport.dport]
    if not len(tcp):
        return False
    way = number_groups(*(column[tcp].astype(np.int64) for column in ends))[0]
    order = np.argsort(way, kind="stable")
    tcp, way = tcp[order], way[order]
    late, flags = ip.row[tcp] >= row - first, transport.flags[tcp]
    across = (way[1:] == way[:-1]) & late[1:] & ~late[:-1]
    across &= (flags[1:] & (SYN | RST) == 0) & (flags[:-1] & (FIN | RST) == 0)
    marks = flags & SYN > 0
    end = transport.seq[tcp].astype(np.int64) + transport.payload[tcp] + marks
    gone_on = transport.seq[tcp][1:] == end[:-1].astype(np.uint32)
    return bool(across.any() and gone_on[across].mean() > 0.5)
