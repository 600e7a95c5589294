"""Chance in one site: whom it hits, and addresses that nobody has yet. The same seed throws the same."""

import ipaddress
import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, TypeVar

from eval.testbed.site import BEYOND, Machine, Site

__all__ = ["Dice"]

_T = TypeVar("_T")


class Dice:
    """Throws for one run; remembers which addresses it has given away."""

    def __init__(self, site: Site, seed: int) -> None:
        self.site = site
        self._random = Random(seed)  # noqa: S311 - a plant, not a secret
        self._taken = {machine.address for machine in site.machines}
        self._named = 0

    def chance(self, share: float) -> bool:
        return self._random.random() < share

    def pick(self, options: Sequence[_T]) -> _T:
        return options[self._random.randrange(len(options))]

    def some(self, options: Sequence[_T], count: int) -> list[_T]:
        """So many different ones, or all where there are fewer, in the order given."""
        chosen = sorted(self._random.sample(range(len(options)), min(count, len(options))))
        return [options[i] for i in chosen]

    def whole(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def even(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    def between(self, low: float, high: float) -> float:
        """Evenly on a log scale, so that mild comes as often as bad; three digits of it.

        Examples:
            >>> Dice(Site(1, "10.0.0.0/24", "10.0.0.1", ()), 1).between(0.5, 0.5)
            0.5
        """
        if low <= 0:
            return low
        value = math.exp(self._random.uniform(math.log(low), math.log(high)))
        return float(f"{value:.3g}")

    def address(self, beyond: bool = False) -> str:
        """One that no machine has, in the plant's network or beyond the router."""
        network = ipaddress.ip_network(self.pick(BEYOND) if beyond else self.site.network)
        while True:
            address = str(network[self._random.randrange(2, network.num_addresses - 1)])
            if address not in self._taken:
                self._taken.add(address)
                return address

    def newcomer(
        self, name: str, role: str, beyond: bool = False, program: str = "", settings: Mapping[str, Any] | None = None
    ) -> Machine:
        """A machine that the site does not list, with a name, an address and a MAC of its own."""
        self._named += 1
        mac = "02:" + ":".join(f"{self._random.randrange(256):02x}" for _ in range(5))
        switch = "beyond" if beyond else "plant"
        return Machine(
            f"{name}-{self._named}", role, self.address(beyond), mac, program, settings=settings or {}, switch=switch
        )
