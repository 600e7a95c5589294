"""Codes: error codes, registers, techniques, status names, however they are asked for; and those that
no document holds."""

from collections.abc import Iterator

import pytest
from made_documents import write_manual_pdf

from assistant.cli.main import main
from assistant.diagnosis.citations import cite
from knowledge_base.embeddings import SentenceEmbedder
from knowledge_base.index import Index, open_index
from knowledge_base.relevance import CODE_SURE
from knowledge_base.retriever import find_missing, search
from knowledge_base.vocabulary import make_terms

TABLES = {
    "Fault messages": [
        ["Code", "Cause", "Remedy"],
        ["E-430", "Motor too warm", "Clean the fan."],
        ["E-431", "Dry running", "Open the inlet valve, vent the pump."],
        ["E-432", "Bearing too warm", "Grease the bearing."],
    ],
    "Modbus registers": [
        ["Register", "Name", "Unit"],
        ["40001", "Speed setpoint", "0.1 rpm"],
        ["40002", "Actual speed", "0.1 rpm"],
    ],
    "Exceptions": [
        ["Exception", "Name", "Remedy"],
        ["0x0A", "Path unavailable", "Free a line."],
        ["0x0B", "Target failed to respond", "Is the slave powered?"],
        ["0x107", "ESP_ERR_TIMEOUT", "Raise the time-out of the slave."],
        ["0x108", "ESP_ERR_INVALID_RESPONSE", "Check the wiring."],
    ],
    "Status codes": [
        ["Number", "Name", "Meaning"],
        ["0x80220000", "BadSecureChannelIdInvalid", "The channel is unknown."],
        ["0x80860000", "BadSecureChannelClosed", "The channel has ended."],
    ],
    "Techniques seen here": [
        ["Technique", "Name"],
        ["T0846", "Remote system discovery"],
        ["T0888", "Remote system information"],
    ],
}
# Passages that only mention a code come after the row that explains it.
MENTIONED = (
    "A fault such as E-431 stays until it is acknowledged. The log of the master then reads: failure "
    "error=(0x107) (ESP_ERR_TIMEOUT). After BadSecureChannelClosed a session may go on. What writes to "
    "register 40001 is logged. Exception 0x0B and T0846 are found in the log too."
)
ASKED = {
    "Raise the time-out": [
        *("what does 0x107 mean", "what does 0x107 mean and what do I do?", "0X107", "0x0107"),
        *("107h", "107 hex", "Ox107", "eror 0x107 waht shuld I do", "was bedeutet 0x107"),
        *("esp_err_timeout", "ESP ERR TIMEOUT", "ESP_ERR_TIMEUOT", "error code 263"),
    ],
    "Is the slave powered": [
        *("what does 0x0B mean", "exception 11", "0xB", "0Bh", "exception code 0B"),
        "modbus exeption 0x0B",
    ],
    "Dry running": ["what is E-431", "E431", "e 431", "fault E 431", "E_431", "disply says e431"],
    "Remote system discovery": ["what is T0846", "t0846", "T 0846", "waht does T0846 meen"],
    "Speed setpoint": [
        *("register 40001", "40001", "what does 40001 hold", "regster 40001", "reg 40001"),
        "what is at modbus adress 40001",
    ],
    "The channel has ended": [
        *("what is BadSecureChannelClosed", "badsecurechannelclosed", "Bad_SecureChannelClosed"),
        *("Bad Secure Channel Closed", "BadSecureChanelClosed", "0x80860000"),
    ],
}
NOWHERE = {
    "what does 0x109 mean": "0x109",
    "E-413": "E-413",  # E-431 is another code, no typing error
    "register 40999": "40999",
    "what is T9846": "T9846",
    "BadSessionClosed": "BadSessionClosed",
    "what does 0x80870000 mean": "0x80870000",
}


def render_rows(rows: list[list[str]]) -> str:
    head, *others = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([head, "| --- " * len(rows[0]) + "|", *others])


@pytest.fixture(scope="module", params=["md", "pdf"])
def manual(request, tmp_path_factory) -> Iterator[Index]:
    """An index of one manual whose codes stand in cells of tables, and are mentioned elsewhere."""
    path = tmp_path_factory.mktemp("codes") / f"pump.{request.param}"
    if request.param == "pdf":
        parts = [("Operation", MENTIONED), *TABLES.items()]
        write_manual_pdf(path, parts, title="Pump manual")
    else:
        tables = "".join(f"## {name}\n\n{render_rows(rows)}\n\n" for name, rows in TABLES.items())
        path.write_text(f"# Pump manual\n\n## Operation\n\n{MENTIONED}\n\n{tables}")
    home = tmp_path_factory.mktemp("home")
    with open_index(home, SentenceEmbedder()) as index:
        index.add([path])
        yield index


@pytest.mark.parametrize(
    ("question", "row"), [(asked, row) for row, some in ASKED.items() for asked in some]
)
def test_a_code_is_answered_by_the_row_that_explains_it(manual, question, row):
    first, *_ = search(manual, question)
    assert row in first.text
    assert first.score >= CODE_SURE
    assert find_missing(manual, question) == ()


@pytest.mark.parametrize(("question", "code"), NOWHERE.items())
def test_a_code_of_no_document_gets_no_passage_and_is_named(manual, question, code):
    assert search(manual, question) == []
    assert find_missing(manual, question) == (code,)


def test_the_row_is_quoted_whole(manual):
    (first,) = cite(search(manual, "what does 0x107 mean and what do I do?", 1), "what is 0x107")
    assert first.excerpt == "0x107 ESP_ERR_TIMEOUT Raise the time-out of the slave."


@pytest.mark.parametrize("written", ["0x0B", "0X0b", "0xb", "0x000B", "0Bh"])
def test_a_number_in_hex_is_one_however_it_is_written(written):
    assert "0xb" in make_terms(f"exception {written}")


def test_hours_are_no_hex():
    assert "0x24" not in make_terms("after 24h")


def test_the_command_names_the_code_that_no_document_holds(stocked_home, capsys):
    assert main(["kb", "search", "what does 0x107 mean"]) == 0
    assert capsys.readouterr().out == "no passage found: no document holds 0x107\n"
    assert main(["kb", "search", "what does E-1042 mean"]) == 0
    assert capsys.readouterr().out.startswith("Norvik CX-20")
