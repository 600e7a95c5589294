"""The text of a window, reviewed like code."""

import numpy as np
from tables import CLOUD, DEVICE, PLC, capture, flow, unanswered

from prompts.window_text import (
    PAST,
    TEXT_COLUMNS,
    VOCABULARY,
    quantise,
    render_windows,
    text_columns,
)
from traffic.samples import make_samples
from traffic.windows import make_windows


def windows_of(*rows, evidence=()):
    return make_windows(make_samples(capture(*rows, evidence=list(evidence))))


def test_levels_by_hand():
    samples = make_samples(capture(flow(0.0, DEVICE, CLOUD, 443, duration=0.0, orig_pkts=1000.0)))
    levels = quantise(samples)
    assert levels["out_pkts"].tolist() == [20]  # 2 * log2(1001) = 19.93
    assert levels["in_pkts"].tolist() == [5]  # 2 * log2(5) = 4.64
    assert levels["external_peers"].tolist() == [2]


def test_golden_polling_and_a_beacon():
    rows = [flow(10.0 * i, DEVICE, PLC, 502, duration=0.5, id__orig_p=40000 + i) for i in range(6)]
    rows += [unanswered(5.0 + 20 * i, DEVICE, CLOUD, 4444, id__orig_p=50000 + i) for i in range(3)]
    evidence = [(slot, DEVICE, PLC, "modbus_read", 3, 10, 2) for slot in range(6)]
    polling = "reads 7 registers 2 3 control 7"
    beaten = f"peers 3 2 {{new}}tcp 3 hosts 3 unanswered 2 {polling} other 4"
    quiet = f"sent 5 16 got 5 17 peers 2 tcp 2 {polling}"
    both = "sent 6 18 got 5 17 "
    assert render_windows(windows_of(*rows, evidence=evidence))[0].splitlines() == [
        "past known 2 since 2 repeats 6 every 7 streak 4 nameless 4 4 spaced 9 vain 2 literal 2 held 7",
        both + beaten.format(new="new 3 2 "),
        quiet,
        both + beaten.format(new=""),
        quiet,
        both + beaten.format(new=""),
        quiet,
    ]


def test_silence_is_one_word():
    rows = [flow(10.0 * i, DEVICE, CLOUD, 443, duration=0.0, id__orig_p=40000 + i) for i in (0, 5)]
    assert render_windows(windows_of(*rows))[0].splitlines()[2:6] == ["quiet"] * 4


def test_no_text_says_who():
    words = {*VOCABULARY}
    rows = [flow(10.0 * i, DEVICE, CLOUD, 8883, id__orig_p=40000 + i) for i in range(12)]
    for text in render_windows(windows_of(*rows)):
        assert {*text.replace("\n", " ").split()} <= words


def test_the_columns_are_what_the_text_holds():
    windows = windows_of(
        *(flow(10.0 * i, DEVICE, CLOUD, 443, duration=0.0, id__orig_p=40000 + i) for i in range(9))
    )
    columns = text_columns(windows)
    assert columns.shape == (len(windows), 6 * len(TEXT_COLUMNS) + len(PAST))
    texts = np.array(render_windows(windows))
    same = (columns.to_numpy()[:, None] == columns.to_numpy()[None]).all(axis=2)
    assert ((texts[:, None] == texts[None]) == same).all()


def test_nothing_in_nothing_out():
    assert render_windows(windows_of()) == []
