"""What a site knows of itself: ``faultwise kb`` (documents) and ``faultwise plant`` (devices)."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from assistant.cli.options import (
    CapturePath,
    OutFile,
    narrate,
    print_json,
    say_notes,
    with_settings,
)
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


kb_app = typer.Typer(help="Manuals and past incidents that answers cite.", no_args_is_help=True)


@kb_app.command()
@with_settings("home")
def add(
    paths: Annotated[list[Path], typer.Argument(help="Documents, or folders of them.")],
    settings: "Settings",
    about: Annotated[
        str | None,
        typer.Option(
            "--for",
            help="Make and model of the device that they are about, or 'general'.",
            metavar="MODEL",
            show_default="what each says or shows of itself",
        ),
    ] = None,
) -> None:
    """Index documents; a changed one replaces its older version, an unchanged one costs nothing."""
    from assistant.session import open_knowledge

    with narrate("indexing") as progress, open_knowledge(settings, progress) as index:
        done = index.add(paths, progress, about=about)
    say_notes(done.notes)
    typer.echo(
        f"{len(done.added)} added, {len(done.replaced)} replaced, {len(done.unchanged)} unchanged"
    )


@kb_app.command("list")
@with_settings("home")
def list_documents(settings: "Settings") -> None:
    """List the documents."""
    from assistant.report import render_table
    from assistant.session import open_knowledge

    with open_knowledge(settings) as index:
        rows = [
            [
                d.title,
                f"{d.kind} (example)" if d.example else d.kind,
                d.about or "general",
                len(d.chunks),
                d.id,
                d.path,
            ]
            for d in index.list()
        ]
    typer.echo(render_table(["document", "kind", "about", "passages", "id", "path"], rows))


@kb_app.command()
@with_settings("home")
def remove(
    document: Annotated[str, typer.Argument(help="As `kb list` names it.")], settings: "Settings"
) -> None:
    """Forget a document; it never answers again."""
    from assistant.session import open_knowledge

    with open_knowledge(settings) as index:
        gone = index.remove(document)
    typer.echo(f"removed {gone.title} ({gone.path})")


@kb_app.command()
@with_settings("home", "examples")
def search(
    question: str,
    settings: "Settings",
    count: Annotated[
        int, typer.Option("--count", "-k", min=1, max=50, help="How many passages.")
    ] = 5,
    form: Annotated[Literal["text", "json"], typer.Option("--format")] = "text",
) -> None:
    """Find the passages that best answer a question."""
    from assistant.report import passage_text, passages_json
    from assistant.session import open_knowledge
    from knowledge_base.retriever import search as find

    with narrate("searching") as progress, open_knowledge(settings, progress) as index:
        passages = find(index, question, k=count)
    if form == "json":
        print_json(passages_json(passages))
    else:
        typer.echo("\n\n".join(passage_text(passage) for passage in passages) or "no passage found")


@kb_app.command()
@with_settings("home")
def check(
    settings: "Settings",
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend first: read damaged documents again.")
    ] = False,
) -> None:
    """Compare every passage with its manifest and source; exit 1 where they disagree."""
    from assistant.session import open_knowledge

    with open_knowledge(settings) as index:
        mended = index.repair() if repair else ()
        health, count = index.check(), len(index.list())
    sound = (f"sound: {count} documents, each passage as it was added",)
    typer.echo("\n".join((*mended, *(health.problems or sound))))
    raise typer.Exit(0 if health.ok else 1)


@kb_app.command()
@with_settings("home")
def rebuild(settings: "Settings") -> None:
    """Build the index anew from its documents and swap it in: removed text is gone from the
    disk."""
    from assistant.session import open_knowledge

    with narrate("rebuilding") as progress, open_knowledge(settings, progress) as index:
        index.rebuild(progress)
    typer.echo("rebuilt")


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

    from assistant.history import History, export_feedback

    with closing(History(settings.home / "history.sqlite")) as history:
        return export_feedback(history)
