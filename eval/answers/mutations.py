"""False and true sentences made from facts: does the check of claims tell them apart?

Every sentence is made by a rule from a fact's own sentence, so that the suite grows with the facts:
a false one changes one thing of it, a true one only how it is said. A list written by hand lies
beside it (``paraphrases.yaml``). A third of all, drawn by a hash, is never looked at while the
check is tuned and is reported apart.
"""

import hashlib
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from assistant.detection import Analysis, analyse_capture
from assistant.diagnosis import diagnose
from assistant.diagnosis.claims import find_fault
from assistant.diagnosis.grounding import check
from assistant.facts.fact import Fact, Value, kind_of, make_fact
from assistant.llm.adapters import load_adapter
from assistant.report import render_table
from eval.answers.sentence_makers import FALSE, TRUE, WHO
from traffic.files import Strict, read_yaml
from traffic.plant import load_plant
from traffic.reader import read_capture
from traffic.simulation.simulate import simulate

SAMPLES = Path(__file__).parents[2] / "assistant" / "samples"
_PARAPHRASES = Path(__file__).with_name("paraphrases.yaml")
_MOST_A_KIND = 3  # facts of one kind: a sentence of one template is like another
_SEED = 12
Progress = Callable[[int, int], None]


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


def run_mutations(folder: Path, progress: Progress | None) -> str:
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


class _Written(Strict):
    fact: str
    values: dict[str, Value]
    says: list[str]
    never: tuple[str, ...] = ()


@cache
def read_paraphrases() -> tuple[Trial, ...]:
    """The sentences that were written by hand."""
    trials = []
    for one in read_yaml(_PARAPHRASES, list[_Written], "paraphrases"):
        fact = make_fact("written", one.fact, one.values)
        trials += [Trial("by hand", sentence, (fact,), True) for sentence in one.says]
        trials += [Trial("by hand", sentence, (fact,), False) for sentence in one.never]
    return tuple(trials)


def make_trials(facts: Sequence[Fact]) -> list[Trial]:
    """False and true sentences of facts, the same for the same facts."""
    trials: list[Trial] = [*read_paraphrases()]
    written = {one.facts[0].text: one.facts[0] for one in read_paraphrases()}
    known = [*facts, *written.values()]
    for true, makers in ((False, FALSE), (True, TRUE)):
        for kind, maker in makers.items():
            for fact in known:
                rng = random.Random(f"{_SEED} {kind} {fact.text}")  # noqa: S311 - a draw, no secret
                made = {
                    text for text in maker(fact, rng, known) if text and (true or text != fact.text)
                }
                trials += [Trial(kind, text, (fact,), true) for text in sorted(made)]
    standing = [fact for fact in known if WHO.match(fact.text) and ". " not in fact.text]
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
