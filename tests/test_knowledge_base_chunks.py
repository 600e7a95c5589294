"""Chunks: tables stay whole, long ones repeat their header, and nothing that was read is lost."""

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from knowledge_base.chunks import CHUNK_CHARS, TABLE_CHARS, make_chunks
from knowledge_base.documents import Document, read_documents
from knowledge_base.formats import Section

ROW = "| {n} | value {n} | a word or two about what register {n} holds |"
HEAD = "| register | content | note |\n| --- | --- | --- |\n"


def manual(*texts: str, page: int | None = None) -> Document:
    sections = tuple(Section((f"part {n}",), text, page) for n, text in enumerate(texts))
    return Document("doc-1", "Pump", "pump.md", "manual", sections)


def table(rows: int) -> str:
    return HEAD + "\n".join(ROW.format(n=40001 + n) for n in range(rows))


def test_a_table_that_fits_stays_whole_and_prose_around_it_keeps_its_order() -> None:
    chunks = make_chunks(manual(f"Before.\n\n{table(15)}\n\nAfter."))
    assert CHUNK_CHARS < len(table(15)) < TABLE_CHARS
    assert [chunk.text for chunk in chunks] == [f"Before.\n\n{table(15)}", "After."]


def test_a_longer_table_is_cut_between_rows_and_repeats_its_header() -> None:
    chunks = make_chunks(manual(table(60)))
    assert len(chunks) > 1
    assert all(
        chunk.text.startswith(HEAD) and len(chunk.text) <= CHUNK_CHARS + 20 for chunk in chunks
    )
    rows = [line for chunk in chunks for line in chunk.text.split("\n")[2:]]
    assert rows == table(60).split("\n")[2:]


def test_a_chunk_names_document_section_and_page() -> None:
    (chunk,) = make_chunks(manual("Port 502.", page=7))
    assert (chunk.document, chunk.section, chunk.page, chunk.kind) == (
        "Pump", "part 0", 7, "manual",
    )  # fmt: skip
    assert chunk.context == "Pump › part 0\nPort 502."


def test_an_id_is_the_content_and_its_place() -> None:
    first, second = make_chunks(manual("Same.", "Same."))
    assert first.id != second.id  # another section
    assert make_chunks(manual("Same.", "Same.", page=2))[0].id != first.id
    assert make_chunks(manual("Same.", "Other."))[0].id == first.id


@given(st.lists(st.text(alphabet="ab .\n", max_size=1200), max_size=3))
def test_every_word_is_in_the_chunks_in_order(texts: list[str]) -> None:
    for number, text in enumerate(texts):
        chunks = [c for c in make_chunks(manual(*texts)) if c.section == f"part {number}"]
        joined = "".join(re.sub(r"\s", "", chunk.text) for chunk in chunks)
        # A chunk that says the same as an earlier one of its section is kept once, so the whole may
        # only shrink.
        assert len(joined) <= len(re.sub(r"\s", "", text))
        assert set(re.findall(r"[ab]+", joined)) or not re.findall(r"[ab]+", text)
        assert all(0 < len(chunk.text) <= CHUNK_CHARS for chunk in chunks)


def test_a_technique_is_a_chunk_or_more_under_its_external_id(shared: Path) -> None:
    (document,) = read_documents(shared / "kb" / "mitre-ics" / "ics-attack.json").documents
    chunks = make_chunks(document)
    assert len({chunk.id for chunk in chunks}) == len(chunks)
    assert {chunk.section for chunk in chunks} == {section.path[0] for section in document.sections}
    assert max(len(chunk.text) for chunk in chunks) <= CHUNK_CHARS


def pages(*texts: str) -> Document:
    sections = tuple(Section((f"page {n}",), text, n) for n, text in enumerate(texts, 1))
    return Document("doc-1", "Drive", "drive.pdf", "manual", sections)


def test_a_page_is_cut_at_its_numbered_headings_and_each_part_stands_under_its_own() -> None:
    first = "Drive\n1 Safety\n1.1 Staff\nSkilled persons.\n1 year is long.\n2 Wiring"
    second = "Use copper.\n1 Reverse\n2.1 The first fan\nBlows.\n9.4 Not the next."
    chunks = make_chunks(pages(first, second))
    assert [(chunk.page, chunk.section, chunk.text) for chunk in chunks] == [
        (1, "page 1", "Drive"),
        (1, "page 1 › 1 Safety › 1.1 Staff", "1 Safety\n1.1 Staff\nSkilled persons.\n1 year is long.\n2 Wiring"),
        (2, "page 2 › 2 Wiring", "Use copper.\n1 Reverse"),
        (2, "page 2 › 2 Wiring › 2.1 The first fan", "2.1 The first fan\nBlows.\n9.4 Not the next."),
    ]  # fmt: skip


@given(st.lists(st.text(alphabet="1. Ab|-\n", max_size=1200), min_size=1, max_size=2))
def test_a_chunk_knows_where_it_stands(texts: list[str]) -> None:
    for document in (manual(*texts), pages(*texts)):
        for chunk in make_chunks(document):
            (of,) = [
                one.text
                for one in document.sections
                if one.page == chunk.page and chunk.section.startswith(one.path[0])
            ]
            lines = {line.strip() for line in chunk.text.split("\n")}
            assert {line.strip() for line in of[chunk.start : chunk.end].split("\n")} <= lines


@given(st.text(alphabet="1. Ab\n", max_size=120))
def test_every_letter_of_a_page_is_in_a_chunk(text: str) -> None:
    chunks = make_chunks(pages(text))
    said = re.sub(r"\s", "", "".join(chunk.text for chunk in chunks))
    whole = re.sub(r"\s", "", text)
    # Equal chunks of one section are kept once.
    assert said == whole or (len(said) < len(whole) and set(said) == set(whole))
