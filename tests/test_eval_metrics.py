"""Measures by hand, and against what must hold for any labelling."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics import evaluate_labels
from traffic.labels import LABELS

TRUTH = ["normal", "normal", "normal", "normal", "c2", "c2", "recon", "recon"]


def test_by_hand():
    said = ["normal", "normal", "normal", "c2", "c2", "normal", "recon", "dos"]
    scores = evaluate_labels(np.array(TRUTH), np.array(said))
    # F1: normal 2*3/(4+4), c2 2*1/(2+2), recon 2*1/(2+1), dos 0
    assert math.isclose(scores.macro_f1, (0.75 + 0.5 + 2 / 3 + 0) / 4)
    assert (scores.false_share, scores.recall, scores.windows) == (0.25, 0.75, 8)


def test_a_wrong_alarm_on_an_anomaly_is_still_an_alarm():
    assert evaluate_labels(np.array(TRUTH), np.array([*TRUTH[:4], *["dos"] * 4])).recall == 1.0


def test_what_cannot_be_measured_is_nan():
    scores = evaluate_labels(np.array(["normal"]), np.array(["normal"]))
    assert math.isnan(scores.recall)
    assert scores.false_share == 0.0


@given(st.lists(st.sampled_from(LABELS), min_size=1, max_size=40))
def test_saying_the_truth_is_perfect(truth):
    scores = evaluate_labels(np.array(truth), np.array(truth))
    assert (scores.macro_f1, scores.binary_f1) == (1.0, 1.0)
    assert scores.false_share in (0.0,) or math.isnan(scores.false_share)


@given(st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=40), st.randoms())
def test_order_changes_nothing(pairs, random):
    before = evaluate_labels(*np.array(pairs, dtype=object).T)
    random.shuffle(pairs)
    after = evaluate_labels(*np.array(pairs, dtype=object).T)
    np.testing.assert_allclose(list(before.to_dict().values()), list(after.to_dict().values()))
