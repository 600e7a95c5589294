"""Devices that fall silent, alone or together, servers that do, connections that are held for nothing
and calls that nobody answers, over packets written by hand."""

import struct
from pathlib import Path

import pytest
from frames import (
    SERVER,
    SERVER_MAC,
    Frame,
    arp_packet,
    ethernet,
    read,
    tcp_packet,
    udp_packet,
    write_pcap,
)

from assistant.answers.answer import answer
from assistant.detection.rules import RuleHit, apply_rules
from assistant.facts.fact import kind_of
from assistant.facts.traffic_view import TrafficView
from assistant.session import open_session
from assistant.settings import Settings
from traffic.samples import make_samples

DEVICES = [f"192.168.1.{n}" for n in range(40, 46)]


def _find(tmp_path: Path, frames: list[Frame], *kinds: str) -> list[RuleHit]:
    capture = read(tmp_path, sorted(frames))
    hits = apply_rules(TrafficView(capture, make_samples(capture)))
    return [hit for hit in hits if kind_of(hit.fact) in kinds]


def _report(src: str, until_s: float, silent: tuple[float, float] = (0, 0)) -> list[Frame]:
    """A message to the server each five seconds, but for a time."""
    shift = int(src[-2:]) / 100
    times = [5.0 * n + shift for n in range(int(until_s // 5))]
    message = udp_packet(b"21.5", src=src, dst=SERVER, sport=4000, dport=4000)
    return [(ts, ethernet(message)) for ts in times if not silent[0] <= ts < silent[1]]


def _seek(dst: str, *times: float) -> list[Frame]:
    """The server asks for the hardware address of a device, and nobody tells."""
    return [(ts, arp_packet(1, SERVER_MAC, SERVER, dst)) for ts in times]


@pytest.mark.parametrize(("silent", "named"), [(1, "silent"), (3, "silent_together")])
def test_what_falls_silent_at_one_moment_is_one_thing(tmp_path, silent, named):
    gone = (200.0, 300.0)
    frames = [
        one for n, src in enumerate(DEVICES) for one in _report(src, 400, gone if n < silent else (0, 0))
    ]  # fmt: skip
    frames += _seek(DEVICES[0], 210, 220, 230, 240)
    (hit,) = _find(tmp_path, frames, "silent", "silent_together", "absent")
    assert (kind_of(hit.fact), hit.device, hit.label) == (named, DEVICES[0], "device_silent")
    assert hit.peers == (*DEVICES[1:silent], SERVER)
    said = hit.fact.values
    assert (said["asked"], said["members"]) == (4, silent)
    assert said["heard_time_s"] == pytest.approx(195.4, abs=0.1)
    assert said["back_time_s"] == pytest.approx(300.4, abs=0.1)
    assert "heard again" in hit.fact.text


def test_a_device_that_does_not_come_back_is_said_to_be_silent_still(tmp_path):
    frames = [one for src in DEVICES[1:] for one in _report(src, 400)]
    frames += _report(DEVICES[0], 400, (200, 500)) + _seek(DEVICES[0], *range(210, 390, 10))
    (hit,) = _find(tmp_path, frames, "silent", "absent")
    assert kind_of(hit.fact) == "silent"
    assert "heard again" not in hit.fact.text


def _is_asked_by_tcp_alone(frames: list[Frame]) -> list[Frame]:
    """Its program may hang."""
    ask = ethernet(tcp_packet("S", 0, src=SERVER, dst=DEVICES[0], dport=502))
    return frames + [(float(at), ask) for at in range(210, 290, 10)]


def _nobody_misses(frames: list[Frame]) -> list[Frame]:
    return frames


def _everybody_pauses(frames: list[Frame]) -> list[Frame]:
    """The sensor was deaf."""
    return [one for one in frames if not 200 <= one[0] < 300] + _seek(DEVICES[0], 210, 220, 230)


def _comes_seldom(frames: list[Frame]) -> list[Frame]:
    kept = [one for place, one in enumerate(frames) if place >= 80 or place % 24 == 0]
    return kept + _seek(DEVICES[0], 210, 220, 230)


@pytest.mark.parametrize(
    "change", [_is_asked_by_tcp_alone, _nobody_misses, _everybody_pauses, _comes_seldom]
)
def test_a_pause_is_no_fault_where(tmp_path, change):
    frames = _report(DEVICES[0], 400, (200, 300))
    frames += [one for src in DEVICES[1:] for one in _report(src, 400)]
    assert _find(tmp_path, change(frames), "silent", "silent_together") == []


def test_a_server_whose_only_client_is_gone_is_not_among_the_silent(tmp_path):
    """It answers a poll each second; the poller and a neighbour lose their switch."""
    poller, server = DEVICES[0], DEVICES[1]
    frames = [one for src in DEVICES[2:] for one in _report(src, 400)]
    frames += _report(DEVICES[2], 400) + _seek(poller, 210, 220, 230)
    frames = [
        one for one in frames if not (200 <= one[0] < 300 and one[1] in _frames_of(DEVICES[2]))
    ]
    for n in range(0, 400, 5):
        if 200 <= n < 300:
            continue
        ask = udp_packet(b"?", src=poller, dst=server, sport=5000, dport=5000)
        answer = udp_packet(b"!", src=server, dst=poller, sport=5000, dport=5000)
        frames += [(n + 0.1, ethernet(ask)), (n + 0.2, ethernet(answer))]
    (hit,) = _find(tmp_path, frames, "silent", "silent_together")
    assert {hit.device, *hit.peers} == {poller, DEVICES[2], SERVER}


def test_who_was_heard_again_before_the_others_fell_silent_shares_nothing_with_them(tmp_path):
    """One pauses for half a minute, and another for a hundred seconds right after it."""
    frames = [one for src in DEVICES[2:] for one in _report(src, 400)]
    frames += _report(DEVICES[1], 400, (175, 205)) + _report(DEVICES[0], 400, (195, 300))
    frames += _seek(DEVICES[0], 210, 220, 230, 240) + _seek(DEVICES[1], 185, 190)
    (hit,) = _find(tmp_path, frames, "silent", "silent_together")
    assert (kind_of(hit.fact), hit.device) == ("silent", DEVICES[0])
    assert DEVICES[1] not in hit.peers


def _frames_of(src: str) -> set[bytes]:
    return {frame for _, frame in _report(src, 10)}


def _ask_the_time(ts: float, src: str, answered: bool) -> list[Frame]:
    asks = b"\x23" + bytes(47)
    says = b"\x24\x02" + bytes(6) + struct.pack(">I", 7) + bytes(36)
    there = ethernet(udp_packet(asks, src=src, dst=SERVER, sport=123, dport=123))
    back = ethernet(udp_packet(says, src=SERVER, dst=src, sport=123, dport=123))
    return [(ts, there), (ts + 0.01, back)] if answered else [(ts, there)]


@pytest.mark.parametrize(("clients", "found"), [(3, 1), (1, 0)])
def test_a_time_server_that_answers_none_of_several_is_mute(tmp_path, clients, found):
    frames = [
        one
        for src in DEVICES[:clients]
        for n in range(25)
        for one in _ask_the_time(16.0 * n + int(src[-2:]) / 10, src, not 160 <= 16 * n < 240)
    ]
    hits = _find(tmp_path, frames, "time_server", "timeouts")
    assert [kind_of(hit.fact) for hit in hits if kind_of(hit.fact) == "time_server"] == (
        ["time_server"] * found
    )
    if found:  # what each client missed is said there
        (hit,) = hits
        assert (hit.device, hit.label, set(hit.peers)) == (SERVER, "service_down", set(DEVICES[:3]))
        assert hit.fact.values["failed"] == 15
        assert hit.fact.values["since_time_s"] == pytest.approx(164.0)


def _hold(n: int, said: bytes, until_s: float) -> list[Frame]:
    there = {"src": DEVICES[0], "dst": SERVER, "sport": 40000 + n, "dport": 502}
    back = {"src": SERVER, "dst": DEVICES[0], "sport": 502, "dport": 40000 + n}
    packets = [
        (0.0, tcp_packet("S", 0, **there)),
        (0.01, tcp_packet("SA", 0, **back)),
        (0.02, tcp_packet("PA", 1, said, **there)),
        (until_s, tcp_packet("FA", 1 + len(said), **there)),
        (until_s + 0.01, tcp_packet("FA", 1, **back)),
    ]
    return [(5 + n / 10 + at, ethernet(packet)) for at, packet in packets]


@pytest.mark.parametrize(
    ("count", "said", "until_s", "found"),
    [(25, b"ab", 40.0, True), (12, b"ab", 40.0, False), (25, bytes(500), 40.0, False), (25, b"ab", 1.0, False)],
    ids=["held", "few", "used", "short"],
)  # fmt: skip
def test_many_connections_that_carry_nothing_are_held(tmp_path, count, said, until_s, found):
    frames = [one for n in range(count) for one in _hold(n, said, until_s)]
    hits = _find(tmp_path, frames, "hoarded")
    assert [(hit.device, hit.label, hit.peers) for hit in hits] == (
        [(DEVICES[0], "dos", (SERVER,))] * found
    )
    if found:
        assert (hits[0].fact.values["held"], hits[0].fact.values["said_bytes"]) == (25, 50)


def _call(ts: float, port: int) -> list[Frame]:
    """A SYN to the outside and two more, to which nobody says anything."""
    there = {"src": DEVICES[0], "dst": "203.0.113.9", "sport": 40000 + int(ts), "dport": port}
    return [(ts + at, ethernet(tcp_packet("S", 0, **there))) for at in (0, 1, 3)]


@pytest.mark.parametrize(
    ("port", "calls", "found"), [(1337, 8, True), (1337, 4, False), (443, 8, False)],
    ids=["strange", "few", "an ordinary service"],
)  # fmt: skip
def test_few_calls_tell_at_a_port_of_no_ordinary_service(tmp_path, port, calls, found):
    frames = [one for src in DEVICES for one in _report(src, 200)]
    frames += [one for n in range(calls) for one in _call(60 + 8.0 * n, port)]
    hits = _find(tmp_path, frames, "calls")
    assert [(hit.device, hit.label, hit.peers) for hit in hits] == (
        [(DEVICES[0], "c2", ("203.0.113.9",))] * found
    )
    if found:
        assert hits[0].fact.values["attempts"] == calls


def test_who_only_flooded_is_not_missed(tmp_path):
    frames = [one for src in DEVICES[1:] for one in _report(src, 400)]
    frames += [
        (100.0 + n / 110, ethernet(tcp_packet("S", 1, src=DEVICES[0], dst=SERVER, sport=1024 + n)))
        for n in range(15_000)  # 136 s
    ]
    frames += _seek(DEVICES[0], *range(250, 390, 10))
    assert not _find(tmp_path, frames, "silent", "silent_together")


@pytest.mark.parametrize(("silent", "found"), [(3, 1), (2, 0)])
def test_three_at_one_moment_need_no_long_past_and_no_arp(tmp_path, silent, found):
    gone = (80.0, 106.0)
    frames = [
        one for n, src in enumerate(DEVICES) for one in _report(src, 400, gone if n < silent else (0, 0))
    ]  # fmt: skip
    ends = {"src": SERVER, "dst": DEVICES[0], "dport": 502}
    frames += [(85.0 + n, ethernet(tcp_packet("S", 1, sport=42000 + n, **ends))) for n in range(4)]
    hits = _find(tmp_path, frames, "silent_together")
    assert [hit.fact.values["members"] for hit in hits] == [silent] * found


def test_a_time_without_an_incident_is_no_all_clear_for_who_said_nothing(tmp_path):
    frames = [
        one for src in DEVICES for one in _report(src, 400, (200, 226) if src == DEVICES[0] else (0, 0))
    ]  # fmt: skip
    capture = write_pcap(tmp_path / "plant.pcap", sorted(frames))
    with open_session(Settings(home=tmp_path / "home")) as session:
        analysis = session.analyse(capture)
        told, other = (
            answer(f"did anything happen to {one} at 00:03:30?", analysis).text
            for one in DEVICES[:2]
        )
    assert told.startswith(f"**{DEVICES[0]} sent nothing for 35 s, from second 195")
    assert "sent nothing" not in other
