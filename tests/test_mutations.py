"""What is damaged is read as far as it is good: a thousand mutations, and bad input by name."""

import gzip
import struct
from pathlib import Path

import pytest
from frames import CLIENT, SERVER, Frame, client, read, server, talk
from fuzz import read_mutations
from mutations import KINDS, make_mutation
from test_traffic_pcap_exchanges import _read3, _talk, _value, adu

from assistant.detection.rules import apply_rules
from assistant.facts.traffic_view import TrafficView
from traffic.device_logs.gather import gather_records
from traffic.samples import make_samples

# Numbers above the thousand that broke a reader once.
ONCE = (1279, 2399, 11435, 12177, 16015, 25035, 30924, 32975, 36222)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("first", range(0, 1000, 250))
def test_mutations_together(tmp_path: Path, first: int) -> None:
    found = read_mutations([make_mutation(n) for n in range(first, first + 250)], tmp_path)
    assert sum(found[kind] for kind in set(KINDS)) == 250
    # Most is read, and tells something.
    assert sum(found[f"{kind} refused"] for kind in set(KINDS)) < 80
    assert found["flows"] > 100
    assert found["exchanges"] > 100


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", [*range(0, 20, 3), *ONCE])
def test_mutations_alone(tmp_path: Path, number: int) -> None:
    mutation = make_mutation(number)
    assert mutation == make_mutation(number)
    assert sum(read_mutations([mutation], tmp_path).values()) >= 1


# ---- Bad input ----


def _with_port(frames: list[Frame], port: int) -> list[Frame]:
    """The frames of another connection of the same client."""
    old, new = struct.pack(">H", 40000), struct.pack(">H", port)
    return [(ts, frame[:34] + frame[34:38].replace(old, new) + frame[38:]) for ts, frame in frames]


def test_a_modbus_stream_that_starts_in_mid_message_is_read_from_the_next_one(tmp_path):
    write = adu(9, 1, struct.pack(">BHHB4H", 16, 100, 4, 8, 1, 2, 3, 4))
    turns = [
        (1001.0, "c", write[7:]), (1001.1, "s", adu(9, 1, struct.pack(">BHH", 16, 100, 4))[5:]),
        (1002.0, "c", _read3(10, 50)), (1002.1, "s", _value(10)),
        (1003.0, "c", _read3(11, 51)), (1003.1, "s", adu(11, 1, b"\x83\x02")),
    ]  # fmt: skip
    rows = read(tmp_path, _talk(turns)[2:]).exchanges  # without its handshake
    assert rows[["function", "target", "outcome", "code", "frame"]].to_numpy().tolist() == [
        [3, 50, "answered", 0, 3],
        [3, 51, "refused", 2, 5],
    ]


def test_two_protocols_on_one_port_are_told_apart(tmp_path):
    modbus = _talk([(1001.0, "c", _read3(1)), (1001.1, "s", _value(1))])
    mqtt = talk(502, (">", b"\x10\x0f\0\4MQTT\4\2\0\x3c\0\3abc"), ("<", b"\x20\2\0\5"))[:-1]
    capture = read(tmp_path, modbus + _with_port(mqtt, 40007))
    assert sorted(capture.flows["service"]) == ["modbus", "mqtt"]
    assert sorted(capture.exchanges["protocol"]) == ["modbus", "mqtt"]


def test_many_sessions_of_one_client_are_one_client(tmp_path):
    """A million of them, six packets each, are read in 19 s of CPU and judged in 3 s; these are a
    hundredth."""
    frames = []
    for i in range(10_000):
        ts, port = 1000 + i / 50, 1024 + i
        frames.append(client(ts, "S", 7, dport=502, sport=port))
        answer = server(ts + 0.001, "RA", 0, port=502)[1]
        frames.append((ts + 0.001, answer[:36] + struct.pack(">H", port) + answer[38:]))
    capture = read(tmp_path, frames)
    assert len(capture.flows) == len(capture.sessions) == 10_000
    view = TrafficView(capture, make_samples(capture))
    (hit,) = apply_rules(view)
    assert (hit.device, hit.label, hit.peers) == (SERVER, "service_down", (CLIENT,))
    assert hit.fact.values["attempts"] == 10_000


def test_the_log_of_a_device_is_read_as_far_as_its_archive_is_good(tmp_path):
    lines = [f"2026-11-26T14:{i // 60:02d}:{i % 60:02d}Z plc-1 app: n {i}" for i in range(3000)]
    folder = tmp_path / "logs"
    folder.mkdir()
    packed = gzip.compress("\n".join(lines).encode())
    (folder / "app.log.gz").write_bytes(packed[: len(packed) // 2])
    quiet = read(tmp_path, [client(1000.0, "S")])
    records = gather_records(quiet, beside=folder)
    assert 0 < records.logs["lines"].sum() < 3000
    assert any("app.log.gz: the archive is cut" in note for note in records.notes)
