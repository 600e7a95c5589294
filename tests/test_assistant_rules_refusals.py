"""Servers that turn clients away, and floods that no stream explains, over packets written by hand."""

import struct
from pathlib import Path

import pytest
from frames import CLIENT, SERVER, Frame, ethernet, mqtt_login, read, talk, tcp_packet, udp_packet

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


# ---- Logins that are guessed, and programs with an old one ----


def _tries(*logins: tuple[str, ...], code: int = 4, period_s: float = 16.0) -> list[Frame]:
    """One client's tries, with a pause between them as a program with an old password makes it."""
    tries = [mqtt_login(period_s * n, CLIENTS[0], code, *login) for n, login in enumerate(logins)]
    return [frame for one in tries for frame in one]


def _login_hit(tmp_path: Path, frames: list[Frame]) -> tuple[str, list[str]]:
    hits = apply_rules(_view(tmp_path, frames))
    (hit,) = [one for one in hits if kind_of(one.fact) == "login_refused"]
    return hit.label, [kind_of(fact) for fact in hit.facts]


@pytest.mark.parametrize(
    ("logins", "label", "kind"),
    [
        ([("line", f"p{n}") for n in range(18)], "brute_force", "logins_tried"),
        ([(f"user{n}", "1234") for n in range(18)], "brute_force", "logins_tried"),
        ([("line", "k3Wq")] * 18, "misconfiguration", "login_kept"),
        # A gateway with three devices behind it, each of which goes on with its own.
        ([(f"press{n % 3}", f"p{n % 3}") for n in range(18)], "misconfiguration", "logins_kept"),
        # A handful of passwords that somebody at a panel tried, and the old one before.
        ([("line", "old")] * 14 + [("line", f"p{n}") for n in range(4)], "misconfiguration", "logins_kept"),
    ],
)  # fmt: skip
def test_slow_guesses_bear_ever_other_logins(tmp_path, logins, label, kind):
    found, kinds = _login_hit(tmp_path, _tries(*logins))
    assert (found, kinds[1]) == (label, kind)


@pytest.mark.parametrize(
    ("codes", "found"),
    [
        ([5, 5, 5], [("login_refused", "misconfiguration")]),
        ([5, 5], []),
        ([5, 5, 0, 5], []),  # it was let in once
    ],
)
def test_three_logins_are_enough_of_who_is_never_let_in(tmp_path, codes, found):
    frames = [
        one
        for n, code in enumerate(codes)
        for one in mqtt_login(10.0 * n, CLIENTS[0], code, "line", "sesame")
    ]
    hits = apply_rules(_view(tmp_path, frames))
    assert [(kind_of(hit.fact), hit.label) for hit in hits] == found


def test_a_request_that_the_capture_cuts_off_brings_no_unit_back(tmp_path):
    """Unit 2 behind a gateway is refused three times with 0x0B, unit 1 answered; the last question is
    the capture's last packet but one."""
    turns = []
    for number, unit in enumerate([1, 2, 1, 2, 1, 2, 1, 2]):
        head = struct.pack(">HHHB", number, 0, 6, unit)
        turns.append((">", head + struct.pack(">BHH", 3, 10, 1)))
        answer = bytes([0x83, 0x0B]) if unit == 2 else bytes([3, 2, 0, 7])
        turns.append(("<", struct.pack(">HHHB", number, 0, 1 + len(answer), unit) + answer))
    (hit,) = apply_rules(_view(tmp_path, talk(502, *turns[:-1])))
    assert (kind_of(hit.fact), hit.label, hit.device) == ("unit_gone", "device_silent", SERVER)
    assert (hit.fact.values["refused"], hit.fact.values["unit"]) == (3, "2")


def test_logins_that_cannot_be_told_apart_leave_it_open(tmp_path):
    assert _login_hit(tmp_path, _tries(*[()] * 18)) == ("misconfiguration", ["login_refused"])


def test_a_guess_that_was_right_is_said(tmp_path):
    frames = _tries(*[("line", f"p{n}") for n in range(18)])
    frames += mqtt_login(300.0, CLIENTS[0], 0, "line", "sesame")
    label, kinds = _login_hit(tmp_path, frames)
    assert (label, kinds[1:3]) == ("brute_force", ["logins_tried", "let_in"])


@pytest.mark.parametrize("let_in", [False, True])
def test_guesses_over_telnet_are_counted_and_the_one_that_was_right_is_said(tmp_path, let_in):
    turns = [("<", b"\xff\xfd\x01")]
    for n in range(40):  # a list of 12 passwords, gone through three times and a bit
        turns += [("<", b"login: "), (">", b"root\r\n"), ("<", b"Password: ")]
        turns += [(">", b"p%d\r\n" % (n % 12)), ("<", b"Login incorrect\r\n")]
    if let_in:
        turns += [("<", b"login: "), (">", b"root\r\n"), ("<", b"Password: ")]
        turns += [(">", b"sesame\r\n"), ("<", b"\r\n# ")]
    hits = apply_rules(_view(tmp_path, talk(23, *turns)))
    (hit,) = [one for one in hits if kind_of(one.fact) == "login_refused"]
    assert (hit.label, hit.device) == ("brute_force", CLIENT)
    assert (hit.fact.values["refused"], hit.fact.values["asked"]) == (40, 40)
    said = {kind_of(fact): fact.values for fact in hit.facts}
    assert said["logins_tried"]["logins"] == 12
    assert ("let_in" in said) == let_in


def test_a_login_is_a_number_that_tells_whether_two_are_the_same(tmp_path):
    logins = [("line", "a"), ("line", "b"), ("line", "a"), ("lin", "ea"), ("line",)]
    frames = _tries(*logins, code=0) + mqtt_login(200.0, CLIENTS[0], 0, "line", "a", will=True)
    frames += mqtt_login(220.0, CLIENTS[0], 0)
    found = read(tmp_path, frames).exchanges["login"].tolist()
    assert found[0] == found[2] == found[5]  # a will before it is no part of it
    assert len(set(found)) == 5
    assert found[6] == -1
    assert all(0 <= one < 1 << 31 for one in found[:6])


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


def _opens(src: str, number: int, answers: str = "SA", used: bool = False) -> list[Frame]:
    """A connection that is answered so and that the client resets, after it said something or not."""
    ts, sport = number / 40, 10000 + number
    there = {"src": src, "dst": SERVER, "sport": sport, "dport": 554}
    back = {"src": SERVER, "dst": src, "sport": 554, "dport": sport}
    frames = [
        (ts, tcp_packet("S", 0, b"", **there)),
        (ts + 1e-3, tcp_packet(answers, 0, b"", **back)),
    ]
    if used:
        frames.append((ts + 2e-3, tcp_packet("PA", 1, b"PLAY", **there)))
    frames.append((ts + 3e-3, tcp_packet("R", 1 + 4 * used, b"", **there)))
    return [(at, ethernet(packet)) for at, packet in frames]


@pytest.mark.parametrize(
    ("senders", "used", "flood"), [(3, False, True), (1, False, False), (3, True, False)]
)
def test_connections_that_are_accepted_and_not_used_are_a_flood(tmp_path, senders, used, flood):
    """400 in a sample each: three are a flood together, one is none, and who works is none."""
    frames = [
        frame
        for src in CLIENTS[:senders]
        for n in range(800)
        for frame in _opens(src, n, used=used)
    ]
    hits = [hit for hit in apply_rules(_view(tmp_path, frames)) if kind_of(hit.fact) == "one_way"]
    assert [hit.device for hit in hits] == sorted(CLIENTS[:senders]) * flood
    if flood:
        (together,) = join_floods([hit.fact for hit in hits])
        assert (together.values["sources"], together.values["n"]) == (3, 2400)
        assert "used none of them" in together.text
