"""Find the passages that answer a question, and say how likely each of them does.

question ─▶ typing errors mended ─▶ vector ─▶ nearest by meaning ─┐
                                  ─▶ words  ─▶ first by BM25      ─┴▶ candidates ─▶ relevance ─▶ passages

Meaning and words each find candidates that the other misses: a sentence model blurs codes, ports
and register numbers, word counts miss paraphrase. What orders them, and decides whether there is an
answer at all, is one probability (``knowledge_base.relevance``). Fusing the two orders by rank, as
was done before, was worse than the better of them wherever one of them failed.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bm25s import BM25
from rapidfuzz import process
from rapidfuzz.distance import OSA

from knowledge_base.chunks import Chunk
from knowledge_base.documents import Kind
from knowledge_base.formats import PastIncident, read_incident, render_incident
from knowledge_base.index import Index
from knowledge_base.manifest import Entry
from knowledge_base.minilm import Embedded
from knowledge_base.pieces import pieces_of
from knowledge_base.relevance import BOUND, code_share, features, match, read_asked, relevance
from knowledge_base.words import WORD, make_tokens
from traffic.errors import UserError

MAX_QUESTION_CHARS = 2000
DEPTH = 40  # candidates taken from each list

# The terms by which a question shows that it is about the documents.


@dataclass(frozen=True)
class Passage:
    """A chunk that answers, as it is cited.

    Attributes:
        document: its title.
        section, page, text, chunk_id, kind: as ``Chunk`` has them.
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
        seen: what the probabilities were computed from, a row of ``relevance.features`` each.
    """

    chunks: tuple[Chunk, ...]
    by_meaning: tuple[int, ...]
    by_words: tuple[int, ...]
    by_relevance: tuple[int, ...]
    scores: dict[int, float]
    answering: frozenset[int]
    seen: dict[int, np.ndarray]


_NOTHING = Ranking((), (), (), (), {}, frozenset(), {})


@dataclass(frozen=True)
class Words:
    """The words of one version of the index: BM25 over its chunks, how telling each word is, and
    what a misspelt one may have been meant to be."""

    chunks: tuple[Chunk, ...]
    tokens: tuple[frozenset[str], ...]
    bm25: BM25
    rarity: dict[str, float]  # inverse document frequency, ln(1 + n / df)
    spelt: dict[str, tuple[str, ...]]  # by first letter, words of letters alone

    @property
    def unknown(self) -> float:
        """Rarity of a word that no chunk holds: as telling as a word of one."""
        return float(np.log1p(len(self.chunks)))


def search(index: Index, question: str, k: int = 5, kind: Kind | None = None) -> list[Passage]:
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
        _passage(chunk, ranking.scores[row], sources[chunk.id])
        for row in kept[:k]
        if (chunk := ranking.chunks[row]).id in sources
    ]


def rank(index: Index, question: str, kind: Kind | None = None) -> Ranking:
    """Order the chunks that may answer in each of the ways that ``search`` joins; arguments as
    there.

    Raises:
        UserError: the stored vectors were made by another embedder.
    """
    question = question[:MAX_QUESTION_CHARS]
    axes = index.store.pieces.axes() if index.chunks() else None
    if axes is None or not make_tokens(question):
        return _NOTHING
    words = _words(index)
    read = index.read_question(question)
    mended = mend(question, read, words)
    if mended != question:
        read = index.read_question(mended)
    asked = read_asked(mended, read, words.rarity, words.unknown, axes)
    if asked is None:
        return _NOTHING
    by_id = {chunk.id: row for row, chunk in enumerate(words.chunks)}
    dense = [by_id[i] for i in index.nearest(read.vector, DEPTH, kind) if i in by_id]
    lexical = _rank_by_words(words, make_tokens(mended), kind)
    if not dense and not lexical:
        return _NOTHING
    made = index.store.made([words.chunks[row].id for row in sorted({*dense, *lexical})])
    # A chunk that another thread has just removed has no vector, and so cannot be found.
    rows = sorted(by_id[i] for i in made.vectors if i in made.pieces)
    ids = [words.chunks[row].id for row in rows]
    # Rounded, so that equal texts are equal.
    meaning = [round(float(made.vectors[i] @ read.vector), 6) for i in ids]
    seen = features(asked, meaning, [round(match(asked, made.pieces[i]), 6) for i in ids])
    titles = [frozenset(make_tokens(words.chunks[row].document)) for row in rows]
    shares = [
        code_share(asked, words.tokens[row], title) for row, title in zip(rows, titles, strict=True)
    ]
    likely = relevance(seen, shares)
    scores = dict(zip(rows, map(float, likely), strict=True))
    cosines = dict(zip(rows, meaning, strict=True))
    # Chroma leaves ties to chance; rows are sorted by chunk id, and so are ties here.
    return Ranking(
        chunks=words.chunks,
        by_meaning=tuple(sorted({*dense} & {*rows}, key=lambda row: (-cosines[row], row))),
        by_words=tuple(lexical),
        by_relevance=tuple(sorted(rows, key=lambda row: (-scores[row], row))),
        scores=scores,
        answering=frozenset(row for row in rows if scores[row] >= BOUND),
        seen=dict(zip(rows, seen, strict=True)),
    )


_SHORTEST_MENDED, _LONG = 4, 8  # letters: one error from 4 on, two from 8 on


def mend(question: str, read: Embedded, words: Words) -> str:
    """Put the documents' words in the place of misspelt ones.

    A word is taken for misspelt where no document has it, the sentence model knows it only in
    pieces, and a word of the documents that begins alike is one typing error away (two for long
    words): optimal string alignment, so that "swtich" is one error from "switch".
    """

    def right(word: re.Match[str]) -> str:
        lower = word[0].lower()
        known = not {*make_tokens(lower)}.isdisjoint(words.rarity)
        if known or len(lower) < _SHORTEST_MENDED or not lower.isalpha():
            return word[0]
        if pieces_of(word, read).sum() < 2:
            return word[0]
        most = 1 if len(lower) < _LONG else 2
        found = process.extractOne(
            lower, words.spelt.get(lower[0], ()), scorer=OSA.distance, score_cutoff=most
        )
        return found[0] if found else word[0]

    return WORD.sub(right, question)


def find_passage(index: Index, chunk_id: str) -> Passage | None:
    """The passage behind a citation, with score 1; None where no chunk that may answer has that
    id."""
    source = index.sources().get(chunk_id)
    if source is None:
        return None
    chunks = (chunk for chunk in index.chunks() if chunk.id == chunk_id)
    return next((_passage(chunk, 1.0, source) for chunk in chunks), None)


def _passage(chunk: Chunk, score: float, source: Entry) -> Passage:
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
    rarity = {token: float(np.log1p(len(chunks) / n)) for token, n in count.items()}
    spelt: dict[str, list[str]] = {}
    for token in sorted(count):
        if token.isalpha() and len(token) >= _SHORTEST_MENDED:
            spelt.setdefault(token[0], []).append(token)
    by_letter = {letter: tuple(some) for letter, some in spelt.items()}
    return Words(chunks, sets, bm25, rarity, by_letter)


def _rank_by_words(words: Words, asked: list[str], kind: Kind | None) -> list[int]:
    """Rows of the chunks that hold asked words, best first; ties by chunk id, because rows are
    sorted by it."""
    scores = words.bm25.get_scores(asked)  # (n_chunks,)
    order = np.argsort(-scores, kind="stable")
    found = (
        int(row) for row in order if scores[row] > 0 and kind in (None, words.chunks[row].kind)
    )
    return [row for row, _ in zip(found, range(DEPTH), strict=False)]


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
