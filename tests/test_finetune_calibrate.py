"""Temperature and bounds on scores whose best values are known."""

import json

import numpy as np
import pandas as pd
import pytest

from assistant.detection.classify import make_probabilities
from assistant.llm.adapters import Bounds
from assistant.llm.calibration import calibration_error
from finetune.calibrate import calibrate, measure_windows
from finetune.pocket.alarm_bound import list_false, read_tested
from traffic.errors import UserError
from traffic.labels import LABELS

ANY = 1.0  # a budget that never binds


def scored(*rows: tuple[str, dict[str, float], int]) -> tuple[pd.DataFrame, np.ndarray]:
    """Windows by their truth and what is said of them, so many of each; each is a device of its
    own."""
    truth = [label for label, _, count in rows for _ in range(count)]
    scores = np.full((len(truth), len(LABELS)), 1e-40)
    place = 0
    for _, said, count in rows:
        for label, probability in said.items():
            scores[place : place + count, LABELS.index(label)] = probability
        place += count
    windows = pd.DataFrame({"label": truth, "capture": "a", "device": range(len(truth))})
    return windows.assign(start_s=0.0), np.log(scores)


def two_class(said: float, right: float) -> tuple[pd.DataFrame, np.ndarray]:
    odd = {"normal": 1 - said, "dos": said}
    return scored(("dos", odd, round(1000 * right)), ("normal", odd, round(1000 * (1 - right))))


def test_honest_scores_need_no_temperature():
    found = calibrate(*two_class(0.8, right=0.8), ANY, ANY)
    assert found.bounds.temperature == pytest.approx(1, abs=0.02)


def test_scores_that_are_too_sure_are_cooled_to_what_is_true():
    found = calibrate(*two_class(0.99, right=0.75), ANY, ANY)
    # log(0.75 / 0.25) = log(0.99 / 0.01) / T
    assert found.bounds.temperature == pytest.approx(np.log(99) / np.log(3), rel=0.02)
    assert found.calibration_error < 0.01


def test_the_alarm_bound_is_the_smallest_that_keeps_to_the_budget_of_false_ones():
    sure, unsure = {"normal": 0.1, "dos": 0.9}, {"normal": 0.4, "dos": 0.6}
    rows = [("dos", sure, 90), ("normal", sure, 10), ("dos", unsure, 60), ("normal", unsure, 40)]
    strict = calibrate(*scored(*rows), max_false=0.2, max_wrong_name=ANY)
    assert (strict.false_share, strict.recall) == (10 / 50, 90 / 150)
    assert 0.59 < strict.bounds.alarm < 0.63
    loose = calibrate(*scored(*rows), max_false=1.0, max_wrong_name=ANY)
    assert (loose.false_share, loose.recall) == (1.0, 1.0)


def test_a_wrong_name_costs_its_own_budget_and_no_alarm():
    sure = {"normal": 0.02, "recon": 0.93, "c2": 0.05}
    unsure = {"normal": 0.02, "recon": 0.5, "exfiltration": 0.48}
    rows = [
        ("recon", sure, 95),
        ("c2", sure, 5),
        ("recon", unsure, 10),
        ("exfiltration", unsure, 10),
    ]
    found = calibrate(*scored(*rows, ("normal", {"normal": 0.99, "dos": 0.01}, 100)), 0.0, 0.05)
    assert found.recall == 1.0
    assert found.named_share == pytest.approx(100 / 120)
    assert found.wrong_name_share == pytest.approx(5 / 100)


def test_a_quieter_life_shifts_towards_normal_by_bayes_rule():
    """Of windows said to be 0.8 anomalous, in a set that is half so, one in nineteen as many leave
    4 : 19."""
    odd, calm = {"normal": 0.2, "dos": 0.8}, {"normal": 0.8, "dos": 0.2}
    rows = [("dos", odd, 80), ("normal", odd, 20), ("dos", calm, 20), ("normal", calm, 80)]
    found = calibrate(*scored(*rows), ANY, ANY, anomalous_share=0.05)
    assert found.bounds.prior_shift == pytest.approx(np.log(19))
    shifted = make_probabilities(np.log([[0.2, 0.8, *[1e-30] * 15]]), 1.0, np.log(19))
    assert shifted[0, :2] == pytest.approx([19 / 23, 4 / 23], abs=1e-4)
    assert calibrate(*scored(*rows), ANY, ANY).bounds.prior_shift == 0.0


def test_an_episode_of_one_device_is_alarmed_where_lone_windows_are_not():
    odd = {"normal": 0.15, "dos": 0.85}
    windows, scores = scored(
        ("dos", odd, 40), ("normal", odd, 10), ("normal", {"normal": 0.999}, 400)
    )
    windows.loc[:39, "device"] = 0
    windows.loc[:39, "start_s"] = np.arange(40) * 10.0
    found = calibrate(windows, scores, 0.001, ANY, anomalous_share=0.01)
    assert found.bounds.episode < 1
    # The device is twelve windows old before anything counts as an episode.
    assert (found.recall, found.false_share) == (29 / 40, 0.0)


def test_nothing_to_calibrate_on_is_refused():
    with pytest.raises(UserError, match="no held-out windows"):
        calibrate(*scored(), ANY, ANY)


def test_the_calibration_error_of_bins_by_hand():
    top, right = np.array([0.95, 0.95, 0.55, 0.55]), np.array([True, True, True, False])
    assert calibration_error(top, right) == pytest.approx(0.5 * 0.05 + 0.5 * 0.05)


def test_measures_are_of_what_an_operator_sees():
    said = [("normal", "normal", 8), ("normal", "dos", 2), ("dos", "dos", 3), ("dos", "normal", 1)]
    rows = [(truth, {label: 0.99}, count) for truth, label, count in said]
    rows.append(("recon", {"recon": 0.4, "c2": 0.35, "exfiltration": 0.2}, 1))
    measures = measure_windows(*scored(*rows), Bounds(name=0.5))
    assert measures["windows"] == 15
    assert measures["false_share"] == pytest.approx(0.2)
    assert measures["recall"] == pytest.approx(4 / 5)
    # Alarmed and without a name is an alarm; of those with a name all are right.
    assert measures["named_share"] == pytest.approx(3 / 4)
    assert measures["right_name_share"] == 1.0
    # F1 of normal: 2 * 8 / (9 + 10); of dos: 2 * 3 / (5 + 4); of recon 1
    assert measures["macro_f1"] == pytest.approx((16 / 19 + 6 / 9 + 1) / 3, abs=1e-4)


def test_false_alarms_are_counted_by_device_and_a_tested_run_is_only_shown(tmp_path):
    windows = pd.DataFrame(
        {"capture": ["a", "a", "a", "b", "b"], "device": [0, 1, 1, 0, 0],
         "label": ["normal", "normal", "normal", "normal", "dos"]}
    )  # fmt: skip
    alarmed = np.array([False, True, True, True, True])
    assert list_false(windows, alarmed).to_dict() == {("a", 1): 2, ("b", 0): 1}

    # 1,000 normal windows, 100 others: 92 of them at a precision of 92 / 96 are 4 false ones, 0.4 %.
    curve = {"x": [0.5, 0.92, 0.96], "y": [1.0, 92 / 96, 96 / 112]}
    scores = {"binary_recall": {"value": 0.5}, "false_share": {"value": 0.0}}
    row = {"model": "pocket", "labelling": "corrected", "setting": "", "scores": scores,
           "confusion": {"labels": ["normal", "dos"], "counts": [[1000, 0], [50, 50]]},
           "curves": {"pr": curve}}  # fmt: skip
    file = tmp_path / "run.json"
    file.write_text(json.dumps({"data": [1, 2], "pooled": [{**row, "model": "knn"}, row]}))
    said = read_tested(file)
    assert "On the 2 captures" in said
    assert "would alarm 92.0% within 0.5%" in said
