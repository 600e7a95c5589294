"""Measures of the live watch: what they count, on real recordings, small."""

from pathlib import Path

import numpy as np
import pytest

from assistant.monitor.interface import MOST_PKTS_PER_S
from assistant.session import load_models
from assistant.settings import Settings
from eval.research.alarm_delay import read_events, render_delays, watch_run
from eval.research.endurance import Flooded, Hours, make_flood, measure_hours, write_plants
from eval.research.kill_watch import kill_monitors
from traffic.pcap.records import read_records
from traffic.simulation.simulate import simulate

SAMPLES = Path(__file__).parents[1] / "assistant" / "samples"


def test_the_seconds_until_an_alarm_are_those_until_its_slot_was_over(tmp_path):
    (event,) = read_events(SAMPLES / "press-shop" / "truth.json")
    assert event.devices == {"172.23.84.248", "172.23.84.41"}
    assert (event.label, event.start_s) == ("unauthorized_command", 1795269449.7033117)
    watch = watch_run(SAMPLES / "press-shop", load_models(Settings()), 15.0, tmp_path)
    (raised,) = watch.raised
    sign, alarm = raised.sign, raised.alarm
    assert sign is not None
    assert alarm is not None
    # A slot ends at a multiple of ten, its quarters at one of two and a half; a quarter of a second
    # later it is looked at.
    for stage in (sign, alarm):
        end_s = stage.slots_s + event.start_s - 0.25
        assert end_s == pytest.approx(2.5 * round(end_s / 2.5), abs=1e-3)
        assert stage.label == "unauthorized_command"
    assert 0 < sign.slots_s <= alarm.slots_s < alarm.total_s
    assert watch.false == []
    table = render_delays([watch], "x").splitlines()
    row = next(line for line in table if "modbus_writes" in line)
    assert f"| {alarm.slots_s:.1f} |" in row
    assert any("0 alarms and 0 notifications" in line for line in table)


def test_whatever_is_raised_of_a_device_to_which_nothing_happened_is_false(tmp_path):
    capture = tmp_path / "press-shop.pcap"
    capture.write_bytes((SAMPLES / "press-shop" / "capture.pcap").read_bytes())
    watch = watch_run(capture, load_models(Settings()), 15.0, tmp_path / "home")
    assert watch.raised == []
    assert ("alarm", "unauthorized_command") in watch.false


def test_a_flood_is_thinned_out_and_everything_else_stays():
    records = read_records(SAMPLES / "press-shop" / "capture.pcap")
    records = records.take(np.argsort(records.ts, kind="stable"))
    second_s = np.floor(records.ts[0]) + 20.0
    source = Flooded(records, make_flood(250_000, second_s, "10.9.9.9", "10.9.9.8"))
    kept, said, ended = [], 0, False
    while not ended:
        batch = source.read(0.0)
        kept.append(batch.ts)
        said += sum(one.count for one in batch.troubles if one.kind == "flood")
        ended = batch.ended
    assert said == source.left_out == 250_000 + len(records.ts) - sum(map(len, kept))
    assert max(map(len, kept)) == MOST_PKTS_PER_S
    assert np.isin(records.ts, np.concatenate(kept)).all()


@pytest.mark.parametrize("kind", ["quiet", "many"])
def test_what_a_monitor_bears_is_counted_over_every_slot(kind, tmp_path):
    table = measure_hours(kind, 4, 0.05, 3, 5.0, load_models(Settings()), tmp_path)
    if kind == "quiet":
        (row,) = [line for line in table.splitlines() if line.startswith("| 1 |")]
        hour, slots, memory, against, alarms = (cell.strip() for cell in row.split("|")[1:6])
        assert (hour, against, alarms) == ("1", "+0 %", "0")
        assert int(memory) > 50
        assert 10 <= int(slots) <= 19  # parts of them in three minutes
    else:
        assert "| until the verdicts |" in table
        assert "4 simulated devices" in table


def test_monitors_killed_while_an_operator_works_lose_nothing(tmp_path):
    tally = kill_monitors(SAMPLES / "press-shop", 2, 5, tmp_path, speed=30.0)
    assert tally.wrong == []
    assert tally.kills == 2
    assert tally.working == 2
    assert tally.acts > 0


def test_hours_of_a_plant_come_one_after_the_other_with_every_connection_once(tmp_path):
    paths = write_plants(4, 1.2, 3, tmp_path)
    source, ended, given = Hours(paths), False, []
    while not ended:
        batch = source.read(0.0)
        ended = batch.ended
        given += batch.ts.tolist()
    assert len(paths) == 2
    assert len(given) == len(simulate(3, 4, 1.2, quiet=True, view="logs").capture.flows)
    assert given == sorted(given)
