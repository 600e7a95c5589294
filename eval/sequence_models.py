"""Sequence models that learn labels: LSTM and transformer, each without and with Time2Vec (B4 of the second paper).

The paper gives no sizes; these are small enough for thousands of windows and a minute on two cores.
"""

from typing import Any, Literal

import numpy as np

from eval.models.base import Given, WindowClassifier, split_inner
from eval.models.sequence import Budget, apply_network, fit_scaler, seeded, train_network

__all__ = ["NETWORKS", "SequenceModel", "size_of"]

Network = Literal["lstm", "lstm-time2vec", "transformer", "time-transformer"]
NETWORKS: tuple[Network, ...] = ("lstm", "lstm-time2vec", "transformer", "time-transformer")
_QUICK = Budget(epochs=6, minutes=0.05, patience=3, rate=5e-3)


class SequenceModel(WindowClassifier):
    """A network over a window's samples, trained with cross-entropy; rare labels weigh more, by the square root.

    Attributes:
        network: one of NETWORKS.
        training_: how its training went, after `fit`.
    """

    def __init__(self, network: Network = "transformer", seed: int = 0, quick: bool = False) -> None:
        super().__init__(seed, quick)
        self.network = network

    @property
    def size_bytes(self) -> int:
        """The weights, float32."""
        return size_of(self.network_)

    def _learn(self, given: Given, codes: np.ndarray) -> None:
        import torch
        from torch.nn import functional

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
                _QUICK if self.quick else Budget(),
            )
        self.network_ = network

    def _judge(self, given: Given) -> np.ndarray:
        import torch

        return apply_network(lambda x: torch.softmax(self.network_(x), dim=1), self.scaler_.tensor(given.features))


def size_of(network: Any) -> int:
    """Bytes of a network's weights."""
    return sum(weight.numel() * weight.element_size() for weight in network.parts.parameters())


def _build(name: Network, features: int, classes: int) -> Any:
    from eval.models.networks import LstmNetwork, TransformerNetwork

    kind = LstmNetwork if name.startswith("lstm") else TransformerNetwork
    return kind(features, classes, time=name in ("lstm-time2vec", "time-transformer"))
