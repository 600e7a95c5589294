"""Attacks: scans, floods, guessed passwords, abused MQTT, a man in the middle, and intrusions.

The attacker is a machine that somebody has plugged in, or one of the plant's own that is infected.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from eval.testbed.events import actions
from eval.testbed.events.actions import machines_added, open_port, tool_command, tool_running
from eval.testbed.events.event import Event, EventKind
from eval.testbed.events.participants import alone, attackers_and_victims, clients, machines_running
from eval.testbed.generator import SiteRandom
from eval.testbed.lab import Lab
from eval.testbed.site import ROUTER, Machine, Site

Command = Callable[[Lab, Event], list[str]]

_CONTROLLERS = ("plc", "modbus_gateway")
_CAN_BE_INFECTED = ("workstation", "camera", "edge", "historian", "hmi", "recorder")
_EXPOSED = machines_running(
    *(*_CONTROLLERS, "broker", "camera", "recorder", "opcua_server", "edge", "historian", "hmi")
)
_NMAP = ["nmap", "-n", "-Pn", "-v0", "--max-retries", "1"]
_COMMON_PORTS = "21-23,53,80,102,443,502,554,1883,4840,8080,20000,44818"
_CONTROL_PORTS = (23, 443, 1337, 4444, 6667, 8080, 8443, 48101)
_DROP_ALL = "add table inet mute; add chain inet mute in { type filter hook input priority 0; policy drop; }"


def _draw_attacker(event: Event, rng: SiteRandom, **settings: Any) -> Event:
    """The same event with somebody to do it: an infected machine or an intruder."""
    candidates = machines_running(*_CAN_BE_INFECTED)(rng.site)
    infected = [machine.name for machine in candidates if machine.name != event.target]
    if infected and rng.chance(0.5):
        return replace(event, source=rng.choice(infected), settings=settings)
    intruder = rng.new_machine("intruder", "intruder")
    return replace(event, source=intruder.name, added=(intruder,), settings=settings)


@contextlib.contextmanager
def _with_tool(command: Command, lab: Lab, event: Event) -> Iterator[None]:
    """The source runs one tool for as long as the event lasts."""
    with machines_added(lab, event.added), tool_running(lab, event.source, command(lab, event)):
        yield


# ---- Scans ----


def _scan(*ways: str) -> Command:
    """nmap at so many packets a second, over as many ports of the target as take the time.

    Where the event has ``also``, over the usual ports of the whole plant.
    """

    def command(lab: Lab, event: Event) -> list[str]:
        speed = ["--max-rate", f"{event.strength:g}"]
        if also := event.settings["also"]:
            addresses = [lab.machine(name).address for name in [event.target, *also]]
            return actions.repeat([*_NMAP, *ways, *speed, "-p", _COMMON_PORTS, *addresses])
        machine = lab.machine(event.target)
        last, own = max(40, min(65535, round(event.strength * event.length_s))), open_port(machine)
        # A version scan sends many probes to each open port, so it gets few ports.
        ports = _COMMON_PORTS if "-sV" in ways else f"1-{last}"
        ports = f"{ports},{own}" if own > last else ports
        return actions.repeat([*_NMAP, *ways, *speed, "-p", ports, machine.address])

    return command


def _draw_scan(event: Event, rng: SiteRandom) -> Event:
    """A scan of one machine, or of the plant."""
    wide = rng.chance(0.35)
    attacked = _draw_attacker(event, rng)
    not_scanned = (event.target, ROUTER, attacked.source)
    also = [one.name for one in rng.site.inside if wide and one.name not in not_scanned]
    whom = f"all {len(also) + 1} machines of the plant" if wide else event.target
    return replace(attacked, settings={"also": also, "whom": whom})


def _recon(how: str, strength: tuple[float, float], *ways: str) -> EventKind:
    cause = "{attacker} scans {whom} with " + how + " at up to {strength:.0f} packets/s"
    scan = partial(_with_tool, _scan(*ways))
    return EventKind(
        "recon", _EXPOSED, scan, attackers_and_victims, cause, strength, draw=_draw_scan
    )


# ---- Floods and held connections ----


def _flood(*ways: str) -> Command:
    def command(lab: Lab, event: Event) -> list[str]:
        machine = lab.machine(event.target)
        port = [] if "-1" in ways else ["-p", str(open_port(machine))]
        pause = f"u{round(1e6 / event.strength)}"
        return actions.discard_output(["hping3", "-q", *ways, *port, "-i", pause, machine.address])

    return command


def _dos(what: str, *ways: str) -> EventKind:
    cause = "{attacker} floods {target} with {strength:.0f} " + what + "/s"
    return _attack("dos", _EXPOSED, _flood(*ways), cause, (200, 2000))


@contextlib.contextmanager
def _flood_many(lab: Lab, event: Event) -> Iterator[None]:
    """Each of the sources sends its share."""
    sources = [event.source, *event.settings["helpers"]]
    share = replace(event, strength=event.strength / len(sources))
    command = _flood(*event.settings["ways"])(lab, share)
    with contextlib.ExitStack() as stack:
        stack.enter_context(machines_added(lab, event.added))
        for name in sources:
            stack.enter_context(tool_running(lab, name, command))
        yield


def _draw_attackers(event: Event, rng: SiteRandom) -> Event:
    """Intruders, and infected sensors and cameras of the plant."""
    added = tuple(rng.new_machine("intruder", "intruder") for _ in range(rng.randint(2, 5)))
    candidates = machines_running("sensor", "camera")(rng.site)
    own = [machine.name for machine in candidates if machine.name != event.target]
    names = [*(machine.name for machine in added), *rng.some_of(own, rng.randint(0, 3))]
    ways = rng.choice([["-S"], ["-2", "-d", "120"], ["-1", "-d", "56"]])
    settings = {"helpers": names[1:], "ways": ways, "listed": ", ".join(names)}
    return replace(event, source=names[0], added=added, settings=settings)


# ---- Tools of this package against one port ----


def _against_port(tool: str, *program: str) -> Command:
    """A tool that takes the victim's address, its port and the event's strength."""

    def command(lab: Lab, event: Event) -> list[str]:
        machine = lab.machine(event.target)
        # Connections that are held are whole ones.
        strength = round(event.strength) if program == ("hold",) else event.strength
        return tool_command(tool, *program, machine.address, open_port(machine), strength)

    return command


@contextlib.contextmanager
def _telnet_guess(lab: Lab, event: Event) -> Iterator[None]:
    """The camera turns out to have a telnet login, as those that Mirai found did."""

    def guess(lab: Lab, event: Event) -> list[str]:
        address = lab.machine(event.target).address
        return tool_command("guesses", "telnet", address, 23, event.strength)

    login = tool_command("tcp", "listen", 23, "--login")
    with tool_running(lab, event.target, login), _with_tool(guess, lab, event):
        yield


def _mqtt_flood(lab: Lab, event: Event) -> list[str]:
    """With the password of one of the broker's users."""
    user, password = next(iter(lab.machine(event.target).settings["users"].items()))
    login = ["--user", user, "--password", password]
    return [*_against_port("mqtt", "flood")(lab, event), *login]


def _attack(
    label: str,
    targets: Callable[[Site], list[Machine]],
    command: Command,
    cause: str,
    strength: tuple[float, float],
    draw: Callable[[Event, SiteRandom], Event] = _draw_attacker,
) -> EventKind:
    """An attack in which one attacker runs one tool against one victim."""
    execute = partial(_with_tool, command)
    return EventKind(label, targets, execute, attackers_and_victims, cause, strength, draw=draw)


# ---- Man in the middle ----


@contextlib.contextmanager
def _arp_spoof(lab: Lab, event: Event) -> Iterator[None]:
    """Tell controller and client that each is at the attacker's MAC; forward what then comes."""
    ends = [lab.machine(name) for name in (event.target, event.settings["also"][0])]
    claims = [f"{one.address}@{other.address}={other.mac}" for one, other in (ends, ends[::-1])]
    truth = [f"--truth={end.address}={end.mac}" for end in ends]
    command = tool_command("arp", event.strength, *claims, *truth)
    with machines_added(lab, event.added):
        try:
            _forward(lab, event.source, True)
            with tool_running(lab, event.source, command, terminate=True):
                yield
        finally:
            _forward(lab, event.source, False)


def _forward(lab: Lab, name: str, on: bool) -> None:
    # A forwarding kernel would send ICMP redirects, which tell both ends the direct way.
    quiet = [f"net.ipv4.conf.{one}.send_redirects=0" for one in ("all", "eth0")]
    lab.run(name, ["sysctl", "-qw", f"net.ipv4.ip_forward={int(on)}", *quiet]).wait()


def _draw_middle(event: Event, rng: SiteRandom) -> Event:
    calling = clients(rng.site, event.target)
    client = rng.choice([one for one in calling if one.program == "hmi"] or calling).name
    attacked = _draw_attacker(event, rng)
    if attacked.source == client:
        intruder = rng.new_machine("intruder", "intruder")
        attacked = replace(attacked, source=intruder.name, added=(intruder,))
    return replace(attacked, settings={"also": [client], "client": client})


_BROKER = machines_running("broker")
# fmt: off
ATTACKS = {
    "nmap_syn": _recon("SYNs", (4, 200), "-sS"),
    "nmap_connect": _recon("connections", (4, 150), "-sT"),
    "nmap_udp": _recon("UDP", (2, 40), "-sU"),
    "nmap_version": _recon(
        "probes for versions", (4, 100), "-sS", "-sV", "--version-intensity", "5"),
    "flood_syn": _dos("SYNs", "-S"),
    "flood_udp": _dos("UDP packets", "-2", "-d", "120"),
    "flood_icmp": _dos("pings", "-1", "-d", "56"),
    "slow_connections": _attack(
        "dos", machines_running("broker", *_CONTROLLERS, "camera", "recorder"),
        _against_port("tcp", "hold"),
        "{attacker} holds {strength:.0f} connections to {target} open and says hardly anything",
        (40, 400)),
    "flood_many": EventKind(
        "ddos", _EXPOSED, _flood_many, attackers_and_victims,
        "{listed} together flood {target} with {strength:.0f} packets/s", (300, 2500),
        draw=_draw_attackers),
    "telnet_guess": EventKind(
        "brute_force", machines_running("camera", "recorder", "edge"), _telnet_guess,
        attackers_and_victims,
        "{attacker} guesses telnet passwords of {target}, {strength:.1f} a second", (0.3, 4),
        draw=_draw_attacker),
    "mqtt_guess": _attack(
        "brute_force", _BROKER, _against_port("guesses", "mqtt"),
        "{attacker} guesses MQTT passwords of {target}, {strength:.1f} a second", (0.4, 10)),
    "mqtt_malformed": _attack(
        "mqtt_abuse", _BROKER, _against_port("mqtt", "malformed"),
        "{attacker} sends {target} {strength:.1f} malformed MQTT packets a second", (0.5, 15)),
    "mqtt_flood": _attack(
        "mqtt_abuse", _BROKER, _mqtt_flood,
        "{attacker} floods {target} with {strength:.0f} MQTT messages a second", (60, 1000)),
    "arp_spoof": EventKind(
        "spoofing",
        lambda site: [m for m in machines_running(*_CONTROLLERS)(site) if clients(site, m.name)],
        _arp_spoof, attackers_and_victims,
        "{attacker} stands between {client} and {target} by false ARP answers every {strength:.1f} s",
        (0.5, 5), draw=_draw_middle),
}
# fmt: on


# ---- Intrusions: read and write controllers, call a controller, carry data away ----


def draw_unit(event: Event, rng: SiteRandom) -> int:
    """A Modbus unit of the target."""
    settings = rng.site.named(event.target).settings
    return int(rng.choice(settings.get("units") or [settings.get("unit", 1)]))


def modbus_command(lab: Lab, event: Event, way: str) -> list[str]:
    """The Modbus tool against the event's target and ``unit``."""
    machine = lab.machine(event.target)
    known = ["--unit", event.settings["unit"], "--registers", machine.settings.get("registers", 11)]
    where = [way, machine.address, open_port(machine), event.strength]
    return tool_command("modbus", *where, *known)


def _modbus(label: str, way: str, cause: str, strength: tuple[float, float]) -> EventKind:
    """The Modbus tool against a controller in one of its ways."""
    return _attack(
        label, machines_running(*_CONTROLLERS),
        lambda lab, event: modbus_command(lab, event, way), cause, strength,
        lambda event, rng: _draw_attacker(event, rng, unit=draw_unit(event, rng), way=way),
    )  # fmt: skip


@contextlib.contextmanager
def _beacon(lab: Lab, event: Event) -> Iterator[None]:
    """The infected target calls; its controller answers, refuses, drops all, or does not exist."""
    settings, controller = event.settings, [machine.name for machine in event.added]
    where = (settings["address"], settings["port"], event.strength)
    shape = ("--jitter", settings["jitter"], "--say-bytes", settings["say_bytes"])
    answer = ("--answer-bytes", settings["answer_bytes"])
    with contextlib.ExitStack() as stack:
        stack.enter_context(machines_added(lab, event.added))
        if settings["controller"] == "answers":
            listen = tool_command("tcp", "listen", settings["port"], *answer)
            stack.enter_context(tool_running(lab, controller[0], listen))
        elif settings["controller"] == "drops":
            lab.run(controller[0], ["nft", _DROP_ALL]).wait()
        call = tool_command("tcp", "beacon", *where, *shape)
        stack.enter_context(tool_running(lab, event.target, call))
        yield


def _draw_beacon(event: Event, rng: SiteRandom, jitter: float, *controllers: str) -> Event:
    controller = rng.choice(controllers)
    home = rng.new_machine("controller", "controller", beyond=True)
    settings = {
        "address": home.address,
        "port": rng.choice(_CONTROL_PORTS),
        "jitter": round(jitter, 2),
        "controller": controller,
        "say_bytes": rng.randint(16, 400),
        "answer_bytes": rng.randint(8, 200),
    }
    # Five times in its length at least, so that it is seen to come again.
    period_s = min(event.strength, round(event.length_s / 5, 1))
    added = () if controller == "absent" else (home,)
    return replace(event, strength=period_s, settings=settings, added=added)


def _c2(how: str, jitter: Callable[[SiteRandom], float], *controllers: str) -> EventKind:
    """A beacon with a jitter that is drawn, to a controller in one of some states."""
    infected = machines_running("sensor", "camera", "edge", "hmi", "workstation")
    cause = "infected {target} calls its controller {address}, " + how

    def draw(event: Event, rng: SiteRandom) -> Event:
        return _draw_beacon(event, rng, jitter(rng), *controllers)

    return EventKind("c2", infected, _beacon, alone, cause, (2, 20), least_s=45, draw=draw)


@contextlib.contextmanager
def _exfiltration(lab: Lab, event: Event) -> Iterator[None]:
    (away,), port = event.added, event.settings["port"]
    bulk = actions.bulk_running(lab, event.target, away.name, port, event.strength)
    with machines_added(lab, event.added), bulk:
        yield


def _draw_drop(event: Event, rng: SiteRandom) -> Event:
    away = rng.new_machine("drop", "server", beyond=True)
    settings = {"address": away.address, "port": rng.choice([443, 21, 22, 80, 8443])}
    return replace(event, added=(away,), settings=settings)


# fmt: off
INTRUSIONS = {
    "modbus_sweep": _modbus(
        "recon", "sweep",
        "{attacker} reads all registers and units of {target}, {strength:.0f} requests a second",
        (2, 60)),
    "modbus_writes": _modbus(
        "unauthorized_command", "write",
        "{attacker} writes to registers of {target}, {strength:.1f} times a second", (0.5, 20)),
    "beacon_fixed": _c2("which answers, every {strength:.1f} s", lambda _: 0.0, "answers"),
    "beacon_jittered": _c2(
        "which answers, about every {strength:.1f} s",
        lambda rng: rng.uniform(0.2, 0.7), "answers"),
    "beacon_dead": _c2(
        "which is dead ({controller}), about every {strength:.1f} s",
        lambda rng: rng.choice([0.0, rng.uniform(0.1, 0.5)]), "refuses", "drops", "absent"),
    "exfiltration": EventKind(
        "exfiltration",
        machines_running("historian", "recorder", "edge", "hmi", "workstation", "camera"),
        _exfiltration, alone,
        "infected {target} sends {strength:.0f} kbit/s to {address}, which it never called before",
        (150, 4000), draw=_draw_drop),
}
# fmt: on
