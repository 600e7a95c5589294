"""Draws a site: which machines there are, where they stand, and who made them; ``habits`` draws
what they do."""

import ipaddress
import math
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from eval.testbed.site import BEYOND, ROUTER, Machine, Site

# Chance in one site: whom it hits, and addresses that nobody has yet. The same seed throws the
# same.

_T = TypeVar("_T")


class Dice:
    """Throws for one run; remembers which addresses it has given away."""

    def __init__(self, site: Site, seed: int) -> None:
        self.site = site
        self._random = Random(seed)  # noqa: S311 - a plant, not a secret
        self._taken = {machine.address for machine in site.machines}
        self._named = 0

    def chance(self, share: float) -> bool:
        return self._random.random() < share

    def pick(self, options: Sequence[_T]) -> _T:
        return options[self._random.randrange(len(options))]

    def some(self, options: Sequence[_T], count: int) -> list[_T]:
        """So many different ones, or all where there are fewer, in the order given."""
        chosen = sorted(self._random.sample(range(len(options)), min(count, len(options))))
        return [options[i] for i in chosen]

    def whole(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def even(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    def between(self, low: float, high: float) -> float:
        """Evenly on a log scale, so that mild comes as often as bad; three digits of it.

        Examples:
            >>> Dice(Site(1, "10.0.0.0/24", "10.0.0.1", ()), 1).between(0.5, 0.5)
            0.5
        """
        if low <= 0:
            return low
        value = math.exp(self._random.uniform(math.log(low), math.log(high)))
        return float(f"{value:.3g}")

    def address(self, beyond: bool = False) -> str:
        """One that no machine has, in the plant's network or beyond the router."""
        network = ipaddress.ip_network(self.pick(BEYOND) if beyond else self.site.network)
        while True:
            address = str(network[self._random.randrange(2, network.num_addresses - 1)])
            if address not in self._taken:
                self._taken.add(address)
                return address

    def newcomer(
        self,
        name: str,
        role: str,
        beyond: bool = False,
        program: str = "",
        settings: Mapping[str, Any] | None = None,
    ) -> Machine:
        """A machine that the site does not list, with a name, an address and a MAC of its own."""
        self._named += 1
        mac = "02:" + ":".join(f"{self._random.randrange(256):02x}" for _ in range(5))
        switch = "beyond" if beyond else "plant"
        return Machine(
            f"{name}-{self._named}",
            role,
            self.address(beyond),
            mac,
            program,
            settings=settings or {},
            switch=switch,
        )


# Makers and models of what stands in plants, as data: the first half of a MAC address says who made
# a machine.
#
# The prefixes are the makers' own in the IEEE's register of organisations (OUI).

# role -> (model, OUI)
MAKES: dict[str, tuple[tuple[str, str], ...]] = {
    "router": (
        ("Hirschmann Eagle40", "00:80:63"),
        ("Cisco IR1101", "00:00:0c"),
        ("Phoenix mGuard", "00:a0:45"),
    ),
    "dns": (("Lantronix SLC", "00:80:a3"), ("Dell PowerEdge T150", "00:06:5b")),
    "ntp": (("Meinberg M300", "ec:46:70"), ("Raspberry Pi 4", "b8:27:eb")),
    "plc": (
        ("Siemens S7-1200", "00:01:e3"),
        ("Modicon M221", "00:00:54"),
        ("Allen-Bradley Micro850", "00:00:bc"),
        ("WAGO PFC200", "00:30:de"),
        ("Beckhoff CX5010", "00:01:05"),
        ("Omron NX1P2", "00:00:0a"),
    ),
    "gateway": (("Moxa MGate MB3180", "00:90:e8"), ("Anybus Communicator", "00:30:11")),
    "hmi": (
        ("Pro-face GP4000", "00:15:a6"),
        ("Siemens KTP700", "00:01:e3"),
        ("B&R Power Panel", "00:60:65"),
    ),
    "historian": (("Dell PowerEdge R250", "00:06:5b"), ("HP ProLiant DL20", "00:01:e6")),
    "broker": (("Advantech UNO-2271G", "00:0b:ab"), ("Raspberry Pi CM4", "b8:27:eb")),
    "sensor": (
        ("ifm IO-Link node", "00:02:01"),
        ("ESP32 node", "08:3a:8d"),
        ("ESP8266 node", "08:3a:f2"),
    ),
    "edge": (("Moxa UC-8200", "00:90:e8"), ("Advantech WISE-710", "00:0b:ab")),
    "robot": (
        ("Fanuc R-30iB", "00:e0:e4"),
        ("KUKA KR C4", "00:60:c8"),
        ("Yaskawa YRC1000", "00:20:b5"),
    ),
    "mes": (("Dell PowerEdge R450", "00:06:5b"), ("HP ProLiant ML30", "00:01:e6")),
    "camera": (("Axis P1375", "00:40:8c"), ("Hikvision DS-2CD", "08:54:11")),
    "recorder": (("Synology NVR1218", "00:11:32"), ("Hikvision DS-7608", "04:03:12")),
    "workstation": (("Dell Precision 3460", "00:08:74"), ("HP Z2 G9", "00:01:e7")),
    "cloud": (("", "00:01:e6"), ("", "00:08:74")),
}


# Draws what each machine of a site does: whom it asks, how often, how large, and how it bears a
# failure.

_CLOUD_NAMES = ("telemetry", "portal", "updates", "remote", "api", "licences")
_MAKERS = ("northmill", "quellwerk", "brightline", "tanso", "helvar-iot", "orbis")
_QUANTITIES = ("temperature", "pressure", "vibration", "flow", "humidity", "current")
_CHARACTERS = string.ascii_letters + string.digits
# Roles with an operating system that asks for names; the others have addresses written in their
# settings.
_ASK_NAMES = ("historian", "edge", "mes", "workstation", "recorder")
_MAY_ASK_NAMES = ("hmi", "sensor", "camera")
_Settings = dict[str, Any]


@dataclass(frozen=True)
class _Draft:
    """What the habits of one machine may depend on; ``known`` holds those drawn before,
    ``name`` is its own."""

    dice: Random
    busy: float
    names: Mapping[str, Sequence[str]]  # role -> names
    afar: Mapping[str, str]  # name with dots -> address beyond the router
    domain: str
    name: str = ""
    known: dict[str, _Settings] = field(default_factory=dict)


def draw_habits(machines: Sequence[Machine], dice: Random, busy: float) -> dict[str, _Settings]:
    """The settings of every machine that runs a program, by name.

    Args:
        machines: all of the site, with roles and addresses.
        dice: of the site.
        busy: divides periods and multiplies the size of streams.
    """
    names: dict[str, list[str]] = {}
    for machine in machines:
        names.setdefault(machine.role, []).append(machine.name)
    maker = dice.choice(_MAKERS)
    clouds = [machine for machine in machines if machine.beyond]
    afar = {f"{name}.{maker}.example": dice.choice(clouds).address for name in _CLOUD_NAMES}
    draft = _Draft(
        dice,
        busy,
        names,
        afar,
        f"{dice.choice(['plant', 'works', 'line'])}{dice.randint(1, 40)}.example",
    )
    by_name = {machine.name: machine for machine in machines}
    for role, draw_role in _ROLES.items():
        for name in names[role]:
            own = draw_role(replace(draft, name=name))
            draft.known[name] = own if by_name[name].beyond else _common(draft, by_name[name]) | own
    key = _draw_key(dice)
    for name in ("edge-1", "historian-1"):
        draft.known[name]["ssh_key"] = key
    return draft.known


def _common(draft: _Draft, machine: Machine) -> _Settings:
    """What every machine of the plant does beside its work: names, time, and patience."""
    dice, asks = draft.dice, machine.role in _ASK_NAMES
    settings: _Settings = {
        "by_name": asks or (machine.role in _MAY_ASK_NAMES and dice.random() < 0.6)
    }
    settings |= {"dns_tries": dice.randint(2, 4), "dns_timeout_s": float(dice.choice([1, 2, 3, 5]))}
    settings |= {
        "asks_ipv6": asks and dice.random() < 0.6,
        "timeout_s": round(dice.uniform(1, 4), 1),
    }
    if machine.role != "ntp":
        settings |= {
            "ntp": "ntp-1",
            "ntp_s": dice.choice([16, 32, 32, 64, 64, 128, 256]) / draft.busy,
        }
    first_s = dice.choice([1.0, 2.0, 3.0, 5.0, 10.0])
    grows = dice.random() < (0.8 if machine.role in ("sensor", "edge", "mes") else 0.3)
    settings["retry"] = {
        "first_s": first_s,
        "factor": dice.choice([1.5, 2.0, 2.0]) if grows else 1.0,
        "most_s": float(dice.choice([30, 60, 120])) if grows else first_s,
        "jitter": round(dice.choice([0.0, 0.05, 0.3]), 2),
    }
    if machine.role == "edge" or (
        machine.role in ("camera", "robot", "historian") and dice.random() < 0.4
    ):
        settings["remote"] = {
            "host": dice.choice([*draft.afar]),
            "period_s": dice.choice([10, 15, 20, 30]) / draft.busy,
        }
    return settings


def _dns(draft: _Draft) -> _Settings:
    return {"domain": draft.domain, "names": dict(draft.afar), "answers": {}, "mute": False}


def _plc(draft: _Draft) -> _Settings:
    dice = draft.dice
    return {
        "unit": dice.choice([1, 1, 1, 2, 3, 10, 247]),
        "port": 502,
        "registers": dice.randint(40, 300),
        "exceptions": 0.0,
        "scan_s": round(dice.uniform(0.002, 0.02), 4),
        "ignores_other_units": dice.random() < 0.5,
    }


def _gateway(draft: _Draft) -> _Settings:
    units = sorted(draft.dice.sample(range(1, 32), draft.dice.randint(2, 4)))
    timeout_s = round(draft.dice.uniform(0.3, 0.8), 2)
    return {
        "units": units,
        "port": 502,
        "registers": 40,
        "dead": [],
        "serial_timeout_s": timeout_s,
        "exceptions": 0.0,
    }


def _hmi(draft: _Draft) -> _Settings:
    dice, panels = draft.dice, draft.names["hmi"]
    number, count = panels.index(draft.name), len(panels)
    mine = [
        plc
        for place, plc in enumerate(draft.names["plc"])
        if place % count == number or dice.random() < 0.3
    ]
    polled = [_entry(draft, plc, draft.known[plc]["unit"], dice.randint(11, 40)) for plc in mine]
    for entry in polled:
        entry |= {"setpoints": [7, 8], "write_s": dice.uniform(30, 180) / draft.busy}
    if number == 0:
        polled.append(_entry(draft, "gateway-1", draft.known["gateway-1"]["units"][0], 12))
    return {
        "polled": polled,
        "poll_s": dice.choice([0.5, 1.0, 1.0, 1.0, 2.0]) / draft.busy,
        "retries": dice.randint(0, 3),
    }


def _historian(draft: _Draft) -> _Settings:
    dice = draft.dice
    polled = [
        _entry(draft, plc, draft.known[plc]["unit"], draft.known[plc]["registers"])
        for plc in draft.names["plc"]
    ]
    polled += [_entry(draft, "gateway-1", unit, 24) for unit in draft.known["gateway-1"]["units"]]
    store = {"host": "recorder-1", "port": draft.known["recorder-1"]["port"]}
    rates = {
        "poll_s": dice.choice([5, 5, 10, 15, 20]) / draft.busy,
        "write_s": dice.choice([20, 30, 60]) / draft.busy,
    }
    return {"polled": polled, "store": store, "retries": dice.randint(0, 2), **rates}


def _entry(draft: _Draft, name: str, unit: int, count: int) -> _Settings:
    function = draft.dice.choice([3, 3, 4])
    port = draft.known[name]["port"]
    return {
        "name": name,
        "port": port,
        "unit": unit,
        "address": 0,
        "count": count,
        "function": function,
    }


def _broker(draft: _Draft) -> _Settings:
    shared = draft.dice.random() < 0.3
    users = ["sensors"] if shared else list(draft.names["sensor"])
    passwords = {user: "".join(draft.dice.choices(_CHARACTERS, k=10)) for user in [*users, "edge"]}
    return {"users": passwords, "port": 1883, "max_connections": draft.dice.randint(40, 120)}


def _sensor(draft: _Draft) -> _Settings:
    dice, quantity = draft.dice, draft.dice.choice(_QUANTITIES)
    rates = {
        "period_s": dice.choice([1, 2, 2, 5, 5, 10, 15]) / draft.busy,
        "payload_bytes": dice.randint(50, 900),
    }
    topic = {"topic": f"{draft.domain.split('.')[0]}/{draft.name}/{quantity}", "quantity": quantity}
    return (
        _login(draft, draft.name if draft.name in draft.known["broker-1"]["users"] else "sensors")
        | topic
        | rates
    )


def _edge(draft: _Draft) -> _Settings:
    cloud = {"cloud": draft.dice.choice([*draft.afar]), "cloud_port": 80}
    topic = {"topic": f"{draft.domain.split('.')[0]}/#"}
    return (
        _login(draft, "edge")
        | topic
        | cloud
        | {"batch_s": draft.dice.choice([10, 15, 30]) / draft.busy}
    )


def _login(draft: _Draft, user: str) -> _Settings:
    broker = draft.known["broker-1"]
    login = {
        "broker": "broker-1",
        "port": broker["port"],
        "user": user,
        "password": broker["users"][user],
    }
    return login | {
        "qos": draft.dice.choice([0, 0, 1]),
        "keepalive_s": draft.dice.choice([15, 30, 60]),
    }


def _robot(draft: _Draft) -> _Settings:
    return {
        "port": 4840,
        "axes": draft.dice.randint(4, 7),
        "cycle_s": round(draft.dice.uniform(0.3, 1.0) / draft.busy, 2),
    }


def _mes(draft: _Draft) -> _Settings:
    dice, robot = draft.dice, draft.known["robot-1"]
    rates = {
        "publish_ms": dice.choice([500, 1000, 1000, 2000]) / draft.busy,
        "read_s": dice.uniform(4, 20) / draft.busy,
    }
    return {"server": "robot-1", "port": robot["port"], "axes": robot["axes"], **rates}


def _camera(draft: _Draft) -> _Settings:
    return {
        "kbit_s": round(draft.dice.uniform(100, 600) * draft.busy),
        "frames_s": draft.dice.choice([6, 8, 10, 12, 15]),
    }


def _recorder(draft: _Draft) -> _Settings:
    cameras = [
        {"name": camera, "transport": draft.dice.choice(["udp", "udp", "tcp"])}
        for camera in draft.names["camera"]
    ]
    port = draft.dice.choice([80, 8080])
    return {"cameras": cameras, "port": port, "keepalive_s": float(draft.dice.choice([15, 20, 30]))}


def _workstation(draft: _Draft) -> _Settings:
    polled = [_entry(draft, plc, draft.known[plc]["unit"], 20) for plc in draft.names["plc"]]
    return {
        "hosts": [*draft.afar],
        "polled": polled,
        "pace_s": draft.dice.uniform(4, 20) / draft.busy,
    }


# Servers before those that ask them.
_ROLES: dict[str, Callable[[_Draft], _Settings]] = {
    "cloud": lambda _: {"port": 80, "tls_port": 443},
    "dns": _dns,
    "ntp": lambda _: {},
    "plc": _plc,
    "gateway": _gateway,
    "recorder": _recorder,
    "hmi": _hmi,
    "historian": _historian,
    "broker": _broker,
    "sensor": _sensor,
    "edge": _edge,
    "robot": _robot,
    "mes": _mes,
    "camera": _camera,
    "workstation": _workstation,
}


def _draw_key(dice: Random) -> str:
    """An SSH key for maintenance of this one site, as PEM: the same seed draws the same."""
    key = ec.derive_private_key(dice.getrandbits(250) + 1, ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


# Where role and program differ.
_PROGRAMS = {
    "gateway": "modbus_gateway",
    "robot": "opcua_server",
    "mes": "opcua_client",
    ROUTER: "",
}
_CELLS = (
    "filling",
    "mixing",
    "packing",
    "pressing",
    "boiling",
    "paint shop",
    "assembly",
    "tank farm",
)
_IN_CELLS = ("plc", "gateway", "hmi", "sensor", "robot", "camera")
_MOST = 30


def draw_site(seed: int, busy: float = 1.0) -> Site:
    """A plant of 24 to 30 machines with what lies beyond it: counts, addresses, makes, rhythms and
    habits drawn.

    Args:
        seed: the same seed draws the same site.
        busy: how often things are said and how large pictures are, 1 being usual; the counts do not
            depend on it.
    """
    dice = Random(seed)  # noqa: S311 - a plant, not a secret
    network = _draw_network(dice)
    gateway = str(network[dice.choice([1, 1, -2])])
    machines = tuple(_place(_draw_roles(dice), network, gateway, dice))
    habits = draw_habits(machines, dice, busy)
    with_habits = tuple(
        replace(machine, settings=habits.get(machine.name, {})) for machine in machines
    )
    return Site(seed, str(network), gateway, with_habits)


def _draw_network(dice: Random) -> ipaddress.IPv4Network:
    private = (
        f"192.168.{dice.randrange(256)}.0",
        f"10.{dice.randrange(256)}.{dice.randrange(256)}.0",
    )
    first = dice.choice([*private, f"172.{dice.randint(16, 31)}.{dice.randrange(256)}.0"])
    return ipaddress.IPv4Network(f"{first}/{dice.choice([22, 23, 24, 24, 24, 25])}", strict=False)


def _draw_roles(dice: Random) -> dict[str, int]:
    """How many there are of each role, those asked before those that ask, which is the order they
    are started in."""
    asked = {
        "plc": dice.randint(3, 6),
        "gateway": 1,
        "broker": 1,
        "camera": dice.randint(1, 2),
        "robot": 1,
        "recorder": 1,
    }
    asking = {"hmi": dice.randint(1, 2), "historian": 1, "edge": 1, "mes": 1, "workstation": 1}
    counts = {ROUTER: 1, "dns": 1, "ntp": 1, "cloud": dice.randint(1, 3)} | asked | asking
    return counts | {"sensor": dice.randint(6, min(10, _MOST - sum(counts.values())))}


def _place(
    counts: dict[str, int], network: ipaddress.IPv4Network, gateway: str, dice: Random
) -> Iterator[Machine]:
    """Give every machine a name, an address, a maker and a place."""
    # Hosts that end in 0 or 255 are rare, and taken for broadcasts by some tools.
    hosts = [
        str(host)
        for host in network.hosts()
        if host.packed[3] not in (0, 255) and str(host) != gateway
    ]
    inside = iter(dice.sample(hosts, sum(counts.values())))
    afar = iter(
        [
            f"{beyond.removesuffix('.0/24')}.{dice.randint(2, 254)}"
            for beyond in dice.sample(BEYOND, 3)
        ]
    )
    tails = iter(dice.sample(range(1 << 24), sum(counts.values())))
    cells = dice.sample(_CELLS, dice.randint(2, 4))
    for role, count in counts.items():
        makes = dice.sample(MAKES[role], min(2, count))  # a plant buys from few makers
        for number in range(1, count + 1):
            name = role if role == ROUTER else f"{'ws' if role == 'workstation' else role}-{number}"
            model, prefix = dice.choice(makes)
            tail = next(tails).to_bytes(3, "big").hex(":")
            address = next(afar) if role == "cloud" else gateway if role == ROUTER else next(inside)
            yield Machine(
                name,
                role,
                address,
                f"{prefix}:{tail}",
                program=_PROGRAMS.get(role, role),
                switch="beyond" if role == "cloud" else "plant",
                model=model,
                zone=dice.choice(cells)
                if role in _IN_CELLS
                else ""
                if role == "cloud"
                else "control room",
            )
