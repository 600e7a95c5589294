"""The page of two tasks or one: what was read stands on the cards, what was measured in the run."""

import made_runs as made
import pytest

from assistant.llm.adapters import POCKET, read_card, write_card
from eval.detection.aggregate import NAMING
from eval.research.two_tasks import main, render_page
from eval.results import write_run
from traffic.errors import UserError


def lay_down(folder, steps):
    folder.mkdir(parents=True)
    metrics = {"train.steps": steps, "train.loss": 0.25, "train.texts": 36000.0,
               "train.share_of_shipped": 0.023}  # fmt: skip
    data = ("simulated-10000", "simulated-10001", "run-1")
    changes = {"metrics": metrics, "data": data, "seed": 4, "made_by": "made so"}
    write_card(read_card(POCKET).model_copy(update=changes), folder)
    return f"llm:{folder}"


def test_a_pair_is_shown_with_what_it_read_and_how_it_names(tmp_path):
    joint, single = (
        lay_down(tmp_path / name, steps) for name, steps in (("joint", 563.0), ("class", 375.0))
    )
    means = [made.pooled(one, {"f1": value}) for one, value in ((joint, 0.6), (single, 0.1))]
    tests = [made.comparison(single, joint, -0.04, -0.07, -0.01, measure=NAMING)]
    file = write_run(made.run((), means, tests), tmp_path)
    main(file, tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert f"| {tmp_path}/joint | 563 | 0.250 | +0.040 [+0.010, +0.070] | 0.600 |" in page
    assert f"| {tmp_path}/class | 375 | 0.250 |  | – |" in page
    assert "2 simulated plants and 1 recorded runs, 36,000 texts with labels, 2.3% of what" in page
    assert "seed 4" in page


def test_a_run_without_such_a_pair_is_refused():
    with pytest.raises(UserError, match="no model of both tasks"):
        render_page(made.run((), [made.pooled("pocket", {"f1": 0.5})]), "made")
