"""Past incidents: shipped ones are sound and cover the labels, written ones come back unchanged."""

import string
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_base.documents import read_documents
from knowledge_base.formats.incident import PastIncident, parse_incident, render_incident
from knowledge_base.retriever import read_incidents, write_incident
from traffic.errors import UserError
from traffic.labels import LABELS, NORMAL

SEAL = PastIncident(
    id="INC-2026-100",
    title="Sealer silent: a loose plug",
    date=date(2026, 9, 1),
    plant="Test plant",
    devices={"plc-seal": "plc"},
    label="device_silent",
    direction="source",
    symptoms="40 ARP requests, no reply.",
    cause="Loose plug.",
    fix="Plug pushed in.",
    downtime_min=4,
    account="Found at once.",
)


def test_shipped_incidents_cover_every_label_and_own_up_to_wrong_guesses():
    incidents = read_incidents()
    assert len(incidents) >= 16
    assert {incident.label for incident in incidents} == set(LABELS)
    assert all((incident.direction == "") == (incident.label == NORMAL) for incident in incidents)
    wrong = [incident for incident in incidents if incident.first_guess]
    assert len(wrong) >= 4
    assert all(
        incident.first_guess in LABELS and incident.first_guess != incident.label
        for incident in wrong
    )
    assert all(
        any(character.isdigit() for character in incident.symptoms) for incident in incidents
    )


line = st.text(
    string.ascii_letters + string.digits + " :-#'\"{}[]%äß,", min_size=1, max_size=60
).filter(str.strip)


@given(
    symptoms=line,
    cause=line,
    title=line,
    account=st.text(string.ascii_letters + " -:\n", max_size=80),
)
def test_what_is_written_is_read_back(symptoms, cause, title, account):
    changed = {"symptoms": symptoms, "cause": cause, "title": title, "account": account}
    incident = PastIncident.model_validate(SEAL.model_dump() | changed)
    assert parse_incident(render_incident(incident), "here") == incident


def test_a_resolved_incident_becomes_a_document(tmp_path):
    path = write_incident(SEAL, tmp_path / "resolved")
    assert path.name == "inc-2026-100-sealer-silent-a-loose-plug.md"
    (document,) = read_documents(path).documents
    assert (document.kind, document.title) == (
        "incident",
        "INC-2026-100 Sealer silent: a loose plug",
    )
    assert [section.path for section in document.sections] == [
        ("Symptoms",),
        ("Cause and fix",),
        ("Account",),
    ]
    assert "Label: device_silent. Devices: plc-seal (plc)." in document.sections[0].text
    assert "Loose plug" not in document.sections[0].text


def test_an_incident_is_never_overwritten_by_another(tmp_path):
    path = write_incident(SEAL, tmp_path)
    assert write_incident(SEAL, tmp_path) == path
    with pytest.raises(UserError, match="exists with other content"):
        write_incident(SEAL.model_copy(update={"cause": "Rust."}), tmp_path)


def test_two_incidents_of_one_id_are_an_error(tmp_path):
    write_incident(SEAL, tmp_path)
    write_incident(SEAL.model_copy(update={"title": "Other"}), tmp_path)
    with pytest.raises(UserError, match="holds INC-2026-100 more than once"):
        read_incidents(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "label: device_silent",
            "label: dead",
            "'dead' is no label; expected one of normal, recon",
        ),
        ("downtime_min: 4", "downtime_min: -4", "downtime_min: Input should be greater"),
        ("downtime_min: 4", "downtime: 4", "downtime: Extra inputs"),
        ("id: INC-2026-100", "id: ../../etc/x", "id: String should match"),
        ("date: 2026-09-01", "date: soon", "date: Input should be a valid date"),
    ],
)
def test_a_slip_in_the_front_matter_is_named(tmp_path, old, new, message):
    path = write_incident(SEAL, tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(UserError) as told:
        read_incidents(tmp_path)
    assert message in str(told.value)
    assert str(path) in str(told.value)
