"""Citations: passages as an answer quotes them, word by word, and whether they resolve."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from knowledge_base.index import Index
from knowledge_base.retriever import Passage, find_passage
from knowledge_base.words import WORD, code_key, is_code, squash

EXCERPT_CHARS = 240
_LEAST_DIGITS = 3  # from how many on a number names one thing: a register, an event
_ROW_CHARS = 480  # of a table's row that explains a code: its last cell says what to do


@dataclass(frozen=True)
class Citation:
    """A passage in an answer: its number, where it stands, and words taken from it unchanged.

    ``example`` says that its document came with faultwise and is none of the plant's.
    """

    number: int
    document: str
    section: str
    page: int | None
    excerpt: str
    chunk_id: str
    kind: str
    example: bool = False

    @property
    def quoted(self) -> str:
        """The excerpt between quotation marks; one that stops before its sentence does is marked
        so."""
        ended = self.excerpt.endswith((".", "!", "?", ":", ";"))
        return f"\u201c{self.excerpt}\u201d" + ("" if ended else " \u2026")

    @property
    def place(self) -> str:
        """Where the excerpt stands, in words; an example is marked so wherever it is named."""
        section = self.section if self.section != self.document else ""
        page = f"page {self.page}" if self.page else ""
        place = ", ".join(filter(None, [self.document, section, page]))
        return f"{place} (example)" if self.example else place


def cite(passages: Iterable[Passage], question: str) -> tuple[Citation, ...]:
    """Number passages from 1, each with the sentences of it that answer the question best."""
    return tuple(
        Citation(
            number, passage.document, passage.section, passage.page,
            make_excerpt(passage.text, question), passage.chunk_id, passage.kind,
            passage.example,
        )
        for number, passage in enumerate(passages, start=1)
    )  # fmt: skip


def make_excerpt(text: str, question: str, most: int = EXCERPT_CHARS) -> str:
    """Take unchanged words from a passage, ``most`` characters or less, around the sentence nearest
    to a question; the whole row of a table, up to ``_ROW_CHARS``, where it holds the code asked for.

    White space is folded and double quotation marks become single ones, so that an excerpt can be
    quoted on one line.
    """
    if row := _find_row(text, question):
        return _shorten(fold(row), _ROW_CHARS)
    sentences = [
        part for part in re.split(r"(?<=[.!?:])\s+|\s*\n\s*[-*#|>]+\s*|\n\n+", text) if fold(part)
    ]
    if not sentences:
        return ""
    words = set(re.findall(r"\w{4,}", question.lower()))
    shared = [len(words & set(re.findall(r"\w{4,}", part.lower()))) for part in sentences]
    whole, start = fold(text), fold(sentences[shared.index(max(shared))])
    at = max(whole.find(start), 0)
    return _shorten(whole[at:], most)


def _find_row(text: str, question: str) -> str:
    """The row of a table in a passage that explains a code of the question, best that which begins
    with it; "" where there is none."""
    asked = {_read_code(word) for word in WORD.findall(question)} - {""}
    rows = [line for line in text.splitlines() if line.lstrip().startswith("|")] if asked else []
    said = [[_read_code(word) for word in WORD.findall(row)] for row in rows]
    holding = [at for at, codes in enumerate(said) if not asked.isdisjoint(codes)]
    begun = [at for at in holding if said[at][0] in asked]
    return next((rows[at] for at in [*begun, *holding]), "")


def _read_code(word: str) -> str:
    """What names a code, the same however it is written; "" for other words."""
    if is_code(word):
        return code_key(word) or squash(word)
    return word if word.isdigit() and len(word) >= _LEAST_DIGITS else ""


def _shorten(text: str, most: int) -> str:
    """The first ``most`` characters, to the end of a sentence where one ends in them, else of a
    word."""
    if len(text) <= most:
        return text.strip()
    short = text[:most]
    short = short[: short.rfind(" ")] if " " in short else short
    ends = [found.end() for found in re.finditer(r"[.!?](?=\s|$)", short)]
    return (short[: ends[-1]] if ends and ends[-1] > most // 3 else short).strip()


def fold(text: str) -> str:
    """The words of a text on one line: no markup that a page would act on, single quotation marks.

    A passage may have been written by anyone; folded, it can neither look like a citation nor leave
    its quotation.
    """
    plain = re.sub(r"-{3,}|[*`#|<>\[\]\ue000\ue001]", " ", re.sub('["\u201c\u201d]', "'", text))
    return re.sub(r"\s+", " ", plain).strip()


def resolve(citations: Sequence[Citation], index: Index) -> tuple[Citation, ...]:
    """Keep the citations whose passage is in the knowledge base now and still holds the excerpt."""

    def holds(citation: Citation) -> bool:
        passage = find_passage(index, citation.chunk_id)
        return (
            passage is not None
            and citation.excerpt in fold(passage.text)
            and passage.document == citation.document
        )

    return tuple(filter(holds, citations))
