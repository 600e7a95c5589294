"""``faultwise kb``: manuals and past incidents that answers cite."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from assistant.cli.options import narrate, print_json, say_notes, with_settings
from traffic.errors import UserError

if TYPE_CHECKING:
    from assistant.settings import Settings

kb_app = typer.Typer(help="Manuals and past incidents that answers cite.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="DOCUMENT", help="Its title, id, path or file name.")]


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
    firmware: Annotated[str, typer.Option(help="The device's firmware they hold for.")] = "",
    role: Annotated[
        list[str] | None, typer.Option(help="A role of devices they hold for, as in plant.yaml.")
    ] = None,
    site: Annotated[str, typer.Option(help="The site they hold for.")] = "",
    language: Annotated[str, typer.Option(help="The language they are written in: en, de.")] = "",
    edition: Annotated[str, typer.Option(help="The version of the documents themselves.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read them, and only say what would become of them.")
    ] = False,
) -> None:
    """Index documents; a changed one replaces its older version, an unchanged one costs nothing."""
    from assistant.session import open_knowledge
    from knowledge_base.about import Scope

    scope = Scope(
        firmware=firmware, roles=tuple(role or ()), site=site, language=language, version=edition
    )
    with narrate("indexing") as progress, open_knowledge(settings, progress) as index:
        done = index.add(paths, progress, about=about, scope=scope, dry=dry_run)
    say_notes(done.notes)
    if dry_run:
        for what, titles in (("add", done.added), ("replace", done.replaced)):
            typer.echo("".join(f"would {what}: {title}\n" for title in titles), nl=False)
    counts = (
        f"{len(done.added)} added, {len(done.replaced)} replaced, {len(done.unchanged)} unchanged"
    )
    typer.echo(f"dry run, nothing was changed: {counts}" if dry_run else counts)


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
def show(
    document: Name,
    settings: "Settings",
    text: Annotated[bool, typer.Option("--text", help="Show its passages too.")] = False,
) -> None:
    """Show what is known of a document, its sections, and with --text what answers would cite."""
    from assistant.session import open_knowledge

    with open_knowledge(settings) as index:
        entry = index.entry(document)
        passages = index.passages(entry)
    facts = {
        "id": entry.id,
        "kind": f"{entry.kind} (example)" if entry.example else entry.kind,
        "about": entry.about or "general",
        "firmware": entry.scope.firmware,
        "roles": ", ".join(entry.scope.roles),
        "site": entry.scope.site,
        "language": entry.scope.language,
        "version": entry.scope.version,
        "file": entry.path,
        "sha256": entry.sha256,
        "added": entry.added,
        "passages": str(len(passages)),
    }
    typer.echo(entry.title)
    typer.echo("\n".join(f"  {name}: {value}" for name, value in facts.items() if value))
    before = ""
    for one in passages:
        place = one.section if one.page is None else f"{one.section}, page {one.page}"
        if place != before or text:
            typer.echo(f"\n== {place}\n{one.text}" if text else f"  - {place}")
        before = place


@kb_app.command()
@with_settings("home")
def remove(document: Name, settings: "Settings") -> None:
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
    from assistant.report import passage_text, passages_json, say_missing
    from assistant.session import open_knowledge
    from knowledge_base.retriever import find_missing
    from knowledge_base.retriever import search as find

    with narrate("searching") as progress, open_knowledge(settings, progress) as index:
        passages = find(index, question, k=count)
        missing = say_missing(find_missing(index, question))
    if form == "json":
        print_json(passages_json(passages))
    elif not passages:
        typer.echo(": ".join(filter(None, ["no passage found", missing])))
        return
    else:
        typer.echo("\n\n".join(map(passage_text, passages)))
    say_notes((missing,) if missing else ())


@kb_app.command()
@with_settings("home")
def check(
    settings: "Settings",
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend first: read damaged documents again.")
    ] = False,
    questions: Annotated[
        Path | None,
        typer.Option(help="Ask these too: question, document, section.", metavar="FILE.yaml"),
    ] = None,
    at_least: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="The share of questions that must find their passage in five."
        ),
    ] = 0.8,
) -> None:
    """Compare every passage with its manifest and source; exit 1 where they disagree, or where too
    few questions find their passage."""
    from assistant.session import open_knowledge
    from knowledge_base.review import review, share_right

    with open_knowledge(settings) as index:
        mended = index.repair() if repair else ()
        health, count = index.check(), len(index.list())
        answered = review(index, questions) if questions and health.ok else ()
    sound = (f"sound: {count} documents, each passage as it was added",)
    typer.echo("\n".join((*mended, *(health.problems or sound))))
    for one in answered:
        if not one.right:
            wanted = f"expected {one.asked.document or 'no passage'} {one.asked.section}".strip()
            typer.echo(f"missed: {one.asked.question} ({wanted}; found {one.found or 'none'})")
    enough = not answered or share_right(answered) >= at_least
    if answered:
        right, first = sum(one.right for one in answered), sum(one.rank == 1 for one in answered)
        typer.echo(
            f"{right} of {len(answered)} questions as expected, {first} of them first; "
            f"at least {at_least:g} of them: {'met' if enough else 'not met'}"
        )
    raise typer.Exit(0 if health.ok and enough else 1)


@kb_app.command()
@with_settings("home")
def rebuild(settings: "Settings") -> None:
    """Build the index anew from its documents and swap it in: removed text is gone from the
    disk."""
    from assistant.session import open_knowledge

    with narrate("rebuilding") as progress, open_knowledge(settings, progress) as index:
        index.rebuild(progress)
    typer.echo("rebuilt")


@kb_app.command()
@with_settings("home")
def publish(
    url: Annotated[str, typer.Argument(help="Of a Qdrant server: http://HOST:6333.")],
    settings: "Settings",
) -> None:
    """Publish the knowledge base for other machines, which read it with FAULTWISE_PUBLISHED=URL."""
    from assistant.session import open_knowledge
    from knowledge_base.published import connect
    from knowledge_base.published import publish as publish_all

    owned = settings.model_copy(update={"published": ""})
    client = connect(url, settings.published_key)
    with narrate("publishing") as progress, open_knowledge(owned) as index:
        count = publish_all(index, client, url, progress)
    typer.echo(f"{count} passages published: {url}")


@kb_app.command("export")
@with_settings("home")
def export(
    folder: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")],
    settings: "Settings",
) -> None:
    """Write the plant's own documents and what is known of them to a folder, for another machine."""
    from assistant.session import open_knowledge
    from knowledge_base.portable import export_documents

    with open_knowledge(settings) as index:
        done = export_documents(index, folder)
    say_notes(done.notes)
    typer.echo(f"{done.count} documents: {folder}")


@kb_app.command("import")
@with_settings("home")
def import_(
    path: Annotated[
        Path, typer.Argument(help="A folder of `kb export`, or a CSV of tickets.", exists=True)
    ],
    settings: "Settings",
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="The column of a field of an incident: symptoms=Description.",
            metavar="FIELD=COLUMN",
        ),
    ] = None,
    date_format: Annotated[
        str, typer.Option(help="How the tickets write dates: %d/%m/%Y.", metavar="FORMAT")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read the tickets, and only say what would be taken.")
    ] = False,
) -> None:
    """Add the documents of an export, or the solved tickets of a maintenance system as past
    incidents."""
    from assistant.session import open_knowledge
    from knowledge_base.portable import import_documents
    from knowledge_base.tickets import read_tickets, write_tickets

    if path.is_dir():
        with narrate("indexing") as progress, open_knowledge(settings, progress) as index:
            done = import_documents(index, path, settings.home, progress)
    else:
        tickets = read_tickets(path, _read_columns(column or []), date_format)
        say_notes(tickets.notes)
        if dry_run:
            titles = (f"would take: {one.id} {one.title}" for one in tickets.incidents.values())
            typer.echo("\n".join(titles))
            return
        with narrate("indexing") as progress, open_knowledge(settings, progress) as index:
            files = write_tickets(tickets, settings.home / "incidents")
            done = index.add(files, progress)
    say_notes(done.notes)
    typer.echo(
        f"{len(done.added)} added, {len(done.replaced)} replaced, {len(done.unchanged)} unchanged"
    )


def _read_columns(given: list[str]) -> dict[str, str]:
    columns = {}
    for one in given:
        field, found, column = one.partition("=")
        if not found or not column:
            raise UserError(
                f"{one!r} names no column; expected FIELD=COLUMN, such as symptoms=Description; "
                "correct --column"
            )
        columns[field.strip()] = column.strip()
    return columns
