"""Train a small network on windows: a plain loop, bounded by epochs, by minutes and by what was held out.

What is held out decides: the weights with the lowest loss there are kept, and training ends when none lower has come
for some epochs. Minutes of the processor are a bound for slow machines; a run that they end is not repeatable, and
says so. They are not minutes of the clock, so that what else runs there changes no result.
"""

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from eval.window_tables import scale_counts

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Budget", "Scaler", "Training", "apply_network", "fit_scaler", "seeded", "train_network"]

_BATCH = 256
_READ = 4096  # windows that are judged at once
_FLOOR = 0.1  # a feature that hardly varies in training must not explode where it does
_MOST = 8.0  # deviations

Loss = Callable[[tuple[Any, ...]], Any]  # tensors with a row per window, to a scalar


@dataclass(frozen=True)
class Budget:
    """What training may take.

    Attributes:
        epochs: readings of the training windows.
        minutes: of the processor, all threads of this process.
        patience: epochs without a lower loss on what is held out.
        rate: learning rate of AdamW.
    """

    epochs: int = 30
    minutes: float = 0.2
    patience: int = 5
    rate: float = 1e-3


@dataclass(frozen=True)
class Training:
    """How a training went: its epochs, the lowest loss held out, and what ended it."""

    epochs: int
    held_loss: float
    ended_by: Literal["patience", "epochs", "minutes"]


@dataclass(frozen=True)
class Scaler:
    """Mean and deviation of every feature on a log scale, over windows and samples, shape (n_features,) each."""

    mean: np.ndarray
    deviation: np.ndarray

    def tensor(self, features: np.ndarray) -> "Tensor":
        """Standardised features, shape (n_windows, 6, n_features), no further than 8 deviations from 0."""
        import torch

        scaled = (scale_counts(features) - self.mean) / self.deviation
        return torch.from_numpy(np.clip(scaled, -_MOST, _MOST).astype(np.float32))


def fit_scaler(features: np.ndarray) -> Scaler:
    """Measure training windows, shape (n_windows, 6, n_features)."""
    scaled = scale_counts(features)
    return Scaler(scaled.mean(axis=(0, 1)), np.maximum(scaled.std(axis=(0, 1)), _FLOOR))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw everything inside from a seed, and leave torch's generator as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def train_network(
    parts: Any,
    learned: tuple["Tensor", ...],
    held: tuple["Tensor", ...],
    loss: Loss,
    budget: Budget,
    watched: Loss | None = None,
) -> Training:
    """Train until nothing gets better, and keep the best weights.

    Args:
        parts: a network's weights, a module of torch: changed in place, in evaluation mode after.
        learned: tensors with a row per window.
        held: the same of windows that are held out.
        loss: of a batch of such rows, a scalar.
        budget: when to end.
        watched: what is measured on ``held``; the loss where left out.
    """
    import torch
    from torch import nn

    optimizer = torch.optim.AdamW(parts.parameters(), lr=budget.rate, weight_decay=1e-2)
    best, kept, since, started = float("inf"), copy.deepcopy(parts.state_dict()), 0, time.process_time()
    ended_by: Literal["patience", "epochs", "minutes"] = "epochs"
    epoch = 0
    for epoch in range(1, budget.epochs + 1):  # noqa: B007 - told in the result
        parts.train()
        for batch in _batches(learned):
            optimizer.zero_grad(set_to_none=True)
            loss(batch).backward()
            nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
            optimizer.step()
        now = _measure(parts, held, watched or loss)
        since += 1
        if now < best:
            best, kept, since = now, copy.deepcopy(parts.state_dict()), 0
        if since >= budget.patience or time.process_time() - started > 60 * budget.minutes:
            ended_by = "patience" if since >= budget.patience else "minutes"
            break
    parts.load_state_dict(kept)
    parts.eval()
    return Training(epoch, best, ended_by)


def apply_network(network: Callable[["Tensor"], "Tensor"], x: "Tensor") -> np.ndarray:
    """What a network, or a function of one, says of windows, piece by piece: (n, 6, F) -> (n, ...)."""
    import torch

    with torch.inference_mode():
        return np.concatenate([network(part).numpy() for part in x.split(_READ)])


def _batches(rows: tuple["Tensor", ...]) -> Iterator[tuple["Tensor", ...]]:
    import torch

    for places in torch.randperm(len(rows[0])).split(_BATCH):
        yield tuple(part[places] for part in rows)


def _measure(parts: Any, held: tuple["Tensor", ...], loss: Loss) -> float:
    import torch

    parts.eval()
    with torch.inference_mode():
        pieces = [tuple(part[start : start + _READ] for part in held) for start in range(0, len(held[0]), _READ)]
        return sum(float(loss(piece)) * len(piece[0]) for piece in pieces) / len(held[0])
