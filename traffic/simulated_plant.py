"""The plant that a simulation plays in: devices, addresses, peers beyond the router, and rhythms.

Everything is drawn from wide ranges, because a model trained here must hold on networks nobody has seen.
"""

from dataclasses import dataclass, field

import numpy as np

from traffic.plant import Device, Plant
from traffic.simulated_flows import SYN_RETRIES
from traffic.simulated_ledger import Ledger

__all__ = [
    *["FLAVOURS", "Stage", "beats", "between", "bot", "intruder", "invent_plant", "lognormal", "pauses"],
    *["public_address", "vendor", "victim", "visits"],
]

FLAVOURS = ("industrial", "mixed", "home")
_WEIGHTS: dict[str, dict[str, float]] = {
    "industrial": {
        **{"plc": 5, "hmi": 2.5, "sensor": 4, "gateway": 1.2, "camera": 1, "workstation": 1.2, "server": 1.2},
        **{"drive": 1.5, "switch": 1, "hub": 0.1, "assistant": 0.05, "laptop": 0.3},
    },
    "mixed": {
        **{"plc": 2, "hmi": 1, "sensor": 4, "gateway": 0.7, "camera": 2, "workstation": 1, "server": 1, "drive": 0.5},
        **{"switch": 0.5, "hub": 1, "assistant": 0.7, "plug": 1.2, "television": 0.4, "laptop": 0.7, "printer": 0.5},
    },
    "home": {
        **{"hub": 2, "assistant": 2, "plug": 3, "camera": 2, "television": 1.2, "laptop": 1.2, "sensor": 0.8},
        **{"printer": 0.5, "server": 0.3},
    },
}
_MODELS: dict[str, tuple[str, ...]] = {
    "plc": ("S7-1200", "CompactLogix L30", "Modicon M221", "WAGO 750", "CPX-E"),
    "camera": ("dome IP camera", "bullet IP camera"),
    "sensor": ("vibration node", "temperature node", "energy meter"),
}
_FIRST_OCTETS = np.array([o for o in range(2, 223) if o not in (10, 100, 127, 169, 172, 192, 198, 203)])


@dataclass
class Stage:
    """Where devices act: the time, the plant, the ledger and what they share.

    Attributes:
        ledger: where flows and loose evidence go.
        start_s: first second of the capture; ``end_s`` its end.
        plant: the devices.
        resolver: address of the DNS server that devices ask; ``clock`` the NTP servers, most to least usual.
        network: the first three octets of the plant, with the dot.
        busy: 0 to about 1.5, how much people do at this hour.
        habits: per device, the SYN retry policy of its operating system.
    """

    ledger: Ledger
    start_s: float
    end_s: float
    plant: Plant
    network: str
    resolver: str
    clock: tuple[str, ...]
    busy: float
    habits: dict[str, str] = field(default_factory=dict)

    @property
    def rng(self) -> np.random.Generator:
        return self.ledger.rng

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s

    def having(self, *roles: str) -> list[Device]:
        """The devices of these roles, in the plant's order."""
        return [device for device in self.plant.devices if device.role in roles]

    def tries(self, address: str) -> str:
        """The SYN retry policy of a device, the same each time it is asked."""
        if address not in self.habits:
            self.habits[address] = str(self.rng.choice(list(SYN_RETRIES)))
        return self.habits[address]


def invent_plant(rng: np.random.Generator, devices: int, flavour: str, needed: tuple[str, ...]) -> Plant:
    """Draw a plant: the needed roles first, then as the flavour weighs them; the first device is the router."""
    network = _private_network(rng)
    weights = _WEIGHTS[flavour]
    share = np.array(list(weights.values())) / sum(weights.values())
    must = (["router"] if devices > 1 else []) + [role for role in needed if role != "router"]
    # Clients without a server, and servers without a client, would be idle.
    must += {
        "industrial": ["plc", "hmi", "server", "broker", "sensor"],
        "mixed": ["plc", "hmi", "server", "broker"],
    }.get(flavour, [])
    roles = list(dict.fromkeys(must))[:devices]
    roles += list(rng.choice(list(weights), size=max(devices - len(roles), 0), p=share))
    hosts = rng.permutation(np.arange(2, 254))[: len(roles)]
    counts: dict[str, int] = {}
    made = []
    for role, host in zip(roles, hosts, strict=True):
        counts[role] = counts.get(role, 0) + 1
        address = network + ("1" if role == "router" else str(host))
        model = str(rng.choice(_MODELS.get(role, (f"generic {role}",))))
        name = f"{role}-{counts[role]:02d}"
        made.append(Device(name=name, address=address, role=str(role), model=model, zone=flavour, mac=_mac(rng)))
    return Plant(devices=tuple(made))


def _private_network(rng: np.random.Generator) -> str:
    kind = rng.integers(3)
    if kind == 0:
        return f"10.{rng.integers(256)}.{rng.integers(256)}."
    if kind == 1:
        return f"172.{rng.integers(16, 32)}.{rng.integers(256)}."
    return f"192.168.{rng.integers(256)}."


def _mac(rng: np.random.Generator) -> str:
    octets = rng.integers(256, size=6)
    octets[0] &= 0xFC  # neither multicast nor locally administered
    return ":".join(f"{octet:02x}" for octet in octets)


def public_address(rng: np.random.Generator, n: int) -> np.ndarray:
    """n addresses beyond the plant, shape (n,), objects."""
    first, rest = rng.choice(_FIRST_OCTETS, n), rng.integers(1, 255, size=(n, 3))
    return np.array([f"{a}.{b}.{c}.{d}" for a, (b, c, d) in zip(first, rest, strict=True)], object)


def lognormal(rng: np.random.Generator, median: float, spread: float, n: int | None = None) -> np.ndarray:
    """Draws around a median; ``spread`` is the standard deviation of the natural logarithm."""
    return median * rng.lognormal(0.0, spread, n)


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """One draw, even on a logarithmic scale."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def beats(rng: np.random.Generator, start_s: float, end_s: float, period_s: float, jitter: float = 0.02) -> np.ndarray:
    """Times of a clockwork from a random phase; ``jitter`` is the deviation as a share of the period."""
    n = int(np.ceil((end_s - start_s) / period_s)) + 1
    times = start_s + (np.arange(n) + rng.random() - 0.5) * period_s
    times = times + rng.normal(0, jitter * period_s, n)
    return np.sort(times[(times >= start_s) & (times < end_s)])


def visits(rng: np.random.Generator, start_s: float, end_s: float, mean_gap_s: float) -> np.ndarray:
    """Times of independent events (a Poisson process)."""
    n = rng.poisson(max(end_s - start_s, 0) / mean_gap_s)
    return np.sort(rng.uniform(start_s, end_s, n))


def pauses(rng: np.random.Generator, start_s: float, end_s: float) -> np.ndarray:
    """Times at which a client tries again: fixed, linear, exponential with a cap, or at once; some start over."""
    first = between(rng, 1, 60)
    cap = between(rng, 30, 1800)
    steps = np.arange(4000)
    policy = rng.choice(["fixed", "linear", "exponential", "restart"])
    gaps = {
        "fixed": np.full(len(steps), first),
        "linear": np.minimum(first * (1 + steps), cap),
        "exponential": np.minimum(first * 2.0 ** np.minimum(steps, 30), cap),
        "restart": first * 2.0 ** (steps % int(rng.integers(3, 8))),
    }[str(policy)]
    gaps = np.maximum(gaps, 0.5) * rng.uniform(1 - 0.3 * rng.random(), 1.1, len(steps))
    times = start_s + np.cumsum(gaps)
    return times[times < end_s]


def vendor(stage: Stage) -> np.ndarray:
    """The addresses behind one service: one host, or a content network that answers from many."""
    rng = stage.rng
    return public_address(rng, int(np.rint(between(rng, 1, 12))))


def intruder(stage: Stage, outside: float = 0.25) -> str:
    """Who attacks: a device that has been taken over, a machine nobody knows, or someone beyond the router."""
    rng = stage.rng
    if rng.random() < outside:
        return str(public_address(rng, 1)[0])
    if rng.random() < 0.15:
        used = {device.address for device in stage.plant.devices}
        free = [host for host in range(2, 254) if stage.network + str(host) not in used]
        return stage.network + str(rng.choice(free))
    return str(rng.choice([device.address for device in stage.plant.devices]))


def bot(stage: Stage) -> str:
    """A device that malware has taken over: mostly the small ones that nobody updates."""
    rng = stage.rng
    small = stage.having("camera", "plug", "sensor", "hub", "router", "gateway", "television", "printer", "assistant")
    others = small if small and rng.random() < 0.65 else stage.plant.devices
    return others[int(rng.integers(len(others)))].address


def victim(stage: Stage, attacker: str, *roles: str) -> str:
    """A device that is not the attacker, of the given roles if there is one."""
    others = [d.address for d in stage.plant.devices if d.address != attacker]
    wanted = [d.address for d in stage.having(*roles) if d.address != attacker]
    if not others:
        return str(public_address(stage.rng, 1)[0])
    return str(stage.rng.choice(wanted or others))
