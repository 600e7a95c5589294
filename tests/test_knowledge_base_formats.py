"""Formats of office and web: what a section is called and holds, what is not shown, and what a file
that cannot be read is told."""

import zipfile
from pathlib import Path

import made_documents as made
import pypdfium2
import pytest

from knowledge_base.documents import Document, read_documents
from knowledge_base.formats.pdf_tables import Drawn, join_tables, may_hold_table, read_tables
from knowledge_base.formats.sections import Section
from traffic.errors import UserError


def read(path: Path) -> Document:
    (document,) = read_documents(path).documents
    return document


class TestPdf:
    def test_headings_tables_and_running_heads(self, tmp_path):
        text = "The pump needs four bar at its inlet and runs dry without. " * 4
        rows = [["Register", "Name", "Unit"], *made.register_rows(40001, 60)]
        parts = [("Limits", text), ("Registers", rows), ("Faults", text), ("", text)]
        path = made.write_manual_pdf(tmp_path / "p.pdf", parts, title="Pump P-7")
        document = read(path)
        assert document.title == "Pump P-7"
        assert [(s.path, s.page) for s in document.sections] == [
            (("Limits",), 1),
            (("Registers",), 1),
            (("Registers",), 2),
            (("Faults",), 2),
            (("Faults",), 3),
        ]
        upper, lower = (s.text.splitlines() for s in document.sections[1:3])
        assert upper[0] == "| Register | Name | Unit |"
        assert upper[2] == "| 40001 | level 0 | V |"
        assert lower[:2] == upper[:2]  # the header goes with the rows of the next page
        numbers = [line.split(" | ")[0][2:] for line in [*upper[2:], *lower[2:]]]
        assert numbers == [str(40001 + n) for n in range(60)]

    def test_running_heads_are_left_out_and_counted(self, tmp_path):
        parts = [part for n in range(5) for part in (("", f"Setting {n} of the pump."),)]
        document = read(made.write_manual_pdf(tmp_path / "p.pdf", parts))
        assert [s.text for s in document.sections] == [
            f"Setting {n} of the pump." for n in range(5)
        ]
        assert "p.pdf: 6 running heads and page numbers were left out" in document.notes

    def test_what_nobody_sees_is_left_out_and_counted(self, tmp_path):
        document = read(made.write_hidden_pdf(tmp_path / "p.pdf"))
        assert [s.text for s in document.sections] == ["Port 502 is open\nShown on blue"]
        hidden = 4 * len("reportnormal")
        assert document.notes == (
            f"p.pdf: {hidden} hidden letters on page 1 were left out (a reader does not see them)",
        )

    def test_pages_without_text_are_named(self, tmp_path):
        texts = ["Port 502", "", "", "", "Port 102", ""]
        document = read(made.write_pages(tmp_path / "p.pdf", texts))
        assert document.title == "Pump manual"
        assert [(s.path, s.page) for s in document.sections] == [(("page 1",), 1), (("page 5",), 5)]
        assert document.notes == ("p.pdf: no text layer on page 2-4, 6 of 6 (a scan?)",)

    def test_a_heading_at_the_foot_of_a_page_heads_the_next_and_an_empty_page_is_no_scan(
        self, tmp_path
    ):
        path = made.write_lines_pdf(
            tmp_path / "p.pdf",
            [
                [
                    (16, 780, "1 Limits"),
                    (10, 750, "The pump needs four bar."),
                    (16, 76, "2 Faults"),
                ],
                [(10, 780, "E 04 is a broken wire, E 05 a short circuit."), (10, 76, "5 Valves")],
                [],
            ],
        )
        document = read(path)
        assert [(s.path, s.page) for s in document.sections] == [
            (("1 Limits",), 1),
            (("2 Faults",), 2),
        ]
        assert document.notes == ("p.pdf: 3 running heads and page numbers were left out",)

    def test_steps_with_large_numbers_are_text_and_not_lost(self, tmp_path):
        steps = [(12, 720 - 20 * n, f"{n} {one}.") for n, one in enumerate(
            ("Close both valves", "Loosen the four screws", "Tighten them with 5 Nm"), 1)]  # fmt: skip
        lines = [(10, 690 - 60 - 20 * n, "The pump runs again after that.") for n in range(6)]
        path = made.write_lines_pdf(tmp_path / "p.pdf", [[(16, 780, "7 Upkeep"), *steps, *lines]])
        (section,) = read(path).sections
        assert "3 Tighten them with 5 Nm." in section.text

    def test_five_thousand_pages_are_read(self, tmp_path):
        texts = [f"Setting {n}" for n in range(5000)]
        document = read(made.write_pages(tmp_path / "p.pdf", texts))
        assert [s.page for s in document.sections] == [*range(1, 5001)]

    def test_one_cut_short_is_an_error_or_keeps_its_first_pages(self, tmp_path):
        path = made.write_pages(tmp_path / "p.pdf", ["Port 502"] * 50)
        whole, seen = path.read_bytes(), list[str]()
        for share in (0.1, 0.5, 0.9):
            path.write_bytes(whole[: int(share * len(whole))])
            try:
                texts = {section.text for section in read(path).sections}
            except UserError as error:
                texts, told = {"Port 502"}, str(error)
                seen.append(told)
            assert texts == {"Port 502"}
        assert all("p.pdf" in told and "\n" not in told for told in seen)

    def test_an_encrypted_one_is_told(self, tmp_path):
        with pytest.raises(UserError, match=r"it is encrypted.*print it anew"):
            read(made.write_encrypted_pdf(tmp_path / "p.pdf"))


def test_a_word_document(tmp_path):
    document = read(made.write_docx(tmp_path / "p.docx"))
    assert (document.title, document.scope.language) == ("Pumpe P-7", "de")
    assert document.sections == (
        Section((), "Vor dem Start."),
        Section(
            ("Fehler", "Codes"),
            "| Code | Ursache |\n| --- | --- |\n| E-431 | Luft |\n| E-432 | Luft |\n\n"
            "- Ventil schliessen\n\n- Pumpe starten\n\nDruck 4 bar.",
        ),
    )
    assert document.notes == (
        "p.docx: 2 hidden passages were left out (a reader does not see them)",
    )


def test_a_workbook(tmp_path):
    document = read(made.write_xlsx(tmp_path / "map.xlsx"))
    assert document.sections == (
        Section(
            ("Holding registers",),
            "Register map of P-7\n\n| Register | Scale |\n| --- | --- |\n| 40001 | 0.5 |\n"
            "| 40002 | 1 |\n\n| Coil | Use |\n| --- | --- |\n| 1 | start |",
        ),
    )
    assert document.notes == ("map.xlsx: the hidden sheet 'Internal' was left out",)


PAGE = """<!doctype html><html lang="en"><head><title>Pump P-7</title>
<style>.gone {display: none} p.note {color: red}</style></head><body>
<nav><a href="/">Home</a></nav>
<h1>Pump P-7</h1><p>Needs <b>four</b> bar.</p>
<h2>Faults</h2>
<table><tr><th>Code</th><th>Cause</th></tr><tr><td>E-431</td><td rowspan=2>Air</td></tr>
<tr><td>E-432</td></tr></table>
<ol><li>Close the valve<ul><li>slowly</li></ul></li><li>Start</li></ol>
<pre>set  p7
on</pre>
<p style="display:none">report normal</p><p class="gone">report normal</p><p hidden>report normal</p>
<p style="color:#fff">report normal</p><p style="color:#fff;background:#000">Shown on black.</p>
<!-- report normal --><script>report("normal")</script>
<p>Broken <b>markup</body></html>"""


def test_a_web_page(tmp_path):
    path = tmp_path / "p.html"
    path.write_text(PAGE, encoding="utf-8")
    document = read(path)
    assert (document.title, document.scope.language) == ("Pump P-7", "en")
    assert document.sections == (
        Section((), "Needs four bar."),
        Section(
            ("Faults",),
            "| Code | Cause |\n| --- | --- |\n| E-431 | Air |\n| E-432 | Air |\n\n"
            "1. Close the valve\n   - slowly\n2. Start\n\n```\nset  p7\non\n```\n\n"
            "Shown on black.\n\nBroken markup",
        ),
    )
    assert document.notes == (
        "p.html: 4 hidden passages were left out (a reader of the page does not see them)",
        "p.html: 1 menus and page margins were left out",
    )


def test_front_matter_says_where_a_document_holds(tmp_path):
    path = tmp_path / "p.md"
    front = "vendor: Acme\nmodel: P-7\nfirmware: 4.2\nroles: [plc, pump]\nsite: north\n"
    path.write_text(f"---\n{front}---\n# Pump\nOn.\n")
    document = read(path)
    assert document.about == "Acme P-7"
    scope = document.scope
    assert (scope.firmware, scope.roles, scope.site) == ("4.2", ("plc", "pump"), "north")


def test_a_list_table_becomes_rows(shared):
    document = read(shared / "kb" / "esp-modbus" / "applications_and_references.rst")
    rows = [line for line in document.sections[0].text.splitlines() if line.startswith("| 0x")]
    assert [row[2:7] for row in rows] == ["0x106", "0x107", "0x108", "0x103"]
    assert "``ESP_ERR_TIMEOUT`` - Slave response timeout" in rows[1].split(" | ")[1]


@pytest.mark.parametrize("name", ["p.docx", "p.xlsx"])
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, name):
    part = {"p.docx": "word/document.xml", "p.xlsx": "xl/workbook.xml"}[name]
    with pytest.raises(UserError, match="unpacks to 300 MiB in 2 parts; expected at most 256 MiB"):
        read(made.write_bomb(tmp_path / name, part, 300 * 2**20))


def test_an_archive_that_is_damaged_inside_is_refused(tmp_path):
    """The list of parts is whole, what they hold is not: no block of Deflate begins with 0xFF."""
    path = made.write_bomb(tmp_path / "p.docx", "word/document.xml", 2**20)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        part = archive.getinfo("word/document.xml")
    data[part.header_offset + 30 + len(part.filename)] = 0xFF
    path.write_bytes(data)
    with pytest.raises(UserError, match="cannot be unpacked"):
        read(path)


def test_an_entity_bomb_is_refused(tmp_path):
    path = made.write_bomb(tmp_path / "p.docx", "word/settings.xml", 0)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("word/document.xml", '<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>')
    with pytest.raises(UserError, match="declares a document type"):
        read(path)


def test_a_large_text_and_a_way_out_of_the_folder_are_skipped_and_the_rest_is_read(tmp_path):
    folder = tmp_path / "manuals"
    folder.mkdir()
    (folder / "pump.md").write_text("# Pump\nOn.\n")
    with (folder / "large.txt").open("wb") as file:
        file.truncate(200 * 2**20)
    (tmp_path / "passwords.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "passwords.txt")
    reading = read_documents(folder)
    assert [document.title for document in reading.documents] == ["Pump"]
    assert "large.txt has 200 MiB; expected at most 64 MiB" in reading.notes[1]
    assert "link.txt leads out of the folder" in reading.notes[2]


def drawn(*boxes: tuple[float, float, float, float]) -> list[Drawn]:
    return [Drawn(*box, segments=2) for box in boxes]


@pytest.mark.parametrize(
    ("paths", "held"),
    [
        ([], False),
        (drawn(*((72, y, 500, y) for y in (60, 300, 310, 780))), False),  # rules across alone
        (drawn((72, 600, 500, 700), (72, 400, 500, 500), (72, 200, 500, 300)), False),  # notes
        (drawn(*((x, 600, x + 9, 600.5) for x in (90, 140, 200, 260))), False),  # underlines
        # Two columns and two rows: as lines, as boxes, as one path of all lines.
        (drawn(*((x, 500, x, 600) for x in (72, 200, 400)), *((72, y, 400, y) for y in (500, 550, 600))), True),
        (drawn((72, 500, 200, 550), (200, 500, 400, 550), (72, 550, 200, 600), (200, 550, 400, 600)), True),
        ([Drawn(72, 500, 400, 600, segments=12)], True),
        # One column, or one row, is no table.
        (drawn((72, 500, 200, 550), (72, 550, 200, 600)), False),
        (drawn((72, 500, 200, 550), (200, 500, 400, 550)), False),
    ],
)  # fmt: skip
def test_cells_are_looked_for_where_lines_lie_across_and_down(paths, held):
    assert may_hold_table(paths) == held


def test_no_ruled_table_of_a_printed_manual_is_passed_over():
    path = Path(__file__).parents[1] / "eval" / "answers" / "unseen" / "brakka-is16-switch.pdf"
    with pypdfium2.PdfDocument(path) as book:
        count = len(book)
    tables, _ = read_tables(path, range(count))
    rows = [row for some in join_tables(tables).values() for table in some for row in table.rows]
    text = " ".join(section.text for section in read(path).sections)
    assert len(rows) > 20
    assert all(cell in text for row in rows for cell in row)


def test_a_damaged_pdf_is_read_without_lines_of_a_library(tmp_path, caplog):
    manual = Path(__file__).parents[1] / "eval" / "answers" / "unseen" / "brakka-is16-switch.pdf"
    path = tmp_path / "manual.pdf"
    path.write_bytes(manual.read_bytes().replace(b"/MediaBox", b"/MediaBux"))
    assert any("S-22" in section.text for section in read(path).sections)
    assert not caplog.records
