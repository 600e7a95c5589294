"""Ruled tables of PDF pages as rows of cells."""

import logging
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

Rows = list[list[str]]
_SNAP_PT = 3.0  # edges nearer than that are one, as pdfplumber takes them
_BOX_SEGMENTS = 5  # of a path that is a line or a box; one of more may be a whole grid
_LEAST_EDGES = 3  # across and down: two columns and two rows


@dataclass(frozen=True)
class PageTable:
    """A table on a page.

    Attributes:
        rows: of cells, the header first.
        box: left, top, right, bottom in points from the upper left corner of the page.
        edges: where its columns begin, in points from the left.
    """

    rows: Rows
    box: tuple[float, float, float, float]
    edges: tuple[int, ...]

    @cached_property
    def words(self) -> set[str]:
        """All words of its cells."""
        return {word for row in self.rows for cell in row for word in cell.split()}


class Drawn(NamedTuple):
    """A path on a page: what it covers in points, and of how many segments it is."""

    left: float
    bottom: float
    right: float
    top: float
    segments: int


def may_hold_table(paths: Iterable[Drawn]) -> bool:
    """Whether what is drawn on a page has edges across and down for two columns and two rows.

    Rules above and below the text, underlines and frames of notes have not; looking for cells among
    them costs 50 ms a page.
    """
    across, down = set[int](), set[int]()
    for one in paths:
        if one.segments > _BOX_SEGMENTS:
            return True
        if one.top - one.bottom > _SNAP_PT:
            across |= {round(one.left / _SNAP_PT), round(one.right / _SNAP_PT)}
        if one.right - one.left > _SNAP_PT:
            down |= {round(one.bottom / _SNAP_PT), round(one.top / _SNAP_PT)}
    return min(len(across), len(down)) >= _LEAST_EDGES


def read_tables(path: Path, pages: Sequence[int]) -> tuple[dict[int, list[PageTable]], list[int]]:
    """Find the ruled tables on some pages, counted from 0; also the pages that could not be read.

    A table has two rows and two columns at least, and text in half of its cells.
    """
    if not pages:
        return {}, []
    # Imported here: only a manual with tables needs it.
    import pdfplumber
    from pdfminer.pdfexceptions import PDFException
    from pdfplumber.utils.exceptions import PdfminerException

    found: dict[int, list[PageTable]] = {}
    failed: list[int] = []
    damaged = (PDFException, PdfminerException, KeyError, TypeError, ValueError, AttributeError)
    try:
        with (
            _heard("pdfminer") as warnings,
            pdfplumber.open(path, pages=[number + 1 for number in pages]) as book,
        ):
            for page in book.pages:
                _take_places_alone(page)
                warnings.clear()
                try:
                    found[page.page_number - 1] = _find(page)
                # A damaged object surfaces as whatever pdfminer does with it next.
                except (*damaged, RecursionError):
                    failed.append(page.page_number - 1)
                else:
                    if warnings and not found[page.page_number - 1]:
                        failed.append(page.page_number - 1)
                page.close()
    except (*damaged, RecursionError):
        failed = [number for number in pages if number not in found]
    return found, failed


@contextmanager
def _heard(name: str) -> Iterator[list[str]]:
    """What a library warns of, in the place of its lines among ours."""
    log, said = logging.getLogger(name), list[str]()
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    before, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield said
    finally:
        log.removeHandler(handler)
        log.propagate = before


def _take_places_alone(page: Any) -> None:
    """Let a page give of its letters the text and the place alone: their fonts and colours, which
    no table asks for, took half of the time."""
    from pdfminer.layout import LTChar

    whole = page.process_object
    left, top = page.mediabox[:2]

    def process_object(found: Any) -> dict[str, Any]:
        if not isinstance(found, LTChar):
            return whole(found)
        begins = page.height - found.y1 + top
        return {
            "object_type": "char",
            "text": found.get_text(),
            "upright": found.upright,
            "x0": found.x0 + left,
            "x1": found.x1 + left,
            "top": begins,
            "bottom": page.height - found.y0 + top,
            "doctop": page.initial_doctop + begins,
        }

    page.process_object = process_object


def _find(page: object) -> list[PageTable]:
    tables = []
    for table in page.find_tables():  # type: ignore[attr-defined]  # pdfplumber has no types
        rows = [[" ".join((cell or "").split()) for cell in row] for row in table.extract()]
        cells = [cell for row in rows for cell in row]
        if len(rows) < 2 or len(rows[0]) < 2 or sum(map(bool, cells)) < len(cells) / 2:
            continue
        left, top, right, bottom = table.bbox
        edges = tuple(round(cell[0]) for cell in table.rows[0].cells if cell)
        tables.append(PageTable(rows, (left, top, right, bottom), edges))
    return tables


def join_tables(tables: dict[int, list[PageTable]]) -> dict[int, list[PageTable]]:
    """The same tables, with their header where one goes on from the page before.

    It goes on where the last table of a page and the first of the next have columns at the same
    places and the lower one's first row is no header; a header that is repeated stays once.
    """
    joined: dict[int, list[PageTable]] = {}
    for number in sorted(tables):
        some = [*tables[number]]
        before = joined.get(number - 1, [])
        if some and before and _goes_on(before[-1], some[0]):
            some[0] = replace(some[0], rows=[before[-1].rows[0], *some[0].rows])
        joined[number] = some
    return joined


def with_words(table: PageTable, shown: Set[str]) -> PageTable:
    """The table with those words alone that are seen on the page."""
    rows = [
        [" ".join(word for word in cell.split() if word in shown) for cell in row]
        for row in table.rows
    ]
    return replace(table, rows=rows)


def _goes_on(upper: PageTable, lower: PageTable) -> bool:
    if len(upper.edges) != len(lower.edges):
        return False
    aligned = all(abs(a - b) <= 2 for a, b in zip(upper.edges, lower.edges, strict=True))
    return aligned and lower.rows[0] != upper.rows[0] and not _is_header(lower.rows)


def _is_header(rows: Rows) -> bool:
    """Whether the first row names columns: no numbers in it, and some below."""
    digits = [any(letter.isdigit() for cell in row for letter in cell) for row in rows[:2]]
    return len(digits) == 2 and not digits[0] and digits[1] and all(rows[0])
