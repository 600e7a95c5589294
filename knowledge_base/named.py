"""The device that a question names, and the passages that speak of it.

"What does E-35 mean on the GW-4" is no question to the manual of the GW-8, whose table has an E-35.
A question names a device by words of a title: its model, or what it is ("the compressor"). A passage
speaks of the named device where its document is about no device at all, or where it holds these words,
in its title, its headings or its text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from knowledge_base.languages import ENGLISH, language_of
from knowledge_base.relevance import Asked
from knowledge_base.vocabulary import Vocabulary, concept_terms, make_terms, word_terms
from knowledge_base.words import WORD, code_key, is_code

_KIND_LAST = (ENGLISH, "de")
_LEAST_DIGITS = 3  # of a number that is a code

# Words of titles that name the book, not the device.
_OF_BOOKS = frozenset(
    make_terms(
        "manual guide handbook instructions reference user operator operating operation installation "
        "setup commissioning maintenance service quick start datasheet data sheet register map description "
        "technical edition version firmware steps buku petunjuk panduan betriebsanleitung anleitung handbuch"
    )
)


@dataclass(frozen=True)
class Title:
    """The title of a document that is about a device.

    Attributes:
        terms: all that it holds, but words that name the book.
        naming: those without which it is not meant: maker and model, and what the device is ("port" is
            no name of an "8-port switch").
    """

    terms: frozenset[str]
    naming: frozenset[str]


@dataclass(frozen=True)
class Devices:
    """What the documents of an index are about.

    Attributes:
        titles: of the documents that are about a device, each once.
        general: which chunks are of documents that are about none, (n_chunks,), bool.
    """

    titles: tuple["Title", ...]
    general: np.ndarray


def read_devices(words: Vocabulary, about: Sequence[str]) -> Devices:
    """What the documents of an index are about.

    Args:
        words: those of the index.
        about: make and model of the device of each chunk's document, "" for none, (n_chunks,).
    """
    titles = {(c.document, one) for c, one in zip(words.chunks, about, strict=True) if one}
    return Devices(
        tuple(_read_title(title, one) for title, one in sorted(titles)),
        np.array([not one for one in about], dtype=bool),
    )


def _read_title(title: str, about: str) -> Title:
    terms = _naming_terms(title) - _OF_BOOKS
    written = [w for w in WORD.findall(title.split(":")[0]) if terms & _naming_terms(w)]
    # English and German put what a thing is last; elsewhere it stands first, and what it is for behind.
    kinds = written[-1:] if language_of(title) in _KIND_LAST else written
    return Title(terms, terms & _naming_terms(" ".join([about, *kinds])))


def _naming_terms(text: str) -> frozenset[str]:
    """The terms of a text without the parts of its codes: "port 7" is no SN-7."""
    codes = [word.lower() for word in WORD.findall(text) if is_code(word)]
    parts = frozenset().union(*(frozenset(word_terms(one)) - {one, code_key(one)} for one in codes))
    return frozenset(term for term in make_terms(text) if not term.isdigit()) - parts


@dataclass(frozen=True)
class Named:
    """What a question names.

    Attributes:
        inside: which chunks speak of it, (n_chunks,), bool; all where the question names nothing.
        by_model: whether it is named by its model: then nothing else can be meant.
        words: which of the question's words name it, (n_words,), bool.
    """

    inside: np.ndarray
    by_model: bool
    words: np.ndarray


def find_named(asked: Asked, words: Vocabulary, devices: Devices) -> Named:
    """Find the device that a question names.

    Of two titles the one that holds more of the question's words is meant ("serial gateway", where
    the other is a CAN gateway); where neither holds all that the other does, both are.
    """
    wanted = [
        code or terms.union(concept_terms(word))
        for word, code, terms in zip(asked.words, asked.codes, asked.terms, strict=True)
    ]
    found = {
        frozenset(at for at, terms in enumerate(wanted) if not title.terms.isdisjoint(terms))
        for title in devices.titles
        if not title.naming.isdisjoint(frozenset().union(*wanted))
    }
    most = [one for one in found if one and not any(one < other for other in found)]
    inside = devices.general.copy() if most else np.ones(len(devices.general), dtype=bool)
    for named in most:
        speaks = np.ones(len(inside), dtype=bool)
        for at in named:
            speaks &= words.which_hold(wanted[at])
        inside |= speaks
    naming = np.isin(np.arange(len(wanted)), [*frozenset().union(*most)])
    by_model = any(asked.codes[at] for at in np.flatnonzero(naming))
    return Named(inside, by_model, naming)


def read_within(asked: Asked, named: Named, words: Vocabulary) -> Asked:
    """A question to the named device: a code that only passages on other devices hold is one that no
    passage holds. Of a short number that cannot be told."""
    elsewhere = np.array(
        [
            bool(code)
            and not (word.isdigit() and len(word) < _LEAST_DIGITS)
            and not (named.inside & words.which_hold(code)).any()
            for word, code in zip(asked.words, asked.codes, strict=True)
        ]
    )
    if not elsewhere.any():
        return asked
    return replace(
        asked,
        known=asked.known & ~elsewhere,
        rarity=np.where(elsewhere, words.unknown, asked.rarity),
    )
