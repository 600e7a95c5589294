"""The models of a comparison, each by its name.

    model = make_model("xgboost", seed=0)
    model.fit(x, y, devices, groups)
    probabilities = model.predict_proba(x, devices)      # (n_windows, len(model.classes_))
    predicted = model.decide(probabilities)              # labels, shape (n_windows,)

``x`` is what `eval.models.features.make_features` returns, ``y`` are our labels, ``devices`` one
number per window that tells devices apart (and nothing else; different captures have different
devices), ``groups`` one per window that tells captures apart. Windows of a device are in order of
time. What a protocol hides from the models it sets to 0.

Models differ in a few ways that a caller needs to know:

* ``model.classes_`` are the labels that it was trained with, in the order of
  `traffic.labels.LABELS`: a label that training lacks gets no column. Rules and language models
  know every label.
* ``model.binary``: it tells normal from anomalous and no more. ``classes_`` is then
  ``["normal", "anomalous"]``, whatever labels it is fitted with, and it has no place in a
  comparison of several labels.
* ``model.decide`` takes the likeliest label, or for a language model what serving takes: normal
  from a half on, else the likeliest anomaly. A row of NaN is an answer that cannot be read,
  ``[invalid]``; ``model.invalid`` counts those of the last `predict_proba`.
* ``model.abstains``: for which windows serving would give no verdict; none for most models.
* ``model.trained_on``: captures that a model had seen before `fit` (a language model's card names
  them): on those its row is no test.
* ``model.learns`` is false where `fit` changes nothing: such a model needs to be run once per
  window, not per fold.
* ``model.size_bytes``: what would have to be stored to use it, after `fit`.

To add a model: subclass `eval.models.classifier.WindowClassifier` (``_fit``, ``_predict_proba`` and
``size_bytes``) and give it a line in ``_FACTORIES``. ``eval detection`` then runs it in every
protocol that names no models of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from eval.models.classical import Boosting, Forest, Neighbours
from eval.models.classifier import WindowClassifier
from eval.models.language import LanguageModel, check_source
from eval.models.rules import OneLineRule, Rules
from eval.models.sequence import Association, Reconstruction, SequenceModel
from eval.models.statistical import Ewma, Isolation
from traffic.errors import UserError

LLM_PREFIX = "llm:"
_JOINT, _CLASS = "/joint", "/class"  # folders, as `finetune.examples.Target` calls them
_FACTORIES: Mapping[str, Callable[..., WindowClassifier]] = {
    "rules": Rules,
    "one-line-rule": OneLineRule,
    "ewma": Ewma,
    "isolation-forest": Isolation,
    "knn": Neighbours,
    "random-forest": Forest,
    "xgboost": Boosting,
    "text-ceiling": partial(Boosting, text=True),
    "lstm": partial(SequenceModel, "lstm"),
    "lstm-time2vec": partial(SequenceModel, "lstm-time2vec"),
    "transformer": partial(SequenceModel, "transformer"),
    "time-transformer": partial(SequenceModel, "time-transformer"),
    "reconstruction": Reconstruction,
    "anomaly-transformer": Association,
    "pocket": partial(LanguageModel, "pocket"),
    "zero-shot": partial(LanguageModel, "zero-shot"),
}
MODELS: tuple[str, ...] = tuple(_FACTORIES)


def pair_tasks(models: Sequence[str]) -> dict[str, str]:
    """Language models that were tuned on detection and class together, each with the one that was
    tuned alike on the class alone, as `finetune.pocket.single_task` lays them down.

    >>> pair_tasks(["pocket", "llm:a/joint", "llm:a/class", "llm:b/class"])
    {'llm:a/joint': 'llm:a/class'}
    """
    singles = {one: f"{one.removesuffix(_JOINT)}{_CLASS}" for one in models if one.endswith(_JOINT)}
    return {one: single for one, single in singles.items() if single in models}


def make_model(name: str, seed: int = 0, quick: bool = False) -> WindowClassifier:
    """Make a model that has not learned anything yet.

    Args:
        name: one of MODELS, or ``llm:`` and the folder of a base model or of an adapter with its
            card.
        seed: of everything that is drawn.
        quick: small budgets, about a second for a thousand windows: shows that it works, not what
            it is worth.

    Raises:
        UserError: no model is called so, or the folder holds none.
    """
    if name.startswith(LLM_PREFIX):
        check_source(Path(name.removeprefix(LLM_PREFIX)))
        return LanguageModel(name.removeprefix(LLM_PREFIX), seed=seed, quick=quick)
    if name not in _FACTORIES:
        raise UserError(
            f"no model is called {name}; expected one of {', '.join(MODELS)}, or "
            f"{LLM_PREFIX}FOLDER; correct the name"
        )
    return _FACTORIES[name](seed=seed, quick=quick)
