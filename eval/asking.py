"""A model is fitted and asked once; the same question is answered from memory.

Published and corrected labels often give the same training set, and a model that does not learn answers every seed and
labelling alike: of twelve fits of a language model on a fold, eleven are remembered.
"""

from dataclasses import dataclass

import numpy as np

from assistant.detection.incidents import Incident, make_incidents
from eval.corpus import Corpus
from eval.detection.alarms import make_verdicts
from eval.detection.corpus import LabelledCapture
from eval.detection.costs import Spent, spend
from eval.detection.training_sets import TrainingSet, read_features
from eval.folds import Fold
from eval.models.base import WindowClassifier
from eval.models.registry import make_model

__all__ = ["Answers", "Question", "ask", "ask_model", "find_incidents"]

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
        fitting, asking: costs; of a model that does not learn, those of the first time it was asked.
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


def find_incidents(capture: LabelledCapture, answers: Answers, mine: np.ndarray) -> tuple[Incident, ...]:
    """As serving makes them, hard evidence included; they do not depend on what is true."""
    key = (capture.name, answers.said[mine].tobytes(), answers.probabilities[mine].tobytes())
    if key not in _raised:
        parts = (answers.probabilities[mine], answers.said[mine], answers.abstained[mine])
        verdicts = make_verdicts(capture, answers.classes, *parts)
        _raised[key] = tuple(make_incidents(verdicts, capture.windows, capture.capture, capture.plant))
    return _raised[key]
