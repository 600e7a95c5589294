"""The shift report as PDF, for who prints it: from its Markdown, so that both say the same.

Only the marks that our own template writes mean anything: ``#``, ``##``, ``- ``, ``**name**`` at a
line's beginning. All else is text, whoever wrote it.
"""

import re
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from matplotlib import get_data_path
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase.pdfmetrics import registerFont, registerFontFamily
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate

from assistant.facts.fact import plural

_PLAIN, _BOLD = "DejaVuSans", "DejaVuSans-Bold"
_LINE = re.compile(r"(?P<mark># |## |- )?(?:\*\*(?P<strong>.+?)\*\*)?(?P<text>.*)")
_ESCAPED = re.compile(r"\\([\\`*_\[\]<>#|!])")  # as ``shift`` escapes names
_LACKING = "\N{REPLACEMENT CHARACTER}"


def render_pdf(markdown: str) -> bytes:
    """A shift report as PDF, A4, with page numbers.

    Args:
        markdown: as ``make_report`` has it.

    Returns:
        The same bytes for the same report. Characters that the font lacks are replaced, counted and
        said at the end.
    """
    known = _register_fonts()
    lacking = sum(ord(one) not in known for one in markdown if one.isprintable())
    shown = "".join(one if ord(one) in known or one == "\n" else _LACKING for one in markdown)
    if lacking:
        shown += (
            f"\n\n{lacking:,} {plural(lacking, 'character')} that this font lacks stand as {_LACKING}; "
            "the Markdown report has them.\n"
        )
    whole = BytesIO()
    document = SimpleDocTemplate(
        whole, pagesize=A4, leftMargin=20 * mm, rightMargin=20 * mm, topMargin=18 * mm,
        bottomMargin=18 * mm, title="Shift report", author="faultwise", invariant=1,
    )  # fmt: skip
    document.build(
        [_make_paragraph(one) for one in _join_lines(shown)],
        onFirstPage=_number_page,
        onLaterPages=_number_page,
    )
    return whole.getvalue()


@cache
def _register_fonts() -> frozenset[int]:
    """Make DejaVu known, which matplotlib ships; the characters that it has."""
    folder = Path(get_data_path()) / "fonts" / "ttf"
    for name in (_PLAIN, _BOLD):
        registerFont(TTFont(name, folder / f"{name}.ttf"))
    registerFontFamily(_PLAIN, normal=_PLAIN, bold=_BOLD, italic=_PLAIN, boldItalic=_BOLD)
    faces = [TTFont(name, folder / f"{name}.ttf").face.charToGlyph for name in (_PLAIN, _BOLD)]
    return frozenset(faces[0]) & frozenset(faces[1])


def _join_lines(markdown: str) -> list[str]:
    """Paragraphs: a line that is indented goes on with the one before."""
    joined: list[str] = []
    for line in markdown.splitlines():
        if line.startswith("  ") and joined:
            joined[-1] += f" {line.strip()}"
        elif line.strip():
            joined.append(line)
    return joined


def _make_paragraph(line: str) -> Flowable:
    found = _LINE.fullmatch(line)
    mark, strong, text = (found["mark"] or "", found["strong"], found["text"]) if found else ("", "", line)  # fmt: skip
    words = f"<b>{_unescape(strong)}</b>" if strong else ""
    return Paragraph(
        words + _unescape(text), _style(mark), bulletText="•" if mark == "- " else None
    )


def _unescape(text: str) -> str:
    """The text that Markdown would show, as the words of a paragraph."""
    return escape(_ESCAPED.sub(r"\1", text))


@cache
def _style(mark: str) -> ParagraphStyle:
    sizes = {"# ": 17, "## ": 12.5}
    size = sizes.get(mark, 9.5)
    bullet: dict[str, Any] = (
        {"leftIndent": 4 * mm, "bulletFontName": _PLAIN} if mark == "- " else {}
    )
    return ParagraphStyle(
        mark or "text", fontName=_BOLD if mark in sizes else _PLAIN, fontSize=size, leading=size * 1.4,
        spaceBefore=4 * mm if mark == "## " else 0, spaceAfter=1.5 * mm, keepWithNext=mark in sizes,
        **bullet,
    )  # fmt: skip


def _number_page(canvas: Any, document: Any) -> None:
    canvas.setFont(_PLAIN, 8)
    canvas.drawRightString(A4[0] - 20 * mm, 10 * mm, f"page {document.page}")
