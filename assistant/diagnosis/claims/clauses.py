"""Read the clauses of a sentence: who does what to whom, how many of what, when, and what is denied.

A shallow reading by rules, the same for a fact and for what a writer made of it. It need not be
right in every word: what it reads of a sentence must be found in what it reads of the fact.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from assistant.diagnosis.claims.measured import Measured, measure
from assistant.diagnosis.claims.verbs import PREPOSITIONS, Part, is_passive, is_verb, verb_at
from assistant.diagnosis.claims.words import NIL, Token, read_lexicon, read_tokens


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
        first = next((place for place in range(len(clause)) if is_verb(clause, place)), None)
        if first is not None:
            ahead = clause[:first]
            own = [one for one in ahead if one.kind in ("who", "number")]
            names = any(one.text in ("nobody", "nothing", "none") for one in ahead)
            before = [one.form for one in ahead if one.kind == "word"]
            if not own and not names and subject and set(before) <= _CARRIED:
                clause = [*subject, *clause]
            elif own and own[0].kind == "who" and not PREPOSITIONS.keys() & set(before):
                subject = own[:1]
        verbs = [place for place in range(len(clause)) if is_verb(clause, place)]
        if verbs:
            verb = clause[verbs[0]].text
            passive = is_passive(clause, verbs[0])
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
                (first.kind == "word" and any(is_verb(after, i) for i in range(len(after))))
                or (first.kind == "number" and not ranged)
                or token.text in ("which", "who", "while", "but", "what")
                or (
                    first.kind == "who"
                    and not ranged
                    and any(
                        is_verb(tokens, i) for i in range(place + 2, min(place + 5, len(tokens)))
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
            if len(inside) > 4 and any(is_verb(tokens, one) for one in inside):
                places |= {opened, place}
            opened = -1
    return places


def _is_title(tokens: Sequence[Token], place: int) -> bool:
    """Whether a word only says what a name is: "the address device 1"."""
    after = tokens[place + 1] if place + 1 < len(tokens) else None
    return tokens[place].text in _TITLES and after is not None and after.kind == "who"


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
            measured = measure(tokens, place, verbs, verb)
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


def _find_part(
    tokens: Sequence[Token], place: int, verbs: Sequence[int], verb: str, passive: bool
) -> tuple[Part, str]:
    lexicon = read_lexicon()
    bound_to, at = verb_at(tokens, place, verbs, verb)
    if at >= 0:
        passive = is_passive(tokens, at)
    before = place - 1
    while before >= 0 and tokens[before].kind == "word" and tokens[before].form not in PREPOSITIONS:
        if before in verbs or tokens[before].form in ("and", "that", "what", "which"):
            break
        before -= 1
    start = tokens[before] if before >= 0 else None
    after = tokens[place + 1] if place + 1 < len(tokens) else None
    if after is not None and after.text == "'":
        return "of", bound_to
    if start is not None and start.kind == "word" and start.form in PREPOSITIONS:
        part = PREPOSITIONS[start.form]
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
