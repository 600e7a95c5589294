"""Sensor readings: tables of every habit, and what stands out in them, worked out by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import DEVICE, PLC, capture, flow

from traffic.device_logs.gather import RecordFile, gather_records
from traffic.device_logs.readings import is_readings, read_readings
from traffic.device_logs.sensor_events import describe_sensors, find_unusual_readings
from traffic.errors import UserError
from traffic.plant import Device, Plant

START = 1_795_703_520.0  # 2026-11-26 14:32:00 UTC


def read(tmp_path: Path, content: str | bytes) -> tuple[list[tuple], tuple[str, ...]]:
    path = tmp_path / "x.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = read_readings(path)
    rows = found.readings.assign(ts=found.readings["ts"] - START)
    return [tuple(row) for row in rows[["ts", "sensor", "value"]].to_numpy().tolist()], found.notes


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("time,sensor,value\n1795703521,a,1.5\n1795703522,a,2.5\n", id="long"),
        pytest.param("1795703521.0,a,1.5\n1795703522.0,a,2.5\n", id="no header"),
        pytest.param("ts;a\n1795703521000;1,5\n1795703522000;2,5\n", id="wide, decimal comma, ms"),
        pytest.param("Time\ta\n26.11.2026 14:32:01\t1.5\n26.11.2026 14:32:02\t2.5\n", id="German"),
        pytest.param("Date,Time,a\n11/26/2026,2:32:01 PM,1.5\n11/26/2026,2:32:02 PM,2.5\n", id="US"),
        pytest.param("x,a\n2026-11-26T15:32:01+01:00,1.5\n2026-11-26T15:32:02+01:00,2.5\n", id="ISO"),
        pytest.param(
            "time,sensor,value,quality\n1795703522,a,2.5,Bad\n1795703521,a,1.5,Good\n", id="out of order"
        ),
        pytest.param("# export\ntime,a\n1795703521,1.5\n1795703522,2.5\n".encode("utf-16"), id="UTF-16"),
        pytest.param("time,tag,\xb0C\n1795703521,a,1.5\n1795703522,a,2.5\n".encode("latin-1"), id="Latin-1"),
    ],
)  # fmt: skip
def test_one_table_in_many_forms(tmp_path: Path, content: str | bytes):
    assert read(tmp_path, content)[0] == [(1.0, "a", 1.5), (2.0, "a", 2.5)]
    assert is_readings(tmp_path / "x.csv")


def test_what_is_skipped_is_counted(tmp_path: Path):
    text = "time,a,a\n1795703521,1,2\n1795703522,bad,3\nnever,1,2\n1795703523,1\n"
    rows, notes = read(tmp_path, text)
    assert rows[0] == (1.0, "a", 1.0)
    assert rows[2:] == [(1.0, "a (2)", 2.0), (2.0, "a (2)", 3.0)]
    assert np.isnan(rows[1][2])
    said = " ".join(notes)
    assert "1 rows have another number of cells" in said
    assert "1 rows tell no time" in said
    assert "1 columns have the name of another" in said


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a,b\n1,2\n3,4\n", "no column of times"),
        ("time,host\n1795703521,a\n1795703522,b\n", "no column of numbers"),
        ("just words\n" * 3, "no table"),
        ("", "no table"),
        (b"\x00\x01\x02", "cannot be read as text"),
        ("#separator \\x09\n#fields\tts\n1\t2\n", "a log of Zeek"),
        ("x" * 1_000_000, "no table"),
    ],
)
def test_what_is_no_table_of_readings_is_refused(tmp_path: Path, content: str | bytes, says: str):
    with pytest.raises(UserError, match=says):
        read(tmp_path, content)
    assert not is_readings(tmp_path / "x.csv")


def test_flows_and_labels_are_no_readings(tmp_path: Path):
    path = tmp_path / "x.csv"
    path.write_text(
        "time,from,to,bytes\n1795703521,10.0.0.1,10.0.0.2,9\n1795703522,10.0.0.1,10.0.0.2,9\n"
    )
    assert not is_readings(path)
    path.write_text("time,frame,label\n1795703521,1,0\n1795703522,2,1\n")
    assert not is_readings(path)


@given(st.text(max_size=300))
def test_any_text_is_a_table_or_refused(tmp_path_factory, text: str):
    path = tmp_path_factory.mktemp("any") / "x.csv"
    path.write_bytes(text.encode("utf-8", "replace"))
    if not is_readings(path):
        return
    assert np.isfinite(read_readings(path).readings["ts"]).all()


# ---- What stands out ----

NOISE = np.random.default_rng(3).normal(20, 1, 300)


def unusual(values: np.ndarray, ts: np.ndarray | None = None) -> list[tuple]:
    ts = START + 2.0 * np.arange(len(values)) if ts is None else ts
    table = pd.DataFrame({"ts": ts, "sensor": pd.Categorical(["a"] * len(values)), "value": values})
    found = find_unusual_readings(table, START, START + 600)
    return [
        (row.kind, row.start_s - START, row.end_s - START, row.count) for row in found.itertuples()
    ]


def test_a_calm_sensor_says_nothing():
    assert unusual(NOISE) == []
    assert unusual(np.round(NOISE / 4)) == []  # coarse steps repeat by nature
    assert unusual(np.full(300, 7.0)) == []  # never moved: a constant is no freeze
    assert unusual(np.where(np.arange(300) % 30 < 15, 0.0, 50.0)) == []  # on and off


def test_a_reading_that_freezes():
    frozen = NOISE.copy()
    frozen[100:250] = 12.5
    assert ("frozen", 200.0, 498.0, 150) in unusual(frozen)


def test_a_reading_that_jumps_and_comes_back():
    spiked = NOISE.copy()
    spiked[200] = 80.0
    assert unusual(spiked) == [
        ("jump", 398.0, 400.0, 1), ("jump", 400.0, 402.0, 1), ("outlier", 400.0, 400.0, 1),
    ]  # fmt: skip


def test_a_sensor_that_stops_while_others_go_on():
    ts = START + 2.0 * np.arange(300)
    both = pd.DataFrame(
        {
            "ts": np.concatenate([ts[:100], ts]),
            "sensor": pd.Categorical(["a"] * 100 + ["b"] * 300),
            "value": np.concatenate([NOISE[:100], NOISE]),
        }
    )
    found = find_unusual_readings(both, START, START + 600)
    assert found[["sensor", "kind"]].to_numpy().tolist() == [["a", "gap"]]
    assert (found["start_s"] - START).tolist() == [198.0]
    assert (found["end_s"] - START).tolist() == [598.0]
    table = describe_sensors(both)
    assert table["readings"].tolist() == [100, 300]
    assert table["period_s"].tolist() == [2.0, 2.0]


def test_a_gap_and_what_lies_outside_the_capture():
    ts = START + 2.0 * np.arange(300)
    ts[150:] += 60
    assert unusual(NOISE, ts) == [("gap", 298.0, 360.0, 0)]
    assert unusual(NOISE, ts + 5000) == []


def test_sensors_belong_to_devices_by_column_alias_or_word_of_the_user(tmp_path: Path):
    plant = Plant(
        (Device("tank", PLC, "PLC", aliases=("TT-101",)), Device("node", DEVICE, "sensor"))
    )
    path = tmp_path / "x.csv"
    path.write_text("time,TT-101,FT-7\n" + "".join(f"{START + n},{n},{n}\n" for n in range(9)))
    made = capture(flow(START, DEVICE, PLC, 502))
    records = gather_records(made, plant, readings=[RecordFile(path)])
    assert records.sensors["device"].tolist() == [PLC, ""]
    assert "1 of 2 sensors in x.csv belong to no device" in " ".join(records.notes)
    told = gather_records(made, plant, readings=[RecordFile(path, "node")])
    assert told.sensors["device"].tolist() == [DEVICE, DEVICE]
