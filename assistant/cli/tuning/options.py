"""Options that several commands of training share."""

from pathlib import Path
from typing import Annotated

import typer

Epochs = Annotated[int, typer.Option(min=1, help="Readings at most.")]
TextsAStep = Annotated[int, typer.Option(min=1, help="Texts a step.")]
MaxMinutes = Annotated[float, typer.Option(min=0.01, help="Of training, at most.")]
LearningRate = Annotated[
    float | None, typer.Option(min=1e-8, help="The highest.", show_default="by size and method")
]
Excluded = Annotated[
    list[str] | None, typer.Option("--exclude", help="A capture that is only measured, as unseen.")
]
Replace = Annotated[bool, typer.Option("--replace", help="An adapter of this name gives way.")]
PerLabel = Annotated[
    int, typer.Option(min=1, help="Texts of each label; eight times as many normal ones.")
]
Work = Annotated[
    Path | None,
    typer.Option(help="Keeps stages of a killed run.", metavar="FOLDER", show_default="in --home"),
]
