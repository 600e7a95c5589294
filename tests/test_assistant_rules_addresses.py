"""Addresses that two machines bear, over packets written by hand: given twice, or claimed by somebody
who stands in the middle."""

import struct
from pathlib import Path

import pytest
from frames import Frame, arp_packet, ethernet, read, tcp_packet, udp_packet

from assistant.detection.rules import apply_rules
from assistant.facts.fact import kind_of
from assistant.facts.traffic_view import TrafficView
from traffic.plant import Plant, parse_plant
from traffic.samples import make_samples

DRIVE, STORE, PANEL = "172.29.8.61", "172.29.8.90", "172.29.8.20"
FIRST, SECOND, STORES = b"\x02\0\0\0\0\x61", b"\x02\0\0\0\0\x62", b"\x02\0\0\0\0\x90"


def _claims(mac: bytes, shift_s: float, address: str = DRIVE) -> list[Frame]:
    return [(10.0 * n + shift_s, arp_packet(2, mac, address, STORE)) for n in range(1, 20)]


def _calls(
    src: str, mac: bytes, to: bytes = STORES, port: int = 41000, dst: str = STORE
) -> list[Frame]:
    """A connection every ten seconds, opened, agreed to and reset."""
    frames = []
    for n in range(20):
        ends = (src, dst, port + n, 4711)
        back = (dst, src, 4711, port + n)
        for at_s, flags, seq, ack, way in (
            (0, "S", 99, 0, ends),
            (0.01, "SA", 0, 100, back),
            (0.1, "RA", 100, 1, ends),
        ):
            macs = {"src": mac, "dst": to} if way is ends else {"src": to, "dst": mac}
            frames.append(
                (
                    10.0 * n + 3 + at_s + port / 1e5,
                    ethernet(tcp_packet(flags, seq, b"", *way, ack=ack), **macs),
                )
            )
    return frames  # fmt: skip


def _found(
    tmp_path: Path, frames: list[Frame], plant: Plant | None = None
) -> list[tuple[str, str, str, list[str]]]:
    capture = read(tmp_path, sorted(frames))
    view = TrafficView(capture, make_samples(capture, plant), plant)
    hits = [hit for hit in apply_rules(view) if hit.label in ("spoofing", "misconfiguration")]
    facts = [[kind_of(fact) for fact in hit.facts] for hit in hits]
    return [
        (hit.label, hit.device, *kinds[:1], kinds[1:])
        for hit, kinds in zip(hits, facts, strict=True)
    ]


def test_an_address_by_which_two_machines_work_was_given_twice(tmp_path):
    frames = _claims(FIRST, 0.0) + _claims(SECOND, 5.0)
    frames += _calls(DRIVE, FIRST) + _calls(DRIVE, SECOND, port=42000)
    assert _found(tmp_path, frames) == [("misconfiguration", DRIVE, "double", ["impostor"])]


def test_the_machine_of_the_inventory_is_told_from_the_second_one(tmp_path):
    plant = parse_plant(
        f"devices:\n- name: drive-1\n  address: {DRIVE}\n  role: drive\n  mac: '02:00:00:00:00:61'\n",
        "plant.yaml",
    )
    frames = _claims(FIRST, 0.0) + _claims(SECOND, 5.0)
    frames += _calls(DRIVE, FIRST) + _calls(DRIVE, SECOND, port=42000)
    assert _found(tmp_path, frames, plant)[0][3] == ["impostor", "known_mac"]


@pytest.mark.parametrize(
    "second",
    [
        [],  # it claims the address and says nothing else
        _calls(STORE, STORES, SECOND, 42000, DRIVE),  # it is sent what is meant for the first
        _calls(DRIVE, SECOND, port=42000) + _calls(PANEL, SECOND, port=43000),  # it bears another address
        _calls(DRIVE, SECOND, port=42000) + _calls(STORE, STORES, SECOND, 43000, PANEL),  # and is sent others' too
    ],
    ids=["claims alone", "is sent it", "bears another", "stands between"],
)  # fmt: skip
def test_who_only_claims_an_address_or_stands_between_others_has_it_not_by_mistake(
    tmp_path, second
):
    frames = _claims(FIRST, 0.0) + _claims(SECOND, 5.0) + _calls(DRIVE, FIRST) + second
    assert [found[0] for found in _found(tmp_path, frames)] == ["spoofing"]


# ---- Names that lead to nobody ----


def _dns(ident: int, name: str, *records: tuple[int, bytes]) -> bytes:
    """A question, and with records, each of a type with its data, the answer to it."""
    asked = b"".join(bytes([len(one)]) + one.encode() for one in name.split(".")) + b"\0\0\1\0\1"
    head = struct.pack(">HHHHHH", ident, 0x8180 if records else 0x0100, 1, len(records), 0, 0)
    answers = [
        b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(data)) + data for kind, data in records
    ]
    return head + asked + b"".join(answers)


def _lookups(client: str, resolver: str, name: str, *records: tuple[int, bytes]) -> list[Frame]:
    frames = []
    for n in range(5):
        ask = udp_packet(_dns(n, name), client, resolver, 5000 + n, 53)
        answer = udp_packet(_dns(n, name, *records), resolver, client, 53, 5000 + n)
        frames += [(100.0 + 10 * n, ethernet(ask)), (100.01 + 10 * n, ethernet(answer))]
    return frames


@pytest.mark.parametrize("aliases", [0, 2])
def test_the_address_that_a_resolver_gives_is_read_behind_its_aliases(tmp_path, aliases):
    records = [(5, b"\5other\xc0\x10")] * aliases + [(1, bytes([172, 29, 8, 200]))]
    capture = read(tmp_path, sorted(_lookups(PANEL, DRIVE, "store.plant", *records)))
    rows = capture.exchanges
    assert rows["outcome"].unique().tolist() == ["answered"]
    assert rows["value"].unique().tolist() == [(172 << 24) + (29 << 16) + (8 << 8) + 200]


@pytest.mark.parametrize("records", [[(28, bytes(16))], [(1, bytes(3))]])
def test_an_answer_without_an_ipv4_address_gives_none(tmp_path, records):
    rows = read(tmp_path, sorted(_lookups(PANEL, DRIVE, "store.plant", *records))).exchanges
    assert rows["value"].unique().tolist() == [-1]


def test_a_resolver_that_answers_with_an_address_of_nobody_is_named_with_the_name(tmp_path):
    plant = parse_plant(
        f"devices:\n- {{name: panel, address: {PANEL}, role: HMI}}\n- {{name: dns, address: {DRIVE}, role: dns}}\n",
        "plant.yaml",
    )
    frames = _lookups(PANEL, DRIVE, "store.plant", (1, bytes([172, 29, 8, 200])))
    macs = bytes.fromhex("020000000020")
    frames += [(101.0 + 10 * n, arp_packet(1, macs, PANEL, "172.29.8.200")) for n in range(5)]
    frames.append((200.0, arp_packet(1, macs, PANEL, DRIVE)))  # so long was waited for an answer
    capture = read(tmp_path, sorted(frames))
    view = TrafficView(capture, make_samples(capture, plant), plant)
    (hit,) = [one for one in apply_rules(view) if kind_of(one.fact) in ("misleads", "strayed")]
    assert (hit.label, hit.device, hit.peers) == ("name_resolution", DRIVE, (PANEL, "172.29.8.200"))
    said = hit.fact.values
    assert (said["names"], said["given"], said["asked"]) == ("“store.plant”", 5, 5)
