"""Check model and adapter folders before anything in them is loaded.

Weights are safetensors only: a pickle can run code when it is opened.
"""

import hashlib
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from traffic.errors import UserError

# How transformers loads: from this machine alone, and no code that a model's folder holds is run.
HERE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
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


def check_tensors(folder: Path) -> None:
    """Check that a folder's safetensors files are whole, without reading their numbers.

    Raises:
        UserError: one is truncated or damaged.
    """
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "numpy"):
                pass
        except (OSError, SafetensorError) as error:
            raise unloadable(folder, error) from error


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


def unloadable(folder: Path, error: Exception) -> UserError:
    """What to say of a folder whose files are there and cannot be loaded."""
    reason = [*str(error).strip().splitlines(), type(error).__name__][0][:200]
    return UserError(
        f"{folder} cannot be loaded: {reason}; expected a causal model's folder; check it"
    )
