"""What a window costs a model: parameters that a token meets, multiplications, windows a second.

A model of experts is compared at equal active parameters, not at equal size; what routing itself
costs is counted too.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from safetensors import safe_open
from transformers import AutoTokenizer

from assistant.detection.classify import make_prompts
from assistant.llm.remembered import Scorer
from assistant.llm.weights import HERE
from assistant.registry import is_routed
from assistant.routed import read_routing
from finetune.examples import encode_prompts
from prompts.messages import ANSWERS
from traffic.labels import LABELS

_NODES = 2  # positions whose logits are read: before the answer, and after "anomalous"
_TIMED = 500  # different texts
_READINGS = 3


@dataclass(frozen=True)
class Compute:
    """What a window costs.

    Attributes:
        parameters: that are stored, in the form in which they are served.
        active_parameters: of these, those that a token meets.
        tokens_a_window: of its prompt and answer, a mean.
        flops_a_window: multiplications and additions.
    """

    parameters: int
    active_parameters: int
    tokens_a_window: float
    flops_a_window: float

    @property
    def flops_a_token(self) -> float:
        """The same of one token."""
        return self.flops_a_window / self.tokens_a_window


def count_compute(base: Path, adapter: Path | None, tokens: float) -> Compute:
    """Count what one window costs.

    Args:
        base: a Llama's or a Mixtral's folder.
        adapter: LoRA, which is served merged and costs nothing, or routed experts, or none.
        tokens: of a window with its answer.
    """
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    sizes = _read_sizes(base)
    experts = sum(size for name, size in sizes.items() if ".experts." in name)
    share = config.get("num_experts_per_tok", 1) / config.get("num_local_experts", 1)
    total = sum(sizes.values())
    active = total - experts * (1 - share)
    table = sum(size for name, size in sizes.items() if "embed_tokens" in name or "lm_head" in name)
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    # Scores and mixtures of attention; half of each is masked, and computed all the same.
    attention = 4 * tokens**2 * hidden * layers
    once = 2 * tokens * (active - table) + attention
    flops = once + 2 * _NODES * hidden * config["vocab_size"]
    if adapter is not None and is_routed(adapter):
        routing, parts = read_routing(adapter), _read_sizes(adapter)
        low = sum(size for name, size in parts.items() if name.endswith((".down", ".up")))
        rest = sum(parts.values()) - low
        met = low * routing.top_k / len(routing.experts) + rest
        total, active = total + low + rest, active + met
        # X-LoRA reads the base alone first.
        flops += 2 * tokens * met + (once if routing.routing == "xlora" else 0)
    return Compute(int(total), int(active), float(tokens), float(flops))


def count_tokens(base: Path, texts: Sequence[str]) -> float:
    """Mean tokens of these windows' prompts, each with an answer's first word."""
    some = list(dict.fromkeys(texts))[:_TIMED]
    rows = encode_prompts(some, AutoTokenizer.from_pretrained(base, **HERE))
    return sum(map(len, rows)) / len(rows) + 1


def measure_speed(texts: Sequence[str], llm: Scorer) -> float:
    """Different windows a CPU second, the best of three readings of the first few hundred."""
    some = list(dict.fromkeys(texts))[:_TIMED]
    prompts, choices = make_prompts(some, llm), [ANSWERS[label] for label in LABELS]
    spent = []
    for _ in range(_READINGS):
        start = time.process_time()
        llm.score(prompts, choices)
        spent.append(time.process_time() - start)
    return len(some) / min(spent)


def _read_sizes(folder: Path) -> dict[str, int]:
    sizes = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "numpy") as stored:
            for name in stored.keys():  # noqa: SIM118  it is no dict
                sizes[name] = prod(stored.get_slice(name).get_shape())
    return sizes
