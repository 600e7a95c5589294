"""Find the passages that answer a question: vectors for meaning, BM25 for the exact words, ranks fused.

Codes, ports and register numbers decide technical questions, and a sentence model blurs them; paraphrase decides the
others, and word counts miss it. Reciprocal rank fusion needs no common scale for the two (Cormack, Clarke, Buettcher,
SIGIR 2009, k = 60).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from knowledge_base.chunks import Chunk
from knowledge_base.documents import Kind
from knowledge_base.index import Index
from knowledge_base.terms import MAX_QUESTION_CHARS, make_tokens

if TYPE_CHECKING:
    from bm25s import BM25

__all__ = ["Passage", "Ranking", "find_nearness", "find_passage", "rank", "search"]

RRF_K = 60
DEPTH = 30  # ranks taken from each list

# A passage answers when its cosine plus this weight times the share of the question's telling words that it holds
# reaches the bound. Chosen on the questions in tests/test_knowledge_base_retriever.py: nonsense stays below 0.38.
WORDS_WEIGHT = 0.35
ENOUGH = 0.45


@dataclass(frozen=True)
class Passage:
    """A chunk that answers, as it is cited; ``score`` is 1 where it is first in both rankings, and falls with rank."""

    document: str
    section: str
    page: int | None
    text: str
    score: float
    chunk_id: str
    kind: Kind


@dataclass(frozen=True)
class Ranking:
    """The chunks that may answer one question, as rows of ``chunks``, best first in each order.

    Attributes:
        chunks: all of the index, sorted by id.
        by_meaning: the ``DEPTH`` nearest by cosine.
        by_words: the ``DEPTH`` first by BM25.
        fused: both, by rank.
        scores: what ``fused`` is ordered by.
        answering: rows near enough to be shown; where there is none, the question is left unanswered.
    """

    chunks: tuple[Chunk, ...]
    by_meaning: tuple[int, ...]
    by_words: tuple[int, ...]
    fused: tuple[int, ...]
    scores: dict[int, float]
    answering: frozenset[int]


@dataclass(frozen=True)
class Words:
    """The words of one version of the index: BM25 over its chunks, and how telling each word is."""

    chunks: tuple[Chunk, ...]
    tokens: tuple[frozenset[str], ...]
    bm25: "BM25"
    rarity: dict[str, float]  # inverse document frequency, ln(1 + n / df)


def search(index: Index, question: str, k: int = 5, kind: Kind | None = None) -> list[Passage]:
    """Find at most ``k`` passages, best first; an empty list says that the knowledge base does not answer.

    Args:
        index: an open knowledge base.
        question: what the operator asks, or facts in words; the first 2,000 characters count.
        k: how many passages, at least 1.
        kind: only manuals, incidents or threats.

    Returns:
        Passages with ``score`` in (0, 1]: the mean over both rankings of 61 / (60 + rank), 0 for a ranking that does
        not hold the passage. Equal scores are ordered by chunk id.

    Raises:
        UserError: the stored vectors were made by another embedder.
    """
    ranking = rank(index, question, kind)
    kept = [row for row in ranking.fused if row in ranking.answering]
    return [_passage(ranking.chunks[row], ranking.scores[row]) for row in kept[:k]]


def rank(index: Index, question: str, kind: Kind | None = None) -> Ranking:
    """Order the chunks that may answer in each of the ways that ``search`` joins; arguments as there.

    Raises:
        UserError: the stored vectors were made by another embedder.
    """
    question = question[:MAX_QUESTION_CHARS]
    asked = make_tokens(question)
    if not index.chunks() or not asked:
        return Ranking((), (), (), (), {}, frozenset())
    words = _words(index)
    vector = index.embed_question(question)
    by_id = {chunk.id: row for row, chunk in enumerate(words.chunks)}
    dense = [by_id[i] for i in index.store.nearest(vector, DEPTH, kind) if i in by_id]
    lexical = _rank_by_words(words, asked, kind)
    near = _cosines(index, vector, words, sorted({*dense, *lexical}))
    # Chroma leaves ties to chance; rows are sorted by chunk id, and so are ties here.
    by_meaning = sorted((row for row in dense if row in near), key=lambda row: (-near[row], row))
    scores = _fuse([by_meaning, lexical])
    fused = sorted(near, key=lambda row: (-scores[row], row))
    answering = frozenset(row for row, cosine in near.items() if _answers(cosine, words, row, asked))
    return Ranking(words.chunks, tuple(by_meaning), tuple(lexical), tuple(fused), scores, answering)


def find_passage(index: Index, chunk_id: str) -> Passage | None:
    """The passage behind a citation, with score 1; None where no living chunk has that id."""
    return next((_passage(chunk, 1.0) for chunk in index.chunks() if chunk.id == chunk_id), None)


def find_nearness(index: Index, question: str) -> float:
    """Cosine of a question with the passage that lies nearest to it in meaning; 0 where there is no passage.

    Raises:
        UserError: the stored vectors were made by another embedder.
    """
    if not index.chunks() or not question.strip():
        return 0.0
    vector = index.embed_question(question[:MAX_QUESTION_CHARS])
    nearest = index.store.nearest(vector, 1, None)
    return max((float(one @ vector) for one in index.store.vectors(nearest).values()), default=0.0)


def _passage(chunk: Chunk, score: float) -> Passage:
    return Passage(chunk.document, chunk.section, chunk.page, chunk.text, score, chunk.id, chunk.kind)


def _words(index: Index) -> Words:
    """Count the words of this version of the index, once."""
    if "words" not in index.memo:
        index.memo["words"] = _count_words(tuple(index.chunks()))
    return index.memo["words"]


def _count_words(chunks: tuple[Chunk, ...]) -> Words:
    from bm25s import BM25

    tokens = [make_tokens(chunk.context) for chunk in chunks]
    bm25 = BM25(method="lucene")
    bm25.index(tokens, show_progress=False)
    sets = tuple(frozenset(row) for row in tokens)
    count: dict[str, int] = {}
    for token in (token for row in sets for token in row):
        count[token] = count.get(token, 0) + 1
    return Words(chunks, sets, bm25, {token: float(np.log1p(len(chunks) / n)) for token, n in count.items()})


def _rank_by_words(words: Words, asked: list[str], kind: Kind | None) -> list[int]:
    """Rows of the chunks that hold asked words, best first; ties by chunk id, because rows are sorted by it."""
    scores = words.bm25.get_scores(asked)  # (n_chunks,)
    order = np.argsort(-scores, kind="stable")
    found = (int(row) for row in order if scores[row] > 0 and kind in (None, words.chunks[row].kind))
    return [row for row, _ in zip(found, range(DEPTH), strict=False)]


def _cosines(index: Index, vector: np.ndarray, words: Words, rows: list[int]) -> dict[int, float]:
    """Cosine of the question with each row's chunk, rounded so that equal texts are equal.

    A chunk that another thread has just removed has none, and so cannot be found.
    """
    vectors = index.store.vectors([words.chunks[row].id for row in rows]) if rows else {}
    by_row = {row: vectors[words.chunks[row].id] for row in rows if words.chunks[row].id in vectors}
    return {row: round(float(stored @ vector), 6) for row, stored in by_row.items()}


def _fuse(rankings: list[list[int]]) -> dict[int, float]:
    """Reciprocal rank fusion, scaled so that the first of every ranking scores 1."""
    fused: dict[int, float] = {}
    for ranking in rankings:
        for rank, row in enumerate(ranking, 1):
            fused[row] = fused.get(row, 0.0) + (RRF_K + 1) / (RRF_K + rank) / len(rankings)
    return fused


def _answers(cosine: float, words: Words, row: int, asked: list[str]) -> bool:
    """Whether a passage is near enough: in meaning, and in the telling words of the question that it holds."""
    unknown = float(np.log1p(len(words.chunks)))  # a word of no chunk is as telling as a word of one
    weights = {token: words.rarity.get(token, unknown) for token in asked}
    held = sum(weight for token, weight in weights.items() if token in words.tokens[row])
    if weights.keys() <= words.tokens[row]:
        return True  # "E-1099" alone means nothing to a sentence model
    return cosine + WORDS_WEIGHT * held / sum(weights.values()) >= ENOUGH
