"""What can happen in an emulated plant, as data: an event, a kind of event, a participant."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from eval.testbed.generator import SiteRandom
from eval.testbed.lab import Lab
from eval.testbed.site import Machine, Site


@dataclass(frozen=True)
class Event:
    """One thing that happens; machines are meant by name.

    Attributes:
        kind: a key of ``eval.testbed.events.catalogue.KINDS``.
        start_s: seconds after the start of the run.
        length_s: seconds until it is undone.
        target: to whom it happens: the machine that fails, or the victim.
        source: who does it, where somebody does: the attacker.
        strength: how bad it is; its kind says in which unit.
        settings: what else was drawn, as plain JSON values.
        added: machines that are plugged in for it and taken away afterwards.
    """

    kind: str
    start_s: float
    length_s: float
    target: str
    source: str = ""
    strength: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    added: tuple[Machine, ...] = ()


@dataclass(frozen=True)
class Participant:
    """A machine's part in an event: it comes from it (``source``), or it suffers (``target``).

    Attributes:
        machine: its name.
        direction: its part.
        address: the one by which it shows it: not its own where it has a wrong one.
        sure: it cannot but show; else the truth of that time is ``unknown``.
    """

    machine: str
    direction: Literal["source", "target"]
    address: str
    sure: bool = True


@dataclass(frozen=True)
class EventKind:
    """One way in which things go wrong, or only look so.

    Attributes:
        label: of ``traffic.labels.LABELS``.
        targets: the machines of a site to which it can happen; none where a site has no such
            machine.
        execute: entering it makes the event happen in a lab, leaving it undoes everything. What it
            gives on entering is, once it is left, what it has measured: plain JSON values that join
            the event's settings.
        participants: who has which part in it; the first is at the root of it.
        cause: one sentence, a template of the event's fields and settings and of ``attacker``.
        strength: range of an event's strength, drawn evenly on a log scale.
        least_s: shortest length that shows it.
        draw: draws the rest of an event: its source, settings and added machines.
        permanent: it lasts to the end of the run.
    """

    label: str
    targets: Callable[[Site], list[Machine]]
    execute: Callable[[Lab, Event], AbstractContextManager[dict[str, Any] | None]]
    participants: Callable[[Site, Event], list[Participant]]
    cause: str
    strength: tuple[float, float] = (0.0, 0.0)
    least_s: float = 20.0
    draw: Callable[[Event, SiteRandom], Event] = lambda event, rng: event  # noqa: ARG005
    permanent: bool = False

    def render_cause(self, event: Event) -> str:
        """The cause of an event in one sentence."""
        attacker = f"infected {event.source}"
        for machine in event.added:
            if machine.name == event.source:
                attacker = f"{event.source}, an intruder at {machine.address},"
        fields = {"target": event.target, "source": event.source, "strength": event.strength}
        return self.cause.format(**{**event.settings, **fields, "attacker": attacker})
