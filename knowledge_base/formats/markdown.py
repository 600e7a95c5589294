"""Markdown, cut at its headings."""

import re

from knowledge_base.formats.sections import Outline, Section

_HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*\s*$")
_FENCE = re.compile(r"^\s*(```|~~~)")


def read_markdown(text: str) -> list[Section]:
    """Split Markdown at its ``#`` headings; the first level-1 heading is the document's title and
    not in the paths."""
    outline = Outline()
    fenced = titled = False
    for line in text.splitlines():
        fenced ^= bool(_FENCE.match(line))
        heading = None if fenced else _HEADING.match(line)
        if not heading:
            outline.add_text(line)
        elif len(heading[1]) == 1 and not titled:
            titled = True
        else:
            outline.add_heading(len(heading[1]), heading[2])
    return outline.sections()
