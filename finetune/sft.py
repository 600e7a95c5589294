"""Tune a LoRA adapter to answer a window's text with its label, detection and class in one go (A2,
A4, A11).

The prompt is what serving sends, the completion is the answer, and only the answer's tokens are
learned:

    past known 12 … quiet \\n verdict \\n  →  anomalous recon </s>

On 2 CPU cores a model of 3 M parameters does about 60 windows of 187 tokens a second, with LoRA of
rank 32 to 64 on every linear layer as with full tuning; SFTTrainer's own share of that time is not
measurable. Batches of 64 and similar lengths together; gradient checkpointing off, since memory is
not what is short.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import TrainerCallback, set_seed
from transformers.trainer_utils import get_last_checkpoint
from trl import SFTConfig, SFTTrainer

from assistant.llm.llama import fast_dtype
from assistant.llm.transformer import TRAINED, load_model
from assistant.llm.weights import check_model_folder
from prompts.messages import ANSWERS, classification, classification_prompt
from traffic.errors import UserError


def tune(
    base: Path,
    texts: pd.DataFrame,
    out: Path,
    work: Path,
    rank: int = 32,
    epochs: int = 3,
    batch: int = 64,
    learning_rate: float = 2e-3,
    max_minutes: float = 60.0,
    seed: int = 0,
) -> float:
    """Train an adapter and save it as safetensors.

    Args:
        base: a causal model's folder; its weights stay as they are.
        texts: ``text`` and ``label``, one row per example: balanced, since every row counts the
            same.
        out: where the adapter is written.
        work: an existing folder for checkpoints; a killed run that left some there goes on.
        rank: of the adapter's matrices, on every linear layer. 3 M parameters want 32; billions do
            with 8.
        epochs: times to read the texts.
        batch: texts a step.
        learning_rate: the highest; 2e-3 for 3 M parameters, 1e-4 to 2e-4 for billions.
        max_minutes: the run ends by then, cooled down, whatever the epochs.
        seed: of the adapter's start and the order of the batches.

    Returns:
        The mean training loss in nats a token of the answer.

    Raises:
        UserError: the base cannot be loaded, or there is nothing to train on.
    """
    if not len(texts):
        raise UserError(
            "no texts to tune on; expected at least one labelled window; give captures with labels"
        )
    check_model_folder(base)

    model, tokenizer = _load_base(base, rank, seed)
    arguments = _arguments(work, batch, epochs, learning_rate, seed)
    steps = epochs * math.ceil(len(texts) / batch)
    fraction = _make_clock(steps, max_minutes)
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=_make_examples(texts, bool(tokenizer.chat_template)),
        processing_class=tokenizer,
        callbacks=[_make_bell(fraction)],
        optimizers=_make_optimizer(model, learning_rate, steps, fraction),
    )
    result = trainer.train(resume_from_checkpoint=get_last_checkpoint(str(work)))
    # The path at which it was trained says nothing on another machine.
    trainer.model.peft_config["default"].base_model_name_or_path = base.name
    trainer.model.save_pretrained(out, safe_serialization=True, save_embedding_layers=False)
    (out / "README.md").unlink(missing_ok=True)  # PEFT's empty form; the card is card.json
    return float(result.training_loss)


def _load_base(base: Path, rank: int, seed: int) -> tuple[Any, Any]:
    set_seed(seed)
    tokenizer, model = load_model(base, **TRAINED)
    shape = LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, shape), tokenizer


def _make_examples(texts: pd.DataFrame, chat: bool) -> Any:
    answers = [ANSWERS[label] for label in texts["label"]]
    if chat:
        replies = [[{"role": "assistant", "content": answer}] for answer in answers]
        return Dataset.from_dict(
            {"prompt": [classification(text) for text in texts["text"]], "completion": replies}
        )
    return Dataset.from_dict(
        {"prompt": [classification_prompt(text) for text in texts["text"]], "completion": answers}
    )


def _arguments(work: Path, batch: int, epochs: int, learning_rate: float, seed: int) -> Any:
    return SFTConfig(
        output_dir=str(work),
        per_device_train_batch_size=batch,
        num_train_epochs=epochs,
        learning_rate=learning_rate,
        train_sampling_strategy="group_by_length",
        completion_only_loss=True,
        max_length=None,  # a truncated prompt would lose its question
        gradient_checkpointing=False,
        bf16=fast_dtype() == torch.bfloat16,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        save_steps=200,
        save_total_limit=1,
        logging_steps=50,
        report_to="none",
        seed=seed,
    )


def _make_clock(steps: int, max_minutes: float) -> Callable[[int], float]:
    """How far a run is, 0 to 1, by its steps or its time, whichever is nearer the end."""
    started = time.monotonic()
    return lambda step: min(
        1.0, max(step / steps, (time.monotonic() - started) / (60 * max_minutes))
    )


def _make_optimizer(
    model: Any, learning_rate: float, steps: int, fraction: Callable[[int], float]
) -> tuple[Any, Any]:
    """AdamW, warmed up over a twentieth of the steps, cooled down along a cosine even when time
    runs out first."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(
        weights, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True
    )
    warmup = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * fraction(step))),
    )
    return optimizer, schedule


def _make_bell(fraction: Callable[[int], float]) -> Any:
    class Bell(TrainerCallback):
        """Ends the run when its time is over."""

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
            control.should_training_stop = fraction(state.global_step) >= 1

    return Bell()
