"""Outages: a program crashes, hangs or refuses, and the machine under it lives on."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from eval.testbed.calls import servers
from eval.testbed.dice import Dice
from eval.testbed.events.actions import connected, open_port, reset
from eval.testbed.events.event import Event, Kind
from eval.testbed.events.participants import (
    alone,
    asked_and_askers,
    broker_and_shut_out,
    controller_and_refused,
    crashed_and_clients,
    resolver_and_misled,
)
from eval.testbed.events.participants import running as programs
from eval.testbed.lab import Lab

__all__ = ["OUTAGES"]

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
    with _service_crashed(lab, event) if event.settings["crashed"] else reset(lab, event.target, mute=True):
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

    That is ``service_down``, not ``misconfiguration``, even where it says "bad user name or password": the clients
    are set as they always were, every one of them is refused at once, and the remedy is at the broker. Gives whom it
    had let in by the end.
    """
    changes = (
        {"users": {"spare": "spare"}} if event.settings["users_lost"] else {"max_connections": event.settings["room"]}
    )
    measured: dict[str, Any] = {}
    with reset(lab, event.target, **changes):
        yield measured
        measured["let_in"] = (
            [] if event.settings["users_lost"] else connected(event.target, open_port(lab.machine(event.target)))
        )


def _no_room(event: Event, dice: Dice) -> Event:
    room, lost = dice.whole(1, 3), dice.chance(0.5)
    how = "has lost its list of users and refuses everybody" if lost else f"has room for {room} clients only"
    return replace(event, settings={"users_lost": lost, "room": room, "how": how})


def _exception_storm(lab: Lab, event: Event) -> contextlib.AbstractContextManager[None]:
    """A controller that answers with exceptions: 4, device failure, or 0x0B from a gateway whose serial unit is dead.

    That is ``service_down``: the host lives, the requests are those it always answered, and now it refuses them. A
    client that asks for what never existed (``wrong_unit``) is the ``misconfiguration``.
    """
    dead = event.settings["dead"]
    return reset(lab, event.target, **({"dead": dead} if dead else {"exceptions": event.strength}))


def _failing(event: Event, dice: Dice) -> Event:
    units = dice.site.named(event.target).settings.get("units", [])
    dead = dice.some(list(units), dice.whole(1, max(1, len(units) // 2))) if units else []
    what = f"every request for unit {' and '.join(map(str, dead))}" if dead else f"{event.strength:.0%} of its requests"
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
