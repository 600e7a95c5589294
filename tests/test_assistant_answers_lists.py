"""Lists of who did something: own and foreign told apart, plurals, numbers of the thing that was asked for."""

import struct
from pathlib import Path

import pandas as pd
import pytest
from frames import Frame, ethernet, icmp_packet, read, tcp_packet, udp_packet

from assistant.answers.answer import answer
from assistant.answers.attacks.raids import list_raiders
from assistant.detection.pipeline import Analysis, analyse_verdicts
from assistant.questions.plurals import read_plural
from traffic.labels import LABELS, NORMAL
from traffic.plant import Device, Plant
from traffic.samples import make_samples
from traffic.windows import make_windows

HMI, STRANGER, SENSOR = "192.168.1.20", "192.168.1.99", "192.168.1.30"
PLCS = ("192.168.1.11", "192.168.1.12", "192.168.1.13")
ROUTER_MAC, WRONG_MAC = b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x13"
PLANT = Plant(
    (
        *(Device(address=one, name=f"plc-{n}", role="plc", mac="02:00:00:00:00:13" if n == 3 else "")
          for n, one in enumerate(PLCS, start=1)),
        Device(address=HMI, name="hmi-1", role="hmi"),
        Device(address=SENSOR, name="sensor-1", role="sensor"),
    )
)  # fmt: skip
END_S = 300.0


def _session(start_s: float, src: str, dst: str, sport: int, *requests: bytes) -> list[Frame]:
    """A Modbus session in which each request, two seconds apart, is answered with itself."""

    def packet(at_s: float, flags: str, seq: int, data: bytes, out: bool, ack: int) -> Frame:
        ends = (src, dst, sport, 502) if out else (dst, src, 502, sport)
        sent = tcp_packet(flags, seq, data, *ends, ack=ack)
        return at_s, ethernet(sent)

    frames = [
        packet(start_s, "S", 0, b"", True, 0), packet(start_s + 0.01, "SA", 0, b"", False, 1),
        packet(start_s + 0.02, "A", 1, b"", True, 1),
    ]  # fmt: skip
    at = 1
    for n, pdu in enumerate(requests):
        data = struct.pack(">HHHB", n + 1, 0, len(pdu) + 1, 1) + pdu
        ts = start_s + 1.0 + 2.0 * n
        frames += [
            packet(ts, "PA", at, data, True, at),
            packet(ts + 0.01, "PA", at, data, False, at + len(data)),
        ]
        at += len(data)
    return frames


def _write(register: int) -> bytes:
    return struct.pack(">BHH", 6, register, 1)


def _analyse(path: Path, *frames: Frame) -> Analysis:
    """Every window is judged normal, so that only rules speak."""
    reports = [
        (5.0 * n, ethernet(udp_packet(b"21.5", src=SENSOR, dst=HMI, sport=4000, dport=4000)))
        for n in range(int(END_S // 5))
    ]
    capture = read(path, sorted([*reports, *frames]))
    windows = make_windows(make_samples(capture, PLANT))
    verdicts = windows.table[["device", "start_s", "end_s"]].assign(
        label=NORMAL, probability=0.95, abstained=False, direction=""
    )
    shares = {f"p_{name}": 0.95 * (name == NORMAL) for name in LABELS}
    verdicts = pd.concat([verdicts, pd.DataFrame(shares, index=verdicts.index)], axis=1)
    return analyse_verdicts(capture, PLANT, windows, verdicts)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Analysis:
    """hmi-1 writes 3 times to plc-1 and twice to plc-2; a stranger 4 times, 3 registers, to plc-2."""
    return _analyse(
        tmp_path_factory.mktemp("written"),
        *_session(2.0, HMI, PLCS[0], 40001, *map(_write, (7, 7, 8))),
        *_session(3.0, HMI, PLCS[1], 40002, *map(_write, (7, 7))),
        *_session(200.0, STRANGER, PLCS[1], 40003, *map(_write, (1, 2, 3, 3))),
    )


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ("who writes to the plcs", ("2 machines wrote to", "(5 times)", "1 that plant.yaml does not name")),
        ("which plcs were written to by strangers", ("1 of 3 was written", "plc-2 (192.168.1.12) (4 times, by 192")),
        ("does a stranger write to plc-1?", ("No: all who wrote to plc-1", "hmi-1 (192.168.1.20) (3 times)")),
        ("did strangers write to any plc", ("Yes: 1 machine that plant.yaml does not name wrote to plc-2",)),
        ("who else wrote to the plcs besides .99", ("Only one machine wrote to plc-1", "hmi-1")),
        ("hmi-1 writes - is that a stranger?", ("No: plant.yaml names hmi-1",)),
        ("who wrote to plc-2 and is it on our list", ("2 machines wrote to plc-2", "192.168.1.99 (4 times)")),
        ("how many registers did the stranger write on plc-2", ("3 register addresses of plc-2", "in 4 requests")),
        ("how many syns hit plc-2", ("2 SYNs came to plc-2",)),
        ("how many open ports has plc-1", ("1 TCP port of plc-1", "502")),
        ("how many pings per second hit plc-1", ("No ping came to plc-1",)),
        ("how often did hmi-1 call plc-1", ("called plc-1 (192.168.1.11) 1 time from",)),
    ],
)  # fmt: skip
def test_lists_and_numbers_say_what_was_asked_for(written, question, says):
    line = answer(question, written).cause
    for one in says:
        assert one in line, (question, line)


def test_a_plural_names_all_devices_of_its_role_and_a_singular_none(written):
    assert read_plural("who writes to the plc's", written) == PLCS
    assert read_plural("who writes to plc-2", written) == ()
    assert read_plural("alle sensoren", written) == (SENSOR,)


@pytest.fixture(scope="module")
def flooded(tmp_path_factory) -> Analysis:
    """Two strangers and sensor-1 send plc-1 40 pings a second each from 100 s to 160 s."""
    sources = (SENSOR, STRANGER, "192.168.1.98")
    flood = [
        (100.0 + n / 40 + place / 1000, ethernet(icmp_packet(8, data=b"x" * 32, src=one, dst=PLCS[0])))
        for place, one in enumerate(sources) for n in range(40 * 60)
    ]  # fmt: skip
    return _analyse(tmp_path_factory.mktemp("flooded"), *flood)


def test_who_takes_part_in_a_flood_is_counted_apart(flooded):
    attacks = [one for one in flooded.incidents if one.label in ("dos", "ddos")]
    assert attacks, [one.label for one in flooded.incidents]
    assert set(list_raiders(attacks[0], flooded.view)) == {SENSOR, STRANGER, "192.168.1.98"}
    said = answer("who is flooding plc-1", flooded).cause
    assert (
        "3 machines: 1 of the plant (sensor-1 (192.168.1.30)) and 2 that plant.yaml does not name"
        in said
    )
    said = answer("how many of the attackers on plc-1 are ours", flooded).cause
    assert said.startswith("The plant's own: 1 of the 3 (sensor-1")
    rate = answer("how many pings per second hit plc-1", flooded).cause
    assert rate.startswith("On average 120 pings a second: 7,200 in 60 s"), rate
    assert answer("who is .98", flooded).cause.startswith("192.168.1.98 is not in plant.yaml. ")


def test_to_whose_hardware_address_goes_what_should_leave(tmp_path):
    def out(at_s: float, src: str, mac: bytes) -> Frame:
        return at_s, ethernet(
            udp_packet(b"x", src=src, dst="198.51.100.7", sport=5000, dport=9), dst=mac
        )

    frames = [out(10.0 + n, HMI, ROUTER_MAC) for n in range(5)]
    frames += [out(20.0 + n, PLCS[0], ROUTER_MAC) for n in range(5)]
    frames += [out(200.0 + n, SENSOR, WRONG_MAC) for n in range(4)]
    said = answer("which gateway does sensor-1 use", _analyse(tmp_path, *frames)).cause
    assert said.startswith(
        "sensor-1 (192.168.1.30) gave what goes outside to the hardware address of plc-3"
    )
    assert "4 packets" in said
