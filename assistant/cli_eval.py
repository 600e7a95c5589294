"""``faultwise eval report``, ``compare``, ``tables`` and ``hypotheses``: what results say, for people."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assistant.cli.options import narrate, with_settings

if TYPE_CHECKING:
    from assistant.settings import Settings

__all__ = ["COMMANDS", "compare", "hypotheses", "report", "tables"]

Results = Annotated[Path, typer.Option("--results", help="Where results lie.", metavar="FOLDER")]
Named = Annotated[str, typer.Argument(help="A file of results, or its name in --results.", metavar="RUN")]
_RESULTS = Path("results")


def report(
    run: Named,
    results: Results = _RESULTS,
    out: Annotated[
        Path | None, typer.Option(help="Gets RUN.md and RUN.html.", metavar="FOLDER", show_default="beside RUN")
    ] = None,
) -> None:
    """A run as Markdown tables and as one HTML page with plots, which loads nothing."""
    from eval.report.page import find_run, write_report
    from eval.results import read_run

    path = find_run(run, results)
    for written in write_report(read_run(path), out or path.parent):
        typer.echo(written)


def compare(
    first: Named,
    second: Named,
    results: Results = _RESULTS,
    measure: Annotated[list[str] | None, typer.Option(help="Which measures; a few by default.")] = None,
) -> None:
    """Which rows of two runs differ, on the same captures only, and how the runs themselves differ."""
    from eval.report.compare import COMPARED, render_compare
    from eval.report.page import find_run
    from eval.results import read_run

    runs = [read_run(find_run(name, results)) for name in (first, second)]
    typer.echo(render_compare(runs[0], runs[1], measure or COMPARED), nl=False)


@with_settings("home")
def tables(
    settings: "Settings",
    data: Annotated[
        Path | None,
        typer.Option(help="Labelled captures, CIC IoMT 2024 among them if you have it: run what is missing first."),
    ] = None,
    results: Results = _RESULTS,
    quick: Annotated[bool, typer.Option("--quick", help="Small budgets: shows that it works.")] = False,
) -> None:
    """Tables I and II of the second paper: its numbers beside ours, each under the data that it is of."""
    from eval.evidence import read_evidence
    from eval.paper_runs import read_paper_runs, run_paper
    from eval.report.page import render_rows
    from eval.research.paper import make_paper_tables, read_paper

    paper = read_paper()
    if data is not None:
        with narrate("measuring") as progress:
            runs = run_paper(paper, data, results, settings.home / "captures", quick, progress)
    else:
        runs = [*read_evidence(results).runs, *read_paper_runs(results)]
    for table in make_paper_tables(paper, runs):
        typer.echo(render_rows(table) + "\n")


def hypotheses(
    names: Annotated[list[str] | None, typer.Argument(help="H1 to H8, Q1 to Q8; all by default.")] = None,
    results: Results = _RESULTS,
    llm: Annotated[
        str, typer.Option(help="The language model that is asked about, as runs name it.", metavar="MODEL")
    ] = "pocket",
) -> None:
    """The papers' hypotheses and questions: supported, not supported or not decidable here, and why."""
    from eval.evidence import read_evidence
    from eval.research.hypotheses import decide_all, render_decision

    for decision in decide_all(names or (), read_evidence(results), llm):
        typer.echo(render_decision(decision) + "\n")


COMMANDS = (tables, hypotheses, report, compare)
