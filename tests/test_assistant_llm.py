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
from peft import LoraConfig, get_peft_model
from tiny_models import WORDS, build_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma2Config, Gemma2ForCausalLM

from assistant.llm.adapters import load_adapter
from assistant.llm.answer_tree import build_choice_tree, make_batches
from assistant.llm.llama import Llama, fast_dtype, is_small_llama
from assistant.llm.local import LocalLLM
from assistant.llm.remembered import RememberedScores
from assistant.llm.transformer import Transformer
from assistant.pocket import POCKET
from prompts.messages import ANSWERS, classification_prompt
from prompts.window_text import vocabulary
from traffic.errors import UserError
from traffic.labels import LABELS

CHOICES = [
    "normal",
    *(f"anomalous {label}" for label in ("recon", "brute_force", "unauthorized_command", "dos")),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module", params=["own", "transformers"])
def llm(folder: Path, request: pytest.FixtureRequest) -> LocalLLM:
    """A small Llama, computed by our own module and by transformers."""
    return load(folder, request.param)


def load(folder: Path, how: str = "own") -> LocalLLM:
    llm = LocalLLM(folder)
    if how == "transformers":
        llm._model = llm._scorer.model = Transformer(folder)
    # Rounding to bf16 would hide a misread position behind a loose bound.
    if isinstance(llm._model, Llama):
        llm._model._weights = {name: one.float() for name, one in llm._model._weights.items()}
    else:
        llm._model.model.float()
    return llm


def naive(folder: Path, prompts: list[str], choices: list[str]) -> np.ndarray:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=fast_dtype()).float()
    sums = np.zeros((len(prompts), len(choices)))
    for i, prompt in enumerate(prompts):
        for j, choice in enumerate(choices):
            start = tokenizer(prompt).input_ids
            answer = tokenizer(choice, add_special_tokens=False).input_ids
            with torch.no_grad():
                logits = model(torch.tensor([start + answer])).logits[0].double().log_softmax(-1)
            sums[i, j] = sum(
                float(logits[len(start) - 1 + k, token]) for k, token in enumerate(answer)
            )
    return sums - np.logaddexp.reduce(sums, axis=1, keepdims=True)


def check_scores(
    llm: LocalLLM, folder: Path, prompts: list[str], choices: list[str] = CHOICES
) -> None:
    expected = naive(folder, prompts, choices)
    np.testing.assert_allclose(llm.score(prompts, choices), expected, atol=1e-3)


def test_a_score_is_one_pass_per_choice_of_several_tokens(llm, folder):
    assert len(llm._model.encode(["anomalous brute_force"], special=False)[0]) > 2
    fox = "the quick brown fox"
    check_scores(llm, folder, ["pump", fox, "sent 12 packets and got 3", "a", fox])


@pytest.mark.parametrize("how", ["own", "transformers"])
def test_score_equals_one_pass_per_choice_when_one_token_decides(tmp_path, how):
    llm = load(build_model(tmp_path, words=WORDS), how)
    check_scores(
        llm, tmp_path, ["fox sent 12\n", "the quick brown fox got 3 packets\nverdict\n", "got\n"]
    )


def test_the_shipped_model_says_the_same_of_a_window_whatever_else_is_scored():
    llm, _ = load_adapter()
    words = vocabulary()[1:]
    rng = np.random.default_rng(5)
    lengths = rng.integers(1, 90, 150)
    prompts = [classification_prompt(" ".join(rng.choice(words, n))) for n in lengths]
    choices = [ANSWERS[label] for label in LABELS]
    together = llm.score(prompts, choices)
    alone = np.concatenate([llm.score([prompt], choices) for prompt in prompts[:12]])
    parts = np.concatenate([llm.score(prompts[:70], choices), llm.score(prompts[70:], choices)])
    assert (together[:12] == alone).all()
    assert (together == parts).all()


@pytest.mark.parametrize("how", ["own", "transformers"])
@pytest.mark.parametrize("words", [(), WORDS])
def test_a_shared_beginning_computed_once_changes_nothing(tmp_path, words, how):
    llm = load(build_model(tmp_path, words=words), how)
    rests = ("and got 3", "got", "and got 3 3 3", "fox")
    prompts = ["the quick brown fox sent 12 packets " * 12 + rest for rest in rests]
    check_scores(llm, tmp_path, prompts)
    alone = np.concatenate([llm.score([prompt], CHOICES) for prompt in prompts])
    np.testing.assert_allclose(llm.score(prompts, CHOICES), alone, atol=1e-4)


def test_one_choice_may_begin_another(llm, folder):
    check_scores(llm, folder, ["pump"], ["normal", "normal traffic", "anomalous"])


def test_a_model_that_caps_its_logits_is_scored_with_the_cap(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(build_model(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    torch.manual_seed(2)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.5}
    heads["final_logit_softcapping"] = 2.0
    config = Gemma2Config(vocab_size=len(tokenizer), **shape, **heads)
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    llm = load(tmp_path)
    assert not llm._model._has_plain_head
    check_scores(llm, tmp_path, ["the quick brown fox", "sent"])


def test_scores_are_normalised_and_nothing_gives_nothing(llm):
    scores = llm.score(["pump", "fox"], CHOICES)
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), [1, 1], atol=1e-5)
    assert llm.score([], CHOICES).shape == (0, len(CHOICES))


def test_equal_prompts_are_scored_once(llm):
    counts: list[tuple[int, int]] = []
    prompts = ["pump", "fox", "pump", "pump"]
    scores = llm.score(prompts, CHOICES, progress=lambda done, of: counts.append((done, of)))
    assert counts[-1] == (2, 2)
    np.testing.assert_array_equal(scores[0], scores[3])


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 1000), st.booleans())
def test_batches_hold_every_row_once_within_the_budget(lengths, budget, equal):
    batches = make_batches(lengths, budget, equal)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        widths = [lengths[i] for i in batch]
        assert len(batch) == 1 or len(batch) * max(widths) <= budget
        assert not equal or len(set(widths)) == 1


def test_choices_without_tokens_or_alike_are_a_bug():
    for choices in ([], [[1], []], [[1, 2], [1, 2]]):
        with pytest.raises(ValueError, match="at least one token"):
            build_choice_tree(choices)


def test_the_tree_reads_every_inner_node_of_two_paths():
    tree = build_choice_tree([[1, 2], [1, 3, 4], [5, 6]])
    assert tree.paths == ((1, 3), (5,))  # (1,) is read on the way to (1, 3)
    assert tree.nodes == ((0, 0), (0, 1), (0, 2), (1, 1))
    assert tree.steps[1] == ((0, 1), (1, 3), (2, 4))


def test_streaming_writes_what_greedy_generation_writes(tmp_path):
    llm = load(build_model(tmp_path, chat=True))
    messages = [{"role": "user", "content": "the quick brown fox"}]
    ids = torch.tensor(llm._model.encode([llm.render(messages)], special=False))
    expected = llm._model.model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
    text = AutoTokenizer.from_pretrained(tmp_path).decode(expected, skip_special_tokens=True)
    assert "".join(llm.stream(messages, 12)).rstrip("\ufffd") == text.rstrip("\ufffd")


def test_a_model_without_a_chat_template_says_that_it_cannot_chat(llm):
    assert not llm.chat_capable
    with pytest.raises(UserError, match="no chat template"):
        list(llm.stream([{"role": "user", "content": "why?"}], 4))


def test_a_prompt_beyond_the_context_is_refused(tmp_path):
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
def test_an_incomplete_model_is_refused_with_its_path(folder, tmp_path, missing, message):
    broken = _without(shutil.copytree(folder, tmp_path / "broken"), *missing)
    with pytest.raises(UserError, match=message) as caught:
        LocalLLM(broken)
    assert str(broken) in str(caught.value)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="no model folder"):
        LocalLLM(tmp_path / "nowhere")


def test_pickled_weights_are_refused(folder, tmp_path):
    broken = _without(shutil.copytree(folder, tmp_path / "broken"), "model.safetensors")
    torch.save({}, broken / "pytorch_model.bin")
    with pytest.raises(UserError, match="a pickle"):
        LocalLLM(broken)


OWN = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}
T5 = {"model_type": "t5", "is_encoder_decoder": True}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param({"model.safetensors": None}, "cannot be loaded", id="damaged weights"),
        pytest.param({"config.json": json.dumps(T5)}, "sequence-to-sequence", id="sequence to sequence"),
        pytest.param({"config.json": json.dumps({"model_type": "own", "auto_map": OWN}),
                      "own.py": "raise SystemExit('ran')\n"}, "cannot be loaded", id="code that is not run"),
    ],
)  # fmt: skip
def test_a_model_that_is_none_of_ours_is_refused(folder, tmp_path, files, message):
    broken = shutil.copytree(folder, tmp_path / "broken")
    for name, text in files.items():
        cut = (folder / name).read_bytes()[:500] if text is None else text.encode()
        (broken / name).write_bytes(cut)
    with pytest.raises(UserError, match=message):
        LocalLLM(broken)


def test_an_adapter_is_merged(folder, tmp_path):
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_pretrained(folder)
    lora = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    tuned = get_peft_model(model, lora)
    tuned.save_pretrained(tmp_path / "adapter")
    ids, places = torch.tensor([[5, 6, 7]]), torch.arange(3)
    adapter = tmp_path / "adapter"
    models = [Llama(folder, adapter), Transformer(folder, adapter), Llama(folder)]
    with torch.no_grad():
        expected = tuned(ids).logits
        own, theirs, plain = (
            model.logits(ids, None, torch.tensor([0]), places, False)[0] for model in models
        )
        errors = [float((one - expected).norm() / expected.norm()) for one in (own, theirs, plain)]
    assert errors[0] < 0.05 < 0.5 < errors[2]  # bf16 keeps 8 bits
    assert torch.equal(own, theirs)


@pytest.mark.parametrize(
    "changes",
    [{}, {"num_key_value_heads": 2}, {"tie_word_embeddings": True}, {"head_dim": 4}],
    ids=str,
)
def test_our_llama_is_transformers_to_the_bit(tmp_path, changes):
    folder = build_model(tmp_path, **changes)
    assert is_small_llama(folder)
    prompts = ["the quick brown fox sent 12", "pump", "got 3 and 3 and 3"]
    own, theirs = LocalLLM(folder), LocalLLM(folder)
    theirs._model = theirs._scorer.model = Transformer(folder)
    assert own._model.encode(prompts, True) == theirs._model.encode(prompts, True)
    np.testing.assert_array_equal(own.score(prompts, CHOICES), theirs.score(prompts, CHOICES))


def test_the_shipped_model_is_computed_without_transformers():
    own, _ = load_adapter()
    theirs, card = load_adapter()
    theirs._model = theirs._scorer.model = Transformer(POCKET / card.base, POCKET)
    prompts = [classification_prompt(text) for text in ("quiet", "past known 12 peers 3 quiet")]
    answers = [*ANSWERS.values()]
    assert isinstance(own._model, Llama)
    np.testing.assert_array_equal(own.score(prompts, answers), theirs.score(prompts, answers))


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "qwen2"},
        {"attention_bias": True},
        {"hidden_act": "gelu"},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0}},
        {"hidden_size": 1024},
    ],
    ids=str,
)
def test_what_our_llama_does_not_compute_is_left_to_transformers(folder, tmp_path, change):
    other = shutil.copytree(folder, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | change))
    assert is_small_llama(folder)
    assert not is_small_llama(other)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "use_dora": true}')
    assert not is_small_llama(folder, tmp_path)


def test_a_folder_without_an_adapter_is_refused(folder, tmp_path):
    with pytest.raises(UserError, match="no adapter in"):
        LocalLLM(folder, tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match="a pickle"):
        LocalLLM(folder, tmp_path)


def test_a_prompt_that_comes_again_is_scored_once():
    asked = []

    class Lengths:
        chat_capable = False

        def score(self, prompts, choices, progress=None):
            asked.extend(prompts)
            return np.array([[len(prompt)] * len(choices) for prompt in prompts], np.float32)

    scorer = RememberedScores(Lengths())
    assert scorer.score(["a", "bb", "a"], ["x", "y"]).tolist() == [[1, 1], [2, 2], [1, 1]]
    assert scorer.score(["ccc", "a"], ["x", "y"]).tolist() == [[3, 3], [1, 1]]
    assert asked == ["a", "bb", "ccc"]
    assert scorer.score(["a"], ["x", "z", "w"]).tolist() == [[1, 1, 1]]


def test_of_many_prompts_the_latest_are_kept():
    asked = []

    class Lengths:
        chat_capable = False

        def score(self, prompts, choices, progress=None):
            asked.extend(prompts)
            return np.array([[len(prompt)] for prompt in prompts], np.float32)

    scorer = RememberedScores(Lengths(), most=2)
    scorer.score(["a", "bb"], ["x"])  # the newer half is full, and becomes the older one
    assert scorer.score(["a", "ccc"], ["x"]).tolist() == [[1], [3]]  # full again: bb is let go
    assert scorer.score(["a"], ["x"]).tolist() == [[1]]
    assert asked == ["a", "bb", "ccc"]
    assert scorer.score(["bb", "ccc", "dddd"], ["x"]).tolist() == [[2], [3], [4]]
    assert asked == ["a", "bb", "ccc", "bb", "dddd"]
