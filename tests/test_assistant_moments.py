"""Moments read as the plant's clock shows them; facts keep UTC."""

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from bottling_line import PLANT, START, beacon, make_analysis, silence
from hypothesis import given
from hypothesis import strategies as st

from assistant.diagnosis.diagnose import diagnose
from assistant.diagnosis.spans import is_over
from assistant.facts.fact import make_fact
from assistant.facts.moments import Clock, show_utc
from assistant.report import incident_table

NOON = datetime(2026, 9, 21, 12, 0, tzinfo=UTC).timestamp()
DAY = 86400.0


def test_within_one_day_the_date_is_left_out_and_the_zone_said_once() -> None:
    clock = Clock("Europe/Berlin", NOON, NOON + 900)
    text = f"From {show_utc(NOON)} to {show_utc(NOON + 61)}."
    assert clock.tell(text) == "From 14:00:00 CEST to 14:01:01."


def test_over_several_days_and_without_a_zone_the_date_stays() -> None:
    text = f"At {show_utc(NOON)}."
    assert Clock("Europe/Berlin", NOON, NOON + DAY).tell(text) == "At 2026-09-21 14:00:00 CEST."
    assert Clock("", NOON, NOON + 900).tell(text) == text
    # 23:30 UTC is another day in Berlin: a capture of two hours around it is of two days there.
    late = NOON + 9.5 * 3600
    assert Clock("", late, late + 7200).in_one_day
    assert not Clock("Europe/Berlin", late, late + 7200).in_one_day


def test_a_capture_that_counts_from_zero_has_no_dates() -> None:
    """A Zeek log of an old recording begins at 0 s; a notice beside it may still have a date."""
    text = f"From {show_utc(26.4)} to {show_utc(240.0)}, and {show_utc(NOON)}."
    told = "From second 26 of its clock to second 240, and 2026-09-21 12:00:00 UTC."
    assert Clock("", 18.8, 275.6).tell(text) == told
    assert Clock("", NOON, NOON + 60).tell(text) == text
    assert Clock("", float("nan")).tell(text) == text


def test_the_hour_that_comes_twice_is_told_apart() -> None:
    # 2026-10-25: clocks in Berlin go from 03:00 CEST back to 02:00 CET.
    before = datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp()
    text = f"{show_utc(before)} and {show_utc(before + 3600)}"
    told = Clock("Europe/Berlin", before, before + 7200).tell(text)
    assert told == "02:30:00 CEST and 02:30:00 CET"


@given(
    st.integers(40_000_000, 4_000_000_000),
    st.sampled_from(["Asia/Kolkata", "America/St_Johns", "Pacific/Apia", "Europe/Berlin"]),
)
def test_a_moment_stays_the_same_moment(seconds: int, zone: str) -> None:
    shown = Clock(zone, seconds, seconds + 2 * DAY).tell(show_utc(seconds))
    day, time = shown.split(" ")[:2]
    local = datetime.fromisoformat(f"{day} {time}").replace(tzinfo=ZoneInfo(zone))
    both = {local.replace(fold=fold).timestamp() for fold in (0, 1)}
    assert seconds in both


@pytest.mark.parametrize("zone", ["Europe/Berlin", ""])
def test_an_answer_and_the_list_of_incidents_say_the_plants_time(zone: str) -> None:
    analysis = replace(make_analysis(), plant=replace(PLANT, time_zone=zone))
    answer = diagnose("why is cam-1 odd?", analysis, None)
    begun = datetime.fromtimestamp(analysis.capture.start_s, ZoneInfo(zone or "UTC"))
    assert begun.strftime("%H:%M") in answer.text
    assert ("UTC" in answer.text) == (not zone)
    assert answer.removed == 0
    assert all(
        "UTC" in fact.text for fact in answer.facts if ":" in fact.text.split("first at")[-1]
    )
    clock = Clock(zone, analysis.capture.start_s, analysis.capture.end_s)
    table = incident_table([beacon()], "", clock, str)
    assert begun.strftime("%H:%M") in table
    assert begun.tzname() in table


@pytest.mark.parametrize(("before_end_s", "over"), [(30.0, True), (0.0, False)])
def test_a_silence_is_over_where_its_device_was_heard_again(before_end_s, over):
    """A silence up to the end carries that end as the moment until which it lasted."""
    end_s = make_analysis(()).view.end_s
    values = {"heard_time_s": START + 20.0, "back_time_s": end_s - before_end_s}
    quiet = make_fact("silent", "Quiet from {heard_time_s} to {back_time_s}.", values)
    incident = silence(end_s=end_s)
    incident = replace(incident, facts=(quiet,))
    assert is_over(incident, make_analysis((incident,))) is over


@pytest.mark.parametrize(
    ("before_end_s", "pkts", "label", "over"),
    [
        (5.3, 4000, "dos", True),  # forty a second, and then none for five
        (1.3, 4000, "dos", False),
        (5.3, 90, "dos", False),  # one in a second may come again
        (5.3, 4000, "exfiltration", False),  # which pauses
    ],
)
def test_a_flood_is_over_seconds_after_its_last_packet(before_end_s, pkts, label, over):
    analysis = make_analysis(())
    end_s = analysis.view.last_s - before_end_s
    values = {"pkts": pkts, "since_time_s": end_s - 100.0, "until_time_s": end_s}
    fact = make_fact("pings", "{pkts:packet} from {since_time_s} to {until_time_s}.", values)
    incident = replace(silence(end_s=end_s), label=label, start_s=end_s - 100.0, facts=(fact,))
    assert is_over(incident, make_analysis((incident,))) is over
