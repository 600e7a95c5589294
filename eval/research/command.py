"""What a measure that is a command of its own has in common with the others: it runs commands of the
product as an engineer does, and its page goes to a file or to stdout."""

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from assistant.cli.main import main as run_command
from traffic.errors import UserError
from traffic.files import write_text

# The recording that a measure is made over where none is named.
SAMPLE = Path(__file__).parents[2] / "assistant" / "samples" / "filling-line"


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


def publish(page: str, out: Path | None) -> None:
    """Write a page to a file, or to stdout where none is named."""
    if out:
        write_text(out, page)
    else:
        sys.stdout.write(page)
