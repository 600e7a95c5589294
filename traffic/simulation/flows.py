"""Flow rows as Zeek would have logged them, made without packets: sessions, datagrams, attempts.

Each maker takes arrays of start times and appends one row per connection to a ``FlowLog``.

    SYN at  0   1   3       7               15 s        one attempt at a dead host
    rows    |=======|       |               |           Zeek ends an attempt 5 s after its first SYN
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from traffic.capture import COUNTS, FLOW_COLUMNS
from traffic.labels import NORMAL

# One value for all rows, or shape (n,) with one for each.
Numbers = float | np.number | np.ndarray
Texts = str | np.ndarray
Columns = dict[str, Any]  # further columns of a log, or arguments of a maker

MSS_BYTES = 1448
ATTEMPT_S = 5.0  # Zeek's tcp_attempt_delay
ANSWERED = -2  # a DNS question that was answered without an error
# Seconds after the first SYN at which an operating system sends it again.
SYN_RETRIES: dict[str, tuple[float, ...]] = {
    "once": (0,),
    "embedded": (0, 3),
    "impatient": (0, 1),
    "linux_short": (0, 1, 3),
    "linux": (0, 1, 3, 7),
    "linux_long": (0, 1, 3, 7, 15, 31),
    "windows": (0, 3, 9),
    "windows_new": (0, 1, 3, 7, 15),
    "lwip": (0, 1.5, 4.5, 10.5),
}
# How a session ends -> Zeek's conn_state and history.
_ENDINGS: dict[str, tuple[str, str]] = {
    "closed": ("SF", "ShADadFf"),
    "closed_by_server": ("SF", "ShADadfF"),
    "open": ("S1", "ShADad"),
    "half_server": ("S3", "ShADadf"),
    "half_client": ("S2", "ShADadF"),
    "reset_client": ("RSTO", "ShADadR"),
    "reset_twice": ("RSTO", "ShADadRRR"),
    "reset_server": ("RSTR", "ShADadr"),
    "reset_late": ("RSTR", "ShADadfr"),
}
# What a flow's packets would show. It stands beside Zeek's columns, and the evidence is drawn
# from it last, because faults cut and repeat flows after they were made.
_HIDDEN: Columns = {
    "app": "",  # protocol whose requests evidence counts
    "code": -1,  # function code, or DNS response code; -1 for no answer
    "asks": 0.0,  # requests in one question
    "tells": 0.0,  # messages in one answer
    "distinct": 0,  # different registers or topics
    "named": False,  # the server was looked up by name
    "tries": "linux",  # the client's policy of SYN retries
    "steady": True,  # its exchanges are evenly spaced
    "exchanges": 0.0,  # questions with their answers
    "alive_s": 0.0,  # seconds between two keep-alives; 0 for none
}
_DEFAULTS = {"service": "", "missed_bytes": 0.0, "label": NORMAL, **_HIDDEN}
_COLUMNS = [*(name for name in FLOW_COLUMNS if name != "uid"), "label", *_HIDDEN]
_EVIDENCE = ["ts", "src", "dst", "kind", "code", "count", "distinct"]


@dataclass
class FlowLog:
    """Flow rows, and evidence that no flow carries, collected while devices act.

    Attributes:
        rng: the one source of chance of a simulation.
        flows: one dict of equally long arrays per call of ``add``.
        evidence: one dict of equally long arrays per call of ``note``.
    """

    rng: np.random.Generator
    flows: list[dict[str, np.ndarray]] = field(default_factory=list)
    evidence: list[dict[str, np.ndarray]] = field(default_factory=list)

    def add(
        self,
        ts: np.ndarray,
        orig: Texts,
        resp: Texts,
        port: Numbers,
        orig_p: Numbers,
        **columns: Any,
    ) -> None:
        """Append one row per time; ``columns`` are Zeek's, ``label``, or hidden ones."""
        ts = np.atleast_1d(np.asarray(ts, float))
        if len(ts):
            ends = {"id.orig_h": orig, "id.resp_h": resp, "id.resp_p": port, "id.orig_p": orig_p}
            row = {**_DEFAULTS, **ends, **columns, "ts": ts}
            self.flows.append({name: _filled(row[name], len(ts)) for name in _COLUMNS})

    def note(
        self,
        ts: np.ndarray,
        src: Texts,
        dst: Texts,
        kind: str,
        code: Numbers = -1,
        count: Numbers = 1,
        distinct: Numbers = 0,
    ) -> None:
        """Append evidence that no flow carries, one event group per time."""
        ts = np.atleast_1d(np.asarray(ts, float))
        if len(ts):
            row = dict(zip(_EVIDENCE, (ts, src, dst, kind, code, count, distinct), strict=True))
            self.evidence.append({name: _filled(value, len(ts)) for name, value in row.items()})

    def ports(self, n: int) -> np.ndarray:
        """Draw n source ports as operating systems choose them: counted upwards or at random."""
        first = int(self.rng.choice([1024, 32768, 49152]))
        width = 28000 if first == 32768 else 65535 - first
        if self.rng.random() < 0.5:
            start, step = int(self.rng.integers(width)), int(self.rng.integers(1, 3))
            return first + (start + np.arange(n) * step) % width
        return first + self.rng.integers(width, size=n)

    def flow_table(self) -> pd.DataFrame:
        """All rows so far, unsorted; packets and bytes are whole numbers."""
        table = _joined(self.flows, _COLUMNS)
        whole = [name for name in COUNTS if name != "duration"]
        return table.assign(**{name: np.rint(table[name].to_numpy(float)) for name in whole})

    def evidence_table(self) -> pd.DataFrame:
        """All noted evidence so far, with times, unsorted."""
        return _joined(self.evidence, _EVIDENCE)


def _filled(value: Any, n: int) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind in "US":
        array = array.astype(object)
    return array if array.shape == (n,) else np.broadcast_to(array, (n,)).copy()


def _joined(parts: list[dict[str, np.ndarray]], names: list[str]) -> pd.DataFrame:
    parts = parts or [{name: np.empty(0, object) for name in names}]
    return pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in names})


def _spread_over(value: Numbers, n: int) -> np.ndarray:
    return np.broadcast_to(np.asarray(value, float), n)


# ---- TCP that is answered ----


@dataclass(frozen=True)
class Payload:
    """What a TCP connection carries.

    Attributes:
        exchanges: questions with their answers; 0 for a connection without data.
        ask_bytes: payload of one question.
        answer_bytes: payload of one answer.
    """

    exchanges: Numbers = 1
    ask_bytes: Numbers = 100
    answer_bytes: Numbers = 200


def modbus(code: int, distinct: int) -> Columns:
    """The columns of a Modbus session whose questions have this function code and so many
    different registers."""
    return {"service": "modbus", "app": "modbus", "code": code, "asks": 1.0, "distinct": distinct}


def session(
    log: FlowLog,
    ts: np.ndarray,
    orig: Texts,
    resp: Texts,
    port: Numbers,
    duration: Numbers,
    payload: Payload,
    *,
    ending: dict[str, float] | None = None,
    orig_p: Numbers | None = None,
    late: float | None = None,
    alive_s: float = 0.0,
    **columns: Any,
) -> None:
    """Add TCP connections that were answered.

    Args:
        log: where the rows go.
        ts: start times in seconds, shape (n,).
        orig: address of the client.
        resp: address of the server.
        port: the server's port.
        duration: seconds from first to last packet.
        payload: questions and answers.
        ending: weights over the ways a connection ends; ``{"closed": 1}`` by default.
        orig_p: the client's ports; fresh ones by default.
        late: share of the questions that the server acknowledges before it answers; drawn by
            default, mostly none.
        alive_s: seconds between two keep-alives beside the exchanges (question, answer, each
            acknowledged); 0 for none.
        **columns: further columns of the log, such as ``label`` or ``service``.
    """
    rng, n = log.rng, len(np.atleast_1d(ts))
    exchanges = _spread_over(payload.exchanges, n)
    ask, answer = _spread_over(payload.ask_bytes, n), _spread_over(payload.answer_bytes, n)
    duration_s = np.maximum(_spread_over(duration, n), 1e-3)
    sizes = _sizes(rng, exchanges, ask, answer, duration_s, alive_s, late)
    empty = sizes["orig_bytes"] + sizes["resp_bytes"] == 0
    state, history = _draw_endings(rng, ending or {"closed": 1.0}, empty)
    row = {"conn_state": state, "history": history, "duration": duration_s, "exchanges": exchanges}
    ports = log.ports(n) if orig_p is None else orig_p
    row |= {"proto": "tcp", "alive_s": alive_s, **sizes, **columns}
    log.add(ts, orig, resp, port, ports, **row)


def _sizes(
    rng: np.random.Generator,
    exchanges: np.ndarray,
    ask: np.ndarray,
    answer: np.ndarray,
    duration_s: np.ndarray,
    alive_s: float,
    late: float | None,
) -> dict[str, np.ndarray]:
    """Payload bytes, packets and IP bytes of each side, shape (n,) each, by Zeek's names."""
    n = len(duration_s)
    header = int(rng.choice([40, 52], p=[0.15, 0.85]))  # without and with timestamps (RFC 7323)
    keepalives = np.floor(duration_s / alive_s) if alive_s else np.zeros(n)
    segments = _segments(rng, ask, answer, duration_s / np.maximum(exchanges, 1), late)
    sizes: dict[str, np.ndarray] = {}
    for side, size, each, handshake in zip(
        ("orig", "resp"), (ask, answer), segments, (2, 1), strict=True
    ):
        payload = np.rint(exchanges * size) + 2 * keepalives
        pkts = np.rint(exchanges * each + handshake + rng.integers(1, 3, n)) + 2 * keepalives
        sizes |= {f"{side}_bytes": payload, f"{side}_pkts": pkts}
        sizes[f"{side}_ip_bytes"] = payload + pkts * header + 20
    return sizes


def _segments(
    rng: np.random.Generator,
    ask: np.ndarray,
    answer: np.ndarray,
    pace_s: np.ndarray,
    late: float | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Segments of each side in one exchange, data and bare acknowledgements (RFC 1122, 4.2.3.2).

    Data that is answered within the 40 to 200 ms of a delayed acknowledgement needs none; the last
    answer before a pause gets a bare one. In bulk, one acknowledges several segments.
    """
    asking, answering = np.ceil(ask / MSS_BYTES), np.ceil(answer / MSS_BYTES)
    bulk = rng.uniform(0.15, 0.6)
    if late is None:
        late = float(rng.choice([0.0, 0.0, 0.0, 0.0, 0.0, 0.1, 1.0]))
    paused = np.where(pace_s > rng.choice([0.04, 0.1, 0.2]), 1.0, rng.uniform(0.0, 0.6))
    orig_acks = np.where(answering > 1, np.maximum(answering * bulk, paused), answering * paused)
    alone = asking * np.where(answering > 0, late, paused)
    resp_acks = np.where(asking > 1, np.maximum(asking * bulk, 1.0), alone)
    return asking + orig_acks, answering + resp_acks


def _draw_endings(
    rng: np.random.Generator, ending: dict[str, float], empty: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """State and history of each session, by weight; ``empty`` ones carried no data."""
    names, weights = list(ending), np.array(list(ending.values()), float)
    drawn = rng.choice(len(names), size=len(empty), p=weights / weights.sum())
    state = np.array([_ENDINGS[name][0] for name in names], object)[drawn]
    history = np.array([_ENDINGS[name][1] for name in names], object)[drawn]
    for i in np.flatnonzero(empty):
        history[i] = history[i].replace("D", "").replace("d", "").replace("a", "", 1)
    return state, history


# ---- UDP and ICMP ----


@dataclass(frozen=True)
class Datagrams:
    """What a UDP conversation carries; ``in_pkts`` is 0 where nobody answers.

    Attributes:
        out_pkts: packets of the client.
        in_pkts: packets of the server.
        ask_bytes: payload of each of the client's.
        answer_bytes: payload of each of the server's.
    """

    out_pkts: Numbers = 1
    in_pkts: Numbers = 1
    ask_bytes: Numbers = 48
    answer_bytes: Numbers = 48


def udp_flow(
    log: FlowLog,
    ts: np.ndarray,
    orig: Texts,
    resp: Texts,
    port: Numbers,
    duration: Numbers,
    datagrams: Datagrams,
    *,
    orig_p: Numbers | None = None,
    **columns: Any,
) -> None:
    """Add UDP conversations; ``duration`` counts where there is more than one packet."""
    n = len(np.atleast_1d(ts))
    out, back = _spread_over(datagrams.out_pkts, n), _spread_over(datagrams.in_pkts, n)
    several, answered = out + back > 1, back > 0
    resp_each = np.broadcast_to(np.asarray(resp, object), n)
    header = np.where([":" in str(address) for address in resp_each], 48, 28)
    orig_bytes = np.rint(out * datagrams.ask_bytes)
    resp_bytes = np.rint(back * datagrams.answer_bytes)
    state = np.where(answered, np.where(out > 0, "SF", "SHR"), "S0").astype(object)
    history = np.where(answered, np.where(out > 0, "Dd", "^d"), "D").astype(object)
    row: Columns = {"proto": "udp", "conn_state": state, "history": history}
    row |= {"duration": np.where(several, _spread_over(duration, n), np.nan)}
    row |= {"orig_bytes": np.where(several, orig_bytes, np.nan), "orig_pkts": out}
    row |= {"resp_bytes": np.where(several, resp_bytes, np.nan), "resp_pkts": back}
    row |= {"orig_ip_bytes": orig_bytes + out * header, "resp_ip_bytes": resp_bytes + back * header}
    log.add(ts, orig, resp, port, log.ports(n) if orig_p is None else orig_p, **(row | columns))


def dns_query(
    log: FlowLog,
    ts: np.ndarray,
    orig: Texts,
    resolver: str,
    code: Numbers,
    duration: Numbers = 0.02,
    datagrams: Datagrams = Datagrams(),
    **columns: Any,
) -> None:
    """Add DNS questions with the response code ``code``: ``ANSWERED``, or -1 for no answer."""
    columns |= {"service": "dns", "app": "dns", "code": code, "asks": 1.0}
    udp_flow(log, ts, orig, resolver, 53, duration, datagrams, **columns)


def ping(
    log: FlowLog,
    ts: np.ndarray,
    orig: Texts,
    resp: Texts,
    duration: Numbers = 0.02,
    out_pkts: Numbers = 1,
    in_pkts: Numbers = 1,
    size_bytes: Numbers = 56,
    *,
    kind: int = 8,
    code: int = 0,
    **columns: Any,
) -> None:
    """Add ICMP as Zeek logs it: type and code where ports stand, no history, state OTH."""
    datagrams = Datagrams(out_pkts, in_pkts, size_bytes, size_bytes)
    columns |= {"proto": "icmp", "conn_state": "OTH", "history": ""}
    udp_flow(log, ts, orig, resp, code, duration, datagrams, orig_p=kind, **columns)


# ---- TCP that fails ----


def attempt(
    log: FlowLog,
    ts: np.ndarray,
    orig: Texts,
    resp: Texts,
    port: Numbers,
    *,
    tries: Texts = "linux",
    orig_p: Numbers | None = None,
    **columns: Any,
) -> None:
    """Add TCP attempts that nobody answers: SYNs by the policy ``tries``, one row per attempt of
    Zeek."""
    ts = np.atleast_1d(np.asarray(ts, float))
    n, ports = len(ts), log.ports(len(ts)) if orig_p is None else orig_p
    options = {"orig": orig, "resp": resp, "port": port, "orig_p": ports, **columns}
    policy = np.broadcast_to(np.asarray(tries, object), n)
    for name in sorted(set(policy)):
        rows = np.flatnonzero(policy == name)
        row: Columns = {"tries": name, "proto": "tcp", "conn_state": "S0", "history": "S"}
        for key, value in options.items():
            row[key] = np.broadcast_to(np.asarray(value, object), n)[rows]
        for first_s, syns, duration_s in _attempt_rows(SYN_RETRIES[name]):
            size = int(log.rng.choice([40, 44, 48, 52, 60], p=[0.1, 0.1, 0.1, 0.2, 0.5]))
            payload = 0.0 if syns > 1 else np.nan
            row |= {"duration": duration_s * log.rng.uniform(1.0, 1.06, len(rows))}
            row |= {"orig_bytes": payload, "resp_bytes": payload, "orig_pkts": syns}
            row |= {"resp_pkts": 0.0, "orig_ip_bytes": float(syns * size), "resp_ip_bytes": 0.0}
            log.add(ts[rows] + first_s, **row)


def _attempt_rows(schedule: tuple[float, ...]) -> list[tuple[float, int, float]]:
    """Start, SYNs and length of each row that a schedule of SYNs becomes in Zeek's log."""
    rows: list[tuple[float, int, float]] = []
    for at in schedule:
        if rows and at - rows[-1][0] < ATTEMPT_S:
            rows[-1] = (rows[-1][0], rows[-1][1] + 1, at - rows[-1][0])
        else:
            rows.append((at, 1, np.nan))
    return rows


def refuse(
    log: FlowLog,
    ts: np.ndarray,
    orig: Texts,
    resp: Texts,
    port: Numbers,
    *,
    orig_p: Numbers | None = None,
    **columns: Any,
) -> None:
    """Add TCP attempts that are answered by a reset."""
    ts = np.atleast_1d(np.asarray(ts, float))
    ports = log.ports(len(ts)) if orig_p is None else orig_p
    row = {"proto": "tcp", "conn_state": "REJ", "history": "Sr", "orig_pkts": 1.0, "resp_pkts": 1.0}
    row |= {"duration": log.rng.lognormal(-6.5, 1.0, len(ts)), "orig_bytes": 0.0, "resp_bytes": 0.0}
    row |= {"orig_ip_bytes": 60.0, "resp_ip_bytes": 40.0}
    log.add(ts, orig, resp, port, ports, **(row | columns))
