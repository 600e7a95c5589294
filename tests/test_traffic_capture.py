"""Packets of a flow spread over its slots: by hand, and as laws."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from traffic.capture import (
    ACTIVITY_COLUMNS,
    ACTIVITY_COUNTS,
    FLOW_COLUMNS,
    Capture,
    join_evidence,
    spread,
)

_BASE = {
    **dict.fromkeys(FLOW_COLUMNS, np.nan),
    **{
        "ts": 1000.0, "id.orig_h": "10.0.0.1", "id.orig_p": 5, "id.resp_h": "10.0.0.2",
        "id.resp_p": 502,
    },
    **{"proto": "tcp", "conn_state": "SF", "history": "ShADad", "uid": "C", "service": None},
}  # fmt: skip


def make_flows(*rows: dict) -> pd.DataFrame:
    flows = pd.DataFrame([{**_BASE, **row} for row in rows], columns=FLOW_COLUMNS)
    return flows.astype(
        {c: "float64" for c in FLOW_COLUMNS if c.endswith(("_bytes", "_pkts")) or c == "duration"}
    )


def rows_of(activity: pd.DataFrame) -> list[tuple[int, ...]]:
    counts = activity[["flow", "slot", *ACTIVITY_COUNTS]].to_numpy()
    return [tuple(int(value) for value in row) for row in counts]


def test_spread_three_packets_over_twenty_seconds_put_one_in_each_slot() -> None:
    flows = make_flows(
        {
            "duration": 20.0, "orig_pkts": 3, "orig_ip_bytes": 300, "resp_pkts": 2,
            "resp_ip_bytes": 90,
        }
    )  # fmt: skip
    # ts 1000, 1010, 1020 there; 1000 and 1020 back.
    expected = [(0, 100, 1, 1, 100, 45, 1), (0, 101, 1, 0, 100, 0, 0), (0, 102, 1, 1, 100, 45, 0)]
    assert rows_of(spread(flows)) == expected


def test_spread_a_packet_at_the_edge_belongs_to_the_later_slot() -> None:
    flows = make_flows(
        {"ts": 1005.0, "duration": 10.0, "orig_pkts": 5, "orig_ip_bytes": 50, "resp_pkts": 0}
    )
    # 1005, 1007.5 | 1010, 1012.5, 1015
    assert rows_of(spread(flows)) == [(0, 100, 2, 0, 20, 0, 1), (0, 101, 3, 0, 30, 0, 0)]


def test_spread_gives_a_flow_without_counts_its_first_slot() -> None:
    assert rows_of(spread(make_flows({"ts": 999.9, "history": "", "conn_state": "OTH"}))) == [
        (0, 99, 0, 0, 0, 0, 0)
    ]


def test_spread_counts_packets_that_zeek_dropped_for_their_checksum() -> None:
    flows = make_flows({"orig_pkts": 0, "resp_pkts": 0, "history": "Cc", "conn_state": "OTH"})
    assert rows_of(spread(flows)) == [(0, 100, 1, 1, 0, 0, 0)]


def test_spread_every_packet_of_an_unanswered_attempt_is_a_syn() -> None:
    flows = make_flows(
        {"duration": 15.0, "orig_pkts": 4, "resp_pkts": 0, "conn_state": "S0", "history": "S"}
    )
    # 1000, 1005 | 1010, 1015
    assert [row[2:] for row in rows_of(spread(flows))] == [(2, 0, 0, 0, 2), (2, 0, 0, 0, 2)]


def test_spread_data_of_a_one_sided_capture_are_no_syns() -> None:
    flows = make_flows(
        {"duration": 15.0, "orig_pkts": 4, "resp_pkts": 0, "conn_state": "S0", "history": "SAD"}
    )
    assert spread(flows)["orig_syns"].tolist() == [1, 0]


def test_spread_a_day_of_five_packets_is_at_most_six_rows() -> None:
    flows = make_flows(
        {
            "duration": 86400.0, "orig_pkts": 3, "orig_ip_bytes": 10, "resp_pkts": 2,
            "resp_ip_bytes": 2,
        }
    )  # fmt: skip
    # There at 0, half a day and a day, back at 0 and a day; 10 bytes over 3 packets: 3.3, 6.7, 10
    # so far.
    expected = [(0, 100, 1, 1, 3, 1, 1), (0, 4420, 1, 0, 4, 0, 0), (0, 8740, 1, 1, 3, 1, 0)]
    assert rows_of(spread(flows)) == expected


def test_spread_survives_a_length_that_lies() -> None:
    flows = make_flows(
        {"duration": 3e10, "orig_pkts": 2, "resp_pkts": 0}, {"duration": -5.0, "orig_pkts": 1}
    )
    assert rows_of(spread(flows))[0][:2] == (0, 100)
    assert len(spread(flows)) == 3


def test_spread_empty_in_empty_out() -> None:
    activity = spread(make_flows({}).iloc[:0])
    assert list(activity.columns) == ACTIVITY_COLUMNS
    assert activity.empty


_flows = st.lists(
    st.fixed_dictionaries(
        {
            "ts": st.floats(0, 2e9),
            "duration": st.one_of(st.just(np.nan), st.floats(0, 300), st.floats(0, 1e6)),
            "orig_pkts": st.one_of(st.just(np.nan), st.integers(0, 40), st.integers(0, 100_000)),
            "resp_pkts": st.one_of(st.just(np.nan), st.integers(0, 40)),
            "orig_ip_bytes": st.one_of(st.just(np.nan), st.integers(0, 10**9)),
            "conn_state": st.sampled_from(["S0", "SF", "OTH"]),
            "history": st.sampled_from(["S", "ShADad", "D", "^d"]),
        }
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(_flows)
def test_spread_keeps_every_packet_and_byte_within_the_flows_time(rows: list[dict]) -> None:
    flows = make_flows(*rows)
    activity = spread(flows)
    sums = activity.groupby("flow")[["orig_pkts", "resp_pkts", "orig_bytes"]].sum()
    assert sums.index.tolist() == list(range(len(flows)))
    assert sums["orig_pkts"].tolist() == flows["orig_pkts"].fillna(0).tolist()
    assert sums["resp_pkts"].tolist() == flows["resp_pkts"].fillna(0).tolist()
    sent = flows["orig_ip_bytes"].where(flows["orig_pkts"] > 0, 0).fillna(0)
    assert sums["orig_bytes"].tolist() == sent.tolist()
    start, end = flows["ts"], flows["ts"] + flows["duration"].fillna(0)
    flow = activity["flow"].to_numpy()
    assert (activity["slot"].to_numpy() >= np.floor(start / 10).to_numpy()[flow]).all()
    assert (activity["slot"].to_numpy() <= np.floor(end / 10).to_numpy()[flow]).all()
    assert (activity[["orig_pkts", "resp_pkts", "orig_bytes", "orig_syns"]] >= 0).all(axis=None)
    assert not activity.duplicated(["flow", "slot"]).any()
    most = flows["orig_pkts"].fillna(0) + flows["resp_pkts"].fillna(0) + 1
    assert (activity.groupby("flow").size() <= most).all()


@settings(max_examples=40, deadline=None)
@given(_flows)
def test_spread_does_not_depend_on_the_flows_around(rows: list[dict]) -> None:
    whole = spread(make_flows(*rows))
    for i, row in enumerate(rows):
        alone = spread(make_flows(row)).drop(columns="flow")
        pd.testing.assert_frame_equal(
            whole[whole["flow"] == i].drop(columns="flow").reset_index(drop=True), alone
        )


def test_join_evidence_adds_up_what_is_the_same() -> None:
    piece = {
        "slot": 1, "src": "a", "dst": "b", "kind": "reset", "code": -1, "count": 2, "distinct": 0,
    }  # fmt: skip
    joined = join_evidence([pd.DataFrame([piece]), pd.DataFrame([piece, {**piece, "slot": 2}])])
    assert joined[["slot", "count"]].to_numpy().tolist() == [[1, 4], [2, 2]]
    assert join_evidence([]).empty


def test_capture_starts_and_ends_with_its_slots() -> None:
    flows = make_flows({"ts": 1003.0, "duration": 20.0, "orig_pkts": 2})
    capture = Capture(flows, spread(flows))
    assert (capture.start_s, capture.end_s) == (1000.0, 1030.0)
    empty = flows.iloc[:0]
    assert np.isnan(Capture(empty, spread(empty)).start_s)
