"""Sessions that a timer ends, over packets written by hand; beside each, what looks like it."""

from pathlib import Path

import pytest
from frames import Frame, ethernet, read, tcp_packet

from assistant.detection.rules.sessions import find_closed_ports, find_idle_closes
from assistant.facts.fact import kind_of
from assistant.facts.traffic_view import TrafficView
from traffic.samples import make_samples

PANEL, DRIVE = "172.29.8.20", "172.29.8.61"


def _session(
    start_s: float, idle_s: float, asks: bool, ends: str = "RA", by_server: bool = True
) -> list[Frame]:
    """A connection that is asked once or not at all, and ended after an idle time."""
    port = 41000 + int(start_s)
    there, back = (PANEL, DRIVE, port, 9000), (DRIVE, PANEL, 9000, port)
    said = 10 if asks else 0
    last_s = start_s + 0.02 + asks * 0.1
    closer = back if by_server else there
    rows = [
        (start_s, "S", 0, b"", there),
        (start_s + 0.01, "SA", 0, b"", back),
        (start_s + 0.02, "A", 1, b"", there),
    ]
    if asks:
        rows.append((last_s, "PA", 1, b"x" * said, there))
    rows.append((last_s + idle_s, ends, 1 if by_server else 1 + said, b"", closer))
    return [(ts, ethernet(tcp_packet(flags, seq, data, *to))) for ts, flags, seq, data, to in rows]


def _found(tmp_path: Path, *sessions: list[Frame]) -> list[tuple[str, float, int]]:
    frames = [one for session in sessions for one in session]
    frames.append((400.0, ethernet(tcp_packet("A", sport=40001))))
    capture = read(tmp_path, sorted(frames))
    hits = find_idle_closes(TrafficView(capture, make_samples(capture)))
    values = [(hit.device, hit.fact.values) for hit in hits]
    return [(device, float(said["idle_s"]), int(said["times"])) for device, said in values]


def test_a_client_may_be_cut_off_before_it_asks(tmp_path):
    """It connects and means to ask every twenty seconds; the server waits for eight."""
    sessions = [_session(20.0 * n, 8.4, asks=n == 1) for n in range(4)]
    assert _found(tmp_path, *sessions) == [(DRIVE, pytest.approx(8.4, abs=0.02), 4)]


def test_a_short_timer_shows_in_more_closes_that_are_all_alike(tmp_path):
    """A slow client that asks every ten seconds; the server resets after two and a half."""
    sessions = [_session(10.0 * n, 2.5 + n % 3 / 100, asks=n > 2) for n in range(8)]
    # The last one is not missed: the capture ends.
    assert _found(tmp_path, *sessions) == [(DRIVE, pytest.approx(2.51, abs=0.02), 7)]


@pytest.mark.parametrize(
    "sessions",
    [
        [_session(20.0 * n, 8.4, asks=False) for n in range(4)],  # never asks: who holds them needs nothing
        [_session(20.0 * n, 2.0 + 4 * n, asks=True) for n in range(4)],  # no timer
        [_session(20.0 * n, 8.4, asks=n == 1, ends="FA", by_server=False) for n in range(4)],
        [_session(20.0 * n, 8.4, asks=n == 1) for n in range(2)],  # twice
        [_session(10.0 * n, 2.5, asks=True) for n in range(5)],  # four of them are missed
        [_session(10.0 * n, 2.5, asks=True, ends="FA") for n in range(8)],  # as web servers end theirs
        [_session(10.0 * n, 1.5 + n % 4, asks=True) for n in range(12)],  # short, no timer
        [_session(10.0 * n, 0.4, asks=True) for n in range(8)],  # once a request
    ],
    ids=["never asks", "no timer", "by the client", "twice", "four", "polite", "short", "at once"],
)  # fmt: skip
def test_sessions_that_end_without_an_idle_close(tmp_path, sessions):
    assert _found(tmp_path, *sessions) == []


# ---- A port that is refused ----


def _served(start_s: float, port: int) -> list[Frame]:
    """A connection that is accepted, asked and answered."""
    there, back = (
        (PANEL, DRIVE, 42000 + int(start_s), port),
        (DRIVE, PANEL, port, 42000 + int(start_s)),
    )
    rows = [
        ("S", 0, b"", there),
        ("SA", 0, b"", back),
        ("PA", 1, b"ask", there),
        ("PA", 1, b"so", back),
    ]
    return [
        (start_s + n / 100, ethernet(tcp_packet(flags, seq, data, *to)))
        for n, (flags, seq, data, to) in enumerate(rows)
    ]


def _refused(start_s: float, port: int, src: str = PANEL) -> list[Frame]:
    source = 43000 + int(start_s)
    return [
        (start_s, ethernet(tcp_packet("S", 0, b"", src, DRIVE, source, port))),
        (start_s + 0.01, ethernet(tcp_packet("RA", 0, b"", DRIVE, src, port, source))),
    ]


BEFORE = [frame for n in range(6) for frame in _served(10.0 * n, 1883)]
TRIES = [frame for n in range(6) for frame in _refused(100.0 + 10 * n, 1882)]


@pytest.mark.parametrize(
    ("frames", "found"),
    [
        (BEFORE + TRIES, ("port_left", "misconfiguration", PANEL)),
        (TRIES, ("port_refused", "service_down", DRIVE)),  # never served: nothing tells what is right
        # It asks both ports, and one of both services is down.
        (BEFORE + TRIES + _served(125.0, 1883), ("port_refused", "service_down", DRIVE)),
        # Others are refused there too.
        (BEFORE + TRIES + _refused(123.0, 1882, "172.29.8.21"), ("port_refused", "service_down", DRIVE)),
    ],
)  # fmt: skip
def test_who_leaves_a_port_for_one_that_is_refused_is_set_wrong(tmp_path, frames, found):
    last = (400.0, ethernet(tcp_packet("A", sport=40001)))
    capture = read(tmp_path, sorted([*frames, last]))
    (hit,) = find_closed_ports(TrafficView(capture, make_samples(capture)))
    assert (kind_of(hit.fact), hit.label, hit.device) == found
    assert hit.fact.values["attempts"] == 6 + (frames[-2][0] == 123.0)
    if found[0] == "port_left":
        assert (hit.fact.values["port"], hit.fact.values["before"]) == ("1882", "1883")
