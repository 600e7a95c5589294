"""What forbids a label that a model gave, over packets and tables written by hand."""

from pathlib import Path

import pandas as pd
import pytest
from frames import Frame, ethernet, read, tcp_packet, udp_packet

from assistant.facts.attribution import Attribution, attribute, supports_loss
from assistant.facts.profiles import PROFILES
from assistant.facts.traffic_view import TrafficView
from assistant.facts.vetoes import is_used_to_pause, own_infrastructure
from traffic.samples import make_samples

HMI, DRIVE, OTHER, OUTSIDE = "192.168.1.20", "192.168.1.61", "192.168.1.90", "203.0.113.9"


def _view(tmp_path: Path, frames: list[Frame]) -> TrafficView:
    capture = read(tmp_path, sorted(frames))
    return TrafficView(capture, make_samples(capture))


@pytest.mark.parametrize(("last_s", "supported"), [(100.2, False), (108.0, True)])
def test_what_is_sent_again_in_one_moment_is_no_lossy_line(last_s, supported):
    flows = pd.DataFrame({"missed_bytes": [0.0], "src_pkts": [70], "dst_pkts": [60]})
    evidence = pd.DataFrame({"count": [6], "slot": [10], "first_s": [100.0], "last_s": [last_s]})
    found = Attribution(HMI, "packet_loss", flows, evidence, (DRIVE,), 100.0, last_s)
    assert supports_loss(found) is supported


def _says(*times_s: float) -> list[Frame]:
    """A question that is answered, at each of these times."""
    ask, answer = udp_packet(b"?", HMI, DRIVE), udp_packet(b"!", DRIVE, HMI, 9999, 40000)
    return [
        (ts + late_s, ethernet(one))
        for ts in times_s
        for late_s, one in ((0.0, ask), (0.01, answer))
    ]


@pytest.mark.parametrize(
    ("frames", "vetoed"),
    [
        (_says(0, 42, 70, 80, 112, 120, 200, 210), True),  # thrice half a minute, 80 s now
        (
            _says(0, 10, 20, 30, 40, 50, 60, 70, 80, 120, 200, 210),
            False,
        ),  # once: it was gone then too
        (
            [
                *_says(0, 42, 70, 80, 112, 120, 200, 210),
                *((ts, ethernet(tcp_packet("S", 9, b"", OTHER, HMI))) for ts in (140.0, 160.0)),
            ],
            False,  # somebody misses it
        ),
    ],
    ids=["now and then", "all the time", "missed"],
)
def test_who_speaks_now_and_then_is_not_missed_by_its_silence(tmp_path, frames, vetoed):
    profile = PROFILES["device_silent"]
    view = _view(tmp_path, frames)
    slots = pd.Series(range(12, 20)).to_numpy()
    assert is_used_to_pause(attribute(view, HMI, profile, "source", slots), view) is vetoed


def _calls(dst: str, refused: bool, src: str = HMI) -> list[Frame]:
    """A call each ten seconds to a port of nothing that is read."""
    frames = []
    for n in range(12):
        there, back = (src, dst, 41000 + n, 4711), (dst, src, 4711, 41000 + n)
        rows = [(0.0, "S", 99, 0, there), (0.01, "RA" if refused else "SA", 0, 100, back)]
        rows += [] if refused else [(0.02, "FA", 100, 1, there), (0.03, "FA", 1, 101, back)]
        frames += [
            (10.0 * n + at, ethernet(tcp_packet(how, seq, b"", *ends, ack=ack)))
            for at, how, seq, ack, ends in rows
        ]
    return frames


@pytest.mark.parametrize(
    ("frames", "vetoed"),
    [
        (_calls(DRIVE, refused=True), True),
        (_calls(DRIVE, refused=False) + _calls(DRIVE, refused=False, src=OTHER), True),
        (_calls(DRIVE, refused=False), False),  # a controller of malware may stand in the plant
        (_calls(OUTSIDE, refused=True), False),
    ],
    ids=["refused", "others call it too", "called by it alone", "outside"],
)
def test_a_server_of_the_plant_is_no_controller_of_malware(tmp_path, frames, vetoed):
    view = _view(tmp_path, frames)
    slots = pd.Series(range(12)).to_numpy()
    found = attribute(view, HMI, PROFILES["c2"], "source", slots)
    assert own_infrastructure(found, view) is vetoed
