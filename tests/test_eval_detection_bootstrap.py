"""Intervals cover a known truth, and only if they draw devices; tests call a difference where there
is one."""

import math

import numpy as np
import pytest

from eval.detection.bootstrap import draw_weights, find_interval, find_p_value, resample_median

TRIALS, DEVICES, WINDOWS, TRUTH = 400, 40, 60, 0.3


@pytest.fixture(scope="module")
def trials():
    """Shares of wrong windows of 40 devices, 400 times over; a device is nearly always right or
    nearly always wrong."""
    rng = np.random.default_rng(5)
    per_device = rng.beta(0.3, 0.7, (TRIALS, DEVICES))  # mean 0.3
    return rng.binomial(WINDOWS, per_device) / WINDOWS, rng


def covered(values, weights):
    means = values @ weights.T / weights.sum(axis=1)
    return np.mean([low <= TRUTH <= high for low, high in map(find_interval, means)])


def test_an_interval_over_devices_covers_the_truth(trials):
    shares, rng = trials
    assert 0.90 <= covered(shares, draw_weights(DEVICES, 400, rng)) <= 0.98


def test_an_interval_over_windows_would_not(trials):
    """What the harness does not do, to show that the test above can fail."""
    shares, _rng = trials
    spread = np.sqrt(shares.mean(axis=1) * (1 - shares.mean(axis=1)) / (DEVICES * WINDOWS))
    assert np.mean(np.abs(shares.mean(axis=1) - TRUTH) <= 1.96 * spread) < 0.5


def test_a_median_covers_the_truth():
    rng = np.random.default_rng(2)
    truth = math.log(2)  # median of the exponential distribution with mean 1
    draws = [resample_median(rng.exponential(size=60), 400, rng) for _ in range(300)]
    assert (
        0.88 <= np.mean([low <= truth <= high for low, high in map(find_interval, draws)]) <= 0.99
    )


def test_every_resample_has_as_many_units():
    weights = draw_weights(7, 50, np.random.default_rng(0))
    assert weights.shape == (50, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert draw_weights(0, 3, np.random.default_rng(0)).shape == (3, 0)


def test_what_cannot_be_measured_is_left_out():
    assert find_interval(np.array([1.0, np.nan, 1.0])) == (1.0, 1.0)
    assert np.isnan(find_interval(np.array([np.nan]))).all()
    assert math.isnan(find_p_value(np.empty(0)))
    assert np.isnan(resample_median(np.empty(0), 4, np.random.default_rng(0))).all()


def test_p_values():
    assert find_p_value(np.full(999, 0.2)) == pytest.approx(2 / 1000)
    assert find_p_value(np.zeros(999)) == 1.0


def test_under_no_difference_a_twentieth_is_called_different():
    rng = np.random.default_rng(3)
    weights = draw_weights(40, 400, rng)
    differences = rng.normal(size=(400, 40)) @ weights.T / 40
    called = np.mean([find_p_value(row) < 0.05 for row in differences])
    assert called == pytest.approx(0.05, abs=0.035)
