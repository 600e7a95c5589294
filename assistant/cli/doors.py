"""What other programs reach the assistant by: ``faultwise locate``, ``users``, ``mcp``, ``export``."""

import getpass
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from assistant.cli.options import narrate, print_json, say_notes, with_settings

if TYPE_CHECKING:
    from assistant.settings import Settings


@with_settings("home", "plant", "local", "examples")
def locate(
    settings: "Settings",
    commands: Annotated[
        Path,
        typer.Option(help="Failed commands, a JSON object a line: docs/agent.md.", metavar="JSONL"),
    ],
    capture: Annotated[Path, typer.Option(help="The capture of that time.", metavar="PATH")],
    manuals: Annotated[
        bool, typer.Option("--manuals/--no-manuals", help="Ask the knowledge base too.")
    ] = True,
    form: Annotated[Literal["text", "json", "jsonl"], typer.Option("--format")] = "text",
) -> None:
    """Say of failed commands of an agent whose fault each was: the network's, the device's or the
    command's."""
    from assistant.locate import read_commands
    from assistant.locate.open import locate_in, render_located

    failed = read_commands(commands)
    with narrate("reading the capture"):
        located = locate_in(capture, failed, settings, manuals)
    say_notes(located.notes)
    if form == "json":
        print_json(located.found)
    else:
        for one in located.found:
            typer.echo("\n".join(render_located(one, form)))


def grade_located(
    folders: Annotated[
        list[Path], typer.Argument(help="What `python -m eval.testbed.cases.agent` recorded.")
    ],
    form: Annotated[Literal["text", "json"], typer.Option("--format")] = "text",
) -> None:
    """Grade `locate` on recorded agents: failed commands laid to the right one of network, device
    and command, with the device's manual and without it."""
    from eval.answers.located import grade, render_score

    with narrate("locating"):
        score = grade(folders)
    if form == "json":
        print_json(score)
    else:
        typer.echo(render_score(score))


# ---- How a server is opened ----

Host = Annotated[
    str, typer.Option(help="The address to listen at; another than 127.0.0.1 asks for a login.")
]
Login = Annotated[bool, typer.Option("--login", help="Ask for a login on this machine too.")]
Hostname = Annotated[
    list[str] | None, typer.Option(help="A further name under which browsers call this server.")
]
Certificate = Annotated[Path | None, typer.Option("--tls-cert", help="PEM file, for TLS.")]
Key = Annotated[Path | None, typer.Option("--tls-key", help="PEM file of its key.")]

# ---- Users and tokens ----

users_app = typer.Typer(
    help="Who may use the server: people with passwords, programs with tokens.",
    no_args_is_help=True,
)
Name = Annotated[str, typer.Argument(help="Letters, digits, dots, dashes.")]
RoleOption = Annotated[
    Literal["operator", "engineer", "admin"],
    typer.Option(
        help="operator reads, asks and takes alarms; engineer opens captures too; admin all."
    ),
]


@users_app.command("add")
@with_settings("home")
def add_user(
    name: Name,
    settings: "Settings",
    role: RoleOption = "operator",
    from_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from a line of stdin.")
    ] = False,
) -> None:
    """Add a person; the password is asked for and never stands in a command."""
    from assistant.api.users import open_users

    password = sys.stdin.readline().rstrip("\n") if from_stdin else _ask_password()
    with open_users(settings.home) as users:
        users.add(name, password, role, getpass.getuser())
    typer.echo(f"{name} is {role}; the server asks for a login from its next start on")


def _ask_password() -> str:
    from traffic.errors import UserError

    first = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != first:
        raise UserError("the two passwords differ; expected the same twice; try again")
    return first


@users_app.command("list")
@with_settings("home")
def list_users(settings: "Settings") -> None:
    """List people and tokens."""
    from assistant.api.users import open_users
    from assistant.report import clock, render_table

    with open_users(settings.home) as users:
        found = users.list()
    rows = [
        [one["kind"], one["name"], one["role"],
         f"expires {clock(one['expires_s'])}" if one["kind"] == "token"
         else f"locked until {clock(one['locked_s'])}" if one["locked_s"] > time.time() else ""]
        for one in found
    ]  # fmt: skip
    typer.echo(render_table(["kind", "name", "role", "(UTC)"], rows))


@users_app.command("remove")
@with_settings("home")
def remove_user(name: Name, settings: "Settings") -> None:
    """Remove a person with his sessions, or a token."""
    from assistant.api.users import open_users

    with open_users(settings.home) as users:
        users.remove(name, getpass.getuser())
    typer.echo(f"{name} may not come in any more")


@users_app.command("token")
@with_settings("home")
def add_token(
    name: Name,
    settings: "Settings",
    role: RoleOption = "operator",
    days: Annotated[float, typer.Option(help="Until it expires, at most 366.")] = 90.0,
) -> None:
    """Make a token for a program, for REST, MCP and metrics; it is shown once."""
    from assistant.api.users import open_users

    with open_users(settings.home) as users:
        typer.echo(users.add_token(name, role, days, getpass.getuser()))


# ---- MCP and exports ----


@with_settings(
    "home", "plant", "local", "site", "adapter", "model", "writer", "model_url", "writer_model",
    "examples", "logs", "readings",
)  # fmt: skip
def mcp(
    settings: "Settings",
    capture: Annotated[
        Path | None, typer.Option("--capture", help="The capture to ask about.", metavar="PATH")
    ] = None,
) -> None:
    """Offer eight read-only tools over stdio by the Model Context Protocol."""
    from assistant.api.desk import Desk
    from assistant.api.mcp import make_mcp
    from assistant.session import open_session

    with open_session(settings) as session:
        desk = Desk(session)
        if capture is not None:
            desk.open(capture)
        make_mcp(desk).run("stdio")


@with_settings("home")
def export(
    settings: "Settings",
    form: Annotated[Literal["jsonl", "cef", "syslog", "stix"], typer.Option("--format")] = "jsonl",
    hours: Annotated[float, typer.Option(min=0, help="How far back.")] = 24.0,
    to: Annotated[
        str,
        typer.Option(
            help="Send what was raised since the last time, as JSON or as syslog over UDP.",
            metavar="http://HOST/PATH|syslog://HOST:514",
        ),
    ] = "",
    every: Annotated[
        float, typer.Option(min=0, help="With --to: go on, every so many seconds.")
    ] = 0.0,
) -> None:
    """Give alarms to other systems: JSON lines, CEF, syslog (RFC 5424), STIX 2.1, or a webhook on
    the plant's network."""
    from contextlib import closing

    from assistant.api.exports import export as make
    from assistant.api.exports import send_new
    from assistant.history import History
    from traffic.errors import UserError

    with closing(History(settings.home / "history.sqlite")) as history:
        if not to:
            typer.echo(make(history, form, hours, settings.home), nl=False)
            return
        cursor = settings.home / "exported.json"
        while True:
            try:
                typer.echo(f"{send_new(history, to, cursor)} alarms sent to {to}")
            except UserError as mistake:
                if not every:
                    raise
                typer.echo(f"error: {mistake}; tried again in {every:g} s", err=True)
            if not every:
                return
            time.sleep(every)


def bundle(
    out: Annotated[Path, typer.Argument(help="The archive to write, a .tar.", metavar="F.tar")],
    documents: Annotated[
        list[Path] | None, typer.Option(help="A manual, or a folder of them, to take along.")
    ] = None,
) -> None:
    """Make one archive for a machine without internet: wheels, weights, manuals, checksums, a list of
    parts, an installer."""
    from assistant.bundle import make_bundle

    with narrate("fetching"):
        made = make_bundle(out, documents or ())
    typer.echo(f"{made.path}: {made.files} files, {made.size_bytes / 1e6:,.0f} MB")
    typer.echo(f"sha256 {made.sha256}")
