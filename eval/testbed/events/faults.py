"""Faults of cables and power: what breaks without anybody's doing, and can be seen on the wire."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from eval.testbed.events.actions import (
    carried_kbit,
    connected,
    open_port,
    ours,
    reset,
    running,
    shaky,
)
from eval.testbed.events.event import Event, Kind
from eval.testbed.events.participants import (
    alone,
    asked_and_askers,
    broker_and_shut_out,
    cable_and_peers,
    clients,
    controller_and_refused,
    crashed_and_clients,
    device_and_clients,
    flapping_and_clients,
    group_and_clients,
    lossy_and_peers,
    resolver_and_misled,
    sender_and_shared,
    servers,
)
from eval.testbed.events.participants import running as programs
from eval.testbed.generator import Dice
from eval.testbed.lab import Lab
from eval.testbed.site import ROUTER, Machine, Site

# Outages: a program crashes, hangs or refuses, and the machine under it lives on.

_CONTROLLERS = ("plc", "modbus_gateway")
_SERVERS = (*_CONTROLLERS, "broker", "recorder", "opcua_server")


@contextlib.contextmanager
def _service_crashed(lab: Lab, event: Event) -> Iterator[None]:
    try:
        lab.stop(event.target)
        yield
    finally:
        lab.start(event.target)


@contextlib.contextmanager
def _dns_outage(lab: Lab, event: Event) -> Iterator[None]:
    with (
        _service_crashed(lab, event)
        if event.settings["crashed"]
        else reset(lab, event.target, mute=True)
    ):
        yield


def _dead_or_mute(event: Event, dice: Dice) -> Event:
    crashed = dice.chance(0.5)
    how = "has crashed" if crashed else "runs and answers nothing"
    return replace(event, settings={"crashed": crashed, "how": how})


def _dns_wrong(lab: Lab, event: Event) -> contextlib.AbstractContextManager[None]:
    return reset(lab, event.target, answers=event.settings["answers"])


def _wrong_answers(event: Event, dice: Dice) -> Event:
    """Addresses that nobody has, for most of the names that are asked for."""
    called = [server for machine in dice.site.machines for server in servers(dice.site, machine)]
    beyond = dice.site.named(event.target).settings.get("names", {})
    names = [*dict.fromkeys(server.name for server in called if not server.beyond), *beyond]
    wrong = dice.some(names, max(1, round(len(names) * dice.even(0.4, 1.0))))
    answers = {name: dice.address(beyond=name in beyond) for name in wrong}
    return replace(event, settings={"answers": answers, "count": len(answers)})


@contextlib.contextmanager
def _broker_refuses(lab: Lab, event: Event) -> Iterator[dict[str, Any]]:
    """A broker that turns its clients away: no room left, or its list of users lost.

    That is ``service_down``, not ``misconfiguration``, even where it says "bad user name or
    password": the clients are set as they always were, every one of them is refused at once, and
    the remedy is at the broker. Gives whom it had let in by the end.
    """
    changes = (
        {"users": {"spare": "spare"}}
        if event.settings["users_lost"]
        else {"max_connections": event.settings["room"]}
    )
    measured: dict[str, Any] = {}
    with reset(lab, event.target, **changes):
        yield measured
        measured["let_in"] = (
            []
            if event.settings["users_lost"]
            else connected(event.target, open_port(lab.machine(event.target)))
        )


def _no_room(event: Event, dice: Dice) -> Event:
    room, lost = dice.whole(1, 3), dice.chance(0.5)
    how = (
        "has lost its list of users and refuses everybody"
        if lost
        else f"has room for {room} clients only"
    )
    return replace(event, settings={"users_lost": lost, "room": room, "how": how})


def _exception_storm(lab: Lab, event: Event) -> contextlib.AbstractContextManager[None]:
    """A controller that answers with exceptions: 4, device failure, or 0x0B from a gateway whose
    serial unit is dead.

    That is ``service_down``: the host lives, the requests are those it always answered, and now it
    refuses them. A client that asks for what never existed (``wrong_unit``) is the
    ``misconfiguration``.
    """
    dead = event.settings["dead"]
    return reset(lab, event.target, **({"dead": dead} if dead else {"exceptions": event.strength}))


def _failing(event: Event, dice: Dice) -> Event:
    units = dice.site.named(event.target).settings.get("units", [])
    dead = dice.some(list(units), dice.whole(1, max(1, len(units) // 2))) if units else []
    what = (
        f"every request for unit {' and '.join(map(str, dead))}"
        if dead
        else f"{event.strength:.0%} of its requests"
    )
    return replace(event, settings={"dead": dead, "what": what})


@contextlib.contextmanager
def _frozen(lab: Lab, event: Event) -> Iterator[None]:
    try:
        lab.pause(event.target)
        yield
    finally:
        lab.pause(event.target, False)


OUTAGES = {
    "service_crashed": Kind(
        "service_down",
        programs(*_SERVERS),
        _service_crashed,
        "the program of {target} has crashed and its port refuses",
        crashed_and_clients,
    ),
    "clock_gone": Kind(
        "service_down",
        programs("ntp"),
        _service_crashed,
        "the time server {target} has crashed",
        asked_and_askers,
        least_s=60,
    ),
    "broker_refuses": Kind(
        "service_down",
        programs("broker"),
        _broker_refuses,
        "the broker {target} {how}",
        broker_and_shut_out,
        complete=_no_room,
    ),
    "exception_storm": Kind(
        "service_down",
        programs(*_CONTROLLERS),
        _exception_storm,
        "{target} answers {what} with Modbus exceptions",
        controller_and_refused,
        strength=(0.1, 1.0),
        complete=_failing,
    ),
    "dns_outage": Kind(
        "name_resolution",
        programs("dns"),
        _dns_outage,
        "the resolver {target} {how}",
        asked_and_askers,
        complete=_dead_or_mute,
    ),
    "dns_wrong": Kind(
        "name_resolution",
        programs("dns"),
        _dns_wrong,
        "the resolver {target} gives addresses that nobody has for {count} names",
        resolver_and_misled,
        complete=_wrong_answers,
    ),
    "silent_sensor": Kind(
        "device_silent",
        programs("sensor"),
        _frozen,
        "the program of {target} hangs and says nothing more",
        alone,
        least_s=45,
    ),
}

_SHARED = ("plc", "modbus_gateway", "broker", "recorder", "opcua_server", "hmi", "historian")
_SENDERS = ("workstation", "historian", "recorder", "edge", "hmi")
_RARE = ("dns", "ntp", "workstation", "")
_BULK_PORT = 5001


def _talking(site: Site) -> list[Machine]:
    """The machines of the plant that call somebody, or are called, so often that they are missed at
    once."""
    own = [m for m in site.machines if not m.beyond and m.name != ROUTER and m.program not in _RARE]
    return [machine for machine in own if servers(site, machine) or clients(site, machine.name)]


@contextlib.contextmanager
def _powered_off(lab: Lab, event: Event) -> Iterator[None]:
    try:
        lab.link(event.target, False)  # before its kernel can say good-bye
        lab.stop(event.target)
        yield
    finally:
        lab.link(event.target, True)
        lab.start(event.target)


@contextlib.contextmanager
def _packet_loss(lab: Lab, event: Event) -> Iterator[dict[str, Any]]:
    """Gives how many packets the cable lost, by the address at the other end."""
    measured: dict[str, Any] = {}
    try:
        lab.lose(event.target, event.strength)
        yield measured
    finally:
        measured["dropped"] = lab.lost(event.target)
        lab.lose(event.target, 0)


@contextlib.contextmanager
def _slow_link(lab: Lab, event: Event) -> Iterator[None]:
    """A cable with less room than its traffic needs, so that it queues and overflows."""
    try:
        lab.limit(event.target, max(6.0, event.strength * carried_kbit(event.target)))
        yield
    finally:
        lab.limit(event.target, 0)


@contextlib.contextmanager
def _congestion(lab: Lab, event: Event) -> Iterator[None]:
    """Half as much again as the target's cable can carry, from one sender."""
    address = lab.machine(event.target).address
    try:
        lab.limit(event.target, event.strength)
        with (
            running(lab, event.target, ours("tcp", "listen", _BULK_PORT)),
            running(
                lab, event.source, ours("tcp", "bulk", address, _BULK_PORT, 1.5 * event.strength)
            ),
        ):
            yield
    finally:
        lab.limit(event.target, 0)


def _with_sender(event: Event, dice: Dice) -> Event:
    others = [machine for machine in programs(*_SENDERS)(dice.site) if machine.name != event.target]
    return replace(event, source=dice.pick(others).name)


def _flapping(lab: Lab, event: Event) -> contextlib.AbstractContextManager[None]:
    return shaky(lambda up: lab.link(event.target, up), event.settings["pauses_s"])


def _loose(event: Event, dice: Dice) -> Event:
    """Off and on at least three times; seconds up as its strength says, about half as long down."""
    up_s = min(event.strength, event.length_s / 5)
    pauses_s: list[float] = []
    while sum(pauses_s) < event.length_s:
        pauses_s += [round(up_s * dice.even(0.3, 0.8), 1), round(up_s * dice.even(0.5, 1.5), 1)]
    return replace(event, settings={"pauses_s": pauses_s, "times": len(pauses_s) // 2})


@contextlib.contextmanager
def _switch_down(lab: Lab, event: Event) -> Iterator[None]:
    group = [event.target, *event.settings["also"]]
    try:
        for name in group:
            lab.link(name, False)
        yield
    finally:
        for name in group:
            lab.link(name, True)


def _on_one_switch(event: Event, dice: Dice) -> Event:
    """Its neighbours: those on the same small switch where a site has several, else any three to
    five machines."""
    site = dice.site
    own = [machine for machine in _talking(site) if machine.name != event.target]
    near = [machine for machine in own if machine.switch == site.named(event.target).switch]
    group = near if 2 <= len(near) <= 6 else dice.some(own, dice.whole(2, 4))
    names = [machine.name for machine in group]
    return replace(event, settings={"also": names, "listed": ", ".join([event.target, *names])})


FAULTS = {
    "powered_off": Kind(
        "device_silent", _talking, _powered_off, "{target} has no power", device_and_clients
    ),
    "switch_down": Kind(
        "device_silent",
        _talking,
        _switch_down,
        "the switch of {listed} is down",
        group_and_clients,
        complete=_on_one_switch,
    ),
    "packet_loss": Kind(
        "packet_loss",
        _talking,
        _packet_loss,
        "the cable of {target} loses {strength:.1%} of its packets each way",
        lossy_and_peers,
        strength=(0.01, 0.4),
    ),
    "slow_link": Kind(
        "congestion",
        programs(
            "camera", "recorder"
        ),  # others say so little that the slowest cable is room enough
        _slow_link,
        "the cable of {target} carries only {strength:.0%} of what it needs",
        cable_and_peers,
        strength=(0.2, 0.8),
    ),
    "congestion": Kind(
        "congestion",
        programs(*_SHARED),
        _congestion,
        "{source} fills the cable of {target}, which carries {strength:.0f} kbit/s",
        sender_and_shared,
        strength=(300, 2500),
        complete=_with_sender,
    ),
    "flapping": Kind(
        "flapping",
        _talking,
        _flapping,
        "the cable of {target} is loose: off and on {times} times",
        flapping_and_clients,
        strength=(4, 30),
        complete=_loose,
    ),
}
