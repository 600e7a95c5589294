"""The shift report as PDF, for who prints it: from its Markdown, so that both say the same."""

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

from assistant.app.views.report_lines import ReportLine, read_lines
from assistant.facts.fact import plural

_PLAIN, _BOLD = "DejaVuSans", "DejaVuSans-Bold"
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
        [_make_paragraph(one) for one in read_lines(shown)],
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


def _make_paragraph(line: ReportLine) -> Flowable:
    words = f"<b>{escape(line.strong)}</b>" if line.strong else ""
    bullet = "•" if line.mark == "- " else None
    return Paragraph(words + escape(line.text), _style(line.mark), bulletText=bullet)


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
