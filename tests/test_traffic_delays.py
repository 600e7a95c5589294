"""Delays of acknowledgements: which segment each one times, how they are counted, and what tshark
times in real captures."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tshark
from frames import Frame, client, ethernet, read, tcp_packet

from traffic.delays import DELAY_COLUMNS, delay_step, empty_delays, median_delays
from traffic.reader import read_capture
from traffic.samples import MEASURES, make_samples

CLIENT, SERVER = "192.168.1.10", "192.168.1.20"


def _acks(ts: float, ack: int, flags: str = "A", data: bytes = b"", seq: int = 1) -> Frame:
    return ts, ethernet(tcp_packet(flags, seq, data, SERVER, CLIENT, 80, 40000, ack=ack))


def _timed(tmp_path: Path, frames: list[Frame]) -> list[tuple[int, str, str, bool, int, int]]:
    """Delays as rows, with the capture's slots counted from the first."""
    table = read(tmp_path, frames).delays
    assert list(table.columns) == DELAY_COLUMNS
    return [
        (row.slot, str(row.src), str(row.dst), bool(row.handshake), row.step, row.count)
        for row in table.itertuples(index=False, name="Delay")
    ]


def _step(delay_s: float) -> int:
    return int(delay_step(np.array([delay_s]))[0])


def test_a_handshake_and_an_answer_are_timed_from_both_sides(tmp_path):
    frames = [
        client(0.0, "S", 99),
        _acks(0.3, 100, "SA", seq=0),  # 0.3 s after the SYN
        client(0.31, "A", 100),  # 10 ms after the SYN-ACK, whose number the next is 1
        client(11.0, "PA", 100, b"x" * 10),
        _acks(11.05, 110, "PA", b"y" * 4),  # 50 ms
        client(11.052, "A", 110, ack=5),  # 2 ms
    ]
    assert _timed(tmp_path, frames) == [
        (0, CLIENT, SERVER, True, _step(0.3), 1),
        (0, SERVER, CLIENT, True, _step(0.01), 1),
        (1, CLIENT, SERVER, False, _step(0.05), 1),
        (1, SERVER, CLIENT, False, _step(0.002), 1),
    ]


def test_of_segments_in_flight_each_is_timed_by_its_own_acknowledgement(tmp_path):
    """Three are under way at once; the first two are acknowledged together, by the second's end."""
    frames = [client(0.1 * n, "PA", 1 + 10 * n, b"x" * 10) for n in range(3)]
    frames += [_acks(0.5, 21), _acks(0.52, 21), _acks(0.9, 31)]
    assert [row[4:] for row in _timed(tmp_path, frames)] == [(_step(0.4), 1), (_step(0.7), 1)]


def test_what_was_sent_again_times_nothing(tmp_path):
    """The first is lost and sent again, and holds back what acknowledges the second: which of both
    copies was acknowledged nobody can tell, and what the second waited for was no delay."""
    frames = [
        client(0.0, "PA", 1, b"x" * 10),
        client(0.1, "PA", 11, b"x" * 10),
        client(1.2, "PA", 1, b"x" * 10),
        _acks(1.3, 21),
        client(2.0, "PA", 21, b"x" * 10),
        _acks(2.2, 31),
    ]
    assert [row[4:] for row in _timed(tmp_path, frames)] == [(_step(0.2), 1)]


def test_a_syn_that_is_repeated_is_timed_from_its_last_copy(tmp_path):
    frames = [client(0.0, "S", 99), client(1.0, "S", 99), _acks(1.1, 100, "SA", seq=0)]
    assert [row[3:] for row in _timed(tmp_path, frames)] == [(True, _step(0.1), 1)]


def test_sequence_numbers_that_begin_again_at_zero(tmp_path):
    frames = [client(0.0, "PA", (1 << 32) - 5, b"x" * 10), _acks(0.2, 5)]
    assert [row[4:] for row in _timed(tmp_path, frames)] == [(_step(0.2), 1)]


def test_delays_of_one_pair_slot_and_step_are_counted_together(tmp_path):
    frames = []
    for n in range(5):
        frames += [client(n, "PA", 1 + 10 * n, b"x" * 10), _acks(n + 0.2, 11 + 10 * n)]
    assert _timed(tmp_path, frames) == [(0, CLIENT, SERVER, False, _step(0.2), 5)]


def test_a_capture_without_tcp_has_no_delays(tmp_path):
    frames = [(0.0, ethernet(tcp_packet("A", 1)))]
    assert read(tmp_path, frames).delays.empty
    assert list(empty_delays().columns) == DELAY_COLUMNS


def test_samples_hold_the_median_of_either_side(tmp_path):
    """Of three acknowledgements of the server two take 0.2 s; in the next slot nothing is timed."""
    frames = []
    for n, delay_s in enumerate((0.2, 0.2, 0.01)):
        frames += [client(n, "PA", 1 + 10 * n, b"x" * 10), _acks(n + delay_s, 11 + 10 * n)]
    frames.append(client(15.0, "A", 31))
    samples = make_samples(read(tmp_path, frames)).set_index(["device", "start_s"])
    middle_s = 10 ** ((_step(0.2) + 0.5) / 10) * 1e-4
    assert samples.loc[(CLIENT, 0.0), "peer_ack_s"] == pytest.approx(middle_s)
    assert samples.loc[(SERVER, 0.0), "own_ack_s"] == pytest.approx(middle_s)
    assert samples.loc[[(CLIENT, 10.0), (SERVER, 10.0)], list(MEASURES)].isna().all(axis=None)
    assert np.isnan(samples.loc[(CLIENT, 0.0), "own_ack_s"])


def test_medians_of_counted_steps():
    group, step, count = np.array([[3, 20, 4], [3, 10, 4], [1, 30, 1], [3, 40, 1]]).T
    found = median_delays(group, step, count)
    assert found.index.tolist() == [1, 3]
    # Of nine the fifth is the first of step 20.
    assert found.tolist() == pytest.approx([10**-0.95, 10**-1.95])


def test_a_log_of_flows_tells_no_delays(shared):
    capture = read_capture(shared / "data/field/download/conn.log")
    assert capture.delays.empty
    samples = make_samples(capture)
    assert len(samples) > 0
    assert samples[list(MEASURES)].isna().all(axis=None)


@pytest.mark.parametrize(
    "name",
    ["data/modbus/CnC_uploading_exe_modbus_6RTU_with_operate.pcap", "data/home/blink-cam-01.pcap"],
)
def test_tshark_times_the_same(shared, name):
    """tshark also times what was sent again and copies of a mirror port: none of ours is missing
    there, and of those longer than 1 ms most are ours."""
    path = shared / name
    words = tshark.fields(path, "tcp.analysis.ack_rtt", "tcp.analysis.ack_rtt")
    theirs = np.bincount(delay_step(np.array(words, float).ravel()), minlength=64)
    mine = read_capture(path).delays
    ours = np.bincount(mine["step"], weights=mine["count"], minlength=64)
    assert pd.Series(ours).gt(0).sum() > 10
    # Times are whole microseconds here and differences of floats there: a step may give one away.
    assert (np.cumsum(ours[::-1]) <= np.cumsum(theirs[::-1]) + 1).all()
    assert ours[10:].sum() >= 0.95 * theirs[10:].sum()
