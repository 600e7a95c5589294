"""LoRA adapters of one base made into experts: written beside each other, and a router trained.

The router is a few hundred weights on a frozen model, trained by a plain loop on what is served
(`assistant.routed`), with the gradient of what could have been: of the softmax over all experts.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy, pad
from transformers import AutoTokenizer

from assistant.llm.llama import LowRank, read_lora
from assistant.llm.weights import HERE
from assistant.routed import ROUTER, Gate, RoutedLlama, Routing, choose_experts
from finetune.examples import IGNORED, SimilarLengths, make_examples
from finetune.pace import Pace
from finetune.pocket.pretrain import Checkpoint
from finetune.sft import Knobs, Tuned
from traffic.errors import UserError

_RATE = 1e-2  # a single layer on states that lie still bears it


def write_routed(folder: Path, adapters: Mapping[str, Path], routing: Routing, hidden: int) -> None:
    """Write adapters of one base as experts; an X-LoRA router begins with no preference.

    Args:
        folder: gets adapter_config.json and adapter_model.safetensors.
        adapters: plain LoRA by the names of the experts.
        routing: how they are chosen.
        hidden: the base's width.

    Raises:
        UserError: the adapters change different layers.
    """
    parts = [read_lora(path) for path in adapters.values()]
    for name, part in zip(adapters, parts, strict=True):
        if set(part) != set(parts[0]):
            raise UserError(
                f"expert {name} changes other layers than {next(iter(adapters))}; "
                "expected the same ones; make both by the same command"
            )
    tensors: dict[str, torch.Tensor] = {}
    for layer in parts[0]:
        tensors |= _stack_experts(layer, [part[layer] for part in parts])
        if routing.routing == "xlora":
            tensors.pop(f"{layer}.axis")
    if routing.routing == "xlora":
        tensors[f"{ROUTER}weight"] = torch.zeros(len(parts), hidden)
        tensors[f"{ROUTER}bias"] = torch.zeros(len(parts))
    save_file(tensors, folder / "adapter_model.safetensors")
    text = json.dumps(routing.model_dump(), indent=1, default=list)
    (folder / "adapter_config.json").write_text(text + "\n", encoding="utf-8")


def _stack_experts(layer: str, parts: Sequence[LowRank]) -> dict[str, torch.Tensor]:
    rank = max(len(part.down) for part in parts)
    downs = [pad(part.down.T, (0, rank - len(part.down))) for part in parts]
    ups = [pad(part.up.T * part.scale, (0, 0, 0, rank - len(part.down))) for part in parts]
    axes = [torch.linalg.svd(part.up @ part.down, full_matrices=False).Vh[0] for part in parts]
    stacks = {"down": downs, "up": ups, "axis": axes}
    return {f"{layer}.{name}": torch.stack(each).contiguous() for name, each in stacks.items()}


class LearningLlama(RoutedLlama):
    """Reads as the model that is served, and lets a router learn from each expert.

    The chosen experts' weights sum to one: of a single one the weight is 1 whatever its score, and
    no gradient reaches the router, which then gives all tokens to the first expert for ever. So
    all experts are computed, weighed by 0 where not chosen, and the gradient is taken straight
    through to the softmax over all (Bengio et al. 2013, arXiv 1308.3432).
    """

    def _choose(self, scores: torch.Tensor) -> Gate:
        served = choose_experts(scores, self.routing.top_k, self.routing.temperature)
        soft = torch.softmax(scores / self.routing.temperature, dim=-1)
        hard = torch.zeros_like(soft).scatter(-1, served.chosen, served.weights).detach()
        every = torch.arange(soft.shape[-1], device=soft.device).expand_as(soft)
        return Gate(every, hard + soft - soft.detach())


def train_router(
    base: Path,
    adapter: Path,
    texts: pd.DataFrame,
    work: Path,
    knobs: Knobs,
    progress: Callable[[int, int], None] | None = None,
) -> Tuned:
    """Train the router of an X-LoRA adapter in its place; a killed run goes on.

    Args:
        base: the experts' base.
        adapter: from `write_routed`; its router is written anew when it is trained.
        texts: ``text`` and ``label``, one row an example.
        work: a folder for the checkpoint.
        knobs: epochs, batch, minutes, learning rate and seed.
        progress: called with how much is done of how much.
    """
    model = LearningLlama(base, adapter)
    assert model.router is not None
    examples = make_examples(texts, AutoTokenizer.from_pretrained(base, **HERE))
    rows = [
        (np.array(ids), np.array(labels))
        for ids, labels in zip(examples["input_ids"], examples["labels"], strict=True)
    ]
    optimizer = torch.optim.AdamW(model.router.parameters(), weight_decay=0.0)
    checkpoint = Checkpoint(work / "router.pt", model.router, [optimizer])
    _, losses = checkpoint.read()
    order = SimilarLengths([len(ids) for ids, _ in rows], knobs.batch, knobs.seed)
    batches = []
    for epoch in range(knobs.epochs):
        order.set_epoch(epoch)
        drawn = list(order)
        batches += [drawn[at : at + knobs.batch] for at in range(0, len(drawn), knobs.batch)]
    pace = Pace(len(batches), knobs.max_minutes, checkpoint.elapsed_s)
    recent: list[float] = []
    step = checkpoint.step
    while not losses and step < len(batches) and pace.fraction(step) < 1:
        for group in optimizer.param_groups:
            group["lr"] = (knobs.learning_rate or _RATE) * pace.rate(step, 10)
        loss = _train_step(model, [rows[row] for row in batches[step]])
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        checkpoint.elapsed_s = pace.elapsed_s
        checkpoint.record(step, loss)
        recent.append(loss)
        if progress is not None:
            progress(step, len(batches))
    if not losses:
        checkpoint.finish_phase()
    _save_router(adapter, model.router)
    last = recent[-max(1, len(recent) // 10) :]
    ended: Any = "minutes" if step < len(batches) and recent else "epochs"
    return Tuned(fmean(last) if last else float("nan"), float("nan"), step, ended)


def _train_step(model: LearningLlama, batch: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """The loss of a batch, whose gradient is left at the router."""
    width = max(len(ids) for ids, _ in batch)
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    labels = torch.full((len(batch), width), IGNORED)
    for place, (tokens, learned) in enumerate(batch):
        ids[place, : len(tokens)] = torch.from_numpy(tokens)
        labels[place, : len(tokens)] = torch.from_numpy(learned)
    row, before = (labels[:, 1:] != IGNORED).nonzero(as_tuple=True)
    logits, _ = model.logits(ids.to(model.device), None, row, before, False)
    loss = cross_entropy(logits.float(), labels[row, before + 1].to(model.device))
    loss.backward()
    return float(loss.detach())


def _save_router(adapter: Path, router: torch.nn.Linear) -> None:
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    state = router.state_dict()
    tensors |= {f"{ROUTER}{name}": state[name].cpu().contiguous() for name in ("weight", "bias")}
    new = file.with_suffix(".new")
    save_file(tensors, new)
    new.replace(file)
