"""What almost every device does beside its job: names, time, addresses, announcements, logs and
being watched."""

import numpy as np

from traffic.plant import Device
from traffic.simulation.distributions import (
    beats,
    between,
    lognormal,
    public_address,
    setting_s,
    visits,
)
from traffic.simulation.flows import exchange, ping
from traffic.simulation.plant import Stage

# Questions for names (DNS): before a call, in a rhythm of their own, needless ones, and those for
# names nobody has.

# Computers ask for names; machines often have the addresses of their own plant in their settings.
_COMPUTERS = ("historian", "edge", "mes", "recorder", "workstation", "server")
_BY_NAME = dict.fromkeys(_COMPUTERS, 0.93) | dict.fromkeys(("hmi", "sensor", "camera"), 0.5)
OTHER_RCODE = 3  # NXDOMAIN
ANSWERED = -2


def lookup(
    stage: Stage,
    device: Device,
    ts: np.ndarray,
    remember_s: float | None = None,
    inside: bool = False,
) -> None:
    """DNS questions just before the given times, unless the answer is still remembered.

    Args:
        stage: whose resolver is asked.
        device: who asks; many have the addresses of their own plant (``inside``) in their settings
            and never ask.
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
    stage: Stage,
    device: Device,
    ts: np.ndarray,
    failing: float,
    lost: float | None = None,
    resolver: str = "",
) -> None:
    rng, n = stage.rng, len(ts)
    if lost is None:
        lost = between(rng, 1e-4, 0.01) if rng.random() < 0.3 else 0.0
    code = np.where(rng.random(n) < failing, OTHER_RCODE, ANSWERED)
    gone = rng.random(n) < lost
    asked = rng.integers(26, 60, n)
    plain = stage.habit(
        "", "plain answers", lambda: rng.random() < (0.7 if stage.flavour == "industrial" else 0.1)
    )
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
    """Questions of which a share is for names that nobody has, as every browser asks for its
    proxy."""
    if len(ts):
        _questions(stage, device, ts, share)


def needless_names(stage: Stage, device: Device) -> None:
    """Asks again and again for a name that does not exist, or at a resolver that often is silent,
    and lives well."""
    rng = stage.rng
    ts = beats(rng, stage.start_s, stage.end_s, between(rng, 10, 1200), 0.2)
    if rng.random() < 0.6:
        _questions(stage, device, ts, rng.uniform(0.3, 1), 0.0)
        return
    resolver = stage.resolver if rng.random() < 0.5 else str(public_address(rng, 1)[0])
    again = np.sort(
        np.concatenate([ts, ts[rng.random(len(ts)) < 0.5] + 10])
    )  # the resolver's time-out, twice
    _questions(stage, device, again, 0.0, rng.uniform(0.1, 0.95), resolver)


def names(stage: Stage, device: Device) -> None:
    """A rhythm of lookups of its own, regular or in bursts."""
    rng = stage.rng
    ts = beats(rng, stage.start_s, stage.end_s, between(rng, 10, 1800), rng.uniform(0, 0.3))
    ts = np.sort((ts[:, None] + rng.uniform(0, 0.5, (1, int(rng.integers(1, 5))))).ravel())
    _questions(stage, device, ts, between(rng, 1e-4, 0.05))


def _asks_s(rng: np.random.Generator) -> float:
    """Seconds between two questions for the time: a power of two where it is NTP (RFC 5905, 7.3),
    else a setting."""
    if rng.random() < 0.85:
        return 2.0 ** int(rng.choice(np.arange(4, 11), p=[0.2, 0.25, 0.25, 0.15, 0.09, 0.03, 0.03]))
    return setting_s(rng, 10, 900)


def clock(stage: Stage, device: Device) -> None:
    """NTP against one to five servers, or a pool that is a new one every time; half of it may stay
    silent for ever."""
    rng = stage.rng
    if device.address in stage.clock:
        return
    inside = stage.clock[0].startswith(stage.network)
    fixed_port = rng.random() < (0.12 if inside else 0.6)
    pool = (
        public_address(rng, int(between(rng, 5, 60)))
        if rng.random() < 0.25 and not inside
        else None
    )
    silence = rng.choice([0.0, 0.03, 0.5, 0.9, 1.0], p=[0.5, 0.2, 0.15, 0.05, 0.1], size=60)
    for place, server in enumerate(stage.clock[: int(rng.integers(1, len(stage.clock) + 1))]):
        ts = beats(rng, stage.start_s, stage.end_s, _asks_s(rng), 0.02)
        which = np.full(len(ts), place) if pool is None else rng.integers(len(pool), size=len(ts))
        who = np.full(len(ts), server, object) if pool is None else pool[which]
        quiet = np.where(
            np.full(len(ts), server.startswith(stage.network) and pool is None), 0.0, silence[which]
        )
        lookup(stage, device, ts, remember_s=1.0, inside=inside)
        port = 123 if fixed_port else stage.ledger.ports(len(ts))
        given = {
            "in_pkts": (rng.random(len(ts)) >= quiet).astype(float),
            "duration": lognormal(rng, 0.02, 1, len(ts)),
        }
        exchange(stage.ledger, ts, device.address, who, 123, orig_p=port, **given)


def lease(stage: Stage, device: Device) -> None:
    """DHCP: a rare renewal, or a client that nobody answers and that keeps on asking."""
    rng = stage.rng
    ts = visits(rng, stage.start_s, stage.end_s, between(rng, 1200, 43200))
    size = int(rng.integers(244, 600))
    exchange(
        stage.ledger,
        ts,
        device.address,
        stage.network + "1",
        67,
        ask_bytes=size,
        answer_bytes=size,
        orig_p=68,
        service="dhcp",
    )
    if rng.random() < 0.05:
        ts = beats(rng, stage.start_s, stage.end_s, between(rng, 40, 400), 0.2)
        many = rng.integers(1, 12, len(ts))
        given = {
            "out_pkts": many,
            "in_pkts": 0,
            "ask_bytes": 300,
            "duration": many * 6.0,
            "orig_p": 68,
            "service": "dhcp",
        }
        exchange(stage.ledger, ts, "0.0.0.0", "255.255.255.255", 67, **given)  # noqa: S104 - an address in data


_GROUPS = (
    # group, port, service, payload range: who announces what to whom
    ("224.0.0.251", 5353, "dns", (40, 700)),
    ("239.255.255.250", 1900, "", (90, 420)),
    ("239.255.255.250", 3702, "", (500, 900)),
    ("224.0.0.252", 5355, "dns", (22, 45)),
    ("255.255.255.255", 17500, "", (100, 200)),
    ("255.255.255.255", 57621, "", (44, 45)),
    ("255.255.255.255", 6667, "", (150, 220)),
    (".255", 137, "dns", (50, 68)),
    (".255", 138, "", (190, 230)),
    (".255", 47808, "", (12, 60)),
)


def announcements(stage: Stage, device: Device) -> None:
    """mDNS, SSDP, WS-Discovery, NetBIOS and the like: multicast that nobody answers."""
    rng = stage.rng
    for _ in range(int(rng.integers(1, 4))):
        group, port, service, (low, high) = _GROUPS[int(rng.choice(len(_GROUPS), p=_GROUP_WEIGHTS))]
        group = stage.network + "255" if group == ".255" else group
        ts = beats(rng, stage.start_s, stage.end_s, between(rng, 15, 2000), rng.uniform(0, 0.4))
        burst = np.maximum(1, np.rint(lognormal(rng, between(rng, 1, 8), 0.5, len(ts))))
        given = {
            "orig_p": port if rng.random() < 0.7 else None,
            "ask_bytes": rng.integers(low, high, len(ts)),
        }
        lasting = np.maximum(burst - 1, 0.2) * between(rng, 0.1, 8)
        exchange(
            stage.ledger,
            ts,
            device.address,
            group,
            port,
            out_pkts=burst,
            in_pkts=0,
            duration=lasting,
            service=service,
            **given,
        )


_GROUP_WEIGHTS = np.array([5, 4, 1, 1, 0.5, 0.7, 0.4, 1, 0.7, 0.7]) / 15.0


def neighbours(stage: Stage, device: Device) -> None:
    """IPv6 link-local chatter of the same machine: where is a router (RFC 7559: ever more seldom),
    and mDNS."""
    rng = stage.rng
    tail = device.mac.replace(":", "") or f"{rng.integers(1 << 40):012x}"
    address = f"fe80::{int(tail[:4], 16) ^ 0x200:x}:{tail[4:6]}ff:fe{tail[6:8]}:{tail[8:]}"
    fresh = stage.habit(
        "", "fresh", lambda: rng.random() < 0.5
    )  # the whole plant has just been switched on
    booted = stage.start_s - (rng.uniform(5, 60) if fresh else between(rng, 5, 3e5))
    ts = booted + np.cumsum(
        np.minimum(4.0 * 2.0 ** np.arange(60), 3600.0) * rng.uniform(0.9, 1.1, 60)
    )
    kind = 133 if rng.random() < 0.8 else int(rng.choice([135, 136, 143]))
    if rng.random() < 0.15:
        ts = beats(rng, stage.start_s, stage.end_s, between(rng, 60, 3000), 0.3)
    ts = ts[(ts >= stage.start_s) & (ts < stage.end_s)]
    first = np.flatnonzero(
        np.diff(ts, prepend=-np.inf) > 60
    )  # Zeek's silence after which ICMP is a new flow
    many = np.diff([*first, len(ts)])
    lasting = ts[first + many - 1] - ts[first]
    given = {
        "kind": kind,
        "out_pkts": many,
        "in_pkts": 0,
        "size_bytes": rng.choice([8, 16]),
        "duration": lasting,
    }
    ping(stage.ledger, ts[first], address, "ff02::2", **given)
    if rng.random() < 0.1:
        ts = beats(rng, stage.start_s, stage.end_s, between(rng, 30, 1500), 0.3)
        given = {
            "out_pkts": rng.integers(1, 10, len(ts)),
            "in_pkts": 0,
            "ask_bytes": 150,
            "duration": 7.0,
        }
        exchange(stage.ledger, ts, address, "ff02::fb", 5353, orig_p=5353, service="dns", **given)


def log_lines(stage: Stage, device: Device) -> None:
    """Syslog to a server of the plant: one way, whenever something happens."""
    server = next(iter(stage.having("server", "historian")), None)
    if server is None or server == device:
        return
    rng = stage.rng
    ts = visits(rng, stage.start_s, stage.end_s, between(rng, 3, 600))
    many = np.rint(lognormal(rng, 1.2, 0.6, len(ts))).clip(1)
    given = {
        "out_pkts": many,
        "in_pkts": 0,
        "ask_bytes": rng.integers(60, 400, len(ts)),
        "duration": many * 0.5,
    }
    exchange(
        stage.ledger, ts, device.address, server.address, 514, orig_p=514, service="syslog", **given
    )


def watched(stage: Stage, device: Device) -> None:
    """The monitoring station asks every device it knows by SNMP, ping, or both."""
    rng = stage.rng
    if device.role not in ("server", "historian") or rng.random() < 0.3:
        return
    others = [other for other in stage.plant.devices if other != device and rng.random() < 0.7]
    period, by_snmp = between(rng, 10, 600), rng.random()
    for other in others:
        ts = beats(rng, stage.start_s, stage.end_s, period, 0.02)
        if rng.random() < by_snmp and other.role not in ("plug", "sensor", "laptop"):
            given = {
                "out_pkts": rng.integers(1, 30),
                "ask_bytes": 45,
                "answer_bytes": rng.integers(45, 200),
            }
            given["in_pkts"] = given["out_pkts"]
            exchange(
                stage.ledger,
                ts,
                device.address,
                other.address,
                161,
                duration=0.3,
                service="snmp",
                **given,
            )
        else:
            many = int(rng.integers(1, 6))
            ping(
                stage.ledger,
                ts,
                device.address,
                other.address,
                out_pkts=many,
                in_pkts=many,
                duration=max(many - 1, 0.01),
            )


def reachable(stage: Stage, device: Device) -> None:
    """Pings its router or a public address to see whether it is online."""
    rng = stage.rng
    target = stage.network + "1" if rng.random() < 0.5 else str(public_address(rng, 1)[0])
    ts = beats(rng, stage.start_s, stage.end_s, between(rng, 10, 900), 0.02)
    many = int(rng.integers(1, 12))
    back = many if rng.random() < 0.85 else 0
    ping(
        stage.ledger,
        ts,
        device.address,
        target,
        out_pkts=many,
        in_pkts=back,
        duration=many * between(rng, 0.005, 1),
    )


# What a device does beside its job, and how likely each is, by kind of device.
SERVICES = {
    "plc": ((clock, 0.3), (announcements, 0.2), (log_lines, 0.1), (lease, 0.1)),
    "drive": ((announcements, 0.1), (clock, 0.1)),
    "hmi": (
        (clock, 0.5),
        (announcements, 0.6),
        (names, 0.3),
        (lease, 0.2),
        (needless_names, 0.15),
        (neighbours, 0.4),
    ),
    "sensor": (
        (clock, 0.6),
        (lease, 0.3),
        (names, 0.2),
        (reachable, 0.15),
        (announcements, 0.2),
        (log_lines, 0.1),
    ),
    "camera": (
        (clock, 0.7),
        (announcements, 0.6),
        (lease, 0.3),
        (needless_names, 0.1),
        (neighbours, 0.3),
    ),
    "gateway": ((clock, 0.5), (announcements, 0.1)),
    "robot": ((clock, 0.6), (announcements, 0.2)),
    "dns": ((clock, 0.8), (log_lines, 0.1), (neighbours, 0.4)),
    "ntp": ((log_lines, 0.1), (neighbours, 0.4)),
    "broker": ((clock, 0.8), (log_lines, 0.1), (neighbours, 0.4)),
    "switch": ((clock, 0.5), (log_lines, 0.6), (announcements, 0.2)),
    "router": (
        (clock, 0.7),
        (announcements, 0.5),
        (log_lines, 0.4),
        (neighbours, 0.5),
        (reachable, 0.2),
    ),
    "server": ((clock, 0.8), (watched, 1.0), (names, 0.5), (neighbours, 0.4)),
    "default": (
        *((clock, 0.7), (announcements, 0.6), (lease, 0.4), (names, 0.4), (neighbours, 0.4)),
        *((reachable, 0.15), (needless_names, 0.12), (log_lines, 0.05)),
    ),
}
