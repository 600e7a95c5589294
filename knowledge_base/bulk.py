"""The sentence vectors of `knowledge_base.minilm` for many passages, computed by torch.

A question is read by numpy, since torch takes seconds to import. Thousands of passages are worth
that: torch fuses what numpy does in many passes over memory, and where the processor multiplies
bfloat16 in hardware (AMX, AVX-512) it does so at several times the speed. A vector then lies within
a cosine of 0.9999 of its exact one, much nearer than the next passage.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch
from torch.nn import functional

from knowledge_base.minilm import MiniLM, encode_by_length

# Rows are filled up to a multiple of this. oneDNN compiles and keeps code for each shape it meets:
# with as many shapes as batches, 6,000 passages took 2.5 GB.
_EVEN = 256


class Bulk:
    """A `MiniLM` whose hidden states torch computes."""

    def __init__(self, model: MiniLM, exact: bool | None = None) -> None:
        """Take over the weights.

        Args:
            model: whose weights and shape.
            exact: float32; by default where the processor has nothing faster.
        """
        self._model = model
        fast = not exact if exact is not None else multiplies_bfloat16()
        kind = torch.bfloat16 if fast else torch.float32
        self._weights = {
            name: torch.from_numpy(one).to(kind) for name, one in model.weights.items()
        }

        # One thread a batch: torch's own threads wait for each other after every layer, and long
        # where another process has the core.
        threads = torch.get_num_threads()
        self._workers = ThreadPoolExecutor(threads, "bulk", torch.set_num_threads, (1,))
        self._threads = threads

    def encode(self, rows: list[list[int]]) -> list[np.ndarray]:
        """Hidden states of each row's word pieces, (n_pieces, hidden), as `MiniLM.encode` makes
        them."""
        found = encode_by_length(rows, lambda some: self._workers.map(self._encode, some))
        torch.set_num_threads(self._threads)  # a worker's one thread is for itself alone
        return found

    @torch.inference_mode()
    def _encode(self, rows: list[list[int]]) -> list[np.ndarray]:
        ends = np.cumsum([0, *map(len, rows)])
        empty = np.zeros(-ends[-1] % _EVEN, dtype=np.int64)
        tokens = torch.from_numpy(np.concatenate([*rows, empty]))
        places = torch.from_numpy(np.concatenate([*(np.arange(len(row)) for row in rows), empty]))
        weights, heads, eps = self._weights, self._model.heads, self._model.eps

        def normalise(x: torch.Tensor, name: str) -> torch.Tensor:
            scale, shift = weights[f"{name}.weight"], weights[f"{name}.bias"]
            return functional.layer_norm(x, scale.shape, scale, shift, eps)

        def linear(x: torch.Tensor, name: str) -> torch.Tensor:
            return functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

        x = functional.embedding(tokens, weights["embeddings.word_embeddings.weight"])
        x = x + functional.embedding(places, weights["embeddings.position_embeddings.weight"])
        x = x + weights["embeddings.token_type_embeddings.weight"][0]  # (n_tokens, hidden)
        x = normalise(x, "embeddings.LayerNorm")
        for layer in range(self._model.layers):
            name = f"encoder.layer.{layer}"
            asked, keys, values = (
                linear(x, f"{name}.attention.self.{part}").view(len(x), heads, -1).transpose(0, 1)
                for part in ("query", "key", "value")
            )  # each (heads, n_tokens, width)
            seen = [
                functional.scaled_dot_product_attention(
                    asked[None, :, start:end], keys[None, :, start:end], values[None, :, start:end]
                )[0]
                for start, end in pairwise(ends)
            ]
            unseen = asked[:, ends[-1] :]  # of the rows that fill up; nobody reads them
            mixed = torch.cat([*seen, unseen], 1).transpose(0, 1).reshape(x.shape)
            mixed = linear(mixed, f"{name}.attention.output.dense")
            x = normalise(x + mixed, f"{name}.attention.output.LayerNorm")
            wide = functional.gelu(linear(x, f"{name}.intermediate.dense"))
            x = normalise(x + linear(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm")
        found = x.float().numpy()
        return [found[start:end] for start, end in pairwise(ends)]


def multiplies_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware; elsewhere torch emulates it, slower
    than float32."""
    asked: tuple[Callable[[], bool], ...] = (
        torch.cpu._is_amx_tile_supported,
        torch.cpu._is_avx512_bf16_supported,
    )
    return any(ask() for ask in asked)
