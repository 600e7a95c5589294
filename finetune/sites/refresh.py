"""Follow a plant that has changed: `faultwise finetune refresh --data FOLDER --site NAME`.

    new captures ─▶ texts ─▶ split by capture ─┐
    adapter in use ─▶ what it learned before ──┴▶ tuning ─▶ calibration ─▶ lost? gained? ─▶ registry

Tuned on new windows alone a model forgets old ones. ``replay`` reads old ones beside the new;
``osf`` changes only what the weights use least (Nayak et al. 2025, arXiv 2504.07097), which needs
no old window, and gives a model of its own instead of an adapter. What was lost is measured on
captures of before that neither learning nor bounds have seen. Where that is more than a stated
amount, or the new captures are judged no better, the result is registered and not used.
"""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import pandas as pd

from assistant.llm.adapters import AdapterCard, Bounds, prompt_fingerprint, write_card
from assistant.llm.remembered import Scorer
from assistant.llm.weights import fingerprint_weights
from assistant.registry import (
    Registered,
    check_name,
    check_registered,
    draft_folder,
    find_in_use,
    load_registered,
    register,
)
from finetune.bases import WHOLE, Method
from finetune.calibrate import calibrate_model, measure_windows, score_texts
from finetune.recipe import read_recipe
from finetune.sft import Knobs, train
from finetune.sites.captures import (
    draw_examples,
    find_captures,
    make_site_texts,
    split_captures,
    stamp_files,
)
from finetune.sites.cards import list_options, load_tuned, place_weights, round_metrics, write_tuned
from finetune.sites.merge import fold
from finetune.sites.replay import KEPT, Old, gather_old, knows_directions, split_kept, write_kept
from finetune.stages import Progress, claim_folder, make_once, silent
from traffic.errors import UserError

log = logging.getLogger(__name__)

How = Literal["replay", "osf"]
FAMILY = "refreshed"
# Half of what a new adapter of a small base is tuned with, and where weights are trained themselves.
RATE, _WHOLE_RATE = 1e-3, 2e-4
MOST_FORGOTTEN = 0.01
# What an operator loses: names of what is found, and what is found.
_WORTH = ("macro_f1", "recall")
_SHOWN = (*_WORTH, "false_share")
_LOOK_SHARE, _LOOKED_AT = 20, 64  # texts looked at, of what is read; at least
_THEN = "; faultwise finetune refresh"


@dataclass(frozen=True)
class Order:
    """What is to be made.

    Attributes:
        data: folders of labelled captures of the site as it is now.
        site: whose adapter goes on; one that has none goes on from the shipped one.
        how: against forgetting.
        plants: simulated plants to replay, as many to calibrate and as many to measure on.
        per_label: texts of each label in an epoch, and eight times as many normal ones.
        replayed: share of the texts that are of before; nothing is replayed where it is 0.
        most_forgotten: of macro-F1 and recall on captures of before, what may be lost.
        exclude: captures that are only measured.
    """

    data: tuple[Path, ...]
    site: str
    how: How = "replay"
    plants: int = 8
    per_label: int = 600
    replayed: float = 0.5
    most_forgotten: float = MOST_FORGOTTEN
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """Measures of the same windows by the weights of before and after, each with bounds of the same
    captures: ``macro_f1``, ``recall``, ``false_share``, those that the windows bear."""

    before: dict[str, float]
    after: dict[str, float]

    def lost(self) -> float:
        """The most that macro-F1 or recall fell; below 0 where both rose."""
        both = [name for name in _WORTH if name in self.before and name in self.after]
        return max((self.before[name] - self.after[name] for name in both), default=0.0)


@dataclass(frozen=True)
class Refreshed:
    """What came of it.

    Attributes:
        adapter: in its place.
        card: its card.
        old, new: what changed on captures of before, and on new ones.
        fitted: the new captures that were measured gave the bounds too: too few to hold some back.
        reason: why the site does not use it, empty where it does.
    """

    adapter: Registered
    card: AdapterCard
    old: Change
    new: Change
    fitted: bool
    reason: str


def refresh_on_labels(
    order: Order, knobs: Knobs, home: Path, progress: Progress = silent
) -> Refreshed:
    """Tune the adapter in use on new captures, calibrate, measure and register it.

    Args:
        order: what.
        knobs: how long and how fast; method and target follow from the adapter.
        home: the folder of state; keeps what stages made, so that a killed run goes on.
        progress: called with what is being done, how much of it is done, and of how much.

    Raises:
        UserError: the adapter in use does not fit this release, or the captures hold nothing new
            or nothing to learn; before training begins.
    """
    check_name(order.site, "site")
    source = find_in_use(home, order.site)
    card = check_registered(source)
    knobs = _choose_knobs(knobs, source, order.how)
    captures = _find_new(order, card)
    work = home / "training" / order.site / FAMILY
    claim_folder(work, _marks(order, knobs, source, card.find_base(source), captures))
    texts = _gather(order, knobs, source, card, captures, work, progress)
    tune = partial(
        _tune,
        source=source,
        base=card.find_base(source),
        examples=_draw(texts.new["train"], texts.old.train, order, knobs.seed),
        held_out=_look_at(texts.new["held_out"], texts.old.held_out, order, knobs),
        work=work,
        knobs=knobs,
        progress=partial(progress, "tuning"),
    )
    make_once(work / "tuned", tune)
    made = _finish(order, knobs, home, source, card, texts, work / "tuned")
    shutil.rmtree(work)
    return made


@dataclass(frozen=True)
class _Texts:
    """What is learned and measured.

    Attributes:
        new: of the new captures, by what each is for.
        old: of before.
        shown: new windows that are measured, the test captures' where there are some.
        learned: names of the new captures that are learned from.
        fitted: ``shown`` gave the bounds too.
    """

    new: dict[str, pd.DataFrame]
    old: Old
    shown: pd.DataFrame
    learned: tuple[str, ...]
    fitted: bool

    @property
    def held_out(self) -> pd.DataFrame:
        """What the bounds are chosen on, new windows and old ones."""
        return pd.concat([self.new["held_out"], self.old.held_out], ignore_index=True)


def _gather(
    order: Order,
    knobs: Knobs,
    source: Path,
    card: AdapterCard,
    captures: dict[str, Path],
    work: Path,
    progress: Progress,
) -> _Texts:
    recipe = read_recipe()
    reading = partial(progress, "reading captures")
    texts = make_site_texts(captures, 0, recipe, work / "texts", reading)
    split = split_captures(texts, order.exclude, knobs.seed)
    new = split_kept(texts, split)
    simulating = partial(progress, "simulating plants")
    old = gather_old(source, card, order.plants, recipe, work / "plants", simulating)
    if not knows_directions(source):
        new = {part: rows.assign(direction="") for part, rows in new.items()}
        parts = {"train": old.train, "held_out": old.held_out}
        old = replace(old, **{part: rows.assign(direction="") for part, rows in parts.items()})
    shown = new["test"] if split.test else new["held_out"]
    return _Texts(new, old, shown.reset_index(drop=True), split.train, not split.test)


def _finish(
    order: Order,
    knobs: Knobs,
    home: Path,
    source: Path,
    card: AdapterCard,
    texts: _Texts,
    tuned: Path,
) -> Refreshed:
    """Calibrate, measure what was lost and gained, and register."""
    base, recipe, held_out = card.find_base(source), read_recipe(), texts.held_out
    measured = (texts.old.test, texts.shown)
    # Both by bounds of the same captures: otherwise another budget of false alarms looks like skill.
    llm, _ = load_registered(source)
    bounds = calibrate_model(held_out, llm, recipe).bounds
    before = [_measure(rows, llm, bounds) for rows in measured]
    llm = load_tuned(base, tuned, knobs.method)
    calibration = calibrate_model(held_out, llm, recipe)
    after = [_measure(rows, llm, calibration.bounds) for rows in measured]
    old, new = (Change(*pair) for pair in zip(before, after, strict=True))
    reason = judge(old, new, order.most_forgotten)

    draft = draft_folder(home, order.site, FAMILY)
    placed = place_weights(tuned, draft, base, knobs.method)
    metrics = calibration.measures()
    for when, change in (("old", old), ("new", new)):
        for moment in ("before", "after"):
            metrics |= {f"{when}.{moment}.{k}": v for k, v in getattr(change, moment).items()}
    held = {"calibrate": held_out, "test": pd.concat([texts.old.test, texts.new["test"]])}
    begun = card.begun_from or placed["begun_from"]
    changed = {
        **placed,
        **calibration.on_card(),
        "begun_from": begun,
        "name": f"{order.site}/{FAMILY}",
        "role_thresholds": {},  # a quiet time's bounds belong to the weights of before
        "data": tuple(dict.fromkeys([*card.data, *texts.learned])),
        "split": {name: tuple(sorted(set(rows["capture"]))) for name, rows in held.items()},
        "seed": knobs.seed,
        "metrics": round_metrics(metrics),
        "made_by": _command(order, knobs, card),
    }
    made = card.model_copy(update=changed)
    write_card(made, draft)
    _keep(source, texts.new, draft)
    adapter = register(draft, order.site, FAMILY, chosen=not reason)
    return Refreshed(adapter, made, old, new, texts.fitted, reason)


def render_refreshed(made: Refreshed) -> str:
    """What was lost and gained, and whether the site uses it."""
    lines = []
    for change, words in ((made.old, "captures of before"), (made.new, "new captures")):
        pairs = [
            f"{name} {change.before[name]:.3f} → {change.after[name]:.3f}"
            for name in _SHOWN
            if name in change.before and name in change.after
        ]
        lines.append(f"{words}: {', '.join(pairs) or 'none to measure on'}")
    if made.fitted:
        lines.append(
            "the new captures that were measured gave the bounds too: five or more leave one over"
        )
    if made.reason:
        lines += [
            f"warning: {made.reason}: site {made.adapter.site} goes on with what it used",
            f"`faultwise adapters use {made.adapter.site} {made.adapter.family}` uses it all the same",
        ]
    else:
        lines.append(f"{made.adapter.name}: site {made.adapter.site} uses it")
        lines.append(
            "bounds of a quiet time belong to the weights of before: fit them anew with --quiet"
        )
    return "\n".join(lines)


def judge(old: Change, new: Change, most_forgotten: float) -> str:
    """Why a refreshed adapter should not be used, or nothing."""
    if old.lost() > most_forgotten:
        return (
            f"on captures of before it lost {100 * old.lost():.1f} points; "
            f"at most {100 * most_forgotten:g} may be forgotten"
        )
    found = new.after.get("recall", 0.0) - new.before.get("recall", 0.0)
    false = new.after.get("false_share", 0.0) - new.before.get("false_share", 0.0)
    named = new.after.get("macro_f1", 0.0) - new.before.get("macro_f1", 0.0)
    if found < 0 and named < 0:
        return "on new captures it finds and names less than before"
    if false > 0 and found <= 0 and named <= 0:
        return "on new captures it alarms more often without finding more"
    return ""


def _choose_knobs(knobs: Knobs, source: Path, how: How) -> Knobs:
    method = _choose_method(source, how)
    rate = knobs.learning_rate or (_WHOLE_RATE if method in WHOLE else RATE)
    return replace(knobs, method=method, target="joint", learning_rate=rate)


def _choose_method(source: Path, how: How) -> Method:
    if how == "osf":
        return "osf"
    config = source / "adapter_config.json"
    if not config.is_file():
        return "full"
    dora = json.loads(config.read_text(encoding="utf-8")).get("use_dora")
    return "dora" if dora else "lora"


def _find_new(order: Order, card: AdapterCard) -> dict[str, Path]:
    """The captures that the card does not name."""
    known = {*card.data, *(name for names in card.split.values() for name in names)}
    found = find_captures(order.data, order.exclude, least=1)
    new = {name: path for name, path in found.items() if name not in known}
    if wrong := sorted(set(order.exclude) - set(new)):
        raise UserError(
            f"{wrong[0]} was learned from or measured on before; expected a new capture to exclude; "
            "leave it out: those of before are measured anyway"
        )
    if len(new) - len(set(order.exclude)) < 2:
        old = sorted(set(found) & known)
        beside = f"; {', '.join(old)} were learned from or measured on before" if old else ""
        raise UserError(
            f"{', '.join(map(str, order.data))} holds {len(new)} new labelled capture{beside}; expected two or "
            "more, since whole captures are held out to calibrate on; record another"
        )
    return new


def _marks(
    order: Order, knobs: Knobs, source: Path, base: Path, captures: dict[str, Path]
) -> list[str]:
    """All that stages depend on; minutes may change when a run goes on."""
    numbers = {name: value for name, value in asdict(knobs).items() if name != "max_minutes"}
    said = [order.how, order.plants, order.per_label, order.replayed, sorted(order.exclude)]
    begun = fingerprint_weights(source) if source != base.parent else ""
    made_of = json.dumps([numbers, said, stamp_files(captures)])
    return [made_of, fingerprint_weights(base), begun, prompt_fingerprint()]


def _draw(new: pd.DataFrame, old: pd.DataFrame, order: Order, seed: int) -> pd.DataFrame:
    """New texts and old ones, each balanced for itself."""
    share = order.replayed if len(old) and order.how == "replay" else 0.0
    parts = [
        draw_examples(rows, max(1, round(order.per_label * part)), seed)
        for rows, part in ((new, 1 - share), (old, share))
        if part > 0
    ]
    return pd.concat(parts).sample(frac=1, random_state=seed, ignore_index=True)


def _look_at(new: pd.DataFrame, old: pd.DataFrame, order: Order, knobs: Knobs) -> pd.DataFrame:
    """Texts whose loss ends the run: of both times, or the run would end where it has forgotten."""
    drawn = [draw_examples(rows, order.per_label, knobs.seed) for rows in (new, old) if len(rows)]
    most = max(_LOOKED_AT, len(drawn[0]) * knobs.epochs // _LOOK_SHARE)
    return pd.concat([rows.head(most) for rows in drawn], ignore_index=True)


def _tune(
    folder: Path,
    source: Path,
    base: Path,
    examples: pd.DataFrame,
    held_out: pd.DataFrame,
    work: Path,
    knobs: Knobs,
    progress: Callable[[int, int], None],
) -> None:
    steps = work / "steps"
    steps.mkdir(parents=True, exist_ok=True)
    begin: Path | None = None
    if (source / "adapter_config.json").is_file():
        if knobs.method == "osf":
            make_once(work / "whole", partial(fold, base, source))
            base = work / "whole"
        else:
            begin = source
    log.info("%d texts to learn, at most %g minutes", len(examples), knobs.max_minutes)
    tuned = train(base, examples, folder, steps, knobs, held_out, begin, progress)
    log.info(
        "loss %.4f, held out %.4f after %d steps", tuned.loss, tuned.held_out_loss, tuned.steps
    )
    write_tuned(tuned, folder)


def _measure(rows: pd.DataFrame, llm: Scorer, bounds: Bounds) -> dict[str, float]:
    if rows.empty:
        return {}
    measures = measure_windows(rows, score_texts(rows, llm), bounds)
    return {name: measures[name] for name in _SHOWN if name in measures}


def _keep(source: Path, new: dict[str, pd.DataFrame], draft: Path) -> None:
    """The texts of before and the new ones, for the next time."""
    parts = dict(new)
    if (source / KEPT).is_file():
        kept = pd.read_parquet(source / KEPT)
        parts = {name: pd.concat([kept[kept["part"] == name], rows]) for name, rows in new.items()}
    write_kept(parts, draft)


def _command(order: Order, knobs: Knobs, card: AdapterCard) -> str:
    """The commands that made it, without a path of this machine."""
    words = [f"{card.made_by}{_THEN} --data FOLDER --site {order.site}"]
    usual, plain = Knobs(), Order(order.data, order.site)
    words += list_options(
        order, plain, ("how", "plants", "per_label", "replayed", "most_forgotten")
    )
    words += list_options(knobs, usual, ("epochs", "batch", "seed"))
    return " ".join([*words, *(f"--exclude {name}" for name in order.exclude)])
