"""Move a model from one network to another: with few labels of it, or with its windows alone.

    source alone           as it is, before anything                         every model
    share alone            the few labels of the new network, no source      every model that learns
    source and share       trained again on both                             every model that learns
    new output layer       its head drawn anew, everything trained on        sequence models, LLM
    layer freezing         a new head, the bottom layers left as they are    sequence models, LLM
    reduced learning rate  its head kept, everything trained on slowly       sequence models, LLM
    MMD, CORAL, …          aligned to windows without labels                 sequence models

The second paper's three techniques (section IV-C) stand between two controls: what the few labels
are worth without the source, and what a model makes of both that is trained from nothing.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from eval.models.alignment import (
    WEIGHTS,
    DomainClassifier,
    contrastive,
    coral,
    guess_codes,
    mmd,
    warm_up,
    wasserstein,
)
from eval.models.classifier import WindowClassifier
from eval.models.language import LanguageModel
from eval.models.sequence import Budget, SequenceModel, seeded, train_network
from traffic.errors import UserError
from traffic.labels import LABELS

SOURCE, SHARE, BOTH = "source alone", "share alone", "source and share"
NEW_HEAD, FROZEN, REDUCED = "new output layer", "layer freezing", "reduced learning rate"
TUNED = (NEW_HEAD, FROZEN, REDUCED)
ALIGNED = tuple(WEIGHTS)
METHODS: tuple[str, ...] = (SOURCE, SHARE, BOTH, *TUNED, *ALIGNED)

# A few epochs, as in the paper, and all of them: to hold some of the few labels out, so that they
# tell when to end, would take the rarest away.
_TUNING = Budget(epochs=15, patience=15, rate=1e-3, batch=64)
_REDUCED = 0.2  # of that rate
_ALIGNING = Budget(epochs=6, patience=6, rate=5e-4, batch=128)
_QUICK_EPOCHS = 3

# What tunes a language model: its base, its adapter or None, texts with their labels, one of TUNED,
# a seed, and the folder that gets a whole model.
TextTuner = Callable[[Path, Path | None, pd.DataFrame, str, int, Path], None]


@dataclass(frozen=True)
class Examples:
    """Labelled windows, each attribute with a row per window, as `WindowClassifier.fit` takes them."""

    x: np.ndarray
    y: np.ndarray
    devices: np.ndarray
    groups: np.ndarray

    def __add__(self, other: "Examples") -> "Examples":
        """These and others, of other devices and captures."""
        names = ("x", "y", "devices", "groups")
        return Examples(*(np.concatenate([getattr(self, n), getattr(other, n)]) for n in names))


def list_methods(
    model: WindowClassifier, methods: tuple[str, ...] = METHODS, tunes_texts: bool = True
) -> tuple[str, ...]:
    """Those of some methods that a model can be moved by.

    Args:
        model: of any kind.
        methods: some of METHODS.
        tunes_texts: something is there that trains language models.

    Raises:
        UserError: there is no such method.
    """
    if unknown := [name for name in methods if name not in METHODS]:
        raise UserError(
            f"no method of transfer is called {unknown[0]}; expected some of {', '.join(METHODS)}; "
            "correct it"
        )
    can: tuple[str, ...] = (SOURCE,)
    if isinstance(model, LanguageModel):
        can = (SOURCE, *TUNED) if tunes_texts else (SOURCE,)
    elif isinstance(model, SequenceModel):
        can = METHODS
    elif model.learns:
        can = (SOURCE, SHARE, BOTH)
    return tuple(name for name in methods if name in can)


def transfer(
    model: WindowClassifier,
    method: str,
    source: Examples,
    share: Examples,
    unlabelled: np.ndarray,
    fitted: dict[str, WindowClassifier],
    tune_texts: TextTuner | None = None,
) -> WindowClassifier:
    """Fit a model for another network.

    Args:
        model: one that has not learned anything yet.
        method: one of `list_methods` of it.
        source: windows of the network that it comes from.
        share: the labelled windows of the new network.
        unlabelled: features of windows of the new network, shape (n, 6 or 9, F).
        fitted: keeps the model as fitted on the source, for other methods of the same fit.
        tune_texts: trains a language model's weights; without it, one stays as it is.

    Returns:
        The model as moved; ``model`` itself or another.

    Raises:
        UserError: as `WindowClassifier.fit`.
    """
    if method in (SHARE, BOTH):
        of = share if method == SHARE else source + share
        return model.fit(of.x, of.y, of.devices, of.groups)
    if SOURCE not in fitted:
        fitted[SOURCE] = model.fit(source.x, source.y, source.devices, source.groups)
    begun = copy.copy(fitted[SOURCE])
    if isinstance(begun, LanguageModel) and method in TUNED and tune_texts is not None:
        return begun.tuned(share.x, share.y, method, tune_texts)
    if isinstance(begun, SequenceModel) and method in TUNED:
        return tune(begun, share, method)
    if isinstance(begun, SequenceModel) and method in ALIGNED:
        return align(begun, source, unlabelled, method)
    return begun


# ---- a new head, frozen layers, a reduced rate ----


def tune(model: SequenceModel, share: Examples, method: str) -> SequenceModel:
    """Train a fitted sequence model on with few labels of another network.

    Args:
        model: fitted on the source; changed.
        share: windows of the new network; labels that the model lacks are added to its own.
        method: one of TUNED.
    """
    if not hasattr(model, "network_"):  # the source showed one label alone
        return model.fit(share.x, share.y, share.devices, share.groups)
    known = model.classes_
    present = {*known, *share.y}
    model.classes_ = np.array([label for label in LABELS if label in present], dtype=object)
    place = {label: code for code, label in enumerate(model.classes_)}
    codes = pd.Series(share.y).map(place).to_numpy(np.int64, copy=True)
    weight = _weigh(codes, len(model.classes_))
    batch = (model.scaler_.tensor(model.rows(share.x)), torch.from_numpy(codes))
    network: Any = copy.deepcopy(model.network_)
    with seeded(model.seed):
        kept = [place[label] for label in known] if method == REDUCED else []
        renew_head(network, len(model.classes_), kept)
        if method == FROZEN:
            freeze_bottom(network)
        epochs = _QUICK_EPOCHS if model.quick else _TUNING.epochs
        rate = _TUNING.rate * (_REDUCED if method == REDUCED else 1)
        train_network(
            network,
            batch,
            batch,
            lambda part: functional.cross_entropy(network(part[0]), part[1], weight),
            Budget(epochs, epochs, rate, _TUNING.batch),
        )
    model.network_ = network
    return model


def renew_head(network: Any, classes: int, kept: list[int]) -> None:
    """Draw a network's output layer anew for so many classes.

    Args:
        network: with a ``head`` that ends with a linear layer; changed.
        classes: of the new layer.
        kept: where the rows of the old layer stand in the new one, in their order; none where the
            old ones are not kept.
    """
    old = network.head[-1]
    new = nn.Linear(old.in_features, classes)
    if kept:
        with torch.no_grad():
            new.weight[kept], new.bias[kept] = old.weight, old.bias
    network.head[-1] = new


def freeze_bottom(network: Any) -> None:
    """Take a network's bottom layers out of training."""
    for part in network.bottom:
        for weight in part.parameters():
            weight.requires_grad_(False)


def _weigh(codes: np.ndarray, classes: int) -> Tensor:
    """Rare labels weigh more, by the square root; labels without a window do not matter."""
    counts = np.maximum(np.bincount(codes, minlength=classes), 1)
    return torch.from_numpy(np.sqrt(counts.mean() / counts).astype(np.float32))


# ---- alignment without labels of the new network ----


def align(
    model: SequenceModel, source: Examples, unlabelled: np.ndarray, method: str
) -> SequenceModel:
    """Train a fitted sequence model on so that both networks look alike to its head.

    Nothing tells when to stop, since no label of the new network is known: it reads a fixed number
    of times.

    Args:
        model: fitted on the source; changed.
        source: what it was fitted on.
        unlabelled: windows of the new network, shape (n, 6 or 9, F).
        method: one of ALIGNED.
    """
    if not hasattr(model, "network_") or len(unlabelled) < 2:
        return model
    place = {label: code for code, label in enumerate(model.classes_)}
    codes = pd.Series(source.y).map(place).to_numpy(np.int64, copy=True)
    weight = _weigh(codes, len(model.classes_))
    x, y = model.scaler_.tensor(model.rows(source.x)), torch.from_numpy(codes)
    other = model.scaler_.tensor(model.rows(unlabelled))
    network: Any = copy.deepcopy(model.network_)
    with seeded(model.seed):
        domains = DomainClassifier(network.head[-1].in_features)
        parts = nn.ModuleList([network, domains])
        optimizer = torch.optim.AdamW(parts.parameters(), lr=_ALIGNING.rate, weight_decay=1e-2)
        epochs = _QUICK_EPOCHS if model.quick else _ALIGNING.epochs
        for epoch in range(epochs):
            guessed = _guess(network, x, y, other) if method == "CCD" else None
            network.train()
            strength = WEIGHTS[method] * warm_up((epoch + 1) / epochs)
            for here in torch.randperm(len(x)).split(_ALIGNING.batch):
                there = torch.randint(len(other), (len(here),))
                features, others = network.encode(x[here]), network.encode(other[there])
                if method == "CCD":
                    assert guessed is not None
                    apart = contrastive(features, y[here], others, guessed[there])
                elif method == "adversarial":
                    apart = domains(features, others)
                else:
                    apart = _DIVERGENCES[method](features, others)
                loss = functional.cross_entropy(network.head(features), y[here], weight)
                optimizer.zero_grad(set_to_none=True)
                (loss + strength * apart).backward()
                nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
                optimizer.step()
    model.network_ = network.eval()
    return model


_DIVERGENCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "MMD": mmd,
    "CORAL": coral,
    "Wasserstein": wasserstein,
}


def _guess(network: Any, x: Tensor, y: Tensor, other: Tensor) -> Tensor:
    network.eval()
    with torch.inference_mode():
        guessed = guess_codes(network.encode(x), y, network.encode(other))
    return guessed.clone()
