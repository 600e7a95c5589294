"""Cut the text of a document into sections, each under its heading path, whatever the format.

Sections are the unit a citation names, so nothing is reworded here: markup is dropped, text stays.
"""

import csv
import io
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from traffic.errors import UserError
from traffic.labels import LABELS

_HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*\s*$")
_UNDERLINE = re.compile(r"^([=\-~^\"'#*+`.:_])\1{2,}\s*$")
_FENCE = re.compile(r"^\s*(```|~~~)")
_ROLE = re.compile(r":[\w:+-]+:`([^`]*)`")
_RST_NOISE = re.compile(
    r"^\s*(\.\. _[^:]+:.*|\.\. (highlight|contents|image|figure|toctree|index)::.*)$"
)
_CITATION = re.compile(r"\(Citation: [^)]*\)")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


@dataclass(frozen=True)
class Section:
    """A piece of a document under one heading; ``path`` is empty before the first heading, ``page``
    counts from 1."""

    path: tuple[str, ...]
    text: str
    page: int | None = None


@dataclass(frozen=True)
class Pages:
    """What a PDF holds: its own title or "", the number of pages, and a section for each page with
    text."""

    title: str
    count: int
    sections: tuple[Section, ...]


def _finish(pieces: list[tuple[tuple[str, ...], list[str]]]) -> list[Section]:
    """Join the lines of each piece; a heading with nothing under it is no section."""
    joined = ((path, "\n".join(lines).strip()) for path, lines in pieces)
    return [Section(path, text) for path, text in joined if text]


def read_markdown(text: str) -> list[Section]:
    """Split Markdown at its ``#`` headings; the first level-1 heading is the document's title and
    not in the paths."""
    pieces: list[tuple[tuple[str, ...], list[str]]] = [((), [])]
    path: list[tuple[int, str]] = []  # (level, heading), outermost first
    fenced = titled = False
    for line in text.splitlines():
        fenced ^= bool(_FENCE.match(line))
        heading = None if fenced else _HEADING.match(line)
        if not heading:
            pieces[-1][1].append(line)
            continue
        level = len(heading[1])
        if level == 1 and not titled:
            titled = True
            continue
        path = [*(above for above in path if above[0] < level), (level, heading[2])]
        pieces.append((tuple(name for _, name in path), []))
    return _finish(pieces)


def read_restructured(text: str) -> list[Section]:
    """Split reStructuredText at its underlined headings; levels follow the order in which the
    underlines appear.

    Source: docutils, reStructuredText Markup Specification, "Sections".
    """
    lines = [_ROLE.sub(r"\1", line) for line in text.splitlines() if not _RST_NOISE.match(line)]
    ruled = [bool(_UNDERLINE.match(line)) for line in [*lines, "", ""]]
    pieces: list[tuple[tuple[str, ...], list[str]]] = [((), [])]
    styles: list[tuple[str, bool]] = []
    path: list[str] = []
    title = ""
    for number, line in enumerate(lines):
        if ruled[number]:
            continue
        if not ruled[number + 1] or not line.strip() or line[0].isspace():
            pieces[-1][1].append(line)
            continue
        style = (lines[number + 1][0], number > 0 and ruled[number - 1])
        if style not in styles:
            styles.append(style)
        path = [*path[: styles.index(style)], line.strip()]
        title = (
            title or line.strip()
        )  # the first heading is the title and not in the paths, as in Markdown
        pieces.append((tuple(path[1:] if path[0] == title else path), []))
    return _finish(pieces)


def render_table(header: list[str], rows: list[list[str]]) -> str:
    """Write a Markdown table; bars inside cells are escaped, short rows are filled."""
    cells = [
        [cell.strip().replace("|", "\\|") for cell in row] + [""] * (len(header) - len(row))
        for row in rows
    ]
    lines = ["| " + " | ".join(row) + " |" for row in [[cell.strip() for cell in header], *cells]]
    return "\n".join([lines[0], "|" + " --- |" * len(header), *lines[1:]])


def read_register_map(text: str) -> list[Section]:
    """Read a CSV (comma, semicolon or tab; header first) as one table.

    Raises:
        UserError: there is no row below the header.
    """
    delimiter = max(",;\t", key=text.lstrip().splitlines()[0].count)
    try:
        rows = [
            row
            for row in csv.reader(io.StringIO(text), delimiter=delimiter)
            if any(map(str.strip, row))
        ]
    except csv.Error as error:
        raise UserError(
            f"is no CSV ({error}); expected a header and a register a line; export it again"
        ) from error
    if len(rows) < 2:
        raise UserError(
            f"has {len(rows)} rows; expected a header and at least one register; add the rows"
        )
    return [Section((), render_table(rows[0], rows[1:]))]


def read_pdf(path: Path) -> Pages:
    """Read the text layer of a PDF, one section a page; a page without text is left out.

    Raises:
        UserError: no PDF, damaged beyond reading, or encrypted with a password.
    """
    # Imported here: a search would wait for it 0.2 s, and most knowledge bases hold no PDF.
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    try:
        reader = PdfReader(path)
        texts = [page.extract_text().strip() for page in reader.pages]
        title = (reader.metadata.title or "").strip() if reader.metadata else ""
    # A damaged object surfaces as whatever pypdf does with it next, not only as its own errors.
    except (PyPdfError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} cannot be read as PDF ({reason}); expected an unencrypted PDF; print it anew to PDF"
        ) from error
    sections = (Section((f"page {n}",), text, n) for n, text in enumerate(texts, 1) if text)
    return Pages(title, len(texts), tuple(sections))


class _Reference(BaseModel):
    external_id: str = ""


class _Phase(BaseModel):
    phase_name: str


class _Item(BaseModel):
    """The fields of a STIX object that are read; every object has more, and they are left out."""

    id: str
    type: str
    name: str = ""
    description: str = ""
    revoked: bool = False
    x_mitre_deprecated: bool = False
    external_references: list[_Reference] = []
    kill_chain_phases: list[_Phase] = []
    relationship_type: str = ""
    source_ref: str = ""
    target_ref: str = ""

    @property
    def in_force(self) -> bool:
        known = self.type in ("attack-pattern", "course-of-action")
        return known and not self.revoked and not self.x_mitre_deprecated

    @property
    def heading(self) -> str:
        number = next(
            (
                reference.external_id
                for reference in self.external_references
                if reference.external_id
            ),
            "",
        )
        return f"{number} {self.name}".strip()


class _Bundle(BaseModel):
    objects: list[_Item]


def _clean(text: str) -> str:
    return _LINK.sub(r"\1", _CITATION.sub("", text)).strip()


def read_stix(text: str) -> list[Section]:
    """Read a STIX 2 bundle: a section for each technique and mitigation in force, under its
    external id and name.

    Techniques name their tactics and mitigations. Source: STIX 2.1 (OASIS), MITRE ATT&CK's
        extensions.

    Raises:
        UserError: JSON that is no bundle, or a bundle without techniques.
    """
    try:
        items = _Bundle.model_validate_json(text).objects
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(
            f"is no STIX 2 bundle ({where}: {first['msg']}); expected JSON; export it again"
        ) from error
    names = {item.id: item.heading for item in items if item.in_force}
    if not names:
        raise UserError(
            "holds no technique or mitigation in force; expected ATT&CK as STIX 2; export it again"
        )
    mitigated: dict[str, list[str]] = {}
    for item in items:
        if item.relationship_type == "mitigates" and item.source_ref in names:
            mitigated.setdefault(item.target_ref, []).append(names[item.source_ref])
    return [
        _stix_section(item, sorted(mitigated.get(item.id, []))) for item in items if item.in_force
    ]


def _stix_section(item: _Item, mitigations: list[str]) -> Section:
    tactics = ", ".join(phase.phase_name for phase in item.kill_chain_phases)
    lines = [
        _clean(item.description),
        tactics and f"Tactics: {tactics}.",
        mitigations and f"Mitigations: {', '.join(mitigations)}.",
    ]
    return Section((item.heading,), "\n\n".join(line for line in lines if line))


# A resolved incident as a document: YAML front matter with the facts, Markdown below it with the
# account.
#
# The file is what people write and review; unknown fields are refused so that a slip of the pen is
# not lost in silence.

_MARK = "---\n"
Text = Annotated[str, Field(min_length=1)]


class PastIncident(BaseModel):
    """What happened once, what it turned out to be, and what mended it."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,40}$")]
    title: Text
    date: date
    plant: Text
    devices: dict[str, str]  # name -> role, the one that was at fault first
    label: str
    direction: Literal["source", "target", ""] = ""
    first_guess: str = ""  # what was suspected before, where that was wrong
    symptoms: Text
    cause: Text
    fix: Text
    lesson: str = ""
    downtime_min: Annotated[int, Field(ge=0)]
    account: str = ""

    @field_validator("label")
    @classmethod
    def _known_label(cls, value: str) -> str:
        if value not in LABELS:
            raise ValueError(f"{value!r} is no label; expected one of {', '.join(LABELS)}")
        return value


def is_incident(text: str) -> bool:
    """Whether a Markdown file begins with the front matter of an incident; other front matter is
    just text."""
    parts = text.split(_MARK, 2)
    return (
        len(parts) == 3
        and not parts[0]
        and bool(re.search(r"^(symptoms|cause):", parts[1], re.MULTILINE))
    )


def parse_incident(text: str, place: str) -> PastIncident:
    """Read an incident from its Markdown; ``place`` names it in errors.

    Raises:
        UserError: the front matter is no YAML, lacks a field, has an unknown one, or names an
            unknown label.
    """
    _, front, account = text.split(_MARK, 2)
    try:
        fields = yaml.safe_load(front)
        return PastIncident.model_validate({**fields, "account": account.strip()})
    except (yaml.YAMLError, TypeError) as error:
        raise UserError(f"{place}: the front matter is no YAML mapping ({' '.join(str(error).split())}); expected "
                        "'name: value' lines between two '---'; mend the file") from error  # fmt: skip
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise UserError(
            f"{place}: {found}; expected the fields of a past incident; mend the front matter"
        ) from error


def render_incident(incident: PastIncident) -> str:
    """Write the incident as Markdown with front matter; ``parse_incident`` reads it back
    unchanged."""
    fields = incident.model_dump(mode="json", exclude={"account"})
    kept = {
        name: value
        for name, value in fields.items()
        if value != "" or name in ("label", "symptoms")
    }
    kept["date"] = incident.date
    front = yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=110)
    return f"{_MARK}{front}{_MARK}\n{incident.account}\n"


def incident_sections(incident: PastIncident) -> list[Section]:
    """The incident as sections: what was seen is apart from what it was, so that a question meets
    the symptoms."""
    devices = ", ".join(f"{name} ({role})" for name, role in incident.devices.items())
    guess = (
        f" First guess: {incident.first_guess}, which was wrong." if incident.first_guess else ""
    )
    seen = f"{incident.symptoms}\n\nLabel: {incident.label}. Devices: {devices}. {incident.plant}, {incident.date}."
    mended = f"Cause: {incident.cause}\n\nFix: {incident.fix}\n\nDowntime: {incident.downtime_min} minutes.{guess}"
    lesson = f"\n\nLesson: {incident.lesson}" if incident.lesson else ""
    parts = {"Symptoms": seen, "Cause and fix": mended + lesson, "Account": incident.account}
    return [Section((name,), text) for name, text in parts.items() if text]


def read_incident(path: Path) -> PastIncident:
    """Read one incident file.

    Raises:
        UserError: see ``parse_incident``; also a file without front matter.
    """
    text = path.read_text(encoding="utf-8")
    if not is_incident(text):
        raise UserError(
            f"{path} is no past incident; expected front matter with its symptoms and cause; add them"
        )
    return parse_incident(text, str(path))
