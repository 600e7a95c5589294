"""The same base tuned twice: on detection and class together, and on the class alone (H7, A11).

    python -m finetune.pocket.single_task --out runs/tasks [--seed 0]

    plants, recorded windows ─▶ base that has read no answer ─┬─▶ joint   normal | anomalous recon
                                                              └─▶ class             … recon

The shipped base has learned both with all its weights, so an adapter on it would show nothing. This
one has read the texts without their labels. All its weights are then trained, by the same texts in
the same order at the same rate, with the loss on both parts of the answer or on the class alone,
which leaves out the normal windows: they have no class. OUT/joint and OUT/class are judged by
`faultwise eval detection --models llm:OUT/joint,llm:OUT/class`.
"""

import logging
import shutil
from functools import partial
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer

from assistant.llm.adapters import write_card
from assistant.offline import go_offline
from finetune.calibrate import calibrate_model
from finetune.dataset import Captures, choose_captures, count_texts, make_capture_texts, read_texts
from finetune.examples import Target
from finetune.pocket.make import draw_varied, unlabelled_phases
from finetune.pocket.pretrain import build_model, pretrain
from finetune.pocket.tokenizer import build_tokenizer
from finetune.recipe import Recipe, read_recipe
from finetune.recorded import RECORDED
from finetune.sft import Knobs, train
from finetune.sites.adapter import Order, make_site_card
from finetune.sites.captures import Split
from finetune.sites.cards import load_tuned, place_weights, read_tuned, write_tuned
from finetune.stages import claim_folder, make_once
from prompts.window_text import vocabulary
from traffic.labels import LABELS

log = logging.getLogger(__name__)

TARGETS: tuple[Target, ...] = ("joint", "class")
_CALIBRATE = ("run-71", "run-72")  # as the shipped model's
_CALIBRATE_PLANTS = 4
_RATE = 1e-3


def shrink_recipe(plants: int, per_label: int, epochs: int, minutes: float, seed: int) -> Recipe:
    """The pocket model's recipe, of fewer plants and texts and without houses.

    Args:
        plants: simulated, from the recipe's first on.
        per_label: texts of each label in an epoch, and eight times as many normal ones.
        epochs: readings, each drawn and varied anew.
        minutes: of each of the two trainings at most.
        seed: of weights, draws and order.
    """
    recipe = read_recipe()
    first, calibrate = recipe.train_seeds[0], recipe.calibrate_seeds[0]
    houses = {"train_seeds": (0, 0), "test_seeds": (0, 0)}
    draw = {
        "per_label": per_label,
        "per_normal": 8 * per_label,
        "epochs": epochs,
        "learning_rate": _RATE,
        "max_minutes": minutes,
    }
    changes = {
        "seed": seed,
        "train_seeds": (first, first + plants),
        "calibrate_seeds": (calibrate, calibrate + _CALIBRATE_PLANTS),
        "test_seeds": (0, 0),
        "houses": recipe.houses.model_copy(update=houses),
        "sft": recipe.sft.model_copy(update=draw),
    }
    return recipe.model_copy(update=changes)


def make_pair(recipe: Recipe, out: Path, work: Path, command: str) -> None:
    """Make the base, and of it ``out/joint`` and ``out/class``; what ``work`` has is not made again.

    Args:
        recipe: from `shrink_recipe`.
        out: gets both models, each with its card.
        work: keeps what a killed run made; it belongs to one recipe.
        command: that made them, for the cards.

    Raises:
        UserError: ``work`` belongs to another recipe.
    """
    captures = choose_captures(recipe, (RECORDED,), (), _CALIBRATE)
    claim_folder(work, [recipe.model_dump_json()])
    make_once(work / "texts", partial(make_capture_texts, captures=captures, recipe=recipe))
    parts = {
        name: [read_texts(work / "texts" / f"{one}.parquet") for one in names]
        for name, names in (("train", captures.trained), ("held_out", captures.calibrate))
    }
    texts = pd.concat([count_texts(one) for one in parts["train"]], ignore_index=True)
    held_out = pd.concat(parts["held_out"], ignore_index=True)
    make_once(work / "base", partial(_make_base, texts=texts, recipe=recipe, work=work))
    drawn = draw_varied(texts, recipe.sft, recipe)
    log.info("%d texts, %d of them normal", len(drawn), (drawn["label"] == "normal").sum())
    for target in TARGETS:
        make_once(work / target, partial(_tune, target=target, texts=drawn, recipe=recipe))
        read = {"texts": len(drawn), "share_of_shipped": len(drawn) / count_shipped(recipe)}
        _place(work, target, captures, held_out, recipe, out / target, command, read)


def count_shipped(recipe: Recipe) -> int:
    """Labelled texts that the shipped base reads at most, each reading counted."""
    draw = recipe.answers
    return draw.epochs * (draw.per_label * (len(LABELS) - 1) + draw.per_normal)


def _make_base(folder: Path, texts: pd.DataFrame, recipe: Recipe, work: Path) -> None:
    tokenizer = build_tokenizer(vocabulary(), recipe.shape.context)
    model = build_model(tokenizer, recipe.shape, recipe.seed)
    phases = unlabelled_phases(texts, recipe)
    losses = pretrain(model, tokenizer, phases, work, recipe.pretrain.batch_tokens, recipe.seed)
    log.info("base: loss %s nats a token", ", ".join(f"{loss:.3f}" for loss in losses))
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tune(folder: Path, target: Target, texts: pd.DataFrame, recipe: Recipe) -> None:
    numbers = recipe.sft
    knobs = Knobs(
        method="full",
        target=target,
        epochs=1,  # all readings stand in the texts
        batch=numbers.batch,
        learning_rate=numbers.learning_rate,
        max_minutes=numbers.max_minutes,
        seed=recipe.seed,
    )
    steps = folder.parent / f"steps-{target}"
    steps.mkdir(exist_ok=True)
    tuned = train(folder.parent / "base", texts, folder, steps, knobs)
    log.info("%s: %s", target, tuned)
    write_tuned(tuned, folder)


def _place(
    work: Path,
    target: Target,
    captures: Captures,
    held_out: pd.DataFrame,
    recipe: Recipe,
    folder: Path,
    command: str,
    read: dict[str, float],
) -> None:
    """Calibrate a model and lay it down with its card."""
    trained, base = work / target, work / "base"
    calibration = calibrate_model(held_out, load_tuned(base, trained, "full"), recipe)
    tuned = read_tuned(trained)
    metrics = {**calibration.measures(), "train.loss": tuned.loss, "train.steps": tuned.steps}
    metrics |= {f"train.{name}": value for name, value in read.items()}
    shutil.rmtree(folder, ignore_errors=True)
    placed = place_weights(trained, folder, base, "full")
    order = Order(base, (), site="tasks", family=target, made_by=command)
    split = Split(captures.trained, captures.calibrate, ())
    write_card(make_site_card(order, placed, calibration, split, metrics, recipe.seed), folder)


def main(
    work: Annotated[Path, typer.Option(help="Keeps what a killed run made.")],
    out: Annotated[Path, typer.Option()],
    plants: Annotated[int, typer.Option(help="Simulated ones to learn from.")] = 48,
    per_label: Annotated[int, typer.Option(help="Texts in an epoch.")] = 1000,
    epochs: int = 3,
    minutes: Annotated[float, typer.Option(help="Of each training, at most.")] = 25.0,
    seed: int = 0,
) -> None:
    """Make both models."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    go_offline()
    numbers = (plants, per_label, epochs, minutes, seed)
    command = (
        "python -m finetune.pocket.single_task --plants {} --per-label {} --epochs {} --minutes {:g} "
        "--seed {} --work FOLDER --out FOLDER"
    ).format(*numbers)
    make_pair(shrink_recipe(*numbers), out, work, command)


if __name__ == "__main__":
    typer.run(main)
