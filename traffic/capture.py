"""What every source becomes: flows, the slots they were active in, and the evidence beyond flows.

A pcap knows when each packet passed; a Zeek log knows only a flow's start, length and packet counts. Both end in the
same three tables, so nothing after this module asks where a capture came from:

    slot       |--- 0 ---|--- 1 ---|--- 2 ---|        10 s each, aligned to the epoch, half-open
    flow 7      ===============                       activity: (7, 0), (7, 1) with the packets of each slot
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

__all__ = ["ACTIVITY_COLUMNS", "COUNTS", "EVIDENCE_COLUMNS", "FLOW_COLUMNS", "SAMPLE_S", "Capture", "spread"]

SAMPLE_S = 10.0

COUNTS = [
    "duration",
    "orig_bytes",
    "resp_bytes",
    "orig_pkts",
    "resp_pkts",
    "orig_ip_bytes",
    "resp_ip_bytes",
    "missed_bytes",
]
FLOW_COLUMNS = [
    *["ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto", "service", "duration"],
    *["orig_bytes", "resp_bytes", "conn_state", "missed_bytes", "history"],
    *["orig_pkts", "orig_ip_bytes", "resp_pkts", "resp_ip_bytes"],
]
ACTIVITY_COLUMNS = ["flow", "slot", "orig_pkts", "resp_pkts", "orig_bytes", "resp_bytes", "orig_syns"]
EVIDENCE_COLUMNS = ["slot", "src", "dst", "kind", "code", "count", "distinct"]


def _empty_evidence() -> pd.DataFrame:
    types = {
        "slot": "int64",
        "src": "str",
        "dst": "str",
        "kind": "str",
        "code": "int64",
        "count": "int64",
        "distinct": "int64",
    }
    return pd.DataFrame({name: pd.Series(dtype=types[name]) for name in EVIDENCE_COLUMNS})


@dataclass(frozen=True)
class Capture:
    """Everything a source said, as tables.

    Attributes:
        flows: one row per connection, sorted by ``ts``; Zeek's conn.log names (docs.zeek.org, base/protocols/conn);
            unknown counts are NaN, never 0. The RangeIndex is the flow's number.
        activity: one row per flow and slot with packets: ``flow slot orig_pkts resp_pkts orig_bytes resp_bytes
            orig_syns``, all int64; bytes are IP bytes; ``slot`` is floor(ts / 10 s).
        evidence: one row per ``slot src dst kind code`` with ``count`` events and ``distinct`` targets;
            ``src`` asked or sent, ``dst`` was asked or received.
        notes: what was skipped or assumed while reading, one sentence each, for the user.
    """

    flows: pd.DataFrame
    activity: pd.DataFrame
    evidence: pd.DataFrame = field(default_factory=_empty_evidence)
    notes: tuple[str, ...] = ()

    @property
    def start_s(self) -> float:
        """Seconds since the epoch at which the first slot with traffic starts; NaN for an empty capture."""
        slots = [table["slot"].min() for table in (self.activity, self.evidence) if len(table)]
        return float(min(slots)) * SAMPLE_S if slots else float("nan")

    @property
    def end_s(self) -> float:
        """Seconds since the epoch at which the last slot with traffic ends; NaN for an empty capture."""
        slots = [table["slot"].max() for table in (self.activity, self.evidence) if len(table)]
        return float(max(slots) + 1) * SAMPLE_S if slots else float("nan")


def spread(flows: pd.DataFrame) -> pd.DataFrame:
    """Place the packets of each flow evenly over its duration, for sources that hold no packet times.

    The i-th of a direction's n packets is taken to pass at ``ts + duration * i / (n - 1)``: the first at the start, the
    last at the end, as a log implies. Bytes follow the packets. SYNs: every packet of an attempt that nobody answered
    (Zeek's S0) is one, otherwise the first packet of a flow whose history holds ``S``.

    Args:
        flows: shape (n_flows, ...), Zeek's names; counts NaN where unknown.

    Returns:
        Activity, shape (n_active, 7). A flow without known counts is active in its first slot with no packets; one
        whose packets Zeek dropped for bad checksums (history ``C``, counts 0) had at least that many, as ``zeek -C``
        would count them.
    """
    ts = flows["ts"].to_numpy(float)
    duration = np.nan_to_num(flows["duration"].to_numpy(float), nan=0.0)
    history = flows["history"].fillna("")
    orig_pkts = _known(flows["orig_pkts"], history.str.count("C"))
    resp_pkts = _known(flows["resp_pkts"], history.str.count("c"))
    first, last = np.floor(ts / SAMPLE_S).astype(np.int64), np.floor((ts + duration) / SAMPLE_S).astype(np.int64)

    span = last - first + 1
    flow = np.repeat(np.arange(len(flows)), span)
    slot = np.repeat(first, span) + _counter(span)
    orig = _packets_before(flow, slot + 1, ts, duration, orig_pkts) - _packets_before(
        flow, slot, ts, duration, orig_pkts
    )
    resp = _packets_before(flow, slot + 1, ts, duration, resp_pkts) - _packets_before(
        flow, slot, ts, duration, resp_pkts
    )
    starts = slot == first[flow]
    active = (orig > 0) | (resp > 0) | starts

    tcp = (flows["proto"] == "tcp").to_numpy()
    silent = tcp & (flows["conn_state"] == "S0").to_numpy()
    opened = tcp & history.str.contains("S", regex=False).to_numpy()
    syns = np.where(silent[flow], orig, (opened[flow] & starts).astype(np.int64))
    return pd.DataFrame(
        {
            "flow": flow,
            "slot": slot,
            "orig_pkts": orig,
            "resp_pkts": resp,
            "orig_bytes": _share(flows["orig_ip_bytes"], orig_pkts, flow, orig),
            "resp_bytes": _share(flows["resp_ip_bytes"], resp_pkts, flow, resp),
            "orig_syns": syns,
        }
    )[active].reset_index(drop=True)


def _known(counts: pd.Series, floor: pd.Series) -> np.ndarray:
    return np.maximum(np.nan_to_num(counts.to_numpy(float), nan=0.0), floor.to_numpy(float)).astype(np.int64)


def _counter(lengths: np.ndarray) -> np.ndarray:
    """0, 1, … for each run: ``_counter([2, 3])`` is ``[0, 1, 0, 1, 2]``."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)


def _packets_before(
    flow: np.ndarray, slot: np.ndarray, ts: np.ndarray, duration: np.ndarray, pkts: np.ndarray
) -> np.ndarray:
    """How many of each flow's packets pass before ``slot`` starts, in closed form: no row per packet is ever made."""
    since = slot * SAMPLE_S - ts[flow]
    n = pkts[flow]
    gap = duration[flow] / np.maximum(n - 1, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        index = np.where(gap > 0, np.ceil(np.round(since / gap, 9)), np.where(since > 0, n, 0))
    before = np.clip(index, 0, n).astype(np.int64)
    # Rounding must not push the last packet past the last slot.
    return np.where(since > duration[flow], n, before)


def _share(total: pd.Series, pkts: np.ndarray, flow: np.ndarray, here: np.ndarray) -> np.ndarray:
    mean = np.nan_to_num(total.to_numpy(float), nan=0.0) / np.maximum(pkts, 1)
    return np.rint(mean[flow] * here).astype(np.int64)
