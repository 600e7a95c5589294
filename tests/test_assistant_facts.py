"""Facts say what the tables hold: values on real captures, and no number without its value.

How each label's facts read stands in ``golden/labels``."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assistant.detection.rules import apply_rules
from assistant.diagnosis.grounding import is_supported, read_quantities
from assistant.facts.attribution import attribute
from assistant.facts.devices import describe_device, health_fact
from assistant.facts.fact import Fact, Value, kind_of, listed, make_fact, show
from assistant.facts.profiles import PROFILES
from assistant.facts.traffic_view import TrafficView
from traffic.labels import LABELS
from traffic.plant import Device, Plant
from traffic.reader import read_capture
from traffic.samples import make_samples
from traffic.simulation.simulate import simulate

PLC = "192.168.10.120"
HONEYPOTS = ("honeypot-4-1", "honeypot-5-1")
QUICKDRAW = ("Firmware-Change", "Reboot-or-Restart", "View-Device-Status")
CAPTURES = [
    *(f"iot23/{name}/conn.log.labeled" for name in ("20-1", "34-1", "44-1", *HONEYPOTS)),
    "iot23/honeypot-4-1/2018-10-25-14-06-32-192.168.1.132.pcap",
    *(f"quickdraw/CL5000EIP-{name}.pcap" for name in QUICKDRAW),
    "quickdraw/CL5000EIP-Software-Download-Failure.pcap",
    "modbus/CnC_uploading_exe_modbus_6RTU_with_operate.pcap",
    "modbus/characterization_modbus_6RTU_with_operate.pcap",
]
# An engineer's tool changes the firmware, and restarts the device.
RESTARTS = CAPTURES[6:8]
CALM = [*CAPTURES[3:6], CAPTURES[8], CAPTURES[10]]


def read_view(shared: Path, name: str, plant: Plant | None = None) -> TrafficView:
    capture = read_capture(shared / "data" / name)
    return TrafficView(capture, make_samples(capture, plant), plant)


def facts_of(
    view: TrafficView, device: str, label: str, role: str, slots: np.ndarray
) -> list[Fact]:
    profile = PROFILES[label]
    return profile.make_facts(attribute(view, device, profile, role, slots), view, ())


def slots_of(view: TrafficView) -> np.ndarray:
    return np.unique(np.concatenate([view.flow_slots["slot"], view.evidence["slot"]]))


def values_of(facts: list[Fact]) -> dict[str, dict[str, Value]]:
    """Values by kind of fact."""
    return {fact.id.rpartition("-")[0]: fact.values for fact in facts}


def unsupported(facts: list[Fact]) -> list[str]:
    return [
        f"{quantity.text} in {fact.text!r}"
        for fact in facts
        for quantity in read_quantities(fact.text)
        if not is_supported(quantity, fact.values.values())
    ]


@pytest.mark.parametrize("name", CAPTURES)
def test_every_number_in_a_fact_is_one_of_its_values(shared, name):
    plant = Plant((Device("press-7", PLC, "PLC"), Device("rtu-4", "192.168.1.104", "PLC")))
    view = read_view(shared, name, plant)
    device = str(view.samples["device"].value_counts().index[0])
    slots = slots_of(view)
    facts = [one.fact for one in apply_rules(view)]
    for address in view.samples["device"].unique()[:3]:
        facts += describe_device(view, str(address))
    for label in LABELS[1:]:
        facts += facts_of(view, device, label, "source", slots)
    assert len(facts) >= 5
    assert unsupported(facts) == []


@pytest.mark.parametrize("seed", [1, 2])
def test_simulated_faults_have_facts_with_supported_numbers(seed):
    simulation = simulate(seed, devices=10, hours=0.5)
    samples = make_samples(simulation.capture, simulation.plant)
    view = TrafficView(simulation.capture, samples, simulation.plant)
    for row in simulation.truth[simulation.truth["direction"] == "source"].itertuples():
        slots = np.arange(int(row.start_s // 10), int(row.end_s // 10) + 1)
        facts = facts_of(view, row.device, row.label, "source", slots)
        assert unsupported(facts) == []
        # Who spoofs shows no conflict at his own address: the claimed one does.
        assert facts or row.label == "spoofing", f"{row.label} at {row.device} has no fact"


def test_the_flood_of_34_1_names_its_peer_size_and_start(shared):
    view = read_view(shared, CAPTURES[1])
    slots = slots_of(view)
    slots = slots[np.abs(slots * 10.0 - 1545466950.0) <= 60.0]
    facts = values_of(facts_of(view, "192.168.1.195", "ddos", "source", slots))
    # The log does not know how many packets there were: bad checksums, history C.
    assert list(facts) == ["unsized", "least", "size"]
    values = facts["unsized"]
    assert (values["connections"], values["logged_pkts"]) == (14260, 0)
    assert values["target"] == "123.59.209.185:80"
    assert values["start_time_s"] == pytest.approx(1545466958.988497)
    assert values["span_s"] == pytest.approx(30, abs=0.5)
    assert values["peak_pkts_per_s"] == pytest.approx(480, abs=0.5)
    assert values["peak_time_s"] == 1545466960.0


def test_the_controller_of_34_1_is_told_from_time_servers_and_floods(shared):
    view = read_view(shared, CAPTURES[1])
    facts = values_of(facts_of(view, "192.168.1.195", "c2", "source", slots_of(view)))
    assert list(facts) == ["contact", "first", "unasked", "volume", "rhythm", "also"]
    contact = facts["contact"]
    assert contact["controller"] == "185.244.25.235:6667"
    assert (contact["attempts"], contact["unanswered"]) == (4055, 2414)
    assert (contact["sent_bytes"], contact["got_bytes"]) == pytest.approx((1.5e6, 1.1e6), rel=0.04)
    assert contact["spacing_s"] == pytest.approx(10, abs=0.5)
    assert contact["jitter_s"] == pytest.approx(0.005, abs=0.0005)
    assert facts["first"]["since_start_s"] == pytest.approx(7, abs=0.5)
    also = facts["also"]
    assert (also["other"], also["attempts"], also["unanswered"]) == ("185.244.25.235:80", 20, 8)


@pytest.mark.parametrize(
    ("name", "device", "controller"),
    [("20-1", "192.168.100.103", "66.85.157.90"), ("44-1", "192.168.1.199", "46.101.251.172")],
)
def test_other_controllers_are_found_too(shared, name, device, controller):
    view = read_view(shared, f"iot23/{name}/conn.log.labeled")
    slots = slots_of(view)
    assert attribute(view, device, PROFILES["c2"], "source", slots).peers == (controller,)


def test_the_plc_that_does_not_answer_arp(shared):
    view = read_view(shared, CAPTURES[9], Plant((Device("press-plc", PLC, "PLC"),)))
    (hit,) = apply_rules(view)
    assert (hit.device, hit.label) == (PLC, "device_silent")
    assert hit.peers == ("192.168.10.1", "192.168.10.105")
    assert (hit.fact.values["address"], hit.fact.values["asked"]) == (f"press-plc ({PLC})", 48)
    unheard, *asked = describe_device(view, PLC)
    assert unheard.text == "press-plc (192.168.10.120) has sent nothing in this capture."
    keys = ("asker", "asked", "replies")
    values = [[fact.values[key] for key in keys] for fact in asked]
    assert values == [["192.168.10.1", 45, 0], ["192.168.10.105", 3, 0]]
    (asking,) = describe_device(view, "192.168.10.1")
    assert asking.text == "192.168.10.1 sent 45 ARP requests for other addresses and nothing else."


def test_the_register_sweep_is_told_from_codes_and_rates(shared):
    (hit,) = apply_rules(read_view(shared, CAPTURES[11]))
    assert (hit.device, hit.label, hit.peers) == ("192.168.1.101", "recon", ("192.168.1.104",))
    assert (hit.fact.values["requests"], hit.fact.values["registers"]) == (3315, 99)
    assert hit.fact.values["refused_share"] == pytest.approx(1, abs=0.0005)


@pytest.mark.parametrize("name", CALM)
def test_nothing_is_evident_where_nothing_is_broken(shared, name):
    assert apply_rules(read_view(shared, name)) == []


@pytest.mark.parametrize(
    ("name", "what"), [(RESTARTS[0], "reset"), (RESTARTS[1], "stop, reset and start")]
)
def test_a_device_that_is_told_to_start_anew_is_all_that_is_evident(shared, name, what):
    (hit,) = apply_rules(read_view(shared, name))
    assert (kind_of(hit.fact), hit.fact.values["what"]) == ("interrupt", what)


def test_health_counts_decided_normal_windows(shared):
    view = read_view(shared, CAPTURES[8])
    verdicts = pd.DataFrame(
        {
            "device": ["a", "a", "a", "b"],
            "start_s": [0.0, 10.0, 20.0, 0.0],
            "label": ["normal", "normal", "c2", "normal"],
            "abstained": [False, True, False, False],
        }
    )
    known = health_fact(view, "a", verdicts)
    assert known.text == "Of the windows of a, 1 out of 3 are normal (33.3 %)."
    assert health_fact(view, "c", verdicts).text.startswith("c has no window that could be judged")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("gap_s", 0.0, "0 s"), ("gap_s", 0.004, "4 ms"), ("gap_s", 0.25, "0.25 s"), ("gap_s", 31.04, "31 s"),
        ("gap_s", 119.0, "119 s"), ("gap_s", 120.0, "2 minutes"), ("gap_s", 5400.0, "90 minutes"),
        ("gap_s", 86400.0, "24 hours"), ("gap_s", 172800.0, "2 days"), ("n", 1.0, "1"), ("n", 14260.0, "14,260"),
        ("n", 7.5, "7.5"), ("sent_bytes", 1.0, "1 byte"), ("sent_bytes", 999.0, "999 bytes"),
        ("sent_bytes", 1360226.0, "1.4 MB"), ("sent_bytes", 1.781e9, "1.8 GB"), ("lost_share", 1.0, "100 %"),
        ("at_time_s", 1545466958.988, "2018-12-22 08:22:38 UTC"), ("port", 44818.0, "44818"),
        ("pkts_per_s", 0.1, "0.1"), ("pkts_per_s", 0.0, "0"), ("pkts_per_s", 1854.5, "1,854"),
    ],
)  # fmt: skip
def test_a_value_reads_as_the_unit_in_its_name_says(name, value, expected):
    assert show(name, value) == expected


def test_nearly_all_never_reads_as_all():
    assert make_fact("x", "{lost_share}", {"lost_share": 0.99996}).text == "99.9 %"
    assert make_fact("x", "{lost_share}", {"lost_share": 0.00001}).text == "0.1 %"
    assert unsupported([make_fact("x", "{lost_share}", {"lost_share": 0.99996})]) == []


def test_a_number_without_a_value_is_noticed():
    fact = make_fact("x", "{n:packet} in 7 s", {"n": 3})
    assert unsupported([fact]) == ["7 in '3 packets in 7 s'"]


def test_nouns_follow_their_numbers():
    sentence = "{n:ARP request}, {m:reply}, {k:other address}"
    fact = make_fact("x", sentence, {"n": 1, "m": 2, "k": 0})
    assert fact.text == "1 ARP request, 2 replies, 0 other addresses"


def test_ids_tell_the_kind_and_windows_are_few():
    windows = [10.0 * i for i in range(1000)]
    fact = make_fact("flood", "{n:packet}", {"n": 3}, windows)
    assert fact.id.rpartition("-")[0] == "flood"
    assert fact == make_fact("flood", "{n:packet}", {"n": 3}, windows)
    assert len(fact.windows) == 12
    assert (fact.windows[0], fact.windows[-1]) == (0.0, 9990.0)


def test_a_long_list_ends_in_a_number():
    assert [listed("abc"[:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]
    assert listed("abcdefg", 3) == "a, b, c and 4 more"
