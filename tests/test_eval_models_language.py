"""Language models among the others: the text is the very same, the answers are those of serving."""

import shutil

import numpy as np
import pytest
import tiny_models
from windows_to_learn import apart

from assistant.detection.classify import classify
from assistant.llm.adapters import POCKET, Bounds, load_adapter, read_card, write_card
from eval.models.features import FEATURES, make_features
from eval.models.registry import make_model
from prompts.window_text import make_levels, text_columns
from traffic.datasets import simulate_labelled
from traffic.errors import UserError
from traffic.labels import LABELS, NORMAL

BASE = read_card(POCKET).find_base(POCKET)


@pytest.fixture(scope="module")
def windows():
    """Windows of a simulated plant, some with slots in which nothing was seen."""
    return simulate_labelled(11, 6, 0.3, ["c2", "recon", "device_silent", "packet_loss"]).windows


@pytest.fixture(scope="module")
def few(windows):
    """A handful of them, of every label."""
    places = windows.table.reset_index().groupby("label")["index"].head(4).to_numpy()
    return windows.take(places)


@pytest.fixture(scope="module")
def pocket(few):
    return make_model("pocket").fit(make_features(few), few.table["label"].to_numpy(object))


def test_the_levels_of_features_are_those_of_the_windows(windows):
    assert (windows.rows == -1).any()
    assert (text_columns(make_features(windows), FEATURES) == make_levels(windows)).all(axis=None)


def test_the_pocket_model_says_what_serving_says(few, pocket):
    llm, card = load_adapter()
    served = classify(few, llm, card)
    probabilities = pocket.predict_proba(make_features(few), few.table["device"].to_numpy())
    expected = served[[f"p_{label}" for label in LABELS]].to_numpy()
    assert probabilities == pytest.approx(expected, abs=1e-5)
    assert pocket.decide(probabilities).tolist() == served["label"].tolist()
    assert len(set(served["label"])) > 2


def test_the_card_says_from_where_on_a_window_is_odd(pocket):
    rows = np.zeros((2, len(LABELS)), np.float32)
    alarm = read_card(POCKET).threshold
    rows[:, LABELS.index("recon")] = [alarm - 0.005, alarm + 0.005]
    rows[:, LABELS.index(NORMAL)] = 1 - rows.sum(axis=1)
    assert pocket.decide(rows).tolist() == [NORMAL, "recon"]
    assert not pocket.abstains(rows).any()  # without a name it is an alarm all the same


def test_an_answer_that_is_no_number_is_invalid_and_no_class(few, pocket):
    probabilities = pocket.predict_proba(make_features(few))
    probabilities[2] = np.nan
    said = pocket.decide(probabilities)
    assert said[2] == "[invalid]"
    assert "[invalid]" not in said[[0, 1, 3]]


def test_answers_that_are_no_numbers_are_counted(few, tmp_path):
    """A model whose last layer holds no numbers says none: nothing is invented for it."""
    from safetensors.torch import load_file, save_file

    folder = tiny_models.build_model(tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][:] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    x = make_features(few)
    model = make_model(f"llm:{folder}").fit(x, few.table["label"].to_numpy(object))
    assert np.isnan(model.predict_proba(x)).all()
    assert model.invalid == len(x)
    assert set(model.predict(x)) == {"[invalid]"}


def test_the_card_gives_the_temperature_and_the_captures_seen_before(pocket):
    card = read_card(POCKET)
    assert (pocket.bounds_, pocket.learns) == (card.bounds, False)
    assert set(card.data) < set(pocket.trained_on)
    assert set(card.split["calibrate"]) < set(pocket.trained_on)
    assert not set(card.split["test"]) & set(pocket.trained_on)
    assert make_model("zero-shot").trained_on == pocket.trained_on
    assert make_model(f"llm:{BASE}").trained_on == pocket.trained_on


def test_a_base_by_its_path_is_asked_as_it_is(few, tmp_path):
    folder = tiny_models.build_model(tmp_path / "base", chat=True, max_position_embeddings=8192)
    x = make_features(few)
    model = make_model(f"llm:{folder}").fit(x, few.table["label"].to_numpy(object))
    probabilities = model.predict_proba(x)
    assert model.classes_.tolist() == list(LABELS)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(len(x)), abs=1e-5)
    assert (model.trained_on, model.bounds_, model.learns) == ((), Bounds(), False)
    assert model.size_bytes == (folder / "model.safetensors").stat().st_size


def test_the_shipped_base_alone_and_by_its_path_are_one(few):
    x, y = make_features(few), few.table["label"].to_numpy(object)
    both = [make_model(name).fit(x, y).predict_proba(x) for name in ("zero-shot", f"llm:{BASE}")]
    assert (both[0] == both[1]).all()


def test_an_adapter_by_its_path_brings_its_base_and_its_card(few, pocket):
    x, y = make_features(few), few.table["label"].to_numpy(object)
    model = make_model(f"llm:{POCKET}").fit(x, y)
    assert (model.predict_proba(x) == pocket.predict_proba(x)).all()
    assert model.size_bytes == pocket.size_bytes > make_model("zero-shot").size_bytes


def test_a_model_that_was_tuned_whole_brings_its_card(few, tmp_path):
    """As `faultwise finetune transfer` leaves it: weights in ``base``, and no adapter beside."""
    shutil.copytree(BASE, tmp_path / "base")
    card = read_card(POCKET).model_copy(
        update={"base": "base", "temperature": 1.0, "prior_shift": 0.0}
    )
    write_card(card, tmp_path)
    x, y = make_features(few), few.table["label"].to_numpy(object)
    whole, bare = (make_model(name).fit(x, y) for name in (f"llm:{tmp_path}", "zero-shot"))
    assert (whole.predict_proba(x) == bare.predict_proba(x)).all()
    assert (whole.bounds_, whole.size_bytes) == (card.bounds, bare.size_bytes)
    assert set(card.data) < set(whole.trained_on)


def test_an_adapter_without_a_card_is_named(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="is an adapter without a card"):
        make_model(f"llm:{tmp_path}")


def test_few_features_of_a_plant_are_read_as_well():
    given = apart(seed=0, n=12)
    said = make_model("pocket").fit(given.x, given.y).predict(given.x)
    assert set(said) <= set(LABELS)
