"""Scores that are kept: a prompt that comes again is not scored again."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol

import numpy as np

from assistant.llm.local import Progress

MOST = 200_000  # prompts of one reading, 70 to 140 MB


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
    """A model that is asked once for each prompt, over all calls that lie near each other.

    A prompt is known by 16 bytes of its hash: with its scores about 350 bytes are kept of each. What
    is asked for stays for ``most`` further prompts at least: two halves, of which the older one is
    let go when the newer one is full. All of it is made of small pieces: one table that grows would be
    copied with every prompt, and leaves holes in the memory of a process that runs for days.
    """

    def __init__(self, llm: Scorer, most: int = MOST) -> None:
        self._llm, self._most = llm, most
        self._choices: tuple[str, ...] = ()
        self._newer: dict[bytes, bytes] = {}  # of each prompt, float32 (n_choices,)
        self._older: dict[bytes, bytes] = {}

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
            self._choices, self._newer, self._older = tuple(choices), {}, {}
        keys = [blake2b(prompt.encode(), digest_size=16).digest() for prompt in prompts]
        known, new = {}, {}
        for key, prompt in zip(keys, prompts, strict=True):
            kept = self._newer.get(key) or self._older.get(key)
            if kept is None:
                new[key] = prompt
            else:
                known[key] = kept
        if new:
            scores = self._llm.score(list(new.values()), choices, progress).astype("<f4")
            known |= {key: row.tobytes() for key, row in zip(new, scores, strict=True)}
        self._keep(known)
        scores = np.frombuffer(b"".join(known[key] for key in keys), "<f4")
        return scores.reshape(len(keys), len(choices)).copy()

    def _keep(self, known: dict[bytes, bytes]) -> None:
        self._newer |= known
        if len(self._newer) >= self._most:
            self._older, self._newer = self._newer, {}
