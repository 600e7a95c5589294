"""Servers that turn clients away, and floods that no stream explains, over packets written by hand."""

from pathlib import Path

import pytest
from frames import SERVER, Frame, ethernet, mqtt_login, read, udp_packet

from assistant.detection.rules import apply_rules
from assistant.detection.rules.floods import join_floods
from assistant.facts.fact import kind_of
from assistant.facts.traffic_view import TrafficView
from traffic.samples import make_samples

CLIENTS = [f"192.168.1.{n}" for n in range(40, 46)]


def _view(tmp_path: Path, frames: list[Frame]) -> TrafficView:
    capture = read(tmp_path, sorted(frames))
    return TrafficView(capture, make_samples(capture))


def _logins(src: str, until_s: float, refused: tuple[float, float]) -> list[Frame]:
    """One every five seconds, refused between two times."""
    times = [5.0 * n + int(src[-2:]) / 10 for n in range(int(until_s // 5))]
    return [
        frame
        for ts in times
        for frame in mqtt_login(ts, src, 5 if refused[0] <= ts < refused[1] else 0)
    ]


@pytest.mark.parametrize(("clients", "blamed"), [(4, True), (3, True), (2, False)])
def test_a_server_that_turns_several_clients_away_at_once_has_changed(tmp_path, clients, blamed):
    frames = [one for src in CLIENTS[:clients] for one in _logins(src, 200, (100, 150))]
    frames += _logins(CLIENTS[5], 200, (0, 1000))  # never let in: that one has a wrong password
    hits = [hit for hit in apply_rules(_view(tmp_path, frames)) if hit.label != "brute_force"]
    found = {(kind_of(hit.fact), hit.label, hit.device) for hit in hits}
    alone = {("login_refused", "misconfiguration", src) for src in [*CLIENTS[:clients], CLIENTS[5]]}
    if not blamed:
        assert found == alone
        return
    own = ("login_refused", "misconfiguration", CLIENTS[5])
    assert found == {own, ("turned_away", "service_down", SERVER)}
    hit = next(hit for hit in hits if hit.device == SERVER)
    assert set(hit.peers) == set(CLIENTS[:clients])
    said = hit.fact.values
    assert (said["n"], said["refused"]) == (clients, 10 * clients)
    assert (said["since_time_s"], said["until_time_s"]) == pytest.approx((104.02, 149.02), abs=0.5)
    again = next(fact for fact in hit.facts if kind_of(fact) == "works_again")
    assert 150 <= again.values["again_time_s"] < 160


def test_clients_that_are_refused_one_after_the_other_are_stories_of_their_own(tmp_path):
    frames = [
        one
        for place, src in enumerate(CLIENTS[:4])
        for one in _logins(src, 400, (100.0 * place, 100.0 * place + 50))
    ]
    kinds = [kind_of(hit.fact) for hit in apply_rules(_view(tmp_path, frames))]
    assert "turned_away" not in kinds
    assert kinds.count("login_refused") == 4


@pytest.mark.parametrize(
    ("ports", "flood"), [(6000, True), (1, False)], ids=["a port each", "a stream"]
)
def test_packets_that_each_begin_anew_are_no_stream(tmp_path, ports, flood):
    """300 a second, which a camera sends too, though from one port."""
    frames = [
        (n / 300, ethernet(udp_packet(b"x" * 90, src=CLIENTS[0], dst=SERVER, sport=50000 + n % ports, dport=554)))
        for n in range(6000)
    ]  # fmt: skip
    hits = [hit for hit in apply_rules(_view(tmp_path, frames)) if kind_of(hit.fact) == "one_way"]
    assert [(hit.device, hit.label) for hit in hits] == [(CLIENTS[0], "dos")] * flood
    if flood:
        assert hits[0].fact.values["pkts"] == 6000


def test_what_several_send_to_one_is_told_once(tmp_path):
    """The third floods another port, and stays a sentence of its own."""
    frames = [
        (n / 300, ethernet(udp_packet(b"x" * 90, src=src, dst=SERVER, sport=50000 + n % 6000, dport=port)))
        for src, port in zip(CLIENTS[:3], (554, 554, 8000), strict=True)
        for n in range(6000)
    ]  # fmt: skip
    hits = [hit for hit in apply_rules(_view(tmp_path, frames)) if kind_of(hit.fact) == "one_way"]
    assert len(hits) == 3
    together, alone = join_floods([hit.fact for hit in hits])
    assert (together.values["sources"], together.values["pkts"]) == (2, 12000)
    assert str(together.values["names"]) == f"{CLIENTS[0]} and {CLIENTS[1]}"
    assert "nothing came back" in together.text
    assert alone == hits[2].fact
