"""Whether experts are worth more than one adapter of as many active weights.

    python -m eval.research.experts --work FOLDER [--seeds 1] [--how xlora] [--options '...'] [--out FILE]
    python -m eval.research.experts --work FOLDER --data FOLDER --test NAME --test NAME ...

`finetune experts` makes each kind and, on the same texts, what it is compared with: a single adapter
of the rank that is active for a token, or for a Mixtral the dense base with every weight tuned. Both
are measured on captures that neither read, by default simulated plants. The difference is taken
capture by capture, since some plants are harder than others; its interval is over captures.
"""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from assistant.llm.adapters import read_card
from eval.detection.bootstrap import is_better, resample_mean, turned
from eval.report.tables import ReportTable, format_difference, render_table
from eval.research.command import Out, Work, choose, publish, run, start
from traffic.errors import UserError

HOWS = ("xlora", "arrow", "mixtral")
SITE = "measured"
_FIRST_SEED = 61_000
_LEARNED, _TESTED = 10, 6  # simulated plants; any four in a row show every label
_MEASURES = ("macro_f1", "recall", "false_share")
_COSTS = ("active_parameters", "parameters", "flops_a_token", "windows_a_s")
_OPTIONS = "--plants 0 --per-label 150 --epochs 2"


def simulate_plants(
    folder: Path, count: int = _LEARNED + _TESTED, devices: int = 8, hours: float = 0.5
) -> list[str]:
    """Write simulated plants by the command, those that are there stay; their names."""
    names = [f"plant-{number:02d}" for number in range(1, count + 1)]
    for place, name in enumerate(names):
        if not (folder / name).is_dir():
            size = ["--devices", str(devices), "--hours", str(hours)]
            seed = ["--seed", str(_FIRST_SEED + place)]
            run(["simulate", "--out", str(folder / name), *seed, *size])
    return names


def make_kinds(
    home: Path,
    data: Path,
    tests: Sequence[str],
    hows: Sequence[str],
    seeds: int,
    more: Sequence[str],
) -> pd.DataFrame:
    """Make each kind with each seed by the command.

    Returns:
        A row a kind, seed and test capture: ``how seed capture``, each measure as ``macro_f1`` and,
        of what it is compared with, ``single.macro_f1``; costs likewise; ``entropy`` of the load
        and how much of it labels ``told``. What a run that was killed has made is not made again.
    """
    held = [word for name in tests for word in ("--exclude", name)]
    rows = []
    for seed in range(seeds):
        for how in hows:
            family = f"{how}-{seed}"
            folder = home / "adapters" / SITE / family
            if not folder.is_dir():
                words = ["--home", str(home), "--site", SITE, "--family", family, "--how", how]
                asked = [*words, "--data", str(data), *held, "--seed", str(seed), *more]
                sys.stderr.write(run(["finetune", "experts", *asked]))
            metrics = read_card(folder).metrics
            rows += [{"how": how, "seed": seed, **_of_capture(metrics, name)} for name in tests]
    return pd.DataFrame(rows)


def _of_capture(metrics: Mapping[str, float], capture: str) -> dict[str, object]:
    row: dict[str, object] = {"capture": capture}
    for prefix in ("", "single."):
        for name in _MEASURES:
            row[f"{prefix}{name}"] = metrics.get(f"{prefix}{capture}.{name}", float("nan"))
        for name in _COSTS:
            row[f"{prefix}{name}"] = metrics[f"{prefix}compute.{name}"]
    return row | {name: metrics[f"routing.{name}"] for name in ("entropy", "told")}


def render_worth(made: pd.DataFrame) -> str:
    """A row a kind: what it is worth, what the single one is, and the difference."""
    heads = (
        "experts", "macro-F1", "single", "difference", "anomalies alarmed", "single", "false",
        "single", "worth more",
    )  # fmt: skip
    rows = []
    for how, part in made.groupby("how", sort=False):
        captures = part.groupby("capture").mean(numeric_only=True)
        gain = (captures["macro_f1"] - captures["single.macro_f1"]).to_numpy(float)
        mean = resample_mean(gain.tolist())
        better, worse = is_better(mean) == "holds", is_better(turned(mean)) == "holds"
        verdict = "yes" if better else "no" if worse else "not shown"
        f1, *others = (
            (f"{captures[name].mean():.3f}", f"{captures[f'single.{name}'].mean():.3f}")
            for name in _MEASURES
        )
        difference = format_difference("f1", mean)
        rows.append(
            (str(how), *f1, difference, *(cell for pair in others for cell in pair), verdict)
        )
    note = "means over captures, each by its own bounds; in brackets 95 % over captures"
    return render_table(ReportTable("On plants never seen", heads, tuple(rows), notes=(note,)))


def render_costs(made: pd.DataFrame) -> str:
    """A row a kind and its single: weights that a token meets, all weights, work and speed."""
    heads = (
        "model", "active weights", "all weights", "MFLOP a token", "windows a CPU second",
        "load's entropy", "of it labels tell",
    )  # fmt: skip
    rows = []
    for how, part in made.groupby("how", sort=False):
        mean = part.mean(numeric_only=True)
        for name, prefix in ((str(how), ""), (f"beside {how}", "single.")):
            active, whole, flops, speed = (mean[f"{prefix}{cost}"] for cost in _COSTS)
            cost = (f"{active:,.0f}", f"{whole:,.0f}", f"{flops / 1e6:.2f}", f"{speed:,.0f}")
            load = ("–", "–") if prefix else (f"{mean['entropy']:.2f}", f"{mean['told']:.2f}")
            rows.append((name, *cost, *load))
    note = "the load's entropy is 1 where all experts get the same; X-LoRA reads the base twice"
    return render_table(ReportTable("What a token costs", heads, tuple(rows), notes=(note,)))


def main(
    work: Work,
    data: Annotated[
        Path | None, typer.Option(help="Labelled captures instead of simulated plants.")
    ] = None,
    test: Annotated[
        list[str] | None, typer.Option(help="A capture of --data that is measured.")
    ] = None,
    how: Annotated[list[str] | None, typer.Option(help="By default all.")] = None,
    seeds: int = 1,
    options: Annotated[str, typer.Option(help="Of `faultwise finetune experts`.")] = _OPTIONS,
    out: Out = None,
) -> None:
    """Make, measure, and print or write the page."""
    if (data is None) != (not test):
        raise UserError(
            "one of --data and --test alone; expected both, or neither; name the captures of --data "
            "that are measured"
        )
    captures = data or work / "plants"
    tests = test or simulate_plants(captures)[-_TESTED:]
    hows = choose(how, HOWS)
    made = make_kinds(work / "home", captures, tests, hows, seeds, shlex.split(options))
    words = [f"python -m eval.research.experts --work FOLDER --seeds {seeds}"]
    words += [f"--how {one}" for one in how or ()]
    words += ["--data FOLDER", *(f"--test {name}" for name in tests)] if data else []
    command = " ".join([*words, f"--options '{options}'"])
    source = "labelled captures" if data else f"{_LEARNED} simulated plants"
    page = (
        f"# Experts\n\nMade by `{command}`: adapters for attacks and for faults on the base that ships, "
        "a router trained on all (`xlora`) or none to train (`arrow`), and that base cut into experts of "
        f"half its width (`mixtral`). Learned from {source}, measured on {len(tests)} others. Beside "
        "each stands a single adapter of as many active weights, or the dense base.\n\n"
        f"{render_worth(made)}\n\n{render_costs(made)}\n"
    )
    publish(page, out)


if __name__ == "__main__":
    start(main)
