"""Plots of a run as SVG text: without script, the same bytes from the same run.

A model is told by its name, its marker or its dashes, never by colour alone: the page is printed
in grey as well.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter

from eval.detection.aggregate import UNSEEN, Part, headline, make_parts
from eval.report.tables import format_number
from eval.results import MEASURES, Confusion, Labelling, Pooled, Run

# Text stays text (searchable, in the reader's size), "$" in a model's name is no formula, and the
# identifiers that matplotlib draws at random come from a fixed salt.
_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 8.5,
    "font.sans-serif": ["DejaVu Sans", "Noto Sans", "Segoe UI", "Helvetica", "Arial"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#5b666e",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#d9dde0",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
}
_INK, _SOFT = "#20262b", "#5b666e"
# Okabe and Ito's colours, told apart by colour-blind people; yellow left out, as it is pale on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = "osD^vPX*<>phd8"
_DASHES = ("-", "--", ":", "-.")
_WIDTH = 12.3  # inches: the page's width
_COLUMNS = 6  # small plots beside each other


@dataclass(frozen=True)
class Plot:
    """A plot and the words under it."""

    caption: str
    svg: str


def make_plots(run: Run, part: Part, detail: bool) -> dict[str, list[Plot]]:
    """The plots of a part by their title, in the order of a report.

    Args:
        run: of the part.
        part: its models, best first.
        detail: curves and confusions too.
    """
    with matplotlib.rc_context(_STYLE):
        groups = {
            "Models, best first": _draw_intervals(part),
            "Cost against quality": _draw_costs(run, part),
        }
        if detail:
            groups |= {
                "Confusion: what windows of each label were said to be": _draw_confusions(part),
                "Precision and recall of anomalous": _draw_precision_recall(part),
                "Reliability: on the diagonal a probability is what it says": _draw_reliability(
                    part
                ),
                "Abstention: answering only the surest windows": _draw_risk_coverage(part),
            }
        return {title: list(plots) for title, plots in groups.items()}


def make_setting_plot(run: Run, labelling: Labelling) -> Plot | None:
    """The headline measure over what the protocol varied.

    Returns:
        None where settings do not differ by a number each.
    """
    parts = [
        part
        for part in make_parts(run)
        if part.labelling == labelling and part.pooled[0].amount is not None
    ]
    parts = [part for part in parts if part.unseen] or parts  # the same captures for every model
    if len({part.pooled[0].amount for part in parts}) != len(parts) or len(parts) < 2:
        return None
    name = headline([one for part in parts for one in part.pooled])
    with matplotlib.rc_context(_STYLE):
        return _draw_settings(run, parts, name, labelling)


# ---- models by their scores ----


def _draw_intervals(part: Part) -> Iterator[Plot]:
    """A forest plot: a row a model; beside macro-F1, whether it tells normal from anomalous."""
    by = headline(part.pooled)
    names = [by, "binary_macro_f1"] if by == "f1" else [by]
    models = [one for one in part.pooled if one.scores[by].value is not None]
    if not models:
        return
    figure, axes = _make_figure(
        _WIDTH * len(names) / 2, 0.7 + 0.24 * len(models), 1, len(names), sharey=True
    )
    for ax, name in zip(axes[0], names, strict=True):
        for row, one in enumerate(models):
            score = one.scores[name]
            if score.value is None:
                continue
            if score.low is not None and score.high is not None:
                ax.plot([score.low, score.high], [row, row], color=_SOFT)
            ax.plot(score.value, row, "o", color=_INK, markersize=4.5)
            place = ax.get_yaxis_transform()
            text = format_number(name, score.value)
            ax.text(1.02, row, text, transform=place, verticalalignment="center")
        ax.set(xlabel=MEASURES[name].meaning, ylim=(len(models) - 0.5, -0.5))
        ax.set_xlim(0, None if name == "false_share" else 1)
        ax.tick_params(left=False)
        ax.grid(visible=False, axis="y")
    axes[0][0].set_yticks(range(len(models)), [one.model for one in models])
    meanings = " and ".join(MEASURES[name].meaning for name in names)
    yield Plot(f"{meanings}; 95 % interval over devices", _render(figure, f"{by}, {part.title}"))


_COSTS: Mapping[str, Callable[[Pooled], float | None]] = {
    "training, wall clock, s": lambda one: one.costs.fit_s,
    "scoring a window, ms": lambda one: (
        1000 / one.costs.windows_per_s if one.costs.windows_per_s else None
    ),
    "stored size, MB": lambda one: one.costs.model_bytes / 1e6 if one.costs.model_bytes else None,
}


def _draw_costs(run: Run, part: Part) -> Iterator[Plot]:
    """The headline measure against what a model costs to train, to run and to store."""
    name = headline(part.pooled)
    figure, axes = _make_figure(_WIDTH, 3.6, 1, len(_COSTS), sharey=True)
    drawn: dict[str, Any] = {}
    for ax, (label, cost) in zip(axes[0], _COSTS.items(), strict=True):
        for one in part.pooled:
            score, price = one.scores[name], cost(one)
            if score.value is None or not price:
                continue
            look = _style_of(run, one.model)
            if score.low is not None and score.high is not None:
                ends = [score.low, score.high]
                ax.plot([price, price], ends, color=look["color"], alpha=0.45, linewidth=1)
            (drawn[one.model],) = ax.plot(price, score.value, linestyle="none", **look)
        ax.set(xlabel=label, xscale="log")
        ax.xaxis.set_major_formatter("{x:g}")  # its own is a formula
        ax.xaxis.set_minor_formatter(NullFormatter())
    if not drawn:
        return
    axes[0][0].set_ylabel(MEASURES[name].meaning)
    axes[0][0].set_ylim(0, None if name == "false_share" else 1)
    # A legend, not names beside the points: sixteen names collide, and matplotlib moves none.
    known = [one.model for one in part.pooled if one.model in drawn]
    figure.legend(
        [drawn[model] for model in known], known, loc="outside right upper", frameon=False
    )
    caption = f"{MEASURES[name].meaning}, against cost (log axes); whiskers are 95 % intervals"
    yield Plot(caption, _render(figure, f"{name} against cost, {part.title}"))


def _draw_settings(run: Run, parts: Sequence[Part], name: str, labelling: Labelling) -> Plot | None:
    figure, axes = _make_figure(_WIDTH, max(3.4, 0.6 + 0.21 * len(run.models)))
    ax = axes[0][0]
    ends: dict[str, float] = {}
    for model in run.models:
        scores = {
            place: value
            for place, part in enumerate(parts)
            for one in part.pooled
            if one.model == model and (value := one.scores[name].value) is not None
        }
        if scores:
            dashes = _DASHES[run.models.index(model) // len(_COLOURS) % len(_DASHES)]
            look = _style_of(run, model) | {"linestyle": dashes, "label": model}
            ax.plot(list(scores), list(scores.values()), **look)
            ends[model] = list(scores.values())[-1]
    if not ends:
        return None
    unit, ticks = _setting_ticks([part.base for part in parts])
    meaning = MEASURES[name].meaning
    # A step a setting: 0 has no place on a log axis, and 10 and 50 have none on a linear one.
    ax.set_xticks(range(len(parts)), ticks)
    ax.set(xlabel=unit, ylabel=meaning)
    ax.set_ylim(0, None if name == "false_share" else 1)
    handles = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    ordered = sorted(ends, key=lambda model: ends[model], reverse=True)
    lines = [handles[model] for model in ordered]
    figure.legend(lines, ordered, loc="outside right upper", frameon=False, handlelength=3.5)
    only = f"; {UNSEEN}" if parts[0].unseen else ""
    caption = f"{meaning}, by {unit or 'setting'}; labels as {labelling}{only}"
    svg = _render(figure, f"{name} by setting, labels as {labelling}")
    return Plot(f"{caption}; the table below has the intervals.", svg)


def _setting_ticks(settings: Sequence[str]) -> tuple[str, Sequence[str]]:
    """What stands below an axis of settings and at its ticks.

    >>> _setting_ticks(["0 windows", "10 windows"])
    ('windows', ('0', '10'))
    """
    firsts, rests = zip(*(setting.partition(" ")[::2] for setting in settings), strict=True)
    alike = len(set(rests)) == 1 and len(set(firsts)) == len(firsts)
    return (rests[0], firsts) if alike else ("", settings)


# ---- curves and confusions, a small plot a model ----


def _draw_precision_recall(part: Part) -> Iterator[Plot]:
    curves = {_title(one, "PR-AUC", "pr_auc"): one.curves.pr for one in part.pooled}
    points = {title: (one.x, one.y) for title, one in curves.items() if one}
    return _draw_small(points, "recall of anomalous", "precision", f"precision, {part.title}")


def _draw_reliability(part: Part) -> Iterator[Plot]:
    bins = {_title(one, "ECE", "calibration_error"): one.curves.reliability for one in part.pooled}
    points = {title: (one.confidence, one.right) for title, one in bins.items() if one}
    x, y = "probability of the label said", "share that was right"
    return _draw_small(points, x, y, f"reliability, {part.title}", diagonal=True)


def _draw_risk_coverage(part: Part) -> Iterator[Plot]:
    curves = {_title(one, "area", "risk_area"): one.curves.risk_coverage for one in part.pooled}
    points = {title: (one.x, one.y) for title, one in curves.items() if one}
    x, y = "coverage: share answered", "share wrong of those"
    return _draw_small(points, x, y, f"risk by coverage, {part.title}")


def _title(one: Pooled, what: str, measure: str) -> str:
    return f"{one.model}\n{what} {format_number(measure, one.scores[measure].value)}"


def _draw_small(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x: str,
    y: str,
    name: str,
    diagonal: bool = False,
) -> Iterator[Plot]:
    """Shares by shares: a plot a model, so that no two lines need telling apart."""
    curves = {title: curve for title, curve in curves.items() if curve[0]}
    if not curves:
        return
    columns = min(_COLUMNS, len(curves))
    rows = -(-len(curves) // columns)
    size = (max(2.6, _WIDTH * columns / _COLUMNS), 0.5 + 1.9 * rows)
    figure, axes = _make_figure(*size, rows, columns, sharex=True, sharey=True)
    cells = axes.ravel()
    for place, (title, points) in enumerate(curves.items()):
        ax = cells[place]
        if diagonal:
            ax.plot([0, 1], [0, 1], linestyle="--", color=_SOFT, linewidth=0.8)
        few = "o" if len(points[0]) <= 20 else ""
        ax.plot(*points, marker=few, markersize=3, color=_INK, clip_on=False)
        ax.set_title(title, fontsize=8.5)
        ax.set(xlim=(0, 1), ylim=(0, 1))
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(FixedLocator([0, 0.5, 1]))
            axis.set_major_formatter("{x:g}")
        ax.tick_params(labelbottom=place >= len(curves) - columns)
    for ax in cells[len(curves) :]:
        ax.set_axis_off()
    figure.supxlabel(x, fontsize=8.5)
    figure.supylabel(y, fontsize=8.5)
    yield Plot("", _render(figure, name))


def _draw_confusions(part: Part) -> Iterator[Plot]:
    """What was said of windows of each label, a grid a model, shaded by the share of its row."""
    for one in part.pooled:
        true, said = _known_labels(one.confusion)
        if not true:
            continue
        counts = np.array(one.confusion.counts)[np.ix_(true, said)]
        labels = one.confusion.labels
        figure, axes = _make_figure(
            max(2.6, 1.5 + 0.36 * len(said)), max(1.8, 1.4 + 0.27 * len(true))
        )
        ax = axes[0][0]
        shares = counts / counts.sum(axis=1, keepdims=True)
        # Not imshow: its picture is an image, which the page's policy forbids to load.
        ax.pcolormesh(shares, cmap="Greys", vmin=0, vmax=1, edgecolors="#d9dde0", linewidth=0.4)
        for (i, j), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[i, j] > 0.5 else "black"
                place = {"horizontalalignment": "center", "verticalalignment": "center"}
                ax.text(j + 0.5, i + 0.5, short_count(count), color=colour, fontsize=7, **place)
        ax.set_xticks(np.arange(len(said)) + 0.5, [labels[j] for j in said], rotation=90)
        ax.set_yticks(np.arange(len(true)) + 0.5, [labels[i] for i in true])
        ax.set(xlabel="said", ylabel="true")
        ax.invert_yaxis()
        ax.grid(visible=False)
        caption = f"{one.model} · {one.tested_windows:,} windows"
        yield Plot(caption, _render(figure, f"confusion of {one.model}, {part.title}"))


def _known_labels(confusion: Confusion) -> tuple[list[int], list[int]]:
    """Places of the labels that are true somewhere, and of those true or said somewhere."""
    counts = np.array(confusion.counts)
    true = counts.any(axis=1)
    said = true | counts.any(axis=0)
    return [int(i) for i in np.flatnonzero(true)], [int(j) for j in np.flatnonzero(said)]


def short_count(count: int) -> str:
    """A count in at most five signs.

    >>> short_count(999), short_count(12345), short_count(1234567)
    ('999', '12k', '1.2M')
    """
    if count < 10_000:
        return str(count)
    return f"{count / 1e3:.0f}k" if count < 1_000_000 else f"{count / 1e6:.1f}M"


# ---- matplotlib ----


def _make_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **shared: Any
) -> tuple[Figure, np.ndarray]:
    """A figure in inches and its axes, shape (rows, columns); pyplot's global state is not used."""
    figure = Figure((width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def _style_of(run: Run, model: str) -> dict[str, Any]:
    """A model has one colour and marker throughout a report."""
    number = run.models.index(model) if model in run.models else 0
    rounds, place = divmod(number, len(_MARKERS))
    colour = _COLOURS[number % len(_COLOURS)]
    return {
        "color": colour,
        "marker": _MARKERS[place],
        "markersize": 5.5,
        "markerfacecolor": "white" if rounds % 2 else colour,
    }


def _render(figure: Figure, title: str) -> str:
    """The figure as an SVG element; ``title`` tells what it shows to those who cannot see it."""
    text = StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    # The page holds many plots: the salt keeps their clip paths and markers apart.
    with matplotlib.rc_context({"svg.hashsalt": title}):
        figure.savefig(text, format="svg", metadata=nothing)
    svg = re.sub(
        r' id="[a-z0-9]+_\d+"', "", text.getvalue()
    )  # "axes_1" in each: nothing refers to it
    name = escape(title, quote=True)
    return f'<svg role="img" aria-label="{name}" {svg[svg.index("<svg") + 5 :]}'
