"""Is there trouble of a kind: yes with its evidence, no only where all were judged."""

from dataclasses import replace

import pytest
from bottling_line import beacon, make_analysis

from assistant.answers.answer import answer
from assistant.diagnosis.playbook import read_playbook
from traffic.labels import LABELS, NORMAL

# "who scans", "who may write", "does DNS work" and "are packets lost" have queries of their own.
_ASKED_ELSEWHERE = {"recon", "unauthorized_command", "name_resolution", "packet_loss"}


def test_every_label_is_asked_for_here_or_by_a_query_of_its_own():
    named = {label for label in LABELS if label != NORMAL and read_playbook(label).asked}
    assert named == set(LABELS) - {NORMAL} - _ASKED_ELSEWHERE


@pytest.mark.parametrize(
    "question",
    [
        "is there malware?", "is anything infected?", "gibt es schadsoftware?", "any beacons?",
        "is cam-1 infected?", "so, is there a botnet?",
    ],
)  # fmt: skip
def test_a_dead_controller_is_neither_affirmed_nor_denied(question):
    said = answer(question, make_analysis())
    assert said.text.startswith("**Cannot tell: cam-1 (192.168.1.20) contacted 203.0.113.5:6667")
    assert "dead cloud service" in said.text


def test_a_controller_that_answers_is_affirmed():
    said = answer("is there malware?", make_analysis((beacon(sessions=4.0),)))
    assert said.text.startswith("**Yes: cam-1 (192.168.1.20) contacted 203.0.113.5:6667")


@pytest.mark.parametrize(
    ("question", "kinds"),
    [
        ("is there a flood?", "flood, part in a flood and MQTT abuse"),
        ("is anybody spoofing addresses?", "claimed address"),
        ("are there duplicate addresses?", "claimed address"),
        ("is the network congested?", "full link"),
        ("does anyone guess passwords?", "login attempts"),
    ],
)
def test_what_was_not_found_is_denied_only_where_all_were_judged(question, kinds):
    nothing = f"no sign of this kind of trouble ({kinds}) was found in what was recorded."
    assert answer(question, make_analysis()).cause == f"No: {nothing}"
    unsure = answer(question, make_analysis((), abstained=True, p_normal=0.5))
    assert unsure.cause == f"N{nothing[1:]}"
    assert unsure.standing == "inconclusive"
    assert "undecided: cam-1" in unsure.text


def test_a_device_that_was_not_judged_normal_is_not_cleared():
    said = answer("is cam-1 flooded?", make_analysis((), abstained=True, p_normal=0.5))
    assert said.text.startswith("**Cannot tell: no sign of this kind of trouble")
    assert said.standing == "inconclusive"


@pytest.mark.parametrize(
    "question", ["who is infected?", "which device is infected?", "wer ist infiziert?"]
)
def test_who_is_named_with_what_it_does(question):
    said = answer(question, make_analysis())
    assert said.cause == "cam-1 (192.168.1.20): beacon to a controller of malware."


def test_what_to_do_about_a_kind_of_trouble_is_said_of_that_trouble():
    said = answer("what should we do about the malware?", make_analysis())
    assert "cam-1" in said.text
    assert said.label == "c2"


@pytest.mark.parametrize(
    "question",
    ["is it a flood or a fault?", "is the flood over?", "why is there a flood?",
     "what does the manual say about malware?", "is plc-1 ok?"],
)  # fmt: skip
def test_other_questions_are_answered_by_their_own_queries(question):
    assert "kind of trouble" not in answer(question, make_analysis()).text


@pytest.mark.parametrize(
    ("question", "kinds"),
    [
        ("which devices fell off the network together?", "silent device"),
        ("is cam-1 talking to the right machine?", "claimed address"),
        ("two machines with the same address?", "claimed address"),
        ("who tries to get into the broker?", "login attempts"),
    ],
)
def test_trouble_is_understood_in_other_words(question, kinds):
    said = answer(question, make_analysis(()))
    assert f"no sign of this kind of trouble ({kinds})" in said.cause.replace("No sign", "no sign")


def test_one_that_scans_is_not_cleared_of_infection():
    said = answer("is cam-1 infected?", make_analysis((replace(beacon(), label="recon"),)))
    assert said.cause.startswith(
        "Perhaps: what cam-1 (192.168.1.20) does belongs to attacks (scan)"
    )
    assert "no sign of a beacon to a controller of malware was found" in said.cause
    assert said.standing == "inconclusive"


@pytest.mark.parametrize(
    ("question", "begin"),
    [
        ("is everything ok?", "No"), ("was anything unusual?", "Yes"),
        ("did anything stop working?", "Yes"), ("ist etwas auffaellig?", "Yes"),
    ],
)  # fmt: skip
def test_yes_is_the_answer_to_whether_something_is_wrong(question, begin):
    said = answer(question, make_analysis((beacon(sessions=4.0),)))
    assert said.cause.startswith(begin)
    well = answer(question, make_analysis((), label="normal"))
    assert not well.cause.startswith(begin if begin == "No" else "Yes")
