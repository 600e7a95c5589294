"""Cut the text of a document into sections, each under its heading path, whatever the format.

Sections are the unit a citation names, so nothing is reworded here: markup is dropped, text stays.
"""

import csv
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from traffic.errors import UserError

__all__ = [
    "CONTROL",
    "Pages",
    "Section",
    "read_markdown",
    "read_pdf",
    "read_register_map",
    "read_restructured",
    "read_stix",
    "render_table",
]

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")  # no escape sequence of a file may reach a terminal
_HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*\s*$")
_UNDERLINE = re.compile(r"^([=\-~^\"'#*+`.:_])\1{2,}\s*$")
_FENCE = re.compile(r"^\s*(```|~~~)")
_ROLE = re.compile(r":[\w:+-]+:`([^`]*)`")
_RST_NOISE = re.compile(r"^\s*(\.\. _[^:]+:.*|\.\. (highlight|contents|image|figure|toctree|index)::.*)$")
_CITATION = re.compile(r"\(Citation: [^)]*\)")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


@dataclass(frozen=True)
class Section:
    """A piece of a document under one heading; ``path`` is empty before the first heading, ``page`` counts from 1."""

    path: tuple[str, ...]
    text: str
    page: int | None = None


@dataclass(frozen=True)
class Pages:
    """What a PDF holds: its own title or "", the number of pages, and a section for each page with text."""

    title: str
    count: int
    sections: tuple[Section, ...]


def _finish(pieces: list[tuple[tuple[str, ...], list[str]]]) -> list[Section]:
    """Join the lines of each piece; a heading with nothing under it is no section."""
    joined = ((path, "\n".join(lines).strip()) for path, lines in pieces)
    return [Section(path, text) for path, text in joined if text]


def read_markdown(text: str) -> list[Section]:
    """Split Markdown at its ``#`` headings; the first level-1 heading is the document's title and not in the paths."""
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
    """Split reStructuredText at its underlined headings; levels follow the order in which the underlines appear.

    Source: docutils, reStructuredText Markup Specification, "Sections".
    """
    lines = [_ROLE.sub(r"\1", line) for line in text.splitlines() if not _RST_NOISE.match(line)]
    ruled = [bool(_UNDERLINE.match(line)) for line in [*lines, "", ""]]
    pieces: list[tuple[tuple[str, ...], list[str]]] = [((), [])]
    styles: list[tuple[str, bool]] = []
    path: list[str] = []
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
        pieces.append((tuple(path[1:]), []))  # the outermost heading is the title, as in Markdown
    return _finish(pieces)


def render_table(header: list[str], rows: list[list[str]]) -> str:
    """Write a Markdown table; bars inside cells are escaped, short rows are filled."""
    cells = [[cell.strip().replace("|", "\\|") for cell in row] + [""] * (len(header) - len(row)) for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in [[cell.strip() for cell in header], *cells]]
    return "\n".join([lines[0], "|" + " --- |" * len(header), *lines[1:]])


def read_register_map(text: str) -> list[Section]:
    """Read a CSV (comma, semicolon or tab; header first) as one table.

    Raises:
        UserError: there is no row below the header.
    """
    delimiter = max(",;\t", key=text.splitlines()[0].count)
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(cell.strip() for cell in row)]
    if len(rows) < 2:
        raise UserError(f"has {len(rows)} rows; expected a header and at least one register; add the rows")
    return [Section((), render_table(rows[0], rows[1:]))]


def read_pdf(path: Path) -> Pages:
    """Read the text layer of a PDF, one section a page; a page without text is left out.

    Raises:
        UserError: no PDF, damaged beyond reading, or encrypted with a password.
    """
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
    sections = (Section((f"page {n}",), CONTROL.sub("", text), n) for n, text in enumerate(texts, 1) if text)
    return Pages(title, len(texts), tuple(sections))


def _external_id(item: dict[str, Any]) -> str:
    found = (ref.get("external_id", "") for ref in item.get("external_references", []))
    return next((reference for reference in found if reference), "")


def _clean(text: str) -> str:
    return _LINK.sub(r"\1", _CITATION.sub("", text)).strip()


def read_stix(text: str) -> list[Section]:
    """Read a STIX 2 bundle: a section for each technique and mitigation in force, under its external id and name.

    Techniques name their tactics and mitigations. Source: STIX 2.1 (OASIS), MITRE ATT&CK's extensions.

    Raises:
        UserError: JSON that is no bundle, or a bundle without techniques.
    """
    try:
        bundle = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"is no JSON ({error}); expected a STIX 2 bundle; export it again") from error
    objects = bundle.get("objects", []) if isinstance(bundle, dict) else []
    items = [item for item in objects if isinstance(item, dict) and isinstance(item.get("id"), str)]
    names = {
        item["id"]: f"{_external_id(item)} {item['name']}"
        for item in items
        if item.get("type") in ("attack-pattern", "course-of-action")
        and not item.get("revoked")
        and not item.get("x_mitre_deprecated")
    }
    if not names:
        raise UserError(
            "holds no technique or mitigation in force; expected a STIX 2 bundle of ATT&CK; export it again"
        )
    mitigated: dict[str, list[str]] = {}
    for item in items:
        if item.get("relationship_type") == "mitigates" and item["source_ref"] in names:
            mitigated.setdefault(item["target_ref"], []).append(names[item["source_ref"]])
    return [_stix_section(item, names[item["id"]], mitigated) for item in items if item["id"] in names]


def _stix_section(item: dict[str, Any], name: str, mitigated: dict[str, list[str]]) -> Section:
    tactics = ", ".join(phase["phase_name"] for phase in item.get("kill_chain_phases", []))
    mitigations = ", ".join(sorted(mitigated.get(item["id"], [])))
    lines = [
        _clean(item.get("description", "")),
        tactics and f"Tactics: {tactics}.",
        mitigations and f"Mitigations: {mitigations}.",
    ]
    return Section((name,), "\n\n".join(line for line in lines if line))
