"""Devices that were gone for a moment and came back with nothing, over packets written by hand; beside
each, what looks like it."""

from pathlib import Path

import pytest
from frames import Frame, ethernet, read, tcp_packet, udp_packet

from assistant.detection.rules import RuleHit, apply_rules
from assistant.facts.fact import kind_of
from assistant.facts.traffic_view import TrafficView
from traffic.samples import make_samples

RECORDER, STORE, CAMERAS = "172.29.8.80", "172.29.8.90", ("172.29.8.70", "172.29.8.71")


def _find(tmp_path: Path, frames: list[Frame]) -> list[RuleHit]:
    last = [(400.0, ethernet(udp_packet(b"x", STORE, CAMERAS[0])))]
    capture = read(tmp_path, sorted(frames + last))
    hits = apply_rules(TrafficView(capture, make_samples(capture)))
    return [hit for hit in hits if kind_of(hit.fact) == "restarted"]


def _session(
    camera: str, sport: int, start_s: float, end_s: float, fin: bool = False
) -> list[Frame]:
    """A connection of the recorder in which it says a word each twenty seconds."""
    there, back = (RECORDER, camera, sport, 554), (camera, RECORDER, 554, sport)
    rows = [(start_s, "S", 0, b"", there), (start_s + 0.01, "SA", 0, b"", back)]
    n, ts = 0, start_s + 0.02
    while ts < end_s:
        rows += [(ts, "PA", 1 + 4 * n, b"ping", there), (ts + 0.01, "PA", 1 + 4 * n, b"pong", back)]
        n, ts = n + 1, ts + 20.0
    if fin:
        rows += [(end_s, "FA", 1 + 4 * n, b"", there), (end_s + 0.01, "FA", 1 + 4 * n, b"", back)]
    return [(at, ethernet(tcp_packet(how, seq, data, *ends))) for at, how, seq, data, ends in rows]


def _poll(ts: float, answered: bool) -> list[Frame]:
    sport = 30000 + int(ts)
    there, back = (STORE, RECORDER, sport, 8080), (RECORDER, STORE, 8080, sport)
    rows = [(0.0, "S", 0, b"", there)]
    if answered:
        rows += [
            (0.01, "SA", 0, b"", back),
            (0.02, "FA", 1, b"", there),
            (0.03, "FA", 1, b"", back),
        ]
    else:
        rows += [(1.0, "S", 0, b"", there)]
    return [
        (ts + at, ethernet(tcp_packet(how, seq, data, *ends))) for at, how, seq, data, ends in rows
    ]


def _polls(*vain: int) -> list[Frame]:
    return [one for ts in range(10, 380, 20) for one in _poll(float(ts), ts not in vain)]


def _recorder(
    again: tuple[str, ...] = CAMERAS, fin: bool = False, back_s: float = 226.0
) -> list[Frame]:
    """Until 202 s it holds a session with each camera; some of these it opens anew."""
    frames = [
        one
        for n, camera in enumerate(CAMERAS)
        for one in _session(camera, 41000 + n, 2.0 + n / 10, 203.0, fin=fin)
    ]
    for n, camera in enumerate(again):
        frames += _session(camera, 42000 + n, back_s + n / 10, 380.0)
    return frames


def test_a_device_that_opens_all_that_it_held_anew_was_gone(tmp_path):
    (hit,) = _find(tmp_path, _polls(210) + _recorder())
    assert (hit.label, hit.device) == ("device_silent", RECORDER)
    assert hit.peers[0] == STORE
    assert set(hit.peers[1:]) == set(CAMERAS)
    said = hit.fact.values
    assert (said["asked"], said["n"]) == (2, 2)
    assert (said["heard_time_s"], said["back_time_s"]) == pytest.approx((202.13, 226.0), abs=0.02)


@pytest.mark.parametrize(
    "frames",
    [
        _polls() + _recorder(),  # it answered meanwhile
        _polls(210) + _recorder(CAMERAS[:1]),  # one of two goes on or is given up
        _polls(210) + _recorder(fin=True),  # it closed them itself before
        _polls(210) + _recorder(back_s=260.0),  # it was there long before it opened them
    ],
    ids=["answered", "one", "closed", "later"],
)
def test_other_connections_that_are_opened_anew_are_no_restart(tmp_path, frames):
    assert _find(tmp_path, frames) == []
