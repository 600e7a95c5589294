"""Whether a fact bears what a sentence of a writer says: who, to whom, how many of what, when, and
whether it is denied.

Both are parsed by the same rules into claims, one a clause, after names became roles; each part of
the sentence's must be found in the fact's:

    device 1 sent 412 attempts to port 502 of 254 devices
    verb send · device 1: agent · 412 attempt · 502 port · 254 device · not denied

What a sentence leaves out it does not say; what it says with other words must stand in the table of
words (``words.yaml``); what is not understood does not stand. A sentence of advice stands only if
it is a check of the playbook or of a cited passage.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from assistant.diagnosis.citations import fold
from assistant.diagnosis.claims.clauses import Claim, read_claim
from assistant.diagnosis.claims.measured import Measured
from assistant.diagnosis.claims.verbs import Part
from assistant.diagnosis.claims.words import LABELS, Token, read_lexicon, read_tokens, stem
from assistant.diagnosis.pseudonyms import assign_roles
from assistant.facts.fact import Fact, show


def find_fault(text: str, facts: Sequence[Fact], advice: Iterable[str] = ()) -> str:
    """Say why a sentence does not stand.

    Args:
        text: one sentence or several of a writer, with names as facts write them.
        facts: those that it names as its sources.
        advice: checks and passages that it may repeat as they are.

    Returns:
        "" where one fact bears each of its sentences, or one fact each half of a joined one.
    """
    allowed = {fold(part).rstrip(".").lower() for one in advice for part in _sentences(one)}
    sentences = _sentences(text)
    for sentence in sentences:
        if fold(sentence).rstrip(".").lower() in allowed:
            continue
        if fault := _find_fault(sentence, facts):
            return fault
    return "" if sentences else "it says nothing"


def _sentences(text: str) -> list[str]:
    return [one for one in re.split(r"(?<=[.!?])\s+(?=[A-Z\d])", text.strip()) if one.strip()]


def _find_fault(sentence: str, facts: Sequence[Fact]) -> str:
    fault = "it rests on no fact"
    for fact in facts:
        fault = _compare(sentence, fact)
        if not fault:
            return ""
    if len(facts) > 1:
        for match in re.finditer(r"(?:;|, and|, while|,? and|,? while)\s+", sentence):
            left, right = sentence[: match.start()], sentence[match.end() :]
            if _is_borne(left, facts) and _is_borne(right, facts, left):
                return ""
    return fault


def _is_borne(text: str, facts: Sequence[Fact], before: str = "") -> bool:
    """Whether one fact bears half of a joined sentence; the second half names whom it is about, or
    its fact is about somebody of the first."""
    for fact in facts:
        if _compare(text, fact):
            continue
        roles = assign_roles([fact])
        if not before or re.match(r"(?:the )?(?:device|peer|name) \d", roles.hide(text).lower()):
            return True
        if re.search(r"\b(?:device|peer|name) \d", roles.hide(before)):
            return True
    return False


def _compare(sentence: str, fact: Fact) -> str:
    """Why a fact does not bear a sentence, "" where it does."""
    if "?" in sentence:
        return "it asks"
    roles = assign_roles([fact])
    device = fact.values.get("device")
    source = fact.text
    if isinstance(device, str) and source.startswith(("It ", "Its ")):
        source = device + re.sub(r"^Its?", "", source)
    ours, theirs = roles.hide(sentence), roles.hide(source)
    for unknown in ("another address", "a name"):
        if unknown in ours and unknown not in theirs:
            return "it names somebody whom the fact does not name"
    first = re.search(r"\b(?:device|peer|name) \d+\b", theirs)
    borne = _sharpened(read_claim(theirs, first.group() if first else ""), fact)
    if ours.strip(" .") == theirs.strip(" ."):
        return ""
    said = read_claim(ours)
    return (
        _compare_asides(ours, theirs)
        or _compare_words(ours, fact.text, said, borne)
        or _compare_who(said, borne)
        or _compare_numbers(said, borne)
        or _compare_moments(said, borne)
        or _compare_narrowing(said, borne)
        or _compare_failures(said, borne)
    )


def _sharpened(claim: Claim, fact: Fact) -> Claim:
    """The fact's claim with its values in the place of what is shown of them, which is rounded."""
    exact = {
        show(name, value).lower(): value
        for name, value in fact.values.items()
        if not isinstance(value, str)
    }
    sharp = []
    for one in claim.measured:
        value = exact.get(one.number.text.strip())
        number = one.number
        if value is not None:
            value = 100 * value if number.dimension == "%" else value
            value = 1e6 * value if number.dimension == "bit_per_s" else value
            if abs(value - number.value) <= number.step:
                number = Token("number", number.text, value, number.step, number.dimension)
        sharp.append(replace(one, number=number))
    claim.measured = sharp
    return claim


def _compare_words(ours: str, theirs: str, said: Claim, borne: Claim) -> str:
    lexicon = read_lexicon()
    if re.match(r"(?i)(it|its|they|he|she)\b", ours) and not re.match(
        r"(?i)(it|its|they)\b", theirs
    ):
        return "nobody knows whom its first word means"
    first = read_tokens(ours)[:1]
    if first and first[0].kind == "word" and _is_base_verb(first[0]):
        return "it is advice that no check gives"
    known = {word for word, _ in borne.words}
    if "send" in known and "send" in said.verbs:
        known.add("receive")  # its direction is compared with the names
    sends = any(word in known & lexicon.acts for word, _ in said.words)
    if sends or ("receive" in known and "send" in said.verbs):
        known.add("send")
    said_words = {
        (w, d) for w, d in said.words if w in {x for x, _ in borne.words} or w not in known
    }
    for word, denied in sorted(said_words):
        if word not in known and word not in lexicon.light:
            return f"the fact does not say {word!r}"
        if (word, denied) not in borne.words and not (word in lexicon.light and not denied):
            return f"it denies {word!r}" if denied else f"the fact denies {word!r}"
    for word, denied in sorted(said.done):
        if (word, not denied) in borne.done and (word, denied) not in borne.done:
            return f"it denies {word!r}" if denied else f"the fact denies {word!r}"
    most = max((one.denials for one in borne.clauses), default=0)
    if any(one.denials > max(most, 1) for one in said.clauses):
        return "it denies twice"
    return ""


def _is_base_verb(token: Token) -> bool:
    lexicon = read_lexicon()
    base = token.form == token.text or stem(token.form) == token.form
    return base and token.text in lexicon.verbs and token.text not in lexicon.acts


def _compare_who(said: Claim, borne: Claim) -> str:
    lexicon = read_lexicon()
    same: dict[Part, tuple[Part, ...]] = {
        "of": ("of", "patient"), "patient": ("patient", "of"), "beside": ("beside", "patient"),
    }  # fmt: skip
    for name, part, verb in sorted(said.who):
        parts = same.get(part, (part,))
        known = {(p, v) for n, p, v in borne.who if n == name}
        if not known:
            return f"the fact does not name {name}"
        fits = {(p, v) for p, v in known if p in parts}
        if not fits:
            return f"{name} is no {part} there"
        if any(v == verb for _, v in known) and not any(v == verb for _, v in fits):
            return f"{name} is no {part} of {verb!r}"
        if verb in lexicon.binding and verb not in borne.verbs:
            return f"the fact does not say who it is that {verb!r} is said of"
        # The fact says who does or suffers that, and it is somebody else.
        others = {n for n, p, v in borne.who if v == verb and p in parts}
        if others and name not in others:
            return f"{name} is no {part} of {verb!r}"
    return ""


def _compare_numbers(said: Claim, borne: Claim) -> str:
    for one in said.measured:
        alike = [other for other in borne.measured if _same_number(one, other)]
        if not alike:
            return f"the fact does not say {one.number.text.strip()}"
        if not any(_same_thing(one, other, borne) for other in alike):
            return f"{one.number.text.strip()} counts something else"
    return ""


def _same_number(one: Measured, other: Measured) -> bool:
    if one.number.dimension != other.number.dimension:
        return False
    return abs(one.number.value - other.number.value) <= one.number.step * 0.5 * (1 + 1e-9)


def _same_thing(one: Measured, other: Measured, borne: Claim) -> bool:
    lexicon = read_lexicon()
    if one.bound != other.bound or (
        (one.part == 1) != (other.part == 1) and 0 not in (one.part, other.part)
    ):
        return False
    if one.agent and not other.agent:
        return False
    if other.part == 2 and one.part != 2:  # a whole is not its part
        return False
    if one.denied != other.denied:
        return False
    if one.nouns and one.nouns[-1] in LABELS:
        return one.nouns == other.nouns
    loose = {"times", *lexicon.acts}
    if one.nouns and other.nouns:
        heads = {one.nouns[-1], other.nouns[-1]}
        if one.part == 1 and one.nouns[-1] == other.whole:
            heads = {other.whole}
        if len(heads) == 2 and not (heads & {"times"} and heads <= loose):
            return False
    counted = {m.nouns[-1] for m in borne.measured if m.nouns and m is not other}
    if one.nouns and not other.nouns and one.nouns[-1] not in {*loose, *counted}:
        return False
    same_kind = [m for m in borne.measured if m.number.dimension == one.number.dimension]
    verbs = {m.verb for m in same_kind if m.nouns == other.nouns or not m.nouns or not one.nouns}
    if one.verb in verbs and one.verb != other.verb and one.verb not in lexicon.light:
        return False
    mine = {one.verb, *one.nouns[-1:]}
    if "receive" in mine and "receive" not in verbs:
        mine.add("send")
    if len(verbs) > 1 and other.verb not in mine and one.verb not in {"", *lexicon.light}:
        return one.verb not in verbs and other.verb in lexicon.light
    return True


def _compare_moments(said: Claim, borne: Claim) -> str:
    wider = {"from": ("from", "since"), "at": ("at",), "since": ("since",)}
    for relation, moment in sorted(said.moments):
        fits = wider.get(relation, (relation,))
        if not any(known in fits and _same_moment(moment, other) for known, other in borne.moments):
            return f"the fact does not say {relation} {moment}"
    return ""


def _same_moment(moment: str, known: str) -> bool:
    """Whether the fact's moment is this one: a date alone, a time alone, with or without seconds."""
    if known == moment:
        return True
    date, _, time = known.rpartition(" ")
    return moment in (date, time, time[:5], known[:-3])


def _compare_narrowing(said: Claim, borne: Claim) -> str:
    """A number or a denial may not lose the word that narrows it ("half of", "else")."""
    for clause in said.clauses:
        for one in clause.numbers:
            sources = [
                known
                for known in borne.clauses
                if any(
                    _same_number(
                        Measured(one, (), "", 0, "", False), Measured(n, (), "", 0, "", False)
                    )
                    for n in known.numbers
                )
            ]
            if sources and not any(known.narrowing == clause.narrowing for known in sources):
                return "it leaves out or adds what narrows it"
        if clause.denials and not clause.numbers:
            sources = [
                known for known in borne.clauses if known.denials and clause.words & known.words
            ]
            if sources and not any(known.narrowing <= clause.narrowing for known in sources):
                return "it leaves out what narrows it"
    return ""


def _compare_failures(said: Claim, borne: Claim) -> str:
    """How many failed may not be left out: a few of many are not all."""
    for word in ("no_answer", "refuse", "failure", "resend"):
        theirs = [one for one in borne.clauses if word in one.words]
        ours = any(word in one.words for one in said.clauses)
        if ours and theirs and all(one.numbers for one in theirs) and not said.measured:
            return "it leaves out how many"
    return ""


def _compare_asides(ours: str, theirs: str) -> str:
    """The words of a code ("function 6 (write single register)") go with its number."""
    outside = re.sub(r"\b\w+ (\d+) \([^)]*\)", " ", theirs)
    free = {token.text for token in read_tokens(outside)}
    coded: dict[str, set[float]] = {}
    for match in re.finditer(r"\b\w+ (\d+) \(([^)]*)\)", theirs):
        if re.search(r"(?:device|peer|name) \d+ \($", match.group()[: match.group().find("(") + 1]):
            continue
        for token in read_tokens(match[2]):
            coded.setdefault(token.text, set()).add(float(match[1]))
    mine = read_tokens(ours)
    numbers = {token.value for token in mine if token.kind == "number"}
    for token in mine:
        needs = coded.get(token.text, set()) if token.kind == "word" else set()
        if needs and token.text not in free and not needs & numbers:
            return f"{token.text!r} is a word of another code"
    return ""
