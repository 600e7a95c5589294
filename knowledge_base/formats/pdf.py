"""PDF: the text of each page under its headings, ruled tables as rows with their header.

pdfium reads text and what is drawn, 1 ms a page; pdfplumber finds the cells of tables, on the pages
where lines are ruled across and down only, at 50 ms. A page's text is what a person sees: letters without ink, as
white as the paper, too small to read or beside the page are left out and counted.
"""

import ctypes
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from knowledge_base.formats.pdf_tables import (
    Drawn,
    PageTable,
    join_tables,
    may_hold_table,
    read_tables,
    with_words,
)
from knowledge_base.formats.sections import Content, Outline, Section, render_cells
from traffic.errors import UserError

MAX_PAGES = 20_000
_HEAD_BYTES = 1024  # readers look for "%PDF" that far
_TALLER = 1.15  # a heading, compared with the text
_NUMBERED = re.compile(r"^(\d{1,2}(?:\.\d{1,2}){0,3})\.?\s+[^\W\d_]")
_NO_TITLE = re.compile(r"(?i)^(?:untitled.*|\(?anonymous\)?|microsoft word - .*|document\d*|)$")
_FOOT = 0.1  # share of a page's height


@dataclass(frozen=True)
class Line:
    """A line of a page; ``x``, ``y`` are the middle of its first letter in points from the lower
    left corner, ``size`` the height of its letters."""

    text: str
    x: float
    y: float
    size: float
    bold: bool


@dataclass(frozen=True)
class Page:
    """What pdfium sees of a page: its lines, letters that were left out, whether lines are ruled,
    whether the text lies unseen under a picture, as character recognition leaves it, whether a
    picture covers most of it, and whether nothing but running heads stands on it."""

    lines: tuple[Line, ...]
    height: float
    hidden: int
    ruled: bool
    recognised: bool
    pictured: bool
    blank: bool = False


class Look(NamedTuple):
    """What is drawn on a page: addresses of the text objects that nobody sees; whether lines are
    ruled; whether letters without ink lie on a picture of the whole page; whether there is one."""

    hidden: set[int]
    ruled: bool
    recognised: bool
    pictured: bool


def read_pdf(path: Path) -> Content:
    """Read a PDF; pages without text are named.

    Raises:
        UserError: no PDF, damaged beyond reading, encrypted, or of too many pages.
    """
    # Imported here: a search need not wait for it.
    import pypdfium2

    try:
        book = pypdfium2.PdfDocument(path)
        count = len(book)
    except pypdfium2.PdfiumError as error:
        reason = " ".join(str(error).split())
        with path.open("rb") as file:
            begins = b"%PDF" in file.read(_HEAD_BYTES)
        if "password" in reason.lower():
            said = "it is encrypted); expected an unencrypted PDF; print it anew to PDF"
        elif begins:
            said = f"it is cut short or damaged: {reason}); expected a whole PDF; copy it again"
        else:
            said = (
                "it does not begin as one); expected what its ending says; give it its right ending"
            )
        raise UserError(f"{path} cannot be read as PDF ({said}") from error
    try:
        if count > MAX_PAGES:
            raise UserError(f"{path} has {count} pages; expected at most {MAX_PAGES}; split it")
        pages = [_read_page(book, number) for number in range(count)]
        marks = _bookmarks(book)
        title = (book.get_metadata_dict().get("Title") or "").strip()
    finally:
        book.close()
    ruled = [number for number, page in enumerate(pages) if page.ruled and page.lines]
    tables, failed = read_tables(path, ruled)
    for number in tables:
        if pages[number].hidden:
            shown = {word for line in pages[number].lines for word in line.text.split()}
            tables[number] = [with_words(table, shown) for table in tables[number]]
    pages, heads = _cut_running_heads(pages)
    if _NO_TITLE.match(title):
        title = _largest_line(pages)
    sections = _lay_out(pages, join_tables(tables), marks, title)
    return Content(title, tuple(sections), tuple(_notes(pages, heads, failed)))


def _notes(pages: Sequence[Page], heads: int, failed: Sequence[int]) -> Iterator[str]:
    count = len(pages)
    if empty := [n for n, page in enumerate(pages, 1) if not (page.lines or page.blank)]:
        yield f"no text layer on page {_ranges(empty)} of {count} (a scan?)"
    if under := [n for n, page in enumerate(pages, 1) if page.recognised]:
        yield f"page {_ranges(under)}: text of a character recognition, not seen on the page"
    if hidden := sum(page.hidden for page in pages):
        where = _ranges([n for n, page in enumerate(pages, 1) if page.hidden])
        yield f"{hidden} hidden letters on page {where} were left out (a reader does not see them)"
    if heads:
        yield f"{heads} running heads and page numbers were left out"
    if failed:
        yield f"tables of page {_ranges([n + 1 for n in failed])} could not be read; their text is kept"


def _ranges(numbers: Sequence[int]) -> str:
    """Page numbers in short.

    >>> _ranges([2, 5, 6, 7])
    '2, 5-7'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{a}-{b}" if b > a else f"{a}" for a, b in runs)


# ---- What is on a page ----


def _read_page(book: Any, number: int) -> Page:
    from pypdfium2 import PdfiumError

    try:
        page = book[number]
    except PdfiumError:  # of a file cut short
        return Page((), 0, 0, False, False, False)
    texts = page.get_textpage()
    seen = _look(page)
    lines, count = _lines(texts, seen.hidden)
    found = Page(
        lines, page.get_height(), count, seen.ruled, seen.recognised and bool(lines), seen.pictured
    )
    texts.close()
    page.close()
    return found


def _look(page: Any) -> Look:
    from pypdfium2 import raw

    kinds = (raw.FPDF_PAGEOBJ_TEXT, raw.FPDF_PAGEOBJ_PATH, raw.FPDF_PAGEOBJ_IMAGE)
    objects = [*page.get_objects(filter=kinds)]
    if all(one.type != raw.FPDF_PAGEOBJ_TEXT for one in objects):
        return Look(set(), False, False, True)
    left, bottom, right, top = page.get_bbox()
    whole = max((right - left) * (top - bottom), 1)
    grounds, scanned, paths = [], False, list[Drawn]()
    for one in objects:
        if one.type == raw.FPDF_PAGEOBJ_TEXT:
            continue
        a, b, c, d = one.get_bounds()
        if one.type == raw.FPDF_PAGEOBJ_PATH:
            paths.append(Drawn(a, b, c, d, raw.FPDFPath_CountSegments(one.raw)))
        if one.type == raw.FPDF_PAGEOBJ_IMAGE:
            scanned |= (c - a) * (d - b) > whole / 2
            grounds.append((a, b, c, d))
        elif _is_filled(one, raw):
            grounds.append((a, b, c, d))
    hidden, recognised = set(), False
    for one in objects:
        if one.type != raw.FPDF_PAGEOBJ_TEXT:
            continue
        inkless = raw.FPDFTextObj_GetTextRenderMode(one.raw) in (
            raw.FPDF_TEXTRENDERMODE_INVISIBLE,
            raw.FPDF_TEXTRENDERMODE_CLIP,
        )
        if inkless and scanned:
            recognised = True
        elif inkless or _is_unseen(one, raw, (left, bottom, right, top), grounds):
            hidden.add(ctypes.cast(one.raw, ctypes.c_void_p).value or 0)
    return Look(hidden, may_hold_table(paths), recognised, scanned)


def _colour(one: Any, raw: Any) -> tuple[int, int, int, int]:
    parts = [ctypes.c_uint(0) for _ in range(4)]
    if not raw.FPDFPageObj_GetFillColor(one.raw, *map(ctypes.byref, parts)):
        return 0, 0, 0, 255
    red, green, blue, alpha = (part.value for part in parts)
    return red, green, blue, alpha


def _is_filled(one: Any, raw: Any) -> bool:
    """Whether a path lays a ground that is not white."""
    mode, stroke = ctypes.c_int(0), ctypes.c_int(0)
    raw.FPDFPath_GetDrawMode(one.raw, ctypes.byref(mode), ctypes.byref(stroke))
    red, green, blue, alpha = _colour(one, raw)
    return mode.value != 0 and alpha > 0 and min(red, green, blue) < _PAPER


_PAPER = 245  # of 255: nobody reads lighter letters on white
_SMALLEST_PT = 2.0


def _is_unseen(one: Any, raw: Any, page: tuple[float, ...], grounds: Sequence[Any]) -> bool:
    red, green, blue, alpha = _colour(one, raw)
    if alpha == 0:
        return True
    size = ctypes.c_float(0)
    raw.FPDFTextObj_GetFontSize(one.raw, ctypes.byref(size))
    matrix = one.get_matrix()
    if 0 < size.value * (matrix.c**2 + matrix.d**2) ** 0.5 < _SMALLEST_PT and one.level == 0:
        return True
    if one.level > 0:
        return False  # placed by a form, whose own place is not known here
    left, bottom, right, top = one.get_bounds()
    x, y = (left + right) / 2, (bottom + top) / 2
    if not (page[0] <= x <= page[2] and page[1] <= y <= page[3]):
        return True
    on_ground = any(a <= x <= c and b <= y <= d for a, b, c, d in grounds)
    return min(red, green, blue) >= _PAPER and not on_ground


def _lines(texts: Any, hidden: set[int]) -> tuple[tuple[Line, ...], int]:
    """The lines of a page in reading order without the hidden letters, and how many these are."""
    from pypdfium2 import raw

    count = texts.count_chars()
    text = texts.get_text_range() if count > 0 else ""
    if len(text) != count:  # letters beyond 16 bits count twice there
        text = "".join(chr(raw.FPDFText_GetUnicode(texts.raw, i) or 32) for i in range(count))
    kept = [True] * count
    if hidden:
        for i in range(count):
            owner = ctypes.cast(raw.FPDFText_GetTextObject(texts.raw, i), ctypes.c_void_p).value
            kept[i] = owner not in hidden
    lines, start, broken = [], 0, ""
    for end in [*(i for i, letter in enumerate(text) if letter == "\n"), count]:
        shown = [i for i in range(start, end) if kept[i]]
        line = broken + "".join(text[i] for i in shown).strip("\r\n ")
        broken = ""
        first = next((i for i in shown if not text[i].isspace()), None)
        if first is not None and line.endswith(("\ufffe", "\x02")):
            broken = line[:-1]  # a word goes on in the next line
        elif first is not None:
            lines.append(_measure(texts, raw, first, line))
        start = end + 1
    if broken:
        lines.append(Line(broken, 0, 0, 0, False))
    gone = sum(not one and not text[i].isspace() for i, one in enumerate(kept))
    return tuple(lines), gone


def _measure(texts: Any, raw: Any, first: int, line: str) -> Line:
    box = raw.FS_RECTF()
    raw.FPDFText_GetLooseCharBox(texts.raw, first, ctypes.byref(box))
    name, flags = ctypes.create_string_buffer(128), ctypes.c_int(0)
    raw.FPDFText_GetFontInfo(texts.raw, first, name, 128, ctypes.byref(flags))
    bold = b"bold" in name.value.lower() or raw.FPDFText_GetFontWeight(texts.raw, first) >= 600
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    return Line(line, x, y, round(abs(box.top - box.bottom), 1), bold)


# ---- Lines to sections ----


def _cut_running_heads(pages: list[Page]) -> tuple[list[Page], int]:
    """Pages without the lines that stand at the head or foot of most, and how many these were."""
    counted = Counter(key for page in pages for key in {_shape(line) for line in _edges(page)})
    running = {key for key, times in counted.items() if times >= max(3, len(pages) / 2)}
    cut, gone = [], 0
    for page in pages:
        edges = {id(line) for line in _edges(page) if _shape(line) in running}
        gone += len(edges)
        kept = tuple(one for one in page.lines if id(one) not in edges)
        cut.append(
            replace(page, lines=kept, blank=bool(page.lines) and not kept and not page.pictured)
        )
    return cut, gone


def _edges(page: Page) -> Sequence[Line]:
    """The lines in the upper and lower tenth."""
    return [line for line in page.lines if not _FOOT < line.y / page.height < 1 - _FOOT]


def _shape(line: Line) -> str:
    return re.sub(r"\d+", "#", line.text)


def _largest_line(pages: Sequence[Page]) -> str:
    lines = next((page.lines for page in pages if page.lines), ())
    best = max(lines, key=lambda line: line.size, default=None)
    return best.text if best and len(best.text) <= 100 else ""


def _bookmarks(book: Any) -> dict[int, dict[str, int]]:
    """The headings that the PDF's own outline names, by page: normalised text to level."""
    marks: dict[int, dict[str, int]] = {}
    for item in book.get_toc():
        target = item.get_dest()
        page = target.get_index() if target else None
        if page is not None:
            marks.setdefault(page, {})[_plain(item.get_title())] = item.level + 1
    return marks


def _plain(text: str) -> str:
    return re.sub(r"\W+", "", text).lower()


def _lay_out(
    pages: Sequence[Page],
    tables: dict[int, list[PageTable]],
    marks: dict[int, dict[str, int]],
    title: str,
) -> list[Section]:
    """One section for each page and heading."""
    levels = _heading_levels(pages)
    sections: list[Section] = []
    path: list[tuple[int, str]] = []
    level: int | None
    for number, page in enumerate(pages):
        outline = Outline()
        for level, heading in path:  # they go on from the page before
            outline.add_heading(level, heading)
        known, last = marks.get(number, {}), -1
        for at, item in enumerate(_with_tables(page, tables.get(number, []))):
            if isinstance(item, PageTable):
                outline.add_text(f"\n{render_cells(item.rows)}\n")
                continue
            own = known.get(_plain(item.text))
            level = own if marks else levels.get((number, id(item)))
            if level is None or (_plain(item.text) == _plain(title) and not path):
                outline.add_text(item.text)
            elif not marks and path and at == last + 1 and path[-1][0] == level and _goes_on(item):
                path[-1] = (level, f"{path[-1][1]} {item.text}")  # a heading of two lines
                outline.add_heading(*path[-1])
                last = at
            else:
                path = [*(above for above in path if above[0] < level), (level, item.text)]
                outline.add_heading(level, item.text)
                last = at
        for section in outline.sections():
            where = section.path or (f"page {number + 1}",)
            sections.append(Section(where, section.text, number + 1))
    return sections


def _goes_on(line: Line) -> bool:
    return not _NUMBERED.match(line.text)


def _heading_levels(pages: Sequence[Page]) -> dict[tuple[int, int], int]:
    """The level of each line that looks like a heading, by page and line: by its number, else by the
    order of sizes."""
    lines = [(number, line) for number, page in enumerate(pages) for line in page.lines]
    letters: Counter[float] = Counter()
    for _, line in lines:
        letters[line.size] += len(line.text)
    if not letters:
        return {}
    body = letters.most_common(1)[0][0]
    # At the foot of a page stands what runs through a chapter, in letters of the text; a heading
    # there is larger, and what it heads stands on the next page.
    found = [
        (n, line)
        for n, line in lines
        if _is_heading(line, body)
        and (line.y > _FOOT * pages[n].height or line.size >= _TALLER * body)
    ]
    if len(found) > 0.4 * len(lines):
        return {}  # a slide or a form: size says nothing there
    sizes = sorted({line.size for _, line in found if not _NUMBERED.match(line.text)}, reverse=True)
    levels = {}
    for number, line in found:
        numbered = _NUMBERED.match(line.text)
        level = 1 + numbered[1].count(".") if numbered else 1 + sizes.index(line.size)
        levels[number, id(line)] = level
    return levels


def _is_heading(line: Line, body: float) -> bool:
    if len(line.text) > 100 or not re.search(r"[^\W\d_]{2}", line.text):
        return False
    if _NUMBERED.match(line.text) and line.text.endswith((".", ";", ",")):
        return False  # a step of a list, whose number is printed large: it heads nothing
    numbered = line.bold and line.size > 0.95 * body and _NUMBERED.match(line.text)
    return line.size >= _TALLER * body or bool(numbered)


def _with_tables(page: Page, tables: Sequence[PageTable]) -> Iterator[Line | PageTable]:
    """The lines of a page, each table in the place of the lines it holds."""
    given: set[int] = set()
    for line in page.lines:
        held = next((n for n, table in enumerate(tables) if _holds(table, line, page)), None)
        if held is None:
            yield line
        elif held not in given:
            given.add(held)
            yield tables[held]
    yield from (table for n, table in enumerate(tables) if n not in given)


def _holds(table: PageTable, line: Line, page: Page) -> bool:
    """Whether a line lies in a table, and the table has its words: nothing is dropped that is not
    there."""
    left, top, right, bottom = table.box
    inside = left <= line.x <= right and top <= page.height - line.y <= bottom
    return inside and {*line.text.split()} <= table.words
