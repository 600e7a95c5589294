"""Models of a few thousand random weights, saved as real ones are: small enough for a test, whole enough to load."""

from collections.abc import Sequence
from pathlib import Path

TEXTS = [
    "normal traffic of a pump",
    "anomalous recon and anomalous brute_force",
    "anomalous unauthorized_command, anomalous device_silent",
    "the quick brown fox sent 12 packets and got 3",
]
WORDS = ["the", "quick", "brown", "fox", "sent", "12", "packets", "and", "got", "3"]
CHAT = "{% for m in messages %}<{{ m.role }}> {{ m.content }}\n{% endfor %}<reply> "


def build_model(folder: Path, chat: bool = False, words: Sequence[str] = (), **changes: object) -> Path:
    """A random two-layer Llama with a byte-level BPE tokenizer (or one token for each of ``words``), saved as a model folder."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from finetune.tokenizer import build_tokenizer

    if words:
        tokenizer = build_tokenizer(["the", "quick", "brown", "fox", "sent", "12", "packets", "and", "got", "3"])
    else:
        bpe = ByteLevelBPETokenizer()
        bpe.train_from_iterator(TEXTS, vocab_size=300, special_tokens=["<s>", "</s>"], show_progress=False)
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, bos_token="<s>", eos_token="</s>")
    if chat:
        tokenizer.chat_template = CHAT
    torch.manual_seed(1)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=len(tokenizer), initializer_range=0.5, **{**shape, **changes})
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
