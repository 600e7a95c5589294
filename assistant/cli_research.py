"""``faultwise finetune`` and ``faultwise eval``: how models are made, and what the parts are worth."""

import logging
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["evaluate", "finetune"]

finetune = typer.Typer(help="Make and tune models.", no_args_is_help=True)
evaluate = typer.Typer(help="Measure.", no_args_is_help=True)


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
    from assistant.cli_options import print_json
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
    from eval.bench import measure_all

    for report in measure_all(names or ()):
        typer.echo(report)


@evaluate.command()
def ceiling(
    data: Annotated[Path | None, typer.Option(help="Labelled captures, each left out in turn.")] = None,
    plants: Annotated[int, typer.Option(min=1, help="Simulated plants to learn from.")] = 120,
    tested: Annotated[int, typer.Option(min=1, help="Simulated plants to score.")] = 16,
) -> None:
    """How much a window's text can tell: XGBoost on exactly the numbers the text holds, on captures never seen."""
    from assistant.cli_options import print_json
    from eval.ceiling import evaluate_text

    print_json({name: scores.to_dict() for name, scores in evaluate_text(plants, tested, data).items()})


@evaluate.command()
def distance(
    data: Annotated[Path, typer.Option(help="Recorded runs, as testbed run makes them.", metavar="FOLDER")],
    plants: Annotated[int, typer.Option(min=2, help="Simulated plants to draw.")] = 60,
    out: Annotated[Path | None, typer.Option(help="A file for the report, instead of the screen.")] = None,
) -> None:
    """How well simulated plants are told from recorded ones by their normal windows, and by which numbers."""
    from eval.distance import measure_distance, render_distance

    measured = measure_distance(data, plants)
    report = render_distance(measured, f"faultwise eval distance --data FOLDER --plants {plants}")
    if out is None:
        typer.echo(report)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(report, encoding="utf-8")
    typer.echo(f"AUC {measured.auc:.3f} ± {measured.margin:.3f}: {out}")
