"""``faultwise plant``: the inventory of devices."""

from typing import TYPE_CHECKING

import typer

from assistant.cli.options import CapturePath, narrate, say_notes, with_settings
from traffic.errors import UserError

if TYPE_CHECKING:
    from assistant.settings import Settings

__all__ = ["app"]

app = typer.Typer(help="The inventory of devices: addresses, roles, contacts.", no_args_is_help=True)


@app.command()
def discover(path: CapturePath) -> None:
    """Draft a plant.yaml from the devices in a capture; check it before you rely on it."""
    from traffic.discovery import draft_plant
    from traffic.plant import dump_plant
    from traffic.reader import read_capture

    with narrate("reading the capture"):
        capture = read_capture(path)
        plant = draft_plant(capture)
    say_notes(capture.notes)
    typer.echo(dump_plant(plant), nl=False)


@app.command()
@with_settings("plant")
def show(settings: "Settings") -> None:
    """List the devices of the inventory."""
    from assistant.report import render_table
    from assistant.session import read_plant

    plant = read_plant(settings)
    if plant is None:
        raise UserError(
            "no plant is named; expected --plant plant.yaml or FAULTWISE_PLANT; "
            "`faultwise plant discover CAPTURE > plant.yaml` drafts one"
        )
    rows = [[d.name, d.address, d.role, d.model, d.zone, d.contact] for d in plant.devices]
    typer.echo(render_table(["name", "address", "role", "model", "zone", "contact"], rows))
