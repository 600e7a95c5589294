"""Models of a few thousand random weights, saved as real ones are: small enough for a test, whole
enough to load."""

import json
from collections.abc import Sequence
from pathlib import Path

from assistant.llm.adapters import AdapterCard, prompt_fingerprint
from traffic.labels import LABELS

TEXTS = [
    "normal traffic of a pump",
    "anomalous recon and anomalous brute_force",
    "anomalous unauthorized_command, anomalous device_silent",
    "the quick brown fox sent 12 packets and got 3",
]
WORDS = ["the", "quick", "brown", "fox", "sent", "12", "packets", "and", "got", "3"]
CHAT = "{% for m in messages %}<{{ m.role }}> {{ m.content }}\n{% endfor %}<reply> "


def build_model(
    folder: Path, chat: bool = False, words: Sequence[str] = (), **changes: object
) -> Path:
    """A random two-layer Llama, saved as a model folder; its tokens are byte pairs, or ``words``
    where given."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from finetune.pocket.tokenizer import build_tokenizer

    if words:
        tokenizer = build_tokenizer([*WORDS, *words])
    else:
        bpe = ByteLevelBPETokenizer()
        bpe.train_from_iterator(
            TEXTS, vocab_size=300, special_tokens=["<s>", "</s>"], show_progress=False
        )
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=bpe._tokenizer, bos_token="<s>", eos_token="</s>"
        )
    if chat:
        tokenizer.chat_template = CHAT
    torch.manual_seed(1)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, **changes}
    shape = {"num_attention_heads": 4, "initializer_range": 0.5, **shape}
    config = LlamaConfig(vocab_size=len(tokenizer), **shape)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_adapter(
    folder: Path, base: Path, rank: int, seed: int, layers: str = "", **config: object
) -> Path:
    """A random LoRA adapter of a tiny Llama, as PEFT saves one, of the linear layers whose names
    hold ``layers``."""
    import torch
    from safetensors.torch import load_file, save_file

    torch.manual_seed(seed)
    parts = {}
    for name, weight in load_file(base / "model.safetensors").items():
        if "_proj" in name and layers in name:
            stem = f"base_model.model.{name.removesuffix('.weight')}"
            parts[f"{stem}.lora_A.weight"] = torch.randn(rank, weight.shape[1]) / 4
            parts[f"{stem}.lora_B.weight"] = torch.randn(weight.shape[0], rank) / 4
    folder.mkdir(parents=True, exist_ok=True)
    save_file(parts, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def make_card(**changes: object) -> AdapterCard:
    """A card that fits this release, but for ``changes``."""
    values = {
        "name": "pocket", "base": "../base", "base_fingerprint": "0" * 64,
        "prompt_fingerprint": prompt_fingerprint(), "labels": LABELS, "temperature": 1.5,
        "threshold": 0.6, "data": ("simulated-1", "34-1"), "split": {"test": ("44-1",)}, "seed": 7,
        "metrics": {"44-1.recall": 0.5}, "made_by": "python -m finetune.pocket.make",
        "created": "2026-11-20",
    }  # fmt: skip
    return AdapterCard(**{**values, **changes})
