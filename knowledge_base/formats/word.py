"""DOCX: paragraphs under their headings, lists and tables in their order."""

import re
from pathlib import Path
from typing import Any

from knowledge_base.formats.archives import check_archive
from knowledge_base.formats.sections import Content, Outline, render_cells
from traffic.errors import UserError

_LEVEL = re.compile(r"^Heading\s?(\d)$")
_WHITE = {"FFFFFF"}


def read_docx(path: Path) -> Content:
    """Read a document as it prints: insertions are in, deletions and hidden text are out, and the
    hidden is counted. Headers, footers and comments are not read.

    Raises:
        UserError: no DOCX, damaged, or too large when unpacked.
    """
    # Imported here: a search need not wait for it.
    from docx import Document
    from docx.table import Table

    check_archive(path, "word/document.xml", "a DOCX document")
    try:
        document = Document(str(path))
        core = document.core_properties
        reader = _Reader()
        outline = Outline()
        title = ""
        for block in document.iter_inner_content():
            if isinstance(block, Table):
                outline.add_text(render_cells(reader.rows(block)))
                continue
            text = reader.text(block._p)
            if not text:
                continue
            style = (block.style.style_id or "") if block.style is not None else ""
            level = _LEVEL.match(style)
            if style == "Title" and not title:
                title = text
            elif level:
                outline.add_heading(int(level[1]), text)
            else:
                outline.add_text(f"- {text}" if _is_item(block._p, style) else text)
    except UserError:
        raise
    # A damaged part surfaces as whatever python-docx does with it next.
    except (KeyError, ValueError, TypeError, AttributeError, SyntaxError, OSError) as error:
        raise UserError(
            f"{path} cannot be read as DOCX ({' '.join(str(error).split())}); "
            "expected a document; save it anew"
        ) from error
    notes = (
        (f"{reader.hidden} hidden passages were left out (a reader does not see them)",)
        if reader.hidden
        else ()
    )
    title = title or (core.title or "").strip()
    return Content(title, tuple(outline.sections("\n\n")), notes, (core.language or "").strip())


class _Reader:
    """The text of paragraphs and cells, and how many hidden runs were met."""

    def __init__(self) -> None:
        self.hidden = 0

    def text(self, paragraph: Any) -> str:
        """What a paragraph prints."""
        from docx.oxml.ns import qn

        parts: list[str] = []
        for run in paragraph.iter(qn("w:r")):
            if any(one.tag == qn("w:del") for one in run.iterancestors(qn("w:del"))):
                continue
            text = "".join(_piece(one, qn) for one in run)
            properties = run.find(qn("w:rPr"))
            if properties is not None and _is_hidden(properties, qn):
                self.hidden += bool(text.strip())
                continue
            parts.append(text)
        return " ".join("".join(parts).split())

    def rows(self, table: Any) -> list[list[str]]:
        """The rows of a table; a cell that spans several is repeated in each."""
        known: dict[Any, str] = {}  # a merged cell comes once for each place it covers
        rows = []
        for row in table.rows:
            cells = []
            for cell in row.cells:
                if cell._tc not in known:
                    known[cell._tc] = self._cell(cell)
                cells.append(known[cell._tc])
            rows.append(cells)
        return rows

    def _cell(self, cell: Any) -> str:
        inner = [" ".join(map(" ".join, self.rows(table))) for table in cell.tables]
        return " ".join([*(self.text(one._p) for one in cell.paragraphs), *inner])


def _piece(element: Any, qn: Any) -> str:
    if element.tag == qn("w:t"):
        return element.text or ""
    return " " if element.tag in (qn("w:tab"), qn("w:br"), qn("w:cr")) else ""


def _is_hidden(properties: Any, qn: Any) -> bool:
    vanish, colour = properties.find(qn("w:vanish")), properties.find(qn("w:color"))
    if vanish is not None and vanish.get(qn("w:val"), "1") not in ("0", "false"):
        return True
    shaded = (
        properties.find(qn("w:shd")) is not None or properties.find(qn("w:highlight")) is not None
    )
    white = colour is not None and (colour.get(qn("w:val")) or "").upper() in _WHITE
    # White letters in a table usually stand on a dark cell.
    inside = next(properties.iterancestors(qn("w:tc")), None) is not None
    return white and not shaded and not inside


def _is_item(paragraph: Any, style: str) -> bool:
    numbered = paragraph.pPr is not None and paragraph.pPr.numPr is not None
    return numbered or style.startswith("List")
