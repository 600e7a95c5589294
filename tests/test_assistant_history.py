"""What was said is kept: across threads, processes, versions and power cuts; a damaged file is said
to be one."""

import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from assistant.history import MIGRATIONS, Feedback, History, IncidentRecord
from traffic.errors import UserError

RECORD = IncidentRecord("i1", "10.0.0.5", "c2", 100.0, 160.0, "beacon")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "history.sqlite"


@pytest.fixture
def history(path):
    opened = History(path)
    yield opened
    opened.close()


def test_a_conversation_survives_closing(path):
    first = History(path)
    number = first.start_conversation("ana", "line3.pcap", now_s=1.0)
    text = "why? \N{SNOWMAN} '; DROP TABLE messages;--"
    first.add_message(number, "operator", text, now_s=2.0)
    first.add_message(number, "assistant", "because", now_s=3.0)
    first.close()
    again = [(m.role, m.text, m.at_s) for m in History(path).messages(number)]
    assert again == [("operator", text, 2.0), ("assistant", "because", 3.0)]


def test_a_message_needs_its_conversation(history):
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        history.add_message(99, "operator", "hello")


def test_an_incident_grows_but_keeps_its_start(history):
    history.add_incident(RECORD)
    for end_s in (220.0, 200.0):
        history.add_incident(replace(RECORD, start_s=130.0, end_s=end_s, summary="beacon, longer"))
    assert history.incidents() == [replace(RECORD, end_s=220.0, summary="beacon, longer")]


def test_incidents_by_device_label_and_time(history):
    told = [("a", "c2", 1.0), ("a", "dos", 2.0), ("b", "c2", 3.0)]
    for number, (device, label, start_s) in enumerate(told):
        history.add_incident(IncidentRecord(f"i{number}", device, label, start_s, start_s + 1, ""))
    assert [r.id for r in history.incidents()] == ["i2", "i1", "i0"]
    assert [r.id for r in history.incidents(device="a")] == ["i1", "i0"]
    assert [r.id for r in history.incidents(label="c2", before_s=3.0)] == ["i0"]


def test_states_follow_each_other_and_shelving_ends(history):
    history.add_incident(RECORD)
    assert history.state("i1").state == "active"
    history.set_state("i1", "acknowledged", "ana", now_s=10.0)
    history.set_state("i1", "shelved", "bo", "pump maintenance", until_s=50.0, now_s=20.0)
    shelved = history.state("i1", now_s=30.0)
    assert (shelved.state, shelved.why) == ("shelved", "pump maintenance")
    assert history.state("i1", now_s=50.0).state == "active"
    assert [s.state for s in history.states("i1")] == ["acknowledged", "shelved"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": "gone"}, "no state 'gone'.*active, acknowledged, returned, shelved"),
        ({"state": "shelved", "why": "", "until_s": 99.0}, "give a reason and a later end"),
        ({"state": "shelved", "why": "test", "until_s": None}, "give a reason and a later end"),
        ({"state": "shelved", "why": "test", "until_s": 5.0}, "give a reason and a later end"),
        ({"incident": "i2", "state": "active"}, "no incident 'i2'"),
    ],
)
def test_impossible_states_are_refused(history, change, message):
    history.add_incident(RECORD)
    with pytest.raises(UserError, match=message):
        history.set_state(**{"incident": "i1", "who": "ana", "now_s": 10.0} | change)
    assert history.states("i1") == []


def test_feedback_and_answers_come_back_as_given(history):
    said = Feedback("10.0.0.5", 100.0, 160.0, "i1", "c2", "normal", "ana", "our own test", 170.0)
    history.add_incident(RECORD)
    history.set_state("i1", "acknowledged", "ana", now_s=170.0, said=said)
    history.add_answer("why?", {"standing": "likely", "facts": ["ä"]}, now_s=1.0)
    history.add_answer("who?", {"standing": "normal"}, now_s=2.0)
    assert history.feedback() == [said]
    assert history.feedback("10.0.0.6") == []
    assert history.answers() == [{"standing": "normal"}, {"standing": "likely", "facts": ["ä"]}]
    assert history.answers("why?") == [{"standing": "likely", "facts": ["ä"]}]


def test_a_file_of_version_1_is_brought_up_to_date_with_its_content(path):
    path.parent.mkdir()
    old = sqlite3.connect(path)
    for statement in MIGRATIONS[0]:
        old.execute(statement)
    old.execute("INSERT INTO conversations (who, capture, started_s) VALUES ('ana', 'a.pcap', 1.0)")
    old.execute(
        "INSERT INTO messages (conversation, role, text, at_s) VALUES (1, 'operator', 'hello', 2.0)"
    )
    old.execute("PRAGMA user_version = 1")
    old.commit()
    old.close()
    history = History(path)
    assert [m.text for m in history.messages(1)] == ["hello"]
    history.add_answer("why?", {}, conversation=1)
    assert history.answers() == [{}]
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


def test_remarks_of_version_2_are_told_and_can_be_taken_back(path):
    path.parent.mkdir()
    old = sqlite3.connect(path)
    for statement in (*MIGRATIONS[0], *MIGRATIONS[1]):
        old.execute(statement)
    old.execute("INSERT INTO incidents VALUES ('i1', '10.0.0.5', 'c2', 100.0, 160.0, 'beacon')")
    for label, at_s in (("normal", 1.0), ("c2", 2.0), ("", 3.0)):
        row = ("10.0.0.5", 100.0, 160.0, "i1", "c2", label, "ana", "w", at_s)
        names = "device, start_s, end_s, incident, verdict, label, who, why, at_s"
        old.execute(f"INSERT INTO feedback ({names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    states = [("acknowledged", None, at_s) for at_s in (1.0, 2.0, 3.0, 4.0)]
    for row in (*states, ("shelved", 99.0, 5.0)):
        names = "incident, who, why, state, until_s, at_s"
        old.execute(
            f"INSERT INTO incident_states ({names}) VALUES ('i1', 'ana', 'w', ?, ?, ?)", row
        )
    old.execute("PRAGMA user_version = 2")
    old.commit()
    old.close()
    history = History(path)
    acts = ["false_alarm", "confirm", "wrong", "acknowledge", "shelve"]
    assert [one.act for one in history.states("i1")] == acts
    assert history.undo("i1", "bo", "false_alarm").label == "normal"
    assert [one.label for one in history.feedback()] == ["c2", ""]
    assert history.state("i1", now_s=50.0).state == "shelved"
    history.undo("i1", "bo")
    assert history.state("i1", now_s=50.0).act == "acknowledge"


def test_a_state_and_what_is_said_with_it_are_kept_together_or_not_at_all(history):
    history.add_incident(RECORD)
    said = Feedback("10.0.0.5", 100.0, 160.0, "i1", "c2", None, "ana", "", 170.0)
    with pytest.raises(sqlite3.IntegrityError, match="NOT NULL"):
        history.set_state("i1", "acknowledged", "ana", act="wrong", said=said)
    assert (history.states("i1"), history.feedback()) == ([], [])


def test_a_file_of_a_later_version_is_left_alone(path):
    History(path).close()
    later = sqlite3.connect(path)
    later.execute("PRAGMA user_version = 99")
    later.close()
    with pytest.raises(UserError, match="has version 99; expected at most"):
        History(path)


def test_a_failed_change_leaves_nothing(history):
    number = history.start_conversation("ana")
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        history.add_message(number, "intruder", "x")
    assert history.messages(number) == []
    assert history.add_message(number, "operator", "still works") == 1


@pytest.mark.parametrize(
    "content",
    [b"no database at all, but long enough to look", b"SQLite format 3\x00" + b"\xff" * 500],
)
def test_a_damaged_file_is_named(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(UserError, match=str(path)):
        History(path)
    assert path.read_bytes() == content


def test_damage_in_the_middle_is_found_at_opening(path):
    first = History(path)
    number = first.start_conversation("ana")
    for _ in range(200):
        first.add_message(number, "operator", "x" * 200)
    first.file._connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    first.close()
    data = bytearray(path.read_bytes())
    data[8192:20480] = b"\xff" * 12288
    path.write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        History(path)


def test_a_folder_in_its_place_is_named(tmp_path):
    with pytest.raises(UserError, match=str(tmp_path)):
        History(tmp_path)


def test_threads_write_at_once(history):
    number = history.start_conversation("ana")

    def write() -> None:
        for _ in range(20):
            history.add_message(number, "operator", "x")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(history.messages(number)) == 80


def test_two_processes_write_at_once(path, history):
    number = history.start_conversation("ana")
    code = (
        "import sys; from assistant.history import History; h = History(sys.argv[1]);"
        "[h.add_message(int(sys.argv[2]), 'operator', sys.argv[3]) for _ in range(25)]"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code, str(path), str(number), who])
        for who in ("one", "two")
    ]
    assert [run.wait(timeout=60) for run in runs] == [0, 0]
    assert sorted(m.text for m in history.messages(number)) == ["one"] * 25 + ["two"] * 25


def test_a_process_that_dies_mid_change_leaves_a_good_file(path, history):
    number = history.start_conversation("ana")
    history.add_message(number, "operator", "kept")
    code = (
        "import os, sys; from assistant.history import History; h = History(sys.argv[1])\n"
        "with h.file.change() as c:\n"
        "    c.execute(\"INSERT INTO messages (conversation, role, text, at_s) VALUES (1, 'operator', 'lost', 0)\")\n"
        "    os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
    assert [m.text for m in History(path).messages(number)] == ["kept"]
