"""Draws what each machine of a site does: whom it asks, how often, how large, and how it bears a failure."""

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from eval.testbed.site import Machine

__all__ = ["draw_habits"]

_CLOUD_NAMES = ("telemetry", "portal", "updates", "remote", "api", "licences")
_MAKERS = ("northmill", "quellwerk", "brightline", "tanso", "helvar-iot", "orbis")
_QUANTITIES = ("temperature", "pressure", "vibration", "flow", "humidity", "current")
_CHARACTERS = string.ascii_letters + string.digits
# Roles with an operating system that asks for names; the others have addresses written in their settings.
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
    draft = _Draft(dice, busy, names, afar, f"{dice.choice(['plant', 'works', 'line'])}{dice.randint(1, 40)}.example")
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
    settings: _Settings = {"by_name": asks or (machine.role in _MAY_ASK_NAMES and dice.random() < 0.6)}
    settings |= {"dns_tries": dice.randint(2, 4), "dns_timeout_s": float(dice.choice([1, 2, 3, 5]))}
    settings |= {"asks_ipv6": asks and dice.random() < 0.6, "timeout_s": round(dice.uniform(1, 4), 1)}
    if machine.role != "ntp":
        settings |= {"ntp": "ntp-1", "ntp_s": dice.choice([16, 32, 32, 64, 64, 128, 256]) / draft.busy}
    first_s = dice.choice([1.0, 2.0, 3.0, 5.0, 10.0])
    grows = dice.random() < (0.8 if machine.role in ("sensor", "edge", "mes") else 0.3)
    settings["retry"] = {
        "first_s": first_s,
        "factor": dice.choice([1.5, 2.0, 2.0]) if grows else 1.0,
        "most_s": float(dice.choice([30, 60, 120])) if grows else first_s,
        "jitter": round(dice.choice([0.0, 0.05, 0.3]), 2),
    }
    if machine.role == "edge" or (machine.role in ("camera", "robot", "historian") and dice.random() < 0.4):
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
    return {"units": units, "port": 502, "registers": 40, "dead": [], "serial_timeout_s": timeout_s, "exceptions": 0.0}


def _hmi(draft: _Draft) -> _Settings:
    dice, panels = draft.dice, draft.names["hmi"]
    number, count = panels.index(draft.name), len(panels)
    mine = [plc for place, plc in enumerate(draft.names["plc"]) if place % count == number or dice.random() < 0.3]
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
    polled = [_entry(draft, plc, draft.known[plc]["unit"], draft.known[plc]["registers"]) for plc in draft.names["plc"]]
    polled += [_entry(draft, "gateway-1", unit, 24) for unit in draft.known["gateway-1"]["units"]]
    store = {"host": "recorder-1", "port": draft.known["recorder-1"]["port"]}
    rates = {"poll_s": dice.choice([5, 5, 10, 15, 20]) / draft.busy, "write_s": dice.choice([20, 30, 60]) / draft.busy}
    return {"polled": polled, "store": store, "retries": dice.randint(0, 2), **rates}


def _entry(draft: _Draft, name: str, unit: int, count: int) -> _Settings:
    function = draft.dice.choice([3, 3, 4])
    port = draft.known[name]["port"]
    return {"name": name, "port": port, "unit": unit, "address": 0, "count": count, "function": function}


def _broker(draft: _Draft) -> _Settings:
    shared = draft.dice.random() < 0.3
    users = ["sensors"] if shared else list(draft.names["sensor"])
    passwords = {user: "".join(draft.dice.choices(_CHARACTERS, k=10)) for user in [*users, "edge"]}
    return {"users": passwords, "port": 1883, "max_connections": draft.dice.randint(40, 120)}


def _sensor(draft: _Draft) -> _Settings:
    dice, quantity = draft.dice, draft.dice.choice(_QUANTITIES)
    rates = {"period_s": dice.choice([1, 2, 2, 5, 5, 10, 15]) / draft.busy, "payload_bytes": dice.randint(50, 900)}
    topic = {"topic": f"{draft.domain.split('.')[0]}/{draft.name}/{quantity}", "quantity": quantity}
    return _login(draft, draft.name if draft.name in draft.known["broker-1"]["users"] else "sensors") | topic | rates


def _edge(draft: _Draft) -> _Settings:
    cloud = {"cloud": draft.dice.choice([*draft.afar]), "cloud_port": 80}
    topic = {"topic": f"{draft.domain.split('.')[0]}/#"}
    return _login(draft, "edge") | topic | cloud | {"batch_s": draft.dice.choice([10, 15, 30]) / draft.busy}


def _login(draft: _Draft, user: str) -> _Settings:
    broker = draft.known["broker-1"]
    login = {"broker": "broker-1", "port": broker["port"], "user": user, "password": broker["users"][user]}
    return login | {"qos": draft.dice.choice([0, 0, 1]), "keepalive_s": draft.dice.choice([15, 30, 60])}


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
        {"name": camera, "transport": draft.dice.choice(["udp", "udp", "tcp"])} for camera in draft.names["camera"]
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
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.derive_private_key(dice.getrandbits(250) + 1, ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
