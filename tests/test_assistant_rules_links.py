"""Links that are off and on, machines that are off for seconds, floods of pings and ways out that are
lost, over packets written by hand; beside each, what looks like it and is none."""

import struct
from pathlib import Path

import pytest
from frames import Frame, arp_packet, ethernet, icmp_packet, read, tcp_packet, udp_packet

from assistant.detection.rules import apply_rules
from assistant.facts.fact import Fact, kind_of
from assistant.facts.traffic_view import TrafficView
from traffic.capture import Capture
from traffic.samples import make_samples

PANEL, DRIVE, STORE = "172.29.8.20", "172.29.8.61", "172.29.8.90"
PANEL_MAC, DRIVE_MAC = bytes.fromhex("02bb00000020"), bytes.fromhex("02bb00000061")
CLOUD = "198.18.77.5"


def _view(tmp_path: Path, frames: list[Frame]) -> TrafficView:
    capture = read(tmp_path, sorted(frames))
    return TrafficView(capture, make_samples(capture))


def _facts(tmp_path: Path, frames: list[Frame], *kinds: str) -> list[tuple[str, str, Fact]]:
    """Label, device and leading fact of the hits of these kinds."""
    hits = apply_rules(_view(tmp_path, frames))
    return [(one.label, one.device, one.fact) for one in hits if kind_of(one.fact) in kinds]


# ---- Links that are off and on, and links that lose packets ----


def _sent(ts: float, src: str, dst: str, seq: int, size: int, ports: tuple[int, int]) -> Frame:
    return ts, ethernet(tcp_packet("PA", seq, b"x" * size, src, dst, *ports))


def _poll(number: int, ts: float, tries_s: tuple[float, ...]) -> list[Frame]:
    """A question of twelve bytes, sent at once and again after so many seconds, and its answer."""
    ask = [
        _sent(ts + at, PANEL, DRIVE, 1 + 12 * number, 12, (41000, 502)) for at in (0.0, *tries_s)
    ]
    last = ts + max(tries_s, default=0.0) + 0.01
    return [*ask, _sent(last, DRIVE, PANEL, 1 + 9 * number, 9, (502, 41000))]


# A timer that runs out doubles each time (RFC 6298, 5.5).
_BACKED_OFF = (0.2, 0.6, 1.4, 3.0)
_LONGER = (*_BACKED_OFF, 6.2)


def _polls(seconds: int, gone: dict[int, tuple[float, ...]]) -> list[Frame]:
    """A question each five seconds; those of ``gone`` are sent again."""
    times = range(0, seconds, 5)
    return [one for n, ts in enumerate(times) for one in _poll(n, float(ts), gone.get(ts, ()))]


def test_a_device_that_nothing_reaches_again_and_again_has_a_loose_link(tmp_path):
    frames = _polls(300, dict.fromkeys((60, 75, 90, 110), _BACKED_OFF))
    ((label, device, fact),) = _facts(tmp_path, frames, "off_and_on", "sent_again")
    assert (label, device) == ("flapping", DRIVE)  # who sends goes on: its frames are seen
    assert (fact.values["stalls"], fact.values["resent"]) == (4, 16)
    # From the first packet that was sent again to the last.
    assert (fact.values["since_time_s"], fact.values["until_time_s"]) == (60.2, 113.0)


@pytest.mark.parametrize(
    ("gone", "found"),
    [
        ({65: _LONGER, 85: _LONGER}, True),
        ({65: _LONGER, 285: _LONGER}, False),  # minutes apart
        ({65: _LONGER}, False),
    ],
    ids=["two", "apart", "once"],
)
def test_two_silences_beside_which_nothing_is_lost_are_a_loose_link_too(tmp_path, gone, found):
    times = [ts for ts in range(0, 350, 5) if gone.get(ts - 5) != _LONGER]
    frames = [one for n, ts in enumerate(times) for one in _poll(n, float(ts), gone.get(ts, ()))]
    told = _facts(tmp_path, frames, "off_and_on")
    assert [(label, device) for label, device, _ in told] == [("flapping", DRIVE)] * found
    for _, _, fact in told:
        assert (fact.values["stalls"], fact.values["resent"]) == (2, 10)


@pytest.mark.parametrize(
    "gone",
    [
        dict.fromkeys(range(60, 160, 5), (0.2,)),  # each lost once: a lossy line
        {ts: _BACKED_OFF if ts in (60, 90, 120) else (0.2, 0.6) for ts in range(60, 160, 5)},
        {60: _BACKED_OFF, 65: _BACKED_OFF},  # twice is no habit
    ],
)
def test_a_lossy_line_is_not_off_and_on(tmp_path, gone):
    assert _facts(tmp_path, _polls(300, gone), "off_and_on", "comes_and_goes") == []


@pytest.mark.parametrize(("asked_s", "found"), [((63.005, 93.005), True), ((63.005,), False)])
def test_who_forgets_its_neighbours_meanwhile_has_a_loose_link(tmp_path, asked_s, found):
    """Most of what is sent again is sent once the link is back."""
    gone = {ts: _BACKED_OFF if ts in (60, 90, 120) else (0.2,) for ts in range(60, 160, 5)}
    ask, answer = arp_packet(1, DRIVE_MAC, DRIVE, PANEL), arp_packet(2, PANEL_MAC, PANEL, DRIVE)
    frames = [*_polls(300, gone), *((ts, ask) for ts in asked_s)]
    frames += [(ts + 0.001, answer) for ts in asked_s]
    told = _facts(tmp_path, frames, "off_and_on", "sent_again")
    assert [label for label, _, _ in told] == ["flapping" if found else "packet_loss"]
    assert not found or told[0][1] == DRIVE


def test_a_device_that_loses_packets_with_several_has_the_lossy_link(tmp_path):
    """The drive loses packets with the panel and with the store, which lose none with each other."""
    lossy = dict.fromkeys(range(60, 160, 5), (0.2,))
    frames = _polls(300, lossy)
    for n, ts in enumerate(range(0, 300, 5)):
        tries = (0.0, 0.2) if ts in lossy else (0.0,)
        frames += [_sent(ts + 1 + at, DRIVE, STORE, 1 + 8 * n, 8, (43000, 8086)) for at in tries]
        frames.append(_sent(ts + 1.3, STORE, DRIVE, 1 + 4 * n, 4, (8086, 43000)))
        frames.append(_sent(ts + 2.0, PANEL, STORE, 1 + 8 * n, 8, (44000, 8086)))
    ((label, device, fact),) = _facts(tmp_path, frames, "sent_again")
    assert (label, device) == ("packet_loss", DRIVE)
    assert fact.values["resent"] == 40
    assert "each of" in fact.text


@pytest.mark.parametrize(("lost", "found"), [(25, ["packet_loss"]), (15, [])])
def test_little_is_lost_of_a_fast_stream(tmp_path, lost, found):
    """Of 3,660 packets within a minute; fifteen are too few to be sure of."""
    ports = (43000, 8554)
    frames = [_sent(n / 60, PANEL, DRIVE, 1 + 100 * n, 100, ports) for n in range(3600)]
    frames += [_sent(n + 0.005, DRIVE, PANEL, 1 + 4 * n, 4, ports[::-1]) for n in range(60)]
    again = [3600 // lost * n for n in range(lost)]
    frames += [_sent(n / 60 + 0.31, PANEL, DRIVE, 1 + 100 * n, 100, ports) for n in again]
    told = _facts(tmp_path, frames, "sent_again")
    assert [label for label, *_ in told] == found
    assert [fact.values["resent"] for _, _, fact in told] == [lost] * len(found)


def test_who_is_off_from_first_to_last_is_not_off_and_on(tmp_path):
    """Three segments of one outage, each sent again and again, and not a word meanwhile."""
    frames = [one for n in range(12) for one in _poll(n, 5.0 * n, ())]
    for n, ts in ((0, 60.0), (1, 71.0), (2, 82.0)):
        frames += [
            _sent(ts + at, PANEL, DRIVE, 1 + 12 * n, 12, (42000 + n, 502)) for at in (0.0, *_BACKED_OFF)
        ]  # fmt: skip
    frames += [one for n in range(12, 30) for one in _poll(n, 50.0 + 5.0 * n, ())]
    assert _facts(tmp_path, frames, "off_and_on") == []


# ---- A machine that is off for seconds ----


def _words(src: str, seconds: int, gone: tuple[float, float] = (0, 0)) -> list[Frame]:
    packet = udp_packet(b"31.5", src, STORE, 4000, 4000)
    times = (at / 2 for at in range(2 * seconds))
    return [(ts, ethernet(packet)) for ts in times if not gone[0] <= ts < gone[1]]


def _sought(dst: str, *times: float) -> list[Frame]:
    return [(ts, arp_packet(1, PANEL_MAC, PANEL, dst)) for ts in times]


@pytest.mark.parametrize(
    ("gone", "sought", "found"),
    [
        ((206.0, 223.0), (216.0, 217.0, 218.0), [("device_silent", DRIVE)]),
        ((206.0, 223.0), (), []),  # nobody missed it: its program may have paused
        ((206.0, 209.0), (206.5, 207.5, 208.5), []),  # it spoke in every sample
    ],
)
def test_a_machine_that_is_off_for_some_seconds(tmp_path, gone, sought, found):
    frames = [*_words(DRIVE, 400, gone), *_words(PANEL, 400), *_sought(DRIVE, *sought)]
    told = _facts(tmp_path, frames, "silent", "silent_together")
    assert [(label, device) for label, device, _ in told] == found
    for _, _, fact in told:
        assert (fact.values["quiet_s"], fact.values["asked"]) == (17.5, 3)  # from 205.5 to 223.0


# ---- Floods of pings ----


def _pings(src: str, dst: str, start_s: float, seconds: int, per_s: int) -> list[Frame]:
    """Pings that are all answered."""
    ask, reply = icmp_packet(8, 0, bytes(8), src, dst), icmp_packet(0, 0, bytes(8), dst, src)
    times = [start_s + at / per_s for at in range(seconds * per_s)]
    frames = [(ts, ethernet(ask)) for ts in times]
    return [*frames, *((ts + 0.001, ethernet(reply)) for ts in times)]


@pytest.mark.parametrize(("per_s", "found"), [(65, [("dos", PANEL)]), (2, [])])
def test_pings_by_the_hundred_are_a_flood_and_a_watch_is_none(tmp_path, per_s, found):
    frames = [*_words(DRIVE, 100), *_pings(PANEL, DRIVE, 40.0, 30, per_s)]
    told = _facts(tmp_path, frames, "pings")
    assert [(label, device) for label, device, _ in told] == found
    for _, _, fact in told:
        assert (fact.values["pkts"], fact.values["peak_pkts"]) == (30 * per_s, 10 * per_s)


def test_a_flood_from_outside_is_told_of_whom_it_hits(tmp_path):
    frames = [*_words(DRIVE, 100), *_pings(CLOUD, DRIVE, 40.0, 30, 50)]
    (hit,) = [one for one in apply_rules(_view(tmp_path, frames)) if kind_of(one.fact) == "pings"]
    assert (hit.device, hit.role, hit.peers) == (DRIVE, "target", (CLOUD,))


# ---- Links that go down: who asks the network anew for whom it talks to ----


def _words_to_store(*silent: int) -> list[Frame]:
    """A word each two seconds for four minutes; from each second of ``silent`` on, none for five."""
    off = {at + one for at in silent for one in range(5)}
    times = [ts for ts in range(0, 240, 2) if ts not in off]
    return [
        frame
        for n, ts in enumerate(times)
        for frame in (
            _sent(float(ts), DRIVE, STORE, 1 + 4 * n, 4, (45000, 1883)),
            _sent(ts + 0.01, STORE, DRIVE, 1 + 4 * n, 4, (1883, 45000)),
        )
    ]


def _asks(*times: float, to_all: bool = True, answered: bool = True) -> list[Frame]:
    ask, answer = arp_packet(1, DRIVE_MAC, DRIVE, STORE), arp_packet(2, PANEL_MAC, STORE, DRIVE)
    if not to_all:
        ask = PANEL_MAC + ask[6:]
    return [(ts, ask) for ts in times] + [(ts + 0.001, answer) for ts in times if answered]


def test_who_asks_all_for_its_partner_after_each_silence_has_a_link_that_goes_down(tmp_path):
    frames = _words_to_store(120, 140, 160) + _asks(125.9, 145.9, 165.9)
    ((label, device, fact),) = _facts(tmp_path, frames, "asked_anew")
    assert (label, device) == ("flapping", DRIVE)
    # In the samples from 120, 140 and 160 s; the sensor's clock begins at 0.
    assert (fact.values["times"], fact.values["silent_s"]) == (3, 2.0)
    assert (fact.values["since_time_s"], fact.values["until_time_s"]) == (120.0, 170.0)
    assert fact.values["peers"] == STORE


@pytest.mark.parametrize(
    "frames",
    [
        _words_to_store(120, 140) + _asks(125.9, 145.9),  # twice is no habit
        _words_to_store() + _asks(125.9, 145.9, 165.9),  # a tool's own question, and no silence
        _words_to_store(120, 140, 160) + _asks(125.9, 145.9, 165.9, to_all=False),  # only doubt
        # Who is in doubt asks the station first, and all where it does not answer.
        _words_to_store(120, 140, 160)
        + _asks(124.9, 144.9, 164.9, to_all=False, answered=False)
        + _asks(125.9, 145.9, 165.9),
        _words_to_store(120, 140, 160) + _asks(125.9, 145.9, 165.9, answered=False),
        # From the start on: how often it asks at other times is not known yet.
        [one for one in _words_to_store(120, 140, 160) if one[0] >= 100]
        + _asks(125.9, 145.9, 165.9),
        # All the time the same: its table forgets by the clock.
        _words_to_store(*range(20, 230, 20)) + _asks(*(at + 5.9 for at in range(20, 230, 20))),
        # Two machines claim the address that it asks for.
        _words_to_store(120, 140, 160)
        + _asks(125.9, 145.9, 165.9)
        + [
            (130.0 + n, arp_packet(2, bytes([2, 0, 0, 0, 0, n % 2]), STORE, PANEL))
            for n in range(9)
        ],
    ],
)
def test_other_questions_to_all_are_no_loose_link(tmp_path, frames):
    assert not _facts(tmp_path, frames, "asked_anew")


# ---- A way out that is lost ----


def _calls(src: str, first: int, seconds: int, gone: tuple[float, float]) -> list[Frame]:
    """A call outside each ten seconds, answered but for a time, in which the SYN is sent again."""
    frames = []
    for n, ts in enumerate(range(0, seconds, 10)):
        ends = {"src": src, "dst": CLOUD, "sport": first + n, "dport": 8443}
        back = {"src": CLOUD, "dst": src, "sport": 8443, "dport": first + n}
        if gone[0] <= ts < gone[1]:
            syn = ethernet(tcp_packet("S", 0, b"", **ends))
            frames += [(ts + at, syn) for at in (0.0, 1.0, 3.0, 7.0)]
            continue
        turns = [
            ("S", 0, b"", ends), ("SA", 0, b"", back), ("PA", 1, b"hi", ends), ("PA", 1, b"yes", back),
            ("FA", 3, b"", ends), ("FA", 4, b"", back), ("A", 4, b"", ends),
        ]  # fmt: skip
        frames += [
            (ts + at / 100, ethernet(tcp_packet(flags, seq, data, **sides)))
            for at, (flags, seq, data, sides) in enumerate(turns)
        ]
    return frames


def _inside(src: str, seconds: int) -> list[Frame]:
    frames = []
    for n, ts in enumerate(range(0, seconds, 5)):
        frames.append(_sent(ts + 0.5, src, STORE, 1 + 4 * n, 4, (45000, 102)))
        frames.append(_sent(ts + 0.6, STORE, src, 1 + 4 * n, 4, (102, 45000)))
    return frames


@pytest.mark.parametrize(
    ("others", "found"), [((0, 0), [("misconfiguration", PANEL)]), ((100, 160), [])]
)
def test_who_alone_reaches_no_more_what_others_reach(tmp_path, others, found):
    """Where nobody is answered the far end is gone, and the device has nothing set wrong."""
    frames = _calls(PANEL, 41000, 300, (100, 160)) + _calls(DRIVE, 42000, 300, others)
    frames += _inside(PANEL, 300)
    told = _facts(tmp_path, frames, "way_lost")
    assert [(label, device) for label, device, _ in told] == found
    for _, _, fact in told:
        assert (fact.values["pkts"], fact.values["hosts"], fact.values["n"]) == (24, 1, 1)


# ---- Calls of a program to somebody outside ----


def _beacons(
    times: list[float], said: list[bytes], reply: bytes = b"\x02" * 40, port: int = 4477
) -> list[Frame]:
    frames = []
    for n, (ts, data) in enumerate(zip(times, said, strict=True)):
        ends = {"src": PANEL, "dst": CLOUD, "sport": 51000 + n, "dport": port}
        back = {"src": CLOUD, "dst": PANEL, "sport": port, "dport": 51000 + n}
        turns = [
            ("S", 0, b"", ends), ("SA", 0, b"", back), ("PA", 1, data, ends),
            ("PA", 1, reply, back), ("FA", 1 + len(data), b"", ends), ("FA", 1 + len(reply), b"", back),
        ]  # fmt: skip
        frames += [
            (ts + at / 100, ethernet(tcp_packet(flags, seq, data, **sides)))
            for at, (flags, seq, data, sides) in enumerate(turns)
        ]
    return frames


# Pauses of 20 s, a quarter more or less.
_JITTERED = [600.0, 615.0, 640.0, 658.0, 683.0, 699.0, 724.0, 739.0]


@pytest.mark.parametrize(
    ("early_s", "sizes", "found"),
    [
        (0.0, [90] * 8, [("c2", PANEL)]),
        (0.0, [90, 300, 40, 700, 120, 20, 510, 64], []),  # somebody works there
        (590.0, [90] * 8, []),  # it may have done so all the time: eight are too few to say
    ],
)
def test_a_program_that_begins_late_to_call_an_unnamed_address(tmp_path, early_s, sizes, found):
    seen = [one for one in _words(PANEL, 800) if one[0] >= early_s]
    told = _facts(
        tmp_path,
        [*seen, *_beacons(_JITTERED, [bytes([1]) * size for size in sizes])],
        "rhythm_kept",
    )
    assert [(label, device) for label, device, _ in told] == found


def test_what_a_known_protocol_says_there_is_no_beacon(tmp_path):
    ask = struct.pack(">HHHBBHH", 7, 0, 6, 1, 3, 10, 2)
    reply = struct.pack(">HHHBBBHH", 7, 0, 7, 1, 3, 4, 20, 21)
    frames = _beacons(_JITTERED, [ask] * 8, reply, 1502)
    assert _facts(tmp_path, [*_words(PANEL, 800), *frames], "rhythm_kept") == []


@pytest.mark.parametrize(("first_s", "found"), [(700.0, ["exfiltration"]), (100.0, [])])
def test_a_megabyte_to_whom_ten_minutes_did_not_show(tmp_path, first_s, found):
    """Less than two megabytes are only odd where the address is new."""
    frames = [(first_s, ethernet(tcp_packet("S", 0, b"", PANEL, CLOUD, 52000, 9009)))]
    frames.append((first_s + 0.1, ethernet(tcp_packet("SA", 0, b"", CLOUD, PANEL, 9009, 52000))))
    frames += [
        _sent(first_s + 0.2 + n / 50, PANEL, CLOUD, 1 + 1400 * n, 1400, (52000, 9009)) for n in range(900)
    ]  # fmt: skip
    told = _facts(tmp_path, [*_words(PANEL, 800), *frames], "upload")
    assert [label for label, *_ in told] == found


@pytest.mark.parametrize(
    ("first_s", "port", "packets", "found"),
    [
        (585.0, 9009, 1500, ["exfiltration"]),  # two megabytes, half of them after ten minutes
        (700.0, 80, 430, ["exfiltration"]),  # 0.6 MB that are no HTTP
        (700.0, 9009, 430, []),
        (700.0, 80, 200, []),
    ],
)
def test_how_much_is_an_upload_whenever_it_begins(tmp_path, first_s, port, packets, found):
    ends = (52000, port)
    frames = [(first_s, ethernet(tcp_packet("S", 0, b"", PANEL, CLOUD, *ends)))]
    frames.append((first_s + 0.1, ethernet(tcp_packet("SA", 0, b"", CLOUD, PANEL, *ends[::-1]))))
    frames += [
        _sent(first_s + 0.2 + n / 50, PANEL, CLOUD, 1 + 1400 * n, 1400, ends)
        for n in range(packets)
    ]
    told = _facts(tmp_path, [*_words(PANEL, 800), *frames], "upload")
    assert [label for label, *_ in told] == found


@pytest.mark.parametrize(
    ("port", "said", "found"),
    [(443, b"", ["exfiltration"]), (443, b"\x16\x03\x03" + b"\0" * 90, [])],
    ids=["no hello", "a server that speaks"],
)
def test_what_is_sent_to_a_port_of_tls_where_nobody_speaks(tmp_path, port, said, found):
    """A megabyte to an address that is new, of who looked up some name before."""
    ends = (52000, port)
    frames = [(700.0, ethernet(tcp_packet("S", 0, b"", PANEL, CLOUD, *ends)))]
    frames.append((700.1, ethernet(tcp_packet("SA", 0, b"", CLOUD, PANEL, *ends[::-1]))))
    if said:
        frames.append((700.15, ethernet(tcp_packet("PA", 1, said, CLOUD, PANEL, *ends[::-1]))))
    frames += [_sent(700.2 + n / 50, PANEL, CLOUD, 1 + 1400 * n, 1400, ends) for n in range(900)]
    told = _facts(tmp_path, [*_words(PANEL, 800), *_looked_up(b"clock", 650.0), *frames], "upload")
    assert [label for label, *_ in told] == found


def _looked_up(name: bytes, *times: float) -> list[Frame]:
    """Questions of the panel for a name, each answered at once."""
    label = bytes([len(name)]) + name + b"\x05plant\x00" + struct.pack(">HH", 1, 1)
    frames = []
    for n, ts in enumerate(times):
        ports = 33000 + n, 53
        ask = struct.pack(">HHHHHH", n, 0x0100, 1, 0, 0, 0) + label
        answer = struct.pack(">HHHHHH", n, 0x8180, 1, 0, 0, 0) + label
        frames.append((ts, ethernet(udp_packet(ask, PANEL, STORE, *ports))))
        frames.append((ts + 0.01, ethernet(udp_packet(answer, STORE, PANEL, *ports[::-1]))))
    return frames


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (_looked_up(b"clock", *range(20, 800, 30)), [("c2", PANEL)]),
        (_looked_up(b"clock", *range(20, 800, 30)) + _looked_up(b"maker", 580.0), []),
    ],
    ids=["the same all the time", "another"],
)
def test_a_name_that_is_asked_for_all_the_time_leads_nowhere_new(tmp_path, names, found):
    frames = [*_words(PANEL, 800), *names, *_beacons(_JITTERED, [b"\1" * 90] * 8)]
    told = _facts(tmp_path, frames, "rhythm_kept")
    assert [(label, device) for label, device, _ in told] == found


@pytest.mark.parametrize(("first_s", "found"), [(150.0, [("c2", PANEL)]), (110.0, [])])
def test_a_rhythm_of_seconds_shows_sooner_that_it_was_not_there(tmp_path, first_s, found):
    """Twelve calls, 4 s apart a quarter more or less: two minutes without any are enough."""
    times = [first_s + 4.0 * n + (n % 3 - 1) for n in range(12)]
    frames = [*_words(PANEL, 800), *_beacons(times, [b"\1" * 90] * 12)]
    told = _facts(tmp_path, frames, "rhythm_kept")
    assert [(label, device) for label, device, _ in told] == found


# ---- A server that refuses several clients now and then ----


def _registers(number: int, client: str, ts: float, refused: bool) -> list[Frame]:
    head = struct.pack(">HHHB", number, 0, 6, 1)
    answer = bytes([0x83, 1]) if refused else bytes([3, 2, 0, 7])
    reply = struct.pack(">HHHB", number, 0, 1 + len(answer), 1) + answer
    ask = tcp_packet(
        "PA", 1 + 12 * number, head + struct.pack(">BHH", 3, 5, 1), client, DRIVE, 46000, 502
    )
    back = tcp_packet("PA", 1 + 20 * number, reply + b"", DRIVE, client, 502, 46000)
    return [(ts, ethernet(ask)), (ts + 0.02, ethernet(back))]


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        ({PANEL: (60, 66, 72), STORE: (63, 75)}, [("service_down", DRIVE)]),
        ({PANEL: (60, 66, 72), STORE: ()}, []),
        (
            {PANEL: (0, 3, 6), STORE: (0, 3)},
            [],
        ),  # never answered before: it does not know the address
    ],
)
def test_what_a_server_answered_several_and_refuses_now_and_then(tmp_path, bad, found):
    frames = [
        one
        for client, wrong in bad.items()
        for n, ts in enumerate(range(0, 150, 3))
        for one in _registers(n, client, ts + (0.5 if client == STORE else 0.0), ts in wrong)
    ]
    told = _facts(tmp_path, frames, "refused_in_part")
    assert [(label, device) for label, device, _ in told] == found
    for _, _, fact in told:
        assert (fact.values["refused"], fact.values["n"]) == (5, 2)


def test_stalls_are_counted_where_they_begin(tmp_path):
    """One segment that is sent again over three samples is one stall."""
    frames = [
        _sent(5.0 + at, PANEL, DRIVE, 1, 12, (41000, 502)) for at in (0.0, 2.0, 6.0, 14.0, 22.0)
    ]
    found: Capture = read(tmp_path, [*frames, _sent(40.0, DRIVE, PANEL, 1, 9, (502, 41000))])
    stalls = found.evidence[found.evidence["kind"] == "stall"]
    assert stalls[["slot", "count", "distinct"]].values.tolist() == [
        [0, 1, 1],
        [1, 2, 0],
        [2, 1, 0],
    ]
