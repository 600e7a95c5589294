"""The tables of a run's report: plain cells, made once, for Markdown and for the page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from eval.measures import MEASURES
from eval.pooling import UNSEEN
from eval.results import Confusion, Costs, Estimate, Labelling, Pooled, Run
from traffic.labels import NORMAL

__all__ = [
    *["COST_HEADS", "Part", "SORTED_BY", "Table", "comparison_table", "cost_table", "data_table", "format_number"],
    *["headline", "label_table", "make_parts", "render_cell", "score_table", "setting_table", "size_text"],
]

# What a table of scores shows, of MEASURES; the rest stands in the file.
_SHOWN = (
    *["f1", "binary_macro_f1", "pr_auc", "binary_recall", "false_share", "false_per_device_day"],
    *["incidents_per_10_min", "found_share", "time_to_detection_s", "calibration_error", "coverage_at_5_percent"],
)
_HEADS = {
    "f1": "macro-F1",
    "binary_macro_f1": "binary macro-F1",
    "pr_auc": "PR-AUC",
    "binary_recall": "anomalies found",
    "false_share": "false alarms",
    "false_per_device_day": "false alarms / device-day",
    "incidents_per_10_min": "incidents / 10 min",
    "found_share": "true intervals found",
    "time_to_detection_s": "time to detection, s",
    "calibration_error": "calibration error",
    "coverage_at_5_percent": "coverage at 5 % wrong",
}
COST_HEADS = {
    "fit_s": "training, s",
    "windows_per_s": "windows / s",
    "cpu_s": "CPU, s",
    "peak_memory_bytes": "peak memory",
    "model_bytes": "stored size",
    "energy_j": "energy, J",
}
_SHARES = ("false_share", "false_share_at_recall_75", "found_share", "binary_recall")
SORTED_BY = {"f1": "macro-F1, best first", "false_share": "false alarms, fewest first"}


@dataclass(frozen=True)
class Table:
    """A table as text.

    Attributes:
        title: what it shows.
        heads: one a column.
        rows: cells, as many as heads.
        best: (row, column) of each best value.
        notes: what a reader needs to know to read it right.
    """

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]] = frozenset()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """What a run says under one setting with labels of one kind: its models, best first."""

    setting: str
    labelling: Labelling
    pooled: tuple[Pooled, ...]

    @property
    def base(self) -> str:
        """The setting alone, whichever captures it was scored on."""
        return self.setting.removesuffix(UNSEEN).removesuffix("; ")

    @property
    def unseen(self) -> bool:
        """Whether only captures count that no model was made with."""
        return self.setting.endswith(UNSEEN)

    @property
    def title(self) -> str:
        """The setting and the kind of labels in words."""
        return f"{self.setting or 'all models'}, labels as {self.labelling}"


def make_parts(run: Run) -> list[Part]:
    """A run's pooled rows by setting and labelling, corrected labels first, settings by amount where they have one."""
    groups: dict[tuple[str, Labelling], list[Pooled]] = {}
    for one in run.pooled:
        groups.setdefault((one.setting, one.labelling), []).append(one)
    order = {key: (key[1] != "corrected", of[0].amount or 0.0, UNSEEN in key[0]) for key, of in groups.items()}
    return [Part(*key, _best_first(groups[key])) for key in sorted(groups, key=order.__getitem__)]


def headline(pooled: Iterable[Pooled]) -> str:
    """The measure by which models are put in order: macro-F1, or false alarms where there is nothing to find."""
    return "f1" if any(_anomalous(one.confusion) for one in pooled) else "false_share"


def _anomalous(confusion: Confusion) -> int:
    return sum(sum(row) for name, row in zip(confusion.labels, confusion.counts, strict=True) if name != NORMAL)


def _best_first(pooled: Sequence[Pooled]) -> tuple[Pooled, ...]:
    name = headline(pooled)
    sign = -1.0 if MEASURES[name].better == "higher" else 1.0
    worst = float("inf")

    def place(one: Pooled) -> tuple[float, str]:
        value = one.scores[name].value
        return (worst if value is None else sign * value, one.model)

    return tuple(sorted(pooled, key=place))


def format_number(name: str, value: float | None) -> str:
    """A measure's value: shares of windows in percent, seconds and counts short, what cannot be measured as a dash.

    >>> format_number("f1", 0.8125), format_number("false_share", 0.0012), format_number("f1", None)
    ('0.812', '0.12 %', '–')
    """
    if value is None:
        return "–"
    if name in _SHARES:
        return f"{value:.1%}".replace("%", " %") if value >= 0.1 else f"{value:.2%}".replace("%", " %")
    if name in MEASURES and not MEASURES[name].unit:
        return f"{value:.3f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def render_cell(name: str, estimate: Estimate) -> str:
    """A value with its interval.

    >>> render_cell("f1", Estimate(value=0.8, low=0.7, high=0.9))
    '0.800 [0.700, 0.900]'
    """
    text = format_number(name, estimate.value)
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return text
    low, high = (format_number(name, end).removesuffix(" %") for end in (estimate.low, estimate.high))
    return f"{text} [{low}, {high}]"


def score_table(part: Part) -> Table:
    """Every model of a part with its scores and their 95 % intervals."""
    by = headline(part.pooled)
    names = [name for name in _SHOWN if any(one.scores[name].value is not None for one in part.pooled)]
    rows = [(_named(one), *(render_cell(name, one.scores[name]) for name in names)) for one in part.pooled]
    notes = [f"Sorted by {SORTED_BY[by]}; bold is best. [ ] are 95 % intervals of a bootstrap over devices."]
    if any(not one.compared for one in part.pooled):
        notes.append("* was made with captures that are tested here: no test of it, and compared with nothing.")
    notes += [
        f"{one.model}: {one.invalid:,} unreadable answers, counted as wrong." for one in part.pooled if one.invalid
    ]
    notes += [f"{one.model}: {note}" for one in part.pooled for note in one.notes]
    return Table(
        part.title, ("model", *(_HEADS[name] for name in names)), tuple(rows), _best(part.pooled, names), tuple(notes)
    )


def _named(one: Pooled) -> str:
    return one.model if one.compared else f"{one.model} *"


def _best(pooled: Sequence[Pooled], names: Sequence[str]) -> frozenset[tuple[int, int]]:
    """The best value of each column, among models that the row is a test of."""
    best = set()
    for column, name in enumerate(names, start=1):
        values = {row: one.scores[name].value for row, one in enumerate(pooled) if one.compared}
        known = [value for value in values.values() if value is not None]
        if (
            len(set(known)) > 1 and name != "incidents_per_10_min"
        ):  # fewer incidents are only better where none is missed
            top = max(known) if MEASURES[name].better == "higher" else min(known)
            best |= {(row, column) for row, value in values.items() if value == top}
    return frozenset(best)


def setting_table(run: Run, labelling: Labelling) -> Table | None:
    """Models by settings, where a protocol has several; each column is sorted by nothing but the protocol's order."""
    parts = [part for part in make_parts(run) if part.labelling == labelling]
    if len(parts) < 2:
        return None
    name = headline([one for part in parts for one in part.pooled])
    cells = {(one.model, part.setting): one for part in parts for one in part.pooled}
    rows = [
        (
            model,
            *(
                render_cell(name, cells[model, part.setting].scores[name]) if (model, part.setting) in cells else "–"
                for part in parts
            ),
        )
        for model in run.models
    ]
    heads = ("model", *(part.setting or "nothing changed" for part in parts))
    title = f"{_HEADS[name]} by setting, labels as {labelling}"
    return Table(title, heads, tuple(rows), notes=("Models in the order in which the run names them.",))


def label_table(part: Part) -> Table:
    """F1 of each label by model, with how many windows truly have it."""
    labels = {label: scores.windows for one in part.pooled for label, scores in one.per_label.items()}
    present = sorted((label for label, windows in labels.items() if windows), key=lambda label: -labels[label])
    rows = [
        (
            one.model,
            *(format_number("f1", one.per_label[label].f1) if label in one.per_label else "–" for label in present),
        )
        for one in part.pooled
    ]
    heads = ("model", *(f"{label} ({labels[label]:,})" for label in present))
    return Table(
        f"F1 of each label, {part.title}",
        heads,
        tuple(rows),
        notes=("In brackets: windows that truly have the label.",),
    )


def cost_table(part: Part) -> Table:
    """What each model took, means of its fits."""
    rows = [(_named(one), *_costs(one.costs)) for one in part.pooled]
    sources = {_source(one.costs) for one in part.pooled}
    notes = ("Means over fits.", f"Energy: {'; '.join(sorted(sources))}.")
    return Table(f"Costs, {part.title}", ("model", *COST_HEADS.values()), tuple(rows), notes=notes)


def _source(costs: Costs) -> str:
    return costs.energy_from if costs.watts is None else f"{costs.energy_from} ({costs.watts:g} W a core)"


def _costs(costs: Costs) -> tuple[str, ...]:
    return (
        format_number("s", costs.fit_s),
        format_number("s", costs.windows_per_s),
        format_number("s", costs.cpu_s),
        size_text(costs.peak_memory_bytes),
        size_text(costs.model_bytes),
        format_number("J", costs.energy_j),
    )


def size_text(size: int | None) -> str:
    """Bytes as a person reads them.

    >>> size_text(15_300_000), size_text(900), size_text(None)
    ('15.3 MB', '900 B', '–')
    """
    if size is None:
        return "–"
    for unit, bytes_ in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= bytes_:
            return f"{size / bytes_:.1f} {unit}"
    return f"{size} B"


def comparison_table(run: Run, labelling: Labelling) -> Table | None:
    """Paired differences between models on the same windows."""
    found = [one for one in run.comparisons if one.labelling == labelling]
    if not found:
        return None
    rows = []
    for one in found:
        between = Estimate(value=one.difference, low=one.low, high=one.high)
        cells = (f"{one.model} − {one.other}", one.setting or "–", one.measure)
        rows.append((*cells, signed(one.measure, between), _p(one.p_value), str(one.units)))
    heads = ("models", "setting", "measure", "difference", "p", "devices")
    return Table(f"Paired differences, labels as {labelling}", heads, tuple(rows), notes=(found[0].method,))


def signed(name: str, difference: Estimate) -> str:
    """A difference with its sign and interval."""
    if difference.value is None:
        return "–"
    text = f"{difference.value:+.3f}" if name in MEASURES and not MEASURES[name].unit else f"{difference.value:+.3g}"
    if difference.low is None or difference.high is None:
        return text
    return f"{text} [{difference.low:+.3f}, {difference.high:+.3f}]"


def _p(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def data_table(run: Run) -> Table:
    """The captures of a run: what each is, how much of it, and its content's fingerprint."""
    rows = tuple(
        (
            *(one.name, one.form, one.network, f"{one.windows:,}", f"{one.devices:,}", f"{one.hours:.1f}"),
            *(_counts(one.corrected), _counts(one.published) if one.published != one.corrected else "the same"),
            one.sha256[:12],
        )
        for one in run.data
    )
    heads = ("capture", "form", "network", "windows", "devices", "hours", "corrected", "published", "SHA-256")
    return Table("Data", heads, rows, notes=("SHA-256 of windows, features and truth: its first 12 digits.",))


def _counts(windows: Mapping[str, int]) -> str:
    return ", ".join(
        f"{label} {count:,}" for label, count in sorted(windows.items(), key=lambda item: -item[1]) if count
    )
