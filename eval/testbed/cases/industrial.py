"""Cases of further industrial protocols: S7, EtherNet/IP, OPC UA, BACnet, IEC 104, DNP3."""

import re
from functools import partial
from typing import Any

from eval.testbed.cases.background import pause, sent
from eval.testbed.cases.case import NOT_HEALTHY, CaseTruth, Draw, Kind, Scene
from eval.testbed.site import Machine

# ---- S7 ----


def _add_s7(draw: Draw, *more: dict[str, Any], **settings: Any) -> tuple[Machine, Machine]:
    """A controller with two blocks, and a panel that reads parts of them and of what is given."""
    server = draw.add("plc", "s7_server", blocks={"1": 64, "10": 200}, port=102)
    blocks = [
        {"db": 1, "start": 0, "size": 16},
        {"db": 10, "start": draw.randrange(100), "size": 32},
        *more,
    ]
    own: dict[str, Any] = {"poll_s": draw.choice([0.5, 1.0, 2.0]), "retry": pause(3.0), **settings}
    return server, draw.add("hmi", "s7_client", server=server.address, blocks=blocks, **own)


def _s7_refused(code: int, draw: Draw) -> Scene:
    """One read among others is refused by its item's return code."""
    meaning = {5: "invalid address", 10: "object does not exist"}[code]
    wrong = {"db": 77, "start": 0, "size": 8} if code == 10 else {"db": 1, "start": 400, "size": 8}
    server, client = _add_s7(draw, wrong)
    return Scene(draw.site(), CaseTruth(
        f"why does one value of {server.address} stay empty?",
        f"all {{refused}} reads of DB{wrong['db']} at {wrong['start']} get return code {code:#04x}, {meaning}",
        device=server.address, peers=(client.address,), protocol="s7comm",
        facts={"port": 102, "code": code, "db": wrong["db"], "start": wrong["start"]},
        measures={"refused": f"{sent(server, client)} && s7comm.data.returncode == {code:#04x}"},
        must=(f"0x0?{code:x}|{meaning}|does not exist|refus",), must_not=NOT_HEALTHY,
    ), draw.seconds(300, 500), speed=2.0)  # fmt: skip


def s7_stop(draw: Draw) -> Scene:
    """An engineer's machine stops the controller after some minutes."""
    server, _ = _add_s7(draw)
    at_s = draw.seconds(120, 240)
    blocks = [{"db": 1, "start": 0, "size": 4}]
    stopper = draw.add("workstation", "s7_client", server=server.address, blocks=blocks,
                       poll_s=5.0, stop_at_s=at_s, retry=pause(3.0))  # fmt: skip
    return Scene(draw.site(), CaseTruth(
        f"what happened to {server.address}?",
        f"{stopper.address} sends it PLC Stop after about {{stops_first_s}} s",
        device=server.address, peers=(stopper.address,), protocol="s7comm",
        facts={"port": 102, "function": 0x29, "command": "stop"},
        measures={"stops": f"{sent(stopper, server)} && s7comm.param.func == 0x29"},
        must=("stop", re.escape(stopper.address)), must_not=NOT_HEALTHY,
    ), at_s + draw.seconds(90, 150), speed=2.0)  # fmt: skip


# ---- EtherNet/IP ----

_TAGS = {"SPEED": "DINT[20]", "LEVEL": "REAL[20]"}


def _add_enip(
    draw: Draw, *tags: str, poll_s: float = 0.0, **server: Any
) -> tuple[Machine, Machine]:
    device = draw.add("plc", "enip_server", **{"tags": _TAGS, "port": 44818, **server})
    own: dict[str, Any] = {"poll_s": poll_s or draw.choice([1.0, 2.0]), "retry": pause(3.0)}
    tags = ("SPEED[0-3]", *tags)
    return device, draw.add(
        "hmi", "enip_client", server=device.address, tags=[*tags], port=44818, **own
    )


def _cip_error(status: int, draw: Draw) -> Scene:
    """One read among others is answered with a CIP general status."""
    tag = {0xFF: f"SPEED[{draw.randint(25, 60)}]", 0x08: f"@1/1/{draw.randint(90, 120)}"}[status]
    server, client = _add_enip(draw, tag)
    return Scene(draw.site(), CaseTruth(
        f"does every request to {server.address} succeed?",
        f"no: reads of {tag} get CIP general status {status:#04x}, {{refused}} times",
        device=server.address, peers=(client.address,), protocol="cip",
        facts={"port": 44818, "code": status, "tag": tag},
        measures={"refused": f"{sent(server, client)} && cip.genstat == {status:#04x}"},
        must=("status|error|refus|not supported",), must_not=NOT_HEALTHY,
    ), draw.seconds(240, 400))  # fmt: skip


def enip_idle(draw: Draw) -> Scene:
    """A device closes a session without a request for N s; its client asks more seldom."""
    idle_s = draw.choice([20.0, 30.0, 45.0, 60.0])
    poll_s, reset = round(idle_s * draw.uniform(1.4, 2.0), 1), draw.random() < 0.5
    before = {"port": 44818, "behind": 1818, "idle_s": idle_s, "reset": reset}
    server, client = _add_enip(draw, poll_s=poll_s, port=1818, front=before)
    opened = f"{sent(client, server)} && tcp.flags == 2"
    return Scene(draw.site(), CaseTruth(
        f"why does {client.address} lose its connection to {server.address}?",
        f"{server.address} closes a session after {idle_s:.0f} s without a request, and "
        f"{client.address} asks every {poll_s:.0f} s: {{opened}} sessions",
        device=server.address, peers=(client.address,), protocol="enip",
        facts={"port": 44818, "idle_s": idle_s, "every_s": poll_s, "closed_by": "server",
               "by": "RST" if reset else "FIN"},
        measures={"opened": opened}, must=("idle|without a request|silence",), must_not=NOT_HEALTHY,
    ), draw.seconds(700, 900), speed=3.0)  # fmt: skip


# ---- OPC UA ----


def _opcua(code: str, number: int, draw: Draw) -> Scene:
    """A value is written that the client may not write, or one is read that is not there."""
    denied = code == "BadUserAccessDenied"
    server = draw.add("robot", "opcua_server", port=4840, axes=5, cycle_s=0.5)
    wrong: dict[str, Any] = (
        {"written": ["ns=2;s=Axis1"]}
        if denied
        else {"also_read": [f"ns=2;s=Axis{draw.randint(20, 90)}"]}
    )
    client = draw.add("mes", "opcua_client", server=server.address, port=4840, axes=5, **wrong,
                      publish_ms=1000.0, read_s=draw.seconds(2, 6), retry=pause(3.0))  # fmt: skip
    field = "opcua.Results" if denied else "opcua.StatusCode"
    found = f"{sent(server, client)} && {field} == {number:#010x}"
    return Scene(draw.site(), CaseTruth(
        f"does every request to {server.address} succeed?",
        f"no: {{refused}} answers hold {code}",
        device=server.address, peers=(client.address,), protocol="opcua",
        facts={"port": 4840, "code": number, "name": code},
        measures={"refused": found}, must=(f"{code}|denied|unknown|refus",), must_not=NOT_HEALTHY,
    ), draw.seconds(240, 400))  # fmt: skip


# ---- BACnet ----


def _bacnet(error: str, draw: Draw) -> Scene:
    """Reads of what is not there, or a write that is refused."""
    server = draw.add("ahu", "bacnet_device", instance=draw.randint(1, 4000), values=3)
    good = [[f"analog-value,{number}", "present-value"] for number in (1, 2)]
    settings: dict[str, Any] = {"objects": good}
    if error == "unknown-object":
        settings["objects"] = [*good, [f"analog-value,{draw.randint(10, 90)}", "present-value"]]
    elif error == "unknown-property":
        settings["objects"] = [*good, ["analog-value,1", "file-size"]]
    else:
        settings["restart_s"] = draw.seconds(8, 20)
    client = draw.add("bms", "bacnet_client", instance=4100, server=server.address,
                      poll_s=draw.choice([1.0, 2.0, 5.0]), **settings)  # fmt: skip
    failed = f"{sent(server, client)} && (bacapp.type == 5 || bacapp.type == 6 || bacapp.type == 7)"
    return Scene(draw.site(), CaseTruth(
        "does every request succeed?",
        f"no: {{failed}} requests to {server.address} are answered with Error, Reject or Abort ({error})",
        device=server.address, peers=(client.address,), protocol="bacnet",
        facts={"port": 47808, "error": error},
        measures={"failed": failed}, must=("error|reject|abort",), must_not=NOT_HEALTHY,
    ), draw.seconds(240, 400))  # fmt: skip


# ---- Telecontrol ----


def _iec104(what: str, draw: Draw) -> Scene:
    """Commands to an object that is not there, or interrogations of a station that is not."""
    station = draw.randint(1, 200)
    measurands = sorted(draw.sample(range(100, 200), 4))
    server = draw.add(
        "rtu",
        "iec104_server",
        port=2404,
        station=station,
        measurands=measurands,
        commands=[1001],
        period_s=2.0,
    )
    settings: dict[str, Any] = {"stations": [station], "poll_s": draw.seconds(20, 40)}
    cause = 47 if what == "unknown_object" else 46
    if what == "unknown_object":
        settings |= {"commands": [draw.randint(2000, 3000)], "command_s": draw.seconds(5, 15)}
    else:
        # It asks the wrong station alone: a client waits for the one before it asks the next.
        settings |= {"stations": [station + 1], "poll_s": draw.seconds(8, 15)}
    client = draw.add("scada", "iec104_client", server=server.address, **settings)
    refused = f"{sent(server, client)} && iec60870_asdu.causetx == {cause}"
    return Scene(draw.site(), CaseTruth(
        f"does every request to {server.address} succeed?",
        f"no: {{refused}} answers say {what.replace('_', ' ')} (cause of transmission {cause})",
        device=server.address, peers=(client.address,), protocol="iec104",
        facts={"port": 2404, "code": cause, "station": settings["stations"][0]},
        measures={"refused": refused}, must=("unknown|refus|negative",), must_not=NOT_HEALTHY,
    ), draw.seconds(240, 400))  # fmt: skip


def _dnp3(what: str, draw: Draw) -> Scene:
    """Commands that an outstation does not know, or a cold restart that it is told."""
    station = draw.randint(1, 200)
    server = draw.add("rtu", "dnp3_outstation", port=20000, station=station, points=4)
    settings: dict[str, Any] = {"station": station, "poll_s": draw.choice([2.0, 5.0])}
    at_s = draw.seconds(100, 150)
    settings |= {"command_s": draw.seconds(5, 15)} if what == "command" else {"restart_s": at_s}
    client = draw.add("scada", "dnp3_master", server=server.address, **settings, retry=pause(3.0))
    asked = f"{sent(client, server)} && dnp3.al.func == {5 if what == 'command' else 13}"
    ask = {
        "command": f"does every request to {server.address} succeed?",
        "restart": f"what happened to {server.address}?",
    }[what]
    must = {"command": "status|refus|not supported|error|command", "restart": "restart"}[what]
    right = {
        "command": "no: {asked} commands (direct operate) are answered with a status that is no success",
        "restart": f"{client.address} tells it to restart (cold) after {{asked_first_s}} s",
    }[what]
    return Scene(draw.site(), CaseTruth(
        ask, right, device=server.address, peers=(client.address,), protocol="dnp3",
        facts={"port": 20000, "function": 5 if what == "command" else 13, "station": station},
        measures={"asked": asked}, must=(must,), must_not=NOT_HEALTHY,
    ), draw.seconds(240, 360))  # fmt: skip


# ---- The same, healthy ----


def healthy_industrial(protocol: str, draw: Draw) -> Scene:
    """One pair that talks and is answered, for one protocol."""
    if protocol == "s7":
        _add_s7(draw, {"db": 10, "start": 0, "size": 4, "write_s": 10.0})
    elif protocol == "enip":
        _add_enip(draw, "LEVEL[0-3]")
    elif protocol == "opcua":
        server = draw.add("robot", "opcua_server", port=4840, axes=4, cycle_s=0.5)
        draw.add("mes", "opcua_client", server=server.address, port=4840, axes=4,
                 publish_ms=1000.0, read_s=5.0, retry=pause(3.0))  # fmt: skip
    elif protocol == "bacnet":
        server = draw.add("ahu", "bacnet_device", instance=7, values=3)
        objects = [[f"analog-value,{number}", "present-value"] for number in (1, 2, 3)]
        draw.add("bms", "bacnet_client", instance=4100, server=server.address, objects=objects,
                 poll_s=2.0, whois_s=60.0)  # fmt: skip
    elif protocol == "iec104":
        server = draw.add(
            "rtu",
            "iec104_server",
            port=2404,
            station=3,
            measurands=[100, 101],
            commands=[1001],
            period_s=2.0,
        )
        draw.add("scada", "iec104_client", server=server.address, stations=[3], poll_s=30.0,
                 commands=[1001], command_s=40.0)  # fmt: skip
    else:
        server = draw.add("rtu", "dnp3_outstation", port=20000, station=10, points=4)
        draw.add(
            "scada", "dnp3_master", server=server.address, station=10, poll_s=3.0, retry=pause(3.0)
        )
    truth = CaseTruth(
        "is everything ok?", "nothing is wrong", standing=("normal",),
        facts={"label": "normal", "protocol": protocol}, must_not=(r"\A[^\n]*(loss|likely|confirmed)",),
    )  # fmt: skip
    return Scene(draw.site(), truth, draw.seconds(240, 360))


KINDS: dict[str, Kind] = {
    "s7_object_missing": partial(_s7_refused, 10),
    "s7_invalid_address": partial(_s7_refused, 5),
    "s7_stop": s7_stop,
    "cip_error_0xff": partial(_cip_error, 0xFF),
    "cip_error_0x08": partial(_cip_error, 0x08),
    "enip_idle_close": enip_idle,
    "opcua_access_denied": partial(_opcua, "BadUserAccessDenied", 0x801F0000),
    "opcua_node_unknown": partial(_opcua, "BadNodeIdUnknown", 0x80340000),
    **{
        f"bacnet_{error.replace('-', '_')}": partial(_bacnet, error)
        for error in ("unknown-object", "unknown-property", "unrecognized-service")
    },
    "iec104_unknown_object": partial(_iec104, "unknown_object"),
    "iec104_unknown_station": partial(_iec104, "unknown_station"),
    "dnp3_command_refused": partial(_dnp3, "command"),
    "dnp3_cold_restart": partial(_dnp3, "restart"),
    **{
        f"healthy_{protocol}": partial(healthy_industrial, protocol)
        for protocol in ("s7", "enip", "opcua", "bacnet", "iec104", "dnp3")
    },
}
