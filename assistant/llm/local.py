"""A language model on this machine: it scores allowed answers, and where it can chat it writes.

A verdict never comes from parsing generated text: the allowed answers' likelihoods are read from
one forward pass. What makes that quick on a CPU: equal prompts once, prompts of similar length
together (right-padded, so that causal attention needs no mask), the beginning that all prompts
share once, logits only where answers part, and for a small model a batch on every core: its tensors
    are too small to be divided well.

A server on the plant's network is `RemoteLLM` in `assistant.llm.remote`, named here too: callers
choose between both.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assistant.llm.answer_tree import (
    BATCH_TOKENS,
    ChoiceTree,
    build_choice_tree,
    count_shared_tokens,
    make_batches,
)
from assistant.llm.weights import load_model
from traffic.errors import UserError

Progress = Callable[[int, int], None]  # done, of how many
SMALL_HIDDEN = (
    512  # measured: up to here two batches on two cores take half the time of one batch on both
)


class LocalLLM:
    """A causal model from a folder, its adapter merged in.

    Attributes:
        name: the folder's name, for records of what was written by which model.
        chat_capable: the tokenizer has a chat template, so `stream` and `render` work.
    """

    def __init__(
        self, path: Path | str, adapter: Path | str | None = None, threads: int | None = None
    ) -> None:
        """Load the model; nothing is fetched and no code from the folder is run.

        Args:
            path: a Hugging Face model folder: config.json, a tokenizer, weights as safetensors.
            adapter: a PEFT adapter folder for this model; merged, because an unmerged one costs
                half the speed.
            threads: CPU threads for this process; torch's default where None.

        Raises:
            UserError: the folder is not such a model, its weights are pickles, or it is not a
                causal model.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        self.name = Path(path).name
        self._tokenizer, self._model = load_model(
            Path(path), Path(adapter) if adapter is not None else None
        )
        self._has_plain_head = _has_plain_head(self._model)
        self._threads = torch.get_num_threads()
        self._workers = self._threads if _is_small(self._model) else 1
        self.chat_capable = bool(self._tokenizer.chat_template)

    def score(
        self, prompts: Sequence[str], choices: Sequence[str], progress: Progress | None = None
    ) -> np.ndarray:
        """Score every choice as the continuation of every prompt.

        Args:
            prompts: full prompts; for a chat-capable model they come from `render`, which writes
                its special tokens.
            choices: the allowed answers, at least one, no two alike.
            progress: called with the numbers of different prompts that are finished and that there
                are.

        Returns:
            Shape (n_prompts, n_choices), natural log-probabilities, normalised over the choices
            (rows sum to 1).

        Raises:
            UserError: a prompt is longer than the model's context.
        """
        tree = build_choice_tree(
            [self._tokenizer(choice, add_special_tokens=False).input_ids for choice in choices]
        )
        distinct = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
        if not distinct:
            return np.empty((0, len(choices)), np.float32)
        rows: list[list[int]] = self._tokenizer(
            list(distinct), add_special_tokens=not self.chat_capable
        ).input_ids
        self._check_lengths(rows, tree.longest)
        sums = self._score_rows(rows, tree, progress)
        scores = sums - np.logaddexp.reduce(sums, axis=1, keepdims=True)
        return scores[[distinct[prompt] for prompt in prompts]]

    def render(self, messages: list[dict[str, str]]) -> str:
        """Render messages with the model's own chat template, ending where its reply starts.

        Raises:
            UserError: the model has no chat template.
        """
        if not self.chat_capable:
            raise UserError(
                f"{self.name} has no chat template; expected an instruct model; choose one that chats"
            )
        return str(
            self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        )

    def stream(self, messages: list[dict[str, str]], max_tokens: int) -> Iterator[str]:
        """Write a reply greedily, piece by piece; stops at the model's end token or after
        ``max_tokens``.

        Raises:
            UserError: the model has no chat template, or the messages and the reply exceed its
                context.
        """
        tokens = self._tokenizer(self.render(messages), add_special_tokens=False).input_ids
        self._check_lengths([tokens], max_tokens)
        ends = np.atleast_1d(
            self._model.generation_config.eos_token_id or self._tokenizer.eos_token_id or -1
        )
        written: list[int] = []
        shown, cache = "", None
        for _ in range(max_tokens):
            with torch.inference_mode():
                ids = torch.tensor([tokens], device=self._model.device)
                out = self._model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache, tokens = out.past_key_values, [int(out.logits[0, -1].argmax())]
            if tokens[0] in ends:
                break
            written += tokens
            text = self._tokenizer.decode(written, skip_special_tokens=True)
            if not text.endswith("\ufffd"):  # a character whose bytes are not all there yet
                yield text[len(shown) :]
                shown = text

    def _check_lengths(self, rows: list[list[int]], extra: int) -> None:
        limit = getattr(self._model.config, "max_position_embeddings", None)
        longest = max(len(row) for row in rows) + extra
        if limit is not None and longest > limit:
            raise UserError(
                f"a prompt and its answer need {longest} tokens; {self.name} reads at most {limit}; shorten it"
            )

    def _score_rows(
        self, rows: list[list[int]], tree: ChoiceTree, progress: Progress | None
    ) -> np.ndarray:
        shared = count_shared_tokens(rows)
        rests = [row[shared:] for row in rows]
        batches = make_batches(
            [len(rest) + tree.longest for rest in rests], BATCH_TOKENS, equal=len(tree.paths) > 1
        )
        sums = np.empty((len(rows), len(tree.steps)), np.float32)
        with torch.inference_mode():
            prefix = (
                self._model(self._pad([rows[0][:shared]]), use_cache=True).past_key_values
                if shared
                else None
            )
        score = partial(self._score_batch, tree=tree, prefix=prefix)
        done = 0
        with self._pool() as pool:
            for batch, scored in zip(
                batches, pool.map(score, [[rests[i] for i in b] for b in batches]), strict=True
            ):
                sums[batch] = scored
                done += len(batch)
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

    def _score_batch(self, rests: list[list[int]], tree: ChoiceTree, prefix: Any) -> np.ndarray:
        with torch.inference_mode():
            return _sum_steps(self._read_nodes(rests, tree, _repeated(prefix, len(rests))), tree)

    def _read_nodes(self, rests: list[list[int]], tree: ChoiceTree, cache: Any) -> Any:
        """Logits at every node of the tree, shape (n_rests, n_nodes, vocabulary)."""
        if len(tree.paths) == 1:
            ids = self._pad([[*rest, *tree.paths[0]] for rest in rests])
            positions = torch.tensor(
                [[len(rest) - 1 + depth for _, depth in tree.nodes] for rest in rests]
            )
            return self._logits(ids, cache, torch.arange(len(rests))[:, None], positions)[0]
        # Several paths: all rests have one length, so the cache is used again for every path
        # without any mask.
        count = len(tree.paths)
        last = torch.full((len(rests), 1), len(rests[0]) - 1)
        root, cache = self._logits(
            self._pad(rests), cache, torch.arange(len(rests))[:, None], last, keep=True
        )
        inner = [(path, depth) for path, depth in tree.nodes if depth > 0]
        rows = torch.tensor([[i * count + path for path, _ in inner] for i in range(len(rests))])
        positions = torch.tensor([[depth - 1 for _, depth in inner]]).expand(len(rests), -1)
        ids = self._pad(tree.paths).repeat(len(rests), 1)
        return torch.cat(
            [root, self._logits(ids, _repeated(cache, count), rows, positions)[0]], dim=1
        )

    def _logits(
        self, ids: Any, cache: Any, rows: Any, positions: Any, keep: bool = False
    ) -> tuple[Any, Any]:
        """Logits (as in ``positions``, then the vocabulary) at token positions of rows, and the
        cache."""
        options = {
            "input_ids": ids,
            "past_key_values": cache,
            "use_cache": keep or cache is not None,
        }
        if not self._has_plain_head:
            out = self._model(**options)
            return out.logits[rows, positions], out.past_key_values
        out = self._model.base_model(**options)
        return self._model.get_output_embeddings()(
            out.last_hidden_state[rows, positions]
        ), out.past_key_values

    def _pad(self, rows: Sequence[Sequence[int]]) -> Any:
        """Pad on the right with any token: what comes after a position cannot change it in a causal
        model."""
        width = max(len(row) for row in rows)
        return torch.tensor(
            [[*row, *[0] * (width - len(row))] for row in rows], device=self._model.device
        )


def _repeated(cache: Any, count: int) -> Any:
    if cache is None:
        return None
    cache = copy.deepcopy(cache)  # the model appends to the cache it is given
    cache.batch_repeat_interleave(count)
    return cache


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


def _is_small(model: Any) -> bool:
    hidden = getattr(model.config, "hidden_size", None)
    return model.device.type == "cpu" and hidden is not None and hidden <= SMALL_HIDDEN


def _has_plain_head(model: Any) -> bool:
    """Whether logits are just the output embedding of the body's states; some models scale or cap
    them after it."""
    probe = torch.tensor([[0, 1, 2]], device=model.device)
    with torch.inference_mode():
        plain = model.get_output_embeddings()(
            model.base_model(probe, use_cache=False).last_hidden_state
        )
        return bool(
            torch.allclose(plain, model(probe, use_cache=False).logits, atol=1e-3, rtol=1e-3)
        )
