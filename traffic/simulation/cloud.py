"""Traffic of healthy devices beyond the router, and normal traffic that looks like trouble."""

from dataclasses import replace
from typing import Any

import numpy as np

from traffic.plant import Device
from traffic.simulation.distributions import (
    backoff,
    log_uniform,
    lognormal,
    periodic,
    public_address,
)
from traffic.simulation.flows import (
    Columns,
    Datagrams,
    Payload,
    attempt,
    modbus,
    refuse,
    session,
    udp_flow,
)
from traffic.simulation.plant import SimulatedPlant, service_addresses
from traffic.simulation.services import lookup

# ---- sessions with a service of the internet ----

_ENDINGS = (
    {"closed": 1},
    {"closed": 3, "reset_server": 2, "half_server": 1},
    {"closed_by_server": 1, "reset_client": 0.3, "reset_twice": 0.2},
    {"half_server": 1, "open": 0.4},
    {"closed": 1, "closed_by_server": 1, "half_client": 0.1, "reset_late": 0.5},
)
# How a service speaks -> its ports, Zeek's name for it, and the bytes of its hello.
_TRANSPORTS = {
    "tls": ((443, 443, 443, 8443), "ssl", (500, 3500)),
    "http": ((80, 80, 8080), "http", (0, 1)),
    "other": ((5222, 5228, 8883, 4070, 9443, 2195), "", (200, 3000)),
}


def call_service(
    sim: SimulatedPlant,
    device: Device,
    ts: np.ndarray,
    hosts: np.ndarray,
    duration_s: np.ndarray,
    ending: dict[str, float] | None = None,
    **sizes: Any,
) -> None:
    """Add sessions with one service, most of them after a DNS question; ``sizes`` are fields of
    their ``Payload``, drawn where not given."""
    rng, n = sim.rng, len(ts)
    ports, service, hello = _TRANSPORTS[str(rng.choice(list(_TRANSPORTS), p=[0.7, 0.22, 0.08]))]
    port = int(rng.choice(ports))
    named = rng.random() < 0.9
    if named:
        lookup(sim, device, ts)
    hello_bytes = rng.integers(*hello)
    ask = lognormal(rng, log_uniform(rng, 60, 2000), 0.5, n)
    answer = lognormal(rng, log_uniform(rng, 60, 4000), 0.8, n) + hello_bytes
    drawn_ending = _ENDINGS[int(rng.integers(len(_ENDINGS)))]
    exchanges = np.rint(lognormal(rng, log_uniform(rng, 1, 6), 0.4, n)).clip(1)
    payload = replace(Payload(exchanges, ask, answer), **sizes)
    columns: Columns = {"service": service, "named": named, "steady": False}
    columns |= {"tries": sim.retry_policy(device.address), "ending": ending or drawn_ending}
    dst = hosts[rng.integers(len(hosts), size=n)]
    session(sim.log, ts, device.address, dst, port, duration_s, payload, **columns)


def cloud_polling(sim: SimulatedPlant, device: Device) -> None:
    """Asks its cloud every few seconds to hours, in one session or several at once."""
    rng = sim.rng
    ts = sim.periodic(log_uniform(rng, 3, 3600), log_uniform(rng, 1e-3, 0.4))
    if rng.random() < 0.3:
        together = int(rng.integers(2, 7))
        ts = np.sort((ts[:, None] + rng.uniform(0, 1.5, (1, together))).ravel())
    # A connection that is only opened and closed: is the internet there?
    sizes: Columns = {"exchanges": 0} if rng.random() < 0.15 else {}
    hosts = service_addresses(sim)
    length = lognormal(rng, log_uniform(rng, 0.05, 20), 0.7, len(ts))
    call_service(sim, device, ts, hosts, length, **sizes)


def idle_timeouts(sim: SimulatedPlant, device: Device) -> None:
    """Sessions that the far end closes after exactly so many seconds without data: S1 and S3 rows
    of equal length."""
    rng = sim.rng
    limit_s = float(rng.choice([30, 60, 75, 120, 180, 240, 300, 305, 600]))
    ts = sim.periodic(limit_s * rng.uniform(1, 4), log_uniform(rng, 1e-3, 0.2))
    hosts, length = service_addresses(sim), limit_s + rng.normal(0, 0.1, len(ts))
    call_service(sim, device, ts, hosts, length, {"half_server": 1, "open": 1})


def push_session(sim: SimulatedPlant, device: Device) -> None:
    """One session with the vendor for hours, with a few bytes every so often."""
    rng = sim.rng
    before = rng.random() < 0.8
    start = sim.start_s - rng.uniform(1, 3600) if before else rng.uniform(sim.start_s, sim.end_s)
    ts = np.array([start])
    length = sim.end_s - ts + 600
    exchanges, hosts = length / log_uniform(rng, 5, 900), service_addresses(sim)
    sizes = {"ask_bytes": rng.integers(20, 120), "answer_bytes": rng.integers(0, 120)}
    call_service(sim, device, ts, hosts, length, {"open": 1}, exchanges=exchanges, **sizes)


def browsing(sim: SimulatedPlant, device: Device) -> None:
    """People at a page, or a voice assistant that is asked something: bursts of sessions with many
    new peers."""
    rng = sim.rng
    pages = sim.poisson(log_uniform(rng, 20, 900) / max(sim.busy, 0.2))
    for _ in range(int(rng.integers(1, 4))):
        ts = np.sort(np.repeat(pages, rng.integers(1, 9, len(pages))))
        ts = np.sort(ts + rng.exponential(1.5, len(ts)))
        hosts = public_address(rng, max(int(log_uniform(rng, 5, 80)), 1))
        answer = lognormal(rng, 9000, 1.6, len(ts))
        length = lognormal(rng, log_uniform(rng, 0.3, 60), 1.2, len(ts))
        call_service(sim, device, ts, hosts, length, answer_bytes=answer)
    if rng.random() < 0.4:  # QUIC
        ts = np.sort(pages + rng.exponential(2, len(pages)))
        pkts = np.rint(lognormal(rng, 12, 1, len(ts))).clip(2)
        datagrams = Datagrams(pkts, np.rint(pkts * rng.uniform(0.7, 3)), 300, 900)
        hosts, length = public_address(rng, len(ts)), lognormal(rng, 8, 1.3, len(ts))
        udp_flow(sim.log, ts, device.address, hosts, 443, length, datagrams)


def upload(sim: SimulatedPlant, device: Device) -> None:
    """A regular upload to a place it has always known: measurements, pictures, a backup."""
    rng = sim.rng
    ts = sim.periodic(log_uniform(rng, 60, 7200), 0.05)
    size = lognormal(rng, log_uniform(rng, 1e5, 2e8), 0.4, len(ts))
    length, hosts = size / log_uniform(rng, 5e4, 5e6), service_addresses(sim)
    bulk: Columns = {
        "exchanges": np.maximum(size / 60000, 1),
        "ask_bytes": 60000,
        "answer_bytes": 200,
    }
    call_service(sim, device, ts, hosts, length, **bulk)


def firmware_download(sim: SimulatedPlant, device: Device) -> None:
    """New firmware comes from the vendor, once."""
    rng = sim.rng
    ts = np.array([rng.uniform(sim.start_s, sim.end_s)])
    size, hosts = log_uniform(rng, 5e5, 5e8), service_addresses(sim)
    length = np.array([size / log_uniform(rng, 2e5, 1e7)])
    bulk: Columns = {"exchanges": max(size / 1e6, 1), "ask_bytes": 200, "answer_bytes": 1e6}
    call_service(sim, device, ts, hosts, length, **bulk)


def udp_relay(sim: SimulatedPlant, device: Device) -> None:
    """UDP with the internet: STUN, calls, tunnels; some of it never answered."""
    rng = sim.rng
    ts = sim.periodic(log_uniform(rng, 10, 900), 0.1)
    back = rng.choice([0, 1, 1, 1])
    pkts = rng.integers(1, 6, len(ts))
    datagrams = Datagrams(pkts, pkts * back, rng.integers(20, 200), rng.integers(20, 200))
    host = str(service_addresses(sim)[0])
    port = int(rng.choice([3478, 19302, 10001, 32100, 51820, 4500]))
    udp_flow(sim.log, ts, device.address, host, port, pkts * 0.4, datagrams)


# ---- normal traffic that looks like trouble ----
# A device that calls a dead service looks like a bot that calls a dead controller, and is far more
# common: half of the skill of telling them apart is learned from ``dead_cloud``.

_RETRIES = ("once", "linux_short", "linux", "linux_long", "windows", "lwip", "impatient")


def dead_cloud(sim: SimulatedPlant, device: Device) -> None:
    """Calls a service that never answers any more, by one policy or another, with or without a
    name; else healthy."""
    rng, log = sim.rng, sim.log
    host = str(public_address(rng, 1)[0])
    port = int(rng.choice([443, 80, 8883, 1883, 5222, 8080, int(rng.integers(1024, 65535))]))
    dies_at = sim.start_s
    if rng.random() < 0.4:  # it answered once
        dies_at = rng.uniform(sim.start_s, sim.end_s)
        alive = periodic(rng, sim.start_s, dies_at, log_uniform(rng, 5, 900), 0.05)
        length = lognormal(rng, 1, 1, len(alive))
        session(log, alive, device.address, host, port, length, Payload(3, 300, 900))
    steady_s = log_uniform(rng, 3, 900)
    if rng.random() < 0.5:
        ts = backoff(rng, dies_at, sim.end_s)
    else:
        ts = periodic(rng, dies_at, sim.end_s, steady_s, log_uniform(rng, 1e-3, 0.3))
    if rng.random() < 0.8:
        lookup(sim, device, ts, float(rng.choice([1, 30, 300])))
    tries = str(rng.choice(_RETRIES))
    if rng.random() < 0.25:
        refuse(log, ts, device.address, host, port)
    else:
        attempt(log, ts, device.address, host, port, tries=tries)


def late_packets(sim: SimulatedPlant, device: Device) -> None:
    """A lone FIN or RST of sessions that the log had already closed, which is more common than one
    would think."""
    rng, log = sim.rng, sim.log
    ts = sim.poisson(log_uniform(rng, 20, 900))
    hosts, fin = service_addresses(sim), rng.random(len(ts)) < 0.7
    dst, port = hosts[rng.integers(len(hosts), size=len(ts))], int(rng.choice([80, 443]))
    row = dict.fromkeys(("duration", "orig_bytes", "resp_bytes"), np.nan)
    row |= {"orig_pkts": 1.0, "resp_pkts": 0.0, "orig_ip_bytes": 40.0, "resp_ip_bytes": 0.0}
    state, history = np.where(fin, "SH", "OTH"), np.where(fin, "F", "R")
    states = {"proto": "tcp", "conn_state": state, "history": history}
    log.add(ts, device.address, dst, port, log.ports(len(ts)), **row, **states)


def failed_calls(sim: SimulatedPlant, device: Device) -> None:
    """A call that fails now and then, at no place in particular."""
    rng, me = sim.rng, device.address
    ts = sim.poisson(log_uniform(rng, 200, 7200))
    refused = rng.random(len(ts)) < 0.3
    silent, closed = ts[~refused], ts[refused]
    hosts = public_address(rng, len(silent))
    attempt(sim.log, silent, me, hosts, 443, tries=sim.retry_policy(me))
    refuse(sim.log, closed, me, public_address(rng, len(closed)), 443)


def maintenance(sim: SimulatedPlant, device: Device) -> None:
    """Someone works on a device: SSH, its web page, a file, a few writes to a controller."""
    rng, log = sim.rng, sim.log
    others = [d for d in sim.plant.devices if d != device]
    if not others:
        return
    for _ in range(int(rng.integers(1, 4))):
        other = sim.draw_device(others)
        ends = (device.address, other.address)
        ts = np.array([rng.uniform(sim.start_s, sim.end_s)])
        port = int(rng.choice([22, 80, 443, 445, 21, 3389, 5900, 23, 8080]))
        length = np.array([log_uniform(rng, 3, 1800)])
        exchanges = length * log_uniform(rng, 0.1, 20)
        payload = Payload(exchanges, lognormal(rng, 60, 1), lognormal(rng, 200, 1.5))
        session(log, ts, *ends, port, length, payload)
        if other.role == "plc":
            at = ts + np.sort(rng.uniform(0, length, int(rng.integers(1, 8))))
            log.note(at, *ends, "modbus_write", 16, distinct=1)
            session(log, ts, *ends, 502, length, Payload(len(at) * 3, 14, 30), **modbus(3, 0))


# What a device does beyond the router, and how likely, by role. One that is named twice is drawn
# twice: the device may then use two services.
_QUIET = ((cloud_polling, 0.25), (dead_cloud, 0.1), (failed_calls, 0.1))
_CLOUD = (
    (cloud_polling, 0.7),
    (push_session, 0.4),
    (idle_timeouts, 0.2),
    (upload, 0.12),
    (firmware_download, 0.06),
    (dead_cloud, 0.22),
    (failed_calls, 0.3),
    (late_packets, 0.2),
)
_RARELY = ((cloud_polling, 0.1), (dead_cloud, 0.05))
CLOUD = {
    "plc": ((dead_cloud, 0.03), (cloud_polling, 0.05)),
    "drive": (),
    "gateway": _QUIET,
    "switch": _RARELY,
    "hmi": (*_QUIET, (browsing, 0.25), (late_packets, 0.1)),
    "sensor": (
        (cloud_polling, 0.15),
        (push_session, 0.1),
        (dead_cloud, 0.1),
        (firmware_download, 0.03),
    ),
    "camera": (*_CLOUD, (udp_relay, 0.4)),
    "router": (*_QUIET, (udp_relay, 0.1)),
    "server": (*_CLOUD, (browsing, 0.1)),
    "broker": _QUIET,
    "historian": _QUIET,
    "edge": _QUIET,
    "mes": _QUIET,
    "recorder": _QUIET,
    "robot": _RARELY,
    "hub": (*_CLOUD, (cloud_polling, 0.6), (push_session, 0.4)),
    "plug": (*_CLOUD, (udp_relay, 0.2)),
    "assistant": (
        *_CLOUD,
        *_CLOUD,
        (browsing, 0.9),
        (idle_timeouts, 0.5),
        (late_packets, 0.5),
        (udp_relay, 0.3),
    ),
    "television": (*_CLOUD, (browsing, 0.9), (udp_relay, 0.4)),
    "laptop": (
        *_CLOUD,
        (browsing, 1.0),
        (browsing, 0.5),
        (late_packets, 0.5),
        (udp_relay, 0.5),
        (maintenance, 0.2),
    ),
    "workstation": (*_CLOUD, (browsing, 0.7), (maintenance, 0.3)),
    "printer": ((cloud_polling, 0.3), (dead_cloud, 0.1)),
}
