"""By how much a log's clock is ahead of the capture's, from lines that name traffic.

A line that names a peer was written when something happened to the traffic with it: a session opened or
ended, an attempt failed. Shifted by the right offset many such lines lie beside such an event, shifted
by any other only those that do so by chance:

    offset       -3600        0       +3600      +3601
    lines beside    1         2         41          9         the clock is 3,600 s ahead
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from traffic.arrays import number_groups

REACH_S = 15 * 3600.0  # the widest time zone, and an hour of summer
_BIN_S = 2.0  # syslog cuts seconds off; the event and its line lie a second apart
NEAR_S = 2.0  # a clock that is off by less agrees
_ZONE_S = 900.0  # time zones lie whole quarters of an hour apart
_AROUND_S = 600.0  # how far chance is measured
_FEWEST = 4  # lines that may decide
_MOMENT_S = 10.0  # they must be of so many moments too: one restart is one event, however many sessions it opens
_EDGE_S = 2.0
_SHARE = 0.6  # of the lines that fall into the capture
_RIVAL = 0.6  # an offset elsewhere may explain this share of what the best one explains
_CHANCE = 3.0  # it must explain so many times what offsets around it do on average
_MOST_LINES, _MOST_EVENTS = 600, 3000


@dataclass(frozen=True)
class ClockOffset:
    """What is known of a clock.

    Attributes:
        offset_s: seconds by which it is ahead of the capture's, NaN where that could not be told.
        matched: lines beside an event of the traffic that they name, once the offset is taken off.
        checked: lines that name traffic and then fall into the time of the capture.
    """

    offset_s: float = float("nan")
    matched: int = 0
    checked: int = 0


def list_traffic(flows: pd.DataFrame, device: str) -> pd.DataFrame:
    """Moments in a device's flows that a log may tell of: ``ts peer port``, both ends of each flow,
    once for either port.

    Args:
        flows: as in a capture.
        device: address.
    """
    pieces = []
    for own, other in (("id.orig", "id.resp"), ("id.resp", "id.orig")):
        mine = flows[(flows[f"{own}_h"] == device).to_numpy(bool)]
        start = mine["ts"].to_numpy(float)
        end = start + np.nan_to_num(mine["duration"].to_numpy(float), nan=0.0)
        for ts in (start, end):
            for port in (f"{own}_p", f"{other}_p"):
                port_no = mine[port].to_numpy()
                piece = {"ts": ts, "peer": mine[f"{other}_h"].to_numpy(), "port": port_no}
                pieces.append(pd.DataFrame(piece))
    return pd.concat(pieces, ignore_index=True).drop_duplicates(ignore_index=True)


def estimate_offset(
    lines: pd.DataFrame, traffic: pd.DataFrame, start_s: float, end_s: float
) -> ClockOffset:
    """Estimate a clock's offset.

    Args:
        lines: ``ts peer port`` of lines that name a peer; ``port`` -1 where they name none.
        traffic: ``ts peer port``, as ``list_traffic`` gives it.
        start_s: start of the capture.
        end_s: end of it.

    Returns:
        An offset that explains the lines well and far better than any other does, 0 where lines
        and traffic agree as they are; NaN without one.
    """
    # Sessions that were open before or after the capture begin and end with it: nothing happened then.
    first, last = traffic["ts"].min(), traffic["ts"].max()
    traffic = traffic[traffic["ts"].between(first + _EDGE_S, last - _EDGE_S)]
    lines = lines[lines["peer"].isin(traffic["peer"])]
    # Lines of one second and peer speak of one event.
    second = np.floor(lines["ts"])
    if (second == lines["ts"]).all():  # fractions were cut off: half a second on average
        lines = lines.assign(ts=second + 0.5)
    lines = lines.assign(second=second).drop_duplicates(["second", "peer", "port"])
    # A client's port names one connection; one that a thousand connections share names none.
    told = lines.merge(traffic[["peer", "port"]].drop_duplicates(), on=["peer", "port"])
    for named, keys in ((told, ["peer", "port"]), (lines, ["peer"])):
        found = _decide(named, traffic, keys, start_s, end_s)
        if np.isfinite(found.offset_s):
            return found
    return ClockOffset()


def _decide(
    lines: pd.DataFrame, traffic: pd.DataFrame, keys: list[str], start_s: float, end_s: float
) -> ClockOffset:
    if len(lines) < _FEWEST:
        return ClockOffset()
    lines = _thin(lines, _MOST_LINES).reset_index(drop=True)
    lines["line"] = np.arange(len(lines))
    events = _thin(traffic[["ts", *keys]].drop_duplicates(), _MOST_EVENTS)
    pairs = lines.merge(events, on=keys, suffixes=("", "_there"))
    apart = (pairs["ts"] - pairs["ts_there"]).to_numpy(float)
    near = np.abs(apart) <= REACH_S
    apart, line = apart[near], pairs["line"].to_numpy()[near]
    if not len(apart):
        return ClockOffset()
    own = lines["ts"].to_numpy(float)

    def explain(offset_s: float) -> ClockOffset:
        inside = (own - offset_s >= start_s - _BIN_S) & (own - offset_s <= end_s + _BIN_S)
        beside = np.unique(line[np.abs(apart - offset_s) <= _BIN_S])
        beside = beside[inside[beside]]
        return ClockOffset(offset_s, len(beside), int(inside.sum()))

    offsets, counts = _count_by_offset(apart, line)
    most = int(counts.max())

    def is_sure(found: ClockOffset) -> bool:
        """Whether it explains most lines, and far more than offsets of some minutes more or less."""
        around = np.abs(offsets - found.offset_s) <= _AROUND_S
        usual = counts[around].sum() * _BIN_S / 2 / (2 * _AROUND_S / _BIN_S)
        least = max(_FEWEST, _SHARE * found.checked, _CHANCE * usual, _RIVAL * most)
        beside = np.unique(line[np.abs(apart - found.offset_s) <= _BIN_S])
        moments = np.unique(np.floor(own[beside] / _MOMENT_S))
        return found.matched >= least and len(moments) >= _FEWEST

    # Zero first, then whole time zones, then any offset: what happens every ten seconds lies beside
    # many offsets, and people forget the zone more often than they set a clock wrong by 50 s.
    here = explain(0.0)
    if is_sure(here):
        return here
    zones = [explain(k * _ZONE_S) for k in range(-60, 61) if k]
    zones.sort(key=lambda one: -one.matched)
    if is_sure(zones[0]) and zones[1].matched <= _RIVAL * zones[0].matched:
        return zones[0]
    best = offsets[int(np.argmax(counts))]
    rival = int(counts[np.abs(offsets - best) > 2 * _BIN_S].max(initial=0))
    there = explain(float(np.round(np.median(apart[np.abs(apart - best) <= _BIN_S]))))
    return there if is_sure(there) and rival <= _RIVAL * most else ClockOffset()


def _count_by_offset(apart: np.ndarray, line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many lines lie beside an event for each offset, in bins that overlap by half."""
    offsets, counts = [], []
    for phase_s in (0.0, _BIN_S / 2):
        place = np.floor((apart + phase_s) / _BIN_S).astype(np.int64)
        _, first = number_groups(place, line)
        bins, n = np.unique(place[first], return_counts=True)
        offsets.append((bins + 0.5) * _BIN_S - phase_s)
        counts.append(n)
    return np.concatenate(offsets), np.concatenate(counts)


def _thin(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many rows, evenly chosen."""
    if len(rows) <= most:
        return rows
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, most).astype(np.int64))]
