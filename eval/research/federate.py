"""What sites gain by merging their adapters, what that costs each, and what an adapter leaks.

    python -m eval.research.federate --work FOLDER [--base DIR] [--sites 4] [--options '...'] [--out FILE]
    python -m eval.research.federate --work FOLDER --site FOLDER --site FOLDER ...

Each site holds labelled captures: simulated plants by default, each site's with a share of the
labels only, and the last plant of each with all. The commands are run as sites would run them:
`finetune sft` at each, `adapters export`, `finetune federate`; beside them one `finetune sft` on
the captures of all sites, which in earnest nobody could gather. The last capture of each site is
measured, the one before it calibrates what is merged; an adapter alone learned from neither.

The attack is on membership: was this window learned from? Its score is how much likelier an adapter
makes the window's true label than the base does (Yeom et al. 2018, arXiv 1709.01604, with the base
as reference). Windows whose text stands on both sides tell nothing and are left out.
"""

import json
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from sklearn.metrics import f1_score, roc_auc_score, roc_curve

from assistant.detection.classify import classify, make_prompts
from assistant.llm.local import LocalLLM
from assistant.llm.remembered import Scorer
from assistant.pocket import POCKET
from assistant.registry import load_registered
from eval.report.tables import ReportTable, render_table
from eval.research.command import Out, Work, publish, run, start
from prompts.messages import ANSWERS
from prompts.window_text import render_windows
from traffic.datasets import find_labelled, load_labelled, name_capture
from traffic.errors import UserError
from traffic.files import write_text
from traffic.labels import LABELS, NORMAL, UNKNOWN

_ANOMALIES = tuple(label for label in LABELS if label != NORMAL)
_FIRST_SEED = 60_000
_PLANTS = 6  # of a site: four for its own run, one to calibrate what is merged, one to measure
_LEAST = 4
_ATTACKED = 800  # texts of each side at most
_AT_FALSE = 0.01  # of windows that were not learned from, those taken for learned
_FAMILY = "own"
_HUB = "hub"
_OPTIONS = "--plants 0 --per-label 600 --epochs 3 --max-minutes 4"


@dataclass(frozen=True)
class Site:
    """A site's captures by what they are for: ``learned`` by its own run, which holds some of them
    out itself."""

    name: str
    folder: Path
    learned: tuple[Path, ...]
    calibrate: Path
    test: Path


def find_site(folder: Path) -> Site:
    """A site of a folder: its last capture by name is measured, the one before it calibrates.

    Raises:
        UserError: it holds fewer than four labelled captures.
    """
    captures = sorted(find_labelled(folder), key=name_capture)
    if len(captures) < _LEAST:
        raise UserError(
            f"{folder} holds {len(captures)} labelled captures; expected {_LEAST} or more: two to "
            "learn from, one to calibrate, one to measure; record more"
        )
    return Site(folder.name, folder, tuple(captures[:-2]), captures[-2], captures[-1])


def simulate_sites(
    folder: Path, count: int, plants: int = _PLANTS, devices: int = 8, hours: float = 0.5
) -> list[Path]:
    """Write sites of simulated plants by the command: what site i learns from shows every
    ``count``-th label from the i-th on and the next one, and what is measured shows all of them."""
    sites = []
    for place in range(count):
        sites.append(folder / f"site-{place + 1}")
        own = [one for i, one in enumerate(_ANOMALIES) if i % count in (place, (place + 1) % count)]
        for number in range(plants):
            out = sites[-1] / f"plant-{place + 1}-{number + 1}"
            if out.is_dir():
                continue
            shown = own if number < plants - 2 else _ANOMALIES
            seed = str(_FIRST_SEED + place * plants + number)
            size = ["--seed", seed, "--devices", str(devices), "--hours", str(hours)]
            scenarios = [word for name in shown for word in ("--scenario", name)]
            run(["simulate", "--out", str(out), *size, *scenarios])
    return sites


# ---- The commands, as sites run them ----


@dataclass(frozen=True)
class Made:
    """An adapter's folder, and the CPU seconds of the command that made it."""

    folder: Path
    cpu_s: float


def _make(home: Path, name: str, words: Sequence[str]) -> Made:
    """Run a command that makes SITE/FAMILY, unless it did before."""
    note = home / f"{name.replace('/', '-')}.json"
    if not note.is_file():
        began = time.process_time()
        run([*words, "--home", str(home)])
        write_text(note, json.dumps({"cpu_s": time.process_time() - began}))
    return Made(home / "adapters" / name, float(json.loads(note.read_text("utf-8"))["cpu_s"]))


def make_all(
    work: Path, sites: Sequence[Site], base: Path, options: Sequence[str], seed: int
) -> tuple[dict[str, Made], dict[str, Made]]:
    """Each site's own adapter, by site; and what is made of all, by how: ``cat``, ``svd`` and
    ``gathered``, tuned on the captures of all sites."""
    more = ["--base", str(base), "--family", _FAMILY, "--seed", str(seed), *options]
    held = {one: [name_capture(path) for path in (one.calibrate, one.test)] for one in sites}
    own = {}
    for one in sites:
        data = ["--data", str(one.folder), *_each("--exclude", held[one])]
        words = ["finetune", "sft", "--site", one.name, *data, *more]
        own[one.name] = _make(work / one.name, f"{one.name}/{_FAMILY}", words)
    hub = work / _HUB
    packets, keys, calibrate = [], [], []
    for one in sites:
        key, packet = work / one.name / "key", hub / "packets" / one.name
        if not packet.is_dir():
            asked = ["adapters", "export", one.name, "--key", str(key), "--out", str(packet)]
            run([*asked, "--home", str(work / one.name)])
        packets.append(str(packet))
        keys.append(str(key.with_name("key.pub")))
        calibrate.append(str(one.calibrate.parent))
    merged = ["--base", str(base), "--site", _HUB, *_each("--data", calibrate)]
    made = {}
    for how in ("cat", "svd"):
        words = ["finetune", "federate", *packets, *_each("--trust", keys), *merged]
        words += ["--how", how, "--family", how]
        made[how] = _make(hub, f"{_HUB}/{how}", words)
    everything = _each("--data", [str(one.folder) for one in sites])
    everything += _each("--exclude", [name for names in held.values() for name in names])
    words = ["finetune", "sft", "--site", "gathered", *everything, *more]
    made["gathered"] = _make(work / "gathered", f"gathered/{_FAMILY}", words)
    return own, made


def _each(option: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


# ---- What they are worth ----


@dataclass(frozen=True)
class Worth:
    """Of one site's measured capture, by one adapter as it would be served.

    Attributes:
        macro_f1: over its true labels.
        found: of the anomalous windows, the share alarmed.
        foreign_found: of those whose label its own run never read; NaN where there are none.
        foreign_named: of those, the share whose likeliest anomaly is the true one.
        false_share: of the normal windows, those alarmed.
    """

    macro_f1: float
    found: float
    foreign_found: float
    foreign_named: float
    false_share: float


def measure(test: Path, adapter: Path, known: Sequence[str]) -> Worth:
    """Judge a labelled capture by an adapter.

    Args:
        test: the capture.
        adapter: its folder.
        known: labels that the site's own run learned.
    """
    labelled = load_labelled(test)
    verdicts = classify(labelled.windows, *load_registered(adapter))
    truth = labelled.windows.table["label"].to_numpy(object)
    kept = truth != UNKNOWN
    verdicts, truth = verdicts[kept], truth[kept]
    odd, alarmed = truth != NORMAL, verdicts["label"].to_numpy(object) != NORMAL
    foreign = odd & ~np.isin(truth, list(known))
    anomalies = verdicts[[f"p_{label}" for label in _ANOMALIES]].to_numpy(float)
    likeliest = np.array(_ANOMALIES, object)[anomalies.argmax(axis=1)]
    labels = sorted(set(truth))
    f1 = f1_score(
        truth, verdicts["label"].to_numpy(object), labels=labels, average="macro", zero_division=0.0
    )
    return Worth(
        float(f1),
        _mean(alarmed[odd]),
        _mean(alarmed[foreign]),
        _mean((likeliest == truth)[foreign]),
        _mean(alarmed[~odd]),
    )


def _mean(which: np.ndarray) -> float:
    return float(which.mean()) if len(which) else float("nan")


# ---- What they leak ----


@dataclass(frozen=True)
class Leak:
    """How well windows that were learned from are told from others of the same site.

    Attributes:
        learned, other: different texts on each side.
        by_loss: area under the curve, by the likelihood of the true label alone.
        by_gain: by how much likelier the adapter makes it than the base does.
        base: by the base alone, which saw none of them: what is told without any leak.
        found: of the learned ones, those found by gain where 1 % of the others are taken for such.
    """

    learned: int
    other: int
    by_loss: float
    by_gain: float
    base: float
    found: float


def attack(learned: pd.DataFrame, other: pd.DataFrame, llm: Scorer, base: Scorer) -> Leak:
    """Tell windows that an adapter learned from others.

    Args:
        learned: ``text label`` of windows that it learned from.
        other: of windows that it did not.
        llm: the base with the adapter.
        base: the base alone.

    Raises:
        UserError: one side has no text that the other lacks.
    """
    mine, others = (table[["text", "label"]].drop_duplicates() for table in (learned, other))
    both = set(mine["text"]) & set(others["text"])
    mine, others = (rows[~rows["text"].isin(both)] for rows in (mine, others))
    if mine.empty or others.empty:
        raise UserError(
            "every text was learned from, or none; expected some of each; give longer captures"
        )
    mine, others = (one.sample(min(len(one), _ATTACKED), random_state=0) for one in (mine, others))
    rows = pd.concat([mine, others], ignore_index=True)
    is_mine = np.arange(len(rows)) < len(mine)
    after, before = _likelihoods(rows, llm), _likelihoods(rows, base)
    false, found, _ = roc_curve(is_mine, after - before)
    return Leak(
        len(mine),
        len(others),
        float(roc_auc_score(is_mine, after)),
        float(roc_auc_score(is_mine, after - before)),
        float(roc_auc_score(is_mine, before)),
        float(found[false <= _AT_FALSE].max()),
    )


def _likelihoods(rows: pd.DataFrame, llm: Scorer) -> np.ndarray:
    scores = llm.score(
        make_prompts(rows["text"].tolist(), llm), [ANSWERS[label] for label in LABELS]
    )
    return scores[np.arange(len(rows)), rows["label"].map(LABELS.index).to_numpy()]


def read_learned(adapter: Path) -> pd.DataFrame:
    """The texts that a site's own adapter learned from, which it keeps at the site."""
    kept = pd.read_parquet(adapter / "texts.parquet")
    return kept[kept["part"] == "train"]


def read_others(site: Site) -> pd.DataFrame:
    """Texts of the captures that a site's run never read."""
    parts = []
    for path in (site.calibrate, site.test):
        windows = load_labelled(path).windows
        texts = {"text": render_windows(windows), "label": windows.table["label"].astype(str)}
        parts.append(pd.DataFrame({name: list(column) for name, column in texts.items()}))
    table = pd.concat(parts, ignore_index=True)
    return table[table["label"] != UNKNOWN]


# ---- The page ----


def render_worth(rows: dict[str, list[Worth]], cpu_s: dict[str, list[float]]) -> str:
    """A row an adapter, the mean over sites."""
    heads = (
        "adapter", "macro-F1", "anomalies alarmed", "of labels its site never read", "named right",
        "false", "CPU s a machine",
    )  # fmt: skip
    cells = []
    for name, sites in rows.items():
        numbers = pd.DataFrame([vars(one) for one in sites]).mean()
        spent = cpu_s.get(name, [])
        seconds = f"{min(spent):.0f} to {max(spent):.0f}" if spent else "–"
        cells.append((name, *(f"{value:.3f}" for value in numbers), seconds))
    note = (
        "mean over the sites' measured captures, each adapter by its own bounds; named right: the "
        "likeliest anomaly is the true one; CPU seconds of the whole command"
    )
    return render_table(ReportTable("Gain", heads, tuple(cells), notes=(note,)))


def render_leaks(rows: dict[str, list[Leak]]) -> str:
    """A row an adapter, mean and extremes over sites."""
    heads = (
        "adapter", "learned / other texts", "AUC by likelihood", "AUC by gain over the base",
        "AUC of the base, which saw none", f"found at {_AT_FALSE:.0%} false",
    )  # fmt: skip
    cells = []
    for name, sites in rows.items():
        table = pd.DataFrame([vars(one) for one in sites])
        counts = f"{table['learned'].sum()} / {table['other'].sum()}"
        spread = [
            f"{table[key].mean():.3f} [{table[key].min():.3f}, {table[key].max():.3f}]"
            for key in ("by_loss", "by_gain", "base", "found")
        ]
        cells.append((name, counts, *spread))
    note = "mean over sites, in brackets the least and the most; 0.5 is chance"
    return render_table(ReportTable("Membership attack", heads, tuple(cells), notes=(note,)))


def main(
    work: Work,
    site: Annotated[list[Path] | None, typer.Option(help="A site's folder of captures.")] = None,
    sites: Annotated[int, typer.Option(help="Simulated ones otherwise.")] = 4,
    base: Path = POCKET.parent / "base",
    options: Annotated[str, typer.Option(help="Of `faultwise finetune sft`.")] = _OPTIONS,
    seed: int = 0,
    out: Out = None,
) -> None:
    """Make the adapters, measure and attack them, and print or write the page."""
    folders = site or simulate_sites(work / "captures", sites)
    found = [find_site(folder) for folder in folders]
    own, made = make_all(work / "homes", found, base, shlex.split(options), seed)
    page = _measure_all(found, own, made, base)
    drawn = "--site FOLDER " * len(site or ()) or f"--sites {sites} "
    command = (
        f"python -m eval.research.federate --work FOLDER {drawn}--base {base.parent.name}/"
        f"{base.name} --options '{options}' --seed {seed}"
    )
    kind = "their captures" if site else "simulated plants; each learns a part of the labels"
    intro = (
        f"# Adapters that travel\n\nMade by `{command}`. {len(found)} sites: {kind}. How sites "
        "export and merge: [tuning.md](../tuning.md). `own`: of the site alone; `cat` and `svd`: "
        "merged from all; `gathered`: tuned on the captures of all sites, which no site would give "
        "away.\n\n"
    )
    publish(intro + page, out)


def _measure_all(
    sites: Sequence[Site], own: dict[str, Made], made: dict[str, Made], base: Path
) -> str:
    worth: dict[str, list[Worth]] = {"shipped": [], "own": [], **{name: [] for name in made}}
    leaks: dict[str, list[Leak]] = {"own": [], **{name: [] for name in made}}
    untuned = LocalLLM(base)
    for one in sites:
        learned, others = read_learned(own[one.name].folder), read_others(one)
        known = sorted(set(learned["label"]))
        folders = {"own": own[one.name].folder, **{k: v.folder for k, v in made.items()}}
        for name, folder in folders.items():
            worth[name].append(measure(one.test, folder, known))
            leaks[name].append(attack(learned, others, load_registered(folder)[0], untuned))
        worth["shipped"].append(measure(one.test, POCKET, known))
    cpu_s = {"own": [one.cpu_s for one in own.values()], **{k: [v.cpu_s] for k, v in made.items()}}
    return f"{render_worth(worth, cpu_s)}\n\n{render_leaks(leaks)}\n"


if __name__ == "__main__":
    start(main)
