"""Amounts: which kind a question asks for, and whether a passage states one of that kind.

"How long may the cable be" is not answered by a passage that has a cable and no length: of the facts
that manuals are asked for a third are amounts, and a sentence model sees the thing, not the unit. The
kinds are data, ``amounts.yaml``.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from knowledge_base.languages import to_english
from knowledge_base.vocabulary import concept_terms, word_terms
from knowledge_base.words import WORD
from traffic.files import Strict, parse_yaml

_KINDS = Path(__file__).with_name("amounts.yaml")
_NUMBER = r"(?:(?<![\w.])\d[\d.,]*\s?|\b(?:one|two|three|four|five|six|eight|ten|twelve|half an?) )"
_PARTLY = 0.5  # what a line is worth that has the unit or the name of the amount, not both
_PART_OF_LINE = re.compile(r"(?<=[.;])\s+")  # sentences of a paragraph


class _Kind(Strict):
    """What asks for one kind of amount, and how a text states it."""

    of: tuple[str, ...] = ()
    how: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    pattern: Annotated[str, Field(pattern=".")] = "(?!)"
    vague: bool = False


@dataclass(frozen=True)
class AskedAmount:
    """The amount that a question asks for.

    Attributes:
        kinds: its kinds, none where the question asks for no amount.
        naming: terms of the words that ask for it ("weight").
        things: terms of each other word: what it is the amount of.
        vague: whether a unit of these kinds says little: a manual has many times and lengths.
    """

    kinds: frozenset[str]
    naming: frozenset[str]
    things: tuple[frozenset[str], ...]
    vague: bool


def read_amount(text: str, words: Sequence[str]) -> AskedAmount:
    """Which amount a question asks for.

    Args:
        text: the question in English.
        words: its telling words.
    """
    kinds, naming = set(), set[str]()
    for kind, asking in _asking().items():
        for found in asking.finditer(text):
            kinds.add(kind)
            naming |= {term for word in WORD.findall(found[0]) for term in _terms(word)}
    things = tuple(one for word in words if naming.isdisjoint(one := _terms(word)))
    vague = all(_kinds()[kind].vague for kind in kinds)
    return AskedAmount(frozenset(kinds), frozenset(naming), things, vague)


def state_amount(asked: AskedAmount, text: str, device: frozenset[str]) -> float:
    """How surely a passage states an amount: 1 where a row or sentence has one of its kind beside its
    name or its thing, 0.5 where it has one of these alone, else 0.

    Args:
        asked: ``read_amount`` of the question, of some kind.
        text: the passage.
        device: terms that name the device it is about, and so no thing of it.
    """
    things = [one for one in asked.things if one.isdisjoint(device)]
    unit_tells = not things and not asked.vague
    best = 0.0
    for terms, kinds in _lines(text):
        stated = not asked.kinds.isdisjoint(kinds)
        named = not asked.naming.isdisjoint(terms)
        of_thing = any(not one.isdisjoint(terms) for one in things)
        if stated and (named or of_thing or unit_tells):
            return 1.0
        if stated or named:
            best = _PARTLY
    return best


@lru_cache(maxsize=2_000)
def _lines(text: str) -> tuple[tuple[frozenset[str], frozenset[str]], ...]:
    """The rows and sentences of a passage: the terms of each and the kinds of amounts in it."""
    found = []
    for line in to_english(text).splitlines():
        for part in [line] if "|" in line else _PART_OF_LINE.split(line):
            terms = frozenset(term for word in WORD.findall(part) for term in _terms(word))
            found.append((terms, frozenset(k for k, one in _stated().items() if one.search(part))))
    return tuple(found)


def _terms(word: str) -> frozenset[str]:
    return frozenset([*word_terms(word.lower()), *concept_terms(word)])


@cache
def _kinds() -> dict[str, _Kind]:
    return TypeAdapter(dict[str, _Kind]).validate_python(
        parse_yaml(_KINDS.read_text(encoding="utf-8"))
    )


@cache
def _asking() -> dict[str, re.Pattern[str]]:
    """What asks for each kind."""
    return {
        name: re.compile(
            rf"\b(?:{'|'.join([*(f'{one}s?' for one in kind.of), *(f'how {one}' for one in kind.how)])})\b",
            re.IGNORECASE,
        )
        for name, kind in _kinds().items()
    }


@cache
def _stated() -> dict[str, re.Pattern[str]]:
    """How each kind is stated."""
    return {
        name: re.compile(
            rf"{_NUMBER}(?:{'|'.join(map(_unit, kind.units)) or '(?!)'})(?![\w/²³])|{kind.pattern}"
        )
        for name, kind in _kinds().items()
    }


def _unit(unit: str) -> str:
    """A unit as it is written after a number; words of four letters and more also in the plural."""
    return re.escape(unit) + ("s?" if unit.isalpha() and len(unit) > 3 else "")
