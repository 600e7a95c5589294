"""What an operator says of an incident answers the next question about one with the same signs."""

import io
import json
import struct
from contextlib import closing
from pathlib import Path

import pytest
from bottling_line import beacon, silence
from frames import ethernet, tcp_packet, write_pcap
from hypothesis import given
from hypothesis import strategies as st

from assistant.api.desk import Desk
from assistant.chat.feedback import keep, read_remark
from assistant.cli.main import main
from assistant.history import History
from assistant.outcomes import FOLDER, keep_outcomes, make_signs
from assistant.session import Models, Session
from assistant.settings import Settings
from knowledge_base.index import open_index
from knowledge_base.likeness import WEIGHTS, find_alike, likeness

ILLEGAL_ADDRESS, BUSY = 2, 6
SAID = "confirmed: the register map of the old firmware, fixed by loading map 3"


def record(path: Path, client: str, server: str, code: int, start_s: float) -> Path:
    """A pcap of ten minutes: a read of holding registers each second over one connection, refused
    with ``code`` from the third minute on."""
    there = {"src": client, "dst": server, "sport": 50000, "dport": 502}
    back = {"src": server, "dst": client, "sport": 502, "dport": 50000}
    frames = [
        (start_s, ethernet(tcp_packet("S", 0, **there))),
        (start_s + 0.001, ethernet(tcp_packet("SA", 0, **back))),
        (start_s + 0.002, ethernet(tcp_packet("A", 1, **there))),
    ]
    asked = answered = 1
    for second in range(1, 600):
        ask = struct.pack(">HHHBBHH", second, 0, 6, 1, 3, 0, 2)
        told = struct.pack(">HHHBBBHH", second, 0, 7, 1, 3, 4, 7, second)
        if second >= 120:
            told = struct.pack(">HHHBBB", second, 0, 3, 1, 0x83, code)
        frames += [
            (start_s + second, ethernet(tcp_packet("PA", asked, ask, **there))),
            (start_s + second + 0.01, ethernet(tcp_packet("PA", answered, told, **back))),
        ]
        asked, answered = asked + len(ask), answered + len(told)
    write_pcap(path, frames)
    return path


@pytest.fixture(scope="module")
def captures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captures")
    plants = {
        "first": ("10.20.0.23", "10.20.0.71", ILLEGAL_ADDRESS, 1_790_000_000.0),
        "alike": ("192.168.7.5", "192.168.7.90", ILLEGAL_ADDRESS, 1_795_000_000.0),
        "other": ("172.20.1.8", "172.20.1.9", BUSY, 1_796_000_000.0),
    }
    return {name: record(folder / f"{name}.pcap", *of) for name, of in plants.items()}


@pytest.fixture
def run(stocked_home, capsys, monkeypatch):
    def run(*words, given=""):
        monkeypatch.setattr("sys.stdin", io.StringIO(given))
        assert main([str(word) for word in words]) == 0
        return capsys.readouterr().out

    return run


def ask(run, question, capture):
    return json.loads(run("ask", question, "--capture", capture, "--format", "json"))


def past(answer):
    return [
        one["document"]
        for one in (*answer["similar"], *answer["citations"])
        if one["kind"] == "incident" and not one["example"]
    ]


def test_a_confirmed_outcome_answers_for_the_same_signs_elsewhere_until_it_is_taken_back(
    run, captures, home
):
    assert past(ask(run, "why are reads refused?", captures["alike"])) == []
    run("chat", "--capture", captures["first"], given=f"why are reads refused?\n{SAID}\n")
    why = ask(run, "why are reads refused?", captures["alike"])
    (cited,) = past(why)
    assert "10.20.0.71" in cited or "10.20.0.23" in cited
    assert "Seen before" in why["text"]
    assert "register map of the old firmware" in why["text"]
    assert "loading map 3" in why["text"]
    before = ask(run, "has this happened before?", captures["alike"])
    assert before["text"].startswith("**Yes: the same was measured here before")
    # Another fault of the same protocol, and the incident itself, are not seen before.
    for name in ("other", "first"):
        for question in ("why are reads refused?", "has this happened before?"):
            other = ask(run, question, captures[name])
            assert past(other) == [], other["text"]
            assert "Seen before" not in other["text"]
    shown = run("kb", "show", cited, "--text")
    assert "Confirmed by" in shown
    run("chat", "--capture", captures["first"], given="why are reads refused?\nundo\n")
    after = ask(run, "why are reads refused?", captures["alike"])
    assert past(after) == []
    assert "Seen before" not in after["text"]
    assert not [*home.joinpath(*FOLDER).glob("*")]


class Diagnosed:
    """What keep reads of a diagnosis."""

    cause = "cam-1 calls home"


@pytest.fixture
def opened(stocked_home):
    with (
        open_index(stocked_home) as index,
        closing(History(stocked_home / "history.sqlite")) as history,
    ):
        yield index, history


def say(text, incident, line, history, index=None):
    return keep(read_remark(text), Diagnosed, incident, history, "ana", analysis=line, index=index)


def kept(index):
    return {one.title.split(" ")[0] for one in index.list() if not one.example}


def test_a_false_alarm_takes_back_that_incident_alone_and_undo_brings_it_back(opened, line):
    index, history = opened
    first, second = beacon(), silence()
    say("confirmed: infected", first, line, history, index)
    say("it was something else: loose plug", second, line, history, index)
    assert kept(index) == {first.id, second.id}
    (other,) = (one for one in index.list() if one.title.startswith(second.id))
    say("false alarm, we ran a test", first, line, history, index)
    assert kept(index) == {second.id}
    assert other in index.list()
    say("undo", first, line, history, index)
    assert kept(index) == {first.id, second.id}
    say("it was something else", second, line, history, index)
    assert kept(index) == {first.id}, "nobody knows what the second one was"
    assert not index.check(apart=False).problems


def test_a_process_that_dies_between_history_and_knowledge_base_loses_nothing(opened, line):
    index, history = opened
    incident = silence()
    say("confirmed: loose plug", incident, line, history)  # dies here: the index is not reached
    assert kept(index) == set()
    keep_outcomes(history, index)
    assert kept(index) == {incident.id}
    before = index.manifest
    index.memo.clear()
    keep_outcomes(history, index)
    assert index.manifest == before
    history.undo(incident.id, "another process")
    keep_outcomes(history, index)
    assert kept(index) == set()


def test_the_door_for_programs_keeps_and_takes_back(opened, line, stocked_home):
    index, history = opened
    desk = Desk(Session(Settings(home=stocked_home), Models(None, None, None), index, history))  # type: ignore[arg-type]
    desk.add(line, "bottling line")
    incident = line.incidents[1]
    desk.feedback(incident.id, "confirmed: loose plug, fixed by a new connector", "ana")
    (found,) = find_alike(index, make_signs(incident, line))
    assert (found.example, found.section) == (False, "Cause and fix")
    assert "Loose plug" in found.text
    assert "Fix: a new connector." in found.text
    desk.undo(incident.id, "ana")
    assert find_alike(index, make_signs(incident, line)) == []


signs = st.frozensets(
    st.builds("{}={}".format, st.sampled_from([*WEIGHTS, "unknown"]), st.sampled_from("abc"))
)


@given(signs, signs)
def test_likeness_is_a_share_that_both_agree_on(one, other):
    alike = likeness(one, other)
    assert 0 <= alike <= 1
    assert alike == likeness(other, one)
    if any(sign.partition("=")[0] in WEIGHTS for sign in one):
        assert likeness(one, one) == 1
