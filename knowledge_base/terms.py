"""Words of technical text: what BM25 counts, and the terms by which a question shows that it is about the documents."""

import re
from collections.abc import Sequence
from itertools import pairwise

from knowledge_base.index import Index

__all__ = ["MAX_QUESTION_CHARS", "find_terms", "make_tokens"]

MAX_QUESTION_CHARS = 2000

_TOKEN = re.compile(r"\w+(?:[.:/-]\w+)*")
_PART = re.compile(r"[^\W_]+")
_JOINTED = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[\w-]+|\d{4,}|[A-Za-z]+-[A-Za-z]+")
_STOP_WORDS = """a an and are as at be been but by can could did do does for from had has have how i if in into is it
its me my of on or our should so than that the their them then there these they this to was we were what when where
which who why will with would you your"""
_STOP = frozenset(_STOP_WORDS.split())
_UNPAIRED = _STOP | {"no", "not", "off", "up", "out"}


def make_tokens(text: str) -> list[str]:
    """Cut technical text into lower-case words; compounds count whole and in parts, plurals as singulars.

    >>> make_tokens("Exceptions 0x0B and E-1042 on port 502")
    ['exception', '0x0b', 'e-1042', 'e', '1042', 'port', '502']
    """
    tokens: list[str] = []
    for whole in _TOKEN.findall(text.lower()):
        parts = _PART.findall(whole)
        tokens += [whole, *parts] if len(parts) > 1 else parts
    return [_singular(token) for token in tokens if token not in _STOP]


def _singular(word: str) -> str:
    plural = len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) and word.isalpha()
    return word[:-1] if plural else word


def find_terms(index: Index, question: str) -> set[str]:
    """Terms of the documents that a question names, in lower case: "0x0b", "keep-alive", "stp", "zero window".

    A term is a word with a digit or a joint in it, a word that is always written in capitals, or two telling words
    that stand beside each other. One common noun is none: that a past incident speaks of the weather makes no term.
    """
    if "terms" not in index.memo:
        index.memo["terms"] = _read_terms([chunk.context for chunk in index.chunks()])
    text = question[:MAX_QUESTION_CHARS]
    return {word for word in (*make_tokens(text), *_pairs(text)) if word in index.memo["terms"]}


def _read_terms(texts: Sequence[str]) -> frozenset[str]:
    words = {word for text in texts for word in _TOKEN.findall(text)}
    jointed = {word.lower() for word in words if _JOINTED.fullmatch(word)}
    capitals = {word.lower() for word in words if len(word) > 1 and word.isalpha() and word.isupper()}
    small = {word.lower() for word in words if not word.isupper()}
    return frozenset({*jointed, *(capitals - small), *(pair for text in texts for pair in _pairs(text))})


def _pairs(text: str) -> list[str]:
    """Telling words that follow each other; stop words between them are passed over, numbers part them."""
    told = [_singular(word) for word in _TOKEN.findall(text.lower()) if len(word) > 1 and word not in _UNPAIRED]
    return [f"{one} {other}" for one, other in pairwise(told) if not (one[0].isdigit() or other[0].isdigit())]
