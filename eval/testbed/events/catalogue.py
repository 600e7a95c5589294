"""Everything that can happen in an emulated plant, and what does happen in one run.

To add a kind of event, add one ``EventKind`` to the table of its module: ``FAULTS`` or ``OUTAGES``
(``faults``), ``MISCONFIGURATIONS``, ``ATTACKS`` or ``INTRUSIONS`` (``attacks``), ``ROUTINES``. The
entry names its label, the function that executes and undoes it, who takes part, and its cause in
one sentence; nothing else lists kinds. Of a new label or a new symptom, ``verify.checks`` must know
how it shows in packets. A new kind changes what a seed draws: recorded runs keep their truth.
"""

import logging
from collections.abc import Sequence
from random import Random

from eval.testbed.events.attacks import ATTACKS, INTRUSIONS
from eval.testbed.events.event import Event, EventKind
from eval.testbed.events.faults import FAULTS, OUTAGES
from eval.testbed.events.misconfigurations import MISCONFIGURATIONS
from eval.testbed.events.routines import ROUTINES
from eval.testbed.generator import SiteRandom
from eval.testbed.site import Site
from traffic.errors import UserError
from traffic.labels import LABELS

log = logging.getLogger(__name__)

KINDS: dict[str, EventKind] = FAULTS | OUTAGES | MISCONFIGURATIONS | ATTACKS | INTRUSIONS | ROUTINES

_EVERY_S = 90.0
_QUIET_S = 45.0  # at the start: a baseline without any event
_LEAST_S, _MOST_S = 20.0, 180.0
_REST_S = 12.0  # between two events on one machine: clients come back
_TRIES = 300  # places tried for an event before it is left out


def check_kinds(kinds: Sequence[str]) -> None:
    """Refuse kinds of events that do not exist.

    Raises:
        UserError: one is unknown.
    """
    if unknown := sorted(set(kinds) - set(KINDS)):
        expected = ", ".join(KINDS)
        raise UserError(
            f"no event is called {unknown[0]}; expected some of {expected}; correct --kind"
        )


def draw_events(site: Site, seed: int, minutes: float, kinds: Sequence[str] = ()) -> list[Event]:
    """Draw what happens in one run, in the order of its starts.

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
    check_kinds(kinds)
    rng, run_s = SiteRandom(site, seed), 60 * minutes
    quiet_s = min(_QUIET_S, run_s / 6)
    if kinds:
        return _draw_in_turn(rng, kinds, quiet_s, run_s)
    events: list[Event] = []
    for kind in _deal_kinds(site, seed, max(1, round(run_s / _EVERY_S))):
        events += _draw_where_free(rng, kind, quiet_s, run_s, events)
    return sorted(events, key=lambda event: event.start_s)


def _deal_kinds(site: Site, seed: int, count: int) -> list[str]:
    """The kinds of one run; a kind that is impossible on this site gives way to the next."""
    # Seed s takes the places s * count and on in one endless row of decks; each holds every label.
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


def _draw_where_free(
    rng: SiteRandom, name: str, quiet_s: float, run_s: float, others: list[Event]
) -> list[Event]:
    """One event where there is room, shorter the longer that takes to find; none without room."""
    most_s = min(_MOST_S, run_s / 3)
    least_s = min(KINDS[name].least_s, most_s)
    length_s = rng.log_uniform(least_s, most_s)
    for _ in range(_TRIES):
        start_s = rng.uniform(quiet_s, run_s - length_s)
        event = _draw_event(rng, name, round(start_s, 1), round(length_s, 1), run_s)
        if not any(_collide(rng.site, event, other) for other in others):
            return [event]
        length_s = max(least_s, length_s * 0.98)
    log.warning("no room for %s beside %d other events: left out", name, len(others))
    return []


def _draw_in_turn(
    rng: SiteRandom, kinds: Sequence[str], quiet_s: float, run_s: float
) -> list[Event]:
    room_s = (run_s - quiet_s) / len(kinds)
    if room_s < _LEAST_S / 2:
        raise UserError(
            f"{len(kinds)} events do not fit into {run_s / 60:g} minutes; "
            f"expected {_LEAST_S / 2:g} s for each; name fewer or record longer"
        )
    if impossible := [name for name in kinds if not KINDS[name].targets(rng.site)]:
        raise UserError(
            f"{impossible[0]} cannot happen in this plant: it has no such machine; take another --seed"
        )
    events = []
    for number, name in enumerate(kinds):
        most_s = min(_MOST_S, run_s / 3, 0.8 * room_s)
        length_s = rng.log_uniform(min(KINDS[name].least_s, most_s), most_s)
        start_s = quiet_s + number * room_s + rng.uniform(0, 0.9 * room_s - length_s)
        events.append(_draw_event(rng, name, round(start_s, 1), round(length_s, 1), run_s))
    return events


def _draw_event(rng: SiteRandom, name: str, start_s: float, length_s: float, run_s: float) -> Event:
    kind = KINDS[name]
    if kind.permanent:
        length_s = round(run_s - start_s, 1)
    target = rng.choice(kind.targets(rng.site)).name
    strength = rng.log_uniform(*kind.strength)
    return kind.draw(Event(name, start_s, length_s, target, strength=strength), rng)


def _collide(site: Site, one: Event, other: Event) -> bool:
    """Whether two events act on one machine at about one time; two may make one machine suffer."""
    first, second = sorted((one, other), key=lambda event: event.start_s)
    near = second.start_s <= first.start_s + first.length_s + _REST_S
    return near and bool(_acted_on(site, one) & _acted_on(site, other))


def _acted_on(site: Site, event: Event) -> set[str]:
    participants = KINDS[event.kind].participants(site, event)
    sources = {one.machine for one in participants if one.direction == "source"}
    others = [*event.settings.get("also", []), event.settings.get("cloud", event.target)]
    return sources | {event.target, *others}
