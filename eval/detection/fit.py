"""One fit: a model learns a fold's training set, is asked about its windows, and is scored; all of it is measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from eval.asking import Answers, Question, ask, find_incidents
from eval.corpus import Corpus, leave_out, load_corpus
from eval.detection.alarms import Raised, count_incidents, find_delays, true_intervals
from eval.detection.costs import CORE_WATTS
from eval.detection.metrics import ALL_SAID, ANOMALOUS, encode
from eval.detection.predictions import Judged, Said
from eval.detection.scoring import alarm_labels, gather, score
from eval.detection.splits import Protocol
from eval.detection.training_sets import draw_training_set
from eval.folds import Fold, make_folds
from eval.results import INVALID, Costs, Labelling, Row
from traffic.labels import LABELS, UNKNOWN

__all__ = ["Fit", "Fitted", "Setup", "fit_fold", "judge", "list_folds", "read_corpus", "score_answers"]


@dataclass(frozen=True)
class Setup:
    """What all fits of a run share; a process that is given it reads the captures once.

    Attributes:
        data: folder of captures.
        kept: where captures that were read once are kept.
        protocol: with the budgets that are used.
        without: labels left out.
        quick: models have small budgets.
        alone: no other fit runs beside.
    """

    data: Path
    kept: Path
    protocol: Protocol
    without: tuple[str, ...]
    quick: bool
    alone: bool


@dataclass(frozen=True)
class Fit:
    """What is fitted: one row of the results to be."""

    model: str
    fold: str
    setting: str
    labelling: Labelling
    seed: int


@dataclass(frozen=True)
class Fitted:
    """The row, and what it was made of."""

    row: Row
    judged: Judged


@cache
def read_corpus(data: Path, kept: Path, without: tuple[str, ...]) -> Corpus:
    """The captures of a run, read once by each process.

    Raises:
        UserError: see `eval.corpus.load_corpus` and `eval.corpus.leave_out`.
    """
    return leave_out(load_corpus(data, kept), without)


@lru_cache(maxsize=4)
def list_folds(setup: Setup, labelling: Labelling) -> Mapping[str, Fold]:
    """The folds of a run by what tells them apart.

    Raises:
        UserError: see `eval.folds.make_folds`.
    """
    corpus = read_corpus(setup.data, setup.kept, setup.without)
    return {f"{fold.name}\n{fold.setting}": fold for fold in make_folds(corpus, setup.protocol, labelling)}


def fit_fold(setup: Setup, fit: Fit) -> Fitted:
    """Fit a model on a fold and score it."""
    corpus = read_corpus(setup.data, setup.kept, setup.without)
    fold = list_folds(setup, fit.labelling)[f"{fit.fold}\n{fit.setting}"]
    training = draw_training_set(corpus, fold, setup.protocol, fit.labelling, fit.seed)
    question = Question(fit.model, setup.quick, fold, training, fit.seed, setup.alone)
    return score_answers(corpus, setup, fit, question, ask(corpus, question))


def score_answers(corpus: Corpus, setup: Setup, fit: Fit, question: Question, answers: Answers) -> Fitted:
    """The row of what a model answered to a question."""
    fold, training = question.fold, question.training
    judged = judge(corpus, fold, setup, fit, answers)
    tested = gather(corpus, fit.labelling, [judged], alarm_labels(setup.protocol.alarm), answers.binary)
    scored = score(tested, [judged], setup.protocol.resamples, whole=False)
    tests, truth = corpus.names(fold.test), set(corpus.labels[fit.labelling][fold.test])
    row = Row(
        model=fit.model,
        fold=fit.fold,
        setting=fit.setting,
        amount=fold.amount,
        labelling=fit.labelling,
        seed=fit.seed,
        train=corpus.names(training.rows),
        test=tests,
        scores=scored.scores,
        per_label=scored.per_label,
        confusion=scored.confusion,
        curves=scored.curves,
        costs=_costs(answers, len(fold.asked)),
        trained_windows=len(training.rows) if answers.learns else 0,
        tested_windows=len(fold.test),
        invalid=int((judged.said.code == ALL_SAID.index(INVALID)).sum()),
        abstained=int(judged.said.abstained.sum()),
        seen_in_training=tuple(sorted(set(answers.trained_on) & set(tests))),
        notes=_note(answers, judged, truth - set(training.labels)),
    )
    return Fitted(row, judged)


def judge(corpus: Corpus, fold: Fold, setup: Setup, fit: Fit, answers: Answers) -> Judged:
    """Hold what was answered against what is true."""
    alarms = alarm_labels(setup.protocol.alarm)
    said = _read_answers(answers, alarms)
    raised: dict[str, Raised] = {}
    delays: dict[str, np.ndarray] = {}
    scored = np.isin(fold.asked, fold.test)
    for place in np.unique(corpus.capture[fold.asked]):
        mine = corpus.capture[fold.asked] == place
        if mine.sum() != (corpus.capture == place).sum() or not (mine & scored).any():
            continue  # a capture of which the model saw a part, or nothing that counts
        capture = corpus.captures[place]
        devices = set(capture.windows.table["device"].to_numpy(object)[scored[mine]])
        intervals = true_intervals(capture, fit.labelling, set(alarms) - set(setup.without))
        called = np.isin(ALL_SAID, (*alarms, ANOMALOUS))[said.code] & ~said.abstained
        seen = intervals[intervals["device"].isin(devices)]
        delays[corpus.hashes[place]] = find_delays(capture, seen, called[mine])
        if not answers.binary and fit.seed < setup.protocol.incident_seeds:
            found = find_incidents(capture, answers, mine)
            raised[corpus.hashes[place]] = count_incidents(capture, found, intervals, devices)
    return Judged(fold.test, said.take(np.flatnonzero(scored)), raised, delays)


def _read_answers(answers: Answers, alarms: tuple[str, ...]) -> Said:
    probabilities = np.nan_to_num(answers.probabilities, nan=0.0)
    code = encode(answers.said)
    column = np.full(len(ALL_SAID), -1)
    column[encode(answers.classes)] = np.arange(len(answers.classes))
    place = column[code]
    confidence = np.where(place >= 0, probabilities[np.arange(len(code)), place], 0.0)
    alarm = probabilities[:, np.isin(answers.classes.astype(str), (*alarms, ANOMALOUS))].sum(axis=1)
    return Said(code, np.clip(confidence, 0, 1), np.clip(alarm, 0, 1), answers.abstained.astype(bool))


def _costs(answers: Answers, asked: int) -> Costs:
    fitting, asking = answers.fitting, answers.asking
    memory = [one.memory_bytes for one in (fitting, asking) if one.memory_bytes is not None]
    rapl = "RAPL" in (fitting.energy_from, asking.energy_from)
    return Costs(
        fit_s=round(fitting.wall_s, 4),
        windows_per_s=round(asked / asking.wall_s, 1) if asking.wall_s > 0 else None,
        cpu_s=round(fitting.cpu_s + asking.cpu_s, 4),
        peak_memory_bytes=max(memory) if memory else None,
        model_bytes=answers.size_bytes,
        energy_j=round(fitting.energy_j + asking.energy_j, 3),
        energy_from=fitting.energy_from,
        watts=None if rapl else CORE_WATTS,
    )


def _note(answers: Answers, judged: Judged, never_shown: set[str]) -> tuple[str, ...]:
    notes = []
    if not answers.learns:
        notes.append("not trained here: the same for every seed and labelling")
    elif shown := [label for label in LABELS if label in never_shown - {UNKNOWN}]:
        notes.append(f"tested on labels that training lacks: {', '.join(shown)}")
    if len(codes := np.unique(judged.said.code)) == 1:
        notes.append(f"says {ALL_SAID[codes[0]]} of every window")
    return tuple(notes)
