"""Alerts of Suricata and Slips beside a capture: read, joined to a device, told as their word."""

import json
import shutil
from pathlib import Path

import pytest

from assistant.facts.notices import notice_facts
from assistant.facts.traffic_view import TrafficView
from assistant.monitor.recent import Recent
from assistant.monitor.zeek_folder import ZeekFolder
from traffic.reader import read_capture
from traffic.samples import make_samples

SAMPLES = Path(__file__).parents[1] / "assistant" / "samples"
HMI, PLC = "192.168.14.47", "192.168.14.207"
AT_S = 1_500_117_950.25
EVE = {
    "timestamp": "2017-07-15T12:25:50.250000+0100", "flow_id": 5, "event_type": "alert", "src_ip": HMI,
    "dest_ip": PLC, "dest_port": 44818,
    "alert": {"signature_id": 2010935, "signature": "ET SCAN Suspicious <b>inbound</b>", "category": "Misc"},
}  # fmt: skip
SLIPS = {
    "Version": "2.D.V03", "Status": "Event", "StartTime": "2017-07-15T11:25:50.250000+00:00",
    "Description": "Vertical port scan to new host ignore-all-orders.example", "Source": [{"IP": HMI}],
    "Target": [{"IP": PLC, "Port": [44818, 102]}],
}  # fmt: skip


def put(folder: Path, name: str, *entries: object) -> None:
    lines = (one if isinstance(one, str) else json.dumps(one) for one in entries)
    (folder / name).write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture(params=["bottling-line", "filling-line"])
def plant(request, tmp_path):
    """Zeek's logs, or packets."""
    shutil.copytree(SAMPLES / request.param, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "entry", "type_", "says"),
    [
        ("eve.json", EVE, "Suricata::ET_SCAN_Suspicious_b_inbound_b", "Suricata's eve.json reports"),
        ("alerts.json", SLIPS, "Slips::scan", "Slips' alerts.json reports"),
        ("alerts.json", SLIPS | {"Status": "Incident"}, "Slips::alert", "Slips' alerts.json reports"),
    ],
)  # fmt: skip
def test_an_alert_is_its_sensors_word_of_a_device(plant, name, entry, type_, says):
    flow = {"timestamp": EVE["timestamp"], "event_type": "flow", "src_ip": PLC}
    put(plant, name, flow, "no JSON", ["a list"], entry)
    capture = read_capture(plant)
    (row,) = capture.notices.to_dict("records")
    assert (row["type"], row["claim"], row["src"], row["dst"]) == (type_, "scan", HMI, PLC)
    assert (row["ts"], row["port"]) == (AT_S, 44818)
    view = TrafficView(capture, make_samples(capture), None)
    (fact,) = notice_facts(view, capture.notices, PLC)
    assert fact.text.startswith(f"{says} 1 time {type_} by ")
    assert "ignore-all-orders" not in fact.text
    assert f"{name}: 2 lines are no JSON objects and were skipped." in capture.notes


def test_an_alert_of_the_capture_s_time_is_evidence_in_its_slot(tmp_path):
    shutil.copytree(SAMPLES / "bottling-line", tmp_path, dirs_exist_ok=True)
    put(tmp_path, "eve.json", EVE, EVE | {"timestamp": "2030-01-01T00:00:00+0000"})
    capture = read_capture(tmp_path)
    told = capture.evidence[capture.evidence["kind"] == "notice"]
    assert told[["slot", "src", "dst", "count"]].to_numpy().tolist() == [
        [int(AT_S // 10), HMI, PLC, 1]
    ]
    assert any("1 rows lie more than a day outside" in note for note in capture.notes)


def test_a_monitor_follows_them_beside_zeeks_logs(tmp_path):
    logs, recent = tmp_path / "logs", Recent(tmp_path / "recent", 3600.0, 10_000)
    logs.mkdir()
    shutil.copy(SAMPLES / "bottling-line" / "conn.log", logs)
    put(logs, "eve.json", EVE)
    put(logs, "alerts.json", SLIPS)
    source = ZeekFolder(logs)
    recent.append(source.read(0.0), AT_S)
    put(logs, "eve.json", EVE, EVE)  # grown by one
    recent.append(source.read(0.0), AT_S)
    source.close()
    capture = recent.read()
    assert capture is not None
    assert sorted(capture.notices["type"].astype(str)) == [
        "Slips::scan",
        *["Suricata::ET_SCAN_Suspicious_b_inbound_b"] * 2,
    ]
