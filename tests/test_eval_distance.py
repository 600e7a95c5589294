"""The distance is that of its hand-made tables, is nothing between equals, and is large between
homes and industry."""

import numpy as np
import pandas as pd
import pytest

from assistant.cli.main import main
from eval.research.distance import normal_windows, render_distance, tell_apart
from prompts.window_text import fact_names
from traffic.datasets import simulate_labelled

COLUMNS = list(fact_names())


def plant(level: int, windows: int = 60) -> pd.DataFrame:
    """Windows that say one fact alone, at so high a level."""
    table = pd.DataFrame(np.zeros((windows, len(COLUMNS)), np.int8), columns=COLUMNS)
    return table.assign(**{COLUMNS[7]: np.int8(level)}, role="plc")


def test_what_differs_is_told_and_measured():
    distance = tell_apart([plant(3), plant(3)], [plant(7), plant(7)])
    assert distance.aucs == (1.0, 1.0)
    first, *rest = distance.features.itertuples()
    assert (first.number, first.ks, first.levels_apart) == (
        COLUMNS[7],
        1.0,
        4.0,
    )  # from level 3 to level 7
    assert (first.simulated_mean, first.recorded_mean, first.recorded_above_0) == (3.0, 7.0, 1.0)
    assert {one.ks for one in rest} == {0.0}


def test_equals_cannot_be_told():
    distance = tell_apart([plant(3), plant(5)], [plant(3), plant(5)])
    assert distance.auc == pytest.approx(0.5)
    assert distance.features["levels_apart"].max() == 0


def test_a_plant_that_was_learned_from_is_not_judged_by():
    """Each plant has a level of its own: remembering them tells all, and helps with none that is
    new."""
    simulated, recorded = [plant(2), plant(10)], [plant(4), plant(12)]
    assert tell_apart(simulated, recorded).auc < 1


def test_windows_are_even_between_the_kinds():
    distance = tell_apart([plant(3, 200), plant(3, 200)], [plant(7, 30), plant(7, 30)])
    assert tuple(distance.roles.loc[0, ["simulated", "recorded"]]) == (60, 60)


def test_homes_are_told_from_industry_at_once():
    def draw(flavour: str) -> list[pd.DataFrame]:
        made = [
            simulate_labelled(seed, 10, 0.1, flavour=flavour, view="packets") for seed in range(6)
        ]
        return [normal_windows(one, 150) for one in made]

    assert tell_apart(draw("home"), draw("industrial")).auc > 0.8


def test_normal_windows_say_what_their_capture_was():
    labelled = simulate_labelled(1, 6, 0.2, flavour="industrial")
    windows = normal_windows(labelled, 50)
    assert len(windows) <= 50
    assert windows.attrs["devices"] == 6
    assert windows.attrs["hours"] == pytest.approx(0.2, abs=0.02)
    roles = {device.role for device in labelled.plant.devices}
    assert len(set(windows["role"]) - {"other"}) > 2
    assert set(windows["role"]) <= {*roles, "other"}


def test_the_report_shows_command_folds_and_numbers():
    report = render_distance(tell_apart([plant(3), plant(3)], [plant(7), plant(7)]), "the command")
    assert "Made by `the command`: 2 plants drawn, 2 recorded." in report
    assert "**AUC 1.00" in report
    assert f"| {COLUMNS[7]} | 4.0 | 1.0 | 3.0 | 1.0 | 7.0 | 1.0 |" in report


def test_a_folder_without_runs_is_refused(tmp_path, capsys):
    assert main(["eval", "distance", "--data", str(tmp_path)]) == 2
    assert "holds no labelled capture" in capsys.readouterr().err
