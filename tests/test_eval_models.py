"""What every model of a comparison has in common, over all of them: the interface that the harness
relies on."""

import numpy as np
import pytest
from sklearn.base import clone
from windows_to_learn import apart

from eval.models.classifier import ANOMALOUS
from eval.models.features import FEATURES
from eval.models.registry import MODELS, make_model
from traffic.errors import UserError
from traffic.labels import LABELS, NORMAL

LANGUAGE = ("pocket", "zero-shot")
NUMERIC = tuple(name for name in MODELS if name not in LANGUAGE)
LEARNING = tuple(name for name in NUMERIC if make_model(name).learns)
SEVERAL = tuple(name for name in LEARNING if not make_model(name).binary)
BINARY = tuple(name for name in MODELS if make_model(name).binary)


@pytest.fixture(scope="module")
def learned():
    """Every learning model, fitted once on separable windows."""
    given = apart(seed=0)
    return {
        name: make_model(name, 0, quick=True).fit(given.x, given.y, given.devices, given.groups)
        for name in LEARNING
    }


# What lasts becomes usual to an average that follows it: of that model see test_eval_models_statistical.
@pytest.mark.parametrize("name", [name for name in LEARNING if name != "ewma"])
def test_separable_windows_are_told_apart(learned, name):
    unseen, model = apart(seed=1), learned[name]
    said = model.predict(unseen.x, unseen.devices)
    truth = np.where(unseen.y == NORMAL, NORMAL, ANOMALOUS) if model.binary else unseen.y
    right = np.mean([np.mean(said[truth == label] == label) for label in set(truth)])
    assert right > 0.9


@pytest.mark.parametrize("name", NUMERIC)
def test_probabilities_are_some(learned, name):
    given = apart(seed=1, n=120)
    model = learned.get(name) or make_model(name).fit(given.x, given.y)
    probabilities = model.predict_proba(given.x, given.devices)
    assert probabilities.shape == (len(given.x), len(model.classes_))
    assert probabilities.dtype == np.float32
    assert (probabilities >= 0).all()
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(len(given.x)), abs=1e-5)
    assert model.predict_proba(given.x[:0]).shape == (0, len(model.classes_))
    assert model.invalid == 0
    assert model.size_bytes >= 0


@pytest.mark.parametrize("name", SEVERAL)
def test_a_label_that_training_lacks_has_no_column(learned, name):
    given = apart(seed=0)
    assert learned[name].classes_.tolist() == [label for label in LABELS if label in set(given.y)]
    without = given.take(given.y != "recon")
    model = make_model(name, 0, quick=True).fit(without.x, without.y, without.devices)
    assert "recon" not in model.classes_
    assert model.predict_proba(given.x).shape[1] == len(model.classes_)


@pytest.mark.parametrize("name", BINARY)
def test_a_binary_model_says_so(learned, name):
    given = apart(seed=0, n=60)
    model = learned.get(name) or make_model(name).fit(given.x, given.y)
    assert model.classes_.tolist() == [NORMAL, ANOMALOUS]
    assert set(model.predict(given.x)) <= {NORMAL, ANOMALOUS}


@pytest.mark.parametrize("name", SEVERAL)
def test_one_label_alone_is_all_there_is(name):
    given = apart(seed=0, n=40)
    labels = np.full(len(given.x), "recon", dtype=object)
    model = make_model(name, 0, quick=True).fit(given.x, labels)
    assert (model.predict_proba(given.x) == 1).all()
    assert set(model.predict(given.x)) == {"recon"}


@pytest.mark.parametrize("name", LEARNING)
def test_a_seed_is_a_model(learned, name):
    given = apart(seed=0)
    again = clone(learned[name]).fit(given.x, given.y, given.devices, given.groups)
    assert again.get_params() == make_model(name, 0, quick=True).get_params()
    asked = apart(seed=1, n=120)
    both = [model.predict_proba(asked.x, asked.devices) for model in (again, learned[name])]
    assert (both[0] == both[1]).all()


@pytest.mark.parametrize("name", ["ewma", "reconstruction", "xgboost"])
def test_the_order_of_devices_says_nothing(learned, name):
    given = apart(seed=1, n=240)
    order = np.argsort(-given.devices, kind="stable")  # the last device first
    straight = learned[name].predict_proba(given.x, given.devices)
    turned = learned[name].predict_proba(given.x[order], 1000 - given.devices[order])
    assert turned == pytest.approx(straight[order], abs=1e-5)


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("shuffled", [False, True])
def test_labels_that_windows_do_not_tell_are_guessed_at(name, shuffled):
    given, unseen = apart(seed=0, marked=False), apart(seed=1, marked=False)
    labels = np.random.default_rng(3).permutation(given.y) if shuffled else given.y
    model = make_model(name, 0, quick=True).fit(given.x, labels, given.devices, given.groups)
    said = model.predict(unseen.x)
    right = np.mean([np.mean(said[unseen.y == label] == label) for label in set(unseen.y)])
    assert 0.25 < right < 0.42  # a third is chance


@pytest.mark.parametrize("name", LEARNING)
def test_constant_windows_are_all_alike(name):
    given = apart(seed=0, n=150)
    same = np.ones_like(given.x)
    model = make_model(name, 0, quick=True).fit(same, given.y, given.devices, given.groups)
    probabilities = model.predict_proba(same, given.devices)
    assert probabilities == pytest.approx(np.repeat(probabilities[:1], len(same), axis=0), abs=1e-6)


@pytest.mark.parametrize("name", [name for name in BINARY if make_model(name).learns])
def test_who_learns_what_is_normal_needs_some(name):
    given = apart(seed=0, n=60)
    with pytest.raises(UserError, match="0 of 60 windows to learn from are normal"):
        make_model(name, 0, quick=True).fit(given.x, np.full(60, "dos", dtype=object))


def test_parameters_are_those_of_scikit_learn():
    model = make_model("lstm", 3)
    assert model.get_params() == {"network": "lstm", "seed": 3, "quick": False}
    copy = clone(model).set_params(seed=4)
    assert (copy.seed, model.seed) == (4, 3)


def test_features_that_are_none_are_named():
    given = apart(seed=0, n=30)
    given.x[7, 2, FEATURES.index("resets")] = np.nan
    with pytest.raises(UserError, match="resets is nan in window 7, sample 2"):
        make_model("knn").fit(given.x, given.y)


def test_labels_that_are_none_are_named():
    given = apart(seed=0, n=30)
    with pytest.raises(UserError, match="no label is called botnet, worm"):
        make_model("knn").fit(given.x, np.array(["worm", "botnet"] * 15, dtype=object))
    with pytest.raises(UserError, match="30 windows and 29 labels"):
        make_model("knn").fit(given.x, given.y[:29])


def test_a_model_that_is_none_is_named(tmp_path):
    with pytest.raises(
        UserError, match=r"no model is called svm; expected one of rules, .*llm:FOLDER"
    ):
        make_model("svm")
    with pytest.raises(UserError, match="no model folder"):
        make_model(f"llm:{tmp_path / 'nowhere'}")
    with pytest.raises(UserError, match=r"has no config\.json"):
        make_model(f"llm:{tmp_path}")
