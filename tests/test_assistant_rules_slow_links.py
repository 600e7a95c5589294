"""Links that became slow or full, over packets written by hand; beside each, what looks like it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import tshark
from frames import Frame, ethernet, read, tcp_packet, udp_packet

from assistant.detection.rules import RuleHit, apply_rules
from assistant.detection.rules.slow_links import find_slow_links
from assistant.facts.fact import kind_of
from assistant.facts.traffic_view import TrafficView
from traffic.samples import make_samples

PANEL, DRIVE, STORE, CLOUD = "172.29.8.20", "172.29.8.61", "172.29.8.90", "198.18.77.5"
FAST_S, SLOW_S = 0.005, 0.4
Delay = Callable[[float], float]


def _polls(
    delay_s: Delay, src: str = PANEL, dst: str = DRIVE, port: int = 41000, until_s: int = 500,
    program_s: Delay = lambda _: 0.0, at_s: float = 0.0,
) -> list[Frame]:  # fmt: skip
    """Every two seconds 12 bytes to a port that nothing reads, which are acknowledged after a delay and
    answered by 9 bytes as much later as the program there takes."""
    frames: list[tuple[float, bytes]] = []
    for n, second in enumerate(range(0, until_s, 2)):
        ts, asked, answered = second + at_s, 1 + 12 * (n + 1), 1 + 9 * n
        acked, said = ts + delay_s(second), ts + delay_s(second) + program_s(second)
        rows = [(ts, "PA", src, dst, asked - 12, answered, 12)]
        if program_s(second):
            rows.append((acked, "A", dst, src, answered, asked, 0))
        rows.append((said, "PA", dst, src, answered, asked, 9))
        rows.append((said + 0.001, "A", src, dst, asked, answered + 9, 0))
        for at, flags, one, other, seq, ack, size in rows:
            ports = (port, 4711) if one == src else (4711, port)
            packet = tcp_packet(flags, seq, b"x" * size, one, other, *ports, ack=ack)
            frames.append((at, ethernet(packet)))
    return frames


def _slow(first: float, last: float, slow_s: float = SLOW_S) -> Delay:
    return lambda second: slow_s if first <= second < last else FAST_S


def _hits(tmp_path: Path, frames: list[Frame], rules: bool = False) -> list[RuleHit]:
    capture = read(tmp_path, sorted(frames))
    view = TrafficView(capture, make_samples(capture))
    return apply_rules(view) if rules else find_slow_links(view)


def test_a_device_that_acknowledges_late_for_a_while_has_a_slow_link(tmp_path):
    (hit,) = _hits(tmp_path, _polls(_slow(200, 320)))
    assert (hit.label, hit.device, hit.peers) == ("congestion", DRIVE, (PANEL,))
    assert [kind_of(fact) for fact in hit.facts] == ["slow_link", "nobody_else", "link_not_filled"]
    values = hit.fact.values
    # From the first packet that was acknowledged late to the last acknowledgement.
    assert (values["since_time_s"], values["until_time_s"]) == (200.0, pytest.approx(318.401))
    assert (values["late"], values["acks"]) == (60, 60)
    assert values["slow_s"] == pytest.approx(SLOW_S, rel=0.13)  # a tenth of a decade wide
    assert FAST_S <= values["usual_s"] <= FAST_S * 1.26


def test_its_filter_selects_the_late_acknowledgements(tmp_path):
    (hit,) = _hits(tmp_path, _polls(_slow(200, 320)))
    found = tshark.fields(tmp_path / "capture.pcap", hit.fact.proof.filter, "frame.number")
    assert len(found) == hit.fact.values["late"] == hit.fact.proof.count


@pytest.mark.parametrize(
    "delay_s",
    [
        lambda _: FAST_S,
        lambda _: SLOW_S,  # it never was faster
        _slow(200, 240),  # a while shorter than a minute
        _slow(60, 500),  # too little of a past
        _slow(200, 320, 0.2),  # a stack that waits for something to send along
        lambda second: SLOW_S if second % 20 == 0 else FAST_S,  # now and then
    ],
)
def test_delays_that_are_no_slow_link(tmp_path, delay_s):
    assert _hits(tmp_path, _polls(delay_s)) == []


def test_a_slow_program_is_no_slow_link(tmp_path):
    """What is asked is acknowledged at once, and answered after a second and a half."""
    frames = _polls(_slow(0, 0), program_s=lambda s: 1.5 if 200 <= s < 320 else 0.02)
    assert _hits(tmp_path, frames) == []


def test_a_link_that_several_meet_is_the_one_that_they_share(tmp_path):
    frames = _polls(_slow(200, 320)) + _polls(_slow(200, 320), STORE, DRIVE, 42000, at_s=0.7)
    frames += _polls(_slow(0, 0), PANEL, STORE, 43000, at_s=0.3)
    (hit,) = _hits(tmp_path, frames)
    assert hit.device == DRIVE
    assert sorted(hit.peers) == [PANEL, STORE]
    assert kind_of(hit.facts[1]) == "slow_together"


def test_who_meets_it_with_all_whom_it_calls_has_the_slow_link(tmp_path):
    """The sensor sits at the panel: whomever it asks is acknowledged late."""
    frames = _polls(_slow(200, 320)) + _polls(_slow(200, 320), PANEL, STORE, 42000, at_s=0.7)
    (hit,) = _hits(tmp_path, frames)
    assert (hit.device, sorted(hit.peers)) == (PANEL, [DRIVE, STORE])
    assert kind_of(hit.fact) == "slow_way_out"


def test_one_slow_connection_beside_fast_ones_is_not_the_devices_link(tmp_path):
    frames = _polls(_slow(200, 320)) + _polls(_slow(0, 0), STORE, DRIVE, 42000, at_s=0.7)
    (hit,) = _hits(tmp_path, frames)
    assert [kind_of(fact) for fact in hit.facts[:2]] == ["slow_link", "others_fast"]
    assert STORE in hit.facts[1].text


def test_how_far_a_cloud_is_changes(tmp_path):
    assert _hits(tmp_path, _polls(_slow(200, 320), PANEL, CLOUD)) == []


def test_handshakes_tell_a_smaller_rise(tmp_path):
    """A connection every two seconds; nobody holds back the acknowledgement of a SYN."""
    frames: list[Frame] = []
    for second in range(0, 500, 2):
        port, delay_s = 41000 + second, _slow(200, 320, 0.1)(second)
        syn = tcp_packet("S", 99, b"", PANEL, DRIVE, port, 4711)
        answer = tcp_packet("SA", 0, b"", DRIVE, PANEL, 4711, port, ack=100)
        done = tcp_packet("A", 100, b"", PANEL, DRIVE, port, 4711)
        times = (second, second + delay_s, second + delay_s + 0.001)
        frames += [(ts, ethernet(one)) for ts, one in zip(times, (syn, answer, done), strict=True)]
    (hit,) = _hits(tmp_path, frames)
    assert (hit.device, hit.fact.values["late"]) == (DRIVE, 60)


def test_what_fills_the_link_is_said(tmp_path):
    """Meanwhile the store sends the drive a megabit a second."""
    frames = _polls(_slow(200, 320))
    data = udp_packet(b"x" * 1250, STORE, DRIVE, 5000, 5001)
    frames += [(200 + n / 100, ethernet(data)) for n in range(12000)]
    (hit,) = _hits(tmp_path, frames)
    assert kind_of(hit.facts[-1]) == "link_filled"
    assert STORE in hit.facts[-1].text
    assert hit.peers == (STORE, PANEL)  # who fills it comes first


_QUEUED_S = 0.07  # more than a program's own stack waits, less than a rise that needs no reason


def _filled(first_s: int, seconds: int, src: str = STORE) -> list[Frame]:
    """A megabit a second."""
    data = udp_packet(b"x" * 1250, src, DRIVE, 5000, 5001)
    return [(first_s + n / 100, ethernet(data)) for n in range(100 * seconds)]


def test_a_device_that_carries_much_more_needs_a_smaller_rise(tmp_path):
    (hit,) = _hits(tmp_path, _polls(_slow(200, 320, _QUEUED_S)) + _filled(200, 120))
    assert (hit.device, hit.fact.values["late"]) == (DRIVE, 60)
    assert kind_of(hit.facts[-1]) == "link_filled"


def test_a_small_rise_alone_may_be_a_stack_that_waits(tmp_path):
    assert _hits(tmp_path, _polls(_slow(200, 320, _QUEUED_S))) == []


def test_where_some_are_as_fast_as_ever_there_is_no_queue(tmp_path):
    """Each third acknowledgement comes at once, as of a stack that holds back the others."""
    frames = _polls(lambda s: _QUEUED_S if 200 <= s < 320 and s % 6 else FAST_S)
    assert _hits(tmp_path, frames + _filled(200, 120)) == []


def test_who_fills_a_link_waits_for_itself(tmp_path):
    """The panel's own transfer is what is late: nobody else suffers."""
    assert _hits(tmp_path, _polls(_slow(200, 320)) + _filled(200, 120, PANEL)) == []


def _lossy(delay_s: Delay, lost: range) -> list[Frame]:
    """Polls of which each that begins in ``lost`` is sent again 0.6 s later, and so times nothing."""
    frames = []
    for ts, frame in _polls(delay_s):
        second = int(ts) // 2 * 2
        asks = frame[34:36] == (41000).to_bytes(2, "big") and len(frame) > 60
        frames.append((ts + (1.2 if not asks and second in lost else 0.0), frame))
        if asks and second in lost:
            frames.append((ts + 0.6, frame))
    return frames


@pytest.mark.parametrize(
    ("slow_s", "found"),
    [(SLOW_S, [("congestion", "slow_link")]), (FAST_S, [("packet_loss", "sent_again")])],
)
def test_a_full_link_that_loses_packets_is_no_lossy_line(tmp_path, slow_s, found):
    """Half of a minute's polls are lost; the others are late, or as fast as ever."""
    lost = range(200, 260, 4)
    hits = _hits(tmp_path, _lossy(_slow(200, 260, slow_s), lost), rules=True)
    assert [(hit.label, kind_of(hit.fact)) for hit in hits] == found
    if slow_s == SLOW_S:
        assert hits[0].fact.values["resent"] == 15
        assert kind_of(hits[0].facts[1]) == "slow_and_lossy"


def test_behind_a_slow_link_a_server_is_not_said_to_be_slow(tmp_path):
    """Modbus over a slow link: its answers come late too."""
    hits = _hits(tmp_path, _modbus(_slow(200, 320)), rules=True)
    assert [kind_of(hit.fact) for hit in hits] == ["slow_link"]


def test_a_slow_server_is_said_to_be_acknowledging_as_ever(tmp_path):
    hits = _hits(tmp_path, _modbus(_slow(0, 0), lambda s: 0.9 if 200 <= s < 320 else 0.0), True)
    (hit,) = hits
    assert [kind_of(fact) for fact in hit.facts] == ["slow", "way_is_fast"]


def test_answers_that_are_late_because_packets_are_lost_are_no_slow_server(tmp_path):
    """Of two minutes each question is sent again, and answered after that."""
    frames = _modbus(_slow(0, 0), lambda s: 0.9 if 200 <= s < 320 else 0.0)
    again = [
        (ts + 0.5, frame)
        for ts, frame in frames
        if 200 <= ts < 320 and frame[34:36] == (41000).to_bytes(2, "big") and len(frame) > 60
    ]
    hits = _hits(tmp_path, frames + again, rules=True)
    assert len(again) == 60
    assert "slow" not in [kind_of(hit.fact) for hit in hits]


def _modbus(delay_s: Delay, program_s: Delay = lambda _: 0.0) -> list[Frame]:
    frames: list[Frame] = []
    for n, second in enumerate(range(0, 500, 2)):
        ask = n.to_bytes(2, "big") + bytes.fromhex("000000060103000a0001")
        answer = n.to_bytes(2, "big") + bytes.fromhex("0000000501030200ff")
        asked, answered = 1 + 12 * (n + 1), 1 + 11 * n
        acked = second + delay_s(second)
        said = acked + program_s(second)
        rows = [(float(second), "PA", PANEL, asked - 12, answered, ask)]
        if program_s(second):
            rows.append((acked, "A", DRIVE, answered, asked, b""))
        rows.append((said, "PA", DRIVE, answered, asked, answer))
        rows.append((said + 0.001, "A", PANEL, asked, answered + 11, b""))
        for ts, flags, src, seq, ack, data in rows:
            ends = (PANEL, DRIVE, 41000, 502) if src == PANEL else (DRIVE, PANEL, 502, 41000)
            frames.append((ts, ethernet(tcp_packet(flags, seq, data, *ends, ack=ack))))
    return frames
