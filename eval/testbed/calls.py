"""Whom a machine calls and how often, as its settings say: who misses a machine that fails, and after how long."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from eval.testbed.site import Machine, Site

__all__ = ["Call", "askings", "calls", "clients", "every_s", "outward", "servers"]

_NAMERS = ("dns",)  # a resolver names everybody and calls nobody
_SELDOM = ("workstation",)  # calls everybody, and each too seldom to miss it
_STREAM_S = 5.0  # a recorder asks again for a stream that has stopped for so long
# An engineer reads a controller or a page about every third time; pauses of chance may be twice as long.
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
        yield Call(entry["name"], settings.get("poll_s") or _leisure_s(settings, "polled"), unit=entry.get("unit"))
    if "store" in settings:
        yield Call(settings["store"]["host"], settings["write_s"], looks_up=True)
    if "broker" in settings:  # who publishes nothing says at least that it lives
        yield Call(settings["broker"], min(settings.get("period_s", 60.0), settings.get("keepalive_s", 60.0)))
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
    named = [known[call.host] for call in calls(machine) if known.get(call.host, machine.name) != machine.name]
    return [site.named(name) for name in dict.fromkeys(named)]


def clients(site: Site, name: str) -> list[Machine]:
    """The machines of the plant that call a machine; of a resolver, those that ask it."""
    if site.named(name).program in _NAMERS:
        return [machine for machine in _own(site) if askings(machine)]
    return [machine for machine in _own(site) if name in [server.name for server in servers(site, machine)]]


def outward(site: Site) -> list[Machine]:
    """The machines of the plant that call somebody beyond the router so regularly that it is missed."""
    own = [machine for machine in _own(site) if machine.program not in _SELDOM]
    return [machine for machine in own if any(server.beyond for server in servers(site, machine))]


def askings(machine: Machine) -> list[Call]:
    """The calls for which a machine asks its resolver each time; with ``by_name`` off only for names with dots."""
    by_name = machine.settings.get("by_name", True)
    return [call for call in calls(machine) if call.looks_up and (by_name or "." in call.host)]


def every_s(site: Site, machine: Machine, server: Machine) -> float:
    """How often a machine calls or asks a server, in seconds between two calls; infinite if it does not."""
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
    names = {text: machine.name for machine in site.machines for text in (machine.name, machine.address)}
    for resolver in site.machines:
        if resolver.program in _NAMERS:
            for name, address in resolver.settings.get("names", {}).items():
                names[name] = names.get(address, "")
    return {text: name for text, name in names.items() if name}
