"""Model and adapter folders: looked at before anything in them is loaded, then loaded without
running their code.

Weights are safetensors only: a pickle can run code when it is opened.
"""

import hashlib
import logging
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from traffic.errors import UserError

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")


def check_model_folder(folder: Path) -> None:
    """Check that a folder holds a model that can be loaded offline and safely.

    Raises:
        UserError: the folder, its config.json, its tokenizer or its safetensors weights are
            missing.
    """
    if not folder.is_dir():
        raise UserError(
            f"no model folder {folder}; expected a Hugging Face model on disk; give the folder's path"
        )
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{folder} has no config.json; expected a Hugging Face model folder; give another path"
        )
    _check_weights(folder, "model")
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise UserError(
            f"{folder} has no tokenizer; expected tokenizer.json beside the weights; copy it there"
        )


def check_adapter_folder(folder: Path) -> None:
    """Check that a folder holds a PEFT adapter as safetensors.

    Raises:
        UserError: the folder, its adapter_config.json or its safetensors weights are missing.
    """
    if not (folder / "adapter_config.json").is_file():
        raise UserError(
            f"no adapter in {folder}; expected adapter_config.json and safetensors; give another folder"
        )
    _check_weights(folder, "adapter_model")


def fingerprint_weights(folder: Path) -> str:
    """SHA-256 over the folder's safetensors files, in order of their names.

    Raises:
        UserError: the folder has none.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(f"{folder} has no weights; expected *.safetensors; give a model's folder")
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _check_weights(folder: Path, stem: str) -> None:
    if any(folder.glob(f"{stem}*.safetensors")):
        return
    pickles = sorted(
        path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern)
    )
    found = f"only {pickles[0]}, a pickle, which can run code" if pickles else "no weights"
    raise UserError(
        f"{folder} has {found}; expected {stem}.safetensors; convert the weights or choose another model"
    )


def load_model(folder: Path, adapter: Path | None = None) -> tuple[Any, Any]:
    """Load the tokenizer and the causal model of a folder, an adapter merged in, onto the fastest
    device here.

    Raises:
        UserError: the folder is not such a model, its weights are pickles, it needs code of its
            own, or the adapter does not fit it.
    """
    check_model_folder(folder)
    if adapter is not None:
        check_adapter_folder(adapter)

    disable_progress_bar()
    # On import through peft, bitsandbytes warns of 4-bit kernels that nothing here uses.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    here = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(folder, **here)
        if config.is_encoder_decoder:
            raise UserError(
                f"{folder} is a sequence-to-sequence model; expected a causal one (Llama, Qwen, GPT …); choose another"
            )
        tokenizer = AutoTokenizer.from_pretrained(folder, **here)
        model = AutoModelForCausalLM.from_pretrained(
            folder, use_safetensors=True, dtype=fast_dtype(), **here
        )
        if adapter is not None:
            model = PeftModel.from_pretrained(
                model, adapter, local_files_only=True
            ).merge_and_unload()
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = (
            str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        )
        raise UserError(
            f"{adapter or folder} cannot be loaded: {reason}; expected a causal model's folder; check it"
        ) from error
    return tokenizer, model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def fast_dtype() -> Any:
    """bf16 where the hardware multiplies it (twice as fast as fp32 there, several times slower
    elsewhere)."""
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native or torch.cuda.is_available() else torch.float32
