"""Routines that only look like trouble: a newcomer, a backup, maintenance, a maker's cloud that has
been shut down."""

import contextlib
import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from eval.testbed.events.actions import open_port, ours, plugged_in, running, unheard
from eval.testbed.events.event import Blame, Event, Kind
from eval.testbed.events.participants import alone, attacker_and_attacked, clients, outward, servers
from eval.testbed.events.participants import running as programs
from eval.testbed.generator import Dice
from eval.testbed.lab import Lab
from eval.testbed.site import Machine, Site

_CONTROLLERS = programs("plc", "modbus_gateway")
_STRANGERS = "-oStrictHostKeyChecking=no -oUserKnownHostsFile=/dev/null -oBatchMode=yes"
_SSH = ["ssh", "-F", "/dev/null", *_STRANGERS.split()]
_SHELL = "head -c $((RANDOM % 8000)) /dev/urandom | base64; sleep $((1 + RANDOM % 5))"


@contextlib.contextmanager
def _dead_cloud(lab: Lab, event: Event) -> Iterator[None]:
    """The service beyond the router has been shut down: its port refuses, or nobody is there any
    more."""
    name, refuses = event.settings["cloud"], event.settings["refuses"]
    try:
        lab.stop(name)
        if not refuses:
            lab.link(name, False)
        yield
    finally:
        lab.link(name, True)
        lab.start(name)


def _callers(site: Site, event: Event) -> list[Blame]:
    """All that call the service see the same."""
    callers = [
        machine
        for machine in clients(site, event.settings["cloud"])
        if machine.name != event.target
    ]
    return [
        *alone(site, event),
        *(Blame(machine.name, "source", machine.address) for machine in callers),
    ]


def _its_cloud(event: Event, dice: Dice) -> Event:
    called = [
        server for server in servers(dice.site, dice.site.named(event.target)) if server.beyond
    ]
    refuses = dice.chance(0.5)
    how = "refuses" if refuses else "does not answer"
    return replace(
        event, settings={"cloud": dice.pick(called).name, "refuses": refuses, "how": how}
    )


@contextlib.contextmanager
def _device_joins(lab: Lab, event: Event) -> Iterator[None]:
    with plugged_in(lab, event.added):
        yield


def _like(event: Event, dice: Dice) -> Event:
    """A newcomer set as a machine of the plant is, with an address of its own."""
    model = dice.site.named(event.target)
    settings = dict(model.settings)
    if "topic" in settings:
        settings["topic"] = f"{settings['topic']}/new"
    new = dice.newcomer(
        f"new-{model.program}"[:10], model.role, program=model.program, settings=settings
    )
    return replace(
        event, target=new.name, added=(new,), settings={"model": model.name, "address": new.address}
    )


@contextlib.contextmanager
def _bulk(lab: Lab, event: Event) -> Iterator[None]:
    """So many kilobytes over TCP, as fast as makes them last for most of the event."""
    size, port = event.strength * 1000, event.settings["port"]
    kbit = size * 8 / 1000 / (event.length_s * event.settings["share"])
    send = ours("tcp", "bulk", lab.machine(event.target).address, port, kbit, "--bytes", size)
    with running(lab, event.target, ours("tcp", "listen", port)), running(lab, event.source, send):
        yield


def _uploaded(event: Event, dice: Dice) -> Event:
    source = dice.pick(programs("workstation")(dice.site))
    settings = {"port": dice.pick([21, 69, 8080, 20000, 11740]), "share": dice.even(0.3, 0.9)}
    return replace(event, source=source.name, settings=settings)


def _backed_up(event: Event, dice: Dice) -> Event:
    source = dice.pick(programs("historian")(dice.site))
    settings = {"port": dice.pick([22, 445, 873, 2049]), "share": dice.even(0.5, 0.95)}
    return replace(event, source=source.name, settings=settings)


def _stores(site: Site) -> list[Machine]:
    return [
        *programs("recorder")(site),
        *(machine for machine in site.machines if machine.program == "cloud"),
    ]


@contextlib.contextmanager
def _maintenance(lab: Lab, event: Event) -> Iterator[None]:
    """Registers are read and a few written; somebody looks around by SSH on a machine that has
    it."""
    machine = lab.machine(event.target)
    where = [
        "maintain",
        machine.address,
        open_port(machine),
        event.strength,
        "--unit",
        event.settings["unit"],
    ]
    with contextlib.ExitStack() as stack:
        for host in event.settings["also"]:
            stack.enter_context(_shell(lab, event.source, host))
        calls = ours("modbus", *where, "--registers", machine.settings.get("registers", 11))
        stack.enter_context(running(lab, event.source, calls))
        yield


@contextlib.contextmanager
def _shell(lab: Lab, name: str, host: str) -> Iterator[None]:
    """An SSH session in which a command is typed every few seconds."""
    machine = lab.machine(host)
    with tempfile.TemporaryDirectory(dir=lab.folder) as own:
        key = Path(own) / "key"
        key.touch(0o600)
        key.write_text(machine.settings["ssh_key"])
        typed = f"bash -c {shlex.quote(f'while :; do {_SHELL}; done')}"
        with running(lab, name, unheard([*_SSH, "-i", str(key), f"root@{machine.address}", typed])):
            yield


def _maintained(event: Event, dice: Dice) -> Event:
    """A controller, and now and then a machine with SSH as well."""
    drawn = _by_engineer(event, dice)
    hosts = [
        m.name
        for m in dice.site.machines
        if "ssh_key" in m.settings and m.name != drawn.source and not m.beyond
    ]
    also = [dice.pick(hosts)] if hosts and dice.chance(0.7) else []
    looked = f", and looks around on {also[0]} by SSH" if also else ""
    return replace(drawn, settings={**drawn.settings, "also": also, "looked": looked})


def _by_engineer(event: Event, dice: Dice) -> Event:
    source = dice.pick(programs("workstation")(dice.site))
    settings = dice.site.named(event.target).settings
    unit = int(dice.pick(settings.get("units") or [settings.get("unit", 1)]))
    return replace(event, source=source.name, settings={"unit": unit})


@contextlib.contextmanager
def _engineer_scan(lab: Lab, event: Event) -> Iterator[None]:
    machine = lab.machine(event.target)
    speed = ["--max-rate", f"{event.strength:g}"]
    ports = f"1-{max(open_port(machine), round(event.strength * event.length_s * 0.8))}"
    with running(
        lab, event.source, ["nmap", "-n", "-Pn", "-v0", "-sT", *speed, "-p", ports, machine.address]
    ):
        yield


ROUTINES = {
    "dead_cloud": Kind(
        "normal",
        outward,
        _dead_cloud,
        "the service {cloud} of {target} has been shut down and {how}; {target} backs off",
        _callers,
        least_s=60,
        complete=_its_cloud,
    ),
    "device_joins": Kind(
        "normal",
        programs("sensor", "hmi"),
        _device_joins,
        "{target} has been plugged in at {address} and is set as {model} is",
        alone,
        complete=_like,
        stays=True,
    ),
    "firmware_upload": Kind(
        "normal",
        _CONTROLLERS,
        _bulk,
        "{source} uploads {strength:.0f} kB of firmware to {target}",
        attacker_and_attacked,
        strength=(150, 1500),
        complete=_uploaded,
    ),
    "backup": Kind(
        "normal",
        _stores,
        _bulk,
        "{source} sends its backup of {strength:.0f} kB to {target}",
        attacker_and_attacked,
        strength=(2000, 30000),
        complete=_backed_up,
    ),
    "maintenance": Kind(
        "normal",
        _CONTROLLERS,
        _maintenance,
        "the engineer at {source} maintains {target}: reads its registers and sets a few{looked}",
        attacker_and_attacked,
        strength=(0.5, 5),
        complete=_maintained,
    ),
    "engineer_scan": Kind(
        "normal",
        _CONTROLLERS,
        _engineer_scan,
        "the engineer at {source} runs nmap against {target} during maintenance",
        attacker_and_attacked,
        strength=(5, 60),
        complete=_by_engineer,
    ),
}
