"""Draw a site from a seed: machines, addresses, makes, and the settings of their programs.

The same seed draws the same site, so the order of the draws is part of the data set: a draw that is
added, dropped or moved changes every plant recorded since.
"""

import ipaddress
import math
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from eval.testbed.site import BEYOND, ROUTER, Machine, Site
from traffic.files import Strict, read_yaml
from traffic.simulation.plant import COMPUTERS, SOMETIMES_BY_NAME

_T = TypeVar("_T")
_Settings = dict[str, Any]

_MOST_MACHINES = 30
_CHARACTERS = string.ascii_letters + string.digits


class _Words(Strict):
    """``makes.yaml``: what machines are made by, run, measure and call."""

    makes: dict[str, list[tuple[str, str]]]
    programs: dict[str, str]
    cells: list[str]
    in_cells: list[str]
    cloud_names: list[str]
    vendors: list[str]
    quantities: list[str]


@cache
def _words() -> _Words:
    return read_yaml(Path(__file__).with_name("makes.yaml"), _Words, "the makes of machines")


def draw_site(seed: int) -> Site:
    """Draw a plant with what lies beyond its router: 25 to 32 machines."""
    rng = Random(seed)  # noqa: S311 - a plant, not a secret
    network = _draw_network(rng)
    gateway = str(network[rng.choice([1, 1, -2])])
    machines = tuple(_place_machines(_draw_roles(rng), network, gateway, rng))
    settings = _SettingsDraw(machines, rng).known
    drawn = [replace(machine, settings=settings.get(machine.name, {})) for machine in machines]
    drawn += _draw_press(seed, network, {gateway, *(machine.address for machine in drawn)})
    return Site(seed, str(network), gateway, tuple(drawn))


def _draw_press(seed: int, network: ipaddress.IPv4Network, taken: set[str]) -> list[Machine]:
    """A press with an S7 controller and the console that reads it.

    They have dice of their own, so that all else of a seed stays as it was before they came.
    """
    rng = Random(f"press {seed}")  # noqa: S311 - a plant, not a secret
    usable = [str(host) for host in network.hosts() if host.packed[3] not in (0, 255)]
    places = iter(rng.sample([host for host in usable if host not in taken], 2))
    wait_s, period_s = rng.choice([2.0, 5.0, 10.0]), rng.choice([0.5, 1.0, 2.0])
    retry = {"first_s": wait_s, "factor": 1.0, "most_s": wait_s, "jitter": 0.05}
    sizes = {"1": rng.randint(32, 128), "20": rng.randint(64, 400)}
    blocks: list[_Settings] = [
        {"db": int(db), "start": 0, "size": min(size, 64)} for db, size in sizes.items()
    ]
    blocks[0]["write_s"] = rng.uniform(30, 180)
    settings = {
        "press": ("s7_server", {"blocks": sizes, "port": 102}),
        "console": ("s7_client", {"server": "press-1", "port": 102, "blocks": blocks,
                                  "poll_s": period_s, "retry": retry, "timeout_s": 2.0, "by_name": False}),
    }  # fmt: skip
    pair = []
    for role, (program, own) in settings.items():
        model, oui = rng.choice(_words().makes[role])
        mac = f"{oui}:{rng.randbytes(3).hex(':')}"
        pair.append(
            Machine(
                f"{role}-1", role, next(places), mac, program, own, model=model, zone="press shop"
            )
        )
    return pair


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
    cells = rng.sample(_words().cells, rng.randint(2, 4))
    for role, count in counts.items():
        makes = rng.sample(_words().makes[role], min(2, count))  # a plant buys from few vendors
        for number in range(1, count + 1):
            name = role if role == ROUTER else f"{'ws' if role == 'workstation' else role}-{number}"
            model, oui = rng.choice(makes)
            mac = f"{oui}:{next(mac_tails).to_bytes(3, 'big').hex(':')}"
            program = _words().programs.get(role, role)
            if role == "cloud":
                yield Machine(name, role, next(beyond), mac, program, switch="beyond", model=model)
            else:
                address = gateway if role == ROUTER else next(inside)
                zone = rng.choice(cells) if role in _words().in_cells else "control room"
                yield Machine(name, role, address, mac, program, model=model, zone=zone)


# ---- Settings of programs: whom each asks, how often, how much, and how it retries ----

# Servers before their clients, whose settings name the servers' ports, units and passwords.
_SETTINGS_ORDER = (
    *("cloud", "dns", "ntp", "plc", "gateway", "recorder", "hmi", "historian", "broker"),
    *("sensor", "edge", "robot", "mes", "camera", "workstation"),
)


class _SettingsDraw:
    """Draws the settings of a plant's machines; what one gets may depend on those drawn before.

    Attributes:
        names: role -> machines' names.
        cloud_names: name with dots -> address beyond the router.
        domain: of the plant.
        known: the settings drawn so far, by machine; in the end, of every machine that runs a
            program.
    """

    def __init__(self, machines: Sequence[Machine], rng: Random) -> None:
        self.rng = rng
        self.names: dict[str, list[str]] = {}
        for machine in machines:
            self.names.setdefault(machine.role, []).append(machine.name)
        vendor = rng.choice(_words().vendors)
        clouds = [machine.address for machine in machines if machine.beyond]
        names = [f"{name}.{vendor}.example" for name in _words().cloud_names]
        self.cloud_names = {name: rng.choice(clouds) for name in names}
        self.domain = f"{rng.choice(['plant', 'works', 'line'])}{rng.randint(1, 40)}.example"
        self.known: dict[str, _Settings] = {}
        for role in _SETTINGS_ORDER:
            draw_role: Callable[[str], _Settings] = getattr(self, f"_{role}")
            for name in self.names[role]:
                own = draw_role(name)
                self.known[name] = own if role == "cloud" else self._common(role) | own
        # An SSH key for maintenance of this one site, as PEM.
        key = ec.derive_private_key(rng.getrandbits(250) + 1, ec.SECP256R1())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        for name in ("edge-1", "historian-1"):
            self.known[name]["ssh_key"] = pem
        # The last draw of all: in half of the plants a panel writes from first to last, steadily.
        if rng.random() < 0.5:
            self.known["hmi-1"]["polled"][0]["write_s"] = rng.uniform(1.0, 3.0)

    def _common(self, role: str) -> _Settings:
        """What every machine of the plant has beside its work: names, time, time-outs, retries."""
        rng, is_computer = self.rng, role in COMPUTERS
        settings: _Settings = {
            "by_name": is_computer or (role in SOMETIMES_BY_NAME and rng.random() < 0.6),
            "dns_tries": rng.randint(2, 4),
            "dns_timeout_s": float(rng.choice([1, 2, 3, 5])),
            "asks_ipv6": is_computer and rng.random() < 0.6,
            "timeout_s": round(rng.uniform(1, 4), 1),
        }
        if role != "ntp":
            ntp_s = rng.choice([16, 32, 32, 64, 64, 128, 256])
            settings |= {"ntp": "ntp-1", "ntp_s": float(ntp_s)}
        first_s = rng.choice([1.0, 2.0, 3.0, 5.0, 10.0])
        grows = rng.random() < (0.8 if role in ("sensor", "edge", "mes") else 0.3)
        settings["retry"] = {
            "first_s": first_s,
            "factor": rng.choice([1.5, 2.0, 2.0]) if grows else 1.0,
            "most_s": float(rng.choice([30, 60, 120])) if grows else first_s,
            "jitter": round(rng.choice([0.0, 0.05, 0.3]), 2),
        }
        if role == "edge" or (role in ("camera", "robot", "historian") and rng.random() < 0.4):
            host = rng.choice([*self.cloud_names])
            period_s = float(rng.choice([10, 15, 20, 30]))
            settings["remote"] = {"host": host, "period_s": period_s}
        return settings

    def _cloud(self, _name: str) -> _Settings:
        return {"port": 80, "tls_port": 443}

    def _ntp(self, _name: str) -> _Settings:
        return {}

    def _dns(self, _name: str) -> _Settings:
        names = dict(self.cloud_names)
        return {"domain": self.domain, "names": names, "answers": {}, "mute": False}

    def _plc(self, _name: str) -> _Settings:
        rng = self.rng
        return {
            "unit": rng.choice([1, 1, 1, 2, 3, 10, 247]),
            "port": 502,
            "registers": rng.randint(40, 300),
            "exceptions": 0.0,
            "scan_s": round(rng.uniform(0.002, 0.02), 4),
            "ignores_other_units": rng.random() < 0.5,
        }

    def _gateway(self, _name: str) -> _Settings:
        return {
            "units": sorted(self.rng.sample(range(1, 32), self.rng.randint(2, 4))),
            "port": 502,
            "registers": 40,
            "dead": [],
            "serial_timeout_s": round(self.rng.uniform(0.3, 0.8), 2),
            "exceptions": 0.0,
        }

    def _hmi(self, name: str) -> _Settings:
        """The first panel has the gateway too; the controllers are dealt out, some shown on several."""
        rng, panels = self.rng, self.names["hmi"]
        number, polled = panels.index(name), []
        all_plcs = enumerate(self.names["plc"])
        plcs = [plc for i, plc in all_plcs if i % len(panels) == number or rng.random() < 0.3]
        for plc in plcs:
            polled.append(self._polled(plc, self.known[plc]["unit"], rng.randint(11, 40)))
        for entry in polled:
            entry |= {"setpoints": [7, 8], "write_s": rng.uniform(30, 180)}
        if number == 0:
            polled.append(self._polled("gateway-1", self.known["gateway-1"]["units"][0], 12))
        poll_s = float(self.rng.choice([0.5, 1.0, 1.0, 1.0, 2.0]))
        return {"polled": polled, "poll_s": poll_s, "retries": rng.randint(0, 3)}

    def _historian(self, _name: str) -> _Settings:
        known, polled = self.known, []
        for plc in self.names["plc"]:
            polled.append(self._polled(plc, known[plc]["unit"], known[plc]["registers"]))
        polled += [self._polled("gateway-1", unit, 24) for unit in known["gateway-1"]["units"]]
        return {
            "polled": polled,
            "poll_s": float(self.rng.choice([5, 5, 10, 15, 20])),
            "write_s": float(self.rng.choice([20, 30, 60])),
            "store": {"host": "recorder-1", "port": known["recorder-1"]["port"]},
            "retries": self.rng.randint(0, 2),
        }

    def _polled(self, name: str, unit: int, count: int) -> _Settings:
        """An entry of ``polled``: the first registers of one unit."""
        where = {"name": name, "port": self.known[name]["port"], "unit": unit}
        return where | {"address": 0, "count": count, "function": self.rng.choice([3, 3, 4])}

    def _broker(self, _name: str) -> _Settings:
        shared = self.rng.random() < 0.3
        users = [*(["sensors"] if shared else self.names["sensor"]), "edge"]
        passwords = {user: "".join(self.rng.choices(_CHARACTERS, k=10)) for user in users}
        return {"users": passwords, "port": 1883, "max_connections": self.rng.randint(40, 120)}

    def _sensor(self, name: str) -> _Settings:
        quantity = self.rng.choice(_words().quantities)
        settings = {
            "topic": f"{self.domain.split('.')[0]}/{name}/{quantity}",
            "quantity": quantity,
            "period_s": float(self.rng.choice([1, 2, 2, 5, 5, 10, 15])),
            "payload_bytes": self.rng.randint(50, 900),
        }
        own = name in self.known["broker-1"]["users"]
        return self._mqtt_login(name if own else "sensors") | settings

    def _edge(self, _name: str) -> _Settings:
        cloud = {"cloud": self.rng.choice([*self.cloud_names]), "cloud_port": 80}
        topic = {"topic": f"{self.domain.split('.')[0]}/#"}
        login = self._mqtt_login("edge")
        return login | topic | cloud | {"batch_s": float(self.rng.choice([10, 15, 30]))}

    def _mqtt_login(self, user: str) -> _Settings:
        broker = self.known["broker-1"]
        login = {"user": user, "password": broker["users"][user]}
        session = {"qos": self.rng.choice([0, 0, 1]), "keepalive_s": self.rng.choice([15, 30, 60])}
        return {"broker": "broker-1", "port": broker["port"], **login, **session}

    def _robot(self, _name: str) -> _Settings:
        axes, cycle_s = self.rng.randint(4, 7), self.rng.uniform(0.3, 1.0)
        return {"port": 4840, "axes": axes, "cycle_s": round(cycle_s, 2)}

    def _mes(self, _name: str) -> _Settings:
        robot = self.known["robot-1"]
        publish_ms, read_s = (
            float(self.rng.choice([500, 1000, 1000, 2000])),
            self.rng.uniform(4, 20),
        )
        server = {"server": "robot-1", "port": robot["port"], "axes": robot["axes"]}
        return server | {"publish_ms": publish_ms, "read_s": read_s}

    def _camera(self, _name: str) -> _Settings:
        kbit_s = round(self.rng.uniform(100, 600))
        return {"kbit_s": kbit_s, "frames_s": self.rng.choice([6, 8, 10, 12, 15])}

    def _recorder(self, _name: str) -> _Settings:
        rng, ways, names = self.rng, ["udp", "udp", "tcp"], self.names["camera"]
        cameras = [{"name": camera, "transport": rng.choice(ways)} for camera in names]
        port, keepalive_s = rng.choice([80, 8080]), float(rng.choice([15, 20, 30]))
        return {"cameras": cameras, "port": port, "keepalive_s": keepalive_s}

    def _workstation(self, _name: str) -> _Settings:
        polled = [self._polled(plc, self.known[plc]["unit"], 20) for plc in self.names["plc"]]
        pace_s = self.rng.uniform(4, 20)
        return {"hosts": [*self.cloud_names], "polled": polled, "pace_s": pace_s}


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
