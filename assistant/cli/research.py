"""``faultwise finetune`` and ``faultwise eval``: how models are made, and what the parts are
worth."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from assistant.cli.options import narrate, print_json, say_notes, with_settings

if TYPE_CHECKING:
    from assistant.settings import Settings


# ---- what several commands share ----

Cases = Annotated[
    list[Path] | None,
    typer.Option("--cases", help="A file of cases; the shipped ones by default.", metavar="F.yaml"),
]
Form = Annotated[Literal["table", "json"], typer.Option("--format")]
Out = Annotated[Path, typer.Option(help="Gets the results as JSON.", metavar="FOLDER")]
Results = Annotated[Path, typer.Option("--results", help="Where results lie.", metavar="FOLDER")]
Named = Annotated[
    str, typer.Argument(help="A file of results, or its name in --results.", metavar="RUN")
]
Models = Annotated[
    list[str] | None, typer.Option(help="Some models only: a,b; llm:FOLDER is one of yours.")
]
Seeds = Annotated[
    int | None, typer.Option(help="Fits of each model and fold.", show_default="protocol's")
]
Jobs = Annotated[int | None, typer.Option(min=1, help="Fits at once.", show_default="one a core")]
_RESULTS = Path("results")

# ---- eval retrieval, eval answers ----


def retrieval(
    cases: Cases = None,
    documents: Annotated[
        Path,
        typer.Option(
            help="Further documents; questions about them are left out without.", metavar="FOLDER"
        ),
    ] = Path("../shared/kb"),
    reranker: Annotated[
        Path | None,
        typer.Option(help="A cross-encoder that reorders passages; none ships.", metavar="FOLDER"),
    ] = None,
    form: Form = "table",
    out: Out = _RESULTS,
) -> None:
    """Does the knowledge base find what answers, and stay silent where nothing does?"""
    from eval.answers.report import render_retrieval
    from eval.answers.retrieval import run_retrieval
    from eval.results import write_results

    with narrate("asking") as progress:
        run = run_retrieval(cases or (), documents, reranker, progress)
    write_results(run, out / f"{run.name}.json")
    say_notes(run.notes)
    print_json(run.model_dump()) if form == "json" else typer.echo(render_retrieval(run))


@with_settings("adapter", "model", "writer", "model_url", "writer_model")
def answers(
    settings: "Settings",
    cases: Cases = None,
    data: Annotated[
        Path,
        typer.Option(
            help="Real captures; cases about them are left out without.", metavar="FOLDER"
        ),
    ] = Path("../shared/data"),
    recordings: Annotated[
        Path,
        typer.Option(help="Recorded runs, one folder for each seed; likewise.", metavar="FOLDER"),
    ] = Path("runs/answers"),
    made: Annotated[
        Path,
        typer.Option(
            help="Cases of eval.testbed.cases, asked too if they are there.", metavar="FOLDER"
        ),
    ] = Path("runs/cases"),
    mutations: Annotated[
        bool,
        typer.Option(
            "--mutations",
            help="Instead: does the check of a writer's sentences cut false ones and keep true ones?",
        ),
    ] = False,
    form: Form = "table",
    out: Out = _RESULTS,
) -> None:
    """Are answers right, by source of captures: cause, device, certainty, false all-clears, refusals?"""
    if mutations:
        from eval.answers.mutations import run_mutations

        with narrate("making sentences") as progress:
            typer.echo(run_mutations(data / "field", progress))
        return
    from eval.answers.answers import run_answers
    from eval.answers.report import render_answers
    from eval.results import write_results

    with narrate("asking") as progress:
        run = run_answers(cases or (), data, recordings, settings, progress, made)
    write_results(run, out / f"{run.name}.json")
    say_notes(run.notes)
    print_json(run.model_dump()) if form == "json" else typer.echo(render_answers(run))


# ---- eval report, compare, tables, hypotheses ----


def report(
    run: Named,
    results: Results = _RESULTS,
    out: Annotated[
        Path | None,
        typer.Option(help="Gets RUN.md and RUN.html.", metavar="FOLDER", show_default="beside RUN"),
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
    measure: Annotated[
        list[str] | None, typer.Option(help="Which measures; a few by default.")
    ] = None,
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
        typer.Option(
            help="Labelled captures, CIC IoMT 2024 among them if you have it: run what is missing first."
        ),
    ] = None,
    results: Results = _RESULTS,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small budgets: shows that it works.")
    ] = False,
) -> None:
    """Tables I and II of the second paper: its numbers beside ours, each under the data that it is of."""
    from eval.report.tables import render_table
    from eval.research.claims import read_runs
    from eval.research.paper import make_paper_tables, read_paper, read_paper_runs, run_paper

    paper = read_paper()
    if data is not None:
        with narrate("measuring") as progress:
            runs = run_paper(paper, data, results, settings.home / "captures", quick, progress)
    else:
        runs = [*read_runs(results).detection, *read_paper_runs(results)]
    for table in make_paper_tables(paper, runs):
        typer.echo(render_table(table) + "\n")


def hypotheses(
    names: Annotated[
        list[str] | None, typer.Argument(help="H1 to H8, Q1 to Q8; all by default.")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            help="Where results lie.",
            metavar="FOLDER",
            show_default="those of the checkout, else ./results",
        ),
    ] = None,
    llm: Annotated[
        str,
        typer.Option(
            help="The language model that is asked about, as runs name it.", metavar="MODEL"
        ),
    ] = "pocket",
) -> None:
    """The papers' hypotheses and questions: supported, not supported or not decidable here, and why."""
    from eval.research.claims import list_former, read_runs
    from eval.research.hypotheses import HYPOTHESES, find_hypotheses, render_verdict
    from eval.results import find_results

    chosen = find_hypotheses(names or ())
    folder = results or find_results()
    runs = read_runs(folder)
    old = [f"{name}: a former edition of the language model" for name in list_former(runs)]
    say_notes((f"results read from {folder}", *old))
    for name in chosen:
        typer.echo(render_verdict(name, HYPOTHESES[name](runs, llm)) + "\n")


# ---- finetune; eval latency, detection, distance ----

finetune = typer.Typer(help="Make and tune models.", no_args_is_help=True)
evaluate = typer.Typer(help="Measure.", no_args_is_help=True)
for command in (retrieval, answers, tables, hypotheses, report, compare):
    evaluate.command()(command)


@finetune.callback()
def _begin() -> None:
    """Make and tune models."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")


@finetune.command()
def pocket(
    out: Annotated[Path, typer.Option(help="Gets base/ and adapter/.", metavar="FOLDER")],
    work: Annotated[Path, typer.Option(help="Keeps each stage's result.", metavar="FOLDER")] = Path(
        "runs/pocket"
    ),
    data: Annotated[
        list[Path] | None, typer.Option(help="Labelled captures beside the simulated plants.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="A capture that is only measured, as unseen.")
    ] = None,
    calibrate: Annotated[
        list[str] | None, typer.Option(help="A capture that bounds are chosen on, not weights.")
    ] = None,
    begin: Annotated[
        Path | None, typer.Option(help="A base to go on from; by default from nothing.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Minutes instead of hours: shows that it works.")
    ] = False,
) -> None:
    """Make the pocket model: tokenizer, pretraining, tuning, calibration, card."""
    from assistant.cli.options import print_json
    from finetune.pocket.make import make_pocket
    from finetune.recipe import POCKET, read_recipe

    recipe = read_recipe(POCKET, "quick" if quick else "begun" if begin else "")
    held = (exclude or (), begin, calibrate or ())
    card = make_pocket(recipe, out, work, data or (), *held)
    print_json(card.model_dump(mode="json"))


def split_names(words: list[str] | None) -> list[str]:
    """The names of an option that may come several times and hold several: ``a,b``."""
    return [name for word in words or () for name in word.split(",")]


@evaluate.callback()
def _measure() -> None:
    """Measure."""


@evaluate.command()
def latency(
    names: Annotated[
        list[str] | None, typer.Argument(help="Which measures; all by default.")
    ] = None,
) -> None:
    """How fast the parts are on this machine, each beside its target."""
    from eval.research.bench import measure_all

    for report in measure_all(names or ()):
        typer.echo(report)


@evaluate.command()
@with_settings("home")
def detection(
    protocol: Annotated[str, typer.Option(help="What is trained on, tested and varied.")],
    data: Annotated[Path, typer.Option(help="A folder of labelled captures.", metavar="FOLDER")],
    settings: "Settings",
    models: Models = None,
    seeds: Seeds = None,
    without: Annotated[
        list[str] | None, typer.Option(help="A label to leave out.", metavar="LABEL")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Minutes instead of an hour: shows that it works.")
    ] = False,
    out: Out = _RESULTS,
    jobs: Jobs = None,
) -> None:
    """Models on the same windows: every baseline and the LLM by one protocol, in one table."""
    from rich.console import Console

    from eval.detection.run import evaluate_detection
    from eval.report.tables import make_terminal_table, run_table

    chosen = split_names(models)
    left_out = split_names(without)
    kept = settings.home / "captures"
    with narrate("measuring") as progress:
        run = evaluate_detection(
            data, protocol, out, kept, chosen, seeds, left_out, quick, jobs, progress
        )
    Console(width=None if sys.stdout.isatty() else 220).print(make_terminal_table(run_table(run)))
    typer.echo(out / f"{run.name}.json")


@evaluate.command()
@with_settings("home")
def transfer(
    data: Annotated[
        Path, typer.Option(help="Labelled captures of two networks or more.", metavar="FOLDER")
    ],
    settings: "Settings",
    share: Annotated[
        float | None,
        typer.Option(
            min=0.001, max=0.5, help="Of the new network's labels.", show_default="protocol's"
        ),
    ] = None,
    each_plant: Annotated[
        bool, typer.Option("--each-plant", help="Each capture is a new plant of its own, in turn.")
    ] = False,
    models: Models = None,
    seeds: Seeds = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small budgets: shows that it works.")
    ] = False,
    out: Out = _RESULTS,
    jobs: Jobs = None,
) -> None:
    """Train on one network, test on another, before and after the model was moved there by few labels."""
    from eval.detection.run import evaluate_detection
    from eval.report.tables import render_table
    from eval.research.transfer import make_transfer_tables
    from finetune.sites.transfer import tune_texts

    chosen = split_names(models)
    protocol = "new-site" if each_plant else "transfer"
    parts = (data, protocol, out, settings.home / "captures", chosen, seeds, (), quick, jobs)
    with narrate("measuring") as progress:
        run = evaluate_detection(*parts, progress, share, tune_texts)
    for table in make_transfer_tables([run]):
        typer.echo(render_table(table) + "\n")
    typer.echo(out / f"{run.name}.json")


@evaluate.command()
def distance(
    data: Annotated[
        Path, typer.Option(help="Recorded runs, as testbed run makes them.", metavar="FOLDER")
    ],
    plants: Annotated[int, typer.Option(min=2, help="Simulated plants to draw.")] = 60,
    out: Annotated[
        Path | None, typer.Option(help="A file for the report, instead of the screen.")
    ] = None,
) -> None:
    """How well simulated plants are told from recorded ones by their normal windows, by which numbers."""
    from eval.research.distance import measure_distance, render_distance
    from traffic.files import write_text

    measured = measure_distance(data, plants)
    report = render_distance(measured, f"faultwise eval distance --data FOLDER --plants {plants}")
    if out is None:
        typer.echo(report)
        return
    write_text(out, report)
    typer.echo(f"AUC {measured.auc:.3f} ± {measured.margin:.3f}: {out}")
