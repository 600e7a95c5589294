"""Floods, from one and from many, and what all attacks are called.

An attack takes the stage and its time, makes rows that carry its label, and returns its cause in one sentence. What
the two sides' truth is follows from the rows themselves.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from traffic.simulated_malware import c2
from traffic.simulated_scans import recon
from traffic.simulation.distributions import between, lognormal, public_address
from traffic.simulation.flows import exchange, ping, session
from traffic.simulation.intrusions import brute_force, exfiltration, mqtt_abuse, spoofing, unauthorized_command
from traffic.simulation.plant import Stage, intruder, victim

__all__ = ["ATTACKS"]


@dataclass(frozen=True)
class Flood:
    """What all floods have: their time, who sends (one or many), who receives, how fast, and the label."""

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
        return np.sort(rng.uniform(self.start_s, self.end_s, n)), self.src[rng.integers(len(self.src), size=n)]

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
        **{"id.orig_h": who, "id.resp_h": flood.dst, "id.resp_p": flood.port, "proto": "tcp", "label": flood.label},
        **{"id.orig_p": rng.integers(1024, 65535, len(ts)), "conn_state": fate, "history": story},
        **{"duration": 0.5 if known else np.nan, "orig_bytes": bytes_known, "resp_bytes": bytes_known},
        **{"orig_pkts": syns, "resp_pkts": back, "orig_ip_bytes": 40 * syns, "resp_ip_bytes": 40 * back},
    )


def _unsummed(flood: Flood) -> None:
    """Zeek drops packets that their host's card had not summed yet: history C, and nothing counted."""
    ts, who = flood.many()
    ledger = flood.stage.ledger
    ledger.add(
        ts,
        **{"id.orig_h": who, "id.resp_h": flood.dst, "id.resp_p": flood.port, "proto": "tcp", "label": flood.label},
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
    given: dict[str, Any] = {"in_pkts": back, "size_bytes": rng.integers(8, 1400), "label": flood.label}
    ping(flood.stage.ledger, orig=flood.src, resp=flood.dst, **huge, **given)


def _pages(flood: Flood) -> None:
    rng = flood.stage.rng
    ts, who = flood.many()
    sizes = {"exchanges": rng.integers(1, 20), "ask_bytes": 250, "answer_bytes": rng.integers(0, 6000)}
    given = {"ending": {"closed": 1, "reset_client": 0.5}, "service": "http", "label": flood.label}
    session(flood.stage.ledger, ts, who, flood.dst, 80, duration=lognormal(rng, 0.3, 1, len(ts)), **sizes, **given)


def _crumbs(flood: Flood) -> None:
    """Slowloris: connections held open by a few bytes now and then, until the server has none left."""
    rng = flood.stage.rng
    ts, who = flood.many(most=2000)
    sizes = {"exchanges": rng.integers(2, 40), "ask_bytes": 20, "answer_bytes": 0}
    given = {"ending": {"open": 1, "reset_server": 1}, "label": flood.label}
    session(flood.stage.ledger, ts, who, flood.dst, 80, duration=rng.uniform(5, 120, len(ts)), **sizes, **given)


_FLOODS = (_syns, _syns, _datagrams, _datagrams, _pings, _pages, _crumbs, _unsummed)


def _flood(stage: Stage, start_s: float, end_s: float, src: np.ndarray, dst: str, label: str) -> None:
    """Fill a host's line or its tables: one flow of a million packets, or ten thousand of one packet."""
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
    """A device of the plant takes part in a flood of someone outside, or the plant is flooded from everywhere."""
    rng = stage.rng
    if rng.random() < 0.6:
        addresses = [device.address for device in stage.plant.devices]
        src = rng.choice(addresses, size=min(int(rng.choice([1, 1, 1, 2, 4])), len(addresses)), replace=False).astype(
            object
        )
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
