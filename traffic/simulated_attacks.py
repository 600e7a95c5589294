"""Floods, from one and from many, and what all attacks are called.

An attack takes the stage and its time, makes rows that carry its label, and returns its cause in one sentence. What
the two sides' truth is follows from the rows themselves.
"""

import numpy as np

from traffic.simulated_flows import exchange, ping, session
from traffic.simulated_intrusions import brute_force, exfiltration, mqtt_abuse, spoofing, unauthorized_command
from traffic.simulated_malware import c2
from traffic.simulated_plant import Stage, between, intruder, lognormal, public_address, victim
from traffic.simulated_scans import recon

__all__ = ["ATTACKS"]


def flood(stage: Stage, start_s: float, end_s: float, src: np.ndarray, dst: str, label: str) -> str:
    """Fill a host's line or its tables: one flow of a million packets, or ten thousand of one packet."""
    rng, ledger = stage.rng, stage.ledger
    kind = str(rng.choice(["syn", "syn", "udp", "udp", "icmp", "http", "slow", "checksum"]))
    rate, length = between(rng, 20, 20000), end_s - start_s
    port = int(rng.choice([80, 443, 53, 502, 1883, 8080, int(rng.integers(1, 65535))]))
    n = int(min(rate * length, between(rng, 500, 20000)))
    ts = np.sort(rng.uniform(start_s, end_s, n))
    who = src[rng.integers(len(src), size=n)]
    one = np.full(len(src), start_s) + rng.uniform(0, 2, len(src))
    many = np.full(len(src), max(rate * length / len(src), 20))
    lasting = np.maximum(length - 2, 1)
    if kind == "syn":
        _syns(stage, ts, who, dst, port, max(rate * length / n, 1), label)
    elif kind == "checksum":  # Zeek drops what its host's card had not summed yet, and counts no packets
        blank = dict.fromkeys(["duration", "orig_bytes", "resp_bytes"], np.nan) | dict.fromkeys(
            ["orig_pkts", "resp_pkts", "orig_ip_bytes", "resp_ip_bytes"], 0.0
        )
        given = {
            "id.orig_h": who,
            "id.resp_h": dst,
            "id.resp_p": port,
            "id.orig_p": ledger.ports(n),
            "proto": "tcp",
            "label": label,
        }
        ledger.add(ts, conn_state="OTH", history="C", **given, **blank)
    elif kind == "udp" and rng.random() < 0.5:
        exchange(
            ledger, ts, who, dst, rng.integers(1, 65535, n), in_pkts=0, ask_bytes=rng.integers(0, 1400), label=label
        )
    elif kind == "udp":
        exchange(
            ledger,
            one,
            src,
            dst,
            port,
            out_pkts=many,
            in_pkts=0,
            ask_bytes=rng.integers(0, 1400),
            duration=lasting,
            label=label,
        )
    elif kind == "icmp":
        back = many if rng.random() < 0.4 else 0
        ping(
            ledger,
            one,
            src,
            dst,
            out_pkts=many,
            in_pkts=back,
            size_bytes=rng.integers(8, 1400),
            duration=lasting,
            label=label,
        )
    elif kind == "http":
        given = {
            "exchanges": rng.integers(1, 20),
            "ask_bytes": 250,
            "answer_bytes": rng.integers(0, 6000),
            "service": "http",
        }
        session(
            ledger,
            ts,
            who,
            dst,
            80,
            duration=lognormal(rng, 0.3, 1, n),
            label=label,
            ending={"closed": 1, "reset_client": 0.5},
            **given,
        )
    else:
        slow = ts[: int(between(rng, 50, 600))]
        given = {
            "exchanges": rng.integers(2, 40),
            "ask_bytes": 20,
            "answer_bytes": 0,
            "ending": {"open": 1, "reset_server": 1},
        }
        session(ledger, slow, who[: len(slow)], dst, 80, duration=rng.uniform(5, 120, len(slow)), label=label, **given)
    return kind


def _syns(stage: Stage, ts: np.ndarray, who: np.ndarray, dst: str, port: int, syns: float, label: str) -> None:
    """SYNs that are swallowed, refused, or answered by a SYN-ACK that leads nowhere."""
    rng, n = stage.rng, len(ts)
    fate = rng.choice(["S0", "S0", "REJ", "S1"])
    back = 0.0 if fate == "S0" else np.rint(syns)
    more = {"duration": 0.5 if syns > 1 else (np.nan if fate == "S0" else 0.002)}
    story = {"S0": "S", "REJ": "Sr", "S1": "Sh"}[str(fate)]
    bytes_known = np.nan if fate == "S0" and syns <= 1 else 0.0
    given = {
        "id.orig_h": who,
        "id.resp_h": dst,
        "id.resp_p": port,
        "id.orig_p": rng.integers(1024, 65535, n),
        "proto": "tcp",
    }
    sizes = {
        "orig_pkts": np.rint(syns),
        "resp_pkts": back,
        "orig_ip_bytes": 40 * np.rint(syns),
        "resp_ip_bytes": 40 * back,
    }
    sizes.update(orig_bytes=bytes_known, resp_bytes=bytes_known)
    stage.ledger.add(ts, conn_state=str(fate), history=story, label=label, **given, **sizes, **more)


def dos(stage: Stage, start_s: float, end_s: float) -> str:
    src = intruder(stage)
    dst = victim(stage, src, "plc", "broker", "server", "camera")
    kind = flood(stage, start_s, end_s, np.array([src], object), dst, "dos")
    return f"{src} floods {dst} ({kind})"


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
    kind = flood(stage, start_s, end_s, src, dst, "ddos")
    return f"{dst} is flooded from {len(src)} sources ({kind})"


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
