"""The models of a comparison, each by its name, all behind scikit-learn's interface and on the same
windows.

    model = make_model("xgboost", seed=0)
    model.fit(x, y, devices, groups)
    probabilities = model.predict_proba(x, devices)          # (n_windows, len(model.classes_))
    said = model.decide(probabilities)                       # labels, shape (n_windows,)

``x`` is what `eval.models.features.make_features` returns, ``y`` are our labels, ``devices`` one
number per window that tells devices apart (and nothing else; different captures have different
devices), ``groups`` one per window that tells captures apart. Windows of a device are in order of
time. What a protocol hides from the models it sets to 0.

What a model says, and when it does not, has a few forms; a caller needs to know all of them:

* ``model.classes_`` of a model that learns labels are those that it was trained with, in the order
of
  `traffic.labels.LABELS`: a label that training lacks gets no column. Rules and language models
      know every label.
* ``model.binary`` is true where a model tells normal from anomalous and no more: ``classes_`` is
  then ``["normal", "anomalous"]``, whatever labels it is fitted with, and it has no place in a
  comparison of several labels.
* ``model.decide`` turns probabilities into labels: the likeliest one, or as serving does for a
  language model (normal from a half on, else the likeliest anomaly). A row of NaN is an answer that
  cannot be read, ``[invalid]``; ``model.invalid`` counts those of the last `predict_proba`.
* ``model.abstains`` tells, from probabilities, for which windows serving would stay silent; false
for most models.
* ``model.trained_on`` names the captures that a model had seen before `fit` (a language model's
card says so): on
  those its row is no test.
* ``model.learns`` is false where `fit` changes nothing: such a model needs to be run once per
    window, not per fold.
* ``model.size_bytes`` is what would have to be stored to use it, after `fit`.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from eval.models.base import WindowClassifier
from eval.models.language import LanguageModel, check_source
from traffic.errors import UserError

LLM_PREFIX = "llm:"

# Name -> where it is made, and with what. Their modules are heavy, so they are imported when one is
# asked for.
_MADE_BY: dict[str, tuple[str, str, dict[str, Any]]] = {
    "rules": ("models.rules", "Rules", {}),
    "one-line-rule": ("models.rules", "OneLineRule", {}),
    "ewma": ("models.statistical", "Ewma", {}),
    "isolation-forest": ("models.statistical", "Isolation", {}),
    "knn": ("models.classical", "Neighbours", {}),
    "random-forest": ("models.classical", "Forest", {}),
    "xgboost": ("models.classical", "Boosting", {}),
    "text-ceiling": ("models.classical", "Boosting", {"text": True}),
    "lstm": ("models.sequence", "SequenceModel", {"network": "lstm"}),
    "lstm-time2vec": ("models.sequence", "SequenceModel", {"network": "lstm-time2vec"}),
    "transformer": ("models.sequence", "SequenceModel", {"network": "transformer"}),
    "time-transformer": ("models.sequence", "SequenceModel", {"network": "time-transformer"}),
    "reconstruction": ("models.sequence", "Reconstruction", {}),
    "anomaly-transformer": ("models.sequence", "Association", {}),
    "pocket": ("models.language", "LanguageModel", {"source": "pocket"}),
    "zero-shot": ("models.language", "LanguageModel", {"source": "zero-shot"}),
}
MODELS: tuple[str, ...] = tuple(_MADE_BY)


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
        return LanguageModel(source=name.removeprefix(LLM_PREFIX), seed=seed, quick=quick)
    if name not in _MADE_BY:
        raise UserError(
            f"no model is called {name}; expected one of {', '.join(MODELS)}, or {LLM_PREFIX}FOLDER; correct the name"
        )
    module, kind, options = _MADE_BY[name]
    made: WindowClassifier = getattr(import_module(f"eval.{module}"), kind)(
        seed=seed, quick=quick, **options
    )
    return made
