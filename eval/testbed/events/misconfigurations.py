"""Misconfigurations: somebody typed the wrong address, gateway, port, unit or password, or gave an
address twice."""

import contextlib
import ipaddress
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from eval.testbed.events.actions import open_port, ours, plugged_in, reset, running
from eval.testbed.events.event import Blame, Event, Kind
from eval.testbed.events.participants import (
    device_and_clients,
    device_and_server,
    misled_and_its_server,
    moved_and_peers,
    outward,
    servers,
)
from eval.testbed.events.participants import running as programs
from eval.testbed.generator import Dice
from eval.testbed.lab import Lab
from eval.testbed.site import ROUTER, Machine, Site

_LABEL = "misconfiguration"
_POLLING = ("hmi", "historian")
_PUBLISHING = ("sensor", "edge")


@contextlib.contextmanager
def _wrong_address(lab: Lab, event: Event) -> Iterator[None]:
    """An address of another network: its packets leave, answers to it do not come back."""
    site, own = lab.site, lab.machine(event.target).address
    try:
        lab.address(event.target, event.settings["address"], site.gateway)
        lab.start(event.target)
        yield
    finally:
        lab.address(event.target, own, site.gateway)
        lab.start(event.target)


def _mistyped(event: Event, dice: Dice) -> Event:
    """One wrong digit group, so that the address lies outside the plant's network."""
    own = ipaddress.ip_address(dice.site.named(event.target).address)
    network = ipaddress.ip_network(dice.site.network)
    while (wrong := own + 256 * dice.whole(-40, 40)) in network or not wrong.is_private:
        continue
    return replace(event, settings={"address": str(wrong)})


def _both_addresses(site: Site, event: Event) -> list[Blame]:
    """The device shows it under its wrong address, and by its silence under its own."""
    return [Blame(event.target, "source", event.settings["address"]), *moved_and_peers(site, event)]


@contextlib.contextmanager
def _wrong_gateway(lab: Lab, event: Event) -> Iterator[None]:
    own = lab.machine(event.target).address
    try:
        lab.address(event.target, own, event.settings["gateway"])
        yield
    finally:
        lab.address(event.target, own, lab.site.gateway)


def _not_the_router(event: Event, dice: Dice) -> Event:
    """An address that nobody has, or that of a machine that forwards nothing."""
    others = [
        m for m in dice.site.machines if not m.beyond and m.name not in (event.target, ROUTER)
    ]
    host = dice.pick(others) if dice.chance(0.5) else None
    wrong = host.address if host else dice.address()
    whose = f"that of {host.name}" if host else "which nobody has"
    return replace(
        event, settings={"gateway": wrong, "server": host.name if host else "", "whose": whose}
    )


def _calls_wrongly(lab: Lab, event: Event) -> contextlib.AbstractContextManager[None]:
    """Restart the target with its one wrong entry."""
    machine, wrong = lab.machine(event.target), event.settings["wrong"]
    if "entry" not in event.settings:
        return reset(lab, event.target, **wrong)
    polled: list[dict[str, Any]] = [dict(entry) for entry in machine.settings["polled"]]
    polled[event.settings["entry"]].update(wrong)
    return reset(lab, event.target, polled=polled)


def _chosen(event: Event, dice: Dice) -> Event:
    """Which of its servers the target has a wrong entry for."""
    machine = dice.site.named(event.target)
    if "polled" not in machine.settings:
        return replace(event, settings={"server": machine.settings["broker"]})
    entry = dice.whole(0, len(machine.settings["polled"]) - 1)
    return replace(
        event, settings={"server": machine.settings["polled"][entry]["name"], "entry": entry}
    )


def _with(event: Event, **wrong: Any) -> Event:
    return replace(event, settings={**event.settings, "wrong": wrong})


def _other_port(event: Event, dice: Dice) -> Event:
    chosen = _chosen(event, dice)
    right = open_port(dice.site.named(chosen.settings["server"]))
    wrong = dice.pick([right + 1, right - 1, 10 * right % 65536, 8080, 8883, 20000])
    return _with(chosen, port=wrong)


def _other_unit(event: Event, dice: Dice) -> Event:
    chosen = _chosen(event, dice)
    server = dice.site.named(chosen.settings["server"])
    known = [*server.settings.get("units", []), server.settings.get("unit", 1)]
    return _with(chosen, unit=dice.pick([unit for unit in range(1, 248) if unit not in known]))


def _nobodys_address(event: Event, dice: Dice) -> Event:
    """Its server is somewhere else, it believes; nobody is there."""
    chosen = _chosen(event, dice)
    key = "name" if "entry" in chosen.settings else "broker"
    meant = chosen.settings["server"]
    wrong = _with(chosen, **{key: dice.address()})
    return replace(
        wrong,
        settings={
            **wrong.settings,
            "server": "",
            "meant": meant,
            "address": wrong.settings["wrong"][key],
        },
    )


def _other_password(event: Event, dice: Dice) -> Event:
    return _with(
        _chosen(event, dice),
        password=f"{dice.pick(['summer', 'plant', 'sensor', 'line'])}{dice.whole(1, 99)}",
    )


@contextlib.contextmanager
def _duplicate_address(lab: Lab, event: Event) -> Iterator[None]:
    """A second machine with the address: it announces it now and then, answers ARP for it, and
    calls somebody."""
    (copy,) = event.added
    called = lab.machine(event.settings["called"])
    with (
        plugged_in(lab, event.added),
        running(lab, copy.name, ours("arp", event.strength, copy.address)),
        running(
            lab,
            copy.name,
            ours(
                "tcp", "beacon", called.address, open_port(called), event.strength, "--jitter", 0.3
            ),
        ),
    ):
        yield


def _copied(event: Event, dice: Dice) -> Event:
    copy = replace(dice.newcomer("copy", "copy"), address=dice.site.named(event.target).address)
    others = programs("broker", "plc", "recorder")(dice.site)
    called = dice.pick([machine for machine in others if machine.name != event.target])
    return replace(event, added=(copy,), settings={"called": called.name, "mac": copy.mac})


def _served(site: Site) -> list[Machine]:
    return programs("plc", "modbus_gateway", "broker", "camera", "sensor", "hmi")(site)


def _calling(site: Site) -> list[Machine]:
    return [
        machine for machine in programs(*_PUBLISHING, *_POLLING)(site) if servers(site, machine)
    ]


MISTAKES = {
    "wrong_address": Kind(
        _LABEL,
        _calling,
        _wrong_address,
        "{target} has been given the address {address} of another network",
        _both_addresses,
        complete=_mistyped,
    ),
    "wrong_gateway": Kind(
        _LABEL,
        outward,
        _wrong_gateway,
        "{target} has the wrong gateway {gateway}, {whose}",
        misled_and_its_server,
        least_s=45,
        complete=_not_the_router,
    ),
    "wrong_server": Kind(
        _LABEL,
        _calling,
        _calls_wrongly,
        "{target} looks for {meant} at {address}, which nobody has",
        device_and_server,
        complete=_nobodys_address,
    ),
    "wrong_port": Kind(
        _LABEL,
        _calling,
        _calls_wrongly,
        "{target} calls port {wrong[port]} of {server}, which is the wrong one",
        device_and_server,
        complete=_other_port,
    ),
    "wrong_unit": Kind(
        _LABEL,
        programs(*_POLLING),
        _calls_wrongly,
        "{target} asks {server} for unit {wrong[unit]}, which does not exist",
        device_and_server,
        complete=_other_unit,
    ),
    "wrong_password": Kind(
        _LABEL,
        programs(*_PUBLISHING),
        _calls_wrongly,
        "{target} has the wrong password for {server}",
        device_and_server,
        complete=_other_password,
    ),
    "duplicate_address": Kind(
        _LABEL,
        _served,
        _duplicate_address,
        "a second machine, {mac}, uses the address of {target}",
        device_and_clients,
        strength=(3, 15),
        complete=_copied,
    ),
}
