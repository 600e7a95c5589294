"""What the knowledge base holds, in one JSON file that is replaced whole, and who owns it.

The manifest is the truth: a chunk in Chroma that no document here names is left over from a change that was cut
short, and never answers. So every change writes Chroma first, the manifest next, and sweeps last.
"""

import difflib
import fcntl
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

from pydantic import BaseModel, ConfigDict, ValidationError

from knowledge_base.documents import Kind
from traffic.errors import UserError

__all__ = ["Entry", "Manifest", "find_entry", "lock_folder", "read_manifest", "write_manifest"]


class Entry(BaseModel):
    """One document: its content hash, its source, and the chunks that answer for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    title: str
    path: str
    kind: Kind
    sha256: str  # of the source file, to see that it changed
    chunks: tuple[str, ...]
    added: str  # ISO 8601, UTC


class Manifest(BaseModel):
    """The documents, the Chroma folder that holds their chunks, and the embedder that made the vectors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    store: str = "store-1"
    embedder: str = ""  # empty until the first chunk
    dimension: int = 0
    documents: tuple[Entry, ...] = ()
    samples: dict[str, str] = {}  # shipped file -> sha256 when it was added

    @property
    def chunk_ids(self) -> frozenset[str]:
        """Every chunk that may answer."""
        return frozenset(chunk for entry in self.documents for chunk in entry.chunks)

    def with_documents(self, documents: Iterable[Entry]) -> "Manifest":
        """The same knowledge base with other documents, sorted by title."""
        ordered = tuple(sorted(documents, key=lambda entry: (entry.title.lower(), entry.id)))
        return self.model_copy(update={"documents": ordered})


def read_manifest(folder: Path) -> Manifest:
    """Read ``manifest.json``; a folder without one is an empty knowledge base.

    Raises:
        UserError: the file is no manifest of this version.
    """
    path = folder / "manifest.json"
    if not path.exists():
        return Manifest()
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(
            f"{path} is no manifest ({error.errors()[0]['msg']}); expected the file that faultwise wrote; "
            "restore it from a backup, or move the folder away and add the documents again"
        ) from error


def find_entry(entries: Sequence[Entry], name: str) -> Entry:
    """The document of that id or title.

    Raises:
        UserError: no document has that id or title, or several have that title.
    """
    found = [entry for entry in entries if name in (entry.id, entry.title)]
    if len(found) == 1:
        return found[0]
    titles = [entry.title for entry in entries]
    near = [entry.id for entry in found] or difflib.get_close_matches(name, titles, 3, 0.3) or titles[:3]
    raise UserError(
        f"{len(found)} documents are called {name!r}; expected the id or title of one, such as "
        f"{', '.join(map(repr, near)) or '(there is none)'}; see `faultwise kb list`"
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace ``manifest.json`` in one step: after a crash there is the old one or the new one."""
    fresh = folder / "manifest.json.new"
    with fresh.open("w", encoding="utf-8") as stream:
        stream.write(manifest.model_dump_json(indent=1))
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(folder / "manifest.json")


def lock_folder(folder: Path) -> TextIO:
    """Become the one owner of a knowledge base, until the returned file is closed or the process ends.

    Chroma in two processes on one folder hangs or answers from stale vectors, so the second is turned away.

    Raises:
        UserError: another process owns the folder (its pid and command are named), or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / "lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}); expected a folder of yours; set FAULTWISE_HOME"
        ) from error
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        stream.seek(0)
        owner = " ".join(stream.read().split()) or "unknown"
        stream.close()
        raise UserError(
            f"the knowledge base {folder} is in use by process {owner}; "
            "expected one process at a time; end that one first"
        ) from error
    stream.truncate(0)
    stream.write(f"{os.getpid()}\n({' '.join(sys.argv)[:200]})\n")
    stream.flush()
    return stream
