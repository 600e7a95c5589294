"""Every kind of base and every method learns four texts by heart, and a killed run goes on."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_bases import SHAPES, build_base

from assistant.llm.local import LocalLLM
from assistant.llm.seq2seq import Seq2SeqLLM
from finetune.bases import can_pack, load_trainable
from finetune.examples import IGNORED, make_examples
from finetune.pace import find_checkpoint
from finetune.pocket.tokenizer import build_tokenizer
from finetune.sft import Knobs, train
from prompts.messages import ANSWERS, classification_prompt
from prompts.window_text import vocabulary
from traffic.errors import UserError
from traffic.labels import LABELS

TEXTS = pd.DataFrame(
    {
        "text": ["past known 9\nquiet", "known 9\nsent 20 30", "known 3\nhosts 12", "names 4 4"],
        "label": ["normal", "dos", "recon", "name_resolution"],
        "direction": ["", "target", "source", ""],
    }
)
MANY = pd.concat([TEXTS] * 24, ignore_index=True)
QUICK = {"rank": 8, "epochs": 4, "batch": 8, "seed": 1}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def load(shape: str, folder: Path, adapter: Path | None = None) -> LocalLLM | Seq2SeqLLM:
    return (Seq2SeqLLM if shape == "t5" else LocalLLM)(folder, adapter)


def truth_scores(llm: LocalLLM | Seq2SeqLLM) -> np.ndarray:
    """Log-probability of each text's own label, shape (4,)."""
    prompts = [classification_prompt(text) for text in TEXTS["text"]]
    scores = llm.score(prompts, [ANSWERS[label] for label in LABELS])
    return scores[np.arange(4), TEXTS["label"].map(LABELS.index)]


@pytest.mark.parametrize(
    ("shape", "method"),
    [
        *(("llama", method) for method in ("lora", "dora", "qlora", "full")),
        ("gpt2", "lora"),
        ("gpt2", "qlora"),
        ("bloom", "lora"),
        ("bloom", "dora"),
        ("t5", "lora"),
        ("t5", "full"),
    ],
)
def test_every_base_learns_by_every_method(shape, method, tmp_path):
    # bitsandbytes wants rows of 64; LoRA moves a random model only by much.
    base = build_base(tmp_path / "base", shape, 64 if method == "qlora" else 32)
    knobs = Knobs(**QUICK, method=method, learning_rate=1e-2 if method == "full" else 5e-2)
    done = train(base, MANY, tmp_path / "out", tmp_path / "work", knobs)
    folder, adapter = (tmp_path / "out", None) if method == "full" else (base, tmp_path / "out")
    gain = truth_scores(load(shape, folder, adapter)) - truth_scores(load(shape, base))
    assert gain.mean() > 0.5
    assert (done.steps, done.ended) == (48, "epochs")
    assert not list((tmp_path / "out").glob("*.bin"))
    assert str(tmp_path) not in "".join(
        file.read_text() for file in (tmp_path / "out").glob("*config.json")
    )


def test_an_encoder_decoder_is_scored_as_its_decoder_reads(tmp_path):
    base = build_base(tmp_path, "t5", initializer_factor=3.0)
    llm, loaded = Seq2SeqLLM(base), load_trainable(base, "full")
    prompts = [classification_prompt(text) for text in TEXTS["text"]]
    choices = [ANSWERS[label] for label in LABELS]
    sums = np.empty((len(prompts), len(choices)))
    for i, prompt in enumerate(prompts):
        for j, choice in enumerate(choices):
            ids = loaded.tokenizer(choice, add_special_tokens=False, return_tensors="pt").input_ids
            asked = loaded.tokenizer(prompt, return_tensors="pt").input_ids
            with torch.no_grad():  # transformers' own loss is the mean over the answer's tokens
                sums[i, j] = (
                    -float(loaded.model.eval()(input_ids=asked, labels=ids).loss) * ids.numel()
                )
    expected = sums - np.logaddexp.reduce(sums, axis=1, keepdims=True)
    np.testing.assert_allclose(llm.score(prompts, choices), expected, atol=1e-3)
    with pytest.raises(UserError, match="no chat template"):
        llm.render([])


# Answers in the closed vocabulary: the words for source and target there are its own.
PARTS = {
    ("normal", "", "joint"): ["normal </s>"],
    ("dos", "target", "joint"): ["anomalous dos target </s>"],
    ("dos", "", "joint"): ["anomalous dos </s>"],
    ("dos", "target", "separate"): ["anomalous . . .", ". dos . .", ". . target </s>"],
    ("dos", "target", "class"): [". dos . ."],
    ("recon", "source", "detection"): ["anomalous . . ."],
    ("normal", "", "separate"): ["normal </s>"],
}


@pytest.mark.parametrize(("label", "direction", "target"), PARTS)
@pytest.mark.parametrize("start", [None, 1])
def test_only_an_answer_s_parts_are_learned(label, direction, target, start):
    tokenizer = build_tokenizer(vocabulary())
    texts = pd.DataFrame({"text": ["quiet"], "label": [label], "direction": [direction]})
    examples = make_examples(texts, tokenizer, target, start)
    prompt = tokenizer(classification_prompt("quiet")).input_ids
    for row, parts in zip(examples, PARTS[label, direction, target], strict=True):
        learned = [
            "." if token == IGNORED else tokenizer.convert_ids_to_tokens(token)
            for token in row["labels"]
        ]
        if start is None:
            assert row["input_ids"][: len(prompt)] == prompt
            assert learned == ["."] * len(prompt) + parts.split()
        else:  # the decoder reads the whole answer, whatever is learned of it
            assert (row["input_ids"], learned) == (prompt, parts.split())
            assert row["decoder_input_ids"][0] == start
            assert len(row["decoder_input_ids"]) == len(learned)


def test_a_target_that_no_text_shows_is_refused():
    with pytest.raises(UserError, match="no text shows a class"):
        make_examples(TEXTS.iloc[:1], build_tokenizer(vocabulary()), "class")


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "t5"])
def test_texts_are_packed_where_attention_keeps_them_apart(shape, tmp_path):
    base = build_base(tmp_path / "base", shape)
    packs = can_pack(load_trainable(base, "full").model)
    assert packs == (shape != "bloom")  # ALiBi counts through
    knobs = Knobs(**QUICK, method="full", learning_rate=1e-2, packing=True)
    folders = (tmp_path / "out", tmp_path / "work")
    if packs:
        train(base, MANY, *folders, knobs)
        assert (truth_scores(LocalLLM(folders[0])) - truth_scores(LocalLLM(base))).mean() > 0.5
    else:
        with pytest.raises(UserError, match="would read packed texts as one"):
            train(base, MANY, *folders, knobs)


def test_a_run_ends_when_held_out_texts_get_worse_and_keeps_the_best(tmp_path):
    base = build_base(tmp_path / "base", "llama")
    other = TEXTS.assign(label=["dos", "normal", "normal", "dos"], direction="")
    knobs = Knobs(**{**QUICK, "epochs": 40}, method="full", learning_rate=1e-2, patience=2)
    done = train(base, MANY, tmp_path / "out", tmp_path / "work", knobs, held_out=other)
    assert done.ended == "early"
    assert done.steps < 480
    best = done.held_out_loss
    again = train(
        tmp_path / "out", MANY, tmp_path / "b", tmp_path / "c",
        Knobs(method="full", epochs=1, batch=8, learning_rate=1e-12), held_out=other,
    )  # fmt: skip
    assert again.held_out_loss == pytest.approx(best, rel=0.05)


def test_a_run_that_is_out_of_time_ends_with_weights(tmp_path):
    base = build_base(tmp_path / "base", "llama")
    knobs = Knobs(**{**QUICK, "epochs": 10_000}, max_minutes=1e-9)
    done = train(base, MANY, tmp_path / "out", tmp_path / "work", knobs, held_out=TEXTS)
    assert done.ended == "minutes"
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()


def test_a_half_written_checkpoint_is_thrown_away_and_the_one_before_goes_on(tmp_path):
    base = build_base(tmp_path / "base", "llama")
    knobs = Knobs(**QUICK, learning_rate=1e-2)
    whole = train(base, MANY, tmp_path / "a", tmp_path / "work", knobs, held_out=TEXTS)
    last = find_checkpoint(tmp_path / "work")
    assert last is not None
    (last / "whole.json").unlink()
    (last / "optimizer.pt").write_bytes(b"half")
    resumed = train(base, MANY, tmp_path / "b", tmp_path / "work", knobs, held_out=TEXTS)
    assert resumed.steps == whole.steps
    assert resumed.held_out_loss == pytest.approx(whole.held_out_loss, rel=1e-6)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda base: (base / "model.safetensors").rename(base / "model.bin"), "a pickle"),
        (lambda base: (base / "config.json").write_text("{"), "cannot be loaded"),
        (lambda base: (base / "model.safetensors").write_bytes(b"half"), "cannot be loaded"),
    ],
)
def test_a_base_that_cannot_be_trained_is_refused_in_one_line(spoil, message, tmp_path):
    base = build_base(tmp_path / "base", "llama")
    spoil(base)
    with pytest.raises(UserError, match=message) as caught:
        train(base, MANY, tmp_path / "out", tmp_path / "work")
    assert "\n" not in str(caught.value)


def test_a_text_too_long_for_the_base_and_rows_that_four_bits_do_not_fit_are_refused(tmp_path):
    base = build_base(tmp_path / "base", "llama")
    long = TEXTS.assign(text="sent " * 300)
    with pytest.raises(UserError, match="reads at most 256"):
        train(base, long, tmp_path / "out", tmp_path / "work")
    with pytest.raises(UserError, match="multiple of 64 for four bits"):
        train(base, MANY, tmp_path / "out", tmp_path / "work", Knobs(method="qlora"))
