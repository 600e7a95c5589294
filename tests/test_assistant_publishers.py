"""Who publishes GOOSE and how often its state changes, over messages written by hand."""

import struct

import pytest
from frames import Frame, ethernet, goose_message, write_pcap

from assistant.answers.answer import answer
from assistant.session import open_session
from assistant.settings import Settings

START = 1_700_000_000.0
ONE, TWO = b"\x02\x00\x00\x00\x01\x01", b"\x02\x00\x00\x00\x01\x02"
GROUP = b"\x01\x0c\xcd\x01\x00\x01"
Q1, Q2 = b"BAY1Q01LD0/LLN0$GO$gcb1", b"BAY1Q02LD0/LLN0$GO$gcb1"


def _publish(mac: bytes, name: bytes, *messages: tuple[float, int, int]) -> list[Frame]:
    return [
        (START + at_s, ethernet(goose_message(state, repeat, name), 0x88B8, mac, GROUP))
        for at_s, state, repeat in messages
    ]


def _ask(tmp_path, frames, *questions):
    path = write_pcap(tmp_path / "goose.pcap", sorted(frames))
    with open_session(Settings(home=tmp_path / "home")) as session:
        analysis = session.analyse(path)
        said = [answer(one, analysis) for one in questions]
    assert [one.removed for one in said] == [0] * len(said)
    return said


def test_publishers_are_counted_and_named(tmp_path):
    steady = _publish(ONE, Q1, *((n, 7, n) for n in range(10)))
    busy = _publish(TWO, Q2, *((n / 2, 40 + n, 0) for n in range(12)))
    who, often, same = _ask(
        tmp_path, steady + busy, "who sends goose here and how many", "how often does the state of BAY1Q02 change?",
        "does the state of bay1q01 change?",
    )  # fmt: skip
    assert who.cause.startswith("2 machines published 22 GOOSE messages")
    assert "“BAY1Q02LD0/LLN0$GO$gcb1” by 02:00:00:00:01:02 (12 messages)" in who.cause
    assert "“BAY1Q01LD0/LLN0$GO$gcb1” by 02:00:00:00:01:01 (10 messages)" in who.cause
    # stNum 40 to 51 in 5.5 s, each half a second after the one before
    assert "changed 11 times in 5.5 s (stNum 40 to 51): 2 a second" in often.cause
    assert "within 0.5 s of the one before" in often.cause
    assert "did not change in 9 s (stNum 7); 10 messages" in same.cause


def test_changes_that_were_not_seen_are_known_by_their_numbers(tmp_path):
    messages = ((0, 5, 0), (1, 9, 0), (1.2, 10, 0), (2, 3, 0), (2.5, 4, 0))
    (said,) = _ask(
        tmp_path, _publish(ONE, Q1, *messages), "how often did BAY1Q01 change its state?"
    )
    # 5 to 9 is four, of which one was seen; 9 to 10; then it begins anew at 3, and 4: six changes, three seen
    assert "changed 6 times in 2.5 s (stNum 5 to 4)" in said.cause
    assert "3 of the changes are known by their numbers alone" in said.cause
    assert "its numbers went back 1 time" in said.cause


def test_one_message_tells_of_no_change_and_a_broken_one_of_nothing(tmp_path):
    (said,) = _ask(tmp_path, _publish(ONE, Q1, (0, 5, 0)), "which goose publishers are there?")
    assert "one message was seen" in said.cause
    broken = [
        (
            START,
            ethernet(
                struct.pack(">HHHH", 1, 200, 0, 0) + b"\x61\x82\xff\xff\x80\x7f", 0x88B8, ONE, GROUP
            ),
        ),
        (START + 1, ethernet(goose_message(5, 0)[:20], 0x88B8, ONE, GROUP)),
    ]
    (said,) = _ask(tmp_path, broken, "which goose publishers are there?")
    assert "GOOSE message" not in said.text


@pytest.mark.parametrize(("name", "changes"), [("Q01", 63), ("Q05", 99), ("Q07", 88)])
def test_a_shared_capture_agrees_with_wireshark(shared, name, changes):
    with open_session(Settings()) as session:
        analysis = session.analyse(shared / "data" / "field" / "goose-only.pcap")
        who = answer("who sends goose here and how many", analysis)
        said = answer(f"the bay of AA1C1{name} chatters, how often does its state change", analysis)
    # tshark -T fields -e eth.src -e goose.stNum: 120, 167 and 164 messages; the last less the first stNum
    assert "(120 messages)" in who.cause
    assert f"changed {changes} times" in said.cause
    assert who.removed + said.removed == 0
