"""The command line: a command parses, calls one function, prints.

Nothing heavy is imported before a command runs, so ``faultwise --help`` answers at once.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from assistant.cli import doors, inventory, knowledge, research, serving, testbed, watching
from assistant.cli.options import (
    CapturePath,
    OutFile,
    narrate,
    print_json,
    say_notes,
    with_settings,
    write_parquet,
)
from assistant.cli.tuning import (  # noqa: F401  registers its commands
    adapters,
    align,
    experts,
    federating,
    refreshing,
    training,
    transfer,
)
from assistant.cli.vain_work import spare_vain_work
from assistant.offline import go_offline, hush_libraries
from traffic.errors import UserError

if TYPE_CHECKING:
    from assistant.settings import Settings


app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(knowledge.kb_app, name="kb")
app.add_typer(inventory.plant_app, name="plant")
app.add_typer(adapters.adapters_app, name="adapters")
app.add_typer(inventory.feedback_app, name="feedback")
app.add_typer(watching.alarms_app, name="alarms")
app.add_typer(watching.audit_app, name="audit")
app.command()(watching.monitor)
app.command()(doors.locate)
app.command()(doors.mcp)
app.command()(doors.export)
app.command()(doors.bundle)
app.add_typer(doors.users_app, name="users")
app.command()(serving.serve)
app.add_typer(research.finetune, name="finetune")
research.evaluate.command("locate")(doors.grade_located)
app.add_typer(research.evaluate, name="eval")
app.add_typer(testbed.app, name="testbed")

Question = Annotated[str, typer.Argument(help='In your own words: "why does the PLC not answer?"')]
Device = Annotated[str | None, typer.Option(help="The device meant, by name or address.")]
AskedCapture = Annotated[
    Path, typer.Option("--capture", help="The capture to look into.", metavar="PATH")
]
OpenCapture = Annotated[
    Path | None,
    typer.Option("--capture", help="The capture to talk about.", metavar="PATH", exists=True),
]

# The options of every command that reads a capture with the model.
_ANALYSIS = ("home", "plant", "local", "site", "adapter", "model")
# Those of a command that answers too.
_ANSWERING = (*_ANALYSIS, "writer", "model_url", "writer_model", "examples")
_ASKING = (*_ANSWERING, "logs", "readings")


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import version

    from eval.provenance import find_commit

    typer.echo(" ".join(["faultwise", version("faultwise"), find_commit()]).rstrip())
    raise typer.Exit


@app.callback()
def _begin(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="And the commit."),
    ] = False,
) -> None:
    """Ask your plant network why: finds and explains faults and attacks in captured traffic, on
    this machine only."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: what follows the command's name; the process's own by default.

    Returns:
        Exit status: 0 done, 1 a check found a problem, 2 a user's mistake (one line on stderr), 130
            interrupted.
    """
    go_offline()
    hush_libraries()
    spare_vain_work()
    try:
        return app(arguments, prog_name="faultwise", standalone_mode=False) or 0
    except UserError as mistake:
        return _refuse(str(mistake))
    except typer.TyperException as mistake:  # an unknown option, a missing argument
        return _refuse(f"{mistake.format_message()} `faultwise --help` lists what there is.")
    except (KeyboardInterrupt, typer.Abort):
        return 130


def _refuse(message: str) -> int:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    return 2


@app.command()
@with_settings(*_ASKING)
def ask(
    question: Question,
    settings: "Settings",
    capture: AskedCapture,
    device: Device = None,
    form: Annotated[Literal["text", "json", "md"], typer.Option("--format")] = "text",
    long: Annotated[bool, typer.Option("--long", help="All facts, causes and passages.")] = False,
) -> None:
    """Answer a question about a capture, with the evidence."""
    from assistant.answers.answer import answer
    from assistant.diagnosis.llm_writer import write
    from assistant.report import render_diagnosis
    from assistant.session import analyse, load_models, open_knowledge

    # The capture first: where it cannot be read, no state is touched.
    with narrate("reading the capture") as progress:
        models = load_models(settings)
        analysis = analyse(capture, settings, models, progress)
    with narrate("looking things up") as progress, open_knowledge(settings, progress) as index:
        composed = answer(question, analysis, index, device)
        diagnosis = write(composed, models.writer, analysis.plant)
    say_notes(analysis.capture.notes)
    typer.echo(render_diagnosis(diagnosis, form, long))


@app.command()
def flows(path: CapturePath) -> None:
    """Print a capture's flows as a Zeek conn.log (TSV)."""
    from traffic.reader import read_capture
    from traffic.zeek import write_conn_log

    with narrate("reading the capture"):
        capture = read_capture(path)
    say_notes(capture.notes)
    write_conn_log(capture.flows, sys.stdout)


@app.command()
@with_settings("plant", "local")
def windows(path: CapturePath, settings: "Settings", out: OutFile = None) -> None:
    """Show a capture's windows: what each device did in 60 seconds."""
    from assistant.report import window_table, window_tables
    from assistant.session import open_windows

    with ExitStack() as stack:
        with narrate("reading the capture"):
            reading = stack.enter_context(open_windows(path, settings))
        say_notes(reading.notes)
        if out is not None:
            write_parquet(window_tables(reading.windows), out)
            return
        for windows in reading.windows:
            typer.echo(window_table(windows))


@app.command()
@with_settings(*_ANALYSIS)
def classify(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="A capture as `windows` reads it, or SITE=PATH for each of several sites, which are "
            "judged together, each by its own adapter.",
            metavar="PATH",
        ),
    ],
    settings: "Settings",
    form: Annotated[Literal["table", "jsonl", "csv"], typer.Option("--format")] = "table",
) -> None:
    """Give every window a verdict: a label, how sure, and the probabilities of the others."""
    from assistant.report import verdict_csv, verdict_lines, verdict_table
    from assistant.session import load_models, open_verdicts
    from assistant.sites import open_site_verdicts, parse_captures

    with ExitStack() as stack:
        with narrate("classifying") as progress:
            if captures := parse_captures(paths, settings):
                opened = open_site_verdicts(captures, settings, progress)
            else:
                opened = open_verdicts(Path(paths[0]), settings, load_models(settings), progress)
            judged = stack.enter_context(opened)
        say_notes(judged.notes)
        for number, verdicts in enumerate(judged.verdicts):
            if form == "jsonl":
                sys.stdout.writelines(line + "\n" for line in verdict_lines(verdicts))
            elif form == "csv":
                typer.echo(verdict_csv(verdicts, header=number == 0), nl=False)
            else:
                typer.echo(verdict_table(verdicts))


@app.command()
@with_settings(*_ANALYSIS)
def incidents(
    path: CapturePath,
    settings: "Settings",
    form: Annotated[Literal["table", "json"], typer.Option("--format")] = "table",
) -> None:
    """List what went wrong: verdicts of one cause, merged."""
    from assistant.answers.incidents.condition import judge_all
    from assistant.diagnosis.compose import clock_of
    from assistant.report import incident_table
    from assistant.session import analyse, load_models

    with narrate("classifying") as progress:
        analysis = analyse(path, settings, load_models(settings), progress, records=False)
    say_notes(analysis.capture.notes)
    if form == "json":
        print_json(analysis.incidents)
    else:
        judged = judge_all(analysis).line.text
        typer.echo(
            incident_table(analysis.incidents, judged, clock_of(analysis), analysis.view.name_of)
        )


@app.command()
@with_settings("plant", "local")
def compare(
    before: CapturePath,
    after: CapturePath,
    settings: "Settings",
    form: Annotated[Literal["text", "json"], typer.Option("--format")] = "text",
) -> None:
    """Say what is different between two captures of a plant."""
    from assistant.answers.traffic.changes import compare_captures
    from assistant.session import read_view

    with narrate("reading the captures"):
        views = [read_view(path, settings) for path in (before, after)]
    for view in views:
        say_notes(view.quality.notes)
    facts = compare_captures(*views)
    if form == "json":
        print_json(facts)
    else:
        typer.echo("\n".join([facts[0].text, *(f"- {one.text}" for one in facts[1:])]))


@app.command()
@with_settings(*_ANALYSIS)
def prove(
    wanted: Annotated[str, typer.Argument(metavar="FACT|INCIDENT", help="The id of either.")],
    settings: "Settings",
    capture: AskedCapture,
) -> None:
    """Show the frames that a fact rests on, and whether tshark counts the same there."""
    from assistant.diagnosis.proof import find_facts, recount
    from assistant.report import render_recounts
    from assistant.session import analyse, load_models
    from traffic.reader import find_pcaps

    with narrate("classifying") as progress:
        analysis = analyse(capture, settings, load_models(settings), progress, records=False)
    say_notes(analysis.capture.notes)
    pcaps = find_pcaps(capture)
    facts = find_facts(wanted, analysis.incidents)
    typer.echo(render_recounts([recount(fact, pcaps) for fact in facts]))


@app.command()
@with_settings(*_ASKING)
def chat(settings: "Settings", capture: OpenCapture = None) -> None:
    """Talk about a capture: one question a line, an empty line or Ctrl-D ends."""
    from assistant.chat import Conversation
    from assistant.report import without_marks
    from assistant.session import open_session

    with open_session(settings) as session:
        with narrate("reading the capture") as progress:
            analysis = session.analyse(capture, progress) if capture else None
        conversation = Conversation(analysis, session.index, session.history, session.models.writer)
        say_notes(analysis.capture.notes if analysis else ())
        for question in _asked():
            with narrate("looking"):
                reply = conversation.reply(question)
            typer.echo(f"{without_marks(reply.text)}\n")


def _asked() -> Iterator[str]:
    """Lines from a person or a pipe, up to an empty one; the prompt stands only where a person
    sits."""
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
        if not line.strip():
            return
        yield line.strip()


@app.command()
def simulate(
    out: Annotated[Path, typer.Option(help="A folder that does not exist yet.", metavar="FOLDER")],
    seed: Annotated[int, typer.Option(help="The same seed makes the same traffic.")] = 0,
    devices: Annotated[int, typer.Option(min=1, max=250)] = 20,
    hours: Annotated[float, typer.Option(min=0.02, max=72)] = 1.0,
    scenario: Annotated[
        list[str] | None, typer.Option(help="A label that shall happen; by default several.")
    ] = None,
) -> None:
    """Invent a plant and its traffic, faults and attacks included: conn.log, truth.csv,
    plant.yaml."""
    from traffic.simulation.simulate import simulate as invent
    from traffic.simulation.simulate import write_simulation

    if out.exists():
        raise UserError(f"{out} exists already; expected a new folder; name another with --out")
    with narrate("simulating"):
        write_simulation(
            invent(seed, devices=devices, hours=hours, scenarios=scenario or None), out
        )
    typer.echo(f"wrote {out}/conn.log, evidence.csv, truth.csv and plant.yaml")


@app.command()
@with_settings(*_ANSWERING)
def doctor(
    settings: "Settings",
    prove: Annotated[
        bool, typer.Option("--prove", help="Answer a question too, and see that nothing calls out.")
    ] = False,
) -> None:
    """Check this machine: packages, model, knowledge base, folders; exit 1 where something is
    wrong."""
    from assistant.doctor import examine, prove_offline, render_checks

    with narrate("examining"):
        checks = [*examine(settings), *([prove_offline()] if prove else [])]
    typer.echo(render_checks(checks))
    raise typer.Exit(1 if any(one.state == "problem" for one in checks) else 0)
