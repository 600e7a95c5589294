"""The audit log: whole, cut, altered or not there, whoever did it and however."""

import itertools
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing

import pytest

from assistant.audit import check_audit, head_path
from assistant.history import History, IncidentRecord

RECORD = IncidentRecord("i1", "10.0.0.5", "c2", 100.0, 160.0, "beacon")


@pytest.fixture
def path(tmp_path):
    """Five rows: an incident kept, acknowledged, taken back, shelved, and another one kept."""
    path = tmp_path / "history.sqlite"
    history = History(path)
    history.add_incident(RECORD)
    history.set_state("i1", "acknowledged", "ana", "on my way", now_s=200.0, act="acknowledge")
    history.undo("i1", "ana", now_s=210.0)
    history.set_state("i1", "shelved", "bo", "fitter comes", until_s=900.0, now_s=220.0)
    history.add_incident(IncidentRecord("i2", "10.0.0.6", "dos", 300.0, 310.0, ""))
    history.close()
    return path


def change(path, *statements: str) -> None:
    """What somebody with the file in his hands can do: triggers are his to drop."""
    connection = sqlite3.connect(path)
    for name in ("audit_is_not_changed", "audit_is_not_erased"):
        connection.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_an_untouched_log_is_whole_and_tells_every_change(path):
    found = check_audit(path)
    assert (found.outcome, found.rows) == ("whole", 5)
    rows = sqlite3.connect(path).execute("SELECT who, act, subject FROM audit").fetchall()
    assert rows == [
        ("faultwise", "keep", "i1"),
        ("ana", "acknowledge", "i1"),
        ("ana", "undo", "i1"),
        ("bo", "shelved", "i1"),
        ("faultwise", "keep", "i2"),
    ]


@pytest.mark.parametrize(
    ("statement", "outcome"),
    [
        ("UPDATE audit SET who = 'eve' WHERE n = 2", "altered"),
        ("UPDATE audit SET at_s = at_s + 1 WHERE n = 5", "altered"),
        ("UPDATE incident_states SET why = 'nothing to see' WHERE id = 3", "altered"),
        ("DELETE FROM incident_states WHERE id = 3", "altered"),
        (
            "INSERT INTO incident_states (incident, state, who, why, at_s)"
            " VALUES ('i1', 'returned', 'eve', '', 230.0)",
            "altered",
        ),
        ("DELETE FROM audit WHERE n = 5", "cut"),
        ("DELETE FROM audit WHERE n = 1", "cut"),
        ("DELETE FROM audit WHERE n = 3", "cut"),
        ("DELETE FROM audit", "cut"),
        ("DROP TABLE audit", "not there"),
    ],
)
def test_what_somebody_does_to_the_file_shows(path, statement, outcome):
    change(path, statement)
    assert check_audit(path).outcome == outcome


def test_a_cut_end_shows_though_the_counter_was_cut_too(path):
    change(path, "DELETE FROM audit WHERE n > 3", "UPDATE sqlite_sequence SET seq = 3")
    assert check_audit(path).outcome == "cut"


def test_an_older_copy_put_in_its_place_is_cut(path):
    kept = path.read_bytes()
    history = History(path)
    history.set_state("i2", "acknowledged", "ana", now_s=400.0)
    history.close()
    path.write_bytes(kept)
    assert check_audit(path).outcome == "cut"


@pytest.mark.parametrize("spoil", [lambda head: head.unlink(), lambda head: head.write_text("{")])
def test_a_note_that_a_crash_cut_is_no_damage(path, spoil: Callable):
    spoil(head_path(path))
    assert check_audit(path).outcome == "whole"


def test_no_file_is_said(tmp_path):
    assert check_audit(tmp_path / "history.sqlite").outcome == "not there"


@pytest.mark.parametrize("statement", ["UPDATE audit SET who = 'eve'", "DELETE FROM audit"])
def test_the_program_itself_can_only_add(path, statement):
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="only added to"):
        connection.execute(statement)


def test_a_log_that_grows_while_it_is_checked_is_whole(path):
    over = threading.Event()

    def go_on() -> None:
        with closing(History(path)) as history:
            for number in itertools.count():
                if over.is_set():
                    return
                history.set_state(
                    "i2", "acknowledged", "ana", f"act {number}", now_s=400.0 + number
                )

    writer = threading.Thread(target=go_on)
    writer.start()
    try:
        checks = [check_audit(path) for _ in range(60)]
    finally:
        over.set()
        writer.join()
    assert {one.outcome for one in checks} == {"whole"}
    assert checks[-1].rows > checks[0].rows  # it did grow
