"""What acts are made of: machines plugged in, tools run, settings changed; each is undone when its
block is left."""

import contextlib
import json
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from eval.testbed.lab import Lab, end
from eval.testbed.site import Machine

_PORTS = {"plc": 502, "modbus_gateway": 502, "broker": 1883, "camera": 554, "recorder": 8080}


def ours(tool: str, *arguments: object) -> list[str]:
    """The command of a tool of this package."""
    return [sys.executable, "-m", f"eval.testbed.tools.{tool}", *map(str, arguments)]


def again(command: Sequence[str]) -> list[str]:
    """A command that is run again whenever it has ended."""
    return ["sh", "-c", f"while :; do {shlex.join(command)}; sleep 1; done"]


def unheard(command: Sequence[str]) -> list[str]:
    """A command whose words are thrown away: a line for each packet would fill the disk."""
    return ["sh", "-c", f"exec {shlex.join(command)} >/dev/null 2>&1"]


def open_port(machine: Machine) -> int:
    """The port that a machine's clients call."""
    return int(machine.settings.get("port", _PORTS.get(machine.program, 80)))


@contextlib.contextmanager
def running(lab: Lab, name: str, command: Sequence[str], kindly: bool = False) -> Iterator[None]:
    """Run a tool on a machine; ``kindly`` lets it say good-bye."""
    tool = lab.run(name, command)
    try:
        yield
    finally:
        if kindly:
            tool.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                tool.wait(2)
        end(tool)


@contextlib.contextmanager
def plugged_in(lab: Lab, machines: Sequence[Machine]) -> Iterator[None]:
    """Add machines and start what runs on them."""
    with contextlib.ExitStack() as stack:
        for machine in machines:
            lab.add(machine)
            stack.callback(lab.remove, machine.name)
            lab.start(machine.name)
        yield


@contextlib.contextmanager
def reset(lab: Lab, name: str, **changes: Any) -> Iterator[None]:
    """Run a machine's program with changed settings."""
    try:
        lab.start(name, **changes)
        yield
    finally:
        lab.start(name)


@contextlib.contextmanager
def shaky(flip: Callable[[bool], None], pauses: Sequence[float]) -> Iterator[None]:
    """Turn something off and on again, the first pause off, the second on, and so on in turn; it is
    left on."""
    over = threading.Event()

    def shake() -> None:
        for number, pause_s in enumerate(pauses):
            flip(bool(number % 2))
            if over.wait(pause_s):
                return

    thread = threading.Thread(target=shake, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        flip(True)


def carried_kbit(name: str, look_s: float = 2.0) -> float:
    """What a machine's cable carries now, in its busier direction, in kbit/s."""
    before = _counted(name)
    time.sleep(look_s)
    return (
        max(after - earlier for after, earlier in zip(_counted(name), before, strict=True))
        * 8
        / 1000
        / look_s
    )


def connected(name: str, port: int) -> list[str]:
    """The addresses that hold a TCP connection to a machine's port."""
    command = [
        "ip",
        "netns",
        "exec",
        name,
        "ss",
        "-Htn",
        "state",
        "established",
        f"( sport = :{port} )",
    ]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return sorted({line.split()[3].rpartition(":")[0] for line in lines})


def _counted(name: str) -> list[int]:
    command = ["ip", "-n", name, "-json", "-stats", "link", "show", "eth0"]
    counters = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)[0][
        "stats64"
    ]
    return [counters[way]["bytes"] for way in ("rx", "tx")]
