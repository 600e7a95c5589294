"""Find the time that a question names, on the plant's clock.

"what happened between 14:05 and 14:10?"      14:05:00 to 14:10:00
"why was hmi-1 slow at 14:05?"                14:04:00 to 14:06:59
"anything since 14:05?"                       14:05:00 to the end of the capture
"what was that at half past nine?"            9:29:00 to 9:31:59
"what went on two minutes before the end?"    three to one minute before the end of the capture
"wer schrieb in den letzten zehn Minuten?"    the end of the capture and ten minutes before
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

MAX_CHARS = 2000
_SLACK_S = 60.0  # "at 14:05" is said of what began at 14:04:40 too
_CLOCK = (
    r"(?<![\w.:/-])(?:at |um |las |la )?(?P<{n}h>[01]?\d|2[0-3])(?:"
    r"[:h](?P<{n}m>[0-5]\d)(?::(?P<{n}s>[0-5]\d))?(?: ?uhr| ?(?P<{n}half>[ap])\.?m\.?)?"
    r"| ?uhr(?: (?P<{n}uhr>[0-5]\d))?| ?(?P<{n}only>[ap])\.?m\.?| ?o.?clock)(?![\w:]|\.\d)"
)
_ONE, _TWO = _CLOCK.replace("{n}", "a"), _CLOCK.replace("{n}", "b")
_BETWEEN = re.compile(rf"{_ONE} ?(?:and|to|until|till|und|bis|y|a|hasta|-|–) ?{_TWO}")
_FROM = re.compile(rf"\b(?:since|after|from|past|seit|nach|ab|desde|despues de|tras) {_ONE}")
_UNTIL = re.compile(rf"\b(?:before|until|till|by|vor|bis|antes de|hasta) {_ONE}")
_AT = re.compile(_ONE)
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_SPAN = (
    r"(?P<n>\d{1,3}(?:\.\d)?|an?|one|two|three|five|ten|twenty|thirty|half an|einer|zwei|drei|dos|tres|four|fuenf"
    r"|zehn|cinco|diez|few)?"
    r"(?P<half> and a half)? ?"
    r"(?P<unit>second|sekunde|segundo|minute|minuto|min|hour|stunde|hora|h\b)\w*"
)
# "half past nine", "quarter to ten": read as clock times.
_SPOKEN_HOURS = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
_MINUTES = {
    "half": 30, "quarter": 15, "five": 5, "seven": 7, "ten": 10, "twenty": 20, "twenty five": 25,
}  # fmt: skip
_HALF_PAST = re.compile(
    rf"\b(?P<part>{'|'.join(sorted(_MINUTES, key=len, reverse=True))}|\d{{1,2}})(?: minutes?)?"
    rf" (?P<side>past|to|after|before) (?P<hour>\d{{1,2}}|{_SPOKEN_HOURS})\b(?!:)"
)
# "two minutes ago", "three minutes before the end"
_AGO = re.compile(
    rf"\b(?:vor |hace )?{_SPAN} (?:ago\b|back\b|before (?:the|its) end\b|vor (?:dem )?(?:ende|schluss)\b)"
    rf"|\b(?:vor|hace) {_SPAN.replace('?P<', '?P<v')}"
)
_LAST = re.compile(rf"\b(?:last|past|letzten?|vergangenen?|ultim[oa]s?) {_SPAN}")
_FIRST = re.compile(rf"\b(?:first|ersten?|primer[oa]?s?) {_SPAN}")
_NUMBERS = {
    "": 1.0, "a": 1.0, "an": 1.0, "one": 1.0, "einer": 1.0, "two": 2.0, "three": 3.0, "five": 5.0, "ten": 10.0,
    "twenty": 20.0, "thirty": 30.0, "half an": 0.5, "fuenf": 5.0, "cinco": 5.0, "zehn": 10.0,
    "zwei": 2.0, "dos": 2.0, "drei": 3.0, "tres": 3.0, "four": 4.0, "diez": 10.0, "few": 5.0,
}  # fmt: skip


@dataclass(frozen=True)
class Span:
    """Seconds since the epoch.

    Attributes:
        start_s, end_s: the first and the last that is meant.
        at_s: the moment that was named, where only one was.
    """

    start_s: float
    end_s: float
    at_s: float | None = None

    def overlaps(self, start_s: float, end_s: float) -> bool:
        """Whether something that lasted so long falls into it, at least in part."""
        return start_s <= self.end_s and end_s >= self.start_s


def read_span(question: str, start_s: float, end_s: float, zone: str = "") -> Span | None:
    """The time that a question names; None where it names none.

    Args:
        question: the operator's words.
        start_s, end_s: of the capture; a clock time is the one nearest to it.
        zone: of the plant's clock, an IANA name; "" for UTC.

    >>> noon = 1_545_480_000.0  # 12:00:00 UTC
    >>> span = read_span("what happened between 12:05 and 12:10?", noon, noon + 900)
    >>> span.start_s - noon, span.end_s - noon
    (300.0, 600.0)
    >>> read_span("does 10.0.0.5 answer on port 502?", noon, noon + 900)
    """
    if not end_s >= start_s:  # NaN: no traffic
        return None
    text = question[:MAX_CHARS].lower().replace("ü", "ue").replace("é", "e").replace("ú", "u")
    if found := _LAST.search(text):
        return Span(end_s - _length_s(found), end_s)
    if found := _FIRST.search(text):
        return Span(start_s, start_s + _length_s(found))
    if found := _AGO.search(text):
        ago_s = _length_s(found, "" if found["unit"] else "v")
        at_s = max(start_s, end_s - ago_s)
        return Span(at_s - _SLACK_S, at_s + _SLACK_S, at_s)
    clock = _NearestClock(start_s, end_s, zone)
    if not _WRITTEN.search(
        text
    ):  # "quarter past, you know, 00:04": what is written in numbers is meant
        text = _HALF_PAST.sub(clock.spell, text)
    if found := _BETWEEN.search(text):
        first_s, last_s = clock.moment_s(found, "a"), clock.moment_s(found, "b")
        width_s = _width_s(found, "b") if last_s == first_s else 0.0
        return Span(first_s, last_s + width_s) if last_s >= first_s else None
    if found := _FROM.search(text):
        return Span(clock.moment_s(found, "a"), end_s)
    if found := _UNTIL.search(text):
        return Span(start_s, clock.moment_s(found, "a"))
    if found := _AT.search(text):
        at_s = clock.moment_s(found, "a")
        return Span(at_s - _SLACK_S, at_s + _width_s(found, "a") + _SLACK_S, at_s)
    return None


def _length_s(found: re.Match[str], mark: str = "") -> float:
    count = (found[f"{mark}n"] or "").strip()
    unit = _UNITS[found[f"{mark}unit"][0]]
    number = float(count) if count[:1].isdigit() else _NUMBERS[count]
    return unit * (number + (0.5 if found[f"{mark}half"] else 0.0))


def _width_s(found: re.Match[str], name: str) -> float:
    """How long the moment lasts that was named: a second or a minute."""
    return 0.0 if found[f"{name}s"] else 59.0


_WRITTEN = re.compile(r"\b\d{1,2}:\d\d\b")


@dataclass(frozen=True)
class _NearestClock:
    """Clock times as moments: those within the capture, else the nearest to it."""

    start_s: float
    end_s: float
    zone: str

    def moment_s(self, found: re.Match[str], name: str) -> float:
        hour = int(found[f"{name}h"])
        minute = int(found[f"{name}m"] or found[f"{name}uhr"] or 0)
        second = int(found[f"{name}s"] or 0)
        half = found[f"{name}half"] or found[f"{name}only"]
        if half and hour <= 12:
            hour = hour % 12 + (12 if half == "p" else 0)
        return self._nearest_s(hour, minute, second)

    def spell(self, found: re.Match[str]) -> str:
        """A time that is spoken, "half past nine", as a clock shows it: "9:30", or "21:30" where that is
        nearer."""
        word = found["hour"]
        hour = int(word) if word.isdigit() else _SPOKEN_HOURS.split("|").index(word) + 1
        part = found["part"]
        minute = int(part) % 60 if part.isdigit() else _MINUTES[part]
        if found["side"] in ("to", "before"):
            hour, minute = hour - 1, 60 - minute
        hours = (hour % 24, (hour + 12) % 24)
        nearest = min(hours, key=lambda one: self._distance_s(self._nearest_s(one, minute)))
        return f"{nearest}:{minute:02d}"

    def _nearest_s(self, hour: int, minute: int, second: int = 0) -> float:
        zone = ZoneInfo(self.zone) if self.zone else UTC
        last = datetime.fromtimestamp(self.end_s, zone)
        first = datetime.fromtimestamp(self.start_s, zone)
        days = min((last.date() - first.date()).days, 31) + 1
        at = last.replace(hour=hour, minute=minute, second=second, microsecond=0)
        # The last of its kind within the capture: who asks means the newest.
        moments = [(at - timedelta(days=back)).timestamp() for back in range(-1, days + 1)]
        return min(moments, key=lambda one: (self._distance_s(one), -one))

    def _distance_s(self, moment_s: float) -> float:
        return max(self.start_s - moment_s, moment_s - self.end_s, 0.0)
