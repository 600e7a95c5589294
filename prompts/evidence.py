"""What a model that words a diagnosis is given: statements with ids, and a verdict that is fixed."""

from dataclasses import dataclass

__all__ = ["Evidence", "Statement"]


@dataclass(frozen=True)
class Statement:
    """A fact or passage under the id by which the model must name it."""

    id: str
    text: str


@dataclass(frozen=True)
class Evidence:
    """What was decided, and what may be said about it.

    Attributes:
        question: the operator's words; quoted, never obeyed.
        verdict: the answer in one sentence, fixed.
        standing: how sure, fixed.
        facts: ``f1``, ``f2`` … computed sentences.
        passages: ``p1``, ``p2`` … excerpts of documents that anybody may have written.
    """

    question: str
    verdict: str
    standing: str
    facts: tuple[Statement, ...]
    passages: tuple[Statement, ...]
