"""What a base costs and gives: one tuned and served for real, and a row counted by hand."""

from pathlib import Path

import torch
from labelled_folders import write_plants
from safetensors.torch import save_file
from tiny_bases import build_base

from eval.research.bases import Base, Tuned, count_parameters, render_bases, tune_base


def test_a_base_is_tuned_and_served_once(tmp_path):
    data = write_plants(tmp_path / "data", (1, 2, 3, 4), hours=0.06)
    base = Base(build_base(tmp_path / "tiny", "llama"))
    small = ("--plants", "0", "--per-label", "4", "--epochs", "1", "--batch", "8", "--rank", "4")
    made = tune_base(base, data, ["plant-4"], tmp_path / "home", small)
    assert made.windows > 0
    assert made.tuning_s > 0 < made.judging_s
    assert made.metrics["train.loss"] > 0
    assert tune_base(base, tmp_path / "nowhere", ["plant-4"], tmp_path / "home") == made


def test_a_row_is_a_mean_over_what_was_measured(tmp_path: Path):
    folder = tmp_path / "models" / "base"
    folder.mkdir(parents=True)
    save_file({"a": torch.zeros(3, 4), "b": torch.zeros(5)}, folder / "model.safetensors")
    assert count_parameters(folder) == 17
    metrics = {
        "train.loss": 0.5, "held_out.loss": 0.75, "p-1.macro_f1": 0.5, "p-2.macro_f1": 0.7,
        "p-1.recall": 0.9, "p-1.false_share": 0.01, "p-2.false_share": 0.03,
    }  # fmt: skip
    page = render_bases({Base(folder, "qlora"): Tuned(metrics, 61.0, 4.0, 100)}, ["p-1", "p-2"])
    row = next(line for line in page.splitlines() if "qlora" in line)
    assert row == (
        "| models/base | qlora | 17 | 0.500 | 0.750 | 0.600 | 0.900 | 0.020 | 61 | 25.0 |"
    )
