"""The commands of an engineer: what would change, what is known, tickets, carrying, and questions
that a manual must answer."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from word_vectors import WordVectors

from knowledge_base.about import Scope
from knowledge_base.index import Index, open_index
from knowledge_base.portable import export_documents, import_documents
from knowledge_base.retriever import search
from knowledge_base.review import review, share_right
from knowledge_base.tickets import read_tickets, write_tickets
from traffic.errors import UserError


@pytest.fixture
def index(home: Path) -> Iterator[Index]:
    with open_index(home, WordVectors()) as opened:
        yield opened


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


PUMP = "# Pump\n## Ports\nPort 502 is open.\n## Codes\nE-431 means air in the line.\n"


def test_a_dry_run_tells_and_changes_nothing(index, tmp_path):
    pump = write(tmp_path / "pump.md", PUMP)
    index.add([pump])
    before = index.manifest
    write(pump, PUMP + "More.\n")
    fan = write(tmp_path / "fan.md", "# Fan\nOn.\n")
    said = index.add([pump, fan], dry=True)
    assert (said.added, said.replaced) == (("Fan",), ("Pump",))
    assert index.manifest == before


@pytest.mark.parametrize("called", ["Pump", "pump.md", "id", "path"])
def test_a_document_is_called_by_title_file_id_or_path(index, tmp_path, called):
    path = write(tmp_path / "pump.md", PUMP)
    index.add([path], scope=Scope(roles=("pump",)))
    name = {"id": index.list()[0].id, "path": str(path)}.get(called, called)
    entry = index.entry(name)
    assert entry.scope.roles == ("pump",)
    assert [one.section for one in index.passages(entry)] == ["Ports", "Codes"]
    index.remove(name)
    assert index.list() == ()


QUESTIONS = """questions:
- {question: what is port 502, document: Pump, section: ports}
- {question: what does e-431 mean, document: pump.md, section: Ports}
- {question: zebra xylophone, document: ""}
"""


def test_questions_are_held_against_document_and_section(index, tmp_path):
    index.add([write(tmp_path / "pump.md", PUMP)])
    answered = review(index, write(tmp_path / "q.yaml", QUESTIONS))
    assert answered[0].rank == 1
    # The second names the wrong section: a passage of it is found behind the right one, or not.
    assert answered[1].rank != 1
    assert answered[2].right
    assert share_right(answered) == sum(one.right for one in answered) / 3


def test_questions_on_an_unknown_document_are_told(index, tmp_path):
    path = write(tmp_path / "q.yaml", QUESTIONS)
    with pytest.raises(UserError, match=r"q.yaml: 0 documents are called 'Pump'.*and 1 more"):
        review(index, path)


TICKETS = """Nr;Kurztext;Gemeldet;Beschreibung;Ursache;Massnahme;Anlage;Art
T 1;Pumpe steht;01.02.2026;"Kein Druck;
seit 8 Uhr";Luft;Entlueftet;P-7, P-8;device_silent
T2;Ventil;02.02.2026;Klemmt;;;V-1;
T3;Anzeige;Februar;Dunkel;Lampe;Getauscht;H-1;x
T4;Netz;2026-02-04;Langsam;Kabel;Getauscht;S-1;Kabelbruch
"""
COLUMNS = {
    "id": "Nr",
    "title": "Kurztext",
    "date": "Gemeldet",
    "symptoms": "Beschreibung",
    "cause": "Ursache",
    "fix": "Massnahme",
    "devices": "Anlage",
    "label": "Art",
}


def test_tickets_become_incidents_that_answer(index, tmp_path):
    tickets = read_tickets(write(tmp_path / "t.csv", TICKETS), COLUMNS)
    assert [*tickets.incidents] == ["t-1.md", "t4.md"]
    first = tickets.incidents["t-1.md"]
    assert (first.symptoms, first.label) == ("Kein Druck;\nseit 8 Uhr", "device_silent")
    assert first.devices == {"P-7": "", "P-8": ""}
    assert tickets.notes[0] == f"2 of 4 tickets in {tmp_path / 't.csv'} were skipped"
    assert "line 4: cause: Field required; fix: Field required" in tickets.notes[1]
    assert "line 5: 'Februar' is no date" in tickets.notes[2]
    assert tickets.notes[3].startswith("2 tickets have a label that is none ('x', 'Kabelbruch')")
    folder = tmp_path / "incidents"
    index.add(write_tickets(tickets, folder))
    assert "Luft" in search(index, "ursache luft entlueftet", kind="incident")[0].text
    again = read_tickets(write(tmp_path / "t.csv", TICKETS.replace(";Luft;", ";Leck;")), COLUMNS)
    said = index.add(write_tickets(again, folder))
    assert (len(said.replaced), len(said.unchanged)) == (1, 1)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, r"no column for id=id.*expected some of 'Nr', 'Kurztext'"),
        (COLUMNS | {"cause": "Grund"}, "no column for cause=Grund"),
        (COLUMNS | {"colour": "Art"}, "'colour' is no field of an incident"),
        (COLUMNS | {"fix": "Nr", "cause": "Nr", "date": "Nr"}, "holds no ticket that can be taken"),
    ],
)
def test_a_wrong_mapping_is_told(tmp_path, columns, message):
    with pytest.raises(UserError, match=message):
        read_tickets(write(tmp_path / "t.csv", TICKETS), columns)


def test_documents_are_carried_with_what_is_known_of_them(index, tmp_path):
    pump = write(tmp_path / "a" / "m.md", PUMP)
    fan = write(tmp_path / "b" / "m.md", "# Fan\nOn.\n")
    gone = write(tmp_path / "c" / "gone.md", "# Gone\nOff.\n")
    index.add([pump, fan, gone], about="Acme P-7", scope=Scope(site="north"))
    gone.unlink()
    done = export_documents(index, tmp_path / "out")
    assert done.count == 2
    assert done.notes == (f"Gone was left out: {gone} is gone; add it again first",)
    shutil.rmtree(tmp_path / "a")
    home = tmp_path / "other"
    with open_index(home, WordVectors()) as other:
        said = import_documents(other, tmp_path / "out", home)
        assert said.added == ("Fan", "Pump")
        shutil.rmtree(tmp_path / "out")
        assert {(e.about, e.scope.site) for e in other.list()} == {("Acme P-7", "north")}
        assert other.check(apart=False).ok
        assert all(Path(entry.path).is_file() for entry in other.list())


@pytest.mark.parametrize(
    ("file", "message"),
    [("../secret.md", "is not in the folder"), ("documents/pump.md", "its SHA-256 differs")],
)
def test_an_export_that_was_tampered_with_is_refused(index, tmp_path, file, message):
    index.add([write(tmp_path / "pump.md", PUMP)])
    write(tmp_path / "secret.md", "# Secret\nNo.\n")
    export_documents(index, tmp_path / "out")
    card = tmp_path / "out" / "knowledge.json"
    content = json.loads(card.read_text())
    content["documents"][0]["file"] = file
    write(card, json.dumps(content))
    write(tmp_path / "out" / "documents" / "pump.md", PUMP + "report normal\n")
    with pytest.raises(UserError, match=message):
        import_documents(index, tmp_path / "out", tmp_path / "home2")
    assert [entry.title for entry in index.list()] == ["Pump"]
