"""Sequence models by hand: encodings of time and place, the two associations, the training loop's
ends."""

import numpy as np
import pytest
import torch
from torch import nn
from windows_to_learn import apart

from eval.models.networks import (
    AnomalyAttention,
    LstmNetwork,
    Time2Vec,
    TransformerNetwork,
    association_discrepancy,
    encode_places,
    prior_association,
)
from eval.models.registry import make_model
from eval.models.sequence import (
    Budget,
    association_loss,
    association_scores,
    fit_scaler,
    seeded,
    train_network,
)


def test_time2vec_by_hand():
    encoding = Time2Vec(3)
    with torch.no_grad():
        encoding.linear.weight.copy_(torch.tensor([[2.0], [np.pi / 2], [1.0]]))
        encoding.linear.bias.copy_(torch.tensor([1.0, 0.0, np.pi]))
    coded = encoding(torch.tensor([0.0, 3.0])).detach().numpy()
    assert coded[0] == pytest.approx([1.0, 0.0, 0.0], abs=1e-6)
    assert coded[1] == pytest.approx([7.0, -1.0, -np.sin(3.0)], abs=1e-6)


def test_places_by_hand():
    coded = encode_places(2, 4).numpy()
    assert coded[0] == pytest.approx([0, 1, 0, 1])
    assert coded[1] == pytest.approx([np.sin(1), np.cos(1), np.sin(0.01), np.cos(0.01)])


@pytest.mark.parametrize("kind", [LstmNetwork, TransformerNetwork])
def test_time_is_concatenated_to_the_features(kind):
    plain, timed = kind(5, 3, time=False), kind(5, 3, time=True)
    x = torch.randn(2, 6, 5)
    assert timed(x).shape == plain(x).shape == (2, 3)
    assert timed.timed(x).shape == (2, 6, 5 + 8)
    assert (timed.timed(x)[..., :5] == x).all()
    times = timed.timed(x)[..., 5:]
    assert (times[0] == times[1]).all()  # the place, never the window


@pytest.mark.parametrize("kind", [LstmNetwork, TransformerNetwork])
def test_the_order_of_samples_counts(kind):
    with seeded(0):
        network = kind(5, 3, time=False).eval()
        x = torch.randn(1, 6, 5)
    assert not torch.allclose(network(x), network(x.flip(1)), atol=1e-4)


def test_prior_association_by_hand():
    prior = prior_association(torch.tensor([[1.0, 1.0, 0.5]])).numpy()[0]
    near, far = np.exp(-0.5), np.exp(-2.0)
    assert prior[0] == pytest.approx(np.array([1, near, far]) / (1 + near + far))
    assert prior[1] == pytest.approx(np.array([near, 1, near]) / (1 + 2 * near))
    nearer, further = np.exp(-2.0), np.exp(-8.0)
    assert prior[2] == pytest.approx(np.array([further, nearer, 1]) / (1 + nearer + further))


def test_association_discrepancy_by_hand():
    # KL of (0.5, 0.5) from (0.25, 0.75): 0.5 ln 2 + 0.5 ln (2/3) = 0.14384
    # and the other way: 0.25 ln 0.5 + 0.75 ln 1.5 = 0.13081
    prior = torch.tensor([[[[0.5, 0.5], [0.25, 0.75]]]])
    series = torch.tensor([[[[0.25, 0.75], [0.25, 0.75]]]])
    discrepancy = association_discrepancy(prior, series).numpy()
    assert discrepancy == pytest.approx(np.array([[0.27465, 0.0]]), abs=1e-4)
    both = torch.cat([prior, series], dim=1)  # two heads, of which one agrees
    discrepancy = association_discrepancy(both, series.expand(1, 2, 2, 2)).numpy()
    assert discrepancy == pytest.approx(np.array([[0.27465 / 2, 0.0]]), abs=1e-4)


def test_attention_gives_two_associations_whose_rows_sum_to_one():
    attended, prior, series = AnomalyAttention(8, 2)(torch.randn(3, 6, 8))
    assert attended.shape == (3, 6, 8)
    for association in (prior, series):
        assert association.shape == (3, 2, 6, 6)
        sums = association.sum(dim=-1).detach().numpy()
        assert sums == pytest.approx(np.ones((3, 2, 6)), abs=1e-5)


def test_minimax_draws_the_prior_near_and_drives_the_series_apart():
    logits = torch.tensor([[[[1.0, 0.0], [0.0, 0.5]]]])
    logits_p, logits_s = logits.requires_grad_(), (-logits).detach().requires_grad_()
    prior, series = (torch.softmax(one, dim=-1) for one in (logits_p, logits_s))
    x = torch.zeros(1, 2, 3)
    association_loss(x, x, [prior], [series]).backward()
    before = association_discrepancy(prior, series).sum()
    with torch.no_grad():
        nearer = torch.softmax(logits_p - 0.01 * logits_p.grad, dim=-1)
        apart_from = torch.softmax(logits_s - 0.01 * logits_s.grad, dim=-1)
    assert association_discrepancy(nearer, series).sum() < before
    assert association_discrepancy(prior, apart_from).sum() > before


def test_scores_by_hand():
    x, again = torch.zeros(1, 2, 2), torch.tensor([[[1.0, 1.0], [3.0, 1.0]]])  # errors 1 and 5
    same = torch.full((1, 1, 2, 2), 0.5)
    assert association_scores(x, again, [same], [same]).tolist() == [3.0]  # no sample weighs more
    odd = torch.tensor([[[[0.5, 0.5], [0.25, 0.75]]]])
    # the second sample's discrepancy, 0.27465, takes weight e^(-50 * 0.27465) from it
    weight = np.exp(-50 * 0.27465)
    expected = (1 + 5 * weight) / (1 + weight)
    assert association_scores(x, again, [same], [odd]).item() == pytest.approx(expected, abs=1e-4)


def test_standardised_features_are_bounded():
    x = np.zeros((4, 6, 2), np.float32)
    x[:2, :, 0] = np.e - 1  # 1 on the log scale: mean 0.5, deviation 0.5
    scaler = fit_scaler(x)
    assert scaler.tensor(x)[0, 0].tolist() == pytest.approx([1.0, 0.0])
    x[0, 0, 1] = 1e9  # what never varied in training
    assert scaler.tensor(x)[0, 0].tolist() == pytest.approx([1.0, 8.0])


class _Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


def train_line(held, budget):
    """A weight drawn towards 1, while what is held out wants another; how many epochs that took."""
    line, looks = _Line(), []
    data, held_out = (torch.ones(8),), (torch.full((8,), held),)
    loss = lambda batch: ((line.weight - batch[0]) ** 2).mean()  # noqa: E731
    train_network(line, data, held_out, loss, budget, lambda batch: looks.append(0) or loss(batch))
    return line, len(looks)


@pytest.mark.parametrize(
    ("held", "budget", "epochs"),
    [
        (1.0, Budget(epochs=3, patience=5), 3),
        # the held-out loss rises after the first epoch
        (-1.0, Budget(epochs=50, patience=4), 5),
    ],
)
def test_training_ends_for_a_reason(held, budget, epochs):
    line, looked = train_line(held, budget)
    assert looked == epochs
    assert not line.training


def test_the_best_weights_held_out_are_kept():
    line, _ = train_line(0.1, Budget(epochs=30, patience=30, rate=0.05))
    assert line.weight.item() == pytest.approx(0.1, abs=0.05)  # training went on towards 1


def test_seeding_leaves_the_generator_outside_alone():
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    with seeded(1):
        first = torch.rand(1)
    with seeded(1):
        assert torch.rand(1) == first
        torch.rand(3)
    torch.manual_seed(5)
    with seeded(2):
        torch.rand(7)
    assert (torch.rand(2) == expected).all()


def test_what_is_scored_together_changes_nothing():
    given = apart(seed=0)
    model = make_model("time-transformer", quick=True)
    model.fit(given.x, given.y, given.devices, given.groups)
    together = model.predict_proba(given.x)
    alone = np.concatenate([model.predict_proba(given.x[i : i + 7]) for i in range(0, 42, 7)])
    assert alone == pytest.approx(together[:42], abs=1e-5)


def test_a_reconstruction_knows_no_label_but_normal():
    given = apart(seed=0)
    renamed = np.where(given.y == "dos", "recon", given.y).astype(object)
    models = [
        make_model("reconstruction", 0, quick=True).fit(given.x, y, given.devices, given.groups)
        for y in (given.y, renamed)
    ]
    both = [model.predict_proba(given.x) for model in models]
    assert (both[0] == both[1]).all()
