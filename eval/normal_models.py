"""Sequence models that learn only what is normal, and call anomalous what they cannot say again (B5)."""

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from eval.models.base import Given, WindowClassifier, split_inner
from eval.models.sequence import Budget, apply_network, fit_scaler, seeded, train_network
from eval.models.statistical import need_normal, set_threshold
from eval.sequence_models import size_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Association", "Reconstruction", "association_loss", "association_scores"]

_QUICK = Budget(epochs=4, minutes=0.05, patience=2, rate=5e-3)
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
            budget = _QUICK if self.quick else Budget()
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
        return self.threshold_.probabilities(apply_network(self._score, self.scaler_.tensor(given.features)))

    def _build(self, features: int) -> Any:
        from eval.models.networks import ReconstructionNetwork

        return ReconstructionNetwork(features)

    def _loss(self, batch: tuple["Tensor", ...]) -> "Tensor":
        return self._score(batch[0]).mean()

    def _score(self, x: "Tensor") -> "Tensor":
        error: Tensor = ((self.network_(x) - x) ** 2).mean(dim=(1, 2))
        return error


class Association(Reconstruction):
    """Anomaly Transformer (Xu, Wu, Wang, Long, ICLR 2022, arXiv 2110.02642), on windows of six samples.

    A sample that is unlike the others finds nothing to attend to but its neighbours, so its series association comes
    close to its prior one. Training drives the two apart where reconstruction allows it.
    """

    def _build(self, features: int) -> Any:
        from eval.models.networks import AssociationNetwork

        return AssociationNetwork(features)

    def _loss(self, batch: tuple["Tensor", ...]) -> "Tensor":
        return association_loss(batch[0], *self.network_(batch[0]))

    def _score(self, x: "Tensor") -> "Tensor":
        return association_scores(x, *self.network_(x))


def association_loss(x: "Tensor", again: "Tensor", priors: list["Tensor"], series: list["Tensor"]) -> "Tensor":
    """The paper's minimax (eq. 5) as one scalar: its two phases are added up, each with the other's association fixed.

        minimise   |x - x'|^2 + k AssDis(P, fixed S)      the prior comes to the series
        maximise   AssDis(fixed P, S) against |x - x'|^2  the series leaves the prior

    Args:
        x: shape (B, 6, F).
        again: shape (B, 6, F), reconstructed.
        priors: of each layer, shape (B, H, 6, 6).
        series: of each layer, likewise.
    """
    from eval.models.networks import association_discrepancy

    error = ((again - x) ** 2).mean()
    nearer = sum(association_discrepancy(p, s.detach()).mean() for p, s in zip(priors, series, strict=True))
    apart = sum(association_discrepancy(p.detach(), s).mean() for p, s in zip(priors, series, strict=True))
    loss: Tensor = 2 * error + _DISCREPANCY * (nearer - apart) / len(priors)
    return loss


def association_scores(x: "Tensor", again: "Tensor", priors: list["Tensor"], series: list["Tensor"]) -> "Tensor":
    """The paper's score (eq. 6), added up over a window: ``softmax(-AssDis) * |x - x'|^2``, shape (B,)."""
    import torch

    from eval.models.networks import association_discrepancy

    layers = [association_discrepancy(p, s) for p, s in zip(priors, series, strict=True)]
    weight = torch.softmax(-_TEMPERATURE * torch.stack(layers).mean(dim=0), dim=1)  # (B, 6)
    return (weight * ((again - x) ** 2).mean(dim=2)).sum(dim=1)
