"""Requests and answers from Zeek's protocol logs and those of ICSNPP, in the form that packets give.

A log has a row per exchange (dns.log) or per message (s7comm.log). Each log's function makes rows of
one of two forms, and ``make_exchanges`` joins them:

    exchange   ts uid client server port, then columns of ``empty_exchanges`` that it knows
    message    the same with ``role`` (ask, answer, tell), ``key`` (what an answer repeats), ``code``

Fields: https://docs.zeek.org/en/master/script-reference/log-files.html and the READMEs of
https://github.com/cisagov/icsnpp-modbus, -dnp3, -bacnet, -s7comm, -enip.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from traffic.arrays import number_groups, starts_run
from traffic.conversations import EXCHANGE_COLUMNS, OUTCOMES, empty_exchanges
from traffic.pcap.protocols import cip
from traffic.pcap.protocols.bacnet import BACNET
from traffic.pcap.protocols.dnp3 import DNP3
from traffic.pcap.protocols.modbus import ADDRESSED, MODBUS
from traffic.pcap.protocols.protocol import KINDS, select_kinds
from traffic.pcap.protocols.s7comm import S7COMM
from traffic.pcap.protocols.written import COIL, COILS, REGISTER, REGISTERS, pack_modbus
from traffic.zeek.codes import (
    BACNET_SERVICES,
    DNP3_FUNCTIONS,
    MODBUS_CODES,
    MODBUS_EXCEPTIONS,
    MQTT_ACCEPTED,
    MQTT_REFUSED,
    S7_CLASSES,
    number_codes,
    word_kinds,
)

_MULTICAST = (137, 5353, 5355)  # asked of all, who may answer or not
_CIP_EMBEDDED = 0x1E  # the status of services sent together of which one was refused
_ENIP_COMMAND = 0x1000000  # added to a command of EtherNet/IP, as the packets' reader does
_DEFAULTS = {
    "kind": "other", "function": -1, "unit": -1, "target": -1, "value": -1, "login": -1, "name": None, "points": None,
    "code": 0, "delay_s": np.nan, "behind": 0,
}  # fmt: skip
_WAIT_S = 5.0


def make_exchanges(parts: Mapping[str, pd.DataFrame], flows: pd.DataFrame) -> pd.DataFrame:
    """The table of a capture.

    Args:
        parts: rows of either form by protocol.
        flows: the capture's, whose ``uid`` the logs repeat.
    """
    found = []
    for protocol, part in parts.items():
        if len(part):
            rows = _pair(part) if "role" in part else part
            found.append(rows.assign(protocol=protocol))
    if not found:
        return empty_exchanges()
    rows = pd.concat(found, ignore_index=True).sort_values("ts", kind="stable", ignore_index=True)
    for column, value in _DEFAULTS.items():
        if column not in rows:
            rows[column] = value
        elif value is not None:
            rows[column] = rows[column].fillna(value)
    uid = flows.loc[flows["uid"].notna(), "uid"].drop_duplicates()
    rows["flow"] = rows["uid"].map(pd.Series(uid.index, index=uid)).fillna(-1)
    whole = ["port", "flow", "function", "unit", "target", "value", "login", "code", "behind"]
    rows = rows.assign(frame=0, answer_frame=0).astype(dict.fromkeys(whole, "int64"))
    fixed = {"kind": KINDS, "outcome": OUTCOMES}
    for column, words in fixed.items():
        rows[column] = pd.Categorical(rows[column], list(words))
    for column in ("client", "server", "protocol", "name", "points"):
        rows[column] = rows[column].astype("str").astype("category")
    return rows[EXCHANGE_COLUMNS]


def _pair(messages: pd.DataFrame) -> pd.DataFrame:
    """Join each answer to the last request of its key before it.

    Returns:
        A row per request, per answer that nobody was seen to ask for, and per message that needs
        none.
    """
    # Logs of several files, or a log that was written out of order.
    messages = messages.sort_values("ts", kind="stable", ignore_index=True)
    role = messages["role"].to_numpy()
    ends = [pd.factorize(messages[name])[0] for name in ("uid", "key", "client", "server")]
    group = number_groups(*(one.astype(np.int64) for one in ends))[0]
    asks, answers = role == "ask", role == "answer"
    paired = np.flatnonzero(asks | answers)
    order = paired[np.argsort(group[paired], kind="stable")]
    joins = asks[order][:-1] & answers[order][1:] & (group[order][:-1] == group[order][1:])
    answer = np.full(len(messages), -1)
    answer[order[:-1][joins]] = order[1:][joins]
    answered = answer >= 0
    unasked = answers.copy()
    unasked[answer[answered]] = False
    ts, code = messages["ts"].to_numpy(), messages["code"].to_numpy()
    refused = code > 0
    if "refused" in messages:  # where the code is not known
        refused |= (messages["refused"] == True).to_numpy()  # noqa: E712 (NaN is no refusal)
    waited = ts + _WAIT_S <= ts.max(initial=-np.inf)
    outcome = np.select(
        [role == "tell", unasked, answered & refused[answer], answered, waited],
        ["told", "unasked", "refused", "answered", "unanswered"],
        "unseen",
    )
    flow = messages["uid"].fillna("").to_numpy()
    count = pd.Series(asks.astype(int)).groupby(flow).cumsum().to_numpy()
    rows = messages.assign(
        outcome=outcome,
        code=np.where(answered, code[answer], np.where(asks, -1, code)),
        delay_s=np.where(answered, ts[answer] - ts, np.nan),
        behind=np.where(answered, count[answer] - count, 0),
    )
    return rows[asks | unasked | (role == "tell")].drop(columns=["role", "key"])


def _ends(rows: pd.DataFrame, from_orig: np.ndarray | None = None) -> pd.DataFrame:
    """Time, flow and ends of exchanges; where ``from_orig`` is false the responder asked."""
    orig = np.ones(len(rows), bool) if from_orig is None else from_orig
    return pd.DataFrame(
        {
            "ts": rows["ts"].to_numpy(),
            "uid": rows["uid"].to_numpy(),
            "client": rows["id.orig_h"].where(orig, rows["id.resp_h"]).to_numpy(),
            "server": rows["id.resp_h"].where(orig, rows["id.orig_h"]).to_numpy(),
            "port": rows["id.resp_p"].fillna(-1).to_numpy(),
        }
    )


def _outcome(code: pd.Series | np.ndarray, answered: pd.Series | np.ndarray) -> np.ndarray:
    code, answered = np.asarray(code), np.asarray(answered, bool)
    return np.select(
        [answered & (code > 0), answered], ["refused", "answered"], "unanswered"
    )  # fmt: skip


def _hex(values: pd.Series) -> np.ndarray:
    """Numbers written as 0x1f; -1 where unset or no number."""
    distinct = {text: _read_number(text) for text in values.dropna().unique()}
    return values.map(distinct).fillna(-1).to_numpy().astype(np.int64)


def _read_number(text: str) -> int:
    try:
        number = int(text, 0)
    except ValueError:
        return -1
    return number if 0 <= number < 1 << 48 else -1


# ---- A function per log ----


def read_dns(rows: pd.DataFrame) -> pd.DataFrame:
    """Questions; what Zeek saw no answer to is unanswered, but where all are asked."""
    code = rows["rcode"].fillna(-1)
    multicast = rows["id.resp_p"].isin(_MULTICAST)
    outcome = np.where(multicast, "told", _outcome(code, rows["rcode"].notna()))
    return _ends(rows).assign(
        kind="read", function=0, name=rows["query"].str.lower().to_numpy(), outcome=outcome,
        code=code.to_numpy(), delay_s=rows["rtt"].to_numpy(),
    )  # fmt: skip


def read_http(rows: pd.DataFrame) -> pd.DataFrame:
    """Requests; ``value`` is how many bytes of content came back, the name their MIME type."""
    method, status = rows["method"].str.upper(), rows["status_code"]
    kind = np.where(method.isin(["POST", "PUT", "PATCH", "DELETE"]), "write", "read")
    code = np.where(status >= 400, status, 0)
    outcome = np.where(status.isna(), "unseen", _outcome(code, status.notna()))
    kinds = rows["resp_mime_types"].str.extract("^([^,]*)", expand=False)
    safe = kinds.where(kinds.str.fullmatch(r"[a-z0-9.+-]{1,40}/[a-z0-9.+-]{1,80}"))
    return _ends(rows).assign(
        kind=kind, value=rows["response_body_len"].fillna(-1).to_numpy(), name=safe.to_numpy(),
        outcome=outcome, code=np.where(status.isna(), -1, code),
    )  # fmt: skip


def read_modbus(rows: pd.DataFrame) -> pd.DataFrame:
    """Messages; before Zeek 6 the log says neither which of them asks nor the transaction."""
    func = rows["func"].str.removesuffix("_EXCEPTION")
    code = number_codes(rows["exception"], MODBUS_EXCEPTIONS)
    return _ends(rows).assign(
        role=np.where(modbus_asks(rows), "ask", "answer"), key=rows["tid"].fillna(-1).to_numpy(),
        unit=rows["unit"].to_numpy(), **_modbus_function(func), code=np.maximum(code, 0),
    )  # fmt: skip


def modbus_asks(rows: pd.DataFrame) -> np.ndarray:
    """Which messages of modbus.log ask, shape (n,); where it does not say, they take turns."""
    if rows["pdu_type"].notna().any():
        return (rows["pdu_type"] == "REQ").to_numpy()
    return (rows.groupby("uid").cumcount() % 2 == 0).to_numpy()


def _modbus_function(func: pd.Series) -> dict[str, np.ndarray]:
    function = number_codes(func, MODBUS_CODES)
    return {"function": function, "kind": word_kinds(select_kinds(function, MODBUS.kinds))}


def read_modbus_detailed(rows: pd.DataFrame) -> pd.DataFrame:
    """Exchanges where ICSNPP matched a request and its answer; the others one after the other."""
    function = _modbus_function(rows["func"])
    code = np.maximum(number_codes(rows["exception_code"], MODBUS_EXCEPTIONS), 0)
    matched = (rows["matched"].str.upper() == "T").to_numpy()
    turn = rows.groupby(["uid", "tid", "func"], dropna=False).cumcount().to_numpy() % 2
    addressed = np.isin(function["function"], ADDRESSED)
    plain = np.isin(function["function"], (1, 2, 3, 4))
    found = _ends(rows).assign(
        unit=rows["unit"].to_numpy(), **function, code=code,
        target=np.where(addressed, rows["address"], np.nan),
        value=np.where(plain, rows["quantity"], np.nan), points=_pack_points(rows, function["function"]),
    )  # fmt: skip
    key = rows["tid"].fillna(-1).to_numpy()
    others = _pair(found.assign(role=np.where(turn == 0, "ask", "answer"), key=key)[~matched])
    exchanges = found.assign(outcome=_outcome(code, matched))[matched]
    return pd.concat([exchanges, others], ignore_index=True)


def _pack_points(rows: pd.DataFrame, function: np.ndarray) -> np.ndarray:
    """What a request writes, as packets would have it; None where the log does not tell."""
    told = rows["request_values"].notna() & rows["address"].between(0, 0xFFFF)
    told &= np.isin(function, (COIL, REGISTER, COILS, REGISTERS))
    packed = np.full(len(rows), None, object)
    keys = list(
        zip(function[told], rows["address"][told], rows["request_values"][told], strict=True)
    )
    known = {key: _pack_one(*key) for key in set(keys)}
    packed[told.to_numpy()] = [known[key] for key in keys]
    return packed


def _pack_one(function: int, address: float, values: str) -> str | None:
    words = values.split(",")
    numbers = [int(one) for one in words if one.isdecimal()]
    if len(numbers) < len(words) or max(numbers) > 0xFFFF:
        return None
    return pack_modbus(int(function), int(address), numbers).hex()


def read_mqtt_connect(rows: pd.DataFrame) -> pd.DataFrame:
    """Connects with their client ids."""
    status = rows["connect_status"].str.lower()
    code = np.where(status == MQTT_ACCEPTED, 0, number_codes(status, MQTT_REFUSED))
    return _ends(rows).assign(
        kind="session", function=1, name=rows["client_id"].to_numpy(), code=code,
        outcome=_outcome(code, status.notna()),
    )  # fmt: skip


def read_mqtt_publish(rows: pd.DataFrame) -> pd.DataFrame:
    """Publishes with their topics; at most once needs no answer."""
    client = (rows["from_client"].str.upper() != "F").to_numpy()
    once = ~rows["qos"].str.lower().isin(["at least once", "exactly once"])
    outcome = np.select([once, rows["status"] == "ok"], ["told", "answered"], "unanswered")
    return _ends(rows, client).assign(
        kind="publish", function=3, name=rows["topic"].to_numpy(), outcome=outcome
    )


def read_mqtt_subscribe(rows: pd.DataFrame) -> pd.DataFrame:
    """Subscriptions and their ends; a granted level from 0x80 on is a refusal."""
    leaves = rows["action"].str.upper().str.contains("UNSUB").fillna(False).to_numpy(bool)
    granted = rows["granted_qos_level"].fillna(0).to_numpy()
    code = np.where(granted >= 128, granted, 0)
    return _ends(rows).assign(
        kind=np.where(leaves, "other", "read"), function=np.where(leaves, 10, 8), code=code,
        outcome=_outcome(code, rows["ack"].str.upper() == "T"),
    )  # fmt: skip


def read_ntp(rows: pd.DataFrame) -> pd.DataFrame:
    """Client and server messages; stratum 0 in an answer is a kiss of death (RFC 5905, 7.4)."""
    mode = rows["mode"].fillna(-1).to_numpy()
    refused = (mode == 4) & (rows["stratum"] == 0).to_numpy()
    return _ends(rows).assign(
        role=np.select([mode == 3, mode == 4], ["ask", "answer"], "tell"), key=0, kind="read",
        function=mode, code=refused.astype(int),
    )  # fmt: skip


def read_dnp3(rows: pd.DataFrame) -> pd.DataFrame:
    """Requests; the low byte of the internal indications says whether one is refused (IEEE 1815,
    4.2.2.7): function unknown 1, object unknown 2, parameter wrong 4."""
    asked, replied = rows["fc_request"], rows["fc_reply"]
    alone = asked.isna().to_numpy()  # the outstation tells unasked
    function = number_codes(asked.fillna(replied), DNP3_FUNCTIONS)
    code = np.where(replied.isna(), 0, rows["iin"].fillna(0).to_numpy().astype(np.int64) & 7)
    told = np.where(alone, "told", _outcome(code, replied.notna()))
    return _ends(rows, ~alone).assign(
        kind=word_kinds(select_kinds(function, DNP3.kinds)), function=function, code=code,
        outcome=told,
    )  # fmt: skip


def read_bacnet(rows: pd.DataFrame) -> pd.DataFrame:
    """Messages; errors, rejects and aborts refuse. Their codes are names that differ by version of
    the parser: unknown."""
    pdu = rows["pdu_type"].str.upper().fillna("")
    answers = pdu.str.contains("ACK|ERROR|REJECT|ABORT").to_numpy(bool)
    refused = pdu.str.contains("ERROR|REJECT|ABORT").to_numpy(bool)
    asks = pdu.str.startswith("CONFIRMED").to_numpy(bool)
    service = rows["pdu_service"].str.lower().str.replace("-", "_").fillna("")
    function = service.map(BACNET_SERVICES).fillna(-1).to_numpy()
    orig = (rows["is_orig"].str.upper() != "F").to_numpy()
    return _ends(rows, orig ^ answers).assign(
        role=np.select([asks, answers], ["ask", "answer"], "tell"),
        key=rows["invoke_id"].fillna(-1).to_numpy(), kind=word_kinds(select_kinds(function, BACNET.kinds)),
        function=function, code=np.where(refused, -1, 0), refused=refused,
    )  # fmt: skip


def read_s7comm(rows: pd.DataFrame) -> pd.DataFrame:
    """Jobs and user data with what answers them."""
    rosctr, code = rows["rosctr_code"].to_numpy(), np.maximum(_hex(rows["error_code"]), 0)
    function, sub = _hex(rows["function_code"]), np.maximum(_hex(rows["subfunction_code"]), 0)
    data = rosctr == 7
    way = np.where(data, function >> 4, 0)
    named = rows["error_class"].map(S7_CLASSES).fillna(0).to_numpy().astype(np.int64)
    code = np.where(data | (named == 0), code, named << 8 | code)
    function = np.where(data, 0x1000 | (function & 15) << 8 | sub, function)
    answers = np.isin(rosctr, (2, 3)) | (way == 8)
    asks = (rosctr == 1) | (way == 4)
    orig = (rows["is_orig"].str.upper() != "F").to_numpy()
    return _ends(rows, orig ^ answers).assign(
        role=np.select([asks, answers], ["ask", "answer"], "tell"),
        key=rows["pdu_reference"].fillna(-1).to_numpy(), kind=word_kinds(select_kinds(function, S7COMM.kinds)),
        function=function, code=np.where(answers, code, 0),
    )  # fmt: skip


def read_cip(rows: pd.DataFrame) -> pd.DataFrame:
    """Services; several that are sent together are one request."""
    answers = (rows["direction"].str.lower() == "response").to_numpy()
    service, class_ = _hex(rows["cip_service_code"]) & 0x7F, _hex(rows["class_id"])
    status = _hex(rows["cip_status_code"])
    orig = (rows["is_orig"].str.upper() != "F").to_numpy()
    function = cip.name_service(service, class_)
    sequence = rows["cip_sequence_count"].fillna(-1).to_numpy().astype(np.int64)
    messages = _ends(rows, orig ^ answers).assign(
        role=np.where(answers, "answer", "ask"),
        key=(sequence & 0xFFFFFFFF) << 8 | service,
        kind=word_kinds(cip.find_kinds(function, class_, _hex(rows["attribute_id"]))), function=function,
        code=np.where(answers & (status != 6), np.maximum(status, 0), 0),  # 6: more is to come
    )  # fmt: skip
    changes = starts_run(pd.factorize(rows["uid"])[0], sequence, answers)
    return _join_services(messages, np.cumsum(changes))


def _join_services(messages: pd.DataFrame, run: np.ndarray) -> pd.DataFrame:
    """Services sent together as one message, as they are on the wire: the gravest says what they are
    for, the first that is refused which code.

    Args:
        messages: rows of cip.log.
        run: shape (n,), a number for the rows that follow each other on one flow in one direction
            with one sequence count.
    """
    several = (messages["function"] == cip.MULTIPLE).to_numpy()
    start = np.maximum.accumulate(np.where(starts_run(run) | several, np.arange(len(run)), 0))
    inner = several[start] & ~several
    of = start[inner]
    gravity = messages["kind"].map({"read": 1, "write": 2, "control": 3}).fillna(0).to_numpy(int)
    gravity = gravity.copy()  # pandas may hand out what it holds itself
    gravity[several] = 0
    np.maximum.at(gravity, of, gravity[inner])
    code = messages["code"].to_numpy().copy()
    first = np.flatnonzero(inner & (code > 0))[::-1]
    told = np.isin(code[start[first]], (0, _CIP_EMBEDDED))
    code[start[first[told]]] = code[first[told]]
    kind = np.where(
        several, np.array(["other", "read", "write", "control"])[gravity], messages["kind"]
    )
    return messages.assign(kind=kind, code=code)[~inner]


def read_enip(rows: pd.DataFrame) -> pd.DataFrame:
    """Commands but those that carry CIP, which cip.log has."""
    command = _hex(rows["enip_command_code"])
    refused = ~rows["enip_status"].str.lower().isin(["success"]) & rows["enip_status"].notna()
    kept = ~np.isin(command, (0x6F, 0x70)) | refused.to_numpy()
    rows, command, refused = rows[kept], command[kept], refused.to_numpy()[kept]
    asks = (rows["is_orig"].str.upper() != "F").to_numpy()
    kinds = [command == 0x63, np.isin(command, (0x65, 0x66))]
    return _ends(rows).assign(
        role=np.select([command == 0x66, asks], ["tell", "ask"], "answer"), key=command,
        kind=np.select(kinds, ["identify", "session"], "other"), function=command + _ENIP_COMMAND,
        code=np.where(refused & ~asks, -1, 0), refused=refused & ~asks,
    )  # fmt: skip


def read_dhcp(rows: pd.DataFrame) -> pd.DataFrame:
    """Conversations of a client with servers; ``value`` is the lease in seconds, the function the
    last message's type (RFC 2132, 9.6)."""
    types = ["DISCOVER", "OFFER", "REQUEST", "DECLINE", "ACK", "NAK", "RELEASE", "INFORM"]
    heard = rows["msg_types"].str.upper().fillna("").str.replace("DHCP_", "")
    last = heard.str.split(",").str[-1].str.strip()
    nak, given = heard.str.contains(r"\bNAK\b"), heard.str.contains(r"\b(?:ACK|OFFER)\b")
    client = rows["client_addr"].fillna(rows["assigned_addr"]).fillna(rows["requested_addr"])
    outcome = np.select(
        [nak, given, heard.str.contains("RELEASE|DECLINE")],
        ["refused", "answered", "told"],
        "unanswered",
    )
    return pd.DataFrame(
        {
            "ts": rows["ts"].to_numpy(), "uid": rows["uids"].str.extract("^([^,]*)", expand=False).to_numpy(),
            "client": client.fillna("0.0.0.0").to_numpy(),  # noqa: S104 (a client without an address)
            "server": rows["server_addr"].fillna("255.255.255.255").to_numpy(), "port": 67,
            "kind": "session", "function": last.map({t: i + 1 for i, t in enumerate(types)}).fillna(-1).to_numpy(),
            "value": rows["lease_time"].fillna(-1).to_numpy(), "name": rows["host_name"].to_numpy(),
            "outcome": outcome, "code": np.where(nak, 6, 0),
            "delay_s": np.where(given, rows["duration"], np.nan),
        }
    )  # fmt: skip
