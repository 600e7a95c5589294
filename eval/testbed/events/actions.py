"""Building blocks of events: tools run, machines added, settings changed.

Each context manager undoes what it did when its block is left.
"""

import contextlib
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from eval.testbed.lab import Lab, end
from eval.testbed.site import Machine

_PORTS = {"plc": 502, "modbus_gateway": 502, "broker": 1883, "camera": 554, "recorder": 8080}
_PORTS |= {"s7_server": 102, "enip_server": 44818}


def tool_command(tool: str, *arguments: object) -> list[str]:
    """The command of a module of ``eval.testbed.tools``."""
    return [sys.executable, "-m", f"eval.testbed.tools.{tool}", *map(str, arguments)]


def repeat(command: Sequence[str]) -> list[str]:
    """A command that is run again whenever it has ended."""
    return ["sh", "-c", f"while :; do {shlex.join(command)}; sleep 1; done"]


def discard_output(command: Sequence[str]) -> list[str]:
    """A command without its output: a line for each packet would fill the disk."""
    return ["sh", "-c", f"exec {shlex.join(command)} >/dev/null 2>&1"]


def open_port(machine: Machine) -> int:
    """The port that a machine's clients call."""
    return int(machine.settings.get("port", _PORTS.get(machine.program, 80)))


@contextlib.contextmanager
def tool_running(
    lab: Lab, name: str, command: Sequence[str], terminate: bool = False
) -> Iterator[None]:
    """Run a tool on a machine; ``terminate`` lets it clean up by SIGTERM before it is killed."""
    tool = lab.run(name, command)
    try:
        yield
    finally:
        if terminate:
            tool.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                tool.wait(2)
        end(tool)


@contextlib.contextmanager
def bulk_running(
    lab: Lab, sender: str, receiver: str, port: int, kbit: float, *more: object
) -> Iterator[None]:
    """Send ``kbit`` kbit/s over TCP from one machine to a listener on another."""
    send = tool_command("tcp", "bulk", lab.machine(receiver).address, port, kbit, *more)
    listen = tool_command("tcp", "listen", port)
    with tool_running(lab, receiver, listen), tool_running(lab, sender, send):
        yield


@contextlib.contextmanager
def machines_added(lab: Lab, machines: Sequence[Machine]) -> Iterator[None]:
    """Plug in machines and start their programs."""
    with contextlib.ExitStack() as stack:
        for machine in machines:
            lab.add(machine)
            stack.callback(lab.remove, machine.name)
            lab.start(machine.name)
        yield


@contextlib.contextmanager
def settings_changed(lab: Lab, name: str, **changes: Any) -> Iterator[None]:
    """Restart a machine's program with changed settings."""
    try:
        lab.start(name, **changes)
        yield
    finally:
        lab.start(name)


@contextlib.contextmanager
def program_stopped(lab: Lab, name: str) -> Iterator[None]:
    """End a machine's program; its kernel lives and refuses."""
    try:
        lab.stop(name)
        yield
    finally:
        lab.start(name)


@contextlib.contextmanager
def program_paused(lab: Lab, name: str) -> Iterator[None]:
    """Let a machine's program hang; its kernel lives and acknowledges."""
    try:
        lab.pause(name)
        yield
    finally:
        lab.pause(name, False)


@contextlib.contextmanager
def unplugged(lab: Lab, *names: str) -> Iterator[None]:
    """Pull the cables of machines."""
    try:
        for name in names:
            lab.link(name, False)
        yield
    finally:
        for name in names:
            lab.link(name, True)


@contextlib.contextmanager
def packets_lost(lab: Lab, name: str, share: float) -> Iterator[None]:
    """Let a machine's cable lose a share of its packets, each way."""
    try:
        lab.lose(name, share)
        yield
    finally:
        lab.lose(name, 0.0)


@contextlib.contextmanager
def unstable_link(switch: Callable[[bool], None], pauses_s: Sequence[float]) -> Iterator[None]:
    """Switch something off and on: the first pause off, the second on, and so on; it ends on."""
    over = threading.Event()

    def alternate() -> None:
        for number, pause_s in enumerate(pauses_s):
            switch(bool(number % 2))
            if over.wait(pause_s):
                return

    thread = threading.Thread(target=alternate, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        switch(True)
