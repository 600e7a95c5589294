"""Claims that stored runs decide: numbers with their intervals against bounds.

A hypothesis reads numbers (`scores`, `advantages`, `change`, `costs`, `search`, `answers`) and
checks each against a bound. A claim holds where every interval lies wholly on the right side of its
bound, fails where one lies wholly on the other, and is open where a bound lies inside, or where a
number is not there.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, ParamSpec

import pandas as pd
from pydantic import Field, RootModel

from assistant.llm.adapters import prompt_fingerprint
from eval.answers.results import AnswersRun, RetrievalRun
from eval.answers.retrieval import SHIPPED
from eval.detection.aggregate import NAMING, Part, make_parts
from eval.detection.bootstrap import (
    State,
    between,
    decide_bound,
    is_better,
    mean_difference,
    orient,
    paired_difference,
)
from eval.models.registry import LLM_PREFIX, pair_tasks
from eval.report.tables import format_difference, format_estimate, format_number
from eval.results import Estimate, Pooled, Run
from traffic.files import read_json
from traffic.labels import NORMAL

# ---- runs in results/ ----


@dataclass(frozen=True)
class StoredRuns:
    """Runs of all kinds, read once.

    Attributes:
        detection: all that are no quick ones.
        retrieval: the newest; None where there is none.
        answers: the newest; None where there is none.
    """

    detection: tuple[Run, ...] = ()
    retrieval: RetrievalRun | None = None
    answers: AnswersRun | None = None

    def newest(self, protocol: str) -> Run | None:
        """The newest detection run of a protocol."""
        runs = [run for run in self.detection if run.protocol.get("name") == protocol]
        return max(runs, key=lambda run: run.created, default=None)


def list_former(runs: StoredRuns) -> tuple[str, ...]:
    """Names of the runs whose language model is a former edition: it read other texts than today's."""
    now = prompt_fingerprint()
    return tuple(run.name for run in runs.detection if run.prompt_fingerprint != now)


class _AnyRun(RootModel[Annotated[Run | RetrievalRun | AnswersRun, Field(discriminator="kind")]]):
    """One file of results."""


def command_for(protocol: str) -> str:
    """The command that makes a run of a protocol."""
    if protocol == "transfer":
        return "faultwise eval transfer --data DIR"
    return f"faultwise eval detection --protocol {protocol} --data DIR"


def read_runs(folder: Path) -> StoredRuns:
    """Read every file of results in a folder; nothing where there is no folder.

    Raises:
        UserError: one of them cannot be read, or is of a form that this release does not know.
    """
    expected = "results of a run as this release makes them"
    runs = [read_json(path, _AnyRun, expected).root for path in sorted(folder.glob("*.json"))]
    retrieval = [run for run in runs if isinstance(run, RetrievalRun)]
    answered = [run for run in runs if isinstance(run, AnswersRun)]
    return StoredRuns(
        tuple(run for run in runs if isinstance(run, Run) and not run.quick),
        max(retrieval, key=lambda run: run.origin.created, default=None),
        max(answered, key=lambda run: run.origin.created, default=None),
    )


# ---- claims and verdicts ----


@dataclass(frozen=True)
class Numbers:
    """Numbers with their intervals, read from runs.

    Attributes:
        estimates: all that a claim is about; none, or one without a value, keeps it open.
        text: how they are shown; for what is missing, why and what makes it.
    """

    estimates: tuple[Estimate, ...]
    text: str


@dataclass(frozen=True)
class Claim:
    """A sentence, and what the numbers say of it.

    Attributes:
        says: the sentence.
        state: whether it holds.
        text: the numbers.
        beside: it is shown and decides nothing.
    """

    says: str
    state: State
    text: str
    beside: bool = False


def check(
    says: str,
    numbers: Numbers,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    beside: bool = False,
) -> Claim:
    """Check each of some numbers against a bound, one of ``at_least``, ``at_most`` and ``above``."""
    if above is not None:
        states = [is_better(one, above) for one in numbers.estimates]
    else:
        states = [decide_bound(one, at_least, at_most) for one in numbers.estimates]
    return Claim(says, all_of(states), numbers.text, beside)


def all_of(states: Iterable[State]) -> State:
    """Fails where one fails, holds where all hold, else open; nothing at all is open."""
    states = list(states)
    return "fails" if "fails" in states else "open" if "open" in states or not states else "holds"


_WORDS = {"holds": "supported", "fails": "not supported", "open": "not decidable here"}


@dataclass(frozen=True)
class Verdict:
    """What is said of a hypothesis, and why.

    Attributes:
        word: supported, not supported or not decidable here.
        claims: in the order in which they are shown.
        waits_for: what does not exist yet and must; the verdict is open until then.
        pages: of docs/research, where something near to it was measured that decides nothing.
    """

    word: str
    claims: tuple[Claim, ...]
    waits_for: str = ""
    pages: tuple[str, ...] = ()


def decide(*claims: Claim, waits_for: str = "", pages: tuple[str, ...] = ()) -> Verdict:
    """The verdict of all claims that are not beside: one that fails is enough, all must hold."""
    state = all_of(claim.state for claim in claims if not claim.beside)
    return Verdict(_WORDS["open" if waits_for else state], claims, waits_for, pages)


# ---- numbers of detection runs ----

_BRING_WEIGHTS = ("pocket", "zero-shot")
_FEWEST_FOLDS = 3  # of which the spread says something


@dataclass(frozen=True)
class Place:
    """A protocol and one of its settings; labels are as corrected."""

    protocol: str
    setting: str = ""


LOCO = Place("leave-one-capture-out")


class _MissingError(Exception):
    """A number is not there; the message says why and what makes it."""


Given = ParamSpec("Given")


def _or_none(read: Callable[Given, Numbers]) -> Callable[Given, Numbers]:
    """Let a reader give no numbers, and the reason, where it finds one missing."""

    @wraps(read)
    def reads(*args: Given.args, **kwargs: Given.kwargs) -> Numbers:
        try:
            return read(*args, **kwargs)
        except _MissingError as missing:
            return Numbers((), str(missing))

    return reads


@dataclass(frozen=True)
class Tested:
    """A model in one part of a run."""

    run: Run
    part: Part
    pooled: Pooled


def _find_run(runs: StoredRuns, place: Place) -> Run:
    if run := runs.newest(place.protocol):
        return run
    command = command_for(place.protocol)
    raise _MissingError(f"no run of protocol {place.protocol}: `{command}` makes one")


def _corrected_parts(run: Run) -> list[Part]:
    return [part for part in make_parts(run) if part.labelling == "corrected"]


def _find_tested(run: Run, setting: str, model: str, seen_too: bool = False) -> Tested:
    """A model in a setting; where it had seen captures, on those that none had seen."""
    parts = _corrected_parts(run)
    here = [part for part in parts if part.base == setting]
    if not here:
        known = ", ".join(dict.fromkeys(part.base or "none" for part in parts)) or "nothing"
        raise _MissingError(f"run {run.name} has no setting {setting or 'none'}, only {known}")
    found = [Tested(run, part, one) for part in here for one in part.pooled if one.model == model]
    if not found:
        raise _MissingError(
            f"run {run.name} has no model {model}: add it by --models to `{run.command}`"
        )
    tests = found if seen_too else [one for one in found if one.pooled.compared]
    if not tests:
        seen = ", ".join(found[0].pooled.seen_in_training) or "captures"
        raise _MissingError(
            f"{model} was made with what run {run.name} tests ({seen}): "
            "test it on captures it never saw"
        )
    return tests[0]


@_or_none
def scores(runs: StoredRuns, model: str, measure: str, place: Place = LOCO) -> Numbers:
    """A model's measure in one setting or, with setting ``every``, in each."""
    run = _find_run(runs, place)
    every = dict.fromkeys(part.base for part in _corrected_parts(run))
    settings = every if place.setting == "every" else [place.setting]
    found = [_find_tested(run, setting, model) for setting in settings]
    estimates = tuple(one.pooled.scores[measure] for one in found)
    texts = [
        f"{one.part.setting}: {text}" if one.part.setting else text
        for one, estimate in zip(found, estimates, strict=True)
        for text in [format_estimate(measure, estimate)]
    ]
    return Numbers(estimates, f"{model} {measure} {'; '.join(texts)} (run {run.name})")


@_or_none
def advantages(
    runs: StoredRuns, model: str, others: Sequence[str], measure: str, place: Place = LOCO
) -> Numbers:
    """How much better a model is than each of the others on the same windows.

    As tested in pairs, otherwise between the ends of both intervals.
    """
    run = _find_run(runs, place)
    ours = _find_tested(run, place.setting, model)
    here = (ours.part.base, ours.part.labelling, measure)
    theirs = {one.model: one.scores[measure] for one in ours.part.pooled if one.compared}
    estimates, texts, missing = [], [], []
    for other in others:
        difference, how = paired_difference(run.comparisons, here, model, other), ""
        if other in theirs and (difference is None or difference.value is None):
            difference = between(theirs[other], ours.pooled.scores[measure])
            how = " (not in pairs)"
        if other not in theirs or difference is None or difference.value is None:
            missing.append(other)
            estimates.append(Estimate(value=None))
        else:
            estimates.append(orient(measure, difference))
            texts.append(f"{other} {format_difference(measure, estimates[-1])}{how}")
    if missing:
        texts.append(f"not there or not measured: {', '.join(missing)}")
    value = format_estimate(measure, ours.pooled.scores[measure])
    text = f"{model} {measure} {value}; better by, than: {'; '.join(texts)} (run {run.name})"
    return Numbers(tuple(estimates), text)


@_or_none
def task_gains(runs: StoredRuns) -> Numbers:
    """How much better models that were tuned on detection and class together name anomalous windows
    than those that were tuned alike on the class alone, as tested in pairs."""
    run = _find_run(runs, LOCO)
    estimates, texts = [], []
    for joint, single in pair_tasks(run.models).items():
        ours = _find_tested(run, LOCO.setting, joint)
        _find_tested(run, LOCO.setting, single)
        here = (ours.part.base, ours.part.labelling, NAMING)
        gain = paired_difference(run.comparisons, here, joint, single)
        if gain is None or gain.value is None:
            raise _MissingError(f"run {run.name} could not compare {joint} with {single}")
        estimates.append(gain)
        texts.append(f"{joint} {format_difference('f1', gain)}")
    if not estimates:
        raise _MissingError(f"run {run.name} has no model of both tasks and of the class alone")
    text = f"macro-F1 of naming, better than by the class alone: {'; '.join(texts)}"
    return Numbers(tuple(estimates), f"{text} (run {run.name})")


@_or_none
def change(
    runs: StoredRuns, model: str, measure: str, before: Place, after: Place, learns: bool = False
) -> Numbers:
    """How much a model's measure changes from one place to another, paired by fold in one run.

    ``learns``: only a model that is trained inside the run can show it.
    """
    old_run, new_run = _find_run(runs, before), _find_run(runs, after)
    # Language models take no window of a run, so nothing that they learned can show.
    if learns and (model in _BRING_WEIGHTS or model.startswith(LLM_PREFIX)):
        raise _MissingError(
            f"{model} brings its weights along: the run trains it on none of its windows"
        )
    old = _find_tested(old_run, before.setting, model).pooled.scores[measure]
    new = _find_tested(new_run, after.setting, model).pooled.scores[measure]
    difference, how = between(old, new), "not in pairs"
    if old_run is new_run:
        means = [_fold_means(old_run, model, measure, one.setting) for one in (before, after)]
        by_fold = (means[1] - means[0]).dropna()
        if len(by_fold) >= _FEWEST_FOLDS:
            difference, how = mean_difference(by_fold.to_numpy()), "paired by fold"
    if difference.value is None:
        raise _MissingError(f"{measure} of {model} cannot be measured in both")
    ends = f"from {format_estimate(measure, old)} to {format_estimate(measure, new)}"
    names = " and ".join(dict.fromkeys((old_run.name, new_run.name)))
    text = f"{model} {measure} {ends}: {format_difference(measure, difference)} {how} (run {names})"
    return Numbers((difference,), text)


def _fold_means(run: Run, model: str, measure: str, setting: str) -> pd.Series:
    """A measure by fold, seeds averaged, of folds that the model had not seen."""
    wanted = (model, setting, "corrected", ())
    values = [
        (row.fold, row.scores[measure].value)
        for row in run.rows
        if (row.model, row.setting, row.labelling, row.seen_in_training) == wanted
    ]
    table = pd.DataFrame(values, columns=["fold", "value"]).astype({"value": float})
    return table.groupby("fold")["value"].mean()


@_or_none
def recalls(runs: StoredRuns, model: str, windows: int, place: Place = LOCO) -> Numbers:
    """The recall of every label of an anomaly with at least so many windows; no intervals."""
    run = _find_run(runs, place)
    found = {
        label: known_exactly(of.recall)
        for label, of in _find_tested(run, place.setting, model).pooled.per_label.items()
        if label != NORMAL and of.windows >= windows
    }
    if not found:
        raise _MissingError(f"run {run.name} has no anomaly of {windows} windows")
    ordered = sorted(found.items(), key=lambda item: item[1].value or -1.0)
    texts = ", ".join(f"{label} {format_number('f1', one.value)}" for label, one in ordered)
    text = f"{model} recall by label, worst first: {texts} (run {run.name})"
    return Numbers(tuple(found.values()), text)


@_or_none
def costs(runs: StoredRuns, model: str, cost: str, place: Place = LOCO) -> Numbers:
    """What a model costs; it is measured once and has no interval."""
    run = _find_run(runs, place)
    value = getattr(_find_tested(run, place.setting, model, seen_too=True).pooled.costs, cost)
    if value is None:
        raise _MissingError(f"run {run.name} could not measure {cost} of {model}")
    what, most = f"{model} {cost} {value:,.4g}", value
    if cost == "peak_memory_bytes":
        # A fit is measured from when its process holds its libraries: a process takes more.
        what, most = f"{what} above what its process held before,", sys.float_info.max
    where = f"on {run.machine.cpu}, {run.machine.cores} cores (run {run.name})"
    return Numbers((Estimate(value=value, low=value, high=most),), f"{what} {where}")


# ---- numbers of the search and of answers ----


def search(runs: StoredRuns, measure: str, variant: str = SHIPPED) -> Numbers:
    """A measure of a way of searching; ``variant`` is the beginning of its name."""
    run = runs.retrieval
    if run is None:
        return Numbers((), "no run of the search: `faultwise eval retrieval` makes one")
    whole = [one for one in run.variants if one.variant.startswith(variant) and not one.group]
    if not whole:
        known = ", ".join(dict.fromkeys(one.variant for one in run.variants))
        return Numbers((), f"run {run.name} has no variant {variant}, only {known}")
    value = getattr(whole[0], measure)
    score = value if isinstance(value, Estimate) else known_exactly(value)
    text = f"{whole[0].variant}, {measure} {format_estimate('f1', score)}"
    return Numbers((score,), f"{text} of {whole[0].questions} questions (run {run.name})")


def answers(runs: StoredRuns, measure: str) -> Numbers:
    """A share of all answers."""
    run = runs.answers
    if run is None:
        return Numbers((), "no run of answers: `faultwise eval answers` makes one")
    whole = [one for one in run.measured if one.measure == measure and not one.group]
    if not whole:
        return Numbers((), f"run {run.name} has no measure {measure}")
    share = format_estimate("f1", whole[0].share)
    return Numbers(
        (whole[0].share,), f"{measure} {share} of {whole[0].cases} cases (run {run.name})"
    )


def known_exactly(value: float | None) -> Estimate:
    """A number that was measured once."""
    return Estimate(value=value, low=value, high=value)
