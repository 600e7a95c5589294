"""Read manuals, register maps, threat catalogues and past incidents into documents with sections.

A file that the user names must be readable, or it is an error; inside a folder what cannot be read
is counted and said.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from knowledge_base.about import GENERAL, Scope, find_about
from knowledge_base.formats.incident import (
    PastIncident,
    incident_sections,
    is_incident,
    parse_incident,
    parse_incident_yaml,
)
from knowledge_base.formats.markdown import cut_front_matter, read_markdown
from knowledge_base.formats.pdf import read_pdf
from knowledge_base.formats.restructured import read_restructured
from knowledge_base.formats.sections import Content, Section
from knowledge_base.formats.sheets import read_register_map, read_xlsx
from knowledge_base.formats.stix import read_stix
from knowledge_base.formats.web_page import read_html
from knowledge_base.formats.word import read_docx
from traffic.errors import UserError

Kind = Literal["manual", "incident", "threat"]
# Beyond this a text is a mistake or an attack: a manual of a thousand pages has 5 MB of it. Pictures
# make a PDF larger.
MAX_BYTES = 64 * 2**20
MAX_PDF_BYTES = 512 * 2**20
# Control characters, and the marks that turn the direction of writing: files come from outside.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# Letters that a PDF draws as one: nobody finds a word with them by typing it.
_LIGATURES = str.maketrans(
    {"\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl"}
)


@dataclass(frozen=True)
class Document:
    """A source of answers; ``id`` is the hash of its content, so that equal content is one
    document. ``about`` is the make and model of the device it is about, "" for a general guide;
    ``scope`` says where else it holds, ``signs`` what was measured of an incident."""

    id: str
    title: str
    path: str
    kind: Kind
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()
    about: str = ""
    scope: Scope = field(default_factory=Scope)
    signs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """What a path held: the documents, and one sentence for each thing skipped or assumed."""

    documents: tuple[Document, ...]
    notes: tuple[str, ...]


def read_documents(
    path: Path | str, about: str | None = None, scope: Scope | None = None
) -> Reading:
    """Read one file, or every readable file below a folder.

    Args:
        path: Markdown, plain text, reStructuredText, HTML, PDF, DOCX, XLSX, CSV, STIX 2 JSON, an
            incident as YAML, or a folder of such files.
        about: make and model of the device that the documents are about, "" for none; by default
            what each says or shows of itself.
        scope: where else they hold; goes before what a file says of itself.

    Raises:
        UserError: the path is missing; a named file is empty, of an unknown type, not UTF-8 or
            damaged; a folder holds nothing that can be read.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path, about, scope)
    if not path.is_file():
        raise UserError(
            f"{path} does not exist; expected a document or a folder of documents; check the name"
        )
    document = _read_file(path, about, scope)
    return Reading((document,), document.notes)


def _read_folder(folder: Path, about: str | None, scope: Scope | None) -> Reading:
    documents, notes = [], []
    inside = folder.resolve()
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or any(
            part.startswith(".") for part in path.relative_to(folder).parts
        ):
            continue
        try:
            if not path.resolve().is_relative_to(inside):
                raise UserError(
                    f"{path} leads out of the folder, to {path.resolve()}; expected a file of the "
                    "folder; add that one by its own name"
                )
            document = _read_file(path, about, scope)
        except UserError as error:
            notes.append(f"skipped: {error}")
            continue
        documents.append(document)
        notes.extend(document.notes)
    if not documents:
        reason = f" ({notes[0]})" if notes else ""
        raise UserError(
            f"{folder} holds no readable document{reason}; expected {_expected()}; name another folder"
        )
    skipped = sum(note.startswith("skipped: ") for note in notes)
    count = (
        (f"{skipped} of {skipped + len(documents)} files in {folder} were skipped",)
        if skipped
        else ()
    )
    return Reading(tuple(documents), (*count, *notes))


def _read_file(path: Path, about: str | None, scope: Scope | None) -> Document:
    suffix = path.suffix.lower()
    reader = _READERS.get(suffix)
    if reader is None:
        raise UserError(
            f"{path} is of type {path.suffix or 'none'}; expected {_expected()}; convert it first"
        )
    size = path.stat().st_size
    if size == 0:
        raise UserError(f"{path} is empty; expected a document; check the file")
    most = MAX_PDF_BYTES if suffix == ".pdf" else MAX_BYTES
    if size > most:
        raise UserError(
            f"{path} has {size / 2**20:.0f} MiB; expected at most {most >> 20} MiB; split it"
        )
    _check_ending(path, suffix)
    document = reader(path)
    if not document.sections:
        reason = "no text layer (a scan?)" if suffix == ".pdf" else "no text"
        raise UserError(
            f"{path} has {reason}; expected a document with text; add text to it (OCR for a scan)"
        )
    document = replace(document, scope=(scope or Scope()).over(document.scope))
    if document.kind != "manual":
        return document  # what happened once, and whom one attacks, is about no one device
    if about is None:
        about = document.about or find_about(document.title, path.stem, document.sections)
    named = " ".join(_printable(about).split())
    return replace(document, about="" if named.lower() == GENERAL else named)


# What a file is by its first bytes, and the endings under which that is read.
_MAGIC = (
    (b"%PDF-", "a PDF", {".pdf"}),
    (b"PK\x03\x04", "a ZIP archive or an office file", {".docx", ".xlsx"}),
    (b"\xd0\xcf\x11\xe0", "an old or encrypted office file: save it as .docx or .xlsx", set[str]()),
    (b"\x1f\x8b", "a gzip archive: unpack it", set[str]()),
    (b"\x89PNG", "a picture", set[str]()),
    (b"\xff\xd8\xff", "a picture", set[str]()),
)


def _check_ending(path: Path, suffix: str) -> None:
    with path.open("rb") as file:
        head = file.read(8)
    for magic, what, endings in _MAGIC:
        if head.startswith(magic) and suffix not in endings:
            raise UserError(
                f"{path} ends in {suffix} and is {what}; expected what its ending says; "
                "give it its right ending"
            )


def _read_text(path: Path) -> str:
    data = path.read_bytes()
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 at byte {error.start}; expected UTF-8 text; save it as UTF-8"
        ) from error
    return text.replace("\r\n", "\n")


def _make_document(
    path: Path,
    title: str,
    sections: list[Section],
    kind: Kind = "manual",
    notes: tuple[str, ...] = (),
) -> Document:
    title = " ".join(_printable(title).split())
    clean = [
        Section(tuple(map(_printable, s.path)), _printable(s.text).strip(), s.page)
        for s in sections
    ]
    sections = [section for section in clean if section.text]
    content = json.dumps(
        [title, kind, [(s.path, s.text, s.page) for s in sections]], ensure_ascii=False
    )
    identity = "doc-" + hashlib.sha256(content.encode()).hexdigest()[:16]
    return Document(identity, title, str(path.resolve()), kind, tuple(sections), notes)


def _printable(text: str) -> str:
    """Text without what would act on a terminal or page, or could not be written as UTF-8."""
    return _CONTROL.sub("", text).translate(_LIGATURES).encode("utf-8", "replace").decode()


def _title(text: str, path: Path) -> str:
    """The first line that reads like a title, else the file's name in words."""
    for line in text.splitlines()[:20]:
        words = line.strip().strip("#=-* ")
        if words and not line.startswith(".."):
            return words if len(words) <= 100 else path.stem
    return path.stem.replace("_", " ")


def _markdown(path: Path) -> Document:
    text = _read_text(path)
    if is_incident(text):
        return _incident(path, parse_incident(text, str(path)))
    front = cut_front_matter(text)
    heading = re.search(r"^# +(.+?) *#*$", front.text, re.MULTILINE)
    title = front.title or (heading[1] if heading else _title(front.text, path))
    document = _make_document(path, title, read_markdown(front.text))
    return replace(document, about=front.about, scope=front.scope)


def _yaml(path: Path) -> Document:
    return _incident(path, parse_incident_yaml(_read_text(path), str(path)))


def _incident(path: Path, incident: PastIncident) -> Document:
    title = f"{incident.id} {incident.title}"
    document = _make_document(path, title, incident_sections(incident), "incident")
    return replace(document, signs=incident.signs)


def _plain(path: Path) -> Document:
    text = _read_text(path)
    return _make_document(
        path, _title(text, path), [Section((), text.strip())] if text.strip() else []
    )


def _restructured(path: Path) -> Document:
    text = _read_text(path)
    return _make_document(path, _title(text, path), read_restructured(text))


def _register_map(path: Path) -> Document:
    sections = _about(path, read_register_map)
    return _make_document(path, path.stem.replace("_", " "), sections)


def _stix(path: Path) -> Document:
    sections = _about(path, read_stix)
    note = f"{path.name}: {len(sections)} techniques and mitigations in force; other STIX objects were left out"
    return _make_document(path, path.stem, sections, "threat", (note,))


def _about(path: Path, reader: Callable[[str], list[Section]]) -> list[Section]:
    """Run a reader of text, and name the file in its error."""
    text = _read_text(path)
    if not text.strip():
        return []
    try:
        return reader(text)
    except UserError as error:
        raise UserError(f"{path} {error}") from error


def _html(path: Path) -> Document:
    text = _read_text(path)
    return _from_content(path, read_html(text) if text.strip() else Content("", ()))


def _pdf(path: Path) -> Document:
    return _from_content(path, read_pdf(path))


def _docx(path: Path) -> Document:
    return _from_content(path, read_docx(path))


def _xlsx(path: Path) -> Document:
    return _from_content(path, read_xlsx(path))


def _from_content(path: Path, content: Content) -> Document:
    title = content.title or path.stem.replace("_", " ")
    notes = tuple(f"{path.name}: {note}" for note in content.notes)
    document = _make_document(path, title, [*content.sections], notes=notes)
    return replace(document, scope=Scope(language=_printable(content.language)))


_READERS: dict[str, Callable[[Path], Document]] = {
    ".md": _markdown,
    ".markdown": _markdown,
    ".txt": _plain,
    ".rst": _restructured,
    ".html": _html,
    ".htm": _html,
    ".pdf": _pdf,
    ".docx": _docx,
    ".json": _stix,
    ".csv": _register_map,
    ".xlsx": _xlsx,
    ".yaml": _yaml,
    ".yml": _yaml,
}


def _expected() -> str:
    return f"one of {', '.join(sorted(_READERS))}"
