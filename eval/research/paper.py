"""Tables I and II of the second paper: its numbers beside ours, each under the data it is of.

Ours are computed from the confusion of a run, over the classes that the paper kept, with labels as
published, because the paper corrected none. Runs on a user's captures, with the paper's models
alone, lie in

    <results>/tables/<data set>/detection-random.json             each data set by itself, never mixed
    <results>/tables/across/detection-transfer.json               trained on one, tested on another,
                                                                  before and after fine-tuning
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

from eval.detection.run import evaluate_detection
from eval.report.tables import ReportTable
from eval.research.claims import command_for
from eval.results import Confusion, Run, read_run
from traffic.datasets.formats import FORMS
from traffic.datasets.labelled import find_labelled
from traffic.errors import UserError
from traffic.files import Strict, read_yaml
from traffic.labels import NORMAL

PAPER = Path(__file__).with_name("tables") / "second_paper.yaml"
_NUMBERS = "accuracy / precision / recall / F1"
_Task = Literal["binary", "multi-class"]

# ---- the paper's numbers ----


class PaperRow(Strict):
    """A row as printed; ``target`` is what it was tested on, where that is another set."""

    task: _Task
    model: str
    called: str
    source: str
    target: str = ""
    tuned: bool = False
    numbers: tuple[float, float, float, float]


class PaperTable(Strict):
    """A table of the paper, and where it stands there."""

    name: str
    title: str
    place: str
    rows: tuple[PaperRow, ...]


class Protocols(Strict):
    """Which protocol measures within a set and which across sets, and the settings of that one
    before fine-tuning and after."""

    within: str
    across: str
    before: str
    after: tuple[str, ...]


class PaperTables(Strict):
    """The whole file."""

    version: Literal[1]
    paper: str
    tables: tuple[PaperTable, ...]
    classes: Mapping[str, tuple[str, ...]] = Field(description="by data set, our labels")
    protocols: Protocols


def read_paper(path: Path = PAPER) -> PaperTables:
    """Read the paper's numbers.

    Raises:
        UserError: the file is not of their form.
    """
    return read_yaml(path, PaperTables, "the tables of a paper, as the shipped file has them")


# ---- ours, from confusions ----


@dataclass(frozen=True)
class Averages:
    """Shares of a confusion; precision, recall and F1 are means over labels true or said."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    weighted_f1: float

    def __str__(self) -> str:
        means = (self.accuracy, self.precision, self.recall, self.f1)
        return f"{_join_numbers(means)} · {self.weighted_f1:.2f}"


def _join_numbers(numbers: Sequence[float]) -> str:
    return " / ".join(f"{number:.2f}" for number in numbers)


def sum_confusions(confusions: Sequence[Confusion]) -> Confusion:
    """Counts of several confusions together, over all of their labels."""
    labels = tuple(dict.fromkeys(label for one in confusions for label in one.labels))
    counts = np.zeros((len(labels), len(labels)), int)
    for one in confusions:
        places = [labels.index(label) for label in one.labels]
        counts[np.ix_(places, places)] += np.array(one.counts)
    return Confusion(labels=labels, counts=tuple(tuple(map(int, row)) for row in counts))


def average(
    confusion: Confusion, classes: Sequence[str] | None = None, task: _Task = "multi-class"
) -> Averages | None:
    """The paper's four measures of windows of some classes, as scikit-learn averages them.

    Args:
        confusion: counts by true and said label.
        classes: true labels that count; all where None. What was said of their windows counts
            whatever it is.
        task: ``binary`` is normal against all else.

    Returns:
        None where no window is of these classes.
    """
    labels, counts = np.array(confusion.labels), np.array(confusion.counts, float)
    if classes is not None:
        counts = counts * np.isin(labels, classes)[:, None]
    if task == "binary":
        parts = (labels == NORMAL, labels != NORMAL)
        counts = np.array([[counts[np.ix_(true, said)].sum() for said in parts] for true in parts])
    if not counts.sum():
        return None
    true, said = np.nonzero(counts)
    of = {"y_true": true, "y_pred": said, "sample_weight": counts[true, said]}
    precision, recall, f1, _ = precision_recall_fscore_support(
        **of, average="macro", zero_division=0
    )
    weighted = f1_score(**of, average="weighted", zero_division=0)
    return Averages(accuracy_score(**of), precision, recall, f1, weighted)


# ---- tables ----


@dataclass(frozen=True)
class _Column:
    """One set of data that ours were measured on, and each model's confusion by setting."""

    head: str
    tested: str
    confusions: Mapping[tuple[str, str], Confusion]


def make_paper_tables(paper: PaperTables, runs: Sequence[Run]) -> list[ReportTable]:
    """Every table of the paper, cut where training, testing or tuning differ.

    Args:
        paper: its numbers.
        runs: of any protocols; those of the protocols that the file names give a column for each
            data of ours.
    """
    made = []
    for table in paper.tables:
        for kind in dict.fromkeys((row.source, row.target, row.tuned) for row in table.rows):
            rows = [row for row in table.rows if (row.source, row.target, row.tuned) == kind]
            made.append(_make_table(paper, table, rows, runs))
    return made


def _make_table(
    paper: PaperTables, table: PaperTable, rows: Sequence[PaperRow], runs: Sequence[Run]
) -> ReportTable:
    one = rows[0]
    protocol = paper.protocols.across if one.target else paper.protocols.within
    before = paper.protocols.before if one.target else ""
    methods = paper.protocols.after if one.tuned else (before,)
    columns = [
        column
        for run in runs
        if run.protocol.get("name") == protocol
        for column in _make_columns(run, one)
    ]
    cells = []
    for row in rows:
        for method in methods:
            ours = [_render_ours(paper, row, method, column) for column in columns] or ["no run"]
            names = (row.called, row.model, row.task, *([method] if one.tuned else []))
            cells.append((*names, _join_numbers(row.numbers), *ours))
    tested = f" and tested on {one.target}" if one.target else ""
    tuned = " after fine-tuning" if one.tuned else ""
    method_head = ["method"] if one.tuned else []
    heads = [f"ours, {column.head}: {_NUMBERS} · weighted F1" for column in columns] or ["ours"]
    return ReportTable(
        f"Table {table.name}, the paper trained on {one.source}{tested}{tuned}",
        ("theirs", "ours", "task", *method_head, f"the paper: {_NUMBERS}", *heads),
        tuple(cells),
        notes=tuple(_make_notes(paper, table, one, protocol, bool(columns))),
    )


def _make_columns(run: Run, row: PaperRow) -> Iterator[_Column]:
    """Within a set: the run's data as a whole. Across sets: each fold, which names both."""
    networks = " + ".join(sorted({one.network for one in run.data}))
    groups: dict[str, dict[tuple[str, str], list[Confusion]]] = {}
    for one in run.rows:
        if one.labelling == "published":
            of = groups.setdefault(one.fold if row.target else networks, {})
            of.setdefault((one.model, one.setting), []).append(one.confusion)
    theirs = f"{row.source} to {row.target}" if row.target else row.source
    for name, confusions in groups.items():
        head = name if name == theirs else f"{name} (not the paper's data)"
        summed = {key: sum_confusions(many) for key, many in confusions.items()}
        quick = ", quick" if run.quick else ""
        yield _Column(f"{head}{quick}", name.rpartition(" to ")[2], summed)


def _render_ours(paper: PaperTables, row: PaperRow, method: str, column: _Column) -> str:
    confusion = column.confusions.get((row.model, method))
    if confusion is None:
        return "not run"
    found = average(confusion, paper.classes.get(column.tested), row.task)
    return "none of the paper's classes" if found is None else str(found)


def _make_notes(
    paper: PaperTables, table: PaperTable, row: PaperRow, protocol: str, measured: bool
) -> Iterator[str]:
    labels = "Labels as published; windows of the paper's classes only."
    yield f"{paper.paper}, {table.place}: {table.title}. {labels}"
    if measured:
        yield (
            "Ours are one model of all labels; binary rows read it as normal or not. "
            "Training sets are the run's."
        )
    if row.tuned:
        yield "The paper prints one row for its three methods, because they were alike."
    if not measured:
        where = f"DIR with {row.source}" + (f" and {row.target}" if row.target else "")
        missing = f"No run of protocol {protocol} in results/"
        yield f"{missing}; `{command_for(protocol)}` makes one, {where}."


# ---- runs on a user's captures ----


def run_paper(
    paper: PaperTables,
    data: Path,
    results: Path,
    kept: Path,
    quick: bool,
    progress: Callable[[int, int], None] | None,
) -> list[Run]:
    """Run the paper's protocols: within each of its data sets that is there, and across whatever
    networks are.

    Args:
        paper: names protocols, models and data sets.
        data: folder of labelled captures.
        results: gets the runs, see above.
        kept: folder for captures that were read once.
        quick: small budgets.
        progress: called with the numbers of fits that ended and that there are.

    Raises:
        UserError: none of the paper's data sets is there, or lies apart from all others.
    """
    models = tuple(dict.fromkeys(row.model for table in paper.tables for row in table.rows))
    folders = find_data_sets(data)
    known = {name: folders[name] for name in paper.classes if name in folders}
    if not known:
        raise UserError(
            f"{data} holds captures of {', '.join(folders)}; "
            f"expected some of {' or '.join(paper.classes)}; check --data"
        )

    def evaluate(folder: Path, protocol: str, name: str) -> Run:
        out = results / "tables" / name.lower().replace(" ", "-")
        return evaluate_detection(
            folder, protocol, out, kept, models, quick=quick, progress=progress
        )

    runs = [evaluate(folder, paper.protocols.within, name) for name, folder in known.items()]
    if len(folders) > 1:
        runs.append(evaluate(data, paper.protocols.across, "across"))
    return runs


def find_data_sets(data: Path) -> dict[str, Path]:
    """The folder of each data set below a folder, by the name of its form.

    Raises:
        UserError: there is no labelled capture, or captures of two sets lie in one folder.
    """
    found: dict[str, list[Path]] = {}
    for path in find_labelled(data):
        name = next(form.name for form in FORMS if form.fits(path))
        found.setdefault(name, []).append(path)
    folders = {
        name: Path(os.path.commonpath([path.parent for path in paths]))
        for name, paths in found.items()
    }
    for name, folder in folders.items():
        others = [
            other
            for other, paths in found.items()
            if other != name and any(path.is_relative_to(folder) for path in paths)
        ]
        if others:
            raise UserError(
                f"{folder} holds captures of {name} and of {', '.join(others)}; expected a folder "
                "for each data set, because a table never mixes two; part them"
            )
    return folders


def read_paper_runs(results: Path) -> list[Run]:
    """The runs that `run_paper` made earlier.

    Raises:
        UserError: one of them cannot be read.
    """
    return [read_run(path) for path in sorted((results / "tables").glob("*/*.json"))]
