"""The ceiling is measured on what was never trained on, and sinks to chance when the labels are shuffled."""

from dataclasses import replace

import numpy as np
import pytest

from eval.ceiling import evaluate_ceiling, thin
from traffic.datasets import simulate_labelled
from traffic.labels import NORMAL


@pytest.fixture(scope="module")
def plants():
    scenarios = ["dos", "spoofing", "unauthorized_command"]
    return [thin(simulate_labelled(seed, 6, 0.3, scenarios), 60, 120) for seed in range(50, 58)]


def test_clear_cases_are_told_from_the_text_alone(plants):
    assert evaluate_ceiling(plants[:6], plants[6:], rounds=12).binary_f1 > 0.8


def test_shuffled_labels_teach_nothing(plants):
    rng = np.random.default_rng(0)

    def shuffled(one):
        table = one.windows.table.assign(label=rng.permutation(one.windows.table["label"].to_numpy()))
        return replace(one, windows=replace(one.windows, table=table))

    honest = evaluate_ceiling(plants[:6], plants[6:], rounds=12).macro_f1
    assert evaluate_ceiling([shuffled(one) for one in plants[:6]], plants[6:], rounds=12).macro_f1 < honest / 2


def test_thin_draws_at_most_so_many_of_each(plants):
    thinned = thin(plants[0], 5, 7)
    counts = thinned.windows.table["label"].value_counts()
    assert counts[NORMAL] == 7
    assert counts.drop(NORMAL).max() <= 5
