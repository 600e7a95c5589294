"""What plots are made of: axes, where values lie on them, markers, and words that do not lie on one another.

Everything is SVG text. Colours are classes of the page's style (``c0`` to ``c7``), so that they fit light and dark.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["BOTTOM", "LETTER", "TOP", "Axis", "Box", "Frame", "draw", "leader", "line", "log_axis", "marker"]
__all__ += ["place_name", "share_axis", "spread", "words"]

LEFT, TOP, BOTTOM = 58, 12, 44
LETTER = 6.3  # the width of a letter of 11 px, near enough to place words


@dataclass(frozen=True)
class Axis:
    """One axis: what it shows, in which unit, from where to where.

    Attributes:
        label: what and unit, as it stands beside the axis.
        low: the value at its beginning.
        high: the value at its end.
        ticks: (value, text) each.
        log: whether equal steps are equal ratios; then all values are above 0.
    """

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def place(self, value: float) -> float:
        """Where a value lies: 0 at the beginning, 1 at the end; values beyond lie on the edge."""
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return min(max((value - low) / (high - low), 0.0), 1.0)


def share_axis(label: str) -> Axis:
    """An axis from 0 to 1."""
    return Axis(label, 0.0, 1.0, tuple((v / 4, f"{v / 4:g}") for v in range(5)))


def log_axis(label: str, values: Sequence[float]) -> Axis:
    """An axis of whole decades around values above 0.

    >>> [text for _, text in log_axis("seconds", [0.2, 30.0]).ticks]
    ['0.1', '1', '10', '100']
    """
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    decades = range(low, max(high, low + 1) + 1)
    return Axis(label, 10.0**low, 10.0 ** decades[-1], tuple((10.0**n, f"{10.0**n:,g}") for n in decades), True)


@dataclass(frozen=True)
class Box:
    """A rectangle that words or marks take up, pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Box") -> bool:
        """Whether the two share a place."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


@dataclass(frozen=True)
class Frame:
    """Where values lie on a plot of a size, with room for words at the left and right of its axes."""

    x: Axis
    y: Axis
    size: tuple[int, int]
    right: float = 14.0
    left: float = LEFT

    @property
    def end(self) -> float:
        """Where the x axis ends, pixels."""
        return self.size[0] - self.right

    @property
    def floor(self) -> float:
        """Where the y axis begins, pixels."""
        return self.size[1] - BOTTOM

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The place of a pair of values, pixels."""
        across = self.left + (self.end - self.left) * self.x.place(x)
        return across, TOP + (self.floor - TOP) * (1 - self.y.place(y))

    def line(self, kind: str, one: tuple[float, float], other: tuple[float, float]) -> str:
        """A line between two pairs of values."""
        return line(kind, self.at(*one), self.at(*other))

    def axes(self) -> str:
        """Both axes with their ticks and labels."""
        marks = []
        for value, text in self.x.ticks:
            across = self.at(value, self.y.low)[0]
            marks.append(line("grid", (across, TOP), (across, self.floor)))
            marks.append(words((across, self.floor + 15), text, "tick", "middle"))
        for value, text in self.y.ticks:
            height = self.at(self.x.low, value)[1]
            marks.append(line("grid", (self.left, height), (self.end, height)))
            marks.append(words((self.left - 6, height + 4), text, "tick", "end"))
        marks.append(words(((self.left + self.end) / 2, self.floor + 34), self.x.label, "axis", "middle"))
        if self.y.label:
            marks.append(words((14, (TOP + self.floor) / 2), self.y.label, "axis", "middle", turned=-90))
        return "".join(marks)


def words(at: tuple[float, float], text: str, kind: str = "", anchor: str = "start", turned: int = 0) -> str:
    """Text at a place; ``turned`` by degrees around its beginning."""
    turn = f" rotate({turned})" if turned else ""
    place = f"translate({at[0]:.1f},{at[1]:.1f}){turn}"
    return f'<text class="{kind}" text-anchor="{anchor}" transform="{place}">{escape(text)}</text>'


def line(kind: str, one: tuple[float, float], other: tuple[float, float]) -> str:
    """A line between two places."""
    return f'<line class="{kind}" x1="{one[0]:.1f}" y1="{one[1]:.1f}" x2="{other[0]:.1f}" y2="{other[1]:.1f}"/>'


def marker(number: int, at: tuple[float, float], said: str = "") -> str:
    """A dot, square, diamond or triangle: one for each round through the eight colours; ``said`` shows on hovering."""
    shapes = (
        "M-4 0A4 4 0 1 1 4 0A4 4 0 1 1-4 0Z",
        "M-4-4H4V4H-4Z",
        "M0-5.4L5.4 0L0 5.4L-5.4 0Z",
        "M0-5L5 4H-5Z",
    )
    title = f"<title>{escape(said)}</title>" if said else ""
    place = f"translate({at[0]:.1f},{at[1]:.1f})"
    return f'<path class="mark c{number % 8}" transform="{place}" d="{shapes[number // 8 % 4]}">{title}</path>'


def leader(one: tuple[float, float], other: tuple[float, float]) -> str:
    """The thin line from a mark to its name."""
    return line("leader", one, other)


def spread(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move sorted heights as far down as needed, then up again where they left the plot, until ``gap`` is between them.

    >>> spread([10.0, 12.0, 90.0], 10.0, 0.0, 95.0)
    [10.0, 20.0, 90.0]
    >>> spread([90.0, 92.0], 10.0, 0.0, 95.0)
    [85.0, 95.0]
    """
    down: list[float] = []
    for height in heights:
        down.append(max(height, low, down[-1] + gap if down else low))
    up: list[float] = []
    for height in reversed(down):
        up.append(min(height, up[-1] - gap if up else high))
    return up[::-1]


def place_name(name: str, at: tuple[float, float], taken: Sequence[Box], frame: Frame) -> Box:
    """The first free place for a name around a point, nearest first; right of the point where none is free."""
    wide, high = len(name) * LETTER, 12.0
    for reach in (8.0, 20.0, 34.0, 50.0, 68.0, 90.0):
        for dx, dy in ((1, 0), (-1, 0), (1, -1), (1, 1), (-1, -1), (-1, 1), (0, -1), (0, 1)):
            left = at[0] + dx * reach - wide * (1 - dx) / 2
            top = at[1] + dy * reach - high / 2
            box = Box(left, top, left + wide, top + high)
            inside = frame.left < left and box.right < frame.size[0] - 2 and top > 2 and box.bottom < frame.floor
            if inside and not any(box.meets(other) for other in taken):
                return box
    return Box(at[0] + 8, at[1] - high / 2, at[0] + 8 + wide, at[1] + high / 2)


def draw(size: tuple[int, int], title: str, marks: Sequence[str]) -> str:
    """The whole plot; ``title`` says what it shows to those who cannot see it."""
    width, height = size
    return (
        f'<svg role="img" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'aria-label="{escape(title, quote=True)}">{"".join(marks)}</svg>'
    )
