"""Find the passages that answer a question, and say how likely each of them does.

question ─▶ typing errors mended ─▶ vector ─▶ nearest by meaning ─┐
                                  ─▶ words  ─▶ first by BM25      ─┴▶ candidates ─▶ relevance ─▶ passages

Meaning and words each find candidates that the other misses: a sentence model blurs codes, ports
and register numbers, word counts miss paraphrase. What orders them, and decides whether there is an
answer at all, is one probability (``knowledge_base.relevance``). Fusing the two orders by rank, as
was done before, was worse than the better of them wherever one of them failed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from knowledge_base.amounts import read_amount, state_amount
from knowledge_base.chunks import Chunk
from knowledge_base.documents import Kind
from knowledge_base.languages import writes_nouns_large
from knowledge_base.manifest import Entry
from knowledge_base.minilm import Embedded
from knowledge_base.named import Devices, find_named, read_devices, read_within
from knowledge_base.reading import Reader
from knowledge_base.relevance import (
    BOUND,
    CODE_SHARE,
    Asked,
    code_share,
    explains_code,
    features,
    is_exact,
    left_open,
    match,
    read_asked,
    relevance,
    score_order,
    share_held,
    weigh,
    which_held,
)
from knowledge_base.scale import PACKAGED
from knowledge_base.vocabulary import Vocabulary, make_terms, put_in_words
from knowledge_base.words import make_tokens

MAX_QUESTION_CHARS = 2000
DEPTH = 40  # candidates taken from each list
BM25_MOST = 2.2  # about what BM25 gives a word for each unit of its rarity, where it is repeated


@dataclass(frozen=True)
class Passage:
    """A chunk that answers, as it is cited.

    Attributes:
        document: its title.
        section, page, text, chunk_id, kind, start, end: as ``Chunk`` has them.
        score: probability that it answers, calibrated; ``BOUND`` is the least that is shown.
        about: make and model of the device that the document is about, "" for a general guide.
        example: whether it came with faultwise and is no document of the plant.
    """

    document: str
    section: str
    page: int | None
    text: str
    score: float
    chunk_id: str
    kind: Kind
    about: str = ""
    example: bool = False
    start: int = 0
    end: int = 0


@dataclass(frozen=True)
class Ranking:
    """The chunks that may answer one question, as rows of ``chunks``, best first in each order.

    Attributes:
        chunks: all of the index, sorted by id.
        by_meaning: the ``DEPTH`` nearest by cosine.
        by_words: the ``DEPTH`` first by BM25.
        by_relevance: both, by the probability that they answer.
        scores: these probabilities.
        answering: rows that are likely enough to be shown; where there is none, the question is
            left unanswered.
        exact: rows that hold the code that is asked for.
        seen: what the probabilities were computed from, a row of ``relevance.features`` each.
        missing: the codes that are asked for and that no chunk holds.
        about_missing: whether the question is about these.
    """

    chunks: tuple[Chunk, ...]
    by_meaning: tuple[int, ...]
    by_words: tuple[int, ...]
    by_relevance: tuple[int, ...]
    scores: dict[int, float]
    answering: frozenset[int]
    exact: frozenset[int]
    seen: dict[int, np.ndarray]
    missing: tuple[str, ...] = ()
    about_missing: bool = False


_MOST_KEPT = 200
_NOTHING = Ranking((), (), (), (), {}, frozenset(), frozenset(), {})


def search(index: Reader, question: str, k: int = 5, kind: Kind | None = None) -> list[Passage]:
    """Find at most ``k`` passages, best first; an empty list says that the knowledge base does not
    answer.

    Args:
        index: an open knowledge base.
        question: what the operator asks, or facts in words; the first 2,000 characters count.
        k: how many passages, at least 1.
        kind: only manuals, incidents or threats.

    Returns:
        Passages whose ``score``, the probability that they answer, reaches ``relevance.BOUND``.
        Equal scores are ordered by chunk id.

    Raises:
        UserError: the stored vectors were made by another embedder.
    """
    ranking = rank(index, question, kind)
    kept = [row for row in ranking.by_relevance if row in ranking.answering]
    sources = index.sources()
    return [
        make_passage(chunk, ranking.scores[row], sources[chunk.id])
        for row in kept[:k]
        if (chunk := ranking.chunks[row]).id in sources
    ]


def find_missing(index: Reader, question: str) -> tuple[str, ...]:
    """The codes that a question asks for and that no document holds."""
    return rank(index, question).missing


def rank(index: Reader, question: str, kind: Kind | None = None) -> Ranking:
    """Order the chunks that may answer in each of the ways that ``search`` joins; arguments as
    there.

    Raises:
        UserError: the stored vectors were made by another embedder.
    """
    index.follow()
    key = (question[:MAX_QUESTION_CHARS], kind)
    # Questions differ, but what is asked of past incidents and manuals is the same for all that ask
    # about one incident.
    kept: dict[Any, Ranking] = index.memo.setdefault("rankings", {})
    found = kept.get(key)
    if found is None:
        while len(kept) >= _MOST_KEPT:
            kept.pop(next(iter(kept)), None)
        found = kept[key] = _rank(index, *key)
    return found


def _rank(index: Reader, question: str, kind: Kind | None) -> Ranking:
    found = find_candidates(index, question, kind)
    return order_candidates(index, found) if found else _NOTHING


@dataclass(frozen=True)
class Candidates:
    """What may answer a question, not yet in one order.

    Attributes:
        asked: the question in the words of the index, word by word.
        vector: that of the question.
        dense: rows of the ``DEPTH`` nearest by cosine, nearest first.
        lexical: rows of the ``DEPTH`` first by BM25, best first.
        counted: BM25 of every chunk, (n_chunks,).
        inside: which chunks speak of the device that the question names, (n_chunks,), bool.
    """

    asked: Asked
    vector: np.ndarray
    dense: list[int]
    lexical: list[int]
    counted: np.ndarray
    inside: np.ndarray


def find_candidates(index: Reader, question: str, kind: Kind | None = None) -> Candidates | None:
    """Find what may answer by meaning and by words; None where nothing may."""
    axes = index.store.axes() if index.chunks() else None
    if axes is None or not make_tokens(question):
        return None
    words = _words(index)
    read = _read_in_words(index, question, words)
    asked = read_asked(read, words, axes, writes_nouns_large(question))
    if asked is None:
        return None
    named = find_named(asked, words, _devices(index, words))
    asked = read_within(asked, named, words)
    near = index.nearest(read.vector, DEPTH, kind)
    dense = [words.rows[one] for one in near if one in words.rows]
    counted = words.bm25.get_scores(make_terms(read.text))  # (n_chunks,)
    if named.by_model:
        dense = [row for row in dense if named.inside[row]]
        counted = np.where(named.inside, counted, 0.0)
    lexical = _rank_by_words(words, counted, kind)
    if not dense and not lexical:
        return None
    return Candidates(asked, read.vector, dense, lexical, counted, named.inside)


def order_candidates(index: Reader, found: Candidates) -> Ranking:
    """Order candidates by the probability that they answer."""
    words, asked, scale = _words(index), found.asked, index.embedder.scale
    made = index.store.made(
        [words.chunks[row].id for row in sorted({*found.dense, *found.lexical})]
    )
    # A chunk that another thread has just removed has no vector, and so cannot be found.
    rows = sorted(words.rows[one] for one in made.vectors if one in made.pieces)
    chunks = [words.chunks[row] for row in rows]
    # Rounded, so that equal texts are equal.
    meaning = [round(float(made.vectors[one.id] @ found.vector), 6) for one in chunks]
    near = np.array([match(asked, made.pieces[one.id]) for one in chunks])  # (n_rows, n_words)
    near = scale.matched.onto(PACKAGED.matched, near)
    matched = weigh(asked, near).round(6)
    headed = [share_held(asked, head_terms(one.document, one.section)) for one in chunks]
    most = BM25_MOST * asked.rarity.sum()
    meant = scale.meaning.onto(PACKAGED.meaning, np.array(meaning))
    of_passages = np.array([meant, matched, found.counted[rows] / most, headed]).T.reshape(-1, 4)
    asks, stated = _read_amounts(index, asked, chunks, score_order(of_passages))
    of_passages = np.column_stack([of_passages, stated])
    first = int(np.argmax(score_order(of_passages)))
    beside = [at for at, one in enumerate(chunks) if one.document == chunks[first].document]
    device = _device_terms(index, chunks[first])
    fact = _read_fact(index, asked, words, chunks[first], device)
    opened = left_open(asked, near, first, beside, words.terms[rows[first]], fact)
    nearer = (np.array(meaning) > meaning[first]).sum()
    missed = asks - (stated[first] + stated[beside].max()) / 2
    seen = features(asked, of_passages, opened, int(nearer), missed)
    shares, explained = _find_codes(asked, words, rows, found.inside)
    likely = relevance(seen, shares, explained, asked.is_of_missing)
    scores = dict(zip(rows, map(float, likely), strict=True))
    exact = {row for row, one in zip(rows, is_exact(shares, explained), strict=True) if one}
    # Who asks what a code means, and finds the row that explains it, needs none that does not hold it.
    of_code = max(explained) > 0 and max(shares) >= CODE_SHARE
    cosines = dict(zip(rows, meaning, strict=True))
    # Chroma leaves ties to chance; rows are sorted by chunk id, and so are ties here.
    return Ranking(
        chunks=words.chunks,
        by_meaning=tuple(sorted({*found.dense} & {*rows}, key=lambda row: (-cosines[row], row))),
        by_words=tuple(found.lexical),
        by_relevance=tuple(sorted(rows, key=lambda row: (-scores[row], row))),
        scores=scores,
        answering=frozenset(
            row for row in rows if scores[row] >= BOUND and (row in exact or not of_code)
        ),
        exact=frozenset(exact),
        seen=dict(zip(rows, seen, strict=True)),
        missing=asked.missing,
        about_missing=asked.is_of_missing,
    )


_MOST_READ = 10  # passages, the first in the order so far, in which an amount is looked for


def _read_amounts(
    index: Reader, asked: Asked, chunks: Sequence[Chunk], order: np.ndarray
) -> tuple[float, np.ndarray]:
    """Whether a question asks for an amount, 0 or 1, and how surely each passage states it,
    (n_passages,)."""
    amount, stated = read_amount(asked.text, asked.words), np.zeros(len(chunks))
    for at in np.argsort(-order, kind="stable")[: _MOST_READ if amount.kinds else 0]:
        stated[at] = state_amount(amount, chunks[at].text, _device_terms(index, chunks[at]))
    return float(bool(amount.kinds)), stated


def _device_terms(index: Reader, chunk: Chunk) -> frozenset[str]:
    """The terms of a passage's title where that names a device; none of an incident's or a guide's."""
    return head_terms(chunk.document, "") if index.sources()[chunk.id].about else frozenset()


_FEW_PASSAGES = 4.0  # as many more without the word: what three of three hold may still be the fact


def _read_fact(
    index: Reader, asked: Asked, words: Vocabulary, first: Chunk, device: frozenset[str]
) -> np.ndarray:
    """How much each of a question's words may be the fact that is asked for, not what the document of
    a passage is about, from 0 to 1, (n_words,).

    A word of the title of a device's manual is about the device. The title of an incident or of a
    guide is no device's: there, as everywhere, a word tells the less the more of the document's
    passages hold it, but for a code, which is what is asked for.
    """
    source = index.sources()[first.id]
    rows_of = index.memo.setdefault("rows_of", {})
    if source.id not in rows_of:
        rows_of[source.id] = np.array([words.rows[c] for c in source.chunks if c in words.rows])
    own = rows_of[source.id]
    held = np.array(
        [
            0 if code else words.which_hold(terms)[own].sum()
            for terms, code in zip(asked.terms, asked.codes, strict=True)
        ]
    )
    return np.where(which_held(asked, device), 0.0, 1 - held / (len(own) + _FEW_PASSAGES))


def _find_codes(
    asked: Asked, words: Vocabulary, rows: Sequence[int], inside: np.ndarray
) -> tuple[list[float], list[float]]:
    """``code_share`` and ``explains_code`` of some chunks: none of those on other devices."""
    shares, explained = [0.0] * len(rows), [0.0] * len(rows)
    for at, row in enumerate(rows):
        if inside[row]:
            chunk = words.chunks[row]
            title = head_terms(chunk.document, "")
            shares[at] = code_share(asked, words.terms[row], title)
            under = chunk.section.rpartition(" › ")[2]
            explained[at] = explains_code(asked, f"{under}\n{chunk.text}", title)
    return shares, explained


_MOST_READINGS = 4  # codes put together, then words replaced, then words that these made known


def _read_in_words(index: Reader, question: str, words: Vocabulary) -> Embedded:
    """Read a question in the words of the index."""
    read = index.read_question(question)
    for _ in range(_MOST_READINGS):
        text = put_in_words(read, words)
        if text == read.text:
            break
        read = index.read_question(text)
    return read


def find_passage(index: Reader, chunk_id: str) -> Passage | None:
    """The passage behind a citation, with score 1; None where no chunk that may answer has that
    id."""
    source, chunk = index.sources().get(chunk_id), index.by_id().get(chunk_id)
    return make_passage(chunk, 1.0, source) if source and chunk else None


def make_passage(chunk: Chunk, score: float, source: Entry) -> Passage:
    """A chunk as it is cited, with its document."""
    return Passage(
        document=chunk.document,
        section=chunk.section,
        page=chunk.page,
        text=chunk.text,
        score=score,
        chunk_id=chunk.id,
        kind=chunk.kind,
        about=source.about,
        example=source.example,
        start=chunk.start,
        end=chunk.end,
    )


def _words(index: Reader) -> Vocabulary:
    """The words of this version of the index."""
    if "words" not in index.memo:
        index.memo["words"] = index.store.words(index.chunks())
    return index.memo["words"]


def _devices(index: Reader, words: Vocabulary) -> Devices:
    """The devices that this version of the index knows."""
    if "devices" not in index.memo:
        sources = index.sources()
        index.memo["devices"] = read_devices(words, [sources[c.id].about for c in words.chunks])
    return index.memo["devices"]


def _rank_by_words(words: Vocabulary, scores: np.ndarray, kind: Kind | None) -> list[int]:
    """Rows of the chunks that hold asked words, best first; ties by chunk id, because rows are
    sorted by it."""
    asked = scores > 0 if kind is None else (scores > 0) & (words.kinds == kind)
    rows = np.flatnonzero(asked)
    if len(rows) > DEPTH:  # the rest need not be sorted
        least = np.partition(scores[rows], -DEPTH)[-DEPTH]
        rows = rows[scores[rows] >= least]
    order = np.argsort(-scores[rows], kind="stable")[:DEPTH]
    return rows[order].tolist()


@lru_cache(maxsize=10_000)
def head_terms(document: str, section: str) -> frozenset[str]:
    """The terms of a title and the headings below it."""
    return frozenset(make_terms(f"{document} › {section}"))


def similar(index: Reader, text: str, k: int = 3) -> list[Passage]:
    """The past incidents most like a description, one passage each, best first; empty where none is
    like it."""

    best: dict[str, Passage] = {}
    for passage in search(index, text, k=4 * k, kind="incident"):
        best.setdefault(passage.document, passage)
    return [*best.values()][:k]
