"""Make the pocket model from scratch: `python -m finetune.pocket --out DIR [--quick] [--exclude CAPTURE ...]`.

    plants, captures ─▶ texts ─▶ base (pretrained) ─▶ adapter (LoRA) ─▶ calibration ─▶ card
       simulate           |           |                   |
                        work/texts  work/base         work/adapter       what is there is not made again

Every stage is written to its own name only when it is complete, so a killed run goes on where it was. The numbers are
in recipes/pocket.yaml.
"""

import argparse
import logging
import math
import random
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pandas as pd

from assistant.adapters import AdapterCard, prompt_fingerprint, write_card
from assistant.llm import LocalLLM
from assistant.weights import fingerprint_weights
from finetune.calibrate import Calibration, calibrate
from finetune.dataset import balance_texts, make_texts, read_texts, write_texts
from finetune.held_out import draw_texts, measure_texts, score_texts
from finetune.pretrain import Phase, build_model, pretrain
from finetune.recipe import POCKET, Draw, Recipe, read_recipe
from finetune.sft import tune
from finetune.stages import claim_folder, make_once
from finetune.tokenizer import build_tokenizer
from prompts.messages import ANSWERS
from prompts.window_text import VOCABULARY
from traffic.datasets import find_labelled, load_labelled, name_capture, simulate_labelled
from traffic.errors import UserError
from traffic.labels import LABELS, NORMAL

__all__ = ["make_pocket"]

log = logging.getLogger(__name__)

PROCESSES = 2


def make_pocket(
    recipe: Recipe, out: Path, work: Path, data: Path | None = None, exclude: Sequence[str] = ()
) -> AdapterCard:
    """Run every stage that has not been run, and write ``out/base`` and ``out/adapter`` with its card.

    Args:
        recipe: the run's numbers.
        out: gets the model.
        work: keeps what stages made; it belongs to one recipe and one choice of data.
        data: a folder of labelled captures (IoT-23's form) beside the simulated plants.
        exclude: captures of ``data`` left out of all training, and measured as unseen.

    Raises:
        UserError: ``work`` holds another run, or ``exclude`` names no capture of ``data``.
    """
    paths = {name_capture(path): path for path in find_labelled(data)} if data is not None else {}
    if missing := sorted(set(exclude) - set(paths)):
        raise UserError(
            f"no capture {missing[0]} to exclude; expected some of {', '.join(sorted(paths)) or 'none'}; correct it"
        )
    claim_folder(work, [recipe.model_dump_json(), prompt_fingerprint(), *sorted(paths), "excluded", *sorted(exclude)])
    trained = [*_plants(recipe.train_seeds), *sorted(set(paths) - set(exclude))]
    held_out = {"calibrate": _plants(recipe.calibrate_seeds), "test": [*_plants(recipe.test_seeds), *sorted(exclude)]}
    captures = [*trained, *held_out["calibrate"], *held_out["test"]]
    make_once(work / "texts", partial(_make_all_texts, captures=captures, paths=paths, recipe=recipe))
    texts = {name: read_texts(work / "texts" / f"{name}.parquet") for name in captures}

    train = pd.concat([texts[name] for name in trained], ignore_index=True)
    # The base reads simulated plants only, so that one base serves adapters with and without any real capture.
    plants = train[train["capture"].isin(_plants(recipe.train_seeds))]
    make_once(work / "base", partial(_make_base, texts=plants, recipe=recipe, work=work))
    make_once(work / "adapter", partial(_make_adapter, texts=train, recipe=recipe, work=work))

    llm = LocalLLM(work / "base", work / "adapter")
    calibration = _calibrate(pd.concat([texts[name] for name in held_out["calibrate"]]), llm, recipe)
    metrics = {f"calibration.{name}": round(value, 4) for name, value in asdict(calibration).items()}
    metrics |= _measure(pd.concat([texts[name] for name in held_out["test"]]), llm, calibration, recipe)
    card = _make_card(work, recipe, calibration, metrics, trained, held_out, data)
    write_card(card, work / "adapter")
    for part in ("base", "adapter"):
        shutil.copytree(work / part, out / part, dirs_exist_ok=True)
    return card


def _plants(seeds: tuple[int, int]) -> list[str]:
    return [f"simulated-{seed}" for seed in range(*seeds)]


def _make_all_texts(folder: Path, captures: Sequence[str], paths: dict[str, Path], recipe: Recipe) -> None:
    with ProcessPoolExecutor(PROCESSES) as pool:
        jobs = [pool.submit(_make_capture_texts, name, folder, paths.get(name), recipe) for name in captures]
        for name, job in zip(captures, jobs, strict=True):
            log.info("%s: %d texts", name, job.result())


def _make_capture_texts(name: str, folder: Path, path: Path | None, recipe: Recipe) -> int:
    file = folder / f"{name}.parquet"
    if not file.is_file():
        seed = int(name.removeprefix("simulated-")) if path is None else 0
        low, high = (math.log(bound) for bound in recipe.devices)
        devices = round(math.exp(random.Random(seed).uniform(low, high)))  # noqa: S311
        labelled = load_labelled(path) if path is not None else simulate_labelled(seed, devices, recipe.hours)
        write_texts(make_texts([labelled]), file)
    return len(read_texts(file))


def _make_base(folder: Path, texts: pd.DataFrame, recipe: Recipe, work: Path) -> None:
    import torch

    tokenizer = build_tokenizer(VOCABULARY, recipe.shape.context)
    model = build_model(tokenizer, recipe.shape, recipe.seed)
    phases = _phases(texts, recipe)
    losses = pretrain(model, tokenizer, phases, work, recipe.pretrain.batch_tokens, recipe.seed)
    log.info("pretraining loss, nats a token: %s", ", ".join(f"{loss:.3f}" for loss in losses))
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _phases(texts: pd.DataFrame, recipe: Recipe) -> list[Phase]:
    """General traffic, then plants (a capture is one's if anything in it speaks a control protocol), then answers."""
    plain = ~texts["text"].str.contains(" control ", regex=False).groupby(texts["capture"]).transform("any")
    bounds = (recipe.pretrain.epochs, recipe.pretrain.max_minutes, recipe.pretrain.learning_rate)
    phases = []
    for name, rows in (("general", texts[plain]), ("plant", texts[~plain])):
        drawn = rows.sample(min(len(rows), recipe.pretrain.texts), random_state=recipe.seed)["text"].tolist()
        phases += [Phase(name, drawn, *bounds)] if drawn else []
    asked = _balance(texts, recipe.answers, recipe.seed)
    answers = [ANSWERS[label] for label in asked["label"]]
    bounds = (recipe.answers.epochs, recipe.answers.max_minutes, recipe.answers.learning_rate)
    return [*phases, Phase("labelled", asked["text"].tolist(), *bounds, answers)]


def _balance(texts: pd.DataFrame, draw: Draw, seed: int) -> pd.DataFrame:
    normal = (texts["label"] == NORMAL).to_numpy()
    parts = [
        balance_texts(texts[which], most, draw.repeats, seed)
        for which, most in ((normal, draw.per_normal), (~normal, draw.per_label))
    ]
    return pd.concat(parts, ignore_index=True)


def _make_adapter(folder: Path, texts: pd.DataFrame, recipe: Recipe, work: Path) -> None:
    steps = work / "sft"
    steps.mkdir(exist_ok=True)
    drawn = _balance(texts, recipe.sft, recipe.seed)
    loss = tune(
        work / "base",
        drawn,
        folder,
        steps,
        rank=recipe.sft.rank,
        epochs=recipe.sft.epochs,
        batch=recipe.sft.batch,
        learning_rate=recipe.sft.learning_rate,
        max_minutes=recipe.sft.max_minutes,
        seed=recipe.seed,
    )
    log.info("tuning loss, nats a token: %.4f", loss)


def _calibrate(texts: pd.DataFrame, llm: LocalLLM, recipe: Recipe) -> Calibration:
    drawn = draw_texts(texts, recipe.per_capture_held_out, recipe.seed)
    truth = drawn["label"].map(LABELS.index).to_numpy()
    weights = drawn["weight"].to_numpy(float)
    return calibrate(score_texts(drawn, llm), truth, weights, LABELS.index(NORMAL), recipe.max_wrong)


def _measure(texts: pd.DataFrame, llm: LocalLLM, calibration: Calibration, recipe: Recipe) -> dict[str, float]:
    drawn = draw_texts(texts, recipe.per_capture_held_out, recipe.seed)
    scores = score_texts(drawn, llm)
    # Simulated plants are judged together, each real capture for itself.
    groups = drawn["capture"].where(~drawn["capture"].str.startswith("simulated-"), "simulated")
    metrics: dict[str, float] = {}
    for name, rows in groups.groupby(groups).indices.items():
        measures = measure_texts(drawn.iloc[rows], scores[rows], calibration)
        metrics |= {f"{name}.{measure}": value for measure, value in measures.items()}
    return metrics


def _make_card(
    work: Path,
    recipe: Recipe,
    calibration: Calibration,
    metrics: dict[str, float],
    trained: Sequence[str],
    held_out: dict[str, list[str]],
    data: Path | None,
) -> AdapterCard:
    excluded = [name for name in held_out["test"] if not name.startswith("simulated-")]
    return AdapterCard(
        name="pocket",
        base="../base",
        base_fingerprint=fingerprint_weights(work / "base"),
        prompt_fingerprint=prompt_fingerprint(),
        labels=LABELS,
        temperature=round(calibration.temperature, 4),
        threshold=calibration.threshold,
        data=tuple(trained),
        split={purpose: tuple(names) for purpose, names in held_out.items()},
        seed=recipe.seed,
        metrics=metrics,
        made_by=" ".join(
            [
                "faultwise finetune pocket",
                *(["--data FOLDER"] if data is not None else []),
                *(f"--exclude {name}" for name in excluded),
            ]
        ),
        created=datetime.now(UTC).date().isoformat(),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and make the model."""
    parser = argparse.ArgumentParser(prog="python -m finetune.pocket", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="gets base/ and adapter/")
    parser.add_argument("--work", type=Path, default=Path("runs/pocket"), help="keeps each stage's result")
    parser.add_argument("--data", type=Path, help="folder of labelled captures beside the simulated plants")
    parser.add_argument("--exclude", nargs="+", default=[], metavar="CAPTURE", help="captures measured as unseen")
    parser.add_argument("--recipe", type=Path, default=POCKET)
    parser.add_argument("--quick", action="store_true", help="minutes instead of hours; shows that every stage works")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        recipe = read_recipe(given.recipe, given.quick)
        card = make_pocket(recipe, given.out, given.work, given.data, given.exclude)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(card.model_dump_json(indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
