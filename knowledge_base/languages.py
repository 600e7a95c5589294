"""The field's words in other words and in other languages: Indonesian, German and Spanish.

The packaged sentence model reads English. A text in another language is put into English word by
word before it is embedded and indexed (``to_english``), passage and question alike; what is stored
and shown stays as it was written. The words are data, ``glossary.yaml``: about 500 concepts, each
with its English name, other English words, and its words in the other languages. Codes, numbers
and names are not translated, so they are found from any language.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import snowballstemmer

from knowledge_base.words import STOP_WORDS, WORD, has_digit
from traffic.files import parse_yaml

GLOSSARY = Path(__file__).with_name("glossary.yaml")
ENGLISH = "en"
_NAMES = {ENGLISH: "english", "id": "indonesian", "de": "german", "es": "spanish"}
_LEAST_SHARE = 0.15  # of a text's words: a name may be a word of another language
_SHORTEST_PART = 3  # letters of the parts of a compound
_JOINTS = ("", "s", "n", "en", "es")  # between the parts of a German compound


@dataclass(frozen=True)
class Glossary:
    """The words of one language.

    Attributes:
        language: its key in ``glossary.yaml``.
        exact: the English name of what words mean, by the words.
        stems: the same, by the stems of the words; "tekanan" (pressure) and "tekan" (press) share
            one, so the word itself comes first.
    """

    language: str
    exact: dict[tuple[str, ...], str]
    stems: dict[tuple[str, ...], str]

    def get(self, words: list[str]) -> str | None:
        """What a phrase means, None where it is not known."""
        found = self.exact.get(tuple(words))
        if found or any(map(has_digit, words)):  # a code is no form of a word
            return found
        return self.stems.get(tuple(stem(word, self.language) for word in words))


def language_of(text: str) -> str:
    """The language of a text: the one that most of its words speak for, English where none has more.

    Of English the small words count alone: "password", "update" and "reset" are said in every
    language of a plant.

    >>> language_of("bagaimana cara mengganti kata sandi"), language_of("reset the password")
    ('id', 'en')
    """
    words = [match[0].lower() for match in WORD.finditer(text)]
    votes = {language: sum(_speaks(word, language) for word in words) for language in _NAMES}
    best = max(votes, key=lambda language: votes[language])  # the first of equal ones: English
    return best if votes[best] >= _LEAST_SHARE * len(words) else ENGLISH


def writes_nouns_large(text: str) -> bool:
    """Whether a text's language begins every noun with a capital, so that one shows no name."""
    return language_of(text) == "de"


def to_english(text: str) -> str:
    """A text with its known words put into English one by one; an English text as it is.

    >>> to_english("Lupa kata sandi G-11"), to_english("Motorkabel prüfen")
    ('forgotten password G-11', 'motor cable check')
    """
    language = language_of(text)
    if language == ENGLISH:
        return text
    parts, end = [], 0
    for start, stop, concept in _find(text, language):
        parts += [text[end:start], concept]
        end = stop
    return "".join([*parts, text[end:]])


def find_concepts(text: str) -> list[str]:
    """What an English text speaks of, by the names of the glossary, in its order.

    >>> find_concepts("the LED flashes amber after a power cycle")
    ['light', 'blink', 'yellow', 'restart']
    """
    return [concept for _, _, concept in _find(text, ENGLISH) if _tells(concept)]


@lru_cache(maxsize=20_000)
def concept_of(word: str) -> str | None:
    """What an English word means, by the names of the glossary; None where it has no other word."""
    concept = _glossary(ENGLISH).get([word])
    return concept if concept and _tells(concept) else None


@cache
def english_words(letter: str) -> tuple[str, ...]:
    """The English words of the glossary that begin with a letter, phrases left out."""
    words = (one[0] for one in _glossary(ENGLISH).exact if len(one) == 1)
    return tuple(sorted(word for word in words if word.isalpha() and word[0] == letter))


def _tells(concept: str) -> bool:
    """Whether a concept has more than one English word; else the word says as much."""
    return concept in _several()


@cache
def _several() -> frozenset[str]:
    return frozenset(concept for concept, words in _table().items() if ENGLISH in words)


def _find(text: str, language: str) -> Iterator[tuple[int, int, str]]:
    """The longest known phrases of a text: from, before, what they mean."""
    known = _glossary(language)
    words = list(WORD.finditer(text))
    near = [word[0].lower() for word in words]
    after = 0  # words before it are taken
    for at, first in enumerate(near):
        if at < after:
            continue
        for count in range(_longest(first, language), 0, -1):
            if at + count > len(words):
                continue
            start, end = words[at].start(), words[at + count - 1].end()
            concept = known.get(near[at : at + count]) if "\n" not in text[start:end] else None
            if concept is None and count == 1:
                concept = _inflected(first, language) or _compound(first, language)
            if concept is not None:
                yield start, end, concept
                after = at + count
                break


@lru_cache(maxsize=100_000)
def _longest(word: str, language: str) -> int:
    """How many words the longest phrase has that begins with a word; 0 where none does."""
    longest = _longest_by_first(language)
    if has_digit(word):  # thousands of codes would be stemmed in vain
        return longest.get(word, 0)
    exact, stems = longest.get(word, 0), longest.get(_AS_STEM + stem(word, language), 0)
    return max(exact, stems, 1 if language == "de" else 0)


_AS_STEM = "~"  # before a stem: no word begins so


@cache
def _longest_by_first(language: str) -> dict[str, int]:
    """How many words the longest phrase has, by its first word or that word's stem."""
    known, longest = _glossary(language), dict[str, int]()
    for mark, phrases in (("", known.exact), (_AS_STEM, known.stems)):
        for words in phrases:
            first = mark + words[0]
            longest[first] = max(longest.get(first, 0), len(words))
    return longest


@lru_cache(maxsize=20_000)
def _speaks(word: str, language: str) -> bool:
    """Whether a word shows that a text is in a language."""
    if language == ENGLISH:
        return word in STOP_WORDS
    if len(word) < 2 or word in STOP_WORDS or has_digit(word) or _glossary(ENGLISH).get([word]):
        return False
    known = _glossary(language).get([word])
    return bool(known or _inflected(word, language) or _compound(word, language))


# "gewechselt", "ausgetauscht", "braucht", "meldet": the stemmer leaves them as they are.
_PARTICIPLE = re.compile(r"(ab|an|auf|aus|ein|her|hin|nach|um|vor|zu|zurück)?ge(\w{3,}?)(?:e?t|en)")
_PERSON = re.compile(r"()(\w{3,}?)e?t")


@lru_cache(maxsize=20_000)
def _inflected(word: str, language: str) -> str | None:
    """What a form of a German verb means by its infinitive."""
    if language != "de" or not word.isalpha():
        return None
    known = _glossary(language)
    for form in (_PARTICIPLE, _PERSON):
        if found := form.fullmatch(word):
            prefix, stem_ = found.groups(default="")
            for ending in ("en", "n"):
                if meant := known.exact.get((f"{prefix}{stem_}{ending}",)):
                    return meant
    return None


@lru_cache(maxsize=20_000)
def _compound(word: str, language: str) -> str | None:
    """What a German word of two known words means."""
    if language != "de" or not word.isalpha():
        return None
    known = _glossary(language)
    for at in range(len(word) - _SHORTEST_PART, _SHORTEST_PART - 1, -1):
        right = known.get([word[at:]])
        if right is None or right in STOP_WORDS:  # "regist-er" is no rain that is
            continue
        for joint in _JOINTS:
            left = word[:at].removesuffix(joint)
            if len(left) >= _SHORTEST_PART and (found := known.get([left])):
                return f"{found} {right}"
    return None


@lru_cache(maxsize=50_000)
def stem(word: str, language: str) -> str:
    """The stem of a word in small letters (Snowball)."""
    return _stemmer(language).stemWord(word)


@cache
def _stemmer(language: str) -> snowballstemmer.stemmer:
    return snowballstemmer.stemmer(_NAMES[language])


@cache
def _table() -> dict[str, dict[str, list[str]]]:
    return parse_yaml(GLOSSARY.read_text(encoding="utf-8"))


@cache
def _glossary(language: str) -> Glossary:
    exact: dict[tuple[str, ...], str] = {}
    for concept, words in _table().items():
        own = [concept] if language == ENGLISH else []
        for phrase in [*own, *words.get(language, ())]:
            exact.setdefault(tuple(word[0].lower() for word in WORD.finditer(phrase)), concept)
    stems: dict[tuple[str, ...], str] = {}
    for words_, concept in exact.items():
        stems.setdefault(tuple(stem(word, language) for word in words_), concept)
    return Glossary(language, exact, stems)
