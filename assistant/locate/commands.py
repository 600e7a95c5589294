"""Failed commands of an agent that drives devices, as JSON lines: ``docs/agent.md`` has the fields.

The text of a command and of its error come from outside. They are shown, and never obeyed.
"""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationError

from traffic.errors import UserError
from traffic.files import Strict, read_text, say_mistakes

MOST_COMMANDS = 10_000
MOST_BYTES = 20_000_000
_LATEST_S = 32_503_680_000.0  # the year 3000: a later number is not in seconds


def _read_time(value: object) -> object:
    """Seconds since the epoch, of a number or of ISO 8601 with its zone."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            raise ValueError("expected seconds since the epoch, or ISO 8601") from None
        if moment.tzinfo is None:
            raise ValueError("expected a zone, as in 2026-09-21T14:18:22+02:00")
        return moment.timestamp()
    return value


Moment = Annotated[float, BeforeValidator(_read_time), Field(ge=0, le=_LATEST_S)]
Number = Annotated[int, Field(ge=0, le=0xFFFFFFFF)]
Line = Annotated[str, Field(max_length=200)]


class FailedCommand(Strict):
    """One command that failed, as the agent tells of it.

    Attributes:
        time: when it was sent, seconds since the epoch.
        device: whom it was for: a name of plant.yaml or of the network, or an address.
        command: what was to be done, in the agent's words or code.
        error: what the agent got instead.
        id: the agent's own number of it.
        until: when the agent gave up.
        source: the agent's address; whoever asked the device then, where it is not given.
        port, protocol, kind, function, unit, target, name: what of the command is known in
            numbers: the server's port, as conn.log names its service, of
            ``traffic.pcap.protocols``' kinds, function code, unit, register or object, topic.
    """

    time: Moment
    device: Annotated[str, Field(min_length=1, max_length=200)]
    command: Annotated[str, Field(max_length=4000)]
    error: Annotated[str, Field(max_length=4000)]
    id: Line = ""
    until: Moment | None = None
    source: Line = ""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    protocol: Line = ""
    kind: Literal["", "other", "read", "write", "control", "session", "publish", "identify"] = ""
    function: Number | None = None
    unit: Number | None = None
    target: Number | None = None
    name: Line = ""


def read_commands(path: Path) -> list[FailedCommand]:
    """Read a file of JSON lines, a command each.

    Raises:
        UserError: it cannot be read, is too large, or a line is no command; the line is said.
    """
    expected = "a command a line, as JSON with time, device, command and error"
    if path.is_file() and path.stat().st_size > MOST_BYTES:
        raise UserError(
            f"{path} has {path.stat().st_size:,} bytes; expected at most {MOST_BYTES:,}; split it"
        )
    return parse_commands(read_text(path, expected), str(path))


def parse_commands(text: str, source: str) -> list[FailedCommand]:
    """Commands of a text of JSON lines; ``source`` names it in messages.

    Raises:
        UserError: a line is no command, or there are none or too many.
    """
    lines = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines or len(lines) > MOST_COMMANDS:
        raise UserError(
            f"{source} holds {len(lines):,} commands; expected 1 to {MOST_COMMANDS:,}, one a line"
        )
    return [_parse(line, f"{source} line {number}") for number, line in lines]


def _parse(line: str, place: str) -> FailedCommand:
    try:
        return FailedCommand.model_validate(json.loads(line))
    except ValidationError as error:
        what = say_mistakes(error)
    except (ValueError, RecursionError) as error:
        what = f"is not JSON ({str(error)[:80]})"
    raise UserError(
        f"{place}: {what}; expected an object with time, device, command and error "
        "(docs/agent.md); correct it"
    )


# ---- What the words of an error tell of what happened on the agent's side ----

_ERRORS = (
    ("timeout", r"time[d]?[ -]?out|no response|no answer|errno (?:110|11)\b|unreachable|errno 11[23]\b|"
                r"no route|keep ?alive"),
    ("name", r"name or service|nodename|getaddrinfo|name resolution|unknown host|nxdomain"),
    ("refused", r"refused|errno 111\b"),
    ("reset", r"reset|broken pipe|errno (?:104|32)\b|closed|disconnect|connection lost"),
    ("connect", r"(?:connection|connect)\b.*\b(?:failed|error|aborted)|(?:could|can) ?not connect|"
                r"failed to connect|not connected"),
)  # fmt: skip


def read_error(error: str) -> Literal["timeout", "name", "refused", "reset", "connect", ""]:
    """What an error says of the network by the words of operating systems; "" where it says
    nothing.

    >>> read_error("[Errno 113] No route to host"), read_error("'H' format requires 0 <= number")
    ('timeout', '')
    """
    lowered = error.lower()
    for kind, words in _ERRORS:
        if re.search(words, lowered):
            return kind  # type: ignore[return-value]
    return ""
