"""Which expert read which label: the share of the tokens of its windows that each expert got.

load      shares over all windows; an expert that gets nothing is dead weight
entropy   of the load, 1 where all experts get the same, 0 where one gets all
told      what a label tells of the expert: the entropy of the load less the mean entropy of each
          label's shares; 0 where experts are chosen whatever the label is
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import AutoTokenizer, MixtralForCausalLM

from assistant.llm.weights import HERE
from assistant.routed import Gate, RoutedLlama
from finetune.examples import encode_prompts
from traffic.labels import LABELS

_A_LABEL = 64  # different texts of each


@dataclass(frozen=True)
class Shares:
    """Shares of experts by label.

    Attributes:
        experts: their names.
        of_label: a row a label that was there, a column an expert; rows sum to one.
    """

    experts: tuple[str, ...]
    of_label: pd.DataFrame

    @property
    def load(self) -> np.ndarray:
        """Shares over all labels, each of the same weight, (experts,)."""
        return np.asarray(self.of_label.to_numpy().mean(axis=0))

    @property
    def entropy(self) -> float:
        """Of the load, 0 to 1."""
        return _entropy(self.load)

    @property
    def told(self) -> float:
        """What the label tells of the expert, 0 to 1."""
        return self.entropy - float(np.mean([_entropy(row) for row in self.of_label.to_numpy()]))

    def on_card(self) -> dict[str, float]:
        """As metrics of a card."""
        named = {
            f"routing.{label}.{expert}": float(share)
            for label, row in self.of_label.iterrows()
            for expert, share in row.items()
        }
        load = dict(zip((f"routing.load.{name}" for name in self.experts), self.load, strict=True))
        return {**named, **load, "routing.entropy": self.entropy, "routing.told": self.told}


def _entropy(shares: np.ndarray) -> float:
    """Of shares, in units of the most that so many can have.

    >>> _entropy(np.array([0.5, 0.5])), _entropy(np.array([1.0, 0.0]))
    (1.0, 0.0)
    """
    some = shares[shares > 0]
    return abs(float(-(some * np.log(some)).sum() / np.log(len(shares))))


def measure_routed(base: Path, adapter: Path, texts: pd.DataFrame) -> Shares:
    """Shares of the experts of an adapter.

    Args:
        base: their base's folder.
        adapter: that `assistant.registry.is_routed`.
        texts: ``text`` and ``label``, a row a window; a few of each label are read.
    """
    model = RoutedLlama(base, adapter)
    experts = model.routing.experts
    tally = np.zeros(len(experts))

    def add(gate: Gate) -> None:
        # One choice for all layers (X-LoRA), or one in each (Arrow).
        np.add.at(tally, gate.chosen.flatten().cpu().numpy(), gate.weights.flatten().cpu().numpy())

    def read(ids: Tensor) -> np.ndarray:
        tally[:] = 0
        with torch.inference_mode():
            model.read(ids.to(model.device))
        return tally / tally.sum() * ids.numel()

    model.watch = add
    return _measure(base, experts, texts, read)


def measure_mixtral(folder: Path, texts: pd.DataFrame) -> Shares:
    """Shares of a Mixtral's experts, as `measure_routed`; all layers count the same."""
    model = MixtralForCausalLM.from_pretrained(folder, dtype=torch.float32, **HERE).eval()
    count, top_k = model.config.num_local_experts, model.config.num_experts_per_tok

    def read(ids: Tensor) -> np.ndarray:
        with torch.inference_mode():
            routers = model(ids, use_cache=False, output_router_logits=True).router_logits
        odds = torch.softmax(torch.cat(routers), dim=-1)  # (layers x tokens, experts)
        best, chosen = odds.topk(top_k, dim=-1)
        tally = torch.zeros(count).index_add_(
            0, chosen.flatten(), (best / best.sum(dim=-1, keepdim=True)).flatten()
        )
        return np.asarray(tally / tally.sum() * ids.numel())

    return _measure(folder, tuple(f"part-{n}" for n in range(1, count + 1)), texts, read)


def _measure(
    base: Path, experts: Sequence[str], texts: pd.DataFrame, read: Callable[[Tensor], np.ndarray]
) -> Shares:
    tokenizer = AutoTokenizer.from_pretrained(base, **HERE)
    there = [label for label in LABELS if (texts["label"] == label).any()]
    rows = []
    for label in there:
        some = texts.loc[texts["label"] == label, "text"].drop_duplicates().head(_A_LABEL)
        # Rows of one length together: padding would be counted as tokens.
        tally = sum(map(read, _group_lengths(encode_prompts(some.tolist(), tokenizer))))
        rows.append(tally / np.sum(tally))
    return Shares(tuple(experts), pd.DataFrame(rows, index=there, columns=list(experts)))


def _group_lengths(rows: Sequence[list[int]]) -> Iterator[Tensor]:
    lengths = np.array([len(row) for row in rows])
    for length in np.unique(lengths):
        yield torch.tensor([row for row in rows if len(row) == length])
