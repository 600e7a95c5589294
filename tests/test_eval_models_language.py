"""Language models among the others: the text is the very same, the answers are those of serving."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny_models
from windows_to_learn import apart

from assistant.detection.classify import classify
from assistant.llm.adapters import POCKET, load_adapter, read_card
from eval.models.features import make_features, restore_windows
from eval.models.registry import make_model
from prompts.window_text import render_windows, text_columns
from traffic.datasets import simulate_labelled
from traffic.errors import UserError
from traffic.labels import LABELS, NORMAL

BASE = (POCKET / read_card(POCKET).base).resolve()


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


def test_the_text_of_features_is_the_text_of_the_windows(windows):
    assert (windows.rows == -1).any()
    restored = restore_windows(make_features(windows))
    assert render_windows(restored) == render_windows(windows)
    pd.testing.assert_frame_equal(text_columns(restored), text_columns(windows))


def test_windows_without_a_single_sample_in_a_slot_read_alike(windows):
    one = windows.take(np.arange(1))
    gone = replace(one, rows=np.where(np.arange(6) < 3, -1, one.rows))
    assert render_windows(restore_windows(make_features(gone))) == render_windows(gone)


def test_the_pocket_model_says_what_serving_says(few, pocket):
    llm, card = load_adapter()
    served = classify(few, llm, card)
    probabilities = pocket.predict_proba(make_features(few))
    expected = served[[f"p_{label}" for label in LABELS]].to_numpy()
    assert probabilities == pytest.approx(expected, abs=1e-5)
    assert pocket.decide(probabilities).tolist() == served["label"].tolist()
    assert pocket.abstains(probabilities).tolist() == served["abstained"].tolist()
    assert len(set(served["label"])) > 2


def test_normal_from_a_half_on_else_the_likeliest_anomaly(pocket):
    rows = np.zeros((3, len(LABELS)), np.float32)
    rows[:, LABELS.index(NORMAL)] = [0.5, 0.45, 0.98]
    rows[:, LABELS.index("dos")] = [0.3, 0.3, 0.02]
    rows[:, LABELS.index("recon")] = [0.2, 0.25, 0.0]
    # normal is the likeliest of the second too
    assert pocket.decide(rows).tolist() == [NORMAL, "dos", NORMAL]
    assert pocket.abstains(rows).tolist() == [False, True, False]


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
    assert (pocket.temperature_, pocket.learns) == (card.temperature, False)
    assert set(card.data) < set(pocket.trained_on)
    assert set(card.split["calibrate"]) < set(pocket.trained_on)
    assert not set(card.split["test"]) & set(pocket.trained_on)
    assert make_model("zero-shot").trained_on == pocket.trained_on
    assert make_model(f"llm:{BASE}").trained_on == pocket.trained_on


def test_a_base_by_its_path_is_asked_as_it_is(few, tmp_path):
    folder = tiny_models.build_model(tmp_path / "base", chat=True)
    x = make_features(few)
    model = make_model(f"llm:{folder}").fit(x, few.table["label"].to_numpy(object))
    probabilities = model.predict_proba(x)
    assert model.classes_.tolist() == list(LABELS)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(len(x)), abs=1e-5)
    assert not model.abstains(probabilities)[probabilities.max(axis=1) > 0.99].any()
    assert (model.trained_on, model.temperature_, model.learns) == ((), 1.0, False)
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


def test_an_adapter_without_a_card_is_named(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="is an adapter without a card"):
        make_model(f"llm:{tmp_path}")


def test_few_features_of_a_plant_are_read_as_well():
    given = apart(seed=0, n=12)
    said = make_model("pocket").fit(given.x, given.y).predict(given.x)
    assert set(said) <= set(LABELS)
