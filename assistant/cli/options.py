"""The options that several commands share, declared once, and what every command does with its
result."""

import functools
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from traffic.errors import UserError

_SHARED: dict[str, Any] = {
    "home": Annotated[
        Path | None,
        typer.Option(
            help="Folder for state: knowledge base, history, adapters.",
            show_default="$FAULTWISE_HOME",
        ),
    ],
    "plant": Annotated[
        Path | None,
        typer.Option(
            help="Inventory of devices (plant.yaml); `faultwise plant discover` drafts one."
        ),
    ],
    "local": Annotated[
        list[str] | None,
        typer.Option(
            help="A network whose addresses are devices, beside the private ranges.", metavar="CIDR"
        ),
    ],
    "logs": Annotated[
        list[str] | None,
        typer.Option(
            help="Syslog or other log of devices, or a folder of them; DEVICE=PATH where its lines name none.",
            metavar="[DEVICE=]PATH",
        ),
    ],
    "readings": Annotated[
        list[str] | None,
        typer.Option(
            help="CSV of sensor readings, or a folder of them; DEVICE=PATH where it names no device.",
            metavar="[DEVICE=]PATH",
        ),
    ],
    "site": Annotated[
        str | None,
        typer.Option(
            help="Use this site's adapter: SITE, or SITE/FAMILY; `adapters list` lists them."
        ),
    ],
    "adapter": Annotated[
        Path | None,
        typer.Option(
            help="Folder of the adapter that classifies.", show_default="the shipped pocket model's"
        ),
    ],
    "model": Annotated[
        Path | None,
        typer.Option(
            help="Folder of the adapter's base model.", show_default="where its card says"
        ),
    ],
    "writer": Annotated[
        Path | None, typer.Option(help="Folder of an instruct model that words the answers.")
    ],
    "model_url": Annotated[
        str | None,
        typer.Option(
            help="OpenAI-compatible server on this network that words the answers.", metavar="URL"
        ),
    ],
    "writer_model": Annotated[
        str | None,
        typer.Option(help="The name by which that server knows its model.", metavar="NAME"),
    ],
    "examples": Annotated[
        bool | None,
        typer.Option(
            "--examples/--no-examples",
            help="Cite the shipped manuals and incidents, or leave them out.",
            show_default="until the plant has documents of its own",
        ),
    ],
}
# The option's name where it differs from the setting's.
_SETTING_OF = {"model_url": "remote_url", "writer_model": "remote_model"}

CapturePath = Annotated[
    Path,
    typer.Argument(
        help="A pcap or pcapng, a conn.log in any form, or a folder of them.", metavar="PATH"
    ),
]
OutFile = Annotated[
    Path | None, typer.Option(help="Write a Parquet file instead of printing.", metavar="F.parquet")
]


def with_settings(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the shared options ``names``; it receives them, with the environment, as its
    ``settings``."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def parsed(**given: Any) -> None:
            from assistant.settings import read_settings

            options = {_SETTING_OF.get(name, name): given.pop(name) for name in names}
            command(settings=read_settings(**options), **given)

        own = [p for p in inspect.signature(command).parameters.values() if p.name != "settings"]
        shared = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_SHARED[name]
            )
            for name in names
        ]
        # Typer reads the signature; the command itself keeps only what is its own.
        parsed.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
        parsed.__annotations__ = {}
        return parsed

    return decorate


def say_notes(notes: tuple[str, ...]) -> None:
    """Tell on stderr what was skipped or assumed, so that stdout carries only the result."""
    for note in notes:
        typer.echo(f"note: {note}", err=True)


@contextmanager
def narrate(doing: str) -> Iterator[Callable[[int, int], None]]:
    """Show on stderr that work goes on and for how long, where a person looks; nothing in a pipe.

    Yields:
        A function to call with (done, in all), which turns the moving bar into a measured one.
    """
    if not sys.stderr.isatty():
        yield lambda _done, _all: None
        return
    from rich.console import Console
    from rich.progress import Progress, TimeElapsedColumn

    columns = (*Progress.get_default_columns()[:-1], TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(doing, total=None)
        yield lambda done, of: progress.update(task, completed=done, total=of)


@contextmanager
def narrate_stages() -> Iterator[Callable[[str, int, int], None]]:
    """Show on stderr what long work does, how much of it is done and the time left; nothing in a
    pipe.

    Yields:
        A function to call with (what is being done, done, in all).
    """
    if not sys.stderr.isatty():
        yield lambda _doing, _done, _all: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def show(doing: str, done: int, of: int) -> None:
            if doing not in tasks:  # each stage has a pace of its own
                for earlier in tasks.values():
                    bar.update(earlier, visible=False)
                tasks[doing] = bar.add_task(doing, total=of)
            bar.update(tasks[doing], completed=done, total=of)

        yield show


def write_parquet(tables: Iterator[Any], path: Path) -> None:
    """Write DataFrames of one form, one under the other, beside the file's final name first: a
    reader never sees half a file.

    Raises:
        UserError: the folder is missing or cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    draft = path.with_name(f".{path.name}.{os.getpid()}")
    first = pa.Table.from_pandas(next(tables), preserve_index=False)
    try:
        with pq.ParquetWriter(draft, first.schema) as writer:
            writer.write_table(first)
            for table in tables:
                writer.write_table(pa.Table.from_pandas(table, first.schema, preserve_index=False))
        os.replace(draft, path)
    except OSError as mistake:
        raise UserError(
            f"{path} cannot be written: {mistake.strerror or mistake}; expected a file in an existing, writable folder"
        ) from mistake
    finally:
        draft.unlink(missing_ok=True)


def print_json(value: Any) -> None:
    """One JSON document on stdout, for scripts."""
    from assistant.report import plain

    typer.echo(json.dumps(plain(value), indent=2, ensure_ascii=False))


# ---- Where live traffic comes from: `monitor` and `serve` take the same ----

ZeekDir = Annotated[
    Path | None, typer.Option(help="A folder that Zeek writes its logs to.", metavar="FOLDER")
]
Interface = Annotated[
    str | None, typer.Option(help="A network interface, at a mirror port.", metavar="NAME")
]
Replay = Annotated[
    Path | None, typer.Option(help="A recording, given as if it were live.", metavar="PATH")
]
Speed = Annotated[
    float, typer.Option(min=0, help="Of a replay: 10 is ten times faster, 0 as fast as possible.")
]
Anew = Annotated[
    bool, typer.Option("--anew", help="Begin anew, and not where the last time was interrupted.")
]
LookBack = Annotated[
    float, typer.Option(min=5, max=24 * 60, help="Minutes of live traffic that are looked back at.")
]
Operators = Annotated[int, typer.Option(min=1, help="How many share the alarms.")]
RunAs = Annotated[
    str, typer.Option(help="Whom root becomes once the interface is open; owns the state.")
]
