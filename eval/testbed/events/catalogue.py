"""Everything that can happen in an emulated plant, and what does happen in one run, drawn from its
seed."""

import logging
from collections.abc import Sequence
from random import Random

from eval.testbed.events.attacks import ATTACKS, INTRUSIONS
from eval.testbed.events.event import Event, Kind
from eval.testbed.events.faults import FAULTS, OUTAGES
from eval.testbed.events.misconfigurations import MISTAKES
from eval.testbed.events.routines import ROUTINES
from eval.testbed.generator import Dice
from eval.testbed.site import Site
from traffic.errors import UserError
from traffic.labels import LABELS

log = logging.getLogger(__name__)

KINDS: dict[str, Kind] = {**FAULTS, **OUTAGES, **MISTAKES, **ATTACKS, **INTRUSIONS, **ROUTINES}

_EVERY_S = 90.0
_QUIET_S = 45.0
_LEAST_S, _MOST_S = 20.0, 180.0
_REST_S = 12.0  # between two events on one machine: clients come back
_TRIES = 300


def draw_events(site: Site, seed: int, minutes: float, kinds: Sequence[str] = ()) -> list[Event]:
    """What happens in one run, in the order of its starts.

    About one event in a minute and a half. Labels are dealt from shuffled decks, and a label's
    kinds in turn, so runs of consecutive seeds hold all of them. Two events may overlap, but never
    meet on a machine that acts or is acted on.

    Args:
        site: where it happens.
        seed: the same one draws the same events.
        minutes: length of the run.
        kinds: draw exactly these, once each and one after the other, instead.

    Raises:
        UserError: a kind is unknown, impossible on this site, or the run is too short for so many.
    """
    if unknown := sorted(set(kinds) - set(KINDS)):
        raise UserError(
            f"no event is called {unknown[0]}; expected some of {', '.join(KINDS)}; correct --kind"
        )
    dice, run_s = Dice(site, seed), 60 * minutes
    quiet_s = min(_QUIET_S, run_s / 6)
    if kinds:
        events = _one_after_the_other(dice, kinds, quiet_s, run_s)
    else:
        events = []
        for kind in _dealt(site, seed, max(1, round(run_s / _EVERY_S))):
            events += _placed(dice, kind, quiet_s, run_s, events)
    return sorted(events, key=lambda event: event.start_s)


def _dealt(site: Site, seed: int, count: int) -> list[str]:
    """Seed s takes the places s * count and on in one endless row of decks, each of which holds
    every label once."""
    of_label = {
        label: [name for name, kind in KINDS.items() if kind.label == label] for label in LABELS
    }
    dealt = []
    for place in range(seed * count, (seed + 1) * count):
        deck, rank = divmod(place, len(LABELS))
        names = of_label[Random(deck).sample(LABELS, len(LABELS))[rank]]  # noqa: S311 - a deck of cards
        turned = [names[(deck + turn) % len(names)] for turn in range(len(names))]
        dealt += [name for name in turned if KINDS[name].targets(site)][:1]
    return dealt


def _placed(
    dice: Dice, name: str, quiet_s: float, run_s: float, others: list[Event]
) -> list[Event]:
    """One event where there is room for it: shorter the longer that takes to find, and none where
    there is none."""
    kind = KINDS[name]
    most_s = min(_MOST_S, run_s / 3)
    length_s = dice.between(min(kind.least_s, most_s), most_s)
    for _ in range(_TRIES):
        start_s = dice.even(quiet_s, run_s - length_s)
        event = _drawn(dice, name, round(start_s, 1), round(length_s, 1), run_s)
        if not any(_meet(dice.site, event, other) for other in others):
            return [event]
        length_s = max(min(kind.least_s, most_s), length_s * 0.98)
    log.warning("no room for %s beside %d other events: left out", name, len(others))
    return []


def _one_after_the_other(
    dice: Dice, kinds: Sequence[str], quiet_s: float, run_s: float
) -> list[Event]:
    room_s = (run_s - quiet_s) / len(kinds)
    if room_s < _LEAST_S / 2:
        raise UserError(
            f"{len(kinds)} events do not fit into {run_s / 60:g} minutes; expected {_LEAST_S / 2:g} s for each; "
            "name fewer or record longer"
        )
    if impossible := [name for name in kinds if not KINDS[name].targets(dice.site)]:
        raise UserError(
            f"{impossible[0]} cannot happen in this plant: it has no such machine; take another --seed"
        )
    events = []
    for number, name in enumerate(kinds):
        most_s = min(_MOST_S, run_s / 3, 0.8 * room_s)
        length_s = dice.between(min(KINDS[name].least_s, most_s), most_s)
        start_s = quiet_s + number * room_s + dice.even(0, 0.9 * room_s - length_s)
        events.append(_drawn(dice, name, round(start_s, 1), round(length_s, 1), run_s))
    return events


def _drawn(dice: Dice, name: str, start_s: float, length_s: float, run_s: float) -> Event:
    kind = KINDS[name]
    if kind.stays:
        length_s = round(run_s - start_s, 1)
    target = dice.pick(kind.targets(dice.site)).name
    return kind.complete(
        Event(name, start_s, length_s, target, strength=dice.between(*kind.strength)), dice
    )


def _meet(site: Site, one: Event, other: Event) -> bool:
    """Whether two events are about one machine at about one time; those that merely suffer may
    suffer both."""
    first, second = sorted((one, other), key=lambda event: event.start_s)
    near = second.start_s <= first.start_s + first.length_s + _REST_S
    return near and bool(_about(site, one) & _about(site, other))


def _about(site: Site, event: Event) -> set[str]:
    sources = {
        blame.machine
        for blame in KINDS[event.kind].blamed(site, event)
        if blame.direction == "source"
    }
    return sources | {
        event.target,
        *event.settings.get("also", []),
        event.settings.get("cloud", event.target),
    }
