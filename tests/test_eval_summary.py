"""docs/results.md is what results/ holds, the runs that the language model lost included."""

import re
from collections.abc import Sequence

import made_runs as made
import pytest

from assistant.cli.main import app
from assistant.llm.adapters import prompt_fingerprint
from eval.detection.aggregate import UNSEEN
from eval.detection.splits import PROTOCOLS
from eval.models.registry import MODELS
from eval.report.tables import render_table
from eval.research.claims import StoredRuns, read_runs
from eval.research.hypotheses import HYPOTHESES
from eval.research.summary import (
    DOCUMENT,
    ROOT,
    judge_difference,
    make_model_table,
    make_verdict_table,
    render_summary,
)
from eval.results import Estimate, Run


def cells(text: str, protocol: str, measure: str = "which label, macro-F1") -> list[str]:
    """The cells behind protocol and measure of the one row that begins with them."""
    beginning = f"| {protocol} | {measure} |"
    (line,) = [line for line in text.splitlines() if line.startswith(beginning)]
    return [cell.strip() for cell in line.removeprefix(beginning).removesuffix("|").split(" | ")]


def render_results(runs: Sequence[Run]) -> str:
    return render_table(make_model_table(runs))


def loco(difference: float, **other: object) -> Run:
    means = [
        made.pooled("pocket", {"f1": (0.5, 0.4, 0.6), "binary_macro_f1": 0.8}),
        made.pooled("xgboost", {"f1": (0.5 - difference, 0.3, 0.9), "binary_macro_f1": 0.7}),
        made.pooled("one-line-rule", {"binary_macro_f1": 0.9}),
        made.pooled("pocket", {"f1": 0.3}, labelling="published"),
        made.pooled("xgboost", {"f1": 0.4}, labelling="published"),
    ]
    tests = [
        made.comparison("xgboost", "pocket", -difference, -difference - 0.05, -difference + 0.05)
    ]
    return made.run((), means, tests, **other)


class TestRows:
    def test_a_loss_is_a_row_like_any_other(self) -> None:
        assert cells(render_results([loco(-0.2)]), "leave-one-capture-out") == [
            *["0.500 [0.400, 0.600]", "0.700 [0.300, 0.900]", "–", "`xgboost` 0.700"],
            *["-0.200 [-0.250, -0.150]", "loses", "0.300; 0.400"],
        ]

    def test_a_win_and_a_draw(self) -> None:
        assert cells(render_results([loco(0.2)]), "leave-one-capture-out")[4:6] == [
            "+0.200 [+0.150, +0.250]",
            "wins",
        ]
        assert cells(render_results([loco(0.01)]), "leave-one-capture-out")[5] == "is level"

    def test_the_one_line_rule_stands_where_it_can_be_measured(self) -> None:
        found = cells(
            render_results([loco(0.2)]), "leave-one-capture-out", "normal or not, macro-F1"
        )
        assert found[2:6] == [
            "0.900",
            "`one-line-rule` 0.900",
            "~ -0.100",
            "is not tested in pairs",
        ]

    def test_where_some_captures_were_seen_the_others_decide(self) -> None:
        means = [
            made.pooled("pocket", {"f1": 0.9}, compared=False), made.pooled("xgboost", {"f1": 0.7}),
            made.pooled("pocket", {"f1": 0.4}, setting=UNSEEN), made.pooled("xgboost", {"f1": 0.6}, setting=UNSEEN),
        ]  # fmt: skip
        tests = [made.comparison("pocket", "xgboost", -0.2, -0.3, -0.1)]
        text = render_results([made.run((), means, tests)])
        assert cells(text, f"leave-one-capture-out: {UNSEEN}")[4:6] == [
            "-0.200 [-0.300, -0.100]",
            "loses",
        ]
        assert "0.900" not in text

    def test_what_is_no_test_of_it_says_so(self) -> None:
        means = [
            made.pooled("pocket", {"f1": 0.9}, compared=False),
            made.pooled("xgboost", {"f1": 0.7}),
        ]
        seen = cells(render_results([made.run((), means)]), "leave-one-capture-out")
        assert (seen[0], seen[3], seen[5]) == ("0.900 \\*", "`xgboost` 0.700", "is not tested \\*")

    def test_where_nothing_is_to_be_found_fewer_are_better(self) -> None:
        calm = made.CONFUSION.model_copy(update={"counts": ((90, 8, 2), (0, 0, 0), (0, 0, 0))})
        shares = {"pocket": 0.3, "xgboost": 0.02}
        means = [
            made.pooled(name, {"false_share": x}, confusion=calm) for name, x in shares.items()
        ]
        tests = [made.comparison("pocket", "xgboost", 0.28, 0.2, 0.3, measure="false_share")]
        found = cells(
            render_results([made.run((), means, tests)]),
            "leave-one-capture-out",
            "normal called anomalous",
        )
        assert (found[3], found[5]) == ("`xgboost` 2.00 %", "loses")

    def test_each_run_is_dated_and_has_its_command(self) -> None:
        text = render_results(
            [loco(0.2, created="2026-11-21T12:00:00+00:00", command="faultwise eval detection --x")]
        )
        assert (
            "`faultwise eval detection --x`, 2026-11-21, commit abc, 2 captures of IoT-23" in text
        )

    def test_a_model_that_was_not_run(self) -> None:
        text = render_results([made.run((), [made.pooled("knn", {"f1": 0.5})])])
        assert cells(text, "leave-one-capture-out") == [
            *["not run", "not run", "not run", "`knn` 0.500", "–", "was not run", "–"]
        ]

    def test_no_run_says_how_to_make_one(self) -> None:
        assert "`faultwise eval detection` makes one" in render_summary(StoredRuns())

    @pytest.mark.parametrize(
        ("measure", "low", "high", "said"),
        [("f1", 0.1, 0.3, "wins"), ("f1", -0.3, -0.1, "loses"), ("f1", -0.1, 0.1, "is level"),
         ("false_share", 0.1, 0.3, "loses"), ("false_share", -0.3, -0.1, "wins"), ("f1", None, None, "cannot be told")],
    )  # fmt: skip
    def test_who_wins(self, measure: str, low: float | None, high: float | None, said: str) -> None:
        assert judge_difference(measure, Estimate(value=0.0, low=low, high=high)) == said


def test_each_hypothesis_has_a_verdict_and_a_former_edition_is_named() -> None:
    now = loco(0.2, name="now", prompt_fingerprint=prompt_fingerprint())
    runs = StoredRuns((loco(0.2, name="old"), now))
    table = make_verdict_table(runs)
    assert [row[0] for row in table.rows] == list(HYPOTHESES)
    verdicts = {row[0]: row[2:] for row in table.rows}
    assert verdicts["Q8"][0] == "supported"
    assert verdicts["H7"][0] == "not decidable here"
    assert "waits for an adapter tuned on the class alone" in verdicts["H7"][1]
    assert "[federate.md](research/federate.md)" in verdicts["H5"][1]
    (_, former) = table.notes
    assert ": old. What" in former
    table = make_model_table(runs.detection, ["old"])
    places = [row[0] for row in table.rows]
    now, old = places[: len(places) // 2], places[len(places) // 2 :]
    assert old == [f"{place} (former edition)" for place in now]
    assert ["former edition" in note for note in table.notes] == [False, False, True]


def test_the_document_is_current() -> None:
    expected = render_summary(read_runs(ROOT / "results"))
    assert DOCUMENT.read_text(encoding="utf-8") == expected, "run: python -m eval.research.summary"


def test_the_page_on_evaluation_names_commands_protocols_and_models_that_exist() -> None:
    text = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    commands = next(group for group in app.registered_groups if group.name == "eval").typer_instance
    known = {one.name or one.callback.__name__ for one in commands.registered_commands}  # type: ignore[union-attr]
    assert set(re.findall(r"^faultwise eval (\w+)", text, re.MULTILINE)) == known
    assert [name for name in (*PROTOCOLS, *MODELS) if f"`{name}`" not in text] == []
