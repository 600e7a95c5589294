"""How likely it is that a passage answers a question: one calibrated probability.

It orders passages, it is the score that is shown, and below ``BOUND`` nothing is. It is logistic in
what a passage and a question have in common, and in what the question says that no document does:

    meaning    cosine of question and passage
    matched    for each telling word of the question the nearest word of the passage in its context
               (MaxSim), weighted by how rare the word is
    counted    BM25 over words, codes and concepts of the field, as a share of the most it could be
    headed     share of the question's telling words that title and headings hold
    stated     where the question asks for an amount, how surely the passage states one of that kind
               (``knowledge_base.amounts``); of the ten that come first without it
    length     logarithm of how many telling words the question has: the means above fall with them
    unknown    share of the question's telling words that no passage holds
    named      whether one of these is a name: it has digits, capitals or a maker's spelling
    choice     logarithm of how many candidates there were: of many one looks good by chance
    place      logarithm of the first passage's place among the candidates by their cosine: where
               meaning and words agree, it is 0

What the first passage leaves open tells the fact from the device: of "mean time between failures of
the edge router" the router's manual holds the router.

    rest          share of the question's telling words that are not what its document is about: of no
                  device's title, and held by few of the document's passages
    rest_matched  as ``matched``, of these words alone
    rest_held     share of these words that it holds as they are written
    beside        by how much the best passages of its document match each word better
    beyond        the same of all candidates
    missed        where the question asks for an amount, how far neither the passage nor others of its
                  document state it

Fitted by ``python -m eval.answers.relevance`` (what it does on questions that were held out stands
in docs/knowledge-base.md): the first five so that passages that answer come first, the others and
the scale so that the first passage's number is a probability.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from knowledge_base.minilm import Embedded
from knowledge_base.pieces import pieces_of, unit
from knowledge_base.vocabulary import Vocabulary, concept_terms, numbers_alike, word_terms
from knowledge_base.words import APART, SMALL_WORDS, WORD, code_key, is_code, is_standard

# A question whose codes make up this share of what it asks is answered by a passage that holds them,
# and any question by the row that begins with its code: a code alone means nothing to a sentence model.
CODE_SHARE, CODE_SURE = 0.4, 0.9
# What manuals number by digits alone, and from how many digits on a number names one thing.
_NUMBERED = frozenset(
    [
        "register",
        "event",
        "error",
        "code",
        "fault",
        "alarm",
        "message",
        "warning",
        "exception",
        "parameter",
        "reg",
        "address",
    ]
)
_LEAST_DIGITS = 3
_ALONE_DIGITS = 5  # and from how many on without such a word before it: "what does 40001 hold"
_ROW, _CELL = 1.0, 0.5  # a code explained at the beginning of its row, and in a later cell


class Weights(NamedTuple):
    """Coefficients of the logistic function; the order of ``features``."""

    meaning: float
    matched: float
    counted: float
    headed: float
    stated: float
    length: float
    unknown: float
    named: float
    choice: float
    place: float
    rest: float
    rest_matched: float
    rest_held: float
    beside: float
    beyond: float
    missed: float
    bias: float


OF_PASSAGE = 5  # the first of them; the others are the same for all passages of a question
WEIGHTS = Weights(
    meaning=1.51,
    matched=2.53,
    counted=1.48,
    headed=1.24,
    stated=0.53,
    length=0.91,
    unknown=-1.53,
    named=-1.53,
    choice=-0.08,
    place=-0.15,
    rest=4.83,
    rest_matched=5.55,
    rest_held=-0.65,
    beside=4.75,
    beyond=-4.19,
    missed=-1.57,
    bias=-9.19,
)
# Chosen before these weights were fitted, and kept: of manuals that were held out it refuses three of
# four questions that they do not answer, most of them near misses, and loses one answer in seven.
BOUND = 0.45


@dataclass(frozen=True)
class Asked:
    """A question, word by word.

    Attributes:
        text: all of it, in English and in the words of the index.
        words: its telling words as they were written.
        terms: of each, what a passage that holds it may hold: the word and its parts, and other
            ways to write its number.
        rarity: how telling each is, inverse document frequency; (n_words,).
        known: whether a passage holds it; (n_words,), bool.
        codes: of each, the terms that stand for the whole of it where it is a code, also one of
            digits alone: "register 30005", "event 024".
        names: whether it names a thing; (n_words,), bool.
        pieces: word pieces of all of them along the index's axes, unit length; (n_pieces, n_axes).
        owner: which word each piece belongs to; (n_pieces,).
    """

    text: str
    words: tuple[str, ...]
    terms: tuple[frozenset[str], ...]
    rarity: np.ndarray
    known: np.ndarray
    codes: tuple[frozenset[str], ...]
    names: np.ndarray
    pieces: np.ndarray
    owner: np.ndarray

    @property
    def of_question(self) -> tuple[float, float, float]:
        """``length``, ``unknown`` and ``named``."""
        unknown = float(self.rarity[~self.known].sum() / self.rarity.sum())
        return float(np.log(len(self.words))), unknown, float((self.names & ~self.known).any())

    @property
    def missing(self) -> tuple[str, ...]:
        """The codes that no passage holds."""
        return tuple(np.array(self.words)[self._is_missing])

    @property
    def is_of_missing(self) -> bool:
        """Whether the question is about codes that no passage holds."""
        return bool(weigh(self, self._is_missing) >= CODE_SHARE)

    @property
    def _is_missing(self) -> np.ndarray:
        return np.array([bool(code) for code in self.codes]) & ~self.known


def _is_name(word: re.Match[str], nouns: bool) -> bool:
    """Whether a word that is no code is written as a name: a capital tells nothing at the beginning,
    nor where all nouns have one."""
    return word[0][1:] != word[0][1:].lower() or (
        word[0] != word[0].lower() and word.start() > 0 and not nouns
    )


def _find_codes(
    asked: Sequence[str], alike: Sequence[tuple[str, ...]], words: Vocabulary
) -> Iterator[frozenset[str]]:
    for before, word, others in zip(["", *asked], asked, alike, strict=False):
        counted = len(word) >= _LEAST_DIGITS and before.lower() in _NUMBERED
        alone = len(word) >= _ALONE_DIGITS and word in words.rarity
        if word.isdigit() and (counted or alone):
            yield frozenset({word, *others})
        elif not word.isdigit() and is_code(word):
            yield _code_terms(word)
        else:  # "exception 11" and "exception 0B" where the passages write 0x0B
            yield frozenset(others) & words.rarity.keys()


def read_asked(
    read: Embedded, words: Vocabulary, axes: np.ndarray, nouns: bool = False
) -> Asked | None:
    """Cut a question into its telling words; None where it has none.

    Args:
        read: what the sentence model makes of the question.
        words: those of the index.
        axes: as ``knowledge_base.pieces.find_axes`` makes them, (hidden, n_axes).
        nouns: whether the question's language writes all nouns with a capital.
    """
    telling = [word for word in WORD.finditer(read.text) if word[0].lower() not in SMALL_WORDS]
    lying = [np.flatnonzero(pieces_of(word, read)) for word in telling]
    found = [word for word, rows in zip(telling, lying, strict=True) if len(rows)]
    lying = [rows for rows in lying if len(rows)]
    if not found:
        return None
    kept = [word[0] for word in found]
    alike = [*numbers_alike([word.lower() for word in kept])]
    terms = [
        frozenset([*word_terms(word.lower()), *numbers])
        for word, numbers in zip(kept, alike, strict=True)
    ]
    concepts = [frozenset(concept_terms(word)) for word in kept]
    codes = tuple(_find_codes(kept, alike, words))
    # Of a code that no passage holds the parts mean something else: "N-774" where "N" is a column.
    held = [
        [words.rarity[term] for term in own | named if term in words.rarity]
        if words.rarity.keys() & code or words.numbered & {*numbers} or not code
        else []
        for own, named, code, numbers in zip(terms, concepts, codes, alike, strict=True)
    ]
    return Asked(
        text=read.text,
        words=tuple(kept),
        terms=tuple(terms),
        rarity=np.array([max(some, default=words.unknown) for some in held]),
        known=np.array([bool(some) for some in held]),
        codes=codes,
        names=np.array([bool(c) or _is_name(w, nouns) for c, w in zip(codes, found, strict=True)]),
        pieces=unit(read.pieces[np.concatenate(lying)] @ axes),
        owner=np.repeat(np.arange(len(kept)), [len(rows) for rows in lying]),
    )


def match(asked: Asked, passage: np.ndarray) -> np.ndarray:
    """MaxSim word by word: how near the nearest word of the passage is to each of the question's,
    (n_words,).

    Args:
        asked: a question.
        passage: its word pieces, int8 of shape (n_pieces, n_axes).
    """
    if not len(passage):
        return np.zeros(len(asked.words))
    nearest = (asked.pieces @ passage.T.astype(np.float32)).max(axis=1) / 127  # (n_pieces,)
    return np.bincount(asked.owner, nearest) / np.bincount(asked.owner)


def weigh(asked: Asked, by_word: np.ndarray) -> np.ndarray:
    """The mean over the question's words, by rarity, of one number each, (..., n_words) to (...)."""
    return by_word @ asked.rarity / asked.rarity.sum()


def share_held(asked: Asked, held: frozenset[str]) -> float:
    """How much of what a question asks stands in a text, by its words' rarity; a concept in another
    word is not counted: a "controller" of malware is no PLC.

    Args:
        asked: a question.
        held: terms of the text.
    """
    return float(weigh(asked, which_held(asked, held)))


def which_held(asked: Asked, held: frozenset[str]) -> np.ndarray:
    """Which of a question's words stand in a text, (n_words,), bool."""
    return np.array([not held.isdisjoint(terms) for terms in asked.terms])


def code_share(asked: Asked, held: frozenset[str], title: frozenset[str]) -> float:
    """How much of what a question asks are codes that a passage holds; what names the document
    itself is no code.

    Args:
        asked: a question.
        held: terms of the passage.
        title: terms of its document's title.
    """
    # Digits alone may be an amount elsewhere, so they count only where a row begins with them.
    exact = [
        bool(key & held) and not key & title and not word.isdigit() and not is_standard(word)
        for key, word in zip(asked.codes, asked.words, strict=True)
    ]
    return float(asked.rarity[exact].sum() / asked.rarity.sum())


def explains_code(asked: Asked, text: str, title: frozenset[str]) -> float:
    """1 where a line or a table's row of a passage begins with a code that is asked for, 0.5 where a
    later cell of a row does: there it is explained, elsewhere (0) it is only mentioned. What names
    the document itself is no code.

    Args:
        asked: a question.
        text: the passage.
        title: terms of its document's title.
    """
    codes = [
        terms
        for word, terms in zip(asked.words, asked.codes, strict=True)
        if terms and not terms & title and not is_standard(word)
    ]
    wanted = frozenset().union(*codes)
    if not wanted:
        return 0.0
    found = 0.0
    for line in text.splitlines():
        first, *others = line.strip().strip("|").split("|") if "|" in line else [line]
        if wanted & _begins(first):
            return _ROW
        # A number alone may be an amount in any column but the first.
        if any(wanted & _begins(one) and _names_one(one) for one in others):
            found = _CELL
    return found


def _names_one(cell: str) -> bool:
    """Whether a cell that begins with a code is about it: digits must be all of the cell, or they
    are an amount with its unit."""
    return not WORD.search(cell)[0].isdigit() or cell.strip(" `*").isdigit()  # type: ignore[index]


def _begins(text: str) -> frozenset[str]:
    """The terms of the code that a line or a cell begins with."""
    word = WORD.search(text)
    if word is None:
        return frozenset()
    apart = APART.match(text, word.start())
    written = apart[1] + apart[2] if apart else word[0]
    if written.isdigit():
        return frozenset({written})
    return _code_terms(written) if is_code(written) else frozenset()


def _code_terms(word: str) -> frozenset[str]:
    """The terms of a code that stand for the whole of it."""
    whole, *_ = word_terms(word.lower())
    return frozenset({whole, code_key(word)} - {""})


def score_order(of_passages: np.ndarray) -> np.ndarray:
    """What passages are ordered by, from the first of ``features``' columns, (n_passages, at most
    OF_PASSAGE)."""
    return of_passages @ np.array(WEIGHTS[: of_passages.shape[1]])


def left_open(
    asked: Asked,
    matched: np.ndarray,
    first: int,
    beside: Sequence[int],
    held: frozenset[str],
    fact: np.ndarray,
) -> tuple[float, float, float, float, float]:
    """``rest``, ``rest_matched``, ``rest_held``, ``beside`` and ``beyond`` of a question.

    Args:
        asked: the question.
        matched: ``match`` of each candidate, (n_passages, n_words).
        first: the row of the passage that comes first.
        beside: the rows of its document.
        held: its terms.
        fact: how much each word may be the fact that is asked for, not what the document is about,
            from 0 to 1, (n_words,).
    """
    rest = asked.rarity * fact
    open_, whole = rest.sum(), asked.rarity.sum()
    better = (matched[beside].max(axis=0), matched.max(axis=0))
    return (
        float(open_ / whole),
        float(matched[first] @ rest / open_) if open_ else 1.0,
        float(which_held(asked, held) @ rest / open_) if open_ else 1.0,
        float(weigh(asked, better[0] - matched[first])),
        float(weigh(asked, better[1] - matched[first])),
    )


def features(
    asked: Asked, of_passages: np.ndarray, opened: Sequence[float], nearer: int, missed: float
) -> np.ndarray:
    """What the logistic function sees of each passage, shape (n_passages, 16).

    Args:
        asked: a question.
        of_passages: ``meaning``, ``matched``, ``counted``, ``headed`` and ``stated`` of each.
        opened: ``left_open`` by the first of them.
        nearer: how many of them have a higher cosine than the first.
        missed: how far the first does not state the amount that is asked for, from 0 to 1.
    """
    crowd = float(np.log(max(1, len(of_passages))))
    of_question = (*asked.of_question, crowd, float(np.log1p(nearer)), *opened, missed)
    return np.column_stack([of_passages, np.tile(of_question, (len(of_passages), 1))])


def is_exact(code_shares: Sequence[float], explained: Sequence[float]) -> np.ndarray:
    """Which passages answer by the code that they hold, (n_passages,), bool; as ``relevance``."""
    return (np.array(explained) > 0) | (np.array(code_shares) >= CODE_SHARE)


def relevance(
    seen: np.ndarray,
    code_shares: Sequence[float],
    explained: Sequence[float],
    missing: bool = False,
) -> np.ndarray:
    """Probability that each passage answers, shape (n_passages,).

    Args:
        seen: ``features``.
        code_shares: ``code_share`` of each.
        explained: ``explains_code`` of each.
        missing: whether the question is about a code that no passage holds: what is said of other
            codes does not answer it, however alike it is.
    """
    *slopes, bias = WEIGHTS
    likely = 1 / (1 + np.exp(-(seen @ np.array(slopes) + bias)))
    likely = np.minimum(likely, 1 - CODE_SURE) if missing else likely
    exact = is_exact(code_shares, explained)
    # Of several that hold the code, those that explain it come first; among these the order stays,
    # as it does among those that do not hold it, which come after them.
    return put_exact_first(likely, exact, (np.array(explained, float) + likely) / 2)


def put_exact_first(likely: np.ndarray, exact: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Probabilities in which the passages that answer by a code are above all others.

    Args:
        likely: without regard to codes, (n_passages,).
        exact: which answer by a code, (n_passages,), bool.
        order: that of those that do, from 0 to 1, (n_passages,).
    """
    if not exact.any():
        return likely
    room = (1 - CODE_SURE) / 2
    others = np.where(likely > CODE_SURE, CODE_SURE + (likely - CODE_SURE) / 2, likely)
    return np.where(exact, CODE_SURE + room + room * order, others)
