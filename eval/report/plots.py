"""What plots are made of: axes, where values lie on them, markers, and words that do not lie on one
another.

Everything is SVG text. Colours are classes of the page's style (``c0`` to ``c7``), so that they fit
light and dark.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from eval.detection.aggregate import UNSEEN, Part, headline, make_parts, order_models
from eval.results import MEASURES, Confusion, Curve, Labelling, Pooled, Run

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
    return Axis(
        label,
        10.0**low,
        10.0 ** decades[-1],
        tuple((10.0**n, f"{10.0**n:,g}") for n in decades),
        True,
    )


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
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


@dataclass(frozen=True)
class Frame:
    """Where values lie on a plot of a size, with room for words at the left and right of its
    axes."""

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
        marks.append(
            words(((self.left + self.end) / 2, self.floor + 34), self.x.label, "axis", "middle")
        )
        if self.y.label:
            marks.append(
                words((14, (TOP + self.floor) / 2), self.y.label, "axis", "middle", turned=-90)
            )
        return "".join(marks)


def words(
    at: tuple[float, float], text: str, kind: str = "", anchor: str = "start", turned: int = 0
) -> str:
    """Text at a place; ``turned`` by degrees around its beginning."""
    turn = f" rotate({turned})" if turned else ""
    place = f"translate({at[0]:.1f},{at[1]:.1f}){turn}"
    return f'<text class="{kind}" text-anchor="{anchor}" transform="{place}">{escape(text)}</text>'


def line(kind: str, one: tuple[float, float], other: tuple[float, float]) -> str:
    """A line between two places."""
    return f'<line class="{kind}" x1="{one[0]:.1f}" y1="{one[1]:.1f}" x2="{other[0]:.1f}" y2="{other[1]:.1f}"/>'


def marker(number: int, at: tuple[float, float], said: str = "") -> str:
    """A dot, square, diamond or triangle: one for each round through the eight colours; ``said``
    shows on hovering."""
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
    """Move sorted heights as far down as needed, then up again where they left the plot, until
    ``gap`` is between them.

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
    """The first free place for a name around a point, nearest first; right of the point where none
    is free."""
    wide, high = len(name) * LETTER, 12.0
    for reach in (8.0, 20.0, 34.0, 50.0, 68.0, 90.0):
        for dx, dy in ((1, 0), (-1, 0), (1, -1), (1, 1), (-1, -1), (-1, 1), (0, -1), (0, 1)):
            left = at[0] + dx * reach - wide * (1 - dx) / 2
            top = at[1] + dy * reach - high / 2
            box = Box(left, top, left + wide, top + high)
            inside = (
                frame.left < left
                and box.right < frame.size[0] - 2
                and top > 2
                and box.bottom < frame.floor
            )
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


# Plots as SVG text: no script, no font, no link, readable in light and dark.
#
# A line or a point is told by its name beside it, its marker and its dashes; colour only helps.

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
        bounds = (
            "" if self.low is None or self.high is None else f" [{self.low:.3f}, {self.high:.3f}]"
        )
        return f"{self.name}: {self.y:.3f}{bounds}"


@dataclass(frozen=True)
class Grid:
    """Counts by row and column, rows true and columns said."""

    rows: Sequence[str]
    columns: Sequence[str]
    counts: Sequence[Sequence[int]]


def draw_lines(
    lines: Sequence[Line],
    x: Axis,
    y: Axis,
    title: str,
    size: tuple[int, int] = (720, 340),
    diagonal: bool = False,
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
        yield from (
            marker(one.number, at, f"{one.name}: {py:.3f}")
            for at, py in zip(places, one.y, strict=True)
        )


def _names_at_the_end(frame: Frame, lines: Sequence[Line]) -> Iterator[str]:
    """Each line's name right of its last point, pushed apart where they would meet."""
    ends = sorted(
        ((frame.at(one.x[-1], one.y[-1]), one) for one in lines), key=lambda end: end[0][1]
    )
    heights = spread([at[1] for at, _ in ends], 13.0, TOP, frame.floor)
    beyond = frame.end + 14
    for (at, one), height in zip(ends, heights, strict=True):
        yield leader((at[0] + 6, at[1]), (beyond - 3, height))
        yield words((beyond, height + 4), one.name, f"name c{one.number % 8}")


def draw_points(
    points: Sequence[Point], x: Axis, y: Axis, title: str, size: tuple[int, int] = (562, 380)
) -> str:
    """Points over two axes, each with its name where there is room for it; arguments as of
    `draw_lines`."""
    frame = Frame(x, y, size, 24)
    places = [frame.at(one.x, one.y) for one in points]
    marks = [frame.axes()]
    for one in points:
        if one.low is not None and one.high is not None:
            marks.append(
                frame.line(f"whisker faint c{one.number % 8}", (one.x, one.low), (one.x, one.high))
            )
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
    beyond = max(
        len(name) * slant - _CELL * (len(grid.columns) - 1 - j)
        for j, name in enumerate(grid.columns)
    )
    width = left + _CELL * len(grid.columns) + max(beyond - _CELL / 2, 0) + 12
    size = (round(max(width, 260)), round(above + _CELL_HEIGHT * len(grid.rows) + 26))
    marks = [
        words((left + _CELL * (j + 0.5), above - 6), name, turned=-45)
        for j, name in enumerate(grid.columns)
    ]
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


# Which plots a run has, and what stands on their axes.

_SMALL = (262, 220)
_COSTS: dict[str, tuple[str, Callable[[Pooled], float | None]]] = {
    "training": ("seconds of training, wall clock", lambda one: one.costs.fit_s),
    "scoring": (
        "milliseconds to score a window",
        lambda one: 1000 / one.costs.windows_per_s if one.costs.windows_per_s else None,
    ),
    "size": (
        "stored size, megabytes",
        lambda one: one.costs.model_bytes / 1e6 if one.costs.model_bytes else None,
    ),
}


@dataclass(frozen=True)
class Plot:
    """A plot and the words under it."""

    caption: str
    svg: str


def interval_plots(run: Run, part: Part) -> list[Plot]:
    """The measure that puts the models in order, and whether they tell normal from not, with 95 %
    intervals."""
    name = headline(part.pooled)
    plots = [
        _interval_plot(run, part, one)
        for one in ([name, "binary_macro_f1"] if name == "f1" else [name])
    ]
    return [plot for plot in plots if plot is not None]


def _interval_plot(run: Run, part: Part, name: str) -> Plot | None:
    points = []
    for one in order_models(part.pooled, name):
        estimate = one.scores[name]
        if estimate.value is not None:
            points.append(
                Point(
                    one.model,
                    0,
                    estimate.value,
                    _number(run, one.model),
                    estimate.low,
                    estimate.high,
                )
            )
    if not points:
        return None
    words = MEASURES[name].meaning
    most = max([point.high or point.y for point in points] + [0.01])
    axis = _from_zero(f"share {words}", most) if name == "false_share" else share_axis(words)
    return Plot(
        f"{words}; 95 % interval over devices",
        draw_intervals(points, axis, f"{name}, {part.title}"),
    )


def _from_zero(label: str, most: float) -> Axis:
    """An axis from 0 to a little above a value, with ticks that are round."""
    step = next(
        s for n in range(-6, 7) for s in (10.0**n, 2 * 10.0**n, 5 * 10.0**n) if s * 5 >= most
    )
    count = next(k for k in range(1, 7) if k * step >= most)
    return Axis(
        label, 0.0, count * step, tuple((k * step, f"{k * step:g}") for k in range(count + 1))
    )


def confusion_plots(part: Part) -> list[Plot]:
    """What was said of windows of each label, a grid a model."""
    return [
        Plot(
            f"{one.model} · {one.tested_windows:,} windows",
            draw_grid(grid, f"confusion of {one.model}, {part.title}"),
        )
        for one in part.pooled
        if (grid := _grid(one.confusion)).rows
    ]


def _grid(confusion: Confusion) -> Grid:
    """The labels that are true somewhere, by those that are true or said somewhere."""
    n = len(confusion.labels)
    true = [i for i in range(n) if sum(confusion.counts[i])]
    said = [j for j in range(n) if j in true or any(row[j] for row in confusion.counts)]
    counts = [[confusion.counts[i][j] for j in said] for i in true]
    return Grid([confusion.labels[i] for i in true], [confusion.labels[j] for j in said], counts)


def curve_plots(part: Part, kind: str) -> list[Plot]:
    """``pr``, ``reliability`` or ``risk_coverage``: a small plot a model, so that no two lines need
    telling apart."""
    plots = []
    for one in part.pooled:
        if kind == "reliability":
            bins = one.curves.reliability
            curve = Curve(x=bins.confidence, y=bins.right) if bins else None
            words = f"{one.model} · calibration error {_text(one, 'calibration_error')}"
            x, y = share_axis("probability of the label said"), share_axis("share that was right")
        elif kind == "pr":
            curve, words = one.curves.pr, f"{one.model} · PR-AUC {_text(one, 'pr_auc')}"
            x, y = share_axis("recall of anomalous"), share_axis("precision")
        else:
            curve, words = one.curves.risk_coverage, f"{one.model} · area {_text(one, 'risk_area')}"
            x, y = share_axis("coverage: share answered"), share_axis("share wrong of those")
        if curve is not None and curve.x:
            line = Line(one.model, curve.x, curve.y, 0)
            title = f"{kind.replace('_', ' ')} of {one.model}, {part.title}"
            plots.append(
                Plot(words, draw_lines([line], x, y, title, _SMALL, diagonal=kind == "reliability"))
            )
    return plots


def _text(one: Pooled, name: str) -> str:
    value = one.scores[name].value
    return "–" if value is None else f"{value:.3f}"


def few_shot_plot(run: Run, labelling: Labelling) -> Plot | None:
    """The headline measure over what the protocol varied, where that is a number of its own for
    each setting."""
    parts = [
        part
        for part in make_parts(run)
        if part.labelling == labelling and part.pooled[0].amount is not None
    ]
    if unseen := [part for part in parts if part.unseen]:
        parts = unseen  # the same captures for every model
    if len({part.pooled[0].amount for part in parts}) != len(parts) or len(parts) < 2:
        return None
    name = headline([one for part in parts for one in part.pooled])
    lines = []
    for model in run.models:
        found = [
            (place, one)
            for place, part in enumerate(parts)
            for one in part.pooled
            if one.model == model
        ]
        known = [
            (float(place), value)
            for place, one in found
            if (value := one.scores[name].value) is not None
        ]
        if known:
            lines.append(
                Line(model, [x for x, _ in known], [y for _, y in known], _number(run, model))
            )
    if not lines:
        return None
    x, words = _settings_axis([part.base for part in parts]), MEASURES[name].meaning
    only = f"; {UNSEEN}" if parts[0].unseen else ""
    y = share_axis(words) if name == "f1" else _from_zero(words, max(max(one.y) for one in lines))
    caption = f"{words}, by {x.label or 'setting'}; labels as {labelling}{only}; the table below has the intervals."
    return Plot(
        caption,
        draw_lines(lines, x, y, f"{name} by setting", (960, max(380, 160 + 18 * len(lines)))),
    )


def _settings_axis(settings: Sequence[str]) -> Axis:
    """One step a setting: 0 has no place on a log axis, and 10 and 50 none on a linear one.

    >>> axis = _settings_axis(["0 windows", "10 windows"])
    >>> axis.label, [text for _, text in axis.ticks]
    ('windows', ['0', '10'])
    """
    firsts, rests = zip(*(setting.partition(" ")[::2] for setting in settings), strict=True)
    alike = len(set(rests)) == 1 and len(set(firsts)) == len(firsts)
    texts = firsts if alike else tuple(settings)
    ticks = tuple((float(place), text) for place, text in enumerate(texts))
    return Axis(rests[0] if alike else "", -0.2, len(settings) - 0.8, ticks)


def cost_plots(run: Run, part: Part) -> list[Plot]:
    """The headline measure against what a model costs to train, to run and to store; costs on a log
    axis."""
    name = headline(part.pooled)
    plots = []
    for label, cost in _COSTS.values():
        points = []
        for one in part.pooled:
            estimate, price = one.scores[name], cost(one)
            if estimate.value is not None and price is not None and price > 0:
                points.append(
                    Point(
                        one.model,
                        price,
                        estimate.value,
                        _number(run, one.model),
                        estimate.low,
                        estimate.high,
                    )
                )
        if points:
            x = log_axis(label, [point.x for point in points])
            words = MEASURES[name].meaning
            plots.append(
                Plot(
                    f"{words}, against {label}",
                    draw_points(points, x, share_axis(words), f"{name} against {label}"),
                )
            )
    return plots


def _number(run: Run, model: str) -> int:
    """A model has one colour and marker throughout a report."""
    return run.models.index(model) if model in run.models else 0
