"""What bounds of a quiet time give on the rest of a capture."""

import pytest

from assistant.llm.adapters import load_adapter
from eval.research.quiet_time import Rest, judge_rest, main, render_rest
from traffic.errors import UserError
from traffic.simulation.simulate import simulate, write_simulation


@pytest.fixture(scope="module")
def troubled(tmp_path_factory):
    """A plant whose second half holds a scan."""
    folder = tmp_path_factory.mktemp("plants") / "works"
    write_simulation(simulate(11, devices=8, hours=0.5, scenarios=["recon"]), folder)
    return folder / "conn.log"


def test_the_first_part_sets_the_bounds_and_the_rest_is_judged(troubled):
    llm, card = load_adapter()
    rest = judge_rest(troubled, llm, card, 0.5, 0.01)
    assert rest.quiet >= 100
    assert rest.normal > 0
    assert rest.false_after <= rest.false_before
    with pytest.raises(UserError, match="expected 10000 or more"):
        judge_rest(troubled, llm, card, 0.5, 0.0001)


def test_a_capture_that_was_learned_from_is_refused(troubled):
    llm, card = load_adapter()
    known = card.model_copy(update={"data": ("works",)})
    with pytest.raises(UserError, match="was learned from"):
        judge_rest(troubled, llm, known, 0.5, 0.01)


def test_the_last_row_counts_windows_of_all_captures():
    rows = [
        Rest("a", 100, 300, 100, 0.10, 0.02, 0.9, 0.8),
        Rest("b", 100, 100, 0, 0.02, 0.02, float("nan"), float("nan")),
    ]
    report = render_rest(rows, "the command")
    assert "| b | 100 | 100 | 0 | 2.0% | 2.0% | – | – |" in report
    assert "| all | 200 | 400 | 100 | 8.0% | 2.0% | 90.0% | 80.0% |" in report


def test_the_table_is_written(troubled, tmp_path):
    main([troubled], false_share=0.01, out=tmp_path / "quiet.md")
    assert "| works |" in (tmp_path / "quiet.md").read_text(encoding="utf-8")
