"""What another network costs and how drift is noticed: the tables, and one quiet plant held for real."""

import numpy as np
from labelled_folders import write_plants

from eval.research.drift import Held, hold_quiet_plants, refresh_site, render_changes, render_held


def test_a_refresh_by_the_command_gives_a_row_and_is_not_made_twice(tmp_path, monkeypatch):
    data = write_plants(tmp_path / "data", (4, 5), hours=0.06)
    more = ("--plants", "1", "--per-label", "8", "--epochs", "1")
    made = refresh_site(data, tmp_path / "home", "replay", 0, more)
    again = refresh_site(tmp_path / "nowhere", tmp_path / "home", "replay", 0)
    assert made == again
    row = next(line for line in render_changes({(0, "replay"): made}).splitlines() if "0.0" in line)
    assert row.count("→") >= 4
    assert row.rstrip(" |").endswith("yes" if made[1] else "no")


def test_pairs_are_counted_by_what_the_bound_alarms():
    held = [
        Held(True, 0.004, np.nan),
        Held(False, 0.004, np.nan),
        Held(False, 0.1, 20.0),
        Held(False, 0.15, 30.0),
        Held(False, 0.19, np.nan),
    ]
    rows = [line.split(" | ")[:4] for line in render_held(held).splitlines()]
    assert ["| the plant itself", "1", "0", "– |"] in rows
    assert ["| another, 5 to 20 % alarmed", "3", "2", "25 |"] in rows


def test_a_quiet_plant_is_held_against_its_own_quiet_time():
    (held,) = hold_quiet_plants(1, devices=2)
    assert held.same
    assert 0 <= held.alarmed <= 1
