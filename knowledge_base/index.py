"""The knowledge base on disk: documents in, chunks with vectors behind them, one owner process at a
time.

home/knowledge_base/
    lock, owner     held by the one process, and its pid and command
    manifest.json   the documents and their chunks: the truth
    store-N/        Chroma; a rebuild writes store-N+1, the manifest then points to it, and store-N is erased
"""

import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import chromadb
import numpy as np
from chromadb.config import Settings

from knowledge_base.chunks import Chunk
from knowledge_base.documents import Kind, read_documents
from knowledge_base.embeddings import Embedder, SentenceEmbedder, read_sample_vectors, sample_files
from knowledge_base.manifest import (
    Added,
    Entry,
    Health,
    Manifest,
    file_hash,
    find_entry,
    find_problems,
    make_changes,
    read_manifest,
    write_manifest,
)
from traffic.errors import UserError
from traffic.files import own_folder

# ---- The Chroma folder: in process, no telemetry, no embedding function of its own ----

_CHROMA_BATCH = 1000
# Candidates that Chroma's graph keeps in view. By default 100: of 540 passages it missed near ones,
# others after each build, so that equal documents answered differently. A folder made before keeps
# what it was made with until a rebuild.
_SEARCHED = 500


class Store:
    """One Chroma collection on disk. Vectors are passed in: Chroma's own function would fetch a
    model."""

    def __init__(self, folder: Path) -> None:
        """Open the folder, or make it."""
        self._client = chromadb.PersistentClient(
            str(folder), settings=Settings(anonymized_telemetry=False)
        )
        self._chunks = self._client.get_or_create_collection(
            "chunks",
            embedding_function=None,
            configuration={"hnsw": {"space": "cosine", "ef_search": _SEARCHED}},
        )

    def put(self, chunks: list[Chunk], vectors: np.ndarray) -> None:
        """Add chunks, or replace those of equal id; ``vectors`` has shape (len(chunks),
        dimension)."""
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
                    }
                    for c in batch
                ],
            )

    def ids(self) -> set[str]:
        """The ids of all chunks."""
        return set(self._chunks.get(include=[])["ids"])

    def chunks(self) -> list[Chunk]:
        """All chunks, sorted by id."""
        got: Any = self._chunks.get(include=["documents", "metadatas"])
        rows = zip(got["ids"], got["documents"] or [], got["metadatas"] or [], strict=True)
        made = [
            Chunk(identity, m["document"], m["section"], m["page"] or None, text, m["kind"])
            for identity, text, m in rows
        ]
        return sorted(made, key=lambda chunk: chunk.id)

    def vectors(self, ids: list[str]) -> dict[str, np.ndarray]:
        """The vectors of those chunks that are there, by id, each of shape (dimension,)."""
        got = self._chunks.get(ids=ids, include=["embeddings"])
        return dict(zip(got["ids"], np.asarray(got["embeddings"], dtype=np.float32), strict=True))

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

    def close(self) -> None:
        """Let go of the folder's files."""
        self._client.close()  # type: ignore[attr-defined]  # PersistentClient has it, its declared type has not


Progress = Callable[[int, int], None]  # (chunks done, chunks in all)
_BATCH = 64


class Index:
    """An open knowledge base; made by ``open_index``, closed by ``close`` or at the end of a
    ``with`` block."""

    def __init__(self, folder: Path, embedder: Embedder) -> None:
        """Take ownership of the folder and read its manifest; Chroma and the model wait until they
        are needed."""
        # Chroma in two processes on one folder hangs or answers from stale vectors.
        self._lock = own_folder(folder, "the knowledge base")
        self._changing = threading.RLock()
        self.folder = folder
        self.embedder = embedder
        try:
            self.manifest = read_manifest(folder)
        except UserError:
            self._lock.release()
            raise
        self.memo: dict[
            str, Any
        ] = {}  # what readers derived from this version; emptied at every change
        self._erase_old_stores()

    @cached_property
    def store(self) -> Store:
        """The Chroma folder that the manifest points to."""
        return Store(self.folder / self.manifest.store)

    def __enter__(self) -> Self:
        """Nothing more to do: the folder is owned since ``open_index``."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Give the folder back."""
        if store := self.__dict__.pop("store", None):
            store.close()
        self._lock.release()

    def list(self) -> tuple[Entry, ...]:
        """The documents, sorted by title."""
        return self.manifest.documents

    def chunks(self) -> Sequence[Chunk]:
        """The chunks that may answer, sorted by id."""
        if "chunks" not in self.memo:
            live = self.manifest.chunk_ids
            self.memo["chunks"] = (
                [chunk for chunk in self.store.chunks() if chunk.id in live] if live else []
            )
        return self.memo["chunks"]

    def add(
        self,
        paths: Sequence[Path | str],
        progress: Progress | None = None,
        vectors: Mapping[str, np.ndarray] = MappingProxyType({}),
    ) -> Added:
        """Read and index documents; equal content is skipped, a new version replaces the old one.

        The old version is the known document of the same path, else the only one of the same title
        and file name.

        Args:
            paths: files or folders, as ``read_documents`` takes them.
            progress: called with (chunks done, chunks in all) after each batch.
            vectors: unit vectors that this index's embedder made before, by chunk id; the others
                are made now.

        Raises:
            UserError: a path cannot be read (nothing is added then), or the vectors are of another
                embedder.
        """
        readings = [read_documents(path) for path in paths]
        documents = [document for reading in readings for document in reading.documents]
        notes = [note for reading in readings for note in reading.notes]
        with self._changing:
            self._need_same_embedder()
            changes = make_changes(self.manifest, documents, notes)
            live = self.manifest.chunk_ids
            dimension = self._embed(
                [c for c in changes.chunks if c.id not in live], self.store, progress, vectors
            )
            made_by = (
                {"embedder": self.embedder.fingerprint, "dimension": dimension} if dimension else {}
            )
            self._commit(self.manifest.with_documents(changes.documents).model_copy(update=made_by))
        return changes.said

    def remove(self, document: str) -> Entry:
        """Remove a document by id or title, so that it never answers again.

        Raises:
            UserError: no document has that id or title, or several have that title.
        """
        with self._changing:
            found = find_entry(self.list(), document)
            self._commit(
                self.manifest.with_documents(entry for entry in self.list() if entry.id != found.id)
            )
        return found

    def check(self) -> Health:
        """Compare manifest, Chroma and source files, and every chunk with its hash. Changes
        nothing."""
        return find_problems(self.manifest, self.store.chunks())

    def repair(self) -> tuple[str, ...]:
        """Erase orphans and read damaged documents again; one that cannot be read is removed. Says
        what it did."""
        with self._changing:
            health = self.check()
            said = [f"{len(health.orphans)} orphaned chunks were erased"] if health.orphans else []
            hurt = {entry.id for entry in health.damaged}
            self._commit(
                self.manifest.with_documents(entry for entry in self.list() if entry.id not in hurt)
            )
            for entry in health.damaged:
                try:
                    self.add([entry.path])
                    said.append(f"{entry.title} was read again from {entry.path}")
                except UserError as error:
                    said.append(f"{entry.title} was removed: {error}")
        return tuple(said)

    def rebuild(self, progress: Progress | None = None) -> None:
        """Write every live chunk to a new Chroma folder, switch to it, and erase the old one with
        all it held.

        Vectors are copied where the embedder is the same, and made anew where it is another. Killed
        in between, the old folder goes on to answer.
        """
        with self._changing:
            live = [*self.chunks()]
            name = f"store-{int(self.manifest.store.split('-')[1]) + 1}"
            update: dict[str, Any] = {"store": name}
            fresh = Store(self.folder / name)
            if live and self.manifest.embedder == self.embedder.fingerprint:
                vectors = self.store.vectors([chunk.id for chunk in live])
                fresh.put(live, np.stack([vectors[chunk.id] for chunk in live]))
            elif live:
                dimension = self._embed(live, fresh, progress, {})
                update |= {"embedder": self.embedder.fingerprint, "dimension": dimension}
            if old := self.__dict__.pop("store", None):
                old.close()
            self.store = fresh
            self._commit(self.manifest.model_copy(update=update))
            self._erase_old_stores()

    def embed_question(self, question: str) -> np.ndarray:
        """Unit vector of a question, shape (dimension,).

        Raises:
            UserError: the stored vectors were made by another embedder.
        """
        self._need_same_embedder()
        return self.embedder.embed([question])[0]

    def note_samples(self, samples: dict[str, str]) -> None:
        """Remember which shipped files were added, by name and SHA-256."""
        with self._changing:
            self._commit(self.manifest.model_copy(update={"samples": samples}))

    def _embed(
        self,
        chunks: Sequence[Chunk],
        store: Store,
        progress: Progress | None,
        vectors: Mapping[str, np.ndarray],
    ) -> int:
        """Embed and store chunks batch by batch; returns the vectors' dimension, 0 where there is
        no chunk."""
        dimension = 0
        for start in range(0, len(chunks), _BATCH):
            batch = [*chunks[start : start + _BATCH]]
            unknown = [chunk for chunk in batch if chunk.id not in vectors]
            made = {**vectors}
            if unknown:
                fresh = self.embedder.embed([chunk.context for chunk in unknown])
                made |= {chunk.id: vector for chunk, vector in zip(unknown, fresh, strict=True)}
            stacked = np.stack([made[chunk.id] for chunk in batch])  # (len(batch), dimension)
            dimension = stacked.shape[1]
            store.put(batch, stacked)
            if progress:
                progress(start + len(batch), len(chunks))
        return dimension

    def _commit(self, manifest: Manifest) -> None:
        """Make the manifest the truth, then sweep what it no longer names."""
        write_manifest(self.folder, manifest)
        self.manifest = manifest
        self.memo.clear()
        self.store.delete(sorted(self.store.ids() - manifest.chunk_ids))

    @property
    def comparable(self) -> bool:
        """Whether the stored vectors, if any, were made by the embedder in use."""
        return self.manifest.embedder in ("", self.embedder.fingerprint)

    def _need_same_embedder(self) -> None:
        made_by = self.manifest.embedder
        if not self.comparable:
            raise UserError(
                f"the vectors in {self.folder} were made by {made_by} (dimension {self.manifest.dimension}), the "
                f"model in use is {self.embedder.fingerprint}; expected the same; run `faultwise kb rebuild`"
            )

    def _erase_old_stores(self) -> None:
        """Erase Chroma folders that the manifest does not point to: left by a rebuild, whole or cut
        short."""
        for folder in self.folder.glob("store-*"):
            if folder.name != self.manifest.store:
                shutil.rmtree(folder)


def open_index(home: Path | str, embedder: Embedder | None = None) -> Index:
    """Open the knowledge base of a home folder, or begin an empty one; this process becomes its one
    owner.

    Args:
        home: the folder for state (``FAULTWISE_HOME``).
        embedder: makes the vectors; the packaged MiniLM where None.

    Raises:
        UserError: another process owns it, the folder cannot be written, or the embedder's files
            are missing.
    """
    return Index(Path(home).resolve() / "knowledge_base", embedder or SentenceEmbedder())


def ensure_samples(index: Index, progress: Progress | None = None) -> Added:
    """Add the shipped documents that this knowledge base has not seen; one that the user removed
    stays away.

    Where the vectors are of another embedder nothing is added: `rebuild` must be able to run first.
    """
    seen, listed = index.manifest.samples, {Path(entry.path).name for entry in index.list()}
    now = {path.name: file_hash(path) for path in sample_files()}
    if seen == now or not index.comparable:
        return Added((), (), (), ())
    fresh = [
        p
        for p in sample_files()
        if seen.get(p.name) != now[p.name] and (p.name not in seen or p.name in listed)
    ]
    said = index.add(fresh, progress, read_sample_vectors(index.embedder.fingerprint))
    index.note_samples(now)
    return said
