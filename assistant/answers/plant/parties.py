"""The plant's own machines and those that nobody knows: told apart, and counted apart, wherever a list has both."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from assistant.answers.asked import Asked, say
from assistant.answers.plant.descriptions import name_times
from assistant.facts.fact import Fact, Value, listed

_MOST = 12  # names that a first line holds before the rest is a number


@dataclass(frozen=True)
class Parties:
    """Machines of a list, in its order.

    Attributes:
        own: those that plant.yaml names; all of them, where there is none.
        strangers: those that it does not name.
    """

    own: tuple[str, ...]
    strangers: tuple[str, ...]

    @property
    def everybody(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.own, *self.strangers)


def part_machines(asked: Asked, machines: Iterable[str]) -> Parties:
    """The machines, each once, parted by whether plant.yaml names them."""
    each = tuple(dict.fromkeys(machines))
    plant = asked.analysis.plant
    if plant is None:
        return Parties(each, ())
    known = {one.address for one in plant.devices}
    return Parties(
        tuple(one for one in each if one in known), tuple(one for one in each if one not in known)
    )


def name_parties(asked: Asked, parties: Parties, times: Mapping[str, int] | None = None) -> Fact:
    """Their names, how many are of the plant and how many nobody knows, as a part of a sentence.

    Args:
        asked: the question.
        parties: whom to name.
        times: how often each did it, where that was counted.
    """
    counts = times or {}

    def name(one: str) -> str:
        told = asked.view.name_of(one)
        return f"{told} ({name_times(counts[one])})" if one in counts else told

    own, strangers = parties.own, parties.strangers
    values: dict[str, Value] = {f"c{place}": n for place, n in enumerate(counts.values())}
    values |= {
        "n": len(own), "names": listed(map(name, own), _MOST),
        "others": len(strangers), "other_names": listed(map(name, strangers), _MOST),
    }  # fmt: skip
    if asked.analysis.plant is None or not strangers:
        kind = "parties_own"
    elif own:
        kind = "parties_both"
    else:
        kind = "parties_one_stranger" if len(strangers) == 1 else "parties_strangers"
    return say(kind, **values)
