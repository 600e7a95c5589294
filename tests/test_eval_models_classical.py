"""Classical models: how classes are balanced, how XGBoost is set, and that the text's ceiling sees
no more than it."""

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from windows_to_learn import apart

from eval.models.classical import SETTINGS, Boosting, balance
from eval.models.classifier import TrainingInput, split_inner
from eval.models.features import FEATURES, scale_counts, summarise


def test_balancing_by_hand():
    codes = np.array([0] * 8 + [1] * 3 + [2])
    places = balance(codes, seed=0)
    assert np.bincount(codes[places]).tolist() == [4, 4, 4]
    assert len(set(places[codes[places] == 0])) == 4  # a frequent class: none twice
    assert places[codes[places] == 2].tolist() == [11] * 4


@drawn(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 5))
def test_every_class_is_drawn_as_often(codes, seed):
    codes = np.array(codes)
    counts = np.bincount(codes[balance(codes, seed)])
    assert set(counts[counts > 0]) == {len(codes) // len(set(codes.tolist())) or 1}
    assert set(np.flatnonzero(counts)) == set(codes.tolist())


def test_summaries_by_hand():
    x = np.zeros((1, 6, 2), np.float32)
    x[0, :, 0] = [0, 0, 0, 6, 0, 0]
    # mean, highest, and sqrt(36 / 6 - 1), of each feature
    assert summarise(x)[0] == pytest.approx([1.0, 0.0, 6.0, 0.0, np.sqrt(5), 0.0])
    counts = np.array([0.0, np.e - 1, 1 - np.e])
    assert scale_counts(counts) == pytest.approx([0.0, 1.0, -1.0])


def test_what_is_held_out_shares_no_capture_or_device_with_what_is_learned():
    x = np.zeros((60, 6, 1), np.float32)
    one = np.zeros(60, int)
    devices, groups = np.arange(60) // 10, np.arange(60) // 20
    learned, held = split_inner(TrainingInput(x, one, devices, groups), seed=0)
    assert not set(groups[learned]) & set(groups[held])
    learned, held = split_inner(TrainingInput(x, one, devices, one), seed=0)
    assert not set(devices[learned]) & set(devices[held])
    learned, held = split_inner(TrainingInput(x, one, one), seed=0)
    assert sorted([*learned, *held]) == list(range(60))


def test_a_setting_is_chosen_and_the_model_has_seen_everything_after():
    given = apart(seed=0)
    alone = (given.groups == 1) & (given.y == "dos")  # in one capture only
    rare = np.where(alone, "ddos", given.y).astype(object)
    model = Boosting(seed=2).fit(given.x, rare, given.devices, given.groups)
    assert model.setting_ in SETTINGS
    assert (model.predict(given.x[rare == "ddos"]) == "ddos").mean() > 0.6


def test_the_ceiling_of_the_text_sees_levels_only():
    given = apart(seed=0)
    model = Boosting(text=True, quick=True).fit(given.x, given.y, given.devices)
    near = given.x.copy()
    near[:, :, FEATURES.index("out_bytes")] = 1000.0
    finer = near.copy()
    # 2 log2(1001) = 19.93, 2 log2(1004) = 19.94: the same level
    finer[:, :, FEATURES.index("out_bytes")] = 1003.0
    assert (model.predict_proba(near) == model.predict_proba(finer)).all()
    assert (model.predict(given.x) == given.y).mean() > 0.95
