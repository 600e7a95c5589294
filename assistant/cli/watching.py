"""``faultwise monitor``, ``alarms`` and ``audit``: the plant live, what was raised, who changed what."""

import getpass
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from assistant.cli.options import (
    Anew,
    Interface,
    LookBack,
    Operators,
    Replay,
    RunAs,
    Speed,
    ZeekDir,
    narrate,
    with_settings,
)
from assistant.cli.vain_work import keep_what_is_loaded

if TYPE_CHECKING:
    from assistant.monitor.watched import SlotReport
    from assistant.settings import Settings

alarms_app = typer.Typer(
    help="What the monitor raised, and what people do with it.", no_args_is_help=True
)
audit_app = typer.Typer(
    help="Who changed what, in a log that is only added to.", no_args_is_help=True
)

# By outcome; 2 is a user's mistake, as everywhere.
_EXIT = {"whole": 0, "altered": 1, "cut": 3, "not there": 4}

Incident = Annotated[str, typer.Argument(metavar="INCIDENT", help="The id of an alarm.")]
Who = Annotated[str | None, typer.Option(help="Your name.", show_default="of this account")]
Why = Annotated[str, typer.Option(help="The reason, in your words.")]
Hours = Annotated[float, typer.Option(min=0.01, max=2160, help="For how long.")]


@with_settings("home", "plant", "local", "site", "adapter", "model")
def monitor(
    settings: "Settings",
    zeek_dir: ZeekDir = None,
    interface: Interface = None,
    replay: Replay = None,
    speed: Speed = 1.0,
    anew: Anew = False,
    state: Annotated[
        Path | None,
        typer.Option(
            help="Folder of what is kept to go on after a stop.",
            metavar="FOLDER",
            show_default="monitor in the home",
        ),
    ] = None,
    minutes: LookBack = 60.0,
    packets: Annotated[
        int, typer.Option(min=1000, help="How many packets, or rows of logs, are looked back at.")
    ] = 600_000,
    operators: Operators = 1,
    user: RunAs = "",
    verdicts: Annotated[
        bool, typer.Option("--verdicts", help="With jsonl: every window's verdict too.")
    ] = False,
    form: Annotated[Literal["text", "jsonl"], typer.Option("--format")] = "text",
) -> None:
    """Watch a plant live: a line for each alarm, until Ctrl-C or the end of a replay."""
    from assistant.history import History
    from assistant.monitor.alarm_list import read_meter
    from assistant.monitor.open import open_source
    from assistant.monitor.tell import json_lines, text_lines
    from assistant.monitor.watch import Monitor
    from assistant.monitor.watched import Bounds, Watched
    from assistant.session import load_models, read_plant
    from traffic.files import own_folder

    folder = state or settings.home / "monitor"
    lock = own_folder(folder, "the monitor's state")
    try:
        plant = read_plant(settings)
        source, name = open_source(zeek_dir, interface, replay, speed, user, folder, anew)
        with narrate("loading the model"):
            models = load_models(settings)
        with closing(History(settings.home / "history.sqlite")) as history:
            bounds = Bounds(horizon_s=minutes * 60, most_rows=packets)
            watched = Watched(source, models.llm, models.card, history, folder, name, plant,
                              settings.local, bounds)  # fmt: skip

            def tell(report: "SlotReport") -> None:
                if form == "jsonl":
                    lines = json_lines(report, verdicts)
                else:
                    lines = text_lines(report, plant, read_meter(history, report.end_s, operators))
                for line in lines:
                    sys.stdout.write(line + "\n")
                sys.stdout.flush()

            with _noting_signals() as stopped, closing(Monitor(watched)) as running:
                keep_what_is_loaded()
                running.run(tell, lambda: bool(stopped))
    finally:
        lock.release()


@contextmanager
def _noting_signals() -> Iterator[list[int]]:
    """Let a slot be finished before Ctrl-C or a stop ends the process: signals that come are listed."""
    came: list[int] = []
    before = {
        one: signal.signal(one, lambda number, _: came.append(number))
        for one in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield came
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@alarms_app.command("list")
@with_settings("home", "plant")
def list_all(
    settings: "Settings",
    hours: Annotated[
        float, typer.Option(min=0, help="Those that were over earlier are left out.")
    ] = 24,
    tier: Annotated[Literal["log", "notification", "alarm"], typer.Option()] = "notification",
    form: Annotated[Literal["table", "json"], typer.Option("--format")] = "table",
) -> None:
    """List alarms with their states, those that go on first; how many there are, and who raises
    most."""
    from contextlib import closing
    from dataclasses import asdict

    from assistant.cli.options import print_json
    from assistant.history import History
    from assistant.monitor.alarm_list import find_standing, list_alarms, read_meter
    from assistant.monitor.tell import alarm_table
    from assistant.session import read_plant

    with closing(History(settings.home / "history.sqlite")) as history:
        found = list_alarms(history, tier=tier)
        # By the traffic's clock: a replay's alarms are of its own time.
        now_s = max([one.returned_s or one.incident_end_s for one in found], default=time.time())
        kept = [one for one in found if (one.returned_s or now_s) >= now_s - hours * 3600]
        rows = [(one, find_standing(one, history, time.time())) for one in kept]
        meter = read_meter(history, now_s)
    if form == "json":
        print_json({"alarms": [asdict(a) | {"state": asdict(s)} for a, s in rows], "meter": meter})
        return
    typer.echo(alarm_table(rows, read_plant(settings)))
    flood = ", a flood" if meter.flood else ""
    typer.echo(f"{meter.last:.0f} alarms in the last ten minutes{flood}")
    for device, label, n in meter.actors[:3]:
        typer.echo(f"raised {n} times in a day: {label} of {device}")


@alarms_app.command()
@with_settings("home")
def acknowledge(settings: "Settings", incident: Incident, why: Why = "", who: Who = None) -> None:
    """Say that you have taken an alarm."""
    _declare(settings, incident, "acknowledged", who, why, None, "acknowledge")


@alarms_app.command()
@with_settings("home")
def shelve(
    settings: "Settings", incident: Incident, why: Why, hours: Hours = 8.0, who: Who = None
) -> None:
    """Hide an alarm for a time, with a reason."""
    _declare(settings, incident, "shelved", who, why, time.time() + hours * 3600, "shelve")


@alarms_app.command()
@with_settings("home")
def undo(settings: "Settings", incident: Incident, who: Who = None) -> None:
    """Take back what was declared of an alarm last."""
    from assistant.history import History

    with closing(History(settings.home / "history.sqlite")) as history:
        undone = history.undo(incident, who or getpass.getuser())
    typer.echo(f"{undone.state} by {undone.who} was taken back" if undone else "nothing stands")


@alarms_app.command()
@with_settings("home")
def suppress(
    settings: "Settings",
    why: Why,
    device: Annotated[str, typer.Option(help="Its address.", show_default="the whole plant")] = "",
    hours: Hours = 4.0,
    who: Who = None,
) -> None:
    """Declare maintenance from now on: what is raised meanwhile is kept and calls nobody."""
    from assistant.history import History
    from assistant.monitor.alarm_list import suppress as declare

    now_s = time.time()
    with closing(History(settings.home / "history.sqlite")) as history:
        declare(history, device, now_s, now_s + hours * 3600, who or getpass.getuser(), why, now_s)
    typer.echo(f"suppressed for {hours:g} h: {device or 'the whole plant'}")


def _declare(
    settings: "Settings",
    incident: str,
    state: str,
    who: str | None,
    why: str,
    until_s: float | None,
    act: str,
) -> None:
    from assistant.history import History

    with closing(History(settings.home / "history.sqlite")) as history:
        history.set_state(incident, state, who or getpass.getuser(), why, until_s, act=act)
    typer.echo(f"{incident} is {state}")


@audit_app.command()
@with_settings("home")
def check(settings: "Settings") -> None:
    """Check that the audit log is as it was written; exit 0 whole, 1 altered, 3 cut, 4 not
    there."""
    from assistant.audit import check_audit

    found = check_audit(settings.home / "history.sqlite")
    typer.echo(f"{found.outcome}: {found.text}")
    raise typer.Exit(_EXIT[found.outcome])
