"""How likely it is that a passage answers a question: one calibrated probability.

It orders passages, it is the score that is shown, and below ``BOUND`` nothing is. It is logistic in
what a passage and a question have in common, and in what the question says that no document does:

    meaning    cosine of question and passage
    matched    for each telling word of the question the nearest word of the passage in its context
               (MaxSim), weighted by how rare the word is
    length     logarithm of how many telling words the question has: the mean above falls with them
    unknown    share of the question's telling words that no passage holds
    named      whether one of these is a name: it has digits, capitals or a maker's spelling

Fitted by ``python -m eval.answers.relevance`` (what it does on questions that were held out stands
in docs/knowledge-base.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from knowledge_base.minilm import Embedded
from knowledge_base.pieces import pieces_of, unit
from knowledge_base.words import STOP_WORDS, WORD, is_code, make_tokens

# A question whose codes make up this share of what it asks is answered by a passage that holds them:
# a code alone means nothing to a sentence model.
_CODE_SHARE, CODE_SURE = 0.4, 0.9


class Weights(NamedTuple):
    """Coefficients of the logistic function; the order of ``features``."""

    meaning: float
    matched: float
    length: float
    unknown: float
    named: float
    bias: float


WEIGHTS = Weights(meaning=2.38, matched=13.85, length=3.99, unknown=-1.17, named=-4.34, bias=-14.09)
# Of 264 questions, each judged by weights that were fitted on other documents: at this bound 90 % of
# those that nothing answers are refused, and Recall@5 of the others falls by 1.6 points.
BOUND = 0.31


@dataclass(frozen=True)
class Asked:
    """A question, word by word.

    Attributes:
        words: its telling words as they were written.
        rarity: how telling each is, inverse document frequency; (n_words,).
        known: whether a passage holds it; (n_words,), bool.
        pieces: word pieces of all of them along the index's axes, unit length; (n_pieces, n_axes).
        owner: which word each piece belongs to; (n_pieces,).
    """

    words: tuple[str, ...]
    rarity: np.ndarray
    known: np.ndarray
    pieces: np.ndarray
    owner: np.ndarray

    @property
    def of_question(self) -> tuple[float, float, float]:
        """``length``, ``unknown`` and ``named``."""
        unknown = float(self.rarity[~self.known].sum() / self.rarity.sum())
        strange = (word for word, held in zip(self.words, self.known, strict=True) if not held)
        return float(np.log(len(self.words))), unknown, float(any(map(_is_name, strange)))


def _is_name(word: str) -> bool:
    return is_code(word) or word != word.lower()


def read_asked(
    text: str, read: Embedded, rarity: Mapping[str, float], unknown: float, axes: np.ndarray
) -> Asked | None:
    """Cut a question into its telling words; None where it has none.

    Args:
        text: the question.
        read: what the sentence model makes of it.
        rarity: of every token of the index.
        unknown: rarity of a token that is in no passage.
        axes: as ``knowledge_base.pieces.find_axes`` makes them, (hidden, n_axes).
    """
    telling = [word for word in WORD.finditer(text) if word[0].lower() not in STOP_WORDS]
    lying = [np.flatnonzero(pieces_of(word, read)) for word in telling]
    kept = [(word[0], rows) for word, rows in zip(telling, lying, strict=True) if len(rows)]
    if not kept:
        return None
    tokens = [make_tokens(word) for word, _ in kept]
    return Asked(
        words=tuple(word for word, _ in kept),
        rarity=np.array([max([rarity.get(t, unknown) for t in some] or [1.0]) for some in tokens]),
        known=np.array([any(t in rarity for t in some) for some in tokens]),
        pieces=unit(read.pieces[np.concatenate([rows for _, rows in kept])] @ axes),
        owner=np.repeat(np.arange(len(kept)), [len(rows) for _, rows in kept]),
    )


def match(asked: Asked, passage: np.ndarray) -> float:
    """MaxSim: the mean over the question's words, by rarity, of the nearest word of the passage.

    Args:
        asked: a question.
        passage: its word pieces, int8 of shape (n_pieces, n_axes).
    """
    if not len(passage):
        return 0.0
    nearest = (asked.pieces @ passage.T.astype(np.float32)).max(axis=1) / 127  # (n_pieces,)
    by_word = np.bincount(asked.owner, nearest) / np.bincount(asked.owner)
    return float(by_word @ asked.rarity / asked.rarity.sum())


def code_share(asked: Asked, held: frozenset[str], title: frozenset[str]) -> float:
    """How much of what a question asks are codes that a passage holds; what names the document
    itself is no code.

    Args:
        asked: a question.
        held: tokens of the passage.
        title: tokens of its document's title.
    """
    exact = [
        is_code(word) and word.lower() in held and word.lower() not in title for word in asked.words
    ]
    return float(asked.rarity[exact].sum() / asked.rarity.sum())


def features(asked: Asked, meaning: Sequence[float], matched: Sequence[float]) -> np.ndarray:
    """What the logistic function sees of each passage, shape (n_passages, 5)."""
    ours = np.array([meaning, matched]).T.reshape(-1, 2)
    return np.column_stack([ours, np.tile(asked.of_question, (len(ours), 1))])


def relevance(seen: np.ndarray, code_shares: Sequence[float]) -> np.ndarray:
    """Probability that each passage answers, shape (n_passages,).

    Args:
        seen: ``features``.
        code_shares: ``code_share`` of each.
    """
    *slopes, bias = WEIGHTS
    likely = 1 / (1 + np.exp(-(seen @ np.array(slopes) + bias)))
    exact = np.array(code_shares) >= _CODE_SHARE
    # Of several that hold the code, the order stays.
    return np.where(exact, CODE_SURE + (1 - CODE_SURE) * likely, likely)
