"""Machines that took another address, over packets written by hand; beside each, what looks like it."""

from dataclasses import replace
from pathlib import Path

import pytest
from frames import (
    SERVER,
    SERVER_MAC,
    Frame,
    arp_packet,
    ethernet,
    icmp_packet,
    read,
    tcp_packet,
    udp_packet,
)

from assistant.detection.rules import apply_rules
from assistant.facts.devices import describe_device
from assistant.facts.fact import kind_of
from assistant.facts.moves import move_facts
from assistant.facts.traffic_view import TrafficView
from traffic.plant import Device, Plant
from traffic.samples import make_samples

MAC, OWN, TAKEN = b"\x02\0\0\0\0\x40", "192.168.1.40", "192.168.2.40"
TEXT = MAC.hex(":")
PLANT = Plant(
    (
        Device(address=OWN, name="sensor-5", role="sensor", mac=TEXT),
        Device(address=SERVER, name="hub", role="broker"),
    )
)


def _sends(src: str, *times_s: float, mac: bytes = MAC, sport: int = 4000) -> list[Frame]:
    return [
        (
            ts,
            ethernet(
                udp_packet(b"21.5", src=src, sport=sport, dport=4000), src=mac, dst=SERVER_MAC
            ),
        )
        for ts in times_s
    ]


def _asks(*addresses: str) -> list[Frame]:
    return [(5.0 if one == OWN else 105.0, arp_packet(1, MAC, one, SERVER)) for one in addresses]


BEFORE, MEANWHILE, AFTER = (0.0, 20.0, 40.0), (100.0, 120.0, 140.0), (200.0, 220.0)
MOVED = [*_sends(OWN, *BEFORE, *AFTER), *_sends(TAKEN, *MEANWHILE)]


def _view(tmp_path: Path, frames: list[Frame], plant: Plant | None) -> TrafficView:
    capture = read(tmp_path, sorted(frames))
    return TrafficView(capture, make_samples(capture, plant), plant)


@pytest.mark.parametrize(
    ("frames", "plant"),
    [
        (MOVED, PLANT),  # its hardware address is known
        ([*MOVED, *_asks(OWN, TAKEN)], None),  # both are on this network
        ([*MOVED, *_asks(OWN, TAKEN)], replace(PLANT, devices=PLANT.devices[1:])),
    ],
)
@pytest.mark.parametrize("device", [OWN, TAKEN])
def test_a_device_is_the_same_by_its_hardware_address(tmp_path, frames, plant, device):
    view = _view(tmp_path, frames, plant)
    (fact,) = move_facts(view, device)
    said = fact.values
    assert (said["address"], said["owner"], said["mac"]) == (TAKEN, view.name_of(OWN), TEXT)
    assert (said["since_time_s"], said["until_time_s"]) == pytest.approx((100.0, 140.0), abs=0.01)
    assert describe_device(view, device)[0] == fact


@pytest.mark.parametrize(
    ("frames", "plant"),
    [
        (MOVED, None),  # two hosts behind a router that sends nothing itself look the same
        ([*MOVED, *_asks(OWN)], None),
        ([*MOVED, *_sends(OWN, 110.0)], PLANT),  # both at once: it has two addresses
        ([*MOVED, *_sends("192.168.2.41", 130.0)], PLANT),  # a router carries several
        ([*MOVED, *_sends(TAKEN, 130.0, mac=b"\x02\0\0\0\0\x41", sport=4001)], PLANT),  # of two machines
        (MOVED, Plant((*PLANT.devices, Device(address=TAKEN, name="sensor-6", role="sensor")))),  # a known one
    ],
)  # fmt: skip
def test_other_addresses_of_one_hardware_address_are_no_moves(tmp_path, frames, plant):
    assert move_facts(_view(tmp_path, frames, plant), OWN, TAKEN) == []


OTHER_MAC = b"\x02\0\0\0\0\x77"
_CLAIMS = [
    *((ts, arp_packet(1, MAC, OWN, SERVER)) for ts in (0.0, 20.0, 40.0)),
    *((ts, arp_packet(1, OTHER_MAC, OWN, SERVER)) for ts in (60.0, 75.0, 90.0, 105.0)),
]
_EXCHANGED = [
    *_CLAIMS,
    *_sends(OWN, *BEFORE),
    *_sends(OWN, 60.0, 75.0, 90.0, 105.0, mac=OTHER_MAC, sport=5000),
]
_NAMELESS = replace(PLANT, devices=(replace(PLANT.devices[0], mac=""), PLANT.devices[1]))


@pytest.mark.parametrize(
    ("frames", "plant", "exchanged"),
    [
        (_EXCHANGED, _NAMELESS, True),
        (_EXCHANGED, replace(PLANT, devices=(replace(PLANT.devices[0], mac=OTHER_MAC.hex(":")),)), True),
        (_EXCHANGED, PLANT, False),  # the inventory names the machine that is gone
        ([*_EXCHANGED, *_sends(OWN, 80.0, sport=6000)], _NAMELESS, False),  # which is still there
        ([*_EXCHANGED, *_sends(OWN, 59.0, sport=6000)], _NAMELESS, False),  # too soon for hands
        ([*_CLAIMS, *_sends(OWN, *BEFORE, 60.0, 90.0)], _NAMELESS, False),  # the other claims it only
    ],
)  # fmt: skip
def test_a_device_that_was_exchanged_is_no_second_machine(tmp_path, frames, plant, exchanged):
    view = _view(tmp_path, frames, plant)
    labels = {hit.label for hit in apply_rules(view)}
    assert bool(labels & {"spoofing", "misconfiguration"}) is not exchanged
    facts = [one for one in move_facts(view, OWN) if kind_of(one) == "replaced"]
    assert bool(facts) is exchanged
    if exchanged:
        said = facts[0].values
        assert (said["before"], said["after"]) == (TEXT, OTHER_MAC.hex(":"))
        assert (said["last_time_s"], said["first_time_s"]) == pytest.approx((40.0, 60.0))


def _asks_in_vain(start_s: float) -> list[Frame]:
    """A call whose answer does not arrive: it is sent again twice, and answered each time."""
    sport = 41000 + int(start_s)
    there = tcp_packet("S", 0, src=TAKEN, sport=sport, dport=1883)
    back = tcp_packet("SA", 0, src=SERVER, dst=TAKEN, sport=1883, dport=sport)
    return [
        frame
        for wait_s in (0.0, 1.0, 3.0)
        for frame in (
            (start_s + wait_s, ethernet(there, src=MAC, dst=SERVER_MAC)),
            (start_s + wait_s + 0.01, ethernet(back, src=SERVER_MAC, dst=MAC)),
        )
    ]


@pytest.mark.parametrize("deaf", [True, False])
def test_a_device_that_moved_and_misses_something_for_it_is_one_story(tmp_path, deaf):
    calls = [one for n in range(10) for one in _asks_in_vain(100.0 + 5 * n)]
    frames = [*_sends(OWN, *BEFORE, *AFTER), *(calls if deaf else _sends(TAKEN, *MEANWHILE))]
    hits = apply_rules(_view(tmp_path, frames, PLANT))
    found = [(kind_of(hit.fact), hit.label, hit.device) for hit in hits]
    # A new address by which all goes well is no trouble.
    assert found == ([("moved", "misconfiguration", OWN)] if deaf else [])
    if deaf:
        assert [kind_of(fact) for fact in hits[0].facts] == ["moved", "deaf"]
        assert hits[0].peers == (TAKEN, SERVER)


def _told_no_way(*times_s: float) -> list[Frame]:
    """A router tells the server that there is no way to where it answers."""
    return [
        (ts, ethernet(icmp_packet(3, 0, bytes(28), src="192.168.1.1", dst=SERVER)))
        for ts in times_s
    ]


@pytest.mark.parametrize(
    ("told_s", "found"), [((101.0, 121.0, 141.0), True), ((101.0,), False), ((181.0, 182.0, 183.0), False)]
)  # fmt: skip
def test_a_device_whose_answers_a_router_throws_away_misses_them(tmp_path, told_s, found):
    asks = [one for ts in MEANWHILE for one in _asks_a_name(ts)]
    frames = [*_sends(OWN, *BEFORE, 60.0, 80.0, *AFTER), *asks, *_told_no_way(*told_s)]
    hits = [
        one for one in apply_rules(_view(tmp_path, frames, PLANT)) if kind_of(one.fact) == "moved"
    ]
    assert [(one.label, one.device) for one in hits] == [("misconfiguration", OWN)] * found
    if found:
        assert [kind_of(one) for one in hits[0].facts] == ["moved", "unanswerable"]


def _asks_a_name(ts: float) -> list[Frame]:
    there = udp_packet(b"?", src=TAKEN, sport=5000 + int(ts), dport=9000)
    back = udp_packet(b"!", src=SERVER, dst=TAKEN, sport=9000, dport=5000 + int(ts))
    return [
        (ts, ethernet(there, src=MAC, dst=SERVER_MAC)),
        (ts + 0.01, ethernet(back, src=SERVER_MAC, dst=MAC)),
    ]


@pytest.mark.parametrize(("taken_s", "moved"), [((96.0, 109.0), True), ((96.0, 97.0), False)])
def test_a_move_of_seconds_is_placed_by_packets(tmp_path, taken_s, moved):
    """It says nothing by its own address for 24 s, or for less than twenty."""
    own = (0.0, 20.0, 95.0, 119.0 if moved else 99.0)
    facts = move_facts(_view(tmp_path, [*_sends(OWN, *own), *_sends(TAKEN, *taken_s)], PLANT), OWN)
    assert [kind_of(one) for one in facts] == ["moved"] * moved
    if moved:
        assert facts[0].values["silent_s"] == pytest.approx(24.0)
