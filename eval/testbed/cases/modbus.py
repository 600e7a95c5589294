"""Cases of Modbus: refusals by code, dead units, answers that are late, lost or not those asked for."""

import re
from functools import partial

from eval.testbed.cases.background import add_controller, add_panel, pause, polls, sent
from eval.testbed.cases.case import NOT_HEALTHY, CaseTruth, Draw, Kind, Scene, Step, run_tools
from eval.testbed.events.actions import tool_command
from eval.testbed.site import Machine

_SPEED = 3.0
# Modbus Application Protocol V1.1b3, section 7.
_MEANINGS = {
    1: "illegal function", 2: "illegal data address", 3: "illegal data value",
    4: "server device failure", 6: "server device busy", 10: "gateway path unavailable",
    11: "gateway target device failed to respond",
}  # fmt: skip


def _between(one: Machine, two: Machine) -> str:
    return f"ip.addr == {one.address} && ip.addr == {two.address}"


def _decode(port: int) -> tuple[str, ...]:
    return () if port == 502 else (f"tcp.port=={port},mbtcp",)


def _exceptions(client: Machine, server: Machine, code: int) -> str:
    return f"{sent(server, client)} && modbus.exception_code == {code}"


def _scene(
    draw: Draw,
    truth: CaseTruth,
    length_s: float,
    *steps: Step,
    speed: float = _SPEED,
    late: tuple[str, ...] = (),
) -> Scene:
    return Scene(draw.site(), truth, length_s, steps, speed, late=late)


def refused_port(draw: Draw) -> Scene:
    """Nothing listens at the port; its client tries again and again."""
    port = draw.choice([502, 502, 503, 5020])
    server = draw.add("plc", port=port, unit=1)
    pause_s = draw.seconds(3, 9)
    client = add_panel(draw, polls(server), retry=pause(pause_s, 0.02))
    resets = f"{sent(server, client)} && tcp.flags.reset == 1"
    return _scene(draw, CaseTruth(
        f"why does {server.address} not answer?",
        f"its port {port} refuses: {{refused}} attempts of {client.address} were reset",
        device=server.address, peers=(client.address,), protocol="tcp",
        facts={"port": port, "every_s": pause_s},
        measures={"refused": f"{resets} && tcp.srcport == {port}"},
        must=(re.escape(server.address), "refus"),
    ), draw.seconds(300, 700))  # fmt: skip


def _storm(code: int, port: int, draw: Draw) -> Scene:
    """From some time on every read is refused with one code."""
    since_s, length_s = draw.seconds(60, 200), draw.seconds(360, 700)
    server = add_controller(draw, port=port, refuse=[{"code": code, "from_s": since_s}])
    client = add_panel(draw, polls(server, draw.randrange(0, 60), draw.randint(2, 20)))
    where = _between(client, server)
    return _scene(draw, CaseTruth(
        f"why are reads of {server.address} refused?",
        f"{{refused}} reads since {{refused_first_s}} s get exception {code}, {_MEANINGS[code]}",
        device=server.address, peers=(client.address,), protocol="modbus",
        facts={"port": port, "code": code, "unit": server.settings["unit"], "all_refused": True},
        measures={
            "refused": _exceptions(client, server, code),
            "requests": f"{where} && modbus && tcp.dstport == {port}",
        },
        must=(f"exception (0x0?)?{code}|{_MEANINGS[code]}",),
        must_not=NOT_HEALTHY, decode=_decode(port),
    ), length_s)  # fmt: skip


def one_address_refused(draw: Draw) -> Scene:
    """One entry of a panel lies beyond the registers of its controller; the others are answered."""
    registers = draw.randint(40, 80)
    server = add_controller(draw, registers=registers)
    wrong = draw.randint(registers + 20, 400)
    good = [polls(server, draw.randrange(0, 20), 8), polls(server, 20, draw.randint(4, 12))]
    client = add_panel(draw, *good, polls(server, wrong, draw.randint(2, 10)))
    asked = f"ip.src == {client.address} && modbus.reference_num == {wrong}"
    return _scene(draw, CaseTruth(
        f"why does one value of {server.address} stay empty?",
        f"all {{refused}} reads of address {wrong} get exception 2, illegal data address; "
        "reads of the others are answered",
        device=server.address, peers=(client.address,), protocol="modbus",
        facts={"port": 502, "code": 2, "address": wrong, "unit": server.settings["unit"], "all_refused": False},
        measures={"refused": _exceptions(client, server, 2), "asked": asked},
        must=("exception (0x0?)?2|illegal data address", str(wrong)), must_not=NOT_HEALTHY,
    ), draw.seconds(300, 600))  # fmt: skip


def partly_refused(draw: Draw) -> Scene:
    """A share of all requests is refused with a device failure."""
    share = round(draw.uniform(0.2, 0.6), 2)
    server = add_controller(draw, exceptions=share)
    client = add_panel(draw, polls(server, 0, draw.randint(4, 20)))
    return _scene(draw, CaseTruth(
        f"is anything wrong with {server.address}?",
        f"about {share:.0%} of its answers, {{refused}}, are exception 4, server device failure",
        device=server.address, peers=(client.address,), protocol="modbus",
        facts={"port": 502, "code": 4, "share": share, "unit": server.settings["unit"]},
        measures={"refused": _exceptions(client, server, 4)},
        must=("exception (0x0?)?4|device failure",), must_not=NOT_HEALTHY,
    ), draw.seconds(300, 600))  # fmt: skip


def busy(draw: Draw) -> Scene:
    """Exception 6 for a while, as during the download of a program: nothing is misconfigured."""
    from_s, busy_s = draw.seconds(90, 200), draw.seconds(60, 180)
    refuse = [{"code": 6, "from_s": from_s, "to_s": from_s + busy_s}]
    server = add_controller(draw, refuse=refuse)
    client = add_panel(draw, polls(server, 0, draw.randint(4, 20)))
    return _scene(draw, CaseTruth(
        f"what is wrong with {server.address}?",
        f"exception 6 (busy) for {busy_s:.0f} s, {{refused}} times; nothing is misconfigured",
        standing=("normal", "likely", "confirmed", "inconclusive"),
        device=server.address, peers=(client.address,), protocol="modbus",
        facts={"port": 502, "code": 6, "busy_s": busy_s, "label_not": ["misconfiguration"]},
        measures={"refused": _exceptions(client, server, 6)},
        must=("busy",), must_not=(r"\A[^\n]*(password|wrong address)",),
    ), from_s + busy_s + draw.seconds(90, 200))  # fmt: skip


def _gateway_unit(code: int, draw: Draw) -> Scene:
    """One unit behind a gateway is dead from some time on; the others answer."""
    units = sorted(draw.sample(range(1, 32), draw.randint(2, 4)))
    dead, since_s = draw.choice(units), draw.seconds(60, 200)
    refuse = [{"code": code, "units": [dead], "from_s": since_s}]
    gateway = draw.add(
        "gateway", "modbus_gateway", units=units, port=502, registers=60, refuse=refuse
    )
    entries = [polls(gateway, 0, draw.randint(4, 12), unit=unit) for unit in units]
    client = add_panel(draw, *entries, poll_s=draw.choice([1.0, 2.0, 3.0]))
    others = ", ".join(str(unit) for unit in units if unit != dead)
    return _scene(draw, CaseTruth(
        f"what is wrong with the gateway {gateway.address}?",
        f"unit {dead} behind it: exception {code} ({_MEANINGS[code]}) {{refused}} times since "
        f"{{refused_first_s}} s; units {others} answer",
        device=gateway.address, peers=(client.address,), protocol="modbus",
        facts={"port": 502, "code": code, "unit": dead, "units": units},
        measures={"refused": _exceptions(client, gateway, code)},
        must=(f"unit (id )?{dead}\\b", f"0x0?{code:x}|exception {code}|{_MEANINGS[code]}|no response"),
    ), draw.seconds(400, 700))  # fmt: skip


def periodic_timeouts(draw: Draw) -> Scene:
    """Now and then a request is not answered; its client closes and connects again."""
    every_s, port = draw.seconds(15, 45), draw.choice([502, 502, 5502])
    before = {"port": port, "behind": 1502, "mute_every_s": every_s}
    server = add_controller(draw, port=1502, front=before)
    client = add_panel(
        draw, polls(server, 0, draw.randint(4, 20)), timeout_s=draw.choice([1.0, 2.0])
    )
    opened = f"{sent(client, server)} && tcp.flags.syn == 1"
    return _scene(draw, CaseTruth(
        f"why does the connection to {server.address} keep breaking?",
        f"about every {every_s:.0f} s a request is not answered within "
        f"{client.settings['timeout_s']:.0f} s; {client.address} closes and connects again, {{opened}} times",
        device=server.address, peers=(client.address,), protocol="modbus",
        facts={"port": port, "every_s": every_s, "timeout_s": client.settings["timeout_s"]},
        measures={"opened": f"{opened} && tcp.flags.ack == 0 && tcp.dstport == {port}"},
        must=("not answered|without an answer|unanswered|no answer", re.escape(client.address)),
        must_not=NOT_HEALTHY, decode=_decode(port),
    ), draw.seconds(400, 700))  # fmt: skip


def one_behind(draw: Draw) -> Scene:
    """From some time on each answer is the one to the request before."""
    hold_s = draw.seconds(60, 150)
    server = add_controller(
        draw, port=1502, front={"port": 502, "behind": 1502, "hold_from_s": hold_s}
    )
    client = draw.add("client", "")
    entry, every_s = polls(server, 0, 8), draw.choice([0.5, 1.0, 2.0])
    poll = tool_command(
        "modbus", "poll", server.address, 502, _SPEED / every_s, "--unit", entry["unit"]
    )
    return _scene(draw, CaseTruth(
        f"why are the values of {server.address} wrong?",
        "after some time answers carry the transaction id of the request before",
        device=server.address, peers=(client.address,), protocol="modbus",
        facts={"port": 502, "behind_by": 1, "every_s": every_s},
        measures={"requests": f"{_between(client, server)} && modbus && tcp.dstport == 502"},
        must=("transaction",), must_not=NOT_HEALTHY,
    ), draw.seconds(360, 600),
        Step(0, 9e9, run_tools(client, poll)))  # fmt: skip


def session_limit(draw: Draw) -> Scene:
    """A server with room for n sessions closes the next one right after its handshake."""
    most, reset = draw.randint(1, 3), draw.random() < 0.5
    before = {"port": 502, "behind": 1502, "sessions": most, "reset": reset}
    server = add_controller(draw, port=1502, front=before)
    clients = [add_panel(draw, polls(server, 0, 8)) for _ in range(most)]
    pause_s = draw.seconds(4, 12)
    extra = add_panel(draw, polls(server, 0, 8), retry=pause(pause_s, 0.02))
    opened = f"{sent(extra, server)} && tcp.flags == 2"
    return _scene(draw, CaseTruth(
        f"why does {extra.address} not get a connection to {server.address}?",
        f"{server.address} has room for {most} session(s) and closes each further one right after its "
        f"handshake: {{opened}} attempts of {extra.address}",
        device=server.address, peers=(extra.address,), protocol="tcp",
        facts={"port": 502, "sessions": most, "by": "RST" if reset else "FIN",
               "holders": [one.address for one in clients]},
        measures={"opened": opened},
        must=("session|handshake|closed", re.escape(extra.address)), must_not=NOT_HEALTHY,
    ), draw.seconds(300, 600), late=(extra.name,))  # fmt: skip


def idle_close_by_server(draw: Draw) -> Scene:
    """A server closes a session without a request for N s; the client asks more seldom."""
    idle_s = draw.choice([15.0, 20.0, 30.0, 45.0])
    reset = draw.random() < 0.5
    before = {"port": 502, "behind": 1502, "idle_s": idle_s, "reset": reset}
    server = add_controller(draw, port=1502, front=before)
    poll_s = round(idle_s * draw.uniform(1.3, 1.8), 1)
    client = add_panel(draw, polls(server, 0, 8), poll_s=poll_s)
    opened = f"{sent(client, server)} && tcp.flags == 2"
    return _scene(draw, CaseTruth(
        f"why does {client.address} lose its connection to {server.address}?",
        f"{server.address} closes a session after {idle_s:.0f} s without a request, and "
        f"{client.address} asks every {poll_s:.0f} s: {{opened}} sessions",
        device=server.address, peers=(client.address,), protocol="modbus",
        facts={"port": 502, "idle_s": idle_s, "every_s": poll_s, "closed_by": "server",
               "by": "RST" if reset else "FIN"},
        measures={"opened": opened},
        must=("idle|without a request|silence",), must_not=NOT_HEALTHY,
    ), draw.seconds(500, 900), speed=5.0)  # fmt: skip


def idle_close_by_client(draw: Draw) -> Scene:
    """A client reads once a session, keeps it open for N s, and closes it itself."""
    server, idle_s, pause_s = (
        add_controller(draw),
        draw.choice([10.0, 20.0, 30.0]),
        draw.seconds(2, 20),
    )
    client = add_panel(
        draw,
        polls(server, 0, 8),
        poll_s=1.0,
        idle_close_s=idle_s,
        retry=pause(pause_s, 0.02),
        timeout_s=5.0,
    )
    closed = f"{sent(client, server)} && tcp.flags.fin == 1"
    return _scene(draw, CaseTruth(
        f"why does the connection of {client.address} to {server.address} end again and again?",
        f"{client.address} closes each session itself after {idle_s:.0f} s without a request, {{closed}} times",
        standing=("normal", "inconclusive", "likely", "confirmed"),
        device=client.address, peers=(server.address,), protocol="modbus",
        facts={"port": 502, "idle_s": idle_s, "pause_s": pause_s, "closed_by": "client", "by": "FIN"},
        measures={"closed": closed}, must=(re.escape(client.address), "clos|end"),
    ), draw.seconds(400, 600), speed=3.0)  # fmt: skip


def function_scan(draw: Draw) -> Scene:
    """A stranger tries function codes, one after the other."""
    server = add_controller(draw)
    add_panel(draw, polls(server, 0, 10))
    scanner = draw.add("laptop", "")
    rate, at_s = draw.uniform(3, 20), draw.seconds(60, 150)
    tool = tool_command(
        "modbus", "functions", server.address, 502, rate, "--unit", server.settings["unit"]
    )
    requests = f"{sent(scanner, server)} && modbus"
    return _scene(draw, CaseTruth(
        f"what does {scanner.address} do?",
        f"it tries function codes 1 to 127 of {server.address}: {{requests}} requests",
        device=scanner.address, peers=(server.address,), protocol="modbus",
        facts={"port": 502, "functions": 127, "label": "recon"},
        measures={"requests": requests},
        must=(re.escape(scanner.address), "function"),
    ), at_s + 127 / rate * 2 + 60,
        Step(at_s, at_s + 127 / rate * 2, run_tools(scanner, tool)), speed=1.0)  # fmt: skip


def register_sweep(draw: Draw) -> Scene:
    """A stranger reads every register of unit after unit."""
    server = add_controller(draw)
    add_panel(draw, polls(server, 0, 10))
    scanner = draw.add("laptop", "")
    rate, at_s, sweep_s = draw.uniform(5, 25), draw.seconds(60, 150), draw.seconds(30, 90)
    tool = tool_command(
        "modbus", "sweep", server.address, 502, rate, "--unit", server.settings["unit"]
    )
    requests = f"{sent(scanner, server)} && modbus"
    return _scene(draw, CaseTruth(
        f"what does {scanner.address} do?",
        f"it sweeps the registers of {server.address}: {{requests}} requests",
        device=scanner.address, peers=(server.address,), protocol="modbus",
        facts={"port": 502, "label": "recon"}, measures={"requests": requests},
        must=(re.escape(scanner.address),),
    ), at_s + sweep_s + 60,
        Step(at_s, at_s + sweep_s, run_tools(scanner, tool)), speed=1.0)  # fmt: skip


def _writer(new: bool, draw: Draw) -> Scene:
    """A machine writes registers: from first to last, or only after twelve quiet minutes."""
    server = add_controller(draw)
    add_panel(draw, polls(server, 0, 10))
    writer, rate = draw.add("workstation", ""), draw.choice([0.5, 1.0, 2.0])
    at_s, length_s = (draw.seconds(720, 780), 900.0) if new else (0.0, draw.seconds(240, 700))
    speed = 5.0 if new else 1.0
    tool = tool_command(
        "modbus", "write", server.address, 502, rate * speed, "--unit", server.settings["unit"]
    )
    writes = f"{sent(writer, server)} && (modbus.func_code == 6 || modbus.func_code == 16)"
    right = f"{writer.address} writes {{writes}} times, about every {1 / rate:.1f} s"
    more = (
        ": new after twelve minutes without any write"
        if new
        else ", from first to last: nothing says that it is new"
    )
    return Scene(draw.site(), CaseTruth(
        f"is anyone writing to {server.address} who should not?", right + more,
        standing=("likely", "confirmed") if new else ("normal", "inconclusive"),
        device=writer.address, peers=(server.address,), protocol="modbus",
        facts={"port": 502, "new": new, "every_s": 1 / rate, "label": "unauthorized_command" if new else "normal"},
        measures={"writes": writes}, must=(re.escape(writer.address), "writ"),
        must_not=() if new else ("confirmed: .*unauthori",),
    ), length_s, (Step(at_s, 9e9, run_tools(writer, tool)),), speed)  # fmt: skip


KINDS: dict[str, Kind] = {
    "modbus_refused_port": refused_port,
    **{
        f"modbus_exception_{code}" + ("" if port == 502 else "_other_port"): partial(
            _storm, code, port
        )
        for code, port in ((1, 502), (2, 502), (3, 502), (4, 502), (2, 5020), (4, 10502))
    },
    "modbus_one_address_refused": one_address_refused,
    "modbus_partly_refused": partly_refused,
    "modbus_busy": busy,
    "modbus_gateway_unit_0x0b": partial(_gateway_unit, 11),
    "modbus_gateway_unit_0x0a": partial(_gateway_unit, 10),
    "modbus_periodic_timeouts": periodic_timeouts,
    "modbus_one_behind": one_behind,
    "session_limit": session_limit,
    "idle_close_by_server": idle_close_by_server,
    "idle_close_by_client": idle_close_by_client,
    "modbus_function_scan": function_scan,
    "modbus_register_sweep": register_sweep,
    "steady_writer": partial(_writer, False),
    "new_writer": partial(_writer, True),
}
