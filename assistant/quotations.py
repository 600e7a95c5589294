"""Passages of the documents, quoted as the answer itself."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from assistant.chat.replies import Said
from assistant.diagnosis.grounding import Citation, cite, resolve

if TYPE_CHECKING:
    from knowledge_base.documents import Kind
    from knowledge_base.index import Index

__all__ = ["list_quotations", "quote_documents"]

_MOST = 3


def quote_documents(index: "Index | None", question: str, kind: "Kind" = "manual") -> Said | None:
    """Passages that answer a question.

    Args:
        index: the knowledge base; None has no passage.
        question: the operator's words.
        kind: the documents that are looked at first; where they hold nothing, all are.

    Returns:
        The passages, quoted and cited; None where the knowledge base does not answer.
    """
    if index is None:
        return None
    from knowledge_base.retriever import search

    passages = search(index, question, _MOST, kind) or search(index, question, _MOST)
    citations = resolve(cite(passages, question), index)
    return Said("\n".join(["From the documents:", *list_quotations(citations)]), (), citations) if citations else None


def list_quotations(citations: Sequence[Citation]) -> list[str]:
    """One line each: its number, where it stands, what it says."""
    return [f"- [{one.number}] {one.place}: {one.quoted}" for one in citations]
