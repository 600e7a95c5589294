"""The harness is hard to fool: each leak is planted, and refused by its name before anything is
fitted."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from labelled_folders import write_plants

from eval.detection.corpus import hash_windows, leave_out, load_capture, load_corpus, make_corpus
from eval.detection.leakage import (
    check_duplicates,
    check_folder,
    check_leaks,
    check_single_captures,
    check_split,
    find_unlabelled,
)
from eval.detection.splits import Fold, make_folds, read_protocol
from eval.models.features import FEATURES, check_finite, make_features
from traffic.errors import UserError

PROTOCOL = read_protocol("leave-one-capture-out")


@pytest.fixture(scope="module")
def plants(tmp_path_factory):
    return write_plants(tmp_path_factory.mktemp("plants"), (3, 4, 11))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def corpus(plants, kept):
    return load_corpus(plants, kept)


@pytest.fixture
def folder(plants, tmp_path):
    """A copy to spoil."""
    shutil.copytree(plants, tmp_path / "data")
    return tmp_path / "data"


def planted(corpus, values, column="out_pkts"):
    """The corpus with a column of its features replaced, wherever a sample is not empty."""
    features = corpus.features.copy()
    place = FEATURES.index(column)
    active = (features != 0).any(axis=2)
    features[:, :, place] = np.where(active, np.asarray(values, np.float32)[:, None], 0)
    return replace(corpus, features=features, window_hash=hash_windows(features))


def test_honest_captures_pass(corpus):
    check_leaks(corpus)
    check_duplicates(corpus)
    check_single_captures(corpus, PROTOCOL)


def test_an_address_in_a_feature_is_refused(corpus):
    """As a number, the same wherever the address occurs."""
    names = pd.concat([one.windows.table["device"] for one in corpus.captures])
    with pytest.raises(UserError, match="feature out_pkts tells the device"):
        check_leaks(planted(corpus, pd.factorize(names)[0] + 1))


def test_the_label_in_a_feature_is_refused(corpus):
    code = pd.factorize(corpus.labels["corrected"])[0] + 1.0
    with pytest.raises(UserError, match="feature in_bytes tells the label"):
        check_leaks(planted(corpus, code, "in_bytes"))


def test_what_differs_between_devices_but_changes_passes(corpus):
    noise = np.random.default_rng(0).normal(size=len(corpus))
    check_leaks(planted(corpus, 100.0 * corpus.device + noise))


def test_the_same_capture_twice_is_refused_whatever_it_is_called(folder, kept):
    shutil.copytree(folder / "plant-3", folder / "another-name")
    said = r"captures another-name and plant-3 hold the same traffic \(\d+ equal windows"
    with pytest.raises(UserError, match=said):
        check_duplicates(load_corpus(folder, kept))


def test_the_same_capture_at_another_time_is_refused(folder, kept):
    shutil.copytree(folder / "plant-3", folder / "later")
    log = folder / "later" / "conn.log"
    lines = log.read_text(encoding="utf-8").splitlines()
    shifted = [
        "\t".join([f"{float(line.split(chr(9))[0]) + 86400:.6f}", *line.split("\t")[1:]])
        if line[0] != "#"
        else line
        for line in lines
    ]
    log.write_text("\n".join(shifted) + "\n", encoding="utf-8")
    truth = pd.read_csv(folder / "later" / "truth.csv")
    truth[["start_s", "end_s"]] += 86400
    truth.to_csv(folder / "later" / "truth.csv", index=False)
    evidence = folder / "later" / "evidence.csv"
    if evidence.is_file():
        table = pd.read_csv(evidence)
        table.assign(slot=table["slot"] + 8640).to_csv(evidence, index=False)
    with pytest.raises(UserError, match="later and plant-3 hold the same traffic"):
        check_duplicates(load_corpus(folder, kept))


def test_traffic_on_both_sides_of_a_split_is_refused(corpus):
    fold = make_folds(corpus, PROTOCOL, "corrected")[0]
    check_split(corpus, fold, "captures")
    leaking = Fold("a leak", np.union1d(fold.train, fold.test[::3]), fold.predicted, fold.test)
    said = r"to test a leak, \d+ of the windows tested would be learned from"
    with pytest.raises(UserError, match=said):
        check_split(corpus, leaking, "captures")


def test_one_half_of_a_capture_is_no_test_of_the_other(corpus):
    rows = np.flatnonzero(corpus.capture == 0)
    halves = Fold("a half", rows[: len(rows) // 2], rows[len(rows) // 2 :], rows[len(rows) // 2 :])
    with pytest.raises(UserError, match=f"captures {corpus.captures[0].name}"):
        check_split(corpus, halves, "captures")
    check_split(corpus, halves, "time")


def test_a_class_with_one_capture_only_is_refused(plants, kept, tmp_path):
    shutil.copytree(plants, tmp_path / "data")
    write_plants(tmp_path / "data", (9,), scenarios=("recon", "congestion"))
    corpus = load_corpus(tmp_path / "data", kept)
    said = r"label congestion occurs in one capture only \(plant-9.*--without congestion"
    with pytest.raises(UserError, match=said):
        check_single_captures(corpus, PROTOCOL)
    check_single_captures(corpus, read_protocol("temporal"))
    check_single_captures(leave_out(corpus, ["congestion"]), PROTOCOL)


@pytest.mark.parametrize(
    ("gone", "said"), [("conn.log", "conn.log is missing"), ("truth.csv", "truth.csv is missing")]
)
def test_a_capture_without_truth_and_a_truth_without_capture_are_named(folder, gone, said):
    check_folder(folder)
    (folder / "plant-4" / gone).unlink()
    (folder / "plant-4" / "evidence.csv").touch()
    with pytest.raises(UserError, match=f"plant-4.{said}"):
        check_folder(folder)


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        ("run-1/capture.pcap", "truth.json"),
        ("run-1/truth.json", "capture.pcap"),
        ("modbus/characterization_x.pcap", "characterization_x_labeled.csv"),
        ("modbus/CnC_uploading_exe_x_labeled.csv", "CnC_uploading_exe_x.pcap"),
    ],
)
def test_every_form_misses_its_other_half(tmp_path, there, missing):
    path = tmp_path / there
    path.parent.mkdir()
    path.touch()
    with pytest.raises(UserError, match=f"{missing} is missing beside"):
        check_folder(tmp_path)


def test_intervals_without_their_capture_are_named_and_other_tables_are_not(tmp_path):
    (tmp_path / "line3.csv").write_text("device,start_s,end_s,label\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"line3\.pcap is missing"):
        check_folder(tmp_path)
    (tmp_path / "line3.log").touch()
    (tmp_path / "shifts.csv").write_text("day,name\n", encoding="utf-8")
    check_folder(tmp_path)


def test_no_folder_is_a_mistake(tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        check_folder(tmp_path / "nothing")


def test_captures_that_nobody_labelled_are_named(tmp_path):
    (tmp_path / "unlabelled.pcap").touch()
    assert [path.name for path in find_unlabelled(tmp_path)] == ["unlabelled.pcap"]


def test_a_feature_that_is_no_number_is_named(corpus):
    one = corpus.captures[0]
    samples = one.windows.samples.copy()
    samples.loc[int(one.windows.rows.max()), "jitter"] = np.nan
    spoiled = replace(one, windows=replace(one.windows, samples=samples))
    with pytest.raises(UserError, match=r"feature jitter is nan in window \d+"):
        make_corpus([spoiled])
    with pytest.raises(UserError, match="expected \\(windows, samples"):
        check_finite(np.zeros((2, 6, 3)))


def test_names_of_files_and_folders_count_for_nothing(plants, kept, tmp_path, corpus):
    """A file's name that gives the answer away is never read: renamed captures are the same
    captures."""
    for place, path in enumerate(sorted(plants.iterdir())):
        shutil.copytree(path, tmp_path / "data" / f"{9 - place}-ddos-attack-c2")
    renamed = load_corpus(tmp_path / "data", kept)
    assert renamed.hashes == corpus.hashes
    np.testing.assert_array_equal(renamed.features, corpus.features)
    np.testing.assert_array_equal(renamed.labels["corrected"], corpus.labels["corrected"])
    assert not {one.name for one in renamed.captures} & {one.name for one in corpus.captures}


def test_features_hold_no_name_and_no_address():
    assert not {"device", "start_s", "end_s", "label", "direction"} & set(FEATURES)
    assert not [
        name for name in FEATURES if "addr" in name or name.startswith("id.") or name.endswith("_p")
    ]


def test_hashes_tell_windows_apart(corpus):
    different = np.unique(corpus.features.reshape(len(corpus), -1), axis=0)
    assert len(np.unique(corpus.window_hash)) == len(different)


def test_what_is_kept_is_read_again_unchanged(plants, tmp_path):
    path = plants / "plant-3" / "conn.log"
    fresh, again = load_capture(path, tmp_path), load_capture(path, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    np.testing.assert_array_equal(make_features(fresh.windows), make_features(again.windows))
    pd.testing.assert_frame_equal(fresh.intervals, again.intervals)
    pd.testing.assert_frame_equal(fresh.capture.flows, again.capture.flows)
