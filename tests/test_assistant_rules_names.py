"""Names that lead nowhere and calls to which no name led, over packets written by hand; beside each, what
looks like it."""

import struct
from pathlib import Path

import pytest
from frames import Frame, ethernet, read, tcp_packet, udp_packet

from assistant.detection.rules import RuleHit, apply_rules
from assistant.facts.fact import kind_of
from assistant.facts.traffic_view import TrafficView
from traffic.samples import make_samples

EDGE, RESOLVER = "172.29.8.20", "172.29.8.61"
RIGHT, WRONG, OTHER, CONTROL = "198.18.77.5", "198.18.99.9", "198.18.55.4", "203.0.113.9"


def _find(tmp_path: Path, frames: list[Frame], *kinds: str) -> list[RuleHit]:
    last = [(600.0, ethernet(udp_packet(b"x", EDGE, RESOLVER)))]
    capture = read(tmp_path, sorted(frames + last))
    hits = apply_rules(TrafficView(capture, make_samples(capture)))
    return [hit for hit in hits if kind_of(hit.fact) in kinds]


def _lookup(ts: float, name: str, address: str) -> list[Frame]:
    ident, port = int(ts) % 60000, 5000 + int(ts) % 1000
    asked = bytes([len(name)]) + name.encode() + b"\4test\0\0\1\0\1"
    record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + bytes(map(int, address.split(".")))
    ask = struct.pack(">HHHHHH", ident, 0x0100, 1, 0, 0, 0) + asked
    answer = struct.pack(">HHHHHH", ident, 0x8180, 1, 1, 0, 0) + asked + record
    return [
        (ts, ethernet(udp_packet(ask, EDGE, RESOLVER, port, 53))),
        (ts + 0.01, ethernet(udp_packet(answer, RESOLVER, EDGE, 53, port))),
    ]


def _call(ts: float, dst: str, port: int = 443, said: bytes = b"") -> list[Frame]:
    """A connection; nobody answers where nothing is said."""
    sport = 20000 + int(10 * ts) % 40000
    there, back = (EDGE, dst, sport, port), (dst, EDGE, port, sport)
    syn = tcp_packet("S", 99, b"", *there)
    if not said:
        return [(ts, ethernet(syn)), (ts + 1, ethernet(syn))]
    packets = [
        syn,
        tcp_packet("SA", 0, b"", *back, ack=100),
        tcp_packet("PA", 100, said, *there),
        tcp_packet("PA", 1, said, *back, ack=100 + len(said)),
        tcp_packet("FA", 100 + len(said), b"", *there, ack=1 + len(said)),
        tcp_packet("FA", 1 + len(said), b"", *back, ack=101 + len(said)),
    ]
    return [(ts + n / 100, ethernet(one)) for n, one in enumerate(packets)]


def _visits(
    first: int, last: int, address: str, said: bytes = b"", name: str = "site"
) -> list[Frame]:
    """A look-up and a call each fifteen seconds."""
    return [
        frame
        for at in range(first, last, 15)
        for frame in (*_lookup(at, name, address), *_call(at + 1, address, said=said))
    ]


TALK = b"\x16\x03\x01 hello"


@pytest.mark.parametrize("over", [True, False])
def test_a_resolver_that_gives_an_address_of_nobody_for_a_while_is_told(tmp_path, over):
    frames = _visits(0, 200, RIGHT, TALK) + _visits(210, 310, WRONG)
    frames += _visits(330, 400, RIGHT, TALK) if over else []
    (hit,) = _find(tmp_path, frames, "astray", "calls")
    assert (hit.label, hit.device, hit.peers) == ("name_resolution", RESOLVER, (EDGE, WRONG))
    assert hit.gone == (WRONG,)
    said = hit.fact.values
    assert (said["names"], said["calls"]) == ("“site.test”", 7)
    assert (said["since_time_s"], said["until_time_s"]) == pytest.approx((210.0, 302.0), abs=0.1)
    assert ("from" in hit.fact.text) is over
    assert hit.facts[1].values["others"] == RIGHT


@pytest.mark.parametrize(
    "frames",
    [
        _visits(0, 310, WRONG),  # it never led anywhere else: a service that is gone
        _visits(0, 200, RIGHT, TALK) + _visits(210, 250, WRONG),  # three calls
        _visits(0, 200, RIGHT, TALK) + _visits(210, 310, OTHER, TALK),  # it has moved
        # One of two that are given by turns is dead.
        _visits(0, 300, RIGHT, TALK) + _visits(7, 300, WRONG),
    ],
    ids=["always", "few", "moved", "by turns"],
)
def test_other_names_that_lead_nowhere_are_no_fault_of_the_resolver(tmp_path, frames):
    assert _find(tmp_path, frames, "astray") == []


@pytest.mark.parametrize(
    ("given", "visited", "found"),
    [(OTHER, True, True), (OTHER, False, False), (CONTROL, True, False)],
    ids=["led elsewhere", "never went there", "led there"],
)
def test_a_name_that_led_elsewhere_led_to_no_controller(tmp_path, given, visited, found):
    """It looks its maker up and goes there, and a moment later begins to call somebody else in vain."""
    frames = _visits(0, 180, RIGHT, TALK)
    frames += _lookup(190, "maker", given) + (_call(191, given, said=TALK) if visited else [])
    frames += [one for n in range(20) for one in _call(195 + 4.0 * n, CONTROL, 8080)]
    hits = _find(tmp_path, frames, "calls")
    assert [(hit.device, hit.label, hit.peers) for hit in hits] == (
        [(EDGE, "c2", (CONTROL,))] * found
    )
    if found:
        assert "names_elsewhere" in [kind_of(fact) for fact in hits[0].facts]
