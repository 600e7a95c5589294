"""The shift report's Markdown, line by line, and as HTML for the page.

Only the marks that our own template writes mean anything: ``#``, ``##``, ``- ``, ``**name**`` at a
line's beginning. All else is text, whoever wrote it.
"""

import re
from dataclasses import dataclass
from itertools import groupby

from assistant.app.views.markup import safe

_LINE = re.compile(r"(?P<mark># |## |- )?(?:\*\*(?P<strong>.+?)\*\*)?(?P<text>.*)")
_ESCAPED = re.compile(r"\\([\\`*_\[\]<>#|!])")  # as ``shift`` escapes names
_TAGS = {"# ": "h2", "## ": "h3", "- ": "li"}


@dataclass(frozen=True)
class ReportLine:
    """A headline (``# ``, ``## ``), an entry (``- ``) or a paragraph (""), its beginning ``strong``."""

    mark: str
    strong: str
    text: str


def read_lines(markdown: str) -> list[ReportLine]:
    """The lines as Markdown shows them; one that is indented goes on with the one before.

    >>> read_lines("- **plc\\\\_1**: silent.\\n  Check it.")
    [ReportLine(mark='- ', strong='plc_1', text=': silent. Check it.')]
    """
    joined: list[str] = []
    for line in markdown.splitlines():
        if line.startswith("  ") and joined:
            joined[-1] += f" {line.strip()}"
        elif line.strip():
            joined.append(line)
    return [_read_line(one) for one in joined]


def _read_line(line: str) -> ReportLine:
    found = _LINE.fullmatch(line)
    if found is None:
        return ReportLine("", "", line)
    parts = (_ESCAPED.sub(r"\1", found[name] or "") for name in ("strong", "text"))
    return ReportLine(found["mark"] or "", *parts)


def render_report(markdown: str) -> str:
    """A report as HTML: headlines, entries and paragraphs.

    >>> render_report("## Over\\n\\n- **<b>**: back.")
    '<div class="panel report"><h3>Over</h3><ul><li><strong>&lt;b&gt;</strong>: back.</li></ul></div>'
    """
    parts = []
    for mark, lines in groupby(read_lines(markdown), key=lambda one: one.mark):
        tag = _TAGS.get(mark, "p")
        inner = "".join(f"<{tag}>{_words(one)}</{tag}>" for one in lines)
        parts.append(f"<ul>{inner}</ul>" if tag == "li" else inner)
    return f'<div class="panel report">{"".join(parts)}</div>'


def _words(line: ReportLine) -> str:
    strong = f"<strong>{safe(line.strong)}</strong>" if line.strong else ""
    return strong + safe(line.text)
