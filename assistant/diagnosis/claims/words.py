"""The words of claims: tokens of a sentence, with concepts for words and base units for numbers."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import snowballstemmer

from traffic.files import Strict, read_yaml

Kind = Literal["who", "number", "moment", "word", "mark"]
NIL = "nil"  # the concept that says nothing
BOUNDS = ("at_most", "at_least")


class _Words(Strict):
    function: str
    negators: str
    narrowing: str
    converse: str
    light: str
    acts: str
    suffered: str
    verbs: str
    binding: str
    adverbs: str
    concepts: dict[str, list[str]]


@dataclass(frozen=True)
class Lexicon:
    """The table of words, each by its stem.

    Attributes:
        concepts: the concept of a phrase, by the stems of its words.
        longest: words of the longest phrase.
    """

    function: frozenset[str]
    negators: frozenset[str]
    narrowing: frozenset[str]
    converse: frozenset[str]
    light: frozenset[str]
    acts: frozenset[str]
    suffered: frozenset[str]
    verbs: frozenset[str]
    binding: frozenset[str]
    adverbs: frozenset[str]
    concepts: dict[tuple[str, ...], str]
    longest: int


@cache
def read_lexicon() -> Lexicon:
    """The words that claims are read by."""
    path = Path(__file__).with_name("words.yaml")
    words = read_yaml(path, _Words, "the words of claims")
    concepts = {
        tuple(stem(word) for word in phrase.split()): name
        for name, phrases in words.concepts.items()
        for phrase in phrases
    }
    plain = ("function", "negators")
    groups = {
        name: frozenset(
            one if name in plain or one in words.concepts else concepts.get((stem(one),), stem(one))
            for one in getattr(words, name).split()
        )
        for name in _Words.model_fields
        if name != "concepts"
    }
    return Lexicon(**groups, concepts=concepts, longest=max(map(len, concepts)))


@cache
def _stemmer() -> snowballstemmer.stemmer:
    return snowballstemmer.stemmer("english")


@cache
def stem(word: str) -> str:
    """The stem of an English word, by Porter's second stemmer."""
    return str(_stemmer().stemWord(word))


# ---- Tokens ----


@dataclass(frozen=True)
class Token:
    """A piece of a sentence.

    Attributes:
        kind: ``who``: a role; ``mark``: punctuation.
        text: as it stands there; a concept for a word that claims something.
        value, step: of a number in base units (s, bytes, one of a hundred), and of its last digit.
        dimension: ``""`` counts things; ``s``, ``bytes``, ``%``, ``per_s``, ``bit_per_s``.
        form: the word as it stands there.
    """

    kind: Kind
    text: str
    value: float = 0.0
    step: float = 0.0
    dimension: str = ""
    form: str = ""


_UNITS: dict[str, tuple[str, float]] = {
    "ms": ("s", 1e-3), "s": ("s", 1.0), "min": ("s", 60.0), "h": ("s", 3600.0), "%": ("%", 1.0),
    **dict.fromkeys(("sec", "secs", "second", "seconds"), ("s", 1.0)),
    **dict.fromkeys(("millisecond", "milliseconds"), ("s", 1e-3)),
    **dict.fromkeys(("minute", "minutes"), ("s", 60.0)), **dict.fromkeys(("hour", "hours"), ("s", 3600.0)),
    **dict.fromkeys(("day", "days"), ("s", 86400.0)), "percent": ("%", 1.0),
    **dict.fromkeys(("byte", "bytes"), ("bytes", 1.0)), "kb": ("bytes", 1e3), "mb": ("bytes", 1e6),
    "gb": ("bytes", 1e9), "mbit/s": ("bit_per_s", 1e6), "kbit/s": ("bit_per_s", 1e3),
    "packets/s": ("per_s", 1.0),
}  # fmt: skip
_COUNTS = {
    word: n
    for n, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve".split()  # noqa: SIM905
    )
} | {"once": 1, "twice": 2, "thrice": 3, "hundred": 100, "thousand": 1000}
_TOKEN = re.compile(
    rf"""
    (?P<moment>\d{{4}}-\d\d-\d\d(?:[ t]\d\d:\d\d(?::\d\d)?)?|\d\d:\d\d(?::\d\d)?)(?:z|\s*utc)?\b
  | (?P<who>\b(?:device|peer|name)\ \d+)
  | (?P<hex>\b0x[0-9a-f]+)
  | (?P<number>(?<![\w.])[-+]?(?:\d{{1,3}}(?:,\d{{3}})+|\d+)(?:\.\d+)?)
    (?:\s?(?P<unit>{"|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))})(?![a-z/]))?
  | (?P<word>[^\W\d_]+(?:['-][^\W\d_]+)*)
  | (?P<mark>['".,;:()?!])
  | (?P<other>\S)
    """,
    re.VERBOSE,
)
LABELS = ("port", "exception", "code", "function", "unit", "address", "version")


def read_tokens(text: str) -> list[Token]:
    """Cut a sentence, with roles for names, into tokens; words become concepts."""
    raw: list[Token] = []
    text = text.lower().replace("’", "'")
    text = re.sub(r"\b(?:every|each) (second|minute|hour|day)\b", r"every 1 \1", text)
    text = text.replace("no one", "nobody").replace("at once", "simultaneously")
    text = re.sub(r"\b((?:device|peer|name) \d+)'s?(?!\w)", r"\1 '", text)
    for match in _TOKEN.finditer(text):
        raw += _read_token(match)
    return list(_with_concepts(raw))


def _read_token(match: re.Match[str]) -> Iterator[Token]:
    if match["moment"]:
        yield Token("moment", match["moment"].replace("t", " "))
    elif match["who"]:
        yield Token("who", match["who"])
    elif match["number"]:
        digits = match["number"].replace(",", "")
        dimension, scale = _UNITS.get(match["unit"] or "", ("", 1.0))
        step = scale * 10.0 ** -len(digits.partition(".")[2])
        yield Token("number", match.group(), float(digits) * scale, step, dimension)
    elif match["mark"]:
        yield Token("mark", match["mark"])
    else:
        word = match.group()
        if word.endswith("'s"):
            word = word[:-2]
        if word in _COUNTS:
            yield Token("number", word, float(_COUNTS[word]), 1.0)
            if word in ("once", "twice", "thrice"):
                yield Token("word", "times", form="times")
        else:
            yield Token("word", word, form=word)


def _with_concepts(raw: list[Token]) -> Iterator[Token]:
    lexicon = read_lexicon()
    place = 0
    while place < len(raw):
        token = raw[place]
        if token.kind != "word":
            place += 1
            # "ten seconds": a number in words takes its unit from the next word.
            unit = raw[place].form if place < len(raw) and raw[place].kind == "word" else ""
            if token.kind == "number" and not token.dimension and unit in _UNITS:
                dimension, scale = _UNITS[unit]
                value, step = token.value * scale, token.step * scale
                token = Token("number", f"{token.text} {unit}", value, step, dimension)
                place += 1
            yield token
            continue
        for length in range(min(lexicon.longest, len(raw) - place), 0, -1):
            words = raw[place : place + length]
            if any(one.kind != "word" for one in words):
                continue
            found = lexicon.concepts.get(tuple(stem(one.form) for one in words))
            after = raw[place + length] if place + length < len(raw) else None
            if found in BOUNDS and length > 1 and (after is None or after.kind != "number"):
                continue  # "up to the end"
            if found is not None:
                yield Token("word", found, form=words[-1].form if length == 1 else found)
                break
        else:
            length = 1
            known = token.form in lexicon.function | lexicon.negators
            yield Token("word", token.form if known else stem(token.form), form=token.form)
        place += length
