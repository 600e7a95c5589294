"""The truth of a run: what happened to it, when, and what is therefore true of which device.

event             =========                      begun and undone
sure to show      | label |
may show          |unknown|
either, after            |unknown|               waits between attempts, grown while they failed
plugged in for it | label |unknown ...|          its silence, once it is gone, is no fault
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from eval.testbed.events.catalogue import KINDS
from eval.testbed.events.event import Event, Participant
from eval.testbed.programs.process import longest_retry_pause_s
from eval.testbed.site import Site
from traffic.capture import SAMPLE_S
from traffic.datasets.truth import Interval, Truth
from traffic.labels import NORMAL, UNKNOWN
from traffic.simulation.scenario import without_overlaps
from traffic.windows import WINDOW_SAMPLES

_WINDOW_S = SAMPLE_S * WINDOW_SAMPLES
_RETURN_S = 12.0  # programs start again and sessions are opened


@dataclass(frozen=True)
class ExecutedEvent:
    """An event with the times at which it was really begun and undone, seconds since the epoch."""

    event: Event
    start_s: float
    end_s: float


# device, start_s, end_s, label, direction, event
_Row = tuple[str, float, float, str, Any, Event]


def make_truth(
    seed: int,
    executed: Sequence[ExecutedEvent],
    site: Site,
    start_s: float,
    end_s: float,
    complete: bool,
) -> Truth:
    """What happened, by device: one truth at a time, but for routines, which are normal.

    Where two events meet on one device, what comes from it goes before, and ``unknown`` comes last.
    """
    parts = [
        (one, participant)
        for one in executed
        for participant in KINDS[one.event.kind].participants(site, one.event)
    ]
    rows = [_during(*part) for part in parts]
    rows += [row for part in parts for row in _afterwards(site, *part, end_s)]
    rows.sort(key=lambda row: row[3] == UNKNOWN)
    normal = [row for row in rows if row[3] == NORMAL]
    pieces = map(_unless_cut_short, without_overlaps([row for row in rows if row[3] != NORMAL]))
    intervals = [_make_interval(site, row) for row in (*normal, *pieces) if row[1] < end_s]
    return Truth(
        seed=seed,
        start_s=start_s,
        end_s=end_s,
        complete=complete,
        made_by="faultwise testbed record",
        intervals=tuple(sorted(intervals, key=lambda one: (one.start_s, one.device))),
    )


def _during(one: ExecutedEvent, participant: Participant) -> _Row:
    label = KINDS[one.event.kind].label
    if label != NORMAL and not participant.sure:
        label = UNKNOWN
    direction = "" if label in (NORMAL, UNKNOWN) else participant.direction
    return participant.address, one.start_s, one.end_s, label, direction, one.event


def _afterwards(
    site: Site, one: ExecutedEvent, participant: Participant, run_end_s: float
) -> Iterator[_Row]:
    """The time in which a device recovers, or in which one that was plugged in for it is gone."""
    if participant.machine in [machine.name for machine in one.event.added]:
        yield participant.address, one.end_s, run_end_s, UNKNOWN, "", one.event
    elif KINDS[one.event.kind].label != NORMAL:
        machine = site.named(participant.machine)
        recovery_s = _RETURN_S
        if machine.program:
            recovery_s += float(machine.settings.get("timeout_s", 0.0))
            recovery_s += longest_retry_pause_s(machine, one.end_s - one.start_s)
        back_s = min(one.end_s + recovery_s, run_end_s)
        yield participant.address, one.end_s, back_s, UNKNOWN, "", one.event


def _unless_cut_short(row: _Row) -> _Row:
    """What another event leaves of an interval: too short, and a victim may not have called in it."""
    device, start_s, end_s, _, _, event = row
    if end_s - start_s < _WINDOW_S <= event.length_s:
        return device, start_s, end_s, UNKNOWN, "", event
    return row


def _make_interval(site: Site, row: _Row) -> Interval:
    device, start_s, end_s, label, direction, event = row
    kind = KINDS[event.kind]
    drawn = dict[str, Any](target=event.target, source=event.source, strength=event.strength)
    return Interval(
        device=device,
        start_s=start_s,
        end_s=end_s,
        label=label,
        direction=direction,
        kind=event.kind,
        cause=kind.render_cause(event),
        parameters={**drawn, **event.settings},
        root=kind.participants(site, event)[0].address,
    )
