"""How a device without an incident is doing, from verdicts written by hand: a letter is a window,
one every 10 s."""

import numpy as np
import pandas as pd
import pytest
from frames import SERVER, dnp3_message, read, talk
from hypothesis import given
from hypothesis import strategies as st
from tables import CLOUD, DEVICE, PLC, capture, flow, unanswered

from assistant.detection.alert import is_shown, make_alert
from assistant.detection.runs import VerdictRun
from assistant.diagnosis.grounding import check
from assistant.diagnosis.health import (
    Condition,
    describe_health,
    find_stretches,
    judge_health,
    name_health,
)
from assistant.facts.traffic_view import TrafficView
from traffic.labels import LABELS
from traffic.samples import make_samples

START_S = 1_000_000_000.0
# A small letter is a decided window, a capital an abstained one; "?" abstains on normal itself.
LETTERS = {
    ".": "normal", "?": "normal", "g": "congestion", "d": "ddos", "x": "exfiltration", "v": "service_down", "c": "c2",
    "l": "packet_loss", "r": "recon",
}  # fmt: skip


def verdict_table(letters: str, device: str = DEVICE) -> pd.DataFrame:
    starts = START_S + 10.0 * np.arange(len(letters))
    table = pd.DataFrame({"device": device, "start_s": starts, "end_s": starts + 60.0})
    table["label"] = [LETTERS[letter.lower()] for letter in letters]
    table["abstained"] = [letter == "?" or letter.isupper() for letter in letters]
    table["direction"] = "source"
    table["probability"] = 0.5
    for label in LABELS:
        table[f"p_{label}"] = np.where(table["label"] == label, 0.5, 0.5 / (len(LABELS) - 1))
    return table


def view_of(*flows: dict[str, object], evidence: list[tuple[object, ...]] = ()) -> TrafficView:
    made = capture(flow(START_S, DEVICE, PLC, 502), *flows, evidence=list(evidence))
    return TrafficView(made, make_samples(made))


def download(second: float = 4000.0, **more: object) -> dict[str, object]:
    """44 MB received over one answered connection in 100 s, as a firmware update is."""
    sent = {"orig_pkts": 30_000.0, "orig_bytes": 8e5, "orig_ip_bytes": 8e5}
    got = {"resp_pkts": 30_000.0, "resp_bytes": 44e6, "resp_ip_bytes": 44e6}
    known = {"duration": 100.0, **sent, **got}
    return flow(START_S + second, DEVICE, CLOUD, 443, **(known | more))


def health(letters: str, view: TrafficView | None = None) -> tuple[str, str]:
    judged = judge_health(DEVICE, verdict_table(letters), view or view_of(download()))
    return judged.standing, judged.reason


def describe(letters: str, view: TrafficView | None = None) -> Condition:
    """The words for a device with these windows."""
    view, verdicts = view or view_of(download()), verdict_table(letters)
    return describe_health(judge_health(DEVICE, verdicts, view), verdicts, view)


# Twelve undecided windows cover 170 s, 48 times which is 8,160 s, and 811 windows cover just that.
HOUR, ODD = "." * 400, "G" * 12


@pytest.mark.parametrize(
    ("letters", "standing", "reason"),
    [
        ("." * 900, "normal", ""),
        (HOUR + ODD + HOUR, "normal", ""),  # one stretch, long over
        (HOUR + "g" * 12 + HOUR, "normal", ""),  # decided, but no incident was made of it
        (HOUR + "GGGGDDDDXXXX" + HOUR, "normal", ""),
        (HOUR + "?" * 12 + HOUR, "normal", ""),
        (HOUR + ODD + "." * 399, "normal", ""),  # 811 windows
        (HOUR + ODD + "." * 398, "inconclusive", "long"),
        (HOUR + "G" * 6 + "." * 6 + "G" * 6 + HOUR, "inconclusive", "several"),
        (HOUR + "G" * 6 + HOUR + "G" * 6 + ".......", "inconclusive", "several"),
        (HOUR + HOUR + ODD, "inconclusive", "open"),
        (HOUR + HOUR + ODD + ".....", "inconclusive", "open"),
        (HOUR + HOUR + ODD + "......", "normal", ""),
        ("." * 1000 + "G", "inconclusive", "open"),  # one of a thousand, but the last
        (("." * 198 + "GG") * 5 + "......", "normal", ""),  # ten of a thousand
        (("." * 198 + "GGG") * 5 + "......", "inconclusive", "several"),
        ("..........G......", "inconclusive", "long"),
        (".", "inconclusive", "short"),
        ("..", "inconclusive", "short"),
        ("...", "normal", ""),
        ("G.", "inconclusive", "brief"),
        ("GGG", "inconclusive", "open"),
        ("", "inconclusive", "unseen"),
    ],
)
def test_stretches_decide(letters, standing, reason):
    assert health(letters) == (standing, reason)


LATER = START_S + 4000.0
UPLOAD = {"orig_ip_bytes": 44e6, "orig_bytes": 44e6, "resp_ip_bytes": 8e5, "resp_bytes": 8e5}


@pytest.mark.parametrize(
    ("letter", "flows"),
    [
        ("V", [unanswered(LATER + i, DEVICE, PLC, 502) for i in range(5)]),
        ("D", [unanswered(LATER, DEVICE, CLOUD, 80, orig_pkts=30_000.0)]),
        # Many connections that carry much there are a flood, answered or not.
        ("D", [download(id__orig_p=40_000 + i, **UPLOAD) for i in range(8)]),
        ("X", [download(**UPLOAD)]),
        ("C", [flow(LATER + i, DEVICE, CLOUD, 443, id__orig_p=40_000 + i) for i in range(3)]),
        ("R", [flow(LATER + i, DEVICE, PLC, 100 + i, id__orig_p=40_000 + i) for i in range(8)]),
    ],
)
def test_one_stretch_is_not_excused_where_numbers_show_it(letter, flows):
    assert health(HOUR + letter * 12 + HOUR, view_of(*flows)) == ("inconclusive", "shown")


@pytest.mark.parametrize("letter", "DXCR")
def test_a_download_shows_none_of_what_it_resembles(letter):
    assert health(HOUR + letter * 12 + HOUR, view_of(download())) == ("normal", "")


@pytest.mark.parametrize("letter", ["G", "L"])
@pytest.mark.parametrize(("resent", "reason"), [(599, ""), (601, "shown")])
def test_a_full_link_shows_in_what_it_does_to_packets(letter, resent, reason):
    rows = [(int(START_S // 10) + 402, DEVICE, CLOUD, "retransmission", -1, resent, 0)]
    lossy = view_of(download(), evidence=rows)  # of 60,000 packets
    assert health(HOUR + letter * 12 + HOUR, lossy)[1] == reason


def test_requests_that_failed_are_told_of_a_device_that_no_window_shows(tmp_path):
    unknown = dnp3_message(b"\xc0\xc1\x81\0\2", 1, 4, 0x44)  # "object unknown"
    turns = [(">", dnp3_message(b"\xc0\xc1\x01", 4, 1)), ("<", unknown)] * 3
    made = read(tmp_path, talk(20000, *turns))
    view, none = TrafficView(made, make_samples(made)), verdict_table("")
    health = judge_health(SERVER, none, view)
    assert (health.standing, health.reason, health.windows) == ("inconclusive", "failures", 0)
    (asked, codes) = describe_health(health, none, view).facts
    assert (asked.values["asked"], asked.values["refused"]) == (3, 3)
    assert codes.text.endswith("3 object unknown.")


def test_a_stretch_ends_where_windows_no_longer_touch():
    touching = "G" + "." * 5 + "G"  # starts 60 s apart: the end of one is the start of the other
    (one,) = find_stretches(DEVICE, verdict_table(touching))
    assert (one.span_s, one.labels, one.counts) == (120.0, ("congestion",), (2,))
    assert one.rows.tolist() == [0, 6]
    assert len(find_stretches(DEVICE, verdict_table("G" + "." * 6 + "G"))) == 2


def test_other_devices_do_not_matter():
    both = pd.concat(
        [verdict_table(HOUR + ODD + HOUR), verdict_table("D" * 50, PLC)], ignore_index=True
    )
    assert judge_health(DEVICE, both, view_of(download())).standing == "normal"
    assert judge_health(PLC, both, view_of(download())).reason == "open"


@given(st.lists(st.sampled_from(["." * 50, "." * 300, "G", "GGG", "?"]), max_size=12).map("".join))
def test_more_normal_windows_never_make_a_device_doubtful(letters):
    if health(letters)[0] == "normal":
        assert health(letters + ".")[0] == "normal"


def test_an_excused_stretch_is_said_with_its_numbers_and_what_to_ask():
    condition = describe(HOUR + "GGGGGGGGDDDX" + HOUR)
    assert condition.headline.text == (
        "Healthy, but for one stretch of 2.8 minutes from 2001-09-09 02:53:20 UTC on that I could not decide; "
        "nothing else stood out at 192.168.1.10."
    )
    texts = [fact.text for fact in condition.facts]
    assert (
        "looked most like full link (8 windows), part in a flood (3 windows) and unusual upload (1 window)"
        in texts[0]
    )
    assert texts[1].startswith("Traffic of 192.168.1.10 peaked at ")
    assert texts[-1] == "What was measured then bears out none of these suspicions."
    assert condition.checks[1].startswith("Look up 203.0.113.5, with which")


@pytest.mark.parametrize(
    ("letters", "said", "last"),
    [
        (HOUR + HOUR + ODD, "in the last 2.8 minutes that were seen of it", "Keep recording until it is over"),
        (HOUR + "GGGGGG" + HOUR + "GGGGGG.......", "2 stretches of its traffic, 3.7 minutes of the ", "Compare"),
        ("..........G......", "60 s of the only 3.7 minutes that it was seen", "Record the device for longer"),
        ("G.", "was seen for ", "Record the device for longer"),
    ],
)  # fmt: skip
def test_what_is_not_certain_is_said_with_when_and_for_how_long(letters, said, last):
    condition = describe(letters)
    assert condition.headline.text.startswith("Not certain: 192.168.1.10 ")
    assert said in condition.headline.text
    assert condition.checks[-1].startswith(last)
    facts = (condition.headline, *condition.facts)
    assert not check(
        "\n".join([fact.text for fact in facts] + list(condition.checks)), facts, ()
    ).removed


def test_what_the_numbers_fit_is_named():
    view = view_of(*(unanswered(LATER + i, DEVICE, PLC, 502) for i in range(5)))
    letters = HOUR + "V" * 12 + HOUR
    condition = describe(letters, view)
    assert condition.headline.text.endswith("and what was measured then may be service down.")
    assert "bears out none" not in condition.facts[-1].text
    judged = judge_health(DEVICE, verdict_table(letters), view)
    assert name_health(judged) == "undecided once"


def test_a_device_that_is_well_needs_no_words():
    condition = describe("." * 20, view_of())
    assert condition.headline.text.startswith("Healthy: 192.168.1.10 behaves as usual; ")
    assert (condition.facts, condition.checks) == ((), ())


def test_ten_of_a_thousand_windows_are_a_remark_and_ask_for_nothing():
    condition = describe(("." * 198 + "GG") * 5 + "......")
    assert condition.headline.text.startswith("Healthy: ")
    assert [fact.text for fact in condition.facts] == [
        "Of the 2.8 hours that 192.168.1.10 was seen, 5.8 minutes in 5 stretches could not be decided."
    ]
    assert condition.checks == ()


def test_every_label_can_be_asked_for_evidence():
    view = view_of(download())
    rows, starts_s = np.arange(3), START_S + 4000.0 + 10.0 * np.arange(3)
    for label in LABELS[1:]:
        assert is_shown(
            make_alert(VerdictRun(DEVICE, label, "source", rows), view, starts_s, np.ones(3))
        ) in (True, False)


@pytest.mark.parametrize(
    ("normal", "since_s", "reason"),
    [(0.22, 0.0, ""), (0.05, 0.0, "long"), (0.22, 700.0, "long")],
    ids=["it wrote all the time", "the rest is odd too", "it began to write"],
)
def test_a_suspicion_that_the_tables_forbid_keeps_nobody_from_being_well(normal, since_s, reason):
    """Of a window's probability 0.77 is of a new writer: what is left of it decides."""
    first = int((START_S + since_s) // 10)
    writes = [(first + n, DEVICE, PLC, "modbus_write", 6, 1, 1) for n in range(80)]
    table = verdict_table("." * 30 + "G" + "." * 40)
    odd = table["label"] == "congestion"
    table.loc[odd, [f"p_{label}" for label in LABELS]] = 0.0
    table.loc[odd, "label"] = "unauthorized_command"
    table.loc[odd, ["p_unauthorized_command", "p_normal"]] = [0.77, normal]
    polls = [flow(START_S + 10.0 * n, DEVICE, PLC, 502, service="modbus") for n in range(80)]
    judged = judge_health(DEVICE, table, view_of(*polls, evidence=writes))
    assert judged.reason == reason
