"""What a device did in ten seconds, counted by hand."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from tables import CLOUD, DEVICE, PLC, capture, flow, unanswered

from traffic.samples import COLUMNS, make_samples


def sample_of(samples: pd.DataFrame, device: str, start_s: float = 100.0) -> pd.Series:
    rows = samples[(samples["device"] == device) & (samples["start_s"] == start_s)]
    assert len(rows) == 1
    return rows.iloc[0]


def values(sample: pd.Series, names: str) -> list[float]:
    return sample[names.split()].tolist()


def test_a_local_flow_is_seen_from_both_ends():
    samples = make_samples(capture(flow(100.0, DEVICE, PLC, 502)))
    client, server = sample_of(samples, DEVICE), sample_of(samples, PLC)
    names = "out_pkts in_pkts out_bytes in_bytes tcp_out tcp_in"
    assert values(client, names) == [5, 4, 300, 400, 1, 0]
    assert values(server, names) == [4, 5, 400, 300, 0, 1]
    assert values(client, "pkts_control external_peers") == [9, 0]


def test_an_external_peer_is_no_device():
    samples = make_samples(capture(flow(100.0, DEVICE, CLOUD, 443)))
    assert samples["device"].unique().tolist() == [DEVICE]
    assert samples["external_peers"].tolist() == [1.0]


def test_a_packet_on_the_boundary_belongs_to_the_later_slot():
    samples = make_samples(capture(flow(110.0, DEVICE, CLOUD, 443, duration=0.0)))
    assert samples["start_s"].tolist() == [110.0]


def test_retries_of_one_five_tuple_are_one_unanswered_attempt():
    # Zeek ends an attempt after five seconds of silence, so the retries of one connect() are two
    # rows here.
    rows = [
        unanswered(100.0, DEVICE, CLOUD, 6667),
        unanswered(108.0, DEVICE, CLOUD, 6667, duration=1.0, orig_pkts=2.0),
    ]
    sample = sample_of(make_samples(capture(*rows)), DEVICE)
    assert values(sample, "unanswered_out out_pkts repeats") == [1, 5, 1]


def test_an_attempt_answered_in_another_slot_is_not_unanswered():
    samples = make_samples(capture(flow(108.0, DEVICE, CLOUD, 443, duration=10.0)))
    assert samples["unanswered_out"].sum() == 0


def test_a_scan_touches_hosts_and_ports():
    syn = {"duration": 0.0, "orig_pkts": 1.0}
    refusal = {"conn_state": "REJ", "history": "Sr"}
    hosts = [(100.0 + i / 100, DEVICE, f"192.168.1.{30 + i}", 22) for i in range(20)]
    ports = [(101.0 + i / 100, DEVICE, PLC, 1000 + i) for i in range(7)]
    rows = [unanswered(*one, id__orig_p=50000 + i, **syn) for i, one in enumerate(hosts)]
    rows += [flow(*one, id__orig_p=51000 + i, **refusal) for i, one in enumerate(ports)]
    samples = make_samples(capture(*rows))
    scanner, victim = sample_of(samples, DEVICE), sample_of(samples, PLC)
    assert values(scanner, "hosts_out ports_out unanswered_out refused_out") == [21, 7, 20, 7]
    assert values(victim, "ports_in hosts_in refused_in") == [7, 1, 7]


def test_multicast_is_nobody_who_could_answer():
    lone = {"proto": "udp", "conn_state": "S0", "history": "D", "resp_pkts": 0.0}
    row = flow(100.0, DEVICE, "239.255.255.250", 1900, **lone)
    sample = sample_of(make_samples(capture(row)), DEVICE)
    assert values(sample, "peers udp_unanswered_out pkts_infra") == [0, 0, 5 + 0]


def test_arp_that_nobody_answers_makes_both_ends_devices():
    rows = [(10, DEVICE, PLC, kind, -1, 3, 0) for kind in ("arp_request", "arp_unanswered")]
    samples = make_samples(capture(evidence=rows))
    asker, absent = sample_of(samples, DEVICE), sample_of(samples, PLC)
    assert values(asker, "arp_requests arp_unanswered_out arp_unanswered_in") == [3, 3, 0]
    assert values(absent, "arp_requests arp_unanswered_in out_pkts") == [0, 3, 0]


def test_modbus_codes_and_registers():
    rows = [(10, DEVICE, PLC, "modbus_read", 3, 40, 25), (10, DEVICE, PLC, "modbus_write", 6, 2, 1)]
    samples = make_samples(capture(evidence=rows))
    master, plc = sample_of(samples, DEVICE), sample_of(samples, PLC)
    assert values(master, "modbus_reads_out modbus_writes_out modbus_codes") == [40, 2, 2]
    assert values(plc, "modbus_reads_in modbus_writes_in modbus_registers") == [40, 2, 26]


def test_a_beacon_repeats_with_its_period_and_its_streak():
    calls = ((1000.0 + 60 * i, DEVICE, CLOUD, 4444) for i in range(6))
    rows = [unanswered(*one, id__orig_p=40000 + i) for i, one in enumerate(calls)]
    last = sample_of(make_samples(capture(*rows)), DEVICE, 1300.0)
    assert (last["repeats"], last["streak"], last["period_s"], last["jitter"]) == (6, 6, 60, 0)
    assert (last["never_answered"], last["answered_before"]) == (1, 0)


def test_a_service_that_died_had_answered_before():
    vain = unanswered(1060.0, DEVICE, CLOUD, 443, id__orig_p=40001)
    rows = [flow(1000.0, DEVICE, CLOUD, 443), vain]
    last = sample_of(make_samples(capture(*rows)), DEVICE, 1060.0)
    assert (last["never_answered"], last["answered_before"], last["streak"]) == (0, 1, 1)


def test_first_contact_with_and_without_a_dns_question():
    dns = flow(995.0, DEVICE, "192.168.1.1", 53, proto="udp", history="Dd", duration=0.1)
    calls = flow(1001.0, DEVICE, CLOUD, 443), flow(1101.0, DEVICE, "198.51.100.7", 443)
    samples = make_samples(capture(dns, *calls))
    assert sample_of(samples, DEVICE, 1000.0)[["new_peers", "new_peers_no_dns"]].tolist() == [1, 0]
    assert sample_of(samples, DEVICE, 1100.0)[["new_peers", "new_peers_no_dns"]].tolist() == [1, 1]


def test_a_device_with_a_rhythm_that_goes_quiet_keeps_samples_of_zeros():
    rows = [flow(10.0 * i, DEVICE, PLC, 502, duration=0.0, id__orig_p=40000 + i) for i in range(40)]
    rows.append(flow(2000.0, "192.168.1.99", CLOUD, 443))
    samples = make_samples(capture(*rows))
    quiet = samples[(samples["device"] == DEVICE) & (samples["start_s"] >= 400)]
    # Ten minutes, then it may have left.
    assert quiet["start_s"].tolist() == [400.0 + 10 * i for i in range(60)]
    assert quiet["out_pkts"].sum() == 0
    assert quiet["quiet_slots"].tolist() == list(range(1, 61))
    assert quiet["active_share"].unique().tolist() == [1.0]


def test_an_empty_capture_has_no_samples():
    samples = make_samples(capture())
    assert len(samples) == 0
    assert set(COLUMNS) <= set(samples.columns)


_ROW = st.tuples(st.floats(0, 500), st.integers(1, 40), st.floats(0, 90), st.integers(0, 3))


@given(st.lists(_ROW, min_size=1, max_size=20))
def test_every_packet_is_in_exactly_one_sample_and_order_changes_nothing(rows):
    made = []
    for i, (ts, n, length, who) in enumerate(rows):
        own = {"orig_pkts": float(n), "duration": length, "id__orig_p": 40000 + i}
        made.append(flow(ts, f"192.168.1.{who}", CLOUD, 443, **own))
    samples = make_samples(capture(*made))
    assert samples["out_pkts"].sum() == sum(n for _, n, _, _ in rows)
    assert samples["in_pkts"].sum() == 4 * len(rows)
    again = make_samples(capture(*made[::-1]))
    counted = [name for name in COLUMNS if name != "top_peer_age_min"]
    np.testing.assert_allclose(samples[counted], again[counted], rtol=1e-5)


@given(st.integers(2, 60))
def test_history_looks_back_only(cut):
    rows = [unanswered(30.0 * i, DEVICE, CLOUD, 4444, id__orig_p=40000 + i) for i in range(cut)]
    before = make_samples(capture(*rows))
    after = make_samples(capture(*rows, flow(5000.0, DEVICE, CLOUD, 4444)))
    pd.testing.assert_frame_equal(before, after.iloc[: len(before)])
