"""Which plots a run has, and what stands on their axes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eval.detection.aggregate import UNSEEN
from eval.measures import MEASURES
from eval.parts import Part, headline, make_parts, order_models
from eval.plots import Grid, Line, Point, draw_grid, draw_intervals, draw_lines, draw_points
from eval.report.plots import Axis, log_axis, share_axis
from eval.results import Confusion, Curve, Labelling, Pooled, Run

__all__ = ["Plot", "confusion_plots", "cost_plots", "curve_plots", "few_shot_plot", "interval_plots"]

_SMALL = (262, 220)
_COSTS: dict[str, tuple[str, Callable[[Pooled], float | None]]] = {
    "training": ("seconds of training, wall clock", lambda one: one.costs.fit_s),
    "scoring": (
        "milliseconds to score a window",
        lambda one: 1000 / one.costs.windows_per_s if one.costs.windows_per_s else None,
    ),
    "size": ("stored size, megabytes", lambda one: one.costs.model_bytes / 1e6 if one.costs.model_bytes else None),
}


@dataclass(frozen=True)
class Plot:
    """A plot and the words under it."""

    caption: str
    svg: str


def interval_plots(run: Run, part: Part) -> list[Plot]:
    """The measure that puts the models in order, and whether they tell normal from not, with 95 % intervals."""
    name = headline(part.pooled)
    plots = [_interval_plot(run, part, one) for one in ([name, "binary_macro_f1"] if name == "f1" else [name])]
    return [plot for plot in plots if plot is not None]


def _interval_plot(run: Run, part: Part, name: str) -> Plot | None:
    points = []
    for one in order_models(part.pooled, name):
        estimate = one.scores[name]
        if estimate.value is not None:
            points.append(Point(one.model, 0, estimate.value, _number(run, one.model), estimate.low, estimate.high))
    if not points:
        return None
    words = MEASURES[name].meaning
    most = max([point.high or point.y for point in points] + [0.01])
    axis = _from_zero(f"share {words}", most) if name == "false_share" else share_axis(words)
    return Plot(f"{words}; 95 % interval over devices", draw_intervals(points, axis, f"{name}, {part.title}"))


def _from_zero(label: str, most: float) -> Axis:
    """An axis from 0 to a little above a value, with ticks that are round."""
    step = next(s for n in range(-6, 7) for s in (10.0**n, 2 * 10.0**n, 5 * 10.0**n) if s * 5 >= most)
    count = next(k for k in range(1, 7) if k * step >= most)
    return Axis(label, 0.0, count * step, tuple((k * step, f"{k * step:g}") for k in range(count + 1)))


def confusion_plots(part: Part) -> list[Plot]:
    """What was said of windows of each label, a grid a model."""
    return [
        Plot(
            f"{one.model} · {one.tested_windows:,} windows", draw_grid(grid, f"confusion of {one.model}, {part.title}")
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
    """``pr``, ``reliability`` or ``risk_coverage``: a small plot a model, so that no two lines need telling apart."""
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
            plots.append(Plot(words, draw_lines([line], x, y, title, _SMALL, diagonal=kind == "reliability")))
    return plots


def _text(one: Pooled, name: str) -> str:
    value = one.scores[name].value
    return "–" if value is None else f"{value:.3f}"


def few_shot_plot(run: Run, labelling: Labelling) -> Plot | None:
    """The headline measure over what the protocol varied, where that is a number of its own for each setting."""
    parts = [part for part in make_parts(run) if part.labelling == labelling and part.pooled[0].amount is not None]
    if unseen := [part for part in parts if part.unseen]:
        parts = unseen  # the same captures for every model
    if len({part.pooled[0].amount for part in parts}) != len(parts) or len(parts) < 2:
        return None
    name = headline([one for part in parts for one in part.pooled])
    lines = []
    for model in run.models:
        found = [(place, one) for place, part in enumerate(parts) for one in part.pooled if one.model == model]
        known = [(float(place), value) for place, one in found if (value := one.scores[name].value) is not None]
        if known:
            lines.append(Line(model, [x for x, _ in known], [y for _, y in known], _number(run, model)))
    if not lines:
        return None
    x, words = _settings_axis([part.base for part in parts]), MEASURES[name].meaning
    only = f"; {UNSEEN}" if parts[0].unseen else ""
    y = share_axis(words) if name == "f1" else _from_zero(words, max(max(one.y) for one in lines))
    caption = f"{words}, by {x.label or 'setting'}; labels as {labelling}{only}; the table below has the intervals."
    return Plot(caption, draw_lines(lines, x, y, f"{name} by setting", (960, max(380, 160 + 18 * len(lines)))))


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
    """The headline measure against what a model costs to train, to run and to store; costs on a log axis."""
    name = headline(part.pooled)
    plots = []
    for label, cost in _COSTS.values():
        points = []
        for one in part.pooled:
            estimate, price = one.scores[name], cost(one)
            if estimate.value is not None and price is not None and price > 0:
                points.append(
                    Point(one.model, price, estimate.value, _number(run, one.model), estimate.low, estimate.high)
                )
        if points:
            x = log_axis(label, [point.x for point in points])
            words = MEASURES[name].meaning
            plots.append(
                Plot(f"{words}, against {label}", draw_points(points, x, share_axis(words), f"{name} against {label}"))
            )
    return plots


def _number(run: Run, model: str) -> int:
    """A model has one colour and marker throughout a report."""
    return run.models.index(model) if model in run.models else 0
