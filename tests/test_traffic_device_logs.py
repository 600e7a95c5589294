"""Logs of devices: forms of lines, kinds, clocks, what stands out. Expectations are worked out by
hand."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import CLOUD, DEVICE, PLC, capture, flow

from traffic.device_logs.clock import ClockOffset, estimate_offset, list_traffic
from traffic.device_logs.gather import RecordFile, gather_records, parse_source
from traffic.device_logs.lines import MOST_CHARS
from traffic.device_logs.log_file import is_log
from traffic.device_logs.syslog import parse_lines
from traffic.device_logs.templates import MOST_TEMPLATES, REST, Templates
from traffic.device_records import DeviceRecords
from traffic.errors import UserError
from traffic.plant import Device, Plant

START = 1_795_703_520.0  # 2026-11-26 14:32:00 UTC
PLANT = Plant((Device("plc-1", PLC, "PLC"), Device("sensor-1", DEVICE, "sensor")))


@pytest.mark.parametrize(
    ("line", "second", "host", "severity", "text"),
    [
        # RFC 5424, 6.5: example 1, and structured data with an escaped bracket.
        ("<34>1 2026-11-26T14:32:08.003Z plc-1 su - ID47 - \ufeff'su' failed", 8.003, "plc-1", 2, "'su' failed"),
        ('<165>1 2026-11-26T14:32:08Z - evntslog - ID47 [a@1 i="3\\]"][b@1] go', 8.0, "", 5, "go"),
        ("107 <14>1 2026-11-26T15:32:08+01:00 plc-1 app 1 - - go", 8.0, "plc-1", 6, "go"),
        # RFC 3164 and what daemons make of it.
        ("<34>Nov 26 14:32:08 plc-1 su: 'su root' failed", 8.0, "plc-1", 2, "'su root' failed"),
        ("Nov 26 14:32:08 plc-1 app[112]: go", 8.0, "plc-1", -1, "go"),
        ("Nov 26 2026 14:32:08 plc-1 app: WARN go", 8.0, "plc-1", 4, "WARN go"),
        ("Nov 26 14:32:08 10.0.0.7 link changed", 8.0, "10.0.0.7", -1, "link changed"),
        ("<189>31: *Nov 26 14:32:08.500: %LINK-3-UPDOWN: Fa0/1 down", 8.5, "", 5, "%LINK-3-UPDOWN: Fa0/1 down"),
        ("Nov 26 14:32:08 10.0.0.7 31: %LINK-3-UPDOWN: Fa0/1 down", 8.0, "10.0.0.7", 3, "%LINK-3-UPDOWN: Fa0/1 down"),
        # ISO times: rsyslog, journalctl, an application's own.
        ("2026-11-26T15:32:08.250000+01:00 plc-1 app[1]: [ERROR] go", 8.25, "plc-1", 3, "[ERROR] go"),
        ("2026-11-26 14:32:08,125 WARNING modbus: go", 8.125, "", 4, "WARNING modbus: go"),
        ("1795703528.5 plc-1 app: fatal: go", 8.5, "plc-1", 2, "fatal: go"),
        # Repetitions are in the table below; a date that is none tells no time.
        ("Feb 31 14:32:08 plc-1 app: go", None, "", -1, ""),
        ("Traceback (most recent call last):", None, "", -1, ""),
    ],
)  # fmt: skip
def test_a_line_of_every_form(line: str, second: float | None, host: str, severity: int, text: str):
    read = parse_lines([line], START, known={"plc-1"})
    if second is None:
        assert (len(read.table), read.continued) == (0, 1)
        return
    row = read.table.iloc[0]
    assert (round(row["ts"] - START, 6), row["host"], row["severity"]) == (second, host, severity)
    assert read.texts.to_pylist() == [text]


def test_a_year_is_the_nearest_one_and_a_told_year_stays():
    new_year = pd.Timestamp("2026-01-01 00:05:00", tz="UTC").timestamp()
    lines = ["Dec 31 23:59:59 a b: c", "Jan  1 00:00:01 a b: c", "Dec 31 2020 23:59:59 a b: c"]
    read = parse_lines(lines, new_year).table["ts"] - new_year
    assert read.round().tolist()[:2] == [-301, -299]
    assert pd.Timestamp(read.iloc[2] + new_year, unit="s").year == 2020


def test_repeated_messages_count_as_often_as_they_came():
    lines = [
        "Nov 26 14:32:08 a app: one", "Nov 26 14:32:08 b app: other",
        "Nov 26 14:32:09 a last message repeated 3 times",
        "Nov 26 14:32:09 a rsyslogd: message repeated 4 times: [ two]",
        "Nov 26 14:32:09 a app: three (repeated 5 times)",
    ]  # fmt: skip
    read = parse_lines(lines, START, known={"a"})
    assert read.table["count"].tolist() == [1, 1, 3, 4, 6]
    assert read.texts.to_pylist() == ["one", "other", "one", "two", "three"]


def test_a_journal_is_read_entry_by_entry():
    entry = "__CURSOR=s\n__REALTIME_TIMESTAMP=1795703528003000\n_HOSTNAME=plc-1\nPRIORITY=3\nMESSAGE=go\n\n"
    broken = "__CURSOR=s\n_HOSTNAME=plc-1\nMESSAGE=no time\n\n"
    read = parse_lines((entry + broken + entry).split("\n"), START)
    assert read.table[["ts", "host", "severity"]].drop_duplicates().to_numpy().tolist() == [
        [1795703528.003, "plc-1", 3]
    ]
    assert (len(read.table), read.continued) == (2, 1)


def test_lines_that_differ_in_numbers_are_one_kind():
    templates = Templates()
    said = ["poll of plc-2 failed after 41 ms", "poll of plc-13 failed after 7 ms", "went up"]
    assert templates.number(pa.array(said)).tolist() == [2, 2, 1]
    assert templates.words()[2] == "poll of plc-<*> failed after <*> ms"
    assert templates.failing() == {2}


def test_a_failure_is_a_kind_of_its_own_however_alike_the_lines_are():
    templates = Templates()
    said = [
        "connection to broker a opened",
        "connection to broker a refused",
        "connection to broker b opened",
    ]
    assert templates.number(pa.array(said)).tolist() == [1, 2, 1]
    assert templates.words() == {
        1: "connection to broker <*> opened",
        2: "connection to broker a refused",
    }
    assert templates.failing() == {2}


def test_kinds_are_bounded_whoever_writes():
    letters = "abcdefghijklmn"
    lines = [f"{x}{y}{z}w" for x in letters for y in letters for z in letters]
    templates = Templates()
    numbers = templates.number(pa.array(lines * 2))
    assert len(set(numbers)) == MOST_TEMPLATES + 1
    assert templates.beyond == int((numbers == REST).sum()) == 2 * (14**3 - MOST_TEMPLATES)


@given(st.lists(st.text(max_size=40), max_size=20))
def test_any_text_is_read_or_counted(lines: list[str]):
    lines = [line.replace("\n", " ") for line in lines]
    read = parse_lines(lines, START)
    assert np.isfinite(read.table["ts"]).all()
    blank = sum(not line.strip() for line in lines)
    assert len(read.table) + read.continued + blank >= len(lines)
    assert len(Templates().number(read.texts)) == len(read.table)


# ---- Clocks ----

MOMENTS = START + np.cumsum(np.random.default_rng(1).uniform(20, 70, 30))


def named_lines(moments: np.ndarray, ahead_s: float) -> pd.DataFrame:
    """A line per moment, its fraction cut off as syslog does."""
    return pd.DataFrame({"ts": np.floor(moments + ahead_s), "peer": PLC, "port": -1})


@pytest.mark.parametrize("ahead_s", [0.0, 3600.0, -7200.0, 437.0, 20700.0])
def test_a_clock_is_known_by_the_traffic_that_lines_name(ahead_s: float):
    traffic = list_traffic(capture(*(flow(ts, DEVICE, PLC, 502) for ts in MOMENTS)).flows, DEVICE)
    found = estimate_offset(named_lines(MOMENTS, ahead_s), traffic, START, MOMENTS[-1] + 10)
    assert abs(found.offset_s - ahead_s) <= 1
    assert found.matched >= 28
    other = named_lines(MOMENTS, ahead_s).assign(peer=CLOUD)
    assert np.isnan(estimate_offset(other, traffic, START, MOMENTS[-1] + 10).offset_s)


@pytest.mark.parametrize(
    "moments",
    [
        pytest.param(START + np.random.default_rng(2).uniform(0, 1200, 40), id="other times"),
        pytest.param(np.full(30, MOMENTS[7]), id="one moment, many lines"),
        pytest.param(MOMENTS[:3], id="too few"),
    ],
)
def test_a_clock_is_not_guessed(moments: np.ndarray):
    traffic = list_traffic(capture(*(flow(ts, DEVICE, PLC, 502) for ts in MOMENTS)).flows, DEVICE)
    assert str(estimate_offset(named_lines(moments, 0.0), traffic, START, MOMENTS[-1])) == str(
        ClockOffset()
    )


def test_polls_every_ten_seconds_tell_no_clock():
    beats = START + 10.0 * np.arange(120)
    traffic = list_traffic(capture(*(flow(ts, DEVICE, PLC, 502) for ts in beats)).flows, DEVICE)
    found = estimate_offset(named_lines(beats[::3], 3600.0), traffic, START, beats[-1])
    assert np.isnan(found.offset_s)


# ---- Whole files ----


def calm(minutes: int, host: str = "plc-1") -> list[str]:
    """Three lines a minute from START on."""
    return [
        f"{pd.Timestamp(START + 20 * n, unit='s').isoformat()}Z {host} app: cycle {n} took {n % 7} ms"
        for n in range(3 * minutes)
    ]


def at(second: float, text: str, host: str = "plc-1") -> str:
    return f"{pd.Timestamp(START + second, unit='s').isoformat()}Z {host} app: {text}"


def gather(tmp_path: Path, *lines: str, minutes: int = 20, **more: object) -> DeviceRecords:
    path = tmp_path / "plant.log"
    path.write_text("\n".join(lines) + "\n")
    made = capture(*(flow(START + 5.0 * n, DEVICE, PLC, 502) for n in range(12 * minutes)))
    return gather_records(made, PLANT, [RecordFile(path)], **more)  # type: ignore[arg-type]


def test_a_new_kind_of_line_and_its_past(tmp_path: Path):
    failures = [at(900 + n, f"poll failed after {10 + n} ms") for n in range(42)]
    found = gather(tmp_path, *calm(20), *failures).log_findings
    row = found.iloc[0]
    assert (len(found), row["kind"], row["device"], row["complains"]) == (1, "new", PLC, True)
    assert (row["start_s"] - START, row["end_s"] - START, row["count"]) == (900, 941, 42)
    assert (row["before_s"], row["first_line"], row["last_line"]) == (900, 61, 102)
    assert (row["low"], row["typical"], row["high"]) == (10, 30.5, 51)


@pytest.mark.parametrize(
    ("extra", "found"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([at(30 + n, "poll failed") for n in range(42)], [], id="while the log is learned"),
        pytest.param(
            [at(60 * m, "poll failed") for m in range(20)] + [at(901 + n / 2, "poll failed") for n in range(80)],
            [("burst", 81, 1.0)],  # the minute's own line too
            id="far more than usual",
        ),
        pytest.param(
            [at(300 * m + n, "poll failed") for m in range(4) for n in range(30)], [], id="a habit",
        ),
    ],
)  # fmt: skip
def test_more_lines_than_usual(tmp_path: Path, extra: list[str], found: list[tuple]):
    table = gather(tmp_path, *calm(20), *extra).log_findings
    assert [(r.kind, r.count, r.usual_per_min) for r in table.itertuples()] == [
        (kind, count, pytest.approx(usual)) for kind, count, usual in found
    ]


def test_severity_wins_over_words(tmp_path: Path):
    lines = ["<14>" + at(900, "backup finished, error count 0"), "<11>" + at(905, "we go on")]
    found = gather(tmp_path, *calm(20), *lines).log_findings
    assert dict(zip(found["severity"], found["complains"], strict=True)) == {6: False, 3: True}


def test_lines_are_counted_by_device(tmp_path: Path):
    records = gather(
        tmp_path, *calm(1), *calm(1, "sensor-1"), at(21, "up"), at(5, "stranger", "nobody")
    )
    assert records.logs.set_index("device")["lines"].to_dict() == {"": 1, DEVICE: 3, PLC: 4}
    assert "1 lines of plant.log name no device" in " ".join(records.notes)


def test_a_wrong_clock_is_taken_off(tmp_path: Path):
    lines = [at(ts - START + 3600, "session with sensor-1 opened") for ts in MOMENTS]
    path = tmp_path / "plc.log"
    path.write_text("\n".join(lines))
    made = capture(*(flow(ts, DEVICE, PLC, 502) for ts in MOMENTS))
    records = gather_records(made, PLANT, [RecordFile(path)])
    row = records.logs.iloc[0]
    assert (row["offset_s"], row["device"], row["lines"]) == (pytest.approx(3600, abs=1), PLC, 30)
    assert abs(row["start_s"] - MOMENTS[0]) <= 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"\x7fELF\x00\x00\x01" * 99, "no text", id="binary"),
        pytest.param(b"", "0 of its first 0 lines", id="empty"),
        pytest.param(b"hello\nworld\n" * 9, "0 of its first 18 lines", id="prose"),
        pytest.param(
            gzip.compress(b"x" * 9999)[:12], "cannot be read", id="no gzip but its header"
        ),
        pytest.param(gzip.compress(b"x" * 9999)[:40], "0 of its first 0", id="half a gzip"),
    ],
)
def test_what_is_no_log_is_refused_in_one_line(tmp_path: Path, content: bytes, says: str):
    path = tmp_path / "x.log"
    path.write_bytes(content)
    assert not is_log(path, START)
    with pytest.raises(UserError, match=says):
        gather_records(capture(flow(START, DEVICE, PLC, 502)), PLANT, [RecordFile(path)])


@pytest.mark.parametrize(
    ("change", "note", "lines"),
    [
        pytest.param(lambda t: t + b"x" * 1_000_000 + b"\n", "1 lines were longer", 60, id="1 MB line"),
        pytest.param(lambda t: t + at(50, "W\u00e4rme").encode("latin-1"), "read as Latin-1", 61, id="Latin-1"),
        pytest.param(lambda t: t.decode().encode("utf-16"), "", 60, id="UTF-16"),
        pytest.param(lambda t: gzip.compress(t), "", 60, id="gzip"),
        pytest.param(lambda t: t.replace(b"\n", b"\r\n"), "", 60, id="CR LF"),
        pytest.param(lambda t: t + b"  at main()\n" * 3, "3 of 63 lines tell no time", 60, id="a trace"),
    ],
)  # fmt: skip
def test_odd_files_are_read_as_far_as_they_are_good(tmp_path: Path, change, note: str, lines: int):
    path = tmp_path / "x.log"
    path.write_bytes(change(("\n".join(calm(20)) + "\n").encode()))
    made = capture(*(flow(START + 5.0 * n, DEVICE, PLC, 502) for n in range(240)))
    records = gather_records(made, PLANT, [RecordFile(path)])
    assert records.logs["lines"].sum() == lines
    assert note in " ".join(records.notes)
    assert len(records.templates["words"].max()) <= MOST_CHARS


def test_a_log_of_another_time_is_told_with_what_would_explain_it(tmp_path: Path):
    later = [line.replace("T14", "T16") for line in calm(20)]
    notes = " ".join(gather(tmp_path, *later).notes)
    assert "nothing in plant.log falls into the capture's time" in notes
    assert "2 h ahead" in notes


def test_whose_a_file_is_may_be_said(tmp_path: Path):
    path = tmp_path / "app.log"
    path.write_text("2026-11-26 14:32:08,125 INFO up\n" * 5)
    made = capture(flow(START, DEVICE, PLC, 502))
    assert gather_records(made, PLANT, [parse_source(f"plc-1={path}")]).logs["device"].item() == PLC
    assert parse_source(str(path)) == RecordFile(path)
    with pytest.raises(UserError, match="'plc-9' is no device"):
        gather_records(made, PLANT, [RecordFile(path, "plc-9")])
    with pytest.raises(UserError, match="does not exist"):
        gather_records(made, PLANT, [RecordFile(tmp_path / "none")])


def test_logs_beside_a_capture_are_known_by_content(tmp_path: Path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "anything.bin").write_text("\n".join(calm(20)))
    (tmp_path / "conn.log").write_text("#separator \\x09\n#fields\tts\tuid\n1795703528.1\tC1\n")
    (tmp_path / "readings").write_text(
        "".join(f"{START + n},sensor-1,{n % 5}\n" for n in range(50))
    )
    (tmp_path / "notes.txt").write_text("nothing of this kind\n" * 9)
    records = gather_records(capture(flow(START, DEVICE, PLC, 502)), PLANT, beside=tmp_path)
    assert records.logs["source"].tolist() == ["anything.bin"]
    assert records.sensors["device"].tolist() == [DEVICE]
    assert "were read too: readings, anything.bin." in records.notes[0]
