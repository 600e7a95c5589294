"""An engineer's own questions to a knowledge base, so that a manual is reviewed like code.

A file of questions is YAML:

    questions:
      - question: what does E-431 mean?
        document: Pump P-7            # title, id, path or file name, as `kb list` has them
        section: Error codes          # words of its heading path; optional
        page: 12                      # optional
      - question: how long is the warranty?
        document: ""                  # no document says it
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from knowledge_base.index import Index
from knowledge_base.manifest import Entry, find_entry
from knowledge_base.retriever import Passage, search
from traffic.errors import UserError
from traffic.files import Strict, read_yaml

LOOKED_AT = 5  # passages that may hold the answer


class Question(Strict):
    """A question, and where its answer stands; the document "" says that none answers it."""

    question: Annotated[str, Field(min_length=1)]
    document: str
    section: str = ""
    page: int | None = None


class Questions(Strict):
    """A file of questions."""

    questions: Annotated[tuple[Question, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Answered:
    """What became of a question.

    Attributes:
        asked: the question.
        rank: of the first passage that answers, from 1; 0 where none does.
        found: the first passage that was found, "" for none.
        right: whether it is as the file says: a passage that answers, or none at all.
    """

    asked: Question
    rank: int
    found: str
    right: bool


def review(index: Index, path: Path) -> tuple[Answered, ...]:
    """Ask every question of a file.

    Raises:
        UserError: the file is not of this form, or names documents that are not there.
    """
    asked = read_yaml(path, Questions, "questions with their document and section").questions
    entries = _find_documents(index, asked, path)
    return tuple(_ask(index, one, entry) for one, entry in zip(asked, entries, strict=True))


def _find_documents(index: Index, asked: Sequence[Question], path: Path) -> list[Entry | None]:
    entries: list[Entry | None] = []
    wrong: list[str] = []
    for one in asked:
        try:
            entries.append(find_entry(index.list(), one.document) if one.document else None)
        except UserError as error:
            wrong.append(str(error))
    if wrong:
        more = f" (and {len(wrong) - 1} more questions)" if len(wrong) > 1 else ""
        raise UserError(f"{path}: {wrong[0]}{more}")
    return entries


def _ask(index: Index, asked: Question, entry: Entry | None) -> Answered:
    passages = search(index, asked.question, k=LOOKED_AT)
    found = f"{passages[0].document} › {passages[0].section}" if passages else ""
    if entry is None:
        return Answered(asked, 0, found, not passages)
    ranks = (n for n, passage in enumerate(passages, 1) if _answers(passage, asked, entry))
    rank = next(ranks, 0)
    return Answered(asked, rank, found, rank > 0)


def _answers(passage: Passage, asked: Question, entry: Entry) -> bool:
    return (
        passage.chunk_id in entry.chunks
        and asked.section.lower() in passage.section.lower()
        and asked.page in (None, passage.page)
    )


def share_right(answered: Sequence[Answered]) -> float:
    """The share of questions that went as the file says."""
    return sum(one.right for one in answered) / len(answered)
