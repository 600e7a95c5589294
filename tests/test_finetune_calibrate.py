"""Temperature and threshold on scores whose best values are known."""

import numpy as np
import pandas as pd
import pytest

from assistant.detection.classify import make_probabilities
from assistant.llm.calibration import calibration_error
from finetune.calibrate import Calibration, calibrate, draw_texts, measure_texts
from traffic.errors import UserError
from traffic.labels import LABELS


def two_class(
    share: float, n: int = 1000, right: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """``n`` windows all said to be class 1 with probability ``share``; ``right`` of them are."""
    truth = (np.arange(n) < round(n * (share if right is None else right))).astype(int)
    return np.log(np.tile([1 - share, share], (n, 1))), truth


def test_honest_scores_need_no_temperature():
    scores, truth = two_class(0.8)
    assert calibrate(scores, truth, np.ones(1000)).temperature == pytest.approx(1, abs=0.02)


def test_scores_that_are_too_sure_are_cooled_to_what_is_true():
    scores, truth = two_class(0.99, right=0.75)
    found = calibrate(scores, truth, np.ones(1000))
    # log(0.75 / 0.25) = log(0.99 / 0.01) / T
    assert found.temperature == pytest.approx(np.log(99) / np.log(3), rel=0.02)
    assert found.calibration_error < 0.01


def test_weights_count_as_that_many_windows():
    scores, truth = two_class(0.99, n=4, right=0.75)
    twice = calibrate(scores, truth, np.array([250.0] * 4))
    assert twice.temperature == pytest.approx(np.log(99) / np.log(3), rel=0.02)


def test_the_threshold_is_the_smallest_that_bounds_wrong_alarms():
    # 90 right alarms at 0.9; of 100 at 0.6, 55 are right: at temperature 1 both are nearly honest.
    sure, unsure = np.log([[0.1, 0.9]] * 100), np.log([[0.4, 0.6]] * 100)
    truth = np.r_[np.ones(90), np.zeros(10), np.ones(60), np.zeros(40)].astype(int)
    found = calibrate(np.r_[sure, unsure], truth, np.ones(200), max_wrong=0.1)
    assert found.temperature == pytest.approx(1, abs=0.02)
    assert 0.59 < found.threshold < 0.63
    assert found.wrong_share == pytest.approx(10 / 200)
    assert found.abstained_share == pytest.approx(0.5)


def test_a_quieter_life_shifts_towards_normal_by_bayes_rule():
    """Of windows said to be 0.8 anomalous, in a set that is half so, one in nineteen as many leave
    4 : 19."""
    scores = np.log(np.r_[[[0.2, 0.8]] * 100, [[0.8, 0.2]] * 100])
    truth = np.r_[np.ones(80), np.zeros(20), np.ones(20), np.zeros(80)].astype(int)
    found = calibrate(scores, truth, np.ones(200), anomalous_share=0.05)
    assert found.prior_shift == pytest.approx(np.log(19))
    assert (found.wrong_share, found.abstained_share) == (0.0, 0.0)  # 4 / 23 is no alarm
    shifted = make_probabilities(np.log([[0.2, 0.8, *[1e-30] * 15]]), 1.0, found.prior_shift)
    assert shifted[0, :2] == pytest.approx([19 / 23, 4 / 23], abs=1e-4)
    assert calibrate(scores, truth, np.ones(200)).prior_shift == 0.0


def test_wrong_normals_are_no_alarms():
    scores, truth = np.log([[0.9, 0.1]] * 10), np.array([0] * 9 + [1])
    found = calibrate(scores, truth, np.ones(10), normal=0, max_wrong=0.0)
    assert (found.wrong_share, found.threshold) == (0.0, 0.3)


def test_nothing_to_calibrate_on_is_refused():
    with pytest.raises(UserError, match="no held-out windows"):
        calibrate(np.empty((0, 2)), np.empty(0, int), np.empty(0))


def test_the_calibration_error_of_bins_by_hand():
    top, right = np.array([0.95, 0.95, 0.55, 0.55]), np.array([True, True, True, False])
    assert calibration_error(top, right, np.full(4, 0.25)) == pytest.approx(0.5 * 0.05 + 0.5 * 0.05)


def test_measures_count_every_text_as_often_as_it_occurred():
    labels, weights = ["normal", "normal", "dos", "dos"], [8, 2, 3, 1]
    texts = pd.DataFrame({"text": list("abcd"), "label": labels, "weight": weights, "capture": "x"})
    said = ["normal", "dos", "dos", "normal"]
    scores = np.full((4, len(LABELS)), np.log(0.01))
    for row, label in enumerate(said):
        scores[row, LABELS.index(label)] = np.log(0.84)
    measures = measure_texts(texts, scores, Calibration(1.0, 0.0, 0.5, 0, 0, 0, 0))
    assert measures["windows"] == 14
    assert measures["false_share"] == pytest.approx(0.2)
    assert measures["recall"] == pytest.approx(0.75)
    # F1 of normal: 2 * 8 / (9 + 10); of dos: 2 * 3 / (5 + 4)
    assert measures["macro_f1"] == pytest.approx((16 / 19 + 6 / 9) / 2, abs=1e-4)
    assert measures["abstained_share"] == 0


def test_a_draw_takes_so_many_of_each_capture():
    captures = ["a"] * 10 + ["b"] * 2
    texts = pd.DataFrame({"text": [str(i) for i in range(12)], "capture": captures})
    texts = texts.assign(label="dos", weight=1)
    drawn = draw_texts(texts, 4, seed=1)
    assert drawn["capture"].value_counts().to_dict() == {"a": 4, "b": 2}
