"""Experts trained on texts, stage by stage: what is there is not made again.

texts ─▶ an adapter a family ─▶ routing: Arrow's, or X-LoRA's trained router
    ├──▶ the base as a Mixtral of halves ─▶ every weight tuned
    └──▶ one adapter (or every weight of the dense base) of the same active size, to compare with
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import pandas as pd

from assistant.llm.local import LocalLLM
from assistant.llm.remembered import Scorer
from assistant.registry import is_routed
from assistant.routed import RoutedLLM, Routing
from finetune.bases import Method
from finetune.experts.compute import Compute, count_compute
from finetune.experts.families import By, choose_families
from finetune.experts.mixtral import serve_quietly, upcycle
from finetune.experts.router import train_router, write_routed
from finetune.experts.shares import Shares, measure_mixtral, measure_routed
from finetune.sft import Knobs, Tuned
from finetune.sites.adapter import tune_phase
from finetune.sites.captures import draw_examples
from finetune.sites.cards import write_tuned
from finetune.stages import Progress, make_once

How = Literal["xlora", "arrow", "mixtral"]


@dataclass(frozen=True)
class Experts:
    """What is made of a base.

    Attributes:
        how: a trained router, Arrow's, or a Mixtral.
        by: the families that adapters are made for, see `finetune.experts.families`.
        adapters: SITE/FAMILY of adapters that are the experts instead.
        count: of a Mixtral's experts.
        top_k: experts that are computed for a token; a Mixtral of halves computes two.
    """

    how: How = "xlora"
    by: By = "labels"
    adapters: tuple[str, ...] = ()
    count: int = 4
    top_k: int = 1

    @property
    def method(self) -> Method:
        """How each part is trained, and what it is compared with."""
        return "full" if self.how == "mixtral" else "lora"


@dataclass(frozen=True)
class Trained:
    """Weights, an adapter or a model of their own, and the base that they are read with."""

    base: Path
    adapter: Path | None

    def load(self) -> Scorer:
        """As serving loads them."""
        if self.adapter is not None and is_routed(self.adapter):
            return RoutedLLM(self.base, self.adapter)
        return LocalLLM(self.base, self.adapter)

    def count_compute(self, tokens: float) -> Compute:
        """What a window of so many tokens costs."""
        return count_compute(self.base, self.adapter, tokens)

    def measure_shares(self, texts: pd.DataFrame) -> Shares:
        """Which expert reads which label; of routed adapters and Mixtrals alone."""
        if self.adapter is not None:
            return measure_routed(self.base, self.adapter, texts)
        return measure_mixtral(self.base, texts)


@dataclass(frozen=True)
class Task:
    """What experts, and the single one beside them, are trained on.

    Attributes:
        base: a small Llama's folder.
        texts: to learn from: ``text label direction capture kind``, a row a window.
        held_out: of other captures: say when a training ends.
        experts: which.
        knobs: of each training.
        per_label: texts of each label in an epoch, and eight times as many normal ones.
        work: keeps stages.
    """

    base: Path
    texts: pd.DataFrame
    held_out: pd.DataFrame
    experts: Experts
    knobs: Knobs
    per_label: int
    work: Path


def train_experts(task: Task, given: Mapping[str, Path] | None, progress: Progress) -> Trained:
    """Train experts of a base; what lies in the task's folder is not made again.

    Args:
        task: on what.
        given: adapters by name that are the experts instead.
        progress: called with what is being done, how much of it is done, and of how much.

    Raises:
        UserError: a family shows no anomaly, or the experts do not fit each other.
    """
    work, experts, held_out = task.work, task.experts, task.held_out
    out = work / "experts"
    tune = partial(tune_phase, begin=None, per_label=task.per_label)
    if experts.how == "mixtral":
        upcycled, seed = work / "upcycled", task.knobs.seed
        make_once(upcycled, partial(upcycle, base=task.base, experts=experts.count, seed=seed))
        whole = partial(
            tune, base=upcycled, rows=task.texts, held_out=held_out, steps=work / "steps",
            knobs=replace(task.knobs, method="full"),
            progress=partial(progress, "tuning the experts"),
        )  # fmt: skip
        make_once(out, partial(_make_quiet, tune=whole))
        return Trained(out, None)
    adapters = dict(given or {})
    for name, rows in ({} if adapters else choose_families(task.texts, experts.by)).items():
        folder = work / f"expert-{name}"
        like = held_out[held_out["label"].isin(rows["label"].unique())]
        stage = partial(
            tune, base=task.base, rows=rows, held_out=like if len(like) else held_out,
            steps=work / f"steps-{name}", knobs=replace(task.knobs, method="lora"),
            progress=partial(progress, f"tuning on {name}"),
        )  # fmt: skip
        make_once(folder, stage)
        adapters[name] = folder
    route = partial(
        _route, task=task, adapters=adapters, progress=partial(progress, "training the router")
    )
    make_once(out, route)
    return Trained(task.base, out)


def train_single(task: Task, progress: Progress) -> Trained:
    """Train what experts are compared with, on the same texts: one adapter of as many active
    weights, or every weight of the dense base where they are a Mixtral."""
    out, experts = task.work / "single", task.experts
    alone = replace(task.knobs, method=experts.method, rank=task.knobs.rank * experts.top_k)
    stage = partial(
        tune_phase, base=task.base, rows=task.texts, held_out=task.held_out, begin=None,
        per_label=task.per_label, steps=task.work / "steps-single", knobs=alone,
        progress=partial(progress, "tuning a single one to compare with"),
    )  # fmt: skip
    make_once(out, stage)
    return Trained(out, None) if experts.method == "full" else Trained(task.base, out)


def _make_quiet(folder: Path, tune: Callable[[Path], None]) -> None:
    tune(folder)
    serve_quietly(folder)


def _route(
    folder: Path, task: Task, adapters: Mapping[str, Path], progress: Callable[[int, int], None]
) -> None:
    assert task.experts.how != "mixtral"
    config = (task.base / "config.json").read_text(encoding="utf-8")
    routing = Routing(
        routing=task.experts.how, top_k=task.experts.top_k, temperature=1.0, experts=tuple(adapters)
    )
    write_routed(folder, adapters, routing, json.loads(config)["hidden_size"])
    tuned = Tuned(float("nan"), float("nan"), 0, "epochs")  # Arrow trains nothing
    if task.experts.how == "xlora":
        steps = task.work / "steps-router"
        steps.mkdir(parents=True, exist_ok=True)
        drawn = draw_examples(task.texts, task.per_label, task.knobs.seed)
        knobs = replace(task.knobs, learning_rate=None)  # the experts' rate is not a router's
        tuned = train_router(task.base, folder, drawn, steps, knobs, progress)
    write_tuned(tuned, folder)
