"""``faultwise kb``: the manuals and past incidents that answers cite."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from assistant.cli.options import narrate, print_json, say_notes, with_settings

if TYPE_CHECKING:
    from assistant.settings import Settings

__all__ = ["app"]

app = typer.Typer(help="Manuals and past incidents that answers cite.", no_args_is_help=True)


@app.command()
@with_settings("home")
def add(
    paths: Annotated[list[Path], typer.Argument(help="Documents, or folders of them.")], settings: "Settings"
) -> None:
    """Index documents; a changed one replaces its older version, an unchanged one costs nothing."""
    from assistant.session import open_knowledge

    with narrate("indexing") as progress, open_knowledge(settings, progress) as index:
        done = index.add(paths, progress)
    say_notes(done.notes)
    typer.echo(f"{len(done.added)} added, {len(done.replaced)} replaced, {len(done.unchanged)} unchanged")


@app.command("list")
@with_settings("home")
def list_documents(settings: "Settings") -> None:
    """List the documents."""
    from assistant.report import render_table
    from assistant.session import open_knowledge

    with open_knowledge(settings) as index:
        rows = [[d.title, d.kind, len(d.chunks), d.id, d.path] for d in index.list()]
    typer.echo(render_table(["document", "kind", "passages", "id", "path"], rows))


@app.command()
@with_settings("home")
def remove(document: Annotated[str, typer.Argument(help="As `kb list` names it.")], settings: "Settings") -> None:
    """Forget a document; it never answers again."""
    from assistant.session import open_knowledge

    with open_knowledge(settings) as index:
        gone = index.remove(document)
    typer.echo(f"removed {gone.title} ({gone.path})")


@app.command()
@with_settings("home")
def search(
    question: str,
    settings: "Settings",
    count: Annotated[int, typer.Option("--count", "-k", min=1, max=50, help="How many passages.")] = 5,
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


@app.command()
@with_settings("home")
def check(settings: "Settings") -> None:
    """Compare every passage with its manifest and source; exit 1 where they disagree."""
    from assistant.session import open_knowledge

    with open_knowledge(settings) as index:
        health, count = index.check(), len(index.list())
    typer.echo("\n".join(health.problems) or f"sound: {count} documents, each passage as it was added")
    raise typer.Exit(0 if health.ok else 1)


@app.command()
@with_settings("home")
def rebuild(settings: "Settings") -> None:
    """Build the index anew from its documents and swap it in: removed text is gone from the disk."""
    from assistant.session import open_knowledge

    with narrate("rebuilding") as progress, open_knowledge(settings, progress) as index:
        index.rebuild(progress)
    typer.echo("rebuilt")
