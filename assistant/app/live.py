"""The monitor beside the page: one thread watches, the page reads what it found last.

source ─▶ Monitor (thread) ─▶ alarms, audit log in the history
                └──▶ analysis of the recent past, the sensor's conditions ─▶ every view
"""

import threading
import time
from collections.abc import Callable

from assistant.detection.pipeline import Analysis
from assistant.monitor.sensor import Condition
from assistant.monitor.watch import Monitor
from assistant.monitor.watched import SlotReport
from traffic.plant import Plant

_SILENT_S = 60.0  # a monitor that was not heard of for so long is itself something to say


class Live:
    """A monitor that runs in a thread; what it says may be read from any other."""

    def __init__(self, open_monitor: Callable[[], Monitor], name: str, clock_is_now: bool) -> None:
        """Begin to watch.

        Args:
            open_monitor: makes the monitor, within the thread.
            name: of the source, as its alarms have it.
            clock_is_now: whether the source's times are this machine's, not those of a recording.
        """
        self.name, self.clock_is_now = name, clock_is_now
        self.analysis: Analysis | None = None
        self.conditions: tuple[Condition, ...] = ()
        self.end_s: float | None = None
        self.ended = False
        self.problem = ""
        self.run: str | None = None  # of a recording; known once the monitor is open
        self.number = 0  # grows with whatever the monitor says
        self._heard_s = time.monotonic()
        self._plant: Plant | None = None  # what was changed, until the monitor takes it
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(open_monitor,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching, and wait until what was seen is kept."""
        self._stop.set()
        self._thread.join()

    def use_plant(self, plant: Plant) -> None:
        """Let the monitor judge by an inventory that was changed, from its next step on."""
        self._plant = plant

    @property
    def now_s(self) -> float:
        """The clock of the traffic: this machine's, a recording's own."""
        return time.time() if self.clock_is_now or self.end_s is None else self.end_s

    @property
    def silent_s(self) -> float:
        """For how long the monitor itself was not heard of, 0 where that is no matter."""
        silent_s = time.monotonic() - self._heard_s
        return silent_s if silent_s > _SILENT_S and not self.ended and not self.problem else 0.0

    def _run(self, open_monitor: Callable[[], Monitor]) -> None:
        try:
            running = open_monitor()
            self.run = running.run_id
            try:
                while not self.ended and not self._stop.is_set():
                    plant, self._plant = self._plant, None
                    if plant is not None:
                        running.use_plant(plant)
                    report, ended = running.step()
                    self._heard_s = time.monotonic()
                    if report is not None:
                        self._take(running, report)
                    if ended:
                        self.ended = True
                        self.number += 1
            finally:
                running.close()
        except Exception as error:
            # Whatever stopped the monitor must stand on every view: the thread has no other witness.
            self.problem = " ".join(str(error).split()) or type(error).__name__
            self.number += 1
            raise

    def _take(self, running: Monitor, report: SlotReport) -> None:
        self.analysis = running.analysis
        self.conditions = report.conditions
        if report.slots or report.look:
            self.end_s = report.end_s
        self.number += 1
