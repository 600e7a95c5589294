"""Align a site's adapter with its operators' feedback: `faultwise finetune align --site NAME`.

    feedback ─▶ claims ─▶ evidence ─▶ windows ─▶ held out by incident ─▶ measured before and after
                                         └─▶ preferences, with known windows beside ─▶ trainer
                                                          calibration ─▶ card ─▶ guard ─▶ registry

The site uses the result only where it is silent about nothing that is proved, and finds no less on
captures with truth than the adapter that it began with.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from assistant.llm.adapters import AdapterCard, prompt_fingerprint, write_card
from assistant.llm.remembered import Scorer
from assistant.llm.seq2seq import is_seq2seq
from assistant.llm.weights import fingerprint_weights
from assistant.pocket import POCKET
from assistant.registry import (
    Registered,
    check_free,
    check_name,
    check_single,
    draft_folder,
    find_in_use,
    load_registered,
    register,
)
from finetune.align.claims import Claims, read_claims
from finetune.align.evidence import Windows, check_claims
from finetune.align.measure import compare, find_losses
from finetune.align.preferences import Parts, add_known, choose_rivals, hold_out
from finetune.align.reward_model import keep_reward, load_reward
from finetune.align.rewards import CHECKED
from finetune.align.trainers import How, Knobs, Reward, align, train_reward
from finetune.calibrate import calibrate_model
from finetune.recipe import Recipe, read_recipe
from finetune.recorded import RECORDED, list_recorded, read_recorded
from finetune.sites.captures import find_captures, make_site_texts
from finetune.sites.cards import (
    list_options,
    load_tuned,
    place_weights,
    read_tuned,
    round_metrics,
    write_tuned,
)
from finetune.stages import Progress, claim_folder, digest_marks, make_once, remove_runs
from traffic.errors import UserError
from traffic.files import write_text
from traffic.plant import Plant

log = logging.getLogger(__name__)

Rewarded = Literal["checked", "model"]
_KNOWN_CAPTURES = 12  # recorded plants of which known windows are drawn
_SAMPLED = ("grpo", "rloo")


@dataclass(frozen=True)
class Order:
    """What is to be aligned.

    Attributes:
        site: whose adapter; one that has none begins with the shipped one.
        captures: in which the feedback was given.
        feedback: exported files beside the home's own history.
        how: the method, ``reward`` for a reward model alone.
        data: labelled captures to calibrate on.
        plants: simulated plants beside them.
        family: the result's name at the site; by default the begun one's with the method.
        begin: an adapter's folder to begin with, by default what the site uses.
        most: windows of one device and cause that count.
        known: windows with known truth for one of feedback.
        rewards: of GRPO and RLOO: checked by code, or those of the site's reward model.
        replace: an adapter of this name may give way.
    """

    site: str
    captures: tuple[Path, ...]
    feedback: tuple[Path, ...] = ()
    how: How | Literal["reward"] = "kto"
    data: tuple[Path, ...] = ()
    plants: int = 4
    family: str = ""
    begin: Path | None = None
    most: int = 8
    known: float = 2.0
    rewards: Rewarded = "checked"
    replace: bool = False


@dataclass(frozen=True)
class Aligned:
    """What came of it.

    Attributes:
        name: SITE/FAMILY of the adapter, or of the reward model.
        used: the site uses it from now on.
        windows: what was learned from and what was left out, with the reasons.
        parts: of the windows, learned and held out.
        metrics: those of the card.
        warnings: why the site does not use it.
    """

    name: str
    used: bool
    windows: Windows
    parts: Parts
    metrics: dict[str, float]
    warnings: tuple[str, ...]


def align_site(
    order: Order, knobs: Knobs, home: Path, plant: Plant | None, progress: Progress
) -> Aligned:
    """Check feedback, align an adapter with it, calibrate and register it.

    Args:
        order: what.
        knobs: how.
        home: the folder of state.
        plant: the inventory; None for the plant.yaml in or beside each capture.
        progress: called with what is being done, how much of it is done, and of how much.

    Raises:
        UserError: there is no feedback, or none that captures bear out; the adapter cannot be
            aligned; the name is taken; there is nothing to calibrate on.
    """
    check_name(order.site, "site")
    begin = order.begin or find_in_use(home, order.site)
    card = _check_begin(begin)
    family = check_name(order.family or f"{_family_of(begin, card)}-{order.how}", "family")
    if not order.replace and order.how != "reward":
        check_free(home, order.site, family)
    base = card.find_base(begin)
    rewards: Sequence[Reward] = CHECKED
    if order.rewards == "model" and order.how in _SAMPLED:
        rewards = (load_reward(home, order.site, card),)
    claims = read_claims(home, order.feedback)

    marks = _marks(order, claims, begin)
    runs = home / "training" / order.site
    checked = runs / f"feedback-{digest_marks(marks)}"
    remove_runs(runs, "feedback", keep=checked)
    claim_folder(checked, marks)
    llm, _ = load_registered(begin)
    windows = _hold_against_captures(checked / "windows", order, claims, llm, card, plant, progress)
    recipe = read_recipe()
    known, calibrate = _make_known(order, card, windows, recipe, checked / "texts", knobs, progress)

    parts = hold_out(windows.table, knobs.seed)
    learned = choose_rivals(add_known(parts.learned, known, order.known, knobs.seed), llm)
    made_of = {name: value for name, value in asdict(knobs).items() if name != "max_minutes"}
    marks = [*marks, json.dumps([made_of, order.how, order.known, order.rewards, order.plants])]
    work = runs / f"{family}-{digest_marks(marks)}"
    claim_folder(work, marks)
    train = partial(
        _train, order=order, knobs=knobs, base=base, begin=begin, learned=learned,
        steps=work / "steps", rewards=rewards, progress=partial(progress, f"aligning by {order.how}"),
    )  # fmt: skip
    make_once(work / "trained", train)
    if order.how == "reward":
        metrics = keep_reward(home, order.site, work / "trained", card, parts, llm)
        made = Aligned(f"{order.site}/reward model", False, windows, parts, metrics, ())
    else:
        made = _finish(
            order, knobs, home, family, base, card, llm, work / "trained", known, calibrate,
            windows, parts, recipe,
        )  # fmt: skip
    remove_runs(runs, family)
    return made


def render_aligned(made: Aligned) -> str:
    """What was learned from, what was left out and why, and what changed on what was held out."""
    table, parts = made.windows.table, made.parts
    lines = [
        f"{made.name}: learned from {len(parts.learned)} windows of "
        f"{parts.learned['incident'].nunique()} incidents in {table['capture'].nunique()} captures; "
        f"{len(parts.held_out)} windows held out by {parts.by}"
    ]
    lines += [f"set aside: {one}: {why}" for one, why in made.windows.set_aside.items()]
    lines += [f"note: {one}" for one in made.windows.notes]
    names = sorted({name.rpartition(".")[0] for name in made.metrics if name.endswith(".before")})
    lines += [
        f"{name.replace('_', ' ').replace('.', ': ')}: {made.metrics[f'{name}.before']:.3f} before, "
        f"{made.metrics[f'{name}.after']:.3f} after"
        for name in names
        if f"{name}.after" in made.metrics
    ]
    if parts.held_out.empty:
        lines.append(
            "fewer than four incidents: none was held out, so nothing says what it is worth"
        )
    lines += [f"warning: {one}" for one in made.warnings]
    site, _, family = made.name.partition("/")
    if made.used:
        lines.append(f"`faultwise classify CAPTURE --site {site}` uses it")
    elif made.warnings:
        lines.append(f"{site} does not use it; `faultwise adapters use {site} {family}` makes it")
    return "\n".join(lines)


# ---- What is begun with ----


def _check_begin(begin: Path) -> AdapterCard:
    card = check_single(begin)
    if not (begin / "adapter_config.json").is_file():
        raise UserError(
            f"{begin} is a model that was tuned whole; expected an adapter, so that what it was can "
            "be kept beside it; tune one with `faultwise finetune sft`"
        )
    if is_seq2seq(card.find_base(begin)):
        raise UserError(
            f"{begin} belongs to an encoder-decoder, which no trainer of preferences takes; expected "
            "one of a causal base; tune it on `faultwise feedback export --format intervals` instead"
        )
    return card


def _family_of(begin: Path, card: AdapterCard) -> str:
    """Its name at its site; the shipped one's on its card."""
    return card.name.rpartition("/")[2] if begin != POCKET else POCKET.parent.name


def _marks(order: Order, claims: Claims, begin: Path) -> list[str]:
    """All that the windows of feedback depend on."""
    files = [
        (str(path.relative_to(root.parent)), path.stat().st_size, path.stat().st_mtime_ns)
        for root in order.captures
        for path in ([root] if root.is_file() else sorted(root.rglob("*")))
        if path.is_file()
    ]
    data = [str(path.resolve()) for path in order.data]
    return [
        json.dumps([files, order.most, data]),
        claims.table.to_csv(index=False),
        fingerprint_weights(begin),
        prompt_fingerprint(),
    ]


# ---- Windows: of feedback, and with known truth ----


def _hold_against_captures(
    folder: Path,
    order: Order,
    claims: Claims,
    llm: Scorer,
    card: AdapterCard,
    plant: Plant | None,
    progress: Progress,
) -> Windows:
    """The windows that feedback is about, as far as captures bear it out; checked once, and kept."""

    def check(draft: Path) -> None:
        told = partial(progress, "holding feedback against the captures")
        found = check_claims(claims, order.captures, llm, card, plant, order.most, told)
        found.table.to_parquet(draft / "claimed.parquet", index=False)
        found.proved.to_parquet(draft / "proved.parquet", index=False)
        said = {"set_aside": found.set_aside, "notes": found.notes}
        write_text(draft / "said.json", json.dumps(said))

    make_once(folder, check)
    said = json.loads((folder / "said.json").read_text(encoding="utf-8"))
    return Windows(
        pd.read_parquet(folder / "claimed.parquet"),
        pd.read_parquet(folder / "proved.parquet"),
        said["set_aside"],
        tuple(said["notes"]),
    )


def _make_known(
    order: Order,
    card: AdapterCard,
    windows: Windows,
    recipe: Recipe,
    folder: Path,
    knobs: Knobs,
    progress: Progress,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Windows with truth: of recorded plants to learn beside feedback, and those that the adapter
    never learned from to calibrate on."""
    about = set(windows.table["capture"])
    recorded = [name for name in list_recorded(RECORDED) if name not in about]
    held = [name for name in recorded if name in card.split.get("calibrate", ())]
    captures = find_captures(order.data, least=1) if order.data else {}
    unseen = {
        name: path for name, path in captures.items() if name not in card.data and name not in about
    }
    first = recipe.calibrate_seeds[0]
    reading = partial(progress, "reading captures with truth")
    parts = [read_recorded(RECORDED, name) for name in held]
    if unseen or order.plants:
        parts.append(make_site_texts(unseen, order.plants, recipe, folder, reading, first))
    if not parts:
        raise UserError(
            "no windows with truth to calibrate on; expected --plants above 0, or --data FOLDER with "
            f"captures that {card.name} did not learn from; give either"
        )
    rng = np.random.default_rng(knobs.seed)
    others = [name for name in recorded if name not in held]
    chosen = rng.permutation(others)[:_KNOWN_CAPTURES]
    known = pd.concat([read_recorded(RECORDED, str(name)) for name in chosen], ignore_index=True)
    return known, pd.concat(parts, ignore_index=True)


# ---- Training ----


def _train(
    folder: Path,
    order: Order,
    knobs: Knobs,
    base: Path,
    begin: Path,
    learned: pd.DataFrame,
    steps: Path,
    rewards: Sequence[Reward],
    progress: Callable[[int, int], None],
) -> None:
    steps.mkdir(parents=True, exist_ok=True)
    if order.how == "reward":
        tuned = train_reward(base, begin, learned, folder, steps, knobs, progress)
    else:
        tuned = align(base, begin, learned, folder, steps, order.how, knobs, rewards, progress)
    log.info("%s: loss %.4f after %d steps", order.how, tuned.loss, tuned.steps)
    write_tuned(tuned, folder)


# ---- The result ----


def _finish(
    order: Order,
    knobs: Knobs,
    home: Path,
    family: str,
    base: Path,
    card: AdapterCard,
    before: Scorer,
    trained: Path,
    known: pd.DataFrame,
    calibrate: pd.DataFrame,
    windows: Windows,
    parts: Parts,
    recipe: Recipe,
) -> Aligned:
    after = load_tuned(base, trained, "lora")
    calibration = calibrate_model(calibrate, after, recipe)
    metrics = calibration.measures() | {"train.loss": read_tuned(trained).loss}
    metrics |= compare(before, card.bounds, after, calibration.bounds, parts, windows, calibrate)
    warnings = find_losses(metrics, windows)
    draft = draft_folder(home, order.site, family)
    placed = place_weights(trained, draft, base, "lora")
    learned = tuple(sorted({*card.data, *parts.learned["capture"], *known["capture"]}))
    held_out = tuple(sorted(set(parts.held_out["capture"])))
    write_card(
        AdapterCard(
            name=f"{order.site}/{family}",
            **placed,
            **calibration.on_card(),
            data=learned,
            split={"calibrate": tuple(sorted(set(calibrate["capture"]))), "feedback": held_out},
            seed=knobs.seed,
            metrics=round_metrics(metrics),
            made_by=f"{card.made_by}; {_command(order, knobs)}",
        ),
        draft,
    )
    made: Registered = register(draft, order.site, family, chosen=not warnings)
    return Aligned(made.name, made.used, windows, parts, metrics, warnings)


def _command(order: Order, knobs: Knobs) -> str:
    """The command that made it, without a path of this machine."""
    words = [f"faultwise finetune align --site {order.site} --how {order.how} --capture PATH..."]
    usual, plain = Knobs(), Order(order.site, order.captures)
    words += list_options(
        knobs, usual, ("epochs", "batch", "learning_rate", "beta", "samples", "seed")
    )
    words += list_options(order, plain, ("plants", "most", "known", "rewards"))
    words += ["--feedback FILE"] * bool(order.feedback) + ["--data FOLDER"] * bool(order.data)
    return " ".join(words)
