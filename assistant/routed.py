"""A small Llama with several LoRA experts, a few of which are computed for each token.

    y = x W + sum over the chosen experts of weight x A B       the weights of a token sum to one

arrow   a layer chooses by how much of a token lies along what each expert changes most: the first
        right singular vector of its B A (Ostapenko et al. 2024, arXiv 2405.11157); nothing is trained
xlora   a trained layer chooses by what the base alone makes of the token, for all layers
        (Buehler and Buehler 2024, arXiv 2402.07148): the base is read twice

Only the ``top_k`` experts of a token are computed for it, so what a window costs does not grow with
how many experts there are. PEFT's forms of both, which tests hold this against, compute every
expert for every token and multiply what was not chosen by zero.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from assistant.llm.llama import Cache, Llama, fast_dtype, is_small_llama
from assistant.llm.local import LocalLLM
from assistant.llm.weights import check_adapter_folder, unloadable
from traffic.errors import UserError
from traffic.files import Strict, read_json

ROUTER = "router."


class Routing(Strict):
    """adapter_config.json of such an adapter."""

    peft_type: Literal["FAULTWISE_EXPERTS"] = "FAULTWISE_EXPERTS"
    routing: Literal["arrow", "xlora"]
    top_k: int = Field(ge=1, description="experts that are computed for a token")
    temperature: float = Field(gt=0, description="divides what is chosen by")
    experts: tuple[str, ...] = Field(min_length=1, description="names, in their order")


@dataclass(frozen=True)
class Gate:
    """The experts of each token, int64, and their weights, which sum to one: (tokens, top_k)."""

    chosen: Tensor
    weights: Tensor


def read_routing(adapter: Path) -> Routing:
    """Read how the experts of a folder are chosen.

    Raises:
        UserError: it is not written as training writes it.
    """
    file = adapter / "adapter_config.json"
    routing = read_json(file, Routing, "what `faultwise finetune experts` writes")
    if routing.top_k > len(routing.experts):
        raise UserError(
            f"{file} computes {routing.top_k} of {len(routing.experts)} experts; "
            "expected no more than there are; make it again"
        )
    return routing


def choose_experts(scores: Tensor, top_k: int, temperature: float) -> Gate:
    """The ``top_k`` best of each row of scores, and the softmax over these alone.

    >>> choose_experts(torch.tensor([[1.0, 3.0, 3.0]]), 2, 1.0).weights
    tensor([[0.5000, 0.5000]])
    """
    best, chosen = scores.topk(top_k, dim=-1)
    return Gate(chosen, torch.softmax(best / temperature, dim=-1))


class RoutedLlama(Llama):
    """A `Llama` whose linear layers add what the chosen experts add.

    Attributes:
        routing: how they are chosen.
        router: of X-LoRA, float32, hidden to experts; None for Arrow.
        watch: called with each choice of experts, where it is set.
    """

    def __init__(self, folder: Path, adapter: Path) -> None:
        """Read a folder that `is_small_llama` and an adapter that `is_routed`.

        Raises:
            KeyError: a weight is missing, or the experts are of another model.
            UserError: the routing is damaged.
        """
        super().__init__(folder)
        self.routing = read_routing(adapter)
        parts = load_file(adapter / "adapter_model.safetensors")
        layers = sorted({name[: -len(".down")] for name in parts if name.endswith(".down")})
        self._downs, self._ups, self._axes = {}, {}, {}
        for layer in layers:
            down, up = (parts[f"{layer}.{part}"] for part in ("down", "up"))
            out, width = self._weights[f"{layer}.weight"].shape
            if (down.shape[1], up.shape[2]) != (width, out):
                raise KeyError(f"{layer} of the experts has another shape than the base's")
            if len(down) != len(self.routing.experts) or len(up) != len(down):
                raise KeyError(f"{layer} has not as many experts as are named")
            self._downs[layer], self._ups[layer] = (
                part.to(self.device, fast_dtype()) for part in (down, up)
            )  # (experts, in, rank), (experts, rank, out)
            if self.routing.routing == "arrow":
                self._axes[layer] = parts[f"{layer}.axis"].to(self.device).float()
        self.router: nn.Linear | None = None
        if self.routing.routing == "xlora":
            weight = parts[f"{ROUTER}weight"].float()
            self.router = nn.Linear(weight.shape[1], weight.shape[0]).to(self.device)
            self.router.load_state_dict({"weight": weight, "bias": parts[f"{ROUTER}bias"].float()})
        self.watch: Callable[[Gate], None] | None = None
        self._gate: Gate | None = None
        self._alone = False

    def _read_tokens(self, ids: Tensor, cache: Cache | None, keep: bool) -> tuple[Tensor, Cache]:
        """What X-LoRA keeps of a beginning is what the base alone read of it, then the rest."""
        if self.router is None:
            return super()._read_tokens(ids, cache, keep)
        layers = len(self._layers)
        first, then = (cache[:layers], cache[layers:]) if cache else (None, None)
        with torch.no_grad():
            states, known = Llama._read_tokens(self._view(None, alone=True), ids, first, keep)
        logits = self.router(states.flatten(0, 1).float())
        gate = self._choose(logits)
        states, after = Llama._read_tokens(self._view(gate), ids, then, keep)
        return states, [*known, *after]

    def _choose(self, scores: Tensor) -> Gate:
        gate = choose_experts(scores, self.routing.top_k, self.routing.temperature)
        if self.watch is not None:
            self.watch(gate)
        return gate

    def _view(self, gate: Gate | None, alone: bool = False) -> "RoutedLlama":
        """This model for one pass: batches are read in several threads."""
        view = copy.copy(self)
        view._gate, view._alone = gate, alone
        return view

    def _linear(self, x: Tensor, name: str) -> Tensor:
        y = super()._linear(x, name)
        if self._alone or name not in self._downs:
            return y
        tokens = x.flatten(0, -2)
        gate = self._gate
        if gate is None:
            along = (tokens.float() @ self._axes[name].T).abs()  # a vector and its opposite are one
            gate = self._choose(along)
        added = torch.zeros(len(tokens), y.shape[-1], dtype=y.dtype, device=y.device)
        for expert, (down, up) in enumerate(zip(self._downs[name], self._ups[name], strict=True)):
            rows, place = (gate.chosen == expert).nonzero(as_tuple=True)
            if len(rows):
                weight = gate.weights[rows, place, None].to(y.dtype)
                added = added.index_add(0, rows, weight * (tokens[rows] @ down @ up))
        return y + added.view_as(y)


class RoutedLLM(LocalLLM):
    """A small Llama from a folder with the experts of an adapter, scored as one with one adapter.

    How many tokens of a batch an expert gets depends on what else is in it, so in bf16 the last bits
    of a score do too.
    """

    def __init__(self, base: Path, adapter: Path) -> None:
        """Load base and experts; nothing is fetched and no code from a folder is run.

        Raises:
            UserError: a folder is no such model or adapter, or they do not fit together.
        """
        check_adapter_folder(adapter)
        super().__init__(base)
        if not is_small_llama(base):
            raise UserError(
                f"{base} is no small Llama without a chat template; expected the base of the "
                f"experts in {adapter}; give its folder"
            )
        try:
            model = RoutedLlama(base, adapter)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise unloadable(adapter, error) from error
        # The scorer reads with whatever has a Llama's methods.
        self._scorer.model = self._model = model
