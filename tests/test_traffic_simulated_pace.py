"""Packets of simulated flows pass when a capture would see them, and none is lost on the way."""

import numpy as np
import pandas as pd
import pytest

from traffic.simulation.flows import Ledger, exchange, session
from traffic.simulation.observation import gathered


def flows(ledger: Ledger) -> pd.DataFrame:
    table = ledger.flow_table()
    return table.astype(dict.fromkeys(("ts", "duration", "exchanges"), float)).assign(
        steady=table["steady"]
    )


def polled(period_s: float, length_s: float = 100.0, **more: object) -> pd.DataFrame:
    ledger = Ledger(np.random.default_rng(0))
    given = {
        "exchanges": length_s / period_s,
        "ask_bytes": 12,
        "answer_bytes": 30,
        "late": 0.0,
        **more,
    }
    session(ledger, np.array([1000.0]), "10.0.0.1", "10.0.0.2", 502, duration=length_s, **given)
    return flows(ledger)


def test_an_exchange_passes_at_once():
    active = gathered(polled(25.0, 75.0, exchanges=4), np.random.default_rng(0))
    assert active["slot"].tolist() == [
        100,
        102,
        105,
        107,
    ]  # at 0, 25, 50 and 75 s, those between a little late
    assert (active["orig_pkts"] >= 2).all()  # the question, and the acknowledgement of the answer
    assert active["orig_syns"].tolist() == [1, 0, 0, 0]


def test_a_fast_poll_is_steady():
    active = gathered(polled(0.5), np.random.default_rng(0))
    assert len(active) == 11
    assert active["orig_pkts"][1:10].between(38, 44).all()  # 20 exchanges of two packets


@pytest.mark.parametrize("period_s", [0.5, 3.0, 7.0, 25.0])
@pytest.mark.parametrize("steady", [True, False])
def test_every_packet_passes_once(period_s, steady):
    table = polled(period_s, steady=steady)
    exchange(
        ledger := Ledger(np.random.default_rng(1)), np.array([1003.0]), "10.0.0.1", "10.0.0.3", 53
    )
    table = pd.concat([table, flows(ledger)], ignore_index=True)
    active = gathered(table, np.random.default_rng(0))
    sums = active.groupby("flow")[["orig_pkts", "resp_pkts"]].sum()
    np.testing.assert_array_equal(sums, table[["orig_pkts", "resp_pkts"]].to_numpy(float))
    assert not active.duplicated(["flow", "slot"]).any()


@pytest.mark.parametrize("period_s", [0.5, 3.0, 7.0, 25.0])
def test_every_byte_of_a_poll_passes_once(period_s):
    table = polled(period_s)
    active = gathered(table, np.random.default_rng(0))
    sums = active[["orig_bytes", "resp_bytes"]].sum()
    assert sums.tolist() == table[["orig_ip_bytes", "resp_ip_bytes"]].iloc[0].tolist()


def test_signs_of_life_pass_at_their_times_and_count_for_no_exchange():
    table = polled(0.5, alive_s=30.0)
    active = gathered(table, np.random.default_rng(0)).set_index("slot")
    assert active["orig_pkts"].sum() == table["orig_pkts"].iloc[0]
    plain = active["orig_pkts"].loc[[101, 102, 104]].mean()
    assert (active["orig_pkts"].loc[[103, 106, 109]] - plain).round().tolist() == [
        2,
        2,
        2,
    ]  # at 30, 60 and 90 s
    assert active["spoken"].loc[101:108].between(19, 21).all()
