"""The plant by zones: a strip of the last hours for each device, the worst first.

Grey is normal. What was not seen is blank, never grey; what is wrong stands taller, has another
colour, and is told in a word beside it.
"""

from dataclasses import dataclass

import numpy as np

from assistant.app.subject import Subject
from assistant.app.views.markup import render
from assistant.detection.pipeline import Analysis
from assistant.diagnosis.device_states import DeviceState
from assistant.history import History
from traffic.capture import SAMPLE_S
from traffic.labels import NORMAL
from traffic.windows import WINDOW_SAMPLES

CELLS = 48
_LEVELS = ("nothing", "normal", "unsure", "low", "medium", "high")


@dataclass(frozen=True)
class ShownDevice:
    """A device with its strip: one of ``_LEVELS`` for each piece of time, the oldest first."""

    state: DeviceState
    cells: tuple[str, ...]


def make_strips(analysis: Analysis) -> dict[str, tuple[str, ...]]:
    """What each device was in each of ``CELLS`` equal pieces of the time that was looked at; in
    fewer where each would be shorter than a slot.

    Returns:
        By address, one of ``_LEVELS`` a piece: ``normal`` where a normal window covers every slot
        that was judged, ``unsure`` where none does, an incident's severity where one lies, and
        ``nothing`` where no window does.
    """
    verdicts, capture = analysis.verdicts, analysis.capture
    if verdicts.empty:
        return {}
    first, last = (round(one / SAMPLE_S) for one in (capture.start_s, capture.end_s))
    n_slots = max(last - first, 1)
    names, code = np.unique(verdicts["device"].to_numpy(str), return_inverse=True)
    begin = np.rint(verdicts["start_s"].to_numpy(float) / SAMPLE_S).astype(np.int64) - first
    calm = (verdicts["label"] == NORMAL).to_numpy() & ~verdicts["abstained"].to_numpy(bool)
    covered = np.zeros(
        (2, len(names), n_slots), bool
    )  # by a window that is not normal, by one that is
    for step in range(WINDOW_SAMPLES):
        at = np.clip(begin + step, 0, n_slots - 1)
        covered[calm.astype(int), code, at] = True
    levels = np.where(covered[1], 1, np.where(covered[0], 2, 0))
    rows = {name: row for row, name in enumerate(names.tolist())}
    for one in analysis.incidents:
        ends = (int(at // SAMPLE_S) - first for at in (one.start_s, one.end_s))
        start, end = (min(max(at, 0), n_slots - 1) for at in ends)
        for device in {one.device, *one.related} & rows.keys():
            part = levels[rows[device], start : end + 1]
            np.maximum(part, _LEVELS.index(one.severity), out=part)
    cuts = np.linspace(0, n_slots, min(CELLS, n_slots), endpoint=False).astype(int)
    worst = np.maximum.reduceat(levels, cuts, axis=1)
    return {name: tuple(_LEVELS[level] for level in worst[row]) for name, row in rows.items()}


def render_plant(subject: Subject, history: History) -> str:
    """Zones, the worst first, each with its devices; folded below, whom nobody named and of whom
    too little was seen, as addresses of the link that a machine has beside its own."""
    picture, analysis = subject.picture(), subject.analysis
    zones: dict[str, list[ShownDevice]] = {}
    fleeting: list[ShownDevice] = []
    strips = make_strips(analysis) if analysis else {}
    zone_of = {one.address: one.zone for one in subject.plant.devices}
    for state in picture.devices:  # the worst first, and so are their zones
        shown = ShownDevice(state, strips.get(state.address, ("nothing",) * CELLS))
        if state.fleeting:
            fleeting.append(shown)
        else:
            zones.setdefault(zone_of.get(state.address, ""), []).append(shown)
    clock = subject.clock(history)
    return render(
        "plant.html.jinja",
        zones=zones,
        fleeting=fleeting,
        judged=picture.judged,
        start=clock.show(analysis.capture.start_s) if analysis else "",
        end=clock.show(analysis.capture.end_s) if analysis else "",
        notes=[clock.tell(one) for one in analysis.capture.notes] if analysis else [],
    )
