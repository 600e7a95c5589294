"""Past incidents: shipped ones are sound and cover the labels, written ones come back unchanged."""

import string
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_base.documents import read_documents
from knowledge_base.formats.incident import PastIncident, parse_incident, render_incident
from traffic.errors import UserError
from traffic.labels import LABELS, NORMAL

SHIPPED = Path(__file__).parents[1] / "knowledge_base" / "incidents"
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
    paths = sorted(SHIPPED.glob("*.md"))
    incidents = [parse_incident(path.read_text(encoding="utf-8"), path.name) for path in paths]
    assert len({incident.id for incident in incidents}) == len(incidents) >= 16
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
    path = tmp_path / "seal.md"
    path.write_text(render_incident(SEAL))
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
    text, path = render_incident(SEAL), tmp_path / "seal.md"
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(UserError) as told:
        read_documents(path)
    assert message in str(told.value)
    assert str(path) in str(told.value)
