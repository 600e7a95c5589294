"""Draws a site: which machines there are, where they stand, and who made them; ``habits`` draws what they do."""

import ipaddress
from collections.abc import Iterator
from dataclasses import replace
from random import Random

from eval.testbed.habits import draw_habits
from eval.testbed.makes import MAKES
from eval.testbed.site import BEYOND, ROUTER, Machine, Site

__all__ = ["draw_site"]

# Where role and program differ.
_PROGRAMS = {"gateway": "modbus_gateway", "robot": "opcua_server", "mes": "opcua_client", ROUTER: ""}
_CELLS = ("filling", "mixing", "packing", "pressing", "boiling", "paint shop", "assembly", "tank farm")
_IN_CELLS = ("plc", "gateway", "hmi", "sensor", "robot", "camera")
_MOST = 30


def draw_site(seed: int, busy: float = 1.0) -> Site:
    """A plant of 24 to 30 machines with what lies beyond it: counts, addresses, makes, rhythms and habits drawn.

    Args:
        seed: the same seed draws the same site.
        busy: how often things are said and how large pictures are, 1 being usual; the counts do not depend on it.
    """
    dice = Random(seed)  # noqa: S311 - a plant, not a secret
    network = _draw_network(dice)
    gateway = str(network[dice.choice([1, 1, -2])])
    machines = tuple(_place(_draw_roles(dice), network, gateway, dice))
    habits = draw_habits(machines, dice, busy)
    with_habits = tuple(replace(machine, settings=habits.get(machine.name, {})) for machine in machines)
    return Site(seed, str(network), gateway, with_habits)


def _draw_network(dice: Random) -> ipaddress.IPv4Network:
    private = f"192.168.{dice.randrange(256)}.0", f"10.{dice.randrange(256)}.{dice.randrange(256)}.0"
    first = dice.choice([*private, f"172.{dice.randint(16, 31)}.{dice.randrange(256)}.0"])
    return ipaddress.IPv4Network(f"{first}/{dice.choice([22, 23, 24, 24, 24, 25])}", strict=False)


def _draw_roles(dice: Random) -> dict[str, int]:
    """How many there are of each role, those asked before those that ask, which is the order they are started in."""
    asked = {
        "plc": dice.randint(3, 6),
        "gateway": 1,
        "broker": 1,
        "camera": dice.randint(1, 2),
        "robot": 1,
        "recorder": 1,
    }
    asking = {"hmi": dice.randint(1, 2), "historian": 1, "edge": 1, "mes": 1, "workstation": 1}
    counts = {ROUTER: 1, "dns": 1, "ntp": 1, "cloud": dice.randint(1, 3)} | asked | asking
    return counts | {"sensor": dice.randint(6, min(10, _MOST - sum(counts.values())))}


def _place(counts: dict[str, int], network: ipaddress.IPv4Network, gateway: str, dice: Random) -> Iterator[Machine]:
    """Give every machine a name, an address, a maker and a place."""
    # Hosts that end in 0 or 255 are rare, and taken for broadcasts by some tools.
    hosts = [str(host) for host in network.hosts() if host.packed[3] not in (0, 255) and str(host) != gateway]
    inside = iter(dice.sample(hosts, sum(counts.values())))
    afar = iter([f"{beyond.removesuffix('.0/24')}.{dice.randint(2, 254)}" for beyond in dice.sample(BEYOND, 3)])
    tails = iter(dice.sample(range(1 << 24), sum(counts.values())))
    cells = dice.sample(_CELLS, dice.randint(2, 4))
    for role, count in counts.items():
        makes = dice.sample(MAKES[role], min(2, count))  # a plant buys from few makers
        for number in range(1, count + 1):
            name = role if role == ROUTER else f"{'ws' if role == 'workstation' else role}-{number}"
            model, prefix = dice.choice(makes)
            tail = next(tails).to_bytes(3, "big").hex(":")
            address = next(afar) if role == "cloud" else gateway if role == ROUTER else next(inside)
            yield Machine(
                name,
                role,
                address,
                f"{prefix}:{tail}",
                program=_PROGRAMS.get(role, role),
                switch="beyond" if role == "cloud" else "plant",
                model=model,
                zone=dice.choice(cells) if role in _IN_CELLS else "" if role == "cloud" else "control room",
            )
