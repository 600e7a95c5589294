"""One Chroma collection on disk, with the word pieces of its chunks beside it.

A store is written once and then only read: every change copies it, changes the copy, and the
manifest then points there. Chroma replaces the files of its graph in place, so a store that is
changed while the process is killed may be neither the old one nor the new.
"""

import multiprocessing
import os
import shutil
import sqlite3
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import chromadb
import numpy as np
from chromadb.config import Settings

from knowledge_base.chunks import Chunk
from knowledge_base.counted import BESIDE, open_words, read_passages
from knowledge_base.documents import Kind
from knowledge_base.embeddings import Made
from knowledge_base.pieces import Pieces
from knowledge_base.vocabulary import Vocabulary

_CHROMA_BATCH = 1000
_READ_AT_ONCE = 20_000
# Candidates that Chroma's graph keeps in view. By default 100: of 540 passages it missed near ones,
# others after each build, so that equal documents answered differently. A folder made before keeps
# what it was made with until a rebuild.
_SEARCHED = 500


class Store:
    """An open folder of chunks and vectors. Vectors are passed in: Chroma's own function would
    fetch a model."""

    def __init__(self, folder: Path) -> None:
        """Open the folder, or make it."""
        self.folder = folder
        self._client = chromadb.PersistentClient(
            str(folder), settings=Settings(anonymized_telemetry=False)
        )
        self._chunks = self._client.get_or_create_collection(
            "chunks",
            embedding_function=None,
            configuration={"hnsw": {"space": "cosine", "ef_search": _SEARCHED}},
        )
        self.pieces = Pieces(folder)
        self._counting = threading.Lock()  # the folder of words is replaced by who counts them

    def copy(self, folder: Path) -> Self:
        """A store of the same chunks in a new folder."""
        left = shutil.ignore_patterns("*.sqlite3*", f"{BESIDE}*")
        with self._counting:
            shutil.copytree(self.folder, folder, ignore=left)
        for path in self.folder.glob("*.sqlite3"):
            with (
                closing(sqlite3.connect(path)) as source,
                closing(sqlite3.connect(folder / path.name)) as target,
            ):
                source.backup(target)
        return type(self)(folder)

    def put(self, chunks: Sequence[Chunk], made: Made) -> None:
        """Add chunks, or replace those of equal id."""
        if self.pieces.axes() is None and made.axes is not None:
            self.pieces.set_axes(made.axes)
        self.pieces.put({c.id: made.pieces[c.id] for c in chunks if c.id in made.pieces})
        vectors = np.stack([made.vectors[chunk.id] for chunk in chunks])
        for start in range(0, len(chunks), _CHROMA_BATCH):
            batch = chunks[start : start + _CHROMA_BATCH]
            self._chunks.upsert(
                ids=[chunk.id for chunk in batch],
                embeddings=vectors[start : start + _CHROMA_BATCH],
                documents=[chunk.text for chunk in batch],
                metadatas=[
                    {
                        "document": c.document,
                        "section": c.section,
                        "page": c.page or 0,
                        "kind": c.kind,
                        "start": c.start,
                        "end": c.end,
                    }
                    for c in batch
                ],
            )

    def words(self, chunks: Sequence[Chunk]) -> Vocabulary:
        """The words of chunks of this store that are sorted by id, counted once for all processes."""
        with self._counting:
            return open_words(self.folder, chunks)

    def passages(self, ids: Iterable[str]) -> list[Chunk] | None:
        """The chunks of these ids, sorted by id, where they were kept with their words; else None."""
        with self._counting:
            return read_passages(self.folder, ids)

    def ids(self) -> set[str]:
        """The ids of all chunks."""
        return {one for got in self._read([]) for one in got["ids"]}

    def chunks(self) -> list[Chunk]:
        """All chunks, sorted by id."""
        rows = (
            row
            for got in self._read(["documents", "metadatas"])
            for row in zip(got["ids"], got["documents"], got["metadatas"], strict=True)
        )
        made = [
            Chunk(
                identity,
                m["document"],
                m["section"],
                m["page"] or None,
                text,
                m["kind"],
                m.get("start", 0),  # a store of an earlier version has none
                m.get("end", 0),
            )
            for identity, text, m in rows
        ]
        return sorted(made, key=lambda chunk: chunk.id)

    def _read(self, what: list[str]) -> Iterator[Any]:
        """All chunks in blocks: SQLite, which Chroma asks, takes no more than 32,766 at once."""
        include: Any = what
        for start in range(0, self._chunks.count(), _READ_AT_ONCE):
            yield self._chunks.get(limit=_READ_AT_ONCE, offset=start, include=include)

    def vectors(self, ids: list[str]) -> dict[str, np.ndarray]:
        """The vectors of those chunks that are there, by id, each of shape (dimension,)."""
        got = self._chunks.get(ids=ids, include=["embeddings"])
        return dict(zip(got["ids"], np.asarray(got["embeddings"], dtype=np.float32), strict=True))

    def made(self, ids: list[str]) -> Made:
        """All that an embedder made of those chunks."""
        return Made(self.vectors(ids), self.pieces.get(ids), self.pieces.axes())

    def axes(self) -> np.ndarray | None:
        """The axes of the word pieces, shape (hidden, n_axes); None before the first passage."""
        return self.pieces.axes()

    def searchable(self, ids: Sequence[str]) -> Iterator[str]:
        """Those of the chunks that have a unit vector and word pieces."""
        pieces = self.pieces.ids()
        for start in range(0, len(ids), _CHROMA_BATCH):
            for chunk, vector in self.vectors([*ids[start : start + _CHROMA_BATCH]]).items():
                if chunk in pieces and abs(float(vector @ vector) - 1) < 0.01:
                    yield chunk

    def nearest(self, vector: np.ndarray, count: int, kind: Kind | None) -> list[str]:
        """The ids of the chunks nearest by cosine, best first."""
        where: Any = {"kind": kind} if kind else None
        query: Any = [vector]
        got = self._chunks.query(query_embeddings=query, n_results=count, where=where, include=[])
        return got["ids"][0]

    def delete(self, ids: list[str]) -> None:
        """Take chunks out of every answer; their vectors stay in the file until a rebuild."""
        for start in range(0, len(ids), _CHROMA_BATCH):
            self._chunks.delete(ids=ids[start : start + _CHROMA_BATCH])
        self.pieces.delete(ids)

    def settle(self) -> None:
        """Bring to the disk what was written; call it before the manifest points here."""
        # Chroma works off its log when it is next asked; a store that is only read is not to change.
        self._chunks.get(limit=1, include=["embeddings"])
        for path in (*self.folder.rglob("*"), self.folder, self.folder.parent):
            sync(path)

    def close(self) -> None:
        """Let go of the folder's files."""
        self.pieces.close()
        self._client.close()  # type: ignore[attr-defined]  # PersistentClient has it, its declared type has not


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_readable(folder: Path) -> bool:
    """Whether a store opens, and gives its chunks and their vectors.

    Chroma reads its graph's files unchecked, and one that is cut short or altered ends the process:
    so another process tries, on a copy, since opening a store writes to it.
    """
    with TemporaryDirectory(dir=folder.parent, prefix="store-check-") as place:
        copy = shutil.copytree(folder, Path(place) / folder.name)
        process = multiprocessing.get_context("spawn").Process(target=_read_all, args=(copy,))
        process.start()
        process.join()
        return process.exitcode == 0


def _read_all(folder: Path) -> None:
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stderr.fileno())  # whatever breaks is expected
    store = Store(folder)
    ids = [chunk.id for chunk in store.chunks()]
    for start in range(0, len(ids), _CHROMA_BATCH):
        store.made(ids[start : start + _CHROMA_BATCH])
    store.close()
