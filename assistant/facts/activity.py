"""Lay what each flow did in each slot out beside what is known of the flow, in one table."""

import numpy as np
import pandas as pd

from traffic.capture import ACTIVITY_TIMES, SAMPLE_S, Capture
from traffic.device_history import ATTEMPT_S


def join_activity(capture: Capture) -> pd.DataFrame:
    """One row per flow and slot with packets, shape (n_activity, 26): the columns of
    ``TrafficView.flow_slots``, in the order of the capture's activity."""
    flows, activity = capture.flows, capture.activity
    at = activity["flow"].to_numpy()
    slot_s = activity["slot"].to_numpy() * SAMPLE_S
    ts = flows["ts"].to_numpy()
    until = ts + np.nan_to_num(flows["duration"].to_numpy(float), nan=0.0)
    since_s = np.maximum(ts[at], slot_s)
    until_s = np.minimum(until[at], slot_s + SAMPLE_S)
    times = {name: activity[name].to_numpy() for name in ACTIVITY_TIMES}
    first_s = np.fmin(times["orig_first_s"], times["resp_first_s"])
    # What comes after both sides have closed, a reset for a late segment, is no use of it.
    last_s = np.fmax(times["orig_last_s"], times["resp_last_s"])
    last_s = np.minimum(last_s, np.maximum(until[at], first_s))
    named = {
        "src": "id.orig_h", "dst": "id.resp_h", "sport": "id.orig_p", "port": "id.resp_p", "proto": "proto",
        "service": "service", "state": "conn_state", "history": "history",
    }  # fmt: skip
    columns = {new: flows[old].take(at).reset_index(drop=True) for new, old in named.items()}
    resp_pkts = np.nan_to_num(flows["resp_pkts"].to_numpy(float), nan=0.0)
    known = np.nan_to_num(flows["orig_pkts"].to_numpy(float), nan=0.0) + resp_pkts > 0
    return pd.DataFrame(
        {
            "flow": at,
            "slot": activity["slot"].to_numpy(),
            **columns,
            "src_pkts": activity["orig_pkts"].to_numpy(),
            "dst_pkts": activity["resp_pkts"].to_numpy(),
            "src_bytes": activity["orig_bytes"].to_numpy(),
            "dst_bytes": activity["resp_bytes"].to_numpy(),
            "syns": activity["orig_syns"].to_numpy(),
            "answered": (resp_pkts > 0)[at] & (columns["state"] != "REJ").to_numpy(),
            "refused": (columns["state"] == "REJ").to_numpy(),
            "missed_bytes": np.nan_to_num(flows["missed_bytes"].to_numpy(float), nan=0.0)[at],
            "sized": known[at],
            "attempt": _attempts(flows)[at],
            "since_s": np.where(np.isnan(first_s), since_s, first_s),
            "until_s": np.where(np.isnan(last_s), until_s, last_s),
            # Where only a log tells, a side may have sent at any time of its part of the flow.
            **{
                new: np.where(np.isnan(times[old]), edge, times[old])
                for new, old, edge in (
                    ("src_first_s", "orig_first_s", since_s),
                    ("src_last_s", "orig_last_s", until_s),
                    ("dst_first_s", "resp_first_s", since_s),
                    ("dst_last_s", "resp_last_s", until_s),
                )
            },
        }
    )


def _attempts(flows: pd.DataFrame) -> np.ndarray:
    """A number for each attempt, shape (n_flows,): rows of one 5-tuple that follow each other
    closely are one."""
    ends = ["id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto"]
    code = flows.groupby(ends, sort=False, dropna=False).ngroup().to_numpy()
    ts = flows["ts"].to_numpy()
    order = np.lexsort((ts, code))
    fresh = np.ones(len(flows), bool)
    fresh[1:] = (code[order][1:] != code[order][:-1]) | (np.diff(ts[order]) > ATTEMPT_S)
    attempts = np.empty(len(flows), np.int64)
    attempts[order] = np.cumsum(fresh)
    return attempts
