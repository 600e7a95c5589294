"""Truth is looked for in packets: every check finds what it is for, and not where that is absent."""

import json
import struct
from pathlib import Path

import pytest
from frames import Frame, address, arp_packet, ethernet, tcp_packet, udp_packet, write_pcap

from eval.testbed.verify.checks import IntervalCheck, check_run
from traffic.errors import UserError

T = 1_700_000_000.0
START, END, LAST = 100.0, 130.0, 240.0  # the event, and the run's length, in seconds
PLC, HMI, BROKER, SENSOR, BAD = (f"10.20.0.{i}" for i in (5, 6, 7, 8, 66))
HOME, CLOUD = "203.0.113.9", "198.51.100.7"


def mac(host: str) -> bytes:
    """The router's for everybody beyond it."""
    last = int(host.rpartition(".")[2]) if host.startswith("10.") else 1
    return b"\x02\x00\x00\x00\x00" + bytes([last])


def frame(at: float, packet: bytes, src: str, dst: str) -> Frame:
    return T + at, ethernet(packet, src=mac(src), dst=mac(dst))


def tcp(
    at: float, src: str, dst: str, sport: int, dport: int, flags: str, seq: int = 0, data: bytes = b"",
) -> Frame:  # fmt: skip
    return frame(at, tcp_packet(flags, seq, data, src, dst, sport, dport), src, dst)


def udp(at: float, src: str, dst: str, sport: int, dport: int, data: bytes) -> Frame:
    return frame(at, udp_packet(data, src, dst, sport, dport), src, dst)


def talk(
    src: str, dst: str, port: int, first: float = 1.0, last: float = LAST, every: float = 1.0, sport: int = 40000,
    ask: bytes = b"?" * 12, answer: bytes = b"!" * 12, late: float = 0.01, mute: bool = False,
) -> list[Frame]:  # fmt: skip
    """A connection on which one side asks and the other answers."""
    out = [tcp(first, src, dst, sport, port, "S"), tcp(first + 0.001, dst, src, port, sport, "SA")]
    out.append(tcp(first + 0.002, src, dst, sport, port, "A", 1))
    seq, back, at = 1, 1, first + 0.1
    while at < last:
        out.append(tcp(at, src, dst, sport, port, "AP", seq, ask))
        seq, at = seq + len(ask), at + every
        if not mute:
            out.append(tcp(at - every + late, dst, src, port, sport, "AP", back, answer))
            back += len(answer)
            out.append(tcp(at - every + late + 0.001, src, dst, sport, port, "A", seq))
    return out


def refused(at: float, src: str, dst: str, port: int, sport: int = 50000) -> list[Frame]:
    return [tcp(at, src, dst, sport, port, "S"), tcp(at + 0.001, dst, src, port, sport, "RA")]


def within(every: float) -> list[float]:
    """Times of something that happens again and again during the event."""
    return [START + 1 + i * every for i in range(int((END - START - 2) / every))]


def modbus(function: int, first: int = 0) -> bytes:
    return struct.pack(">HHHBBHH", 1, 0, 6, 1, function, first, 1)


EXCEPTION = struct.pack(">HHHBBB", 1, 0, 3, 1, 0x83, 2)
CONNECT = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a"
NO_CONNECT = CONNECT.replace(b"MQTT", b"MQXX")


def login(at: float, sport: int, code: int, src: str = SENSOR) -> list[Frame]:
    """A connection to the broker, a CONNECT, its CONNACK, and the end."""
    return [
        *talk(src, BROKER, 1883, at, at + 0.2, 1.0, sport, CONNECT, bytes([0x20, 2, 0, code])),
        tcp(at + 0.3, BROKER, src, 1883, sport, "FA", 5),
        tcp(at + 0.4, src, BROKER, sport, 1883, "FA", 1 + len(CONNECT)),
    ]


def lookup(
    at: float, code: int = 0, wrong: str = "", answered: bool = True, asker: str = HMI
) -> list[Frame]:
    """A question for plc, and its answer."""
    sport, name = 30000 + int(at * 10) % 20000, b"\x03plc\x00\x00\x01\x00\x01"
    out = [udp(at, asker, BAD, sport, 53, struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + name)]
    record = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04" + address(wrong or PLC)
    head = struct.pack(">HHHHHH", 7, 0x8180 | code, 1, int(not code), 0, 0)
    answer = udp(at + 0.01, BAD, asker, 53, sport, head + name + (b"" if code else record))
    return [*out, answer] if answered else out


def rtp(hole: bool) -> list[Frame]:
    """A camera's stream that misses every tenth packet during the event."""
    out = []
    for i in range(int(LAST * 5)):
        at = 1 + i / 5
        if not (hole and START < at < END and i % 10 == 0):
            head = struct.pack(">BBHII", 0x80, 96, i & 0xFFFF, i, 1)
            out.append(udp(at, SENSOR, BAD, 5004, 5006, head + b"picture"))
    return out


def arp(at: float, op: int, of: bytes, sender: str, target: str) -> Frame:
    return T + at, arp_packet(op, of, sender, target)


def without(frames: list[Frame], *hosts: str, to: bool = False) -> list[Frame]:
    """The frames less what some hosts send (and get) during the event."""
    silent = [mac(host) for host in hosts]
    return [
        (ts, data)
        for ts, data in frames
        if not (START < ts - T < END and (data[6:12] in silent or (to and data[:6] in silent)))
    ]


def interval(
    device: str, label: str, kind: str, direction: str, root: str, **parameters: object
) -> dict:
    return {
        "device": device, "label": label, "kind": kind, "direction": direction, "root": root, "parameters": parameters,
        "cause": kind, "start_s": T + START, "end_s": T + END,
    }  # fmt: skip


def pair(source: str, target: str, label: str, kind: str, **more: object) -> list[dict]:
    """The two parts of an event that comes from ``source``."""
    ends = ((source, "source"), (target, "target"))
    return [interval(device, label, kind, part, source, **more) for device, part in ends]


def check(
    folder: Path, frames: list[Frame], intervals: list[dict], **run: object
) -> list[IntervalCheck]:
    truth = {"version": 1, "seed": 1, "start_s": T, "end_s": T + LAST, "complete": True}
    truth |= {"made_by": "a test", "intervals": intervals}
    folder.mkdir(exist_ok=True)
    (folder / "truth.json").write_text(json.dumps(truth | run))
    write_pcap(folder / "capture.pcap", sorted(frames))
    return check_run(folder)


POLL = talk(HMI, PLC, 102)
USUAL = [
    *POLL,
    *talk(SENSOR, BROKER, 1883, every=2.0, sport=41000),
    *talk(BAD, HMI, 8000, every=5.0, sport=42000),
]
READS = talk(HMI, PLC, 502, sport=43000, ask=modbus(3), answer=modbus(3))
ASKED = [one for i in range(1, 23) for one in lookup(i * 10 + 0.5)]

# What happens, how the packets of it look, and what the same time looks like if it does not happen.
CASES = {
    "loss of segments": (
        pair(PLC, HMI, "packet_loss", "packet_loss"),
        [*USUAL, *((ts + 0.3, data) for ts, data in POLL if START < ts - T < END and len(data) > 60)],
        USUAL,
    ),
    "loss of a stream": (
        pair(SENSOR, BAD, "packet_loss", "packet_loss")[:1],
        [*USUAL, *rtp(True)],
        [*USUAL, *rtp(False)],
    ),
    "late answers": (
        pair(PLC, HMI, "congestion", "slow_link"),
        [*talk(HMI, PLC, 102, last=START), *talk(HMI, PLC, 102, START, END, sport=40001, late=0.4),
         *talk(HMI, PLC, 102, END + 6, sport=40002)],
        USUAL,
    ),
    "a full link": (
        pair(BAD, PLC, "congestion", "congestion"),
        [*USUAL, *talk(BAD, PLC, 5001, START, END, 0.05, 44000, b"x" * 1200, b"")],
        USUAL,
    ),
    "no power": (pair(PLC, HMI, "device_silent", "powered_off"), without(USUAL, PLC), USUAL),
    "a hung program": (
        pair(SENSOR, BROKER, "device_silent", "silent_sensor")[:1],
        [*without(USUAL, SENSOR), *(tcp(at, SENSOR, BROKER, 41000, 1883, "A", 9) for at in within(2.0))],
        USUAL,
    ),
    "a refusing port": (
        pair(PLC, HMI, "service_down", "service_crashed"),
        [*USUAL, *(one for at in within(3.0) for one in refused(at, HMI, PLC, 502, 50000 + int(at)))],
        USUAL,
    ),
    "exceptions": (
        pair(PLC, HMI, "service_down", "exception_storm"),
        [*READS, *talk(HMI, PLC, 502, START, END, sport=43001, ask=modbus(3), answer=EXCEPTION)],
        READS,
    ),
    "no time": (
        pair(PLC, HMI, "service_down", "clock_gone"),
        [*USUAL, *(udp(at, HMI, PLC, 50000 + int(at), 123, b"t" * 48) for at in within(5.0))],
        [*USUAL, *(udp(at + d, *ends, b"t" * 48) for at in within(5.0)
                   for d, ends in ((0, (HMI, PLC, 50000, 123)), (0.01, (PLC, HMI, 123, 50000))))],
    ),
    "a broker without room": (
        pair(BROKER, SENSOR, "service_down", "broker_refuses"),
        [*USUAL, *(one for at in within(3.0) for one in
                   [*talk(SENSOR, BROKER, 1883, at, at + 0.2, 1.0, 45000 + int(at), CONNECT, mute=True),
                    tcp(at + 0.3, BROKER, SENSOR, 1883, 45000 + int(at), "RA", 1)])],
        [*USUAL, *(one for at in within(3.0) for one in login(at, 45000 + int(at), 0))],
    ),
    "a wrong port": (
        pair(HMI, PLC, "misconfiguration", "wrong_port"),
        [*USUAL, *(one for at in within(3.0) for one in refused(at, HMI, PLC, 503, 50000 + int(at)))],
        USUAL,
    ),
    "nobody's address": (
        pair(HMI, PLC, "misconfiguration", "wrong_server")[:1],
        [*USUAL, *(arp(at, 1, mac(HMI), HMI, "10.20.0.99") for at in within(3.0))],
        USUAL,
    ),
    "a wrong unit": (
        pair(HMI, PLC, "misconfiguration", "wrong_unit"),
        [*READS, *talk(HMI, PLC, 502, START, END, sport=43001, ask=modbus(3), mute=True)],
        READS,
    ),
    "a wrong password": (
        pair(SENSOR, BROKER, "misconfiguration", "wrong_password"),
        [*USUAL, *(one for at in within(4.0) for one in login(at, 45000 + int(at), 5))],
        [*USUAL, *(one for at in within(4.0) for one in login(at, 45000 + int(at), 0))],
    ),
    "a wrong address": (
        [*pair(PLC, HMI, "misconfiguration", "wrong_address", address="10.9.9.9"),
         interval("10.9.9.9", "misconfiguration", "wrong_address", "source", PLC, address="10.9.9.9")],
        [*without(USUAL, PLC), *(tcp(at, "10.9.9.9", HMI, 50000 + int(at), 102, "S") for at in within(5.0))],
        USUAL,
    ),
    "a wrong gateway": (
        pair(HMI, SENSOR, "misconfiguration", "wrong_gateway"),
        [*without([*USUAL, *talk(HMI, CLOUD, 443, sport=46000)], CLOUD),
         *((ts, mac(SENSOR) + data[6:]) for ts, data in talk(HMI, CLOUD, 443, START, END, sport=46001, mute=True)
           if data[6:12] == mac(HMI))],
        [*USUAL, *talk(HMI, CLOUD, 443, sport=46000)],
    ),
    "an address given twice": (
        pair(PLC, HMI, "misconfiguration", "duplicate_address"),
        [*USUAL, *(arp(at, 2, mac(BAD), PLC, PLC) for at in within(5.0))],
        USUAL,
    ),
    "no names": (
        pair(BAD, HMI, "name_resolution", "dns_outage"),
        [*USUAL, *ASKED, *(one for at in within(4.0) for one in lookup(at, answered=False))],
        [*USUAL, *ASKED, *(one for at in within(4.0) for one in lookup(at))],
    ),
    "wrong names": (
        pair(BAD, HMI, "name_resolution", "dns_wrong", answers={"plc": "10.20.0.99"}),
        [*USUAL, *ASKED, *(one for at in within(4.0) for one in lookup(at, wrong="10.20.0.99"))],
        [*USUAL, *ASKED, *(one for at in within(4.0) for one in lookup(at))],
    ),
    "a loose cable": (
        pair(PLC, HMI, "flapping", "flapping"),
        [(ts, data) for ts, data in USUAL
         if not (START < ts - T < END and int(ts - T - START) % 10 < 5 and data[6:12] == mac(PLC))],
        USUAL,
    ),
    "a scan": (
        pair(BAD, PLC, "recon", "nmap_syn"),
        [*USUAL, *(one for i, at in enumerate(within(1.0)) for one in refused(at, BAD, PLC, 1 + i))],
        USUAL,
    ),
    "a sweep of registers": (
        pair(BAD, PLC, "recon", "modbus_sweep"),
        [*READS, *(one for i, at in enumerate(within(1.0))
                   for one in talk(BAD, PLC, 502, at, at + 0.2, 1, 47000 + i, modbus(3, 50 * i), modbus(3)))],
        [*READS, *talk(BAD, PLC, 502, sport=47000, ask=modbus(3), answer=modbus(3))],
    ),
    "a flood": (
        pair(BAD, PLC, "dos", "flood_syn"),
        [*USUAL, *(tcp(at, BAD, PLC, 1024 + i, 502, "S") for i, at in enumerate(within(0.05)))],
        USUAL,
    ),
    "a flood from many": (
        [interval(BAD, "ddos", "flood_many", "source", BAD), interval(SENSOR, "ddos", "flood_many", "source", BAD),
         interval(PLC, "ddos", "flood_many", "target", BAD)],
        [*USUAL, *(udp(at, src, PLC, 1024 + i, 502, b"x" * 99)
                   for i, at in enumerate(within(0.05)) for src in (BAD, SENSOR))],
        USUAL,
    ),
    "held connections": (
        pair(BAD, PLC, "dos", "slow_connections"),
        [*USUAL, *(one for i, at in enumerate(within(0.5))
                   for one in talk(BAD, PLC, 102, at, at + 0.2, 9, 48000 + i, b"\0", b""))],
        USUAL,
    ),
    "guesses at telnet": (
        pair(BAD, SENSOR, "brute_force", "telnet_guess"),
        [*USUAL, *talk(BAD, SENSOR, 23, START, END, 1.0, 49000, b"root\r\n", b"Password: ")],
        USUAL,
    ),
    "guesses at MQTT": (
        pair(BAD, BROKER, "brute_force", "mqtt_guess"),
        [*USUAL, *(one for i, at in enumerate(within(2.0)) for one in login(at, 49000 + i, 5, BAD))],
        USUAL,
    ),
    "a beacon": (
        pair(SENSOR, SENSOR, "c2", "beacon_fixed")[:1],
        [*USUAL, *(one for i, at in enumerate(within(6.0))
                   for one in talk(SENSOR, HOME, 4444, at, at + 0.2, 1, 49000 + i))],
        [*USUAL, *(one for i in range(20) for one in talk(SENSOR, HOME, 4444, 9 + 11 * i, 10 + 11 * i, 1, 49000 + i))],
    ),
    "a dead beacon": (
        pair(SENSOR, SENSOR, "c2", "beacon_dead")[:1],
        [*USUAL, *(tcp(at, SENSOR, HOME, 49000 + i, 4444, "S") for i, at in enumerate(within(6.0)))],
        [*USUAL, tcp(START + 5, SENSOR, HOME, 49000, 4444, "S")],
    ),
    "a theft": (
        pair(SENSOR, SENSOR, "exfiltration", "exfiltration")[:1],
        [*USUAL, *talk(SENSOR, HOME, 443, START, END, 0.2, 49000, b"x" * 1200, b"")],
        [*USUAL, *talk(SENSOR, HOME, 443, START, END, 0.2, 49000, b"?", b"x" * 1200)],
    ),
    "a man in the middle": (
        pair(BAD, PLC, "spoofing", "arp_spoof"),
        [*USUAL, *(arp(at, 1, mac(BAD), BAD, PLC) for at in (5.0, START)),
         *(arp(at, 2, mac(BAD), PLC, HMI) for at in within(4.0))],
        [*USUAL, *(arp(at, 2, mac(PLC), PLC, HMI) for at in within(4.0)), arp(5.0, 1, mac(BAD), BAD, PLC)],
    ),
    "malformed MQTT": (
        pair(BAD, BROKER, "mqtt_abuse", "mqtt_malformed"),
        [*USUAL, *(one for i, at in enumerate(within(3.0))
                   for one in talk(BAD, BROKER, 1883, at, at + 0.2, 1, 49000 + i, NO_CONNECT, b""))],
        [*USUAL, *(one for i, at in enumerate(within(9.0)) for one in login(at, 49000 + i, 0, BAD))],
    ),
    "a flood of messages": (
        pair(BAD, BROKER, "mqtt_abuse", "mqtt_flood"),
        [*USUAL, *talk(BAD, BROKER, 1883, START, END, 0.04, 49000, b"\x30\x05\x00\x01ahi", b"")],
        [*USUAL, *talk(BAD, BROKER, 1883, START, END, 4.0, 49000, b"\x30\x05\x00\x01ahi", b"")],
    ),
    "writes": (
        pair(BAD, PLC, "unauthorized_command", "modbus_writes"),
        [*READS, *talk(BAD, PLC, 502, START, END, 2.0, 47000, modbus(6), modbus(6))],
        [*READS, *talk(BAD, PLC, 502, START, END, 2.0, 47000, modbus(3), modbus(3))],
    ),
    "a backup": (
        [interval("10.20.0.9", "normal", "backup", "", "10.20.0.9")],
        [*USUAL, *talk("10.20.0.9", BAD, 445, START, END)],
        USUAL,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_happened_shows_and_what_did_not_does_not(tmp_path, name):
    intervals, happened, usual = CASES[name]
    yes, no = check(tmp_path / "yes", happened, intervals), check(tmp_path / "no", usual, intervals)
    assert [one.agrees for one in yes] == [True] * len(intervals), [one.measured for one in yes]
    assert [one.agrees for one in no] == [False] * len(intervals), [one.measured for one in no]


def test_a_check_says_what_was_claimed_and_what_was_measured(tmp_path):
    intervals, happened, _ = CASES["loss of segments"]
    source, target = check(tmp_path / "run", happened, intervals)
    claimed = (source.number, source.device, source.label, source.kind)
    assert claimed == (0, PLC, "packet_loss", "packet_loss")
    assert (target.number, target.device) == (1, HMI)
    # Of 30 questions and 30 answers each was sent twice; 5 seconds of reaction hold 10 more.
    measured = "46.2% of 130 segments were sent again (usual: 0), 0 attempts in vain"
    assert source.measured.startswith(measured)


def test_what_goes_on_all_the_time_proves_nothing(tmp_path):
    intervals, _, _ = CASES["a refusing port"]
    always = [one for i in range(75) for one in refused(2 + 3 * i, HMI, PLC, 502, 50000 + i)]
    checks = check(tmp_path / "run", [*USUAL, *always], intervals)
    assert [one.agrees for one in checks] == [False, False]


def test_a_victim_that_asked_for_nothing_is_none(tmp_path):
    claimed = [*pair(PLC, HMI, "device_silent", "powered_off")]
    claimed.append(interval(SENSOR, "device_silent", "powered_off", "target", PLC))
    frames = without(USUAL, PLC)
    assert [one.agrees for one in check(tmp_path / "run", frames, claimed)] == [True, True, False]


def test_a_run_that_broke_off_or_has_no_truth_is_not_checked(tmp_path):
    with pytest.raises(UserError, match="complete is false"):
        check(tmp_path / "run", USUAL, [], complete=False)
    write_pcap(tmp_path / "capture.pcap", USUAL)
    with pytest.raises(UserError, match=r"truth\.json cannot be read"):
        check_run(tmp_path)
