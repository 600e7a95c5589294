"""A Mixtral-shaped model that begins as a dense Llama: sparse upcycling, cut fine.

Each MLP is cut into halves, and each half is an expert as often as there are copies; a token takes
two (Komatsuzaki et al. 2022, arXiv 2212.05055; He et al. 2024, arXiv 2410.07524):

    Llama   gate, up, down of width 528        Mixtral   4 experts of width 264, 2 for a token

So a token meets as many parameters as before, but for the router's few. The halves of one copy
begin with one router row, so that at first a token takes both halves of a copy and the model is the
dense one; training then tells the experts apart.
"""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from assistant.llm.weights import HERE
from traffic.errors import UserError
from traffic.files import write_text

CHOSEN = 2  # halves that make a whole
_BALANCE = 0.01  # weight of the loss that keeps experts in use
_SAME = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim"),
    *("num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "rope_parameters"),
    *("tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id"),
)


def check_halves(base: Path, experts: int) -> None:
    """Check that a base can be cut into halves, so many of them.

    Raises:
        UserError: its MLP is not of even width, or the number is odd or below four.
    """
    if experts % CHOSEN or experts < 2 * CHOSEN:
        raise UserError(f"{experts} experts; expected an even number, 4 or more; correct --experts")
    wide = json.loads((base / "config.json").read_text(encoding="utf-8"))["intermediate_size"]
    if wide % CHOSEN:
        raise UserError(f"{base} has an MLP of width {wide}; expected an even one; choose another")


def upcycle(folder: Path, base: Path, experts: int, seed: int) -> None:
    """Write a Mixtral that computes what a dense Llama computes, ready to be trained.

    Args:
        folder: gets the model and the tokenizer.
        base: a small Llama's folder that `check_halves` passes with this number.
        experts: how many.
        seed: of the router.

    """
    dense = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32, **HERE)
    wide = dense.config.intermediate_size
    config = MixtralConfig(
        intermediate_size=wide // CHOSEN,
        num_local_experts=experts,
        num_experts_per_tok=CHOSEN,
        output_router_logits=True,
        router_aux_loss_coef=_BALANCE,
        sliding_window=None,
        **{name: getattr(dense.config, name) for name in _SAME},
    )
    torch.manual_seed(seed)
    sparse = MixtralForCausalLM(config)
    with torch.no_grad():
        shared = {
            name: weight for name, weight in dense.state_dict().items() if ".mlp." not in name
        }
        sparse.load_state_dict(shared, strict=False)
        for one, other in zip(sparse.model.layers, dense.model.layers, strict=True):
            _fill(one.mlp, other.mlp, wide // CHOSEN)
    sparse.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base, **HERE).save_pretrained(folder)


def serve_quietly(folder: Path) -> None:
    """Leave the loss that balances a Mixtral's experts to training."""
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    write_text(file, json.dumps(config | {"output_router_logits": False}, indent=2) + "\n")


def _fill(sparse: Any, dense: Any, half: int) -> None:
    rows = sparse.gate.weight
    for expert in range(len(rows)):
        part = slice(expert % CHOSEN * half, (expert % CHOSEN + 1) * half)
        rows[expert] = rows[expert - expert % CHOSEN]
        halves = (dense.gate_proj.weight[part], dense.up_proj.weight[part])
        sparse.experts.gate_up_proj[expert] = torch.cat(halves)
        # The weights of the two are a half each at first.
        sparse.experts.down_proj[expert] = CHOSEN * dense.down_proj.weight[:, part]
