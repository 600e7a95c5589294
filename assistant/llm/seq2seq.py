"""Encoder-decoders (T5) as classifiers: the encoder reads a prompt, the decoder scores each answer.

The answers' likelihoods are read where they part, as for a causal model, but the answer has a text
of its own:

    encoder   past known 12 … verdict </s>
    decoder   <start> anomalous recon        logits after <start> and after "anomalous"
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assistant.llm.answer_tree import BATCH_TOKENS, ChoiceTree, build_choice_tree, make_batches
from assistant.llm.local import Progress, score_distinct
from assistant.llm.weights import HERE, check_adapter_folder, check_model_folder, unloadable
from traffic.errors import UserError


def is_seq2seq(folder: Path) -> bool:
    """Whether a model's folder holds an encoder and a decoder, by its configuration.

    Raises:
        UserError: the configuration cannot be read.
    """
    try:
        read = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return bool(read.get("is_encoder_decoder"))
    except (OSError, ValueError, AttributeError) as error:
        raise unloadable(folder, error) from error


class Seq2SeqLLM:
    """A sequence-to-sequence model from a folder, its adapter merged in.

    Attributes:
        name: the folder's name.
        chat_capable: never; prompts are plain.
    """

    chat_capable = False

    def __init__(self, path: Path, adapter: Path | None = None) -> None:
        """Load the model; nothing is fetched and no code from the folder is run.

        Raises:
            UserError: the folder is not such a model, its weights are pickles, or the adapter does
                not fit it.
        """
        check_model_folder(path)
        if adapter is not None:
            check_adapter_folder(adapter)
        # Imported here: transformers and peft take six seconds.
        import torch
        from peft import PeftModel
        from safetensors import SafetensorError
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        try:
            # T5 overflows in half precision; these models are small.
            model = AutoModelForSeq2SeqLM.from_pretrained(
                path, use_safetensors=True, dtype=torch.float32, **HERE
            )
            self._tokenizer = AutoTokenizer.from_pretrained(path, **HERE)
            if adapter is not None:
                tuned = PeftModel.from_pretrained(model, adapter, local_files_only=True)
                model = tuned.merge_and_unload()
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise unloadable(adapter or path, error) from error
        self.name = path.name
        self._model: Any = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()

    def render(self, messages: list[dict[str, str]]) -> str:
        """Raise, since such a model has no chat template."""
        del messages
        raise UserError(
            f"{self.name} has no chat template; expected an instruct model; choose one that chats"
        )

    def score(
        self, prompts: Sequence[str], choices: Sequence[str], progress: Progress | None = None
    ) -> np.ndarray:
        """Score every choice as the answer to every prompt.

        Args:
            prompts: as `prompts.messages.classification_prompt` makes them.
            choices: the allowed answers, at least one, no two alike.
            progress: called with the numbers of different prompts that are finished and that there
                are.

        Returns:
            Shape (n_prompts, n_choices), natural log-probabilities, normalised over the choices
            (rows sum to 1).
        """
        tree = build_choice_tree(self._tokenizer(list(choices), add_special_tokens=False).input_ids)

        def sum_steps(distinct: list[str]) -> np.ndarray:
            rows = self._tokenizer(distinct).input_ids
            sums = np.empty((len(rows), len(choices)), np.float32)
            done = 0
            for batch in make_batches([len(row) + tree.longest for row in rows], BATCH_TOKENS):
                sums[batch] = self._score_batch([rows[i] for i in batch], tree)
                done += len(batch)
                if progress is not None:
                    progress(done, len(rows))
            return sums

        return score_distinct(prompts, len(choices), sum_steps)

    def _score_batch(self, rows: list[list[int]], tree: ChoiceTree) -> np.ndarray:
        """Summed log-probabilities of every choice, shape (n_rows, n_choices)."""
        import torch

        device, width = self._model.device, max(len(row) for row in rows)
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)
        ends = torch.tensor([len(row) for row in rows], device=device)
        mask = (torch.arange(width, device=device) < ends[:, None]).long()
        start = self._model.config.decoder_start_token_id
        node_logits: list[Any] = [None] * len(tree.nodes)
        with torch.inference_mode():
            states = self._model.get_encoder()(input_ids=ids, attention_mask=mask)
            for number, path in enumerate(tree.paths):
                # A node on several paths is read on the one that the tree names.
                begun = torch.tensor([[start, *path]], device=device).expand(len(rows), -1)
                out = self._model(
                    encoder_outputs=states, attention_mask=mask, decoder_input_ids=begun
                )
                logits = torch.log_softmax(out.logits.float(), dim=-1)
                for node, (on, depth) in enumerate(tree.nodes):
                    if on == number:
                        node_logits[node] = logits[:, depth]  # after <start> stands depth 0
            sums = [
                sum(node_logits[node][:, token] for node, token in steps) for steps in tree.steps
            ]
            return torch.stack(sums, dim=1).cpu().numpy()
