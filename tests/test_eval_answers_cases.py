"""Cases are read strictly, and the shipped ones hint at nothing."""

from pathlib import Path

import pytest
import yaml

from assistant.cli.main import main
from eval.answers.cases import CASES, find_cases, read_cases, read_questions
from traffic.errors import UserError
from traffic.labels import LABELS

QUESTION = {
    "id": "q900",
    "group": "own terms",
    "question": "E-1099",
    "answers": {"norvik-cx20-plc": ["Error codes"]},
}
CASE = {
    "id": "a900", "capture": "k900", "question": "why?", "devices": ["{source}"], "causes": ["service_down"],
    "standings": ["confirmed"],
}  # fmt: skip


def questions(folder: Path, *added: dict, **changed: object) -> Path:
    path = folder / "retrieval.yaml"
    file = {"version": 1, "documents": "shipped", "questions": [QUESTION, *added]} | changed
    path.write_text(yaml.safe_dump(file), encoding="utf-8")
    return path


def cases(folder: Path, *added: dict, captures: dict | None = None) -> Path:
    path = folder / "answers.yaml"
    file = {
        "version": 1,
        "captures": captures or {"k900": {"sample": "bottling-line"}},
        "cases": [CASE, *added],
    }
    path.write_text(yaml.safe_dump(file), encoding="utf-8")
    return path


def test_every_mistake_of_a_file_is_named_by_its_case_and_key(tmp_path: Path) -> None:
    odd = [{**QUESTION, "id": "q901", "qestion": "?"}, {"id": "q902", "group": "x", "question": ""}]
    path = questions(tmp_path, *odd)
    with pytest.raises(UserError) as refused:
        read_questions([path])
    message = str(refused.value)
    assert message.startswith(f"{path} has 3 mistakes: ")
    assert "q901.qestion: no such key" in message
    assert "q902.question: String should have" in message
    assert "q902.answers: Field required" in message


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"causes": ["sabotage"]}, "a901: causes: no label is called sabotage"),
        ({"standings": ["sure"]}, "a901.standings.0: Input should be 'confirmed'"),
        ({"devices": []}, "a901: devices: expected at least one, or refused: true"),
        ({"refused": True}, "a901: refused: a refused question has no devices, causes, standings"),
        ({"capture": "k999"}, "a901.capture: k999; expected some of k900"),
        ({"question": "why {peer}?"}, "a901: {peer} stands for nothing; expected {source} or"),
        ({"id": "port-scan"}, "port-scan.id: String should match pattern"),
        ({"id": "a900"}, "uses a900 again"),
    ],
)
def test_a_wrong_case_is_refused(tmp_path: Path, changed: dict, said: str) -> None:
    with pytest.raises(UserError) as refused:
        read_cases([cases(tmp_path, {**CASE, "id": "a901"} | changed)])
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({}, "0 origins are given; expected one of sample, data, file, simulated"),
        ({"sample": "bottling-line", "data": "x"}, "2 origins are given"),
        (
            {"simulated": {"seed": 1, "devices": 5, "hours": 0.5, "scenarios": ["normal"]}},
            "no scenario is called normal",
        ),
        ({"recorded": {"seed": 1, "kind": "earthquake", "minutes": 5}}, "no event is called earth"),
        ({"data": "line.pcap"}, "a900: {source} or {target}; expected addresses"),
    ],
)
def test_a_wrong_capture_is_refused(tmp_path: Path, source: dict, said: str) -> None:
    with pytest.raises(UserError) as refused:
        read_cases([cases(tmp_path, captures={"k900": source})])
    assert said in str(refused.value)


def test_a_healthy_plant_needs_no_device(tmp_path: Path) -> None:
    well = {**CASE, "id": "a901", "devices": [], "causes": ["normal"], "standings": ["normal"]}
    (file,) = read_cases([cases(tmp_path, well)])
    assert file.cases[1].devices == ()


def test_what_is_no_file_of_cases_is_said(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("questions: [", encoding="utf-8")
    with pytest.raises(UserError, match=r"broken\.yaml is not YAML"):
        read_questions([tmp_path / "broken.yaml"])
    with pytest.raises(UserError, match=r"gone\.yaml cannot be read \(No such file"):
        read_questions([tmp_path / "gone.yaml"])


@pytest.mark.parametrize("command", ["retrieval", "answers"])
def test_a_command_refuses_a_wrong_file(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cases.yaml"
    path.write_text("version: 1\nanswrs: []\n", encoding="utf-8")
    assert main(["eval", command, "--cases", str(path)]) == 2
    assert f"error: {path} has" in (said := capsys.readouterr().err)
    assert "answrs: no such key" in said


def test_the_shipped_questions_are_enough() -> None:
    asked = [one for file in read_questions(find_cases("retrieval")) for one in file.questions]
    assert len(asked) >= 60
    assert sum(not one.answers for one in asked) >= 12


def test_the_shipped_cases_are_enough_and_every_label_is_among_them() -> None:
    asked = [case for file in read_cases(find_cases("answers")) for case in file.cases]
    assert len(asked) >= 40
    assert {label for case in asked for label in case.causes} == {*LABELS, "none"}


def test_no_file_of_cases_has_a_name_that_hints() -> None:
    assert {path.stem.partition("-")[0] for path in CASES.iterdir()} == {
        "answers", "asked", "retrieval",
    }  # fmt: skip
    assert not [path for path in CASES.iterdir() for label in LABELS if label in path.stem]


ENTRY = {"capture": "a.pcap", "ask": "is it ok?", "standing": ["normal"]}


def test_short_lines_become_cases_of_one_capture_each_way_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "asked.yaml"
    blind = ENTRY | {"sensor": ["drops_30"], "device": "10.0.0.1", "must_not": ["healthy"]}
    entries = [ENTRY, ENTRY | {"ask": "who?", "must": ["10"]}, blind]
    path.write_text(yaml.safe_dump({"version": 1, "folder": "field", "cases": entries}))
    (file,) = read_cases([path])
    assert [case.id for case in file.cases] == ["fieldx-001", "fieldx-002", "fieldxdegraded-003"]
    assert file.cases[0].capture == file.cases[1].capture != file.cases[2].capture
    groups = {file.captures[case.capture].group for case in file.cases}
    assert groups == {"field", "degraded"}
    assert file.captures["field/a.pcap"].data == "field/a.pcap"
    # A list alone is of captures that lie beside it, as the case maker writes it.
    beside = tmp_path / "cases.yaml"
    beside.write_text(yaml.safe_dump([ENTRY | {"facts": {"x": 1}, "decode": "tcp.port==1"}]))
    (file,) = read_cases([beside])
    (source,) = file.captures.values()
    assert (source.file, source.group) == (tmp_path / "a.pcap", tmp_path.name)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"standing": []},
            "must, must_not, standing, cause, error, refused: expected one at least",
        ),
        ({"must": ["("]}, "'(' is no regular expression"),
        ({"sensor": ["rain"]}, "sensor: no rain; expected some of mirror_one"),
        ({"question": "?"}, "question: no such key"),
    ],
)
def test_a_wrong_line_is_refused(tmp_path: Path, changed: dict, said: str) -> None:
    path = tmp_path / "asked.yaml"
    file = {"version": 1, "folder": "field", "cases": [ENTRY | changed]}
    path.write_text(yaml.safe_dump(file))
    with pytest.raises(UserError) as refused:
        read_cases([path])
    assert said in str(refused.value)


def test_a_third_of_the_cases_is_not_of_our_making() -> None:
    files = read_cases(find_cases("answers"))
    groups = [file.captures[case.capture].group for file in files for case in file.cases]
    assert len(groups) >= 200
    assert groups.count("degraded") >= 50
    theirs = ("protocols", "quickdraw", "modbus", "iot23", "home", "field", "data")
    assert sum(one in theirs for one in groups) >= len(groups) / 3
