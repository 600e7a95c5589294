"""Cut documents into chunks: what is embedded, ranked and cited.

A chunk stays inside one section and holds whole paragraphs, whole steps of a list and whole rows of
a table: half a step is a wrong instruction. Tables are kept whole where they fit, because a register
map without its header row says nothing; a longer table is cut between rows and each part repeats
the header. Only a paragraph or step that is longer than a chunk is cut, between sentences. A page of a
PDF is cut at the numbered headings on it, and each part stands under its own.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from knowledge_base.documents import Document, Kind
from knowledge_base.formats import Section

CHUNK_CHARS = 900  # MiniLM reads 256 word pieces, about this many characters of technical English
TABLE_CHARS = 1500  # beyond it the head of a table says more about a row than the rows between them
_TABLE = re.compile(r"(?:^\|.*\|[ \t]*(?:\n|\Z))+", re.MULTILINE)
# A numbered heading on a line of its own: "3.4 RS-485 port". One number alone may be a row of a table
# ("1 Reverse"), so it must follow the chapter before it.
_NUMBERED = re.compile(r"(\d{1,2})((?:\.\d{1,2}){0,3})\.?\s+([^\W\d_][^|]{1,70})")
_STEP = re.compile(r"(?:[-*+•]|\(?\w{1,3}[.)])\s")


@dataclass(frozen=True)
class Chunk:
    """A citable piece of a document.

    Attributes:
        id: as ``chunk_id`` makes it.
        document: the title.
        section: the headings above it, joined by " › ".
        page: counts from 1 where there are pages.
        text: what is cited.
        kind: that of the document.
        start, end: its characters in the text of its section, or of its page: from, before. The
            header that a part of a table repeats lies before them.
    """

    id: str
    document: str
    section: str
    page: int | None
    text: str
    kind: Kind
    start: int = 0
    end: int = 0

    @property
    def context(self) -> str:
        """The text under its headings, as it is embedded and indexed: the words of a heading belong
        to every part."""
        return f"{self.document} › {self.section}\n{self.text}"


def chunk_id(document: str, section: str, page: int | None, text: str) -> str:
    """The id of a chunk is the hash of what it says and where, so that an unchanged passage keeps
    its id."""
    content = "\x00".join([document, section, str(page or ""), text])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def make_chunks(document: Document) -> list[Chunk]:
    """Cut a document into chunks of about ``CHUNK_CHARS`` characters, in reading order, equal ones
    once.

        >>> from knowledge_base.documents import Document
        >>> from knowledge_base.formats.sections import Section
        >>> manual = Document("doc-1", "Pump", "pump.md", "manual", (Section(("Ports",), "Modbus on 502."),))
        >>> [(chunk.section, chunk.text) for chunk in make_chunks(manual)]
        [('Ports', 'Modbus on 502.')]
    """
    chunks: dict[str, Chunk] = {}
    for section, offset in _split_pages(document.sections):
        name = " › ".join(section.path) or document.title
        letters, at = _Letters(section.text), 0
        for text in _cut(section):
            identity = chunk_id(document.title, name, section.page, text)
            begin, at = letters.find(text, at)
            start, end = letters.span(begin, at)
            chunks.setdefault(
                identity,
                Chunk(
                    identity,
                    document.title,
                    name,
                    section.page,
                    text,
                    document.kind,
                    offset + start,
                    offset + end,
                ),
            )
    return list(chunks.values())


class _Letters:
    """A section's text without white space, which cutting changes."""

    def __init__(self, text: str) -> None:
        self._places = [at for at, letter in enumerate(text) if not letter.isspace()]
        self._text = "".join(text.split())

    def find(self, text: str, after: int) -> tuple[int, int]:
        """Where a chunk stands at the letter ``after`` or behind it: from, before, in letters.

        It is looked for in parts, since the header of a table is repeated before later rows.
        """
        begin, at = None, after
        for part in re.split(r"\n{2,}", text):
            whole = "".join(part.split())
            rows = "".join("".join(part.split("\n")[2:]).split()) if part.startswith("|") else ""
            for letters in filter(None, (whole, rows)):
                found = self._text.find(letters, at)
                if found >= 0:
                    begin = found if begin is None else begin
                    at = found + len(letters)
                    break
        return after if begin is None else begin, at

    def span(self, begin: int, end: int) -> tuple[int, int]:
        """The characters of some letters: from, before."""
        if begin == end:
            at = self._places[begin] if begin < len(self._places) else 0
            return at, at
        return self._places[begin], self._places[end - 1] + 1


def _split_pages(sections: Sequence[Section]) -> Iterator[tuple[Section, int]]:
    """Cut pages at their numbered headings; other sections stay as they are. With each stands
    where it begins in the text that it was cut from.

    A heading holds until the next one, over the end of its page; its own line stays in the text.
    """
    chapter, inside = 0, tuple[str, ...]()
    for section in sections:
        if section.page is None or section.path != (f"page {section.page}",):
            yield section, 0
            continue
        parts: list[tuple[tuple[str, ...], list[str]]] = [(inside, [])]
        bare = False  # whether the last part is nothing but headings
        for line in section.text.split("\n"):
            heading = _NUMBERED.fullmatch(line.strip())
            if not heading or not _is_next(heading, chapter):
                parts[-1][1].append(line)
                bare &= not line.strip()
                continue
            number = int(heading[1])
            above = inside[:1] if heading[2] and number == chapter else ()
            chapter, inside = number, (*above, heading[0])
            before = parts.pop()[1] if bare else []
            parts.append((inside, [*before, line]))
            bare = True
        if bare and len(parts) > 1:  # the end of the page: what it heads stands on the next
            parts[-2][1].extend(parts.pop()[1])
        at = 0
        for path, lines in parts:
            text = "\n".join(lines)
            if lines and text.strip():
                yield Section((*section.path, *path), text, section.page), at
            at += len(text) + 1 if lines else 0


def _is_next(heading: re.Match[str], chapter: int) -> bool:
    """Whether a line that looks like a heading is one: it begins large, ends without a mark, and
    its number goes on from the chapter before it."""
    words = heading[3]
    ends = not words.rstrip().endswith((".", ",", ";", ":"))
    follows = int(heading[1]) - chapter in ((0, 1) if heading[2] else (1,))
    return words[0].isupper() and ends and follows


def _cut(section: Section) -> list[str]:
    """Pack a section's blocks (tables, and prose between them) into chunks."""
    packed: list[str] = []
    for block in _blocks(section.text):
        limit = TABLE_CHARS if block.startswith("|") else CHUNK_CHARS
        if packed and len(packed[-1]) + 2 + len(block) <= limit:
            packed[-1] += "\n\n" + block
        else:
            packed.append(block)
    return packed


def _blocks(text: str) -> list[str]:
    blocks: list[str] = []
    end = 0
    for table in _TABLE.finditer(text):
        blocks += [*_cut_prose(text[end : table.start()]), *_cut_table(table[0].strip())]
        end = table.end()
    return [*blocks, *_cut_prose(text[end:])]


def _cut_prose(text: str) -> list[str]:
    """Pack paragraphs and steps into parts; none is cut but one that is longer than a part."""
    return [part for part in map(str.strip, _pack(_units(text.strip("\n")))) if part]


def _pack(units: list[str]) -> list[str]:
    parts: list[str] = []
    for unit in units:
        if parts and len(parts[-1]) + len(unit) <= CHUNK_CHARS:
            parts[-1] += unit
        elif len(unit) <= CHUNK_CHARS:
            parts.append(unit)
        else:
            parts += _cut_unit(unit)
    return parts


def _cut_unit(unit: str) -> list[str]:
    """Cut what is too long where units stand inside it (rows of a table, steps of a step), else
    between sentences."""
    inner = re.search(r"(?<=\n)(?=[ \t]+\S)", unit)
    if inner and len(units := _units(unit[inner.start() :])) > 1:
        return _pack([unit[: inner.start()], *units])
    return _cut_sentences(unit)


def _units(text: str) -> list[str]:
    """Paragraphs and the steps of lists, each with the white space behind it; they join to the
    text.

    What stands further in than the first line of a unit belongs to it: the other cells of a row,
    the lines of an example, a step's own list.
    """
    units: list[str] = []
    indent, blank = 0, False
    for line in text.splitlines(keepends=True):
        bare = line.lstrip()
        inside = len(line) - len(bare) > indent or not bare
        if units and (inside or not (blank or _STEP.match(bare))):
            units[-1] += line
        else:
            units.append(line)
            indent = len(line) - len(bare)
        blank = not bare
    return units


def _cut_sentences(unit: str) -> list[str]:
    # Imported here: langchain-core takes 0.15 s, which only adding a document should wait for.
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    splitter = RecursiveCharacterTextSplitter(
        separators=["\n\n", "\n", ". ", " ", ""],
        keep_separator="end",
        chunk_size=CHUNK_CHARS,
        chunk_overlap=0,
    )
    return splitter.split_text(unit.strip())


def _cut_table(table: str) -> list[str]:
    """Cut a table longer than ``TABLE_CHARS`` between rows; every part begins with the header."""
    if len(table) <= TABLE_CHARS:
        return [table]
    lines = table.split("\n")
    head, rows = lines[:2], lines[2:]
    parts: list[list[str]] = [[]]
    for row in rows:
        if parts[-1] and sum(map(len, [*head, *parts[-1], row])) > CHUNK_CHARS:
            parts.append([])
        parts[-1].append(row)
    return ["\n".join([*head, *part]) for part in parts]
