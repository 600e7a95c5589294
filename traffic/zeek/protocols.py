"""What each protocol log beside a conn.log tells: evidence by slot, and exchanges; a table by log at
the end.

Fields: https://docs.zeek.org/en/master/script-reference/log-files.html (DNS::Info, Modbus::Info,
MQTT::ConnectInfo, MQTT::PublishInfo, DPD::Info) and the READMEs of https://github.com/cisagov.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from traffic.capture import EVIDENCE_COLUMNS
from traffic.pcap.protocols.modbus import READS, WRITES
from traffic.zeek import exchanges
from traffic.zeek.codes import (
    MODBUS_CODES,
    MODBUS_EXCEPTIONS,
    MQTT_ACCEPTED,
    MQTT_REFUSED,
    number_codes,
)
from traffic.zeek.columns import Kind
from traffic.zeek.exchanges import modbus_asks

_DNS_PORT = 53
ENDS = ("id.orig_h", "id.resp_h")

# ---- Evidence: rows with their ``slot`` counted by slot, pair, kind and code ----


def _rows(
    rows: pd.DataFrame, kind: object, code: object = -1, target: str | None = None
) -> pd.DataFrame:
    """One event per logged row, counted per slot; ``target`` is the column whose values are
    distinct."""
    table = rows[["ts", "slot", "src", "dst"]].assign(kind=kind, code=code, count=1)
    table["target"] = rows[target] if target else None
    keys = EVIDENCE_COLUMNS[:5]
    grouped = table.groupby(keys, as_index=False, observed=True)
    return grouped.agg(
        count=("count", "sum"),
        distinct=("target", "nunique"),
        first_s=("ts", "min"),
        last_s=("ts", "max"),
    )[EVIDENCE_COLUMNS]


def _ends(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(src=rows["id.orig_h"], dst=rows["id.resp_h"])


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
    request, function = modbus_asks(rows), number_codes(func, MODBUS_CODES)
    which = [np.isin(function, codes) for codes in (READS, WRITES)]
    kind = np.select(which, ["modbus_read", "modbus_write"], "modbus_other")
    requests = _rows(rows[request], kind[request], function[request])
    refused = rows[rows["exception"].notna()]
    code = number_codes(refused["exception"], MODBUS_EXCEPTIONS)
    return pd.concat([requests, _rows(refused, "modbus_exception", code)])


def _mqtt_connect(rows: pd.DataFrame) -> pd.DataFrame:
    rows = _ends(rows)
    status = rows["connect_status"].str.lower().fillna(MQTT_ACCEPTED)
    refused = (status != MQTT_ACCEPTED).to_numpy()
    code = number_codes(status[refused], MQTT_REFUSED)
    return pd.concat([_rows(rows, "mqtt_connect"), _rows(rows[refused], "mqtt_refused", code)])


def _mqtt_publish(rows: pd.DataFrame) -> pd.DataFrame:
    client = (rows["from_client"].str.upper() != "F").to_numpy()
    src = rows["id.orig_h"].where(client, rows["id.resp_h"])
    dst = rows["id.resp_h"].where(client, rows["id.orig_h"])
    return _rows(rows.assign(src=src, dst=dst), "mqtt_publish", target="topic")


def _mqtt_malformed(rows: pd.DataFrame) -> pd.DataFrame:
    """Zeek's parser gave up on a connection that it took for MQTT."""
    parser = "analyzer" if rows["analyzer"].notna().any() else "analyzer_name"
    return _rows(_ends(rows[rows[parser].str.upper() == "MQTT"]), "mqtt_malformed")


# ---- The table ----

Make = Callable[[pd.DataFrame], pd.DataFrame]


@dataclass(frozen=True)
class LogForm:
    """One log.

    Attributes:
        protocol: whose exchanges it holds, "" for none.
        kinds: the columns that are read; a version of Zeek that lacks some leaves them unknown.
        exchanges: makes rows as ``traffic.zeek.exchanges`` has them.
        evidence: makes evidence of rows that have a ``slot``.
        needed: without these the log is of no use.
    """

    protocol: str
    kinds: dict[str, Kind]
    exchanges: Make | None = None
    evidence: Make | None = None
    needed: tuple[str, ...] = ("ts", *ENDS)


_CONNECTION: dict[str, Kind] = {
    "ts": "number", "uid": "unique", "id.orig_h": "text", "id.resp_h": "text", "id.resp_p": "number",
}  # fmt: skip


def _columns(text: str = "", number: str = "", flag: str = "", sets: str = "") -> dict[str, Kind]:
    return {
        **_CONNECTION,
        **dict.fromkeys(text.split(), "text"),
        **dict.fromkeys(number.split(), "number"),
        **dict.fromkeys(flag.split(), "flag"),
        **dict.fromkeys(sets.split(), "set"),
    }


LOGS: dict[str, LogForm] = {
    "dns": LogForm("dns", _columns("query", "rcode rtt"), exchanges.read_dns, _dns),
    "http": LogForm(
        "http",
        {
            **_columns(
                "method host", "status_code request_body_len response_body_len",
                sets="resp_mime_types resp_fuids",
            ),
            "uri": "unique",
        },
        exchanges.read_http,
    ),
    "modbus_detailed": LogForm(
        "modbus",
        _columns(
            "func exception_code", "tid unit address quantity", "matched", sets="request_values"
        ),
        exchanges.read_modbus_detailed,
    ),
    "modbus": LogForm(
        "modbus", _columns("func pdu_type exception", "tid unit"), exchanges.read_modbus, _modbus
    ),
    "mqtt_connect": LogForm(
        "mqtt", _columns("connect_status client_id"), exchanges.read_mqtt_connect, _mqtt_connect
    ),
    "mqtt_publish": LogForm(
        "mqtt",
        _columns("topic qos status", flag="from_client"),
        exchanges.read_mqtt_publish,
        _mqtt_publish,
    ),
    "mqtt_subscribe": LogForm(
        "mqtt", _columns("action", "granted_qos_level", "ack"), exchanges.read_mqtt_subscribe
    ),
    "dpd": LogForm("", _columns("analyzer analyzer_name"), evidence=_mqtt_malformed),
    "analyzer": LogForm("", _columns("analyzer analyzer_name"), evidence=_mqtt_malformed),
    "ntp": LogForm("ntp", _columns(number="mode stratum"), exchanges.read_ntp),
    "dnp3": LogForm("dnp3", _columns("fc_request fc_reply", "iin"), exchanges.read_dnp3),
    "bacnet": LogForm(
        "bacnet", _columns("pdu_type pdu_service", "invoke_id", "is_orig"), exchanges.read_bacnet
    ),
    "s7comm": LogForm(
        "s7comm",
        _columns(
            "function_code subfunction_code error_class error_code",
            "rosctr_code pdu_reference",
            "is_orig",
        ),
        exchanges.read_s7comm,
    ),
    "cip": LogForm(
        "enip",
        _columns(
            "direction cip_service_code cip_status_code class_id attribute_id",
            "cip_sequence_count",
            "is_orig",
        ),
        exchanges.read_cip,
    ),
    "enip": LogForm(
        "enip", _columns("enip_command_code enip_status", flag="is_orig"), exchanges.read_enip
    ),
    "dhcp": LogForm(
        "dhcp",
        {
            "ts": "number", "uids": "set", "client_addr": "text", "server_addr": "text",
            "assigned_addr": "text", "requested_addr": "text", "host_name": "text",
            "msg_types": "set", "lease_time": "number", "duration": "number",
        },
        exchanges.read_dhcp,
        needed=("ts",),
    ),
}  # fmt: skip
