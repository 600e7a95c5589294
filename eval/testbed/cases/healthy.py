"""Healthy plants: nothing is wrong in them, though some look as if. Nothing may be raised."""

from typing import Any

from eval.testbed.cases.background import (
    DOMAIN,
    add_broker,
    add_controller,
    add_healthy,
    add_panel,
    add_sensor,
    polls,
)
from eval.testbed.cases.case import CaseTruth, Draw, Kind, Scene, Step, run_tools
from eval.testbed.events.actions import tool_command


def _healthy(
    draw: Draw,
    right: str,
    length_s: float,
    *steps: Step,
    speed: float = 1.0,
    standing: tuple[str, ...] = ("normal",),
    **facts: Any,
) -> Scene:
    for machine in [one for one in draw.machines if one.program == "hmi"]:
        # The machine that plays the scene may be busy; nobody shall give up because of that.
        draw.change(machine, timeout_s=2.0 * speed)
    truth = CaseTruth(
        "is everything ok?", right, standing=standing, facts={"label": "normal", **facts},
        must_not=(r"\A[^\n]*(loss|likely|confirmed)",),
    )  # fmt: skip
    return Scene(draw.site(), truth, length_s, steps, speed)


def pollers(draw: Draw) -> Scene:
    """Panels that poll controllers at their own rhythms."""
    plcs = [
        add_controller(draw, port=draw.choice([502, 502, 502, 5020]))
        for _ in range(draw.randint(2, 4))
    ]
    for _ in range(draw.randint(1, 3)):
        polled = draw.sample(plcs, draw.randint(1, len(plcs)))
        add_panel(draw, *(polls(plc, draw.randrange(0, 60), draw.randint(2, 40)) for plc in polled))
    return _healthy(draw, "nothing is wrong", draw.seconds(300, 800), speed=3.0)


def slow_poller(draw: Draw) -> Scene:
    """One question every half minute or more, on one session."""
    plc = add_controller(draw)
    add_panel(draw, polls(plc, 0, 10), poll_s=draw.choice([20.0, 30.0, 60.0]))
    return _healthy(
        draw, "nothing is wrong: one panel asks seldom", draw.seconds(600, 900), speed=4.0
    )


def keepalives(draw: Draw) -> Scene:
    """An idle session that the client's kernel probes: keep-alives are no retransmissions."""
    plc, client, probe_s = add_controller(draw), draw.add("client"), draw.choice([5, 10, 20, 30])
    idle = tool_command("tcp", "idle", plc.address, 502, probe_s)
    return _healthy(draw, "keep-alive probes of an idle session are no loss (RFC 9293 3.8.4)",
                    draw.seconds(240, 400), Step(0, 9e9, run_tools(client, idle)), probe_s=probe_s)  # fmt: skip


def reconnects(draw: Draw) -> Scene:
    """A panel that ends its session in peace now and then, once an hour at the longest."""
    plc, session_s = add_controller(draw), draw.choice([600.0, 1200.0, 3600.0])
    add_panel(draw, polls(plc, 0, 10), poll_s=5.0, session_s=session_s)
    length_s = max(900.0, session_s * 1.3)
    return _healthy(draw, f"a panel opens its session anew every {session_s:.0f} s",
                    length_s, speed=length_s / 240, session_s=session_s)  # fmt: skip


def backup(draw: Draw) -> Scene:
    """A historian sends its backup to a store of the plant that it sends to all the time."""
    sender, store = draw.add("historian"), draw.add("store")
    kbit, size = draw.randint(1000, 3000), draw.randint(2, 6) * 10**6
    listen = tool_command("tcp", "listen", 873)
    trickle = tool_command("tcp", "bulk", store.address, 873, 4)
    send = tool_command("tcp", "bulk", store.address, 873, kbit, "--bytes", size)
    at_s = draw.seconds(100, 160)
    # Minutes of a recording do not tell a backup from data that somebody gathers: to say so is as
    # right as to call it well. Nothing may be raised.
    return _healthy(draw, f"a backup of {size / 1e6:.0f} MB inside the plant", at_s + size * 8 / kbit / 1000 + 60,
                    Step(0, 9e9, run_tools(store, listen)), Step(10, 9e9, run_tools(sender, trickle)),
                    Step(at_s, 9e9, run_tools(sender, send)), bytes=size,
                    standing=("normal", "inconclusive"))  # fmt: skip


def mqtt(draw: Draw) -> Scene:
    """A broker with sensors, some of which speak seldom and ping."""
    broker = add_broker(draw)
    for _ in range(draw.randint(3, 6)):
        add_sensor(
            draw,
            broker,
            mqtt_version=draw.choice([4, 5]),
            period_s=draw.choice([1.0, 5.0, 10.0, 90.0]),
        )
    plc = add_controller(draw)
    add_panel(draw, polls(plc, 0, 10))
    return _healthy(draw, "nothing is wrong", draw.seconds(240, 360))


def names(draw: Draw) -> Scene:
    """Devices that look names up; a name in thirty does not exist, as wpad never does."""
    known = {
        f"{host}.{DOMAIN}": draw.free_address() for host in ("historian", "broker", "mes", "erp")
    }
    server = draw.add("dns", "dns", domain=DOMAIN, names=known)
    steps = []
    for _ in range(draw.randint(1, 3)):
        rate = draw.uniform(0.1, 1.5)
        ask = tool_command(
            "names", server.address, rate, *known, "--wrong", f"wpad.{DOMAIN}", "--share", 0.03
        )
        steps.append(Step(0, 9e9, run_tools(draw.add("workstation"), ask)))
    return _healthy(
        draw, "nothing is wrong: a few names do not exist", draw.seconds(240, 360), *steps
    )


def noisy(draw: Draw) -> Scene:
    """Broadcasts and multicasts of discovery, by all machines, and time from the plant's clock."""
    clock = draw.add("ntp", "ntp")
    for machine in [one for one in draw.machines if one.program in ("plc", "hmi")]:
        draw.change(machine, ntp=clock.address, ntp_s=float(draw.choice([16, 32, 64])))
    talkers = [draw.add("workstation") for _ in range(draw.randint(2, 4))]
    last = str(draw.network.broadcast_address)
    steps = [
        Step(0, 9e9, run_tools(one, tool_command("broadcast", last, draw.uniform(2, 20))))
        for one in talkers
    ]
    return _healthy(
        draw, "nothing is wrong: a network with many broadcasts", draw.seconds(240, 360), *steps
    )


def cloud(draw: Draw) -> Scene:
    """A gateway that reports to its maker's cloud over TLS, which answers."""
    service = draw.add("cloud", "cloud", outside=True)
    plc = add_controller(draw)
    remote = {"host": service.address, "period_s": draw.choice([10.0, 20.0, 30.0])}
    # Without dots in its name it needs no resolver; the address stands for itself.
    draw.add("dns", "dns", domain=DOMAIN, names={})
    add_panel(draw, polls(plc, 0, 10), remote=remote)
    return _healthy(
        draw,
        "nothing is wrong: a panel holds a session to its maker's cloud",
        draw.seconds(300, 420),
    )


def gateway(draw: Draw) -> Scene:
    """A serial gateway whose units all answer, slowly as serial lines do."""
    units = sorted(draw.sample(range(1, 32), 3))
    line = draw.add("gateway", "modbus_gateway", units=units, port=502, registers=60)
    add_panel(draw, *(polls(line, 0, 8, unit=unit) for unit in units), poll_s=2.0)
    add_healthy(draw)
    return _healthy(draw, "nothing is wrong", draw.seconds(240, 400), speed=2.0)


def setpoints(draw: Draw) -> Scene:
    """A panel that also writes a setpoint now and then, from the first minute on."""
    plc = add_controller(draw)
    add_panel(draw, polls(plc, 0, 12, setpoints=[7, 8], write_s=draw.uniform(8, 20)), poll_s=1.0)
    add_healthy(draw)
    return _healthy(
        draw,
        "nothing is wrong: the panel writes setpoints all the time",
        draw.seconds(500, 800),
        speed=3.0,
    )


KINDS: dict[str, Kind] = {
    f"healthy_{kind.__name__}": kind
    for kind in (
        pollers,
        slow_poller,
        keepalives,
        reconnects,
        backup,
        mqtt,
        names,
        noisy,
        cloud,
        gateway,
        setpoints,
    )
}
ALONE = tuple(f"healthy_{kind.__name__}" for kind in (pollers, mqtt, gateway, setpoints))
