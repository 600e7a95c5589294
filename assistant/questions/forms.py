"""The closed set of queries, how people ask for each, and the words that they do it with."""

import re
from functools import cache
from pathlib import Path

from traffic.files import Strict, read_yaml

NONE, FEEDBACK = "none", "feedback"
# Words of under four letters, which are in no vocabulary, and which name no device.
_SHORT_WORDS = frozenset(
    "a an the is it my who why how all any ok der die das wer wie was el la que es".split()  # noqa: SIM905
)
_FOLDER = Path(__file__).parent


class QueryForm(Strict):
    """How a query is asked.

    Attributes:
        offer: a question of that kind, offered where a question was not understood.
        patterns: regular expressions over the plain question.
        examples: plain questions.
    """

    offer: str
    patterns: tuple[str, ...]
    examples: tuple[str, ...]


@cache
def read_forms() -> dict[str, QueryForm]:
    """The closed set of queries, in the order in which they are tried."""
    return {kind: form for kind, form in all_forms().items() if kind != NONE}


@cache
def all_forms() -> dict[str, QueryForm]:
    """The same with what is not asked of a plant."""
    return read_yaml(_FOLDER / "queries.yaml", dict[str, QueryForm], "a form a query")


@cache
def compile_terms() -> dict[str, dict[str, re.Pattern[str]]]:
    """The words that tell questions of one kind apart, by group and name."""
    return {
        group: {name: re.compile(pattern.replace("\n", "")) for name, pattern in terms.items()}
        for group, terms in read_terms().items()
        if group != "part"
    }


@cache
def read_terms() -> dict[str, dict[str, str]]:
    """Patterns by group and name, as terms.yaml has them."""
    return read_yaml(_FOLDER / "terms.yaml", dict[str, dict[str, str]], "patterns by group")


@cache
def vocabulary() -> frozenset[str]:
    """Whole words of the patterns and examples."""
    return frozenset(re.findall(r"(?<![a-z\\)?])[a-z]{4,}(?![a-z\\([?])", _all_patterns()))


@cache
def stems() -> frozenset[str]:
    """Beginnings of words, "writ" of "writ\\w+"."""
    return frozenset(re.findall(r"(?<![a-z\\)?])[a-z]{4,}(?=[\\([?])", _all_patterns()))


@cache
def _all_patterns() -> str:
    texts = [text for form in all_forms().values() for text in (*form.patterns, *form.examples)]
    texts += [one for terms in read_terms().values() for one in terms.values()]
    return re.sub(r"\\b", " ", " ".join(texts))


@cache
def by_length(length: int) -> tuple[str, ...]:
    """Words of the vocabulary that are as long, or a letter longer or shorter, sorted."""
    return tuple(sorted(one for one in vocabulary() if abs(len(one) - length) <= 1))


def is_ordinary(text: str) -> bool:
    """Whether all words of a text are such as questions consist of, so that it names nothing."""
    return set(re.findall(r"\w+", text.lower())) <= vocabulary() | _SHORT_WORDS
