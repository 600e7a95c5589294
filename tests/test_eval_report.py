"""A run's report: the numbers it shows, and a page that a real browser reads without asking anybody
for anything."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import made_runs as made
import pytest

from eval.detection.aggregate import make_parts
from eval.report.page import find_run, render_markdown, render_page, write_report
from eval.report.plots import make_plots, make_setting_plot
from eval.report.tables import (
    comparison_table,
    format_number,
    format_size,
    score_table,
    setting_table,
)
from eval.results import LabelScores, Run
from traffic.errors import UserError

CHROMIUM = shutil.which("chromium")
HOSTILE = "<img src=http://192.0.2.1/x onerror=alert(1)>"


def few_shot(**other: Any) -> Run:
    """Two models on 0, 50 and 200 windows of a new site."""
    labels = {"c2": LabelScores(precision=0.5, recall=0.5, f1=0.5, windows=10)}
    means = [
        made.pooled(
            model, {"f1": (score, score - 0.1, score + 0.1), "false_share": 0.012, "pr_auc": score},
            setting=f"{amount} windows", amount=float(amount), per_label=labels,
        )
        for model, scores in {"pocket": (0.3, 0.5, 0.6), "xgboost": (0.2, 0.55, 0.7)}.items()
        for amount, score in zip((0, 50, 200), scores, strict=True)
    ]  # fmt: skip
    tests = [made.comparison("pocket", "xgboost", -0.1, -0.15, -0.05, setting="200 windows")]
    return made.run(
        (),
        means,
        tests,
        **{"name": "few", "protocol": {"name": "few-shot", "asks": "How many?"}} | other,
    )


class TestTables:
    def test_models_stand_best_first_and_settings_in_the_order_of_their_amounts(self) -> None:
        parts = make_parts(few_shot())
        assert [part.setting for part in parts] == ["0 windows", "50 windows", "200 windows"]
        assert [one.model for one in parts[0].pooled] == ["pocket", "xgboost"]
        assert [one.model for one in parts[2].pooled] == ["xgboost", "pocket"]

    def test_a_cell_holds_the_value_and_its_interval_and_the_best_is_marked(self) -> None:
        table = score_table(make_parts(few_shot())[2])
        column = table.heads.index("macro-F1")
        assert [row[column] for row in table.rows] == [
            "0.700 [0.600, 0.800]",
            "0.600 [0.500, 0.700]",
        ]
        assert (0, column) in table.best
        assert (1, column) not in table.best
        # Equal everywhere: nobody is best.
        assert not any(
            column == table.heads.index("normal called anomalous") for _, column in table.best
        )

    def test_labels_said_but_never_true_weigh_on_macro_f1_alone(self) -> None:
        labels = {
            "c2": LabelScores(precision=1.0, recall=0.5, f1=0.8, windows=10),
            "dos": LabelScores(precision=0.0, recall=None, f1=0.0, windows=0),
        }
        table = score_table(
            make_parts(made.run((), [made.pooled("a", {"f1": 0.4}, per_label=labels)]))[0]
        )
        assert (table.heads[1:3], table.rows[0][1:]) == (
            ("F1 of true labels", "macro-F1"),
            ("0.800", "0.400"),
        )

    def test_notes_that_models_share_are_said_once(self) -> None:
        means = [made.pooled(name, {"f1": 0.4}, notes=("not trained here",)) for name in ("a", "b")]
        assert (
            score_table(make_parts(made.run((), means))[0]).notes[-1] == "a, b: not trained here."
        )

    def test_what_was_never_measured_has_no_column(self) -> None:
        assert "time to detect, s" not in score_table(make_parts(few_shot())[0]).heads

    def test_a_model_made_with_the_tested_captures_is_marked_and_never_best(self) -> None:
        run = made.run(
            (), [made.pooled("pocket", {"f1": 0.9}, compared=False), made.pooled("rules", {"f1": 0.4}),
                 made.pooled("knn", {"f1": 0.3})]
        )  # fmt: skip
        table = score_table(make_parts(run)[0])
        assert table.rows[0][0] == "pocket *"
        assert table.best == {(1, 2)}
        assert any("no test of it" in note for note in table.notes)

    def test_where_nothing_is_to_be_found_fewest_false_alarms_come_first(self) -> None:
        calm = made.CONFUSION.model_copy(update={"counts": ((90, 8, 2), (0, 0, 0), (0, 0, 0))})
        means = [
            made.pooled(name, {"false_share": x}, confusion=calm)
            for name, x in (("a", 0.1), ("b", 0.02))
        ]
        assert [one.model for one in make_parts(made.run((), means))[0].pooled] == ["b", "a"]

    def test_settings_stand_beside_each_other(self) -> None:
        table = setting_table(few_shot(), "corrected")
        assert table is not None
        assert table.heads == ("model", "0 windows", "50 windows", "200 windows")
        assert table.rows[1][3] == "0.700 [0.600, 0.800]"
        assert setting_table(few_shot(), "published") is None

    def test_a_paired_difference_has_its_sign(self) -> None:
        table = comparison_table(few_shot(), "corrected")
        assert table is not None
        assert table.rows == (
            ("pocket − xgboost", "200 windows", "f1", "-0.100 [-0.150, -0.050]", "0.010", "12"),
        )

    @pytest.mark.parametrize(
        ("name", "value", "text"),
        [("f1", 0.12345, "0.123"), ("false_share", 0.5, "50.0 %"), ("time_to_detection_s", 62.4, "62.4"),
         ("false_per_device_day", 1234.5, "1,234"), ("f1", None, "–")],
    )  # fmt: skip
    def test_numbers_as_people_read_them(self, name: str, value: float | None, text: str) -> None:
        assert format_number(name, value) == text

    def test_sizes(self) -> None:
        assert [format_size(n) for n in (999, 1000, 2_500_000, 3_000_000_000)] == [
            "999 B",
            "1.0 kB",
            "2.5 MB",
            "3.0 GB",
        ]


class TestMarkdown:
    def test_says_how_it_was_made_and_every_number_once_per_table(self) -> None:
        text = render_markdown(few_shot())
        assert "- command: `faultwise eval detection`" in text
        assert "- question: How many?" in text
        assert "| xgboost | 0.500 | **0.700 [0.600, 0.800]** |" in text
        assert (
            "| pocket | 0.300 [0.200, 0.400] | 0.500 [0.400, 0.600] | 0.600 [0.500, 0.700] |"
            in text
        )

    def test_a_quick_run_says_that_it_is_one(self) -> None:
        assert "not what models are worth" in render_markdown(few_shot(quick=True))
        assert "not what models are worth" not in render_markdown(few_shot())

    def test_names_cannot_break_the_table(self) -> None:
        text = render_markdown(made.run((), [made.pooled("a|b", {"f1": 0.5})]))
        assert "| a\\|b | – | 0.500 |" in text


class TestPlots:
    def test_the_same_run_gives_the_same_bytes(self) -> None:
        assert render_page(few_shot()) == render_page(few_shot())

    def test_they_load_nothing_and_share_no_clip_path(self) -> None:
        page = render_page(few_shot())
        assert not re.findall(r"<(?:script|image|foreignObject)|href=\"[^#]", page)
        clips = re.findall(r'<clipPath id="([^"]+)"', page)
        assert len(clips) == len(set(clips)) > 9

    def test_each_names_its_models_and_axes_as_text(self) -> None:
        run = made.run((), [made.pooled("pocket", {"f1": (0.5, 0.4, 0.6), "binary_macro_f1": 0.7})])
        groups = make_plots(run, make_parts(run)[0], detail=True)
        shown = {
            "Models, best first": ("pocket", "0.500", "0.700", "F1, mean over labels true or said"),
            "Cost against quality": ("pocket", "training, wall clock, s", "stored size, MB"),
            # The largest counts of CONFUSION by true label are 90, 8 and 8, the smallest shown 1.
            "Confusion: what": ("normal", "recon", "c2", "90", "8", "1", "true", "said"),
            "Precision and recall": ("pocket", "PR-AUC –", "recall of anomalous", "precision"),
            "Reliability": ("ECE –", "probability of the label said"),
            "Abstention": ("area –", "coverage: share answered"),
        }
        assert len(groups) == len(shown)
        for title, words in shown.items():
            (plot,) = next(plots for name, plots in groups.items() if name.startswith(title))
            texts = re.findall(r"<text[^>]*>([^<]*)</text>", plot.svg)
            assert set(words) <= {text.strip() for text in texts}, title

    def test_a_name_is_no_formula(self) -> None:
        run = made.run((), [made.pooled("$<a$", {"f1": 0.5})])
        assert (
            "$&lt;a$"
            in make_plots(run, make_parts(run)[0], detail=False)["Models, best first"][0].svg
        )

    def test_labels_never_seen_have_no_row(self) -> None:
        counts = ((90, 8, 2), (0, 0, 0), (0, 0, 0))
        calm = made.CONFUSION.model_copy(update={"counts": counts})
        run = made.run((), [made.pooled("a", {"f1": 0.5}, confusion=calm)])
        (plot,) = list(make_plots(run, make_parts(run)[0], detail=True).values())[2]
        assert [plot.svg.count(f">{name}<") for name in ("normal", "recon")] == [2, 1]

    def test_a_curve_needs_amounts_that_differ(self) -> None:
        plot = make_setting_plot(few_shot(), "corrected")
        assert plot is not None
        texts = re.findall(r"<text[^>]*>([^<]*)</text>", plot.svg)
        assert texts[:4] == ["0", "50", "200", "windows"]
        assert texts[-2:] == ["xgboost", "pocket"]  # in the order of their ends
        twice = [
            made.pooled("a", {"f1": 0.5}, setting=name, amount=2.0) for name in ("first", "again")
        ]
        assert make_setting_plot(made.run((), twice), "corrected") is None


class TestFiles:
    def test_both_are_written_whole_beside_each_other(self, tmp_path: Path) -> None:
        markdown, page = write_report(few_shot(), tmp_path / "new")
        assert markdown.read_text(encoding="utf-8") == render_markdown(few_shot())
        assert page.read_text(encoding="utf-8") == render_page(few_shot())
        assert sorted(path.name for path in markdown.parent.iterdir()) == ["few.html", "few.md"]

    def test_a_run_is_found_by_path_or_by_name_and_others_are_named(self, tmp_path: Path) -> None:
        (tmp_path / "few.json").write_text("{}")
        assert find_run("few", tmp_path) == find_run(str(tmp_path / "few.json"), Path("nowhere"))
        with pytest.raises(UserError, match=r"no results more .* one of: few; make"):
            find_run("more", tmp_path)

    def test_a_folder_that_cannot_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match="cannot be written"):
            write_report(few_shot(), tmp_path / "file")


class TestHostileNames:
    """Names of captures and models come from files that anybody may have written."""

    def test_are_text(self) -> None:
        page = render_page(
            made.run((), [made.pooled(HOSTILE, {"f1": 0.5})], name=HOSTILE, command=HOSTILE)
        )
        assert page.count("&lt;img") >= 4
        assert "<img" not in page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no chromium: the page cannot be read as a researcher reads it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        window = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield window
        window.close()


class TestInABrowser:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_shows_everything_and_asks_for_nothing_but_itself(
        self, browser: Any, tmp_path: Path, scheme: str
    ) -> None:
        url = write_report(few_shot(), tmp_path)[1].as_uri()
        asked: list[str] = []
        said: list[str] = []
        page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.goto(url, wait_until="networkidle")
        assert asked == [url]
        assert said == []  # no policy was violated, nothing failed
        assert page.evaluate("document.scripts.length") == 0
        words = page.inner_text("body")
        assert all(
            text in words
            for text in ("0.700", "0.600 to 0.800", "Confusion", "Reliability", "Cost against")
        )
        # One by setting; of each part intervals, costs, a confusion a model and three of curves.
        assert page.locator("svg").count() == 1 + 3 * (1 + 1 + 2 + 3)
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280
        ink, ground = page.evaluate(
            "[document.body, document.body].map((e, i) => getComputedStyle(e)[i ? 'backgroundColor' : 'color'])"
        )
        light = [sum(map(int, re.findall(r"\d+", colour)[:3])) / 765 for colour in (ink, ground)]
        assert (light[1] - light[0] if scheme == "light" else light[0] - light[1]) > 0.6

    def test_the_policy_forbids_what_somebody_might_add(self, browser: Any, tmp_path: Path) -> None:
        path = write_report(few_shot(), tmp_path)[1]
        added = '<img src="http://192.0.2.1/x.png"><script>document.title = "ran"</script></body>'
        path.write_text(
            path.read_text(encoding="utf-8").replace("</body>", added), encoding="utf-8"
        )
        page = browser.new_page()
        refused: list[str] = []
        page.on("console", lambda message: refused.append(message.text))
        page.goto(path.as_uri())
        assert page.title() != "ran"
        assert sum("Content Security Policy" in text for text in refused) == 2

    def test_a_narrow_screen_scrolls_tables_not_the_page(
        self, browser: Any, tmp_path: Path
    ) -> None:
        page = browser.new_page(viewport={"width": 400, "height": 800})
        page.goto(write_report(few_shot(), tmp_path)[1].as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
