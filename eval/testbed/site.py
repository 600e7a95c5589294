"""An emulated plant on paper: its machines, their addresses, programs and settings.

    machines on the switch of the plant ── router ── machines beyond it (documentation addresses)

Nothing here touches a network; ``eval.testbed.lab`` builds a site, ``generator`` draws one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from traffic.plant import Device, Plant

# Documentation addresses, which belong to nobody (RFC 5737).
BEYOND = ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")
ROUTER = "router"


@dataclass(frozen=True)
class Machine:
    """One machine: a network namespace with an address, and the program that runs in it.

    Attributes:
        name: unique, at most 12 characters, as ``plc-2``.
        role: what an operator would call it; a role of plant.yaml.
        address: IPv4.
        mac: six bytes as text.
        program: a key of ``eval.testbed.programs.runner.PROGRAMS``; empty where nothing runs by
            itself.
        settings: what that program needs to know: rates, ports, names of other machines, passwords.
        switch: the switch it hangs on; ``beyond`` for machines behind the router.
        joins_s: always 0; machines that join later are those that an event adds.
        model: maker and type; empty beyond the router.
        zone: the part of the plant that it belongs to.
    """

    name: str
    role: str
    address: str
    mac: str
    program: str = ""
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    switch: str = "plant"
    joins_s: float = 0.0
    model: str = ""
    zone: str = ""

    @property
    def beyond(self) -> bool:
        return self.switch == "beyond"


@dataclass(frozen=True)
class Site:
    """A plant with what lies beyond its router.

    Attributes:
        seed: it was drawn from.
        network: CIDR of the plant's one network.
        gateway: the router's address in it.
        machines: all of them; the router is one.
        outside: the networks beyond the router, each a /24.
    """

    seed: int
    network: str
    gateway: str
    machines: tuple[Machine, ...]
    outside: tuple[str, ...] = BEYOND

    @property
    def inside(self) -> list[Machine]:
        """The plant's machines, in the site's order; those beyond the router are not among them."""
        return [machine for machine in self.machines if not machine.beyond]

    def with_role(self, *roles: str) -> list[Machine]:
        """The plant's machines of these roles, in the site's order."""
        return [machine for machine in self.inside if machine.role in roles]

    def named(self, name: str) -> Machine:
        """The machine of that name.

        Raises:
            KeyError: there is none.
        """
        for machine in self.machines:
            if machine.name == name:
                return machine
        raise KeyError(name)

    def plant(self) -> Plant:
        """The inventory, as plant.yaml has it."""
        devices = [
            Device(one.name, one.address, one.role, one.model, one.zone, mac=one.mac)
            for one in self.inside
        ]
        return Plant(tuple(devices))
