"""reStructuredText, cut at its underlined headings; its list tables become rows under their header.

Source: docutils, reStructuredText Markup Specification and Directives.
"""

import re

from knowledge_base.formats.sections import Section, render_cells

_UNDERLINE = re.compile(r"^([=\-~^\"'#*+`.:_])\1{2,}\s*$")
_ROLE = re.compile(r":[\w:+-]+:`([^`]*)`")
_NOISE = re.compile(
    r"^\s*(\.\. _[^:]+:.*|\.\. (highlight|contents|image|figure|toctree|index)::.*)$"
)
_LIST_TABLE = re.compile(r"^(\s*)\.\. list-table::\s*(.*)$")
_ROW = re.compile(r"^(\s*)\*\s(.*)$")
_CELL = re.compile(r"^(\s*)[-*+](?:\s(.*)|)$")


def read_restructured(text: str) -> list[Section]:
    """Split reStructuredText at its underlined headings; levels follow the order in which the
    underlines appear.

    Source: docutils, reStructuredText Markup Specification, "Sections".
    """
    lines = [_ROLE.sub(r"\1", line) for line in text.splitlines() if not _NOISE.match(line)]
    lines = _lay_out_tables(lines)
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
    joined = ((path, "\n".join(lines).strip()) for path, lines in pieces)
    return [Section(path, text) for path, text in joined if text]


def _lay_out_tables(lines: list[str]) -> list[str]:
    """The lines with every list table as a Markdown table under its title."""
    out: list[str] = []
    number = 0
    while number < len(lines):
        found = _LIST_TABLE.match(lines[number])
        if not found:
            out.append(lines[number])
            number += 1
            continue
        end = number + 1
        while end < len(lines) and (not lines[end].strip() or _indent(lines[end]) > len(found[1])):
            end += 1
        rows = _rows(lines[number + 1 : end])
        table = render_cells(rows).splitlines() if len(rows) > 1 else lines[number:end]
        out += [found[2], "", *table, ""]
        number = end
    return out


def _rows(lines: list[str]) -> list[list[str]]:
    """The cells of a list table: a row begins with ``*``, a cell with ``-``; both may go on for
    lines."""
    rows: list[list[str]] = []
    at = -1  # where cells begin
    for line in lines:
        row = _ROW.match(line)
        if row and (at < 0 or len(row[1]) < at):
            rows.append([])
            at = len(row[1]) + 2
            line = " " * at + row[2].lstrip()
        cell = _CELL.match(line)
        if cell and len(cell[1]) == at and rows:
            rows[-1].append(cell[2] or "")
        elif rows and rows[-1] and line.strip():
            rows[-1][-1] += " " + line.strip()
    return rows


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
