"""What the knowledge base holds, in one JSON file that is replaced whole.

The manifest is the truth: it names the store that answers, and a chunk that no document here names
never answers.
"""

import difflib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field, ValidationError

from knowledge_base.about import Scope
from knowledge_base.chunks import Chunk, chunk_id, make_chunks
from knowledge_base.documents import Document, Kind
from traffic.errors import UserError
from traffic.files import Strict, file_hash, write_text

# What a store holds and how its chunks are cut. A store of another number is made anew from its
# documents. 2: examples are marked, what a document is about, whole steps, vectors of word pieces.
# 4: where a chunk stands is right among equal lines too.
FORMAT = 4


class Entry(Strict):
    """One document: its content hash, its source, and the chunks that answer for it.

    ``about`` is the make and model of the device it is about, "" where it is a general guide;
    ``example`` says that it came with faultwise and is no document of the plant; ``scope`` where
    else it holds, ``signs`` what was measured of an incident.
    """

    id: str
    title: str
    path: str
    kind: Kind
    sha256: str  # of the source file, to see that it changed
    chunks: tuple[str, ...]
    added: str  # ISO 8601, UTC
    about: str = ""
    example: bool = False
    scope: Scope = Scope()
    signs: tuple[str, ...] = ()


class Manifest(Strict):
    """The documents, the Chroma folder that holds their chunks, and the embedder that made the
    vectors."""

    version: int = 1
    store: str = "store-1"
    embedder: str = ""  # empty until the first chunk
    dimension: int = 0
    documents: tuple[Entry, ...] = ()
    samples: dict[str, str] = Field(
        default_factory=dict
    )  # shipped file -> sha256 when it was added

    @property
    def current(self) -> bool:
        """Whether the store is of this version of faultwise."""
        return self.version == FORMAT or not self.documents

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
        return Manifest(version=FORMAT)
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(
            f"{path} is no manifest ({error.errors()[0]['msg']}); expected the file that faultwise wrote; "
            "restore it from a backup, or move the folder away and add the documents again"
        ) from error


def find_entry(entries: Sequence[Entry], name: str) -> Entry:
    """The document of that id, title, path or file name.

    Raises:
        UserError: no document is called so, or several are.
    """
    path = str(Path(name).resolve())
    called = (
        [entry for entry in entries if name in (entry.id, entry.title)],
        [entry for entry in entries if entry.path == path],
        [entry for entry in entries if Path(entry.path).name == name],
    )
    found = next(filter(None, called), [])
    if len(found) == 1:
        return found[0]
    titles = [entry.title for entry in entries]
    near = (
        [entry.id for entry in found]
        or difflib.get_close_matches(name, titles, 3, 0.3)
        or titles[:3]
    )
    raise UserError(
        f"{len(found)} documents are called {name!r}; expected the id, title or path of one, such as "
        f"{', '.join(map(repr, near)) or '(there is none)'}; see `faultwise kb list`"
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace ``manifest.json`` in one step: after a crash there is the old one or the new one."""
    write_text(folder / "manifest.json", manifest.model_dump_json(indent=1))


# ---- What adding changes and what is wrong, worked out without touching anything ----


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
    readable: bool = True  # whether any chunk could be read

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def make_changes(
    manifest: Manifest, documents: Sequence[Document], notes: Iterable[str], example: bool = False
) -> Changes:
    """Decide for each document whether it is new, known, or a new version of a known one.

    Args:
        manifest: what is known.
        documents: what shall be known.
        notes: what reading them had to say.
        example: whether they came with faultwise.
    """
    before = manifest.documents
    after = {entry.id: entry for entry in before}
    added: list[str] = []
    unchanged: list[str] = []
    replaced: list[str] = []
    notes = [*notes]
    chunks: dict[str, Chunk] = {}
    for document in documents:
        known = after.get(document.id)
        if known and known.example and not example:
            # The plant's own copy of an example is the plant's.
            after[known.id] = known.model_copy(update={"example": False, "path": document.path})
            added.append(document.title)
            continue
        if known and (known.about, known.scope) != (document.about, document.scope):
            now = {"about": document.about, "scope": document.scope}
            after[known.id] = known.model_copy(update=now)
            replaced.append(document.title)
            continue
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
        after[document.id] = make_entry(document, made, example)
    said = Added(tuple(added), tuple(unchanged), tuple(replaced), tuple(notes))
    return Changes(tuple(after.values()), tuple(chunks.values()), said)


def _older_version(document: Document, before: Iterable[Entry]) -> Entry | None:
    """The known document of the same path, else the only one of the same title and file name.

    Two files of one ``add`` are never versions of each other: two lines may each have a
        ``manual.md``.
    """
    same_path = [entry for entry in before if entry.path == document.path]
    name = Path(document.path).name
    same_name = [
        entry for entry in before if (entry.title, Path(entry.path).name) == (document.title, name)
    ]
    found = same_path or same_name
    return found[0] if len(found) == 1 else None


def make_entry(document: Document, chunks: Sequence[Chunk], example: bool = False) -> Entry:
    """The entry of a document that is added now."""
    return Entry(
        id=document.id,
        title=document.title,
        path=document.path,
        kind=document.kind,
        sha256=file_hash(Path(document.path)),
        chunks=tuple(chunk.id for chunk in chunks),
        added=datetime.now(UTC).isoformat(timespec="seconds"),
        about=document.about,
        example=example,
        scope=document.scope,
        signs=document.signs,
    )


def find_problems(
    manifest: Manifest, stored: Iterable[Chunk], searchable: Collection[str]
) -> Health:
    """Compare the manifest with the stored chunks and the source files, and every chunk with its
    hash.

    Args:
        manifest: what should be there.
        stored: what is there.
        searchable: ids of the chunks that have vectors, so that a question can find them.
    """
    if not manifest.current:
        told = f"the store is of version {manifest.version}, not {FORMAT}: --repair makes it anew"
        return Health((told,), (), ())
    found = {chunk.id: chunk for chunk in stored}
    sound = {
        identity
        for identity, chunk in found.items()
        if identity == chunk_id(chunk.document, chunk.section, chunk.page, chunk.text)
        and identity in searchable
    }
    orphans = tuple(sorted(found.keys() - manifest.chunk_ids))
    damaged = tuple(entry for entry in manifest.documents if not sound.issuperset(entry.chunks))
    problems = (
        [f"{len(orphans)} chunks belong to no document (a change was cut short)"] if orphans else []
    )
    problems += [
        f"{e.title}: {len(set(e.chunks) - sound)} of {len(e.chunks)} chunks are lost"
        for e in damaged
    ]
    for entry in manifest.documents:
        path = Path(entry.path)
        if path.is_file() and file_hash(path) != entry.sha256:
            problems.append(f"{entry.title}: {path} has changed since {entry.added}; add it again")
    return Health(tuple(problems), orphans, damaged, bool(found))
