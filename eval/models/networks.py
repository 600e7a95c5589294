"""The networks of the sequence models, plain torch modules over a window's six samples.

    (B, 6, F) features, standardised  ─▶  encoder (B, 6, D)  ─▶  mean over samples ─▶ (B, n_classes)
                                                             └─▶ (B, 6, F) reconstructed

B windows, F features, D the encoder's width. All are small: a window is six samples, and the
training sets are thousands of windows, not millions.

Draws and gradient norms follow the order in which layers are made and registered, so changing
either changes the last digits of every fit.
"""

import math

import torch
from torch import Tensor, nn

from traffic.windows import WINDOW_SAMPLES

_WIDTH = 48
_HEADS = 4
_LAYERS = 2
_CODE = 6  # numbers that a sample is squeezed through where it is reconstructed
_TIME = 8


class Time2Vec(nn.Module):
    """A learned encoding of time (Kazemi et al. 2019, arXiv 1907.05321).

        t2v(t)[0] = w_0 t + b_0,    t2v(t)[i] = sin(w_i t + b_i)

    Time is the place in the window, in samples: the time of day would tell the network when a
    capture's attack was.
    """

    def __init__(self, size: int = _TIME) -> None:
        super().__init__()
        self.linear = nn.Linear(1, size)
        nn.init.normal_(self.linear.weight)
        nn.init.normal_(self.linear.bias)

    def forward(self, times: Tensor) -> Tensor:
        """Encode times, shape (...), as shape (..., size)."""
        phases = self.linear(times[..., None])
        return torch.cat([phases[..., :1], torch.sin(phases[..., 1:])], dim=-1)


class TimedFeatures(nn.Module):
    """Features with Time2Vec of the place in the window beside them, or as they are."""

    def __init__(self, features: int, time: bool) -> None:
        super().__init__()
        self.encoding = Time2Vec() if time else None
        self.size = features + (_TIME if time else 0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 6, F) -> (B, 6, size)."""
        if self.encoding is None:
            return x
        times = self.encoding(torch.arange(x.shape[1], dtype=x.dtype))  # (6, T)
        return torch.cat([x, times.expand(len(x), -1, -1)], dim=-1)


class LstmNetwork(nn.Module):
    """One LSTM layer and a classifier of its last state."""

    def __init__(self, features: int, classes: int, time: bool) -> None:
        super().__init__()
        timed = TimedFeatures(features, time)
        self.lstm = nn.LSTM(timed.size, _WIDTH, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(_WIDTH, classes))
        self.timed = timed

    @property
    def bottom(self) -> tuple[nn.Module, ...]:
        """What stays as it is where layers are frozen: its only layer."""
        return self.timed, self.lstm

    def encode(self, x: Tensor) -> Tensor:
        """What the head reads, (B, 6, F) -> (B, D)."""
        states, _ = self.lstm(self.timed(x))  # (B, 6, D)
        last: Tensor = states[:, -1]
        return last

    def forward(self, x: Tensor) -> Tensor:
        """Logits of classes, (B, 6, F) -> (B, n_classes)."""
        logits: Tensor = self.head(self.encode(x))
        return logits


class Encoder(nn.Module):
    """Self-attention with positional encoding (Vaswani et al. 2017), (B, 6, F) -> (B, 6, D)."""

    places: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.embed = nn.Linear(features, _WIDTH)
        self.register_buffer("places", encode_places(WINDOW_SAMPLES, _WIDTH), persistent=False)
        options = {"dropout": 0.1, "activation": "gelu", "batch_first": True, "norm_first": True}
        layer = nn.TransformerEncoderLayer(_WIDTH, _HEADS, 2 * _WIDTH, **options)  # type: ignore[arg-type]
        self.layers = nn.TransformerEncoder(layer, _LAYERS, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        """States of the samples, (B, 6, F) -> (B, 6, D)."""
        states: Tensor = self.layers(self.embed(x) + self.places)
        return states


class TransformerNetwork(nn.Module):
    """An encoder and a classifier of its mean state; with ``time`` the second paper's time
    transformer: Time2Vec concatenated to the features."""

    def __init__(self, features: int, classes: int, time: bool) -> None:
        super().__init__()
        timed = TimedFeatures(features, time)
        self.body = Encoder(timed.size)
        self.head = nn.Sequential(nn.LayerNorm(_WIDTH), nn.Dropout(0.2), nn.Linear(_WIDTH, classes))
        self.timed = timed

    @property
    def bottom(self) -> tuple[nn.Module, ...]:
        """What stays as it is where layers are frozen: all below the last layer of attention."""
        return self.timed, self.body.embed, *list(self.body.layers.layers)[:-1]

    def encode(self, x: Tensor) -> Tensor:
        """What the head reads, (B, 6, F) -> (B, D)."""
        return self.body(self.timed(x)).mean(dim=1)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """Logits of classes, (B, 6, F) -> (B, n_classes)."""
        logits: Tensor = self.head(self.encode(x))
        return logits


class ReconstructionNetwork(nn.Module):
    """An encoder that reconstructs a window from a few numbers per sample; only ordinary traffic
    fits into so few."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.body = Encoder(features)
        self.head = nn.Sequential(
            nn.LayerNorm(_WIDTH), nn.Linear(_WIDTH, _CODE), nn.GELU(), nn.Linear(_CODE, _WIDTH),
            nn.GELU(), nn.Linear(_WIDTH, features),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """The window again, (B, 6, F) -> (B, 6, F)."""
        again: Tensor = self.head(self.body(x))
        return again


def encode_places(length: int, width: int) -> Tensor:
    """Sinusoidal positional encoding, shape (length, width), ``width`` even (Vaswani, 3.5)."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([torch.sin(angles), torch.cos(angles)], dim=-1).flatten(1)


# ---- Anomaly Transformer (Xu, Wu, Wang, Long, ICLR 2022, arXiv 2110.02642) ----


class AnomalyAttention(nn.Module):
    """Attention with two views of where a sample looks (eq. 2).

    prior   P[i, j] ~ exp(-(i - j)^2 / (2 sigma_i^2))   rows sum to 1, sigma per sample and head
    series  S = softmax(Q K^T / sqrt(d))
    out     S V
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(width, 3 * width)
        self.sigma = nn.Linear(width, heads)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Attend, (B, L, D) -> (B, L, D), and both associations, (B, H, L, L) each."""
        batch, length, width = x.shape
        shape = (batch, length, 3, self.heads, width // self.heads)
        q, k, v = self.project(x).view(shape).permute(2, 0, 3, 1, 4)  # (B, H, L, D / H) each
        series = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), dim=-1)
        # As in the authors' code: sigma stays between 0 and 2 samples.
        sigma = 3 ** (torch.sigmoid(5 * self.sigma(x)) + 1e-5) - 1
        mixed = (series @ v).transpose(1, 2).reshape(batch, length, width)
        return self.out(mixed), prior_association(sigma.transpose(1, 2)), series


def prior_association(sigma: Tensor) -> Tensor:
    """Gaussian weights of neighbours by distance, rows sum to 1: (..., L) -> (..., L, L)."""
    place = torch.arange(sigma.shape[-1], dtype=sigma.dtype)
    distance = place[:, None] - place[None]
    return torch.softmax(-(distance**2) / (2 * sigma[..., None] ** 2), dim=-1)


def association_discrepancy(prior: Tensor, series: Tensor) -> Tensor:
    """``KL(P || S) + KL(S || P)`` of each sample's associations, mean over heads (eq. 4).

    Args:
        prior: shape (B, H, L, L), rows sum to 1.
        series: shape (B, H, L, L), likewise.

    Returns:
        Shape (B, L), at least 0; 0 where they agree.
    """
    log_p, log_s = torch.log(prior + 1e-8), torch.log(series + 1e-8)
    return ((prior - series) * (log_p - log_s)).sum(dim=-1).mean(dim=1)


class AssociationNetwork(nn.Module):
    """Anomaly Transformer: a reconstruction, and each layer's associations beside it."""

    places: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("places", encode_places(WINDOW_SAMPLES, _WIDTH), persistent=False)
        self.embed, head = nn.Linear(features, _WIDTH), nn.Linear(_WIDTH, features)
        self.attentions = nn.ModuleList(AnomalyAttention(_WIDTH, _HEADS) for _ in range(_LAYERS))
        self.norms = nn.ModuleList(nn.LayerNorm(_WIDTH) for _ in range(2 * _LAYERS))
        self.widths = nn.ModuleList(
            nn.Sequential(nn.Linear(_WIDTH, 2 * _WIDTH), nn.GELU(), nn.Linear(2 * _WIDTH, _WIDTH))
            for _ in range(_LAYERS)
        )
        self.head = head

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """The window again, (B, 6, F), and each layer's prior and series, (B, H, 6, 6)."""
        z = self.embed(x) + self.places
        priors, series = [], []
        for layer, attention in enumerate(self.attentions):
            attended, prior, attention_weights = attention(z)
            z = self.norms[2 * layer](z + attended)
            z = self.norms[2 * layer + 1](z + self.widths[layer](z))
            priors.append(prior)
            series.append(attention_weights)
        return self.head(z), priors, series
