"""What devices do beside their job: DNS, NTP, DHCP, announcements, syslog, monitoring."""

import numpy as np

from traffic.plant import Device
from traffic.simulation.distributions import log_uniform, lognormal, public_address, setting_s
from traffic.simulation.flows import ANSWERED, Columns, Datagrams, dns_query, ping, udp_flow
from traffic.simulation.plant import COMPUTERS, SOMETIMES_BY_NAME, SimulatedPlant

# ---- DNS: before a call, at a pace of its own, and for names that do not exist ----

_NXDOMAIN = 3
# How likely a device asks for its peers' names; the others have addresses in their settings.
_BY_NAME = dict.fromkeys(COMPUTERS, 0.95) | dict.fromkeys(SOMETIMES_BY_NAME, 0.5)
_DNS_RETRY_S = 10  # after two time-outs of a resolver


def lookup(
    sim: SimulatedPlant,
    device: Device,
    ts: np.ndarray,
    remember_s: float | None = None,
    inside: bool = False,
) -> None:
    """Add DNS questions just before the given times, unless the answer is still remembered.

    Args:
        sim: whose resolver is asked.
        device: the client.
        ts: when the host is called, sorted.
        remember_s: for how long an answer is remembered; drawn by default.
        inside: the host is one of the plant, whose addresses many devices have in their settings.
    """
    rng = sim.rng
    has_address = rng.random() > _BY_NAME.get(device.role, 0.15)
    if not len(ts) or (inside and sim.draw_once(device.address, "addresses", lambda: has_address)):
        return
    ttl_s = log_uniform(rng, 1, 3600) if remember_s is None else remember_s
    ask = ts[np.concatenate([[True], np.diff(np.floor(ts / ttl_s)) > 0])]
    both = rng.random() < (0.6 if device.role in COMPUTERS else 0.1)  # A and AAAA
    twice = sim.draw_once(device.address, "asks twice", lambda: both)
    ask = np.repeat(ask, 2 if twice else 1) - rng.uniform(0.01, 0.3)
    ask = ask + np.arange(len(ask)) % 2 * 0.002
    ask_names(sim, device, ask, log_uniform(rng, 1e-4, 0.005))


def ask_names(
    sim: SimulatedPlant,
    device: Device,
    ts: np.ndarray,
    unknown: float,
    lost: float | None = None,
    resolver: str = "",
) -> None:
    """Add DNS questions: a share ``unknown`` for names that do not exist, as every browser asks for
    its proxy, and a share ``lost`` without an answer, drawn by default."""
    rng, n = sim.rng, len(ts)
    if lost is None:
        lost = log_uniform(rng, 1e-4, 0.01) if rng.random() < 0.3 else 0.0
    code = np.where(rng.random(n) < unknown, _NXDOMAIN, ANSWERED)
    gone = rng.random(n) < lost
    ask = rng.integers(26, 60, n)
    plain = 0.7 if sim.flavour == "industrial" else 0.1
    if sim.draw_once("", "plain answers", lambda: rng.random() < plain):
        answer = ask + 16 * rng.integers(0, 2, n)  # with an A record, or without
    else:
        answer = rng.integers(42, 420, n)
    answer = np.where(code == ANSWERED, answer, ask + rng.choice([0, 75]))
    wait = np.where(gone, 5.0, lognormal(rng, log_uniform(rng, 1e-4, 0.1), 1.2, n))
    datagrams = Datagrams(np.where(gone, 2, 1), np.where(gone, 0, 1), ask, answer)
    dns_query(sim.log, ts, device.address, resolver or sim.resolver, code, wait, datagrams)


def failing_lookups(sim: SimulatedPlant, device: Device) -> None:
    """Asks again and again for a name that does not exist, or a resolver that often is silent, and
    works all the same."""
    rng = sim.rng
    ts = sim.periodic(log_uniform(rng, 10, 1200), 0.2)
    if rng.random() < 0.6:
        ask_names(sim, device, ts, rng.uniform(0.3, 1), 0.0)
        return
    resolver = sim.resolver if rng.random() < 0.5 else str(public_address(rng, 1)[0])
    again = np.sort(np.concatenate([ts, ts[rng.random(len(ts)) < 0.5] + _DNS_RETRY_S]))
    ask_names(sim, device, again, 0.0, rng.uniform(0.1, 0.95), resolver)


def regular_lookups(sim: SimulatedPlant, device: Device) -> None:
    """Looks names up at a pace of its own, one or several at a time."""
    rng = sim.rng
    ts = sim.periodic(log_uniform(rng, 10, 1800), rng.uniform(0, 0.3))
    together = int(rng.integers(1, 5))
    ts = np.sort((ts[:, None] + rng.uniform(0, 0.5, (1, together))).ravel())
    ask_names(sim, device, ts, log_uniform(rng, 1e-4, 0.05))


# ---- time and addresses ----


def ntp(sim: SimulatedPlant, device: Device) -> None:
    """NTP with one to five servers, or a pool that gives another one every time; some of them never
    answer."""
    rng = sim.rng
    if device.address in sim.clock:
        return
    inside = sim.clock[0].startswith(sim.network)
    fixed_port = rng.random() < (0.12 if inside else 0.6)
    pool = None
    if rng.random() < 0.25 and not inside:
        pool = public_address(rng, int(log_uniform(rng, 5, 60)))
    silence = rng.choice([0.0, 0.03, 0.5, 0.9, 1.0], p=[0.5, 0.2, 0.15, 0.05, 0.1], size=60)
    for place, server in enumerate(sim.clock[: int(rng.integers(1, len(sim.clock) + 1))]):
        ts = sim.periodic(_draw_ntp_period_s(rng))
        n = len(ts)
        which = np.full(n, place) if pool is None else rng.integers(len(pool), size=n)
        dst = np.full(n, server, object) if pool is None else pool[which]
        own = server.startswith(sim.network) and pool is None
        lost = np.zeros(n) if own else silence[which]
        lookup(sim, device, ts, remember_s=1.0, inside=inside)
        orig_p = 123 if fixed_port else sim.log.ports(n)
        answered = (rng.random(n) >= lost).astype(float)
        wait = lognormal(rng, 0.02, 1, n)
        datagrams = Datagrams(1, answered)
        udp_flow(sim.log, ts, device.address, dst, 123, wait, datagrams, orig_p=orig_p)


def _draw_ntp_period_s(rng: np.random.Generator) -> float:
    """A power of two where it is NTP (RFC 5905, 7.3), else a setting."""
    if rng.random() < 0.85:
        return 2.0 ** int(rng.choice(np.arange(4, 11), p=[0.2, 0.25, 0.25, 0.15, 0.09, 0.03, 0.03]))
    return setting_s(rng, 10, 900)


def dhcp(sim: SimulatedPlant, device: Device) -> None:
    """A rare renewal of its lease, or a client that nobody answers and that keeps on asking."""
    rng = sim.rng
    ts = sim.poisson(log_uniform(rng, 1200, 43200))
    size = int(rng.integers(244, 600))
    columns: Columns = {"orig_p": 68, "service": "dhcp"}
    datagrams = Datagrams(1, 1, size, size)
    udp_flow(sim.log, ts, device.address, sim.router, 67, 0.02, datagrams, **columns)
    if rng.random() < 0.05:
        ts = sim.periodic(log_uniform(rng, 40, 400), 0.2)
        pkts = rng.integers(1, 12, len(ts))
        src, dst = "0.0.0.0", "255.255.255.255"  # noqa: S104 - addresses in data
        udp_flow(sim.log, ts, src, dst, 67, pkts * 6.0, Datagrams(pkts, 0, 300), **columns)


# ---- announcements that nobody answers ----

_GROUPS = (
    # group (or the end of the plant's broadcast address), port, service, payload, weight
    ("224.0.0.251", 5353, "dns", (40, 700), 5),
    ("239.255.255.250", 1900, "", (90, 420), 4),
    ("239.255.255.250", 3702, "", (500, 900), 1),
    ("224.0.0.252", 5355, "dns", (22, 45), 1),
    ("255.255.255.255", 17500, "", (100, 200), 0.5),
    ("255.255.255.255", 57621, "", (44, 45), 0.7),
    ("255.255.255.255", 6667, "", (150, 220), 0.4),
    (".255", 137, "dns", (50, 68), 1),
    (".255", 138, "", (190, 230), 0.7),
    (".255", 47808, "", (12, 60), 0.7),
)
_GROUP_ODDS = np.array([group[-1] for group in _GROUPS]) / 15.0


def announcements(sim: SimulatedPlant, device: Device) -> None:
    """mDNS, SSDP, WS-Discovery, NetBIOS and the like, by multicast or broadcast."""
    rng = sim.rng
    for _ in range(int(rng.integers(1, 4))):
        group, port, service, (low, high), _ = _GROUPS[int(rng.choice(len(_GROUPS), p=_GROUP_ODDS))]
        group = sim.network + "255" if group == ".255" else group
        ts = sim.periodic(log_uniform(rng, 15, 2000), rng.uniform(0, 0.4))
        pkts = np.maximum(1, np.rint(lognormal(rng, log_uniform(rng, 1, 8), 0.5, len(ts))))
        orig_p = port if rng.random() < 0.7 else None
        datagrams = Datagrams(pkts, 0, rng.integers(low, high, len(ts)))
        length = np.maximum(pkts - 1, 0.2) * log_uniform(rng, 0.1, 8)
        ends = (device.address, group)
        udp_flow(sim.log, ts, *ends, port, length, datagrams, orig_p=orig_p, service=service)


def ipv6_neighbours(sim: SimulatedPlant, device: Device) -> None:
    """IPv6 link-local traffic of the same machine: router solicitations, ever more seldom (RFC
    7559), and mDNS."""
    rng = sim.rng
    tail = device.mac.replace(":", "") or f"{rng.integers(1 << 40):012x}"
    address = f"fe80::{int(tail[:4], 16) ^ 0x200:x}:{tail[4:6]}ff:fe{tail[6:8]}:{tail[8:]}"
    # The whole plant may just have been switched on.
    fresh = sim.draw_once("", "fresh", lambda: rng.random() < 0.5)
    booted = sim.start_s - (rng.uniform(5, 60) if fresh else log_uniform(rng, 5, 3e5))
    gaps = np.minimum(4.0 * 2.0 ** np.arange(60), 3600.0) * rng.uniform(0.9, 1.1, 60)
    ts = booted + np.cumsum(gaps)
    kind = 133 if rng.random() < 0.8 else int(rng.choice([135, 136, 143]))
    if rng.random() < 0.15:
        ts = sim.periodic(log_uniform(rng, 60, 3000), 0.3)
    ts = ts[(ts >= sim.start_s) & (ts < sim.end_s)]
    # Zeek starts a new flow after a minute without ICMP.
    first = np.flatnonzero(np.diff(ts, prepend=-np.inf) > 60)
    pkts = np.diff([*first, len(ts)])
    length, size = ts[first + pkts - 1] - ts[first], rng.choice([8, 16])
    ping(sim.log, ts[first], address, "ff02::2", length, pkts, 0, size, kind=kind)
    if rng.random() < 0.1:
        ts = sim.periodic(log_uniform(rng, 30, 1500), 0.3)
        datagrams = Datagrams(rng.integers(1, 10, len(ts)), 0, 150)
        ends, mdns = (address, "ff02::fb"), 5353
        udp_flow(sim.log, ts, *ends, mdns, 7.0, datagrams, orig_p=mdns, service="dns")


# ---- logs and monitoring ----


def syslog(sim: SimulatedPlant, device: Device) -> None:
    """Syslog to a server of the plant: one way, whenever something happens."""
    server = next(iter(sim.having("server", "historian")), None)
    if server is None or server == device:
        return
    rng = sim.rng
    ts = sim.poisson(log_uniform(rng, 3, 600))
    pkts = np.rint(lognormal(rng, 1.2, 0.6, len(ts))).clip(1)
    datagrams = Datagrams(pkts, 0, rng.integers(60, 400, len(ts)))
    ends = (device.address, server.address)
    udp_flow(sim.log, ts, *ends, 514, pkts * 0.5, datagrams, orig_p=514, service="syslog")


def monitoring(sim: SimulatedPlant, device: Device) -> None:
    """The monitoring station asks every device it knows by SNMP, ping, or both."""
    rng = sim.rng
    if device.role not in ("server", "historian") or rng.random() < 0.3:
        return
    others = [other for other in sim.plant.devices if other != device and rng.random() < 0.7]
    period_s, by_snmp = log_uniform(rng, 10, 600), rng.random()
    for other in others:
        ts, ends = sim.periodic(period_s), (device.address, other.address)
        if rng.random() < by_snmp and other.role not in ("plug", "sensor", "laptop"):
            pkts = rng.integers(1, 30)
            datagrams = Datagrams(pkts, pkts, 45, rng.integers(45, 200))
            udp_flow(sim.log, ts, *ends, 161, 0.3, datagrams, service="snmp")
        else:
            many = int(rng.integers(1, 6))
            ping(sim.log, ts, *ends, max(many - 1, 0.01), many, many)


def online_check(sim: SimulatedPlant, device: Device) -> None:
    """Pings its router or a public address to see whether it is online."""
    rng = sim.rng
    target = sim.router if rng.random() < 0.5 else str(public_address(rng, 1)[0])
    ts = sim.periodic(log_uniform(rng, 10, 900))
    many = int(rng.integers(1, 12))
    back = many if rng.random() < 0.85 else 0
    length = many * log_uniform(rng, 0.005, 1)
    ping(sim.log, ts, device.address, target, length, many, back)


# What a device does beside its job, and how likely, by role.
_SERVER = ((ntp, 0.8), (syslog, 0.1), (ipv6_neighbours, 0.4))
SERVICES = {
    "plc": ((ntp, 0.3), (announcements, 0.2), (syslog, 0.1), (dhcp, 0.1)),
    "drive": ((announcements, 0.1), (ntp, 0.1)),
    "hmi": (
        (ntp, 0.5),
        (announcements, 0.6),
        (regular_lookups, 0.3),
        (dhcp, 0.2),
        (failing_lookups, 0.15),
        (ipv6_neighbours, 0.4),
    ),
    "sensor": (
        (ntp, 0.6),
        (dhcp, 0.3),
        (regular_lookups, 0.2),
        (online_check, 0.15),
        (announcements, 0.2),
        (syslog, 0.1),
    ),
    "camera": (
        (ntp, 0.7),
        (announcements, 0.6),
        (dhcp, 0.3),
        (failing_lookups, 0.1),
        (ipv6_neighbours, 0.3),
    ),
    "gateway": ((ntp, 0.5), (announcements, 0.1)),
    "robot": ((ntp, 0.6), (announcements, 0.2)),
    "dns": _SERVER,
    "ntp": ((syslog, 0.1), (ipv6_neighbours, 0.4)),
    "broker": _SERVER,
    "switch": ((ntp, 0.5), (syslog, 0.6), (announcements, 0.2)),
    "router": (
        (ntp, 0.7),
        (announcements, 0.5),
        (syslog, 0.4),
        (ipv6_neighbours, 0.5),
        (online_check, 0.2),
    ),
    "server": ((ntp, 0.8), (monitoring, 1.0), (regular_lookups, 0.5), (ipv6_neighbours, 0.4)),
    "default": (
        (ntp, 0.7),
        (announcements, 0.6),
        (dhcp, 0.4),
        (regular_lookups, 0.4),
        (ipv6_neighbours, 0.4),
        (online_check, 0.15),
        (failing_lookups, 0.12),
        (syslog, 0.05),
    ),
}
