"""A capture as tables: flows, the slots they were active in, and the evidence beyond flows.

A pcap knows when each packet passed; a Zeek log knows only a flow's start, length and packet
counts. Both end in the same tables, so nothing after this module asks where a capture came
from:

    slot       |--- 0 ---|--- 1 ---|--- 2 ---|        10 s each, aligned to the epoch, half-open
    flow 7      ===============                       activity: (7, 0), (7, 1) with the packets of each slot
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from traffic.arrays import count_up, starts_run
from traffic.conversations import empty_exchanges, empty_sessions
from traffic.delays import empty_delays
from traffic.device_records import DeviceRecords
from traffic.identities import empty_identities
from traffic.quality import Quality
from traffic.transfers import empty_transfers

SAMPLE_S = 10.0
# The year 3000: a later time is not in seconds since the epoch.
LATEST_S = 32_503_680_000.0

COUNTS = [
    "duration", "orig_bytes", "resp_bytes", "orig_pkts", "resp_pkts", "orig_ip_bytes",
    "resp_ip_bytes", "missed_bytes",
]  # fmt: skip
FLOW_COLUMNS = [
    "ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto", "service",
    "duration", "orig_bytes", "resp_bytes", "conn_state", "missed_bytes", "history", "orig_pkts",
    "orig_ip_bytes", "resp_pkts", "resp_ip_bytes",
]  # fmt: skip
ACTIVITY_COUNTS = ["orig_pkts", "resp_pkts", "orig_bytes", "resp_bytes", "orig_syns"]
ACTIVITY_TIMES = ["orig_first_s", "orig_last_s", "resp_first_s", "resp_last_s"]
ACTIVITY_COLUMNS = ["flow", "slot", *ACTIVITY_COUNTS, *ACTIVITY_TIMES]
_EVIDENCE_TYPES = {
    "slot": "int64", "src": "str", "dst": "str", "kind": "str", "code": "int64", "count": "int64",
    "distinct": "int64", "first_s": "float64", "last_s": "float64",
}  # fmt: skip
EVIDENCE_COLUMNS = list(_EVIDENCE_TYPES)
END_PROBE = 1  # code of a retransmission that tells of no loss: see traffic.pcap.tcp


# What a sensor's own notices claim; evidence of kind "notice" has a claim's place as its code.
NOTICE_CLAIMS = (
    "other", "scan", "guessing", "intrusion", "known bad", "certificate", "capture loss",
)  # fmt: skip
_NOTICE_TYPES = {
    "ts": "float64", "type": "category", "claim": "category", "src": "str", "dst": "str",
    "port": "int64", "n": "int64",
}  # fmt: skip
NOTICE_COLUMNS = list(_NOTICE_TYPES)


def join_evidence(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Put pieces of evidence together: one row per ``slot src dst kind code``, counts and distinct
    targets added, the first and the last moment kept.

    Args:
        parts: tables with ``EVIDENCE_COLUMNS``, possibly none; moments may be missing.
    """
    parts = [part for part in parts if len(part)]
    if not parts:
        return _empty_evidence()
    keys = EVIDENCE_COLUMNS[:5]
    rows = pd.concat(parts, ignore_index=True).reindex(columns=EVIDENCE_COLUMNS)
    rows = rows.astype({"src": "str", "dst": "str", "kind": "str"})
    how = {"count": "sum", "distinct": "sum", "first_s": "min", "last_s": "max"}
    return rows.groupby(keys, as_index=False).agg(how).astype({"count": "int64"})


def _empty_evidence() -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in _EVIDENCE_TYPES.items()})


def empty_notices() -> pd.DataFrame:
    """Notices of a sensor that gave none.

    One row per notice. Columns: ``ts`` (which may lie outside the capture, where another clock wrote
    it); ``type`` (the sensor's name of it, an identifier); ``claim`` (of NOTICE_CLAIMS); ``src``
    ``dst`` (addresses; NA for none) ``port`` (-1 for none); ``n`` (how many the sensor counted, -1
    where it says none).
    """
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in _NOTICE_TYPES.items()})


@dataclass(frozen=True)
class Capture:
    """A capture as tables, from whatever source.

    Attributes:
        flows: one row per connection, sorted by ``ts``; Zeek's conn.log names (docs.zeek.org,
            base/protocols/conn); unknown counts are NaN, never 0. The RangeIndex is the flow's
            number.
        activity: one row per flow and slot with packets: ``flow slot orig_pkts resp_pkts orig_bytes
            resp_bytes orig_syns``, all int64; bytes are IP bytes; ``slot`` is floor(ts / 10 s). And
            when the first and the last packet of either side passed, ``orig_first_s orig_last_s
            resp_first_s resp_last_s``: NaN of a side that sent none, and where only a log tells.
        evidence: one row per ``slot src dst kind code`` with ``count`` events and ``distinct``
            targets, the first at ``first_s`` and the last at ``last_s`` (NaN where nothing tells);
            ``src`` asked or sent, ``dst`` was asked or received.
        delays: how long TCP segments waited for their acknowledgement, counted; see
            ``traffic.delays``.
        sessions: one row per TCP connection: who ended it and how; see ``empty_sessions``.
        exchanges: one row per request with its answer, whatever the protocol; see
            ``empty_exchanges``.
        transfers: one row per request of HTTP: which file, how large, whether it came whole; see
            ``empty_transfers``.
        identities: one row per statement of a device's make, model or firmware; see
            ``empty_identities``.
        notices: what the sensor itself claims to have seen; see ``empty_notices``.
        notes: what was skipped or assumed while reading, one sentence each, for the user.
        quality: what the sensor could not see.
        records: what devices say of themselves, in logs and readings beside the traffic.
    """

    flows: pd.DataFrame
    activity: pd.DataFrame
    evidence: pd.DataFrame = field(default_factory=_empty_evidence)
    delays: pd.DataFrame = field(default_factory=empty_delays)
    sessions: pd.DataFrame = field(default_factory=empty_sessions)
    exchanges: pd.DataFrame = field(default_factory=empty_exchanges)
    transfers: pd.DataFrame = field(default_factory=empty_transfers)
    identities: pd.DataFrame = field(default_factory=empty_identities)
    notices: pd.DataFrame = field(default_factory=empty_notices)
    notes: tuple[str, ...] = ()
    quality: Quality = field(default_factory=Quality)
    records: DeviceRecords = field(default_factory=DeviceRecords)

    @property
    def start_s(self) -> float:
        """Start of the first slot with traffic, seconds since the epoch; NaN without any."""
        slots = [table["slot"].min() for table in (self.activity, self.evidence) if len(table)]
        return float(min(slots)) * SAMPLE_S if slots else float("nan")

    @property
    def end_s(self) -> float:
        """End of the last slot with traffic, seconds since the epoch; NaN without any."""
        slots = [table["slot"].max() for table in (self.activity, self.evidence) if len(table)]
        return float(max(slots) + 1) * SAMPLE_S if slots else float("nan")


# ---- Activity from flows whose packets' times are unknown ----


def spread(flows: pd.DataFrame) -> pd.DataFrame:
    """Place the packets of each flow evenly over its duration, for sources that hold no packet
    times.

    The i-th of a direction's n packets is taken to pass at ``ts + duration * i / (n - 1)``: the
    first at the start, the last at the end, as a log implies. Bytes follow the packets; the sums of
    both are kept. SYNs: every packet of an attempt that nobody answered (Zeek's S0, nothing but
    SYNs in its history) is one, otherwise the first packet of a flow whose history holds ``S``.

    Args:
        flows: shape (n_flows, ...), Zeek's names; counts NaN where unknown.

    Returns:
        Activity, shape (n_active, 11), without times, sorted by ``flow`` and ``slot``. A flow without known counts
        is active in its first slot with no packets; one whose packets Zeek dropped for bad
        checksums (history ``C``, counts 0) had at least that many, as ``zeek -C`` would count them.
        Never more rows for a flow than it has slots, or packets + 1.
    """
    spans = _make_spans(flows)
    # A day-long flow of ten packets, or one whose logged length lies, must not become a row per
    # slot.
    sparse = (spans["orig_pkts"] + spans["resp_pkts"] < spans["last"] - spans["first"]).to_numpy()
    active = _by_slot(spans, np.flatnonzero(~sparse))
    if sparse.any():
        active = pd.concat([active, _by_packet(spans[sparse])], ignore_index=True)
        active = active.take(np.argsort(active["flow"].to_numpy(), kind="stable"))
    active = active.reset_index(drop=True)
    for side in ("orig", "resp"):
        active[f"{side}_bytes"] = _bytes(active, f"{side}_pkts", spans, flows[f"{side}_ip_bytes"])
    # Flows share few histories: each is looked at once.
    code, histories = pd.factorize(flows["history"].fillna(""))
    history = pd.Series(histories, dtype="str")
    # Zeek says S0 too where only one direction was captured; there the history goes on after the
    # SYN.
    tcp, state = (flows["proto"] == "tcp").to_numpy(), flows["conn_state"]
    attempt = tcp & (state == "S0").to_numpy()
    attempt &= ~history.str.contains("[ADFR]").to_numpy(bool)[code]
    opened = tcp & history.str.contains("S", regex=False).to_numpy(bool)[code]
    flow = active["flow"].to_numpy()
    starts = active["slot"].to_numpy() == spans["first"].to_numpy()[flow]
    syns = np.where(attempt[flow], active["orig_pkts"], opened[flow] & starts)
    times = dict.fromkeys(ACTIVITY_TIMES, np.nan)
    return active.assign(orig_syns=syns.astype("int64"), **times)[ACTIVITY_COLUMNS]


def last_slot(flows: pd.DataFrame) -> int:
    """The last slot in which ``spread`` finds a packet of any of the flows, of which there is one
    at least."""
    spans = _make_spans(flows)
    moves = np.maximum(spans["orig_pkts"], spans["resp_pkts"]).to_numpy() > 1
    return int(np.where(moves, spans["last"], spans["first"]).max())


def _make_spans(flows: pd.DataFrame) -> pd.DataFrame:
    """When each flow passed and with how many packets: ``ts duration orig_pkts resp_pkts first
    last`` (slots)."""
    code, histories = pd.factorize(flows["history"].fillna(""))
    history = pd.Series(histories, dtype="str")

    def known(values: pd.Series, least: np.ndarray) -> np.ndarray:
        return np.maximum(np.nan_to_num(values.to_numpy(float), nan=0.0), least)

    columns = {"ts": flows["ts"].to_numpy(float), "duration": known(flows["duration"], np.zeros(1))}
    for side, letter in (("orig_pkts", "C"), ("resp_pkts", "c")):
        dropped = history.str.count(letter).to_numpy(float)[code]
        columns[side] = known(flows[side], dropped).astype(np.int64)
    spans = pd.DataFrame(columns, copy=False)
    spans["first"] = np.floor(spans["ts"] / SAMPLE_S).astype("int64")
    spans["last"] = np.floor((spans["ts"] + spans["duration"]) / SAMPLE_S).astype("int64")
    return spans


def _by_slot(spans: pd.DataFrame, flow: np.ndarray) -> pd.DataFrame:
    """Count the packets of every slot from start to end, in closed form, without a row per
    packet."""
    first = spans["first"].to_numpy()
    length = (spans["last"].to_numpy() - first)[flow] + 1
    flow, place = np.repeat(flow, length), count_up(length)
    slot = first[flow] + place
    counts = {side: spans[side].to_numpy()[flow] for side in ("orig_pkts", "resp_pkts")}
    # A flow within one slot, as most are, needs no arithmetic.
    long = np.flatnonzero(np.repeat(length > 1, length))
    for side, here in counts.items():
        until = _packets_before(spans, side, flow[long], slot[long] + 1)
        here[long] = until - np.where(place[long] == 0, 0, np.r_[0, until[:-1]])
    active = (counts["orig_pkts"] > 0) | (counts["resp_pkts"] > 0) | (place == 0)
    table = pd.DataFrame({"flow": flow, "slot": slot, **counts}, copy=False)
    return table if active.all() else table.take(np.flatnonzero(active))


def _packets_before(
    spans: pd.DataFrame, side: str, row: np.ndarray, slot: np.ndarray
) -> np.ndarray:
    """How many of a flow's packets pass before ``slot`` starts."""
    n, duration = spans[side].to_numpy()[row], spans["duration"].to_numpy()[row]
    since = slot * SAMPLE_S - spans["ts"].to_numpy()[row]
    gap = duration / np.maximum(n - 1, 1)
    # A flow of several slots has a duration, so the gap is never 0. The first packet passes at the
    # start, and rounding must not push the last one past the last slot.
    before = np.clip(np.ceil(np.round(since / gap, 9)), np.minimum(n, 1), n).astype(np.int64)
    return np.where(slot > spans["last"].to_numpy()[row], n, before)


def _by_packet(spans: pd.DataFrame) -> pd.DataFrame:
    """Place each packet by itself: for flows with fewer packets than slots."""
    first, last = spans["first"].to_numpy(), spans["last"].to_numpy()
    # The start is active even where no packets are known.
    pieces = [pd.DataFrame({"flow": spans.index, "slot": first, "orig_pkts": 0, "resp_pkts": 0})]
    for side, other in (("orig_pkts", "resp_pkts"), ("resp_pkts", "orig_pkts")):
        n = spans[side].to_numpy()
        row = np.repeat(np.arange(len(spans)), n)
        share = count_up(n) / np.maximum(n[row] - 1, 1)
        ts = spans["ts"].to_numpy()[row] + spans["duration"].to_numpy()[row] * share
        slot = np.clip(np.floor(ts / SAMPLE_S).astype(np.int64), first[row], last[row])
        flow = spans.index.to_numpy()[row]
        pieces.append(pd.DataFrame({"flow": flow, "slot": slot, side: 1, other: 0}))
    return pd.concat(pieces).groupby(["flow", "slot"], as_index=False).sum()


def _bytes(active: pd.DataFrame, side: str, spans: pd.DataFrame, total: pd.Series) -> np.ndarray:
    """Bytes in proportion to packets, rounded on the running sum so that a flow's bytes add up to
    its total."""
    flow, here = active["flow"].to_numpy(), active[side].to_numpy()
    new = starts_run(flow)
    starts = np.flatnonzero(new)
    until = np.cumsum(here)
    offset = np.repeat((until - here)[starts], np.diff(starts, append=len(flow)))
    mean = np.nan_to_num(total.to_numpy(float), nan=0.0) / np.maximum(spans[side].to_numpy(), 1)
    rounded = np.rint(mean[flow] * (until - offset)).astype(np.int64)
    return np.where(new, rounded, np.diff(rounded, prepend=0))
