"""Experts of one base: what is chosen, what is computed, what a Mixtral begins as, and the way from
captures to a served site."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from labelled_folders import write_plants
from peft import ArrowConfig, XLoraConfig, create_arrow_model, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_bases import build_base
from tiny_models import build_adapter, make_card
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from assistant.cli.main import app, main
from assistant.llm.adapters import read_card, write_card
from assistant.llm.llama import Llama
from assistant.llm.local import LocalLLM
from assistant.llm.weights import fingerprint_weights
from assistant.registry import draft_folder, list_registered, register
from assistant.routed import ROUTER, RoutedLlama, RoutedLLM, Routing, choose_experts
from finetune.experts.adapter import make_experts
from finetune.experts.compute import count_compute
from finetune.experts.families import choose_families
from finetune.experts.mixtral import upcycle
from finetune.experts.router import LearningLlama, train_router, write_routed
from finetune.experts.shares import Shares, measure_routed
from finetune.experts.training import Experts
from finetune.sft import Knobs
from finetune.sites.adapter import Order
from prompts.messages import ANSWERS, classification_prompt
from traffic.errors import UserError
from traffic.labels import LABELS

CHOICES = [ANSWERS[label] for label in LABELS]
PROMPTS = [
    classification_prompt(text)
    for text in ("unanswered_out.mean=4 streak.max=9", "quiet", "out_pkts.mean=3 in_pkts.mean=2")
]
SMALL = [
    *("--plants", "0", "--per-label", "4", "--epochs", "1", "--batch", "8", "--rank", "4"),
    *("--max-minutes", "0.2"),
]


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("experts")
    return {
        "one": build_adapter(folder / "one", base, 4, 1),
        "two": build_adapter(folder / "two", base, 8, 2),
    }


def route(folder: Path, adapters: dict[str, Path], how: str, top_k: int = 1) -> Path:
    folder.mkdir()
    routing = Routing(routing=how, top_k=top_k, temperature=1.0, experts=tuple(adapters))
    write_routed(folder, adapters, routing, 32)
    return folder


def change(adapter: Path, part: str, value: torch.Tensor | float, row: int) -> None:
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    for name, tensor in tensors.items():
        if name.endswith(part):
            tensor[row] = value
    save_file(tensors, file)


@given(
    scores=st.lists(
        st.lists(st.floats(-20, 20, width=32), min_size=4, max_size=4), min_size=1, max_size=8
    ),
    top_k=st.integers(1, 4),
)
def test_weights_sum_to_one_over_the_best_experts(scores, top_k):
    gate = choose_experts(torch.tensor(scores), top_k, 1.0)
    assert torch.allclose(gate.weights.sum(dim=1), torch.ones(len(scores)), atol=1e-5)
    for row, chosen in zip(scores, gate.chosen.tolist(), strict=True):
        assert len(set(chosen)) == top_k
        assert sorted((row[one] for one in chosen), reverse=True) == sorted(row)[::-1][:top_k]


@pytest.mark.parametrize("how", ["xlora", "arrow"])
def test_only_the_chosen_expert_is_computed_and_it_is_the_adapter(how, base, adapters, tmp_path):
    folder = route(tmp_path / "routed", adapters, how)
    if how == "xlora":
        change(folder, f"{ROUTER}bias", 50.0, 1)
    else:
        change(folder, ".axis", 0.0, 0)
    for part in (".down", ".up"):
        change(folder, part, float("nan"), 0)  # whatever touched it would be NaN
    scores = RoutedLLM(base, folder).score(PROMPTS, CHOICES)
    alone = LocalLLM(base, adapters["two"]).score(PROMPTS, CHOICES)
    other = LocalLLM(base, adapters["one"]).score(PROMPTS, CHOICES)
    errors = [np.linalg.norm(one - alone) / np.linalg.norm(alone) for one in (scores, other)]
    assert errors[0] < 0.04 < 0.1 < errors[1]  # bf16 keeps 8 bits


def test_equal_weights_are_the_mean_of_both_adapters(base, adapters, tmp_path):
    folder = route(tmp_path / "both", adapters, "xlora", top_k=2)  # a new router has no preference
    mean = {}
    for path in adapters.values():
        part = load_file(path / "adapter_model.safetensors")
        for key, tensor in part.items():
            mean.setdefault(key, []).append(tensor / (2 if "lora_B" in key else 1))
    stacked = {
        key: torch.cat(parts, dim=1 if "lora_B" in key else 0) for key, parts in mean.items()
    }
    (tmp_path / "mean").mkdir()
    save_file(stacked, tmp_path / "mean" / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 12, "lora_alpha": 24}
    (tmp_path / "mean" / "adapter_config.json").write_text(json.dumps(config))
    scores = RoutedLLM(base, folder).score(PROMPTS, CHOICES)
    expected = LocalLLM(base, tmp_path / "mean").score(PROMPTS, CHOICES)
    assert np.linalg.norm(scores - expected) / np.linalg.norm(expected) < 0.04


@pytest.mark.parametrize("how", ["xlora", "arrow"])
def test_it_computes_what_peft_computes(how, base, tmp_path):
    # Of rank 1, so that PEFT's power iteration has nothing to come near to.
    layers = [f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")]
    paths = [
        build_adapter(tmp_path / f"expert-{n}", base, 1, n, target_modules=layers) for n in range(2)
    ]
    folder = route(tmp_path / "routed", dict(zip("ab", paths, strict=True)), how, top_k=2)
    router = {"weight": torch.randn(2, 32), "bias": torch.randn(2)}
    if how == "xlora":
        for name, value in router.items():
            for row in range(2):
                change(folder, f"{ROUTER}{name}", value[row], row)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if how == "xlora":
        model.config.use_cache = False
        # PEFT 0.21 bears no other names than their numbers.
        named = {str(number): str(path) for number, path in enumerate(paths)}
        config = XLoraConfig(
            task_type="CAUSAL_LM", hidden_size=32, adapters=named, enable_softmax=False,
            enable_softmax_topk=True, top_k_lora=2,
        )  # fmt: skip
        reference = get_peft_model(model, config)
        reference.base_model.internal_xlora_classifier.layers[0].load_state_dict(router)
    else:
        config = ArrowConfig(top_k=2, router_temperature=1.0)
        reference = create_arrow_model(model, [str(path) for path in paths], config)
    ids = torch.arange(5, 25)[None]
    places = torch.arange(20)
    with torch.inference_mode():
        theirs = reference.eval()(input_ids=ids, use_cache=False).logits[0]
        ours, _ = RoutedLlama(base, folder).logits(ids, None, places * 0, places, False)
        plain, _ = Llama(base).logits(ids, None, places * 0, places, False)
    apart = [torch.norm(one.float() - theirs) / torch.norm(theirs) for one in (ours, plain)]
    assert apart[0] < 0.04 < 0.1 < apart[1]  # bf16 keeps 8 bits


def test_a_mixtral_begins_as_its_dense_base_at_equal_active_parameters(base, tmp_path):
    upcycle(tmp_path / "sparse", base, 4, 0)
    scores = LocalLLM(tmp_path / "sparse").score(PROMPTS, CHOICES)
    dense = LocalLLM(base).score(PROMPTS, CHOICES)
    assert np.linalg.norm(scores - dense) / np.linalg.norm(dense) < 0.04
    costs = [count_compute(folder, None, 40) for folder in (base, tmp_path / "sparse")]
    router = 2 * 4 * 32  # layers, experts, hidden
    assert costs[1].active_parameters - costs[0].active_parameters == router
    mlp = 2 * 3 * 32 * 64
    assert costs[1].parameters - costs[0].parameters == mlp + router


def test_what_a_window_costs_is_counted_by_hand(base, adapters, tmp_path):
    vocabulary = json.loads((base / "config.json").read_text())["vocab_size"]
    linear = 2 * (4 * 32 * 32 + 3 * 32 * 64)
    norms = 5 * 32
    dense = count_compute(base, None, 10)
    stored = dense.parameters
    assert stored in (linear + norms + vocabulary * 32, linear + norms + 2 * vocabulary * 32)
    once = 2 * 10 * (linear + norms) + 4 * 10**2 * 32 * 2
    head = 2 * 2 * 32 * vocabulary
    assert dense.flops_a_window == once + head
    routed = count_compute(base, route(tmp_path / "x", adapters, "xlora"), 10)
    widths = 2 * (4 * (32 + 32) + 3 * (32 + 64))
    met = 8 * widths + 2 * 32 + 2  # one expert, padded to the larger rank, and the router
    assert routed.active_parameters == stored + met
    assert routed.flops_a_window == 2 * once + head + 2 * 10 * met


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plants(
        tmp_path_factory.mktemp("data"), (1, 2, 3), hours=0.1, scenarios=("recon", "service_down")
    )


@pytest.mark.parametrize("top_k", [1, 2])
def test_what_a_router_learns_from_reads_as_what_is_served(top_k, base, adapters, tmp_path):
    folder = route(tmp_path / "routed", adapters, "xlora", top_k)
    change(folder, f"{ROUTER}bias", 0.3, 1)
    ids, last = torch.tensor([[5, 6, 7, 8]]), torch.tensor([3])
    served, learned = (
        model(base, folder).logits(ids, None, torch.tensor([0]), last, False)[0]
        for model in (RoutedLlama, LearningLlama)
    )
    assert torch.allclose(served.float(), learned.float(), atol=0.05)


@pytest.mark.parametrize("names", [("one", "two"), ("two", "one")])
def test_a_router_learns_to_do_without_the_worse_expert(names, base, adapters, tmp_path):
    texts = pd.DataFrame({"text": ["streak.max=9", "out_pkts.mean=3"] * 16, "label": "recon"})
    losses = {}
    for sure in (*names, ""):  # a router that is sure of one expert learns nothing
        folder = route(tmp_path / f"by-{sure}", {name: adapters[name] for name in names}, "xlora")
        if sure:
            change(folder, f"{ROUTER}bias", 50.0, names.index(sure))
        work = tmp_path / f"work-{sure}"
        work.mkdir()
        losses[sure] = train_router(base, folder, texts, work, Knobs(epochs=8, batch=4)).loss
    assert losses["one"] > losses["two"] + 1
    assert losses[""] < losses["two"] + 0.3


@pytest.mark.parametrize("how", ["xlora", "arrow", "mixtral"])
def test_one_command_makes_experts_that_classify_uses(how, data, base, home):
    asked = ["finetune", "experts", "--base", str(base), "--data", str(data), "--site", "demo"]
    done = CliRunner().invoke(app, [*asked, "--how", how, *SMALL])
    assert done.exit_code == 0, done.output
    assert "parameters for a token" in done.output
    folder = home / "adapters" / "demo" / how
    metrics = read_card(folder).metrics
    assert metrics["compute.active_parameters"] < metrics["compute.parameters"]
    # A router is all that experts have more in use than a single adapter, which is merged.
    single = metrics["single.compute.active_parameters"]
    assert single == metrics["single.compute.parameters"] <= metrics["compute.active_parameters"]
    for prefix in ("", "single."):
        assert metrics[f"{prefix}compute.windows_a_s"] > 0
        assert 0 <= metrics[f"{prefix}calibration.recall"] <= 1
    names = ("part-1", "part-2", "part-3", "part-4") if how == "mixtral" else ("attacks", "faults")
    for label in ("load", "normal"):
        shares = [metrics[f"routing.{label}.{name}"] for name in names]
        assert sum(shares) == pytest.approx(1, abs=1e-3)
    assert 0 <= metrics["routing.told"] <= metrics["routing.entropy"] <= 1
    verdicts = CliRunner().invoke(
        app, ["classify", str(data / "plant-1"), "--site", "demo", "--format", "jsonl"]
    )
    assert verdicts.exit_code == 0, verdicts.output
    first = json.loads(verdicts.stdout.splitlines()[0])
    assert sum(first["probabilities"].values()) == pytest.approx(1.0, abs=1e-3)
    assert not (home / "training" / "demo").exists() or not any(
        (home / "training" / "demo").iterdir()
    )
    refused = ["finetune", "sft", "--base", str(base), "--data", str(data), "--site", "demo"]
    assert main([*refused, "--begin", str(folder), *SMALL]) == 2
    if how != "mixtral":
        merged = ["adapters", "merge", f"demo/{how}", "--site", "demo", "--family", "m"]
        assert main(merged) == 2


def test_a_killed_run_goes_on_and_shows_no_half_adapter(data, base, home):
    order = Order(base, (data,), "demo", plants=0, per_label=4)
    knobs = Knobs(rank=4, epochs=1, batch=8)
    trained: list[str] = []

    def die(doing: str, done: int, of: int) -> None:
        trained.append(doing)
        if doing == "training the router":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_experts(order, Experts("xlora"), knobs, home, progress=die)
    assert {"tuning on attacks", "tuning on faults"} <= set(trained)
    assert list_registered(home) == []
    again: list[str] = []
    made = make_experts(
        order, Experts("xlora"), knobs, home, progress=lambda doing, _done, _of: again.append(doing)
    )
    assert "tuning on attacks" not in again
    assert "training the router" in again
    assert [one.name for one in list_registered(home)] == ["demo/xlora"] == [made.adapter.name]


def test_shares_are_counted_of_tokens_by_label(base, adapters, tmp_path):
    folder = route(tmp_path / "routed", adapters, "xlora")
    change(folder, f"{ROUTER}bias", 50.0, 1)
    texts = pd.DataFrame({"text": ["quiet", "out_pkts.mean=3"], "label": ["normal", "recon"]})
    shares = measure_routed(base, folder, texts)
    assert shares.of_label.to_dict() == {
        "one": {"normal": 0.0, "recon": 0.0},
        "two": {"normal": 1.0, "recon": 1.0},
    }
    assert (shares.entropy, shares.told) == (0.0, 0.0)
    # By hand: load 5/8 and 3/8; H(5/8) = 0.9544, the mean of H(1) and H(1/4) is 0.4056.
    table = pd.DataFrame([[1, 0], [0.25, 0.75]], index=["normal", "recon"], columns=["one", "two"])
    known = Shares(("one", "two"), table)
    assert known.entropy == pytest.approx(0.9544, abs=1e-4)
    assert known.told == pytest.approx(0.9544 - 0.4056, abs=1e-4)


@pytest.mark.parametrize(
    ("by", "label", "kind", "missing"),
    [("labels", "recon", "iiot", "faults"), ("network", "recon", "general", "iiot")],
)
def test_one_family_alone_is_refused(by, label, kind, missing):
    texts = pd.DataFrame({"text": ["a", "b"], "label": ["normal", label], "kind": [kind, kind]})
    with pytest.raises(UserError, match=f"is of the family {missing} .anomalies: recon"):
        choose_families(texts, by)


def test_normal_windows_are_of_both_families_of_labels():
    labels = ["normal", "recon", "flapping"]
    texts = pd.DataFrame({"text": ["a", "b", "c"], "label": labels, "kind": "iiot"})
    families = choose_families(texts, "labels")
    assert {name: rows["label"].tolist() for name, rows in families.items()} == {
        "attacks": ["normal", "recon"],
        "faults": ["normal", "flapping"],
    }


def put(home: Path, name: str, base: Path, adapter: Path) -> None:
    site, family = name.split("/")
    draft = draft_folder(home, site, family)
    for file in adapter.iterdir():
        (draft / file.name).write_bytes(file.read_bytes())
    fits = {"name": name, "base": str(base), "base_fingerprint": fingerprint_weights(base)}
    write_card(make_card(**fits), draft)
    register(draft, site, family)


def test_what_cannot_be_experts_is_refused(home, base, adapters, data, tmp_path, capsys):
    other = build_base(tmp_path / "other", "llama", hidden=64)
    put(home, "demo/one", base, adapters["one"])
    put(home, "demo/foreign", other, build_adapter(tmp_path / "foreign", other, 4, 1))
    put(home, "demo/dora", base, build_adapter(tmp_path / "dora", base, 4, 1, use_dora=True))
    gpt2 = build_base(tmp_path / "gpt2", "gpt2")
    asked = ["finetune", "experts", "--data", str(data), "--site", "demo", "--base"]
    for words, message in (
        ([str(base), "--expert", "demo/one", "--expert", "demo/foreign"], "other weights"),
        ([str(base), "--expert", "demo/one", "--expert", "demo/dora"], "more than plain LoRA"),
        ([str(base), "--expert", "demo/one"], "1 different experts"),
        ([str(base), "--top-k", "3"], "3 for a token"),
        ([str(base), "--how", "mixtral", "--expert", "demo/one"], "no --expert"),
        ([str(gpt2)], "no small Llama"),
    ):
        assert main([*asked, *words]) == 2, words
        assert message in capsys.readouterr().err
    assert not (home / "training").exists()
    damaged = tmp_path / "damaged"
    route(damaged, adapters, "arrow")
    config = json.loads((damaged / "adapter_config.json").read_text())
    (damaged / "adapter_config.json").write_text(json.dumps(config | {"top_k": 5}))
    with pytest.raises(UserError, match="computes 5 of 2 experts"):
        RoutedLLM(base, damaged)
