"""Answers about intruders, logins, addresses and what is over, over packets written by hand."""

import re
import struct
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from frames import SERVER, Frame, arp_packet, ethernet, mqtt_login, read, tcp_packet, udp_packet

from assistant.answers.answer import answer
from assistant.chat import Conversation
from assistant.detection.pipeline import Analysis, analyse_verdicts
from assistant.facts.devices import newcomer_facts
from assistant.facts.fact import kind_of
from assistant.facts.traffic_view import TrafficView
from traffic.labels import LABELS, NORMAL
from traffic.plant import Device, Plant
from traffic.samples import make_samples
from traffic.windows import make_windows

SENSORS = [f"192.168.1.{n}" for n in range(40, 44)]
GUEST, OUTSIDE = "192.168.1.99", "203.0.113.9"
GUEST_MAC = b"\x02\0\0\0\0\x99"
PLANT = Plant(
    (
        *(
            Device(address=one, name=f"sensor-{n}", role="sensor", zone="hall 1")
            for n, one in enumerate(SENSORS, start=1)
        ),
        Device(address=SERVER, name="broker-1", role="broker", zone="hall 2"),
    )
)
END_S = 300.0


def _analyse(path: Path, *frames: Frame, plant: Plant = PLANT) -> Analysis:
    """Every window is judged normal, so that only rules speak."""
    reports = [
        (5.0 * n + place / 10, ethernet(udp_packet(b"21.5", src=src, dst=SERVER, sport=4000, dport=4000)))
        for place, src in enumerate(SENSORS)
        for n in range(int(END_S // 5))
    ]  # fmt: skip
    capture = read(path, sorted([*reports, *frames]))
    windows = make_windows(make_samples(capture, plant))
    verdicts = windows.table[["device", "start_s", "end_s"]].assign(
        label=NORMAL, probability=0.95, abstained=False, direction=""
    )
    shares = {f"p_{name}": 0.95 * (name == NORMAL) for name in LABELS}
    verdicts = pd.concat([verdicts, pd.DataFrame(shares, index=verdicts.index)], axis=1)
    return analyse_verdicts(capture, plant, windows, verdicts)


def _guesses(let_in: bool) -> list[Frame]:
    codes = [5] * 40 + [0] * let_in
    return [one for n, code in enumerate(codes) for one in mqtt_login(100.0 + n / 2, GUEST, code)]


@pytest.mark.parametrize(
    ("let_in", "begins"),
    [
        (True, "Yes: 192.168.1.99 was let in by broker-1"),
        (False, "No: 40 of 40 logins were refused"),
    ],
)
def test_whether_a_guess_was_right_is_told_from_what_the_server_said(tmp_path, let_in, begins):
    analysis = _analyse(tmp_path, *_guesses(let_in))
    assert answer("was a password guessed?", analysis).cause.startswith(begins)
    count = answer("how many logins failed?", analysis).cause
    assert count.startswith(f"40 of {40 + let_in} logins were refused")


def test_logins_that_are_not_read_are_not_denied(tmp_path):
    analysis = _analyse(tmp_path)
    said = answer("did sensor-1 get into broker-1?", analysis)
    assert said.cause.startswith("Cannot tell: no login was read")
    assert said.standing == "inconclusive"


def test_a_machine_that_nobody_knows_is_told_from_one_of_the_plant(tmp_path):
    said = answer("which machines are hostile?", _analyse(tmp_path, *_guesses(False)))
    assert "1 machine that nothing here knows as the plant's" in said.cause
    assert GUEST in said.cause
    # Nobody answers the sensors, so that nobody is known to be well.
    nobody = answer("is anything compromised?", _analyse(tmp_path))
    assert (nobody.cause[:22], nobody.standing) == ("Cannot tell: no machin", "inconclusive")


def _claims(count: int) -> list[Frame]:
    """The sensor and a guest answer for its address by turns."""
    mine, other = b"\x02\0\0\0\0\x40", GUEST_MAC
    return [
        (100.0 + n + shift, arp_packet(2, mac, SENSORS[0], SERVER))
        for n in range(count)
        for shift, mac in ((0.0, mine), (0.5, other))
    ]


def test_who_bears_an_address_is_told_from_who_claims_it(tmp_path):
    doubled = _analyse(tmp_path, *_claims(20))
    for question in ("who has the address of sensor-1?", "is somebody pretending to be sensor-1?"):
        assert "is claimed by 2 machines at the same time" in answer(question, doubled).text
    real = "is broker-1 talking to the real sensor-1?"
    assert answer(real, doubled).cause.startswith("No: sensor-1")
    assert not answer(real, _analyse(tmp_path)).cause.startswith(("Yes", "No"))


def test_what_left_is_counted_for_the_address_that_is_named(tmp_path):
    sent = [
        (100.0 + n, ethernet(udp_packet(bytes(1000), src=SENSORS[0], dst=OUTSIDE, sport=5000, dport=9999)))
        for n in range(20)
    ]  # fmt: skip
    analysis = _analyse(tmp_path, *sent)
    assert answer(f"how much data left to {OUTSIDE}?", analysis).cause.startswith(
        "20.6 kB left the plant"
    )
    assert (
        "no traffic with 198.51.100.1"
        not in answer(f"how much data left to {OUTSIDE}?", analysis).text
    )
    both = answer(f"how much did sensor-1 send to {OUTSIDE}?", analysis).cause
    assert both.startswith(f"sensor-1 ({SENSORS[0]}) sent {OUTSIDE} 20.6 kB (20 packets)")


def test_who_speaks_in_clear_and_who_sends_are_told_for_all(tmp_path):
    analysis = _analyse(tmp_path, *_guesses(False))
    assert answer("are all sensors reporting?", analysis).cause.startswith("Yes: all 4 devices")
    assert "hall 2 (1)" in answer("which zone has the most trouble?", analysis).cause


def test_what_is_over_is_not_listed_as_open(tmp_path):
    """The guesses end long before the recording does."""
    analysis = _analyse(tmp_path, *_guesses(False))
    assert answer("which incidents are over?", analysis).cause.startswith("1 of 1 incident ended")
    assert answer("what is still open?", analysis).cause.startswith("None of 1 incident went on")


def test_a_role_stands_for_its_device(tmp_path):
    """Only one is a broker; of four sensors none is meant alone."""
    analysis = _analyse(tmp_path, *_guesses(False))
    assert answer("is the broker ok?", analysis).device == SERVER
    named = answer("how much did sensor-1 send to the broker?", analysis).cause
    assert named.startswith("sensor-1 (192.168.1.40) sent broker-1")


def test_refused_ports_are_not_open(tmp_path):
    there = {"src": SENSORS[1], "dst": SENSORS[0], "sport": 41000}
    frames = []
    for n, port in enumerate((21, 22, 80)):
        ask = tcp_packet("S", 0, **there, dport=port)
        say = tcp_packet("RA", 0, src=SENSORS[0], dst=SENSORS[1], sport=port, dport=41000)
        frames += [(100.0 + n, ethernet(ask)), (100.01 + n, ethernet(say))]
    said = answer("which ports of sensor-1 are open?", _analyse(tmp_path, *frames)).cause
    assert said.startswith("sensor-1 (192.168.1.40) answers at none")


def _writes(times_s: list[float], server: str = SENSORS[0]) -> list[Frame]:
    """A connection of the guest that writes register 7 at each time, and is answered."""
    write = struct.pack(">HHHBBHH", 1, 0, 6, 1, 6, 7, 99)
    there, back = (GUEST, server, 41000, 502), (server, GUEST, 502, 41000)
    rows = [(times_s[0] - 0.2, "S", 0, 0, b"", there), (times_s[0] - 0.1, "SA", 0, 1, b"", back)]
    for n, ts in enumerate(times_s):
        seq = 1 + n * len(write)
        rows.append((ts, "PA", seq, seq, write, there))
        rows.append((ts + 0.01, "PA", seq, seq + len(write), write, back))
    return [
        (ts, ethernet(tcp_packet(flags, seq, data, *ends, ack=ack)))
        for ts, flags, seq, ack, data, ends in rows
    ]


@pytest.mark.parametrize(
    ("times_s", "told"),
    [
        ([150.0 + 2 * n for n in range(30)], True),
        ([30.0 + 2 * n for n in range(30)], False),  # half a minute before says nothing
        ([150.0 + 14 * n for n in range(10)], False),  # it may have paused before
        ([150.0 + 2 * n for n in range(9)], False),  # a few
    ],
    ids=["began", "from the start", "seldom", "few"],
)
def test_who_began_to_write_too_early_to_be_judged_is_named(tmp_path, times_s, told):
    analysis = _analyse(tmp_path, *_writes(times_s))
    assert not [one for one in analysis.incidents if one.label == "unauthorized_command"]
    for question in ("what is wrong?", "who writes to sensor-1?", "is there a new writer?"):
        said = answer(question, analysis)
        facts = [fact for fact in said.facts if kind_of(fact) == "new_unjudged"]
        assert len(facts) == told, question
        if told:
            values = facts[0].values
            assert (values["client"], values["writes"]) == (GUEST, 30)
            assert values["before_s"] == pytest.approx(150, abs=0.1)
            assert values["longest_s"] == pytest.approx(2, abs=0.01)
            assert "not judged" in said.text


def test_a_plant_that_names_its_writers_leaves_none_unjudged(tmp_path):
    named = replace(PLANT.devices[0], writers=(GUEST,))
    plant = replace(PLANT, devices=(named, *PLANT.devices[1:]))
    capture = read(tmp_path, _writes([150.0 + 2 * n for n in range(30)]))
    assert newcomer_facts(TrafficView(capture, make_samples(capture, plant), plant)) == []


def test_what_a_machine_did_before_is_told_from_this_capture(tmp_path):
    """The guest is not seen before it guesses; the sensors are."""
    analysis = _analyse(tmp_path, *_guesses(False))
    before = answer("what did 192.168.1.99 do before that?", analysis).cause
    assert before.startswith("Nothing of 192.168.1.99 was seen before ")
    assert "100 s that were recorded" in before
    told = answer("what did sensor-1 do before that?", analysis)
    assert told.kind != "before" or "documents" not in told.cause


@pytest.mark.parametrize(
    ("question", "begins"),
    [
        ("may I unplug 192.168.1.99?", "Yes: nothing here knows 192.168.1.99"),
        ("can we switch off sensor-1?", "Cannot tell: whether sensor-1"),
        ("darf ich sensor-2 abschalten?", "Cannot tell: whether sensor-2"),
    ],
)
def test_whether_a_machine_may_go_says_what_would_stop(tmp_path, question, begins):
    said = answer(question, _analyse(tmp_path, *_guesses(False)))
    assert said.cause.startswith(begins)
    assert "UDP port 4000" in said.cause or "MQTT" in said.cause
    assert said.removed == 0


@pytest.mark.parametrize(
    ("question", "begins"),
    [
        ("can i restart broker-1", "No: broker-1 .* only suffered it, and it was over at .*01:59"),
        ("broker-1 rebooten?", "No: broker-1 .* only suffered it"),
        ("do we have to unplug broker-1?", "No: not broker-1 .* What to stop is 192.168.1.99"),
        ("do i have to take anything off the network?", "Yes: .* 192.168.1.99"),
        (
            "is it safe to start the line again?",
            "Cannot tell: what was found at the plant is over \\(1 incident",
        ),
        ("how do i stop it", "It was over at .* Against another time, at 192.168.1.99: "),
        ("will it come back?", "Cannot tell: it was over at .* As long as 192.168.1.99 stays"),
        ("should i worry about 192.168.1.99", "Yes: traffic like this belongs to attacks"),
        ("is that normal?", "No: not usual, and nothing here says that it was planned"),
        ("is broker-1 broken", "No: as far as traffic tells broker-1 .* was attacked"),
        ("is broker-1 still under attack right now", "No: at broker-1 "),
        ("was sensor-1 the cause of the login attempts?", "No: .*comes from 192.168.1.99"),
        ("is 192.168.1.99 to blame for the login attempts?", "Yes: the cause lies at 192.168.1.99"),
        (
            "did the login attempts slow down broker-1?",
            "Cannot tell: nothing else was found at broker-1",
        ),
        ("wer ist schuld an den logins?", "It comes from 192.168.1.99"),
        ("who is 192.168.1.99?", "192.168.1.99 is not in plant.yaml"),
        ("where is broker-1?", "broker-1 .* is in zone hall 2, as plant.yaml says"),
        ("where is 192.168.1.99?", "No list says where 192.168.1.99 is; its hardware address is "),
        ("how many attackers?", "It comes from 1 machine: 192.168.1.99"),
        ("can i restart 192.168.1.99?", "No: traffic of 192.168.1.99 .*a restart destroys traces"),
        ("which user names were tried?", "Which names and passwords were tried is not kept"),
        ("what do i tell my boss?", "broker-1 .* refuses the login of 192.168.1.99.* First step: "),
        ("was there a warning sign?", "No: nothing unusual of 192.168.1.99"),
        ("was anything stolen?", "Cannot tell: nothing that left the plant"),
    ],
)
def test_every_form_of_a_question_is_answered_as_it_was_asked(tmp_path, question, begins):
    """A stranger guesses 40 passwords of the broker from 100 to 119.5 s, all refused."""
    said = answer(question, _analyse(tmp_path, *_guesses(False)))
    assert re.match(begins, said.cause), said.cause
    assert said.removed == 0


def test_several_incidents_are_told_together_and_a_talk_goes_on_from_the_list(tmp_path):
    """A stranger guesses passwords of the broker, and later writes to a sensor."""
    guarded = replace(PLANT.devices[0], writers=(SENSORS[1],))
    plant = replace(PLANT, devices=(guarded, *PLANT.devices[1:]))
    frames = sorted([*_guesses(False), *_writes([200.0 + 2 * n for n in range(30)])])
    analysis = _analyse(tmp_path, *frames, plant=plant)
    assert len(analysis.incidents) == 2
    said = answer("is 192.168.1.99 ok?", analysis)
    assert re.match("No: 192.168.1.99 has to do with 2 incidents", said.cause), said.cause
    talk = Conversation(analysis, None, None)
    first = talk.reply("what is wrong?").diagnosis
    assert first.cause.startswith("2 incidents; the worst, ")
    assert len(first.told) == 2
    second = talk.reply("and the second one?").diagnosis
    assert second.incidents[0] == first.told[1]
    assert "began" in talk.reply("do they belong together?").diagnosis.cause


@pytest.mark.parametrize(
    ("question", "begins"),
    [
        ("may i start the machine with sensor-1 again?", "No: not before its set points"),
        ("can i restart sensor-1, somebody wrote to it", "No: not before its set points"),
        (
            "did the writes to sensor-1 get through?",
            "Yes: sensor-1 (192.168.1.40) accepted 30 of the 30 write commands",
        ),
    ],
)
def test_what_was_written_to_is_not_called_ready(tmp_path, question, begins):
    """Only sensor-2 may write there."""
    guarded = replace(PLANT.devices[0], writers=(SENSORS[1],))
    plant = replace(PLANT, devices=(guarded, *PLANT.devices[1:]))
    frames = _writes([150.0 + 2 * n for n in range(30)])
    said = answer(question, _analyse(tmp_path, *frames, plant=plant))
    assert said.cause.startswith(begins), said.cause


def test_a_pause_between_answers_is_measured(tmp_path):
    """A write every two seconds, and none for a minute from 162 s on."""
    times_s = [*(130.0 + 2 * n for n in range(17)), *(222.0 + 2 * n for n in range(20))]
    analysis = _analyse(tmp_path, *_writes(times_s))
    said = answer("how long did 192.168.1.99 get no answer from sensor-1?", analysis).cause
    assert said.startswith("192.168.1.99 got nothing from sensor-1 (192.168.1.40) for 60 s")
    steady = _analyse(tmp_path, *_writes([130.0 + 2 * n for n in range(84)]))
    said = answer("how long did 192.168.1.99 get no answer from sensor-1?", steady).cause
    assert said.startswith("No such gap was read: the longest time")


def test_who_sends_to_all_is_counted(tmp_path):
    loud = [
        (50.0 + n, ethernet(udp_packet(b"here", src=SENSORS[2], dst="239.255.255.250", sport=1900, dport=1900)))
        for n in range(30)
    ]  # fmt: skip
    said = answer("who makes all the broadcast noise?", _analyse(tmp_path, *loud)).cause
    assert said.startswith(f"sensor-3 ({SENSORS[2]}) sends most packets to broadcast and multicast")
    assert "30 of 30 packets" in said
    assert "No packet to a broadcast" in answer("who multicasts here?", _analyse(tmp_path)).cause


def test_what_a_value_means_is_not_guessed(tmp_path):
    for question in ("is the valve open?", "what was the value of register 300?"):
        said = answer(question, _analyse(tmp_path, *_writes([130.0 + 2 * n for n in range(30)])))
        assert said.cause.startswith("Cannot tell: what a value means"), question
        assert said.standing == "inconclusive"


@pytest.mark.parametrize(
    ("question", "begins"),
    [
        ("are the logins still going on at the end of the recording?", "No: at 192.168.1.99"),
        ("is the attack on broker-1 over?", "Yes: at broker-1"),
        ("who talks to broker-1 that should not?", "192.168.1.99, which plant.yaml does not name"),
        ("who does it?", "192.168.1.99|It comes from 192.168.1.99|broker-1 .* refuses the login"),
        ("is the dns ok again?", "(?!No: 1 of)"),
        ("is 192.168.1.99 infected?", "(?!No)"),
    ],
)
def test_what_is_over_is_not_said_to_go_on_nor_the_other_way_round(tmp_path, question, begins):
    analysis = _analyse(tmp_path, *_guesses(False))
    assert re.match(begins, answer(question, analysis).cause), answer(question, analysis).cause


def test_who_began_later_is_told_from_who_was_there(tmp_path):
    began = _analyse(tmp_path, *_writes([150.0 + 2 * n for n in range(30)]))
    question = "did anybody write to sensor-1 who never did before?"
    said = answer(question, began).cause
    assert "192.168.1.99, first at 1970-01-01 00:02:30 UTC" in said
    early = _analyse(tmp_path, *_writes([30.0 + 2 * n for n in range(30)]))
    assert "obody began to later" in answer(question, early).cause


def test_what_was_answered_is_what_a_talk_goes_on_about(tmp_path):
    """The guesses are asked for by what they did, and not by the device that suffers most."""
    analysis = _analyse(tmp_path, *_guesses(False))
    talk = Conversation(analysis, None, None)
    first = talk.reply("who guesses passwords at broker-1?").diagnosis
    assert first.incidents[0] == analysis.incidents[0].id
    for question in ("since when?", "how many?", "who tried it?"):
        said = talk.reply(question).diagnosis
        assert said.incidents[0] == first.incidents[0], question


def _copy(at_s: float, src: str, dst: str, blocks: int) -> list[Frame]:
    """A connection to port 873 over which so many blocks of 1,000 bytes go in 100 ms each."""
    ends, back = (
        {"src": src, "dst": dst, "dport": 873},
        {"src": dst, "dst": src, "sport": 873, "dport": 40000},
    )
    frames = [
        (at_s, ethernet(tcp_packet("S", 0, **ends))),
        (at_s + 0.01, ethernet(tcp_packet("SA", 0, ack=1, **back))),
    ]
    for n in range(blocks):
        at = at_s + 0.1 * (n + 1)
        frames.append((at, ethernet(tcp_packet("A", 1 + 1000 * n, b"x" * 1000, **ends))))
        frames.append((at + 0.01, ethernet(tcp_packet("A", 1, ack=1001 + 1000 * n, **back))))
    return frames


def test_a_transfer_that_is_no_incident_is_told_by_its_time(tmp_path):
    # The capture begins at the epoch; from 00:02:00 to 00:02:15 UTC 150 blocks go from sensor-1 to broker-1.
    analysis = _analyse(tmp_path, *_copy(120.0, SENSORS[0], SERVER, 150))
    line = answer("what was that big transfer at 00:02?", analysis).cause
    assert re.match(r"sensor-1 \(192.168.1.40\) sent 15\d kB to broker-1 .*TCP port 873", line)
    assert "both of the plant" in line
    none = answer("was there a big transfer at 00:04?", analysis).cause
    assert none.startswith("No: no transfer of 100 kB or more")
