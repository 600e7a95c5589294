"""Tables of results: cells as text, made once; shown as Markdown, on the page or in a terminal."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from eval.detection.aggregate import Part, headline, make_parts, order_models
from eval.results import MEASURES, Estimate, Labelling, Pooled, Run

UNKNOWN = "–"  # a number that cannot be measured

# ---- numbers as people read them ----

_SHARES = ("false_share", "false_share_at_recall_75", "found_share", "binary_recall")


def _is_score(name: str) -> bool:
    return name in MEASURES and not MEASURES[name].unit


def format_number(name: str, value: float | None) -> str:
    """A measure's value: shares of windows in percent, scores to three places.

    >>> format_number("f1", 0.8125), format_number("false_share", 0.0012), format_number("f1", None)
    ('0.812', '0.12 %', '–')
    """
    if value is None:
        return UNKNOWN
    if name in _SHARES:
        return f"{100 * value:.{1 if value >= 0.1 else 2}f} %"
    if _is_score(name):
        return f"{value:.3f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def format_estimate(name: str, estimate: Estimate) -> str:
    """A value with its interval.

    >>> format_estimate("f1", Estimate(value=0.8, low=0.7, high=0.9))
    '0.800 [0.700, 0.900]'
    """
    text = format_number(name, estimate.value)
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return text
    ends = [format_number(name, end).removesuffix(" %") for end in (estimate.low, estimate.high)]
    return f"{text} [{', '.join(ends)}]"


def format_difference(name: str, difference: Estimate) -> str:
    """A difference of a measure with its sign and interval."""
    if difference.value is None:
        return UNKNOWN
    text = f"{difference.value:{'+.3f' if _is_score(name) else '+.3g'}}"
    if difference.low is None or difference.high is None:
        return text
    return f"{text} [{difference.low:+.3f}, {difference.high:+.3f}]"


def format_size(size: int | None) -> str:
    """Bytes in the unit that fits.

    >>> format_size(15_300_000), format_size(900), format_size(None)
    ('15.3 MB', '900 B', '–')
    """
    if size is None:
        return UNKNOWN
    for unit, bytes_ in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= bytes_:
            return f"{size / bytes_:.1f} {unit}"
    return f"{size} B"


# ---- a table and its forms ----


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


_NUMBER = re.compile(r"[~+−<-]? ?\d")


def render_table(table: ReportTable, level: int = 2) -> str:
    """Markdown: the title as a heading, the table, its notes as a list."""
    # Not pandas' to_markdown, which needs tabulate: a dependency for these lines.
    rows = [
        [
            f"**{cell}**" if (i, j) in table.best else cell
            for j, cell in enumerate(cell.replace("|", "\\|").replace("*", "\\*") for cell in row)
        ]
        for i, row in enumerate(table.rows)
    ]
    numbers = [any(_NUMBER.match(row[j]) for row in table.rows) for j in range(len(table.heads))]
    rule = ["---:" if j and numbers[j] else "---" for j in range(len(table.heads))]
    lines = "\n".join(f"| {' | '.join(cells)} |" for cells in (table.heads, rule, *rows))
    heading = f"{'#' * level} {table.title}" if table.title else ""
    notes = "\n".join(f"- {note}" for note in table.notes)
    return "\n\n".join(filter(None, [heading, lines, notes]))


def make_terminal_table(table: ReportTable) -> Table:
    """The same for a terminal: words at the left, numbers at the right."""
    shown = Table(title=table.title, caption="; ".join(table.notes), padding=(0, 0, 0, 1))
    for head in table.heads:
        shown.add_column(
            head,
            justify="left" if head in ("setting", "model") else "right",
            no_wrap=head == "model",
            overflow="fold",
        )
    for row in table.rows:
        shown.add_row(*row)
    return shown


# ---- scores ----

# What a table of scores shows, of MEASURES, and its heads there and in a terminal; the rest stands
# in the file.
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
_TERMINAL_HEADS = {
    "binary_macro_f1": "F1 normal/anomalous",
    "pr_auc": "PR-AUC",
    "false_share": "false windows",
    "false_per_device_day": "false/device-day",
    "incidents_per_10_min": "incidents/10 min",
    "false_incidents_per_10_min": "of these false",
    "found_share": "found",
    "time_to_detection_s": "after s",
    "calibration_error": "ECE",
}
_SORTED_BY = {
    "f1": "macro-F1, best first",
    "false_share": "normal windows called anomalous, fewest first",
}
_MACRO_F1 = (
    "Macro-F1 counts every label that is true or was said; a label said once and wrongly is one "
    "with F1 0. The first column counts true labels alone. What a model says and keeps to itself "
    "(abstention) is no false alarm, but it is a normal window called anomalous."
)
_MANY = "p is of each pair alone: of twenty pairs that do not differ, one is expected below 0.05."


def run_table(run: Run) -> ReportTable:
    """A whole run for a terminal: a line for each setting and model, the best F1 first.

    Labels are as corrected, with F1 as published beside. ``(seen)`` marks a model that was made
    with some of these captures: compare it with nothing.
    """
    published = {
        (one.model, one.setting): one.scores["f1"]
        for one in run.pooled
        if one.labelling == "published"
    }
    shown = [one for one in run.pooled if one.labelling == "corrected"] or list(run.pooled)
    rows = []
    for setting in dict.fromkeys(one.setting for one in shown):
        for one in order_models([each for each in shown if each.setting == setting], "f1"):
            other = published.get((one.model, setting), Estimate(value=None))
            cells = [format_number(name, one.scores[name].value) for name in _TERMINAL_HEADS]
            costs = [format_number("s", one.costs.fit_s)]
            costs.append(format_number("windows", one.costs.windows_per_s))
            name = one.model if one.compared else f"{one.model} (seen)"
            scores = [format_estimate("f1", one.scores["f1"]), format_number("f1", other.value)]
            rows.append((setting, name, *scores, *cells, *costs))
    heads = ("setting", "model", "F1", "published", *_TERMINAL_HEADS.values(), "fit s", "windows/s")
    several = len({row[0] for row in rows}) > 1
    return ReportTable(
        f"{run.name}: {run.protocol['asks']}",
        heads if several else heads[1:],
        tuple(row if several else row[1:] for row in rows),
        notes=tuple(_run_notes(run)),
    )


def _run_notes(run: Run) -> Iterable[str]:
    windows = sum(one.windows for one in run.data)
    yield f"{windows:,} windows of {len(run.data)} captures, {len(run.seeds)} seeds"
    if warning := run.protocol.get("warning"):
        yield str(warning)
    if seen := sorted({name for one in run.pooled for name in one.seen_in_training}):
        yield f"(seen): was made with {', '.join(seen)}"
    if invalid := sum(one.invalid for one in run.pooled):
        yield f"{invalid:,} answers could not be read"
    yield f"{UNKNOWN} cannot be measured"


def score_table(part: Part) -> ReportTable:
    """Every model of a part with its scores and their 95 % intervals."""
    pooled = part.pooled
    names = [name for name in _HEADS if any(one.scores[name].value is not None for one in pooled)]
    rows = []
    for one in pooled:
        cells = [format_estimate(name, one.scores[name]) for name in names]
        rows.append((_mark_seen(one), format_number("f1", _mean_true_f1(one)), *cells))
    heads = ("model", "F1 of true labels", *(_HEADS[name] for name in names))
    best = _find_best(pooled, names)
    return ReportTable(part.title, heads, tuple(rows), best, tuple(_score_notes(pooled)))


def _score_notes(pooled: Sequence[Pooled]) -> Iterable[str]:
    intervals = "[ ] are 95 % intervals of a bootstrap over devices."
    yield f"Sorted by {_SORTED_BY[headline(pooled)]}; bold is best. {intervals}"
    if any(not one.compared for one in pooled):
        made = "was made with captures that are tested here"
        yield f"* {made}: no test of it, and compared with nothing."
    for one in pooled:
        if one.invalid:
            yield f"{one.model}: {one.invalid:,} unreadable answers, counted as wrong."
    yield _MACRO_F1
    for note in dict.fromkeys(note for one in pooled for note in one.notes):
        yield f"{', '.join(one.model for one in pooled if note in one.notes)}: {note}."


def _mean_true_f1(one: Pooled) -> float | None:
    """Mean F1 over labels that are true somewhere; None for a model that tells no labels apart."""
    known = [of.f1 for of in one.per_label.values() if of.windows and of.f1 is not None]
    return sum(known) / len(known) if known else None


def _mark_seen(one: Pooled) -> str:
    return one.model if one.compared else f"{one.model} *"


def _find_best(pooled: Sequence[Pooled], names: Sequence[str]) -> frozenset[tuple[int, int]]:
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
    """Models by settings in the protocol's order; None where a protocol has one setting."""
    parts = [part for part in make_parts(run) if part.labelling == labelling]
    if len(parts) < 2:
        return None
    name = headline([one for part in parts for one in part.pooled])
    cells = {
        (one.model, part.setting): format_estimate(name, one.scores[name])
        for part in parts
        for one in part.pooled
    }
    rows = tuple(
        (model, *(cells.get((model, part.setting), UNKNOWN) for part in parts))
        for model in run.models
    )
    heads = ("model", *(part.setting or "nothing changed" for part in parts))
    note = "Models in the order in which the run names them."
    title = f"{_HEADS[name]} by setting, labels as {labelling}"
    return ReportTable(title, heads, rows, notes=(note,))


def label_table(part: Part) -> ReportTable:
    """F1 of each label by model, with how many windows truly have it."""
    counts = {label: of.windows for one in part.pooled for label, of in one.per_label.items()}
    present = sorted((label for label in counts if counts[label]), key=lambda label: -counts[label])
    rows = []
    for one in part.pooled:
        f1 = {label: format_number("f1", of.f1) for label, of in one.per_label.items()}
        rows.append((one.model, *(f1.get(label, UNKNOWN) for label in present)))
    heads = ("model", *(f"{label} ({counts[label]:,})" for label in present))
    note = "In brackets: windows that truly have the label."
    return ReportTable(f"F1 of each label, {part.title}", heads, tuple(rows), notes=(note,))


# ---- costs, pairs and data ----

COST_HEADS = {
    "fit_s": "training, s",
    "windows_per_s": "windows / s",
    "cpu_s": "CPU, s",
    "peak_memory_bytes": "peak memory",
    "model_bytes": "stored size",
    "energy_j": "energy, J",
}


def cost_table(part: Part) -> ReportTable:
    """What each model took, means of its fits."""
    rows = []
    for one in part.pooled:
        cells = {
            name: format_size(value) if name.endswith("_bytes") else format_number(name, value)
            for name in COST_HEADS
            for value in [getattr(one.costs, name)]
        }
        rows.append((_mark_seen(one), *cells.values()))
    energies = {(one.costs.energy_from, one.costs.watts) for one in part.pooled}
    sources = sorted(
        f"{of}{'' if watts is None else f' ({watts:g} W a core)'}" for of, watts in energies
    )
    notes = ("Means over fits.", f"Energy: {'; '.join(sources)}.")
    heads = ("model", *COST_HEADS.values())
    return ReportTable(f"Costs, {part.title}", heads, tuple(rows), notes=notes)


def comparison_table(run: Run, labelling: Labelling) -> ReportTable | None:
    """Paired differences between models on the same windows."""
    found = [one for one in run.comparisons if one.labelling == labelling]
    if not found:
        return None
    rows = []
    for one in found:
        between = Estimate(value=one.difference, low=one.low, high=one.high)
        cells = (f"{one.model} − {one.other}", one.setting or UNKNOWN, one.measure)
        difference = format_difference(one.measure, between)
        low_p = one.p_value is not None and one.p_value < 0.001
        p = "< 0.001" if low_p else UNKNOWN if one.p_value is None else f"{one.p_value:.3f}"
        rows.append((*cells, difference, p, str(one.units)))
    heads = ("models", "setting", "measure", "difference", "p", "devices")
    title = f"Paired differences, labels as {labelling}"
    return ReportTable(title, heads, tuple(rows), notes=(found[0].method, _MANY))


_DATA_HEADS = ("capture", "form", "network", "windows", "devices", "hours")


def data_table(run: Run) -> ReportTable:
    """The captures of a run: what each is, how much of it, and its content's fingerprint."""
    rows = []
    for one in run.data:
        size = (f"{one.windows:,}", f"{one.devices:,}", f"{one.hours:.1f}")
        same = one.published == one.corrected
        labels = (_list_counts(one.corrected), "the same" if same else _list_counts(one.published))
        rows.append((one.name, one.form, one.network, *size, *labels, one.sha256[:12]))
    heads = (*_DATA_HEADS, "corrected", "published", "SHA-256")
    note = "SHA-256 of windows, features and truth: its first 12 digits."
    return ReportTable("Data", heads, tuple(rows), notes=(note,))


def _list_counts(windows: Mapping[str, int]) -> str:
    ordered = sorted(windows.items(), key=lambda item: -item[1])
    return ", ".join(f"{label} {count:,}" for label, count in ordered if count)
