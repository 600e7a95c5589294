"""The runs that the second paper's tables need, made on a user's captures, with the paper's models alone.

<results>/tables/<data set>/detection-random.json          each of the paper's data sets by itself, never mixed
<results>/tables/across/detection-leave-one-network-out.json   trained on one, tested on another
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path

from eval.detection.run import evaluate_detection
from eval.research.paper import PaperTables
from eval.results import Run, read_run
from traffic.datasets.formats import FORMS
from traffic.datasets.labelled import find_labelled
from traffic.errors import UserError

__all__ = ["find_data_sets", "read_paper_runs", "run_paper"]

log = logging.getLogger(__name__)


def run_paper(
    paper: PaperTables,
    data: Path,
    results: Path,
    kept: Path,
    quick: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Run]:
    """Run the paper's protocols: within each of its data sets that is there, and across whatever networks are.

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
        runs.append(evaluate_detection(data, paper.protocols.across, out, kept, models, quick=quick, progress=progress))
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
    folders = {name: Path(os.path.commonpath([path.parent for path in paths])) for name, paths in found.items()}
    for name, folder in folders.items():
        if others := [o for o, paths in found.items() if o != name and any(p.is_relative_to(folder) for p in paths)]:
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
