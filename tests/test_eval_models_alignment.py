"""How far apart two networks' features are, by hand; what is aligned comes nearer."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from eval.models.alignment import (
    DomainClassifier,
    contrastive,
    coral,
    guess_codes,
    mmd,
    reverse_gradient,
    wasserstein,
)

POINTS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
LOSSES = {"mmd": mmd, "coral": coral, "wasserstein": wasserstein}


def test_mmd_by_hand():
    # k(0, 0) = k(1, 1) = 1, k(0, 1) = e^(-1 / 2): 1 + 1 - 2 e^(-1 / 2)
    found = mmd(torch.tensor([[0.0]]), torch.tensor([[1.0]]), (2.0,))
    assert float(found) == pytest.approx(2 - 2 * math.exp(-0.5))
    # {0, 2} and {1}: (2 + 2 e^-4) / 4 + 1 - 2 e^-1
    found = mmd(torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0]]), (1.0,))
    assert float(found) == pytest.approx((1 + math.exp(-4)) / 2 + 1 - 2 * math.exp(-1))


def test_coral_by_hand():
    # Covariances [[2, 0], [0, 0]] and [[0, 0], [0, 8]]: (4 + 64) / (4 * 2²)
    one, other = torch.tensor([[-1.0, 0], [1, 0]]), torch.tensor([[0.0, -2], [0, 2]])
    assert float(coral(one, other)) == pytest.approx(68 / 16)
    assert float(coral(one, one + 5)) == pytest.approx(0)  # it does not see where they lie


def test_wasserstein_by_hand():
    # Along x {0, 3} goes to {1, 5} by 1 and 2, whatever their order; along y nothing moves.
    one, other = torch.tensor([[3.0, 7], [0, 7]]), torch.tensor([[1.0, 7], [5, 7]])
    assert float(wasserstein(one, other, torch.tensor([[1.0], [0]]))) == pytest.approx(2.5)
    assert float(wasserstein(one, other, torch.tensor([[0.0], [1]]))) == 0
    assert float(wasserstein(one, other, torch.eye(2))) == pytest.approx(1.25)


@pytest.mark.parametrize("name", LOSSES)
@given(seed=st.integers(0, 1000))
def test_alike_is_zero_apart_is_more_and_either_way_the_same(name, seed):
    loss = LOSSES[name]
    torch.manual_seed(seed)
    one, other = torch.randn(12, 3), 3 * torch.randn(12, 3) + 2
    assert float(loss(one, one[torch.randperm(12)])) == pytest.approx(0, abs=1e-5)
    assert float(loss(one, other)) > 0
    if name != "wasserstein":  # whose directions are drawn
        assert float(loss(one, other)) == pytest.approx(float(loss(other, one)), rel=1e-4)


def test_contrastive_is_mmd_within_classes_less_mmd_between():
    codes = torch.tensor([0, 0, 1, 1])
    other, guessed = POINTS + 0.5, torch.tensor([0, 0, 1, -1])
    within = [mmd(POINTS[:2], other[:2]), mmd(POINTS[2:], other[2:3])]
    between = [mmd(POINTS[:2], other[2:3]), mmd(POINTS[2:], other[:2])]
    found = contrastive(POINTS, codes, other, guessed)
    assert float(found) == pytest.approx(float(sum(within) / 2 - sum(between) / 2))
    assert float(contrastive(POINTS, codes, other, torch.full((4,), -1))) == 0


def test_codes_are_guessed_by_direction_and_only_the_nearer_half():
    source = torch.tensor([[1.0, 0], [0, 1]])
    target = torch.tensor([[5.0, 0], [1, 0], [4, 3], [0, 7], [0, 2], [3, 4]])
    # The centres lie at (14, 3) and (3, 14) then: cosines 0.978 of what lies on the axes, 0.908.
    assert guess_codes(source, torch.tensor([3, 8]), target).tolist() == [3, 3, -1, 8, 8, -1]


def test_what_the_domain_classifier_learns_the_encoder_unlearns():
    x = torch.tensor([[1.0, 2.0]], requires_grad=True)
    (reverse_gradient(x, 0.5) * torch.tensor([3.0, 4.0])).sum().backward()
    assert x.grad.tolist() == [[-1.5, -2.0]]
    torch.manual_seed(0)
    domains = DomainClassifier(2)
    shift = torch.zeros(2, requires_grad=True)
    loss = domains(POINTS + shift, POINTS - 3)
    loss.backward()
    reversed_ = shift.grad.clone()
    with torch.no_grad():
        logits = domains.layers(torch.cat([POINTS - 0.01 * reversed_, POINTS - 3]))[:, 0]
        truth = torch.tensor([1.0] * 4 + [0.0] * 4)
        assert functional.binary_cross_entropy_with_logits(logits, truth) > loss  # it is denied


def test_at_a_loss_its_cross_entropy_is_ln_2():
    domains = DomainClassifier(2)
    torch.nn.init.zeros_(domains.layers[-1].weight)
    torch.nn.init.zeros_(domains.layers[-1].bias)
    assert float(domains(POINTS, POINTS)) == pytest.approx(np.log(2))
