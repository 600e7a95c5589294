"""Plots as SVG text: no script, no font, no link, readable in light and dark.

A line or a point is told by its name beside it, its marker and its dashes; colour only helps.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from eval.report.plots import (
    BOTTOM,
    LETTER,
    TOP,
    Axis,
    Box,
    Frame,
    draw,
    leader,
    line,
    marker,
    place_name,
    spread,
    words,
)

__all__ = ["Grid", "Line", "Point", "draw_grid", "draw_intervals", "draw_lines", "draw_points"]

_DASHES = ("", "6 3", "2 3", "9 3 2 3")
_CELL, _CELL_HEIGHT = 38, 27


@dataclass(frozen=True)
class Line:
    """A line with a name and a number, which chooses its colour, dashes and marker."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    number: int


@dataclass(frozen=True)
class Point:
    """A point with a name; ``low`` and ``high`` bound its y, where there is an interval."""

    name: str
    x: float
    y: float
    number: int
    low: float | None = None
    high: float | None = None

    @property
    def said(self) -> str:
        """What hovering shows."""
        bounds = "" if self.low is None or self.high is None else f" [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.name}: {self.y:.3f}{bounds}"


@dataclass(frozen=True)
class Grid:
    """Counts by row and column, rows true and columns said."""

    rows: Sequence[str]
    columns: Sequence[str]
    counts: Sequence[Sequence[int]]


def draw_lines(
    lines: Sequence[Line], x: Axis, y: Axis, title: str, size: tuple[int, int] = (720, 340), diagonal: bool = False
) -> str:
    """Lines over two axes; where there are several, each has its name at its end.

    Args:
        lines: those to draw, with at least one point each.
        x: the axis below.
        y: the axis at the left.
        title: what the plot shows, for those who cannot see it.
        size: width and height, pixels.
        diagonal: draw where y equals x.
    """
    named = len(lines) > 1
    room = 14 + (max(len(one.name) for one in lines) + 2) * LETTER if named else 14.0
    frame = Frame(x, y, size, room)
    marks = [frame.axes()]
    if diagonal:
        marks.append(frame.line("guide", (x.low, y.low), (x.high, y.high)))
    for one in lines:
        marks += _drawn(one, frame)
    if named:
        marks += _names_at_the_end(frame, lines)
    return draw(size, title, marks)


def _drawn(one: Line, frame: Frame) -> Iterator[str]:
    """A line; its points too, where they are few enough to be seen as such."""
    places = [frame.at(px, py) for px, py in zip(one.x, one.y, strict=True)]
    colour, path = f"c{one.number % 8}", " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
    dashes = f' stroke-dasharray="{_DASHES[one.number // 8 % 4]}"' if one.number >= 8 else ""
    name = f"<title>{escape(one.name)}</title>"
    yield f'<polyline class="line {colour}"{dashes} points="{path}">{name}</polyline>'
    if len(places) <= 20:
        yield from (marker(one.number, at, f"{one.name}: {py:.3f}") for at, py in zip(places, one.y, strict=True))


def _names_at_the_end(frame: Frame, lines: Sequence[Line]) -> Iterator[str]:
    """Each line's name right of its last point, pushed apart where they would meet."""
    ends = sorted(((frame.at(one.x[-1], one.y[-1]), one) for one in lines), key=lambda end: end[0][1])
    heights = spread([at[1] for at, _ in ends], 13.0, TOP, frame.floor)
    beyond = frame.end + 14
    for (at, one), height in zip(ends, heights, strict=True):
        yield leader((at[0] + 6, at[1]), (beyond - 3, height))
        yield words((beyond, height + 4), one.name, f"name c{one.number % 8}")


def draw_points(points: Sequence[Point], x: Axis, y: Axis, title: str, size: tuple[int, int] = (562, 380)) -> str:
    """Points over two axes, each with its name where there is room for it; arguments as of `draw_lines`."""
    frame = Frame(x, y, size, 24)
    places = [frame.at(one.x, one.y) for one in points]
    marks = [frame.axes()]
    for one in points:
        if one.low is not None and one.high is not None:
            marks.append(frame.line(f"whisker faint c{one.number % 8}", (one.x, one.low), (one.x, one.high)))
    marks += [marker(one.number, at, one.said) for one, at in zip(points, places, strict=True)]
    taken = [Box(across - 5, height - 5, across + 5, height + 5) for across, height in places]
    for one, at in zip(points, places, strict=True):
        box = place_name(one.name, at, taken, frame)
        taken.append(box)
        near = (min(max(at[0], box.left), box.right), min(max(at[1], box.top), box.bottom))
        if abs(near[0] - at[0]) + abs(near[1] - at[1]) > 12:
            marks.append(leader(at, near))
        marks.append(words((box.left, box.top + 10), one.name, f"name c{one.number % 8}"))
    return draw(size, title, marks)


def draw_intervals(points: Sequence[Point], x: Axis, title: str, width: int = 562) -> str:
    """One row a point: its name, its interval and its value, ``y`` along the axis; a forest plot.

    Args:
        points: one a row, from the top; ``x`` of a point is not read.
        x: the axis below.
        title: what the plot shows.
        width: pixels.
    """
    step, left = 22, 16 + max(len(one.name) for one in points) * LETTER
    size = (width, TOP + step * len(points) + BOTTOM)
    frame = Frame(x, Axis("", 0.0, 1.0, ()), size, 58, left)
    marks = [frame.axes()]
    for row, one in enumerate(points):
        middle = TOP + step * (row + 0.5)
        marks.append(words((left - 8, middle + 4), one.name, "", "end"))
        if one.low is not None and one.high is not None:
            ends = [(frame.at(value, 0)[0], middle) for value in (one.low, one.high)]
            marks.append(line(f"whisker c{one.number % 8}", ends[0], ends[1]))
        marks.append(marker(one.number, (frame.at(one.y, 0)[0], middle), one.said))
        marks.append(words((width - 48, middle + 4), f"{one.y:.3f}", "number"))
    return draw(size, title, marks)


def draw_grid(grid: Grid, title: str) -> str:
    """Counts as a grid: a cell is the darker the larger its share of its row."""
    left, slant = 20 + max(map(len, grid.rows)) * LETTER, 0.72 * LETTER
    above = 22 + max(map(len, grid.columns)) * slant
    beyond = max(len(name) * slant - _CELL * (len(grid.columns) - 1 - j) for j, name in enumerate(grid.columns))
    width = left + _CELL * len(grid.columns) + max(beyond - _CELL / 2, 0) + 12
    size = (round(max(width, 260)), round(above + _CELL_HEIGHT * len(grid.rows) + 26))
    marks = [words((left + _CELL * (j + 0.5), above - 6), name, turned=-45) for j, name in enumerate(grid.columns)]
    for i, name in enumerate(grid.rows):
        top = above + _CELL_HEIGHT * i
        marks.append(words((left - 6, top + 17.5), name, "", "end"))
        marks += _cells(grid, i, left, top)
    marks.append(words((8, size[1] - 6), "rows: true · columns: said · windows", "axis"))
    return draw(size, title, marks)


def _cells(grid: Grid, i: int, left: float, top: float) -> Iterator[str]:
    name, counts = grid.rows[i], grid.counts[i]
    whole = sum(counts)
    for j, count in enumerate(counts):
        share = count / whole if whole else 0.0
        kind = "heat right" if grid.columns[j] == name else "heat"
        said = escape(f"{name} said to be {grid.columns[j]}: {count:,} windows, {share:.1%}")
        shade = 0.08 + 0.88 * share if count else 0.03
        box = f'x="{left + _CELL * j:.1f}" y="{top:.1f}" width="{_CELL - 1}" height="{_CELL_HEIGHT - 1}"'
        yield f'<rect class="{kind}" {box} fill-opacity="{shade:.2f}"><title>{said}</title></rect>'
        if count:
            middle = (left + _CELL * j + (_CELL - 1) / 2, top + 17)
            yield words(middle, short_count(count), "on" if share > 0.5 else "number", "middle")


def short_count(count: int) -> str:
    """A count in at most five signs.

    >>> short_count(999), short_count(12345), short_count(1234567)
    ('999', '12k', '1.2M')
    """
    if count < 10_000:
        return str(count)
    return f"{count / 1e3:.0f}k" if count < 1_000_000 else f"{count / 1e6:.1f}M"
