"""Read what a number counts or measures: of what, as part of which whole, and who does it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from assistant.diagnosis.claims.verbs import PREPOSITIONS, is_passive, is_verb, verb_at
from assistant.diagnosis.claims.words import LABELS, Token, read_lexicon


@dataclass(frozen=True)
class Measured:
    """A number and what it counts.

    Attributes:
        number: its token.
        nouns: the words after it that it counts, the last is the head; its label ("port") for one
            that names; empty where it stands alone.
        verb: of its clause, or the state that follows it ("5 refused").
        part: 1 for the first of "5 of 12", 2 for the second, else 0.
        bound: ``at_most``, ``at_least`` or "".
        agent: whether what it counts does what the verb says.
        whole: what the whole is counted in: "5 segments of 12 packets".
        denied: whether its clause, or the one that it goes on with, denies.
    """

    number: Token
    nouns: tuple[str, ...]
    verb: str
    part: int
    bound: str
    agent: bool
    whole: str = ""
    denied: bool = False


def measure(tokens: Sequence[Token], place: int, verbs: Sequence[int], verb: str) -> Measured:
    """What the number at a place counts or measures, of what, and who does it."""
    lexicon = read_lexicon()
    before = tokens[place - 1] if place else None
    label = before is not None and before.kind == "word" and before.text in LABELS
    part, rated = 0, False
    if label and before is not None:
        nouns = [before.text]
    else:
        part, after = _find_whole(tokens, place)
        plain = tokens[place].dimension in ("", "%")
        nouns, rated = _read_nouns(tokens, after, len(tokens) if plain else after)
    if part == 0 and before is not None and _is_whole(tokens, place):
        part = 2
    counted_in = _find_counted_in(tokens, place) if nouns and not label else ""
    bound = before.text if before is not None and before.text in ("at_most", "at_least") else ""
    mine, at = verb_at(tokens, place, verbs, verb)
    later = [one for one in verbs if one > place]
    if later and not label and (at < 0 or at > place or _follows(tokens, place, later[0])):
        mine, at = tokens[later[0]].text, later[0]
    counts = not label and not tokens[place].dimension and bool(nouns)
    agent = counts and at > place and not (before is not None and before.form in PREPOSITIONS)
    if counts and before is not None and before.form == "by":
        agent = True
    elif at >= 0 and (is_passive(tokens, at) or mine in lexicon.converse | {"no_answer", "refuse"}):
        agent = False
    number = tokens[place]
    number = replace(number, dimension="per_s") if rated and not number.dimension else number
    return Measured(number, tuple(nouns), mine, part, bound, agent, counted_in)


def _find_whole(tokens: Sequence[Token], place: int) -> tuple[int, int]:
    """Whether a number is part of one that follows ("5 of the 9 requests": 1, else 0), and where
    its noun may begin."""
    after = place + 1
    if after + 1 >= len(tokens) or tokens[after].form not in ("of", "out"):
        return 0, after
    follow = list(range(after, min(after + 4, len(tokens))))
    whole = next((one for one in follow if tokens[one].kind == "number"), None)
    skipped = all(
        tokens[one].form in ("of", "out", "the", "these", "its")
        for one in follow
        if whole and one < whole
    )
    if whole is not None and skipped:
        return 1, whole + 1
    if tokens[after + 1].form in ("these", "them", "those", "the", "its"):
        return 1, after + 2
    return 0, after


def _read_nouns(tokens: Sequence[Token], after: int, end: int) -> tuple[list[str], bool]:
    """The nouns from a place on, and whether the last word makes a rate of them."""
    lexicon = read_lexicon()
    nouns: list[str] = []
    rated = False
    for one in range(after, end):
        token = tokens[one]
        if token.kind == "mark" or token.kind != "word" or token.form in PREPOSITIONS:
            break
        rated = token.text == "per_s"
        if is_verb(tokens, one) or token.text in lexicon.adverbs | {"no_answer"}:
            break
        if token.form in ("times", "time"):
            nouns.append("times")
            break
        if token.form in lexicon.function | lexicon.negators:
            if token.form in ("the", "different", "other", "various"):
                continue
            break
        nouns.append(token.text)
    return nouns, rated


def _is_whole(tokens: Sequence[Token], place: int) -> bool:
    """Whether a number is the whole of one before it: the 9 of "5 of the 9 requests"."""
    back = list(tokens[max(place - 5, 0) : place])
    while back and back[-1].form in ("the", "these", "its"):
        back.pop()
    if not back or back[-1].form != "of":
        return False
    back.pop()
    while len(back) > 1 and back[-1].kind == "word" and _is_counted(back[-1]):
        back.pop()
    named = len(back) > 1 and back[-2].text in LABELS
    return not back or (back[-1].kind == "number" and not named)


def _find_counted_in(tokens: Sequence[Token], place: int) -> str:
    """The noun of the whole that follows: "requests" of "5 refused of 9 requests"."""
    rest = tokens[place + 1 :]
    ahead = [n for n, one in enumerate(rest[:6]) if one.kind == "number"]
    if not ahead or not any(one.form == "of" for one in rest[max(ahead[0] - 2, 0) : ahead[0]]):
        return ""
    of = [one for one in rest[ahead[0] + 1 : ahead[0] + 3] if one.kind == "word"]
    return of[0].text if of else ""


def _is_counted(token: Token) -> bool:
    return token.form not in PREPOSITIONS and token.form not in ("and", "or")


def _follows(tokens: Sequence[Token], place: int, verb: int) -> bool:
    """Whether nothing but the counted noun stands between a number and a verb: "5 refused"."""
    return all(
        one.kind == "word" and one.form not in PREPOSITIONS for one in tokens[place + 1 : verb]
    )
