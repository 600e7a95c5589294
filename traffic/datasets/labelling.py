"""Labels of samples and windows, from labels of flows and from intervals of truth.

A flow's label counts only where the flow was active. From a log that is known at its start and
end; between them only if its packets are so many that every slot likely has one. The rest is
``unknown``: left out of training and scoring.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from traffic.arrays import count_up
from traffic.capture import SAMPLE_S, Capture
from traffic.labels import FAULTS, LABELS, NORMAL, UNKNOWN
from traffic.samples import COUNTED, TROUBLE
from traffic.windows import Windows

# Poisson: at three packets a slot, 95 % of slots hold one.
LIKELY_PKTS = 3.0
_CODES = {name: code for code, name in enumerate((*LABELS, UNKNOWN))}
# Like a fault, a man in the middle opens no flow of its own: it shows by the trouble that it makes.
SHOWN_BY_TROUBLE = (*FAULTS, "spoofing")
# A camera's one-way stream is "unanswered" every day: trouble is what exceeds nine of ten of the
# device's calm samples. Half of all fault windows of simulated plants showed no such excess.
_CALM_QUANTILE = 0.9
_LEAST_CALM = 6  # samples; with fewer nothing is known of a device's habit, and any trouble counts


def label_samples(
    samples: pd.DataFrame, capture: Capture, flow_labels: pd.Series, intervals: pd.DataFrame | None
) -> pd.DataFrame:
    """The label and direction of every sample.

    Args:
        samples: ``device``, ``start_s``, ...
        capture: the flows and the slots in which they were active.
        flow_labels: our label (or ``unknown``) of every flow, shape (n_flows,).
        intervals: ``device start_s end_s label direction``; a sample is covered if half of it is. A
                fault or spoofing counts where the device shows more trouble than in its calm samples,
            any other attack where it shows anything at all; the other samples covered are
            ``unknown``: there is nothing to tell by. Normal intervals change nothing.

    Returns:
        Shape (n_samples, 2): ``label``, ``direction``. A flow's label goes before an interval's,
        and among flows that of the most packets counts.
    """
    slot = np.rint(samples["start_s"].to_numpy() / SAMPLE_S).astype(np.int64)
    keys = pd.MultiIndex.from_arrays([samples["device"], slot])
    truth = pd.DataFrame({"label": NORMAL, "direction": ""}, index=keys, dtype=object)
    for known in (_from_intervals(samples, slot, intervals), _from_flows(capture, flow_labels)):
        rows = known.index.get_indexer(keys)
        truth.loc[rows >= 0] = known.to_numpy()[rows[rows >= 0]]
    return truth.reset_index(drop=True)


def label_windows(
    windows: Windows,
    capture: Capture,
    flow_labels: pd.Series,
    intervals: pd.DataFrame | None = None,
) -> Windows:
    """Add ``label`` and ``direction`` to a table of windows: the label other than normal that
    covers most samples.

    A window without such a label is ``unknown`` if one of its samples is, else ``normal``.
    """
    truth = label_samples(windows.samples, capture, flow_labels, intervals)
    normal, unknown = _CODES[NORMAL], _CODES[UNKNOWN]
    # A window's row -1, where the device has no sample, is the last of these.
    codes = np.append(truth["label"].map(_CODES).to_numpy(np.int64), normal)[windows.rows]
    source, target = (
        np.append(truth["direction"] == way, False)[windows.rows] for way in ("source", "target")
    )
    counts = np.zeros((len(windows), len(_CODES)), np.int8)
    for place in range(codes.shape[1]):
        counts[np.arange(len(windows)), codes[:, place]] += 1
    without = np.where(counts[:, unknown] > 0, unknown, normal)
    counts[:, [normal, unknown]] = 0
    some = counts.any(axis=1)
    code = np.where(some, counts.argmax(axis=1), without)
    mine = codes == code[:, None]
    outward = (mine & source).sum(axis=1) >= (mine & target).sum(axis=1)
    direction = np.where(some, np.where(outward, "source", "target"), "").astype(object)
    label = np.array([*LABELS, UNKNOWN], dtype=object)[code]
    return replace(windows, table=windows.table.assign(label=label, direction=direction))


def _from_intervals(
    samples: pd.DataFrame, slot: np.ndarray, intervals: pd.DataFrame | None
) -> pd.DataFrame:
    """Samples at least half of which an interval covers; the later of two intervals counts."""
    middle = (slot + 0.5) * SAMPLE_S
    active = (samples[list(COUNTED)] > 0).any(axis=1).to_numpy()
    parts = [pd.DataFrame({"device": [], "slot": [], "label": [], "direction": []}, dtype=object)]
    events = intervals[intervals["label"] != NORMAL] if intervals is not None else pd.DataFrame()
    device = samples["device"].to_numpy()
    spans = [
        (device == row.device) & (middle >= row.start_s) & (middle < row.end_s)
        for row in events.itertuples(index=False)
    ]
    covered = np.logical_or.reduce(spans) if spans else np.zeros(len(samples), bool)
    troubled = _troubled(samples, ~covered)
    for row, inside in zip(events.itertuples(index=False), spans, strict=True):
        shown = troubled if row.label in SHOWN_BY_TROUBLE else active
        part = pd.DataFrame({"slot": slot[inside], "device": row.device})
        part["label"] = np.where(shown[inside], row.label, UNKNOWN)
        part["direction"] = np.where(shown[inside], row.direction, "")
        parts.append(part)
    known = pd.concat(parts).drop_duplicates(["device", "slot"], keep="last")
    return known.set_index(["device", "slot"])[["label", "direction"]]


def _troubled(samples: pd.DataFrame, calm: np.ndarray) -> np.ndarray:
    """Whether a sample shows more failures than its device's calm ones, silence or a peak, (n,)."""
    device = samples["device"]
    counts = samples[list(TROUBLE)]
    usual = counts[calm].groupby(device[calm]).quantile(_CALM_QUANTILE, interpolation="lower")
    known = device[calm].value_counts()
    usual = usual[usual.index.map(known) >= _LEAST_CALM].reindex(device, fill_value=0.0)
    quiet = (samples["quiet_slots"] > 0) & (samples["active_share"] >= 0.5)
    peak = samples["bytes_ratio"] >= 2
    return (counts.to_numpy() > usual.to_numpy()).any(axis=1) | (quiet | peak).to_numpy()


def _from_flows(capture: Capture, flow_labels: pd.Series) -> pd.DataFrame:
    """The label of most packets per device and slot; ``source`` for who opened their flow."""
    flows = capture.flows
    marked = np.flatnonzero((flow_labels != NORMAL).to_numpy())
    active = _active(flows, capture.activity, marked)
    active["label"] = np.where(active["sure"], flow_labels.to_numpy()[active["flow"]], UNKNOWN)
    active["rank"] = np.where(active["label"] == UNKNOWN, -1, active["pkts"])
    ends = [
        active.assign(device=flows[column].to_numpy()[active["flow"]], direction=direction)
        for column, direction in (("id.orig_h", "source"), ("id.resp_h", "target"))
    ]
    cells = pd.concat(ends).groupby(["device", "slot", "label", "direction"], sort=False)["rank"]
    cells = cells.sum().reset_index().sort_values("rank", kind="stable")
    cells = cells.drop_duplicates(["device", "slot"], keep="last")
    cells.loc[cells["label"] == UNKNOWN, "direction"] = ""
    return cells.set_index(["device", "slot"])[["label", "direction"]]


def _active(flows: pd.DataFrame, activity: pd.DataFrame, marked: np.ndarray) -> pd.DataFrame:
    """Every slot in a marked flow's span: ``flow slot pkts sure``."""
    ts = flows["ts"].to_numpy()[marked]
    duration = np.nan_to_num(flows["duration"].to_numpy(float)[marked], nan=0.0)
    first, last = (np.floor(time / SAMPLE_S).astype(np.int64) for time in (ts, ts + duration))
    span = last - first + 1
    place = count_up(span)
    spans = pd.DataFrame({"flow": np.repeat(marked, span), "slot": np.repeat(first, span) + place})
    keys = ["flow", "slot"]
    pkts = activity.assign(pkts=activity["orig_pkts"] + activity["resp_pkts"])
    spans = spans.join(pkts.set_index(keys)["pkts"], on=keys)
    edge = (place == 0) | (place == np.repeat(span - 1, span))
    total = spans.groupby("flow", sort=False)["pkts"].transform("sum")
    rate = total / np.repeat(span, span)
    spans["sure"] = edge | (spans["pkts"].notna() & (rate >= LIKELY_PKTS))
    spans["pkts"] = spans["pkts"].fillna(0) + 1
    return spans
