"""Attacks: scans and floods; the quieter ones are in ``intrusions``.

An attack takes the plant and its time, adds rows that carry its label to the plant's log, and
returns its cause in one sentence. The truth of attacker and victim follows from the rows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from traffic.simulation.distributions import log_uniform, lognormal, periodic, public_address
from traffic.simulation.flows import (
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
from traffic.simulation.intrusions import (
    brute_force,
    c2,
    exfiltration,
    mqtt_abuse,
    spoofing,
    unauthorized_command,
)
from traffic.simulation.plant import CONTROLLERS, SimulatedPlant, draw_attacker, draw_victim

# ---- scans: of a host's ports, a network's hosts, the internet, a controller's registers ----

OPEN_PORTS = {
    "plc": (80, 102, 502, 44818),
    "camera": (80, 443, 554, 8000),
    "server": (22, 80, 443, 445, 1883, 3306, 5432, 8086),
    "broker": (22, 1883, 8883),
    "router": (22, 53, 80, 443),
    "workstation": (135, 139, 445, 3389),
    "hmi": (80, 135, 445, 5900),
}
_SCANNED = "22 23 80 81 443 445 502 1883 2323 3389 4840 5555 7547 8080 8443 37215 44818 52869"
_SCANNED_PORTS = np.array(_SCANNED.split(), int)


def recon(sim: SimulatedPlant, start_s: float, end_s: float) -> str:
    """One of several kinds of scan; those of ports, hosts and the internet twice as often."""
    often = (_port_scan, _port_scan, _host_scan, _host_scan, _internet_scan, _internet_scan)
    kinds = (*often, _udp_scan, _modbus_sweep, _ping_sweep)
    return kinds[int(sim.rng.integers(len(kinds)))](sim, start_s, end_s)


def _probe_times(sim: SimulatedPlant, start_s: float, end_s: float, n: int) -> np.ndarray:
    """Times of up to n probes: as fast as tools go, or slow enough to hide."""
    rng = sim.rng
    rate = log_uniform(rng, 0.05, 1) if rng.random() < 0.2 else log_uniform(rng, 1, 600)
    times = start_s + np.cumsum(rng.exponential(1 / rate, n))
    return times[times < end_s]


def _probe(
    sim: SimulatedPlant,
    ts: np.ndarray,
    src: str,
    dst: np.ndarray,
    port: np.ndarray,
    answer: np.ndarray,
) -> None:
    """TCP probes answered by ``open``, ``closed`` or silence (``filtered``): half-open ones from
    nmap's one or two ports, or connections from fresh ones."""
    rng, log = sim.rng, sim.log
    half_open = rng.random() < 0.6
    fixed = int(rng.integers(1024, 65000))
    ports = np.full(len(ts), fixed) if half_open else log.ports(len(ts))
    where = (ts, dst, port, ports)
    at, to, to_port, own = (column[answer == "closed"] for column in where)
    refuse(log, at, src, to, to_port, orig_p=own, label="recon")
    tries = "once"
    if not half_open and rng.random() >= 0.5:
        tries = str(rng.choice(["linux_short", "impatient"]))
    at, to, to_port, own = (column[answer == "filtered"] for column in where)
    attempt(log, at, src, to, to_port, orig_p=own, tries=tries, label="recon")
    if half_open and rng.random() < 0.7:  # nmap asks the silent ones once more, from the next port
        again = at + rng.uniform(0.2, 1.5)
        attempt(log, again, src, to, to_port, orig_p=own + 1, tries="once", label="recon")
    at, to, to_port, own = (column[answer == "open"] for column in where)
    payload, length = Payload(0), 0.01
    if not half_open:
        payload = Payload(1, rng.integers(0, 300), rng.integers(0, 900))
        length = log_uniform(rng, 0.01, 8)
    options = {"orig_p": own, "ending": {"reset_client": 1}, "label": "recon"}
    session(log, at, src, to, to_port, length, payload, **options)


def _port_scan(sim: SimulatedPlant, start_s: float, end_s: float) -> str:
    rng = sim.rng
    src = draw_attacker(sim)
    dst = draw_victim(sim, src)
    n = int(log_uniform(rng, 20, 8000) if rng.random() < 0.5 else 1000)
    port = rng.permutation(np.arange(1, max(n + 1, 10000)))[:n]
    ts = _probe_times(sim, start_s, end_s, n)
    role = next((d.role for d in sim.plant.devices if d.address == dst), "")
    others = "filtered" if rng.random() < 0.3 else "closed"
    answer = np.where(np.isin(port, OPEN_PORTS.get(role, (80,))), "open", others)[: len(ts)]
    _probe(sim, ts, src, np.full(len(ts), dst, object), port[: len(ts)], answer)
    return f"{src} scans {len(ts)} ports of {dst}"


def _host_scan(sim: SimulatedPlant, start_s: float, end_s: float) -> str:
    rng, log = sim.rng, sim.log
    src = draw_attacker(sim, outside=0.1)
    ports = rng.choice(_SCANNED_PORTS, size=int(rng.integers(1, 6)), replace=False)
    shuffled = rng.permutation(np.arange(1, 255))
    hosts = np.array([sim.network + str(host) for host in shuffled], object)
    dst, port = np.repeat(hosts, len(ports)), np.tile(ports, len(hosts))
    ts = _probe_times(sim, start_s, end_s, len(dst))
    dst, port = dst[: len(ts)], port[: len(ts)]
    alive = np.isin(dst, [d.address for d in sim.plant.devices])
    seen = np.ones(len(ts), bool)
    if rng.random() < 0.6:  # on the same wire: a host that does not answer ARP is never probed
        log.note(ts, src, dst, "arp_request", count=np.where(alive, 1, 2))
        log.note(ts[~alive], src, dst[~alive], "arp_unanswered", count=2)
        dns_query(log, ts[:: len(ports)], src, sim.resolver, 3, label="recon")
        seen = alive
    drawn = rng.choice(["closed", "open", "filtered"], size=len(ts), p=[0.6, 0.25, 0.15])
    answer = np.where(alive, drawn, "filtered")
    _probe(sim, ts[seen], src, dst[seen], port[seen], answer[seen])
    return f"{src} scans the network for port {', '.join(map(str, ports))}"


def _internet_scan(sim: SimulatedPlant, start_s: float, end_s: float) -> str:
    """A worm that looks for others of its kind beyond the router."""
    rng = sim.rng
    src = draw_attacker(sim, outside=0)
    ts = _probe_times(sim, start_s, end_s, int(log_uniform(rng, 50, 12000)))
    ports = rng.choice(_SCANNED_PORTS, size=int(rng.integers(1, 4)), replace=False)
    port = rng.choice(ports, size=len(ts))
    answer = rng.choice(["filtered", "closed", "open"], size=len(ts), p=[0.95, 0.04, 0.01])
    _probe(sim, ts, src, public_address(rng, len(ts)), port, answer)
    return f"{src} scans random addresses of the internet"


def _udp_scan(sim: SimulatedPlant, start_s: float, end_s: float) -> str:
    rng, log = sim.rng, sim.log
    src = draw_attacker(sim)
    dst = draw_victim(sim, src)
    ts = _probe_times(sim, start_s, end_s, int(log_uniform(rng, 30, 2000)))
    port, size = rng.integers(1, 65535, len(ts)), rng.integers(0, 60)
    orig_p = int(rng.integers(1024, 65000))
    probe = Datagrams(1, 0, size)
    udp_flow(log, ts, src, dst, port, 0.02, probe, orig_p=orig_p, label="recon")
    answered = ts[rng.random(len(ts)) < log_uniform(rng, 0.02, 0.9)] + 0.001
    ping(log, answered, dst, src, in_pkts=0, size_bytes=36, kind=3, code=3)
    log.note(answered, dst, src, "unreachable", 3)
    return f"{src} scans UDP ports of {dst}"


def _modbus_sweep(sim: SimulatedPlant, start_s: float, end_s: float) -> str:
    """Asks a controller for everything: functions, units, registers."""
    rng, log = sim.rng, sim.log
    src = draw_attacker(sim, outside=0.1)
    dst = draw_victim(sim, src, *CONTROLLERS)
    rate, length = log_uniform(rng, 1, 60), end_s - start_s
    columns: Columns = modbus(int(rng.choice([1, 2, 3, 4])), int(log_uniform(rng, 20, 500)))
    payload = Payload(length * rate, 12, rng.integers(9, 40))
    options: Columns = {"ending": {"closed": 1, "reset_client": 1}, "label": "recon"}
    session(log, np.array([start_s]), src, dst, 502, length, payload, **columns, **options)
    wrong = periodic(rng, start_s, end_s, log_uniform(rng, 1 / rate, 20), 0.3)
    log.note(wrong, src, dst, "modbus_exception", rng.choice([1, 2, 2, 3, 11], size=len(wrong)))
    log.note(wrong, src, dst, "modbus_other", rng.choice([7, 8, 17, 43, 43, 90], size=len(wrong)))
    return f"{src} reads every register of {dst}"


def _ping_sweep(sim: SimulatedPlant, start_s: float, end_s: float) -> str:
    log = sim.log
    src = draw_attacker(sim, outside=0.1)
    hosts = np.array([sim.network + str(host) for host in range(1, 255)], object)
    ts = _probe_times(sim, start_s, end_s, len(hosts))
    hosts = hosts[: len(ts)]
    alive = np.isin(hosts, [d.address for d in sim.plant.devices])
    ping(log, ts, src, hosts, in_pkts=alive.astype(float), label="recon")
    log.note(ts[~alive], src, hosts[~alive], "arp_unanswered")
    return f"{src} pings every address of the network"


# ---- floods: fill a host's line or its tables ----


@dataclass(frozen=True)
class Flood:
    """What all floods have.

    Attributes:
        sim: the plant, whose log the rows go to.
        start_s: first second.
        end_s: its end.
        src: addresses of the senders, one or many.
        dst: address of the victim.
        label: ``dos`` or ``ddos``.
        port: the victim's port.
        pkts_per_s: of all senders together.
    """

    sim: SimulatedPlant
    start_s: float
    end_s: float
    src: np.ndarray
    dst: str
    label: str
    port: int
    pkts_per_s: float

    def small_flows(self, most: int = 20000) -> tuple[np.ndarray, np.ndarray]:
        """Draw times and senders of up to ``most`` small flows, each of shape (n,)."""
        rng, length = self.sim.rng, self.end_s - self.start_s
        n = max(int(min(self.pkts_per_s * length, log_uniform(rng, most / 40, most))), 1)
        ts = np.sort(rng.uniform(self.start_s, self.end_s, n))
        return ts, self.src[rng.integers(len(self.src), size=n)]

    def long_flows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw start, packets and seconds of one endless flow for each sender."""
        length, n = self.end_s - self.start_s, len(self.src)
        pkts = np.full(n, max(self.pkts_per_s * length / n, 20))
        starts = self.start_s + self.sim.rng.uniform(0, 2, n)
        return starts, pkts, np.full(n, max(length - 2, 1.0))


def _flood_syn(flood: Flood) -> None:
    """SYNs that are swallowed, refused, or answered by a SYN-ACK that leads nowhere."""
    rng = flood.sim.rng
    ts, src = flood.small_flows()
    syns = max(np.rint(flood.pkts_per_s * (flood.end_s - flood.start_s) / len(ts)), 1.0)
    endings = (("S0", "S"), ("S0", "S"), ("REJ", "Sr"), ("S1", "Sh"))
    state, history = endings[int(rng.integers(4))]
    back = 0.0 if state == "S0" else syns
    several = syns + back > 1
    payload = 0.0 if several else np.nan
    row: Columns = {"proto": "tcp", "conn_state": state, "history": history, "label": flood.label}
    row |= {"duration": 0.5 if several else np.nan, "orig_bytes": payload, "resp_bytes": payload}
    row |= {"orig_pkts": syns, "resp_pkts": back}
    row |= {"orig_ip_bytes": 40 * syns, "resp_ip_bytes": 40 * back}
    orig_p = rng.integers(1024, 65535, len(ts))
    flood.sim.log.add(ts, src, flood.dst, flood.port, orig_p, **row)


def _flood_unsummed(flood: Flood) -> None:
    """Packets whose checksum the sender's card had not filled in: Zeek drops them, history C."""
    ts, src = flood.small_flows()
    log = flood.sim.log
    row: Columns = {"proto": "tcp", "conn_state": "OTH", "history": "C", "label": flood.label}
    row |= dict.fromkeys(["duration", "orig_bytes", "resp_bytes"], np.nan)
    row |= dict.fromkeys(["orig_pkts", "resp_pkts", "orig_ip_bytes", "resp_ip_bytes"], 0.0)
    log.add(ts, src, flood.dst, flood.port, log.ports(len(ts)), **row)


def _flood_udp(flood: Flood) -> None:
    rng, log = flood.sim.rng, flood.sim.log
    size, dst, label = rng.integers(0, 1400), flood.dst, flood.label
    if rng.random() < 0.5:
        ts, src = flood.small_flows()
        port = rng.integers(1, 65535, len(ts))
        udp_flow(log, ts, src, dst, port, 0.02, Datagrams(1, 0, size), label=label)
    else:
        ts, pkts, length = flood.long_flows()
        datagrams = Datagrams(pkts, 0, size)
        udp_flow(log, ts, flood.src, dst, flood.port, length, datagrams, label=label)


def _flood_icmp(flood: Flood) -> None:
    rng, (ts, pkts, length) = flood.sim.rng, flood.long_flows()
    back = pkts if rng.random() < 0.4 else 0
    size, ends = rng.integers(8, 1400), (flood.src, flood.dst)
    ping(flood.sim.log, ts, *ends, length, pkts, back, size, label=flood.label)


def _flood_http(flood: Flood) -> None:
    rng = flood.sim.rng
    ts, src = flood.small_flows()
    payload = Payload(rng.integers(1, 20), 250, rng.integers(0, 6000))
    length = lognormal(rng, 0.3, 1, len(ts))
    columns: Columns = {"service": "http", "label": flood.label}
    ending = {"closed": 1, "reset_client": 0.5}
    session(flood.sim.log, ts, src, flood.dst, 80, length, payload, ending=ending, **columns)


def _slow_connections(flood: Flood) -> None:
    """Slowloris: connections held open by a few bytes now and then, until the server has none
    left."""
    rng = flood.sim.rng
    ts, src = flood.small_flows(most=2000)
    payload = Payload(rng.integers(2, 40), 20, 0)
    length = rng.uniform(5, 120, len(ts))
    options: Columns = {"ending": {"open": 1, "reset_server": 1}, "label": flood.label}
    session(flood.sim.log, ts, src, flood.dst, 80, length, payload, **options)


_SYN_UDP = (_flood_syn, _flood_syn, _flood_udp, _flood_udp)
_FLOODS = (*_SYN_UDP, _flood_icmp, _flood_http, _slow_connections, _flood_unsummed)


def _flood(
    sim: SimulatedPlant, start_s: float, end_s: float, src: np.ndarray, dst: str, label: str
) -> None:
    """Add one of the floods: one flow of a million packets, or ten thousand of one packet."""
    rng = sim.rng
    port = int(rng.choice([80, 443, 53, 502, 1883, 8080, int(rng.integers(1, 65535))]))
    flood = Flood(sim, start_s, end_s, src, dst, label, port, log_uniform(rng, 20, 20000))
    _FLOODS[int(rng.integers(len(_FLOODS)))](flood)


def dos(sim: SimulatedPlant, start_s: float, end_s: float) -> str:
    """One attacker floods one device."""
    src = draw_attacker(sim)
    dst = draw_victim(sim, src, "plc", "broker", "server", "historian", "camera")
    _flood(sim, start_s, end_s, np.array([src], object), dst, "dos")
    return f"{src} floods {dst}"


def ddos(sim: SimulatedPlant, start_s: float, end_s: float) -> str:
    """Devices of the plant take part in a flood of someone outside, or the plant is flooded from
    everywhere."""
    rng = sim.rng
    if rng.random() < 0.6:
        addresses = [device.address for device in sim.plant.devices]
        count = min(int(rng.choice([1, 1, 1, 2, 4])), len(addresses))
        src = rng.choice(addresses, size=count, replace=False).astype(object)
        dst = str(public_address(rng, 1)[0])
    else:
        src = public_address(rng, int(log_uniform(rng, 10, 800)))
        dst = draw_victim(sim, "", "server", "broker", "router", "camera")
    _flood(sim, start_s, end_s, src, dst, "ddos")
    return f"{dst} is flooded from {len(src)} sources"


ATTACK_SIMULATORS: dict[str, Callable[[SimulatedPlant, float, float], str]] = {
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
