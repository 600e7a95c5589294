"""Who has which part in an event: whoever calls a machine that fails suffers it, if it calls often enough to notice."""

from collections.abc import Callable, Iterable

from eval.testbed.calls import askings, calls, clients, every_s, servers
from eval.testbed.events.event import Blame, Event
from eval.testbed.site import ROUTER, Machine, Site

__all__ = [
    "alone",
    "asked_and_askers",
    "attacker_and_attacked",
    "broker_and_shut_out",
    "cable_and_peers",
    "controller_and_refused",
    "crashed_and_clients",
    "device_and_clients",
    "device_and_server",
    "flapping_and_clients",
    "group_and_clients",
    "lossy_and_peers",
    "misled_and_its_server",
    "moved_and_peers",
    "resolver_and_misled",
    "running",
    "sender_and_shared",
]

_RARE = ("dns", "ntp")
_SURE = 2.0  # so many calls fall into a time that at least one surely does
_OFTEN = 4.0
_LEAST_DROPPED = 5  # of fewer packets all may have been such as nobody sends again


def running(*programs: str) -> Callable[[Site], list[Machine]]:
    """A choice of targets: the plant's machines that run one of these programs."""

    def chosen(site: Site) -> list[Machine]:
        return [machine for machine in site.machines if machine.program in programs and not machine.beyond]

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
    """The target's program is gone: its kernel ends every session at once, so that whoever holds one notices."""
    missing = _missing(site, [event.target], event.length_s)
    for client in clients(site, event.target):
        missing[client.name] |= any(
            call.host == event.target and not call.looks_up and call.every_s <= event.length_s for call in calls(client)
        )
    return _parts(site, event, {event.target: True}, missing)


def flapping_and_clients(site: Site, event: Event) -> list[Blame]:
    """The target's cable goes off and on: whoever calls, or is called, while it is off."""
    off_s = sum(event.settings["pauses_s"][::2])
    missing = _missing(site, [event.target], off_s)
    calling = any(every_s(site, site.named(event.target), server) * _SURE <= off_s for server in site.machines)
    return _parts(site, event, {event.target: calling or any(missing.values())}, missing)


def cable_and_peers(site: Site, event: Event) -> list[Blame]:
    """The target's cable fails: whoever talks with it waits, whichever side called."""
    missing = _missing(site, [event.target], event.length_s * _SURE / _OFTEN)
    return _parts(site, event, {event.target: True}, _called(site, event.target, event.length_s) | missing)


def moved_and_peers(site: Site, event: Event) -> list[Blame]:
    """The target is not where it was: its clients miss it; those it calls may notice that it has gone."""
    called = dict.fromkeys(_called(site, event.target, event.length_s), False)
    return _parts(site, event, {event.target: True}, called | _missing(site, [event.target], event.length_s))


def lossy_and_peers(site: Site, event: Event) -> list[Blame]:
    """The target's cable loses packets: with whom, and whether it lost any, was counted on the cable."""
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
    """The target sends what is meant for others to ``server``; that shows when it calls somebody beyond the router."""
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
    rates = {m.name: sum(1 / call.every_s for call in askings(m) if call.host in wrong) for m in site.machines}
    misled = {name: rate * event.length_s >= _SURE for name, rate in rates.items() if rate}
    return _parts(site, event, {event.target: any(misled.values())}, misled)


def broker_and_shut_out(site: Site, event: Event) -> list[Blame]:
    """A broker without room shuts out those that it had not ``let_in`` by the end; those it let in hardly notice."""
    let_in = event.settings.get("let_in", [])
    shut_out = {client.name: client.address not in let_in for client in clients(site, event.target)}
    return _parts(site, event, {event.target: any(shut_out.values())}, shut_out)


def controller_and_refused(site: Site, event: Event) -> list[Blame]:
    """Of a controller that answers with exceptions, those suffer that ask for ``dead`` units, or often enough."""
    dead, share = event.settings["dead"], event.strength
    refused = {}
    for client in clients(site, event.target):
        asked = [call for call in calls(client) if call.host == event.target and (not dead or call.unit in dead)]
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


def _parts(site: Site, event: Event, sources: dict[str, bool], targets: dict[str, bool]) -> list[Blame]:
    """Without those beyond the router; a source is not a target as well. Names -> whether it surely shows."""
    added = {machine.name: machine for machine in event.added}
    blames: list[Blame] = []
    for name, sure in [*sources.items(), *targets.items()]:
        one = added.get(name) or (site.named(name) if name else None)
        if one is None or one.beyond or one.name == ROUTER or one.name in [blame.machine for blame in blames]:
            continue
        blames.append(Blame(one.name, "source" if name in sources else "target", one.address, sure))
    return blames
