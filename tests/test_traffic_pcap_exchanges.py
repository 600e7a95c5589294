"""Messages, requests with their answers, and sessions, from packets made by hand."""

import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from frames import Frame, client, server, write_pcap
from hypothesis import given, settings
from hypothesis import strategies as st

from traffic.conversations import EXCHANGE_COLUMNS, SESSION_COLUMNS
from traffic.pcap.flows import make_flows
from traffic.pcap.packets import read_packets

END = client(1100.0, "A", 9_000, dport=9)


def _read(folder: Path, frames: list[Frame]):
    return make_flows(read_packets([write_pcap(folder / "one.pcap", [*frames, END])]))


def adu(tid: int, unit: int, pdu: bytes) -> bytes:
    """A Modbus/TCP message."""
    return struct.pack(">HHHB", tid, 0, len(pdu) + 1, unit) + pdu


def _read3(tid: int, address: int = 10, unit: int = 1) -> bytes:
    return adu(tid, unit, struct.pack(">BHH", 3, address, 1))


def _value(tid: int, unit: int = 1) -> bytes:
    return adu(tid, unit, b"\x03\x02\x00\x07")


def _talk(messages: list[tuple[float, str, bytes]], port: int = 502) -> list[Frame]:
    """A stream from its handshake on: time, ``c`` or ``s``, payload."""
    frames = [client(1000.0, "S", 0, dport=port), server(1000.001, "SA", 0, port=port)]
    seq = {"c": 1, "s": 1}
    for ts, side, payload in messages:
        send = client if side == "c" else server
        where = {"dport": port} if side == "c" else {"port": port}
        frames.append(send(ts, "PA", seq[side], payload, **where))
        seq[side] += len(payload)
    return frames


def test_each_request_has_its_answer_or_none(tmp_path):
    capture = _read(
        tmp_path,
        _talk(
            [
                (1001.0, "c", _read3(1)),
                (1001.02, "s", _value(1)),
                (1002.0, "c", _read3(2, 99, 7)),
                (1002.05, "s", adu(2, 7, b"\x83\x02")),
                (1003.0, "c", _read3(3)),
                (1099.0, "c", _read3(4)),
            ]
        ),
    )
    rows = capture.exchanges
    assert list(rows.columns) == EXCHANGE_COLUMNS
    assert rows["outcome"].tolist() == ["answered", "refused", "unanswered", "unseen"]
    assert rows["code"].tolist() == [0, 2, -1, -1]
    assert rows["unit"].tolist() == [1, 7, 1, 1]
    assert rows["target"].tolist() == [10, 99, 10, 10]
    np.testing.assert_allclose(rows["delay_s"].tolist()[:2], [0.02, 0.05], atol=1e-5)
    assert rows["frame"].tolist() == [3, 5, 7, 8]
    assert rows["answer_frame"].tolist() == [4, 6, 0, 0]


@pytest.mark.parametrize(
    ("flags", "after_s", "outcome"),
    [("FPA", 0.0, "unseen"), ("FA", 0.05, "unseen"), ("FA", 2.0, "unanswered")],
)
def test_who_closes_right_after_asking_waits_for_no_answer(tmp_path, flags, after_s, outcome):
    asked, later = _read3(2), _read3(3)
    frames = _talk([(1001.0, "c", _read3(1)), (1001.02, "s", _value(1))])
    seq = 1 + len(asked)
    if "P" in flags:
        frames += [client(1002.0, flags, seq, asked, dport=502)]
    else:
        frames += [client(1002.0, "PA", seq, asked, dport=502)]
        frames += [client(1002.0 + after_s, flags, seq + len(later), dport=502)]
    rows = _read(tmp_path, frames).exchanges
    assert rows["outcome"].tolist() == ["answered", outcome]


@pytest.mark.parametrize("port", [502, 5020])
def test_content_names_the_protocol_not_the_port(tmp_path, port):
    capture = _read(tmp_path, _talk([(1001, "c", _read3(1)), (1001.1, "s", _value(1))], port))
    assert capture.exchanges["protocol"].tolist() == ["modbus"]
    assert capture.flows["service"].tolist()[0] == "modbus"


def test_who_is_one_transaction_behind_is_seen(tmp_path):
    messages = []
    for i in range(1, 9):
        messages += [(1000 + i, "c", _read3(i))]
        if i < 5:
            messages += [(1000.02 + i, "s", _value(i))]
        elif i > 5:
            messages += [(1000.02 + i, "s", _value(i - 1))]
    rows = _read(tmp_path, _talk(messages)).exchanges
    assert rows["behind"].tolist()[:7] == [0, 0, 0, 0, 1, 1, 1]
    assert rows["outcome"].tolist()[4] == "answered"


def test_requests_of_one_number_take_the_answers_that_are_left(tmp_path):
    same = [(1001.0, "c", _read3(5)), (1001.01, "c", _read3(5) + _read3(5))]
    answers = [(1001.1 + i / 10, "s", _value(5)) for i in range(3)]
    rows = _read(tmp_path, _talk(same + answers)).exchanges
    assert rows["outcome"].tolist() == ["answered"] * 3
    lost = [(1001.0, "c", _read3(0)), (1004.0, "c", _read3(0)), (1004.1, "s", _value(0))]
    rows = _read(tmp_path, _talk(lost)).exchanges
    assert rows["outcome"].tolist() == ["unanswered", "answered"]


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_where_segments_end_changes_nothing(tmp_path_factory, data):
    """However a stream is cut into segments, and in whatever order they are seen, its messages are
    the same."""
    whole = b"".join(_read3(i, 100 + i) for i in range(6))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=8)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    seqs = 1 + np.cumsum([0, *map(len, pieces)])
    sent = [(int(seq), piece) for seq, piece in zip(seqs, pieces, strict=False)]
    again = data.draw(st.lists(st.sampled_from(sent), max_size=3))
    frames = [client(1000.0, "S", 0, dport=502), server(1000.001, "SA", 0, port=502)]
    for i, (seq, piece) in enumerate([*data.draw(st.permutations(sent)), *again]):
        frames.append(client(1001.0 + i / 1000, "PA", seq, piece, dport=502))
    capture = _read(tmp_path_factory.mktemp("cut"), frames)
    rows = capture.exchanges[capture.exchanges["outcome"] != "malformed"]
    assert sorted(rows["target"].tolist()) == [100 + i for i in range(6)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=80), min_size=1, max_size=6), st.data())
def test_arbitrary_bytes_are_read_without_a_crash(tmp_path_factory, payloads, data):
    port = data.draw(st.sampled_from([102, 502, 1883, 2404, 4840, 20000, 44818, 5021]))
    sides = data.draw(st.lists(st.sampled_from("cs"), min_size=6, max_size=6))
    start = data.draw(st.sampled_from([b"", _read3(1), b"\x10\x0c\0\4MQTT\4\2\0<\0\0"]))
    messages = [
        (1001.0 + i, side, start + one)
        for i, (side, one) in enumerate(zip(sides, payloads, strict=False))
    ]
    capture = _read(tmp_path_factory.mktemp("any"), _talk(messages, port))
    assert len(capture.flows) == 2
    assert (capture.exchanges["delay_s"].dropna() >= 0).all()


def test_mqtt_connect_tells_its_client_id_and_keep_alive(tmp_path):
    name = b"press 7"
    body = b"\0\4MQTT\4\x82" + struct.pack(">H", 20) + struct.pack(">H", len(name)) + name
    connect = bytes([0x10, len(body)]) + body
    messages = [(1001, "c", connect), (1001.1, "s", b"\x20\x02\x00\x05"), (1002, "c", b"\xc0\x00")]
    rows = _read(tmp_path, _talk(messages, 11883)).exchanges
    first = rows.iloc[0]
    assert (first["protocol"], first["name"], first["value"]) == ("mqtt", "press 7", 20)
    assert (first["outcome"], first["code"]) == ("refused", 5)
    assert rows["outcome"].tolist()[1] == "unanswered"


def _sessions(capture) -> pd.DataFrame:
    rows = capture.sessions
    assert list(rows.columns) == SESSION_COLUMNS
    return rows[rows["port"] == 502]


def test_a_session_tells_who_ended_it_after_how_long_a_silence(tmp_path):
    frames = _talk([(1001.0, "c", _read3(1)), (1001.1, "s", _value(1))])
    frames += [client(1030.0, "A", 12, dport=502), server(1030.01, "A", 12, port=502)]  # a probe
    frames += [server(1061.1, "FA", 12, port=502), client(1061.2, "A", 13, dport=502)]
    (row,) = _sessions(_read(tmp_path, frames)).to_dict("records")
    assert (row["ended"], row["ended_by"], row["opened"], row["begun"]) == (
        "fin",
        "server",
        True,
        True,
    )
    assert row["idle_s"] == pytest.approx(60.0, abs=0.01)
    assert (row["keep_alives"], row["data_bytes"], row["server_bytes"]) == (1, 23, 11)
    assert (row["first_frame"], row["last_frame"]) == (1, 7)


@pytest.mark.parametrize(
    ("answer", "ended", "by"),
    [
        ([server(1000.01, "RA", 0, port=502)], "refused", "server"),
        ([], "unanswered", ""),
        ([server(1000.01, "SA", 0, port=502)], "open", ""),
        (
            [server(1000.01, "SA", 0, port=502), server(1000.02, "R", 1, port=502)],
            "reset",
            "server",
        ),
    ],
)
def test_how_a_session_ends(tmp_path, answer, ended, by):
    (row,) = _sessions(_read(tmp_path, [client(1000.0, "S", 0, dport=502), *answer])).to_dict(
        "records"
    )
    assert (row["ended"], row["ended_by"]) == (ended, by)
