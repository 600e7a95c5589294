"""The harness as its command runs it: all models in one table, nothing counted twice, nothing
gained by a name."""

import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from labelled_folders import write_plants
from sklearn.metrics import f1_score
from typer.testing import CliRunner

from assistant.cli.main import app, main
from eval.detection.aggregate import NAMING, UNSEEN, compare_models, pool_rows
from eval.detection.corpus import load_corpus
from eval.detection.fit import FitKey, Setup, learn, make_experiment, read_fit, run_model, score_fit
from eval.detection.metrics import ALL_PREDICTED
from eval.detection.run import evaluate_detection
from eval.detection.splits import read_protocol
from eval.detection.training_sets import draw_training_set
from eval.models.classifier import TrainingInput, WindowClassifier
from eval.models.registry import MODELS
from eval.results import INVALID, MEASURES, read_run
from traffic.errors import UserError
from traffic.files import own_folder
from traffic.labels import NORMAL

CHEAP = ("rules", "ewma", "knn")
ROOT = Path(__file__).resolve().parents[1]


def detection(data, out, protocol="leave-one-capture-out"):
    return ["--protocol", protocol, "--data", str(data), "--out", str(out), "--quick"]


@pytest.fixture(scope="module")
def plants(tmp_path_factory):
    return write_plants(tmp_path_factory.mktemp("plants"), (1, 2, 3, 4))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def results(plants, kept, tmp_path_factory):
    """A run of a few models, and the folder of its fits."""
    out = tmp_path_factory.mktemp("results")
    run = evaluate_detection(plants, "leave-one-capture-out", out, kept, CHEAP, quick=True, jobs=1)
    return run, next(out.glob("*.fits/*"))


@pytest.fixture(scope="module")
def run(results):
    return results[0]


@pytest.fixture(scope="module")
def corpus(plants, kept):
    return load_corpus(plants, kept)


def values(run, model, labelling="corrected"):
    wanted = (model, labelling, "")
    one = next(row for row in run.pooled if (row.model, row.labelling, row.setting) == wanted)
    return {name: one.scores[name] for name in MEASURES}


def test_the_command_measures_every_model_and_prints_one_table(plants, tmp_path):
    words = [*detection(plants, tmp_path), "--jobs", "1"]
    done = CliRunner().invoke(app, ["eval", "detection", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    run = read_run(tmp_path / "detection-leave-one-capture-out-quick.json")
    assert {row.model for row in run.pooled} == set(MODELS)
    assert all(name in done.output for name in MODELS)
    # models x folds x seeds x labellings
    assert len(run.rows) == len(MODELS) * 2 * len(run.seeds) * 2
    assert {row.labelling for row in run.rows} == {"published", "corrected"}
    for row in run.rows:
        assert row.costs.cpu_s >= 0
        assert row.costs.energy_from == "RAPL" or row.costs.watts
        assert row.tested_windows == sum(map(sum, row.confusion.counts))
    assert [one.sha256 for one in run.data]
    assert run.quick
    assert run.prompt_fingerprint


def test_the_rule_and_xgboost_stand_in_every_table(run):
    assert run.models == (*CHEAP, "one-line-rule", "xgboost")


def test_pooled_rows_hold_all_windows_of_their_folds(run):
    for pooled in run.pooled:
        key = (pooled.model, pooled.labelling)
        rows = [row for row in run.rows if (row.model, row.labelling) == key]
        assert pooled.tested_windows == sum(row.tested_windows for row in rows)
        total = sum(sum(map(sum, row.confusion.counts)) for row in rows)
        assert sum(map(sum, pooled.confusion.counts)) == total


def test_intervals_hold_their_number(run):
    for row in run.pooled:
        for name, one in row.scores.items():
            if one.low is not None and name != "time_to_detection_s":
                assert one.low - 1e-9 <= one.high
        f1 = row.scores["binary_macro_f1"]
        assert f1.low <= f1.value <= f1.high


def test_models_are_compared_in_pairs_and_never_with_themselves(run):
    pairs = {(one.model, one.other) for one in run.comparisons}
    assert ("rules", "xgboost") in pairs
    assert not [pair for pair in pairs if pair[0] == pair[1] or pair[::-1] in pairs]
    assert not [pair for one in run.comparisons for pair in [(one.model, one.other)]
                if one.measure in ("f1", NAMING) and "ewma" in pair]  # fmt: skip
    assert {one.measure for one in run.comparisons} > {"f1", NAMING}
    for one in run.comparisons:
        if one.measure == NAMING:
            continue
        first, second = (
            values(run, name, one.labelling)[one.measure].value for name in (one.model, one.other)
        )
        assert one.difference == pytest.approx(first - second, abs=1e-4)


def test_renaming_captures_changes_no_number(plants, kept, run, tmp_path):
    for place, path in enumerate(sorted(plants.iterdir())):
        shutil.copytree(path, tmp_path / "data" / f"{9 - place}-recon-attack")
    renamed = evaluate_detection(
        tmp_path / "data", "leave-one-capture-out", tmp_path, kept, CHEAP, quick=True, jobs=1
    )
    for model in run.models:
        assert values(renamed, model) == values(run, model)


def test_shuffled_labels_teach_nothing(plants, kept, tmp_path, run):
    shuffled = evaluate_detection(
        plants, "shuffled-labels", tmp_path, kept, ["knn"], quick=True, jobs=1
    )
    chance, honest = values(shuffled, "xgboost"), values(run, "xgboost")
    windows = sum(sum(one.corrected.values()) for one in run.data)
    anomalous = 1 - sum(one.corrected[NORMAL] for one in run.data) / windows
    # no better than calling windows at random
    assert chance["pr_auc"].value == pytest.approx(anomalous, abs=0.15)
    assert chance["f1"].value < honest["f1"].value / 1.5
    rule = [values(one, "one-line-rule")["binary_macro_f1"] for one in (shuffled, run)]
    assert rule[0] == rule[1], "what does not learn is as good as before"


class Constant(WindowClassifier):
    """Says one label, or nothing that can be read, whatever it sees."""

    said = NORMAL

    @property
    def size_bytes(self) -> int:
        return 0

    def _fit(self, training: TrainingInput) -> None:
        pass

    def _predict_proba(self, x: np.ndarray, _: np.ndarray) -> np.ndarray:
        if self.said == INVALID:
            return np.full((len(x), len(self.classes_)), np.nan)
        return np.tile(self.classes_ == self.said, (len(x), 1)).astype(float)


def fitted(corpus, model):
    protocol = read_protocol("leave-one-capture-out", quick=True)
    setup = Setup(Path(), Path(), protocol, (), quick=True, alone=False)
    experiment = make_experiment(setup, corpus)
    fold = next(iter(experiment.folds.values()))
    key = FitKey("a test's", fold.name, fold.setting, "corrected", 0)
    fold = experiment.folds["corrected", key.fold, key.setting]
    training = draw_training_set(corpus, fold, protocol, "corrected", 0)
    learned = partial(learn, model, corpus, fold, training)
    output = run_model(learned, experiment, fold, with_incidents=True)
    return fold, score_fit(experiment, key, training, output)


def test_a_constant_classifier_is_at_chance_and_its_row_says_so(corpus):
    fold, done = fitted(corpus, Constant())
    scores = {name: one.value for name, one in done.row.scores.items()}
    truth = corpus.labels["corrected"][fold.test]
    normal = float((truth == NORMAL).mean())
    assert scores["accuracy"] == pytest.approx(normal, abs=1e-5)
    assert scores["f1"] == pytest.approx(2 * normal / (1 + normal) / len(set(truth)), abs=1e-5)
    # the share of anomalous windows: chance
    assert scores["pr_auc"] == pytest.approx(1 - normal, abs=1e-5)
    for name in ("binary_recall", "false_share", "false_per_device_day", "found_share"):
        assert scores[name] == 0
    assert scores["time_to_detection_s"] is None
    assert "says normal of every window" in done.row.notes


def test_naming_counts_anomalous_windows_by_their_likeliest_anomaly(corpus, results):
    """Held against scikit-learn, over the windows of all folds; what is said of normal ones and
    whether an anomaly was called normal does not matter."""
    run, folder = results
    one = next(
        one
        for one in run.comparisons
        if (one.model, one.other, one.measure) == ("knn", "xgboost", NAMING)
        and one.labelling == "corrected"
    )
    found = {}
    for name in ("knn", "xgboost"):
        keys = [
            FitKey(row.model, row.fold, row.setting, row.labelling, row.seed)
            for row in run.rows
            if (row.model, row.labelling) == (name, "corrected")
        ]
        fits = [read_fit(folder, key).predictions for key in keys]
        truth = np.concatenate([corpus.labels["corrected"][fit.rows] for fit in fits])
        named = np.array(ALL_PREDICTED)[np.concatenate([fit.named for fit in fits])]
        assert NORMAL not in named
        odd = truth != NORMAL
        said = np.concatenate([fit.code for fit in fits])[odd]
        assert (np.array(ALL_PREDICTED)[said] == NORMAL).any(), "some were called normal"
        found[name] = f1_score(
            truth[odd].astype(str), named[odd], average="macro", zero_division=0.0
        )
    assert one.difference == pytest.approx(found["knn"] - found["xgboost"], abs=1e-4)


def test_an_unreadable_answer_is_counted_and_never_a_class(corpus):
    model = Constant()
    model.said = INVALID
    fold, done = fitted(corpus, model)
    assert done.row.invalid == len(fold.test)
    assert done.row.scores["accuracy"].value == 0
    assert INVALID in done.row.confusion.labels
    assert INVALID not in done.row.per_label
    assert done.row.scores["false_share"].value == 0


def test_a_model_that_has_seen_a_capture_is_compared_on_the_others_alone(corpus, results):
    """As if the rules had been made with plant-1, as a language model's card may say of itself."""
    run, folder = results
    protocol = read_protocol("leave-one-capture-out", quick=True)
    seen = {"seen_in_training": ("plant-1",)}
    concerned = [row.model == "rules" and "plant-1" in row.test for row in run.rows]
    rows = [
        row.model_copy(update=seen if so else {})
        for row, so in zip(run.rows, concerned, strict=True)
    ]
    read, binary = partial(read_fit, folder), {"ewma", "one-line-rule"}
    pooled = pool_rows(corpus, rows, read, protocol, binary)
    compared = compare_models(corpus, rows, read, protocol, binary)
    rules = [row for row in pooled if row.model == "rules"]
    assert {(row.setting, row.compared, row.seen_in_training) for row in rules} == {
        ("", False, ("plant-1",)),
        (UNSEEN, True, ()),
    }
    others = [row for row in pooled if row.setting == UNSEEN]
    assert {row.model for row in others} == set(run.models)
    tested = {(row.labelling, row.tested_windows, row.folds) for row in others}
    assert len(tested) == 2, "all models on the same windows, under each labelling"
    fits = {one.model: one.method.rpartition("; ")[2] for one in compared if one.other == "xgboost"}
    assert (fits["rules"], fits["knn"]) == ("1 fits of each", "2 fits of each")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--protocol", "leave-one-out"], "no protocol is called leave-one-out; expected one of"),
        (["--models", "xgbost"], "no model is called xgbost; expected one of rules"),
        (["--without", "scan"], "no label to leave out is called scan; expected some of recon"),
        (["--seeds", "0"], "seeds is 0; expected at least 1"),
        (["--models", "llm:/nowhere/at/all"], "/nowhere/at/all"),
        (["--data", "/nowhere/at/all"], "/nowhere/at/all is no folder"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_fitted(
    plants, home, tmp_path, capsys, words, said
):
    # Of an option given twice the last one counts.
    assert main(["eval", "detection", *detection(plants, tmp_path / "out"), *words]) == 2
    printed = capsys.readouterr()
    assert [
        line for line in printed.err.splitlines() if line.startswith("error: ") and said in line
    ]
    assert not printed.out
    assert not (tmp_path / "out").exists()


def test_a_folder_with_a_part_missing_is_refused_by_the_command(plants, tmp_path, capsys):
    shutil.copytree(plants, tmp_path / "data")
    (tmp_path / "data" / "plant-3" / "conn.log").unlink()
    words = detection(tmp_path / "data", tmp_path / "out", "random")
    assert main(["eval", "detection", *words]) == 2
    assert "plant-3/conn.log is missing" in capsys.readouterr().err


def test_a_killed_run_goes_on_and_counts_nothing_twice(plants, run, home, tmp_path):
    """A real process, killed after its first fits; the same command ends with the numbers of an
    unbroken run."""
    words = [*detection(plants, tmp_path), "--models", ",".join(CHEAP), "--jobs", "2"]
    command = [sys.executable, "-m", "assistant.cli", "eval", "detection", *words]
    env = os.environ | {"FAULTWISE_HOME": str(home), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while not fits_on_disk(tmp_path) and process.poll() is None:
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not list(tmp_path.glob("*.json")), "it was killed before it ended"
    before = fits_on_disk(tmp_path)
    assert 0 < len(before) < len(run.rows)
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    after = fits_on_disk(tmp_path)
    assert before.items() <= after.items(), "what was done is not done again"
    again = read_run(tmp_path / f"{run.name}.json")
    assert len(after) == len(again.rows) == len(run.rows)
    fits = {(row.model, row.fold, row.setting, row.labelling, row.seed) for row in again.rows}
    assert len(fits) == len(again.rows)
    for model in run.models:
        assert values(again, model) == values(run, model)


def fits_on_disk(out):
    """When each fit was written, by its file."""
    return {path: path.stat().st_mtime_ns for path in out.glob("*.fits/*/*.npz")}


def test_two_runs_do_not_share_a_folder(plants, kept, results):
    _, folder = results
    lock = own_folder(folder, "a test's folder")
    out = folder.parents[1]
    try:
        with pytest.raises(UserError, match=f"in use by process {os.getpid()}"):
            evaluate_detection(
                plants, "leave-one-capture-out", out, kept, CHEAP, quick=True, jobs=1
            )
    finally:
        lock.release()
