"""Simulated plants: the same for the same seed, true to their labels, and rows as Zeek writes
them."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from traffic.capture import ACTIVITY_COLUMNS, COUNTS, EVIDENCE_COLUMNS, FLOW_COLUMNS, SAMPLE_S
from traffic.errors import UserError
from traffic.labels import ATTACKS, FAULTS, LABELS, NORMAL
from traffic.plant import is_local, load_plant
from traffic.simulation.distributions import beats, pauses
from traffic.simulation.flows import Ledger, attempt, session
from traffic.simulation.scenario import merged, settled
from traffic.simulation.simulate import Simulation, simulate, write_simulation

SEEDS = range(8)
# Their other side is beyond the router.
ONE_SIDED = {"exfiltration", "c2"}


@cache
def plant(seed: int, *scenarios: str) -> Simulation:
    return simulate(seed, devices=15, hours=0.5, scenarios=scenarios or None)


def tables(simulation: Simulation) -> list[pd.DataFrame]:
    capture = simulation.capture
    return [capture.flows, capture.activity, capture.evidence, simulation.truth]


def test_the_same_seed_gives_the_same_tables() -> None:
    for first, again in zip(
        tables(plant(3)), tables(simulate(3, devices=15, hours=0.5)), strict=True
    ):
        pd.testing.assert_frame_equal(first, again)
    assert plant(3).plant == simulate(3, devices=15, hours=0.5).plant


def test_another_seed_gives_another_plant() -> None:
    assert plant(1).plant != plant(2).plant
    assert plant(1).capture.start_s != plant(2).capture.start_s


@pytest.mark.parametrize("seed", SEEDS)
def test_tables_keep_the_contract_of_a_capture(seed: int) -> None:
    capture = plant(seed).capture
    flows, activity, evidence = capture.flows, capture.activity, capture.evidence
    assert set(FLOW_COLUMNS) <= set(flows)
    assert list(activity) == ACTIVITY_COLUMNS
    assert list(evidence) == EVIDENCE_COLUMNS
    assert (flows[["ts", *COUNTS]].dtypes == "float64").all()
    assert (flows[["id.orig_p", "id.resp_p"]].dtypes == "int64").all()
    assert (activity.dtypes == "int64").all()
    assert flows["ts"].is_monotonic_increasing
    assert flows.index.equals(pd.RangeIndex(len(flows)))
    assert (
        flows[["ts", "id.orig_h", "id.resp_h", "proto", "conn_state", "orig_pkts", "resp_pkts"]]
        .notna()
        .all(axis=None)
    )
    assert set(flows["label"]) <= set(LABELS)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_flow_has_an_end_in_the_plant(seed: int) -> None:
    simulation = plant(seed)
    flows = simulation.capture.flows
    near = is_local(flows["id.orig_h"], simulation.plant, ()) | is_local(
        flows["id.resp_h"], simulation.plant, ()
    )
    assert set(flows.loc[~near, "id.orig_h"]) <= {
        "0.0.0.0",
        "::",
    }  # who asks for an address has none


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_passes_outside_the_capture(seed: int) -> None:
    simulation = plant(seed)
    flows = simulation.capture.flows
    end = flows["ts"] + flows["duration"].fillna(0)
    assert flows["ts"].iloc[0] >= simulation.capture.start_s
    assert end.max() - flows["ts"].min() <= 1800
    assert simulation.truth["start_s"].min() >= flows["ts"].min() - 600
    assert (simulation.truth["start_s"] < simulation.truth["end_s"]).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_activity_holds_every_packet_of_the_flows_once(seed: int) -> None:
    capture = plant(seed).capture
    sums = (
        capture.activity.groupby("flow")[["orig_pkts", "resp_pkts"]]
        .sum()
        .reindex(capture.flows.index)
    )
    counted = ~capture.flows["history"].fillna("").str.startswith(
        "C"
    )  # dropped for bad checksums: at least one, not none
    np.testing.assert_array_equal(
        sums[counted], capture.flows.loc[counted, ["orig_pkts", "resp_pkts"]]
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_states_agree_with_the_packets(seed: int) -> None:
    flows = plant(seed).capture.flows
    tcp, udp = flows[flows["proto"] == "tcp"], flows[flows["proto"] == "udp"]
    silent = tcp[tcp["conn_state"] == "S0"]
    assert (silent["resp_pkts"] == 0).all()
    assert (silent["orig_pkts"] >= 1).all()
    assert (tcp.loc[tcp["conn_state"] == "REJ", "resp_pkts"] >= 1).all()
    assert (tcp.loc[tcp["conn_state"].isin(["SF", "S1", "RSTO", "RSTR"]), "resp_pkts"] >= 1).all()
    assert ((udp["resp_pkts"] > 0) == udp["conn_state"].isin(["SF", "SHR"])).all()
    lone = flows["orig_pkts"] + flows["resp_pkts"] == 1
    assert flows.loc[lone, "duration"].isna().all()
    assert (flows["duration"].dropna() >= 0).all()
    assert (flows["orig_ip_bytes"] >= 20 * flows["orig_pkts"]).all()


def test_a_handful_of_seeds_holds_every_label() -> None:
    told = pd.concat([plant(seed).truth for seed in SEEDS])
    assert set(told["label"]) == {*ATTACKS, *FAULTS}


@pytest.mark.parametrize("label", sorted({*ATTACKS, *FAULTS} - ONE_SIDED))
def test_a_label_has_a_culprit_and_someone_who_suffers(label: str) -> None:
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
    flows = pd.concat(
        [simulate(seed, devices=15, hours=0.3, quiet=True).capture.flows for seed in range(6)]
    )
    vain = flows[(flows["proto"] == "tcp") & (flows["conn_state"] == "S0")]
    attempts = vain.groupby(["id.orig_h", "id.resp_h", "id.resp_p"]).size()
    assert (attempts >= 10).sum() >= 3
    assert (vain["label"] == NORMAL).all()


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
    spoke = ((sent["id.orig_h"] == device) & (sent["orig_pkts"] > 0)) | (
        (sent["id.resp_h"] == device) & (sent["resp_pkts"] > 0)
    )
    assert not spoke.any()


@pytest.mark.parametrize("seed", range(5))
def test_malware_calls_its_controller_again_and_again(seed: int) -> None:
    simulation = plant(seed, "c2")
    flows = simulation.capture.flows
    calls = flows[flows["label"] == "c2"]
    assert calls["id.orig_h"].nunique() == 1
    spans = (calls["ts"] + calls["duration"].fillna(0)).groupby(calls["id.resp_h"]).max()
    spans -= calls.groupby("id.resp_h")[
        "ts"
    ].min()  # beside its controller there may be a host of the next binary
    controller, length = calls[calls["id.resp_h"] == spans.idxmax()], spans.max()
    assert length > 120
    tries = controller.drop_duplicates("id.orig_p")["ts"]
    held = (
        controller["duration"].max() > 60
    )  # a session of minutes, cut now and then, or calls one after the other
    assert held or 2 < np.median(np.diff(tries)) < 600


@pytest.mark.parametrize("seed", range(5))
def test_lost_packets_show_where_the_truth_says_so(seed: int) -> None:
    simulation = plant(seed, "packet_loss")
    evidence, truth = simulation.capture.evidence, simulation.truth
    source = truth[(truth["label"] == "packet_loss") & (truth["direction"] == "source")]
    resent = evidence[evidence["kind"] == "retransmission"]
    for row in source.itertuples():
        inside = (resent["slot"] * SAMPLE_S < row.end_s) & (
            (resent["slot"] + 1) * SAMPLE_S > row.start_s
        )
        assert (
            resent[inside & ((resent["src"] == row.device) | (resent["dst"] == row.device))][
                "count"
            ].sum()
            > 0
        )


def test_a_dead_port_refuses_or_stays_silent_where_the_truth_says_so() -> None:
    for seed in range(4):
        simulation = plant(seed, "service_down")
        flows = simulation.capture.flows
        for row in simulation.truth[simulation.truth["direction"] == "target"].itertuples():
            tries = flows[
                (flows["id.orig_h"] == row.device) & flows["ts"].between(row.start_s, row.end_s)
            ]
            assert tries["conn_state"].isin(["S0", "REJ"]).any()


def test_faults_leave_flows_unlabelled_because_their_intervals_are_the_label() -> None:
    simulation = plant(2, "flapping", "congestion")
    assert (simulation.capture.flows["label"] == NORMAL).all()
    assert set(simulation.truth["label"]) == {"flapping", "congestion"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"scenarios": ["earthquake"]}, "no scenario is called earthquake"),
        ({"devices": 0}, "devices is 0"),
        ({"hours": 0.0}, "hours is 0.0"),
    ],
)
def test_impossible_plants_are_refused(arguments: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        simulate(0, **arguments)


def test_one_device_is_a_plant() -> None:
    simulation = simulate(5, devices=1, hours=0.2)
    assert len(simulation.plant.devices) == 1
    assert len(simulation.capture.flows)


def test_a_simulation_is_read_again_from_its_folder(tmp_path: Path) -> None:
    from traffic.zeek import read_zeek

    simulation = plant(0)
    write_simulation(simulation, tmp_path / "run")
    flows = read_zeek(tmp_path / "run" / "conn.log").flows
    assert len(flows) == len(simulation.capture.flows)
    np.testing.assert_allclose(flows["orig_pkts"], simulation.capture.flows["orig_pkts"])
    assert load_plant(tmp_path / "run" / "plant.yaml") == simulation.plant
    truth = pd.read_csv(tmp_path / "run" / "truth.csv")
    assert list(truth["label"]) == list(simulation.truth["label"])


def test_attempts_are_rows_as_zeek_cuts_them() -> None:
    ledger = Ledger(np.random.default_rng(0))
    attempt(ledger, np.array([100.0]), "10.0.0.1", "192.0.2.1", 443, tries="linux")
    flows = ledger.flow_table().sort_values("ts")
    assert flows["ts"].tolist() == [
        100.0,
        107.0,
    ]  # SYNs at 0, 1 and 3 s are one row, the one at 7 s the next
    assert flows["orig_pkts"].tolist() == [3, 1]
    assert flows["id.orig_p"].nunique() == 1
    assert flows["duration"].isna().tolist() == [False, True]


def test_a_session_without_data_has_no_data_in_its_history() -> None:
    ledger = Ledger(np.random.default_rng(0))
    session(ledger, np.array([0.0]), "10.0.0.1", "10.0.0.2", 80, duration=0.1, exchanges=0)
    flow = ledger.flow_table().iloc[0]
    assert (flow["orig_bytes"], flow["resp_bytes"]) == (0, 0)
    assert "D" not in flow["history"].upper()


def test_times_touched_become_stretches_of_whole_slots() -> None:
    assert merged(np.array([3.0, 12.0, 200.0])) == [(0.0, 20.0), (200.0, 210.0)]
    assert merged(np.array([3.0, 200.0]), join_s=300) == [(0.0, 210.0)]
    assert merged(np.array([3.0]), least=2) == []


def test_what_comes_from_a_device_goes_before_what_it_suffers() -> None:
    suffers = ("a", 0.0, 100.0, "congestion", "target", "")
    breaks = ("a", 40.0, 60.0, "flapping", "source", "")
    other = ("b", 0.0, 100.0, "congestion", "target", "")
    assert settled([suffers, breaks, other]) == [
        breaks,
        ("a", 0.0, 40.0, "congestion", "target", ""),
        ("a", 60.0, 100.0, "congestion", "target", ""),
        other,
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_no_device_has_two_truths_at_a_time(seed: int) -> None:
    for _, rows in plant(seed).truth.sort_values("start_s").groupby("device"):
        assert (rows["end_s"].to_numpy()[:-1] <= rows["start_s"].to_numpy()[1:]).all()


def test_rhythms_stay_within_their_time() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        steady, backing = beats(rng, 100, 500, 7.0, 0.3), pauses(rng, 100, 500)
        assert ((steady >= 100) & (steady < 500)).all()
        assert ((backing > 100) & (backing < 500)).all()
        assert 52 <= len(steady) <= 60  # 400 s / 7 s = 57
        assert (np.diff(backing) > 0).all()
