"""Normal life that looks like trouble: services that have died, tails of sessions, mishaps, maintenance.

A device that calls a dead service looks like a bot that calls a dead controller, and is far more common: half of the
skill of telling them apart is learned from ``dead_service``.
"""

import numpy as np

from traffic.plant import Device
from traffic.simulated_names import lookup
from traffic.simulation.distributions import beats, between, lognormal, pauses, public_address, visits
from traffic.simulation.flows import attempt, refuse, session
from traffic.simulation.plant import Stage, vendor

__all__ = ["dead_service", "mishaps", "shell", "stray"]


def stray(stage: Stage, device: Device) -> None:
    """Tails of sessions that the log had already closed: a lone FIN or RST, more often than one would think."""
    rng = stage.rng
    ts = visits(rng, stage.start_s, stage.end_s, between(rng, 20, 900))
    hosts = vendor(stage)
    single = {"duration": np.nan, "orig_bytes": np.nan, "resp_bytes": np.nan, "proto": "tcp", "orig_ip_bytes": 40.0}
    lone = rng.random(len(ts)) < 0.7
    given = {
        "id.orig_h": device.address,
        "id.resp_h": hosts[rng.integers(len(hosts), size=len(ts))],
        "id.resp_p": int(rng.choice([80, 443])),
    }
    given["id.orig_p"] = stage.ledger.ports(len(ts))
    words = {"conn_state": np.where(lone, "SH", "OTH"), "history": np.where(lone, "F", "R")}
    stage.ledger.add(ts, **given, **words, orig_pkts=1.0, resp_pkts=0.0, resp_ip_bytes=0.0, **single)


def dead_service(stage: Stage, device: Device) -> None:
    """Calls a service that never answers any more, by one policy or another, with or without a name; else healthy."""
    rng = stage.rng
    host = str(public_address(rng, 1)[0])
    port = int(rng.choice([443, 80, 8883, 1883, 5222, 8080, int(rng.integers(1024, 65535))]))
    begin = stage.start_s
    if rng.random() < 0.4:  # it answered once
        begin = rng.uniform(stage.start_s, stage.end_s)
        alive = beats(rng, stage.start_s, begin, between(rng, 5, 900), 0.05)
        given = {"duration": lognormal(rng, 1, 1, len(alive)), "ask_bytes": 300, "answer_bytes": 900, "exchanges": 3}
        session(stage.ledger, alive, device.address, host, port, **given)
    steady = between(rng, 3, 900)
    again = (
        pauses(rng, begin, stage.end_s)
        if rng.random() < 0.5
        else beats(rng, begin, stage.end_s, steady, between(rng, 1e-3, 0.3))
    )
    if rng.random() < 0.8:
        lookup(stage, device, again, float(rng.choice([1, 30, 300])))
    given = {"tries": str(rng.choice(["once", "linux_short", "linux", "linux_long", "windows", "lwip", "impatient"]))}
    if rng.random() < 0.25:
        refuse(stage.ledger, again, device.address, host, port)
    else:
        attempt(stage.ledger, again, device.address, host, port, **given)


def mishaps(stage: Stage, device: Device) -> None:
    """A session that fails now and then, at no place in particular."""
    rng = stage.rng
    ts = visits(rng, stage.start_s, stage.end_s, between(rng, 200, 7200))
    bad = rng.random(len(ts)) < 0.3
    attempt(
        stage.ledger,
        ts[~bad],
        device.address,
        public_address(rng, int((~bad).sum())),
        443,
        tries=stage.tries(device.address),
    )
    refuse(stage.ledger, ts[bad], device.address, public_address(rng, int(bad.sum())), 443)


def shell(stage: Stage, device: Device) -> None:
    """Someone works on a device: SSH, its web page, a file, a few writes to a controller. Rare, and normal."""
    rng = stage.rng
    others = [d for d in stage.plant.devices if d != device]
    if not others:
        return
    for _ in range(int(rng.integers(1, 4))):
        other = others[int(rng.integers(len(others)))]
        ts = np.array([rng.uniform(stage.start_s, stage.end_s)])
        port = int(rng.choice([22, 80, 443, 445, 21, 3389, 5900, 23, 8080]))
        length = np.array([between(rng, 3, 1800)])
        given = {
            "exchanges": length * between(rng, 0.1, 20),
            "ask_bytes": lognormal(rng, 60, 1),
            "answer_bytes": lognormal(rng, 200, 1.5),
        }
        session(stage.ledger, ts, device.address, other.address, port, duration=length, **given)
        if other.role == "plc":
            at = ts + np.sort(rng.uniform(0, length, int(rng.integers(1, 8))))
            stage.ledger.note(at, device.address, other.address, "modbus_write", 16, distinct=1)
            talk = {"exchanges": len(at) * 3, "ask_bytes": 14, "answer_bytes": 30, "service": "modbus", "app": "modbus"}
            session(stage.ledger, ts, device.address, other.address, 502, duration=length, code=3, asks=1.0, **talk)
