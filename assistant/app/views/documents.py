"""The knowledge base on the page: a passage in its document with the place marked, and, for
engineers, documents added, removed, searched and checked."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from assistant.app.views.markup import render
from assistant.report import say_missing
from knowledge_base.chunks import Chunk
from knowledge_base.index import Index, Progress
from knowledge_base.retriever import find_missing, search
from traffic.errors import UserError

_FOUND = 5


@dataclass(frozen=True)
class Marked:
    """A chunk in three parts: the middle one is the place that is meant, "" for none."""

    section: str
    page: int | None
    before: str
    place: str
    after: str


def render_document(index: Index, chunk_id: str, excerpt: str = "") -> str:
    """A whole document with one passage marked.

    Args:
        index: the knowledge base.
        chunk_id: of a chunk; its document is shown.
        excerpt: the words of it that are meant, all of it by default.
    """
    entry = index.sources().get(chunk_id)
    if entry is None:
        return render("document.html.jinja", entry=None, parts=[])
    by_id = {one.id: one for one in index.chunks()}
    chunks = [by_id[one] for one in entry.chunks if one in by_id]
    parts = [
        _mark(one, excerpt or one.text) if one.id == chunk_id else _mark(one, "") for one in chunks
    ]
    return render("document.html.jinja", entry=entry, parts=parts)


def _mark(chunk: Chunk, excerpt: str) -> Marked:
    """The chunk with the excerpt in the middle; white space may differ; all of it where the words
    are not found so."""
    text = chunk.text
    words = [re.escape(word) for word in excerpt.split()]
    found = re.search(r"\s+".join(words), text) if words else None
    if words and found is None:
        return Marked(chunk.section, chunk.page, "", text, "")
    start, end = found.span() if found else (len(text), len(text))
    return Marked(chunk.section, chunk.page, text[:start], text[start:end], text[end:])


def render_documents(index: Index) -> str:
    """All documents, each with a button that opens it."""
    return render("documents.html.jinja", entries=index.list())


def render_found(index: Index, question: str) -> str:
    """The passages that answer a question best."""
    asked = question.strip()
    passages = search(index, question, k=_FOUND) if asked else []
    missing = say_missing(find_missing(index, question)) if asked else ""
    return render("found.html.jinja", passages=passages, question=asked, missing=missing)


def add_documents(index: Index, paths: Sequence[Path], about: str, progress: Progress) -> str:
    """Index files that were uploaded; says what became of them.

    Raises:
        UserError: one of them cannot be read; nothing is added then.
    """
    done = index.add(list(paths), progress, about=about.strip() or None)
    named = [("added", done.added), ("replaced", done.replaced), ("unchanged", done.unchanged)]
    said = [f"{len(titles)} {word}: {', '.join(titles)}." for word, titles in named if titles]
    return " ".join([*said, *done.notes]) or "Nothing was added."


def remove_document(index: Index, document: str) -> str:
    """Forget a document; says so.

    Raises:
        UserError: there is none of that id.
    """
    if not document:
        raise UserError("Choose the document that is to be removed.")
    return f"Removed: {index.remove(document).title}. It never answers again."


def check_documents(index: Index) -> str:
    """Whether every passage is as it was added."""
    problems = index.check().problems
    return (
        " ".join(problems) or f"Sound: {len(index.list())} documents, each passage as it was added."
    )
