"""Zeek's conn.log read as a capture, and flows written as a conn.log.

Meaning of the columns, and letters of ``history``: Conn::Info at
https://docs.zeek.org/en/master/scripts/base/protocols/conn/main.zeek.html.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from traffic.capture import COUNTS, FLOW_COLUMNS, LATEST_S, SAMPLE_S, Capture, join_evidence, spread
from traffic.errors import UserError
from traffic.quality import assess_flows
from traffic.zeek.beside import Beside, Span, read_beside
from traffic.zeek.columns import Kind, decode, matches, numbers
from traffic.zeek.exchanges import make_exchanges
from traffic.zeek.logs import Log, read_log
from traffic.zeek.sessions import make_sessions
from traffic.zeek.transfers import make_transfers

# ---- Evidence in conn.log's own columns: trouble in TCP, unreachable hosts, names that fail ----

_DNS_PORT = 53
_ID = ("id.orig_h", "id.resp_h")
_EVIDENT = [
    "ts", *_ID, "id.orig_p", "id.resp_p", "proto", "duration", "conn_state", "history",
    "orig_pkts", "resp_pkts", "orig_ip_bytes", "resp_ip_bytes",
]  # fmt: skip


def flow_evidence(flows: pd.DataFrame, with_dns: bool) -> pd.DataFrame:
    """Evidence that conn.log's own columns hold.

    ``T`` and ``W`` stand once for 1, again for 10, again for 100 events: n letters mean at least
    10^(n-1). They are spread over the flow like packets are. ``R`` stands for each reset, at the
    flow's end.

    Args:
        flows: shape (n_flows, ...), Zeek's names.
        with_dns: whether to read queries from flows to port 53, where there is no dns.log.

    Returns:
        Evidence, ``EVIDENCE_COLUMNS``.
    """
    flows = flows[_EVIDENT]  # the other columns need not be copied with each choice of rows
    code, histories = pd.factorize(flows["history"].fillna(""))
    history = pd.Series(histories, dtype="str")
    parts = []
    for upper, kind in (("T", "retransmission"), ("W", "zero_window"), ("R", "reset")):
        for letter, src, dst in ((upper, *_ID), (upper.lower(), *_ID[::-1])):
            letters = history.str.count(letter).to_numpy(int)[code]
            some = np.flatnonzero(letters)
            if not len(some):
                continue
            counts = letters[some] if kind == "reset" else 10 ** (letters[some] - 1)
            parts.append(_events(flows.iloc[some], counts, src, dst, kind))
    parts += _unreachable(flows)
    if with_dns:
        parts += _dns_flows(flows)
    return join_evidence(parts)


def _events(
    flows: pd.DataFrame, counts: np.ndarray, src: str, dst: str, kind: str, code: object = -1
) -> pd.DataFrame:
    """Place ``counts`` events of each flow in time: resets at its end, others evenly from its
    start."""
    flows = flows.reset_index(drop=True)
    if kind == "reset":
        end_s = (flows["ts"] + flows["duration"].fillna(0.0)).to_numpy()
        flow, slot, count = (
            np.arange(len(flows)),
            np.floor(end_s / SAMPLE_S).astype("int64"),
            counts,
        )
    else:
        placed = spread(flows.assign(orig_pkts=counts.astype(float), resp_pkts=0.0, history=""))
        placed = placed[placed["orig_pkts"] > 0]
        flow, slot, count = (placed[column].to_numpy() for column in ("flow", "slot", "orig_pkts"))
    codes = np.broadcast_to(np.asarray(code, dtype="int64"), len(flows))[flow]
    ends = {"src": flows[src].take(flow).array, "dst": flows[dst].take(flow).array}
    return pd.DataFrame(
        {"slot": slot, **ends, "kind": kind, "code": codes, "count": count, "distinct": 0}
    )


def _unreachable(flows: pd.DataFrame) -> list[pd.DataFrame]:
    """ICMP destination unreachable: type 3, in ICMPv6 type 1 (RFC 792, 4443), in id.orig_p."""
    icmp = np.flatnonzero((flows["proto"] == "icmp").to_numpy())
    rows = flows.iloc[icmp]
    v6 = rows["id.orig_h"].str.contains(":", regex=False).to_numpy(bool)
    rows = rows[rows["id.orig_p"].to_numpy() == np.where(v6, 1, 3)]
    if rows.empty:
        return []
    return [_events(rows, _packets(rows), *_ID, "unreachable", rows["id.resp_p"].to_numpy())]


def _packets(flows: pd.DataFrame) -> np.ndarray:
    return flows["orig_pkts"].fillna(1.0).clip(lower=1.0).to_numpy()


def _dns_flows(flows: pd.DataFrame) -> list[pd.DataFrame]:
    """Each packet to port 53 is a query; where nothing came back, each of them failed."""
    rows = flows[((flows["proto"] == "udp") & (flows["id.resp_p"] == _DNS_PORT)).to_numpy()]
    silent = rows[(rows["resp_pkts"].fillna(0.0) == 0).to_numpy()]
    kinds = {"dns_query": rows, "dns_failed": silent}
    return [_events(some, _packets(some), *_ID, kind) for kind, some in kinds.items() if len(some)]


# ---- Reading ----


_PORTS = ["id.orig_p", "id.resp_p"]
_EXTRA = ["orig_l2_addr", "resp_l2_addr", "label", "detailed-label"]


def _kind(column: str) -> Kind:
    if column in {"ts", *_PORTS, *COUNTS}:
        return "number"
    return "unique" if column == "uid" else "text"


CONN_KINDS: dict[str, Kind] = {column: _kind(column) for column in [*FLOW_COLUMNS, *_EXTRA]}
# Without these no sample can be made; the others are unknown where a log leaves them out.
CONN_NEEDED = (
    "ts", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto", "conn_state", "duration",
    "orig_bytes", "resp_bytes", "orig_pkts", "resp_pkts",
)  # fmt: skip
_CONN_NAME = re.compile(r"^conn([._](?!summary).*)?\.(log|json|parquet)([._].*)?$")
_LONGEST_S = 366 * 86400.0
# Zeek writes a flow when it ends, or up to 5 min later (tcp_inactivity_timeout): further back, the
# clock was set back.
_CLOCK_BACK_S = 600.0


class KeptLogs:
    """Conn logs as they were read before, and the evidence in them: of a folder that grows only the
    files that changed are read again."""

    def __init__(self) -> None:
        self._logs: dict[Path, _KeptLog] = {}
        self._now: dict[Path, _KeptLog] = {}

    def read(self, paths: Sequence[Path]) -> list[Log]:
        """The logs; what was kept of others is let go."""
        self._now = {path: self._one(path) for path in paths}
        self._logs = self._now
        return [one.log for one in self._now.values()]

    def _one(self, path: Path) -> "_KeptLog":
        try:
            found = path.stat()
        except OSError:
            return _KeptLog((0, 0), _read_conn(path))  # says what is wrong with it
        state, kept = (found.st_size, found.st_mtime_ns), self._logs.get(path)
        return kept if kept and kept.state == state else _KeptLog(state, _read_conn(path))

    def find_evidence(self, with_dns: bool) -> list[pd.DataFrame]:
        """What ``flow_evidence`` finds in each log that was read last."""
        return [one.find_evidence(with_dns) for one in self._now.values()]


@dataclass
class _KeptLog:
    state: tuple[int, int]  # of its file: size, time of change
    log: Log
    evidence: dict[bool, pd.DataFrame] = field(default_factory=dict)

    def find_evidence(self, with_dns: bool) -> pd.DataFrame:
        if with_dns not in self.evidence:
            flows = make_flows(Repairs().repair(self.log.table))
            self.evidence = {with_dns: flow_evidence(flows, with_dns)}
        return self.evidence[with_dns]


def _read_conn(path: Path) -> Log:
    return read_log(path, CONN_KINDS, CONN_NEEDED, "conn.log", is_valid_flow)


def read_zeek(path: Path | str, kept: KeptLogs | None = None) -> Capture:
    """Read a conn.log, or a folder of rotated ones, with the protocol logs beside it.

    Args:
        path: TSV (IoT-23's variant too), JSON lines or Parquet, the first two plain or gzipped; or a
            folder that holds such logs.
        kept: what is known of the logs from before, of who reads a folder again and again.

    Returns:
        Flows sorted by ``ts``. Malformed rows are left out; ``notes`` count them.

    Raises:
        UserError: nothing there, empty, not a conn.log, a needed column is missing, or it has no
            usable row.
    """
    path = Path(path)
    paths = find_logs(path)
    logs = kept.read(paths) if kept else [_read_conn(file) for file in paths]
    notes = [note for log in logs for note in log.notes]
    rows = pa.concat_tables([log.table for log in logs], promote_options="default")
    if not rows.num_rows:
        what = "no well-formed row" if notes else "a header and no rows"
        raise UserError(
            f"{path} has {what}; expected at least one connection; check that Zeek saw traffic"
        )
    del logs
    clock, repairs = Clock(), Repairs()
    if len(paths) > 1:
        n = rows.num_rows
        rows = drop_again(rows)
        if again := n - rows.num_rows:
            notes.append(
                f"{again:,} rows that stand in more than one of the logs were counted once."
            )
            kept = None  # what each log shows alone would count them twice
    clock.see(rows)
    rows = repairs.repair(rows)
    notes += [*note_missing(set(rows.column_names)), *clock.notes(), *repairs.notes()]
    flows = make_flows(rows)
    end_s = float(np.fmax((flows["ts"] + flows["duration"]).max(), flows["ts"].max()))
    beside = read_beside(paths, Span(float(flows["ts"].iloc[0]), end_s), flows["uid"])
    logs = beside.logs.assign(rows=beside.logs["rows"].where(beside.logs["rows"] >= 0, len(flows)))
    counted = beside.counted
    quality = replace(
        assess_flows(flows),
        logs=logs,
        reports=counted.reports,
        lost_share=counted.lost_share,
        most_lost_share=counted.most_lost_share,
    )
    return replace(
        make_capture(flows, beside, kept.find_evidence(not beside.has_dns) if kept else None),
        quality=quality,
        sessions=make_sessions(flows, end_s),
        exchanges=make_exchanges(beside.exchanges, flows),
        transfers=make_transfers(beside.http, beside.files, flows),
        notices=beside.notices,
        notes=(*notes, *beside.notes),
    )


def make_capture(
    flows: pd.DataFrame, beside: Beside, evident: Sequence[pd.DataFrame] | None = None
) -> Capture:
    """Flows, their activity and evidence: all that samples need; ``evident`` is what ``flow_evidence``
    finds in parts of the flows, where that is known."""
    if evident is None:
        evident = [flow_evidence(flows, with_dns=not beside.has_dns)]
    evidence = join_evidence([*evident, beside.evidence])
    return Capture(flows, spread(flows), evidence)


def find_logs(path: Path) -> list[Path]:
    """The conn logs of a path: itself, or those in a folder.

    Raises:
        UserError: the folder holds none.
    """
    paths = find_conn_logs(path) if path.is_dir() else [path]
    if not paths:
        raise UserError(
            f"{path} holds no conn.log (searched conn*.log and conn*.log.gz); expected Zeek's logs; pass their folder"
        )
    return paths


def find_conn_logs(folder: Path) -> list[Path]:
    """The conn logs of a folder, or of the day folders in it, by name; never conn-summary."""
    for pattern in ("*", "*/*"):
        logs = (path for path in folder.glob(pattern) if _CONN_NAME.match(path.name))
        if found := sorted(path for path in logs if path.is_file()):
            return found
    return []


def is_valid_flow(rows: pa.Table) -> np.ndarray:
    """Which rows have a time, ends, ports and a protocol, shape (n,), bool."""
    ts = numbers(rows["ts"])
    good = (ts >= 0) & (ts < LATEST_S) & rows["proto"].is_valid().to_numpy()
    for column in _PORTS:
        port = numbers(rows[column])
        good &= (port >= 0) & (port <= 65535) & (port == np.floor(port))
    for column in _ID:
        good &= matches(rows[column], r"^[0-9a-fA-F:.]{2,45}$")
    return good


def drop_again(rows: pa.Table) -> pa.Table:
    """Rows that stand in several logs once."""
    if "uid" not in rows.column_names:
        return rows
    keys = rows.select(["uid", "ts", *_PORTS]).to_pandas()
    return rows.filter(pa.array(~(keys["uid"].notna() & keys.duplicated()).to_numpy()))


def note_missing(columns: set[str]) -> list[str]:
    """Says which useful columns a log lacks."""
    missing = [column for column in FLOW_COLUMNS if column not in columns]
    return [f"conn.log has no column {', '.join(missing)}: taken as unknown."] if missing else []


def make_flows(rows: pa.Table) -> pd.DataFrame:
    """Flows of well-formed rows of conn logs, sorted by time."""
    ts = numbers(rows["ts"])
    order = None if (np.diff(ts) >= 0).all() else np.argsort(ts, kind="stable")
    flows = {}
    for column in [*FLOW_COLUMNS, *(column for column in _EXTRA if column in rows.column_names)]:
        if column not in rows.column_names:
            dtype = "float64" if column in COUNTS else "str"
            flows[column] = pd.Series(np.nan, index=range(len(ts)), dtype=dtype)
        elif CONN_KINDS[column] == "number":
            values = numbers(rows[column])
            values = values if order is None else values[order]
            flows[column] = pd.Series(values.astype("int64") if column in _PORTS else values)
        else:
            flows[column] = pd.Series(decode(rows[column], order))
        # Each old column is let go: a log is in memory once, not twice.
        rows = rows.drop_columns([column]) if column in rows.column_names else rows
    return pd.DataFrame(flows, copy=False)


@dataclass
class Repairs:
    """Counts that cannot be, made unknown: below zero, not finite, not whole, or a duration above a
    year."""

    _found: dict[str, tuple[int, float]] = field(default_factory=dict)  # how many, the first

    def repair(self, rows: pa.Table) -> pa.Table:
        """The rows with what is impossible unset."""
        for column in COUNTS:
            if column not in rows.column_names:
                continue
            whole = column != "duration"
            most, have = 2.0**53 if whole else _LONGEST_S, rows[column]
            found = pc.min_max(have)
            odd = whole and bool(pc.any(pc.greater(have, pc.floor(have))).as_py())
            outside = (found["min"].as_py() or 0) < 0 or (found["max"].as_py() or 0) > most
            if not (odd or outside):
                continue
            values = numbers(have)
            wrong = (values < 0) | (values > most) | (whole & (values > np.floor(values)))
            if wrong.any():
                n, first = self._found.get(column, (0, values[wrong][0]))
                self._found[column] = (n + int(wrong.sum()), first)
                repaired = pa.array(np.where(wrong, np.nan, values), from_pandas=True)
                place = rows.column_names.index(column)
                rows = rows.set_column(place, column, pa.chunked_array([repaired]))
        return rows

    def notes(self) -> list[str]:
        """What was repaired, a sentence per column."""
        return [
            f"{n:,} flows with an impossible {column} (first: {first:g}): taken as unknown."
            for column, (n, first) in self._found.items()
        ]


@dataclass
class Clock:
    """Whether the clock that wrote a log was set back, seen over its pieces in their order."""

    _sorted: bool = True
    _last_ts: float = -np.inf
    _last_end: float = -np.inf
    _latest: float = -np.inf
    _jumps: int = 0
    _back_s: float = 0.0

    def see(self, rows: pa.Table) -> None:
        """Look at the next rows."""
        if not rows.num_rows:
            return
        ts, duration = numbers(rows["ts"]), numbers(rows["duration"])
        self._sorted &= bool(ts[0] >= self._last_ts and (ts[1:] >= ts[:-1]).all())
        lasts = np.flatnonzero((duration > 0) & (duration < _LONGEST_S))
        end = ts.copy()
        end[lasts] += duration[lasts]
        latest = np.maximum.accumulate(end)
        np.maximum(latest, self._latest, out=latest)
        self._jumps += int(end[0] - self._last_end < -_CLOCK_BACK_S)
        self._jumps += int(np.count_nonzero(end[1:] - end[:-1] < -_CLOCK_BACK_S))
        self._last_ts, self._last_end, self._latest = ts[-1], end[-1], latest[-1]
        self._back_s = max(self._back_s, float(np.subtract(latest, end, out=latest).max()))

    def notes(self) -> list[str]:
        """How often the clock jumped, and how far."""
        # Sorted by start is how tools leave a log, and how `faultwise flows` writes one.
        if self._sorted or not self._jumps:
            return []
        times = "once" if self._jumps == 1 else f"{self._jumps:,} times"
        return [
            f"The clock jumps back {times}, by up to {self._back_s / 60:,.0f} min: sorted by time."
        ]


# ---- Writing ----


def write_conn_log(flows: pd.DataFrame, stream: TextIO) -> None:
    """Write flows as Zeek's TSV; times to the microsecond, as Zeek has them.

    Args:
        flows: shape (n_flows, ...), Zeek's names; NaN is written as ``-``.
        stream: open for text.
    """
    columns = [*FLOW_COLUMNS, *(column for column in _EXTRA if column in flows)]
    stream.write(
        "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n"
    )
    for words in (["#fields", *columns], ["#types", *map(_zeek_type, columns)]):
        stream.write("\t".join(words) + "\n")
    if len(flows):
        text = pd.DataFrame({column: _as_text(flows[column]) for column in columns})
        stream.write("\n".join(text[columns[0]].str.cat(text[columns[1:]], sep="\t")) + "\n")


def _zeek_type(column: str) -> str:
    types = {"ts": "time", **dict.fromkeys(_ID, "addr"), **dict.fromkeys(_PORTS, "port")}
    types |= dict.fromkeys(COUNTS, "count") | {"duration": "interval", "proto": "enum"}
    return types.get(column, "string")


def _as_text(values: pd.Series) -> pd.Series:
    if values.name in {"ts", "duration"}:
        return values.map("{:.6f}".format, na_action="ignore").astype("str").fillna("-")
    if values.name in {*_PORTS, *COUNTS}:
        return values.astype("Int64").astype("str").fillna("-")
    # As Zeek does: what would break the row, or be read as unset, is written as its code.
    text = values.astype("str")
    text = text.str.replace(r"[\x00-\x1f\x7f]", lambda m: f"\\x{ord(m[0]):02x}", regex=True)
    return text.replace({"": "(empty)", "-": "\\x2d"}).fillna("-")
