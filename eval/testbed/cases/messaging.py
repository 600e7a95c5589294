"""Cases of MQTT and of names: refused logins, sessions taken over, floods, a resolver that fails."""

import re
from functools import partial
from typing import Any

from eval.testbed.cases.background import DOMAIN, add_broker, add_healthy, add_sensor, pause, sent
from eval.testbed.cases.case import NOT_HEALTHY, CaseTruth, Draw, Kind, Scene, Step, run_tools
from eval.testbed.events.actions import tool_command

# ---- MQTT ----


def _bad_password(version: int, port: int, draw: Draw) -> Scene:
    """One client has a wrong password; others get on the broker."""
    broker = add_broker(draw, port=port)
    add_sensor(draw, broker)
    pause_s = draw.seconds(2, 8)
    client = add_sensor(draw, broker, mqtt_version=version, retry=pause(pause_s))
    client = draw.change(client, password=client.settings["password"][:-1])
    to_client = f"{sent(broker, client)} && mqtt.msgtype == 2"
    code = 5 if version == 4 else 0x87
    field = "mqtt.conack.val" if version == 4 else "mqtt.connack.reason_code"
    return Scene(draw.site(), CaseTruth(
        f"why does {client.address} not get on the broker?",
        f"all {{refused}} CONNECTs of {client.address} are refused, return code {code:#x}, not authorised",
        device=client.address, peers=(broker.address,), protocol="mqtt",
        facts={"port": port, "code": code, "mqtt_version": version, "every_s": pause_s},
        measures={"refused": f"{to_client} && {field} == {code}", "answers": to_client},
        must=("not authori|refus",), must_not=NOT_HEALTHY,
        decode=() if port == 1883 else (f"tcp.port=={port},mqtt",),
    ), draw.seconds(240, 400))  # fmt: skip


def _refused_by_code(version: int, code: int, draw: Draw) -> Scene:
    """A broker that refuses with a code that mosquitto never gives: its answer is made by hand."""
    broker = draw.add("broker", port=1883)
    pause_s = draw.seconds(2, 8)
    client = add_sensor(draw, broker, mqtt_version=version, retry=pause(pause_s))
    refuse = tool_command("mqtt", "refuse", 1883, code)
    to_client = f"{sent(broker, client)} && mqtt.msgtype == 2"
    meaning = {4: "bad user name or password", 0x86: "bad user name or password", 2: "identifier rejected",
               0x88: "server unavailable", 3: "server unavailable"}[code]  # fmt: skip
    return Scene(draw.site(), CaseTruth(
        f"why does {client.address} not get on the broker?",
        f"all {{refused}} CONNECTs of {client.address} are refused, return code {code:#x}, {meaning}",
        device=client.address, peers=(broker.address,), protocol="mqtt",
        facts={"port": 1883, "code": code, "mqtt_version": version, "every_s": pause_s,
               "hand_made": "the broker's answer"},
        measures={"refused": to_client}, must=("user name|password|refus|reject|unavailable",), must_not=NOT_HEALTHY,
    ), draw.seconds(240, 400),
        (Step(-1, 9e9, run_tools(broker, refuse)),))  # fmt: skip


def client_id_twice(draw: Draw) -> Scene:
    """Two machines use one client id and take each other's session over."""
    broker = add_broker(draw)
    add_sensor(draw, broker)
    shared = draw.choice(["gateway01", "node-red", "press-7", "esp32"])
    version, pause_s = draw.choice([4, 5]), draw.seconds(2, 6)
    own = {"client_id": shared, "mqtt_version": version, "retry": pause(pause_s), "period_s": 1.0}
    one, two = (add_sensor(draw, broker, **own) for _ in range(2))
    connects = f'mqtt.msgtype == 1 && mqtt.clientid == "{shared}"'
    return Scene(draw.site(), CaseTruth(
        f"why is {shared} thrown off the broker?",
        f"{one.address} and {two.address} use one client id and take each other's session over: "
        "{connects} CONNECTs",
        device=one.address, peers=(two.address, broker.address), protocol="mqtt",
        facts={"port": 1883, "client_id": shared, "mqtt_version": version, "every_s": pause_s},
        measures={"connects": connects},
        must=("client id", re.escape(one.address), re.escape(two.address)), must_not=NOT_HEALTHY,
    ), draw.seconds(240, 400))  # fmt: skip


def keepalive_exceeded(draw: Draw) -> Scene:
    """A client asks for a keep-alive and never pings; the broker closes after one and a half."""
    broker = add_broker(draw)
    add_sensor(draw, broker)
    client, keepalive_s = draw.add("meter"), draw.choice([6, 8, 10, 15])
    mute = tool_command("mqtt", "mute", broker.address, 1883, keepalive_s, "line", "k3WqmPz8")
    connects = f"mqtt.msgtype == 1 && ip.src == {client.address}"
    return Scene(draw.site(), CaseTruth(
        f"why does {client.address} lose its connection?",
        f"it asks for a keep-alive of {keepalive_s} s and never pings; the broker closes after one "
        "and a half times that: {connects} sessions",
        device=client.address, peers=(broker.address,), protocol="mqtt",
        facts={"port": 1883, "keepalive_s": keepalive_s, "closed_by": "server"},
        measures={"connects": connects}, must=("keep-?alive",), must_not=NOT_HEALTHY,
    ), draw.seconds(300, 420),
        (Step(0, 9e9, run_tools(client, mute)),))  # fmt: skip


def flood(draw: Draw) -> Scene:
    """Messages at a high rate, for less than a minute."""
    broker = add_broker(draw)
    add_sensor(draw, broker)
    client = draw.add("camera")
    rate, at_s, flood_s = draw.randint(80, 400), draw.seconds(90, 180), draw.seconds(6, 45)
    tool = tool_command(
        "mqtt", "flood", broker.address, 1883, rate, "--user", "line", "--password", "k3WqmPz8"
    )
    sent = f"ip.src == {client.address} && mqtt.msgtype == 3"
    return Scene(draw.site(), CaseTruth(
        "is the broker flooded?",
        f"{client.address} publishes about {rate} messages a second for {flood_s:.0f} s",
        device=client.address, peers=(broker.address,), protocol="mqtt",
        facts={"port": 1883, "rate_per_s": rate, "length_s": flood_s, "label": "mqtt_abuse"},
        measures={"frames": sent}, must=(re.escape(client.address), "messages|publish|flood"), must_not=NOT_HEALTHY,
    ), at_s + flood_s + draw.seconds(60, 120),
        (Step(at_s, at_s + flood_s, run_tools(client, tool)),))  # fmt: skip


def malformed(draw: Draw) -> Scene:
    """Packets that a broker has to refuse, one a connection."""
    broker = add_broker(draw)
    add_sensor(draw, broker)
    client, rate, at_s = draw.add("laptop"), draw.uniform(0.5, 4), draw.seconds(60, 120)
    tool = tool_command("mqtt", "malformed", broker.address, 1883, rate)
    opened = f"{sent(client, broker)} && tcp.flags == 2"
    return Scene(draw.site(), CaseTruth(
        f"what does {client.address} do to the broker?",
        "it opens {opened} connections, each with a malformed packet, and is closed each time",
        device=client.address, peers=(broker.address,), protocol="mqtt",
        facts={"port": 1883, "rate_per_s": rate, "label": "mqtt_abuse"},
        measures={"opened": opened}, must=(re.escape(client.address), "malformed"), must_not=NOT_HEALTHY,
    ), at_s + draw.seconds(90, 200),
        (Step(at_s, 9e9, run_tools(client, tool)),))  # fmt: skip


# ---- Names ----

_HOSTS = ("historian", "broker", "erp", "updates", "mes", "telemetry")


def _names(draw: Draw, **settings: Any) -> Scene:
    """Devices that look names up, and the resolver of the plant; the truth comes later."""
    names = {f"{host}.{DOMAIN}": draw.free_address() for host in _HOSTS}
    # dns-1 is the name by which programs know the plant's resolver.
    draw.add("dns", "dns", domain=DOMAIN, names=names, **settings)
    return Scene(draw.site(), CaseTruth("", ""), draw.seconds(200, 400))


def _asking(draw: Draw, scene: Scene, truth: CaseTruth, *more: object, asked: str = "") -> Scene:
    """Let the device of the truth ask, and a second one that asks seldom."""
    machines = {one.address: one for one in draw.machines}
    rate, (server,) = draw.choice([0.3, 0.5, 1.0, 2.0]), truth.peers
    names = [asked] if asked else [f"{host}.{DOMAIN}" for host in draw.sample(_HOSTS, 3)]
    tool = tool_command("names", server, rate, *names, *more)
    device = machines[truth.device]
    steps = (Step(0, 9e9, run_tools(device, tool)),)
    return Scene(draw.site(), truth, scene.length_s, steps)


def _failing(code: str, number: int, draw: Draw) -> Scene:
    """A share of answers fails."""
    share = draw.choice([0.3, 0.5, 0.75, 1.0])
    add_healthy(draw)
    scene = _names(draw, failing={code: share})
    server = next(one for one in draw.machines if one.role == "dns")
    device = draw.add("sensor")
    answers = f"dns.flags.response == 1 && ip.dst == {device.address}"
    truth = CaseTruth(
        f"why can {device.address} not resolve names?",
        f"{{failed}} of {{answers}} answers are {code}",
        device=device.address, peers=(server.address,), protocol="dns",
        facts={"port": 53, "code": number, "share": share, "label": "name_resolution"},
        measures={"failed": f"{answers} && dns.flags.rcode == {number}", "answers": answers},
        must=(f"{code.lower()}|fail|refus",), must_not=NOT_HEALTHY,
    )  # fmt: skip
    return _asking(draw, scene, truth)


def nxdomain(draw: Draw) -> Scene:
    """One device asks for a name that does not exist, and nothing else."""
    scene = _names(draw)
    server = next(one for one in draw.machines if one.role == "dns")
    device, wrong = (
        draw.add("sensor"),
        f"{draw.choice(['brocker', 'historain', 'old-mes'])}.{DOMAIN}",
    )
    failed = f"dns.flags.rcode == 3 && ip.dst == {device.address}"
    truth = CaseTruth(
        f"why can {device.address} not resolve names?",
        f"it asks for {wrong}, which does not exist: {{failed}} of {{failed}} answers are NXDOMAIN",
        device=device.address, peers=(server.address,), protocol="dns",
        facts={"port": 53, "code": 3, "name": wrong, "share": 1.0},
        measures={"failed": failed}, must=("nxdomain|does not exist|fail",), must_not=NOT_HEALTHY,
    )  # fmt: skip
    return _asking(draw, scene, truth, asked=wrong)


def no_answer(draw: Draw) -> Scene:
    """The resolver takes questions and answers none."""
    scene = _names(draw, mute=True)
    server = next(one for one in draw.machines if one.role == "dns")
    device = draw.add("sensor")
    asked = f"dns.flags.response == 0 && ip.src == {device.address}"
    truth = CaseTruth(
        f"why can {device.address} not resolve names?",
        f"none of its {{asked}} questions to {server.address} is answered",
        device=device.address, peers=(server.address,), protocol="dns",
        facts={"port": 53, "answers": 0, "label": "name_resolution"},
        measures={"asked": asked}, must=("answer|silent|unanswered",), must_not=NOT_HEALTHY,
    )  # fmt: skip
    return _asking(draw, scene, truth)


def resolver_down(draw: Draw) -> Scene:
    """The resolver's machine lives, and its port 53 is unreachable."""
    server, device = draw.add("resolver"), draw.add("sensor")
    unreachable = f"icmp.type == 3 && icmp.code == 3 && ip.dst == {device.address}"
    truth = CaseTruth(
        f"why can {device.address} not resolve names?",
        f"port 53 of {server.address} is unreachable, it says {{unreachable}} times",
        device=device.address, peers=(server.address,), protocol="dns",
        facts={"port": 53, "answers": 0},
        measures={"unreachable": unreachable}, must=("unreachable|answer|refus",), must_not=NOT_HEALTHY,
    )  # fmt: skip
    return _asking(draw, Scene(draw.site(), truth, draw.seconds(200, 400)), truth)


KINDS: dict[str, Kind] = {
    "mqtt_bad_password": partial(_bad_password, 4, 1883),
    "mqtt_bad_password_v5": partial(_bad_password, 5, 1883),
    "mqtt_bad_password_other_port": partial(_bad_password, 4, 21883),
    "mqtt_bad_password_v5_other_port": partial(_bad_password, 5, 9001),
    "mqtt_refused_code_4": partial(_refused_by_code, 4, 4),
    "mqtt_refused_code_2": partial(_refused_by_code, 4, 2),
    "mqtt_refused_0x86_v5": partial(_refused_by_code, 5, 0x86),
    "mqtt_client_id_twice": client_id_twice,
    "mqtt_keepalive_exceeded": keepalive_exceeded,
    "mqtt_flood": flood,
    "mqtt_malformed": malformed,
    "dns_servfail": partial(_failing, "SERVFAIL", 2),
    "dns_refused": partial(_failing, "REFUSED", 5),
    "dns_nxdomain": nxdomain,
    "dns_no_answer": no_answer,
    "dns_port_unreachable": resolver_down,
}
ALONE = ("dns_servfail", "dns_refused")
