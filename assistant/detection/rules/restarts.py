"""Devices that were gone for a moment and came back with nothing: a loss of power, a restart.

    says little   x . x . x . x . . . x x x x     x: a packet; its pause is hardly longer than others
    asked         a   a   a   a   v   a           v: asked in vain, who was always answered
    sessions      1---------------    1---------  all that it held are opened anew at once

Who speaks seldom is not missed by its rhythm (silences.py); that it opens whatever it held again,
all at once and after it left somebody without an answer, is no pause.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from assistant.detection.rules.rule import RuleHit
from assistant.facts.fact import Value, by_count, make_fact
from assistant.facts.spells import quiet_spell
from assistant.facts.traffic_view import TrafficView
from traffic.capture import SAMPLE_S

_MIN_HELD = 2  # connections
_MIN_QUIET_S = 10.0
_BACK_S = 10.0  # from the first that it says again to its connections
_HELD_S = 60.0  # a connection without an end was there if it was used so shortly before

_SENTENCES = {
    "restarted": "{device} was gone from {heard_time_s} to {back_time_s}: in these {quiet_s} it sent nothing and left "
    "{asked:packet} of {askers} without a reply, and then it opened all {n:connection} anew that it had held, as "
    "after a loss of power or a restart."
}


@dataclass(frozen=True)
class _Return:
    """When a device was heard last and again, and the connections that it opened anew."""

    left_s: float
    back_s: float
    opened: pd.DataFrame


def find_restarts(view: TrafficView) -> list[RuleHit]:
    """Devices that were silent for a moment, did not answer meanwhile, and then opened all of their
    connections anew."""
    rows = view.sessions
    mine = rows[rows["client"].isin(view.own)]
    again = mine[mine.duplicated(["client", "server", "port"]) & mine["begun"] & mine["opened"]]
    hits = []
    for device, opened in again.groupby("client", observed=True):
        if len(opened) < _MIN_HELD:
            continue
        held = mine[mine["client"] == device]
        for one in _find_returns(view, str(device), held, opened.sort_values("start_s")):
            hits += _blame(view, str(device), one)
    return hits


def _find_returns(
    view: TrafficView, device: str, held: pd.DataFrame, opened: pd.DataFrame
) -> Iterator[_Return]:
    """The times at which a device opened all that it held anew after it had said nothing.

    Args:
        held: its sessions as a client.
        opened: those that it had opened before to the same port, by time.
    """
    for start_s in opened.loc[opened["start_s"].diff().fillna(np.inf) > _BACK_S, "start_s"]:
        spell = quiet_spell(view, device, start_s - _BACK_S, start_s, _MIN_QUIET_S)
        if spell is None or spell[1] > start_s + SAMPLE_S:
            continue
        left_s, back_s = spell
        lasting = held["end_s"] > left_s
        lasting |= held["ended"].isin(["open", "idle", "unknown"]) & (
            held["end_s"] >= left_s - _HELD_S
        )
        before = held[(held["start_s"] < left_s) & held["opened"] & lasting]
        now = opened[opened["start_s"].between(back_s, back_s + 2 * _BACK_S)]
        ends = ["server", "port"]
        lost = pd.MultiIndex.from_frame(before[ends].astype(str)).unique()
        found = pd.MultiIndex.from_frame(now[ends].astype(str)).unique()
        if len(lost) >= _MIN_HELD and lost.isin(found).all():
            yield _Return(left_s, back_s, now)


def _blame(view: TrafficView, device: str, one: _Return) -> list[RuleHit]:
    """A hit at a device that left somebody without an answer meanwhile, whom it answered before."""
    rows = view.flow_slots
    calls = rows[(rows["dst"] == device) & (rows["proto"] == "tcp") & (rows["syns"] > 0)]
    known = calls.loc[calls["answered"] & (calls["since_s"] < one.left_s), "src"]
    vain = calls[~calls["answered"] & calls["since_s"].between(one.left_s, one.back_s)]
    vain = vain[vain["src"].isin(known) & view.by_clients(vain)]
    if vain.empty:
        return []
    askers = by_count(vain["src"].astype(str))
    servers = by_count(one.opened["server"].astype(str))
    values: dict[str, Value] = {
        "device": view.name_of(device),
        "heard_time_s": one.left_s,
        "back_time_s": one.back_s,
        "quiet_s": one.back_s - one.left_s,
        "asked": int(vain["syns"].sum()),
        "askers": view.names_of(askers),
        "n": len(one.opened),
    }
    fact = make_fact("restarted", _SENTENCES["restarted"], values)
    slots = np.arange(int(one.left_s // SAMPLE_S), int(one.back_s // SAMPLE_S) + 1)
    peers = tuple(dict.fromkeys((*askers, *servers)))
    return [RuleHit(device, "device_silent", "source", (fact,), peers, slots)]
