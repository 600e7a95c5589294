"""Measures by hand, against scikit-learn on random inputs, and against what must hold for any
labelling."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from eval.detection.metrics import (
    ALL_PREDICTED,
    binary_scores,
    calibration_error,
    count_confusion,
    count_levels,
    count_reliability,
    encode,
    label_scores,
    pr_curve,
    precision_area,
    risk_curve,
    risk_scores,
    share_at_recall,
)
from traffic.labels import ATTACKS, LABELS

TRUTH = ["normal", "normal", "normal", "normal", "c2", "c2", "recon", "recon"]
PREDICTED = ["normal", "normal", "normal", "c2", "c2", "normal", "recon", "dos"]
PAIRS = st.lists(
    st.tuples(st.sampled_from(LABELS[:6]), st.sampled_from(LABELS[:6])), min_size=1, max_size=60
)
# Few different scores, so that ties are common.
SCORED = st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=1, max_size=60)


def count(truth, said):
    return count_confusion(encode(truth), encode(said), np.zeros(len(truth), int), 1)[0]


def levels(yes, score):
    return count_levels(np.array(score, float), np.array(yes, bool), np.zeros(len(yes), int), 1)


def scores_of(truth, predicted):
    counts = count(truth, predicted)
    return {**label_scores(counts), **binary_scores(counts, LABELS[1:])}


def test_by_hand():
    scores = scores_of(TRUTH, PREDICTED)
    # F1: normal 2*3/(4+4), c2 2*1/(2+2), recon 2*1/(2+1), dos 0
    assert scores["f1"] == pytest.approx((0.75 + 0.5 + 2 / 3 + 0) / 4)
    assert (scores["false_share"], scores["binary_recall"]) == (0.25, 0.75)


def test_a_wrong_alarm_on_an_anomaly_is_still_an_alarm():
    assert scores_of(TRUTH, [*TRUTH[:4], *["dos"] * 4])["binary_recall"] == 1.0


def test_what_cannot_be_measured_is_nan():
    scores = scores_of(["normal"], ["normal"])
    assert math.isnan(scores["binary_recall"])
    assert scores["false_share"] == 0.0
    assert math.isnan(scores_of([], [])["f1"])


@given(st.lists(st.sampled_from(LABELS), min_size=1, max_size=40))
def test_predicting_the_truth_is_perfect(truth):
    scores = scores_of(truth, truth)
    assert (scores["f1"], scores["binary_macro_f1"]) == (1.0, 1.0)
    assert scores["false_share"] == 0.0 or "normal" not in truth


@given(PAIRS)
def test_labels_score_as_in_scikit_learn(pairs):
    truth, said = zip(*pairs, strict=True)
    scores = label_scores(count(truth, said))
    for name in ("precision", "recall", "f1"):
        theirs = getattr(metrics, f"{name}_score")
        expected = theirs(truth, said, average="macro", zero_division=0.0)
        assert float(scores[name]) == pytest.approx(expected)
    assert float(scores["accuracy"]) == pytest.approx(metrics.accuracy_score(truth, said))
    weighted = metrics.f1_score(truth, said, average="weighted", zero_division=0.0)
    assert float(scores["weighted_f1"]) == pytest.approx(weighted)
    each = metrics.precision_recall_fscore_support(truth, said, labels=LABELS, zero_division=0.0)
    for name, expected in zip(("label_precision", "label_recall", "label_f1"), each, strict=False):
        np.testing.assert_allclose(scores[name], expected)


@given(PAIRS, st.sampled_from([LABELS[1:], ATTACKS]))
def test_alarms_score_as_in_scikit_learn(pairs, alarms):
    truth, said = zip(*pairs, strict=True)
    due, called = np.isin(truth, alarms), np.isin(said, alarms)
    scores = binary_scores(count(truth, said), alarms)
    assert scores["binary_accuracy"] == pytest.approx(metrics.accuracy_score(due, called))
    macro = metrics.f1_score(due, called, average="macro", zero_division=0.0)
    assert scores["binary_macro_f1"] == pytest.approx(macro)
    if due.any():
        for name in ("precision", "recall", "f1"):
            theirs = getattr(metrics, f"{name}_score")(due, called, zero_division=0.0)
            assert scores[f"binary_{name}"] == pytest.approx(theirs)
    if not due.all():
        assert scores["false_share"] == pytest.approx(called[~due].mean())


@given(SCORED)
def test_precision_area_is_scikit_learns_average_precision(scored):
    yes, score = zip(*scored, strict=True)
    area = float(precision_area(levels(yes, score))[0])
    if not any(yes):
        assert math.isnan(area)
    else:
        assert area == pytest.approx(metrics.average_precision_score(yes, score))


@given(SCORED)
def test_the_curve_is_scikit_learns(scored):
    yes, score = zip(*scored, strict=True)
    if any(yes):
        precision, recall, _ = metrics.precision_recall_curve(yes, score)
        curve = pr_curve(levels(yes, score))[:, ::-1]
        np.testing.assert_allclose(curve, [recall[:-1], precision[:-1]])


def test_an_answer_that_cannot_be_read_is_wrong_and_no_class():
    readable = label_scores(count(["normal", "c2"], ["normal", "normal"]))
    invalid = count(["normal", "c2"], ["normal", "[invalid]"])
    scores = label_scores(invalid)
    assert float(scores["accuracy"]) == 0.5
    # normal: precision 1, recall 1; c2: 0 and 0. No third class enters the mean.
    assert (float(scores["precision"]), float(scores["recall"])) == (0.5, 0.5)
    assert float(readable["recall"]) == 0.5
    two = binary_scores(invalid, LABELS[1:])
    assert (float(two["binary_recall"]), float(two["binary_accuracy"])) == (0.0, 0.5)
    unread = binary_scores(count(["normal", "normal"], ["normal", "[invalid]"]), LABELS[1:])
    assert (float(unread["false_share"]), float(unread["binary_accuracy"])) == (0.0, 0.5)


def test_anomalous_is_an_alarm_of_no_label():
    counts = count(["normal", "c2", "dos"], ["normal", "anomalous", "anomalous"])
    assert float(binary_scores(counts, LABELS[1:])["binary_recall"]) == 1.0
    assert float(label_scores(counts)["accuracy"]) == pytest.approx(1 / 3)


@given(PAIRS, st.integers(1, 4))
def test_resampling_every_unit_once_is_the_number_itself(pairs, units):
    truth, said = zip(*pairs, strict=True)
    unit = np.arange(len(truth)) % units
    by_unit = count_confusion(encode(truth), encode(said), unit, units)
    drawn = np.tensordot(np.ones((1, units)), by_unit, axes=1)
    once = label_scores(count(truth, said))["f1"]
    assert float(label_scores(drawn)["f1"][0]) == pytest.approx(float(once))


def test_calibration_by_hand():
    # Two bins: 0.9 twice, once right (gap 0.4); 0.3 once, right (gap 0.7). (2 * 0.4 + 1 * 0.7) / 3
    confidence, right = np.array([0.9, 0.9, 0.3]), np.array([True, False, True])
    reliability = count_reliability(confidence, right, np.zeros(3, int), 1)
    assert float(calibration_error(reliability)[0]) == pytest.approx(0.5)


def test_risk_by_hand():
    # The surest is right, the next wrong, then two right of one confidence.
    counted = levels([True, False, True, True], [0.9, 0.8, 0.5, 0.5])
    scores = risk_scores(counted)
    # Risks at the four windows: 0, 1/2, 1/4, 1/4
    assert float(scores["risk_area"][0]) == pytest.approx(0.25)
    assert float(scores["coverage_at_5_percent"][0]) == pytest.approx(0.25)
    np.testing.assert_allclose(risk_curve(counted), [[0.25, 0.5, 1.0], [0.0, 0.5, 0.25]])


def test_false_share_at_recall_by_hand():
    # Four due; three of them (75 %) are found once 0.4 is the threshold, with two of the four
    # others called too.
    yes = [True, True, False, False, True, True, False, False]
    score = [0.9, 0.8, 0.7, 0.6, 0.4, 0.3, 0.2, 0.1]
    assert float(share_at_recall(levels(yes, score))[0]) == pytest.approx(0.5)
    assert math.isnan(float(share_at_recall(levels([False], [0.5]))[0]))


@given(SCORED, st.integers(2, 6))
def test_joined_thresholds_keep_every_window(scored, most):
    yes, score = zip(*scored, strict=True)
    rows = np.array(score, float), np.array(yes, bool), np.zeros(len(yes), int)
    joined = count_levels(*rows, 1, most)
    assert joined.all.shape[1] <= max(most, len(set(score)) if len(set(score)) <= most else most)
    assert (joined.all.sum(), joined.yes.sum()) == (len(yes), sum(yes))


def test_what_can_be_predicted():
    assert encode([*ALL_PREDICTED, "no label"]).tolist() == [*range(len(ALL_PREDICTED)), -1]
