"""``faultwise testbed``: record an emulated plant with the truth of what happened in it."""

from pathlib import Path
from typing import Annotated

import typer

from assistant.cli.options import narrate

app = typer.Typer(
    help="An emulated plant: real packets, real faults, their truth. Root on Linux.",
    no_args_is_help=True,
)

Minutes = Annotated[float, typer.Option(min=1, max=24 * 60, help="Length of a capture.")]


@app.command()
def record(
    out: Annotated[Path, typer.Option(help="A folder that does not exist yet.", metavar="FOLDER")],
    seed: Annotated[
        int, typer.Option(min=0, help="The same seed makes the same plant and the same events.")
    ] = 0,
    minutes: Minutes = 15.0,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="An event that shall happen; by default they are drawn."),
    ] = None,
) -> None:
    """Record one run: capture.pcap, truth.json, plant.yaml, the machines' logs and sensor
    readings."""
    from eval.testbed.record import record as record_run

    raise typer.Exit(record_run(seed, minutes, out, kind or ()))


@app.command()
def run(
    out: Annotated[
        Path, typer.Option(help="Gets a folder for each run; complete ones there are kept.")
    ],
    seeds: Annotated[int, typer.Option(min=1, help="How many runs.")] = 12,
    first: Annotated[int, typer.Option(min=0, help="Seed of the first.")] = 1,
    minutes: Minutes = 15.0,
    at_once: Annotated[int, typer.Option(min=1, help="Runs side by side.")] = 4,
) -> None:
    """Record a set of runs, several side by side, and its card; exit 1 where one did not end as
    planned."""
    from eval.testbed.dataset import render_card
    from eval.testbed.record import record_series
    from traffic.files import write_text

    with narrate("recording") as progress:
        runs = record_series(range(first, first + seeds), minutes, out, at_once, progress)
    for one in runs:
        state = "recorded" if one.remade else "was there"
        if not one.complete:
            state = f"incomplete, {one.folder}.log says why"
        typer.echo(f"{one.folder}: {state}")
    complete = [one.folder for one in runs if one.complete]
    write_text(out / "README.md", render_card(complete))
    raise typer.Exit(0 if len(complete) == len(runs) else 1)


@app.command()
def excerpt(
    folder: Annotated[Path, typer.Argument(help="A recorded run.", metavar="FOLDER")],
    out: Annotated[Path, typer.Option(help="A folder that does not exist yet.", metavar="FOLDER")],
    machine: Annotated[
        list[str], typer.Option(help="A name of its plant.yaml, or an address; two or more.")
    ],
    start: Annotated[float, typer.Option(min=0, help="Seconds after the run's start.")] = 0.0,
    end: Annotated[float, typer.Option(min=1, help="Likewise.")] = 600.0,
) -> None:
    """Cut a small sample out of a run: what some machines said to each other for a while, with its
    truth."""
    from eval.testbed.dataset import excerpt as write_excerpt

    truth = write_excerpt(folder, out, machine, start, end)
    size, length_s = (out / "capture.pcap").stat().st_size, truth.end_s - truth.start_s
    typer.echo(f"{out}: {size / 1000:.0f} kB, {length_s:.0f} s, {len(truth.intervals)} intervals")


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="A recorded run.", metavar="FOLDER")],
    everything: Annotated[bool, typer.Option("--all", help="Print what agrees as well.")] = False,
) -> None:
    """Look whether the truth is true, on the packets and without any model; exit 1 below 98 % of
    the intervals."""
    from eval.testbed.verify.checks import check_run

    checks = check_run(folder)
    for one in checks:
        if everything or not one.agrees:
            word = "agrees" if one.agrees else "DIFFERS"
            typer.echo(f"{word}  {one.label:<20} {one.device:<15} {one.measured}")
    agreeing = sum(one.agrees for one in checks)
    typer.echo(f"{agreeing} of {len(checks)} intervals agree with the packets")
    raise typer.Exit(0 if agreeing >= 0.98 * len(checks) else 1)
