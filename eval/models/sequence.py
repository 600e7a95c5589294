"""Train a small network on windows: a plain loop, bounded by epochs, by minutes and by what was
held out.

What is held out decides: the weights with the lowest loss there are kept, and training ends when
none lower has come for some epochs. Minutes of the processor are a bound for slow machines; a run
that they end is not repeatable, and says so. They are not minutes of the clock, so that what else
runs there changes no result.
"""

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from eval.models.base import Given, WindowClassifier, split_inner
from eval.models.features import scale_counts
from eval.models.networks import (
    AssociationNetwork,
    LstmNetwork,
    ReconstructionNetwork,
    TransformerNetwork,
    association_discrepancy,
)
from eval.models.statistical import need_normal, set_threshold

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
    """Mean and deviation of every feature on a log scale, over windows and samples, shape
    (n_features,) each."""

    mean: np.ndarray
    deviation: np.ndarray

    def tensor(self, features: np.ndarray) -> Tensor:
        """Standardised features, shape (n_windows, 6, n_features), no further than 8 deviations
        from 0."""
        scaled = (scale_counts(features) - self.mean) / self.deviation
        return torch.from_numpy(np.clip(scaled, -_MOST, _MOST).astype(np.float32))


def fit_scaler(features: np.ndarray) -> Scaler:
    """Measure training windows, shape (n_windows, 6, n_features)."""
    scaled = scale_counts(features)
    return Scaler(scaled.mean(axis=(0, 1)), np.maximum(scaled.std(axis=(0, 1)), _FLOOR))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw everything inside from a seed, and leave torch's generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def train_network(
    parts: Any,
    learned: tuple[Tensor, ...],
    held: tuple[Tensor, ...],
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
    optimizer = torch.optim.AdamW(parts.parameters(), lr=budget.rate, weight_decay=1e-2)
    best, kept, since, started = (
        float("inf"),
        copy.deepcopy(parts.state_dict()),
        0,
        time.process_time(),
    )
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


def apply_network(network: Callable[[Tensor], Tensor], x: Tensor) -> np.ndarray:
    """What a network, or a function of one, says of windows, piece by piece: (n, 6, F) -> (n,
    ...)."""
    with torch.inference_mode():
        return np.concatenate([network(part).numpy() for part in x.split(_READ)])


def _batches(rows: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
    for places in torch.randperm(len(rows[0])).split(_BATCH):
        yield tuple(part[places] for part in rows)


def _measure(parts: Any, held: tuple[Tensor, ...], loss: Loss) -> float:
    parts.eval()
    with torch.inference_mode():
        pieces = [
            tuple(part[start : start + _READ] for part in held)
            for start in range(0, len(held[0]), _READ)
        ]
        return sum(float(loss(piece)) * len(piece[0]) for piece in pieces) / len(held[0])


# Sequence models that learn labels: LSTM and transformer, each without and with Time2Vec (B4 of the
# second paper).
#
# The paper gives no sizes; these are small enough for thousands of windows and a minute on two
# cores.

Network = Literal["lstm", "lstm-time2vec", "transformer", "time-transformer"]
NETWORKS: tuple[Network, ...] = ("lstm", "lstm-time2vec", "transformer", "time-transformer")
_QUICK_LABELS = Budget(epochs=6, minutes=0.05, patience=3, rate=5e-3)


class SequenceModel(WindowClassifier):
    """A network over a window's samples, trained with cross-entropy; rare labels weigh more, by the
    square root.

    Attributes:
        network: one of NETWORKS.
        training_: how its training went, after `fit`.
    """

    def __init__(
        self, network: Network = "transformer", seed: int = 0, quick: bool = False
    ) -> None:
        super().__init__(seed, quick)
        self.network = network

    @property
    def size_bytes(self) -> int:
        """The weights, float32."""
        return size_of(self.network_)

    def _learn(self, given: Given, codes: np.ndarray) -> None:
        learned, held = split_inner(given, self.seed)
        self.scaler_ = fit_scaler(given.features[learned])
        x, y = self.scaler_.tensor(given.features), torch.from_numpy(codes)
        counts = np.bincount(codes, minlength=len(self.classes_))
        weight = torch.from_numpy(np.sqrt(counts.mean() / counts).astype(np.float32))
        with seeded(self.seed):
            network = _build(self.network, x.shape[2], len(self.classes_))
            self.training_ = train_network(
                network.parts,
                (x[learned], y[learned]),
                (x[held], y[held]),
                lambda batch: functional.cross_entropy(network(batch[0]), batch[1], weight),
                _QUICK_LABELS if self.quick else Budget(),
            )
        self.network_ = network

    def _judge(self, given: Given) -> np.ndarray:
        return apply_network(
            lambda x: torch.softmax(self.network_(x), dim=1), self.scaler_.tensor(given.features)
        )


def size_of(network: Any) -> int:
    """Bytes of a network's weights."""
    return sum(weight.numel() * weight.element_size() for weight in network.parts.parameters())


def _build(name: Network, features: int, classes: int) -> Any:
    kind = LstmNetwork if name.startswith("lstm") else TransformerNetwork
    return kind(features, classes, time=name in ("lstm-time2vec", "time-transformer"))


# Sequence models that learn only what is normal, and call anomalous what they cannot say again
# (B5).

_QUICK_NORMAL = Budget(epochs=4, minutes=0.05, patience=2, rate=5e-3)
_DISCREPANCY = 3.0  # lambda of the paper's eq. 5, k of its code
_TEMPERATURE = 50.0  # of the authors' code: how much a sample's discrepancy sways its weight


class Reconstruction(WindowClassifier):
    """A transformer trained to say normal windows again; the mean squared error is the score.

    Attributes:
        training_: how its training went, after `fit`.
    """

    binary: ClassVar[bool] = True

    @property
    def size_bytes(self) -> int:
        """The weights, float32."""
        return size_of(self.network_)

    def _learn(self, given: Given, codes: np.ndarray) -> None:
        usual = need_normal(given, codes)
        learned, held = split_inner(usual, self.seed)
        self.scaler_ = fit_scaler(usual.features[learned])
        x = self.scaler_.tensor(usual.features)
        with seeded(self.seed):
            self.network_ = self._build(x.shape[2])
            budget = _QUICK_NORMAL if self.quick else Budget()
            self.training_ = train_network(
                self.network_.parts,
                (x[learned],),
                (x[held],),
                self._loss,
                budget,
                lambda batch: self._score(batch[0]).mean(),
            )
        self.threshold_ = set_threshold(apply_network(self._score, x[held]))

    def _judge(self, given: Given) -> np.ndarray:
        return self.threshold_.probabilities(
            apply_network(self._score, self.scaler_.tensor(given.features))
        )

    def _build(self, features: int) -> Any:
        return ReconstructionNetwork(features)

    def _loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        return self._score(batch[0]).mean()

    def _score(self, x: Tensor) -> Tensor:
        error: Tensor = ((self.network_(x) - x) ** 2).mean(dim=(1, 2))
        return error


class Association(Reconstruction):
    """Anomaly Transformer (Xu, Wu, Wang, Long, ICLR 2022, arXiv 2110.02642), on windows of six
    samples.

    A sample that is unlike the others finds nothing to attend to but its neighbours, so its series
    association comes close to its prior one. Training drives the two apart where reconstruction
    allows it.
    """

    def _build(self, features: int) -> Any:
        return AssociationNetwork(features)

    def _loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        return association_loss(batch[0], *self.network_(batch[0]))

    def _score(self, x: Tensor) -> Tensor:
        return association_scores(x, *self.network_(x))


def association_loss(
    x: Tensor, again: Tensor, priors: list[Tensor], series: list[Tensor]
) -> Tensor:
    """The paper's minimax (eq. 5) as one scalar: its two phases are added up, each with the other's
    association fixed.

        minimise   |x - x'|^2 + k AssDis(P, fixed S)      the prior comes to the series
        maximise   AssDis(fixed P, S) against |x - x'|^2  the series leaves the prior

    Args:
        x: shape (B, 6, F).
        again: shape (B, 6, F), reconstructed.
        priors: of each layer, shape (B, H, 6, 6).
        series: of each layer, likewise.
    """
    error = ((again - x) ** 2).mean()
    nearer = sum(
        association_discrepancy(p, s.detach()).mean() for p, s in zip(priors, series, strict=True)
    )
    apart = sum(
        association_discrepancy(p.detach(), s).mean() for p, s in zip(priors, series, strict=True)
    )
    loss: Tensor = 2 * error + _DISCREPANCY * (nearer - apart) / len(priors)
    return loss


def association_scores(
    x: Tensor, again: Tensor, priors: list[Tensor], series: list[Tensor]
) -> Tensor:
    """The paper's score (eq. 6), added up over a window: ``softmax(-AssDis) * |x - x'|^2``, shape
    (B,)."""

    layers = [association_discrepancy(p, s) for p, s in zip(priors, series, strict=True)]
    weight = torch.softmax(-_TEMPERATURE * torch.stack(layers).mean(dim=0), dim=1)  # (B, 6)
    return (weight * ((again - x) ** 2).mean(dim=2)).sum(dim=1)
