"""Tune a base to answer a window's text with its label, detection and class in one go (A2, A4, A11).

The prompt is what serving sends, the completion is the answer, and only the answer's tokens are
learned:

    past known 12 … quiet \\n verdict \\n  →  anomalous recon </s>

Causal bases (Llama, Qwen, GPT-2, BLOOM) go through trl's SFTTrainer, encoder-decoders (T5), which
trl does not take, through transformers' Seq2SeqTrainer.

On 2 CPU cores a model of 3 M parameters does about 60 windows of 187 tokens a second, with LoRA of
rank 32 to 64 on every linear layer as with full tuning; SFTTrainer's own share of that time is not
measurable. Batches of 64 and similar lengths together; gradient checkpointing off, since memory is
not what is short.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

import pandas as pd
import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)
from trl import SFTConfig, SFTTrainer

from assistant.llm.llama import SMALL_HIDDEN, fast_dtype
from finetune.bases import WHOLE, Method, Trainable, can_pack, load_trainable
from finetune.examples import IGNORED, SimilarLengths, Target, make_examples
from finetune.layers import freeze_layers, renew_answers
from finetune.pace import (
    KEPT,
    Keeper,
    Pace,
    count_processes,
    find_checkpoint,
    make_schedule,
    read_elapsed_s,
)
from traffic.errors import UserError

# Tokens that go through a model at once: more at a time is not faster, and takes memory.
_AT_ONCE = {"cpu": 16_384, "cuda": 131_072}
_ROW = 512  # tokens of a packed row at least
_LOOKS = 10  # at the held-out texts, in a run


@dataclass(frozen=True)
class Knobs:
    """How a base is tuned.

    Attributes:
        method: what is trained, see `finetune.bases`.
        target: what an example teaches, see `finetune.examples`.
        rank: of the adapter's matrices. 3 M parameters want 32; billions do with 8.
        epochs: times to read the texts at most.
        batch: texts a step.
        learning_rate: the highest; by default 2e-3 for small models and 2e-4 for others, a tenth of
            that where every weight is trained.
        max_minutes: the run ends by then, cooled down, whatever the epochs.
        patience: looks at the held-out texts without a better loss, after which a run ends; the
            best weights are kept.
        packing: several texts in one row; by default where attention reads such a row as fast as
            its texts, which a CPU's does not.
        seed: of the adapter's start and the order of the batches.
        frozen: layers from the bottom that stay as they are, see `finetune.layers`.
        new_answers: the answers' words are learned from nothing.
    """

    method: Method = "lora"
    target: Target = "joint"
    rank: int = 32
    epochs: int = 3
    batch: int = 64
    learning_rate: float | None = None
    max_minutes: float = 60.0
    patience: int = 3
    packing: bool | None = None
    seed: int = 0
    frozen: int = 0
    new_answers: bool = False


@dataclass(frozen=True)
class Tuned:
    """What came of a run.

    Attributes:
        loss: nats a token of the answer, over the last tenth of the steps.
        held_out_loss: the same on held-out texts, of the weights that are kept; NaN without any.
        steps: that were made.
        ended: what ended it.
    """

    loss: float
    held_out_loss: float
    steps: int
    ended: Literal["epochs", "minutes", "early"]


def train(
    base: Path,
    texts: pd.DataFrame,
    out: Path,
    work: Path,
    knobs: Knobs = Knobs(),
    held_out: pd.DataFrame | None = None,
    begin: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tuned:
    """Tune a base and save what was trained as safetensors: an adapter, or the whole model.

    Args:
        base: a causal or sequence-to-sequence model's folder; its weights stay as they are.
        texts: ``text``, ``label`` and perhaps ``direction``, one row per example: balanced, since
            every row counts the same.
        out: where the result is written; a reader may look there only after the return.
        work: a folder for checkpoints; a killed run that left some there goes on.
        knobs: how.
        held_out: texts of other captures: the run ends when their loss no longer falls.
        begin: what an earlier phase made by the same method; training goes on from it.
        progress: called with how much is done of how much, after each step.

    Raises:
        UserError: the base cannot be loaded, a text is too long for it, it cannot read packed
            texts, or there is nothing to train on.
    """
    if not len(texts):
        raise UserError(
            "no texts to tune on; expected at least one labelled window; give captures with labels"
        )
    loaded = load_trainable(base, knobs.method, knobs.rank, knobs.seed, begin)
    start = loaded.model.config.decoder_start_token_id if loaded.seq2seq else None
    examples, looked_at = (
        make_examples(table, loaded.tokenizer, knobs.target, start)
        if table is not None and len(table)
        else None
        for table in (texts, held_out)
    )
    assert examples is not None
    _check_lengths([table for table in (examples, looked_at) if table], base, loaded.context)
    if knobs.new_answers:
        renew_answers(loaded.model, loaded.tokenizer, knobs.seed)
    if knobs.frozen:
        freeze_layers(loaded.model, loaded.tokenizer, knobs.frozen)

    trainer = _make_trainer(loaded, examples, looked_at, work, knobs)
    checkpoint = find_checkpoint(work)
    pace = _set_pace(trainer, loaded, read_elapsed_s(checkpoint), knobs)
    trainer.add_callback(Keeper(pace, looked_at is not None, progress))
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    _save(trainer, loaded.tokenizer, base, out, knobs.method)
    return _summarise(trainer.state, pace)


def _set_pace(trainer: Any, loaded: Trainable, elapsed_s: float, knobs: Knobs) -> Pace:
    """Give a trainer its weights' precision, its optimizer and schedule, and the order of texts."""
    for weight in trainer.model.parameters():
        if weight.requires_grad:  # trl rounds an adapter on four bits to bf16
            weight.data = weight.data.float()
    steps = -(-len(trainer.train_dataset) // _rows_a_step(trainer)) * knobs.epochs
    pace = Pace(steps, knobs.max_minutes, elapsed_s)
    trainer.optimizer = _make_optimizer(trainer.model, _learning_rate(loaded.model, knobs))
    trainer.lr_scheduler = make_schedule(trainer.optimizer, pace)
    order = SimilarLengths(
        [len(row) for row in trainer.train_dataset["input_ids"]], _rows_a_step(trainer), knobs.seed
    )
    trainer._get_train_sampler = lambda *_: order
    return pace


def _check_lengths(tables: list[Dataset], base: Path, context: int | None) -> None:
    """No text may be cut: it would lose its question."""
    longest = max(len(row) for table in tables for row in table["input_ids"])
    if context is not None and longest > context:
        raise UserError(
            f"a text and its answer have {longest} tokens; {base} reads at most {context}; "
            "choose a base with a longer context"
        )


def _make_trainer(
    loaded: Trainable, examples: Dataset, held_out: Dataset | None, work: Path, knobs: Knobs
) -> Any:
    lengths = [len(row) for row in examples["input_ids"]]
    common = _arguments(work, lengths, len(examples), held_out is not None, knobs)
    parts = {
        "model": loaded.model,
        "train_dataset": examples,
        "eval_dataset": held_out,
        "processing_class": loaded.tokenizer,
        "callbacks": [EarlyStoppingCallback(knobs.patience)] if held_out is not None else [],
    }
    if loaded.seq2seq:
        collate = _make_collator(loaded.tokenizer.pad_token_id)
        return Seq2SeqTrainer(
            **parts, args=Seq2SeqTrainingArguments(**common), data_collator=collate
        )
    packing = knobs.packing
    if packing is None:
        packing = torch.cuda.is_available() and can_pack(loaded.model)
    elif packing and not can_pack(loaded.model):
        raise UserError(
            f"{type(loaded.model).__name__} would read packed texts as one; "
            "expected attention that follows positions; leave --packing out"
        )
    if packing:
        row = min(loaded.context or max(lengths), max(*lengths, _ROW))
        a_step = max(1, round(knobs.batch * median(lengths) / row / count_processes()))
        # One row at a time: attention that is not made for packing takes the square of what it gets.
        common |= {
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": a_step,
            "max_length": row,
            "packing": True,
            "packing_strategy": "bfd",
            "eval_packing": False,
        }
    else:
        common["max_length"] = None  # a truncated prompt would lose its question
    return SFTTrainer(**parts, args=SFTConfig(**common, completion_only_loss=True))


def _arguments(
    work: Path, lengths: list[int], count: int, evaluates: bool, knobs: Knobs
) -> dict[str, Any]:
    """What both trainers are told."""
    cuda = torch.cuda.is_available()
    fits = max(1, _AT_ONCE["cuda" if cuda else "cpu"] // max(lengths))
    share = knobs.batch // count_processes()
    at_once = max(size for size in range(1, share + 1) if share % size == 0 and size <= fits)
    steps = -(-count // knobs.batch) * knobs.epochs
    look = max(1, steps // _LOOKS)
    arguments: dict[str, Any] = {
        "output_dir": str(work),
        "per_device_train_batch_size": at_once,
        "per_device_eval_batch_size": fits,
        "gradient_accumulation_steps": share // at_once,
        "num_train_epochs": knobs.epochs,
        "gradient_checkpointing": False,
        "bf16": fast_dtype() == torch.bfloat16,
        "use_cpu": not cuda,
        "ddp_backend": None if cuda or count_processes() == 1 else "gloo",
        "dataloader_pin_memory": cuda,
        "save_steps": look if evaluates else max(steps, 1),
        "save_total_limit": KEPT,
        "logging_steps": max(1, min(50, steps // 20)),
        "disable_tqdm": True,
        "report_to": "none",
        "seed": knobs.seed,
    }
    if evaluates:
        arguments |= {
            "eval_strategy": "steps",
            "eval_steps": look,
            "prediction_loss_only": True,
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
            "restore_callback_states_from_checkpoint": True,
        }
    return arguments


def _make_collator(pad: int) -> Any:
    """Pad a batch of an encoder-decoder's examples."""
    fill = {"input_ids": pad, "labels": IGNORED, "decoder_input_ids": pad}

    def collate(examples: list[dict[str, list[int]]]) -> dict[str, Any]:
        batch = {
            name: pad_sequence(
                [torch.tensor(one[name]) for one in examples], batch_first=True, padding_value=value
            )
            for name, value in fill.items()
        }
        ends = torch.tensor([len(one["input_ids"]) for one in examples])
        batch["attention_mask"] = (torch.arange(int(ends.max())) < ends[:, None]).long()
        return batch

    return collate


def _rows_a_step(trainer: Any) -> int:
    arguments = trainer.args
    a_process = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps
    return int(a_process * count_processes())


def _learning_rate(model: Any, knobs: Knobs) -> float:
    if knobs.learning_rate is not None:
        return knobs.learning_rate
    hidden = getattr(model.config, "hidden_size", SMALL_HIDDEN + 1)
    rate = 2e-3 if hidden <= SMALL_HIDDEN else 2e-4
    return rate / 10 if knobs.method in WHOLE else rate


def _make_optimizer(model: Any, learning_rate: float) -> torch.optim.Optimizer:
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    return torch.optim.AdamW(
        weights, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True
    )


def _save(trainer: Any, tokenizer: Any, base: Path, out: Path, method: Method) -> None:
    model, whole = trainer.model, {}
    if count_processes() > 1:  # each may hold a part of the weights
        whole = {"state_dict": trainer.accelerator.get_state_dict(trainer.model_wrapped)}
        if not trainer.is_world_process_zero():
            return
    if method == "osf":
        model = model.merge_and_unload()
    if method in WHOLE:
        if whole:
            half = {name: weight.to(torch.bfloat16) for name, weight in whole["state_dict"].items()}
            whole = {"state_dict": half}
        model.to(torch.bfloat16).save_pretrained(out, **whole)
        tokenizer.save_pretrained(out)
        return
    # The path at which it was trained says nothing on another machine.
    model.peft_config["default"].base_model_name_or_path = base.name
    model.save_pretrained(out, safe_serialization=True, save_embedding_layers=False, **whole)
    (out / "README.md").unlink(missing_ok=True)  # PEFT's empty form; the card is card.json


def _summarise(state: Any, pace: Pace) -> Tuned:
    """Of the whole run: what a killed part had logged is in the state too."""
    losses = [one["loss"] for one in state.log_history if "loss" in one]
    held_out = [one["eval_loss"] for one in state.log_history if "eval_loss" in one]
    early = state.global_step < pace.steps and not pace.is_out_of_time(state.global_step)
    ended: Literal["epochs", "minutes", "early"] = "early" if early else "epochs"
    if pace.is_out_of_time(state.global_step):
        ended = "minutes"
    return Tuned(
        loss=fmean(losses[-max(1, len(losses) // 10) :]) if losses else float("nan"),
        held_out_loss=min(held_out, default=float("nan")),
        steps=state.global_step,
        ended=ended,
    )
