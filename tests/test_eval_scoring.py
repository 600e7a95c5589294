"""What scores are made of: costs, alarms, what one fit said, and the file in which fits are
kept."""

import numpy as np
import pandas as pd
import pytest
from made_runs import CONFUSION, COSTS, estimates

from assistant.detection.incidents import Incident
from eval.detection.alarms import Raised, count_incidents, find_delays, true_intervals
from eval.detection.corpus import LabelledCapture
from eval.detection.costs import CORE_WATTS, spend
from eval.detection.fit import Fit, Fitted
from eval.detection.predictions import Judged, Said, read_judged, write_judged
from eval.detection.scoring import Scorable, score, score_constant
from eval.detection.store import Ledger
from eval.results import Curves, Row
from traffic.capture import Capture
from traffic.errors import UserError
from traffic.labels import LABELS, NORMAL
from traffic.windows import Windows

PUMP, VALVE = "10.0.0.1", "10.0.0.2"


def capture(starts, told=()):
    table = pd.DataFrame(
        {"device": PUMP, "start_s": np.array(starts, float), "end_s": np.array(starts, float) + 60}
    )
    intervals = pd.DataFrame(told, columns=["labelling", "device", "label", "start_s", "end_s"])
    windows = Windows(pd.DataFrame(), table, np.zeros((len(table), 6), int))
    return LabelledCapture(
        "a", "your own", "plant", Capture(pd.DataFrame(), pd.DataFrame()), windows, intervals, None
    )


def incident(device, start_s, end_s, related=(), peers=()):
    return Incident(
        "c2-1",
        device,
        "source",
        "c2",
        "high",
        start_s,
        end_s,
        (),
        (),
        tuple(peers),
        (),
        tuple(related),
    )


def test_a_delay_ends_with_the_first_window_that_has_an_alarm():
    one = capture(
        range(0, 200, 10),
        [("corrected", PUMP, "c2", 100.0, 160.0), ("corrected", VALVE, "c2", 0.0, 50.0)],
    )
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
    assert count_incidents(one, found, truth, {PUMP, VALVE}) == Raised(4, 2, 11.0)
    assert count_incidents(one, found, truth, {PUMP}) == Raised(2, 1, 11.0)


def scorable(truth, said, alarm, abstained=None, unit=None):
    truth, said = ([LABELS.index(label) for label in labels] for labels in (truth, said))
    n = len(truth)
    said = Said(
        np.array(said),
        np.full(n, 0.9),
        np.array(alarm, float),
        np.zeros(n, bool) if abstained is None else abstained,
    )
    unit = np.zeros(n, int) if unit is None else np.array(unit)
    return Scorable(np.array(truth), said, unit, int(unit.max()) + 1, LABELS[1:], binary=False)


def judged(raised=None, delays=None):
    none = Said(np.zeros(0, int), np.zeros(0), np.zeros(0), np.zeros(0, bool))
    return Judged(np.zeros(0, int), none, raised or {}, delays or {})


def test_false_alarms_of_a_day():
    """Eight windows are 80 seconds; one false alarm in them is 1,080 a day, and none where it
    abstains."""
    truth, said = [NORMAL] * 8, [NORMAL] * 7 + ["dos"]
    loud = score(scorable(truth, said, [0.1] * 8), [], 100, whole=False).scores
    assert loud["false_per_device_day"].value == pytest.approx(1080)
    quiet = score(scorable(truth, said, [0.1] * 8, np.arange(8) == 7), [], 100, whole=False).scores
    assert quiet["false_per_device_day"].value == 0
    assert quiet["false_share"].value == loud["false_share"].value == 0.125


def test_incidents_count_minutes_and_the_mean_of_fits():
    fits = [
        judged({"x": Raised(3, 1, 30.0), "y": Raised(0, 0, 10.0)}),
        judged({"x": Raised(5, 1, 30.0)}),
    ]
    scores = score(scorable([NORMAL], [NORMAL], [0]), fits, 100, whole=False).scores
    assert scores["incidents_per_10_min"].value == pytest.approx(1.0)  # (4 + 0) in 40 minutes
    assert scores["false_incidents_per_10_min"].value == pytest.approx(0.25)
    assert scores["incidents_per_10_min"].low is not None


def test_what_was_found_and_when():
    fits = [
        judged(delays={"x": np.array([10.0, np.nan])}),
        judged(delays={"x": np.array([30.0, np.nan])}),
    ]
    scores = score(scorable([NORMAL], [NORMAL], [0]), fits, 100, whole=False).scores
    assert (scores["found_share"].value, scores["time_to_detection_s"].value) == (0.5, 20.0)


def test_one_device_gives_no_interval_and_two_do():
    one = score(scorable(["c2", NORMAL], ["c2", "c2"], [0.9, 0.8]), [], 100, whole=True)
    assert (one.scores["f1"].low, one.scores["f1"].value) == (None, pytest.approx(1 / 3))
    two = score(
        scorable(["c2", NORMAL], ["c2", "c2"], [0.9, 0.8], unit=[0, 1]), [], 100, whole=True
    )
    assert two.scores["f1"].low is not None
    assert two.scores["f1"].value == one.scores["f1"].value
    assert one.per_label["c2"].precision == 0.5
    assert one.curves.pr is not None


def test_the_level_of_chance():
    chance = score_constant(scorable([NORMAL, NORMAL, NORMAL, "dos"], [NORMAL] * 4, [0] * 4))
    # normal: F1 6/7; dos: 0
    assert chance["f1"] == chance["binary_macro_f1"] == pytest.approx(3 / 7)


def test_work_is_measured():
    done = spend(lambda: np.ones(20_000_000).sum())  # 160 MB for a moment
    assert done.made == 20_000_000
    assert done.spent.memory_bytes is None or done.spent.memory_bytes >= 150_000_000
    assert done.spent.energy_j == pytest.approx(done.spent.cpu_s * CORE_WATTS)
    assert done.spent.energy_from == "CPU-seconds x stated watts"


def fit(seed):
    return Fit("rules", "a", "", "corrected", seed)


def fitted(seed):
    row = Row(
        model="rules", fold="a", setting="", amount=None, labelling="corrected", seed=seed, train=("b",), test=("a",),
        scores=estimates({"f1": 0.5}), per_label={}, confusion=CONFUSION, costs=COSTS, trained_windows=1,
        curves=Curves(pr=None, reliability=None, risk_coverage=None), tested_windows=3, invalid=0, abstained=0,
        seen_in_training=(), notes=(),
    )  # fmt: skip
    said = Said(
        np.array([0, 2, 18]),
        np.array([0.5, 0.25, 0]),
        np.array([0.5, 0.75, 0]),
        np.array([False, True, False]),
    )
    return Fitted(
        row,
        Judged(
            np.array([4, 5, 9]),
            said,
            {"x": Raised(2, 1, 3.5)},
            {"x": np.array([1.5, np.nan]), "y": np.empty(0)},
        ),
    )


def test_what_was_said_is_read_as_it_was_written(tmp_path):
    written = fitted(0).judged
    write_judged(written, tmp_path / "said.npz")
    read = read_judged(tmp_path / "said.npz")
    for name in Said.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(read.said, name), getattr(written.said, name))
    np.testing.assert_array_equal(read.rows, written.rows)
    assert read.raised == written.raised
    assert list(read.delays) == ["x", "y"]
    np.testing.assert_array_equal(read.delays["x"], written.delays["x"])
    write_judged(judged(), tmp_path / "nothing.npz")
    assert (
        read_judged(tmp_path / "nothing.npz").raised,
        len(read_judged(tmp_path / "nothing.npz").rows),
    ) == ({}, 0)


@pytest.mark.parametrize("cut", [1, 40, 10_000])
def test_a_line_cut_short_by_a_kill_is_done_again(tmp_path, cut):
    with Ledger(tmp_path) as ledger:
        ledger.add(fit(0), fitted(0))
        whole = (tmp_path / "fits.jsonl").stat().st_size
        ledger.add(fit(1), fitted(1))
    file = tmp_path / "fits.jsonl"
    file.write_bytes(file.read_bytes()[: max(whole, file.stat().st_size - cut)])
    with Ledger(tmp_path) as ledger:
        assert set(ledger.rows) == {fit(0)}
        ledger.add(fit(1), fitted(1))
    with Ledger(tmp_path) as ledger:
        assert set(ledger.rows) == {fit(0), fit(1)}
        assert ledger.judged(fit(1)).rows.tolist() == [4, 5, 9]
    assert file.read_bytes().count(b"\n") == 2


def test_a_fit_whose_answers_are_gone_is_done_again(tmp_path):
    with Ledger(tmp_path) as ledger:
        ledger.add(fit(0), fitted(0))
    next(tmp_path.glob("*.npz")).unlink()
    with Ledger(tmp_path) as ledger:
        assert not ledger.rows


def test_two_runs_do_not_share_a_folder(tmp_path):
    with Ledger(tmp_path), pytest.raises(UserError, match="belongs to a run that goes on"):
        Ledger(tmp_path)
    Ledger(tmp_path).__exit__()
