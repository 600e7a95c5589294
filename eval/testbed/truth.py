"""The account of a run: what happened to it, when, and what is therefore true of which device.

event             =========                      begun and undone
sure to show      | label |
may show          |unknown|
either, after            |unknown|               waits between attempts, grown while nothing answered
plugged in for it | label |unknown ...|          its silence, once it is gone, is no fault
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from eval.testbed.events.catalogue import KINDS
from eval.testbed.events.event import Blame, Event
from eval.testbed.programs.process import longest_pause_s
from eval.testbed.site import Machine, Site
from traffic.capture import SAMPLE_S
from traffic.datasets.truth import Interval, Truth
from traffic.labels import NORMAL, UNKNOWN
from traffic.simulation.scenario import settled
from traffic.windows import WINDOW_SAMPLES

_WINDOW_S = SAMPLE_S * WINDOW_SAMPLES
_RETURN_S = 12.0  # programs start again and sessions are opened


@dataclass(frozen=True)
class Happened:
    """An event with the times at which it was really begun and undone, seconds since the epoch."""

    event: Event
    start_s: float
    end_s: float


# device, start_s, end_s, label, direction, event
_Row = tuple[str, float, float, str, str, Event]


def make_truth(
    seed: int,
    happened: Sequence[Happened],
    site: Site,
    start_s: float,
    end_s: float,
    complete: bool,
) -> Truth:
    """What happened, by device: one truth at a time, but for routines, which are normal.

    Where two events meet on one device, what comes from it goes before, and what nobody knows comes
    last.
    """
    blamed = [
        (one, blame) for one in happened for blame in KINDS[one.event.kind].blamed(site, one.event)
    ]
    told = [_told(one, blame) for one, blame in blamed]
    after = [row for one, blame in blamed for row in _afterwards(site, one, blame, end_s)]
    ordered = sorted([*told, *after], key=lambda row: row[3] == UNKNOWN)
    pieces = settled([row for row in ordered if row[3] != NORMAL])
    rows = [*(row for row in ordered if row[3] == NORMAL), *map(_unless_cut_short, pieces)]
    intervals = [_make_interval(site, *row) for row in rows if row[1] < end_s]
    return Truth(
        seed=seed,
        start_s=start_s,
        end_s=end_s,
        complete=complete,
        made_by="faultwise testbed record",
        intervals=tuple(
            sorted(intervals, key=lambda interval: (interval.start_s, interval.device))
        ),
    )


def _told(one: Happened, blame: Blame) -> _Row:
    label = KINDS[one.event.kind].label
    if label == NORMAL or not blame.sure:
        return (
            blame.address,
            one.start_s,
            one.end_s,
            label if label == NORMAL else UNKNOWN,
            "",
            one.event,
        )
    return blame.address, one.start_s, one.end_s, label, blame.direction, one.event


def _afterwards(site: Site, one: Happened, blame: Blame, run_end_s: float) -> Iterator[_Row]:
    """The time in which a device finds back, or in which one that was plugged in for the event is
    gone."""
    if blame.machine in [machine.name for machine in one.event.added]:
        yield blame.address, one.end_s, run_end_s, UNKNOWN, "", one.event
    elif KINDS[one.event.kind].label != NORMAL:
        back_s = one.end_s + _recovery_s(site.named(blame.machine), one.end_s - one.start_s)
        yield blame.address, one.end_s, min(back_s, run_end_s), UNKNOWN, "", one.event


def _recovery_s(machine: Machine, length_s: float) -> float:
    waits_s = float(machine.settings.get("timeout_s", 0.0)) + longest_pause_s(machine, length_s)
    return _RETURN_S + (waits_s if machine.program else 0.0)


def _unless_cut_short(row: _Row) -> _Row:
    """What another event leaves of an interval: below a window's length a victim may not have
    called in it at all."""
    device, start_s, end_s, label, direction, event = row
    if end_s - start_s < _WINDOW_S <= event.length_s:
        return device, start_s, end_s, UNKNOWN, "", event
    return device, start_s, end_s, label, direction, event


def _make_interval(
    site: Site, device: str, start_s: float, end_s: float, label: str, direction: Any, event: Event
) -> Interval:
    kind = KINDS[event.kind]
    drawn = {
        "target": event.target,
        "source": event.source,
        "strength": event.strength,
        **event.settings,
    }
    return Interval(
        device=device,
        start_s=start_s,
        end_s=end_s,
        label=label,
        direction=direction,
        kind=event.kind,
        cause=kind.tell(event),
        parameters=drawn,
        root=kind.blamed(site, event)[0].address,
    )
