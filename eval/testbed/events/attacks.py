"""Attacks on the network: scans, floods, held connections, guessed passwords, broken MQTT, a man in
the middle.

The attacker is a machine that somebody has plugged in, or one of the plant's own that is infected.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from eval.testbed.events.actions import again, open_port, ours, plugged_in, running, unheard
from eval.testbed.events.event import Event, Kind
from eval.testbed.events.participants import alone, attacker_and_attacked, clients
from eval.testbed.events.participants import running as programs
from eval.testbed.generator import Dice
from eval.testbed.lab import Lab
from eval.testbed.site import ROUTER, Machine, Site

_INFECTED = ("workstation", "camera", "edge", "historian", "hmi", "recorder")
_CONTROLLERS = ("plc", "modbus_gateway")
_EXPOSED = (
    *_CONTROLLERS,
    "broker",
    "camera",
    "recorder",
    "opcua_server",
    "edge",
    "historian",
    "hmi",
)
_NMAP = ["nmap", "-n", "-Pn", "-v0", "--max-retries", "1"]
_COMMON_PORTS = "21-23,53,80,102,443,502,554,1883,4840,8080,20000,44818"


def with_attacker(event: Event, dice: Dice, **settings: Any) -> Event:
    """The same event with somebody to do it."""
    infected = [
        machine.name for machine in programs(*_INFECTED)(dice.site) if machine.name != event.target
    ]
    if infected and dice.chance(0.5):
        return replace(event, source=dice.pick(infected), settings=settings)
    intruder = dice.newcomer("intruder", "intruder")
    return replace(event, source=intruder.name, added=(intruder,), settings=settings)


Command = Callable[[Lab, Event], list[str]]


@contextlib.contextmanager
def _with_tool(command: Command, lab: Lab, event: Event) -> Iterator[None]:
    """The source runs one tool for as long as the event lasts."""
    with plugged_in(lab, event.added), running(lab, event.source, command(lab, event)):
        yield


def _tool(command: Command) -> Callable[[Lab, Event], contextlib.AbstractContextManager[None]]:
    return partial(_with_tool, command)


def _scan(*ways: str) -> Command:
    """nmap at so many packets a second, over as many ports as take the time, or the usual ports of
    the whole plant."""

    def command(lab: Lab, event: Event) -> list[str]:
        speed = ["--max-rate", f"{event.strength:g}"]
        if event.settings["also"]:
            addresses = [
                lab.machine(name).address for name in [event.target, *event.settings["also"]]
            ]
            return again([*_NMAP, *ways, *speed, "-p", _COMMON_PORTS, *addresses])
        machine = lab.machine(event.target)
        last = max(40, min(65535, round(event.strength * event.length_s)))
        first = (
            f"1-{last}" if "-sV" not in ways else _COMMON_PORTS
        )  # each open port then takes many probes
        ports = f"{first},{open_port(machine)}" if open_port(machine) > last else first
        return again([*_NMAP, *ways, *speed, "-p", ports, machine.address])

    return command


def _one_or_all(event: Event, dice: Dice) -> Event:
    """A scan of one machine, or of the plant."""
    site = dice.site
    wide = dice.chance(0.35)
    others = [
        m.name for m in site.machines if not m.beyond and m.name not in (event.target, ROUTER)
    ]
    attacked = with_attacker(event, dice)
    also = [name for name in others if name != attacked.source] if wide else []
    whom = f"all {len(also) + 1} machines of the plant" if wide else event.target
    return replace(attacked, settings={"also": also, "whom": whom})


def _recon(how: str, least: float, most: float, *ways: str) -> Kind:
    cause = "{attacker} scans {whom} with " + how + " at up to {strength:.0f} packets/s"
    act, strength = _tool(_scan(*ways)), (least, most)
    return Kind(
        "recon",
        programs(*_EXPOSED),
        act,
        cause,
        attacker_and_attacked,
        strength,
        complete=_one_or_all,
    )


def _flood(*ways: str) -> Command:
    def command(lab: Lab, event: Event) -> list[str]:
        machine = lab.machine(event.target)
        port = [] if "-1" in ways else ["-p", str(open_port(machine))]
        pause_us = round(1e6 / event.strength)
        return unheard(["hping3", "-q", *ways, *port, "-i", f"u{pause_us}", machine.address])

    return command


def _dos(what: str, *ways: str) -> Kind:
    cause = "{attacker} floods {target} with {strength:.0f} " + what + "/s"
    act, strength = _tool(_flood(*ways)), (200.0, 2000.0)
    return Kind(
        "dos",
        programs(*_EXPOSED),
        act,
        cause,
        attacker_and_attacked,
        strength,
        complete=with_attacker,
    )


@contextlib.contextmanager
def _flood_many(lab: Lab, event: Event) -> Iterator[None]:
    """Each of the sources sends its share."""
    sources = [event.source, *event.settings["helpers"]]
    share = replace(event, strength=event.strength / len(sources))
    command = _flood(*event.settings["ways"])(lab, share)
    with contextlib.ExitStack() as stack:
        stack.enter_context(plugged_in(lab, event.added))
        for name in sources:
            stack.enter_context(running(lab, name, command))
        yield


def _several(event: Event, dice: Dice) -> Event:
    """Intruders, and infected sensors and cameras of the plant."""
    added = tuple(dice.newcomer("intruder", "intruder") for _ in range(dice.whole(2, 5)))
    own = [
        machine.name
        for machine in programs("sensor", "camera")(dice.site)
        if machine.name != event.target
    ]
    infected = dice.some(own, dice.whole(0, 3))
    names = [*(machine.name for machine in added), *infected]
    ways = dice.pick([["-S"], ["-2", "-d", "120"], ["-1", "-d", "56"]])
    settings = {"helpers": names[1:], "ways": ways, "listed": ", ".join(names)}
    return replace(event, source=names[0], added=added, settings=settings)


def _slowly(lab: Lab, event: Event) -> list[str]:
    machine = lab.machine(event.target)
    return ours("tcp", "hold", machine.address, open_port(machine), round(event.strength))


@contextlib.contextmanager
def _telnet_guess(lab: Lab, event: Event) -> Iterator[None]:
    """The camera turns out to have a telnet login, as those that Mirai found did."""
    with (
        running(lab, event.target, ours("tcp", "listen", 23, "--login")),
        _with_tool(_guess_telnet, lab, event),
    ):
        yield


def _guess_telnet(lab: Lab, event: Event) -> list[str]:
    return ours("guesses", "telnet", lab.machine(event.target).address, 23, event.strength)


def _guess_mqtt(lab: Lab, event: Event) -> list[str]:
    machine = lab.machine(event.target)
    return ours("guesses", "mqtt", machine.address, open_port(machine), event.strength)


def _mqtt_malformed(lab: Lab, event: Event) -> list[str]:
    machine = lab.machine(event.target)
    return ours("mqtt", "malformed", machine.address, open_port(machine), event.strength)


def _mqtt_flood(lab: Lab, event: Event) -> list[str]:
    """With the password of one of the broker's users."""
    machine = lab.machine(event.target)
    user, password = next(iter(machine.settings["users"].items()))
    where = ["flood", machine.address, open_port(machine), event.strength]
    return ours("mqtt", *where, "--user", user, "--password", password)


@contextlib.contextmanager
def _arp_spoof(lab: Lab, event: Event) -> Iterator[None]:
    """Tell the controller and its client that each is at the attacker's MAC, and forward what then
    comes."""
    ends = [lab.machine(name) for name in (event.target, event.settings["also"][0])]
    claims = [f"{one.address}@{other.address}={other.mac}" for one, other in (ends, ends[::-1])]
    truth = [f"--truth={end.address}={end.mac}" for end in ends]
    with plugged_in(lab, event.added):
        try:
            _forward(lab, event.source, True)
            with running(
                lab, event.source, ours("arp", event.strength, *claims, *truth), kindly=True
            ):
                yield
        finally:
            _forward(lab, event.source, False)


def _forward(lab: Lab, name: str, on: bool) -> None:
    settings = [
        f"net.ipv4.ip_forward={int(on)}",
        *(f"net.ipv4.conf.{one}.send_redirects=0" for one in ("all", "eth0")),
    ]
    lab.run(name, ["sysctl", "-qw", *settings]).wait()


def _between(event: Event, dice: Dice) -> Event:
    site = dice.site
    calling = clients(site, event.target)
    client = dice.pick([one for one in calling if one.program == "hmi"] or calling).name
    attacked = with_attacker(event, dice)
    if attacked.source == client:
        intruder = dice.newcomer("intruder", "intruder")
        attacked = replace(attacked, source=intruder.name, added=(intruder,))
    return replace(attacked, settings={"also": [client], "client": client})


def _polled(site: Site) -> list[Machine]:
    return [machine for machine in programs(*_CONTROLLERS)(site) if clients(site, machine.name)]


def _at_broker(label: str, command: Command, cause: str, least: float, most: float) -> Kind:
    act = _tool(command)
    return Kind(
        label,
        programs("broker"),
        act,
        cause,
        attacker_and_attacked,
        (least, most),
        complete=with_attacker,
    )


ATTACKS = {
    "nmap_syn": _recon("SYNs", 4, 200, "-sS"),
    "nmap_connect": _recon("connections", 4, 150, "-sT"),
    "nmap_udp": _recon("UDP", 2, 40, "-sU"),
    "nmap_version": _recon("probes for versions", 4, 100, "-sS", "-sV", "--version-intensity", "5"),
    "flood_syn": _dos("SYNs", "-S"),
    "flood_udp": _dos("UDP packets", "-2", "-d", "120"),
    "flood_icmp": _dos("pings", "-1", "-d", "56"),
    "slow_connections": Kind(
        "dos",
        programs("broker", *_CONTROLLERS, "camera", "recorder"),
        _tool(_slowly),
        "{attacker} holds {strength:.0f} connections to {target} open and says hardly anything",
        attacker_and_attacked,
        strength=(40, 400),
        complete=with_attacker,
    ),
    "flood_many": Kind(
        "ddos",
        programs(*_EXPOSED),
        _flood_many,
        "{listed} together flood {target} with {strength:.0f} packets/s",
        attacker_and_attacked,
        strength=(300, 2500),
        complete=_several,
    ),
    "telnet_guess": Kind(
        "brute_force",
        programs("camera", "recorder", "edge"),
        _telnet_guess,
        "{attacker} guesses telnet passwords of {target}, {strength:.1f} a second",
        attacker_and_attacked,
        strength=(0.3, 4),
        complete=with_attacker,
    ),
    "mqtt_guess": _at_broker(
        "brute_force",
        _guess_mqtt,
        "{attacker} guesses MQTT passwords of {target}, {strength:.1f} a second",
        0.4,
        10,
    ),
    "mqtt_malformed": _at_broker(
        "mqtt_abuse",
        _mqtt_malformed,
        "{attacker} sends {target} {strength:.1f} malformed MQTT packets a second",
        0.5,
        15,
    ),
    "mqtt_flood": _at_broker(
        "mqtt_abuse",
        _mqtt_flood,
        "{attacker} floods {target} with {strength:.0f} MQTT messages a second",
        60,
        1000,
    ),
    "arp_spoof": Kind(
        "spoofing",
        _polled,
        _arp_spoof,
        "{attacker} stands between {client} and {target} by false ARP answers every {strength:.1f} s",
        attacker_and_attacked,
        strength=(0.5, 5),
        complete=_between,
    ),
}


# What an intruder does who is in already: read and write controllers, call home, carry data away.

_ANY_CONTROLLER = programs("plc", "modbus_gateway")
_DROP_ALL = "add table inet mute; add chain inet mute in { type filter hook input priority 0; policy drop; }"
_CONTROL_PORTS = (23, 443, 1337, 4444, 6667, 8080, 8443, 48101)


@contextlib.contextmanager
def _modbus(lab: Lab, event: Event) -> Iterator[None]:
    machine = lab.machine(event.target)
    where = [event.settings["way"], machine.address, open_port(machine), event.strength]
    known = ["--unit", event.settings["unit"], "--registers", machine.settings.get("registers", 11)]
    with plugged_in(lab, event.added), running(lab, event.source, ours("modbus", *where, *known)):
        yield


def _swept(event: Event, dice: Dice) -> Event:
    return with_attacker(event, dice, way="sweep", unit=_unit(event, dice))


def _written(event: Event, dice: Dice) -> Event:
    return with_attacker(event, dice, way="write", unit=_unit(event, dice))


def _unit(event: Event, dice: Dice) -> int:
    settings = dice.site.named(event.target).settings
    return int(dice.pick(settings.get("units") or [settings.get("unit", 1)]))


@contextlib.contextmanager
def _beacon(lab: Lab, event: Event) -> Iterator[None]:
    """The infected target calls; its controller answers, refuses, drops everything, or does not
    exist."""
    chosen, controller = event.settings, [machine.name for machine in event.added]
    call = [
        "tcp",
        "beacon",
        chosen["address"],
        chosen["port"],
        event.strength,
        "--jitter",
        chosen["jitter"],
    ]
    with contextlib.ExitStack() as stack:
        stack.enter_context(plugged_in(lab, event.added))
        if chosen["controller"] == "answers":
            answers = ours(
                "tcp", "listen", chosen["port"], "--answer-bytes", chosen["answer_bytes"]
            )
            stack.enter_context(running(lab, controller[0], answers))
        elif chosen["controller"] == "drops":
            lab.run(controller[0], ["nft", _DROP_ALL]).wait()
        stack.enter_context(
            running(lab, event.target, ours(*call, "--say-bytes", chosen["say_bytes"]))
        )
        yield


def _calling(event: Event, dice: Dice, jitter: float, controllers: tuple[str, ...]) -> Event:
    controller = dice.pick(controllers)
    home = dice.newcomer("controller", "controller", beyond=True)
    settings = {
        "address": home.address,
        "port": dice.pick(_CONTROL_PORTS),
        "jitter": round(jitter, 2),
        "controller": controller,
        "say_bytes": dice.whole(16, 400),
        "answer_bytes": dice.whole(8, 200),
    }
    # Five times in its length at least, so that it is seen to come again.
    period_s = min(event.strength, round(event.length_s / 5, 1))
    return replace(
        event, strength=period_s, settings=settings, added=() if controller == "absent" else (home,)
    )


def _fixed(event: Event, dice: Dice) -> Event:
    return _calling(event, dice, 0.0, ("answers",))


def _jittered(event: Event, dice: Dice) -> Event:
    return _calling(event, dice, dice.even(0.2, 0.7), ("answers",))


def _dead(event: Event, dice: Dice) -> Event:
    return _calling(
        event, dice, dice.pick([0.0, dice.even(0.1, 0.5)]), ("refuses", "drops", "absent")
    )


def _c2(controller: str, complete: Callable[[Event, Dice], Event]) -> Kind:
    infected = programs("sensor", "camera", "edge", "hmi", "workstation")
    cause = "infected {target} calls its controller {address}, " + controller
    return Kind(
        "c2", infected, _beacon, cause, alone, strength=(2, 20), least_s=45, complete=complete
    )


@contextlib.contextmanager
def _exfiltration(lab: Lab, event: Event) -> Iterator[None]:
    (away,) = event.added
    port = event.settings["port"]
    with (
        plugged_in(lab, event.added),
        running(lab, away.name, ours("tcp", "listen", port)),
        running(lab, event.target, ours("tcp", "bulk", away.address, port, event.strength)),
    ):
        yield


def _away(event: Event, dice: Dice) -> Event:
    away = dice.newcomer("drop", "server", beyond=True)
    return replace(
        event,
        added=(away,),
        settings={"address": away.address, "port": dice.pick([443, 21, 22, 80, 8443])},
    )


INTRUSIONS = {
    "modbus_sweep": Kind(
        "recon",
        _ANY_CONTROLLER,
        _modbus,
        "{attacker} reads all registers and units of {target}, {strength:.0f} requests a second",
        attacker_and_attacked,
        strength=(2, 60),
        complete=_swept,
    ),
    "modbus_writes": Kind(
        "unauthorized_command",
        _ANY_CONTROLLER,
        _modbus,
        "{attacker} writes to registers of {target}, {strength:.1f} times a second",
        attacker_and_attacked,
        strength=(0.5, 20),
        complete=_written,
    ),
    "beacon_fixed": _c2("which answers, every {strength:.1f} s", _fixed),
    "beacon_jittered": _c2("which answers, about every {strength:.1f} s", _jittered),
    "beacon_dead": _c2("which is dead ({controller}), about every {strength:.1f} s", _dead),
    "exfiltration": Kind(
        "exfiltration",
        programs("historian", "recorder", "edge", "hmi", "workstation", "camera"),
        _exfiltration,
        "infected {target} sends {strength:.0f} kbit/s to {address}, which it never called before",
        alone,
        strength=(150, 4000),
        complete=_away,
    ),
}
