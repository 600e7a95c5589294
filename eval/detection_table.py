"""A run's results as one table for a terminal: every model, the numbers of `eval.measures` that decide most."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from eval.results import Estimate, Pooled, Run

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["make_table"]

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


def make_table(run: Run) -> "Table":
    """One line for each setting and model, the best F1 first; labels as corrected, beside F1 as published.

    A mark after a model's name says that it had seen some of these captures before: compare it with nothing.
    """
    from rich.table import Table

    table = Table(title=f"{run.name}: {run.protocol['asks']}", caption=_caption(run), padding=(0, 0, 0, 1))
    settings = list(dict.fromkeys(one.setting for one in run.pooled))
    heads = [*(["setting"] if len(settings) > 1 else []), "model", "F1", "published"]
    for head in (*heads, *(head for head, _ in _COLUMNS.values()), "fit s", "windows/s"):
        words = head in ("setting", "model")
        table.add_column(head, justify="left" if words else "right", no_wrap=head == "model", overflow="fold")
    for setting in settings:
        for one in _ordered([row for row in run.pooled if row.setting == setting]):
            table.add_row(*([setting] if len(settings) > 1 else []), *_cells(run, one))
        table.add_section()
    return table


def _ordered(rows: Sequence[Pooled]) -> list[Pooled]:
    shown = [one for one in rows if one.labelling == "corrected"] or list(rows)
    return sorted(
        shown, key=lambda one: (_number(one.scores["f1"]), _number(one.scores["binary_macro_f1"])), reverse=True
    )


def _number(estimate: Estimate) -> float:
    return -1.0 if estimate.value is None else estimate.value


def _cells(run: Run, one: Pooled) -> list[str]:
    same = (one.model, one.setting)
    published = [row for row in run.pooled if (row.model, row.setting) == same and row.labelling == "published"]
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
    said = [f"{sum(one.windows for one in run.data):,} windows of {len(run.data)} captures, {len(run.seeds)} seeds"]
    if warning := run.protocol.get("warning"):
        said.append(str(warning))
    if seen := sorted({name for one in run.pooled for name in one.seen_in_training}):
        said.append(f"(seen): was made with {', '.join(seen)}")
    if invalid := sum(one.invalid for one in run.pooled):
        said.append(f"{invalid:,} answers could not be read")
    return "; ".join([*said, "- cannot be measured"])
