"""What another network costs, what a refresh gives back, and how often drift is noticed for nothing.

    python -m eval.research.drift FOLDER --work FOLDER [--seeds 3] [--quiet-plants 16]
        [--before FOLDER] [--tuned '...'] [--options '...'] [--out FILE]

FOLDER holds labelled captures of a network that the adapter never read. The adapter is the one that
ships, or with `--before` one that `faultwise finetune sft` tunes on the captures of that folder
first. The command `faultwise finetune refresh --data` goes on from it by replay, without it, and by
OSF; its card says what was found before and after, on a capture that was left over and on captures
of before. Drift is looked for in quiet simulated plants, each held against its own quiet time and
against the others'.
"""

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from assistant.detection.classify import classify
from assistant.detection.drift import BOUND, find_drift, take_minutes
from assistant.llm.adapters import load_adapter, read_card
from assistant.llm.calibration import fit_role_bounds
from assistant.pocket import POCKET
from eval.report.tables import ReportTable, render_table
from eval.research.command import Out, Work, run, start
from traffic.capture import SAMPLE_S
from traffic.files import write_text
from traffic.labels import NORMAL
from traffic.samples import make_samples
from traffic.simulation.simulate import simulate
from traffic.windows import WINDOW_SAMPLES, make_windows

LEAST_LOSS = 0.05  # of macro-F1 or recall: what H6 calls a fall
MOST_FORGOTTEN = 0.01  # of the same: what `finetune refresh` allows
_QUIET_SEED = 50_000
_SITE = "works"
_WAYS = {
    "replay": ("--how", "replay"),
    "new windows alone": ("--replayed", "0"),
    "osf": ("--how", "osf", "--replayed", "0"),
}


# ---- another network, and a refresh ----


def tune_before(before: Path, home: Path, seed: int, more: Sequence[str]) -> None:
    """Tune what the site uses before its network changes; not again where it is there.

    Raises:
        UserError: the command refused.
    """
    if not (home / "adapters" / _SITE).is_dir():
        words = ["--home", str(home), "--site", _SITE, "--data", str(before), "--seed", str(seed)]
        base = ["--base", str(POCKET.parent / "base")]
        sys.stderr.write(run(["finetune", "sft", *base, *words, *more]))


def refresh_site(
    data: Path, home: Path, way: str, seed: int, more: Sequence[str] = ()
) -> tuple[Mapping[str, float], bool]:
    """Refresh the shipped adapter by the command: its card's metrics, and whether the site uses it.
    What a run that was killed has made is not made again.

    Raises:
        UserError: the command refused.
    """
    note = home / "said.txt"
    if not note.is_file():
        home.mkdir(parents=True, exist_ok=True)
        words = ["--home", str(home), "--site", _SITE, "--data", str(data), "--seed", str(seed)]
        write_text(note, run(["finetune", "refresh", *words, *_WAYS[way], *more], way))
    card = read_card(home / "adapters" / _SITE / "refreshed")
    return card.metrics, f": site {_SITE} uses it" in note.read_text(encoding="utf-8")


def render_changes(made: dict[tuple[int, str], tuple[Mapping[str, float], bool]]) -> str:
    """A row a seed and way."""
    heads = (
        "seed", "way", "new: macro-F1", "new: recall", "new: false", "old: macro-F1", "old: recall",
        "old: false", "used",
    )  # fmt: skip
    rows = tuple(
        (str(seed), way, *_pairs(metrics, "new"), *_pairs(metrics, "old"), "yes" if used else "no")
        for (seed, way), (metrics, used) in made.items()
    )
    notes = tuple(_read_changes(way, made) for way in dict.fromkeys(way for _, way in made))
    return render_table(ReportTable("Another network: before → after", heads, rows, notes=notes))


def _read_changes(way: str, made: dict[tuple[int, str], tuple[Mapping[str, float], bool]]) -> str:
    """What a way cost and gave, in points, mean over seeds, and what that says of hypothesis H6."""

    def mean(which: str, when: str, name: str) -> float:
        cards = [metrics for (_, one), (metrics, _) in made.items() if one == way]
        return float(np.nanmean([card.get(f"{which}.{when}.{name}", np.nan) for card in cards]))

    worth = ("macro_f1", "recall")
    fell = max(mean("old", "before", name) - mean("new", "before", name) for name in worth)
    gained = [mean("new", "after", name) - mean("new", "before", name) for name in worth]
    lost = max(mean("old", "before", name) - mean("old", "after", name) for name in worth)
    cost = f"the other network cost {100 * fell:.1f} points of macro-F1 or recall"
    if fell < LEAST_LOSS:
        cost = "the other network cost nothing that a refresh could bring back"
    false = [100 * mean("new", when, "false_share") for when in ("before", "after")]
    return (
        f"{way}: {cost}; it brought {100 * gained[0]:+.1f} points of macro-F1 and {100 * gained[1]:+.1f} of "
        f"recall there, false alarms went from {false[0]:.1f} to {false[1]:.1f} %, and it forgot "
        f"{100 * max(lost, 0.0):.1f} points of what was known, "
        f"{'at most' if lost <= MOST_FORGOTTEN else 'more than'} the {100 * MOST_FORGOTTEN:g} that is allowed"
    )


def _pairs(metrics: Mapping[str, float], which: str) -> tuple[str, ...]:
    pairs = [
        [metrics.get(f"{which}.{when}.{name}") for when in ("before", "after")]
        for name in ("macro_f1", "recall", "false_share")
    ]
    return tuple("–" if None in pair else f"{pair[0]:.3f} → {pair[1]:.3f}" for pair in pairs)


# ---- how drift is noticed ----


@dataclass(frozen=True)
class Held:
    """One plant held against a quiet time.

    Attributes:
        same: the plant's own.
        alarmed: share of its windows above the bound that the quiet time gave.
        minutes: until drift was noticed; NaN where it was not.
    """

    same: bool
    alarmed: float
    minutes: float


def hold_quiet_plants(count: int, devices: int = 6) -> list[Held]:
    """Hold each of some quiet plants against the first part of its time and of the others'."""
    llm, card = load_adapter()
    usual, rest, bounds = [], [], []
    for seed in range(_QUIET_SEED, _QUIET_SEED + count):
        made = simulate(seed, devices=devices, hours=1.6, quiet=True)
        windows = make_windows(make_samples(made.capture, made.plant))
        slot = np.rint(windows.table["start_s"].to_numpy() / SAMPLE_S).astype(int)
        verdicts = classify(windows.take(slot % WINDOW_SAMPLES == 0), llm, card)
        start_s = verdicts["start_s"].to_numpy(float)
        cut_s = start_s.min() + 0.55 * np.ptp(start_s)
        first = verdicts[start_s < cut_s - WINDOW_SAMPLES * SAMPLE_S]
        usual.append(take_minutes(first)["odd"].groupby(level=0).mean().to_numpy())
        odd = 1.0 - first[f"p_{NORMAL}"].to_numpy(float)
        bounds.append(fit_role_bounds(odd, np.full(len(odd), ""), 0.0, 0.01).get("", 1.0))
        rest.append(verdicts[start_s >= cut_s])
    held = []
    for i, quiet in enumerate(usual):
        for j, later in enumerate(rest):
            found = find_drift(later, quiet)
            after_s = found.noticed_s - later["start_s"].min() if found else np.nan
            odd = 1.0 - later[f"p_{NORMAL}"].to_numpy(float)
            held.append(Held(i == j, float((odd > bounds[i]).mean()), after_s / 60))
    return held


def render_held(held: Sequence[Held]) -> str:
    """How often drift was noticed, by how much the bound no longer holds."""
    table = pd.DataFrame([vars(one) for one in held])
    edges = [-1.0, 0.01, 0.02, 0.05, 0.2, 1.0]
    names = ["at most 1 %", "1 to 2 %", "2 to 5 %", "5 to 20 %", "more"]
    kind = pd.cut(table["alarmed"], edges, labels=names).astype(str)
    rows = []
    for name, part in [
        ("the plant itself", table[table["same"]]),
        *((f"another, {name} alarmed", table[~table["same"] & (kind == name)]) for name in names),
    ]:
        noticed = part["minutes"].notna()
        after = f"{part['minutes'].median():.0f}" if noticed.any() else "–"
        rows.append((name, str(len(part)), str(int(noticed.sum())), after))
    heads = ("held against a quiet time", "pairs", "noticed", "after minutes, median")
    note = (
        "Each quiet time is 50 minutes of six devices, each look 43; alarmed: windows above the bound "
        f"that 1 % of the quiet ones exceed; the martingale has to reach {BOUND:g}."
    )
    return render_table(ReportTable("Drift, noticed", heads, tuple(rows), notes=(note,)))


def main(
    data: Path,
    work: Work,
    seeds: int = 3,
    quiet_plants: int = 16,
    before: Annotated[
        Path | None, typer.Option(help="Captures that the site's adapter is tuned on.")
    ] = None,
    tuned: Annotated[str, typer.Option(help="With --before, of `faultwise finetune sft`.")] = "",
    options: Annotated[str, typer.Option(help="Of `faultwise finetune refresh`.")] = "",
    out: Out = None,
) -> None:
    """Measure both and print or write the page."""
    words = ["python -m eval.research.drift FOLDER --work FOLDER"]
    words += [f"--seeds {seeds} --quiet-plants {quiet_plants}"]
    words += [f"--before FOLDER --tuned '{tuned}'"] if before else []
    words += [f"--options '{options}'"] if options else []
    introduction = _introduce(" ".join(words), data, before, bool(quiet_plants))
    quiet = render_held(hold_quiet_plants(quiet_plants)) if quiet_plants else ""
    made = {}
    for seed in range(seeds):
        begun = work / f"before-{seed}"
        if before:
            tune_before(before, begun, seed, shlex.split(tuned))
        for way in _WAYS:
            home = work / f"{way.replace(' ', '-')}-{seed}"
            if before and not home.is_dir():
                shutil.copytree(begun / "adapters", home / "adapters")
            made[seed, way] = refresh_site(data, home, way, seed, shlex.split(options))
            blocks = (introduction, quiet, render_changes(made))
            page = "\n\n".join(block for block in blocks if block) + "\n"
            if out:
                write_text(out, page)  # after each: a run that is cut short is not lost
    if not out:
        sys.stdout.write(page)


def _introduce(command: str, data: Path, before: Path | None, quiet_plants: bool) -> str:
    """Title, command and captures."""

    def name_all(folder: Path) -> str:
        return ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir()))

    model, old = "the one that ships", "simulated plants of its card's test seeds"
    if before:
        model = f"the shipped base, tuned by `faultwise finetune sft` on {name_all(before)}"
        old = f"of these, those that were left over, and {old}"
    quiet = f" Quiet plants are simulated from seed {_QUIET_SEED} on." if quiet_plants else ""
    return (
        f"# Another network\n\nMade by `{command}`; the model is {model}. New: {name_all(data)}, "
        f"of which one or a fifth is left over and measured. Old: {old}.{quiet}"
    )


if __name__ == "__main__":
    start(main)
