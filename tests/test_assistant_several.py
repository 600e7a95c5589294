"""A device with several incidents: none of them is left out, and the one that is meant answers."""

from dataclasses import replace

import pytest
from bottling_line import CAMERA, PLC, SPARE, YARD

from assistant.answers.answer import answer
from assistant.chat import Conversation
from assistant.detection.incidents import Incident
from assistant.detection.pipeline import Analysis
from assistant.diagnosis.choosing import attacks, choose_incidents, measure_part
from assistant.facts.fact import make_fact
from assistant.questions.entities import read_devices


def _incident(
    line: Analysis, label: str, device: str, *peers: str, at_s: float, **more
) -> Incident:
    """An incident of a minute whose fact names its device and the first of its peers."""
    values = {
        "name": line.view.name_of(device), "peer": line.view.names_of(peers[:1]),
        "start_time_s": line.view.start_s + at_s, "end_time_s": line.view.start_s + at_s + 60,
    }  # fmt: skip
    sentence = f"{label} of {{name}} with {{peer}} from {{start_time_s}} to {{end_time_s}}."
    fact = make_fact(f"test-{label}", sentence, values)
    about = {"role": "source", "severity": "high", "related": ()} | more
    start_s = line.view.start_s + at_s
    return Incident(f"{label}-1", device=device, label=label, start_s=start_s, end_s=start_s + 60, windows=(),
                    facts=(fact,), peers=peers, techniques=(), **about)  # fmt: skip


@pytest.fixture
def busy(line: Analysis) -> Analysis:
    """cam-1 scans plc-1 and loses packets; plc-1 is silent later, and one of twelve who miss a clock."""
    many = (PLC, *(f"192.168.1.{n}" for n in range(200, 211)))
    incidents = (
        _incident(line, "recon", CAMERA, PLC, at_s=60),
        _incident(line, "packet_loss", CAMERA, YARD, at_s=300, severity="low"),
        _incident(line, "device_silent", PLC, at_s=400, severity="medium"),
        _incident(line, "service_down", SPARE, *many, at_s=500),
    )
    return replace(line, incidents=incidents)


def _first_line(question: str, analysis: Analysis) -> str:
    return answer(question, analysis).text.split("\n")[0]


def test_a_part_is_measured_by_whose_it_is_and_among_how_many(busy):
    scan, _, silent, clock = busy.incidents
    parts = [measure_part(one, PLC, busy.view) for one in (silent, scan, clock)]
    assert parts == [3.0, 2.0, 1.0]  # its own, the other end, named among twelve
    assert measure_part(clock, clock.peers[5], busy.view) == 0.5
    assert measure_part(silent, CAMERA, busy.view) == 0.0
    assert attacks(scan, PLC)
    assert not attacks(scan, CAMERA)


@pytest.mark.parametrize(
    ("question", "label"),
    [
        ("what is wrong with plc-1?", "device_silent"),  # not what lists it among others
        ("what hit plc-1?", "recon"),
        ("is somebody scanning plc-1?", "recon"),
        ("why does cam-1 lose packets?", "packet_loss"),
        ("what is wrong with plc-2?", "service_down"),
    ],
)
def test_the_incident_that_is_meant_comes_first(busy, question, label):
    mention = read_devices(question, busy)
    assert choose_incidents(question, mention, busy)[0].label == label


def test_who_is_named_wins_over_the_talk_and_the_talk_over_the_worst(busy):
    scan, loss, *_ = busy.incidents
    plain = read_devices("how long?", busy)
    assert choose_incidents("how long?", plain, busy, focus=loss)[0] is loss
    named = answer("what is wrong with plc-2?", busy, focus=scan)
    assert named.label == "service_down"


def test_an_attack_and_a_fault_are_both_told_where_both_were_offered(busy):
    line = _first_line("is cam-1 hacked or is its cable bad?", busy)
    assert line.startswith("**Both an attack and a fault. recon of cam-1")
    assert "packet_loss of cam-1" in line


def test_all_that_a_device_did_is_listed_the_worst_first(busy):
    said = answer("what is cam-1 up to?", busy).text
    assert said.startswith(
        "**cam-1 (192.168.1.20) has to do with 2 incidents, the worst first: scan"
    )
    assert said.index("recon of cam-1") < said.index("packet_loss of cam-1")


def test_what_was_done_to_a_device_is_told_by_who_did_it(busy):
    assert _first_line("what hit plc-1?", busy).startswith("**recon of cam-1")
    talk = Conversation(busy, None, None)
    talk.reply("what hit plc-1?")
    assert (
        "nobody else is known to be hit by cam-1" in talk.reply("who else did it hit?").text.lower()
    )


def test_what_else_is_known_of_it_leaves_out_what_was_told(busy):
    talk = Conversation(busy, None, None)
    assert "recon of cam-1" in talk.reply("is cam-1 scanning anybody?").text
    assert talk.reply("anything else with it?").text.startswith("**Yes: packet_loss of cam-1")


def test_whether_it_was_another_trouble_is_told_by_time(busy):
    talk = Conversation(busy, None, None)
    talk.reply("does plc-1 answer?")
    said = talk.reply("was that the scan?").text.split("\n")[0]
    assert said.startswith("**No: it is silent device at plc-1")
    assert "the scan was at another time" in said


def test_a_device_that_failed_once_is_told_so_where_that_was_asked(busy):
    assert "failed 1 time: silent device from" in _first_line("was plc-1 off once or twice?", busy)


def test_a_device_that_failed_twice_failed_twice(busy):
    down = _incident(busy, "service_down", PLC, at_s=100, severity="medium")
    twice = replace(busy, incidents=(*busy.incidents[:3], down))
    line = _first_line("does plc-1 answer?", twice)
    assert "failed 2 times: service down from" in line
    assert line.index("service down") < line.index("silent device")
