"""Sequence models: networks trained on labels, and such as learn what is normal.

Training is bounded by epochs and ends early where the loss on held-out windows falls no more; no
clock bounds it, so a seed gives the same model on any machine, loaded or not.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from eval.models.classifier import TrainingInput, WindowClassifier, split_inner
from eval.models.features import scale_counts
from eval.models.networks import (
    AssociationNetwork,
    LstmNetwork,
    ReconstructionNetwork,
    TransformerNetwork,
    association_discrepancy,
)
from eval.models.statistical import need_normal, set_threshold

_PREDICT_BATCH = 4096
_FLOOR = 0.1  # a feature that hardly varies in training must not explode where it does
_MOST = 8.0  # deviations

Loss = Callable[[tuple[Any, ...]], Any]  # tensors with a row per window, to a scalar


# ---- Training loop ----


@dataclass(frozen=True)
class Budget:
    """Bounds of a training.

    Attributes:
        epochs: passes over the training windows.
        patience: epochs without a lower loss on held-out windows.
        rate: learning rate of AdamW.
        batch: windows a step.
    """

    epochs: int = 30
    patience: int = 5
    rate: float = 1e-3
    batch: int = 256


@dataclass(frozen=True)
class Scaler:
    """Mean and deviation of every feature on a log scale, shape (n_features,) each."""

    mean: np.ndarray
    deviation: np.ndarray

    def tensor(self, features: np.ndarray) -> Tensor:
        """Standardised features, shape (n_windows, 6, n_features), within 8 deviations of 0."""
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
    network: nn.Module,
    learned: tuple[Tensor, ...],
    held: tuple[Tensor, ...],
    loss: Loss,
    budget: Budget,
    held_loss: Loss | None = None,
) -> None:
    """Train until the held-out loss falls no more, and keep the best weights.

    Args:
        network: changed in place, in evaluation mode after.
        learned: tensors with a row per window.
        held: the same of held-out windows.
        loss: of a batch of such rows, a scalar.
        budget: when to end.
        held_loss: what is measured on ``held``; ``loss`` where left out.
    """
    learnable = [one for one in network.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(learnable, lr=budget.rate, weight_decay=1e-2)
    lowest, best, since = float("inf"), copy.deepcopy(network.state_dict()), 0
    for _ in range(budget.epochs):
        network.train()
        for places in torch.randperm(len(learned[0])).split(budget.batch):
            optimizer.zero_grad(set_to_none=True)
            loss(tuple(part[places] for part in learned)).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
        now = _measure(network, held, held_loss or loss)
        since += 1
        if now < lowest:
            lowest, best, since = now, copy.deepcopy(network.state_dict()), 0
        if since >= budget.patience:
            break
    network.load_state_dict(best)
    network.eval()


def _measure(network: nn.Module, held: tuple[Tensor, ...], loss: Loss) -> float:
    """Mean loss over held-out windows."""
    network.eval()
    with torch.inference_mode():
        pieces = list(zip(*(part.split(_PREDICT_BATCH) for part in held), strict=True))
        return sum(float(loss(piece)) * len(piece[0]) for piece in pieces) / len(held[0])


def apply_network(network: Callable[[Tensor], Tensor], x: Tensor) -> np.ndarray:
    """The output of a network or a function of one, in batches: (n, 6, F) -> (n, ...)."""
    with torch.inference_mode():
        return np.concatenate([network(part).numpy() for part in x.split(_PREDICT_BATCH)])


class _NetworkModel(WindowClassifier):
    """What models with a network share."""

    network_: nn.Module

    @property
    def size_bytes(self) -> int:
        """The weights, float32."""
        return sum(one.numel() * one.element_size() for one in self.network_.state_dict().values())


# ---- Networks that learn labels: LSTM and transformer, each without and with Time2Vec ----

# The second paper (B4) gives no sizes; these are small enough for thousands of windows and a
# minute on two cores.
_QUICK_LABELS = Budget(epochs=6, patience=3, rate=5e-3)
Network = Literal["lstm", "lstm-time2vec", "transformer", "time-transformer"]
_BUILDERS: dict[Network, Callable[[int, int], nn.Module]] = {
    "lstm": lambda features, classes: LstmNetwork(features, classes, time=False),
    "lstm-time2vec": lambda features, classes: LstmNetwork(features, classes, time=True),
    "transformer": lambda features, classes: TransformerNetwork(features, classes, time=False),
    "time-transformer": lambda features, classes: TransformerNetwork(features, classes, time=True),
}


class SequenceModel(_NetworkModel):
    """A network trained with cross-entropy; rare labels weigh more, by the square root.

    Attributes:
        network: which one.
    """

    def __init__(
        self, network: Network = "transformer", seed: int = 0, quick: bool = False
    ) -> None:
        super().__init__(seed, quick)
        self.network = network

    def _fit(self, training: TrainingInput) -> None:
        learned, held = split_inner(training, self.seed)
        self.scaler_ = fit_scaler(training.features[learned])
        x, y = self.scaler_.tensor(training.features), torch.from_numpy(training.codes)
        counts = np.bincount(training.codes, minlength=len(self.classes_))
        weight = torch.from_numpy(np.sqrt(counts.mean() / counts).astype(np.float32))
        with seeded(self.seed):
            network = _BUILDERS[self.network](x.shape[2], len(self.classes_))
            train_network(
                network,
                (x[learned], y[learned]),
                (x[held], y[held]),
                lambda batch: functional.cross_entropy(network(batch[0]), batch[1], weight),
                _QUICK_LABELS if self.quick else Budget(),
            )
        self.network_ = network

    def _predict_proba(self, x: np.ndarray, _: np.ndarray) -> np.ndarray:
        scaled = self.scaler_.tensor(x)
        return apply_network(lambda part: torch.softmax(self.network_(part), dim=1), scaled)


# ---- Networks that learn what is normal, and find anomalous what they cannot reconstruct (B5) ----

_QUICK_NORMAL = Budget(epochs=4, patience=2, rate=5e-3)
_DISCREPANCY = 3.0  # lambda of the Anomaly Transformer's eq. 5, k of its code
_TEMPERATURE = 50.0  # of the authors' code: how much a sample's discrepancy sways its weight


class Reconstruction(_NetworkModel):
    """A transformer that reconstructs normal windows; the mean squared error is the score."""

    binary: ClassVar[bool] = True

    def _fit(self, training: TrainingInput) -> None:
        normal = need_normal(training)
        learned, held = split_inner(normal, self.seed)
        self.scaler_ = fit_scaler(normal.features[learned])
        x = self.scaler_.tensor(normal.features)
        with seeded(self.seed):
            self.network_ = self._build(x.shape[2])
            train_network(
                self.network_,
                (x[learned],),
                (x[held],),
                self._loss,
                _QUICK_NORMAL if self.quick else Budget(),
                lambda batch: self._score(batch[0]).mean(),
            )
        self.threshold_ = set_threshold(apply_network(self._score, x[held]))

    def _predict_proba(self, x: np.ndarray, _: np.ndarray) -> np.ndarray:
        scores = apply_network(self._score, self.scaler_.tensor(x))
        return self.threshold_.probabilities(scores)

    def _build(self, features: int) -> nn.Module:
        return ReconstructionNetwork(features)

    def _loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        return self._score(batch[0]).mean()

    def _score(self, x: Tensor) -> Tensor:
        error: Tensor = ((self.network_(x) - x) ** 2).mean(dim=(1, 2))
        return error


class Association(Reconstruction):
    """Anomaly Transformer (Xu, Wu, Wang, Long, ICLR 2022, arXiv 2110.02642).

    A sample that is unlike the others finds nothing to attend to but its neighbours, so its series
    association comes close to its prior one. Training drives the two apart where reconstruction
    allows it.
    """

    def _build(self, features: int) -> nn.Module:
        return AssociationNetwork(features)

    def _loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        return association_loss(batch[0], *self.network_(batch[0]))

    def _score(self, x: Tensor) -> Tensor:
        return association_scores(x, *self.network_(x))


def association_loss(
    x: Tensor, again: Tensor, priors: list[Tensor], series: list[Tensor]
) -> Tensor:
    """The minimax of eq. 5 as one scalar: both phases added, each with one association fixed.

        minimise   |x - x'|^2 + k AssDis(P, fixed S)      the prior comes to the series
        maximise   AssDis(fixed P, S) against |x - x'|^2  the series leaves the prior

    Args:
        x: shape (B, 6, F).
        again: shape (B, 6, F), reconstructed.
        priors: of each layer, shape (B, H, 6, 6).
        series: of each layer, likewise.
    """
    error = ((again - x) ** 2).mean()
    pairs = list(zip(priors, series, strict=True))
    nearer = sum(association_discrepancy(p, s.detach()).mean() for p, s in pairs)
    apart = sum(association_discrepancy(p.detach(), s).mean() for p, s in pairs)
    loss: Tensor = 2 * error + _DISCREPANCY * (nearer - apart) / len(priors)
    return loss


def association_scores(
    x: Tensor, again: Tensor, priors: list[Tensor], series: list[Tensor]
) -> Tensor:
    """Eq. 6 added up over a window, ``softmax(-AssDis) * |x - x'|^2``, shape (B,)."""
    layers = [association_discrepancy(p, s) for p, s in zip(priors, series, strict=True)]
    weight = torch.softmax(-_TEMPERATURE * torch.stack(layers).mean(dim=0), dim=1)  # (B, 6)
    return (weight * ((again - x) ** 2).mean(dim=2)).sum(dim=1)
