"""Measures of the live watch: what they count, on real recordings, small."""

from pathlib import Path

import pytest

from assistant.session import load_models
from assistant.settings import Settings
from eval.research.alarm_delay import read_events, render_delays, watch_run
from eval.research.kill_watch import kill_monitors

SAMPLES = Path(__file__).parents[1] / "assistant" / "samples"


def test_the_seconds_until_an_alarm_are_those_until_its_slot_was_over(tmp_path):
    (event,) = read_events(SAMPLES / "press-shop" / "truth.json")
    assert event.devices == {"172.23.84.248", "172.23.84.41"}
    assert (event.label, event.start_s) == ("unauthorized_command", 1795269449.7033117)
    (raised,) = watch_run(SAMPLES / "press-shop", load_models(Settings()), 15.0, tmp_path)
    # A slot ends at a multiple of ten, and is closed a quarter of a second later.
    end_s = raised.slots_s + event.start_s - 0.25
    assert end_s == pytest.approx(round(end_s, -1), abs=1e-3)
    assert 0 < raised.slots_s < raised.total_s
    assert raised.label == "unauthorized_command"
    row = next(
        line for line in render_delays([raised], "x").splitlines() if "modbus_writes" in line
    )
    assert f"| {raised.slots_s:.1f} |" in row


def test_monitors_killed_while_an_operator_works_lose_nothing(tmp_path):
    tally = kill_monitors(SAMPLES / "press-shop", 2, 5, tmp_path, speed=30.0)
    assert tally.wrong == []
    assert tally.kills == 2
    assert tally.working == 2
    assert tally.acts > 0
