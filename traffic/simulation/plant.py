"""Draw a plant: its devices and addresses, and what they share while they are simulated.

Everything is drawn from wide ranges, because a model trained here must hold on networks that it has
not seen.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from traffic.plant import Device, Plant
from traffic.simulation.distributions import log_uniform, periodic, poisson, public_address
from traffic.simulation.flows import SYN_RETRIES, FlowLog

# ---- roles: those of the testbed's machines are the same words ----

CONTROLLERS = ("plc", "gateway", "drive")
# With an operating system that asks for names; the others mostly have addresses in their settings.
COMPUTERS = ("historian", "edge", "mes", "recorder", "workstation", "server")
SOMETIMES_BY_NAME = ("hmi", "sensor", "camera")
# Small devices that nobody updates: most of those that malware takes over.
_SMALL = "camera plug sensor hub router gateway television printer assistant"

FLAVOURS = ("industrial", "mixed", "home")
WIRELESS = "wireless"  # a few devices of a house that meet in the air; simulated when asked for
# How often a role is drawn beside those that a flavour needs.
_WEIGHTS = {
    "industrial": "plc 4.5, hmi 0.7, sensor 9, gateway 0.3, camera 0.4, workstation 0.3, "
    "server 0.25, drive 0.4, switch 0.2, robot 0.3, recorder 0.1, hub 0.05, laptop 0.15",
    "mixed": "plc 2, hmi 1, sensor 4, gateway 0.7, camera 2, workstation 1, server 1, drive 0.5, "
    "switch 0.5, hub 1, assistant 0.7, plug 1.2, television 0.4, laptop 0.7, printer 0.5",
    "home": "hub 2, assistant 2, plug 3, camera 2, television 1.2, laptop 1.2, sensor 0.8, "
    "printer 0.5, server 0.3",
    WIRELESS: "camera 4, hub 2, plug 2, sensor 2, assistant 1, television 0.3",
}
# Clients without a server, and servers without a client, would be idle. A plant may lack those that
# follow the first seven.
_NEEDED = {
    "industrial": "plc hmi sensor broker historian dns ntp "
    "gateway edge recorder camera robot mes workstation",
    "mixed": "plc hmi server broker",
    "home": "",
    WIRELESS: "",
}
_ALWAYS, _MAY_LACK = 7, 0.12
_MODELS = {
    "plc": ("S7-1200", "CompactLogix L30", "Modicon M221", "WAGO 750", "CPX-E"),
    "camera": ("dome IP camera", "bullet IP camera"),
    "sensor": ("vibration node", "temperature node", "energy meter"),
}


@dataclass
class SimulatedPlant:
    """The plant, the time, and the log that its devices write to.

    Attributes:
        log: where flows and loose evidence go.
        start_s: first second of the capture.
        end_s: its end.
        plant: the devices.
        network: the first three octets of the plant, with the dot.
        resolver: address of the DNS server that devices ask.
        clock: addresses of the NTP servers, most to least usual.
        busy: 0 to about 1.5, how much people do at this hour.
        flavour: of the plant, one of ``FLAVOURS`` or ``WIRELESS``.
        drawn: what was drawn once for a device, or for the whole plant, and holds from then on.
    """

    log: FlowLog
    start_s: float
    end_s: float
    plant: Plant
    network: str
    resolver: str
    clock: tuple[str, ...]
    busy: float
    flavour: str
    drawn: dict[tuple[str, str], Any] = field(default_factory=dict)

    @property
    def rng(self) -> np.random.Generator:
        return self.log.rng

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s

    @property
    def router(self) -> str:
        return self.network + "1"

    def having(self, *roles: str) -> list[Device]:
        """The devices of these roles, in the plant's order."""
        return [device for device in self.plant.devices if device.role in roles]

    def draw_device(self, devices: list[Device]) -> Device:
        return devices[int(self.rng.integers(len(devices)))]

    def draw_once(self, who: str, what: str, draw: Callable[[], Any]) -> Any:
        """Call ``draw`` the first time and return the same ever after; ``who`` is an address, or
        empty for the whole plant."""
        if (who, what) not in self.drawn:
            self.drawn[who, what] = draw()
        return self.drawn[who, what]

    def retry_policy(self, address: str) -> str:
        """The policy of SYN retries of a device's operating system."""
        return str(self.draw_once(address, "tries", lambda: self.rng.choice(list(SYN_RETRIES))))

    def periodic(self, period_s: float, jitter: float = 0.02) -> np.ndarray:
        """Times of a periodic task over the whole capture."""
        return periodic(self.rng, self.start_s, self.end_s, period_s, jitter)

    def poisson(self, mean_gap_s: float) -> np.ndarray:
        """Times of independent events over the whole capture."""
        return poisson(self.rng, self.start_s, self.end_s, mean_gap_s)

    def free_addresses(self) -> list[str]:
        """The addresses of the plant that no device has."""
        used = {device.address for device in self.plant.devices}
        hosts = [self.network + str(host) for host in range(2, 254)]
        return [address for address in hosts if address not in used]


def draw_plant(
    rng: np.random.Generator, devices: int, flavour: str, needed: tuple[str, ...]
) -> Plant:
    """Draw a plant: the needed roles first, then as the flavour weighs them; the first device is
    the router."""
    network = _draw_network(rng)
    weights = dict(pair.split() for pair in _WEIGHTS[flavour].split(", "))
    share = np.array([float(weight) for weight in weights.values()])
    share = share / sum(share.tolist())
    must = (["router"] if devices > 1 else []) + [role for role in needed if role != "router"]
    for place, role in enumerate(_NEEDED[flavour].split()):
        if place < _ALWAYS or rng.random() > _MAY_LACK:
            must.append(role)
    roles = list(dict.fromkeys(must))[:devices]
    roles += list(rng.choice(list(weights), size=max(devices - len(roles), 0), p=share))
    hosts = rng.permutation(np.arange(2, 254))[: len(roles)]
    counts: dict[str, int] = {}
    drawn = []
    for role, host in zip(map(str, roles), hosts, strict=True):
        counts[role] = counts.get(role, 0) + 1
        name, address = (
            f"{role}-{counts[role]:02d}",
            network + ("1" if role == "router" else str(host)),
        )
        model = str(rng.choice(_MODELS.get(role, (f"generic {role}",))))
        drawn.append(Device(name, address, role, model=model, zone=flavour, mac=_draw_mac(rng)))
    return Plant(devices=tuple(drawn))


def _draw_network(rng: np.random.Generator) -> str:
    kind = rng.integers(3)
    if kind == 0:
        return f"10.{rng.integers(256)}.{rng.integers(256)}."
    if kind == 1:
        return f"172.{rng.integers(16, 32)}.{rng.integers(256)}."
    return f"192.168.{rng.integers(256)}."


def _draw_mac(rng: np.random.Generator) -> str:
    octets = rng.integers(256, size=6)
    octets[0] &= 0xFC  # neither multicast nor locally administered
    return ":".join(f"{octet:02x}" for octet in octets)


def service_addresses(sim: SimulatedPlant) -> np.ndarray:
    """Draw the addresses behind one service of the internet: one host, or a content network."""
    rng = sim.rng
    return public_address(rng, int(np.rint(log_uniform(rng, 1, 12))))


# ---- who attacks whom ----


def draw_attacker(sim: SimulatedPlant, outside: float = 0.25) -> str:
    """Draw who attacks: an infected device, an intruder in the plant's network, or, with the chance
    ``outside``, someone beyond the router."""
    rng = sim.rng
    if rng.random() < outside:
        return str(public_address(rng, 1)[0])
    if rng.random() < 0.15:
        return str(rng.choice(sim.free_addresses()))
    return str(rng.choice([device.address for device in sim.plant.devices]))


def draw_infected(sim: SimulatedPlant) -> str:
    """Draw a device that malware has taken over."""
    small = sim.having(*_SMALL.split())
    use_small = small and sim.rng.random() < 0.65
    return sim.draw_device(small if use_small else list(sim.plant.devices)).address


def draw_victim(sim: SimulatedPlant, attacker: str, *roles: str) -> str:
    """Draw a device that is not the attacker, of the given roles if there is one."""
    others = [d.address for d in sim.plant.devices if d.address != attacker]
    wanted = [d.address for d in sim.having(*roles) if d.address != attacker]
    if not others:
        return str(public_address(sim.rng, 1)[0])
    return str(sim.rng.choice(wanted or others))
