"""The words of an index, and a question put into them.

An operator says "upgrade the inverter's software", the manual "update the firmware of the drive";
he types "f 07" where it prints "F07", and "swtich" for "switch". Before a question is looked for,
each of its words that no passage holds is replaced by the word of the passages that means the same,
names the same code, or is one typing error away.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from bm25s import BM25
from rapidfuzz import process
from rapidfuzz.distance import OSA

from knowledge_base.chunks import Chunk
from knowledge_base.languages import (
    ENGLISH,
    concept_of,
    english_words,
    find_concepts,
    stem,
    to_english,
)
from knowledge_base.minilm import Embedded
from knowledge_base.pieces import pieces_of
from knowledge_base.words import (
    APART,
    SMALL_WORDS,
    STOP_WORDS,
    WORD,
    code_key,
    has_digit,
    make_tokens,
    squash,
)

SHORTEST_MENDED, _LONG = 4, 8  # letters: one error from 4 on, two from 8 on
_OF_FIELD = (
    6  # and from how many on into a word of the field that no passage holds: "bake" is no brake
)
# A code whose letters and digits were typed apart: "f 07", "E 1042".
_TYPED_APART = re.compile(APART.pattern, re.IGNORECASE)
# A number whose words say that it is hex: "107 hex", "hex 107", "107h".
_TYPED_HEX = re.compile(r"\bhex\s([0-9a-f]{1,8})\b|\b([0-9a-f]{1,8})(?:h|\shex)\b", re.IGNORECASE)
_CONCEPT = "="  # before the name of a concept: no word of a text begins so
_HEX = frozenset(["exception", "code", "error", "fault"])  # what is numbered in hex or decimal
# A number that is all of the first or second cell of a table's row.
NUMBER_CELL = re.compile(r"^\|(?:[^|\n]*\|)?\W*(\d{1,5})\W*\|", re.MULTILINE)
SHORTEST_NAME, _LONG_NAME = 8, 16  # letters of a code without digits: one typing error, then two
_LEAST_PARTS, _MOST_PARTS = 3, 6  # words that such a code may be typed in; two are often just words
# "BadTimeout" and "ESP_ERR_TIMEOUT" in parts.
_NAME_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


@dataclass(frozen=True)
class Vocabulary:
    """The words of one version of the index.

    Attributes:
        chunks: all of it, sorted by id.
        rows: where each chunk stands in ``chunks``, by id.
        kinds: of each chunk, (n_chunks,).
        terms: what each chunk holds, by ``make_terms``.
        bm25: over these.
        rarity: how telling each term is, inverse document frequency ln(1 + n / df).
        spelt: words of letters alone, by their first letter.
        said: the word by which the chunks call a concept.
        codes: how the chunks write a code, by ``code_key``; one that they print apart, together.
        numbered: numbers that are all of the first or second cell of a table's row.
        names: how they write a code without digits ("BadTimeout"), by its letters.
    """

    chunks: tuple[Chunk, ...]
    rows: dict[str, int]
    kinds: np.ndarray
    terms: Sequence[frozenset[str]]
    bm25: BM25
    rarity: dict[str, float]
    spelt: dict[str, tuple[str, ...]]
    said: dict[str, str]
    codes: dict[str, str]
    numbered: frozenset[str]
    names: dict[str, str]

    @property
    def unknown(self) -> float:
        """Rarity of a word that no chunk holds: as telling as a word of one."""
        return float(np.log1p(len(self.chunks)))

    def which_hold(self, terms: Iterable[str]) -> np.ndarray:
        """Which chunks hold one of some terms, (n_chunks,), bool."""
        ends, holding = self.bm25.scores["indptr"], self.bm25.scores["indices"]
        held = np.zeros(len(self.chunks), dtype=bool)
        for at in (self.bm25.vocab_dict[term] for term in terms if term in self.rarity):
            held[holding[ends[at] : ends[at + 1]]] = True
        return held


def make_terms(text: str) -> list[str]:
    """What BM25 counts of a passage or a question: its words by their stems and as they are
    written, codes also without marks, and the concepts of the field that it names.

    >>> make_terms("G-05 flashes")
    ['g-05', 'g', '05', 'g05', 'flash', '=blink']
    """
    english = to_english(text)
    terms = _word_terms(text)
    if english != text:
        known = set(terms)
        terms += [term for term in _word_terms(english) if term not in known]
    return terms + [_CONCEPT + concept for concept in find_concepts(english)]


def _word_terms(text: str) -> list[str]:
    terms: list[str] = []
    for word in WORD.findall(text.lower()):
        terms += word_terms(word)
    return terms + ["".join(apart).lower() for apart in APART.findall(text)]


@lru_cache(maxsize=100_000)
def word_terms(word: str) -> tuple[str, ...]:
    """The terms of one word in small letters: whole and in parts by their stems, and its key where
    it is a code."""
    terms = [stem(token, ENGLISH) if token.isalpha() else token for token in make_tokens(word)]
    key = code_key(word)
    return (*terms, key) if key and key not in terms else tuple(terms)


def concept_terms(word: str) -> tuple[str, ...]:
    """The term of the concept that an English word names, none where it names none."""
    concept = concept_of(word.lower())
    return (_CONCEPT + concept,) if concept else ()


def put_in_words(read: Embedded, words: Vocabulary) -> str:
    """A question with the passages' own words in the place of those that no passage holds.

    Args:
        read: the question as the sentence model read it.
        words: those of the index.
    """
    text = _TYPED_APART.sub(
        lambda apart: words.codes.get(code_key(apart[1] + apart[2]), apart[0]), read.text
    )
    text = _TYPED_HEX.sub(lambda typed: _as_hex(typed, words), text)
    text = _join_names(text, words)
    if text != read.text:
        return text  # read again before more is replaced, for the pieces have moved
    return WORD.sub(lambda word: _right(word, read, words), read.text)


def _as_hex(typed: re.Match[str], words: Vocabulary) -> str:
    """A number that is said to be hex, as the passages write it; what they hold as it was typed is
    left ("24h")."""
    if typed[0].lower() in words.rarity:
        return typed[0]
    return words.codes.get(code_key("0x" + (typed[1] or typed[2])), typed[0])


def _join_names(text: str, words: Vocabulary) -> str:
    """Codes without digits that were typed in three or more words: "Bad Secure Channel Closed"."""
    found = [*WORD.finditer(text)] if words.names else []
    for start in range(len(found) - _LEAST_PARTS + 1):
        for end in range(start + _LEAST_PARTS, min(start + _MOST_PARTS, len(found)) + 1):
            begin, stop = found[start].start(), found[end - 1].end()
            if name := words.names.get(squash(text[begin:stop])):
                return text[:begin] + name + text[stop:]
    return text


def _right(word: re.Match[str], read: Embedded, words: Vocabulary) -> str:
    lower = word[0].lower()
    if (key := code_key(lower)) in words.codes:
        return words.codes[key]
    if name := _find_name(word[0], words):
        return name
    if lower in STOP_WORDS or not words.rarity.keys().isdisjoint(word_terms(lower)):
        return word[0]
    if concept := concept_of(lower):
        return words.said.get(concept, word[0])
    if len(lower) < SHORTEST_MENDED or not lower.isalpha() or pieces_of(word, read).sum() < 2:
        return word[0]  # a word that the sentence model knows whole is no typing error
    most = 1 if len(lower) < _LONG else 2
    of_field = english_words(lower[0]) if len(lower) >= _OF_FIELD else ()
    for some in (words.spelt.get(lower[0], ()), _small_words(lower[0]), of_field):
        found = process.extractOne(lower, some, scorer=OSA.distance, score_cutoff=most)
        if found:
            return found[0]
    return word[0]


@cache
def _small_words(letter: str) -> tuple[str, ...]:
    """The small words that begin with a letter and are long enough for a typing error."""
    long_enough = (one for one in SMALL_WORDS if len(one) >= SHORTEST_MENDED)
    return tuple(sorted(one for one in long_enough if one[0] == letter))


def _find_name(word: str, words: Vocabulary) -> str | None:
    """The code without digits that a word is, however it is written, or with a typing error: in a
    part of it that is no word of the passages ("mbc_set" is not "mbc_get")."""
    key = squash(word)
    if key in words.names or len(key) < SHORTEST_NAME or has_digit(word):
        return words.names.get(key)
    if not words.rarity.keys().isdisjoint(word_terms(word.lower())[:1]):
        return None
    most = 1 if len(key) < _LONG_NAME else 2
    found = process.extractOne(key, tuple(words.names), scorer=OSA.distance, score_cutoff=most)
    if found is None:
        return None
    meant = words.names[found[0]]
    right, typed = ({one.lower() for one in _NAME_PART.findall(it)} for it in (meant, word))
    wrong = [term for part in typed - right for term in word_terms(part)]
    return meant if words.rarity.keys().isdisjoint(wrong) else None


def numbers_alike(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """For each word of a question, in small letters, other ways to write its number, as
    ``code_key`` makes them: 0xb for the 11 of "exception 11", 11 for 0x0b.

    >>> [*numbers_alike(["exception", "11", "0x0b", "code", "0b"])]
    [(), ('0xb',), ('11',), (), ('0xb',)]
    """
    for before, word in zip(["", *words], words, strict=False):
        key = code_key(word)
        if re.fullmatch(r"0x[0-9a-f]{1,4}", key):
            yield (str(int(key, 16)),)
        elif word.isdigit() and len(word) <= 3 and before in _HEX:
            yield (f"0x{int(word):x}",)
        elif before in _HEX and re.fullmatch(r"\d[0-9a-f]{1,3}", word):
            yield (f"0x{int(word, 16):x}",)
        else:
            yield ()
