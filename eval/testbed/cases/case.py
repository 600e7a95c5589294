"""A field case on paper: a small plant in which one thing is wrong, and what is true of it.

    kind(Draw(seed)) ─▶ Scene ─▶ stage: real programs, tcpdump ─▶ capture.pcap, the truth with counts

The truth is fixed before anything runs; only counts and times are measured, by tshark's own
dissectors, never by this project's readers.
"""

import contextlib
import ipaddress
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from random import Random
from types import MappingProxyType
from typing import Any, TypeAlias

from eval.testbed.events.actions import tool_running
from eval.testbed.lab import Lab
from eval.testbed.site import ROUTER, Machine, Site

# First halves of MAC addresses of makers of such devices (IEEE's register).
_OUIS = (
    *("00:01:e3", "00:00:54", "00:00:bc", "00:30:de", "00:01:05", "00:90:e8", "00:15:a6"),
    *("00:0b:ab", "b8:27:eb", "00:06:5b", "00:a0:45", "00:80:63"),
)
_PRIVATE = ("10.{}.{}.0", "172.20.{}.0", "192.168.{}.0")
# Networks of the public Internet; nothing leaves the lab, and truth about them is about the case.
_PUBLIC = (
    "141.81.{}.0",
    "193.174.{}.0",
    "80.146.{}.0",
    "45.155.{}.0",
    "185.244.{}.0",
    "5.188.{}.0",
)


Act: TypeAlias = Callable[[Lab], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Step:
    """Something that is done in a scene and undone again.

    Attributes:
        at_s: seconds after the start of the capture.
        until_s: when it is undone.
        act: entering it does it, leaving it undoes it.
    """

    at_s: float
    until_s: float
    act: Act


@dataclass(frozen=True)
class CaseTruth:
    """What is true of a case.

    Attributes:
        ask: an operator's question.
        right: the reading in words; ``{name}`` is a measured count, ``{name_s}`` the seconds from
            the start of the capture to the first frame of it.
        standing: allowed standings of an answer.
        device: the address of the device that the case is about; empty where it is about none.
        peers: the addresses at the other end.
        protocol: in which it shows.
        facts: further truth as plain values: codes, ports, units, periods.
        measures: name -> Wireshark display filter whose frames are counted.
        must: regular expressions that a right answer matches.
        must_not: those that it may not match.
        decode: ``-d`` options of tshark for protocols away from their port.
    """

    ask: str
    right: str
    standing: tuple[str, ...] = ("likely", "confirmed")
    device: str = ""
    peers: tuple[str, ...] = ()
    protocol: str = ""
    facts: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    measures: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    must: tuple[str, ...] = ()
    must_not: tuple[str, ...] = ()
    decode: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scene:
    """What is built and done for one case.

    Attributes:
        site: its machines, which are started in their order.
        truth: what is true of it.
        length_s: of the capture, in its own time.
        steps: what is done meanwhile.
        speed: the scene is played so many times faster and its capture stretched by as much;
            1 wherever the kernel's own timers or seconds said on the wire matter.
        late: names of machines that start with the capture, when all others have found each other.
    """

    site: Site
    truth: CaseTruth
    length_s: float
    steps: tuple[Step, ...] = ()
    speed: float = 1.0
    late: tuple[str, ...] = ()


Kind = Callable[["Draw"], Scene]

NOT_HEALTHY = (r"\A[^\n]*healthy",)


def run_tools(machine: Machine, *commands: list[str]) -> Act:
    """What a step does: run tools on a machine until it is undone."""

    @contextlib.contextmanager
    def act(lab: Lab) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for command in commands:
                stack.enter_context(tool_running(lab, machine.name, command))
            yield

    return act


def set_up(name: str, *commands: list[str]) -> Step:
    """Run commands to their end on a machine, before the capture's first second is over."""

    @contextlib.contextmanager
    def act(lab: Lab) -> Iterator[None]:
        for command in commands:
            lab.run(name, command).wait()
        yield

    return Step(-1, 9e9, act)


class Draw(Random):
    """Random numbers and machines for one case; it collects the machines it has added.

    Attributes:
        network: of the plant: mostly private, sometimes public.
        machines: added so far.
    """

    def __init__(self, kind: str, seed: int) -> None:
        super().__init__(f"{kind} {seed}")
        public = self.random() < 0.2
        form = self.choice(_PUBLIC if public else _PRIVATE)
        first = form.format(*(self.randrange(1, 250) for _ in range(form.count("{}"))))
        prefix = self.choice([22, 24, 24, 24, 25])
        self.network = ipaddress.IPv4Network(f"{first}/{prefix}", strict=False)
        usable = [str(one) for one in self.network.hosts() if one.packed[3] not in (0, 255)]
        self.gateway = usable.pop(self.choice([0, -1]))
        self._free = iter(self.sample(usable, 40))
        self._outside = iter(self._draw_outside())
        self.machines: list[Machine] = []

    def _draw_outside(self) -> list[str]:
        """Addresses beyond the router, each of a network of its own."""
        forms = self.sample(_PUBLIC, len(_PUBLIC))
        networks = [
            ipaddress.IPv4Network(f"{form.format(self.randrange(1, 250))}/24") for form in forms
        ]
        away = [one for one in networks if not one.overlaps(self.network)]
        return [str(one[self.randint(2, 250)]) for one in away]

    def free_address(self) -> str:
        """An address of the plant that nobody has."""
        return next(self._free)

    def outside_address(self) -> str:
        """An address beyond the router that nobody has."""
        return next(self._outside)

    def seconds(self, low: float, high: float) -> float:
        return round(self.uniform(low, high), 1)

    def add(
        self,
        role: str,
        program: str = "",
        outside: bool = False,
        address: str = "",
        **settings: Any,
    ) -> Machine:
        """Add a machine with a free address, in the plant or beyond its router."""
        if not address:
            address = self.outside_address() if outside else self.free_address()
        number = 1 + sum(one.role == role for one in self.machines)
        mac = f"{self.choice(_OUIS)}:{self.randbytes(3).hex(':')}"
        switch = "beyond" if outside else "plant"
        short = "ws" if role == "workstation" else role
        machine = Machine(f"{short}-{number}", role, address, mac, program, settings, switch)
        self.machines.append(machine)
        return machine

    def change(self, machine: Machine, **settings: Any) -> Machine:
        """Give a machine further settings."""
        changed = replace(machine, settings={**machine.settings, **settings})
        self.machines[self.machines.index(machine)] = changed
        return changed

    def site(self) -> Site:
        """The plant with all machines that were added, and its router."""
        outside = {f"{one.address.rpartition('.')[0]}.0/24" for one in self.machines if one.beyond}
        mac = f"{self.choice(_OUIS)}:{self.randbytes(3).hex(':')}"
        machines = (Machine(ROUTER, ROUTER, self.gateway, mac), *self.machines)
        return Site(0, str(self.network), self.gateway, machines, tuple(sorted(outside)))


def accelerate(settings: Any, speed: float) -> Any:
    """Settings with every time in seconds shortened: whose name ends in ``_s``.

    MQTT's keep-alive stays, since it is said on the wire: who has one has to speak more often.

    Examples:
        >>> accelerate({"poll_s": 2.0, "port": 502, "retry": {"first_s": 10, "factor": 2}}, 4)
        {'poll_s': 0.5, 'port': 502, 'retry': {'first_s': 2.5, 'factor': 2}}
    """
    if isinstance(settings, Mapping):
        return {
            name: value / speed
            if name.endswith("_s") and name != "keepalive_s" and isinstance(value, (int, float))
            else accelerate(value, speed)
            for name, value in settings.items()
        }
    if isinstance(settings, (list, tuple)):
        return [accelerate(value, speed) for value in settings]
    return settings
