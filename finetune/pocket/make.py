"""Make the pocket model: `faultwise finetune pocket --out FOLDER [--quick] [--begin BASE]
[--exclude CAPTURE]`.

    plants, captures ─▶ texts ─▶ base (pretrained) ─▶ adapter (LoRA) ─▶ calibration ─▶ card
       simulate           |           |                   |
                        work/texts  work/base         work/adapter       what is there is not made again

Every stage is written to its own name only when it is complete, so a killed run goes on where it
was. The numbers are in recipes/pocket.yaml. From scratch the base reads general traffic, then
plants, then plants with their labels; begun from another base it only does the last, which is how a
model follows a simulator that has become better.
"""

import logging
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from rich.console import Console
from rich.progress import Progress

from assistant.llm.adapters import AdapterCard, prompt_fingerprint, write_card
from assistant.llm.local import LocalLLM
from assistant.llm.transformer import TRAINED, load_model
from assistant.llm.weights import check_model_folder, fingerprint_weights
from finetune.calibrate import Calibration, calibrate_model, measure_windows, score_texts
from finetune.dataset import (
    Captures,
    balance_texts,
    choose_captures,
    count_texts,
    is_house,
    is_simulated,
    make_capture_texts,
    read_texts,
    vary_texts,
)
from finetune.pocket.pretrain import Phase, build_model, pretrain
from finetune.pocket.tokenizer import build_tokenizer
from finetune.recipe import Draw, Recipe
from finetune.sft import Knobs, train
from finetune.stages import claim_folder, make_once
from prompts.messages import ANSWERS
from prompts.window_text import vocabulary
from traffic.labels import LABELS, NORMAL

log = logging.getLogger(__name__)


def make_pocket(
    recipe: Recipe,
    out: Path,
    work: Path,
    data: Sequence[Path] = (),
    exclude: Sequence[str] = (),
    begin: Path | None = None,
    calibrate_on: Sequence[str] = (),
) -> AdapterCard:
    """Run every stage that has not been run, and write ``out/base`` and ``out/adapter`` with its
    card.

    Args:
        recipe: the run's numbers.
        out: gets the model.
        work: keeps what stages made; it belongs to one recipe and one choice of data.
        data: folders of labelled captures beside the simulated plants.
        exclude: captures of ``data`` left out of all training, and measured as unseen.
        begin: a base whose weights are the first ones; by default they are random.
        calibrate_on: captures of ``data`` that the bounds are chosen on, beside the recipe's plants.

    Raises:
        UserError: ``work`` holds another run, ``exclude`` names no capture of ``data``, or
            ``begin`` is no model.
    """
    captures = choose_captures(recipe, data, exclude, calibrate_on)
    if begin is not None:
        check_model_folder(begin)
    claim_folder(work, _marks(recipe, captures, begin))
    make_once(work / "texts", partial(make_capture_texts, captures=captures, recipe=recipe))
    texts = {name: read_texts(work / "texts" / f"{name}.parquet") for name in captures.all}

    train = pd.concat([count_texts(texts[name]) for name in captures.trained], ignore_index=True)
    # The base reads plants, simulated and recorded by the testbed, and no capture of others' networks:
    # so one base serves adapters with and without any of those.
    plants = train[train["capture"].map(captures.is_made)]
    make_once(
        work / "base", partial(_make_base, texts=plants, recipe=recipe, work=work, begin=begin)
    )
    make_once(work / "adapter", partial(_make_adapter, texts=train, recipe=recipe, work=work))

    llm = LocalLLM(work / "base", work / "adapter")
    held_out = {
        part: pd.concat([texts[name] for name in names], ignore_index=True)
        for part, names in (("calibrate", captures.calibrate), ("test", captures.test))
    }
    calibration = calibrate_model(held_out["calibrate"], llm, recipe)
    metrics = calibration.measures()
    metrics |= _measure(held_out["test"], llm, calibration)
    card = _make_card(work, recipe, calibration, metrics, captures, bool(data), begin)
    write_card(card, work / "adapter")
    _place(work, out)
    return card


def _place(work: Path, out: Path) -> None:
    """Put base and adapter where they are used: each comes whole, and until both have come the
    card's fingerprint refuses the pair."""
    drafts = {part: out / f".{part}.draft" for part in ("base", "adapter")}
    for part, draft in drafts.items():
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(work / part, draft)
    for part, draft in drafts.items():
        old = out / f".{part}.replaced"
        shutil.rmtree(old, ignore_errors=True)
        if (out / part).exists():
            (out / part).rename(old)
        draft.rename(out / part)
        shutil.rmtree(old, ignore_errors=True)


def _marks(recipe: Recipe, captures: Captures, begin: Path | None) -> list[str]:
    """All that stages depend on."""
    begun = [fingerprint_weights(begin)] if begin is not None else []
    return [
        recipe.model_dump_json(),
        prompt_fingerprint(),
        *begun,
        *captures.trained,
        "",
        *captures.calibrate,
        "",
        *captures.test,
    ]


def _make_base(
    folder: Path, texts: pd.DataFrame, recipe: Recipe, work: Path, begin: Path | None
) -> None:
    if begin is None:
        tokenizer = build_tokenizer(vocabulary(), recipe.shape.context)
        model = build_model(tokenizer, recipe.shape, recipe.seed)
        simulated = texts[texts["capture"].map(is_simulated)]
        phases = [*unlabelled_phases(simulated, recipe), _labelled(texts, recipe)]
    else:
        tokenizer, model = load_model(begin, **TRAINED)
        phases = [_labelled(texts, recipe)]
    losses = pretrain(model, tokenizer, phases, work, recipe.pretrain.batch_tokens, recipe.seed)
    log.info("pretraining loss, nats a token: %s", ", ".join(f"{loss:.3f}" for loss in losses))
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def unlabelled_phases(texts: pd.DataFrame, recipe: Recipe) -> list[Phase]:
    """Texts without labels, general traffic, then plants: a capture is one's if anything in it
    speaks a control protocol.

    Args:
        texts: as `finetune.dataset.count_texts` gives them.
        recipe: says how many, how often and for how long.
    """
    plain = ~texts["text"].str.contains("pkts_control.", regex=False).groupby(
        texts["capture"]
    ).transform("any")
    bounds = (recipe.pretrain.epochs, recipe.pretrain.max_minutes, recipe.pretrain.learning_rate)
    phases = []
    for name, rows in (("general", texts[plain]), ("plant", texts[~plain])):
        drawn = rows.sample(min(len(rows), recipe.pretrain.texts), random_state=recipe.seed)[
            "text"
        ].tolist()
        phases += [Phase(name, drawn, *bounds)] if drawn else []
    return phases


def _labelled(texts: pd.DataFrame, recipe: Recipe) -> Phase:
    asked = draw_varied(texts, recipe.answers, recipe)
    answers = [ANSWERS[label] for label in asked["label"]]
    bounds = (recipe.answers.max_minutes, recipe.answers.learning_rate)
    return Phase("labelled", asked["text"].tolist(), 1, *bounds, answers)


def _balance(texts: pd.DataFrame, draw: Draw, share: float, seed: int) -> pd.DataFrame:
    """A share of what a recipe draws of each label."""
    normal = (texts["label"] == NORMAL).to_numpy()
    parts = [
        balance_texts(texts[which], round(share * most), draw.repeats, seed)
        for which, most in ((normal, draw.per_normal), (~normal, draw.per_label))
    ]
    return pd.concat(parts, ignore_index=True)


def _draw_examples(texts: pd.DataFrame, draw: Draw, seed: int) -> pd.DataFrame:
    """Simulated plants are hundreds, real captures a few: each kind gets a share of its own."""
    plant = texts["capture"].map(is_simulated).to_numpy(bool)
    house = texts["capture"].map(is_house).to_numpy(bool)
    real = ~plant & ~house
    shares = (draw.house_share * house.any(), draw.real_share * real.any())
    kinds = ((plant, 1 - sum(shares)), *zip((house, real), shares, strict=True))
    parts = [_balance(texts[which], draw, share, seed) for which, share in kinds]
    return pd.concat(parts, ignore_index=True).sample(frac=1, random_state=seed, ignore_index=True)


def draw_varied(texts: pd.DataFrame, draw: Draw, recipe: Recipe) -> pd.DataFrame:
    """What is read in all epochs, each drawn and varied anew.

    Args:
        texts: as `finetune.dataset.count_texts` gives them.
        draw: how many of each label, from which captures, how often.
        recipe: gives the seed, and how texts are varied.
    """
    epochs = []
    for seed in range(recipe.seed, recipe.seed + draw.epochs):
        drawn = _draw_examples(texts, draw, seed)
        varied = vary_texts(drawn["text"].tolist(), recipe.vary.moved, recipe.vary.left_out, seed)
        epochs.append(drawn.assign(text=varied))
    return pd.concat(epochs, ignore_index=True)


def _make_adapter(folder: Path, texts: pd.DataFrame, recipe: Recipe, work: Path) -> None:
    steps = work / "sft"
    steps.mkdir(exist_ok=True)
    drawn = draw_varied(texts, recipe.sft, recipe)
    knobs = Knobs(
        rank=recipe.sft.rank,
        epochs=1,
        batch=recipe.sft.batch,
        learning_rate=recipe.sft.learning_rate,
        max_minutes=recipe.sft.max_minutes,
        seed=recipe.seed,
    )
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("tuning the adapter", total=None)
        tuned = train(
            work / "base", drawn, folder, steps, knobs,
            progress=lambda done, of: bar.update(task, completed=done, total=of),
        )  # fmt: skip
    log.info("tuning loss, nats a token: %.4f", tuned.loss)


def _measure(windows: pd.DataFrame, llm: LocalLLM, calibration: Calibration) -> dict[str, float]:
    scores = score_texts(windows, llm)
    # Simulated plants are judged together, houses too, each real capture for itself.
    groups = windows["capture"].mask(windows["capture"].map(is_simulated), "simulated")
    groups = groups.mask(groups.map(is_house), "houses")
    metrics: dict[str, float] = {}
    for name, rows in groups.groupby(groups).indices.items():
        measures = measure_windows(windows.iloc[rows], scores[rows], calibration.bounds)
        metrics |= {f"{name}.{measure}": value for measure, value in measures.items()}
    return metrics


def _make_card(
    work: Path,
    recipe: Recipe,
    calibration: Calibration,
    metrics: dict[str, float],
    captures: Captures,
    has_data: bool,
    begin: Path | None,
) -> AdapterCard:
    excluded = [f"--exclude {name}" for name in captures.test if name in captures.paths]
    held = [f"--calibrate {name}" for name in captures.calibrate if name in captures.paths]
    options = [
        *(["--begin BASE"] if begin else []),
        *(["--data FOLDER"] if has_data else []),
        *held,
        *excluded,
    ]
    return AdapterCard(
        name="pocket",
        base="../base",
        base_fingerprint=fingerprint_weights(work / "base"),
        begun_from=fingerprint_weights(begin) if begin is not None else "",
        prompt_fingerprint=prompt_fingerprint(),
        labels=LABELS,
        **calibration.on_card(),
        data=captures.trained,
        split={"calibrate": captures.calibrate, "test": captures.test},
        seed=recipe.seed,
        metrics=metrics,
        made_by=" ".join(["faultwise finetune pocket", *options]),
        created=datetime.now(UTC).date().isoformat(),
    )
