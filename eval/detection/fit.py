"""One fit: a model learns a fold's training set, is asked about its windows, and is scored; all of
it is measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from assistant.detection.incidents import Incident, make_incidents
from assistant.facts.traffic_view import TrafficView
from eval.detection.alarms import (
    Raised,
    count_incidents,
    find_delays,
    make_verdicts,
    true_intervals,
)
from eval.detection.corpus import Corpus, LabelledCapture, leave_out, load_corpus
from eval.detection.costs import CORE_WATTS, Spent, spend
from eval.detection.metrics import ALL_SAID, ANOMALOUS, encode
from eval.detection.predictions import Judged, Said
from eval.detection.scoring import alarm_labels, gather, score
from eval.detection.splits import Fold, Protocol, make_folds
from eval.detection.training_sets import TrainingSet, draw_training_set, read_features
from eval.models.base import WindowClassifier
from eval.models.registry import make_model
from eval.results import INVALID, Costs, Labelling, Row
from traffic.labels import LABELS, UNKNOWN

# A model is fitted and asked once; the same question is answered from memory.
#
# Published and corrected labels often give the same training set, and a model that does not learn
# answers every seed and labelling alike: of twelve fits of a language model on a fold, eleven are
# remembered.

_REMEMBERED = 64


@dataclass(frozen=True)
class Question:
    """What a model is asked, and what it is taught before.

    Attributes:
        model: name for ``eval.models.registry.make_model``.
        quick: small budgets.
        fold: rows asked about.
        training: what it learns.
        seed: of the model.
        alone: nothing else runs beside.
    """

    model: str
    quick: bool
    fold: Fold
    training: TrainingSet
    seed: int
    alone: bool


@dataclass(frozen=True)
class Answers:
    """What a model answered about the windows of ``fold.asked``, and what it took.

    Attributes:
        classes: its labels, shape (n_classes,).
        probabilities: shape (n, n_classes); rows of NaN where an answer could not be read.
        said: shape (n,), labels or ``[invalid]``.
        abstained: shape (n,), bool.
        fitting, asking: costs; of a model that does not learn, those of the first time it was
            asked.
        size_bytes: of the fitted model.
        binary, learns, trained_on: as `eval.models.registry` explains them.
    """

    classes: np.ndarray
    probabilities: np.ndarray
    said: np.ndarray
    abstained: np.ndarray
    fitting: Spent
    asking: Spent
    size_bytes: int | None
    binary: bool
    learns: bool
    trained_on: tuple[str, ...]


# Of this process: what models answered lately, and the incidents of that.
_answered: dict[tuple[object, ...], Answers] = {}
_raised: dict[tuple[object, ...], tuple[Incident, ...]] = {}


def ask(corpus: Corpus, question: Question) -> Answers:
    """Fit and ask a model, or remember what it answered to the same question."""
    fold, training = question.fold, question.training
    asked = (corpus.hashes, question.model, question.quick, fold.zeroed, fold.asked.tobytes())
    taught = (*asked, question.seed, training.rows.tobytes(), "\n".join(training.labels))
    for known in (taught, asked):  # a model that does not learn is known by what it is asked alone
        if known in _answered:
            return _answered[known]
    answers = ask_model(make_model(question.model, question.seed, question.quick), corpus, question)
    for remembered in (_answered, _raised):
        if len(remembered) >= _REMEMBERED:
            remembered.clear()
    _answered[taught if answers.learns else asked] = answers
    return answers


def ask_model(model: WindowClassifier, corpus: Corpus, question: Question) -> Answers:
    """Fit a model and ask it about every window of the fold's ``asked``."""
    fold, training, alone = question.fold, question.training, question.alone
    x, x_asked = (read_features(corpus, rows, fold.zeroed) for rows in (training.rows, fold.asked))
    devices, groups = corpus.device[training.rows], corpus.capture[training.rows]
    fitting = spend(lambda: model.fit(x, training.labels, devices, groups), alone)
    asking = spend(lambda: model.predict_proba(x_asked, corpus.device[fold.asked]), alone)
    return Answers(
        classes=np.asarray(model.classes_, dtype=object),
        probabilities=asking.made,
        said=model.decide(asking.made),
        abstained=model.abstains(asking.made),
        fitting=fitting.spent,
        asking=asking.spent,
        size_bytes=int(model.size_bytes),
        binary=bool(model.binary),
        learns=bool(model.learns),
        trained_on=tuple(model.trained_on),
    )


def find_incidents(
    capture: LabelledCapture, answers: Answers, mine: np.ndarray
) -> tuple[Incident, ...]:
    """As serving makes them, hard evidence included; they do not depend on what is true."""
    key = (capture.name, answers.said[mine].tobytes(), answers.probabilities[mine].tobytes())
    if key not in _raised:
        parts = (answers.probabilities[mine], answers.said[mine], answers.abstained[mine])
        verdicts = make_verdicts(capture, answers.classes, *parts)
        view = TrafficView(capture.capture, capture.windows.samples, capture.plant)
        _raised[key] = tuple(make_incidents(verdicts, capture.windows, view))
    return _raised[key]


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
        UserError: see `eval.detection.corpus.load_corpus` and `eval.detection.corpus.leave_out`.
    """
    return leave_out(load_corpus(data, kept), without)


@lru_cache(maxsize=4)
def list_folds(setup: Setup, labelling: Labelling) -> Mapping[str, Fold]:
    """The folds of a run by what tells them apart.

    Raises:
        UserError: see `eval.detection.splits.make_folds`.
    """
    corpus = read_corpus(setup.data, setup.kept, setup.without)
    return {
        f"{fold.name}\n{fold.setting}": fold
        for fold in make_folds(corpus, setup.protocol, labelling)
    }


def fit_fold(setup: Setup, fit: Fit) -> Fitted:
    """Fit a model on a fold and score it."""
    corpus = read_corpus(setup.data, setup.kept, setup.without)
    fold = list_folds(setup, fit.labelling)[f"{fit.fold}\n{fit.setting}"]
    training = draw_training_set(corpus, fold, setup.protocol, fit.labelling, fit.seed)
    question = Question(fit.model, setup.quick, fold, training, fit.seed, setup.alone)
    return score_answers(corpus, setup, fit, question, ask(corpus, question))


def score_answers(
    corpus: Corpus, setup: Setup, fit: Fit, question: Question, answers: Answers
) -> Fitted:
    """The row of what a model answered to a question."""
    fold, training = question.fold, question.training
    judged = judge(corpus, fold, setup, fit, answers)
    tested = gather(
        corpus, fit.labelling, [judged], alarm_labels(setup.protocol.alarm), answers.binary
    )
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
    return Said(
        code, np.clip(confidence, 0, 1), np.clip(alarm, 0, 1), answers.abstained.astype(bool)
    )


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
