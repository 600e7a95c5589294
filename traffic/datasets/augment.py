"""Cleaning and augmentation: captures made from captures.

    clean:    drop_duplicates   split_at_jumps   drop_half_seen
    augment:  stretch   thin   take_device, take_flows ─▶ mix

Every function leaves its argument as it was.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from traffic.arrays import count_up
from traffic.capture import ACTIVITY_COLUMNS, EVIDENCE_COLUMNS, SAMPLE_S, Capture, join_evidence
from traffic.errors import UserError

_PAIR = ("id.orig_h", "id.resp_h")


def stretch(capture: Capture, factor: float) -> Capture:
    """Let everything take ``factor`` times as long, counted from the start of the capture's first
    slot.

    The packets that a flow sent in a slot spread evenly over what becomes of the part of the slot
    it was active in; evidence moves as a whole, to where its slot's middle comes to lie. Distinct
    targets of slots that fall together are added up.

    Raises:
        UserError: ``factor`` is not above 0.
    """
    if not factor > 0:
        raise UserError(
            f"a capture cannot be stretched by {factor}; expected a factor above 0; give another"
        )
    if not len(capture.flows) and not len(capture.evidence):
        return capture
    start_s = capture.start_s
    flows = capture.flows.assign(
        ts=start_s + (capture.flows["ts"] - start_s) * factor,
        duration=capture.flows["duration"] * factor,
    )
    middle = (capture.evidence["slot"] + 0.5) * SAMPLE_S
    evidence = capture.evidence.assign(slot=_slot(start_s + (middle - start_s) * factor))
    activity, evidence = _stretched(capture, factor), join_evidence([evidence])
    return replace(capture, flows=flows, activity=activity, evidence=evidence)


def _slot(ts: pd.Series) -> pd.Series:
    return np.floor(ts / SAMPLE_S).astype("int64")


def _stretched(capture: Capture, factor: float) -> pd.DataFrame:
    """Each row of activity dealt over the slots that its stretch of time comes to cover."""
    activity, start_s = capture.activity, capture.start_s
    flow = activity["flow"].to_numpy()
    first_s = capture.flows["ts"].to_numpy()[flow]
    last_s = first_s + np.nan_to_num(capture.flows["duration"].to_numpy(float)[flow], nan=0.0)
    low = activity["slot"].to_numpy() * SAMPLE_S
    high = low + SAMPLE_S
    # A flow can be active after it counts as over; then all of the slot is its time. A microsecond
    # keeps the end of a slot in the slot.
    begin = np.where(first_s < high, np.maximum(first_s, low), low)
    end = np.where((last_s >= low) & (last_s < high), np.maximum(last_s, begin), high) - 1e-6
    begin, end = (start_s + (time - start_s) * factor for time in (begin, np.maximum(end, begin)))
    first, last = (np.floor(time / SAMPLE_S).astype(np.int64) for time in (begin, end))
    length = last - first + 1
    row = np.repeat(np.arange(len(activity)), length)
    place = count_up(length)
    dealt = {"flow": flow[row], "slot": first[row] + place}
    for side in ("orig", "resp"):
        pkts = activity[f"{side}_pkts"].to_numpy()[row]
        before, after = pkts * place // length[row], pkts * (place + 1) // length[row]
        dealt[f"{side}_pkts"] = after - before
        for name in (f"{side}_bytes", "orig_syns") if side == "orig" else (f"{side}_bytes",):
            total, whole = activity[name].to_numpy()[row], np.maximum(pkts, 1)
            dealt[name] = total * after // whole - total * before // whole
    parts = pd.DataFrame(dealt).groupby(["flow", "slot"], as_index=False).sum()
    seen = (parts["orig_pkts"] + parts["resp_pkts"] > 0) | ~parts["flow"].duplicated()
    return parts.loc[seen, ACTIVITY_COLUMNS].reset_index(drop=True)


def thin(capture: Capture, share: float, seed: int = 0) -> Capture:
    """Keep each flow with probability ``share``, whole or not at all: half a flow would be a loss,
    which is a fault.

    Evidence of a pair of addresses follows its flows; that of pairs without any, as unanswered ARP,
    is drawn likewise.

    Raises:
        UserError: ``share`` is not within 0 and 1.
    """
    if not 0 <= share <= 1:
        raise UserError(f"a share of {share} cannot be kept; expected 0 to 1; give another")
    rng = np.random.default_rng(seed)
    thinned = take_flows(capture, rng.random(len(capture.flows)) < share)
    loose = ~_pairs(capture.evidence, ("src", "dst")).isin(_pairs(capture.flows, _PAIR))
    kept = rng.random(len(capture.evidence)) < share
    evidence = [thinned.evidence, capture.evidence[loose & kept]]
    return replace(thinned, evidence=join_evidence(evidence))


def take_flows(capture: Capture, which: np.ndarray) -> Capture:
    """Some of a capture's flows, and of each pair's evidence the share that these flows are of the
    pair's flows.

    Args:
        capture: the whole.
        which: shape (n_flows,), bool.
    """
    which = np.asarray(which, bool)
    number = np.cumsum(which) - 1
    flow = capture.activity["flow"].to_numpy()
    activity = capture.activity[which[flow]].assign(flow=number[flow[which[flow]]])
    pairs = _pairs(capture.flows, _PAIR)
    kept = pd.Series(which, index=pairs).groupby(level=0).agg(["sum", "size"])
    of_pair = kept.reindex(_pairs(capture.evidence, ("src", "dst")), fill_value=0).to_numpy()
    evidence = capture.evidence.copy()
    for name in ("count", "distinct"):
        evidence[name] = evidence[name] * of_pair[:, 0] // np.maximum(of_pair[:, 1], 1)
    flows, evidence = capture.flows[which], evidence[evidence["count"] > 0]
    flows, activity, evidence = (t.reset_index(drop=True) for t in (flows, activity, evidence))
    return replace(capture, flows=flows, activity=activity, evidence=evidence)


def _pairs(table: pd.DataFrame, columns: tuple[str, str]) -> pd.Index:
    """Both addresses of each row, whichever comes first."""
    one, other = (table[column].astype("str").to_numpy(object) for column in columns)
    swap = one > other
    return pd.Index(np.where(swap, other, one) + " " + np.where(swap, one, other))


def take_device(capture: Capture, device: str) -> Capture:
    """A capture of one device: its flows, and all evidence in which it asked or was asked."""
    flows, evidence = capture.flows, capture.evidence
    which = (flows["id.orig_h"] == device) | (flows["id.resp_h"] == device)
    taken = take_flows(capture, which.to_numpy())
    mine = evidence[(evidence["src"] == device) | (evidence["dst"] == device)]
    return replace(taken, evidence=mine.reset_index(drop=True))


def mix(
    background: Capture, other: Capture, addresses: Mapping[str, str], later_s: float = 0.0
) -> Capture:
    """Add another capture's traffic to a background: a rare anomaly before new, benign traffic.

    Args:
        background: keeps its times and addresses.
        other: as ``take_flows`` and ``take_device`` cut it out.
        addresses: its devices' addresses -> those that they get.
        later_s: by how much it is moved in time, whole slots.

    Returns:
        All flows, packets and evidence of both.

    Raises:
        UserError: ``later_s`` is not a whole number of slots, which would tear samples apart.
    """
    slots = later_s / SAMPLE_S
    if slots != round(slots):
        raise UserError(
            f"later_s is {later_s}; expected a multiple of {SAMPLE_S:g}, whole samples; round it"
        )
    moved = other.flows.assign(ts=other.flows["ts"] + later_s)
    moved = moved.replace({column: dict(addresses) for column in _PAIR})
    evidence = other.evidence.assign(slot=other.evidence["slot"] + round(slots))
    evidence = evidence.replace({column: dict(addresses) for column in ("src", "dst")})
    activity = other.activity.assign(
        slot=other.activity["slot"] + round(slots),
        flow=other.activity["flow"] + len(background.flows),
    )
    flows = pd.concat([background.flows, moved], ignore_index=True)
    order = np.argsort(flows["ts"].to_numpy(), kind="stable")
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order))
    activity = pd.concat([background.activity, activity], ignore_index=True)
    activity = activity.assign(flow=number[activity["flow"]])
    return Capture(
        flows.iloc[order].reset_index(drop=True),
        activity.sort_values(["flow", "slot"], ignore_index=True),
        join_evidence([background.evidence, evidence]),
        notes=(*background.notes, *other.notes),
    )


def drop_duplicates(capture: Capture) -> Capture:
    """Keep flows that are equal in all but their uid, as of two taps or a log joined to itself,
    once."""
    columns = [name for name in capture.flows if name != "uid"]
    again = capture.flows.duplicated(columns).to_numpy()
    return _without(capture, again, "flows told twice were counted once")


def drop_half_seen(capture: Capture) -> Capture:
    """Leave out TCP flows of the first or last slot alone whose beginning or end the capture cuts
    off.

    Such a rest of a connection looks like an attempt that failed. Long flows stay: their middle is
    what they are.
    """
    flows = capture.flows
    ts = flows["ts"].to_numpy(float)
    end_s = ts + np.nan_to_num(flows["duration"].to_numpy(float), nan=0.0)
    state = flows["conn_state"].astype("str")
    headless, endless = ["OTH", "SHR", "RSTRH"], ["OTH", "S0", "S1", "S2", "S3"]
    cut = state.isin(headless) & (end_s < capture.start_s + SAMPLE_S)
    cut |= state.isin(endless) & (ts >= capture.end_s - SAMPLE_S)
    which = (cut & (flows["proto"] == "tcp")).to_numpy()
    return _without(capture, which, "flows cut by the capture's ends left out")


def _without(capture: Capture, which: np.ndarray, what: str) -> Capture:
    """Without some flows; evidence stays, because it was seen whatever became of the flow."""
    if not which.any():
        return capture
    notes = (*capture.notes, f"{int(which.sum())} {what}")
    return replace(take_flows(capture, ~which), evidence=capture.evidence, notes=notes)


def split_at_jumps(capture: Capture, gap_s: float = 3600.0) -> list[Capture]:
    """Cut a capture where nothing was seen for longer than ``gap_s``: the clock jumped, or nobody
    listened.

    Otherwise a device's history would span the jump. Every flow is in exactly one part, that of its
    start.

    Returns:
        The parts, in order; none for an empty capture.
    """
    slots = np.concatenate([capture.activity["slot"], capture.evidence["slot"]])
    slots = np.unique(slots.astype(np.int64))
    if not len(slots):
        return []
    heads = slots[np.flatnonzero((np.diff(slots, prepend=slots[0]) - 1) * SAMPLE_S > gap_s)]
    part = np.searchsorted(heads, _slot(capture.flows["ts"]), side="right")
    of_evidence = np.searchsorted(heads, capture.evidence["slot"], side="right")
    parts = []
    for number in range(len(heads) + 1):
        evidence = capture.evidence.loc[of_evidence == number, EVIDENCE_COLUMNS]
        taken = take_flows(capture, part == number)
        parts.append(replace(taken, evidence=evidence.reset_index(drop=True)))
    return parts
