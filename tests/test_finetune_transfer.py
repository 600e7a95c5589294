"""A tuned model moved to another network: what is frozen and drawn anew, the command, its refusals."""

import pandas as pd
import pytest
import torch
from labelled_folders import write_plants
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from assistant.cli.main import app, main
from assistant.llm.adapters import read_card
from assistant.llm.local import LocalLLM
from finetune.bases import load_trainable
from finetune.layers import find_answer_rows, freeze_layers, renew_answers
from finetune.sft import Knobs
from finetune.sites.transfer import TECHNIQUES, choose_knobs, tune_texts
from prompts.messages import ANSWERS, classification_prompt
from traffic.errors import UserError

SMALL = ["--plants", "0", "--epochs", "1", "--batch", "8"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_plants(tmp_path_factory.mktemp("data"), (1, 2, 3), hours=0.06)


def step(model, rate=0.1):
    """One step of training on any tokens, as `finetune.sft` takes it."""
    weights = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.0)
    ids = torch.arange(8)[None] + 5
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()


def test_frozen_layers_do_not_move_nor_any_row_of_the_embedding_but_the_answers(base):
    loaded = load_trainable(base, "full")
    model = loaded.model
    freeze_layers(model, loaded.tokenizer, 1)
    before = {name: one.clone() for name, one in model.named_parameters()}
    step(model)
    moved = {name for name, one in model.named_parameters() if not torch.equal(one, before[name])}
    assert moved
    assert not any(".layers.0." in name for name in moved)
    assert any(".layers.1." in name for name in moved)
    embedding = model.get_input_embeddings().weight
    old = before["model.embed_tokens.weight"]
    rows = set((embedding != old).any(dim=1).nonzero()[:, 0].tolist())
    assert rows <= set(find_answer_rows(loaded.tokenizer))


def test_new_answers_are_drawn_by_seed_and_nothing_else_changes(base):
    drawn = []
    for seed in (0, 0, 1):
        loaded = load_trainable(base, "full")
        old = loaded.model.get_output_embeddings().weight.detach().clone()
        renew_answers(loaded.model, loaded.tokenizer, seed)
        new = loaded.model.get_output_embeddings().weight
        changed = (new != old).any(dim=1).nonzero()[:, 0].tolist()
        assert changed == find_answer_rows(loaded.tokenizer)
        drawn.append(new)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_what_cannot_be_frozen_or_renewed_is_refused(base):
    loaded = load_trainable(base, "lora", rank=2)
    with pytest.raises(UserError, match="an adapter leaves frozen"):
        renew_answers(loaded.model, loaded.tokenizer, 0)
    for count in (0, 2):
        with pytest.raises(UserError, match=f"{count} layers to freeze of 2"):
            freeze_layers(loaded.model, loaded.tokenizer, count)


@pytest.mark.parametrize(
    ("technique", "frozen", "new", "slow"),
    [(TECHNIQUES[0], 0, True, False), (TECHNIQUES[1], 1, True, False), (TECHNIQUES[2], 0, False, True)],
)  # fmt: skip
def test_knobs_follow_from_the_technique(base, technique, frozen, new, slow):
    knobs = choose_knobs(technique, Knobs(method="full"), base)
    usual = choose_knobs(TECHNIQUES[0], Knobs(method="full"), base)
    assert (knobs.frozen, knobs.new_answers) == (frozen, new)
    assert (knobs.learning_rate == pytest.approx(usual.learning_rate / 10)) == slow
    # An adapter goes on without new answers: its base's embedding is not its own.
    assert not choose_knobs(technique, Knobs(), base).new_answers


def test_knobs_that_contradict_are_refused(base):
    with pytest.raises(UserError, match="no technique is called magic"):
        choose_knobs("magic", Knobs(), base)
    with pytest.raises(UserError, match="freezes no layer"):
        choose_knobs(TECHNIQUES[0], Knobs(), base, freeze=1)


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_a_moved_model_says_what_the_new_network_taught(base, technique, tmp_path):
    texts = pd.DataFrame({"text": ["bytes 1", "bytes 9"] * 8, "label": ["normal", "recon"] * 8})
    tune_texts(base, None, texts, technique, 0, tmp_path / "moved")
    choices = [ANSWERS["normal"], ANSWERS["recon"]]
    prompts = [classification_prompt(text) for text in ("bytes 1", "bytes 9")]
    before, after = (
        LocalLLM(folder).score(prompts, choices) for folder in (base, tmp_path / "moved")
    )
    right = [scores[0, 0] + scores[1, 1] for scores in (before, after)]
    assert right[1] > right[0]
    layers = [
        AutoModelForCausalLM.from_pretrained(folder).model.layers[0].state_dict()
        for folder in (base, tmp_path / "moved")
    ]
    same = all(torch.equal(one, layers[1][name].to(one)) for name, one in layers[0].items())
    if technique != "layer freezing":
        assert not same
    else:  # stored in bf16
        assert all(torch.equal(one.bfloat16(), layers[1][name].bfloat16())
                   for name, one in layers[0].items())  # fmt: skip


@pytest.fixture
def begun(base, home, tmp_path):
    """An adapter of another network."""
    other = write_plants(tmp_path / "other", (4, 5, 6), hours=0.06)
    asked = ["--base", str(base), "--data", str(other), "--site", "old", "--rank", "2"]
    done = CliRunner().invoke(app, ["finetune", "sft", *asked, *SMALL, "--per-label", "8"])
    assert done.exit_code == 0, done.output
    return home / "adapters" / "old" / "tiny"


@pytest.mark.parametrize("method", ["full", "lora"])
def test_one_command_moves_an_adapter_and_classify_uses_it(begun, data, home, method):
    asked = ["--begin", str(begun), "--data", str(data), "--site", "new", "--by", "layer-freezing"]
    done = CliRunner().invoke(app, ["finetune", "transfer", *asked, *SMALL, "--method", method])
    assert done.exit_code == 0, done.output
    folder = home / "adapters" / "new" / "transferred"
    card, old = read_card(folder), read_card(begun)
    assert set(old.data) | set(old.split["calibrate"]) <= set(card.data)
    assert card.made_by.startswith("faultwise finetune transfer --data FOLDER --site new")
    assert str(home) not in card.model_dump_json()
    assert (folder / "base").is_dir() == (method == "full")
    assert not list((home / "training").rglob("*.safetensors"))
    verdicts = CliRunner().invoke(app, ["classify", str(data / "plant-1"), "--site", "new"])
    assert verdicts.exit_code == 0, verdicts.output


def test_what_is_no_adapter_is_refused_before_any_hour_is_spent(base, data, home, capsys):
    asked = ["--begin", str(base), "--data", str(data), "--site", "new"]
    assert main(["finetune", "transfer", *asked, *SMALL]) == 2
    assert "error: " in capsys.readouterr().err
    assert not (home / "training").exists()
