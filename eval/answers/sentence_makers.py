"""Sentences made from a fact: false ones, in which one thing is changed, and true ones, said otherwise.

What they are made of (words for all-clears, causes, advice) is ``mutations.yaml``.
"""

import itertools
import random
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

from assistant.facts.fact import Fact, show
from traffic.files import Strict, read_yaml

_MAKERS = Path(__file__).with_name("mutations.yaml")
Maker = Callable[[Fact, random.Random, Sequence[Fact]], Iterator[str]]


# ---- What sentences are made of ----


class _Makers(Strict):
    turns: list[tuple[str, str]]
    denials: list[tuple[str, str]]
    calm: list[str]
    causes: list[str]
    advice: list[str]
    nouns: str
    same: list[tuple[str, str]]
    voices: list[tuple[str, str]]


@cache
def read_makers() -> _Makers:
    """Patterns and lists that sentences are made with."""
    return read_yaml(_MAKERS, _Makers, "what sentences are made with")


_ADDRESS = r"\d{1,3}(?:\.\d{1,3}){3}"
WHO = re.compile(rf"(?:[\w-]+ \({_ADDRESS}\)|{_ADDRESS})(?::\d+| port \d+)?")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC")
_SPAN = re.compile(rf" (?:between|from) {_MOMENT.pattern} (?:and|to) {_MOMENT.pattern}")
_SINCE = re.compile(rf",? (?:since|starting at) {_MOMENT.pattern}")
_STRANGERS = ("press-9 (10.99.1.9)", "10.99.3.77", "scada-x (10.99.0.2)")


def _replaced(text: str, match: re.Match[str], new: str) -> str:
    return text[: match.start()] + new + text[match.end() :]


def _numbers(fact: Fact) -> list[tuple[str, str, float]]:
    """(name, as shown, value) of the numbers that stand in the text."""
    return [
        (name, show(name, value), float(value))
        for name, value in fact.values.items()
        if not isinstance(value, str)
        and not name.endswith("_time_s")
        and re.search(rf"(?<![\d.,:]){re.escape(show(name, value))}(?![\d,:]|\.\d)", fact.text)
    ]


def _put(text: str, old: str, new: str) -> str:
    return re.sub(rf"(?<![\d.,:]){re.escape(old)}(?![\d,:]|\.\d)", lambda _: new, text, count=1)


# ---- False sentences, one thing changed ----


def _change_subject(fact: Fact, rng: random.Random, pool: Sequence[Fact]) -> Iterator[str]:
    if match := WHO.search(fact.text):
        yield _replaced(fact.text, match, rng.choice(_STRANGERS))
        others = [one for other in pool for one in WHO.findall(other.text) if one not in fact.text]
        if others:
            yield _replaced(fact.text, match, rng.choice(others))


def _change_object(fact: Fact, rng: random.Random, pool: Sequence[Fact]) -> Iterator[str]:
    del pool
    for match in list(WHO.finditer(fact.text))[1:3]:
        yield _replaced(fact.text, match, rng.choice(_STRANGERS))


def _swap_ends(fact: Fact, rng: random.Random, pool: Sequence[Fact]) -> Iterator[str]:
    """Subject and object in each other's place."""
    del rng, pool
    found = list(WHO.finditer(fact.text))
    symmetric = (
        re.search(
            r"(?i)\bbetween\b(?! \d{4})|talks with|use one client id|and",
            fact.text[: found[1].end()],
        )
        if len(found) > 1
        else None
    )
    if len(found) == 2 and not symmetric and found[0].group() != found[1].group():
        first, second = found
        yield (
            fact.text[: first.start()] + second.group() + fact.text[first.end() : second.start()]
            + first.group() + fact.text[second.end() :]
        )  # fmt: skip


def _change_value(fact: Fact, rng: random.Random, pool: Sequence[Fact]) -> Iterator[str]:
    del pool
    for name, shown, value in _numbers(fact)[:3]:
        factor = rng.choice((0.5, 2.0, 3.0, 10.0))
        other = min(value * factor, 0.97) if name.endswith("_share") else value * factor + 1
        new = show(name, round(other) if value == round(value) else other)
        if new != shown:
            yield _put(fact.text, shown, new)


def _change_unit(fact: Fact, rng: random.Random, pool: Sequence[Fact]) -> Iterator[str]:
    del rng, pool
    units = (
        (" ms", " s"), (" minutes", " hours"), (" kB", " MB"), (" MB", " GB"), (" %", " packets"),
        (" per second", " per minute"), (" Mbit/s", " Gbit/s"), (" hours", " days"), (" bytes", " kB"),
    )  # fmt: skip
    for old, new in units:
        if re.search(rf"\d{old}(?![\w/])", fact.text):
            yield re.sub(rf"(\d){old}(?![\w/])", rf"\1{new}", fact.text, count=1)
    if re.search(r"\d s(?!\w)", fact.text):
        yield re.sub(r"(\d) s(?!\w)", r"\1 minutes", fact.text, count=1)


def _change_direction(fact: Fact, rng: random.Random, pool: Sequence[Fact]) -> Iterator[str]:
    del rng, pool
    for old, new in read_makers().turns:
        turned = re.sub(old, new, fact.text, count=1)
        if turned != fact.text and not re.search(r"\bby(?=[,.]| in )|[\d,]+ (?:was|is) ", turned):
            yield turned


def _negate(fact: Fact, rng: random.Random, pool: Sequence[Fact]) -> Iterator[str]:
    del rng, pool
    for old, new in read_makers().denials:
        if re.search(old, fact.text):
            yield re.sub(old, new, fact.text, count=1)


def _change_time(fact: Fact, rng: random.Random, pool: Sequence[Fact]) -> Iterator[str]:
    del pool
    found = list(_MOMENT.finditer(fact.text))
    for match in found:
        day, clock = match.group()[:10], match.group()[11:19]
        hour = (int(clock[:2]) + rng.choice((1, 5, 12))) % 24
        yield _replaced(fact.text, match, f"{day} {hour:02d}{clock[2:]} UTC")
    if len(found) == 2 and found[0].group() != found[1].group():
        first, second = (one.group() for one in found)
        yield fact.text.replace(first, "@").replace(second, first).replace("@", second)
    if re.search(r"\bsince \d{4}", fact.text):
        yield re.sub(r"\bsince (?=\d{4})", "until ", fact.text)
    if re.search(r"\buntil \d{4}", fact.text):
        yield re.sub(r"\buntil (?=\d{4})", "since ", fact.text)


def _who(fact: Fact) -> str:
    match = WHO.search(fact.text)
    return match.group() if match else "the device"


def _say_all_is_well(fact: Fact, rng: random.Random, pool: Sequence[Fact]) -> Iterator[str]:
    del pool
    for calm in rng.sample(read_makers().calm, 2):
        yield calm.format(who=_who(fact))
    yield f"{fact.text.rstrip('.')}, and {rng.choice(read_makers().calm[1:5]).format(who=_who(fact))}"


def _invent_cause(fact: Fact, rng: random.Random, pool: Sequence[Fact]) -> Iterator[str]:
    del pool
    for cause in rng.sample(read_makers().causes, 2):
        yield fact.text.rstrip(".") + cause.format(other=_who(fact)) + "."


def _invent_advice(fact: Fact, rng: random.Random, pool: Sequence[Fact]) -> Iterator[str]:
    del pool
    for advice in rng.sample(read_makers().advice, 2):
        yield advice.format(who=_who(fact))


def _swap_noun(fact: Fact, rng: random.Random, pool: Sequence[Fact]) -> Iterator[str]:
    """A counted noun in the place of another, of the same sentence first."""
    del pool
    nouns = read_makers().nouns.split()
    counted = [
        m for m in re.finditer(r"(?<=\d )([a-z]+?)(e?s)?(?=[ ,.;:)])", fact.text) if m[1] in nouns
    ]
    for match in counted[:2]:
        mine = [one[1] for one in counted if one[1] != match[1]]
        for noun in {*mine[:1], rng.choice([one for one in nouns if one != match[1]])}:
            if {noun, match[1]} not in (
                {"device", "machine"},
                {"device", "host"},
                {"machine", "host"},
            ):
                yield _replaced(fact.text, match, f"{noun}s" if match[2] else noun)


def _swap_numbers(fact: Fact, rng: random.Random, pool: Sequence[Fact]) -> Iterator[str]:
    """Two numbers of one sentence in each other's place."""
    del rng, pool
    shown = [text for _, text, _ in _numbers(fact) if re.fullmatch(r"[\d,]+", text)]
    for first, second in itertools.pairwise(shown):
        if first != second:
            marked = _put(fact.text, first, "@@")
            yield _put(marked, second, first).replace("@@", second)


FALSE: dict[str, Maker] = {
    "subject": _change_subject,
    "object": _change_object,
    "ends swapped": _swap_ends,
    "value": _change_value,
    "numbers swapped": _swap_numbers,
    "unit": _change_unit,
    "direction": _change_direction,
    "negation": _negate,
    "time": _change_time,
    "all-clear": _say_all_is_well,
    "cause": _invent_cause,
    "advice": _invent_advice,
    "noun": _swap_noun,
}

# ---- True sentences, said otherwise ----


def _short_names(fact: Fact, rng: random.Random, pool: Sequence[Fact]) -> Iterator[str]:
    """Names without their addresses, or addresses without names."""
    del rng, pool
    for text in (
        re.sub(rf" \({_ADDRESS}\)", "", fact.text),
        re.sub(rf"[\w-]+ \(({_ADDRESS})\)", r"\1", fact.text),
    ):
        if text != fact.text:
            yield text


def _reorder(fact: Fact, rng: random.Random, pool: Sequence[Fact]) -> Iterator[str]:
    """The time first."""
    del rng, pool
    if (
        fact.text.startswith(("Before", "Since", "From", "In ", "Not ", "Between"))
        or fact.text.count(". ") > 0
    ):
        return
    for pattern in (_SPAN, _SINCE):
        if (match := pattern.search(fact.text)) and ";" not in fact.text[: match.start()]:
            when = match.group().strip(" ,")
            head = fact.text[: match.start()]
            if ":" in head or head.startswith("It "):
                continue
            yield f"{when[0].upper()}{when[1:]}, {fact.text[: match.start()]}{fact.text[match.end() :]}"


def _synonyms(fact: Fact, rng: random.Random, pool: Sequence[Fact]) -> Iterator[str]:
    del rng, pool
    for old, new in read_makers().same:
        if re.search(rf"\b{old}\b", fact.text):
            yield re.sub(rf"\b{old}\b", new, fact.text, count=1)


def _number_formats(fact: Fact, rng: random.Random, pool: Sequence[Fact]) -> Iterator[str]:
    del rng, pool
    if re.search(r"\d,\d{3}", fact.text):
        yield re.sub(r"(\d),(\d{3})", r"\1\2", fact.text)
    for old, new in (
        (r"(\d) s(?!\w)", r"\1 seconds"),
        (r"(\d) %", r"\1 percent"),
        (r"(\d) minutes", r"\1 min"),
        (r"(\d) ms", r"\1 milliseconds"),
    ):
        if re.search(old, fact.text):
            yield re.sub(old, new, fact.text)
    words = {" 2 ": " two ", " 3 ": " three ", " 4 ": " four ", " 10 ": " ten "}
    for old, new in words.items():
        if old in fact.text and not re.search(
            rf"(port|code|exception|function|unit|address){old}", fact.text
        ):
            yield fact.text.replace(old, new, 1)
    if re.search(r"\d\d:\d\d:\d\d UTC", fact.text):
        yield re.sub(r"\d{4}-\d\d-\d\d (\d\d:\d\d:\d\d UTC)", r"\1", fact.text)


def _shorten(fact: Fact, rng: random.Random, pool: Sequence[Fact]) -> Iterator[str]:
    """Less than all of it: without its time, its brackets, its last clause."""
    del rng, pool
    if (
        (match := _SPAN.search(fact.text))
        and "never" not in fact.text
        and "Nothing" not in fact.text
    ):
        yield _replaced(fact.text, match, "")
    if re.search(r" \([^()]*\d[^()]*\)", bare := re.sub(rf" \({_ADDRESS}\)", "", fact.text)):
        yield re.sub(r" \([^()]*\d[^()]*\)", "", bare)
    head, semicolon, _ = fact.text.partition(";")
    if semicolon:
        yield f"{head}."
    head, stop, _ = fact.text.partition(". ")
    if stop:
        yield f"{head}."


def _change_voice(fact: Fact, rng: random.Random, pool: Sequence[Fact]) -> Iterator[str]:
    del rng, pool
    for old, new in read_makers().voices:
        pattern = old.replace("A", f"(?P<a>{WHO.pattern})", 1)
        pattern = pattern.replace("B", f"(?P<b>{WHO.pattern})", 1)
        if re.search(pattern, fact.text):
            yield re.sub(pattern, new, fact.text)


TRUE: dict[str, Maker] = {
    "as it is": lambda fact, _rng, _pool: iter([fact.text]),
    "names": _short_names,
    "order": _reorder,
    "synonyms": _synonyms,
    "number formats": _number_formats,
    "shortened": _shorten,
    "voice": _change_voice,
}
