"""Floods, from one and from many, and what all attacks are called.

An attack takes the stage and its time, makes rows that carry its label, and returns its cause in
one sentence. What the two sides' truth is follows from the rows themselves.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from traffic.simulation.distributions import beats, between, lognormal, public_address
from traffic.simulation.flows import attempt, exchange, ping, refuse, session
from traffic.simulation.intrusions import (
    brute_force,
    c2,
    exfiltration,
    mqtt_abuse,
    spoofing,
    unauthorized_command,
)
from traffic.simulation.plant import Stage, intruder, victim

# Ways to look around: ports of a host, hosts of a network, the internet, registers of a controller.

OPEN_PORTS = {
    "plc": (80, 102, 502, 44818),
    "camera": (80, 443, 554, 8000),
    "server": (22, 80, 443, 445, 1883, 3306, 5432, 8086),
    "broker": (22, 1883, 8883),
    "router": (22, 53, 80, 443),
    "workstation": (135, 139, 445, 3389),
    "hmi": (80, 135, 445, 5900),
}


_FAMOUS = np.array(
    [
        22,
        23,
        80,
        81,
        443,
        445,
        502,
        1883,
        2323,
        3389,
        4840,
        5555,
        7547,
        8080,
        8443,
        37215,
        44818,
        52869,
    ]
)


def recon(stage: Stage, start_s: float, end_s: float) -> str:
    """One of many ways to look around."""
    ways = (
        _ports,
        _ports,
        _hosts,
        _hosts,
        _internet,
        _internet,
        _scan_datagrams,
        _registers,
        _scan_pings,
    )
    return ways[int(stage.rng.integers(len(ways)))](stage, start_s, end_s)


def _pace(stage: Stage, start_s: float, end_s: float, n: int) -> np.ndarray:
    """Times of n probes: as fast as tools go, or as slow as they must to hide."""
    rng = stage.rng
    rate = between(rng, 0.05, 1) if rng.random() < 0.2 else between(rng, 1, 600)
    times = start_s + np.cumsum(rng.exponential(1 / rate, n))
    return times[times < end_s]


def _probe(
    stage: Stage,
    ts: np.ndarray,
    src: str,
    dst: np.ndarray,
    port: np.ndarray,
    answer: np.ndarray,
    **more: object,
) -> None:
    """Probes answered by ``open``, ``closed`` or silence (``filtered``), with nmap's one or two
    ports or fresh ones."""
    rng, ledger = stage.rng, stage.ledger
    half = rng.random() < 0.6
    fixed = int(rng.integers(1024, 65000))
    ports = np.full(len(ts), fixed) if half else ledger.ports(len(ts))
    label = {"label": "recon", **more}
    closed, silent, lively = (answer == word for word in ("closed", "filtered", "open"))
    refuse(ledger, ts[closed], src, dst[closed], port[closed], orig_p=ports[closed], **label)
    policy = "once" if half or rng.random() < 0.5 else str(rng.choice(["linux_short", "impatient"]))
    attempt(
        ledger,
        ts[silent],
        src,
        dst[silent],
        port[silent],
        orig_p=ports[silent],
        tries=policy,
        **label,
    )
    if half and rng.random() < 0.7:  # nmap asks the silent ones once more, from the next port
        attempt(
            ledger,
            ts[silent] + rng.uniform(0.2, 1.5),
            src,
            dst[silent],
            port[silent],
            orig_p=ports[silent] + 1,
            tries="once",
            **label,
        )
    given = {"orig_p": ports[lively], "ending": {"reset_client": 1}, **label}
    if half:
        session(
            ledger, ts[lively], src, dst[lively], port[lively], duration=0.01, exchanges=0, **given
        )
    else:
        given["ask_bytes"], given["answer_bytes"] = rng.integers(0, 300), rng.integers(0, 900)
        session(
            ledger,
            ts[lively],
            src,
            dst[lively],
            port[lively],
            duration=between(rng, 0.01, 8),
            **given,
        )


def _ports(stage: Stage, start_s: float, end_s: float) -> str:
    rng = stage.rng
    src = intruder(stage)
    dst = victim(stage, src)
    n = int(between(rng, 20, 8000) if rng.random() < 0.5 else 1000)
    port = rng.permutation(np.arange(1, max(n + 1, 10000)))[:n]
    ts = _pace(stage, start_s, end_s, n)
    role = next((d.role for d in stage.plant.devices if d.address == dst), "")
    usual = "filtered" if rng.random() < 0.3 else "closed"
    answer = np.where(np.isin(port, OPEN_PORTS.get(role, (80,))), "open", usual)[: len(ts)]
    _probe(stage, ts, src, np.full(len(ts), dst, object), port[: len(ts)], answer)
    return f"{src} scans {len(ts)} ports of {dst}"


def _hosts(stage: Stage, start_s: float, end_s: float) -> str:
    rng = stage.rng
    src = intruder(stage, outside=0.1)
    port = rng.choice(_FAMOUS, size=int(rng.integers(1, 6)), replace=False)
    hosts = np.array(
        [stage.network + str(host) for host in rng.permutation(np.arange(1, 255))], object
    )
    dst, asked = np.repeat(hosts, len(port)), np.tile(port, len(hosts))
    ts = _pace(stage, start_s, end_s, len(dst))
    dst, asked = dst[: len(ts)], asked[: len(ts)]
    alive = np.isin(dst, [d.address for d in stage.plant.devices])
    if rng.random() < 0.6:  # on the same wire: who does not answer ARP is never probed
        stage.ledger.note(ts, src, dst, "arp_request", count=np.where(alive, 1, 2))
        stage.ledger.note(ts[~alive], src, dst[~alive], "arp_unanswered", count=2)
        exchange(
            stage.ledger,
            ts[:: len(port)],
            src,
            stage.resolver,
            53,
            service="dns",
            app="dns",
            code=3,
            asks=1.0,
            label="recon",
        )
        seen = alive
    else:
        seen = np.ones(len(ts), bool)
    answer = np.where(
        alive,
        rng.choice(["closed", "open", "filtered"], size=len(ts), p=[0.6, 0.25, 0.15]),
        "filtered",
    )
    _probe(stage, ts[seen], src, dst[seen], asked[seen], answer[seen])
    return f"{src} scans the network for port {', '.join(map(str, port))}"


def _internet(stage: Stage, start_s: float, end_s: float) -> str:
    """A worm that looks for others of its kind beyond the router."""
    rng = stage.rng
    src = intruder(stage, outside=0)
    ts = _pace(stage, start_s, end_s, int(between(rng, 50, 12000)))
    port = rng.choice(
        rng.choice(_FAMOUS, size=int(rng.integers(1, 4)), replace=False), size=len(ts)
    )
    answer = rng.choice(["filtered", "closed", "open"], size=len(ts), p=[0.95, 0.04, 0.01])
    _probe(stage, ts, src, public_address(rng, len(ts)), port, answer)
    return f"{src} scans random addresses of the internet"


def _scan_datagrams(stage: Stage, start_s: float, end_s: float) -> str:
    rng, ledger = stage.rng, stage.ledger
    src = intruder(stage)
    dst = victim(stage, src)
    ts = _pace(stage, start_s, end_s, int(between(rng, 30, 2000)))
    port = rng.integers(1, 65535, len(ts))
    exchange(
        ledger,
        ts,
        src,
        dst,
        port,
        in_pkts=0,
        ask_bytes=rng.integers(0, 60),
        orig_p=int(rng.integers(1024, 65000)),
        label="recon",
    )
    told = ts[rng.random(len(ts)) < between(rng, 0.02, 0.9)] + 0.001
    ping(ledger, told, dst, src, kind=3, code=3, in_pkts=0, size_bytes=36)
    ledger.note(told, dst, src, "unreachable", 3)
    return f"{src} scans UDP ports of {dst}"


def _registers(stage: Stage, start_s: float, end_s: float) -> str:
    """Asks a controller for everything: functions, units, registers."""
    rng, ledger = stage.rng, stage.ledger
    src = intruder(stage, outside=0.1)
    dst = victim(stage, src, "plc", "gateway", "drive")
    rate = between(rng, 1, 60)
    ts, length = np.array([start_s]), end_s - start_s
    given = {
        "app": "modbus",
        "code": int(rng.choice([1, 2, 3, 4])),
        "asks": 1.0,
        "distinct": int(between(rng, 20, 500)),
        "label": "recon",
    }
    sizes = {
        "exchanges": length * rate,
        "ask_bytes": 12,
        "answer_bytes": rng.integers(9, 40),
        "service": "modbus",
    }
    session(
        ledger,
        ts,
        src,
        dst,
        502,
        duration=length,
        ending={"closed": 1, "reset_client": 1},
        **given,
        **sizes,
    )
    wrong = beats(rng, start_s, end_s, between(rng, 1 / rate, 20), 0.3)
    ledger.note(wrong, src, dst, "modbus_exception", rng.choice([1, 2, 2, 3, 11], size=len(wrong)))
    ledger.note(
        wrong, src, dst, "modbus_other", rng.choice([7, 8, 17, 43, 43, 90], size=len(wrong))
    )
    return f"{src} reads every register of {dst}"


def _scan_pings(stage: Stage, start_s: float, end_s: float) -> str:
    ledger = stage.ledger
    src = intruder(stage, outside=0.1)
    hosts = np.array([stage.network + str(host) for host in range(1, 255)], object)
    ts = _pace(stage, start_s, end_s, len(hosts))
    alive = np.isin(hosts[: len(ts)], [d.address for d in stage.plant.devices])
    ping(ledger, ts, src, hosts[: len(ts)], in_pkts=alive.astype(float), label="recon")
    ledger.note(ts[~alive], src, hosts[: len(ts)][~alive], "arp_unanswered")
    return f"{src} pings every address of the network"


@dataclass(frozen=True)
class Flood:
    """What all floods have: their time, who sends (one or many), who receives, how fast, and the
    label."""

    stage: Stage
    start_s: float
    end_s: float
    src: np.ndarray
    dst: str
    label: str
    port: int
    pkts_per_s: float

    def many(self, most: int = 20000) -> tuple[np.ndarray, np.ndarray]:
        """Times and senders of up to ``most`` small flows, each of shape (n,)."""
        rng, length = self.stage.rng, self.end_s - self.start_s
        n = max(int(min(self.pkts_per_s * length, between(rng, most / 40, most))), 1)
        return np.sort(rng.uniform(self.start_s, self.end_s, n)), self.src[
            rng.integers(len(self.src), size=n)
        ]

    def huge(self) -> dict[str, Any]:
        """Start, packets and seconds of one endless flow for each sender."""
        length, n = self.end_s - self.start_s, len(self.src)
        pkts = np.full(n, max(self.pkts_per_s * length / n, 20))
        starts = self.start_s + self.stage.rng.uniform(0, 2, n)
        return {"ts": starts, "out_pkts": pkts, "duration": np.full(n, max(length - 2, 1.0))}


def _syns(flood: Flood) -> None:
    """SYNs that are swallowed, refused, or answered by a SYN-ACK that leads nowhere."""
    rng = flood.stage.rng
    ts, who = flood.many()
    syns = max(np.rint(flood.pkts_per_s * (flood.end_s - flood.start_s) / len(ts)), 1.0)
    fate, story = [("S0", "S"), ("S0", "S"), ("REJ", "Sr"), ("S1", "Sh")][int(rng.integers(4))]
    back = 0.0 if fate == "S0" else syns
    known = syns + back > 1
    bytes_known = 0.0 if known else np.nan
    flood.stage.ledger.add(
        ts,
        **{
            "id.orig_h": who,
            "id.resp_h": flood.dst,
            "id.resp_p": flood.port,
            "proto": "tcp",
            "label": flood.label,
        },
        **{"id.orig_p": rng.integers(1024, 65535, len(ts)), "conn_state": fate, "history": story},
        **{
            "duration": 0.5 if known else np.nan,
            "orig_bytes": bytes_known,
            "resp_bytes": bytes_known,
        },
        **{
            "orig_pkts": syns,
            "resp_pkts": back,
            "orig_ip_bytes": 40 * syns,
            "resp_ip_bytes": 40 * back,
        },
    )


def _unsummed(flood: Flood) -> None:
    """Zeek drops packets that their host's card had not summed yet: history C, and nothing
    counted."""
    ts, who = flood.many()
    ledger = flood.stage.ledger
    ledger.add(
        ts,
        **{
            "id.orig_h": who,
            "id.resp_h": flood.dst,
            "id.resp_p": flood.port,
            "proto": "tcp",
            "label": flood.label,
        },
        **{"id.orig_p": ledger.ports(len(ts)), "conn_state": "OTH", "history": "C"},
        **dict.fromkeys(["duration", "orig_bytes", "resp_bytes"], np.nan),
        **dict.fromkeys(["orig_pkts", "resp_pkts", "orig_ip_bytes", "resp_ip_bytes"], 0.0),
    )


def _datagrams(flood: Flood) -> None:
    rng, ledger = flood.stage.rng, flood.stage.ledger
    given: dict[str, Any] = {"in_pkts": 0, "ask_bytes": rng.integers(0, 1400), "label": flood.label}
    if rng.random() < 0.5:
        ts, who = flood.many()
        exchange(ledger, ts, who, flood.dst, rng.integers(1, 65535, len(ts)), **given)
    else:
        exchange(ledger, orig=flood.src, resp=flood.dst, port=flood.port, **flood.huge(), **given)


def _pings(flood: Flood) -> None:
    rng, huge = flood.stage.rng, flood.huge()
    back = huge["out_pkts"] if rng.random() < 0.4 else 0
    given: dict[str, Any] = {
        "in_pkts": back,
        "size_bytes": rng.integers(8, 1400),
        "label": flood.label,
    }
    ping(flood.stage.ledger, orig=flood.src, resp=flood.dst, **huge, **given)


def _pages(flood: Flood) -> None:
    rng = flood.stage.rng
    ts, who = flood.many()
    sizes = {
        "exchanges": rng.integers(1, 20),
        "ask_bytes": 250,
        "answer_bytes": rng.integers(0, 6000),
    }
    given = {"ending": {"closed": 1, "reset_client": 0.5}, "service": "http", "label": flood.label}
    session(
        flood.stage.ledger,
        ts,
        who,
        flood.dst,
        80,
        duration=lognormal(rng, 0.3, 1, len(ts)),
        **sizes,
        **given,
    )


def _crumbs(flood: Flood) -> None:
    """Slowloris: connections held open by a few bytes now and then, until the server has none
    left."""
    rng = flood.stage.rng
    ts, who = flood.many(most=2000)
    sizes = {"exchanges": rng.integers(2, 40), "ask_bytes": 20, "answer_bytes": 0}
    given = {"ending": {"open": 1, "reset_server": 1}, "label": flood.label}
    session(
        flood.stage.ledger,
        ts,
        who,
        flood.dst,
        80,
        duration=rng.uniform(5, 120, len(ts)),
        **sizes,
        **given,
    )


_FLOODS = (_syns, _syns, _datagrams, _datagrams, _pings, _pages, _crumbs, _unsummed)


def _flood(
    stage: Stage, start_s: float, end_s: float, src: np.ndarray, dst: str, label: str
) -> None:
    """Fill a host's line or its tables: one flow of a million packets, or ten thousand of one
    packet."""
    rng = stage.rng
    port = int(rng.choice([80, 443, 53, 502, 1883, 8080, int(rng.integers(1, 65535))]))
    flood = Flood(stage, start_s, end_s, src, dst, label, port, between(rng, 20, 20000))
    _FLOODS[int(rng.integers(len(_FLOODS)))](flood)


def dos(stage: Stage, start_s: float, end_s: float) -> str:
    src = intruder(stage)
    dst = victim(stage, src, "plc", "broker", "server", "historian", "camera")
    _flood(stage, start_s, end_s, np.array([src], object), dst, "dos")
    return f"{src} floods {dst}"


def ddos(stage: Stage, start_s: float, end_s: float) -> str:
    """A device of the plant takes part in a flood of someone outside, or the plant is flooded from
    everywhere."""
    rng = stage.rng
    if rng.random() < 0.6:
        addresses = [device.address for device in stage.plant.devices]
        src = rng.choice(
            addresses, size=min(int(rng.choice([1, 1, 1, 2, 4])), len(addresses)), replace=False
        ).astype(object)
        dst = str(public_address(rng, 1)[0])
    else:
        src, dst = (
            public_address(rng, int(between(rng, 10, 800))),
            victim(stage, "", "server", "broker", "router", "camera"),
        )
    _flood(stage, start_s, end_s, src, dst, "ddos")
    return f"{dst} is flooded from {len(src)} sources"


ATTACKS = {
    "recon": recon,
    "dos": dos,
    "ddos": ddos,
    "brute_force": brute_force,
    "c2": c2,
    "exfiltration": exfiltration,
    "spoofing": spoofing,
    "mqtt_abuse": mqtt_abuse,
    "unauthorized_command": unauthorized_command,
}
