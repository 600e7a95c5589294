"""Two runs are compared where their data are the same, and what differs is said."""

import made_runs as made
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.detection.bootstrap import (
    between,
    decide_bound,
    is_better,
    mean_difference,
    orient,
    paired_difference,
)
from eval.report.compare import compare_runs, differences_of, render_compare
from eval.results import Estimate, Run
from traffic.errors import UserError


def loco(scores: dict[str, float], **other: object) -> Run:
    """One model tested on each capture in turn, trained on the others."""
    rows = [
        made.row("knn", fold, {"f1": score}, train=tuple(name for name in scores if name != fold))
        for fold, score in scores.items()
    ]
    return made.run(rows, **other)


FIRST = {"a": 0.5, "b": 0.6, "c": 0.7}


class TestWhatDiffers:
    def test_a_shift_of_every_fold_is_found_and_has_no_width(self) -> None:
        found = compare_runs(
            loco(FIRST), loco({name: x + 0.1 for name, x in FIRST.items()}, name="new"), ["f1"]
        )
        assert len(found) == 1
        one = found[0]
        assert (one.model, one.folds, one.differs) == ("knn", 3, True)
        assert (one.first, one.second) == (pytest.approx(0.6), pytest.approx(0.7))
        assert one.change.low == pytest.approx(0.1)
        assert one.change.high == pytest.approx(0.1)

    def test_a_change_that_folds_disagree_about_is_none(self) -> None:
        # Differences +0.3, -0.1, +0.1: mean 0.1, s = 0.2, t(2) = 4.3027, so 0.1 +- 0.4968.
        found = compare_runs(loco(FIRST), loco({"a": 0.8, "b": 0.5, "c": 0.8}), ["f1"])
        assert not found[0].differs
        assert found[0].change.low == pytest.approx(0.1 - 4.3027 * 0.2 / 3**0.5, abs=1e-4)

    def test_seeds_are_averaged_before_folds_are_counted(self) -> None:
        rows = [made.row("knn", "a", {"f1": x}, seed=seed) for seed, x in enumerate((0.4, 0.6))]
        found = compare_runs(made.run(rows), made.run(rows), ["f1"])
        assert (found[0].folds, found[0].first, found[0].change.value, found[0].change.low) == (
            1,
            0.5,
            0.0,
            None,
        )

    def test_the_same_run_says_the_same(self) -> None:
        assert "| the same |" in render_compare(loco(FIRST), loco(FIRST), ["f1"])
        assert "nothing but their scores" in render_compare(loco(FIRST), loco(FIRST), ["f1"])


class TestOtherData:
    def test_other_content_under_one_name_is_refused_by_name(self) -> None:
        changed = loco(FIRST, data=tuple(made.data(name, sha256=f"{name * 64}") for name in FIRST))
        with pytest.raises(
            UserError, match=r"no fold in common \(captures of other content in both: a, b, c\)"
        ):
            compare_runs(loco(FIRST), changed)

    def test_other_labels_are_refused_by_name(self) -> None:
        rows = [made.row("knn", "a", {"f1": 0.5}, labelling="published")]
        with pytest.raises(UserError, match=r"labels: corrected against published"):
            compare_runs(made.run([made.row("knn", "a", {"f1": 0.5})]), made.run(rows))

    def test_a_capture_more_changes_every_training_set(self) -> None:
        with pytest.raises(UserError, match="captures of the second only: d"):
            compare_runs(loco(FIRST), loco(FIRST | {"d": 0.5}))

    def test_folds_without_a_match_are_counted(self) -> None:
        rows = [made.row("knn", fold, {"f1": 0.5}) for fold in ("a", "c")]
        text = render_compare(made.run(rows, name="old"), made.run(rows[:1], name="new"), ["f1"])
        assert "1 folds of old and 0 of new have no match" in text
        assert "captures of the first only: c" in text

    def test_how_they_were_made_is_told(self) -> None:
        other = loco(
            FIRST,
            seeds=(0, 1),
            commit="def",
            versions={"numpy": "3"},
            quick=True,
            protocol={"name": "x"},
        )
        assert differences_of(loco(FIRST), other) == [
            "protocol, name: leave-one-capture-out against x", "seeds: (0,) against (0, 1)",
            "commit: abc against def", "quick: False against True", "versions: numpy 2 against 3",
        ]  # fmt: skip

    def test_an_unknown_measure(self) -> None:
        with pytest.raises(UserError, match="no measure is called f2; expected any of accuracy"):
            compare_runs(loco(FIRST), loco(FIRST), ["f2"])


def estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(value=value, low=low, high=high)


class TestDifferences:
    @given(st.lists(st.floats(-1, 1), min_size=2, max_size=20))
    def test_student_interval_is_scipys(self, values: list[float]) -> None:
        from scipy.stats import ttest_1samp

        if np.std(values) < 1e-6:
            return
        expected = ttest_1samp(values, 0.0).confidence_interval(0.95)
        found = mean_difference(np.array(values))
        assert (found.low, found.high) == (
            pytest.approx(expected.low),
            pytest.approx(expected.high),
        )

    def test_a_tested_pair_reads_in_both_directions(self) -> None:
        tests = [made.comparison("knn", "pocket", 0.2, 0.1, 0.4)]
        place = ("", "corrected", "f1")
        assert paired_difference(tests, place, "knn", "pocket") == estimate(0.2, 0.1, 0.4)
        assert paired_difference(tests, place, "pocket", "knn") == estimate(-0.2, -0.4, -0.1)
        assert paired_difference(tests, ("", "published", "f1"), "knn", "pocket") is None
        assert paired_difference(tests, place, "knn", "rules") is None

    def test_fewer_false_alarms_are_better(self) -> None:
        assert orient("false_share", estimate(-0.2, -0.3, -0.1)) == estimate(0.2, 0.1, 0.3)
        assert orient("f1", estimate(-0.2, -0.3, -0.1)) == estimate(-0.2, -0.3, -0.1)

    def test_without_pairs_the_interval_goes_from_end_to_end(self) -> None:
        found = between(estimate(0.5, 0.4, 0.6), estimate(0.8, 0.7, 0.9))
        assert (found.value, found.low, found.high) == tuple(map(pytest.approx, (0.3, 0.1, 0.5)))
        assert between(Estimate(value=None), estimate(0.8, 0.7, 0.9)).value is None

    @pytest.mark.parametrize(
        ("low", "high", "at_least", "at_most"),
        [(0.6, 0.8, "holds", "fails"), (0.2, 0.4, "fails", "holds"), (0.4, 0.6, "open", "open"),
         (0.5, 0.5, "holds", "holds")],
    )  # fmt: skip
    def test_a_bound_of_one_half(
        self, low: float, high: float, at_least: str, at_most: str
    ) -> None:
        one = estimate((low + high) / 2, low, high)
        assert (decide_bound(one, at_least=0.5), decide_bound(one, at_most=0.5)) == (
            at_least,
            at_most,
        )

    def test_no_interval_decides_nothing(self) -> None:
        assert decide_bound(Estimate(value=0.9), at_least=0.5) == "open"
        assert is_better(Estimate(value=0.9)) == "open"

    @pytest.mark.parametrize(
        ("low", "high", "said"),
        [(0.06, 0.2, "holds"), (-0.1, 0.04, "fails"), (0.01, 0.2, "open"), (0.05, 0.05, "fails")],
    )
    def test_a_margin_of_five_hundredths(self, low: float, high: float, said: str) -> None:
        assert is_better(estimate((low + high) / 2, low, high), 0.05) == said
