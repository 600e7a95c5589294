"""Sections: what every format is cut into, and tables as every format writes them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """A piece of a document under one heading; ``path`` is empty before the first heading, ``page``
    counts from 1."""

    path: tuple[str, ...]
    text: str
    page: int | None = None


@dataclass(frozen=True)
class Content:
    """What a file holds.

    Attributes:
        title: its own, "" where it has none.
        sections: in reading order.
        notes: one sentence for each thing that was left out or assumed.
        language: as the file says it ("en", "de-CH"), "" where it does not.
    """

    title: str
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()
    language: str = ""


class Outline:
    """Lines under headings as they come, each heading with its level."""

    def __init__(self) -> None:
        """Begin before the first heading."""
        self._path: list[tuple[int, str]] = []  # (level, heading), outermost first
        self._pieces: list[tuple[tuple[str, ...], list[str]]] = [((), [])]

    def add_heading(self, level: int, text: str) -> None:
        """What follows stands under this heading."""
        self._path = [*(above for above in self._path if above[0] < level), (level, text)]
        self._pieces.append((tuple(name for _, name in self._path), []))

    def add_text(self, text: str) -> None:
        """Add a line, a paragraph or a table."""
        self._pieces[-1][1].append(text)

    def sections(self, between: str = "\n") -> list[Section]:
        """The sections with text; a heading with nothing under it is none."""
        joined = ((path, between.join(lines).strip()) for path, lines in self._pieces)
        return [Section(path, text) for path, text in joined if text]


def render_table(header: list[str], rows: list[list[str]]) -> str:
    """Write a Markdown table; bars inside cells are escaped, short rows are filled."""
    cells = [
        [cell.strip().replace("|", "\\|") for cell in row] + [""] * (len(header) - len(row))
        for row in rows
    ]
    lines = ["| " + " | ".join(row) + " |" for row in [[cell.strip() for cell in header], *cells]]
    return "\n".join([lines[0], "|" + " --- |" * len(header), *lines[1:]])


def render_cells(rows: list[list[str]]) -> str:
    """Write rows, the first of which is the header, as a Markdown table: line breaks within cells
    become spaces, empty rows and columns are left out. "" for nothing.

    >>> print(render_cells([["Register", "", "Unit"], ["40001", "", "V"], ["", "", ""]]))
    | Register | Unit |
    | --- | --- |
    | 40001 | V |
    """
    flat = [[" ".join(cell.split()) for cell in row] for row in rows]
    flat = [row for row in flat if any(row)]
    width = max((len(row) for row in flat), default=0)
    flat = [row + [""] * (width - len(row)) for row in flat]
    used = [column for column in range(width) if any(row[column] for row in flat)]
    kept = [[row[column] for column in used] for row in flat]
    return render_table([cell.replace("|", "\\|") for cell in kept[0]], kept[1:]) if kept else ""
