"""Count the words of an index, and keep the counts on the disk for the next process.

store-N/words/
    words.json     what counted, the chunks, the terms by number, and how the chunks write words
    tokens.npy     the terms of all chunks, one after the other, by number
    ends.npy       where those of each chunk end
    *.index.*      BM25 over them, as bm25s keeps it
    passages.db    the chunks themselves: Chroma takes 0.1 ms to give one of many

Cutting a passage into terms takes most of the time (0.6 ms), so a passage that was counted before is
not cut again. The folder is written beside and then renamed: it is whole, or it is not there. It is
read only where it is of these chunks and was made by this code; else all is counted anew.
"""

import hashlib
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from bm25s import BM25
from pydantic import ValidationError

from knowledge_base import languages, vocabulary, words
from knowledge_base.chunks import Chunk, chunk_id
from knowledge_base.languages import GLOSSARY, concept_of
from knowledge_base.vocabulary import NUMBER_CELL, SHORTEST_MENDED, SHORTEST_NAME, Vocabulary
from knowledge_base.words import APART, STOP_WORDS, WORD, code_key, has_digit, is_code, squash
from traffic.files import Strict

FOLDER = "words"
_PASSAGES = "passages.db"
_COLUMNS = ", ".join(one.name for one in fields(Chunk))
BESIDE = FOLDER + "-"  # begins the name of a folder that is being written


class _Written(Strict):
    """How the chunks write words, as ``Vocabulary`` has it; ``by`` is what counted them."""

    by: str
    ids: tuple[str, ...]
    terms: tuple[str, ...]
    spelt: dict[str, tuple[str, ...]]
    said: dict[str, str]
    codes: dict[str, str]
    numbered: frozenset[str]
    names: dict[str, str]


@dataclass(frozen=True)
class _Counted:
    """What is kept of some chunks.

    Attributes:
        written: how they write words.
        tokens: their terms as places in ``written.terms``, (n_tokens,).
        ends: where those of each chunk end in ``tokens``, (n_chunks,).
        bm25: over these.
    """

    written: _Written
    tokens: np.ndarray
    ends: np.ndarray
    bm25: BM25


class _Terms(Sequence[frozenset[str]]):
    """The terms of each chunk; they are made into sets where they are asked for."""

    def __init__(self, counted: _Counted) -> None:
        self._counted = counted

    def __len__(self) -> int:
        return len(self._counted.ends)

    def __getitem__(self, row):  # type: ignore[no-untyped-def]  # an index alone, no slices
        terms = self._counted.written.terms
        return frozenset(terms[at] for at in _tokens_of(self._counted, row))


def count_words(chunks: Sequence[Chunk]) -> Vocabulary:
    """Count the words of chunks that are sorted by id."""
    return _make_vocabulary(chunks, _count(chunks, None))


def open_words(store: Path, chunks: Sequence[Chunk]) -> Vocabulary:
    """The words of chunks that are sorted by id: those that are kept in a store's folder where they
    are of these chunks, else counted and kept there."""
    kept = _read(store / FOLDER)
    if kept is None or kept.written.ids != tuple(chunk.id for chunk in chunks):
        kept = _count(chunks, kept)
        with suppress(
            OSError
        ):  # a full disk or a folder that is only read: counted again next time
            _keep(kept, chunks, store)
    return _make_vocabulary(chunks, kept)


def read_passages(store: Path, wanted: Iterable[str]) -> list[Chunk] | None:
    """The chunks of these ids, sorted by id, from what is kept in a store's folder; None where it is of
    others, or not what was added."""
    path = store / FOLDER / _PASSAGES
    if not path.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as table:
            rows = table.execute(f"SELECT {_COLUMNS} FROM passages ORDER BY id")  # noqa: S608
            chunks = [Chunk(*row) for row in rows]
    except sqlite3.Error:
        return None
    if [chunk.id for chunk in chunks] != sorted(wanted):
        return None
    sound = all(c.id == chunk_id(c.document, c.section, c.page, c.text) for c in chunks)
    return chunks if sound else None


def _make_vocabulary(chunks: Sequence[Chunk], counted: _Counted) -> Vocabulary:
    written = counted.written
    held = np.diff(counted.bm25.scores["indptr"])[
        : len(written.terms)
    ]  # chunks that hold each term
    rarity = np.log1p(len(chunks) / held) if len(chunks) else held
    return Vocabulary(
        chunks=tuple(chunks),
        rows={chunk.id: row for row, chunk in enumerate(chunks)},
        kinds=np.array([chunk.kind for chunk in chunks]),
        terms=_Terms(counted),
        bm25=counted.bm25,
        rarity=dict(zip(written.terms, rarity.tolist(), strict=True)),
        spelt=written.spelt,
        said=written.said,
        codes=written.codes,
        numbered=written.numbered,
        names=written.names,
    )


# ---- Counting ----


def _count(chunks: Sequence[Chunk], known: _Counted | None) -> _Counted:
    """Count chunks; those that are known are not cut into terms again."""
    terms, tokens = _number_terms(chunks, known)
    ends = np.cumsum([len(row) for row in tokens], dtype=np.int64)
    # Terms of chunks that have gone have no number any more.
    used, flat = np.unique(np.concatenate([*tokens, np.array([], np.int32)]), return_inverse=True)
    terms = [terms[at] for at in used]
    flat = flat.astype(np.int32)
    return _Counted(
        _read_spelling(chunks, tuple(terms)),
        flat,
        ends,
        _make_bm25(terms, np.split(flat, ends[:-1])),
    )


def _number_terms(
    chunks: Sequence[Chunk], known: _Counted | None
) -> tuple[list[str], list[np.ndarray]]:
    """The terms, and of each chunk the places of its own among them."""
    rows = {one: row for row, one in enumerate(known.written.ids)} if known else {}
    number = {term: at for at, term in enumerate(known.written.terms)} if known else {}
    tokens = []
    for chunk in chunks:
        if known and chunk.id in rows:
            tokens.append(_tokens_of(known, rows[chunk.id]))
        else:
            found = vocabulary.make_terms(chunk.context)
            places = [number.setdefault(term, len(number)) for term in found]
            tokens.append(np.array(places, dtype=np.int32))
    return [*number], tokens


def _tokens_of(counted: _Counted, row: int) -> np.ndarray:
    return counted.tokens[counted.ends[row - 1] if row else 0 : counted.ends[row]]


def _make_bm25(terms: Sequence[str], tokens: Sequence[np.ndarray]) -> BM25:
    bm25 = BM25(method="lucene")
    number = {term: at for at, term in enumerate(terms)}
    # Not `index`, which guesses from the first document what it was given: that may have no term.
    bm25.scores = bm25.build_index_from_ids(
        [*number.values()], [row.tolist() for row in tokens], show_progress=False
    )
    bm25.vocab_dict = number
    bm25.unique_token_ids_set = {*number.values()}
    return bm25


def _read_spelling(chunks: Sequence[Chunk], terms: tuple[str, ...]) -> _Written:
    """How chunks write their words, codes and concepts, the commonest way first."""
    written = Counter(word for chunk in chunks for word in WORD.findall(chunk.context))
    said, codes, names = dict[str, str](), dict[str, str](), dict[str, str]()
    apart = {"".join(parts) for chunk in chunks for parts in APART.findall(chunk.context)}
    spelt: dict[str, set[str]] = {}
    for word, _ in sorted(written.items(), key=lambda one: (-one[1], one[0])):
        lower = word.lower()
        if is_code(word) and (key := code_key(lower)):
            codes.setdefault(key, word)
        elif is_code(word) and len(squash(word)) >= SHORTEST_NAME and not has_digit(word):
            if not written.keys() & {lower, lower.capitalize()} - {word}:
                names.setdefault(squash(word), word)
        elif lower.isalpha():
            if len(lower) >= SHORTEST_MENDED and lower not in STOP_WORDS:
                spelt.setdefault(lower[0], set()).add(lower)
            if concept := concept_of(lower):
                said.setdefault(concept, lower)
    for joined in sorted(apart):
        codes.setdefault(joined.lower(), joined)
    return _Written(
        by=_counter(),
        ids=tuple(chunk.id for chunk in chunks),
        terms=terms,
        spelt={letter: tuple(sorted(some)) for letter, some in spelt.items()},
        said=said,
        codes=codes,
        numbered=frozenset(n for chunk in chunks for n in NUMBER_CELL.findall(chunk.text)),
        names=names,
    )


# ---- On the disk ----


@cache
def _counter() -> str:
    """A hash of the code and the glossary that cut text into words: another version counts anew."""
    sources = [Path(one.__file__ or "") for one in (words, languages, vocabulary)]
    return hashlib.sha256(b"".join(p.read_bytes() for p in (*sources, GLOSSARY))).hexdigest()


def _read(folder: Path) -> _Counted | None:
    """What was kept; None where nothing was, or by other code, or it cannot be read."""
    try:
        written = _Written.model_validate_json((folder / "words.json").read_bytes())
        if written.by != _counter():
            return None
        tokens, ends = (
            np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("tokens", "ends")
        )
        bm25 = BM25.load(folder, mmap=True, show_progress=False)
    except (OSError, ValueError, KeyError, ValidationError):
        return None
    return _Counted(written, tokens, ends, bm25)


def _keep(counted: _Counted, chunks: Sequence[Chunk], store: Path) -> None:
    """Put what was counted of chunks into a store's folder, in the place of what is kept there."""
    draft = Path(mkdtemp(prefix=BESIDE, dir=store))
    try:
        (draft / "words.json").write_text(counted.written.model_dump_json(), encoding="utf-8")
        np.save(draft / "tokens.npy", counted.tokens)
        np.save(draft / "ends.npy", counted.ends)
        counted.bm25.save(draft, show_progress=False)
        with closing(sqlite3.connect(draft / _PASSAGES)) as table, table:
            table.execute(f"CREATE TABLE passages ({_COLUMNS})")
            marks = ", ".join("?" * len(fields(Chunk)))
            rows = (tuple(vars(chunk).values()) for chunk in chunks)
            table.executemany(f"INSERT INTO passages VALUES ({marks})", rows)  # noqa: S608
        for path in draft.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        shutil.rmtree(store / FOLDER, ignore_errors=True)
        draft.rename(store / FOLDER)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
