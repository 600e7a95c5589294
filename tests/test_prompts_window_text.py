"""The text of a window, reviewed like code."""

import numpy as np
import pandas as pd
import pytest
from tables import CLOUD, DEVICE, PLC, capture, flow, unanswered

from prompts.window_text import (
    LEVELS,
    QUIET,
    fact_names,
    make_levels,
    quantise,
    render_levels,
    render_windows,
    text_columns,
    vocabulary,
)
from traffic.samples import COLUMNS, make_samples
from traffic.window_facts import CANDIDATES, lay_out
from traffic.windows import make_windows


def windows_of(*rows, evidence=()):
    return make_windows(make_samples(capture(*rows, evidence=list(evidence))))


def edges() -> pd.DataFrame:
    return pd.read_csv("prompts/window_facts.csv", index_col="fact")


def test_facts_are_candidates_once_each_and_their_levels_rise():
    table = edges()
    assert tuple(table.index) == fact_names()
    assert table.index.is_unique
    assert set(fact_names()) <= set(CANDIDATES)
    for _, row in table.iterrows():
        known = row.dropna().to_numpy()
        assert len(known) == row.notna().to_numpy()[: len(known)].sum()  # NaN only at the end
        assert (np.diff(known) > 0).all()


def test_a_level_counts_the_edges_that_a_number_reaches():
    table = edges()
    name = table.index[table.notna().all(axis=1)][0]
    place, bounds = fact_names().index(name), table.loc[name].to_numpy()
    rows = np.zeros((4, len(fact_names())), np.float32)
    rows[:, place] = [0, bounds[0] * 0.999, bounds[3], bounds[-1] * 2]
    levels = quantise(rows)
    assert levels[:, place].tolist() == [0, 1, 5, LEVELS]
    assert render_levels(levels[:1]) == [QUIET]
    assert render_levels(levels[1:]) == [f"{name}={level}" for level in (1, 5, LEVELS)]


def test_golden_polling_and_a_beacon():
    rows = [flow(10.0 * i, DEVICE, PLC, 502, duration=0.5, id__orig_p=40000 + i) for i in range(6)]
    rows += [unanswered(5.0 + 20 * i, DEVICE, CLOUD, 4444, id__orig_p=50000 + i) for i in range(3)]
    evidence = [(slot, DEVICE, PLC, "modbus_read", 3, 10, 2) for slot in range(6)]
    words = render_windows(windows_of(*rows, evidence=evidence))[0].split()
    assert words == GOLDEN.split()


def test_no_text_says_who():
    words = {*vocabulary()}
    rows = [flow(10.0 * i, DEVICE, CLOUD, 8883, id__orig_p=40000 + i) for i in range(12)]
    for text in render_windows(windows_of(*rows)):
        assert {*text.split()} <= words


@pytest.mark.parametrize("busy", [False, True])
def test_the_columns_are_what_the_text_holds(busy):
    rows = [
        flow(10.0 * i, DEVICE, CLOUD, 443, duration=0.0, id__orig_p=40000 + i * busy)
        for i in range(9)
    ]
    windows = windows_of(*rows)
    columns = text_columns(lay_out(windows), COLUMNS)
    assert columns.shape == (len(windows), len(fact_names()))
    assert (columns.to_numpy() == make_levels(windows)).all()
    expected = [
        " ".join(f"{name}={level}" for name, level in row.items() if level) or QUIET
        for row in columns.to_dict("records")
    ]
    assert render_windows(windows) == expected


def test_nothing_in_nothing_out():
    assert render_windows(windows_of()) == []


GOLDEN = """
out_pkts.mean=4 in_pkts.mean=4 out_bytes.mean=3 tcp_out.mean=5 external_peers.mean=4
unanswered_out.mean=4 modbus_reads_out.mean=8 modbus_codes.mean=4 modbus_registers.mean=6
pkts_control.mean=3 pkts_other.mean=3 new_peers.mean=3 new_peers_no_dns.mean=2 streak.mean=6
literal_peers.mean=4 never_answered.mean=4 out_pkts.max=4 in_pkts.max=3 out_bytes.max=2
in_bytes.max=3 tcp_out.max=3 external_peers.max=2 unanswered_out.max=2 modbus_reads_out.max=6
modbus_codes.max=2 modbus_registers.max=3 pkts_other.max=2 new_peers.max=3 literal_period_s.max=7
never_answered.max=2 tcp_out.spread=4 unanswered_out.spread=4 pkts_other.spread=5
new_peers.spread=4 repeats.spread=2 streak.spread=5 literal_period_s.spread=6
"""
