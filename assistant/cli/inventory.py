"""What a site knows of itself: ``faultwise plant`` (devices) and ``faultwise feedback``."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from assistant.cli.options import CapturePath, OutFile, narrate, say_notes, with_settings
from traffic.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from assistant.settings import Settings


# ``faultwise plant``: the inventory of devices.

plant_app = typer.Typer(
    help="The inventory of devices: addresses, roles, contacts.", no_args_is_help=True
)


@plant_app.command()
def discover(path: CapturePath) -> None:
    """Draft a plant.yaml from the devices in a capture; check it before you rely on it."""
    from traffic.discovery import describe_hosts_without_ip, draft_plant, hint_local, render_draft
    from traffic.reader import read_capture

    with narrate("reading the capture"):
        capture = read_capture(path)
        plant = draft_plant(capture)
    hosts = describe_hosts_without_ip(capture)
    without = [f"{mac} has no IP address, {does}" for mac, does in hosts.items()]
    say_notes((*capture.notes, *filter(None, [hint_local(capture)]), *without))
    typer.echo(render_draft(plant, capture.identities), nl=False)


@plant_app.command("show")
@with_settings("plant")
def show_plant(settings: "Settings") -> None:
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


# ---- feedback ----

feedback_app = typer.Typer(help="What operators said of incidents.", no_args_is_help=True)


@feedback_app.command("list")
@with_settings("home")
def list_feedback(settings: "Settings") -> None:
    """Show every remark, the oldest first."""
    from assistant.chat.exported import HEADS, list_remarks
    from assistant.report import render_table

    typer.echo(render_table(HEADS, list_remarks(_read_remarks(settings))))


@feedback_app.command("export")
@with_settings("home")
def export_remarks(
    settings: "Settings",
    form: Annotated[
        Literal["csv", "jsonl", "intervals"],
        typer.Option(
            "--format",
            help="Every remark; or intervals: what was confirmed or corrected, as the truth beside a "
            "capture that training reads.",
        ),
    ] = "csv",
    out: OutFile = None,
) -> None:
    """Write the remarks for an incident history, or as labels that training reads."""
    from assistant.chat.exported import make_truth
    from traffic.files import write_text

    table = _read_remarks(settings)
    if form == "intervals":
        truth = make_truth(table)
        say_notes(truth.notes)
        table = truth.intervals
    text = (
        table.to_json(orient="records", lines=True, force_ascii=False)
        if form == "jsonl"
        else table.to_csv(index=False, lineterminator="\n")
    )
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)
        typer.echo(f"{len(table)} rows: {out}")


def _read_remarks(settings: "Settings") -> "pd.DataFrame":
    from contextlib import closing

    from assistant.chat.exported import export_feedback
    from assistant.history import History

    with closing(History(settings.home / "history.sqlite")) as history:
        return export_feedback(history)
