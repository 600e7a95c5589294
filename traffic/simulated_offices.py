"""What the computers of a plant do: histories stored, batches sent on, disks filled, engineers at work."""

from typing import Any

import numpy as np

from traffic.plant import Device
from traffic.simulated_names import lookup, unknown_name
from traffic.simulation.distributions import beats, between, lognormal, setting_s, usual, visits
from traffic.simulation.flows import session
from traffic.simulation.plant import Stage, vendor

__all__ = ["archive", "batches", "engineer", "history", "remote"]

_WEB = ((80, "http"), (80, "http"), (80, "http"), (443, "ssl"), (8080, "http"))
_SHORT_S = 0.02


def history(stage: Stage, device: Device) -> None:
    """A historian stores what it has read, in batches, with the file service of a recorder or server."""
    stores = stage.having("recorder") or stage.having("server")
    if stores:
        port, service = _WEB[int(stage.rng.integers(len(_WEB)))]
        _post(stage, device, np.array([stores[0].address], object), setting_s(stage.rng, 15, 60), port, service)


def batches(stage: Stage, device: Device) -> None:
    """An edge gateway sends on what sensors published, to its cloud."""
    port, service = _WEB[int(stage.rng.integers(len(_WEB)))]
    _post(stage, device, vendor(stage)[:2], setting_s(stage.rng, 8, 35), port, service)


def _post(stage: Stage, device: Device, hosts: np.ndarray, period_s: float, port: int, service: str) -> None:
    rng = stage.rng
    ts = beats(rng, stage.start_s, stage.end_s, period_s, between(rng, 5e-3, 0.1))
    inside = str(hosts[0]).startswith(stage.network)
    lookup(stage, device, ts, remember_s=1.0 if rng.random() < 0.9 else None, inside=inside)
    size = lognormal(rng, usual(rng, 4e3, 100e3), 0.4, len(ts))
    length = lognormal(rng, between(rng, 3e-3, 0.3), 0.5, len(ts))
    given = {"ask_bytes": size, "answer_bytes": rng.integers(100, 400), "service": service, "named": True}
    dst = hosts[rng.integers(len(hosts), size=len(ts))]
    session(stage.ledger, ts, device.address, dst, port, duration=length, tries=stage.tries(device.address), **given)


def remote(stage: Stage, device: Device) -> None:
    """One TLS session with the maker's remote service, with a word every so often."""
    rng = stage.rng
    ts = np.array([stage.start_s - rng.uniform(1, 3600)])
    length = stage.end_s - ts + 600
    sizes: dict[str, Any] = {"exchanges": length / setting_s(rng, 8, 40), "ask_bytes": rng.integers(60, 260)}
    sizes |= {"answer_bytes": rng.integers(60, 270), "tries": stage.tries(device.address)}
    host = str(vendor(stage)[0])
    session(stage.ledger, ts, device.address, host, 443, duration=length, service="ssl", ending={"open": 1}, **sizes)


def engineer(stage: Stage, device: Device) -> None:
    """Someone at a workstation: names looked up, pages fetched, a controller read, at an irregular pace."""
    rng = stage.rng
    ts = visits(rng, stage.start_s, stage.end_s, usual(rng, 4, 22))
    what = rng.choice(3, size=len(ts), p=rng.dirichlet([3.0, 3.0, 3.0]))
    unknown_name(stage, device, ts[what == 0], rng.uniform(0.05, 0.5))
    _pages(stage, device, ts[what == 1])
    controllers = stage.having("plc", "drive", "gateway")
    at = ts[what == 2]
    if not controllers or not len(at):
        return
    dst = np.array([one.address for one in controllers], object)[rng.integers(len(controllers), size=len(at))]
    lookup(stage, device, at, remember_s=1.0, inside=True)
    asks = {"app": "modbus", "code": 3, "asks": 1.0, "distinct": 1, "service": "modbus"}
    sizes = {"exchanges": rng.integers(2, 6), "ask_bytes": 12, "answer_bytes": 9 + 2 * rng.integers(5, 60)}
    length = rng.uniform(0.5, 6) + rng.uniform(0, 0.3, len(at))
    session(stage.ledger, at, device.address, dst, 502, duration=length, **asks, **sizes)


def _pages(stage: Stage, device: Device, at: np.ndarray) -> None:
    rng = stage.rng
    hosts = vendor(stage)
    ts = np.sort(np.repeat(at, rng.integers(1, 5, len(at))))
    ts = ts + np.arange(len(ts)) % 5 * rng.uniform(0.005, 0.3)
    lookup(stage, device, ts, remember_s=_SHORT_S)
    port, service = _WEB[int(rng.integers(len(_WEB)))]
    sizes = {"ask_bytes": rng.integers(80, 500), "answer_bytes": lognormal(rng, usual(rng, 3e3, 40e3), 1.0, len(ts))}
    given = {"duration": lognormal(rng, between(rng, 5e-3, 0.5), 0.7, len(ts)), "service": service, "named": True}
    dst = hosts[rng.integers(len(hosts), size=len(ts))]
    session(stage.ledger, ts, device.address, dst, port, **given, **sizes)


def archive(stage: Stage, device: Device) -> None:
    """Servers write to each other and to disks: regular, large, and nothing to worry about."""
    rng = stage.rng
    others = [d for d in stage.having("server", "historian", "recorder", "workstation", "hmi") if d != device]
    if not others or rng.random() < 0.4:
        return
    port = int(rng.choice([445, 21, 22, 1433, 5432, 8086, 3306, 9200]))
    ts = beats(rng, stage.start_s, stage.end_s, between(rng, 5, 1800), 0.05)
    size = lognormal(rng, between(rng, 1e3, 3e7), 0.8, len(ts))
    length = np.maximum(size / between(rng, 1e5, 2e7), 0.05)
    given = {"exchanges": np.maximum(size / 16000, 1), "ask_bytes": 16000 if rng.random() < 0.6 else 200}
    dst = others[int(rng.integers(len(others)))].address
    session(stage.ledger, ts, device.address, dst, port, duration=length, answer_bytes=300, **given)
