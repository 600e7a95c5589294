"""Draw a site from a seed: machines, addresses, makes, and the settings of their programs.

The same seed draws the same site, so the order of the draws is part of the data set: a draw that is
added, dropped or moved changes every plant recorded since.
"""

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
from traffic.simulation.plant import COMPUTERS, SOMETIMES_BY_NAME

_T = TypeVar("_T")
_Settings = dict[str, Any]

_MOST_MACHINES = 30
# fmt: off
_PROGRAMS = {  # where role and program differ
    "gateway": "modbus_gateway", "robot": "opcua_server", "mes": "opcua_client", ROUTER: "",
}
_CELLS = ("filling", "mixing", "packing", "pressing", "boiling", "paint shop", "assembly", "tank farm")
_IN_CELLS = ("plc", "gateway", "hmi", "sensor", "robot", "camera")

# role -> (model, OUI): the first half of a MAC address says who made a machine (IEEE's register).
MAKES: dict[str, tuple[tuple[str, str], ...]] = {
    "router": (("Hirschmann Eagle40", "00:80:63"), ("Cisco IR1101", "00:00:0c"),
               ("Phoenix mGuard", "00:a0:45")),
    "dns": (("Lantronix SLC", "00:80:a3"), ("Dell PowerEdge T150", "00:06:5b")),
    "ntp": (("Meinberg M300", "ec:46:70"), ("Raspberry Pi 4", "b8:27:eb")),
    "plc": (("Siemens S7-1200", "00:01:e3"), ("Modicon M221", "00:00:54"),
            ("Allen-Bradley Micro850", "00:00:bc"), ("WAGO PFC200", "00:30:de"),
            ("Beckhoff CX5010", "00:01:05"), ("Omron NX1P2", "00:00:0a")),
    "gateway": (("Moxa MGate MB3180", "00:90:e8"), ("Anybus Communicator", "00:30:11")),
    "hmi": (("Pro-face GP4000", "00:15:a6"), ("Siemens KTP700", "00:01:e3"),
            ("B&R Power Panel", "00:60:65")),
    "historian": (("Dell PowerEdge R250", "00:06:5b"), ("HP ProLiant DL20", "00:01:e6")),
    "broker": (("Advantech UNO-2271G", "00:0b:ab"), ("Raspberry Pi CM4", "b8:27:eb")),
    "sensor": (("ifm IO-Link node", "00:02:01"), ("ESP32 node", "08:3a:8d"),
               ("ESP8266 node", "08:3a:f2")),
    "edge": (("Moxa UC-8200", "00:90:e8"), ("Advantech WISE-710", "00:0b:ab")),
    "robot": (("Fanuc R-30iB", "00:e0:e4"), ("KUKA KR C4", "00:60:c8"),
              ("Yaskawa YRC1000", "00:20:b5")),
    "mes": (("Dell PowerEdge R450", "00:06:5b"), ("HP ProLiant ML30", "00:01:e6")),
    "camera": (("Axis P1375", "00:40:8c"), ("Hikvision DS-2CD", "08:54:11")),
    "recorder": (("Synology NVR1218", "00:11:32"), ("Hikvision DS-7608", "04:03:12")),
    "workstation": (("Dell Precision 3460", "00:08:74"), ("HP Z2 G9", "00:01:e7")),
    "cloud": (("", "00:01:e6"), ("", "00:08:74")),
}
# fmt: on


def draw_site(seed: int) -> Site:
    """Draw a plant with what lies beyond its router: 23 to 30 machines."""
    rng = Random(seed)  # noqa: S311 - a plant, not a secret
    network = _draw_network(rng)
    gateway = str(network[rng.choice([1, 1, -2])])
    machines = tuple(_place_machines(_draw_roles(rng), network, gateway, rng))
    settings = _draw_settings(machines, rng)
    drawn = [replace(machine, settings=settings.get(machine.name, {})) for machine in machines]
    return Site(seed, str(network), gateway, tuple(drawn))


def _draw_network(rng: Random) -> ipaddress.IPv4Network:
    class_c = f"192.168.{rng.randrange(256)}.0"
    class_a = f"10.{rng.randrange(256)}.{rng.randrange(256)}.0"
    class_b = f"172.{rng.randint(16, 31)}.{rng.randrange(256)}.0"
    first = rng.choice([class_c, class_a, class_b])
    return ipaddress.IPv4Network(f"{first}/{rng.choice([22, 23, 24, 24, 24, 25])}", strict=False)


def _draw_roles(rng: Random) -> dict[str, int]:
    """How many machines of each role; servers before their clients, the order they start in."""
    servers = {"plc": rng.randint(3, 6), "gateway": 1, "broker": 1, "camera": rng.randint(1, 2)}
    servers |= {"robot": 1, "recorder": 1}
    clients = {"hmi": rng.randint(1, 2), "historian": 1, "edge": 1, "mes": 1, "workstation": 1}
    counts = {ROUTER: 1, "dns": 1, "ntp": 1, "cloud": rng.randint(1, 3)} | servers | clients
    return counts | {"sensor": rng.randint(6, min(10, _MOST_MACHINES - sum(counts.values())))}


def _place_machines(
    counts: dict[str, int], network: ipaddress.IPv4Network, gateway: str, rng: Random
) -> Iterator[Machine]:
    """Give every machine a name, an address, a model and a zone."""
    # Hosts that end in 0 or 255 are rare, and taken for broadcasts by some tools.
    usable = [str(host) for host in network.hosts() if host.packed[3] not in (0, 255)]
    inside = iter(rng.sample([host for host in usable if host != gateway], sum(counts.values())))
    networks = [network.removesuffix(".0/24") for network in rng.sample(BEYOND, 3)]
    beyond = iter([f"{network}.{rng.randint(2, 254)}" for network in networks])
    mac_tails = iter(rng.sample(range(1 << 24), sum(counts.values())))
    cells = rng.sample(_CELLS, rng.randint(2, 4))
    for role, count in counts.items():
        makes = rng.sample(MAKES[role], min(2, count))  # a plant buys from few vendors
        for number in range(1, count + 1):
            name = role if role == ROUTER else f"{'ws' if role == 'workstation' else role}-{number}"
            model, oui = rng.choice(makes)
            mac = f"{oui}:{next(mac_tails).to_bytes(3, 'big').hex(':')}"
            program = _PROGRAMS.get(role, role)
            if role == "cloud":
                yield Machine(name, role, next(beyond), mac, program, switch="beyond", model=model)
            else:
                address = gateway if role == ROUTER else next(inside)
                zone = rng.choice(cells) if role in _IN_CELLS else "control room"
                yield Machine(name, role, address, mac, program, model=model, zone=zone)


# ---- Settings of programs: whom each asks, how often, how much, and how it retries ----

_CLOUD_NAMES = ("telemetry", "portal", "updates", "remote", "api", "licences")
_VENDORS = ("northmill", "quellwerk", "brightline", "tanso", "helvar-iot", "orbis")
_QUANTITIES = ("temperature", "pressure", "vibration", "flow", "humidity", "current")
_CHARACTERS = string.ascii_letters + string.digits


@dataclass(frozen=True)
class _Draft:
    """What the settings of one machine may depend on.

    Attributes:
        rng: of the site.
        names: role -> machines' names.
        cloud_names: name with dots -> address beyond the router.
        domain: of the plant.
        name: of the machine whose settings are drawn.
        known: the settings drawn before, by machine.
    """

    rng: Random
    names: Mapping[str, Sequence[str]]
    cloud_names: Mapping[str, str]
    domain: str
    name: str = ""
    known: dict[str, _Settings] = field(default_factory=dict)


def _draw_settings(machines: Sequence[Machine], rng: Random) -> dict[str, _Settings]:
    """The settings of every machine that runs a program, by name."""
    names: dict[str, list[str]] = {}
    for machine in machines:
        names.setdefault(machine.role, []).append(machine.name)
    vendor = rng.choice(_VENDORS)
    clouds = [machine.address for machine in machines if machine.beyond]
    cloud_names = {f"{name}.{vendor}.example": rng.choice(clouds) for name in _CLOUD_NAMES}
    domain = f"{rng.choice(['plant', 'works', 'line'])}{rng.randint(1, 40)}.example"
    draft = _Draft(rng, names, cloud_names, domain)
    for role, draw_role in _SETTINGS_OF_ROLE.items():
        for name in names[role]:
            own = draw_role(replace(draft, name=name))
            draft.known[name] = own if role == "cloud" else _common_settings(draft, role) | own
    key = _draw_ssh_key(rng)
    for name in ("edge-1", "historian-1"):
        draft.known[name]["ssh_key"] = key
    return draft.known


def _common_settings(draft: _Draft, role: str) -> _Settings:
    """What every machine of the plant has beside its work: names, time, time-outs, retries."""
    rng, is_computer = draft.rng, role in COMPUTERS
    settings: _Settings = {
        "by_name": is_computer or (role in SOMETIMES_BY_NAME and rng.random() < 0.6),
        "dns_tries": rng.randint(2, 4),
        "dns_timeout_s": float(rng.choice([1, 2, 3, 5])),
        "asks_ipv6": is_computer and rng.random() < 0.6,
        "timeout_s": round(rng.uniform(1, 4), 1),
    }
    if role != "ntp":
        settings |= {
            "ntp": "ntp-1",
            "ntp_s": float(draft.rng.choice([16, 32, 32, 64, 64, 128, 256])),
        }
    first_s = rng.choice([1.0, 2.0, 3.0, 5.0, 10.0])
    grows = rng.random() < (0.8 if role in ("sensor", "edge", "mes") else 0.3)
    settings["retry"] = {
        "first_s": first_s,
        "factor": rng.choice([1.5, 2.0, 2.0]) if grows else 1.0,
        "most_s": float(rng.choice([30, 60, 120])) if grows else first_s,
        "jitter": round(rng.choice([0.0, 0.05, 0.3]), 2),
    }
    if role == "edge" or (role in ("camera", "robot", "historian") and rng.random() < 0.4):
        host = rng.choice([*draft.cloud_names])
        settings["remote"] = {"host": host, "period_s": float(draft.rng.choice([10, 15, 20, 30]))}
    return settings


def _dns(draft: _Draft) -> _Settings:
    return {"domain": draft.domain, "names": dict(draft.cloud_names), "answers": {}, "mute": False}


def _plc(draft: _Draft) -> _Settings:
    rng = draft.rng
    return {
        "unit": rng.choice([1, 1, 1, 2, 3, 10, 247]),
        "port": 502,
        "registers": rng.randint(40, 300),
        "exceptions": 0.0,
        "scan_s": round(rng.uniform(0.002, 0.02), 4),
        "ignores_other_units": rng.random() < 0.5,
    }


def _gateway(draft: _Draft) -> _Settings:
    return {
        "units": sorted(draft.rng.sample(range(1, 32), draft.rng.randint(2, 4))),
        "port": 502,
        "registers": 40,
        "dead": [],
        "serial_timeout_s": round(draft.rng.uniform(0.3, 0.8), 2),
        "exceptions": 0.0,
    }


def _hmi(draft: _Draft) -> _Settings:
    """The first panel has the gateway too; the controllers are dealt out, some shown on several."""
    rng, panels = draft.rng, draft.names["hmi"]
    number, polled = panels.index(draft.name), []
    plcs = [
        plc
        for place, plc in enumerate(draft.names["plc"])
        if place % len(panels) == number or rng.random() < 0.3
    ]
    for plc in plcs:
        polled.append(_polled(draft, plc, draft.known[plc]["unit"], rng.randint(11, 40)))
    for entry in polled:
        entry |= {"setpoints": [7, 8], "write_s": rng.uniform(30, 180)}
    if number == 0:
        polled.append(_polled(draft, "gateway-1", draft.known["gateway-1"]["units"][0], 12))
    poll_s = float(draft.rng.choice([0.5, 1.0, 1.0, 1.0, 2.0]))
    return {"polled": polled, "poll_s": poll_s, "retries": rng.randint(0, 3)}


def _historian(draft: _Draft) -> _Settings:
    known, polled = draft.known, []
    for plc in draft.names["plc"]:
        polled.append(_polled(draft, plc, known[plc]["unit"], known[plc]["registers"]))
    polled += [_polled(draft, "gateway-1", unit, 24) for unit in known["gateway-1"]["units"]]
    return {
        "polled": polled,
        "poll_s": float(draft.rng.choice([5, 5, 10, 15, 20])),
        "write_s": float(draft.rng.choice([20, 30, 60])),
        "store": {"host": "recorder-1", "port": known["recorder-1"]["port"]},
        "retries": draft.rng.randint(0, 2),
    }


def _polled(draft: _Draft, name: str, unit: int, count: int) -> _Settings:
    """An entry of ``polled``: the first registers of one unit."""
    where = {"name": name, "port": draft.known[name]["port"], "unit": unit}
    return where | {"address": 0, "count": count, "function": draft.rng.choice([3, 3, 4])}


def _broker(draft: _Draft) -> _Settings:
    shared = draft.rng.random() < 0.3
    users = ["sensors"] if shared else list(draft.names["sensor"])
    passwords = {user: "".join(draft.rng.choices(_CHARACTERS, k=10)) for user in [*users, "edge"]}
    return {"users": passwords, "port": 1883, "max_connections": draft.rng.randint(40, 120)}


def _sensor(draft: _Draft) -> _Settings:
    quantity = draft.rng.choice(_QUANTITIES)
    settings = {
        "topic": f"{draft.domain.split('.')[0]}/{draft.name}/{quantity}",
        "quantity": quantity,
        "period_s": float(draft.rng.choice([1, 2, 2, 5, 5, 10, 15])),
        "payload_bytes": draft.rng.randint(50, 900),
    }
    own = draft.name in draft.known["broker-1"]["users"]
    return _mqtt_login(draft, draft.name if own else "sensors") | settings


def _edge(draft: _Draft) -> _Settings:
    cloud = {"cloud": draft.rng.choice([*draft.cloud_names]), "cloud_port": 80}
    topic = {"topic": f"{draft.domain.split('.')[0]}/#"}
    login = _mqtt_login(draft, "edge")
    return login | topic | cloud | {"batch_s": float(draft.rng.choice([10, 15, 30]))}


def _mqtt_login(draft: _Draft, user: str) -> _Settings:
    broker = draft.known["broker-1"]
    return {
        "broker": "broker-1",
        "port": broker["port"],
        "user": user,
        "password": broker["users"][user],
        "qos": draft.rng.choice([0, 0, 1]),
        "keepalive_s": draft.rng.choice([15, 30, 60]),
    }


def _robot(draft: _Draft) -> _Settings:
    axes, cycle_s = draft.rng.randint(4, 7), draft.rng.uniform(0.3, 1.0)
    return {"port": 4840, "axes": axes, "cycle_s": round(cycle_s, 2)}


def _mes(draft: _Draft) -> _Settings:
    robot = draft.known["robot-1"]
    return {
        "server": "robot-1",
        "port": robot["port"],
        "axes": robot["axes"],
        "publish_ms": float(draft.rng.choice([500, 1000, 1000, 2000])),
        "read_s": draft.rng.uniform(4, 20),
    }


def _camera(draft: _Draft) -> _Settings:
    kbit_s = round(draft.rng.uniform(100, 600))
    return {"kbit_s": kbit_s, "frames_s": draft.rng.choice([6, 8, 10, 12, 15])}


def _recorder(draft: _Draft) -> _Settings:
    cameras = [
        {"name": camera, "transport": draft.rng.choice(["udp", "udp", "tcp"])}
        for camera in draft.names["camera"]
    ]
    port = draft.rng.choice([80, 8080])
    return {"cameras": cameras, "port": port, "keepalive_s": float(draft.rng.choice([15, 20, 30]))}


def _workstation(draft: _Draft) -> _Settings:
    polled = [_polled(draft, plc, draft.known[plc]["unit"], 20) for plc in draft.names["plc"]]
    pace_s = draft.rng.uniform(4, 20)
    return {"hosts": [*draft.cloud_names], "polled": polled, "pace_s": pace_s}


# Servers before their clients, whose settings name the servers' ports, units and passwords.
_SETTINGS_OF_ROLE: dict[str, Callable[[_Draft], _Settings]] = {
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


def _draw_ssh_key(rng: Random) -> str:
    """An SSH key for maintenance of this one site, as PEM."""
    key = ec.derive_private_key(rng.getrandbits(250) + 1, ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


# ---- Draws for the events of one run ----


class SiteRandom(Random):
    """Random numbers for the events of one run on a site, and machines and addresses of its own.

    It remembers which addresses it has given away.
    """

    def __init__(self, site: Site, seed: int) -> None:
        super().__init__(seed)
        self.site = site
        self._taken = {machine.address for machine in site.machines}
        self._added = 0

    def chance(self, share: float) -> bool:
        return self.random() < share

    def some_of(self, options: Sequence[_T], count: int) -> list[_T]:
        """So many different ones, or all where there are fewer, in the order given."""
        chosen = sorted(self.sample(range(len(options)), min(count, len(options))))
        return [options[i] for i in chosen]

    def log_uniform(self, low: float, high: float) -> float:
        """Evenly on a log scale, so that mild comes as often as bad; three digits of it.

        Examples:
            >>> SiteRandom(Site(1, "10.0.0.0/24", "10.0.0.1", ()), 1).log_uniform(0.5, 0.5)
            0.5
        """
        if low <= 0:
            return low
        value = math.exp(self.uniform(math.log(low), math.log(high)))
        return float(f"{value:.3g}")

    def free_address(self, beyond: bool = False) -> str:
        """An address that no machine has, in the plant's network or beyond the router."""
        network = ipaddress.ip_network(self.choice(BEYOND) if beyond else self.site.network)
        while True:
            address = str(network[self.randrange(2, network.num_addresses - 1)])
            if address not in self._taken:
                self._taken.add(address)
                return address

    def new_machine(
        self, name: str, role: str, beyond: bool = False, program: str = "", **settings: Any
    ) -> Machine:
        """A machine that the site does not list, with a name, an address and a MAC of its own."""
        self._added += 1
        mac = "02:" + ":".join(f"{self.randrange(256):02x}" for _ in range(5))
        switch, name = "beyond" if beyond else "plant", f"{name}-{self._added}"
        return Machine(name, role, self.free_address(beyond), mac, program, settings, switch)
