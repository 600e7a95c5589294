"""``faultwise finetune align``: an adapter aligned with what operators said of incidents."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from assistant.cli.options import narrate_stages, with_settings
from assistant.cli.research import finetune
from assistant.cli.tuning.options import Epochs, LearningRate, MaxMinutes, Replace

if TYPE_CHECKING:
    from assistant.settings import Settings


@finetune.command()
@with_settings("home", "plant")
def align(
    site: Annotated[
        str, typer.Option(help="Whose adapter; the shipped one where it has none.", metavar="NAME")
    ],
    capture: Annotated[
        list[Path],
        typer.Option(help="A capture that feedback was given on.", metavar="PATH", exists=True),
    ],
    settings: "Settings",
    feedback: Annotated[
        list[Path] | None,
        typer.Option(
            help="An exported file (csv, jsonl) beside this home's own feedback.", metavar="FILE"
        ),
    ] = None,
    how: Annotated[
        Literal["kto", "dpo", "grpo", "rloo", "reward"],
        typer.Option(
            help="Good and bad answers alone; pairs; sampled and rewarded; a reward model alone."
        ),
    ] = "kto",
    rewards: Annotated[
        Literal["checked", "model"],
        typer.Option(help="Of grpo and rloo: by code, or by the site's reward model."),
    ] = "checked",
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Labelled captures to calibrate on, unseen ones.", metavar="FOLDER"),
    ] = None,
    plants: Annotated[
        int, typer.Option(min=0, help="Simulated plants to calibrate on beside them.")
    ] = 4,
    family: Annotated[
        str, typer.Option(help="The result's name.", show_default="the begun one's, and the method")
    ] = "",
    begin: Annotated[
        Path | None,
        typer.Option(help="An adapter to begin with.", show_default="what the site uses"),
    ] = None,
    most: Annotated[
        int, typer.Option(min=1, help="Windows of one device and cause that count.")
    ] = 8,
    known: Annotated[
        float, typer.Option(min=1.0, help="Windows of known truth for one of feedback.")
    ] = 2.0,
    epochs: Epochs = 3,
    batch: Annotated[int, typer.Option(min=2, help="Examples a step.")] = 32,
    learning_rate: LearningRate = None,
    beta: Annotated[
        float, typer.Option(min=0.0, help="How dearly going away from the adapter is paid for.")
    ] = 0.1,
    samples: Annotated[
        int, typer.Option(min=2, help="Answers sampled for a window (grpo, rloo).")
    ] = 8,
    max_minutes: MaxMinutes = 30.0,
    seed: int = 0,
    replace: Replace = False,
) -> None:
    """Align a site's adapter with its operators' feedback, checked against the evidence first."""
    from assistant.session import read_plant
    from finetune.align.adapter import Order, align_site, render_aligned
    from finetune.align.trainers import Knobs

    knobs = Knobs(epochs, batch, learning_rate, beta, samples, max_minutes, seed)
    files = (tuple(capture), tuple(feedback or ()), how, tuple(data or ()), plants)
    order = Order(site, *files, family, begin, most, known, rewards, replace)
    with narrate_stages() as progress:
        made = align_site(order, knobs, settings.home, read_plant(settings), progress)
    typer.echo(render_aligned(made))
