"""``faultwise eval retrieval`` and ``eval answers``: what the documents give, and whether answers are right."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from assistant.cli.options import narrate, print_json, say_notes, with_settings

if TYPE_CHECKING:
    from assistant.settings import Settings

__all__ = ["answers", "retrieval"]

Cases = Annotated[
    list[Path] | None, typer.Option("--cases", help="A file of cases; the shipped ones by default.", metavar="F.yaml")
]
Form = Annotated[Literal["table", "json"], typer.Option("--format")]
Out = Annotated[Path, typer.Option(help="Gets the results as JSON.", metavar="FOLDER")]


def retrieval(
    cases: Cases = None,
    documents: Annotated[
        Path, typer.Option(help="Further documents; questions about them are left out without.", metavar="FOLDER")
    ] = Path("../shared/kb"),
    reranker: Annotated[
        Path | None, typer.Option(help="A cross-encoder that reorders passages; none ships.", metavar="FOLDER")
    ] = None,
    form: Form = "table",
    out: Out = Path("results"),
) -> None:
    """Does the knowledge base find what answers, and stay silent where nothing does?"""
    from eval.answers.report import render_retrieval
    from eval.case_runs import run_retrieval
    from eval.provenance import write_results

    with narrate("asking") as progress:
        run = run_retrieval(cases or (), documents, reranker, progress)
    write_results(run, out / f"{run.name}.json")
    say_notes(run.notes)
    print_json(run.model_dump()) if form == "json" else typer.echo(render_retrieval(run))


@with_settings("adapter", "model", "writer", "model_url")
def answers(
    settings: "Settings",
    cases: Cases = None,
    data: Annotated[
        Path, typer.Option(help="Real captures; cases about them are left out without.", metavar="FOLDER")
    ] = Path("../shared/data"),
    recordings: Annotated[
        Path, typer.Option(help="Recorded runs, one folder for each seed; likewise.", metavar="FOLDER")
    ] = Path("runs/answers"),
    form: Form = "table",
    out: Out = Path("results"),
) -> None:
    """Are cause, certainty, device, numbers, citations and refusals of answers right?"""
    from eval.answers.report import render_answers
    from eval.case_runs import run_answers
    from eval.provenance import write_results

    with narrate("asking") as progress:
        run = run_answers(cases or (), data, recordings, settings, progress)
    write_results(run, out / f"{run.name}.json")
    say_notes(run.notes)
    print_json(run.model_dump()) if form == "json" else typer.echo(render_answers(run))
