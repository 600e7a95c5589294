"""Simulated plants: the same for the same seed, true to their labels, and rows as Zeek writes
them."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from traffic.capture import (
    ACTIVITY_COLUMNS,
    ACTIVITY_TIMES,
    COUNTS,
    EVIDENCE_COLUMNS,
    FLOW_COLUMNS,
    SAMPLE_S,
)
from traffic.errors import UserError
from traffic.labels import ATTACKS, FAULTS, LABELS, NORMAL
from traffic.plant import Device, Plant, is_local, load_plant
from traffic.simulation.distributions import backoff, periodic
from traffic.simulation.flows import Datagrams, FlowLog, Payload, attempt, session, udp_flow
from traffic.simulation.observation import make_arp_requests, packet_activity
from traffic.simulation.plant import WIRELESS, SimulatedPlant
from traffic.simulation.scenario import Scenario, merge_times, without_overlaps
from traffic.simulation.simulate import Simulation, simulate, write_simulation
from traffic.zeek import read_zeek

SEEDS = range(8)
ONE_SIDED = {"exfiltration", "c2"}  # their other side is beyond the router
UNADDRESSED = {"0.0.0.0", "::"}  # a client of DHCP has no address yet


@cache
def plant(seed: int, *scenarios: str) -> Simulation:
    return simulate(seed, devices=15, hours=0.5, scenarios=scenarios or None)


@pytest.fixture(params=SEEDS)
def simulation(request):
    """A plant of each seed, with whatever it draws."""
    return plant(request.param)


def flow_log(seed: int = 0) -> FlowLog:
    return FlowLog(np.random.default_rng(seed))


# ---- whole plants ----


def test_the_same_seed_gives_the_same_tables() -> None:
    first, again = plant(3), simulate(3, devices=15, hours=0.5)
    assert first.plant == again.plant
    pd.testing.assert_frame_equal(first.truth, again.truth)
    for name in ("flows", "activity", "evidence"):
        pd.testing.assert_frame_equal(getattr(first.capture, name), getattr(again.capture, name))


def test_another_seed_gives_another_plant() -> None:
    assert plant(1).plant != plant(2).plant
    assert plant(1).capture.start_s != plant(2).capture.start_s


def test_tables_keep_the_contract_of_a_capture(simulation: Simulation) -> None:
    capture = simulation.capture
    flows, activity, evidence = capture.flows, capture.activity, capture.evidence
    assert set(FLOW_COLUMNS) <= set(flows)
    assert list(activity) == ACTIVITY_COLUMNS
    assert list(evidence) == EVIDENCE_COLUMNS
    assert (flows[["ts", *COUNTS]].dtypes == "float64").all()
    assert (flows[["id.orig_p", "id.resp_p"]].dtypes == "int64").all()
    assert (activity.drop(columns=ACTIVITY_TIMES).dtypes == "int64").all()
    assert flows["ts"].is_monotonic_increasing
    assert flows.index.equals(pd.RangeIndex(len(flows)))
    known = ["ts", "id.orig_h", "id.resp_h", "proto", "conn_state", "orig_pkts", "resp_pkts"]
    assert flows[known].notna().all(axis=None)
    assert set(flows["label"]) <= set(LABELS)


def test_every_flow_has_an_end_in_the_plant(simulation: Simulation) -> None:
    flows = simulation.capture.flows
    ends = (flows["id.orig_h"], flows["id.resp_h"])
    near = is_local(ends[0], simulation.plant, ()) | is_local(ends[1], simulation.plant, ())
    assert set(flows.loc[~near, "id.orig_h"]) <= UNADDRESSED


def test_nothing_passes_outside_the_capture(simulation: Simulation) -> None:
    flows, truth = simulation.capture.flows, simulation.truth
    end = flows["ts"] + flows["duration"].fillna(0)
    assert flows["ts"].iloc[0] >= simulation.capture.start_s
    assert end.max() - flows["ts"].min() <= 1800
    assert truth["start_s"].min() >= flows["ts"].min() - 600
    assert (truth["start_s"] < truth["end_s"]).all()


def test_activity_holds_every_packet_of_the_flows_once(simulation: Simulation) -> None:
    capture, pkts = simulation.capture, ["orig_pkts", "resp_pkts"]
    sums = capture.activity.groupby("flow")[pkts].sum().reindex(capture.flows.index)
    # Flows dropped for bad checksums are active with at least one packet, though none is counted.
    counted = ~capture.flows["history"].fillna("").str.startswith("C")
    np.testing.assert_array_equal(sums[counted], capture.flows.loc[counted, pkts])


def test_states_agree_with_the_packets(simulation: Simulation) -> None:
    flows = simulation.capture.flows
    tcp, udp = flows[flows["proto"] == "tcp"], flows[flows["proto"] == "udp"]
    silent = tcp[tcp["conn_state"] == "S0"]
    assert (silent["resp_pkts"] == 0).all()
    assert (silent["orig_pkts"] >= 1).all()
    answered = tcp["conn_state"].isin(["REJ", "SF", "S1", "RSTO", "RSTR"])
    assert (tcp.loc[answered, "resp_pkts"] >= 1).all()
    assert ((udp["resp_pkts"] > 0) == udp["conn_state"].isin(["SF", "SHR"])).all()
    lone = flows["orig_pkts"] + flows["resp_pkts"] == 1
    assert flows.loc[lone, "duration"].isna().all()
    assert (flows["duration"].dropna() >= 0).all()
    assert (flows["orig_ip_bytes"] >= 20 * flows["orig_pkts"]).all()


def test_no_device_has_two_truths_at_a_time(simulation: Simulation) -> None:
    for _, rows in simulation.truth.sort_values("start_s").groupby("device"):
        assert (rows["end_s"].to_numpy()[:-1] <= rows["start_s"].to_numpy()[1:]).all()


def test_a_handful_of_seeds_holds_every_label() -> None:
    truth = pd.concat([plant(seed).truth for seed in SEEDS])
    assert set(truth["label"]) == {*ATTACKS, *FAULTS}


@pytest.mark.parametrize("label", sorted({*ATTACKS, *FAULTS} - ONE_SIDED))
def test_a_label_has_a_source_and_a_target(label: str) -> None:
    sides: set[str] = set()
    for seed in range(1, 12):
        truth = simulate(seed, devices=12, hours=0.1, scenarios=[label, label]).truth
        sides |= set(truth.loc[truth["label"] == label, "direction"])
        if sides == {"source", "target"}:
            return
    pytest.fail(f"{label} has only {sides}")


@pytest.mark.parametrize("seed", range(4))
def test_a_quiet_plant_is_normal(seed: int) -> None:
    simulation = simulate(seed, devices=8, hours=0.2, quiet=True)
    assert simulation.truth.empty
    assert (simulation.capture.flows["label"] == NORMAL).all()
    assert not (simulation.capture.evidence["kind"] == "arp_conflict").any()


def test_quiet_plants_hold_healthy_devices_that_call_dead_services() -> None:
    quiet = (simulate(seed, devices=15, hours=0.3, quiet=True) for seed in range(6))
    flows = pd.concat([simulation.capture.flows for simulation in quiet])
    unanswered = flows[(flows["proto"] == "tcp") & (flows["conn_state"] == "S0")]
    attempts = unanswered.groupby(["id.orig_h", "id.resp_h", "id.resp_p"]).size()
    assert (attempts >= 10).sum() >= 3
    assert (unanswered["label"] == NORMAL).all()


@pytest.mark.parametrize("seed", range(6))
def test_a_silent_device_sends_nothing(seed: int) -> None:
    simulation = plant(seed, "device_silent")
    truth, flows = simulation.truth, simulation.capture.flows
    source = truth[truth["direction"] == "source"]
    assert len(source) == 1
    device, start_s, end_s = source.iloc[0][["device", "start_s", "end_s"]]
    began = flows["ts"].between(start_s, end_s - 1e-6)
    assert not (began & (flows["id.orig_h"] == device)).any()
    assert (flows.loc[began & (flows["id.resp_h"] == device), "resp_pkts"] == 0).all()
    activity = simulation.capture.activity
    inside = (activity["slot"] * SAMPLE_S >= start_s) & ((activity["slot"] + 1) * SAMPLE_S <= end_s)
    sent = activity[inside].join(flows[["id.orig_h", "id.resp_h"]], on="flow")
    assert not ((sent["id.orig_h"] == device) & (sent["orig_pkts"] > 0)).any()
    assert not ((sent["id.resp_h"] == device) & (sent["resp_pkts"] > 0)).any()


@pytest.mark.parametrize("seed", range(5))
def test_malware_calls_its_controller_again_and_again(seed: int) -> None:
    flows = plant(seed, "c2").capture.flows
    calls = flows[flows["label"] == "c2"]
    assert calls["id.orig_h"].nunique() == 1
    # Beside its controller there may be a host of the next binary.
    spans = (calls["ts"] + calls["duration"].fillna(0)).groupby(calls["id.resp_h"]).max()
    spans -= calls.groupby("id.resp_h")["ts"].min()
    controller = calls[calls["id.resp_h"] == spans.idxmax()]
    assert spans.max() > 120
    # A session of minutes, broken now and then, or calls one after the other.
    gaps = np.diff(controller.drop_duplicates("id.orig_p")["ts"])
    assert controller["duration"].max() > 60 or 2 < np.median(gaps) < 600


@pytest.mark.parametrize("seed", range(5))
def test_lost_packets_show_where_the_truth_says_so(seed: int) -> None:
    simulation = plant(seed, "packet_loss")
    evidence, truth = simulation.capture.evidence, simulation.truth
    source = truth[(truth["label"] == "packet_loss") & (truth["direction"] == "source")]
    resent = evidence[evidence["kind"] == "retransmission"]
    first_s, last_s = resent["slot"] * SAMPLE_S, (resent["slot"] + 1) * SAMPLE_S
    for row in source.itertuples():
        inside = (first_s < row.end_s) & (last_s > row.start_s)
        its_own = (resent["src"] == row.device) | (resent["dst"] == row.device)
        assert resent.loc[inside & its_own, "count"].sum() > 0


def test_a_dead_port_refuses_or_stays_silent_where_the_truth_says_so() -> None:
    for seed in range(4):
        simulation = plant(seed, "service_down")
        flows, truth = simulation.capture.flows, simulation.truth
        for row in truth[truth["direction"] == "target"].itertuples():
            during = flows["ts"].between(row.start_s, row.end_s)
            tries = flows[during & (flows["id.orig_h"] == row.device)]
            assert tries["conn_state"].isin(["S0", "REJ"]).any()


def test_faults_leave_flows_unlabelled_because_their_intervals_are_the_label() -> None:
    simulation = plant(2, "flapping", "congestion")
    assert (simulation.capture.flows["label"] == NORMAL).all()
    assert set(simulation.truth["label"]) == {"flapping", "congestion"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [({"scenarios": ["quake"]}, "no scenario is called quake"), ({"devices": 0}, "devices is 0"),
     ({"hours": 0.0}, "hours is 0.0")],
)  # fmt: skip
def test_impossible_plants_are_refused(arguments: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        simulate(0, **arguments)


def test_one_device_is_a_plant() -> None:
    simulation = simulate(5, devices=1, hours=0.2)
    assert len(simulation.plant.devices) == 1
    assert len(simulation.capture.flows)


def test_a_simulation_is_read_again_from_its_folder(tmp_path: Path) -> None:
    simulation = plant(0)
    write_simulation(simulation, tmp_path / "run")
    flows = read_zeek(tmp_path / "run" / "conn.log").flows
    assert len(flows) == len(simulation.capture.flows)
    np.testing.assert_allclose(flows["orig_pkts"], simulation.capture.flows["orig_pkts"])
    assert load_plant(tmp_path / "run" / "plant.yaml") == simulation.plant
    truth = pd.read_csv(tmp_path / "run" / "truth.csv")
    assert list(truth["label"]) == list(simulation.truth["label"])


# ---- rows and truth ----


def test_attempts_are_rows_as_zeek_cuts_them() -> None:
    log = flow_log()
    attempt(log, np.array([100.0]), "10.0.0.1", "192.0.2.1", 443, tries="linux")
    flows = log.flow_table().sort_values("ts")
    # SYNs at 0, 1 and 3 s are one row, the one at 7 s the next.
    assert flows["ts"].tolist() == [100.0, 107.0]
    assert flows["orig_pkts"].tolist() == [3, 1]
    assert flows["id.orig_p"].nunique() == 1
    assert flows["duration"].isna().tolist() == [False, True]


def test_a_session_without_data_has_no_data_in_its_history() -> None:
    log = flow_log()
    session(log, np.array([0.0]), "10.0.0.1", "10.0.0.2", 80, 0.1, Payload(0))
    flow = log.flow_table().iloc[0]
    assert (flow["orig_bytes"], flow["resp_bytes"]) == (0, 0)
    assert "D" not in flow["history"].upper()


def test_times_become_intervals_of_whole_slots() -> None:
    assert merge_times(np.array([3.0, 12.0, 200.0])) == [(0.0, 20.0), (200.0, 210.0)]
    assert merge_times(np.array([3.0, 200.0]), join_s=300) == [(0.0, 210.0)]
    assert merge_times(np.array([3.0]), least=2) == []


def test_what_comes_from_a_device_goes_before_what_it_suffers() -> None:
    suffers = ("a", 0.0, 100.0, "congestion", "target", "")
    breaks = ("a", 40.0, 60.0, "flapping", "source", "")
    other = ("b", 0.0, 100.0, "congestion", "target", "")
    before, after = (("a", *span, *suffers[3:]) for span in ((0.0, 40.0), (60.0, 100.0)))
    assert without_overlaps([suffers, breaks, other]) == [breaks, before, after, other]


def test_arrival_times_stay_within_their_interval() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        steady, retries = periodic(rng, 100, 500, 7.0, 0.3), backoff(rng, 100, 500)
        assert ((steady >= 100) & (steady < 500)).all()
        assert ((retries > 100) & (retries < 500)).all()
        assert 52 <= len(steady) <= 60  # 400 s / 7 s = 57
        assert (np.diff(retries) > 0).all()


# ---- packet times ----


def polled(period_s: float, length_s: float = 100.0, **more: Any) -> pd.DataFrame:
    """The flow of one Modbus session from 1000 s on; 12 bytes are asked, 30 answered."""
    log, payload = flow_log(), Payload(more.pop("exchanges", length_s / period_s), 12, 30)
    given = {"late": 0.0, **more}
    session(log, np.array([1000.0]), "10.0.0.1", "10.0.0.2", 502, length_s, payload, **given)
    return typed(log)


def typed(log: FlowLog) -> pd.DataFrame:
    table = log.flow_table()
    numbers = dict.fromkeys(("ts", "duration", "exchanges"), float)
    return table.astype(numbers).assign(steady=table["steady"])


def activity(table: pd.DataFrame) -> pd.DataFrame:
    return packet_activity(table, np.random.default_rng(0))


def test_an_exchange_passes_at_once() -> None:
    active = activity(polled(25.0, 75.0, exchanges=4))
    # At 0, 25, 50 and 75 s, those between a little late.
    assert active["slot"].tolist() == [100, 102, 105, 107]
    assert (active["orig_pkts"] >= 2).all()  # the question, and the acknowledgement of the answer
    assert active["orig_syns"].tolist() == [1, 0, 0, 0]


def test_a_fast_poll_is_steady() -> None:
    active = activity(polled(0.5))
    assert len(active) == 11
    assert active["orig_pkts"][1:10].between(38, 44).all()  # 20 exchanges of two packets


@pytest.mark.parametrize("period_s", [0.5, 3.0, 7.0, 25.0])
@pytest.mark.parametrize("steady", [True, False])
def test_every_packet_passes_once(period_s: float, steady: bool) -> None:
    log = flow_log(1)
    udp_flow(log, np.array([1003.0]), "10.0.0.1", "10.0.0.3", 53, 0.02, Datagrams())
    table = pd.concat([polled(period_s, steady=steady), typed(log)], ignore_index=True)
    active = activity(table)
    sums = active.groupby("flow")[["orig_pkts", "resp_pkts"]].sum()
    np.testing.assert_array_equal(sums, table[["orig_pkts", "resp_pkts"]].to_numpy(float))
    assert not active.duplicated(["flow", "slot"]).any()


@pytest.mark.parametrize("period_s", [0.5, 3.0, 7.0, 25.0])
def test_every_byte_of_a_poll_passes_once(period_s: float) -> None:
    table = polled(period_s)
    sums = activity(table)[["orig_bytes", "resp_bytes"]].sum()
    assert sums.tolist() == table[["orig_ip_bytes", "resp_ip_bytes"]].iloc[0].tolist()


def test_keepalives_pass_at_their_times_and_count_for_no_exchange() -> None:
    table = polled(0.5, alive_s=30.0)
    active = activity(table).set_index("slot")
    pkts = active["orig_pkts"]
    assert pkts.sum() == table["orig_pkts"].iloc[0]
    extra = pkts.loc[[103, 106, 109]] - pkts.loc[[101, 102, 104]].mean()  # at 30, 60 and 90 s
    assert extra.round().tolist() == [2, 2, 2]
    assert active["spoken"].loc[101:108].between(19, 21).all()


# ---- ARP ----

ROUTER, PANEL, CONTROLLER, CLOCK = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"
AFAR = "198.51.100.7"
UDP = {"proto": "udp", "conn_state": "SF"}


def arp_requests(seeds: int, **row: Any) -> pd.DataFrame:
    """The requests of one conversation of panel and controller that goes on for ten minutes."""
    devices = [Device(f"d{i}", f"10.0.0.{i}", "plc") for i in range(1, 5)]
    given = {"src": PANEL, "dst": CONTROLLER, "proto": "tcp", "conn_state": "S1", "orig_pkts": 2}
    given |= {"resp_pkts": 1, "orig_bytes": 200, "resp_bytes": 200, "exchanges": 60.0, **row}
    rows = pd.DataFrame({"slot": np.arange(100, 160), **given})
    parts = []
    for seed in range(seeds):
        log, plant = flow_log(seed), Plant(tuple(devices))
        where = ("10.0.0.", CLOCK, (CLOCK,), 1.0, "industrial")
        sim = SimulatedPlant(log, 900.0, 1700.0, plant, *where)
        scenario = Scenario(sim, log.flow_table(), log.evidence_table(), packets=True)
        parts.append(make_arp_requests(scenario, rows).assign(seed=seed))
    return pd.concat(parts)


def pairs(asked: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(asked["src"], asked["dst"], strict=True))


def test_datagrams_confirm_nobody_so_both_ask() -> None:
    asked = arp_requests(8, dst=CLOCK, **UDP)
    assert pairs(asked) == {(PANEL, CLOCK), (CLOCK, PANEL)}
    # No entry ages sooner than in 25 s.
    assert (asked.groupby(["seed", "src"]).size() <= 60 * 10 / 25 + 1).all()


def test_acknowledged_data_confirms_on_modern_systems() -> None:
    """Of those who send data, only old stacks ask, and seldom; who only acknowledges asks as with
    datagrams."""
    both, listening = arp_requests(12), arp_requests(12, resp_bytes=52)
    assert len(both) < len(listening) / 2
    assert (listening["src"] == CONTROLLER).sum() > 12 * 4


def test_an_only_answer_confirms_nobody() -> None:
    asked = arp_requests(12, exchanges=1.0)
    assert (asked["src"] == CONTROLLER).sum() > 2 * (asked["src"] == PANEL).sum()


def test_addresses_beyond_the_plant_are_the_routers() -> None:
    asked = arp_requests(8, dst=AFAR, **UDP)
    assert pairs(asked) <= {(PANEL, ROUTER), (ROUTER, PANEL)}
    assert (PANEL, ROUTER) in pairs(asked)


@pytest.mark.parametrize("dst", ["224.0.0.251", "10.0.0.255", "255.255.255.255", "ff02::2"])
def test_nobody_asks_for_a_group(dst: str) -> None:
    assert arp_requests(1, dst=dst, proto="udp", conn_state="S0", resp_pkts=0).empty


# ---- houses of wireless devices ----


def sent_again(made: Simulation) -> float:
    """Segments sent again of all that pass."""
    again = made.capture.evidence.query("kind == 'retransmission'")["count"].sum()
    tcp = made.capture.flows["proto"] == "tcp"
    return float(again / made.capture.flows.loc[tcp, ["orig_pkts", "resp_pkts"]].to_numpy().sum())


def test_a_healthy_house_sends_again_and_sends_out_what_would_be_trouble_in_a_plant() -> None:
    houses = [
        simulate(seed, 4, 6.0, quiet=True, flavour=WIRELESS, view="packets") for seed in SEEDS
    ]
    homes = [simulate(seed, 4, 1.0, quiet=True, flavour="home", view="packets") for seed in SEEDS]
    assert np.median([sent_again(one) for one in houses]) > 0.01
    assert np.median([sent_again(one) for one in homes]) < 0.001
    assert all(one.truth.empty and (one.capture.flows["label"] == NORMAL).all() for one in houses)
    largest = [one.capture.flows["orig_bytes"].max() for one in houses]
    assert np.median(largest) > 1e6


def test_a_house_has_trouble_of_its_own_kind_in_half_of_the_seeds() -> None:
    drawn = [simulate(seed, 3, 2.0, flavour=WIRELESS).truth["label"] for seed in range(40)]
    happened = set(pd.concat(drawn))
    assert 10 <= sum(one.empty for one in drawn) <= 34
    assert {"c2", "recon", "packet_loss"} < happened
    assert not happened & {"unauthorized_command", "mqtt_abuse", "device_silent"}
