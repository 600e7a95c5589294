"""A site's windows against its quiet time: what is noticed, since when, and how often for nothing."""

import numpy as np
import pandas as pd
import pytest

from assistant.detection.drift import (
    BOUND,
    bet,
    find_drift,
    rank_minutes,
    read_usual,
    render_drift,
    write_usual,
)
from traffic.errors import UserError

START_S = 1_700_000_040.0  # a whole minute


def verdicts(odd: dict[str, np.ndarray]) -> pd.DataFrame:
    """Windows of devices that start every ten seconds; each minute has the value given for it."""
    tables = [
        pd.DataFrame(
            {
                "device": device,
                "start_s": START_S + 10.0 * np.arange(6 * len(values)),
                "p_normal": 1 - np.repeat(values, 6),
            }
        )
        for device, values in odd.items()
    ]
    return pd.concat(tables, ignore_index=True)


def trace(usual: list[float] | np.ndarray, minutes: np.ndarray) -> np.ndarray:
    return bet(rank_minutes(usual, minutes))


def quiet(seed: int, minutes: int) -> np.ndarray:
    return np.random.default_rng(seed).beta(1, 40, minutes)


def test_a_device_that_looks_odd_from_some_minute_on_is_noticed_and_named():
    calm, new = quiet(1, 90), quiet(2, 90)
    new[40:] += 0.4
    found = find_drift(verdicts({"10.0.0.7": new, "10.0.0.8": quiet(3, 90)}), quiet(4, 60))
    assert found is not None
    assert abs(found.since_s - (START_S + 40 * 60)) <= 5 * 60
    assert found.since_s <= found.noticed_s <= START_S + 75 * 60
    assert found.devices[0] == "10.0.0.7"
    assert found.now > 5 * found.usual
    said = render_drift(found, ["hub-1"])
    assert "most of it hub-1" in said
    assert "UTC the windows of this site look unlike its quiet time" in said
    assert find_drift(verdicts({"10.0.0.7": calm}), quiet(4, 60)) is None


def test_minutes_like_those_of_the_quiet_time_reach_the_bound_as_rarely_as_promised():
    """Ville's inequality: of 300 sites at most 0.3 in the mean; three would be one in 300 chances."""
    false = sum(trace(quiet(n, 60), quiet(1000 + n, 120)).max() >= BOUND for n in range(300))
    assert false <= 2


def test_ties_are_no_drift_and_a_calmer_plant_needs_no_new_bounds():
    assert trace([0.01] * 60, np.full(200, 0.01)).max() < BOUND
    assert trace(quiet(1, 60), np.zeros(300)).max() < BOUND


def test_without_enough_to_compare_with_nothing_is_said():
    new = verdicts({"10.0.0.7": np.full(60, 0.9)})
    assert find_drift(new, quiet(1, 19)) is None
    assert find_drift(new.iloc[:0], quiet(1, 60)) is None
    assert find_drift(new, quiet(1, 20)) is not None


def test_what_is_usual_is_kept_without_addresses_and_a_few_minutes_are_not(tmp_path):
    write_usual(verdicts({"10.0.0.7": np.full(19, 0.2)}), tmp_path)
    assert read_usual(tmp_path) == ()
    write_usual(verdicts({"10.0.0.7": np.full(20, 0.2), "10.0.0.8": np.full(20, 0.4)}), tmp_path)
    assert read_usual(tmp_path) == pytest.approx([0.3] * 20)
    assert "10.0" not in (tmp_path / "usual.json").read_text()
    (tmp_path / "usual.json").write_text('{"minutes": [2.0]}')
    with pytest.raises(UserError, match="refresh --quiet"):
        read_usual(tmp_path)
