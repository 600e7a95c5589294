"""Documents made anew from their files: after damage, and for a new version of faultwise.

Worked out without touching the store; ``Index`` writes what comes of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from knowledge_base.chunks import Chunk, make_chunks
from knowledge_base.documents import read_documents
from knowledge_base.manifest import Entry, Manifest, make_entry
from traffic.errors import UserError
from traffic.files import file_hash

_ABOUT_SINCE = 2  # the version of stores that say what a document is about


@dataclass(frozen=True)
class Mended:
    """The documents as they shall be, the chunks that were made or kept for them by id, and one
    sentence for what was done to each or to all."""

    entries: tuple[Entry, ...]
    chunks: Mapping[str, Chunk]
    said: tuple[str, ...]


def read_again(damaged: Sequence[Entry]) -> Mended:
    """Read documents from their files; one that cannot be read is left out, and said."""
    entries, chunks, said = list[Entry](), dict[str, Chunk](), list[str]()
    for entry in damaged:
        try:
            (document,) = read_documents(entry.path, entry.about, entry.scope).documents
        except UserError as error:
            said.append(f"{entry.title} was removed: {error}")
            continue
        made = make_chunks(document)
        entries.append(make_entry(document, made, entry.example))
        chunks |= {chunk.id: chunk for chunk in made}
        said.append(f"{entry.title} was read again from {entry.path}")
    return Mended(tuple(entries), chunks, tuple(said))


def remake(before: Manifest, stored: Mapping[str, Chunk]) -> Mended:
    """Make each document anew from its file where that has not changed and can be read, else from
    its stored chunks."""
    entries, chunks, kept = list[Entry](), dict[str, Chunk](), 0
    for entry in before.documents:
        path = Path(entry.path)
        shipped = before.samples.get(path.name) == entry.sha256
        entry = entry.model_copy(update={"example": entry.example or shipped})
        made = [stored[one] for one in entry.chunks if one in stored]
        about = entry.about if before.version >= _ABOUT_SINCE else None
        try:
            if not path.is_file() or file_hash(path) != entry.sha256:
                raise UserError("its file is gone or has changed")
            (document,) = read_documents(path, about, entry.scope).documents
            made = make_chunks(document)
            entry = make_entry(document, made, entry.example)
        except UserError:
            kept += 1
        entries.append(entry)
        chunks |= {chunk.id: chunk for chunk in made}
    old = f"; {kept} of them as they were, for their files are gone or changed" if kept else ""
    said = f"{len(entries)} documents were made anew for this version of faultwise{old}"
    return Mended(tuple(entries), chunks, (said,))
