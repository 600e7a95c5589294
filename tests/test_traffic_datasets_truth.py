"""truth.json and a user's CSV of intervals: what is written is read back, and every mistake is said
with its place."""

import json
from pathlib import Path

import pytest

from traffic.datasets.truth import (
    Interval,
    Truth,
    make_intervals,
    read_intervals,
    read_truth,
    write_truth,
)
from traffic.errors import UserError

PLC, HMI = "10.20.0.5", "10.20.0.6"
LOSS = {
    "device": PLC, "direction": "source", "label": "packet_loss", "kind": "packet_loss",
    "cause": "the cable of 10.20.0.5 loses 12 % of its packets", "parameters": {"share": 0.12, "ways": ["in", "out"]},
    "root": PLC, "start_s": 1060.0, "end_s": 1120.0,
}  # fmt: skip
RUN = {
    "version": 1, "seed": 7, "start_s": 1000.0, "end_s": 1900.0, "complete": True, "made_by": "a test",
}  # fmt: skip


def written(folder: Path, *intervals: dict, **run: object) -> Path:
    path = folder / "truth.json"
    path.write_text(json.dumps({**RUN, "intervals": list(intervals), **run}), encoding="utf-8")
    return path


def message(path: Path, *capture: float) -> str:
    with pytest.raises(UserError) as caught:
        read_truth(path, *capture)
    assert "\n" not in str(caught.value)
    assert str(caught.value).count("; ") >= 2  # what is wrong; what was expected; what to do
    return str(caught.value)


def test_what_is_written_is_read_back(tmp_path):
    truth = Truth(**RUN, intervals=(Interval(**LOSS),))
    write_truth(truth, tmp_path / "truth.json")
    assert read_truth(tmp_path / "truth.json", 1000.0, 1900.0) == truth
    row = [PLC, 1060.0, 1120.0, "packet_loss", "source", LOSS["cause"]]
    assert make_intervals(truth.intervals).to_numpy().tolist() == [row]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": "ddoss"}, ".label is 'ddoss'; expected one of normal, recon, dos"),
        ({"labels": "dos"}, ".labels is no known key"),
        ({"direction": "both"}, ".direction is 'both'; expected 'source', 'target' or ''"),
        ({"device": "plc-1"}, ".device is 'plc-1'; expected an IP address"),
        ({"root": "10.20.0.500"}, ".root is '10.20.0.500'; expected an IP address"),
        ({"start_s": "soon"}, ".start_s is 'soon'"),
        ({"end_s": 1060.0}, " ends at 1060.0 and starts at 1060.0; expected an end after the"),
        ({"end_s": 1900.5}, " lasts from 1060.0 to 1900.5; expected within the run, 1000.0 to"),
    ],
)
def test_a_wrong_value_is_said_with_its_place(tmp_path, change, words):
    assert f"intervals[0]{words}" in message(written(tmp_path, {**LOSS, **change}))


def test_several_mistakes_are_counted(tmp_path):
    path = written(tmp_path, {**LOSS, "label": "x"}, {**LOSS, "label": "y"}, {**LOSS, "kind": ""})
    assert "intervals[0].label is 'x'" in message(path)
    assert "(and 2 more mistakes)" in message(path)


def test_a_missing_key_is_named(tmp_path):
    path = written(tmp_path, {key: value for key, value in LOSS.items() if key != "root"})
    assert "intervals[0].root is missing; expected it; correct the file" in message(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"version": 1,', "it is not JSON (EOF while parsing"),
        ("", "it is not JSON"),
        ("[1]", "it is [1]; expected"),
    ],
)
def test_what_is_no_json_object_is_said(tmp_path, text, words):
    path = tmp_path / "truth.json"
    path.write_text(text, encoding="utf-8")
    assert words in message(path)


def test_a_capture_without_truth_is_said(tmp_path):
    missing = message(tmp_path / "truth.json")
    assert "truth.json cannot be read (No such file or directory)" in missing


def test_an_incomplete_run_is_used_only_knowingly(tmp_path):
    path = written(tmp_path, LOSS, complete=False)
    assert "complete is false, the run broke off; expected a whole run" in message(path)
    assert len(read_truth(path, allow_incomplete=True).intervals) == 1


def test_truth_of_another_time_than_the_capture_is_refused(tmp_path):
    path = written(tmp_path, LOSS)
    read_truth(path, 1069.0, 1111.0)  # a sample's width is no contradiction
    late = message(path, 1071.0, 1900.0)
    assert "intervals[0] lasts from 1060.0 to 1120.0; expected within the capture" in late
    assert "expected within the capture, 990.0 to 1119.0" in message(path, 1000.0, 1109.0)


def test_one_device_has_one_truth_at_a_time(tmp_path):
    scan = {**LOSS, "label": "recon", "kind": "nmap_syn", "direction": "target", "root": HMI}
    two = message(written(tmp_path, LOSS, {**scan, "start_s": 1100.0, "end_s": 1200.0}))
    both = "intervals[0] (packet_loss) and intervals[1] (recon) of 10.20.0.5"
    assert f"{both} overlap from 1100.0 to 1120.0" in two
    # Another event of the same label is another truth, too; it is found behind an interval that is
    # long over.
    again = {**LOSS, "root": HMI, "start_s": 1119.0, "end_s": 1300.0}
    short = {**LOSS, "start_s": 1000.0, "end_s": 1010.0}
    path = written(tmp_path, short, LOSS, again)
    assert "intervals[1] (packet_loss) and intervals[2]" in message(path)


@pytest.mark.parametrize(
    "change",
    [
        {"start_s": 1120.0, "end_s": 1130.0, "label": "recon"},  # one after the other
        {"device": HMI, "label": "recon"},  # another device
        {"label": "normal", "kind": "backup"},  # a routine meanwhile
        {"start_s": 1100.0, "end_s": 1150.0},  # the same, told twice
    ],
)
def test_what_contradicts_nothing_is_read(tmp_path, change):
    assert len(read_truth(written(tmp_path, LOSS, {**LOSS, **change})).intervals) == 2


def table(folder: Path, *lines: str) -> Path:
    path = folder / "line3.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_csv_takes_seconds_and_iso_times(tmp_path):
    path = table(
        tmp_path,
        "device,start_s,end_s,label,direction,cause",
        '10.20.0.5,60,120,packet_loss,source,"a bad plug, replaced"',
        "",
        " 10.20.0.6 ,1970-01-01T00:02:00,1970-01-01T02:03:00+02:00,dos,target,",
    )
    assert read_intervals(path, 60.0, 180.0).to_numpy().tolist() == [
        [PLC, 60.0, 120.0, "packet_loss", "source", "a bad plug, replaced"],
        [HMI, 120.0, 180.0, "dos", "target", ""],
    ]


def test_a_csv_of_a_header_alone_says_that_nothing_happened(tmp_path):
    assert read_intervals(table(tmp_path, "device,start_s,end_s,label")).empty


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["", "10.20.0.5,1,2,scan"], "line 3: label is 'scan'; expected one of normal"),
        (["10.20.0.5,1,2"], "line 2 has 3 fields; expected 4"),
        (["10.20.0.5,noon,2,dos"], "line 2: start_s is 'noon'; expected seconds since"),
        (["10.20.0.5,nan,2,dos"], "line 2: start_s is nan"),
        (["10.20.0.5,3,2,dos"], "line 2 ends at 2.0 and starts at 3.0"),
        (
            ["10.20.0.5,1,9,dos", "", "10.20.0.5,8,12,recon"],
            "line 2 (dos) and line 4 (recon) of 10.20.0.5 overlap from 8.0 to 9.0",
        ),
        (["10.20.0.5,500,600,dos"], "line 2 lasts from 500.0 to 600.0; expected within"),
    ],
)
def test_a_mistake_in_a_csv_is_said_with_its_line(tmp_path, rows, words):
    with pytest.raises(UserError) as caught:
        read_intervals(table(tmp_path, "device,start_s,end_s,label", *rows), 0.0, 100.0)
    assert words in str(caught.value)
    assert str(caught.value).count("; ") >= 2


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("device,start,end,label", "device, start, end, label; expected device, start_s, end_s"),
        ("", "no column"),
    ],
)
def test_a_header_of_other_columns_is_refused(tmp_path, header, words):
    with pytest.raises(UserError, match=f"line 1 names {words}"):
        read_intervals(table(tmp_path, header))
