"""Scores that are kept: a prompt that comes again is not scored again."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol

import numpy as np

from assistant.llm.local import Progress


class Scorer(Protocol):
    """What classifies: a model, or one whose scores are kept."""

    @property
    def chat_capable(self) -> bool:
        """Whether prompts are chats."""

    def render(self, messages: list[dict[str, str]]) -> str:
        """A chat as a prompt."""

    def score(
        self, prompts: Sequence[str], choices: Sequence[str], progress: Progress | None = None
    ) -> np.ndarray:
        """Log-probabilities, shape (n_prompts, n_choices)."""


class RememberedScores:
    """A model that is asked once for each prompt, over all calls.

    A prompt is known by 16 bytes of its hash: about 200 bytes are kept of each, so a million
    different ones fit easily.
    """

    def __init__(self, llm: Scorer) -> None:
        self._llm = llm
        self._choices: tuple[str, ...] = ()
        self._place: dict[bytes, int] = {}
        self._scores = np.empty((0, 0), np.float32)

    @property
    def chat_capable(self) -> bool:
        """As the model."""
        return self._llm.chat_capable

    def render(self, messages: list[dict[str, str]]) -> str:
        """As the model."""
        return self._llm.render(messages)

    def score(
        self, prompts: Sequence[str], choices: Sequence[str], progress: Progress | None = None
    ) -> np.ndarray:
        """As ``LocalLLM.score``; what is kept is forgotten where the choices change."""
        if self._choices != tuple(choices):
            self._choices, self._place = tuple(choices), {}
            self._scores = np.empty((0, len(choices)), np.float32)
        keys = [blake2b(prompt.encode(), digest_size=16).digest() for prompt in prompts]
        new = {
            key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in self._place
        }
        if new:
            scores = self._llm.score(list(new.values()), choices, progress)
            self._place |= {key: len(self._scores) + i for i, key in enumerate(new)}
            self._scores = np.vstack([self._scores, scores.astype(np.float32)])
        return self._scores[[self._place[key] for key in keys]]
