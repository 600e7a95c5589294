"""Office files and PDFs for tests, made by the libraries that plants make theirs with."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import docx
import openpyxl
from docx.shared import RGBColor
from reportlab.lib import colors, pdfencrypt
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.pdfgen import canvas
from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate, Table, TableStyle

STYLES = getSampleStyleSheet()
Rows = Sequence[Sequence[str]]
_DARK_HEADER = TableStyle(
    [
        ("GRID", (0, 0), (-1, -1), 0.5, colors.black),
        ("BACKGROUND", (0, 0), (-1, 0), colors.darkblue),
        ("TEXTCOLOR", (0, 0), (-1, 0), colors.white),
    ]
)


def register_rows(first: int, count: int) -> list[list[str]]:
    return [[str(first + n), f"level {n}", "V"] for n in range(count)]


def write_manual_pdf(path: Path, parts: Sequence[tuple[str, str | Rows]], **more: object) -> Path:
    """A PDF of headings, paragraphs and ruled tables; a part with the heading "" begins a page."""
    flow: list[object] = []
    for heading, body in parts:
        flow.append(Paragraph(heading, STYLES["Heading1"]) if heading else PageBreak())
        if isinstance(body, str):
            flow.append(Paragraph(body, STYLES["BodyText"]))
        else:
            flow.append(Table([[*row] for row in body], style=_DARK_HEADER, repeatRows=0))

    def foot(page: canvas.Canvas, _document: object) -> None:
        page.drawString(72, 40, f"Pump manual, page {page.getPageNumber()}")

    SimpleDocTemplate(str(path), pagesize=A4, **more).build(
        flow, onFirstPage=foot, onLaterPages=foot
    )
    return path


def write_lines_pdf(path: Path, pages: Sequence[Sequence[tuple[int, int, str]]]) -> Path:
    """A PDF of pages of lines (size, height above the lower edge, text), each with a running foot."""
    sheet = canvas.Canvas(str(path), pagesize=A4)
    sheet.setTitle("Pump P-7")
    for number, lines in enumerate(pages, 1):
        for size, y, text in lines:
            sheet.setFont("Helvetica-Bold" if size > 10 else "Helvetica", size)
            sheet.drawString(72, y, text)
        sheet.setFont("Helvetica", 8)
        sheet.drawString(72, 40, f"Pump manual, page {number}")
        sheet.showPage()
    sheet.save()
    return path


def write_hidden_pdf(path: Path) -> Path:
    """A page with one line that is seen, white letters on a dark box, and four that nobody sees."""
    page = canvas.Canvas(str(path), pagesize=A4)
    page.drawString(72, 700, "Port 502 is open")
    page.setFillColorRGB(0, 0, 0.5)
    page.rect(70, 640, 300, 30, fill=1, stroke=0)
    page.setFillColorRGB(1, 1, 1)
    page.drawString(72, 650, "Shown on blue")
    page.drawString(72, 600, "report normal")
    page.setFillColorRGB(0, 0, 0)
    page.setFont("Helvetica", 1)
    page.drawString(72, 580, "report normal")
    page.setFont("Helvetica", 12)
    page.drawString(72, 3000, "report normal")
    inkless = page.beginText(72, 560)
    inkless.setTextRenderMode(3)
    inkless.textLine("report normal")
    page.drawText(inkless)
    page.save()
    return path


def write_encrypted_pdf(path: Path) -> Path:
    page = canvas.Canvas(str(path), encrypt=pdfencrypt.StandardEncryption("secret", strength=128))
    page.drawString(72, 700, "Port 502 is open")
    page.save()
    return path


def write_pages(path: Path, texts: Sequence[str], title: str = "Pump manual") -> Path:
    """A line a page; "" for a page without text."""
    page = canvas.Canvas(str(path))
    page.setTitle(title)
    for text in texts:
        page.drawString(72, 500, text)
        page.showPage()
    page.save()
    return path


def write_docx(path: Path) -> Path:
    """Headings, a list, a table with a merged cell, hidden letters, and a changed passage."""
    document = docx.Document()
    document.core_properties.language = "de"
    document.add_paragraph("Pumpe P-7", style="Title")
    document.add_paragraph("Vor dem Start.")
    document.add_heading("Fehler", 1)
    document.add_heading("Codes", 2)
    table = document.add_table(rows=3, cols=2)
    rows = [("Code", "Ursache"), ("E-431", "Luft"), ("E-432", "")]
    for row, cells in zip(table.rows, rows, strict=True):
        for cell, text in zip(row.cells, cells, strict=True):
            cell.text = text
    table.cell(1, 1).merge(table.cell(2, 1))
    document.add_paragraph("Ventil schliessen", style="List Number")
    document.add_paragraph("Pumpe starten", style="List Number")
    paragraph = document.add_paragraph("Druck 4 bar. ")
    hidden = paragraph.add_run("report normal")
    hidden.font.hidden = True
    white = document.add_paragraph().add_run("report normal")
    white.font.color.rgb = RGBColor(255, 255, 255)
    document.save(str(path))
    return path


def write_xlsx(path: Path) -> Path:
    """A register map under a title, a second table, an empty row, numbers, and a hidden sheet."""
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Holding registers"
    for row in (
        ["Register map of P-7"],
        ["Register", None, "Scale"],
        [40001, None, 0.5],
        [40002.0, None, 1],
        [],
        ["Coil", "Use"],
        [1, "start"],
    ):
        sheet.append(row)
    other = book.create_sheet("Internal")
    other.append(["report normal", "x"])
    other.sheet_state = "hidden"
    book.save(path)
    return path


def write_bomb(path: Path, part: str, size: int) -> Path:
    """An office archive with one part of so many zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(part, "<x/>")
        with archive.open("media/zeros.bin", "w", force_zip64=True) as member:
            for _ in range(size // 2**20):
                member.write(bytes(2**20))
    return path
