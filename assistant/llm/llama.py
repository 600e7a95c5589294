"""A small Llama-shaped model, read and computed without transformers and peft.

Importing those takes six seconds of CPU, and most questions are about a capture that the pocket
model reads in one. What is computed is theirs to the last bit, as tests check: the same operations
of torch in the same order. Numpy would spare torch's second as well; its other order of summing
turned verdicts that stand at a half (measured: 3 of 10 captures had another answer).

A LoRA adapter (Hu et al. 2021, arXiv 2106.09685) is merged as the weights are read:

    W + alpha / r * B A
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention, silu

Cache = list[tuple[Tensor, Tensor]]  # keys and values of each layer: (batch, key heads, n, width)

# Measured: to here two batches on two cores take half the time of one batch on both.
SMALL_HIDDEN = 512
_TOKENIZERS = ("TokenizersBackend", "PreTrainedTokenizerFast")  # tokenizer.json is all they are
_PLAIN = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
# What makes an adapter more than W + alpha / r * B A, by PEFT's names.
_BEYOND_LORA = (
    *("use_dora", "use_rslora", "use_qalora", "use_bdlora", "alpha_pattern", "rank_pattern"),
    *("modules_to_save", "fan_in_fan_out", "lora_bias", "layer_replication", "target_parameters"),
    *("trainable_token_indices", "alora_invocation_tokens"),
)


def fast_dtype() -> Any:
    """bf16 where the hardware multiplies it (twice as fast as fp32 there, several times slower
    elsewhere)."""
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native or torch.cuda.is_available() else torch.float32


def is_small_llama(folder: Path, adapter: Path | None = None) -> bool:
    """Whether `Llama` computes this model, and this adapter of it, exactly."""
    files = [folder / name for name in ("model.safetensors", "tokenizer.json")]
    if not all(file.is_file() for file in files) or (folder / "chat_template.jinja").is_file():
        return False
    config, tokens = _read(folder / "config.json"), _read(folder / "tokenizer_config.json")
    lora = _read(adapter / "adapter_config.json") if adapter else {"peft_type": "LORA"}
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return (
        config.get("model_type") == "llama"
        and config.get("hidden_size", SMALL_HIDDEN + 1) <= SMALL_HIDDEN
        and all(config.get(name, value) == value for name, value in _PLAIN.items())
        and rope.get("rope_type", "default") == "default"
        and tokens.get("tokenizer_class") in _TOKENIZERS
        and not tokens.get("chat_template")
        and lora.get("peft_type") == "LORA"
        and lora.get("bias", "none") == "none"
        and isinstance(lora.get("init_lora_weights", True), bool)
        and not any(lora.get(name) for name in _BEYOND_LORA)
    )


class Llama:
    """A decoder with rotary positions, RMS norms and gated layers.

    Attributes:
        context: tokens that it reads at most.
        device: where its weights lie.
        small: a batch on every core pays.
    """

    chat_capable = False

    def __init__(self, folder: Path, adapter: Path | None = None) -> None:
        """Read the weights and the tokenizer of a folder that `is_small_llama`.

        Raises:
            KeyError: a weight is missing, or the adapter is of another model (a damaged file raises
                what safetensors raises).
        """
        config = _read(folder / "config.json")
        self.context: int | None = config["max_position_embeddings"]
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.small = self.device.type == "cpu"
        self._layers = [f"model.layers.{layer}." for layer in range(config["num_hidden_layers"])]
        heads = config["num_attention_heads"]
        self._width = config.get("head_dim") or config["hidden_size"] // heads
        self._groups = heads // config.get("num_key_value_heads", heads)
        self._eps = config["rms_norm_eps"]
        rope = config.get("rope_parameters") or config
        theta = rope.get("rope_theta", 10_000.0)
        self._turns = 1.0 / theta ** (torch.arange(0, self._width, 2).float() / self._width)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        weights = {
            name: weight.to(fast_dtype())
            for name, weight in load_file(folder / "model.safetensors").items()
        }
        if adapter is not None:
            _merge(weights, adapter)
        self._weights = {name: weight.to(self.device) for name, weight in weights.items()}

    def encode(self, texts: Sequence[str], special: bool) -> list[list[int]]:
        """Token ids of each text, with the tokens that begin and end one where ``special``."""
        return [one.ids for one in self._tokenizer.encode_batch(texts, add_special_tokens=special)]

    def logits(
        self, ids: Tensor, cache: Cache | None, rows: Tensor, positions: Tensor, keep: bool
    ) -> tuple[Tensor, Cache]:
        """Logits (as in ``positions``, then the vocabulary) at token positions of rows, and what was
        read, where it shall be kept."""
        states, known = self._read_tokens(ids, cache, keep)
        embeddings = self._weights["model.embed_tokens.weight"]
        head = self._weights.get("lm_head.weight", embeddings)
        return linear(states[rows, positions], head), known

    def read(self, ids: Tensor) -> Cache:
        """What comes to be known of a beginning."""
        return self._read_tokens(ids, None, True)[1]

    @staticmethod
    def repeat(cache: Cache, count: int) -> Cache:
        """A beginning for ``count`` rows."""
        return [
            (key.repeat_interleave(count, 0), value.repeat_interleave(count, 0))
            for key, value in cache
        ]

    def _read_tokens(self, ids: Tensor, cache: Cache | None, keep: bool) -> tuple[Tensor, Cache]:
        """States after each token, shape (batch, n, hidden), and the cache to go on from."""
        before = cache[0][0].shape[2] if cache else 0
        places = torch.arange(before, before + ids.shape[1], device=self.device)
        angles = torch.outer(places.float(), self._turns.to(self.device)).repeat(1, 2)
        x = self._weights["model.embed_tokens.weight"][ids]
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)  # (n, width)
        # Row i sees the beginning and the rest up to itself.
        seen = torch.ones(len(places), before + len(places), dtype=torch.bool, device=self.device)
        mask = seen.tril(before) if before else None
        known: Cache = []
        for number, layer in enumerate(self._layers):
            read = self._normalise(x, f"{layer}input_layernorm")
            query, key, value = (
                self._linear(read, f"{layer}self_attn.{part}_proj")
                .unflatten(-1, (-1, self._width))
                .transpose(1, 2)
                for part in "qkv"
            )  # each (batch, heads, n, width)
            query, key = _rotate(query, cos, sin), _rotate(key, cos, sin)
            if cache:
                key = torch.cat([cache[number][0], key], dim=2)
                value = torch.cat([cache[number][1], value], dim=2)
            if keep:
                known.append((key, value))
            if self._groups > 1:
                key, value = (part.repeat_interleave(self._groups, 1) for part in (key, value))
            alone = mask is None and len(places) > 1
            mixed = scaled_dot_product_attention(query, key, value, mask, is_causal=alone)
            mixed = mixed.transpose(1, 2).flatten(2)
            x = x + self._linear(mixed, f"{layer}self_attn.o_proj")
            read = self._normalise(x, f"{layer}post_attention_layernorm")
            gate = silu(self._linear(read, f"{layer}mlp.gate_proj"))
            wide = gate * self._linear(read, f"{layer}mlp.up_proj")
            x = x + self._linear(wide, f"{layer}mlp.down_proj")
        return self._normalise(x, "model.norm"), known

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return linear(x, self._weights[f"{name}.weight"])

    def _normalise(self, x: Tensor, name: str) -> Tensor:
        """In float32, since squares of bf16 would lose what small states say."""
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self._eps)
        return self._weights[f"{name}.weight"] * wide.to(x.dtype)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (i, i + width/2) by its position's angle (Su et al. 2021, arXiv 2104.09864)."""
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-high, low], dim=-1) * sin


@dataclass(frozen=True)
class LowRank:
    """What an adapter adds to a linear layer: ``scale`` times up @ down, both float32."""

    down: Tensor  # (rank, in)
    up: Tensor  # (out, rank)
    scale: float


def read_lora(adapter: Path) -> dict[str, LowRank]:
    """The parts of a LoRA adapter by the names of the layers that they belong to.

    Raises:
        KeyError: a part is missing, or there is one of something else.
    """
    lora = _read(adapter / "adapter_config.json")
    parts = {
        name.removeprefix("base_model.model."): part.float()
        for name, part in load_file(adapter / "adapter_model.safetensors").items()
    }
    found = {}
    for name, down in parts.items():
        layer, is_down, _ = name.partition(".lora_A.weight")
        if is_down:
            up = parts[f"{layer}.lora_B.weight"]
            found[layer] = LowRank(down, up, lora["lora_alpha"] / lora["r"])
        elif not name.endswith("lora_B.weight"):
            raise KeyError(f"{name} is no part of a LoRA adapter")
    return found


def _merge(weights: dict[str, Tensor], adapter: Path) -> None:
    for layer, part in read_lora(adapter).items():
        weights[f"{layer}.weight"] += (part.up @ part.down) * part.scale


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
