"""Carry a plant's documents to another machine: a folder with the files and what is known of each.

    export/
        knowledge.json      each document's file, SHA-256, what it is about, where it holds
        documents/          the files, by name; a number before those of one name

Vectors are not carried: the other machine makes them with its own embedder.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from knowledge_base.about import Scope
from knowledge_base.documents import Document, read_documents
from knowledge_base.index import Added, Index, Progress
from traffic.errors import UserError
from traffic.files import Strict, file_hash, read_json, write_text

CARD = "knowledge.json"
_EXPECTED = "a folder that `faultwise kb export` wrote"


class Carried(Strict):
    """A document of an export; ``file`` is below its folder."""

    file: str
    sha256: str
    title: str
    about: str = ""
    scope: Scope = Scope()


class Export(Strict):
    """What an export holds."""

    version: int = 1
    documents: tuple[Carried, ...]


@dataclass(frozen=True)
class Exported:
    """How many documents were written, and one sentence for each that was not."""

    count: int
    notes: tuple[str, ...]


def export_documents(index: Index, folder: Path) -> Exported:
    """Write the plant's own documents (no examples) to a new folder. One whose file is gone or has
    changed is named and left out: passages are no document.

    Raises:
        UserError: the folder exists, cannot be written, or there is nothing to export.
    """
    if folder.exists():
        raise UserError(f"{folder} exists already; expected a new folder; name another")
    carried, notes, taken = list[Carried](), list[str](), set[str]()
    for entry in index.list():
        path = Path(entry.path)
        if entry.example:
            continue
        if not path.is_file() or file_hash(path) != entry.sha256:
            state = "has changed since it was added" if path.is_file() else "is gone"
            notes.append(f"{entry.title} was left out: {path} {state}; add it again first")
            continue
        name = path.name
        while name.lower() in taken:
            name = f"{len(taken)}-{path.name}"
        taken.add(name.lower())
        try:
            (folder / "documents").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / "documents" / name)
        except OSError as error:
            raise UserError(
                f"{folder} cannot be written ({error.strerror}); expected a folder with room; "
                "name another"
            ) from error
        carried.append(
            Carried(
                file=f"documents/{name}",
                sha256=entry.sha256,
                title=entry.title,
                about=entry.about,
                scope=entry.scope,
            )
        )
    if not carried:
        reason = f" ({notes[0]})" if notes else ""
        raise UserError(
            f"there is no document to export{reason}; expected documents of the plant; "
            "`faultwise kb add` adds them"
        )
    write_text(folder / CARD, Export(documents=tuple(carried)).model_dump_json(indent=1))
    return Exported(len(carried), tuple(notes))


def import_documents(
    index: Index, folder: Path, home: Path, progress: Progress | None = None
) -> Added:
    """Add the documents of an export in one step; their files are copied below ``home``.

    Raises:
        UserError: it is no export, or a file is missing, has changed, or lies outside of it.
    """
    export = read_json(folder / CARD, Export, _EXPECTED)
    inside = folder.resolve()
    documents, notes = list[Document](), list[str]()
    for one in export.documents:
        source = (folder / one.file).resolve()
        if not source.is_relative_to(inside) or not source.is_file():
            raise UserError(
                f"{folder / CARD} names {one.file}, which is not in the folder; expected "
                f"{_EXPECTED}; export it again"
            )
        if file_hash(source) != one.sha256:
            raise UserError(
                f"{source} is not the file that was exported (its SHA-256 differs); expected "
                f"{_EXPECTED}; export it again"
            )
        target = home / "documents" / one.sha256[:12] / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        reading = read_documents(target, one.about, one.scope)
        documents += reading.documents
        notes += reading.notes
    return index.add_documents(documents, notes, progress)
