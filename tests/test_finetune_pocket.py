"""The whole recipe in seconds: every stage runs, is kept, and fits the next one."""

from pathlib import Path

import pytest

from assistant.adapters import load_adapter, read_card
from finetune.pocket import make_pocket
from finetune.recipe import POCKET, read_recipe
from traffic.errors import UserError


@pytest.fixture(scope="module")
def recipe():
    quick = read_recipe(POCKET, True).model_dump()
    quick |= {
        "train_seeds": (1000, 1002),
        "calibrate_seeds": (2000, 2001),
        "test_seeds": (3000, 3001),
        "devices": (1, 3),
        "hours": 0.1,
        "per_capture_held_out": 20,
    }
    quick["pretrain"] |= {"texts": 60, "max_minutes": 0.05}
    for stage in ("answers", "sft"):
        quick[stage] |= {"per_label": 8, "per_normal": 24, "max_minutes": 0.05}
    return type(read_recipe(POCKET, True)).model_validate(quick)


@pytest.fixture(scope="module")
def made(recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pocket")
    return folder, make_pocket(recipe, folder / "out", folder / "work")


def test_what_is_made_loads_and_its_card_says_what_it_saw(made):
    folder, card = made
    llm, read = load_adapter(folder / "out" / "adapter")
    assert read == card == read_card(folder / "out" / "adapter")
    assert card.data == ("simulated-1000", "simulated-1001")
    assert card.split == {"calibrate": ("simulated-2000",), "test": ("simulated-3000",)}
    assert llm.score(["quiet\nverdict\n"], ["normal", "anomalous dos"]).shape == (1, 2)


def test_a_finished_run_is_not_trained_again(made, recipe):
    folder, card = made
    weights = folder / "work" / "adapter" / "adapter_model.safetensors"
    before = weights.stat().st_mtime_ns
    assert make_pocket(recipe, folder / "out", folder / "work").temperature == card.temperature
    assert weights.stat().st_mtime_ns == before


def test_stages_of_another_run_are_refused(made, recipe):
    folder, _ = made
    with pytest.raises(UserError, match="holds stages of another run"):
        make_pocket(recipe.model_copy(update={"seed": 99}), folder / "out", folder / "work")


def test_a_capture_to_leave_out_must_be_there(recipe, tmp_path: Path):
    with pytest.raises(UserError, match="no capture honeypot-9 to exclude; expected some of none"):
        make_pocket(recipe, tmp_path / "out", tmp_path / "work", exclude=["honeypot-9"])
    assert not (tmp_path / "work").exists()
