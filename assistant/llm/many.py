"""One base with the adapters of several sites, scored together."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from assistant.llm.answer_tree import build_choice_tree
from assistant.llm.local import Progress
from assistant.llm.weights import check_adapter_folder, check_model_folder
from traffic.errors import UserError


class ManyLLM:
    """A small Llama from a folder, and adapters of it that stay apart.

    Attributes:
        chat_capable: never; such a base has no chat template.
    """

    chat_capable = False

    def __init__(self, base: Path, adapters: Sequence[Path]) -> None:
        """Load base and adapters; nothing is fetched and no code from a folder is run.

        Args:
            base: a model's folder.
            adapters: LoRA adapters of it, at least one.

        Raises:
            UserError: a folder is no such model or adapter, or they do not fit together.
        """
        check_model_folder(base)
        for adapter in adapters:
            check_adapter_folder(adapter)
            if not can_stack(base, adapter):
                raise UserError(
                    f"{adapter} cannot be served beside others over {base}; expected plain LoRA "
                    "of a small Llama without a chat template; serve it alone"
                )
        from assistant.llm.scoring import Scorer

        self._scorer = Scorer(base, sites=adapters)

    def score(
        self,
        prompts: Sequence[str],
        which: Sequence[int],
        choices: Sequence[str],
        progress: Progress | None = None,
    ) -> np.ndarray:
        """Score every choice as the continuation of every prompt, each by an adapter of its own.

        Args:
            prompts: full prompts, n of them.
            which: the adapter of each, a number in their order.
            choices: the allowed answers, at least one, no two alike.
            progress: called with the numbers of different pairs of prompt and adapter that are
                finished and that there are.

        Returns:
            Shape (n, n_choices), natural log-probabilities, normalised over the choices: those of
            each adapter merged alone, to what bf16 rounds.

        Raises:
            UserError: a prompt is longer than the model's context.
        """
        pairs = {
            pair: row for row, pair in enumerate(dict.fromkeys(zip(prompts, which, strict=True)))
        }
        if not pairs:
            return np.empty((0, len(choices)), np.float32)
        model = self._scorer.model
        tree = build_choice_tree(model.encode(choices, special=False))
        rows = model.encode([prompt for prompt, _ in pairs], special=True)
        longest = max(map(len, rows)) + tree.longest
        if model.context is not None and longest > model.context:
            raise UserError(
                f"a prompt and its answer need {longest} tokens; the base reads at most "
                f"{model.context}; shorten it"
            )
        adapters = np.array([adapter for _, adapter in pairs], np.int64)
        sums = self._scorer.score(rows, tree, progress, adapters)
        scores = sums - np.logaddexp.reduce(sums, axis=1, keepdims=True)
        return scores[[pairs[pair] for pair in zip(prompts, which, strict=True)]]


def can_stack(base: Path, adapter: Path) -> bool:
    """Whether an adapter can be served beside others over a base: plain LoRA of a small Llama."""
    from assistant.llm.llama import is_small_llama  # torch, which looking something up spares

    return (adapter / "adapter_config.json").is_file() and is_small_llama(base, adapter)
