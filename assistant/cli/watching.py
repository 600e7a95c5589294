"""``faultwise audit``: what is watched live, and who changed what."""

from typing import TYPE_CHECKING

import typer

from assistant.cli.options import with_settings

if TYPE_CHECKING:
    from assistant.settings import Settings

audit_app = typer.Typer(
    help="Who changed what, in a log that is only added to.", no_args_is_help=True
)

# By outcome; 2 is a user's mistake, as everywhere.
_EXIT = {"whole": 0, "altered": 1, "cut": 3, "not there": 4}


@audit_app.command()
@with_settings("home")
def check(settings: "Settings") -> None:
    """Check that the audit log is as it was written; exit 0 whole, 1 altered, 3 cut, 4 not
    there."""
    from assistant.audit import check_audit

    found = check_audit(settings.home / "history.sqlite")
    typer.echo(f"{found.outcome}: {found.text}")
    raise typer.Exit(_EXIT[found.outcome])
