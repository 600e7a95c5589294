"""Programs that stop though their machine lives, and streams that become thin, over packets written by
hand; beside each, what looks like it."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from frames import Frame, ethernet, read, tcp_packet, udp_packet

from assistant.detection.rules import RuleHit, apply_rules
from assistant.facts.fact import kind_of
from assistant.facts.traffic_view import TrafficView
from traffic.samples import make_samples

PLC, PANELS = "192.168.1.60", ("192.168.1.20", "192.168.1.21", "192.168.1.22")
CAMERA, RECORDER = "192.168.1.70", "192.168.1.80"
END_S = 520.0


def _find(tmp_path: Path, frames: list[Frame], *kinds: str) -> list[RuleHit]:
    capture = read(tmp_path, sorted(frames))
    hits = apply_rules(TrafficView(capture, make_samples(capture)))
    return [hit for hit in hits if kind_of(hit.fact) in kinds]


def _poll(
    panel: str, asks: Callable[[float], bool], hangs_up_s: float | None = None
) -> list[Frame]:
    """Modbus reads each two seconds over one connection, where it asks."""
    there, back = (panel, PLC, 41000, 502), (PLC, panel, 502, 41000)
    frames = [(1.0, "S", 0, b"", there), (1.001, "SA", 0, b"", back), (1.002, "A", 1, b"", there)]
    asked = answered = 1
    for number in range(int(END_S // 2)):
        ts = 2.0 + 2 * number
        if not asks(ts):
            continue
        request = struct.pack(">HHHBBHH", number, 0, 6, 1, 3, 0, 1)
        answer = struct.pack(">HHHBBBH", number, 0, 5, 1, 3, 2, 7)
        frames.append((ts, "PA", asked, request, there))
        frames.append((ts + 0.01, "PA", answered, answer, back))
        asked, answered = asked + len(request), answered + len(answer)
    if hangs_up_s is not None:
        frames.append((hangs_up_s, "FA", asked, b"", there))
        frames.append((hangs_up_s + 0.01, "FA", answered, b"", back))
    return [
        (ts, ethernet(tcp_packet(flags, seq, data, *ends))) for ts, flags, seq, data, ends in frames
    ]


def _others() -> list[Frame]:
    return [one for panel in PANELS[1:] for one in _poll(panel, lambda _: True)]


def test_a_program_that_stops_asking_is_found_though_its_machine_lives(tmp_path):
    frames = _others() + _poll(PANELS[0], lambda ts: not 400 < ts < 460)
    lives = tcp_packet("A", 0, b"", PANELS[0], PLC, 41000, 502)
    (hit,) = _find(tmp_path, [*frames, (430.0, ethernet(lives))], "stopped")
    assert (hit.device, hit.label, hit.peers) == (PANELS[0], "device_silent", (PLC,))
    said = hit.fact.values
    assert (said["every_s"], said["pause_s"]) == (pytest.approx(2.0), pytest.approx(60.0))
    assert said["heard_time_s"] == pytest.approx(400.0)
    assert hit.facts[1].values["pkts"] == 1


@pytest.mark.parametrize(("code", "found"), [(6, 1), (0, 0)], ids=["turned away", "answered"])
def test_who_waits_because_it_was_turned_away_made_no_pause_by_that(tmp_path, code, found):
    """Half a minute before one question and after it; at its end it stops for a minute."""
    frames = _others() + _poll(PANELS[0], lambda ts: not (180 < ts < 230 or 400 < ts < 460))
    there, back = (PANELS[0], PLC, 42000, 502), (PLC, PANELS[0], 502, 42000)
    request = struct.pack(">HHHBBHH", 1, 0, 6, 1, 3, 0, 1)
    says = bytes([0x83, code]) if code else b"\x03\x02\0\x07"
    answer = struct.pack(">HHHB", 1, 0, 1 + len(says), 1) + says
    turns = [
        ("S", 0, b"", there),
        ("SA", 0, b"", back),
        ("PA", 1, request, there),
        ("PA", 1, answer, back),
    ]
    frames += [
        (205.0 + n / 100, ethernet(tcp_packet(flags, seq, data, *ends)))
        for n, (flags, seq, data, ends) in enumerate(turns)
    ]
    assert len(_find(tmp_path, frames, "stopped")) == found


@pytest.mark.parametrize(
    "frames",
    [
        _poll(PANELS[0], lambda ts: ts <= 400, hangs_up_s=401.0),  # it ended its session
        _poll(PANELS[0], lambda ts: ts <= 100),  # no habit: it asked for a minute and a half
        _poll(PANELS[0], lambda ts: ts % 8 < 4),  # it pauses all the time
        _poll(PANELS[0], lambda _: True),
    ],
    ids=["hung up", "for a while", "in bursts", "on and on"],
)
def test_who_ends_for_a_reason_did_not_stop(tmp_path, frames):
    assert _find(tmp_path, _others() + frames, "stopped") == []


def test_where_all_stop_it_is_the_server_or_the_sensor(tmp_path):
    frames = [one for panel in PANELS for one in _poll(panel, lambda ts: not 400 < ts < 460)]
    assert _find(tmp_path, frames, "stopped") == []


# ---- Streams ----


def _stream(per_slot: Callable[[int], int], sender: str = CAMERA, port: int = 5000) -> list[Frame]:
    """Packets of 1,400 bytes, so many in each ten seconds."""
    packet = ethernet(udp_packet(b"x" * 1400, src=sender, dst=RECORDER, sport=port, dport=port))
    return [
        (10.0 * slot + 9.9 * n / per_slot(slot), packet)
        for slot in range(40)
        for n in range(per_slot(slot))
    ]


def test_a_steady_stream_that_becomes_thin_is_found(tmp_path):
    frames = _stream(lambda slot: 40 if 20 <= slot < 24 else 100)
    (hit,) = _find(tmp_path, frames, "thin_stream")
    assert (hit.device, hit.label, hit.peers) == (CAMERA, "congestion", (RECORDER,))
    said = hit.fact.values
    assert (said["usual_kbit_per_s"], said["low_kbit_per_s"]) == (114, 46)
    assert (said["since_time_s"], said["lasting_s"]) == (200.0, 40.0)


def test_streams_that_become_thin_together_share_an_end(tmp_path):
    frames = _stream(lambda slot: 40 if 20 <= slot < 24 else 100)
    frames += _stream(lambda slot: 50 if 20 <= slot < 24 else 110, "192.168.1.71", 5001)
    (hit,) = _find(tmp_path, frames, "thin_stream", "thin_streams")
    assert (kind_of(hit.fact), hit.device) == ("thin_streams", RECORDER)


@pytest.mark.parametrize(
    "per_slot",
    [
        lambda slot: 100,
        lambda slot: 40 if slot >= 20 else 100,  # another quality from then on
        lambda slot: 0 if 20 <= slot < 24 else 100,  # gone: not thin
        lambda slot: 40 if slot == 20 else 100,  # one slot
        lambda slot: 100 - 8 * (slot % 8),  # unsteady by nature
    ],
    ids=["even", "changed", "gone", "short", "unsteady"],
)
def test_what_is_no_narrow_way_is_not_found(tmp_path, per_slot):
    assert _find(tmp_path, _stream(per_slot), "thin_stream", "thin_streams") == []


# ---- Units ----


def test_a_unit_that_answers_nobody_is_told_from_a_server_that_is_down(tmp_path):
    """The panel asks for unit 57 beside unit 1, which goes on answering."""
    frames = _poll(PANELS[0], lambda _: True)
    there, back = (PANELS[1], PLC, 42000, 502), (PLC, PANELS[1], 502, 42000)
    wrong = [(1.0, "S", 0, b"", there), (1.001, "SA", 0, b"", back), (1.002, "A", 1, b"", there)]
    for number in range(8):
        request = struct.pack(">HHHBBHH", number, 0, 6, 57, 3, 0, 1)
        wrong.append((100.0 + 5 * number, "PA", 1 + 12 * number, request, there))
    frames += [
        (ts, ethernet(tcp_packet(flags, seq, data, *ends))) for ts, flags, seq, data, ends in wrong
    ]
    (hit,) = _find(tmp_path, frames, "unit_mute", "mute", "timeouts")
    assert (kind_of(hit.fact), hit.device, hit.label) == (
        "unit_mute",
        PANELS[1],
        "misconfiguration",
    )
    assert (hit.fact.values["unit"], hit.fact.values["asked"], hit.fact.values["alive"]) == (
        "57",
        8,
        "1",
    )
