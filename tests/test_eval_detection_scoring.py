"""What scores are made of: costs, alarms, predictions, and the files of fits."""

from dataclasses import replace
from mmap import mmap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_runs import CONFUSION, COSTS, estimates

from assistant.detection.incidents import Incident
from eval.detection.alarms import AlarmCounts, count_incidents, find_delays, true_intervals
from eval.detection.corpus import LabelledCapture
from eval.detection.costs import CORE_WATTS, measure_cost
from eval.detection.fit import FitKey, FitResult, fit_path, read_fit, write_fit
from eval.detection.scoring import Predictions, TestedWindows, score, score_constant
from eval.results import Curves, Row
from traffic.capture import Capture
from traffic.errors import UserError
from traffic.labels import LABELS, NORMAL
from traffic.windows import Windows

PUMP, VALVE = "10.0.0.1", "10.0.0.2"


def capture(starts, told=()):
    start_s = np.array(starts, float)
    table = pd.DataFrame({"device": PUMP, "start_s": start_s, "end_s": start_s + 60})
    intervals = pd.DataFrame(told, columns=["labelling", "device", "label", "start_s", "end_s"])
    windows = Windows(pd.DataFrame(), table, np.zeros((len(table), 6), int))
    nothing = Capture(pd.DataFrame(), pd.DataFrame())
    return LabelledCapture("a", "your own", "plant", nothing, windows, intervals, None)


def incident(device, start_s, end_s, related=(), peers=()):
    return Incident(
        "c2-1", device, "source", "c2", "high", start_s, end_s, (), (), tuple(peers), (),
        tuple(related),
    )  # fmt: skip


def test_a_delay_ends_with_the_first_window_that_has_an_alarm():
    told = [("corrected", PUMP, "c2", 100.0, 160.0), ("corrected", VALVE, "c2", 0.0, 50.0)]
    one = capture(range(0, 200, 10), told)
    truth = true_intervals(one, "corrected", ["c2"])
    assert truth["device"].tolist() == [VALVE, PUMP]
    alarmed = one.windows.table["start_s"].isin([20.0, 70.0, 80.0]).to_numpy()
    # The window from 20 to 80 ends before it began; that from 70 to 130 is the first to touch it.
    np.testing.assert_array_equal(find_delays(one, truth, alarmed), [np.nan, 30.0])


def test_only_the_labelling_and_the_labels_asked_for_are_true():
    told = [("published", PUMP, "c2", 0.0, 10.0), ("corrected", PUMP, "dos", 0.0, 10.0)]
    assert len(true_intervals(capture([0], told), "corrected", ["c2"])) == 0
    assert len(true_intervals(capture([0], told), "published", ["c2"])) == 1


def test_incidents_are_false_where_nothing_true_accounts_for_them():
    one = capture([0, 600], [("corrected", PUMP, "c2", 1000.0, 1100.0)])
    truth = true_intervals(one, "corrected", ["c2"])
    found = [
        incident(PUMP, 990, 1200),  # right
        incident(PUMP, 3000, 3100),  # too late
        incident(VALVE, 1000, 1100),  # another device
        incident(VALVE, 1000, 1100, peers=[PUMP]),  # names the one it comes from
    ]
    assert count_incidents(one, found, truth, {PUMP, VALVE}) == AlarmCounts(4, 2, 11.0)
    assert count_incidents(one, found, truth, {PUMP}) == AlarmCounts(2, 1, 11.0)


def make_tested(truth, predicted, alarm=0.1, abstained=False, unit=0):
    truth, code = (np.array([LABELS.index(one) for one in labels]) for labels in (truth, predicted))
    rows = [np.broadcast_to(one, len(truth)) for one in (0.9, alarm, abstained, unit)]
    return TestedWindows(truth, code, *rows, int(rows[-1].max()) + 1, LABELS[1:], binary=False)


def predictions(incidents=None, delays=None):
    return Predictions(*np.zeros((6, 0), int), incidents or {}, delays or {})


def test_false_alarms_of_a_day():
    """Eight windows are 80 seconds; one false alarm in them is 1,080 a day, and none where it
    abstains."""
    truth, predicted = [NORMAL] * 8, [NORMAL] * 7 + ["dos"]
    loud = score(make_tested(truth, predicted), [], 100, whole=False).scores
    assert loud["false_per_device_day"].value == pytest.approx(1080)
    quiet = make_tested(truth, predicted, abstained=np.arange(8) == 7)
    quiet = score(quiet, [], 100, whole=False).scores
    assert quiet["false_per_device_day"].value == 0
    assert quiet["false_share"].value == loud["false_share"].value == 0.125


def test_incidents_count_minutes_and_the_mean_of_fits():
    fits = [
        predictions({"x": AlarmCounts(3, 1, 30.0), "y": AlarmCounts(0, 0, 10.0)}),
        predictions({"x": AlarmCounts(5, 1, 30.0)}),
    ]
    scores = score(make_tested([NORMAL], [NORMAL]), fits, 100, whole=False).scores
    assert scores["incidents_per_10_min"].value == pytest.approx(1.0)  # (4 + 0) in 40 minutes
    assert scores["false_incidents_per_10_min"].value == pytest.approx(0.25)
    assert scores["incidents_per_10_min"].low is not None


def test_what_was_found_and_when():
    fits = [predictions(delays={"x": np.array([delay, np.nan])}) for delay in (10.0, 30.0)]
    scores = score(make_tested([NORMAL], [NORMAL]), fits, 100, whole=False).scores
    assert (scores["found_share"].value, scores["time_to_detection_s"].value) == (0.5, 20.0)


def test_one_device_gives_no_interval_and_two_do():
    one, two = (
        score(make_tested(["c2", NORMAL], ["c2", "c2"], [0.9, 0.8], unit=unit), [], 100, whole=True)
        for unit in (0, [0, 1])
    )
    assert (one.scores["f1"].low, one.scores["f1"].value) == (None, pytest.approx(1 / 3))
    assert two.scores["f1"].low is not None
    assert two.scores["f1"].value == one.scores["f1"].value
    assert one.per_label["c2"].precision == 0.5
    assert one.curves.pr is not None


def test_the_level_of_chance():
    chance = score_constant(make_tested([NORMAL, NORMAL, NORMAL, "dos"], [NORMAL] * 4))
    # normal: F1 6/7; dos: 0
    assert chance["f1"] == chance["binary_macro_f1"] == pytest.approx(3 / 7)


def test_work_is_measured():
    def hold() -> float:
        """160 MB for a moment, mapped anew: an allocator may hand out what it holds already."""
        numbers = np.frombuffer(mmap(-1, 160_000_000))
        numbers[:] = 1.0
        return float(numbers.sum())

    done = measure_cost(hold)
    assert done.result == 20_000_000
    assert done.cost.memory_bytes is None or done.cost.memory_bytes >= 150_000_000
    assert done.cost.energy_j == pytest.approx(done.cost.cpu_s * CORE_WATTS)
    assert done.cost.energy_from == "CPU-seconds x stated watts"


KEY = FitKey("rules", "a", "", "corrected", 0)


def fit_result():
    row = Row(
        model="rules", fold="a", setting="", amount=None, labelling="corrected", seed=0,
        train=("b",), test=("a",), scores=estimates({"f1": 0.5}), per_label={},
        confusion=CONFUSION, costs=COSTS, trained_windows=1,
        curves=Curves(pr=None, reliability=None, risk_coverage=None), tested_windows=3, invalid=0,
        abstained=0, seen_in_training=(), notes=(),
    )  # fmt: skip
    table = [[4, 5, 9], [0, 2, 18], [0.5, 0.25, 0], [0.5, 0.75, 0], [False, True, False]]
    table.append([3, 2, 18])
    delays = {"x": np.array([1.5, np.nan]), "y": np.empty(0)}
    incidents = {"x": AlarmCounts(2, 1, 3.5)}
    return FitResult(row, Predictions(*map(np.array, table), incidents, delays))


def test_a_fit_is_read_as_it_was_written(tmp_path):
    written = fit_result()
    assert not fit_path(tmp_path, KEY).is_file()
    write_fit(tmp_path, KEY, written)
    assert list(tmp_path.iterdir()) == [fit_path(tmp_path, KEY)], "no draft is left"
    read = read_fit(tmp_path, KEY)
    assert read.row == written.row
    for name in ("rows", "code", "confidence", "alarm", "abstained", "named"):
        np.testing.assert_array_equal(
            getattr(read.predictions, name), getattr(written.predictions, name)
        )
    assert read.predictions.incidents == written.predictions.incidents
    assert list(read.predictions.delays) == ["x", "y"]
    np.testing.assert_array_equal(read.predictions.delays["x"], [1.5, np.nan])


def test_a_fit_that_breaks_off_while_it_is_written_is_no_fit(tmp_path):
    class Full:
        def __array__(self, dtype=None, copy=None):
            raise OSError(28, "No space left on device")

    found = replace(fit_result().predictions, delays={"capture": Full()})
    with pytest.raises(UserError, match="No space left on device"):
        write_fit(tmp_path, KEY, replace(fit_result(), predictions=found))
    assert not list(tmp_path.iterdir())


def test_a_fit_that_holds_a_pickle_is_refused(tmp_path):
    """A folder of results may come from elsewhere, and a pickle runs code when it is read."""
    hostile = {"row": np.array([object()], dtype=object)}
    np.savez(fit_path(tmp_path, KEY), **hostile, allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_fit(tmp_path, KEY)


def test_fits_have_files_of_their_own():
    other = [replace(KEY, model="knn"), replace(KEY, seed=1), replace(KEY, labelling="published")]
    assert len({fit_path(Path(), key) for key in (KEY, *other)}) == 4
