"""Scores of rankings against hand-computed values and scikit-learn, and questions through the real
search."""

import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score
from test_knowledge_base_documents import make_pdf

from assistant.cli.main import main
from eval.answers.cases import UNSEEN, find_cases, read_questions
from eval.answers.relevance import NEAR_MISSES, TAUGHT
from eval.answers.results import Placed, QuestionResult, RetrievalRun
from eval.answers.retrieval import SHIPPED, first_rank, ndcg, run_retrieval, score_variant
from eval.detection.bootstrap import resample_mean
from knowledge_base.documents import read_documents
from traffic.errors import UserError
from traffic.files import read_json


def test_the_first_accepted_place_gives_the_rank() -> None:
    assert first_rank(["a", "b", "c"], frozenset("bc")) == 2
    assert first_rank(["a"], frozenset("b")) is None
    assert first_rank([], frozenset("b")) is None


@pytest.mark.parametrize(("folder", "near_misses"), [(NEAR_MISSES, 104), (TAUGHT, 333)])
def test_near_misses_are_asked_of_manuals_that_hold_the_other_answers(folder, near_misses) -> None:
    paths = sorted(folder.glob("*.yaml"))
    files = read_questions([*paths, *UNSEEN.glob("*.yaml"), *find_cases("retrieval")])  # ids differ
    asked = 0
    for path, file in zip(paths, files, strict=False):
        manual = next(one for one in folder.glob(f"{path.stem}.*") if one != path)
        (document,) = read_documents(manual).documents
        headings = {part for one in document.sections for part in one.path} | {document.title}
        for one in file.questions:
            assert (one.group == "near miss") is not bool(one.answers), one.id
            for beginning, places in one.answers.items():
                assert path.name.startswith(beginning)
                assert {*places} <= headings, one.id
            asked += not one.answers
    assert asked == near_misses


def test_ndcg_by_hand() -> None:
    # Places a, b, c: the accepted b and x, of which b stands second and x nowhere.
    second = 1 / math.log2(3)
    assert ndcg("abc", frozenset("bx")) == pytest.approx(second / (1 + second))
    assert ndcg("b", frozenset("b")) == 1.0
    assert ndcg("ac", frozenset("b")) == 0.0


def test_a_place_counts_once_and_its_further_passages_take_no_rank() -> None:
    assert ndcg("aab", frozenset("b")) == pytest.approx(1 / math.log2(3))
    assert ndcg("bbb", frozenset("bc")) == pytest.approx(1 / (1 + 1 / math.log2(3)))


@given(st.permutations("abcdefghijkl"), st.sets(st.sampled_from("abcdefghijkl"), min_size=1))
def test_ndcg_equals_scikit_learn(order: list[str], accepted: set[str]) -> None:
    relevance = np.array([[float(place in accepted) for place in order]])
    falling = -np.arange(len(order), dtype=float)[None]
    assert ndcg(order, frozenset(accepted)) == pytest.approx(ndcg_score(relevance, falling, k=10))


def placed(rank: int | None, gain: float | None = 0.5, silent: bool = False) -> dict[str, Placed]:
    return {"one": Placed(rank=rank, ndcg_at_10=gain, silent=silent, first="")}


def test_a_variant_is_scored_by_hand() -> None:
    found = [
        QuestionResult(id=f"q{n}", group=group, question="", answerable=n < 4, placed=places)
        for n, group, places in (
            (1, "g", placed(1, 1.0)),
            (2, "g", placed(4)),
            (3, "h", placed(None, 0.0, silent=True)),
            (4, "h", placed(None, None)),
        )
    ]
    scores = score_variant(found, "one")
    assert (scores.questions, scores.unanswerable) == (3, 1)
    assert scores.recall_at_1.value == pytest.approx(1 / 3)
    assert scores.recall_at_5.value == pytest.approx(2 / 3)
    assert scores.mrr.value == pytest.approx((1 + 0.25 + 0) / 3)
    assert scores.ndcg_at_10.value == pytest.approx(0.5)
    assert scores.refused_rightly.value == 0.0
    assert scores.refused_wrongly.value == pytest.approx(1 / 3)
    assert score_variant(found, "one", "g").refused_rightly.value is None


def test_intervals_hold_the_mean_and_need_two() -> None:
    share = resample_mean([1.0] * 30 + [0.0] * 10)
    assert share.value == 0.75
    assert share.low is not None
    assert share.high is not None
    # Binomial, n = 40: 1.96 standard deviations are 0.134.
    assert share.low == pytest.approx(0.75 - 0.134, abs=0.03)
    assert share.high == pytest.approx(0.75 + 0.134, abs=0.03)
    assert resample_mean([1.0]).low is None
    assert resample_mean([]).value is None


QUESTIONS = [
    {"id": "q91", "group": "own terms", "question": "What does error E-1042 mean?",
     "answers": {"norvik-cx20-plc": ["Error codes"]}},
    {"id": "q92", "group": "own terms", "question": "has a duplex mismatch happened before",
     "answers": {"inc-2025-021": []}},
    {"id": "q93", "group": "from elsewhere", "question": "What is the capital of France?", "answers": {}},
]  # fmt: skip


def write(folder: Path, documents: str = "shipped", asked: list[dict] = QUESTIONS) -> Path:
    path = folder / f"{documents}.yaml"
    file = {"version": 1, "documents": documents, "questions": asked}
    path.write_text(yaml.safe_dump(file), encoding="utf-8")
    return path


def test_questions_through_the_real_index(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole command: what is certain is found, nonsense is refused, absent documents are said
    and counted."""
    further = write(tmp_path, "further", [{**QUESTIONS[0], "id": "q94", "answers": {"zeek": []}}])
    cases = ["--cases", str(write(tmp_path)), "--cases", str(further)]
    folders = ["--out", str(tmp_path), "--documents", str(tmp_path / "none")]
    assert main(["eval", "retrieval", *cases, *folders]) == 0
    said = capsys.readouterr()
    assert f"1 case left out: no folder {tmp_path / 'none'} of documents (--documents)" in said.err
    run = read_json(tmp_path / "retrieval.json", RetrievalRun, "a run of retrieval")
    (ships,) = [one for one in run.variants if one.variant == SHIPPED and not one.group]
    assert (ships.recall_at_5.value, ships.refused_rightly.value) == (1.0, 1.0)
    assert ships.refused_wrongly.value == 0.0
    assert [one.placed[SHIPPED].silent for one in run.questions] == [False, False, True]
    assert run.skipped[0].cases == 1
    assert run.chunks > 150
    assert "both, with refusal (ships)" in said.out


def test_answers_that_are_nowhere_are_named_before_a_model_is_loaded(tmp_path: Path) -> None:
    wrong = {"norvik-cx20-plc": ["Eror codes"], "siemens": [], "inc-2025": []}
    path = write(tmp_path, asked=[{**QUESTIONS[0], "answers": wrong}])
    with pytest.raises(UserError) as refused:
        run_retrieval([path], Path("none"))
    message = str(refused.value)
    assert message.startswith(f"{path} has 3 answers that are nowhere: ")
    assert "q91.answers.norvik-cx20-plc: no heading 'Eror codes'" in message
    assert "q91.answers.siemens: 0 documents begin so" in message


def test_pages_of_a_pdf_are_places(tmp_path: Path) -> None:
    folder = tmp_path / "kb"
    folder.mkdir()
    pages = ["Keep this booklet near the machine", "The impeller turns at 2950 per minute"]
    (folder / "pump.pdf").write_bytes(make_pdf(pages, "Pump manual"))
    asked = [{**QUESTIONS[0], "id": f"q9{page}", "question": "how fast does the impeller turn",
              "answers": {"pump": [f"page {page}"]}} for page in (1, 2)]  # fmt: skip
    wrong, right = run_retrieval([write(tmp_path, "further", asked)], folder).questions
    assert right.placed[SHIPPED].rank == 1
    assert wrong.placed[SHIPPED].rank != 1


def test_a_folder_without_a_cross_encoder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "retrieval", "--reranker", str(tmp_path)]) == 2
    assert f"{tmp_path} holds no cross-encoder" in capsys.readouterr().err
