"""Runs, causes and incidents from verdicts written by hand; a letter is a window, a window starts
every ten seconds."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tables
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.detection.incidents import Incident, is_named, make_incidents
from assistant.detection.runs import find_runs
from assistant.diagnosis.standing import judge
from assistant.facts.fact import kind_of, make_fact
from assistant.facts.traffic_view import TrafficView
from traffic.capture import Capture
from traffic.labels import LABELS
from traffic.plant import Device, Plant
from traffic.reader import read_capture
from traffic.samples import make_samples
from traffic.windows import Windows, make_windows

START_S = 1_000_000_000.0
LETTERS = {
    ".": "normal", "?": "normal", "c": "c2", "d": "ddos", "o": "dos", "r": "recon", "s": "device_silent",
    "v": "service_down", "g": "congestion", "a": "spoofing", "l": "packet_loss", "b": "brute_force",
    "m": "misconfiguration", "f": "flapping", "u": "c2", "e": "exfiltration",
    "w": "unauthorized_command",
}  # fmt: skip
Said = dict[str, tuple[str, str]]


def verdict_table(said: Said, probability: float = 0.9) -> pd.DataFrame:
    """Verdicts of each device from its letters and its direction; "?" and "u" (odd, cause unclear)
    abstain."""
    parts = []
    for device, (letters, direction) in sorted(said.items()):
        starts = START_S + 10.0 * np.arange(len(letters))
        part = pd.DataFrame({"device": device, "start_s": starts, "end_s": starts + 60.0})
        part["label"] = [LETTERS[letter] for letter in letters]
        part["abstained"] = [letter in "?u" for letter in letters]
        part["direction"] = direction
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    table["probability"] = probability
    rest = (1.0 - probability) / (len(LABELS) - 1)
    for label in LABELS:
        table[f"p_{label}"] = np.where(table["label"] == label, probability, rest)
    return table


def empty_windows(verdicts: pd.DataFrame, pkts: float = 0.0) -> Windows:
    """Windows whose samples all hold the same number of packets."""
    samples = pd.DataFrame(
        {"device": ["x"], "start_s": [START_S], "out_pkts": [pkts], "in_pkts": [0.0]}
    )
    table = verdicts[["device", "start_s", "end_s"]]
    return Windows(samples, table, np.zeros((len(table), 6), np.int64))


def runs_of(letters: str, **limits: int) -> list[tuple[str, list[int]]]:
    verdicts = verdict_table({"x": (letters, "source")})
    return [
        (run.label, run.rows.tolist())
        for run in find_runs(verdicts, empty_windows(verdicts), **limits)
    ]


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        (".c..c....", []),  # never three of five
        ("c..c.c", []),  # three of six
        ("c.c.c", [("c2", [0, 2, 4])]),
        ("cc?c....", [("c2", [0, 1, 3])]),  # an abstained window is no window
        ("c?c?c", [("c2", [0, 2, 4])]),
        ("?????", []),
        ("ccc.....ccc", [("c2", [0, 1, 2, 8, 9, 10])]),  # five normal ones do not end it
        ("ccc......ccc", [("c2", [0, 1, 2]), ("c2", [9, 10, 11])]),  # six do
        ("ccc...??...ccc", [("c2", [0, 1, 2]), ("c2", [11, 12, 13])]),
        ("ccc????????ccc", [("c2", [0, 1, 2, 11, 12, 13])]),  # abstention keeps it open
        ("ccc......c....", [("c2", [0, 1, 2])]),  # what follows the end must be raised anew
        ("dodod", [("ddos", [0, 2, 4])]),
        # Only together enough; equal mass, so the earlier of the taxonomy.
        ("odrdo", [("dos", [0, 1, 2, 3, 4])]),
        ("u" * 35, []),
        ("u" * 36, [("c2", [*range(36)])]),  # minutes of what is odd without a name
        ("ccucuu", [("c2", [0, 1, 3])]),  # what has a name is not said twice
        ("cccddd", [("ddos", [3, 4, 5]), ("c2", [0, 1, 2])]),
    ],
)
def test_k_of_n_with_hysteresis(letters, expected):
    assert runs_of(letters) == expected


def test_limits_are_arguments():
    assert runs_of("c.c...", k=2, n=3) == [("c2", [0, 2])]
    assert runs_of("cc..cc", k=2, n=3, off=2) == [("c2", [0, 1]), ("c2", [4, 5])]


@pytest.mark.parametrize(
    ("letter", "probability", "pkts", "raised"),
    [("d", 0.995, 400, True), ("d", 0.98, 400, False), ("d", 0.995, 100, False), ("c", 0.995, 400, False)],
)  # fmt: skip
def test_one_sure_window_of_a_large_flood_is_enough(letter, probability, pkts, raised):
    verdicts = verdict_table({"x": (f"...{letter}...", "source")}, probability)
    assert bool(find_runs(verdicts, empty_windows(verdicts, pkts))) == raised


def test_a_long_time_without_windows_ends_a_run():
    verdicts = verdict_table({"x": ("cccc", "source")})
    verdicts.loc[2:, ["start_s", "end_s"]] += 3600.0
    assert find_runs(verdicts, empty_windows(verdicts)) == []


def test_the_role_follows_the_probability_mass():
    verdicts = verdict_table({"x": ("cccccc", "source")})
    windows = empty_windows(verdicts)
    assert find_runs(verdicts, windows)[0].role == "source"
    verdicts["direction"] = ["source"] * 4 + ["target"] * 2
    assert find_runs(verdicts, windows)[0].role == "both"
    verdicts["direction"] = ["source"] + ["target"] * 5
    assert find_runs(verdicts, windows)[0].role == "target"


def slow_runs(letters: str, k: int, n: int, off: int) -> list[list[int]]:
    """The same rule, window by window."""
    decided = [i for i, letter in enumerate(letters) if letter != "?"]
    runs, hits, calm, raised = [], [], 0, False
    for place, i in enumerate(decided):
        if letters[i] == ".":
            calm += 1
            if calm >= off:
                runs += [hits] if raised else []
                hits, raised = [], False
            continue
        hits, calm = [*hits, i], 0
        raised |= len(set(hits) & set(decided[max(place - n + 1, 0) : place + 1])) >= k
    return runs + ([hits] if raised else [])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from("..c?"), max_size=40).map("".join),
    st.lists(st.sampled_from(".c?"), max_size=20),
)
def test_all_devices_at_once_is_each_device_window_by_window(letters, other):
    verdicts = verdict_table({"a": ("".join(other), "source"), "x": (letters, "source")})
    found = find_runs(verdicts, empty_windows(verdicts))
    assert [(run.rows - len(other)).tolist() for run in found if run.device == "x"] == slow_runs(
        letters, 3, 5, 6
    )


def flow(
    second: float, src: str, dst: str, port: int, state: str = "SF", **more: object
) -> dict[str, object]:
    """One TCP flow; by default five packets each way in half a second."""
    known = {"duration": 0.5, "resp_pkts": 5.0, "resp_ip_bytes": 300.0, "resp_bytes": 100.0}
    if state in ("S0", "REJ"):
        known |= {"duration": 0.0, "orig_pkts": 1.0, "resp_ip_bytes": 0.0, "history": "S"}
        known["resp_pkts"] = float(state == "REJ")
    known |= {"id.orig_p": 40000 + int(second * 10) % 20000, "conn_state": state}
    return tables.flow(START_S + second, src, dst, port, **(known | more))


def capture_of(flows: list[dict[str, object]], evidence: list[tuple[object, ...]] = ()) -> Capture:
    return tables.capture(*flows, evidence=list(evidence))


def incidents_of(
    said: Said, capture: Capture, plant: Plant | None = None, probability: float = 0.9
) -> list[Incident]:
    verdicts = verdict_table(said, probability)
    samples = make_samples(capture, plant)
    windows = Windows(
        samples, verdicts[["device", "start_s", "end_s"]], np.full((len(verdicts), 6), -1)
    )
    return make_incidents(verdicts, windows, TrafficView(capture, samples, plant))


SLOT = int(START_S // 10)
A, B, C, S = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.9"


def test_a_dead_server_and_its_clients_are_one_incident():
    failing = [flow(t, client, S, 502, "REJ") for client in (A, B, C) for t in range(0, 100, 5)]
    capture = capture_of([*failing, *(flow(t, S, "10.0.0.20", 123) for t in range(0, 100, 20))])
    vain = ("vvvvvvv", "target")
    found = incidents_of(
        {S: ("vvvvvvv", "source"), A: vain, B: vain, C: ("lllllll", "target")}, capture
    )
    assert [(one.device, one.label, one.role) for one in found] == [(S, "service_down", "source")]
    assert set(found[0].related) == {A, B, C}
    assert set(found[0].peers) == {A, B, C}


def test_clients_alone_point_at_the_server():
    failing = [flow(t, client, S, 502, "REJ") for client in (A, B) for t in range(0, 100, 5)]
    capture = capture_of([*failing, *(flow(t, S, "10.0.0.20", 123) for t in range(0, 100, 20))])
    found = incidents_of({A: ("vvvvvvv", "target"), B: ("vvvvvvv", "target")}, capture)
    assert [(one.device, one.role, one.related) for one in found] == [(S, "source", (A, B))]
    alone = incidents_of({A: ("vvvvvvv", "target")}, capture)
    assert [(one.device, one.role, one.peers) for one in alone] == [(S, "source", (A, B))]


def test_a_flood_and_its_local_target_are_one_incident():
    flood = [flow(20 + t / 50, A, B, 80, "S0") for t in range(500)]
    capture = capture_of([*flood, flow(0, A, C, 502), flow(90, B, C, 502)])
    found = incidents_of(
        {A: ("..ooooo", "source"), B: ("..ooooo", "target"), C: (".......", "")}, capture
    )
    assert [(one.device, one.label, one.role, one.related) for one in found] == [
        (A, "dos", "source", (B,))
    ]
    assert found[0].start_s == START_S + 20  # the first packet, not the window's edge
    assert found[0].end_s == pytest.approx(START_S + 29.98)
    assert found[0].severity == "medium"
    assert found[0].techniques == ("T0814",)


def test_a_scanner_and_what_it_scanned_are_one_incident():
    hosts = [f"10.0.0.{n}" for n in range(20, 40)]
    capture = capture_of([flow(10 + i, A, host, 23, "REJ") for i, host in enumerate(hosts)])
    scanned = dict.fromkeys(hosts[:3], ("rrr", "target"))
    found = incidents_of({A: ("rrrr", "source"), **scanned}, capture)
    assert [(one.device, one.severity) for one in found] == [(A, "high")]
    assert set(found[0].related) == set(hosts[:3])
    assert set(found[0].peers) == set(hosts)


OUTSIDE = "203.0.113.66"


def scan_of(
    source: str, *targets: str, every_s: float = 0.0, ports: int = 12
) -> list[dict[str, object]]:
    """SYNs to a row of ports of each target, one target after the other."""
    places = [
        (place, target, port) for place, target in enumerate(targets) for port in range(ports)
    ]
    return [
        flow(10 + place * every_s + 0.1 * port, source, target, 20 + port, "REJ", **{"id.orig_p": 30_000.0 + port})
        for place, target, port in places
    ]  # fmt: skip


@pytest.mark.parametrize("source", [OUTSIDE, "10.0.0.77"])
def test_an_intruder_that_shows_only_at_its_victims_leads_the_incident(source):
    polls = [flow(t, S, one, 502) for one in (A, B, C) for t in range(0, 120, 5)]
    capture = capture_of([*polls, *scan_of(source, A, B, C)])
    (one,) = incidents_of(dict.fromkeys((A, B, C), ("rrrr......", "target")), capture)
    assert (one.device, one.role, one.label, one.severity) == (source, "source", "recon", "high")
    assert one.related == (A, B, C)
    assert set(one.peers) == {A, B, C}
    tried = one.facts[0].values
    assert (tried["source"], tried["hosts"]) == (source, 3)
    assert (tried["ports"], tried["attempts"]) == (12, 36)
    assert one.windows == tuple(START_S + 10.0 * i for i in range(4))


def test_the_culprit_of_a_scan_is_who_asks_for_much_not_who_asks_often():
    """Another reads one register of the victim ten times a second, before, meanwhile and after."""
    polls = [flow(t, S, A, 502) for t in range(0, 300, 5)]
    asked = [(SLOT + i, S, A, "modbus_read", 3, 100, 1) for i in range(30)]
    swept = [(SLOT + i, B, A, "modbus_read", 3, 9, 9) for i in range(2, 6)]
    said = {A: ("rrrr" + "." * 20, "target")}
    (one,) = incidents_of(said, capture_of([*polls, *scan_of(B, A)], asked))
    assert (one.label, one.peers) == ("recon", (B,))
    (one,) = incidents_of(said, capture_of([*polls, flow(25, B, A, 502)], [*asked, *swept]))
    assert (one.label, one.peers) == ("recon", (B,))
    assert one.facts[0].values["client"] == B


def test_victims_one_after_the_other_are_one_incident_where_an_hour_lies_between_two():
    said = {A: ("rrrr" + "." * 30, "target"), B: ("." * 24 + "bbbb" + "......", "target")}
    guesses = [flow(250 + i, OUTSIDE, B, 22, duration=0.2) for i in range(8)]
    (one,) = incidents_of(said, capture_of([*scan_of(OUTSIDE, A), *guesses]))
    assert (one.device, one.related) == (OUTSIDE, (A, B))
    assert (one.start_s, one.end_s) == (START_S + 10, pytest.approx(START_S + 257.2))
    late = {A: ("rrrr" + "." * 400, "target"), B: ("." * 360 + "rrrr" + "." * 40, "target")}
    hours = capture_of([*scan_of(OUTSIDE, A), *scan_of(OUTSIDE, A, B, every_s=3600.0)[12:]])
    found = [(one.device, one.role) for one in incidents_of(late, hours)]
    assert found == [(A, "target"), (B, "target")]


@pytest.mark.parametrize(
    ("senders", "letter", "label"),
    [((A, B, C), "o", "ddos"), ((A,), "d", "dos"), ((A, B), "d", "ddos"), ((A, B), "o", "ddos")],
)
def test_who_floods_together_is_one_incident_named_by_how_many_they_are(senders, letter, label):
    """A window of one sender cannot tell; two who begin and end together act on one order."""
    flood = [flow(20 + t / 50, one, S, 80, "S0") for one in senders for t in range(500)]
    said = dict.fromkeys(senders, (f"..{letter * 5}", "source"))
    (one,) = incidents_of(said, capture_of([*flood, flow(0, S, A, 502)]))
    assert one.label == label
    assert {one.device, *one.related} == {*senders}


def test_two_intruders_at_one_device_are_two_incidents():
    scan = [flow(t / 5, A, S, 1000 + t, "REJ") for t in range(400)]
    guesses = [flow(20 + t, B, S, 23, "SF") for t in range(40)]
    said = {A: ("rrrrr", "source"), B: ("bbbbb", "source"), S: ("bbbbb", "target")}
    found = incidents_of(said, capture_of([*scan, *guesses]))
    assert {(one.label, one.device) for one in found} >= {("recon", A), ("brute_force", B)}


def test_what_one_intruder_is_proved_to_do_are_two_incidents_though_a_suspicion_fits_both():
    """Who asks who scanned, or who wrote, finds each by its own label."""
    polls = [flow(t, A, S, 502) for t in range(0, 800, 10)]
    scan = [flow(400 + n / 10, B, S, 2000 + n, "REJ") for n in range(30)]
    session = [flow(610, B, S, 502, duration=60.0)]
    writes = [(SLOT + 61 + i, B, S, "modbus_write", 6, 9, 5) for i in range(6)]
    said = {S: ("." * 40 + "r" * 25 + "." * 10, "target")}
    found = incidents_of(said, capture_of([*polls, *scan, *session], writes))
    told = [(one.device, one.label, one.related) for one in found]
    assert told == [(B, "recon", (S,)), (B, "unauthorized_command", ())]


def test_a_flood_of_several_devices_by_one_is_one_incident():
    flood = [flow(20 + t / 50, OUTSIDE, one, 80, "S0") for one in (A, B) for t in range(500)]
    (one,) = incidents_of(dict.fromkeys((A, B), ("..ooooo", "target")), capture_of(flood))
    assert (one.device, one.label, one.role, set(one.related)) == (OUTSIDE, "dos", "source", {A, B})
    assert one.facts[0].values["connections"] == 1000


def test_one_victim_of_a_stranger_stays_the_device_of_the_incident():
    (one,) = incidents_of({A: ("rrrr", "target")}, capture_of(scan_of(OUTSIDE, A)))
    assert (one.device, one.role, one.peers) == (A, "target", (OUTSIDE,))


def test_what_fails_beside_a_false_address_is_no_incident_of_its_own():
    claims = [(SLOT + i, A, A, "arp_conflict", -1, 2, 2) for i in range(6)]
    vain = [flow(t, B, A, 502, "REJ") for t in range(0, 60, 5)]
    said = {B: ("vvvvv", "target"), A: ("vvvvv", "source")}
    (one,) = incidents_of(said, capture_of(vain, claims))
    assert (one.device, one.label, one.role, one.related) == (A, "spoofing", "target", (B,))


def test_a_fault_that_nothing_carries_is_no_incident():
    calm = capture_of([flow(5 * i, A, B, 502) for i in range(12)])
    for letter in ("v", "m"):
        assert incidents_of({A: (letter * 5, "source")}, calm, probability=0.999) == []
    missed = [(SLOT + 2, B, A, "arp_unanswered", -1, 1, 0)]
    once = capture_of([flow(5 * i, A, B, 502) for i in range(12)], missed)
    assert incidents_of({A: ("sssss", "source")}, once, probability=0.999) == []


def test_a_poll_of_one_register_is_no_scan_however_long():
    polls = [flow(t, S, A, 502) for t in range(0, 300, 5)]
    asked = [(SLOT + i, S, A, "modbus_read", 3, 10, 1) for i in range(30)]
    assert incidents_of({A: ("r" * 12, "target")}, capture_of(polls, asked)) == []


def test_a_scan_that_touched_next_to_nothing_is_no_incident():
    few = capture_of([flow(10 + i, A, B, 53 + i) for i in range(7)])
    assert incidents_of({A: ("rrrr", "source")}, few, probability=0.999) == []
    enough = capture_of([flow(10 + i, A, B, 53 + i) for i in range(8)])
    assert [one.label for one in incidents_of({A: ("rrrr", "source")}, enough)] == ["recon"]


def test_one_session_at_a_login_port_guesses_no_passwords():
    session = capture_of([flow(10, A, B, 22, duration=40.0)])
    assert incidents_of({A: ("bbbb", "source")}, session, probability=0.999) == []
    knocks = capture_of([flow(10 + 5 * i, A, B, 22) for i in range(5)])
    assert [one.label for one in incidents_of({A: ("bbbb", "source")}, knocks)] == ["brute_force"]


def test_what_was_never_up_does_not_flap():
    refused = [flow(10 * i, A, B, 502, "REJ") for i in range(6)]
    ended = [(SLOT + i, B, A, "reset", -1, 1, 0) for i in range(6)]
    capture = capture_of(refused, ended)
    found = incidents_of({A: ("ffff", "source")}, capture, probability=0.999)
    assert [one.label for one in found] == ["service_down"]
    held = capture_of([flow(10 * i, A, B, 502, "RSTR") for i in range(3)], ended[:3])
    assert [one.label for one in incidents_of({A: ("ffff", "source")}, held)] == ["flapping"]


def test_what_only_packets_tell_is_no_incident_where_they_told_nothing():
    plain = capture_of([flow(10 * i, A, B, 502) for i in range(6)])
    assert incidents_of({A: ("llll", "source")}, plain, probability=0.999) == []
    assert incidents_of({A: ("aaaa", "source")}, plain, probability=0.999) == []


def test_two_bots_of_one_controller_are_two_incidents():
    calls = [flow(t, bot, "185.1.1.1", 6667, "S0") for bot in (A, B) for t in range(0, 100, 10)]
    found = incidents_of({A: ("ccccc", "source"), B: ("ccccc", "source")}, capture_of(calls))
    assert [(one.device, one.label, one.peers, one.severity) for one in found] == [
        (A, "c2", ("185.1.1.1",), "high"),
        (B, "c2", ("185.1.1.1",), "high"),
    ]


@pytest.mark.parametrize(
    ("letters", "severity", "standing"),
    [("." * 40, "low", "inconclusive"), ("c" * 40, "high", "likely")],
    ids=["the model sees nothing in it", "the model sees a beacon"],
)
def test_calls_that_nobody_answers_are_a_dead_service_or_a_dead_controller(
    letters, severity, standing
):
    calls = [flow(t, A, "185.1.1.1", 443, "S0") for t in range(0, 400, 10)]
    said = {A: (letters, "source")}
    (one,) = incidents_of(said, capture_of(calls))
    assert (one.label, one.severity, kind_of(one.facts[0])) == ("c2", severity, "calls")
    assert judge(one, verdict_table(said), one.facts) == standing


@pytest.mark.parametrize(("role", "found"), [("camera", ["unauthorized_command"]), ("hmi", [])])
def test_who_only_watches_has_no_business_to_write(role, found):
    """Calm writes soon after the recording began are a panel's work, and none of a camera's."""
    polls = [flow(t, A, S, 502) for t in range(0, 300, 5)]
    writes = [(SLOT + i, A, S, "modbus_write", 6, 3, 1) for i in range(10, 25)]
    devices = (Device("one", A, role), Device("plc-1", S, "plc"))
    said = {A: ("." * 8 + "w" * 12, "source")}
    incidents = incidents_of(said, capture_of(polls, writes), Plant(devices))
    assert [one.label for one in incidents] == found


def test_an_incident_begins_with_the_first_write_of_a_new_writer_not_with_the_alarm():
    """The alarm came ten samples late, and left off before the last write."""
    polls = [flow(t, S, A, 502) for t in range(0, 400, 5)]
    session = [flow(100, B, A, 502, duration=200.0, orig_pkts=900.0)]
    writes = [(SLOT + i, B, A, "modbus_write", 6, 4, 2) for i in range(10, 30)]
    later = [(SLOT + 37, B, A, "modbus_write", 6, 1, 1)]  # another story
    said = {A: ("." * 19 + "wwwww" + "." * 10, "target")}
    plant = Plant((Device("press", A, "PLC"), Device("panel", S, "HMI")))
    (one,) = incidents_of(said, capture_of([*polls, *session], [*writes, *later]), plant)
    told = one.facts[0].values
    assert (told["requests"], told["first_time_s"] - START_S) == (80, 100)
    assert (one.start_s - START_S, one.end_s - START_S) == (100, 300)
    assert kind_of(one.facts[-1]) != "related"  # both are named already


def test_who_wrote_from_the_first_moment_on_is_told_of_by_what_was_alarmed():
    polls = [flow(t, B, A, 502) for t in range(0, 400, 5)]
    calm = [(SLOT + i, B, A, "modbus_write", 6, 4, 2) for i in range(40) if i not in range(22, 26)]
    burst = [(SLOT + i, B, A, "modbus_write", 6, 90, 60) for i in range(22, 26)]
    said = {A: ("." * 19 + "wwwww" + "." * 10, "target")}
    plant = Plant((Device("a", A, "PLC"),))
    (one,) = incidents_of(said, capture_of(polls, [*calm, *burst]), plant)
    assert one.start_s - START_S == 190
    assert one.facts[0].values["first_time_s"] - START_S == 190


def test_what_fails_is_counted_as_long_as_it_goes_on():
    """The windows of the alarm lie in the middle of it."""
    failing = [flow(t, A, S, 80, "REJ") for t in range(40, 400, 10)]
    well = [flow(t, A, C, 502) for t in range(0, 400, 10)]
    said = {A: ("." * 15 + "vvvv" + "." * 10, "target")}
    found = incidents_of(said, capture_of([*failing, *well]))
    assert [one.start_s - START_S for one in found] == [40]
    tries = [fact.values["attempts"] for one in found for fact in one.facts[:1]]
    assert tries == [len(failing)]


def test_data_carried_off_is_counted_at_the_one_who_got_it():
    """Meanwhile the device sends its backup, a third as much, to another as it does all day."""
    clips = {"duration": 5.0, "orig_pkts": 100.0}
    off = [flow(100 + 5 * i, A, OUTSIDE, 443, orig_ip_bytes=3e5, **clips) for i in range(5)]
    usual = [flow(10 * i, A, C, 873, orig_ip_bytes=5e4, **clips) for i in range(30)]
    (one,) = incidents_of({A: ("." * 6 + "eeee", "source")}, capture_of([*off, *usual]))
    assert one.peers == (OUTSIDE,)
    assert (one.start_s - START_S, one.facts[0].values["sent_bytes"]) == (100, 1.5e6)


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.1:80", True),
        ("10.0.0.1", "10.0.0.11 and 110.0.0.1", False),
        ("10.0.0.1", "10.0.0.1.5", False),
        ("plc-1 (10.0.0.1)", "hmi-1 (10.0.0.9), plc-1 (10.0.0.1) and 3 more", True),
        ("plc-1", "plc-12 and plc-1-b", False),
    ],
)
def test_whether_a_sentence_names_somebody_already(name, text, named):
    fact = make_fact("x", "{who} failed {n:time}.", {"who": text, "n": 2})
    assert is_named(fact, name) == named


def test_a_suspicion_that_nothing_bears_out_affects_nobody():
    """Its device was never sent a question again: a window said that connections flapped."""
    failing = [flow(t, one, S, 502, "REJ") for one in (A, B) for t in range(0, 100, 5)]
    calm = [flow(50, C, A, 80)]
    said = {S: ("." * 4, ""), **dict.fromkeys((A, B), ("vvvvv", "target")), C: ("fffff", "source")}
    (one,) = incidents_of(said, capture_of([*failing, *calm]))
    assert one.device == S
    assert C not in one.related


def test_two_servers_that_fail_one_client_are_two_incidents():
    failing = [
        flow(t, A, server, port, "REJ")
        for server, port in ((S, 502), (B, 1883))
        for t in range(0, 300, 5)
    ]
    alive = [flow(t, one, "10.0.0.20", 123) for one in (S, B) for t in range(0, 300, 20)]
    found = incidents_of({A: ("v" * 25, "target")}, capture_of([*failing, *alive]))
    assert sorted(one.device for one in found) == [B, S]


def test_a_known_service_of_the_plant_is_no_controller():
    talks = [flow(t, A, S, 1883, service="mqtt") for t in range(0, 100, 10)]
    said = {A: ("cccccc", "source")}
    assert incidents_of(said, capture_of(talks)) == []
    talks = [flow(t, A, OUTSIDE, 1883, service="mqtt") for t in range(0, 100, 10)]
    assert [one.label for one in incidents_of(said, capture_of(talks))] == ["c2"]


def test_a_pause_does_not_make_one_controller_two_incidents():
    times = (*range(0, 60, 10), *range(2000, 2060, 10))
    calls = [flow(t, A, "185.1.1.1", 6667, "S0") for t in times]
    found = incidents_of({A: ("cccc" + "." * 196 + "cccc", "source")}, capture_of(calls))
    assert len(found) == 1
    assert len(found[0].windows) == 8
    burst = [flow(t, A, B, 80, "S0") for t in (*range(0, 60), *range(2000, 2060))]
    found = incidents_of({A: ("oooo" + "." * 196 + "oooo", "source")}, capture_of(burst))
    assert [one.label for one in found].count("dos") == 2


def test_two_labels_for_the_same_peer_are_one_incident_of_the_heavier():
    calls = [flow(t, A, "185.1.1.1", 6667, "S0") for t in range(0, 200, 10)]
    found = incidents_of({A: ("ccccccvvv", "source")}, capture_of(calls))
    assert [(one.label, len(one.windows)) for one in found] == [("c2", 9)]


def test_congestion_at_one_time_is_one_incident():
    pairs = ((A, B), (C, S))
    busy = [
        flow(t, *pair, 443, resp_bytes=1e6, resp_ip_bytes=1e6)
        for pair in pairs
        for t in range(0, 100, 2)
    ]
    slow = ("ggggg", "target")
    assert len(incidents_of({A: slow, C: slow}, capture_of(busy))) == 1
    idle = [flow(t, *pair, 443) for pair in pairs for t in range(0, 100, 2)]
    assert incidents_of({A: slow, C: slow}, capture_of(idle)) == []


def test_what_a_camera_uploads_every_day_is_not_carried_off():
    clip = {"duration": 30.0, "orig_bytes": 3e5, "orig_pkts": 300.0, "orig_ip_bytes": 3.1e5}
    day = [flow(40.0, A, OUTSIDE, 443, **clip)]
    said = {A: ("eeeee", "source")}
    assert [one.label for one in incidents_of(said, capture_of(day))] == ["exfiltration"]
    yesterday = flow(40.0 - 86_400, A, OUTSIDE, 443, id__orig_p=41_000, **clip)
    assert incidents_of(said, capture_of([yesterday, *day])) == []


def test_two_segments_sent_again_are_no_loss():
    calm = [flow(5 * i, A, B, 502) for i in range(12)]
    lost = [(SLOT + 2, A, B, "retransmission", -1, n, 0) for n in (2, 9)]
    said = {A: ("lllll", "source")}
    assert incidents_of(said, capture_of(calm, lost[:1])) == []
    assert [one.label for one in incidents_of(said, capture_of(calm, lost[1:]))] == ["packet_loss"]


def test_a_doubled_address_is_an_incident_without_any_verdict():
    claims = [(SLOT + i, A, A, "arp_conflict", -1, 2, 2) for i in range(3)]
    capture = capture_of([flow(t, A, B, 502) for t in range(0, 100, 10)], claims)
    found = incidents_of({A: ("....", ""), B: ("....", "")}, capture)
    assert [(one.device, one.label, one.windows) for one in found] == [(A, "spoofing", ())]
    found = incidents_of({A: ("....", ""), C: ("aaaa", "source")}, capture)
    assert [(one.device, one.related) for one in found] == [(C, (A,))]


def test_who_claims_the_addresses_of_others_is_the_device_of_the_incident():
    claims = [(SLOT + i, C, its, "arp_conflict", -1, 2, 2) for i in range(3) for its in (A, B)]
    capture = capture_of([flow(t, A, B, 502) for t in range(0, 100, 10)], claims)
    (one,) = incidents_of({A: ("aaaa", "target"), C: ("....", "")}, capture)
    assert (one.device, one.label, one.role, one.peers) == (C, "spoofing", "source", (A, B))
    assert one.facts[0].text == (
        f"{C} answers for the address of {A} and {B} beside its own (12 claims seen)."
    )


def test_an_absent_device_needs_somebody_who_keeps_asking():
    asked = [(SLOT + i, A, S, "arp_unanswered", -1, 1, 0) for i in range(4)]
    asked += [(SLOT, A, C, "arp_unanswered", -1, 3, 0)]  # one try
    capture = capture_of([flow(t, A, B, 502) for t in range(0, 100, 10)], asked)
    found = incidents_of({A: ("....", "")}, capture)
    assert [(one.device, one.label, one.role, one.peers) for one in found] == [
        (S, "device_silent", "source", (A,))
    ]
    calls = [flow(t, A, B, 502) for t in range(0, 100, 10)]
    answered = capture_of([*calls, flow(60, S, A, 502)], asked)
    assert incidents_of({A: ("....", "")}, answered) == []


def test_a_router_that_walks_through_its_pool_is_no_incident():
    pool = [
        (SLOT + i, A, f"10.0.0.{n}", "arp_unanswered", -1, 1, 0)
        for n in range(100, 120)
        for i in range(4)
    ]
    capture = capture_of([flow(t, A, B, 502) for t in range(0, 100, 10)], pool)
    assert incidents_of({A: ("....", "")}, capture) == []
    plant = Plant((Device("press", "10.0.0.105", "PLC"),))
    assert [one.device for one in incidents_of({A: ("....", "")}, capture, plant)] == ["10.0.0.105"]


def test_a_service_that_stopped_answering_is_an_incident_without_any_verdict():
    before = [flow(t, A, S, 502) for t in range(0, 50, 10)]
    alive = [flow(t, S, C, 123) for t in range(0, 200, 20)]
    refused = [flow(t, A, S, 502, "REJ") for t in range(60, 160, 10)]
    capture = capture_of([*before, *alive, *refused])
    found = incidents_of({A: ("....", "")}, capture)
    assert [(one.device, one.label, one.peers) for one in found] == [(S, "service_down", (A,))]
    never = capture_of([*alive, *refused])
    (closed,) = incidents_of({A: ("....", "")}, never)
    assert (closed.device, closed.label, closed.facts[0].values["attempts"]) == (
        S,
        "service_down",
        10,
    )


def test_a_service_that_answered_nobody_for_a_while_is_an_incident_that_is_over():
    alive = [flow(t, S, C, 123) for t in range(0, 200, 20)]
    around = [flow(t, A, S, 502) for t in (0, 10, 20, 120, 130)]

    def refused(*clients: str, until: int = 75) -> list[dict[str, object]]:
        return [
            flow(t + i, one, S, 502, "REJ")
            for i, one in enumerate(clients)
            for t in range(30, until, 5)
        ]

    (one,) = incidents_of({A: ("....", "")}, capture_of([*around, *alive, *refused(A, B)]))
    assert (one.device, one.label, one.peers) == (S, "service_down", (A, B))
    assert (one.start_s - START_S, one.end_s - START_S) == (30, 71)
    # Twenty seconds: a program that was started again. One client: perhaps nobody lets it in.
    for calls in (refused(A, B, until=50), refused(A)):
        assert incidents_of({A: ("....", "")}, capture_of([*around, *alive, *calls])) == []
    later = capture_of([*around[3:], *alive, *refused(A, B)])
    assert incidents_of({A: ("....", "")}, later) == []  # it was never up before: switched on later


def test_a_resolver_that_is_gone_is_a_silent_device():
    lost = [
        flow(t + i, one, S, 53, "S0") for i, one in enumerate((A, B)) for t in range(30, 100, 10)
    ]
    kept = [flow(t, A, S, 53) for t in (10, 120)]
    sought = [(SLOT + i, A, S, "arp_unanswered", -1, 1, 0) for i in (4, 6)]
    over_udp = [one | {"proto": "udp"} for one in (*lost, *kept)]
    (one,) = incidents_of({A: ("....", "")}, capture_of(over_udp, sought))
    assert (one.device, one.label, one.peers) == (S, "device_silent", (A, B))


def test_a_resolver_that_was_mute_for_a_while_is_told_by_two_clients():
    def asking(clients: tuple[str, ...]) -> Capture:
        lost = [
            flow(t + i, one, S, 53, "S0")
            for i, one in enumerate(clients)
            for t in range(30, 100, 10)
        ]
        kept = [flow(t, one, S, 53) for one in clients for t in (10, 120)]
        return capture_of([one | {"proto": "udp"} for one in (*lost, *kept)])

    (one,) = incidents_of({A: ("....", "")}, asking((A, B)))
    assert (one.device, one.label, one.peers) == (S, "name_resolution", (A, B))
    assert incidents_of({A: ("....", "")}, asking((A,))) == []  # it may ask for what nobody knows


def test_an_address_of_nobody_is_a_wrong_setting_or_a_wrong_answer():
    plant = Plant((Device("hmi", A, "HMI"), Device("press", B, "PLC"), Device("panel", C, "HMI")))
    calls = [flow(t, A, B, 502) for t in range(0, 100, 10)]
    asked = [(SLOT + i, A, S, "arp_unanswered", -1, 2, 0) for i in range(4)]
    (one,) = incidents_of({A: ("....", "")}, capture_of(calls, asked), plant)
    assert (one.device, one.label, one.role, one.peers) == (A, "misconfiguration", "source", (S,))

    names = [flow(t, client, B, 53) | {"proto": "udp"} for client in (A, C) for t in (0, 50)]
    asked += [(SLOT + i, C, S, "arp_unanswered", -1, 2, 0) for i in range(4)]
    (one,) = incidents_of({A: ("....", "")}, capture_of([*calls, *names], asked), plant)
    assert (one.device, one.label, one.role, one.peers) == (
        B,
        "name_resolution",
        "source",
        (A, C, S),
    )
    (one,) = incidents_of({A: ("....", "")}, capture_of(calls, asked), plant)
    assert (one.device, one.label) == (S, "device_silent")  # two that nobody misled miss something


def test_ids_are_stable_and_incidents_are_json():
    calls = [flow(t, A, "185.1.1.1", 6667, "S0") for t in range(0, 200, 10)]
    once, again = (incidents_of({A: ("cccccc", "source")}, capture_of(calls)) for _ in range(2))
    assert [one.id for one in once] == [one.id for one in again]
    plain = json.loads(json.dumps(once[0].to_dict()))
    assert plain["device"] == A
    assert plain["facts"][0]["values"]["attempts"] == 20.0


@pytest.mark.parametrize("name", ["iot23/honeypot-4-1", "iot23/honeypot-5-1"])
def test_healthy_devices_have_no_incident(shared, name):
    assert incidents_without_a_model(shared / "data" / name / "conn.log.labeled") == []


def incidents_without_a_model(path: Path) -> list[Incident]:
    """What rules alone make of a capture: every verdict is normal."""
    capture = read_capture(path)
    windows = make_windows(make_samples(capture))
    values = {"label": "normal", "probability": 0.99, "abstained": False, "direction": ""}
    values |= {f"p_{label}": float(label == "normal") for label in LABELS}
    view = TrafficView(capture, windows.samples)
    return make_incidents(windows.table.assign(**values), windows, view)


def test_every_flood_of_34_1_is_found_without_a_model(shared):
    found = incidents_without_a_model(shared / "data" / "iot23" / "34-1" / "conn.log.labeled")
    assert {one.label for one in found} == {"c2", "ddos"}
    assert {one.device for one in found} == {"192.168.1.195"}
    victims = {one.peers[0]: one.start_s for one in found}
    assert set(victims) >= {"123.59.209.185", "66.67.61.168", "71.61.66.148", "50.50.50.53"}
    assert victims["123.59.209.185"] == pytest.approx(1545466958.988497)  # 2018-12-22 08:22:38 UTC
