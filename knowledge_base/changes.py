"""Work out what adding documents changes, and what is wrong with a knowledge base, without touching either."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from knowledge_base.chunks import Chunk, chunk_id, make_chunks
from knowledge_base.documents import Document
from knowledge_base.manifest import Entry, Manifest

__all__ = ["Added", "Changes", "Health", "file_hash", "find_problems", "make_changes"]


@dataclass(frozen=True)
class Added:
    """What became of the documents of one ``add``, by title, and what was skipped or assumed."""

    added: tuple[str, ...]
    unchanged: tuple[str, ...]
    replaced: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Changes:
    """The documents as they shall be, the chunks of the new ones, and what to tell the user."""

    documents: tuple[Entry, ...]
    chunks: tuple[Chunk, ...]
    said: Added


@dataclass(frozen=True)
class Health:
    """What ``check`` found: one sentence a problem, and what ``repair`` needs."""

    problems: tuple[str, ...]
    orphans: tuple[str, ...]  # chunk ids in Chroma that no document names
    damaged: tuple[Entry, ...]  # documents with missing or altered chunks

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_changes(manifest: Manifest, documents: Sequence[Document], notes: Iterable[str]) -> Changes:
    """Decide for each document whether it is new, known, or a new version of a known one."""
    before = manifest.documents
    after = {entry.id: entry for entry in before}
    added: list[str] = []
    unchanged: list[str] = []
    replaced: list[str] = []
    notes = [*notes]
    chunks: dict[str, Chunk] = {}
    for document in documents:
        known = after.get(document.id)
        if known:
            unchanged.append(document.title)
            if known.path != document.path:
                notes.append(f"{document.path} holds the same as {known.path}; it is kept once")
            continue
        old = _older_version(document, before)
        if old and after.pop(old.id, None):
            notes.append(f"{document.title}: replaces the version of {old.added} from {old.path}")
        (replaced if old else added).append(document.title)
        made = make_chunks(document)
        chunks |= {chunk.id: chunk for chunk in made}
        after[document.id] = _make_entry(document, made)
    said = Added(tuple(added), tuple(unchanged), tuple(replaced), tuple(notes))
    return Changes(tuple(after.values()), tuple(chunks.values()), said)


def _older_version(document: Document, before: Iterable[Entry]) -> Entry | None:
    """The known document of the same path, else the only one of the same title and file name.

    Two files of one ``add`` are never versions of each other: two lines may each have a ``manual.md``.
    """
    same_path = [entry for entry in before if entry.path == document.path]
    name = Path(document.path).name
    same_name = [entry for entry in before if (entry.title, Path(entry.path).name) == (document.title, name)]
    found = same_path or same_name
    return found[0] if len(found) == 1 else None


def _make_entry(document: Document, chunks: Sequence[Chunk]) -> Entry:
    return Entry(
        id=document.id,
        title=document.title,
        path=document.path,
        kind=document.kind,
        sha256=file_hash(Path(document.path)),
        chunks=tuple(chunk.id for chunk in chunks),
        added=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def find_problems(manifest: Manifest, stored: Iterable[Chunk]) -> Health:
    """Compare the manifest with the stored chunks and the source files, and every chunk with its hash."""
    found = {chunk.id: chunk for chunk in stored}
    sound = {i for i, c in found.items() if i == chunk_id(c.document, c.section, c.page, c.text)}
    orphans = tuple(sorted(found.keys() - manifest.chunk_ids))
    damaged = tuple(entry for entry in manifest.documents if not sound.issuperset(entry.chunks))
    problems = [f"{len(orphans)} chunks belong to no document (a change was cut short)"] if orphans else []
    problems += [f"{e.title}: {len(set(e.chunks) - sound)} of {len(e.chunks)} chunks are lost" for e in damaged]
    for entry in manifest.documents:
        path = Path(entry.path)
        if path.is_file() and file_hash(path) != entry.sha256:
            problems.append(f"{entry.title}: {path} has changed since {entry.added}; add it again")
    return Health(tuple(problems), orphans, damaged)
