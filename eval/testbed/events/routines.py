"""Routines that only look like trouble: a newcomer, a backup, maintenance, a cloud shut down."""

import contextlib
import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from eval.testbed.events import actions, participants
from eval.testbed.events.actions import open_port, tool_running
from eval.testbed.events.attacks import draw_unit, modbus_command
from eval.testbed.events.event import Event, EventKind, Participant
from eval.testbed.events.participants import alone, attackers_and_victims, machines_running
from eval.testbed.generator import SiteRandom
from eval.testbed.lab import Lab
from eval.testbed.site import Machine, Site

_CONTROLLERS = machines_running("plc", "modbus_gateway")
_NO_HOST_KEYS = "-oStrictHostKeyChecking=no -oUserKnownHostsFile=/dev/null -oBatchMode=yes"
_SSH = ["ssh", "-F", "/dev/null", *_NO_HOST_KEYS.split()]
_SHELL = "head -c $((RANDOM % 8000)) /dev/urandom | base64; sleep $((1 + RANDOM % 5))"


@contextlib.contextmanager
def _dead_cloud(lab: Lab, event: Event) -> Iterator[None]:
    """The service beyond the router is shut down: its port refuses, or nobody is there any more."""
    name = event.settings["cloud"]
    try:
        lab.stop(name)
        if not event.settings["refuses"]:
            lab.link(name, False)
        yield
    finally:
        lab.link(name, True)
        lab.start(name)


def _callers(site: Site, event: Event) -> list[Participant]:
    """All that call the service see the same."""
    callers = participants.clients(site, event.settings["cloud"])
    others = [machine for machine in callers if machine.name != event.target]
    return [*alone(site, event), *(Participant(m.name, "source", m.address) for m in others)]


def _draw_cloud(event: Event, rng: SiteRandom) -> Event:
    called = participants.servers(rng.site, rng.site.named(event.target))
    refuses = rng.chance(0.5)
    how = "refuses" if refuses else "does not answer"
    cloud = rng.choice([server for server in called if server.beyond]).name
    return replace(event, settings={"cloud": cloud, "refuses": refuses, "how": how})


def _draw_newcomer(event: Event, rng: SiteRandom) -> Event:
    """A newcomer set as a machine of the plant is, with an address of its own."""
    model = rng.site.named(event.target)
    settings = dict(model.settings)
    if "topic" in settings:
        settings["topic"] = f"{settings['topic']}/new"
    name = f"new-{model.program}"[:10]
    new = rng.new_machine(name, model.role, program=model.program, **settings)
    drawn = {"model": model.name, "address": new.address}
    return replace(event, target=new.name, added=(new,), settings=drawn)


def _draw_drive(event: Event, rng: SiteRandom) -> Event:
    """A drive that speaks EtherNet/IP, and the panel that reads it."""
    tags = {"SPEED": "DINT[20]", "TORQUE": "REAL[20]"}
    drive = rng.new_machine("drive", "drive", program="enip_server", tags=tags, port=44818)
    asked = ["SPEED[0-3]", "TORQUE[0-1]"]
    panel = rng.new_machine(
        "panel", "hmi", program="enip_client", server=drive.address, tags=asked, port=44818,
        poll_s=rng.choice([1.0, 2.0, 5.0]), retry={"first_s": 5.0, "factor": 1.0, "most_s": 5.0},
    )  # fmt: skip
    drawn = {"panel": panel.name, "address": drive.address}
    return replace(event, target=drive.name, added=(drive, panel), settings=drawn)


def _drive_and_panel(site: Site, event: Event) -> list[Participant]:
    panel = event.added[1]
    return [*alone(site, event), Participant(panel.name, "source", panel.address)]


def _bulk(lab: Lab, event: Event) -> contextlib.AbstractContextManager[None]:
    """So many kilobytes over TCP, as fast as makes them last for most of the event."""
    size_bytes, port = event.strength * 1000, event.settings["port"]
    kbit = size_bytes * 8 / 1000 / (event.length_s * event.settings["share"])
    ends = (event.source, event.target)
    return actions.bulk_running(lab, *ends, port, kbit, "--bytes", size_bytes)


def _draw_bulk(
    program: str, ports: list[int], share: tuple[float, float], event: Event, rng: SiteRandom
) -> Event:
    """From a machine that runs a program to one of some ports, for a share of the event's time."""
    source = rng.choice(machines_running(program)(rng.site))
    settings = {"port": rng.choice(ports), "share": rng.uniform(*share)}
    return replace(event, source=source.name, settings=settings)


def _stores(site: Site) -> list[Machine]:
    clouds = [machine for machine in site.machines if machine.program == "cloud"]
    return [*machines_running("recorder")(site), *clouds]


@contextlib.contextmanager
def _maintenance(lab: Lab, event: Event) -> Iterator[None]:
    """Registers are read and a few written; somebody looks around by SSH where there is any."""
    with contextlib.ExitStack() as stack:
        for host in event.settings["also"]:
            stack.enter_context(_ssh_session(lab, event.source, host))
        maintain = modbus_command(lab, event, "maintain")
        stack.enter_context(tool_running(lab, event.source, maintain))
        yield


@contextlib.contextmanager
def _ssh_session(lab: Lab, name: str, host: str) -> Iterator[None]:
    """An SSH session in which a command is typed every few seconds."""
    machine = lab.machine(host)
    with tempfile.TemporaryDirectory(dir=lab.folder) as folder:
        key = Path(folder) / "key"
        key.touch(0o600)
        key.write_text(machine.settings["ssh_key"])
        typed = f"bash -c {shlex.quote(f'while :; do {_SHELL}; done')}"
        session = actions.discard_output([*_SSH, "-i", str(key), f"root@{machine.address}", typed])
        with tool_running(lab, name, session):
            yield


def _draw_engineer(event: Event, rng: SiteRandom) -> Event:
    source = rng.choice(machines_running("workstation")(rng.site))
    return replace(event, source=source.name, settings={"unit": draw_unit(event, rng)})


def _draw_maintenance(event: Event, rng: SiteRandom) -> Event:
    """A controller, and now and then a machine with SSH as well."""
    drawn = _draw_engineer(event, rng)
    with_ssh = [one.name for one in rng.site.inside if "ssh_key" in one.settings]
    hosts = [name for name in with_ssh if name != drawn.source]
    also = [rng.choice(hosts)] if hosts and rng.chance(0.7) else []
    looked = f", and looks around on {also[0]} by SSH" if also else ""
    return replace(drawn, settings={**drawn.settings, "also": also, "looked": looked})


def _engineer_scan(lab: Lab, event: Event) -> contextlib.AbstractContextManager[None]:
    machine = lab.machine(event.target)
    ports = f"1-{max(open_port(machine), round(event.strength * event.length_s * 0.8))}"
    scan = ["nmap", "-n", "-Pn", "-v0", "-sT", "--max-rate", f"{event.strength:g}", "-p", ports]
    return tool_running(lab, event.source, [*scan, machine.address])


# fmt: off
ROUTINES = {
    "dead_cloud": EventKind(
        "normal", participants.outward, _dead_cloud, _callers,
        "the service {cloud} of {target} has been shut down and {how}; {target} backs off",
        least_s=60, draw=_draw_cloud),
    "device_joins": EventKind(
        "normal", machines_running("sensor", "hmi"),
        lambda lab, event: actions.machines_added(lab, event.added), alone,
        "{target} has been plugged in at {address} and is set as {model} is",
        draw=_draw_newcomer, permanent=True),
    "drive_joins": EventKind(
        "normal", _CONTROLLERS, lambda lab, event: actions.machines_added(lab, event.added),
        _drive_and_panel,
        "{target}, a drive with EtherNet/IP, has been plugged in at {address}, and {panel} reads it",
        draw=_draw_drive, permanent=True),
    "firmware_upload": EventKind(
        "normal", _CONTROLLERS, _bulk, attackers_and_victims,
        "{source} uploads {strength:.0f} kB of firmware to {target}", (150, 1500),
        draw=partial(_draw_bulk, "workstation", [21, 69, 8080, 20000, 11740], (0.3, 0.9))),
    "backup": EventKind(
        "normal", _stores, _bulk, attackers_and_victims,
        "{source} sends its backup of {strength:.0f} kB to {target}", (2000, 30000),
        draw=partial(_draw_bulk, "historian", [22, 445, 873, 2049], (0.5, 0.95))),
    "maintenance": EventKind(
        "normal", _CONTROLLERS, _maintenance, attackers_and_victims,
        "the engineer at {source} maintains {target}: reads its registers and sets a few{looked}",
        (0.5, 5), draw=_draw_maintenance),
    "engineer_scan": EventKind(
        "normal", _CONTROLLERS, _engineer_scan, attackers_and_victims,
        "the engineer at {source} runs nmap against {target} during maintenance", (5, 60),
        draw=_draw_engineer),
}
# fmt: on
