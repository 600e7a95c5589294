"""Which kind of query a question is, by its likeness with thousands that people asked and by its pattern.

Of 496 questions whose author had seen no pattern and no example, the first pattern, and likeness with
1,900 examples where none was found, were right about 0.62, this about 0.91 (docs/evaluation.md). Where the two
best kinds are less than ``SURE`` apart about half are wrong. `python -m eval.answers.kinds` fits the weights and
measures them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assistant.questions.forms import all_forms
from assistant.questions.plain import make_plain
from assistant.questions.text_classifier import TextClassifier, load_classifier

SURE = 0.1
NEAR = 0.2  # what resembles every kind less, and has no pattern, is not understood
WEIGHTS = Path(__file__).with_name("kinds.safetensors")
_ASKED = Path(__file__).with_name("asked")
_PATTERN = 0.2  # what a pattern adds to the score of its kind


@dataclass(frozen=True)
class Ranking:
    """Kinds of questions.

    Attributes:
        kinds: the likeliest first, (questions, kinds).
        scores: of these, (questions, kinds).
    """

    kinds: np.ndarray
    scores: np.ndarray

    @property
    def lead(self) -> np.ndarray:
        """By how much the first is ahead of the second, (questions,)."""
        return np.asarray(self.scores[:, 0] - self.scores[:, 1])


def load_kinds() -> TextClassifier:
    """The weights that ship."""
    return load_classifier(WEIGHTS)


def rank_kinds(model: TextClassifier, plain: Sequence[str], patterns: Sequence[str]) -> Ranking:
    """The kinds of plain questions, the likeliest first.

    Args:
        model: weights for each kind.
        plain: questions as patterns see them.
        patterns: of each the kind whose pattern was found, "" for none.
    """
    found = np.array(patterns)[:, None] == np.array(model.classes)
    scores = model.score(plain) + _PATTERN * found
    order = np.argsort(-scores, axis=1, kind="stable")
    return Ranking(np.array(model.classes)[order], np.take_along_axis(scores, order, axis=1))


def read_asked() -> dict[str, tuple[str, ...]]:
    """Questions by kind, plain: those of queries.yaml, and as people typed them."""
    return {
        kind: (*form.examples, *map(make_plain, _read_lines(kind)))
        for kind, form in all_forms().items()
    }


def _read_lines(kind: str) -> list[str]:
    file = _ASKED / f"{kind}.txt"
    return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
