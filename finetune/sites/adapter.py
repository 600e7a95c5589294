"""Tune an adapter for a site: `faultwise finetune sft --base DIR --data FOLDER --site NAME`.

    captures ─▶ texts ─▶ split by capture ─▶ phase after phase ─▶ calibration ─▶ card ─▶ registry
                 |                              |
             work/texts                  work/phase-1 …         what is there is not made again

The adapter comes into the site's place when it is whole, and from then on
`faultwise classify CAPTURE --site NAME` uses it.
"""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from assistant.detection.classify import make_prompts
from assistant.llm.adapters import CARD, AdapterCard, prompt_fingerprint, read_card, write_card
from assistant.llm.remembered import Scorer
from assistant.llm.seq2seq import is_seq2seq
from assistant.llm.weights import check_model_folder, fingerprint_weights
from assistant.pocket import POCKET
from assistant.registry import (
    SHIPPED,
    Registered,
    check_free,
    check_name,
    check_single,
    draft_folder,
    load_registered,
    register,
)
from finetune.calibrate import Calibration, calibrate_model, measure_windows, score_texts
from finetune.dataset import is_simulated
from finetune.examples import full_answer, read_direction_words
from finetune.recipe import Recipe, read_recipe
from finetune.sft import Knobs, Tuned, train
from finetune.sites.captures import (
    Split,
    choose_phases,
    claim_texts,
    draw_examples,
    find_captures,
    split_captures,
    stamp_files,
)
from finetune.sites.cards import (
    list_options,
    load_tuned,
    name_base,
    place_weights,
    read_tuned,
    round_metrics,
    write_tuned,
)
from finetune.sites.replay import knows_directions, split_kept, write_kept
from finetune.spread import check_spread, train_spread
from finetune.stages import Progress, digest_marks, make_once, remove_runs, silent
from traffic.errors import UserError
from traffic.labels import NORMAL

log = logging.getLogger(__name__)

_SINGLE = ("detection", "class", "direction")  # targets that make no classifier
_LOOK_SHARE = 20  # a look at held-out texts reads a twentieth of what the run reads
_LEAST_LOOKED_AT = 64
_WORTH = ("macro_f1", "false_share", "recall")  # of the shipped model, beside those of the new one
_LEAST_RECALL = 0.5


@dataclass(frozen=True)
class Order:
    """What is to be made.

    Attributes:
        base: the base model's folder.
        data: folders of labelled captures.
        site: whose adapter it becomes.
        family: its name at the site; by default the base's.
        phases: kinds of captures to learn from one after the other; all at once by default.
        plants: simulated plants beside the captures, so that labels that a site has not seen yet
            are not forgotten.
        per_label: texts of each label in an epoch, and eight times as many normal ones.
        exclude: captures that are only measured.
        begin: an adapter's folder to go on from; by default a new one.
        replace: an adapter of this name may give way.
        learned: captures that ``base`` or ``begin`` had learned from; the card names them too.
        directions: whether to learn who did it to whom; not from a model that knows labels but no
            directions, see `finetune.sites.replay.knows_directions`.
        made_by: the command, where another one than `finetune sft` gave the order.
        spread: accelerate's configuration to train in several processes by, see `finetune.spread`.
    """

    base: Path
    data: tuple[Path, ...]
    site: str
    family: str = ""
    phases: tuple[str, ...] = ()
    plants: int = 16
    per_label: int = 1500
    exclude: tuple[str, ...] = ()
    begin: Path | None = None
    replace: bool = False
    learned: tuple[str, ...] = ()
    directions: bool = True
    made_by: str = ""
    spread: Path | None = None


@dataclass(frozen=True)
class Made:
    """An adapter in its place, its card, the captures it learned from now, and how its last phase
    went."""

    adapter: Registered
    card: AdapterCard
    trained: tuple[str, ...]
    tuned: Tuned


def make_site_adapter(
    order: Order, knobs: Knobs, home: Path, work: Path | None = None, progress: Progress = silent
) -> Made:
    """Tune, calibrate and register an adapter.

    Args:
        order: what.
        knobs: how.
        home: the folder of state.
        work: keeps what stages made, so that a killed run goes on; by default in ``home``.
        progress: called with what is being done, how much of it is done, and of how much.

    Raises:
        UserError: anything that would make the result wrong, before training begins.
    """
    family = check_name(order.family or _name_family(order, knobs), "family")
    check_name(order.site, "site")
    check_order(order, knobs, home, family)
    captures = find_captures(order.data, order.exclude)
    marks = list_marks(order, knobs, captures)
    runs = home / "training" / order.site
    work = work or runs / f"{family}-{digest_marks(marks)}"
    recipe = read_recipe()
    texts = claim_texts(captures, order.plants, recipe, work, marks, progress)
    if not order.directions or (order.begin is not None and not knows_directions(order.begin)):
        texts = texts.assign(direction="")
    order = replace(order, learned=(*order.learned, *_list_learned(order.begin)))
    split = split_captures(texts, order.exclude, knobs.seed, order.learned)
    for name in ("train", "held_out", "test"):
        log.info("%s: %s", name.replace("_", " "), ", ".join(getattr(split, name)) or "none")

    phases = choose_phases(texts[texts["capture"].isin(split.train)], order.phases)
    held_out = texts[texts["capture"].isin(split.held_out)]
    begin = order.begin
    for number, (name, rows) in enumerate(phases.items(), start=1):
        folder = work / f"phase-{number}-{name}"
        share = len(rows) / sum(map(len, phases.values()))
        make = partial(
            tune_phase,
            base=order.base,
            rows=rows,
            held_out=held_out,
            begin=begin,
            steps=work / f"steps-{number}",
            per_label=order.per_label,
            knobs=replace(knobs, max_minutes=knobs.max_minutes * share),
            progress=partial(progress, f"tuning on {name} captures"),
            spread=order.spread,
        )
        make_once(folder, make)
        begin = folder
    assert begin is not None
    made = _finish(order, knobs, home, family, begin, texts, split, recipe)
    shutil.rmtree(work)
    remove_runs(runs, family)
    return made


def render_made(made: Made) -> str:
    """What was made, what it is worth on captures that it has not learned from, how to use it."""
    card, name = made.card, made.adapter.name
    captures = [name for name in made.trained if not is_simulated(name)]
    plants = len(made.trained) - len(captures)
    lines = [
        f"{name}: learned from {', '.join(captures)}{f' and {plants} simulated plants' if plants else ''}; "
        f"calibrated on {', '.join(card.split['calibrate'])}; ended by {made.tuned.ended}"
    ]
    for test in card.split["test"]:
        measures = {
            measure.removeprefix(f"{test}."): value
            for measure, value in card.metrics.items()
            if measure.startswith(f"{test}.")
        }
        lines.append(f"{test}: " + ", ".join(f"{k} {v:g}" for k, v in measures.items()))
        if measures.get("recall", 1.0) < max(_LEAST_RECALL, measures.get("shipped.recall", 0.0)):
            lines.append(
                f"warning: on {test} it finds less than the model that ships, or than half; record more, "
                f"or go back with `faultwise adapters use {made.adapter.site} {SHIPPED}`"
            )
    if not card.split["test"]:
        lines.append(
            "no capture was left to test on: give five or more, or --exclude one, to learn what it is worth"
        )
    if made.adapter.used:
        lines.append(f"`faultwise classify CAPTURE --site {made.adapter.site}` uses it")
    else:
        lines.append("for comparison only: no site uses it")
    return "\n".join(lines)


def _name_family(order: Order, knobs: Knobs) -> str:
    """The base's name; a folder that is called "base" says it one above."""
    folder = order.base.resolve()
    name = folder.parent.name if folder.name == "base" else folder.name
    return f"{name}-{knobs.target}" if knobs.target in _SINGLE else name


def check_order(order: Order, knobs: Knobs, home: Path, family: str) -> None:
    """What can be known at once."""
    check_model_folder(order.base)
    is_seq2seq(order.base)
    if not order.replace:
        check_free(home, order.site, family)
    if order.spread is not None:
        check_spread(order.spread, knobs.batch)
    if order.begin is None:
        return
    check_single(order.begin, order.base)
    config = order.begin / "adapter_config.json"
    shape = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    made = "full" if not shape else "dora" if shape.get("use_dora") else "lora"
    if made != knobs.method.replace("qlora", "lora"):
        raise UserError(
            f"{order.begin} was made by --method {made}; expected the same here, not {knobs.method}; "
            "leave --begin out, or name its method"
        )


def _list_learned(begin: Path | None) -> tuple[str, ...]:
    """The captures that an adapter has learned from."""
    return read_card(begin).data if begin is not None and (begin / CARD).is_file() else ()


def list_marks(order: Order, knobs: Knobs, captures: dict[str, Path]) -> list[str]:
    """All that stages depend on; minutes may change when a run goes on."""
    numbers = {name: value for name, value in asdict(knobs).items() if name != "max_minutes"}
    made_of = [
        order.phases,
        order.plants,
        order.per_label,
        sorted(order.exclude),
        stamp_files(captures),
    ]
    begun = fingerprint_weights(order.begin) if order.begin is not None else ""
    return [
        json.dumps([numbers, made_of], default=list),
        fingerprint_weights(order.base),
        begun,
        prompt_fingerprint(),
    ]


def tune_phase(
    folder: Path,
    base: Path,
    rows: pd.DataFrame,
    held_out: pd.DataFrame,
    begin: Path | None,
    steps: Path,
    per_label: int,
    knobs: Knobs,
    progress: Callable[[int, int], None],
    spread: Path | None = None,
) -> None:
    """Tune a base on a balanced draw of texts, into a folder that `finetune.stages.make_once` gives.

    Args:
        folder: gets the weights, and how it went.
        base: the base model's folder.
        rows: texts to learn from, as `finetune.sites.captures.make_site_texts` has them.
        held_out: of other captures: they say when it ends.
        begin: an adapter's folder to go on from.
        steps: keeps checkpoints.
        per_label: texts of each label in an epoch, and eight times as many normal ones.
        knobs: how.
        progress: called with how much is done of how much.
        spread: accelerate's configuration, to train in several processes.
    """
    steps.mkdir(parents=True, exist_ok=True)
    examples = draw_examples(rows, per_label, knobs.seed)
    # Where a phase is of one kind of capture, others must not end it.
    like = held_out[held_out["kind"].isin(rows["kind"].unique())]
    looked_at = draw_examples(like if len(like) else held_out, per_label, knobs.seed)
    most = max(_LEAST_LOOKED_AT, len(examples) * knobs.epochs // _LOOK_SHARE)
    log.info(
        "%s: %d texts to learn, at most %g minutes", folder.stem, len(examples), knobs.max_minutes
    )
    tune = train if spread is None else partial(train_spread, spread)
    tuned = tune(base, examples, folder, steps, knobs, looked_at.head(most), begin, progress)
    log.info(
        "%s: loss %.4f, held out %.4f nats a token of the answer after %d steps; ended by %s",
        *(folder.stem, tuned.loss, tuned.held_out_loss, tuned.steps, tuned.ended),
    )
    write_tuned(tuned, folder)


def _finish(
    order: Order,
    knobs: Knobs,
    home: Path,
    family: str,
    trained: Path,
    texts: pd.DataFrame,
    split: Split,
    recipe: Recipe,
) -> Made:
    tuned = read_tuned(trained)
    llm = load_tuned(order.base, trained, knobs.method)
    held_out = texts[texts["capture"].isin(split.held_out)].reset_index(drop=True)
    calibration = calibrate_model(held_out, llm, recipe)
    metrics = calibration.measures()
    metrics |= {"train.loss": tuned.loss, "held_out.loss": tuned.held_out_loss}
    for name in split.test:
        rows = texts[texts["capture"] == name].reset_index(drop=True)
        measures = measure_windows(rows, score_texts(rows, llm), calibration.bounds)
        words = read_direction_words(order.base)
        measures["direction_right"] = measure_directions(rows, llm, words)
        measures |= _measure_shipped(rows)
        metrics |= {f"{name}.{measure}": value for measure, value in measures.items()}

    draft = draft_folder(home, order.site, family)
    placed = place_weights(trained, draft, order.base, knobs.method)
    write_kept(split_kept(texts, split), draft)
    order = replace(order, family=family, made_by=order.made_by or _command(order, knobs))
    card = make_site_card(order, placed, calibration, split, metrics, knobs.seed)
    write_card(card, draft)
    made = register(draft, order.site, family, chosen=knobs.target not in _SINGLE)
    return Made(made, card, split.train, tuned)


def make_site_card(
    order: Order,
    placed: dict[str, Any],
    calibration: Calibration,
    split: Split,
    metrics: dict[str, float],
    seed: int,
) -> AdapterCard:
    """The card of a site's adapter.

    Args:
        order: what was made; its family and command are known by now.
        placed: from `finetune.sites.cards.place_weights`.
        calibration: on the captures held out.
        split: which capture was for what.
        metrics: measures by name; those that are numbers are kept.
        seed: of the training.
    """
    return AdapterCard(
        name=f"{order.site}/{order.family}",
        **placed,
        **calibration.on_card(),
        data=tuple(dict.fromkeys((*split.train, *order.learned))),
        split={"calibrate": split.held_out, "test": split.test},
        seed=seed,
        metrics=round_metrics(metrics),
        made_by=order.made_by,
    )


def measure_directions(texts: pd.DataFrame, llm: Scorer, words: dict[str, str]) -> float:
    """Of the anomalous windows whose direction is known, the share whose direction is the likelier
    one after their true label; NaN where there are none, or the base has no words for it."""
    right = total = 0
    known = texts[(texts["label"] != NORMAL) & texts["direction"].isin(words)]
    for label, rows in known.groupby("label"):
        choices = [full_answer(str(label), word) for word in words.values()]
        scores = llm.score(make_prompts(rows["text"].tolist(), llm), choices)
        said = np.array(list(words))[scores.argmax(axis=1)]
        right += int((said == rows["direction"].to_numpy()).sum())
        total += len(rows)
    return right / total if total else float("nan")


def _measure_shipped(windows: pd.DataFrame) -> dict[str, float]:
    """What the model that ships makes of the same windows; nothing where it does not load."""
    try:
        llm, card = load_registered(POCKET)
    except UserError as mistake:  # hours of training are not lost over a comparison
        log.warning("the model that ships is not compared with: %s", mistake)
        return {}
    measures = measure_windows(windows, score_texts(windows, llm), card.bounds)
    return {f"shipped.{name}": value for name, value in measures.items() if name in _WORTH}


def _command(order: Order, knobs: Knobs) -> str:
    """The command that made it, without a path of this machine."""
    words = [
        f"faultwise finetune sft --base {name_base(order.base)} --data FOLDER --site {order.site}"
    ]
    usual, plain = Knobs(), Order(order.base, order.data, order.site)
    chosen = ("method", "target", "rank", "epochs", "batch", "learning_rate", "seed")
    words += list_options(knobs, usual, chosen)
    if order.phases:
        words.append(f"--phases {','.join(order.phases)}")
    words += list_options(order, plain, ("plants", "per_label"))
    words += [f"--exclude {name}" for name in order.exclude]
    return " ".join([*words, *(["--begin ADAPTER"] if order.begin else [])])
