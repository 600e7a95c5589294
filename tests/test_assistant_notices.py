"""What Zeek itself reports beside its conn.log: who scans by its word, what it missed, what it found odd."""

import json
import re
from pathlib import Path

import pytest

from assistant.answers.answer import answer
from assistant.detection.rules import apply_rules
from assistant.facts.notices import word_type
from assistant.facts.sensor import find_blindness
from assistant.facts.traffic_view import TrafficView
from assistant.session import open_session
from assistant.settings import Settings
from traffic.reader import read_capture
from traffic.samples import make_samples

START = 1_700_000_000.0
CLIENT, SERVER, SCANNER = "10.4.0.5", "10.4.0.9", "10.4.0.77"


def _conn(n: int) -> dict:
    return {
        "ts": START + 10 * n, "uid": f"C{n}", "id.orig_h": CLIENT, "id.orig_p": 40000 + n, "id.resp_h": SERVER,
        "id.resp_p": 502, "proto": "tcp", "duration": 1.0, "orig_bytes": 100, "resp_bytes": 200, "conn_state": "SF",
        "history": "ShADadFf", "orig_pkts": 6, "orig_ip_bytes": 400, "resp_pkts": 5, "resp_ip_bytes": 500,
    }  # fmt: skip


def _notice(ts: float, note: str, src: str | None = SCANNER, **more: object) -> dict:
    return {"ts": ts, "note": note, "msg": "x"} | ({"src": src} if src else {}) | more


def _write(folder: Path, **logs: list[dict]) -> Path:
    logs = {"conn": [_conn(n) for n in range(30)], **logs}
    for name, rows in logs.items():
        (folder / f"{name}.log").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def _ask(folder: Path, question: str):
    with open_session(Settings(home=folder / "home")) as session:
        said = answer(question, session.analyse(folder))
    assert said.removed == 0, said.text
    return said


def _rules(folder: Path):
    capture = read_capture(folder)
    hits = apply_rules(TrafficView(capture, make_samples(capture)))
    return [hit for hit in hits if hit.fact.id.startswith("reported")]


@pytest.mark.parametrize(
    ("note", "label"),
    [
        ("Scan::Address_Scan", "recon"),
        ("ICMP::ICMPAddressScan", "recon"),
        ("SSH::Password_Guessing", "brute_force"),
        ("Traceroute::Detected", None),  # a tool of whoever looks for a way
        ("SSL::Invalid_Server_Cert", None),
        ("Suricata::ET_SCAN_x", None),  # another detector's word stays its word
    ],
)
def test_a_notice_that_names_a_scanner_within_the_capture_is_an_incident(tmp_path, note, label):
    rows = [_notice(START + 40, note, dst=SERVER), _notice(START + 95, note, dst=SERVER)]
    hits = _rules(_write(tmp_path, notice=rows))
    assert [(hit.label, hit.device, hit.role, hit.peers) for hit in hits] == (
        [(label, SCANNER, "source", (SERVER,))] if label else []
    )
    if hits:
        values = hits[0].fact.values
        assert (values["start_time_s"], values["end_time_s"]) == (START + 40, START + 95)


@pytest.mark.parametrize("shift_s", [-90_000.0, 90_000.0])
def test_a_notice_of_another_time_raises_nothing_and_is_told_as_such(tmp_path, shift_s):
    ts = START + shift_s
    folder = _write(tmp_path, notice=[_notice(ts, "Scan::Port_Scan", dst=SERVER, n=15)])
    assert _rules(folder) == []
    said = _ask(folder, "who scans the ports?")
    assert said.cause.startswith(
        f"{SCANNER}, by the sensor's notice.log: port scan of up to 15 ports"
    )
    assert f"against {SERVER}" in said.cause
    assert "another time" in said.cause
    assert "no connection in this capture" in said.text
    assert _ask(folder, "is anybody scanning us?").cause.startswith("Not in the connections here")
    assert SCANNER not in _ask(folder, f"is {CLIENT} scanning anybody?").cause


def test_a_scan_that_the_sensor_names_answers_who_whom_and_when(tmp_path):
    rows = [_notice(START + 40, "Scan::Address_Scan", n=n) for n in (25, 50, 75)]
    said = _ask(_write(tmp_path, notice=rows), "who scans the network?")
    assert SCANNER in said.text
    assert said.label == "recon"
    assert said.standing != "confirmed"  # it is the sensor's word
    assert re.search(r"address scan of up to 75 hosts", said.text)


def test_what_zeek_missed_keeps_it_from_an_all_clear(tmp_path):
    loss = [
        {"ts": START + 60, "gaps": 300, "acks": 1000, "percent_lost": 30.0},
        {"ts": START + 120, "gaps": 0, "acks": 3000, "percent_lost": 0.0},
    ]
    capture = read_capture(_write(tmp_path, capture_loss=loss))
    # 300 of 4,000 acknowledgements in all, 30 % in the worst interval
    assert capture.quality.lost_share == pytest.approx(300 / 4000)
    assert capture.quality.most_lost_share == pytest.approx(0.3)
    assert find_blindness(capture.quality, CLIENT, 300.0) == "drops"
    assert sum("Zeek itself missed up to 30.0 %" in note for note in capture.notes) == 1
    said = _ask(tmp_path, f"is {CLIENT} healthy?")
    assert not said.cause.startswith(("Yes", "Healthy"))


@pytest.mark.parametrize(
    "loss",
    [
        [{"ts": START, "percent_lost": 0.05}],
        [{"ts": START, "gaps": 0, "acks": 10, "percent_lost": 0.0}],
        [{"ts": START, "gaps": 0, "acks": 0}],
        [{"ts": START, "percent_lost": -4}],
        [{"ts": START, "percent_lost": "nan?"}],
    ],
)
def test_little_loss_or_a_broken_log_of_it_blinds_nobody(tmp_path, loss):
    capture = read_capture(_write(tmp_path, capture_loss=loss))
    assert find_blindness(capture.quality, CLIENT, 300.0) == ""


def test_all_that_the_sensor_says_is_told_where_it_is_asked(tmp_path):
    notices = [
        _notice(START + 5, "Scan::Address_Scan", n=25),
        _notice(START + 6, "Site::<script>alert(1)</script>", None),
    ]
    weird = [{"ts": START + 1, "name": "data_before_established"}] * 3 + [
        {"ts": START, "name": "<b>"}
    ]
    folder = _write(tmp_path, notice=notices, weird=weird)
    said = _ask(folder, "did zeek itself report anything?")
    assert said.cause.startswith("Yes: the sensor itself reports 2 notices")
    assert "3 times data_before_established" in said.text
    assert "script" not in said.text
    assert "<b>" not in said.text


def test_a_sensor_that_says_nothing_is_no_clean_bill(tmp_path):
    said = _ask(_write(tmp_path), "does notice.log say anything?")
    assert said.cause.startswith("No: no notice.log")
    assert said.standing == "inconclusive"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("ICMP::ICMPAddressScan", "ICMP address scan"),
        ("My::", "another kind"),
        ("a b", "another kind"),
    ],
)
def test_types_of_notices_read_as_words(kind, words):
    assert word_type(kind) == words


def test_the_scanner_of_a_shared_capture_is_named_and_no_router_blamed(shared):
    folder = shared / "data" / "field" / "download"
    with open_session(Settings()) as session:
        said = answer("who did the ping scan", session.analyse(folder))
    # notice.log: 9, 5 and 4 notices of 192.168.1.15, of up to 255 hosts, 2022-09-29
    assert said.cause.startswith("192.168.1.15, by the sensor's notice.log: ")
    assert "of up to 255 hosts, from 2022-09-29 13:49:25 UTC to 13:50:25" in said.text
    assert "10.0.2.2" not in said.text
    assert "1970" not in said.text
    assert said.removed == 0
