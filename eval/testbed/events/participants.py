"""Who has which part in an event: whoever calls a machine that fails suffers it, if it calls often
enough to notice."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from eval.testbed.events.event import Blame, Event
from eval.testbed.site import ROUTER, Machine, Site

# Whom a machine calls and how often, as its settings say: who misses a machine that fails, and
# after how long.

_NAMERS = ("dns",)  # a resolver names everybody and calls nobody
_SELDOM = ("workstation",)  # calls everybody, and each too seldom to miss it
_STREAM_S = 5.0  # a recorder asks again for a stream that has stopped for so long
# An engineer reads a controller or a page about every third time; pauses of chance may be twice as
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


def calls(machine: Machine) -> list[Call]:
    """Everything a machine calls regularly."""
    return [] if machine.program in _NAMERS else list(_calls(machine.settings))


def _calls(settings: Mapping[str, Any]) -> Iterator[Call]:
    if "ntp" in settings:
        yield Call(settings["ntp"], settings["ntp_s"], looks_up=True)
    for entry in settings.get("polled", []):
        yield Call(
            entry["name"],
            settings.get("poll_s") or _leisure_s(settings, "polled"),
            unit=entry.get("unit"),
        )
    if "store" in settings:
        yield Call(settings["store"]["host"], settings["write_s"], looks_up=True)
    if "broker" in settings:  # who publishes nothing says at least that it lives
        yield Call(
            settings["broker"],
            min(settings.get("period_s", 60.0), settings.get("keepalive_s", 60.0)),
        )
    if "cloud" in settings:
        yield Call(settings["cloud"], settings["batch_s"], looks_up=True)
    if "remote" in settings:
        yield Call(settings["remote"]["host"], settings["remote"]["period_s"])
    if "server" in settings:
        yield Call(settings["server"], settings["publish_ms"] / 1000)
    for entry in settings.get("cameras", []):
        yield Call(entry["name"], _STREAM_S)
    for host in settings.get("hosts", []):
        yield Call(host, _leisure_s(settings, "hosts"), looks_up=True)


def _leisure_s(settings: Mapping[str, Any], choice: str) -> float:
    return float(_AT_LEISURE * settings["pace_s"] * len(settings[choice]))


def servers(site: Site, machine: Machine) -> list[Machine]:
    """Whom a machine calls."""
    known = _known_as(site)
    named = [
        known[call.host]
        for call in calls(machine)
        if known.get(call.host, machine.name) != machine.name
    ]
    return [site.named(name) for name in dict.fromkeys(named)]


def clients(site: Site, name: str) -> list[Machine]:
    """The machines of the plant that call a machine; of a resolver, those that ask it."""
    if site.named(name).program in _NAMERS:
        return [machine for machine in _own(site) if askings(machine)]
    return [
        machine
        for machine in _own(site)
        if name in [server.name for server in servers(site, machine)]
    ]


def outward(site: Site) -> list[Machine]:
    """The machines of the plant that call somebody beyond the router so regularly that it is
    missed."""
    own = [machine for machine in _own(site) if machine.program not in _SELDOM]
    return [machine for machine in own if any(server.beyond for server in servers(site, machine))]


def askings(machine: Machine) -> list[Call]:
    """The calls for which a machine asks its resolver each time; with ``by_name`` off only for
    names with dots."""
    by_name = machine.settings.get("by_name", True)
    return [call for call in calls(machine) if call.looks_up and (by_name or "." in call.host)]


def every_s(site: Site, machine: Machine, server: Machine) -> float:
    """How often a machine calls or asks a server, in seconds between two calls; infinite if it does
    not."""
    if server.program in _NAMERS:
        return _together_s(askings(machine))
    known = _known_as(site)
    return _together_s([call for call in calls(machine) if known.get(call.host) == server.name])


def _together_s(several: list[Call]) -> float:
    """The mean time between calls of several rhythms."""
    rate = sum(1 / call.every_s for call in several)
    return 1 / rate if rate else float("inf")


def _own(site: Site) -> list[Machine]:
    return [machine for machine in site.machines if not machine.beyond]


def _known_as(site: Site) -> dict[str, str]:
    """Every text that means a machine -> its name."""
    names = {
        text: machine.name for machine in site.machines for text in (machine.name, machine.address)
    }
    for resolver in site.machines:
        if resolver.program in _NAMERS:
            for name, address in resolver.settings.get("names", {}).items():
                names[name] = names.get(address, "")
    return {text: name for text, name in names.items() if name}


_RARE = ("dns", "ntp")
_SURE = 2.0  # so many calls fall into a time that at least one surely does
_OFTEN = 4.0
_LEAST_DROPPED = 5  # of fewer packets all may have been such as nobody sends again


def running(*programs: str) -> Callable[[Site], list[Machine]]:
    """A choice of targets: the plant's machines that run one of these programs."""

    def chosen(site: Site) -> list[Machine]:
        return [
            machine
            for machine in site.machines
            if machine.program in programs and not machine.beyond
        ]

    return chosen


def alone(site: Site, event: Event) -> list[Blame]:
    """It comes from the target, and nobody else shows it."""
    return _parts(site, event, {event.target: True}, {})


def device_and_clients(site: Site, event: Event) -> list[Blame]:
    """The target fails, its clients suffer."""
    return _parts(site, event, {event.target: True}, _missing(site, [event.target], event.length_s))


def group_and_clients(site: Site, event: Event) -> list[Blame]:
    """The target and ``also`` fail together, whoever calls any of them suffers."""
    group = [event.target, *event.settings["also"]]
    return _parts(site, event, dict.fromkeys(group, True), _missing(site, group, event.length_s))


def crashed_and_clients(site: Site, event: Event) -> list[Blame]:
    """The target's program is gone: its kernel ends every session at once, so that whoever holds
    one notices."""
    missing = _missing(site, [event.target], event.length_s)
    for client in clients(site, event.target):
        missing[client.name] |= any(
            call.host == event.target and not call.looks_up and call.every_s <= event.length_s
            for call in calls(client)
        )
    return _parts(site, event, {event.target: True}, missing)


def flapping_and_clients(site: Site, event: Event) -> list[Blame]:
    """The target's cable goes off and on: whoever calls, or is called, while it is off."""
    off_s = sum(event.settings["pauses_s"][::2])
    missing = _missing(site, [event.target], off_s)
    calling = any(
        every_s(site, site.named(event.target), server) * _SURE <= off_s for server in site.machines
    )
    return _parts(site, event, {event.target: calling or any(missing.values())}, missing)


def cable_and_peers(site: Site, event: Event) -> list[Blame]:
    """The target's cable fails: whoever talks with it waits, whichever side called."""
    missing = _missing(site, [event.target], event.length_s * _SURE / _OFTEN)
    return _parts(
        site, event, {event.target: True}, _called(site, event.target, event.length_s) | missing
    )


def moved_and_peers(site: Site, event: Event) -> list[Blame]:
    """The target is not where it was: its clients miss it; those it calls may notice that it has
    gone."""
    called = dict.fromkeys(_called(site, event.target, event.length_s), False)
    return _parts(
        site, event, {event.target: True}, called | _missing(site, [event.target], event.length_s)
    )


def lossy_and_peers(site: Site, event: Event) -> list[Blame]:
    """The target's cable loses packets: with whom, and whether it lost any, was counted on the
    cable."""
    dropped: dict[str, int] = event.settings.get("dropped", {})
    by_name = {m.name: dropped.get(m.address, 0) for m in site.machines if m.name != event.target}
    # Whoever answers a question with one packet never knows that it was lost.
    peers = {
        name: count >= _LEAST_DROPPED and site.named(name).program not in _RARE
        for name, count in by_name.items()
        if count
    }
    return _parts(site, event, {event.target: sum(dropped.values()) >= _LEAST_DROPPED}, peers)


def device_and_server(site: Site, event: Event) -> list[Blame]:
    """The target is set wrongly, and calls ``server`` in vain."""
    return _parts(site, event, {event.target: True}, {event.settings["server"]: True})


def misled_and_its_server(site: Site, event: Event) -> list[Blame]:
    """The target sends what is meant for others to ``server``; that shows when it calls somebody
    beyond the router."""
    machine = site.named(event.target)
    rhythms = [every_s(site, machine, server) for server in servers(site, machine) if server.beyond]
    sure = min(rhythms, default=float("inf")) * _SURE <= event.length_s
    return _parts(site, event, {event.target: sure}, {event.settings["server"]: sure})


def asked_and_askers(site: Site, event: Event) -> list[Blame]:
    """The target fails, which is asked now and then: it shows only if somebody asks."""
    missing = _missing(site, [event.target], event.length_s)
    return _parts(site, event, {event.target: any(missing.values())}, missing)


def resolver_and_misled(site: Site, event: Event) -> list[Blame]:
    """The resolver gives wrong addresses: whoever asks for such a name calls in vain."""
    wrong = event.settings["answers"]
    rates = {
        m.name: sum(1 / call.every_s for call in askings(m) if call.host in wrong)
        for m in site.machines
    }
    misled = {name: rate * event.length_s >= _SURE for name, rate in rates.items() if rate}
    return _parts(site, event, {event.target: any(misled.values())}, misled)


def broker_and_shut_out(site: Site, event: Event) -> list[Blame]:
    """A broker without room shuts out those that it had not ``let_in`` by the end; those it let in
    hardly notice."""
    let_in = event.settings.get("let_in", [])
    shut_out = {client.name: client.address not in let_in for client in clients(site, event.target)}
    return _parts(site, event, {event.target: any(shut_out.values())}, shut_out)


def controller_and_refused(site: Site, event: Event) -> list[Blame]:
    """Of a controller that answers with exceptions, those suffer that ask for ``dead`` units, or
    often enough."""
    dead, share = event.settings["dead"], event.strength
    refused = {}
    for client in clients(site, event.target):
        asked = [
            call
            for call in calls(client)
            if call.host == event.target and (not dead or call.unit in dead)
        ]
        count = sum(event.length_s / call.every_s for call in asked) * (1.0 if dead else share)
        if asked:
            refused[client.name] = count >= (_SURE if dead else _OFTEN)
    return _parts(site, event, {event.target: any(refused.values())}, refused)


def attacker_and_attacked(site: Site, event: Event) -> list[Blame]:
    """The source and its helpers attack the target and ``also``."""
    attacked = [event.target, *event.settings.get("also", [])]
    attackers = [event.source, *event.settings.get("helpers", [])]
    return _parts(site, event, dict.fromkeys(attackers, True), dict.fromkeys(attacked, True))


def sender_and_shared(site: Site, event: Event) -> list[Blame]:
    """The source fills the link of the target, whose clients wait too."""
    suffering = _missing(site, [event.target], event.length_s * _SURE / _OFTEN)
    return _parts(site, event, {event.source: True}, {event.target: True, **suffering})


def _missing(site: Site, failed: Iterable[str], length_s: float) -> dict[str, bool]:
    """Who calls any of those that failed -> whether it surely did so within a time."""
    missing: dict[str, bool] = {}
    for server in map(site.named, failed):
        for client in clients(site, server.name):
            sure = every_s(site, client, server) * _SURE <= length_s
            missing[client.name] = missing.get(client.name, False) or sure
    return missing


def _called(site: Site, name: str, length_s: float) -> dict[str, bool]:
    """Whom a machine calls -> whether it surely does so, several times, within a time."""
    machine = site.named(name)
    called = [server for server in servers(site, machine) if server.program not in _RARE]
    return {server.name: every_s(site, machine, server) * _OFTEN <= length_s for server in called}


def _parts(
    site: Site, event: Event, sources: dict[str, bool], targets: dict[str, bool]
) -> list[Blame]:
    """Without those beyond the router; a source is not a target as well. Names -> whether it surely
    shows."""
    added = {machine.name: machine for machine in event.added}
    blames: list[Blame] = []
    for name, sure in [*sources.items(), *targets.items()]:
        one = added.get(name) or (site.named(name) if name else None)
        if (
            one is None
            or one.beyond
            or one.name == ROUTER
            or one.name in [blame.machine for blame in blames]
        ):
            continue
        blames.append(Blame(one.name, "source" if name in sources else "target", one.address, sure))
    return blames
