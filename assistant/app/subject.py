"""What a tab of the page shows: a plant watched live, a capture, or the alarms that were kept.

Live, everything is read anew whenever the monitor has found something; of a capture it is worked out
once. Several tabs share one subject.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from assistant.answers.incidents.condition import judge_all
from assistant.answers.plant.states import VERDICT_ACTS, describe_remark
from assistant.app.live import Live
from assistant.detection.pipeline import Analysis, analyse_verdicts
from assistant.diagnosis.device_states import DeviceState, list_devices
from assistant.facts.moments import Clock
from assistant.history import History
from assistant.monitor.alarm_list import (
    Alarm,
    Meter,
    Standing,
    find_standing,
    list_alarms,
    read_meter,
)
from assistant.monitor.alarms import make_alarms
from traffic.plant import Plant

_DAY_S = 86_400.0


@dataclass(frozen=True)
class Picture:
    """A plant at one moment, as far as it does not depend on what people declare.

    Attributes:
        analysis: what was looked at; None where nothing was yet.
        devices: the worst first.
        judged: what was judged beside the incidents, and what could not be; the one all-clear.
        alarms: of a capture; those of a live plant are in the history.
    """

    analysis: Analysis | None
    devices: Sequence[DeviceState] = ()
    judged: str = ""
    alarms: Sequence[Alarm] = ()


@dataclass(frozen=True)
class ShownAlarm:
    """An alarm with its state, and what people said of it in a few words, "" for nothing."""

    alarm: Alarm
    standing: Standing
    remark: str


class Subject:
    """A live plant, a capture, or neither."""

    def __init__(
        self,
        name: str = "",
        analysis: Analysis | None = None,
        live: Live | None = None,
        plant: Plant | None = None,
    ) -> None:
        """Begin.

        Args:
            name: what the page calls it.
            analysis: of a capture; None for a live plant.
            live: the monitor that watches.
            plant: the inventory, where no analysis has it.
        """
        self.name, self.live = name, live
        self._recorded = analysis
        self.plant = (analysis.plant if analysis else plant) or Plant()
        self._picture = Picture(None)
        self._changes = 0  # of the inventory
        self._lock = threading.Lock()

    @property
    def analysis(self) -> Analysis | None:
        """The capture, or the recent past of the live plant; None where nothing was judged."""
        return self.live.analysis if self.live else self._recorded

    def use_plant(self, plant: Plant) -> None:
        """Judge by an inventory that was changed: a capture at once, a live plant from its next
        slot on."""
        if self.live:
            self.live.use_plant(plant)
        elif (seen := self._recorded) is not None:
            self._recorded = analyse_verdicts(seen.capture, plant, seen.windows, seen.verdicts)
        self.plant = plant
        self._changes += 1

    def picture(self) -> Picture:
        """The plant as it is now, worked out once for all tabs."""
        with self._lock:
            analysis = self.analysis
            if analysis is not None and analysis is not self._picture.analysis:
                alarms = []
                if not self.live:
                    alarms = make_alarms(
                        analysis.incidents, analysis.verdicts, self.plant, analysis.capture.end_s
                    )
                judged = judge_all(analysis).line.text
                self._picture = Picture(analysis, list_devices(analysis), judged, alarms)
            return self._picture

    def version(self, history: History) -> tuple[int, int, int]:
        """What changes whenever the page has to show something else: counts, and the minute in
        which a shelved alarm may come back."""
        live = self.live
        number = live.number + int(live.silent_s // 60) if live else 0
        return number + self._changes, history.version(), int(time.time() // 20)

    def now_s(self, history: History) -> float:
        """The time by the traffic's clock."""
        if self.live:
            return self.live.now_s
        if self._recorded is not None:
            return self._recorded.capture.end_s
        times = [one.returned_s or one.incident_end_s for one in list_alarms(history)]
        return max(times, default=time.time())

    def clock(self, history: History) -> Clock:
        """The plant's clock: of a live plant no date is said of today."""
        now_s = self.now_s(history)
        start_s = self._recorded.capture.start_s if self._recorded else now_s
        return Clock(self.plant.time_zone or "UTC", start_s, now_s)

    def alarms(self, history: History) -> list[ShownAlarm]:
        """Alarms with their states, those that go on first; of a day where the plant is live."""
        if self._recorded is not None:
            found = list(self.picture().alarms)
        else:
            found = list_alarms(history, since_s=self.now_s(history) - _DAY_S)
            if self.live:
                shown = (self.live.name, self.live.run)
                found = [one for one in found if (one.source, one.run) == shown]
        at_s = time.time()
        return [
            ShownAlarm(one, find_standing(one, history, at_s), _say(one, history, at_s))
            for one in found
        ]

    def meter(self, history: History, operators: int) -> Meter | None:
        """How many alarms call an operator; None for a capture, which calls nobody."""
        if self._recorded is not None:
            return None
        return read_meter(history, self.now_s(history), operators)


def _say(alarm: Alarm, history: History, at_s: float) -> str:
    """What was said of the verdict, "false alarm"; "" where nobody said anything of it."""
    said = [one for one in history.standing(alarm.incident) if one.act in VERDICT_ACTS]
    return describe_remark(said[-1], at_s, "short_").text if said else ""
