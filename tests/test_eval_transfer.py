"""Moving models to another network: what is labelled, what is frozen, what is learned; the command
and its page."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from labelled_folders import write_plants
from made_runs import row, run
from windows_to_learn import apart

from assistant.cli.main import main
from eval.detection.corpus import load_corpus, make_corpus
from eval.detection.splits import make_folds, read_protocol
from eval.detection.training_sets import draw_site_set, draw_training_set
from eval.models.registry import MODELS, make_model
from eval.models.transfer import (
    ALIGNED,
    BOTH,
    FROZEN,
    METHODS,
    NEW_HEAD,
    REDUCED,
    SHARE,
    SOURCE,
    TUNED,
    Examples,
    list_methods,
    transfer,
)
from eval.research.transfer import find_verdicts, read_moved, render_plants
from eval.research.transfer import main as write_page
from eval.results import read_run
from finetune.sites.transfer import TECHNIQUES
from traffic.errors import UserError
from traffic.labels import LABELS

NETWORKS = ("lstm", "lstm-time2vec", "transformer", "time-transformer")


@pytest.fixture(scope="module")
def plants(tmp_path_factory):
    return write_plants(tmp_path_factory.mktemp("plants"), (1, 2, 3, 4))


@pytest.fixture(scope="module")
def corpus(plants, tmp_path_factory):
    captures = load_corpus(plants, tmp_path_factory.mktemp("kept")).captures
    return make_corpus([replace(one, network=f"network {i % 2}") for i, one in enumerate(captures)])


def examples(seed, swapped=False):
    """Windows of three labels; of another network ``recon`` looks as ``dos`` does here."""
    drawn = apart(seed, 300)
    y = drawn.y
    if swapped:
        y = np.where(y == "recon", "dos", np.where(y == "dos", "recon", y)).astype(object)
    return Examples(drawn.x, y, drawn.devices + 100 * swapped, drawn.groups + 100 * swapped)


def moved(model, method, fitted=None, quick=True):
    share = examples(2, swapped=True)
    parts = (examples(1), share, share.x, {} if fitted is None else fitted)
    return transfer(make_model(model, 0, quick), method, *parts)


class TestWhatIsLabelled:
    def test_of_few_captures_the_first_part_and_nothing_near_it_is_tested(self, corpus):
        protocol = read_protocol("transfer", quick=True)
        folds = make_folds(corpus, protocol, "published")
        assert len(folds) == 2 * len(METHODS)
        for fold in folds:
            assert not set(fold.shots) & set(fold.test)
            for device in np.unique(corpus.device[fold.test]):
                pool, test = (
                    corpus.start_s[rows[corpus.device[rows] == device]]
                    for rows in (fold.shots, fold.test)
                )
                if len(pool):
                    assert np.abs(pool[:, None] - test[None]).min() >= 60
            networks = corpus.networks
            assert set(networks[fold.train]).isdisjoint(networks[fold.test])
            assert set(networks[fold.shots]) == set(networks[fold.test])

    def test_a_share_of_each_label_is_drawn_and_never_taught_before(self, corpus):
        protocol = read_protocol("transfer", quick=True).model_copy(update={"share": 0.1})
        (fold, *_) = make_folds(corpus, protocol, "published")
        labels = corpus.labels["published"]
        site = draw_site_set(corpus, fold, protocol, "published", 0)
        assert set(site.share.rows) <= set(fold.shots)
        for label in LABELS:
            pool = int((labels[fold.shots] == label).sum())
            whole = pool + int((labels[fold.test] == label).sum())
            assert (site.share.labels == label).sum() == min(pool, max(6, round(0.1 * whole)))
        taught = draw_training_set(corpus, fold, protocol, "published", 0)
        assert set(taught.rows) <= set(fold.train)
        again = draw_site_set(corpus, fold, protocol, "published", 0)
        assert (again.share.rows == site.share.rows).all()
        other = draw_site_set(corpus, fold, protocol, "published", 1)
        assert set(other.share.rows) != set(site.share.rows)

    def test_of_many_captures_whole_ones_are_tested(self, corpus):
        many = [
            replace(one, network="many", windows=replace_start(one.windows, 1e6 * i))
            for i in range(2)
            for one in corpus.captures
        ]
        both = make_corpus([*many, *(replace(one, network="few") for one in corpus.captures[:2])])
        protocol = read_protocol("transfer")
        folds = [f for f in make_folds(both, protocol, "published") if f.name == "few to many"]
        captures = [set(both.capture[rows]) for rows in (folds[0].shots, folds[0].test)]
        assert captures[0].isdisjoint(captures[1])
        assert len(captures[0] | captures[1]) == 8


def replace_start(windows, later_s):
    return replace(windows, table=windows.table.assign(start_s=windows.table["start_s"] + later_s))


class TestMethods:
    def test_names_are_those_of_finetune(self):
        assert TUNED == TECHNIQUES

    @pytest.mark.parametrize(
        ("model", "methods"),
        [
            ("time-transformer", METHODS),
            ("xgboost", (SOURCE, SHARE, BOTH)),
            ("one-line-rule", (SOURCE,)),
            ("pocket", (SOURCE, *TUNED)),
        ],
    )
    def test_each_kind_of_model_has_its_own(self, model, methods):
        assert list_methods(make_model(model)) == methods

    def test_without_a_tuner_a_language_model_stays_as_it_is(self):
        assert list_methods(make_model("pocket"), METHODS, tunes_texts=False) == (SOURCE,)

    def test_an_unknown_one_is_refused(self):
        with pytest.raises(UserError, match="no method of transfer is called magic"):
            list_methods(make_model("knn"), ("magic",))

    def test_every_model_of_the_protocol_is_one(self):
        protocol = read_protocol("transfer")
        assert set(protocol.models) <= set(MODELS)
        assert list_methods(make_model("lstm"), protocol.methods) == protocol.methods


class TestMoving:
    @pytest.mark.parametrize("model", NETWORKS)
    @pytest.mark.parametrize("method", TUNED)
    def test_a_new_network_is_learned_and_what_is_frozen_does_not_move(self, model, method):
        fitted = {}
        before = moved(model, SOURCE, fitted, quick=False)
        after = moved(model, method, fitted, quick=False)
        share = examples(2, swapped=True)
        truth = share.y[:, None] == before.classes_[None]  # what is true gets likelier
        right = [one.predict_proba(share.x)[truth].mean() for one in (before, after)]
        assert right[1] > right[0]
        kept = [tuple(one.network_.bottom) for one in (before, after)]
        same = [
            torch.equal(one, other)
            for old, new in zip(*kept, strict=True)
            for one, other in zip(old.parameters(), new.parameters(), strict=True)
        ]
        assert same
        assert all(same) if method == FROZEN else not any(same)

    def test_the_source_model_is_left_as_it_was(self):
        fitted = {}
        before = moved("transformer", SOURCE, fitted)
        weights = {name: one.clone() for name, one in before.network_.state_dict().items()}
        for method in (NEW_HEAD, "MMD"):
            moved("transformer", method, fitted)
        again = moved("transformer", SOURCE, fitted).network_.state_dict()
        assert all(torch.equal(one, again[name]) for name, one in weights.items())

    def test_a_reduced_rate_keeps_what_was_said_and_a_label_that_is_new_gets_a_row(self):
        source = examples(1)
        known = source.y != "dos"
        source = Examples(*(getattr(source, n)[known] for n in ("x", "y", "devices", "groups")))
        share = examples(2)
        model = transfer(make_model("lstm", 0, True), REDUCED, source, share, share.x, {})
        assert list(model.classes_) == ["normal", "recon", "dos"]
        assert model.predict_proba(share.x).shape == (300, 3)

    @pytest.mark.parametrize("method", ALIGNED)
    def test_alignment_reads_no_label_of_the_new_network(self, method):
        source, other = examples(1), examples(2)
        shifted = other.x * 1.5
        share = Examples(shifted, np.full(300, "recon", object), other.devices, other.groups)
        changed = replace(share, y=np.full(300, "dos", object))
        models = [
            transfer(make_model("lstm", 0, True), method, source, of, shifted, {})
            for of in (share, changed)
        ]
        before = transfer(make_model("lstm", 0, True), SOURCE, source, share, shifted, {})
        said = [one.predict_proba(shifted) for one in (*models, before)]
        assert (said[0] == said[1]).all()
        assert not np.allclose(said[0], said[2])

    def test_both_together_learn_from_both(self):
        model = moved("knn", BOTH)
        assert model.votes_.n_samples_fit_ > moved("knn", SHARE).votes_.n_samples_fit_


def test_the_command_measures_every_method_and_a_page_is_made_of_it(plants, tmp_path, capsys):
    site = tmp_path / "data" / "site"
    site.mkdir(parents=True)
    for place, path in enumerate(sorted(plants.iterdir())):
        if place % 2:  # a user's own captures, of a network of their own
            (site / f"{path.name}.log").write_bytes((path / "conn.log").read_bytes())
            (site / f"{path.name}.csv").write_bytes((path / "truth.csv").read_bytes())
        else:
            shutil.copytree(path, tmp_path / "data" / path.name)
    given = ["--data", str(tmp_path / "data"), "--out", str(tmp_path), "--quick", "--jobs", "1"]
    assert main(["eval", "transfer", *given, "--models", "lstm", "--share", "0.1"]) == 0
    said = capsys.readouterr().out
    assert all(f"| {method} |" in said for method in METHODS)
    file = tmp_path / "detection-transfer-quick.json"
    measured = read_run(file)
    assert measured.protocol["share"] == 0.1
    for one in measured.rows:
        site_captures = (
            {"plant-2", "plant-4"} if one.fold.endswith("to site") else {"plant-1", "plant-3"}
        )
        assert set(one.test) <= site_captures
        assert set(one.train).isdisjoint(site_captures) == (one.setting in (SOURCE, *ALIGNED))
    assert main(["eval", "transfer", *given, "--share", "0.9"]) == 2
    write_page([file], tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "small budgets" in page
    assert all(f"## {fold}" in page for fold in {one.fold for one in measured.rows})
    assert "`lstm`" in page


def test_each_plant_is_new_in_turn_and_a_page_says_which_reach_the_aim(corpus, plants, tmp_path):
    protocol = read_protocol("new-site", quick=True)
    folds = make_folds(corpus, protocol, "corrected")
    assert {fold.name for fold in folds} == {one.name for one in corpus.captures}
    for fold in folds:
        mine = {corpus.captures[place].name for place in np.unique(corpus.capture[fold.shots])}
        assert mine == {fold.name} == set(corpus.names(fold.test))
        assert fold.name not in corpus.names(fold.train)
        assert not set(fold.shots) & set(fold.test)
    given = ["--data", str(plants), "--out", str(tmp_path), "--quick", "--jobs", "1"]
    assert main(["eval", "transfer", "--each-plant", *given, "--models", "xgboost"]) == 0
    file = tmp_path / "detection-new-site-quick.json"
    measured = read_run(file)
    share = [one for one in measured.rows if (one.model, one.setting) == ("xgboost", SHARE)]
    assert {one.train == one.test for one in share} == {True}
    write_page([file], tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "| xgboost | share alone |" in page
    assert all(one.name in page for one in corpus.captures)


def test_plants_are_pooled_and_those_that_reach_the_aim_are_counted(capsys, tmp_path):
    rows = [
        scored("pocket", REDUCED, f1, fold=plant)
        for plant, values in {"a": (0.96, 0.98), "b": (0.5, 0.72)}.items()
        for f1 in values
    ]
    rows += [one.model_copy(update={"labelling": "corrected"}) for one in rows]
    rows[0] = scored("pocket", REDUCED, 0.1, fold="a")  # as published: it counts nowhere
    page = render_plants([run(rows, protocol={"name": "new-site", "share": 0.05})], "made")
    assert "| pocket | reduced learning rate | **0.79 (0.50 to 0.98)** |" in page
    assert "| 1 of 2 |" in page
    assert "| pocket | reduced learning rate | 0.97 (0.96 to 0.98) | 0.61 (0.50 to 0.72) |" in page


def scored(model, method, f1, binary=0.9, fold="a to b"):
    scores = {"f1": f1, "binary_macro_f1": binary, "binary_recall": 0.9, "false_share": 0.01}
    return row(model, fold, scores, setting=method, labelling="published")


class TestVerdicts:
    def test_name_who_wins_and_who_is_level(self):
        rows = [
            *(scored("xgboost", BOTH, f1) for f1 in (0.80, 0.82)),
            *(scored("pocket", NEW_HEAD, f1) for f1 in (0.70, 0.79)),
            *(scored("time-transformer", NEW_HEAD, f1, 0.97) for f1 in (0.79, 0.99)),
            *(scored("time-transformer", SHARE, f1) for f1 in (0.5, 0.6)),
            *(scored("time-transformer", SOURCE, f1, 0.5) for f1 in (0.1, 0.2)),
            *(scored("time-transformer", "MMD", f1, 0.4) for f1 in (0.1, 0.2)),
        ]
        (moved_,) = read_moved([run(rows, protocol={"name": "transfer", "share": 0.05})]).values()
        said = "\n".join(find_verdicts(moved_))
        assert (
            "XGBoost with the same labels (`xgboost` by source and share 0.81) beats the language"
            in said
        )
        assert (
            "is level with the best sequence model (`time-transformer` by new output layer 0.89)"
            in said
        )
        assert (
            "Macro-F1 0.95 over labels is reached by none; of normal or not by `time-transformer`"
            in said
        )
        assert "MMD without labels: -0.10 of normal or not against the source alone" in said

    def test_a_run_of_another_protocol_is_refused(self):
        with pytest.raises(UserError, match="of protocol random; expected transfer"):
            read_moved([run([], protocol={"name": "random"})])
