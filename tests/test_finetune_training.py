"""Training on next to nothing: a tiny model must learn four texts by heart, and a killed run must
go on."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_models import build_model as build_random

from assistant.llm.local import LocalLLM
from finetune.calibrate import score_texts
from finetune.pocket.pretrain import Phase, Shape, build_model, pretrain
from finetune.pocket.tokenizer import build_tokenizer
from finetune.recipe import POCKET, read_recipe
from finetune.sft import Knobs, train
from prompts.messages import ANSWERS
from prompts.window_text import LEVELS, vocabulary
from traffic.errors import UserError
from traffic.labels import LABELS

SHAPE = Shape(hidden=32, layers=2, heads=2, intermediate=64, context=64)
KNOWN = vocabulary()[:70]
TEXTS = ["quiet", *(" ".join(KNOWN[first : first + 60 : 20]) for first in (1, 5, 9))]
LABELLED = pd.DataFrame({"text": TEXTS, "label": ["recon", "dos", "ddos", "name_resolution"]})


def learn(
    work: Path, minutes: float = 5.0, epochs: int = 120
) -> tuple[torch.nn.Module, list[float]]:
    tokenizer = build_tokenizer(KNOWN, SHAPE.context)
    model = build_model(tokenizer, SHAPE, seed=1)
    parts = {"general": TEXTS[:2] * 4, "plant": TEXTS[2:] * 4}
    phases = [Phase(name, texts, epochs, minutes, 5e-3) for name, texts in parts.items()]
    return model, pretrain(model, tokenizer, phases, work, batch_tokens=64, seed=1)


def test_pretraining_learns_texts_by_heart(tmp_path):
    _, losses = learn(tmp_path)
    chance = np.log(len(build_tokenizer(KNOWN)))
    assert len(losses) == 2
    assert (
        max(losses) < 0.5 * chance
    )  # a phase of two texts; what cannot be known is which of them comes


def test_equal_seeds_give_equal_models(tmp_path):
    models = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        models.append(learn(tmp_path / name, epochs=2)[0].state_dict())
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_a_finished_run_is_not_made_again_and_a_cut_one_goes_on(tmp_path):
    model, losses = learn(tmp_path, epochs=3)
    again, same = learn(tmp_path, epochs=3)
    assert same == losses
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )
    state = torch.load(tmp_path / "pretrain.pt", weights_only=True)
    assert (state["phase"], state["step"]) == (2, 0)
    torch.save({**state, "phase": 1, "losses": losses[:1]}, tmp_path / "pretrain.pt")
    cut, resumed = learn(tmp_path, epochs=3)
    assert resumed[0] == losses[0]
    assert not torch.equal(next(cut.parameters()), next(model.parameters()))


def test_time_that_is_out_ends_a_phase(tmp_path):
    learn(tmp_path, minutes=1e-9, epochs=10_000)
    assert torch.load(tmp_path / "pretrain.pt", weights_only=True)["phase"] == 2


def test_a_phase_without_texts_or_with_too_long_ones_is_refused(tmp_path):
    tokenizer = build_tokenizer(KNOWN, SHAPE.context)
    model = build_model(tokenizer, SHAPE)
    with pytest.raises(UserError, match="phase empty has no texts"):
        pretrain(model, tokenizer, [Phase("empty", [], 1, 1.0, 1e-3)], tmp_path)
    with pytest.raises(UserError, match="the model reads 64"):
        pretrain(model, tokenizer, [Phase("long", ["sent " * 100], 1, 1.0, 1e-3)], tmp_path)


def test_a_phase_with_answers_teaches_them_and_only_them(tmp_path):
    tokenizer = build_tokenizer(KNOWN, SHAPE.context)
    model = build_model(tokenizer, SHAPE, seed=1)
    answers = [ANSWERS[label] for label in LABELLED["label"]] * 4
    labelled = Phase("labelled", TEXTS * 4, 150, 5.0, 5e-3, answers)
    assert pretrain(model, tokenizer, [labelled], tmp_path, batch_tokens=64, seed=1)[0] < 0.05
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    scores = score_texts(LABELLED, LocalLLM(tmp_path / "model"))
    assert (scores.argmax(axis=1) == LABELLED["label"].map(LABELS.index).to_numpy()).all()
    with torch.no_grad():  # of the texts themselves it knows no more than chance
        ids = tokenizer(TEXTS[0], return_tensors="pt").input_ids
        assert float(model(ids, labels=ids).loss) > 0.8 * np.log(len(tokenizer))


def test_the_shipped_shape_fits_the_repository():
    model = build_model(build_tokenizer(vocabulary()), read_recipe().shape)
    assert 1_500_000 < model.num_parameters() < 3_000_000  # 16 MB hold 8 million in bf16


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tuned")
    build_random(root / "base", words=KNOWN)
    (root / "work").mkdir()
    many = pd.concat([LABELLED] * 60, ignore_index=True)
    knobs = Knobs(rank=8, epochs=3, batch=8, learning_rate=2e-2, max_minutes=5.0, seed=1)
    train(root / "base", many, root / "adapter", root / "work", knobs)
    return root


def test_an_adapter_learns_labels_by_heart(tuned):
    before = score_texts(LABELLED, LocalLLM(tuned / "base"))
    after = score_texts(LABELLED, LocalLLM(tuned / "base", tuned / "adapter"))
    truth = LABELLED["label"].map(LABELS.index).to_numpy()
    assert (after.argmax(axis=1) == truth).all()
    assert after[np.arange(4), truth].min() > np.log(0.8) > before[np.arange(4), truth].max()


def test_an_adapter_is_safetensors_and_holds_no_path(tuned):
    assert {path.name for path in (tuned / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    assert str(tuned) not in (tuned / "adapter" / "adapter_config.json").read_text()


def test_tuning_that_is_out_of_time_ends_with_an_adapter(tuned, tmp_path):
    (tmp_path / "work").mkdir()
    many = pd.concat([LABELLED] * 60, ignore_index=True)
    folders = (tmp_path / "adapter", tmp_path / "work")
    train(tuned / "base", many, *folders, Knobs(epochs=10_000, max_minutes=1e-9))
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


def test_a_chat_model_is_tuned_on_its_own_template(tmp_path):
    base = build_random(tmp_path / "base", chat=True, words=KNOWN)
    (tmp_path / "work").mkdir()
    many = pd.concat([LABELLED] * 8, ignore_index=True)
    folders = (tmp_path / "adapter", tmp_path / "work")
    train(base, many, *folders, Knobs(rank=8, epochs=3, batch=8, learning_rate=1e-2, seed=1))
    truth = LABELLED["label"].map(LABELS.index).to_numpy()
    before, after = (
        score_texts(LABELLED, llm) for llm in (LocalLLM(base), LocalLLM(base, tmp_path / "adapter"))
    )
    assert after[np.arange(4), truth].mean() > before[np.arange(4), truth].max() + 1


def test_nothing_to_tune_on_is_refused(tmp_path):
    with pytest.raises(UserError, match="no texts to tune on"):
        train(tmp_path, LABELLED.iloc[:0], tmp_path, tmp_path)


def test_the_shipped_recipe_is_whole_and_quick_changes_it():
    assert read_recipe().shape == Shape()
    assert read_recipe(variant="quick").shape.hidden < read_recipe().shape.hidden
    begun, whole = read_recipe(variant="begun"), read_recipe()
    assert (begun.shape, begun.test_seeds) == (whole.shape, whole.test_seeds)
    assert begun.answers.max_minutes + begun.sft.max_minutes < whole.answers.max_minutes
    seeds = [read_recipe().train_seeds, read_recipe().calibrate_seeds, read_recipe().test_seeds]
    assert all(one[1] <= after[0] for one, after in pairwise(sorted(seeds)))


def test_all_mistakes_of_a_recipe_are_named_at_once(tmp_path):
    text = POCKET.read_text().replace("\nmax_false:", "\nmax_flase:")
    text = text.replace("\nhours: ", "\nhours: -")
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        read_recipe(tmp_path / "own.yaml")
    assert all(
        part in str(caught.value)
        for part in ("max_false: Field required", "max_flase: Extra", "hours: ")
    )
    with pytest.raises(UserError, match=r"cannot be read .*expected a recipe"):
        read_recipe(tmp_path / "none.yaml")


def test_words_of_a_fact_begin_in_the_order_of_their_levels():
    tokenizer = build_tokenizer(KNOWN, SHAPE.context)
    weights = build_model(tokenizer, SHAPE, seed=1).get_input_embeddings().weight.detach()
    words = tokenizer.get_vocab()
    fact = KNOWN[1].rpartition("=")[0]
    line = weights[[words[f"{fact}={level}"] for level in range(1, LEVELS + 1)]]
    apart = torch.cdist(line, line)[0]
    assert torch.allclose(apart, apart[1] * torch.arange(LEVELS), atol=1e-6)
    assert torch.isclose(weights.std(), torch.tensor(0.02), rtol=0.1)
