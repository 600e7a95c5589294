"""``faultwise adapters``: those of sites, listed, chosen, merged and removed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from assistant.cli.options import narrate, print_json, with_settings
from traffic.errors import UserError

if TYPE_CHECKING:
    from assistant.settings import Settings

adapters_app = typer.Typer(
    help="Adapters of sites, and their cards: data, split, seed, metrics.", no_args_is_help=True
)

Which = Annotated[str, typer.Argument(help="SITE/FAMILY.", metavar="SITE/FAMILY")]


@adapters_app.command("list")
@with_settings("home")
def list_all(settings: "Settings") -> None:
    """List the shipped adapter and those of this home; * marks what a site uses."""
    from assistant.registry import describe_all
    from assistant.report import render_table

    heads = ["", "name", "created", "alarms from", "base", "folder"]
    typer.echo(render_table(heads, describe_all(settings.home)))


@adapters_app.command("show")
@with_settings("home")
def show_adapter(
    adapter: Annotated[str, typer.Argument(help="SITE, SITE/FAMILY, or an adapter's folder.")],
    settings: "Settings",
) -> None:
    """Print an adapter's card."""
    from assistant.llm.adapters import read_card
    from assistant.registry import find_folder

    folder = Path(adapter)
    if not folder.is_dir():
        folder = find_folder(settings.home, adapter)
    print_json(read_card(folder).model_dump(mode="json"))


@adapters_app.command("use")
@with_settings("home")
def use_adapter(
    site: Annotated[str, typer.Argument(metavar="SITE")],
    family: Annotated[
        str, typer.Argument(help="One of the site's, or `shipped`.", metavar="FAMILY")
    ],
    settings: "Settings",
) -> None:
    """Choose which of its adapters a site uses."""
    from assistant.registry import use

    use(settings.home, site, family)
    typer.echo(f"site {site} uses {family}")


MergeHow = Annotated[
    Literal["cat", "svd"],
    typer.Option(help="Exactly, ranks add up; or as small as the largest, nearly."),
]
MergeWeights = Annotated[
    str, typer.Option(help="Of each: 0.7,0.3.", show_default="equal, 1 together")
]


@adapters_app.command("merge")
@with_settings("home")
def merge_adapters(
    adapters: Annotated[
        list[str],
        typer.Argument(
            help="Several of one base; a single one is merged into it.", metavar="SITE/FAMILY..."
        ),
    ],
    site: Annotated[str, typer.Option(help="The site that gets the result.", metavar="NAME")],
    family: Annotated[str, typer.Option(help="Its name there.", metavar="NAME")],
    settings: "Settings",
    how: MergeHow = "cat",
    weights: MergeWeights = "",
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Labelled captures to calibrate several on.", metavar="FOLDER"),
    ] = None,
) -> None:
    """Merge adapters into one, or an adapter into its base; `adapters use` chooses the result."""
    from finetune.sites.merge import merge

    with narrate("merging") as progress:
        shares = parse_weights(weights)
        made = merge(settings.home, adapters, site, family, how, shares, data or (), progress)
    typer.echo(f"{made.name}; `faultwise adapters use {site} {family}` makes {site} use it")


def parse_weights(text: str) -> list[float]:
    """The weights of --weights; none where it is empty.

    Raises:
        UserError: one is no number.
    """
    try:
        return [float(word) for word in text.split(",")] if text else []
    except ValueError as error:
        raise UserError(
            f"--weights {text!r} are no numbers; expected as 0.7,0.3; correct --weights"
        ) from error


@adapters_app.command("remove")
@with_settings("home")
def remove_adapter(adapter: Which, settings: "Settings") -> None:
    """Delete an adapter; one that its site uses is refused."""
    from assistant.registry import remove

    gone = remove(settings.home, adapter)
    typer.echo(f"removed {gone.name}")
