"""Hosts ask for the neighbours that nothing vouches for, again and again, and leave the others
alone."""

import numpy as np
import pandas as pd
import pytest

from traffic.plant import Device, Plant
from traffic.simulation.flows import Ledger
from traffic.simulation.observation import make_questions
from traffic.simulation.plant import Stage
from traffic.simulation.scenario import Scene

PANEL, CONTROLLER, CLOCK, ROUTER, AFAR = (
    "10.0.0.2",
    "10.0.0.3",
    "10.0.0.4",
    "10.0.0.1",
    "198.51.100.7",
)
SLOTS = np.arange(100, 160)  # ten minutes


def questions(seed: int, **row: object) -> pd.DataFrame:
    """Who asked for whom, of one conversation that goes on for ten minutes."""
    plant = Plant(
        tuple(
            Device(f"d{i}", address, "plc")
            for i, address in enumerate((ROUTER, PANEL, CONTROLLER, CLOCK))
        )
    )
    ledger = Ledger(np.random.default_rng(seed))
    stage = Stage(ledger, 900.0, 1700.0, plant, "10.0.0.", CLOCK, (CLOCK,), 1.0, "industrial")
    given = {
        "src": PANEL,
        "dst": CONTROLLER,
        "proto": "tcp",
        "conn_state": "S1",
        "orig_pkts": 2,
        "resp_pkts": 1,
    }
    rows = pd.DataFrame(
        {"slot": SLOTS, **given, "orig_bytes": 200, "resp_bytes": 200, "exchanges": 60.0, **row}
    )
    return make_questions(
        Scene(stage, ledger.flow_table(), ledger.evidence_table(), packets=True), rows
    )


def pairs(asked: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(asked["src"], asked["dst"], strict=True))


@pytest.mark.parametrize("seed", range(8))
def test_datagrams_vouch_for_nobody(seed):
    asked = questions(seed, dst=CLOCK, proto="udp", conn_state="SF")
    assert pairs(asked) <= {(PANEL, CLOCK), (CLOCK, PANEL)}
    assert (
        asked.groupby("src").size() <= 60 * 10 / 25 + 1
    ).all()  # no entry ages sooner than in 25 s


def test_both_ask_sooner_or_later():
    asked = pd.concat(
        [questions(seed, dst=CLOCK, proto="udp", conn_state="SF") for seed in range(8)]
    )
    assert pairs(asked) == {(PANEL, CLOCK), (CLOCK, PANEL)}


def test_acknowledged_data_vouches_on_modern_systems():
    """Of those who send data, only old stacks ask, and seldom; who only acknowledges asks as with
    datagrams."""
    both = pd.concat([questions(seed) for seed in range(12)])
    listening = pd.concat([questions(seed, resp_bytes=52) for seed in range(12)])
    assert len(both) < len(listening) / 2
    assert (listening["src"] == CONTROLLER).sum() > 12 * 4


def test_an_only_answer_vouches_for_nobody():
    asked = pd.concat([questions(seed, exchanges=1.0) for seed in range(12)])
    assert (asked["src"] == CONTROLLER).sum() > 2 * (asked["src"] == PANEL).sum()


def test_strangers_are_the_routers():
    asked = pd.concat(
        [questions(seed, dst=AFAR, proto="udp", conn_state="SF") for seed in range(8)]
    )
    assert pairs(asked) <= {(PANEL, ROUTER), (ROUTER, PANEL)}
    assert (PANEL, ROUTER) in pairs(asked)


@pytest.mark.parametrize("dst", ["224.0.0.251", "10.0.0.255", "255.255.255.255", "ff02::2"])
def test_nobody_asks_for_a_group(dst):
    assert questions(0, dst=dst, proto="udp", conn_state="S0", resp_pkts=0).empty
