"""Read the clauses of a sentence: who does what to whom, how many of what, when, and what is denied.

A shallow reading by rules, the same for a fact and for what a writer made of it. It need not be
right in every word: what it reads of a sentence must be found in what it reads of the fact.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from assistant.diagnosis.claims.words import LABELS, NIL, Token, read_lexicon, read_tokens

Part = Literal["agent", "patient", "of", "between", "beside"]


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


@dataclass
class Claim:
    """What a text says, in the fields in which it is compared.

    Attributes:
        who: (role, part, verb).
        measured: numbers with what they count.
        moments: (``from``, ``since``, ``until``, ``at`` …, moment).
        words: (concept, whether it is denied).
        done: the same of those that stand as verbs.
        clauses: what each clause holds.
    """

    who: set[tuple[str, Part, str]] = field(default_factory=set)
    measured: list[Measured] = field(default_factory=list)
    moments: set[tuple[str, str]] = field(default_factory=set)
    words: set[tuple[str, bool]] = field(default_factory=set)
    done: set[tuple[str, bool]] = field(default_factory=set)
    clauses: list["Clause"] = field(default_factory=list)

    @property
    def verbs(self) -> set[str]:
        """The verbs that bind somebody."""
        return {verb for _, _, verb in self.who}


@dataclass(frozen=True)
class Clause:
    """Concepts, numbers, narrowing words, how often it denies, whether it denies its verb."""

    words: frozenset[str]
    numbers: tuple[Token, ...]
    narrowing: frozenset[str]
    denials: int
    done_denied: bool


_TITLES = ("address", "device")
_BE = frozenset("is are was were be been being".split())  # noqa: SIM905
_HAVE = frozenset("has have had having".split())  # noqa: SIM905
_PREPOSITIONS: dict[str, Part] = {
    "by": "agent", "from": "agent", "to": "patient", "at": "patient", "on": "patient", "against": "patient",
    "towards": "patient", "into": "patient", "of": "of", "between": "between", "with": "patient", "for": "of",
    "among": "between", "behind": "beside", "through": "beside", "over": "beside", "in": "beside", "via": "beside",
}  # fmt: skip
_PARTICIPLES = frozenset(
    "sent made got heard seen held kept lost left met written told said taken given found read resent".split()  # noqa: SIM905
)
_SINCE = {
    "since": "since", "from": "from", "between": "from", "starting": "from", "until": "until", "till": "until",
    "to": "until", "at": "at", "before": "before", "after": "after", "on": "at", "by": "until", "start": "from",
}  # fmt: skip


def read_claim(text: str, pronoun: str = "") -> Claim:
    """Parse a text with roles for names.

    Args:
        text: of a fact or a writer.
        pronoun: the role that "it" stands for in the middle of a fact's text.
    """
    claim = Claim()
    verb, passive = "", False
    subject: list[Token] = []
    for clause in _cut_clauses(_resolved(read_tokens(text), pronoun)):
        first = next((place for place in range(len(clause)) if _is_verb(clause, place)), None)
        if first is not None:
            ahead = clause[:first]
            own = [one for one in ahead if one.kind in ("who", "number")]
            names = any(one.text in ("nobody", "nothing", "none") for one in ahead)
            before = [one.form for one in ahead if one.kind == "word"]
            if not own and not names and subject and set(before) <= _CARRIED:
                clause = [*subject, *clause]
            elif own and own[0].kind == "who" and not _PREPOSITIONS.keys() & set(before):
                subject = own[:1]
        verbs = [place for place in range(len(clause)) if _is_verb(clause, place)]
        if verbs:
            verb = clause[verbs[0]].text
            passive = _is_passive(clause, verbs[0])
        _read_clause(claim, clause, verbs, verb, passive)
    return claim


# What may stand before the verb of a clause that goes on with the subject of the one before.
_CARRIED = frozenset((
    *("and", "but", "it", "then", "also", "so", "first", "that", "to"),
    *("is", "are", "was", "were", "has", "have", "had", "never", "not"),
))  # fmt: skip


def _resolved(tokens: list[Token], pronoun: str) -> list[Token]:
    """Tokens with the role that a pronoun stands for; "for it" may mean another."""
    if not pronoun:
        return tokens
    return [
        Token("who", pronoun)
        if one.form == "it" and place and tokens[place - 1].form != "for"
        else one
        for place, one in enumerate(tokens)
    ]


def _cut_clauses(tokens: list[Token]) -> list[list[Token]]:
    """Clauses: at marks, and at a conjunction that a verb or a number follows."""
    clauses: list[list[Token]] = [[]]
    asides = _long_asides(tokens)
    for place, token in enumerate(tokens):
        ends = token.kind == "mark" and (token.text in ".;:?!," or place in asides)
        if token.kind == "word" and token.text in ("and", "but", "while", "which", "who", "what"):
            after = tokens[place + 1 : place + 4]
            first = after[0] if after else None
            nested = token.text == "what" and bool(clauses[-1]) and clauses[-1][-1].form == "of"
            ranged = any(one.text in ("between", "from") for one in clauses[-1][-4:])
            starts = first is not None and (
                (first.kind == "word" and any(_is_verb(after, i) for i in range(len(after))))
                or (first.kind == "number" and not ranged)
                or token.text in ("which", "who", "while", "but", "what")
                or (
                    first.kind == "who"
                    and not ranged
                    and any(
                        _is_verb(tokens, i) for i in range(place + 2, min(place + 5, len(tokens)))
                    )
                )
            )
            ends = ends or (starts and not nested)
        if ends:
            clauses.append([])
        else:
            clauses[-1].append(token)
    return [one for one in clauses if one]


def _long_asides(tokens: Sequence[Token]) -> set[int]:
    """Places of the brackets around what is a clause of its own: it has a verb."""
    places: set[int] = set()
    opened = -1
    for place, token in enumerate(tokens):
        if token.text == "(":
            opened = place
        elif token.text == ")" and opened >= 0:
            inside = range(opened + 1, place)
            if len(inside) > 4 and any(_is_verb(tokens, one) for one in inside):
                places |= {opened, place}
            opened = -1
    return places


def _is_verb(tokens: Sequence[Token], place: int) -> bool:
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


def _is_title(tokens: Sequence[Token], place: int) -> bool:
    """Whether a word only says what a name is: "the address device 1"."""
    after = tokens[place + 1] if place + 1 < len(tokens) else None
    return tokens[place].text in _TITLES and after is not None and after.kind == "who"


def _is_passive(tokens: Sequence[Token], place: int) -> bool:
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


def _read_clause(
    claim: Claim, tokens: list[Token], verbs: list[int], verb: str, passive: bool
) -> None:
    lexicon = read_lexicon()
    denied = _denied_places(tokens, verbs)
    # A clause without a verb goes on with the one before.
    goes_on = not verbs and bool(claim.clauses) and claim.clauses[-1].done_denied
    done_denied = bool(denied & set(verbs)) or goes_on
    words = set()
    for place, token in enumerate(tokens):
        if token.kind == "word" and token.form not in lexicon.function | lexicon.negators:
            if token.text == NIL or _is_title(tokens, place):
                continue
            words.add(token.text)
            if token.text not in lexicon.light or place in denied:
                claim.words.add((token.text, place in denied))
            if place in verbs:
                claim.done.add((token.text, place in denied))
        elif place in denied:
            claim.words.add(("so", True))
        if token.kind == "who":
            part, bound_to = _find_part(tokens, place, verbs, verb, passive)
            claim.who.add((token.text, part, bound_to))
            if (
                place >= 2
                and tokens[place - 1].text in ("and", ",")
                and tokens[place - 2].kind == "who"
            ):
                before = [p for w, p, _ in claim.who if w == tokens[place - 2].text]
                claim.who.discard((token.text, part, bound_to))
                claim.who |= {(token.text, p, bound_to) for p in before}
        if token.kind == "moment":
            claim.moments.add((_find_relation(tokens, place), token.text))
        if token.kind == "number":
            measured = _measure(tokens, place, verbs, verb)
            claim.measured.append(replace(measured, denied=done_denied))
    nothing = any(one.form == "nothing" for one in tokens)
    if nothing and ("send", True) in claim.words and not words & lexicon.narrowing:
        claim.words.add(("quiet", False))
    claim.clauses.append(
        Clause(
            frozenset(words),
            tuple(one for one in tokens if one.kind == "number"),
            frozenset(words & lexicon.narrowing),
            sum(one.form in lexicon.negators for one in tokens if one.kind == "word"),
            done_denied,
        )
    )


def _denied_places(tokens: list[Token], verbs: list[int]) -> set[int]:
    """Places of the words that are denied: the next that claims something, and for a denial that
    stands for somebody ("nobody", "nothing") the verb."""
    lexicon = read_lexicon()
    places: set[int] = set()
    for place, token in enumerate(tokens):
        if token.kind != "word" or token.form not in lexicon.negators:
            continue
        if token.form in ("nobody", "nothing", "none") and verbs:
            relative = any(one.form == "what" for one in tokens[place:])
            places.add(verbs[-1] if relative else min(verbs, key=lambda one: abs(one - place)))
            continue
        following = [
            one
            for one in range(place + 1, len(tokens))
            if tokens[one].kind != "word" or tokens[one].form not in lexicon.function
        ]
        # "is not 5 minutes" denies what it says as a whole.
        whole = not following or tokens[following[0]].kind != "word"
        places.add(place if whole else following[0])
    return places


def _verb_at(
    tokens: Sequence[Token], place: int, verbs: Sequence[int], verb: str
) -> tuple[str, int]:
    """The verb that a place belongs to: the last before it, else the first after it."""
    before = [one for one in verbs if one < place]
    if before:
        return tokens[before[-1]].text, before[-1]
    return (tokens[verbs[0]].text, verbs[0]) if verbs else (verb, -1)


def _find_part(
    tokens: Sequence[Token], place: int, verbs: Sequence[int], verb: str, passive: bool
) -> tuple[Part, str]:
    lexicon = read_lexicon()
    bound_to, at = _verb_at(tokens, place, verbs, verb)
    if at >= 0:
        passive = _is_passive(tokens, at)
    before = place - 1
    while (
        before >= 0 and tokens[before].kind == "word" and tokens[before].form not in _PREPOSITIONS
    ):
        if before in verbs or tokens[before].form in ("and", "that", "what", "which"):
            break
        before -= 1
    start = tokens[before] if before >= 0 else None
    after = tokens[place + 1] if place + 1 < len(tokens) else None
    if after is not None and after.text == "'":
        return "of", bound_to
    if start is not None and start.kind == "word" and start.form in _PREPOSITIONS:
        part = _PREPOSITIONS[start.form]
        if bound_to == "hear" and start.form == "from":
            return "patient", bound_to
        noun = tokens[before - 1].text if before else ""
        if noun in lexicon.acts and start.form in ("of", "by", "from"):
            return "agent", noun
        if noun in lexicon.suffered and start.form == "of":
            return "patient", noun
        return part, bound_to
    active_subject = at < 0 or place < at
    receives = bound_to in lexicon.converse
    part = ("patient" if passive != receives else "agent") if active_subject else "patient"
    return part, "send" if receives else bound_to


def _find_relation(tokens: Sequence[Token], place: int) -> str:
    for before in range(place - 1, max(place - 5, -1), -1):
        token = tokens[before]
        if token.form in _SINCE and token.kind == "word":
            starts = before and tokens[before - 1].text == "start"
            return "from" if starts and token.form in ("at", "on") else _SINCE[token.form]
        if token.form == "and" and any(one.form == "between" for one in tokens[:before]):
            return "until"
        if token.kind in ("who", "number"):
            break
    return "at"


def _measure(tokens: Sequence[Token], place: int, verbs: Sequence[int], verb: str) -> Measured:
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
    mine, at = _verb_at(tokens, place, verbs, verb)
    later = [one for one in verbs if one > place]
    if later and not label and (at < 0 or at > place or _follows(tokens, place, later[0])):
        mine, at = tokens[later[0]].text, later[0]
    counts = not label and not tokens[place].dimension and bool(nouns)
    agent = counts and at > place and not (before is not None and before.form in _PREPOSITIONS)
    if counts and before is not None and before.form == "by":
        agent = True
    elif at >= 0 and (
        _is_passive(tokens, at) or mine in lexicon.converse | {"no_answer", "refuse"}
    ):
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
        if token.kind == "mark" or token.kind != "word" or token.form in _PREPOSITIONS:
            break
        rated = token.text == "per_s"
        if _is_verb(tokens, one) or token.text in lexicon.adverbs | {"no_answer"}:
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
    return token.form not in _PREPOSITIONS and token.form not in ("and", "or")


def _follows(tokens: Sequence[Token], place: int, verb: int) -> bool:
    """Whether nothing but the counted noun stands between a number and a verb: "5 refused"."""
    return all(
        one.kind == "word" and one.form not in _PREPOSITIONS for one in tokens[place + 1 : verb]
    )
