"""A follow-up means the incident of the talk: the next, the one before, the other one; what came of it."""

from dataclasses import replace

import pytest
from bottling_line import CAMERA, PLC, SPARE, YARD

from assistant.chat import Conversation
from assistant.chat.references import find_moved, find_spoken
from assistant.detection.incidents import Incident
from assistant.detection.pipeline import Analysis
from assistant.facts.fact import make_fact
from assistant.questions.queries import read_query


def _incident(line: Analysis, name: str, device: str, *peers: str, at_s: float) -> Incident:
    """An incident of 5 s, of the label before the dash of its name."""
    label, start_s = name.partition("-")[0], line.view.start_s + at_s
    values = {
        "name": line.view.name_of(device), "peer": line.view.names_of(peers[:1]),
        "start_time_s": start_s, "end_time_s": start_s + 5,
    }  # fmt: skip
    sentence = "{name} has to do with {peer} from {start_time_s} to {end_time_s}."
    fact = make_fact(f"test-{name}", sentence, values)
    return Incident(name, device=device, label=label, start_s=start_s, end_s=start_s + 5, windows=(),
                    facts=(fact,), peers=peers, techniques=(), role="source", severity="high", related=())  # fmt: skip


@pytest.fixture
def night(line: Analysis) -> Analysis:
    """cam-1 scans plc-1, floods plc-2 and has packets lost; cam-2 guesses passwords of plc-1 last."""
    incidents = (
        _incident(line, "recon-1", CAMERA, PLC, at_s=5),
        _incident(line, "dos-1", CAMERA, SPARE, at_s=15),
        _incident(line, "packet_loss-1", CAMERA, YARD, at_s=25),
        _incident(line, "brute_force-1", YARD, PLC, at_s=35),
    )
    return replace(line, incidents=incidents)


@pytest.mark.parametrize(
    ("question", "now", "about", "meant"),
    [
        ("and after that?", "recon-1", CAMERA, "dos-1"),
        ("and what came next there?", "recon-1", PLC, "brute_force-1"),
        ("what did it do after that", "recon-1", PLC, "dos-1"),
        ("what did it do next?", "brute_force-1", PLC, None),
        ("and before that?", "packet_loss-1", CAMERA, "dos-1"),
        ("what was before that?", "brute_force-1", PLC, "recon-1"),
        ("und davor?", "recon-1", CAMERA, None),
        ("and the other attacker?", "recon-1", PLC, "brute_force-1"),
        ("and the other problem?", "brute_force-1", PLC, "recon-1"),
        ("y el otro atacante?", "recon-1", PLC, "brute_force-1"),
        ("who talks to plc-1?", "recon-1", PLC, None),
    ],
)
def test_words_move_to_another_incident(night, question, now, about, meant):
    current = next(one for one in night.incidents if one.id == now)
    others = [one for one in night.incidents if one.id != now]
    query = read_query(question)
    found = find_moved(query.plain, current, about, others, query, night)
    assert (found.id if found else None) == meant


@pytest.mark.parametrize(
    ("question", "about", "told", "meant"),
    [
        ("the flood, who was it?", CAMERA, (), "dos-1"),
        ("is the scan over?", PLC, (), "recon-1"),
        ("the flood, who was it?", PLC, (), None),
        ("the flood, who was it?", PLC, ("dos-1",), "dos-1"),
        ("is there a flood?", CAMERA, (), None),
        ("any scans?", CAMERA, (), None),
        ("who writes to it?", CAMERA, (), None),
    ],
)
def test_a_trouble_means_the_one_of_the_talk(night, question, about, told, meant):
    found = find_spoken(read_query(question), None, about, told, night)
    assert (found.id if found else None) == meant


def test_whether_it_goes_on_begins_with_yes_or_no(night):
    for question, reply in (
        ("does it still do it?", "No"),
        ("sigue?", "No"),
        ("is it over?", "Yes"),
        ("still?", "No"),
    ):
        talk = Conversation(night, None, None)
        talk.reply("why does cam-2 guess passwords?")
        said = talk.reply(question).text
        assert said.startswith(f"**{reply}: at cam-2"), question


def test_the_same_people_are_compared_by_who_did_it(night):
    talk = Conversation(night, None, None)
    talk.reply("who scanned plc-1?")
    assert talk.reply("same one as at plc-2?").text.startswith("**Yes: both have to do with cam-1")
    talk.reply("who scanned plc-1?")
    said = talk.reply("same guy as the one who guessed passwords?").text
    assert said.startswith("**No: here it is cam-1 (192.168.1.20), there it is cam-2")


def test_before_or_after_is_told_by_the_incident_of_the_talk(night):
    talk = Conversation(night, None, None)
    talk.reply("who flooded plc-2?")
    assert talk.reply("was that before the password guessing?").text.startswith("**Yes: first came")
    talk.reply("who flooded plc-2?")
    assert talk.reply("was that before the scan?").text.startswith("**No: first came")


def test_a_guess_is_not_asked_again_of_another(night):
    talk = Conversation(night, None, None)
    talk.reply("why does cam-2 guess passwords?")
    talk.reply("does it still do it?")
    assert talk.reply("and plc-2?").diagnosis.kind in ("health", "since", "affected")
    assert talk.reply("no, plc-1").diagnosis.device == PLC


def test_whom_else_an_attacker_hit_is_told_of_the_one_that_is_named(night):
    talk = Conversation(night, None, None)
    talk.reply("who flooded plc-2?")
    assert talk.reply("did it also scan plc-1?").text.startswith(
        "**Yes: cam-1 (192.168.1.20) has to do with plc-1"
    )
    talk.reply("who guessed passwords?")
    said = talk.reply("was plc-2 hit by him too?").text
    assert said.startswith("**No: nothing is known that cam-2 (192.168.1.21) did to plc-2")


def test_the_guy_at_a_device_is_who_attacks_it(night):
    talk = Conversation(night, None, None)
    talk.reply("who scanned plc-1?")
    assert talk.reply("and the guy at plc-2?").diagnosis.incidents[0] == "dos-1"
    talk.reply("who guessed passwords?")
    said = talk.reply("and the one who flooded plc-2, is it over?").text
    assert said.startswith("**Yes: at cam-1")


def test_nothing_else_is_told_of_another_device(night):
    talk = Conversation(night, None, None)
    talk.reply("who guessed passwords?")
    assert "cam-2" in talk.reply("and then?").text.split("\n")[0]


def test_who_is_hit_is_no_success_of_who_hits_and_no_other_did_it(night):
    talk = Conversation(night, None, None)
    talk.reply("who flooded plc-2?")
    assert not talk.reply("did plc-2 keep working?").text.startswith("**No: in that time")
    talk.reply("who flooded plc-2?")
    said = talk.reply("did cam-2 also flood plc-2?").text
    assert said.startswith("**No: nothing is known that cam-2 (192.168.1.21) did to plc-2")
