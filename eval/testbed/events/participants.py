"""Who takes part in an event: who calls a machine that fails suffers it, if often enough.

Two layers: what a machine calls and how often, read from its settings; and a function for each
shape of event that names its participants, the root first.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from eval.testbed.events.event import Event, Participant
from eval.testbed.site import ROUTER, Machine, Site

# ---- Who calls whom, and how often ----

_RESOLVERS = ("dns",)  # a resolver names everybody and calls nobody
_SELDOM = ("workstation",)  # calls everybody, and each too seldom to miss it
_STREAM_S = 5.0  # a recorder asks again for a stream that has stopped for so long
# An engineer reads a controller or a page about every third time; random pauses may be twice as
# long.
_AT_LEISURE = 6.0


@dataclass(frozen=True)
class Call:
    """One entry of a machine's settings that makes it call.

    Attributes:
        host: whom, as the settings have it: a name, a name with dots, an address.
        every_s: between two calls, or two messages within a session that is held.
        looks_up: the name is looked up for every call; else once for a session.
        unit: the Modbus unit that is asked, where there is one.
    """

    host: str
    every_s: float
    looks_up: bool = False
    unit: int | None = None


def machines_running(*programs: str) -> Callable[[Site], list[Machine]]:
    """A choice of targets: the plant's machines that run one of these programs."""
    return lambda site: [one for one in site.inside if one.program in programs]


def calls(machine: Machine) -> list[Call]:
    """Everything a machine calls regularly."""
    return [] if machine.program in _RESOLVERS else list(_read_calls(machine.settings))


def _read_calls(settings: Mapping[str, Any]) -> Iterator[Call]:
    def leisure_s(choice: str) -> float:
        return float(_AT_LEISURE * settings["pace_s"] * len(settings[choice]))

    if "ntp" in settings:
        yield Call(settings["ntp"], settings["ntp_s"], looks_up=True)
    for entry in settings.get("polled", []):
        every_s = settings.get("poll_s") or leisure_s("polled")
        yield Call(entry["name"], every_s, unit=entry.get("unit"))
    if "store" in settings:
        yield Call(settings["store"]["host"], settings["write_s"], looks_up=True)
    if "broker" in settings:  # who publishes nothing says at least that it lives
        every_s = min(settings.get("period_s", 60.0), settings.get("keepalive_s", 60.0))
        yield Call(settings["broker"], every_s)
    if "cloud" in settings:
        yield Call(settings["cloud"], settings["batch_s"], looks_up=True)
    if "remote" in settings:
        yield Call(settings["remote"]["host"], settings["remote"]["period_s"])
    if "server" in settings:
        publish_s = settings.get("publish_ms", 0) / 1000
        yield Call(settings["server"], publish_s or settings["poll_s"])
    for entry in settings.get("cameras", []):
        yield Call(entry["name"], _STREAM_S)
    for host in settings.get("hosts", []):
        yield Call(host, leisure_s("hosts"), looks_up=True)


def servers(site: Site, machine: Machine) -> list[Machine]:
    """Whom a machine calls."""
    known = _names_of_hosts(site)
    named = [known.get(call.host, machine.name) for call in calls(machine)]
    return [site.named(name) for name in dict.fromkeys(named) if name != machine.name]


def clients(site: Site, name: str) -> list[Machine]:
    """The machines of the plant that call a machine; of a resolver, those that ask it."""
    server = site.named(name)
    if server.program in _RESOLVERS:
        return [machine for machine in site.inside if lookups(machine)]
    return [machine for machine in site.inside if server in servers(site, machine)]


def outward(site: Site) -> list[Machine]:
    """The machines that call somebody beyond the router so regularly that it is missed."""
    own = [machine for machine in site.inside if machine.program not in _SELDOM]
    return [machine for machine in own if any(server.beyond for server in servers(site, machine))]


def lookups(machine: Machine) -> list[Call]:
    """The calls for which a machine asks its resolver; without ``by_name`` only names with dots."""
    by_name = machine.settings.get("by_name", True)
    return [call for call in calls(machine) if call.looks_up and (by_name or "." in call.host)]


def every_s(site: Site, machine: Machine, server: Machine) -> float:
    """Mean seconds between two calls of a machine to a server; infinite if it does not call."""
    if server.program in _RESOLVERS:
        made = lookups(machine)
    else:
        known = _names_of_hosts(site)
        made = [call for call in calls(machine) if known.get(call.host) == server.name]
    rate = sum(1 / call.every_s for call in made)
    return 1 / rate if rate else float("inf")


def _names_of_hosts(site: Site) -> dict[str, str]:
    """Every text that means a machine -> its name."""
    names = {text: one.name for one in site.machines for text in (one.name, one.address)}
    for resolver in site.machines:
        if resolver.program in _RESOLVERS:
            for name, address in resolver.settings.get("names", {}).items():
                names[name] = names.get(address, "")
    return {text: name for text, name in names.items() if name}


# ---- Participants by the shape of an event ----

_RARELY_ASKED = ("dns", "ntp")
_SURE = 2.0  # so many calls fall into a time that at least one surely does
_OFTEN = 4.0  # where one call may go well by chance
_SELDOM_S = 4.0
_LEAST_DROPPED = 5  # of fewer packets all may have been such as nobody sends again


def alone(site: Site, event: Event) -> list[Participant]:
    """It comes from the target, and nobody else shows it."""
    return _participants(site, event, {event.target: True}, {})


def device_and_clients(site: Site, event: Event) -> list[Participant]:
    """The target fails, together with ``also``; whoever calls any of them suffers."""
    group = [event.target, *event.settings.get("also", [])]
    missing = _clients_missing(site, group, event.length_s)
    return _participants(site, event, dict.fromkeys(group, True), missing)


def crashed_and_clients(site: Site, event: Event) -> list[Participant]:
    """The target's program is gone: its kernel ends every session, so whoever holds one notices."""
    missing = _clients_missing(site, [event.target], event.length_s)
    for client in clients(site, event.target):
        missing[client.name] |= any(
            call.host == event.target and not call.looks_up and call.every_s <= event.length_s
            for call in calls(client)
        )
    return _participants(site, event, {event.target: True}, missing)


def flapping_and_clients(site: Site, event: Event) -> list[Participant]:
    """The target's cable goes off and on: whoever calls, or is called, while it is off."""
    off_s, target = sum(event.settings["pauses_s"][::2]), site.named(event.target)
    missing = _clients_missing(site, [event.target], off_s)
    calling = any(every_s(site, target, server) * _SURE <= off_s for server in site.machines)
    return _participants(site, event, {event.target: calling or any(missing.values())}, missing)


def cable_and_peers(site: Site, event: Event) -> list[Participant]:
    """The target's cable fails: whoever talks with it waits, whichever side called."""
    missing = _clients_missing(site, [event.target], event.length_s * _SURE / _OFTEN)
    called = _servers_called(site, event.target, event.length_s)
    return _participants(site, event, {event.target: True}, called | missing)


def moved_and_peers(site: Site, event: Event) -> list[Participant]:
    """The target has another address: its clients miss it, those it calls may notice."""
    called = dict.fromkeys(_servers_called(site, event.target, event.length_s), False)
    missing = _clients_missing(site, [event.target], event.length_s)
    return _participants(site, event, {event.target: True}, called | missing)


def lossy_and_peers(site: Site, event: Event) -> list[Participant]:
    """The target's cable loses packets: with whom, and whether any, was counted on the cable."""
    dropped: dict[str, int] = event.settings.get("dropped", {})
    others = [one for one in site.machines if one.name != event.target and one.address in dropped]
    # Whoever answers a question with one packet never knows that it was lost.
    peers = {
        one.name: dropped[one.address] >= _LEAST_DROPPED and one.program not in _RARELY_ASKED
        for one in others
        if dropped[one.address]
    }
    shows = sum(dropped.values()) >= _LEAST_DROPPED
    return _participants(site, event, {event.target: shows}, peers)


def device_and_server(site: Site, event: Event) -> list[Participant]:
    """The target is set wrongly, and its calls to ``server`` fail."""
    return _participants(site, event, {event.target: True}, {event.settings["server"]: True})


def misled_and_its_server(site: Site, event: Event) -> list[Participant]:
    """The target sends to ``server`` what is meant for others; calls beyond the router show it."""
    machine = site.named(event.target)
    beyond = [server for server in servers(site, machine) if server.beyond]
    periods_s = [every_s(site, machine, server) for server in beyond]
    sure = min(periods_s, default=float("inf")) * _SURE <= event.length_s
    return _participants(site, event, {event.target: sure}, {event.settings["server"]: sure})


def asked_and_askers(site: Site, event: Event) -> list[Participant]:
    """The target fails, which is asked now and then: it shows only if somebody asks."""
    missing = _clients_missing(site, [event.target], event.length_s)
    return _participants(site, event, {event.target: any(missing.values())}, missing)


def resolver_and_misled(site: Site, event: Event) -> list[Participant]:
    """The resolver gives wrong addresses: calls of whoever asks for such a name fail."""
    misled = {}
    for machine in site.machines:
        wrong = [one for one in lookups(machine) if one.host in event.settings["answers"]]
        if rate := sum(1 / call.every_s for call in wrong):
            misled[machine.name] = rate * event.length_s >= _SURE
    return _participants(site, event, {event.target: any(misled.values())}, misled)


def broker_and_shut_out(site: Site, event: Event) -> list[Participant]:
    """A broker without room shuts out whom it had not ``let_in`` by the end."""
    let_in = event.settings.get("let_in", [])
    shut_out = {client.name: client.address not in let_in for client in clients(site, event.target)}
    return _participants(site, event, {event.target: any(shut_out.values())}, shut_out)


def server_and_shut_out(site: Site, event: Event) -> list[Participant]:
    """A server without room shuts out whom it had not ``let_in``, if it called at all."""
    server, shut_out = site.named(event.target), dict[str, bool]()
    for client in clients(site, event.target):
        calling = every_s(site, client, server) * _SURE <= event.length_s
        shut_out[client.name] = calling and client.address not in event.settings.get("let_in", [])
    return _participants(site, event, {event.target: any(shut_out.values())}, shut_out)


def asked_slowly(site: Site) -> list[Machine]:
    """The controllers that some client asks so seldom that a session may be closed between."""
    own = machines_running("plc")(site)
    return [one for one in own if slowest_s(site, one.name) >= _SELDOM_S]


def slowest_s(site: Site, name: str) -> float:
    """The longest time between two calls of a client that holds a session to a machine."""
    server = site.named(name)
    held = [one for one in clients(site, name) if one.program not in _SELDOM]
    return max((every_s(site, one, server) for one in held), default=0.0)


def impatient_and_slow(site: Site, event: Event) -> list[Participant]:
    """The target closes sessions on which nobody asks for ``idle_s``: slow clients lose theirs."""
    server, slow = site.named(event.target), dict[str, bool]()
    for client in clients(site, event.target):
        pause_s = every_s(site, client, server)
        if pause_s > event.settings["idle_s"]:
            slow[client.name] = pause_s * _OFTEN <= event.length_s
    return _participants(site, event, {event.target: any(slow.values())}, slow)


def resolver_and_failed(site: Site, event: Event) -> list[Participant]:
    """A share of questions fails: who asks so often that one of its own surely does."""
    missing = _clients_missing(
        site, [event.target], event.length_s * event.strength * _SURE / _OFTEN
    )
    return _participants(site, event, {event.target: any(missing.values())}, missing)


def controller_and_refused(site: Site, event: Event) -> list[Participant]:
    """A controller answers with exceptions whoever asks for ``dead`` units, or often enough."""
    dead, share = event.settings["dead"], event.strength
    refused = {}
    for client in clients(site, event.target):
        to_target = [call for call in calls(client) if call.host == event.target]
        if asked := [call for call in to_target if not dead or call.unit in dead]:
            count = sum(event.length_s / call.every_s for call in asked) * (1.0 if dead else share)
            refused[client.name] = count >= (_SURE if dead else _OFTEN)
    return _participants(site, event, {event.target: any(refused.values())}, refused)


def attackers_and_victims(site: Site, event: Event) -> list[Participant]:
    """The source and its helpers attack the target and ``also``."""
    victims = [event.target, *event.settings.get("also", [])]
    attackers = [event.source, *event.settings.get("helpers", [])]
    everybody = dict.fromkeys(attackers, True), dict.fromkeys(victims, True)
    return _participants(site, event, *everybody)


def sender_and_shared(site: Site, event: Event) -> list[Participant]:
    """The source fills the link of the target, whose clients wait too."""
    missing = _clients_missing(site, [event.target], event.length_s * _SURE / _OFTEN)
    return _participants(site, event, {event.source: True}, {event.target: True, **missing})


def _clients_missing(site: Site, failed: Iterable[str], length_s: float) -> dict[str, bool]:
    """Who calls any of those that failed -> whether it surely did so within a time."""
    missing: dict[str, bool] = {}
    for server in map(site.named, failed):
        for client in clients(site, server.name):
            sure = every_s(site, client, server) * _SURE <= length_s
            missing[client.name] = missing.get(client.name, False) or sure
    return missing


def _servers_called(site: Site, name: str, length_s: float) -> dict[str, bool]:
    """Whom a machine calls -> whether it surely does so, several times, within a time."""
    machine = site.named(name)
    called = [one for one in servers(site, machine) if one.program not in _RARELY_ASKED]
    return {one.name: every_s(site, machine, one) * _OFTEN <= length_s for one in called}


def _participants(
    site: Site, event: Event, sources: dict[str, bool], targets: dict[str, bool]
) -> list[Participant]:
    """Names -> whether it surely shows; nobody beyond the router, and a source is no target too."""
    machines = {one.name: one for one in (*site.machines, *event.added)}
    shown = [machines[name] for name in dict.fromkeys([*sources, *targets]) if name]
    sure = {**targets, **sources}
    return [
        Participant(
            one.name, "source" if one.name in sources else "target", one.address, sure[one.name]
        )
        for one in shown
        if not one.beyond and one.name != ROUTER
    ]
