"""How moments read: the one place that words them, in UTC or in the plant's time zone.

Facts keep UTC, with the date, so that a number of a text can be looked up. What an operator reads is
worded last: in the zone that plant.yaml names, and without the date where all is of one day.

    2026-09-21 14:18:22 UTC     16:18:22 CEST     the same moment, in Europe/Berlin, of one day
    1970-01-01 00:02:40 UTC     second 160        of a capture whose clock begins at 0: no date is known
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

# A capture that begins earlier counts from 0, or from when its sensor was switched on.
_UNDATED_S = 365 * 86400.0
_MOMENT = re.compile(r"(\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}) UTC")


def show_utc(seconds: float) -> str:
    """A moment with date and zone.

    >>> show_utc(1545466950.0)
    '2018-12-22 08:22:30 UTC'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


@dataclass(frozen=True)
class Clock:
    """The clock that an answer is read by.

    Attributes:
        zone: an IANA name, "Europe/Berlin"; "" for UTC with the date, as facts have it.
        start_s, end_s: of the capture, NaN without traffic: within one day no date is said.
    """

    zone: str = ""
    start_s: float = float("nan")
    end_s: float = float("nan")

    @property
    def in_one_day(self) -> bool:
        """Whether the capture begins and ends on one day of the zone."""
        if not self.end_s >= self.start_s:  # NaN
            return False
        return self._at(self.start_s).date() == self._at(self.end_s).date()

    @property
    def undated(self) -> bool:
        """Whether the capture counts from 0, so that its moments are no dates."""
        return 0.0 <= self.start_s < _UNDATED_S

    def show(self, seconds: float) -> str:
        """A moment with its zone; with the date unless the whole capture is of that day.

        >>> Clock("Europe/Berlin").show(1545466950.0), Clock(start_s=20.0).show(160.0)
        ('2018-12-22 09:22:30 CET', 'second 160')
        """
        if self.undated and seconds < _UNDATED_S:
            return f"second {seconds:,.0f}"
        at = self._at(seconds)
        same = self.in_one_day and at.date() == self._at(self.start_s).date()
        return at.strftime("%H:%M:%S %Z" if same and self.zone else "%Y-%m-%d %H:%M:%S %Z")

    def tell(self, text: str) -> str:
        """A text with every moment in UTC as this clock shows it, the zone named once."""
        if not self.zone and not self.undated:
            return text
        named, explained = "", False

        def show(match: re.Match[str]) -> str:
            nonlocal named, explained
            utc = datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
            seconds = utc.timestamp()
            if self.undated and seconds < _UNDATED_S:
                of_clock, explained = "" if explained else " of its clock", True
                return self.show(seconds) + of_clock
            if not self.zone:
                return match[0]
            moment, _, zone = self.show(seconds).rpartition(" ")
            same, named = zone == named, zone  # clocks change in the night of a capture
            return moment if same else f"{moment} {zone}"

        return _MOMENT.sub(show, text)

    def _at(self, seconds: float) -> datetime:
        return datetime.fromtimestamp(seconds, ZoneInfo(self.zone) if self.zone else UTC)


UTC_CLOCK = Clock()
