"""What the page shows, part by part, from a plant of which every number is known."""

import re
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from bottling_line import CAMERA, PANEL, PLANT, PLC, SPARE, START, YARD, beacon, loss, make_analysis
from tables import capture, flow

from assistant.app.clicks import Click, read_click, take_click
from assistant.app.live import Live
from assistant.app.paint import has_line
from assistant.app.subject import ShownAlarm, Subject
from assistant.app.thread import Thread, answer_question, begin_thread, put_question, render_thread
from assistant.app.views.alarms import (
    Filter,
    declare,
    question_of,
    render_alarm,
    render_alarms,
    select_alarms,
)
from assistant.app.views.bar import render_bar
from assistant.app.views.device import list_peers, make_curves, render_device, render_partners
from assistant.app.views.documents import render_document, render_found
from assistant.app.views.evidence import make_evidence, render_answer
from assistant.app.views.markup import render_message
from assistant.app.views.plant import make_strips, render_plant
from assistant.app.views.report_lines import render_report
from assistant.app.views.shift import make_report
from assistant.audit import check_audit
from assistant.chat import Conversation
from assistant.diagnosis.device_states import list_devices
from assistant.facts.fact import make_fact
from assistant.facts.moments import UTC_CLOCK
from assistant.facts.traffic_view import TrafficView
from assistant.history import History
from assistant.monitor.alarm_list import list_alarms
from assistant.monitor.alarms import Alarms
from assistant.monitor.newest import Sign
from assistant.monitor.sensor import make_condition
from traffic.errors import UserError
from traffic.plant import Plant
from traffic.samples import make_samples
from traffic.windows import make_windows

HOSTILE = "<img src=x onerror=alert(1)>${alert(1)}{{alert}}`[x](http://y)"


@pytest.fixture
def history(tmp_path):
    opened = History(tmp_path / "history.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def subject(line) -> Subject:
    return Subject("line", line)


def words(page: str) -> str:
    """What a person reads of HTML."""
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def raise_all(history: History, analysis=None, **more):
    """Let a monitor raise the incidents of the line; the alarms as they stand."""
    analysis = analysis or make_analysis()
    alarms = Alarms(history, PLANT, "span-1")
    alarms.update(analysis.incidents, analysis.verdicts, [], START + 120.0, time.time())
    return list_alarms(history)


# ---- The alarm list ----


def test_a_capture_shows_its_incidents_as_alarms_the_gravest_first(subject, history):
    page = render_alarms(subject, history, "", Filter())
    rows = re.findall(r'<button class="alarm (\w+) (\w+)[^>]*data-id="([^"]+)"', page)
    assert rows == [
        ("high", "active", "c2-0a1b2c3d"),
        ("medium", "active", "packet_loss-0a1b2c3d"),
        ("low", "active", "device_silent-0a1b2c3d"),
    ]
    # Nobody is called by a capture.
    assert "in ten minutes" not in page


@pytest.mark.parametrize("state", ["▲", "◆", "■"])
def test_priority_is_a_shape_and_a_word_beside_its_colour(state, subject, history):
    page = words(render_alarms(subject, history, "", Filter()))
    assert {"▲": "▲ cam-1 (192.168.1.20) high", "◆": "◆ cam-2 (192.168.1.21) medium",
            "■": "■ plc-2 (192.168.1.11) low"}[state] in page  # fmt: skip


def test_what_waits_for_somebody_comes_first_and_a_filter_narrows(subject, history):
    declare(history, subject.alarms(history)[0].alarm, "acknowledge", "ana")
    every = subject.alarms(history)
    mine = next(one.alarm.label for one in every if one.standing.state == "acknowledged")
    order = [one.alarm.label for one in select_alarms(every, Filter(), PLANT)]
    assert order[-1] == mine
    todo = [one.alarm.label for one in select_alarms(every, Filter("To do"), PLANT)]
    assert mine not in todo
    assert len(todo) == 2
    found = select_alarms(every, Filter("All", "CAM-2 loss"), PLANT)
    assert [one.alarm.device for one in found] == [YARD]


def test_an_alarm_tells_cause_consequence_response_time_and_whom_to_call(line, history):
    devices = tuple(replace(one, contact="Ivo, 4711") for one in PLANT.devices)
    plant = replace(PLANT, devices=devices)
    subject = Subject("line", replace(line, plant=plant))
    page = words(render_alarm(subject, history, "c2-0a1b2c3d"))
    for told in ("Cause cam-1", "Consequence", "Do ", "Within", "by 08:", "Call Ivo, 4711"):
        assert told in page


def test_shelving_needs_a_reason_and_undo_takes_it_back(subject, history):
    alarm = subject.alarms(history)[0].alarm
    with pytest.raises(UserError, match="Say why"):
        declare(history, alarm, "shelve", "ana", "  ", 3600.0)
    declare(history, alarm, "shelve", "ana", "fitter at work", 3600.0)
    standing = next(one.standing for one in subject.alarms(history) if one.alarm == alarm)
    assert (standing.state, standing.who, standing.why) == ("shelved", "ana", "fitter at work")
    assert "fitter at work" in render_alarm(subject, history, alarm.incident)
    declare(history, alarm, "undo", "ben")
    assert all(one.standing.state == "active" for one in subject.alarms(history))
    assert check_audit(history.file.path).outcome == "whole"


def test_a_flood_folds_the_list_by_cause_and_counts(history):
    found = make_analysis()
    many = tuple(replace(beacon(), id=f"c2-{n}", peers=(f"203.0.113.{n}",)) for n in range(12))
    raise_all(history, replace(found, incidents=(*many, loss())))
    page = render_alarms(Subject("", plant=PLANT), history, "", Filter())
    assert "Flood of alarms" in page
    assert "12 × " in words(page)
    assert page.count("<details><summary>") >= 2
    assert "13 alarms an operator in ten minutes" in words(page)


def test_the_question_of_an_alarm_names_its_device(subject, history):
    asked = {question_of(one.alarm, PLANT) for one in subject.alarms(history)}
    assert "What is wrong with cam-1?" in asked


# ---- What is not seen stands on every view ----


class _Monitor:
    """What a view reads of a monitor that runs."""

    name, clock_is_now, ended, problem, silent_s, number = "eth1", True, False, "", 0.0, 1
    now_s, end_s, conditions = START, START, ()
    analysis = None


def bar_of(history, **said) -> str:
    live = _Monitor()
    for name, value in said.items():
        setattr(live, name, value)
    return words(render_bar(Subject("eth1", live=live), history, "ana"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"conditions": (make_condition("nothing_arrives", "eth1", START, START + 90.0),)},
         "Nothing has arrived from eth1"),
        ({"problem": "disk is gone"}, "The monitor has stopped: disk is gone"),
        ({"silent_s": 120.0}, "It was last heard of 2 minutes ago"),
        ({"ended": True}, "The recording is over"),
        ({}, "Nothing was judged yet"),
    ],
)  # fmt: skip
def test_the_bar_says_why_a_calm_page_is_no_calm_plant(said, told, history):
    assert told in bar_of(history, **said)


def test_a_monitor_that_fails_is_told_and_not_lost(monkeypatch):
    monkeypatch.setattr("threading.excepthook", lambda _: None)

    def fail():
        raise UserError("the state is damaged; expected another")

    live = Live(fail, "eth1", True)
    live.close()
    assert (live.problem, live.analysis) == ("the state is damaged; expected another", None)


# ---- Plant and device ----


def test_a_strip_says_what_each_piece_of_the_time_was(line):
    strips = make_strips(line)
    assert set(map(len, strips.values())) == {12}  # two minutes in slots
    assert strips[CAMERA] == ("high",) * 12
    assert strips[PLC] == ("normal",) * 12


def test_time_without_a_window_is_blank_and_undecided_time_is_not_normal(line):
    verdicts = line.verdicts
    mine = verdicts["device"] == PLC
    cut = verdicts[~mine | (verdicts["start_s"] < START + 5.0)]  # one window, of the first minute
    odd = cut.assign(abstained=cut["abstained"] | (cut["device"] == PLC))
    calm, unclear = (
        make_strips(replace(line, verdicts=one, incidents=()))[PLC] for one in (cut, odd)
    )
    assert calm == ("normal",) * 6 + ("nothing",) * 6
    assert unclear == ("unsure",) * 6 + ("nothing",) * 6


def test_devices_stand_in_their_zones_the_worst_first(line, history):
    zones = {"cam-1": "gate", "cam-2": "gate"}
    devices = tuple(replace(one, zone=zones.get(one.name, "press")) for one in PLANT.devices)
    subject = Subject("line", replace(line, plant=replace(PLANT, devices=devices)))
    page = render_plant(subject, history)
    assert re.findall(r"<h2>(\w+)</h2>", page) == ["gate", "press"]
    assert re.findall(r'data-device="192.168.1.(\d+)"', page)[:2] == ["20", "21"]


def test_who_was_hardly_seen_and_nobody_named_is_folded_away(line, history):
    brief = line.verdicts["device"] == PLC
    cut = line.verdicts[~brief | (line.verdicts["start_s"] < START + 5.0)]
    named = Subject("line", replace(line, verdicts=cut))
    page = render_plant(named, history)
    assert "<summary>" not in page.split("noted of this traffic")[0]
    known = tuple(one for one in PLANT.devices if one.address != PLC)
    page = render_plant(Subject("line", replace(line, verdicts=cut, plant=Plant(known))), history)
    shown, folded = page.split("<details>", 1)
    assert "1 more, of which too little was seen" in words(folded)
    assert f'data-device="{PLC}"' in folded
    assert f'data-device="{PLC}"' not in shown


def test_a_device_that_shares_an_incident_has_its_state(line, history):
    lead = next(one for one in line.incidents if one.device == CAMERA)
    shared = replace(lead, related=(PLC,))
    (state,) = [
        one for one in list_devices(replace(line, incidents=(shared,))) if one.address == PLC
    ]
    assert state.state == lead.severity
    assert state.words.startswith("concerned by cam-1")
    assert [one.address for one in list_devices(replace(line, incidents=(shared,)))][:2] == [
        CAMERA,
        PLC,
    ]


def test_an_alarm_whose_trouble_is_no_longer_seen_is_not_said_to_go_on(history):
    live = _Monitor()
    live.run = ""
    (alarm, *_) = raise_all(history)
    for after_s, said in ((10.0, "goes on"), (40.0, "last seen at")):
        live.now_s = alarm.incident_end_s + after_s
        live.name = "span-1"
        shown = Subject("span-1", live=live, plant=PLANT)  # type: ignore[arg-type]
        assert said in words(render_alarm(shown, history, alarm.incident))


def test_curves_count_what_the_samples_hold_and_only_in_the_span(line):
    whole = make_curves(line, CAMERA, "Europe/Berlin")
    unanswered = whole.troubles[whole.troubles["kind"] == "unanswered"]
    assert unanswered["value"].tolist() == [1.0] * 12
    assert str(unanswered["time"].iloc[0]) == "2018-12-22 09:22:00"  # the plant's clock
    assert whole.delays.empty or whole.delays["value"].isna().all()  # nobody answers it
    part = make_curves(line, CAMERA, "UTC", (START + 20.0, START + 40.0))
    assert len(part.rates) == 2 * 3


@pytest.mark.parametrize(("last_s", "slots"), [(9.0, 3), (5.0, 2)])
def test_a_slot_that_is_not_over_is_no_fall_of_the_rates(last_s, slots):
    """Ten seconds are not over when five of them were seen."""
    moments = (*range(0, 30, 5), 20.0 + last_s)
    table = capture(*(flow(START + at, PANEL, PLC, 502, duration=0.0) for at in moments))
    windows = make_windows(make_samples(table, PLANT))
    seen = replace(make_analysis(()), capture=table, windows=windows)
    seen = replace(seen, view=TrafficView(table, windows.samples, PLANT))
    rates = make_curves(seen, PANEL, "UTC").rates
    assert rates.groupby("kind").size().to_dict() == {"sent": slots, "received": slots}


def test_a_plot_is_shown_where_two_points_follow_each_other():
    moments = pd.date_range("2026-11-29", periods=4, freq="10s")
    apart = pd.DataFrame({"time": moments, "value": [1.0, np.nan, 2.0, np.nan], "kind": "a"})
    assert not has_line(apart)
    assert has_line(apart.assign(value=[1.0, 2.0, np.nan, np.nan]))
    # The last of one kind and the first of the next are no line.
    assert not has_line(apart.assign(value=[np.nan, 1.0, 2.0, np.nan], kind=["a", "a", "b", "b"]))


def test_a_device_page_tells_who_it_is_what_is_wrong_and_with_whom_it_talks(subject, history):
    head = words(render_device(subject, history, CAMERA))
    assert "cam-1 high" in head
    assert "Korvo VC310" in head
    assert "beacon to a controller of malware, high, 08:22:00 UTC to 08:24:00 UTC" in head
    (peer,) = list_peers(subject.analysis, CAMERA)  # type: ignore[arg-type]
    assert (peer.address, peer.own, peer.share) == ("203.0.113.5", False, 1.0)
    assert "203.0.113.5 (outside)" in words(render_partners(subject, history, CAMERA))
    assert "Choose a device" in render_device(subject, history, "10.9.9.9")


# ---- The chat ----


@pytest.fixture
def thread(line, index, history, subject) -> Thread:
    return Thread("ana", subject, Conversation(line, index, history, None, "ana", about="line"))


def ask(thread: Thread, question: str) -> str:
    put_question(thread, question)
    answer_question(thread)
    return thread.lines[-1].text


def test_evidence_does_not_say_again_what_the_answer_says(thread, history):
    ask(thread, "why does cam-1 misbehave?")
    evidence, text = thread.lines[-1].evidence, thread.lines[-1].text
    page = words(render_thread(thread, history))
    assert evidence is not None
    for fact in evidence.facts:
        assert page.count(fact.text) <= 1
    assert page.count("203.0.113.5:6667") == text.count("203.0.113.5:6667")
    assert 'data-act="interval"' in render_thread(thread, history)


def test_a_citation_opens_its_document_with_the_place_marked(thread, index):
    ask(thread, "why does cam-1 misbehave?")
    cited = thread.lines[-1].evidence.citations[0]  # type: ignore[union-attr]
    take_click(
        thread, read_click({"act": "cite", "chunk": cited.chunk_id, "excerpt": cited.excerpt})
    )
    assert thread.view == "setup"
    page = render_document(index, *thread.cited)
    marked = re.search(r'<mark id="cited">(.*?)</mark>', page, re.DOTALL)
    assert marked
    assert words(marked[1]) == words(render_message(cited.excerpt))
    assert "No passage" in render_found(index, "qqxyzzy plugh frobnicate")


def test_right_and_other_cause_are_kept_with_the_incident(thread, history):
    ask(thread, "why does cam-1 misbehave?")
    incident = thread.lines[-1].evidence.incident  # type: ignore[union-attr]
    take_click(thread, Click("confirm", id=incident))
    assert history.state(incident).act == "confirm"
    take_click(thread, Click("wrong", id=incident, label="packet_loss"))
    said = history.feedback(CAMERA)
    assert [(one.verdict, one.label, one.who) for one in said] == [
        ("c2", "c2", "ana"), ("c2", "packet_loss", "ana"),
    ]  # fmt: skip
    row = render_alarms(thread.subject, history, "", Filter())
    assert "another cause: packet loss" in row


def test_an_alarm_that_no_incident_bears_out_yet_takes_what_is_said_of_it(history, index):
    """It is kept under the id that the incident will have."""
    analysis = make_analysis()
    device = next(
        one
        for one in sorted(analysis.view.own)
        if not any(i.touches(one) for i in analysis.incidents)
    )
    alarms, fact = Alarms(history, PLANT, "span-1"), make_fact("fails", "First sign: mute.", {})
    for number, count in enumerate((4, 8)):
        sign = Sign(
            "service_down",
            device,
            (),
            fact,
            START + 100.0,
            START + 110.0 + number,
            count=count,
            hard=True,
        )
        alarms.update([], analysis.verdicts, [], sign.end_s, time.time(), [sign])
    analysis.view.signs[device] = fact.text
    live = SimpleNamespace(
        name="span-1", run="", analysis=analysis, now_s=START + 111.0, number=1, silent_s=0.0
    )
    talk = Conversation(analysis, index, history, None, "ana", about="span-1")
    thread = Thread("ana", Subject("span-1", live=live, plant=PLANT), talk)  # type: ignore[arg-type]
    ask(thread, f"what is wrong with {device}?")
    evidence = thread.lines[-1].evidence
    assert evidence is not None
    assert evidence.incident == list_alarms(history, tier="alarm")[0].incident
    take_click(thread, Click("confirm", id=evidence.incident))
    assert [(one.device, one.verdict, one.label) for one in history.feedback(device)] == [
        (device, "service_down", "service_down")
    ]
    assert "confirmed" in render_alarms(thread.subject, history, "", Filter())
    take_click(thread, Click("confirm", id="c2-unknown"))
    assert "no longer" in thread.lines[-1].text


def test_a_conversation_is_found_again_by_its_owner_alone(thread, history, index, line, subject):
    class Session:
        models = type("Models", (), {"writer": None})

    session = Session()
    session.index, session.history = index, history  # type: ignore[attr-defined]
    ask(thread, "why does cam-1 misbehave?")
    number = thread.conversation.number
    again = begin_thread(session, subject, "ana", False, number)  # type: ignore[arg-type]
    assert [one.text for one in again.lines] == [one.text for one in thread.lines]
    assert again.lines[-1].evidence == thread.lines[-1].evidence
    assert "cam-1" in ask(again, "since when?")  # still what it is about
    for who, kept in (("ben", number), ("ana", None)):
        other = begin_thread(session, subject, who, False, kept)  # type: ignore[arg-type]
        assert other.lines == []
    assert begin_thread(session, subject, "ana", True).lines  # type: ignore[arg-type]


def test_an_answer_of_which_nothing_was_measured_has_no_evidence():
    assert render_answer("Hello.", make_evidence(None), UTC_CLOCK, {}, 0) == "<p>Hello.</p>"


# ---- The report ----


def test_the_shift_report_tells_what_goes_on_who_did_what_and_what_was_not_seen(subject, history):
    declare(history, subject.alarms(history)[0].alarm, "acknowledge", "ana")
    text = make_report(subject, history, 8.0, "ben")
    for told in ("## Going on", "**cam-1 (192.168.1.20)**", "ana: acknowledge, cam-", "for ben",
                 "## What was judged"):  # fmt: skip
        assert told in text
    assert text.count("**cam-1 (192.168.1.20)**: ") == 1


# ---- Text from outside ----


def test_names_and_texts_from_outside_stay_text_in_every_view(line, history):
    devices = tuple(replace(one, name=f"{HOSTILE}{n}") for n, one in enumerate(PLANT.devices))
    plant = Plant(tuple(replace(one, zone=HOSTILE, contact=HOSTILE) for one in devices))
    subject = Subject(HOSTILE, replace(line, plant=plant, view=line.view))
    alarm = subject.alarms(history)[0].alarm
    declare(history, alarm, "shelve", HOSTILE, HOSTILE, 60.0)
    pages = [
        render_bar(subject, history, HOSTILE),
        render_alarms(subject, history, alarm.incident, Filter()),
        render_alarm(subject, history, alarm.incident),
        render_plant(subject, history),
        render_device(subject, history, CAMERA),
        render_message(HOSTILE),
    ]
    for page in pages:
        assert "&lt;img" in page
        assert not re.search(r"<img|[{}$`]", page)
    report = make_report(subject, history, 8.0, HOSTILE)
    assert not re.search(r"<img|[{}$`]", render_report(report))
    assert "<h3>Going on</h3>" in render_report(report)
    assert "<img" not in report.replace("\\<img", "")
    assert "[x](" not in report


@pytest.mark.parametrize("sent", [None, "x", [], {"act": ["choose"]}, {"act": "cite", "chunk": 3}])
def test_a_click_that_no_page_sends_changes_nothing_worse(sent, thread):
    take_click(thread, read_click(sent))
    assert thread.lines == []


def test_an_answer_has_headlines_and_lists_but_nothing_that_a_name_made():
    text = f"**{HOSTILE} is it.**\n\n- ![a](http://z) *b* `c`\n- two\n2. three\n# four\n> five"
    page = render_message(text)
    assert re.findall(r"<(\w+)", page) == [
        "p", "strong", "ul", "li", "li", "ol", "li", "p", "blockquote", "p",
    ]  # fmt: skip
    for shown in ("![a](http://z) *b*", "# four", '<ol start="2"><li>three'):
        assert shown in page
    assert not re.search(r"[{}$`]", page)


def test_the_alarms_of_a_live_plant_keep_their_incident_however_it_grows(history):
    found = make_analysis()
    raise_all(history, found)
    grown = replace(beacon(), id="c2-ffffffff", start_s=START - 30.0)
    alarms = Alarms(history, PLANT, "span-1")
    alarms.update([grown], found.verdicts, [], START + 130.0, time.time())
    assert [one.id for one in alarms.name_incidents([grown])] == ["c2-0a1b2c3d"]
    assert isinstance(Subject("", plant=PLANT).alarms(history)[0], ShownAlarm)
    assert {SPARE, PANEL} <= found.view.local
