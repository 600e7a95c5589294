"""Faults: cables and power that fail, and programs that crash, hang or refuse."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from eval.testbed.events import participants
from eval.testbed.events.actions import (
    bulk_running,
    open_port,
    program_paused,
    program_stopped,
    settings_changed,
    unplugged,
    unstable_link,
)
from eval.testbed.events.event import Event, EventKind
from eval.testbed.events.participants import clients, device_and_clients, machines_running, servers
from eval.testbed.generator import SiteRandom
from eval.testbed.lab import Lab
from eval.testbed.site import ROUTER, Machine, Site

_CONTROLLERS = ("plc", "modbus_gateway")
_SERVERS = (*_CONTROLLERS, "broker", "recorder", "opcua_server", "s7_server")
_SENDERS = ("workstation", "historian", "recorder", "edge", "hmi")
_RARELY_ASKED = ("dns", "ntp", "workstation", "")
_BULK_PORT = 5001
_BEHIND = 1502  # where a controller serves that has something before it
# Illegal function, address, value, device failure, busy; MODBUS Application Protocol 1.1b3, 7.
_REFUSALS = (1, 2, 3, 4, 6)
_GATEWAY_NO_RESPONSE = 11


# ---- Outages: the machine under the program lives on ----


def _service_crashed(lab: Lab, event: Event) -> contextlib.AbstractContextManager[None]:
    return program_stopped(lab, event.target)


def _dns_outage(lab: Lab, event: Event) -> contextlib.AbstractContextManager[None]:
    if event.settings["crashed"]:
        return _service_crashed(lab, event)
    return settings_changed(lab, event.target, mute=True)


def _draw_dns_outage(event: Event, rng: SiteRandom) -> Event:
    crashed = rng.chance(0.5)
    how = "has crashed" if crashed else "runs and answers nothing"
    return replace(event, settings={"crashed": crashed, "how": how})


def _draw_wrong_answers(event: Event, rng: SiteRandom) -> Event:
    """Addresses that nobody has, for most of the names that are asked for."""
    called = [server for machine in rng.site.machines for server in servers(rng.site, machine)]
    beyond = rng.site.named(event.target).settings.get("names", {})
    names = [*dict.fromkeys(server.name for server in called if not server.beyond), *beyond]
    wrong = rng.some_of(names, max(1, round(len(names) * rng.uniform(0.4, 1.0))))
    answers = {name: rng.free_address(beyond=name in beyond) for name in wrong}
    return replace(event, settings={"answers": answers, "count": len(answers)})


@contextlib.contextmanager
def _broker_refuses(lab: Lab, event: Event) -> Iterator[dict[str, Any]]:
    """A broker that turns its clients away; gives whom it had let in by the end.

    That is ``service_down``, not ``misconfiguration``, even where it says "bad user name or
    password": the clients are set as they always were, every one of them is refused at once, and
    the remedy is at the broker.
    """
    lost, measured = event.settings["users_lost"], dict[str, Any]()
    changes = {"users": {"spare": "spare"}} if lost else {"max_connections": event.settings["room"]}
    with settings_changed(lab, event.target, **changes):
        yield measured
        port = open_port(lab.machine(event.target))
        measured["let_in"] = [] if lost else lab.connections(event.target, port)


def _draw_refusal(event: Event, rng: SiteRandom) -> Event:
    room, lost = rng.randint(1, 3), rng.chance(0.5)
    only = f"has room for {room} clients only"
    how = "has lost its list of users and refuses everybody" if lost else only
    return replace(event, settings={"users_lost": lost, "room": room, "how": how})


def _exception_storm(lab: Lab, event: Event) -> contextlib.AbstractContextManager[None]:
    """A controller answers a share of requests with one exception, or a gateway those for a unit.

    That is ``service_down``: the host lives, the requests are those it always answered, and now it
    refuses them. A client that asks for what never existed (``wrong_unit``) is the
    ``misconfiguration``.
    """
    dead = event.settings["dead"]
    refuse = {"code": event.settings["code"], "share": event.strength}
    changes = {"dead": dead} if dead else {"refuse": [refuse]}
    return settings_changed(lab, event.target, **changes)


def _draw_exceptions(event: Event, rng: SiteRandom) -> Event:
    units = list(rng.site.named(event.target).settings.get("units", []))
    dead = rng.some_of(units, rng.randint(1, max(1, len(units) // 2))) if units else []
    code = _GATEWAY_NO_RESPONSE if dead else rng.choice(_REFUSALS)
    what = f"{event.strength:.0%} of its requests"
    if dead:
        what = f"every request for unit {' and '.join(map(str, dead))}"
    return replace(event, settings={"dead": dead, "what": what, "code": code})


@contextlib.contextmanager
def _few_sessions(lab: Lab, event: Event) -> Iterator[dict[str, Any]]:
    """A controller with room for few sessions, which closes others at once; gives whom it had let in."""
    port, measured = open_port(lab.machine(event.target)), dict[str, Any]()
    before = {"port": port, "behind": _BEHIND, "sessions": event.settings["room"], "reset": True}
    with settings_changed(lab, event.target, port=_BEHIND, front=before):
        yield measured
        measured["let_in"] = lab.connections(event.target, port)


def _draw_room(event: Event, rng: SiteRandom) -> Event:
    room = rng.randint(1, max(1, len(participants.clients(rng.site, event.target)) - 2))
    return replace(event, settings={"room": room, "how": f"has room for {room} session(s) only"})


def _idle_closed(lab: Lab, event: Event) -> contextlib.AbstractContextManager[None]:
    """A controller that closes sessions sooner than its slowest client asks."""
    port = open_port(lab.machine(event.target))
    before = {"port": port, "behind": _BEHIND, "idle_s": event.settings["idle_s"], "reset": True}
    return settings_changed(lab, event.target, port=_BEHIND, front=before)


def _draw_idle(event: Event, rng: SiteRandom) -> Event:
    idle_s = round(participants.slowest_s(rng.site, event.target) * rng.uniform(0.3, 0.7), 1)
    return replace(event, settings={"idle_s": idle_s})


def _failing_resolver(lab: Lab, event: Event) -> contextlib.AbstractContextManager[None]:
    failing = {event.settings["code"]: event.strength}
    return settings_changed(lab, event.target, failing=failing)


def _draw_rcode(event: Event, rng: SiteRandom) -> Event:
    return replace(event, settings={"code": rng.choice(["SERVFAIL", "SERVFAIL", "REFUSED"])})


# fmt: off
OUTAGES = {
    "service_crashed": EventKind(
        "service_down", machines_running(*_SERVERS), _service_crashed,
        participants.crashed_and_clients,
        "the program of {target} has crashed and its port refuses"),
    "clock_gone": EventKind(
        "service_down", machines_running("ntp"), _service_crashed, participants.asked_and_askers,
        "the time server {target} has crashed", least_s=60),
    "broker_refuses": EventKind(
        "service_down", machines_running("broker"), _broker_refuses,
        participants.broker_and_shut_out,
        "the broker {target} {how}", draw=_draw_refusal),
    "exception_storm": EventKind(
        "service_down", machines_running(*_CONTROLLERS), _exception_storm,
        participants.controller_and_refused,
        "{target} answers {what} with Modbus exception {code}", (0.1, 1.0), draw=_draw_exceptions),
    "session_limit": EventKind(
        "service_down", machines_running("plc"), _few_sessions, participants.server_and_shut_out,
        "{target} {how} and closes every further one", least_s=60, draw=_draw_room),
    "idle_close": EventKind(
        "flapping", participants.asked_slowly, _idle_closed, participants.impatient_and_slow,
        "{target} closes every session after {idle_s} s without a request", least_s=60,
        draw=_draw_idle),
    "dns_fails": EventKind(
        "name_resolution", machines_running("dns"), _failing_resolver,
        participants.resolver_and_failed,
        "the resolver {target} answers {strength:.0%} of its questions with {code}", (0.5, 1.0),
        least_s=90, draw=_draw_rcode),
    "dns_outage": EventKind(
        "name_resolution", machines_running("dns"), _dns_outage, participants.asked_and_askers,
        "the resolver {target} {how}", draw=_draw_dns_outage),
    "dns_wrong": EventKind(
        "name_resolution", machines_running("dns"),
        lambda lab, event: settings_changed(lab, event.target, answers=event.settings["answers"]),
        participants.resolver_and_misled,
        "the resolver {target} gives addresses that nobody has for {count} names",
        draw=_draw_wrong_answers),
    "silent_sensor": EventKind(
        "device_silent", machines_running("sensor"),
        lambda lab, event: program_paused(lab, event.target), participants.alone,
        "the program of {target} hangs and says nothing more", least_s=45),
}
# fmt: on


# ---- Faults of cables and power ----


def _talking(site: Site) -> list[Machine]:
    """The machines that call somebody, or are called, so often that they are missed at once."""
    own = [one for one in site.inside if one.name != ROUTER and one.program not in _RARELY_ASKED]
    return [machine for machine in own if servers(site, machine) or clients(site, machine.name)]


@contextlib.contextmanager
def _powered_off(lab: Lab, event: Event) -> Iterator[None]:
    try:
        lab.link(event.target, False)  # before its kernel can end its connections
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
        lab.limit(event.target, max(6.0, event.strength * lab.carried_kbit(event.target)))
        yield
    finally:
        lab.limit(event.target, 0)


@contextlib.contextmanager
def _congestion(lab: Lab, event: Event) -> Iterator[None]:
    """Half as much again as the target's cable can carry, from one sender."""
    try:
        lab.limit(event.target, event.strength)
        with bulk_running(lab, event.source, event.target, _BULK_PORT, 1.5 * event.strength):
            yield
    finally:
        lab.limit(event.target, 0)


def _draw_sender(event: Event, rng: SiteRandom) -> Event:
    senders = machines_running(*_SENDERS)(rng.site)
    return replace(event, source=rng.choice([m for m in senders if m.name != event.target]).name)


def _draw_flaps(event: Event, rng: SiteRandom) -> Event:
    """Off and on at least three times; seconds up as its strength says, about half as long down."""
    up_s = min(event.strength, event.length_s / 5)
    pauses_s: list[float] = []
    while sum(pauses_s) < event.length_s:
        pauses_s += [round(up_s * rng.uniform(0.3, 0.8), 1), round(up_s * rng.uniform(0.5, 1.5), 1)]
    return replace(event, settings={"pauses_s": pauses_s, "times": len(pauses_s) // 2})


def _draw_switch(event: Event, rng: SiteRandom) -> Event:
    """Machines on the same small switch where a site has several, else any three to five."""
    others = [machine for machine in _talking(rng.site) if machine.name != event.target]
    near = [one for one in others if one.switch == rng.site.named(event.target).switch]
    group = near if 2 <= len(near) <= 6 else rng.some_of(others, rng.randint(2, 4))
    names = [machine.name for machine in group]
    return replace(event, settings={"also": names, "listed": ", ".join([event.target, *names])})


# fmt: off
FAULTS = {
    "powered_off": EventKind(
        "device_silent", _talking, _powered_off, device_and_clients, "{target} has no power"),
    "switch_down": EventKind(
        "device_silent", _talking,
        lambda lab, event: unplugged(lab, event.target, *event.settings["also"]),
        device_and_clients,
        "the switch of {listed} is down", draw=_draw_switch),
    "packet_loss": EventKind(
        "packet_loss", _talking, _packet_loss, participants.lossy_and_peers,
        "the cable of {target} loses {strength:.1%} of its packets each way", (0.01, 0.4)),
    "slow_link": EventKind(  # others say so little that the slowest cable is room enough
        "congestion", machines_running("camera", "recorder"), _slow_link,
        participants.cable_and_peers,
        "the cable of {target} carries only {strength:.0%} of what it needs", (0.2, 0.8)),
    "congestion": EventKind(
        "congestion", machines_running(*_SERVERS, "hmi", "historian"), _congestion,
        participants.sender_and_shared,
        "{source} fills the cable of {target}, which carries {strength:.0f} kbit/s", (300, 2500),
        draw=_draw_sender),
    "flapping": EventKind(
        "flapping", _talking,
        lambda lab, event: unstable_link(
            lambda up: lab.link(event.target, up), event.settings["pauses_s"]),
        participants.flapping_and_clients,
        "the cable of {target} is loose: off and on {times} times", (4, 30), draw=_draw_flaps),
}
# fmt: on
