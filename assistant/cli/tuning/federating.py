"""``faultwise adapters export`` and ``finetune federate``: adapters that travel, and what several
make together."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assistant.cli.options import narrate, with_settings
from assistant.cli.research import finetune
from assistant.cli.tuning.adapters import MergeHow, MergeWeights, adapters_app, parse_weights

if TYPE_CHECKING:
    from assistant.settings import Settings


@adapters_app.command("export")
@with_settings("home")
def export(
    adapter: Annotated[
        str, typer.Argument(help="SITE for what it uses, or SITE/FAMILY.", metavar="SITE[/FAMILY]")
    ],
    key: Annotated[
        Path, typer.Option(help="The site's private key; made where it is missing.", metavar="FILE")
    ],
    out: Annotated[Path, typer.Option(help="A new folder, as on a stick.", metavar="FOLDER")],
    settings: "Settings",
) -> None:
    """Write an adapter, signed, for `finetune federate` elsewhere; texts that it learned from stay."""
    from finetune.sites.federate import export_adapter

    made = export_adapter(settings.home, adapter, key, out)
    if made.new_key:
        typer.echo(f"made the key {key}; keep it")
    typer.echo(f"{made.folder}: signed; who takes it needs {made.public_key}")


@finetune.command()
@with_settings("home")
def federate(
    packets: Annotated[
        list[Path],
        typer.Argument(help="What `adapters export` wrote at each site.", metavar="PACKET..."),
    ],
    trust: Annotated[list[Path], typer.Option(help="The public key of a site.", metavar="FILE")],
    site: Annotated[str, typer.Option(help="The site that gets the result.", metavar="NAME")],
    data: Annotated[
        list[Path],
        typer.Option(
            help="Labelled captures to calibrate on, which none learned from.", metavar="FOLDER"
        ),
    ],
    settings: "Settings",
    base: Annotated[
        Path | None,
        typer.Option(help="The base of all of them.", metavar="DIR", show_default="the shipped"),
    ] = None,
    family: Annotated[str, typer.Option(help="Its name there.", metavar="NAME")] = "federated",
    how: MergeHow = "cat",
    weights: MergeWeights = "",
) -> None:
    """Merge signed adapters of several sites, whose captures stay there; `adapters use` chooses the
    result."""
    from assistant.llm.adapters import read_card
    from assistant.pocket import POCKET
    from finetune.sites.federate import federate as merge_packets

    folder = base or read_card(POCKET).find_base(POCKET)
    named = (packets, trust, folder, site, family, how, parse_weights(weights), data)
    with narrate("merging") as progress:
        made = merge_packets(settings.home, *named, progress)
    typer.echo(f"{made.name}; `faultwise adapters use {site} {family}` makes {site} use it")
