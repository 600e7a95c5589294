"""From a folder of labelled captures to a served adapter, and what is refused on the way."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from labelled_folders import write_plants
from tiny_bases import build_base
from typer.testing import CliRunner

from assistant.cli.main import app, main
from assistant.llm.adapters import read_card
from assistant.registry import list_registered
from finetune.sites.adapter import measure_directions
from finetune.sites.captures import choose_phases, draw_examples, split_captures
from traffic.errors import UserError
from traffic.labels import LABELS

SMALL = ["--plants", "0", "--per-label", "8", "--epochs", "1", "--batch", "8", "--rank", "4"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plants(tmp_path_factory.mktemp("data"), (1, 2, 3), hours=0.06)


def order(base: Path, data: Path, *more: str) -> list[str]:
    asked = ["--base", str(base), "--data", str(data), "--site", "demo"]
    return ["finetune", "sft", *asked, *SMALL, *more]


@pytest.mark.parametrize(
    ("more", "family"),
    [
        ((), "tiny"),
        (("--method", "full", "--target", "separate"), "tiny"),
        (("--family", "two", "--exclude", "plant-3"), "two"),
    ],
)
def test_one_command_makes_an_adapter_that_classify_uses(more, family, data, base, home):
    done = CliRunner().invoke(app, order(base, data, *more))
    assert done.exit_code == 0, done.output
    assert "classify CAPTURE --site demo" in done.output
    card = read_card(home / "adapters" / "demo" / family)
    assert card.name == f"demo/{family}"
    captures = [*card.data, *card.split["calibrate"], *card.split["test"]]
    assert sorted(captures) == ["plant-1", "plant-2", "plant-3"]
    tested = {"plant-3.recall", "plant-3.shipped.recall", "plant-3.direction_right"}
    assert (
        (card.split["test"] == ("plant-3",))
        == (tested <= set(card.metrics))
        == ("--exclude" in more)
    )
    assert str(data) not in card.model_dump_json()
    assert not list((home / "training").rglob("*.safetensors"))  # of use only to a killed run
    verdicts = CliRunner().invoke(
        app, ["classify", str(data / "plant-1"), "--site", "demo", "--format", "jsonl"]
    )
    assert verdicts.exit_code == 0, verdicts.output
    first = json.loads(verdicts.stdout.splitlines()[0])
    assert sum(first["probabilities"].values()) == pytest.approx(1.0, abs=1e-3)


def test_an_encoder_decoder_is_served_too(data, tmp_path, home):
    base = build_base(tmp_path / "t5", "t5")
    done = CliRunner().invoke(app, order(base, data))
    assert done.exit_code == 0, done.output
    verdicts = CliRunner().invoke(app, ["classify", str(data / "plant-1"), "--site", "demo"])
    assert verdicts.exit_code == 0, verdicts.output


def test_directions_are_measured_by_what_was_learned():
    class Sure:
        """Says that everything comes from the device."""

        chat_capable = False

        def score(self, prompts, choices, progress=None):
            return np.tile(np.log([0.9, 0.1]), (len(prompts), 1))

    rows = [("dos", "target", 1), ("dos", "source", 2), ("c2", "source", 1), ("c2", "", 5)]
    texts = pd.DataFrame(rows, columns=["label", "direction", "weight"]).assign(text="quiet")
    words = {"source": "sent", "target": "got"}
    assert measure_directions(texts, Sure(), words) == pytest.approx(2 / 3)
    assert np.isnan(measure_directions(texts, Sure(), {}))


def test_a_single_target_is_for_comparison_only(data, base, home):
    done = CliRunner().invoke(app, order(base, data, "--target", "class"))
    assert done.exit_code == 0, done.output
    assert [(one.name, one.used) for one in list_registered(home)] == [("demo/tiny-class", False)]


def test_a_run_killed_at_any_moment_goes_on_and_shows_no_half_adapter(data, base, home, tmp_path):
    torch.set_num_threads(1)
    whole = CliRunner().invoke(app, order(base, data, "--home", str(tmp_path / "whole")))
    assert whole.exit_code == 0, whole.output
    run = subprocess.Popen(
        [sys.executable, "-m", "assistant.cli", *order(base, data)],
        env={"OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path), "FAULTWISE_HOME": str(home)},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    while run.poll() is None and not list(home.glob("training/demo/tiny-*/steps-1/checkpoint-*")):
        assert not list_registered(home)
        time.sleep(0.01)
    time.sleep(random.uniform(0, 2))
    run.send_signal(signal.SIGKILL)
    run.wait()
    killed = list_registered(home)  # nothing, or all of it, where it was quicker
    if not killed:
        again = CliRunner().invoke(app, order(base, data))
        assert again.exit_code == 0, again.output
    cards = [read_card(one / "adapters/demo/tiny") for one in (home, tmp_path / "whole")]
    for name in ("train.loss", "held_out.loss", "calibration.nll"):
        assert cards[0].metrics[name] == pytest.approx(cards[1].metrics[name], rel=0.01)


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: ")
    return said


def test_captures_that_cannot_be_learned_from_are_refused(data, base, tmp_path, capsys):
    one = write_plants(tmp_path / "one", (1,))
    assert "holds 1 labelled capture to learn from" in refused(order(base, one), capsys)
    two = write_plants(tmp_path / "two", (1, 2))
    truth = pd.read_csv(two / "plant-1" / "truth.csv")
    truth.assign(label="gremlins").to_csv(two / "plant-1" / "truth.csv", index=False)
    assert "gremlins" in refused(order(base, two), capsys)
    truth.assign(start_s=truth["start_s"] + 1e6, end_s=truth["end_s"] + 1e6).to_csv(
        two / "plant-1" / "truth.csv", index=False
    )
    assert "truth.csv" in refused(order(base, two), capsys)
    assert "no phase wrong" in refused(order(base, data, "--phases", "wrong"), capsys)
    assert "no capture x to exclude" in refused(order(base, data, "--exclude", "x"), capsys)
    assert "cannot name a folder" in refused(order(base, data, "--family", "../up"), capsys)


def test_what_does_not_fit_is_refused_before_any_capture_is_read(
    data, base, home, tmp_path, capsys
):
    assert CliRunner().invoke(app, order(base, data)).exit_code == 0
    assert "has an adapter tiny already" in refused(order(base, data), capsys)
    made = home / "adapters" / "demo" / "tiny"
    begun = ("--family", "next", "--begin", str(made))
    other = build_base(tmp_path / "other", "gpt2")
    assert "trained on other weights" in refused(order(other, data, *begun), capsys)
    assert "made by --method lora" in refused(order(base, data, *begun, "--method", "dora"), capsys)
    assert CliRunner().invoke(app, order(base, data, *begun)).exit_code == 0
    once, twice = (read_card(home / "adapters" / "demo" / name) for name in ("tiny", "next"))
    assert set(once.data) <= set(twice.data)
    assert not set(once.data) & {*twice.split["calibrate"], *twice.split["test"]}
    card = made / "card.json"
    card.write_text(card.read_text().replace('"temperature": ', '"temperature": 1'))
    assert "is not what" in refused(order(base, data, *begun, "--replace"), capsys)
    (made / "SHA256SUMS").unlink()
    fingerprint = read_card(made).prompt_fingerprint
    card.write_text(card.read_text().replace(fingerprint, "feed"))
    assert "trained on prompts feed" in refused(order(base, data, *begun, "--replace"), capsys)


# ---- splits, phases, draws: on tables made by hand ----


def table(shown: dict[str, tuple[str, ...]], kind: str = "iiot") -> pd.DataFrame:
    rows = [
        {"text": f"{name} {label}", "label": label, "direction": "", "capture": name, "weight": 1, "kind": kind}
        for name, labels in shown.items()
        for label in labels
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize("count", range(2, 14))
@pytest.mark.parametrize("seed", range(3))
def test_a_capture_is_for_one_thing_only(count, seed):
    names = [f"run-{number}" for number in range(count)]
    texts = table(dict.fromkeys([*names, "simulated-20000"], ("normal", "dos")))
    split = split_captures(texts, seed=seed)
    parts = [split.train, split.held_out, split.test]
    assert sorted(name for part in parts for name in part) == [*sorted(names), "simulated-20000"]
    assert "simulated-20000" in split.train
    assert len(split.held_out) == max(1, round(count / 5))
    assert len(split.test) == (len(split.held_out) if count >= 5 else 0)


def test_what_is_held_out_is_what_training_shows_too():
    shown = {"a": ("normal", "dos"), "b": ("normal", "dos"), "c": ("normal", "c2")}
    for seed in range(5):  # c alone shows c2, so it is learned from
        assert "c" in split_captures(table(shown), seed=seed).train


def test_an_excluded_capture_is_only_tested_on_and_anomalies_are_needed():
    shown = dict.fromkeys("abcdef", ("normal", "recon"))
    split = split_captures(table(shown), ("f",))
    assert split.test == ("f",)
    with pytest.raises(UserError, match="labelled as an anomaly"):
        split_captures(table({"a": ("normal",), "b": ("normal",)}))


@pytest.mark.parametrize("seed", range(5))
def test_what_was_learned_before_is_never_held_out(seed):
    shown = dict.fromkeys("abcdef", ("normal", "dos"))
    split = split_captures(table(shown), seed=seed, learned=("a", "b", "c", "d", "x"))
    assert set(split.train) == set("abcd")
    assert {*split.held_out, *split.test} == set("ef")
    with pytest.raises(UserError, match="all of a, b were learned from before"):
        split_captures(table({name: shown[name] for name in "ab"}), learned=("a", "b"))
    with pytest.raises(UserError, match="c is to be excluded and was learned from before"):
        split_captures(table(shown), ("c",), learned=("c",))


def test_phases_follow_the_order_asked_for():
    texts = pd.concat([table({"a": ("dos",)}, "general"), table({"b": ("dos",)}, "iiot")])
    phases = choose_phases(texts, ("general", "iiot"))
    assert [(name, list(rows["capture"])) for name, rows in phases.items()] == [
        ("general", ["a"]),
        ("iiot", ["b"]),
    ]
    with pytest.raises(UserError, match="no capture to learn from is general"):
        choose_phases(texts[texts["kind"] == "iiot"], ("general", "iiot"))


def test_simulated_plants_take_half_at_most_and_bring_labels_that_a_site_lacks():
    many = {f"simulated-{seed}": LABELS for seed in range(20_000, 20_040)}
    site = {f"run-{number}": ("normal", "dos") for number in range(40)}
    drawn = draw_examples(table({**many, **site}), 20, seed=0)
    own = drawn["capture"].str.startswith("run")
    assert set(drawn["label"]) == set(LABELS)
    assert drawn[own]["label"].value_counts()["dos"] == 10
    assert drawn[~own]["label"].value_counts()["dos"] == 10
