"""Tables I and II of the second paper: its numbers beside ours, each of ours under the data that it
is of.

Ours are computed from the confusion of a run in ``results/``, over the classes that the paper kept,
with labels as published, because the paper corrected none.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eval.detection.run import evaluate_detection
from eval.report.tables import ReportTable as Table
from eval.results import Confusion, Run, read_run
from traffic.datasets import find_labelled
from traffic.datasets.formats import FORMS
from traffic.errors import UserError
from traffic.labels import NORMAL

PAPER = Path(__file__).with_name("tables") / "second_paper.yaml"
_NUMBERS = "accuracy / precision / recall / F1"
_Task = Literal["binary", "multi-class"]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PaperRow(_Form):
    """A row as printed. ``target`` is what it was tested on, where that is another set than
    ``source``."""

    task: _Task
    model: str
    called: str
    source: str
    target: str = ""
    tuned: bool = False
    numbers: tuple[float, float, float, float]


class PaperTable(_Form):
    """A table of the paper, and where it stands there."""

    name: str
    title: str
    place: str
    rows: tuple[PaperRow, ...]


class Transfer(_Form):
    """Which protocol measures transfer, and the methods that are its settings."""

    protocol: str
    methods: tuple[str, ...]


class Protocols(_Form):
    """Which protocol measures within a set and which across sets."""

    within: str
    across: str


class PaperTables(_Form):
    """The whole file."""

    version: Literal[1]
    paper: str
    tables: tuple[PaperTable, ...]
    classes: Mapping[str, tuple[str, ...]] = Field(description="by data set, our labels")
    transfer: Transfer
    protocols: Protocols


@dataclass(frozen=True)
class Averages:
    """Shares of a confusion; precision, recall and F1 are means over labels true or said."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    weighted_f1: float

    def __str__(self) -> str:
        means = " / ".join(
            f"{value:.2f}" for value in (self.accuracy, self.precision, self.recall, self.f1)
        )
        return f"{means} · {self.weighted_f1:.2f}"


@dataclass(frozen=True)
class _Column:
    """One set of data that ours were measured on: its head, and each model's confusion by
    setting."""

    head: str
    tested: str
    confusions: Mapping[tuple[str, str], Confusion]


def read_paper(path: Path = PAPER) -> PaperTables:
    """Read the paper's numbers.

    Raises:
        UserError: the file is not of their form.
    """
    try:
        return PaperTables.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"{path} holds no tables of a paper ({reason}); expected the form of the shipped one"
        ) from error


def make_paper_tables(paper: PaperTables, runs: Sequence[Run]) -> list[Table]:
    """Every table of the paper, cut where training, testing or tuning differ, with a column for
    each data of ours.

    Args:
        paper: its numbers.
        runs: of any protocols; those of the protocols that the file names are used.
    """
    made = []
    for table in paper.tables:
        for kind in dict.fromkeys((row.source, row.target, row.tuned) for row in table.rows):
            rows = [row for row in table.rows if (row.source, row.target, row.tuned) == kind]
            made.append(_make_table(paper, table, rows, runs))
    return made


def _make_table(
    paper: PaperTables, table: PaperTable, rows: Sequence[PaperRow], runs: Sequence[Run]
) -> Table:
    one = rows[0]
    protocol = (
        paper.transfer.protocol
        if one.tuned
        else paper.protocols.across
        if one.target
        else paper.protocols.within
    )
    across = bool(one.target)
    columns = [
        c
        for run in runs
        if run.protocol.get("name") == protocol
        for c in _columns(run, one, across)
    ]
    methods = paper.transfer.methods if one.tuned else ("",)
    cells = []
    for row in rows:
        for method in methods:
            theirs = " / ".join(f"{number:.2f}" for number in row.numbers)
            ours = [_cell(paper, row, method, column) for column in columns] or [_none(one.tuned)]
            cells.append(
                (row.called, row.model, row.task, *([method] if one.tuned else []), theirs, *ours)
            )
    tested = f" and tested on {one.target}" if one.target else ""
    title = f"Table {table.name}, the paper trained on {one.source}{tested}{' after fine-tuning' if one.tuned else ''}"
    heads = ("theirs", "ours", "task", *(["method"] if one.tuned else []), f"the paper: {_NUMBERS}")
    ours_heads = tuple(f"ours, {column.head}: {_NUMBERS} · weighted F1" for column in columns) or (
        "ours",
    )
    return Table(
        title,
        heads + ours_heads,
        tuple(cells),
        notes=_notes(paper, table, one, protocol, bool(columns)),
    )


def _columns(run: Run, row: PaperRow, across: bool) -> list[_Column]:
    """Within a set: the run's data as a whole. Across sets: each fold, which names both."""
    groups: dict[str, dict[tuple[str, str], list[Confusion]]] = {}
    networks = " + ".join(sorted({one.network for one in run.data}))
    for one in run.rows:
        if one.labelling == "published":
            name = one.fold if across else networks
            groups.setdefault(name, {}).setdefault((one.model, one.setting), []).append(
                one.confusion
            )
    theirs = f"{row.source} to {row.target}" if across else row.source
    made = []
    for name, confusions in groups.items():
        head = name if name == theirs else f"{name} (not the paper's data)"
        if (
            across and row.target and name == row.target
        ):  # a fold of the transfer protocol is its target
            head = name
        summed = {key: sum_confusions(many) for key, many in confusions.items()}
        made.append(
            _Column(f"{head}, quick" if run.quick else head, name.rpartition(" to ")[2], summed)
        )
    return made


def sum_confusions(confusions: Sequence[Confusion]) -> Confusion:
    """Counts of several confusions together, over all of their labels."""
    labels = tuple(dict.fromkeys(label for one in confusions for label in one.labels))
    counts = np.zeros((len(labels), len(labels)), int)
    for one in confusions:
        places = [labels.index(label) for label in one.labels]
        counts[np.ix_(places, places)] += np.array(one.counts)
    return Confusion(labels=labels, counts=tuple(tuple(map(int, row)) for row in counts))


def _cell(paper: PaperTables, row: PaperRow, method: str, column: _Column) -> str:
    settings = [setting for model, setting in column.confusions if model == row.model]
    chosen = [setting for setting in settings if method in setting]
    if not chosen:
        return "not run" if not method else f"not run with {method}"
    known = paper.classes.get(column.tested)
    found = average(column.confusions[row.model, chosen[0]], known, row.task)
    return "none of the paper's classes" if found is None else str(found)


def average(
    confusion: Confusion, classes: Sequence[str] | None = None, task: _Task = "multi-class"
) -> Averages | None:
    """The paper's four measures of windows of some classes, as scikit-learn would average them.

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
    true, said, right = counts.sum(axis=1), counts.sum(axis=0), np.diag(counts)
    seen = (true + said) > 0
    precision, recall = (_ratio(right, whole)[seen] for whole in (said, true))
    f1 = _ratio(2 * right, true + said)[seen]
    weighted = float((f1 * true[seen]).sum() / true.sum())
    accuracy = float(right.sum() / counts.sum())
    return Averages(
        accuracy, float(precision.mean()), float(recall.mean()), float(f1.mean()), weighted
    )


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Shares, 0 where there is nothing to share."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _none(tuned: bool) -> str:
    return "not built yet: faultwise finetune transfer" if tuned else "no run"


def _notes(
    paper: PaperTables, table: PaperTable, row: PaperRow, protocol: str, any_run: bool
) -> tuple[str, ...]:
    notes = [
        f"{paper.paper}, {table.place}: {table.title}. Labels as published; windows of the paper's classes only."
    ]
    if any_run:
        notes.append(
            "Ours are one model of all labels; binary rows read it as normal or not. Training sets are the run's."
        )
    if row.tuned:
        notes.append("The paper prints one row for its three methods, because they were alike.")
        if not any_run:
            notes.append(
                "What tunes a network for another site does not exist yet; these cells fill when it does."
            )
    elif not any_run:
        command = f"faultwise eval detection --protocol {protocol} --data DIR"
        where = f"DIR with {row.source}" + (f" and {row.target}" if row.target else "")
        notes.append(f"No run of protocol {protocol} in results/; `{command}` makes one, {where}.")
    return tuple(notes)


# The runs that the second paper's tables need, made on a user's captures, with the paper's models
# alone.
#
# <results>/tables/<data set>/detection-random.json          each of the paper's data sets by
# itself, never mixed
# <results>/tables/across/detection-leave-one-network-out.json   trained on one, tested on another

log = logging.getLogger(__name__)


def run_paper(
    paper: PaperTables,
    data: Path,
    results: Path,
    kept: Path,
    quick: bool = False,
    progress: Callable[[int, int], None] | None = None,
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
            f"{data} holds captures of {', '.join(folders)}; expected some of {' or '.join(paper.classes)}; "
            "check --data"
        )
    runs = [
        evaluate_detection(
            folder,
            paper.protocols.within,
            results / "tables" / _plain(name),
            kept,
            models,
            quick=quick,
            progress=progress,
        )
        for name, folder in known.items()
    ]
    if len(folders) > 1:
        out = results / "tables" / "across"
        runs.append(
            evaluate_detection(
                data, paper.protocols.across, out, kept, models, quick=quick, progress=progress
            )
        )
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
        if others := [
            o
            for o, paths in found.items()
            if o != name and any(p.is_relative_to(folder) for p in paths)
        ]:
            raise UserError(
                f"{folder} holds captures of {name} and of {', '.join(others)}; expected a folder for each data set, "
                "because a table never mixes two; part them"
            )
    return folders


def read_paper_runs(results: Path) -> list[Run]:
    """The runs that `run_paper` made earlier.

    Raises:
        UserError: one of them cannot be read.
    """
    return [read_run(path) for path in sorted((results / "tables").glob("*/*.json"))]


def _plain(name: str) -> str:
    return name.lower().replace(" ", "-")
