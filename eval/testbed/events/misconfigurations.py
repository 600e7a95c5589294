"""Misconfigurations: wrong addresses, gateways, ports, units, passwords; an address given twice."""

import contextlib
import ipaddress
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from eval.testbed.events import actions, participants
from eval.testbed.events.actions import open_port, settings_changed, tool_command, tool_running
from eval.testbed.events.event import Event, EventKind, Participant
from eval.testbed.events.participants import device_and_server, machines_running, servers
from eval.testbed.generator import SiteRandom
from eval.testbed.lab import Lab
from eval.testbed.site import ROUTER, Machine, Site

_LABEL = "misconfiguration"
_POLLING = ("hmi", "historian")
_PUBLISHING = ("sensor", "edge")


# ---- Addresses and gateways ----


@contextlib.contextmanager
def _wrong_address(lab: Lab, event: Event) -> Iterator[None]:
    """An address of another network: its packets leave, answers to it do not come back."""
    own = lab.machine(event.target).address
    try:
        lab.address(event.target, event.settings["address"], lab.site.gateway)
        lab.start(event.target)
        yield
    finally:
        lab.address(event.target, own, lab.site.gateway)
        lab.start(event.target)


def _draw_wrong_address(event: Event, rng: SiteRandom) -> Event:
    """One wrong digit group, so that the address lies outside the plant's network."""
    own = ipaddress.ip_address(rng.site.named(event.target).address)
    network = ipaddress.ip_network(rng.site.network)
    # Private, since a device is known by that: truth about a public address would be a peer's.
    while (wrong := own + 256 * rng.randint(-40, 40)) in network or not wrong.is_private:
        continue
    return replace(event, settings={"address": str(wrong)})


def _at_both_addresses(site: Site, event: Event) -> list[Participant]:
    """The device shows it under its wrong address, and by its silence under its own."""
    wrong = Participant(event.target, "source", event.settings["address"])
    return [wrong, *participants.moved_and_peers(site, event)]


@contextlib.contextmanager
def _wrong_gateway(lab: Lab, event: Event) -> Iterator[None]:
    own = lab.machine(event.target).address
    try:
        lab.address(event.target, own, event.settings["gateway"])
        yield
    finally:
        lab.address(event.target, own, lab.site.gateway)


def _draw_wrong_gateway(event: Event, rng: SiteRandom) -> Event:
    """An address that nobody has, or that of a machine that forwards nothing."""
    others = [one for one in rng.site.inside if one.name not in (event.target, ROUTER)]
    host = rng.choice(others) if rng.chance(0.5) else None
    if host:
        wrong = {"gateway": host.address, "server": host.name, "whose": f"that of {host.name}"}
    else:
        wrong = {"gateway": rng.free_address(), "server": "", "whose": "which nobody has"}
    return replace(event, settings=wrong)


@contextlib.contextmanager
def _duplicate_address(lab: Lab, event: Event) -> Iterator[None]:
    """A second machine with the address announces it, answers ARP for it, and calls somebody."""
    (copy,) = event.added
    called = lab.machine(event.settings["called"])
    claim = tool_command("arp", event.strength, copy.address)
    where = (called.address, open_port(called), event.strength)
    call = tool_command("tcp", "beacon", *where, "--jitter", 0.3)
    with (
        actions.machines_added(lab, event.added),
        tool_running(lab, copy.name, claim),
        tool_running(lab, copy.name, call),
    ):
        yield


def _draw_copy(event: Event, rng: SiteRandom) -> Event:
    address = rng.site.named(event.target).address
    copy = replace(rng.new_machine("copy", "copy"), address=address)
    others = machines_running("broker", "plc", "recorder")(rng.site)
    called = rng.choice([machine for machine in others if machine.name != event.target])
    return replace(event, added=(copy,), settings={"called": called.name, "mac": copy.mac})


# ---- Wrong entries: a client calls the wrong place, or asks for the wrong thing ----


def _wrong_entry(lab: Lab, event: Event) -> contextlib.AbstractContextManager[None]:
    """Restart the target with its one wrong entry."""
    wrong = event.settings["wrong"]
    if "entry" not in event.settings:
        return settings_changed(lab, event.target, **wrong)
    settings = lab.machine(event.target).settings
    polled: list[dict[str, Any]] = [dict(entry) for entry in settings["polled"]]
    polled[event.settings["entry"]].update(wrong)
    return settings_changed(lab, event.target, polled=polled)


def _draw_server(event: Event, rng: SiteRandom) -> Event:
    """For which of its servers the target has a wrong entry."""
    settings = rng.site.named(event.target).settings
    if "polled" not in settings:
        return replace(event, settings={"server": settings["broker"]})
    entry = rng.randint(0, len(settings["polled"]) - 1)
    return replace(event, settings={"server": settings["polled"][entry]["name"], "entry": entry})


def _with_settings(event: Event, **more: Any) -> Event:
    return replace(event, settings={**event.settings, **more})


def _draw_wrong_port(event: Event, rng: SiteRandom) -> Event:
    event = _draw_server(event, rng)
    right = open_port(rng.site.named(event.settings["server"]))
    wrong = rng.choice([right + 1, right - 1, 10 * right % 65536, 8080, 8883, 20000])
    return _with_settings(event, wrong={"port": wrong})


def _draw_wrong_unit(event: Event, rng: SiteRandom) -> Event:
    event = _draw_server(event, rng)
    server = rng.site.named(event.settings["server"])
    known = [*server.settings.get("units", []), server.settings.get("unit", 1)]
    wrong = rng.choice([unit for unit in range(1, 248) if unit not in known])
    return _with_settings(event, wrong={"unit": wrong})


def _draw_wrong_server(event: Event, rng: SiteRandom) -> Event:
    """Its server is somewhere else, it believes; nobody is there."""
    event = _draw_server(event, rng)
    key, address = "name" if "entry" in event.settings else "broker", rng.free_address()
    meant = event.settings["server"]
    return _with_settings(event, wrong={key: address}, server="", meant=meant, address=address)


def _draw_wrong_password(event: Event, rng: SiteRandom) -> Event:
    event = _draw_server(event, rng)
    wrong = f"{rng.choice(['summer', 'plant', 'sensor', 'line'])}{rng.randint(1, 99)}"
    return _with_settings(event, wrong={"password": wrong})


def _draw_client_id(event: Event, rng: SiteRandom) -> Event:
    """The client id of another sensor: the broker ends the session of whoever came before."""
    others = [one for one in machines_running("sensor")(rng.site) if one.name != event.target]
    other = rng.choice(others).name
    return replace(event, settings={"server": other, "wrong": {"client_id": other}})


def _clients_of_somebody(site: Site) -> list[Machine]:
    machines = machines_running(*_PUBLISHING, *_POLLING)(site)
    return [machine for machine in machines if servers(site, machine)]


# fmt: off
MISCONFIGURATIONS = {
    "wrong_address": EventKind(
        _LABEL, _clients_of_somebody, _wrong_address, _at_both_addresses,
        "{target} has been given the address {address} of another network",
        draw=_draw_wrong_address),
    "wrong_gateway": EventKind(
        _LABEL, participants.outward, _wrong_gateway, participants.misled_and_its_server,
        "{target} has the wrong gateway {gateway}, {whose}", least_s=45, draw=_draw_wrong_gateway),
    "wrong_server": EventKind(
        _LABEL, _clients_of_somebody, _wrong_entry, device_and_server,
        "{target} looks for {meant} at {address}, which nobody has", draw=_draw_wrong_server),
    "wrong_port": EventKind(
        _LABEL, _clients_of_somebody, _wrong_entry, device_and_server,
        "{target} calls port {wrong[port]} of {server}, which is the wrong one",
        draw=_draw_wrong_port),
    "wrong_unit": EventKind(
        _LABEL, machines_running(*_POLLING), _wrong_entry, device_and_server,
        "{target} asks {server} for unit {wrong[unit]}, which does not exist",
        draw=_draw_wrong_unit),
    "wrong_password": EventKind(
        _LABEL, machines_running(*_PUBLISHING), _wrong_entry, device_and_server,
        "{target} has the wrong password for {server}", draw=_draw_wrong_password),
    "client_id_twice": EventKind(
        _LABEL, machines_running("sensor"), _wrong_entry, device_and_server,
        "{target} has been given the MQTT client id of {server}", least_s=60,
        draw=_draw_client_id),
    "duplicate_address": EventKind(
        _LABEL, machines_running("plc", "modbus_gateway", "broker", "camera", "sensor", "hmi"),
        _duplicate_address, participants.device_and_clients,
        "a second machine, {mac}, uses the address of {target}", (3, 15), draw=_draw_copy),
}
# fmt: on
