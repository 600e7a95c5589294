"""How far a training run is, and where it goes on after it was killed.

A run ends with its epochs or its minutes, whichever come first, and its learning rate follows
whichever is nearer: a run that is out of time has cooled down all the same. Once a minute it leaves
a checkpoint. One that was being written when the run was killed lacks the mark that is set last,
and is thrown away.
"""

import json
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback
from transformers.trainer_utils import sort_checkpoints

CHECKPOINT_S = 60.0
KEPT = 3  # checkpoints: the best, the last whole one, and the one being written
_MARK = "whole.json"
_FINE = 1000  # parts of a run that progress tells apart


def count_processes() -> int:
    """Processes that train together, as `finetune.spread` starts them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


class Pace:
    """How far a run is, 0 to 1, by its steps or its time."""

    def __init__(self, steps: int, max_minutes: float, elapsed_s: float = 0.0) -> None:
        """Begin now, after ``elapsed_s`` seconds of an earlier, killed part."""
        self.steps, self._limit_s = steps, 60 * max_minutes
        self._began = time.monotonic() - elapsed_s
        self._agreed_s: float | None = elapsed_s if count_processes() > 1 else None

    @property
    def elapsed_s(self) -> float:
        """Seconds of training so far; of several processes, those that all went by last."""
        return time.monotonic() - self._began if self._agreed_s is None else self._agreed_s

    def agree(self) -> None:
        """Go by the clock of the first of several processes, or rates and ends would differ."""
        if self._agreed_s is not None:
            first_s = torch.tensor([time.monotonic() - self._began], dtype=torch.float64)
            first_s = first_s.to("cuda" if torch.distributed.get_backend() == "nccl" else "cpu")
            torch.distributed.broadcast(first_s, src=0)
            self._agreed_s = float(first_s)

    def fraction(self, step: int) -> float:
        """The part that is done after ``step`` steps, 0 before the first: how long it took to
        begin must not change what a seed gives."""
        return min(1.0, max(step / self.steps, self.elapsed_s / self._limit_s)) if step else 0.0

    def rate(self, step: int, warmup: int) -> float:
        """The share of the highest learning rate for a step: warmed up over so many steps, cooled
        down along a cosine."""
        cooled = 0.5 * (1 + math.cos(math.pi * self.fraction(step)))
        return min(1.0, (step + 1) / warmup) * cooled

    def is_out_of_time(self, step: int) -> bool:
        """Whether the minutes ended the run before its steps did."""
        return step < self.steps and self.elapsed_s >= self._limit_s


def make_schedule(optimizer: Any, pace: Pace) -> LambdaLR:
    """Warmed up over a twentieth of the steps."""
    warmup = max(1, pace.steps // 20)
    return LambdaLR(optimizer, lambda step: pace.rate(step, warmup))


def find_checkpoint(work: Path) -> Path | None:
    """The last whole checkpoint of a folder; what was half written after it is deleted."""
    whole = None
    for path in map(Path, sort_checkpoints(str(work), "checkpoint") if work.is_dir() else []):
        if (path / _MARK).is_file():
            whole = path
        else:
            shutil.rmtree(path)
    return whole


def read_elapsed_s(checkpoint: Path | None) -> float:
    """Seconds of training before a checkpoint."""
    if checkpoint is None:
        return 0.0
    return float(json.loads((checkpoint / _MARK).read_text(encoding="utf-8"))["elapsed_s"])


class Keeper(TrainerCallback):
    """Ends a run in time, marks its checkpoints as whole, and tells how far it is."""

    def __init__(
        self, pace: Pace, evaluates: bool, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Keep a run.

        Args:
            pace: the run's.
            evaluates: the best of several looks at held-out texts is taken in the end.
            progress: called with how much is done of how much, after each step.
        """
        self._pace, self._evaluates, self._progress = pace, evaluates, progress
        self._saved_s = pace.elapsed_s

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Let several processes go by one clock."""
        self._pace.agree()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """End when steps or minutes are over; save once a minute."""
        done = self._pace.fraction(state.global_step)
        if self._progress is not None:
            self._progress(round(_FINE * done), _FINE)
        if done >= 1:
            control.should_training_stop = True
            # What comes last has cooled down: it must stand among those of which the best is taken.
            control.should_evaluate = control.should_save = self._evaluates
        elif self._pace.elapsed_s - self._saved_s > CHECKPOINT_S:
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Mark the checkpoint that is complete now, once every process has written its part."""
        if count_processes() > 1:
            torch.distributed.barrier()
        mark = Path(args.output_dir) / f"checkpoint-{state.global_step}" / _MARK
        if state.is_world_process_zero:
            mark.write_text(json.dumps({"elapsed_s": self._pace.elapsed_s}), encoding="utf-8")
        self._saved_s = self._pace.elapsed_s
