"""What moving a model to another network is worth: a page from a run of `faultwise eval transfer`.

    python -m eval.research.transfer RUN... [--out docs/research/transfer.md]
    python -m eval.research.transfer RUN    [--out docs/research/new-site.md]      of --each-plant

Runs of other models on the same captures stand in one table. Two models differ here only where no
seed of the one reaches a seed of the other; else they are level. Seeds draw other windows, label
others and start other weights, so their range says how much of a difference is luck.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from eval.models.registry import LLM_PREFIX
from eval.models.transfer import ALIGNED, BOTH, SHARE, SOURCE, TUNED
from eval.report.tables import ReportTable, render_table
from eval.research.command import Out, publish, start
from eval.research.paper import make_paper_tables, read_paper
from eval.results import Row, Run, read_run
from traffic.errors import UserError
from traffic.labels import NORMAL

AIM = 0.95
PROTOCOL, PLANTS = "transfer", "new-site"
_F1, _BINARY = "f1", "binary_macro_f1"
_SHOWN = {_F1: "which label, macro-F1", _BINARY: "normal or not, macro-F1",
          "binary_recall": "anomalous called so", "false_share": "normal called anomalous"}  # fmt: skip
_NETWORKS = ("lstm", "lstm-time2vec", "transformer", "time-transformer")


@dataclass(frozen=True)
class Moved:
    """A model on a fold by a method, a number per seed.

    Attributes:
        model: its name; a language model of a folder is ``llm``.
        method: one of `eval.models.transfer.METHODS`.
        scores: by measure, shape (n_seeds,).
        trained: windows that it learned from; 0 where it was not trained here.
        seen: it had read captures that are tested before.
    """

    model: str
    method: str
    scores: Mapping[str, np.ndarray]
    trained: int
    seen: bool

    def mean(self, measure: str = _F1) -> float:
        """Over seeds; NaN where it cannot be measured."""
        return float(self.scores[measure].mean())

    def differs(self, other: "Moved", measure: str = _F1) -> bool:
        """Whether no seed of the one reaches a seed of the other."""
        one, two = self.scores[measure], other.scores[measure]
        return bool(one.min() > two.max() or two.min() > one.max())

    def __str__(self) -> str:
        return f"`{self.model}` by {self.method} {self.mean():.2f}"


def read_moved(runs: Sequence[Run]) -> dict[str, list[Moved]]:
    """What runs measured, by fold, in the order of the runs.

    Raises:
        UserError: a run is of another protocol.
    """
    for run in runs:
        if run.protocol.get("name") not in (PROTOCOL, PLANTS):
            raise UserError(
                f"{run.name} is of protocol {run.protocol.get('name')}; expected {PROTOCOL}; make "
                "one by faultwise eval transfer"
            )
    folds: dict[str, dict[tuple[str, str], list]] = {}  # type: ignore[type-arg]
    for row in (row for run in runs for row in _judged_once(run)):
        of = folds.setdefault(row.fold, {})
        of.setdefault((_short(row.model), row.setting), []).append(row)
    return {
        fold: [
            Moved(
                model,
                method,
                {
                    name: np.array([_value(row.scores[name].value) for row in rows])
                    for name in _SHOWN
                },
                round(float(np.mean([row.trained_windows for row in rows]))),
                any(row.seen_in_training for row in rows),
            )
            for (model, method), rows in of.items()
        ]
        for fold, of in folds.items()
    }


def _judged_once(run: Run) -> list[Row]:
    """The rows of a run by corrected labels, where it has those beside the published ones."""
    corrected = [row for row in run.rows if row.labelling == "corrected"]
    return corrected or list(run.rows)


def _short(model: str) -> str:
    return "llm" if model.startswith(LLM_PREFIX) else model


def _value(value: float | None) -> float:
    return float("nan") if value is None else value


# ---- tables ----


def make_transfer_tables(runs: Sequence[Run]) -> list[ReportTable]:
    """A table for each pair of networks: every model by every method."""
    tables = []
    for fold, moved in read_moved(runs).items():
        rows = [(one.model, one.method, *(_cell(one, name) for name in _SHOWN)) for one in moved]
        best = max(range(len(moved)), key=lambda place: moved[place].mean())
        seen = sorted({one.model for one in moved if one.seen})
        notes = [f"`{name}` had read tested captures before: no test" for name in seen]
        heads = ("model", "method", *_SHOWN.values())
        tables.append(ReportTable(fold, heads, tuple(rows), frozenset({(best, 2)}), tuple(notes)))
    return tables


def _cell(one: Moved, measure: str) -> str:
    values = one.scores[measure]
    if np.isnan(values).any():
        return "–"
    spread = f" ({values.min():.2f} to {values.max():.2f})" if len(values) > 1 else ""
    return f"{values.mean():.2f}{spread}"


# ---- verdicts ----


def find_verdicts(moved: Sequence[Moved]) -> Iterator[str]:
    """What a pair of networks shows, a sentence each."""
    tested = [one for one in moved if not one.seen]
    before = [one for one in tested if one.method == SOURCE]
    labelled = [one for one in tested if one.method in (SHARE, BOTH, *TUNED)]
    if before:
        yield f"Before, the best is {_best(before)}."
    if not labelled:
        return
    best = _best(labelled)
    yield f"With the few labels the best is {best}, normal or not {best.mean(_BINARY):.2f}."
    reached = [one for one in labelled if one.mean() >= AIM]
    binary = [one for one in labelled if one.mean(_BINARY) >= AIM]
    yield (
        f"Macro-F1 {AIM:g} over labels is reached by {_name(reached)}; of normal or not by "
        f"{_name(binary)}."
    )
    yield from _compare_trees(labelled)
    yield from _value_alignment(tested)


def _compare_trees(labelled: Sequence[Moved]) -> Iterator[str]:
    trees = [one for one in labelled if one.model == "xgboost"]
    if not trees:
        return
    tree = _best(trees)
    others = {"the language model": ("llm", "pocket"), "the best sequence model": _NETWORKS}
    for name, models in others.items():
        if of := [one for one in labelled if one.model in models]:
            one = _best(of)
            yield f"XGBoost with the same labels ({tree}) {_against(tree, one)} {name} ({one})."


def _against(one: Moved, other: Moved) -> str:
    if not one.differs(other):
        return "is level with"
    return "beats" if one.mean() > other.mean() else "is beaten by"


def _value_alignment(tested: Sequence[Moved]) -> Iterator[str]:
    models = {one.model: one for one in tested if one.method == SOURCE}
    for method in ALIGNED:
        pairs = [(one, models[one.model]) for one in tested
                 if one.method == method and one.model in models]  # fmt: skip
        if pairs:
            gains = [one.mean(_BINARY) - begun.mean(_BINARY) for one, begun in pairs]
            better = sum(one.mean(_BINARY) > begun.mean(_BINARY) and one.differs(begun, _BINARY)
                         for one, begun in pairs)  # fmt: skip
            yield (
                f"{method} without labels: {np.mean(gains):+.2f} of normal or not against the "
                f"source alone, mean over {len(pairs)} models; better in {better}."
            )


def _best(moved: Sequence[Moved]) -> Moved:
    return max(moved, key=lambda one: np.nan_to_num(one.mean()))


def _name(moved: Sequence[Moved]) -> str:
    return ", ".join(f"`{one.model}` ({one.method})" for one in moved) or "none"


# ---- the page ----


def render_page(runs: Sequence[Run], command: str) -> str:
    """Markdown: how it was measured, verdicts and table of each pair, the paper's tables."""
    share = runs[0].protocol["share"]
    parts = [
        "# Transfer: a model moved to another network by few labels",
        f"Made by `{command}` from the runs below, whose captures lay in `runs/transfer`. Of each "
        f"label's windows of the new network {share:.0%} were labelled, six at least. "
        "How it is parted and what the methods do: [evaluation.md](../evaluation.md). "
        "Several seeds: the mean and its range. Macro-F1 over labels "
        "counts every label that is true or said, so that one false name among many windows costs as "
        "much as a label that is missed. Language models come from what their card names, not from the "
        "first network of a pair. A sequence model that reads the few labels alone holds a quarter of "
        "them out to stop in time, one that is tuned does not: what lies between them is not the "
        "source alone. A network of fewer than 8 captures is tested on later parts of the same ones.",
        "\n".join(_describe(run) for run in runs),
    ]
    moved = read_moved(runs)
    for table in make_transfer_tables(runs):
        verdicts = "\n".join(f"- {one}" for one in find_verdicts(moved[table.title]))
        parts += [f"## {table.title}", verdicts, render_table(
            ReportTable("", table.heads, table.rows, table.best, table.notes))]  # fmt: skip
    parts += [
        "## The second paper's Table II",
        "Its numbers beside ours, under the data that ours are of; `faultwise eval tables` prints the "
        "rest. CIC IoMT 2024 is not here: who has it puts it beside the others.",
        *(render_table(one, 3) for one in make_paper_tables(read_paper(), _theirs(runs))
          if one.title.startswith("Table II") and "tested on" in one.title),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _theirs(runs: Sequence[Run]) -> list[Run]:
    """Runs with the paper's sequence models."""
    return [run for run in runs if set(_NETWORKS) & set(run.models)]


def render_plants(runs: Sequence[Run], command: str) -> str:
    """Markdown: what a few labels of each plant give, all plants in one table, and what follows."""
    moved = read_moved(runs)
    share, heads = (
        runs[0].protocol["share"],
        ("model", "method", *_SHOWN.values(), f"plants from {AIM:g} on"),
    )
    every = pool_plants(moved)
    rows = [
        (
            one.model,
            one.method,
            *(_cell(one, name) for name in _SHOWN),
            f"{_reach(moved, one)} of {len(moved)}",
        )
        for one in every
    ]
    best = max(range(len(every)), key=lambda place: every[place].mean())
    verdicts = "\n".join(f"- {one}" for one in find_verdicts(every))
    parts = [
        "# A new plant and a few of its labels",
        f"Made by `{command}` from the run below. Each plant in turn is new. Of the first part of each "
        f"label's windows {share:.0%} of all were labelled, six at least, the rest of the plant is tested, "
        "a minute apart ([evaluation.md](../evaluation.md)). The mean over plants, and its range over "
        f"plants and seeds; last, plants of which macro-F1 over labels reaches {AIM:g}, mean over seeds. "
        "Macro-F1 counts every label that is true or said, so one false name costs as much as a label missed.",
        "\n".join(_describe(run) for run in runs),
        f"Tested: {'; '.join(_count_tested(runs))}.",
        verdicts,
        render_table(ReportTable("Few labels", heads, tuple(rows), frozenset({(best, 2)}))),
        render_table(_tabulate_plants(moved)),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _count_tested(runs: Sequence[Run]) -> list[str]:
    """The tested windows of each plant."""
    counted = {}
    for row in (row for run in runs for row in _judged_once(run)):
        of = zip(row.confusion.labels, row.confusion.counts, strict=True)
        odd = {label: sum(counts) for label, counts in of if label != NORMAL and any(counts)}
        counted[row.fold] = (
            f"{row.fold} {row.tested_windows:,} windows, {sum(odd.values()):,} of them anomalous, of {len(odd)} labels"
        )
    return list(counted.values())


def pool_plants(moved: Mapping[str, Sequence[Moved]]) -> list[Moved]:
    """Each model and method over all plants: a number per plant and seed."""
    groups: dict[tuple[str, str], list[Moved]] = {}
    for one in (one for plant in moved.values() for one in plant):
        groups.setdefault((one.model, one.method), []).append(one)
    return [
        Moved(*key, {name: np.concatenate([one.scores[name] for one in of]) for name in _SHOWN},
              round(float(np.mean([one.trained for one in of]))), any(one.seen for one in of))
        for key, of in groups.items()
    ]  # fmt: skip


def _reach(moved: Mapping[str, Sequence[Moved]], wanted: Moved) -> int:
    key = (wanted.model, wanted.method)
    return sum(
        one.mean() >= AIM for of in moved.values() for one in of if (one.model, one.method) == key
    )


def _tabulate_plants(moved: Mapping[str, Sequence[Moved]]) -> ReportTable:
    """Macro-F1 over labels, a row a model and method, a column a plant."""
    keys = dict.fromkeys((one.model, one.method) for of in moved.values() for one in of)
    rows = tuple(
        (*key, *(_cell(one, _F1) for of in moved.values() for one in of
                 if (one.model, one.method) == key))
        for key in keys
    )  # fmt: skip
    return ReportTable("Which label, macro-F1, by plant", ("model", "method", *moved), rows)


def _describe(run: Run) -> str:
    networks: dict[str, list[str]] = {}
    for one in run.data:
        networks.setdefault(one.network, []).append(one.name)
    data = "; ".join(f"{name}: {', '.join(captures)}" for name, captures in networks.items())
    seeds = ", ".join(map(str, run.seeds))
    return (
        f"- `{run.command}`, {run.created[:10]}, commit {run.commit[:10]}, seeds {seeds}"
        f"{', small budgets' if run.quick else ''}. {data}."
    )


def main(files: Annotated[list[Path], typer.Argument(metavar="RUN...")], out: Out = None) -> None:
    """Print or write the page."""
    runs = [read_run(path) for path in files]
    plants = all(run.protocol.get("name") == PLANTS for run in runs)
    render = render_plants if plants else render_page
    command = f"python -m eval.research.transfer RUN{'' if plants else '...'}"
    publish(render(runs, command), out)


if __name__ == "__main__":
    start(main)
