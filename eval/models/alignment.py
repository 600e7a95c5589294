"""Domain-invariant learning: how far apart two networks' windows are, as losses to train against.

Each is a function of two batches of an encoder's features, of one size each:

    source (B, D) ─┐
                   ├─▶ a scalar, at least 0 (CCD may fall below), 0 where both are alike
    target (B, D) ─┘

A network that learns its labels on the source and lowers one of these beside needs no label of the
target. What they assume is that both networks show their labels about equally often: where one is
calm and the other under attack, features that look alike are no longer true.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# Bandwidths of the Gaussian kernels, in parts of the mean squared distance (Long et al. 2015, 3.2).
_BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
_DIRECTIONS = 64  # on which sliced Wasserstein looks
_ROUNDS = 5  # of the clustering; centres hardly move after


def mmd(source: Tensor, target: Tensor, bandwidths: tuple[float, ...] | None = None) -> Tensor:
    """Squared maximum mean discrepancy, kernels summed (Gretton et al. 2012, JMLR 13, eq. 5).

        MMD² = mean k(s, s') + mean k(t, t') - 2 mean k(s, t),   k = sum_w exp(-|x - y|² / w)

    Args:
        source: shape (n, D).
        target: shape (m, D).
        bandwidths: each w; by default parts of the mean squared distance of all pairs.
    """
    if not len(source) or not len(target):
        return source.sum() * 0
    both = torch.cat([source, target])
    distance = ((both[:, None] - both[None]) ** 2).sum(dim=-1)  # (n + m, n + m)
    if bandwidths is None:
        # The scale is measured, not learned: a network could else escape by blowing it up.
        mean = float(distance.detach().mean().clamp_min(1e-6))
        bandwidths = tuple(part * mean for part in _BANDWIDTHS)
    kernel = torch.stack([torch.exp(-distance / width) for width in bandwidths]).sum(dim=0)
    n = len(source)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def coral(source: Tensor, target: Tensor) -> Tensor:
    """``|C_s - C_t|² / (4 D²)`` of the covariances (Sun, Saenko 2016, arXiv 1607.01719, eq. 1).

    Args:
        source: shape (n, D), n at least 2.
        target: shape (m, D), m at least 2.
    """
    apart = torch.cov(source.T) - torch.cov(target.T)
    return (apart**2).sum() / (4 * source.shape[1] ** 2)


def wasserstein(source: Tensor, target: Tensor, directions: Tensor | None = None) -> Tensor:
    """Sliced 2-Wasserstein distance, squared (Bonneel et al. 2015; Lee et al. 2019, 1903.04064).

    On a line, optimal transport is sorting: the mean over directions of the squared distance of the
    sorted projections. A critic (Shen et al. 2018) would be a second network to train for the same.

    Args:
        source: shape (n, D).
        target: shape (n, D), as many.
        directions: shape (D, k), unit columns; drawn where left out.
    """
    if directions is None:
        directions = functional.normalize(torch.randn(source.shape[1], _DIRECTIONS), dim=0)
    one, other = (torch.sort(part @ directions, dim=0).values for part in (source, target))
    return ((one - other) ** 2).mean()


def contrastive(
    source: Tensor, source_codes: Tensor, target: Tensor, target_codes: Tensor
) -> Tensor:
    """Contrastive domain discrepancy (Kang et al. 2019, arXiv 1901.00976, eq. 5), as MMD of classes.

        CCD = mean over classes of MMD²(S_c, T_c) - mean over pairs of MMD²(S_c, T_c')

    Args:
        source: shape (n, D).
        source_codes: shape (n,), its labels.
        target: shape (m, D).
        target_codes: shape (m,), guessed ones; -1 where none is near enough.

    Returns:
        0 where no class is on both sides.
    """
    shared = [int(code) for code in source_codes.unique() if (target_codes == code).any()]
    of_source = {code: source[source_codes == code] for code in shared}
    of_target = {code: target[target_codes == code] for code in shared}
    within = [mmd(of_source[code], of_target[code]) for code in shared]
    between = [
        mmd(of_source[one], of_target[other]) for one in shared for other in shared if one != other
    ]
    if not within:
        return source.sum() * 0
    discrepancy = torch.stack(within).mean()
    return discrepancy - torch.stack(between).mean() if between else discrepancy


def guess_codes(source: Tensor, source_codes: Tensor, target: Tensor) -> Tensor:
    """Labels of a target by spherical k-means from the source's class centres (Kang et al., 3.3).

    Args:
        source: shape (n, D).
        source_codes: shape (n,).
        target: shape (m, D).

    Returns:
        Shape (m,); -1 for the half of the windows that lie furthest from their centre, since a
        wrong guess draws classes together that are not one.
    """
    codes = source_codes.unique()
    unit = functional.normalize(target, dim=1)
    centres = torch.stack(
        [functional.normalize(source[source_codes == code], dim=1).mean(dim=0) for code in codes]
    )
    for _ in range(_ROUNDS):
        near = (unit @ functional.normalize(centres, dim=1).T).max(dim=1)
        for place in range(len(codes)):
            if (mine := near.indices == place).any():
                centres[place] = unit[mine].mean(dim=0)
    sure = near.values >= near.values.median()
    return torch.where(sure, codes[near.indices], torch.full_like(near.indices, -1))


class _Reverse(torch.autograd.Function):
    """The same forwards, the gradient's opposite backwards (Ganin, Lempitsky 2015, eq. 14 to 16)."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: float) -> Tensor:
        context.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -context.weight * gradient, None


def reverse_gradient(x: Tensor, weight: float = 1.0) -> Tensor:
    """The same numbers; what is learned of them is unlearned by whatever made them."""
    reversed_: Tensor = _Reverse.apply(x, weight)  # type: ignore[no-untyped-call]
    return reversed_


class DomainClassifier(nn.Module):
    """Tells source from target; through `reverse_gradient` the encoder learns to deny it that."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of its answers, ln 2 where it is at a loss: (B, D) twice to a scalar."""
        logits = self.layers(reverse_gradient(torch.cat([source, target])))[:, 0]
        truth = torch.cat([torch.ones(len(source)), torch.zeros(len(target))])
        return functional.binary_cross_entropy_with_logits(logits, truth)


# How much each weighs beside the cross-entropy of the labels. CORAL is divided by 4 D² and would
# else not be heard; the others are of the size of a cross-entropy as they are.
WEIGHTS: Mapping[str, float] = {
    "MMD": 0.5,
    "CORAL": 100.0,
    "Wasserstein": 0.5,
    "adversarial": 0.3,
    "CCD": 0.3,
}


def warm_up(done: float) -> float:
    """The share of its weight that alignment has after a part of the training, 0 to 1 (Ganin,
    Lempitsky 2015, 4): a network that has not learned its labels has nothing to align.

    >>> round(warm_up(0.0), 3), round(warm_up(0.5), 3)
    (0.0, 0.987)
    """
    return 2 / (1 + math.exp(-10 * done)) - 1
