"""Passages of the documents as an answer: quoted, cited, never worded anew."""

import re
from collections.abc import Sequence

from assistant.answers.asked import Answer, Asked, say
from assistant.diagnosis.citations import Citation, cite, resolve
from assistant.diagnosis.sources import keep_fitting, read_identity
from assistant.facts.fact import listed
from assistant.questions.entities import list_machines
from knowledge_base.about import find_model, fits
from knowledge_base.documents import Kind
from knowledge_base.index import Index
from knowledge_base.retriever import find_missing, search

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


_WHICH_DOCUMENTS = re.compile(
    r"\b(?:which|what|list|any) (?:\w+ )?(?:documents?|manuals?|papers?)\b"
    r"|\bwelche (?:dokumente|handbuecher|unterlagen)\b"
    r"|\bque (?:documentos|manuales)\b"
)


def answer_of_model(asked: Asked) -> Answer | None:
    """What the documents say of a model that a question names and that no device of the capture is
    known to be of: nothing that was measured answers it. None where it names none such."""
    mention = asked.found.mention
    if asked.index is None or mention.devices or mention.peers:
        return None
    sources = asked.index.sources().values()
    model = find_model(asked.question, {one.about for one in sources})
    machines = list_machines(asked.analysis) if model else []
    if not model or any(fits(model, read_identity(one, asked.analysis)) for one in machines):
        return None
    unknown = {code.lower() for code in find_missing(asked.index, asked.question)}
    if any(one.lower() in unknown and not fits(model, [one]) for one in mention.missing):
        return None  # it names another device that is not here, and no code of the documents
    if _WHICH_DOCUMENTS.search(asked.query.plain):
        titles = sorted({one.title for one in sources if one.about and fits(one.about, [model])})
        return Answer(say("documents_about", model=model, titles=listed(titles)))
    citations = find_quotations(asked.index, asked.question)
    if not citations:
        return Answer(say("documents_unsaid", model=model), refused=True)
    return Answer(say("documents_of_model", model=model), citations=citations, quotes=True)


def list_quotations(citations: Sequence[Citation]) -> list[str]:
    """One line each: its number, where it stands, what it says."""
    return [f"- [{one.number}] {one.place}: {one.quoted}" for one in citations]
