"""Protocols: every file is one, and what each parts, hides, adds or spoils is what it says."""

from dataclasses import replace

import numpy as np
import pytest
from labelled_folders import write_plants

from eval.detection.corpus import leave_out, load_corpus, make_corpus
from eval.detection.leakage import check_split
from eval.detection.splits import PROTOCOLS, make_folds, read_protocol
from eval.detection.training_sets import draw_rows, draw_training_set, read_features
from eval.models.features import FEATURES, PORT_FEATURES
from traffic.errors import UserError
from traffic.labels import ATTACKS, NORMAL, UNKNOWN

NEEDED = """random temporal leave-one-capture-out leave-one-network-out few-shot no-ports label-noise
    unseen-class unseen-benign-device dead-service drift text-ceiling"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Four plants, two of them said to be of another network."""
    folder = write_plants(tmp_path_factory.mktemp("plants"), (1, 2, 3, 4))
    captures = load_corpus(folder, tmp_path_factory.mktemp("kept")).captures
    networks = [replace(one, network=f"network {i % 2}") for i, one in enumerate(captures)]
    return make_corpus(networks)


def folds_of(corpus, name, **changes):
    protocol = read_protocol(name).model_copy(update=changes)
    return protocol, make_folds(corpus, protocol, "corrected")


def captures_of(corpus, rows):
    return set(corpus.capture[rows])


def test_every_protocol_needed_ships():
    assert set(PROTOCOLS) >= set(NEEDED.split())


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("quick", [False, True])
def test_every_file_is_a_protocol_of_its_name_and_compares_with_the_rule_and_xgboost(name, quick):
    protocol = read_protocol(name, quick)
    assert protocol.name == name
    assert "xgboost" in protocol.against
    # Transfer stands beside a paper that corrected no label.
    both = {"published", "corrected"}
    assert set(protocol.labellings) == (both if name != "transfer" else {"published"})


@pytest.mark.parametrize("name", PROTOCOLS)
def test_no_fold_teaches_what_it_tests(corpus, name):
    protocol, folds = folds_of(corpus, name)
    assert folds
    for fold in folds:
        check_split(corpus, fold, protocol.split)
        assert not set(fold.train) & set(fold.test)
        assert set(fold.test) <= set(fold.predicted)
        training = draw_training_set(corpus, fold, protocol, "corrected", 0)
        assert UNKNOWN not in training.labels
        assert NORMAL in training.labels
        assert not set(training.rows) & set(fold.test)


def test_each_capture_is_left_out_once_in_whole(corpus):
    _, folds = folds_of(corpus, "leave-one-capture-out")
    assert [captures_of(corpus, fold.test) for fold in folds] == [{0}, {1}, {2}, {3}]
    assert all(
        not captures_of(corpus, fold.train) & captures_of(corpus, fold.predicted) for fold in folds
    )


def test_captures_are_dealt_to_folds(corpus):
    _, folds = folds_of(corpus, "leave-one-capture-out", folds=2)
    assert sorted(len(captures_of(corpus, fold.predicted)) for fold in folds) == [2, 2]


def test_networks_are_tested_both_ways(corpus):
    _, folds = folds_of(corpus, "leave-one-network-out")
    assert [fold.name for fold in folds] == ["network 0 to network 1", "network 1 to network 0"]
    for rows in (folds[0].train, folds[0].test):
        assert len(set(corpus.networks[rows])) == 1


def test_one_network_is_not_enough(corpus):
    alone = make_corpus([replace(one, network="one") for one in corpus.captures])
    for name in ("leave-one-network-out", "few-shot"):
        with pytest.raises(UserError, match=r"finds nothing to test .* expected .*network"):
            folds_of(alone, name)


def test_one_capture_is_not_enough(corpus):
    with pytest.raises(UserError, match="1 labelled capture; expected at least 2"):
        folds_of(make_corpus(corpus.captures[:1]), "leave-one-capture-out")


def test_without_an_anomaly_there_is_nothing_to_learn(corpus):
    nothing = leave_out(corpus, [*set(corpus.labels["corrected"]) - {NORMAL, UNKNOWN}])
    with pytest.raises(UserError, match="only normal is left to learn from"):
        folds_of(nothing, "leave-one-capture-out")


def test_no_sample_is_on_both_sides_of_a_moment(corpus):
    for name in ("temporal", "drift"):
        for fold in folds_of(corpus, name)[1]:
            for place in range(len(corpus.captures)):
                train, test = (
                    rows[corpus.capture[rows] == place] for rows in (fold.train, fold.test)
                )
                if len(train) and len(test):
                    assert corpus.start_s[train].max() + 60 <= corpus.start_s[test].min()


def test_shots_come_from_other_captures_of_the_site_and_are_as_many_as_asked(corpus):
    protocol, folds = folds_of(corpus, "few-shot")
    tests = {fold.name: set() for fold in folds}
    for fold in folds:
        tests[fold.name].add(fold.test.tobytes())
        assert not captures_of(corpus, fold.shots) & captures_of(corpus, fold.test)
        assert set(corpus.networks[fold.shots]) == set(corpus.networks[fold.test]) == {fold.name}
        training = draw_training_set(corpus, fold, protocol, "corrected", 0)
        added = set(training.rows[np.isin(corpus.networks[training.rows], fold.name)])
        known = int((corpus.labels["corrected"][fold.shots] != UNKNOWN).sum())
        assert len(added) == min(fold.n_shots, known)
    assert all(len(each) == 1 for each in tests.values()), "every amount on the same windows"


def test_a_few_shots_are_repeated_within_bounds(corpus):
    protocol, folds = folds_of(corpus, "few-shot")
    ten = next(fold for fold in folds if fold.n_shots == 10)
    training = draw_training_set(corpus, ten, protocol, "corrected", 0)
    shots = training.rows[np.isin(corpus.networks[training.rows], ten.name)]
    _, repeats = np.unique(shots, return_counts=True)
    assert set(repeats) == {min(20, round(0.25 * (len(training.rows) - repeats.sum()) / 10))}


def test_service_classes_are_hidden_on_both_sides_and_nothing_else(corpus):
    _, folds = folds_of(corpus, "no-ports")
    assert {fold.zeroed for fold in folds} == {False, True}
    ports = [FEATURES.index(name) for name in PORT_FEATURES]
    others = [place for place in range(len(FEATURES)) if place not in ports]
    rows = folds[0].test
    hidden = read_features(corpus, rows, True)
    assert (hidden[:, :, ports] == 0).all()
    np.testing.assert_array_equal(hidden[:, :, others], corpus.features[rows][:, :, others])
    assert corpus.features[rows][:, :, ports].any()


@pytest.mark.parametrize("share", [0.05, 0.2, 0.4])
def test_as_many_labels_are_wrong_as_said_and_in_stretches(corpus, share):
    protocol, folds = folds_of(corpus, "label-noise", noise=(share,))
    training = draw_training_set(corpus, folds[0], protocol, "corrected", 0)
    wrong = training.labels != corpus.labels["corrected"][training.rows]
    assert wrong.mean() == pytest.approx(share, abs=0.005)
    stretches = 1 + np.count_nonzero(np.diff(training.labels[wrong] != NORMAL))
    assert stretches < wrong.sum() / 2


def test_shuffling_keeps_how_many_there_are_of_each(corpus):
    protocol, folds = folds_of(corpus, "shuffled-labels")
    training = draw_training_set(corpus, folds[0], protocol, "corrected", 0)
    honest = corpus.labels["corrected"][training.rows]
    assert sorted(training.labels) == sorted(honest)
    assert (training.labels != honest).mean() > 0.2


def test_an_unseen_class_is_taught_nowhere_and_tested_beside_normal(corpus):
    labels = corpus.labels["corrected"]
    for fold in folds_of(corpus, "unseen-class")[1]:
        label = fold.setting.split()[0]
        assert label not in labels[fold.train]
        assert set(labels[fold.test]) <= {label, NORMAL}
        assert label in labels[fold.test]


def test_devices_without_any_anomaly_are_tested_after_what_was_confirmed(corpus):
    protocol, folds = folds_of(corpus, "unseen-benign-device")
    labels = corpus.labels["corrected"]
    at_once, later = (next(fold for fold in folds if fold.amount == n) for n in (0, 10))
    np.testing.assert_array_equal(at_once.test, later.test)
    assert not len(at_once.shots)
    bad = set(corpus.device[labels != NORMAL])
    assert not set(corpus.device[later.test]) & bad
    device = corpus.device[later.test[0]]
    shots = later.shots[corpus.device[later.shots] == device]
    assert len(shots) == 10
    tested = later.test[corpus.device[later.test] == device]
    assert corpus.start_s[shots].max() + 60 <= corpus.start_s[tested].min()
    training = draw_training_set(corpus, later, protocol, "corrected", 0)
    assert set(later.shots) <= set(training.rows)


def test_a_dead_service_is_tested_where_attempts_stay_unanswered(corpus):
    protocol, folds = folds_of(corpus, "dead-service")
    assert protocol.alarm == "attack"
    unanswered = ("unanswered_out", "refused_out", "udp_unanswered_out")
    vain = [FEATURES.index(name) for name in unanswered]
    for fold in folds:
        labels = corpus.labels["corrected"][fold.test]
        assert not set(labels) & (set(ATTACKS) - {"c2"})
        assert (corpus.features[fold.test[labels != "c2"]][:, :, vain] > 0).any(axis=(1, 2)).all()


def test_training_sets_keep_their_budget_evenly_over_captures():
    capture = np.repeat([0, 1, 2], [100, 10, 100])
    labels = np.array([NORMAL] * 210, dtype=object)
    labels[:20] = "c2"
    rows = draw_rows(capture, labels, np.arange(210), 50, 8, np.random.default_rng(0))
    assert (labels[rows] == "c2").sum() == 8
    # The small capture gives all of its ten, the others half of what is left.
    assert np.bincount(capture[rows[labels[rows] == NORMAL]]).tolist() == [20, 10, 20]
    assert (np.diff(rows) > 0).all()


def test_seeds_draw_other_windows_and_the_same_seed_the_same(corpus):
    protocol, folds = folds_of(corpus, "leave-one-capture-out", normal_windows=50)
    one, again, other = (
        draw_training_set(corpus, folds[0], protocol, "corrected", seed).rows for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert set(one) != set(other)


def test_an_unknown_protocol_and_an_unknown_label_are_named(corpus):
    with pytest.raises(UserError, match=r"no protocol is called randomm; expected one of .*random"):
        read_protocol("randomm")
    with pytest.raises(UserError, match="no label to leave out is called scan; expected some of"):
        leave_out(corpus, ["scan"])
