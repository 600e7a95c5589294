"""Answers beside what they should say: right ones pass, planted mistakes are found, nothing tells
the answer."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from bottling_line import CAMERA, CONTROLLER, make_analysis
from frames import arp_packet, write_pcap

from assistant.chat import Conversation
from assistant.cli.main import main
from assistant.diagnosis import Diagnosis, diagnose
from eval.answers.answers import plan_cases
from eval.answers.captures import Roots, find_missing, read_case_capture
from eval.answers.cases import Case, Recorded, Simulated, Source, read_cases
from eval.answers.grading import MEASURES, Answer, grade_answer, grade_refusal
from eval.answers.results import AnswersRun, measure_share
from knowledge_base.index import Index, open_index
from traffic.datasets.truth import Interval, Truth, write_truth
from traffic.errors import UserError
from traffic.files import read_json

CASE = Case(
    id="a90", capture="k90", question="what is cam-1 up to", devices=("cam-1",), causes=("c2",),
    standings=("likely", "inconclusive"), mentions=(CONTROLLER, "nobody | no answer"), denies=("exfiltration",),
)  # fmt: skip
NOWHERE = Roots(Path("/nowhere/data"), Path("/nowhere/runs"))


@pytest.fixture
def index(stocked_home: Path) -> Iterator[Index]:
    with open_index(stocked_home) as opened:
        yield opened


@pytest.fixture
def diagnosis(index: Index) -> Diagnosis:
    return diagnose(CASE.question, make_analysis(), index)


def grades(diagnosis: Diagnosis, index: Index, **changed: object) -> dict[str, bool | None]:
    case = CASE.model_copy(update=changed)
    answer = Answer(diagnosis.text, diagnosis, diagnosis.removed)
    return dict(grade_answer(case, answer, (CAMERA,), index).measures)


def failed(measures: Mapping[str, bool | None]) -> set[str]:
    return {name for name, met in measures.items() if met is False}


def test_a_right_answer_meets_every_measure(diagnosis: Diagnosis, index: Index) -> None:
    measures = grades(diagnosis, index)
    assert list(measures) == list(MEASURES)
    assert {name for name, met in measures.items() if met is not True} == {"refused"}
    assert measures["refused"] is None  # it was no question to refuse


@pytest.mark.parametrize(
    ("changed", "missed"),
    [
        ({"causes": ("recon",)}, {"cause", "unmisled", "right"}),
        ({"standings": ("confirmed",)}, {"standing", "right"}),
        ({"mentions": ("203.0.113.99",)}, {"mentions", "right"}),
        ({"denies": ("cam-1",)}, {"reserved", "right", "unmisled"}),
    ],
)
def test_what_is_missed_is_told_apart(
    diagnosis: Diagnosis, index: Index, changed: dict[str, object], missed: set[str]
) -> None:
    assert failed(grades(diagnosis, index, **changed)) == missed


def test_no_cause_is_missed_but_does_not_mislead(diagnosis: Diagnosis, index: Index) -> None:
    silent = replace(diagnosis, label="")
    assert failed(grades(silent, index)) == {"cause", "right"}
    assert grades(silent, index, causes=("none",))["cause"] is True


def test_an_answer_about_another_device_is_wrong(diagnosis: Diagnosis, index: Index) -> None:
    answer = Answer(diagnosis.text, diagnosis)
    measures = grade_answer(CASE, answer, ("192.168.1.99",), index).measures
    assert failed(measures) == {"device", "right"}


def test_a_number_without_a_source_is_found(diagnosis: Diagnosis, index: Index) -> None:
    planted = "It sent 123,457 packets at 03:14:15."
    wrong = replace(diagnosis, text=f"{diagnosis.text}\n{planted}")
    result = grade_answer(CASE, Answer(wrong.text, wrong), (CAMERA,), index)
    assert result.unsupported == (planted,)
    assert failed(result.measures) == {"sourced"}


def test_a_citation_of_nothing_is_found(diagnosis: Diagnosis, index: Index) -> None:
    never = tuple(replace(one, excerpt="never written") for one in diagnosis.citations)
    invented = replace(diagnosis, citations=never)
    assert grades(invented, index)["cited"] is False
    pointing = replace(diagnosis, text=f"{diagnosis.text}\nSee the manual [99].")
    assert grades(pointing, index)["cited"] is False


def test_a_removed_sentence_and_an_unreadable_answer_are_counted(
    diagnosis: Diagnosis, index: Index
) -> None:
    assert grades(replace(diagnosis, removed=1), index)["intact"] is False
    assert grades(replace(diagnosis, text=" "), index)["valid"] is False
    assert grades(replace(diagnosis, label="gremlins"), index)["valid"] is False


@pytest.mark.parametrize(
    ("met", "low", "high"),
    # By hand: (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n), z = 1.96 (Wilson, 1927).
    [([True] * 8 + [False] * 2, 0.4902, 0.9433), ([False] * 10, 0.0, 0.2775)],
)
def test_shares_have_intervals_even_where_none_or_all_are_met(met, low, high) -> None:
    share = measure_share(met)
    assert share.value == sum(met) / 10
    assert (share.low, share.high) == pytest.approx((low, high), abs=1e-4)


def test_words_of_a_case_decide_what_is_right_and_what_misleads(
    diagnosis: Diagnosis, index: Index
) -> None:
    worded = {"causes": (), "mentions": (), "denies": ()}
    right = {"must": (r"cam-1", r"\Alikely"), "must_not": (r"\Ahealthy",)}
    assert not failed(grades(diagnosis, index, **worded, **right))
    lacking = grades(diagnosis, index, **worded, must=("unicorn",))
    assert failed(lacking) == {"cause", "mentions", "right"}
    wrong = grades(diagnosis, index, **worded, must_not=("cam-1",))
    assert failed(wrong) == {"reserved", "right", "unmisled"}
    # An all-clear where there is none to give misleads, whatever else it says.
    calm = replace(diagnosis, standing="normal", label="normal")
    told = grades(calm, index, **worded)
    assert failed(told) == {"standing", "right", "unmisled", "watchful"}
    # So does an alarm where all is well.
    assert "unmisled" in failed(grades(diagnosis, index, **worded, standings=("normal",)))


def test_a_capture_that_has_to_be_refused_is_graded_by_its_line() -> None:
    case = CASE.model_copy(update={"error": "LFS"})
    assert grade_refusal(case, "a.pcap is a Git LFS pointer").measures["right"] is True
    assert grade_refusal(case, "no such file").measures["right"] is False


def test_a_log_that_stopped_is_read_as_such(shared: Path) -> None:
    source = Source(data="field/download", sensor=("log_stopped",), folder="field")
    roots = Roots(shared / "data", Path())
    whole = read_case_capture(Source(data="field/download"), roots).capture
    stopped = read_case_capture(source, roots).capture
    assert 0 < len(stopped.flows) <= len(whole.flows) // 2 + 1
    assert source.group == "degraded"


def test_what_lies_beside_its_cases_is_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data" / "field"
    folder.mkdir(parents=True)
    write_pcap(folder / "a.pcap", [(5.0, arp_packet(1, b"\2" * 6, "10.0.0.2", "10.0.0.1"))])
    plant = {"devices": [{"name": "plc-1", "address": "10.0.0.1"}]}
    (folder / "a.plant.yaml").write_text(yaml.safe_dump(plant))
    line = {"capture": "a.pcap", "plant": "a.plant.yaml", "ask": "is plc-1 ok?", "must": ["plc-1"]}
    (folder / "cases.yaml").write_text(yaml.safe_dump([line]))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    data = Path("../data")
    (file,) = read_cases([data / "field" / "cases.yaml"])
    (source,) = file.captures.values()
    read = read_case_capture(source, Roots(data, Path()))
    assert [device.name for device in read.plant.devices] == ["plc-1"]


def test_refusals_are_told_from_answers(index: Index) -> None:
    analysis = make_analysis()
    case = Case(
        id="a91", capture="k90", question="write a poem about autumn", by="chat", refused=True
    )
    chat = Conversation(analysis, index, None)
    silly, fair = chat.reply(case.question), chat.reply("why does cam-1 misbehave?")
    absent = diagnose("what about 10.9.9.9?", analysis, index)
    assert (silly.refused, fair.refused, absent.refused) == (True, False, True)
    for refused in (True, False):
        answer = Answer("", None, refused=refused)
        assert grade_answer(case, answer, (), index).measures["refused"] is refused
        assert grade_answer(CASE, answer, (CAMERA,), index).measures["answered"] is not refused


def test_no_capture_carries_its_labels() -> None:
    made = Simulated(seed=9002, devices=6, hours=0.1, scenarios=("service_down",))
    subject = read_case_capture(Source(simulated=made), NOWHERE)
    assert "label" not in subject.capture.flows
    assert subject.parts["source"] in {device.name for device in subject.plant.devices}
    again = read_case_capture(Source(simulated=made), NOWHERE)
    assert subject.sha256 == again.sha256
    assert subject.sha256 != read_case_capture(Source(sample="bottling-line"), NOWHERE).sha256


def test_real_captures_lose_their_labels_too(shared: Path) -> None:
    source = Source(data="iot23/44-1/conn.log.labeled")
    subject = read_case_capture(source, Roots(shared / "data", Path()))
    assert len(subject.capture.flows) == 237
    assert not [name for name in subject.capture.flows if "label" in name]


def recording(folder: Path, complete: bool = True) -> Source:
    """A recorded run in which plc-1 is without power, and hmi-1 suffers it."""
    run = folder / "7"
    run.mkdir()
    devices = [
        {"name": "plc-1", "address": "10.0.0.1", "role": "plc"},
        {"name": "hmi-1", "address": "10.0.0.2", "role": "hmi"},
    ]
    (run / "plant.yaml").write_text(yaml.safe_dump({"devices": devices}))
    intervals = tuple(
        Interval(
            device=who, direction=part, parameters={}, root="10.0.0.1", start_s=0.0, end_s=60.0,
            label="device_silent", kind="powered_off", cause="no power",
        )
        for who, part in (("10.0.0.1", "source"), ("10.0.0.2", "target"))
    )  # fmt: skip
    about = {"seed": 7, "start_s": 0, "end_s": 90, "made_by": "a test"}
    truth = Truth(complete=complete, intervals=intervals, **about)
    write_truth(truth, run / "truth.json")
    write_pcap(run / "capture.pcap", [(5.0, arp_packet(1, b"\2" * 6, "10.0.0.2", "10.0.0.1"))])
    return Source(recorded=Recorded(seed=7, kind="powered_off", minutes=1.5))


def test_a_recording_tells_who_has_which_part(tmp_path: Path) -> None:
    source, roots = recording(tmp_path), Roots(Path(), tmp_path)
    assert not find_missing(source, roots)
    assert read_case_capture(source, roots).parts == {"source": "plc-1", "target": "hmi-1"}


def test_a_recording_of_something_else_or_cut_short_is_refused(tmp_path: Path) -> None:
    whole, short = tmp_path / "whole", tmp_path / "short"
    whole.mkdir()
    short.mkdir()
    recording(whole)
    other = Source(recorded=Recorded(seed=7, kind="nmap_syn", minutes=1.5))
    with pytest.raises(UserError, match=r"7 holds powered_off; expected a run of nmap_syn"):
        find_missing(other, Roots(Path(), whole))
    cut = recording(short, complete=False)
    with pytest.raises(UserError, match="complete is false"):
        find_missing(cut, Roots(Path(), short))


def write(folder: Path, captures: dict, *cases: dict) -> Path:
    path = folder / "answers.yaml"
    file = {"version": 1, "captures": captures, "cases": [*cases]}
    path.write_text(yaml.safe_dump(file), encoding="utf-8")
    return path


SAMPLE = {
    "id": "a92", "capture": "k91", "question": "why does {source} not answer?", "devices": ["{source}", "{target}"],
    "causes": ["service_down"], "standings": ["confirmed", "likely"],
}  # fmt: skip


def test_what_is_not_here_is_counted_and_what_is_misnamed_is_refused(tmp_path: Path) -> None:
    recorded = {"seed": 7, "kind": "powered_off", "minutes": 5}
    gone = {"k92": {"data": "line3.pcap"}, "k93": {"recorded": recorded}}
    about = [SAMPLE | {"id": f"a{n}", "capture": name, "devices": ["10.0.0.1"], "question": "why?"}
             for n, name in ((93, "k92"), (94, "k93"), (95, "k93"))]  # fmt: skip
    path = write(tmp_path, {"k91": {"sample": "bottling-line"}, **gone}, SAMPLE, *about)
    plan = plan_cases([path], NOWHERE)
    assert [case.id for case in plan.cases] == ["a92"]
    assert [one.cases for one in plan.skipped] == [1, 2]
    assert "faultwise testbed record --seed 7 --kind powered_off --minutes 5" in plan.skipped[1].why
    said = r"answers\.yaml: captures\.k92\.data: .*line3\.pcap does not exist"
    with pytest.raises(UserError, match=said):
        plan_cases([path], Roots(tmp_path, tmp_path))


def test_the_sample_through_the_whole_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = SAMPLE | {"id": "a93", "causes": ["recon"]}
    menu = {"id": "a94", "capture": "k91", "question": "what is on the menu"}
    refused = {**menu, "by": "chat", "refused": True}
    path = write(tmp_path, {"k91": {"sample": "bottling-line"}}, SAMPLE, wrong, refused)
    assert main(["eval", "answers", "--cases", str(path), "--out", str(tmp_path)]) == 0
    run = read_json(tmp_path / "answers.json", AnswersRun, "a run of answers")
    shares = {(one.measure, one.group): (one.share.value, one.cases) for one in run.measured}
    assert shares["cause", ""] == shares["cause", "sample"] == (0.5, 2)
    assert shares["right", ""] == (pytest.approx(2 / 3), 3)
    assert shares["refused", ""] == (1.0, 1)
    assert shares["sourced", ""] == (1.0, 3)
    assert "a93   right, cause, unmisled  why does plc-01 not answer?" in capsys.readouterr().out
