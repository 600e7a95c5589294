"""Wireless devices of a house: mostly asleep, calling their maker's cloud, losing packets in the air.

    asleep ..... wakes: a name, a short call ..... motion: a clip is sent up, seconds to a minute .....

Such a device shows in healthy days what is trouble in a plant: a tenth of what is sent to it is sent
again, for its radio sleeps between beacons, and megabytes leave for an address outside. Simulated
where it is asked for, so that plants are drawn as ever.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from traffic.plant import Device
from traffic.simulation import cloud, services
from traffic.simulation.distributions import log_uniform, lognormal, public_address
from traffic.simulation.flows import Columns, Datagrams, udp_flow
from traffic.simulation.plant import SimulatedPlant, service_addresses

Habit = Callable[[SimulatedPlant, Device], None]

# ---- what such devices do ----


def check_in(sim: SimulatedPlant, device: Device) -> None:
    """Wakes every few minutes to hours, and makes one or several short calls one after another."""
    rng = sim.rng
    ts = sim.periodic(log_uniform(rng, 120, 14400), log_uniform(rng, 1e-3, 0.2))
    for step in range(int(rng.integers(1, 4))):
        length = lognormal(rng, log_uniform(rng, 0.3, 8), 0.6, len(ts))
        after = ts + step * log_uniform(rng, 0.5, 6)
        cloud.call_service(sim, device, after, service_addresses(sim), length)


def stay_connected(sim: SimulatedPlant, device: Device) -> None:
    """A session that lasts for minutes to days and is made anew when it breaks, with a few bytes now
    and then that say that both still live."""
    rng = sim.rng
    lasts_s = log_uniform(rng, 900, 2e5)
    start = sim.start_s - rng.uniform(0, lasts_s)
    ts = np.arange(start, sim.end_s, lasts_s) + rng.exponential(2.0)
    length = np.diff([*ts, sim.end_s + 600]) - rng.uniform(0.5, 20)
    every_s = log_uniform(rng, 15, 300)
    ending: dict[str, float]
    ending = {"open": 1} if len(ts) == 1 else {"closed": 2, "reset_server": 1, "reset_client": 1}
    sizes = {"ask_bytes": rng.integers(0, 120), "answer_bytes": rng.integers(2, 80)}
    exchanges = np.maximum(length / every_s, 1)
    hosts = service_addresses(sim)
    cloud.call_service(sim, device, ts, hosts, length, ending, exchanges=exchanges, **sizes)


def send_clips(sim: SimulatedPlant, device: Device) -> None:
    """Something moves: a clip goes up, in one session or, in parts, in several."""
    rng = sim.rng
    ts = sim.poisson(log_uniform(rng, 60, 7200) / max(sim.busy, 0.3))
    if rng.random() < 0.6:  # what moves moves again
        ts = np.sort(np.concatenate([ts, ts + rng.exponential(90, len(ts))]))
    for part in range(int(rng.choice([1, 1, 2, 3]))):
        size = lognormal(rng, log_uniform(rng, 4e4, 6e6), 0.6, len(ts))
        length = np.maximum(size / log_uniform(rng, 3e4, 8e5), 0.5)
        _send_up(sim, device, ts + part * log_uniform(rng, 0.2, 10), size, length)


def show_live(sim: SimulatedPlant, device: Device) -> None:
    """Somebody looks at the picture for a while: by a relay of the maker, or by UDP to a telephone."""
    rng = sim.rng
    ts = sim.poisson(log_uniform(rng, 1200, 40000))
    length = lognormal(rng, log_uniform(rng, 20, 600), 0.8, len(ts))
    size = length * log_uniform(rng, 1.5e4, 4e5)
    if rng.random() < 0.6:
        _send_up(sim, device, ts, size, length)
        return
    out = np.rint(size / rng.uniform(500, 1200)).clip(1)
    datagrams = Datagrams(out, np.rint(out * rng.uniform(0, 0.3)), size / out, 60)
    hosts = public_address(rng, max(len(ts), 1))[: len(ts)]
    port = int(rng.integers(10000, 65000))
    udp_flow(sim.log, ts, device.address, hosts, port, length, datagrams)


def stream_always(sim: SimulatedPlant, device: Device) -> None:
    """A picture that is kept by the maker, day and night."""
    rng = sim.rng
    lasts_s = log_uniform(rng, 1800, 1e5)
    ts = np.arange(sim.start_s - rng.uniform(0, lasts_s), sim.end_s, lasts_s)
    length = np.diff([*ts, sim.end_s + 600]) - 1.0
    _send_up(sim, device, ts, length * log_uniform(rng, 1.5e4, 4e5), length)


def _send_up(
    sim: SimulatedPlant, device: Device, ts: np.ndarray, size: np.ndarray, length: np.ndarray
) -> None:
    chunk = int(sim.rng.choice([1400, 4000, 16000, 60000]))
    sizes: Columns = {"exchanges": np.maximum(size / chunk, 1), "ask_bytes": chunk}
    sizes["answer_bytes"] = int(sim.rng.choice([0, 40, 200]))
    cloud.call_service(sim, device, ts, service_addresses(sim), length, **sizes)


# What devices do, and how likely, by role; those on mains do what others of a house do too.
_HABITS: dict[str, tuple[tuple[Habit, float], ...]] = {
    "camera": (
        (check_in, 0.7),
        (stay_connected, 0.6),
        (send_clips, 0.75),
        (show_live, 0.5),
        (stream_always, 0.12),
    ),
    "hub": ((stay_connected, 0.95), (stay_connected, 0.4), (check_in, 0.5)),
    "sensor": ((check_in, 0.9), (stay_connected, 0.25)),
    "plug": ((stay_connected, 0.9), (check_in, 0.4)),
    "assistant": ((stay_connected, 1.0), (check_in, 0.7), (cloud.browsing, 0.7)),
    "television": ((stay_connected, 0.6), (check_in, 0.6), (cloud.browsing, 0.8)),
    "router": (),
}
_BATTERY = {"camera": 0.5, "sensor": 0.8, "hub": 0.1}


def list_habits(sim: SimulatedPlant, device: Device) -> tuple[tuple[Habit, float], ...]:
    """What a device of a house may do, and how likely."""
    own = _HABITS[device.role] if device.role in _HABITS else _HABITS["plug"]
    if sim.rng.random() < _BATTERY.get(device.role, 0.0):
        return (*own, (services.dhcp, 0.7), (services.ntp, 0.2))
    beside = services.SERVICES.get(device.role, services.SERVICES["default"])
    outward = cloud.CLOUD.get(device.role, ())
    return (*own, *beside, *((habit, likely / 3) for habit, likely in outward))


# ---- what the air takes ----


def draw_air_losses(sim: SimulatedPlant, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Draw the share of packets sent again that is ordinary for each device's radio.

    Args:
        sim: the house.
        rows: TCP activity with ``src dst slot``, the originator first.

    Returns:
        The shares of what the originator sends and of what it is sent, shape (n,) each. They waver
        from one ten seconds to the next; a radio that sleeps hears less than it says.
    """
    rng = sim.rng
    says = {device.address: log_uniform(rng, 1e-4, 0.04) for device in sim.plant.devices}
    hears = {device.address: log_uniform(rng, 1e-4, 0.25) for device in sim.plant.devices}
    slots, place = np.unique(rows["slot"].to_numpy(np.int64), return_inverse=True)
    now = rng.lognormal(-0.3, 0.8, len(slots))[place]
    out = rows["src"].map(says).fillna(0.0) + rows["dst"].map(hears).fillna(0.0)
    back = rows["src"].map(hears).fillna(0.0) + rows["dst"].map(says).fillna(0.0)
    return np.minimum(out.to_numpy(float) * now, 0.5), np.minimum(back.to_numpy(float) * now, 0.5)
