"""Logs beside a conn.log: found, read once each, and what they tell of the capture put together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from traffic.capture import NOTICE_CLAIMS, NOTICE_COLUMNS, SAMPLE_S, empty_notices, join_evidence
from traffic.errors import UserError
from traffic.zeek.alerts import ALERT_LOGS, SLIPS, SURICATA, read_alerts
from traffic.zeek.columns import Kind
from traffic.zeek.logs import read_log
from traffic.zeek.notices import NOTICE_KINDS, make_notices
from traffic.zeek.protocols import LOGS
from traffic.zeek.transfers import FILE_KINDS

# A row beside that lies further than this outside the connections is of another time: of a clock
# that was wrong, or of a log that was put there.
_NEAR_S = 86400.0
# A connection that goes on where a log was rotated is not in it yet; Zeek forgets it after 5 min.
_STOPPED_S = 300.0
_MISSING = 3  # rows of connections that conn.log lacks; fewer may have been open when it ended
_MOST = 2.0**53  # a larger whole number is none in a float64


@dataclass(frozen=True)
class Span:
    """When the connections of a capture passed, seconds since the epoch."""

    start_s: float
    end_s: float

    def is_near(self, ts: pd.Series | np.ndarray) -> np.ndarray:
        """Which times lie within a day of it, shape (n,)."""
        ts = np.asarray(ts, float)
        return (ts >= self.start_s - _NEAR_S) & (ts <= self.end_s + _NEAR_S)


@dataclass(frozen=True)
class Counted:
    """What a sensor says of itself: as sentences, and as ``traffic.quality.Quality`` has it."""

    notes: tuple[str, ...]
    reports: pd.DataFrame
    lost_share: float = np.nan
    most_lost_share: float = np.nan


@dataclass(frozen=True)
class Beside:
    """What the logs beside a conn.log tell.

    Attributes:
        evidence: by slot and pair.
        exchanges: rows by protocol, for ``traffic.zeek.exchanges.make_exchanges``.
        notices: of notice.log.
        notes: what was skipped, and what weird.log and capture_loss.log say.
        http: rows of http.log, for ``traffic.zeek.transfers.make_transfers``.
        files: rows of files.log likewise.
        has_dns: whether a dns.log is among them.
        logs: as ``traffic.quality.Quality`` has them.
        counted: what the sensor says of itself.
    """

    evidence: pd.DataFrame
    exchanges: dict[str, pd.DataFrame]
    notices: pd.DataFrame
    http: pd.DataFrame
    files: pd.DataFrame
    notes: tuple[str, ...]
    has_dns: bool
    logs: pd.DataFrame
    counted: Counted


def read_beside(conn_logs: Sequence[Path], span: Span, uids: pd.Series | None = None) -> Beside:
    """Read the protocol logs of the same span that lie beside conn logs.

    Args:
        conn_logs: ``conn.log`` has ``dns.log`` beside it, ``conn.12:00:00-13:00:00.log.gz`` has
            ``dns.12:00:00-13:00:00.log.gz``.
        span: of the connections; rows of other days are left out, and said.
        uids: of all connections, where all are at hand: what happened in others is missing in
            conn.log.
    """
    missing: list[pd.Series] = []
    evidence: list[pd.DataFrame] = []
    http: list[pd.DataFrame] = []
    exchanges: dict[str, list[pd.DataFrame]] = {}
    notes: list[str] = []
    read: set[str] = set()
    logs = [["conn.log", span.start_s, span.end_s, -1]]
    for name, form in LOGS.items():
        for path in siblings(conn_logs, name):
            rows = _read(path, form.kinds, form.needed, notes)
            if rows is None:
                continue
            read.add(name)
            rows = _near(rows, span, path.name, notes)
            if not len(rows):
                continue
            logs.append([path.name, rows["ts"].min(), rows["ts"].max(), len(rows)])
            if uids is not None and "uid" in rows:
                missing.append(rows.loc[rows["uid"].notna() & ~rows["uid"].isin(uids), "ts"])
            if name == "http":
                http.append(rows)
            if form.evidence:
                slot = np.floor(rows["ts"] / SAMPLE_S).astype("int64")
                evidence.append(form.evidence(rows.assign(slot=slot)))
            # ICSNPP's log of Modbus holds all that Zeek's own does, and addresses.
            if form.exchanges and not (name == "modbus" and "modbus_detailed" in read):
                exchanges.setdefault(form.protocol, []).append(form.exchanges(rows))
    notices = read_notices(conn_logs, notes)
    evidence.append(notice_evidence(notices, span))
    counted = read_counted(conn_logs)
    notes += [*note_far(notices, span), *counted.notes]
    joined = {name: pd.concat(parts, ignore_index=True) for name, parts in exchanges.items()}
    return Beside(
        join_evidence(evidence),
        joined,
        notices,
        pd.concat(http, ignore_index=True) if http else pd.DataFrame(),
        read_files(conn_logs, notes) if http else pd.DataFrame(),
        tuple(notes),
        "dns" in read,
        _find_early(logs, missing),
        counted,
    )


def read_files(conn_logs: Sequence[Path], notes: list[str]) -> pd.DataFrame:
    """The rows of files.log beside conn logs, the columns of ``FILE_KINDS``."""
    parts = [
        _read(path, FILE_KINDS, ("ts", "fuid"), notes) for path in siblings(conn_logs, "files")
    ]
    found = [part for part in parts if part is not None]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _find_early(logs: list[list], missing: Sequence[pd.Series]) -> pd.DataFrame:
    """When each log begins and ends, and how long before the others conn.log stops.

    Each row of another log belongs to a connection, and stands in conn.log once that has ended; so
    only conn.log can be too short. Connections are written when they end, so that one that lasted
    may hide by its times that many are missing: then the times of what happened in these count.
    """
    table = pd.DataFrame(logs, columns=["name", "start_s", "end_s", "rows"])
    late_s = table["end_s"].max() - table["end_s"].iloc[0]
    late_s = late_s if late_s > _STOPPED_S else 0.0
    unknown = pd.concat(missing) if missing else pd.Series(dtype=float)
    if len(unknown) >= _MISSING:
        late_s = max(late_s, float(unknown.max() - unknown.min()))
    early = np.where(table.index == 0, late_s, 0.0)
    return table.assign(early_s=early)


def _near(rows: pd.DataFrame, span: Span, name: str, notes: list[str]) -> pd.DataFrame:
    rows = rows[rows["ts"].notna().to_numpy()]
    near = span.is_near(rows["ts"])
    notes += note_left_out(name, int((~near).sum()))
    return rows[near].sort_values("ts", kind="stable", ignore_index=True)


def note_left_out(name: str, far: int) -> list[str]:
    """Says how many rows of a log are of another time than the connections."""
    return (
        [f"{name}: {far:,} rows more than a day off the connections were left out."] if far else []
    )


def siblings(conn_logs: Sequence[Path], name: str) -> list[Path]:
    """The logs of a name beside conn logs: the first that exists of each conn log's possible
    neighbours, each once."""
    found: dict[Path, None] = {}
    for conn_log in conn_logs:
        rest = conn_log.name.removeprefix("conn")
        if rest == conn_log.name:
            continue
        names = [f"{name}{rest}"]
        if rest.startswith((".log", ".json", ".parquet")):
            names += [f"{name}.log", f"{name}.log.gz", f"{name}.json", f"{name}.parquet"]
        paths = [path for path in map(conn_log.with_name, names) if path.is_file()]
        found |= dict.fromkeys(paths[:1])
    return list(found)


def _read(
    path: Path, kinds: dict[str, Kind], needed: tuple[str, ...], notes: list[str]
) -> pd.DataFrame | None:
    """A log beside that is damaged must not keep the connections from being read.

    Columns that this log lacks, as Zeek's versions differ, are unknown.
    """
    try:
        log = read_log(path, kinds, needed, path.name)
    except UserError as error:
        notes.append(f"{path.name} was left out: {error}")
        return None
    notes += log.notes
    unknown = {
        column: pd.Series(
            np.nan, range(log.table.num_rows), "float64" if kind == "number" else "str"
        )
        for column, kind in kinds.items()
        if column not in log.table.column_names
    }
    return _mend(log.frame.assign(**unknown), kinds, path.name, notes)


def _mend(rows: pd.DataFrame, kinds: dict[str, Kind], name: str, notes: list[str]) -> pd.DataFrame:
    """Numbers below zero, or that no counter, code or time reaches, become unknown and are counted."""
    columns = [column for column, kind in kinds.items() if kind == "number"]
    wrong = (rows[columns] > _MOST) | (rows[columns] < 0)
    if n := int(wrong.to_numpy().sum()):
        notes.append(f"{name}: {n:,} numbers that cannot be were taken as unknown.")
        rows[columns] = rows[columns].mask(wrong)
    return rows


# ---- What Zeek says of the traffic and of itself ----


def read_notices(conn_logs: Sequence[Path], notes: list[str]) -> pd.DataFrame:
    """The rows of notice.log, and the alerts of other detectors, as
    ``traffic.capture.empty_notices`` has them."""
    parts = [
        make_notices(rows[rows["ts"].notna()])
        for path in siblings(conn_logs, "notice")
        if (rows := _read(path, NOTICE_KINDS, ("ts", "note"), notes)) is not None and len(rows)
    ]
    alerts = (read_alerts(path, notes) for name in ALERT_LOGS for path in siblings(conn_logs, name))
    parts += [one for one in alerts if len(one)]
    return join_notices(parts)


def join_notices(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put notices of several logs together, as ``traffic.capture.empty_notices`` has them."""
    if not parts:
        return empty_notices()
    notices = pd.concat([part.astype({"type": "str"}) for part in parts], ignore_index=True)
    notices["claim"] = pd.Categorical(notices["claim"], list(NOTICE_CLAIMS))
    return notices.astype({"type": "category"})[NOTICE_COLUMNS]


def notice_evidence(notices: pd.DataFrame, span: Span) -> pd.DataFrame:
    """Notices of the time of the connections, by slot and pair; the claim is the code.

    One without a target is counted at who did it.
    """
    near = notices[span.is_near(notices["ts"]) & notices["src"].notna().to_numpy()]
    events = pd.DataFrame(
        {
            "slot": np.floor(near["ts"] / SAMPLE_S).astype("int64"),
            "src": near["src"],
            "dst": near["dst"].fillna(near["src"]),
            "kind": "notice",
            "code": near["claim"].cat.codes.astype("int64"),
            "count": 1,
            "distinct": 0,
            "first_s": near["ts"],
            "last_s": near["ts"],
        }
    )
    return join_evidence([events])


def note_far(notices: pd.DataFrame, span: Span) -> list[str]:
    """Says that notices are of another time than the connections."""
    far = notices[~span.is_near(notices["ts"])]
    if far.empty:
        return []
    claims = far["claim"].value_counts()
    other = far["type"].astype("str").str.startswith((SURICATA, SLIPS))
    where = "notice.log" if not other.any() else "notices and alerts of other detectors"
    most = ", ".join(f"{claim} ({n:,})" for claim, n in claims[claims > 0].items())
    return [
        f"{where}: {len(far):,} rows lie more than a day outside the connections: {most}; "
        "they are shown, and counted in no window."
    ]


def read_counted(conn_logs: Sequence[Path]) -> Counted:
    """What weird.log, notice.log and capture_loss.log say."""
    notes: list[str] = []
    reports: list[list] = []
    for name, column in (("weird", "name"), ("notice", "note")):
        for path in siblings(conn_logs, name):
            rows = _read(path, {"ts": "number", column: "text"}, ("ts", column), notes)
            if rows is None or not len(rows):
                continue
            values = rows[column].dropna()
            # Names come from the log's text: only what looks like an identifier is repeated.
            counts = values[values.str.fullmatch(r"[A-Za-z0-9_:.-]{1,60}")].value_counts()
            reports += [[path.name, value, n] for value, n in counts.items()]
            top = ", ".join(f"{value} ({n:,})" for value, n in counts.head(3).items())
            most = f", most of them {top}" if top else ""
            notes.append(f"{path.name} beside it holds {len(values):,} rows{most}.")
    losses = [
        rows
        for path in siblings(conn_logs, "capture_loss")
        if (rows := _read(path, _LOSS_KINDS, ("ts", "percent_lost"), notes)) is not None
    ]
    share, worst = _measure_loss(losses)
    if worst > 0:
        missed = f"up to {100 * worst:.1f} % of the traffic"
        notes.append(f"capture_loss.log: Zeek itself missed {missed}.")
        times = sum(int((rows["percent_lost"] > 0).sum()) for rows in losses)
        reports.append(["capture_loss.log", f"missed {missed}", times])
    table = pd.DataFrame(reports, columns=["source", "name", "count"])
    table = table.astype({"source": "str", "name": "str", "count": "int64"})
    return Counted(tuple(notes), table, share, worst)


_LOSS_KINDS: dict[str, Kind] = {
    "ts": "number", "percent_lost": "number", "gaps": "number", "acks": "number",
}  # fmt: skip


def _measure_loss(losses: Sequence[pd.DataFrame]) -> tuple[float, float]:
    """How much of what was acknowledged was missed in all and in the worst interval, as shares; NaN
    where nothing was measured."""
    rows = pd.concat(losses, ignore_index=True) if losses else pd.DataFrame()
    if rows.empty or rows["percent_lost"].isna().all():
        return float("nan"), float("nan")
    lost = (rows["percent_lost"] / 100).clip(0, 1)
    # An interval counts by what was acknowledged in it; a log that does not say so, evenly.
    weight = rows["acks"].where(rows["percent_lost"].notna())
    weight = weight if weight.sum() > 0 else lost.notna().astype(float)
    return float((lost * weight).sum() / weight.sum()), float(lost.max())
