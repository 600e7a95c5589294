"""Merged adapters are what their parts add up to, and bases can be cut and converted."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from labelled_folders import write_plants
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from tiny_bases import build_base
from tiny_models import make_card
from transformers import AutoModelForCausalLM

from assistant.llm.adapters import read_card, write_card
from assistant.llm.local import LocalLLM
from assistant.llm.weights import fingerprint_weights
from assistant.registry import draft_folder, list_registered, load_registered, register
from finetune.convert import make_base
from finetune.sites.cards import relative_base
from finetune.sites.merge import merge
from prompts.messages import ANSWERS, classification_prompt
from traffic.errors import UserError
from traffic.labels import LABELS

PROMPTS = [classification_prompt(text) for text in ("quiet", "sent 20 30", "hosts 12 names 4")]
CHOICES = [ANSWERS[label] for label in LABELS]


def put(home: Path, name: str, base: Path, rank: int, **more: object) -> Path:
    """A random adapter of a site."""
    site, family = name.split("/")
    torch.manual_seed(rank)
    shape = LoraConfig(r=rank, lora_alpha=8, target_modules="all-linear", **more)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), shape)
    for key, weight in model.named_parameters():
        if "lora_B" in key:
            weight.data.normal_(std=0.1)
    draft = draft_folder(home, site, family)
    model.save_pretrained(draft)
    fits = {"base": relative_base(base, draft), "base_fingerprint": fingerprint_weights(base)}
    write_card(make_card(name=name, **fits), draft)
    return register(draft, site, family).path


def changes(adapter: Path) -> dict[str, torch.Tensor]:
    """What an adapter adds to each weight: alpha / r * B A."""
    shape = json.loads((adapter / "adapter_config.json").read_text())
    parts = load_file(adapter / "adapter_model.safetensors")
    return {
        name.split("lora_A")[0]: parts[name.replace("lora_A", "lora_B")]
        @ down
        * (shape["lora_alpha"] / shape["r"])
        for name, down in parts.items()
        if "lora_A" in name
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plants(tmp_path_factory.mktemp("data"), (1,), hours=0.06)


@pytest.mark.parametrize(("how", "rank", "exact"), [("cat", 6, 1e-4), ("svd", 4, None)])
def test_a_merged_adapter_is_the_weighted_sum_of_its_parts(how, rank, exact, base, home, data):
    parts = [put(home, "north/a", base, 2), put(home, "south/a", base, 4)]
    made = merge(home, ["north/a", "south/a"], "north", "both", how, [0.7, 0.3], [data])
    assert [(one.name, one.used) for one in list_registered(home)] == [
        ("north/a", True), ("north/both", False), ("south/a", True),
    ]  # fmt: skip
    merged, (one, other) = changes(made.path), [changes(part) for part in parts]
    assert json.loads((made.path / "adapter_config.json").read_text())["r"] == rank
    for name, delta in merged.items():
        wanted = 0.7 * one[name] + 0.3 * other[name]
        if exact:
            torch.testing.assert_close(delta, wanted, atol=exact, rtol=exact)
        else:  # the best of that rank: what is lost are the smallest singular values
            lost = torch.linalg.svdvals(wanted)[rank:].square().sum().sqrt()
            assert torch.linalg.norm(delta - wanted) <= lost * 1.01 + 1e-4
    card = read_card(made.path)
    assert card.split == {"calibrate": ("plant-1",)}
    assert card.data == ("34-1", "simulated-1")
    llm, _ = load_registered(made.path)
    assert np.isfinite(llm.score(PROMPTS, CHOICES)).all()


def test_an_adapter_in_its_base_judges_as_beside_it(base, home):
    path = put(home, "north/a", base, 4)
    made = merge(home, ["north/a"], "north", "whole")
    apart, whole = (load_registered(one)[0].score(PROMPTS, CHOICES) for one in (path, made.path))
    np.testing.assert_allclose(np.exp(whole), np.exp(apart), atol=0.03)  # rounded to bf16
    assert read_card(made.path).temperature == read_card(path).temperature


def test_what_cannot_be_merged_is_refused(base, home, data, tmp_path):
    put(home, "north/a", base, 2), put(home, "south/a", base, 4)
    put(home, "east/d", base, 2, use_dora=True)
    put(home, "west/a", build_base(tmp_path / "other", "gpt2"), 2)
    both = ["north/a", "south/a"]
    for names, options, message in (
        (both, {}, "no captures to calibrate"),
        (both, {"data": [data], "weights": [1.0]}, "1 weights for 2 adapters"),
        (["north/a", "east/d"], {"data": [data]}, "east/d was made by --method dora"),
        (["north/a", "west/a"], {"data": [data]}, "have different bases"),
        (["north/a", "north/a"], {"data": [data]}, "named twice"),
        (["north/a", "north/z"], {"data": [data]}, "expected one of north/a"),
    ):
        with pytest.raises(UserError, match=message):
            merge(home, names, "north", "both", **options)
    with pytest.raises(UserError, match="has an adapter a already"):
        merge(home, both, "north", "a", data=[data])
    put(home, "north/seen", base, 2)
    card = read_card(home / "adapters/north/seen").model_copy(update={"data": ("plant-1",)})
    (home / "adapters/north/seen/SHA256SUMS").unlink()
    write_card(card, home / "adapters/north/seen")
    with pytest.raises(UserError, match="was learned from by one of them"):
        merge(home, ["north/a", "north/seen"], "north", "both", data=[data])


# ---- finetune base ----


def test_the_first_layers_of_a_base_compute_as_they_did(base, tmp_path):
    folder = make_base(base, tmp_path / "cut", layers=1, chat=False)
    cut, whole = (AutoModelForCausalLM.from_pretrained(one) for one in (folder, base))
    ids = torch.tensor([[1, 5, 6, 7]])
    with torch.inference_mode():
        kept = whole.eval()(ids, output_hidden_states=True).hidden_states[1]
        states = cut.float().eval()(ids, output_hidden_states=True).hidden_states
        normed = whole.model.norm(kept)
    torch.testing.assert_close(states[-1], normed, atol=0.1, rtol=0.05)  # rounded to bf16
    assert cut.config.num_hidden_layers == 1
    assert np.isfinite(LocalLLM(folder).score(PROMPTS, CHOICES)).all()


def test_a_base_without_its_chat_template_is_asked_plainly(tmp_path):
    from tiny_models import build_model

    chatty = build_model(tmp_path / "chatty", chat=True)
    assert LocalLLM(chatty).chat_capable
    assert not LocalLLM(make_base(chatty, tmp_path / "plain", chat=False)).chat_capable
    assert LocalLLM(make_base(chatty, tmp_path / "same")).chat_capable


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("none.gguf", {}, "no file"),
        ("none", {}, "no model folder"),
        ("half.gguf", {}, "cannot be loaded"),
        ("tiny", {"layers": 9}, "expected 1 to 2"),
    ],
)
def test_what_is_no_model_is_refused_and_leaves_nothing(source, options, message, base, tmp_path):
    (tmp_path / "half.gguf").write_bytes(b"GGUF")
    path = base if source == "tiny" else tmp_path / source
    with pytest.raises(UserError, match=message):
        make_base(path, tmp_path / "out", **options)
    assert [one.name for one in tmp_path.iterdir()] == ["half.gguf"]
    with pytest.raises(UserError, match="exists already"):
        make_base(base, tmp_path)
