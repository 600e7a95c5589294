"""The plant that a simulation plays in: devices, addresses, and what they share.

Everything is drawn from wide ranges, because a model trained here must hold on networks nobody has
seen.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from traffic.plant import Device, Plant
from traffic.simulation.distributions import between, public_address
from traffic.simulation.flows import SYN_RETRIES, Ledger

FLAVOURS = ("industrial", "mixed", "home")
_WEIGHTS: dict[str, dict[str, float]] = {
    "industrial": {
        **{
            "plc": 4.5,
            "hmi": 0.7,
            "sensor": 9,
            "gateway": 0.3,
            "camera": 0.4,
            "workstation": 0.3,
            "server": 0.25,
        },
        **{"drive": 0.4, "switch": 0.2, "robot": 0.3, "recorder": 0.1, "hub": 0.05, "laptop": 0.15},
    },
    "mixed": {
        **{
            "plc": 2,
            "hmi": 1,
            "sensor": 4,
            "gateway": 0.7,
            "camera": 2,
            "workstation": 1,
            "server": 1,
            "drive": 0.5,
        },
        **{
            "switch": 0.5,
            "hub": 1,
            "assistant": 0.7,
            "plug": 1.2,
            "television": 0.4,
            "laptop": 0.7,
            "printer": 0.5,
        },
    },
    "home": {
        **{
            "hub": 2,
            "assistant": 2,
            "plug": 3,
            "camera": 2,
            "television": 1.2,
            "laptop": 1.2,
            "sensor": 0.8,
        },
        **{"printer": 0.5, "server": 0.3},
    },
}
# Clients without a server, and servers without a client, would be idle. What follows the first
# seven, a plant may lack.
_NEEDED = {
    "industrial": (
        *(
            "plc",
            "hmi",
            "sensor",
            "broker",
            "historian",
            "dns",
            "ntp",
            "gateway",
            "edge",
            "recorder",
            "camera",
        ),
        *("robot", "mes", "workstation"),
    ),
    "mixed": ("plc", "hmi", "server", "broker"),
    "home": (),
}
_ALWAYS, _MAY_LACK = 7, 0.12
_MODELS: dict[str, tuple[str, ...]] = {
    "plc": ("S7-1200", "CompactLogix L30", "Modicon M221", "WAGO 750", "CPX-E"),
    "camera": ("dome IP camera", "bullet IP camera"),
    "sensor": ("vibration node", "temperature node", "energy meter"),
}


@dataclass
class Stage:
    """Where devices act: the time, the plant, the ledger and what they share.

    Attributes:
        ledger: where flows and loose evidence go.
        start_s: first second of the capture; ``end_s`` its end.
        plant: the devices.
        resolver: address of the DNS server that devices ask; ``clock`` the NTP servers, most to
            least usual.
        network: the first three octets of the plant, with the dot.
        busy: 0 to about 1.5, how much people do at this hour.
        flavour: of the plant.
        habits: what was drawn once for a device, or for the plant as a whole, and holds for all
            that it does.
    """

    ledger: Ledger
    start_s: float
    end_s: float
    plant: Plant
    network: str
    resolver: str
    clock: tuple[str, ...]
    busy: float
    flavour: str
    habits: dict[tuple[str, str], Any] = field(default_factory=dict)

    @property
    def rng(self) -> np.random.Generator:
        return self.ledger.rng

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s

    def having(self, *roles: str) -> list[Device]:
        """The devices of these roles, in the plant's order."""
        return [device for device in self.plant.devices if device.role in roles]

    def habit(self, who: str, what: str, draw: Callable[[], Any]) -> Any:
        """What is drawn the first time and the same ever after; ``who`` is an address, or empty for
        the plant."""
        if (who, what) not in self.habits:
            self.habits[who, what] = draw()
        return self.habits[who, what]

    def tries(self, address: str) -> str:
        """The SYN retry policy of a device's operating system."""
        return str(self.habit(address, "tries", lambda: self.rng.choice(list(SYN_RETRIES))))


def invent_plant(
    rng: np.random.Generator, devices: int, flavour: str, needed: tuple[str, ...]
) -> Plant:
    """Draw a plant: the needed roles first, then as the flavour weighs them; the first device is
    the router."""
    network = _private_network(rng)
    weights = _WEIGHTS[flavour]
    share = np.array(list(weights.values())) / sum(weights.values())
    must = (["router"] if devices > 1 else []) + [role for role in needed if role != "router"]
    usual = _NEEDED[flavour]
    must += [
        role for place, role in enumerate(usual) if place < _ALWAYS or rng.random() > _MAY_LACK
    ]
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
        made.append(
            Device(
                name=name, address=address, role=str(role), model=model, zone=flavour, mac=_mac(rng)
            )
        )
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


def vendor(stage: Stage) -> np.ndarray:
    """The addresses behind one service: one host, or a content network that answers from many."""
    rng = stage.rng
    return public_address(rng, int(np.rint(between(rng, 1, 12))))


def intruder(stage: Stage, outside: float = 0.25) -> str:
    """Who attacks: a device that has been taken over, a machine nobody knows, or someone beyond the
    router."""
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
    small = stage.having(
        "camera", "plug", "sensor", "hub", "router", "gateway", "television", "printer", "assistant"
    )
    others = small if small and rng.random() < 0.65 else stage.plant.devices
    return others[int(rng.integers(len(others)))].address


def victim(stage: Stage, attacker: str, *roles: str) -> str:
    """A device that is not the attacker, of the given roles if there is one."""
    others = [d.address for d in stage.plant.devices if d.address != attacker]
    wanted = [d.address for d in stage.having(*roles) if d.address != attacker]
    if not others:
        return str(public_address(stage.rng, 1)[0])
    return str(stage.rng.choice(wanted or others))
