"""Register maps: CSV and XLSX, each table with its header."""

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from knowledge_base.formats.archives import check_archive
from knowledge_base.formats.sections import Content, Section, render_cells, render_table
from traffic.errors import UserError

MAX_CELLS = 1_000_000


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


def read_xlsx(path: Path) -> Content:
    """Read the sheets of a workbook that are not hidden, each under its name, as the values that
    were last computed. An empty row ends a table; what stands alone in a row is a line of text.

    Raises:
        UserError: no workbook, damaged, too large when unpacked, or of too many cells.
    """
    # Imported here: a search need not wait for it.
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    check_archive(path, "xl/workbook.xml", "an XLSX workbook")
    sections, notes, cells = [], [], 0
    try:
        book = load_workbook(path, read_only=True, data_only=True, keep_links=False)
        for sheet in book.worksheets:
            if sheet.sheet_state != "visible":
                notes.append(f"the hidden sheet {sheet.title!r} was left out")
                continue
            sheet.reset_dimensions()  # a file may claim a million empty rows
            parts = []
            for block in _blocks(sheet.iter_rows(values_only=True)):
                cells += sum(map(len, block))
                if cells > MAX_CELLS:
                    raise UserError(
                        f"{path} has more than {MAX_CELLS} cells; expected a register map; split it"
                    )
                parts.append(_lay_out(block))
            if text := "\n\n".join(parts):
                sections.append(Section((sheet.title,), text))
        title = (book.properties.title or "").strip()
        book.close()
    except (InvalidFileException, KeyError, ValueError, TypeError, IndexError, OSError) as error:
        raise UserError(
            f"{path} cannot be read as XLSX ({' '.join(str(error).split())}); "
            "expected a workbook; save it anew"
        ) from error
    return Content(title, tuple(sections), tuple(notes))


def _blocks(rows: Iterable[tuple[object, ...]]) -> Iterator[list[list[str]]]:
    """Rows up to an empty one, as text."""
    block: list[list[str]] = []
    for row in rows:
        texts = [_text(value) for value in row]
        if any(texts):
            block.append(texts)
        elif block:
            yield block
            block = []
    if block:
        yield block


def _text(value: object) -> str:
    """A cell as a person sees it: 40001, not 40001.0."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value).strip()


def _lay_out(block: list[list[str]]) -> str:
    lines = []
    while block and sum(map(bool, block[0])) == 1:
        lines.append(next(filter(None, block[0])))
        block = block[1:]
    return "\n\n".join(filter(None, ["\n".join(lines), render_cells(block)]))
