"""The shift report as PDF: its text, read back by another library, is the Markdown's."""

import io
import re

import pdfplumber
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.app.views.report_pdf import render_pdf
from assistant.app.views.shift import _line, write_report

HOSTILE = '<b>x</b> <img src="file:///etc/passwd"> &amp; [x](http://y) **b** {{a}} # h'
REPORT = f"""# Shift report

line 3, {_line(HOSTILE)}

2026-11-27 06:00 UTC to 2026-11-27 14:00 UTC, for Žaneta Őry Ωδή Жук.

## Going on

- **plc\\_1 (10.0.0.1)**: {_line("does *not* answer.")} (high, active).
  12 of 40 attempts were refused. To do: check the plug.

## Over

Nothing.
"""
GOLDEN = [
    "Shift report",
    f"line 3, {HOSTILE}",
    "2026-11-27 06:00 UTC to 2026-11-27 14:00 UTC, for Žaneta Őry Ωδή Жук.",
    "Going on",
    "• plc_1 (10.0.0.1): does *not* answer. (high, active). 12 of 40 attempts were refused. To do: check the plug.",
    "Over",
    "Nothing.",
    "page 1",
]


def read_back(pdf: bytes) -> str:
    with pdfplumber.open(io.BytesIO(pdf)) as opened:
        return " ".join(" ".join(page.extract_text().split()) for page in opened.pages)


def test_the_text_comes_back_as_it_was_and_the_same_report_gives_the_same_bytes(tmp_path):
    pdf = render_pdf(REPORT)
    assert read_back(pdf) == " ".join(GOLDEN)
    assert pdf == render_pdf(REPORT)
    for never in (b"/URI", b"/Subtype /Image", b"/JavaScript", b"/OpenAction", b"/EmbeddedFile"):
        assert never not in pdf
    with pdfplumber.open(io.BytesIO(pdf)) as opened:
        fonts = {one["fontname"].split("+")[-1] for one in opened.pages[0].chars}
        names = [one["text"] for one in opened.pages[0].chars if one["fontname"].endswith("Bold")]
        assert {obj for page in opened.pages for obj in page.objects} <= {"char"}
    assert fonts == {"DejaVuSans", "DejaVuSans-Bold"}
    assert "plc_1(10.0.0.1)" in "".join(names).replace(" ", "")
    one, two = (write_report(text, tmp_path) for text in (REPORT, "# Other\n"))
    assert one.pdf.read_bytes() == pdf
    assert one.markdown.read_text(encoding="utf-8") == REPORT
    assert read_back(two.pdf.read_bytes()) == "Other page 1"


@pytest.mark.parametrize(
    ("text", "count"), [("泵站 pump", "2 characters"), ("plain", ""), ("\N{PILE OF POO}", "1 character")]
)  # fmt: skip
def test_what_the_font_lacks_is_counted_and_said(text, count):
    shown = read_back(render_pdf(f"# Shift report\n\n{text}\n"))
    assert ("that this font lacks" in shown) is bool(count)
    assert count in shown
    assert ("\N{REPLACEMENT CHARACTER}" in shown) is bool(count)


def test_a_long_report_has_pages_with_numbers():
    pdf = render_pdf("# Shift report\n\n" + "- **plc-1**: it does not answer.\n" * 200)
    with pdfplumber.open(io.BytesIO(pdf)) as opened:
        last = [page.extract_text().split("\n")[-1] for page in opened.pages]
    assert len(last) > 2
    assert last == [f"page {n}" for n in range(1, len(last) + 1)]


@settings(max_examples=40)
@given(st.text(max_size=60))
def test_no_name_breaks_the_report_or_is_more_than_text(name):
    pdf = render_pdf(f"# Shift report\n\n- **{_line(name)}**: {_line(name)}\n\nend of it\n")
    shown = read_back(pdf)
    assert shown.startswith("Shift report")
    assert "end of it" in shown
    plain = re.findall(r"[A-Za-z0-9]+", name)
    assert all(word in shown.replace(" ", "") for word in plain if len(word) < 20)
    assert b"/URI" not in pdf
