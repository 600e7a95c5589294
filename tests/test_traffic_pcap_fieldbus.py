"""Messages of HART-IP, synchrophasors, SLMP and MELSOFT written out by hand."""

import struct
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from frames import (
    CLIENT,
    SERVER,
    SLMP_ROUTE,
    Frame,
    ethernet,
    phasor_command,
    phasor_configuration,
    phasor_data,
    read,
    slmp_answer,
    slmp_request,
    talk,
    told,
    udp_packet,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.detection.rules import apply_rules
from assistant.facts.requests import name_failing
from assistant.facts.traffic_view import TrafficView
from traffic.pcap.protocols import BY_NAME
from traffic.pcap.protocols.hartip import COMMUNICATION, DEVICE, SESSIONS, STATUS
from traffic.pcap.protocols.synchrophasor import DATA, INVALID, MISSED, PMU_ERROR, UNSYNCHRONISED
from traffic.samples import make_samples

LATER: Frame = (1900.0, ethernet(udp_packet(b"x")))  # so that nothing waits when the capture ends
ALL = "255.255.255.255"


def _rows(exchanges: pd.DataFrame, *columns: str) -> list[list[object]]:
    return exchanges[list(columns)].astype(object).values.tolist()


def _sent(ts: float, data: bytes, dport: int, sport: int = 40000) -> Frame:
    return ts, ethernet(udp_packet(data, CLIENT, SERVER, sport, dport))


def _back(ts: float, data: bytes, sport: int, dport: int = 40000) -> Frame:
    return ts, ethernet(udp_packet(data, SERVER, CLIENT, sport, dport))


# ---- HART-IP ----


def _hart(kind: int, identifier: int, sequence: int, body: bytes = b"", status: int = 0) -> bytes:
    return struct.pack(">BBBBHH", 1, kind, identifier, status, sequence, 8 + len(body)) + body


def _ask(command: int, sequence: int, data: bytes = b"", device: int = 210) -> bytes:
    body = b"\x82\x26\x4e" + device.to_bytes(3) + bytes([command, len(data)]) + data + b"\0"
    return _hart(0, 3, sequence, body)


def _say(
    command: int, sequence: int, data: bytes = b"", code: int = 0, state: int = 0, device: int = 210
) -> bytes:
    body = b"\x86\x26\x4e" + device.to_bytes(3) + bytes([command, 2 + len(data), code, state])
    return _hart(1, 3, sequence, body + data + b"\0")


OPEN, OPENED = _hart(0, 0, 1, b"\1\0\0\x75\x30"), _hart(1, 0, 1, b"\1\0\0\xea\x60")
# Expanded type 0x264E, HART 7, device revision 4, software revision 9, device 210, maker 38.
IDENTITY = bytes.fromhex("fe264e050704090e0c0000d205020002d00026002684")


@pytest.mark.parametrize(
    ("asked", "answer", "expected"),
    [
        (_ask(3, 2), _say(3, 2, bytes(9)), ["read", 3, "answered", 0]),
        (_ask(35, 2, bytes(9)), _say(35, 2), ["write", 35, "answered", 0]),
        (_ask(35, 2, bytes(9)), _say(35, 2, code=7), ["write", 35, "refused", 7]),
        (_ask(34, 2, bytes(4)), _say(34, 2, code=8), ["write", 34, "answered", 8]),  # a warning
        (_ask(42, 2), _say(42, 2), ["control", 42, "answered", 0]),
        (_ask(1, 2), _say(1, 2, code=0x88), ["read", 1, "refused", COMMUNICATION]),
        (_ask(1, 2), _say(1, 2, state=0xC0), ["read", 1, "answered", DEVICE + 0xC0]),
        (_ask(1, 2), _say(1, 2, state=0x10), ["read", 1, "answered", 0]),  # more is available
        (_ask(1, 2), _hart(1, 3, 2, status=5), ["read", 1, "refused", STATUS + 5]),
        (_ask(1, 2), _hart(15, 3, 2), ["read", 1, "refused", STATUS + 255]),
        (_ask(1, 2), _say(1, 3), ["read", 1, "unanswered", -1]),  # of another request
        (_ask(31, 2, b"\x03\x0e"), _say(31, 2, b"\x03\x0e"), ["other", 782, "answered", 0]),
        (_hart(0, 2, 2), _hart(1, 2, 2), ["session", SESSIONS + 2, "answered", 0]),
    ],
)
@pytest.mark.parametrize("tcp", [True, False])
def test_hart_commands_are_answered_or_refused(tmp_path, asked, answer, expected, tcp):
    if tcp:
        frames = talk(50940, (">", OPEN), ("<", OPENED), (">", asked), ("<", answer))
    else:
        # The server answers from another port than was asked, and goes on with that.
        frames = [
            _sent(1000.0, OPEN, 5094), _back(1000.1, OPENED, 5095),
            _sent(1000.2, asked, 5095), _back(1000.3, answer, 5095), LATER,
        ]  # fmt: skip
    found = read(tmp_path, frames)
    assert set(found.flows["service"].dropna()) == {"hart_ip"}
    assert _rows(found.exchanges[:2], "client", "kind", "function", "outcome", "code") == [
        [CLIENT, "session", SESSIONS, "answered", 0], [CLIENT, *expected],
    ]  # fmt: skip


def test_a_hart_device_says_what_it_is(tmp_path):
    turns = [
        (">", _ask(0, 1)), ("<", _say(0, 1, IDENTITY)),
        (">", _ask(13, 2)), ("<", _say(13, 2, bytes.fromhex("414b71c31060") + bytes(15))),
        (">", _ask(20, 3)), ("<", _say(20, 3, b"line 3 pressure".ljust(32, b"\0"))),
    ]  # fmt: skip
    said = read(tmp_path, talk(5094, *turns)).identities
    assert _rows(said[said["source"] == "HART identity"], "device", "unit", "field", "value") == [
        [SERVER, -1, "make", "Rosemount"], [SERVER, -1, "model", "HART device type 0x264E"],
        [SERVER, -1, "firmware", "software revision 9"], [SERVER, -1, "serial", "HART device 210"],
        [SERVER, -1, "name", "PT-101A"], [SERVER, -1, "name", "line 3 pressure"],
    ]  # fmt: skip


def test_hart_devices_behind_a_gateway_are_units(tmp_path):
    turns = [
        (">", _ask(3, 1)), ("<", _say(3, 1)),
        (">", _ask(3, 2, device=77)), ("<", _say(3, 2, device=77)),
    ]  # fmt: skip
    assert _rows(read(tmp_path, talk(5094, *turns)).exchanges, "unit", "outcome") == [
        [210, "answered"], [77, "answered"],
    ]  # fmt: skip


def test_a_device_that_says_that_it_malfunctions_is_not_called_well(tmp_path):
    turns = [
        turn
        for n in range(4)
        for turn in ((">", _ask(3, n)), ("<", _say(3, n, bytes(9), state=0x80)))
    ]
    capture = read(tmp_path, talk(5094, *turns))
    view = TrafficView(capture, make_samples(capture))
    assert (name_failing(view, SERVER), name_failing(view, CLIENT)) == ("ails", "")


# ---- Synchrophasors ----


def test_a_phasor_stream_is_configured_switched_and_told(tmp_path):
    turns = [
        (">", phasor_command(5)), ("<", phasor_configuration(10)), (">", phasor_command(2)),
        ("<", phasor_data(1000.0)), ("<", phasor_data(1000.1)), ("<", phasor_data(1000.3)),  # one is missing
        ("<", phasor_data(1000.4, 0x8000)), ("<", phasor_data(1000.5, 0x4000)), ("<", phasor_data(1000.6, 0x2000)),
        (">", phasor_command(1)), (">", phasor_command(2)), ("<", phasor_data(1001.4)),  # it was off between
    ]  # fmt: skip
    capture = read(tmp_path, talk(47120, *turns))
    assert set(capture.flows["service"].dropna()) == {"synchrophasor"}
    found = capture.exchanges
    assert _rows(found[found["function"] != DATA], "kind", "function", "outcome", "value") == [
        ["identify", 5, "answered", 10], ["session", 2, "told", -1],
        ["session", 1, "told", -1], ["session", 2, "told", -1],
    ]  # fmt: skip
    data = found[found["function"] == DATA]
    assert set(data["client"]) == {SERVER}
    assert set(data["outcome"]) == {"told"}
    assert data["code"].tolist() == [0, 0, MISSED, INVALID, PMU_ERROR, UNSYNCHRONISED, 0]
    said = capture.identities[capture.identities["source"] == "C37.118"]
    assert _rows(said, "device", "unit", "field", "value") == [[SERVER, -1, "name", "Blue PMU"]]


def test_a_phasor_stream_over_udp_of_the_newer_version(tmp_path):
    frames = [
        _sent(1000.0, phasor_command(5), 4713), _back(1000.1, phasor_configuration(1), 4713),
        _back(1001.0, phasor_data(1001.0, 0xC000, version=2), 4713),
        _back(1002.0, phasor_data(1002.0, 0x8000, version=2), 4713), LATER,
    ]  # fmt: skip
    found = read(tmp_path, frames).exchanges
    words = BY_NAME["synchrophasor"].refusals
    assert [words.get(code, "") for code in found["code"]] == [
        "", "data invalid", "PMU in test mode, or no data",
    ]  # fmt: skip


# ---- SLMP ----

D100, X1F = b"\x64\0\0\xa8\2\0", b"\x1f\0\0\0\x9c\0\1\0"
ERROR = SLMP_ROUTE + struct.pack("<HH", 0x1401, 0)


@pytest.mark.parametrize(
    ("asked", "answer", "expected"),
    [
        (slmp_request(0x0401, D100), slmp_answer(data=bytes(4)), ["read", 0x0401, "D100", "", "answered", 0]),
        (slmp_request(0x1401, D100 + bytes(4)), slmp_answer(), ["write", 0x1401, "D100", "", "answered", 0]),
        (slmp_request(0x1401, D100 + bytes(4)), slmp_answer(0xC059, ERROR),
         ["write", 0x1401, "D100", "", "refused", 0xC059]),
        (slmp_request(0x1401, X1F + b"\1", form=3), slmp_answer(0xC201, ERROR),
         ["write", 0x1401, "X1F", "", "refused", 0xC201]),
        (slmp_request(0x1002, b"\1\0"), slmp_answer(), ["control", 0x1002, "", "", "answered", 0]),
        (slmp_request(0x1006, b"\1\0"), b"", ["control", 0x1006, "", "", "unanswered", -1]),
    ],
)  # fmt: skip
def test_slmp_requests_end_with_a_code(tmp_path, asked, answer, expected):
    first = (">", slmp_request(0x0401, D100)), ("<", slmp_answer(data=bytes(4)))
    last = [("<", answer)] if answer else []
    capture = read(tmp_path, talk(50070, *first, (">", asked), *last))
    assert set(capture.flows["service"].dropna()) == {"slmp"}
    assert told(capture.exchanges, BY_NAME["slmp"])[1:] == [expected]


def test_frames_of_slmp_with_serial_numbers_are_paired_by_these(tmp_path):
    turns = [
        (">", slmp_request(0x0401, D100, serial=7) + slmp_request(0x0401, D100, serial=8)),
        ("<", slmp_answer(0xC056, ERROR, serial=8)), ("<", slmp_answer(data=bytes(4), serial=7)),
    ]  # fmt: skip
    found = read(tmp_path, talk(5007, *turns)).exchanges
    assert _rows(found, "outcome", "code", "value", "delay_s") == [
        ["answered", 0, 2, pytest.approx(0.2)], ["refused", 0xC056, 2, pytest.approx(0.1)],
    ]  # fmt: skip


def test_a_cpu_that_is_asked_for_its_model_says_it(tmp_path):
    model = b"Q03UDVCPU".ljust(16) + b"\x66\3"
    turns = (">", slmp_request(0x0101)), ("<", slmp_answer(data=model))
    said = read(tmp_path, talk(5007, *turns)).identities
    assert _rows(said[said["source"] == "MELSEC CPU model"], "field", "value") == [
        ["make", "Mitsubishi Electric"], ["model", "Q03UDVCPU"],
    ]  # fmt: skip
    # The same bytes in devices that are read say nothing of the CPU.
    turns = (">", slmp_request(0x0401, D100)), ("<", slmp_answer(data=model))
    assert "model" not in set(read(tmp_path, talk(5007, *turns)).identities["field"])


def test_who_stops_a_controller_over_slmp_is_found(tmp_path):
    turns = (">", slmp_request(0x1002, b"\1\0")), ("<", slmp_answer())
    capture = read(tmp_path, talk(5007, *turns))
    (hit,) = apply_rules(TrafficView(capture, make_samples(capture)))
    assert (hit.device, hit.label, hit.peers) == (CLIENT, "unauthorized_command", (SERVER,))
    assert hit.fact.values["what"] == "remote stop"


# ---- MELSOFT ----


def _melsoft(start: int, command: int, number: int, data: bytes = b"", result: int = 0) -> bytes:
    """A command of iQ-F, whose header has 0x16 bytes, 2 more in an answer: the result."""
    answers = start == 0xD7
    header = 0x18 if answers else 0x16
    inner = bytes([0x9C if answers else 0x1C, 0x0A, header, 0x14]) + bytes(header - 4)
    inner += struct.pack("<H", result) if answers else bytes(2)
    inner += struct.pack(">H", command) + struct.pack("<HH", number, 0) + data
    mark = bytes([start, 1, 0, 0, 0, 0x11, 0x11, 7]) + bytes(11)
    return mark + struct.pack("<H", len(inner)) + inner


NAME = b"FX5U-32MT/ES".ljust(16, b"\0") + b"\x29\x4a"
PATH = "$MELPRJ$\\MAIN.PRG\0".encode("utf-16-le")
FILE = bytes(12) + struct.pack("<H", len(PATH)) + PATH
GREETING, GREETED = b"\x5a\0\0\xff", b"\xda\0\0\xff" + bytes(24)


@pytest.mark.parametrize(
    ("asked", "answer", "expected"),
    [
        (GREETING, GREETED, ["session", (1 << 16) + 0xFF, "", "", "answered", 0]),
        (_melsoft(0x57, 0x0121, 1), _melsoft(0xD7, 0x0121, 1, NAME),
         ["identify", 0x0121, "", "", "answered", 0]),
        (_melsoft(0x57, 0x1867, 2, FILE), _melsoft(0xD7, 0x1867, 2),
         ["other", 0x1867, "", "$MELPRJ$\\MAIN.PRG", "answered", 0]),
        (_melsoft(0x57, 0x1869, 3), _melsoft(0xD7, 0x1869, 3, result=0x4010),
         ["write", 0x1869, "", "", "refused", 0x4010]),
        (_melsoft(0x57, 0x1002, 4), _melsoft(0xD7, 0x1002, 4),
         ["control", 0x1002, "", "", "answered", 0]),
        (_melsoft(0x57, 0x1002, 4), _melsoft(0xD7, 0x1002, 5),
         ["control", 0x1002, "", "", "unanswered", -1]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["to all", "to one", "tcp"])
def test_melsoft_commands_are_answered(tmp_path, asked, answer, expected, form):
    if form == "tcp":
        frames = talk(5562, (">", asked), ("<", answer))
    else:
        to = (ALL, ALL) if form == "to all" else (SERVER, CLIENT)
        frames = [
            (1000.0, ethernet(udp_packet(asked, CLIENT, to[0], 40000, 5560))),
            (1000.1, ethernet(udp_packet(answer, SERVER, to[1], 5560, 40000))),
            LATER,
        ]
    capture = read(tmp_path, frames)
    assert told(capture.exchanges, BY_NAME["melsoft"])[:1] == [expected]
    answered = capture.exchanges["outcome"].isin(["answered", "refused"])
    assert set(capture.exchanges[answered]["server"]) <= {SERVER}
    said = capture.identities[capture.identities["source"] == "MELSEC CPU model"]
    assert set(said["value"]) == (
        {"Mitsubishi Electric", "FX5U-32MT/ES"} if NAME in answer else set()
    )


def test_the_shorter_header_of_a_q_controller(tmp_path):
    """An exchange that programs which look for such controllers publish."""
    asked = "57000000001111070000ffff030000fe03000014001c080a0800000000000000040101010000000001"
    answer = (
        "d700c80000111107000000e40300ffff03000038009c000c080000000010040000000001010100000051303355444543505520202020"
        "20202068020008baba081020210316002002000101e802"
    )
    capture = read(tmp_path, talk(5007, (">", bytes.fromhex(asked)), ("<", bytes.fromhex(answer))))
    assert _rows(capture.exchanges, "protocol", "function", "outcome") == [
        ["melsoft", 0x0101, "answered"]
    ]
    assert "Q03UDECPU" in set(capture.identities["value"])


# ---- Laws ----

STARTS = {
    "hart_ip": _say(0, 1, IDENTITY), "synchrophasor": phasor_configuration(50), "slmp": slmp_request(0x0401, D100),
    "melsoft": _melsoft(0xD7, 0x0121, 1, NAME),
}  # fmt: skip


@given(
    st.sampled_from(sorted(STARTS)),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=8),
    st.integers(0, 300),
    st.binary(max_size=40),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_law_no_bytes_break_a_reader(name, changes, cut, more, tcp):
    data = bytearray(STARTS[name] + more)
    for at, value in changes:
        data[at % len(data)] = value
    whole, part = bytes(data), bytes(data[: 1 + cut % len(data)])
    port = BY_NAME[name].ports[0]
    sent = (part, whole, STARTS[name], whole[3:] or b"\1")
    if tcp:
        frames = talk(port, *((">" if i % 2 == 0 else "<", body) for i, body in enumerate(sent)))
    else:
        sides = (_sent, _back)
        frames = [sides[i % 2](1000.0 + i, body, port) for i, body in enumerate(sent)]
    with tempfile.TemporaryDirectory() as folder:
        found = read(Path(folder), frames)
    assert found.exchanges["frame"].between(1, len(frames)).all()
    assert (found.exchanges["answer_frame"] <= len(frames)).all()
    assert found.identities["value"].str.len().le(80).all()
