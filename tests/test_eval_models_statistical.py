"""Statistics by hand: the average that follows, its z-scores, and how a score becomes a
probability."""

import numpy as np
import pytest

from eval.models.features import FEATURES
from eval.models.registry import make_model
from eval.models.statistical import Threshold, score_ewma, set_threshold
from traffic.labels import NORMAL


def newest(*values: float) -> np.ndarray:
    """Windows of one feature whose newest samples are these; the five before are like the first."""
    x = np.full((len(values), 6, 1), values[0], np.float32)
    x[:, -1, 0] = values
    return x


def test_scores_by_hand():
    scores = score_ewma(newest(0.0, 1.0, 0.0), np.zeros(3, int), alpha=0.5, floor=np.ones(1))
    # before window 1: mean 0, variance 0          -> z = 1 / sqrt(0 + 1)
    # after it: mean 0.5, variance 0.5 * 0.5^2     -> z = 0.5 / sqrt(0.125 + 1) = 0.471, less than
    # the 1 before it
    assert scores == pytest.approx([0.0, 1.0, 1.0])
    later = score_ewma(newest(0.0, 1.0, *[0.0] * 7), np.zeros(9, int), alpha=0.5, floor=np.ones(1))
    assert later[6] == pytest.approx(1.0)  # the jump is in its six newest
    # then the second z is the highest of its six: means 0.5, variance 0.125 as above
    assert later[7] == pytest.approx(0.5 / np.sqrt(1.125))


def test_the_mean_over_features_is_the_score():
    x = np.concatenate([newest(0.0, 1.0), newest(5.0, 5.0)], axis=2)
    assert score_ewma(x, np.zeros(2, int), 0.5, np.ones(2))[1] == pytest.approx(0.5)


def test_a_device_is_compared_with_itself_alone():
    x = newest(3.0, 3.0, 3.0, 3.0)
    x[1::2] = 100.0
    devices = np.array([0, 1, 0, 1])
    assert score_ewma(x, devices, 0.5, np.ones(1)).tolist() == [0.0] * 4
    assert score_ewma(x, np.zeros(4, int), 0.5, np.ones(1))[1] > 10


def test_a_sudden_flood_is_seen_and_what_lasts_becomes_usual():
    rng = np.random.default_rng(0)
    x = np.zeros((400, 6, len(FEATURES)), np.float32)
    x[:, :, FEATURES.index("in_pkts")] = rng.poisson(20, (400, 6))
    model = make_model("ewma").fit(x[:200], np.full(200, NORMAL, dtype=object))
    flooded = ("in_pkts", "tcp_in", "unanswered_in", "resets")
    x[250:, -1, [FEATURES.index(name) for name in flooded]] += 5000
    anomalous = model.predict_proba(x[200:])[:, 1]
    assert anomalous[:50].max() < 0.9
    assert (anomalous[50:56] > 0.99).all()
    assert (anomalous[150:] < 0.5).all()


def test_probabilities_by_hand():
    threshold = Threshold(value=4.0, scale=2.0)
    anomalous = threshold.probabilities(np.array([2.0, 4.0, 6.0, 1e9]))[:, 1]
    assert anomalous == pytest.approx([1 / (1 + np.exp(3)), 0.5, 1 / (1 + np.exp(-3)), 1.0])


def test_one_normal_window_in_a_hundred_exceeds_the_threshold():
    scores = np.random.default_rng(0).normal(size=10_000)
    threshold = set_threshold(scores)
    assert (threshold.probabilities(scores)[:, 1] > 0.5).mean() == pytest.approx(0.01, abs=1e-3)


def test_what_never_varied_in_training_is_odd_where_it_does():
    rng = np.random.default_rng(0)
    x = np.zeros((300, 6, len(FEATURES)), np.float32)
    x[:, :, FEATURES.index("out_pkts")] = rng.poisson(20, (300, 6))
    model = make_model("isolation-forest").fit(x, np.full(300, NORMAL, dtype=object))
    before = model.predict_proba(x[:50])[:, 1]
    x[:50, :, FEATURES.index("refused_out")] = 30
    assert (model.predict_proba(x[:50])[:, 1] > before).all()
