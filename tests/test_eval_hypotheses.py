"""Hypotheses are decided by rules that stood before the runs: both ways, and left open where
numbers are missing."""

from pathlib import Path
from typing import ClassVar

import made_runs as made
import pytest
import yaml

from eval.answers.grading import MEASURES as ANSWER_MEASURES
from eval.answers.results import AnswersRun, Measured, Origin, RetrievalRun, Variant
from eval.answers.retrieval import SHIPPED
from eval.detection.aggregate import UNSEEN
from eval.detection.splits import PROTOCOLS
from eval.models.registry import MODELS
from eval.research.claims import (
    AnswersClaim,
    Beats,
    Changes,
    Costs,
    Evidence,
    Labels,
    Place,
    Reaches,
    Retrieves,
    decide_claim,
    read_evidence,
)
from eval.research.hypotheses import (
    HYPOTHESES,
    Hypothesis,
    decide,
    decide_all,
    read_hypothesis,
    render_decision,
)
from eval.results import MEASURES, Estimate, LabelScores, Run, write_run
from traffic.errors import UserError

LOCO = "leave-one-capture-out"


def evidence(*means: object, tests: tuple = (), protocol: str = LOCO, **other: object) -> Evidence:
    return Evidence((made.run((), means, tests, protocol={"name": protocol}, **other),))  # type: ignore[arg-type]


def beats(**other: object) -> Beats:
    known = {
        "kind": "beats",
        "says": "x",
        "protocol": LOCO,
        "model": "pocket",
        "others": ("knn",),
        "measure": "f1",
    }
    return Beats(**known | other)


def hypothesis(*claims: object, **other: object) -> Hypothesis:
    words = dict.fromkeys(("name", "source", "says", "asks", "rule", "cannot"), "H1")
    return Hypothesis(version=1, claims=claims, **words | other)


TWO = (
    made.pooled("pocket", {"f1": 0.6, "false_share": 0.01}),
    made.pooled("knn", {"f1": 0.5, "false_share": 0.05}),
)


class TestBeats:
    @pytest.mark.parametrize(
        ("low", "high", "state"),
        [(0.02, 0.2, "holds"), (-0.2, -0.02, "fails"), (-0.1, 0.1, "open")],
    )
    def test_by_the_paired_interval(self, low: float, high: float, state: str) -> None:
        found = decide_claim(
            beats(), evidence(*TWO, tests=(made.comparison("pocket", "knn", 0.1, low, high),))
        )
        assert found.state == state
        assert "knn +0.100" in found.text

    def test_where_less_is_better_a_negative_difference_wins(self) -> None:
        tests = (made.comparison("knn", "pocket", 0.04, 0.02, 0.06, measure="false_share"),)
        assert (
            decide_claim(beats(measure="false_share"), evidence(*TWO, tests=tests)).state == "holds"
        )
        assert (
            decide_claim(
                beats(measure="false_share", margin=0.03), evidence(*TWO, tests=tests)
            ).state
            == "open"
        )
        assert (
            decide_claim(
                beats(measure="false_share", margin=0.06), evidence(*TWO, tests=tests)
            ).state
            == "fails"
        )

    def test_without_a_pair_the_intervals_must_lie_apart(self) -> None:
        def models(low: float) -> Evidence:
            return evidence(
                made.pooled("pocket", {"f1": (0.8, low, 0.9)}),
                made.pooled("knn", {"f1": (0.5, 0.4, 0.6)}),
            )

        apart, touching = decide_claim(beats(), models(0.7)), decide_claim(beats(), models(0.55))
        assert (apart.state, touching.state) == ("holds", "open")
        assert "not in pairs" in apart.text

    def test_one_lost_is_lost_and_one_missing_is_open(self) -> None:
        tests = (
            made.comparison("pocket", "knn", 0.1, 0.05, 0.2),
            made.comparison("pocket", "rules", -0.1, -0.2, -0.05),
        )
        three = (*TWO, made.pooled("rules", {"f1": 0.7}))
        assert (
            decide_claim(beats(others=("knn", "rules")), evidence(*three, tests=tests)).state
            == "fails"
        )
        left = decide_claim(beats(others=("knn", "lstm")), evidence(*three, tests=tests))
        assert left.state == "open"
        assert "not there or not measured: lstm" in left.text

    def test_a_model_made_with_the_test_is_judged_where_no_model_was(self) -> None:
        tests = (made.comparison("pocket", "knn", 0.1, 0.05, 0.2),)
        seen = made.pooled("pocket", {"f1": 0.99}, compared=False, seen_in_training=("34-1",))
        only = decide_claim(beats(), evidence(seen, TWO[1], tests=tests))
        assert only.state == "open"
        assert "34-1" in only.text
        apart = [made.pooled(name, {"f1": 0.4}, setting=UNSEEN) for name in ("pocket", "knn")]
        both = decide_claim(beats(), evidence(seen, TWO[1], *apart, tests=tests))
        assert both.state == "holds"
        assert "0.400" in both.text


class TestOtherClaims:
    def reaches(self, **other: object) -> Reaches:
        known = {
            "kind": "reaches",
            "says": "x",
            "protocol": "p",
            "model": "m",
            "measure": "recall",
            "at_least": 0.5,
        }
        return Reaches(**known | other)

    def test_a_bound_in_every_setting(self) -> None:
        def kinds(last: float) -> Evidence:
            scores = {"c2 never shown": 0.9, "dos never shown": last}
            means = [
                made.pooled("m", {"recall": (x, x - 0.1, x)}, setting=name)
                for name, x in scores.items()
            ]
            return evidence(*means, protocol="p")

        claim = self.reaches(setting="every")
        assert [decide_claim(claim, kinds(x)).state for x in (0.7, 0.55, 0.4)] == [
            "holds",
            "open",
            "fails",
        ]

    def test_a_setting_that_is_not_there_is_named_with_those_that_are(self) -> None:
        found = decide_claim(
            self.reaches(setting="50 windows"),
            evidence(made.pooled("m", {"recall": 1.0}), protocol="p"),
        )
        assert (
            found.state,
            "no setting 50 windows (corrected), only none (corrected)" in found.text,
        ) == ("open", True)

    def change(self, **other: object) -> Changes:
        ends = {
            "before": Place(protocol="p", setting="old"),
            "after": Place(protocol="p", setting="new"),
        }
        return Changes(
            **ends
            | {"kind": "changes", "says": "x", "model": "m", "measure": "f1", "at_least": 0.1}
            | other
        )

    def drift(self, *gains: float) -> Evidence:
        """One model, one fold for each gain, from 0.5 on."""
        rows = [
            made.row("m", f"fold {n}", {"f1": 0.5 + gain * new}, setting=setting)
            for n, gain in enumerate(gains)
            for new, setting in enumerate(("old", "new"))
        ]
        means = [
            made.pooled("m", {"f1": (x, x - 0.2, x + 0.2)}, setting=name)
            for name, x in (("old", 0.5), ("new", 0.7))
        ]
        return Evidence((made.run(rows, means, protocol={"name": "p"}),))

    def test_a_change_is_paired_by_fold_where_there_are_three(self) -> None:
        found = decide_claim(self.change(), self.drift(0.2, 0.2, 0.2))
        assert (found.state, "+0.200 [+0.200, +0.200] paired by fold" in found.text) == (
            "holds",
            True,
        )
        assert decide_claim(self.change(), self.drift(0.05, 0.05, 0.05)).state == "fails"
        assert decide_claim(self.change(), self.drift(-0.3, 0.3, 0.6)).state == "open"

    def test_two_folds_are_no_spread(self) -> None:
        found = decide_claim(self.change(), self.drift(0.2, 0.2))
        assert (found.state, "[-0.200, +0.600] not in pairs" in found.text) == ("open", True)

    def test_a_model_that_brings_its_weights_cannot_show_what_it_learned(self) -> None:
        found = decide_claim(self.change(model="pocket", learns=True), self.drift(0.2, 0.2, 0.2))
        assert (found.state, "trains it on none of its windows" in found.text) == ("open", True)

    def test_rare_labels_do_not_count_and_normal_is_none(self) -> None:
        def labels(c2: float) -> Evidence:
            def scores(recall: float, windows: int) -> LabelScores:
                return LabelScores(precision=1.0, recall=recall, f1=1.0, windows=windows)

            known = {
                "normal": scores(0.0, 900),
                "dos": scores(0.0, 49),
                "c2": scores(c2, 50),
                "recon": scores(0.9, 99),
            }
            return evidence(made.pooled("m", {}, per_label=known), protocol="p")

        claim = Labels(
            kind="labels",
            says="x",
            protocol="p",
            model="m",
            measure="recall",
            windows=50,
            at_least=0.5,
        )
        assert [decide_claim(claim, labels(x)).state for x in (0.5, 0.49)] == ["holds", "fails"]
        assert "c2 0.490, recon 0.900" in decide_claim(claim, labels(0.49)).text

    def test_costs_need_no_interval(self) -> None:
        run = evidence(made.pooled("m", {}), protocol="p")
        known = {
            "kind": "costs",
            "says": "x",
            "protocol": "p",
            "model": "m",
            "cost": "windows_per_s",
        }
        assert [decide_claim(Costs(**known, at_least=x), run).state for x in (500, 501)] == [
            "holds",
            "fails",
        ]
        missing = made.COSTS.model_copy(update={"windows_per_s": None})
        assert (
            decide_claim(
                Costs(**known, at_least=1),
                evidence(made.pooled("m", {}, costs=missing), protocol="p"),
            ).state
            == "open"
        )


class TestSearchAndAnswers:
    ORIGIN = Origin(
        created="2026-11-21", command="x", commit="", versions={}, machine=made.run().machine
    )
    NOTHING: ClassVar[dict[str, object]] = {"cases": {}, "skipped": (), "notes": ()}

    def search(self, low: float) -> Evidence:
        score = Estimate(value=0.9, low=low, high=0.95)
        scores = dict.fromkeys(
            (
                "recall_at_1",
                "recall_at_5",
                "mrr",
                "ndcg_at_10",
                "refused_rightly",
                "refused_wrongly",
            ),
            score,
        )
        known = {"questions": 60, "unanswerable": 9, "seconds_per_question": 0.25} | scores
        found = tuple(Variant(variant=SHIPPED, group=group, **known) for group in ("registers", ""))
        places = {"documents": {}, "chunks": 1, "embedder": "", "reranker": "", "questions": ()}
        run = RetrievalRun(
            name="search", origin=self.ORIGIN, variants=found, **places, **self.NOTHING
        )
        return Evidence(retrieval=run)

    def test_a_share_of_questions_by_its_interval(self) -> None:
        known = {
            "kind": "retrieves",
            "says": "x",
            "variant": "both, with refusal",
            "measure": "recall_at_5",
        }
        claim = Retrieves(**known, at_least=0.8)
        assert [decide_claim(claim, self.search(low)).state for low in (0.85, 0.7)] == [
            "holds",
            "open",
        ]
        assert "0.900 [0.850, 0.950] of 60 questions" in decide_claim(claim, self.search(0.85)).text
        assert decide_claim(Retrieves(**known, at_least=0.96), self.search(0.85)).state == "fails"
        assert "`faultwise eval retrieval`" in decide_claim(claim, Evidence()).text

    def test_seconds_have_no_interval_and_need_none(self) -> None:
        known = {
            "kind": "retrieves",
            "says": "x",
            "variant": SHIPPED,
            "measure": "seconds_per_question",
        }
        states = [
            decide_claim(Retrieves(**known, at_most=most), self.search(0.8)).state
            for most in (0.25, 0.2)
        ]
        assert states == ["holds", "fails"]

    def test_a_share_of_answers_over_all_cases_not_of_a_group(self) -> None:
        def measured(group: str, value: float) -> Measured:
            return Measured(
                measure="right",
                group=group,
                cases=40,
                share=Estimate(value=value, low=value - 0.05, high=value + 0.05),
            )

        run = AnswersRun(
            name="answers", origin=self.ORIGIN, captures={}, adapter="", writer="", results=(),
            measured=(measured("sample", 0.1), measured("", 0.9)), **self.NOTHING,
        )  # fmt: skip
        claim = AnswersClaim(kind="answers", says="x", measure="right", at_least=0.8)
        assert decide_claim(claim, Evidence(answers=run)).state == "holds"
        assert (
            "no measure cause"
            in decide_claim(
                claim.model_copy(update={"measure": "cause"}), Evidence(answers=run)
            ).text
        )
        assert "`faultwise eval answers`" in decide_claim(claim, Evidence()).text


class TestVerdicts:
    WON = evidence(*TWO, tests=(made.comparison("pocket", "knn", 0.1, 0.05, 0.2),))
    LOST = evidence(*TWO, tests=(made.comparison("pocket", "knn", -0.1, -0.2, -0.05),))

    def test_both_ways_and_open(self) -> None:
        one = hypothesis(beats())
        assert decide(one, self.WON).verdict == "supported"
        assert decide(one, self.LOST).verdict == "not supported"
        assert decide(one, Evidence()).verdict == "not decidable here"

    def test_every_claim_must_hold(self) -> None:
        missing = beats(protocol="random")
        assert decide(hypothesis(beats(), missing), self.WON).verdict == "not decidable here"
        assert decide(hypothesis(beats(), missing), self.LOST).verdict == "not supported"

    def test_what_stands_beside_decides_nothing(self) -> None:
        assert (
            decide(hypothesis(beats(), beats(others=("rules",), beside=True)), self.WON).verdict
            == "supported"
        )
        assert decide(hypothesis(beats(beside=True)), self.LOST).verdict == "not decidable here"

    def test_what_does_not_exist_keeps_it_open_and_is_named(self) -> None:
        decision = decide(hypothesis(beats(), waits_for="a trainer"), self.WON)
        assert decision.verdict == "not decidable here"
        assert "waits for: a trainer" in render_decision(decision)

    def test_a_missing_run_is_named_with_its_command(self) -> None:
        text = render_decision(decide(hypothesis(beats()), Evidence()))
        assert "[?] x" in text
        assert f"`faultwise eval detection --protocol {LOCO} --data DIR`" in text


class TestShipped:
    def test_all_sixteen_are_there_in_order(self) -> None:
        assert tuple([f"H{n}" for n in range(1, 9)] + [f"Q{n}" for n in range(1, 9)]) == HYPOTHESES
        assert [read_hypothesis(name).name for name in HYPOTHESES] == list(HYPOTHESES)

    @pytest.mark.parametrize("name", HYPOTHESES)
    def test_claims_name_what_exists(self, name: str) -> None:
        one = read_hypothesis(name)
        for claim in one.claims:
            named = [getattr(claim, "model", "pocket"), *getattr(claim, "others", ())]
            assert set(named) <= set(MODELS)
            places = [claim.before, claim.after] if isinstance(claim, Changes) else []
            if isinstance(claim, AnswersClaim):
                assert claim.measure in ANSWER_MEASURES
            if isinstance(claim, Retrieves):
                assert any(one.startswith(claim.variant) for one in (SHIPPED, "words (BM25)"))
            assert {getattr(claim, "protocol", LOCO), *(place.protocol for place in places)} <= set(
                PROTOCOLS
            )
        assert one.claims or one.waits_for

    def test_another_language_model_may_be_asked_about(self) -> None:
        assert {claim.model for claim in read_hypothesis("H1", "llm:models/big").claims} == {
            "llm:models/big"
        }  # type: ignore[union-attr]

    def test_the_first_is_decided_by_its_pairs(self) -> None:
        """H1 on made results: the model wins everywhere, then loses one of them."""
        others = (
            "rules",
            "one-line-rule",
            "ewma",
            "isolation-forest",
            "knn",
            "random-forest",
            "xgboost",
            "zero-shot",
        )

        def run(worst: float) -> Evidence:
            scores = dict.fromkeys(("f1", "binary_macro_f1", "binary_recall"), 0.7)
            tests = tuple(
                made.comparison("pocket", other, gain, gain - 0.02, gain + 0.02, measure=measure)
                for other in others
                for measure in scores
                for gain in [worst if (other, measure) == ("xgboost", "f1") else 0.2]
            )
            return evidence(
                *(made.pooled(name, scores) for name in ("pocket", *others)), tests=tests
            )

        assert decide(read_hypothesis("h1"), run(0.1)).verdict == "supported"
        assert decide(read_hypothesis("H1"), run(-0.1)).verdict == "not supported"
        assert decide(read_hypothesis("H1"), run(0.01)).verdict == "not decidable here"

    def test_privacy_is_decided_by_changing_every_address(self) -> None:
        decision = decide_all(["Q8"], Evidence())[0]
        assert decision.verdict == "supported"
        assert decision.outcomes[0].text.startswith("0 of ")

    def test_an_unknown_one_is_refused_before_anything(self) -> None:
        with pytest.raises(UserError, match="no hypothesis is called H9; expected any of H1, H2"):
            decide_all(["Q8", "H9"], Evidence())


class TestPrivacy:
    def test_an_address_in_a_text_would_be_seen(self) -> None:
        """The experiment can fail: a change of what devices do, not of their names, changes
        texts."""
        from eval.research.privacy import SAMPLE, rename_addresses
        from prompts.window_text import render_windows
        from traffic.reader import read_capture
        from traffic.samples import make_samples
        from traffic.windows import make_windows

        capture = read_capture(SAMPLE)
        outside = {"192.168.14.207": "93.184.216.34"}  # a device becomes a peer beyond the router
        texts = [
            sorted(render_windows(make_windows(make_samples(c))))
            for c in (capture, rename_addresses(capture, outside))
        ]
        assert texts[0] != texts[1]


class TestEvidence:
    def run(self, name: str, created: str, **other: object) -> Run:
        return made.run(
            (), [made.pooled("m", {})], name=name, created=created, protocol={"name": "p"}, **other
        )

    def test_the_newest_run_counts_and_a_quick_one_never(self, tmp_path: Path) -> None:
        for one in (self.run("old", "2026-01-01T00:00:00Z"), self.run("new", "2026-02-01T00:00:00Z"),
                    self.run("quick", "2026-03-01T00:00:00Z", quick=True)):  # fmt: skip
            write_run(one, tmp_path)
        found = read_evidence(tmp_path)
        assert {run.name for run in found.runs} == {"old", "new"}
        assert found.run_of("p") == self.run("new", "2026-02-01T00:00:00Z")
        assert found.run_of("q") is None
        assert read_evidence(tmp_path / "nothing") == Evidence()

    @pytest.mark.parametrize(
        ("content", "said"),
        [("{", "is no JSON"), ("[]", "results of kind ''"), ('{"kind": "speed"}', "results of kind 'speed'"),
         ('{"kind": "detection", "version": 2}', "is no file of results")],
    )  # fmt: skip
    def test_a_damaged_or_foreign_file_is_named(
        self, tmp_path: Path, content: str, said: str
    ) -> None:
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(UserError, match=rf"x\.json.*{said}"):
            read_evidence(tmp_path)


@pytest.mark.parametrize("name", HYPOTHESES)
def test_margins_are_in_the_files_and_rules_in_words(name: str) -> None:
    """A rule is fixed in advance: each claim that decides has its bound in its file."""
    path = Path(__file__).parents[1] / "eval" / "research" / "hypotheses" / f"{name}.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for claim in content["claims"]:
        assert {"at_least", "at_most", "others"} & set(claim) or claim["kind"] == "renamed"
        if "measure" in claim and claim["kind"] in ("beats", "reaches", "changes"):
            assert claim["measure"] in MEASURES
    assert content["rule"].startswith("supported if")
