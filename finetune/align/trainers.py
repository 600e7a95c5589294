"""Align an adapter with preferences by trl's trainers, beside a frozen copy of what it was.

    kto     good and bad answers, each alone (Ethayarajh et al. 2024, arXiv 2402.01306)
    dpo     right before wrong (Rafailov et al. 2023, arXiv 2305.18290)
    grpo    answers are sampled and rewarded against those of their group (Shao et al. 2024, 2402.03300)
    rloo    the same against the mean of the others (Ahmadian et al. 2024, arXiv 2402.14740)
    reward  a model of what a person prefers, for the last two (Ouyang et al. 2022, arXiv 2203.02155)

trl's KTO and DPO tokenise text and end it with a token; what serving scores is tokenised already
and has no end (`finetune.align.preferences`), so their preparing is left out. The copy ("ref") is
made by trl from the adapter that training begins with, and made anew when a killed run goes on.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from peft import LoraConfig, TaskType
from transformers import AutoModelForSequenceClassification, PrinterCallback
from trl import (
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    GRPOTrainer,
    KTOConfig,
    KTOTrainer,
    RewardConfig,
    RewardTrainer,
    RLOOConfig,
    RLOOTrainer,
)

from assistant.llm.llama import SMALL_HIDDEN
from finetune.align.preferences import (
    encode_answers,
    make_pairs,
    make_texts_of_pairs,
    make_unpaired,
)
from finetune.align.rewards import CHECKED
from finetune.bases import Trainable, load_trainable
from finetune.examples import encode_prompts
from finetune.pace import KEPT, Keeper, Pace, find_checkpoint, make_schedule, read_elapsed_s
from finetune.sft import Tuned
from prompts.messages import classification, classification_prompt
from traffic.errors import UserError

How = Literal["kto", "dpo", "grpo", "rloo"]
Reward = Callable[..., list[float]]
_SAMPLED = ("grpo", "rloo")
_SAVES = 5  # checkpoints in a run, beside one a minute
_ROOM = 3  # tokens beyond the longest answer: a direction, and the end
# Highest rates that small models bear (hidden size up to `SMALL_HIDDEN`); others a tenth.
_RATES = {"kto": 5e-4, "dpo": 5e-4, "grpo": 5e-4, "rloo": 5e-4, "reward": 3e-3}


@dataclass(frozen=True)
class Knobs:
    """How an adapter is aligned.

    Attributes:
        epochs: readings of the windows.
        batch: examples a step; of sampled answers ``batch`` in all.
        learning_rate: the highest; by default by size and method.
        beta: how dearly going away from the adapter in use is paid for.
        samples: answers that are sampled for a window (GRPO, RLOO).
        max_minutes: the run ends by then, cooled down.
        seed: of the order and what is sampled.
    """

    epochs: int = 3
    batch: int = 32
    learning_rate: float | None = None
    beta: float = 0.1
    samples: int = 8
    max_minutes: float = 30.0
    seed: int = 0


class _KTO(KTOTrainer):
    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


class _DPO(DPOTrainer):
    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


def align(
    base: Path,
    begin: Path,
    table: pd.DataFrame,
    out: Path,
    work: Path,
    how: How,
    knobs: Knobs = Knobs(),
    rewards: Sequence[Reward] = CHECKED,
    progress: Callable[[int, int], None] | None = None,
) -> Tuned:
    """Align an adapter and save it as safetensors.

    Args:
        base: a causal model's folder.
        begin: the adapter to begin with; it is read only.
        table: ``text said shown rival``, from `finetune.align.preferences`.
        out: where the result is written.
        work: a folder for checkpoints; a killed run that left some there goes on.
        how: the method.
        knobs: of the method.
        rewards: of sampled answers, summed up.
        progress: called with how much is done of how much, after each step.

    Raises:
        UserError: the base is an encoder-decoder, a text is too long for it, or there is nothing to
            learn from.
    """
    loaded = load_trainable(base, "lora", seed=knobs.seed, begin=begin)
    if loaded.seq2seq:
        raise UserError(
            f"{base} is an encoder-decoder, which none of trl's trainers of preferences takes; "
            "expected a causal base; write the feedback as truth (`faultwise feedback export "
            "--format intervals`) and tune on it with `faultwise finetune sft`"
        )
    if how in _SAMPLED and knobs.batch % knobs.samples:
        raise UserError(
            f"a batch of {knobs.batch} answers does not divide into {knobs.samples} for each window; "
            "expected a multiple; change --batch or --samples"
        )
    # Where checkpoints look for it; an adapter's own note holds its last folder's name alone.
    loaded.model.peft_config["default"].base_model_name_or_path = str(base)
    longest = max(map(len, encode_answers(loaded.tokenizer).values())) + _ROOM
    prompts = encode_prompts(list(table["text"]), loaded.tokenizer)
    _check_lengths(prompts, longest, base, loaded.context)
    trainer, count = _make_trainer(loaded, table, work, how, knobs, rewards, longest)
    state = _run(trainer, count, work, knobs, _rate(loaded.model, how, knobs), progress)
    # The path at which it was trained says nothing on another machine, nor does trl's copy.
    trainer.model.peft_config["default"].base_model_name_or_path = base.name
    trainer.model.save_pretrained(
        out, safe_serialization=True, save_embedding_layers=False, selected_adapters=["default"]
    )
    (out / "README.md").unlink(missing_ok=True)
    return state


def train_reward(
    base: Path,
    begin: Path,
    table: pd.DataFrame,
    out: Path,
    work: Path,
    knobs: Knobs = Knobs(),
    progress: Callable[[int, int], None] | None = None,
) -> Tuned:
    """Train a model that scores an answer to a window higher the more a person prefers it.

    It begins with the weights that classify, the adapter merged in, and is saved whole.

    Args:
        base, begin, table, out, work, knobs, progress: as `align` has them.

    Raises:
        UserError: as `align`, or nobody said what is right.
    """
    loaded = load_trainable(base, "lora", seed=knobs.seed, begin=begin)
    pairs = make_texts_of_pairs(table, loaded.tokenizer)
    if loaded.seq2seq:
        raise UserError(f"{base} is an encoder-decoder; expected a causal base; choose another")
    _check_lengths(pairs["chosen_ids"], 0, base, loaded.context)
    merged = work / "merged"
    loaded.model.merge_and_unload().save_pretrained(merged)
    model = AutoModelForSequenceClassification.from_pretrained(
        merged, num_labels=1, local_files_only=True, trust_remote_code=False, dtype=torch.float32
    )
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(**_arguments(work / "steps", len(pairs), knobs), max_length=None),
        train_dataset=pairs,
        processing_class=loaded.tokenizer,
        peft_config=LoraConfig(
            r=8, lora_alpha=8, target_modules="all-linear", task_type=TaskType.SEQ_CLS
        ),
    )
    made = _run(trainer, len(pairs), work / "steps", knobs, _rate(model, "reward", knobs), progress)
    whole = trainer.model.merge_and_unload()
    whole.config._name_or_path = base.name
    whole.save_pretrained(out)
    loaded.tokenizer.save_pretrained(out)
    return made


def _make_trainer(
    loaded: Trainable,
    table: pd.DataFrame,
    work: Path,
    how: How,
    knobs: Knobs,
    rewards: Sequence[Reward],
    longest: int,
) -> tuple[Any, int]:
    """The trainer, and how many examples an epoch of it has."""
    parts = {"model": loaded.model, "processing_class": loaded.tokenizer}
    if how in _SAMPLED:
        prompts = _make_prompts(table, loaded.tokenizer)
        count = len(prompts) * knobs.samples
        arguments = _arguments(work, count, knobs) | {
            "num_generations": knobs.samples,
            "max_completion_length": longest,
            "beta": knobs.beta,
            "disable_dropout": True,
        }
        parts |= {"train_dataset": prompts, "reward_funcs": list(rewards)}
        if how == "grpo":
            return GRPOTrainer(**parts, args=GRPOConfig(**arguments)), count
        return RLOOTrainer(**parts, args=RLOOConfig(**arguments)), count
    if how == "dpo":
        pairs = make_pairs(table, loaded.tokenizer)
        arguments = _arguments(work, len(pairs), knobs) | {"beta": knobs.beta, "max_length": None}
        return _DPO(**parts, train_dataset=pairs, args=DPOConfig(**arguments)), len(pairs)
    examples = make_unpaired(table, loaded.tokenizer, knobs.batch)
    arguments = _arguments(work, len(examples), knobs) | {"beta": knobs.beta, "max_length": None}
    good = sum(examples["label"])
    # Eq. 8 of the paper: what is rarer weighs more.
    arguments["undesirable_weight"] = good / max(len(examples) - good, 1) if good else 1.0
    return _KTO(**parts, train_dataset=examples, args=KTOConfig(**arguments)), len(examples)


def _make_prompts(table: pd.DataFrame, tokenizer: Any) -> Dataset:
    """Windows to sample answers for, as serving asks."""
    ask = classification if tokenizer.chat_template else classification_prompt
    columns = {name: table[name].tolist() for name in ("text", "said", "shown")}
    return Dataset.from_dict({"prompt": [ask(text) for text in table["text"]], **columns})


def _arguments(work: Path, count: int, knobs: Knobs) -> dict[str, Any]:
    """What all trainers are told."""
    cuda = torch.cuda.is_available()
    steps = _steps(count, knobs)
    return {
        "output_dir": str(work),
        "per_device_train_batch_size": knobs.batch,
        "max_steps": steps,
        "gradient_checkpointing": False,
        "bf16": False,  # preferences are small differences of log-probabilities
        "use_cpu": not cuda,
        "dataloader_pin_memory": cuda,
        "save_steps": max(1, steps // _SAVES),
        "save_total_limit": KEPT,
        "logging_steps": max(1, min(20, steps // 20)),
        "disable_tqdm": True,
        "report_to": "none",
        "seed": knobs.seed,
    }


def _steps(count: int, knobs: Knobs) -> int:
    return max(1, -(-count // knobs.batch)) * knobs.epochs


def _run(
    trainer: Any,
    count: int,
    work: Path,
    knobs: Knobs,
    rate: float,
    progress: Callable[[int, int], None] | None,
) -> Tuned:
    steps = _steps(count, knobs)
    checkpoint = find_checkpoint(work)
    pace = Pace(steps, knobs.max_minutes, read_elapsed_s(checkpoint))
    learned = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    trainer.optimizer = torch.optim.AdamW(learned, lr=rate, betas=(0.9, 0.98), weight_decay=0.0)
    trainer.lr_scheduler = make_schedule(trainer.optimizer, pace)
    trainer.add_callback(Keeper(pace, False, progress))
    trainer.remove_callback(PrinterCallback)
    # A run that goes on reads past what it has read, of which accelerate warns its developers.
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    losses = [one["loss"] for one in trainer.state.log_history if "loss" in one]
    ended: Literal["epochs", "minutes"] = (
        "minutes" if pace.is_out_of_time(trainer.state.global_step) else "epochs"
    )
    last = losses[-max(1, len(losses) // 10) :]
    return Tuned(
        loss=float(np.mean(last)) if last else float("nan"),
        held_out_loss=float("nan"),
        steps=trainer.state.global_step,
        ended=ended,
    )


def _rate(model: Any, how: str, knobs: Knobs) -> float:
    if knobs.learning_rate is not None:
        return knobs.learning_rate
    small = getattr(model.config, "hidden_size", SMALL_HIDDEN + 1) <= SMALL_HIDDEN
    return _RATES[how] if small else _RATES[how] / 10


def _check_lengths(
    rows: Sequence[Sequence[int]], more: int, base: Path, context: int | None
) -> None:
    most = max(map(len, rows), default=0) + more
    if context is not None and most > context:
        raise UserError(
            f"a text and its answer have {most} tokens; {base} reads at most {context}; "
            "choose a base with a longer context"
        )
