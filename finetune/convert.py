"""Turn a GGUF file, or a model's folder, into a base's folder: `faultwise finetune base`.

A GGUF is dequantised: its weights are those that were rounded once, in bf16. A base without its
chat template classifies by the plain prompt, which is a third as long as the chat that lists the
labels, and cannot word answers. A base of its first layers alone costs their share.
"""

import copy
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from assistant.llm.weights import check_model_folder, unloadable
from traffic.errors import UserError

_SUFFIX = ".gguf"


def make_base(
    source: Path,
    out: Path,
    layers: int | None = None,
    chat: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a causal model as a folder of safetensors, whole or not at all.

    Args:
        source: a GGUF file (needs the package gguf), or a model's folder.
        out: a folder that does not exist yet.
        layers: how many of its first layers to keep; all by default.
        chat: keep its chat template.
        progress: called with the steps that are done and that there are.

    Raises:
        UserError: the source is no such model, ``out`` exists, or there are not so many layers.
    """
    if out.exists():
        raise UserError(f"{out} exists already; expected a new folder; name another with --out")
    disable_progress_bar()
    set_verbosity_error()
    step = progress or (lambda _done, _of: None)
    step(0, 3)
    tokenizer, model = _load(source)
    step(1, 3)
    if layers is not None:
        _keep_layers(model, layers)
    if not chat:
        tokenizer.chat_template = None
    draft = out.with_name(f".{out.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        model.to(torch.bfloat16).save_pretrained(draft)
        step(2, 3)
        tokenizer.save_pretrained(draft)
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    step(3, 3)
    return out


def _load(source: Path) -> tuple[Any, Any]:
    where: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    if source.suffix == _SUFFIX:
        if not source.is_file():
            raise UserError(f"no file {source}; expected a GGUF file; check the path")
        folder, where["gguf_file"] = source.parent, source.name
    else:
        check_model_folder(source)
        folder = source
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **where)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **where)
    except ImportError as error:
        raise UserError(
            f"{source} needs the package gguf; expected it installed; pip install 'faultwise[gguf]'"
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, struct.error) as error:
        raise unloadable(source, error) from error
    if "gguf_file" not in where:
        return tokenizer, model
    # transformers keeps a dequantised model marked as quantised, and refuses to save it.
    config = copy.deepcopy(model.config)
    del config.quantization_config
    plain = type(model)(config)
    plain.load_state_dict(model.state_dict())
    return tokenizer, plain


def _keep_layers(model: Any, count: int) -> None:
    body: Any = getattr(model, "model", None)
    there = getattr(body, "layers", None)
    if there is None or not 1 <= count <= len(there):
        most = f"1 to {len(there)}" if there is not None else "a model of the Llama kind"
        raise UserError(f"{count} layers cannot be kept; expected {most}; correct --layers")
    body.layers = there[:count]
    model.config.num_hidden_layers = count
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[:count]
