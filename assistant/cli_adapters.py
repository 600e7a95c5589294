"""``faultwise adapters``: the sites' adapters and what each one's card says of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assistant.cli.options import print_json, with_settings

if TYPE_CHECKING:
    from assistant.settings import Settings

__all__ = ["app"]

app = typer.Typer(help="Adapters of sites, and their cards: data, split, seed, metrics.", no_args_is_help=True)


@app.command("list")
@with_settings("home")
def list_all(settings: "Settings") -> None:
    """List the shipped adapter and those of this home."""
    from assistant.llm.adapters import list_adapters
    from assistant.report import render_table

    rows = [
        [one.card.name, one.card.created, f"{one.card.threshold:.2f}", one.path] for one in list_adapters(settings.home)
    ]
    typer.echo(render_table(["name", "created", "abstains below", "folder"], rows))


@app.command()
def show(folder: Annotated[Path, typer.Argument(help="The adapter's folder.")]) -> None:
    """Print an adapter's card."""
    from assistant.llm.adapters import read_card

    print_json(read_card(folder).model_dump(mode="json"))
