"""Kill every trainer at random moments, let it go on, and look what is left.

python tests/kill_trainers.py --kills 3 [--only sft] [--out docs/research/kill-trainers.md]

Each trainer runs once undisturbed on tiny bases and plants. Then it is started anew, killed
(SIGKILL, with all that it started) at a random moment, looked at, and started again until it ends:
whatever stands where adapters are looked for must load, and the losses must be those of the
undisturbed run.
"""

import argparse
import contextlib
import io
import json
import logging
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from labelled_folders import write_plants
from safetensors.numpy import load_file
from tiny_bases import build_base

from assistant.cli.main import main
from assistant.llm.adapters import check_adapter, read_card
from assistant.offline import go_offline
from assistant.registry import check_registered, list_registered, use
from eval.report.tables import ReportTable, render_table
from eval.research.align import play_operators
from finetune.embedder import tune_embedder
from finetune.pocket.make import make_pocket
from finetune.recipe import POCKET, Recipe, read_recipe
from knowledge_base.chunks import make_chunks
from knowledge_base.documents import read_documents
from knowledge_base.embeddings import packaged_model, sample_files
from traffic.files import write_text

_NOISE = 0.03  # of a loss: where a run goes on, sums are rounded elsewhere
_fork = multiprocessing.get_context("fork")
_SMALL = ["--per-label", "8", "--epochs", "4"]


@dataclass(frozen=True)
class Given:
    """What trainers begin with: a tiny base, captures of before and new ones, a home whose site has
    an adapter, remarks on the new captures."""

    base: Path
    old: Path
    new: Path
    home: Path
    remarks: Path


@dataclass
class Tally:
    """What became of a trainer's kills: those before and after its result was there."""

    before: int = 0
    after: int = 0
    went_on: int = 0
    wrong: list[str] = field(default_factory=list)


def prepare(folder: Path) -> Given:
    """Make what trainers begin with."""
    base = build_base(folder / "tiny", "llama")
    old = write_plants(folder / "old", (1, 2, 3), devices=6, hours=0.15)
    new = write_plants(folder / "new", (4, 5, 6), hours=0.08)
    given = Given(base, old, new, folder / "home", folder / "remarks.csv")
    sft(given, given.home)
    (given.home / "adapters" / "demo" / "tuned").rename(given.home / "adapters" / "demo" / "first")
    use(given.home, "demo", "first")
    said = [play_operators(path).remarks for path in _captures(new)]
    pd.concat(said, ignore_index=True).to_csv(given.remarks, index=False)
    return given


def _captures(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/conn.log"))


def _command(*words: object) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        ended = main([str(word) for word in words])
    if ended:
        raise SystemExit(ended)


# ---- The trainers ----


def sft(given: Given, home: Path) -> None:
    _command(
        "finetune", "sft", "--home", home, "--base", given.base, "--data", given.old, "--site",
        "demo", "--family", "tuned", "--plants", 0, "--batch", 8, "--rank", 4, *_SMALL,
    )  # fmt: skip


def transfer(given: Given, home: Path) -> None:
    begin = home / "adapters" / "demo" / "first"
    _command(
        "finetune", "transfer", "--home", home, "--data", given.new, "--site", "south", "--begin",
        begin, "--plants", 0, "--epochs", 4, "--batch", 8,
    )  # fmt: skip


def align(given: Given, home: Path) -> None:
    captures = [word for path in _captures(given.new) for word in ("--capture", path)]
    _command(
        "finetune", "align", "--home", home, "--site", "plant", *captures, "--feedback",
        given.remarks, "--plants", 1, "--epochs", 2, "--family", "aligned",
    )  # fmt: skip


def experts(given: Given, home: Path) -> None:
    _command(
        "finetune", "experts", "--home", home, "--base", given.base, "--data", given.old, "--site",
        "demo", "--plants", 0, "--batch", 8, "--rank", 4, *_SMALL,
    )  # fmt: skip


def refresh(given: Given, home: Path) -> None:
    _command(
        "finetune", "refresh", "--home", home, "--data", given.new, "--site", "demo", "--plants", 1,
        *_SMALL,
    )  # fmt: skip


def embedder(given: Given, home: Path) -> None:
    named = ("korvo", "lumen", "tarn", "halden", "aster")
    files = [path for path in sample_files() if path.stem.startswith(named)]
    documents = [one for file in files for one in read_documents(file).documents]
    chunks = [chunk for document in documents for chunk in make_chunks(document)]
    tuned = tune_embedder(chunks, packaged_model(), home / "embedder", 15, 8, 1e-4)
    told = json.dumps({"recall.after": tuned.after, "kept": tuned.folder is not None})
    (home / "embedder.json").write_text(told, encoding="utf-8")


def pocket(given: Given, home: Path) -> None:
    quick = read_recipe(POCKET, "quick").model_dump()
    quick |= {
        "train_seeds": (1000, 1002), "calibrate_seeds": (2000, 2001), "test_seeds": (3000, 3001),
        "devices": (1, 3), "hours": 0.1,
    }  # fmt: skip
    quick["pretrain"] |= {"texts": 200}
    for stage in ("answers", "sft"):
        quick[stage] |= {"per_label": 12, "per_normal": 48}
    make_pocket(Recipe.model_validate(quick), home / "pocket", home / "work")


TRAINERS: dict[str, Callable[[Given, Path], None]] = {
    one.__name__: one for one in (sft, transfer, align, experts, refresh, embedder, pocket)
}


def read_outcome(name: str, home: Path) -> dict[str, float]:
    """The losses that a finished trainer left; empty where its result is not there."""
    if name == "embedder":
        told = home / "embedder.json"
        return json.loads(told.read_text(encoding="utf-8")) if told.is_file() else {}
    places = {
        "sft": "adapters/demo/tuned", "transfer": "adapters/south/transferred",
        "align": "adapters/plant/aligned", "experts": "adapters/demo/xlora",
        "refresh": "adapters/demo/refreshed", "pocket": "pocket/adapter",
    }  # fmt: skip
    if not (home / places[name] / "card.json").is_file():
        return {}
    metrics = read_card(home / places[name]).metrics
    told = ("loss", "nll", "likelihood.after")
    return {key: value for key, value in metrics.items() if key.endswith(told)}


def find_halves(home: Path) -> list[str]:
    """What stands where adapters are looked for and does not load."""
    halves = []
    for one in list_registered(home):
        with _naming(one.name, halves):
            check_registered(one.path)
    if (home / "embedder").is_dir():
        with _naming("embedder", halves):
            load_file(home / "embedder" / "model.safetensors")
    if (home / "pocket" / "adapter").is_dir():
        with _naming("pocket", halves):
            check_adapter(home / "pocket" / "adapter")
    return halves


@contextlib.contextmanager
def _naming(name: str, halves: list[str]) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001  whatever it is, it is what a user would see
        halves.append(f"{name}: {error}")


# ---- Kills ----


def _begin(name: str, given: Given, home: Path) -> multiprocessing.Process:
    process = _fork.Process(target=_run, args=(name, given, home))
    process.start()
    return process


def _run(name: str, given: Given, home: Path) -> None:
    os.setpgid(0, 0)  # what it starts is killed with it
    torch.set_num_threads(1)
    sys.stderr = open(home / "stderr.txt", "a", encoding="utf-8")  # noqa: SIM115
    TRAINERS[name](given, home)


def kill_trainer(name: str, given: Given, folder: Path, kills: int, seed: int) -> Tally:
    """Kill a trainer ``kills`` times; each time it then goes on to its end."""
    rng, tally = random.Random(f"{name} {seed}"), Tally()
    whole = folder / f"{name}-whole"
    shutil.copytree(given.home, whole)
    began = time.monotonic()
    undisturbed = _begin(name, given, whole)
    undisturbed.join()
    took_s = time.monotonic() - began
    expected = read_outcome(name, whole)
    if undisturbed.exitcode or not expected:
        said = (whole / "stderr.txt").read_text(encoding="utf-8")
        tally.wrong.append(f"{name} does not even run: {said[-600:]}")
        return tally
    for number in range(kills):
        home = folder / f"{name}-{number}"
        shutil.copytree(given.home, home)
        killed = rng.uniform(0.02, 0.98)
        process = _begin(name, given, home)
        process.join(killed * took_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()
        place = f"{name} killed after {killed:.0%}"
        tally.wrong += [f"{place}: {half}" for half in find_halves(home)]
        if read_outcome(name, home):
            tally.after += 1
        else:
            tally.before += 1
            again = _begin(name, given, home)
            again.join()
            tally.went_on += again.exitcode == 0
            if again.exitcode:
                said = (home / "stderr.txt").read_text(encoding="utf-8")
                tally.wrong.append(f"{place}: does not go on: {said[-600:]}")
        for key, value in read_outcome(name, home).items():
            if not np.isclose(value, expected[key], rtol=_NOISE, atol=1e-3):
                tally.wrong.append(f"{place}: {key} {value:.4f}, undisturbed {expected[key]:.4f}")
        tally.wrong += [f"{place}, gone on: {half}" for half in find_halves(home)]
        shutil.rmtree(home)
    return tally


def render_kills(tallies: dict[str, Tally], kills: int, seed: int) -> str:
    """The page: a row a trainer."""
    heads = (
        "trainer",
        "killed before its result was there",
        "after",
        "went on to the end",
        "wrong",
    )
    rows = tuple(
        (name, str(one.before), str(one.after), str(one.went_on), "; ".join(one.wrong) or "nothing")
        for name, one in tallies.items()
    )
    left = [name for name in TRAINERS if name not in tallies]
    note = f"not killed in this run: {', '.join(left)}" if left else "every trainer was killed"
    table = render_table(
        ReportTable("Trainers killed at random moments", heads, rows, notes=(note,))
    )
    return (
        f"# Killed trainers\n\nMade by `python tests/kill_trainers.py --kills {kills} --seed {seed}`, on tiny bases "
        "and plants: each trainer is killed (SIGKILL) at random moments of its run and started again. Wrong is what "
        "stands where adapters are looked for and does not load, a run that does not go on, and a loss more than "
        f"{_NOISE:.0%} from the undisturbed run's.\n\n{table}\n"
    )


def run(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=3, help="Of each trainer.")
    parser.add_argument("--only", action="append", choices=list(TRAINERS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="A page, written after each trainer.")
    asked = parser.parse_args(arguments)
    go_offline()
    logging.disable(logging.WARNING)
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        given = prepare(folder)
        for name in asked.only or TRAINERS:
            tally = kill_trainer(name, given, folder, asked.kills, asked.seed)
            tallies[name] = tally
            if asked.out:
                write_text(asked.out, render_kills(tallies, asked.kills, asked.seed))
            lines = [
                f"{name}: {tally.before + tally.after} kills, {tally.before} before its result was "
                f"there, of which {tally.went_on} went on to the end; {len(tally.wrong)} wrong",
                *(f"  {line}" for line in tally.wrong),
            ]
            sys.stdout.write("\n".join(lines) + "\n")
            sys.stdout.flush()
    return 1 if any(tally.wrong for tally in tallies.values()) else 0


if __name__ == "__main__":
    sys.exit(run())
