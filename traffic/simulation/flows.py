"""Flow rows that were never packets: sessions, exchanges and attempts as Zeek would have logged
them.

Every maker takes arrays of start times and appends one row per connection to a ledger.

    SYN at  0   1   3       7               15 s        one attempt at a dead host
    rows    |=======|       |               |           Zeek ends an attempt 5 s after its first SYN
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from traffic.capture import COUNTS, FLOW_COLUMNS
from traffic.labels import NORMAL

# Where simulated devices write what they did: flow rows, and evidence that no flow carries.
#
# Beside Zeek's columns a row carries what its packets would have said, from which the evidence is
# drawn once every fault has had its way with the flows.

HIDDEN = [
    "app",
    "code",
    "asks",
    "tells",
    "distinct",
    "named",
    "tries",
    "steady",
    "exchanges",
    "alive_s",
]


_BLANK: dict[str, Any] = {
    "service": "",
    "missed_bytes": 0.0,
    "label": NORMAL,
    "app": "",
    "code": -1,
    "asks": 0.0,
    "tells": 0.0,
    "distinct": 0,
    "named": False,
    "tries": "linux",
    "steady": True,
    "exchanges": 0.0,
    "alive_s": 0.0,
}


_COLUMNS = [*[name for name in FLOW_COLUMNS if name != "uid"], "label", *HIDDEN]


@dataclass
class Ledger:
    """Flow rows and loose evidence, collected while devices act.

    Attributes:
        rng: the one source of chance of a simulation.
        flows: one dict of equally long arrays per call of a maker.
        evidence: one dict of equally long arrays per call of ``note``.
    """

    rng: np.random.Generator
    flows: list[dict[str, np.ndarray]] = field(default_factory=list)
    evidence: list[dict[str, np.ndarray]] = field(default_factory=list)

    def add(self, ts: np.ndarray, **columns: Any) -> None:
        """Append rows; a scalar column holds for all of them."""
        ts = np.atleast_1d(np.asarray(ts, float))
        if not len(ts):
            return
        row = {**_BLANK, **columns, "ts": ts}
        self.flows.append({name: _filled(row[name], len(ts)) for name in _COLUMNS})

    def note(
        self,
        ts: np.ndarray,
        src: Any,
        dst: Any,
        kind: str,
        code: Any = -1,
        count: Any = 1,
        distinct: Any = 0,
    ):
        """Append evidence that no flow carries, one event group per time."""
        ts = np.atleast_1d(np.asarray(ts, float))
        row = {
            "ts": ts,
            "src": src,
            "dst": dst,
            "kind": kind,
            "code": code,
            "count": count,
            "distinct": distinct,
        }
        if len(ts):
            self.evidence.append({name: _filled(value, len(ts)) for name, value in row.items()})

    def ports(self, n: int) -> np.ndarray:
        """n source ports as operating systems choose them: counted upwards or drawn."""
        first = int(self.rng.choice([1024, 32768, 49152]))
        width = 28000 if first == 32768 else 65535 - first
        if self.rng.random() < 0.5:
            return (
                first
                + (int(self.rng.integers(width)) + np.arange(n) * int(self.rng.integers(1, 3)))
                % width
            )
        return first + self.rng.integers(width, size=n)

    def flow_table(self) -> pd.DataFrame:
        """All rows so far, unsorted; packets and bytes are whole."""
        parts = self.flows or [{name: np.empty(0, object) for name in _COLUMNS}]
        table = pd.DataFrame(
            {name: np.concatenate([part[name] for part in parts]) for name in _COLUMNS}
        )
        return table.assign(
            **{name: np.rint(table[name].to_numpy(float)) for name in COUNTS if name != "duration"}
        )

    def evidence_table(self) -> pd.DataFrame:
        """All loose evidence so far, with times, unsorted."""
        names = ["ts", "src", "dst", "kind", "code", "count", "distinct"]
        parts = self.evidence or [{name: np.empty(0, object) for name in names}]
        return pd.DataFrame(
            {name: np.concatenate([part[name] for part in parts]) for name in names}
        )


def _filled(value: Any, n: int) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind in "US":
        array = array.astype(object)
    return array if array.shape == (n,) else np.broadcast_to(array, (n,)).copy()


MSS_BYTES = 1448


ATTEMPT_S = 5.0  # Zeek's tcp_attempt_delay


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


TORN = "torn"


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
    TORN: ("RSTO", "ShADadTR"),
}


def session(
    ledger: Ledger,
    ts: np.ndarray,
    orig: Any,
    resp: Any,
    port: Any,
    *,
    duration: Any,
    exchanges: Any = 1,
    ask_bytes: Any = 100,
    answer_bytes: Any = 200,
    ending: Any = None,
    orig_p: Any = None,
    asks: Any = 0.0,
    tells: Any = 0.0,
    late: Any = None,
    alive_s: Any = 0.0,
    **columns: Any,
) -> None:
    """TCP connections that were answered.

    Args:
        ledger: where the rows go.
        ts: start times in seconds, shape (n,).
        orig: address of the client; ``resp`` that of the server, ``port`` the server's port.
        duration: seconds from first to last packet.
        exchanges: how many questions and answers pass.
        ask_bytes: payload of one question; ``answer_bytes`` of one answer. 0 for a connection
            without data.
        ending: dict of weights over the ways a connection ends; ``{"closed": 1}`` by default.
        orig_p: the client's ports; fresh ones by default.
        asks: requests that evidence counts (reads, messages published) in one question; ``tells``
            in one answer.
        late: share of the questions that the server acknowledges before it answers; drawn by
            default, mostly none.
        alive_s: seconds between two signs of life beside the exchanges (question, answer, each
            acknowledged), if any.
        **columns: further columns of the ledger, such as ``label`` or ``service``.
    """
    rng, n = ledger.rng, len(np.atleast_1d(ts))
    exchanges, ask, answer = (
        np.broadcast_to(np.asarray(v, float), n) for v in (exchanges, ask_bytes, answer_bytes)
    )
    lasting = np.maximum(np.broadcast_to(np.asarray(duration, float), n), 1e-3)
    sizes = _sizes(rng, exchanges, ask, answer, lasting, alive_s, late)
    state, history = _ended(
        rng, ending or {"closed": 1.0}, sizes["orig_bytes"] + sizes["resp_bytes"] == 0
    )
    ledger.add(
        ts,
        **{
            "id.orig_h": orig,
            "id.resp_h": resp,
            "id.resp_p": port,
            "id.orig_p": ledger.ports(n) if orig_p is None else orig_p,
            "proto": "tcp",
            "conn_state": state,
            "history": history,
            "duration": lasting,
            "asks": asks,
            "tells": tells,
            "exchanges": exchanges,
            "alive_s": alive_s,
            **sizes,
            **columns,
        },
    )


def _sizes(
    rng: np.random.Generator,
    exchanges: np.ndarray,
    ask: np.ndarray,
    answer: np.ndarray,
    lasting_s: np.ndarray,
    alive_s: float,
    late: float | None,
) -> dict[str, np.ndarray]:
    """Bytes of payload, packets and IP bytes of each side of TCP connections, shape (n,) each, by
    Zeek's names."""
    n = len(lasting_s)
    header = int(rng.choice([40, 52], p=[0.15, 0.85]))  # without and with timestamps (RFC 7323)
    signs = np.floor(lasting_s / alive_s) if alive_s else np.zeros(n)
    payload = {
        "orig": np.rint(exchanges * ask) + 2 * signs,
        "resp": np.rint(exchanges * answer) + 2 * signs,
    }
    segments = _segments(rng, ask, answer, lasting_s / np.maximum(exchanges, 1), late)
    opening = {"orig": 2, "resp": 1}
    sizes: dict[str, np.ndarray] = {}
    for side, each in zip(("orig", "resp"), segments, strict=True):
        pkts = np.rint(exchanges * each + opening[side] + rng.integers(1, 3, n)) + 2 * signs
        ip_bytes = payload[side] + pkts * header + 20
        sizes |= {
            f"{side}_bytes": payload[side],
            f"{side}_pkts": pkts,
            f"{side}_ip_bytes": ip_bytes,
        }
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
    sent, told = np.ceil(ask / MSS_BYTES), np.ceil(answer / MSS_BYTES)
    bulk, late = (
        rng.uniform(0.15, 0.6),
        float(rng.choice([0.0, 0.0, 0.0, 0.0, 0.0, 0.1, 1.0])) if late is None else late,
    )
    paused = np.where(pace_s > rng.choice([0.04, 0.1, 0.2]), 1.0, rng.uniform(0.0, 0.6))
    mine = np.where(told > 1, np.maximum(told * bulk, paused), told * paused)
    theirs = np.where(
        sent > 1, np.maximum(sent * bulk, 1.0), sent * np.where(told > 0, late, paused)
    )
    return sent + mine, told + theirs


def _ended(
    rng: np.random.Generator, ending: dict[str, float], quiet: np.ndarray
) -> list[np.ndarray]:
    """State and history of each session, drawn by weight; ``quiet`` ones hold no data."""
    names, weights = list(ending), np.array(list(ending.values()), float)
    drawn = rng.choice(len(names), size=len(quiet), p=weights / weights.sum())
    state, history = (
        np.array([_ENDINGS[name][i] for name in names], object)[drawn] for i in (0, 1)
    )
    history[quiet] = [
        text.replace("D", "").replace("d", "").replace("a", "", 1) for text in history[quiet]
    ]
    return [state, history]


def exchange(
    ledger: Ledger,
    ts: np.ndarray,
    orig: Any,
    resp: Any,
    port: Any,
    *,
    out_pkts: Any = 1,
    in_pkts: Any = 1,
    ask_bytes: Any = 48,
    answer_bytes: Any = 48,
    duration: Any = 0.02,
    orig_p: Any = None,
    **columns: Any,
) -> None:
    """UDP conversations; with ``in_pkts`` 0 nobody answered. Bytes are payload per packet."""
    n = len(np.atleast_1d(ts))
    out, back = (np.broadcast_to(np.asarray(v, float), n) for v in (out_pkts, in_pkts))
    single = out + back <= 1
    header = np.where(
        [":" in str(address) for address in np.broadcast_to(np.asarray(resp, object), n)], 48, 28
    )
    orig_bytes, resp_bytes = np.rint(out * ask_bytes), np.rint(back * answer_bytes)
    answered = back > 0
    ledger.add(
        ts,
        **{
            "id.orig_h": orig,
            "id.resp_h": resp,
            "id.resp_p": port,
            "id.orig_p": ledger.ports(n) if orig_p is None else orig_p,
            "proto": "udp",
            "conn_state": np.where(answered, np.where(out > 0, "SF", "SHR"), "S0").astype(object),
            "history": np.where(answered, np.where(out > 0, "Dd", "^d"), "D").astype(object),
            "duration": np.where(single, np.nan, np.broadcast_to(np.asarray(duration, float), n)),
            "orig_bytes": np.where(single, np.nan, orig_bytes),
            "resp_bytes": np.where(single, np.nan, resp_bytes),
            "orig_pkts": out,
            "resp_pkts": back,
            "orig_ip_bytes": orig_bytes + out * header,
            "resp_ip_bytes": resp_bytes + back * header,
            **columns,
        },
    )


def ping(
    ledger: Ledger,
    ts: np.ndarray,
    orig: Any,
    resp: Any,
    *,
    kind: int = 8,
    code: int = 0,
    out_pkts: Any = 1,
    in_pkts: Any = 1,
    size_bytes: Any = 56,
    duration: Any = 0.02,
    **columns: Any,
) -> None:
    """ICMP as Zeek logs it: type and code where ports stand, no history, state OTH."""
    proto = {"proto": "icmp", "orig_p": kind, "conn_state": "OTH", "history": ""}
    given = {
        "out_pkts": out_pkts,
        "in_pkts": in_pkts,
        "ask_bytes": size_bytes,
        "answer_bytes": size_bytes,
    }
    exchange(ledger, ts, orig, resp, code, duration=duration, **given, **proto, **columns)


def attempt(
    ledger: Ledger, ts: np.ndarray, orig: Any, resp: Any, port: Any, **columns: Any
) -> None:
    """TCP attempts that nobody answers: SYNs at the times of the policy ``tries``, one row per Zeek
    attempt."""
    ts = np.atleast_1d(np.asarray(ts, float))
    n = len(ts)
    given = {
        "orig": orig,
        "resp": resp,
        "port": port,
        "orig_p": columns.pop("orig_p", None),
        **columns,
    }
    given["orig_p"] = ledger.ports(n) if given["orig_p"] is None else given["orig_p"]
    policy = np.broadcast_to(np.asarray(given.pop("tries", "linux"), object), n)
    for name in sorted(set(policy)):
        rows = np.flatnonzero(policy == name)
        chosen = {
            key: np.broadcast_to(np.asarray(value, object), n)[rows] for key, value in given.items()
        }
        for first, syns, lasting in _attempt_rows(SYN_RETRIES[name]):
            _silence(ledger, ts[rows] + first, syns, lasting, tries=name, **chosen)


def _attempt_rows(schedule: tuple[float, ...]) -> list[tuple[float, int, float]]:
    """Start, SYNs and length of each row that a schedule of SYNs becomes in Zeek's log."""
    rows: list[tuple[float, int, float]] = []
    for at in schedule:
        if rows and at - rows[-1][0] < ATTEMPT_S:
            rows[-1] = (rows[-1][0], rows[-1][1] + 1, at - rows[-1][0])
        else:
            rows.append((at, 1, np.nan))
    return rows


def _silence(ledger: Ledger, ts: np.ndarray, syns: int, lasting: float, **given: Any) -> None:
    size = int(ledger.rng.choice([40, 44, 48, 52, 60], p=[0.1, 0.1, 0.1, 0.2, 0.5]))
    known = 0.0 if syns > 1 else np.nan
    slower = ledger.rng.uniform(1.0, 1.06, len(ts))
    ledger.add(
        ts,
        **{
            "id.orig_h": given.pop("orig"),
            "id.resp_h": given.pop("resp"),
            "id.resp_p": given.pop("port"),
        },
        **{"id.orig_p": given.pop("orig_p"), "proto": "tcp", "conn_state": "S0", "history": "S"},
        **{"duration": lasting * slower, "orig_bytes": known, "resp_bytes": known},
        **{
            "orig_pkts": syns,
            "resp_pkts": 0.0,
            "orig_ip_bytes": float(syns * size),
            "resp_ip_bytes": 0.0,
        },
        **given,
    )


def refuse(ledger: Ledger, ts: np.ndarray, orig: Any, resp: Any, port: Any, **columns: Any) -> None:
    """TCP attempts answered by a reset."""
    ts = np.atleast_1d(np.asarray(ts, float))
    ports = columns.pop("orig_p", None)
    ledger.add(
        ts,
        **{
            "id.orig_h": orig,
            "id.resp_h": resp,
            "id.resp_p": port,
            "proto": "tcp",
            "conn_state": "REJ",
        },
        **{"id.orig_p": ledger.ports(len(ts)) if ports is None else ports, "history": "Sr"},
        **{
            "duration": ledger.rng.lognormal(-6.5, 1.0, len(ts)),
            "orig_bytes": 0.0,
            "resp_bytes": 0.0,
        },
        **{"orig_pkts": 1.0, "resp_pkts": 1.0, "orig_ip_bytes": 60.0, "resp_ip_bytes": 40.0},
        **columns,
    )
