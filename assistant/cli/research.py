"""``faultwise finetune`` and ``faultwise eval``: how models are made, and what the parts are worth."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assistant.cli.options import narrate, with_settings

if TYPE_CHECKING:
    from assistant.settings import Settings

from assistant.cli_answers import answers, retrieval
from assistant.cli_eval import COMMANDS

__all__ = ["evaluate", "finetune"]

finetune = typer.Typer(help="Make and tune models.", no_args_is_help=True)
evaluate = typer.Typer(help="Measure.", no_args_is_help=True)
for command in (retrieval, answers, *COMMANDS):
    evaluate.command()(command)


@finetune.callback()
def _begin() -> None:
    """Make and tune models."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")


@finetune.command()
def pocket(
    out: Annotated[Path, typer.Option(help="Gets base/ and adapter/.", metavar="FOLDER")],
    work: Annotated[Path, typer.Option(help="Keeps each stage's result.", metavar="FOLDER")] = Path("runs/pocket"),
    data: Annotated[list[Path] | None, typer.Option(help="Labelled captures beside the simulated plants.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="A capture that is only measured, as unseen.")] = None,
    begin: Annotated[Path | None, typer.Option(help="A base to go on from; by default from nothing.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Minutes instead of hours: shows that it works.")] = False,
) -> None:
    """Make the pocket model: tokenizer, pretraining, tuning, calibration, card."""
    from assistant.cli.options import print_json
    from finetune.pocket import make_pocket
    from finetune.recipe import POCKET, read_recipe

    recipe = read_recipe(POCKET, "quick" if quick else "begun" if begin else "")
    card = make_pocket(recipe, out, work, data or (), exclude or (), begin)
    print_json(card.model_dump(mode="json"))


@evaluate.callback()
def _measure() -> None:
    """Measure."""


@evaluate.command()
def latency(names: Annotated[list[str] | None, typer.Argument(help="Which measures; all by default.")] = None) -> None:
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
    models: Annotated[list[str] | None, typer.Option(help="Some models only: a,b; llm:FOLDER is one of yours.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Fits of each model and fold.", show_default="protocol's")] = None,
    without: Annotated[list[str] | None, typer.Option(help="A label to leave out.", metavar="LABEL")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Minutes instead of an hour: shows that it works.")] = False,
    out: Annotated[Path, typer.Option(help="Gets the results as JSON.", metavar="FOLDER")] = Path("results"),
    jobs: Annotated[int | None, typer.Option(min=1, help="Fits at once.", show_default="one a core")] = None,
) -> None:
    """Models on the same windows: every baseline and the LLM by one protocol, in one table."""
    from rich.console import Console

    from eval.detection.run import evaluate_detection
    from eval.detection_table import make_table

    chosen, left_out = ([name for word in words or () for name in word.split(",")] for words in (models, without))
    with narrate("measuring") as progress:
        run = evaluate_detection(
            data, protocol, out, settings.home / "captures", chosen, seeds, left_out, quick, jobs, progress
        )
    Console(width=None if sys.stdout.isatty() else 220).print(make_table(run))
    typer.echo(out / f"{run.name}.json")


@evaluate.command()
def distance(
    data: Annotated[Path, typer.Option(help="Recorded runs, as testbed run makes them.", metavar="FOLDER")],
    plants: Annotated[int, typer.Option(min=2, help="Simulated plants to draw.")] = 60,
    out: Annotated[Path | None, typer.Option(help="A file for the report, instead of the screen.")] = None,
) -> None:
    """How well simulated plants are told from recorded ones by their normal windows, and by which numbers."""
    from eval.research.distance import measure_distance, render_distance

    measured = measure_distance(data, plants)
    report = render_distance(measured, f"faultwise eval distance --data FOLDER --plants {plants}")
    if out is None:
        typer.echo(report)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(report, encoding="utf-8")
    typer.echo(f"AUC {measured.auc:.3f} ± {measured.margin:.3f}: {out}")
