"""What all tools share: a command line, and a line of log for each call that fails.

Nothing here or in the tools imports the plant: a tool knows what its command tells it.
"""

import contextlib
from collections.abc import Iterator

import typer


def tool() -> typer.Typer:
    """A command line without completion; what fails keeps its traceback in the tool's log."""
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@contextlib.contextmanager
def log_failure(where: tuple[str, int]) -> Iterator[None]:
    """Print a call that fails in the block, and go on: what a tool prints becomes its log."""
    try:
        yield
    except OSError as error:
        print(f"{where[0]}:{where[1]}: {error}", flush=True)  # noqa: T201
