"""The last gate before an answer is shown: what has no source is taken out.

Every number, time and address must be found in the facts, every quotation in the passage it cites, every citation in
the knowledge base. The sentence that holds anything else is removed, whoever wrote it, a template or a model.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assistant.facts.fact import show
from assistant.quantities import is_supported, read_quantities

if TYPE_CHECKING:
    from assistant.facts.fact import Fact
    from knowledge_base.index import Index
    from knowledge_base.retriever import Passage

__all__ = ["Checked", "Citation", "check", "cite", "resolve"]

EXCERPT_CHARS = 240


@dataclass(frozen=True)
class Citation:
    """A passage as an answer shows it: its number in the text, where it stands, and words taken from it unchanged."""

    number: int
    document: str
    section: str
    page: int | None
    excerpt: str
    chunk_id: str
    kind: str

    @property
    def quoted(self) -> str:
        """The excerpt between quotation marks; one that stops before its sentence does is marked so."""
        ended = self.excerpt.endswith((".", "!", "?", ":", ";"))
        return f"\u201c{self.excerpt}\u201d" + ("" if ended else " \u2026")

    @property
    def place(self) -> str:
        """Where the excerpt stands, in words."""
        section = self.section if self.section != self.document else ""
        return ", ".join(filter(None, [self.document, section, f"page {self.page}" if self.page else ""]))


@dataclass(frozen=True)
class Checked:
    """A text without what has no source, and the sentences that were taken out."""

    text: str
    removed: tuple[str, ...]


def cite(passages: Iterable["Passage"], question: str) -> tuple[Citation, ...]:
    """Number passages from 1, each with the sentences of it that answer the question best."""
    return tuple(
        Citation(
            number, passage.document, passage.section, passage.page, make_excerpt(passage.text, question),
            passage.chunk_id, passage.kind,
        )
        for number, passage in enumerate(passages, start=1)
    )  # fmt: skip


def make_excerpt(text: str, question: str, most: int = EXCERPT_CHARS) -> str:
    """Take unchanged words from a passage, ``most`` characters or less, around the sentence nearest to a question.

    White space is folded and double quotation marks become single ones, so that an excerpt can be quoted on one line.
    """
    sentences = [part for part in re.split(r"(?<=[.!?:])\s+|\s*\n\s*[-*#|>]+\s*|\n\n+", text) if fold(part)]
    if not sentences:
        return ""
    asked = set(re.findall(r"\w{4,}", question.lower()))
    shared = [len(asked & set(re.findall(r"\w{4,}", part.lower()))) for part in sentences]
    whole, start = fold(text), fold(sentences[shared.index(max(shared))])
    at = max(whole.find(start), 0)
    excerpt = whole[at : at + most]
    if at + most < len(whole):
        excerpt = excerpt[: excerpt.rfind(" ")] if " " in excerpt else excerpt
        end = max(excerpt.rfind(mark) for mark in ".!?")
        excerpt = excerpt[: end + 1] if end > most // 3 else excerpt
    return excerpt.strip()


def fold(text: str) -> str:
    """The words of a text on one line: no markup that a page would act on, single quotation marks.

    A passage may have been written by anyone; folded, it can neither look like a citation nor leave its quotation.
    """
    plain = re.sub(r"-{3,}|[*`#|<>\[\]\ue000\ue001]", " ", re.sub('["\u201c\u201d]', "'", text))
    return re.sub(r"\s+", " ", plain).strip()


def resolve(citations: Sequence[Citation], index: "Index") -> tuple[Citation, ...]:
    """Those citations whose passage is in the knowledge base now and still holds the excerpt."""
    from knowledge_base.retriever import find_passage

    kept = []
    for citation in citations:
        passage = find_passage(index, citation.chunk_id)
        if passage is not None and citation.excerpt in fold(passage.text) and passage.document == citation.document:
            kept.append(citation)
    return tuple(kept)


def check(text: str, facts: Iterable["Fact"], citations: Sequence[Citation], index: "Index | None" = None) -> Checked:
    """Remove every sentence with a number, time, address, quotation or citation that does not resolve.

    Args:
        text: an answer; lines are kept, each is cut into sentences.
        facts: their values and windows are what numbers may say.
        citations: what ``[n]`` may point to; a quotation between typographic quotation marks on a line with ``[n]``
            may say whatever the excerpt says.
        index: where given, citations are looked up in it first (``resolve``).
    """
    known = {one.number: one for one in (citations if index is None else resolve(citations, index))}
    values = _values(facts)
    lines: list[str | None] = []
    removed: list[str] = []
    numbering = 0
    for line in text.split("\n"):
        marker = _marker(line, numbering)
        listed = re.search(r"\d+", marker)
        numbering = int(listed.group()) if listed else numbering
        kept = _check_line(line[len(marker) :], values, known, removed)
        lines.append(marker + kept if kept or not line.strip() else None)
    return Checked("\n".join(_without_empty_headings(lines)), tuple(removed))


_MARKER = re.compile(r"\s*(?:[-*•]\s+)?(?:(\d{1,2})[.)]\s+)?")
_CITED = re.compile(r"\[\s*\^?\d+(?:\s*[,;]\s*\d+)*\s*\]")
_QUOTED = re.compile("\u201c([^\u201c\u201d]*)\u201d")
# Stand for a quotation or citation that resolves, and for one that does not, while its line is cut into sentences.
_HELD, _FALSE = "\ue000", "\ue001"  # private use: never text
_SENTENCE_END = re.compile(rf"""(?<=[.!?…])([*_)"\u201d']*(?:\s*[{_HELD}{_FALSE}])*\s+)(?=\S)""")


def _values(facts: Iterable["Fact"]) -> list[float | str]:
    """What facts know, as it is and as it is shown: "99.9 %" stands for 0.9996, which rounds to something else."""
    values: list[float | str] = []
    for fact in facts:
        shown = [show(name, value) for name, value in fact.values.items()]
        values += [*fact.values.values(), *shown, *fact.windows]
    return values


def _marker(line: str, numbering: int) -> str:
    """A bullet or list number at a line's start; a number that does not follow the one before it is no list number."""
    found = _MARKER.match(line)
    if found is None or (found[1] and int(found[1]) not in (1, numbering + 1)):
        return ""
    return found.group()


def _check_line(line: str, values: list[float | str], known: dict[int, Citation], removed: list[str]) -> str:
    cited = [known[number] for number in _numbers(line) if number in known]
    held: list[str] = []

    def hold(match: re.Match[str]) -> str:
        quotation = match[1]
        if quotation and not any(fold(quotation) in one.excerpt for one in cited):
            return match[0]
        held.append(match[0])
        return _HELD if quotation or _numbers(match[0]) <= known.keys() else _FALSE

    masked = re.sub(f"{_QUOTED.pattern}|{_CITED.pattern}", hold, re.sub(f"[{_HELD}{_FALSE}]", "", line))
    texts = iter(held)
    kept = ""
    for sentence in _sentences(masked):
        shown = re.sub(f"[{_HELD}{_FALSE}]", lambda _: next(texts), sentence)
        if _is_sourced(sentence, shown, values, known):
            kept += shown
        else:
            removed.append(shown.strip())
    return kept.rstrip()


def _numbers(text: str) -> set[int]:
    return {int(number) for cited in _CITED.findall(text) for number in re.findall(r"\d+", cited)}


def _sentences(line: str) -> list[str]:
    """A line in pieces that join to the line again; a citation after a full stop belongs to the sentence before it."""
    ends = [match.end(1) for match in _SENTENCE_END.finditer(line)]
    return [line[start:end] for start, end in zip([0, *ends], [*ends, len(line)], strict=True)]


def _is_sourced(masked: str, shown: str, values: list[float | str], known: dict[int, Citation]) -> bool:
    if _FALSE in masked:
        return False
    cited = _numbers(shown)
    if cited and re.search('["\u201c\u201d]', masked):
        return False  # words in quotation marks beside a citation that the passage does not hold
    allowed = values + [known[number].place for number in cited]
    return all(is_supported(quantity, allowed) for quantity in read_quantities(masked))


def _without_empty_headings(lines: list[str | None]) -> list[str]:
    """Drop removed lines, and a heading (a line all bold, or ending in a colon) that lost everything below it."""
    kept: list[str] = []
    lost = False
    for line in [*lines, ""]:
        if line is None:
            lost = True
            continue
        if not line.strip() and lost and kept and re.fullmatch(r"\*\*.*\*\*|.*:", kept[-1].strip()):
            kept.pop()
        lost = lost and bool(line.strip())
        kept.append(line)
    return kept[:-1]
