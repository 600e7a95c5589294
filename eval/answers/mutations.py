"""False and true sentences made from facts: does the check of claims tell them apart?

Every sentence is made by a rule from a fact's own sentence, so that the suite grows with the facts:
a false one changes one thing of it, a true one only how it is said. A list written by hand lies
beside it (``paraphrases.yaml``). A third of all, drawn by a hash, is never looked at while the
check is tuned and is reported apart.
"""

import hashlib
import itertools
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import RootModel

from assistant.detection import Analysis, analyse_capture
from assistant.diagnosis import diagnose
from assistant.diagnosis.claims import find_fault
from assistant.diagnosis.grounding import check
from assistant.facts.fact import Fact, Value, kind_of, make_fact, show
from assistant.llm.adapters import load_adapter
from assistant.report import render_table
from traffic.files import Strict, read_yaml
from traffic.plant import load_plant
from traffic.reader import read_capture
from traffic.simulation.simulate import simulate

SAMPLES = Path(__file__).parents[2] / "assistant" / "samples"
_PARAPHRASES = Path(__file__).with_name("paraphrases.yaml")
_MAKERS = Path(__file__).with_name("mutations.yaml")
_MOST_A_KIND = 3  # facts of one kind: a sentence of one template is like another
_SEED = 12
Progress = Callable[[int, int], None]
Maker = Callable[[Fact, random.Random, Sequence[Fact]], Iterator[str]]


@dataclass(frozen=True)
class Trial:
    """One sentence, the facts that it names as its sources, and whether it is true.

    Attributes:
        kind: what was changed.
        held: not for tuning.
    """

    kind: str
    sentence: str
    facts: tuple[Fact, ...]
    true: bool

    @property
    def held(self) -> bool:
        """Whether the sentence is among the third that is only measured."""
        return int(hashlib.sha256(self.sentence.encode()).hexdigest(), 16) % 3 == 0

    @property
    def kept(self) -> bool:
        """Whether the check lets it stand, as ``assistant.diagnosis.llm_writer`` asks it."""
        return (
            not find_fault(self.sentence, self.facts)
            and not check(self.sentence, self.facts, ()).removed
        )


# ---- The facts ----


def run_mutations(folder: Path, progress: Progress | None = None) -> str:
    """Make sentences from the facts of the samples, of simulated plants and of a folder of captures
    where there is one, and say by kind how many were judged rightly."""
    facts = collect_facts(folder if folder.is_dir() else None, progress=progress)
    trials = make_trials(facts)
    return f"{len(trials):,} sentences of {len(facts)} facts\n{render_trials(count_trials(trials))}"


def collect_facts(
    folder: Path | None = None, seeds: Sequence[int] = (1, 2), progress: Progress | None = None
) -> list[Fact]:
    """Facts of the shipped samples, of simulated plants and of the captures of a folder, a few of
    each kind.

    Args:
        folder: captures, each with ``NAME.plant.yaml`` beside it where there is one; None for none.
        seeds: of the simulated plants.
        progress: called with the numbers of captures that are read and that there are.
    """
    llm, card = load_adapter()
    sources = [(path.parent, path) for path in sorted(SAMPLES.glob("*/plant.yaml"))]
    for path in sorted(folder.glob("*.pcap")) if folder else ():
        if path.stat().st_size > 1000:
            sources.append((path, path.with_suffix(".plant.yaml")))
    found: list[Fact] = []
    for done, (path, plant) in enumerate(sources, start=1):
        known = load_plant(plant) if plant.is_file() else None
        found += _facts_of(analyse_capture(read_capture(path), llm, card, known))
        if progress:
            progress(done, len(sources) + len(seeds))
    for seed in seeds:
        made = simulate(seed, devices=8, hours=0.3)
        found += _facts_of(analyse_capture(made.capture, llm, card, made.plant))
    return choose_facts(found)


def _facts_of(analysis: Analysis) -> list[Fact]:
    facts = [fact for one in analysis.incidents for fact in one.facts]
    answer = diagnose("what is wrong?", analysis, None)
    facts += [*answer.facts, *(fact for fact in answer.context if fact.text)]
    devices = (
        sorted(set(map(str, analysis.verdicts["device"])))[:4] if len(analysis.verdicts) else []
    )
    return facts + [fact for device in devices for fact in analysis.facts_of(device)]


def choose_facts(facts: Iterable[Fact], most: int = _MOST_A_KIND) -> list[Fact]:
    """At most ``most`` facts of each kind, no two alike."""
    chosen: dict[str, dict[str, Fact]] = {}
    for fact in facts:
        mine = chosen.setdefault(kind_of(fact), {})
        if len(mine) < most:
            mine.setdefault(fact.text, fact)
    return [fact for _, mine in sorted(chosen.items()) for fact in mine.values()]


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
_WHO = re.compile(rf"(?:[\w-]+ \({_ADDRESS}\)|{_ADDRESS})(?::\d+| port \d+)?")
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
    if match := _WHO.search(fact.text):
        yield _replaced(fact.text, match, rng.choice(_STRANGERS))
        others = [one for other in pool for one in _WHO.findall(other.text) if one not in fact.text]
        if others:
            yield _replaced(fact.text, match, rng.choice(others))


def _change_object(fact: Fact, rng: random.Random, pool: Sequence[Fact]) -> Iterator[str]:
    del pool
    for match in list(_WHO.finditer(fact.text))[1:3]:
        yield _replaced(fact.text, match, rng.choice(_STRANGERS))


def _swap_ends(fact: Fact, rng: random.Random, pool: Sequence[Fact]) -> Iterator[str]:
    """Subject and object in each other's place."""
    del rng, pool
    found = list(_WHO.finditer(fact.text))
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
    match = _WHO.search(fact.text)
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
        pattern = old.replace("A", f"(?P<a>{_WHO.pattern})", 1)
        pattern = pattern.replace("B", f"(?P<b>{_WHO.pattern})", 1)
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


# ---- The suite ----


class _Written(Strict):
    fact: str
    values: dict[str, Value]
    says: list[str]
    never: tuple[str, ...] = ()


class _File(RootModel[list[_Written]]):
    pass


@cache
def read_paraphrases() -> tuple[Trial, ...]:
    """The sentences that were written by hand."""
    trials = []
    for one in read_yaml(_PARAPHRASES, _File, "paraphrases").root:
        fact = make_fact("written", one.fact, one.values)
        trials += [Trial("by hand", sentence, (fact,), True) for sentence in one.says]
        trials += [Trial("by hand", sentence, (fact,), False) for sentence in one.never]
    return tuple(trials)


def make_trials(facts: Sequence[Fact], seed: int = _SEED) -> list[Trial]:
    """False and true sentences of facts, the same for the same facts and seed."""
    trials: list[Trial] = [*read_paraphrases()]
    written = {one.facts[0].text: one.facts[0] for one in read_paraphrases()}
    known = [*facts, *written.values()]
    for true, makers in ((False, FALSE), (True, TRUE)):
        for kind, maker in makers.items():
            for fact in known:
                rng = random.Random(f"{seed} {kind} {fact.text}")  # noqa: S311 - a draw, no secret
                made = {
                    text for text in maker(fact, rng, known) if text and (true or text != fact.text)
                }
                trials += [Trial(kind, text, (fact,), true) for text in sorted(made)]
    standing = [fact for fact in known if _WHO.match(fact.text) and ". " not in fact.text]
    for first, second in zip(standing[::2], standing[1::2], strict=False):
        text = f"{first.text.rstrip('.')}, and {second.text}"
        trials.append(Trial("joined", text, (first, second), True))
    return trials


@dataclass(frozen=True)
class Tally:
    """How many sentences of a kind were judged rightly: false ones cut, true ones kept."""

    kind: str
    true: bool
    held: bool
    n: int
    right: int


def count_trials(trials: Sequence[Trial]) -> list[Tally]:
    """Judge the sentences, by kind and by whether they were held back from tuning."""
    right: dict[tuple[bool, str, bool], list[bool]] = {}
    for one in trials:
        right.setdefault((one.true, one.kind, one.held), []).append(one.kept == one.true)
    return [
        Tally(kind, true, held, len(judged), sum(judged))
        for (true, kind, held), judged in right.items()
    ]


def share_right(tallies: Iterable[Tally], true: bool, held: bool | None = None) -> float:
    """The share of true or false sentences that was judged rightly."""
    chosen = [one for one in tallies if one.true == true and held in (None, one.held)]
    return sum(one.right for one in chosen) / max(sum(one.n for one in chosen), 1)


def render_trials(tallies: Sequence[Tally]) -> str:
    """A table by kind: false sentences that were cut, true ones that were kept, the held third
    beside."""
    rows = []
    for true in (False, True):
        mine = [one for one in tallies if one.true == true]
        for kind in [*dict.fromkeys(one.kind for one in mine), "all"]:
            cells: list[object] = ["true, kept" if true else "false, cut", kind]
            for held in (False, True):
                chosen = [one for one in mine if one.held == held and kind in (one.kind, "all")]
                n, right = sum(one.n for one in chosen), sum(one.right for one in chosen)
                cells += [f"{right}/{n}", f"{100 * right / n:.1f} %" if n else ""]
            rows.append(cells)
    return render_table(["sentences", "kind", "tuned on", "", "held back", ""], rows)
