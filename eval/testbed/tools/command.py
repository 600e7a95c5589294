"""What all tools share: a command line, and a line of log for each call that fails.

Nothing here or in the tools imports the plant: a tool knows what its command tells it.
"""

import typer


def tool() -> typer.Typer:
    """A command line without completion; what fails keeps its traceback in the tool's log."""
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def log_failure(address: str, port: int, error: OSError) -> None:
    """Print a failed call: what a tool prints becomes its log."""
    print(f"{address}:{port}: {error}", flush=True)  # noqa: T201
