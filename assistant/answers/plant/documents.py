"""Passages of the documents as an answer: quoted, cited, never worded anew."""

from collections.abc import Sequence

from assistant.diagnosis.citations import Citation, cite, resolve
from assistant.diagnosis.sources import keep_fitting
from knowledge_base.documents import Kind
from knowledge_base.index import Index
from knowledge_base.retriever import search

_MOST = 3


def find_quotations(
    index: Index | None, question: str, kind: Kind | None = None, known: Sequence[str] | None = None
) -> tuple[Citation, ...]:
    """Passages that answer a question; none where the knowledge base does not answer.

    Args:
        index: the knowledge base; None has no passage.
        question: the operator's words.
        kind: the only kind of documents that is looked at; all by default.
        known: what the device that is meant is known to be: manuals of others are left out, but for
            one that the question names; None where no device is meant.
    """
    if index is None:
        return ()
    passages = search(index, question, _MOST, kind)
    if known is not None:
        passages = keep_fitting(passages, [question, *known])
    return resolve(cite(passages, question), index)


def list_quotations(citations: Sequence[Citation]) -> list[str]:
    """One line each: its number, where it stands, what it says."""
    return [f"- [{one.number}] {one.place}: {one.quoted}" for one in citations]
