"""Base models, loaded to be trained: whole, with an adapter, or frozen in four bits under one.

full     every weight is trained: the most memory, a copy of the base for each site
lora     W + B A (Hu et al. 2021, arXiv 2106.09685): one to two weights in a hundred are trained
dora     LoRA with the length of each column apart (Liu et al. 2024, arXiv 2402.09353); a third slower
qlora    LoRA on a base of NF4 (Dettmers et al. 2023, arXiv 2305.14314): an eighth of its memory
osf      the lesser half of each weight's singular directions, at right angles to the greater, which
         stays (Nayak et al. 2025, arXiv 2504.07097): `finetune refresh --how osf`, against forgetting
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from peft import (
    LoraConfig,
    OSFConfig,
    PeftModel,
    TaskType,
    get_peft_model,
    prepare_model_for_kbit_training,
)
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    set_seed,
)
from transformers.pytorch_utils import Conv1D
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from assistant.llm.llama import SMALL_HIDDEN, fast_dtype
from assistant.llm.weights import check_model_folder, unloadable
from assistant.registry import refuse_routed
from traffic.errors import UserError

Method = Literal["lora", "dora", "qlora", "full", "osf"]
WHOLE: tuple[Method, ...] = ("full", "osf")  # what comes out is a model, no adapter
_HERE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
# Loaded in float32, since small steps vanish in bf16's eight bits; larger bases lie still under
# their adapter, and half the bytes are half the time.
_LARGE_HIDDEN = SMALL_HIDDEN
_BLOCK = 64  # weights that share a scale in NF4


@dataclass(frozen=True)
class Trainable:
    """A model that is ready to be trained.

    Attributes:
        model: transformers' own, or PEFT's around it.
        tokenizer: the base's, with a token to pad with.
        seq2seq: it has an encoder and a decoder.
        context: tokens that it reads at most, where its configuration says so.
    """

    model: Any
    tokenizer: Any
    seq2seq: bool
    context: int | None


def load_trainable(
    base: Path, method: Method = "lora", rank: int = 32, seed: int = 0, begin: Path | None = None
) -> Trainable:
    """Load a base to train it by a method.

    Args:
        base: a causal or sequence-to-sequence model's folder, safetensors only.
        method: what is trained.
        rank: of an adapter's matrices, on every linear layer.
        seed: of an adapter's first weights.
        begin: what an earlier phase of the same method made; training goes on from it.

    Raises:
        UserError: the base cannot be loaded, or not in four bits, or ``begin`` holds experts.
    """
    check_model_folder(base)
    if begin is not None:
        refuse_routed(begin)
    set_seed(seed)
    disable_progress_bar()
    set_verbosity_error()  # it warns its developers of tied weights and of file times
    # On import through peft, bitsandbytes tells of kernels that would have to be fetched.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # At the end of each look at held-out texts accelerate tells its developers of remainders.
    logging.getLogger("accelerate").setLevel(logging.WARNING)
    source = begin if begin is not None and method == "full" else base
    try:
        config = AutoConfig.from_pretrained(source, **_HERE)
        tokenizer = AutoTokenizer.from_pretrained(base, **_HERE)
        kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        options = {**_options(config, method), **_HERE}
        model = kind.from_pretrained(source, use_safetensors=True, **options)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise unloadable(base, error) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if method != "full":
        model = _add_adapter(model, method, rank, config.is_encoder_decoder, begin)
    return Trainable(model, tokenizer, config.is_encoder_decoder, _context(config))


def can_pack(model: Any) -> bool:
    """Whether a model reads two texts in one row as it reads them apart, which packing needs.

    It depends on whether its attention follows the positions that start anew; ALiBi (BLOOM) counts
    through.
    """
    one, other = torch.tensor([[5, 6, 7]]), torch.tensor([[8, 5, 9, 6]])
    row = {
        "input_ids": torch.cat([one, other], dim=1),
        "position_ids": torch.cat([torch.arange(3), torch.arange(4)])[None],
    }
    trained = model.training
    model.eval()
    try:
        with torch.inference_mode():
            apart = model(input_ids=other.to(model.device), use_cache=False).logits
            packed = model(
                **{name: value.to(model.device) for name, value in row.items()}, use_cache=False
            ).logits
    except (TypeError, ValueError):
        return False
    finally:
        model.train(trained)
    return bool(torch.allclose(apart, packed[:, 3:], atol=1e-3, rtol=1e-3))


def _options(config: Any, method: Method) -> dict[str, Any]:
    """How transformers load the weights."""
    large = getattr(config, "hidden_size", _LARGE_HIDDEN + 1) > _LARGE_HIDDEN
    if method == "qlora":
        four = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=fast_dtype(),
        )
        return {"quantization_config": four, "dtype": fast_dtype()}
    options: dict[str, Any] = {
        "dtype": fast_dtype() if large and method not in WHOLE else torch.float32
    }
    if not large and not torch.cuda.is_available():
        # torch's fused attention takes 1.5 times as long on a CPU at these lengths.
        options["attn_implementation"] = "eager"
    return options


def _add_adapter(model: Any, method: Method, rank: int, seq2seq: bool, begin: Path | None) -> Any:
    if method == "osf":
        task = TaskType.SEQ_2_SEQ_LM if seq2seq else TaskType.CAUSAL_LM
        model = get_peft_model(model, OSFConfig(target_modules="all-linear", task_type=task))
        if not any(weight.requires_grad for weight in model.parameters()):
            raise UserError(  # peft passes over GPT-2's transposed layers in silence
                "osf finds no layer of this base that it can take apart; expected linear layers; "
                "use --how replay"
            )
        return model
    if method == "qlora":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if begin is not None:
        return PeftModel.from_pretrained(model, begin, is_trainable=True, local_files_only=True)
    if method == "qlora":
        _check_blocks(model)
    shape = LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules="all-linear",
        use_dora=method == "dora",
        fan_in_fan_out=any(isinstance(part, Conv1D) for part in model.modules()),  # GPT-2
        task_type=TaskType.SEQ_2_SEQ_LM if seq2seq else TaskType.CAUSAL_LM,
    )
    try:
        return get_peft_model(model, shape)
    except ValueError as error:
        raise UserError(
            f"no adapter fits this base ({str(error).splitlines()[0][:200]}); "
            "expected linear layers; use --method full"
        ) from error


def _check_blocks(model: Any) -> None:
    """bitsandbytes computes on a CPU only what divides into its blocks."""
    for name, part in model.named_modules():
        # By its name: bitsandbytes is imported by transformers, where four bits are asked for.
        if type(part).__name__ == "Linear4bit" and part.in_features % _BLOCK:
            raise UserError(
                f"{name} reads {part.in_features} numbers; expected a multiple of {_BLOCK} for four bits; "
                "use --method lora"
            )


def _context(config: Any) -> int | None:
    found = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    # T5's own number is what it was pretrained on: its positions are relative and have no end.
    return None if config.is_encoder_decoder else found
