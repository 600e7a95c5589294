"""Any causal model of Hugging Face's form, as transformers load it, with whatever adapter PEFT knows."""

import copy
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from assistant.llm.llama import SMALL_HIDDEN, fast_dtype
from assistant.llm.weights import HERE
from traffic.errors import UserError

# Trained in float32, since small steps vanish in bf16's eight bits.
TRAINED = {"dtype": torch.float32, "attn_implementation": "eager"}


def load_model(folder: Path, **options: Any) -> tuple[Any, Any]:
    """Load the tokenizer and the causal model of a folder, safetensors only and without its code.

    Args:
        folder: one that `check_model_folder` passes.
        options: for transformers: ``dtype``, ``attn_implementation``.

    Raises:
        UserError: it is a sequence-to-sequence model (transformers and safetensors raise their own).
    """
    disable_progress_bar()
    config = AutoConfig.from_pretrained(folder, **HERE)
    if config.is_encoder_decoder:
        raise UserError(
            f"{folder} is a sequence-to-sequence model; expected a causal one (Llama, Qwen, GPT …); choose another"
        )
    tokenizer = AutoTokenizer.from_pretrained(folder, **HERE)
    return tokenizer, AutoModelForCausalLM.from_pretrained(
        folder, use_safetensors=True, **options, **HERE
    )


class Transformer:
    """A loaded causal model with its tokenizer, an adapter merged in, on the fastest device here.

    Attributes:
        chat_capable: the tokenizer has a chat template.
        context: tokens that the model reads at most, where its configuration says so.
        model: transformers' own.
    """

    def __init__(self, folder: Path, adapter: Path | None = None) -> None:
        """Load what `check_model_folder` and `check_adapter_folder` pass.

        Raises:
            UserError: the folder is not such a model, it needs code of its own, or the adapter does
                not fit it.
        """
        # On import through peft, bitsandbytes warns of 4-bit kernels that nothing here uses.
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
        self._tokenizer, model = load_model(folder, dtype=fast_dtype())
        if adapter is not None:
            tuned = PeftModel.from_pretrained(model, adapter, local_files_only=True)
            model = tuned.merge_and_unload()
        self.model: Any = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        self.context: int | None = getattr(model.config, "max_position_embeddings", None)
        self.chat_capable = bool(self._tokenizer.chat_template)
        self._has_plain_head = _has_plain_head(self.model)
        self.device = self.model.device
        hidden = getattr(self.model.config, "hidden_size", SMALL_HIDDEN + 1)
        self.small = self.device.type == "cpu" and hidden <= SMALL_HIDDEN

    def encode(self, texts: Sequence[str], special: bool) -> list[list[int]]:
        """Token ids of each text, with the tokens that begin and end one where ``special``."""
        ids: list[list[int]] = self._tokenizer(list(texts), add_special_tokens=special).input_ids
        return ids

    def render(self, messages: list[dict[str, str]]) -> str:
        """Messages in the model's own chat template, ending where its reply starts."""
        return str(
            self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        )

    def logits(
        self, ids: Any, cache: Any, rows: Any, positions: Any, keep: bool
    ) -> tuple[Any, Any]:
        """Logits (as in ``positions``, then the vocabulary) at token positions of rows, and the
        cache."""
        options = {
            "input_ids": ids,
            "past_key_values": cache,
            "use_cache": keep or cache is not None,
        }
        if not self._has_plain_head:
            out = self.model(**options)
            return out.logits[rows, positions], out.past_key_values
        out = self.model.base_model(**options)
        states = out.last_hidden_state[rows, positions]
        return self.model.get_output_embeddings()(states), out.past_key_values

    def read(self, ids: Any) -> Any:
        """The cache of a beginning."""
        return self.model(ids, use_cache=True).past_key_values

    @staticmethod
    def repeat(cache: Any, count: int) -> Any:
        """A beginning for ``count`` rows."""
        cache = copy.deepcopy(cache)  # the model appends to the cache it is given
        cache.batch_repeat_interleave(count)
        return cache

    def stream(self, tokens: list[int], max_tokens: int) -> Iterator[str]:
        """Write greedily what follows the tokens, piece by piece, until the model's end token."""
        ends = np.atleast_1d(
            self.model.generation_config.eos_token_id or self._tokenizer.eos_token_id or -1
        )
        written: list[int] = []
        shown, cache = "", None
        for _ in range(max_tokens):
            with torch.inference_mode():
                ids = torch.tensor([tokens], device=self.model.device)
                out = self.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache, tokens = out.past_key_values, [int(out.logits[0, -1].argmax())]
            if tokens[0] in ends:
                break
            written += tokens
            text = self._tokenizer.decode(written, skip_special_tokens=True)
            if not text.endswith("\ufffd"):  # a character whose bytes are not all there yet
                yield text[len(shown) :]
                shown = text


def _has_plain_head(model: Any) -> bool:
    """Whether logits are just the output embedding of the body's states; some models scale or cap
    them after it."""
    probe = torch.tensor([[0, 1, 2]], device=model.device)
    with torch.inference_mode():
        plain = model.get_output_embeddings()(
            model.base_model(probe, use_cache=False).last_hidden_state
        )
        return bool(
            torch.allclose(plain, model(probe, use_cache=False).logits, atol=1e-3, rtol=1e-3)
        )
