"""``faultwise finetune experts``: several adapters that share the work, or a sparse model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from assistant.cli.options import narrate_stages, with_settings
from assistant.cli.research import finetune
from assistant.cli.tuning.options import (
    Epochs,
    Excluded,
    LearningRate,
    PerLabel,
    Replace,
    TextsAStep,
    Work,
)

if TYPE_CHECKING:
    from assistant.settings import Settings

# Written out, since finetune.experts imports torch.
How = Literal["xlora", "arrow", "mixtral"]
By = Literal["labels", "network"]


@finetune.command()
@with_settings("home")
def experts(
    data: Annotated[list[Path], typer.Option(help="Labelled captures.", metavar="FOLDER")],
    site: Annotated[str, typer.Option(help="The site that they are for.", metavar="NAME")],
    settings: "Settings",
    how: Annotated[
        How,
        typer.Option(
            help="A trained router over adapters, one that needs no training, or the base as a Mixtral."
        ),
    ] = "xlora",
    base: Annotated[
        Path | None,
        typer.Option(help="A small Llama's folder.", metavar="DIR", show_default="the shipped"),
    ] = None,
    by: Annotated[
        By,
        typer.Option(
            help="An adapter for attacks and one for faults, or for networks with and without control protocols."
        ),
    ] = "labels",
    expert: Annotated[
        list[str] | None,
        typer.Option(help="An adapter that is an expert instead.", metavar="SITE/FAMILY"),
    ] = None,
    count: Annotated[
        int, typer.Option("--experts", help="Of a Mixtral: an even number, 4 or more.")
    ] = 4,
    top_k: Annotated[int, typer.Option(min=1, help="Adapters for a token; a Mixtral has two.")] = 1,
    family: Annotated[
        str, typer.Option(help="Its name at the site.", show_default="--how", metavar="NAME")
    ] = "",
    plants: Annotated[int, typer.Option(min=0, help="Simulated plants beside the captures.")] = 16,
    exclude: Excluded = None,
    rank: Annotated[int, typer.Option(min=1, help="Of each adapter.")] = 32,
    epochs: Epochs = 3,
    batch: TextsAStep = 64,
    learning_rate: LearningRate = None,
    per_label: PerLabel = 1500,
    max_minutes: Annotated[
        float, typer.Option(min=0.01, help="Of each of up to four trainings, at most.")
    ] = 60.0,
    seed: int = 0,
    work: Work = None,
    replace: Replace = False,
) -> None:
    """Make experts of a base, few of which are computed for a token; the card says what they cost,
    and what a single adapter is worth beside them."""
    from assistant.llm.adapters import read_card
    from assistant.pocket import POCKET
    from finetune.experts.adapter import make_experts, render_experts
    from finetune.experts.training import Experts
    from finetune.sft import Knobs
    from finetune.sites.adapter import Order

    wanted = Experts(how, by, tuple(expert or ()), count, top_k)
    knobs = Knobs(
        wanted.method, "joint", rank, epochs, batch, learning_rate, max_minutes, seed=seed
    )
    folder = base or read_card(POCKET).find_base(POCKET)
    rest = (family, (), plants, per_label, tuple(exclude or ()), None, replace)
    order = Order(folder, tuple(data), site, *rest)
    with narrate_stages() as progress:
        made = make_experts(order, wanted, knobs, settings.home, work, progress)
    typer.echo(render_experts(made))
