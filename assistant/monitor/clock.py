"""Which slots are over: time as the traffic's own stamps tell it.

    newest input    …  38.2   40.9   41.3          lateness 1 s
    slots           [20, 30)  [30, 40) closes at 41.0, not before

Input of a slot that is closed already is late: it is counted, kept, and read with the rest the next
time; windows that it changes are judged again.
"""

import numpy as np

from traffic.capture import SAMPLE_S

_LEAP_S = 3600.0
_ENOUGH = 20  # stamps that agree that the clock was set


class SlotClock:
    """The newest time of a source, against single stamps that cannot be and clocks that are set.

    Attributes:
        newest_s: seconds since the epoch; NaN before anything came.
        late: how many stamps lay in slots that were closed already.
    """

    def __init__(self, lateness_s: float, back_s: float, newest_s: float = float("nan")) -> None:
        """Begin, or go on at a time; arguments as `assistant.monitor.source.Source` has them."""
        self._lateness_s, self._back_s = lateness_s, back_s
        self.newest_s, self.late = newest_s, 0
        self._behind: list[float] = []
        self._ahead: list[float] = []

    def see(self, ts: np.ndarray, closed_s: float) -> bool:
        """Look at the stamps of a batch.

        Args:
            ts: shape (n,), seconds since the epoch, in the order of arrival.
            closed_s: end of the newest closed slot; NaN for none.

        Returns:
            Whether the clock was set back: then time begins anew with these.
        """
        if not len(ts):
            return False
        if np.isnan(self.newest_s):
            self.newest_s = float(np.median(ts))
        self.late += int((ts < closed_s).sum())
        ahead = ts[ts > self.newest_s + _LEAP_S]
        near = ts[(ts <= self.newest_s + _LEAP_S) & (ts >= self.newest_s - self._back_s)]
        behind = ts[ts < self.newest_s - self._back_s]
        if len(near):
            self.newest_s = max(self.newest_s, float(near.max()))
            self._behind, self._ahead = [], []
            return False
        self._behind += behind.tolist()
        self._ahead += ahead.tolist()
        if len(self._ahead) >= _ENOUGH:  # nothing came for long, or the clock was set forward
            self.newest_s = float(np.median(self._ahead))
            self._behind, self._ahead = [], []
        elif len(self._behind) >= _ENOUGH:
            self.newest_s, self.late = float(np.median(self._behind)), 0
            self._behind, self._ahead = [], []
            return True
        return False

    def closable(self) -> int | None:
        """The newest slot that is over, by number; None before anything came."""
        if np.isnan(self.newest_s):
            return None
        return int(np.floor((self.newest_s - self._lateness_s) / SAMPLE_S)) - 1
