"""The knowledge base on disk: documents in, chunks with vectors behind them, one owner process at a
time.

home/knowledge_base/
    lock, owner     held by the one process, and its pid and command
    manifest.json   the documents and their chunks: the truth
    store-N/        Chroma, and the vectors of word pieces

Every change writes store-N+1 whole, the manifest then points to it, and store-N is erased. Killed
at any moment, the knowledge base is what it was before or what it was to be.
"""

import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from knowledge_base.about import Scope
from knowledge_base.chunks import Chunk
from knowledge_base.documents import Document, read_documents
from knowledge_base.embeddings import (
    Embedder,
    Made,
    SentenceEmbedder,
    make_vectors,
    read_sample_vectors,
    sample_files,
)
from knowledge_base.manifest import (
    FORMAT,
    Added,
    Entry,
    Health,
    Manifest,
    find_problems,
    make_changes,
    read_manifest,
    write_manifest,
)
from knowledge_base.mending import read_again, remake
from knowledge_base.reading import Reader
from knowledge_base.store import Store, is_readable, sync
from traffic.errors import UserError
from traffic.files import file_hash, own_folder

Progress = Callable[[int, int], None]  # (chunks done, chunks in all)
_BATCH = 64  # chunks that are embedded at once
_WRITTEN = 1024  # chunks that are written at once: each writing waits for the disk


class Index(Reader):
    """An open knowledge base; made by ``open_index``, closed by ``close`` or at the end of a
    ``with`` block."""

    def __init__(self, folder: Path, embedder: Embedder, examples: bool | None = None) -> None:
        """Take ownership of the folder and read its manifest; Chroma and the model wait until they
        are needed."""
        self.examples = examples
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
        self.memo = {}
        # Of the version before: threads may still be reading it.
        self._last: Store | None = None
        self._erase_old_stores()

    def close(self) -> None:
        """Give the folder back."""
        if store := self.__dict__.pop("store", None):
            store.close()
        self._erase_old_stores()
        self._lock.release()

    def add(
        self,
        paths: Sequence[Path | str],
        progress: Progress | None = None,
        made: Made | None = None,
        example: bool = False,
        about: str | None = None,
        scope: Scope | None = None,
        dry: bool = False,
    ) -> Added:
        """Read and index documents; equal content is skipped, a new version replaces the old one.

        The old version is the known document of the same path, else the only one of the same title
        and file name.

        Args:
            paths: files or folders, as ``read_documents`` takes them.
            progress: called with (chunks done, chunks in all) after each batch.
            made: what this index's embedder made of some chunks before; the others are made now.
            example: whether the documents come with faultwise.
            about: make and model of the device that all of them are about, "" for none; by default
                what each says or shows of itself.
            scope: where else they hold; goes before what each says of itself.
            dry: only say what would become of them.

        Raises:
            UserError: a path cannot be read (nothing is added then), or the vectors are of another
                embedder.
        """
        readings = [read_documents(path, about, scope) for path in paths]
        documents = [document for reading in readings for document in reading.documents]
        notes = [note for reading in readings for note in reading.notes]
        return self.add_documents(documents, notes, progress, made, example, dry)

    def add_documents(
        self,
        documents: Sequence[Document],
        notes: Sequence[str] = (),
        progress: Progress | None = None,
        made: Made | None = None,
        example: bool = False,
        dry: bool = False,
    ) -> Added:
        """Index documents that were read before, as ``add`` does; ``notes`` are what reading them
        had to say."""
        with self._changing:
            self._need_same_embedder()
            if dry:
                return make_changes(self.manifest, documents, notes, example).said
            self.upgrade(progress)
            changes = make_changes(self.manifest, documents, notes, example)
            live = self.manifest.chunk_ids
            fresh = [chunk for chunk in changes.chunks if chunk.id not in live]
            self._change(
                self.manifest.with_documents(changes.documents), fresh, made or Made(), progress
            )
        return changes.said

    def remove(self, document: str) -> Entry:
        """Remove a document by id, title, path or file name, so that it never answers again.

        Raises:
            UserError: no document is called so, or several are.
        """
        with self._changing:
            found = self.entry(document)
            kept = (entry for entry in self.list() if entry.id != found.id)
            self._change(self.manifest.with_documents(kept))
        return found

    def check(self, apart: bool = True) -> Health:
        """Compare manifest, Chroma and source files, and every chunk with its hash. Changes
        nothing.

        Args:
            apart: whether another process opens the store first, as a broken one would end this
                process.
        """
        folder = self.folder / self.manifest.store
        if apart and self.manifest.documents and not (folder.is_dir() and is_readable(folder)):
            return find_problems(self.manifest, (), ())
        chunks = self.store.chunks()
        found = frozenset(self.store.searchable([chunk.id for chunk in chunks]))
        return find_problems(self.manifest, chunks, found)

    def repair(self) -> tuple[str, ...]:
        """Erase orphans and read damaged documents again; one that cannot be read is removed. Says
        what it did."""
        with self._changing:
            if not self.manifest.current:
                return self.upgrade()
            health = self.check()
            said = [f"{len(health.orphans)} orphaned chunks were erased"] if health.orphans else []
            mended = read_again(health.damaged)
            if health.orphans or health.damaged:
                hurt = {entry.id for entry in health.damaged}
                sound = (entry for entry in self.list() if entry.id not in hurt)
                kept = self.manifest.with_documents([*sound, *mended.entries])
                stored = self.store.chunks() if health.readable else []
                needed = [c for c in stored if c.id in kept.chunk_ids and c.id not in mended.chunks]
                known = self.store.made([c.id for c in needed]) if needed else Made()
                self._write([*needed, *mended.chunks.values()], known, kept)
        return (*said, *mended.said)

    def rebuild(self, progress: Progress | None = None) -> None:
        """Write every live chunk to a new Chroma folder, switch to it, and erase the old one with
        all it held.

        Vectors are copied where the embedder is the same, and made anew where it is another. Killed
        in between, the old folder goes on to answer.
        """
        with self._changing:
            if not self.manifest.current:
                self.upgrade(progress)
                return
            live = self._stored()
            same = self.manifest.embedder == self.embedder.fingerprint
            made = self.store.made([chunk.id for chunk in live]) if live and same else Made()
            self._write(live, made, self.manifest, progress)
            self._erase_old_stores()

    def upgrade(self, progress: Progress | None = None) -> tuple[str, ...]:
        """Make a store of an earlier version anew: each document from its file where that has not
        changed, from its stored chunks elsewhere. Says what it did; nothing where there is nothing
        to do."""
        with self._changing:
            before = self.manifest
            if before.current:
                return ()
            made = remake(before, {chunk.id: chunk for chunk in self._stored()})
            fresh = before.with_documents(made.entries).model_copy(update={"version": FORMAT})
            known = read_sample_vectors(self.embedder.fingerprint)
            self._write([*made.chunks.values()], known, fresh, progress)
        return made.said

    def _change(
        self,
        manifest: Manifest,
        chunks: Sequence[Chunk] = (),
        made: Made | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Make a manifest the truth: a copy of the store gains ``chunks`` and loses what the
        manifest no longer names."""
        if manifest == self.manifest:
            return
        if not chunks and manifest.chunk_ids == self.manifest.chunk_ids:
            self._commit(manifest)
        else:
            self._write(chunks, made or Made(), manifest, progress, self.store)

    def _write(
        self,
        chunks: Sequence[Chunk],
        made: Made,
        manifest: Manifest,
        progress: Progress | None = None,
        begin: Store | None = None,
    ) -> None:
        """Write chunks to a new store, which begins as a copy of one or empty, and switch to it."""
        self._erase_old_stores()
        folder = self.folder / f"store-{int(self.manifest.store.split('-')[1]) + 1}"
        fresh = begin.copy(folder) if begin else Store(folder)
        try:
            update = self._embed(chunks, fresh, progress, made)
            if begin:
                fresh.delete(sorted(fresh.ids() - manifest.chunk_ids))
            fresh.settle()
            self._commit(manifest.model_copy(update={"store": folder.name, **update}))
        except BaseException:  # Ctrl-C too, which may come when the manifest points here already
            fresh.close()
            if read_manifest(self.folder).store != folder.name:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        self._last, self.store = self.__dict__.get("store"), fresh
        self.memo.clear()

    def note_samples(self, samples: dict[str, str]) -> None:
        """Remember which shipped files were added, by name and SHA-256."""
        with self._changing:
            self._commit(self.manifest.model_copy(update={"samples": samples}))

    def _embed(
        self, chunks: Sequence[Chunk], store: Store, progress: Progress | None, made: Made
    ) -> dict[str, Any]:
        """Embed and store chunks batch by batch; returns what the manifest is to say of the
        vectors."""
        dimension = 0
        axes = store.axes()
        axes = made.axes if axes is None else axes
        for begin in range(0, len(chunks), _WRITTEN):
            block = chunks[begin : begin + _WRITTEN]
            vectors, pieces = dict[str, np.ndarray](), dict[str, np.ndarray]()
            for start in range(0, len(block), _BATCH):
                batch = block[start : start + _BATCH]
                known = [chunk.id for chunk in batch if chunk.id in made.pieces]
                vectors |= {one: made.vectors[one] for one in known}
                pieces |= {one: made.pieces[one] for one in known}
                if unknown := [chunk for chunk in batch if chunk.id not in made.pieces]:
                    fresh = make_vectors(self.embedder, unknown, axes)
                    axes = fresh.axes
                    vectors |= fresh.vectors
                    pieces |= fresh.pieces
                if progress:
                    progress(begin + start + len(batch), len(chunks))
            store.put(block, Made(vectors, pieces, axes))
            dimension = len(vectors[block[0].id])
        said = {"embedder": self.embedder.fingerprint, "dimension": dimension}
        return said if dimension else {}

    def _commit(self, manifest: Manifest) -> None:
        """Make the manifest the truth."""
        write_manifest(self.folder, manifest)
        sync(self.folder)
        self.manifest = manifest
        self.memo.clear()

    def _erase_old_stores(self) -> None:
        """Erase the stores that the manifest does not point to: of the version before, and what a
        change left that was cut short."""
        if self._last is not None:
            self._last.close()
            self._last = None
        for folder in self.folder.glob("store-*"):
            if folder.name != self.manifest.store:
                shutil.rmtree(folder)


def open_index(
    home: Path | str, embedder: Embedder | None = None, examples: bool | None = None
) -> Index:
    """Open the knowledge base of a home folder, or begin an empty one; this process becomes its one
    owner.

    Args:
        home: the folder for state (``FAULTWISE_HOME``).
        embedder: makes the vectors; the packaged MiniLM where None.
        examples: whether the shipped documents answer; by default until the plant has documents of
            its own (its own incidents put away only the shipped incidents).

    Raises:
        UserError: another process owns it, the folder cannot be written, or the embedder's files
            are missing.
    """
    return Index(Path(home).resolve() / "knowledge_base", embedder or SentenceEmbedder(), examples)


def ensure_samples(index: Index, progress: Progress | None = None) -> Added:
    """Add the shipped documents that this knowledge base has not seen; one that the user removed
    stays away.

    Where the vectors are of another embedder nothing is added: `rebuild` must be able to run first.
    """
    if index.comparable:
        index.upgrade(progress)
    seen, listed = index.manifest.samples, {Path(entry.path).name for entry in index.list()}
    now = {path.name: file_hash(path) for path in sample_files()}
    if seen == now or not index.comparable:
        return Added((), (), (), ())
    fresh = [
        p
        for p in sample_files()
        if seen.get(p.name) != now[p.name] and (p.name not in seen or p.name in listed)
    ]
    made = read_sample_vectors(index.embedder.fingerprint)
    said = index.add(fresh, progress, made, example=True)
    index.note_samples(now)
    return said
