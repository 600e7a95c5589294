"""Hypotheses are decided by rules that stood before the runs: both ways, and left open where
numbers are missing."""

import inspect
import re
from pathlib import Path
from typing import Any, ClassVar

import made_runs as made
import pytest

from eval.answers.results import AnswersRun, Measured, Origin, RetrievalRun, Variant
from eval.answers.retrieval import SHIPPED
from eval.detection.aggregate import NAMING, UNSEEN
from eval.research.claims import (
    LOCO,
    Claim,
    Place,
    StoredRuns,
    advantages,
    answers,
    change,
    check,
    costs,
    decide,
    read_runs,
    recalls,
    scores,
    search,
)
from eval.research.hypotheses import HYPOTHESES, find_hypotheses, render_verdict
from eval.research.privacy import SAMPLE, compare_texts, list_texts, rename_addresses
from eval.results import Estimate, LabelScores, Run, write_run
from traffic.errors import UserError
from traffic.reader import read_capture

P = Place("p")


def stored(*means: Any, tests: tuple = (), protocol: str = LOCO.protocol) -> StoredRuns:
    return StoredRuns((made.run((), means, tests, protocol={"name": protocol}),))


TWO = (
    made.pooled("pocket", {"f1": 0.6, "false_share": 0.01}),
    made.pooled("knn", {"f1": 0.5, "false_share": 0.05}),
)


def better(runs: StoredRuns, *others: str, measure: str = "f1", margin: float = 0.0) -> Claim:
    return check("x", advantages(runs, "pocket", others or ("knn",), measure), above=margin)


class TestAdvantages:
    @pytest.mark.parametrize(
        ("low", "high", "state"),
        [(0.02, 0.2, "holds"), (-0.2, -0.02, "fails"), (-0.1, 0.1, "open")],
    )
    def test_by_the_paired_interval(self, low: float, high: float, state: str) -> None:
        tests = (made.comparison("pocket", "knn", 0.1, low, high),)
        found = better(stored(*TWO, tests=tests))
        assert found.state == state
        assert "knn +0.100" in found.text

    @pytest.mark.parametrize(("margin", "state"), [(0.0, "holds"), (0.03, "open"), (0.06, "fails")])
    def test_where_less_is_better_a_negative_difference_wins(
        self, margin: float, state: str
    ) -> None:
        tests = (made.comparison("knn", "pocket", 0.04, 0.02, 0.06, measure="false_share"),)
        runs = stored(*TWO, tests=tests)
        assert better(runs, measure="false_share", margin=margin).state == state

    def test_without_a_pair_the_intervals_must_lie_apart(self) -> None:
        theirs = made.pooled("knn", {"f1": (0.5, 0.4, 0.6)})
        ours = [made.pooled("pocket", {"f1": (0.8, low, 0.9)}) for low in (0.7, 0.55)]
        apart, touching = (better(stored(one, theirs)) for one in ours)
        assert (apart.state, touching.state) == ("holds", "open")
        assert "not in pairs" in apart.text

    def test_one_lost_is_lost_and_one_missing_is_open(self) -> None:
        tests = (
            made.comparison("pocket", "knn", 0.1, 0.05, 0.2),
            made.comparison("pocket", "rules", -0.1, -0.2, -0.05),
        )
        runs = stored(*TWO, made.pooled("rules", {"f1": 0.7}), tests=tests)
        assert better(runs, "knn", "rules").state == "fails"
        left = better(runs, "knn", "lstm")
        assert left.state == "open"
        assert "not there or not measured: lstm" in left.text

    def test_a_model_made_with_the_test_is_judged_where_no_model_was(self) -> None:
        tests = (made.comparison("pocket", "knn", 0.1, 0.05, 0.2),)
        seen = made.pooled("pocket", {"f1": 0.99}, compared=False, seen_in_training=("34-1",))
        only = better(stored(seen, TWO[1], tests=tests))
        assert only.state == "open"
        assert "34-1" in only.text
        apart = [made.pooled(name, {"f1": 0.4}, setting=UNSEEN) for name in ("pocket", "knn")]
        both = better(stored(seen, TWO[1], *apart, tests=tests))
        assert both.state == "holds"
        assert "0.400" in both.text


class TestNumbersOfRuns:
    @pytest.mark.parametrize(("last", "state"), [(0.7, "holds"), (0.55, "open"), (0.4, "fails")])
    def test_a_bound_in_every_setting(self, last: float, state: str) -> None:
        means = [
            made.pooled("m", {"recall": (x, x - 0.1, x)}, setting=name)
            for name, x in {"c2 never shown": 0.9, "dos never shown": last}.items()
        ]
        runs = stored(*means, protocol="p")
        every = scores(runs, "m", "recall", Place("p", "every"))
        assert check("x", every, at_least=0.5).state == state

    def test_what_is_missing_is_named_with_what_there_is_or_what_makes_it(self) -> None:
        runs = stored(made.pooled("m", {"recall": 1.0}), protocol="p")
        found = scores(runs, "m", "recall", Place("p", "50 windows"))
        assert check("x", found, at_least=0.5).state == "open"
        assert "no setting 50 windows, only none" in found.text
        assert "no model n: add it" in scores(runs, "n", "recall", P).text
        absent = check("x", scores(StoredRuns(), "m", "recall", P), at_least=0.5)
        assert (absent.state, absent.text) == (
            "open",
            "no run of protocol p: `faultwise eval detection --protocol p --data DIR` makes one",
        )

    def drift(self, *gains: float, model: str = "m", learns: bool = False) -> Claim:
        """One model, one fold for each gain, from 0.5 on; whether it gains at least 0.1."""
        rows = [
            made.row(model, f"fold {n}", {"f1": 0.5 + gain * new}, setting=setting)
            for n, gain in enumerate(gains)
            for new, setting in enumerate(("old", "new"))
        ]
        means = [
            made.pooled(model, {"f1": (x, x - 0.2, x + 0.2)}, setting=name)
            for name, x in (("old", 0.5), ("new", 0.7))
        ]
        runs = StoredRuns((made.run(rows, means, protocol={"name": "p"}),))
        ends = (Place("p", "old"), Place("p", "new"))
        return check("x", change(runs, model, "f1", *ends, learns=learns), at_least=0.1)

    @pytest.mark.parametrize(
        ("gains", "state"),
        [((0.2, 0.2, 0.2), "holds"), ((0.05,) * 3, "fails"), ((-0.3, 0.3, 0.6), "open")],
    )
    def test_a_change_is_paired_by_fold_where_there_are_three(
        self, gains: tuple[float, ...], state: str
    ) -> None:
        assert self.drift(*gains).state == state

    def test_its_text_says_how_it_was_paired(self) -> None:
        assert "+0.200 [+0.200, +0.200] paired by fold" in self.drift(0.2, 0.2, 0.2).text
        two = self.drift(0.2, 0.2)  # folds: no spread
        assert (two.state, "[-0.200, +0.600] not in pairs" in two.text) == ("open", True)

    def test_a_model_that_brings_its_weights_cannot_show_what_it_learned(self) -> None:
        found = self.drift(0.2, 0.2, 0.2, model="pocket", learns=True)
        assert (found.state, "trains it on none of its windows" in found.text) == ("open", True)

    @pytest.mark.parametrize(("c2", "state"), [(0.5, "holds"), (0.49, "fails")])
    def test_rare_labels_do_not_count_and_normal_is_none(self, c2: float, state: str) -> None:
        shares = {"normal": (0.0, 900), "dos": (0.0, 49), "c2": (c2, 50), "recon": (0.9, 99)}
        known = {
            label: LabelScores(precision=1.0, recall=recall, f1=1.0, windows=windows)
            for label, (recall, windows) in shares.items()
        }
        runs = stored(made.pooled("m", {}, per_label=known), protocol="p")
        found = check("x", recalls(runs, "m", 50, P), at_least=0.5)
        assert found.state == state
        assert f"c2 {c2:.3f}, recon 0.900" in found.text

    def test_costs_need_no_interval(self) -> None:
        runs = stored(made.pooled("m", {}), protocol="p")
        speed = costs(runs, "m", "windows_per_s", P)
        assert [check("x", speed, at_least=x).state for x in (500, 501)] == ["holds", "fails"]
        unknown = made.COSTS.model_copy(update={"windows_per_s": None})
        none = costs(stored(made.pooled("m", {}, costs=unknown)), "m", "windows_per_s")
        assert check("x", none, at_least=1).state == "open"
        assert "could not measure windows_per_s of m" in none.text

    @pytest.mark.parametrize(("most", "state"), [(1e9, "open"), (1e6, "fails")])
    def test_memory_of_a_model_does_not_bound_that_of_a_process(
        self, most: float, state: str
    ) -> None:
        runs = stored(made.pooled("m", {}))  # 10 MB above what its process held
        memory = costs(runs, "m", "peak_memory_bytes")
        assert check("x", memory, at_most=most).state == state


class TestSearchAndAnswers:
    ORIGIN = Origin(
        created="2026-11-21", command="x", commit="", versions={}, machine=made.run().machine
    )
    NOTHING: ClassVar[dict[str, Any]] = {"cases": {}, "skipped": (), "notes": ()}

    def searched(self, low: float) -> StoredRuns:
        score = Estimate(value=0.9, low=low, high=0.95)
        names = "recall_at_1 recall_at_5 mrr ndcg_at_10 refused_rightly refused_wrongly"
        scores: dict[str, Any] = dict.fromkeys(names.split(), score)
        counts = {"questions": 60, "unanswerable": 9, "seconds_per_question": 0.25}
        found = tuple(
            Variant(variant=SHIPPED, group=group, **counts, **scores) for group in ("registers", "")
        )
        places: dict[str, Any] = {"documents": {}, "chunks": 1, "embedder": "", "reranker": ""}
        run = RetrievalRun(
            name="search", origin=self.ORIGIN, variants=found, questions=(), **places, **self.NOTHING
        )  # fmt: skip
        return StoredRuns(retrieval=run)

    @pytest.mark.parametrize(
        ("low", "at_least", "state"),
        [(0.85, 0.8, "holds"), (0.7, 0.8, "open"), (0.85, 0.96, "fails")],
    )
    def test_a_share_of_questions_by_its_interval(
        self, low: float, at_least: float, state: str
    ) -> None:
        numbers = search(self.searched(low), "recall_at_5", "both, with")
        found = check("x", numbers, at_least=at_least)
        assert found.state == state
        assert f"0.900 [{low:.3f}, 0.950] of 60 questions" in found.text

    def test_seconds_have_no_interval_and_need_none(self) -> None:
        seconds = search(self.searched(0.8), "seconds_per_question")
        assert [check("x", seconds, at_most=x).state for x in (0.25, 0.2)] == ["holds", "fails"]

    def test_a_share_of_answers_over_all_cases_not_of_a_group(self) -> None:
        shares = {"sample": (0.1, 0.05, 0.15), "": (0.9, 0.85, 0.95)}
        measured = tuple(
            Measured(
                measure="right", group=group, cases=40, share=Estimate(value=x, low=low, high=high)
            )
            for group, (x, low, high) in shares.items()
        )
        run = AnswersRun(
            name="answers", origin=self.ORIGIN, captures={}, adapter="", writer="", results=(),
            measured=measured, **self.NOTHING,
        )  # fmt: skip
        runs = StoredRuns(answers=run)
        assert check("x", answers(runs, "right"), at_least=0.8).state == "holds"
        assert "no measure cause" in answers(runs, "cause").text

    def test_what_makes_a_missing_run(self) -> None:
        assert "`faultwise eval answers`" in answers(StoredRuns(), "right").text
        assert "`faultwise eval retrieval`" in search(StoredRuns(), "recall_at_5").text


HOLDS, FAILS, OPEN = (Claim("x", state, "") for state in ("holds", "fails", "open"))
BESIDE = Claim("x", "fails", "", beside=True)


class TestVerdicts:
    @pytest.mark.parametrize(
        ("claims", "word"),
        [
            ((HOLDS,), "supported"),
            ((HOLDS, FAILS), "not supported"),
            ((HOLDS, OPEN), "not decidable here"),
            ((OPEN, FAILS), "not supported"),  # every claim must hold
            ((HOLDS, BESIDE), "supported"),
            ((Claim("x", "holds", "", beside=True),), "not decidable here"),
            ((), "not decidable here"),
        ],
    )
    def test_by_the_claims_that_decide(self, claims: tuple[Claim, ...], word: str) -> None:
        assert decide(*claims).word == word

    def test_what_does_not_exist_keeps_it_open_and_is_named(self) -> None:
        verdict = decide(HOLDS, waits_for="a trainer")
        assert verdict.word == "not decidable here"
        assert "Waits for: a trainer" in render_verdict("H1", verdict)

    def test_a_claim_is_shown_with_its_mark_and_numbers(self) -> None:
        text = render_verdict("H5", decide(Claim("one", "holds", "0.9"), BESIDE))
        assert text.startswith("H5  SUPPORTED\n  Is an adapter tuned on several machines")
        assert "\n  [+] one\n      0.9\n  [-] x (beside: decides nothing)\n" in text
        assert "\n  Paper: Distributed fine-tuning" in text
        assert "\n  Rule: supported if" in text


@pytest.fixture(scope="module")
def decided() -> dict[str, str]:
    """What is printed of each hypothesis where no run lies."""
    return {
        name: render_verdict(name, one(StoredRuns(), "pocket")) for name, one in HYPOTHESES.items()
    }


class TestShipped:
    def test_all_sixteen_are_there_in_order(self) -> None:
        assert list(HYPOTHESES) == [f"{kind}{n}" for kind in "HQ" for n in range(1, 9)]
        assert find_hypotheses(["q8", "H1"]) == ["Q8", "H1"]
        assert find_hypotheses([]) == list(HYPOTHESES)

    @pytest.mark.parametrize("name", HYPOTHESES)
    def test_each_says_what_it_asks_by_which_rule_and_what_it_cannot(self, name: str) -> None:
        document = inspect.getdoc(HYPOTHESES[name]) or ""
        assert re.match(
            r".+?\?\n\nPaper: .+\nRule: supported if .+\nCannot decide: ", document, re.S
        )

    def test_nothing_is_decided_without_numbers_but_what_is_tried_at_once(
        self, decided: dict[str, str]
    ) -> None:
        words = {name: text.split("\n")[0].split("  ")[1] for name, text in decided.items()}
        assert words == dict.fromkeys(HYPOTHESES, "NOT DECIDABLE HERE") | {"Q8": "SUPPORTED"}

    def test_no_prompt_names_a_device(self, decided: dict[str, str]) -> None:
        assert "[+] the classifier's prompts" in decided["Q8"]
        assert "\n      0 of 784 texts differ" in decided["Q8"]
        assert "[+] the writer's prompts" in decided["Q8"]
        assert re.search(r"\n      0 of \d+ messages", decided["Q8"])

    def test_commands_and_protocols_that_are_named_exist(self, decided: dict[str, str]) -> None:
        import typer

        from assistant.cli.main import app
        from eval.detection.splits import PROTOCOLS

        cli = typer.main.get_command(app)
        for line in re.findall(
            r"`(faultwise [^`]+)`", " ".join(" ".join(decided.values()).split())
        ):
            command: Any = cli
            for word in line.split()[1:]:
                if not hasattr(command, "commands"):
                    break
                assert word in command.commands, line
                command = command.commands[word]
        named = re.findall(r"--protocol ([\w-]+)", " ".join(decided.values()))
        assert set(named) <= set(PROTOCOLS)
        assert len(set(named)) > 6

    @pytest.mark.parametrize(
        ("worst", "word"),
        [(0.1, "supported"), (-0.1, "not supported"), (0.01, "not decidable here")],
    )
    def test_the_first_is_decided_by_its_pairs(self, worst: float, word: str) -> None:
        """H1 on made results: the model wins everywhere, but for one pair."""
        others = "rules one-line-rule ewma isolation-forest knn random-forest xgboost zero-shot"
        scores = dict.fromkeys(("f1", "binary_macro_f1", "binary_recall"), 0.7)
        tests = tuple(
            made.comparison("llm:x", other, gain, gain - 0.02, gain + 0.02, measure=measure)
            for other in others.split()
            for measure in scores
            for gain in [worst if (other, measure) == ("xgboost", "f1") else 0.2]
        )
        means = [made.pooled(name, scores) for name in ("llm:x", *others.split())]
        assert HYPOTHESES["H1"](stored(*means, tests=tests), "llm:x").word == word

    @pytest.mark.parametrize(
        ("ends", "word"),
        [
            (((0.02, 0.2), (0.01, 0.1)), "supported"),
            (((0.02, 0.2), (-0.1, 0.1)), "not decidable here"),
            (((-0.2, -0.02), (0.01, 0.1)), "not supported"),
            ((), "not decidable here"),
        ],
    )
    def test_two_tasks_must_win_with_every_pair(self, ends: tuple, word: str) -> None:
        folders = [f"llm:tasks/{seed}" for seed in range(len(ends))]
        means = [
            made.pooled(f"{one}/{target}", {"f1": 0.5})
            for one in folders
            for target in ("joint", "class")
        ]
        tests = tuple(
            made.comparison(f"{one}/joint", f"{one}/class", sum(of) / 2, *of, measure=NAMING)
            for one, of in zip(folders, ends, strict=True)
        )
        verdict = HYPOTHESES["H7"](stored(*TWO, *means, tests=tests), "pocket")
        assert verdict.word == word
        assert bool(verdict.waits_for) == (not ends)

    def test_an_unknown_one_is_refused(self) -> None:
        with pytest.raises(UserError, match="no hypothesis is called H9; expected any of H1, H2"):
            find_hypotheses(["Q8", "H9"])


def test_an_address_in_a_text_would_be_seen() -> None:
    """The experiment can fail: a change of what devices do, not of their names, changes texts."""
    capture = read_capture(SAMPLE)
    outside = {"192.168.14.207": "93.184.216.34"}  # a device becomes a peer beyond the router
    assert list_texts(rename_addresses(capture, outside)) != list_texts(capture)
    assert compare_texts().differing == 0


class TestStoredRuns:
    def run(self, name: str, created: str, **other: Any) -> Run:
        known = {"name": name, "created": created, "protocol": {"name": "p"}}
        return made.run((), [made.pooled("m", {})], **known | other)

    def test_the_newest_run_counts_and_a_quick_one_never(self, tmp_path: Path) -> None:
        new = self.run("new", "2026-02-01T00:00:00Z")
        for one in (self.run("old", "2026-01-01T00:00:00Z"), new,
                    self.run("quick", "2026-03-01T00:00:00Z", quick=True)):  # fmt: skip
            write_run(one, tmp_path)
        found = read_runs(tmp_path)
        assert {run.name for run in found.detection} == {"old", "new"}
        assert found.newest("p") == new
        assert found.newest("q") is None
        assert read_runs(tmp_path / "nothing") == StoredRuns()

    @pytest.mark.parametrize(
        ("content", "message"),
        [("{", "Invalid JSON"), ("[]", "should be an object"), ("{}", "using discriminator 'kind'"),
         ('{"kind": "speed"}', "'speed' found using 'kind'"),
         ('{"kind": "detection", "version": 2}', "version: Input should be 1")],
    )  # fmt: skip
    def test_a_damaged_or_foreign_file_is_named(
        self, tmp_path: Path, content: str, message: str
    ) -> None:
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(UserError, match=rf"x\.json.*{message}"):
            read_runs(tmp_path)
