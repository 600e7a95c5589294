"""Random bases of each shape that can be tuned, with the project's own closed vocabulary."""

from pathlib import Path
from typing import Any

from finetune.pocket.tokenizer import build_tokenizer
from prompts.window_text import vocabulary

SHAPES = ("llama", "gpt2", "bloom", "t5")


def build_base(folder: Path, shape: str, hidden: int = 32, **changes: object) -> Path:
    """A random model of one or two layers, saved as a model's folder."""
    import torch
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSeq2SeqLM,
        BloomConfig,
        GPT2Config,
        LlamaConfig,
        T5Config,
    )

    tokenizer = build_tokenizer(vocabulary(), 256)
    ends = {
        name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")
    }
    # Large enough to be told apart: LoRA moves small random weights by little.
    size: dict[str, Any] = {"vocab_size": len(tokenizer), "initializer_range": 0.3, **ends}
    torch.manual_seed(1)
    if shape == "t5":
        sized = {"d_model": hidden, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2}
        config: Any = T5Config(
            **{**size, **sized, "decoder_start_token_id": ends["pad_token_id"], **changes}
        )
        model = AutoModelForSeq2SeqLM.from_config(config)
    else:
        kind, sized = {
            "llama": (
                LlamaConfig,
                {
                    "hidden_size": hidden,
                    "intermediate_size": 2 * hidden,
                    "num_hidden_layers": 2,
                    "num_attention_heads": 2,
                    "max_position_embeddings": 256,
                },
            ),
            "gpt2": (GPT2Config, {"n_embd": hidden, "n_layer": 1, "n_head": 2, "n_positions": 256}),
            "bloom": (BloomConfig, {"hidden_size": hidden, "n_layer": 1, "n_head": 2}),
        }[shape]
        config = kind(**{**size, **sized, **changes})
        model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
