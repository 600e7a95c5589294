"""Which documents an answer may cite: a device's manual for that device alone, examples marked."""

from dataclasses import replace

from bottling_line import PLC

from assistant.diagnosis import diagnose
from assistant.diagnosis.sources import keep_fitting, read_identity
from knowledge_base.retriever import search
from traffic.plant import Plant


def with_model(line, model: str):
    devices = tuple(
        replace(one, model=model) if one.address == PLC else one for one in line.plant.devices
    )
    return replace(line, plant=Plant(devices))


def test_a_manual_of_another_device_is_not_cited(line, index):
    found = search(index, "controller does not answer ARP, program download fails", 12, "manual")
    assert {"", "Norvik CX-20"} <= {one.about for one in found}
    other = keep_fitting(found, read_identity(PLC, with_model(line, "Siemens S7-1200")))
    own = keep_fitting(found, read_identity(PLC, with_model(line, "Norvik CX-20")))
    assert {one.about for one in other} == {""}
    assert {one.about for one in own} == {"", "Norvik CX-20"}


def test_what_ships_is_marked_and_never_the_plants_own_past(line, index):
    answer = diagnose("what is wrong?", line, index)
    cited = (*answer.citations, *answer.similar)
    assert answer.similar
    assert all(one.example and one.place.endswith("(example)") for one in cited)
    assert "A similar example" in answer.long
    assert "Seen before" not in answer.long
