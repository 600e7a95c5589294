"""The monitor: slots of ten seconds are closed, the recent past is read again, verdicts and alarms
follow.

    source ─▶ recent pieces on disk ─▶ read, samples, windows ─▶ verdicts ─▶ incidents ─▶ alarms
                └ noted with the source's position and the verdicts, one transaction a slot

It calls the same functions as for files: what `faultwise incidents` says of the recent past is what is
raised. See docs/watch.md for what is measured and where it ends.
"""

import ctypes
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from assistant.detection.incidents import Incident, make_incidents
from assistant.detection.pipeline import Analysis
from assistant.facts.traffic_view import TrafficView
from assistant.monitor.alarms import Alarms, Change
from assistant.monitor.clock import SlotClock
from assistant.monitor.first_contacts import FirstContacts
from assistant.monitor.judged import Judge, Judged
from assistant.monitor.newest import Sign
from assistant.monitor.recent import Recent
from assistant.monitor.sensor import Condition, SensorHealth, make_condition
from assistant.monitor.signs import find_signs
from assistant.monitor.source import Batch
from assistant.monitor.state import MonitorState
from assistant.monitor.watched import SlotReport, Watched
from traffic.capture import SAMPLE_S, Capture
from traffic.errors import UserError
from traffic.plant import Plant
from traffic.samples import make_samples
from traffic.windows import Windows, make_windows

_REVISED_S = 600.0
_WAIT_S = 0.25
# Rows of flows and slots whose alarms are worked out anew within one slot, about four seconds of one
# core; of larger plants every second slot, every third.
_ROWS_A_SLOT = 100_000
_STOPPED_S = 30.0
# Half-way through a slot its packets are looked at already, by rules alone: the model needs whole
# slots. Where a slot's work takes more than so many seconds the next slot would wait for it. Halves of
# these halves are looked at for first signs alone, where reading takes no longer than so many seconds:
# rules cost three times as much.
_LOOK_S, _LOOK_WORK_S = 5.0, 4.0
_GLANCE_S, _GLANCE_READ_S = 2.5, 1.0
_TRIM_SLOTS = 60  # ten minutes: it takes some hundredths of a second, and the next slot as many
_NO_SLOT = 1 << 62  # all verdicts are of earlier slots


@dataclass(frozen=True)
class _Picture:
    """The recent past as rules see it, its incidents, and signs that these do not tell."""

    view: TrafficView
    incidents: list[Incident]
    signs: list[Sign]


def find_position(folder: Path, name: str) -> dict[str, Any]:
    """Where a source was when the monitor of a folder stopped; empty at the first start, and where
    a recording was given to its end.

    Raises:
        UserError: the state cannot be read, or is of another source.
    """
    with closing(MonitorState(folder)) as state:
        kept = state.progress()
    if not kept or kept["ended"]:
        return {}
    if kept["name"] != name:
        raise UserError(
            f"{folder} holds the state of {kept['name']}; expected that of {name}; "
            "name another folder with --state, or give that up with --anew"
        )
    return dict(kept["position"])


def end_run(folder: Path) -> None:
    """Let what a state is of be over, so that the next start begins anew.

    Raises:
        UserError: the state cannot be read or written.
    """
    with closing(MonitorState(folder)) as state:
        if kept := state.progress():
            state.save(kept | {"ended": True}, state.verdicts().iloc[:0], 0)


class Monitor:
    """A running monitor; one thread calls it."""

    def __init__(self, watched: Watched) -> None:
        """Go on where the state says that it stopped, or begin.

        Raises:
            UserError: the state cannot be read or written.
        """
        self._w = watched
        bounds = watched.bounds
        self._state = MonitorState(watched.folder)
        kept = self._state.progress()
        kept = {} if kept.get("ended") else kept
        # Once noted, so that a replay that is killed goes on as the run that it was.
        self._run = str(kept.get("run", "" if watched.source.live or kept else _stamp()))
        self._recent = Recent(watched.folder / "recent", bounds.horizon_s, bounds.most_rows)
        self._recent.restore(kept.get("recent", {}))
        newest_s = float(kept.get("newest_s", float("nan")))
        self._clock = SlotClock(watched.source.lateness_s, watched.source.back_s, newest_s)
        self._closed: int | None = kept.get("closed")
        self._begun_s = float(kept.get("begun_s", float("nan")))  # nothing before was thrown away
        self._position: dict[str, Any] = kept.get("position", {})
        self._judge = Judge(watched.llm, watched.card, self._state.verdicts(), watched.plant)
        self._contacts = FirstContacts(self._state.contacts())
        if not kept:
            self._judge.forget()
            self._contacts.forget()
            self._save(None, self._judge.nothing(), _NO_SLOT, ended=False)
        self._alarms = Alarms(watched.history, watched.plant, watched.name, run=self._run)
        self._sensor = SensorHealth(watched.name)
        self._full_since_s: float | None = None
        self._pending: Batch | None = None
        self._told: frozenset[str] = frozenset()
        self._judged: tuple[Windows, Judged] | None = None  # at the newest closing
        self._looked_s, self._ruled_s = float("-inf"), float("-inf")
        self._work_s, self._read_s = 0.0, 0.0
        self._incidents: list[Incident] = []  # as rules saw them last
        # The recent past as it was worked out last, its incidents under the ids of their alarms.
        self.analysis: Analysis | None = None
        if watched.source.live and kept:
            self._note_stop(float(kept.get("at_s", time.time())))

    @property
    def run_id(self) -> str:
        """Of which run of a recording its alarms are; "" of what is live."""
        return self._run

    def use_plant(self, plant: Plant) -> None:
        """Judge by an inventory that was changed, from the next slot on; the devices' names, roles
        and contacts remain those of the start."""
        self._w = replace(self._w, plant=plant)

    def close(self) -> None:
        """Close the state; the history is the caller's."""
        self._state.close()
        self._w.source.close()

    def run(self, tell: Callable[[SlotReport], None], stop: Callable[[], bool]) -> None:
        """Watch until the source ends, or ``stop`` says so.

        Args:
            tell: gets what each closing of slots gave, and changes of the sensor's state between.
            stop: asked several times a second.
        """
        ended = False
        while not ended and not stop():
            report, ended = self.step()
            if report is not None:
                tell(report)

    def step(self) -> tuple[SlotReport | None, bool]:
        """Take what the source has, and close what is over.

        Returns:
            What that gave, None where nothing did; and whether the source has ended.
        """
        batch = self._pending or self._w.source.read(_WAIT_S)
        if not self._take(batch):
            time.sleep(_WAIT_S)
            return self._follow_sensor(), False
        closable = self._clock.closable()
        if batch.ended and closable is not None:
            closable = int(self._clock.newest_s // SAMPLE_S)
        if closable is None or self._closed is None:
            return self._follow_sensor(), batch.ended
        ready = closable - self._closed
        if ready > 0 and self._is_due(batch, ready):
            report = self._close_slots(closable, ready, batch)
            if report is None:
                self._pending = replace(batch, parts=(), ts=batch.ts[:0])
                time.sleep(_WAIT_S)
                return self._follow_sensor(), False
            return report, batch.ended
        return self._look(batch) or self._follow_sensor(), batch.ended

    def _is_due(self, batch: Batch, ready: int) -> bool:
        return batch.ended or not batch.more or ready >= self._w.bounds.most_slots

    def _take(self, batch: Batch) -> bool:
        """Keep a batch; where it cannot be kept it is held until it can, and nothing more read."""
        if self._pending is None:
            closed_s = float("nan") if self._closed is None else (self._closed + 1) * SAMPLE_S
            before_s = self._clock.newest_s
            if self._clock.see(batch.ts, closed_s):
                self._begin_anew(before_s)
            if np.isnan(self._begun_s) and len(batch.ts):
                self._begun_s = float(batch.ts.min())
                self._closed = int(self._begun_s // SAMPLE_S) - 1
        self._sensor.see_troubles(batch.troubles, bool(len(batch.ts)), self._now_s())
        try:
            self._recent.append(batch, self._clock.newest_s)
        except OSError:
            self._pending = batch
            self._full_since_s = self._full_since_s or self._now_s()
            return False
        self._pending, self._full_since_s = None, None
        if batch.position:
            self._position = batch.position
        return True

    def _begin_anew(self, before_s: float) -> None:
        """The clock was set back: what was kept has the times of another clock."""
        self._recent.clear()
        self._judge.forget()
        self._contacts.forget()
        self._closed, self._begun_s, self._incidents = None, float("nan"), []
        at_s = self._clock.newest_s
        self._sensor.hold(make_condition("clock_back", self._w.name, before_s, at_s), self._now_s())

    # ---- Closing slots ----

    def _close_slots(self, closable: int, ready: int, batch: Batch) -> SlotReport | None:
        """Judge what is over; None where the state cannot be kept: then it is tried again."""
        over_s, end_s, ended = time.monotonic(), (closable + 1) * SAMPLE_S, batch.ended
        judged, capture = self._judge.nothing(), self._read(end_s)
        picture: _Picture | None = None
        if capture is not None:
            samples = make_samples(capture, self._w.plant, self._w.local)
            windows = self._make_windows(samples, end_s, ended)
            judged = self._judge.judge(windows, end_s - _REVISED_S)
        verdict_s = time.monotonic() - over_s
        every = 1 if capture is None else 1 + len(capture.activity) // _ROWS_A_SLOT
        due = ended or ready >= every or closable % every == 0
        if capture is not None and due:
            self._sensor.see_quality(capture.quality, end_s)
            picture = self._draw(capture, samples, windows, judged, end_s, batch)
        try:
            conditions = self._conditions(end_s)
            if due:
                incidents = picture.incidents if picture else []
                changes = self._alarms.update(
                    incidents, judged.verdicts, conditions, end_s, time.time(),
                    picture.signs if picture else (), over=ended,
                )  # fmt: skip
            else:
                changes = self._alarms.update_sensor(conditions, end_s, time.time())
            first_slot = int((end_s - self._w.bounds.horizon_s) // SAMPLE_S) - 60
            self._save(closable, judged, first_slot, ended)
            if capture is not None and picture is not None:
                self._show(capture, windows, judged, picture)
        except (UserError, OSError):
            self._full_since_s = self._full_since_s or self._now_s()
            return None
        self._told = frozenset(one.id for one in conditions)
        self._closed, self._looked_s, self._ruled_s = closable, end_s, end_s
        self._judged = (windows, judged) if capture is not None else None
        self._work_s = time.monotonic() - over_s
        if closable // _TRIM_SLOTS != (closable - ready) // _TRIM_SLOTS:
            give_back()
        newest = judged.verdicts["end_s"] == end_s
        return SlotReport(
            end_s, ready, int(newest.sum()), judged, self._clock.late, verdict_s, self._work_s,
            tuple(changes), tuple(conditions),
        )  # fmt: skip

    def _draw(
        self,
        capture: Capture,
        samples: pd.DataFrame,
        windows: Windows,
        judged: Judged,
        now_s: float,
        batch: Batch,
        glance: bool = False,
    ) -> _Picture:
        """What is to be seen until now: incidents as they were seen last where it is only a glance;
        first signs only of what is live, not of a past that is caught up with."""
        view = TrafficView(capture, samples, self._w.plant)
        view.live = not (batch.more or batch.ended)
        if self._recent.start_s > self._begun_s:
            view.whole_since_s = self._recent.start_s
        self._contacts.see(view)
        if not glance:
            self._incidents = make_incidents(judged.verdicts, windows, view)
        incidents = self._incidents
        signs = find_signs(view, now_s) if view.live else []
        view.signs = {
            device: one.fact.text
            for one in reversed(signs)
            for device in (*one.related, one.device)
        }
        return _Picture(view, incidents, signs)

    def _show(self, capture: Capture, windows: Windows, judged: Judged, picture: _Picture) -> None:
        named = self._alarms.name_incidents(picture.incidents)
        self.analysis = Analysis(
            capture, self._w.plant, windows, picture.view, judged.verdicts, named
        )

    def _look(self, batch: Batch) -> SlotReport | None:
        """What rules and first signs say of the packets of the open slot so far: what a file that
        ends here would tell. None where it is not the time for it, or where nothing changed.

        Nothing is noted of it but alarms: after a stop the slot is judged as if nobody had looked.
        """
        began_s, source = time.monotonic(), self._w.source
        now_s = float(np.floor((self._clock.newest_s - source.lateness_s) / _GLANCE_S) * _GLANCE_S)
        timely = now_s > self._looked_s and source.lateness_s < _LOOK_S
        if batch.more or batch.ended or not timely or self._judged is None:
            return None
        self._looked_s = now_s
        glance = now_s // _LOOK_S <= self._ruled_s // _LOOK_S  # rules have had this half
        if self._work_s > _LOOK_WORK_S or (glance and self._read_s > _GLANCE_READ_S):
            return None
        if (capture := self._read(now_s)) is None:
            return None
        self._ruled_s = self._ruled_s if glance else now_s
        windows, judged = self._judged
        samples = make_samples(capture, self._w.plant, self._w.local)
        picture = self._draw(capture, samples, windows, judged, now_s, batch, glance)
        conditions = self._conditions(now_s)
        try:
            changes = self._alarms.update(
                picture.incidents, judged.verdicts, conditions, now_s, time.time(), picture.signs
            )
        except UserError:  # the disk is full: the slot's closing says so
            return None
        self._show(capture, windows, judged, picture)
        self._told = frozenset(one.id for one in conditions)
        if not changes:
            return None
        return SlotReport(
            now_s, 0, 0, self._judge.nothing(), self._clock.late, 0.0, time.monotonic() - began_s,
            tuple(changes), tuple(conditions), look=True,
        )  # fmt: skip

    def _read(self, end_s: float) -> Capture | None:
        """The recent past; None where there is nothing, or nothing that can be read."""
        began_s = time.monotonic()
        try:
            capture = self._recent.read()
            self._read_s = time.monotonic() - began_s
            return capture
        except UserError as error:
            about, reason = self._w.name, str(error).split(";")[0]
            found = make_condition("unreadable", about, end_s, self._now_s(), reason=reason)
            self._sensor.hold(found, self._now_s())
            return None

    def _save(self, closed: int | None, judged: Judged, first_slot: int, ended: bool) -> None:
        """Note where the source is, what is kept and new verdicts; verdicts of slots before
        ``first_slot`` are let go."""
        noted = self._recent.sync()
        progress = {
            "name": self._w.name,
            "run": self._run,
            "ended": ended,
            "position": self._position,
            "recent": noted,
            "closed": closed,
            "newest_s": self._clock.newest_s,
            "begun_s": self._begun_s,
            "at_s": time.time(),
        }
        met = self._contacts
        fresh = self._judge.rows_of(judged.fresh)
        self._state.save(progress, fresh, first_slot, met.fresh, met.gone)
        met.settle()
        # Only now: what was noted before names these pieces.
        self._recent.drop_old(self._clock.newest_s)

    def _make_windows(self, samples: pd.DataFrame, end_s: float, ended: bool) -> Windows:
        """The windows that are over, of the slots that the recent past holds whole."""
        windows = make_windows(samples)
        start_s, stop_s = (windows.table[name].to_numpy(float) for name in ("start_s", "end_s"))
        over = (stop_s <= end_s) | ended
        kept_s = self._recent.start_s
        if kept_s > self._begun_s:
            over &= start_s >= np.ceil(kept_s / SAMPLE_S) * SAMPLE_S
        return windows.take(over)

    # ---- The sensor ----

    def _now_s(self) -> float:
        """The clock by which the sensor is judged: this machine's; a recording's own."""
        if self._w.source.live or np.isnan(self._clock.newest_s):
            return time.time()
        return self._clock.newest_s

    def _conditions(self, end_s: float) -> list[Condition]:
        found = self._sensor.conditions(self._now_s(), self._w.source.live)
        if self._full_since_s is not None:
            about = str(self._w.folder)
            found.append(make_condition("disk_full", about, self._full_since_s, self._now_s()))
        bounds, kept_s = self._w.bounds, self._recent.start_s
        short = self._begun_s < kept_s - 1 and end_s - kept_s < bounds.horizon_s / 2
        if short and end_s - self._begun_s > bounds.horizon_s:
            values = {"span_s": end_s - kept_s}
            found.append(make_condition("short_memory", self._w.name, kept_s, end_s, **values))
        return found

    def _follow_sensor(self) -> SlotReport | None:
        """Alarms of the sensor where no slot closes; None where nothing changed."""
        now_s = self._now_s()
        conditions = self._conditions(now_s)
        kinds = frozenset(one.id for one in conditions)
        if kinds == self._told:
            return None
        self._told = kinds
        changes: list[Change] = []
        with suppress(UserError):  # on a full disk it is told all the same
            changes = self._alarms.update_sensor(conditions, now_s, time.time())
        nothing = self._judge.nothing()
        return SlotReport(
            now_s, 0, 0, nothing, self._clock.late, 0.0, 0.0, tuple(changes), tuple(conditions)
        )

    def _note_stop(self, since_s: float) -> None:
        now_s = time.time()
        if now_s - since_s >= _STOPPED_S:
            self._sensor.hold(make_condition("stopped", self._w.name, since_s, now_s), now_s)


def _stamp() -> str:
    """This moment, as ISO 8601 has it, UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def give_back() -> None:
    """Let the C library hand back what is free, malloc_trim(3); where it has no such thing, nothing.

    Tables of a slot leave holes that the next ones do not fit: of 50 devices the heap grew by 10 MB an
    hour, though what was in use did not.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
