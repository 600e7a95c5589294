"""What another network costs and how drift is noticed: the tables, and one quiet plant held for real."""

import numpy as np
from labelled_folders import write_plants

from eval.research.drift import (
    Held,
    hold_quiet_plants,
    main,
    refresh_site,
    render_changes,
    render_held,
)


def test_a_refresh_by_the_command_gives_a_row_and_is_not_made_twice(tmp_path, monkeypatch):
    data = write_plants(tmp_path / "data", (4, 5), hours=0.06)
    more = ("--plants", "1", "--per-label", "8", "--epochs", "1")
    made = refresh_site(data, tmp_path / "home", "replay", 0, more)
    again = refresh_site(tmp_path / "nowhere", tmp_path / "home", "replay", 0)
    assert made == again
    row = next(line for line in render_changes({(0, "replay"): made}).splitlines() if "0.0" in line)
    assert row.count("→") >= 4
    assert row.rstrip(" |").endswith("yes" if made[1] else "no")


def test_what_a_way_gave_and_forgot_is_said_in_points():
    def card(old: tuple[float, float], new: tuple[float, float]) -> dict[str, float]:
        pairs = {"old": old, "new": new}
        return {
            f"{which}.{when}.{name}": value
            for which, pair in pairs.items()
            for when, value in zip(("before", "after"), pair, strict=True)
            for name in ("macro_f1", "recall", "false_share")
        }

    made = {
        (0, "replay"): (card((0.8, 0.79), (0.5, 0.75)), True),
        (1, "replay"): (card((0.8, 0.80), (0.7, 0.75)), True),
        (0, "osf"): (card((0.8, 0.70), (0.78, 0.75)), False),
    }
    replay, osf = render_changes(made).splitlines()[-2:]
    assert "cost 20.0 points" in replay
    assert "brought +15.0 points" in replay
    assert "false alarms went from 60.0 to 75.0 %" in replay
    assert "forgot 0.5 points of what was known, at most the 1" in replay
    assert "cost nothing that a refresh could bring back" in osf
    assert "forgot 10.0 points of what was known, more than the 1" in osf


def test_an_adapter_of_before_is_tuned_once_and_refreshed_by_each_way(tmp_path):
    before = write_plants(tmp_path / "before", (1, 2, 3), hours=0.06)
    new = write_plants(tmp_path / "new", (4, 5), hours=0.06)
    small = "--plants 1 --per-label 4 --epochs 1"
    out = tmp_path / "page.md"
    main(new, tmp_path / "work", 1, 0, before, small, small, out)
    page = out.read_text(encoding="utf-8")
    assert "tuned by `faultwise finetune sft` on plant-1, plant-2, plant-3" in page
    assert all(f"| 0 | {way} |" in page for way in ("replay", "new windows alone", "osf"))
    assert "Drift, noticed" not in page


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
