"""Who has which part in an event: whoever calls a machine that fails suffers it, and its settings say who that is."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from eval.testbed.kinds import Blame, Event
from eval.testbed.site import ROUTER, Machine, Site

__all__ = [
    "alone",
    "askers",
    "attacker_and_attacked",
    "clients",
    "clock_and_askers",
    "device_and_clients",
    "device_and_peers",
    "device_and_server",
    "group_and_clients",
    "outward",
    "resolver_and_askers",
    "running",
    "sender_and_shared",
    "servers",
]

# A resolver names everybody and calls nobody; an engineer's computer calls everybody, and each too seldom to miss it.
_NAMERS = ("dns",)
_SELDOM = ("workstation",)
_RARE = ("dns", "ntp")
# Settings whose names are looked up each time; others are when a session is opened.
_LOOKED_UP = ("store", "cloud", "hosts")


def running(*programs: str) -> Callable[[Site], list[Machine]]:
    """A choice of targets: the plant's machines that run one of these programs."""

    def chosen(site: Site) -> list[Machine]:
        return [machine for machine in site.machines if machine.program in programs and not machine.beyond]

    return chosen


def servers(site: Site, machine: Machine) -> list[Machine]:
    """Whom a machine calls: everybody in its settings, by name, address or a name that the resolver knows."""
    if machine.program in _NAMERS:
        return []
    known = _known_as(site)
    named = [known[text] for text in _texts(machine.settings) if text in known and known[text] != machine.name]
    return [site.named(name) for name in dict.fromkeys(named)]


def clients(site: Site, name: str) -> list[Machine]:
    """The machines of the plant that call a machine regularly."""
    if any(machine.name == name and machine.program in _NAMERS for machine in site.machines):
        return askers(site)
    own = [machine for machine in site.machines if not machine.beyond and machine.program not in _SELDOM]
    return [machine for machine in own if name in [server.name for server in servers(site, machine)]]


def outward(site: Site) -> list[Machine]:
    """The machines of the plant that call somebody beyond the router regularly."""
    own = [machine for machine in site.machines if not machine.beyond and machine.program not in _SELDOM]
    return [machine for machine in own if any(server.beyond for server in servers(site, machine))]


def askers(site: Site, within_s: float = 60.0) -> list[Machine]:
    """The machines of the plant that ask the resolver within such a time: for whom they call, or for the clock."""
    callers = [
        m for m in site.machines if not m.beyond and m.program not in _NAMERS and m.settings.get("by_name", True)
    ]
    return [m for m in callers if set(_LOOKED_UP) & set(m.settings) or m.settings.get("ntp_s", 1e9) <= within_s]


def alone(site: Site, event: Event) -> list[Blame]:
    """It comes from the target, and nobody else shows it."""
    return [_source(site, event, event.target)]


def device_and_clients(site: Site, event: Event) -> list[Blame]:
    """The target fails, its clients suffer."""
    return _parts(site, event, [event.target], [client.name for client in clients(site, event.target)])


def device_and_peers(site: Site, event: Event) -> list[Blame]:
    """The target's cable fails: whoever talks with it regularly sends again and waits, whichever side called."""
    called = [server.name for server in servers(site, site.named(event.target)) if server.program not in _RARE]
    return _parts(site, event, [event.target], [*(client.name for client in clients(site, event.target)), *called])


def group_and_clients(site: Site, event: Event) -> list[Blame]:
    """The target and ``also`` fail together, whoever calls any of them suffers."""
    group = [event.target, *event.settings["also"]]
    return _parts(site, event, group, [client.name for name in group for client in clients(site, name)])


def device_and_server(site: Site, event: Event) -> list[Blame]:
    """The target is set wrongly, and calls ``server`` in vain."""
    return _parts(site, event, [event.target], [event.settings["server"]])


def clock_and_askers(site: Site, event: Event) -> list[Blame]:
    """The clock fails, whoever asks it in the event's time suffers."""
    asking = [client for client in clients(site, event.target) if client.settings.get("ntp_s", 0) <= event.length_s]
    return _parts(site, event, [event.target], [client.name for client in asking])


def resolver_and_askers(site: Site, event: Event) -> list[Blame]:
    """The resolver fails, whoever asks it suffers."""
    return _parts(site, event, [event.target], [asker.name for asker in askers(site, event.length_s)])


def attacker_and_attacked(site: Site, event: Event) -> list[Blame]:
    """The source and its helpers attack the target and ``also``."""
    attacked = [event.target, *event.settings.get("also", [])]
    return _parts(site, event, [event.source, *event.settings.get("helpers", [])], attacked)


def sender_and_shared(site: Site, event: Event) -> list[Blame]:
    """The source fills the link of the target, whose clients wait too."""
    suffering = [event.target, *(client.name for client in clients(site, event.target))]
    return _parts(site, event, [event.source], suffering)


def _parts(site: Site, event: Event, sources: list[str], targets: list[str]) -> list[Blame]:
    """Without repetitions, without those beyond the router; a source is not a target as well."""
    added = {machine.name: machine for machine in event.added}
    machines = {name: added.get(name) or site.named(name) for name in [*sources, *targets] if name}
    own = [machine for machine in machines.values() if not machine.beyond and machine.name != ROUTER]
    return [Blame(one.name, "source" if one.name in sources else "target", one.address) for one in own]


def _source(site: Site, event: Event, name: str) -> Blame:
    return _parts(site, event, [name], [])[0]


def _known_as(site: Site) -> dict[str, str]:
    """Every text that means a machine -> its name."""
    names = {text: machine.name for machine in site.machines for text in (machine.name, machine.address)}
    for resolver in site.machines:
        if resolver.program in _NAMERS:
            for name, address in resolver.settings.get("names", {}).items():
                names[name] = names.get(address, "")
    return {text: name for text, name in names.items() if name}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)
