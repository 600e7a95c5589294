"""``faultwise finetune refresh``: a site's adapter after its plant has changed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from assistant.cli.options import narrate, narrate_stages, with_settings
from assistant.cli.research import finetune
from assistant.cli.tuning.options import Epochs, Excluded, MaxMinutes, PerLabel
from traffic.errors import UserError

if TYPE_CHECKING:
    from assistant.settings import Settings


@finetune.command()
@with_settings("home", "plant", "local")
def refresh(
    site: Annotated[str, typer.Option(help="The site whose adapter it is.", metavar="NAME")],
    settings: "Settings",
    quiet: Annotated[
        Path | None,
        typer.Option(
            help="A capture in which nothing was wrong, an hour or more: fits the alarms to it.",
            metavar="PATH",
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="New labelled captures: the adapter learns them too.", metavar="FOLDER"),
    ] = None,
    watch: Annotated[
        Path | None,
        typer.Option(
            help="A capture: does it still look as the quiet time did? Changes nothing.",
            metavar="PATH",
        ),
    ] = None,
    false_share: Annotated[
        float, typer.Option(min=1e-4, max=0.5, help="Of quiet windows, those that may be alarmed.")
    ] = 0.005,
    how: Annotated[
        Literal["replay", "osf"],
        typer.Option(
            help="Against forgetting: old windows beside the new, or only what the weights use least."
        ),
    ] = "replay",
    most_forgotten: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="What may be lost on captures of before; with more it is not used."
        ),
    ] = 0.01,
    replayed: Annotated[
        float, typer.Option(min=0, max=0.95, help="Of what is read, the share of before.")
    ] = 0.5,
    plants: Annotated[
        int, typer.Option(min=0, help="Simulated plants to replay, and twice as many to judge by.")
    ] = 8,
    per_label: PerLabel = 600,
    epochs: Epochs = 2,
    max_minutes: MaxMinutes = 30.0,
    exclude: Excluded = None,
    seed: int = 0,
) -> None:
    """Follow a plant that changed: fit the alarms to a quiet time, learn new labelled captures
    without forgetting the old, or see whether it has changed."""
    if sum((quiet is not None, bool(data), watch is not None)) != 1:
        raise UserError(
            "refresh needs one of --quiet PATH, --data FOLDER and --watch PATH; expected exactly one; "
            "give a quiet capture, labelled ones, or one to compare"
        )
    if watch is not None:
        typer.echo(_watch(watch, site, settings))
    elif quiet is not None:
        typer.echo(_fit_to_quiet(quiet, site, settings, false_share))
    else:
        from finetune.sft import Knobs
        from finetune.sites.refresh import Order, refresh_on_labels, render_refreshed

        parts = (how, plants, per_label, replayed, most_forgotten, tuple(exclude or ()))
        order = Order(tuple(data or ()), site, *parts)
        knobs = Knobs(epochs=epochs, max_minutes=max_minutes, seed=seed)
        with narrate_stages() as progress:
            made = refresh_on_labels(order, knobs, settings.home, progress)
        typer.echo(render_refreshed(made))


def _watch(capture: Path, site: str, settings: "Settings") -> str:
    from assistant.session import watch_site

    with narrate("scoring") as scored:
        return watch_site(capture, settings.model_copy(update={"site": site}), scored)


def _fit_to_quiet(capture: Path, site: str, settings: "Settings", false_share: float) -> str:
    from assistant.session import read_plant
    from finetune.sites.quiet import refresh_from_quiet, render_quieted

    plant = read_plant(settings)
    with narrate("scoring") as scored:
        return render_quieted(
            refresh_from_quiet(capture, site, settings.home, plant, false_share, scored)
        )
