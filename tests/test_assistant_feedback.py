"""Remarks are read in three languages, kept across restarts, taken back, and told in plain words."""

import json
import time
from datetime import datetime

import pytest
from bottling_line import CAMERA, beacon
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assistant.answers.plant.states import describe_state, short_state
from assistant.chat.exported import export_feedback, make_truth
from assistant.chat.feedback import keep, read_remark
from assistant.cli.main import main
from assistant.diagnosis.grounding import check
from assistant.history import History, IncidentRecord
from traffic.datasets.truth import read_intervals

NOON = datetime(2026, 11, 26, 12, 0).timestamp()  # a Thursday, 12:00 on this machine's clock
HOUR = 3600.0
INCIDENT = beacon()


class Diagnosed:
    """What keep reads of a diagnosis."""

    cause = "cam-1 calls home"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "history.sqlite"


@pytest.fixture
def history(path):
    opened = History(path)
    yield opened
    opened.close()


def say(text: str, history: History, now_s: float = NOON, incident: object = INCIDENT) -> str:
    return keep(read_remark(text), Diagnosed, incident, history, "ana", now_s=now_s)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "act", "why"),
    [
        ("false positive", "false_alarm", ""),
        ("ok it was the contractor, false alarm", "false_alarm", "the contractor"),
        ("That was us, planned maintenance. Close it.", "false_alarm", "planned maintenance"),
        ("Fehlalarm, weil wir einen Test fuhren", "false_alarm", "wir einen Test fuhren"),
        ("márcalo como falsa alarma porque fue una prueba", "false_alarm", "fue una prueba"),
        ("not a real attack", "false_alarm", ""),
        ("das war ein Test", "false_alarm", "ein Test"),
        ("no es una falsa alarma", "confirm", ""),
        ("kein Fehlalarm", "confirm", ""),
        ("bestätigt, war das netzteil", "confirm", "war das netzteil"),
        ("confirmed and fixed: loose plug at conveyor 9", "confirm", "loose plug at conveyor 9"),
        ("it was a loose plug", "wrong", "a loose plug"),
        ("it was a loose cable, we fixed it", "wrong", "a loose cable, we fixed it"),
        ("es war der Stecker", "wrong", "der Stecker"),
        ("fue un cable suelto", "wrong", "un cable suelto"),
        ("it was something else: fuse blown", "wrong", "fuse blown"),
        ("Quittieren bitte", "acknowledge", ""),
        ("acknowledge because we undo it later", "acknowledge", "we undo it later"),
        ("note for incident 7: switch port replaced", "note", "switch port replaced"),
        ("undo", "undo", ""),
        ("no wait, take that back", "undo", ""),
        ("reopen the one from this morning", "undo", ""),
        ("nimm das zurück", "undo", ""),
        ("deshacer lo último", "undo", ""),
        ("false alarm, we took the pump back", "false_alarm", "we took the pump back"),
        ("mark it", "", ""),
        ("", "", ""),
    ],
)
def test_what_is_said_and_why(text, act, why):
    read = read_remark(text)
    assert (read.act, read.why) == (act, why)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("it was a misconfiguration", "misconfiguration"),
        ("falsch, das war Paketverlust", "packet_loss"),
        ("not packet loss, it was a loose plug", ""),
        ("it was a loose plug", ""),
    ],
)
def test_the_cause_that_is_named(text, label):
    assert read_remark(text).label == label


@pytest.mark.parametrize(
    ("words", "hours"),
    [
        ("for two hours", 2), ("for 2h", 2), ("for half an hour", 0.5), ("for 1.5 hours", 1.5),
        ("für drei Stunden", 3), ("por 2 horas", 2), ("für eine Woche", 168), ("for a day", 24),
        ("till 6", 6), ("until 18:00", 6), ("bis 18 uhr", 6), ("hasta las 6", 6), ("until 6:00", 18),
        ("bis 6 uhr", 18), ("until 6 am", 18), ("until 6pm", 6), ("hasta las 7 de la tarde", 7),
        ("hasta las 7 de la mañana", 19), ("till 12", 12), ("until 11:59", 24 - 1 / 60),
        ("till monday", 84), ("until thursday", 156), ("bis Montag 6 Uhr", 90), ("until tomorrow", 12),
        ("hasta mañana a las 7", 19), ("bis morgen früh", 18), ("until midnight", 12), ("bis mittag", 24),
        ("until the day shift", 18), ("until 2026-11-27 06:00", 18), ("until 24:00", 12),
    ],
)  # fmt: skip
def test_until_when_it_is_shelved(history, words, hours):
    said = say(f"shelve it {words} because of maintenance", history)
    assert said.startswith("Shelved until "), said
    kept = history.state(INCIDENT.id, NOON)
    assert (kept.state, kept.who, kept.why) == ("shelved", "ana", "maintenance")
    assert (kept.until_s - NOON) / HOUR == pytest.approx(hours)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("shelve it", "I need a time and a reason"),
        ("shelve it till 6", "I need a reason"),
        ("shelve it because of maintenance", "I need a time to"),
        ("shelve until 2026-99-99 because of works", "I need a time to"),
        ("shelve until 2026-11-25 because of works", "is over"),
        ("shelve for 9999 weeks because of works", "at most 90 days"),
        (f"shelve for {'9' * 400} hours because of works", "at most 90 days"),
        ("undo", "nothing to take back"),
        ("mark it", "I did not understand"),
        ("note this", "I did not understand"),
    ],
)
def test_what_cannot_be_kept_is_said_and_changes_nothing(history, text, answer):
    assert answer in say(text, history)
    assert history.states(INCIDENT.id) == []


def test_a_shelved_incident_comes_back_by_itself(history):
    said = say("shelve until 18:00 because of maintenance", history)
    assert said == "Shelved until 18:00 by ana: maintenance. It comes back by itself then."
    assert short_state(INCIDENT.id, history, NOON) == "shelved until 18:00"
    told = describe_state(INCIDENT, history, NOON)
    assert told is not None
    assert told.text == "ana shelved it until 18:00: maintenance"
    assert told.values["until_time_s"] == NOON + 6 * HOUR
    assert short_state(INCIDENT.id, history, NOON + 6 * HOUR) == "active"
    assert "that time is over" in describe_state(INCIDENT, history, NOON + 6 * HOUR).text  # type: ignore[union-attr]


def test_undo_restores_what_was_before_step_by_step(history):
    say("acknowledge, on my way", history)
    say("false alarm: we ran a scan", history)
    say("shelve for two hours because of works", history)
    assert "shelved it until 14:00" in say("undo", history)
    assert short_state(INCIDENT.id, history, NOON) == "false alarm"
    assert history.feedback(CAMERA) != []
    said = say("take back the false alarm", history)
    assert said == (
        "Taken back: ana marked it as a false alarm: we ran a scan. "
        "What stands now: ana acknowledged it: on my way."
    )
    assert history.feedback(CAMERA) == []
    assert short_state(INCIDENT.id, history, NOON) == "acknowledged"
    assert "active again" in say("undo", history)
    assert describe_state(INCIDENT, history, NOON) is None
    assert "nothing to take back" in say("undo", history)
    assert [one.act for one in history.states(INCIDENT.id)] == [
        "acknowledge", "false_alarm", "shelve", "undo", "undo", "undo",
    ]  # fmt: skip


def test_a_restart_forgets_nothing(path, history):
    say("it was a loose plug", history)
    history.close()
    again = History(path)
    told = describe_state(INCIDENT, again, NOON)
    assert told is not None
    assert told.text == "ana said that the cause is another one: a loose plug"
    assert short_state(INCIDENT.id, again, NOON) == "another cause"
    again.close()


def test_another_cause_by_name_and_the_same_cause_again(history):
    assert say("it was packet loss", history) == "Kept as another cause by ana: packet loss."
    assert short_state(INCIDENT.id, history, NOON) == "another cause: packet loss"
    say("it was c2", history)
    assert short_state(INCIDENT.id, history, NOON) == "confirmed"
    assert [one.label for one in history.feedback()] == ["packet_loss", "c2"]


def test_a_note_changes_no_state(history):
    say("shelve for two hours because of works", history)
    assert say("note: switch replaced", history) == "Noted by ana: switch replaced."
    assert short_state(INCIDENT.id, history, NOON) == "shelved until 14:00"
    assert describe_state(INCIDENT, history, NOON).text == "ana noted: switch replaced"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("shift_s", "told"), [(-HOUR, "earlier, of the incident of"), (24 * HOUR, None)]
)
def test_the_same_cause_in_another_capture_is_told_as_earlier(history, shift_s, told):
    start_s = INCIDENT.start_s + shift_s
    where = ("c2-other", CAMERA, "c2", start_s, start_s + 60)
    history.add_incident(IncidentRecord(*where, "cam-1 calls home"))
    history.set_state("c2-other", "acknowledged", "bo", "known", now_s=NOON, act="acknowledge")
    found = describe_state(INCIDENT, history, NOON)
    assert (found and found.text.startswith(told or "")) is (True if told else None)
    if found:
        assert found.values["start_time_s"] == start_s
        assert check(found.text, (found,), ()).removed == ()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(why=st.text(max_size=60), number=st.integers())
def test_every_number_of_the_sentence_is_borne(history, why, number):
    say(f"false alarm because {why} {number} times", history)
    told = describe_state(INCIDENT, history, NOON)
    assert told is not None
    assert "\n" not in told.text
    assert check(told.text, (told,), ()).removed == ()


@given(st.text(max_size=200))
def test_any_text_is_read(text):
    assert len(read_remark(text).why) <= 500
    assert len(read_remark(f"shelve until {text}").why) <= 500


def test_everything_is_exported_and_what_was_taken_back_is_marked(history):
    say("false alarm: our scan", history)
    say("undo", history, NOON + 1)
    say("it was a misconfiguration", history, NOON + 2)
    say("shelve for an hour because of works", history, NOON + 3)
    table = export_feedback(history)
    seen = table[["act", "label_shown", "label_said", "why", "undone"]].values.tolist()
    assert seen == [
        ["false_alarm", "c2", "normal", "our scan", True],
        ["undo", "c2", "", "", False],
        ["wrong", "c2", "misconfiguration", "a misconfiguration", False],
        ["shelve", "c2", "", "works", False],
    ]
    assert table["until_s"].tolist()[-1] == NOON + 3 + HOUR
    assert set(table["incident"]) == {INCIDENT.id}
    assert (table["start_s"] == INCIDENT.start_s).all()


def test_nothing_kept_exports_an_empty_table(history):
    assert export_feedback(history).empty
    assert make_truth(export_feedback(history)).intervals.empty


def test_the_last_word_that_stands_becomes_truth_and_a_false_alarm_none(history, tmp_path):
    say("confirm", history)
    say("it was a misconfiguration: wrong broker", history, NOON + 1)
    truth = make_truth(export_feedback(history))
    path = tmp_path / "capture.csv"
    path.write_text(truth.intervals.to_csv(index=False))
    (row,) = read_intervals(path).itertuples()  # the form that training reads
    assert (row.device, row.label, row.start_s) == (
        INCIDENT.device, "misconfiguration", INCIDENT.start_s,
    )  # fmt: skip
    say("undo", history, NOON + 2)
    assert list(make_truth(export_feedback(history)).intervals["label"]) == [INCIDENT.label]
    say("false alarm: our scan", history, NOON + 3)
    truth = make_truth(export_feedback(history))
    assert truth.intervals.empty
    assert "1 false alarm left out" in truth.notes[0]


def test_remarks_are_exported_by_the_command(history, home, capsys):
    kept = History(home / "history.sqlite")
    say("it was a misconfiguration: wrong broker", kept)
    kept.close()
    assert main(["feedback", "list"]) == 0
    assert "misconfiguration" in capsys.readouterr().out
    out = home / "remarks.jsonl"
    assert main(["feedback", "export", "--format", "jsonl", "--out", str(out)]) == 0
    assert json.loads(out.read_text())["label_said"] == "misconfiguration"
    assert main(["feedback", "export", "--format", "intervals"]) == 0
    assert "device,start_s,end_s,label,cause" in capsys.readouterr().out


@pytest.fixture
def berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_summer_time_ends_while_it_is_shelved(history, berlin):
    now_s = datetime(2026, 10, 24, 20, 0).timestamp()
    said = say("bis 6 Uhr zurückstellen wegen Wartung", history, now_s)
    assert said.startswith("Shelved until Sunday 06:00 CET by ana: Wartung.")
    assert history.state(INCIDENT.id, now_s).until_s == now_s + 11 * HOUR
