"""A short run of the emulated plant, with real packets; and runs that break off."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from assistant.cli.testbed import app
from eval.testbed.host import DEBIAN, check_host
from eval.testbed.record import record, record_series, see_through_sensor
from eval.testbed.sensor import Frame, read_frames, write_frames
from traffic.datasets.truth import Truth, read_truth, write_truth
from traffic.errors import UserError
from traffic.plant import load_plant
from traffic.reader import read_capture


@pytest.fixture(scope="module")
def _lab() -> None:
    try:
        check_host()
    except UserError as reason:
        pytest.skip(str(reason))


def descendants(pid: int) -> list[int]:
    """Every process below one, deepest last."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *descendants(child)]
    return found


def start(out: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "assistant.cli", "testbed", "record", "--seed", "3"]
    given = ["--minutes", "5", "--out", str(out)]
    return subprocess.Popen([*command, *given], stderr=subprocess.DEVNULL)


def wait_for(path: Path, longer_than: int) -> None:
    until = time.monotonic() + 90
    while not (path.is_file() and path.stat().st_size > longer_than):
        assert time.monotonic() < until, f"{path} did not grow"
        time.sleep(0.5)


def namespaces() -> str:
    command = ["ip", "netns", "list"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.usefixtures("_lab")
def test_a_short_run_is_whole_and_leaves_nothing_behind(tmp_path: Path) -> None:
    before = namespaces()
    out = tmp_path / "run"
    assert record(2, 0.6, out, kinds=["service_crashed"]) == 0
    capture, plant = read_capture(out / "capture.pcap"), load_plant(out / "plant.yaml")
    times = capture.flows["ts"]
    truth = read_truth(out / "truth.json", float(times.min()), float(times.max()) + 60)
    assert truth.complete
    # What may show it or is finding back afterwards is unknown.
    assert {interval.label for interval in truth.intervals} == {"service_down", "unknown"}
    known = {device.address for device in plant.devices}
    assert {interval.device for interval in truth.intervals} <= known
    assert {"modbus", "dns"} <= set(capture.flows["service"].dropna())
    # Sessions with the broker began before the capture did.
    assert 1883 in set(capture.flows["id.resp_p"])
    refused = capture.flows[capture.flows["conn_state"] == "REJ"]
    # The kernel of the crashed machine refuses.
    assert truth.intervals[0].root in set(refused["id.resp_h"])
    if shutil.which("tshark"):
        malformed = ["tshark", "-r", str(out / "capture.pcap"), "-Y", "_ws.malformed"]
        assert subprocess.run(malformed, capture_output=True, check=True).stdout == b""
    assert namespaces() == before


@pytest.mark.usefixtures("_lab")
@pytest.mark.parametrize("how", ["interrupted", "a program dies"])
def test_a_run_that_breaks_off_says_so_and_leaves_nothing_behind(tmp_path: Path, how: str) -> None:
    out = tmp_path / "run"
    run = start(out)
    wait_for(out / "capture.pcap", 100_000)
    inside = descendants(run.pid)
    if how == "interrupted":
        os.kill(run.pid, signal.SIGINT)
    else:
        names = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in inside}
        os.kill(next(pid for pid, name in names.items() if name == "mosquitto"), signal.SIGKILL)
    assert run.wait(60) == 1
    assert not read_truth(out / "truth.json", allow_incomplete=True).complete
    with pytest.raises(UserError, match="complete is false"):
        read_truth(out / "truth.json")
    assert not [pid for pid in inside if Path(f"/proc/{pid}").exists()]


def test_a_folder_that_is_there_and_an_unknown_event_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists already"):
        record(1, 1.0, tmp_path)
    with pytest.raises(UserError, match="no event is called earthquake; expected some of"):
        record(1, 1.0, tmp_path / "run", kinds=["earthquake"])
    with pytest.raises(
        UserError, match="no degradation is called rain; expected some of mirror_one"
    ):
        record(1, 1.0, tmp_path / "run", sensors=["mirror_both", "rain"])


def test_a_run_is_seen_through_its_sensor_and_its_truth_says_so(tmp_path: Path) -> None:
    frames = [Frame(10**6 * second, bytes([second] * 60), 60) for second in range(3)]
    write_frames(tmp_path / "capture.pcap", frames)
    truth = Truth(seed=1, start_s=0.0, end_s=60.0, complete=True, made_by="a test", intervals=())
    write_truth(truth, tmp_path / "truth.json")
    see_through_sensor(tmp_path, ["mirror_both", "snaplen_54"], 1)
    assert read_frames(tmp_path / "switch.pcap") == frames
    seen = read_frames(tmp_path / "capture.pcap")
    assert [(len(one.raw), one.length) for one in seen] == [(54, 60)] * 6
    made_by = "a test, seen through mirror_both, snaplen_54"
    assert read_truth(tmp_path / "truth.json") == truth.model_copy(update={"made_by": made_by})


def test_a_series_keeps_whole_runs(tmp_path: Path) -> None:
    (tmp_path / "run-7").mkdir()
    whole = Truth(seed=7, start_s=0.0, end_s=60.0, complete=True, made_by="a test", intervals=())
    write_truth(whole, tmp_path / "run-7" / "truth.json")
    (run,) = record_series([7], 1.0, tmp_path)
    assert (run.folder.name, run.complete, run.remade) == ("run-7", True, False)


def test_the_manual_names_every_command_and_what_debian_has_to_give() -> None:
    manual = Path(__file__).resolve().parents[1] / "docs" / "testbed.md"
    text = manual.read_text(encoding="utf-8")
    assert f"\napt-get install -y {DEBIAN}\n" in text
    named = set(re.findall(r"faultwise testbed (\w+)", text))
    assert named == {command.callback.__name__ for command in app.registered_commands}
