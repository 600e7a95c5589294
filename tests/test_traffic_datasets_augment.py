"""Cleaning and augmentation, as laws: what is kept is kept whole, and nothing is invented."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import CLOUD, DEVICE, PLC, capture, flow, unanswered

from traffic.capture import ACTIVITY_COLUMNS, Capture, spread
from traffic.datasets.augment import (
    drop_duplicates,
    drop_half_seen,
    mix,
    split_at_jumps,
    stretch,
    take_device,
    take_flows,
    thin,
)
from traffic.errors import UserError
from traffic.samples import make_samples

COUNTS = ["orig_pkts", "resp_pkts", "orig_bytes", "resp_bytes", "orig_syns"]
ADDRESSES = [DEVICE, PLC, CLOUD, "192.168.1.30"]


def _flow(ts: float, orig: str, resp: str, duration: float, pkts: int) -> dict[str, object]:
    sent = {"orig_pkts": float(pkts), "orig_ip_bytes": float(pkts * 61)}
    return flow(ts, orig, resp, 502, duration=duration, **sent)


flows = st.builds(
    _flow,
    st.floats(1e9, 1e9 + 400),
    st.sampled_from(ADDRESSES),
    st.sampled_from(ADDRESSES),
    st.one_of(st.just(np.nan), st.floats(0, 300)),
    st.integers(1, 40),
)
events = st.tuples(
    st.integers(10**8, 10**8 + 40), st.sampled_from(ADDRESSES), st.sampled_from(ADDRESSES),
    st.sampled_from(["arp_unanswered", "modbus_read"]), st.just(-1), st.integers(1, 9), st.just(1),
)  # fmt: skip


def tidy(made: Capture) -> Capture:
    """Evidence as sources give it: each slot, pair, kind and code once, sorted."""
    return stretch(made, 1.0)


captures = st.builds(
    lambda rows, seen: tidy(capture(*rows, evidence=seen)),
    st.lists(flows, min_size=1, max_size=8),
    st.lists(events, max_size=6),
)


def same(one: Capture, other: Capture) -> None:
    for name in ("flows", "activity", "evidence"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name))


def is_sound(made: Capture) -> None:
    """What every source guarantees."""
    assert made.flows["ts"].is_monotonic_increasing
    assert list(made.activity.columns) == ACTIVITY_COLUMNS
    assert not made.activity.duplicated(["flow", "slot"]).any()
    assert made.activity[["flow", "slot"]].apply(tuple, axis=1).is_monotonic_increasing
    assert set(made.activity["flow"]) == set(range(len(made.flows)))
    assert (made.activity[COUNTS] >= 0).all(axis=None)
    assert (made.activity["orig_syns"] <= made.activity["orig_pkts"]).all()


@given(captures)
def test_a_stretch_by_one_changes_nothing(made):
    again = stretch(made, 1.0)
    same(again, made)
    assert again.notes == made.notes


@given(captures, st.floats(0.05, 20))
def test_a_stretch_scales_times_and_keeps_every_packet(made, factor):
    longer = stretch(made, factor)
    is_sound(longer)
    np.testing.assert_allclose(longer.flows["duration"], made.flows["duration"] * factor)
    since = made.flows["ts"] - made.start_s
    np.testing.assert_allclose(longer.flows["ts"] - made.start_s, since * factor, atol=1e-5)
    whole, before = (one.activity.groupby("flow")[COUNTS].sum() for one in (longer, made))
    pd.testing.assert_frame_equal(whole, before)
    assert longer.evidence["count"].sum() == made.evidence["count"].sum()
    first = np.floor(longer.flows["ts"].to_numpy() / 10)[longer.activity["flow"]]
    assert (longer.activity["slot"].to_numpy() >= first).all()


def test_a_stretched_minute_is_two_minutes_of_half_the_rate():
    polls = capture(flow(1000.0, DEVICE, PLC, 502, duration=59.9, orig_pkts=600.0, resp_pkts=600.0))
    assert polls.activity["orig_pkts"].tolist() == [100] * 6
    slow = stretch(polls, 2.0)
    assert slow.activity["slot"].tolist() == list(range(100, 112))
    assert slow.activity["orig_pkts"].tolist() == [50] * 12
    assert slow.end_s - slow.start_s == 120


@given(captures, st.floats(0, 1), st.integers(0, 5))
def test_thinning_keeps_flows_whole_and_invents_nothing(made, share, seed):
    thinned = thin(made, share, seed)
    is_sound(thinned)
    assert made.flows.merge(thinned.flows.drop_duplicates()).shape[0] >= len(thinned.flows)
    packets = thinned.activity.groupby("flow")["orig_pkts"].sum().to_numpy()
    assert packets.tolist() == thinned.flows["orig_pkts"].tolist()
    keys = ["slot", "src", "dst", "kind", "code"]
    kept = thinned.evidence.merge(made.evidence, on=keys, suffixes=("", "_before"))
    assert len(kept) == len(thinned.evidence)
    assert (kept["count"] <= kept["count_before"]).all()


@given(captures)
def test_thinning_to_all_is_all_and_to_nothing_is_nothing(made):
    same(thin(made, 1.0), made)
    nothing = thin(made, 0.0)
    assert nothing.flows.empty
    assert nothing.activity.empty
    assert nothing.evidence.empty


def test_thinning_keeps_about_the_share():
    many = capture(*(flow(1000.0 + i, DEVICE, PLC, 502) for i in range(1000)))
    assert 250 < len(thin(many, 0.3).flows) < 350
    one, other = (thin(many, 0.3, seed).flows["ts"].tolist() for seed in (1, 2))
    assert one != other


@given(captures, captures, st.integers(-3, 30))
def test_mixing_keeps_the_flows_packets_and_evidence_of_both(one, other, slots):
    mixed = mix(one, other, {DEVICE: "192.168.1.99"}, 10.0 * slots)
    is_sound(mixed)
    assert len(mixed.flows) == len(one.flows) + len(other.flows)
    for name in COUNTS:
        assert mixed.activity[name].sum() == one.activity[name].sum() + other.activity[name].sum()
    counted = [part.evidence["count"].sum() for part in (mixed, one, other)]
    assert counted[0] == counted[1] + counted[2]
    times = sorted([*one.flows["ts"], *(other.flows["ts"] + 10.0 * slots)])
    assert mixed.flows["ts"].tolist() == times
    ends = ["id.orig_h", "id.resp_h"]
    of_device = [(part.flows[ends] == DEVICE).sum().sum() for part in (one, mixed)]
    assert of_device[0] == of_device[1]


def test_an_anomaly_of_one_device_becomes_another_s():
    asked = [
        (100, DEVICE, PLC, "modbus_read", 3, 4, 1),
        (101, DEVICE, "192.168.1.77", "arp_unanswered", -1, 2, 1),
    ]
    calls = [
        flow(1003.0, DEVICE, PLC, 502),
        unanswered(1011.0, DEVICE, CLOUD, 4444),
        flow(1005.0, PLC, CLOUD, 443),
    ]
    bot = capture(*calls, evidence=asked)
    mine = take_device(bot, DEVICE)
    assert mine.flows["id.resp_p"].tolist() == [502, 4444]
    assert mine.evidence["kind"].tolist() == ["modbus_read", "arp_unanswered"]
    beacon = take_flows(mine, (mine.flows["id.resp_p"] == 4444).to_numpy())
    assert beacon.evidence.empty  # polls and ARP are not the beacon's
    quiet = capture(*(flow(2000.0 + 10 * i, "192.168.7.5", "192.168.7.6", 502) for i in range(6)))
    mixed = mix(quiet, beacon, {DEVICE: "192.168.7.5"}, 1010.0)
    samples = make_samples(mixed).set_index(["device", "start_s"])
    assert samples.loc[("192.168.7.5", 2020.0), "unanswered_out"] == 1
    assert samples["unanswered_out"].sum() == 1


@given(captures)
def test_what_is_told_twice_is_counted_once(made):
    doubled = mix(made, made, {})
    once = drop_duplicates(doubled)
    distinct = made.flows.drop(columns="uid").drop_duplicates()
    assert len(once.flows) == len(distinct)
    is_sound(once)
    same(drop_duplicates(once), once)
    if len(distinct) < len(doubled.flows):
        twice = len(doubled.flows) - len(distinct)
        assert once.notes[-1] == f"{twice} flows told twice were counted once"


def test_cut_flows_at_the_ends_go_and_long_ones_stay():
    rest = flow(1001.0, DEVICE, PLC, 502, conn_state="OTH", history="Da", duration=2.0)
    begun = flow(1055.0, DEVICE, PLC, 502, conn_state="S1", history="ShAD", duration=1.0)
    whole = flow(1052.0, DEVICE, PLC, 502)
    session = flow(1000.0, DEVICE, PLC, 502, conn_state="OTH", history="DadA", duration=58.0)
    question = flow(1054.0, DEVICE, PLC, 53, proto="udp", conn_state="S0", history="D")
    made = capture(rest, begun, whole, session, question)
    kept = drop_half_seen(made)
    assert kept.flows["ts"].tolist() == [1000.0, 1052.0, 1054.0]
    assert kept.notes == ("2 flows cut by the capture's ends left out",)
    is_sound(kept)


@given(captures)
def test_only_short_tcp_flows_at_the_ends_are_left_out(made):
    kept = drop_half_seen(made)
    is_sound(kept)
    gone = made.flows.merge(kept.flows, how="left", indicator=True).query("_merge == 'left_only'")
    assert (gone["duration"].fillna(0) <= 300).all()
    assert set(gone["conn_state"]) <= {"OTH", "SHR", "RSTRH", "S0", "S1", "S2", "S3"}


@given(captures, captures, st.integers(200, 400))
def test_a_jump_of_the_clock_cuts_a_capture(one, other, slots):
    joined = mix(one, other, {}, 10.0 * slots)
    parts = split_at_jumps(joined, 600.0)
    assert sum(len(part.flows) for part in parts) == len(joined.flows)
    sent = [part.activity["orig_pkts"].sum() for part in (*parts, joined)]
    assert sum(sent[:-1]) == sent[-1]
    assert sum(part.evidence["count"].sum() for part in parts) == joined.evidence["count"].sum()
    gap_s = other.start_s + 10.0 * slots - one.end_s
    assert len(parts) == (2 if gap_s > 600 else 1)


def test_a_capture_without_a_jump_is_one_part_and_an_empty_one_none():
    made = capture(flow(1000.0, DEVICE, PLC, 502), flow(4000.0, DEVICE, PLC, 502))
    (part,) = split_at_jumps(made)
    same(part, made)
    assert len(split_at_jumps(made, 600.0)) == 2
    nothing = Capture(made.flows.iloc[:0], spread(made.flows.iloc[:0]))
    assert split_at_jumps(nothing) == []
    assert stretch(nothing, 2.0) is nothing


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (lambda made: stretch(made, 0), "cannot be stretched by 0; expected a factor above 0"),
        (lambda made: thin(made, 1.1), "a share of 1.1 cannot be kept; expected 0 to 1"),
        (lambda made: mix(made, made, {}, 5.0), "later_s is 5.0; expected a multiple of 10"),
    ],
)
def test_what_cannot_be_is_said(mistake, words):
    with pytest.raises(UserError, match=words):
        mistake(capture(flow(1000.0, DEVICE, PLC, 502)))
