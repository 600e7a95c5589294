"""Who was listed can be asked for by place or all at once: "which two?", "the other one", "all of them"."""

import pytest

from assistant.chat import Conversation
from assistant.chat.listing import ALL, choose, find_place, is_bare, put_in
from assistant.facts.fact import listed, uncut_lists
from assistant.session import open_session
from assistant.settings import Settings

LISTED = ("10.0.0.1", "10.0.0.2", "10.0.0.3")


@pytest.mark.parametrize(
    ("plain", "chosen"),
    [
        ("and the other one?", "10.0.0.2"),
        ("what does the second one write?", "10.0.0.2"),
        ("und das dritte?", "10.0.0.3"),
        ("y el ultimo?", "10.0.0.3"),
        ("the first, is it ours?", "10.0.0.1"),
        ("what about the seventh?", ""),
    ],
)
def test_a_place_in_a_list_is_one_of_it(plain, chosen):
    place = find_place(plain)
    assert place is not None
    assert choose(place, LISTED, "") == chosen


def test_the_other_is_not_the_one_that_the_talk_is_about():
    place = find_place("the other one?")
    assert place is not None
    assert choose(place, LISTED[:2], "10.0.0.2") == "10.0.0.1"
    assert choose(place, LISTED[:1], "10.0.0.1") == ""


@pytest.mark.parametrize(
    "plain", ["the first attempt failed", "since the last restart", "the other side of it"]
)
def test_words_that_name_something_else_are_no_place(plain):
    assert find_place(plain) is None


def test_a_question_about_one_of_a_list_is_asked_of_it():
    assert put_in("What does the second one write?", "10.0.0.2") == "What does 10.0.0.2 write?"
    for plain, bare in (("and the other one?", True), ("is the other one ours?", False)):
        place = find_place(plain)
        assert place is not None
        assert is_bare(plain, place) is bare


@pytest.mark.parametrize(
    "plain",
    [
        "which ones?",
        "which devices?",
        "which two?",
        "all of them please",
        "who were the five?",
        "welche?",
    ],
)
def test_all_of_a_list_is_asked_for_in_many_words(plain):
    assert ALL.match(plain)


def test_a_list_is_whole_for_who_asks_for_all_of_it():
    assert listed("abcdef") == "a, b, c, d and 2 more"
    with uncut_lists():
        assert listed("abcdef") == "a, b, c, d, e and f"
    assert listed("abcdef") == "a, b, c, d and 2 more"


def test_a_talk_names_all_and_turns_to_one_of_them(shared, tmp_path):
    with open_session(Settings(home=tmp_path)) as session:
        analysis = session.analyse(shared / "data" / "field" / "mqtt-one-client-id-twice.pcap")
        talk = Conversation(analysis, None, None)
        talk.reply("why does gateway01 drop all the time?")
        assert talk.reply("which two?").text.startswith("**2 addresses: 10.20.0.51 and 10.20.0.52.")
        assert talk.reply("and the other one?").diagnosis.device == "10.20.0.52"
        talk.reply("who talks to 10.20.0.5?")
        everyone = talk.reply("all of them").text.partition("\n")[0]
        for number in (51, 52):
            assert f"10.20.0.{number}" in everyone
        assert " more" not in everyone
