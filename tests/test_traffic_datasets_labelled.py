"""Labelled captures of every form, real and simulated."""

import json
import logging
import shutil
from pathlib import Path

import pytest
from frames import CLIENT, SERVER, client, ethernet, server, tcp_packet, udp_packet, write_pcap

from traffic.datasets import find_labelled, load_labelled, name_capture, simulate_labelled
from traffic.errors import UserError
from traffic.labels import CIC_IOMT, LABELS
from traffic.simulation.simulate import simulate, write_simulation

START_S = 1_700_000_000.0


def told(path: Path) -> dict[tuple[str, str, str], int]:
    """How many windows of each device, label and direction."""
    table = load_labelled(path).windows.table
    return table.groupby(["device", "label", "direction"]).size().to_dict()


def poll(first_s: float, last_s: float) -> list:
    """A client that asks every two seconds over one connection, and is answered."""
    frames, seq, at = [client(first_s, "S"), server(first_s + 0.01, "SA")], 1, first_s + 1
    while at < last_s:
        frames += [client(at, "AP", seq, b"x" * 10), server(at + 0.01, "AP", seq, b"y" * 10)]
        seq, at = seq + 10, at + 2
    return frames


def flood(first_s: float, n: int, src: str = "10.9.9.9") -> list:
    syns = (tcp_packet("S", src=src, sport=1024 + i) for i in range(n))
    return [(first_s + i * 0.1, ethernet(syn)) for i, syn in enumerate(syns)]


def test_a_healthy_honeypot_is_normal_throughout(shared):
    labelled = load_labelled(shared / "data/iot23/honeypot-5-1/conn.log.labeled")
    assert labelled.name == "honeypot-5-1"
    assert set(labelled.windows.table["label"]) == {"normal"}
    assert labelled.unknown == 0


def test_corrections_turn_scans_that_were_floods_into_floods(shared):
    path = shared / "data/iot23/34-1/conn.log.labeled"
    published, corrected = (
        load_labelled(path, corrected).windows.table["label"] for corrected in (False, True)
    )
    assert {"recon", "c2", "ddos", "normal"} == set(published)
    assert {"c2", "ddos", "normal"} == set(corrected)


def test_the_folder_s_name_changes_nothing(shared, tmp_path):
    path = shared / "data/iot23/44-1/conn.log.labeled"
    other = tmp_path / "benign-traffic" / "conn.log.labeled"
    other.parent.mkdir()
    shutil.copy(path, other)
    assert find_labelled(tmp_path) == [other]
    assert load_labelled(other).windows.table.equals(load_labelled(path).windows.table)


def test_every_real_capture_with_truth_is_found_and_the_others_are_named(shared, caplog):
    with caplog.at_level(logging.WARNING):
        names = sorted(map(name_capture, find_labelled(shared / "data")))
    iot23 = ["20-1", "34-1", "44-1", "honeypot-4-1", "honeypot-5-1"]
    assert [name for name in names if "modbus" not in name] == iot23
    assert len(names) == 7
    assert "captures have no truth and are left out" in caplog.text
    assert all(path.name in caplog.text for path in (shared / "data" / "quickdraw").glob("*.pcap"))


def test_packets_of_the_sandbox_mark_who_sent_and_who_got_them(shared):
    upload, sweep = sorted((shared / "data/modbus").glob("*.pcap"))
    counts = told(sweep)
    attacks = {key[:3] for key in counts if key[1] != "normal"}
    assert attacks == {("192.168.1.101", "recon", "source"), ("192.168.1.104", "recon", "target")}
    assert counts["192.168.1.100", "normal", ""] == 29  # the master polls on and is not concerned
    pivots = {key[0] for key in told(upload) if key[1] == "c2"}
    assert pivots == {"192.168.1.100", "192.168.1.101", "192.168.1.104", "192.168.1.105"}


def sandbox(folder: Path, *marks: str) -> Path:
    frames = [*poll(START_S, START_S + 60)]
    path = write_pcap(folder / "characterization_small.pcap", frames)
    late = [f"{i};{int(ts >= START_S + 30)}" for i, (ts, _) in enumerate(frames, 1)]
    text = "\r\n".join(marks or late) + "\r\n"
    (folder / "characterization_small_labeled.csv").write_text(text)
    return path


def test_a_packet_marks_its_slot_alone(tmp_path):
    (path,) = [sandbox(tmp_path)]
    assert find_labelled(tmp_path) == [path]
    assert told(path) == {(CLIENT, "recon", "source"): 1, (SERVER, "recon", "target"): 1}
    (tmp_path / "none").mkdir()
    quiet = sandbox(tmp_path / "none", *(f"{i + 1};0" for i in range(62)))
    assert {key[1] for key in told(quiet)} == {"normal"}


def test_a_list_of_packets_of_another_capture_is_refused(tmp_path):
    few = r"marks 2 packets; expected 0 or 1 for each of the 62 of characterization_"
    with pytest.raises(UserError, match=few):
        load_labelled(sandbox(tmp_path, "1;0", "2;1"))
    with pytest.raises(UserError, match=r"marks 62 packets; expected 0 or 1 for each"):
        load_labelled(sandbox(tmp_path, *(f"{i + 1};{i}" for i in range(62))))


def test_a_file_of_cic_iomt_is_of_the_class_its_name_says(tmp_path):
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
    for i, name in enumerate(CIC_IOMT):
        part, number = ("train", "test")[i % 2], "1" if "TCP_IP" in name else ""
        write_pcap(tmp_path / part / f"{name}{number}_{part}.pcap", poll(START_S, START_S + 70))
    found = find_labelled(tmp_path)
    assert len(found) == 19
    labels = {path: set(load_labelled(path).windows.table["label"]) for path in found}
    said = {path.stem.rsplit("_", 1)[0]: words for path, words in labels.items()}
    assert said["Benign"] == {"normal"}
    assert said["TCP_IP-DDoS-SYN1"] == said["TCP_IP-DDoS-UDP1"] == {"ddos"}
    assert said["TCP_IP-DoS-UDP1"] == {"dos"}
    assert said["Recon-Ping_Sweep"] == said["Recon-VulScan"] == {"recon"}
    assert said["MQTT-DDoS-Connect_Flood"] == said["MQTT-Malformed_Data"] == {"mqtt_abuse"}
    assert said["ARP_Spoofing"] == {"spoofing"}
    assert set().union(*said.values()) <= set(LABELS)


def run(folder: Path, *intervals: dict, **changes: object) -> Path:
    """A testbed run of three minutes: a client polls, an intruder floods the server in the second
    minute."""
    folder.mkdir()
    frames = sorted([*poll(START_S, START_S + 180), *flood(START_S + 60, 400)])
    truth = {
        "version": 1, "seed": 1, "start_s": START_S, "end_s": START_S + 180, "complete": True, "made_by": "a test",
        "intervals": [
            {"kind": "flood_syn", "cause": "10.9.9.9 floods", "parameters": {}, "root": "10.9.9.9"} | interval
            for interval in intervals
        ],
    }  # fmt: skip
    (folder / "truth.json").write_text(json.dumps({**truth, **changes}))
    (folder / "plant.yaml").write_text(f"devices:\n- {{name: plc, address: {SERVER}, role: PLC}}\n")
    return write_pcap(folder / "capture.pcap", frames)


def interval(device: str, label: str, direction: str, start: float = 60, end: float = 120) -> dict:
    times = {"start_s": START_S + start, "end_s": START_S + end}
    return {"device": device, "label": label, "direction": direction, **times}


def test_a_run_of_the_testbed_is_told_by_its_intervals(tmp_path):
    flooded, floods = interval(SERVER, "dos", "target"), interval("10.9.9.9", "dos", "source")
    path = run(tmp_path / "run-1", flooded, floods)
    assert find_labelled(tmp_path) == [path]
    labelled = load_labelled(path)
    assert labelled.name == "run-1"
    table = labelled.windows.table
    attacked = table[(table["start_s"] < START_S + 120) & (table["end_s"] > START_S + 60)]
    of_server = attacked["device"] == SERVER
    assert set(attacked.loc[of_server, "label"]) == {"dos"}
    assert set(attacked.loc[attacked["device"] == "10.9.9.9", "direction"]) == {"source"}
    assert set(table.loc[table["device"] == CLIENT, "label"]) == {"normal"}


def test_a_fault_without_a_trace_is_left_out_and_a_routine_changes_nothing(tmp_path):
    told_of = {"loss": "packet_loss", "backup": "normal"}
    loss, backup = (
        load_labelled(run(tmp_path / name, interval(CLIENT, label, "source")))
        for name, label in told_of.items()
    )
    assert set(loss.windows.table["label"]) == set(backup.windows.table["label"]) == {"normal"}
    assert loss.unknown > 0
    assert backup.unknown == 0


def test_the_truth_of_a_run_is_checked_against_its_capture(tmp_path):
    late = run(tmp_path / "late", interval(SERVER, "dos", "target", 600, 700), end_s=START_S + 900)
    beyond = r"truth\.json: intervals\[0\] lasts .*; expected within the capture"
    with pytest.raises(UserError, match=beyond):
        load_labelled(late)
    broken = run(tmp_path / "broken", complete=False)
    with pytest.raises(UserError, match="complete is false, the run broke off"):
        load_labelled(broken)


def test_two_devices_on_one_address_are_said_with_their_lines(tmp_path):
    path = run(tmp_path / "run")
    text = "devices:\n- name: a\n  address: 10.0.0.1\n- name: b\n  address: 10.0.0.1\n"
    path.with_name("plant.yaml").write_text(text)
    twice = r"plant\.yaml: lines 3 and 5: a and b have one address, 10\.0\.0\.1"
    with pytest.raises(UserError, match=twice):
        load_labelled(path)


def test_a_capture_without_its_truth_is_never_used(tmp_path, caplog):
    run(tmp_path / "whole")
    alone = run(tmp_path / "alone")
    alone.with_name("truth.json").unlink()
    with caplog.at_level(logging.WARNING):
        assert find_labelled(tmp_path) == [tmp_path / "whole" / "capture.pcap"]
    assert f"1 captures have no truth and are left out: {alone}" in caplog.text
    unknown = r"capture\.pcap has no truth that is known; expected any of .*; write its"
    with pytest.raises(UserError, match=unknown):
        load_labelled(alone)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_simulated_run_read_back_is_the_simulation(tmp_path, seed):
    write_simulation(simulate(seed, 6, 0.25), tmp_path / f"plant-{seed}")
    (path,) = find_labelled(tmp_path)
    read, made = load_labelled(path), simulate_labelled(seed, 6, 0.25)
    assert read.name == f"plant-{seed}"
    counts = [one.windows.table["label"].value_counts().to_dict() for one in (read, made)]
    assert counts[0] == counts[1]


def own(folder: Path, *rows: str) -> Path:
    lines = ["device,start_s,end_s,label,direction,cause", *rows]
    (folder / "line3.csv").write_text("\n".join(lines) + "\n")
    frames = sorted([*poll(START_S, START_S + 180), *flood(START_S + 60, 400)])
    return write_pcap(folder / "line3.pcap", frames)


def test_a_capture_of_one_s_own_is_told_by_the_csv_beside_it(tmp_path):
    path = own(tmp_path, f"{SERVER},2023-11-14T22:14:20Z,{START_S + 120},dos,target,a flood")
    assert find_labelled(tmp_path) == [path]
    labels = {(device, label) for device, label, _ in told(path)}
    normal = {(device, "normal") for device in (CLIENT, SERVER, "10.9.9.9")}
    assert labels == normal | {(SERVER, "dos")}


def test_a_mistake_in_one_s_own_csv_is_said_with_its_line(tmp_path):
    path = own(tmp_path, f"{SERVER},{START_S - 3600},{START_S - 3000},dos,target,an hour off")
    early = r"line3\.csv: line 2 lasts from .*; expected within the capture, .*; take"
    with pytest.raises(UserError, match=early):
        load_labelled(path)


def test_two_captures_of_one_name_are_refused(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        own(tmp_path / folder)
    alike = r"a/line3\.pcap and .*b/line3\.pcap are both called line3; .*; rename"
    with pytest.raises(UserError, match=alike):
        find_labelled(tmp_path)


def test_zeek_s_folder_in_iot23_names_nothing():
    name = "CTU-IoT-Malware-Capture-34-1"
    assert name_capture(Path(name) / "bro" / "conn.log.labeled") == name


def test_each_seed_is_a_capture_of_its_own():
    one, again, other = (simulate_labelled(seed, 4, 0.2) for seed in (3, 3, 4))
    assert one.windows.table.equals(again.windows.table)
    assert not one.windows.table.equals(other.windows.table)
    assert set(one.windows.table["label"]) <= set(LABELS)


def test_nothing_labelled_is_said(tmp_path):
    write_pcap(tmp_path / "some.pcap", [(START_S, ethernet(udp_packet(b"x")))])
    none = r"holds no labelled capture \(1 files searched\); expected .*; check --data"
    with pytest.raises(UserError, match=none):
        find_labelled(tmp_path)
