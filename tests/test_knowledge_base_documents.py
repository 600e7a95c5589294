"""Readers: what a section is called and holds, for each format, and what an unreadable file is
told."""

import json
from pathlib import Path

import pytest

from knowledge_base.documents import read_documents
from knowledge_base.formats.markdown import read_markdown
from knowledge_base.formats.restructured import read_restructured
from knowledge_base.formats.sections import Section
from knowledge_base.formats.sheets import read_register_map
from traffic.errors import UserError


def make_pdf(pages: list[str], title: str = "") -> bytes:
    """A PDF by hand (ISO 32000-1, 7.5): one line of Helvetica a page, an empty string for a page
    without text."""
    count = len(pages)
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(count))
    bodies = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {count} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for n, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET" if text else ""
        font = "<< /Font << /F1 3 0 R >> >>"
        bodies.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources {font} /Contents {5 + 2 * n} 0 R >>"
        )
        bodies.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    bodies.append(f"<< /Title ({title}) >>")
    out, offsets = "%PDF-1.4\n", []
    for number, body in enumerate(bodies, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    trailer = f"<< /Size {len(bodies) + 1} /Root 1 0 R /Info {len(bodies)} 0 R >>"
    tail = f"xref\n0 {len(bodies) + 1}\n0000000000 65535 f \n{table}trailer\n{trailer}\nstartxref\n{len(out)}\n%%EOF"
    return (out + tail).encode("latin-1")


ESCAPES = rb'{"objects":[{"id":"x","type":"attack-pattern","name":"\u001bT\u202e","description":"\u009bx"}]}'
MARKDOWN = """# Pump
Intro.

## Ports
502 is open.

### Limits
Eight sessions.

```
# no heading in a fence
```
## LEDs
Green.
## Empty
"""


def test_markdown_sections_keep_their_heading_path():
    assert read_markdown(MARKDOWN) == [
        Section((), "Intro."),
        Section(("Ports",), "502 is open."),
        Section(("Ports", "Limits"), "Eight sessions.\n\n```\n# no heading in a fence\n```"),
        Section(("LEDs",), "Green."),
    ]


RESTRUCTURED = """
.. _pump:

====
Pump
====
Intro with :file:`conn.log`.

Ports
-----
502 is open.

Limits
~~~~~~
Eight.

LEDs
----
Green.

====
Spares
====
None.
"""


def test_restructured_levels_follow_the_order_of_their_underlines():
    assert read_restructured(RESTRUCTURED) == [
        Section((), "Intro with conn.log."),
        Section(("Ports",), "502 is open."),
        Section(("Ports", "Limits"), "Eight."),
        Section(("LEDs",), "Green."),
        Section(("Spares",), "None."),
    ]


def test_zeeks_own_pages_are_read(shared):
    (document,) = read_documents(shared / "kb" / "zeek" / "weird-and-notice.rst").documents
    assert document.title == "weird.log and notice.log"
    assert [section.path for section in document.sections] == [
        (),
        ("weird.log",),
        ("notice.log",),
        ("Investigating a weird.log and notice.log Entry",),
        ("Conclusion",),
    ]


def test_a_register_map_becomes_a_table_whatever_its_delimiter():
    text = 'register;content\n40001;level, "tank" | left\n40002\n'
    assert read_register_map(text)[0].text == (
        '| register | content |\n| --- | --- |\n| 40001 | level, "tank" \\| left |\n| 40002 |  |'
    )


def test_a_pdf_keeps_its_pages_and_says_which_have_no_text(tmp_path):
    path = tmp_path / "scan.pdf"
    path.write_bytes(make_pdf(["Port 502 is open", "", "Register 40001"], "Pump manual"))
    (document,) = read_documents(path).documents
    assert document.title == "Pump manual"
    assert document.sections == (
        Section(("page 1",), "Port 502 is open", 1),
        Section(("page 3",), "Register 40001", 3),
    )
    assert document.notes == ("scan.pdf: no text layer on page 2 of 3 (a scan?)",)


def test_a_bundle_has_a_section_for_each_technique_in_force(tmp_path):
    def item(kind: str, name: str, number: str, **more: object) -> dict[str, object]:
        reference = {"external_references": [{"external_id": number}]}
        return {"type": kind, "id": f"{kind}--{number}", "name": name} | reference | more

    objects = [
        item("attack-pattern", "Flood", "T1", description="Sends [much](http://x).(Citation: Someone 2020)",
             kill_chain_phases=[{"phase_name": "impact"}]),
        item("course-of-action", "Filter", "M1", description="Drops."),
        item("attack-pattern", "Old", "T2", revoked=True),
        {"type": "relationship", "id": "r", "relationship_type": "mitigates",
         "source_ref": "course-of-action--M1", "target_ref": "attack-pattern--T1"},
    ]  # fmt: skip
    path = tmp_path / "attack.json"
    path.write_text(json.dumps({"type": "bundle", "objects": objects}))
    (document,) = read_documents(path).documents
    assert document.kind == "threat"
    assert document.sections == (
        Section(("T1 Flood",), "Sends much.\n\nTactics: impact.\n\nMitigations: M1 Filter."),
        Section(("M1 Filter",), "Drops."),
    )


def test_attack_for_ics_has_its_83_techniques(shared):
    (document,) = read_documents(shared / "kb" / "mitre-ics" / "ics-attack.json").documents
    names = [section.path[0] for section in document.sections]
    assert sum(name.startswith("T") for name in names) == 83
    assert "T0814 Denial of Service" in names


def test_equal_content_is_one_document_and_other_content_another(tmp_path):
    for name, text in (("a.md", MARKDOWN), ("b.md", MARKDOWN), ("c.md", MARKDOWN + "More.")):
        (tmp_path / name).write_text(text)
    a, b, c = (read_documents(tmp_path / name).documents[0].id for name in ("a.md", "b.md", "c.md"))
    assert a == b != c


def test_a_folder_is_read_through_and_says_what_it_skipped(tmp_path):
    (tmp_path / "line1").mkdir()
    (tmp_path / "line1" / "pump.md").write_text(MARKDOWN)
    (tmp_path / "notes.txt").write_text("The pump is old.")
    (tmp_path / "tool.exe").write_bytes(b"MZ")
    (tmp_path / "empty.md").write_bytes(b"")
    (tmp_path / ".hidden.md").write_text("# Never")
    reading = read_documents(tmp_path)
    assert [Path(document.path).name for document in reading.documents] == ["pump.md", "notes.txt"]
    assert reading.notes[0] == f"2 of 4 files in {tmp_path} were skipped"
    assert "empty.md is empty" in reading.notes[1]
    assert "tool.exe is of type .exe" in reading.notes[2]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.md", b"# Pu\x1b]0;x\x07mp\n\x1b[2Jclear\x00ed\n"),
        ("a.json", ESCAPES),
        ("a.pdf", make_pdf(["\\033[2Jcleared"], "\\033]0;x")),
    ],
)  # fmt: skip
def test_nothing_in_a_file_can_act_on_a_terminal(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    (document,) = read_documents(path).documents
    everything = document.title + "".join(s.text + "".join(s.path) for s in document.sections)
    assert not set(everything) & {*map(chr, range(9)), "\x1b", "\x9b", "\u202e"}


def test_utf_16_with_a_mark_and_utf_8_with_a_mark_are_read(tmp_path):
    path = tmp_path / "pump.txt"
    for encoding in ("utf-16", "utf-8-sig"):
        path.write_bytes("Höhe\r\nTiefe".encode(encoding))
        assert read_documents(path).documents[0].sections[0].text == "Höhe\nTiefe"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.md", b"", "is empty"),
        ("a.txt", b"  \n", "has no text"),
        ("a.txt", "Höhe".encode("latin-1"), "is not UTF-8 at byte 1"),
        ("a.odt", b"PK", "is of type .odt"),
        ("a.csv", b"register;content\n", "has 1 rows"),
        ("a.csv", b"a,b\n" + b"x" * 200_000, "is no CSV"),
        ("a.json", b"{", "is no STIX 2 bundle"),
        ("a.json", b"[" * 100_000, "is no STIX 2 bundle"),
        ("a.json", b'{"objects": [{"id": "\\ud800"}]}', "is no STIX 2 bundle"),
        ("a.json", b"[1, 2]", "is no STIX 2 bundle"),
        ("a.json", b'{"objects": [{"id": "x", "type": "tool"}]}', "holds no technique"),
        (
            "a.json",
            b'{"objects": [{"id": "x", "type": 3}]}',
            "objects.0.type: Input should be a valid string",
        ),
        ("a.pdf", b"no pdf", "cannot be read as PDF (it does not begin as one)"),
        ("a.pdf", make_pdf(["Pump"])[:200], "cannot be read as PDF (it is cut short or damaged"),
        ("a.pdf", make_pdf([""]), "has no text layer"),
        ("a.md", b"---\nsymptoms: none\ncolour: red\n---\n", "colour: Extra inputs"),
        ("a.md", b"---\ncause: [\n---\n", "no YAML mapping"),
        ("a.md", b"---\ncause: a\n- 1\n---\n", "no YAML mapping"),
        ("a.txt", b"%PDF-1.7 ...", "ends in .txt and is a PDF"),
        ("a.pdf", b"PK\x03\x04....", "ends in .pdf and is a ZIP archive"),
        ("a.docx", b"\xd0\xcf\x11\xe0....", "is an old or encrypted office file"),
        ("a.docx", b"PK\x03\x04....", "cannot be unpacked"),
        ("a.xlsx", b"register;content\n", "cannot be unpacked"),
        ("a.html", "<p>H\xf6he".encode("latin-1"), "is not UTF-8 at byte 4"),
        ("a.html", b"<p hidden>x</p>", "has no text"),
        ("a.yaml", b"symptoms: none\n", "id: Field required"),
    ],
)
def test_a_named_file_that_cannot_be_read_is_an_error_in_one_line(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UserError) as told:
        read_documents(path)
    assert message in str(told.value)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


def test_front_matter_that_is_no_incident_is_text(tmp_path):
    path = tmp_path / "pump.md"
    path.write_text("---\nauthor: someone\n---\n# Pump\nOld.\n")
    (document,) = read_documents(path).documents
    assert (document.kind, document.title) == ("manual", "Pump")


def test_a_missing_path_and_a_folder_of_nothing_are_errors(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_documents(tmp_path / "none.md")
    with pytest.raises(UserError, match="holds no readable document"):
        read_documents(tmp_path)
