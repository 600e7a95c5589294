"""Intrusions: attacks quieter than a scan or a flood, by someone who is in already.

Each takes the plant and its time, adds rows that carry its label, and returns its cause in one
sentence.
"""

import numpy as np

from traffic.simulation.distributions import (
    backoff,
    log_uniform,
    lognormal,
    periodic,
    poisson,
    public_address,
)
from traffic.simulation.flows import (
    ANSWERED,
    Columns,
    Datagrams,
    Payload,
    attempt,
    dns_query,
    modbus,
    ping,
    refuse,
    session,
    udp_flow,
)
from traffic.simulation.plant import (
    CONTROLLERS,
    SimulatedPlant,
    draw_attacker,
    draw_infected,
    draw_victim,
)

# ---- command and control ----
# A dead controller and a dead cloud service look much alike; ``cloud.dead_cloud`` makes the other.

_RETRIES = ("linux_short", "linux", "linux_long", "once", "lwip", "windows", "impatient")


def c2(sim: SimulatedPlant, start_s: float, end_s: float) -> str:
    """A device reports to a controller: by beacons, answered, dead, or first one and then the
    other, or in one long session."""
    rng = sim.rng
    src = draw_infected(sim)
    # Some reach their controller through another machine of the plant.
    if rng.random() < 0.1:
        host = draw_victim(sim, src, "workstation", "server", "hmi")
    else:
        host = str(public_address(rng, 1)[0])
    known = (23, 80, 443, 6667, 8080, 1312, 48101, 53)
    port = int(rng.choice([*known, *rng.integers(1024, 65535, 6)]))
    dies_at = rng.uniform(start_s, end_s)
    dead_from = {"answered": end_s, "dead": start_s, "dying": dies_at, "session": end_s}
    manner = str(rng.choice(list(dead_from), p=[0.3, 0.38, 0.08, 0.24]))
    split = dead_from[manner]
    if rng.random() < 0.15:  # an ordinary question to the resolver, which has no part in the rest
        at, query = np.array([start_s - 0.2]), Datagrams(1, 1, 48, 80)
        dns_query(sim.log, at, src, sim.resolver, ANSWERED, datagrams=query)
    if manner == "session":
        _long_session(sim, src, host, port, start_s, end_s)
    else:
        # One call alone is nothing to learn from.
        period_s = log_uniform(rng, 5, min(300, max((end_s - start_s) / 5, 10)))
        jitter = log_uniform(rng, 1e-3, 0.5)
        _beacon(sim, src, host, port, periodic(rng, start_s, split, period_s, jitter))
        _beacon_dead(sim, src, host, port, split, end_s)
    if rng.random() < 0.3:
        other = str(public_address(rng, 1)[0]) if rng.random() < 0.5 else host
        _download(sim, src, other, rng.uniform(start_s, end_s))
    return f"{src} reports to a controller at {host}:{port} ({manner})"


def _beacon(sim: SimulatedPlant, src: str, host: str, port: int, ts: np.ndarray) -> None:
    rng, n = sim.rng, len(ts)
    exchanges, size = rng.integers(1, 5), lognormal(rng, log_uniform(rng, 4, 600), 0.2, n)
    payload = Payload(exchanges, size, rng.integers(0, 900))
    half_closed = {"half_server": 1, "reset_server": 0.1}
    endings = ({"closed": 1}, half_closed, {"reset_client": 1}, {"reset_server": 1})
    ending = endings[int(rng.integers(4))]
    length = lognormal(rng, log_uniform(rng, 0.05, 35), 0.2, n)
    if rng.random() < 0.1:
        pkts = rng.integers(1, 4, n)
        datagrams = Datagrams(pkts, pkts, 60, 60)
        udp_flow(sim.log, ts, src, host, port, 0.02, datagrams, label="c2")
        return
    service = {80: "http", 443: "ssl", 6667: "irc"}.get(port, "")
    columns: Columns = {"ending": ending, "service": service, "label": "c2"}
    session(sim.log, ts, src, host, port, length, payload, **columns)


def _beacon_dead(
    sim: SimulatedPlant, src: str, host: str, port: int, start_s: float, end_s: float
) -> None:
    """Calls a controller that is gone again and again, each time from a fresh port."""
    rng = sim.rng
    every_s, jitter = log_uniform(rng, 3, 120), log_uniform(rng, 1e-3, 0.3)
    steady = periodic(rng, start_s, end_s, every_s, jitter)
    ts = steady if rng.random() < 0.85 else backoff(rng, start_s, end_s)
    if rng.random() < 0.2:
        refuse(sim.log, ts, src, host, port, label="c2")
    else:
        attempt(sim.log, ts, src, host, port, tries=str(rng.choice(_RETRIES)), label="c2")


def _long_session(
    sim: SimulatedPlant, src: str, host: str, port: int, start_s: float, end_s: float
) -> None:
    """A session of hours that carries little, as IRC's; broken now and then and opened again."""
    rng = sim.rng
    breaks = poisson(rng, start_s, end_s, log_uniform(rng, 300, 7200))
    starts = np.concatenate([[start_s], breaks])
    length = np.maximum(np.diff([*starts, end_s]) - rng.uniform(1, 5), 1)
    exchanges = np.maximum(length / log_uniform(rng, 3, 60), 2)
    payload = Payload(exchanges, rng.integers(2, 90), rng.integers(2, 90))
    options: Columns = {
        "service": "irc" if port == 6667 else "",
        "ending": {"open": 1, "reset_late": 1},
    }
    session(sim.log, starts, src, host, port, length, payload, label="c2", **options)


def _download(sim: SimulatedPlant, src: str, host: str, at: float) -> None:
    """Fetches the malware's next stage, a binary for each processor, over plain HTTP."""
    rng = sim.rng
    ts = at + np.cumsum(rng.uniform(0.3, 5, int(rng.integers(1, 12))))
    payload = Payload(1, 149, lognormal(rng, 90e3, 0.8, len(ts)))
    port, length = int(rng.choice([80, 80, 8080])), lognormal(rng, 1.5, 0.5, len(ts))
    session(sim.log, ts, src, host, port, length, payload, service="http", label="c2")


# ---- passwords ----

# As often as they stand here; Zeek names the services of some.
_LOGIN_PORTS = (22, 22, 23, 23, 21, 1883, 1883, 1883, 80, 3389, 5900)
_LOGIN_SERVICES = {22: "ssh", 21: "ftp", 1883: "mqtt", 80: "http"}
_REFUSALS = (
    {"closed": 1},
    {"closed": 1, "reset_server": 1},
    {"reset_client": 1, "closed_by_server": 1},
)
_WITH_LOGIN = ("server", "historian", "edge", "camera", "plc", "router")


def brute_force(sim: SimulatedPlant, start_s: float, end_s: float) -> str:
    """Tries passwords, one short session after another, at a device of the plant, or, as a worm
    does, at strangers."""
    rng, log = sim.rng, sim.log
    src = draw_attacker(sim, outside=0.3)
    port = _LOGIN_PORTS[int(rng.integers(len(_LOGIN_PORTS)))]
    service = _LOGIN_SERVICES.get(port, "")
    every_s, jitter = 1 / log_uniform(rng, 0.15, 15), rng.uniform(0.02, 0.8)
    ts = periodic(rng, start_s, end_s, every_s, jitter)
    outward = src.startswith(sim.network) and rng.random() < 0.3
    hosts = public_address(rng, int(log_uniform(rng, 1, 40)) if outward else 1)
    if not outward:
        hosts[0] = draw_victim(sim, src, *(("broker",) if service == "mqtt" else _WITH_LOGIN))
    dst = hosts[np.sort(rng.integers(len(hosts), size=len(ts)))]
    dropped = rng.random(len(ts)) < rng.choice([0, 0, 0.1, 0.5])
    held = ts[~dropped]
    ending = _REFUSALS[int(rng.integers(3))]
    length = lognormal(rng, log_uniform(rng, 0.1, 8), 0.4, len(held))
    payload = Payload(rng.integers(2, 14), rng.integers(10, 160), rng.integers(9, 300))
    if service == "mqtt":  # CONNECT and a refusing CONNACK, no more (MQTT 3.1.1, 3.1 and 3.2)
        payload = Payload(1, rng.integers(25, 90, len(held)), 4)
        length = lognormal(rng, log_uniform(rng, 1e-3, 1), 0.4, len(held))
    columns: Columns = {
        "service": service,
        "app": service,
        "ending": ending,
        "label": "brute_force",
    }
    session(log, held, src, dst[~dropped], port, length, payload, **columns)
    turn_away = attempt if rng.random() < 0.5 else refuse
    turn_away(log, ts[dropped], src, dst[dropped], port, label="brute_force")
    if service == "mqtt":
        log.note(held, src, dst[~dropped], "mqtt_refused", int(rng.choice([4, 5])))
    whom = ", ".join(hosts[:3]) + (" and others" if len(hosts) > 3 else "")
    return f"{src} tries passwords on port {port} of {whom}"


# ---- data taken, addresses forged, brokers abused, controllers written to ----


def exfiltration(sim: SimulatedPlant, start_s: float, end_s: float) -> str:
    """Sends data to a place it never went to: at once, in pieces, or hidden in names."""
    rng, log = sim.rng, sim.log
    src, host = draw_infected(sim), str(public_address(rng, 1)[0])
    way = str(rng.choice(["whole", "pieces", "names"], p=[0.45, 0.4, 0.15]))
    known = ((443, "ssl"), (80, "http"), (21, "ftp"), (22, "ssh"))
    port, service = (*known, (int(rng.integers(1024, 65535)), ""))[int(rng.integers(5))]
    size = log_uniform(rng, 3e6, 3e9)
    label = "exfiltration"
    if way == "names":
        ts = periodic(rng, start_s, end_s, 1 / log_uniform(rng, 1, 50), 0.3)
        datagrams = Datagrams(1, 1, rng.integers(120, 250, len(ts)), 150)
        dns_query(log, ts, src, sim.resolver, ANSWERED, datagrams=datagrams, label=label)
        return f"{src} sends data out hidden in DNS questions"
    if way == "whole":
        ts, length = np.array([start_s]), np.array([end_s - start_s])
    else:
        ts = periodic(rng, start_s, end_s, log_uniform(rng, 5, 90), 0.3)
        length = lognormal(rng, 3, 0.5, len(ts))
    payload = Payload(max(size / max(len(ts), 1) / 60000, 1), 60000, 100)
    session(log, ts, src, host, port, length, payload, service=service, label=label)
    return f"{src} sends {size / 1e6:.0f} MB to {host}"


def spoofing(sim: SimulatedPlant, start_s: float, end_s: float) -> str:
    """ARP poisoning: an attacker claims the addresses of two that talk, and redirects what it
    cannot relay."""
    rng, log = sim.rng, sim.log
    src = draw_attacker(sim, outside=0)
    first = draw_victim(sim, src, "plc", "hmi", "broker")
    second = sim.router if rng.random() < 0.5 else draw_victim(sim, src, "hmi", "server", "router")
    claimed = [address for address in dict.fromkeys((first, second)) if address != src]
    ts = periodic(rng, start_s, end_s, log_uniform(rng, 0.5, 8), 0.1)
    for address in claimed:
        log.note(ts, address, address, "arp_conflict", count=1, distinct=2)
        at = ts if rng.random() < 0.5 else periodic(rng, start_s, end_s, 8, 0.1)
        redirects, label = rng.integers(1, 6, len(at)), "spoofing"
        ping(log, at, src, address, 0.8, redirects, 0, 36, kind=5, code=1, label=label)
    return f"{src} claims the address of {' and '.join(claimed)}"


def mqtt_abuse(sim: SimulatedPlant, start_s: float, end_s: float) -> str:
    """Sends a broker floods of messages or connections, malformed packets, or messages that it has
    no right to publish."""
    rng, log = sim.rng, sim.log
    src = draw_attacker(sim, outside=0.15)
    dst = draw_victim(sim, src, "broker")
    ways = ["messages", "connections", "malformed", "unauthorised"]
    way = str(rng.choice(ways, p=[0.35, 0.15, 0.35, 0.15]))
    columns: Columns = {"label": "mqtt_abuse", "service": "mqtt", "app": "mqtt"}
    if way in ("messages", "unauthorised"):
        rate = log_uniform(rng, 40, 2000) if way == "messages" else log_uniform(rng, 0.5, 20)
        seconds = end_s - start_s
        payload = Payload(rate * seconds, lognormal(rng, 200, 1), rng.choice([0, 4]))
        columns |= {"asks": 1.0, "distinct": int(log_uniform(rng, 1, 2000))}
        session(log, np.array([start_s]), src, dst, 1883, seconds, payload, **columns)
    else:
        malformed = way == "malformed"
        ts = periodic(rng, start_s, end_s, 1 / log_uniform(rng, 1, 40), 0.3)
        payload = Payload(rng.integers(1, 3), rng.integers(12, 400), 4)
        length = lognormal(rng, 0.2 if malformed else 8, 0.8, len(ts))
        refused, open_ = {"reset_server": 1, "closed_by_server": 1}, {"open": 1, "closed": 1}
        columns["ending"] = refused if malformed else open_
        session(log, ts, src, dst, 1883, length, payload, **columns)
        if malformed:
            log.note(ts, src, dst, "mqtt_malformed", count=rng.integers(1, 4, len(ts)))
    return f"{src} abuses the broker {dst} ({way})"


def unauthorized_command(sim: SimulatedPlant, start_s: float, end_s: float) -> str:
    """Writes to a controller from where nobody did before, or far more than ever."""
    rng, log = sim.rng, sim.log
    src = draw_attacker(sim, outside=0.1)
    dst = draw_victim(sim, src, *CONTROLLERS)
    if rng.random() < 0.5:
        ts = periodic(rng, start_s, end_s, log_uniform(rng, 2, 60), 0.3)
        length = lognormal(rng, 0.5, 0.8, len(ts))
    else:
        ts, length = np.array([start_s]), np.array([end_s - start_s])
    writes = np.rint(np.maximum(length * log_uniform(rng, 1, 30), 1))
    columns = modbus(int(rng.choice([5, 6, 15, 16, 16])), int(log_uniform(rng, 1, 60)))
    payload = Payload(writes, rng.integers(12, 60), 12)
    label = "unauthorized_command"
    session(log, ts, src, dst, 502, length, payload, label=label, **columns)
    refused = ts[rng.random(len(ts)) < 0.2]
    log.note(refused, src, dst, "modbus_exception", int(rng.choice([1, 2, 3, 4])))
    return f"{src} writes to the controller {dst}"
