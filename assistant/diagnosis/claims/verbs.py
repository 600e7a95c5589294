"""Verbs of a clause and the words that stand before who takes part: what clauses and numbers need alike."""

from collections.abc import Sequence
from typing import Literal

from assistant.diagnosis.claims.words import Token, read_lexicon

Part = Literal["agent", "patient", "of", "between", "beside"]

_BE = frozenset("is are was were be been being".split())  # noqa: SIM905
_HAVE = frozenset("has have had having".split())  # noqa: SIM905
PREPOSITIONS: dict[str, Part] = {
    "by": "agent", "from": "agent", "to": "patient", "at": "patient", "on": "patient", "against": "patient",
    "towards": "patient", "into": "patient", "of": "of", "between": "between", "with": "patient", "for": "of",
    "among": "between", "behind": "beside", "through": "beside", "over": "beside", "in": "beside", "via": "beside",
}  # fmt: skip
_PARTICIPLES = frozenset(
    "sent made got heard seen held kept lost left met written told said taken given found read resent".split()  # noqa: SIM905
)


def is_verb(tokens: Sequence[Token], place: int) -> bool:
    lexicon, token = read_lexicon(), tokens[place]
    if token.kind != "word" or token.text not in lexicon.verbs | lexicon.light:
        return False
    if token.text in lexicon.light:
        return token.form not in lexicon.function
    if token.form.endswith("ed") or token.form in _PARTICIPLES or token.text == "no_answer":
        return True
    before = tokens[place - 1] if place else None
    if before is None:
        return True
    if before.kind == "number":
        return False
    noun = {
        "the",
        "a",
        "an",
        "of",
        "these",
        "its",
        "no",
        "each",
        "any",
        "that",
        "without",
        "per",
        "by",
        "first",
        "last",
    }
    plain = before.kind == "word" and before.form not in lexicon.function | lexicon.negators
    after = tokens[place + 1] if place + 1 < len(tokens) else None
    takes = after is not None and (after.kind == "who" or after.form in ("the", "a", "an"))
    return not (before.form in noun and before.kind == "word") and not (
        plain and token.text in lexicon.acts and not takes
    )


def is_passive(tokens: Sequence[Token], place: int) -> bool:
    form = tokens[place].form
    if not (form.endswith("ed") or form in _PARTICIPLES or form == tokens[place].text == "resend"):
        return False
    for ahead in reversed(tokens[max(place - 4, 0) : place]):
        if ahead.form in _BE:
            return True
        if ahead.form in _HAVE or ahead.kind == "who":
            return False
    after = tokens[place + 1] if place + 1 < len(tokens) else None
    before = tokens[place - 1] if place else None
    return (after is not None and after.form == "by") or (
        before is not None and before.kind == "number"
    )


def verb_at(
    tokens: Sequence[Token], place: int, verbs: Sequence[int], verb: str
) -> tuple[str, int]:
    """The verb that a place belongs to: the last before it, else the first after it."""
    before = [one for one in verbs if one < place]
    if before:
        return tokens[before[-1]].text, before[-1]
    return (tokens[verbs[0]].text, verbs[0]) if verbs else (verb, -1)
