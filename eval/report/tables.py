"""The tables of a run's report: plain cells, made once, for Markdown and for the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from eval.detection.aggregate import Part, headline, make_parts
from eval.results import MEASURES, Costs, Estimate, Labelling, Pooled, Run

# Numbers of results as people read them.

_SHARES = ("false_share", "false_share_at_recall_75", "found_share", "binary_recall")


def format_number(name: str, value: float | None) -> str:
    """A measure's value: shares of windows in percent, seconds and counts short, what cannot be
    measured as a dash.

    >>> format_number("f1", 0.8125), format_number("false_share", 0.0012), format_number("f1", None)
    ('0.812', '0.12 %', '–')
    """
    if value is None:
        return "–"
    if name in _SHARES:
        return (
            f"{value:.1%}".replace("%", " %") if value >= 0.1 else f"{value:.2%}".replace("%", " %")
        )
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
    low, high = (
        format_number(name, end).removesuffix(" %") for end in (estimate.low, estimate.high)
    )
    return f"{text} [{low}, {high}]"


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


def signed(name: str, difference: Estimate) -> str:
    """A difference with its sign and interval."""
    if difference.value is None:
        return "–"
    text = (
        f"{difference.value:+.3f}"
        if name in MEASURES and not MEASURES[name].unit
        else f"{difference.value:+.3g}"
    )
    if difference.low is None or difference.high is None:
        return text
    return f"{text} [{difference.low:+.3f}, {difference.high:+.3f}]"


# A run's results as one table for a terminal: every model, the numbers of `eval.results` that
# decide most.

# Measure -> its head in the table, and how it is written.
_COLUMNS: dict[str, tuple[str, str]] = {
    "binary_macro_f1": ("F1 normal/anomalous", ".3f"),
    "pr_auc": ("PR-AUC", ".3f"),
    "false_share": ("false windows", ".2%"),
    "false_per_device_day": ("false/device-day", ".0f"),
    "incidents_per_10_min": ("incidents/10 min", ".2f"),
    "false_incidents_per_10_min": ("of these false", ".2f"),
    "found_share": ("found", ".0%"),
    "time_to_detection_s": ("after s", ".0f"),
    "calibration_error": ("ECE", ".3f"),
}


def make_table(run: Run) -> Table:
    """One line for each setting and model, the best F1 first; labels as corrected, beside F1 as
    published.

    A mark after a model's name says that it had seen some of these captures before: compare it with
    nothing.
    """
    table = Table(
        title=f"{run.name}: {run.protocol['asks']}", caption=_caption(run), padding=(0, 0, 0, 1)
    )
    settings = list(dict.fromkeys(one.setting for one in run.pooled))
    heads = [*(["setting"] if len(settings) > 1 else []), "model", "F1", "published"]
    for head in (*heads, *(head for head, _ in _COLUMNS.values()), "fit s", "windows/s"):
        words = head in ("setting", "model")
        table.add_column(
            head, justify="left" if words else "right", no_wrap=head == "model", overflow="fold"
        )
    for setting in settings:
        for one in _ordered([row for row in run.pooled if row.setting == setting]):
            table.add_row(*([setting] if len(settings) > 1 else []), *_cells(run, one))
        table.add_section()
    return table


def _ordered(rows: Sequence[Pooled]) -> list[Pooled]:
    shown = [one for one in rows if one.labelling == "corrected"] or list(rows)
    return sorted(
        shown,
        key=lambda one: (_number(one.scores["f1"]), _number(one.scores["binary_macro_f1"])),
        reverse=True,
    )


def _number(estimate: Estimate) -> float:
    return -1.0 if estimate.value is None else estimate.value


def _cells(run: Run, one: Pooled) -> list[str]:
    same = (one.model, one.setting)
    published = [
        row
        for row in run.pooled
        if (row.model, row.setting) == same and row.labelling == "published"
    ]
    rate = one.costs.windows_per_s
    return [
        one.model if one.compared else f"{one.model} (seen)",
        _written(one.scores["f1"], ".3f", True),
        _written(published[0].scores["f1"], ".3f") if published else "",
        *(_written(one.scores[name], form) for name, (_, form) in _COLUMNS.items()),
        f"{one.costs.fit_s:.1f}",
        f"{rate:,.0f}" if rate is not None else "",
    ]


def _written(estimate: Estimate, form: str, with_interval: bool = False) -> str:
    if estimate.value is None:
        return "-"
    if with_interval and estimate.low is not None and estimate.high is not None:
        return f"{estimate.value:{form}} ({estimate.low:.2f}-{estimate.high:.2f})"
    return f"{estimate.value:{form}}"


def _caption(run: Run) -> str:
    said = [
        f"{sum(one.windows for one in run.data):,} windows of {len(run.data)} captures, {len(run.seeds)} seeds"
    ]
    if warning := run.protocol.get("warning"):
        said.append(str(warning))
    if seen := sorted({name for one in run.pooled for name in one.seen_in_training}):
        said.append(f"(seen): was made with {', '.join(seen)}")
    if invalid := sum(one.invalid for one in run.pooled):
        said.append(f"{invalid:,} answers could not be read")
    return "; ".join([*said, "- cannot be measured"])


# What a table of scores shows, of MEASURES; the rest stands in the file.
_SHOWN = (
    *["f1", "binary_macro_f1", "pr_auc", "binary_recall", "false_share", "false_per_device_day"],
    *[
        "incidents_per_10_min",
        "found_share",
        "time_to_detection_s",
        "calibration_error",
        "coverage_at_5_percent",
    ],
)
_HEADS = {
    "f1": "macro-F1",
    "binary_macro_f1": "binary macro-F1",
    "pr_auc": "PR-AUC",
    "binary_recall": "anomalies found",
    "false_share": "normal called anomalous",
    "false_per_device_day": "false alarms / device-day",
    "incidents_per_10_min": "incidents / 10 min",
    "found_share": "true intervals found",
    "time_to_detection_s": "time to detect, s",
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
_MANY = "p is of each pair alone: of twenty pairs that do not differ, one is expected below 0.05."
SORTED_BY = {
    "f1": "macro-F1, best first",
    "false_share": "normal windows called anomalous, fewest first",
}


@dataclass(frozen=True)
class ReportTable:
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


def score_table(part: Part) -> ReportTable:
    """Every model of a part with its scores and their 95 % intervals."""
    by = headline(part.pooled)
    names = [
        name for name in _SHOWN if any(one.scores[name].value is not None for one in part.pooled)
    ]
    rows = [
        (
            _named(one),
            format_number("f1", _of_true_labels(one)),
            *(render_cell(name, one.scores[name]) for name in names),
        )
        for one in part.pooled
    ]
    notes = [
        f"Sorted by {SORTED_BY[by]}; bold is best. [ ] are 95 % intervals of a bootstrap over devices."
    ]
    if any(not one.compared for one in part.pooled):
        notes.append(
            "* was made with captures that are tested here: no test of it, and compared with nothing."
        )
    notes += [
        f"{one.model}: {one.invalid:,} unreadable answers, counted as wrong."
        for one in part.pooled
        if one.invalid
    ]
    notes.append(
        "Macro-F1 counts every label that is true or was said; a label said once and wrongly is one with F1 0. The "
        "first column counts true labels alone. What a model says and keeps to itself (abstention) is no false alarm, "
        "but it is a normal window called anomalous."
    )
    said = dict.fromkeys(note for one in part.pooled for note in one.notes)
    notes += [
        f"{', '.join(one.model for one in part.pooled if note in one.notes)}: {note}."
        for note in said
    ]
    heads = ("model", "F1 of true labels", *(_HEADS[name] for name in names))
    return ReportTable(part.title, heads, tuple(rows), _best(part.pooled, names), tuple(notes))


def _of_true_labels(one: Pooled) -> float | None:
    """Mean F1 over labels that are true somewhere; None for a model that tells no labels apart."""
    known = [
        scores.f1 for scores in one.per_label.values() if scores.windows and scores.f1 is not None
    ]
    return sum(known) / len(known) if known else None


def _named(one: Pooled) -> str:
    return one.model if one.compared else f"{one.model} *"


def _best(pooled: Sequence[Pooled], names: Sequence[str]) -> frozenset[tuple[int, int]]:
    """The best value of each column, among models that the row is a test of."""
    best = set()
    for column, name in enumerate(names, start=2):
        values = {row: one.scores[name].value for row, one in enumerate(pooled) if one.compared}
        known = {value for value in values.values() if value is not None}
        # Fewer incidents are only better where none is missed.
        if len(known) > 1 and name != "incidents_per_10_min":
            top = max(known) if MEASURES[name].better == "higher" else min(known)
            best |= {(row, column) for row, value in values.items() if value == top}
    return frozenset(best)


def setting_table(run: Run, labelling: Labelling) -> ReportTable | None:
    """Models by settings, where a protocol has several; each column is sorted by nothing but the
    protocol's order."""
    parts = [part for part in make_parts(run) if part.labelling == labelling]
    if len(parts) < 2:
        return None
    name = headline([one for part in parts for one in part.pooled])
    cells = {(one.model, part.setting): one for part in parts for one in part.pooled}
    rows = [
        (
            model,
            *(
                render_cell(name, cells[model, part.setting].scores[name])
                if (model, part.setting) in cells
                else "–"
                for part in parts
            ),
        )
        for model in run.models
    ]
    heads = ("model", *(part.setting or "nothing changed" for part in parts))
    title = f"{_HEADS[name]} by setting, labels as {labelling}"
    return ReportTable(
        title, heads, tuple(rows), notes=("Models in the order in which the run names them.",)
    )


def label_table(part: Part) -> ReportTable:
    """F1 of each label by model, with how many windows truly have it."""
    labels = {
        label: scores.windows for one in part.pooled for label, scores in one.per_label.items()
    }
    present = sorted(
        (label for label, windows in labels.items() if windows), key=lambda label: -labels[label]
    )
    rows = [
        (
            one.model,
            *(
                format_number("f1", one.per_label[label].f1) if label in one.per_label else "–"
                for label in present
            ),
        )
        for one in part.pooled
    ]
    heads = ("model", *(f"{label} ({labels[label]:,})" for label in present))
    return ReportTable(
        f"F1 of each label, {part.title}",
        heads,
        tuple(rows),
        notes=("In brackets: windows that truly have the label.",),
    )


def cost_table(part: Part) -> ReportTable:
    """What each model took, means of its fits."""
    rows = [(_named(one), *_costs(one.costs)) for one in part.pooled]
    sources = {_source(one.costs) for one in part.pooled}
    notes = ("Means over fits.", f"Energy: {'; '.join(sorted(sources))}.")
    return ReportTable(
        f"Costs, {part.title}", ("model", *COST_HEADS.values()), tuple(rows), notes=notes
    )


def _source(costs: Costs) -> str:
    return (
        costs.energy_from
        if costs.watts is None
        else f"{costs.energy_from} ({costs.watts:g} W a core)"
    )


def _costs(costs: Costs) -> tuple[str, ...]:
    return (
        format_number("s", costs.fit_s),
        format_number("s", costs.windows_per_s),
        format_number("s", costs.cpu_s),
        size_text(costs.peak_memory_bytes),
        size_text(costs.model_bytes),
        format_number("J", costs.energy_j),
    )


def comparison_table(run: Run, labelling: Labelling) -> ReportTable | None:
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
    return ReportTable(
        f"Paired differences, labels as {labelling}",
        heads,
        tuple(rows),
        notes=(found[0].method, _MANY),
    )


def _p(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def data_table(run: Run) -> ReportTable:
    """The captures of a run: what each is, how much of it, and its content's fingerprint."""
    rows = tuple(
        (
            *(
                one.name,
                one.form,
                one.network,
                f"{one.windows:,}",
                f"{one.devices:,}",
                f"{one.hours:.1f}",
            ),
            *(
                _counts(one.corrected),
                _counts(one.published) if one.published != one.corrected else "the same",
            ),
            one.sha256[:12],
        )
        for one in run.data
    )
    heads = (
        "capture",
        "form",
        "network",
        "windows",
        "devices",
        "hours",
        "corrected",
        "published",
        "SHA-256",
    )
    return ReportTable(
        "Data", heads, rows, notes=("SHA-256 of windows, features and truth: its first 12 digits.",)
    )


def _counts(windows: Mapping[str, int]) -> str:
    return ", ".join(
        f"{label} {count:,}"
        for label, count in sorted(windows.items(), key=lambda item: -item[1])
        if count
    )
