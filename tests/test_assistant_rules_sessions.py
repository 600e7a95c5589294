"""Sessions that a timer ends, over packets written by hand; beside each, what looks like it."""

from pathlib import Path

import pytest
from frames import Frame, ethernet, read, tcp_packet

from assistant.detection.rules.sessions import find_idle_closes
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
