"""How fast a knowledge base takes documents and answers, for ``make bench``.

Ingest: ATT&CK for ICS and a PDF of 2,000 pages made here. Search: passages of made words with random
unit vectors, beside a plain Chroma query on the same store.
"""

import resource
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen import canvas

from knowledge_base.chunks import Chunk, make_chunks
from knowledge_base.documents import read_documents
from knowledge_base.embeddings import Made, SentenceEmbedder
from knowledge_base.index import Index, open_index
from knowledge_base.minilm import Embedded
from knowledge_base.pieces import AXES
from knowledge_base.retriever import find_candidates, order_candidates, search
from knowledge_base.scale import PACKAGED
from knowledge_base.words import WORD

One = TypeVar("One")
PAGES = 2000
PASSAGES = 100_000
_ASKED = 100
_HIDDEN, _PIECES = 384, 14  # as MiniLM has them for ten words and a heading
_WORDS = [
    "controller",
    "register",
    "value",
    "pump",
    "sets",
    "reset",
    "valve",
    "motor",
    "speed",
    "current",
    "limit",
    "alarm",
    "code",
    "bus",
    "address",
    "master",
    "slave",
    "timeout",
    "frame",
    "level",
    "tank",
    "sensor",
    "fault",
    "line",
    "cable",
    "switch",
    "port",
    "link",
    "power",
    "state",
    "start",
]


@dataclass(frozen=True)
class Ingest:
    """What adding documents took, by the clock and of CPU."""

    passages: int
    read_s: float
    all_s: float
    cpu_s: float
    peak_gb: float


@dataclass(frozen=True)
class Searches:
    """Seconds of the fill; of the first search, which counts the words of all passages; of the first of
    the next process, which reads them; of each later one, of ordering its candidates, of reading its
    question with the packaged sentence model, and of a plain Chroma query."""

    fill_s: float
    first_s: float
    again_s: float
    search_s: np.ndarray
    order_s: np.ndarray
    read_s: np.ndarray
    chroma_s: np.ndarray


def write_manual(path: Path) -> Path:
    """A PDF manual: a heading and four paragraphs a page, a ruled table on every fourth."""
    rng = np.random.default_rng(0)
    page = canvas.Canvas(str(path), pagesize=A4, pageCompression=1)
    for number in range(PAGES):
        page.setFont("Helvetica-Bold", 16)
        page.drawString(72, 780, f"{number // 10 + 1}.{number % 10 + 1} Part {number}")
        page.setFont("Helvetica", 10)
        for line in range(36):
            if line % 9:
                page.drawString(72, 750 - 12 * line, " ".join(rng.choice(_WORDS, 12)))
        if number % 4 == 0:
            for row in range(12):
                for column in range(3):
                    page.rect(72 + 120 * column, 80 + 15 * row, 120, 15)
                    text = f"{40000 + 12 * number + row} {rng.choice(_WORDS)}"
                    page.drawString(75 + 120 * column, 84 + 15 * row, text)
        page.showPage()
    page.save()
    return path


def measure_ingest(folder: Path, attack: Path) -> Ingest:
    """Add ATT&CK and a manual to an empty knowledge base, embedder loaded before."""
    manual = write_manual(folder / "manual.pdf")
    with open_index(folder / "home") as index:
        index.read_question("warm")
        read_s = time_once(lambda: index.add([manual, attack], dry=True))
        cpu_s = -time.process_time()
        all_s = time_once(lambda: index.add([manual, attack]))
        cpu_s += time.process_time()
        count = len(index.manifest.chunk_ids)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return Ingest(count, read_s, all_s, cpu_s, peak)


class RandomVectors:
    """An embedder whose vectors are random and the same for the same text."""

    fingerprint = "random-384"
    scale = PACKAGED

    def read(self, texts: list[str]) -> list[Embedded]:
        """A random unit vector for the text and for each of its words."""
        return [self._read(text) for text in texts]

    def read_question(self, question: str) -> Embedded:
        """The same of one question."""
        return self._read(question)

    def _read(self, text: str) -> Embedded:
        words = [*WORD.finditer(text)]
        pieces = np.stack([_vector(word[0].lower()) for word in words])
        spans = np.array([word.span() for word in words], dtype=np.int64).reshape(-1, 2)
        return Embedded(_vector(text), pieces, spans, text)


@lru_cache(4096)
def _vector(text: str) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(text.encode()))
    made = rng.normal(size=_HIDDEN).astype(np.float32)
    return made / np.linalg.norm(made)


def measure_search(folder: Path) -> Searches:
    """Fill an index, and search it."""
    rng = np.random.default_rng(0)
    manual = folder / "manual.md"
    with manual.open("w", encoding="utf-8") as file:
        file.write("# Manual\n")
        for n in range(PASSAGES):
            file.write(f"## Part {n}\n{' '.join(rng.choice(_WORDS, 10))} E-{n}.\n")
    documents = read_documents(manual).documents
    made = _make_random(make_chunks(documents[0]), rng)
    with open_index(folder / "home", RandomVectors()) as index:
        fill_s = time_once(lambda: index.add_documents(documents, made=made))
        asked = [" ".join(rng.choice(_WORDS, 5)) for _ in range(_ASKED + 1)]
        first_s = time_once(lambda: search(index, asked[0]))
        search_s = _time_each(asked[1:], lambda one: search(index, one))
        order_s = _time_each(
            [found for one in asked if (found := find_candidates(index, one))],
            lambda found: order_candidates(index, found),
        )
        chroma_s = _time_each(asked, lambda one: _plain(index, one))
    with open_index(folder / "home", RandomVectors()) as index:
        again_s = time_once(lambda: search(index, asked[0]))
    packaged = SentenceEmbedder()
    packaged.read_question(asked[0])
    read_s = _time_each(asked, packaged.read_question)
    return Searches(fill_s, first_s, again_s, search_s, order_s, read_s, chroma_s)


def _make_random(chunks: Sequence[Chunk], rng: np.random.Generator) -> Made:
    """Random unit vectors for chunks, and for as many pieces as their ten words have: what is
    measured is the index, not the sentence model."""
    ids = [chunk.id for chunk in chunks]
    vectors = rng.normal(size=(len(ids), _HIDDEN)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pieces = rng.integers(-30, 31, size=(len(ids), _PIECES, AXES), dtype=np.int8)
    axes = np.eye(_HIDDEN, AXES, dtype=np.float32)
    return Made(dict(zip(ids, vectors, strict=True)), dict(zip(ids, pieces, strict=True)), axes)


def _plain(index: Index, question: str) -> None:
    index.store.nearest(_vector(question), 5, None)


def _time_each(some: Iterable[One], work: Callable[[One], object]) -> np.ndarray:
    return np.array([time_once(partial(work, one)) for one in some])


def time_once(work: Callable[[], object]) -> float:
    """Seconds that some work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
