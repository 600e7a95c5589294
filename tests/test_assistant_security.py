"""Whether an anomaly is a matter for security is the plant's to say; what plant.yaml leaves out keeps
its default."""

from dataclasses import replace

import pytest
from bottling_line import PLANT, beacon, make_analysis, silence

from assistant.answers.answer import answer
from assistant.detection.incidents import Incident
from assistant.facts.traffic_view import TrafficView
from traffic.plant import Security


def ask(incident: Incident, rules: Security) -> str:
    analysis = make_analysis((incident,))
    plant = replace(PLANT, security=rules)
    view = TrafficView(analysis.capture, analysis.windows.samples, plant)
    analysis = replace(analysis, plant=plant, view=view)
    said = answer("is this a matter for security?", analysis, None)
    assert said.removed == 0
    return said.text


@pytest.mark.parametrize(
    ("incident", "rules", "begins", "says"),
    [
        (beacon(), Security(), "**Yes", "belongs to attacks"),
        (silence(), Security(), "**No", "technical fault"),
        # A plant that takes beacons of its own makers for granted.
        (beacon(), Security(labels=("recon",)), "**No", "technical fault"),
        (silence(), Security(labels=("device_silent",)), "**Yes", "as plant.yaml says of all of this kind"),
        (silence(), Security(devices=("PLC-2",)), "**Yes", "all that happens at"),
        (beacon(), Security(labels=(), outside=True), "**Yes", "addresses outside the plant"),
        (silence(), Security(outside=True), "**No", "technical fault"),
    ],
)  # fmt: skip
def test_the_plants_criteria_decide(
    incident: Incident, rules: Security, begins: str, says: str
) -> None:
    text = ask(incident, rules)
    assert text.startswith(begins)
    assert says in text


def test_who_is_to_be_told_is_said_where_it_is_a_matter() -> None:
    rules = Security(contact="the SOC, 4711")
    assert "the SOC, 4711" in ask(beacon(), rules)
    assert "4711" not in ask(silence(), rules)
