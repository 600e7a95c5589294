"""The whole recipe in seconds: every stage runs, is kept, and fits the next one."""

from pathlib import Path

import pytest

from assistant.llm.adapters import load_adapter, read_card
from assistant.llm.weights import fingerprint_weights
from finetune.dataset import choose_captures
from finetune.pocket.make import make_pocket
from finetune.pocket.single_task import count_shipped, make_pair, shrink_recipe
from finetune.recipe import POCKET, read_recipe
from traffic.errors import UserError
from traffic.simulation.simulate import simulate, write_simulation


@pytest.fixture(scope="module")
def recipe():
    quick = read_recipe(POCKET, "quick").model_dump()
    quick |= {
        "train_seeds": (1000, 1002), "calibrate_seeds": (2000, 2001), "test_seeds": (3000, 3001),
        "devices": (1, 3), "hours": 0.1,
    }  # fmt: skip
    quick["pretrain"] |= {"texts": 60, "max_minutes": 0.05}
    for stage in ("answers", "sft"):
        quick[stage] |= {"per_label": 8, "per_normal": 24, "max_minutes": 0.05}
    return type(read_recipe(POCKET, "quick")).model_validate(quick)


@pytest.fixture(scope="module")
def made(recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pocket")
    return folder, make_pocket(recipe, folder / "out", folder / "work")


def test_what_is_made_loads_and_its_card_says_what_it_saw(made):
    folder, card = made
    llm, read = load_adapter(folder / "out" / "adapter")
    assert read == card == read_card(folder / "out" / "adapter")
    assert card.data == ("simulated-1000", "simulated-1001", "house-4000", "house-4001")
    assert card.split == {
        "calibrate": ("simulated-2000",),
        "test": ("simulated-3000", "house-4200"),
    }
    assert {"simulated.false_share", "houses.false_share"} < set(card.metrics)
    assert llm.score(["quiet\nverdict\n"], ["normal", "anomalous dos"]).shape == (1, 2)


def test_a_finished_run_is_not_trained_again(made, recipe):
    folder, card = made
    weights = folder / "work" / "adapter" / "adapter_model.safetensors"
    before = weights.stat().st_mtime_ns
    assert make_pocket(recipe, folder / "out", folder / "work").temperature == card.temperature
    assert weights.stat().st_mtime_ns == before


def test_a_base_can_go_on_from_another(made, recipe, tmp_path: Path):
    """It only learns answers then, keeps the shape and tokens it has, and the card says which
    weights it began with."""
    folder, first = made
    begin = folder / "out" / "base"
    card = make_pocket(recipe, tmp_path / "out", tmp_path / "work", begin=begin)
    assert first.begun_from == ""
    assert card.begun_from == fingerprint_weights(begin) == first.base_fingerprint
    assert card.base_fingerprint != first.base_fingerprint
    assert card.made_by == "faultwise finetune pocket --begin BASE"
    assert (tmp_path / "out" / "base" / "tokenizer.json").read_text() == (
        begin / "tokenizer.json"
    ).read_text()
    with pytest.raises(UserError, match="holds stages of another run"):
        make_pocket(recipe, tmp_path / "out", tmp_path / "work")


def test_stages_of_another_run_are_refused(made, recipe):
    folder, _ = made
    with pytest.raises(UserError, match="holds stages of another run"):
        make_pocket(recipe.model_copy(update={"seed": 99}), folder / "out", folder / "work")


def test_a_capture_to_leave_out_must_be_there(recipe, tmp_path: Path):
    with pytest.raises(UserError, match="no capture honeypot-9 to exclude; expected some of none"):
        make_pocket(recipe, tmp_path / "out", tmp_path / "work", exclude=["honeypot-9"])
    assert not (tmp_path / "work").exists()


def test_a_base_to_begin_with_must_be_a_model(recipe, tmp_path: Path):
    with pytest.raises(UserError, match="nothing"):
        make_pocket(recipe, tmp_path / "out", tmp_path / "work", begin=tmp_path / "nothing")
    assert not (tmp_path / "work").exists()


def test_captures_of_several_folders_have_names_of_their_own(recipe, tmp_path: Path):
    for folder in ("a", "b"):
        write_simulation(simulate(seed=1, devices=1, hours=0.1), tmp_path / folder / "plant")
    with pytest.raises(UserError, match="are both called plant"):
        choose_captures(recipe, [tmp_path / "a", tmp_path / "b"])
    (tmp_path / "b" / "plant").rename(tmp_path / "b" / "other")
    chosen = choose_captures(recipe, [tmp_path / "a", tmp_path / "b"], ["other"])
    houses = ("house-4000", "house-4001")
    assert chosen.trained == ("simulated-1000", "simulated-1001", *houses, "plant")
    assert chosen.test == ("simulated-3000", "house-4200", "other")


def test_two_tasks_and_one_begin_from_the_same_base(tmp_path: Path):
    """Both say which base they began from; what the class alone teaches leaves the two apart."""
    recipe = shrink_recipe(plants=1, per_label=2, epochs=1, minutes=1.0, seed=3)
    shape = recipe.shape.__class__(hidden=64, layers=2, heads=2, intermediate=176)
    reading = recipe.pretrain.model_copy(update={"texts": 40})
    changes = {"shape": shape, "pretrain": reading, "devices": (1, 2), "hours": 0.1}
    recipe = recipe.model_copy(update=changes)
    make_pair(recipe, tmp_path / "out", tmp_path / "work", "made")
    cards = {name: read_card(tmp_path / "out" / name) for name in ("joint", "class")}
    base = fingerprint_weights(tmp_path / "work" / "base")
    assert {card.begun_from for card in cards.values()} == {base}
    assert len({card.base_fingerprint for card in cards.values()} | {base}) == 3
    for card in cards.values():
        assert card.split["calibrate"][-2:] == ("run-71", "run-72")
        assert not {"run-71", "run-72"} & set(card.data)
        assert "run-1" in card.data
        assert card.metrics["train.texts"] > 0
    read = recipe.answers
    assert count_shipped(recipe) == read.epochs * (16 * read.per_label + read.per_normal)
