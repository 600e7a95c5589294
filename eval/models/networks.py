"""The networks of the sequence models: six samples in, what they mean or what they should have been
out.

    (B, 6, F) features, standardised  ─▶  body (B, 6, D)  ─▶  mean over samples ─▶ (B, n_classes)
                                                          └─▶ (B, 6, F) reconstructed

B windows, F features, D the body's width. All are small: a window is six samples, and the training
sets are thousands of windows, not millions. A network keeps its weights in ``parts``, one of
torch's modules, and is called with windows.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from traffic.windows import WINDOW_SAMPLES

_WIDTH = 48
_HEADS = 4
_LAYERS = 2
_CODE = 6  # numbers that a sample is squeezed through where it is reconstructed
_TIME = 8


class Time2Vec:
    """A learned encoding of time (Kazemi et al. 2019, arXiv 1907.05321).

        t2v(t)[0] = w_0 t + b_0,    t2v(t)[i] = sin(w_i t + b_i)

    Time is the place in the window, in samples. The time of day would tell the network when a
    capture's attack was.
    """

    def __init__(self, size: int = _TIME) -> None:
        self.parts = nn.Linear(1, size)
        nn.init.normal_(self.parts.weight)
        nn.init.normal_(self.parts.bias)

    def __call__(self, times: Tensor) -> Tensor:
        """Encode times, shape (...), as shape (..., size)."""
        phases = self.parts(times[..., None])
        return torch.cat([phases[..., :1], torch.sin(phases[..., 1:])], dim=-1)


class _Timed:
    """Concatenates Time2Vec of the place in the window to the features, where asked to: (B, 6, F)
    -> (B, 6, F')."""

    def __init__(self, features: int, time: bool) -> None:
        self.encoding = Time2Vec() if time else None
        self.size = features + (_TIME if time else 0)

    def modules(self) -> dict[str, Any]:
        return {} if self.encoding is None else {"time": self.encoding.parts}

    def __call__(self, x: Tensor) -> Tensor:
        if self.encoding is None:
            return x
        times = self.encoding(torch.arange(x.shape[1], dtype=x.dtype))  # (6, T)
        return torch.cat([x, times.expand(len(x), -1, -1)], dim=-1)


class LstmNetwork:
    """One LSTM layer; its last state says the class."""

    def __init__(self, features: int, classes: int, time: bool) -> None:
        self.timed = _Timed(features, time)
        self._lstm = nn.LSTM(self.timed.size, _WIDTH, batch_first=True)
        self._head = nn.Sequential(nn.Dropout(0.2), nn.Linear(_WIDTH, classes))
        self.parts = nn.ModuleDict({"lstm": self._lstm, "head": self._head, **self.timed.modules()})

    def __call__(self, x: Tensor) -> Tensor:
        """Logits of classes, (B, 6, F) -> (B, n_classes)."""
        states, _ = self._lstm(self.timed(x))  # (B, 6, D)
        logits: Tensor = self._head(states[:, -1])
        return logits


class TransformerNetwork:
    """An encoder with self-attention and positional encoding (Vaswani et al. 2017); with ``time``
    the second paper's time transformer: Time2Vec concatenated to the features."""

    def __init__(self, features: int, classes: int, time: bool) -> None:
        self.timed = _Timed(features, time)
        self._body = _Encoder(self.timed.size)
        self._head = nn.Sequential(
            nn.LayerNorm(_WIDTH), nn.Dropout(0.2), nn.Linear(_WIDTH, classes)
        )
        self.parts = nn.ModuleDict(
            {"body": self._body.parts, "head": self._head, **self.timed.modules()}
        )

    def __call__(self, x: Tensor) -> Tensor:
        """Logits of classes, (B, 6, F) -> (B, n_classes)."""
        logits: Tensor = self._head(self._body(self.timed(x)).mean(dim=1))
        return logits


class ReconstructionNetwork:
    """An encoder that says a window again from a few numbers per sample; only the usual fits into
    so few."""

    def __init__(self, features: int) -> None:
        self._body = _Encoder(features)
        self._head = nn.Sequential(
            nn.LayerNorm(_WIDTH), nn.Linear(_WIDTH, _CODE), nn.GELU(), nn.Linear(_CODE, _WIDTH), nn.GELU(),
            nn.Linear(_WIDTH, features),
        )  # fmt: skip
        self.parts = nn.ModuleDict({"body": self._body.parts, "head": self._head})

    def __call__(self, x: Tensor) -> Tensor:
        """The window again, (B, 6, F) -> (B, 6, F)."""
        again: Tensor = self._head(self._body(x))
        return again


class _Encoder:
    def __init__(self, features: int) -> None:
        self._embed = nn.Linear(features, _WIDTH)
        self._places = encode_places(WINDOW_SAMPLES, _WIDTH)
        layer = nn.TransformerEncoderLayer(
            _WIDTH,
            _HEADS,
            2 * _WIDTH,
            dropout=0.1,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self._layers = nn.TransformerEncoder(layer, _LAYERS, enable_nested_tensor=False)
        self.parts = nn.ModuleDict({"embed": self._embed, "layers": self._layers})

    def __call__(self, x: Tensor) -> Tensor:
        states: Tensor = self._layers(self._embed(x) + self._places)  # (B, 6, D)
        return states


def encode_places(length: int, width: int) -> Tensor:
    """Sinusoidal positional encoding, shape (length, width), ``width`` even (Vaswani et al. 2017,
    3.5)."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([torch.sin(angles), torch.cos(angles)], dim=-1).flatten(1)


class AnomalyAttention:
    """Attention with two views of where a sample looks (Xu, Wu, Wang, Long, ICLR 2022, arXiv
    2110.02642, eq. 2).

    prior   P[i, j] ~ exp(-(i - j)^2 / (2 sigma_i^2))     rows sum to 1, sigma learned per sample and head
    series  S = softmax(Q K^T / sqrt(d))
    out     S V
    """

    def __init__(self, width: int, heads: int) -> None:
        self._heads = heads
        self.parts = nn.ModuleDict(
            {
                "project": nn.Linear(width, 3 * width),
                "sigma": nn.Linear(width, heads),
                "out": nn.Linear(width, width),
            }
        )

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Attend, (B, L, D) -> (B, L, D), and the two associations, prior and series, (B, H, L, L)
        each."""
        batch, length, width = x.shape
        shape = (batch, length, 3, self._heads, width // self._heads)
        q, k, v = (
            self.parts["project"](x).view(shape).permute(2, 0, 3, 1, 4)
        )  # (B, H, L, D / H) each
        series = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), dim=-1)
        # As in the authors' code: sigma stays between 0 and 2 samples.
        sigma = 3 ** (torch.sigmoid(5 * self.parts["sigma"](x)) + 1e-5) - 1
        mixed = (series @ v).transpose(1, 2).reshape(batch, length, width)
        return self.parts["out"](mixed), prior_association(sigma.transpose(1, 2)), series


def prior_association(sigma: Tensor) -> Tensor:
    """Gaussian weights of neighbours by their distance, rows summing to 1: (..., L) -> (..., L,
    L)."""
    place = torch.arange(sigma.shape[-1], dtype=sigma.dtype)
    distance = place[:, None] - place[None]
    return torch.softmax(-(distance**2) / (2 * sigma[..., None] ** 2), dim=-1)


def association_discrepancy(prior: Tensor, series: Tensor) -> Tensor:
    """How unlike the two associations of each sample are: ``KL(P || S) + KL(S || P)``, mean over
    heads (eq. 4).

    Args:
        prior: shape (B, H, L, L), rows sum to 1.
        series: shape (B, H, L, L), likewise.

    Returns:
        Shape (B, L), at least 0; 0 where they agree.
    """
    log_p, log_s = torch.log(prior + 1e-8), torch.log(series + 1e-8)
    return ((prior - series) * (log_p - log_s)).sum(dim=-1).mean(dim=1)


class AssociationNetwork:
    """Anomaly Transformer: reconstruction, and the associations of each layer beside it."""

    def __init__(self, features: int) -> None:
        self._places = encode_places(WINDOW_SAMPLES, _WIDTH)
        self._embed, self._head = nn.Linear(features, _WIDTH), nn.Linear(_WIDTH, features)
        self._attentions = [AnomalyAttention(_WIDTH, _HEADS) for _ in range(_LAYERS)]
        self._norms = nn.ModuleList(nn.LayerNorm(_WIDTH) for _ in range(2 * _LAYERS))
        self._widths = nn.ModuleList(
            nn.Sequential(nn.Linear(_WIDTH, 2 * _WIDTH), nn.GELU(), nn.Linear(2 * _WIDTH, _WIDTH))
            for _ in range(_LAYERS)
        )
        attentions = nn.ModuleList(attention.parts for attention in self._attentions)
        self.parts = nn.ModuleList([self._embed, attentions, self._norms, self._widths, self._head])

    def __call__(self, x: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """The window again, (B, 6, F), and each layer's prior and series associations, (B, H, 6,
        6)."""
        z = self._embed(x) + self._places
        priors, series = [], []
        for layer, attention in enumerate(self._attentions):
            attended, prior, seen = attention(z)
            z = self._norms[2 * layer](z + attended)
            z = self._norms[2 * layer + 1](z + self._widths[layer](z))
            priors.append(prior)
            series.append(seen)
        return self._head(z), priors, series
