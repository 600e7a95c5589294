"""What an intruder does who is in already: read and write controllers, call home, carry data away."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace

from eval.testbed.dice import Dice
from eval.testbed.events.actions import open_port, ours, plugged_in, running
from eval.testbed.events.attacks import with_attacker
from eval.testbed.events.event import Event, Kind
from eval.testbed.events.participants import alone, attacker_and_attacked
from eval.testbed.events.participants import running as programs
from eval.testbed.lab import Lab

__all__ = ["INTRUSIONS"]

_CONTROLLERS = programs("plc", "modbus_gateway")
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
    """The infected target calls; its controller answers, refuses, drops everything, or does not exist."""
    chosen, controller = event.settings, [machine.name for machine in event.added]
    call = ["tcp", "beacon", chosen["address"], chosen["port"], event.strength, "--jitter", chosen["jitter"]]
    with contextlib.ExitStack() as stack:
        stack.enter_context(plugged_in(lab, event.added))
        if chosen["controller"] == "answers":
            answers = ours("tcp", "listen", chosen["port"], "--answer-bytes", chosen["answer_bytes"])
            stack.enter_context(running(lab, controller[0], answers))
        elif chosen["controller"] == "drops":
            lab.run(controller[0], ["nft", _DROP_ALL]).wait()
        stack.enter_context(running(lab, event.target, ours(*call, "--say-bytes", chosen["say_bytes"])))
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
    return replace(event, strength=period_s, settings=settings, added=() if controller == "absent" else (home,))


def _fixed(event: Event, dice: Dice) -> Event:
    return _calling(event, dice, 0.0, ("answers",))


def _jittered(event: Event, dice: Dice) -> Event:
    return _calling(event, dice, dice.even(0.2, 0.7), ("answers",))


def _dead(event: Event, dice: Dice) -> Event:
    return _calling(event, dice, dice.pick([0.0, dice.even(0.1, 0.5)]), ("refuses", "drops", "absent"))


def _c2(controller: str, complete: Callable[[Event, Dice], Event]) -> Kind:
    infected = programs("sensor", "camera", "edge", "hmi", "workstation")
    cause = "infected {target} calls its controller {address}, " + controller
    return Kind("c2", infected, _beacon, cause, alone, strength=(2, 20), least_s=45, complete=complete)


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
    return replace(event, added=(away,), settings={"address": away.address, "port": dice.pick([443, 21, 22, 80, 8443])})


INTRUSIONS = {
    "modbus_sweep": Kind(
        "recon",
        _CONTROLLERS,
        _modbus,
        "{attacker} reads all registers and units of {target}, {strength:.0f} requests a second",
        attacker_and_attacked,
        strength=(2, 60),
        complete=_swept,
    ),
    "modbus_writes": Kind(
        "unauthorized_command",
        _CONTROLLERS,
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
