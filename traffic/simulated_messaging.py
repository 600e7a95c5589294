"""MQTT: sensors that publish, and whoever subscribes to what they say."""

import numpy as np

from traffic.plant import Device
from traffic.simulated_names import lookup
from traffic.simulation.devices import renewals
from traffic.simulation.distributions import beats, between, lognormal, setting_s, usual
from traffic.simulation.flows import session
from traffic.simulation.plant import Stage, vendor

__all__ = ["sensor", "subscriber"]


def sensor(stage: Stage, device: Device) -> None:
    """Publishes to the broker of the plant, or to one in the cloud: in one session or in one for each message."""
    rng = stage.rng
    brokers = stage.having("broker")
    inside = bool(brokers) and rng.random() < 0.975
    broker = brokers[int(rng.integers(len(brokers)))].address if inside else str(vendor(stage)[0])
    secret = rng.random() < (_habit_of_secrecy(stage) if inside else 0.8)
    asks = {} if secret else {"app": "mqtt", "asks": 1.0, "distinct": int(rng.integers(1, 4))}
    given = {"port": 8883 if secret else 1883, "service": "ssl" if secret else "mqtt", "named": not inside, **asks}
    period_s, size = _publishes(stage, device)
    overhead = int(rng.integers(20, 60))  # topic and headers
    payload = {"ask_bytes": size + overhead + (29 if secret else 0), "answer_bytes": rng.choice([0, 0, 4])}
    if rng.random() < 0.96:
        ts = renewals(stage, float("inf") if rng.random() < 0.94 else between(rng, 300, 7200))
        length = np.diff([*ts, stage.end_s + 600]) - 0.5
        how = {"duration": length, "exchanges": np.maximum(length / period_s, 1), "ending": {"open": 1}}
        how["alive_s"] = _keeps_alive(stage, period_s, bool(payload["answer_bytes"]))
    else:
        ts = beats(rng, stage.start_s, stage.end_s, max(period_s, 3.0), rng.uniform(0, 0.1))
        length = lognormal(rng, 0.3, 0.8, len(ts))
        how = {"duration": length, "exchanges": rng.integers(2, 6), "ending": {"closed": 9, "reset_client": 1}}
    lookup(stage, device, ts, inside=inside)
    session(stage.ledger, ts, device.address, broker, tries=stage.tries(device.address), **how, **payload, **given)


def _habit_of_secrecy(stage: Stage) -> float:
    """Share of the sensors of this plant that speak TLS to its broker: all, some or, mostly, none."""
    return float(stage.habit("", "secrecy", lambda: stage.rng.choice([0.0, 0.3, 1.0], p=[0.9, 0.05, 0.05])))


def _publishes(stage: Stage, device: Device) -> tuple[float, float]:
    """Seconds between two messages of a sensor, and bytes of each."""
    rng = stage.rng
    period_s = stage.habit(device.address, "publishes", lambda: setting_s(rng, 1.0, 12.0))
    return period_s, stage.habit(device.address, "message", lambda: usual(rng, 150, 1000))


def _keeps_alive(stage: Stage, period_s: float, answered: bool) -> float:
    """Seconds between two PINGREQ (MQTT 3.1.1, 3.1.2.10): where nothing else is said, or nothing else comes back."""
    rng = stage.rng
    keepalive_s = float(rng.choice([10, 15, 20, 30, 60, 120, 300], p=[0.08, 0.2, 0.1, 0.25, 0.27, 0.05, 0.05]))
    heard = answered or rng.random() < 0.25  # some clients only mind what they themselves sent
    return 0.0 if heard and period_s < keepalive_s else keepalive_s


def subscriber(stage: Stage, device: Device) -> None:
    """A device that listens to the broker: to every sensor, or to some."""
    rng = stage.rng
    brokers = stage.having("broker")
    if not brokers:
        return
    heard = stage.having("sensor")
    if rng.random() < 0.15:
        heard = [one for one in heard if rng.random() < 0.4]
    said = [_publishes(stage, one) for one in heard]
    ts = renewals(stage, float("inf"))
    length = stage.end_s - ts + 60
    rate = sum(1 / period_s for period_s, _ in said) or 1 / between(rng, 1, 60)
    size = sum(size / period_s for period_s, size in said) / rate if said else 60.0
    topics = {"distinct": max(len(said), 1), "tells": 1.0} if not _habit_of_secrecy(stage) else {}
    given = {"service": "mqtt", "app": "mqtt", "ending": {"open": 1}, "tries": stage.tries(device.address), **topics}
    sizes = {"ask_bytes": 0 if rng.random() < 0.6 else 4, "answer_bytes": size + 40, "exchanges": length * rate}
    session(stage.ledger, ts, device.address, brokers[0].address, 1883, duration=length, **given, **sizes)
