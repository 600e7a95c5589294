"""What a measure that is a command of its own has in common with the others: it runs commands of the
product as an engineer does, and its page goes to a file or to stdout."""

import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Annotated

import typer

from assistant.cli.main import main as run_command
from assistant.offline import go_offline
from traffic.errors import UserError
from traffic.files import write_text

Out = Annotated[Path | None, typer.Option(help="A file for the page, instead of the screen.")]
Work = Annotated[Path, typer.Option(help="Keeps what a killed run made.")]

# The recording that a measure is made over where none is named.
SAMPLE = Path(__file__).parents[2] / "assistant" / "samples" / "filling-line"
Recording = Annotated[Path, typer.Argument(help="Folder of a recording with its plant.yaml.")]


def start(measure: Callable[..., None]) -> None:
    """Run a measure from the shell: its arguments are the command's, its docstring is the help."""
    go_offline()
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(measure)
    try:
        app()
    except UserError as mistake:
        typer.echo(f"error: {mistake}", err=True)
        sys.exit(2)


def run(words: Sequence[str], name: str = "") -> str:
    """Run a command of ``faultwise`` and return what it says.

    Args:
        words: of its command line.
        name: of what is made, for the error; by default the command's first two words.

    Raises:
        UserError: the command refused.
    """
    said = StringIO()
    with redirect_stdout(said):
        done = run_command([*words])
    if done:
        name = name or " ".join(words[:2])
        raise UserError(f"{name} was refused, see above; expected it to work; correct the call")
    return said.getvalue()


def choose(asked: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """Those of the known names that are asked for, all where none is.

    Raises:
        UserError: one is unknown.
    """
    if unknown := [name for name in asked or () if name not in known]:
        raise UserError(f"{unknown[0]} is unknown; expected some of {', '.join(known)}; correct it")
    return [name for name in known if name in (asked or known)]


def publish(page: str, out: Path | None) -> None:
    """Write a page to a file, or to stdout where none is named."""
    if out:
        write_text(out, page)
    else:
        sys.stdout.write(page)
