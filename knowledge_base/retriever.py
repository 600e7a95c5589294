"""Find the passages that answer a question: vectors for meaning, BM25 for the exact words, ranks
fused.

Codes, ports and register numbers decide technical questions, and a sentence model blurs them;
paraphrase decides the others, and word counts miss it. Reciprocal rank fusion needs no common scale
for the two (Cormack, Clarke, Buettcher, SIGIR 2009, k = 60).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from bm25s import BM25

from knowledge_base.chunks import Chunk
from knowledge_base.documents import Kind
from knowledge_base.formats import PastIncident, read_incident, render_incident
from knowledge_base.index import Index
from traffic.errors import UserError

# Words of technical text: what BM25 counts, and the terms by which a question shows that it is
# about the documents.

MAX_QUESTION_CHARS = 2000

_TOKEN = re.compile(r"\w+(?:[.:/-]\w+)*")
_PART = re.compile(r"[^\W_]+")
_JOINTED = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[\w-]+|\d{4,}|[A-Za-z]+-[A-Za-z]+")
_STOP_WORDS = """a an and are as at be been but by can could did do does for from had has have how i if in into is it
its me my of on or our should so than that the their them then there these they this to was we were what when where
which who why will with would you your"""
_STOP = frozenset(_STOP_WORDS.split())
_UNPAIRED = _STOP | {"no", "not", "off", "up", "out"}


def make_tokens(text: str) -> list[str]:
    """Cut technical text into lower-case words; compounds count whole and in parts, plurals as
    singulars.

    >>> make_tokens("Exceptions 0x0B and E-1042 on port 502")
    ['exception', '0x0b', 'e-1042', 'e', '1042', 'port', '502']
    """
    tokens: list[str] = []
    for whole in _TOKEN.findall(text.lower()):
        parts = _PART.findall(whole)
        tokens += [whole, *parts] if len(parts) > 1 else parts
    return [_singular(token) for token in tokens if token not in _STOP]


def _singular(word: str) -> str:
    plural = (
        len(word) > 3
        and word.endswith("s")
        and not word.endswith(("ss", "us", "is"))
        and word.isalpha()
    )
    return word[:-1] if plural else word


def find_terms(index: Index, question: str) -> set[str]:
    """Terms of the documents that a question names, in lower case: "0x0b", "keep-alive", "stp",
    "zero window".

    A term is a word with a digit or a joint in it, a word that is always written in capitals, or
    two telling words that stand beside each other. One common noun is none: that a past incident
        speaks of the weather makes no term.
    """
    if "terms" not in index.memo:
        index.memo["terms"] = _read_terms([chunk.context for chunk in index.chunks()])
    text = question[:MAX_QUESTION_CHARS]
    return {word for word in (*make_tokens(text), *_pairs(text)) if word in index.memo["terms"]}


def _read_terms(texts: Sequence[str]) -> frozenset[str]:
    words = {word for text in texts for word in _TOKEN.findall(text)}
    jointed = {word.lower() for word in words if _JOINTED.fullmatch(word)}
    capitals = {
        word.lower() for word in words if len(word) > 1 and word.isalpha() and word.isupper()
    }
    small = {word.lower() for word in words if not word.isupper()}
    return frozenset(
        {*jointed, *(capitals - small), *(pair for text in texts for pair in _pairs(text))}
    )


def _pairs(text: str) -> list[str]:
    """Telling words that follow each other; stop words between them are passed over, numbers part
    them."""
    told = [
        _singular(word)
        for word in _TOKEN.findall(text.lower())
        if len(word) > 1 and word not in _UNPAIRED
    ]
    return [
        f"{one} {other}"
        for one, other in pairwise(told)
        if not (one[0].isdigit() or other[0].isdigit())
    ]


RRF_K = 60
DEPTH = 30  # ranks taken from each list

# A passage answers when its cosine plus this weight times the share of the question's telling words
# that it holds reaches the bound. Chosen on the questions in
# tests/test_knowledge_base_retriever.py: nonsense stays below 0.38.
WORDS_WEIGHT = 0.35
ENOUGH = 0.45


@dataclass(frozen=True)
class Passage:
    """A chunk that answers, as it is cited; ``score`` is 1 where it is first in both rankings, and
    falls with rank."""

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
        answering: rows near enough to be shown; where there is none, the question is left
            unanswered.
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
    bm25: BM25
    rarity: dict[str, float]  # inverse document frequency, ln(1 + n / df)


def search(index: Index, question: str, k: int = 5, kind: Kind | None = None) -> list[Passage]:
    """Find at most ``k`` passages, best first; an empty list says that the knowledge base does not
    answer.

    Args:
        index: an open knowledge base.
        question: what the operator asks, or facts in words; the first 2,000 characters count.
        k: how many passages, at least 1.
        kind: only manuals, incidents or threats.

    Returns:
        Passages with ``score`` in (0, 1]: the mean over both rankings of 61 / (60 + rank), 0 for a
        ranking that does not hold the passage. Equal scores are ordered by chunk id.

    Raises:
        UserError: the stored vectors were made by another embedder.
    """
    ranking = rank(index, question, kind)
    kept = [row for row in ranking.fused if row in ranking.answering]
    return [_passage(ranking.chunks[row], ranking.scores[row]) for row in kept[:k]]


def rank(index: Index, question: str, kind: Kind | None = None) -> Ranking:
    """Order the chunks that may answer in each of the ways that ``search`` joins; arguments as
    there.

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
    answering = frozenset(
        row for row, cosine in near.items() if _answers(cosine, words, row, asked)
    )
    return Ranking(words.chunks, tuple(by_meaning), tuple(lexical), tuple(fused), scores, answering)


def find_passage(index: Index, chunk_id: str) -> Passage | None:
    """The passage behind a citation, with score 1; None where no living chunk has that id."""
    return next((_passage(chunk, 1.0) for chunk in index.chunks() if chunk.id == chunk_id), None)


def find_nearness(index: Index, question: str) -> float:
    """Cosine of a question with the passage that lies nearest to it in meaning; 0 where there is no
    passage.

    Raises:
        UserError: the stored vectors were made by another embedder.
    """
    if not index.chunks() or not question.strip():
        return 0.0
    vector = index.embed_question(question[:MAX_QUESTION_CHARS])
    nearest = index.store.nearest(vector, 1, None)
    return max((float(one @ vector) for one in index.store.vectors(nearest).values()), default=0.0)


def _passage(chunk: Chunk, score: float) -> Passage:
    return Passage(
        chunk.document, chunk.section, chunk.page, chunk.text, score, chunk.id, chunk.kind
    )


def _words(index: Index) -> Words:
    """Count the words of this version of the index, once."""
    if "words" not in index.memo:
        index.memo["words"] = _count_words(tuple(index.chunks()))
    return index.memo["words"]


def _count_words(chunks: tuple[Chunk, ...]) -> Words:
    tokens = [make_tokens(chunk.context) for chunk in chunks]
    bm25 = BM25(method="lucene")
    bm25.index(tokens, show_progress=False)
    sets = tuple(frozenset(row) for row in tokens)
    count: dict[str, int] = {}
    for token in (token for row in sets for token in row):
        count[token] = count.get(token, 0) + 1
    return Words(
        chunks, sets, bm25, {token: float(np.log1p(len(chunks) / n)) for token, n in count.items()}
    )


def _rank_by_words(words: Words, asked: list[str], kind: Kind | None) -> list[int]:
    """Rows of the chunks that hold asked words, best first; ties by chunk id, because rows are
    sorted by it."""
    scores = words.bm25.get_scores(asked)  # (n_chunks,)
    order = np.argsort(-scores, kind="stable")
    found = (
        int(row) for row in order if scores[row] > 0 and kind in (None, words.chunks[row].kind)
    )
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
    """Whether a passage is near enough: in meaning, and in the telling words of the question that
    it holds."""
    unknown = float(
        np.log1p(len(words.chunks))
    )  # a word of no chunk is as telling as a word of one
    weights = {token: words.rarity.get(token, unknown) for token in asked}
    held = sum(weight for token, weight in weights.items() if token in words.tokens[row])
    if weights.keys() <= words.tokens[row]:
        return True  # "E-1099" alone means nothing to a sentence model
    return cosine + WORDS_WEIGHT * held / sum(weights.values()) >= ENOUGH


# What happened before: past incidents as files that people review, and as passages that answer.

SHIPPED = Path(__file__).parent / "incidents"


def read_incidents(folder: Path = SHIPPED) -> list[PastIncident]:
    """Read every incident of a folder, sorted by id.

    Raises:
        UserError: a file is no past incident, or two have one id.
    """
    incidents = [read_incident(path) for path in sorted(folder.glob("*.md"))]
    ids = [incident.id for incident in incidents]
    if twice := sorted({identity for identity in ids if ids.count(identity) > 1}):
        raise UserError(
            f"{folder} holds {', '.join(twice)} more than once; expected ids that differ; rename one"
        )
    return sorted(incidents, key=lambda incident: incident.id)


def similar(index: Index, text: str, k: int = 3) -> list[Passage]:
    """The past incidents most like a description, one passage each, best first; empty where none is
    like it."""

    best: dict[str, Passage] = {}
    for passage in search(index, text, k=4 * k, kind="incident"):
        best.setdefault(passage.document, passage)
    return [*best.values()][:k]


def write_incident(incident: PastIncident, folder: Path) -> Path:
    """Write a resolved incident as a document, ready for ``Index.add``; returns the file.

    Raises:
        UserError: another incident has that file name already.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", incident.title.lower()).strip("-")[:60].strip("-")
    path = folder / f"{incident.id.lower()}-{slug}.md"
    text = render_incident(incident)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise UserError(
            f"{path} exists with other content; expected a new incident; choose another id"
        )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
