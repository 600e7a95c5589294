"""Questions for names (DNS): before a call, in a rhythm of their own, needless ones, and those for names nobody has."""

import numpy as np

from traffic.plant import Device
from traffic.simulation.distributions import beats, between, lognormal, public_address
from traffic.simulation.flows import exchange
from traffic.simulation.plant import Stage

__all__ = ["lookup", "names", "needless_names", "unknown_name"]

# Computers ask for names; machines often have the addresses of their own plant in their settings.
_COMPUTERS = ("historian", "edge", "mes", "recorder", "workstation", "server")
_BY_NAME = dict.fromkeys(_COMPUTERS, 0.93) | dict.fromkeys(("hmi", "sensor", "camera"), 0.5)
OTHER_RCODE = 3  # NXDOMAIN
ANSWERED = -2


def lookup(stage: Stage, device: Device, ts: np.ndarray, remember_s: float | None = None, inside: bool = False) -> None:
    """DNS questions just before the given times, unless the answer is still remembered.

    Args:
        stage: whose resolver is asked.
        device: who asks; many have the addresses of their own plant (``inside``) in their settings and never ask.
        ts: when the host is called, sorted.
        remember_s: for how long an answer is remembered; drawn by default.
        inside: the host is one of the plant.
    """
    rng = stage.rng
    computer = device.role in _COMPUTERS
    known = rng.random() > (0.95 if computer else _BY_NAME.get(device.role, 0.15))
    if not len(ts) or (inside and stage.habit(device.address, "addresses", lambda: known)):
        return
    ttl = between(rng, 1, 3600) if remember_s is None else remember_s
    ask = ts[np.concatenate([[True], np.diff(np.floor(ts / ttl)) > 0])]
    both = rng.random() < (0.6 if computer else 0.1)
    twice = stage.habit(device.address, "asks twice", lambda: both)  # A and AAAA
    ask = np.repeat(ask, 2 if twice else 1) - rng.uniform(0.01, 0.3)
    ask = ask + np.arange(len(ask)) % 2 * 0.002
    failing = between(rng, 1e-4, 0.005)
    _questions(stage, device, ask, failing)


def _questions(
    stage: Stage, device: Device, ts: np.ndarray, failing: float, lost: float | None = None, resolver: str = ""
) -> None:
    rng, n = stage.rng, len(ts)
    if lost is None:
        lost = between(rng, 1e-4, 0.01) if rng.random() < 0.3 else 0.0
    code = np.where(rng.random(n) < failing, OTHER_RCODE, ANSWERED)
    gone = rng.random(n) < lost
    asked = rng.integers(26, 60, n)
    plain = stage.habit("", "plain answers", lambda: rng.random() < (0.7 if stage.flavour == "industrial" else 0.1))
    answered = asked + 16 * rng.integers(0, 2, n) if plain else rng.integers(42, 420, n)
    exchange(
        stage.ledger,
        ts,
        device.address,
        resolver or stage.resolver,
        53,
        out_pkts=np.where(gone, 2, 1),
        in_pkts=np.where(gone, 0, 1),
        ask_bytes=asked,
        answer_bytes=np.where(code == ANSWERED, answered, asked + rng.choice([0, 75])),
        duration=np.where(gone, 5.0, lognormal(rng, between(rng, 1e-4, 0.1), 1.2, n)),
        service="dns",
        app="dns",
        code=code,
        asks=1.0,
    )


def unknown_name(stage: Stage, device: Device, ts: np.ndarray, share: float) -> None:
    """Questions of which a share is for names that nobody has, as every browser asks for its proxy."""
    if len(ts):
        _questions(stage, device, ts, share)


def needless_names(stage: Stage, device: Device) -> None:
    """Asks again and again for a name that does not exist, or at a resolver that often is silent, and lives well."""
    rng = stage.rng
    ts = beats(rng, stage.start_s, stage.end_s, between(rng, 10, 1200), 0.2)
    if rng.random() < 0.6:
        _questions(stage, device, ts, rng.uniform(0.3, 1), 0.0)
        return
    resolver = stage.resolver if rng.random() < 0.5 else str(public_address(rng, 1)[0])
    again = np.sort(np.concatenate([ts, ts[rng.random(len(ts)) < 0.5] + 10]))  # the resolver's time-out, twice
    _questions(stage, device, again, 0.0, rng.uniform(0.1, 0.95), resolver)


def names(stage: Stage, device: Device) -> None:
    """A rhythm of lookups of its own, regular or in bursts."""
    rng = stage.rng
    ts = beats(rng, stage.start_s, stage.end_s, between(rng, 10, 1800), rng.uniform(0, 0.3))
    ts = np.sort((ts[:, None] + rng.uniform(0, 0.5, (1, int(rng.integers(1, 5))))).ravel())
    _questions(stage, device, ts, between(rng, 1e-4, 0.05))
