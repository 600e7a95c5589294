"""Join what is known to be true to windows: labels of flows, and intervals in which a device was at fault.

A flow's label counts only where the flow was active. From a log that is known at its start and end; between them only
if its packets are so many that every slot likely has one. The rest is `unknown`: left out of training and scoring.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from traffic.capture import SAMPLE_S, Capture
from traffic.labels import FAULTS, LABELS, NORMAL, UNKNOWN
from traffic.samples import COUNTED, TROUBLE
from traffic.windows import Windows

__all__ = ["label_samples", "label_windows"]

# Poisson: at three packets a slot, 95 % of slots hold one.
LIKELY_PKTS = 3.0
_CODES = {name: code for code, name in enumerate((*LABELS, UNKNOWN))}
_DIRECTIONS = np.array(["", "source", "target"], dtype=object)
# Like a fault, a man in the middle opens no flow of its own: what tells it is the trouble that it makes.
_TOLD_BY_TROUBLE = (*FAULTS, "spoofing")


def label_samples(
    samples: pd.DataFrame, capture: Capture, flow_labels: pd.Series, intervals: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The label and direction of every sample.

    Args:
        samples: ``device``, ``start_s``, ...
        capture: the flows and the slots in which they were active.
        flow_labels: our label (or ``unknown``) of every flow, shape (n_flows,).
        intervals: ``device start_s end_s label direction``; a sample is covered if half of it is. A fault or spoofing
            counts where the device shows a trace of trouble, any other attack where it shows anything at all; the
            other samples covered are ``unknown``: there is nothing to tell by. Normal intervals change nothing.

    Returns:
        Shape (n_samples, 2): ``label``, ``direction``. A flow's label goes before an interval's, and among flows that
        of the most packets counts.
    """
    slot = np.rint(samples["start_s"].to_numpy() / SAMPLE_S).astype(np.int64)
    keys = pd.MultiIndex.from_arrays([samples["device"], slot])
    truth = pd.DataFrame({"label": NORMAL, "direction": ""}, index=keys, dtype=object)
    for known in (_from_intervals(samples, slot, intervals), _from_flows(capture, flow_labels)):
        rows = known.index.get_indexer(keys)
        truth.loc[rows >= 0] = known.to_numpy()[rows[rows >= 0]]
    return truth.reset_index(drop=True)


def label_windows(
    windows: Windows, capture: Capture, flow_labels: pd.Series, intervals: pd.DataFrame | None = None
) -> Windows:
    """Add ``label`` and ``direction`` to a table of windows: the label other than normal that covers most samples.

    A window without such a label is ``unknown`` if one of its samples is, else ``normal``.
    """
    truth = label_samples(windows.samples, capture, flow_labels, intervals)
    codes = np.append(truth["label"].map(_CODES).to_numpy(np.int64), _CODES[NORMAL])[windows.rows]  # (windows, 6)
    ways = np.append(truth["direction"].map({"": 0, "source": 1, "target": 2}).to_numpy(np.int64), 0)[windows.rows]
    counts = np.zeros((len(windows), len(_CODES)), np.int8)
    for place in range(codes.shape[1]):
        counts[np.arange(len(windows)), codes[:, place]] += 1
    unknown = counts[:, _CODES[UNKNOWN]] > 0
    counts[:, [_CODES[NORMAL], _CODES[UNKNOWN]]] = 0
    code = np.where(counts.any(axis=1), counts.argmax(axis=1), np.where(unknown, _CODES[UNKNOWN], _CODES[NORMAL]))
    mine = codes == code[:, None]
    source, target = ((mine & (ways == way)).sum(axis=1) for way in (1, 2))
    direction = np.where(counts.any(axis=1), np.where(source >= target, 1, 2), 0)
    label = np.array([*LABELS, UNKNOWN], dtype=object)[code]
    return replace(windows, table=windows.table.assign(label=label, direction=_DIRECTIONS[direction]))


def _from_intervals(samples: pd.DataFrame, slot: np.ndarray, intervals: pd.DataFrame | None) -> pd.DataFrame:
    """Samples at least half of which an interval covers; the later of two intervals counts."""
    middle, troubled = (slot + 0.5) * SAMPLE_S, _troubled(samples)
    active = (samples[list(COUNTED)] > 0).any(axis=1).to_numpy()
    parts = [pd.DataFrame({"device": [], "slot": [], "label": [], "direction": []}, dtype=object)]
    told = intervals[intervals["label"] != NORMAL] if intervals is not None else pd.DataFrame()
    for row in told.itertuples(index=False):
        shown = troubled if row.label in _TOLD_BY_TROUBLE else active
        inside = (samples["device"] == row.device).to_numpy() & (middle >= row.start_s) & (middle < row.end_s)
        label = np.where(shown[inside], row.label, UNKNOWN)
        direction = np.where(shown[inside], row.direction, "")
        parts.append(pd.DataFrame({"slot": slot[inside], "device": row.device, "label": label, "direction": direction}))
    known = pd.concat(parts).drop_duplicates(["device", "slot"], keep="last")
    return known.set_index(["device", "slot"])[["label", "direction"]]


def _troubled(samples: pd.DataFrame) -> np.ndarray:
    """Whether a sample shows anything a fault could be told by, shape (n_samples,): failures, silence, a peak."""
    quiet = (samples["quiet_slots"] > 0) & (samples["active_share"] >= 0.5)
    peak = samples["bytes_ratio"] >= 2
    return ((samples[list(TROUBLE)] > 0).any(axis=1) | quiet | peak).to_numpy()


def _from_flows(capture: Capture, flow_labels: pd.Series) -> pd.DataFrame:
    """Per device and slot, the label of its marked flows' most packets; source for who opened them."""
    flows = capture.flows
    marked = np.flatnonzero((flow_labels != NORMAL).to_numpy())
    active = _active(flows, capture.activity, marked)
    active["label"] = np.where(active["sure"], flow_labels.to_numpy()[active["flow"]], UNKNOWN)
    active["rank"] = np.where(active["label"] == UNKNOWN, -1, active["pkts"])
    ends = [
        active.assign(device=flows[column].to_numpy()[active["flow"]], direction=direction)
        for column, direction in (("id.orig_h", "source"), ("id.resp_h", "target"))
    ]
    cells = pd.concat(ends).groupby(["device", "slot", "label", "direction"], sort=False)["rank"].sum().reset_index()
    cells = cells.sort_values("rank", kind="stable").drop_duplicates(["device", "slot"], keep="last")
    cells.loc[cells["label"] == UNKNOWN, "direction"] = ""
    return cells.set_index(["device", "slot"])[["label", "direction"]]


def _active(flows: pd.DataFrame, activity: pd.DataFrame, marked: np.ndarray) -> pd.DataFrame:
    """Every slot in a marked flow's span: ``flow slot pkts sure``."""
    ts = flows["ts"].to_numpy()[marked]
    duration = np.nan_to_num(flows["duration"].to_numpy(float)[marked], nan=0.0)
    first, last = np.floor(ts / SAMPLE_S).astype(np.int64), np.floor((ts + duration) / SAMPLE_S).astype(np.int64)
    span = last - first + 1
    place = np.arange(span.sum()) - np.repeat(np.cumsum(span) - span, span)
    spans = pd.DataFrame({"flow": np.repeat(marked, span), "slot": np.repeat(first, span) + place})
    pkts = activity.assign(pkts=activity["orig_pkts"] + activity["resp_pkts"]).set_index(["flow", "slot"])["pkts"]
    spans = spans.join(pkts, on=["flow", "slot"])
    edge = (place == 0) | (place == np.repeat(span - 1, span))
    total = spans.groupby("flow", sort=False)["pkts"].transform("sum")
    rate = total / np.repeat(span, span)
    spans["sure"] = edge | (spans["pkts"].notna() & (rate >= LIKELY_PKTS))
    spans["pkts"] = spans["pkts"].fillna(0) + 1
    return spans
