"""``faultwise finetune transfer``: a tuned model moved to a new network by few labels."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from assistant.cli.options import narrate_stages, with_settings
from assistant.cli.research import finetune
from assistant.cli.tuning.options import Epochs, Excluded, MaxMinutes, Replace, TextsAStep

if TYPE_CHECKING:
    from assistant.settings import Settings

# Written out, since finetune.sites.transfer imports torch.
Technique = Literal["new-output-layer", "layer-freezing", "reduced-learning-rate"]


@finetune.command()
@with_settings("home")
def transfer(
    data: Annotated[
        list[Path], typer.Option(help="The new network's labelled captures.", metavar="FOLDER")
    ],
    site: Annotated[str, typer.Option(help="The new network.", metavar="NAME")],
    settings: "Settings",
    begin: Annotated[
        Path | None,
        typer.Option(help="The adapter to move.", metavar="ADAPTER", show_default="the shipped"),
    ] = None,
    by: Annotated[Technique, typer.Option(help="What is learned anew.")] = "reduced-learning-rate",
    freeze: Annotated[
        int | None,
        typer.Option(min=1, help="Layers from the bottom to freeze.", show_default="half"),
    ] = None,
    method: Annotated[
        Literal["full", "lora"], typer.Option(help="A model of its own, or the adapter alone.")
    ] = "full",
    family: Annotated[str, typer.Option(help="Its name there.", metavar="NAME")] = "transferred",
    plants: Annotated[
        int, typer.Option(min=0, help="Simulated plants beside, so that no label is forgotten.")
    ] = 4,
    exclude: Excluded = None,
    epochs: Epochs = 5,
    batch: TextsAStep = 32,
    max_minutes: MaxMinutes = 20.0,
    seed: int = 0,
    replace: Replace = False,
) -> None:
    """Move a tuned model to a new network by few labelled captures; `classify --site` uses it then."""
    from assistant.pocket import POCKET
    from finetune.sft import Knobs
    from finetune.sites.adapter import render_made
    from finetune.sites.transfer import Move, transfer_adapter

    parts = (by.replace("-", " "), freeze, method, plants, tuple(exclude or ()), replace)
    move = Move(begin or POCKET, tuple(data), site, family, *parts)
    knobs = Knobs(epochs=epochs, batch=batch, max_minutes=max_minutes, seed=seed)
    with narrate_stages() as progress:
        made = transfer_adapter(move, knobs, settings.home, progress)
    typer.echo(render_made(made))
