"""What goes on in every scene beside the thing that is wrong: pollers, sensors, lookups."""

from typing import Any

from eval.testbed.cases.case import Draw
from eval.testbed.site import Machine

DOMAIN = "works.example"


def sent(one: Machine, two: Machine) -> str:
    """Wireshark's filter for what one machine sends to another."""
    return f"ip.src == {one.address} && ip.dst == {two.address}"


def pause(seconds: float, jitter: float = 0.05) -> dict[str, float]:
    """How a client waits before it connects again: always so long."""
    return {"first_s": seconds, "factor": 1.0, "most_s": seconds, "jitter": jitter}


def add_controller(draw: Draw, **settings: Any) -> Machine:
    """A controller that serves Modbus, silent towards units that it does not have."""
    own = {"unit": draw.choice([1, 1, 2, 5, 17]), "port": 502, "registers": 120, "scan_s": 0.004}
    return draw.add("plc", "plc", **{**own, "ignores_other_units": True, **settings})


def add_panel(draw: Draw, *polled: dict[str, Any], poll_s: float = 0.0, **settings: Any) -> Machine:
    """A panel that polls and never waits long to connect again."""
    own = {"poll_s": poll_s or draw.choice([0.5, 1.0, 1.0, 2.0]), "retries": 0, "timeout_s": 1.0}
    return draw.add("hmi", "hmi", polled=[*polled], **{**own, "retry": pause(2.0), **settings})


def polls(server: Machine, first: int = 0, count: int = 10, **entry: Any) -> dict[str, Any]:
    """An entry of a panel's ``polled``."""
    settings = server.settings
    port = settings["front"]["port"] if "front" in settings else settings["port"]
    unit = settings.get("unit") or settings["units"][0]
    own = {"name": server.address, "port": port, "unit": unit, "function": 3}
    return {**own, "address": first, "count": count, **entry}


def add_broker(draw: Draw, **settings: Any) -> Machine:
    """An MQTT broker with one user."""
    own = {"users": {"line": "k3WqmPz8"}, "port": 1883}
    return draw.add("broker", "broker", **{**own, **settings})


def add_sensor(draw: Draw, broker: Machine, **settings: Any) -> Machine:
    """A sensor that publishes a reading now and then."""
    number = 1 + sum(one.role == "sensor" for one in draw.machines)
    own = {
        "broker": broker.address, "port": broker.settings["port"], "user": "line",
        "password": "k3WqmPz8", "topic": f"line/{number}/temperature", "quantity": "temperature",
        "period_s": draw.choice([1.0, 2.0, 5.0]), "payload_bytes": draw.randint(60, 200),
        "qos": draw.choice([0, 1]), "keepalive_s": draw.choice([15, 30, 60]), "retry": pause(2.0),
    }  # fmt: skip
    return draw.add("sensor", "sensor", **{**own, **settings})


def add_healthy(draw: Draw) -> None:
    """One or two pairs that talk Modbus, and sometimes sensors with their broker: all is well."""
    for _ in range(draw.randint(1, 2)):
        plc = add_controller(draw)
        # The machine that plays the scene may be busy; they shall not give up because of that.
        add_panel(draw, polls(plc, 0, draw.randint(4, 30)), timeout_s=5.0)
    if draw.random() < 0.4:
        broker = add_broker(draw)
        for _ in range(draw.randint(1, 2)):
            add_sensor(draw, broker)
