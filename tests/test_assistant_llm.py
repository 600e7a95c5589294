"""Scoring is compared with its definition: a pass per prompt and choice, token log-probabilities
summed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import WORDS, build_model

from assistant.llm.answer_tree import build_choice_tree, make_batches
from assistant.llm.local import LocalLLM
from traffic.errors import UserError

CHOICES = [
    "normal",
    "anomalous recon",
    "anomalous brute_force",
    "anomalous unauthorized_command",
    "anomalous dos",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def llm(folder: Path) -> LocalLLM:
    return _exact(LocalLLM(folder))


def _exact(llm: LocalLLM) -> LocalLLM:
    llm._model.float()  # rounding to bf16 would hide a misread position behind a loose bound
    return llm


def naive(llm: LocalLLM, prompts: list[str], choices: list[str]) -> np.ndarray:
    sums = np.zeros((len(prompts), len(choices)))
    for i, prompt in enumerate(prompts):
        for j, choice in enumerate(choices):
            start = llm._tokenizer(prompt, add_special_tokens=not llm.chat_capable).input_ids
            answer = llm._tokenizer(choice, add_special_tokens=False).input_ids
            with torch.no_grad():
                logits = (
                    llm._model(torch.tensor([start + answer])).logits[0].double().log_softmax(-1)
                )
            sums[i, j] = sum(
                float(logits[len(start) - 1 + k, token]) for k, token in enumerate(answer)
            )
    return sums - np.logaddexp.reduce(sums, axis=1, keepdims=True)


def test_score_equals_one_pass_per_choice_for_multi_token_labels(llm: LocalLLM) -> None:
    prompts = [
        "pump",
        "the quick brown fox",
        "sent 12 packets and got 3",
        "a",
        "the quick brown fox",
    ]
    assert len(llm._tokenizer("anomalous brute_force", add_special_tokens=False).input_ids) > 2
    np.testing.assert_allclose(llm.score(prompts, CHOICES), naive(llm, prompts, CHOICES), atol=1e-3)


def test_score_equals_one_pass_per_choice_when_one_token_decides(tmp_path: Path) -> None:
    llm = _exact(LocalLLM(build_model(tmp_path, words=WORDS)))
    prompts = ["fox sent 12\n", "the quick brown fox got 3 packets\nverdict\n", "got\n"]
    np.testing.assert_allclose(llm.score(prompts, CHOICES), naive(llm, prompts, CHOICES), atol=1e-3)


@pytest.mark.parametrize("words", [(), WORDS])
def test_a_shared_beginning_computed_once_changes_nothing(tmp_path: Path, words: list[str]) -> None:
    llm = _exact(LocalLLM(build_model(tmp_path, words=words)))
    prompts = [
        "the quick brown fox sent 12 packets " * 12 + rest
        for rest in ("and got 3", "got", "and got 3 3 3", "fox")
    ]
    np.testing.assert_allclose(llm.score(prompts, CHOICES), naive(llm, prompts, CHOICES), atol=1e-3)
    alone = np.concatenate([llm.score([prompt], CHOICES) for prompt in prompts])
    np.testing.assert_allclose(llm.score(prompts, CHOICES), alone, atol=1e-4)


def test_one_choice_may_begin_another(llm: LocalLLM) -> None:
    choices = ["normal", "normal traffic", "anomalous"]
    np.testing.assert_allclose(
        llm.score(["pump"], choices), naive(llm, ["pump"], choices), atol=1e-3
    )


def test_a_model_that_caps_its_logits_is_scored_with_the_cap(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, Gemma2Config, Gemma2ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(build_model(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    torch.manual_seed(2)
    shape = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "head_dim": 8,
    }
    heads = {"num_key_value_heads": 2, "initializer_range": 0.5, "final_logit_softcapping": 2.0}
    config = Gemma2Config(vocab_size=len(tokenizer), **shape, **heads)
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    llm = _exact(LocalLLM(tmp_path))
    assert not llm._has_plain_head
    prompts = ["the quick brown fox", "sent"]
    np.testing.assert_allclose(llm.score(prompts, CHOICES), naive(llm, prompts, CHOICES), atol=1e-3)


def test_scores_are_normalised_and_nothing_gives_nothing(llm: LocalLLM) -> None:
    scores = llm.score(["pump", "fox"], CHOICES)
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), [1, 1], atol=1e-5)
    assert llm.score([], CHOICES).shape == (0, len(CHOICES))


def test_equal_prompts_are_scored_once(llm: LocalLLM) -> None:
    counts: list[tuple[int, int]] = []
    scores = llm.score(
        ["pump", "fox", "pump", "pump"],
        CHOICES,
        progress=lambda done, of: counts.append((done, of)),
    )
    assert counts[-1] == (2, 2)
    np.testing.assert_array_equal(scores[0], scores[3])


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 1000), st.booleans())
def test_batches_hold_every_row_once_within_the_budget(
    lengths: list[int], budget: int, equal: bool
) -> None:
    batches = make_batches(lengths, budget, equal)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        widths = [lengths[i] for i in batch]
        assert len(batch) == 1 or len(batch) * max(widths) <= budget
        assert not equal or len(set(widths)) == 1


def test_choices_without_tokens_or_alike_are_a_bug() -> None:
    for choices in ([], [[1], []], [[1, 2], [1, 2]]):
        with pytest.raises(ValueError, match="at least one token"):
            build_choice_tree(choices)


def test_the_tree_reads_every_inner_node_of_two_paths() -> None:
    tree = build_choice_tree([[1, 2], [1, 3, 4], [5, 6]])
    assert tree.paths == ((1, 3), (5,))  # (1,) is read on the way to (1, 3)
    assert tree.nodes == ((0, 0), (0, 1), (0, 2), (1, 1))
    assert tree.steps[1] == ((0, 1), (1, 3), (2, 4))


def test_streaming_writes_what_greedy_generation_writes(tmp_path: Path) -> None:
    llm = _exact(LocalLLM(build_model(tmp_path, chat=True)))
    messages = [{"role": "user", "content": "the quick brown fox"}]
    ids = llm._tokenizer(
        llm.render(messages), add_special_tokens=False, return_tensors="pt"
    ).input_ids
    expected = llm._model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
    assert "".join(llm.stream(messages, 12)).rstrip("\ufffd") == llm._tokenizer.decode(
        expected, skip_special_tokens=True
    ).rstrip("\ufffd")


def test_a_model_without_a_chat_template_says_that_it_cannot_chat(llm: LocalLLM) -> None:
    assert not llm.chat_capable
    with pytest.raises(UserError, match="no chat template"):
        list(llm.stream([{"role": "user", "content": "why?"}], 4))


def test_a_prompt_beyond_the_context_is_refused(tmp_path: Path) -> None:
    llm = LocalLLM(build_model(tmp_path, max_position_embeddings=16))
    with pytest.raises(UserError, match="reads at most 16"):
        llm.score(["the quick brown fox " * 10], CHOICES)


def _without(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).unlink()
    return folder


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (["model.safetensors"], "no weights"),
        (["config.json"], "no config.json"),
        (["tokenizer.json", "tokenizer_config.json"], "no tokenizer"),
    ],
)
def test_an_incomplete_model_is_refused_with_its_path(
    folder: Path, tmp_path: Path, missing: list[str], message: str
) -> None:
    broken = _without(shutil.copytree(folder, tmp_path / "broken"), *missing)
    with pytest.raises(UserError, match=message) as caught:
        LocalLLM(broken)
    assert str(broken) in str(caught.value)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model folder"):
        LocalLLM(tmp_path / "nowhere")


def test_pickled_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    broken = _without(shutil.copytree(folder, tmp_path / "broken"), "model.safetensors")
    torch.save({}, broken / "pytorch_model.bin")
    with pytest.raises(UserError, match="a pickle"):
        LocalLLM(broken)


def test_damaged_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:500])
    with pytest.raises(UserError, match="cannot be loaded"):
        LocalLLM(broken)


def test_a_sequence_to_sequence_model_is_refused(folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(folder, tmp_path / "t5")
    (broken / "config.json").write_text(
        json.dumps({"model_type": "t5", "is_encoder_decoder": True})
    )
    with pytest.raises(UserError, match="sequence-to-sequence"):
        LocalLLM(broken)


def test_code_in_a_model_folder_is_not_run(folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(folder, tmp_path / "custom")
    config = {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"},
    }
    (broken / "config.json").write_text(json.dumps(config))
    (broken / "own.py").write_text("raise SystemExit('ran')\n")
    with pytest.raises(UserError, match="cannot be loaded"):
        LocalLLM(broken)


def test_an_adapter_is_merged(folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tuned = get_peft_model(
        model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    )
    tuned.save_pretrained(tmp_path / "adapter")
    llm, plain = LocalLLM(folder, tmp_path / "adapter"), LocalLLM(folder)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        expected = tuned(ids).logits
        errors = [
            float((model._model(ids).logits.float() - expected).norm() / expected.norm())
            for model in (llm, plain)
        ]
    assert errors[0] < 0.05 < 0.5 < errors[1]  # bf16 keeps 8 bits


def test_a_folder_without_an_adapter_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no adapter in"):
        LocalLLM(folder, tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match="a pickle"):
        LocalLLM(folder, tmp_path)
