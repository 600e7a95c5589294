"""Claims that stored runs decide: numbers with their intervals against bounds.

A claim holds where the interval lies wholly on the right side of its bound, fails where it lies
wholly on the other, and is open where the bound lies inside, or where the number is not there.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Concatenate, Literal, ParamSpec

import numpy as np

from eval.answers.results import AnswersRun, RetrievalRun, read_answers_run, read_retrieval_run
from eval.detection.aggregate import Part, make_parts
from eval.detection.bootstrap import (
    State,
    between,
    decide_bound,
    is_better,
    mean_difference,
    orient,
    paired_difference,
)
from eval.models.registry import LLM_PREFIX
from eval.report.tables import format_difference, format_estimate, format_number
from eval.results import Estimate, Pooled, Run, read_run
from traffic.errors import UserError
from traffic.files import read_text
from traffic.labels import NORMAL

# ---- what lies in results/ ----


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


def command_for(protocol: str) -> str:
    """The command that makes a run of a protocol."""
    return f"faultwise eval detection --protocol {protocol} --data DIR"


def read_runs(folder: Path) -> StoredRuns:
    """Read every file of results in a folder; nothing where there is no folder.

    Raises:
        UserError: one of them cannot be read, or is of a form that this release does not know.
    """
    paths: dict[str, list[Path]] = {"detection": [], "retrieval": [], "answers": []}
    for path in sorted(folder.glob("*.json")):
        kind = _read_kind(path)
        if kind not in paths:
            raise UserError(
                f"{path} holds results of kind {kind!r}; "
                f"expected any of {', '.join(paths)}; move it elsewhere"
            )
        paths[kind].append(path)
    retrieval = [read_retrieval_run(path) for path in paths["retrieval"]]
    answers = [read_answers_run(path) for path in paths["answers"]]
    return StoredRuns(
        tuple(run for path in paths["detection"] if not (run := read_run(path)).quick),
        max(retrieval, key=lambda run: run.origin.created, default=None),
        max(answers, key=lambda run: run.origin.created, default=None),
    )


def _read_kind(path: Path) -> str:
    try:
        content = json.loads(read_text(path, "a run's results"))
    except ValueError as error:
        raise UserError(
            f"{path} is no JSON ({error}); expected a run's results; run its command again"
        ) from error
    return str(content.get("kind", "")) if isinstance(content, dict) else ""


# ---- a claim ----


@dataclass(frozen=True)
class Claim:
    """A sentence, and what the numbers say of it.

    Attributes:
        says: the sentence.
        state: whether it holds.
        text: the numbers; for one that is missing, why and what makes it.
        beside: it is shown and decides nothing.
    """

    says: str
    state: State
    text: str
    beside: bool = False


def beside(claim: Claim) -> Claim:
    """The same claim, shown and deciding nothing."""
    return replace(claim, beside=True)


@dataclass(frozen=True)
class Place:
    """A protocol and one of its settings; labels are as corrected."""

    protocol: str
    setting: str = ""


LOCO = Place("leave-one-capture-out")


class _MissingError(Exception):
    """A number that a claim needs is not there; the message says why and what makes it."""


Given = ParamSpec("Given")


def _claim(test: Callable[Given, tuple[State, str]]) -> Callable[Concatenate[str, Given], Claim]:
    """Put a sentence before a test's arguments, and keep it open where a number is missing."""

    @wraps(test)
    def tested(says: str, *args: Given.args, **kwargs: Given.kwargs) -> Claim:
        try:
            return Claim(says, *test(*args, **kwargs))
        except _MissingError as missing:
            return Claim(says, "open", str(missing))

    return tested


def all_of(states: Iterable[State]) -> State:
    """Fails where one fails, holds where all hold, else open; nothing at all is open."""
    states = list(states)
    return "fails" if "fails" in states else "open" if "open" in states or not states else "holds"


Word = Literal["supported", "not supported", "not decidable here"]
_WORDS: Mapping[State, Word] = {
    "holds": "supported",
    "fails": "not supported",
    "open": "not decidable here",
}


@dataclass(frozen=True)
class Verdict:
    """What is said of a hypothesis, and why.

    Attributes:
        word: by every claim that is not beside.
        claims: in the order in which they are shown.
        waits_for: what does not exist yet and must; the verdict is open until then.
    """

    word: Word
    claims: tuple[Claim, ...]
    waits_for: str = ""


def decide(*claims: Claim, waits_for: str = "") -> Verdict:
    """The verdict that claims support: one that fails is enough, all must hold."""
    state = all_of(claim.state for claim in claims if not claim.beside)
    return Verdict(_WORDS["open" if waits_for else state], claims, waits_for)


# ---- numbers of detection runs ----

_BRING_WEIGHTS = ("pocket", "zero-shot")
_FEWEST_FOLDS = 3  # of which the spread says something


def _find_run(runs: StoredRuns, protocol: str) -> Run:
    run = runs.newest(protocol)
    if run is None:
        raise _MissingError(f"no run of protocol {protocol}: `{command_for(protocol)}` makes one")
    return run


def _corrected_parts(run: Run) -> list[Part]:
    return [part for part in make_parts(run) if part.labelling == "corrected"]


def _find_part(run: Run, setting: str, model: str) -> Part:
    """The part that is a test of a model: where it had seen captures, of those that none had."""
    parts = _corrected_parts(run)
    here = [part for part in parts if part.base == setting]
    if not here:
        known = ", ".join(dict.fromkeys(part.base or "none" for part in parts)) or "nothing"
        raise _MissingError(f"run {run.name} has no setting {setting or 'none'}, only {known}")
    tests = [p for p in here if any(one.model == model and one.compared for one in p.pooled)]
    return (tests or here)[0]


def _find_model(run: Run, part: Part, model: str, seen_too: bool = False) -> Pooled:
    one = next((one for one in part.pooled if one.model == model), None)
    if one is None:
        raise _MissingError(
            f"run {run.name} has no model {model}: add it by --models to `{run.command}`"
        )
    if not one.compared and not seen_too:
        seen = ", ".join(one.seen_in_training) or "captures"
        raise _MissingError(
            f"{model} was made with what run {run.name} tests ({seen}): "
            "test it on captures it never saw"
        )
    return one


@_claim
def beats(
    runs: StoredRuns,
    model: str,
    others: Sequence[str],
    measure: str,
    place: Place = LOCO,
    margin: float = 0.0,
) -> tuple[State, str]:
    """A model is better than each of the others, by more than ``margin``, on the same windows."""
    run = _find_run(runs, place.protocol)
    part = _find_part(run, place.setting, model)
    ours = _find_model(run, part, model)
    states: list[State] = []
    texts, missing = [], []
    for other in others:
        try:
            theirs = _find_model(run, part, other)
            difference, how = _difference(run, part, ours, theirs, measure)
        except _MissingError:
            missing.append(other)
            continue
        states.append(is_better(difference, margin))
        texts.append(f"{other} {format_difference(measure, difference)}{how}")
    if missing:
        states.append("open")
        texts.append(f"not there or not measured: {', '.join(missing)}")
    value = format_estimate(measure, ours.scores[measure])
    better = f"better by, than: {'; '.join(texts)}"
    return all_of(states), f"{model} {measure} {value}; {better} (run {run.name})"


def _difference(
    run: Run, part: Part, ours: Pooled, other: Pooled, measure: str
) -> tuple[Estimate, str]:
    """How much better ours is: as tested in pairs, otherwise between the ends of both intervals."""
    place = (part.base, part.labelling, measure)
    tested, how = paired_difference(run.comparisons, place, ours.model, other.model), ""
    if tested is None or tested.value is None:
        tested, how = between(other.scores[measure], ours.scores[measure]), " (not in pairs)"
    if tested.value is None:
        raise _MissingError(f"{measure} cannot be measured for both")
    return orient(measure, tested), how


@_claim
def reaches(
    runs: StoredRuns,
    model: str,
    measure: str,
    place: Place = LOCO,
    at_least: float | None = None,
    at_most: float | None = None,
) -> tuple[State, str]:
    """A model's measure keeps a bound, in one setting or, with setting ``every``, in each."""
    run = _find_run(runs, place.protocol)
    settings = [place.setting]
    if place.setting == "every":
        settings = list(dict.fromkeys(part.base for part in _corrected_parts(run)))
    states, texts = [], []
    for setting in settings:
        part = _find_part(run, setting, model)
        score = _find_model(run, part, model).scores[measure]
        states.append(decide_bound(score, at_least, at_most))
        name = f"{part.setting}: " if part.setting else ""
        texts.append(f"{name}{format_estimate(measure, score)}")
    return all_of(states), f"{model} {measure} {'; '.join(texts)} (run {run.name})"


@_claim
def changes(
    runs: StoredRuns,
    model: str,
    measure: str,
    before: Place,
    after: Place,
    at_least: float | None = None,
    at_most: float | None = None,
    learns: bool = False,
) -> tuple[State, str]:
    """How much a model's measure changes from one place to another keeps a bound.

    ``learns``: only a model that is trained inside the run can decide it.
    """
    found = [_find_run(runs, place.protocol) for place in (before, after)]
    parts = [
        _find_part(run, place.setting, model)
        for run, place in zip(found, (before, after), strict=True)
    ]
    # Language models take no window of a run, so nothing that they learned can show.
    if learns and (model in _BRING_WEIGHTS or model.startswith(LLM_PREFIX)):
        raise _MissingError(
            f"{model} brings its weights along: the run trains it on none of its windows"
        )
    first, second = (
        _find_model(run, part, model).scores[measure]
        for run, part in zip(found, parts, strict=True)
    )
    same = found[0] is found[1]
    change = _change_by_fold(found[0], model, measure, before, after) if same else None
    how = "not in pairs" if change is None else "paired by fold"
    change = between(first, second) if change is None else change
    if change.value is None:
        raise _MissingError(f"{measure} of {model} cannot be measured in both")
    words = f"from {format_estimate(measure, first)} to {format_estimate(measure, second)}"
    names = " and ".join(dict.fromkeys(run.name for run in found))
    text = f"{model} {measure} {words}: {format_difference(measure, change)} {how} (run {names})"
    return decide_bound(change, at_least, at_most), text


def _change_by_fold(
    run: Run, model: str, measure: str, before: Place, after: Place
) -> Estimate | None:
    """The change over folds of both settings, seeds averaged; None where they are too few."""

    def means(place: Place) -> Mapping[str, float]:
        values: dict[str, list[float]] = {}
        here = (model, place.setting, "corrected")
        for row in run.rows:
            value = row.scores[measure].value
            mine = (row.model, row.setting, row.labelling) == here and not row.seen_in_training
            if mine and value is not None:
                values.setdefault(row.fold, []).append(value)
        return {fold: float(np.mean(many)) for fold, many in values.items()}

    old, new = means(before), means(after)
    folds = [fold for fold in old if fold in new]
    if len(folds) < _FEWEST_FOLDS:
        return None
    return mean_difference(np.array([new[fold] - old[fold] for fold in folds]))


@_claim
def finds_each_label(
    runs: StoredRuns, model: str, recall: float, windows: int, place: Place = LOCO
) -> tuple[State, str]:
    """Every label of an anomaly with at least so many windows has a recall."""
    run = _find_run(runs, place.protocol)
    part = _find_part(run, place.setting, model)
    found = {
        label: scores.recall
        for label, scores in _find_model(run, part, model).per_label.items()
        if label != NORMAL and scores.windows >= windows
    }
    if not found:
        raise _MissingError(f"run {run.name} has no anomaly of {windows} windows")
    states = [decide_bound(_without_interval(value), recall) for value in found.values()]
    ordered = sorted(found.items(), key=lambda item: -1.0 if item[1] is None else item[1])
    texts = ", ".join(f"{label} {format_number('f1', value)}" for label, value in ordered)
    return all_of(states), f"{model} recall by label, worst first: {texts} (run {run.name})"


def _without_interval(value: float | None) -> Estimate:
    """A number that was measured once."""
    return Estimate(value=value, low=value, high=value)


@_claim
def takes(
    runs: StoredRuns,
    model: str,
    cost: str,
    at_least: float | None = None,
    at_most: float | None = None,
    place: Place = LOCO,
) -> tuple[State, str]:
    """What a model costs keeps a bound; costs are measured once and have no interval."""
    run = _find_run(runs, place.protocol)
    part = next(iter(_corrected_parts(run)), None)
    if part is None:
        raise _MissingError(f"run {run.name} has no corrected labels")
    value = getattr(_find_model(run, part, model, seen_too=True).costs, cost)
    if value is None:
        raise _MissingError(f"run {run.name} could not measure {cost} of {model}")
    where = f"on {run.machine.cpu}, {run.machine.cores} cores (run {run.name})"
    state = decide_bound(_without_interval(float(value)), at_least, at_most)
    if cost == "peak_memory_bytes" and state == "holds":
        # A fit is measured from when its process holds its libraries: a process takes more than that.
        return "open", f"{model} {cost} {value:,.4g} above what its process held before, {where}"
    return state, f"{model} {cost} {value:,.4g} {where}"


# ---- numbers of the search and of answers ----


@_claim
def retrieves(
    runs: StoredRuns,
    variant: str,
    measure: str,
    at_least: float | None = None,
    at_most: float | None = None,
) -> tuple[State, str]:
    """A way of searching keeps a bound; ``variant`` is the beginning of its name."""
    run = runs.retrieval
    if run is None:
        raise _MissingError("no run of the search: `faultwise eval retrieval` makes one")
    whole = [one for one in run.variants if one.variant.startswith(variant) and not one.group]
    if not whole:
        known = ", ".join(dict.fromkeys(one.variant for one in run.variants))
        raise _MissingError(f"run {run.name} has no variant {variant}, only {known}")
    found = getattr(whole[0], measure)
    score = found if isinstance(found, Estimate) else _without_interval(found)
    text = f"{whole[0].variant}, {measure} {format_estimate('f1', score)}"
    return (
        decide_bound(score, at_least, at_most),
        f"{text} of {whole[0].questions} questions (run {run.name})",
    )


@_claim
def answers(runs: StoredRuns, measure: str, at_least: float) -> tuple[State, str]:
    """A share of all answers keeps a bound."""
    run = runs.answers
    if run is None:
        raise _MissingError("no run of answers: `faultwise eval answers` makes one")
    whole = [one for one in run.measured if one.measure == measure and not one.group]
    if not whole:
        raise _MissingError(f"run {run.name} has no measure {measure}")
    share = format_estimate("f1", whole[0].share)
    text = f"{measure} {share} of {whole[0].cases} cases (run {run.name})"
    return decide_bound(whole[0].share, at_least), text
