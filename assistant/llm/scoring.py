"""Score answers after many prompts in torch.

What makes it quick on a CPU: prompts of similar length together (right-padded, so that causal
attention needs no mask), the beginning that all prompts share once, logits only where answers part,
and for a small model a batch on every core: its tensors are too small to be divided well.

What makes it the same whatever else is scored: in bf16 the last bits of a product follow from the
shapes that are multiplied, and moved a probability by up to 0.02. So a small model reads rows in
batches of a few fixed shapes, each row in that of its own length.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch.nn.functional import pad

from assistant.llm.answer_tree import BATCH_TOKENS, ChoiceTree, count_shared_tokens, make_batches
from assistant.llm.llama import Llama, is_small_llama
from assistant.llm.stacked import StackedLlama, mix_batches
from assistant.llm.weights import unloadable

_WIDTHS = 16  # tokens: rows differ in length by less within a batch
# Of a batch of fixed shape. The last one of each width is filled up: with 4,096 a slot of 487 windows
# took 0.66 s of CPU instead of 0.48, and thousands of windows as long as with this. The scores of
# 6,094 windows were the same with 1,024, 2,048 and 4,096.
_FIXED_TOKENS = 2048


class Scorer:
    """A loaded model and the threads that read with it.

    Attributes:
        model: a `Llama`, or a `Transformer`, which has the same methods and writes too.
    """

    def __init__(
        self, folder: Path, adapter: Path | None = None, sites: Sequence[Path] = ()
    ) -> None:
        """Load what `check_model_folder` and `check_adapter_folder` pass, the adapter merged in.

        Args:
            folder: the base's.
            adapter: of one site.
            sites: instead, the adapters of several, each beside the base.

        Raises:
            UserError: the folder is not such a model, it needs code of its own, or the adapter does
                not fit it.
        """
        try:
            self.model: Any = StackedLlama(folder, sites) if sites else _load(folder, adapter)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise unloadable(adapter or folder, error) from error
        self._threads = torch.get_num_threads()
        self._workers = self._threads if self.model.small else 1
        # A padded row may be longer than the context: rotary positions bear that.
        self._fixed = isinstance(self.model, Llama) and self.model.small

    def score(
        self,
        rows: list[list[int]],
        tree: ChoiceTree,
        progress: Callable[[int, int], None] | None,
        which: np.ndarray | None = None,
    ) -> np.ndarray:
        """Log-probability of every choice after every row, shape (n_rows, n_choices).

        ``which`` tells the adapter of each row, where the model has those of several sites.
        """
        one_path = len(tree.paths) == 1
        # What rows share is known only of all of them together, and by one adapter.
        alone = (self._fixed and one_path) or which is not None
        shared = 0 if alone else count_shared_tokens(rows)
        rests = [row[shared:] for row in rows]
        lengths = [len(rest) + tree.longest for rest in rests]
        if self._fixed and one_path:
            lengths = [_round_up(length) for length in lengths]
        equal = self._fixed or not one_path
        if which is None:
            budget = _FIXED_TOKENS if self._fixed else BATCH_TOKENS
            batches = make_batches(lengths, budget, equal)
        else:
            batches = mix_batches(lengths, which, BATCH_TOKENS)
        sums = np.empty((len(rows), len(tree.steps)), np.float32)
        with torch.inference_mode():
            prefix = self.model.read(self._pad([rows[0][:shared]])) if shared else None
        score = partial(self._score_batch, rests=rests, tree=tree, prefix=prefix, which=which)
        done = 0
        with self._pool() as pool:
            for batch, scored in zip(batches, pool.map(score, batches), strict=True):
                sums[batch] = scored
                done += len(set(batch))
                if progress is not None:
                    progress(done, len(rows))
        return sums

    @contextmanager
    def _pool(self) -> Iterator[ThreadPoolExecutor]:
        """Workers that share the threads of this process.

        What a worker sets, torch gives to every thread that begins later, so the number of before
        is set again; it is not read here, where another caller's workers may have set theirs.
        """
        each = (self._threads // self._workers,)
        try:
            with ThreadPoolExecutor(self._workers, "score", torch.set_num_threads, each) as pool:
                yield pool
        finally:
            torch.set_num_threads(self._threads)

    def _score_batch(
        self,
        batch: list[int],
        rests: list[list[int]],
        tree: ChoiceTree,
        prefix: Any,
        which: np.ndarray | None,
    ) -> np.ndarray:
        model = self.model if which is None else self.model.of(which[batch])
        with torch.inference_mode():
            cache = model.repeat(prefix, len(batch)) if prefix is not None else None
            return _sum_steps(self._read_nodes(model, [rests[i] for i in batch], tree, cache), tree)

    def _read_nodes(self, model: Any, rests: list[list[int]], tree: ChoiceTree, cache: Any) -> Any:
        """Logits at every node of the tree, shape (n_rests, n_nodes, vocabulary)."""
        if len(tree.paths) == 1:
            ids = self._pad([[*rest, *tree.paths[0]] for rest in rests])
            if self._fixed:
                # Batches of several sites are full.
                ids = _fix_shape(ids, None if model is self.model else len(ids))
            positions = torch.tensor(
                [[len(rest) - 1 + depth for _, depth in tree.nodes] for rest in rests]
            )
            return model.logits(ids, cache, torch.arange(len(rests))[:, None], positions, False)[0]
        # Several paths: all rests have one length, so the cache is used again for every path
        # without any mask.
        count = len(tree.paths)
        last = torch.full((len(rests), 1), len(rests[0]) - 1)
        root, cache = model.logits(
            self._pad(rests), cache, torch.arange(len(rests))[:, None], last, True
        )
        inner = [(path, depth) for path, depth in tree.nodes if depth > 0]
        rows = torch.tensor([[i * count + path for path, _ in inner] for i in range(len(rests))])
        positions = torch.tensor([[depth - 1 for _, depth in inner]]).expand(len(rests), -1)
        ids = self._pad(tree.paths).repeat(len(rests), 1)
        read, _ = model.logits(ids, model.repeat(cache, count), rows, positions, False)
        return torch.cat([root, read], dim=1)

    def _pad(self, rows: Sequence[Sequence[int]]) -> Any:
        """Pad on the right with any token: what comes after a position cannot change it in a causal
        model."""
        width = max(len(row) for row in rows)
        return torch.tensor(
            [[*row, *[0] * (width - len(row))] for row in rows], device=self.model.device
        )


def _round_up(length: int) -> int:
    return -(-length // _WIDTHS) * _WIDTHS


def _fix_shape(ids: Any, rows: int | None) -> Any:
    """Token ids padded to a width and a number of rows that follow from their length alone."""
    width = _round_up(ids.shape[1])
    count = rows or max(_FIXED_TOKENS // width, 1)
    return pad(ids, (0, width - ids.shape[1], 0, max(count - len(ids), 0)))


def _load(folder: Path, adapter: Path | None) -> Any:
    if is_small_llama(folder, adapter):
        return Llama(folder, adapter)
    # Imported here, since the pocket model spares it: transformers and peft take six seconds.
    from assistant.llm.transformer import Transformer

    return Transformer(folder, adapter)


def _sum_steps(logits: Any, tree: ChoiceTree) -> np.ndarray:
    """Sum each choice's token log-probabilities: (n, n_nodes, vocabulary) -> (n, n_choices)."""
    steps = [
        (choice, node, token) for choice, path in enumerate(tree.steps) for node, token in path
    ]
    choice, node, token = torch.tensor(steps, device=logits.device).T
    picked = torch.log_softmax(logits.float(), dim=-1)[:, node, token]  # (n, n_steps)
    sums = torch.zeros(len(logits), len(tree.steps), device=logits.device).index_add_(
        1, choice, picked
    )
    return sums.cpu().numpy()
