"""Window facts against a slow computation by their definition, and that they look back only."""

import numpy as np
import pandas as pd
import pytest

from traffic.datasets import simulate_labelled
from traffic.samples import COLUMNS
from traffic.window_facts import CANDIDATES, lay_out, make_window_facts, summarise_rows
from traffic.windows import make_windows


@pytest.fixture(scope="module")
def windows():
    return simulate_labelled(11, 6, 0.3, ["c2", "device_silent", "packet_loss"]).windows


def scaled(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.log1p(np.abs(values))


def by_definition(samples: pd.DataFrame, device: str, start_s: float, column: str) -> dict:
    mine = samples[samples["device"] == device].set_index("start_s")[column].astype(float)
    six = mine.reindex([start_s + 10 * place for place in range(6)]).fillna(0).to_numpy()
    before = mine[(mine.index >= start_s - 240) & (mine.index < start_s)].to_numpy()
    past = mine[mine.index < start_s].to_numpy()
    excess = scaled(six).mean() - scaled(past).mean() if len(past) >= 6 else 0.0
    return {
        "mean": six.mean(),
        "max": six.max(),
        "spread": six.std(),
        "before": scaled(before).sum() / 24,
        "before_max": scaled(before).max() if len(before) else 0.0,
        "over": max(excess, 0.0),
        "under": max(-excess, 0.0),
    }


def test_facts_are_what_they_are_defined_as(windows):
    facts = pd.DataFrame(make_window_facts(windows), columns=list(CANDIDATES))
    rng = np.random.default_rng(3)
    for row in rng.integers(0, len(windows), 60):
        place, column = windows.table.iloc[row], str(rng.choice(COLUMNS))
        expected = by_definition(windows.samples, place["device"], place["start_s"], column)
        for statistic, value in expected.items():
            got = facts.at[row, f"{column}.{statistic}"]
            assert got == pytest.approx(value, rel=1e-4, abs=2e-4), (column, statistic)


def test_facts_of_laid_out_windows_are_those_of_the_windows(windows):
    names = CANDIDATES[::7]
    same = summarise_rows(lay_out(windows), COLUMNS, names)
    np.testing.assert_array_equal(same, make_window_facts(windows, names))


def test_what_comes_later_changes_nothing(windows):
    samples = windows.samples
    middle = samples["start_s"].median()
    earlier = make_windows(samples[samples["start_s"] < middle].reset_index(drop=True))
    key = ["device", "start_s"]
    ends = (windows.table["end_s"] <= middle).to_numpy()
    whole = windows.table[ends].reset_index().merge(earlier.table.reset_index(), on=key)
    assert len(whole) > 100
    now, then = make_window_facts(windows), make_window_facts(earlier)
    np.testing.assert_array_equal(now[whole["index_x"]], then[whole["index_y"]])


def test_one_sample_has_no_past():
    one = simulate_labelled(11, 1, 0.1).windows.take(np.arange(1))
    facts = pd.DataFrame(make_window_facts(one), columns=list(CANDIDATES))
    past = [name for name in CANDIDATES if name.split(".")[1] in ("over", "under")]
    assert (facts[past] == 0).all(axis=None)
