"""Devices that ask for an address in vain, over packets written by hand."""

import struct
from pathlib import Path

import pytest
from frames import Frame, arp_packet, ethernet, read, udp_packet

from assistant.detection.rules import apply_rules
from assistant.facts.fact import kind_of
from assistant.facts.traffic_view import TrafficView
from traffic.samples import make_samples

ONE, TWO = b"\x02\0\0\0\0\x0a", b"\x02\0\0\0\0\x0b"
SERVER, SERVER_MAC = "192.168.1.1", b"\x02\0\0\0\0\1"
DISCOVER, OFFER, REQUEST, ACK = 1, 2, 3, 5


def _dhcp(mac: bytes, kind: int, xid: int, name: bytes = b"") -> bytes:
    answers = kind in (OFFER, ACK)
    head = struct.pack(">BBBBIHH", 1 + answers, 1, 6, 0, xid, 0, 0) + bytes(16) + mac + bytes(202)
    named = bytes([12, len(name)]) + name if name else b""
    lease = b"\x33\4\0\0\x0e\x10" if answers else b""
    return head + b"\x63\x82\x53\x63" + bytes([53, 1, kind]) + lease + named + b"\xff"


def _asks(mac: bytes, times: list[float], kind: int = DISCOVER, name: bytes = b"") -> list[Frame]:
    everybody = "0.0.0.0", "255.255.255.255", 68, 67
    return [
        (ts, ethernet(udp_packet(_dhcp(mac, kind, int(ts), name), *everybody), src=mac))
        for ts in times
    ]


def _grants(mac: bytes, ts: float) -> list[Frame]:
    """A client that is offered an address and takes it."""
    back = SERVER, "255.255.255.255", 67, 68
    says = [(ts + 0.1, OFFER), (ts + 1.1, ACK)]
    return [
        *_asks(mac, [ts]), *_asks(mac, [ts + 1.0], REQUEST),
        *(
            (at, ethernet(udp_packet(_dhcp(mac, kind, int(at - 0.1), b""), *back), src=SERVER_MAC))
            for at, kind in says
        ),
    ]  # fmt: skip


def _hits(path: Path, frames: list[Frame]) -> list[tuple]:
    end = (200.0, arp_packet(1, SERVER_MAC, SERVER, "192.168.1.77"))
    capture = read(path, sorted([*frames, end]))
    hits = apply_rules(TrafficView(capture, make_samples(capture)))
    return [hit for hit in hits if any("lease" in kind_of(fact) for fact in hit.facts)]


VAIN = [0.0, 4, 12, 28, 60, 110]


def test_who_is_offered_nothing_is_told_by_name(tmp_path):
    (hit,) = _hits(tmp_path, _asks(ONE, VAIN, name=b"press-1"))
    assert (hit.device, hit.label) == (ONE.hex(":"), "misconfiguration")
    assert [kind_of(fact) for fact in hit.facts] == ["no_lease", "no_dhcp"]
    # Whether the last one was answered the capture does not hold.
    assert hit.fact.values["n"] == 5
    assert hit.fact.values["clients"] == f"{ONE.hex(':')} (“press-1”)"


def test_copies_of_a_mirror_port_are_counted_once(tmp_path):
    twice = [frame for ts, data in _asks(ONE, VAIN) for frame in ((ts, data), (ts + 1e-4, data))]
    (hit,) = _hits(tmp_path, twice)
    assert hit.fact.values["n"] == 6  # the copy of the last came after it, and nothing between them


def test_two_in_vain_are_one_story_and_others_that_are_served_are_named(tmp_path):
    frames = [*_asks(ONE, VAIN), *_asks(TWO, [ts + 2 for ts in VAIN])]
    (hit,) = _hits(tmp_path, frames)
    assert kind_of(hit.fact) == "no_leases"
    assert {hit.device, *hit.peers} == {ONE.hex(":"), TWO.hex(":")}
    (hit,) = _hits(tmp_path, [*_asks(ONE, VAIN), *_grants(TWO, 50.0)])
    assert [kind_of(fact) for fact in hit.facts] == ["no_lease", "dhcp_serves"]
    assert hit.facts[1].values["server"] == SERVER


def test_a_server_that_gave_addresses_and_gives_none_any_more_is_blamed(tmp_path):
    late = [ts + 30 for ts in VAIN]
    (hit,) = _hits(tmp_path, [*_grants(TWO, 5.0), *_asks(ONE, late)])
    assert (hit.device, hit.label, kind_of(hit.fact)) == (SERVER, "service_down", "lease_server")
    assert hit.peers == (ONE.hex(":"),)


@pytest.mark.parametrize(
    "frames",
    [
        _asks(ONE, VAIN[:3]),  # three times
        _asks(ONE, [0, 1, 2, 3, 4, 5]),  # too short
        # The offer takes a way that the sensor does not see: the client goes on with a request.
        [f for ts in VAIN for f in (*_asks(ONE, [ts]), *_asks(ONE, [ts + 1.0], REQUEST))][:-2]
        + _asks(ONE, [112.0], REQUEST),
        [*_asks(ONE, VAIN), *_grants(ONE, 120.0)],  # in the end it was given one
    ],
    ids=["seldom", "short", "unseen offer", "granted late"],
)
def test_who_may_have_got_one_is_not_told(tmp_path, frames):
    assert _hits(tmp_path, frames) == []
