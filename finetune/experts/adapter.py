"""Experts of a site: `faultwise finetune experts --data FOLDER --how xlora --site NAME`.

    captures ─▶ texts ─▶ split by capture ─▶ experts ─▶ calibration ─▶ card ─▶ registry
                              └────────────▶ a single one ─▶ the same measures, on the same card

What is made is a site's adapter like any other: `adapters use` chooses it, `classify --site` serves
it. The card says which expert read which label, what a window costs, and what a single adapter of
the same active size is worth on the same captures.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd

from assistant.llm.adapters import AdapterCard, write_card
from assistant.llm.llama import is_small_llama
from assistant.llm.many import can_stack
from assistant.llm.weights import fingerprint_weights
from assistant.registry import (
    Registered,
    check_name,
    check_registered,
    draft_folder,
    find_registered,
    register,
)
from finetune.calibrate import Calibration, calibrate_model, measure_windows, score_texts
from finetune.experts.compute import count_tokens, measure_speed
from finetune.experts.families import FAMILIES
from finetune.experts.mixtral import check_halves
from finetune.experts.training import Experts, Task, Trained, train_experts, train_single
from finetune.recipe import Recipe, read_recipe
from finetune.sft import Knobs
from finetune.sites.adapter import Order, check_order, list_marks, make_site_card
from finetune.sites.captures import Split, claim_texts, find_captures, split_captures
from finetune.sites.cards import name_base, place_weights, read_tuned
from finetune.stages import Progress, digest_marks, remove_runs, silent
from traffic.errors import UserError

_SHOWN = ("macro_f1", "false_share", "recall")


@dataclass(frozen=True)
class MadeExperts:
    """An adapter in its place, and its card."""

    adapter: Registered
    card: AdapterCard


def make_experts(
    order: Order,
    experts: Experts,
    knobs: Knobs,
    home: Path,
    work: Path | None = None,
    progress: Progress = silent,
) -> MadeExperts:
    """Train experts and what they are compared with, calibrate and register them.

    Args:
        order: of what, as for `finetune.sites.adapter`; its phases and ``begin`` are not used.
        experts: which.
        knobs: of each expert's training.
        home: the folder of state.
        work: keeps what stages made, so that a killed run goes on; by default in ``home``.
        progress: called with what is being done, how much of it is done, and of how much.

    Raises:
        UserError: anything that would make the result wrong, before training begins.
    """
    family = check_name(order.family or experts.how, "family")
    check_name(order.site, "site")
    check_order(order, knobs, home, family)
    given = check_experts(order.base, experts, home)
    captures = find_captures(order.data, order.exclude)
    marks = [*list_marks(order, knobs, captures), json.dumps(asdict(experts), default=list)]
    marks += [fingerprint_weights(path) for path in given.values()]
    runs = home / "training" / order.site
    work = work or runs / f"{family}-{digest_marks(marks)}"
    recipe = read_recipe()
    texts = claim_texts(captures, order.plants, recipe, work, marks, progress)
    texts = texts.assign(direction="")  # who did it to whom is not asked of experts
    split = split_captures(texts, order.exclude, knobs.seed)
    learned, held_out = (
        texts[texts["capture"].isin(names)].reset_index(drop=True)
        for names in (split.train, split.held_out)
    )
    task = Task(order.base, learned, held_out, experts, knobs, order.per_label, work)
    trained = train_experts(task, given, progress)
    single = train_single(task, progress)
    made = _finish(order, experts, knobs, home, family, trained, single, texts, split, recipe)
    shutil.rmtree(work)
    remove_runs(runs, family)
    return made


def check_experts(base: Path, experts: Experts, home: Path) -> dict[str, Path]:
    """The folders of adapters that are the experts, by their names; none where they are yet to be
    made.

    Raises:
        UserError: one is missing, of another base or no plain LoRA, there are too few, or the base
            cannot bear experts.
    """
    if not is_small_llama(base):
        raise UserError(
            f"{base} is no small Llama without a chat template; expected one to make experts of; "
            "choose --base assistant/pocket/base"
        )
    if experts.how == "mixtral":
        if experts.adapters:
            raise UserError(
                "a Mixtral's experts are parts of its base; expected no --expert; leave them out"
            )
        check_halves(base, experts.count)
        return {}
    found: dict[str, Path] = {}
    for name in experts.adapters:
        folder = find_registered(home, name).path
        check_registered(folder, base)
        if not can_stack(base, folder):
            raise UserError(
                f"{name} is more than plain LoRA; expected --method lora or qlora; tune it anew"
            )
        found[name] = folder
    count = len(found) if experts.adapters else len(FAMILIES[experts.by])
    if not experts.top_k <= count >= 2:
        raise UserError(
            f"{count} different experts, {experts.top_k} for a token; expected two or more, "
            "and no more for a token than there are; correct --expert or --top-k"
        )
    return found


def _finish(
    order: Order,
    experts: Experts,
    knobs: Knobs,
    home: Path,
    family: str,
    trained: Trained,
    single: Trained,
    texts: pd.DataFrame,
    split: Split,
    recipe: Recipe,
) -> MadeExperts:
    held_out = texts[texts["capture"].isin(split.held_out)].reset_index(drop=True)
    tests = {name: texts[texts["capture"] == name].reset_index(drop=True) for name in split.test}
    tokens = count_tokens(order.base, held_out["text"])
    weights = trained.adapter or trained.base
    metrics = {"train.loss": read_tuned(weights).loss}
    calibration, measures = _measure(trained, held_out, tests, tokens, recipe)
    _, beside = _measure(single, held_out, tests, tokens, recipe)
    metrics |= measures | {f"single.{name}": value for name, value in beside.items()}
    metrics |= trained.measure_shares(pd.concat([held_out, *tests.values()])).on_card()
    draft = draft_folder(home, order.site, family)
    placed = place_weights(weights, draft, order.base, experts.method)
    order = replace(order, family=family, made_by=_command(order, experts))
    card = make_site_card(order, placed, calibration, split, metrics, knobs.seed)
    write_card(card, draft)
    return MadeExperts(register(draft, order.site, family), card)


def _measure(
    trained: Trained,
    held_out: pd.DataFrame,
    tests: Mapping[str, pd.DataFrame],
    tokens: float,
    recipe: Recipe,
) -> tuple[Calibration, dict[str, float]]:
    """Bounds from the captures held out, and what comes of them there and on the tests."""
    llm = trained.load()
    calibration = calibrate_model(held_out, llm, recipe)
    metrics = calibration.measures()
    for name, rows in tests.items():
        measures = measure_windows(rows, score_texts(rows, llm), calibration.bounds)
        metrics |= {f"{name}.{measure}": value for measure, value in measures.items()}
    cost = trained.count_compute(tokens)
    metrics |= {f"compute.{name}": float(value) for name, value in asdict(cost).items()}
    metrics["compute.flops_a_token"] = cost.flops_a_token
    metrics["compute.windows_a_s"] = measure_speed(held_out["text"], llm)
    return calibration, metrics


def render_experts(made: MadeExperts) -> str:
    """What was made, who reads what, what it costs and is worth beside a single one, how to use
    it."""
    card, metrics = made.card, made.card.metrics
    lines = [f"{card.name}: calibrated on {', '.join(card.split['calibrate'])}"]
    for name, prefix in (("experts", ""), ("a single one", "single.")):
        cost = {key: metrics[f"{prefix}compute.{key}"] for key in (
            "active_parameters", "parameters", "flops_a_token", "windows_a_s")}  # fmt: skip
        lines.append(
            f"{name}: {cost['active_parameters']:,.0f} of {cost['parameters']:,.0f} parameters for "
            f"a token, {cost['flops_a_token'] / 1e6:.2f} MFLOP a token, "
            f"{cost['windows_a_s']:,.0f} windows a CPU second"
        )
    load = "routing.load."
    shares = [
        f"{key.removeprefix(load)} {value:.0%}"
        for key, value in metrics.items()
        if key.startswith(load)
    ]
    lines.append(
        f"tokens: {', '.join(shares)}; entropy {metrics['routing.entropy']:.2f} of 1, of which "
        f"labels tell {metrics['routing.told']:.2f}"
    )
    for test in card.split["test"] or ("calibration",):
        each = [
            f"{name} {metrics[f'{test}.{name}']:g} (single {metrics[f'single.{test}.{name}']:g})"
            for name in _SHOWN
            if f"{test}.{name}" in metrics
        ]
        lines.append(f"{test}: {', '.join(each)}")
    lines.append(f"`faultwise classify CAPTURE --site {made.adapter.site}` uses it")
    return "\n".join(lines)


def _command(order: Order, experts: Experts) -> str:
    """The command that made it, without a path of this machine."""
    words = [f"faultwise finetune experts --base {name_base(order.base)} --data FOLDER"]
    words.append(f"--site {order.site} --how {experts.how}")
    if experts.how == "mixtral":
        words.append(f"--experts {experts.count}")
    else:
        words.append(f"--top-k {experts.top_k}")
        words += [f"--expert {name}" for name in experts.adapters] or [f"--by {experts.by}"]
    return " ".join(words)
