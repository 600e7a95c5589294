"""A language model on this machine: it scores allowed answers, and where it can chat it writes.

A verdict never comes from parsing generated text: the allowed answers' likelihoods are read from
one forward pass, of equal prompts once. Torch is imported with the first model, not with this
module: looking something up needs none.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from assistant.llm.answer_tree import build_choice_tree
from assistant.llm.weights import check_adapter_folder, check_model_folder
from traffic.errors import UserError

Progress = Callable[[int, int], None]  # done, of how many


def score_distinct(
    prompts: Sequence[str], n_choices: int, sum_steps: Callable[[list[str]], np.ndarray]
) -> np.ndarray:
    """Score each different prompt once and normalise over the choices.

    Args:
        prompts: n of them.
        n_choices: answers that are allowed.
        sum_steps: log-probabilities of the choices after each prompt, (n_different, n_choices).

    Returns:
        Shape (n, n_choices), natural log-probabilities; rows sum to 1.
    """
    distinct = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
    if not distinct:
        return np.empty((0, n_choices), np.float32)
    sums = sum_steps(list(distinct))
    scores = sums - np.logaddexp.reduce(sums, axis=1, keepdims=True)
    return scores[[distinct[prompt] for prompt in prompts]]


class LocalLLM:
    """A causal model from a folder, its adapter merged in.

    Attributes:
        name: the folder's name, for records of what was written by which model.
        chat_capable: the tokenizer has a chat template, so `stream` and `render` work.
        free_prose: as a writer, it words facts itself instead of ordering them.
    """

    free_prose = False

    def __init__(self, path: Path | str, adapter: Path | str | None = None) -> None:
        """Load the model; nothing is fetched and no code from the folder is run.

        Args:
            path: a Hugging Face model folder: config.json, a tokenizer, weights as safetensors.
            adapter: a PEFT adapter folder for this model; merged, because an unmerged one costs
                half the speed.

        Raises:
            UserError: the folder is not such a model, its weights are pickles, or it is not a
                causal model.
        """
        path, adapter = Path(path), Path(adapter) if adapter is not None else None
        check_model_folder(path)
        if adapter is not None:
            check_adapter_folder(adapter)
        from assistant.llm.scoring import Scorer

        self.name = path.name
        self._scorer = Scorer(path, adapter)
        self._model = self._scorer.model
        self.chat_capable: bool = self._model.chat_capable

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
        tree = build_choice_tree(self._model.encode(choices, special=False))

        def sum_steps(distinct: list[str]) -> np.ndarray:
            rows = self._model.encode(distinct, special=not self.chat_capable)
            self._check_lengths(rows, tree.longest)
            return self._scorer.score(rows, tree, progress)

        return score_distinct(prompts, len(choices), sum_steps)

    def render(self, messages: list[dict[str, str]]) -> str:
        """Render messages with the model's own chat template, ending where its reply starts.

        Raises:
            UserError: the model has no chat template.
        """
        if not self.chat_capable:
            raise UserError(
                f"{self.name} has no chat template; expected an instruct model; choose one that chats"
            )
        return self._model.render(messages)

    def stream(self, messages: list[dict[str, str]], max_tokens: int) -> Iterator[str]:
        """Write a reply greedily, piece by piece; stops at the model's end token or after
        ``max_tokens``.

        Raises:
            UserError: the model has no chat template, or the messages and the reply exceed its
                context.
        """
        rows = self._model.encode([self.render(messages)], special=False)
        self._check_lengths(rows, max_tokens)
        yield from self._model.stream(rows[0], max_tokens)

    def _check_lengths(self, rows: list[list[int]], extra: int) -> None:
        limit = self._model.context
        longest = max(len(row) for row in rows) + extra
        if limit is not None and longest > limit:
            raise UserError(
                f"a prompt and its answer need {longest} tokens; {self.name} reads at most {limit}; shorten it"
            )
