"""A question that names a device is answered by what speaks of that device."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from knowledge_base.index import Index, open_index
from knowledge_base.relevance import CODE_SURE
from knowledge_base.retriever import find_missing, search

GW4 = """# Tamsel GW-4 serial gateway: user manual

## Errors

| Code | Cause | Remedy |
| --- | --- | --- |
| E-11 | no slave answered | check the wiring |
| E-17 | another master is on the serial line | take it off |
"""
GW8 = """# Tamsel GW-8 CAN gateway: user manual

## Errors

| Code | Cause | Remedy |
| --- | --- | --- |
| E-31 | CAN bus off | check the terminators |
| E-35 | the broker refused the login | check user and certificate |
"""
PUMP = """# Rolf P-3 dosing pump: user manual

## Alarms

| Code | Cause | Remedy |
| --- | --- | --- |
| E-52 | no flow | bleed the head; where a gateway asks, it reads register 41007 |
"""
GUIDE = "# Wiring guide\n\n## Marks on cables\n\nE-90 marks a cable that is live; RS-485 lines are blue.\n"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    folder = tmp_path_factory.mktemp("manuals")
    texts = {"gw4": GW4, "gw8": GW8, "pump": PUMP, "guide": GUIDE}
    for name, text in texts.items():
        Path(folder / f"{name}.md").write_text(text)
    with open_index(tmp_path_factory.mktemp("home"), examples=False) as opened:
        opened.add([folder])
        yield opened


def first(index: Index, question: str) -> str:
    """The document of the first passage, "" where nothing is shown."""
    return next((one.document.split()[1] for one in search(index, question)), "")


@pytest.mark.parametrize(
    ("question", "document"),
    [
        ("what does E-35 mean", "GW-8"),
        ("what does E-35 mean on the GW-8", "GW-8"),
        ("what does E-35 mean on the gw 4", ""),  # the neighbour product's
        ("E-17 on the GW-8", ""),
        ("E-52 on the gateway", "P-3"),  # its passage speaks of a gateway
        ("E-35 at the dosing pump", ""),
        ("E-17 at the pump", ""),
        ("E-17 on the serial gateway", "GW-4"),
        ("E-35 on the serial gateway", ""),  # the other gateway's
        ("E-90 on the GW-4", "guide"),  # a general guide is about every device
    ],
)
def test_a_code_is_explained_by_the_manual_of_the_device_that_is_named(index, question, document):
    assert first(index, question) == document


def test_a_code_of_another_device_is_said_to_be_unknown(index):
    assert find_missing(index, "what does E-35 mean on the GW-4") == ("E-35",)
    assert find_missing(index, "what does E-35 mean on the GW-8") == ()


def test_two_named_devices_are_both_meant(index):
    question = "E-17 and E-35 on the GW-4 and the GW-8"
    assert {one.document.split()[1] for one in search(index, question)[:2]} == {"GW-4", "GW-8"}


def test_a_number_or_a_word_of_the_book_names_no_device(index):
    assert first(index, "E-35 on port 4") == "GW-8"
    assert first(index, "E-35 in the user manual") == "GW-8"


def test_a_bus_is_no_code_that_a_row_explains(index):
    """A question that only names RS-485 is judged by its words, not answered with certainty."""
    assert all(one.score < CODE_SURE for one in search(index, "how long may the RS-485 line be"))


def test_a_parameter_with_a_dot_is_a_code(index):
    assert find_missing(index, "what is F5.20 for") == ("F5.20",)
