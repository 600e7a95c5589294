"""Decide claims by the numbers of runs."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from eval.differences import State, between, decide_bound, is_better, mean_difference, orient, paired_difference
from eval.evidence import Evidence, command_for
from eval.models.registry import LLM_PREFIX
from eval.number_text import format_number, render_cell, signed
from eval.parts import Part, make_parts
from eval.research.claims import (
    AnswersClaim,
    Beats,
    Changes,
    Claim,
    Costs,
    Labels,
    Outcome,
    Place,
    Reaches,
    Renamed,
    Retrieves,
)
from eval.results import Estimate, Labelling, Pooled, Run
from traffic.labels import NORMAL

__all__ = ["decide_claim"]

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
    """The part of a run that is a test of a model: where it had seen captures, the part of those that none had."""
    run = _run(evidence, place.protocol)
    parts = [part for part in make_parts(run) if (part.base, part.labelling) == (place.setting, labelling)]
    if not parts:
        known = ", ".join(dict.fromkeys(f"{p.base or 'none'} ({p.labelling})" for p in make_parts(run))) or "nothing"
        raise _MissingError(f"run {run.name} has no setting {place.setting or 'none'} ({labelling}), only {known}")
    honest = [part for part in parts if any(one.model == model and one.compared for one in part.pooled)]
    return run, (honest or parts)[0]


def _run(evidence: Evidence, protocol: str) -> Run:
    run = evidence.run_of(protocol)
    if run is None:
        raise _MissingError(f"no run of protocol {protocol}: `{command_for(protocol)}` makes one")
    return run


def _pooled(run: Run, part: Part, model: str) -> Pooled:
    one = next((one for one in part.pooled if one.model == model), None)
    if one is None:
        raise _MissingError(f"run {run.name} has no model {model}: add it by --models to `{run.command}`")
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
        texts.append(f"{other} {signed(claim.measure, difference)}{how}")
    if missing:
        states.append("open")
        texts.append(f"not there or not measured: {', '.join(missing)}")
    value = render_cell(claim.measure, ours.scores[claim.measure])
    text = f"{claim.model} {claim.measure} {value}; better by, than: {'; '.join(texts)} (run {run.name})"
    return Outcome(_all(states), text)


def _better_by(run: Run, part: Part, ours: Pooled, other: Pooled, measure: str) -> tuple[Estimate, str]:
    """How much better ours is, above 0 is better: as tested in pairs, otherwise between the ends of both intervals."""
    place = (part.base, part.labelling, measure)
    tested, how = paired_difference(run.comparisons, place, ours.model, other.model), ""
    if tested is None or tested.value is None:
        tested, how = between(other.scores[measure], ours.scores[measure]), " (not in pairs)"
    if tested.value is None:
        raise _MissingError(f"{measure} cannot be measured for both")
    return orient(measure, tested), how


def _reaches(claim: Reaches, evidence: Evidence) -> Outcome:
    run = _run(evidence, claim.protocol)
    every = dict.fromkeys(part.base for part in make_parts(run) if part.labelling == claim.labelling)
    scores = {}
    for setting in every if claim.setting == "every" else [claim.setting]:
        place = Place(protocol=claim.protocol, setting=setting)
        _, part = _part(evidence, place, claim.labelling, claim.model)
        scores[part.setting] = _pooled(run, part, claim.model).scores[claim.measure]
    states = [decide_bound(score, claim.at_least, claim.at_most) for score in scores.values()]
    texts = [f"{f'{setting}: ' if setting else ''}{render_cell(claim.measure, s)}" for setting, s in scores.items()]
    return Outcome(_all(states), f"{claim.model} {claim.measure} {'; '.join(texts)} (run {run.name})")


def _changes(claim: Changes, evidence: Evidence) -> Outcome:
    ends = [_part(evidence, place, claim.labelling, claim.model) for place in (claim.before, claim.after)]
    if claim.learns and _brings_weights(claim.model):
        raise _MissingError(f"{claim.model} brings its weights along: the run trains it on none of its windows")
    scores = [_pooled(run, part, claim.model).scores[claim.measure] for run, part in ends]
    change, how = _by_fold(claim, ends[0][0]) if ends[0][0] is ends[1][0] else None, "paired by fold"
    if change is None:
        change, how = between(scores[0], scores[1]), "not in pairs"
    if change.value is None:
        raise _MissingError(f"{claim.measure} of {claim.model} cannot be measured in both")
    words = " to ".join(render_cell(claim.measure, score) for score in scores)
    names = " and ".join(dict.fromkeys(run.name for run, _ in ends))
    text = f"{claim.model} {claim.measure} from {words}: {signed(claim.measure, change)} {how} (run {names})"
    return Outcome(decide_bound(change, claim.at_least, claim.at_most), text)


def _brings_weights(model: str) -> bool:
    """Whether fitting changes nothing: language models take no window of a run, so nothing they learned can show."""
    return model in _BRING_WEIGHTS or model.startswith(LLM_PREFIX)


def _by_fold(claim: Changes, run: Run) -> Estimate | None:
    """The change over folds that both settings have, seeds averaged; None where there are too few."""

    def means(place: Place) -> Mapping[str, float]:
        values: dict[str, list[float]] = {}
        for row in run.rows:
            mine = (row.model, row.setting, row.labelling) == (claim.model, place.setting, claim.labelling)
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
    return Outcome(_all(states), f"{claim.model} {claim.measure} by label, worst first: {texts} (run {run.name})")


def _plain(value: float | None, at_least: float | None, at_most: float | None) -> State:
    return decide_bound(Estimate(value=value, low=value, high=value), at_least, at_most)


def _costs(claim: Costs, evidence: Evidence) -> Outcome:
    run = _run(evidence, claim.protocol)
    part = next((part for part in make_parts(run) if part.labelling == claim.labelling), None)
    if part is None:
        raise _MissingError(f"run {run.name} has no {claim.labelling} labels")
    one = next((one for one in part.pooled if one.model == claim.model), None)
    if one is None:
        raise _MissingError(f"run {run.name} has no model {claim.model}: add it by --models to `{run.command}`")
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
    score = found if isinstance(found, Estimate) else Estimate(value=found, low=found, high=found)  # seconds have none
    text = f"{whole[0].variant}, {claim.measure} {_share(score)} of {whole[0].questions} questions (run {run.name})"
    return Outcome(decide_bound(score, claim.at_least, claim.at_most), text)


def _answers(claim: AnswersClaim, evidence: Evidence) -> Outcome:
    run = evidence.answers
    if run is None:
        raise _MissingError("no run of answers: `faultwise eval answers` makes one")
    whole = next((one for one in run.measured if one.measure == claim.measure and not one.group), None)
    if whole is None:
        raise _MissingError(f"run {run.name} has no measure {claim.measure}")
    text = f"{claim.measure} {_share(whole.share)} of {whole.cases} cases (run {run.name})"
    return Outcome(decide_bound(whole.share, claim.at_least, claim.at_most), text)


def _renamed(claim: Renamed, evidence: Evidence) -> Outcome:
    from eval.research.privacy import compare_texts

    del claim, evidence
    found = compare_texts()
    text = f"{found.differing} of {found.windows} texts differ after {found.addresses} addresses were changed"
    return Outcome("fails" if found.differing else "holds", text)


def _share(score: Estimate) -> str:
    return render_cell("f1", score)


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
