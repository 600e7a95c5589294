"""Claims that a run can decide: small forms in a hypothesis's file, and what the numbers say of
each.

A claim holds where its interval lies wholly on the right side of its bound, fails where it lies
wholly on the other, and is open where the bound lies inside, or where the number is not there.
Bounds are fixed in the file before any run.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

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
from eval.research.privacy import compare_texts
from eval.results import MEASURES, Estimate, Labelling, Pooled, Run, read_run
from traffic.errors import UserError
from traffic.labels import NORMAL

# What lies in ``results/``: every run, read once, and the newest of each kind that a question may
# be decided by.


@dataclass(frozen=True)
class Evidence:
    """Runs of all kinds; of detection those that are no quick ones, by name.

    Attributes:
        runs: of detection.
        retrieval: of the search, the newest; None where there is none.
        answers: of answers, the newest; None where there is none.
    """

    runs: tuple[Run, ...] = ()
    retrieval: RetrievalRun | None = None
    answers: AnswersRun | None = None

    def run_of(self, protocol: str) -> Run | None:
        """The newest run of a protocol."""
        runs = [run for run in self.runs if run.protocol.get("name") == protocol]
        return max(runs, key=lambda run: run.created) if runs else None


def command_for(protocol: str) -> str:
    """The command that makes a run of a protocol."""
    return f"faultwise eval detection --protocol {protocol} --data DIR"


def read_evidence(folder: Path) -> Evidence:
    """Read every file of results in a folder; nothing where there is no folder.

    Raises:
        UserError: one of them cannot be read, or is of a form that this release does not know.
    """
    paths: dict[str, list[Path]] = {"detection": [], "retrieval": [], "answers": []}
    for path in sorted(folder.glob("*.json")):
        kind = _kind(path)
        if kind not in paths:
            raise UserError(
                f"{path} holds results of kind {kind!r}; expected any of {', '.join(paths)}; move it elsewhere"
            )
        paths[kind].append(path)
    found = [read_retrieval_run(path) for path in paths["retrieval"]]
    answers = [read_answers_run(path) for path in paths["answers"]]
    return Evidence(
        tuple(run for path in paths["detection"] if not (run := read_run(path)).quick),
        max(found, key=lambda run: run.origin.created, default=None),
        max(answers, key=lambda run: run.origin.created, default=None),
    )


def _kind(path: Path) -> str:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is no JSON ({error}); expected a run's results; run its command again"
        ) from error
    return str(content.get("kind", "")) if isinstance(content, dict) else ""


LLM = "llm"  # stands in a file for the language model that is asked about


@dataclass(frozen=True)
class Outcome:
    """What the numbers say of a claim, and the numbers."""

    state: State
    text: str


class _Form(BaseModel):
    """A file from outside: nothing extra passes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Claim(_Form):
    """``says`` in words; where ``beside`` it is shown and decides nothing."""

    says: str
    beside: bool = False
    labelling: Labelling = "corrected"


class _Bounded(_Claim):
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _one_bound(self) -> "_Bounded":
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("expected one of at_least and at_most")
        return self

    @property
    def bound(self) -> str:
        """The bound in words."""
        return (
            f"at least {self.at_least:g}"
            if self.at_least is not None
            else f"at most {self.at_most:g}"
        )


def _known(measure: str) -> str:
    if measure not in MEASURES:
        raise ValueError(f"no measure is called {measure}")
    return measure


class Beats(_Claim):
    """One model is better than each of the others, by more than ``margin``, on the same windows."""

    kind: Literal["beats"]
    protocol: str
    setting: str = ""
    model: str
    others: tuple[str, ...] = Field(min_length=1)
    measure: str
    margin: float = Field(0.0, ge=0)

    _measure = field_validator("measure")(_known)


class Reaches(_Bounded):
    """A model's measure keeps a bound, in one setting or, with ``setting: every``, in each."""

    kind: Literal["reaches"]
    protocol: str
    setting: str = ""
    model: str
    measure: str

    _measure = field_validator("measure")(_known)


class Place(_Form):
    """A protocol and one of its settings."""

    protocol: str
    setting: str = ""


class Changes(_Bounded):
    """How much a model's measure changes from one place to another keeps a bound.

    ``learns``: only a model that is trained inside the run can decide it.
    """

    kind: Literal["changes"]
    before: Place
    after: Place
    model: str
    measure: str
    learns: bool = False

    _measure = field_validator("measure")(_known)


class Labels(_Bounded):
    """Every label of an anomaly with at least ``windows`` windows keeps a bound."""

    kind: Literal["labels"]
    protocol: str
    model: str
    measure: Literal["precision", "recall", "f1"]
    windows: int = Field(ge=1)


class Costs(_Bounded):
    """What a model costs keeps a bound; costs are measured once and have no interval."""

    kind: Literal["costs"]
    protocol: str
    model: str
    cost: Literal["fit_s", "windows_per_s", "cpu_s", "peak_memory_bytes", "model_bytes", "energy_j"]


class Retrieves(_Bounded):
    """A way of searching keeps a bound; ``variant`` is the beginning of its name."""

    kind: Literal["retrieves"]
    variant: str
    measure: Literal[
        "recall_at_1",
        "recall_at_5",
        "mrr",
        "ndcg_at_10",
        "refused_rightly",
        "refused_wrongly",
        "seconds_per_question",
    ]


class Renamed(_Claim):
    """The shipped capture gives the same texts under other addresses; decided by doing it, not by a
    run."""

    kind: Literal["renamed"]


class AnswersClaim(_Bounded):
    """A share of the answers keeps a bound."""

    kind: Literal["answers"]
    measure: str


Claim = Annotated[
    Beats | Reaches | Changes | Labels | Costs | Retrieves | Renamed | AnswersClaim,
    Field(discriminator="kind"),
]


# Decide claims by the numbers of runs.

_BRING_WEIGHTS = ("pocket", "zero-shot")
_FEWEST_FOLDS = 3  # of which the spread says something


class _MissingError(Exception):
    """A number that a claim needs is not there; the message says why and what makes it."""


def decide_claim(claim: Claim, evidence: Evidence) -> Outcome:
    """What the runs say of a claim."""
    try:
        return _DECIDE[type(claim)](claim, evidence)
    except _MissingError as missing:
        return Outcome("open", str(missing))


def _all(states: Iterable[State]) -> State:
    states = list(states)
    return "fails" if "fails" in states else "open" if "open" in states or not states else "holds"


def _part(evidence: Evidence, place: Place, labelling: Labelling, model: str) -> tuple[Run, Part]:
    """The part of a run that is a test of a model: where it had seen captures, the part of those
    that none had."""
    run = _run(evidence, place.protocol)
    parts = [
        part
        for part in make_parts(run)
        if (part.base, part.labelling) == (place.setting, labelling)
    ]
    if not parts:
        known = (
            ", ".join(dict.fromkeys(f"{p.base or 'none'} ({p.labelling})" for p in make_parts(run)))
            or "nothing"
        )
        raise _MissingError(
            f"run {run.name} has no setting {place.setting or 'none'} ({labelling}), only {known}"
        )
    honest = [
        part for part in parts if any(one.model == model and one.compared for one in part.pooled)
    ]
    return run, (honest or parts)[0]


def _run(evidence: Evidence, protocol: str) -> Run:
    run = evidence.run_of(protocol)
    if run is None:
        raise _MissingError(f"no run of protocol {protocol}: `{command_for(protocol)}` makes one")
    return run


def _pooled(run: Run, part: Part, model: str) -> Pooled:
    one = next((one for one in part.pooled if one.model == model), None)
    if one is None:
        raise _MissingError(
            f"run {run.name} has no model {model}: add it by --models to `{run.command}`"
        )
    if not one.compared:
        seen = ", ".join(one.seen_in_training) or "captures"
        raise _MissingError(
            f"{model} was made with what run {run.name} tests ({seen}): test it on captures it never saw"
        )
    return one


def _beats(claim: Beats, evidence: Evidence) -> Outcome:
    place = Place(protocol=claim.protocol, setting=claim.setting)
    run, part = _part(evidence, place, claim.labelling, claim.model)
    ours = _pooled(run, part, claim.model)
    states: list[State] = []
    texts, missing = [], []
    for other in claim.others:
        try:
            difference, how = _better_by(run, part, ours, _pooled(run, part, other), claim.measure)
        except _MissingError:
            missing.append(other)
            continue
        states.append(is_better(difference, claim.margin))
        texts.append(f"{other} {format_difference(claim.measure, difference)}{how}")
    if missing:
        states.append("open")
        texts.append(f"not there or not measured: {', '.join(missing)}")
    value = format_estimate(claim.measure, ours.scores[claim.measure])
    text = f"{claim.model} {claim.measure} {value}; better by, than: {'; '.join(texts)} (run {run.name})"
    return Outcome(_all(states), text)


def _better_by(
    run: Run, part: Part, ours: Pooled, other: Pooled, measure: str
) -> tuple[Estimate, str]:
    """How much better ours is, above 0 is better: as tested in pairs, otherwise between the ends of
    both intervals."""
    place = (part.base, part.labelling, measure)
    tested, how = paired_difference(run.comparisons, place, ours.model, other.model), ""
    if tested is None or tested.value is None:
        tested, how = between(other.scores[measure], ours.scores[measure]), " (not in pairs)"
    if tested.value is None:
        raise _MissingError(f"{measure} cannot be measured for both")
    return orient(measure, tested), how


def _reaches(claim: Reaches, evidence: Evidence) -> Outcome:
    run = _run(evidence, claim.protocol)
    every = dict.fromkeys(
        part.base for part in make_parts(run) if part.labelling == claim.labelling
    )
    scores = {}
    for setting in every if claim.setting == "every" else [claim.setting]:
        place = Place(protocol=claim.protocol, setting=setting)
        _, part = _part(evidence, place, claim.labelling, claim.model)
        scores[part.setting] = _pooled(run, part, claim.model).scores[claim.measure]
    states = [decide_bound(score, claim.at_least, claim.at_most) for score in scores.values()]
    texts = [
        f"{f'{setting}: ' if setting else ''}{format_estimate(claim.measure, s)}"
        for setting, s in scores.items()
    ]
    return Outcome(
        _all(states), f"{claim.model} {claim.measure} {'; '.join(texts)} (run {run.name})"
    )


def _changes(claim: Changes, evidence: Evidence) -> Outcome:
    ends = [
        _part(evidence, place, claim.labelling, claim.model)
        for place in (claim.before, claim.after)
    ]
    if claim.learns and _brings_weights(claim.model):
        raise _MissingError(
            f"{claim.model} brings its weights along: the run trains it on none of its windows"
        )
    scores = [_pooled(run, part, claim.model).scores[claim.measure] for run, part in ends]
    change, how = (
        _by_fold(claim, ends[0][0]) if ends[0][0] is ends[1][0] else None,
        "paired by fold",
    )
    if change is None:
        change, how = between(scores[0], scores[1]), "not in pairs"
    if change.value is None:
        raise _MissingError(f"{claim.measure} of {claim.model} cannot be measured in both")
    words = " to ".join(format_estimate(claim.measure, score) for score in scores)
    names = " and ".join(dict.fromkeys(run.name for run, _ in ends))
    text = f"{claim.model} {claim.measure} from {words}: {format_difference(claim.measure, change)} {how} (run {names})"
    return Outcome(decide_bound(change, claim.at_least, claim.at_most), text)


def _brings_weights(model: str) -> bool:
    """Whether fitting changes nothing: language models take no window of a run, so nothing they
    learned can show."""
    return model in _BRING_WEIGHTS or model.startswith(LLM_PREFIX)


def _by_fold(claim: Changes, run: Run) -> Estimate | None:
    """The change over folds that both settings have, seeds averaged; None where there are too
    few."""

    def means(place: Place) -> Mapping[str, float]:
        values: dict[str, list[float]] = {}
        for row in run.rows:
            mine = (row.model, row.setting, row.labelling) == (
                claim.model,
                place.setting,
                claim.labelling,
            )
            if mine and not row.seen_in_training:
                value = row.scores[claim.measure].value
                if value is not None:
                    values.setdefault(row.fold, []).append(value)
        return {fold: float(np.mean(many)) for fold, many in values.items()}

    before, after = means(claim.before), means(claim.after)
    folds = [fold for fold in before if fold in after]
    if len(folds) < _FEWEST_FOLDS:
        return None
    return mean_difference(np.array([after[fold] - before[fold] for fold in folds]))


def _labels(claim: Labels, evidence: Evidence) -> Outcome:
    run, part = _part(evidence, Place(protocol=claim.protocol), claim.labelling, claim.model)
    one = _pooled(run, part, claim.model)
    found = {
        label: getattr(scores, claim.measure)
        for label, scores in one.per_label.items()
        if label != NORMAL and scores.windows >= claim.windows
    }
    if not found:
        raise _MissingError(f"run {run.name} has no anomaly of {claim.windows} windows")
    states = [_plain(value, claim.at_least, claim.at_most) for value in found.values()]
    ordered = sorted(found.items(), key=lambda item: -1.0 if item[1] is None else item[1])
    texts = ", ".join(f"{label} {format_number('f1', value)}" for label, value in ordered)
    return Outcome(
        _all(states),
        f"{claim.model} {claim.measure} by label, worst first: {texts} (run {run.name})",
    )


def _plain(value: float | None, at_least: float | None, at_most: float | None) -> State:
    return decide_bound(Estimate(value=value, low=value, high=value), at_least, at_most)


def _costs(claim: Costs, evidence: Evidence) -> Outcome:
    run = _run(evidence, claim.protocol)
    part = next((part for part in make_parts(run) if part.labelling == claim.labelling), None)
    if part is None:
        raise _MissingError(f"run {run.name} has no {claim.labelling} labels")
    one = next((one for one in part.pooled if one.model == claim.model), None)
    if one is None:
        raise _MissingError(
            f"run {run.name} has no model {claim.model}: add it by --models to `{run.command}`"
        )
    value = getattr(one.costs, claim.cost)
    if value is None:
        raise _MissingError(f"run {run.name} could not measure {claim.cost} of {claim.model}")
    text = f"{claim.model} {claim.cost} {value:,.4g} on {run.machine.cpu}, {run.machine.cores} cores (run {run.name})"
    return Outcome(_plain(float(value), claim.at_least, claim.at_most), text)


def _retrieves(claim: Retrieves, evidence: Evidence) -> Outcome:
    run = evidence.retrieval
    if run is None:
        raise _MissingError("no run of the search: `faultwise eval retrieval` makes one")
    whole = [one for one in run.variants if one.variant.startswith(claim.variant) and not one.group]
    if not whole:
        known = ", ".join(dict.fromkeys(one.variant for one in run.variants))
        raise _MissingError(f"run {run.name} has no variant {claim.variant}, only {known}")
    found = getattr(whole[0], claim.measure)
    score = (
        found if isinstance(found, Estimate) else Estimate(value=found, low=found, high=found)
    )  # seconds have none
    text = f"{whole[0].variant}, {claim.measure} {_share(score)} of {whole[0].questions} questions (run {run.name})"
    return Outcome(decide_bound(score, claim.at_least, claim.at_most), text)


def _answers(claim: AnswersClaim, evidence: Evidence) -> Outcome:
    run = evidence.answers
    if run is None:
        raise _MissingError("no run of answers: `faultwise eval answers` makes one")
    whole = next(
        (one for one in run.measured if one.measure == claim.measure and not one.group), None
    )
    if whole is None:
        raise _MissingError(f"run {run.name} has no measure {claim.measure}")
    text = f"{claim.measure} {_share(whole.share)} of {whole.cases} cases (run {run.name})"
    return Outcome(decide_bound(whole.share, claim.at_least, claim.at_most), text)


def _renamed(claim: Renamed, evidence: Evidence) -> Outcome:
    del claim, evidence
    found = compare_texts()
    text = f"{found.differing} of {found.windows} texts differ after {found.addresses} addresses were changed"
    return Outcome("fails" if found.differing else "holds", text)


def _share(score: Estimate) -> str:
    return format_estimate("f1", score)


_DECIDE: Mapping[type, Callable[[Any, Evidence], Outcome]] = {
    Beats: _beats,
    Reaches: _reaches,
    Changes: _changes,
    Labels: _labels,
    Costs: _costs,
    Retrieves: _retrieves,
    AnswersClaim: _answers,
    Renamed: _renamed,
}
