"""Experts beside a single adapter: the tables by hand, and one kind made for real."""

import pandas as pd
import pytest
import torch
from tiny_bases import build_base

from eval.research.experts import main, make_kinds, render_worth, simulate_plants
from traffic.errors import UserError


def row(how: str, capture: str, f1: float, single: float) -> dict[str, object]:
    measures = {"macro_f1": f1, "recall": 0.5, "false_share": 0.01}
    beside = {f"single.{name}": value for name, value in measures.items()}
    return {"how": how, "seed": 0, "capture": capture, **measures, **beside} | {
        "single.macro_f1": single
    }


def test_a_kind_is_worth_more_only_where_captures_surely_say_so():
    better = [row("xlora", f"p{i}", 0.7 + i / 100, 0.6 + i / 100) for i in range(4)]
    worse = [row("arrow", f"p{i}", 0.5, 0.6) for i in range(4)]
    mixed = [row("mixtral", f"p{i}", 0.6 + gain, 0.6) for i, gain in enumerate((0.2, -0.2, 0.1, 0))]
    lines = render_worth(pd.DataFrame(better + worse + mixed)).splitlines()
    found = {line.split(" | ")[0].strip("| "): line for line in lines if line.startswith("| ")}
    assert "+0.100 [+0.100, +0.100]" in found["xlora"]
    assert [found[how].rstrip(" |").split(" | ")[-1] for how in ("xlora", "arrow", "mixtral")] == [
        "yes", "no", "not shown",
    ]  # fmt: skip


def test_a_kind_is_made_by_the_command_and_not_twice(tmp_path):
    torch.set_num_threads(1)
    base = build_base(tmp_path / "tiny", "llama")
    names = simulate_plants(tmp_path / "plants", 4, devices=4, hours=0.12)
    more = ["--base", str(base), "--plants", "0", "--per-label", "8", "--epochs", "1"]
    more += ["--batch", "8", "--rank", "4"]
    given = (tmp_path / "home", tmp_path / "plants", names[-1:], ("mixtral",), 1)
    made = make_kinds(*given, more)
    assert list(made["capture"]) == ["plant-04"]
    assert (made["active_parameters"] < made["parameters"]).all()
    assert made["single.active_parameters"].iloc[0] == made["single.parameters"].iloc[0]
    pd.testing.assert_frame_equal(make_kinds(*given, ["--no-such-option"]), made)


def test_captures_without_the_names_of_those_that_are_measured_are_refused(tmp_path):
    with pytest.raises(UserError, match="expected both, or neither"):
        main(tmp_path, data=tmp_path)
