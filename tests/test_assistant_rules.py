"""Rules over packets written out by hand: what they find, and what looks like it and is none."""

import struct
from pathlib import Path

import numpy as np
import pytest
import tshark
from frames import (
    CLIENT,
    SERVER,
    Frame,
    client,
    dcp_message,
    dcp_name,
    dnp3_message,
    ethernet,
    goose_message,
    read,
    server,
    talk,
    tcp_packet,
    udp_packet,
)
from tables import capture as table_capture
from tables import flow, unanswered

from assistant.detection.rules import SUGGESTIVE, apply_rules
from assistant.detection.rules.outages import find_failing_services
from assistant.detection.rules.outside import find_nameless_calls
from assistant.detection.rules.refusals import find_refusals
from assistant.diagnosis.grounding import read_quantities
from assistant.diagnosis.playbook import read_causes
from assistant.facts.attribution import attribute
from assistant.facts.devices import end_facts, writer_facts
from assistant.facts.fact import kind_of
from assistant.facts.profiles import PROFILES
from assistant.facts.requests import name_failing
from assistant.facts.traffic_view import TrafficView
from traffic.capture import SAMPLE_S
from traffic.samples import make_samples

A, B = b"\x00\x1b\x1b\0\0\x0a", b"\x00\x1b\x1b\0\0\x0b"
MAC_A, MAC_B = A.hex(":"), B.hex(":")
ALL = b"\x01\x0e\xcf\0\0\0"
OUTSIDE = "203.0.113.5"
ELSEWHERE = "192.168.1.66"


def _view(tmp_path: Path, frames: list[Frame]) -> TrafficView:
    capture = read(tmp_path, sorted(frames))
    return TrafficView(capture, make_samples(capture))


def _found(view: TrafficView) -> list[tuple[str, str, str]]:
    """Kind of the leading fact, label and device of each hit."""
    return [(kind_of(hit.fact), hit.label, hit.device) for hit in apply_rules(view)]


def test_what_is_said_of_causes_holds_no_number():
    """A number of a sentence that no fact has is cut, and the answer is taken for less sure."""
    said = [
        text
        for cause in read_causes().values()
        for text in (cause.meaning, cause.remedy, cause.restart, *cause.checks)
    ]
    assert not [text for text in said if read_quantities(text)]


# ---- Commands that interrupt ----


def _dnp3(function: int, seq: int, answer: bytes) -> list[tuple[str, bytes]]:
    asked = dnp3_message(bytes([0xC0, 0xC0 | seq, function]), 4, 1)
    return [(">", asked), *([("<", answer)] if answer else [])]


def _answer(seq: int, indications: bytes) -> bytes:
    return dnp3_message(bytes([0xC0, 0xC0 | seq, 129]) + indications, 1, 4, 0x44)


@pytest.mark.parametrize(
    ("function", "indications", "said"),
    [
        (13, b"\0\0", "1 accepted"),
        (13, b"\0\1", "1 refused with code 1 (function not supported)"),
        (13, b"", None),  # nobody shows that he understood
        (1, b"\0\0", None),  # a read
    ],
)
def test_a_restart_that_a_device_was_told(tmp_path, function, indications, said):
    answer = _answer(3, indications) if indications else b""
    view = _view(tmp_path, talk(20000, *_dnp3(function, 3, answer)))
    hits = [hit for hit in apply_rules(view) if kind_of(hit.fact) == "interrupt"]
    wanted = [] if said is None else [(CLIENT, "unauthorized_command", "cold restart", said)]
    assert wanted == [
        (hit.device, hit.label, hit.fact.values["what"], hit.fact.values["outcome"]) for hit in hits
    ]


@pytest.mark.parametrize(
    ("indications", "failing"),
    [(b"\0\0", False), (b"\x80\0", False), (b"\x40\0", True), (b"\0\2", True)],
    ids=["well", "restarted", "trouble", "unknown object"],
)
def test_that_it_was_started_anew_is_no_failure_of_a_device(tmp_path, indications, failing):
    turns = [turn for seq in range(5) for turn in _dnp3(1, seq, _answer(seq, indications))]
    assert bool(name_failing(_view(tmp_path, talk(20000, *turns)), SERVER)) == failing


# ---- Floods of messages ----


def _publishes(*times: float) -> list[Frame]:
    message = b"\x30\x06" + struct.pack(">H", 2) + b"a/" + b"22"
    frames = [client(0.0, "S", 0, dport=1883), server(0.1, "SA", 0, port=1883)]
    for place, ts in enumerate(times):
        frames.append(client(ts, "PA", 1 + len(message) * place, message, dport=1883))
    return [*frames, (max(times) + 30, ethernet(udp_packet(b"x")))]


CALM, FAST = [float(ts) for ts in range(1, 60)], [60 + i / 50 for i in range(500)]


@pytest.mark.parametrize(
    ("times", "flood"),
    [
        (CALM + FAST, True),
        (FAST[:100], False),  # two seconds of what was kept
        ([ts - 59 for ts in FAST], False),  # as fast from the first moment on
        (CALM, False),
    ],
)
def test_who_publishes_far_more_than_before_floods(tmp_path, times, flood):
    found = [
        hit for hit in apply_rules(_view(tmp_path, _publishes(*times))) if hit.label == "mqtt_abuse"
    ]
    assert [hit.device for hit in found] == [CLIENT] * flood
    if flood:
        values = found[0].fact.values
        assert (values["messages"], values["peak"]) == (500, 50)
        assert values["usual_per_s"] == pytest.approx(59 / 60)


# ---- Calls to the outside ----


def _calls(port: int, asked: bytes, answer: bytes) -> list[Frame]:
    """Fifteen short sessions, one every thirty seconds."""
    frames = []
    for number in range(15):
        ts, sport = 30.0 * number, 41000 + number
        ends = {"sport": sport, "dport": port, "dst": OUTSIDE}
        back = {"sport": port, "dport": sport, "src": OUTSIDE, "dst": CLIENT}
        for at, (flags, seq, data, sides) in enumerate(
            [("S", 0, b"", ends), ("SA", 0, b"", back), ("PA", 1, asked, ends), ("PA", 1, answer, back),
             ("FA", 1 + len(asked), b"", ends), ("FA", 1 + len(answer), b"", back)]
        ):  # fmt: skip
            packet = tcp_packet(flags, seq, data, **sides)
            frames.append((ts + at / 100, ethernet(packet)))
    return frames


@pytest.mark.parametrize("port", [443, 4444])
def test_calls_like_clockwork_whatever_their_port(tmp_path, port):
    """Nothing that is spoken there is TLS: anybody can listen at port 443."""
    found = _found(_view(tmp_path, _calls(port, b"hello", b"ok")))
    assert found == [("clockwork", "c2", CLIENT)]


def test_calls_of_an_ordinary_service_are_told_and_not_raised(tmp_path):
    view = _view(
        tmp_path,
        _calls(80, b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    )
    assert _found(view) == []
    told = find_nameless_calls(view, CLIENT)
    assert told is not None
    assert (told.kind, told.values["spacing_s"]) == ("calls", pytest.approx(30.0))


@pytest.mark.parametrize(("late_s", "told"), [(4, True), (20, False)])
def test_an_uneven_caller_is_no_clockwork(tmp_path, late_s, told):
    """Every other call is late: spacings of 34 s and 26 s are a rhythm, of 50 s and 10 s none. Who
    says something else each time is told and not raised; who says the same is a program."""
    frames = _calls(4444, b"hello", b"ok")
    late = [(ts + late_s * (int(ts // 30) % 2), frame) for ts, frame in frames]
    same = _view(tmp_path, late)
    assert _found(same) == ([("rhythm_kept", "c2", CLIENT)] if told else [])
    other = [_lengthened(ts, frame) for ts, frame in late]
    view = _view(tmp_path, other)
    assert _found(view) == []
    assert (find_nameless_calls(view, CLIENT) is not None) == told


def _lengthened(ts: float, frame: bytes) -> Frame:
    """A question of another length in each call."""
    if not frame.endswith(b"hello"):
        return ts, frame
    number = int(ts // 30)
    ends = {"sport": 41000 + number, "dport": 4444, "dst": OUTSIDE}
    return ts, ethernet(tcp_packet("PA", 1, b"hello" * (1 + number % 7), **ends))


def _heartbeats(port: int, said: bytes, answer: bytes, every_s: float = 10.0) -> list[Frame]:
    """One session of an hour in which each side says something every few seconds."""
    ends = {"sport": 41000, "dport": port, "dst": OUTSIDE}
    back = {"sport": port, "dport": 41000, "src": OUTSIDE, "dst": CLIENT}
    steps = [("S", 0, b"", ends), ("SA", 0, b"", back), ("A", 1, b"", ends)]
    frames = [
        (at / 100, ethernet(tcp_packet(*step, **sides))) for at, (*step, sides) in enumerate(steps)
    ]
    for beat in range(int(3600 / every_s)):
        out, home = 1 + beat * len(said), 1 + beat * len(answer)
        steps = [
            ("PA", out, said, ends),
            ("A", home, b"", back),
            ("PA", home, answer, back),
            ("A", out, b"", ends),
        ]
        frames += [
            (1 + every_s * beat + at / 100, ethernet(tcp_packet(*step, **sides)))
            for at, (*step, sides) in enumerate(steps)
        ]  # fmt: skip
    return frames


@pytest.mark.parametrize(
    ("port", "said", "answer", "found"),
    [
        (443, b"beat", b"beat", [("masked", "c2", CLIENT)]),
        (8883, b"beat!", b"ok", []),  # the server says less than half of it
        (443, b"x" * 40, b"y" * 40, []),  # records of TLS may be as short
        (4444, b"beat", b"beat", []),  # a port that promises nothing
    ],
)
def test_a_long_session_that_cannot_be_tls_is_told_by_sizes(tmp_path, port, said, answer, found):
    assert _found(_view(tmp_path, _heartbeats(port, said, answer))) == found


def _broken_sessions(starts_s: list[float], last: str) -> list[Frame]:
    """Sessions of ten seconds with a word each second, each ended by the server with these flags."""
    frames = []
    for number, start_s in enumerate(starts_s):
        ends = {"sport": 41000 + number, "dport": 9000}
        back = {"sport": 9000, "dport": 41000 + number, "src": SERVER, "dst": CLIENT}
        opening = [("S", 0, b"", ends), ("SA", 0, b"", back), ("A", 1, b"", ends)]
        frames += [
            (start_s + at / 100, ethernet(tcp_packet(*step, **sides)))
            for at, (*step, sides) in enumerate(opening)
        ]
        for word in range(10):
            at, seq = start_s + 1 + word, 1 + 5 * word
            frames.append((at, ethernet(tcp_packet("PA", seq, b"hello", **ends))))
            frames.append((at + 0.01, ethernet(tcp_packet("PA", seq, b"world", **back))))
        frames.append((start_s + 10.5, ethernet(tcp_packet(last, 51, b"", **back))))
    return sorted(frames, key=lambda frame: frame[0])


@pytest.mark.parametrize(
    ("starts_s", "last", "found"),
    [
        ([15.0 * n for n in range(6)], "R", [("breaks", "flapping", SERVER)]),
        ([15.0 * n for n in range(4)], "R", []),  # too few
        ([15.0 * n for n in range(6)], "FA", []),  # ended, not broken
        ([0.01 * n for n in range(12)], "R", []),  # all at once: a program that ends
        ([200.0 * n for n in range(6)], "R", []),  # nobody misses them
    ],
)
def test_connections_that_are_reset_in_use_and_opened_again(tmp_path, starts_s, last, found):
    assert _found(_view(tmp_path, _broken_sessions(starts_s, last))) == found


def _failing_calls(count: int, answer: str) -> list[Frame]:
    """SYNs every thirty seconds, each answered by these flags, or not at all."""
    frames = []
    for number in range(count):
        ts, sport = 30.0 * number, 41000 + number
        frames.append((ts, ethernet(tcp_packet("S", 0, b"", sport=sport, dport=8080, dst=OUTSIDE))))
        if answer:
            back = {"sport": 8080, "dport": sport, "src": OUTSIDE, "dst": CLIENT}
            frames.append((ts + 0.02, ethernet(tcp_packet(answer, 0, b"", **back))))
    return frames


@pytest.mark.parametrize(("answer", "kind"), [("RA", "calls_refused"), ("", "calls")])
def test_calls_that_all_fail_are_told_soon_and_raised_in_time(tmp_path, answer, kind):
    told = find_nameless_calls(_view(tmp_path, _failing_calls(15, answer)), CLIENT)
    assert told is not None
    assert (told.kind, told.values["attempts"]) == ("calls", 15)
    found = _found(_view(tmp_path, _failing_calls(25, answer)))
    assert found == [(kind, "c2", CLIENT)]


def test_the_end_of_a_session_is_no_call(tmp_path):
    ends = {"dport": 443, "dst": OUTSIDE}
    frames = [
        (30.0 * number, ethernet(tcp_packet("FA", 5, b"", sport=41000 + number, **ends)))
        for number in range(40)
    ]
    assert _found(_view(tmp_path, frames)) == []


def _asks_a_name(ts: float) -> Frame:
    question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x04site\x04test\0\0\x01\0\x01"
    return ts, ethernet(udp_packet(question, sport=5300, dport=53, dst="10.0.0.53"))


@pytest.mark.parametrize(
    ("asked_s", "port", "sign"),
    [
        (190.0, 4444, "asked"),
        (0.0, 4444, "nameless"),
        (0.0, 443, "unasked"),
        (None, 4444, "unasked"),  # it knows no names at all: that tells nothing
    ],
)
def test_who_looks_names_up_but_not_for_these_calls(tmp_path, asked_s, port, sign):
    calls = [
        (
            200 + 30.0 * at,
            ethernet(tcp_packet("S", 0, b"", sport=41000 + at, dport=port, dst=OUTSIDE)),
        )
        for at in range(25)
    ]
    named = [] if asked_s is None else [_asks_a_name(asked_s)]
    hits = apply_rules(_view(tmp_path, [*named, *calls]))
    vain = [hit for hit in hits if kind_of(hit.fact) == "calls"]
    assert [kind_of(fact) for fact in vain[0].facts] == ["calls", "period", sign]
    assert (kind_of(vain[0].facts[2]) in SUGGESTIVE) == (sign == "nameless")
    assert kind_of(vain[0].fact) not in SUGGESTIVE


@pytest.mark.parametrize(
    ("asked_s", "value", "calls", "signs"),
    [
        (190.0, "10.0.0.2", 7, ["names_inside", "late"]),  # its clock, in the plant
        (190.0, OUTSIDE, 7, None),
        (190.0, "198.51.100.7", 7, None),  # a name with several addresses may lead there
        (0.0, OUTSIDE, 7, ["unasked", "late"]),
        (190.0, "10.0.0.2", 5, None),
    ],
)
def test_a_name_of_the_plant_leads_nobody_outside(tmp_path, asked_s, value, calls, signs):
    """Calls at a port of the web, by who was seen for three minutes before without any."""
    name = b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0\x04site\x04test\0\0\x01\0\x01"
    record = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04" + bytes(map(int, value.split(".")))
    answer = udp_packet(name + record, "10.0.0.53", CLIENT, 53, 5300)
    frames = [
        (0.0, ethernet(udp_packet(b"x", dst="10.0.0.2"))),
        _asks_a_name(asked_s),
        (asked_s + 0.1, ethernet(answer)),
        *(
            (
                200 + 10.0 * at,
                ethernet(tcp_packet("S", 0, b"", sport=41000 + at, dport=443, dst=OUTSIDE)),
            )
            for at in range(calls)
        ),
    ]
    vain = [hit for hit in apply_rules(_view(tmp_path, frames)) if kind_of(hit.fact) == "calls"]
    assert [[kind_of(one) for one in hit.facts[2:]] for hit in vain] == ([signs] if signs else [])


@pytest.mark.parametrize(("reaches", "found"), [(True, ["cut_off"]), (False, ["calls"] * 3)])
def test_who_reaches_nothing_outside_while_others_do(tmp_path, reaches, found):
    targets = ["203.0.113.5", "203.0.113.6", "198.51.100.7"]
    frames = [
        (
            20.0 * at,
            ethernet(tcp_packet("S", 0, b"", sport=41000 + at, dport=443, dst=targets[at % 3])),
        )
        for at in range(120)
    ]
    ends = {"src": "10.0.0.77", "dst": OUTSIDE, "sport": 5000, "dport": 443}
    back = {"src": OUTSIDE, "dst": "10.0.0.77", "sport": 443, "dport": 5000}
    frames.append((1000.0, ethernet(tcp_packet("S", 0, b"", **ends))))
    if reaches:
        frames.append((1000.1, ethernet(tcp_packet("SA", 0, b"", **back))))
    hits = [hit for hit in apply_rules(_view(tmp_path, frames)) if hit.device == CLIENT]
    assert [kind_of(hit.fact) for hit in hits] == found


def _sent_again(heard_s: float) -> list[Frame]:
    """A client sends a segment again and again; its server speaks until some second."""
    frames = [
        (2.0 * at, ethernet(tcp_packet("PA", 1, b"hello", sport=40000, dport=502)))
        for at in range(60)
    ]
    back = {"src": SERVER, "dst": CLIENT, "sport": 502, "dport": 40000}
    spoken = [
        (2.0 * at + 1, ethernet(tcp_packet("A", 1, b"", **back)))
        for at in range(60)
        if 2 * at < heard_s
    ]
    return [*frames, *spoken]


@pytest.mark.parametrize(("heard_s", "lossy"), [(120, True), (8, False)])
def test_who_is_off_loses_no_packets(tmp_path, heard_s, lossy):
    kinds = {kind for kind, *_ in _found(_view(tmp_path, _sent_again(heard_s)))}
    assert ("sent_again" in kinds) == lossy


def _asked_again(times: int, back: str) -> list[Frame]:
    """Five attempts to connect, each SYN sent so often, each answered by these flags at once."""
    frames = []
    for call in range(5):
        ends = {"sport": 41000 + call, "dport": 502}
        sides = {"src": SERVER, "dst": CLIENT, "sport": 502, "dport": 41000 + call}
        for again in range(times):
            ts = 30.0 * call + 2.0 * again
            frames.append((ts, ethernet(tcp_packet("S", 0, b"", **ends))))
            frames.append((ts + 0.01, ethernet(tcp_packet("SA", 0, b"", **sides))))
        if back:
            frames.append((ts + 0.02, ethernet(tcp_packet(back, 1, b"", **ends))))
    return frames


@pytest.mark.parametrize(
    ("times", "back", "found"),
    [(4, "", ["deaf"]), (1, "", []), (4, "A", []), (4, "R", [])],
    ids=["asks again", "a flood's one SYN", "gets it at last", "ends it"],
)
def test_who_asks_again_though_it_was_answered_does_not_hear(tmp_path, times, back, found):
    hits = [
        hit
        for hit in apply_rules(_view(tmp_path, _asked_again(times, back)))
        if hit.device == CLIENT
    ]
    kinds = [kind_of(hit.fact) for hit in hits]
    assert [kind for kind in kinds if kind == "deaf"] == found
    if found:  # and no link is called lossy for it
        assert kinds == found
        assert hits[0].fact.values["syns"] == 20


# ---- GOOSE ----


def _published(*steps: tuple[float, int, int], mac: bytes = A, lives_ms: int = 2000) -> list[Frame]:
    return [
        (ts, ethernet(goose_message(state, repeat, lives_ms=lives_ms), 0x88B8, mac, ALL))
        for ts, state, repeat in steps
    ]


STEADY = [(float(ts), 4, ts) for ts in range(30)]
OTHER: Frame = (60.0, ethernet(udp_packet(b"x")))  # the recording goes on


@pytest.mark.parametrize(
    ("frames", "found"),
    [
        ([*_published(*STEADY), OTHER], [("goose_silent", "device_silent", MAC_A)]),
        (_published(*STEADY), []),
        # It never keeps what it promises, and the recording ends soon after.
        ([*_published(*STEADY, lives_ms=500), (31.0, OTHER[1])], [("goose_late", "flapping", MAC_A)]),
        (
            _published(*((ts, 4, repeat + repeat // 10) for ts, _, repeat in STEADY)),
            [],
        ),
        (
            _published(*((ts, 4, repeat + repeat // 5) for ts, _, repeat in STEADY)),
            [("goose_missed", "packet_loss", MAC_A)],
        ),
        (
            _published(*((ts, 4, repeat % 8) for ts, _, repeat in STEADY)),
            [("goose_back", "flapping", MAC_A)],
        ),
    ],
    ids=["silent", "well", "always late", "two are missing", "five are missing", "back again"],
)  # fmt: skip
def test_a_publisher_by_what_its_messages_say(tmp_path, frames, found):
    assert _found(_view(tmp_path, frames)) == found


def test_two_publishers_of_one_control_block(tmp_path):
    mine = _published(*STEADY)
    other = _published(*((ts + 0.5, 9, repeat) for ts, _, repeat in STEADY), mac=B)
    (hit,) = apply_rules(_view(tmp_path, mine + other))
    assert (kind_of(hit.fact), hit.label, hit.fact.values["n"]) == ("goose_twice", "spoofing", 2)
    assert {hit.device, *hit.peers} == {MAC_A, MAC_B}
    # One that takes over after the other has stopped is a spare.
    later = [(ts + 30, frame) for ts, frame in other]
    assert "goose_twice" not in [kind for kind, *_ in _found(_view(tmp_path, mine + later))]


# ---- PROFINET ----


def test_an_alarm_of_a_station(tmp_path):
    body = struct.pack(">HHBBHHH", 1, 2, 0x11, 0x11, 1, 1, 28)
    alarm = struct.pack(">HH", 0x0002, 24) + b"\1\0" + struct.pack(">HIHH", 1, 0, 3, 1) + bytes(12)
    frames = [(ts, ethernet(b"\xfc\1" + body + alarm, 0x8892, A, B)) for ts in (1.0, 9.0)]
    (hit,) = apply_rules(_view(tmp_path, [*frames, OTHER]))
    assert (kind_of(hit.fact), hit.label, hit.device) == ("alarm", "service_down", MAC_A)
    assert (hit.fact.values["what"], hit.fact.values["times"]) == ("alarm: diagnosis", 2)


@pytest.mark.parametrize(("pause_s", "twice"), [(0.2, True), (40.0, False)])
def test_one_name_of_two_stations(tmp_path, pause_s, twice):
    """Both answer one question; a station that was replaced answers a later one."""
    asked = dcp_message(0xFEFE, 5, 0, 7, dcp_name(b"press-io"))
    answer = dcp_message(0xFEFF, 5, 1, 7, dcp_name(b"press-io", b"\0\0"))
    frames = [(1.0, ethernet(asked, 0x8892, b"\x00\x1b\x1b\0\0\x01", ALL))]
    frames += [(1.1 + n * pause_s, ethernet(answer, 0x8892, mac)) for n, mac in enumerate((A, B))]
    found = [hit for hit in apply_rules(_view(tmp_path, [*frames, OTHER])) if hit.peers]
    assert [hit.fact.values["name"] for hit in found] == ["press-io"] * twice


# ---- What is told where it is asked for ----


def test_who_writes_and_who_ends_sessions(tmp_path):
    write = struct.pack(">HHHBBHH", 1, 0, 6, 1, 6, 7, 99)
    frames = []
    for number in range(3):  # each is ended by its client, 5 s after its last word
        ts, sport = 10.0 * number, 41000 + number
        ends = {"sport": sport, "dport": 502}
        back = {"sport": 502, "dport": sport, "src": SERVER, "dst": CLIENT}
        for at, flags, seq, data, sides in (
            (0.0, "S", 0, b"", ends), (0.1, "SA", 0, b"", back), (0.2, "PA", 1, write, ends),
            (0.3, "PA", 1, write, back), (5.3, "FA", 13, b"", ends), (5.4, "FA", 13, b"", back),
        ):  # fmt: skip
            frames.append((ts + at, ethernet(tcp_packet(flags, seq, data, **sides))))
    view = _view(tmp_path, frames)
    (writes,) = writer_facts(view, SERVER)
    assert (writes.values["client"], writes.values["writes"]) == (CLIENT, 3)
    (ends,) = end_facts(view, CLIENT)
    assert (ends.values["closed"], ends.values["sessions"]) == (3, 3)
    assert ends.values["idle_s"] == pytest.approx(5.0, abs=0.01)
    assert end_facts(view, SERVER) == []


# ---- Whose attempts tell that a service is down ----


def _refused(src: str, *times: float, port: int = 1883) -> list[Frame]:
    """Attempts at a closed port of the server, each from a port of its own."""
    frames = []
    for place, ts in enumerate(times):
        sport = 30000 + place
        asked = tcp_packet("S", 0, src=src, sport=sport, dport=port)
        reset = tcp_packet("RA", 0, src=SERVER, dst=src, sport=port, dport=sport)
        frames += [(ts, ethernet(asked)), (ts + 1e-4, ethernet(reset))]
    return frames


FLOODERS = ["192.168.1.31", "192.168.1.32", "192.168.1.33"]


@pytest.mark.parametrize(
    ("retries_s", "clients"),
    [([], None), ([10.0 * i for i in range(6)], CLIENT), ([0.2 * i for i in range(200)], CLIENT)],
    ids=["nobody else", "every ten seconds", "five a second"],
)
def test_who_floods_a_closed_port_misses_no_service(tmp_path, retries_s, clients):
    times = [i / 120 for i in range(4800)]
    floods = [frame for src in FLOODERS for frame in _refused(src, *times)]
    view = _view(tmp_path, [*floods, *_refused(CLIENT, *retries_s)])
    hits = {(kind_of(hit.fact), hit.device): hit.fact.values for hit in apply_rules(view)}
    flooded = {("one_way", src) for src in FLOODERS}
    assert set(hits) == flooded | ({("port_refused", SERVER)} if clients else set())
    for said in (hits[flood] for flood in flooded):
        assert (said["pkts"], said["refused_share"]) == (4800, 1)  # something came back
        assert (said["first_time_s"], said["peak_pkts"]) == (0, 1200)
    if clients:
        refused = hits["port_refused", SERVER]
        assert (refused["clients"], refused["attempts"]) == (clients, len(retries_s))


def test_a_service_is_not_down_because_a_flood_of_it_is_refused(tmp_path):
    """It served a client before, and nobody but the flood asks for it since."""
    served = [
        client(0.0, "S", 0, dport=1883),
        server(0.1, "SA", 0, port=1883),
        client(0.2, "A", 1, dport=1883),
        client(0.3, "FA", 1, dport=1883),
        server(0.4, "FA", 1, port=1883),
    ]
    times = [60 + i / 120 for i in range(4800)]
    view = _view(tmp_path, [*served, *_refused(FLOODERS[0], *times)])
    assert _found(view) == [("one_way", "dos", FLOODERS[0])]
    slower = _view(tmp_path, [*served, *_refused(FLOODERS[0], *(60.0 + i for i in range(80)))])
    assert ("refusing", "service_down", SERVER) in _found(slower)


# ---- Who looks around: what runs there, what it answers to ----

HELLO = bytes.fromhex("16030100370100003303030000000000") + bytes(48)
GET = b"GET / HTTP/1.0\r\n\r\n"
BLANK = b"\r\n\r\n"


def _opened(number: int, port: int, *sent: bytes) -> list[Frame]:
    """A connection in which the client sends something and the server ends it without a word."""
    ts, sport = 100.0 + number, 42000 + number
    back = {"src": SERVER, "dst": CLIENT, "sport": port, "dport": sport}
    ends = {"sport": sport, "dport": port}
    frames = [(ts, tcp_packet("S", 0, **ends)), (ts + 0.01, tcp_packet("SA", 0, **back))]
    place = 1
    for at, data in enumerate(sent):
        frames.append((ts + 0.02 + at / 100, tcp_packet("PA", place, data, **ends)))
        place += len(data)
    frames.append((ts + 0.5, tcp_packet("FA", 1, **back)))
    frames.append((ts + 0.6, tcp_packet("FA", place, **ends)))
    return [(at, ethernet(packet)) for at, packet in frames]


@pytest.mark.parametrize(
    ("closed", "sent", "found"),
    [
        (9, [GET, HELLO, BLANK, BLANK, BLANK], "version_scan"),
        (9, [GET, BLANK, BLANK, BLANK], "version_scan"),
        (0, [GET, HELLO, BLANK, BLANK, BLANK], "version_scan"),
        (0, [BLANK] * 6, "malformed"),  # one program that was set to the wrong port
        (0, [HELLO] * 6, ""),
        (3, [GET, HELLO] * 3, ""),  # a web client that falls back
    ],
)
def test_who_speaks_one_protocol_after_the_other_looks_for_what_runs_there(
    tmp_path, closed, sent, found
):
    frames = [one for i, data in enumerate(sent) for one in _opened(i, 502, data)]
    for port in range(closed):
        frames += _refused(CLIENT, 90.0 + port, port=8000 + port)
    view = _view(tmp_path, [*frames, (200.0, ethernet(udp_packet(b"x")))])
    hits = [hit for hit in apply_rules(view) if kind_of(hit.fact) in ("version_scan", "malformed")]
    assert [kind_of(hit.fact) for hit in hits] == ([found] if found else [])
    if found == "version_scan":
        (hit,) = hits
        assert (hit.device, hit.label, hit.peers) == (CLIENT, "recon", (SERVER,))
        told = hit.fact.values
        assert (told["ports"], told["closed"], told["port"]) == (closed + 1, closed, 502)
        assert told["tongues"].endswith("3 messages that are no Modbus")


def _asks(*requests: tuple[int, int, int], code: int = 2) -> list[Frame]:
    """Modbus requests by unit, function and address, each answered with an exception, or without."""
    return _answered(*((*request, code) for request in requests))


def _reads(*codes: int) -> list[Frame]:
    """The same read again and again, answered with these exceptions."""
    return _answered(*((1, 3, 7, code) for code in codes))


def _answered(*requests: tuple[int, int, int, int]) -> list[Frame]:
    turns = []
    for number, (unit, function, address, code) in enumerate(requests):
        head = struct.pack(">HHHB", number, 0, 6, unit)
        turns.append((">", head + struct.pack(">BHH", function, address, 1)))
        answer = bytes([function | 0x80, code]) if code else bytes([function, 2, 0, 7])
        turns.append(("<", struct.pack(">HHHB", number, 0, 1 + len(answer), unit) + answer))
    return talk(502, *turns)


WALK = [
    (unit, function, at) for unit in (1, 2, 3) for function in (3, 4) for at in range(0, 90, 10)
]


@pytest.mark.parametrize(
    ("requests", "found"),
    [
        (WALK, ("probe", "recon", CLIENT)),  # few functions, units and addresses, each with each
        ([(1, 3, 10), (1, 3, 20), (1, 4, 10)] * 70, ("refused", "misconfiguration", CLIENT)),
        # Whom a master asks for twelve things again and again, it was set wrong.
        ([(unit, 3, 10) for unit in range(1, 13)] * 12, ("refused", "misconfiguration", CLIENT)),
    ],
)
def test_who_asks_for_each_thing_once_tries_a_device_out(tmp_path, requests, found):
    assert _found(_view(tmp_path, _asks(*requests))) == [found]


def test_who_works_beside_that_tries_a_device_out_too(tmp_path):
    """Its own requests, of which there are more, are answered; what it tries are none of them."""
    own = [(7, 3, 0, b"\x03\x02\0\x07")]
    tried = [(unit, 3, at, b"\x83\x02") for unit in (1, 2, 3) for at in range(0, 200, 10)]
    requests = [*own * 100, *(one for each in tried for one in (each, *own))]
    turns = []
    for number, (unit, function, address, answer) in enumerate(requests):
        head = struct.pack(">HHHB", number, 0, 6, unit)
        turns.append((">", head + struct.pack(">BHH", function, address, 1)))
        turns.append(("<", struct.pack(">HHHB", number, 0, 1 + len(answer), unit) + answer))
    (hit,) = apply_rules(_view(tmp_path, talk(502, *turns)))
    told = hit.fact.values
    assert (kind_of(hit.fact), hit.label, hit.device) == ("probe", "recon", CLIENT)
    assert (told["units"], told["targets"], told["asked"], told["refused"]) == (3, 20, 60, 60)
    assert hit.slots.min() == 1020 // SAMPLE_S  # after a hundred requests, 0.2 s each


def test_units_that_leave_who_tries_them_without_an_answer(tmp_path):
    """Each asked for once, and only one is there."""
    turns = []
    for unit in range(1, 31):
        head = struct.pack(">HHHB", unit, 0, 6, unit)
        turns.append((">", head + struct.pack(">BHH", 3, 0, 1)))
        if unit == 5:
            turns.append(("<", head[:4] + b"\0\x05" + bytes([unit]) + b"\x03\x02\0\x07"))
    (hit,) = apply_rules(_view(tmp_path, talk(502, *turns)))
    told = hit.fact.values
    assert (kind_of(hit.fact), hit.label) == ("probe", "recon")
    assert (told["units"], told["refused"], told["unanswered"]) == (30, 0, 29)


def test_who_sends_what_no_stack_would_meets_no_limit_of_sessions(tmp_path):
    """Its connections are cut for that; so are those of which nothing was read."""
    wrong = [one for i in range(3) for one in _opened(i, 1883, b"\xf0\x00\xff\xff")]
    silent = [one for i in range(5, 11) for one in _opened(i, 1883)]
    last = [(200.0, ethernet(udp_packet(b"x")))]
    assert ("limit", "service_down", SERVER) in _found(_view(tmp_path, [*silent, *last]))
    assert _found(_view(tmp_path, [*wrong, *silent, *last])) == [
        ("malformed", "mqtt_abuse", CLIENT)
    ]


def test_the_filter_of_requests_selects_those_that_were_counted(tmp_path):
    """Writes of two functions among reads; the windows of the alarm see only the last."""
    reads = [(1, 3, at) for at in range(20)]
    writes = [(1, 6, at) for at in range(400)]
    before = (900.0, ethernet(udp_packet(b"x")))
    frames = [before, *_asks(*reads, *writes, *reads, code=0)]
    view = _view(tmp_path, frames)
    profile = PROFILES["unauthorized_command"]
    last = np.array([int(1070 // SAMPLE_S)])
    (fact, *_) = profile.make_facts(attribute(view, SERVER, profile, "target", last), view, ())
    told = fact.values
    assert (told["client"], told["requests"]) == (CLIENT, 400)
    assert (told["first_time_s"], told["last_time_s"]) == (1004.0, 1083.8)  # 0.2 s each
    assert fact.proof.count == 400
    selected = tshark.fields(tmp_path / "capture.pcap", fact.proof.filter, "frame.number")
    assert selected[0] == [str(fact.proof.frames[0])]
    assert len(selected) == 400


@pytest.mark.parametrize(
    ("before", "new"),
    [
        (udp_packet(b"x"), [("new_writer", "unauthorized_command", CLIENT)]),
        (
            udp_packet(b"x", src=ELSEWHERE, dst=CLIENT),
            [],
        ),  # the server was not there to be written to
    ],
    ids=["seen", "not seen"],
)
def test_who_writes_is_new_to_a_device_that_was_watched_before(tmp_path, before, new):
    writes = _asks(*[(1, 6, at) for at in range(5)], code=0)
    view = _view(tmp_path, [(300.0, ethernet(before)), *writes])
    assert [one for one in _found(view) if one[0] == "new_writer"] == new


# ---- Resolvers that fail their clients ----


def _question(ts: float, src: str, rcode: int, number: int) -> list[Frame]:
    """A question for a name, and the answer a hundredth of a second later."""
    name = b"\x06broker\x05plant\x00" + struct.pack(">HH", 1, 1)
    ask = struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + name
    answer = struct.pack(">HHHHHH", number, 0x8180 | rcode, 1, 0, 0, 0) + name
    there = {"sport": 33000 + number % 20000, "dport": 53, "src": src, "dst": SERVER}
    back = {"dport": there["sport"], "sport": 53, "src": SERVER, "dst": src}
    return [
        (ts, ethernet(udp_packet(ask, **there))),
        (ts + 0.01, ethernet(udp_packet(answer, **back))),
    ]


ASKERS = [f"192.168.1.{n}" for n in range(40, 46)]


def _resolved(*times: tuple[float, str, int]) -> list[Frame]:
    frames = [one for at, asked in enumerate(times) for one in _question(*asked, at)]
    return [*frames, (max(ts for ts, *_ in times) + 60, ethernet(udp_packet(b"x")))]


def test_failures_of_a_resolver_are_counted_over_all_clients_while_it_fails(tmp_path):
    """Six clients ask every ten seconds; for a minute four of them are refused, the others served."""
    times = [
        (100.0 * part + 10.0 * i + place, src, 5 if part == 3 and i < 6 and place < 4 else 0)
        for part in range(8)
        for i in range(10)
        for place, src in enumerate(ASKERS)
    ]
    view = _view(tmp_path, _resolved(*times))
    (hit,) = apply_rules(view)
    told, affected = (fact.values for fact in hit.facts)
    assert (kind_of(hit.fact), hit.device, sorted(hit.peers)) == ("servfail", SERVER, ASKERS[:4])
    assert (told["failed"], told["asked"], told["clients"]) == (24, 34, 6)  # 300 to 353 s
    assert (told["since_time_s"], told["until_time_s"], affected["n"]) == (300, 353, 4)
    assert "24 REFUSED" in hit.fact.text
    selected = tshark.fields(tmp_path / "capture.pcap", hit.fact.proof.filter, "frame.number")
    assert len(selected) == hit.fact.proof.count == 24


def test_failures_an_hour_apart_are_two_stories_each_with_its_own_filter(tmp_path):
    first = [(10.0 * i, src, 2) for i in range(5) for src in ASKERS]
    second = [(4000.0 + 10 * i, src, 2) for i in range(3) for src in ASKERS[:2]]
    view = _view(tmp_path, _resolved(*first, *second))
    hits = apply_rules(view)
    assert [hit.fact.values["failed"] for hit in hits] == [30, 6]
    assert [len(hit.peers) for hit in hits] == [6, 2]
    for hit in hits:
        path = tmp_path / "capture.pcap"
        selected = tshark.fields(path, hit.fact.proof.filter, "frame.number")
        assert len(selected) == hit.fact.values["failed"]


@pytest.mark.parametrize(("failing", "found"), [(range(0, 100, 8), True), (range(40, 46), False)])
def test_one_client_with_a_wrong_name_now_and_then_has_no_failing_resolver(
    tmp_path, failing, found
):
    times = [(10.0 * i, CLIENT, 2 if i in failing else 0) for i in range(100)]
    times += [(10.0 * i + 1, src, 0) for i in range(100) for src in ASKERS]
    hits = apply_rules(_view(tmp_path, _resolved(*times)))
    assert [hit.peers for hit in hits] == [(CLIENT,)] * found
    if found:
        assert (hits[0].fact.values["failed"], hits[0].fact.values["asked"]) == (13, 97)


# ---- What is sent again and tells of no loss ----


def _ends_twice(number: int, after_s: float) -> list[Frame]:
    """A login that the server refuses and ends; its FIN comes again before it is acknowledged."""
    frames = _opened(number, 23, b"admin\r\n")
    fin = tcp_packet("FA", 1, src=SERVER, dst=CLIENT, sport=23, dport=42000 + number)
    return [*frames, (frames[-2][0] + after_s, ethernet(fin))]


@pytest.mark.parametrize(("after_s", "lossy"), [(0.02, False), (0.3, True)])
def test_who_ends_a_session_and_asks_early_whether_that_arrived_loses_nothing(
    tmp_path, after_s, lossy
):
    frames = [one for number in range(40) for one in _ends_twice(number, after_s)]
    view = _view(tmp_path, frames)
    assert view.count_resent(SERVER)[1] == (40 if lossy else 0)
    found = [hit for hit in apply_rules(view) if kind_of(hit.fact) == "sent_again"]
    assert len(found) == lossy
    if lossy:
        condition = found[0].fact.proof.filter
        assert len(tshark.fields(tmp_path / "capture.pcap", condition, "frame.number")) == 40


# ---- What fails from one moment on ----

REFUSED = {
    "conn_state": "REJ", "history": "Sr", "duration": 0.0, "orig_pkts": 1.0, "resp_pkts": 1.0,
    "orig_bytes": 0.0, "resp_bytes": 0.0,
}  # fmt: skip
SECOND = "192.168.1.30"


def _waits(ts: float) -> dict:
    """A SYN whose answer is on the way."""
    return unanswered(ts, CLIENT, SERVER, 502, duration=0.0, orig_pkts=1.0, orig_ip_bytes=60.0)


def _unanswered_tries(*times: float) -> list[dict]:
    return [unanswered(ts, CLIENT, SERVER, 502, id__orig_p=60_000 + int(ts)) for ts in times]


def _tries(*times: float, by: tuple[str, ...] = (CLIENT, SECOND), **more: object) -> list[dict]:
    """Calls of port 502 by turns."""
    clients = (by[n % len(by)] for n in range(len(times)))
    ports = range(50_000, 50_000 + len(times))
    return [
        flow(ts, who, SERVER, 502, **{"id__orig_p": port, **more})
        for ts, who, port in zip(times, clients, ports, strict=True)
    ]


@pytest.mark.parametrize(
    ("failing", "found"),
    [
        (_tries(50, 52, 53, 54, 56, **REFUSED), True),
        (_tries(50, 52, 53, 56, **REFUSED), False),  # four
        (_tries(50, 51, 52, 53, 54, **REFUSED), False),  # in four seconds: a restart
        (_tries(50, 52, 53, 54, 56, by=(CLIENT,), **REFUSED), False),
        ([*_tries(50, 52, 53, 54, 56, **REFUSED), *_tries(57)], False),  # it is back
        ([*_tries(50, 52, 53, 54, 56, **REFUSED), _waits(57)], True),
        ([*_tries(50, 52, 53, **REFUSED), *_unanswered_tries(54, 56)], False),
    ],
    ids=["five", "four", "short", "one client", "back", "newest waits", "some are silent"],
)
def test_a_server_that_refuses_all_of_several_clients_is_down(failing, found):
    made = table_capture(*_tries(1, 2, 11, 12, 21, 22), *failing)
    hits = find_failing_services(TrafficView(made, make_samples(made)))
    assert [(hit.device, hit.label) for hit in hits] == [(SERVER, "service_down")] * found


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ("......xxxxxx", True),  # six seconds of what was answered before
        ("...xxxxxx", False),  # three answers are no custom
        ("......xxxx", False),
        ("......xxxxxx.", False),  # answered again
        ("xxxxxx", False),  # never answered: who looks around is refused a few things at once
    ],
)
def test_requests_that_were_answered_and_are_refused_need_no_twenty_seconds(
    tmp_path, answers, found
):
    frames = [client(0.0, "S", 0, dport=502), server(0.1, "SA", 0, port=502)]
    asks, says = 1, 1
    for second, answer in enumerate(answers, 1):
        asked = bytes([0, second, 0, 0, 0, 6, 1, 3, 0, 7, 0, 1])
        told = bytes([0, second, 0, 0, 0, 3, 1, 0x83, 2])
        if answer == ".":
            told = bytes([0, second, 0, 0, 0, 5, 1, 3, 2, 0, 9])
        frames.append(client(second, "PA", asks, asked, dport=502))
        frames.append(server(second + 0.1, "PA", says, told, port=502))
        asks, says = asks + len(asked), says + len(told)
    kinds = [kind_of(hit.fact) for hit in find_refusals(_view(tmp_path, frames))]
    assert kinds == ["refused"] * found


@pytest.mark.parametrize(
    ("code", "back", "found"),
    [
        (4, False, ("now_refused", "service_down", SERVER)),  # it says that it failed
        (2, True, ("now_refused", "service_down", SERVER)),  # it gives the same again
        (2, False, ("refused", "misconfiguration", CLIENT)),  # who of both changed is open
    ],
)
def test_a_server_that_refuses_what_it_gave_before_has_changed(tmp_path, code, back, found):
    codes = [0] * 150 + [code] * 150 + [0] * 150 * back
    assert _found(_view(tmp_path, _reads(*codes))) == [found]


@pytest.mark.parametrize(
    ("before_s", "requests", "found"),
    [
        (400.0, [(1, 6, at) for at in range(20)], True),
        (200.0, [(1, 6, at) for at in range(20)], False),  # it may always do so
        (400.0, [(1, 6, at) for at in range(9)], False),  # a set point or two
        (400.0, [(1, 3, 0), *((1, 6, at) for at in range(20))], False),  # it looks before
    ],
)
def test_who_writes_many_times_and_never_looks_is_new_sooner(tmp_path, before_s, requests, found):
    writes = _asks(*requests, code=0)
    began = writes[0][0]
    frames = [(began - before_s, ethernet(udp_packet(b"x"))), *writes]
    hits = [one for one in _found(_view(tmp_path, frames)) if one[0] == "new_writer"]
    assert bool(hits) is found
