"""One fit: train a model on a fold, predict the fold's windows, and score the predictions.

A fit is a file of the run's folder, written whole when the fit ends: a run that is killed goes on
where it stood, and no fit is counted twice.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from assistant.detection import Incident
from assistant.detection.pipeline import analyse_verdicts
from eval.detection.alarms import (
    AlarmCounts,
    count_incidents,
    find_delays,
    make_verdicts,
    true_intervals,
)
from eval.detection.corpus import Corpus
from eval.detection.costs import CORE_WATTS, Cost, measure_cost
from eval.detection.metrics import ALL_PREDICTED, encode, find_alarms
from eval.detection.scoring import Predictions, alarm_labels, gather, score
from eval.detection.splits import Fold, Protocol, make_folds
from eval.detection.training_sets import (
    SiteSet,
    TrainingSet,
    draw_site_set,
    draw_training_set,
    read_features,
)
from eval.models.classifier import WindowClassifier
from eval.models.registry import make_model
from eval.models.transfer import BOTH, SHARE, SOURCE, TUNED, Examples, TextTuner, transfer
from eval.results import INVALID, Costs, Labelling, Row
from traffic.files import replacing
from traffic.labels import LABELS, NORMAL, UNKNOWN


@dataclass(frozen=True)
class FitKey:
    """Names a fit: one row of the results to be."""

    model: str
    fold: str
    setting: str
    labelling: Labelling
    seed: int


@dataclass(frozen=True)
class FitResult:
    """The row of a fit, and the predictions that it was made of."""

    row: Row
    predictions: Predictions


@dataclass(frozen=True)
class Setup:
    """What all fits of a run share, before any capture is read.

    Attributes:
        data: folder of labelled captures.
        cache: folder for captures that were read once.
        protocol: with the budgets that are used.
        without: labels left out.
        quick: models have small budgets.
        alone: no other fit runs beside.
        tune_texts: trains language models, where the protocol moves models; `finetune` is not
            imported from here.
    """

    data: Path
    cache: Path
    protocol: Protocol
    without: tuple[str, ...]
    quick: bool
    alone: bool
    tune_texts: TextTuner | None = None


@dataclass(frozen=True)
class Experiment:
    """A setup with its captures' windows and its folds, by labelling, name and setting."""

    setup: Setup
    corpus: Corpus
    folds: Mapping[tuple[Labelling, str, str], Fold]


@dataclass(frozen=True)
class ModelOutput:
    """A fitted model's answers for the windows of ``fold.predicted``, and what they cost.

    Attributes:
        classes: its labels, shape (n_classes,).
        probabilities: shape (n, n_classes); rows of NaN where an answer could not be read.
        labels: shape (n,), labels or ``[invalid]``.
        abstained: shape (n,), bool.
        incidents: of each capture that was predicted whole, by its place in the corpus.
        fitting, predicting: costs; of a model that does not learn, those of the first time.
        size_bytes: of the fitted model.
        binary, learns, trained_on: as `eval.models.registry` explains them.
    """

    classes: np.ndarray
    probabilities: np.ndarray
    labels: np.ndarray
    abstained: np.ndarray
    incidents: Mapping[int, tuple[Incident, ...]]
    fitting: Cost
    predicting: Cost
    size_bytes: int
    binary: bool
    learns: bool
    trained_on: tuple[str, ...]


@dataclass(frozen=True)
class Memory:
    """What fits of one model on one fold have in common, so that none is made twice.

    Published and corrected labels often give the same training set, and a model that does not learn
    predicts the same for every seed and labelling: of twelve fits of a language model on a fold,
    eleven are found here.

    Attributes:
        outputs: by what decides them.
        fitted: models as fitted on a source, by what decides them.
    """

    outputs: dict[tuple[object, ...], ModelOutput] = field(default_factory=dict)
    fitted: dict[tuple[object, ...], dict[str, WindowClassifier]] = field(default_factory=dict)


def make_experiment(setup: Setup, corpus: Corpus) -> Experiment:
    """Make the folds of a run.

    Raises:
        UserError: see `eval.detection.splits.make_folds`.
    """
    folds = {
        (labelling, fold.name, fold.setting): fold
        for labelling in setup.protocol.labellings
        for fold in make_folds(corpus, setup.protocol, labelling)
    }
    return Experiment(setup, corpus, folds)


# ---- Fits on disk ----


def fit_path(folder: Path, key: FitKey) -> Path:
    """The file of a fit in its run's folder; it is there if and only if the fit has ended."""
    name = "\n".join([key.model, key.fold, key.setting, key.labelling, str(key.seed)])
    return folder / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.npz"


def read_fit(folder: Path, key: FitKey) -> FitResult:
    """A fit that has ended."""
    with np.load(fit_path(folder, key), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    row = Row.model_validate_json(str(arrays.pop("row")))
    counts = json.loads(str(arrays.pop("incidents")))
    incidents = {capture: AlarmCounts(**of) for capture, of in counts.items()}
    captures = json.loads(str(arrays.pop("captures")))
    delays = {capture: arrays.pop(f"delays {place}") for place, capture in enumerate(captures)}
    return FitResult(row, Predictions(**arrays, incidents=incidents, delays=delays))


def write_fit(folder: Path, key: FitKey, result: FitResult) -> None:
    """Write a fit, whole or not at all; when this returns it is on disk."""
    found = result.predictions
    arrays = {
        name: getattr(found, name)
        for name in ("rows", "code", "confidence", "alarm", "abstained", "named")
    }
    for place, one in enumerate(found.delays.values()):
        arrays[f"delays {place}"] = one
    counts = {capture: asdict(of) for capture, of in found.incidents.items()}
    texts: dict[str, Any] = {
        "row": result.row.model_dump_json(),
        "incidents": json.dumps(counts),
        "captures": json.dumps(list(found.delays)),
    }
    with replacing(fit_path(folder, key)) as draft, draft.open("wb") as file:
        np.savez_compressed(file, **arrays, **texts)


# ---- Train and predict ----


def fit_fold(experiment: Experiment, key: FitKey, memory: Memory) -> FitResult:
    """Fit a model on a fold and score it.

    Args:
        experiment: all that the run's fits share.
        key: which fit.
        memory: of this model on this fold.
    """
    fold = experiment.folds[key.labelling, key.fold, key.setting]
    corpus, protocol = experiment.corpus, experiment.setup.protocol
    training = draw_training_set(corpus, fold, protocol, key.labelling, key.seed)
    model = make_model(key.model, key.seed, experiment.setup.quick)
    same: tuple[object, ...] = (fold.predicted.tobytes(), fold.zeroed)
    if model.learns:
        same += (key.seed, training.rows.tobytes(), "\n".join(training.labels))
    learned = partial(learn, model, corpus, fold, training)
    if fold.method:
        site = draw_site_set(corpus, fold, protocol, key.labelling, key.seed)
        tune_texts = experiment.setup.tune_texts
        fitted = memory.fitted.setdefault(same, {})
        learned = partial(_move, model, corpus, fold, training, site, fitted, tune_texts)
        if fold.method != SOURCE:
            same += (fold.method, key.seed, site.share.rows.tobytes(), "\n".join(site.share.labels))
        training = _find_taught(training, site, fold.method, model.learns)
    if same not in memory.outputs:
        seed = key.seed if model.learns else 0
        with_incidents = seed < protocol.incident_seeds
        memory.outputs[same] = run_model(learned, experiment, fold, with_incidents)
    return score_fit(experiment, key, training, memory.outputs[same])


def learn(
    model: WindowClassifier, corpus: Corpus, fold: Fold, training: TrainingSet
) -> WindowClassifier:
    """Fit a model on a training set, and give it back."""
    of = _read_examples(corpus, fold, training)
    return model.fit(of.x, of.y, of.devices, of.groups)


def _move(
    model: WindowClassifier,
    corpus: Corpus,
    fold: Fold,
    training: TrainingSet,
    site: SiteSet,
    fitted: dict[str, WindowClassifier],
    tune_texts: TextTuner | None,
) -> WindowClassifier:
    """Fit a model on one network and move it to another by the fold's method."""
    source, share = (_read_examples(corpus, fold, each) for each in (training, site.share))
    unlabelled = read_features(corpus, site.unlabelled, fold.zeroed)
    return transfer(model, fold.method, source, share, unlabelled, fitted, tune_texts)


def _read_examples(corpus: Corpus, fold: Fold, training: TrainingSet) -> Examples:
    rows = training.rows
    features = read_features(corpus, rows, fold.zeroed)
    return Examples(features, training.labels, corpus.device[rows], corpus.capture[rows])


def _find_taught(training: TrainingSet, site: SiteSet, method: str, learns: bool) -> TrainingSet:
    """Whose labels a method reads: the source's, the new network's, or both."""
    if method == SHARE or (method in TUNED and not learns):
        return site.share
    if method not in (BOTH, *TUNED):
        return training
    parts = (training, site.share)
    return TrainingSet(
        *(np.concatenate([getattr(p, n) for p in parts]) for n in ("rows", "labels"))
    )


def run_model(
    make: Callable[[], WindowClassifier], experiment: Experiment, fold: Fold, with_incidents: bool
) -> ModelOutput:
    """Train a model by ``make`` and predict every window of the fold's ``predicted``."""
    corpus, alone = experiment.corpus, experiment.setup.alone
    rows = fold.predicted
    x_predicted = read_features(corpus, rows, fold.zeroed)
    fitting = measure_cost(make, alone)
    model = fitting.result
    predicting = measure_cost(lambda: model.predict_proba(x_predicted, corpus.device[rows]), alone)
    output = ModelOutput(
        classes=np.asarray(model.classes_, dtype=object),
        probabilities=predicting.result,
        labels=model.decide(predicting.result),
        abstained=model.abstains(predicting.result).astype(bool),
        incidents={},
        fitting=fitting.cost,
        predicting=predicting.cost,
        size_bytes=int(model.size_bytes),
        binary=bool(model.binary),
        learns=bool(model.learns),
        trained_on=tuple(model.trained_on),
    )
    if output.binary or not with_incidents:
        return output
    places = _whole_captures(corpus, rows)
    return replace(output, incidents={one: _incidents(corpus, fold, one, output) for one in places})


def _whole_captures(corpus: Corpus, rows: np.ndarray) -> list[int]:
    """Captures all of whose windows are among the rows."""
    n = len(corpus.captures)
    predicted, all_rows = (
        np.bincount(each, minlength=n) for each in (corpus.capture[rows], corpus.capture)
    )
    return [int(place) for place in np.flatnonzero((predicted == all_rows) & (all_rows > 0))]


def _incidents(corpus: Corpus, fold: Fold, place: int, output: ModelOutput) -> tuple[Incident, ...]:
    """Incidents of a capture as serving makes them; they do not depend on what is true."""
    mine, capture = corpus.capture[fold.predicted] == place, corpus.captures[place]
    parts = (output.probabilities[mine], output.labels[mine], output.abstained[mine])
    verdicts = make_verdicts(capture, output.classes, *parts)
    return analyse_verdicts(capture.capture, capture.plant, capture.windows, verdicts).incidents


# ---- Score ----


def score_fit(
    experiment: Experiment, key: FitKey, training: TrainingSet, output: ModelOutput
) -> FitResult:
    """Compare a model's output with what is true, as a row of results."""
    corpus, protocol = experiment.corpus, experiment.setup.protocol
    fold = experiment.folds[key.labelling, key.fold, key.setting]
    alarms = alarm_labels(protocol.alarm)
    predictions = _make_predictions(experiment, fold, key, output)
    tested = gather(corpus, key.labelling, [predictions], alarms, output.binary)
    scores = score(tested, [predictions], protocol.resamples, whole=False)
    tests, truth = corpus.names(fold.test), set(corpus.labels[key.labelling][fold.test])
    row = Row(
        model=key.model,
        fold=key.fold,
        setting=key.setting,
        amount=fold.amount,
        labelling=key.labelling,
        seed=key.seed,
        train=corpus.names(training.rows),
        test=tests,
        scores=scores.scores,
        per_label=scores.per_label,
        confusion=scores.confusion,
        curves=scores.curves,
        costs=_costs(output, len(fold.predicted)),
        trained_windows=len(training.rows) if output.learns else 0,
        tested_windows=len(fold.test),
        invalid=int((predictions.code == ALL_PREDICTED.index(INVALID)).sum()),
        abstained=int(predictions.abstained.sum()),
        seen_in_training=tuple(sorted(set(output.trained_on) & set(tests))),
        notes=_note(output, predictions, truth - set(training.labels)),
    )
    return FitResult(row, predictions)


def _make_predictions(
    experiment: Experiment, fold: Fold, key: FitKey, output: ModelOutput
) -> Predictions:
    corpus, setup = experiment.corpus, experiment.setup
    alarms = alarm_labels(setup.protocol.alarm)
    code, probabilities = encode(output.labels), np.nan_to_num(output.probabilities, nan=0.0)
    column = np.full(len(ALL_PREDICTED), -1)
    column[encode(output.classes)] = np.arange(len(output.classes))
    place = column[code]
    confidence = np.where(place >= 0, probabilities[np.arange(len(code)), place], 0.0)
    alarm = probabilities[:, find_alarms(output.classes.astype(str), alarms)].sum(axis=1)
    called = find_alarms(ALL_PREDICTED, alarms)[code] & ~output.abstained
    counts, delays = {}, {}
    scored = np.isin(fold.predicted, fold.test)
    for one in _whole_captures(corpus, fold.predicted):
        mine = corpus.capture[fold.predicted] == one
        if not (mine & scored).any():
            continue
        capture, name = corpus.captures[one], corpus.hashes[one]
        devices = set(capture.windows.table["device"].to_numpy(object)[scored[mine]])
        intervals = true_intervals(capture, key.labelling, set(alarms) - set(setup.without))
        tested = intervals[intervals["device"].isin(devices)]
        delays[name] = find_delays(capture, tested, called[mine])
        if one in output.incidents and key.seed < setup.protocol.incident_seeds:
            counts[name] = count_incidents(capture, output.incidents[one], intervals, devices)
    return Predictions(
        rows=fold.test,
        code=code[scored],
        confidence=np.clip(confidence, 0, 1)[scored].astype(np.float32),
        alarm=np.clip(alarm, 0, 1)[scored].astype(np.float32),
        abstained=output.abstained[scored],
        named=_name(output, code, probabilities)[scored],
        incidents=counts,
        delays=delays,
    )


def _name(output: ModelOutput, code: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The likeliest anomaly of each window, as `Predictions.named`; what could not be read stays so."""
    odd = np.flatnonzero(output.classes.astype(str) != NORMAL)
    if output.binary or not len(odd):
        return code
    named = encode(output.classes[odd])[probabilities[:, odd].argmax(axis=1)]
    return np.where(code == ALL_PREDICTED.index(INVALID), code, named)


def _costs(output: ModelOutput, predicted: int) -> Costs:
    fitting, predicting = output.fitting, output.predicting
    memory = [one.memory_bytes for one in (fitting, predicting) if one.memory_bytes is not None]
    rapl = "RAPL" in (fitting.energy_from, predicting.energy_from)
    return Costs(
        fit_s=round(fitting.wall_s, 4),
        windows_per_s=round(predicted / predicting.wall_s, 1) if predicting.wall_s > 0 else None,
        cpu_s=round(fitting.cpu_s + predicting.cpu_s, 4),
        peak_memory_bytes=max(memory) if memory else None,
        model_bytes=output.size_bytes,
        energy_j=round(fitting.energy_j + predicting.energy_j, 3),
        energy_from=fitting.energy_from,
        watts=None if rapl else CORE_WATTS,
    )


def _note(output: ModelOutput, predictions: Predictions, never_shown: set[str]) -> tuple[str, ...]:
    notes = []
    if not output.learns:
        notes.append("not trained here: the same for every seed and labelling")
    elif shown := [label for label in LABELS if label in never_shown - {UNKNOWN}]:
        notes.append(f"tested on labels that training lacks: {', '.join(shown)}")
    if len(codes := np.unique(predictions.code)) == 1:
        notes.append(f"says {ALL_PREDICTED[codes[0]]} of every window")
    return tuple(notes)
