"""Amounts that questions ask for and passages state."""

import pytest

from knowledge_base.amounts import read_amount, state_amount

_TABLE = """| Item | Value |
| --- | --- |
| Weight | 2.3 kg |
| Reply within | 30 s |
| Cable | shielded |"""


def _state(question: str, text: str, device: frozenset[str] = frozenset()) -> float:
    asked = read_amount(question, question.split())
    assert asked.kinds
    return state_amount(asked, text, device)


@pytest.mark.parametrize(
    ("question", "kinds"),
    [
        ("how heavy is it", {"weight"}),
        ("torque of the screws", {"torque"}),
        ("how long may the cable be", {"length", "time"}),
        ("price of the pump", {"money"}),
        ("what does E-12 mean", set()),
        ("how do I reset it", set()),
    ],
)
def test_the_kind_of_amount_that_is_asked_for(question: str, kinds: set[str]) -> None:
    assert read_amount(question, question.split()).kinds == kinds


@pytest.mark.parametrize(
    ("question", "stated"),
    [
        ("how heavy is the pump", 1.0),  # its row says weight
        ("weight of the pump", 1.0),  # named in its row
        ("how long may the cable be", 0.5),  # a time somewhere, none of the cable
        ("price of the pump", 0.0),
        ("torque of the cable", 0.0),
    ],
)
def test_a_row_states_an_amount_with_its_unit_beside_its_name_or_thing(
    question: str, stated: float
) -> None:
    assert _state(question, _TABLE) == stated


def test_what_names_the_device_is_no_thing_of_it() -> None:
    text = "The pump is green. It needs 400 V."
    assert _state("pump voltage", text) == 0.5
    assert _state("pump voltage", text, frozenset({"pump"})) == 1.0


def test_other_languages_are_put_into_english() -> None:
    assert _state("weight of the device", "Gewicht des Geräts: 4,8 kg und nicht mehr") == 1.0


def test_a_rhythm_is_a_time() -> None:
    assert _state("how often is the filter cleaned", "Each week: the filter is rinsed.") == 1.0
