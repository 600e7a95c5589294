"""How likely it is that a passage answers a question: one calibrated probability.

It orders passages, it is the score that is shown, and below ``BOUND`` nothing is. It is logistic in
what a passage and a question have in common, and in what the question says that no document does:

    meaning    cosine of question and passage
    matched    for each telling word of the question the nearest word of the passage in its context
               (MaxSim), weighted by how rare the word is
    counted    BM25 over words, codes and concepts of the field, as a share of the most it could be
    headed     share of the question's telling words that title and headings hold
    length     logarithm of how many telling words the question has: the means above fall with them
    unknown    share of the question's telling words that no passage holds
    named      whether one of these is a name: it has digits, capitals or a maker's spelling
    choice     logarithm of how many candidates there were: of many one looks good by chance

Fitted by ``python -m eval.answers.relevance`` (what it does on questions that were held out stands
in docs/knowledge-base.md): the first four so that passages that answer come first, the others and
the scale so that the first passage's number is a probability.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from knowledge_base.minilm import Embedded
from knowledge_base.pieces import pieces_of, unit
from knowledge_base.vocabulary import Vocabulary, concept_terms, numbers_alike, word_terms
from knowledge_base.words import STOP_WORDS, WORD, code_key, is_code

# A question whose codes make up this share of what it asks is answered by a passage that holds them,
# and any question by the row that begins with its code: a code alone means nothing to a sentence model.
_CODE_SHARE, CODE_SURE = 0.4, 0.9


class Weights(NamedTuple):
    """Coefficients of the logistic function; the order of ``features``."""

    meaning: float
    matched: float
    counted: float
    headed: float
    length: float
    unknown: float
    named: float
    choice: float
    bias: float


OF_PASSAGE = 4  # the first of them; the others are the same for all passages of a question
WEIGHTS = Weights(
    meaning=5.0,
    matched=9.13,
    counted=2.92,
    headed=3.43,
    length=4.59,
    unknown=-1.53,
    named=-5.01,
    choice=-0.77,
    bias=-11.0,
)
# Of the fitted questions, each judged by weights that were fitted on other documents: at this bound
# Recall@5 falls by three points, and 85 % of those that nothing answers are refused.
BOUND = 0.22


@dataclass(frozen=True)
class Asked:
    """A question, word by word.

    Attributes:
        words: its telling words as they were written.
        terms: of each, what a passage that holds it may hold: the word and its parts, and other
            ways to write its number.
        rarity: how telling each is, inverse document frequency; (n_words,).
        known: whether a passage holds it; (n_words,), bool.
        pieces: word pieces of all of them along the index's axes, unit length; (n_pieces, n_axes).
        owner: which word each piece belongs to; (n_pieces,).
    """

    words: tuple[str, ...]
    terms: tuple[frozenset[str], ...]
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


def read_asked(read: Embedded, words: Vocabulary, axes: np.ndarray) -> Asked | None:
    """Cut a question into its telling words; None where it has none.

    Args:
        read: what the sentence model makes of the question.
        words: those of the index.
        axes: as ``knowledge_base.pieces.find_axes`` makes them, (hidden, n_axes).
    """
    telling = [word for word in WORD.finditer(read.text) if word[0].lower() not in STOP_WORDS]
    lying = [np.flatnonzero(pieces_of(word, read)) for word in telling]
    kept = [(word[0], rows) for word, rows in zip(telling, lying, strict=True) if len(rows)]
    if not kept:
        return None
    alike = numbers_alike([word.lower() for word, _ in kept])
    terms = [
        frozenset([*word_terms(word.lower()), *numbers])
        for (word, _), numbers in zip(kept, alike, strict=True)
    ]
    concepts = [frozenset(concept_terms(word)) for word, _ in kept]
    held = [
        [words.rarity[term] for term in own | named if term in words.rarity]
        for own, named in zip(terms, concepts, strict=True)
    ]
    return Asked(
        words=tuple(word for word, _ in kept),
        terms=tuple(terms),
        rarity=np.array([max(some, default=words.unknown) for some in held]),
        known=np.array([bool(some) for some in held]),
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


def share_held(asked: Asked, held: frozenset[str]) -> float:
    """How much of what a question asks stands in a text, by its words' rarity; a concept in another
    word is not counted: a "controller" of malware is no PLC.

    Args:
        asked: a question.
        held: terms of the text.
    """
    holds = np.array([not held.isdisjoint(terms) for terms in asked.terms])
    return float(asked.rarity[holds].sum() / asked.rarity.sum())


def code_share(asked: Asked, held: frozenset[str], title: frozenset[str]) -> float:
    """How much of what a question asks are codes that a passage holds; what names the document
    itself is no code.

    Args:
        asked: a question.
        held: terms of the passage.
        title: terms of its document's title.
    """
    keys = [_code_terms(word) if is_code(word) else frozenset() for word in asked.words]
    exact = [bool(key & held) and not key & title for key in keys]
    return float(asked.rarity[exact].sum() / asked.rarity.sum())


def explains_code(asked: Asked, text: str, title: frozenset[str]) -> bool:
    """Whether a line or a table's row of a passage begins with a code that is asked for: there it is
    explained, elsewhere it is only mentioned. What names the document itself is no code.

    Args:
        asked: a question.
        text: the passage.
        title: terms of its document's title.
    """
    codes = [_code_terms(word) for word in asked.words if is_code(word)]
    codes = [terms for terms in codes if not terms & title]
    if not codes:
        return False
    first = (WORD.search(line) for line in text.splitlines())
    begun = [_code_terms(found[0]) for found in first if found is not None and is_code(found[0])]
    return any(terms & others for terms in codes for others in begun)


def _code_terms(word: str) -> frozenset[str]:
    """The terms of a code that stand for the whole of it."""
    whole, *_ = word_terms(word.lower())
    return frozenset({whole, code_key(word)} - {""})


def features(asked: Asked, of_passages: np.ndarray) -> np.ndarray:
    """What the logistic function sees of each passage, shape (n_passages, 8).

    Args:
        asked: a question.
        of_passages: ``meaning``, ``matched``, ``counted`` and ``headed`` of each, (n_passages, 4).
    """
    of_question = (*asked.of_question, float(np.log(max(1, len(of_passages)))))
    return np.column_stack([of_passages, np.tile(of_question, (len(of_passages), 1))])


def relevance(
    seen: np.ndarray, code_shares: Sequence[float], explained: Sequence[bool]
) -> np.ndarray:
    """Probability that each passage answers, shape (n_passages,).

    Args:
        seen: ``features``.
        code_shares: ``code_share`` of each.
        explained: ``explains_code`` of each.
    """
    *slopes, bias = WEIGHTS
    likely = 1 / (1 + np.exp(-(seen @ np.array(slopes) + bias)))
    exact = np.array(explained, bool) | (np.array(code_shares) >= _CODE_SHARE)
    # Of several that hold the code, those that explain it come first; among these the order stays.
    order = (np.array(explained, float) + likely) / 2
    return np.where(exact, CODE_SURE + (1 - CODE_SURE) * order, likely)
