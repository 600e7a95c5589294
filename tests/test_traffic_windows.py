"""Windows are places among samples; which ones exist is worked out by hand."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from tables import CLOUD, DEVICE, capture, flow

from traffic.samples import make_samples
from traffic.windows import make_windows


def samples_at(*starts: float) -> pd.DataFrame:
    rows = [
        flow(start, DEVICE, CLOUD, 443, duration=0.0, id__orig_p=40000 + i)
        for i, start in enumerate(starts)
    ]
    return make_samples(capture(*rows))


def test_a_window_slides_by_one_sample():
    windows = make_windows(samples_at(*range(100, 180, 10)))
    assert windows.table["start_s"].tolist() == [100.0, 110.0, 120.0]
    assert windows.table["end_s"].tolist() == [160.0, 170.0, 180.0]
    assert windows.rows.tolist() == [[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6], [2, 3, 4, 5, 6, 7]]


def test_a_missing_sample_is_zeros():
    windows = make_windows(samples_at(100, 120, 150))
    assert windows.rows.tolist() == [[0, -1, 1, -1, -1, 2]]
    assert windows.values(["out_pkts"])[0, :, 0].tolist() == [5, 0, 5, 0, 0, 5]


def test_a_window_with_one_sample_says_nothing():
    assert len(make_windows(samples_at(100))) == 0
    assert make_windows(samples_at(100), min_active=1).table["start_s"].tolist() == [100.0]


def test_silence_after_a_rhythm_is_kept():
    rows = [
        flow(10.0 * i, DEVICE, CLOUD, 443, duration=0.0, id__orig_p=40000 + i) for i in range(40)
    ]
    rows.append(flow(700.0, "192.168.1.99", CLOUD, 443))
    windows = make_windows(make_samples(capture(*rows)))
    silent = windows.values(["out_pkts"])[:, :, 0].sum(axis=1) == 0
    assert windows.table.loc[silent, "start_s"].tolist() == [400.0 + 10 * i for i in range(26)]


def test_take_keeps_the_samples():
    windows = make_windows(samples_at(*range(100, 180, 10)))
    assert windows.take(np.array([True, False, True])).table["start_s"].tolist() == [100.0, 120.0]
    assert windows.take(np.array([2, 0])).rows[:, 0].tolist() == [2, 0]


def test_no_samples_no_windows():
    assert len(make_windows(make_samples(capture()))) == 0


# At most every third slot: no rhythm, so no silence is kept for its own sake.
@given(
    st.lists(st.integers(0, 20).map(lambda third: 3 * third), min_size=1, max_size=15, unique=True)
)
def test_every_window_holds_its_own_slots_and_enough_of_them(slots):
    samples = samples_at(*(10.0 * slot for slot in slots))
    windows = make_windows(samples)
    for row, start in zip(windows.rows, windows.table["start_s"], strict=True):
        present = row[row >= 0]
        assert len(present) >= 2
        assert (
            samples["start_s"].to_numpy()[present] == start + 10.0 * np.flatnonzero(row >= 0)
        ).all()
    wanted = {s for slot in slots for s in range(slot - 5, slot + 1) if s >= min(slots)}
    wanted = {s for s in wanted if s + 5 <= max(slots) or s == min(slots)}
    wanted = {10.0 * s for s in wanted if len({*range(s, s + 6)} & {*slots}) >= 2}
    assert set(windows.table["start_s"]) == wanted
