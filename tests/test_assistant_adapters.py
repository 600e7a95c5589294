"""Cards keep an adapter from being used on what it was not trained for."""

import json
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from tiny_models import build_model, make_card
from transformers import AutoModelForCausalLM

from assistant.llm.adapters import check_card, list_adapters, load_adapter, read_card, write_card
from assistant.llm.weights import fingerprint_weights
from traffic.errors import UserError
from traffic.labels import LABELS


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and an adapter beside it, with a card that fits."""
    root = tmp_path_factory.mktemp("trained")
    base = build_model(root / "base")
    tuned = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=2, target_modules="all-linear")
    )
    tuned.save_pretrained(root / "adapter")
    write_card(make_card(base_fingerprint=fingerprint_weights(base)), root / "adapter")
    return root / "adapter"


def test_a_card_is_read_as_it_was_written(tmp_path):
    write_card(make_card(), tmp_path)
    assert read_card(tmp_path) == make_card()


def test_an_adapter_that_fits_is_loaded_with_its_base(trained):
    llm, card = load_adapter(trained)
    assert llm.name == "base"
    assert card.temperature == 1.5


def test_a_base_given_by_hand_must_have_the_same_weights(trained, tmp_path):
    other = build_model(tmp_path / "other", hidden_size=64)
    with pytest.raises(UserError, match="trained on other weights than"):
        load_adapter(trained, base=other)


def test_a_base_that_is_missing_is_named(tmp_path):
    write_card(make_card(base="../gone"), tmp_path)
    with pytest.raises(UserError, match="gone has no weights"):
        load_adapter(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt_fingerprint": "feed"}, "trained on prompts feed"),
        ({"labels": LABELS[:3]}, "knows 3 labels"),
    ],
)
def test_an_adapter_for_other_prompts_or_labels_is_refused(change, message):
    check_card(make_card())
    with pytest.raises(UserError, match=message):
        check_card(make_card(**change))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Invalid JSON"),
        ("[]", "is no adapter card"),
        (json.dumps({**make_card().model_dump(mode="json"), "note": "x"}), "note"),
        (json.dumps({**make_card().model_dump(mode="json"), "temperature": 0}), "temperature"),
    ],
)
def test_what_is_no_card_is_refused_in_one_line(tmp_path, text, message):
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_card(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_card_is_refused(tmp_path):
    with pytest.raises(UserError, match="no adapter card"):
        read_card(tmp_path)


def test_adapters_of_a_home_are_listed_by_name(tmp_path):
    for name in ("zinc", "acid"):
        folder = tmp_path / "adapters" / name
        folder.mkdir(parents=True)
        write_card(make_card(name=name), folder)
    (tmp_path / "adapters" / "unfinished").mkdir()
    assert [one.card.name for one in list_adapters(tmp_path)][-2:] == ["acid", "zinc"]


def test_the_fingerprint_of_weights_is_of_their_bytes(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    before = fingerprint_weights(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"abd")
    assert len(before) == 64
    assert fingerprint_weights(tmp_path) != before
