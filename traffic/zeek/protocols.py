"""Evidence and notes from the protocol logs beside a conn.log, a table by log at the end.

Fields: https://docs.zeek.org/en/master/script-reference/log-files.html (DNS::Info, Modbus::Info,
MQTT::ConnectInfo, MQTT::PublishInfo, DPD::Info, Weird::Info, Notice::Info).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from traffic.capture import EVIDENCE_COLUMNS, SAMPLE_S, join_evidence
from traffic.errors import UserError
from traffic.zeek.columns import Kind
from traffic.zeek.logs import read_log

_DNS_PORT = 53
ENDS = ("id.orig_h", "id.resp_h")
# base/protocols/modbus/consts.zeek
_MODBUS_READ = {
    "READ_COILS": 1,
    "READ_DISCRETE_INPUTS": 2,
    "READ_HOLDING_REGISTERS": 3,
    "READ_INPUT_REGISTERS": 4,
    "READ_FILE_RECORD": 20,
    "READ_FIFO_QUEUE": 24,
}
_MODBUS_WRITE = {
    "WRITE_SINGLE_COIL": 5,
    "WRITE_SINGLE_REGISTER": 6,
    "WRITE_MULTIPLE_COILS": 15,
    "WRITE_MULTIPLE_REGISTERS": 16,
    "WRITE_FILE_RECORD": 21,
    "MASK_WRITE_REGISTER": 22,
    "READ_WRITE_MULTIPLE_REGISTERS": 23,
}
_MODBUS_OTHER = {
    "READ_EXCEPTION_STATUS": 7,
    "DIAGNOSTICS": 8,
    "PROGRAM_484": 9,
    "POLL_484": 10,
    "GET_COMM_EVENT_COUNTER": 11,
    "GET_COMM_EVENT_LOG": 12,
    "PROGRAM_584_984": 13,
    "POLL_584_984": 14,
    "REPORT_SLAVE_ID": 17,
    "PROGRAM_884_U84": 18,
    "RESET_COMM_LINK_884_U84": 19,
    "PROGRAM_CONCEPT": 40,
    "MULTIPLE_FUNCTION_CODES": 41,
    "ENCAP_INTERFACE_TRANSPORT": 43,
    "PROGRAM_UNITY": 90,
    "OBJECT_MESSAGING": 91,
}
_MODBUS_CODES = {**_MODBUS_READ, **_MODBUS_WRITE, **_MODBUS_OTHER}
_MODBUS_EXCEPTIONS = {
    "ILLEGAL_FUNCTION": 1,
    "ILLEGAL_DATA_ADDRESS": 2,
    "ILLEGAL_DATA_VALUE": 3,
    "SLAVE_DEVICE_FAILURE": 4,
    "ACKNOWLEDGE": 5,
    "SLAVE_DEVICE_BUSY": 6,
    "MEMORY_PARITY_ERROR": 8,
    "GATEWAY_PATH_UNAVAILABLE": 10,
    "GATEWAY_TARGET_DEVICE_FAILED_TO_RESPOND": 11,
}
# base/protocols/mqtt/consts.zeek, in lower case
_MQTT_ACCEPTED = "connection accepted"
_MQTT_REFUSED = {
    "refused: unacceptable protocol version": 1,
    "refused: identifier rejected": 2,
    "refused: server unavailable": 3,
    "refused: bad user name or password": 4,
    "refused: not authorized": 5,
}


@dataclass(frozen=True)
class Beside:
    """Evidence of the logs beside a conn.log, notes, and whether a dns.log is among them."""

    evidence: pd.DataFrame
    notes: tuple[str, ...]
    has_dns: bool


def read_beside(conn_logs: Sequence[Path]) -> Beside:
    """Read the protocol logs of the same span that lie beside conn logs.

    Args:
        conn_logs: ``conn.log`` has ``dns.log`` beside it, ``conn.12:00:00-13:00:00.log.gz`` has
            ``dns.12:00:00-13:00:00.log.gz``.

    Returns:
        Their evidence. A log that cannot be read is said in ``notes``, and weird.log, notice.log
        and capture_loss.log speak there.
    """
    parts: list[pd.DataFrame] = []
    notes: list[str] = []
    has_dns = False
    for name, (kinds, make) in _LOGS.items():
        for path in siblings(conn_logs, name):
            log = _read(path, KINDS_BESIDE[name], ("ts", *ENDS), notes)
            if log is None:
                continue
            rows = _with_columns(log[log["ts"].notna()], kinds)
            has_dns |= name == "dns"
            if len(rows):
                slot = np.floor(rows["ts"] / SAMPLE_S).astype("int64")
                parts.append(make(rows.assign(slot=slot)))
    notes += read_counted(conn_logs)
    return Beside(join_evidence(parts), tuple(notes), has_dns)


def read_counted(conn_logs: Sequence[Path]) -> list[str]:
    """What weird.log, notice.log and capture_loss.log say, one sentence each."""
    notes: list[str] = []
    for name, (column, say) in _COUNTED.items():
        for path in siblings(conn_logs, name):
            log = _read(path, {"ts": "number", column: "text"}, ("ts", column), notes)
            if log is not None and len(log):
                notes += say(path.name, log[column].dropna())
    return notes


def siblings(conn_logs: Sequence[Path], name: str) -> list[Path]:
    """The logs of a name beside conn logs: the first that exists of each conn log's possible neighbours, each once."""
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
) -> pd.DataFrame:
    """A log beside that is damaged must not keep the connections from being read."""
    try:
        log = read_log(path, kinds, needed, path.name)
    except UserError as error:
        notes.append(f"{path.name} was left out: {error}")
        return None
    notes += log.notes
    return log.frame


def _with_columns(table: pd.DataFrame, kinds: dict[str, Kind]) -> pd.DataFrame:
    """Columns that this log lacks, as Zeek's versions differ, are unknown."""
    types = {"number": "float64", "text": "str", "flag": "str"}
    unknown = {
        column: pd.Series(np.nan, index=table.index, dtype=types[kind])
        for column, kind in kinds.items()
        if column not in table
    }
    return table.assign(**unknown)


def _rows(
    rows: pd.DataFrame, kind: object, code: object = -1, target: str | None = None
) -> pd.DataFrame:
    """One event per logged row, counted per slot; ``target`` is the column whose values are
    distinct."""
    table = rows[["slot", "src", "dst"]].assign(kind=kind, code=code, count=1)
    table["target"] = rows[target] if target else None
    keys = EVIDENCE_COLUMNS[:5]
    grouped = table.groupby(keys, as_index=False, observed=True)
    return grouped.agg(count=("count", "sum"), distinct=("target", "nunique"))[EVIDENCE_COLUMNS]


def _ends(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(src=rows["id.orig_h"], dst=rows["id.resp_h"])


def _codes(names: pd.Series, codes: dict[str, int]) -> pd.Series:
    """Zeek's name of a code, or the number in its ``unknown-7``."""
    number = pd.to_numeric(names.str.extract(r"(\d+)$", expand=False), errors="coerce")
    return names.map(codes).astype(float).fillna(number).fillna(-1).astype("int64")


def _dns(rows: pd.DataFrame) -> pd.DataFrame:
    rows = _ends(rows[rows["id.resp_p"] == _DNS_PORT])
    failed = rows[rows["rcode"].isna() | (rows["rcode"] > 0)]
    code = failed["rcode"].fillna(-1).astype("int64")
    return pd.concat(
        [_rows(rows, "dns_query", target="query"), _rows(failed, "dns_failed", code, "query")]
    )


def _modbus(rows: pd.DataFrame) -> pd.DataFrame:
    rows = _ends(rows)
    func = rows["func"].str.removesuffix("_EXCEPTION").fillna("")
    if rows["pdu_type"].notna().any():
        request = (rows["pdu_type"] == "REQ").to_numpy()
    else:
        # Before Zeek 6 the log does not say which of a connection's messages asks; they take turns.
        request = (rows.groupby("uid").cumcount() % 2 == 0).to_numpy()
    which = [func.isin(_MODBUS_READ), func.isin(_MODBUS_WRITE)]
    kind = np.select(which, ["modbus_read", "modbus_write"], "modbus_other")
    requests = _rows(rows[request], kind[request], _codes(func, _MODBUS_CODES)[request])
    refused = rows[rows["exception"].notna()]
    code = _codes(refused["exception"], _MODBUS_EXCEPTIONS)
    return pd.concat([requests, _rows(refused, "modbus_exception", code)])


def _mqtt_connect(rows: pd.DataFrame) -> pd.DataFrame:
    rows = _ends(rows)
    status = rows["connect_status"].str.lower().fillna(_MQTT_ACCEPTED)
    refused = (status != _MQTT_ACCEPTED).to_numpy()
    code = _codes(status[refused], _MQTT_REFUSED)
    return pd.concat([_rows(rows, "mqtt_connect"), _rows(rows[refused], "mqtt_refused", code)])


def _mqtt_publish(rows: pd.DataFrame) -> pd.DataFrame:
    client = (rows["from_client"].str.upper() != "F").to_numpy()
    src = rows["id.orig_h"].where(client, rows["id.resp_h"])
    dst = rows["id.resp_h"].where(client, rows["id.orig_h"])
    return _rows(rows.assign(src=src, dst=dst), "mqtt_publish", target="topic")


def _mqtt_malformed(rows: pd.DataFrame) -> pd.DataFrame:
    """Zeek's parser gave up on a connection that it took for MQTT."""
    parser = "analyzer" if "analyzer" in rows else "analyzer_name"
    return _rows(_ends(rows[rows[parser].str.upper() == "MQTT"]), "mqtt_malformed")


def _most(name: str, values: pd.Series) -> list[str]:
    """Names come from the log's text: only what looks like an identifier is repeated."""
    safe = values[values.str.fullmatch(r"[A-Za-z0-9_:.-]{1,60}")]
    top = ", ".join(f"{value} ({count:,})" for value, count in safe.value_counts().head(3).items())
    return [f"{name} beside it holds {len(values):,} rows{', most of them ' + top if top else ''}."]


def _loss(name: str, values: pd.Series) -> list[str]:
    worst = pd.to_numeric(values, errors="coerce").max()
    return [f"{name}: Zeek itself missed up to {worst:.1f} % of the traffic."] if worst > 0 else []


_ENDS_TEXT: dict[str, Kind] = {"id.orig_h": "text", "id.resp_h": "text"}
_LOGS: dict[str, tuple[dict[str, Kind], Callable[[pd.DataFrame], pd.DataFrame]]] = {
    "dns": ({**_ENDS_TEXT, "id.resp_p": "number", "query": "text", "rcode": "number"}, _dns),
    "modbus": (
        {**_ENDS_TEXT, "uid": "text", "func": "text", "pdu_type": "text", "exception": "text"},
        _modbus,
    ),
    "mqtt_connect": ({**_ENDS_TEXT, "connect_status": "text"}, _mqtt_connect),
    "mqtt_publish": ({**_ENDS_TEXT, "from_client": "flag", "topic": "text"}, _mqtt_publish),
    "dpd": ({**_ENDS_TEXT, "analyzer": "text"}, _mqtt_malformed),
    "analyzer": ({**_ENDS_TEXT, "analyzer_name": "text"}, _mqtt_malformed),
}
_COUNTED: dict[str, tuple[str, Callable[[str, pd.Series], list[str]]]] = {
    "weird": ("name", _most),
    "notice": ("note", _most),
    "capture_loss": ("percent_lost", _loss),
}
KINDS_BESIDE: dict[str, dict[str, Kind]] = {
    name: {"ts": "number", **kinds} for name, (kinds, _) in _LOGS.items()
}
