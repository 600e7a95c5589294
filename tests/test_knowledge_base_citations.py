"""Every passage that may be cited opens: its document, page or section, and its words in place."""

from pathlib import Path

import pytest

from knowledge_base.chunks import Chunk, make_chunks
from knowledge_base.documents import Document, read_documents
from knowledge_base.embeddings import sample_files

UNSEEN = Path(__file__).parents[1] / "eval" / "answers"
_OWN = [*sample_files(), *UNSEEN.glob("unseen/*.md"), *UNSEEN.glob("tuning/*.md")]
_PRINTED = [*UNSEEN.glob("unseen/*.pdf")]


def squeeze(text: str) -> str:
    """White space is laid anew where text is cut."""
    return "".join(text.split())


def find_missing(document: Document, chunk: Chunk) -> str:
    """Why a reader would not find a chunk where its citation says it is; "" where he does."""
    if chunk.page is None:
        named = [one for one in document.sections if chunk.section == " › ".join(one.path)]
        named += [
            one for one in document.sections if not one.path and chunk.section == document.title
        ]
    else:
        named = [one for one in document.sections if one.page == chunk.page]
    if not named:
        return "no such section or page"
    lines = [found for line in chunk.text.split("\n") if (found := squeeze(line))]
    head = [line for line in lines if line.startswith("|")][:2]  # repeated before later rows
    for section in named:
        shown, whole = squeeze(section.text[chunk.start : chunk.end]), squeeze(section.text)
        if shown and all(line in shown or (line in head and line in whole) for line in lines):
            return ""
    return f"not at {chunk.start} to {chunk.end}: {lines[0][:60]!r}"


def check(paths: list[Path]) -> int:
    missing, seen = [], 0
    for path in paths:
        for document in read_documents(path).documents:
            for chunk in make_chunks(document):
                seen += 1
                assert chunk.document == document.title
                if why := find_missing(document, chunk):
                    missing.append(f"{path.name}, {chunk.section}: {why}")
    assert missing == []
    return seen


def test_every_passage_of_the_shipped_documents_opens():
    assert check(_OWN) >= 300


def test_every_passage_of_a_printed_manual_opens():
    assert check(_PRINTED) >= 15


@pytest.mark.parametrize(
    ("folder", "least"), [("esp-modbus", 60), ("zeek", 60), ("mitre-ics", 190)]
)
def test_every_passage_of_real_documents_opens(shared, folder, least):
    assert check([shared / "kb" / folder]) >= least


def test_a_passage_that_stands_elsewhere_is_noticed():
    (document,) = read_documents(sample_files()[-1]).documents
    chunk, other = make_chunks(document)[:2]
    moved = Chunk(
        chunk.id,
        chunk.document,
        chunk.section,
        chunk.page,
        chunk.text,
        chunk.kind,
        0,
        chunk.end // 2,
    )
    assert find_missing(document, moved)
    assert find_missing(
        document, Chunk("x", chunk.document, other.section, None, chunk.text, chunk.kind, 0, 999)
    )
